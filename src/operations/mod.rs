//! Named operations of the service: each is counted, timed and behind a circuit breaker of its own.
//! And that breaker, which detectors use too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::error::{Code, Error};

pub mod breaker;
#[cfg(test)]
mod tests;

use breaker::{Admission, Breaker, BreakerMode, BreakerSpec, BreakerState, Ended};

macro_rules! operations {
    ($($variant:ident $name:literal $meaning:literal;)*) => {
        /// Something the service does. Where it is done, it is begun and ended here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Operation { $(#[doc = $meaning] $variant,)* }

        impl Operation {
            /// All of them, in the order of `GET /operations`.
            pub const ALL: &'static [Operation] = &[$(Operation::$variant,)*];

            /// The name in the API.
            pub fn name(self) -> &'static str {
                match self { $(Operation::$variant => $name,)* }
            }
        }
    };
}

operations! {
    Authenticate "authenticate" "A credential becomes a caller.";
    CheckPermission "check_permission" "A caller's scopes are held against a route.";
    CheckRateLimit "check_rate_limit" "A request is held against rates, quotas and places.";
    CheckThreat "check_threat" "The envelope of a request is searched for attacks.";
    BatchThreatCheck "batch_threat_check" "The requests of a batch are judged.";
    PolicyEvaluate "policy_evaluate" "A policy is asked at one of its points.";
    AssessRisk "assess_risk" "Reports become findings and settled categories.";
    StoreCredential "store_credential" "A sealed credential of a detector is written to the store.";
    RetrieveCredential "retrieve_credential" "Sealed credentials of detectors are read from the store.";
    StoreToken "store_token" "An API key is made, replaced or revoked in the store.";
    RetrieveToken "retrieve_token" "API keys are read from the store.";
    StoreObject "store_object" "Overlays and strategies are written to the store.";
    RetrieveObject "retrieve_object" "Overlays and strategies are read from the store.";
    WriteAuditBatch "write_audit_batch" "Acts are handed to the store's writer, until they are durable.";
    ReadAudit "read_audit" "Acts are read from the store.";
    KeepQuotas "keep_quotas" "Used quotas are written to the store, or read from it.";
    KeepClaims "keep_claims" "Idempotency keys are claimed in the store, and their answers kept.";
    RecordDecision "record_decision" "A batch of decisions is appended to the log.";
    ReadDecision "read_decision" "Decisions are read from the store.";
    WriteCustody "write_custody" "What was done with a decision's evidence is written to the store.";
    ReadCustody "read_custody" "Custody and legal holds are read from the store.";
    ChangeHold "change_hold" "A legal hold is put on or taken off in the store.";
    PurgeExpired "purge_expired" "Records that are older than their tenant keeps them are taken away.";
    KeepJobs "keep_jobs" "Jobs are added or moved in the store, by callers or the upkeep.";
    ReadJobs "read_jobs" "Jobs, their attempts and transitions are read from the store.";
    CarryOutJobs "carry_out_jobs" "Workers take jobs, renew their leases and end attempts in the store.";
    KeepEvents "keep_events" "Events are kept, numbered and marked in the store.";
    ReadEvents "read_events" "Events are read from the store.";
    DeliverEvents "deliver_events" "Consumer groups are given events, and acknowledge them.";
    KeepSources "keep_sources" "What decisions were made of is written to the store, or read from it.";
}

/// Five failures in a row open it; tried again every second, so that what is back is soon used.
const SPEC: BreakerSpec = BreakerSpec {
    mode: BreakerMode::Consecutive,
    failures: 5,
    window: Duration::from_secs(60),
    failure_ratio: 1.0,
    open_for: Duration::from_secs(1),
    open_max: Duration::from_secs(1),
    probes: 1,
    slow_call: None,
};
/// Who stops waiting after this long has seen a failure.
const GIVEN_UP: Duration = Duration::from_millis(400);

/// Every operation since the start.
#[derive(Debug)]
pub struct Operations {
    counted: Vec<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    breaker: Mutex<Breaker>,
    calls: AtomicU64,
    errors: AtomicU64,
    micros: AtomicU64,
}

