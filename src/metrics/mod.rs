//! The documented list of metrics and one typed method to record each.
//!
//! Labels come from enums, configured names or bounded sets, so that no caller can make series.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use prometheus::Error as MetricsError;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry, TextEncoder,
};

use crate::domain::action::Action;
use crate::domain::category::TREE;
use crate::domain::event::EventType;
use crate::domain::job::JobState;
use crate::domain::report::{ReportError, Status};
use crate::domain::request::Priority;

mod bounded;
mod labels;
mod list;
mod process;
#[cfg(test)]
mod tests;
mod totals;

use bounded::{Names, Pairs};
pub use labels::{
    BreakerState, ConfigKind, Dependency, DetectorGauges, Discovery, Idempotent, Letter, Part,
    Routed, Shed, Violation, Webhook,
};
use list::Families;
pub use list::{FAMILIES, Family};
pub use totals::Totals;

/// Distinct `tenant` labels; the rest is `other`.
const TENANTS_MAX: usize = 20;
/// Distinct `policy` labels; the rest is `other`.
const POLICIES_MAX: usize = 10;
/// Distinct pairs of both; of a further pair the policy is `other`.
const PAIRS_MAX: usize = 60;

/// The `detector` label of all that tenants registered; no detector can have this name.
pub const REGISTERED: &str = "(registered)";

/// All metrics of one process. Cheap to share, safe from any thread.
pub struct Metrics {
    registry: Registry,
    families: Families,
    tenants: Names,
    policies: Names,
    pairs: Pairs,
    /// Detectors whose gauges are shown.
    shown: Mutex<BTreeSet<String>>,
}

