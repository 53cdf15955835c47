//! What one move makes of a job's row, the same in every store: pure, so that a store only loads,
//! asks here, and writes.

use super::{Ended, Ending, Job, Move, Moved, NewJob};
use crate::domain::event::Event;
use crate::domain::job::{
    AttemptEnd, Deed, IllegalMove, JobError, JobState, Mover, Now, Transition, Tries, WorkerId,
};
use crate::store::claims::millis;

/// A job's row while it is changed.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) struct Held {
    /// As callers see it.
    pub job: Job,
    /// Of its last taking; 0 before the first.
    pub fence: u64,
    /// Who has it.
    pub worker: Option<WorkerId>,
    /// When its rest ends; 0 where it does not rest.
    pub retry_at_ms: i64,
}

/// Everything that is written together.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) struct Step {
    /// The row; its payload goes where `has_payload` is false.
    pub after: Held,
    /// The line of the log.
    pub transition: Transition,
    /// The event.
    pub event: Event,
    /// Whether the callback is told of it.
    pub tells: bool,
    /// How the attempt of `after.fence` ended, where one did.
    pub ended: Option<Ended>,
    /// Of the completion row, where there is one.
    pub result: Option<Vec<u8>>,
}

/// Who does it, and why.
type By<'a> = (&'a str, &'a str);
pub(in crate::store) type Next = Result<Step, IllegalMove>;

impl NewJob {
    /// Its row at `now_ms`, the first step.
    pub(in crate::store) fn queued(&self, now_ms: i64) -> Step {
        let job = Job {
            of: self.of.clone(),
            job_type: self.job_type,
            priority: self.priority,
            cost: self.cost.max(1),
            state: JobState::Queued,
            version: 0,
            attempts: 0,
            progress: 0.0,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            not_before_ms: self.not_before_ms,
            expires_at_ms: self.expires_at_ms,
            callback: self.callback.clone(),
            error: None,
            has_payload: true,
        };
        let held = Held { job, fence: 0, worker: None, retry_at_ms: 0 };
        held.log(None, now_ms, (&self.actor, "add"))
    }
}

impl Move {
    /// What it makes of `held`, or why nothing.
    #[expect(clippy::result_large_err, reason = "the caller is answered with the job at once")]
    pub(in crate::store) fn step(&self, held: Held, now_ms: i64) -> Result<Step, Moved> {
        if self.version.is_some_and(|version| version != held.job.version) {
            return Err(Moved::Changed(held.job));
        }
        let (from, to) = (held.job.state, self.deed.to());
        if self.deed.from().is_some_and(|only| only != from) {
            let allowed = from.allowed(Mover::Caller);
            return Err(Moved::Illegal(IllegalMove { from, to, allowed }));
        }
        if self.deed == Deed::Requeue && !held.job.has_payload {
            return Err(Moved::Erased);
        }
        held.asked(self.deed, now_ms, (&self.actor, &self.reason)).map_err(Moved::Illegal)
    }
}

impl Held {
    /// Whether the lease of `fence` still holds.
    pub(in crate::store) fn holds(&self, fence: u64) -> bool {
        self.job.state == JobState::Running && self.fence == fence
    }

    /// Taken by `worker`.
    pub(in crate::store) fn taken(mut self, worker: WorkerId, now_ms: i64) -> Next {
        self.fence += 1;
        self.worker = Some(worker);
        self.job.attempts += 1;
        self.job.progress = 0.0;
        self.retry_at_ms = 0;
        self.go(JobState::Running, (Mover::Service, now_ms), (&worker.to_string(), "take"))
    }

    /// Moved as a caller asks; `reason` is the deed's name where it is empty.
    pub(in crate::store) fn asked(mut self, deed: Deed, now_ms: i64, by: By<'_>) -> Next {
        let from = self.job.state;
        match (from, deed) {
            (JobState::Running, Deed::Pause) => self.uncount(),
            (JobState::Failed, _) => {
                self.job.attempts = 0;
                self.job.expires_at_ms = None;
            }
            _ => {}
        }
        let by = if by.1.is_empty() { (by.0, deed.name()) } else { by };
        let mut step = self.go(deed.to(), (Mover::Caller, now_ms), by)?;
        if from == JobState::Running {
            let how = if deed == Deed::Pause { AttemptEnd::Paused } else { AttemptEnd::Cancelled };
            step.ended = Some(Ended { how, at_ms: now_ms, error: None });
        }
        Ok(step)
    }

