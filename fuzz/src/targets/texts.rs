//! Spans and views over any text.

use detector_orchestrator::domain::finding::{Severity, TextView};
use detector_orchestrator::domain::overlap::{Mark, Rule};
use detector_orchestrator::domain::redaction::{Placeholders, Style, redact};
use detector_orchestrator::domain::span::{OffsetUnit, Offsets, Span};
use detector_orchestrator::domain::view;

const MARK: char = '\u{e000}';

/// The first bytes are spans, the rest is text.
pub fn text(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first() else { return };
    let count = usize::from(*count % 5) * 2;
    let Some((places, rest)) = rest.split_at_checked(count) else { return };
    let Ok(raw) = std::str::from_utf8(rest) else { return };
    let spans: Vec<Span> = places
        .chunks_exact(2)
        .map(|pair| Span {
            start: pair[0].into(),
            end: usize::from(pair[0]) + usize::from(pair[1]),
        })
        .collect();
    offsets(raw);
    views(raw, &spans);
    redacted(raw, &spans);
}

fn offsets(raw: &str) {
    let offsets = Offsets::new(raw);
    assert_eq!(offsets.chars(), raw.chars().count());
    for unit in [OffsetUnit::Byte, OffsetUnit::Utf16, OffsetUnit::Codepoint] {
        for at in 0..=offsets.chars().min(64) {
            let there = offsets.from_codepoint(at, unit);
            assert_eq!(offsets.to_codepoint(there, unit), Some(at), "{unit:?} {at} of {raw:?}");
        }
    }
}

/// Whatever part of a view is named, the way back leads into the text.
fn views(raw: &str, spans: &[Span]) {
    let chars = raw.chars().count();
    for view in view::of(raw, &[TextView::Normalized, TextView::Decoded]) {
        assert!(view.text.chars().count() <= 64.max(chars * 2), "the view grows");
        for span in spans {
            if let Some(back) = view.to_raw(*span) {
                assert!(back.start < back.end && back.end <= chars, "{back:?} of {chars}");
            }
        }
    }
}

/// What no span touches stays; without spans nothing changes; no character of a span stays.
fn redacted(raw: &str, spans: &[Span]) {
    let hash = |_: &str| [7; 32];
    let marks = spans.iter().map(|span| Mark {
        span: *span,
        label: "X",
        category: "pii.email",
        score: 0.5,
        severity: Severity::High,
    });
    let mut placeholders = Placeholders::new(Style::Label, &hash);
    let out = redact(raw, marks.collect(), &Rule::default(), &mut placeholders);
    let chars: Vec<char> = raw.chars().collect();
    let hit = |at: usize| spans.iter().any(|span| (span.start..span.end).contains(&at));
    if !(0..chars.len()).any(hit) {
        assert_eq!(out, raw);
        return;
    }
    if raw.contains(MARK) || raw.contains("[X]") {
        return;
    }
    let kept = out.replace("[X]", &MARK.to_string());
    let untouched = (0..chars.len()).filter(|at| !hit(*at)).count();
    let left = kept.chars().filter(|c| *c != MARK).count();
    assert!(left <= untouched, "{left} of {untouched} characters outside spans: {out:?}");
    assert!(kept.contains(MARK), "nothing stands for the span: {out:?}");
}
