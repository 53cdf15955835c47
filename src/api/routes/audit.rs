//! Who changed what, and why.

use actix_web::HttpRequest;
use actix_web::web::{self, Data, ServiceConfig};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::pages::{self, Pages};
use super::policies::overlay::time;
use super::{Answer, at, json, resource};
use crate::api::Api;
use crate::api::caller::{query, tenant};
use crate::auth::Caller;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::evidence;
use crate::store::AuditEntry;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/audit")).route(web::get().to(list)));
    config.service(resource(&at("/audit/verify")).route(web::get().to(verify)));
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
    let whose = whose(&http, &api, &caller)?;
    let rows =
        api.deps.store.entries(whose, page).await.map_err(|error| {
            Error::new(error.code(), "the store does not answer").caused_by(error)
        })?;
    let (audit, next) = pages::cut(rows, page);
    json(&Acts { audit: audit.into_iter().map(Act::of).collect(), next })
}

/// Whose acts are meant; `None` everyone's.
fn whose(http: &HttpRequest, api: &Api, caller: &Caller) -> Result<Option<TenantId>, Error> {
    let of_one = caller.tenant.is_some() || http.headers().contains_key("x-tenant-id");
    of_one.then(|| tenant(http, caller, None, &api.live.current())).transpose()
}

/// What a check of the audit found.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditCheck {
    /// Whether every act follows the one before it, up to the head that was given.
    pub valid: bool,
    /// Acts that were checked.
    pub entries: u64,
    /// Where the chain breaks; nothing behind it was checked.
    pub first_bad: Option<BadAct>,
    /// The last act that was checked. Keep its hash elsewhere: sent as `head` later, it proves that
    /// nothing up to here was cut off or written anew.
    pub head: Option<AuditHead>,
}

/// An act at which a chain breaks.
#[derive(Debug, Serialize, ToSchema)]
pub struct BadAct {
    /// Its number; of a cut end the last that is left, 0 where none is.
    pub sequence: i64,
    /// What is wrong.
    pub why: &'static str,
}

/// The end of a chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditHead {
    /// The act's number.
    pub sequence: i64,
    /// SHA-256, 64 hexadecimal digits.
    pub hash: String,
}

/// What must still be there.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct KeptHead {
    /// `head.hash` of an earlier answer.
    pub head: Option<String>,
}

/// Checks the chain of the caller's tenant. Who acts across tenants has that of the tenant it names
/// in `X-Tenant-ID` checked, or every chain.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "audit", operation_id = "audit_verify",
    params(KeptHead, ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = AuditCheck)))]
pub(crate) async fn verify(http: HttpRequest, api: Data<Api>) -> Answer {
    let KeptHead { head } = query(&http)?;
    let caller = api.caller(&http)?;
    let whose = whose(&http, &api, &caller)?;
    let head = head.as_deref().map(hash).transpose()?;
    let _turn = api.turn(whose.as_ref()).await?;
    let found = evidence::audit::walk(&*api.deps.store, whose, head).await;
    let found = found
        .map_err(|error| Error::new(error.code(), "the store does not answer").caused_by(error))?;
    let first_bad = found.first_bad.map(|bad| BadAct { sequence: bad.sequence, why: bad.why });
    let head = found.head.map(|(sequence, hash)| AuditHead { sequence, hash: hash.hex() });
    json(&AuditCheck { valid: first_bad.is_none(), entries: found.entries, first_bad, head })
}

fn hash(digits: &str) -> Result<Digest, Error> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes)
        .map_err(|_| Error::new(Code::InvalidRequest, "head is a hash of 64 hexadecimal digits"))?;
    Ok(Digest::from_bytes(bytes))
}
