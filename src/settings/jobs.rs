//! How work that waits is carried out.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use validator::{Validate, ValidationError};

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
    /// How long an instance may be silent before others carry out its jobs; three of its beats at least.
    #[validate(custom(function = "at_least_three_beats"))]
    pub lease: Span,
    /// Jobs that may wait, of all tenants; then 503.
    #[validate(range(min = 1, max = 100_000_000))]
    pub queued_max: u32,
}

/// Between beats at most: each brings what callers want of jobs that run elsewhere.
pub const BEAT_MAX: Duration = Duration::from_secs(1);

fn at_least_three_beats(span: &Span) -> Result<(), ValidationError> {
    if span.0 >= 3 * BEAT_MAX {
        return Ok(());
    }
    let told = "must be at least 3s: an instance says every second that it lives";
    Err(ValidationError::new("range").with_message(told.into()))
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
