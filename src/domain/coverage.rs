//! How much of what the plan required was really judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::category::Category;
use super::content::Piece;
use super::id::DetectorName;
use super::plan::{CoverageMethod, Plan};
use super::report::{Gap, Report, ReportError};
use super::span::Span;

#[cfg(test)]
mod tests;

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

impl CoverageCode {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            CoverageCode::Deadline => "DEADLINE",
            CoverageCode::AllDetectorsUnavailable => "ALL_DETECTORS_UNAVAILABLE",
            CoverageCode::DetectorCommunicationFailed => "DETECTOR_COMMUNICATION_FAILED",
            CoverageCode::PartialCoverage => "PARTIAL_COVERAGE",
        }
    }
}

/// One gap: something that an asked or required detector did not judge, or what nobody judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unjudged {
    /// Which piece, when the gap is one piece's.
    pub pointer: Option<Arc<str>>,
    /// Which characters of it, in code points; `None` is all of it.
    pub span: Option<Span>,
    /// Which detector; `None` when nobody judged the piece.
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
    /// Whether the floor's own demand is met: its required detectors, at its least coverage.
    pub floor_complete: bool,
    /// Why not.
    pub code: Option<CoverageCode>,
    /// Required detectors, in name order.
    pub required: Vec<DetectorName>,
    /// Required detectors that judged nothing or not all, and whose substitutes did no better.
    pub missing: Vec<DetectorName>,
    /// Every gap, also when complete.
    pub unjudged: Vec<Unjudged>,
}

/// The categories each known detector can judge.
pub type Abilities = BTreeMap<DetectorName, BTreeSet<Category>>;

/// Comparison slack for sums of decimal weights.
pub const EPSILON: f64 = 1e-9;

/// Measures `reports` (one per detector, in any order) against the plan.
///
/// `achieved` counts required detectors only; a report that early exit `decided` lowers nothing.
pub fn measure(
    plan: &Plan,
    reports: &[Report],
    pieces: &[Piece],
    abilities: &Abilities,
) -> Coverage {
    let shares = Shares::new(reports, pieces);
    let spec = &plan.coverage;
    let of_required = |detector: &DetectorName| {
        let stand_ins = spec.substitutes.get(detector).into_iter().flatten();
        stand_ins.map(|d| shares.of(d)).fold(shares.of(detector), f64::max)
    };
    let share_of_set = |set: &BTreeSet<DetectorName>, share: &dyn Fn(&DetectorName) -> f64| {
        shares.mean(set.iter().map(|detector| (share(detector), 1.0)))
    };
    let by_count = share_of_set(&plan.required, &of_required);
    let achieved = match spec.method {
        CoverageMethod::RequiredSet => by_count,
        CoverageMethod::Weighted => weighted(plan, &of_required).unwrap_or(by_count),
        CoverageMethod::Taxonomy => {
            taxonomy(plan, abilities, &shares, &of_required).unwrap_or(by_count)
        }
    };
    let floor = share_of_set(&plan.floor_required, &|detector| shares.of(detector));
    let alone = judged_by_nobody(reports, pieces);
    let floor_complete = floor + EPSILON >= plan.min_coverage;
    let complete = achieved + EPSILON >= spec.threshold && floor_complete && alone.is_empty();
    let mut unjudged = gaps(plan, reports, pieces);
    unjudged.extend(alone);
    Coverage {
        method: spec.method,
        threshold: spec.threshold,
        achieved,
        complete,
        floor_complete,
        code: (!complete).then(|| code(plan, reports)),
        required: plan.required.iter().cloned().collect(),
        missing: plan.required.iter().filter(|d| of_required(d) < 1.0).cloned().collect(),
        unjudged,
    }
}

/// How much of all characters each detector judged, 0..=1.
struct Shares<'a> {
    by_detector: BTreeMap<&'a DetectorName, f64>,
    any_answer: bool,
}

impl<'a> Shares<'a> {
    fn new(reports: &'a [Report], pieces: &[Piece]) -> Self {
        let all: usize = pieces.iter().map(|piece| piece.chars).sum();
        let share = |report: &'a Report| (&report.detector, share(report, all));
        Self {
            by_detector: reports.iter().map(share).collect(),
            any_answer: reports.iter().any(Report::answered),
        }
    }

    fn of(&self, detector: &DetectorName) -> f64 {
        self.by_detector.get(detector).copied().unwrap_or(0.0)
    }

    /// Weighted mean of (share, weight); of nothing 1 where somebody answered, else 0.
    fn mean(&self, of: impl Iterator<Item = (f64, f64)>) -> f64 {
        let empty = if self.any_answer { 1.0 } else { 0.0 };
        mean(of).unwrap_or(empty)
    }
}

fn share(report: &Report, all: usize) -> f64 {
    if report.is_decided() {
        return 1.0;
    }
    if !report.answered() {
        return 0.0;
    }
    let left_out: usize = report.gaps.iter().map(|gap| gap.chars).sum();
    match (left_out, all) {
        (0, _) => 1.0,
        (_, 0) => 0.0,
        _ => all.saturating_sub(left_out) as f64 / all as f64,
    }
}

/// Weighted mean within 0..=1; `None` where nothing weighs.
fn mean(of: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (sum, weights) =
        of.fold((0.0, 0.0), |(sum, all), (share, weight)| (sum + share * weight, all + weight));
    let mean = sum / weights;
    mean.is_finite().then(|| mean.clamp(0.0, 1.0))
}

