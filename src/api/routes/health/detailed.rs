//! Every part of the service, checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::web::Data;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::caller::{NoQuery, query};
use crate::api::edge::request_id;
use crate::api::routes::live::concerns;
use crate::api::routes::{Answer, json};
use crate::auth::Caller;
use crate::catalog::Detector;
use crate::detect::HealthState;
use crate::domain::id::TenantId;
use crate::evidence::LogStats;
use crate::store::StoreError;

/// Waiting requests from which on the service is degraded.
const QUEUE_LONG: u64 = 1_000;
/// The same of the share of recent requests that it failed.
const ERRORS_MANY: f64 = 0.1;

/// The service as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct Detailed {
    /// healthy, degraded or unhealthy.
    pub status: &'static str,
    /// When it was looked at.
    pub timestamp: String,
    /// As in the header.
    pub request_id: String,
    /// By name.
    pub checks: BTreeMap<&'static str, Check>,
    /// Detectors by health.
    pub services: Services,
}

/// One check.
#[derive(Debug, Serialize, ToSchema)]
pub struct Check {
    /// pass, warn or fail.
    pub status: &'static str,
    /// For people.
    pub message: String,
    /// Of `circuit_breakers`: those that are not closed, open or half_open by detector.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub breakers: BTreeMap<String, &'static str>,
}

/// How many detectors the caller sees, by health.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Services {
    /// All of them.
    pub total: usize,
    /// Built in, or their health addresses answer 2xx.
    pub healthy: usize,
    /// They answer something else, or one of several replicas does not answer.
    pub degraded: usize,
    /// They do not answer.
    pub unhealthy: usize,
    /// Nobody asked them yet.
    pub unknown: usize,
}

fn pass(message: impl Into<String>) -> Check {
    Check { status: "pass", message: message.into(), breakers: BTreeMap::new() }
}

fn warn(message: impl Into<String>) -> Check {
    Check { status: "warn", ..pass(message) }
}

fn fail(message: impl Into<String>) -> Check {
    Check { status: "fail", ..pass(message) }
}

/// Every part's state; degraded answers 200, unhealthy 503.
#[utoipa::path(get, path = "/api/v1/health/detailed", tag = "health",
    responses((status = 200, body = Detailed), (status = 503, body = Detailed)))]
