//! What is kept of a decision: canonical JSON without content, from which every decision point can
//! be asked again.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::bare::Bare;
use super::shapes::{
    ConflictShown, CoverageShown, FindingShown, HeadShown, List, Map, ReportShown, ScopeShown,
    VotesShown,
};
use crate::domain::action::Action;
use crate::domain::category::Category;
use crate::domain::digest::Digest;
use crate::domain::id::DetectorName;
use crate::domain::judgement::{Choice, JudgedFinding, ScopeState};
use crate::domain::outcome::{Degraded, Outcome};
use crate::domain::plan::{CoverageSpec, Execution, Plan, ResolveSpec, StopOn};
use crate::domain::verdict::{Joined, Mode, Verdict};
use crate::policy::DetectorFacts;
use crate::policy::{FailureKind, StrategyFacts, View, facts_shown};
use crate::seal::{SealError, canonical};

/// Integers beyond it do not come back from canonical JSON as they were.
const EXACT_MAX: u64 = 1 << 53;

/// What the points were asked besides what the outcome holds, and what became of it.
#[derive(Debug)]
pub struct Trail {
    /// The plan point failed; the default plan was used.
    pub plan_failed: Option<FailureKind>,
    /// What the conflict point was asked, where it was.
    pub conflict: Option<Conflict>,
    /// The verdict point failed; the tenant's mode decided.
    pub verdict_failed: Option<FailureKind>,
    /// Findings before thresholds, which the floor saw.
    pub raw: Vec<JudgedFinding>,
    /// What the rules were joined with.
    pub joined: Joined,
    /// Whether `joined.plan_failure` comes of a time-out that the request brought.
    pub hurried: bool,
}

/// The conflict point.
#[derive(Debug)]
pub struct Conflict {
    /// What it was asked about.
    pub scopes: BTreeMap<Category, ScopeState>,
    /// What it chose.
    pub said: Result<BTreeMap<Category, Choice>, FailureKind>,
}

/// A decision on its way into a record.
#[derive(Clone, Copy)]
pub struct Decided<'a> {
    /// The record's id, a uuid v7.
    pub id: &'a str,
    /// When, RFC 3339 UTC with milliseconds.
    pub at: &'a str,
    /// Who asked, as audits name it.
    pub actor: &'a str,
    /// To the content.
    pub commitment: Digest,
    /// Everything that was decided.
    pub outcome: &'a Outcome,
    /// What the points were asked.
    pub trail: &'a Trail,
    /// What decided.
    pub view: &'a View,
    /// What plan documents said of detectors, and the digest of that.
    pub detectors: (&'a [DetectorFacts], Digest),
    /// The strategy of the request's event.
    pub strategy: Option<StrategyFacts<'a>>,
    /// Parameters that the request brought, by detector.
    pub wished: &'a BTreeMap<DetectorName, serde_json::Value>,
}

/// The record in canonical form.
///
/// # Errors
/// When a number is not finite, which no outcome holds.
pub fn write(decided: &Decided<'_>) -> Result<Vec<u8>, SealError> {
    canonical(&Record::of(decided, &Bare::of(decided)))
}

/// What a record says of a plan.
///
/// # Errors
/// As [`write()`].
pub fn plan_kept(plan: &Plan) -> Result<Vec<u8>, SealError> {
    canonical(&PlanShown::of(plan, &|_| false))
}

/// What a record says of a verdict.
///
/// # Errors
/// As [`write()`].
pub fn verdict_kept(verdict: &Verdict) -> Result<Vec<u8>, SealError> {
    canonical(&VerdictShown::of(verdict, true))
}

