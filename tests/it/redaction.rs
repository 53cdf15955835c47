//! Redaction as a caller meets it, and the built-in detectors on what it leaves.

use std::path::Path;

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::{Prepared, prepare};
use detector_orchestrator::domain::finding::Finding;
use detector_orchestrator::domain::overlap::{Mark, Rule};
use detector_orchestrator::domain::redaction::{Placeholders, Style, redact};
use detector_orchestrator::domain::span::{OffsetUnit, Offsets, Span};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::app::{client, edit, spawn, spawn_with, write};
use crate::binary::{Served, command, run_with, text};

const STYLES: [Style; 5] =
    [Style::Label, Style::Numbered, Style::Mask, Style::Hash, Style::Preserve];

#[tokio::test]
async fn the_request_chooses_the_style_over_the_tenant_over_label() {
    let app = spawn_with(|root| {
        let acme = "schema_version: 1\nid: acme\nredaction: {style: mask}\n";
        write(root, "config/tenants/acme.yaml", acme);
    })
    .await;
    let ask = async |tenant: &str, style: Value| {
        let content = "ana@evil.io, eve@evil.io or ana@evil.io";
        let body = json!({"tenant_id": tenant, "content": content, "redaction": style});
        app.ask(&body).await.json()
    };
    let plain = ask("default", json!({})).await;
    assert_eq!(plain["content"], "[EMAIL], [EMAIL] or [EMAIL]", "{plain:#}");
    assert_eq!(plain["redactions"], Value::Null);
    let masked = ask("acme", json!({})).await;
    assert_eq!(masked["content"], "******, ****** or ******", "{masked:#}");
    let preserved = ask("acme", json!({"style": "preserve"})).await;
    assert_eq!(preserved["content"], "***********, *********** or ***********");
    let numbered = ask("acme", json!({"style": "numbered"})).await;
    assert_eq!(numbered["content"], "[EMAIL_1], [EMAIL_2] or [EMAIL_1]");
    let back = json!({"[EMAIL_1]": "ana@evil.io", "[EMAIL_2]": "eve@evil.io"});
    assert_eq!(numbered["redactions"], back);
    let unknown = ask("default", json!({"style": "blur"})).await;
    assert_eq!(unknown["errors"][0]["pointer"], "/redaction/style", "{unknown:#}");
    let detail = unknown["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("`preserve`") && !detail.contains("blur"), "{detail}");
    let extra = ask("default", json!({"colour": "red"})).await;
    assert_eq!(extra["errors"][0]["pointer"], "/redaction/colour", "{extra:#}");
}

#[tokio::test]
async fn hashes_are_equal_within_a_tenant_and_differ_between_tenants() {
    let app = spawn().await;
    let ask = async |tenant: &str, content: &str| {
        let body = json!({"tenant_id": tenant, "content": content, "redaction": {"style": "hash"},
                "include": ["redacted"]});
        app.ask(&body).await.json()["content"].as_str().unwrap().to_owned()
    };
    let first = ask("default", "ana@evil.io").await;
    let digits = first.strip_prefix("[EMAIL:").and_then(|rest| rest.strip_suffix(']')).unwrap();
    assert_eq!(digits.len(), 8);
    assert!(digits.chars().all(|c| c.is_ascii_hexdigit()));
    assert_eq!(ask("default", "or ana@evil.io").await, format!("or {first}"));
    assert_ne!(ask("default", "eve@evil.io").await, first);
    assert_ne!(ask("globex", "ana@evil.io").await, first);
}

#[tokio::test]
async fn arguments_of_tools_stay_json() {
    let app = spawn().await;
    let arguments = r#"{"to":"Ana\n<ana@evil.io>","card":4111111111111111,"eve@evil.io":true}"#;
    let call =
        json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}});
    let messages = json!([{"role": "assistant", "content": null, "tool_calls": [call]}]);
    let value = app.ask(&json!({"messages": messages})).await.json();
    let redacted = &value["messages"][0]["tool_calls"][0]["function"]["arguments"];
    let expected = r#"{"to":"Ana\n<[EMAIL]>","card":"[CREDIT_CARD]","[EMAIL]":true}"#;
    assert_eq!(redacted, expected, "{value:#}");
}

/// Texts around one secret each, in every script and encoding that has broken a span before.
const AROUND: [(&str, &str); 10] = [
    ("👨\u{200d}👩\u{200d}👧 👍🏽 ", " 🇩🇪🇫🇷"),
    ("e\u{301}\u{316} z\u{300}\u{334}\u{35c} ", " o\u{308}"),
    ("שָׁלוֹם ", " \u{202b}עולם\u{202c}"),
    ("مَرْحَبًا ", " بِكَ"),
    ("สวัสดี ", " ครับ"),
    ("नमस्ते क्षि ", " जी"),
    ("\u{1112}\u{1161}\u{11ab}\u{1100} ", " 한국"),
    ("first\r\nsecond\r\n", "\r\nthird"),
    ("𝒳𝔜 𠀋 ", " 😀"),
    ("\u{feff}x\u{200b} ", " \u{200d}y"),
];