pub(crate) async fn detailed(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    // Who is on this machine brings no credential.
    let whose = api.caller(&http).ok().filter(|caller| caller.tenant.is_some());
    let services = services(&api, whose.as_ref());
    let mut checks = BTreeMap::from([
        ("circuit_breakers", breakers(&api, whose.as_ref())),
        ("environment", environment(&api)),
        ("evidence", evidence(&api, whose.as_ref())),
        ("errors", errors(&api)),
        ("filesystem", filesystem(&api.deps.settings.paths.data)),
        ("policies", policies(&api, whose.as_ref())),
        ("queue", queue(&api)),
        ("registry", registry(&api, whose.as_ref())),
        ("required_files", required_files(&api)),
        ("services", answering(&services)),
        ("store", store(&api).await),
        ("workers", workers(&api)),
    ]);
    checks.extend(redis(&api).map(|check| ("redis", check)));
    checks.extend(nats(&api).map(|check| ("nats", check)));
    let has = |status| checks.values().any(|check| check.status == status);
    let status = match (has("fail"), has("warn")) {
        (true, _) => "unhealthy",
        (false, true) => "degraded",
        (false, false) => "healthy",
    };
    let timestamp = format!("{:.3}", jiff::Timestamp::now());
    let request_id = request_id(&http).as_str().to_owned();
    let mut response = json(&Detailed { status, timestamp, request_id, checks, services })?;
    if status == "unhealthy" {
        *response.status_mut() = actix_web::http::StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

fn tenant_of(whose: Option<&Caller>) -> Option<&TenantId> {
    whose.and_then(|caller| caller.tenant.as_ref())
}

/// Everyone's detectors, or what the tenant of a credential sees.
fn seen(api: &Api, whose: Option<&Caller>) -> Vec<Arc<Detector>> {
    let snapshot = api.live.current();
    match tenant_of(whose) {
        None => snapshot.catalog.detectors.values().cloned().collect(),
        Some(tenant) => {
            let seen = snapshot.seen.get(tenant);
            seen.map(|seen| seen.detectors.values().cloned().collect()).unwrap_or_default()
        }
    }
}

fn services(api: &Api, whose: Option<&Caller>) -> Services {
    let mut services = Services::default();
    for detector in seen(api, whose) {
        services.total += 1;
        *match api.deps.detectors.health(&detector).state {
            HealthState::Healthy => &mut services.healthy,
            HealthState::Degraded => &mut services.degraded,
            HealthState::Unhealthy => &mut services.unhealthy,
            HealthState::Unknown => &mut services.unknown,
        } += 1;
    }
    services
}

fn answering(services: &Services) -> Check {
    match (services.unhealthy, services.degraded) {
        (0, 0) => pass("no detector is known to be away"),
        (away, poor) => warn(format!("{away} detectors do not answer, {poor} answer poorly")),
    }
}

/// A tenant's credential is told of no other tenant's faults.
fn policies(api: &Api, whose: Option<&Caller>) -> Check {
    let mut state = api.live.generations();
    if let Some(tenant) = tenant_of(whose) {
        state.faults.retain(|fault| concerns(&fault.file, tenant.as_str()));
    }
    match state.faults.len() {
        0 => pass(format!("generation {}", state.generation)),
        n => warn(format!("the last change was refused with {n} faults; see /generations")),
    }
}

/// A tenant's credential is told of what its tenant sees.
fn registry(api: &Api, whose: Option<&Caller>) -> Check {
    let snapshot = api.live.current();
    let (n, message) = match tenant_of(whose) {
        Some(_) => {
            let n = seen(api, whose).len();
            (n, format!("{n} detectors"))
        }
        None => {
            let n = snapshot.catalog.all().count();
            (n, format!("{n} detectors, {} tenants", snapshot.catalog.tenants.len()))
        }
    };
    if n == 0 { fail(message) } else { pass(message) }
}

fn breakers(api: &Api, whose: Option<&Caller>) -> Check {
    let mut views = api.deps.detectors.breakers();
    // What a tenant registered is its own matter, and nobody else's to see.
    views.retain(|view| view.private_to.is_none());
    if let Some(caller) = whose {
        let sees = api.sees(caller);
        views.retain(|view| sees(view.name.as_str()));
    }
    let states = views.iter().map(|view| (view.name.to_string(), view.state.name()));
    let breakers: BTreeMap<_, _> = states.filter(|(_, state)| *state != "closed").collect();
    if breakers.is_empty() {
        return pass(format!("{} closed", views.len()));
    }
    let names: Vec<&str> = breakers.keys().map(String::as_str).collect();
    let message = format!("{} not closed: {}", breakers.len(), names.join(", "));
    Check { breakers, ..warn(message) }
}

async fn store(api: &Api) -> Check {
    match api.deps.store.probe().await {
        Ok(()) => pass("the store answers"),
        Err(StoreError::Gone { .. }) => fail(
            "the store's file was deleted or replaced: nothing is stored; start the service again",
        ),
        Err(_) => fail("the store does not answer"),
    }
}

/// Where records of decisions are that the store did not take yet; a tenant's credential is not told
/// how many all tenants have.
fn evidence(api: &Api, whose: Option<&Caller>) -> Check {
    let Some(log) = &api.deps.log else { return pass("decisions are not put on record") };
    let LogStats { held, lost, spool_bytes, .. } = log.stats();
    let counts = match tenant_of(whose) {
        Some(_) => String::new(),
        None => format!(
            ": {held} in memory, {spool_bytes} bytes in the spool; {lost} lost since the start"
        ),
    };
    match (held, spool_bytes) {
        (0, 0) if log.ready().is_err() => warn(format!("no record can be written now{counts}")),
        (0, 0) => pass(format!("no record waits for the store{counts}")),
        (0, _) => warn(format!("records wait in the spool{counts}")),
        (_, _) => warn(format!(
            "records are held in memory, since neither the store nor its spool has room{counts}"
        )),
    }
}

/// Nothing where no Redis is set.
fn redis(api: &Api) -> Option<Check> {
    Some(match api.deps.redis.as_ref()?.rests() {
        false => pass("Redis answers"),
        true => warn("Redis does not answer; memory of this instance stands in"),
    })
}

/// Nothing where no NATS is set.
fn nats(api: &Api) -> Option<Check> {
    Some(match api.deps.bus.is_open()? {
        true => pass("NATS answers"),
        false => {
            warn("NATS does not answer; events wait in the store, instances look by themselves")
        }
    })
}

/// Where records wait while the store is away.
fn filesystem(data: &Path) -> Check {
    let writable = |found: &std::fs::Metadata| found.is_dir() && !found.permissions().readonly();
    match std::fs::metadata(data) {
        Ok(found) if writable(&found) => pass("the data folder may be written"),
        Ok(_) => fail("paths.data is no folder that may be written"),
        Err(error) => fail(format!("paths.data cannot be read: {}", error.kind())),
    }
}

fn environment(api: &Api) -> Check {
    let env = api.deps.settings.env.name();
    pass(format!("{env}, version {}", env!("CARGO_PKG_VERSION")))
}

/// What serves is in memory; but what is missing here is not what the next start finds.
fn required_files(api: &Api) -> Check {
    let paths = &api.deps.settings.paths;
    let each = [("detectors", &paths.detectors), ("policies", &paths.policies)];
    let missing: Vec<&str> =
        each.iter().filter(|(_, path)| !path.is_dir()).map(|(name, _)| *name).collect();
    match missing.as_slice() {
        [] => pass("detectors and policies are in their folders"),
        missing => pass(format!("the copies inside the program serve as {}", missing.join(", "))),
    }
}

/// Half of the serving threads must wake; one that has nothing to do does.
fn workers(api: &Api) -> Check {
    let views = api.workers.views();
    let stuck = views.iter().filter(|worker| worker.stuck).count();
    match stuck * 2 > views.len() {
        false => pass("most serving threads work"),
        true => warn("most serving threads are stuck"),
    }
}

fn queue(api: &Api) -> Check {
    match api.deps.metrics.totals().waiting < QUEUE_LONG {
        true => pass(format!("less than {QUEUE_LONG} requests wait")),
        false => warn(format!("{QUEUE_LONG} requests or more wait")),
    }
}

fn errors(api: &Api) -> Check {
    let recent = api.workers.views().into_iter().map(|worker| worker.recent);
    let (requests, errors) =
        recent.fold((0, 0), |(r, e), counts| (r + counts.requests, e + counts.errors));
    match errors as f64 >= ERRORS_MANY * requests as f64 && errors > 0 {
        false => pass("less than a tenth of recent requests failed"),
        true => warn("a tenth or more of recent requests failed"),
    }
}
