//! Keeps the content-free record of a decision.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Run;
use crate::domain::error::Error;
use crate::domain::id::DetectorName;
use crate::domain::outcome::Outcome;
use crate::domain::report::{Report, ReportError, Status};
use crate::store::Decision;

/// Most records fit.
const RECORD_BYTES: usize = 1_024;

/// Hands the record to the store's writer. The answer does not wait for the disk: audit mode
/// `standard` makes it durable within 100 ms.
pub(super) async fn keep(run: &Run<'_>, outcome: &Outcome) -> Result<(), Error> {
    let mut record = Vec::with_capacity(RECORD_BYTES);
    // Texts, numbers and lists of them always serialise, as UTF-8.
    let _ = serde_json::to_writer(&mut record, &Record::of(outcome));
    let record = String::from_utf8(record).unwrap_or_default();
    // What is dropped, the store counts and tells.
    let _ = run.deps.store.record_later(Decision {
        id: uuid::Uuid::now_v7().to_string(),
        tenant: run.tenant.id.clone(),
        request_id: outcome.request_id.clone(),
        at_ms: jiff::Timestamp::now().as_millisecond(),
        policy: outcome.policy.clone(),
        revision: outcome.revision.clone(),
        action: outcome.verdict.action,
        complete: outcome.coverage.complete,
        record,
    });
    count(run, outcome);
    Ok(())
}

/// What is kept of an outcome besides the columns; never content.
#[derive(Serialize)]
struct Record<'a> {
    layers: &'a [String],
    required: &'a BTreeSet<DetectorName>,
    reports: Vec<Asked<'a>>,
    /// Those that were only observed, and had answered by then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shadows: Vec<Asked<'a>>,
    achieved: f64,
    findings: Vec<Found<'a>>,
    reasons: Vec<&'a str>,
}

#[derive(Serialize)]
struct Asked<'a> {
    detector: &'a str,
    version: &'a str,
    status: Status,
    error: Option<ReportError>,
    attempts: u32,
    duration_us: u64,
}

#[derive(Serialize)]
struct Found<'a> {
    category: &'a str,
    score: f64,
    detectors: &'a [DetectorName],
}

impl<'a> Record<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        let asked = |report: &'a Report| Asked {
            detector: report.detector.as_str(),
            version: &report.version,
            status: report.status,
            error: report.error,
            attempts: report.attempts,
            duration_us: u64::try_from(report.duration.as_micros()).unwrap_or(u64::MAX),
        };
        let observed = outcome.shadows.iter().filter(|report| !report.is_decided());
        let found = outcome.judgement.findings.iter().map(|finding| Found {
            category: finding.category.as_str(),
            score: finding.score,
            detectors: &finding.detectors,
        });
        Self {
            layers: &outcome.layers,
            required: &outcome.plan.required,
            reports: outcome.reports.iter().map(asked).collect(),
            shadows: observed.map(asked).collect(),
            achieved: outcome.coverage.achieved,
            findings: found.collect(),
            reasons: outcome.verdict.reasons.iter().map(|reason| reason.code.as_str()).collect(),
        }
    }
}

/// What a kept record says about detection.
#[derive(Debug, Deserialize)]
pub struct Kept {
    /// Who was asked.
    pub reports: Vec<KeptReport>,
    /// What was found, at or above its threshold.
    pub findings: Vec<KeptFinding>,
}

/// One detector's part.
#[derive(Debug, Deserialize)]
pub struct KeptReport {
    /// Who.
    pub detector: DetectorName,
    /// The name of how it ended.
    pub status: String,
}

/// One finding.
#[derive(Debug, Deserialize)]
pub struct KeptFinding {
    /// The name of what it is about.
    pub category: String,
    /// 0..=1.
    pub score: f64,
    /// Who found it.
    pub detectors: Vec<DetectorName>,
}

impl Kept {
    /// Reads [`Decision::record`]; `None` where another release wrote it otherwise.
    pub fn read(record: &str) -> Option<Kept> {
        serde_json::from_str(record).ok()
    }
}

fn count(run: &Run<'_>, outcome: &Outcome) {
    let metrics = &run.deps.metrics;
    let complete = outcome.coverage.complete;
    let policy = outcome.policy.as_str();
    metrics.decision(run.tenant.id.as_str(), policy, outcome.verdict.action, complete);
    metrics.coverage(outcome.coverage.achieved);
    metrics.overhead(outcome.overhead);
    if outcome.coalesced() {
        metrics.coalesced();
    }
    for gap in &outcome.coverage.unjudged {
        metrics.unjudged(gap.reason);
    }
}
