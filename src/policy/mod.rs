//! Rego layers become units; units answer the decision points.
//!
//! A policy is a pure function of its document: no network, clock, randomness or environment, and
//! no failure of it is ever an allow.

mod agree;
mod answer;
mod apart;
mod archive;
mod background;
mod bounded;
mod builder;
mod bundle;
mod differs;
mod document;
mod entry;
mod evaluator;
mod explain;
mod given;
mod graph;
mod growth;
mod inputs;
mod keys;
mod layers;
pub mod lint;
mod load;
mod memo;
mod prepared;
mod probe;
mod promise;
mod recorded;
mod rego;
mod sample;
mod scan;
mod shape;
mod table;
mod teach;
pub mod testing;
mod threads;
mod tried;
mod unit;
mod validate;
mod walk;
mod watch;
mod workshop;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::action::Action;
use crate::domain::category::Category;
use crate::domain::content::ContentType;
use crate::domain::coverage::Coverage;
use crate::domain::id::{BundleName, DetectorName, TenantId};
use crate::domain::judgement::{JudgedFinding, Judgement};
use crate::domain::outcome::Degraded;
pub use crate::domain::outcome::Explained;
use crate::domain::plan::{CoverageSpec, Execution, ResolveSpec, StopOn};
use crate::domain::report::Report;
use crate::domain::verdict::{Mode, VerdictRules};
use crate::yaml::fault::{Fault, FaultKind};

pub use apart::{Apart, OverlayFaults, OverlayName};
pub use archive::{Archive, PACKED_BYTES_MAX, Refused};
pub use evaluator::Evaluator;
pub use given::{Wrong, complete, wrong};
pub use layers::package as rego_path;
pub use load::{Loaded, Policies, View};
pub use memo::MemoCounts;
pub use recorded::{Document, documents, facts_digest, facts_plain, facts_shown};
pub use tried::{Tried, tried};
pub use validate::{Case, CaseResult, Validation, validate_modules};

/// One file below `policies/`.
#[derive(Debug, Clone)]
pub struct Source {
    /// Relative to `policies/`, parts separated by `/`.
    pub path: String,
    /// Its content.
    pub bytes: Arc<[u8]>,
}

/// Which bundles a tenant may use.
#[derive(Debug, Clone)]
pub struct TenantScope {
    /// The tenant.
    pub id: TenantId,
    /// Its bundles.
    pub bundles: Vec<BundleName>,
}

/// What policies may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of one evaluation.
    pub eval_timeout: Duration,
    /// Threads that evaluate what the memo does not hold, 1..=64.
    pub threads: usize,
    /// Evaluations that may wait for a thread; more fail with `Budget`.
    pub queue: usize,
    /// Answers kept.
    pub memo_entries: usize,
    /// Units with a tenant's own rules whose engines are kept ready.
    pub prepared_max: usize,
    /// Largest file.
    pub source_bytes_max: usize,
    /// Deepest bracket nesting.
    pub depth_max: usize,
    /// Sum of 2^depth over the innermost brackets of one unit.
    pub nesting_sum_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            eval_timeout: Duration::from_millis(50),
            threads: 2,
            queue: 1024,
            memo_entries: 16_384,
            prepared_max: 256,
            source_bytes_max: 256 * 1024,
            depth_max: 10,
            nesting_sum_max: 65_536,
        }
    }
}

/// Longest chain of rules that refer to each other.
const DEPTH_OF_CALLS_MAX: usize = 100;
/// Stack of the threads that parse and evaluate.
const STACK_BYTES: usize = 256 * 1024 * 1024;
/// Deepest value that a rule may answer with.
const ANSWER_LEVELS_MAX: usize = 64;

/// A decision point.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Which detectors to ask.
    Plan,
    /// How to settle disagreement.
    Conflict,
    /// What to do.
    Verdict,
}

impl Point {
    /// The point of that name.
    pub fn parse(name: &str) -> Option<Point> {
        [Point::Plan, Point::Conflict, Point::Verdict].into_iter().find(|p| p.name() == name)
    }

