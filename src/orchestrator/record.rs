//! Keeps the content-free record of a decision.

use super::{Run, plan};
use crate::catalog::AuditMode;
use crate::domain::error::{Code, Error};
use crate::domain::log::{Receipt, Recorded};
use crate::domain::outcome::{Degraded, Outcome};
use crate::domain::request::Include;
use crate::evidence::{self, Trail};
use crate::metrics::Violation;
use crate::seal::{Salt, SealError};
use crate::store::Decision;

const HELD: &str = "the record is held in memory: neither the store nor its spool has room";

/// Refuses before any detector is asked what could not be put on record anyway.
pub(super) fn ready(run: &Run<'_>) -> Result<(), Error> {
    match (&run.deps.log, run.tenant.audit) {
        (Some(log), AuditMode::Strict) => Ok(log.ready()?),
        (_, AuditMode::Strict | AuditMode::Standard | AuditMode::Off) => Ok(()),
    }
}

/// Puts the outcome on record, as durable as the tenant asked: under `strict` there is no outcome
/// without its durable record; under `standard` the answer does not wait. Who wants it gets the
/// receipt.
pub(super) async fn keep(run: &Run<'_>, outcome: &mut Outcome, trail: &Trail) -> Result<(), Error> {
    let audit = run.tenant.audit;
    if let (Some(log), AuditMode::Strict | AuditMode::Standard) = (&run.deps.log, audit) {
        let salt = Salt::random().map_err(unwritten)?;
        let decision = decision(run, outcome, (trail, &salt)).map_err(unwritten)?;
        let id = decision.id.clone();
        let kept = match audit {
            AuditMode::Strict => {
                let proof = log.append_strict(decision).await?;
                Some((proof.leaf.hash, Some(proof)))
            }
            AuditMode::Standard | AuditMode::Off => match log.append(decision) {
                Ok(taken) => {
                    if taken.is_held {
                        tell(outcome, HELD.into());
                    }
                    Some((taken.leaf, None))
                }
                Err(why) => {
                    tell(outcome, format!("the decision is not on record: {why}"));
                    None
                }
            },
        };
        if let Some((leaf_hash, proof)) = kept.filter(|_| run.request.wants(Include::Evidence)) {
            let receipt = Receipt { log: log.id().clone(), leaf_hash, proof, salt: salt.hex() };
            outcome.evidence = Some(Recorded { id, receipt: Some(receipt) });
        }
    }
    count(run, outcome, trail.verdict_failed.is_some() || trail.plan_failed.is_some());
    Ok(())
}

fn tell(outcome: &mut Outcome, why: String) {
    outcome.degraded.push(Degraded { what: "evidence", why });
    outcome.degraded.sort();
}

fn unwritten(error: SealError) -> Error {
    Error::new(Code::InternalError, "the decision could not be recorded").caused_by(error)
}

fn decision(
    run: &Run<'_>,
    outcome: &Outcome,
    (trail, salt): (&Trail, &Salt),
) -> Result<Decision, SealError> {
    let now = jiff::Timestamp::now();
    let id = uuid::Uuid::now_v7().to_string();
    let record = evidence::write(&evidence::Decided {
        id: &id,
        at: &now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        actor: run.caller,
        commitment: evidence::commit(salt, &run.request.body)?,
        outcome,
        trail,
        view: run.view,
        detectors: (&run.seen.facts, run.seen.facts_digest()),
        strategy: plan::strategy(run, &mut Vec::new()),
        wished: &run.request.detectors.params,
    })?;
    Ok(Decision {
        id,
        tenant: run.tenant.id.clone(),
        request_id: outcome.request_id.clone(),
        at_ms: now.as_millisecond(),
        policy: outcome.policy.clone(),
        revision: outcome.revision.clone(),
        action: outcome.verdict.action,
        complete: outcome.coverage.complete,
        // Canonical JSON is UTF-8.
        record: String::from_utf8(record).unwrap_or_default(),
        leaf: None,
    })
}

fn count(run: &Run<'_>, outcome: &Outcome, failed: bool) {
    let metrics = &run.deps.metrics;
    let complete = outcome.coverage.complete;
    let policy = outcome.policy.as_str();
    let (tenant, action) = (run.tenant.id.as_str(), outcome.verdict.action);
    metrics.decision(tenant, policy, action, complete);
    let why = match outcome {
        _ if failed => Violation::PolicyFailed,
        Outcome { judgement, .. } if !judgement.findings.is_empty() => Violation::Finding,
        _ if !complete => Violation::Incomplete,
        _ => Violation::Rule,
    };
    metrics.enforcement(tenant, action, why);
    metrics.coverage(outcome.coverage.achieved);
    metrics.overhead(outcome.overhead);
    if outcome.coalesced() {
        metrics.coalesced();
    }
    for gap in &outcome.coverage.unjudged {
        metrics.unjudged(gap.reason);
    }
}
