//! How much of what the plan required was really judged.

use super::category::Category;
use super::content::Piece;
use super::id::DetectorName;
use super::plan::{CoverageMethod, Plan};
use super::report::Report;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why coverage is incomplete; the first that holds is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CoverageCode {
    /// The request deadline ended a required call still inside its own time-out.
    Deadline,
    /// Nothing answered and nothing was sent.
    AllDetectorsUnavailable,
    /// Nothing answered.
    DetectorCommunicationFailed,
    /// Anything else.
    PartialCoverage,
}

/// One gap: something that a required detector did not judge, or a piece that nobody judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unjudged {
    /// Which piece, when the gap is one piece's.
    pub pointer: Option<Arc<str>>,
    /// Which required detector; `None` when nobody judged the piece.
    pub detector: Option<DetectorName>,
    /// Why: a report's reason, or `no_detector`.
    pub reason: &'static str,
}

/// The measured coverage.
#[derive(Debug, Clone, PartialEq)]
pub struct Coverage {
    /// How it was measured.
    pub method: CoverageMethod,
    /// What the plan wanted, 0..=1.
    pub threshold: f64,
    /// What was reached, 0..=1.
    pub achieved: f64,
    /// Whether it suffices: the plan's threshold, the floor's, and every piece judged by someone.
    pub complete: bool,
    /// Why not.
    pub code: Option<CoverageCode>,
    /// Required detectors, in name order.
    pub required: Vec<DetectorName>,
    /// Required detectors that judged nothing or not all.
    pub missing: Vec<DetectorName>,
    /// Every gap, also when complete.
    pub unjudged: Vec<Unjudged>,
}

/// The categories each known detector can judge.
pub type Abilities = BTreeMap<DetectorName, BTreeSet<Category>>;

/// Comparison slack for sums of decimal weights.
pub const EPSILON: f64 = 1e-9;
