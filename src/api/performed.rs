//! Jobs carried out: the same orchestrations as requests, with nobody waiting at a socket.

use std::rc::Rc;
use std::time::Duration;

use actix_web::web::Data;
use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::routes::orchestrate::{
    BatchItem, BatchRequest, BatchResponse, log, of_tenant, parallel,
};
use super::wire::request::OrchestrateRequest;
use super::wire::response;
use super::{Api, admit, problem, strict};
use crate::auth::Caller;
use crate::domain::coverage::Coverage;
use crate::domain::error::{Code, Error};
use crate::domain::id::RequestId;
use crate::domain::job::JobType;
use crate::domain::outcome::Outcome;
use crate::domain::report::{Report, ReportError, Status};
use crate::domain::request::{Priority, Request};
use crate::jobs::{self, Asker, Fruitless, Perform, Progress, Task, Tried};
use crate::orchestrator::{self, Ran, Step, Steps};
use crate::snapshot::Snapshot;
use crate::telemetry::traces::{self, SPANS};

/// How the log calls what is answered to nobody.
const ROUTE: &str = "job";
/// How long a detector that takes batches waits for more of a batch.
const GATHER: Duration = Duration::from_millis(100);
/// Requests of a batch at once, unless it says otherwise: as many as one call holds.
const PARALLEL: usize = 50;
/// Between two looks for a slot in a service at its limit.
const CROWDED: Duration = Duration::from_secs(2);

/// What carries jobs out for `api`.
pub fn perform(api: Data<Api>) -> Perform {
    Rc::new(move |mut task| {
        let api = api.clone();
        let span = tracing::trace_span!(target: SPANS, "job", otel.kind = "consumer",
            job.type = task.job.job_type.name(), job.attempt = task.job.attempts,
            tenant.id = Empty, decision.action = Empty, otel.status_code = Empty);
        if let Some(maker) = &task.payload.trace {
            traces::follow(&span, maker);
        }
        async move {
            // Where no span leaves, detectors and the log are told of the maker's.
            if let Some(here) = traces::current() {
                task.payload.trace = Some(here);
            }
            let tried = match task.job.job_type {
                JobType::Orchestrate => one(&api, task).await,
                JobType::Batch => batch(&api, task).await,
            };
            if tried.is_err() {
                Span::current().record("otel.status_code", "ERROR");
            }
            tried
        }
        .instrument(span)
        .boxed_local()
    })
}

/// Who asks, and in what state of the service.
struct Asking<'a> {
    api: &'a Api,
    caller: &'a Caller,
    snapshot: &'a Snapshot,
    priority: Priority,
}

/// Whether whoever asked may still have anything judged: a revoked key may not.
async fn is_wanted(api: &Api, asker: &Asker) -> Result<(), Fruitless> {
    let Some(prefix) = asker.key_prefix() else { return Ok(()) };
    if !api.gate.keys().is_revoked(prefix).await.map_err(Fruitless::Error)? {
        return Ok(());
    }
    let message = "the key that the job was made with was revoked; make the job anew with another";
    Err(Fruitless::Error(Error::new(Code::Unauthorized, message)))
}

async fn one(api: &Api, task: Task) -> Tried {
    let Task { job, payload, progress } = task;
    is_wanted(api, &payload.asker).await?;
    let (caller, snapshot) = (Caller::from(payload.asker), api.live.current());
    let asking = Asking { api, caller: &caller, snapshot: &snapshot, priority: job.priority };
    let wire = read::<OrchestrateRequest>(payload.data).map_err(Fruitless::Error)?;
    let of = (wire, job.of.tenant.clone());
    let request = of_tenant(api, (&caller, &snapshot), of, payload.request_id);
    let mut request = request.map_err(Fruitless::Error)?;
    request.no_store = payload.no_store;
    request.trace = payload.trace;
    let (outcome, started) = asking.judged(&mut request, Some(&progress)).await?;
    progress.reach(0.9);
    tried((api, &caller), &request, &outcome, started)
}

