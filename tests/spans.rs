//! The product against naive models: offsets in every unit, redaction by spans, findings of
//! overlapping chunks, over random texts of many scripts. `--nocapture` shows the mix met.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail by panicking and say what it met"
)]

mod models;

use std::num::NonZeroUsize;

use detector_orchestrator::domain::chunk;
use detector_orchestrator::domain::finding::Severity;
use detector_orchestrator::domain::overlap::{Mark, Rule};
use detector_orchestrator::domain::redaction::{self as product, Placeholders, Style};
use detector_orchestrator::domain::span::{Offsets, Span};
use models::chunks::{self, Found};
use models::tally::Tally;
use models::{offsets, redaction, text};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Runs `test` over `cases` random values; the smallest failing one is reported.
#[track_caller]
fn hold<S: Strategy>(
    cases: u32,
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    if let Err(error) = TestRunner::new(config).run(&strategy, test) {
        panic!("{error}");
    }
}

#[test]
fn offsets_agree_with_the_definition_in_every_unit() {
    let met = Tally::default();
    hold(500, text::texts(10), |text| {
        let (index, mut classes) = (Offsets::new(&text.text), text.met());
        let text = &text.text;
        let mut inside = false;
        prop_assert_eq!(index.chars(), text.chars().count());
        for unit in offsets::UNITS {
            let end = offsets::length(text, unit);
            for at in 0..=end + 2 {
                let point = offsets::codepoint(text, at, unit);
                inside |= at < end && point.is_none();
                prop_assert_eq!(index.to_codepoint(at, unit), point, "{:?} {}", unit, at);
                prop_assert_eq!(index.from_codepoint(at, unit), offsets::position(text, at, unit));
                let to = at + 3;
                prop_assert_eq!(index.to_span(at, to, unit), offsets::span(text, at, to, unit));
                prop_assert_eq!(index.to_span(to, at, unit), None);
            }
        }
        classes.push(("a position inside a code point", inside));
        met.case(&classes);
        Ok(())
    });
    met.every_class_was_met("offsets");
}

fn touches(spans: &[Span], how: impl Fn(&Span, &Span) -> bool) -> bool {
    let pairs = spans.iter().enumerate().flat_map(|(at, a)| {
        spans.iter().enumerate().filter(move |(other, _)| *other != at).map(move |(_, b)| (a, b))
    });
    pairs.into_iter().any(|(a, b)| how(a, b))
}

fn classes_of(text: &str, spans: &[Span]) -> Vec<(&'static str, bool)> {
    let clusters = redaction::clusters(text);
    let grown: Vec<Span> = spans
        .iter()
        .map(|span| redaction::grown(&clusters, *span))
        .map(|range| Span { start: range.start, end: range.end })
        .collect();
    let shares = |a: &Span, b: &Span| a.start < b.end && b.start < a.end;
    let runs = redaction::runs(text, spans);
    vec![
        ("no span", spans.is_empty()),
        ("spans equal", touches(spans, |a, b| a == b)),
        (
            "a span inside another",
            touches(spans, |a, b| a != b && a.start <= b.start && b.end <= a.end),
        ),
        ("spans across", touches(spans, |a, b| a.start < b.start && shares(a, b) && a.end < b.end)),
        ("spans touch", touches(&grown, |a, b| a.end == b.start)),
        ("a span cuts a cluster", grown != spans),
        ("growing unites", {
            let pairs: Vec<_> = spans.iter().zip(&grown).collect();
            let unite =
                |a: &(&Span, &Span), b: &(&Span, &Span)| !shares(a.0, b.0) && shares(a.1, b.1);
            pairs.iter().any(|a| pairs.iter().any(|b| unite(a, b)))
        }),
        ("all is replaced", !runs.is_empty() && runs.iter().all(|run| !run.members.is_empty())),
        ("two unions or more", runs.iter().filter(|run| !run.members.is_empty()).count() > 1),
    ]
}

fn redact(text: &str, spans: &[(Span, &str)], style: Style) -> String {
    let mark = |&(span, label)| Mark {
        span,
        label,
        category: "pii",
        score: 0.5,
        severity: Severity::Medium,
    };
    let mut placeholders = Placeholders::new(style, &|_| [0; 32]);
    product::redact(text, spans.iter().map(mark).collect(), &Rule::default(), &mut placeholders)
}

