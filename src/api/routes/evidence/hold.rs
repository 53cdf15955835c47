//! Legal hold: what must not be purged, of one decision or of a tenant.

use actix_web::HttpRequest;
use actix_web::web::{self, Data, Path, Payload, ServiceConfig};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::admin::reason;
use super::super::policies::overlay::time;
use super::super::tenants::row::Target;
use super::super::{Answer, at, json, resource};
use super::{Subject, away};
use crate::api::Api;
use crate::api::caller::{NoQuery, query};
use crate::auth::Caller;
use crate::domain::custody::Evidence;
use crate::domain::error::Error;
use crate::store::{AuditEntry, Hold, HoldOn};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/evidence/{id}/hold")).route(web::post().to(hold)));
    config.service(resource(&at("/evidence/{id}/release")).route(web::post().to(release)));
    let (held, released) = (web::post().to(hold_tenant), web::post().to(release_tenant));
    config.service(resource(&at("/admin/tenants/{tenant}/hold")).route(held));
    config.service(resource(&at("/admin/tenants/{tenant}/release")).route(released));
}

/// Whether something is kept from being purged.
#[derive(Debug, Serialize, ToSchema)]
pub struct LegalHold {
    /// Whose.
    pub tenant: String,
    /// Of which decision; null: of all the tenant's.
    pub evidence: Option<String>,
    /// Whether it is held.
    pub held: bool,
    /// Since when; RFC 3339 UTC with milliseconds.
    pub since: Option<String>,
    /// By whom.
    pub actor: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl LegalHold {
    pub(super) fn of(on: HoldOn, hold: Option<Hold>) -> LegalHold {
        LegalHold {
            tenant: on.tenant.to_string(),
            evidence: on.evidence,
            held: hold.is_some(),
            since: hold.as_ref().map(|hold| time(hold.at_ms)),
            actor: hold.as_ref().map(|hold| hold.actor.clone()),
            reason: hold.map(|hold| hold.reason),
        }
    }
}

/// Keeps the record of a decision from being purged until it is released.
#[utoipa::path(post, path = "/api/v1/evidence/{id}/hold", tag = "evidence",
    operation_id = "evidence_hold",
    params(("id" = String, Path, description = "A decision's id"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    request_body = super::super::admin::Intervention,
    responses((status = 200, body = LegalHold)))]
pub(crate) async fn hold(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    of_one(&http, (&id, payload), &api, true).await
}

/// Lets the record of a decision be purged again, unless its tenant is held.
#[utoipa::path(post, path = "/api/v1/evidence/{id}/release", tag = "evidence",
    operation_id = "evidence_release",
    params(("id" = String, Path, description = "A decision's id"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    request_body = super::super::admin::Intervention,
    responses((status = 200, body = LegalHold)))]
pub(crate) async fn release(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    of_one(&http, (&id, payload), &api, false).await
}

/// Keeps every record of a tenant from being purged until it is released.
#[utoipa::path(post, path = "/api/v1/admin/tenants/{tenant}/hold", tag = "tenants",
    operation_id = "tenants_hold",
    params(("tenant" = String, Path, description = "A tenant's id")),
    request_body = super::super::admin::Intervention,
    responses((status = 200, body = LegalHold), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn hold_tenant(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    of_tenant(&http, (&id, payload), &api, true).await
}

/// Lets records of a tenant be purged again, but those that are held themselves.
#[utoipa::path(post, path = "/api/v1/admin/tenants/{tenant}/release", tag = "tenants",
    operation_id = "tenants_release",
    params(("tenant" = String, Path, description = "A tenant's id")),
    request_body = super::super::admin::Intervention,
    responses((status = 200, body = LegalHold), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn release_tenant(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    of_tenant(&http, (&id, payload), &api, false).await
}

async fn of_one(
    http: &HttpRequest,
    (id, payload): (&str, Payload),
    api: &Api,
    held: bool,
) -> Answer {
    query::<NoQuery>(http)?;
    let Subject { caller, decision } = Subject::of(http, api, id).await?;
    let on = HoldOn { tenant: decision.tenant, evidence: Some(decision.id) };
    set(api, (&caller, on), (held, reason(http, payload, api).await?)).await
}

async fn of_tenant(
    http: &HttpRequest,
    (id, payload): (&str, Payload),
    api: &Api,
    held: bool,
) -> Answer {
    query::<NoQuery>(http)?;
    let Target { caller, id, .. } = Target::known(http, api, id)?;
    let on = HoldOn { tenant: id, evidence: None };
    set(api, (&caller, on), (held, reason(http, payload, api).await?)).await
}

/// What is so already stays as it is, with the reason that it has.
async fn set(api: &Api, (caller, on): (&Caller, HoldOn), (held, reason): (bool, String)) -> Answer {
    let at_ms = jiff::Timestamp::now().as_millisecond();
    let (target, act) = match (&on.evidence, held) {
        (Some(id), true) => (format!("evidence/{id}"), "evidence.hold"),
        (Some(id), false) => (format!("evidence/{id}"), "evidence.release"),
        (None, true) => (format!("tenant/{}", on.tenant), "tenant.hold"),
        (None, false) => (format!("tenant/{}", on.tenant), "tenant.release"),
    };
    let state = |held: bool| Some(format!(r#"{{"legal_hold":{held}}}"#));
    let entry = AuditEntry {
        tenant: Some(on.tenant.clone()),
        at_ms,
        actor: caller.actor.clone(),
        action: act.to_owned(),
        target,
        reason: reason.clone(),
        before: state(!held),
        after: state(held),
    };
    let hold = held.then(|| Hold { at_ms, actor: caller.actor.clone(), reason });
    let changed = api.deps.store.set_hold(on.clone(), hold.clone(), entry).await;
    let changed = changed.map_err(|error| {
        let message = "the store does not answer; whether it is held is not known";
        Error::new(error.code(), message).caused_by(error)
    })?;
    if changed || !held {
        return json(&LegalHold::of(on, hold));
    }
    let id = on.evidence.clone().unwrap_or_default();
    let of = Evidence { tenant: on.tenant.clone(), id };
    let there = api.deps.store.hold_of(of).await.map_err(away)?;
    json(&LegalHold::of(on, there.map(|(_, hold)| hold)))
}
