//! The list itself: name, type, labels, help, buckets. docs/metrics.md is made from it.

use super::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry,
};

/// What the documentation says of one metric.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// With its prefix.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Label names in order.
    pub labels: &'static [&'static str],
    /// What is counted, in which unit.
    pub help: &'static str,
    /// Upper bounds of a histogram.
    pub buckets: &'static [f64],
}

const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Of what has many series.
const ROUTE_SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0];
const WAIT_SECONDS: &[f64] = &[0.0001, 0.001, 0.01, 0.1, 1.0];
const PROBE_SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
const SHORT_SECONDS: &[f64] =
    &[0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25];
const LONG_SECONDS: &[f64] = &[0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21600.0, 86400.0];
const BYTES: &[f64] = &[256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 10485760.0];
const RATIO: &[f64] = &[0.0, 0.25, 0.5, 0.75, 0.8, 0.9, 0.95, 0.99, 1.0];

/// A metric that can be made from its entry in the list.
trait Listed: Sized + Clone + prometheus::core::Collector + 'static {
    const KIND: &'static str;
    fn listed(family: &Family) -> Result<Self, prometheus::Error>;
}

macro_rules! listed {
    ($($type:ty, $kind:literal, |$family:ident| $make:expr;)*) => {$(
        impl Listed for $type {
            const KIND: &'static str = $kind;
            fn listed($family: &Family) -> Result<Self, prometheus::Error> { $make }
        }
    )*};
}

listed! {
    IntCounter, "counter", |f| IntCounter::with_opts(Opts::new(f.name, f.help));
    IntCounterVec, "counter", |f| IntCounterVec::new(Opts::new(f.name, f.help), f.labels);
    Gauge, "gauge", |f| Gauge::with_opts(Opts::new(f.name, f.help));
    GaugeVec, "gauge", |f| GaugeVec::new(Opts::new(f.name, f.help), f.labels);
    Histogram, "histogram", |f| {
        Histogram::with_opts(HistogramOpts::new(f.name, f.help).buckets(f.buckets.to_vec()))
    };
    HistogramVec, "histogram", |f| {
        let options = HistogramOpts::new(f.name, f.help).buckets(f.buckets.to_vec());
        HistogramVec::new(options, f.labels)
    };
}

macro_rules! families {
    ($($name:ident: $type:ty, [$($label:literal),*], $buckets:expr, $help:literal;)*) => {
        /// Every metric but `process_*`, in the order of the documentation.
        pub const FAMILIES: &[Family] = &[$(Family {
            name: concat!("orchestrator_", stringify!($name)),
            kind: <$type as Listed>::KIND,
            labels: &[$($label),*],
            help: $help,
            buckets: $buckets,
        },)*];

        pub(super) struct Families { $(pub(super) $name: $type,)* }

        impl Families {
            pub(super) fn registered(registry: &Registry) -> Result<Self, prometheus::Error> {
                let mut list = FAMILIES.iter();
                Ok(Families { $($name: register::<$type>(registry, list.next())?,)* })
            }
        }
    };
}