type Findings<'a> = List<'a, JudgedFinding, fn(usize, &'a JudgedFinding) -> FindingShown<'a>>;
type Reports<'a> = List<
    'a,
    crate::domain::report::Report,
    fn(usize, &'a crate::domain::report::Report) -> ReportShown<'a>,
>;
type Choices<'a> = Map<'a, Category, Choice, fn(&'a Choice) -> ChoiceShown<'a>>;
type Scopes<'a, S> = Map<'a, Category, ScopeState, fn(&'a ScopeState) -> S>;

#[derive(Serialize)]
struct Record<'a> {
    v: u8,
    id: &'a str,
    tenant: &'a str,
    request_id: &'a str,
    at: &'a str,
    actor: &'a str,
    policy: &'a str,
    revision: &'a str,
    layers: &'a [String],
    commitment: String,
    reproducible: bool,
    /// Whether attributes of findings were left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    withheld: bool,
    plan: PlanShown<'a>,
    reports: Reports<'a>,
    /// Those that were only observed, and had answered by then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shadows: Vec<ReportShown<'a>>,
    coverage: CoverageShown<'a>,
    findings: Findings<'a>,
    /// Findings before thresholds where they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<Findings<'a>>,
    resolution: Resolution<'a>,
    joined: JoinedShown,
    verdict: VerdictShown<'a>,
    #[serde(skip_serializing_if = "<[Degraded]>::is_empty")]
    degraded: &'a [Degraded],
    points: Points<'a>,
}

impl<'a> Record<'a> {
    fn of(decided: &Decided<'a>, bare: &'a Bare<'a>) -> Self {
        let Decided { outcome, trail, .. } = *decided;
        let opt_in = &outcome.head.opt_in;
        let exact = opt_in.metadata.iter().flatten().all(|(_, value)| is_exact(value));
        let reproducible = opt_in.content.is_none() && exact;
        let scopes = &outcome.judgement.scopes;
        let observed = outcome.shadows.iter().filter(|report| !report.is_decided());
        Self {
            v: 1,
            id: decided.id,
            tenant: outcome.head.tenant.id.as_str(),
            request_id: outcome.request_id.as_str(),
            at: decided.at,
            actor: decided.actor,
            policy: outcome.policy.as_str(),
            revision: &outcome.revision,
            layers: &outcome.layers,
            commitment: decided.commitment.hex(),
            reproducible,
            withheld: bare.withheld,
            plan: PlanShown::of(&outcome.plan, &|name| {
                !reproducible || decided.wished.contains_key(name)
            }),
            reports: List(&outcome.reports, ReportShown::of),
            shadows: observed.map(|report| ReportShown::of(0, report)).collect(),
            coverage: CoverageShown::of(&outcome.coverage),
            findings: List(&bare.findings, FindingShown::of),
            raw: (bare.raw != bare.findings).then_some(List(&bare.raw, FindingShown::of)),
            resolution: Resolution {
                categories: Map(scopes, ScopeShown::of),
                conflicts: scopes.iter().filter_map(ConflictShown::of).collect(),
            },
            joined: JoinedShown::of(&trail.joined, trail.hurried),
            verdict: VerdictShown::of(&outcome.verdict, reproducible),
            degraded: &outcome.degraded,
            points: Points::of(decided, exact, reproducible),
        }
    }
}

/// Whether canonical JSON, whose numbers are doubles, keeps the value.
fn is_exact(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => {
            let whole = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            whole.is_none_or(|whole| whole <= EXACT_MAX)
        }
        serde_json::Value::Array(items) => items.iter().all(is_exact),
        serde_json::Value::Object(fields) => fields.values().all(is_exact),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::String(_) => true,
    }
}

/// The plan that was followed. Of parameters only digests: those of a request are `null`.
#[derive(Serialize)]
struct PlanShown<'a> {
    required: &'a BTreeSet<DetectorName>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    floor_required: &'a BTreeSet<DetectorName>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    optional: &'a BTreeSet<DetectorName>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    secondary: &'a BTreeSet<DetectorName>,
    execution: Execution,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stages: &'a [Vec<DetectorName>],
    stop_on: StopOn,
    coverage: &'a CoverageSpec,
    min_coverage: f64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    resolve: &'a BTreeMap<String, ResolveSpec>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    timeouts_ms: BTreeMap<&'a DetectorName, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    thresholds: &'a BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    params: BTreeMap<&'a DetectorName, Option<Hashed>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    versions: &'a BTreeMap<DetectorName, std::sync::Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    relaxed: &'a [String],
}

impl<'a> PlanShown<'a> {
    fn of(plan: &'a Plan, hidden: &dyn Fn(&DetectorName) -> bool) -> Self {
        let hashed = |(name, params): (&'a DetectorName, &serde_json::Value)| {
            (name, (!hidden(name)).then(|| Hashed::of(params)))
        };
        let ms = |(name, timeout): (&'a DetectorName, &std::time::Duration)| {
            (name, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
        };
        Self {
            required: &plan.required,
            floor_required: &plan.floor_required,
            optional: &plan.optional,
            secondary: &plan.secondary,
            execution: plan.execution,
            stages: &plan.stages,
            stop_on: plan.stop_on,
            coverage: &plan.coverage,
            min_coverage: plan.min_coverage,
            resolve: &plan.resolve,
            timeouts_ms: plan.timeouts.iter().map(ms).collect(),
            thresholds: &plan.thresholds,
            params: plan.params.iter().map(hashed).collect(),
            versions: &plan.versions,
            event: plan.event.as_deref(),
            relaxed: &plan.relaxed,
        }
    }
}

/// What stands for a value that can be found elsewhere.
#[derive(Serialize)]
struct Hashed {
    sha256: String,
}

impl Hashed {
    fn of(value: &serde_json::Value) -> Self {
        Digest::of(&canonical(value).unwrap_or_default()).into()
    }
}

impl From<Digest> for Hashed {
    fn from(digest: Digest) -> Self {
        Hashed { sha256: digest.hex() }
    }
}

#[derive(Serialize)]
struct Resolution<'a> {
    categories: Scopes<'a, ScopeShown<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<ConflictShown<'a>>,
}

#[derive(Serialize)]
struct JoinedShown {
    on_incomplete: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor_on_incomplete: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_failure: Option<Action>,
    mode: Mode,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    hurried: bool,
}

impl JoinedShown {
    fn of(joined: &Joined, hurried: bool) -> Self {
        let Joined { on_incomplete, floor_on_incomplete, plan_failure, mode } = *joined;
        Self { on_incomplete, floor_on_incomplete, plan_failure, mode, hurried }
    }
}

#[derive(Serialize)]
struct VerdictShown<'a> {
    action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    would: Option<Action>,
    reasons: Vec<ReasonShown<'a>>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    redact: &'a BTreeSet<u32>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    floor_redact: &'a BTreeSet<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    obligations: Option<&'a serde_json::Map<String, serde_json::Value>>,
}

