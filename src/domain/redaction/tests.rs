//! What redaction must never leave behind.

use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation as _;

use super::*;
use crate::domain::category::Category;
use crate::domain::content::{
    Content, ContentType, FunctionCall, Judge, Message, Part, Role, ToolCall,
};
use crate::domain::finding::{Place, Severity};
use crate::domain::span::Span;

const STYLES: [Style; 5] =
    [Style::Label, Style::Numbered, Style::Mask, Style::Hash, Style::Preserve];

fn span(start: usize, end: usize) -> Span {
    Span { start, end }
}

fn mark<'a>((span, label): &(Span, &'a str)) -> Mark<'a> {
    Mark { span: *span, label, category: "pii", score: 0.5, severity: Severity::Medium }
}

/// Eight bytes that differ where texts differ, which is all a test needs of a hash.
fn hash(text: &str) -> [u8; 32] {
    *crate::domain::digest::Digest::of(text.as_bytes()).as_bytes()
}

fn styled(text: &str, spans: &[(Span, &str)], style: Style) -> String {
    let mut placeholders = Placeholders::new(style, &hash);
    placeholders.avoid(text);
    redact(text, spans.iter().map(mark).collect(), &Rule::default(), &mut placeholders)
}

fn labelled(text: &str, spans: &[(Span, &str)]) -> String {
    styled(text, spans, Style::Label)
}

#[test]
fn each_span_gives_way_to_its_label() {
    let text = "Mail ana@evil.io, key AKIA";
    let given = [(span(22, 26), "AWS_ACCESS_KEY"), (span(5, 16), "EMAIL")];
    assert_eq!(labelled(text, &given), "Mail [EMAIL], key [AWS_ACCESS_KEY]");
    assert_eq!(labelled(text, &[]), text);
}

#[test]
fn every_style_has_its_placeholder() {
    let text = "a@b.io c@d.io\r\na@b.io";
    let given = [(span(0, 6), "EMAIL"), (span(7, 13), "EMAIL"), (span(15, 21), "EMAIL")];
    let (ab, cd) = (&hex::encode(hash("a@b.io"))[..8], &hex::encode(hash("c@d.io"))[..8]);
    for (style, expected) in [
        (Style::Label, "[EMAIL] [EMAIL]\r\n[EMAIL]".to_owned()),
        (Style::Numbered, "[EMAIL_1] [EMAIL_2]\r\n[EMAIL_1]".to_owned()),
        (Style::Mask, "****** ******\r\n******".to_owned()),
        (Style::Hash, format!("[EMAIL:{ab}] [EMAIL:{cd}]\r\n[EMAIL:{ab}]")),
        (Style::Preserve, "****** ******\r\n******".to_owned()),
    ] {
        assert_eq!(styled(text, &given, style), expected);
        assert_eq!(styled(text, &[], style), text);
    }
    let names = STYLES.map(|style| serde_json::to_value(style).unwrap());
    assert_eq!(names.map(|name| name.as_str().unwrap().to_owned()), Style::NAMES);
}

#[test]
fn a_hash_never_looks_like_a_number() {
    let mut all_digits = [0x12; 32];
    all_digits[4..8].copy_from_slice(&[0x03, 0xd1, 0x23, 0x45]);
    let hash = |_: &str| all_digits;
    let mut placeholders = Placeholders::new(Style::Hash, &hash);
    let mut out = String::new();
    placeholders.put("PHONE", "x", &mut out);
    assert_eq!(out, "[PHONE:03d12345]");
}

#[test]
fn a_mask_tells_no_length_and_preserve_keeps_every_line() {
    let check = |text: &str, style, expected: &str| {
        let whole = span(0, text.chars().count());
        assert_eq!(styled(text, &[(whole, "X")], style), expected);
    };
    check("a", Style::Mask, "******");
    check("a much longer one", Style::Mask, "******");
    check("12 Main\tSt\r\n\u{a0}Ulm 👨\u{200d}👩", Style::Preserve, "** ****\t**\r\n\u{a0}*** ***");
}

#[test]
fn a_number_that_stands_in_the_text_is_not_given() {
    let text = "[EMAIL_1] [EMAIL_3] x[EMAIL_02] a@b.io c@d.io";
    let given = [(span(32, 38), "EMAIL"), (span(39, 45), "EMAIL")];
    let redacted = styled(text, &given, Style::Numbered);
    assert_eq!(redacted, "[EMAIL_1] [EMAIL_3] x[EMAIL_02] [EMAIL_4] [EMAIL_5]");
}