    /// The name in the API and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Point::Plan => "plan",
            Point::Conflict => "conflict",
            Point::Verdict => "verdict",
        }
    }
}

/// What kind of failure an evaluation ended in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The engine refused: a builtin error, a conflict.
    Error,
    /// It took too long.
    TimeOut,
    /// A rule answered something that it may not.
    BadValue,
    /// The engine panicked.
    Panic,
    /// No thread was free in time, or the tenant used up its share.
    Budget,
    /// The tenant's stored overlay no longer fits the files that it stands on.
    Overlay,
}

impl FailureKind {
    /// The kind of that name.
    pub fn parse(name: &str) -> Option<FailureKind> {
        use FailureKind::{BadValue, Budget, Error, Overlay, Panic, TimeOut};
        let all = [Error, TimeOut, BadValue, Panic, Budget, Overlay];
        all.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the same rules fail again on the same document, on any machine.
    pub fn is_repeatable(self) -> bool {
        match self {
            FailureKind::Error | FailureKind::BadValue | FailureKind::Overlay => true,
            FailureKind::TimeOut | FailureKind::Panic | FailureKind::Budget => false,
        }
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::Error => "error",
            FailureKind::TimeOut => "timeout",
            FailureKind::BadValue => "bad_value",
            FailureKind::Panic => "panic",
            FailureKind::Budget => "policy_budget",
            FailureKind::Overlay => "overlay_broken",
        }
    }

    fn probe_code(self) -> &'static str {
        match self {
            FailureKind::Error => "probe_error",
            FailureKind::TimeOut => "probe_timeout",
            FailureKind::BadValue => "probe_bad_value",
            FailureKind::Panic => "probe_panic",
            FailureKind::Budget => "probe_budget",
            FailureKind::Overlay => "probe_overlay",
        }
    }
}

/// A decision point gave no answer. It never means allow: the tenant's modes say what follows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.shown())]
pub struct Failure {
    /// Which point.
    pub point: Point,
    /// How.
    pub kind: FailureKind,
    /// For policy authors alone: the engine's words may quote the document.
    pub message: String,
    /// The policy file, empty if unknown.
    pub file: String,
    /// 1-based line, 0 if unknown.
    pub line: u32,
    /// 1-based column, 0 if unknown.
    pub column: u32,
}

impl Failure {
    /// One that a record tells of.
    pub fn recorded(point: Point, kind: FailureKind) -> Self {
        Self::new(point, kind, "as recorded")
    }

    fn new(point: Point, kind: FailureKind, message: &str) -> Self {
        let message = message.to_owned();
        Failure { point, kind, message, file: String::new(), line: 0, column: 0 }
    }

    /// What the log and the caller may see: where, and what kind of trouble, never a value.
    fn shown(&self) -> String {
        let (point, kind) = (self.point.name(), self.kind.name());
        let why = match self.kind {
            FailureKind::TimeOut
            | FailureKind::Budget
            | FailureKind::Panic
            | FailureKind::Overlay => &self.message,
            FailureKind::BadValue => self.message.split(':').next().unwrap_or_default(),
            FailureKind::Error => "",
        };
        let gap = if why.is_empty() { "" } else { ": " };
        match self.file.as_str() {
            "" => format!("{point} rules: {kind}{gap}{why}"),
            file => {
                let (line, column) = (self.line, self.column);
                format!("{point} rules: {kind}{gap}{why} at {file}:{line}:{column}")
            }
        }
    }

    /// The same with the engine's words, for an author who brought the document.
    pub fn taught(&self) -> String {
        match self.kind {
            FailureKind::Error | FailureKind::BadValue => format!("{self}: {}", self.message),
            FailureKind::TimeOut
            | FailureKind::Budget
            | FailureKind::Panic
            | FailureKind::Overlay => self.to_string(),
        }
    }

    /// What an answer says of it: a broken overlay once, whatever the point.
    pub fn degraded(&self) -> Degraded {
        match self.kind {
            FailureKind::Overlay => Degraded { what: self.kind.name(), why: self.message.clone() },
            FailureKind::Error
            | FailureKind::TimeOut
            | FailureKind::BadValue
            | FailureKind::Panic
            | FailureKind::Budget => Degraded { what: "policy", why: self.to_string() },
        }
    }
}

