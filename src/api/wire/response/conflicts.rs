//! Settled disagreements, under `include: conflicts`.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::judgement::ScopeState;
use crate::domain::outcome::Outcome;

/// A settled disagreement.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conflict)]
pub struct WireConflict<'a> {
    /// `category:<name>`.
    pub scope: String,
    /// How it was settled.
    pub strategy: &'a str,
    /// The votes.
    pub candidates: Vec<WireCandidate<'a>>,
    /// The winning label; absent when a quorum decided or nothing won.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner: Option<&'a str>,
    /// Who stands for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detector: Option<&'a str>,
    /// How a tie was broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tie_breaker: Option<&'a str>,
    /// Distance to the runner-up.
    pub delta: f64,
    /// flagged, clear or unresolved.
    pub resolved: &'a str,
}

/// One vote.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Candidate)]
pub struct WireCandidate<'a> {
    /// Who.
    pub detector: &'a str,
    /// What.
    pub label: &'a str,
    /// How sure.
    pub score: Option<f64>,
}

pub(super) fn of(outcome: &Outcome) -> Vec<WireConflict<'_>> {
    outcome
        .judgement
        .scopes
        .iter()
        .filter(|(_, scope)| disagree(scope))
        .map(|(category, scope)| {
            let settled = scope.settled.as_ref();
            WireConflict {
                scope: format!("category:{category}"),
                strategy: &scope.strategy,
                candidates: scope
                    .candidates
                    .iter()
                    .map(|candidate| WireCandidate {
                        detector: candidate.detector.as_str(),
                        label: &candidate.label,
                        score: candidate.score,
                    })
                    .collect(),
                winner: settled.and_then(|settled| settled.winner.as_deref()),
                detector: settled.and_then(|s| s.detector.as_ref().map(|name| name.as_str())),
                tie_breaker: settled.and_then(|settled| settled.tie_breaker),
                delta: settled.map_or(0.0, |settled| settled.delta),
                resolved: scope.resolved.name(),
            }
        })
        .collect()
}

fn disagree(scope: &ScopeState) -> bool {
    scope.candidates.windows(2).any(|pair| match pair {
        [a, b] => a.label != b.label,
        _ => false,
    })
}