impl Metrics {
    /// A registry of its own; `tenant_labels` are the tenants that keep their name in labels, at
    /// most 20, or else the first 20 seen do. `revision` is the source revision of this build.
    pub fn new(tenant_labels: &[String], revision: &str) -> Result<Metrics, MetricsError> {
        let registry = Registry::new();
        let families = Families::registered(&registry)?;
        registry.register(Box::new(process::Process::new()?))?;
        families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), revision]).set(1.0);
        // Nobody waits, which is to be seen as well.
        for priority in Priority::ALL {
            families.queue_depth.with_label_values(&[priority.name()]).set(0.0);
        }
        let tenants = Names::new(tenant_labels, TENANTS_MAX);
        let (policies, pairs) = (Names::new(&[], POLICIES_MAX), Pairs::new(PAIRS_MAX));
        Ok(Metrics { registry, families, tenants, policies, pairs, shown: Mutex::default() })
    }

    /// The Prometheus text format.
    pub fn render(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// One decision.
    pub fn decision(&self, tenant: &str, policy: &str, action: Action, complete: bool) {
        self.tenants.with(tenant, |tenant| {
            self.policies.with(policy, |policy| {
                let policy = self.pairs.second(tenant, policy);
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

    /// Whether a dependency answers.
    pub fn dependency(&self, dependency: Dependency, up: bool) {
        let value = f64::from(u8::from(up));
        self.families.dependency_up.with_label_values(&[dependency.name()]).set(value);
    }

    /// One look, value or count of a rate that memory of this instance stood in for.
    pub fn redis_fallback(&self) {
        self.families.redis_fallback_total.inc();
    }

    /// One request that waited for another's call.
    pub fn coalesced(&self) {
        self.families.coalesced_requests_total.inc();
    }

    /// One request under an idempotency key.
    pub fn idempotent(&self, result: Idempotent) {
        self.families.idempotent_requests_total.with_label_values(&[result.name()]).inc();
    }

    /// How everyone's detectors fare; what others said of themselves before is forgotten.
    pub fn detectors(&self, all: &[DetectorGauges<'_>]) {
        let families = &self.families;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let now = all.iter().map(|one| one.name.to_owned()).collect();
        for gone in std::mem::replace(&mut *shown, now).difference(&shown) {
            for state in BreakerState::ALL.iter().copied() {
                // Absent already is as good as removed.
                let labels = [gone.as_str(), state.name()];
                let _ = families.detector_breaker_state.remove_label_values(&labels);
            }
            let _ = families.service_health_status.remove_label_values(&[gone]);
        }
        for part in Part::ALL.iter().copied() {
            let count = all.iter().filter(|one| one.part == part).count();
            families.discovered_services.with_label_values(&[part.name()]).set(count as f64);
        }
        for one in all {
            for state in BreakerState::ALL.iter().copied() {
                let value = f64::from(u8::from(one.breaker == state));
                let labels = [one.name, state.name()];
                families.detector_breaker_state.with_label_values(&labels).set(value);
            }
            let health = &families.service_health_status;
            match one.health {
                Some(value) => health.with_label_values(&[one.name]).set(value),
                None => drop(health.remove_label_values(&[one.name])),
            }
        }
    }

    /// One probe of a detector's health address.
    pub fn health_check(&self, detector: &str, status: &'static str, took: Duration) {
        let families = &self.families;
        families.health_checks_total.with_label_values(&[detector, status]).inc();
        let seconds = took.as_secs_f64();
        families.health_check_duration_seconds.with_label_values(&[detector]).observe(seconds);
    }

    /// A detector came or went.
    pub fn discovery(&self, detector: &str, action: Discovery) {
        let labels = [detector, action.name()];
        self.families.service_discoveries_total.with_label_values(&labels).inc();
    }

    /// One detector of a plan, by what became of its call.
    pub fn routed(&self, detector: &str, status: Routed) {
        self.families.routing_total.with_label_values(&[detector, status.name()]).inc();
    }

    /// One call that had its turn after `waited`.
    pub fn turn(&self, detector: &str, waited: Duration) {
        let turns = &self.families.routing_duration_seconds;
        turns.with_label_values(&[detector]).observe(waited.as_secs_f64());
    }

    /// One decision that keeps something from somebody; any other counts nothing.
    pub fn enforcement(&self, tenant: &str, action: Action, why: Violation) {
        if action >= Action::Redact {
            self.tenants.with(tenant, |tenant| {
                let labels = [tenant, action.name(), why.name()];
                self.families.policy_enforcement_total.with_label_values(&labels).inc();
            });
        }
    }

    /// Findings of one detector in one category; categories outside the tree become `other`.
    pub fn findings(&self, detector: &str, category: &str, count: u64) {
        let category = if TREE.contains(&category) { category } else { "other" };
        self.families.findings_total.with_label_values(&[detector, category]).inc_by(count);
    }

    /// One verification of a decision's evidence.
    pub fn evidence_verification(&self, took: Duration) {
        self.families.evidence_verification_seconds.observe(took.as_secs_f64());
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
        let (kind, families) = (kind.name(), &self.families);
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

    /// Records that wait for the store in memory.
    pub fn evidence_queue(&self, rows: u64) {
        self.families.evidence_queue_rows.set(rows as f64);
    }

    /// Bytes of the spool.
    pub fn evidence_spool(&self, bytes: u64) {
        self.families.evidence_spool_bytes.set(bytes as f64);
    }

    /// Bytes of records that only memory has.
    pub fn evidence_held(&self, bytes: u64) {
        self.families.evidence_held_bytes.set(bytes as f64);
    }

    /// Records that are nowhere.
    pub fn evidence_lost(&self, rows: u64) {
        self.families.evidence_lost_total.inc_by(rows);
    }

    /// So many more tasks on a serving thread, or fewer.
    pub fn tasks(&self, change: f64) {
        self.families.tasks.add(change);
    }

    /// So many more jobs are carried out here, or fewer.
    pub fn jobs_active(&self, change: f64) {
        self.families.jobs_active.add(change);
    }

    /// Jobs that wait, of all instances.
    pub fn jobs_waiting(&self, queued: u64) {
        self.families.jobs_queued.set(queued as f64);
    }

    /// Dead letters of all instances.
    pub fn dead_letters(&self, of: Letter, count: u64) {
        self.families.dlq_depth.with_label_values(&[of.name()]).set(count as f64);
    }

    /// One telling of the end of a job.
    pub fn webhook(&self, result: Webhook) {
        self.families.webhooks_total.with_label_values(&[result.name()]).inc();
    }

    /// One job that came to its end, so long after it was taken in.
    pub fn job_ended(&self, state: JobState, took: Duration) {
        self.families.jobs_completed_total.with_label_values(&[state.name()]).inc();
        self.families.job_duration_seconds.observe(took.as_secs_f64());
    }

    /// One event that the bus took.
    pub fn event_published(&self, event_type: EventType) {
        self.families.events_published_total.with_label_values(&[event_type.name()]).inc();
    }

    /// One event that `handler` took.
    pub fn event_handled(&self, event_type: EventType, handler: &'static str) {
        let labels = [event_type.name(), handler];
        self.families.events_handled_total.with_label_values(&labels).inc();
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