/// What came of a try: its answer, unless what is missing may be there at the next.
pub(super) fn tried(
    (api, caller): (&Api, &Caller),
    request: &Request,
    outcome: &Outcome,
    started: Instant,
) -> Tried {
    let took = started.elapsed();
    log((api, ROUTE), outcome, (request, caller), (200, took));
    if let Some((code, rest)) = passing(outcome) {
        return Err(Fruitless::Incomplete(code, rest));
    }
    let answer = response::render(outcome, request, took);
    serde_json::to_value(&answer).map_err(|error| {
        let error =
            Error::new(Code::InternalError, "the answer could not be written").caused_by(error);
        Fruitless::Error(error.lasting())
    })
}

/// The coverage's code, where a required detector is missing for a reason that may pass, and how long
/// those that are missing ask to be left alone.
fn passing(outcome: &Outcome) -> Option<(&'static str, Duration)> {
    let Coverage { complete, code, missing, .. } = &outcome.coverage;
    let may_pass = |report: &&Report| match (report.status, report.error) {
        (Status::Timeout, _) => true,
        (Status::Failed, error) => error != Some(ReportError::Rejected) || report.rest.is_some(),
        (Status::Unavailable, error) => {
            !matches!(error, Some(ReportError::NotRegistered | ReportError::EndpointForbidden))
        }
        (Status::Skipped, error) => error == Some(ReportError::Deadline),
        // It refused a part of a long text.
        (Status::Success, _) => report.rest.is_some(),
    };
    let missed = outcome.reports.iter().filter(|report| missing.contains(&report.detector));
    let rest = missed.filter(may_pass).map(|report| report.rest.unwrap_or_default()).max();
    code.filter(|_| !complete).map(|code| code.name()).zip(rest)
}

