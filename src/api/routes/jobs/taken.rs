//! Jobs are taken in: checked as the request would be, counted, sealed, durable.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::{Data, Payload};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::accepted_response;
use crate::api::admit;
use crate::api::caller::{mismatch, tenant};
use crate::api::edge::request_id;
use crate::api::idempotency::{Asked, Claims, Turn, key, once, outlast};
use crate::api::routes::Answer;
use crate::api::routes::orchestrate::{BatchRequest, check_batch, domain, no_store};
use crate::api::wire::job::{AcceptedJob, JobRequest};
use crate::api::wire::request::OrchestrateRequest;
use crate::api::{Api, body, strict, trace};
use crate::auth::Caller;
use crate::domain::access::Scope;
use crate::domain::error::{Code, Error, FieldFault};
use crate::domain::id::TenantId;
use crate::domain::job::{JobId, JobKey, JobType};
use crate::domain::request::{Priority, Request};
use crate::jobs::{Asker, Callback, Payload as Content, Wish, webhook};
use crate::orchestrator;
use crate::snapshot::Snapshot;
use crate::store::{Added, Job};

/// The route that a key belongs to.
const ROUTE: &str = "/jobs";
/// How far ahead a job may be put off.
const AHEAD_MAX: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);
/// Bytes of a callback's address.
const URL_BYTES_MAX: usize = 2_048;
/// Fields at fault that are named beside those of the first request at fault.
const FAULTS_MAX: usize = 100;
const DAY_S: i64 = 24 * 3_600;

/// Takes in the job that `payload` holds.
pub(super) async fn take(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    let caller = api.caller(&http)?;
    let key = key(&http)?;
    let limits = api.body_limits();
    let (wire, received): (JobRequest, _) = body::json_and_value(&http, payload, limits).await?;
    let snapshot = api.live.current();
    let asking = Asking { http: &http, caller: &caller, snapshot: &snapshot };
    let wanted = asking.understood(&api, wire)?;
    let Some(key) = key else {
        return Ok(accepted_response(&asking.add(&api, wanted, None).await?)?);
    };
    let asked = Asked::new(&api.deps.pepper, &wanted.of.tenant, (ROUTE, &key), &received)?;
    drop(received);
    let patience = Duration::from_millis(api.deps.settings.orchestration.sla.normal_ms);
    let until = Instant::now() + patience;
    let work = move |claims: Claims| async move {
        let first = async |_| {
            let asking = Asking { http: &http, caller: &caller, snapshot: &snapshot };
            // Where the answer was lost after the job was made, the next try finds the job.
            let accepted = asking.add(&api, wanted, Some(asked.request())).await;
            let kept = accepted.as_ref().ok().cloned();
            (accepted, kept)
        };
        match once((&api, &claims), &asked, until, first).await? {
            Turn::First(accepted) => Ok((accepted?, false)),
            Turn::Again(accepted) => Ok((accepted, true)),
        }
    };
    let (accepted, again) = outlast(work).await?;
    let mut answer = accepted_response(&accepted)?;
    if again {
        let name = HeaderName::from_static("idempotent-replayed");
        answer.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    Ok(answer)
}

/// Who wants a job, and when.
struct Asking<'a> {
    http: &'a HttpRequest,
    caller: &'a Caller,
    snapshot: &'a Snapshot,
}

/// A job that is sound.
struct Wanted {
    of: JobKey,
    job_type: JobType,
    priority: Priority,
    data: serde_json::Value,
    requests: Vec<Request>,
    callback: Option<Callback>,
    not_before_ms: Option<i64>,
}

