//! Parts of a record in the very shape that policies see them in, so that a document is put together
//! from them and from nothing else.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::domain::category::Category;
use crate::domain::conflict::Candidate;
use crate::domain::coverage::{Coverage, CoverageCode, Unjudged};
use crate::domain::head::Head;
use crate::domain::id::DetectorName;
use crate::domain::judgement::{JudgedFinding, ScopeState};
use crate::domain::plan::CoverageMethod;
use crate::domain::report::Report;
use crate::domain::span::Span;

/// A list whose items are made while it is written.
pub(super) struct List<'a, T, F>(pub(super) &'a [T], pub(super) F);

impl<'a, T, S: Serialize, F: Fn(usize, &'a T) -> S> Serialize for List<'a, T, F> {
    fn serialize<R: Serializer>(&self, serializer: R) -> Result<R::Ok, R::Error> {
        serializer.collect_seq(self.0.iter().enumerate().map(|(at, item)| (self.1)(at, item)))
    }
}

/// A map whose values are made while it is written.
pub(super) struct Map<'a, K, T, F>(pub(super) &'a BTreeMap<K, T>, pub(super) F);

impl<'a, K: Serialize, T, S: Serialize, F: Fn(&'a T) -> S> Serialize for Map<'a, K, T, F> {
    fn serialize<R: Serializer>(&self, serializer: R) -> Result<R::Ok, R::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, (self.1)(value))))
    }
}

/// What every document begins with; the content that a policy may read stays out.
#[derive(Serialize)]
pub(super) struct HeadShown<'a> {
    tenant: TenantShown<'a>,
    bundle: &'a str,
    env: &'a str,
    request: RequestShown<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a serde_json::Map<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<CallerShown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
}

#[derive(Serialize)]
struct TenantShown<'a> {
    id: &'a str,
    tier: &'a str,
    labels: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct RequestShown<'a> {
    #[serde(rename = "type")]
    content_type: &'a str,
    direction: &'a str,
    roles: &'a [&'static str],
    tool_names: &'a [String],
    has_context: bool,
    priority: &'a str,
    contexts: &'a [String],
    detectors: WishesShown<'a>,
    thresholds: &'a BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
}

#[derive(Serialize)]
struct WishesShown<'a> {
    only: &'a [DetectorName],
    add: &'a [DetectorName],
    exclude: &'a [DetectorName],
}

#[derive(Serialize)]
struct CallerShown<'a> {
    roles: &'a [String],
    scopes: &'a [String],
}

impl<'a> HeadShown<'a> {
    /// `metadata` is left out where it would not come back as it was.
    pub(super) fn of(head: &'a Head, metadata: bool) -> Self {
        let (tenant, request, opt_in) = (&head.tenant, &head.request, &head.opt_in);
        Self {
            tenant: TenantShown {
                id: tenant.id.as_str(),
                tier: &tenant.tier,
                labels: &tenant.labels,
            },
            bundle: head.bundle.as_str(),
            env: head.env,
            request: RequestShown {
                content_type: request.content_type.name(),
                direction: request.direction.name(),
                roles: &request.roles,
                tool_names: &request.tool_names,
                has_context: request.has_context,
                priority: request.priority.name(),
                contexts: &request.contexts,
                detectors: WishesShown {
                    only: &request.only,
                    add: &request.add,
                    exclude: &request.exclude,
                },
                thresholds: &request.thresholds,
                event: request.event.as_deref(),
            },
            metadata: opt_in.metadata.as_ref().filter(|_| metadata),
            caller: opt_in
                .caller
                .as_ref()
                .map(|caller| CallerShown { roles: &caller.roles, scopes: &caller.scopes }),
            content_length: opt_in.content_length,
            language: opt_in.language.as_deref(),
        }
    }
}

/// A finding as `findings` of a verdict's document hold it; `detectors`, where there are several,
/// is the record's own.
#[derive(Serialize)]
pub(super) struct FindingShown<'a> {
    id: usize,
    detector: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detectors: Option<&'a [DetectorName]>,
    category: &'a str,
    path: Vec<&'a str>,
    label: &'a str,
    score: f64,
    severity: &'a str,
    standing: bool,
    attributes: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<crate::domain::finding::TextView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<SpanShown<'a>>,
}

#[derive(Serialize)]
struct SpanShown<'a> {
    pointer: &'a str,
    start: usize,
    end: usize,
}

impl<'a> FindingShown<'a> {
    pub(super) fn of(id: usize, finding: &'a JudgedFinding) -> Self {
        let several = finding.detectors.len() > 1;
        Self {
            id,
            detector: finding.detectors.first().map_or("", |name| name.as_str()),
            detectors: several.then_some(finding.detectors.as_slice()),
            category: finding.category.as_str(),
            path: finding.category.path().collect(),
            label: &finding.label,
            score: finding.score,
            severity: finding.severity.name(),
            standing: finding.standing,
            attributes: &finding.attributes,
            view: finding.view,
            span: finding.place.and_then(|place| place.span).map(|span| SpanShown {
                pointer: finding.pointer.as_deref().unwrap_or_default(),
                start: span.start,
                end: span.end,
            }),
        }
    }
}

