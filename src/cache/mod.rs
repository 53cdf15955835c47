//! What may be forgotten at any time, kept for a while under keys that nobody can guess.
//!
//! Trouble with a cache is never an error: nothing is found, nothing is kept.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::domain::digest::Digest;

mod memory;
mod redis;
/// A real server, for the tests of those who use one.
#[cfg(test)]
#[path = "../../tests/redis/mod.rs"]
pub(crate) mod redis_server;

pub use self::redis::{Lent, Redis, RedisError, RedisOptions};
pub use memory::Memory;

/// Values by key, each for a limited time.
pub trait Cache: Send + Sync {
    /// What is kept under `key`.
    fn get(&self, key: Digest) -> BoxFuture<'_, Option<Bytes>>;
    /// Keeps `value`; it may be gone at once.
    fn put(&self, key: Digest, value: Bytes) -> BoxFuture<'_, ()>;
    /// Forgets everything.
    fn clear(&self) -> BoxFuture<'_, ()>;
    /// How it fares.
    fn stats(&self) -> BoxFuture<'_, CacheStats>;
}

/// How a cache fares; counts are since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Values kept now.
    pub entries: u64,
    /// Bytes that values and their keys may take.
    pub capacity: u64,
    /// Looks that found something.
    pub hits: u64,
    /// Looks that found nothing.
    pub misses: u64,
    /// Values that were put in.
    pub loads: u64,
    /// Values that went because of time or room.
    pub evictions: u64,
    /// Times everything was forgotten.
    pub invalidations: u64,
    /// How long a value is kept, in milliseconds.
    pub ttl_ms: u64,
}
