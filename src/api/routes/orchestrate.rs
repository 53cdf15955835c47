//! `POST /orchestrate` and `POST /orchestrate/batch`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix_web::web::{Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::jobs::accepted_response;
use super::{Answer, at, json, resource};
use crate::admission::Slot;
use crate::api::admit::{self, Part};
use crate::api::caller::{NoQuery, query, tenant};
use crate::api::edge::{Failed, request_id};
use crate::api::idempotency::{self, Kept};
use crate::api::wire::job::AcceptedJob;
use crate::api::wire::request::{Bounds, OrchestrateRequest};
use crate::api::wire::response;
use crate::api::{Api, body, envelope, problem, strict, trace};
use crate::auth::Caller;
use crate::domain::action::Action;
use crate::domain::error::{Code, Error};
use crate::domain::id::{RequestId, TenantId};
use crate::domain::outcome::Outcome;
use crate::domain::request::Request;
use crate::domain::trace::TraceContext;
use crate::operations::Operation;
use crate::settings::VerdictStatus;
use crate::snapshot::Snapshot;
use crate::telemetry::DecisionLine;
use crate::{jobs, orchestrator, telemetry};

mod once;
mod slow;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/orchestrate/batch")).route(web::post().to(batch)));
    config.service(resource(&at("/orchestrate")).route(web::post().to(orchestrate)));
}

/// Judges one piece of content.
#[utoipa::path(post, path = "/api/v1/orchestrate", tag = "orchestrate",
    params(("Idempotency-Key" = Option<String>, Header,
        description = "Carries the request out once in 24 hours: repeated, it gives the same answer"),
        ("Prefer" = Option<String>, Header,
        description = "`respond-async`: what takes more than 1.5 s becomes a job")),
    request_body = OrchestrateRequest,
    responses(
        (status = 202, description = "It is a job now: it would take long, or does, and the caller \
            prefers so", body = AcceptedJob),
        (status = 200, description = "There is an action, also with partial coverage",
         body = response::Answer,
         headers(("Idempotent-Replayed" = Option<String>,
            description = "`true` where the answer is that of an earlier request"))),
        (status = "4XX", description = "No verdict exists", body = problem::Problem,
         content_type = "application/problem+json"),
        (status = "5XX", description = "No verdict exists", body = problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn orchestrate(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    let started = Instant::now();
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    admit::hope(&api, &caller)?;
    if let Some(key) = idempotency::key(&http)? {
        return once::one(http, payload, api, (caller, key)).await;
    }
    let bytes = body::bytes(&http, payload, api.body_limits()).await?;
    let wire: OrchestrateRequest = strict::parse(&bytes)?;
    let snapshot = api.live.current();
    let mut request = domain(&api, &http, (&caller, &snapshot), wire, request_id(&http))?;
    if slow::may(&snapshot, http.headers(), &request) {
        let strict::Value(received) = strict::parse(&bytes)?;
        admit::rate(&api, &http, (&caller, &snapshot), (&request.tenant, Part::First))?;
        let asked =
            slow::Asked { api, http, caller, snapshot, request, received, key: None, started };
        return Ok(in_time(asked).await?);
    }
    drop(bytes);
    let _place = admit::place(&api, &snapshot, &request.tenant)?;
    let _slot = admit::slot(&api, &snapshot, &mut request).await?;
    admit::count(&api, &http, (&caller, &snapshot), (&request.tenant, Part::First))?;
    let outcome = orchestrator::run(&api.deps, &snapshot, &caller, &request).await?;
    let answer = response::render(&outcome, &request, started.elapsed());
    Ok(replied((&api, &http), &answer, &outcome, (&request, &caller), started)?)
}

/// The answer to a request that may become a job.
async fn in_time(asked: slow::Asked) -> Result<HttpResponse, Error> {
    match slow::judge(asked.clone()).await? {
        slow::Went::Job(job) => accepted_response(&job),
        slow::Went::Judged(outcome) => {
            let slow::Asked { api, http, caller, request, started, .. } = asked;
            let answer = response::render(&outcome, &request, started.elapsed());
            replied((&api, &http), &answer, &outcome, (&request, &caller), started)
        }
    }
}

/// The answer with its headers, and its line in the log.
fn replied(
    (api, http): (&Api, &HttpRequest),
    answer: &response::Answer<'_>,
    outcome: &Outcome,
    (request, caller): (&Request, &Caller),
    started: Instant,
) -> Result<HttpResponse, Error> {
    let status = status(api, outcome);
    let mut response = json(answer).map_err(|Failed(error)| error)?;
    if status != 200 {
        let code = actix_web::http::StatusCode::from_u16(status);
        *response.status_mut() = code.unwrap_or(actix_web::http::StatusCode::OK);
    }
    decorate(&mut response, outcome);
    let route = http.match_pattern().unwrap_or_default();
    log((api, &route), outcome, (request, caller), (status, started.elapsed()));
    Ok(response)
}

/// An outcome, and the slot that its answer is made in.
struct Judged<'a> {
    outcome: Outcome,
    _slot: Option<Slot<'a>>,
}

/// Judges what was held against its rates, as soon as there is a slot.
async fn judged<'a>(
    (api, http): (&'a Api, &HttpRequest),
    (caller, snapshot): (&Caller, &Snapshot),
    request: &mut Request,
) -> Result<Judged<'a>, Error> {
    let slot = admit::slot(api, snapshot, request).await?;
    admit::quota((api, http), snapshot, &request.tenant)?;
    let outcome = orchestrator::run(&api.deps, snapshot, caller, request).await?;
    Ok(Judged { outcome, _slot: slot })
}

