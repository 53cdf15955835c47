//! API keys of the caller's tenant. A secret is answered once, when it is made.

use std::time::Duration;

use actix_web::web::{self, Data, Path, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::pages::{self, Pages};
use super::policies::overlay::time;
use super::{Answer, at, json, resource};
use crate::api::caller::{NoQuery, query};
use crate::api::{Api, body};
use crate::auth::{Minted, Wanted};
use crate::domain::access::{Grant, Role, Scope};
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::domain::request::Priority;
use crate::store::ApiKey;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/keys")).route(web::get().to(list)).route(web::post().to(create)));
    config.service(
        resource(&at("/keys/{prefix}")).route(web::get().to(one)).route(web::delete().to(revoke)),
    );
    config.service(resource(&at("/keys/{prefix}/rotate")).route(web::post().to(rotate)));
}

/// A key without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct KeyView {
    /// The shown part of the key, which names it.
    pub prefix: String,
    /// The only tenant it acts for; null may choose.
    pub tenant: Option<String>,
    /// Its roles, where it names any.
    pub roles: Option<Vec<&'static str>>,
    /// Its scopes, where it names any.
    pub scopes: Option<Vec<&'static str>>,
    /// All that it may do.
    pub effective_scopes: Vec<&'static str>,
    /// Most urgent priority it may ask for; null is the tenant's.
    pub max_priority: Option<&'static str>,
    /// What it is for.
    pub label: String,
    /// active, expired or revoked.
    pub state: &'static str,
    /// Who made it.
    pub created_by: String,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// RFC 3339 UTC.
    pub expires_at: Option<String>,
    /// RFC 3339 UTC.
    pub revoked_at: Option<String>,
    /// The key that took its place.
    pub replaced_by: Option<String>,
}

impl KeyView {
    /// What may be shown of `key`.
    pub fn of(key: &ApiKey) -> KeyView {
        let names =
            |scopes: crate::domain::access::Scopes| scopes.iter().map(Scope::name).collect();
        let roles = key.grant.roles.as_ref();
        let state = match (key.revoked_at_ms, key.holds(jiff::Timestamp::now().as_millisecond())) {
            (Some(_), _) => "revoked",
            (None, true) => "active",
            (None, false) => "expired",
        };
        KeyView {
            prefix: key.prefix.clone(),
            tenant: key.tenant.as_ref().map(ToString::to_string),
            roles: roles.map(|roles| roles.iter().map(|role| role.name()).collect()),
            scopes: key.grant.scopes.map(names),
            effective_scopes: names(key.grant.effective()),
            max_priority: key.max_priority.map(Priority::name),
            label: key.label.clone(),
            state,
            created_by: key.created_by.clone(),
            created_at: time(key.created_at_ms),
            expires_at: key.expires_at_ms.map(time),
            revoked_at: key.revoked_at_ms.map(time),
            replaced_by: key.replaced_by.clone(),
        }
    }
}

/// A new key with its secret.
#[derive(Serialize, ToSchema)]
pub struct NewKey {
    /// The whole key; it is never shown again.
    pub key: String,
    /// The same without its secret.
    #[serde(flatten)]
    pub view: KeyView,
}

/// Keys, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyList {
    /// Without secrets.
    pub keys: Vec<KeyView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// The keys of the caller's tenant; those of everyone for who acts across tenants.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", operation_id = "keys_list",
    params(Pages), responses((status = 200, body = KeyList)))]
pub(crate) async fn list(http: HttpRequest, api: Data<Api>) -> Answer {
    let page = pages::wanted(&http)?;
    let caller = api.caller(&http)?;
    let (keys, next) = pages::cut(api.gate.keys().list(&caller, page).await?, page);
    json(&KeyList { keys: keys.iter().map(KeyView::of).collect(), next })
}

/// One key.
#[utoipa::path(get, path = "/api/v1/keys/{prefix}", tag = "keys", operation_id = "keys_one",
    params(("prefix" = String, Path, description = "A key's prefix")),
    responses((status = 200, body = KeyView), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn one(http: HttpRequest, prefix: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    json(&KeyView::of(&api.gate.keys().named(&caller, &prefix).await?))
}

/// A key that is wanted. It can do what its roles and its scopes both allow.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// What it is for, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub label: String,
    /// For the audit, 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
    /// Whose it is; the caller's unless set.
    pub tenant: Option<String>,
    /// Names of roles.
    pub roles: Option<Vec<String>>,
    /// Names of scopes.
    pub scopes: Option<Vec<String>>,
    /// Most urgent priority it may ask for.
    pub max_priority: Option<String>,
    /// Seconds until it is refused; never unless set.
    #[schema(minimum = 1, maximum = 315_360_000)]
    pub expires_in_s: Option<u32>,
}

