//! Instances, what happens to them, and the loop that goes from one happening to the next. Time goes
//! from happening to happening; nobody waits for it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use super::checks::{Bound, Checks};
use super::load::{BEGIN_MS, Load, Random, Size};
use super::outbox::Handing;
use crate::domain::job::{Deed, JobId, JobState, Lease, Watch, WorkerId};
use crate::jobs::turns::Turns;
use crate::jobs::upkeep::{AT_ONCE, BEATS, TIDY, looks};
use crate::settings;
use crate::settings::BEAT_MAX;
use crate::store::memory::Memory;
use crate::store::{Ending, Job, NewJob};

mod callers;
mod workers;

/// What happens, to which instance, in which of its lives.
#[derive(Debug)]
pub(super) enum What {
    /// The next job is asked for.
    Arrive(Box<NewJob>),
    /// A caller moves some job.
    Deed,
    /// A caller moves that job.
    Ask(usize, Deed),
    /// The instance falls or freezes.
    Fall,
    /// It is started again.
    Rise,
    Beat,
    Tidy,
    /// It looks for work because it is time, or because somebody rang.
    Poll,
    Rung,
    /// It is done with a job, or offers the end of it again.
    Done(JobId, u64),
    /// A message arrives that was long on its way; whoever sent it may be gone.
    Late(Lease, Ending),
    Publish(Handing),
    /// Shares are compared.
    Stretch,
}

/// One that somebody carries out.
pub(super) struct Task {
    job: Job,
    lease: Lease,
    ending: Option<Ending>,
    pause_ms: u64,
}

pub(super) struct Instance {
    pub worker: WorkerId,
    pub life: u64,
    is_up: bool,
    frozen_ms: i64,
    pub turns: Turns,
    pub free: usize,
    pub look: bool,
    rung: bool,
    pub tasks: BTreeMap<(JobId, u64), Task>,
    watch: Watch,
    unattended: BTreeSet<Lease>,
    pub swept_ms: i64,
}

/// How a call to the store went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Heard,
    LostOnTheWay,
    AnswerLost,
}

pub(super) struct World {
    pub size: Size,
    pub store: Memory,
    pub load: Load,
    pub checks: Checks,
    pub random: Random,
    pub instances: Vec<Instance>,
    /// By time, then by when it was foreseen.
    ahead: BTreeMap<(i64, u64), (usize, u64, What)>,
    foreseen: u64,
    pub now: i64,
    anchor: Instant,
    /// Jobs at no end yet.
    open: usize,
    arrived: bool,
    pub steps: u64,
    pub queued_max: usize,
}

impl World {
    pub(super) fn new(size: Size) -> World {
        let load = Load::new(size);
        let checks = Checks::new(load.tenants.len());
        let mut world = World {
            size,
            store: Memory::default(),
            load,
            checks,
            random: Random(size.seed),
            instances: Vec::new(),
            ahead: BTreeMap::new(),
            foreseen: 0,
            now: BEGIN_MS,
            anchor: Instant::now(),
            open: 0,
            arrived: false,
            steps: 0,
            queued_max: 0,
        };
        world.store.now_ms = BEGIN_MS;
        for at in 0..size.instances {
            let instance = world.instance(0);
            world.instances.push(instance);
            world.begin(at);
        }
        world.arrive();
        world.at(1_000, 0, What::Deed);
        world.at(15_000, 0, What::Stretch);
        world
    }

    fn instance(&mut self, life: u64) -> Instance {
        Instance {
            worker: WorkerId::of(uuid::Uuid::from_u64_pair(self.random.next(), life)),
            life,
            is_up: true,
            frozen_ms: 0,
            turns: Turns::new(self.size.window, self.random.next()),
            free: self.size.workers,
            look: true,
            rung: false,
            tasks: BTreeMap::new(),
            watch: Watch::default(),
            unattended: BTreeSet::new(),
            swept_ms: 0,
        }
    }

    /// Foresees something in so many milliseconds.
    pub(super) fn at(&mut self, after_ms: u64, at: usize, what: What) {
        self.foreseen += 1;
        let life = self.instances.get(at).map_or(0, |instance| instance.life);
        let when = self.now + i64::try_from(after_ms).unwrap();
        self.ahead.insert((when, self.foreseen), (at, life, what));
    }

