//! What workers do: they take jobs in turn, carry them out, and say how it ended until it is heard.

use std::time::{Duration, Instant};

use super::{Call, Task, What, World};
use crate::domain::error::{Code, Error};
use crate::domain::job::{Deed, JobError, JobId, Lease, Next};
use crate::jobs::tests::simulation::load::BEGIN_MS;
use crate::store::{Ending, Job, Taken};

/// What the store takes to tell of one tenant and priority.
const LOOK: Duration = Duration::from_micros(50);

impl World {
    /// What `jobs::run` does with free workers.
    pub(super) fn work(&mut self, at: usize) {
        let (mut must, now) = (false, self.instant());
        while self.instances[at].free > 0 {
            let instance = &mut self.instances[at];
            let fresh = must || instance.look && !instance.turns.rests(now);
            instance.look &= !fresh;
            let taken = self.more(at, fresh);
            must = taken.is_empty();
            if taken.is_empty() {
                if fresh { return } else { continue }
            }
            for task in taken {
                self.instances[at].free -= 1;
                self.carry_out(at, task);
            }
        }
    }

    /// The clock of all instances.
    pub(super) fn instant(&self) -> Instant {
        self.anchor + Duration::from_millis((self.now - BEGIN_MS).unsigned_abs())
    }

    fn more(&mut self, at: usize, look: bool) -> Vec<Task> {
        let now = self.instant();
        let (instance, load) = (&mut self.instances[at], &self.load);
        let share = |tenant: &_| load.share(tenant);
        if look || instance.turns.runs_out() {
            let (each, after) = (instance.turns.each(), instance.turns.after());
            let waiting = self.store.waiting(each, self.size.window, after.as_ref());
            let took = LOOK * u32::try_from(waiting.len()).unwrap();
            instance.turns.fill(waiting, share);
            instance.turns.looked(took, now);
            self.checks.count("store: asked who waits");
        }
        let picks = instance.turns.next(instance.free, share);
        let worker = instance.worker;
        if picks.is_empty() {
            return Vec::new();
        }
        let call = self.call();
        if call == Call::LostOnTheWay {
            return Vec::new();
        }
        let taken = self.store.take(worker, &picks);
        self.look_at_moves();
        if call == Call::AnswerLost {
            self.checks.count("lease: answer lost");
            return Vec::new();
        }
        let task =
            |taken: Taken| Task { job: taken.job, lease: taken.lease, ending: None, pause_ms: 50 };
        taken.into_iter().map(task).collect()
    }

    fn carry_out(&mut self, at: usize, task: Task) {
        self.checks.taken(&task.lease);
        let stuck = self.random.chance(0.002);
        let took = if stuck { 40_000 } else { 100 + self.random.around(900).min(10_000) };
        let key = (task.lease.of.id, task.lease.fence);
        self.instances[at].tasks.insert(key, task);
        self.at(took, at, What::Done(key.0, key.1));
    }

    /// What came of a try; some jobs never succeed.
    fn outcome(&mut self, job: &Job) -> Ending {
        let error = match job.of.id.to_string().as_bytes()[0] {
            b'0' if self.random.chance(0.3) => {
                Error::new(Code::InvalidRequest, "it cannot be done")
            }
            b'1' => Error::new(Code::Overloaded, "a detector is away"),
            _ if self.random.chance(0.04) => Error::new(Code::Overloaded, "a detector was away"),
            _ => return Ending::Completed(Vec::new()),
        };
        let told = JobError::of(&error);
        match Next::after(&error, job.priority, job.attempts, self.random.unit()) {
            Next::Again(rest) => Ending::Again(told, rest),
            Next::Dead => Ending::Failed(told),
        }
    }

    pub(super) fn done(&mut self, at: usize, key: (JobId, u64)) {
        let Some(mut task) = self.instances[at].tasks.remove(&key) else { return };
        let ending = match task.ending.take() {
            Some(ending) => ending,
            None => self.outcome(&task.job),
        };
        if self.random.chance(0.005) {
            // It arrives some day; its sender hears nothing and offers it again.
            let after = self.random.below(30_000);
            self.at(after, 0, What::Late(task.lease.clone(), ending.clone()));
        }
        let call = self.call();
        if call != Call::LostOnTheWay {
            self.hear_end(&task.lease, ending.clone());
        }
        if call != Call::Heard {
            let pause = task.pause_ms;
            (task.ending, task.pause_ms) = (Some(ending), (pause * 2).min(1_000));
            self.instances[at].tasks.insert(key, task);
            return self.at(pause, at, What::Done(key.0, key.1));
        }
        self.instances[at].free += 1;
        self.instances[at].turns.ended(&task.lease.of.tenant);
        self.work(at);
    }

    pub(super) fn hear_end(&mut self, lease: &Lease, ending: Ending) {
        let (completes, name) = match &ending {
            Ending::Completed(_) => (true, "completed"),
            Ending::Failed(_) => (false, "failed"),
            Ending::Again(..) => (false, "again"),
            Ending::HandedBack | Ending::PutOff(..) => (false, "handed back"),
        };
        let heard = self.store.end_attempt(lease, ending);
        self.checks.count(&format!("end {name}: {heard}"));
        self.look_at_moves();
        if heard && completes {
            self.checks.effect(lease);
        }
        if heard && name == "failed" && self.random.chance(0.2) {
            let (after, job) = (self.random.around(30_000), self.store.place(&lease.of).unwrap());
            self.at(after, 0, What::Ask(job, Deed::Requeue));
        }
        if heard && matches!(name, "again" | "handed back") {
            self.ring();
        }
    }
}
