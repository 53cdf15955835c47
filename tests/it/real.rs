//! Detectors written by others, served by the test, behind the running service: Microsoft
//! Presidio's analyzer and TrustyAI's guardrails-detectors. `tests/real/install` puts them there.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::app::{App, client, spawn_with, write};
use crate::binary::{run, text};

/// A server of someone else's detector; killed when dropped, and ends when this process does.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Starts `kind` on `port`, any free one when 0, and waits until it answers.
    pub async fn start(kind: &str, port: u16) -> Server {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let home = root.join("target/real-detectors");
        let wanted = std::fs::read(root.join("tests/real/requirements.lock")).unwrap();
        if std::fs::read(home.join("lock")).ok() != Some(wanted) {
            let missing = std::fs::read_to_string(home.join("missing"));
            panic!(
                "the detectors of others are not installed: {}",
                missing.as_deref().map_or("run tests/real/install", str::trim)
            );
        }
        let mut child = Command::new(home.join("venv/bin/python"))
            .args(["-W", "ignore", "tests/real/server.py", kind, &port.to_string()])
            .current_dir(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("listening ").and_then(|port| port.parse().ok());
        let server = Server { port: port.unwrap_or_else(|| panic!("{kind}: {line:?}")), child };
        let health = format!("http://127.0.0.1:{}/health", server.port).parse().unwrap();
        assert_eq!(client().get(health).await.unwrap().status(), 200, "{kind}");
        server
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Presidio takes seconds to start, so one serves every test of this process.
async fn presidio() -> &'static Server {
    static SERVER: tokio::sync::OnceCell<Server> = tokio::sync::OnceCell::const_new();
    SERVER.get_or_init(|| Server::start("presidio", 0)).await
}

/// The service; its tenant `real` requires the detector of `file` and no other.
async fn required(name: &str, file: &str) -> App {
    spawn_with(|root| {
        write(root, &format!("detectors/{name}.yaml"), file);
        write(
            root,
            "config/tenants/real.yaml",
            "schema_version: 1\nid: real\npolicies: [standard]\n",
        );
        let data = format!("settings:\n  required: [{name}]\n");
        write(root, "policies/tenants/real/standard/data.yaml", &data);
    })
    .await
}

/// `docs/examples/detectors/<name>.yaml`, at `server`, with patience for a busy machine.
fn example(name: &str, server: &Server) -> String {
    format!("{}timeout: 30s\n", example_at(name, server.port))
}

/// `docs/examples/detectors/<name>.yaml`, at a port of this machine.
pub fn example_at(name: &str, port: u16) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let path = format!("{root}/docs/examples/detectors/{name}.yaml");
    let file = std::fs::read_to_string(path).unwrap();
    let (before, after) = file.split_once("http://127.0.0.1:").unwrap();
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{before}http://127.0.0.1:{port}{after}")
}

fn ask(content: &str) -> Value {
    json!({
        "content": content, "tenant_id": "real", "include": ["detectors"], "timeout_ms": 60_000
    })
}

fn report(value: &Value) -> &Value {
    &value["detectors"][0]
}

fn outcome(value: &Value) -> (&str, &str) {
    let report = report(value);
    (report["status"].as_str().unwrap(), report["error"].as_str().unwrap_or_default())
}

/// Category, score and the characters between the positions, for each finding at `pointer`.
fn found<'a>(value: &'a Value, pointer: &str, content: &str) -> Vec<(&'a str, f64, String)> {
    let findings = report(value)["findings"].as_array().unwrap();
    let here = findings.iter().filter(|finding| finding["span"]["pointer"] == pointer);
    here.map(|finding| {
        let at = |key: &str| finding["span"][key].as_u64().unwrap() as usize;
        let (start, end) = (at("start"), at("end"));
        assert!(end <= content.chars().count(), "{finding:#}");
        let text = content.chars().skip(start).take(end - start).collect();
        (finding["category"].as_str().unwrap(), finding["score"].as_f64().unwrap(), text)
    })
    .collect()
}

/// What stands before a match and moves it differently in bytes, UTF-16 and code points.
const BEFORE: [&str; 6] = [
    "",
    "naïve ",
    "e\u{301}a\u{300} ",
    "👩🏽\u{200d}🚀🍕 ",
    "כתובת \u{200f}",
    "line one\r\n\u{fe0f}🇩🇪\r\n",
];

