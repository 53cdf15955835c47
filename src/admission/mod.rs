//! Who may ask how often: rates of tenants, keys and routes, quotas of the hour, places at once; and
//! who is judged next when the service is at its limit.
//!
//! Rates and quotas are pure but for counting: the caller brings the time and the limits, which
//! follow every reload.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::Redis;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::domain::request::{Priority, Request};
use crate::metrics::{Metrics, Shed};
use crate::settings::{Limits, Rate, RateLimit, Tier};
use crate::snapshot::Snapshot;
use crate::store::{Store, StoreError};

mod bodies;
pub mod fairness;
mod many;
mod pace;
pub mod queue;
mod shared;
mod slots;
mod used;
mod windows;

pub use bodies::Held;
pub use many::Spending;
pub use shared::Shared;
pub use slots::Slot;
pub use used::Spent;
pub use windows::{Bucket, Level, Local, Windows};

const HOUR_S: u64 = 3_600;
/// Characters of content that cost as much as a request does at least.
const COST_CHARS: usize = 65_536;
/// Between two looks at a serving thread's clock.
const LOOK: Duration = Duration::from_millis(10);

/// When a request is held against its limits.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For rates.
    pub at: Instant,
    /// For quotas: seconds since 1970.
    pub unix_s: u64,
}

impl Moment {
    /// Now.
    pub fn now() -> Moment {
        let unix_s = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        Moment { at: Instant::now(), unix_s }
    }

    /// Hours since 1970.
    pub fn hour(self) -> u32 {
        u32::try_from(self.unix_s / HOUR_S).unwrap_or(u32::MAX)
    }

    /// Until the next hour of the clock.
    pub fn hour_left(self) -> Duration {
        Duration::from_secs(HOUR_S - self.unix_s % HOUR_S)
    }
}

/// Whose request it is, as far as rates go.
#[derive(Debug, Clone, Copy)]
pub struct Entrant<'a> {
    /// The tenant, where it is known yet, and the rate of its file.
    pub tenant: Option<(&'a TenantId, Option<Rate>)>,
    /// The prefix of its key, where it came with one and is not counted yet.
    pub key: Option<&'a str>,
    /// Method and route below the API's prefix.
    pub route: (&'a str, &'a str),
}

/// A refusal with what the caller needs to come back at a good time.
#[derive(Debug)]
pub struct Refused {
    /// What to answer.
    pub error: Error,
    /// Until the same request may pass.
    pub wait: Duration,
}

/// A place among the requests of a tenant that are being judged; left when dropped.
#[derive(Debug)]
pub struct Place(Arc<used::Counts>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A request that is within its tenant's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Whether it is beyond the quota, in the fifth that passes as burst.
    pub burst: bool,
}

/// How evenly one tenant was served this hour.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Whose.
    pub tenant: TenantId,
    /// Of the tenant.
    pub weight: f64,
    /// What it spent.
    pub spent: Spent,
}

/// The limits of all tenants and what they have spent.
pub struct Admission {
    /// False where nobody is refused, and requests are only counted.
    enforces: bool,
    windows: Box<dyn Windows>,
    limits: RateLimit,
    /// Method, path and rate of routes that have one.
    routes: Vec<(String, String, Rate)>,
    used: used::Used,
    slots: slots::Slots,
    bodies: Arc<bodies::Bodies>,
    metrics: Arc<Metrics>,
}

impl Admission {
    /// Over counts of this process, beside those that instances share where there is a `redis`, with
    /// what `store` kept of this hour's quotas. Rates, quotas and places refuse nobody unless it
    /// `enforces`; the service's own limits always do.
    pub async fn open(
        (rates, limits): (&RateLimit, &Limits),
        enforces: bool,
        metrics: Arc<Metrics>,
        redis: Option<Arc<Redis>>,
        store: &dyn Store,
    ) -> Result<Admission, StoreError> {
        let now = Moment::now();
        let mut admission =
            Self { enforces, ..Self::new((rates, limits), Arc::clone(&metrics), now.at) };
        if let Some(redis) = redis {
            let routes = admission.routes.iter();
            let names = routes.map(|(method, path, _)| format!("{method} {path}")).collect();
            admission.windows = Box::new(Shared::new(redis, names, metrics));
        }
        admission.used.restore(store.used(now.hour()).await?);
        Ok(admission)
    }

    fn new(
        (limits, of_service): (&RateLimit, &Limits),
        metrics: Arc<Metrics>,
        now: Instant,
    ) -> Admission {
        let split = |(route, rate): (&String, &Rate)| {
            let (method, path) = route.split_once(' ')?;
            Some((method.to_owned(), path.to_owned(), *rate))
        };
        let routes: Vec<_> = limits.routes.iter().filter_map(split).collect();
        let windows = Box::new(Local::new(routes.len(), now));
        let (limits, used) = (limits.clone(), used::Used::default());
        let Limits { concurrency, queue_max, bodies_bytes_max, .. } = *of_service;
        let slots = slots::Slots::new(concurrency, queue_max, Arc::clone(&metrics));
        let bodies = Arc::new(bodies::Bodies::new(bodies_bytes_max));
        Admission { enforces: true, windows, limits, routes, used, slots, bodies, metrics }
    }

