//! Tenants: those of files, which the API only reads and pauses, and those it stores.

use actix_web::web::{self, Data, Path, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::policies::overlay::time;
use super::{Answer, at, json, resource};
use crate::api::caller::{NoQuery, query};
use crate::api::strict::Value;
use crate::api::{Api, body};
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::settings::Rate;
use crate::snapshot::{RowKind, RowPlace, Snapshot};
use crate::store::{Expected, Page};
use crate::yaml::fault::Fault;

pub(in crate::api::routes) mod row;

use row::{Target, Wanted};

/// Characters of a tenant's document.
const DOCUMENT_CHARS_MAX: usize = 65_536;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/tenants")).route(web::get().to(list)));
    config.service(
        resource(&at("/tenants/{tenant}"))
            .route(web::get().to(one))
            .route(web::put().to(put))
            .route(web::delete().to(delete)),
    );
    let (paused, resumed) = (web::post().to(pause), web::post().to(resume));
    config.service(resource(&at("/admin/tenants/{tenant}/pause")).route(paused));
    config.service(resource(&at("/admin/tenants/{tenant}/resume")).route(resumed));
}

/// A tenant as it serves.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
pub struct TenantView {
    /// Its id.
    pub id: String,
    /// Whether it serves; a stored tenant that no longer fits does not, see `faults`.
    pub serves: bool,
    /// `file` or `stored`: what defines it.
    pub source: &'static str,
    /// Its tier.
    pub tier: Option<String>,
    /// Its share against other tenants.
    pub weight: Option<f64>,
    /// Policies it may use.
    pub policies: Vec<String>,
    /// Whether every request of its credentials is refused.
    pub paused: bool,
    /// How often it may ask.
    pub rate_limit: Option<RateView>,
    /// What the API stored, if anything.
    pub stored: Option<StoredTenant>,
    /// Why the stored tenant does not serve, or what is odd about it.
    #[schema(value_type = Vec<Object>)]
    pub faults: Vec<Fault>,
}

/// A rate.
#[derive(Debug, Serialize, ToSchema)]
pub struct RateView {
    /// Requests per minute in the long run.
    pub per_minute: u32,
    /// Requests at once.
    pub burst: u32,
}

impl RateView {
    pub(super) fn of(rate: Rate) -> RateView {
        RateView { per_minute: rate.per_minute, burst: rate.burst() }
    }
}

/// A tenant as it was stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoredTenant {
    /// From 1; deletions count.
    pub version: u64,
    /// The `ETag` without quotes.
    pub etag: String,
    /// RFC 3339 UTC with milliseconds.
    pub stored_at: String,
    /// Whether a file of the same name serves instead.
    pub shadowed: bool,
    /// The keys of a tenant file.
    #[schema(value_type = Object)]
    pub document: serde_json::Value,
}

fn view(api: &Api, snapshot: &Snapshot, id: &TenantId) -> TenantView {
    let tenant = snapshot.catalog.tenants.get(id);
    let row = snapshot.row(&RowPlace::of_tenant(RowKind::Tenant, id));
    let file = snapshot.file_defines_tenant(id);
    let own = format!("stored/tenants/{id}.yaml");
    TenantView {
        id: id.to_string(),
        serves: tenant.is_some(),
        source: if file { "file" } else { "stored" },
        tier: tenant.map(|tenant| tenant.facts.tier.to_string()),
        weight: tenant.map(|tenant| tenant.tier.weight),
        policies: tenant.iter().flat_map(|t| &t.policies).map(ToString::to_string).collect(),
        paused: tenant.is_some_and(|tenant| snapshot.paused(tenant)),
        rate_limit: tenant.map(|tenant| RateView::of(api.admission.rate(tenant.rate_limit))),
        stored: row.map(|row| StoredTenant {
            version: row.version,
            etag: row.etag.clone(),
            stored_at: time(row.at_ms),
            shadowed: file,
            document: serde_json::from_str(&row.body).unwrap_or_default(),
        }),
        faults: snapshot.warnings.iter().filter(|fault| fault.file == own).cloned().collect(),
    }
}

/// Tenants.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantList {
    /// By id.
    pub tenants: Vec<TenantView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TenantPages {
    /// Rows, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Every tenant, of files and of the store.
#[utoipa::path(get, path = "/api/v1/tenants", tag = "tenants", operation_id = "tenants_list",
    params(TenantPages), responses((status = 200, body = TenantList)))]
