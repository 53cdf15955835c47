//! What policies may cost, and where they come from.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use validator::{Validate, ValidationError};

use crate::yaml::Span;

/// What a policy may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Of one evaluation.
    #[validate(custom(function = "super::at_least_1_ms"))]
    pub eval_timeout: Span,
    /// Threads that evaluate what the memo does not know.
    #[validate(range(min = 1, max = 64))]
    pub threads: usize,
    /// Answers kept.
    #[validate(range(min = 1, max = 10_000_000))]
    pub memo_entries: usize,
    /// Versions kept of one stored overlay.
    #[validate(range(min = 1, max = 10_000))]
    pub versions_max: u64,
    /// Whether changes of overlays serve only after another person's review.
    pub require_review: bool,
    /// Units with a tenant's own rules whose engines are kept ready; others are compiled again when
    /// they are asked.
    #[validate(range(min = 1, max = 100_000))]
    pub prepared_max: usize,
    /// The tree from elsewhere, instead of `paths.policies`.
    #[validate(nested)]
    pub remote: Remote,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            eval_timeout: Span(Duration::from_millis(50)),
            threads: 2,
            memo_entries: 10_000,
            versions_max: 50,
            require_review: false,
            prepared_max: 256,
            remote: Remote::default(),
        }
    }
}

/// A policy tree that is published as a signed bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[validate(schema(function = "signed"))]
pub struct Remote {
    /// Where the bundle is, http or https; `paths.policies` unless set.
    pub url: Option<String>,
    /// Between two looks; each is up to a tenth later.
    #[validate(custom(function = "at_least_1_s"))]
    pub interval: Span,
    /// PEM with the Ed25519 key that signs bundles, read at each look; a bundle in
    /// `paths.policies` needs its signature too.
    pub public_key_file: Option<PathBuf>,
}

impl Default for Remote {
    fn default() -> Self {
        Self { url: None, interval: Span(Duration::from_secs(60)), public_key_file: None }
    }
}

fn at_least_1_s(span: &Span) -> Result<(), ValidationError> {
    if span.0 >= Duration::from_secs(1) {
        return Ok(());
    }
    Err(ValidationError::new("range").with_message("must be at least 1s".into()))
}

fn signed(remote: &Remote) -> Result<(), ValidationError> {
    if remote.url.is_none() || remote.public_key_file.is_some() {
        return Ok(());
    }
    let message = "needs `public_key_file`: what comes over a network is served only signed";
    Err(ValidationError::new("unsigned").with_message(message.into()))
}