#[test]
fn overlapping_spans_are_replaced_once_by_the_longest_label() {
    let text = "0123456789";
    let check =
        |given: &[(Span, &str)], expected: &str| assert_eq!(labelled(text, given), expected);
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
        assert_eq!(labelled(text, &[(span(start, end), "X")]), expected, "{text:?}");
    };
    check("ae\u{301}z", 1, 2, "a[X]z");
    check("ae\u{301}z", 2, 3, "a[X]z");
    check("a👨\u{200d}👩\u{200d}👧b", 3, 4, "a[X]b");
    check("🇩🇪🇫🇷", 2, 3, "🇩🇪[X]");
    check("a\r\nb", 2, 3, "a[X]b");
    check("שלום ana@b.io", 5, 13, "שלום [X]");
    check("שָׁלוֹם x", 1, 2, "[X]לוֹם x");
    check("مَرْحَبًا", 2, 3, "مَ[X]حَبًا");
    check("สวัสดี", 3, 4, "สวั[X]ดี");
    check("क्षि x", 1, 2, "[X] x");
    check("\u{1100}\u{1161}\u{11a8} x", 1, 2, "[X] x");
    check("z\u{300}\u{301}\u{302}\u{303}y", 3, 4, "[X]y");
    check("😀 x", 2, 3, "😀 [X]");
}

#[test]
fn two_spans_in_one_grapheme_leave_one_label() {
    let text = "a👨\u{200d}👩b";
    assert_eq!(labelled(text, &[(span(1, 2), "MAN"), (span(3, 4), "WOMAN")]), "a[MAN]b");
}

fn finding(piece: usize, span: Option<Span>, label: &str) -> JudgedFinding {
    JudgedFinding {
        id: 0,
        category: Category::parse("pii.email").unwrap(),
        label: label.into(),
        score: 0.9,
        severity: Severity::Medium,
        detectors: vec![],
        place: Some(Place { piece, span }),
        pointer: None,
        view: None,
        attributes: BTreeMap::new(),
        standing: true,
    }
}

/// Every body that is redacted here is redacted again from what is kept of it, to the same.
fn redacted(body: &Body, findings: &[JudgedFinding], style: Style) -> Redacted {
    let pieces = body.pieces(Judge::All, ContentType::Text);
    let how = How { style, rule: &Rule::default(), hash: &hash, again: true };
    let first = redact_body(body, &pieces, findings, how);
    let kept = serde_json::to_string(first.edits.as_ref().unwrap()).unwrap();
    let again = serde_json::from_str::<Edits>(&kept).unwrap().apply(body);
    assert_eq!((&again.body, &again.originals), (&first.body, &first.originals), "{kept}");
    first
}

#[test]
fn only_the_judged_pieces_of_a_body_change() {
    let part = |text: &str| Part::Text { text: text.into() };
    let image = Part::ImageUrl { image_url: serde_json::json!({"url": "a"}) };
    let body =
        Body::Content(Content::Parts(vec![part("keep"), image.clone(), part("mail a@b.io")]));
    let findings = [finding(2, Some(span(5, 11)), "EMAIL"), finding(0, None, "TOXIC")];
    let redacted = redacted(&body, &findings, Style::Label);
    let expected = Content::Parts(vec![part("keep"), image, part("mail [EMAIL]")]);
    assert_eq!(redacted.body, Body::Content(expected));
    assert_eq!(redacted.originals, None);
}

fn chat(texts: &[&str], arguments: &str) -> Body {
    let say = |text: &&str| Message {
        role: Role::User,
        content: Some(Content::Text((*text).into())),
        name: None,
        tool_calls: vec![],
        tool_call_id: None,
    };
    let mut messages: Vec<Message> = texts.iter().map(say).collect();
    let function = FunctionCall { name: "f".into(), arguments: arguments.into() };
    let call = ToolCall { id: "1".into(), kind: "function".into(), function };
    messages.push(Message {
        content: None,
        tool_calls: vec![call],
        role: Role::Assistant,
        ..say(&"")
    });
    Body::Messages(messages)
}