/// One operation as seen from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationView {
    /// Which.
    pub operation: Operation,
    /// As the next call meets it.
    pub state: BreakerState,
    /// Ended since the start, refused ones apart.
    pub calls: u64,
    /// Of these, the ones that failed; to refuse somebody is no failure.
    pub errors: u64,
    /// Mean duration in milliseconds; 0 without calls.
    pub avg_ms: f64,
}

/// The operation failed too often and is not tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} failed several times in a row and rests", .0.name())]
pub struct Resting(pub Operation);

impl From<Resting> for Error {
    fn from(resting: Resting) -> Error {
        Error::new(Code::Overloaded, format!("{resting}; send it again later"))
    }
}

impl Default for Operations {
    fn default() -> Self {
        Self { counted: Operation::ALL.iter().map(|_| Counted::default()).collect() }
    }
}

impl Operations {
    /// Begins `operation`, unless its breaker is open. What is dropped without an end counts for
    /// nothing.
    ///
    /// # Errors
    /// [`Resting`] while the breaker is open.
    pub fn begin(&self, operation: Operation) -> Result<Running<'_>, Resting> {
        let counted = self.of(operation).ok_or(Resting(operation))?;
        let now = Instant::now();
        let admission = counted.breaker().admit(&SPEC, now).ok_or(Resting(operation))?;
        Ok(Running { counted, admission, start: now, ended: Ended::Released, patience: None })
    }

    /// Each, in the order of [`Operation::ALL`].
    pub fn views(&self) -> Vec<OperationView> {
        let now = Instant::now();
        let rows = Operation::ALL.iter().zip(&self.counted);
        let of = |(operation, counted): (&Operation, &Counted)| counted.view(*operation, now);
        rows.map(of).collect()
    }

    fn of(&self, operation: Operation) -> Option<&Counted> {
        self.counted.get(operation as usize)
    }
}

impl Counted {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self, operation: Operation, now: Instant) -> OperationView {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let calls = of(&self.calls);
        OperationView {
            operation,
            state: self.breaker().state(now),
            calls,
            errors: of(&self.errors),
            avg_ms: of(&self.micros) as f64 / 1e3 / calls.max(1) as f64,
        }
    }
}

/// An operation under way.
#[must_use]
pub struct Running<'a> {
    counted: &'a Counted,
    admission: Admission,
    start: Instant,
    ended: Ended,
    patience: Option<Duration>,
}

impl Running<'_> {
    /// Whoever leaves it after a long wait has seen a failure.
    pub fn waited_for(mut self) -> Self {
        self.patience = Some(GIVEN_UP);
        self
    }

    /// It ended with `answer`. An operation inside the process has nothing to wait for: what fails
    /// in it is counted, and rests nothing.
    pub fn answered<T>(self, answer: &Result<T, Error>) {
        match answer.as_ref().err().map(|error| error.code) {
            Some(Code::InternalError | Code::StoreUnavailable) => self.failed_for_one(),
            _ => self.done(),
        }
    }

    /// It was done, be it with a refusal.
    pub fn done(self) {
        self.end(Ended::Success);
    }

    /// It failed for one tenant or one caller, by what they brought: counted, no sign of an outage.
    pub fn failed_for_one(self) {
        self.counted.errors.fetch_add(1, Ordering::Relaxed);
        self.end(Ended::Success);
    }

    /// It was refused since others were in its way: however long it waited, no sign of an outage, and
    /// none of health.
    pub fn crowded_out(mut self) {
        self.patience = None;
    }

    /// It failed, and the next caller's would too.
    pub fn failed(self) {
        self.end(Ended::Failure);
    }

    fn end(mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.duration_since(self.start);
        let left_late = self.patience.is_some_and(|patience| took >= patience);
        if self.ended == Ended::Released && left_late {
            self.ended = Ended::Failure;
        }
        self.counted.breaker().record(&SPEC, self.admission, self.ended, now);
        if self.ended == Ended::Released {
            return;
        }
        let add = |counter: &AtomicU64, by| counter.fetch_add(by, Ordering::Relaxed);
        add(&self.counted.calls, 1);
        add(&self.counted.micros, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        add(&self.counted.errors, u64::from(self.ended == Ended::Failure));
    }
}
