//! Jobs and events in memory, for the simulation of many instances over one store: by the promises of
//! [`super::Jobs`], [`super::Work`], [`super::Workers`], [`super::JobUpkeep`] and [`super::Events`],
//! with the same pure steps as SQLite and PostgreSQL. One call is one transaction; time is told.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Included, Unbounded};

use super::jobs::{Held, Next, Step};
use super::{Ending, Job, Move, Moved, NewJob, Pick, Taken, Waiting};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::job::{JobId, JobKey, JobState, Lease, Transition, WorkerId};
use crate::domain::request::Priority;

/// An event as far as delivery needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub id: Digest,
    pub job: JobId,
    /// Of the job, after the move.
    pub version: u64,
}

/// One move, as it was written.
#[derive(Debug)]
pub(crate) struct Written {
    pub of: JobKey,
    pub transition: Transition,
    pub fence: u64,
    pub attempts: u32,
    pub has_payload: bool,
    /// When it may be begun, where it waits.
    pub due_ms: i64,
    /// Whether the one completion row came with it.
    pub completes: bool,
}

/// When a job may be begun, and what it costs.
#[derive(Debug, Clone, Copy)]
struct Due {
    from_ms: i64,
    until_ms: i64,
    cost: u32,
}

impl Due {
    fn holds(&self, now_ms: i64) -> bool {
        self.from_ms <= now_ms && now_ms < self.until_ms
    }
}

/// The store.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The store's clock.
    pub now_ms: i64,
    rows: Vec<Held>,
    places: HashMap<JobId, usize>,
    keys: HashMap<[u8; 32], usize>,
    completions: HashMap<JobId, u64>,
    /// All that are queued, as the index of a store has them.
    queued: [BTreeMap<TenantId, BTreeMap<usize, Due>>; Priority::ALL.len()],
    expiring: BTreeSet<(i64, usize)>,
    running: HashMap<TenantId, u32>,
    held: BTreeMap<WorkerId, BTreeSet<usize>>,
    beats: BTreeMap<WorkerId, u64>,
    /// In the order of their commits: those that have no number yet, and those not published.
    fresh: VecDeque<Kept>,
    unpublished: BTreeMap<u64, Kept>,
    last: u64,
    /// What was written since somebody looked.
    pub written: Vec<Written>,
}

impl Memory {
    /// Adds a job, of one key only once; the second is whether it is new.
    pub(crate) fn add(&mut self, new: &NewJob) -> (JobKey, bool) {
        if let Some(key) = new.key {
            if let Some(&at) = self.keys.get(&key) {
                return (self.rows[at].job.of.clone(), false);
            }
            self.keys.insert(key, self.rows.len());
        }
        let (at, step) = (self.rows.len(), new.queued(self.now_ms));
        self.places.insert(new.of.id, at);
        if let Some(expires) = step.after.job.expires_at_ms {
            self.expiring.insert((expires, at));
        }
        self.rows.push(step.after.clone());
        self.enter_state(at);
        self.tell(step);
        (new.of.clone(), true)
    }

    /// Every job as it stands, in the order in which they were added.
    pub(crate) fn jobs(&self) -> impl ExactSizeIterator<Item = &Job> {
        self.rows.iter().map(|held| &held.job)
    }

    /// As number what it was added.
    pub(crate) fn place(&self, of: &JobKey) -> Option<usize> {
        self.places.get(&of.id).copied()
    }

    /// The job that was added as number `at`, from 0.
    pub(crate) fn job(&self, at: usize) -> Option<&Job> {
        self.rows.get(at).map(|held| &held.job)
    }

    /// As [`super::Work::waiting`].
    pub(crate) fn waiting(
        &self,
        each: u32,
        tenants_max: u32,
        after: Option<&TenantId>,
    ) -> Vec<Waiting> {
        let mut found = Vec::new();
        let after = after.map_or("", TenantId::as_str);
        for priority in Priority::ALL {
            let queued = &self.queued[priority as usize];
            let behind = queued.range::<str, _>((Excluded(after), Unbounded));
            let round = queued.range::<str, _>((Unbounded, Included(after)));
            for (tenant, places) in behind.chain(round).take(tenants_max as usize) {
                let due = places.values().filter(|due| due.holds(self.now_ms));
                let costs = due.take(each as usize).map(|due| due.cost).collect();
                let running = self.running.get(tenant).copied().unwrap_or(0);
                found.push(Waiting { tenant: tenant.clone(), priority, costs, running });
            }
        }
        found
    }

