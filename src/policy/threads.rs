//! A few threads with large stacks that serve tenants in turn, and a queue with a limit.
//!
//! A thread whose job cannot be interrupted is left behind at the lowest priority, and another
//! takes its place: the pool never shrinks. Until that job ends, its tenant and its unit get none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::STACK_BYTES;
use super::background::Thread;
use super::watch::{Late, Watch};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;

type Job = Box<dyn FnOnce() -> Spent + Send>;

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    InTime,
    TimedOut,
}

/// How long a time-out is remembered.
const HOT_FOR: Duration = Duration::from_secs(10);
/// Under contention one turn in so many goes to tenants that ran into time-outs.
const HOT_TURN: u64 = 5;
/// Jobs such a tenant may have waiting under contention.
const HOT_QUEUE: usize = 4;

/// Stuck evaluations of one unit, after which nobody may ask it.
const STUCK_PER_UNIT: usize = 2;

/// The threads. They end when this is dropped.
pub(super) struct Threads {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    queue_max: usize,
    watch: Watch,
}

/// A job on a thread.
struct Running {
    id: u64,
    tenant: TenantId,
    unit: Digest,
    thread: Thread,
    shared: Weak<Shared>,
}

impl Late for Running {
    fn is_late(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.replace(self);
        }
    }
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<TenantId, VecDeque<(Digest, Job)>>,
    /// Tenants with waiting jobs, next first.
    turns: VecDeque<TenantId>,
    queued: usize,
    running: BTreeMap<TenantId, usize>,
    hot: BTreeMap<TenantId, Instant>,
    picks: u64,
    /// Jobs whose threads still count.
    counted: BTreeSet<u64>,
    /// Jobs that were left behind, still running.
    stuck: BTreeMap<u64, (TenantId, Digest)>,
    closed: bool,
}

impl Threads {
    /// `patience` is how long one job may run before its thread is replaced.
    pub(super) fn new(count: usize, queue_max: usize, patience: Duration) -> Self {
        let state = Mutex::new(State::default());
        let watch = Watch::new(patience);
        let shared = Arc::new(Shared { state, work: Condvar::new(), queue_max, watch });
        for _ in 0..count.clamp(1, 64) {
            shared.start();
        }
        Self { shared }
    }