/// A report; `results` of a document hold its detector, status, label and score.
#[derive(Serialize)]
pub(super) struct ReportShown<'a> {
    detector: &'a str,
    version: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    attempts: u32,
    duration_us: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut_by_deadline: bool,
}

impl<'a> ReportShown<'a> {
    pub(super) fn of(_: usize, report: &'a Report) -> Self {
        Self {
            detector: report.detector.as_str(),
            version: &report.version,
            status: report.status.name(),
            error: report.error.map(|error| error.name()),
            label: report.label.as_deref(),
            score: report.score,
            attempts: report.attempts,
            duration_us: u64::try_from(report.duration.as_micros()).unwrap_or(u64::MAX),
            cut_by_deadline: report.cut_by_deadline,
        }
    }
}

/// The measured coverage; a document holds achieved, threshold, complete, missing, and of each gap
/// reason, pointer and detector.
#[derive(Serialize)]
pub(super) struct CoverageShown<'a> {
    method: CoverageMethod,
    achieved: f64,
    threshold: f64,
    complete: bool,
    floor_complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<CoverageCode>,
    missing: &'a [DetectorName],
    unjudged: List<'a, Unjudged, fn(usize, &'a Unjudged) -> GapShown<'a>>,
}

#[derive(Serialize)]
pub(super) struct GapShown<'a> {
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detector: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<Span>,
}

impl<'a> CoverageShown<'a> {
    pub(super) fn of(coverage: &'a Coverage) -> Self {
        Self {
            method: coverage.method,
            achieved: coverage.achieved,
            threshold: coverage.threshold,
            complete: coverage.complete,
            floor_complete: coverage.floor_complete,
            code: coverage.code,
            missing: &coverage.missing,
            unjudged: List(&coverage.unjudged, |_, gap| GapShown {
                reason: gap.reason,
                pointer: gap.pointer.as_deref(),
                detector: gap.detector.as_ref().map(|name| name.as_str()),
                span: gap.span,
            }),
        }
    }
}

/// A category of a verdict's document.
#[derive(Serialize)]
pub(super) struct ScopeShown<'a> {
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<&'a str>,
    voters: &'a [DetectorName],
    flagged_by: &'a [DetectorName],
    cleared_by: &'a [DetectorName],
    unjudged_by: &'a [DetectorName],
    resolved: &'a str,
    strategy: &'a str,
}

impl<'a> ScopeShown<'a> {
    pub(super) fn of(scope: &'a ScopeState) -> Self {
        Self {
            score: scope.score,
            severity: scope.severity.map(|severity| severity.name()),
            voters: &scope.voters,
            flagged_by: &scope.flagged_by,
            cleared_by: &scope.cleared_by,
            unjudged_by: &scope.unjudged_by,
            resolved: scope.resolved.name(),
            strategy: &scope.strategy,
        }
    }
}

/// One of `conflicts` of a verdict's document.
#[derive(Serialize)]
pub(super) struct ConflictShown<'a> {
    scope: String,
    strategy: &'a str,
    delta: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    winner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detector: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tie_breaker: Option<&'a str>,
}

impl<'a> ConflictShown<'a> {
    /// Where voters said different things.
    pub(super) fn of((name, scope): (&'a Category, &'a ScopeState)) -> Option<Self> {
        let settled = scope.settled.as_ref()?;
        let first = scope.candidates.first()?;
        scope.candidates.iter().any(|vote| vote.label != first.label).then(|| Self {
            scope: format!("category:{name}"),
            strategy: settled.strategy,
            delta: settled.delta,
            winner: settled.winner.as_deref(),
            detector: settled.detector.as_ref().map(|name| name.as_str()),
            tie_breaker: settled.tie_breaker,
        })
    }
}

/// A category of a conflict's document.
#[derive(Serialize)]
pub(super) struct VotesShown<'a> {
    candidates: Vec<VoteShown<'a>>,
    normalized: BTreeMap<&'a str, f64>,
}

#[derive(Serialize)]
struct VoteShown<'a> {
    detector: &'a str,
    label: &'a str,
    flagged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<&'a str>,
}

impl<'a> VotesShown<'a> {
    pub(super) fn of(scope: &'a ScopeState) -> Self {
        let vote = |vote: &'a Candidate| {
            let flagged = scope.flagged_by.contains(&vote.detector);
            VoteShown {
                detector: vote.detector.as_str(),
                label: &vote.label,
                flagged,
                score: vote.score,
                severity: scope.severity.filter(|_| flagged).map(|severity| severity.name()),
            }
        };
        let settled = scope.settled.iter().flat_map(|settled| &settled.normalized);
        Self {
            candidates: scope.candidates.iter().map(vote).collect(),
            normalized: settled.map(|(label, score)| (&**label, *score)).collect(),
        }
    }
}
