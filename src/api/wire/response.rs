//! The answer to `POST /orchestrate`, rendered from an `Outcome`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::action::Action;
use crate::domain::content::{Body, Piece};
use crate::domain::coverage::Unjudged;
use crate::domain::finding::{Finding, Place};
use crate::domain::judgement::JudgedFinding;
use crate::domain::outcome::{CacheUse, Degraded, Explained, Outcome};
use crate::domain::report::Report;
use crate::domain::request::{Include, Request};
use crate::domain::span::{OffsetUnit, Offsets};
use crate::domain::verdict::Reason;

mod conflicts;
mod evidence;

pub use conflicts::{WireCandidate, WireConflict};
pub use evidence::{WireEvidence, WireReceipt};

/// The decision, and why.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrchestrateResponse)]
pub struct Answer<'a> {
    /// The request's id.
    pub request_id: &'a str,
    /// Whether the content may go on: the action is allow, flag or redact.
    pub allowed: bool,
    /// allow, flag, redact, review or block.
    #[schema(value_type = String)]
    pub action: Action,
    /// What the action would be without monitor mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub would: Option<Action>,
    /// The redacted content, in the shape it was sent: a text, or a list of parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub content: Option<&'a Body>,
    /// The redacted messages, in the shape they were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub messages: Option<&'a Body>,
    /// Under `redaction: {style: numbered}`: what each placeholder stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub redactions: Option<&'a BTreeMap<String, String>>,
    /// Why, strictest first.
    #[schema(value_type = Vec<ReasonSchema>)]
    pub reasons: &'a [Reason],
    /// What was found, by place.
    pub findings: Vec<WireFinding<'a>>,
    /// How much of what was required was judged.
    pub coverage: WireCoverage<'a>,
    /// Every gap in what was to be judged: `content`, or the messages that `judge` names. What of it is
    /// not named here was judged. Earlier messages, tools, context and identifiers are not to be judged.
    pub unjudged: Vec<WireUnjudged<'a>>,
    /// Which policy decided, in which revision.
    pub policy: PolicyRef<'a>,
    /// What the service worked around.
    #[serde(skip_serializing_if = "<[Degraded]>::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub degraded: &'a [Degraded],
    /// `hit` where detectors had been asked about an equal request in the last minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'static str>,
    /// True where a detector's answer came from an equal call of another request under way.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub coalesced: bool,
    /// What the caller loosened, as JSON pointers into the request.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub relaxed: &'a [String],
    /// What the policy asks the caller to do besides.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    #[schema(value_type = Object)]
    pub obligations: &'a serde_json::Map<String, serde_json::Value>,
    /// Under `include: detectors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detectors: Option<Vec<WireReport<'a>>>,
    /// Under `include: plan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<WirePlan<'a>>,
    /// Under `include: conflicts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Vec<WireConflict<'a>>>,
    /// Under `include: explain`: which rules of which layer held, where they stand, what they gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub explain: Option<&'a [Explained]>,
    /// Under `include: evidence`: where the decision is recorded, and what shows that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<WireEvidence<'a>>,
    /// From request to answer, in milliseconds.
    pub duration_ms: f64,
}

/// A reason.
#[derive(ToSchema)]
#[schema(as = Reason)]
pub struct ReasonSchema {
    /// Stable: a category, a rule's name, or `coverage.incomplete`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// One finding.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Finding)]
pub struct WireFinding<'a> {
    /// Position in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Name of the category tree.
    pub category: &'a str,
    /// The category and its parents, most specific first.
    pub path: Vec<&'a str>,
    /// The detector's word.
    pub label: &'a str,
    /// 0..1.
    pub score: f64,
    /// low, medium, high or critical.
    pub severity: &'a str,
    /// Who found it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub detectors: Vec<&'a str>,
    /// Where; absent when it speaks of the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<WireSpan>,
    /// The view it was made on, when not the raw text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub view: Option<crate::domain::finding::TextView>,
    /// The non-identifying part, such as an e-mail's domain.
    pub attributes: &'a BTreeMap<String, String>,
}

/// A half-open range.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Span)]
pub struct WireSpan {
    /// JSON pointer into the request.
    #[schema(value_type = String)]
    pub pointer: Arc<str>,
    /// First character, in the unit the request chose.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

/// Coverage.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Coverage)]
pub struct WireCoverage<'a> {
    /// Whether everything required was judged.
    pub complete: bool,
    /// 0..1.
    pub achieved: f64,
    /// Why it is incomplete.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub code: Option<crate::domain::coverage::CoverageCode>,
    /// Under `include: coverage`: how it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub method: Option<crate::domain::plan::CoverageMethod>,
    /// Under `include: coverage`: what was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Under `include: coverage`: the required detectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<Vec<&'a str>>,
    /// Under `include: coverage`: those that did not judge everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<&'a str>>,
}