/// Any member's label may stand for a union: which one wins is the product's choice.
fn any(members: &[usize]) -> Vec<usize> {
    members.to_vec()
}

#[test]
fn redaction_replaces_each_union_of_grown_spans_once_and_keeps_the_rest() {
    let met = Tally::default();
    let names: Vec<String> = (0..5).map(|at| format!("L{at}")).collect();
    hold(4000, text::marked(10, 5), |(text, spans)| {
        let labels: Vec<&str> = names.iter().map(String::as_str).collect();
        let marked: Vec<(Span, &str)> = spans.iter().copied().zip(labels.clone()).collect();
        let output = redact(&text.text, &marked, Style::Label);
        let fault = redaction::label_fault((&text.text, &spans), &labels, any, &output);
        prop_assert!(fault.is_none(), "{:?}: {}", output, fault.unwrap_or_default());
        let masked = redaction::masked(&text.text, &spans, "******");
        prop_assert_eq!(redact(&text.text, &marked, Style::Mask), masked);
        let preserved = redaction::preserved(&text.text, &spans);
        prop_assert_eq!(redact(&text.text, &marked, Style::Preserve), preserved);
        met.case(&classes_of(&text.text, &spans));
        Ok(())
    });
    met.every_class_was_met("redaction");
}

#[test]
fn the_order_of_spans_changes_no_character() {
    hold(1000, text::marked(10, 5), |(text, spans)| {
        let marked: Vec<(Span, &str)> = spans.iter().map(|span| (*span, "X")).collect();
        let turned: Vec<(Span, &str)> = marked.iter().rev().copied().collect();
        let there = redact(&text.text, &marked, Style::Label);
        prop_assert_eq!(there, redact(&text.text, &turned, Style::Label));
        Ok(())
    });
}

#[test]
fn the_redaction_model_itself_says_what_the_design_says() {
    let span = |start, end| Span { start, end };
    let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}";
    for (text, spans, masked, preserved) in [
        ("Mail ana@evil.io!", vec![span(5, 16)], "Mail ***!", "Mail ***********!"),
        ("abcdef", vec![span(1, 3), span(3, 5)], "a******f", "a****f"),
        ("abcdef", vec![span(0, 3), span(2, 4), span(1, 2)], "***ef", "****ef"),
        ("ab cd", vec![span(1, 4)], "a***d", "a* *d"),
        ("e\u{301}x", vec![span(1, 2)], "***x", "**x"),
        ("e\u{301}x", vec![span(0, 1), span(1, 2)], "***x", "**x"),
        ("a\r\nb", vec![span(1, 2)], "a***b", "a\r\nb"),
        (family, vec![span(2, 3)], "***", "*****"),
        (
            "\u{1f1e9}\u{1f1ea}\u{1f1eb}\u{1f1f7}",
            vec![span(1, 2)],
            "***\u{1f1eb}\u{1f1f7}",
            "**\u{1f1eb}\u{1f1f7}",
        ),
        ("x", vec![], "x", "x"),
        ("", vec![], "", ""),
    ] {
        assert_eq!(redaction::masked(text, &spans, "***"), masked, "{text:?}");
        assert_eq!(redaction::preserved(text, &spans), preserved, "{text:?}");
    }
    let fault = |output| redaction::label_fault(("abc", &[span(1, 2)]), &["L"], any, output);
    assert_eq!(fault("a[L]c"), None);
    for wrong in ["abc", "a[L]", "a[L][L]c", "a[M]c", "[L]c", "a[L]cc"] {
        assert!(fault(wrong).is_some(), "{wrong}");
    }
}

/// Cuts `length` into windows of `limit` that share `overlap`.
fn windows(length: usize, limit: usize, overlap: usize) -> Vec<Span> {
    let starts = (0..length.max(1)).step_by(limit - overlap);
    let chunks = starts.map(|start| Span { start, end: (start + limit).min(length) });
    let mut last = false;
    chunks.take_while(|chunk| !std::mem::replace(&mut last, chunk.end == length)).collect()
}

