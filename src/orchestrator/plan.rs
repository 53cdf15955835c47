//! From the policy's plan, the floor, the event's strategy and the caller's wishes to one `Plan`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Run, split};
use crate::auth::Caller;
use crate::catalog::Tenant;
use crate::catalog::tenant::OnPlanFailure;
use crate::domain::access::Scope;
use crate::domain::action::Action;
use crate::domain::error::{Code, Error, FieldFault};
use crate::domain::id::DetectorName;
use crate::domain::outcome::Degraded;
use crate::domain::plan::{Execution, Plan, StopOn};
use crate::domain::request::{DetectorWishes, Priority};
use crate::domain::verdict::Mode;
use crate::policy::{Failure, FailureKind, FloorPlan, PlanAnswer, Point, StrategyFacts, View};

/// The plan and what making it showed.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) mode: Option<Mode>,
    pub(super) floor_on_incomplete: Option<Action>,
    /// At least this action, because the policy's plan failed.
    pub(super) least_action: Option<Action>,
    pub(super) degraded: Vec<Degraded>,
    /// How the policy's plan failed.
    pub(super) failure: Option<FailureKind>,
}

#[cfg(test)]
mod tests;

type Thresholds = BTreeMap<String, f64>;
type Visible<T> = BTreeMap<DetectorName, T>;

/// Makes the plan; refuses what a policy denies and what the caller may not loosen.
pub(super) async fn make(run: &Run<'_>, caller: &Caller) -> Result<Planned, Error> {
    let visible = &run.seen.detectors;
    check_names(&run.request.detectors, visible)?;
    let mut degraded = Vec::new();
    let strategy = strategy(run, &mut degraded);
    let facts = &run.seen.facts;
    let asked = run.deps.evaluator.plan(run.view, &run.head, facts, strategy.as_ref());
    let answer = run.policy(Point::Plan, asked).await;
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
            from_default(run.tenant, &run.seen.detectors, floor, &failure)
        }
    };
    degraded.append(&mut planned.degraded);
    planned.degraded = degraded;
    planned.plan.event = strategy.map(|strategy| strategy.event.to_owned());
    wish(&run.request.detectors, &run.tenant.thresholds, caller, &mut planned.plan)?;
    let more = loosened(run, caller);
    allow_relaxing(caller, &more)?;
    planned.plan.relaxed.extend(more);
    hold(run.tenant, run.view, &mut planned);
    split::choose(run, &mut planned.plan);
    Ok(planned)
}

/// Takes back what neither a policy nor a request may have.
pub(super) fn hold(tenant: &Tenant, view: &View, planned: &mut Planned) {
    hold_to_files(planned);
    hold_to_the_end((tenant, view), planned);
}

/// A run ends early only where no later answer could take the block back.
fn hold_to_the_end(
    (tenant, view): (&Tenant, &View),
    Planned { plan, degraded, mode, .. }: &mut Planned,
) {
    let mode = mode.unwrap_or(tenant.mode);
    let unsettled = "`resolve` or a quorum may settle against a block";
    let why = match plan.stop_on {
        StopOn::None => None,
        StopOn::Block => view.block_may_pass().or((!plan.resolve.is_empty()).then_some(unsettled)),
    };
    if why.is_none() && plan.stop_on == StopOn::Block && mode == Mode::Monitor {
        let why = "in mode `monitor` only a block of the floor ends the run".to_owned();
        degraded.push(Degraded { what: "stop_on", why });
    }
    if let Some(why) = why {
        plan.stop_on = StopOn::None;
        degraded
            .push(Degraded { what: "stop_on", why: format!("{why}; every detector was asked") });
    }
}

/// What the floor requires is asked as its file says: parameters of a policy or a request could
/// make it find nothing.
fn hold_to_files(planned: &mut Planned) {
    let Plan { params, floor_required, .. } = &mut planned.plan;
    for name in floor_required.iter() {
        if params.remove(name).is_none() {
            continue;
        }
        let why = format!("`{name}`: the floor requires it, its file's parameters hold");
        planned.degraded.push(Degraded { what: "params", why });
    }
}

