//! From reports to what the verdict is asked about: thresholds, merged findings, votes by scope.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::category::Category;
use super::conflict::{Candidate, Resolved, Settled};
use super::finding::{Place, Severity, TextView};
use super::id::DetectorName;

/// A finding as decided on: at or above its threshold, merged over detectors.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedFinding {
    /// Position in the list, from 0.
    pub id: u32,
    /// What it is about.
    pub category: Category,
    /// The label of the surest detector.
    pub label: Arc<str>,
    /// The highest score.
    pub score: f64,
    /// The highest severity.
    pub severity: Severity,
    /// Who found it, in name order.
    pub detectors: Vec<DetectorName>,
    /// Where; `None` speaks of the whole request.
    pub place: Option<Place>,
    /// JSON pointer of the place's piece.
    pub pointer: Option<Arc<str>>,
    /// The view it was made on.
    pub view: Option<TextView>,
    /// The non-identifying part.
    pub attributes: BTreeMap<String, String>,
    /// False when its scope resolved `clear`.
    pub standing: bool,
}

/// How one scope stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeState {
    /// The resolved score.
    pub score: f64,
    /// The highest severity among its findings.
    pub severity: Option<Severity>,
    /// Everyone who may vote and answered.
    pub voters: Vec<DetectorName>,
    /// Who flagged.
    pub flagged_by: Vec<DetectorName>,
    /// Who cleared.
    pub cleared_by: Vec<DetectorName>,
    /// Planned voters that did not answer.
    pub unjudged_by: Vec<DetectorName>,
    /// The votes.
    pub candidates: Vec<Candidate>,
    /// The result.
    pub resolved: Resolved,
    /// The arithmetic behind it; `None` where a quorum alone decided.
    pub settled: Option<Settled>,
    /// Strategy name, or `quorum`.
    pub strategy: String,
}

/// What the verdict is asked about.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judgement {
    /// Sorted by span, category, detector; ids are positions.
    pub findings: Vec<JudgedFinding>,
    /// Per scope: first-level categories, and deeper ones that the plan names.
    pub scopes: BTreeMap<Category, ScopeState>,
    /// Summary label over all detectors, distinct labels joined by `|` in plan order, or `none`.
    pub label: String,
    /// What was worked around, such as an unknown strategy name.
    pub degraded: BTreeSet<String>,
}
