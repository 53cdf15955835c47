//! Jobs: what becomes of them, and what their callers may still do about it.

use std::collections::BTreeMap;

use actix_web::http::header::{HeaderName, HeaderValue, IF_MATCH};
use actix_web::web::{self, Data, Path, Payload, ServiceConfig};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use serde::Deserialize;
use utoipa::IntoParams;

use super::pages::{self, Pages};
use super::{Answer, admin, at, json, resource};
use crate::api::caller::{NoQuery, mismatch, query, tenant};
use crate::api::edge::CurrentTag;
use crate::api::problem::Problem;
use crate::api::wire::job::{
    AcceptedJob, Attempts, JobList, JobRequest, JobView, Transitions, Workflow, Workflows,
};
use crate::api::{Api, body};
use crate::auth::Caller;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::domain::job::{Deed, IllegalMove, JobId, JobKey, JobState, JobType, Mover};
use crate::jobs::refused;
use crate::store::{AuditEntry, Job, Move, Moved, Page};

mod taken;

pub(super) use taken::{accepted, wish};

pub(super) fn configure(config: &mut ServiceConfig) {
    let all = resource(&at("/jobs")).route(web::get().to(list)).route(web::post().to(post));
    config.service(all);
    config.service(
        resource(&at("/jobs/{id}")).route(web::get().to(one)).route(web::delete().to(delete)),
    );
    config.service(resource(&at("/jobs/{id}/attempts")).route(web::get().to(attempts)));
    config.service(resource(&at("/jobs/{id}/transitions")).route(web::get().to(transitions)));
    config.service(resource(&at("/jobs/{id}/pause")).route(web::post().to(pause)));
    config.service(resource(&at("/jobs/{id}/resume")).route(web::post().to(resume)));
    config.service(resource(&at("/jobs/{id}/cancel")).route(web::post().to(cancel)));
    config.service(resource(&at("/jobs/{id}/retry")).route(web::post().to(retry)));
    config.service(resource(&at("/workflows")).route(web::get().to(workflows)));
}

/// Takes in a job: it is carried out as soon as its turn comes.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", operation_id = "jobs_post",
    params(("Idempotency-Key" = Option<String>, Header,
        description = "Takes the job in once in 24 hours: repeated, it gives the same answer"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    request_body = JobRequest,
    responses((status = 202, description = "It is durable, and waits for its turn",
        body = AcceptedJob), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn post(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    taken::take(http, payload, api).await
}

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobsWanted {
    /// Only those that stand there.
    pub state: Option<String>,
    /// Rows, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    pub cursor: Option<String>,
}

/// The tenant's jobs.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", operation_id = "jobs_list",
    params(JobsWanted, ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = JobList)))]
pub(crate) async fn list(http: HttpRequest, api: Data<Api>) -> Answer {
    let JobsWanted { state, limit, cursor } = query(&http)?;
    let page = pages::page(limit, cursor.as_deref())?;
    let caller = api.caller(&http)?;
    let tenant = tenant(&http, &caller, None, &api.live.current())?;
    let unknown = || {
        let names: Vec<&str> = JobState::ALL.iter().map(|state| state.name()).collect();
        Error::new(Code::InvalidRequest, format!("state is one of {}", names.join(", ")))
    };
    let state = state.map(|raw| JobState::parse(&raw).ok_or_else(unknown)).transpose()?;
    let rows = api.deps.store.jobs(tenant, state, page).await.map_err(refused)?;
    let (jobs, next) = pages::cut(rows, page);
    json(&JobList { jobs: jobs.iter().map(|job| JobView::of(job, None)).collect(), next })
}

