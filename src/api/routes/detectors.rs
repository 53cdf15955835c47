//! The detectors that the caller's tenant sees.

use std::sync::Arc;

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, at, json, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query, tenant};
use crate::api::wire::response::milliseconds;
use crate::catalog::Detector;
use crate::catalog::detector::DISCOVERED;
use crate::detect::{CredentialView, Standing};
use crate::domain::category::Category;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::snapshot::Snapshot;

pub(crate) mod credentials;
pub(crate) mod registration;

use registration::StoredDetector;

pub(super) fn configure(config: &mut ServiceConfig) {
    let (list, register) = (web::get().to(list), web::post().to(registration::post));
    config.service(resource(&at("/detectors")).route(list).route(register));
    config.service(
        resource(&at("/detectors/{name}/credentials")).route(web::put().to(credentials::put)),
    );
    config.service(resource(&at("/detectors/{name}/health")).route(web::get().to(health)));
    config.service(
        resource(&at("/detectors/{name}"))
            .route(web::get().to(one))
            .route(web::put().to(registration::put))
            .route(web::delete().to(registration::delete)),
    );
}

/// Detectors, and where the list goes on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Detectors {
    /// In name order.
    pub detectors: Vec<DetectorView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// A detector as its tenant sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DetectorView {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// How it is spoken to.
    pub protocol: &'static str,
    /// Its versions, those that are only observed last.
    pub versions: Vec<String>,
    /// active, pending until its service has answered, or shadow.
    pub status: &'static str,
    /// healthy, degraded, unhealthy or unknown.
    pub health: &'static str,
    /// closed, open or half_open.
    pub breaker: &'static str,
    /// Kinds of content it judges.
    pub types: Vec<&'static str>,
    /// What it can find.
    pub categories: Vec<String>,
    /// In conflicts.
    pub weight: f64,
    /// Contexts it is allowed in; empty means all.
    pub contexts: Vec<String>,
    /// Governance notes, as its file writes them; null where it has none.
    pub safety: serde_json::Value,
    /// low, medium or high.
    pub risk: Option<String>,
    /// Who answers for it.
    pub owner: String,
    /// What calls to it are authorised with; never the credential.
    pub auth: AuthView,
    /// `file`, `embedded`, `environment`, or `stored` for one that the tenant registered.
    pub source: &'static str,
    /// What the tenant registered under this name, if anything.
    pub stored: Option<StoredDetector>,
    /// Observed 95th percentile of its calls.
    pub p95_ms: Option<f64>,
}

/// What calls to a detector are authorised with.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuthView {
    /// none, api_key, bearer_token, basic_auth, oauth2 or aws_sigv4.
    #[serde(rename = "type")]
    pub kind: String,
    /// False where there is none, or where it cannot be opened.
    pub configured: bool,
}

impl From<CredentialView> for AuthView {
    fn from(view: CredentialView) -> Self {
        AuthView { kind: view.kind, configured: view.configured }
    }
}

/// Which detectors to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// active, pending or shadow.
    pub status: Option<String>,
    /// A category it can find, or one above or below.
    pub category: Option<String>,
    /// A context it is allowed in.
    pub context: Option<String>,
    /// text, document, code or image.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    pub content_type: Option<String>,
    /// 1 to 200; 50 unless set.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
    /// From `next`.
    pub cursor: Option<String>,
}

/// Lists detectors.
#[utoipa::path(get, path = "/api/v1/detectors", tag = "detectors", params(Filter),
    operation_id = "detectors_list",
    responses((status = 200, body = Detectors), (status = 400,
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(http: HttpRequest, api: Data<Api>) -> Answer {
    let filter: Filter = query(&http)?;
    let limit = filter.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        return Err(bad("limit", "must be 1 to 200"));
    }
    let detectors = visible(&http, &api)?;
    check_filter(&filter, &detectors)?;
    let after = filter.cursor.as_deref().unwrap_or_default();
    let wanted = |detector: &&Arc<Detector>| {
        let status = filter.status.as_deref();
        let status = status.is_none_or(|status| status == self::status(&api, detector));
        status && detector.name.as_str() > after && matches(&filter, detector)
    };
    let mut found: Vec<&Arc<Detector>> = detectors.iter().filter(wanted).collect();
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|detector| detector.name.to_string());
    let (tenant, snapshot) = (asker(&http, &api)?, api.live.current());
    let detectors = found.into_iter().map(|d| shown(&api, &snapshot, &tenant, d)).collect();
    json(&Detectors { detectors, next })
}

/// The tenant that the caller looks as.
fn asker(http: &HttpRequest, api: &Api) -> Result<TenantId, Error> {
    tenant(http, &api.caller(http)?, None, &api.live.current())
}

fn visible(http: &HttpRequest, api: &Api) -> Result<Vec<Arc<Detector>>, Error> {
    let snapshot = api.live.current();
    let id = asker(http, api)?;
    let tenant = snapshot.catalog.tenants.get(&id);
    Ok(tenant.map(|t| snapshot.catalog.visible(t).cloned().collect()).unwrap_or_default())
}

fn bad(parameter: &str, why: &str) -> crate::api::edge::Failed {
    Error::new(Code::InvalidRequest, format!("the query parameter `{parameter}` {why}")).into()
}