impl Asking<'_> {
    fn understood(&self, api: &Api, wire: JobRequest) -> Result<Wanted, Error> {
        let job_type = JobType::parse(&wire.job_type).ok_or_else(|| {
            let names: Vec<&str> = JobType::ALL.iter().map(|known| known.name()).collect();
            refuse("/job_type", "unknown_value", format!("write {}", names.join(" or ")))
        })?;
        let data = wire.job_data.0;
        let (tenant, own, requests) = match job_type {
            JobType::Orchestrate => {
                let request = self.request(api, data.clone(), None).map_err(inside)?;
                (request.tenant.clone(), request.priority, vec![request])
            }
            JobType::Batch => {
                let batch = within::<BatchRequest>(&data)?;
                check_batch(&batch).map_err(inside)?;
                let tenant = tenant(self.http, self.caller, None, self.snapshot)?;
                let requests = batch.requests.into_iter().map(|value| value.0);
                let requests = each(requests, |value| self.request(api, value, Some(&tenant)))?;
                (tenant, Priority::Batch, requests)
            }
        };
        let callback = wire.callback_url.as_deref().map(|url| callback(api, url)).transpose()?;
        Ok(Wanted {
            priority: self.priority(wire.priority.as_deref(), own, &tenant)?,
            not_before_ms: wire.not_before.as_deref().map(moment).transpose()?,
            of: fresh(tenant),
            job_type,
            data,
            requests,
            callback,
        })
    }

    /// The request that `data` is; of a batch of `home`, which judges for nobody else.
    fn request(
        &self,
        api: &Api,
        data: serde_json::Value,
        home: Option<&TenantId>,
    ) -> Result<Request, Error> {
        let strict::Object(wire) = strict::of_value::<strict::Object<OrchestrateRequest>>(data)?;
        let who = (self.caller, self.snapshot);
        let request = domain(api, self.http, who, wire, request_id(self.http))?;
        if home.is_some_and(|home| *home != request.tenant) {
            return Err(mismatch());
        }
        Ok(request)
    }

    /// The priority that is said, else the request's own; no more urgent than its caller may be.
    fn priority(
        &self,
        said: Option<&str>,
        own: Priority,
        tenant: &TenantId,
    ) -> Result<Priority, Error> {
        let most = self.snapshot.catalog.tenants.get(tenant).map(|tenant| tenant.max_priority);
        let most = most.max(self.caller.max_priority).unwrap_or(Priority::Critical);
        let Some(said) = said else { return Ok(own) };
        let said = Priority::parse(said).ok_or_else(|| {
            let names = Priority::ALL.map(Priority::name).join(", ");
            refuse("/priority", "unknown_value", format!("write one of {names}"))
        })?;
        if said < most && !self.caller.holds(Scope::OrchestrateRelax)? {
            let detail = format!("may be {} at most, as the tenant or the key says", most.name());
            return Err(Error::field(Code::InsufficientScope, "/priority", "relaxes", detail));
        }
        Ok(said)
    }

    async fn add(
        &self,
        api: &Api,
        wanted: Wanted,
        key: Option<[u8; 32]>,
    ) -> Result<AcceptedJob, Error> {
        let Asking { http, caller, snapshot } = *self;
        let Wanted { of, job_type, priority, data, requests, callback, not_before_ms } = wanted;
        let cost = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        let whose = (&of.tenant, cost);
        let spent = admit::spend((api, http), (caller, snapshot), whose).map_err(inside)?;
        let has_callback = callback.is_some();
        let wish = Wish {
            most_a_day: a_day(api, snapshot, &of.tenant),
            of,
            job_type,
            priority,
            cost,
            payload: content((http, caller), data),
            callback,
            not_before_ms,
            key,
            begun: false,
        };
        let made = async {
            self.check(api, job_type, &requests).await?;
            accepted(api, caller, wish).await
        };
        let made = made.await;
        // Where nothing new is judged, nothing is counted.
        if let Some(spent) = spent
            && !matches!(made, Ok((_, true)))
        {
            spent.take_back(api);
        }
        let (job, _) = made?;
        let secret = has_callback.then(|| api.crew.callback_secret(&job.of));
        Ok(AcceptedJob::of(&job, None, secret))
    }

    /// Refuses now what the requests would be refused for later.
    async fn check(&self, api: &Api, job_type: JobType, requests: &[Request]) -> Result<(), Error> {
        let mut faults = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let found = orchestrator::check(&api.deps, self.snapshot, self.caller, request).await;
            match (found, job_type) {
                (Ok(()), _) => {}
                (Err(error), JobType::Orchestrate) => return Err(inside(error)),
                (Err(error), JobType::Batch) => faults.push(at_place(error, index)),
            }
        }
        joined(faults)
    }
}

fn content((http, caller): (&HttpRequest, &Caller), data: serde_json::Value) -> Content {
    let (asker, request_id) = (Asker::from(caller), request_id(http));
    Content { asker, request_id, trace: trace::of(http), no_store: no_store(http), data }
}

fn fresh(tenant: TenantId) -> JobKey {
    JobKey { tenant, id: JobId::of(uuid::Uuid::now_v7()) }
}

/// Jobs of a day that `tenant` may have; `None` is unlimited.
fn a_day(api: &Api, snapshot: &Snapshot, tenant: &TenantId) -> Option<u32> {
    let tenant = snapshot.catalog.tenants.get(tenant)?;
    snapshot.limits(tenant).jobs_per_day.filter(|_| api.admission.enforces())
}

