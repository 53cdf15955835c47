//! Names and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use detector_orchestrator::domain::id::{BundleName, DetectorName, RequestId, TenantId};
use detector_orchestrator::outbound::{Env, Guard};
use http::Uri;
use regex::Regex;

static NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[a-z0-9][a-z0-9_-]{0,63}\z").unwrap());
static BUNDLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A[a-z][a-z0-9_]{0,63}\z").unwrap());
static REQUEST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[A-Za-z0-9_-]{1,100}\z").unwrap());

/// An id is what its documented pattern says, and nothing else.
pub fn names(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else { return };
    let reserved = ["base", "floor", "tenants", "schemas"].contains(&raw);
    assert_eq!(TenantId::parse(raw).is_ok(), NAME.is_match(raw) && !reserved, "{raw:?}");
    assert_eq!(DetectorName::parse(raw).is_ok(), NAME.is_match(raw), "{raw:?}");
    assert_eq!(RequestId::parse(raw).is_ok(), REQUEST.is_match(raw), "{raw:?}");
    assert!(BundleName::parse(raw).is_err() || BUNDLE.is_match(raw), "{raw:?}");
}

/// The guard of production against the WHATWG parser: an address that a browser would take for one
/// of this machine or of a private network is never let through.
pub fn url(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else { return };
    let Ok(uri) = raw.parse::<Uri>() else { return };
    if Guard::new(Env::Production, Vec::new()).check(&uri).is_err() {
        return;
    }
    let Ok(read) = url::Url::parse(raw) else { return };
    let address = match read.host() {
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
        Some(url::Host::Domain(name)) => {
            assert!(name != "localhost" && !name.ends_with(".localhost"), "{raw}");
            return;
        }
        None => panic!("{raw} has no host and was let through"),
    };
    assert!(!is_inside(address), "{raw} reaches {address}");
}

fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4_is_inside(v4),
        IpAddr::V6(v6) => v6_is_inside(v6),
    }
}

fn v4_is_inside(v4: Ipv4Addr) -> bool {
    let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
    v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_unspecified()
        || v4.is_multicast()
        || v4.is_broadcast()
        || shared
}

fn v6_is_inside(v6: Ipv6Addr) -> bool {
    v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_multicast()
        || v6.is_unique_local()
        || v6.is_unicast_link_local()
        || v6.to_ipv4_mapped().is_some_and(v4_is_inside)
}
