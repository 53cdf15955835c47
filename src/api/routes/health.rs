//! Is the process alive, ready, well; and its metrics.

use std::collections::BTreeMap;

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, json, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query};
use crate::domain::error::{Code, Error};
use crate::operations::breaker::BreakerState;

pub(super) fn configure(config: &mut ServiceConfig, prefix: &str) {
    let at = |path: &str| format!("{prefix}{path}");
    config.service(resource(&at("/health")).route(web::get().to(live)));
    config.service(resource(&at("/health/live")).route(web::get().to(live)));
    config.service(resource(&at("/health/ready")).route(web::get().to(ready)));
    config.service(resource(&at("/health/startup")).route(web::get().to(ready)));
    config.service(resource(&at("/health/detailed")).route(web::get().to(detailed)));
    config.service(resource(&at("/metrics")).route(web::get().to(metrics)));
}

/// A short answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alive {
    /// `ok`, or `draining`.
    pub status: &'static str,
}

/// The process answers.
#[utoipa::path(get, path = "/api/v1/health/live", tag = "health", operation_id = "health_live",
    responses((status = 200, body = Alive)))]
pub(crate) async fn live(http: HttpRequest) -> Answer {
    query::<NoQuery>(&http)?;
    json(&Alive { status: "ok" })
}

/// The snapshot is loaded, the store is open, and the process is not stopping.
#[utoipa::path(get, path = "/api/v1/health/ready", tag = "health", operation_id = "health_ready",
    responses((status = 200, body = Alive), (status = 503, description = "Stopping",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn ready(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    if !api.accepts_work() {
        return Err(Error::new(Code::ShuttingDown, "the service is stopping").into());
    }
    json(&Alive { status: "ok" })
}

/// Every check by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct Detailed {
    /// healthy, degraded or unhealthy.
    pub status: &'static str,
    /// By name.
    pub checks: BTreeMap<&'static str, Check>,
}

/// One check.
#[derive(Debug, Serialize, ToSchema)]
pub struct Check {
    /// pass, warn or fail.
    pub status: &'static str,
    /// For people.
    pub message: String,
}

/// Every part's state; degraded answers 200, unhealthy 503.
#[utoipa::path(get, path = "/api/v1/health/detailed", tag = "health",
    responses((status = 200, body = Detailed), (status = 503, body = Detailed)))]
pub(crate) async fn detailed(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let checks = BTreeMap::from([
        ("policies", policies(&api)),
        ("registry", registry(&api)),
        ("circuit_breakers", breakers(&api)),
        ("store", store(&api).await),
    ]);
    let has = |status| checks.values().any(|check| check.status == status);
    let status = match (has("fail"), has("warn")) {
        (true, _) => "unhealthy",
        (false, true) => "degraded",
        (false, false) => "healthy",
    };
    let mut response = json(&Detailed { status, checks })?;
    if status == "unhealthy" {
        *response.status_mut() = actix_web::http::StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

fn policies(api: &Api) -> Check {
    let state = api.live.generations();
    match state.faults.len() {
        0 => Check { status: "pass", message: format!("generation {}", state.generation) },
        n => Check {
            status: "warn",
            message: format!("the last change was refused with {n} faults; see /generations"),
        },
    }
}

fn registry(api: &Api) -> Check {
    let snapshot = api.live.current();
    let n = snapshot.catalog.all().count();
    let status = if n == 0 { "fail" } else { "pass" };
    Check { status, message: format!("{n} detectors, {} tenants", snapshot.catalog.tenants.len()) }
}

fn breakers(api: &Api) -> Check {
    let mut views = api.deps.detectors.breakers();
    // What a tenant registered is its own matter, and nobody else's to see.
    views.retain(|view| view.private_to.is_none());
    let open: Vec<&str> = views
        .iter()
        .filter(|view| view.state != BreakerState::Closed)
        .map(|view| view.name.as_str())
        .collect();
    match open.len() {
        0 => Check { status: "pass", message: format!("{} closed", views.len()) },
        n => Check { status: "warn", message: format!("{n} not closed: {}", open.join(", ")) },
    }
}

async fn store(api: &Api) -> Check {
    match api.deps.store.probe().await {
        Ok(()) => Check { status: "pass", message: "the store answers".into() },
        Err(_) => Check { status: "fail", message: "the store does not answer".into() },
    }
}

/// Prometheus text; a tenant's credential sees no series of other tenants.
#[utoipa::path(get, path = "/api/v1/metrics", tag = "health",
    responses((status = 200, description = "Prometheus text format", body = String,
        content_type = "text/plain")))]
pub(crate) async fn metrics(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    // Tenants' own would be a series for each.
    for view in api.deps.detectors.breakers().iter().filter(|view| view.private_to.is_none()) {
        api.deps.metrics.breaker(view.name.as_str(), state(view.state));
    }
    let text = api.deps.metrics.render().map_err(|error| {
        Error::new(Code::InternalError, "the metrics could not be written").caused_by(error)
    })?;
    let text = match &caller.tenant {
        Some(tenant) => own(&text, tenant.as_str(), &api.sees(&caller)),
        None => text,
    };
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// What a tenant sees of the metrics: no series of another tenant, nor of a detector that it does not
/// see.
fn own(text: &str, tenant: &str, sees: &dyn Fn(&str) -> bool) -> String {
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let shown = |line: &&str| {
        let detector = label(line, "{detector").or_else(|| label(line, ",detector"));
        let detector = detector.or_else(|| label(line, "service_name"));
        label(line, "tenant").is_none_or(|named| named == tenant)
            && detector.is_none_or(|named| sees(&named))
    };
    text.split_inclusive('\n').filter(shown).collect()
}

fn state(state: BreakerState) -> crate::metrics::BreakerState {
    match state {
        BreakerState::Closed => crate::metrics::BreakerState::Closed,
        BreakerState::Open => crate::metrics::BreakerState::Open,
        BreakerState::HalfOpen => crate::metrics::BreakerState::HalfOpen,
    }
}
