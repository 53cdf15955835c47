//! Long input by definition: a finding that lies in any chunk is reported once, at its raw place
//! and with its highest score; what lies in no chunk is unjudged.

use std::collections::BTreeMap;

use detector_orchestrator::domain::span::Span;

/// Findings by place and category, with their score in thousandths.
pub type Found = BTreeMap<(Span, &'static str), u32>;

/// What the chunks' replies say together. `replies[n]` speaks in code points of chunk `n`.
pub fn merged(chunks: &[Span], replies: &[Found]) -> Found {
    let mut all = Found::new();
    for (chunk, reply) in chunks.iter().zip(replies) {
        for ((span, category), score) in reply {
            let raw = Span { start: chunk.start + span.start, end: chunk.start + span.end };
            let kept = all.entry((raw, category)).or_default();
            *kept = (*kept).max(*score);
        }
    }
    all
}

/// The findings of the whole text that some chunk holds whole.
pub fn within(whole: &Found, chunks: &[Span]) -> Found {
    let held = |span: &Span| chunks.iter().any(|c| c.start <= span.start && span.end <= c.end);
    whole.iter().filter(|((span, _), _)| held(span)).map(|(at, score)| (*at, *score)).collect()
}

/// The code points of `0..length` that no chunk holds.
pub fn unjudged(length: usize, chunks: &[Span]) -> Vec<usize> {
    let held = |at: &usize| chunks.iter().any(|chunk| (chunk.start..chunk.end).contains(at));
    (0..length).filter(|at| !held(at)).collect()
}

/// What is wrong with `chunks` as a cut of `length` code points into parts of at most `limit`,
/// each sharing `overlap` with the next, so that a finding of up to `overlap` code points lies
/// whole in one of them.
pub fn faults(length: usize, limit: usize, overlap: usize, chunks: &[Span]) -> Vec<String> {
    let mut faults = Vec::new();
    for chunk in chunks {
        if chunk.start >= chunk.end || chunk.end > length || chunk.end - chunk.start > limit {
            faults.push(format!("{chunk:?} is empty, too long or outside 0..{length}"));
        }
    }
    let missed = unjudged(length, chunks);
    if !missed.is_empty() {
        faults.push(format!("no chunk holds {missed:?}"));
    }
    let width = overlap.min(length);
    for start in (0..=length - width).filter(|_| width > 0) {
        let finding = Span { start, end: start + width };
        if !chunks.iter().any(|c| c.start <= finding.start && finding.end <= c.end) {
            faults.push(format!("no chunk holds {finding:?} whole"));
        }
    }
    faults
}