    /// As [`super::Work::take`].
    pub(crate) fn take(&mut self, worker: WorkerId, picks: &[Pick]) -> Vec<Taken> {
        if !self.beats.contains_key(&worker) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for Pick { tenant, priority, most, at_once } in picks {
            let running = self.running.get(tenant).copied().unwrap_or(0);
            let most = at_once.map_or(*most, |limit| limit.saturating_sub(running).min(*most));
            let queued = self.queued[*priority as usize].get(tenant);
            let due = queued.into_iter().flatten().filter(|(_, due)| due.holds(self.now_ms));
            let places: Vec<usize> = due.take(most as usize).map(|(at, _)| *at).collect();
            for at in places {
                let now = self.now_ms;
                if !self.change(at, |held| held.taken(worker, now)) {
                    continue;
                }
                let Held { job, fence, .. } = self.rows[at].clone();
                let lease = Lease { of: job.of.clone(), fence };
                taken.push(Taken { lease, job, payload: Vec::new() });
            }
        }
        taken
    }

    /// As [`super::Work::end_attempt`].
    pub(crate) fn end_attempt(&mut self, lease: &Lease, ending: Ending) -> bool {
        let (at, now) = (self.places[&lease.of.id], self.now_ms);
        if !self.rows[at].holds(lease.fence) {
            let again = matches!(ending, Ending::Completed(_));
            return again && self.completions.get(&lease.of.id) == Some(&lease.fence);
        }
        self.change(at, |held| held.ended(ending, now))
    }

    /// As [`super::Jobs::move_job`].
    pub(crate) fn move_job(&mut self, wish: &Move) -> Moved {
        let Some(&at) = self.places.get(&wish.of.id) else { return Moved::Missing };
        match wish.step(self.rows[at].clone(), self.now_ms) {
            Ok(step) => {
                self.write(at, step);
                Moved::Done(self.rows[at].job.clone())
            }
            Err(refused) => refused,
        }
    }

    pub(crate) fn enter(&mut self, worker: WorkerId) {
        self.beats.entry(worker).or_insert(0);
    }

    /// As [`super::Workers::beat`].
    pub(crate) fn beat(&mut self, worker: WorkerId) -> Option<Vec<Lease>> {
        *self.beats.get_mut(&worker)? += 1;
        let lease = |at: &usize| {
            let Held { job, fence, .. } = &self.rows[*at];
            Lease { of: job.of.clone(), fence: *fence }
        };
        Some(self.held.get(&worker).into_iter().flatten().map(lease).collect())
    }

    pub(crate) fn leave(&mut self, worker: WorkerId) {
        self.beats.remove(&worker);
    }

    pub(crate) fn workers(&self) -> Vec<(WorkerId, u64)> {
        self.beats.iter().map(|(worker, beat)| (*worker, *beat)).collect()
    }

    /// As [`super::Workers::bury`].
    pub(crate) fn bury(&mut self, worker: WorkerId, beat: u64) -> bool {
        let silent = self.beats.get(&worker) == Some(&beat);
        silent && self.beats.remove(&worker).is_some()
    }

    /// As [`super::JobUpkeep::recover_jobs`].
    pub(crate) fn recover_jobs(&mut self, most: u32) -> u64 {
        let gone = self.held.iter().filter(|(worker, _)| !self.beats.contains_key(worker));
        let lost: Vec<usize> =
            gone.flat_map(|(_, places)| places).take(most as usize).copied().collect();
        let now = self.now_ms;
        lost.into_iter().filter(|&at| self.change(at, |held| held.lost(now))).count() as u64
    }

    /// As [`super::JobUpkeep::expire_jobs`].
    pub(crate) fn expire_jobs(&mut self, most: u32) -> u64 {
        let (now, mut moved) = (self.now_ms, 0);
        let due: Vec<_> = self.expiring.range(..=(now, usize::MAX)).copied().collect();
        for (_, at) in due {
            let state = self.rows[at].job.state;
            let waits = matches!(state, JobState::Queued | JobState::Paused);
            if moved < u64::from(most) && waits {
                moved += u64::from(self.change(at, |held| held.expired(now)));
            }
        }
        moved
    }