    /// Ended as its worker says.
    pub(in crate::store) fn ended(mut self, ending: Ending, now_ms: i64) -> Next {
        let worker = self.worker.map(|worker| worker.to_string()).unwrap_or_default();
        let before = self.job.error.take();
        let (how, to, error, result) = match ending {
            Ending::Completed(result) => {
                self.job.progress = 1.0;
                (AttemptEnd::Completed, JobState::Completed, None, Some(result))
            }
            Ending::Failed(error) => (AttemptEnd::Failed, JobState::Failed, Some(error), None),
            Ending::Again(error, rest) => {
                self.retry_at_ms = now_ms.saturating_add(millis(rest));
                (AttemptEnd::Retried, JobState::Queued, Some(error), None)
            }
            Ending::HandedBack => {
                self.uncount();
                self.job.error = before;
                (AttemptEnd::HandedBack, JobState::Queued, None, None)
            }
            Ending::PutOff(error, rest) => {
                self.uncount();
                self.retry_at_ms = now_ms.saturating_add(millis(rest));
                (AttemptEnd::HandedBack, JobState::Queued, Some(error), None)
            }
        };
        self.job.error = error.clone().or(self.job.error);
        let mut step = self.go(to, (Mover::Service, now_ms), (&worker, how.name()))?;
        step.ended = Some(Ended { how, at_ms: now_ms, error });
        step.result = result;
        Ok(step)
    }

    /// Its worker fell silent.
    pub(in crate::store) fn lost(mut self, now_ms: i64) -> Next {
        let (attempt, most) = (self.job.attempts, Tries::of(self.job.priority).most);
        let to = if attempt >= most { JobState::Failed } else { JobState::Queued };
        let (how, error) = (AttemptEnd::Lost, Some(JobError::lost(attempt, most)));
        self.job.error.clone_from(&error);
        let mut step = self.go(to, (Mover::Service, now_ms), ("system", how.name()))?;
        step.ended = Some(Ended { how, at_ms: now_ms, error });
        Ok(step)
    }

    /// Nobody began it in time.
    pub(in crate::store) fn expired(mut self, now_ms: i64) -> Next {
        self.job.error = Some(JobError::expired());
        self.job.has_payload = false;
        self.go(JobState::Failed, (Mover::Service, now_ms), ("system", "expired"))
    }

    /// Nobody may have it carried out any more.
    pub(in crate::store) fn given_up(mut self, why: &JobError, now_ms: i64) -> Next {
        let was_running = self.job.state == JobState::Running;
        self.job.error = Some(why.clone());
        self.job.has_payload = false;
        let mut step =
            self.go(JobState::Failed, (Mover::Service, now_ms), ("system", "given_up"))?;
        let (how, error) = (AttemptEnd::Failed, Some(why.clone()));
        step.ended = was_running.then_some(Ended { how, at_ms: now_ms, error });
        Ok(step)
    }

    /// The running attempt does not count.
    fn uncount(&mut self) {
        self.job.attempts = self.job.attempts.saturating_sub(1);
    }

    /// The step to `to`, where the table holds it.
    fn go(mut self, to: JobState, (mover, now_ms): (Mover, i64), by: By<'_>) -> Next {
        let from = self.job.state;
        from.moved(to, mover)?;
        self.job.state = to;
        if to != JobState::Running {
            self.worker = None;
        }
        if matches!(to, JobState::Queued | JobState::Paused) {
            // It starts over.
            self.job.progress = 0.0;
        }
        if matches!(to, JobState::Completed | JobState::Cancelled) {
            self.job.has_payload = false;
        }
        Ok(self.log(Some(from), now_ms, by))
    }

    fn log(mut self, from: Option<JobState>, now_ms: i64, (actor, reason): By<'_>) -> Step {
        let job = &mut self.job;
        job.version += 1;
        job.updated_at_ms = now_ms;
        let transition = Transition {
            number: job.version,
            from,
            to: job.state,
            at_ms: now_ms,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
        };
        let event = transition.event(Now {
            of: &job.of,
            job_type: job.job_type,
            priority: job.priority,
            attempts: job.attempts,
            error_code: job.error.as_ref().map(|error| error.code.as_str()),
        });
        let tells = job.state.is_terminal() && job.callback.is_some();
        Step { after: self, transition, event, tells, ended: None, result: None }
    }
}
