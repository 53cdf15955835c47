//! Decides which addresses may be connected to. Pure; asked before, during and after connecting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// Where the service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Env {
    /// Loopback and private addresses are open.
    Development,
    /// As production.
    Staging,
    /// Loopback and private addresses need an entry of the allow-list.
    #[default]
    Production,
}

/// Opens private or loopback addresses; it never opens those that are always refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// A network, such as `10.0.0.0/8`.
    Net(IpAddr, u8),
    /// A host name in lower case; `*.` in front means every name below.
    Host(String),
    /// One of them at one port only.
    Port(Box<Allow>, u16),
}

/// Neither a network nor a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a network such as 10.0.0.0/8 nor a host name, with or without `:port`")]
pub struct AllowError(String);

impl Allow {
    /// Parses `10.0.0.0/8`, `fd00::1`, `detector.internal` or `*.internal`, each also with a port
    /// behind: `10.0.0.5:8080`, `[fd00::/8]:8080`.
    pub fn parse(raw: &str) -> Result<Self, AllowError> {
        let bracketed = raw.strip_prefix('[').and_then(|rest| rest.split_once("]:"));
        let single = || raw.split_once(':').filter(|(_, port)| !port.contains(':'));
        let Some((place, port)) = bracketed.or_else(single) else { return Self::at_any_port(raw) };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port =
            port.parse().ok().filter(|port| digits && *port > 0).ok_or_else(|| fault(raw))?;
        let place = Self::at_any_port(place).map_err(|_| fault(raw))?;
        // Brackets are for addresses with colons of their own.
        match (&place, bracketed) {
            (Allow::Net(IpAddr::V6(_), _), Some(_)) => {}
            (_, Some(_)) => return Err(fault(raw)),
            (_, None) => {}
        }
        Ok(Allow::Port(Box::new(place), port))
    }

    fn at_any_port(raw: &str) -> Result<Self, AllowError> {
        let (address, bits) = raw.split_once('/').map_or((raw, None), |(a, b)| (a, Some(b)));
        if let Ok(address) = address.parse::<IpAddr>() {
            let all = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(all), |bits| bits.parse().ok().filter(|bits| *bits <= all));
            return bits.map(|bits| Allow::Net(address, bits)).ok_or_else(|| fault(raw));
        }
        let name = raw.strip_prefix("*.").unwrap_or(raw);
        let valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let named = valid && !name.is_empty() && !ends_in_number(name);
        if named { Ok(Allow::Host(raw.to_ascii_lowercase())) } else { Err(fault(raw)) }
    }

    /// Whether it is a network with `address` in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.opens("", address.to_canonical(), 0)
    }

    fn opens(&self, host: &str, address: IpAddr, at: u16) -> bool {
        match self {
            Allow::Port(place, port) => at == *port && place.opens(host, address, at),
            Allow::Net(net, bits) => within(*net, *bits, address),
            Allow::Host(name) => match name.strip_prefix('*') {
                Some(suffix) => host.ends_with(suffix),
                None => host == name,
            },
        }
    }
}

fn fault(raw: &str) -> AllowError {
    AllowError(raw.chars().take(80).flat_map(char::escape_debug).collect())
}

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Neither http nor https.
    #[error("the scheme must be http or https")]
    Scheme,
    /// User information in the address.
    #[error("the address must not carry user information")]
    UserInfo,
    /// No host, or one that is no name and no plain IP literal.
    #[error("the host must be a name or a plain IP address")]
    Host,
    /// Link-local, metadata, multicast, unspecified, reserved.
    #[error("the address is link-local, metadata, multicast, unspecified or reserved")]
    Always,
    /// Loopback or private, and not on the allow-list.
    #[error("the address is loopback or private; add it to the allow-list")]
    Private,
}

/// The rules.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    env: Env,
    allow: Vec<Allow>,
}

impl Guard {
    /// Rules for `env` with exceptions.
    pub fn new(env: Env, allow: Vec<Allow>) -> Self {
        Self { env, allow }
    }

