//! Dead letters: jobs that were given up and keep their content for a while, and ends of jobs that
//! nobody took.

use actix_web::HttpRequest;
use actix_web::web::{self, Data, Path, Payload, ServiceConfig};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::admin::{self, Intervention};
use super::jobs::{done, known_tenant, wish_to};
use super::policies::overlay::time;
use super::{Answer, at, json, pages, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query, tenant};
use crate::api::problem::Problem;
use crate::api::wire::job::{JobFault, JobView};
use crate::auth::Caller;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::domain::job::{Deed, JobId, JobKey};
use crate::jobs::{refused, webhook};
use crate::store::{AuditEntry, Delivery, Job, Numbered, Page, Then};

/// Dead deliveries looked at for those of one tenant.
const LOOKED_MAX: u32 = 1_000;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/admin/dlq")).route(web::get().to(list)));
    config.service(resource(&at("/admin/dlq/{letter}/requeue")).route(web::post().to(requeue)));
    config.service(resource(&at("/admin/dlq/{letter}/discard")).route(web::post().to(discard)));
}

/// Which dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LettersWanted {
    /// jobs (default), or webhooks: ends of jobs that were told in vain.
    pub kind: Option<String>,
    /// Rows, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    pub cursor: Option<String>,
}

/// Dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetters {
    /// Jobs newest first, webhooks oldest first.
    pub dead_letters: Vec<DeadLetter>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// One dead letter.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetter {
    /// What names it in /requeue and /discard: the job's id, or the delivery's.
    pub id: String,
    /// job or webhook.
    pub kind: &'static str,
    /// Whose.
    pub tenant: String,
    /// The job's id.
    pub job_id: String,
    /// Tries of the job, or of its webhook.
    pub attempts: u32,
    /// When it was given up, RFC 3339 UTC.
    pub dead_at: String,
    /// Why the last try failed; of a webhook the status that was answered, or a word, as the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<JobFault>,
}

impl DeadLetter {
    fn job(job: Job) -> DeadLetter {
        DeadLetter {
            id: job.of.id.to_string(),
            kind: "job",
            tenant: job.of.tenant.to_string(),
            job_id: job.of.id.to_string(),
            attempts: job.attempts,
            dead_at: time(job.updated_at_ms),
            last_error: job.error.map(JobFault::from),
        }
    }

    fn webhook(delivery: &Delivery) -> Option<DeadLetter> {
        let event = &delivery.told.event;
        let JobKey { tenant, id } = webhook::job_of(event)?;
        Some(DeadLetter {
            id: event.id.hex(),
            kind: "webhook",
            tenant: tenant.to_string(),
            job_id: id.to_string(),
            attempts: delivery.count,
            dead_at: time(delivery.at_ms),
            last_error: Some(webhook_fault(delivery.error.as_deref())),
        })
    }
}

fn webhook_fault(why: Option<&str>) -> JobFault {
    let (code, message) = match why {
        None => ("lost".to_owned(), "the instance that told it fell silent".to_owned()),
        Some(why) => (why.to_owned(), webhook::meaning(why)),
    };
    JobFault { code, message }
}

/// Dead letters of the caller's tenant; who acts across tenants sees those of the tenant it names in
/// `X-Tenant-ID`, or all.
#[utoipa::path(get, path = "/api/v1/admin/dlq", tag = "jobs", operation_id = "dlq_list",
    params(LettersWanted, ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = DeadLetters), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn list(http: HttpRequest, api: Data<Api>) -> Answer {
    let LettersWanted { kind, limit, cursor } = query(&http)?;
    let page = pages::page(limit, cursor.as_deref())?;
    let caller = api.caller(&http)?;
    let whose = whose(&http, &api, &caller)?;
    let (dead_letters, next) = match kind.as_deref() {
        None | Some("jobs") => {
            let rows = api.deps.store.dead_letters(whose, page).await.map_err(refused)?;
            let (jobs, next) = pages::cut(rows, page);
            (jobs.into_iter().map(DeadLetter::job).collect(), next)
        }
        Some("webhooks") => webhooks(&api, whose, page).await?,
        Some(_) => {
            let message = "kind is jobs or webhooks";
            return Err(Error::new(Code::InvalidRequest, message).into());
        }
    };
    json(&DeadLetters { dead_letters, next })
}

/// Whose letters are meant; `None` everyone's.
fn whose(http: &HttpRequest, api: &Api, caller: &Caller) -> Result<Option<TenantId>, Error> {
    let of_one = caller.tenant.is_some() || http.headers().contains_key("x-tenant-id");
    of_one.then(|| tenant(http, caller, None, &api.live.current())).transpose()
}

async fn webhooks(
    api: &Api,
    whose: Option<TenantId>,
    page: Page,
) -> Result<(Vec<DeadLetter>, Option<String>), Error> {
    let after = page.before.unwrap_or(0);
    let rows = api.deps.store.dead_deliveries(webhook::group(), after, LOOKED_MAX).await;
    let rows = rows.map_err(refused)?;
    let last = rows.last().filter(|_| rows.len() >= LOOKED_MAX as usize).map(|row| row.sequence);
    let own = |row: &Numbered<Delivery>| {
        let of = &row.value.told.event.tenant;
        whose.as_ref().is_none_or(|whose| of.as_ref() == Some(whose))
    };
    let rows: Vec<_> = rows.into_iter().filter(own).collect();
    let (deliveries, next) = pages::cut(rows, page);
    let next = next.or_else(|| last.map(|last| last.to_string()));
    Ok((deliveries.iter().filter_map(DeadLetter::webhook).collect(), next))
}