    /// Until every job is at its end and every event was heard; the virtual time that it took.
    pub(super) fn run(&mut self) -> Duration {
        while self.open > 0 || !self.arrived || self.store.backlog() > 0 {
            let ((now, _), (at, life, what)) = self.ahead.pop_first().unwrap();
            assert!(now < BEGIN_MS + 24 * 3_600_000, "{} jobs come to no end", self.open);
            (self.now, self.store.now_ms) = (now, now);
            self.steps += 1;
            let instance = &self.instances[at];
            let of_all = matches!(
                what,
                What::Arrive(_) | What::Deed | What::Ask(..) | What::Late(..) | What::Stretch
            ) || matches!(what, What::Rise | What::Fall);
            if !of_all && (instance.life != life || !instance.is_up) {
                continue;
            }
            if !of_all && instance.frozen_ms > now {
                let rest = (instance.frozen_ms - now).unsigned_abs();
                self.at(rest, at, what);
                continue;
            }
            self.happen(at, what);
            self.look_at_moves();
        }
        Duration::from_millis((self.now - BEGIN_MS).unsigned_abs())
    }

    fn happen(&mut self, at: usize, what: What) {
        match what {
            What::Arrive(job) => self.add(*job),
            What::Deed => self.some_deed(),
            What::Ask(job, deed) => self.deed(job, deed),
            What::Fall => self.fall(at),
            What::Rise => self.rise(at),
            What::Beat => self.beat(at),
            What::Tidy => self.tidy(at),
            What::Poll => {
                self.instances[at].look = true;
                self.work(at);
                self.at(settings::Jobs::default().poll.0.as_millis() as u64, at, What::Poll);
            }
            What::Rung => {
                self.instances[at].rung = false;
                self.work(at);
            }
            What::Done(id, fence) => self.done(at, (id, fence)),
            What::Late(lease, ending) => self.hear_end(&lease, ending),
            What::Publish(handing) => self.publish(at, handing),
            What::Stretch => {
                self.checks.stretch(self.now, &self.load);
                self.at(self.stretch_ms(), 0, What::Stretch);
            }
        }
    }

    /// As long as a tenant of weight 1 takes for some twenty jobs where all have some.
    fn stretch_ms(&self) -> u64 {
        (22_000.0 * self.load.weights() / self.size.capacity() as f64) as u64
    }

    /// Holds what was written against what must hold.
    ///
    /// The bound: once an instance has looked at a line, the line has a place that finishes within
    /// `cost / weight` of its clock, and until that clock is there another tenant of weight 1 has
    /// `cost / weight` turns with jobs of cost 1, and one more that was ahead. So in each life of each
    /// instance. All have looked after one way round all tenants, each look at most 1.5 s after the one
    /// before, and nobody is frozen for more than 30 s.
    fn look_at_moves(&mut self) {
        let lives = self.size.instances as u64 + self.checks.restarts;
        let round = self.size.tenants as u64 / u64::from(self.size.window) + 1;
        let patience_ms = (30_000 + 1_500 * round).cast_signed();
        for written in std::mem::take(&mut self.store.written) {
            let (from, to) = (written.transition.from, written.transition.to);
            self.open += usize::from(from.is_none_or(JobState::is_terminal));
            self.open -= usize::from(to.is_terminal());
            self.checks.moved(&written, &self.load, |part| Bound {
                from_ms: patience_ms,
                most: (lives as f64 * (1.0 + part)) as u64,
            });
        }
    }

    pub(super) fn call(&mut self) -> Call {
        match self.random.below(100) {
            0 => Call::LostOnTheWay,
            1 => Call::AnswerLost,
            _ => Call::Heard,
        }
    }

    /// Nobody wants it here any more.
    fn gone(&mut self, at: usize, task: (JobId, u64)) {
        if let Some(task) = self.instances[at].tasks.get_mut(&task)
            && task.ending.is_none()
        {
            task.ending = Some(Ending::HandedBack);
            let (id, fence) = (task.lease.of.id, task.lease.fence);
            self.at(0, at, What::Done(id, fence));
        }
    }

