//! Rates that instances share through Redis, at which no request waits.
//!
//! An instance holds a lease of each bucket: so many requests pass at once, and are paid to the
//! bucket in Redis beside the requests. While Redis has no more for it, the lease runs out and
//! requests are refused. So all instances together give at most one lease each beyond the rate,
//! and one instance alone never gives more than the rate: that it counts by itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use super::windows::{Bucket, Buckets, Level, Local, Windows, step};
use crate::cache::{Lent, Redis};
use crate::metrics::Metrics;
use crate::settings::Rate;

/// What a lease is at least, where the burst allows.
const LEASE_LEAST: u32 = 20;
/// How long spent tokens are gathered, unless they are a quarter of the lease before.
const GATHER: Duration = Duration::from_millis(200);
/// Between two asks of a bucket that is empty, at least.
const EMPTY: Duration = Duration::from_millis(10);
/// Buckets whose leases are being paid.
const PAYING_MAX: usize = 65_536;
/// Leases that wait for that.
const BEGUN_MAX: usize = 4_096;
/// Asks under way; more would wait for each other at Redis and look as if it hung.
const ASKS_MAX: usize = 64;

/// Tokens of a lease: a fifth of the burst, at least 20, at most the burst.
fn lease_of(rate: Rate) -> i64 {
    let burst = rate.burst();
    i64::from((burst / 5).max(burst.min(LEASE_LEAST)))
}

/// Counts that instances share, and this one's own beside them.
pub struct Shared {
    own: Local,
    leases: Buckets<Arc<Lease>>,
    routes: Vec<String>,
    redis: Arc<Redis>,
    begun: mpsc::Sender<Paying>,
    paying: Mutex<Option<mpsc::Receiver<Paying>>>,
    metrics: Arc<Metrics>,
}

/// A lease whose spent tokens are to be paid.
struct Paying {
    lease: Arc<Lease>,
    /// What the bucket is called, in parts.
    bucket: [Box<str>; 3],
}

impl Shared {
    /// Over `redis`, for routes with rates of their own: method and path of each.
    pub fn new(redis: Arc<Redis>, routes: Vec<String>, metrics: Arc<Metrics>) -> Shared {
        let (begun, paying) = mpsc::channel(BEGUN_MAX);
        Shared {
            own: Local::new(routes.len(), Instant::now()),
            leases: Buckets::new(routes.len()),
            routes,
            redis,
            begun,
            paying: Mutex::new(Some(paying)),
            metrics,
        }
    }

    /// What the bucket is called at every instance.
    fn name(&self, bucket: Bucket<'_>) -> [Box<str>; 3] {
        match bucket {
            Bucket::Tenant(tenant) => ["tenant".into(), tenant.into(), "".into()],
            Bucket::Key(key) => ["key".into(), key.into(), "".into()],
            Bucket::Route { tenant, route } => {
                let route = self.routes.get(route).map_or("", String::as_str);
                ["route".into(), tenant.into(), route.into()]
            }
        }
    }

    fn begin(&self, lease: &Arc<Lease>, bucket: Bucket<'_>) {
        let paying = Paying { lease: Arc::clone(lease), bucket: self.name(bucket) };
        if self.begun.try_send(paying).is_err() {
            // More buckets than can be paid: this one's tokens count here alone.
            self.metrics.redis_fallback();
            let mut account = lease.account();
            (account.owed, account.paying) = (0, false);
        }
    }
}

impl Windows for Shared {
    fn take(&self, bucket: Bucket<'_>, rate: Rate, count: u32, now: Instant) -> Level {
        let own = self.own.take(bucket, rate, count, now);
        if own.wait.is_some() {
            return own;
        }
        if self.redis.rests() {
            self.metrics.redis_fallback();
            return own;
        }
        let spent = self.leases.with(bucket, |lease| {
            let (level, begins) = lease.spend((rate, count), now);
            if begins {
                self.begin(lease, bucket);
            }
            level
        });
        let Some(shared) = spent else { return own };
        if shared.wait.is_some() {
            self.own.give_back(bucket, rate, count);
        }
        let (left, full_in) = (own.left.min(shared.left), own.full_in.max(shared.full_in));
        Level { rate, left, full_in, wait: shared.wait }
    }

    fn give_back(&self, bucket: Bucket<'_>, rate: Rate, count: u32) {
        self.own.give_back(bucket, rate, count);
        if !self.redis.rests() {
            self.leases.with(bucket, |lease| lease.account().owed -= i64::from(count));
        }
    }