/// The job that a request becomes, which holds `data` as it was sent and was counted already.
pub(in crate::api::routes) fn wish(
    (api, http): (&Api, &HttpRequest),
    (caller, snapshot): (&Caller, &Snapshot),
    (tenant, priority): (TenantId, Priority),
    (data, key): (serde_json::Value, Option<[u8; 32]>),
) -> Wish {
    Wish {
        most_a_day: a_day(api, snapshot, &tenant),
        of: fresh(tenant),
        job_type: JobType::Orchestrate,
        priority,
        cost: 1,
        payload: content((http, caller), data),
        callback: None,
        not_before_ms: None,
        key,
        begun: false,
    }
}

/// The job that `wish` became, and whether it became one now.
pub(in crate::api::routes) async fn accepted(
    api: &Api,
    caller: &Caller,
    wish: Wish,
) -> Result<(Job, bool), Error> {
    super::known_tenant(api, &wish.of.tenant)?;
    let most = wish.most_a_day.unwrap_or_default();
    match api.crew.add(wish, &caller.actor).await? {
        Added::New(job) => Ok((job, true)),
        Added::Known(job) => Ok((job, false)),
        Added::QuotaUsed => {
            let message = format!(
                "the tenant may have {most} jobs a day; wait until midnight UTC, or have the quota \
                 raised"
            );
            let passed = jiff::Timestamp::now().as_second().rem_euclid(DAY_S);
            let left = u64::try_from(DAY_S - passed).unwrap_or_default();
            Err(Error::new(Code::QuotaExceeded, message).retry_after(Duration::from_secs(left)))
        }
    }
}

fn callback(api: &Api, url: &str) -> Result<Callback, Error> {
    if url.len() > URL_BYTES_MAX {
        let detail = format!("holds {} bytes; send at most {URL_BYTES_MAX}", url.len());
        return Err(refuse("/callback_url", "too_long", detail));
    }
    webhook::check(&api.callbacks, url)
}

fn within<T: DeserializeOwned>(data: &serde_json::Value) -> Result<T, Error> {
    let read = strict::of_value::<strict::Object<T>>(data.clone());
    read.map(|strict::Object(read)| read).map_err(inside)
}

/// Each of `all` as `read` makes it, or the faults of those that are none, at their places.
fn each<T, U>(
    all: impl Iterator<Item = T>,
    read: impl Fn(T) -> Result<U, Error>,
) -> Result<Vec<U>, Error> {
    let (mut read_ones, mut faults) = (Vec::new(), Vec::new());
    for (index, one) in all.enumerate() {
        match read(one) {
            Ok(one) => read_ones.push(one),
            Err(error) => faults.push(at_place(error, index)),
        }
    }
    joined(faults).map(|()| read_ones)
}

/// A fault of one request of a batch; one that names no field names the request.
fn at_place(mut error: Error, index: usize) -> Error {
    let place = format!("/job_data/requests/{index}");
    if error.details.is_empty() {
        let (detail, code) = (error.message.clone(), "refused");
        error.details = vec![FieldFault { pointer: String::new(), detail, code, place: None }];
    }
    for detail in &mut error.details {
        detail.pointer = format!("{place}{}", detail.pointer);
    }
    error.message = format!("{place}: {}", error.message);
    error
}

/// The first of `faults`, with the fields of them all.
fn joined(faults: Vec<Error>) -> Result<(), Error> {
    let mut faults = faults.into_iter();
    let Some(mut first) = faults.next() else { return Ok(()) };
    first.details.extend(faults.flat_map(|fault| fault.details).take(FAULTS_MAX));
    Err(first)
}

/// A fault of what the job holds, at its place in the request.
fn inside(mut error: Error) -> Error {
    for detail in &mut error.details {
        detail.pointer = format!("/job_data{}", detail.pointer);
    }
    error
}

fn refuse(pointer: &str, fault: &'static str, detail: String) -> Error {
    Error::field(Code::InvalidRequest, pointer, fault, detail)
}

/// A moment that is written in RFC 3339, not too far ahead.
fn moment(raw: &str) -> Result<i64, Error> {
    let at = raw.parse::<jiff::Timestamp>().map_err(|_| {
        let detail = "is no time; write it like 2026-01-31T12:00:00Z";
        refuse("/not_before", "bad_value", detail.to_owned())
    })?;
    if at.duration_since(jiff::Timestamp::now()) > AHEAD_MAX {
        let detail = "is more than 30 days ahead; choose an earlier time";
        return Err(refuse("/not_before", "out_of_range", detail.to_owned()));
    }
    Ok(at.as_millisecond())
}