fn weighted(plan: &Plan, share: &dyn Fn(&DetectorName) -> f64) -> Option<f64> {
    let weights = &plan.coverage.weights;
    if weights.is_empty() {
        return None;
    }
    let weigh = |detector| weights.get(detector).copied().unwrap_or(1.0);
    mean(plan.required.iter().map(|detector| (share(detector), weigh(detector))))
}

/// Share of the needed categories that a detector with nothing left out can find.
fn taxonomy(
    plan: &Plan,
    abilities: &Abilities,
    shares: &Shares,
    share: &dyn Fn(&DetectorName) -> f64,
) -> Option<f64> {
    let of = |detector: &DetectorName| abilities.get(detector).into_iter().flatten();
    let whole = shares.by_detector.iter().filter(|(_, share)| **share >= 1.0).map(|(d, _)| *d);
    let stood_in_for = plan.required.iter().filter(|detector| share(detector) >= 1.0);
    let found: BTreeSet<&str> =
        whole.chain(stood_in_for).flat_map(of).map(Category::as_str).collect();
    let mut need: BTreeSet<&Category> = plan.coverage.categories.iter().collect();
    if need.is_empty() {
        need = plan.required.iter().flat_map(of).collect();
    }
    let judged = |category: &&Category| category.path().any(|name| found.contains(name));
    mean(need.iter().map(|category| (if judged(category) { 1.0 } else { 0.0 }, 1.0)))
}

/// What nobody has judged of one piece so far, and why.
struct Left {
    spans: Vec<Span>,
    /// The one reason that all gave.
    reason: Option<&'static str>,
}

/// What no detector judged of each piece, with the reason where all give the same one.
///
/// Nothing after an early end: those that were not asked could have judged it.
/// Linear in pieces, n log n in the gaps: a body may hold very many of both.
fn judged_by_nobody(reports: &[Report], pieces: &[Piece]) -> Vec<Unjudged> {
    let whole = |piece: &Piece| Span { start: 0, end: piece.chars };
    let mut left: Vec<Left> =
        pieces.iter().map(|piece| Left { spans: vec![whole(piece)], reason: None }).collect();
    if reports.iter().any(Report::is_decided) {
        return Vec::new();
    }
    for (index, report) in reports.iter().enumerate() {
        let mut gaps: Vec<&Gap> = report.gaps.iter().filter(|_| report.answered()).collect();
        gaps.sort_by_key(|gap| (gap.piece, gap.span));
        let mut gaps = gaps.into_iter().peekable();
        for (at, (left, piece)) in left.iter_mut().zip(pieces).enumerate() {
            let (mut spans, mut reason) = (Vec::new(), None);
            while let Some(gap) = gaps.next_if(|gap| gap.piece <= at) {
                spans.push(gap.span.unwrap_or(whole(piece)));
                reason = Some(gap.reason.name());
            }
            if !report.answered() {
                (spans, reason) = (vec![whole(piece)], Some(report.reason()));
            }
            left.spans = shared(&left.spans, &spans);
            left.reason = reason.filter(|_| index == 0 || left.reason == reason);
        }
    }
    let alone = pieces.iter().zip(left).flat_map(|(piece, left)| {
        let reason = left.reason.unwrap_or("no_detector");
        left.spans.into_iter().map(move |span| Unjudged {
            pointer: Some(Arc::clone(&piece.pointer)),
            span: (span != whole(piece)).then_some(span),
            detector: None,
            reason,
        })
    });
    alone.collect()
}

/// What lies in both lists, each ascending.
fn shared(a: &[Span], b: &[Span]) -> Vec<Span> {
    let (mut found, mut rest) = (Vec::new(), b);
    for one in a {
        while let Some((first, after)) = rest.split_first() {
            let both = Span { start: one.start.max(first.start), end: one.end.min(first.end) };
            if both.start < both.end {
                found.push(both);
            }
            if first.end > one.end {
                break;
            }
            rest = after;
        }
    }
    found
}

/// What each asked or required detector left out, by detector and then by piece.
fn gaps(plan: &Plan, reports: &[Report], pieces: &[Piece]) -> Vec<Unjudged> {
    let mut found = Vec::new();
    for report in reports {
        let mut add = |pointer, span, reason| {
            let detector = Some(report.detector.clone());
            found.push(Unjudged { pointer, span, detector, reason });
        };
        if !report.answered() {
            add(None, None, report.reason());
            continue;
        }
        let mut gaps: Vec<_> =
            report.gaps.iter().map(|gap| (gap.piece, gap.span, gap.reason)).collect();
        gaps.sort_unstable();
        gaps.dedup();
        for (piece, span, reason) in gaps {
            let pointer = pieces.get(piece).map(|piece| Arc::clone(&piece.pointer));
            add(pointer, span, reason.name());
        }
    }
    let silent = |name: &&DetectorName| !reports.iter().any(|report| report.detector == **name);
    found.extend(plan.required.iter().filter(silent).map(|name| Unjudged {
        pointer: None,
        span: None,
        detector: Some(name.clone()),
        reason: ReportError::NotRegistered.name(),
    }));
    found.sort_by(|a, b| a.detector.cmp(&b.detector));
    found
}

fn code(plan: &Plan, reports: &[Report]) -> CoverageCode {
    let cut = |report: &Report| report.cut_by_deadline && plan.required.contains(&report.detector);
    if reports.iter().any(cut) {
        CoverageCode::Deadline
    } else if reports.iter().any(Report::answered) {
        CoverageCode::PartialCoverage
    } else if reports.iter().all(|report| report.attempts == 0) {
        CoverageCode::AllDetectorsUnavailable
    } else {
        CoverageCode::DetectorCommunicationFailed
    }
}