/// One job, with what came of it.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs", operation_id = "jobs_one",
    params(("id" = String, Path, description = "A job's id"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn one(http: HttpRequest, id: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let of = key(&http, &api, &id)?;
    let job = find(&api, &of).await?;
    let result = match job.state {
        JobState::Completed => api.crew.result(&of).await?,
        JobState::Queued
        | JobState::Running
        | JobState::Paused
        | JobState::Failed
        | JobState::Cancelled => None,
    };
    shown(&job, result)
}

fn shown(job: &Job, result: Option<serde_json::Value>) -> Answer {
    let mut answer = json(&JobView::of(job, result))?;
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", etag(job))) {
        answer.headers_mut().insert(HeaderName::from_static("etag"), tag);
    }
    Ok(answer)
}

/// Of the job at its last move; progress does not change it.
fn etag(job: &Job) -> String {
    let version = job.version.to_be_bytes();
    let mut digits = Digest::of_all([job.of.id.to_string().as_bytes(), &version[..]]).hex();
    digits.truncate(32);
    digits
}

/// Which job is meant; a malformed id is nobody's.
fn key(http: &HttpRequest, api: &Api, id: &str) -> Result<JobKey, Error> {
    let caller = api.caller(http)?;
    let tenant = tenant(http, &caller, None, &api.live.current())?;
    Ok(JobKey { tenant, id: JobId::parse(id).ok_or_else(unknown)? })
}

fn unknown() -> Error {
    Error::new(Code::NotFound, "the tenant has no such job")
}

async fn find(api: &Api, of: &JobKey) -> Result<Job, Error> {
    api.deps.store.job(of.clone()).await.map_err(refused)?.ok_or_else(unknown)
}

/// Tries of a job.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/attempts", tag = "jobs",
    operation_id = "jobs_attempts",
    params(("id" = String, Path, description = "A job's id"), Pages,
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = Attempts), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn attempts(http: HttpRequest, id: Path<String>, api: Data<Api>) -> Answer {
    let (after, page) = onward(&http)?;
    let of = key(&http, &api, &id)?;
    find(&api, &of).await?;
    let rows = api.deps.store.attempts(of, after, page.limit).await.map_err(refused)?;
    let (attempts, next) = cut(rows, page, |attempt| attempt.fence);
    json(&Attempts { attempts: attempts.into_iter().map(Into::into).collect(), next })
}

/// Moves of a job.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/transitions", tag = "jobs",
    operation_id = "jobs_transitions",
    params(("id" = String, Path, description = "A job's id"), Pages,
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = Transitions), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn transitions(http: HttpRequest, id: Path<String>, api: Data<Api>) -> Answer {
    let (after, page) = onward(&http)?;
    let of = key(&http, &api, &id)?;
    find(&api, &of).await?;
    let rows = api.deps.store.transitions(of, after, page.limit).await.map_err(refused)?;
    let (transitions, next) = cut(rows, page, |moved| moved.number);
    json(&Transitions { transitions: transitions.into_iter().map(Into::into).collect(), next })
}

/// A page of what is listed in order: after which number, and how much.
fn onward(http: &HttpRequest) -> Result<(u64, Page), Error> {
    let page = pages::wanted(http)?;
    Ok((page.before.and_then(|after| u64::try_from(after).ok()).unwrap_or(0), page))
}

fn cut<T>(mut rows: Vec<T>, page: Page, number: impl Fn(&T) -> u64) -> (Vec<T>, Option<String>) {
    let most = usize::try_from(page.limit).unwrap_or(usize::MAX).saturating_sub(1);
    let more = rows.len() > most;
    rows.truncate(most);
    let next = rows.last().filter(|_| more).map(|row| number(row).to_string());
    (rows, next)
}

/// Why a caller intervenes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Why {
    /// For the audit, at most 500 characters.
    pub reason: Option<String>,
}

