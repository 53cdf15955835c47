//! Puts the outcome together, with the redacted body where it is due.

use super::shadow::Shadows;
use super::{Run, facts};
use crate::domain::action::Action;
use crate::domain::coverage::Coverage;
use crate::domain::judgement::{JudgedFinding, Judgement};
use crate::domain::outcome::{CacheUse, Degraded, Explained, Outcome};
use crate::domain::plan::Plan;
use crate::domain::redaction::{self, How, Redacted};
use crate::domain::report::Report;
use crate::domain::request::Include;
use crate::domain::verdict::Verdict;

/// What the steps before have made.
pub(super) struct Parts<'a> {
    pub(super) plan: Plan,
    pub(super) reports: Vec<Report>,
    pub(super) coverage: Coverage,
    pub(super) judgement: Judgement,
    pub(super) raw: &'a [JudgedFinding],
    pub(super) verdict: Verdict,
    /// The policy's verdict failed: nobody knows what must go.
    pub(super) failed: bool,
    pub(super) explain: Vec<Explained>,
    pub(super) degraded: Vec<Degraded>,
    pub(super) cache: CacheUse,
    pub(super) shadows: Shadows,
}

pub(super) fn outcome(run: &Run<'_>, mut parts: Parts<'_>) -> Outcome {
    parts.degraded.sort();
    parts.degraded.dedup();
    let redacted = redacted(run, &parts);
    let duration = run.elapsed();
    let required = |report: &&Report| parts.plan.required.contains(&report.detector);
    let slowest = parts.reports.iter().filter(required).map(|report| report.duration).max();
    // Only the plan shows it, and looking it up is not free.
    let wanted = run.request.wants(Include::Plan);
    let shown = if wanted { parts.reports.as_slice() } else { &[] };
    let health = shown
        .iter()
        .map(|report| {
            let detector = run.seen.detectors.get(&report.detector);
            let health = detector.map(|d| run.deps.detectors.health(d)).unwrap_or_default();
            let health = health.state.name();
            (report.detector.clone(), health)
        })
        .collect();
    let projected = wanted.then(|| facts::projected(run, &parts.plan)).flatten();
    Outcome {
        projected,
        request_id: run.request.id.clone(),
        head: run.head.clone(),
        policy: run.view.bundle().clone(),
        revision: run.snapshot.revision.clone(),
        layers: run.view.layers().to_vec(),
        pieces: run.pieces.clone(),
        plan: parts.plan,
        reports: parts.reports,
        shadows: parts.shadows.reports(),
        coverage: parts.coverage,
        judgement: parts.judgement,
        verdict: parts.verdict,
        redacted,
        health,
        explain: parts.explain,
        degraded: parts.degraded,
        cache: parts.cache,
        evidence: None,
        duration,
        overhead: duration.saturating_sub(slowest.unwrap_or_default()),
    }
}

/// The body with every redacted span replaced, when the action is redact or it was asked for.
///
/// What was asked for is left out where it would hold what nobody looked for: the verdict failed, or
/// coverage is incomplete.
fn redacted(run: &Run<'_>, parts: &Parts<'_>) -> Option<Redacted> {
    let verdict = &parts.verdict;
    let known = parts.coverage.complete && !parts.failed;
    let wanted = run.request.wants(Include::Redacted) && known;
    if verdict.action != Action::Redact && !wanted {
        return None;
    }
    let named = verdict.redact.iter().filter_map(|id| parts.judgement.findings.get(*id as usize));
    let floor = verdict.floor_redact.iter().filter_map(|id| parts.raw.get(*id as usize));
    let wanted = &run.tenant.redaction;
    // A purpose and the tenant, so that no other tenant's hashes and no other use compare.
    let tenant = run.tenant.id.as_str().as_bytes();
    let key = &run.deps.redaction_key;
    let hash = |original: &str| key.hash([&b"redaction"[..], tenant, original.as_bytes()]);
    let how = How {
        style: run.request.redaction.unwrap_or(wanted.style),
        rule: &wanted.rule,
        hash: &hash,
        again: run.request.again,
    };
    Some(redaction::redact_body(&run.request.body, &run.pieces, named.chain(floor), how))
}
