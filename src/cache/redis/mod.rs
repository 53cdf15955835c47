//! What instances share through Redis: values, and tokens of rates. Redis is a cache, never the only
//! place of anything: while it is away, memory of the instance stands in.
//!
//! What lies there is believed only where this service wrote it: each value carries a keyed hash of
//! itself and its name. Names are keyed hashes. Nothing is published, subscribed or queued.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use deadpool_redis::redis::{self, Cmd, FromRedisValue, Script};
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::memory::{Counts, count};
use super::{Cache, CacheStats, Memory};
use crate::domain::digest::Digest;
use crate::metrics::Metrics;
use crate::seal::{self, Key};

mod lend;
mod link;
#[cfg(test)]
mod tests;

pub use lend::Lent;
use link::{Link, Used};

/// Bytes of a keyed hash.
const HASH_BYTES: usize = 32;
/// Most bytes of a value; a longer one is not kept.
const VALUE_BYTES_MAX: usize = 256 * 1024;
/// Most bytes of a generation.
const GENERATION_BYTES_MAX: usize = 64;
/// Between two looks, while it answers.
const LOOK: Duration = Duration::from_secs(1);
/// Until the first look after a failure; doubles up to [`LOOK`].
const RETRY: Duration = Duration::from_millis(100);

/// What Redis is reached by, and what stands in for it.
pub struct RedisOptions {
    /// `redis://` or `rediss://`, with its password.
    pub url: SecretString,
    /// PEM with the authority of the server's certificate; the public ones unless set.
    pub ca_file: Option<PathBuf>,
    /// The same at every instance.
    pub key: Key,
    /// How long a value is kept.
    pub ttl: Duration,
    /// Memory for what stands in, in bytes.
    pub bytes_max: u64,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Why Redis cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// Not an address.
    #[error("redis.url is no address of Redis; write redis://:PASSWORD@HOST:6379, or rediss://")]
    BadAddress,
    /// The address says that nobody's certificate is looked at.
    #[error("redis.url says #insecure, which would believe any server; use redis.ca_file")]
    Insecure,
    /// The file of the authority is of no use.
    #[error("reading redis.ca_file `{file}`: {reason}")]
    Authority {
        /// As given.
        file: String,
        /// Why.
        reason: String,
    },
}

/// Values and tokens that instances share.
pub struct Redis {
    link: Link,
    key: Key,
    ttl: Duration,
    script: Script,
    /// Stands in while Redis rests.
    memory: Memory,
    counts: Counts,
    /// The generation that was seen last.
    seen: Mutex<Vec<u8>>,
    /// Whether everything is to be forgotten as soon as Redis answers.
    owes: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Redis {
    /// Connects to nothing yet: [`Redis::look`] does.
    pub fn new(options: RedisOptions) -> Result<Redis, RedisError> {
        Ok(Redis {
            link: Link::new(&options)?,
            key: options.key,
            ttl: options.ttl,
            script: lend::script(),
            memory: Memory::new(options.ttl, options.bytes_max),
            counts: Counts::default(),
            seen: Mutex::default(),
            owes: AtomicBool::new(false),
            metrics: options.metrics,
        })
    }

    /// Whether nobody asks it now, since it failed or did not answer yet.
    pub fn rests(&self) -> bool {
        self.link.used().is_none()
    }

    /// Looks whether Redis answers, for as long as the service runs.
    pub async fn keep(&self) {
        let mut pause = RETRY;
        loop {
            if self.look().await {
                pause = RETRY;
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = self.link.broken() => tokio::time::sleep(RETRY).await,
                }
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOK);
            }
        }
    }

    /// Connects where nothing is connected, and learns what others have forgotten. Whether Redis
    /// is used from now on. Takes seconds where Redis is away.
    pub async fn look(&self) -> bool {
        let before = self.link.used();
        let used = match &before {
            Some(used) => Arc::clone(used),
            None => match self.link.connect().await {
                Some(used) => used,
                None => return false,
            },
        };
        let Some(generation) = self.generation(&used).await else {
            self.link.rest(&used, "it refuses what it is asked");
            return false;
        };
        self.forget_unless(&generation).await;
        if before.is_none() || used.generation != generation {
            let connection = used.connection.clone();
            self.link.replace(before.as_ref(), Used { connection, generation });
        }
        true
    }

    /// The generation that all instances agree on.
    async fn generation(&self, used: &Arc<Used>) -> Option<Vec<u8>> {
        let name = self.name("generation", &[]);
        if self.owes.swap(false, Ordering::Relaxed) && self.renew(used).await.is_none() {
            self.owes.store(true, Ordering::Relaxed);
            return None;
        }
        for _ in 0..2 {
            let get = read(&name, GENERATION_BYTES_MAX);
            let found: Vec<u8> = self.ask(used, &get).await?;
            if !found.is_empty() {
                return Some(found);
            }
            // Redis was emptied: one of the instances begins anew.
            let mut begin = redis::cmd("SET");
            begin.arg(&name).arg(fresh()).arg("NX");
            self.ask::<redis::Value>(used, &begin).await?;
        }
        None
    }

    /// Has every instance forget every value.
    async fn renew(&self, used: &Arc<Used>) -> Option<Vec<u8>> {
        let generation = fresh().into_bytes();
        let mut set = redis::cmd("SET");
        set.arg(self.name("generation", &[])).arg(&generation);
        self.ask::<()>(used, &set).await?;
        Some(generation)
    }

    /// What stood in must not outlive what another instance forgot.
    async fn forget_unless(&self, generation: &[u8]) {
        let is_known = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let is_known = *seen == generation;
            generation.clone_into(&mut seen);
            is_known
        };
        if !is_known {
            self.memory.clear().await;
        }
    }

    async fn ask<T: FromRedisValue>(&self, used: &Arc<Used>, command: &Cmd) -> Option<T> {
        let mut connection = used.connection.clone();
        self.link.wait(used, command.query_async(&mut connection)).await
    }

    /// A name in Redis, which tells nobody what it stands for.
    fn name(&self, kind: &'static str, parts: &[&[u8]]) -> String {
        let hash = self.key.hash([kind.as_bytes()].into_iter().chain(parts.iter().copied()));
        format!("orch:1:{kind}:{}", hex::encode(hash))
    }

    fn value_name(&self, used: &Used, key: Digest) -> String {
        self.name("value", &[&used.generation, key.as_bytes()])
    }

    fn tag(&self, name: &str, value: &[u8]) -> [u8; HASH_BYTES] {
        self.key.hash([&b"tag"[..], name.as_bytes(), value])
    }

    /// The value in `found`, if this service wrote it under this name.
    fn opened(&self, name: &str, found: Vec<u8>) -> Option<Bytes> {
        let (tag, value) = found.split_at_checked(HASH_BYTES)?;
        seal::same(tag, &self.tag(name, value)).then(|| Bytes::from(found).slice(HASH_BYTES..))
    }

    async fn find(&self, used: &Arc<Used>, key: Digest) -> Option<Bytes> {
        let name = self.value_name(used, key);
        let found: Vec<u8> = self.ask(used, &read(&name, HASH_BYTES + VALUE_BYTES_MAX)).await?;
        self.opened(&name, found)
    }

    fn stand_in(&self) -> &Memory {
        self.metrics.redis_fallback();
        &self.memory
    }
}