#[tokio::test]
async fn presidio_places_every_finding_at_its_code_points() {
    places_every_finding("presidio").await;
}

#[tokio::test]
async fn presidio_attached_by_a_mapping_alone_says_the_same() {
    places_every_finding("presidio-by-mapping").await;
}

async fn places_every_finding(name: &str) {
    let server = presidio().await;
    let app = required(name, &example(name, server)).await;
    let cases = [
        ("write to ana@example.org today", "pii.email", 1.0, "ana@example.org"),
        ("paid by 4111 1111 1111 1111 ok", "pii.credit_card", 1.0, "4111 1111 1111 1111"),
        ("the IBAN is DE89370400440532013000", "pii.iban", 1.0, "DE89370400440532013000"),
        ("My SSN is 536-22-1234.", "pii.ssn", 0.85, "536-22-1234"),
        ("My name is Ada Lovelace.", "pii.person", 0.85, "Ada Lovelace"),
    ];
    for before in BEFORE {
        for (sentence, category, score, part) in cases {
            let content = format!("{before}{sentence}");
            let answer = app.ask(&ask(&content)).await;
            assert!(!answer.text.contains(part), "the answer repeats it: {}", answer.text);
            let value = answer.json();
            assert_eq!(outcome(&value), ("success", ""), "{content:?}: {value:#}");
            let found = found(&value, "/content", &content);
            let wanted = (category, score, part.to_owned());
            assert!(found.contains(&wanted), "{content:?}: {found:?}");
            assert_eq!(value["coverage"]["complete"], true, "{value:#}");
        }
    }
    let value = app.ask(&ask("The soup is warm.")).await.json();
    assert_eq!(report(&value)["findings"], json!([]), "{value:#}");
    assert_eq!((&value["action"], &report(&value)["label"]), (&json!("allow"), &Value::Null));
    let value = app.ask(&ask("🍕 ana@example.org")).await.json();
    let redacted = value["content"].as_str().unwrap();
    assert!(redacted.starts_with("🍕 [EMAIL") && redacted.ends_with(']'), "{redacted}");
}

#[tokio::test]
async fn presidio_judges_every_text_of_a_conversation_in_one_call() {
    let server = presidio().await;
    let app = required("presidio", &example("presidio", server)).await;
    let texts = ["🍕 I am Ada Lovelace", "The soup is warm.", "e\u{301} mail ana@example.org"];
    let value = judges_every_text(&app, &texts, &["pii.person", "", "pii.email"]).await;
    assert_eq!(report(&value)["attempts"], 1, "three texts, one call: {value:#}");
    let probed = probe("presidio", server, "🍕 My name is Ada Lovelace");
    assert!(probed.starts_with("presidio: success after "), "{probed}");
    assert!(probed.contains("  13..25     pii.person PERSON 0.85\n"), "{probed}");
}

#[tokio::test]
async fn guardrails_detectors_place_every_finding_and_take_all_texts_at_once() {
    let server = Server::start("guardrails", 0).await;
    let app = required("guardrails-pii", &example("guardrails-pii", &server)).await;
    let cases = [
        ("write to ana@example.org today", "pii.email", "ana@example.org"),
        ("paid by 4111 1111 1111 1111 ok", "pii.credit_card", "4111 1111 1111 1111"),
        ("from 10.20.30.40", "pii.ip_address", "10.20.30.40"),
        ("my SSN 536-22-1234", "pii.ssn", "536-22-1234"),
    ];
    for before in BEFORE {
        for (sentence, category, part) in cases {
            let content = format!("{before}{sentence}");
            let answer = app.ask(&ask(&content)).await;
            assert!(!answer.text.contains(part), "the answer repeats it: {}", answer.text);
            let value = answer.json();
            assert_eq!(outcome(&value), ("success", ""), "{content:?}: {value:#}");
            let found = found(&value, "/content", &content);
            assert_eq!(found, [(category, 1.0, part.to_owned())], "{content:?}");
        }
    }
    let texts = ["🍕 from 10.20.30.40", "The soup is warm.", "e\u{301} mail ana@example.org"];
    let value = judges_every_text(&app, &texts, &["pii.ip_address", "", "pii.email"]).await;
    assert_eq!(report(&value)["attempts"], 1, "three texts, one call: {value:#}");
    let probed = probe("guardrails-pii", &server, "🍕 ana@example.org");
    assert!(probed.starts_with("guardrails-pii: success after "), "{probed}");
    assert!(probed.contains("  2..17      pii.email email_address 1.00\n"), "{probed}");
}

