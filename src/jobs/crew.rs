//! What one instance has to do with jobs: it takes them in, carries them out, and says how they ended.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::content::{self, Callback, Part, Payload};
use super::upkeep::AT_ONCE;
use crate::bus::{Bus, Ring};
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::domain::job::{Deed, JobError, JobId, JobKey, JobState, JobType, Lease, Next, WorkerId};
use crate::domain::request::Priority;
use crate::metrics::Metrics;
use crate::seal::{self, DataKeys, Key, SharedSecret};
use crate::settings;
use crate::store::{Added, Ending, Job, NewJob, Store, StoreError};

/// A job that is not begun for so long, after it may be, is given up.
const EXPIRES_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How long a job rests, at least, that another instance may have the data key of.
pub(super) const SEALED_REST: Duration = Duration::from_secs(30);
/// How long the end of a job is offered to a store that does not take it while the service stops.
const OFFER: Duration = Duration::from_secs(3);

/// The jobs of one instance.
pub struct Crew {
    pub(super) store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) settings: settings::Jobs,
    pub(super) stop: CancellationToken,
    /// There may be something to carry out.
    pub(super) woken: Notify,
    /// Among it is something urgent, taken in here.
    pub(super) urgent: AtomicBool,
    /// A job came to its end here.
    pub(super) ended: Notify,
    /// Jobs that waited when somebody last looked, with what came and went here since.
    pub(super) waiting: AtomicU64,
    keys: DataKeys,
    /// Of which the secrets of callbacks are made.
    callback_key: Key,
    worker: Mutex<WorkerId>,
    underway: Mutex<HashMap<JobId, Underway>>,
}

/// One that is carried out here.
struct Underway {
    fence: u64,
    gone: CancellationToken,
    progress: Progress,
    /// What of it the store knows.
    kept: u32,
}

/// How much of a job is done; shared by whoever does it and whoever tells.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU32>);

impl Progress {
    /// From 0 to 1; it never falls.
    pub fn reach(&self, part: f64) {
        self.0.fetch_max((part.clamp(0.0, 1.0) * 1000.0) as u32, Ordering::Relaxed);
    }