    /// What rates need beside the requests, for as long as the service runs.
    pub async fn beside(&self) {
        self.windows.beside().await;
    }

    /// Whether anybody is refused.
    pub fn enforces(&self) -> bool {
        self.enforces
    }

    /// The rate of a tenant whose file says `own`.
    pub fn rate(&self, own: Option<Rate>) -> Rate {
        own.unwrap_or_else(|| self.limits.of_tenants())
    }

    /// Counts one request against every rate that applies, or against none. Told is the bucket that
    /// is nearest to its end; nothing where no rate applies.
    pub fn enter(&self, who: Entrant<'_>, now: Moment) -> (Option<Level>, Result<(), Refused>) {
        if !self.enforces {
            return (None, Ok(()));
        }
        let asked = self.asked(who);
        let mut least: Option<Level> = None;
        for (at, ask) in asked.iter().enumerate() {
            let Some((bucket, rate)) = *ask else { continue };
            let level = self.windows.take(bucket, rate, 1, now.at);
            if let Some(wait) = level.wait {
                let taken = asked.iter().take(at).flatten();
                taken.for_each(|(bucket, rate)| self.windows.give_back(*bucket, *rate, 1));
                return (Some(level), Err(self.too_often(who, bucket, (rate, wait), now)));
            }
            let part = |level: &Level| f64::from(level.left) / f64::from(level.rate.burst());
            if least.as_ref().is_none_or(|least| part(&level) <= part(least)) {
                least = Some(level);
            }
        }
        (least, Ok(()))
    }

