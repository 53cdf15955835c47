//! What is kept for equal requests.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use validator::Validate;

use super::at_least_1_ms;
use crate::yaml::Span;

/// What is kept for equal requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Whether equal requests of a tenant are answered from what detectors said before.
    pub responses: bool,
    /// How long.
    #[validate(custom(function = "at_least_1_ms"))]
    pub ttl: Span,
    /// Memory for it.
    #[validate(range(min = 1_024_u64, max = 1_099_511_627_776_u64))]
    pub bytes_max: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { responses: true, ttl: Span(Duration::from_secs(300)), bytes_max: 16_777_216 }
    }
}
