//! Requests that may become jobs: those that will take long before they begin, those that take long
//! while they run. What runs goes on as it is; it is not begun anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use actix_web::rt::task::JoinHandle;
use actix_web::web::Data;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::api::admit;
use crate::api::routes::jobs::{accepted, wish};
use crate::api::wire::job::AcceptedJob;
use crate::api::wire::response::milliseconds;
use crate::api::{Api, performed};
use crate::auth::Caller;
use crate::domain::error::{Code, Error};
use crate::domain::job::{JobState, Lease};
use crate::domain::outcome::Outcome;
use crate::domain::request::Request;
use crate::jobs::{Fruitless, Progress, Tried, Wish};
use crate::orchestrator::{self, Ran, Step, Steps};
use crate::snapshot::Snapshot;
use crate::store::Job;

/// What a caller waits for at most.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// How a request that may become a job went.
pub(super) enum Went {
    /// It was judged while its caller waited.
    Judged(Box<Outcome>),
    /// It is a job.
    Job(AcceptedJob),
}

/// Who asks for what: all that outlives the request.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) api: Data<Api>,
    pub(super) http: HttpRequest,
    pub(super) caller: Caller,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) request: Request,
    /// The body as it came.
    pub(super) received: Value,
    /// What makes it the same request, under an idempotency key.
    pub(super) key: Option<[u8; 32]>,
    pub(super) started: Instant,
}

/// Whether `request` may become a job: its caller says so (RFC 7240), or its tenant's file does.
pub(super) fn may(snapshot: &Snapshot, headers: &HeaderMap, request: &Request) -> bool {
    let values = headers.get_all("prefer").filter_map(|value| value.to_str().ok());
    let mut wishes = values.flat_map(|all| all.split(','));
    let says = |wish: &str| {
        let token = wish.split(';').next().unwrap_or_default().trim();
        token.eq_ignore_ascii_case("respond-async")
    };
    let tenant = snapshot.catalog.tenants.get(&request.tenant);
    wishes.any(says) || tenant.is_some_and(|tenant| tenant.prefer_async)
}

/// Judges what is asked, or makes it a job.
pub(super) async fn judge(mut asked: Asked) -> Result<Went, Error> {
    let async_ms = asked.api.deps.settings.orchestration.sla.async_ms;
    asked.request.timeout_ms.get_or_insert(async_ms);
    let progress = Progress::default();
    let (tell, mut told) = oneshot::channel();
    let running = Running(actix_web::rt::spawn({
        let (asked, progress) = (asked.clone(), progress.clone());
        async move {
            let ran = run(asked, &progress).await;
            // Whoever left needs no answer.
            let _ = tell.send(ran);
        }
    }));
    let patience = PATIENCE.saturating_sub(asked.started.elapsed());
    match tokio::time::timeout(patience, &mut told).await {
        Ok(ran) => ended(asked, ran.map_err(|_| crashed())?).await,
        Err(_) => match begun(&asked).await {
            Ok((job, true)) if job.state == JobState::Running => {
                let shown = AcceptedJob::of(&job, None, None);
                actix_web::rt::spawn(async move {
                    let lease = Lease { of: job.of.clone(), fence: 1 };
                    let work = async { answer(&asked, told.await) };
                    asked.api.crew.attend((lease, &job), progress, work).await;
                    // Where somebody moved the job, nobody waits for what runs.
                    drop(running);
                });
                Ok(Went::Job(shown))
            }
            // It is another's to carry out: a try before this one made it, or this instance holds no
            // lease now.
            Ok((job, _)) => Ok(Went::Job(AcceptedJob::of(&job, None, None))),
            // What cannot be kept is waited for.
            Err(_) => {
                let ran = told.await.map_err(|_| crashed())?;
                ended(asked, ran).await
            }
        },
    }
}

async fn begun(asked: &Asked) -> Result<(Job, bool), Error> {
    accepted(&asked.api, &asked.caller, Wish { begun: true, ..wished(asked) }).await
}

fn wished(asked: &Asked) -> Wish {
    let Asked { api, http, caller, snapshot, request, received, key, .. } = asked;
    let whose = (request.tenant.clone(), request.priority);
    wish((api, http), (caller, snapshot), whose, (received.clone(), *key))
}

async fn ended(asked: Asked, ran: Result<Ran, Error>) -> Result<Went, Error> {
    let projected = match ran? {
        Ran::Outcome(outcome) => return Ok(Went::Judged(outcome)),
        Ran::Postponed(projected) => projected,
    };
    let (job, _) = accepted(&asked.api, &asked.caller, wished(&asked)).await?;
    Ok(Went::Job(AcceptedJob::of(&job, Some(milliseconds(projected)), None)))
}

async fn run(asked: Asked, progress: &Progress) -> Result<Ran, Error> {
    let Asked { api, http, caller, snapshot, mut request, .. } = asked;
    let _place = admit::place(&api, &snapshot, &request.tenant)?;
    let _slot = admit::slot(&api, &snapshot, &mut request).await?;
    admit::quota((&api, &http), &snapshot, &request.tenant)?;
    let told = |step: Step| {
        progress.reach(match step {
            Step::Planned => 0.45,
            Step::Asked => 0.7,
            Step::Decided => 0.9,
        });
    };
    let steps = Steps { told: Some(&told), patience: Some(PATIENCE) };
    orchestrator::run_in_steps(&api.deps, &snapshot, (&caller, &request), steps).await
}

/// What the job brought that the request became.
fn answer(asked: &Asked, ran: Result<Result<Ran, Error>, oneshot::error::RecvError>) -> Tried {
    let started = tokio::time::Instant::from_std(asked.started);
    match ran {
        Ok(Ok(Ran::Outcome(outcome))) => {
            let who = (asked.api.get_ref(), &asked.caller);
            performed::tried(who, &asked.request, &outcome, started)
        }
        Ok(Ok(Ran::Postponed(_))) | Err(_) => Err(Fruitless::Error(crashed())),
        Ok(Err(error)) => Err(Fruitless::Error(error)),
    }
}

fn crashed() -> Error {
    Error::new(Code::InternalError, "the service failed")
}

/// A run that ends when nobody waits for it any more.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
