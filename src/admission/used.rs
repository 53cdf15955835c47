//! What each tenant has had judged this hour, is having judged now, and was refused.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::id::TenantId;
use crate::store::HourUsed;

const SHARDS: usize = 32;

/// The counts of one tenant.
#[derive(Debug, Default)]
pub(super) struct Counts {
    used: Hourly,
    refused: Hourly,
    refused_in_a_row: AtomicU32,
    running: AtomicU32,
    /// What of `used` the store has.
    kept: AtomicU64,
}

/// A count of one hour, packed so that both change together: hours since 1970, then the count.
#[derive(Debug, Default)]
struct Hourly(AtomicU64);

fn packed(hour: u32, count: u32) -> u64 {
    u64::from(hour) << 32 | u64::from(count)
}

fn unpacked(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

impl Hourly {
    /// The hour that counts at `hour`, and its count. A clock set back by up to an hour keeps the
    /// later hour, so that nobody gains by it; one that was wrong by more begins anew.
    fn at(value: u64, hour: u32) -> (u32, u32) {
        let (found, count) = unpacked(value);
        if found == hour || found == hour.saturating_add(1) { (found, count) } else { (hour, 0) }
    }

    fn read(&self, hour: u32) -> u32 {
        Self::at(self.0.load(Ordering::Relaxed), hour).1
    }

    /// Counts `many` unless that were more than `most`; the new count.
    fn add(&self, hour: u32, many: u32, most: Option<u32>) -> Option<u32> {
        let next = |value| {
            let (hour, count) = Self::at(value, hour);
            let room = most.is_none_or(|most| count.saturating_add(many) <= most);
            room.then(|| packed(hour, count.saturating_add(many)))
        };
        let added = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok();
        added.map(|before| Self::at(before, hour).1.saturating_add(many))
    }

    /// Takes back what was counted in that hour.
    fn less(&self, hour: u32, many: u32) {
        let next = |value| {
            let (found, count) = Self::at(value, hour);
            Some(packed(found, count.saturating_sub(many)))
        };
        // The closure never refuses.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

impl Counts {
    /// Counts `many` requests of `hour` within `limit` and a fifth more; whether any was of that fifth.
    pub(super) fn spend(&self, hour: u32, many: u32, limit: Option<u32>) -> Option<bool> {
        let most = limit.map(|limit| limit.saturating_add(burst(limit)));
        let count = self.used.add(hour, many, most)?;
        self.refused_in_a_row.store(0, Ordering::Relaxed);
        Some(limit.is_some_and(|limit| count > limit))
    }

    /// Takes back what was counted for what is not judged.
    pub(super) fn unspend(&self, hour: u32, many: u32) {
        self.used.less(hour, many);
    }

    pub(super) fn refuse(&self, hour: u32) {
        self.refused.add(hour, 1, None);
        self.refused_in_a_row.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one of `most` places.
    pub(super) fn enter(&self, most: Option<u32>) -> bool {
        let next = |running: u32| {
            most.is_none_or(|most| running < most).then(|| running.saturating_add(1))
        };
        self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    pub(super) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn view(&self, hour: u32) -> Spent {
        Spent {
            used: self.used.read(hour),
            refused: self.refused.read(hour),
            refused_in_a_row: self.refused_in_a_row.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
        }
    }
}

/// What passes beyond a quota of `limit`.
pub(super) fn burst(limit: u32) -> u32 {
    limit / 5
}

/// What a tenant has spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Requests judged in this hour.
    pub used: u32,
    /// Requests refused in this hour, by rate, quota or for want of a place.
    pub refused: u32,
    /// Refusals since the last request that was judged.
    pub refused_in_a_row: u32,
    /// Requests being judged.
    pub running: u32,
}

/// The counts of every tenant that ever asked. A known tenant is found under a shared lock.
#[derive(Default)]
pub(super) struct Used {
    hasher: RandomState,
    shards: [RwLock<HashMap<TenantId, Arc<Counts>>>; SHARDS],
}

impl Used {
    pub(super) fn of(&self, tenant: &TenantId) -> Arc<Counts> {
        let at = self.hasher.hash_one(tenant.as_str()) as usize % SHARDS;
        let Some(shard) = self.shards.get(at) else { return Arc::default() };
        if let Some(counts) = shard.read().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Arc::clone(counts);
        }
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(shard.entry(tenant.clone()).or_default())
    }

    /// What `pick` finds, over every tenant.
    pub(super) fn select<T>(&self, pick: impl Fn(&TenantId, &Arc<Counts>) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            found.extend(shard.iter().filter_map(|(tenant, counts)| pick(tenant, counts)));
        }
        found
    }

    /// Takes up what an earlier process kept.
    pub(super) fn restore(&self, rows: Vec<HourUsed>) {
        for row in rows {
            let (counts, value) = (self.of(&row.tenant), packed(row.hour, row.used));
            counts.used.0.store(value, Ordering::Relaxed);
            counts.kept.store(value, Ordering::Relaxed);
        }
    }

    /// What the store does not have yet, and how to note that it has.
    pub(super) fn unkept(&self) -> Vec<(HourUsed, Arc<Counts>)> {
        self.select(|tenant, counts| {
            let value = counts.used.0.load(Ordering::Relaxed);
            let (hour, used) = unpacked(value);
            let row = || HourUsed { tenant: tenant.clone(), hour, used };
            let new = value != counts.kept.load(Ordering::Relaxed);
            new.then(|| (row(), Arc::clone(counts)))
        })
    }
}

impl Counts {
    pub(super) fn note_kept(&self, row: &HourUsed) {
        self.kept.store(packed(row.hour, row.used), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_hundred_pass_then_a_fifth_as_burst_then_nothing_until_the_hour_is_over() {
        let counts = Counts::default();
        let spent: Vec<Option<bool>> = (0..700).map(|_| counts.spend(9, 1, Some(500))).collect();
        assert!(spent[..500].iter().all(|spent| *spent == Some(false)));
        assert!(spent[500..600].iter().all(|spent| *spent == Some(true)), "the 501st is burst");
        assert!(spent[600..].iter().all(Option::is_none), "the 601st is refused");
        assert_eq!(counts.view(9).used, 600);
        assert_eq!(counts.spend(10, 1, Some(500)), Some(false));
        assert_eq!(counts.view(10).used, 1);
        assert_eq!((burst(4), burst(5), burst(9)), (0, 1, 1), "rounded down");
    }

    #[test]
    fn a_clock_set_back_gives_nothing_back_and_a_wrong_one_freezes_nobody() {
        let counts = Counts::default();
        for _ in 0..6 {
            counts.spend(100, 1, Some(5));
        }
        assert_eq!(counts.spend(99, 1, Some(5)), None, "the hour before is over");
        assert_eq!(counts.spend(200_000, 1, Some(5)), Some(false));
        assert_eq!(counts.spend(100, 1, Some(5)), Some(false), "the clock was set right");
        assert_eq!(counts.spend(u32::MAX - 1, 1, Some(5)), Some(false));
    }

    #[test]
    fn places_are_taken_and_left() {
        let counts = Counts::default();
        assert!(counts.enter(Some(2)) && counts.enter(Some(2)) && !counts.enter(Some(2)));
        counts.leave();
        assert!(counts.enter(Some(2)) && counts.enter(None));
        assert_eq!(counts.view(0).running, 3);
    }

    #[test]
    fn only_what_changed_is_to_be_kept() {
        let used = Used::default();
        let acme = TenantId::parse("acme").unwrap();
        let row = |used| HourUsed { tenant: acme.clone(), hour: 7, used };
        used.restore(vec![row(3)]);
        assert!(used.unkept().is_empty());
        used.of(&acme).spend(7, 1, Some(5));
        let unkept = used.unkept();
        assert_eq!(unkept.iter().map(|(row, _)| row.clone()).collect::<Vec<_>>(), [row(4)]);
        used.of(&acme).spend(7, 1, Some(5));
        unkept[0].1.note_kept(&unkept[0].0);
        assert_eq!(used.unkept()[0].0, row(5), "what came meanwhile is not forgotten");
    }
}