/// The one line of an answered request.
pub(in crate::api) fn log(
    (api, route): (&Api, &str),
    outcome: &Outcome,
    (request, caller): (&Request, &Caller),
    (status, took): (u16, Duration),
) {
    trace::tell_tenant(request.tenant.as_str(), outcome.verdict.action.name());
    let Some(log) = &api.log else { return };
    let share = api.deps.settings.telemetry.log_sample.allow;
    let plain = outcome.verdict.action == Action::Allow && outcome.coverage.complete;
    if plain && !telemetry::keeps(share, request.id.as_str()) {
        return;
    }
    let trace = request.trace.as_ref();
    let mut findings = BTreeMap::new();
    for finding in &outcome.judgement.findings {
        *findings.entry(finding.category.as_str()).or_default() += 1;
    }
    let failed = outcome.reports.iter().filter(|report| !report.answered());
    log.decision_line(&DecisionLine {
        request_id: request.id.as_str(),
        trace_id: trace.map_or("", TraceContext::trace_id),
        span_id: trace.map_or("", TraceContext::span_id),
        tenant: request.tenant.as_str(),
        key_prefix: caller.key_prefix.as_deref().unwrap_or_default(),
        route,
        status,
        action: Some(outcome.verdict.action.name()),
        complete: Some(outcome.coverage.complete),
        policy: Some(outcome.policy.as_str()),
        revision: &outcome.revision,
        cache: outcome.cache.name(),
        detectors: outcome.reports.len(),
        failed: failed.map(|report| report.detector.as_str()).collect(),
        unjudged: outcome.coverage.unjudged.len(),
        findings,
        content_chars: outcome.pieces.iter().map(|piece| piece.chars).sum(),
        duration_ms: response::milliseconds(took),
        overhead_ms: response::milliseconds(outcome.overhead),
        priority: request.priority.name(),
        degraded: outcome.degraded.iter().map(|degraded| degraded.what).collect(),
        idempotency: if request.again { idempotency::EXECUTED } else { "" },
        ..DecisionLine::default()
    });
}

pub(in crate::api) fn domain(
    api: &Api,
    http: &HttpRequest,
    (caller, snapshot): (&Caller, &Snapshot),
    wire: OrchestrateRequest,
    id: RequestId,
) -> Result<Request, Error> {
    envelope::check_body(api, &wire)?;
    let tenant = tenant(http, caller, wire.tenant_id.as_deref(), snapshot)?;
    let mut request = of_tenant(api, (caller, snapshot), (wire, tenant), id)?;
    request.no_store = no_store(http);
    request.trace = trace::of(http);
    Ok(request)
}

/// The request of `tenant` that `wire` is, as urgent as its caller may be by itself.
pub(in crate::api) fn of_tenant(
    api: &Api,
    (caller, snapshot): (&Caller, &Snapshot),
    (wire, tenant): (OrchestrateRequest, TenantId),
    id: RequestId,
) -> Result<Request, Error> {
    let bounds = Bounds { content_chars_max: api.deps.settings.orchestration.content_max_chars };
    let most = snapshot.catalog.tenants.get(&tenant).map(|tenant| tenant.max_priority);
    let most = most.max(caller.max_priority);
    let said = wire.priority.is_some();
    let mut request = wire.into_domain(id, tenant, bounds)?;
    if !said && let Some(most) = most {
        request.priority = request.priority.max(most);
    }
    Ok(request)
}

/// Whether `Cache-Control` holds `no-store`.
pub(in crate::api) fn no_store(http: &HttpRequest) -> bool {
    let values = http.headers().get_all(actix_web::http::header::CACHE_CONTROL);
    let mut words = values.filter_map(|value| value.to_str().ok()).flat_map(|all| all.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case("no-store"))
}