    fn beside(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let begun = self.paying.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(mut begun) = begun else { return };
            let asks = Semaphore::new(ASKS_MAX);
            let mut paying = FuturesUnordered::new();
            loop {
                tokio::select! {
                    Some(one) = begun.recv(), if paying.len() < PAYING_MAX => {
                        paying.push(one.pay(&self.redis, &asks));
                    }
                    Some(()) = paying.next() => {}
                }
            }
        })
    }
}

/// A bucket's lease at this instance.
#[derive(Default)]
struct Lease {
    account: Mutex<Account>,
    /// Told when enough is spent to be paid at once.
    enough: Notify,
}

#[derive(Default)]
struct Account {
    /// Spent and not paid; below zero where what was paid was given back.
    owed: i64,
    paying: bool,
    rate: Option<Rate>,
    bucket: Option<Seen>,
}

/// The bucket in Redis, as it was seen last.
#[derive(Clone, Copy)]
struct Seen {
    next_at: Instant,
    full_at: Instant,
}

impl Lease {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spends `count` tokens if there are so many, and whether somebody must begin to pay. More than a
    /// lease holds are spent where the bucket has so many, by when it was seen last.
    fn spend(&self, (rate, count): (Rate, u32), now: Instant) -> (Level, bool) {
        let mut account = self.account();
        account.rate = Some(rate);
        let lease = lease_of(rate);
        let token = Duration::from_nanos(step(rate));
        let until = |at: fn(Seen) -> Instant| {
            account.bucket.map_or(Duration::ZERO, |seen| at(seen).saturating_duration_since(now))
        };
        let full_in = until(|seen| seen.full_at);
        let used = full_in.as_nanos().div_ceil(token.as_nanos().max(1));
        let left = rate.burst().saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
        let many = i64::from(count);
        // What is owed takes tokens of those that the bucket has.
        let owed = u32::try_from(account.owed.max(0)).unwrap_or(u32::MAX);
        let lacking = count.saturating_add(owed).saturating_sub(left);
        let whole = many > lease && lacking == 0;
        if account.owed + many > lease && !whole {
            let lacking = if many > lease { lacking } else { 1 };
            let wait = Some(until(|seen| seen.next_at).max(token * lacking));
            return (Level { rate, left: 0, full_in, wait }, begins(&mut account));
        }
        account.owed += many;
        if account.owed >= (lease / 4).max(1) {
            self.enough.notify_one();
        }
        (Level { rate, left, full_in, wait: None }, begins(&mut account))
    }

    /// What is to be paid now; `None` ends the paying.
    fn bill(&self) -> Option<(Rate, u32)> {
        let mut account = self.account();
        let owed = u32::try_from(account.owed).unwrap_or_default();
        let bill = account.rate.filter(|_| owed > 0).map(|rate| (rate, owed));
        account.paying = bill.is_some();
        bill
    }

    /// Takes note of what the bucket gave.
    fn paid(&self, lent: Option<Lent>, now: Instant) {
        let mut account = self.account();
        match lent {
            Some(Lent { granted, next_in, full_in }) => {
                account.owed -= i64::from(granted);
                account.bucket = Some(Seen { next_at: now + next_in, full_at: now + full_in });
            }
            // Redis is gone, and what it counted with it.
            None => account.owed = 0,
        }
    }
}

fn begins(account: &mut Account) -> bool {
    !std::mem::replace(&mut account.paying, true)
}

impl Paying {
    /// Pays what is owed until nothing is.
    async fn pay(self, redis: &Redis, asks: &Semaphore) {
        let Paying { lease, bucket } = self;
        let parts: Vec<&[u8]> = bucket.iter().map(|part| part.as_bytes()).collect();
        let mut empty_for: Option<Duration> = None;
        loop {
            match empty_for {
                Some(time) => tokio::time::sleep(time).await,
                None => tokio::select! {
                    () = tokio::time::sleep(GATHER) => {}
                    () = lease.enough.notified() => {}
                },
            }
            let Some((rate, owed)) = lease.bill() else { return };
            // It is never closed.
            let place = asks.acquire().await;
            let lent = redis.lend(&parts, rate, owed).await;
            drop(place);
            lease.paid(lent, Instant::now());
            let lacks = lent.filter(|lent| lent.granted < owed);
            empty_for = lacks.map(|lent| lent.next_in.max(EMPTY));
        }
    }
}

#[cfg(test)]
mod tests;
