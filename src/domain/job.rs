//! Work that waits: the states of a job, who may move it where, when it is tried again, and what is
//! said of it. docs/state-machine.md shows the same.

use std::fmt;
use std::time::Duration;

use super::digest::Digest;
use super::error::{Code, Error};
use super::event::{Event, EventType};
use super::id::TenantId;
use super::request::Priority;

#[cfg(test)]
mod tests;
mod watch;

pub use watch::Watch;

/// How long after its completion the sealed result of a job is kept.
pub const RESULT_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long after its failure the sealed content of a dead letter is kept.
pub const DEAD_LETTER_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($variant:ident $name:literal $meaning:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $(#[doc = $meaning] $variant,)* }

        impl $type {
            /// Every one, in the order of the documentation.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];

            /// The name in store and API.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }

            /// The one of that name.
            pub fn parse(raw: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == raw)
            }
        }
    };
}

named! {
    /// Where a job stands.
    JobState {
        Queued "queued" "It waits for a worker.";
        Running "running" "A worker carries it out.";
        Paused "paused" "It waits for whoever paused it.";
        Completed "completed" "It was carried out.";
        Failed "failed" "It was given up.";
        Cancelled "cancelled" "Nobody wants it any more.";
    }
}

named! {
    /// What a job carries out.
    JobType {
        Orchestrate "orchestrate" "One request.";
        Batch "batch" "Many requests.";
    }
}

named! {
    /// What a caller may ask of a job.
    Deed {
        Pause "pause" "Stop, and keep it.";
        Resume "resume" "Go on with what was paused.";
        Cancel "cancel" "Stop, and forget its content.";
        Requeue "requeue" "Try again what failed.";
    }
}

impl Deed {
    /// Where alone it begins, if it does: what was paused is not tried again, what failed does not
    /// go on.
    pub fn from(self) -> Option<JobState> {
        match self {
            Deed::Resume => Some(JobState::Paused),
            Deed::Requeue => Some(JobState::Failed),
            Deed::Pause | Deed::Cancel => None,
        }
    }

    /// Where it leads.
    pub fn to(self) -> JobState {
        match self {
            Deed::Pause => JobState::Paused,
            Deed::Resume | Deed::Requeue => JobState::Queued,
            Deed::Cancel => JobState::Cancelled,
        }
    }
}

named! {
    /// How one try ended.
    AttemptEnd {
        Completed "completed" "It was carried out.";
        Failed "failed" "It failed, and the job with it.";
        Retried "retried" "It failed and is tried again.";
        Paused "paused" "A caller paused the job; the try does not count.";
        Cancelled "cancelled" "A caller cancelled the job.";
        HandedBack "handed_back" "The worker stopped, or lacks the data key; the try does not count.";
        Lost "lost" "The worker fell silent.";
    }
}

/// Who moves a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mover {
    /// Somebody outside, through the API.
    Caller,
    /// A worker or the upkeep.
    Service,
}

/// A move that the table does not hold; what the API answers as `{from, to, allowed}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {} cannot become {}", from.name(), to.name())]
pub struct IllegalMove {
    /// Where the job stands.
    pub from: JobState,
    /// Where it should go.
    pub to: JobState,
    /// Where it may go.
    pub allowed: &'static [JobState],
}

impl JobState {
    /// Where `mover` may take a job that stands here.
    pub fn allowed(self, mover: Mover) -> &'static [JobState] {
        use JobState::{Cancelled, Completed, Failed, Paused, Queued, Running};
        match (self, mover) {
            (Queued, _) => &[Running, Paused, Cancelled, Failed],
            (Running, Mover::Caller) => &[Completed, Failed, Paused, Cancelled],
            (Running, Mover::Service) => &[Completed, Failed, Paused, Cancelled, Queued],
            (Paused, _) => &[Queued, Failed, Cancelled],
            (Failed, _) => &[Queued],
            (Completed | Cancelled, _) => &[],
        }
    }

    /// Whether `mover` may take a job from here to `to`.
    pub fn moved(self, to: JobState, mover: Mover) -> Result<(), IllegalMove> {
        let allowed = self.allowed(mover);
        if allowed.contains(&to) { Ok(()) } else { Err(IllegalMove { from: self, to, allowed }) }
    }

    /// Whether nothing happens to a job here by itself.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobState::Completed | JobState::Failed | JobState::Cancelled)
    }

    /// What is published when a job comes here.
    pub fn event_type(self) -> EventType {
        match self {
            JobState::Queued => EventType::JobQueued,
            JobState::Running => EventType::JobRunning,
            JobState::Paused => EventType::JobPaused,
            JobState::Completed => EventType::JobCompleted,
            JobState::Failed => EventType::JobFailed,
            JobState::Cancelled => EventType::JobCancelled,
        }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// Of a uuid, which should be a v7 one: it sorts by the time it was made.
            pub fn of(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }

            /// Parses the hyphenated lower-case form; any other form is none.
            pub fn parse(raw: &str) -> Option<Self> {
                let uuid = uuid::Uuid::try_parse(raw).ok()?;
                (uuid.hyphenated().to_string() == raw).then_some(Self(uuid))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_id!(
    /// One job, uuid v7.
    JobId
);
uuid_id!(
    /// One life of one instance's workers, uuid v7: a new one at each start, and after it was buried.
    WorkerId
);

/// Which job of whom; another tenant's does not exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: JobId,
}

/// The right to carry a job out, until it is moved by anyone else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// Which job.
    pub of: JobKey,
    /// Grows each time the job is taken: whoever holds a smaller one changes nothing any more.
    pub fence: u64,
}