    /// The buckets that hold `who`, with their rates: its key's, its route's, its tenant's.
    fn asked<'a>(&self, who: Entrant<'a>) -> [Option<(Bucket<'a>, Rate)>; 3] {
        let of_key = who.key.and_then(|key| {
            let rate = self.limits.keys.get(key)?;
            Some((Bucket::Key(key), *rate))
        });
        let of_route = who.tenant.and_then(|(tenant, _)| {
            let same =
                |known: &(String, String, Rate)| (known.0.as_str(), known.1.as_str()) == who.route;
            let route = self.routes.iter().position(same)?;
            let rate = self.routes.get(route)?.2;
            Some((Bucket::Route { tenant: tenant.as_str(), route }, rate))
        });
        let of_tenant =
            who.tenant.map(|(tenant, own)| (Bucket::Tenant(tenant.as_str()), self.rate(own)));
        [of_key, of_route, of_tenant]
    }

    fn too_often(
        &self,
        who: Entrant<'_>,
        bucket: Bucket<'_>,
        (rate, wait): (Rate, Duration),
        now: Moment,
    ) -> Refused {
        let of = match bucket {
            Bucket::Tenant(_) => "the tenant",
            Bucket::Key(_) => "the key",
            Bucket::Route { .. } => "the tenant on this route",
        };
        self.count_refusal(who.tenant.map(|(tenant, _)| tenant), now);
        let (per_minute, burst) = (rate.per_minute, rate.burst());
        let message =
            format!("{of} may ask {per_minute} times a minute, {burst} at once; ask more slowly");
        Refused { error: Error::new(Code::RateLimited, message), wait }
    }

    fn count_refusal(&self, tenant: Option<&TenantId>, now: Moment) {
        self.metrics.rate_limit_exceeded(tenant.map_or("", TenantId::as_str));
        if let Some(tenant) = tenant {
            self.used.of(tenant).refuse(now.hour());
        }
    }

    /// A place among the tenant's requests that are being judged.
    pub fn place(&self, tenant: &TenantId, limits: &Tier, now: Moment) -> Result<Place, Refused> {
        let counts = self.used.of(tenant);
        if counts.enter(limits.concurrent.filter(|_| self.enforces)) {
            return Ok(Place(counts));
        }
        self.count_refusal(Some(tenant), now);
        let most = limits.concurrent.unwrap_or_default();
        let message =
            format!("the tenant may have {most} requests judged at once; wait for an answer");
        let error = Error::new(Code::QuotaExceeded, message);
        Err(Refused { error, wait: Duration::from_secs(1) })
    }

    /// Counts one request to be judged against the tenant's quota of this hour.
    pub fn count(&self, tenant: &TenantId, limits: &Tier, now: Moment) -> Result<Counted, Refused> {
        let quota = limits.requests_per_hour.filter(|_| self.enforces);
        if let Some(burst) = self.used.of(tenant).spend(now.hour(), 1, quota) {
            return Ok(Counted { burst });
        }
        Err(self.over_quota(tenant, quota, now))
    }

    fn over_quota(&self, tenant: &TenantId, quota: Option<u32>, now: Moment) -> Refused {
        self.count_refusal(Some(tenant), now);
        let quota = quota.unwrap_or_default();
        let message = format!(
            "the tenant may have {quota} requests judged in an hour, and {} more as burst; wait \
             for the next hour, or have the quota raised",
            used::burst(quota)
        );
        Refused { error: Error::new(Code::QuotaExceeded, message), wait: now.hour_left() }
    }

    /// A slot among the requests that the service judges at once. Where there is none, it waits for
    /// one by priority and fairly by tenant, while others are refused before it.
    pub async fn slot(
        &self,
        request: &Request,
        weight: f64,
        until: Instant,
    ) -> Result<Slot<'_>, Refused> {
        if let Some(slot) = self.slots.at_once() {
            return Ok(slot);
        }
        let Request { tenant, priority, .. } = request;
        let pieces = request.body.pieces(request.judge, request.content_type);
        let chars: usize = pieces.iter().map(|piece| piece.chars).sum();
        let cost = 1.0 + (chars / COST_CHARS) as f64;
        let claim = queue::Claim { tenant, priority: *priority, weight, cost };
        let turn = self.slots.turn(claim, until).await;
        turn.map_err(|shed| overloaded(shed, Some(*priority)))
    }

    /// Refuses a request before its body is read, where even as `most` it would find no place to wait.
    pub fn hope(&self, most: Priority) -> Result<(), Refused> {
        if !self.slots.is_lost(most) {
            return Ok(());
        }
        self.metrics.shed(None, Shed::QueueFull);
        Err(overloaded(Shed::QueueFull, Some(most)))
    }

    /// Held bytes of a body that says it will have `bytes`; none are held yet.
    pub fn body(&self, bytes: usize) -> Result<Held, Refused> {
        if self.bodies.has_room(bytes) {
            return Ok(Held::none(&self.bodies));
        }
        Err(self.no_room())
    }

    /// The refusal of a body that found no room.
    pub fn no_room(&self) -> Refused {
        self.metrics.shed(None, Shed::Memory);
        overloaded(Shed::Memory, None)
    }

    /// Looks how late this thread's clock rings, and what `others` says of other threads' queues, for
    /// as long as the thread serves. Each serving thread runs one.
    pub async fn keep_pace(&self, others: impl Fn() -> Duration) {
        let (runtime, mut tasks) = (tokio::runtime::Handle::current(), 0);
        loop {
            let mut least = Duration::MAX;
            let began = Instant::now();
            while began.elapsed() < pace::WINDOW {
                let asked = Instant::now();
                tokio::time::sleep(LOOK).await;
                least = least.min(asked.elapsed().saturating_sub(LOOK));
            }
            self.slots.note(least.max(others()), Instant::now());
            let now = runtime.metrics().num_alive_tasks();
            self.metrics.tasks(now as f64 - tasks as f64);
            tasks = now;
        }
    }

    /// How many requests are judged now, and how many may be.
    pub fn busy(&self) -> (usize, usize) {
        self.slots.busy()
    }

    /// What a tenant has spent.
    pub fn spent(&self, tenant: &TenantId, now: Moment) -> Spent {
        self.used.of(tenant).view(now.hour())
    }

    /// What each tenant of `snapshot` that asked this hour had, by name; and Jain's index over what
    /// was judged for its weight, which the gauge shows from then on.
    pub fn fairness(&self, snapshot: &Snapshot, now: Moment) -> (f64, Vec<Share>) {
        let mut shares = self.used.select(|tenant, counts| {
            let spent = counts.view(now.hour());
            if spent.used == 0 && spent.refused == 0 {
                return None;
            }
            let weight = snapshot.catalog.tenants.get(tenant)?.tier.weight;
            Some(Share { tenant: tenant.clone(), weight, spent })
        });
        shares.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        let served: Vec<f64> =
            shares.iter().map(|share| f64::from(share.spent.used) / share.weight).collect();
        let index = fairness::jain(&served);
        self.metrics.fairness(index);
        (index, shares)
    }

    /// Keeps what changed since the last time in `store`, in one batch. What cannot be kept stays
    /// for the next time.
    pub async fn keep(&self, store: &dyn Store) -> Result<(), StoreError> {
        let (rows, counts): (Vec<_>, Vec<_>) = self.used.unkept().into_iter().unzip();
        if rows.is_empty() {
            return Ok(());
        }
        store.keep_used(rows.clone()).await?;
        rows.iter().zip(&counts).for_each(|(row, counts)| counts.note_kept(row));
        Ok(())
    }
}

/// The refusal of a service at its limit; the less urgent come back later.
fn overloaded(shed: Shed, priority: Option<Priority>) -> Refused {
    let message = match shed {
        Shed::QueueFull => "too many requests wait; send it again later",
        Shed::Deadline => "its turn did not come in time; send it again later",
        Shed::Memory => "too much is being read for a body of this size; send it again later",
    };
    let seconds = match priority {
        Some(Priority::Critical | Priority::High) => 1,
        Some(Priority::Normal) | None => 2,
        Some(Priority::Low) => 5,
        Some(Priority::Batch) => 10,
    };
    Refused { error: Error::new(Code::Overloaded, message), wait: Duration::from_secs(seconds) }
}

#[cfg(test)]
mod tests;
