//! Slots of requests that are judged at once, and the wait for one.
//!
//! Where there is room and nobody waits, a slot costs one atomic change: no lock, no allocation.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::pace::{Pace, START, Seen};
use super::queue::{Claim, Pushed, Queue, Spot};
use crate::domain::request::Priority;
use crate::metrics::{Metrics, Shed};
use crate::settings::Concurrency;

type Answer = oneshot::Sender<Result<(), Shed>>;

/// All slots of the process.
pub(super) struct Slots {
    running: AtomicUsize,
    limit: AtomicUsize,
    waiting: AtomicUsize,
    /// Whether a request had to wait since the last look.
    felt: AtomicBool,
    queue: Mutex<Queue<Waiting>>,
    /// `None` where the limit is the operator's.
    pace: Option<Mutex<Pace>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Waiting {
    until: Instant,
    answer: Answer,
}

/// A slot; free again when dropped.
pub struct Slot<'a>(&'a Slots);

impl std::fmt::Debug for Slot<'_> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Slot")
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.free();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slots {
    /// With room for `queue_max` to wait.
    pub(super) fn new(concurrency: Concurrency, queue_max: usize, metrics: Arc<Metrics>) -> Self {
        let (limit, pace) = match concurrency {
            Concurrency::Auto => (START, Some(Mutex::default())),
            Concurrency::Fixed(limit) => (limit, None),
        };
        Self {
            running: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            waiting: AtomicUsize::new(0),
            felt: AtomicBool::new(false),
            queue: Mutex::new(Queue::new(queue_max)),
            pace,
            metrics,
        }
    }

    /// Slots taken, and slots there are.
    pub(super) fn busy(&self) -> (usize, usize) {
        (self.running.load(Ordering::Relaxed), self.limit.load(Ordering::Relaxed))
    }

    /// A slot, where one is free and nobody waits.
    pub(super) fn at_once(&self) -> Option<Slot<'_>> {
        let free = self.waiting.load(Ordering::SeqCst) == 0 && self.take_one();
        // Not `then_some`: a slot that is made is also given back.
        free.then(|| Slot(self))
    }

    /// A slot when its turn comes; none where it does not come before `until`.
    pub(super) async fn turn(&self, claim: Claim<'_>, until: Instant) -> Result<Slot<'_>, Shed> {
        let shed = match self.wait(claim, until) {
            Ok(mut waiter) => match timeout_at(until, &mut waiter.answer).await {
                Ok(Ok(Ok(()))) => {
                    waiter.answered = true;
                    return Ok(Slot(self));
                }
                Ok(Ok(Err(shed))) => {
                    waiter.answered = true;
                    shed
                }
                Ok(Err(_)) | Err(_) => Shed::Deadline,
            },
            Err(shed) => shed,
        };
        self.metrics.shed(Some(claim.priority), shed);
        Err(shed)
    }

    /// Whether all places to wait are taken by those who are more urgent than `priority`.
    pub(super) fn is_lost(&self, priority: Priority) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0 && lock(&self.queue).is_lost(priority)
    }

    fn take_one(&self) -> bool {
        let most = self.limit.load(Ordering::Relaxed);
        let next = |running: usize| (running < most).then_some(running + 1);
        self.running.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }

    fn wait(&self, claim: Claim<'_>, until: Instant) -> Result<Waiter<'_>, Shed> {
        self.felt.store(true, Ordering::Relaxed);
        let (answer, waits) = oneshot::channel();
        let spot = {
            let mut queue = lock(&self.queue);
            let pushed = queue.push(claim, Waiting { until, answer });
            self.waiting.store(queue.len(), Ordering::SeqCst);
            match pushed {
                Pushed::Full => return Err(Shed::QueueFull),
                Pushed::Waits(spot) => spot,
                Pushed::Instead(spot, (gone, waiting)) => {
                    self.metrics.queue_depth(gone.priority(), -1.0);
                    // Whoever left meanwhile needs no answer.
                    let _ = waiting.answer.send(Err(Shed::QueueFull));
                    spot
                }
            }
        };
        self.metrics.queue_depth(claim.priority, 1.0);
        // A slot that became free before this one waited would otherwise wake nobody.
        self.hand_out();
        Ok(Waiter { slots: self, spot, answer: waits, answered: false })
    }

    fn free(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.hand_out();
    }

    /// Gives free slots to those who wait.
    fn hand_out(&self) {
        while self.waiting.load(Ordering::SeqCst) > 0 && self.take_one() {
            if !self.hand_one() {
                self.running.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Gives one slot to the next who still waits; false where nobody does.
    fn hand_one(&self) -> bool {
        let now = Instant::now();
        loop {
            let next = {
                let mut queue = lock(&self.queue);
                let next = queue.pop();
                self.waiting.store(queue.len(), Ordering::SeqCst);
                next
            };
            let Some((spot, waiting)) = next else { return false };
            self.metrics.queue_depth(spot.priority(), -1.0);
            if waiting.until <= now {
                let _ = waiting.answer.send(Err(Shed::Deadline));
            } else if waiting.answer.send(Ok(())).is_ok() {
                return true;
            }
        }
    }

    /// What one serving thread saw in a window.
    pub(super) fn note(&self, late: Duration, now: Instant) {
        let Some(pace) = &self.pace else { return };
        let running = self.running.load(Ordering::Relaxed);
        let felt = self.felt.load(Ordering::Relaxed) || self.waiting.load(Ordering::SeqCst) > 0;
        let before = self.limit.load(Ordering::Relaxed);
        let limit = lock(pace).step(Seen { late, running, felt }, now);
        self.limit.store(limit, Ordering::Relaxed);
        if limit > before {
            self.felt.store(false, Ordering::Relaxed);
            self.hand_out();
        }
    }
}

/// One who waits. Dropped before the answer was read, it leaves the queue, or gives back the slot.
struct Waiter<'a> {
    slots: &'a Slots,
    spot: Spot,
    answer: oneshot::Receiver<Result<(), Shed>>,
    answered: bool,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let slots = self.slots;
        let stood = {
            let mut queue = lock(&slots.queue);
            let stood = queue.remove(self.spot);
            slots.waiting.store(queue.len(), Ordering::SeqCst);
            stood
        };
        if stood {
            slots.metrics.queue_depth(self.spot.priority(), -1.0);
        }
        self.answer.close();
        if let Ok(Ok(())) = self.answer.try_recv() {
            slots.free();
        }
    }
}

#[cfg(test)]
mod tests;
