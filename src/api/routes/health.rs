//! Is the process alive, ready, well; and its metrics.

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, json, looked_at, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query};
use crate::detect::{HealthState, Standing};
use crate::domain::error::{Code, Error};
use crate::metrics::{DetectorGauges, FAMILIES, Family, Part};
use crate::operations::breaker::BreakerState;

pub(in crate::api) mod detailed;

pub(super) fn configure(config: &mut ServiceConfig, prefix: &str) {
    let at = |path: &str| format!("{prefix}{path}");
    config.service(resource(&at("/health")).route(looked_at().to(live)));
    config.service(resource(&at("/health/live")).route(looked_at().to(live)));
    config.service(resource(&at("/health/ready")).route(looked_at().to(ready)));
    config.service(resource(&at("/health/startup")).route(looked_at().to(ready)));
    config.service(resource(&at("/health/detailed")).route(looked_at().to(detailed::detailed)));
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

/// Marks the listener that serves health and metrics to whoever reaches it, and nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Operators;

/// The routes of that listener.
pub fn configure_operators(config: &mut ServiceConfig) {
    config.app_data(Operators);
    configure(config, "");
    configure(config, super::PREFIX);
    config.default_service(web::to(super::nowhere));
}

/// Prometheus text; a tenant's credential sees its own series, those of its detectors, and few others.
#[utoipa::path(get, path = "/api/v1/metrics", tag = "health",
    responses((status = 200, description = "Prometheus text format", body = String,
        content_type = "text/plain")))]
pub(crate) async fn metrics(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    // Nobody has to say who they are where nothing else is served.
    let caller = match api.caller(&http) {
        Ok(caller) => Some(caller),
        Err(_) if http.app_data::<Operators>().is_some() => None,
        Err(error) => return Err(error.into()),
    };
    gauges(&api);
    let text = api.deps.metrics.render().map_err(|error| {
        Error::new(Code::InternalError, "the metrics could not be written").caused_by(error)
    })?;
    let of_one = caller.as_ref().and_then(|caller| Some((caller, caller.tenant.as_ref()?)));
    let text = match of_one {
        Some((caller, tenant)) => own(&text, tenant.as_str(), &api.sees(caller)),
        None => text,
    };
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// Families without tenant or detector that a tenant sees: what the instance is, and the sums over all
/// tenants that its own way of being served is read from.
const SHARED: [&str; 12] = [
    "orchestrator_active_services",
    "orchestrator_build_info",
    "orchestrator_config_last_reload_success_timestamp_seconds",
    "orchestrator_config_last_reload_successful",
    "orchestrator_config_reload_total",
    "orchestrator_dependency_up",
    "orchestrator_discovered_services",
    "orchestrator_http_request_duration_seconds",
    "orchestrator_http_requests_total",
    "orchestrator_shed_total",
    "orchestrator_snapshot_info",
    "orchestrator_unjudged_total",
];
/// By these labels a series says whose it is.
const WHOSE: [&str; 3] = ["tenant", "detector", "service_name"];

/// How everyone's detectors fare now; tenants' own would be series for each.
fn gauges(api: &Api) {
    let (snapshot, detectors) = (api.live.current(), &api.deps.detectors);
    let of = |detector| {
        let view = detectors.health(detector);
        // Nobody probes what is built in.
        let health = view.checked.and(match view.state {
            HealthState::Healthy => Some(1.0),
            HealthState::Degraded => Some(0.5),
            HealthState::Unhealthy => Some(0.0),
            HealthState::Unknown => None,
        });
        let part = match (detector.shadow, detectors.standing(detector)) {
            (true, _) => Part::Shadow,
            (false, Standing::Active) => Part::Active,
            (false, Standing::Pending { .. }) => Part::Pending,
        };
        let breaker = state(detectors.breaker(detector));
        DetectorGauges { name: detector.name.as_str(), breaker, health, part }
    };
    let all: Vec<_> = snapshot.catalog.detectors.values().map(|d| of(d.as_ref())).collect();
    api.deps.metrics.detectors(&all);
}

/// What a tenant sees of the metrics: its own series, those of detectors that it sees, and `SHARED`;
/// nothing else.
fn own(text: &str, tenant: &str, sees: &dyn Fn(&str) -> bool) -> String {
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let mut open = false;
    let shown = |line: &&str| {
        // Each family begins with what is said of it.
        if let Some(said) = line.strip_prefix("# ") {
            open = said.split(' ').nth(1).is_some_and(is_open);
        }
        let detector = label(line, "{detector").or_else(|| label(line, ",detector"));
        let detector = detector.or_else(|| label(line, "service_name"));
        open && label(line, "tenant").is_none_or(|named| named == tenant)
            && detector.is_none_or(|named| sees(&named))
    };
    text.split_inclusive('\n').filter(shown).collect()
}

/// Whether a tenant sees any series of `family`.
fn is_open(family: &str) -> bool {
    let says_whose = |listed: &&Family| listed.labels.iter().any(|label| WHOSE.contains(label));
    let listed = FAMILIES.iter().find(|listed| listed.name == family);
    family.starts_with("process_")
        || SHARED.contains(&family)
        || listed.filter(says_whose).is_some()
}

fn state(state: BreakerState) -> crate::metrics::BreakerState {
    match state {
        BreakerState::Closed => crate::metrics::BreakerState::Closed,
        BreakerState::Open => crate::metrics::BreakerState::Open,
        BreakerState::HalfOpen => crate::metrics::BreakerState::HalfOpen,
    }
}
