//! How often, how long and how many at once: the numbers of a detector file.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use http::uri::PathAndQuery;
use serde::Deserialize;

use crate::catalog::detector::{Bulkhead, Health, Retry};
use crate::operations::breaker::{BreakerMode, BreakerSpec};
use crate::yaml::{Fields, Span};

/// Longest time that a breaker stays open.
const OPEN_MAX: Duration = Duration::from_secs(300);

/// What the file says about calls.
pub(super) struct Limits {
    pub(super) retry: Retry,
    pub(super) breaker: BreakerSpec,
    pub(super) bulkhead: Bulkhead,
    pub(super) hedge: Option<Duration>,
    pub(super) throttle: Option<NonZeroU32>,
    pub(super) health: Health,
    pub(super) batch: Option<NonZeroUsize>,
    pub(super) batch_delay: Duration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BatchEntry {
    max_items: Option<NonZeroUsize>,
    max_delay: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RetryEntry {
    attempts: u32,
    backoff: Span,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BreakerEntry {
    mode: BreakerMode,
    failures: u32,
    window: Span,
    failure_ratio: f64,
    open_for: Span,
    probes: u32,
    slow_call: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BulkheadEntry {
    max_in_flight: usize,
    queue: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HedgeEntry {
    after: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ThrottleEntry {
    bytes_per_second: NonZeroU32,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HealthEntry {
    path: String,
    interval: Span,
    timeout: Span,
    unhealthy_after: u32,
    healthy_after: u32,
}

/// The longest time a key may hold.
const DAY_MS: f64 = 86_400_000.0;

fn millis(span: Span) -> f64 {
    span.0.as_millis() as f64
}

const fn seconds(n: u64) -> Span {
    Span(Duration::from_secs(n))
}

impl Default for RetryEntry {
    fn default() -> Self {
        Self { attempts: 2, backoff: Span(Duration::from_millis(50)) }
    }
}

impl Default for BreakerEntry {
    fn default() -> Self {
        Self {
            mode: BreakerMode::Window,
            failures: 5,
            window: seconds(60),
            failure_ratio: 0.5,
            open_for: seconds(60),
            probes: 3,
            slow_call: None,
        }
    }
}

impl Default for BulkheadEntry {
    fn default() -> Self {
        Self { max_in_flight: 32, queue: 64 }
    }
}

impl Default for HealthEntry {
    fn default() -> Self {
        Self {
            path: "/health".to_owned(),
            interval: seconds(10),
            timeout: seconds(5),
            unhealthy_after: 3,
            healthy_after: 1,
        }
    }
}

fn breaker(entry: &BreakerEntry) -> BreakerSpec {
    BreakerSpec {
        mode: entry.mode,
        failures: entry.failures,
        window: entry.window.0,
        failure_ratio: entry.failure_ratio,
        open_for: entry.open_for.0,
        open_max: OPEN_MAX,
        probes: entry.probes,
        slow_call: entry.slow_call.map(|span| span.0),
    }
}

fn health(entry: HealthEntry) -> Health {
    Health {
        path: entry.path,
        interval: entry.interval.0,
        timeout: entry.timeout.0,
        unhealthy_after: entry.unhealthy_after,
        healthy_after: entry.healthy_after,
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            retry: Retry { attempts: 2, backoff: Duration::from_millis(50) },
            breaker: breaker(&BreakerEntry::default()),
            bulkhead: Bulkhead { max_in_flight: 32, queue: 64 },
            hedge: None,
            throttle: None,
            health: health(HealthEntry::default()),
            batch: None,
            batch_delay: Duration::ZERO,
        }
    }
}

/// Reads them; `health_path` is the protocol's own, empty where it has none.
pub(super) fn read(fields: &mut Fields<'_>, health_path: Option<&str>) -> Limits {
    let retry: RetryEntry = fields.take("retry").unwrap_or_default();
    in_range(fields, "/retry/attempts", retry.attempts.into(), (1.0, 5.0));
    let breaker_entry: BreakerEntry = fields.take("breaker").unwrap_or_default();
    in_range(fields, "/breaker/failures", breaker_entry.failures.into(), (1.0, 10_000.0));
    in_range(fields, "/breaker/probes", breaker_entry.probes.into(), (1.0, 10_000.0));
    in_range(fields, "/breaker/failure_ratio", breaker_entry.failure_ratio, (0.0, 1.0));
    in_range(fields, "/breaker/window", millis(breaker_entry.window), (1.0, DAY_MS));
    in_range(fields, "/breaker/open_for", millis(breaker_entry.open_for), (1.0, DAY_MS));
    let bulkhead: BulkheadEntry = fields.take("bulkhead").unwrap_or_default();
    in_range(fields, "/bulkhead/max_in_flight", bulkhead.max_in_flight as f64, (1.0, 10_000.0));
    in_range(fields, "/bulkhead/queue", bulkhead.queue as f64, (0.0, 100_000.0));
    let hedge = fields.take("hedge").map(|entry: HedgeEntry| entry.after);
    if let Some(after) = hedge {
        in_range(fields, "/hedge/after", millis(after), (1.0, 300_000.0));
    }
    let throttle = fields.take("throttle").map(|entry: ThrottleEntry| entry.bytes_per_second);
    let mut probe: HealthEntry = fields.take("health").unwrap_or_default();
    let own = fields.node("health").is_some_and(|node| node.get("path").is_some());
    if let (Some(path), false) = (health_path, own) {
        probe.path = path.to_owned();
    }
    in_range(fields, "/health/interval", millis(probe.interval), (100.0, DAY_MS));
    in_range(fields, "/health/timeout", millis(probe.timeout), (1.0, 300_000.0));
    in_range(fields, "/health/unhealthy_after", probe.unhealthy_after.into(), (1.0, 1_000.0));
    in_range(fields, "/health/healthy_after", probe.healthy_after.into(), (1.0, 1_000.0));
    if !probe.path.is_empty() && !probe.path.starts_with('/') {
        let message = "health.path is no path of the endpoint's origin".to_owned();
        fields.refuse("/health/path", "bad_value", message, "begin it with `/`");
    } else if !probe.path.is_empty() && PathAndQuery::try_from(probe.path.as_str()).is_err() {
        let message = "health.path holds a character that no address may hold".to_owned();
        let hint = "write it percent-encoded, a space as `%20`";
        fields.refuse("/health/path", "bad_value", message, hint);
    }
    let (batch, batch_delay) = batch(fields);
    Limits {
        retry: Retry { attempts: retry.attempts, backoff: retry.backoff.0 },
        breaker: breaker(&breaker_entry),
        bulkhead: Bulkhead { max_in_flight: bulkhead.max_in_flight, queue: bulkhead.queue },
        hedge: hedge.map(|span| span.0),
        throttle,
        health: health(probe),
        batch,
        batch_delay,
    }
}

fn batch(fields: &mut Fields<'_>) -> (Option<NonZeroUsize>, Duration) {
    let entry: BatchEntry = fields.take("batch").unwrap_or_default();
    if let Some(delay) = entry.max_delay {
        in_range(fields, "/batch/max_delay", millis(delay), (1.0, 1_000.0));
    }
    let most = entry.max_items.map_or(1.0, |items| items.get() as f64);
    in_range(fields, "/batch/max_items", most, (1.0, 1_000.0));
    (entry.max_items, entry.max_delay.map_or(Duration::ZERO, |delay| delay.0))
}

/// Refuses a number outside its range.
pub(in crate::catalog) fn in_range(
    fields: &mut Fields<'_>,
    key: &str,
    value: f64,
    (least, most): (f64, f64),
) {
    if !(least..=most).contains(&value) {
        let name = key.trim_start_matches('/').replace('/', ".");
        let message = format!("`{name}` holds {value}, outside {least}..={most}");
        fields.refuse(key, "out_of_range", message, "choose a value inside the range");
    }
}
