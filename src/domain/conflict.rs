//! Settles different outputs of several detectors in one scope.

use super::category::Category;
use super::content::ContentType;
use super::id::DetectorName;
use super::plan::{ResolveSpec, Strategy};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One detector's vote in a scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Who.
    pub detector: DetectorName,
    /// What it says; `clean` where it says nothing else.
    pub label: Arc<str>,
    /// How sure, 0..=1; `None` counts 0.
    pub score: Option<f64>,
}

/// What else the arithmetic needs to know about a scope.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// How the policy wants it settled.
    pub spec: ResolveSpec,
    /// Decides the default strategy.
    pub content_type: ContentType,
    /// Weights of the detectors' files; `spec.weights` come first, missing ones are 1.0.
    pub file_weights: BTreeMap<DetectorName, f64>,
    /// The plan's required detectors.
    pub required: BTreeSet<DetectorName>,
}

/// The answer of the arithmetic.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The strategy as reported: `required_detector_consensus->highest_confidence` for a fallback.
    pub strategy: &'static str,
    /// The winning label; `None` without candidates, or when `min_score` dropped them all.
    pub winner: Option<Arc<str>>,
    /// Who stands for it.
    pub detector: Option<DetectorName>,
    /// The winning score: the winning detector's own, or a consensus' minimum.
    pub score: Option<f64>,
    /// Such as `majority_vote->alphabetical`.
    pub tie_breaker: Option<&'static str>,
    /// Distance to the runner-up.
    pub delta: f64,
    /// N(o) per label.
    pub normalized: BTreeMap<Arc<str>, f64>,
    /// Whether an unknown strategy name was replaced by the type's default.
    pub unknown_strategy: bool,
}

/// How a scope stands after all votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolved {
    /// Something speaks against the content.
    Flagged,
    /// Nothing does.
    Clear,
    /// The votes do not suffice.
    Unresolved,
}

impl Resolved {
    /// The name in the API and in Rego.
    pub fn name(self) -> &'static str {
        match self {
            Resolved::Flagged => "flagged",
            Resolved::Clear => "clear",
            Resolved::Unresolved => "unresolved",
        }
    }
}
