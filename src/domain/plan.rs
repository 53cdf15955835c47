//! Which detectors to ask, how, under what budget, and what is required.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::category::Category;
use super::id::DetectorName;

/// In which order detectors are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// All at once.
    #[default]
    Parallel,
    /// One after the other, in the order of `stages` or else by name.
    Sequential,
    /// Stage after stage, cheap ones first.
    Cascade,
}

/// What ends a run before every detector was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopOn {
    /// Nothing.
    #[default]
    None,
    /// A block that no later answer can change.
    Block,
}

/// How coverage is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoverageMethod {
    /// Share of the required detectors.
    #[default]
    RequiredSet,
    /// Share of the required detectors' weights.
    #[serde(alias = "weighted_coverage")]
    Weighted,
    /// Share of the needed categories.
    #[serde(alias = "taxonomy_coverage")]
    Taxonomy,
}

/// What coverage the plan asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoverageSpec {
    /// How it is measured.
    pub method: CoverageMethod,
    /// Below it the answer is incomplete; 0..=1.
    pub threshold: f64,
    /// Weight per required detector, missing ones 1.0; `weighted` only.
    pub weights: BTreeMap<DetectorName, f64>,
    /// Needed categories; `taxonomy` only.
    pub categories: BTreeSet<Category>,
    /// Detectors that may stand in for a required one.
    pub substitutes: BTreeMap<DetectorName, Vec<DetectorName>>,
}

impl Default for CoverageSpec {
    fn default() -> Self {
        Self {
            method: CoverageMethod::RequiredSet,
            threshold: 1.0,
            weights: BTreeMap::new(),
            categories: BTreeSet::new(),
            substitutes: BTreeMap::new(),
        }
    }
}

impl CoverageSpec {
    /// What is out of range, for people.
    pub fn fault(&self) -> Option<&'static str> {
        if !(0.0..=1.0).contains(&self.threshold) {
            return Some("its threshold is not between 0 and 1");
        }
        (!are_weights(&self.weights)).then_some(NO_WEIGHT)
    }
}

const NO_WEIGHT: &str = "a weight is not between 0 and 1000000";

fn are_weights(weights: &BTreeMap<DetectorName, f64>) -> bool {
    weights.values().all(|weight| (0.0..=1e6).contains(weight))
}

/// How disagreement between detectors is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The surest answer.
    HighestConfidence,
    /// The highest weighted mean.
    WeightedAverage,
    /// The most voters.
    MajorityVote,
    /// The most severe label.
    MostRestrictive,
    /// The preferred detector.
    TenantPreference,
    /// The required detectors, if they agree.
    RequiredDetectorConsensus,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Strategy; 6] = [
        Strategy::HighestConfidence,
        Strategy::WeightedAverage,
        Strategy::MajorityVote,
        Strategy::MostRestrictive,
        Strategy::TenantPreference,
        Strategy::RequiredDetectorConsensus,
    ];

    /// The name in the API and in Rego.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::HighestConfidence => "highest_confidence",
            Strategy::WeightedAverage => "weighted_average",
            Strategy::MajorityVote => "majority_vote",
            Strategy::MostRestrictive => "most_restrictive",
            Strategy::TenantPreference => "tenant_preference",
            Strategy::RequiredDetectorConsensus => "required_detector_consensus",
        }
    }

    /// The strategy of that name.
    pub fn parse(name: &str) -> Option<Strategy> {
        Strategy::ALL.into_iter().find(|strategy| strategy.name() == name)
    }
}

/// How one scope is settled. An unknown strategy name is kept, and falls back at run time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResolveSpec {
    /// Strategy name; `None` takes the content type's default.
    pub strategy: Option<String>,
    /// Flags needed; decides instead of the strategy.
    pub quorum: Option<u32>,
    /// Weight per detector, missing ones by the detector's file.
    pub weights: BTreeMap<DetectorName, f64>,
    /// Wins ties, or everything under `tenant_preference`.
    pub preferred_detector: Option<DetectorName>,
    /// Rank per label; higher is more severe.
    pub severity_rank: BTreeMap<String, f64>,
    /// Groups whose highest score lies below are dropped.
    pub min_score: f64,
}

impl ResolveSpec {
    /// What is out of range, for people.
    pub fn fault(&self) -> Option<&'static str> {
        if !(0.0..=1.0).contains(&self.min_score) {
            return Some("its min_score is not between 0 and 1");
        }
        if self.quorum.is_some_and(|votes| !(1..=64).contains(&votes)) {
            return Some("its quorum is not between 1 and 64");
        }
        if !self.severity_rank.values().all(|rank| rank.abs() <= 1e6) {
            return Some("a severity_rank is beyond a million");
        }
        (!are_weights(&self.weights)).then_some(NO_WEIGHT)
    }
}

/// The plan of one orchestration, checked against the catalog.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Plan {
    /// Counted in coverage: policy, floor and request together, before any health filter.
    pub required: BTreeSet<DetectorName>,
    /// The floor's part of `required`.
    pub floor_required: BTreeSet<DetectorName>,
    /// Asked, not counted.
    pub optional: BTreeSet<DetectorName>,
    /// Asked when coverage after the others falls short.
    pub secondary: BTreeSet<DetectorName>,
    /// Order.
    pub execution: Execution,
    /// Groups asked one after the other; what no stage names comes last.
    pub stages: Vec<Vec<DetectorName>>,
    /// Early end.
    pub stop_on: StopOn,
    /// What coverage is wanted.
    pub coverage: CoverageSpec,
    /// Coverage of `floor_required` that the floor wants, 0..=1.
    pub min_coverage: f64,
    /// Per category, or `*`.
    pub resolve: BTreeMap<String, ResolveSpec>,
    /// Per detector, replacing its file's.
    pub timeouts: BTreeMap<DetectorName, Duration>,
    /// Per category (or `*`), 0..=1; the most specific one holds.
    pub thresholds: BTreeMap<String, f64>,
    /// Parameters per detector, passed on as they are.
    pub params: BTreeMap<DetectorName, serde_json::Value>,
    /// The version that each detector with several is asked by.
    pub versions: BTreeMap<DetectorName, Arc<str>>,
    /// The event whose strategy was used.
    pub event: Option<String>,
    /// What the caller loosened, as JSON pointers into the request.
    pub relaxed: Vec<String>,
}

impl Plan {
    /// The threshold of `category`: the plan's most specific entry or its `*`, else the tenant's,
    /// else 0.5.
    pub fn threshold(&self, category: &Category, tenant: &BTreeMap<String, f64>) -> f64 {
        let find = |table: &BTreeMap<String, f64>| {
            let mut names = category.path().chain(std::iter::once("*"));
            names.find_map(|name| table.get(name).copied())
        };
        find(&self.thresholds).or_else(|| find(tenant)).unwrap_or(0.5)
    }

    /// Required and optional detectors in name order: what is asked first.
    pub fn primary(&self) -> impl Iterator<Item = &DetectorName> {
        self.required.union(&self.optional)
    }
}