#[tokio::test]
async fn every_unit_points_at_the_same_characters_in_every_script() {
    let app = spawn().await;
    let found = "ana@evil.io";
    for (before, after) in AROUND {
        let content = format!("{before}{found}{after}");
        for unit in ["codepoint", "utf16", "byte"] {
            let value = app.ask(&json!({"content": content, "offsets": unit})).await.json();
            let span = &value["findings"][0]["span"];
            let at = |key: &str| usize::try_from(span[key].as_u64().unwrap()).unwrap();
            let (start, end) = (at("start"), at("end"));
            let pointed: String = match unit {
                "codepoint" => content.chars().skip(start).take(end - start).collect(),
                "utf16" => {
                    let units: Vec<u16> = content.encode_utf16().collect();
                    String::from_utf16(&units[start..end]).unwrap()
                }
                _ => content[start..end].to_owned(),
            };
            assert_eq!(pointed, found, "{content:?} {unit}");
            assert_eq!(value["content"], format!("{before}[EMAIL]{after}"), "{unit}");
        }
    }
}

#[tokio::test]
async fn the_way_back_is_nobodys_but_the_callers() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = command(dir.path());
    start.args(["serve", "--listen", "127.0.0.1:0"]).env("ORCHESTRATION_LOG_LEVEL", "debug");
    let served = Served::start(start);
    let body = r#"{"content": "Mail canary-7f3a@evil.io", "redaction": {"style": "numbered"}}"#;
    let url = |path: &str| format!("http://{}{path}", served.address);
    let ask = hyper::Request::post(url("/api/v1/orchestrate"))
        .header("content-type", "application/json")
        .body(http_body_util::Full::from(body.to_owned()))
        .unwrap();
    let answer = read(ask).await;
    assert!(answer.contains(r#"{"[EMAIL_1]":"canary-7f3a@evil.io"}"#), "{answer}");
    let metrics = hyper::Request::get(url("/metrics")).body(Default::default()).unwrap();
    let metrics = read(metrics).await;
    let (_, out, error) = served.stop();
    assert!(out.contains("\"decision\""), "{out}");
    for told in [&metrics, &out, &error] {
        assert!(!told.contains("canary"), "{told}");
    }
    let mut recorded = false;
    for entry in std::fs::read_dir(dir.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue; // Keys.
        }
        let bytes = std::fs::read(&path).unwrap();
        let holds = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        recorded |= holds(b"pii.email");
        assert!(!holds(b"canary") && !holds(b"EMAIL_1"), "{}", path.display());
    }
    assert!(recorded, "the decision is in the store");
}

async fn read(request: hyper::Request<http_body_util::Full<hyper::body::Bytes>>) -> String {
    use http_body_util::BodyExt as _;
    let response = client().request(request).await.unwrap();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    text(&bytes)
}

#[test]
fn scan_redacts_in_the_style_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let scan = |style: &str| {
        run_with(dir.path(), &["scan", "-", "--redact", "--style", style], "ana@evil.io")
    };
    assert_eq!(text(&scan("numbered").stdout), "[EMAIL_1]\n");
    assert_eq!(text(&scan("preserve").stdout), "***********\n");
    let unknown = scan("blur");
    assert_eq!(unknown.status.code(), Some(64));
    assert!(text(&unknown.stderr).contains("preserve"), "{}", text(&unknown.stderr));
}

#[test]
fn a_tenant_file_with_an_unknown_style_is_refused_at_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let root: &Path = dir.path();
    detector_orchestrator::assets::write_to(root).unwrap();
    for (wrong, named) in [
        ("{style: blur}", "preserve"),
        ("{overlap: loudest}", "severity"),
        ("{order: [pii.emial]}", "pii.emial"),
        ("{stile: mask}", "stile"),
    ] {
        edit(
            root,
            "config/tenants/acme.yaml",
            "tier: professional",
            &format!("redaction: {wrong}"),
        );
        let checked = crate::binary::run(root, &["check", "."]);
        let told = text(&checked.stdout) + &text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(65), "{told}");
        assert!(told.contains("acme.yaml:4:") && told.contains(named), "{told}");
        edit(
            root,
            "config/tenants/acme.yaml",
            &format!("redaction: {wrong}"),
            "tier: professional",
        );
    }
}

fn builtins() -> [Prepared; 2] {
    [Builtin::Pii, Builtin::Secrets].map(|kind| prepare(kind, &Value::Null).ok().unwrap())
}

fn found(builtins: &[Prepared], text: &str) -> Vec<Finding> {
    builtins.iter().flat_map(|builtin| builtin.judge(text).findings).collect()
}