/// Names in a request must exist; a policy's unknown names count as missing instead.
fn check_names<T>(wishes: &DetectorWishes, visible: &Visible<T>) -> Result<(), Error> {
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
        Some(first) => {
            let message = format!("{}: {}", first.pointer, first.detail);
            Err(Error { details: faults, ..Error::new(Code::InvalidRequest, message) })
        }
    }
}

fn unknown<T>(pointer: String, name: &DetectorName, visible: &Visible<T>) -> FieldFault {
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

pub(super) fn from_answer(answer: &PlanAnswer, strategy: Option<&StrategyFacts<'_>>) -> Planned {
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
    let degraded = answer.degraded.clone();
    let stop_on = answer.stop_on.or(strategy.map(|s| s.stop_on)).unwrap_or_default();
    Planned {
        plan: Plan {
            required,
            floor_required: answer.floor.required.clone(),
            optional,
            secondary,
            execution: answer.execution.or(strategy.map(|s| s.execution)).unwrap_or_default(),
            stages: answer.stages.clone(),
            stop_on,
            coverage: answer.coverage.clone(),
            min_coverage: answer.floor.min_coverage,
            resolve: answer.resolve.clone(),
            timeouts: answer.timeouts.clone(),
            thresholds: answer.thresholds.clone(),
            params: answer.params.clone(),
            versions: BTreeMap::new(),
            event: None,
            relaxed: Vec::new(),
        },
        mode: answer.mode,
        floor_on_incomplete: answer.floor.on_incomplete,
        least_action: None,
        degraded,
        failure: None,
    }
}

/// The tenant's default plan, or every visible detector required.
pub(super) fn from_default<T>(
    tenant: &Tenant,
    visible: &Visible<T>,
    floor: FloorPlan,
    failure: &Failure,
) -> Planned {
    let mut plan = Plan { execution: Execution::Parallel, ..Plan::default() };
    match &tenant.default_plan {
        Some(default) => {
            plan.required = default.required.clone();
            plan.optional = default.optional.difference(&default.required).cloned().collect();
            plan.coverage = default.coverage.clone();
        }
        None => plan.required = visible.keys().cloned().collect(),
    }
    plan.required.extend(floor.required.iter().cloned());
    plan.optional.retain(|name| !floor.required.contains(name));
    plan.floor_required = floor.required.clone();
    plan.min_coverage = floor.min_coverage;
    Planned {
        plan,
        mode: None,
        floor_on_incomplete: floor.on_incomplete,
        least_action: match tenant.on_plan_failure {
            OnPlanFailure::Review => Some(Action::Review),
            OnPlanFailure::Accept => None,
        },
        degraded: vec![failure.degraded()],
        failure: Some(failure.kind),
    }
}

/// Applies the caller's wishes: tightening is free, loosening needs the scope and is named.
pub(super) fn wish(
    wishes: &DetectorWishes,
    tenant_thresholds: &Thresholds,
    caller: &Caller,
    plan: &mut Plan,
) -> Result<(), Error> {
    // Parameters can make a detector find nothing. What the floor requires keeps those of its file.
    let planned = |name: &DetectorName| {
        let sets = [&plan.required, &plan.optional, &plan.secondary];
        sets.iter().any(|set| set.contains(name)) && !plan.floor_required.contains(name)
    };
    let changed = wishes.params.iter().filter(|(name, wish)| plan.params.get(*name) != Some(*wish));
    let mut relaxed: Vec<String> = changed
        .filter(|(name, _)| planned(name))
        .map(|(name, _)| format!("/detectors/params/{name}"))
        .collect();
    for name in &wishes.add {
        plan.optional.remove(name);
        plan.secondary.remove(name);
        plan.required.insert(name.clone());
    }
    let required = |plan: &Plan, name: &DetectorName| {
        plan.required.contains(name) && !plan.floor_required.contains(name)
    };
    if !wishes.only.is_empty() {
        let keep: BTreeSet<&DetectorName> = wishes.only.iter().chain(&wishes.add).collect();
        let sets = [&plan.required, &plan.optional, &plan.secondary];
        let dropped =
            |name: &&DetectorName| !keep.contains(*name) && !plan.floor_required.contains(*name);
        if sets.into_iter().flatten().any(|name| dropped(&name)) {
            relaxed.push("/detectors/only".to_owned());
        }
        let floor = plan.floor_required.clone();
        plan.required.retain(|name| keep.contains(name) || floor.contains(name));
        // Each is asked once, also one that the policy would have kept in reserve.
        plan.secondary.clear();
        let more = wishes.only.iter().filter(|name| !plan.required.contains(*name));
        plan.optional = more.cloned().collect();
    }
    for (index, name) in wishes.exclude.iter().enumerate() {
        let planned = plan.optional.contains(name) || plan.secondary.contains(name);
        if planned || required(plan, name) {
            relaxed.push(format!("/detectors/exclude/{index}"));
        }
        if !plan.floor_required.contains(name) {
            plan.required.remove(name);
        }
        plan.optional.remove(name);
        plan.secondary.remove(name);
    }
    relaxed.extend(wish_thresholds(&wishes.thresholds, tenant_thresholds, plan));
    for (name, params) in &wishes.params {
        plan.params.insert(name.clone(), params.clone());
    }
    allow_relaxing(caller, &relaxed)?;
    plan.relaxed = relaxed;
    Ok(())
}

/// Sets the wished thresholds; gives the pointers of those that are above the policy's.
///
/// A wish about `pii` also lowers a higher threshold of `pii.email`, and raises none. What the
/// tenant's file says is written out, since a plan's entry would otherwise hide it.
fn wish_thresholds(wishes: &Thresholds, tenant: &Thresholds, plan: &mut Plan) -> Vec<String> {
    if wishes.is_empty() {
        return Vec::new();
    }
    let current = |name: &str| {
        most_specific(&plan.thresholds, name)
            .or_else(|| most_specific(tenant, name))
            .map_or(0.5, |(_, threshold)| threshold)
    };
    let raised = wishes.iter().filter(|(name, wanted)| **wanted > current(name));
    let relaxed = raised.map(|(name, _)| format!("/detectors/thresholds/{name}")).collect();
    let names = plan.thresholds.keys().chain(tenant.keys()).chain(wishes.keys());
    let wished = |name: &str| match most_specific(wishes, name) {
        Some((wish, wanted)) if wish == name => wanted,
        Some((_, wanted)) => wanted.min(current(name)),
        None => current(name),
    };
    plan.thresholds = names.map(|name| (name.clone(), wished(name))).collect();
    relaxed
}

/// The entry of `name`, of its nearest parent, or of `*`.
fn most_specific<'a>(thresholds: &'a Thresholds, name: &str) -> Option<(&'a str, f64)> {
    let path =
        std::iter::successors(Some(name), |name| name.rfind('.').and_then(|dot| name.get(..dot)));
    let mut entries =
        path.chain(std::iter::once("*")).filter_map(|name| thresholds.get_key_value(name));
    entries.next().map(|(name, threshold)| (name.as_str(), *threshold))
}

/// What loosens beside the wishes about detectors: a policy that the tenant lists before its
/// default one, and a priority above the key's or the tenant's, which takes from others.
fn loosened(run: &Run<'_>, caller: &Caller) -> Vec<String> {
    let mut relaxed = Vec::new();
    let Tenant { policies, default_policy, max_priority, .. } = run.tenant;
    let place = |name| policies.iter().position(|listed| listed == name);
    if place(run.view.bundle()) < place(default_policy) {
        relaxed.push("/policy".to_owned());
    }
    let most = (*max_priority).max(caller.max_priority.unwrap_or(Priority::Critical));
    if run.request.priority < most {
        relaxed.push("/priority".to_owned());
    }
    relaxed
}

fn allow_relaxing(caller: &Caller, relaxed: &[String]) -> Result<(), Error> {
    if relaxed.is_empty() || caller.holds(Scope::OrchestrateRelax)? {
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
    let message = "the request loosens the policy, which needs the scope orchestrate:relax";
    Err(Error { details, ..Error::new(Code::InsufficientScope, message) })
}
