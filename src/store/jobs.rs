//! Jobs: what callers see and move, what workers carry out, what is done about both in time.
//!
//! Every move is one transaction with its line in the log of transitions and its event
//! ([`super::Events`]): all or nothing. Payloads and results come sealed and are erased here; this
//! module opens none.
//!
//! No time of day ends a lease: see [`Workers`]. Rests, expiry and erasing go by the store's clock.

use std::time::Duration;

use super::{Answer, AuditEntry, Numbered, Page};
use crate::domain::id::TenantId;
use crate::domain::job::{
    AttemptEnd, Deed, IllegalMove, JobError, JobKey, JobState, JobType, Lease, Transition, WorkerId,
};
use crate::domain::request::Priority;

mod room;
pub(super) mod rows;
mod sqlite;
mod step;

pub(super) use room::Room;
pub(super) use sqlite::now;
pub(super) use step::{Held, Next, Step};

/// Costs told of one tenant and priority at most.
pub(super) const EACH_MAX: u32 = 256;
pub(super) const DAY_MS: i64 = 86_400_000;
/// What [`Jobs::forget_callback`] does, in every store.
pub(super) const FORGET_CALLBACK: &str = "UPDATE jobs SET callback = NULL \
    WHERE tenant = $1 AND id = $2 AND version = $3 AND callback IS NOT NULL AND payload IS NULL \
    AND state IN ('completed', 'failed', 'cancelled') AND NOT EXISTS (SELECT 1 \
        FROM job_transitions AS before WHERE before.job = jobs.id AND before.from_state = 'failed')";
/// Tenants of [`JobUpkeep::orphans`], in every store. Where nothing was deleted no job is looked at.
pub(super) const ORPHANS: &str = "SELECT DISTINCT jobs.tenant AS tenant \
    FROM objects JOIN jobs ON jobs.tenant = objects.tenant \
    WHERE objects.kind = $1 AND objects.body IS NULL AND NOT EXISTS (SELECT 1 \
        FROM objects AS newer WHERE newer.kind = objects.kind AND newer.tenant = objects.tenant \
        AND newer.name = objects.name AND newer.version > objects.version) \
    AND (jobs.state IN ('queued', 'running', 'paused') \
        OR (jobs.state = 'failed' AND jobs.payload IS NOT NULL))";

/// A job to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Whose, and a fresh id.
    pub of: JobKey,
    /// What it carries out.
    pub job_type: JobType,
    /// How urgent.
    pub priority: Priority,
    /// What fair queuing counts it for, from 1.
    pub cost: u32,
    /// What to do, sealed; erased at the end.
    pub payload: Vec<u8>,
    /// Where to tell of the end, sealed.
    pub callback: Option<Vec<u8>>,
    /// Not to be begun before, wall clock in milliseconds since 1970.
    pub not_before_ms: Option<i64>,
    /// Failed unless begun before, wall clock in milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
    /// Keyed hash of what makes it the same job: of one tenant and key there is one job.
    pub key: Option<[u8; 32]>,
    /// Refused where so many of the tenant were made since midnight, UTC, by the store's clock.
    pub most_a_day: Option<u32>,
    /// Who asks for it.
    pub actor: String,
    /// Who carries it out already, where a request became a job on its way: it is queued and taken at
    /// once, with fence 1, unless that worker is not alive.
    pub begun_by: Option<WorkerId>,
}

/// What became of a job to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Added {
    /// It is queued, or runs where it was begun.
    New(Job),
    /// One of the same key is there, and nothing was changed.
    Known(Job),
    /// The tenant has made as many as it may today, and nothing was changed.
    QuotaUsed,
}

/// A job as it stands, without content.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Whose, and which.
    pub of: JobKey,
    /// What it carries out.
    pub job_type: JobType,
    /// How urgent.
    pub priority: Priority,
    /// What fair queuing counts it for, from 1.
    pub cost: u32,
    /// Where it stands.
    pub state: JobState,
    /// Number of its last transition, from 1; progress does not change it.
    pub version: u64,
    /// Attempts that count, the running one included; a pause or a hand-back takes its own back.
    pub attempts: u32,
    /// From 0 to 1.
    pub progress: f64,
    /// By the store's clock, milliseconds since 1970.
    pub created_at_ms: i64,
    /// Of its last transition, by the store's clock.
    pub updated_at_ms: i64,
    /// As [`NewJob::not_before_ms`].
    pub not_before_ms: Option<i64>,
    /// As [`NewJob::expires_at_ms`]; none any more once it was requeued.
    pub expires_at_ms: Option<i64>,
    /// As [`NewJob::callback`], until it is forgotten.
    pub callback: Option<Vec<u8>>,
    /// Why the last attempt failed, or the job.
    pub error: Option<JobError>,
    /// Whether its payload is still there. Failed with its payload is a dead letter.
    pub has_payload: bool,
}

/// What a caller asks of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Whose, and which.
    pub of: JobKey,
    /// What.
    pub deed: Deed,
    /// The version it must have, where the caller names one.
    pub version: Option<u64>,
    /// Who asks.
    pub actor: String,
    /// Why; may be empty.
    pub reason: String,
    /// Written with the move, or not at all; its tenant is the job's or none.
    pub audit: Option<AuditEntry>,
}

