//! What each serving thread did, and whether it still does anything.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A thread that did not even wake for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);
const BEAT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);
/// What happened less than this ago is recent; at most twice as much counts.
const RECENT: Duration = Duration::from_secs(60);
/// Share of the mean before in the moving mean.
const INERTIA: f64 = 0.9;

thread_local! {
    static OWN: RefCell<Option<Arc<Worker>>> = const { RefCell::new(None) };
}

/// The serving threads of one service.
pub struct Workers {
    started: Instant,
    each: Mutex<Vec<Arc<Worker>>>,
}

/// One serving thread.
pub struct Worker {
    state: Mutex<State>,
    called: Notify,
}

struct State {
    woke: Instant,
    served: Option<jiff::Timestamp>,
    requests: u64,
    took: Duration,
    mean_ms: f64,
    turned: Instant,
    recent: [Counts; 2],
}

/// Requests, and those among them that the service failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) errors: u64,
}

/// One serving thread as seen from outside; requests are those to judge something.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WorkerView {
    pub(super) stuck: bool,
    pub(super) requests: u64,
    pub(super) took: Duration,
    /// Moving mean.
    pub(super) mean_ms: f64,
    pub(super) last: Option<jiff::Timestamp>,
    pub(super) recent: Counts,
}

impl Default for Workers {
    fn default() -> Self {
        Self { started: Instant::now(), each: Mutex::default() }
    }
}

impl Workers {
    /// The calling thread serves from now on. Run [`Worker::live`] beside what it does.
    pub fn join(&self) -> Arc<Worker> {
        let now = Instant::now();
        let state = Mutex::new(State {
            woke: now,
            served: None,
            requests: 0,
            took: Duration::ZERO,
            mean_ms: 0.0,
            turned: now,
            recent: [Counts::default(); 2],
        });
        let worker = Arc::new(Worker { state, called: Notify::new() });
        self.each.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&worker));
        OWN.set(Some(Arc::clone(&worker)));
        worker
    }

    /// Waits until each thread has begun what it was handed before this call.
    pub async fn come_round(&self) {
        let called = Instant::now();
        let each = self.each.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for worker in each {
            worker.called.notify_one();
            while worker.state().woke < called {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn views(&self) -> Vec<WorkerView> {
        let each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        each.iter().map(|worker| worker.view(Instant::now())).collect()
    }
}

/// The calling thread has answered a request to judge something.
pub(super) fn served(took: Duration, failed: bool) {
    OWN.with_borrow(|own| {
        if let Some(worker) = own {
            worker.state().serve(took, failed, Instant::now());
        }
    });
}

impl Worker {
    /// Wakes every second and when called, for as long as the thread serves.
    pub async fn live(&self) {
        loop {
            let _ = tokio::time::timeout(BEAT, self.called.notified()).await;
            self.state().woke = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self, now: Instant) -> WorkerView {
        let mut state = self.state();
        state.turn(now);
        let [new, old] = state.recent;
        WorkerView {
            stuck: now.duration_since(state.woke) >= STUCK,
            requests: state.requests,
            took: state.took,
            mean_ms: state.mean_ms,
            last: state.served,
            recent: Counts {
                requests: new.requests + old.requests,
                errors: new.errors + old.errors,
            },
        }
    }
}

impl State {
    fn serve(&mut self, took: Duration, failed: bool, now: Instant) {
        self.turn(now);
        let [new, _] = &mut self.recent;
        new.requests += 1;
        new.errors += u64::from(failed);
        let ms = took.as_secs_f64() * 1e3;
        let before = if self.requests == 0 { ms } else { self.mean_ms };
        self.mean_ms = INERTIA * before + (1.0 - INERTIA) * ms;
        self.requests += 1;
        self.took += took;
        self.served = Some(jiff::Timestamp::now());
    }

    fn turn(&mut self, now: Instant) {
        let since = now.duration_since(self.turned);
        if since < RECENT {
            return;
        }
        let [new, _] = self.recent;
        let old = if since < RECENT * 2 { new } else { Counts::default() };
        (self.recent, self.turned) = ([Counts::default(), old], now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_served_is_recent_for_a_minute_or_two_and_counted_for_ever() {
        let workers = Workers::default();
        let worker = workers.join();
        served(Duration::from_millis(10), true);
        served(Duration::from_millis(20), false);
        let (now, counts) = (Instant::now(), Counts { requests: 2, errors: 1 });
        let view = &workers.views()[0];
        assert_eq!((view.requests, view.recent, view.stuck), (2, counts, false));
        assert!((view.mean_ms - 11.0).abs() < 1e-9, "{}", view.mean_ms);
        assert_eq!(worker.view(now + RECENT).recent, counts);
        let later = worker.view(now + RECENT * 2 + Duration::from_secs(1));
        assert_eq!((later.recent, later.requests), (Counts::default(), 2));
        assert!(later.stuck, "it did not wake for two minutes");
    }

    #[test]
    fn two_services_of_a_process_count_apart() {
        let (one, other) = (Workers::default(), Workers::default());
        other.join();
        let thread = std::thread::spawn(move || {
            one.join();
            served(Duration::ZERO, false);
            one.views()[0].requests
        });
        assert_eq!(thread.join().unwrap(), 1);
        assert_eq!(other.views()[0].requests, 0);
    }
}
