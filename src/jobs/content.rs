//! What a job holds, and its seals: it is read by whoever carries the job out, and by nobody else.

use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::auth::Caller;
use crate::domain::access::{Role, Scope, Scopes};
use crate::domain::error::{Code, Error};
use crate::domain::id::{RequestId, TenantId};
use crate::domain::job::JobKey;
use crate::domain::request::Priority;
use crate::domain::trace::TraceContext;
use crate::seal::DataKeys;

/// What is to be done, and for whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// Whose wish it is, with the rights it had.
    pub asker: Asker,
    /// Of the request that made the job.
    pub request_id: RequestId,
    /// Where that request stood among everybody's spans.
    #[serde(default)]
    pub trace: Option<TraceContext>,
    /// Whether nothing is taken from what other requests asked for.
    pub no_store: bool,
    /// The body, as the route of its type takes it.
    pub data: Value,
}

/// Where the end of a job is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// The address; may hold a secret.
    pub url: String,
}

/// A `Caller` that can wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asker {
    actor: String,
    tenant: Option<TenantId>,
    roles: Vec<String>,
    scopes: Vec<String>,
    max_priority: Option<Priority>,
    key_prefix: Option<String>,
}

impl Asker {
    /// The shown part of its key, where it came with one.
    pub fn key_prefix(&self) -> Option<&str> {
        self.key_prefix.as_deref()
    }
}

impl From<&Caller> for Asker {
    fn from(caller: &Caller) -> Asker {
        Asker {
            actor: caller.actor.clone(),
            tenant: caller.tenant.clone(),
            roles: caller.roles.iter().map(|role| role.name().to_owned()).collect(),
            scopes: caller.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
            max_priority: caller.max_priority,
            key_prefix: caller.key_prefix.clone(),
        }
    }
}

impl From<Asker> for Caller {
    /// What another release called otherwise is no right any more.
    fn from(asker: Asker) -> Caller {
        Caller {
            roles: asker.roles.iter().filter_map(|name| Role::parse(name)).collect(),
            scopes: asker.scopes.iter().filter_map(|name| Scope::parse(name)).collect(),
            withheld: Scopes::NONE,
            actor: asker.actor,
            tenant: asker.tenant,
            max_priority: asker.max_priority,
            key_prefix: asker.key_prefix,
            // Who was let in when the job was made is not asked again.
            expires_at_ms: None,
        }
    }
}

/// What of a job is sealed; each under a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Payload,
    Result,
    Callback,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Payload => "payload",
            Part::Result => "result",
            Part::Callback => "callback",
        }
    }
}

/// Seals `value` as a part of the job.
pub(super) fn seal(
    keys: &DataKeys,
    of: &JobKey,
    part: Part,
    value: &impl Serialize,
) -> Result<Vec<u8>, Error> {
    let plain = serde_json::to_string(value).map_err(broken)?;
    keys.seal_apart(&plain, &about(of, part, &of.id.to_string())).map_err(broken)
}

/// Opens what was sealed as this part of this job.
pub(super) fn open<T: DeserializeOwned>(
    keys: &DataKeys,
    of: &JobKey,
    part: Part,
    sealed: &[u8],
) -> Result<T, Error> {
    let opened = keys.open_apart(sealed, &about(of, part, &of.id.to_string())).map_err(broken)?;
    serde_json::from_str(opened.expose_secret()).map_err(broken)
}

fn about<'a>(of: &'a JobKey, part: Part, id: &'a str) -> [&'a str; 4] {
    ["job", of.tenant.as_str(), id, part.name()]
}

/// Time alone does not mend it.
fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message =
        "the job's content cannot be sealed or opened; was ORCHESTRATION_DATA_KEY changed?";
    Error::new(Code::InternalError, message).caused_by(error).lasting()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::job::JobId;
    use crate::seal::Key;

    fn key(tenant: &str) -> JobKey {
        let id = JobId::of(uuid::Uuid::from_u128(7));
        JobKey { tenant: TenantId::parse(tenant).unwrap(), id }
    }

    #[test]
    fn whoever_asks_is_the_same_after_the_wait() {
        let mut caller = Caller::development();
        caller.tenant = Some(TenantId::parse("acme").unwrap());
        caller.max_priority = Some(Priority::Low);
        caller.key_prefix = Some("orch_0123456789ab".to_owned());
        let waited = serde_json::to_string(&Asker::from(&caller)).unwrap();
        let asker: Asker = serde_json::from_str(&waited).unwrap();
        assert_eq!(Caller::from(asker), caller);
    }

    #[test]
    fn a_part_opens_in_its_own_place_alone_and_shows_nothing() {
        let keys = DataKeys::new(&Key::from_bytes([1; 32]), None).unwrap();
        let payload = Payload {
            asker: Asker::from(&Caller::development()),
            request_id: RequestId::parse("r-1").unwrap(),
            trace: None,
            no_store: false,
            data: json!({"content": "canary"}),
        };
        let sealed = seal(&keys, &key("acme"), Part::Payload, &payload).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        let opened = open::<Payload>(&keys, &key("acme"), Part::Payload, &sealed).unwrap();
        assert_eq!(opened, payload);
        assert!(open::<Payload>(&keys, &key("globex"), Part::Payload, &sealed).is_err());
        let elsewhere = open::<Payload>(&keys, &key("acme"), Part::Result, &sealed).unwrap_err();
        assert!(!elsewhere.retryable() && !elsewhere.message.contains("canary"));
    }
}