/// Cancels a job that has not come to its end.
#[utoipa::path(delete, path = "/api/v1/jobs/{id}", tag = "jobs", operation_id = "jobs_delete",
    params(Why, ("id" = String, Path, description = "A job's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the job; needed"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn delete(http: HttpRequest, id: Path<String>, api: Data<Api>) -> Answer {
    if !http.headers().contains_key(IF_MATCH) {
        let of = key(&http, &api, &id)?;
        find(&api, &of).await?;
        let message = "send the job's ETag as If-Match to delete it";
        return Err(Error::new(Code::PreconditionRequired, message).into());
    }
    moved(&http, &api, &id, Deed::Cancel).await
}

/// Stops a job and keeps it; what was done of it is done anew when it is resumed.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/pause", tag = "jobs", operation_id = "jobs_pause",
    params(Why, ("id" = String, Path, description = "A job's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag it must have"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn pause(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    body::nothing(&http, payload, api.body_limits()).await?;
    moved(&http, &api, &id, Deed::Pause).await
}

/// Lets a paused job go on, from its beginning and as the same try.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/resume", tag = "jobs", operation_id = "jobs_resume",
    params(Why, ("id" = String, Path, description = "A job's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag it must have"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn resume(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    body::nothing(&http, payload, api.body_limits()).await?;
    moved(&http, &api, &id, Deed::Resume).await
}

/// Stops a job for good; its content is erased, calls to detectors end.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", operation_id = "jobs_cancel",
    params(Why, ("id" = String, Path, description = "A job's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag it must have"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn cancel(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    body::nothing(&http, payload, api.body_limits()).await?;
    moved(&http, &api, &id, Deed::Cancel).await
}

/// Tries a failed job again, while its content is kept.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/retry", tag = "jobs", operation_id = "jobs_retry",
    params(Why, ("id" = String, Path, description = "A job's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag it must have"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn retry(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    body::nothing(&http, payload, api.body_limits()).await?;
    moved(&http, &api, &id, Deed::Requeue).await
}

async fn moved(http: &HttpRequest, api: &Api, id: &str, deed: Deed) -> Answer {
    let Why { reason } = query(http)?;
    let reason = reason.filter(|reason| !reason.trim().is_empty());
    let reason = reason.map_or_else(|| Ok(String::new()), admin::sound)?;
    let of = key(http, api, id)?;
    let job = find(api, &of).await?;
    let version = version(http, &job)?;
    let caller = api.caller(http)?;
    let wish = wish_to(&job, deed, (&caller, reason), version);
    shown(&done(http, api, wish).await?, None)
}

/// What `caller` asks of `job`; in the audit, since it is a manual intervention.
pub(super) fn wish_to(
    job: &Job,
    deed: Deed,
    (caller, reason): (&Caller, String),
    version: Option<u64>,
) -> Move {
    let audit = AuditEntry {
        tenant: Some(job.of.tenant.clone()),
        at_ms: jiff::Timestamp::now().as_millisecond(),
        actor: caller.actor.clone(),
        action: format!("job.{}", deed.name()),
        target: format!("job/{}", job.of.id),
        reason: reason.clone(),
        before: Some(serde_json::json!({ "state": job.state.name() }).to_string()),
        after: Some(serde_json::json!({ "state": deed.to().name() }).to_string()),
    };
    let actor = caller.actor.clone();
    Move { of: job.of.clone(), deed, version, actor, reason, audit: Some(audit) }
}

/// Moves a job, and lets those know who carry it out here.
pub(super) async fn done(http: &HttpRequest, api: &Api, wish: Move) -> Result<Job, Error> {
    let deed = wish.deed;
    if matches!(deed, Deed::Resume | Deed::Requeue) {
        known_tenant(api, &wish.of.tenant)?;
    }
    match api.deps.store.move_job(wish).await.map_err(refused)? {
        Moved::Done(job) => {
            api.crew.moved(&job, deed);
            Ok(job)
        }
        Moved::Missing => Err(unknown()),
        Moved::Changed(job) => Err(stale(http, &job)),
        Moved::Illegal(illegal) => Err(not_so(illegal, deed)),
        Moved::Erased => {
            let message = "the job's content is erased; send it as a new one";
            Err(Error::new(Code::InvalidStateTransition, message))
        }
    }
}

/// Nothing is queued for a tenant that is deleted, or whose file is gone.
pub(super) fn known_tenant(api: &Api, tenant: &TenantId) -> Result<(), Error> {
    let is_known = api.live.current().catalog.tenants.contains_key(tenant);
    if is_known { Ok(()) } else { Err(mismatch()) }
}

/// A move that the table does not hold, or holds for another deed.
fn not_so(illegal: IllegalMove, deed: Deed) -> Error {
    let other = match (illegal.from, deed) {
        (JobState::Paused, Deed::Requeue) => "a paused job goes on by /resume",
        (JobState::Failed, Deed::Resume) => "a failed job is tried again by /retry",
        _ => return Error::illegal(illegal),
    };
    Error { message: other.to_owned(), ..Error::illegal(illegal) }
}

/// The version that the caller means, if it says so.
fn version(http: &HttpRequest, job: &Job) -> Result<Option<u64>, Error> {
    let mut values = http.headers().get_all(IF_MATCH).peekable();
    if values.peek().is_none() {
        return Ok(None);
    }
    let own = format!("\"{}\"", etag(job));
    let mut tags = values.filter_map(|value| value.to_str().ok()).flat_map(|all| all.split(','));
    if tags.any(|tag| [own.as_str(), "*"].contains(&tag.trim())) {
        return Ok(Some(job.version));
    }
    Err(stale(http, job))
}

fn stale(http: &HttpRequest, job: &Job) -> Error {
    http.extensions_mut().insert(CurrentTag(etag(job)));
    Error::new(Code::PreconditionFailed, "the job was moved since it was read; read it again")
}

/// What jobs there are. Experimental.
#[utoipa::path(get, path = "/api/v1/workflows", tag = "jobs", operation_id = "workflows_list",
    extensions(("x-stability" = json!("experimental"))),
    responses((status = 200, body = Workflows)))]
pub(crate) async fn workflows(http: HttpRequest) -> Answer {
    query::<NoQuery>(&http)?;
    let table = || -> BTreeMap<_, _> {
        let row = |state: &JobState| {
            let to = state.allowed(Mover::Caller).iter().map(|state| state.name());
            (state.name(), to.collect())
        };
        JobState::ALL.iter().map(row).collect()
    };
    let one = |job_type: &JobType| Workflow {
        job_type: job_type.name(),
        description: match job_type {
            JobType::Orchestrate => "judges one piece of content",
            JobType::Batch => "judges up to a hundred requests",
        },
        job_data: match job_type {
            JobType::Orchestrate => "POST /api/v1/orchestrate",
            JobType::Batch => "POST /api/v1/orchestrate/batch",
        },
        transitions: table(),
    };
    json(&Workflows { workflows: JobType::ALL.iter().map(one).collect() })
}

/// The answer to a job that was taken in.
pub(super) fn accepted_response(accepted: &AcceptedJob) -> Result<HttpResponse, Error> {
    let body = serde_json::to_vec(accepted).map_err(|error| {
        Error::new(Code::InternalError, "the answer could not be written").caused_by(error)
    })?;
    let mut answer = HttpResponse::Accepted();
    answer.insert_header(("location", accepted.status_url.clone()));
    Ok(answer.content_type("application/json").body(body))
}
