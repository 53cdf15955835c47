//! The same requests under an `Idempotency-Key`: carried out once, answered alike.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

use super::super::jobs::accepted_response;
use super::{
    Answered, BatchItem, BatchRequest, BatchResponse, Item, Judged, OnceKey, OrchestrateRequest,
    check_batch, domain, in_batch, judged, replied, slow, status,
};
use crate::admission::Place;
use crate::api::admit::{self, Part};
use crate::api::caller::tenant;
use crate::api::edge::request_id;
use crate::api::idempotency::{Asked, Claims, Kept, REPLAYED, Turn, fingerprint, once, outlast};
use crate::api::routes::{Answer, json};
use crate::api::wire::response;
use crate::api::{Api, body, problem, strict, trace};
use crate::auth::Caller;
use crate::domain::content::Body;
use crate::domain::error::Error;
use crate::domain::id::{RequestId, TenantId};
use crate::domain::outcome::Outcome;
use crate::domain::request::Request;
use crate::domain::trace::TraceContext;
use crate::orchestrator;
use crate::snapshot::Snapshot;
use crate::telemetry::DecisionLine;

/// The routes that a key belongs to; another is that of one request within a batch.
const ONE: &str = "/orchestrate";
const BATCH: &str = "/orchestrate/batch";
const ITEM: &str = "/orchestrate/batch/item";

/// Judges one piece of content once.
pub(super) async fn one(
    http: HttpRequest,
    payload: Payload,
    api: Data<Api>,
    (caller, key): (Caller, String),
) -> Answer {
    let started = Instant::now();
    let limits = api.body_limits();
    let (wire, received) = body::json_and_value(&http, payload, limits).await?;
    let snapshot = api.live.current();
    let mut request = domain(&api, &http, (&caller, &snapshot), wire, request_id(&http))?;
    request.again = true;
    admit::rate(&api, &http, (&caller, &snapshot), (&request.tenant, Part::First))?;
    let asked = Asked::new(&api.deps.pepper, &request.tenant, (ONE, &key), &received)?;
    let received = slow::may(&snapshot, http.headers(), &request).then_some(received);
    let until = deadline(&api, &snapshot, &request);
    let work = move |claims: Claims| async move {
        let first = async |waited| {
            let mut request = request.clone();
            shorten(&mut request, waited, until);
            if let Some(received) = &received {
                let asked = slow::Asked {
                    api: api.clone(),
                    http: http.clone(),
                    caller: caller.clone(),
                    snapshot: Arc::clone(&snapshot),
                    request,
                    received: received.clone(),
                    key: Some(asked.request()),
                    started,
                };
                return in_time(asked).await;
            }
            match placed((&api, &http), (&caller, &snapshot), &mut request).await {
                Ok((_place, judged)) => {
                    first((&api, &http), (&caller, &request), &judged.outcome, started)
                }
                Err(error) => refusal(error, (&request, &http)),
            }
        };
        match once((&api, &claims), &asked, until, first).await? {
            Turn::First(answer) => answer,
            Turn::Again(kept) => {
                let kept: Kept = kept;
                log((&api, &http), (&request.tenant, &caller), (kept.status, started));
                Ok(kept.response(&request.body))
            }
        }
    };
    Ok(outlast(work).await?)
}

/// A first answer, and what is kept of it.
type First = (Result<HttpResponse, Error>, Option<Kept>);

/// The first answer to a request that may become a job.
async fn in_time(asked: slow::Asked) -> First {
    let slow::Asked { api, http, caller, request, started, .. } = asked.clone();
    match slow::judge(asked).await {
        Ok(slow::Went::Judged(outcome)) => {
            first((&api, &http), (&caller, &request), &outcome, started)
        }
        Ok(slow::Went::Job(job)) => (accepted_response(&job), Some(Kept::accepted(&job))),
        Err(error) => refusal(error, (&request, &http)),
    }
}

