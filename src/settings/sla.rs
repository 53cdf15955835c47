//! How long requests may take.

use serde::{Deserialize, Serialize};
use validator::Validate;

/// Deadline of a request by priority, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Sla {
    /// Critical.
    #[validate(range(min = 10, max = 300_000))]
    pub critical_ms: u64,
    /// Normal and high.
    #[validate(range(min = 10, max = 300_000))]
    pub normal_ms: u64,
    /// Low and batch.
    #[validate(range(min = 10, max = 300_000))]
    pub low_ms: u64,
    /// Jobs, and requests that may become one.
    #[validate(range(min = 10, max = 300_000))]
    pub async_ms: u64,
}

impl Default for Sla {
    fn default() -> Self {
        Self { critical_ms: 1000, normal_ms: 2000, low_ms: 5000, async_ms: 30_000 }
    }
}
