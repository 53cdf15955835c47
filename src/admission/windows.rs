//! Rates by the generic cell rate algorithm: one instant per bucket, no timers, no locks on the way.
//!
//! `governor` was looked at: its keyed limiter has one quota for all keys, while ours differ by
//! tenant and change with a reload; it does not tell when a bucket is full again, and gives nothing
//! back where a second bucket refuses.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, pending};
use tokio::time::Instant;

use crate::settings::Rate;

const MINUTE_NS: u64 = 60_000_000_000;
/// Maps side by side, so that tenants rarely meet at one lock.
const SHARDS: usize = 32;

/// What is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket<'a> {
    /// All requests of a tenant.
    Tenant(&'a str),
    /// All requests of a key, by its prefix.
    Key(&'a str),
    /// Requests of a tenant on a route, `route` being its place in the settings.
    Route {
        /// Whose.
        tenant: &'a str,
        /// Which.
        route: usize,
    },
}

/// How a bucket stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// What it allows.
    pub rate: Rate,
    /// How many may follow at once.
    pub left: u32,
    /// Until it is full again.
    pub full_in: Duration,
    /// Until the request would pass; `None` where it did.
    pub wait: Option<Duration>,
}

/// Where rates are counted. Nothing here waits: where instances share their counts, an
/// implementation spends tokens that were lent to it and asks for more beside the requests.
pub trait Windows: Send + Sync {
    /// Takes `count` from the bucket, or nothing, and says how long there are not so many.
    fn take(&self, bucket: Bucket<'_>, rate: Rate, count: u32, now: Instant) -> Level;
    /// Gives back what was taken for a request that another limit refused.
    fn give_back(&self, bucket: Bucket<'_>, rate: Rate, count: u32);
    /// What must run beside the requests, for as long as the service does.
    fn beside(&self) -> BoxFuture<'_, ()> {
        Box::pin(pending())
    }
}

/// The counts of this process alone; lost with it, as a minute is soon over. Holds a bucket for each
/// tenant that ever asked, and for the keys and routes of the settings.
pub struct Local {
    origin: Instant,
    cells: Buckets<AtomicU64>,
}

impl Local {
    /// All buckets full, for `routes` routes with rates of their own.
    pub fn new(routes: usize, now: Instant) -> Local {
        Local { origin: now, cells: Buckets::new(routes) }
    }
}

impl Windows for Local {
    fn take(&self, bucket: Bucket<'_>, rate: Rate, count: u32, now: Instant) -> Level {
        let now = nanoseconds(now.saturating_duration_since(self.origin));
        let full = Level { rate, left: rate.burst(), full_in: Duration::ZERO, wait: None };
        self.cells.with(bucket, |cell| take(cell, (rate, count), now)).unwrap_or(full)
    }