    /// Queues a job; false if the queue or the tenant's share of it is full, or if an earlier
    /// evaluation of the tenant or of the unit is stuck.
    pub(super) fn submit(&self, tenant: &TenantId, unit: Digest, job: Job) -> bool {
        let mut state = self.shared.lock();
        let others = state.turns.iter().any(|waiting| waiting != tenant)
            || state.running.keys().any(|running| running != tenant);
        let own = state.waiting.get(tenant).map_or(0, VecDeque::len);
        let hot = state.is_hot(tenant);
        let full = state.queued >= self.shared.queue_max
            || (others && own > self.shared.queue_max / 2)
            || (hot && others && own >= HOT_QUEUE);
        if full || state.is_stuck(tenant, unit) {
            return false;
        }
        state.queued += 1;
        if own == 0 {
            state.turns.push_back(tenant.clone());
        }
        state.waiting.entry(tenant.clone()).or_default().push_back((unit, job));
        drop(state);
        self.shared.work.notify_one();
        true
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>) {
        let shared = self.clone();
        // A thread that cannot start is felt as `Budget`, never as an allow.
        let _ = std::thread::Builder::new()
            .name("policy".into())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.serve());
    }

    fn serve(self: Arc<Self>) {
        let thread = Thread::current();
        let mut state = self.lock();
        loop {
            if let Some((tenant, unit, job)) = state.next() {
                let id = state.picks;
                state.counted.insert(id);
                *state.running.entry(tenant.clone()).or_default() += 1;
                drop(state);
                let shared = Arc::downgrade(&self);
                let running: Arc<dyn Late> =
                    Arc::new(Running { id, tenant: tenant.clone(), unit, thread, shared });
                self.watch.add(&running);
                let spent = catch_unwind(AssertUnwindSafe(job)).unwrap_or(Spent::InTime);
                drop(running);
                state = self.lock();
                state.done(&tenant, spent);
                if !state.counted.remove(&id) {
                    state.stuck.remove(&id);
                    return;
                }
            } else if state.closed {
                return;
            } else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Leaves the job's thread behind and starts another, unless the job just ended.
    fn replace(self: &Arc<Self>, running: &Running) {
        let mut state = self.lock();
        if !state.counted.remove(&running.id) {
            return;
        }
        state.stuck.insert(running.id, (running.tenant.clone(), running.unit));
        state.hot.insert(running.tenant.clone(), Instant::now());
        let dropped = state.waiting.remove(&running.tenant);
        state.turns.retain(|tenant| *tenant != running.tenant);
        state.queued = state.queued.saturating_sub(dropped.as_ref().map_or(0, VecDeque::len));
        drop(state);
        running.thread.lower();
        tracing::warn!(tenant = %running.tenant, "a policy evaluation cannot be stopped");
        self.start();
    }
}

impl State {
    /// The next tenant's oldest job. A tenant that ran into time-outs waits only while another
    /// one does.
    fn next(&mut self) -> Option<(TenantId, Digest, Job)> {
        self.picks += 1;
        let favoured = !self.picks.is_multiple_of(HOT_TURN);
        let cool = self.turns.iter().position(|tenant| !self.is_hot(tenant));
        let idle = self.turns.iter().position(|tenant| !self.running.contains_key(tenant));
        let at = match (cool, favoured) {
            (Some(at), true) => at,
            _ => idle.or(cool).unwrap_or(0),
        };
        let tenant = self.turns.remove(at)?;
        let jobs = self.waiting.get_mut(&tenant)?;
        let next = jobs.pop_front();
        match jobs.is_empty() {
            true => drop(self.waiting.remove(&tenant)),
            false => self.turns.push_back(tenant.clone()),
        }
        self.queued = self.queued.saturating_sub(1);
        next.map(|(unit, job)| (tenant, unit, job))
    }

    fn done(&mut self, tenant: &TenantId, spent: Spent) {
        match self.running.get_mut(tenant) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.running.remove(tenant)),
        }
        let now = Instant::now();
        self.hot.retain(|_, since| now.duration_since(*since) < HOT_FOR);
        if spent == Spent::TimedOut {
            self.hot.insert(tenant.clone(), now);
        }
    }

    fn is_stuck(&self, tenant: &TenantId, unit: Digest) -> bool {
        let of_unit = self.stuck.values().filter(|(_, stuck)| *stuck == unit).count();
        of_unit >= STUCK_PER_UNIT || self.stuck.values().any(|(stuck, _)| stuck == tenant)
    }

    fn is_hot(&self, tenant: &TenantId) -> bool {
        self.hot.get(tenant).is_some_and(|since| since.elapsed() < HOT_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> Digest {
        Digest::of_all([b"unit".as_slice()])
    }

    fn state(jobs: &[(&str, usize)]) -> State {
        let mut state = State::default();
        for (tenant, count) in jobs {
            let tenant = TenantId::parse(tenant).unwrap();
            let job = || (unit(), Box::new(|| Spent::InTime) as Job);
            let queue = (0..*count).map(|_| job()).collect();
            state.queued += count;
            state.turns.push_back(tenant.clone());
            state.waiting.insert(tenant, queue);
        }
        state
    }

    fn order(state: &mut State) -> String {
        std::iter::from_fn(|| state.next().map(|(tenant, ..)| tenant.to_string())).collect()
    }

    #[test]
    fn tenants_take_turns_however_much_one_queues() {
        assert_eq!(order(&mut state(&[("a", 5), ("b", 2), ("c", 1)])), "abcabaaa");
    }

    #[test]
    fn a_tenant_that_ran_into_time_outs_waits_only_while_others_do() {
        let mut state = state(&[("a", 3), ("b", 4)]);
        state.done(&TenantId::parse("a").unwrap(), Spent::TimedOut);
        assert_eq!(order(&mut state), "bbbbaaa");
    }

    #[test]
    fn a_full_queue_refuses_instead_of_growing() {
        let threads = Threads::new(1, 1, Duration::from_secs(600));
        let (started, wait) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let tenant = TenantId::parse("a").unwrap();
        let (tell, release) = (started.0, wait.1);
        let blocking = move || {
            let _ = tell.send(());
            let _ = release.recv();
            Spent::InTime
        };
        assert!(threads.submit(&tenant, unit(), Box::new(blocking)));
        started.1.recv().unwrap();
        assert!(threads.submit(&tenant, unit(), Box::new(|| Spent::InTime)));
        assert!(!threads.submit(&tenant, unit(), Box::new(|| Spent::InTime)));
        drop(wait.0);
    }

    #[test]
    fn a_stuck_job_costs_its_tenant_its_turns_and_nobody_else_a_thread() {
        let threads = Threads::new(1, 10, Duration::from_millis(1));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (stuck, fine) = (TenantId::parse("stuck").unwrap(), TenantId::parse("fine").unwrap());
        let (tell, told) = std::sync::mpsc::channel();
        let ended = tell.clone();
        let job = move || {
            let _ = held.recv();
            let _ = ended.send("ended");
            Spent::TimedOut
        };
        assert!(threads.submit(&stuck, unit(), Box::new(job)));
        for _ in 0..3 {
            let tell = tell.clone();
            let other = Digest::of_all([b"other".as_slice()]);
            assert!(threads.submit(
                &fine,
                other,
                Box::new(move || {
                    let _ = tell.send("fine");
                    Spent::InTime
                })
            ));
            // The only thread is taken, so that an answer comes from one that replaced it.
            assert_eq!(told.recv(), Ok("fine"));
        }
        assert!(!threads.submit(&stuck, unit(), Box::new(|| Spent::InTime)));
        release.send(()).unwrap();
        assert_eq!(told.recv(), Ok("ended"));
        let again = || threads.submit(&stuck, unit(), Box::new(|| Spent::InTime));
        while !again() {
            // Asking without a pause would keep the lock from the thread that has the least priority.
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}
