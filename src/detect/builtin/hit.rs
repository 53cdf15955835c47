//! What a rule matched, in bytes, and how it becomes a finding in code points.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::category::Category;
use crate::domain::finding::{Finding, Place, Severity};
use crate::domain::span::{OffsetUnit, Offsets};

/// One match. `start..end` are bytes on character boundaries, not empty.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) category: Category,
    pub(super) label: Arc<str>,
    pub(super) score: f64,
    pub(super) severity: Severity,
    pub(super) attributes: Vec<(&'static str, String)>,
}

impl Hit {
    fn overlaps(&self, other: &Hit) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// Findings in order of position; positions are indexed only when something was found.
pub(super) fn findings(text: &str, mut hits: Vec<Hit>) -> Vec<Finding> {
    if hits.is_empty() {
        return Vec::new();
    }
    hits.sort_by_key(|hit| (hit.start, hit.end));
    let offsets = Offsets::new(text);
    let finding = |hit: Hit| {
        let span = offsets.to_span(hit.start, hit.end, OffsetUnit::Byte)?;
        Some(Finding {
            category: hit.category,
            label: hit.label,
            score: hit.score,
            severity: hit.severity,
            place: Some(Place { piece: 0, span: Some(span) }),
            view: None,
            attributes: hit.attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        })
    };
    hits.into_iter().filter_map(finding).collect()
}

/// The smallest range of whole characters around the bytes `start..end`, which lie in the text.
pub(super) fn widen(text: &str, start: usize, end: usize) -> (usize, usize) {
    let start = (0..=start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    (start, end)
}

/// Of hits that overlap, keeps the surest, then the longest. O(n log n).
pub(super) fn without_overlaps(mut hits: Vec<Hit>) -> Vec<Hit> {
    sort_by_rank(&mut hits);
    let mut kept: BTreeMap<usize, Hit> = BTreeMap::new();
    for hit in hits {
        let before = kept.range(..hit.end).next_back();
        if !before.is_some_and(|(_, other)| other.overlaps(&hit)) {
            kept.insert(hit.start, hit);
        }
    }
    kept.into_values().collect()
}

/// As `without_overlaps`, but of a hit that only begins or ends inside a surer one, the rest
/// stays: no part of a value is left uncovered. O(n log n).
pub(super) fn apart(mut hits: Vec<Hit>) -> Vec<Hit> {
    sort_by_rank(&mut hits);
    let mut kept: BTreeMap<usize, Hit> = BTreeMap::new();
    for mut hit in hits {
        if let Some((_, left)) = kept.range(..=hit.start).next_back() {
            hit.start = hit.start.max(left.end);
        }
        if let Some((_, right)) = kept.range(hit.start..).next().filter(|(at, _)| **at < hit.end)
            && right.end >= hit.end
        {
            hit.end = right.start;
        }
        let inner = kept.range(hit.start..).next().is_some_and(|(at, _)| *at < hit.end);
        if hit.start < hit.end && !inner {
            kept.insert(hit.start, hit);
        }
    }
    kept.into_values().collect()
}

fn sort_by_rank(hits: &mut [Hit]) {
    hits.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then((b.end - b.start).cmp(&(a.end - a.start)))
            .then(a.start.cmp(&b.start))
    });
}
