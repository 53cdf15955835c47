//! A few threads with large stacks that serve tenants in turn, and a queue with a limit.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::STACK_BYTES;
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

/// The threads. They end when this is dropped.
pub(super) struct Threads {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    queue_max: usize,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<TenantId, VecDeque<Job>>,
    /// Tenants with waiting jobs, next first.
    turns: VecDeque<TenantId>,
    queued: usize,
    running: BTreeMap<TenantId, usize>,
    hot: BTreeMap<TenantId, Instant>,
    picks: u64,
    closed: bool,
}

impl Threads {
    pub(super) fn new(count: usize, queue_max: usize) -> Self {
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared { state, work: Condvar::new(), queue_max });
        for index in 0..count.clamp(1, 64) {
            let shared = shared.clone();
            // A thread that cannot start is felt as `Budget`, never as an allow.
            let _ = std::thread::Builder::new()
                .name(format!("policy-{index}"))
                .stack_size(STACK_BYTES)
                .spawn(move || shared.serve());
        }
        Self { shared }
    }

    /// Queues a job; false if the queue or the tenant's share of it is full.
    pub(super) fn submit(&self, tenant: &TenantId, job: Job) -> bool {
        let mut state = self.shared.lock();
        let others = state.turns.iter().any(|waiting| waiting != tenant)
            || state.running.keys().any(|running| running != tenant);
        let own = state.waiting.get(tenant).map_or(0, VecDeque::len);
        let hot = state.is_hot(tenant);
        let full = state.queued >= self.shared.queue_max
            || (others && own > self.shared.queue_max / 2)
            || (hot && others && own >= HOT_QUEUE);
        if full {
            return false;
        }
        state.queued += 1;
        if own == 0 {
            state.turns.push_back(tenant.clone());
        }
        state.waiting.entry(tenant.clone()).or_default().push_back(job);
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

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some((tenant, job)) = state.next() {
                *state.running.entry(tenant.clone()).or_default() += 1;
                drop(state);
                let spent = catch_unwind(AssertUnwindSafe(job)).unwrap_or(Spent::InTime);
                state = self.lock();
                state.done(&tenant, spent);
            } else if state.closed {
                return;
            } else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl State {
    /// The next tenant's oldest job. A tenant that ran into time-outs waits only while another
    /// one does.
    fn next(&mut self) -> Option<(TenantId, Job)> {
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
        let job = jobs.pop_front();
        match jobs.is_empty() {
            true => drop(self.waiting.remove(&tenant)),
            false => self.turns.push_back(tenant.clone()),
        }
        self.queued = self.queued.saturating_sub(1);
        Some((tenant, job?))
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

    fn is_hot(&self, tenant: &TenantId) -> bool {
        self.hot.get(tenant).is_some_and(|since| since.elapsed() < HOT_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(jobs: &[(&str, usize)]) -> State {
        let mut state = State::default();
        for (tenant, count) in jobs {
            let tenant = TenantId::parse(tenant).unwrap();
            let queue = (0..*count).map(|_| Box::new(|| Spent::InTime) as Job).collect();
            state.queued += count;
            state.turns.push_back(tenant.clone());
            state.waiting.insert(tenant, queue);
        }
        state
    }

    fn order(state: &mut State) -> String {
        std::iter::from_fn(|| state.next().map(|(tenant, _)| tenant.to_string())).collect()
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
        let threads = Threads::new(1, 1);
        let (started, wait) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let tenant = TenantId::parse("a").unwrap();
        let (tell, release) = (started.0, wait.1);
        let blocking = move || {
            let _ = tell.send(());
            let _ = release.recv();
            Spent::InTime
        };
        assert!(threads.submit(&tenant, Box::new(blocking)));
        started.1.recv().unwrap();
        assert!(threads.submit(&tenant, Box::new(|| Spent::InTime)));
        assert!(!threads.submit(&tenant, Box::new(|| Spent::InTime)));
        drop(wait.0);
    }
}
