//! Services that nobody has seen, attached by the file that `detectors probe --url` proposes.

use std::path::Path;

use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::app::{App, spawn_with, write};
use crate::binary::{run, text};

/// What the invented services find, and their word for it.
const KNOWN: [(&str, &str); 3] =
    [("536-22-1234", "TAXNO"), ("ana@example.org", "E_MAIL"), ("worthless idiot", "ABUSE")];

/// Asked once the file is in place; other characters stand before what is found.
const LATER: &str = "🧑🏽\u{200d}🚀 ñ e\u{301}: ana@example.org, you worthless idiot";

/// Byte positions of what is found, with the word for it.
fn hits(text: &str) -> Vec<(usize, usize, &'static str)> {
    let found = KNOWN.iter().filter_map(|(part, word)| {
        let start = text.find(part)?;
        Some((start, start + part.len(), *word))
    });
    found.collect()
}

fn utf16(text: &str, byte: usize) -> usize {
    text[..byte].encode_utf16().count()
}

fn points(text: &str, byte: usize) -> usize {
    text[..byte].chars().count()
}

fn ok(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn refused() -> ResponseTemplate {
    ResponseTemplate::new(422).set_body_json(json!({"detail": "no"}))
}

/// A service at `/v1/look` that answers as `reply` says; `None` refuses the body.
async fn service(reply: fn(&Value) -> Option<ResponseTemplate>) -> MockServer {
    let server = MockServer::builder().start().await;
    let answer = move |request: &Request| {
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        reply(&body).unwrap_or_else(refused)
    };
    Mock::given(method("POST")).and(path("/v1/look")).respond_with(answer).mount(&server).await;
    server
}

fn probe(dir: &Path, server: &MockServer, more: &[&str]) -> (Option<i32>, String) {
    let url = format!("{}/v1/look", server.uri());
    let mut args = vec!["detectors", "probe", "found", "--url", &url];
    args.extend(more);
    let output = run(dir, &args);
    (output.status.code(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

/// The service behind the product, attached by the proposed file alone, and what the probe printed.
async fn attached(server: &MockServer) -> (App, String) {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), &["init"]).status.code(), Some(0));
    let (code, told) = probe(dir.path(), server, &["--save"]);
    assert_eq!(code, Some(0), "{told}");
    let check = run(dir.path(), &["check", "."]);
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
    let (code, again) = probe(dir.path(), server, &["--save"]);
    assert_eq!(code, Some(64), "it never overwrites: {again}");
    let file = std::fs::read_to_string(dir.path().join("detectors/found.yaml")).unwrap();
    assert!(told.contains(&file), "the saved file is the printed one");
    let app = spawn_with(|root| {
        write(root, "detectors/found.yaml", &file);
        write(
            root,
            "config/tenants/one.yaml",
            "schema_version: 1\nid: one\npolicies: [standard]\n",
        );
        write(root, "policies/tenants/one/standard/data.yaml", "settings:\n  required: [found]\n");
    })
    .await;
    (app, told)
}

/// Category, label, score and place of every finding in `content`.
async fn found(app: &App, content: &str) -> Vec<(String, String, f64, Option<String>)> {
    let ask = json!({"content": content, "tenant_id": "one", "include": ["detectors"]});
    let value = app.ask(&ask).await.json();
    let reports = value["detectors"].as_array().unwrap();
    let report = reports.iter().find(|report| report["name"] == "found").unwrap();
    assert_eq!(report["status"], "success", "{value:#}");
    let findings = report["findings"].as_array().unwrap().iter();
    let mut all: Vec<_> = findings
        .map(|finding| {
            let word = |key: &str| finding[key].as_str().unwrap().to_owned();
            let at = |key: &str| finding["span"][key].as_u64().map(|at| at as usize);
            let place = at("start").zip(at("end"));
            let place = place.map(|(a, b)| content.chars().skip(a).take(b - a).collect());
            (word("category"), word("label"), finding["score"].as_f64().unwrap(), place)
        })
        .collect();
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}

/// The two things of `LATER`, at their place.
fn placed(score: f64) -> Vec<(String, String, f64, Option<String>)> {
    let row = |category: &str, label: &str, part: &str| {
        (category.to_owned(), label.to_owned(), score, Some(part.to_owned()))
    };
    vec![row("toxicity", "ABUSE", "worthless idiot"), row("pii.email", "E_MAIL", "ana@example.org")]
}

#[tokio::test]
async fn a_nested_list_that_counts_utf16_is_attached_at_exact_code_points() {
    let server = service(|body| {
        let text = body["text"].as_str()?;
        let hit = |(a, b, word): &(usize, usize, &str)| {
            let at = json!({"from": utf16(text, *a), "to": utf16(text, *b)});
            json!({"kind": word, "certainty": 0.93, "at": at, "id": a})
        };
        let hits: Vec<Value> = hits(text).iter().map(hit).collect();
        Some(ok(json!({"data": {"pages": [{"hits": hits}]}, "error": null, "took_ms": 3})))
    })
    .await;
    let (app, told) = attached(&server).await;
    assert!(told.contains("offset_unit: utf16"), "{told}");
    assert_eq!(found(&app, LATER).await, placed(0.93));
    assert_eq!(found(&app, "All is well.").await, []);
}

#[tokio::test]
async fn a_list_for_several_texts_that_counts_bytes_is_attached_at_exact_code_points() {
    let server = service(|body| {
        let texts = body["texts"].as_array()?;
        let hit = |(a, b, word): (usize, usize, &str)| json!({"entity": word, "span": [a, b]});
        let entry = |text: &Value| {
            let hits = hits(text.as_str().unwrap()).into_iter().map(hit);
            json!({"matches": hits.collect::<Vec<_>>()})
        };
        Some(ok(json!({"results": texts.iter().map(entry).collect::<Vec<_>>()})))
    })
    .await;
    let (app, told) = attached(&server).await;
    assert!(told.contains("offset_unit: byte") && told.contains("lists: results"), "{told}");
    assert_eq!(found(&app, LATER).await, placed(1.0));
}

#[tokio::test]
async fn lists_by_key_that_count_code_points_are_attached() {
    let server = service(|body| {
        let text = body["document"].as_str()?;
        let mut by_word = serde_json::Map::new();
        for (a, b, word) in hits(text) {
            let hit = json!({"begin": points(text, a), "stop": points(text, b), "percent": 80});
            by_word.insert(word.to_owned(), json!([hit]));
        }
        Some(ok(json!({"found": by_word})))
    })
    .await;
    let (app, told) = attached(&server).await;
    assert!(told.contains("nested: true"), "{told}");
    assert_eq!(found(&app, LATER).await, placed(0.8));
}

#[tokio::test]
async fn a_map_of_scores_up_to_a_hundred_is_attached_and_an_error_inside_a_200_is_a_failure() {
    let server = service(|body| {
        let Some(text) = body["input"].as_str() else {
            return Some(ok(json!({"error": {"message": "input is missing"}})));
        };
        if text == "break" {
            return Some(ok(json!({"error": {"message": "out of order"}, "scores": {}})));
        }
        let bad = if text.contains("idiot") { 90 } else { 2 };
        Some(ok(json!({"scores": {"toxicity": bad, "spam": 1, "violence": 0}, "usage": {"tokens": text.len()}})))
    })
    .await;
    let (app, told) = attached(&server).await;
    assert!(told.contains("score_transform: percent") && told.contains("error_when"), "{told}");
    let all = found(&app, LATER).await;
    let toxic = all.iter().find(|finding| finding.1 == "toxicity").unwrap();
    assert_eq!((toxic.0.as_str(), toxic.2), ("toxicity", 0.9));
    assert!(
        told.contains("violence: {category: violence}"),
        "a word for what was not there: {told}"
    );
    let ask = json!({"content": "break", "tenant_id": "one", "include": ["detectors"]});
    let value = app.ask(&ask).await.json();
    assert_eq!(value["detectors"][0]["error"], "bad_response", "{value:#}");
}

#[tokio::test]
async fn grades_of_zero_to_seven_are_attached() {
    let server = service(|body| {
        let text = body["prompt"].as_str()?;
        let grade = if text.contains("idiot") { 6 } else { 0 };
        Some(ok(json!({"analysis": [
            {"category": "Hate", "severity": grade}, {"category": "Violence", "severity": 0},
        ]})))
    })
    .await;
    let (app, _) = attached(&server).await;
    let all = found(&app, LATER).await;
    let [only] = &all[..] else { panic!("{all:?}") };
    assert_eq!((only.0.as_str(), only.2), ("hate", 6.0 / 7.0));
}

#[tokio::test]
async fn flags_are_attached() {
    let server = service(|body| {
        let text = body["query"].as_str()?;
        Some(ok(json!({"verdicts": {"toxic": text.contains("idiot"), "spam": false}})))
    })
    .await;
    let (app, told) = attached(&server).await;
    assert!(told.contains("score_transform: bool"), "{told}");
    let all = found(&app, LATER).await;
    let [only] = &all[..] else { panic!("{all:?}") };
    assert_eq!((only.0.as_str(), only.1.as_str(), only.2), ("toxicity", "toxic", 1.0));
    assert_eq!(found(&app, "All is well.").await, []);
}

#[tokio::test]
async fn one_verdict_whose_word_for_clean_texts_is_no_finding_is_attached() {
    let server = service(|body| {
        let text = body["message"].as_str()?;
        let bad = text.contains("idiot");
        Some(ok(json!({"verdict": if bad { "rude" } else { "fine" }, "probability": 0.97})))
    })
    .await;
    let (app, told) = attached(&server).await;
    assert!(told.contains("fine: {polarity: negative}"), "{told}");
    let all = found(&app, LATER).await;
    let [only] = &all[..] else { panic!("{all:?}") };
    assert_eq!((only.0.as_str(), only.2), ("toxicity", 0.97));
    assert_eq!(found(&app, "All is well.").await, []);
}

#[tokio::test]
async fn a_body_of_ones_own_with_a_header_and_a_secret_is_attached() {
    let server = MockServer::builder().start().await;
    let answer = |request: &Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let is =
            |name: &str, value: &str| request.headers.get(name).is_some_and(|given| given == value);
        let Some(text) = body["job"]["payload"].as_str() else { return refused() };
        if !is("x-region", "eu") || !is("authorization", "Bearer s3cret-value") {
            return ResponseTemplate::new(401);
        }
        let hit = |(a, b, word): (usize, usize, &str)| json!({"rule": word, "start": points(text, a), "end": points(text, b)});
        ok(json!(hits(text).into_iter().map(hit).collect::<Vec<_>>()))
    };
    Mock::given(method("POST")).and(path("/v1/look")).respond_with(answer).mount(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("{}/v1/look", server.uri());
    let request = r#"{"job": {"payload": "{{content}}"}}"#;
    let output = crate::binary::command(dir.path())
        .args(["detectors", "probe", "--url", &url, "--request", request])
        .args(["--header", "X-Region: eu", "--auth", "env:LOOK_TOKEN"])
        .env("LOOK_TOKEN", "s3cret-value")
        .output()
        .unwrap();
    let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("auth: {type: bearer, env: LOOK_TOKEN}"), "{told}");
    assert!(told.contains("at its place: SSN, e-mail, toxic sentence\n"), "{told}");
    assert!(!told.contains("s3cret-value"), "{told}");
    let open = run(dir.path(), &["detectors", "probe", "--url", &url, "--header", "x-api-key: k"]);
    assert_eq!(open.status.code(), Some(64));
    assert!(text(&open.stderr).contains("--auth x-api-key=env:NAME"), "{}", text(&open.stderr));
}