/// Under `server.verdict_status: distinct`, incomplete answers carry a status of their own.
fn status(api: &Api, outcome: &Outcome) -> u16 {
    use crate::domain::coverage::CoverageCode;
    match api.deps.settings.server.verdict_status {
        VerdictStatus::Ok => 200,
        VerdictStatus::Distinct => match outcome.coverage.code {
            None => 200,
            Some(CoverageCode::PartialCoverage) => 206,
            Some(CoverageCode::Deadline) => 408,
            Some(
                CoverageCode::AllDetectorsUnavailable | CoverageCode::DetectorCommunicationFailed,
            ) => 502,
        },
    }
}

fn decorate(response: &mut HttpResponse, outcome: &Outcome) {
    use actix_web::http::header::{HeaderName, HeaderValue};
    let headers = response.headers_mut();
    if let Ok(revision) = HeaderValue::from_str(&outcome.revision) {
        headers.insert(HeaderName::from_static("x-policy-revision"), revision);
    }
    for (name, value) in &outcome.verdict.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
}

/// Many requests in one call.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// 1 to 100 bodies of `POST /orchestrate`.
    #[schema(value_type = Vec<OrchestrateRequest>)]
    pub requests: Vec<strict::Value>,
    /// How many at once, 1 to 100; 10 unless set.
    #[schema(minimum = 1, maximum = 100)]
    pub max_parallel: Option<usize>,
}

/// One answer per request, in order.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResponse {
    /// In the order of the requests.
    pub results: Vec<BatchItem>,
    /// Requests with an action.
    pub succeeded: usize,
    /// Requests without one.
    pub failed: usize,
}

/// The answer to one request of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchItem {
    /// Position among the requests.
    pub index: usize,
    /// The HTTP status it would have had alone.
    pub status: u16,
    /// The answer, when there is an action.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<response::Answer>)]
    pub response: Option<serde_json::Value>,
    /// The problem, when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<problem::Problem>)]
    pub problem: Option<serde_json::Value>,
}

/// Requests in one batch.
const BATCH_MAX: usize = 100;