/// Why a job or one try of it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// A code of docs/errors.md.
    pub code: String,
    /// For the caller; never content.
    pub message: String,
}

impl JobError {
    /// What a caller is told of `error`.
    pub fn of(error: &Error) -> JobError {
        JobError { code: error.code.info().name.to_owned(), message: error.message.clone() }
    }

    /// Of try number `attempt` of `most`, whose worker fell silent.
    pub fn lost(attempt: u32, most: u32) -> JobError {
        let message = format!("the worker stopped without an answer at try {attempt} of {most}");
        JobError { code: Code::InternalError.info().name.to_owned(), message }
    }

    /// Of a job whose tenant was deleted.
    pub fn orphaned() -> JobError {
        let message = "the tenant of the job was deleted";
        let code = Code::TenantMismatch.info().name.to_owned();
        JobError { code, message: message.to_owned() }
    }

    /// Of a job that only instances with another data key can open.
    pub fn sealed() -> JobError {
        let message = "the job is sealed under a data key that this instance does not have, and waits \
                       for one that has it; see ORCHESTRATION_DATA_KEY_PREVIOUS";
        JobError { code: Code::InternalError.info().name.to_owned(), message: message.to_owned() }
    }

    /// Of a job that nobody began before it expired.
    pub fn expired() -> JobError {
        let message = "the job was not begun before it expired";
        JobError { code: Code::RequestTimeout.info().name.to_owned(), message: message.to_owned() }
    }
}

/// How often a job is tried, and how long it rests in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// Attempts in all, the first included.
    pub most: u32,
    /// The rest after the first attempt; it doubles.
    pub first: Duration,
    /// The longest rest.
    pub cap: Duration,
}

impl Tries {
    /// Those of a priority.
    pub fn of(priority: Priority) -> Tries {
        let (most, first, cap) = match priority {
            Priority::Critical | Priority::High => (5, 1, 30),
            Priority::Normal => (3, 2, 60),
            Priority::Low | Priority::Batch => (2, 5, 120),
        };
        Tries { most, first: Duration::from_secs(first), cap: Duration::from_secs(cap) }
    }

    /// The rest after attempt number `attempt`, from 1: doubled each time up to the cap, then ± 20 %
    /// by `random` in 0..1, so that what failed together does not come back together.
    pub fn rest(self, attempt: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
        doubled.min(self.cap).mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is tried again after this rest.
    Again(Duration),
    /// It becomes a dead letter.
    Dead,
}

impl Next {
    /// After attempt number `attempt`, from 1, of a job of `priority` failed by `error`; `random` is
    /// in 0..1. What the same request cannot mend is not tried again.
    pub fn after(error: &Error, priority: Priority, attempt: u32, random: f64) -> Next {
        let tries = Tries::of(priority);
        if !error.retryable() || attempt >= tries.most {
            return Next::Dead;
        }
        // Whoever refused may know when it ends.
        Next::Again(tries.rest(attempt, random).max(error.retry_after.unwrap_or_default()))
    }
}

/// One move of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// From 1 without gaps; the job's version after it.
    pub number: u64,
    /// `None` where the job was made.
    pub from: Option<JobState>,
    /// Where it stands now.
    pub to: JobState,
    /// By the store's clock, milliseconds since 1970.
    pub at_ms: i64,
    /// Who: key prefix, subject, worker or `system`.
    pub actor: String,
    /// Why, such as `retry`; may be empty.
    pub reason: String,
}

/// What every event of a job says of it.
#[derive(serde::Serialize)]
struct Told<'a> {
    job_id: JobId,
    job_type: &'a str,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    version: u64,
    priority: &'a str,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
}

/// What an event needs to know of a job that was just moved.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// Which.
    pub of: &'a JobKey,
    /// What it carries out.
    pub job_type: JobType,
    /// How urgent.
    pub priority: Priority,
    /// Attempts that count, the running one included.
    pub attempts: u32,
    /// Why the last one failed.
    pub error_code: Option<&'a str>,
}

impl Transition {
    /// The id of the event of this move: SHA-256 over job, state and version, each prefixed by its
    /// length. Whoever writes the same move writes the same event.
    pub fn event_id(&self, job: JobId) -> Digest {
        let (job, number) = (job.to_string(), self.number.to_be_bytes());
        Digest::of_all([job.as_bytes(), self.to.name().as_bytes(), &number[..]])
    }

    /// The event of this move.
    pub fn event(&self, now: Now<'_>) -> Event {
        let told = Told {
            job_id: now.of.id,
            job_type: now.job_type.name(),
            state: self.to.name(),
            from: self.from.map(JobState::name),
            version: self.number,
            priority: now.priority.name(),
            attempts: now.attempts,
            error_code: now.error_code,
        };
        Event {
            id: self.event_id(now.of.id),
            event_type: self.to.event_type(),
            tenant: Some(now.of.tenant.clone()),
            at_ms: self.at_ms,
            source: format!("job/{}", now.of.id),
            // Names, numbers and ids have a form in JSON.
            data: serde_json::to_value(&told).unwrap_or_default(),
        }
    }
}