    fn begin(&mut self, at: usize) {
        let worker = self.instances[at].worker;
        self.store.enter(worker);
        let (every, tidy) = (beat_every().as_millis() as u64, TIDY.as_millis() as u64);
        for (within, what) in [
            (every, What::Beat),
            (tidy, What::Tidy),
            (100, What::Poll),
            (1_000, What::Publish(Handing::Look)),
        ] {
            let after = self.random.below(within);
            self.at(after, at, what);
        }
        let after = self.random.around(150_000);
        self.at(after, at, What::Fall);
    }

    /// Killed, frozen, or told to stop.
    fn fall(&mut self, at: usize) {
        let how = self.random.below(10);
        let instance = &mut self.instances[at];
        if how < 4 {
            // Frozen for up to thirty seconds: others may bury it, and it does not know.
            let rest = self.random.below(30_000);
            instance.frozen_ms = self.now + rest.cast_signed();
            self.checks.count("instance: frozen");
            let after = rest + self.random.around(150_000);
            return self.at(after, at, What::Fall);
        }
        self.checks.count(if how < 8 { "instance: killed" } else { "instance: stopped" });
        let (worker, tasks) = (instance.worker, std::mem::take(&mut instance.tasks));
        instance.is_up = false;
        if how >= 8 {
            for task in tasks.into_values() {
                self.hear_end(&task.lease, Ending::HandedBack);
            }
            self.store.leave(worker);
            self.ring();
        }
        let after = 1_000 + self.random.below(20_000);
        self.at(after, at, What::Rise);
    }

    fn rise(&mut self, at: usize) {
        self.checks.restarts += 1;
        let life = self.instances[at].life + 1;
        self.instances[at] = self.instance(life);
        self.begin(at);
    }

    fn beat(&mut self, at: usize) {
        self.at(beat_every().as_millis() as u64, at, What::Beat);
        let worker = self.instances[at].worker;
        match (self.call(), self.random.chance(0.03)) {
            (Call::Heard, false) => match self.store.beat(worker) {
                Some(leases) => self.keep_only(at, &leases),
                None => {
                    self.checks.count("instance: buried alive");
                    let tasks: Vec<_> = self.instances[at].tasks.keys().copied().collect();
                    tasks.into_iter().for_each(|task| self.gone(at, task));
                    let fresh = WorkerId::of(uuid::Uuid::from_u64_pair(self.random.next(), 1));
                    self.instances[at].worker = fresh;
                    self.store.enter(fresh);
                }
            },
            (Call::AnswerLost, _) => {
                self.store.beat(worker);
                self.instances[at].watch.blinded();
            }
            _ => {
                self.checks.count("beat: lost");
                self.instances[at].watch.blinded();
            }
        }
        let own = self.instances[at].worker;
        let others: Vec<_> =
            self.store.workers().into_iter().filter(|(worker, _)| *worker != own).collect();
        let patience = looks(settings::Jobs::default().lease.0, beat_every());
        for (worker, beat) in self.instances[at].watch.silent(&others, patience) {
            if self.store.bury(worker, beat) {
                self.checks.count("instance: buried");
                while self.store.recover_jobs(AT_ONCE) > 0 {}
                self.ring();
            }
        }
    }

    fn keep_only(&mut self, at: usize, leases: &[Lease]) {
        let held: HashSet<(JobId, u64)> =
            leases.iter().map(|lease| (lease.of.id, lease.fence)).collect();
        let tasks = &self.instances[at].tasks;
        let gone: Vec<_> = tasks.keys().filter(|task| !held.contains(task)).copied().collect();
        let unattended: BTreeSet<Lease> = leases
            .iter()
            .filter(|lease| !tasks.contains_key(&(lease.of.id, lease.fence)))
            .cloned()
            .collect();
        gone.into_iter().for_each(|task| self.gone(at, task));
        let before = std::mem::replace(&mut self.instances[at].unattended, unattended.clone());
        for lease in before.iter().filter(|lease| unattended.contains(lease)) {
            self.checks.count("lease: nobody knew");
            self.store.end_attempt(lease, Ending::HandedBack);
            self.ring();
        }
    }

    fn tidy(&mut self, at: usize) {
        self.at(TIDY.as_millis() as u64, at, What::Tidy);
        if self.store.recover_jobs(AT_ONCE) > 0 {
            self.ring();
        }
        while self.store.expire_jobs(AT_ONCE) > 0 {}
    }
}

fn beat_every() -> Duration {
    (settings::Jobs::default().lease.0 / BEATS).min(BEAT_MAX)
}