#[derive(Serialize)]
struct ReasonShown<'a> {
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

impl<'a> VerdictShown<'a> {
    /// What a policy that reads content could have written into words stays out.
    fn of(verdict: &'a Verdict, words: bool) -> Self {
        let Verdict { action, would, reasons, redact, floor_redact, obligations, .. } = verdict;
        let reason = |reason: &'a crate::domain::verdict::Reason| ReasonShown {
            code: &reason.code,
            message: words.then_some(reason.message.as_str()),
        };
        Self {
            action: *action,
            would: *would,
            reasons: reasons.iter().map(reason).collect(),
            redact,
            floor_redact,
            obligations: Some(obligations).filter(|all| words && !all.is_empty()),
        }
    }
}

/// What each decision point was asked. A document is `head`, what stands here under the point's
/// name, `settings` for the layers, and the parts of the record that `reads` names.
#[derive(Serialize)]
struct Points<'a> {
    head: HeadShown<'a>,
    settings: Hashed,
    plan: PlanAsked<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict: Option<ConflictAsked<'a>>,
    verdict: Read,
    floor: Read,
}

#[derive(Serialize)]
struct PlanAsked<'a> {
    detectors: Detectors,
    #[serde(skip_serializing_if = "Option::is_none")]
    strategy: Option<StrategyShown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Detectors {
    Hashed(Hashed),
    /// With how they fared, which no source tells.
    Whole(serde_json::Value),
}

#[derive(Serialize)]
struct StrategyShown<'a> {
    event: &'a str,
    detectors: &'a [DetectorName],
    execution: Execution,
    stop_on: StopOn,
}

#[derive(Serialize)]
struct ConflictAsked<'a> {
    categories: Scopes<'a, VotesShown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<Choices<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'static str>,
}

#[derive(Serialize)]
pub(super) struct ChoiceShown<'a> {
    strategy: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    winner: Option<&'a str>,
}

impl<'a> ChoiceShown<'a> {
    pub(super) fn of(choice: &'a Choice) -> Self {
        Self { strategy: &choice.strategy, winner: choice.winner.as_deref() }
    }
}

#[derive(Serialize)]
struct Read {
    reads: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'static str>,
}

impl<'a> Points<'a> {
    fn of(decided: &Decided<'a>, exact: bool, reproducible: bool) -> Self {
        let Decided { outcome, trail, view, detectors, strategy, .. } = *decided;
        let head = &outcome.head;
        let name = |kind: Option<FailureKind>| kind.map(FailureKind::name);
        let conflict = trail.conflict.as_ref().map(|conflict| {
            let said = conflict.said.as_ref();
            let choices: Option<Choices<'a>> = said
                .ok()
                .filter(|_| reproducible)
                .map(|choices| Map(choices, ChoiceShown::of as _));
            ConflictAsked {
                categories: Map(&conflict.scopes, VotesShown::of),
                choices,
                failed: name(said.err().copied()),
            }
        });
        Self {
            head: HeadShown::of(head, exact),
            settings: view.settings_digest().into(),
            plan: PlanAsked {
                detectors: match head.opt_in.health.is_empty() {
                    true => Detectors::Hashed(detectors.1.into()),
                    false => Detectors::Whole(facts_shown(detectors.0, head)),
                },
                strategy: strategy.map(|facts| StrategyShown {
                    event: facts.event,
                    detectors: facts.detectors,
                    execution: facts.execution,
                    stop_on: facts.stop_on,
                }),
                failed: name(trail.plan_failed),
            },
            conflict,
            verdict: Read { reads: view.verdict_reads(), failed: name(trail.verdict_failed) },
            floor: Read { reads: view.floor_reads(), failed: None },
        }
    }
}

/// What a record says of what a conflict point chose.
///
/// # Errors
/// As [`write()`].
pub fn choices_kept(choices: &BTreeMap<Category, Choice>) -> Result<Vec<u8>, SealError> {
    canonical(&Map(choices, ChoiceShown::of))
}
