//! Ends waiting for an evaluation that no timer stops: a builtin or a multiplication of huge
//! numbers cannot be interrupted, and neither can what queues behind it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Something that is told when its time is over.
pub(super) trait Late: Send + Sync {
    /// The time is over; called at most once, and only while someone still holds it.
    fn is_late(&self);
}

/// One thread that looks at deadlines. It ends when this is dropped.
pub(super) struct Watch {
    shared: Arc<Shared>,
    patience: Duration,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    /// Earliest first, since everyone gets the same time.
    waiting: VecDeque<(Instant, Weak<dyn Late>)>,
    closed: bool,
}

impl Watch {
    pub(super) fn new(patience: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let watching = shared.clone();
        // Without the thread a stuck evaluation is ended by the request's own deadline.
        let _ =
            std::thread::Builder::new().name("policy-watch".into()).spawn(move || watching.serve());
        Self { shared, patience }
    }

    pub(super) fn add(&self, late: &Arc<dyn Late>) {
        let mut state = self.shared.lock();
        while state.waiting.front().is_some_and(|(_, late)| late.strong_count() == 0) {
            state.waiting.pop_front();
        }
        let first = state.waiting.is_empty();
        state.waiting.push_back((Instant::now() + self.patience, Arc::downgrade(late)));
        drop(state);
        if first {
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut state = self.lock();
        while !state.closed {
            let now = Instant::now();
            let due = state.waiting.front().map(|(due, _)| due.saturating_duration_since(now));
            match due {
                Some(Duration::ZERO) => {
                    let late = state.waiting.pop_front().and_then(|(_, late)| late.upgrade());
                    drop(state);
                    late.iter().for_each(|late| late.is_late());
                    state = self.lock();
                }
                due => {
                    let rest = due.unwrap_or(Duration::from_secs(3600));
                    let woken = self.wake.wait_timeout(state, rest);
                    state = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}