/// A gap.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Unjudged)]
pub struct WireUnjudged<'a> {
    /// Which part of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<&'a str>,
    /// Which characters of it; absent when it is all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<WireRange>,
    /// Which detector did not judge it; absent when none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detector: Option<&'a str>,
    /// Why.
    pub reason: &'a str,
}

/// A half-open range within the part that `pointer` names.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Range)]
pub struct WireRange {
    /// First character, in the unit the request chose.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

/// A policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyRef<'a> {
    /// The bundle.
    pub name: &'a str,
    /// Digest of everything live that made the answer.
    pub revision: &'a str,
}

/// One detector's report.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Report)]
pub struct WireReport<'a> {
    /// Who.
    pub name: &'a str,
    /// Which version.
    pub version: &'a str,
    /// success, failed, timeout, unavailable or skipped.
    pub status: &'a str,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    /// More about the error, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// Its own label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'a str>,
    /// Its own score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// What it found, before thresholds.
    pub findings: Vec<WireFinding<'a>>,
    /// Tries.
    pub attempts: u32,
    /// From asked to answered.
    pub duration_ms: f64,
    /// Whether it is only observed and counts nowhere; `decided` where it had not answered yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

/// The plan.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Plan)]
pub struct WirePlan<'a> {
    /// Counted in coverage.
    pub required: Vec<&'a str>,
    /// Asked, not counted.
    pub optional: Vec<&'a str>,
    /// Asked when coverage falls short.
    pub secondary: Vec<&'a str>,
    /// parallel, sequential or cascade.
    #[schema(value_type = String)]
    pub execution: crate::domain::plan::Execution,
    /// Who wanted it.
    pub reason: String,
    /// The event whose strategy was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<&'a str>,
    /// The policy layers that were asked.
    pub policy_layers: &'a [String],
    /// Health of each detector when it was asked.
    #[schema(value_type = Object)]
    pub health: BTreeMap<&'a str, &'a str>,
    /// What the caller loosened.
    pub relaxed: &'a [String],
    /// The largest observed 95th percentile among the required detectors, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projected_ms: Option<f64>,
}

impl Answer<'_> {
    /// The same without what of the caller's own content it holds, and without the salt that would
    /// open the commitment to it.
    pub fn without_content(self) -> Self {
        let evidence = self.evidence.map(WireEvidence::without_salt);
        Answer { content: None, messages: None, redactions: None, evidence, ..self }
    }
}

/// Renders `outcome` for the one who asked.
pub fn render<'a>(outcome: &'a Outcome, request: &'a Request, took: Duration) -> Answer<'a> {
    let mut places = Places::new(outcome, request.offsets);
    let verdict = &outcome.verdict;
    let (content, messages) = match outcome.redacted.as_ref().map(|redacted| &redacted.body) {
        Some(body @ Body::Content(_)) => (Some(body), None),
        Some(body @ Body::Messages(_)) => (None, Some(body)),
        None => (None, None),
    };
    Answer {
        request_id: request.id.as_str(),
        allowed: verdict.action.lets_pass(),
        action: verdict.action,
        would: verdict.would,
        content,
        messages,
        redactions: outcome.redacted.as_ref().and_then(|redacted| redacted.originals.as_ref()),
        reasons: &verdict.reasons,
        findings: outcome.judgement.findings.iter().map(|f| judged(f, &mut places)).collect(),
        coverage: coverage(outcome, request.wants(Include::Coverage)),
        unjudged: unjudged(outcome, &mut places),
        policy: PolicyRef { name: outcome.policy.as_str(), revision: &outcome.revision },
        degraded: &outcome.degraded,
        cache: (outcome.cache == CacheUse::Hit).then(|| outcome.cache.name()),
        coalesced: outcome.coalesced(),
        relaxed: &outcome.plan.relaxed,
        obligations: &verdict.obligations,
        detectors: request.wants(Include::Detectors).then(|| reports(outcome, &mut places)),
        plan: request.wants(Include::Plan).then(|| plan(outcome)),
        conflicts: request.wants(Include::Conflicts).then(|| conflicts::of(outcome)),
        explain: request.wants(Include::Explain).then_some(outcome.explain.as_slice()),
        evidence: outcome.evidence.as_ref().map(WireEvidence::of),
        duration_ms: milliseconds(took),
    }
}

/// Milliseconds with three decimals.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Turns places into spans of the wanted unit; texts are indexed at most once.
struct Places<'a> {
    outcome: &'a Outcome,
    unit: OffsetUnit,
    offsets: BTreeMap<usize, Offsets>,
}

impl<'a> Places<'a> {
    fn new(outcome: &'a Outcome, unit: OffsetUnit) -> Self {
        Self { outcome, unit, offsets: BTreeMap::new() }
    }

