//! `POST /orchestrate` and `POST /orchestrate/batch`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix_web::web::{Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answer, at, json, resource};
use crate::api::admit::{self, Part};
use crate::api::caller::{NoQuery, query, tenant};
use crate::api::edge::request_id;
use crate::api::wire::request::{Bounds, OrchestrateRequest};
use crate::api::wire::response;
use crate::api::{Api, body, envelope, problem, strict};
use crate::auth::Caller;
use crate::domain::error::{Code, Error};
use crate::domain::id::{RequestId, TenantId};
use crate::domain::outcome::Outcome;
use crate::domain::request::Request;
use crate::operations::Operation;
use crate::settings::VerdictStatus;
use crate::snapshot::Snapshot;
use crate::telemetry::DecisionLine;
use crate::{jobs, orchestrator};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/orchestrate/batch")).route(web::post().to(batch)));
    config.service(resource(&at("/orchestrate")).route(web::post().to(orchestrate)));
}

/// Judges one piece of content.
#[utoipa::path(post, path = "/api/v1/orchestrate", tag = "orchestrate",
    request_body = OrchestrateRequest,
    responses(
        (status = 200, description = "There is an action, also with partial coverage",
         body = response::Answer),
        (status = "4XX", description = "No verdict exists", body = problem::Problem,
         content_type = "application/problem+json"),
        (status = "5XX", description = "No verdict exists", body = problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn orchestrate(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    let started = Instant::now();
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    accepting(&api)?;
    admit::hope(&api, &caller)?;
    let wire: OrchestrateRequest = body::json(&http, payload, api.body_limits()).await?;
    let snapshot = api.live.current();
    let mut request = domain(&api, &http, (&caller, &snapshot), wire, request_id(&http))?;
    let _place = admit::place(&api, &snapshot, &request.tenant)?;
    let _slot = admit::slot(&api, &snapshot, &mut request).await?;
    admit::count(&api, &http, (&caller, &snapshot), (&request.tenant, Part::First))?;
    let outcome = orchestrator::run(&api.deps, &snapshot, &caller, &request).await?;
    let answer = response::render(&outcome, &request, started.elapsed());
    let status = status(&api, &outcome);
    let mut response = json(&answer)?;
    if status != 200 {
        let code = actix_web::http::StatusCode::from_u16(status);
        *response.status_mut() = code.unwrap_or(actix_web::http::StatusCode::OK);
    }
    decorate(&mut response, &outcome);
    log((&api, &http), &outcome, (&request, &caller), (status, started.elapsed()));
    Ok(response)
}

/// The one line of an answered request.
fn log(
    (api, http): (&Api, &HttpRequest),
    outcome: &Outcome,
    (request, caller): (&Request, &Caller),
    (status, took): (u16, Duration),
) {
    let Some(log) = &api.log else { return };
    let mut findings = BTreeMap::new();
    for finding in &outcome.judgement.findings {
        *findings.entry(finding.category.as_str()).or_default() += 1;
    }
    let failed = outcome.reports.iter().filter(|report| !report.answered());
    log.decision_line(&DecisionLine {
        request_id: request.id.as_str(),
        tenant: request.tenant.as_str(),
        key_prefix: caller.key_prefix.as_deref().unwrap_or_default(),
        route: http.match_pattern().as_deref().unwrap_or_default(),
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
        ..DecisionLine::default()
    });
}

fn accepting(api: &Api) -> Result<(), Error> {
    if api.accepts_work() {
        return Ok(());
    }
    Err(Error::new(Code::ShuttingDown, "the service is stopping; ask another instance"))
}

fn domain(
    api: &Api,
    http: &HttpRequest,
    (caller, snapshot): (&Caller, &Snapshot),
    wire: OrchestrateRequest,
    id: RequestId,
) -> Result<Request, Error> {
    envelope::check_body(api, &wire)?;
    let tenant = tenant(http, caller, wire.tenant_id.as_deref(), snapshot)?;
    let bounds = Bounds { content_chars_max: api.deps.settings.orchestration.content_max_chars };
    let most = snapshot.catalog.tenants.get(&tenant).map(|tenant| tenant.max_priority);
    let most = most.max(caller.max_priority);
    let said = wire.priority.is_some();
    let mut request = wire.into_domain(id, tenant, bounds)?;
    request.no_store = no_store(http);
    if !said && let Some(most) = most {
        request.priority = request.priority.max(most);
    }
    Ok(request)
}

/// Whether `Cache-Control` holds `no-store`.
fn no_store(http: &HttpRequest) -> bool {
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
#[derive(Debug, Deserialize, ToSchema)]
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
    request_body = BatchRequest,
    responses((status = 200, description = "One result per request, in order", body = BatchResponse),
        (status = "4XX", description = "The batch is not valid", body = problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn batch(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    accepting(&api)?;
    let batch: BatchRequest = body::json(&http, payload, api.body_limits()).await?;
    check_batch(&batch)?;
    let snapshot = api.live.current();
    let id = request_id(&http);
    // The batch is one request among its tenant's; inside, it keeps to what the tenant may have.
    let home = tenant(&http, &caller, None, &snapshot).ok();
    let _place = match &home {
        Some(home) => admit::place(&api, &snapshot, home)?,
        None => None,
    };
    let max_parallel = batch.max_parallel.unwrap_or(10).min(parallel(&api, &snapshot, home));
    let items = batch.requests.into_iter().enumerate();
    let work = items.map(|(index, value)| {
        let item = Item { api: &api, http: &http, caller: &caller, snapshot: &snapshot, index };
        item.judge(value.0, id.as_str().to_owned())
    });
    let running = api.deps.operations.begin(Operation::BatchThreatCheck).map_err(Error::from)?;
    let results = jobs::batch::in_order(work, max_parallel).await;
    running.done();
    let succeeded = results.iter().filter(|item| item.response.is_some()).count();
    let failed = results.len() - succeeded;
    json(&BatchResponse { results, succeeded, failed })
}

/// How many of a batch of `home` may be judged at once.
fn parallel(api: &Api, snapshot: &Snapshot, home: Option<TenantId>) -> usize {
    let home = home.and_then(|home| snapshot.catalog.tenants.get(&home));
    let most = home.and_then(|home| snapshot.limits(home).concurrent);
    let most = most.filter(|_| api.admission.enforces());
    most.and_then(|most| usize::try_from(most).ok()).unwrap_or(BATCH_MAX)
}

fn check_batch(batch: &BatchRequest) -> Result<(), Error> {
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
}

impl Item<'_> {
    async fn judge(self, value: serde_json::Value, batch_id: String) -> BatchItem {
        let id = item_id(&batch_id, self.index);
        match self.answer(value, id.clone()).await {
            Ok((status, response)) => {
                BatchItem { index: self.index, status, response: Some(response), problem: None }
            }
            Err(mut error) => {
                for detail in &mut error.details {
                    detail.pointer = format!("/requests/{}{}", self.index, detail.pointer);
                }
                let problem = problem::of(&error, id.as_str(), self.http.path());
                BatchItem {
                    index: self.index,
                    status: problem.status,
                    response: None,
                    problem: serde_json::to_value(&problem).ok(),
                }
            }
        }
    }

    async fn answer(
        &self,
        value: serde_json::Value,
        id: RequestId,
    ) -> Result<(u16, serde_json::Value), Error> {
        let started = Instant::now();
        let strict::Object(wire) = strict::of_value::<strict::Object<OrchestrateRequest>>(value)?;
        let who = (self.caller, self.snapshot);
        let mut request = domain(self.api, self.http, who, wire, id)?;
        let _slot = admit::slot(self.api, self.snapshot, &mut request).await?;
        let part = if self.index == 0 { Part::First } else { Part::Further };
        admit::count(self.api, self.http, who, (&request.tenant, part))?;
        let outcome =
            orchestrator::run(&self.api.deps, self.snapshot, self.caller, &request).await?;
        let answer = response::render(&outcome, &request, started.elapsed());
        let took = started.elapsed();
        let status = status(self.api, &outcome);
        log((self.api, self.http), &outcome, (&request, self.caller), (status, took));
        let value = serde_json::to_value(&answer).map_err(|error| {
            Error::new(Code::InternalError, "the answer could not be written").caused_by(error)
        })?;
        Ok((status, value))
    }
}

/// The batch's id with the position; shortened so that it stays an id.
fn item_id(batch_id: &str, index: usize) -> RequestId {
    let kept: String = batch_id.chars().take(96).collect();
    RequestId::kept_of(&format!("{kept}-{index}"))
}
