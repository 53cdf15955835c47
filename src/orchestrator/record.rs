//! Keeps the content-free record of a decision.

use super::Run;
use crate::domain::error::Error;
use crate::domain::outcome::Outcome;
use crate::store::{Accepted, Decision};

/// Hands the record to the store's writer. The answer does not wait for the disk: audit mode
/// `standard` makes it durable within 100 ms.
pub(super) async fn keep(run: &Run<'_>, outcome: &Outcome) -> Result<(), Error> {
    let record = serde_json::json!({
        "layers": outcome.layers,
        "required": names(outcome.plan.required.iter()),
        "reports": outcome.reports.iter().map(|report| serde_json::json!({
            "detector": report.detector.as_str(),
            "version": report.version.as_ref(),
            "status": report.status.name(),
            "error": report.error.map(|error| error.name()),
            "attempts": report.attempts,
            "duration_us": u64::try_from(report.duration.as_micros()).unwrap_or(u64::MAX),
        })).collect::<Vec<_>>(),
        "coverage": {
            "achieved": outcome.coverage.achieved,
            "complete": outcome.coverage.complete,
        },
        "findings": outcome.judgement.findings.iter().map(|finding| serde_json::json!({
            "category": finding.category.as_str(),
            "score": finding.score,
            "detectors": names(finding.detectors.iter()),
        })).collect::<Vec<_>>(),
        "reasons": outcome.verdict.reasons.iter().map(|reason| &reason.code).collect::<Vec<_>>(),
    });
    let accepted = run.deps.store.record_later(Decision {
        id: uuid::Uuid::now_v7().to_string(),
        tenant: run.tenant.id.clone(),
        request_id: outcome.request_id.clone(),
        at_ms: jiff::Timestamp::now().as_millisecond(),
        policy: outcome.policy.clone(),
        revision: outcome.revision.clone(),
        action: outcome.verdict.action,
        complete: outcome.coverage.complete,
        record: record.to_string(),
    });
    if accepted == Accepted::Dropped {
        tracing::error!("a decision was not recorded: the store's queue is full");
    }
    count(run, outcome);
    Ok(())
}

fn count(run: &Run<'_>, outcome: &Outcome) {
    let metrics = &run.deps.metrics;
    let complete = outcome.coverage.complete;
    let policy = outcome.policy.as_str();
    metrics.decision(run.tenant.id.as_str(), policy, outcome.verdict.action, complete);
    metrics.coverage(outcome.coverage.achieved);
    metrics.overhead(outcome.overhead);
    for gap in &outcome.coverage.unjudged {
        metrics.unjudged(gap.reason);
    }
}

fn names<'a>(names: impl Iterator<Item = &'a crate::domain::id::DetectorName>) -> Vec<&'a str> {
    names.map(|name| name.as_str()).collect()
}