#[tokio::test]
async fn a_known_protocol_is_recognised_by_what_it_answers() {
    let server = MockServer::builder().start().await;
    let presidio = |request: &Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let Some(texts) = body["text"].as_array() else { return refused() };
        let entry = |text: &Value| {
            let text = text.as_str().unwrap();
            let hit = |(a, b, _): (usize, usize, &str)| {
                json!({"entity_type": "EMAIL_ADDRESS", "score": 1.0,
                       "start": points(text, a), "end": points(text, b)})
            };
            hits(text).into_iter().map(hit).collect::<Vec<_>>()
        };
        ok(json!(texts.iter().map(entry).collect::<Vec<_>>()))
    };
    Mock::given(method("POST")).and(path("/analyze")).respond_with(presidio).mount(&server).await;
    let dir = tempfile::tempdir().unwrap();
    for url in [server.uri(), format!("{}/analyze", server.uri())] {
        let output = run(dir.path(), &["detectors", "probe", "--url", &url]);
        let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(told.contains("\nprotocol: presidio\n"), "{told}");
    }
}

#[tokio::test]
async fn what_no_mapping_reads_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let inclusive = service(|body| {
        let text = body["text"].as_str()?;
        let hit = |(a, b, word): (usize, usize, &str)| {
            json!({"type": word, "start": points(text, a), "end": points(text, b) - 1})
        };
        Some(ok(json!({"hits": hits(text).into_iter().map(hit).collect::<Vec<_>>()})))
    })
    .await;
    let (code, told) = probe(dir.path(), &inclusive, &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("inclusive") && !told.contains("at its place"), "{told}");
    let length = service(|body| {
        let text = body["text"].as_str()?;
        let hit = |(a, b, word): (usize, usize, &str)| {
            json!({"type": word, "offset": points(text, a), "length": b - a})
        };
        Some(ok(json!({"hits": hits(text).into_iter().map(hit).collect::<Vec<_>>()})))
    })
    .await;
    let (_, told) = probe(dir.path(), &length, &[]);
    assert!(told.contains("a position and a length, which no mapping reads"), "{told}");
    let silent = service(|_| Some(ok(json!({"status": "received", "ticket": 7})))).await;
    let (code, told) = probe(dir.path(), &silent, &[]);
    assert_eq!(code, Some(65), "{told}");
    assert!(told.contains("nothing there looks like findings"), "{told}");
    assert!(told.contains("Give --text"), "{told}");
    let plain = service(|_| Some(ResponseTemplate::new(200).set_body_string("fine"))).await;
    let (code, told) = probe(dir.path(), &plain, &[]);
    assert_eq!(code, Some(65), "{told}");
    assert!(told.contains("a 200 without JSON") && told.contains("--request"), "{told}");
    let (code, told) = probe(dir.path(), &plain, &["--request", "{\"a\": \"{{contnt}}\"}"]);
    assert_eq!(code, Some(65), "{told}");
    assert!(told.contains("contnt"), "{told}");
}