    fn range(&mut self, gap: &Unjudged) -> Option<WireRange> {
        let named = |piece: &Piece| Some(&piece.pointer) == gap.pointer.as_ref();
        let piece = gap.span.and_then(|_| self.outcome.pieces.iter().position(named))?;
        let span = self.span(Some(Place { piece, span: gap.span }))?;
        Some(WireRange { start: span.start, end: span.end })
    }

    fn span(&mut self, place: Option<Place>) -> Option<WireSpan> {
        let place = place?;
        let piece = self.outcome.pieces.get(place.piece)?;
        let span = place.span?;
        let pointer = Arc::clone(&piece.pointer);
        if self.unit == OffsetUnit::Codepoint {
            return Some(WireSpan { pointer, start: span.start, end: span.end });
        }
        let text = piece.text.as_deref().unwrap_or_default();
        let offsets = self.offsets.entry(place.piece).or_insert_with(|| Offsets::new(text));
        Some(WireSpan {
            pointer,
            start: offsets.from_codepoint(span.start, self.unit),
            end: offsets.from_codepoint(span.end, self.unit),
        })
    }
}

fn judged<'a>(finding: &'a JudgedFinding, places: &mut Places<'_>) -> WireFinding<'a> {
    WireFinding {
        id: Some(finding.id),
        category: finding.category.as_str(),
        path: finding.category.path().collect(),
        label: &finding.label,
        score: finding.score,
        severity: finding.severity.name(),
        detectors: finding.detectors.iter().map(|name| name.as_str()).collect(),
        span: places.span(finding.place),
        view: finding.view,
        attributes: &finding.attributes,
    }
}

fn found<'a>(finding: &'a Finding, places: &mut Places<'_>) -> WireFinding<'a> {
    WireFinding {
        id: None,
        category: finding.category.as_str(),
        path: finding.category.path().collect(),
        label: &finding.label,
        score: finding.score,
        severity: finding.severity.name(),
        detectors: Vec::new(),
        span: places.span(finding.place),
        view: finding.view,
        attributes: &finding.attributes,
    }
}

fn coverage(outcome: &Outcome, whole: bool) -> WireCoverage<'_> {
    let coverage = &outcome.coverage;
    WireCoverage {
        complete: coverage.complete,
        achieved: coverage.achieved,
        code: coverage.code,
        method: whole.then_some(coverage.method),
        threshold: whole.then_some(coverage.threshold),
        required: whole.then(|| coverage.required.iter().map(|name| name.as_str()).collect()),
        missing: whole.then(|| coverage.missing.iter().map(|name| name.as_str()).collect()),
    }
}

fn unjudged<'a>(outcome: &'a Outcome, places: &mut Places<'_>) -> Vec<WireUnjudged<'a>> {
    outcome
        .coverage
        .unjudged
        .iter()
        .map(|gap| WireUnjudged {
            pointer: gap.pointer.as_deref(),
            span: places.range(gap),
            detector: gap.detector.as_ref().map(|name| name.as_str()),
            reason: gap.reason,
        })
        .collect()
}

/// Those that count in plan order, then those that are only observed.
fn reports<'a>(outcome: &'a Outcome, places: &mut Places<'_>) -> Vec<WireReport<'a>> {
    let counted: Vec<_> = outcome.reports.iter().map(|one| report(one, places)).collect();
    let observed = outcome.shadows.iter();
    let observed = observed.map(|one| WireReport { shadow: true, ..report(one, places) });
    counted.into_iter().chain(observed).collect()
}

fn report<'a>(report: &'a Report, places: &mut Places<'_>) -> WireReport<'a> {
    WireReport {
        name: report.detector.as_str(),
        version: &report.version,
        status: report.status.name(),
        error: report.error.map(|error| error.name()),
        detail: report.detail.as_deref(),
        label: report.label.as_deref(),
        score: report.score,
        findings: report.findings.iter().map(|finding| found(finding, places)).collect(),
        attempts: report.attempts,
        duration_ms: milliseconds(report.duration),
        shadow: false,
    }
}

fn plan(outcome: &Outcome) -> WirePlan<'_> {
    let plan = &outcome.plan;
    WirePlan {
        required: plan.required.iter().map(|name| name.as_str()).collect(),
        optional: plan.optional.iter().map(|name| name.as_str()).collect(),
        secondary: plan.secondary.iter().map(|name| name.as_str()).collect(),
        execution: plan.execution,
        reason: format!("policy {} of tenant {}", outcome.policy, outcome.head.tenant.id),
        event: plan.event.as_deref(),
        policy_layers: &outcome.layers,
        health: outcome.health.iter().map(|(name, health)| (name.as_str(), *health)).collect(),
        relaxed: &plan.relaxed,
        projected_ms: outcome.projected.map(milliseconds),
    }
}