#[test]
fn numbers_hold_over_all_pieces_and_lead_back() {
    let body = chat(&["a@b.io", "_1] c@d.io"], r#"{"to":"a@b.\u0069o","\u005bX_2]":0}"#);
    let findings = [
        finding(0, Some(span(0, 6)), "EMAIL"),
        finding(1, Some(span(4, 10)), "EMAIL"),
        finding(2, Some(span(7, 18)), "EMAIL"),
    ];
    let redacted = redacted(&body, &findings, Style::Numbered);
    let expected = chat(&["[EMAIL_3]", "_1] [EMAIL_4]"], r#"{"to":"[EMAIL_3]","\u005bX_2]":0}"#);
    assert_eq!(redacted.body, expected);
    let pairs = [("[EMAIL_3]", "a@b.io"), ("[EMAIL_4]", "c@d.io")];
    let pairs = pairs.map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(redacted.originals, Some(BTreeMap::from(pairs)));
    assert_eq!(format!("{redacted:?}"), "Redacted");
}

#[test]
fn what_is_kept_to_redact_again_holds_nothing_of_the_text() {
    let arguments = r#"{"canary a@b.io":4111,"canary a@b.io x":"canary a@b.io canary"}"#;
    let body = chat(&["canary a@b.io canary"], arguments);
    let at = |piece, start, end| finding(piece, Some(span(start, end)), "E");
    let findings = [at(0, 7, 13), at(1, 9, 15), at(1, 18, 20), at(1, 30, 38), at(1, 48, 54)];
    for style in STYLES {
        let kept = serde_json::to_string(&redacted(&body, &findings, style).edits).unwrap();
        assert!(
            !kept.contains("canary") && !kept.contains("a@b") && !kept.contains("41"),
            "{kept}"
        );
    }
}

#[test]
fn arguments_that_are_no_json_are_text() {
    let body = chat(&["x"], r#"{"to": "a@b.io"#);
    let redacted = redacted(&body, &[finding(1, Some(span(7, 14)), "E")], Style::Label);
    assert_eq!(redacted.body, chat(&["x"], r#"{"to": [E]"#));
}

/// Bits of every script and encoding that has ever broken a span.
const BITS: [&str; 30] = [
    "a",
    "7",
    "42",
    " ",
    "\n",
    "\r\n",
    "\r",
    "e\u{301}",
    "\u{301}",
    "z\u{300}\u{316}\u{334}\u{35c}",
    "👨\u{200d}👩\u{200d}👧",
    "👍🏽",
    "\u{200d}",
    "\u{200b}",
    "🇩🇪",
    "🇩",
    "𝒳",
    "ש",
    "שָׁ",
    "مَرْ",
    "\u{202e}",
    "ลี่",
    "क्षि",
    "한",
    "ᄒ",
    "ᅡᆫ",
    "\u{feff}",
    "[",
    "_1]",
    "***",
];

fn texts() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(BITS.to_vec()), 0..16).prop_map(|bits| bits.concat())
}

fn spans() -> impl Strategy<Value = Vec<(Span, &'static str)>> {
    let one = (0usize..40, 1usize..7, prop::sample::select(vec!["A", "B"]));
    prop::collection::vec(one.prop_map(|(at, len, label)| (span(at, at + len), label)), 0..6)
}

/// Graphemes, and whether a span touches them.
fn marked<'t>(text: &'t str, spans: &[(Span, &str)]) -> Vec<(&'t str, bool)> {
    let mut point = 0;
    let graphemes = text.graphemes(true).map(|grapheme| {
        let start = point;
        point += grapheme.chars().count();
        (grapheme, spans.iter().any(|(span, _)| span.start < point && span.end > start))
    });
    graphemes.collect()
}

/// Runs of digits.
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

proptest! {
    #[test]
    fn redacting_twice_changes_nothing_more(text in texts()) {
        for style in [Style::Label, Style::Mask, Style::Preserve] {
            let once = styled(&text, &numbers(&text), style);
            prop_assert!(numbers(&once).is_empty());
            prop_assert_eq!(styled(&once, &numbers(&once), style), once);
        }
    }

    #[test]
    fn what_stays_are_whole_graphemes_outside_every_span(text in texts(), spans in spans()) {
        let unlabelled: Vec<_> = spans.iter().map(|(span, _)| (*span, "Ꝏ")).collect();
        let kept = marked(&text, &spans).into_iter().filter(|(_, hit)| !hit);
        let kept: String = kept.map(|(grapheme, _)| grapheme).collect();
        prop_assert_eq!(labelled(&text, &unlabelled).replace("[Ꝏ]", ""), kept);
    }

    #[test]
    fn what_is_redacted_again_is_the_same_in_every_style(text in texts(), spans in spans()) {
        let arguments = serde_json::json!({&text: [&text, 42, null], "a": true, "b": &text});
        let body = chat(&[&text], &arguments.to_string());
        let findings: Vec<_> = (0..40)
            .flat_map(|n| spans.iter().map(move |spot| (n, spot)))
            .filter(|(n, _)| n % 7 == 0)
            .flat_map(|(n, (at, label))| {
                let moved = span(at.start + n, at.end + n);
                [finding(0, Some(*at), label), finding(1, Some(moved), label)]
            })
            .collect();
        for style in STYLES {
            // It is compared in there.
            redacted(&body, &findings, style);
        }
    }

    #[test]
    fn preserve_changes_each_point_of_a_span_and_no_other(text in texts(), spans in spans()) {
        let stars = |grapheme: &str| -> String {
            grapheme.chars().map(|c| if c.is_whitespace() { c } else { '*' }).collect()
        };
        let expected = marked(&text, &spans).into_iter();
        let expected: String =
            expected.map(|(g, hit)| if hit { stars(g) } else { g.to_owned() }).collect();
        prop_assert_eq!(styled(&text, &spans, Style::Preserve), expected);
    }

    #[test]
    fn numbered_placeholders_lead_back_to_the_text(text in texts(), spans in spans()) {
        let mut placeholders = Placeholders::new(Style::Numbered, &hash);
        placeholders.avoid(&text);
        let marks = spans.iter().map(mark).collect();
        let mut redacted = redact(&text, marks, &Rule::default(), &mut placeholders);
        let originals = placeholders.into_originals().unwrap();
        for placeholder in originals.keys() {
            prop_assert!(!text.contains(placeholder.as_str()));
        }
        for (placeholder, original) in originals {
            redacted = redacted.replace(&placeholder, &original);
        }
        prop_assert_eq!(redacted, text);
    }
}
