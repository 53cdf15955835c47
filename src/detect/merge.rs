//! One detector's answers about the parts and views of a piece become one answer.

use std::cmp::Reverse;

use super::excerpt::Excerpt;
use crate::domain::finding::{Finding, Place};
use crate::domain::report::{Gap, ReportError};
use crate::domain::span::Span;

/// Findings of equal category and label that overlap become one: over all of their characters, as
/// sure and as severe as the most of them, on the raw text if any of them was. O(n log n).
///
/// What lies in the overlap of two chunks is found twice, and what a chunk's edge cut in two is
/// found in part; a view finds again what the raw text shows.
pub(super) fn findings(mut all: Vec<Finding>) -> Vec<Finding> {
    let span = |finding: &Finding| finding.place.and_then(|place| place.span);
    all.sort_by(|a, b| {
        let key = |finding: &Finding| {
            let piece = finding.place.map(|place| place.piece);
            (piece, span(finding).map(|span| (span.start, Reverse(span.end))))
        };
        let word = (&a.category, &a.label).cmp(&(&b.category, &b.label));
        word.then_with(|| key(a).cmp(&key(b)))
    });
    let mut merged: Vec<Finding> = Vec::with_capacity(all.len());
    for next in all {
        match merged.last_mut().filter(|last| same(last, &next)) {
            Some(last) => join(last, next),
            None => merged.push(next),
        }
    }
    merged.sort_by_key(|finding| finding.place);
    merged
}

/// Whether `next`, which starts no earlier, speaks of the same thing.
fn same(last: &Finding, next: &Finding) -> bool {
    let places = match (last.place, next.place) {
        (Some(a), Some(b)) if a.piece == b.piece => match (a.span, b.span) {
            (Some(a), Some(b)) => b.start < a.end,
            (a, b) => a == b,
        },
        (a, b) => a == b,
    };
    places && last.category == next.category && last.label == next.label
}

fn join(last: &mut Finding, next: Finding) {
    if let (Some(Place { span: Some(span), .. }), Some(Place { span: Some(more), .. })) =
        (&mut last.place, next.place)
    {
        span.end = span.end.max(more.end);
    }
    last.score = last.score.max(next.score);
    last.severity = last.severity.max(next.severity);
    last.view = last.view.filter(|_| next.view.is_some());
    for (key, value) in next.attributes {
        last.attributes.entry(key).or_insert(value);
    }
}

/// How the call about an excerpt ended.
pub(super) struct Ending<'a, 'b> {
    pub(super) excerpt: &'a Excerpt<'b>,
    /// `None` is judged.
    pub(super) left_out: Option<ReportError>,
}

/// What was not judged, by piece and position; no character is counted twice.
///
/// A character counts as judged when every form it stands in was judged where it stands: what
/// a chunk failed to say, its neighbour may have said, but the raw text does not speak for a view.
pub(super) fn gaps(endings: &[Ending<'_, '_>], chars: &dyn Fn(usize) -> usize) -> Vec<Gap> {
    if endings.iter().all(|ending| ending.left_out.is_none()) {
        return Vec::new();
    }
    let mut sorted: Vec<&Ending<'_, '_>> = endings.iter().collect();
    sorted.sort_by_key(|ending| (ending.excerpt.piece, ending.excerpt.form));
    let mut gaps = Vec::new();
    for of_piece in sorted.chunk_by(|a, b| a.excerpt.piece == b.excerpt.piece) {
        let Some(piece) = of_piece.first().map(|ending| ending.excerpt.piece) else { continue };
        let whole = Span { start: 0, end: chars(piece) };
        let mut known: Vec<Span> = Vec::new();
        for of_form in of_piece.chunk_by(|a, b| a.excerpt.form == b.excerpt.form) {
            let covers = |ending: &&Ending<'_, '_>| ending.excerpt.covers().unwrap_or(whole);
            let judged = of_form.iter().filter(|e| e.left_out.is_none()).map(&covers);
            let mut taken: Vec<Span> = judged.chain(known.iter().copied()).collect();
            for ending in of_form {
                let Some(reason) = ending.left_out else { continue };
                for rest in without(covers(ending), &mut taken) {
                    let span = (rest != whole).then_some(rest);
                    gaps.push(Gap { piece, span, chars: rest.end - rest.start, reason });
                    taken.push(rest);
                    known.push(rest);
                }
            }
        }
    }
    joined(gaps)
}

/// Adds what of `gap` no other one of its piece names.
pub(super) fn add(gaps: &mut Vec<Gap>, gap: Gap) {
    let Some(span) = gap.span else { return gaps.push(gap) };
    let same = gaps.iter().filter(|other| other.piece == gap.piece);
    let mut known: Vec<Span> = same.filter_map(|other| other.span).collect();
    let rest = without(span, &mut known).into_iter().filter(|rest| rest.start < rest.end);
    gaps.extend(rest.map(|rest| Gap { span: Some(rest), chars: rest.end - rest.start, ..gap }));
}

/// What of `span` none of `taken` covers.
fn without(span: Span, taken: &mut [Span]) -> Vec<Span> {
    taken.sort_unstable();
    let (mut rest, mut from) = (Vec::new(), span.start);
    for other in taken.iter() {
        if other.start > from {
            rest.push(Span { start: from, end: other.start.min(span.end) });
        }
        from = from.max(other.end);
        if from >= span.end {
            return rest;
        }
    }
    rest.push(Span { start: from, end: span.end });
    rest
}

/// Neighbours with one reason become one gap.
fn joined(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_by_key(|gap| (gap.piece, gap.span));
    gaps.dedup_by(|next, last| match (last.span.as_mut(), next.span) {
        (Some(a), Some(b))
            if (last.piece, last.reason) == (next.piece, next.reason) && a.end == b.start =>
        {
            a.end = b.end;
            last.chars += next.chars;
            true
        }
        (Some(_) | None, _) => false,
    });
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_added_without_what_another_one_names_already() {
        let gap = |piece, start, end| Gap {
            piece,
            span: Some(Span { start, end }),
            chars: end - start,
            reason: ReportError::TooLong,
        };
        let mut gaps = vec![gap(0, 10, 20), gap(1, 0, 99)];
        add(&mut gaps, gap(0, 12, 18));
        add(&mut gaps, gap(0, 5, 25));
        add(&mut gaps, gap(0, 0, 25));
        let added: Vec<&Gap> = gaps.iter().skip(2).collect();
        assert_eq!(added, [&gap(0, 5, 10), &gap(0, 20, 25), &gap(0, 0, 5)]);
    }
}
