//! What must hold, whatever happens. Nothing here asks the store: every move is read as it is written,
//! and held against the tables of docs/state-machine.md and docs/jobs.md.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::load::{Load, is_greedy, number};
use crate::admission::fairness::jain;
use crate::domain::digest::Digest;
use crate::domain::job::{JobId, JobKey, JobState, Lease, Tries};
use crate::domain::request::Priority;
use crate::store::memory::{Kept, Written};

/// One job, by what was written of it.
#[derive(Debug)]
struct Seen {
    tenant: usize,
    priority: Priority,
    cost: u32,
    state: JobState,
    version: u64,
    fence: u64,
    /// The version that whoever listens heard last.
    heard: u64,
    due_ms: i64,
    /// Whether its caller was told that it is taken in.
    acknowledged: bool,
    completions: u32,
    /// Fences whose completion was answered with yes.
    effects: Vec<u64>,
    has_payload: bool,
}

/// The jobs of one tenant and priority.
#[derive(Debug, Default, Clone, Copy)]
struct Line {
    /// Queued and due, or due later.
    queued: u32,
    begun_ms: i64,
    /// When it last had nothing that waited.
    empty_ms: i64,
    served: f64,
}

/// All that is known, and all that was counted.
#[derive(Default)]
pub(super) struct Checks {
    jobs: HashMap<JobId, Seen>,
    lines: Vec<[Line; Priority::ALL.len()]>,
    running: Vec<u32>,
    /// When a tenant last had as many as it may have.
    full_ms: Vec<i64>,
    /// When the greedy began a job of ordinary priority.
    greedy: BTreeMap<usize, Vec<i64>>,
    ids: HashSet<Digest>,
    /// What happened how often.
    pub counts: BTreeMap<String, u64>,
    /// The longest wait by priority, from when a job may be begun, in milliseconds, and all waits.
    pub waits: [(i64, i64, u64); Priority::ALL.len()],
    /// The most jobs that one greedy tenant began while another waited that could have begun.
    pub overtaken: u64,
    /// Lives that began after the first ones.
    pub restarts: u64,
    marks: Vec<(i64, f64)>,
    pub jains: Vec<(f64, usize)>,
}

/// What docs/state-machine.md allows.
fn is_legal(from: Option<JobState>, to: JobState) -> bool {
    use JobState::{Cancelled, Completed, Failed, Paused, Queued, Running};
    match from {
        None => to == Queued,
        Some(Queued) => matches!(to, Running | Paused | Cancelled | Failed),
        Some(Running) => matches!(to, Completed | Failed | Paused | Cancelled | Queued),
        Some(Paused) => matches!(to, Queued | Failed | Cancelled),
        Some(Failed) => to == Queued,
        Some(Completed | Cancelled) => false,
    }
}

impl Checks {
    pub(super) fn new(tenants: usize) -> Checks {
        Checks {
            lines: vec![Default::default(); tenants],
            running: vec![0; tenants],
            full_ms: vec![i64::MIN / 2; tenants],
            ..Checks::default()
        }
    }