/// What plan rules may know of a visible detector.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorFacts {
    /// Its name.
    pub name: DetectorName,
    /// Its version.
    pub version: Arc<str>,
    /// Its protocol's name.
    pub protocol: &'static str,
    /// What it judges.
    pub types: BTreeSet<ContentType>,
    /// What it can find.
    pub categories: BTreeSet<Category>,
    /// Relative cost.
    pub cost: f64,
    /// In conflicts.
    pub weight: f64,
}

/// The strategy of the request's event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StrategyFacts<'a> {
    /// The event.
    pub event: &'a str,
    /// Its detectors.
    pub detectors: &'a [DetectorName],
    /// Its order.
    pub execution: Execution,
    /// Its early end.
    pub stop_on: StopOn,
}

/// The checked answer of the plan point.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanAnswer {
    /// Reasons to refuse the request.
    pub deny: BTreeSet<String>,
    /// Counted in coverage; unknown names stay in.
    pub required: BTreeSet<DetectorName>,
    /// Asked.
    pub optional: BTreeSet<DetectorName>,
    /// Asked when coverage falls short.
    pub secondary: BTreeSet<DetectorName>,
    /// Not asked; the floor's required ones still are.
    pub skip: BTreeSet<DetectorName>,
    /// Order; `None` takes the strategy's.
    pub execution: Option<Execution>,
    /// Groups asked one after the other.
    pub stages: Vec<Vec<DetectorName>>,
    /// Early end; `None` takes the strategy's.
    pub stop_on: Option<StopOn>,
    /// Coverage wanted.
    pub coverage: CoverageSpec,
    /// Per category or `*`.
    pub resolve: BTreeMap<String, ResolveSpec>,
    /// Per detector.
    pub timeouts: BTreeMap<DetectorName, Duration>,
    /// Per category or `*`, 0..=1.
    pub thresholds: BTreeMap<String, f64>,
    /// Per detector.
    pub params: BTreeMap<DetectorName, serde_json::Value>,
    /// `settings.mode`; `None` takes the tenant's.
    pub mode: Option<Mode>,
    /// What the floor demands.
    pub floor: FloorPlan,
    /// What was dropped.
    pub degraded: Vec<Degraded>,
}

/// What the floor demands of every plan.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FloorPlan {
    /// Detectors nobody may leave out.
    pub required: BTreeSet<DetectorName>,
    /// Coverage of those, 0..=1.
    pub min_coverage: f64,
    /// The least action a tenant may set for incomplete coverage.
    pub on_incomplete: Option<Action>,
}

/// What the verdict point is asked about.
#[derive(Debug, Clone, Copy)]
pub struct VerdictFacts<'a> {
    /// Findings after thresholds, votes by scope.
    pub judgement: &'a Judgement,
    /// Findings before thresholds, for the floor; ids are positions in this list.
    pub raw: &'a [JudgedFinding],
    /// Every asked detector's report.
    pub reports: &'a [Report],
    /// The measured coverage.
    pub coverage: &'a Coverage,
}

/// The checked answer of the verdict point.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VerdictAnswer {
    /// The layers' entries.
    pub rules: VerdictRules,
    /// What was dropped.
    pub degraded: Vec<Degraded>,
}

/// The answer of `POST /policies/evaluate`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Evaluated {
    /// The merged rules; for the verdict also `action`.
    pub result: serde_json::Value,
    /// The layers asked, earliest first.
    pub layers: Vec<String>,
    /// Time in the engine, in microseconds.
    pub eval_us: u64,
    /// Which rule of which layer held, with its value.
    pub explain: Vec<Explained>,
}

fn fault(
    file: &str,
    (line, column): (u32, u32),
    code: &'static str,
    message: impl Into<String>,
    hint: &str,
) -> Fault {
    Fault {
        kind: FaultKind::Policy,
        file: file.to_owned(),
        line,
        column,
        code,
        message: message.into(),
        hint: (!hint.is_empty()).then(|| hint.to_owned()),
    }
}