impl Cache for Redis {
    fn get(&self, key: Digest) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            if let Some(used) = self.link.used() {
                let found = self.find(&used, key).await;
                if found.is_some() || !self.rests() {
                    let counts = &self.counts;
                    count(if found.is_some() { &counts.hits } else { &counts.misses });
                    return found;
                }
            }
            self.stand_in().get(key).await
        })
    }

    fn put(&self, key: Digest, value: Bytes) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(used) = self.link.used() else {
                return self.stand_in().put(key, value).await;
            };
            if value.len() > VALUE_BYTES_MAX {
                return;
            }
            count(&self.counts.loads);
            let name = self.value_name(&used, key);
            let sealed = [&self.tag(&name, &value)[..], &value].concat();
            let ttl_ms = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
            let mut set = redis::cmd("SET");
            set.arg(&name).arg(sealed).arg("PX").arg(ttl_ms.max(1));
            self.ask::<()>(&used, &set).await;
        })
    }

    /// At every instance within a second; where Redis rests, at the others when it is back.
    fn clear(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            count(&self.counts.invalidations);
            self.memory.clear().await;
            let renewed = match self.link.used() {
                Some(used) => self.renew(&used).await.map(|generation| (used, generation)),
                None => None,
            };
            match renewed {
                Some((used, generation)) => {
                    let connection = used.connection.clone();
                    self.link.replace(Some(&used), Used { connection, generation });
                }
                None => self.owes.store(true, Ordering::Relaxed),
            }
        })
    }

    /// Entries, room and evictions are those of the memory that stands in.
    fn stats(&self) -> BoxFuture<'_, CacheStats> {
        Box::pin(async move {
            let stands_in = self.memory.stats().await;
            let (shared, told) = (&self.counts, super::memory::told);
            CacheStats {
                hits: stands_in.hits + told(&shared.hits),
                misses: stands_in.misses + told(&shared.misses),
                loads: stands_in.loads + told(&shared.loads),
                invalidations: told(&shared.invalidations),
                ..stands_in
            }
        })
    }
}

/// Reads so many bytes and no more, whatever lies there.
fn read(name: &str, bytes_max: usize) -> Cmd {
    let mut command = redis::cmd("GETRANGE");
    command.arg(name).arg(0).arg(bytes_max - 1);
    command
}

/// A generation that never was.
fn fresh() -> String {
    uuid::Uuid::now_v7().to_string()
}
