//! How work that waits is carried out.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use validator::Validate;

use super::at_least_100_ms;
use crate::yaml::Span;

/// How work that waits is carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Jobs {
    /// Jobs that each instance carries out at once; 0 carries out none.
    #[validate(range(max = 1_000))]
    pub workers: usize,
    /// Between looks for jobs that other instances took in; its own begin at once.
    #[validate(custom(function = "at_least_100_ms"))]
    pub poll: Span,
    /// How long an instance may be silent before others carry out its jobs.
    #[validate(custom(function = "at_least_100_ms"))]
    pub lease: Span,
    /// Jobs that may wait, of all tenants; then 503.
    #[validate(range(min = 1, max = 100_000_000))]
    pub queued_max: u32,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            workers: 10,
            poll: Span(Duration::from_secs(1)),
            lease: Span(Duration::from_secs(10)),
            queued_max: 100_000,
        }
    }
}
