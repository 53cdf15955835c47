//! How decisions are put on record.

use serde::{Deserialize, Serialize};
use validator::Validate;

/// How decisions are put on record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Evidence {
    /// Bytes of the file in which records wait while the store is away.
    #[validate(range(min = 1_048_576_u64, max = 1_099_511_627_776_u64))]
    pub spool_bytes_max: u64,
    /// Records that may wait in memory.
    #[validate(range(min = 256, max = 1_000_000))]
    pub queue_max: u64,
    /// Bytes of them.
    #[validate(range(min = 1_048_576_u64, max = 1_099_511_627_776_u64))]
    pub queue_bytes_max: u64,
    /// Bytes of records that memory holds while neither the store nor that file takes them; beyond
    /// them they are lost. A record counts its own bytes and 512.
    #[validate(range(min = 1_048_576_u64, max = 1_099_511_627_776_u64))]
    pub held_bytes_max: u64,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            spool_bytes_max: 67_108_864,
            queue_max: 8_192,
            queue_bytes_max: 67_108_864,
            held_bytes_max: 67_108_864,
        }
    }
}
