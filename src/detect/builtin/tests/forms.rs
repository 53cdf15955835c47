//! Every kind of value in every form that a text of programs, terminals and mail gives it.

use serde_json::Value;

use crate::catalog::detector::Builtin;
use crate::detect::builtin::{Prepared, prepare};
use crate::domain::finding::TextView;
use crate::domain::span::Span;
use crate::domain::view;

/// `count` signs of `alphabet`, each run of the same seed alike.
fn random(seed: u64, alphabet: &str, count: usize) -> String {
    let (signs, mut state) = (alphabet.as_bytes(), seed * 2 + 1);
    let sign = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        char::from(signs[(state >> 33) as usize % signs.len()])
    };
    (0..count).map(sign).collect()
}

/// Category, and a value of it.
fn kinds() -> Vec<(&'static str, String)> {
    let any = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let (hex, low) = ("0123456789abcdef", "abcdefghijklmnopqrstuvwxyz0123456789");
    let jwt = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4ifQ";
    let lines: Vec<String> = (0..12).map(|line| random(line, any, 64)).collect();
    let pem = ["-----BEGIN RSA ", "PRIVATE KEY-----\n", &lines.join("\n")].concat();
    vec![
        ("pii.email", "ana.smith@evil.io".to_owned()),
        ("pii.credit_card", "4111 1111 1111 1111".to_owned()),
        ("pii.credit_card", "4111111111111111".to_owned()),
        ("pii.iban", "DE89370400440532013000".to_owned()),
        ("pii.iban", "DE89 3704 0044 0532 0130 00".to_owned()),
        ("pii.ssn", "536-90-4399".to_owned()),
        ("pii.phone", "+44 20 7946 0958".to_owned()),
        ("pii.ip_address", "203.0.113.77".to_owned()),
        ("pii.ip_address", "2001:db8:85a3::8a2e:370:7334".to_owned()),
        ("pii.mac_address", "00:1b:63:84:45:e6".to_owned()),
        ("pii.national_id", "AB123456C".to_owned()),
        ("pii.crypto_wallet", format!("0x{}", random(1, hex, 40))),
        ("secrets.jwt", format!("{jwt}.{}", random(2, any, 43))),
        ("secrets.jwt", format!("{jwt}.{}", random(3, any, 342))),
        ("secrets.aws_access_key", "AKIAZ3VQ7JRTLWXK5P2D".to_owned()),
        ("secrets", format!("ghp_{}", random(4, any, 36))),
        ("secrets", format!("glpat-{}", random(5, any, 20))),
        ("secrets", format!("xoxb-{}-{}", random(6, "123456789", 12), random(7, any, 24))),
        ("secrets", format!("AIza{}", random(8, any, 35))),
        ("secrets", format!("npm_{}", random(9, low, 36))),
        ("secrets", format!("sk_live_{}", random(10, any, 24))),
        ("secrets", format!("SG.{}.{}", random(11, any, 22), random(12, any, 43))),
        ("secrets", format!("sk-{}T3BlbkFJ{}", random(13, any, 20), random(14, any, 20))),
        ("secrets", format!("sk-ant-api03-{}AA", random(15, any, 93))),
        ("secrets", format!("pypi-AgEIcHlwaS5vcmc{}", random(16, any, 60))),
        ("secrets", format!("hf_{}", random(17, &any[..52], 34))),
        ("secrets", format!("dop_v1_{}", random(18, hex, 64))),
        ("secrets", format!("shpat_{}", random(19, hex, 32))),
        ("secrets", format!("eyJrIjoi{}", random(20, any, 80))),
        ("secrets", "postgres://app:S3cr3tPw9@db.example.com:5432/x".to_owned()),
        ("secrets.private_key", format!("{pem}\n-----END RSA PRIVATE KEY-----")),
    ]
}

/// Where findings of `category` lie in `text`, in characters, on any of its views.
fn spans(detectors: &[Prepared], text: &str, category: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut judge = |text: &str, view: Option<&view::View>| {
        for finding in detectors.iter().flat_map(|detector| detector.judge(text).findings) {
            let span = finding.place.and_then(|place| place.span).unwrap();
            if finding.category.as_str().starts_with(category) {
                spans.push(view.map_or(span, |view| view.to_raw(span).unwrap()));
            }
        }
    };
    judge(text, None);
    for view in view::of(text, &[TextView::Normalized, TextView::Decoded]) {
        judge(&view.text, Some(&view));
    }
    spans
}

/// What is wrong with the findings in `before`, `value`, `after`; a finding may take along the
/// `slack` characters before the value, and the path of an address the escape behind it.
fn fault(detectors: &[Prepared], category: &str, parts: [&str; 3], slack: usize) -> Option<String> {
    let [start, value, _] = parts.map(|part| part.chars().count());
    let (whole, end) = (parts.concat(), start + value);
    let found = spans(detectors, &whole, category);
    let exact = |span: &&Span| span.start + slack >= start && span.start <= start;
    let behind = if parts[1].contains("://") { 7 } else { 0 };
    let held = found.iter().filter(exact).any(|span| (end..=end + behind).contains(&span.end));
    (!held).then(|| format!("{category} {whole:?} {start}..{end}: {found:?}"))
}

