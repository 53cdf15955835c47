//! The documented list of metrics and one typed method to record each.
//!
//! Labels come from enums, configured names or bounded sets, so that no caller can make series.

use std::time::Duration;

pub use prometheus::Error as MetricsError;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry, TextEncoder,
};

use crate::domain::action::Action;
use crate::domain::category::TREE;
use crate::domain::report::{ReportError, Status};
use crate::domain::request::Priority;

mod bounded;
mod list;
mod process;
#[cfg(test)]
mod tests;

use bounded::Names;
use list::Families;
pub use list::{FAMILIES, Family};

/// Distinct `tenant` labels; the rest is `other`.
const TENANTS_MAX: usize = 20;
/// Distinct `policy` labels; the rest is `other`.
const POLICIES_MAX: usize = 8;

/// The `detector` label of all that tenants registered; no detector can have this name.
pub const REGISTERED: &str = "(registered)";

/// Breaker states as labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// No calls.
    Open,
    /// One call tries.
    HalfOpen,
}

/// Why a request was refused by a service at its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// As many wait as may, and none is less urgent.
    QueueFull,
    /// Its turn did not come in time.
    Deadline,
    /// Too many bytes of bodies are held for one of its size.
    Memory,
}

impl Shed {
    /// The label.
    pub fn name(self) -> &'static str {
        match self {
            Shed::QueueFull => "queue_full",
            Shed::Deadline => "deadline",
            Shed::Memory => "memory",
        }
    }
}

/// Which part of the configuration was reloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigKind {
    /// Detector files.
    Detectors,
    /// Policies.
    Policies,
    /// Tenant files.
    Tenants,
    /// Strategies.
    Strategies,
}

impl ConfigKind {
    /// Every kind.
    pub const ALL: [ConfigKind; 4] =
        [ConfigKind::Detectors, ConfigKind::Policies, ConfigKind::Tenants, ConfigKind::Strategies];
}

/// All metrics of one process. Cheap to share, safe from any thread.
pub struct Metrics {
    registry: Registry,
    families: Families,
    tenants: Names,
    policies: Names,
}