families! {
    decisions_total: IntCounterVec, ["tenant", "policy", "action", "complete"], &[], "Decisions given.";
    http_requests_total: IntCounterVec, ["route", "method", "code"], &[], "HTTP requests answered.";
    http_request_duration_seconds: HistogramVec, ["route"], ROUTE_SECONDS, "Time from head to answer in seconds.";
    payload_size_bytes: Histogram, [], BYTES, "Size of request bodies in bytes.";
    overhead_seconds: Histogram, [], SHORT_SECONDS, "Own time of one orchestration in seconds, without the slowest required detector.";
    detector_calls_total: IntCounterVec, ["detector", "version", "status", "error"], &[], "Reports by detector; error is empty where there is none.";
    detector_duration_seconds: HistogramVec, ["detector"], SECONDS, "Time of detector calls in seconds, retries included.";
    requests_total: IntCounterVec, ["service_name", "status"], &[], "Reports by detector, under the name of the first release.";
    request_duration_seconds: HistogramVec, ["service_name"], SECONDS, "Time of detector calls in seconds, under the name of the first release.";
    routing_total: IntCounterVec, ["service_name", "status"], &[], "Detectors that a plan named and that were sent a call, joined another request's, or were refused one.";
    routing_duration_seconds: HistogramVec, ["service_name"], WAIT_SECONDS, "Time that a call waited for its turn at the detector in seconds.";
    health_checks_total: IntCounterVec, ["service_name", "status"], &[], "Probes of health addresses; healthy, degraded or unhealthy.";
    health_check_duration_seconds: HistogramVec, ["service_name"], PROBE_SECONDS, "Time of probes in seconds.";
    service_health_status: GaugeVec, ["service_name"], &[], "1 healthy, 0.5 degraded, 0 unhealthy; absent before the first probe.";
    service_discoveries_total: IntCounterVec, ["service_name", "action"], &[], "Detectors that began or ceased to serve (registered, unregistered), or said who they are (discovered).";
    discovered_services: GaugeVec, ["status"], &[], "Everyone's detectors by part taken: active, pending, shadow.";
    active_services: Gauge, [], &[], "Everyone's detectors in the serving snapshot.";
    cache_operations_total: IntCounterVec, ["cache", "operation", "result"], &[], "Looks into caches, and values put in.";
    dependency_up: GaugeVec, ["dependency"], &[], "1 while the dependency answers, else 0.";
    redis_fallback_total: IntCounter, [], &[], "Looks into the cache, values and counts of rates that memory of this instance stood in for.";
    coalesced_requests_total: IntCounter, [], &[], "Requests that waited for a detector call of another request.";
    idempotent_requests_total: IntCounterVec, ["result"], &[], "Requests under an idempotency key; those of a batch count each, and the batch too.";
    detector_breaker_state: GaugeVec, ["detector", "state"], &[], "1 for the breaker's state, 0 for the others.";
    findings_total: IntCounterVec, ["detector", "category"], &[], "Findings that count.";
    coverage_ratio: Histogram, [], RATIO, "Coverage reached, 0 to 1.";
    unjudged_total: IntCounterVec, ["reason"], &[], "Gaps: what nobody or not everyone required has judged.";
    policy_eval_seconds: HistogramVec, ["point"], SHORT_SECONDS, "Time of policy evaluations in seconds, memo hits excluded.";
    policy_errors_total: IntCounterVec, ["point", "kind"], &[], "Failed policy evaluations.";
    policy_overlays_broken: Gauge, [], &[], "Stored overlays that do not fit the files, so that their tenants' modes decide.";
    policy_enforcement_total: IntCounterVec, ["tenant", "action", "violation_type"], &[], "Decisions to redact, review or block: for findings, for what a rule says without one, for incomplete coverage, for a policy that failed.";
    policy_memo_total: IntCounterVec, ["point", "result"], &[], "Looks into the policy memo.";
    config_last_reload_successful: GaugeVec, ["kind"], &[], "1 if the last reload succeeded, else 0.";
    config_last_reload_success_timestamp_seconds: GaugeVec, ["kind"], &[], "When the last successful reload ended, in seconds since 1970.";
    config_reload_total: IntCounterVec, ["kind", "result"], &[], "Reloads.";
    snapshot_info: GaugeVec, ["revision"], &[], "1 for the revision that serves.";
    build_info: GaugeVec, ["version", "revision"], &[], "1 for the program that runs.";
    security_violations_total: IntCounterVec, ["violation_type"], &[], "Envelopes of requests that look like an attack, blocked or not.";
    rate_limit_exceeded_total: IntCounterVec, ["tenant"], &[], "Requests refused by a rate, a quota or for want of a place; tenant is empty where only the key was known.";
    queue_depth: GaugeVec, ["priority"], &[], "Requests that wait to be judged.";
    shed_total: IntCounterVec, ["priority", "reason"], &[], "Requests refused because the service is at its limit; priority is empty where the body was not read.";
    fairness_index: Gauge, [], &[], "Jain's index over what tenants had judged this hour for their weight, 0 to 1.";
    evidence_queue_rows: Gauge, [], &[], "Records of decisions that wait for the store in memory.";
    evidence_spool_bytes: Gauge, [], &[], "Bytes of the file in which records wait while the store is away.";
    evidence_held_bytes: Gauge, [], &[], "Bytes of records that only memory has: neither the store nor the file takes them.";
    evidence_lost_total: IntCounter, [], &[], "Records of decisions that are nowhere; each one's answer was given.";
    events_published_total: IntCounterVec, ["event_type"], &[], "Events handed over to the bus, and without one read from the store.";
    events_handled_total: IntCounterVec, ["event_type", "handler"], &[], "Events that a handler of this process took.";
    tasks: Gauge, [], &[], "Tasks on the serving threads, those of connections to detectors among them; 100 ms old.";
    evidence_verification_seconds: Histogram, [], SHORT_SECONDS, "Time of one verification of a decision's evidence in seconds.";
    jobs_active: Gauge, [], &[], "Jobs that this instance carries out now.";
    jobs_queued: Gauge, [], &[], "Jobs of all instances that wait, at most 5 s ago.";
    jobs_completed_total: IntCounterVec, ["state"], &[], "Jobs that came to their end here, by its kind.";
    job_duration_seconds: Histogram, [], LONG_SECONDS, "Time from taking a job in to its end in seconds.";
    dlq_depth: GaugeVec, ["kind"], &[], "Dead letters of all instances, at most 5 s ago: jobs that were given up, webhooks told in vain.";
    webhooks_total: IntCounterVec, ["result"], &[], "Ends of jobs told at their callbacks by this instance: taken, told again later, or dead.";
    panics_total: IntCounter, [], &[], "Panics caught.";
}

fn register<M: Listed>(
    registry: &Registry,
    family: Option<&Family>,
) -> Result<M, prometheus::Error> {
    let family = family.ok_or_else(|| prometheus::Error::Msg("the list is short".into()))?;
    let metric = M::listed(family)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