fn detectors() -> Vec<Prepared> {
    let prepared = [Builtin::Pii, Builtin::Secrets].map(|kind| prepare(kind, &Value::Null));
    prepared.map(|prepared| prepared.unwrap()).into()
}

fn check(forms: &[&str], slack: usize) {
    let detectors = detectors();
    let mut faults = Vec::new();
    for (category, value) in kinds() {
        for form in forms.iter().chain(&["|"]) {
            let (before, after) = form.split_once('|').unwrap();
            let (before, after) = (format!("see there {before}"), format!("{after} and more"));
            faults.extend(fault(&detectors, category, [&before, &value, &after], slack));
        }
    }
    assert!(faults.is_empty(), "{}:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_kind_is_found_directly_behind_an_escape_sequence() {
    check(
        &[
            r"\n|\n",
            r"x\n|",
            r"issued:\n|\n",
            r"x\t|\t",
            r"\r\n|\r\n",
            r"x\\n|\\n",
            r"x\\\\n|",
            "%0A|",
            "x%20|%20x",
            "a%22|%22",
            "x%3D|%26",
            r"\u0022|\u0022",
            r"x\u003d|\u0026y",
            r"\u003cb\u003e|\u003c/b\u003e",
            r"\x22|\x22",
            "x&#10;|&#10;",
            "&nbsp;|&nbsp;",
            "x&quot;|&quot;",
        ],
        0,
    );
}

#[test]
fn every_kind_is_found_in_the_colours_of_a_terminal() {
    check(
        &[
            "x\u{1b}[31m|\u{1b}[0m",
            "x \u{1b}[1;31m\u{1b}[K|\u{1b}[m\u{1b}[K",
            "x\u{1b}[38;2;255;100;0m|\u{1b}(B\u{1b}[m",
            "x\u{1b}[20G|\u{1b}[2K",
            "x\u{1b}]8;;https://a.io/\u{1b}\\|\u{1b}]8;;\u{1b}\\",
            "x\u{1b}]0;title\u{7}|\u{1b}[0m",
            r"x\u001b[31m|\u001b[0m",
            r"x\u001B[1;31m|\u001B[0m",
            r"x\x1b[31m|\x1b[0m",
            r"x\033[31m|\033[0m",
            r"x\e[31m|\e[0m",
            r"x\\u001b[31m|\\u001b[0m",
        ],
        0,
    );
}

#[test]
fn every_kind_is_found_whatever_colours_stand_inside() {
    let detectors = detectors();
    let mut faults = Vec::new();
    for (category, value) in kinds() {
        for (at, sign) in [(3, "\u{1b}[1m"), (7, "\u{1b}[0;32m"), (5, r"\u001b[7m")] {
            let coloured = format!("{}{sign}{}", &value[..at], &value[at..]);
            faults.extend(fault(&detectors, category, ["see ", &coloured, " there"], 0));
        }
    }
    assert!(faults.is_empty(), "{}:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_kind_is_found_in_quoted_printable() {
    // What a finding on the raw text takes along: `3D` in front of an address.
    check(&["token=3D|", "<a href=3D\"|\">", "gr=C3=BC=C3=9Fe=20|=20", "x=20y\n=3D|=\n"], 2);
    let detectors = detectors();
    let mut faults = Vec::new();
    for (category, value) in kinds() {
        for (at, end) in [(3, "=\r\n"), (5, "=\n"), (8, "=\r\n"), (value.len() - 2, "=\n")] {
            let broken = format!("{}{end}{}", &value[..at], &value[at..]);
            faults.extend(fault(&detectors, category, ["see ", &broken, " there"], 0));
        }
        let mail = quoted(&format!("Gr\u{fc}\u{df}e: a=b, {value}\r\n"));
        let start = mail.find("=3Db, ").unwrap() + 6;
        let mail = [&mail[..start], mail[start..].trim_end(), "\r\n"];
        faults.extend(fault(&detectors, category, mail, 0));
    }
    assert!(faults.is_empty(), "{}:\n{}", faults.len(), faults.join("\n"));
}

/// As mail programs write it, in lines of 76 characters.
fn quoted(text: &str) -> String {
    let (mut out, mut line) = (String::new(), 0);
    for byte in text.bytes() {
        let sign = match byte {
            b'\r' | b'\n' | b' '..=b'<' | b'>'..=b'~' => char::from(byte).to_string(),
            _ => format!("={byte:02X}"),
        };
        line = if byte == b'\n' { 0 } else { line };
        if line + sign.len() > 75 && !matches!(byte, b'\r' | b'\n') {
            out.push_str("=\r\n");
            line = 0;
        }
        line += if byte == b'\n' { 0 } else { sign.len() };
        out.push_str(&sign);
    }
    out
}
