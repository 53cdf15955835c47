//! What callers do: they ask for jobs until they are told that one is taken in, and move them.

use super::{Call, What, World};
use crate::domain::digest::Digest;
use crate::domain::job::Deed;
use crate::store::{Move, Moved, NewJob};

impl World {
    pub(super) fn arrive(&mut self) {
        match self.load.next(self.now) {
            Some((after, job)) => {
                self.checks.expect(&job.of, job.priority, job.cost);
                self.at(after, 0, What::Arrive(Box::new(job)));
            }
            None => self.arrived = true,
        }
    }

    pub(super) fn add(&mut self, mut job: NewJob) {
        self.arrive();
        let call = self.call();
        if call != Call::Heard {
            // Its caller sends it again under the same key, until it is told.
            job.key = Some(*Digest::of(job.of.id.to_string().as_bytes()).as_bytes());
            if call == Call::AnswerLost {
                self.store.add(&job);
            }
            self.checks.count("job: sent again");
        }
        let (of, _) = self.store.add(&job);
        self.look_at_moves();
        self.checks.acknowledged(&of);
        self.queued_max = self.queued_max.max(self.open);
        self.ring();
    }

    /// There may be work: rings reach whoever has a free worker some milliseconds later.
    pub(super) fn ring(&mut self) {
        for at in 0..self.instances.len() {
            let instance = &mut self.instances[at];
            instance.look = true;
            if instance.free > 0 && instance.is_up && !instance.rung {
                instance.rung = true;
                let after = 1 + self.random.below(20);
                self.at(after, at, What::Rung);
            }
        }
    }

    pub(super) fn some_deed(&mut self) {
        let each = 10_000 / self.size.capacity();
        if !self.arrived {
            self.at(each, 0, What::Deed);
        }
        let jobs = self.store.jobs().len();
        if jobs == 0 {
            return;
        }
        let recent = self.random.below(jobs.min(2 * self.open.max(1)) as u64);
        let some = &self.instances[self.random.index(self.size.instances)].tasks;
        let running = some.values().next().filter(|_| self.random.chance(0.5));
        let at = match running {
            Some(task) => self.store.place(&task.lease.of).unwrap(),
            None => jobs - 1 - usize::try_from(recent).unwrap(),
        };
        let deed = Deed::ALL[self.random.index(4)];
        self.deed(at, deed);
    }

    /// A caller asks some instance for it, which carries the job out or does not.
    pub(super) fn deed(&mut self, at: usize, deed: Deed) {
        let Some(job) = self.store.job(at) else { return };
        let (of, version) = (job.of.clone(), job.version);
        let version = self.random.chance(0.2).then(|| version - self.random.below(2));
        let (actor, reason) = ("caller".to_owned(), String::new());
        let wish = Move { of: of.clone(), deed, version, actor, reason, audit: None };
        let answer = match self.store.move_job(&wish) {
            Moved::Done(_) => "done",
            Moved::Missing => "missing",
            Moved::Changed(_) => "changed",
            Moved::Illegal(_) => "illegal",
            Moved::Erased => "erased",
        };
        self.checks.count(&format!("deed {}: {answer}", deed.name()));
        match (deed, answer) {
            (Deed::Resume, "changed") => self.at(100, 0, What::Ask(at, Deed::Resume)),
            (Deed::Pause, "done") => {
                let after = self.random.around(20_000);
                self.at(after, 0, What::Ask(at, Deed::Resume));
            }
            (Deed::Resume | Deed::Requeue, "done") => self.ring(),
            _ => {}
        }
        let stops = answer == "done" && matches!(deed, Deed::Pause | Deed::Cancel);
        let at = self.random.index(self.size.instances);
        let tasks = &self.instances[at].tasks;
        let underway = tasks.keys().find(|(id, _)| *id == of.id).copied();
        if let Some(task) = underway.filter(|_| stops) {
            self.gone(at, task);
        }
    }
}