/// Asks about `texts` as messages; each must hold exactly its category, or nothing.
async fn judges_every_text(app: &App, texts: &[&str], categories: &[&str]) -> Value {
    let messages: Vec<Value> =
        texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
    let body = json!({
        "messages": messages, "judge": "all", "tenant_id": "real", "include": ["detectors"],
        "timeout_ms": 60_000
    });
    let value = app.ask(&body).await.json();
    assert_eq!(outcome(&value), ("success", ""), "{value:#}");
    for (index, (text, category)) in texts.iter().zip(categories).enumerate() {
        let found = found(&value, &format!("/messages/{index}/content"), text);
        let named: Vec<&str> = found.iter().map(|(category, ..)| *category).collect();
        if category.is_empty() {
            assert!(named.is_empty(), "{text:?}: {found:?}");
        } else {
            assert!(named.contains(category), "{text:?}: {found:?}");
        }
    }
    assert_eq!(value["coverage"]["complete"], true, "{value:#}");
    value
}

/// What `detectors probe` prints.
fn probe(name: &str, server: &Server, sample: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), &["init"]).status.code(), Some(0));
    write(dir.path(), &format!("detectors/{name}.yaml"), &example(name, server));
    let output = run(dir.path(), &["detectors", "probe", name, "--text", sample]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn a_refusal_of_guardrails_detectors_is_rejected_and_its_crash_is_communication() {
    let server = Server::start("guardrails", 0).await;
    let cases = [
        ("file_type: [pdf]", ("failed", "rejected")),
        ("regex: \"[\"", ("failed", "communication")),
        ("none: asked", ("success", "")),
    ];
    for (params, wanted) in cases {
        let file = example("guardrails-pii", &server);
        let file = format!("{}params: {{{params}}}\n", file.split_once("params:\n").unwrap().0);
        let app = required("guardrails-pii", &file).await;
        let value = app.ask(&ask("mail ana@example.org")).await.json();
        assert_eq!(outcome(&value), wanted, "{params}: {value:#}");
        assert_eq!(report(&value)["findings"], json!([]), "{params}");
    }
}

#[tokio::test]
async fn a_real_detector_that_hangs_dies_and_returns_is_told_apart_and_asked_again() {
    let server = Server::start("guardrails", 0).await;
    let limits = "timeout: 1s\nretry: {attempts: 1}\nhealth: {unhealthy_after: 1000}\n\
                  breaker: {failures: 3, failure_ratio: 0.1, open_for: 200ms, probes: 1}\n";
    let file = example("guardrails-pii", &server).replace("timeout: 30s\n", limits);
    let app = required("guardrails-pii", &file).await;
    let body = ask("mail ana@example.org");
    let sees_mail =
        |value: &Value| outcome(value) == ("success", "") && value["action"] == "redact";
    app.ask_until(&body, sees_mail).await;

    server.signal("-STOP");
    let value = app.ask(&body).await.json();
    assert_eq!(outcome(&value), ("timeout", ""), "{value:#}");
    assert_eq!(
        (&value["action"], &value["coverage"]["complete"]),
        (&json!("review"), &json!(false))
    );
    server.signal("-CONT");
    app.ask_until(&body, sees_mail).await;

    let port = server.port;
    drop(server);
    let value = app.ask_until(&body, |value| outcome(value) == ("failed", "communication")).await;
    assert_eq!(value["action"], "review");
    let open = |value: &Value| outcome(value) == ("unavailable", "circuit_open");
    let value = app.ask_until(&body, open).await;
    assert_eq!(report(&value)["attempts"], 0);

    let _back = Server::start("guardrails", port).await;
    app.ask_until(&body, sees_mail).await;
}
