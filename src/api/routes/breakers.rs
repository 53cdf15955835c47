//! Circuit breakers, and their manual control.

use std::sync::Arc;

use actix_web::web::{Data, Path, Payload, ServiceConfig};
use actix_web::{HttpRequest, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::admin::{self, Deed, Intervention};
use super::{Answer, at, json, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query, tenant};
use crate::auth::Caller;
use crate::detect::BreakerView;
use crate::domain::error::{Code, Error};
use crate::operations::breaker::Force;
use crate::snapshot::Seen;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/breakers")).route(web::get().to(list)));
    config.service(resource(&at("/breakers/{detector}")).route(web::get().to(one)));
    config.service(resource(&at("/breakers/{detector}/{how}")).route(web::post().to(force)));
}

/// Breakers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Breakers {
    /// In name order.
    pub breakers: Vec<Breaker>,
}

/// One breaker.
#[derive(Debug, Serialize, ToSchema)]
pub struct Breaker {
    /// The detector.
    pub name: String,
    /// The tenant that registered it; null for everyone's.
    pub tenant: Option<String>,
    /// Its version.
    pub version: String,
    /// closed, open or half_open.
    pub state: &'static str,
    /// Failures that count now.
    pub failures: u32,
    /// Successes that count now.
    pub successes: u32,
    /// Milliseconds until the next probe is let through; null unless open.
    pub next_attempt_ms: Option<f64>,
    /// Since the start.
    pub stats: BreakerStats,
}

/// Calls of a breaker since the start.
#[derive(Debug, Serialize, ToSchema)]
pub struct BreakerStats {
    /// Calls that were let through.
    pub total: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that succeeded.
    pub successes: u64,
    /// Calls that were refused.
    pub rejections: u64,
}

fn shown(view: &BreakerView) -> Breaker {
    Breaker {
        name: view.name.to_string(),
        tenant: view.private_to.as_ref().map(ToString::to_string),
        version: view.version.to_string(),
        state: view.state.name(),
        failures: view.failures,
        successes: view.successes,
        next_attempt_ms: view.next_attempt.map(crate::api::wire::response::milliseconds),
        stats: BreakerStats {
            total: view.stats.total,
            failures: view.stats.failures,
            successes: view.stats.successes,
            rejections: view.stats.rejections,
        },
    }
}

/// Every breaker.
#[utoipa::path(get, path = "/api/v1/breakers", tag = "breakers",
    operation_id = "breakers_list", responses((status = 200, body = Breakers)))]
pub(crate) async fn list(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let breakers = api.deps.detectors.breakers();
    let whose = whose(&http, &api, &caller)?;
    let sees = |view: &&BreakerView| match &whose {
        Some(seen) => is_seen(seen, view),
        None => true,
    };
    let breakers = breakers.iter().filter(sees).map(shown).collect();
    json(&Breakers { breakers })
}

/// The breakers of one detector, one for each version.
#[utoipa::path(get, path = "/api/v1/breakers/{detector}", tag = "breakers",
    operation_id = "breakers_one",
    params(("detector" = String, Path, description = "A detector's name")),
    responses((status = 200, body = Breakers), (status = 404, body = crate::api::problem::Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn one(http: HttpRequest, path: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let whose = whose(&http, &api, &caller)?;
    json(&all(&find(&api, whose.as_deref(), &path)?))
}

fn all(views: &[BreakerView]) -> Breakers {
    Breakers { breakers: views.iter().map(shown).collect() }
}

/// What the tenant sees that the caller looks as; `None` is for who looks across tenants.
fn whose(http: &HttpRequest, api: &Api, caller: &Caller) -> Result<Option<Arc<Seen>>, Error> {
    if caller.tenant.is_none() && !http.headers().contains_key("x-tenant-id") {
        return Ok(None);
    }
    let snapshot = api.live.current();
    let id = tenant(http, caller, None, &snapshot)?;
    Ok(Some(snapshot.seen.get(&id).cloned().ok_or_else(unknown)?))
}

fn is_seen(seen: &Seen, view: &BreakerView) -> bool {
    seen.detectors.get(&view.name).is_some_and(|detector| view.is_of(detector))
}

/// Of each version, never none. Who looks across tenants means everyone's detector.
fn find(api: &Api, whose: Option<&Seen>, name: &str) -> Result<Vec<BreakerView>, Error> {
    let sees = |view: &BreakerView| match whose {
        Some(seen) => is_seen(seen, view),
        None => view.private_to.is_none(),
    };
    let mut views = api.deps.detectors.breakers();
    views.retain(|view| view.name.as_str() == name && sees(view));
    if views.is_empty() { Err(unknown()) } else { Ok(views) }
}

fn unknown() -> Error {
    Error::new(Code::NotFound, "no breaker of that name exists")
}

/// Resets, opens or closes all versions of a detector's breaker; audited with the reason.
#[utoipa::path(post, path = "/api/v1/breakers/{detector}/{how}", tag = "breakers",
    operation_id = "breakers_force",
    params(("detector" = String, Path, description = "A detector's name"),
        ("how" = String, Path, description = "reset, open or close")),
    request_body = Intervention,
    responses((status = 200, body = Breakers), (status = 404, body = crate::api::problem::Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn force(
    http: HttpRequest,
    path: Path<(String, String)>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let (name, how) = path.into_inner();
    let how = match how.as_str() {
        "reset" => Force::Reset,
        "open" => Force::Open,
        "close" => Force::Close,
        _ => {
            let message = "a breaker can be reset, open or close; use one of the three";
            return Err(Error::new(Code::NotFound, message).into());
        }
    };
    let reason = admin::reason(&http, payload, &api).await?;
    let whose = whose(&http, &api, &caller)?;
    let before = find(&api, whose.as_deref(), &name)?;
    let first = before.first().ok_or_else(unknown)?;
    let mut states: Vec<&str> = before.iter().map(|view| view.state.name()).collect();
    states.dedup();
    let after = match how {
        Force::Open => "open",
        Force::Close | Force::Reset => "closed",
    };
    let deed = Deed {
        action: format!("breaker.{}", how.name()),
        target: format!("detector/{name}"),
        reason,
        before: serde_json::json!({ "state": states.join(", ") }),
        after: serde_json::json!({ "state": after }),
    };
    // First recorded, then done: a breaker that nobody can account for stays as it is.
    admin::keep(&api, &caller, deed, "it could not be recorded, so nothing was changed").await?;
    api.deps.detectors.force((first.private_to.as_ref(), &first.name), how);
    json(&all(&find(&api, whose.as_deref(), &name)?))
}