pub(crate) async fn list(http: HttpRequest, api: Data<Api>) -> Answer {
    let pages: TenantPages = query(&http)?;
    let caller = api.caller(&http)?;
    let limit = pages.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        return Err(Error::new(Code::InvalidRequest, "limit is 1 to 200").into());
    }
    let snapshot = api.live.current();
    let stored = snapshot.rows(RowKind::Tenant).filter_map(|row| row.place.tenant.as_ref());
    let after = |id: &&TenantId| pages.cursor.as_deref().is_none_or(|last| id.as_str() > last);
    let own = |id: &&TenantId| caller.tenant.as_ref().is_none_or(|own| own == *id);
    let ids: std::collections::BTreeSet<&TenantId> =
        snapshot.catalog.tenants.keys().chain(stored).filter(after).filter(own).collect();
    let page: Vec<&TenantId> = ids.iter().take(limit).copied().collect();
    let next = page.last().filter(|_| ids.len() > page.len()).map(ToString::to_string);
    let tenants = page.into_iter().map(|id| view(&api, &snapshot, id)).collect();
    json(&TenantList { tenants, next })
}

/// One tenant.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}", tag = "tenants",
    operation_id = "tenants_one",
    params(("tenant" = String, Path, description = "A tenant's id")),
    responses((status = 200, body = TenantView), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn one(http: HttpRequest, id: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let target = Target::known(&http, &api, &id)?;
    shown(&api, &target.snapshot, &target.id, HttpResponse::Ok())
}

fn shown(api: &Api, snapshot: &Snapshot, id: &TenantId, mut answer: HttpResponseBuilder) -> Answer {
    let view = view(api, snapshot, id);
    if let Some(stored) = &view.stored {
        answer.insert_header(("etag", format!("\"{}\"", stored.etag)));
    }
    answer.insert_header(("x-policy-revision", snapshot.revision.as_str()));
    Ok(answer.json(view))
}

/// A tenant that is to be stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantRequest {
    /// The keys of a tenant file; `schema_version` and `id` may be left out.
    #[schema(value_type = Object)]
    pub tenant: Value,
    /// For the audit, 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

/// Stores a tenant; live at once.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}", tag = "tenants",
    operation_id = "tenants_put",
    params(("tenant" = String, Path, description = "A tenant's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is changed"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if nothing is there")),
    request_body = TenantRequest,
    responses((status = 200, description = "Changed", body = TenantView),
        (status = 201, description = "Created", body = TenantView),
        (status = "4XX", body = crate::api::problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn put(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let id = id.into_inner();
    let target = Target::of(&http, &api, &id).map_err(|error| wrong_id(error, &id))?;
    if target.snapshot.file_defines_tenant(&target.id) {
        return Err(row::defined().into());
    }
    let expected = target.expected(&http, RowKind::Tenant)?;
    if target.row(RowKind::Tenant).is_none() {
        never_before(&api, &target.id).await?;
    }
    let request: TenantRequest = body::json(&http, payload, api.body_limits()).await?;
    let document = document(request.tenant.0, &target.id)?;
    let body = Some(serde_json::to_string_pretty(&document).unwrap_or_default());
    let (kind, reason) = (RowKind::Tenant, request.reason);
    let wanted = Wanted { kind, act: "tenant.put", body, expected, reason };
    let snapshot = target
        .change(&http, &api, wanted)
        .await
        .map_err(|error| row::pointed(error, &document, "/tenant"))?;
    let answer = match expected {
        Expected::Absent => HttpResponse::Created(),
        Expected::Any | Expected::Version(_) => HttpResponse::Ok(),
    };
    shown(&api, &snapshot, &target.id, answer)
}

/// A deleted tenant's id is nobody's again: what was stored for it, its policies, credentials and
/// records, would be its heir's.
async fn never_before(api: &Api, id: &TenantId) -> Result<(), Error> {
    let (key, page) =
        (RowPlace::of_tenant(RowKind::Tenant, id).key(), Page { limit: 1, before: None });
    let versions = api.deps.store.versions(key, page).await;
    let versions = versions.map_err(|error| {
        let message = "the tenants before could not be read; send it again later";
        Error::new(error.code(), message).caused_by(error)
    })?;
    if versions.is_empty() {
        return Ok(());
    }
    let message = "a tenant of this id was deleted; ids are not used again, choose another";
    Err(Error::new(Code::AlreadyExists, message))
}

/// An id that no tenant may have is the request's fault; another tenant's stays unknown.
fn wrong_id(error: Error, id: &str) -> Error {
    match TenantId::parse(id) {
        Ok(_) => error,
        Err(wrong) => Error::new(Code::InvalidRequest, wrong.to_string()),
    }
}

fn document(given: serde_json::Value, id: &TenantId) -> Result<serde_json::Value, Error> {
    let refused =
        |fault, detail: &str| Error::field(Code::InvalidRequest, "/tenant", fault, detail);
    let serde_json::Value::Object(mut keys) = given else {
        return Err(refused("wrong_type", "must be an object with the keys of a tenant file"));
    };
    keys.entry("schema_version").or_insert(1.into());
    keys.entry("id").or_insert(id.as_str().into());
    let document = serde_json::Value::Object(keys);
    if document.to_string().chars().count() > DOCUMENT_CHARS_MAX {
        return Err(refused("too_large", "holds more than 65536 characters"));
    }
    Ok(document)
}

/// Why something is changed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteWhy {
    /// For the audit, 1 to 500 characters.
    pub reason: String,
}

/// Deletes a stored tenant; its credentials are refused at once, its jobs fail.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}", tag = "tenants",
    operation_id = "tenants_delete",
    params(DeleteWhy, ("tenant" = String, Path, description = "A tenant's id"),
        ("If-Match" = String, Header, description = "The ETag of what is deleted")),
    responses((status = 204, description = "Deleted"),
        (status = "4XX", body = crate::api::problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn delete(http: HttpRequest, id: Path<String>, api: Data<Api>) -> Answer {
    let why: DeleteWhy = query(&http)?;
    let target = Target::known(&http, &api, &id)?;
    // A shadowed tenant may go; what a file defines may not.
    if target.row(RowKind::Tenant).is_none() {
        return Err(row::defined().into());
    }
    let expected = target.expected(&http, RowKind::Tenant)?;
    let (kind, reason) = (RowKind::Tenant, why.reason);
    // Of a shadowed tenant they are the keys of the one that a file defines.
    if !target.snapshot.file_defines_tenant(&target.id) {
        api.gate.keys().revoke_all(&target.caller, &target.id, &reason).await?;
    }
    let wanted = Wanted { kind, act: "tenant.delete", body: None, expected, reason };
    let snapshot = target.change(&http, &api, wanted).await?;
    if !snapshot.catalog.tenants.contains_key(&target.id)
        && let Err(error) = api.crew.orphan(&target.id).await
    {
        let tenant = &target.id;
        tracing::warn!(%error, %tenant, "Jobs of a deleted tenant stay until they expire");
    }
    let mut answer = HttpResponse::NoContent();
    Ok(answer.insert_header(("x-policy-revision", snapshot.revision.as_str())).finish())
}

/// Why a tenant is paused or goes on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// For the audit, 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

/// Refuses every request of a tenant's credentials until it is resumed.
#[utoipa::path(post, path = "/api/v1/admin/tenants/{tenant}/pause", tag = "tenants",
    operation_id = "tenants_pause",
    params(("tenant" = String, Path, description = "A tenant's id")),
    request_body = PauseRequest,
    responses((status = 200, body = TenantView), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn pause(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    set(&http, (&id, payload), &api, Some(r#"{"paused":true}"#)).await
}

/// Lets a paused tenant go on.
#[utoipa::path(post, path = "/api/v1/admin/tenants/{tenant}/resume", tag = "tenants",
    operation_id = "tenants_resume",
    params(("tenant" = String, Path, description = "A tenant's id")),
    request_body = PauseRequest,
    responses((status = 200, body = TenantView), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn resume(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    set(&http, (&id, payload), &api, None).await
}

/// Pauses with a body, resumes without; what is so already stays as it is.
async fn set(
    http: &HttpRequest,
    (id, payload): (&str, Payload),
    api: &Data<Api>,
    body: Option<&str>,
) -> Answer {
    query::<NoQuery>(http)?;
    let target = Target::known(http, api, id)?;
    let request: PauseRequest = body::json(http, payload, api.body_limits()).await?;
    row::check_reason(&request.reason)?;
    let row = target.row(RowKind::Pause);
    let by_file = target.snapshot.catalog.tenants.get(&target.id).is_some_and(|t| t.paused);
    if body.is_none() && row.is_none() && by_file {
        let message = "the tenant's own definition pauses it; change `paused` there";
        return Err(Error::new(Code::AlreadyExists, message).into());
    }
    if body.is_some() == row.is_some() {
        return shown(api, &target.snapshot, &target.id, HttpResponse::Ok());
    }
    let wanted = Wanted {
        kind: RowKind::Pause,
        act: if body.is_some() { "tenant.pause" } else { "tenant.resume" },
        body: body.map(str::to_owned),
        expected: row.map_or(Expected::Absent, |row| Expected::Version(row.version)),
        reason: request.reason,
    };
    let snapshot = target.change(http, api, wanted).await?;
    shown(api, &snapshot, &target.id, HttpResponse::Ok())
}