impl Metrics {
    /// A registry of its own; `tenant_labels` are the tenants that keep their name in labels, at
    /// most 20, or else the first 20 seen do. `revision` is the source revision of this build.
    pub fn new(tenant_labels: &[String], revision: &str) -> Result<Metrics, MetricsError> {
        let registry = Registry::new();
        let families = Families::registered(&registry)?;
        registry.register(Box::new(process::Process::new()?))?;
        families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), revision]).set(1.0);
        let tenants = Names::new(tenant_labels, TENANTS_MAX);
        Ok(Metrics { registry, families, tenants, policies: Names::new(&[], POLICIES_MAX) })
    }

    /// The Prometheus text format.
    pub fn render(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// One decision.
    pub fn decision(&self, tenant: &str, policy: &str, action: Action, complete: bool) {
        self.tenants.with(tenant, |tenant| {
            self.policies.with(policy, |policy| {
                let labels = [tenant, policy, action.name(), flag(complete)];
                self.families.decisions_total.with_label_values(&labels).inc();
            });
        });
    }

    /// One answered HTTP request; `route` is the pattern, never the path.
    pub fn http_request(&self, route: &str, method: &str, code: &str, took: Duration) {
        let labels = [route, method_name(method), code];
        self.families.http_requests_total.with_label_values(&labels).inc();
        let seconds = took.as_secs_f64();
        self.families.http_request_duration_seconds.with_label_values(&[route]).observe(seconds);
    }

    /// Bytes of one request body.
    pub fn payload(&self, bytes: usize) {
        self.families.payload_size_bytes.observe(bytes as f64);
    }

    /// Own time of one orchestration: all less the slowest required detector.
    pub fn overhead(&self, took: Duration) {
        self.families.overhead_seconds.observe(took.as_secs_f64());
    }

    /// One detector's report; `took` is `None` where nothing was sent.
    pub fn detector_call(
        &self,
        detector: &str,
        version: &str,
        (status, error): (Status, Option<ReportError>),
        took: Option<Duration>,
    ) {
        let families = &self.families;
        let labels = [detector, version, status.name(), error.map_or("", ReportError::name)];
        families.detector_calls_total.with_label_values(&labels).inc();
        families.requests_total.with_label_values(&[detector, status.name()]).inc();
        if let Some(took) = took {
            let seconds = took.as_secs_f64();
            families.detector_duration_seconds.with_label_values(&[detector]).observe(seconds);
            families.request_duration_seconds.with_label_values(&[detector]).observe(seconds);
        }
    }

    /// One look into a cache, or one value put in.
    pub fn cache_operation(
        &self,
        cache: &'static str,
        operation: &'static str,
        result: &'static str,
    ) {
        let labels = [cache, operation, result];
        self.families.cache_operations_total.with_label_values(&labels).inc();
    }

    /// One request that waited for another's call.
    pub fn coalesced(&self) {
        self.families.coalesced_requests_total.inc();
    }

    /// The breaker's state, one-hot.
    pub fn breaker(&self, detector: &str, state: BreakerState) {
        for (name, one) in [
            ("closed", BreakerState::Closed),
            ("open", BreakerState::Open),
            ("half_open", BreakerState::HalfOpen),
        ] {
            let value = f64::from(u8::from(one == state));
            self.families.detector_breaker_state.with_label_values(&[detector, name]).set(value);
        }
    }

    /// Forgets the gauges of a detector that is gone.
    pub fn forget_detector(&self, detector: &str) {
        for state in ["closed", "open", "half_open"] {
            // Absent already is as good as removed.
            let _ = self.families.detector_breaker_state.remove_label_values(&[detector, state]);
        }
    }

    /// Findings of one detector in one category; categories outside the tree become `other`.
    pub fn findings(&self, detector: &str, category: &str, count: u64) {
        let category = if TREE.contains(&category) { category } else { "other" };
        self.families.findings_total.with_label_values(&[detector, category]).inc_by(count);
    }

    /// Coverage reached by one orchestration, 0..=1.
    pub fn coverage(&self, achieved: f64) {
        self.families.coverage_ratio.observe(achieved);
    }

    /// One gap.
    pub fn unjudged(&self, reason: &'static str) {
        self.families.unjudged_total.with_label_values(&[reason]).inc();
    }

    /// One evaluation of a policy point.
    pub fn policy_eval(&self, point: &'static str, took: Duration) {
        self.families.policy_eval_seconds.with_label_values(&[point]).observe(took.as_secs_f64());
    }

    /// One failed evaluation.
    pub fn policy_error(&self, point: &'static str, kind: &'static str) {
        self.families.policy_errors_total.with_label_values(&[point, kind]).inc();
    }

    /// One look into the memo.
    pub fn policy_memo(&self, point: &'static str, hit: bool) {
        let result = if hit { "hit" } else { "miss" };
        self.families.policy_memo_total.with_label_values(&[point, result]).inc();
    }

    /// One reload; `at` is seconds since 1970.
    pub fn config_reload(&self, kind: ConfigKind, succeeded: bool, at: f64) {
        let kind = match kind {
            ConfigKind::Detectors => "detectors",
            ConfigKind::Policies => "policies",
            ConfigKind::Tenants => "tenants",
            ConfigKind::Strategies => "strategies",
        };
        let families = &self.families;
        let result = if succeeded { "success" } else { "failure" };
        families.config_reload_total.with_label_values(&[kind, result]).inc();
        let value = f64::from(u8::from(succeeded));
        families.config_last_reload_successful.with_label_values(&[kind]).set(value);
        if succeeded {
            let stamp = &families.config_last_reload_success_timestamp_seconds;
            stamp.with_label_values(&[kind]).set(at);
        }
    }

    /// The serving snapshot; earlier revisions disappear.
    pub fn snapshot(&self, revision: &str, broken_overlays: usize) {
        self.families.policy_overlays_broken.set(broken_overlays as f64);
        self.families.snapshot_info.reset();
        self.families.snapshot_info.with_label_values(&[revision]).set(1.0);
    }

    /// One envelope that looks like an attack of `kind`.
    pub fn security_violation(&self, kind: &'static str) {
        self.families.security_violations_total.with_label_values(&[kind]).inc();
    }

    /// One request that was refused by a limit; `tenant` is empty where it is not known.
    pub fn rate_limit_exceeded(&self, tenant: &str) {
        let count = |tenant: &str| {
            self.families.rate_limit_exceeded_total.with_label_values(&[tenant]).inc();
        };
        // No tenant must not take a tenant's label.
        if tenant.is_empty() { count(tenant) } else { self.tenants.with(tenant, count) }
    }

    /// So many more requests wait to be judged, or fewer.
    pub fn queue_depth(&self, priority: Priority, change: f64) {
        self.families.queue_depth.with_label_values(&[priority.name()]).add(change);
    }

    /// One request that was refused because the service is at its limit.
    pub fn shed(&self, priority: Option<Priority>, reason: Shed) {
        let labels = [priority.map_or("", Priority::name), reason.name()];
        self.families.shed_total.with_label_values(&labels).inc();
    }

    /// How evenly tenants are served, 0..=1.
    pub fn fairness(&self, index: f64) {
        self.families.fairness_index.set(index);
    }

    /// So many more tasks on a serving thread, or fewer.
    pub fn tasks(&self, change: f64) {
        self.families.tasks.add(change);
    }

    /// One panic that was caught.
    pub fn panicked(&self) {
        self.families.panics_total.inc();
    }

    /// Detectors in the serving snapshot.
    pub fn active_services(&self, count: usize) {
        self.families.active_services.set(count as f64);
    }
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn method_name(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "other",
    }
}
