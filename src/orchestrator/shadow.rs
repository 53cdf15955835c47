//! Detectors and versions that are only observed: asked beside the others, shown where they answer
//! in time, counted in metrics when they do. Nothing waits for them and nothing follows from them.

use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

use super::{Run, stages};
use crate::catalog::Detector;
use crate::detect::{Ask, Work};
use crate::domain::plan::Plan;
use crate::domain::report::{Report, ReportError};
use crate::domain::request::Request;

/// What those that are observed will have said.
#[derive(Default)]
pub(super) struct Shadows(Vec<(Arc<Detector>, Arc<OnceLock<Report>>)>);

/// Asks every shadow detector that the tenant sees, and the shadow versions of the plan's detectors.
/// The calls outlive the answer, each bounded by its time-outs and its detector's bulkhead.
pub(super) fn ask(run: &Run<'_>, plan: &Plan) -> Shadows {
    let Some(calls) = &run.deps.observing else { return Shadows::default() };
    let planned = plan.primary().filter_map(|name| run.seen.detectors.get(name));
    let versions = planned.flat_map(|detector| &detector.versions).map(|v| &v.detector);
    let own = run.seen.shadows.iter().flat_map(Detector::definitions);
    let observed: Vec<&Arc<Detector>> =
        own.chain(versions).filter(|detector| detector.shadow).collect();
    if observed.is_empty() {
        return Shadows::default();
    }
    let request = Arc::new(run.request.clone());
    let asked = observed.into_iter().map(|detector| {
        let slot = Arc::default();
        calls.spawn(observe(run, detector, Arc::clone(&request), Arc::clone(&slot)));
        (Arc::clone(detector), slot)
    });
    Shadows(asked.collect())
}

fn observe(
    run: &Run<'_>,
    detector: &Arc<Detector>,
    request: Arc<Request>,
    slot: Arc<OnceLock<Report>>,
) -> impl Future<Output = ()> + Send + 'static {
    let (detectors, metrics) = (Arc::clone(&run.deps.detectors), Arc::clone(&run.deps.metrics));
    let (caller, pieces) = (run.caller.to_owned(), Arc::clone(&run.pieces));
    let (name, timeout) = (detector.name.clone(), detector.timeout);
    let deadline = Instant::now() + timeout * (detector.retry.attempts + 1);
    let params = serde_json::Value::Null;
    let asks = [Ask { name, detector: Some(Arc::clone(detector)), timeout, params }];
    async move {
        let work = Work { request: &request, caller: &caller, pieces: &pieces };
        if let Some(report) = detectors.fan_out(&asks, &work, deadline).await.pop() {
            let observed = asks.iter().find_map(|ask| ask.detector.as_ref());
            stages::count(&metrics, &report, observed);
            let _ = slot.set(report);
        }
    }
}

impl Shadows {
    /// What was said so far; who has not answered yet is `decided`.
    pub(super) fn reports(&self) -> Vec<Report> {
        let report = |(detector, slot): &(Arc<Detector>, Arc<OnceLock<Report>>)| {
            let version = Arc::clone(&detector.version);
            let late = || Report::unsent(detector.name.clone(), version, ReportError::Decided);
            slot.get().cloned().unwrap_or_else(late)
        };
        self.0.iter().map(report).collect()
    }
}