    /// As [`super::Events::number_events`].
    pub(crate) fn number_events(&mut self, most: usize) -> usize {
        let count = self.fresh.len().min(most);
        for kept in self.fresh.drain(..count) {
            self.last += 1;
            self.unpublished.insert(self.last, kept);
        }
        count
    }

    /// As [`super::Events::unpublished`].
    pub(crate) fn unpublished(&self, limit: usize) -> Vec<(u64, Kept)> {
        self.unpublished.iter().take(limit).map(|(place, kept)| (*place, *kept)).collect()
    }

    /// As [`super::Events::mark_published`].
    pub(crate) fn mark_published(&mut self, places: &[u64]) {
        places.iter().for_each(|place| {
            self.unpublished.remove(place);
        });
    }

    /// Events that nobody has marked yet.
    pub(crate) fn backlog(&self) -> usize {
        self.fresh.len() + self.unpublished.len()
    }

    fn change(&mut self, at: usize, step: impl FnOnce(Held) -> Next) -> bool {
        match step(self.rows[at].clone()) {
            Ok(step) => {
                self.write(at, step);
                true
            }
            Err(_) => false,
        }
    }

    fn write(&mut self, at: usize, step: Step) {
        self.leave_state(at);
        self.rows[at] = step.after.clone();
        self.enter_state(at);
        self.tell(step);
    }

    /// What the indexes of a store do when a row comes to stand where it stands now.
    fn enter_state(&mut self, at: usize) {
        let Held { job, worker, retry_at_ms, .. } = &self.rows[at];
        match job.state {
            JobState::Queued => {
                let line = self.queued[job.priority as usize].entry(job.of.tenant.clone());
                let due = Due {
                    from_ms: job.not_before_ms.unwrap_or(0).max(*retry_at_ms),
                    until_ms: job.expires_at_ms.unwrap_or(i64::MAX),
                    cost: job.cost,
                };
                line.or_default().insert(at, due);
            }
            JobState::Running => {
                *self.running.entry(job.of.tenant.clone()).or_default() += 1;
                self.held.entry(worker.unwrap()).or_default().insert(at);
            }
            JobState::Paused => {}
            JobState::Completed | JobState::Failed | JobState::Cancelled => {
                if let Some(expires) = job.expires_at_ms {
                    self.expiring.remove(&(expires, at));
                }
            }
        }
    }

    fn leave_state(&mut self, at: usize) {
        let Held { job, worker, .. } = &self.rows[at];
        match job.state {
            JobState::Queued => {
                let queued = &mut self.queued[job.priority as usize];
                if let Some(places) = queued.get_mut(&job.of.tenant) {
                    places.remove(&at);
                    if places.is_empty() {
                        queued.remove(&job.of.tenant);
                    }
                }
            }
            JobState::Running => {
                if let Some(running) = self.running.get_mut(&job.of.tenant) {
                    *running -= 1;
                }
                let worker = worker.unwrap();
                if let Some(places) = self.held.get_mut(&worker) {
                    places.remove(&at);
                    if places.is_empty() {
                        self.held.remove(&worker);
                    }
                }
            }
            JobState::Paused | JobState::Completed | JobState::Failed | JobState::Cancelled => {}
        }
    }

    fn tell(&mut self, step: Step) {
        let Step { after: Held { job, fence, retry_at_ms, .. }, transition, event, result, .. } =
            step;
        let completes = result.is_some();
        if completes {
            let before = self.completions.insert(job.of.id, fence);
            assert_eq!(before, None, "a second completion row of one job");
        }
        self.fresh.push_back(Kept { id: event.id, job: job.of.id, version: transition.number });
        self.written.push(Written {
            fence,
            attempts: job.attempts,
            has_payload: job.has_payload,
            due_ms: transition.at_ms.max(job.not_before_ms.unwrap_or(0)).max(retry_at_ms),
            completes,
            of: job.of,
            transition,
        });
    }
}
