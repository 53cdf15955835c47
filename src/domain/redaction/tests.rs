//! What redaction must never leave behind.

use proptest::prelude::*;

use super::*;
use crate::domain::content::{Content, ContentType, Judge, Part};

fn span(start: usize, end: usize) -> Span {
    Span { start, end }
}

#[test]
fn each_span_gives_way_to_its_label() {
    let text = "Mail ana@evil.io, key AKIA";
    let given = [(span(22, 26), "AWS_ACCESS_KEY"), (span(5, 16), "EMAIL")];
    assert_eq!(redact(text, &given), "Mail [EMAIL], key [AWS_ACCESS_KEY]");
    assert_eq!(redact(text, &[]), text);
}

#[test]
fn overlapping_spans_are_replaced_once_by_the_longest_label() {
    let text = "0123456789";
    let check = |given: &[(Span, &str)], expected: &str| assert_eq!(redact(text, given), expected);
    check(&[(span(2, 6), "LONG"), (span(3, 5), "NESTED")], "01[LONG]6789");
    check(&[(span(1, 3), "A"), (span(2, 7), "B"), (span(6, 8), "C")], "0[B]89");
    check(&[(span(1, 4), "A"), (span(3, 6), "B")], "0[A]6789");
    check(&[(span(1, 4), "FIRST"), (span(1, 4), "SECOND")], "0[FIRST]456789");
    check(&[(span(1, 4), "A"), (span(4, 6), "B")], "0[A][B]6789");
    check(&[(span(8, 99), "END"), (span(50, 60), "BEYOND")], "01234567[END]");
}

#[test]
fn no_grapheme_is_ever_cut() {
    let check = |text, start, end, expected| {
        assert_eq!(redact(text, &[(span(start, end), "X")]), expected, "{text:?}");
    };
    check("ae\u{301}z", 1, 2, "a[X]z");
    check("ae\u{301}z", 2, 3, "a[X]z");
    check("a👨\u{200d}👩\u{200d}👧b", 3, 4, "a[X]b");
    check("🇩🇪🇫🇷", 2, 3, "🇩🇪[X]");
    check("a\r\nb", 2, 3, "a[X]b");
    check("שלום ana@b.io", 5, 13, "שלום [X]");
    check("😀 x", 2, 3, "😀 [X]");
}

#[test]
fn two_spans_in_one_grapheme_leave_one_label() {
    let text = "a👨\u{200d}👩b";
    assert_eq!(redact(text, &[(span(1, 2), "MAN"), (span(3, 4), "WOMAN")]), "a[MAN]b");
}

#[test]
fn only_the_judged_pieces_of_a_body_change() {
    let part = |text: &str| Part::Text { text: text.into() };
    let image = Part::ImageUrl { image_url: serde_json::json!({"url": "a"}) };
    let body =
        Body::Content(Content::Parts(vec![part("keep"), image.clone(), part("mail a@b.io")]));
    let pieces = body.pieces(Judge::All, ContentType::Text);
    let found = Place { piece: 2, span: Some(span(5, 11)) };
    let whole = Place { piece: 0, span: None };
    let redacted = redact_body(&body, &pieces, [(&found, "EMAIL"), (&whole, "TOXIC")]);
    let expected = Content::Parts(vec![part("keep"), image, part("mail [EMAIL]")]);
    assert_eq!(redacted, Body::Content(expected));
}

/// Runs of digits, with the marks that combine with them.
fn numbers(text: &str) -> Vec<(Span, &'static str)> {
    let mut found: Vec<(Span, &'static str)> = Vec::new();
    for (at, c) in text.chars().enumerate() {
        match found.last_mut() {
            Some((span, _)) if span.end == at && c.is_ascii_digit() => span.end += 1,
            _ if c.is_ascii_digit() => found.push((span(at, at + 1), "NUMBER")),
            _ => {}
        }
    }
    found
}

fn texts() -> impl Strategy<Value = String> {
    let odd =
        ["a", "7", "42", "e\u{301}", "\u{301}", "\r\n", "👨\u{200d}👩", "🇩🇪", "ש", "\u{202e}"];
    prop::collection::vec(prop::sample::select(odd.to_vec()), 0..12).prop_map(|bits| bits.concat())
}

proptest! {
    #[test]
    fn redacting_twice_changes_nothing_more(text in texts()) {
        let once = redact(&text, &numbers(&text));
        prop_assert!(numbers(&once).is_empty());
        prop_assert_eq!(redact(&once, &numbers(&once)), once);
    }

    #[test]
    fn what_stays_are_whole_graphemes_outside_every_span(
        text in texts(), raw in prop::collection::vec((0usize..30, 1usize..6), 0..6),
    ) {
        let spans: Vec<_> = raw.iter().map(|(at, len)| (span(*at, at + len), "")).collect();
        let mut point = 0;
        let mut kept = String::new();
        for grapheme in text.graphemes(true) {
            let end = point + grapheme.chars().count();
            if !spans.iter().any(|(span, _)| span.start < end && span.end > point) {
                kept.push_str(grapheme);
            }
            point = end;
        }
        prop_assert_eq!(redact(&text, &spans).replace("[]", ""), kept);
    }

    #[test]
    fn the_order_of_findings_of_different_size_never_matters(
        (raw, shuffled) in prop::collection::btree_map(0usize..30, 1usize..9, 0..6)
            .prop_map(|map| map.into_iter().collect::<Vec<_>>())
            .prop_flat_map(|raw| (Just(raw.clone()), Just(raw).prop_shuffle())),
    ) {
        let text = "x".repeat(40);
        let spans = |raw: &[(usize, usize)]| -> Vec<(Span, &str)> {
            let labels = ["", "A", "B", "C", "D", "E", "F", "G", "H"];
            raw.iter().map(|&(at, len)| (span(at, at + len), labels[len])).collect()
        };
        prop_assert_eq!(redact(&text, &spans(&raw)), redact(&text, &spans(&shuffled)));
    }
}
