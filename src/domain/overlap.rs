//! Which label stands for spans that overlap.
//!
//! Overlapping and nested spans become one; the whole union goes, never a part of it. Touching
//! spans stay apart.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::category::{Category, covers};
use super::finding::Severity;
use super::span::Span;

#[cfg(test)]
mod tests;

/// A span that asks to be replaced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark<'a> {
    /// Where; the unit is the caller's choice.
    pub span: Span,
    /// What to call it.
    pub label: &'a str,
    /// What it is about.
    pub category: &'a str,
    /// How sure the detector is, 0..=1.
    pub score: f64,
    /// How bad it is.
    pub severity: Severity,
}

/// What counts first. The others follow, then the first position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// The longest, then score, then severity. It says best what the whole was, and needs no scores
    /// that compare between detectors.
    #[default]
    Length,
    /// The surest, then severity, then length.
    Score,
    /// The worst, then score, then length.
    Severity,
}

/// How the label of overlapping spans is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Categories whose labels win over all that are not listed, the first over the second; each
    /// covers what lies below it.
    pub order: Vec<Category>,
    /// What counts among equals of `order`.
    pub prefer: Prefer,
}

impl Rule {
    /// `Less` where `a` wins. The order is total over marks that differ in span or label, so
    /// the order in which they come never matters.
    fn compare(&self, a: &Mark<'_>, b: &Mark<'_>) -> Ordering {
        let length = (b.span.end - b.span.start).cmp(&(a.span.end - a.span.start));
        let score = b.score.total_cmp(&a.score);
        let severity = b.severity.cmp(&a.severity);
        let [first, second, third] = match self.prefer {
            Prefer::Length => [length, score, severity],
            Prefer::Score => [score, severity, length],
            Prefer::Severity => [severity, score, length],
        };
        let place = (a.span, a.label, a.category).cmp(&(b.span, b.label, b.category));
        self.rank(a).cmp(&self.rank(b)).then(first).then(second).then(third).then(place)
    }

    fn rank(&self, mark: &Mark<'_>) -> usize {
        let listed = |category: &Category| covers(category.as_str(), mark.category);
        self.order.iter().position(listed).unwrap_or(usize::MAX)
    }
}

/// Disjoint spans in order, each the union of spans that overlap, with what the winner says.
/// Empty spans are ignored. O(n log n).
pub fn resolve<'a>(mut marks: Vec<Mark<'a>>, rule: &Rule) -> Vec<Mark<'a>> {
    marks.retain(|mark| mark.span.start < mark.span.end);
    marks.sort_by_key(|mark| mark.span);
    unite(&marks, |a, b| rule.compare(a, b) == Ordering::Less)
}

/// One pass over marks sorted by their start; `wins(a, b)` is asked less than once for each.
fn unite<'a>(
    sorted: &[Mark<'a>],
    mut wins: impl FnMut(&Mark<'a>, &Mark<'a>) -> bool,
) -> Vec<Mark<'a>> {
    let mut united: Vec<Mark<'a>> = Vec::new();
    let mut winner: Option<Mark<'a>> = None;
    for next in sorted {
        match (united.last_mut(), &mut winner) {
            (Some(union), Some(best)) if next.span.start < union.span.end => {
                if wins(next, best) {
                    *best = *next;
                }
                let start = union.span.start;
                let end = union.span.end.max(next.span.end);
                *union = Mark { span: Span { start, end }, ..*best };
            }
            (_, best) => {
                *best = Some(*next);
                united.push(*next);
            }
        }
    }
    united
}
