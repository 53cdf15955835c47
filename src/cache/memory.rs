//! The cache of one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use moka::notification::RemovalCause;

use super::{Cache, CacheStats};
use crate::domain::digest::Digest;

/// What an entry takes beside its value, about.
const ENTRY_BYTES: usize = 256;

/// Values in memory, bounded by bytes; those least asked for go first.
pub struct Memory {
    values: moka::sync::Cache<Digest, Bytes>,
    ttl: Duration,
    counts: Arc<Counts>,
}

/// What happened since the start.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) loads: AtomicU64,
    evictions: AtomicU64,
    pub(super) invalidations: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn told(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Memory {
    /// An empty one; each value is kept for `ttl`, all together take `bytes_max` at most.
    pub fn new(ttl: Duration, bytes_max: u64) -> Memory {
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let gone = move |_, _, cause| match cause {
            RemovalCause::Expired | RemovalCause::Size => count(&counted.evictions),
            RemovalCause::Explicit | RemovalCause::Replaced => {}
        };
        let weigh = |_: &Digest, value: &Bytes| {
            u32::try_from(value.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let values = moka::sync::Cache::builder()
            .max_capacity(bytes_max)
            .weigher(weigh)
            .time_to_live(ttl)
            .eviction_listener(gone)
            .build();
        Memory { values, ttl, counts }
    }
}

impl Cache for Memory {
    fn get(&self, key: Digest) -> BoxFuture<'_, Option<Bytes>> {
        let found = self.values.get(&key);
        count(if found.is_some() { &self.counts.hits } else { &self.counts.misses });
        Box::pin(ready(found))
    }

    fn put(&self, key: Digest, value: Bytes) -> BoxFuture<'_, ()> {
        count(&self.counts.loads);
        self.values.insert(key, value);
        Box::pin(ready(()))
    }

    fn clear(&self) -> BoxFuture<'_, ()> {
        count(&self.counts.invalidations);
        self.values.invalidate_all();
        Box::pin(ready(()))
    }

    fn stats(&self) -> BoxFuture<'_, CacheStats> {
        // Otherwise what is gone would be counted until somebody asks for it.
        self.values.run_pending_tasks();
        Box::pin(ready(CacheStats {
            entries: self.values.entry_count(),
            capacity: self.values.policy().max_capacity().unwrap_or_default(),
            hits: told(&self.counts.hits),
            misses: told(&self.counts.misses),
            loads: told(&self.counts.loads),
            evictions: told(&self.counts.evictions),
            invalidations: told(&self.counts.invalidations),
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Digest {
        Digest::of(&number.to_ne_bytes())
    }

    #[tokio::test]
    async fn what_was_put_is_found_until_everything_is_forgotten() {
        let cache = Memory::new(Duration::from_secs(300), 1 << 20);
        assert_eq!(cache.get(key(1)).await, None);
        cache.put(key(1), Bytes::from_static(b"one")).await;
        assert_eq!(cache.get(key(1)).await.as_deref(), Some(&b"one"[..]));
        assert_eq!(cache.get(key(2)).await, None);
        let stats = cache.stats().await;
        assert_eq!((stats.entries, stats.hits, stats.misses, stats.loads), (1, 1, 2, 1));
        cache.clear().await;
        assert_eq!(cache.get(key(1)).await, None);
        let stats = cache.stats().await;
        assert_eq!((stats.entries, stats.evictions, stats.invalidations), (0, 0, 1));
    }

    #[tokio::test]
    async fn values_take_no_more_than_their_room() {
        let (room, size) = (100_000, 744);
        let cache = Memory::new(Duration::from_secs(300), room);
        for number in 0..1000 {
            cache.put(key(number), vec![0; size].into()).await;
        }
        let stats = cache.stats().await;
        assert!((1..=100).contains(&stats.entries), "{stats:?}");
        assert_eq!(stats.evictions + stats.entries, 1000);
        cache.put(key(1), vec![0; 200_000].into()).await;
        let stats = cache.stats().await;
        assert!(stats.entries <= 100 && cache.get(key(1)).await.is_none(), "{stats:?}");
    }

    #[tokio::test]
    async fn a_value_is_gone_after_its_time() {
        let cache = Memory::new(Duration::from_nanos(1), 1 << 20);
        cache.put(key(1), Bytes::from_static(b"one")).await;
        assert_eq!(cache.get(key(1)).await, None);
        assert_eq!(cache.stats().await.entries, 0);
    }
}
