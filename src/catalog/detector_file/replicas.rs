//! Where a detector answers: its endpoint and its replicas.

use serde::Deserialize;

use super::in_range;
use super::protocol::Named;
use crate::catalog::detector::Endpoint;
use crate::outbound::Guard;
use crate::yaml::Fields;

/// Addresses of one detector.
const MOST: usize = 32;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplicaEntry {
    endpoint: String,
    #[serde(default = "one")]
    weight: u32,
}

fn one() -> u32 {
    1
}

/// Every address, that of `endpoint` first; none for a built-in detector.
pub(super) fn read(fields: &mut Fields<'_>, named: Option<Named>, guard: &Guard) -> Vec<Endpoint> {
    let endpoint: Option<String> = fields.take("endpoint");
    let replicas = fields.node("replicas");
    let entries: Option<Vec<ReplicaEntry>> = fields.take("replicas");
    if named == Some(Named::Builtin) {
        for (key, given) in [("endpoint", endpoint.is_some()), ("replicas", replicas.is_some())] {
            if given {
                let message = "a built-in detector has no endpoint".to_owned();
                fields.refuse(key, "bad_endpoint", message, "remove the key");
            }
        }
        return Vec::new();
    }
    if endpoint.is_none() && replicas.is_none() && named.is_some() {
        fields.missing("endpoint");
    }
    if entries.as_ref().is_some_and(Vec::is_empty) {
        let message = "`replicas` is empty".to_owned();
        fields.refuse("replicas", "bad_value", message, "add `- endpoint: http://host:port/path`");
    }
    let mut endpoints = Vec::new();
    if let Some(raw) = endpoint {
        endpoints.extend(one_of(fields, "endpoint", &raw, guard));
    }
    for (index, entry) in entries.unwrap_or_default().iter().enumerate() {
        let key = format!("/replicas/{index}/weight");
        in_range(fields, &key, entry.weight.into(), (1.0, 1_000.0));
        let key = format!("/replicas/{index}/endpoint");
        let Some(one) = one_of(fields, &key, &entry.endpoint, guard) else { continue };
        if endpoints.iter().any(|known| known.uri == one.uri) {
            let message = "the address stands here twice".to_owned();
            fields.refuse(
                &key,
                "bad_endpoint",
                message,
                "remove it and raise the other's `weight`",
            );
        }
        endpoints.push(Endpoint { weight: entry.weight, ..one });
    }
    if endpoints.len() > MOST {
        let message = format!("{} addresses are more than {MOST}", endpoints.len());
        fields.refuse("replicas", "out_of_range", message, "put a load balancer before them");
    }
    endpoints
}

fn one_of(fields: &mut Fields<'_>, key: &str, raw: &str, guard: &Guard) -> Option<Endpoint> {
    let uri = raw.parse::<http::Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
    });
    let Some(uri) = uri else {
        let message = "the endpoint is no http or https address without credentials";
        let hint = "write http://host:port/path and put credentials into `auth`";
        fields.refuse(key, "bad_endpoint", message.to_owned(), hint);
        return None;
    };
    if let Err(why) = guard.check(&uri) {
        let message = format!("calls to this endpoint are not allowed: {why}");
        let hint = "name another; `security.outbound_allow` opens private ones";
        fields.refuse(key, "endpoint_forbidden", message, hint);
    }
    Some(Endpoint { uri, weight: 1 })
}
