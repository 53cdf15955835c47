//! Tables of bad files with the place each fault is reported at.

use std::collections::BTreeMap;

use super::*;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its decoding is tested")]
struct Sample {
    name: String,
    #[serde(default)]
    timeout: Option<Span>,
    #[serde(default)]
    on: Option<bool>,
    #[serde(default)]
    list: Vec<u32>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn check(text: &str, expected: &str) {
    let faults = parse::<Sample>(FaultKind::Detector, "f", text).unwrap_err();
    let seen: Vec<String> =
        faults.iter().map(|f| format!("{}:{}:{}", f.line, f.column, f.code)).collect();
    assert_eq!(seen.join(" "), expected, "{text:?} {faults:?}");
}

#[test]
fn every_fault_names_the_place_of_the_offending_token() {
    for (text, expected) in [
        ("name: a\nnmae: b\n", "2:1:unknown_key"),
        ("name: a\nname: b\n", "2:1:duplicate_key"),
        ("timeout: 1s\n", "1:1:missing_key"),
        ("name: a\ntimeout: 300\n", "2:10:bad_value"),
        ("name: a\ntimeout: 300 ms\n", "2:10:bad_value"),
        ("name: a\non: yes\n", "2:5:bad_value"),
        ("name: a\nlist: [1, two]\n", "2:11:bad_value"),
        ("name: a\nlabels:\n  x: 1.5\n", "3:6:bad_value"),
        ("name: 5\n", "1:7:bad_value"),
        ("\u{feff}name: a\n", "1:1:byte_order_mark"),
        ("name: [1, 2\n", "1:7:yaml_syntax"),
        ("name: a\n---\nname: b\n", "3:1:yaml_syntax"),
        ("- a\n", "1:1:bad_value"),
    ] {
        check(text, expected);
    }
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_known_one() {
    let faults = parse::<Sample>(FaultKind::Detector, "f", "name: a\ntimout: 1s\n").unwrap_err();
    assert_eq!(faults[0].hint.as_deref(), Some("write `timeout`"));
}

#[test]
fn a_tab_is_named() {
    let faults = parse::<Sample>(FaultKind::Detector, "f", "labels:\n\tx: y\n").unwrap_err();
    assert!(faults[0].message.contains("tab"), "{faults:?}");
}

#[test]
fn bombs_and_giants_are_refused_quickly() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, before) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip("abcdefg".chars()) {
        bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(","));
    }
    let faults = parse_value(FaultKind::Policy, "f", &bomb).unwrap_err();
    assert_eq!(faults[0].code, "too_complex", "{faults:?}");
    let deep = "[".repeat(2000);
    assert!(parse_value(FaultKind::Policy, "f", &deep).is_err());
    let giant = "a".repeat(BYTES_MAX + 1);
    assert_eq!(parse_value(FaultKind::Policy, "f", &giant).unwrap_err()[0].code, "too_large");
}

#[test]
fn bytes_that_are_no_utf8_name_their_place() {
    let fault = &text(FaultKind::Tenant, "f", b"a: b\nc: \xff").unwrap_err()[0];
    assert_eq!((fault.line, fault.column, fault.code), (2, 4, "not_utf8"));
}

#[test]
fn values_keep_their_types() {
    let value = parse_value(FaultKind::Policy, "f", "a: [1, 1.5, true, null, x, '2']\n").unwrap();
    assert_eq!(value, serde_json::json!({"a": [1, 1.5, true, null, "x", "2"]}));
    assert_eq!(Span::parse("5m").unwrap().0.as_secs(), 300);
    assert!(Span::parse("99999999999999999999s").is_none());
}