    /// Checks what can be known without a resolver: scheme, spelling, IP literals.
    pub fn check(&self, uri: &Uri) -> Result<(), Forbidden> {
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(Forbidden::Scheme);
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(Forbidden::UserInfo);
        }
        let host = host_of(uri).ok_or(Forbidden::Host)?;
        let port = port_of(uri);
        if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let address = inner.parse::<Ipv6Addr>().map_err(|_| Forbidden::Host)?;
            return self.admits(&host, address.into(), port);
        }
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            return self.admits(&host, address.into(), port);
        }
        // Decimal, octal, hexadecimal and shortened spellings have no honest use.
        let name = !ends_in_number(&host)
            && host.split('.').all(|label| !label.is_empty())
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !name {
            return Err(Forbidden::Host);
        }
        if host == "localhost" || host.ends_with(".localhost") {
            return self.admits(&host, Ipv4Addr::LOCALHOST.into(), port);
        }
        Ok(())
    }

    /// Whether the deployment opens the place of `uri` by itself, so that nothing it is sent need be
    /// hidden on the way there.
    pub fn opens(&self, uri: &Uri) -> bool {
        let Some(host) = host_of(uri) else { return false };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let port = port_of(uri);
        self.env == Env::Development
            || self.allow.iter().any(|allow| allow.opens(&host, address, port))
    }

    /// Whether `address`, reached under the name `host`, may be connected to at `port`.
    pub fn admits(&self, host: &str, address: IpAddr, port: u16) -> Result<(), Forbidden> {
        let address = plain(address).ok_or(Forbidden::Always)?;
        match reach(address) {
            Reach::Public => Ok(()),
            Reach::Never => Err(Forbidden::Always),
            Reach::Private if self.env == Env::Development => Ok(()),
            Reach::Private if self.allow.iter().any(|allow| allow.opens(host, address, port)) => {
                Ok(())
            }
            Reach::Private => Err(Forbidden::Private),
        }
    }
}

/// The host in lower case without a final dot.
pub(super) fn host_of(uri: &Uri) -> Option<String> {
    let host = uri.host()?;
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    (!host.is_empty()).then_some(host)
}

/// The port, said or meant.
pub(super) fn port_of(uri: &Uri) -> u16 {
    let meant = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    uri.port_u16().unwrap_or(meant)
}

/// Whether the last label is a number in the eyes of `inet_aton`.
fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// The address behind mapped, compatible, NAT64 and 6to4 forms; `None` for forms whose target
/// cannot be read (Teredo, local NAT64).
fn plain(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return Some(address) };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| {
        Some(IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))))
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0] if (g, h) == (0, 1) || (g, h) == (0, 0) => Some(address),
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => {
            v4(g, h)
        }
        [0x2002, high, low, ..] => v4(high, low),
        [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..] => None,
        _ => Some(address),
    }
}

enum Reach {
    Public,
    Private,
    Never,
}

/// Addresses at which clouds answer with credentials, outside the link-local networks.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

fn reach(address: IpAddr) -> Reach {
    if METADATA.contains(&address) {
        return Reach::Never;
    }
    match address {
        IpAddr::V4(v4) => match v4.octets() {
            [0 | 224..=255, ..] | [169, 254, ..] => Reach::Never,
            [10 | 127, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [100, 64..=127, ..]
            | [192, 0, 0, _]
            | [198, 18 | 19, ..] => Reach::Private,
            _ => Reach::Public,
        },
        IpAddr::V6(v6) => match v6.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] | [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Reach::Private,
            [0 | 0xff00..=0xffff | 0xfe80..=0xfebf, ..] => Reach::Never,
            _ => Reach::Public,
        },
    }
}

fn within(net: IpAddr, bits: u8, address: IpAddr) -> bool {
    let (net, address, width) = match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => {
            (u128::from(net.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(net), IpAddr::V6(address)) => (net.to_bits(), address.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    (net ^ address).checked_shr(width - u32::from(bits)).unwrap_or(0) == 0
}
