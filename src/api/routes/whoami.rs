//! What a credential is and may do, as its holder sees it.

use actix_web::HttpRequest;
use actix_web::web::{self, Data, ServiceConfig};
use serde::Serialize;
use utoipa::ToSchema;

use super::policies::overlay::time;
use super::{Answer, at, json, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query};
use crate::domain::access::{Role, Scope};
use crate::domain::request::Priority;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/whoami")).route(web::get().to(whoami)));
}

/// Whose credential it is, and what it allows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Whoami {
    /// As audits name it: a key's prefix, `subject/` and a token's subject, or `development`.
    pub actor: String,
    /// The only tenant it acts for; null chooses one with `X-Tenant-ID`.
    pub tenant: Option<String>,
    /// Roles that it names, by name.
    pub roles: Vec<&'static str>,
    /// All that it may do, by name.
    pub scopes: Vec<&'static str>,
    /// The shown part of its key; null where it is no key.
    pub key_prefix: Option<String>,
    /// Most urgent priority it may ask for; null is the tenant's.
    pub max_priority: Option<&'static str>,
    /// When it expires, RFC 3339 UTC with milliseconds; null is never.
    pub expires_at: Option<String>,
}

/// Says who asks: any credential that is let in may ask.
#[utoipa::path(get, path = "/api/v1/whoami", tag = "keys", operation_id = "whoami",
    responses((status = 200, body = Whoami)))]
pub(crate) async fn whoami(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    json(&Whoami {
        actor: caller.actor,
        tenant: caller.tenant.map(|tenant| tenant.to_string()),
        roles: caller.roles.iter().map(|role: &Role| role.name()).collect(),
        scopes: caller.scopes.iter().map(Scope::name).collect(),
        key_prefix: caller.key_prefix,
        max_priority: caller.max_priority.map(Priority::name),
        expires_at: caller.expires_at_ms.map(time),
    })
}
