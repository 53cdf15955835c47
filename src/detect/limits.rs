//! How much one detector may be asked: bulkhead, retry budget, throttle, latency.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::member::lock;
use crate::catalog::detector;
use crate::seal;

/// Calls at once, and a bounded queue before them.
#[derive(Debug)]
pub(super) struct Bulkhead {
    pub(super) spec: detector::Bulkhead,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bulkhead {
    pub(super) fn new(spec: detector::Bulkhead) -> Self {
        Self {
            spec,
            slots: Arc::new(Semaphore::new(spec.max_in_flight)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A slot, now or after waiting; `None` at once when the queue is full.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.spec.queue {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let _waiting = Waiting(&self.waiting);
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }
}

/// One retry for every ten calls, with a small reserve.
#[derive(Debug)]
pub(super) struct RetryBudget {
    tenths: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { tenths: 10 }
    }
}

impl RetryBudget {
    pub(super) fn call(&mut self) {
        self.tenths = (self.tenths + 1).min(100);
    }

    pub(super) fn retry(&mut self) -> bool {
        let enough = self.tenths >= 10;
        self.tenths -= if enough { 10 } else { 0 };
        enough
    }
}

/// A bucket of bytes that holds those of one second; who takes more waits until they have come.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// When all that was taken has come, or had the last time.
    paid_until: Mutex<Option<Instant>>,
}

const RESERVE: Duration = Duration::from_secs(1);

/// Bytes that are waited for; given back when nobody waits any more.
struct Taken<'a>(&'a Throttle, Duration);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut paid_until = lock(&self.0.paid_until);
        *paid_until = paid_until.and_then(|until| until.checked_sub(self.1));
    }
}

impl Throttle {
    /// Waits for its turn to send so many bytes; `None` at once, and nothing is taken, when that
    /// would be after `latest`: nobody waits for a body that cannot go.
    pub(super) async fn pace(
        &self,
        bytes_per_second: NonZeroU32,
        bytes: usize,
        latest: Instant,
    ) -> Option<()> {
        let cost = Duration::from_secs_f64(bytes as f64 / f64::from(bytes_per_second.get()));
        let (turn, now) = (self.take(cost, latest)?, Instant::now());
        if turn > now {
            let taken = Taken(self, cost);
            sleep_until(turn).await;
            std::mem::forget(taken);
        }
        Some(())
    }

    fn take(&self, cost: Duration, latest: Instant) -> Option<Instant> {
        let now = Instant::now();
        let mut paid_until = lock(&self.paid_until);
        let full = now.checked_sub(RESERVE).unwrap_or(now);
        let from = paid_until.map_or(full, |until| until.max(full));
        let turn = from.checked_add(cost).filter(|turn| *turn <= latest)?;
        *paid_until = Some(turn);
        Some(turn)
    }
}

/// The last answers' durations; forgotten when nothing answered for a while, so that a slow
/// spell cannot keep a detector unasked for ever.
#[derive(Debug, Default)]
pub(super) struct Latency {
    ring: Vec<Duration>,
    next: usize,
    last: Option<Instant>,
    p50: Option<Duration>,
    p95: Option<Duration>,
}

const RING: usize = 128;
const ENOUGH: usize = 8;
const STALE: Duration = Duration::from_secs(30);

impl Latency {
    pub(super) fn record(&mut self, took: Duration, now: Instant) {
        if self.is_stale(now) {
            *self = Self::default();
        }
        self.last = Some(now);
        match self.ring.get_mut(self.next) {
            Some(slot) => *slot = took,
            None => self.ring.push(took),
        }
        self.next = (self.next + 1) % RING;
        // A full ring changes slowly; sorting it at every eighth answer would cost more than it tells.
        let every = if self.ring.len() < RING { ENOUGH } else { RING / 2 };
        if self.ring.len() >= ENOUGH && self.next.is_multiple_of(every) {
            let mut sorted = self.ring.clone();
            sorted.sort_unstable();
            self.p50 = sorted.get(sorted.len() / 2).copied();
            self.p95 = sorted.get(sorted.len() * 95 / 100).copied();
        }
    }

    pub(super) fn p50(&self, now: Instant) -> Option<Duration> {
        self.p50.filter(|_| !self.is_stale(now))
    }

    pub(super) fn p95(&self) -> Option<Duration> {
        self.p95
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.duration_since(last) > STALE)
    }
}

/// Half to the whole of `backoff`, so that retries of many calls do not meet.
pub(super) fn jittered(backoff: Duration) -> Duration {
    backoff.mul_f64(0.5 + seal::spread() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_a_left_one_makes_room() {
        let bulkhead = Bulkhead::new(detector::Bulkhead { max_in_flight: 1, queue: 1 });
        let slot = bulkhead.enter().await.unwrap();
        {
            let waiting = std::pin::pin!(bulkhead.enter());
            assert!(futures_util::poll!(waiting).is_pending());
            assert!(bulkhead.enter().await.is_none());
        }
        let next = std::pin::pin!(bulkhead.enter());
        let mut next = next;
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        drop(slot);
        assert!(next.await.is_some());
    }

    #[test]
    fn a_thousand_failing_calls_get_a_tenth_in_retries() {
        let mut budget = RetryBudget::default();
        let retries = (0..1000)
            .filter(|_| {
                budget.call();
                budget.retry()
            })
            .count();
        assert!((100..=102).contains(&retries), "{retries}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttle_holds_its_rate_and_refuses_what_would_come_too_late() {
        let (throttle, rate) = (Throttle::default(), NonZeroU32::new(1000).unwrap());
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..50 {
            assert!(throttle.pace(rate, 200, after(60)).await.is_some());
        }
        // 10 000 bytes, of which a second's were there.
        assert_eq!(start.elapsed().as_millis().div_ceil(100), 90);
        assert!(throttle.pace(rate, 5000, after(13)).await.is_none(), "it would go after 14 s");
        assert_eq!(start.elapsed().as_millis().div_ceil(100), 90, "at once");
        assert!(throttle.pace(rate, 100, after(10)).await.is_some(), "nobody waits for it");
        {
            let waiting = std::pin::pin!(throttle.pace(rate, 5000, after(60)));
            assert!(futures_util::poll!(waiting).is_pending());
        }
        assert!(throttle.pace(rate, 1, after(10)).await.is_some(), "who leaves gives back");
    }

    #[test]
    fn quantiles_are_known_after_eight_answers_and_p50_is_forgotten_after_silence() {
        let (mut latency, now) = (Latency::default(), Instant::now());
        for ms in 1..=16 {
            assert_eq!(latency.p50(now).is_some(), ms > 8);
            latency.record(Duration::from_millis(ms), now);
        }
        assert_eq!(latency.p50(now), Some(Duration::from_millis(9)));
        assert_eq!(latency.p95(), Some(Duration::from_millis(16)));
        assert_eq!(latency.p50(now + STALE * 2), None);
    }
}