    fn thousandths(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A job that somebody wants.
#[derive(Debug)]
pub struct Wish {
    /// Whose, and a fresh id.
    pub of: JobKey,
    /// What it carries out.
    pub job_type: JobType,
    /// How urgent.
    pub priority: Priority,
    /// Requests in it, from 1.
    pub cost: u32,
    /// What is to be done.
    pub payload: Payload,
    /// Where its end is told.
    pub callback: Option<Callback>,
    /// Not to be begun before, milliseconds since 1970.
    pub not_before_ms: Option<i64>,
    /// Keyed hash of what makes it the same job.
    pub key: Option<[u8; 32]>,
    /// Of the tenant since midnight, UTC.
    pub most_a_day: Option<u32>,
    /// Whether it is under way here already.
    pub begun: bool,
}

/// Why a try brought nothing.
#[derive(Debug)]
pub enum Fruitless {
    /// It failed.
    Error(Error),
    /// Required detectors did not answer, which may pass; the code of the coverage, and how long they
    /// ask to be left alone.
    Incomplete(&'static str, Duration),
    /// It is sealed under a data key that this instance does not have.
    Sealed,
}

/// What a try brought: the result as its caller will see it.
pub type Tried = Result<Value, Fruitless>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fresh_worker() -> WorkerId {
    WorkerId::of(uuid::Uuid::now_v7())
}

impl Crew {
    /// A crew over `store`; it does nothing until it runs.
    pub fn new(
        (store, bus): (Arc<dyn Store>, Arc<dyn Bus>),
        (keys, callback_key): (DataKeys, Key),
        metrics: Arc<Metrics>,
        settings: settings::Jobs,
    ) -> Crew {
        Crew {
            store,
            bus,
            metrics,
            settings,
            stop: CancellationToken::new(),
            woken: Notify::new(),
            urgent: AtomicBool::new(false),
            ended: Notify::new(),
            waiting: AtomicU64::new(0),
            keys,
            callback_key,
            worker: Mutex::new(fresh_worker()),
            underway: Mutex::default(),
        }
    }

    /// There may be something to carry out: a job of this instance or of another.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// The same at every instance; the move that made it so is an event.
    fn wake_all(&self) {
        self.wake();
        self.bus.ring(Ring::Jobs);
        self.bus.ring(Ring::Events);
    }

    /// Takes nothing more, and hands back what is under way.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Who this instance is among those who carry jobs out.
    pub fn worker(&self) -> WorkerId {
        *lock(&self.worker)
    }

    /// Begins another life: this one was buried.
    pub(super) fn reborn(&self) {
        lock(&self.underway).values().for_each(|underway| underway.gone.cancel());
        *lock(&self.worker) = fresh_worker();
    }

    /// Takes in what somebody wants.
    ///
    /// # Errors
    /// Too many jobs wait, or the store does not take it.
    pub async fn add(&self, wish: Wish, actor: &str) -> Result<Added, Error> {
        if self.waiting.load(Ordering::Relaxed) >= u64::from(self.settings.queued_max) {
            return Err(Error::new(Code::Overloaded, "too many jobs wait; send it again later"));
        }
        let Wish { of, callback, .. } = &wish;
        let payload = content::seal(&self.keys, of, Part::Payload, &wish.payload)?;
        let seal_callback =
            |callback: &Callback| content::seal(&self.keys, of, Part::Callback, callback);
        let callback = callback.as_ref().map(seal_callback).transpose()?;
        let from_ms = wish.not_before_ms.unwrap_or_default().max(now_ms());
        let after_ms = i64::try_from(EXPIRES_AFTER.as_millis()).unwrap_or(i64::MAX);
        let job = NewJob {
            of: wish.of,
            job_type: wish.job_type,
            priority: wish.priority,
            cost: wish.cost.max(1),
            payload,
            callback,
            not_before_ms: wish.not_before_ms,
            expires_at_ms: Some(from_ms.saturating_add(after_ms)),
            key: wish.key,
            most_a_day: wish.most_a_day,
            actor: actor.to_owned(),
            begun_by: wish.begun.then(|| self.worker()),
        };
        let is_urgent = job.priority <= Priority::High;
        let added = self.store.add_job(job).await.map_err(refused)?;
        if matches!(&added, Added::New(job) if job.state == JobState::Queued) {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        self.urgent.fetch_or(is_urgent, Ordering::Relaxed);
        self.wake_all();
        Ok(added)
    }

    /// Fails the jobs of `tenant`, which was deleted, and erases their content and its dead letters'.
    ///
    /// # Errors
    /// The store's; those that it did not fail fail when they expire.
    pub async fn orphan(&self, tenant: &TenantId) -> Result<(), StoreError> {
        while self.store.fail_jobs(tenant.clone(), JobError::orphaned(), AT_ONCE).await? > 0 {}
        self.bus.ring(Ring::Events);
        self.ended.notify_one();
        Ok(())
    }

    /// So many jobs that waited were taken here.
    pub(super) fn taken(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let less = |waiting: u64| Some(waiting.saturating_sub(count));
        // It always gives a number, so that it never fails.
        let _ = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// What came of a job, as its caller sees it, while it is kept.
    pub async fn result(&self, of: &JobKey) -> Result<Option<Value>, Error> {
        let sealed = self.store.job_result(of.clone()).await.map_err(refused)?;
        sealed.map(|sealed| content::open(&self.keys, of, Part::Result, &sealed)).transpose()
    }

    /// A caller moved the job there: what is done of it here stops at once, and a cancelled one is told.
    pub fn moved(&self, job: &Job, deed: Deed) {
        match deed {
            Deed::Pause | Deed::Cancel => {
                if let Some(underway) = lock(&self.underway).get(&job.of.id) {
                    underway.gone.cancel();
                }
            }
            Deed::Resume | Deed::Requeue => self.wake_all(),
        }
        self.bus.ring(Ring::Events);
        if deed == Deed::Cancel {
            self.count(job, JobState::Cancelled);
            self.ended.notify_one();
        }
    }

    /// Where the end of `job` is told, and the secret that signs it.
    pub(super) fn callback(&self, job: &Job) -> Result<Option<(Callback, SharedSecret)>, Error> {
        let Some(sealed) = &job.callback else { return Ok(None) };
        let callback = content::open(&self.keys, &job.of, Part::Callback, sealed)?;
        let secret = SharedSecret::new(self.callback_secret(&job.of).into());
        Ok(secret.map(|secret| (callback, secret)))
    }

    /// Whether the address of its callback is sealed under a data key that is not here.
    pub(super) fn is_foreign(&self, job: &Job) -> bool {
        job.callback.as_deref().is_some_and(|sealed| self.keys.is_foreign(sealed))
    }

    /// What signs the callbacks of a job: 64 hexadecimal digits, to be shown to whoever made it.
    pub fn callback_secret(&self, of: &JobKey) -> String {
        let id = of.id.to_string();
        let parts = [&b"callback"[..], of.tenant.as_str().as_bytes(), id.as_bytes()];
        hex::encode(self.callback_key.hash(parts))
    }

    pub(super) fn open(&self, of: &JobKey, payload: &[u8]) -> Result<Payload, Fruitless> {
        if self.keys.is_foreign(payload) {
            return Err(Fruitless::Sealed);
        }
        content::open(&self.keys, of, Part::Payload, payload).map_err(Fruitless::Error)
    }

    /// Carries `job` out by `work`, unless somebody moves it or the service stops, and says how it
    /// ended. Whoever drops this leaves the job to others, once this instance has been silent.
    pub async fn attend(
        &self,
        (lease, job): (Lease, &Job),
        progress: Progress,
        work: impl Future<Output = Tried>,
    ) {
        progress.reach(0.05);
        let underway = self.enter(&lease, progress);
        let work = AssertUnwindSafe(work).catch_unwind();
        let tried = tokio::select! {
            biased;
            tried = work => Some(tried.unwrap_or_else(|_| Err(self.crashed()))),
            // Whoever moved it ended the lease too; else it must not stay without anybody.
            () = underway.gone.cancelled() => None,
            () = self.stop.cancelled() => None,
        };
        let ending = match tried {
            Some(Ok(result)) => match content::seal(&self.keys, &job.of, Part::Result, &result) {
                Ok(sealed) => Ending::Completed(sealed),
                Err(error) => after(Fruitless::Error(error), job),
            },
            Some(Err(why)) => after(why, job),
            None => Ending::HandedBack,
        };
        self.say(&lease, job, ending).await;
    }

    fn crashed(&self) -> Fruitless {
        self.metrics.panicked();
        Fruitless::Error(Error::new(Code::InternalError, "the service failed at this job"))
    }

    /// Says how a try ended until the store has heard it.
    async fn say(&self, lease: &Lease, job: &Job, ending: Ending) {
        let (mut pause, mut offered) = (Duration::from_millis(50), Duration::ZERO);
        let heard = loop {
            match self.store.end_attempt(lease.clone(), ending.clone()).await {
                Ok(heard) => break heard,
                Err(error) if self.stop.is_cancelled() && offered > OFFER => {
                    tracing::warn!(%error, job = %job.of.id, "The end of a job could not be kept");
                    break false;
                }
                Err(error) => tracing::debug!(%error, "the end of a job is offered again"),
            }
            sleep(pause).await;
            offered += pause;
            pause = (pause * 2).min(Duration::from_secs(1));
        };
        if !heard {
            return;
        }
        let state = match ending {
            Ending::Completed(_) => JobState::Completed,
            Ending::Failed(_) => JobState::Failed,
            Ending::Again(..) | Ending::HandedBack | Ending::PutOff(..) => return self.wake_all(),
        };
        self.bus.ring(Ring::Events);
        self.count(job, state);
        self.ended.notify_one();
    }

    /// Counts a job that came to its end.
    fn count(&self, job: &Job, state: JobState) {
        let took = u64::try_from(now_ms().saturating_sub(job.created_at_ms)).unwrap_or_default();
        self.metrics.job_ended(state, Duration::from_millis(took));
    }

    fn enter(&self, lease: &Lease, progress: Progress) -> Entered<'_> {
        let gone = CancellationToken::new();
        let of = Underway { fence: lease.fence, gone: gone.clone(), progress, kept: 0 };
        lock(&self.underway).insert(lease.of.id, of);
        self.metrics.jobs_active(1.0);
        Entered { crew: self, id: lease.of.id, fence: lease.fence, gone }
    }

    /// What is under way here, to be held against what the store says of it later.
    pub(super) fn fences(&self) -> HashMap<JobId, u64> {
        lock(&self.underway).iter().map(|(id, underway)| (*id, underway.fence)).collect()
    }

    /// Stops what was under way `before` and is not among what the store `holds`.
    pub(super) fn keep_only(&self, holds: &[Lease], before: &HashMap<JobId, u64>) {
        let held: HashMap<JobId, u64> =
            holds.iter().map(|lease| (lease.of.id, lease.fence)).collect();
        for (id, underway) in lock(&self.underway).iter() {
            let known = before.get(id) == Some(&underway.fence);
            if known && held.get(id) != Some(&underway.fence) {
                underway.gone.cancel();
            }
        }
    }

    /// Leases that nobody here attends to.
    pub(super) fn unattended(&self, holds: &[Lease]) -> HashSet<Lease> {
        let all = lock(&self.underway);
        let attended =
            |lease: &Lease| all.get(&lease.of.id).is_some_and(|u| u.fence == lease.fence);
        holds.iter().filter(|lease| !attended(lease)).cloned().collect()
    }

    /// What the store does not know yet of how much is done.
    pub(super) fn news(&self, leases: &[Lease]) -> Vec<(Lease, f64)> {
        let mut all = lock(&self.underway);
        let mut news = Vec::new();
        for lease in leases {
            let Some(underway) = all.get_mut(&lease.of.id) else { continue };
            let now = underway.progress.thousandths();
            if underway.fence == lease.fence && now > underway.kept {
                underway.kept = now;
                news.push((lease.clone(), f64::from(now) / 1000.0));
            }
        }
        news
    }
}

/// What follows a try that brought nothing.
fn after(why: Fruitless, job: &Job) -> Ending {
    let (told, cause) = match why {
        Fruitless::Error(error) => (JobError::of(&error), error),
        Fruitless::Incomplete(code, rest) => {
            let message = "detectors that the policy requires did not answer";
            // Of the codes that requests have, the one that says: later.
            let later = Error::new(Code::Overloaded, message).retry_after(rest);
            (JobError { code: code.to_owned(), message: message.to_owned() }, later)
        }
        Fruitless::Sealed => {
            let rest = SEALED_REST.mul_f64(1.0 + seal::spread());
            return Ending::PutOff(JobError::sealed(), rest);
        }
    };
    match Next::after(&cause, job.priority, job.attempts, seal::spread()) {
        Next::Again(rest) => Ending::Again(told, rest),
        Next::Dead => Ending::Failed(told),
    }
}

/// A job that is carried out here until this is dropped.
struct Entered<'a> {
    crew: &'a Crew,
    id: JobId,
    fence: u64,
    gone: CancellationToken,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut all = lock(&self.crew.underway);
        // Taken again meanwhile, it is another's.
        if all.get(&self.id).is_some_and(|underway| underway.fence == self.fence) {
            all.remove(&self.id);
        }
        self.crew.metrics.jobs_active(-1.0);
    }
}

/// What a caller is told of a store that does not answer.
pub fn refused(error: StoreError) -> Error {
    let message = "the store of jobs does not answer; send the request again later";
    Error::new(error.code(), message).caused_by(error)
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
