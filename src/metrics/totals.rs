//! Sums over what was recorded since the start, for those who ask without a Prometheus.

use prometheus::core::Collector;
use prometheus::proto::Metric;

use super::Metrics;

/// What this instance did since its start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Requests that were judged, each of a batch for itself.
    pub decisions: u64,
    /// Requests to judge something that ended in 5xx; shed ones are not among them.
    pub errors: u64,
    /// Decisions that waited for a detector call of another request.
    pub coalesced: u64,
    /// Decisions from what detectors said before.
    pub cache_hits: u64,
    /// Looks that found nothing.
    pub cache_misses: u64,
    /// Decisions that must not look: critical ones, and those of `no-store`.
    pub bypasses: u64,
    /// Requests that wait for their turn now.
    pub waiting: u64,
}

/// Where content is judged.
const JUDGING: [&str; 2] = ["/api/v1/orchestrate", "/api/v1/orchestrate/batch"];

impl Metrics {
    /// What was recorded so far.
    pub fn totals(&self) -> Totals {
        let families = &self.families;
        let looked = |result: &str| {
            let is = |metric: &Metric| {
                label(metric, "operation") == "get" && label(metric, "result") == result
            };
            counted(&families.cache_operations_total, is)
        };
        let failed = |metric: &Metric| {
            let code = label(metric, "code");
            JUDGING.contains(&label(metric, "route")) && code.starts_with('5') && code != "503"
        };
        Totals {
            decisions: counted(&families.decisions_total, |_| true),
            errors: counted(&families.http_requests_total, failed),
            coalesced: families.coalesced_requests_total.get(),
            cache_hits: looked("hit"),
            cache_misses: looked("miss"),
            bypasses: looked("bypass"),
            waiting: each(&families.queue_depth, |_| true, |m| m.get_gauge().get_value()) as u64,
        }
    }
}

fn counted(family: &impl Collector, is: impl Fn(&Metric) -> bool) -> u64 {
    each(family, is, |metric| metric.get_counter().get_value()) as u64
}

fn each(
    family: &impl Collector,
    is: impl Fn(&Metric) -> bool,
    value: impl Fn(&Metric) -> f64,
) -> f64 {
    let families = family.collect();
    let metrics = families.iter().flat_map(|family| family.get_metric());
    metrics.filter(|metric| is(metric)).map(value).sum()
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    let found = metric.get_label().iter().find(|pair| pair.name() == name);
    found.map_or("", |pair| pair.value())
}
