//! From the policy's plan, the floor, the event's strategy and the caller's wishes to one `Plan`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Run;
use crate::auth::Caller;
use crate::catalog::Detector;
use crate::catalog::tenant::OnPlanFailure;
use crate::domain::action::Action;
use crate::domain::error::{Code, Error, FieldFault};
use crate::domain::id::DetectorName;
use crate::domain::outcome::Degraded;
use crate::domain::plan::{Execution, Plan, StopOn};
use crate::domain::verdict::Mode;
use crate::policy::{FloorPlan, PlanAnswer, StrategyFacts};

/// The plan and what making it showed.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) mode: Option<Mode>,
    pub(super) floor_on_incomplete: Option<Action>,
    /// At least this action, because the policy's plan failed.
    pub(super) least_action: Option<Action>,
    pub(super) degraded: Vec<Degraded>,
}

type Visible = BTreeMap<DetectorName, Arc<Detector>>;

/// Makes the plan; refuses what a policy denies and what the caller may not loosen.
pub(super) async fn make(run: &Run<'_>, caller: &Caller) -> Result<Planned, Error> {
    let visible = &run.seen.detectors;
    check_names(run, visible)?;
    let mut degraded = Vec::new();
    let strategy = strategy(run, &mut degraded);
    let facts = &run.seen.facts;
    let answer = run.deps.evaluator.plan(run.view, &run.head, facts, strategy.as_ref()).await;
    let mut planned = match answer {
        Ok(answer) => {
            if let Some(reason) = answer.deny.first() {
                return Err(Error::new(Code::PolicyDenied, reason.clone()));
            }
            from_answer(&answer, strategy.as_ref())
        }
        Err(failure) => {
            run.deps.metrics.policy_error(failure.point.name(), failure.kind.name());
            if !run.view.is_broken() {
                tracing::warn!(policy = %run.view.bundle(), %failure, "the plan failed");
            }
            let floor = run.deps.evaluator.floor_plan(run.view, &run.head, facts).await;
            let floor = floor.unwrap_or_else(|_| run.view.floor().clone());
            from_default(run, floor, failure.degraded())
        }
    };
    degraded.append(&mut planned.degraded);
    planned.degraded = degraded;
    planned.plan.event = strategy.map(|strategy| strategy.event.to_owned());
    wish(run, caller, &mut planned.plan)?;
    Ok(planned)
}

/// Names in a request must exist; a policy's unknown names count as missing instead.
fn check_names(run: &Run<'_>, visible: &Visible) -> Result<(), Error> {
    let wishes = &run.request.detectors;
    let mut faults = Vec::new();
    let lists = [
        ("/detectors/only", &wishes.only),
        ("/detectors/add", &wishes.add),
        ("/detectors/exclude", &wishes.exclude),
    ];
    for (pointer, names) in lists {
        for (index, name) in names.iter().enumerate() {
            if !visible.contains_key(name) {
                faults.push(unknown(format!("{pointer}/{index}"), name, visible));
            }
        }
    }
    for name in wishes.params.keys().filter(|name| !visible.contains_key(*name)) {
        faults.push(unknown(format!("/detectors/params/{name}"), name, visible));
    }
    match faults.first() {
        None => Ok(()),
        Some(first) => Err(Error {
            code: Code::InvalidRequest,
            message: format!("{}: {}", first.pointer, first.detail),
            details: faults,
            cause: None,
        }),
    }
}

fn unknown(pointer: String, name: &DetectorName, visible: &Visible) -> FieldFault {
    let known: Vec<&str> = visible.keys().map(|name| name.as_str()).collect();
    let detail =
        format!("`{name}` is no detector of this tenant; use one of: {}", known.join(", "));
    FieldFault { pointer, detail, code: "unknown_detector", place: None }
}

pub(super) fn strategy<'a>(
    run: &'a Run<'_>,
    degraded: &mut Vec<Degraded>,
) -> Option<StrategyFacts<'a>> {
    let event = run.request.event.as_deref()?;
    let (name, strategy) = run.snapshot.catalog.strategy(event)?;
    if name != event && !strategy.aliases.iter().any(|alias| alias == event) {
        let why = "the event has no strategy; `default` was used".to_owned();
        degraded.push(Degraded { what: "strategy", why });
    }
    Some(StrategyFacts {
        event: name,
        detectors: &strategy.detectors,
        execution: strategy.execution,
        stop_on: strategy.stop_on,
    })
}