fn check_filter(
    filter: &Filter,
    detectors: &[Arc<Detector>],
) -> Result<(), crate::api::edge::Failed> {
    let one_of = |parameter, value: &Option<String>, known: &[&str]| match value {
        Some(value) if !known.contains(&value.as_str()) => {
            Err(bad(parameter, &format!("must be one of: {}", known.join(", "))))
        }
        Some(_) | None => Ok(()),
    };
    one_of("status", &filter.status, &["active", "pending", "shadow"])?;
    one_of("type", &filter.content_type, &["text", "document", "code", "image"])?;
    if let Some(category) = &filter.category
        && let Err(error) = Category::parse(category)
    {
        return Err(bad("category", &format!("is wrong: {error}")));
    }
    let mut contexts: Vec<&str> =
        detectors.iter().flat_map(|d| d.contexts.iter().map(String::as_str)).collect();
    contexts.sort_unstable();
    contexts.dedup();
    one_of("context", &filter.context, &contexts)
}

fn matches(filter: &Filter, detector: &Detector) -> bool {
    let category = filter.category.as_deref().and_then(|raw| Category::parse(raw).ok());
    let category =
        category.is_none_or(|wanted| detector.categories.iter().any(|own| own.touches(&wanted)));
    let context =
        filter.context.as_deref().is_none_or(|context| detector.contexts.contains(context));
    let kind = filter.content_type.as_deref();
    let kind = kind.is_none_or(|kind| detector.types.iter().any(|own| own.name() == kind));
    category && context && kind
}

fn status(api: &Api, detector: &Detector) -> &'static str {
    match api.deps.detectors.standing(detector) {
        Standing::Pending { .. } => "pending",
        Standing::Active if detector.shadow => "shadow",
        Standing::Active => "active",
    }
}

fn source(detector: &Detector) -> &'static str {
    let known = [("embedded", "embedded"), (DISCOVERED, "environment")];
    let known = known.into_iter().find(|(prefix, _)| detector.source.starts_with(prefix));
    match &detector.private_to {
        Some(_) => "stored",
        None => known.map_or("file", |(_, name)| name),
    }
}

fn shown(
    api: &Api,
    snapshot: &Snapshot,
    tenant: &TenantId,
    detector: &Arc<Detector>,
) -> DetectorView {
    DetectorView {
        name: detector.name.to_string(),
        description: detector.description.clone(),
        protocol: detector.protocol.name(),
        versions: detector.definitions().map(|one| one.version.to_string()).collect(),
        status: status(api, detector),
        health: api.deps.detectors.health(detector).state.name(),
        breaker: api.deps.detectors.breaker(detector).name(),
        types: detector.types.iter().map(|kind| kind.name()).collect(),
        categories: detector.categories.iter().map(ToString::to_string).collect(),
        weight: detector.weight,
        contexts: detector.contexts.iter().cloned().collect(),
        safety: detector.safety.clone(),
        risk: detector.risk.clone(),
        owner: detector.owner.clone(),
        auth: api.deps.detectors.credential(Some(tenant), detector).into(),
        source: source(detector),
        stored: StoredDetector::of(snapshot, tenant, &detector.name),
        p95_ms: api.deps.detectors.p95(detector).map(milliseconds),
    }
}

fn find(http: &HttpRequest, api: &Api, name: &str) -> Result<Arc<Detector>, Error> {
    let found = visible(http, api)?.into_iter().find(|detector| detector.name.as_str() == name);
    found.ok_or_else(unknown)
}

fn unknown() -> Error {
    Error::new(Code::NotFound, "no detector of that name is visible")
}

/// One detector.
#[utoipa::path(get, path = "/api/v1/detectors/{name}", tag = "detectors",
    operation_id = "detectors_one",
    params(("name" = String, Path, description = "A detector's name")),
    responses((status = 200, body = DetectorView), (status = 404,
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn one(http: HttpRequest, name: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let detector = find(&http, &api, &name)?;
    let place = (&asker(&http, &api)?, &detector.name);
    registration::shown(&api, &api.live.current(), place, HttpResponse::Ok())
}

/// The health of a detector.
#[derive(Debug, Serialize, ToSchema)]
pub struct DetectorHealth {
    /// Its name.
    pub name: String,
    /// healthy, degraded, unhealthy or unknown.
    pub health: &'static str,
    /// closed, open or half_open.
    pub breaker: &'static str,
    /// active, pending or shadow.
    pub status: &'static str,
    /// Why it is pending, once its service was asked; null otherwise.
    pub pending: Option<String>,
}

/// One detector's health.
#[utoipa::path(get, path = "/api/v1/detectors/{name}/health", tag = "detectors",
    operation_id = "detectors_health",
    params(("name" = String, Path, description = "A detector's name")),
    responses((status = 200, body = DetectorHealth), (status = 404,
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn health(http: HttpRequest, name: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let (detector, tenant) = (find(&http, &api, &name)?, asker(&http, &api)?);
    let view = shown(&api, &api.live.current(), &tenant, &detector);
    let pending = match api.deps.detectors.standing(&detector) {
        Standing::Pending { why } => why.map(|why| why.to_string()),
        Standing::Active => None,
    };
    let DetectorView { name, health, breaker, status, .. } = view;
    json(&DetectorHealth { name, health, breaker, status, pending })
}