impl KeyRequest {
    /// As typed values; every unknown name is a fault.
    pub fn wanted(self) -> Result<Wanted, Error> {
        let unknown = |pointer: &str, known: Vec<&str>| {
            let detail = format!("is unknown; one of: {}", known.join(", "));
            Error::field(Code::InvalidRequest, pointer, "unknown_name", detail)
        };
        let roles = || unknown("/roles", Role::ALL.iter().map(|role| role.name()).collect());
        let scopes = || unknown("/scopes", Scope::ALL.iter().map(|scope| scope.name()).collect());
        let priorities = || unknown("/max_priority", Priority::ALL.map(Priority::name).to_vec());
        let tenant = self.tenant.map(|raw| TenantId::parse(&raw)).transpose().map_err(|_| {
            let detail = "the tenant is unknown or not the credential's";
            Error::field(Code::TenantMismatch, "/tenant", "tenant_mismatch", detail)
        })?;
        if tenant.as_ref().is_some_and(TenantId::is_reserved) {
            let detail = "no tenant is called so, as metrics name the rest of them; choose another";
            return Err(Error::field(Code::InvalidRequest, "/tenant", "bad_value", detail));
        }
        let life_ms = self.expires_in_s.map(|seconds| i64::from(seconds) * 1000);
        Ok(Wanted {
            tenant,
            grant: Grant {
                roles: names(self.roles, Role::parse).ok_or_else(roles)?,
                scopes: names(self.scopes, Scope::parse).ok_or_else(scopes)?,
            },
            max_priority: match self.max_priority {
                None => None,
                Some(name) => Some(Priority::parse(&name).ok_or_else(priorities)?),
            },
            label: self.label,
            expires_at_ms: life_ms.map(|life| jiff::Timestamp::now().as_millisecond() + life),
        })
    }
}

/// The things of those names; `None` where one is unknown.
fn names<T, C: FromIterator<T>>(
    raw: Option<Vec<String>>,
    parse: fn(&str) -> Option<T>,
) -> Option<Option<C>> {
    match raw {
        None => Some(None),
        Some(raw) => raw.iter().map(|name| parse(name)).collect::<Option<C>>().map(Some),
    }
}

/// Makes a key. It grants at most what its maker holds.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", operation_id = "keys_create",
    request_body = KeyRequest,
    responses((status = 201, description = "Made", body = NewKey), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let mut request: KeyRequest = body::json(&http, payload, api.body_limits()).await?;
    let reason = std::mem::take(&mut request.reason);
    let wanted = request.wanted()?;
    let tenants = &api.live.current().catalog.tenants;
    if wanted.tenant.as_ref().is_some_and(|tenant| !tenants.contains_key(tenant)) {
        let detail = "the tenant is unknown or not the credential's";
        let error = Error::field(Code::TenantMismatch, "/tenant", "tenant_mismatch", detail);
        return Err(error.into());
    }
    created(&api.gate.keys().create(&caller, wanted, &reason).await?)
}

/// How a key is replaced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Seconds that the old key goes on, at most 30 days; 0 ends it at once.
    #[schema(maximum = 2_592_000)]
    pub overlap_s: u32,
    /// For the audit, 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

/// Makes a key that grants the same; the old one goes on for the overlap.
#[utoipa::path(post, path = "/api/v1/keys/{prefix}/rotate", tag = "keys",
    operation_id = "keys_rotate",
    params(("prefix" = String, Path, description = "A key's prefix")),
    request_body = Rotation,
    responses((status = 201, description = "Made", body = NewKey), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn rotate(
    http: HttpRequest,
    prefix: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let how: Rotation = body::json(&http, payload, api.body_limits()).await?;
    let overlap = Duration::from_secs(how.overlap_s.into());
    created(&api.gate.keys().rotate(&caller, &prefix, overlap, &how.reason).await?)
}

/// Why a key is revoked.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RevokeWhy {
    /// For the audit, 1 to 500 characters.
    pub reason: String,
}

/// Refuses a key for ever; every instance does within a second.
#[utoipa::path(delete, path = "/api/v1/keys/{prefix}", tag = "keys", operation_id = "keys_revoke",
    params(RevokeWhy, ("prefix" = String, Path, description = "A key's prefix")),
    responses((status = 204, description = "Revoked"), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn revoke(http: HttpRequest, prefix: Path<String>, api: Data<Api>) -> Answer {
    let why: RevokeWhy = query(&http)?;
    let caller = api.caller(&http)?;
    api.gate.keys().revoke(&caller, &prefix, &why.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn created(minted: &Minted) -> Answer {
    let key = minted.secret.expose_secret().to_owned();
    let mut response = json(&NewKey { key, view: KeyView::of(&minted.key) })?;
    *response.status_mut() = actix_web::http::StatusCode::CREATED;
    Ok(response)
}
