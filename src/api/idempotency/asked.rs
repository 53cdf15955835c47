//! What is asked under a key, as hashes that tell nothing without the service's key; and the seal that
//! only the same request opens.

use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::seal::{Key, canonical};
use crate::store::Claim;

/// Integers up to here have doubles of their own.
const EXACT_MAX: u64 = 1 << 53;

/// A request under a key.
pub(in crate::api) struct Asked {
    tenant: TenantId,
    /// Keyed hash of tenant, route and key.
    pub(super) key: [u8; 32],
    /// Keyed hash of those and the request.
    pub(super) request: [u8; 32],
    seal: Key,
}

impl Asked {
    /// What `tenant` asks for by `body` on `route` under `key`.
    ///
    /// # Errors
    /// A number in `body` that its canonical form would confuse with another.
    pub(in crate::api) fn new(
        pepper: &Key,
        tenant: &TenantId,
        (route, key): (&str, &str),
        body: &Value,
    ) -> Result<Asked, Error> {
        let hash = fingerprint(body)?;
        let of = [tenant.as_str().as_bytes(), route.as_bytes(), key.as_bytes()];
        let id = pepper.hash([&b"idempotency"[..]].into_iter().chain(of));
        let with = |purpose: &str| pepper.hash([purpose.as_bytes(), &id, hash.as_bytes()]);
        Ok(Asked {
            tenant: tenant.clone(),
            key: id,
            request: with("idempotency-request"),
            seal: Key::from_bytes(with("idempotency-answer")),
        })
    }

    /// What is asked, as a keyed hash: of tenant, route, key and body.
    pub(in crate::api) fn request(&self) -> [u8; 32] {
        self.request
    }

    /// A try to claim it.
    pub(super) fn claim(&self) -> Claim {
        let owner = uuid::Uuid::now_v7().into_bytes();
        Claim { tenant: self.tenant.clone(), key: self.key, owner }
    }

    pub(super) fn seal(&self, kept: &impl Serialize) -> Result<Vec<u8>, Error> {
        let kept = serde_json::to_string(kept).map_err(broken)?;
        self.seal.seal(&kept, &[self.tenant.as_str()]).map_err(broken)
    }

    pub(super) fn open<K: DeserializeOwned>(&self, sealed: &[u8]) -> Result<K, Error> {
        let kept = self.seal.open(sealed, &[self.tenant.as_str()]).map_err(broken)?;
        serde_json::from_str(kept.expose_secret()).map_err(broken)
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::InternalError, "the kept answer cannot be read or written").caused_by(error)
}

/// SHA-256 of the canonical form.
pub(in crate::api) fn fingerprint(body: &Value) -> Result<Digest, Error> {
    if let Some(pointer) = inexact(body) {
        let detail = "is beyond 2^53, where numbers cannot be told apart; send it as a text, or send \
                      no Idempotency-Key";
        return Err(Error::field(Code::InvalidRequest, &pointer, "inexact_number", detail));
    }
    let canonical = canonical(body);
    let failed = |error| Error::new(Code::InternalError, "the body has no hash").caused_by(error);
    canonical.map(|bytes| Digest::of(&bytes)).map_err(failed)
}

/// Where an integer stands that another one would pass for.
fn inexact(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => {
            let beyond = number.as_u64().is_some_and(|n| n > EXACT_MAX)
                || number.as_i64().is_some_and(|n| n.unsigned_abs() > EXACT_MAX);
            beyond.then(String::new)
        }
        Value::Array(list) => {
            let mut found = list.iter().enumerate();
            found.find_map(|(at, value)| Some(format!("/{at}{}", inexact(value)?)))
        }
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            let rest = inexact(value)?;
            Some(format!("/{}{rest}", key.replace('~', "~0").replace('/', "~1")))
        }),
        Value::Null | Value::Bool(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked((tenant, route, key): (&str, &str, &str), body: &Value) -> Asked {
        let tenant = TenantId::parse(tenant).unwrap();
        Asked::new(&Key::from_bytes([7; 32]), &tenant, (route, key), body).unwrap()
    }

    #[test]
    fn tenant_route_key_and_body_each_make_another_request() {
        let body = json!({"content": "x", "metadata": {"a": 1, "b": 2.5}});
        let first = asked(("acme", "/r", "k"), &body);
        for (other, at) in [
            (asked(("globex", "/r", "k"), &body), "tenant"),
            (asked(("acme", "/s", "k"), &body), "route"),
            (asked(("acme", "/r", "l"), &body), "key"),
            (asked(("acme", "/", "rk"), &body), "the border"),
        ] {
            assert!(other.key != first.key && other.request != first.request, "{at}");
            assert!(other.open::<Value>(&first.seal(&1).unwrap()).is_err(), "{at}");
        }
        let other = asked(("acme", "/r", "k"), &json!({"content": "y"}));
        assert!(other.key == first.key && other.request != first.request);
        assert!(other.open::<Value>(&first.seal(&1).unwrap()).is_err(), "only the same body opens");
        let same =
            serde_json::from_str(r#"{"metadata": {"b": 25e-1, "a": 1.0}, "content": "\u0078"}"#);
        let same = asked(("acme", "/r", "k"), &same.unwrap());
        assert_eq!(same.request, first.request, "the value counts, not how it is written");
        assert_eq!(same.open::<u8>(&first.seal(&1).unwrap()).unwrap(), 1);
    }

    #[test]
    fn numbers_that_could_pass_for_others_are_refused_at_their_place() {
        for (body, pointer) in [
            (json!({"a/b": [1, {"c": 9_007_199_254_740_993_u64}]}), "/a~1b/1/c"),
            (json!(-9_007_199_254_740_993_i64), ""),
            (json!([u64::MAX]), "/0"),
        ] {
            let error = fingerprint(&body).unwrap_err();
            assert_eq!(
                (error.code, error.details[0].pointer.as_str()),
                (Code::InvalidRequest, pointer)
            );
        }
        for exact in [json!(9_007_199_254_740_992_u64), json!(-5), json!(1e300)] {
            assert!(fingerprint(&exact).is_ok(), "{exact}");
        }
    }
}