#[tokio::test]
async fn a_reply_cannot_control_the_terminal_nor_the_file() {
    let server = service(|body| {
        let text = body["text"].as_str()?;
        let evil = "A\u{1b}[2J\u{202e}\nname: other";
        let hit = |(a, b, _): (usize, usize, &str)| {
            json!({"type": "x: {y}\u{202e}#", "start": points(text, a), "end": points(text, b), "n": evil})
        };
        Some(ok(json!({"hits": hits(text).into_iter().map(hit).collect::<Vec<_>>()})))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (_, told) = probe(dir.path(), &server, &[]);
    assert!(!told.contains(['\u{1b}', '\u{202e}']), "{told:?}");
    assert!(!told.contains("\nname: other"), "{told}");
}

#[test]
fn the_guard_holds_for_unknown_services_too() {
    let dir = tempfile::tempdir().unwrap();
    let url = "http://169.254.169.254/latest/meta-data";
    let output = run(dir.path(), &["detectors", "probe", "--url", url]);
    assert_eq!(output.status.code(), Some(65), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("endpoint_forbidden"), "{}", text(&output.stderr));
    let none = run(dir.path(), &["detectors", "probe", "--url", "ftp://x"]);
    assert_eq!(none.status.code(), Some(65));
    assert!(text(&none.stderr).contains("bad_endpoint"), "{}", text(&none.stderr));
    let alone = run(dir.path(), &["detectors", "probe"]);
    assert_eq!(alone.status.code(), Some(64));
}

#[tokio::test]
async fn two_kinds_of_findings_in_one_reply_are_both_read() {
    let server = service(|body| {
        let text = body["text"].as_str()?;
        let hit = |(a, b, word): (usize, usize, &str)| {
            json!({"name": word, "range": [points(text, a), points(text, b)]})
        };
        let hits: Vec<Value> = hits(text).into_iter().map(hit).collect();
        let bad = if text.contains("idiot") { 0.9 } else { 0.02 };
        Some(ok(json!({"entities": hits, "moderation": {"hate": 0.01, "rude": bad}, "model": "m"})))
    })
    .await;
    let (app, _) = attached(&server).await;
    let all = found(&app, LATER).await;
    let placed: Vec<_> = all.iter().filter(|finding| finding.3.is_some()).collect();
    assert_eq!(placed.len(), 2, "{all:?}");
    assert!(all.contains(&("toxicity".into(), "rude".into(), 0.9, None)), "{all:?}");
}

/// The service of docs/attach.md.
fn documented(body: &Value) -> Option<ResponseTemplate> {
    let text = body["text"].as_str()?;
    let hit = |(a, b, word): (usize, usize, &str)| json!({"kind": word, "pct": 93, "from": utf16(text, a), "to": utf16(text, b)});
    let hits: Vec<Value> = hits(text).into_iter().map(hit).collect();
    Some(ok(json!({"data": {"hits": hits}, "error": null})))
}

/// Without what differs from run to run.
fn steady(text: &str) -> String {
    let ms = regex::Regex::new(r"\d+\.\d ms").unwrap();
    ms.replace_all(text, "1.0 ms").into_owned()
}

#[tokio::test]
async fn the_walk_in_the_manual_prints_what_the_manual_shows() {
    let server = MockServer::builder().start().await;
    let answer = |request: &Request| {
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        documented(&body).unwrap_or_else(refused)
    };
    Mock::given(method("POST")).and(path("/v3/check")).respond_with(answer).mount(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let page = format!("{}/docs/attach.md", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(page).unwrap();
    let mut shown = String::new();
    for block in page.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for command in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            shown.push_str(&format!("$ {command}\n"));
            let real = command.replace("http://127.0.0.1:9000", &server.uri());
            let output = crate::binary::shell(dir.path(), &real);
            let code = output.status.code().unwrap();
            assert!([0, 10, 20].contains(&code), "{command}: {}", text(&output.stderr));
            shown.push_str(&text(&output.stdout).replace(&server.uri(), "http://127.0.0.1:9000"));
        }
        let (said, is) = (steady(block), steady(&shown));
        assert!(said == is, "docs/attach.md shows\n{said}\nbut it is\n{is}");
        shown.clear();
    }
}