    pub(super) fn count(&mut self, what: &str) {
        match self.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(what.to_owned(), 1)),
        }
    }

    /// A job that may be written from now on.
    pub(super) fn expect(&mut self, of: &JobKey, priority: Priority, cost: u32) {
        let seen = Seen {
            tenant: number(&of.tenant),
            priority,
            cost,
            state: JobState::Queued,
            version: 0,
            fence: 0,
            heard: 0,
            due_ms: 0,
            acknowledged: false,
            completions: 0,
            effects: Vec::new(),
            has_payload: true,
        };
        self.jobs.insert(of.id, seen);
    }

    /// Its caller was told that it is taken in.
    pub(super) fn acknowledged(&mut self, of: &JobKey) {
        let seen = self.jobs.get_mut(&of.id).unwrap();
        assert!(seen.version > 0, "{of:?} was acknowledged and is not there");
        seen.acknowledged = true;
    }

    /// A worker was told that its completion counts.
    pub(super) fn effect(&mut self, lease: &Lease) {
        let seen = self.jobs.get_mut(&lease.of.id).unwrap();
        if !seen.effects.contains(&lease.fence) {
            seen.effects.push(lease.fence);
        }
        assert_eq!(seen.effects.len(), 1, "two effects of {lease:?}: {seen:?}");
    }

    /// A worker has it now.
    pub(super) fn taken(&mut self, lease: &Lease) {
        let seen = &self.jobs[&lease.of.id];
        assert_eq!((seen.state, seen.fence), (JobState::Running, lease.fence), "{lease:?}");
    }

    /// One move.
    pub(super) fn moved(&mut self, written: &Written, load: &Load, bound: impl Fn(f64) -> Bound) {
        let Written { of, transition, .. } = written;
        let (now, to) = (transition.at_ms, transition.to);
        let seen = self.jobs.get_mut(&of.id).unwrap();
        let from = (seen.version > 0).then_some(seen.state);
        assert_eq!((transition.number, transition.from), (seen.version + 1, from), "{seen:?}");
        assert!(is_legal(from, to), "{seen:?}: {transition:?}");
        let next = seen.fence + u64::from(to == JobState::Running);
        assert_eq!(written.fence, next, "{seen:?}: {transition:?}");
        assert!(written.attempts <= Tries::of(seen.priority).most, "{seen:?}: {written:?}");
        seen.completions += u32::from(written.completes);
        let complete = to == JobState::Completed;
        assert_eq!(
            (complete, seen.completions),
            (written.completes, u32::from(complete)),
            "{seen:?}"
        );
        let erased = matches!(to, JobState::Completed | JobState::Cancelled);
        assert!(!(erased && written.has_payload), "the content of {seen:?} stays");
        let (due, cost) = (seen.due_ms, seen.cost);
        (seen.state, seen.version, seen.fence) = (to, transition.number, written.fence);
        (seen.has_payload, seen.due_ms) = (written.has_payload, written.due_ms);
        let (tenant, priority) = (seen.tenant, seen.priority);
        let line = &mut self.lines[tenant][priority as usize];
        if from == Some(JobState::Queued) {
            line.queued -= 1;
        }
        if to == JobState::Running {
            self.begun((tenant, priority), (now, due, cost), load, bound);
        }
        let line = &mut self.lines[tenant][priority as usize];
        if from == Some(JobState::Queued) && line.queued == 0 {
            line.empty_ms = now;
        }
        line.queued += u32::from(to == JobState::Queued);
        if from == Some(JobState::Running) {
            self.running[tenant] -= 1;
            if self.full_ms[tenant] == i64::MAX {
                self.full_ms[tenant] = now;
            }
        }
        let name = from.map_or("new", JobState::name);
        self.count(&format!("{name} to {}: {}", to.name(), transition.reason));
    }

    fn begun(
        &mut self,
        (tenant, priority): (usize, Priority),
        (now, due, cost): (i64, i64, u32),
        load: &Load,
        bound: impl Fn(f64) -> Bound,
    ) {
        let share = load.tenants[tenant].share;
        self.running[tenant] += 1;
        let most = share.at_once.unwrap_or(u32::MAX);
        let id = &load.tenants[tenant].id;
        assert!(self.running[tenant] <= most, "{id} has {} of {most} jobs", self.running[tenant]);
        let line = &mut self.lines[tenant][priority as usize];
        // Since when it could have been this line's turn.
        let hungry = line.begun_ms.max(self.full_ms[tenant]).max(due);
        if self.running[tenant] == most {
            self.full_ms[tenant] = i64::MAX;
        }
        line.begun_ms = now;
        line.served += f64::from(cost);
        let (longest, sum, many) = &mut self.waits[priority as usize];
        (*longest, *sum, *many) = ((*longest).max(now - due), *sum + now - due, *many + 1);
        if priority > Priority::Normal {
            return;
        }
        let Bound { from_ms, most } = bound(f64::from(cost) / share.weight);
        for (greedy, begun) in self.greedy.iter().filter(|(greedy, _)| **greedy != tenant) {
            let after = begun.partition_point(|at| *at < hungry.saturating_add(from_ms));
            let passed = (begun.len() - after) as u64;
            assert!(
                passed <= most,
                "t{greedy} began {passed} jobs while {id} waited; at most {most}"
            );
            self.overtaken = self.overtaken.max(passed);
        }
        if is_greedy(tenant) && priority == Priority::Normal {
            self.greedy.entry(tenant).or_default().push(now);
        }
    }

    /// Whoever listens is handed an event, perhaps not for the first time.
    pub(super) fn heard(&mut self, kept: &Kept) {
        if !self.ids.insert(kept.id) {
            return self.count("event: handed over again");
        }
        let seen = self.jobs.get_mut(&kept.job).unwrap();
        assert_eq!(kept.version, seen.heard + 1, "out of order or twice: {seen:?}");
        seen.heard = kept.version;
        self.count("event: heard");
    }

    /// Begins or ends a stretch over which shares are compared: of all who had jobs of ordinary
    /// priority to begin all the time, what each was served for its weight.
    pub(super) fn stretch(&mut self, now: i64, load: &Load) {
        let normal = Priority::Normal as usize;
        let begun = std::mem::take(&mut self.marks);
        let shares: Vec<f64> = begun
            .iter()
            .enumerate()
            .filter(|(tenant, (since, _))| {
                let line = &self.lines[*tenant][normal];
                line.queued > 0 && line.empty_ms < *since && self.full_ms[*tenant] < *since
            })
            .map(|(tenant, (_, before))| {
                (self.lines[tenant][normal].served - before) / load.tenants[tenant].share.weight
            })
            .collect();
        if shares.len() > 1 {
            self.jains.push((jain(&shares), shares.len()));
        }
        self.marks = self.lines.iter().map(|line| (now, line[normal].served)).collect();
    }

    /// When everything is done.
    pub(super) fn end(&self) -> [usize; 4] {
        use JobState::{Cancelled, Completed, Failed, Paused, Queued, Running};
        let mut ends = [0; 4];
        for (id, seen) in &self.jobs {
            let at = match seen.state {
                Completed => 0,
                Failed if seen.has_payload => 1,
                Failed => 2,
                Cancelled => 3,
                Queued if seen.version == 0 && !seen.acknowledged => continue,
                Queued | Running | Paused => panic!("{id} came to no end: {seen:?}"),
            };
            ends[at] += 1;
            assert_eq!(seen.completions, u32::from(seen.state == Completed), "{seen:?}");
            assert!(seen.effects.len() <= seen.completions as usize, "{seen:?}");
            assert_eq!(seen.heard, seen.version, "not every event of {id} was heard: {seen:?}");
        }
        assert!(self.running.iter().all(|running| *running == 0));
        ends
    }
}

/// How many jobs of one other tenant may begin while a job waits whose turn it could be.
pub(super) struct Bound {
    /// Counted from so long after it could be.
    pub from_ms: i64,
    pub most: u64,
}