/// Each pair of like code points `gap` apart, with a score by what they are.
fn pairs(text: &[char], gap: usize) -> Found {
    let kind = |at: usize| u32::from(text[at]) % 5;
    let at = (0..text.len().saturating_sub(gap)).filter(|at| kind(*at) == kind(at + gap));
    at.map(|at| ((Span { start: at, end: at + gap + 1 }, "pii"), kind(at))).collect()
}

#[test]
fn findings_of_overlapping_chunks_are_those_of_the_whole_that_a_chunk_holds() {
    let met = Tally::default();
    let cut = (2usize..9, 0usize..8, 1usize..7);
    hold(2000, (text::texts(12), cut), |(text, (limit, overlap, gap))| {
        let overlap = overlap.min(limit - 1);
        let text: Vec<char> = text.text.chars().collect();
        let chunks = if text.is_empty() { vec![] } else { windows(text.len(), limit, overlap) };
        prop_assert!(chunks::faults(text.len(), limit, overlap, &chunks).is_empty());
        let replies: Vec<Found> =
            chunks.iter().map(|chunk| pairs(&text[chunk.start..chunk.end], gap)).collect();
        let whole = pairs(&text, gap);
        let expected = chunks::within(&whole, &chunks);
        prop_assert_eq!(chunks::merged(&chunks, &replies), expected.clone());
        let told: usize = replies.iter().map(Found::len).sum();
        met.case(&[
            ("one chunk", chunks.len() == 1),
            ("many chunks", chunks.len() > 3),
            ("a finding told twice", told > expected.len()),
            ("a finding that no chunk holds", whole.len() > expected.len()),
            ("a finding kept", !expected.is_empty()),
        ]);
        Ok(())
    });
    met.every_class_was_met("chunks");
}

#[test]
fn the_cut_of_a_text_holds_every_character_in_parts_of_the_length_asked() {
    let met = Tally::default();
    hold(2000, (text::texts(40), 1usize..60, 0usize..10), |(text, most, overlap)| {
        let most = NonZeroUsize::new(most).unwrap();
        let chunks = chunk::split(&text.text, most, overlap);
        let length = text.text.chars().count();
        let clusters = redaction::clusters(&text.text);
        let longest = clusters.iter().map(|c| c.end - c.start).max().unwrap_or(0);
        // A longer cluster may stand where the overlap would begin.
        let held = if longest <= most.get() / 8 + 1 { overlap.min(most.get() / 2) } else { 0 };
        prop_assert_eq!(chunks::faults(length, most.get(), held, &chunks), Vec::<String>::new());
        let cut = |at: usize| clusters.iter().any(|c| c.start < at && at < c.end);
        let ends = |span: &Span| [span.start, span.end];
        if longest <= most.get() {
            prop_assert!(!chunks.iter().flat_map(ends).any(cut), "{:?}", chunks);
        }
        for pair in chunks.windows(2) {
            let shared = pair[0].end.saturating_sub(pair[1].start);
            prop_assert!(pair[0].start < pair[1].start && (overlap > 0 || shared == 0));
        }
        met.case(&[
            ("one part", chunks.len() == 1),
            ("several parts", chunks.len() > 1),
            ("a cluster longer than a part", longest > most.get()),
            ("an overlap that holds findings", held > 0),
        ]);
        Ok(())
    });
    met.every_class_was_met("the cut");
}

#[test]
fn a_cut_that_leaves_out_or_cuts_too_long_is_told() {
    let span = |start, end| Span { start, end };
    assert!(chunks::faults(10, 6, 2, &[span(0, 6), span(4, 10)]).is_empty());
    for wrong in [
        vec![span(0, 6), span(7, 10)],
        vec![span(0, 6), span(6, 10)],
        vec![span(0, 10)],
        vec![span(0, 6), span(4, 11)],
        vec![],
    ] {
        assert!(!chunks::faults(10, 6, 2, &wrong).is_empty(), "{wrong:?}");
    }
    assert_eq!(chunks::unjudged(5, &[span(1, 3)]), [0, 3, 4]);
}
