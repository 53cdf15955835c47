//! Plan, reports, coverage, resolution and verdict together.

use std::time::Duration;

use super::coverage::Coverage;
use super::head::Head;
use super::id::{BundleName, RequestId};
use super::judgement::Judgement;
use super::log::Recorded;
use super::plan::Plan;
use super::redaction::Redacted;
use super::report::Report;
use super::verdict::Verdict;

/// Something the service worked around, named in the answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Degraded {
    /// What: `policy`, `resolve`, `strategy`, `value`, `cache`, `evidence`.
    pub what: &'static str,
    /// Why, for people.
    pub why: String,
}

/// One rule that held.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Explained {
    /// Whose rule.
    pub layer: String,
    /// Which.
    pub rule: String,
    /// What it gave.
    pub value: serde_json::Value,
    /// Where it is written: `file:line:column`, one per definition.
    pub positions: Vec<String>,
}

/// The result of one orchestration.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The request's id.
    pub request_id: RequestId,
    /// What policies were told.
    pub head: Head,
    /// The bundle that decided.
    pub policy: BundleName,
    /// The snapshot's revision.
    pub revision: String,
    /// The layers that were asked.
    pub layers: Vec<String>,
    /// What was to be judged.
    pub pieces: std::sync::Arc<[super::content::Piece]>,
    /// The plan.
    pub plan: Plan,
    /// Every asked detector's report, in plan order.
    pub reports: Vec<Report>,
    /// What those that are only observed have said by then; it counts nowhere.
    pub shadows: Vec<Report>,
    /// What was judged.
    pub coverage: Coverage,
    /// What was found, and how disagreement was settled.
    pub judgement: Judgement,
    /// The decision.
    pub verdict: Verdict,
    /// The request's body with what must go replaced; present when the action is redact or the
    /// caller asked for it.
    pub redacted: Option<Redacted>,
    /// How each detector stood when it was asked; filled when the caller wants the plan.
    pub health: Vec<(super::id::DetectorName, &'static str)>,
    /// How long such a plan takes by what was observed; filled when the caller wants the plan.
    pub projected: Option<Duration>,
    /// Which rules of which layer held; filled when the caller asks for it.
    pub explain: Vec<Explained>,
    /// What was worked around.
    pub degraded: Vec<Degraded>,
    /// Whether the reports were known before.
    pub cache: CacheUse,
    /// Where the record of it is; filled when the caller wants it.
    pub evidence: Option<Recorded>,
    /// From request to decision.
    pub duration: Duration,
    /// `duration` less the slowest required detector.
    pub overhead: Duration,
}

impl Outcome {
    /// Whether a detector's answer came from an equal call of another request.
    pub fn coalesced(&self) -> bool {
        self.reports.iter().any(|report| report.coalesced)
    }
}

/// What the cache of detectors' reports did for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    /// There is none.
    Off,
    /// The request is critical, or wants nothing that others asked for.
    Bypass,
    /// Detectors were asked.
    Miss,
    /// An equal request had been answered.
    Hit,
}

impl CacheUse {
    /// The name in answers, logs and metrics; empty without a cache.
    pub fn name(self) -> &'static str {
        match self {
            CacheUse::Off => "",
            CacheUse::Bypass => "bypass",
            CacheUse::Miss => "miss",
            CacheUse::Hit => "hit",
        }
    }
}
