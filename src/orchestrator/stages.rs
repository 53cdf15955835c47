//! Drives the stages of a plan: who is asked after whom.

use std::collections::BTreeSet;

use super::Run;
use crate::detect::{Ask, Work};
use crate::domain::coverage;
use crate::domain::id::DetectorName;
use crate::domain::plan::{Execution, Plan};
use crate::domain::report::{Report, ReportError};
use crate::metrics::REGISTERED;

/// Asks everyone the plan names; reports come back in plan order.
pub(super) async fn ask(run: &Run<'_>, plan: &Plan) -> Vec<Report> {
    let Run { request, caller, .. } = *run;
    let work = Work { request, caller, pieces: &run.pieces, traceparent: None };
    let mut reports = Vec::new();
    for stage in stages(plan) {
        reports.extend(one(run, plan, &work, &stage).await);
    }
    let complete = |reports: &[Report]| {
        coverage::measure(plan, reports, &run.pieces, &run.seen.abilities).complete
    };
    if !plan.secondary.is_empty() && !complete(&reports) {
        let secondary: Vec<DetectorName> = plan.secondary.iter().cloned().collect();
        reports.extend(one(run, plan, &work, &secondary).await);
    }
    for report in &reports {
        count(run, report);
    }
    reports
}

fn count(run: &Run<'_>, report: &Report) {
    let metrics = &run.deps.metrics;
    let own = report.attempts > 0 && !report.coalesced;
    let took = own.then_some(report.duration);
    // Policies may name what does not exist, and tenants register what they like.
    let seen = run.seen.detectors.get(&report.detector);
    let (name, version) = match report.error {
        Some(ReportError::NotRegistered) => ("other", ""),
        _ if seen.is_some_and(|d| d.private_to.is_some()) => (REGISTERED, ""),
        _ => (report.detector.as_str(), &*report.version),
    };
    metrics.detector_call(name, version, (report.status, report.error), took);
    for finding in &report.findings {
        metrics.findings(name, finding.category.as_str(), 1);
    }
}

async fn one(run: &Run<'_>, plan: &Plan, work: &Work<'_>, stage: &[DetectorName]) -> Vec<Report> {
    let asks: Vec<Ask> = stage.iter().map(|name| ask_of(run, plan, name)).collect();
    run.deps.detectors.fan_out(&asks, work, run.deadline).await
}

fn ask_of(run: &Run<'_>, plan: &Plan, name: &DetectorName) -> Ask {
    let detector = run.seen.detectors.get(name).cloned();
    let own = detector.as_ref().map(|detector| detector.timeout).unwrap_or_default();
    let planned = plan.timeouts.get(name).copied();
    let timeout = match planned {
        // The floor's detectors keep at least the time their file gives them.
        Some(planned) if plan.floor_required.contains(name) => planned.max(own),
        Some(planned) => planned,
        None => own,
    };
    let params = plan.params.get(name).cloned().unwrap_or_default();
    Ask { name: name.clone(), detector, timeout, params }
}

/// Groups asked one after the other; what no stage names comes last.
fn stages(plan: &Plan) -> Vec<Vec<DetectorName>> {
    let mut left: BTreeSet<DetectorName> = plan.primary().cloned().collect();
    let mut stages: Vec<Vec<DetectorName>> = Vec::new();
    if plan.execution != Execution::Parallel {
        for stage in &plan.stages {
            stages.push(stage.iter().filter(|name| left.remove(*name)).cloned().collect());
        }
    }
    match plan.execution {
        Execution::Sequential => stages.extend(left.into_iter().map(|name| vec![name])),
        Execution::Parallel | Execution::Cascade => stages.push(left.into_iter().collect()),
    }
    stages.retain(|stage| !stage.is_empty());
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<DetectorName> {
        list.iter().map(|name| DetectorName::parse(name).unwrap()).collect()
    }

    #[test]
    fn what_no_stage_names_is_asked_last() {
        let mut plan = Plan { execution: Execution::Cascade, ..Plan::default() };
        plan.required = names(&["a", "b", "c"]).into_iter().collect();
        plan.stages = vec![names(&["c", "zzz"]), names(&["c"])];
        assert_eq!(stages(&plan), [names(&["c"]), names(&["a", "b"])]);
        plan.execution = Execution::Sequential;
        assert_eq!(stages(&plan), [names(&["c"]), names(&["a"]), names(&["b"])]);
        plan.execution = Execution::Parallel;
        assert_eq!(stages(&plan), [names(&["a", "b", "c"])]);
    }
}
