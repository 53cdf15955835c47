//! Arguments stay JSON.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::domain::finding::Severity;
use crate::domain::redaction::Style;

fn hash(text: &str) -> [u8; 32] {
    *crate::domain::digest::Digest::of(text.as_bytes()).as_bytes()
}

fn redacted(json: &str, spans: &[(usize, usize)], label: &str, style: Style) -> String {
    let mark = |&(start, end): &(usize, usize)| Mark {
        span: Span { start, end },
        label,
        category: "pii",
        score: 0.5,
        severity: Severity::Medium,
    };
    let marks = spans.iter().map(mark).collect();
    let mut draft = Draft::of(json);
    let mut placeholders = Placeholders::new(style, &hash);
    redact((json, &mut draft), marks, &Rule::default(), &mut placeholders);
    draft.finish().0
}

/// Redacts where `part` stands.
fn check(json: &str, part: &str, expected: &str) {
    let start = json[..json.find(part).unwrap()].chars().count();
    let spans = [(start, start + part.chars().count())];
    assert!(is_valid(json), "{json}");
    assert_eq!(redacted(json, &spans, "X", Style::Label), expected, "{json} {part}");
}

#[test]
fn a_span_inside_a_string_leaves_the_rest_as_it_was_written() {
    check(r#"{ "to" : "Ana <a@b.io>\n" }"#, "a@b.io", r#"{ "to" : "Ana <[X]>\n" }"#);
    check(r#"["ünï","a@b.io"]"#, "a@b.io", r#"["ünï","[X]"]"#);
}

#[test]
fn no_escape_sequence_and_no_grapheme_of_the_text_is_cut() {
    check(r#""a\u00e9b""#, "00", r#""a[X]b""#);
    check(r#""a\nb""#, "nb", r#""a[X]""#);
    check(r#""a\\n""#, r"\n", r#""a[X]""#);
    check(r#""\\\"x""#, "x", r#""\\\"[X]""#);
    check(r#""x\ud83d\ude00y""#, "de00", r#""x[X]y""#);
    check(r#""xe\u0301y""#, "e", r#""x[X]y""#);
    check(r#""\ud83d\u0041""#, "41", r#""\ud83d[X]""#);
}

#[test]
fn a_touched_scalar_becomes_a_string_and_structure_stays() {
    check(r#"{"card":4111111111111111,"n":1}"#, "1111", r#"{"card":"[X]","n":1}"#);
    check(r"[true, null]", "ue, nu", r#"["[X]", "[X]"]"#);
    check(r#"{"a":"b","c":[1,{}]}"#, r#":"b","c":[1,{"#, r#"{"a":"[X]","[X]":["[X]",{}]}"#);
    check("-1.5e+3", "5", r#""[X]""#);
    check(r#"{"a" : {} }"#, "{} ", r#"{"a" : {} }"#);
    check(r#"["",""]"#, r#"",""#, r#"["",""]"#);
}

#[test]
fn keys_that_become_equal_are_told_apart() {
    let json = r#"{"a@b":1,"[X]":2,"c@d":{"c@d":3},"\u005bX]_2":4}"#;
    let at = |part: &str, from: usize| from + json[from..].find(part).unwrap();
    let (first, second) = (at("a@b", 0), at("c@d", 0));
    let third = at("c@d", second + 3);
    let spans = [first, second, third].map(|start| (start, start + 3));
    let expected = r#"{"[X]_3":1,"[X]":2,"[X]_4":{"[X]":3},"\u005bX]_2":4}"#;
    assert_eq!(redacted(json, &spans, "X", Style::Label), expected);
}

#[test]
fn a_label_is_one_word_and_preserve_keeps_line_breaks() {
    assert_eq!(redacted(r#"["abc"]"#, &[(2, 3)], r#"a"\"#, Style::Label), r#"["[a__]bc"]"#);
    assert_eq!(redacted(r#""a\nb\u00e9 c""#, &[(0, 99)], "X", Style::Preserve), r#""*\n** *""#);
}

#[test]
fn depth_is_no_limit() {
    let json = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(is_valid(&json));
    let expected = json.replace('1', r#""[X]""#);
    assert_eq!(redacted(&json, &[(0, 200_001)], "X", Style::Label), expected);
}

fn documents() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec![
        "",
        "a",
        "a@b.io",
        "é",
        "e\u{301}",
        "😀",
        "👨\u{200d}👩",
        "\"",
        "\\",
        "\n\r\n",
        "\u{0}",
        "ש",
        "{",
        "]:,",
    ]);
    let text = prop::collection::vec(texts, 0..4).prop_map(|bits| bits.concat());
    let leaf = prop_oneof![
        text.clone().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((text.clone(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The same document, some of its characters written as escape sequences.
fn written(document: &Value, pretty: bool, escape: bool) -> String {
    let json = match pretty {
        true => serde_json::to_string_pretty(document),
        false => serde_json::to_string(document),
    };
    let json = json.unwrap();
    let unit = |c: char| -> String {
        let mut units = [0; 2];
        c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
    };
    let odd = |c: char| escape && !c.is_ascii();
    json.chars().map(|c| if odd(c) { unit(c) } else { c.to_string() }).collect()
}

/// Every string, key and scalar in order, with how many containers there are.
fn leaves(value: &Value, into: &mut Vec<Option<String>>) {
    match value {
        Value::Array(items) => {
            into.push(None);
            items.iter().for_each(|item| leaves(item, into));
        }
        Value::Object(fields) => {
            into.push(None);
            for (key, item) in fields {
                into.push(Some(key.clone()));
                leaves(item, into);
            }
        }
        Value::String(text) => into.push(Some(text.clone())),
        Value::Null | Value::Bool(_) | Value::Number(_) => into.push(Some(value.to_string())),
    }
}

proptest! {
    #[test]
    fn what_was_json_is_json_of_the_same_shape(
        document in documents(), pretty: bool, escape: bool,
        raw in prop::collection::vec((0usize..200, 1usize..12), 0..6),
        style in prop::sample::select(vec![Style::Label, Style::Numbered, Style::Mask, Style::Hash, Style::Preserve]),
    ) {
        let json = written(&document, pretty, escape);
        let spans: Vec<_> = raw.iter().map(|(at, len)| (*at, at + len)).collect();
        let after = redacted(&json, &spans, "L\"\n", style);
        let parsed: Value = serde_json::from_str(&after).unwrap();
        let count = |value: &Value| { let mut all = Vec::new(); leaves(value, &mut all); all.len() };
        prop_assert_eq!(count(&parsed), count(&document));
    }

    #[test]
    fn untouched_text_stays_and_touched_text_goes(
        document in documents(), escape: bool,
        raw in prop::collection::vec((0usize..200, 1usize..12), 0..6),
    ) {
        let json = written(&document, false, escape);
        let spans: Vec<_> = raw.iter().map(|(at, len)| (*at, at + len)).collect();
        let hit = |from: usize, to: usize| spans.iter().any(|(start, end)| *start < to && from < *end);
        let after = redacted(&json, &spans, "Ꝏ", Style::Label);
        let (before, after) = (tokens(&json), (tokens(&after), after));
        prop_assert_eq!(before.len(), after.0.len());
        for (old, new) in before.iter().zip(&after.0) {
            let mut atoms = Vec::new();
            old.atoms(0, &json, |atom| atoms.push(atom));
            let kept = atoms.iter().filter(|atom| !hit(atom.points.start, atom.points.end));
            let kept: String = kept.map(|atom| slice(&json, atom.bytes)).collect();
            let shown = slice(&after.1, new.bytes).replace("[Ꝏ]", "");
            // A key may have been told apart from another by `_2`, `_3`, …; no drawn text holds a `_`.
            let told_apart = shown.rsplit_once('_').map(|(key, _)| key);
            prop_assert!(shown == kept || told_apart == Some(&kept), "{} {}", shown, kept);
        }
    }
}
