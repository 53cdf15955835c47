//! Drives the stages of a plan: who is asked after whom, and when that is enough.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt as _;

use super::plan::Planned;
use super::{Run, judge};
use crate::catalog::Detector;
use crate::detect::{Ask, Stop, Work};
use crate::domain::coverage;
use crate::domain::id::DetectorName;
use crate::domain::plan::{Execution, Plan, StopOn};
use crate::domain::report::{Report, ReportError};
use crate::metrics::{Metrics, REGISTERED, Routed};

#[cfg(test)]
mod tests;

/// Asks everyone the plan names, or until a block stands that nobody else can take back; reports
/// come back in plan order.
pub(super) async fn ask(run: &Run<'_>, planned: &Planned) -> Vec<Report> {
    let plan = &planned.plan;
    let Run { request, caller, .. } = *run;
    let work = Work { request, caller, pieces: &run.pieces };
    let mut reports: Vec<Report> = Vec::new();
    let stages = stages(plan);
    let mut left = stages.as_slice();
    while let Some((stage, later)) = left.split_first() {
        let asks: Vec<Ask> = stage.iter().map(|name| ask_of(run, plan, name)).collect();
        let later_ones: Vec<Report> =
            later.iter().flatten().map(|n| decided(run, plan, n)).collect();
        let suffice = |now: Vec<Report>| {
            let all = [reports.clone(), now, later_ones.clone()].concat();
            async move { judge::blocks(run, planned, all).await }.boxed()
        };
        let stop = (plan.stop_on == StopOn::Block).then_some(&suffice as &Stop<'_>);
        let now = run.deps.detectors.fan_out_until(&asks, &work, run.deadline, stop).await;
        let ended = now.iter().any(Report::is_decided)
            || match stop.filter(|_| !later.is_empty()) {
                Some(stop) => stop(now.clone()).await,
                None => false,
            };
        reports.extend(now);
        if ended {
            reports.extend(later_ones);
            break;
        }
        left = later;
    }
    let complete = |reports: &[Report]| {
        coverage::measure(plan, reports, &run.pieces, &run.seen.abilities).complete
    };
    let ended = reports.iter().any(Report::is_decided);
    if !plan.secondary.is_empty() && !ended && !complete(&reports) {
        let asks: Vec<Ask> = plan.secondary.iter().map(|name| ask_of(run, plan, name)).collect();
        reports.extend(run.deps.detectors.fan_out(&asks, &work, run.deadline).await);
    }
    for report in &reports {
        count(&run.deps.metrics, report, run.seen.detectors.get(&report.detector));
    }
    reports
}

/// The report of one that need not be asked any more.
fn decided(run: &Run<'_>, plan: &Plan, name: &DetectorName) -> Report {
    let detector = definition(run, plan, name);
    let version = detector.map_or_else(|| "".into(), |detector| detector.version.clone());
    Report::unsent(name.clone(), version, ReportError::Decided)
}

/// Counts a report of `detector`.
pub(super) fn count(metrics: &Metrics, report: &Report, detector: Option<&Arc<Detector>>) {
    let own = report.attempts > 0 && !report.coalesced;
    let took = own.then_some(report.duration);
    // Policies may name what does not exist, and tenants register what they like.
    let (name, version) = match report.error {
        Some(ReportError::NotRegistered) => ("other", ""),
        _ if detector.is_some_and(|d| d.private_to.is_some()) => (REGISTERED, ""),
        _ => (report.detector.as_str(), &*report.version),
    };
    metrics.detector_call(name, version, (report.status, report.error), took);
    metrics.routed(
        name,
        match (report.attempts, report.coalesced) {
            (0, _) => Routed::Refused,
            (_, true) => Routed::Joined,
            (_, false) => Routed::Sent,
        },
    );
    for finding in &report.findings {
        metrics.findings(name, finding.category.as_str(), 1);
    }
}

/// The detector, or the version of it that takes this content.
fn definition<'a>(run: &Run<'a>, plan: &Plan, name: &DetectorName) -> Option<&'a Arc<Detector>> {
    let detector = run.seen.detectors.get(name)?;
    let version = plan.versions.get(name);
    let mut known = detector.versions.iter().map(|version| &version.detector);
    Some(known.find(|known| Some(&known.version) == version).unwrap_or(detector))
}

fn ask_of(run: &Run<'_>, plan: &Plan, name: &DetectorName) -> Ask {
    let detector = definition(run, plan, name).cloned();
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
