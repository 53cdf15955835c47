//! What the operator's floor demands holds against everything a tenant or a caller may write.

use crate::app::{App, edit, spawn_with, write};
use crate::binary::{Served, command, run};
use serde_json::json;

const FLOOR: &str = "settings:
  actions: {secrets: block, pii.ssn: redact}
  names: {}
  required: [secrets, pii]
  min_coverage: 1.0
  on_incomplete: review
";
const KEY: &str = "key AKIAZ3VQ7JRTLWXK5P2D";
const SSN: &str = "ssn 536-90-4399";

async fn floored(overlay: &str) -> App {
    spawn_with(|root| {
        write(root, "policies/floor/data.yaml", FLOOR);
        write(root, "policies/tenants/acme/standard/data.yaml", overlay);
    })
    .await
}

#[tokio::test]
async fn parameters_of_a_policy_or_a_request_cannot_blind_what_the_floor_requires() {
    for overlay in [
        "settings: {}",
        "settings: {params: {secrets: {min_score: 1.0}, pii: {allow: [536-90-4399]}}}",
        "settings: {params: {secrets: {allow: [AKIAZ3VQ7JRTLWXK5P2D]}, pii: {nope: 1}}}",
    ] {
        let app = floored(overlay).await;
        let wish = json!({"params": {"secrets": {"min_score": 1}, "pii": {"entities": ["email"]}}});
        for (content, action) in [(KEY, "block"), (SSN, "redact")] {
            for detectors in [json!({}), wish.clone()] {
                let body = json!({"content": content, "tenant_id": "acme", "detectors": detectors});
                let answer = app.ask(&body).await.json();
                assert_eq!(answer["action"], action, "{overlay} {answer:#}");
                assert_eq!(answer["coverage"]["complete"], true, "{answer:#}");
            }
        }
        let answer =
            app.ask(&json!({"content": "x", "tenant_id": "acme", "detectors": wish})).await;
        let told = answer.json()["degraded"].to_string();
        assert!(told.contains("`secrets`: the floor requires it"), "{told}");
    }
}

#[test]
fn monitor_mode_does_not_allow_what_a_detector_of_the_floor_did_not_judge() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    assert_eq!(run(root, &["init"]).status.code(), Some(0));
    let dead = "name: dead\nprotocol: native\nendpoint: http://127.0.0.1:9/analyze\n\
                categories: [toxicity]\nretry: {attempts: 1}\n";
    write(root, "detectors/dead.yaml", dead);
    write(root, "policies/floor/data.yaml", FLOOR);
    edit(root, "policies/floor/data.yaml", "[secrets, pii]", "[secrets, dead]");
    write(root, "policies/tenants/acme/standard/data.yaml", "settings: {mode: monitor}\n");
    write(root, "text.txt", "hello");
    for (least, code) in [("review", 10), ("block", 20)] {
        edit(root, "policies/floor/data.yaml", "on_incomplete: review", "on_incomplete: LEAST");
        edit(root, "policies/floor/data.yaml", "LEAST", least);
        let output = run(root, &["scan", "--tenant", "acme", "--json", "text.txt"]);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &value["action"]), (Some(code), &json!(least)));
    }
}

#[tokio::test]
async fn an_error_of_a_builtin_that_quotes_the_content_reaches_neither_answer_nor_log() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    assert_eq!(run(root, &["init"]).status.code(), Some(0));
    let rule = "package tenants.default.standard\n\nimport rego.v1\n\n\
        block contains \"x\" if {\n\tstartswith(input.content, \"boom\")\n\
        \tcount(union({input.content})) == 1\n}\n";
    write(root, "policies/tenants/default/standard/quote.rego", rule);
    let mut start = command(root);
    start.args(["serve", "--listen", "127.0.0.1:0"]).env("ORCHESTRATION_LOG_LEVEL", "debug");
    let served = Served::start(start);
    let body = json!({"content": "boom CANARY-9f2"});
    let request = hyper::Request::post(format!("http://{}/api/v1/orchestrate", served.address))
        .header("content-type", "application/json")
        .body(http_body_util::Full::from(body.to_string()))
        .unwrap();
    let response = crate::app::client().request(request).await.unwrap();
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(answer["action"], "review", "{answer:#}");
    let why = answer["degraded"].to_string();
    assert!(why.contains("quote.rego:7:"), "the author learns where: {why}");
    let (_, out, error) = served.stop();
    for told in [&why, &out, &error] {
        assert!(!told.contains("CANARY"), "{told}");
    }
}