impl Asking<'_> {
    /// Judges `request` in a slot, however long one is not free.
    async fn judged(
        &self,
        request: &mut Request,
        progress: Option<&Progress>,
    ) -> Result<(Outcome, Instant), Fruitless> {
        request.priority = self.priority;
        let patience = self.api.deps.settings.orchestration.sla.async_ms;
        let timeout_ms = request.timeout_ms.unwrap_or(patience);
        let _slot = loop {
            request.timeout_ms = Some(timeout_ms);
            match admit::slot(self.api, self.snapshot, request).await {
                Ok(slot) => break slot,
                Err(error) if error.code == Code::Overloaded => {
                    sleep(error.retry_after.unwrap_or(CROWDED)).await;
                }
                Err(error) => return Err(Fruitless::Error(error)),
            }
        };
        let started = Instant::now();
        let told = |step: Step| {
            let Some(progress) = progress else { return };
            progress.reach(match step {
                Step::Planned => 0.45,
                Step::Asked => 0.7,
                Step::Decided => 0.9,
            });
        };
        let steps = Steps { told: Some(&told), patience: None };
        let who = (self.caller, &*request);
        let ran = orchestrator::run_in_steps(&self.api.deps, self.snapshot, who, steps).await;
        match ran.map_err(Fruitless::Error)? {
            Ran::Outcome(outcome) => Ok((*outcome, started)),
            Ran::Postponed(_) => {
                let error = Error::new(Code::InternalError, "a job cannot be postponed");
                Err(Fruitless::Error(error.lasting()))
            }
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(data: Value) -> Result<T, Error> {
    strict::of_value::<strict::Object<T>>(data).map(|strict::Object(read)| read)
}

/// Each in its place; the try fails where every single one misses what may be there at the next.
async fn batch(api: &Api, task: Task) -> Tried {
    let Task { job, payload, progress } = task;
    is_wanted(api, &payload.asker).await?;
    let (caller, snapshot) = (Caller::from(payload.asker), api.live.current());
    let asking = Asking { api, caller: &caller, snapshot: &snapshot, priority: job.priority };
    let batch = read::<BatchRequest>(payload.data).map_err(Fruitless::Error)?;
    let most = parallel(api, &snapshot, Some(job.of.tenant.clone()));
    let (most, count) = (batch.max_parallel.unwrap_or(PARALLEL).min(most), batch.requests.len());
    let done = std::cell::Cell::new(0_usize);
    let items = batch.requests.into_iter().enumerate().map(|(index, value)| {
        let id = payload.request_id.as_str().chars().take(96).collect::<String>();
        let id = RequestId::kept_of(&format!("{id}-{index}"));
        let (asking, tenant, done, progress) = (&asking, &job.of.tenant, &done, &progress);
        let (no_store, trace) = (payload.no_store, payload.trace.clone());
        async move {
            let item = async {
                let wire = read::<OrchestrateRequest>(value.0).map_err(Fruitless::Error)?;
                if wire.tenant_id.as_deref().is_some_and(|named| named != tenant.as_str()) {
                    return Err(Fruitless::Error(super::caller::mismatch()));
                }
                let of = (wire, tenant.clone());
                let who = (asking.caller, asking.snapshot);
                let request = of_tenant(api, who, of, id.clone());
                let mut request = request.map_err(Fruitless::Error)?;
                request.no_store = no_store;
                request.trace = trace;
                request.gather = Some(GATHER);
                let (outcome, started) = asking.judged(&mut request, None).await?;
                let missed = passing(&outcome);
                let took = started.elapsed();
                log((api, ROUTE), &outcome, (&request, asking.caller), (200, took));
                let answer = response::render(&outcome, &request, took);
                Ok((serde_json::to_value(&answer).unwrap_or_default(), missed))
            };
            let ended = item.await;
            done.set(done.get() + 1);
            progress.reach(0.05 + 0.85 * done.get() as f64 / count.max(1) as f64);
            (index, id, ended)
        }
    });
    let ended = jobs::batch::in_order(items, most).await;
    if let Some((code, rest)) = all_missed(&ended) {
        return Err(Fruitless::Incomplete(code, rest));
    }
    let results = ended.into_iter().map(|(index, id, ended)| match ended {
        Ok((answer, _)) => BatchItem { index, status: 200, response: Some(answer), problem: None },
        Err(why) => refused(index, &id, why),
    });
    Ok(serde_json::to_value(BatchResponse::of(results.collect())).unwrap_or_default())
}

/// What became of one request of a batch: its answer and what `passing` says of it.
type Ended = Result<(Value, Option<(&'static str, Duration)>), Fruitless>;

/// The first code and the longest rest, where every single one missed what may be there later.
fn all_missed(ended: &[(usize, RequestId, Ended)]) -> Option<(&'static str, Duration)> {
    let missed = |(_, _, ended): &(usize, RequestId, Ended)| {
        ended.as_ref().ok().and_then(|(_, missed)| *missed)
    };
    let all: Option<Vec<_>> = ended.iter().map(missed).collect();
    let all = all?;
    let rest = all.iter().map(|(_, rest)| *rest).max()?;
    all.first().map(|(code, _)| (*code, rest))
}

fn refused(index: usize, id: &RequestId, why: Fruitless) -> BatchItem {
    let mut error = match why {
        Fruitless::Error(error) => error,
        Fruitless::Incomplete(code, _) => Error::new(Code::InternalError, code),
        Fruitless::Sealed => Error::new(Code::InternalError, "the job cannot be opened here"),
    };
    for detail in &mut error.details {
        detail.pointer = format!("/job_data/requests/{index}{}", detail.pointer);
    }
    let problem = problem::of(&error, id.as_str(), "/api/v1/jobs");
    let (status, problem) = (problem.status, serde_json::to_value(&problem).ok());
    BatchItem { index, status, response: None, problem }
}
