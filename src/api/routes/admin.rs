//! What administrators do to the service as a whole, and the reason that each of them gives.

use actix_web::HttpRequest;
use actix_web::web::{self, Data, Payload, ServiceConfig};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answer, at, json, resource};
use crate::api::caller::{NoQuery, query};
use crate::api::{Api, body};
use crate::auth::Caller;
use crate::domain::error::{Code, Error};
use crate::snapshot::{self, Event, Looked};
use crate::store::AuditEntry;
use crate::yaml::fault::Fault;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/admin/reload")).route(web::post().to(reload)));
}

/// Why an administrator intervenes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Intervention {
    /// For the audit, 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

/// The reason in the body of a request.
pub(super) async fn reason(
    http: &HttpRequest,
    payload: Payload,
    api: &Api,
) -> Result<String, Error> {
    let Intervention { reason } = body::json(http, payload, api.body_limits()).await?;
    sound(reason)
}

/// The reason, if it says something.
pub(super) fn sound(reason: String) -> Result<String, Error> {
    if reason.trim().is_empty() || reason.chars().count() > 500 {
        let detail = "say why in 1 to 500 characters";
        return Err(Error::field(Code::InvalidRequest, "/reason", "out_of_range", detail));
    }
    Ok(reason)
}

/// What somebody did to the whole service.
pub(super) struct Deed {
    /// Such as `breaker.open`.
    pub(super) action: String,
    /// Such as `detector/pii`.
    pub(super) target: String,
    pub(super) reason: String,
    pub(super) before: serde_json::Value,
    pub(super) after: serde_json::Value,
}

/// Keeps a deed in the audit; `unkept` says what became of it where that fails.
pub(super) async fn keep(
    api: &Api,
    caller: &Caller,
    deed: Deed,
    unkept: &str,
) -> Result<(), Error> {
    let entry = AuditEntry {
        tenant: None,
        at_ms: jiff::Timestamp::now().as_millisecond(),
        actor: caller.actor.clone(),
        action: deed.action,
        target: deed.target,
        reason: deed.reason,
        before: Some(deed.before.to_string()),
        after: Some(deed.after.to_string()),
    };
    api.deps
        .store
        .append(entry)
        .await
        .map(|_| ())
        .map_err(|error| Error::new(error.code(), unkept).caused_by(error))
}

/// What a reload found.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reloaded {
    /// unchanged; swapped: what changed serves; refused: it is at fault, and what served before
    /// still does.
    pub outcome: &'static str,
    /// What serves now.
    pub revision: String,
    /// Swaps of this process.
    pub generation: u64,
    /// Why the change was refused.
    #[schema(value_type = Vec<Object>)]
    pub faults: Vec<Fault>,
}

/// Looks at files, store and published policies now, as the service does by itself within seconds.
#[utoipa::path(post, path = "/api/v1/admin/reload", tag = "live", operation_id = "admin_reload",
    request_body = Intervention, responses((status = 200, body = Reloaded)))]
pub(crate) async fn reload(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let reason = reason(&http, payload, &api).await?;
    let before = api.live.current();
    let (outcome, faults) = match snapshot::refresh(&api.live, &api.deps.settings).await {
        Looked::Same => ("unchanged", api.live.generations().faults),
        Looked::New(Event::Swapped(_)) => {
            api.deps.adopt(&api.live.current());
            ("swapped", Vec::new())
        }
        Looked::New(Event::Refused(faults)) => {
            api.deps.refused(&faults);
            ("refused", faults)
        }
        Looked::Restless => {
            let message = "files keep changing; reload again when they rest";
            return Err(Error::new(Code::Overloaded, message).into());
        }
    };
    let after = api.live.current();
    let deed = Deed {
        action: "config.reload".to_owned(),
        target: "config".to_owned(),
        reason,
        before: serde_json::json!({ "revision": before.revision }),
        after: serde_json::json!({ "revision": after.revision, "outcome": outcome }),
    };
    keep(&api, &caller, deed, "the files were read, but that could not be recorded").await?;
    let (revision, generation) = (after.revision.clone(), after.generation);
    json(&Reloaded { outcome, revision, generation, faults })
}