fn unknown() -> Error {
    Error::new(Code::NotFound, "no such dead letter")
}

/// What a caller means by `letter`.
enum Letter {
    Job(Job),
    Webhook(Digest, JobKey),
}

impl Letter {
    fn of(&self) -> &JobKey {
        match self {
            Letter::Job(job) => &job.of,
            Letter::Webhook(_, of) => of,
        }
    }
}

async fn find(http: &HttpRequest, api: &Api, id: &str) -> Result<Letter, Error> {
    let whose = whose(http, api, &api.caller(http)?)?;
    if let Some(id) = JobId::parse(id) {
        let mut page = Page { limit: LOOKED_MAX, before: None };
        if let Some(tenant) = whose {
            let job = api.deps.store.job(JobKey { tenant, id }).await.map_err(refused)?;
            let dead = |job: &Job| job.has_payload && job.error.is_some();
            return job.filter(dead).map(Letter::Job).ok_or_else(unknown);
        }
        loop {
            let rows = api.deps.store.dead_letters(None, page).await.map_err(refused)?;
            page.before = rows.last().map(|row| row.sequence);
            let all = rows.len() < LOOKED_MAX as usize;
            match rows.into_iter().find(|row| row.value.of.id == id) {
                Some(row) => return Ok(Letter::Job(row.value)),
                None if all => return Err(unknown()),
                None => {}
            }
        }
    }
    let mut after = 0;
    loop {
        let rows = api.deps.store.dead_deliveries(webhook::group(), after, LOOKED_MAX).await;
        let rows = rows.map_err(refused)?;
        after = rows.last().map_or(after, |row| row.sequence);
        let all = rows.len() < LOOKED_MAX as usize;
        let found = rows.iter().map(|row| &row.value.told.event).find(|event| event.id.hex() == id);
        match found.and_then(|event| Some((event.id, webhook::job_of(event)?))) {
            Some((id, of)) if whose.as_ref().is_none_or(|whose| *whose == of.tenant) => {
                return Ok(Letter::Webhook(id, of));
            }
            Some(_) => return Err(unknown()),
            None if all => return Err(unknown()),
            None => {}
        }
    }
}

/// Tries a dead letter again: the job, or the telling of its end.
#[utoipa::path(post, path = "/api/v1/admin/dlq/{letter}/requeue", tag = "jobs",
    operation_id = "dlq_requeue",
    params(("letter" = String, Path, description = "A dead letter's id"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    request_body = Intervention,
    responses((status = 200, body = JobView), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn requeue(
    http: HttpRequest,
    letter: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let (caller, reason) = (api.caller(&http)?, admin::reason(&http, payload, &api).await?);
    let found = find(&http, &api, &letter).await?;
    known_tenant(&api, &found.of().tenant)?;
    match found {
        Letter::Job(job) => {
            let wish = wish_to(&job, Deed::Requeue, (&caller, reason), None);
            json(&JobView::of(&done(&http, &api, wish).await?, None))
        }
        found @ Letter::Webhook(id, _) => {
            let entry = audit(&found, (&caller, reason), "requeue");
            ended(&api, (id, found.of()), entry, Then::Requeue).await
        }
    }
}

/// Gives a dead letter up for good; a job's content is erased.
#[utoipa::path(post, path = "/api/v1/admin/dlq/{letter}/discard", tag = "jobs",
    operation_id = "dlq_discard",
    params(("letter" = String, Path, description = "A dead letter's id"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    request_body = Intervention,
    responses((status = 200, body = JobView), (status = "4XX", body = Problem,
        content_type = "application/problem+json")))]
pub(crate) async fn discard(
    http: HttpRequest,
    letter: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let (caller, reason) = (api.caller(&http)?, admin::reason(&http, payload, &api).await?);
    let found = find(&http, &api, &letter).await?;
    let entry = audit(&found, (&caller, reason), "discard");
    match &found {
        Letter::Job(job) => {
            let gone = api.deps.store.discard(job.of.clone(), entry).await.map_err(refused)?;
            if !gone {
                return Err(unknown().into());
            }
            json(&JobView::of(job, None))
        }
        Letter::Webhook(id, of) => ended(&api, (*id, of), entry, Then::Discard).await,
    }
}

fn audit(letter: &Letter, (caller, reason): (&Caller, String), what: &str) -> AuditEntry {
    let of = letter.of();
    let kind = match letter {
        Letter::Job(_) => "job",
        Letter::Webhook(..) => "webhook",
    };
    AuditEntry {
        tenant: Some(of.tenant.clone()),
        at_ms: jiff::Timestamp::now().as_millisecond(),
        actor: caller.actor.clone(),
        action: format!("{kind}.{what}"),
        target: format!("job/{}", of.id),
        reason,
        before: Some(serde_json::json!({ "dead": true }).to_string()),
        after: Some(serde_json::json!({ "dead": false }).to_string()),
    }
}

/// Ends a dead delivery. First recorded, then done: what nobody can account for stays as it is.
async fn ended(api: &Api, (id, of): (Digest, &JobKey), entry: AuditEntry, then: Then) -> Answer {
    let store = &api.deps.store;
    store.append(entry).await.map_err(refused)?;
    if !store.end_dead(webhook::group(), id, then).await.map_err(refused)? {
        return Err(unknown().into());
    }
    let job = store.job(of.clone()).await.map_err(refused)?.ok_or_else(unknown)?;
    json(&JobView::of(&job, None))
}