    fn give_back(&self, bucket: Bucket<'_>, rate: Rate, count: u32) {
        self.cells.with(bucket, |cell| {
            let worth = step(rate).saturating_mul(u64::from(count));
            let back = |at: u64| Some(at.saturating_sub(worth));
            // The closure never refuses.
            let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
        });
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds that one request is worth.
pub(super) fn step(rate: Rate) -> u64 {
    MINUTE_NS / u64::from(rate.per_minute.max(1))
}

/// `cell` holds when the bucket is full again; `count` requests move that by their worth, and pass
/// while it stays within a burst from `now`.
fn take(cell: &AtomicU64, (rate, count): (Rate, u32), now: u64) -> Level {
    let (step, burst) = (step(rate), u64::from(rate.burst()));
    let room = step.saturating_mul(burst);
    let mut found = cell.load(Ordering::Relaxed);
    loop {
        // A rate that was lowered since must not hold the debt of the higher one.
        let full_at = found.clamp(now, now.saturating_add(room));
        let next = full_at.saturating_add(step.saturating_mul(u64::from(count)));
        let used = next - now;
        if used > room {
            let wait = Some(Duration::from_nanos(used - room));
            let full_in = Duration::from_nanos(full_at - now);
            let left = u32::try_from((room - (full_at - now)) / step.max(1)).unwrap_or(u32::MAX);
            return Level { rate, left, full_in, wait };
        }
        match cell.compare_exchange_weak(found, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {
                let left = u32::try_from((room - used) / step.max(1)).unwrap_or(u32::MAX);
                return Level { rate, left, full_in: Duration::from_nanos(used), wait: None };
            }
            Err(other) => found = other,
        }
    }
}

/// A cell for each bucket.
pub(super) struct Buckets<C> {
    tenants: Shards<C>,
    keys: Shards<C>,
    routes: Vec<Shards<C>>,
}

impl<C: Default> Buckets<C> {
    pub(super) fn new(routes: usize) -> Self {
        let routes = (0..routes).map(|_| Shards::default()).collect();
        Buckets { tenants: Shards::default(), keys: Shards::default(), routes }
    }

    /// `None` where there is no such route.
    pub(super) fn with<T>(&self, bucket: Bucket<'_>, act: impl Fn(&C) -> T) -> Option<T> {
        Some(match bucket {
            Bucket::Tenant(name) => self.tenants.with(name, act),
            Bucket::Key(name) => self.keys.with(name, act),
            Bucket::Route { tenant, route } => self.routes.get(route)?.with(tenant, act),
        })
    }
}

/// Cells by name. A known name is found under a shared lock and costs no memory.
#[derive(Default)]
struct Shards<C> {
    hasher: RandomState,
    shards: [RwLock<HashMap<Box<str>, C>>; SHARDS],
}

impl<C: Default> Shards<C> {
    fn with<T>(&self, name: &str, act: impl Fn(&C) -> T) -> T {
        let at = self.hasher.hash_one(name) as usize % SHARDS;
        let Some(shard) = self.shards.get(at) else { return act(&C::default()) };
        if let Some(cell) = shard.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return act(cell);
        }
        let mut cells = shard.write().unwrap_or_else(PoisonError::into_inner);
        act(cells.entry(name.into()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: Rate = Rate { per_minute: 1000, burst: Some(100) };

    fn passed(windows: &Local, name: &str, rate: Rate, now: Instant) -> usize {
        (0..10_000)
            .take_while(|_| windows.take(Bucket::Tenant(name), rate, 1, now).wait.is_none())
            .count()
    }

    #[test]
    fn a_burst_passes_then_the_rate_and_a_refusal_says_how_long() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let windows = Local::new(0, start);
        let first = windows.take(Bucket::Tenant("a"), SHIPPED, 1, start);
        assert_eq!((first.left, first.full_in, first.wait), (99, ms(60), None));
        assert_eq!(passed(&windows, "a", SHIPPED, start), 99);
        let refused = windows.take(Bucket::Tenant("a"), SHIPPED, 1, start);
        assert_eq!((refused.left, refused.wait), (0, Some(ms(60))));
        assert_eq!(refused.full_in, Duration::from_secs(6));
        assert_eq!(passed(&windows, "a", SHIPPED, start + ms(59)), 0);
        assert_eq!(passed(&windows, "a", SHIPPED, start + ms(60)), 1);
        assert_eq!(passed(&windows, "a", SHIPPED, start + ms(60_000)), 100, "no more than a burst");
    }

    #[test]
    fn a_minute_of_haste_gets_the_rate_and_one_burst() {
        let start = Instant::now();
        let windows = Local::new(0, start);
        let at = |n: u64| start + Duration::from_millis(10 * n);
        let asked = (0..6_000).map(|n| windows.take(Bucket::Tenant("a"), SHIPPED, 1, at(n)));
        assert_eq!(asked.filter(|level| level.wait.is_none()).count(), 1_099);
    }

    #[test]
    fn buckets_know_nothing_of_each_other_and_what_is_given_back_counts_again() {
        let start = Instant::now();
        let windows = Local::new(1, start);
        let rate = Rate { per_minute: 60, burst: Some(2) };
        assert_eq!(passed(&windows, "a", rate, start), 2);
        for other in
            [Bucket::Tenant("b"), Bucket::Key("a"), Bucket::Route { tenant: "a", route: 0 }]
        {
            assert_eq!(windows.take(other, rate, 1, start).left, 1, "{other:?}");
        }
        windows.give_back(Bucket::Tenant("a"), rate, 1);
        assert_eq!(passed(&windows, "a", rate, start), 1);
    }

    #[test]
    fn many_are_taken_at_once_or_none_and_whoever_waits_as_it_is_told_gets_them() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let windows = Local::new(0, start);
        let take = |count, at| windows.take(Bucket::Tenant("a"), SHIPPED, count, start + ms(at));
        assert_eq!((take(70, 0).left, take(31, 0).wait), (30, Some(ms(60))));
        assert_eq!(take(100, 0).wait, Some(ms(70 * 60)), "a refusal takes nothing");
        assert_eq!(take(100, 70 * 60 - 1).wait, Some(ms(1)));
        assert_eq!(take(100, 70 * 60).wait, None);
        assert_eq!(take(1, 70 * 60).left, 0);
        windows.give_back(Bucket::Tenant("a"), SHIPPED, 100);
        assert_eq!(take(100, 70 * 60).wait, None);
    }

    #[test]
    fn a_new_rate_holds_from_the_next_request_on() {
        let start = Instant::now();
        let windows = Local::new(0, start);
        let slow = Rate { per_minute: 1, burst: Some(100) };
        assert_eq!(passed(&windows, "a", slow, start), 100);
        let quick = windows.take(Bucket::Tenant("a"), SHIPPED, 1, start);
        assert_eq!(quick.wait, Some(Duration::from_millis(60)), "not the hundred minutes before");
        let small = Rate { per_minute: 60, burst: Some(1) };
        assert_eq!(passed(&windows, "a", small, start + Duration::from_secs(6_000)), 1);
    }

    #[test]
    fn threads_together_get_no_more_than_one_would() {
        let start = Instant::now();
        let windows = Local::new(0, start);
        let rate = Rate { per_minute: 1, burst: Some(1_000) };
        let total: usize = std::thread::scope(|scope| {
            let ask = || {
                let take =
                    |_: &u32| windows.take(Bucket::Tenant("a"), rate, 1, start).wait.is_none();
                (0..1_000).filter(take).count()
            };
            let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 1_000);
    }
}