fn mark(finding: &Finding) -> Mark<'_> {
    Mark {
        span: finding.place.unwrap().span.unwrap(),
        label: &finding.label,
        category: finding.category.as_str(),
        score: finding.score,
        severity: finding.severity,
    }
}

fn once(text: &str, findings: &[Finding], style: Style, hash: [u8; 32]) -> String {
    let hash = |_: &str| hash;
    let mut placeholders = Placeholders::new(style, &hash);
    placeholders.avoid(text);
    let marks = findings.iter().map(mark).collect();
    redact(text, marks, &Rule::default(), &mut placeholders)
}

/// Hashes whose first digits look like numbers, words and dates.
const HASHES: [[u8; 4]; 6] = [
    [0x41, 0x11, 0x11, 0x11],
    [0x03, 0x01, 0x23, 0x45],
    [0x19, 0x90, 0x12, 0x31],
    [0xde, 0xad, 0xbe, 0xef],
    [0x9f, 0x86, 0xd0, 0x81],
    [0x1e, 0x10, 0x00, 0x00],
];

/// Places in which a secret or a number is likely to be found.
/// An address is missing: with its number gone it is found as a whole, where before the number won.
const FRAMES: [&str; 13] = [
    "{}",
    "password={}",
    "my password is {} ok",
    "api_key = \"{}\"",
    "token: {}\n",
    "curl -u ana:{} https://x.io",
    "Authorization: Bearer {}",
    "mail {} or call {}",
    "phone: {}, born on {}",
    "card {} ssn {} iban {}",
    "postgres://u:{}@db.io/x",
    "<{}>\"{}\"'{}'",
    "passport no. {} (ip {})",
];

const SECRETS: [&str; 12] = [
    "ana@evil.io",
    "AKIAZ3VQ7JRTLWXK5P2D",
    "ghp_x7Kq2mZ9vT4bLw8RnY3cHd6JfG5sPa1QeU0o",
    "4111 1111 1111 1111",
    "GB82 WEST 1234 5698 7654 32",
    "+44 20 7946 0958",
    "Tr0ub4dor&3",
    "192.168.7.31",
    "078-05-1120",
    "postgres://u:hunter22@db.io/x",
    "1990-12-31",
    "00:1a:2b:3c:4d:5e",
];

#[test]
fn the_built_in_detectors_find_nothing_in_what_redaction_wrote() {
    for frame in FRAMES {
        for secret in SECRETS {
            redact_twice(&frame.replace("{}", secret), |once, twice, again| {
                assert_eq!(once, twice);
                assert!(again.is_empty(), "{once:?} {again:?}");
            });
        }
    }
}

/// Calls `check` with what each style makes of `content` and with what is found there again.
fn redact_twice(content: &str, mut check: impl FnMut(&str, &str, &[Finding])) {
    let builtins = builtins();
    let findings = found(&builtins, content);
    for style in STYLES {
        for start in HASHES {
            let mut hash = [0x5a; 32];
            hash[..4].copy_from_slice(&start);
            let redacted = once(content, &findings, style, hash);
            let again = found(&builtins, &redacted);
            check(&redacted, &once(&redacted, &again, style, hash), &again);
            if style != Style::Hash {
                break;
            }
        }
    }
}

fn documents() -> impl Strategy<Value = String> {
    let secrets = prop::sample::select(SECRETS.to_vec());
    let around = prop::sample::select(AROUND.to_vec());
    let frame = prop::sample::select(FRAMES.to_vec());
    let line = (secrets, around, frame).prop_map(|(secret, (before, after), frame)| {
        before.to_owned() + &frame.replace("{}", secret) + after
    });
    prop::collection::vec(line, 1..4).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Shorter text brings words near that speak for a number elsewhere: such findings may be new,
    /// but none touches a placeholder.
    #[test]
    fn no_placeholder_is_ever_found_in_any_script(content in documents()) {
        let placeholders = r"\[[A-Z][A-Z0-9_]*(:[0-9a-f]{8})?\]|\*[*\s]*";
        let placeholders = regex::Regex::new(placeholders).unwrap();
        redact_twice(&content, |once, _, again| {
            let offsets = Offsets::new(once);
            for found in again {
                let span = found.place.unwrap().span.unwrap();
                let at = |point| offsets.from_codepoint(point, OffsetUnit::Byte);
                let (start, end) = (at(span.start), at(span.end));
                let hit = placeholders.find_iter(once).find(|p| p.start() < end && start < p.end());
                assert!(hit.is_none(), "{once:?} {found:?}");
            }
        });
    }
}

#[test]
fn spans_of_findings_never_reach_into_their_surroundings() {
    let builtins = builtins();
    for (before, after) in AROUND {
        let content = format!("{before}ana@evil.io{after}");
        let start = before.chars().count();
        let spans: Vec<Span> =
            found(&builtins, &content).iter().map(|f| f.place.unwrap().span.unwrap()).collect();
        assert_eq!(spans, [Span { start, end: start + 11 }], "{content:?}");
    }
}