fn refusal(error: Error, (request, http): (&Request, &HttpRequest)) -> First {
    let problem = problem::of(&error, request.id.as_str(), http.path());
    let kept = kept_problem(&error, &problem);
    (Err(error), kept)
}

/// Judges `request` in a place among its tenant's.
async fn placed<'a>(
    (api, http): (&'a Api, &HttpRequest),
    (caller, snapshot): (&Caller, &Snapshot),
    request: &mut Request,
) -> Result<(Option<Place>, Judged<'a>), Error> {
    let place = admit::place(api, snapshot, &request.tenant)?;
    Ok((place, judged((api, http), (caller, snapshot), request).await?))
}

/// The first answer, and what is kept of it: nothing where another try may end otherwise.
fn first(
    (api, http): (&Api, &HttpRequest),
    (caller, request): (&Caller, &Request),
    outcome: &Outcome,
    started: Instant,
) -> First {
    let answer = response::render(outcome, request, started.elapsed());
    let response = replied((api, http), &answer, outcome, (request, caller), started);
    let status = status(api, outcome);
    let kept = is_kept(status)
        .then(|| Kept::answer(&answer.without_content(), outcome, status, headers(outcome)));
    (response, kept.flatten())
}

/// Headers that say what the outcome was.
fn headers(outcome: &Outcome) -> Vec<(String, String)> {
    let revision = ("x-policy-revision".to_owned(), outcome.revision.clone());
    let own = outcome.verdict.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    std::iter::once(revision).chain(own).collect()
}

fn is_kept(status: u16) -> bool {
    status < 500 && status != 429 && status != 408
}

/// What is kept of a refusal: nothing where the same request may pass later.
pub(super) fn kept_problem(error: &Error, problem: &problem::Problem<'_>) -> Option<Kept> {
    let lasts = is_kept(problem.status) && !error.code.info().retryable;
    lasts.then(|| Kept::problem(problem))
}

/// What is kept of an answer within a batch.
pub(super) fn kept_value(
    answer: response::Answer<'_>,
    outcome: &Outcome,
    status: u16,
) -> Option<Kept> {
    // As the first answer was: through a value, which sorts its keys.
    let bare = serde_json::to_value(answer.without_content()).ok()?;
    if is_kept(status) { Kept::answer(&bare, outcome, status, Vec::new()) } else { None }
}

fn deadline(api: &Api, snapshot: &Snapshot, request: &Request) -> tokio::time::Instant {
    let tenant = snapshot.catalog.tenants.get(&request.tenant);
    let budget = tenant.map(|tenant| orchestrator::budget(&api.deps, tenant, request));
    tokio::time::Instant::now() + budget.unwrap_or_default()
}

/// Who waited for another has so much less time for the detectors.
fn shorten(request: &mut Request, waited: Duration, until: tokio::time::Instant) {
    if waited >= Duration::from_millis(1) {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        request.timeout_ms = u64::try_from(left.as_millis()).ok();
    }
}

/// The one line of a request that was answered from what was kept.
fn log(
    (api, http): (&Api, &HttpRequest),
    (tenant, caller): (&TenantId, &Caller),
    (status, started): (u16, Instant),
) {
    let Some(log) = &api.log else { return };
    let trace = trace::of(http);
    log.decision_line(&DecisionLine {
        request_id: request_id(http).as_str(),
        trace_id: trace.as_ref().map_or("", TraceContext::trace_id),
        span_id: trace.as_ref().map_or("", TraceContext::span_id),
        tenant: tenant.as_str(),
        key_prefix: caller.key_prefix.as_deref().unwrap_or_default(),
        route: http.match_pattern().as_deref().unwrap_or_default(),
        status,
        duration_ms: response::milliseconds(started.elapsed()),
        idempotency: REPLAYED,
        ..DecisionLine::default()
    });
}

