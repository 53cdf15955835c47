//! Who changed what, and why.

use actix_web::HttpRequest;
use actix_web::web::{self, Data, ServiceConfig};
use serde::Serialize;
use utoipa::ToSchema;

use super::pages::{self, Pages};
use super::policies::overlay::time;
use super::{Answer, at, json, resource};
use crate::api::Api;
use crate::api::caller::tenant;
use crate::domain::error::Error;
use crate::store::AuditEntry;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/audit")).route(web::get().to(list)));
}

/// Acts, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Acts {
    /// At most `limit`.
    pub audit: Vec<Act>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// One act.
#[derive(Debug, Serialize, ToSchema)]
pub struct Act {
    /// RFC 3339 UTC with milliseconds.
    pub at: String,
    /// Whose; null where it concerns no single tenant.
    pub tenant: Option<String>,
    /// Who: a key's prefix, `subject/` and a token's subject, `development` or `system`.
    pub actor: String,
    /// What, such as `breaker.open`.
    pub action: String,
    /// On what, such as `detector/pii`.
    pub target: String,
    /// Why, in the actor's words.
    pub reason: String,
    /// What was there before.
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// What was there afterwards.
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
}

impl Act {
    fn of(entry: AuditEntry) -> Self {
        let value = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
        Self {
            at: time(entry.at_ms),
            tenant: entry.tenant.map(|tenant| tenant.to_string()),
            actor: entry.actor,
            action: entry.action,
            target: entry.target,
            reason: entry.reason,
            before: value(entry.before),
            after: value(entry.after),
        }
    }
}

/// Acts of the caller's tenant. Who acts across tenants sees those of the tenant it names in
/// `X-Tenant-ID`, or all.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", operation_id = "audit_list",
    params(Pages, ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = Acts)))]
pub(crate) async fn list(http: HttpRequest, api: Data<Api>) -> Answer {
    let page = pages::wanted(&http)?;
    let caller = api.caller(&http)?;
    let of_one = caller.tenant.is_some() || http.headers().contains_key("x-tenant-id");
    let whose = match of_one {
        true => Some(tenant(&http, &caller, None, &api.live.current())?),
        false => None,
    };
    let rows =
        api.deps.store.entries(whose, page).await.map_err(|error| {
            Error::new(error.code(), "the store does not answer").caused_by(error)
        })?;
    let (audit, next) = pages::cut(rows, page);
    json(&Acts { audit: audit.into_iter().map(Act::of).collect(), next })
}