/// What became of a caller's wish. Everything but `Done` changed nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Moved {
    /// It stands there now.
    Done(Job),
    /// That tenant has no such job.
    Missing,
    /// It has another version.
    Changed(Job),
    /// The table does not hold the move.
    Illegal(IllegalMove),
    /// It failed so long ago that its content is erased, or it was discarded: nothing is left to try.
    Erased,
}

/// One try to carry a job out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The lease's fence, from 1: tries that do not count have one too.
    pub fence: u64,
    /// Number among those that count.
    pub number: u32,
    /// Who.
    pub worker: WorkerId,
    /// By the store's clock, milliseconds since 1970.
    pub started_at_ms: i64,
    /// `None` while it goes on.
    pub ended: Option<Ended>,
}

/// How one try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub how: AttemptEnd,
    /// By the store's clock, milliseconds since 1970.
    pub at_ms: i64,
    /// Why, where it failed.
    pub error: Option<JobError>,
}

/// Jobs as their callers see them.
pub trait Jobs: Send + Sync {
    /// Queues it, durably once answered; of one tenant and key only once.
    fn add_job(&self, job: NewJob) -> Answer<'_, Added>;
    /// As it stands; another tenant's is `None`.
    fn job(&self, of: JobKey) -> Answer<'_, Option<Job>>;
    /// Those of `tenant`, in `state` where one is named, newest first.
    fn jobs(
        &self,
        tenant: TenantId,
        state: Option<JobState>,
        page: Page,
    ) -> Answer<'_, Vec<Numbered<Job>>>;
    /// The sealed result of a completed job, until it is erased.
    fn job_result(&self, of: JobKey) -> Answer<'_, Option<Vec<u8>>>;
    /// Moves with a number above `after`, in order; at most `limit`, capped at 1000.
    fn transitions(&self, of: JobKey, after: u64, limit: u32) -> Answer<'_, Vec<Transition>>;
    /// Its tries with a fence above `after`, in order; at most `limit`, capped at 1000.
    fn attempts(&self, of: JobKey, after: u64, limit: u32) -> Answer<'_, Vec<Attempt>>;
    /// Does as a caller asks where the table of transitions and the version allow it. Whoever
    /// carries it out learns it at its next [`Workers::beat`]. What was paused is queued without a new
    /// attempt; what failed is queued with all its attempts before it, and expires no more.
    fn move_job(&self, wish: Move) -> Answer<'_, Moved>;
    /// Forgets where the end was told that was reached with `version`. Not of a job that has moved since,
    /// may be tried again, or came to an end before, which may still be told of; `false` then.
    fn forget_callback(&self, of: JobKey, version: u64) -> Answer<'_, bool>;
}

/// Jobs that failed and keep their content for a while.
pub trait DeadLetters: Send + Sync {
    /// Those of `tenant`, or of everyone for `None`, newest jobs first. [`Jobs::move_job`] requeues.
    fn dead_letters(&self, tenant: Option<TenantId>, page: Page) -> Answer<'_, Vec<Numbered<Job>>>;
    /// Erases its content at once and appends `entry` to the audit, both or neither; `false` where it
    /// is no dead letter, and nothing was changed.
    fn discard(&self, of: JobKey, entry: AuditEntry) -> Answer<'_, bool>;
}

/// What waits for a worker, of one tenant and priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Whose.
    pub tenant: TenantId,
    /// How urgent.
    pub priority: Priority,
    /// Costs of the first jobs, in the order in which they will be taken; none where all of them rest,
    /// which counts as told of.
    pub costs: Vec<u32>,
    /// How many jobs of this tenant run now, whatever their priority, on every instance.
    pub running: u32,
}

/// Whose jobs to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// Whose.
    pub tenant: TenantId,
    /// How urgent.
    pub priority: Priority,
    /// At most so many.
    pub most: u32,
    /// Jobs of the tenant that may run at once, on every instance and of every priority; `None` is
    /// unlimited. The store counts, since only it sees what others take at the same time.
    pub at_once: Option<u32>,
}

/// A job to carry out.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// The right to.
    pub lease: Lease,
    /// As it stands now, running.
    pub job: Job,
    /// What to do, sealed.
    pub payload: Vec<u8>,
}

/// How an attempt ended, as its worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Carried out, with this sealed result.
    Completed(Vec<u8>),
    /// Given up: a dead letter.
    Failed(JobError),
    /// Tried again after this rest.
    Again(JobError, Duration),
    /// Not tried to the end: queued as if it had not been taken.
    HandedBack,
    /// Not tried, for want of something that another instance may have: queued as if it had not been
    /// taken, after this rest.
    PutOff(JobError, Duration),
}

