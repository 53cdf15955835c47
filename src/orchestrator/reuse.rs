//! Takes detectors' reports from an equal request before, and leaves those of this one.
//!
//! What is kept is what detectors said: labels, scores and positions, never content. Everything that
//! follows from it is made anew: verdict, redaction of the caller's own content, record.

use std::time::Duration;

use serde::Serialize;

use super::plan::Planned;
use super::shadow::Shadows;
use super::{Run, shadow, stages};
use crate::catalog::Detector;
use crate::catalog::detector::Protocol;
use crate::domain::coverage::Coverage;
use crate::domain::digest::Digest;
use crate::domain::outcome::{CacheUse, Degraded};
use crate::domain::plan::Plan;
use crate::domain::report::{Report, ReportError, Status};
use crate::domain::request::Request;

/// What detectors said, now or before.
pub(super) struct Asked {
    pub(super) reports: Vec<Report>,
    pub(super) cache: CacheUse,
    pub(super) shadows: Shadows,
    key: Option<Digest>,
}

/// The reports about an equal request, else those of detectors asked now.
pub(super) async fn ask(run: &Run<'_>, planned: &Planned) -> Asked {
    let plan = &planned.plan;
    let cache = match &run.deps.responses {
        Some(cache) if asks_others(run, plan) => cache,
        Some(_) | None => return now(run, planned, CacheUse::Off).await,
    };
    if !run.request.shares() {
        count(run, "get", CacheUse::Bypass.name());
        return now(run, planned, CacheUse::Bypass).await;
    }
    let key = key(run, plan);
    let found = match key {
        Some(key) => cache.get(key).await,
        None => None,
    };
    if let Some(reports) = found.and_then(|value| read(&value)) {
        count(run, "get", CacheUse::Hit.name());
        let shadows = Shadows::default();
        return Asked { reports, cache: CacheUse::Hit, shadows, key: None };
    }
    count(run, "get", CacheUse::Miss.name());
    Asked { key, ..now(run, planned, CacheUse::Miss).await }
}

async fn now(run: &Run<'_>, planned: &Planned, cache: CacheUse) -> Asked {
    let shadows = shadow::ask(run, &planned.plan);
    Asked { reports: stages::ask(run, planned).await, cache, shadows, key: None }
}

/// Whether the plan names a detector outside the process: to ask the built-in ones again costs
/// about what a look into the cache does.
fn asks_others(run: &Run<'_>, plan: &Plan) -> bool {
    let detectors = &run.seen.detectors;
    let named = plan.primary().chain(&plan.secondary).filter_map(|name| detectors.get(name));
    named.flat_map(Detector::definitions).any(|d| !matches!(d.protocol, Protocol::Builtin(_)))
}

impl Asked {
    /// Leaves the reports for others, if nothing is missing that another try could bring.
    pub(super) async fn keep(&self, run: &Run<'_>, coverage: &Coverage) {
        let (Some(cache), Some(key)) = (&run.deps.responses, self.key) else { return };
        if !coverage.complete || !self.reports.iter().all(is_lasting) {
            return;
        }
        if let Ok(value) = serde_json::to_vec(&self.reports) {
            cache.put(key, value.into()).await;
            count(run, "put", "success");
        }
    }
}

/// Told where this instance neither knows nor tells what others do.
pub(super) fn alone(run: &Run<'_>) -> Option<Degraded> {
    let why = "Redis does not answer: this instance's own memory stands in for the shared cache \
               and the shared rates";
    let rests = run.deps.redis.as_ref().is_some_and(|redis| redis.rests());
    rests.then(|| Degraded { what: "cache", why: why.to_owned() })
}

fn count(run: &Run<'_>, operation: &'static str, result: &'static str) {
    run.deps.metrics.cache_operation("responses", operation, result);
}

/// Whether the detector would say the same again.
pub(super) fn is_lasting(report: &Report) -> bool {
    let lasting =
        |error| matches!(error, ReportError::TooLong | ReportError::UnsupportedContentType);
    let unfit = report.status == Status::Skipped && report.error.is_some_and(lasting);
    unfit || (report.answered() && report.gaps.iter().all(|gap| lasting(gap.reason)))
}

/// The reports of `value`, of which nothing was sent now; `None` where another release wrote it.
fn read(value: &[u8]) -> Option<Vec<Report>> {
    let mut reports: Vec<Report> = serde_json::from_slice(value).ok()?;
    for report in &mut reports {
        (report.attempts, report.coalesced, report.duration) = (0, false, Duration::ZERO);
    }
    Some(reports)
}

/// Of everything that detectors' answers depend on, and of what the tenant's policies are. The
/// tenant's file needs no place: what it says is done after the answers.
fn key(run: &Run<'_>, plan: &Plan) -> Option<Digest> {
    #[derive(Serialize)]
    struct Asking<'a> {
        request: &'a Request,
        plan: &'a Plan,
    }
    let asking = Asking { request: run.request, plan };
    let asking = serde_json::to_vec(&asking).ok()?;
    let mut detectors = run.seen.detectors.values().flat_map(Detector::definitions);
    let delegates = detectors.any(|detector| detector.delegation.is_some());
    let hash = run.deps.redaction_key.hash([
        &b"responses"[..],
        run.tenant.id.as_str().as_bytes(),
        run.view.digest().as_bytes(),
        run.seen.digest.as_bytes(),
        if delegates { run.caller.as_bytes() } else { b"" },
        &asking,
    ]);
    Some(Digest::of(&hash))
}
