//! What a detector found.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::category::Category;
use super::span::Span;

/// How bad a finding is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Worth acting on.
    #[default]
    Medium,
    /// Harmful.
    High,
    /// Harmful at once.
    Critical,
}

impl Severity {
    /// The name in the API and in Rego.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// Whether a label speaks against the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Polarity {
    /// It does: a finding.
    #[default]
    Positive,
    /// It says that the content is clean: no finding.
    Negative,
}

/// Which form of the text a finding was made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextView {
    /// As sent.
    Raw,
    /// Unicode normalised.
    Normalized,
    /// Decoded from an encoding inside the text.
    Decoded,
}

/// Where a finding lies: which judged piece, and which code points of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Index into the request's pieces.
    pub piece: usize,
    /// The characters; `None` speaks of the whole piece.
    pub span: Option<Span>,
}

/// One finding of one detector, before thresholds. It never holds the matched text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about.
    pub category: Category,
    /// The detector's own word, upper snake case for built-in ones; shown in redaction.
    pub label: Arc<str>,
    /// How sure the detector is, finite, 0..=1.
    pub score: f64,
    /// How bad it is.
    pub severity: Severity,
    /// Where it is; `None` speaks of the whole request.
    pub place: Option<Place>,
    /// The view it was made on; `None` is the raw text.
    pub view: Option<TextView>,
    /// The non-identifying part only: e-mail and url → `domain`, phone and iban → `country`,
    /// card → `issuer`.
    pub attributes: BTreeMap<String, String>,
}
