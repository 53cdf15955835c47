//! What the service did since its start, in figures.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::web::{self, Data, ServiceConfig};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, at, json, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query};
use crate::api::workers::WorkerView;
use crate::domain::performance::Efficiency;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/performance")).route(web::get().to(performance)));
}

/// Figures of this instance since its start.
#[derive(Debug, Serialize, ToSchema)]
pub struct Performance {
    /// Of all tenants together; absent for a tenant's credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestrator_metrics: Option<OrchestratorMetrics>,
    /// By serving thread; empty for a tenant's credential.
    pub worker_stats: BTreeMap<String, WorkerStats>,
    /// closed, open or half_open by detector, as far as the caller sees them.
    pub circuit_breaker_states: BTreeMap<String, &'static str>,
    /// What the figures may be held against.
    pub performance_targets: Targets,
}

/// Figures over everything.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrchestratorMetrics {
    /// Requests that were judged, each of a batch for itself, or failed.
    pub total_requests: u64,
    /// Those that waited for a detector call of another request.
    pub coalesced_requests: u64,
    /// Of all, 0 to 1.
    pub coalescing_rate: f64,
    /// Those from what detectors said before.
    pub cache_hits: u64,
    /// Of all that looked, 0 to 1.
    pub cache_hit_rate: f64,
    /// How often breakers opened by themselves.
    pub circuit_trips: u64,
    /// Requests that ended in 5xx without being shed, of all, 0 to 1.
    pub error_rate: f64,
    /// Mean time of a call of the routes that judge, in milliseconds.
    pub avg_latency_ms: f64,
    /// Mean requests a second.
    pub throughput_rps: f64,
    /// Requests that wait for their turn now.
    pub queue_depth: u64,
    /// Requests that are judged now.
    pub active_workers: usize,
    /// As many may be.
    pub max_workers: usize,
    /// 0.4 coalesced, 0.3 without error, 0.2 urgent ones that bypassed the cache, 0.1 rate; 0 to 1.
    pub efficiency_score: f64,
    /// Seconds since the start.
    pub uptime_seconds: f64,
}

/// One serving thread.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkerStats {
    /// Calls of the routes that judge.
    pub requests_processed: u64,
    /// Moving mean of their time in milliseconds: nine tenths before, one tenth the last.
    pub avg_latency_ms: f64,
    /// When the last one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<String>,
}

/// Shares, and how many times faster than without.
#[derive(Debug, Serialize, ToSchema)]
pub struct Targets {
    /// Of requests.
    pub coalescing_rate: f64,
    /// Times the throughput without coalescing.
    pub throughput_gain: f64,
    /// Of the latency without caches.
    pub latency_reduction: f64,
    /// Of answers that looked.
    pub cache_hit_rate: f64,
}

const TARGETS: Targets = Targets {
    coalescing_rate: 0.60,
    throughput_gain: 2.5,
    latency_reduction: 0.40,
    cache_hit_rate: 0.85,
};

/// Figures of this instance.
#[utoipa::path(get, path = "/api/v1/performance", tag = "live", operation_id = "performance",
    extensions(("x-stability" = json!("experimental"))),
    responses((status = 200, body = Performance)))]
pub(crate) async fn performance(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let (sees, everyone) = (api.sees(&caller), caller.tenant.is_none());
    let breakers = api.deps.detectors.breakers();
    let shared = breakers.iter().filter(|view| view.private_to.is_none());
    let mut states = BTreeMap::new();
    for view in shared.clone().filter(|view| sees(view.name.as_str())) {
        let known = states.entry(view.name.to_string()).or_insert("closed");
        if view.state.name() != "closed" {
            *known = view.state.name();
        }
    }
    let workers = if everyone { api.workers.views() } else { Vec::new() };
    let trips = shared.map(|view| view.stats.trips).sum();
    json(&Performance {
        orchestrator_metrics: everyone.then(|| overall(&api, &workers, trips)),
        worker_stats: workers.iter().enumerate().map(|(n, w)| (n.to_string(), of(w))).collect(),
        circuit_breaker_states: states,
        performance_targets: TARGETS,
    })
}

fn of(worker: &WorkerView) -> WorkerStats {
    WorkerStats {
        requests_processed: worker.requests,
        avg_latency_ms: worker.mean_ms,
        last_activity: worker.last.map(|at| format!("{at:.3}")),
    }
}

fn overall(api: &Api, workers: &[WorkerView], circuit_trips: u64) -> OrchestratorMetrics {
    let totals = api.deps.metrics.totals();
    let total = totals.decisions + totals.errors;
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let uptime = api.workers.uptime().as_secs_f64();
    let rps = total as f64 / uptime.max(1e-3);
    let calls: u64 = workers.iter().map(|worker| worker.requests).sum();
    let took: Duration = workers.iter().map(|worker| worker.took).sum();
    let (active_workers, max_workers) = api.admission.busy();
    let efficiency = Efficiency {
        total,
        coalesced: totals.coalesced,
        errors: totals.errors,
        bypasses: totals.bypasses,
        rps,
    };
    OrchestratorMetrics {
        total_requests: total,
        coalesced_requests: totals.coalesced,
        coalescing_rate: share(totals.coalesced, total),
        cache_hits: totals.cache_hits,
        cache_hit_rate: share(totals.cache_hits, totals.cache_hits + totals.cache_misses),
        circuit_trips,
        error_rate: share(totals.errors, total),
        avg_latency_ms: took.as_secs_f64() * 1e3 / calls.max(1) as f64,
        throughput_rps: rps,
        queue_depth: totals.waiting,
        active_workers,
        max_workers,
        efficiency_score: efficiency.score(),
        uptime_seconds: uptime,
    }
}