fn from_answer(answer: &PlanAnswer, strategy: Option<&StrategyFacts<'_>>) -> Planned {
    let mut required = answer.required.clone();
    required.retain(|name| !answer.skip.contains(name));
    required.extend(answer.floor.required.iter().cloned());
    let drop = |set: &BTreeSet<DetectorName>, also: &BTreeSet<DetectorName>| {
        set.iter()
            .filter(|name| !answer.skip.contains(*name) && !also.contains(*name))
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    let mut optional = drop(&answer.optional, &required);
    if let Some(strategy) = strategy {
        let more = strategy.detectors.iter();
        optional.extend(
            more.filter(|name| !answer.skip.contains(*name) && !required.contains(*name)).cloned(),
        );
    }
    let asked: BTreeSet<DetectorName> = required.union(&optional).cloned().collect();
    let secondary = drop(&answer.secondary, &asked);
    let mut degraded = answer.degraded.clone();
    let stop_on = answer.stop_on.or(strategy.map(|s| s.stop_on)).unwrap_or_default();
    if stop_on != StopOn::None {
        let why = "stop_on is not built yet; every detector was asked".to_owned();
        degraded.push(Degraded { what: "plan", why });
    }
    Planned {
        plan: Plan {
            required,
            floor_required: answer.floor.required.clone(),
            optional,
            secondary,
            execution: answer.execution.or(strategy.map(|s| s.execution)).unwrap_or_default(),
            stages: answer.stages.clone(),
            stop_on: StopOn::None,
            coverage: answer.coverage.clone(),
            min_coverage: answer.floor.min_coverage,
            resolve: answer.resolve.clone(),
            timeouts: answer.timeouts.clone(),
            thresholds: answer.thresholds.clone(),
            params: answer.params.clone(),
            event: None,
            relaxed: Vec::new(),
        },
        mode: answer.mode,
        floor_on_incomplete: answer.floor.on_incomplete,
        least_action: None,
        degraded,
    }
}

/// The tenant's default plan, or every visible detector required.
fn from_default(run: &Run<'_>, floor: FloorPlan, why: Degraded) -> Planned {
    let mut plan = Plan { execution: Execution::Parallel, ..Plan::default() };
    match &run.tenant.default_plan {
        Some(default) => {
            plan.required = default.required.clone();
            plan.optional = default.optional.difference(&default.required).cloned().collect();
            plan.coverage = default.coverage.clone();
        }
        None => plan.required = run.seen.detectors.keys().cloned().collect(),
    }
    plan.required.extend(floor.required.iter().cloned());
    plan.optional.retain(|name| !floor.required.contains(name));
    plan.floor_required = floor.required.clone();
    plan.min_coverage = floor.min_coverage;
    Planned {
        plan,
        mode: None,
        floor_on_incomplete: floor.on_incomplete,
        least_action: match run.tenant.on_plan_failure {
            OnPlanFailure::Review => Some(Action::Review),
            OnPlanFailure::Accept => None,
        },
        degraded: vec![why],
    }
}

/// Applies the caller's wishes: tightening is free, loosening needs the scope and is named.
fn wish(run: &Run<'_>, caller: &Caller, plan: &mut Plan) -> Result<(), Error> {
    let wishes = &run.request.detectors;
    let mut relaxed = Vec::new();
    for name in &wishes.add {
        plan.optional.remove(name);
        plan.secondary.remove(name);
        plan.required.insert(name.clone());
    }
    let dropped = |plan: &Plan, name: &DetectorName| {
        plan.required.contains(name) && !plan.floor_required.contains(name)
    };
    if !wishes.only.is_empty() {
        let keep: BTreeSet<&DetectorName> = wishes.only.iter().chain(&wishes.add).collect();
        if plan.required.iter().any(|name| !keep.contains(name) && dropped(plan, name)) {
            relaxed.push("/detectors/only".to_owned());
        }
        let floor = plan.floor_required.clone();
        plan.required.retain(|name| keep.contains(name) || floor.contains(name));
        plan.secondary.retain(|name| keep.contains(name));
        plan.optional.retain(|name| keep.contains(name));
        let more = wishes.only.iter().filter(|name| !plan.required.contains(*name));
        plan.optional.extend(more.cloned());
    }
    for (index, name) in wishes.exclude.iter().enumerate() {
        if dropped(plan, name) {
            relaxed.push(format!("/detectors/exclude/{index}"));
        }
        if !plan.floor_required.contains(name) {
            plan.required.remove(name);
        }
        plan.optional.remove(name);
        plan.secondary.remove(name);
    }
    for (category, wanted) in &wishes.thresholds {
        let current = current_threshold(run, plan, category);
        if *wanted > current {
            relaxed.push(format!("/detectors/thresholds/{category}"));
        }
        lower_below(plan, category, *wanted);
        plan.thresholds.insert(category.clone(), *wanted);
    }
    for (name, params) in &wishes.params {
        plan.params.insert(name.clone(), params.clone());
    }
    allow_relaxing(caller, &relaxed)?;
    plan.relaxed = relaxed;
    Ok(())
}

fn current_threshold(run: &Run<'_>, plan: &Plan, category: &str) -> f64 {
    let path = std::iter::successors(Some(category), |name| {
        name.rfind('.').and_then(|dot| name.get(..dot))
    });
    path.chain(std::iter::once("*"))
        .find_map(|name| plan.thresholds.get(name).or_else(|| run.tenant.thresholds.get(name)))
        .copied()
        .unwrap_or(0.5)
}

/// A wish about `pii` also lowers a higher threshold of `pii.email`.
fn lower_below(plan: &mut Plan, category: &str, wanted: f64) {
    for (name, threshold) in &mut plan.thresholds {
        if category == "*" || crate::domain::category::covers(category, name) {
            *threshold = threshold.min(wanted);
        }
    }
}

fn allow_relaxing(caller: &Caller, relaxed: &[String]) -> Result<(), Error> {
    if relaxed.is_empty() || caller.may_relax {
        return Ok(());
    }
    let details = relaxed
        .iter()
        .map(|pointer| FieldFault {
            pointer: pointer.clone(),
            detail: "loosens the policy and needs the scope orchestrate:relax; leave it out".into(),
            code: "needs_relax",
            place: None,
        })
        .collect();
    let message = "the request loosens the policy, which needs the scope orchestrate:relax".into();
    Err(Error { code: Code::InsufficientScope, message, details, cause: None })
}
