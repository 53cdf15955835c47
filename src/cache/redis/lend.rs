//! Tokens of buckets that instances share, lent by the generic cell rate algorithm.

use std::time::Duration;

use deadpool_redis::redis::Script;

use super::Redis;
use crate::settings::Rate;

/// Redis runs it whole, by its own clock.
const SCRIPT: &str = include_str!("lend.lua");

pub(super) fn script() -> Script {
    Script::new(SCRIPT)
}

/// What a bucket that instances share gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent {
    /// Tokens, at most as many as were wanted.
    pub granted: u32,
    /// Until it has another one.
    pub next_in: Duration,
    /// Until it is full again.
    pub full_in: Duration,
}

impl Redis {
    /// Up to `wanted` tokens of the bucket that `parts` name; `None` where Redis rests or refuses.
    pub async fn lend(&self, parts: &[&[u8]], rate: Rate, wanted: u32) -> Option<Lent> {
        let used = self.link.used()?;
        let name = self.name("rate", parts);
        let mut invocation = self.script.key(name);
        invocation.arg(rate.per_minute).arg(rate.burst()).arg(wanted);
        let mut connection = used.connection.clone();
        let asking = invocation.invoke_async::<(u32, u64, u64)>(&mut connection);
        let (granted, next_us, full_us) = self.link.wait(&used, asking).await?;
        // Whatever answered, no bucket needs longer than this to fill.
        let longest = Duration::from_secs(60) * rate.burst() / rate.per_minute.max(1);
        Some(Lent {
            granted: granted.min(wanted),
            next_in: Duration::from_micros(next_us).min(longest),
            full_in: Duration::from_micros(full_us).min(longest),
        })
    }
}
