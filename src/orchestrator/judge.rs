//! From reports to a judgement, and from the judgement to the policy's rules.

use std::collections::BTreeMap;

use super::plan::Planned;
use super::{Run, plan};
use crate::catalog::Tenant;
use crate::domain::action::Action;
use crate::domain::category::Category;
use crate::domain::coverage::{self, Coverage};
use crate::domain::judgement::{self, Evidence, JudgedFinding, Judgement};
use crate::domain::outcome::{Degraded, Explained};
use crate::domain::plan::Plan;
use crate::domain::report::Report;
use crate::domain::request::Include;
use crate::domain::verdict::{self, Joined, Reason, Verdict, VerdictRules};
use crate::evidence::Conflict;
use crate::policy::{Failure, FailureKind, Point, VerdictFacts};

/// The reports, judged.
pub(super) struct Settled {
    pub(super) judgement: Judgement,
    pub(super) degraded: Vec<Degraded>,
    /// What the conflict point was asked, where it was.
    pub(super) conflict: Option<Conflict>,
}

/// Judges the reports; asks the policy's conflict point where voters disagree.
pub(super) async fn settle(run: &Run<'_>, plan: &Plan, reports: &[Report]) -> Settled {
    let evidence = Evidence {
        plan,
        reports,
        pieces: &run.pieces,
        thresholds: &run.tenant.thresholds,
        detectors: &run.seen.votes,
        content_type: run.request.content_type,
    };
    let mut judgement = judgement::make(&evidence);
    let (mut degraded, mut conflict) = (Vec::new(), None);
    let disagreeing: BTreeMap<Category, _> = judgement
        .disagreements()
        .map(|(category, state)| (category.clone(), state.clone()))
        .collect();
    if !disagreeing.is_empty() {
        let asked = run.deps.evaluator.settle(run.view, &run.head, &disagreeing);
        let said = run.policy(Point::Conflict, asked).await.map_err(|failure| {
            degraded.push(failed(run, &failure));
            failure.kind
        });
        if let Ok(choices) = &said
            && !choices.is_empty()
        {
            judgement.settle(&evidence, choices);
        }
        // Broken views fail without being asked, and must fail again.
        if run.view.settles() || said.is_err() {
            conflict = Some(Conflict { scopes: disagreeing, said });
        }
    }
    let unknown = judgement.degraded.iter();
    degraded.extend(unknown.map(|why| Degraded { what: "resolve", why: why.clone() }));
    Settled { judgement, degraded, conflict }
}

/// Whether `reports`, some of them `decided`, give a block that no later answer takes back. What is
/// incomplete only because not everyone has answered is none.
pub(super) async fn blocks(run: &Run<'_>, planned: &Planned, mut reports: Vec<Report>) -> bool {
    let plan = &planned.plan;
    let coverage = coverage::measure(plan, &reports, &run.pieces, &run.seen.abilities);
    let raw = judgement::raw(&reports, &run.pieces);
    judgement::calibrate(&mut reports, &run.seen.votes);
    let Settled { judgement, .. } = settle(run, plan, &reports).await;
    if !judgement.is_firm() {
        return false;
    }
    let facts =
        VerdictFacts { judgement: &judgement, raw: &raw, reports: &reports, coverage: &coverage };
    let asked = run.deps.evaluator.verdict(run.view, &run.head, &facts);
    let Ok(answer) = run.policy(Point::Verdict, asked).await else { return false };
    let whole = Coverage { complete: true, floor_complete: true, ..coverage.clone() };
    let joined = Joined {
        on_incomplete: Action::Allow,
        floor_on_incomplete: None,
        plan_failure: None,
        mode: planned.mode.unwrap_or(run.tenant.mode),
    };
    verdict::join(&answer.rules, &judgement, &raw, &whole, joined).action == Action::Block
}

/// What the verdict point said.
pub(super) struct Decided {
    pub(super) rules: VerdictRules,
    pub(super) degraded: Vec<Degraded>,
    /// The tenant's action for a failed verdict.
    pub(super) failed: Option<Action>,
    /// How it failed.
    pub(super) failure: Option<FailureKind>,
}

/// Asks the verdict point.
pub(super) async fn decide(
    run: &Run<'_>,
    judgement: &Judgement,
    raw: &[JudgedFinding],
    (reports, coverage): (&[Report], &Coverage),
) -> Decided {
    let facts = VerdictFacts { judgement, raw, reports, coverage };
    let asked = run.deps.evaluator.verdict(run.view, &run.head, &facts);
    match run.policy(Point::Verdict, asked).await {
        Ok(answer) => Decided {
            rules: answer.rules.clone(),
            degraded: answer.degraded.clone(),
            failed: None,
            failure: None,
        },
        Err(failure) => {
            // What the layers said is lost; what the floor says holds.
            let floor = run.deps.evaluator.floor_verdict(run.view, &run.head, &facts).await;
            Decided {
                rules: floor.map_or_else(|_| VerdictRules::default(), |answer| answer.rules),
                degraded: vec![failed(run, &failure)],
                failed: Some(failed_action(run.tenant)),
                failure: Some(failure.kind),
            }
        }
    }
}

/// At least this where the verdict point fails.
pub(super) fn failed_action(tenant: &Tenant) -> Action {
    tenant.fail_mode.max(Action::Review)
}

/// Which rules held, for a caller who asks; a policy that fails meanwhile is named.
pub(super) async fn explain(
    run: &Run<'_>,
    (judgement, raw): (&Judgement, &[JudgedFinding]),
    (reports, coverage): (&[Report], &Coverage),
    conflict: Option<&Conflict>,
) -> (Vec<Explained>, Option<Degraded>) {
    if !run.request.wants(Include::Explain) {
        return (Vec::new(), None);
    }
    let facts = VerdictFacts { judgement, raw, reports, coverage };
    let strategy = plan::strategy(run, &mut Vec::new());
    let evaluator = &run.deps.evaluator;
    let seen = &run.seen.facts;
    let held = async {
        let mut held = evaluator.explain_plan(run.view, &run.head, seen, strategy.as_ref()).await?;
        if let Some(Conflict { scopes, said: Ok(_) }) = conflict {
            held.extend(evaluator.explain_settle(run.view, &run.head, scopes).await?);
        }
        held.extend(evaluator.explain_verdict(run.view, &run.head, &facts).await?);
        Ok(held)
    };
    match held.await {
        Ok(held) => (held, None),
        Err(failure) => (Vec::new(), Some(failed(run, &failure))),
    }
}

fn failed(run: &Run<'_>, failure: &Failure) -> Degraded {
    run.deps.metrics.policy_error(failure.point.name(), failure.kind.name());
    // A broken overlay was logged when it broke.
    if !run.view.is_broken() {
        tracing::warn!(policy = %run.view.bundle(), %failure, "a policy failed");
    }
    failure.degraded()
}

/// A failed verdict is at least `action`, also in monitor mode: what the floor would have said is
/// not known either.
pub(super) fn fail_closed(verdict: &mut Verdict, action: Action) {
    verdict.action = verdict.action.max(action);
    if let Some(would) = &mut verdict.would {
        *would = (*would).max(action);
    }
    let message = "the policy's verdict failed".to_owned();
    verdict.reasons.insert(0, Reason { code: "policy.verdict_failed".into(), message });
}