/// Jobs as those see them who carry them out. `false` says that the lease does not hold any more, and
/// nothing was changed.
pub trait Work: Send + Sync {
    /// What may be begun now, by priority and tenant: the first `each` (at most 256) of each; of at
    /// most `tenants_max` tenants of each priority, in order from the one that follows `after`, and
    /// round from the first.
    fn waiting(
        &self,
        each: u32,
        tenants_max: u32,
        after: Option<TenantId>,
    ) -> Answer<'_, Vec<Waiting>>;
    /// Takes for `worker` what `picks` name and nobody else takes at the same time, oldest first, and
    /// of no tenant so many that more than [`Pick::at_once`] of it run. Nothing for a worker that has not entered, or was buried.
    fn take(&self, worker: WorkerId, picks: Vec<Pick>) -> Answer<'_, Vec<Taken>>;
    /// How much is done, from 0 to 1; it never falls within an attempt.
    fn progress(&self, lease: Lease, progress: f64) -> Answer<'_, bool>;
    /// Ends the attempt. The same completion again is `true` again: there is one for each job, and
    /// whoever comes with another one second is told `false`.
    fn end_attempt(&self, lease: Lease, ending: Ending) -> Answer<'_, bool>;
}

/// Who carries jobs out. A lease holds as long as its worker beats: whoever watches
/// ([`crate::domain::job::Watch`]) compares beats over its own looks, so that no wall clock that jumps,
/// of an instance or of the database, ends a lease or keeps one.
pub trait Workers: Send + Sync {
    /// Begins a life with beat 0. An id that was buried or left must not enter again.
    fn enter(&self, worker: WorkerId) -> Answer<'_, ()>;
    /// Renews every lease of `worker` at once and names those that still hold, by job: what is
    /// missing was moved by somebody (paused, cancelled) and must be stopped, if it was taken before
    /// this call. `None`: it was buried, and holds nothing any more.
    fn beat(&self, worker: WorkerId) -> Answer<'_, Option<Vec<Lease>>>;
    /// Ends a life. What it still holds is recovered as if it had fallen silent; hand back first.
    fn leave(&self, worker: WorkerId) -> Answer<'_, ()>;
    /// Everyone alive, with their beats.
    fn workers(&self) -> Answer<'_, Vec<(WorkerId, u64)>>;
    /// Ends the life of another that is silent, unless it has beaten since; `false` where it has, or
    /// is gone already.
    fn bury(&self, worker: WorkerId, beat: u64) -> Answer<'_, bool>;
}

/// How many jobs stand where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Queued, by priority in the order of [`Priority::ALL`]; those that rest included.
    pub queued: [u64; 5],
    /// Running.
    pub running: u64,
    /// Paused.
    pub paused: u64,
    /// Dead letters.
    pub dead: u64,
}

/// What is done about jobs from time to time, by any instance; each call a bounded piece, and how many
/// it was about. To be called until it answers 0.
pub trait JobUpkeep: Send + Sync {
    /// Takes jobs that run under a worker that is gone away from it: queued at once, or a dead letter
    /// where it was the last attempt.
    fn recover_jobs(&self, most: u32) -> Answer<'_, u64>;
    /// Fails queued and paused jobs that have expired, and erases their content.
    fn expire_jobs(&self, most: u32) -> Answer<'_, u64>;
    /// Fails jobs of `tenant` at no end, whoever carries them out, and erases their content and that of
    /// its dead letters; `why` is what their callers are told.
    fn fail_jobs(&self, tenant: TenantId, why: JobError, most: u32) -> Answer<'_, u64>;
    /// Tenants with jobs at no end or dead letters, whose object of `kind` was deleted.
    fn orphans(&self, kind: &'static str) -> Answer<'_, Vec<TenantId>>;
    /// Erases results older than [`crate::domain::job::RESULT_KEPT`] and the content and callbacks of
    /// dead letters older than [`crate::domain::job::DEAD_LETTER_KEPT`]. Content of all that is at its end
    /// otherwise was erased with that move.
    fn erase_jobs(&self, most: u32) -> Answer<'_, u64>;
    /// Forgets jobs that came to their end more than `kept` ago, with all that is known of them;
    /// dead letters stay.
    fn forget_jobs(&self, kept: Duration, most: u32) -> Answer<'_, u64>;
    /// How many stand where.
    fn job_counts(&self) -> Answer<'_, JobCounts>;
    /// Under which data keys the content of jobs is sealed, as [`crate::seal::APART_ID`] holds them in
    /// hexadecimal digits, and how much is under each.
    fn job_seals(&self) -> Answer<'_, Vec<(String, u64)>>;
}

/// What [`JobUpkeep::job_seals`] asks, where `id` is the text of the key's id in a column.
pub(super) fn seals(id: impl Fn(&str) -> String) -> String {
    let sealed = |column: &str, table: &str| {
        format!("SELECT {} AS id FROM {table} WHERE {column} IS NOT NULL", id(column))
    };
    let all = [("payload", "jobs"), ("callback", "jobs"), ("result", "completions")];
    let all = all.map(|(column, table)| sealed(column, table)).join(" UNION ALL ");
    format!("SELECT id, count(*) FROM ({all}) AS sealed GROUP BY id ORDER BY id")
}

/// A progress that is one.
pub(super) fn part(progress: f64) -> f64 {
    if progress.is_nan() { 0.0 } else { progress.clamp(0.0, 1.0) }
}