/// Judges up to a hundred requests; a bad one never fails the rest.
#[utoipa::path(post, path = "/api/v1/orchestrate/batch", tag = "orchestrate",
    params(("Idempotency-Key" = Option<String>, Header,
        description = "Carries the request out once in 24 hours: repeated, it gives the same answer")),
    request_body = BatchRequest,
    responses((status = 200, description = "One result per request, in order", body = BatchResponse,
        headers(("Idempotent-Replayed" = Option<String>,
            description = "`true` where the answer is that of an earlier batch"))),
        (status = "4XX", description = "The batch is not valid", body = problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn batch(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    if let Some(key) = idempotency::key(&http)? {
        return once::batch(http, payload, api, (caller, key)).await;
    }
    let batch: BatchRequest = body::json(&http, payload, api.body_limits()).await?;
    check_batch(&batch)?;
    let snapshot = api.live.current();
    let results = in_batch((&api, &http), (&caller, &snapshot), batch, None).await?;
    json(&BatchResponse::of(results.into_iter().map(|(item, _)| item).collect()))
}

/// Under which key the requests of a batch are judged once, and the claims that are held.
type OnceKey<'a> = (&'a str, &'a std::cell::Cell<usize>);

/// Judges the requests of `batch` in their order, with what is kept of each under a key.
async fn in_batch(
    (api, http): (&Api, &HttpRequest),
    (caller, snapshot): (&Caller, &Snapshot),
    batch: BatchRequest,
    once: Option<OnceKey<'_>>,
) -> Result<Vec<(BatchItem, Option<Kept>)>, Error> {
    let id = request_id(http);
    // The batch is one request among its tenant's; inside, it keeps to what the tenant may have.
    let home = tenant(http, caller, None, snapshot).ok();
    let _place = match &home {
        Some(home) => admit::place(api, snapshot, home)?,
        None => None,
    };
    let max_parallel = batch.max_parallel.unwrap_or(10).min(parallel(api, snapshot, home));
    let items = batch.requests.into_iter().enumerate();
    let work = items.map(|(index, value)| {
        let item = Item { api, http, caller, snapshot, index, once };
        item.judge(value.0, id.as_str().to_owned())
    });
    let running = api.deps.operations.begin(Operation::BatchThreatCheck).map_err(Error::from)?;
    let results = jobs::batch::in_order(work, max_parallel).await;
    running.done();
    Ok(results)
}

impl BatchResponse {
    pub(in crate::api) fn of(results: Vec<BatchItem>) -> Self {
        let succeeded = results.iter().filter(|item| item.response.is_some()).count();
        let failed = results.len() - succeeded;
        BatchResponse { results, succeeded, failed }
    }
}

/// How many of a batch of `home` may be judged at once.
pub(in crate::api) fn parallel(api: &Api, snapshot: &Snapshot, home: Option<TenantId>) -> usize {
    let home = home.and_then(|home| snapshot.catalog.tenants.get(&home));
    let most = home.and_then(|home| snapshot.limits(home).concurrent);
    let most = most.filter(|_| api.admission.enforces());
    most.and_then(|most| usize::try_from(most).ok()).unwrap_or(BATCH_MAX)
}

pub(in crate::api) fn check_batch(batch: &BatchRequest) -> Result<(), Error> {
    let n = batch.requests.len();
    if n == 0 {
        let detail = "holds no request; send 1 to 100";
        return Err(Error::field(Code::EmptyBatch, "/requests", "empty", detail));
    }
    if n > BATCH_MAX {
        let detail = format!("holds {n} requests; send at most {BATCH_MAX} in one batch");
        return Err(Error::field(Code::BatchTooLarge, "/requests", "too_long", detail));
    }
    if batch.max_parallel.is_some_and(|parallel| !(1..=BATCH_MAX).contains(&parallel)) {
        let detail = "must be 1 to 100";
        let code = Code::InvalidRequest;
        return Err(Error::field(code, "/max_parallel", "out_of_range", detail));
    }
    Ok(())
}

struct Item<'a> {
    api: &'a Api,
    http: &'a HttpRequest,
    caller: &'a Caller,
    snapshot: &'a Snapshot,
    index: usize,
    once: Option<OnceKey<'a>>,
}

/// The status and the answer of a request in a batch, and what is kept of it under a key.
type Answered = (u16, serde_json::Value, Option<Kept>);

impl Item<'_> {
    async fn judge(self, value: serde_json::Value, batch_id: String) -> (BatchItem, Option<Kept>) {
        let (index, id) = (self.index, item_id(&batch_id, self.index));
        let answer = match self.once {
            Some(key) => self.once(value, id.clone(), key).await,
            None => self.answer(value, id.clone()).await,
        };
        match answer {
            Ok((status, response, kept)) => {
                (BatchItem { index, status, response: Some(response), problem: None }, kept)
            }
            Err(mut error) => {
                for detail in &mut error.details {
                    detail.pointer = format!("/requests/{index}{}", detail.pointer);
                }
                let problem = problem::of(&error, id.as_str(), self.http.path());
                let kept = self.once.and_then(|_| once::kept_problem(&error, &problem));
                let (status, problem) = (problem.status, serde_json::to_value(&problem).ok());
                (BatchItem { index, status, response: None, problem }, kept)
            }
        }
    }

    async fn answer(&self, value: serde_json::Value, id: RequestId) -> Result<Answered, Error> {
        let started = Instant::now();
        let strict::Object(wire) = strict::of_value::<strict::Object<OrchestrateRequest>>(value)?;
        let who = (self.caller, self.snapshot);
        let mut request = domain(self.api, self.http, who, wire, id)?;
        let _slot = admit::slot(self.api, self.snapshot, &mut request).await?;
        admit::count(self.api, self.http, who, (&request.tenant, self.part()))?;
        let outcome =
            orchestrator::run(&self.api.deps, self.snapshot, self.caller, &request).await?;
        self.answered(&outcome, &request, started)
    }

    fn part(&self) -> Part {
        if self.index == 0 { Part::First } else { Part::Further }
    }

    fn answered(
        &self,
        outcome: &Outcome,
        request: &Request,
        started: Instant,
    ) -> Result<Answered, Error> {
        let answer = response::render(outcome, request, started.elapsed());
        let status = status(self.api, outcome);
        let took = started.elapsed();
        let route = self.http.match_pattern().unwrap_or_default();
        log((self.api, &route), outcome, (request, self.caller), (status, took));
        let value = serde_json::to_value(&answer).map_err(|error| {
            Error::new(Code::InternalError, "the answer could not be written").caused_by(error)
        })?;
        let kept = if request.again { once::kept_value(answer, outcome, status) } else { None };
        Ok((status, value, kept))
    }
}

/// The batch's id with the position; shortened so that it stays an id.
fn item_id(batch_id: &str, index: usize) -> RequestId {
    let kept: String = batch_id.chars().take(96).collect();
    RequestId::kept_of(&format!("{kept}-{index}"))
}