/// Judges each request of a batch once. A batch that broke off goes on where it was.
pub(super) async fn batch(
    http: HttpRequest,
    payload: Payload,
    api: Data<Api>,
    (caller, key): (Caller, String),
) -> Answer {
    let started = Instant::now();
    let limits = api.body_limits();
    let (batch, received): (BatchRequest, _) = body::json_and_value(&http, payload, limits).await?;
    check_batch(&batch)?;
    let snapshot = api.live.current();
    let home = tenant(&http, &caller, None, &snapshot)?;
    let asked = Asked::new(&api.deps.pepper, &home, (BATCH, &key), &received)?;
    drop(received);
    let patience = Duration::from_millis(api.deps.settings.orchestration.sla.normal_ms);
    let until = tokio::time::Instant::now() + patience;
    let work = move |claims: Claims| async move {
        let first = async |_| {
            let once = Some((key.as_str(), &*claims));
            match in_batch((&api, &http), (&caller, &snapshot), batch.clone(), once).await {
                Err(error) => (Err(error), None),
                Ok(judged) => {
                    let (results, kept): (Vec<_>, Vec<_>) = judged.into_iter().unzip();
                    // What may end otherwise is judged again by the next try, the rest is not.
                    (
                        Ok(BatchResponse::of(results)),
                        kept.into_iter().collect::<Option<Vec<Kept>>>(),
                    )
                }
            }
        };
        match once((&api, &claims), &asked, until, first).await? {
            Turn::First(answer) => Ok((answer?, false)),
            Turn::Again(kept) => {
                log((&api, &http), (&home, &caller), (200, started));
                let all = kept.iter().zip(&batch.requests).enumerate();
                let items = all.map(|(index, (kept, sent))| again(index, kept, &sent.0));
                Ok((BatchResponse::of(items.collect()), true))
            }
        }
    };
    let (answer, replayed) = outlast(work).await?;
    let mut response = json(&answer)?;
    if replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// One kept answer of a batch, with the content that was sent again.
fn again(index: usize, kept: &Kept, sent: &Value) -> BatchItem {
    let sent = if kept.needs_content() { content(sent) } else { None };
    let status = kept.status;
    match kept.value(sent.as_ref()) {
        Ok(answer) => BatchItem { index, status, response: Some(answer), problem: None },
        Err(problem) => BatchItem { index, status, response: None, problem: Some(problem) },
    }
}

fn content(sent: &Value) -> Option<Body> {
    let wire = strict::of_value::<strict::Object<OrchestrateRequest>>(sent.clone());
    wire.ok()?.0.into_body()
}

impl Item<'_> {
    /// Judges `value` once under the batch's key and its own fingerprint.
    pub(super) async fn once(
        &self,
        value: Value,
        id: RequestId,
        (key, claims): OnceKey<'_>,
    ) -> Result<Answered, Error> {
        let started = Instant::now();
        let child = format!("{key}:{}:{}", self.index, fingerprint(&value)?.hex());
        let wire = strict::of_value::<strict::Object<OrchestrateRequest>>(value.clone())?.0;
        let (api, who) = (self.api, (self.caller, self.snapshot));
        let mut request = domain(api, self.http, who, wire, id)?;
        request.again = true;
        admit::rate(api, self.http, who, (&request.tenant, self.part()))?;
        let asked = Asked::new(&api.deps.pepper, &request.tenant, (ITEM, &child), &value)?;
        let until = deadline(api, self.snapshot, &request);
        let first = async |waited| {
            let mut request = request.clone();
            shorten(&mut request, waited, until);
            let judged = judged((api, self.http), who, &mut request).await;
            let answer =
                judged.and_then(|judged| self.answered(&judged.outcome, &request, started));
            let kept = answer.as_ref().ok().and_then(|(_, _, kept)| kept.clone());
            (answer, kept)
        };
        match once((api, claims), &asked, until, first).await? {
            Turn::First(answer) => answer,
            Turn::Again(kept) => {
                let kept: Kept = kept;
                log((api, self.http), (&request.tenant, self.caller), (kept.status, started));
                let value = kept.value(Some(&request.body)).unwrap_or_default();
                Ok((kept.status, value, Some(kept)))
            }
        }
    }
}
