//! What the service says about itself, and what it keeps to itself.

use http_body_util::{BodyExt as _, Full};

use crate::app::client;
use crate::binary::{Served, command};

async fn post(address: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut request = hyper::Request::post(format!("http://{address}/api/v1/orchestrate"))
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body.to_owned())).unwrap();
    let response = client().request(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn one_line_per_request_and_never_the_content() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = command(dir.path());
    start.args(["serve", "--listen", "127.0.0.1:0"]).env("ORCHESTRATION_LOG_LEVEL", "debug");
    let served = Served::start(start);
    let canary = "canary-7f3a@evil.io";
    let bodies = [
        format!(r#"{{"content": "Mail {canary}"}}"#),
        format!(r#"{{"content": "Mail {canary}", "metadata": {{"a\nb": "{canary}"}}}}"#),
        format!(r#"{{"content": ["{canary}"]}}"#),
        format!(r#"{{"cantent": "{canary}"}}"#),
        format!(r#"{{"content": "x", "priority": "{canary}"}}"#),
        format!(r#"{{"content": "x", "policy": "{canary}"}}"#),
    ];
    let mut statuses = Vec::new();
    for body in &bodies {
        let (status, text) = post(&served.address, &[("x-api-key", "canary-key")], body).await;
        statuses.push(status);
        if status == 400 && !body.contains("policy") {
            assert!(!text.contains(canary), "a problem repeats content: {text}");
        }
    }
    assert_eq!(statuses, [200, 200, 400, 400, 400, 400]);
    let (code, out, error) = served.stop();
    assert_eq!(code, Some(0), "{error}");
    let decisions: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .filter(|line: &serde_json::Value| line["message"] == "decision")
        .collect();
    assert_eq!(decisions.len(), bodies.len(), "{out}");
    assert_eq!(decisions[0]["action"], "redact");
    assert_eq!(decisions[3]["code"], "INVALID_REQUEST");
    for told in [&out, &error] {
        assert!(!told.contains("canary"), "{told}");
    }
}

#[tokio::test]
async fn an_address_that_others_reach_needs_the_printed_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = command(dir.path());
    start.args(["--listen", "0.0.0.0:0"]);
    let served = Served::start(start);
    let port = served.address.rsplit(':').next().unwrap();
    let address = format!("127.0.0.1:{port}");
    let body = r#"{"content": "hello"}"#;
    assert_eq!(post(&address, &[], body).await.0, 401);
    assert_eq!(post(&address, &[("x-api-key", "orch_dev_wrong")], body).await.0, 401);
    let key = std::fs::read_to_string(dir.path().join("data/development.key")).unwrap();
    assert_eq!(post(&address, &[("x-api-key", key.trim())], body).await.0, 200);
    let bearer = format!("Bearer {}", key.trim());
    assert_eq!(post(&address, &[("authorization", &bearer)], body).await.0, 200);
    let (_, out, error) = served.stop();
    assert!(error.contains(key.trim()), "the request to paste holds the key: {error}");
    assert!(!out.contains(key.trim()), "the log holds the key");
}

#[tokio::test]
async fn the_first_unusable_answer_is_a_warning_with_its_reason_and_without_its_words() {
    let server = wiremock::MockServer::builder().start().await;
    let reply =
        wiremock::ResponseTemplate::new(200).set_body_json(serde_json::json!({"hit": "canary"}));
    wiremock::Mock::given(wiremock::matchers::any()).respond_with(reply).mount(&server).await;
    let dir = tempfile::tempdir().unwrap();
    assert!(crate::binary::run(dir.path(), &["init"]).status.success());
    let file = format!(
        "name: vendor\nprotocol: http\nendpoint: {}/x\ncategories: [toxicity]\n\
         request: {{t: '{{{{content}}}}'}}\nresponse: {{items: hits, label: kind}}\n",
        server.uri()
    );
    std::fs::write(dir.path().join("detectors/vendor.yaml"), file).unwrap();
    let mut start = command(dir.path());
    start.args(["serve", "--listen", "127.0.0.1:0"]);
    let served = Served::start(start);
    let body =
        r#"{"content": "hello", "detectors": {"add": ["vendor"]}, "include": ["detectors"]}"#;
    for _ in 0..2 {
        let (status, text) = post(&served.address, &[], body).await;
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("the reply has nothing at `hits`"), "{text}");
    }
    let (_, out, error) = served.stop();
    let told = |line: &&str| line.contains("the reply has nothing at `hits`");
    let lines: Vec<&str> = out.lines().chain(error.lines()).filter(told).collect();
    assert_eq!(lines.len(), 1, "{out}{error}");
    assert!(lines[0].contains("vendor") && lines[0].to_lowercase().contains("warn"), "{lines:?}");
    assert!(!out.contains("canary") && !error.contains("canary"));
}

#[tokio::test]
async fn every_field_of_a_decisions_line_says_what_the_manual_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = command(dir.path());
    start.args(["--listen", "0.0.0.0:0"]).env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "500ms");
    let served = Served::start(start);
    let address = format!("127.0.0.1:{}", served.address.rsplit(':').next().unwrap());
    let key = std::fs::read_to_string(dir.path().join("data/development.key")).unwrap();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [
        ("x-api-key", key.trim()),
        ("x-request-id", "mine"),
        ("traceparent", trace),
        ("idempotency-key", "once"),
    ];
    let body = r#"{"content": "Mail ana@evil.io", "priority": "high"}"#;
    let (status, answer) = post(&address, &headers, body).await;
    assert_eq!(status, 200, "{answer}");
    let refused = r#"{"content": "x", "policy": "none"}"#;
    assert_eq!(post(&address, &headers[..3], refused).await.0, 400);
    let (_, out, _) = served.stop();
    let lines = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let lines: Vec<_> = lines.filter(|line| line["message"] == "decision").collect();
    let line = lines[0].as_object().unwrap();
    let revision = line["revision"].as_str().unwrap();
    let prefix: String = key.chars().take(13).collect();
    let expected = serde_json::json!({
        "level": "INFO", "message": "decision", "request_id": "mine",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7",
        "tenant": "default", "key_prefix": prefix, "route": "/api/v1/orchestrate", "status": 200,
        "action": "redact", "complete": true, "policy": "standard", "revision": revision,
        "detectors": line["detectors"], "failed": [], "unjudged": 0,
        "findings": {"pii.email": 1}, "content_chars": 16, "priority": "high", "degraded": [],
        "idempotency": "executed", "ts": line["ts"], "duration_ms": line["duration_ms"],
        "overhead_ms": line["overhead_ms"],
    });
    assert_eq!(lines[0], expected);
    assert!(line["ts"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert!(revision.len() == 64 && line["detectors"].as_u64() > Some(1), "{line:?}");
    let (all, own) = (line["duration_ms"].as_f64(), line["overhead_ms"].as_f64());
    assert!(all > Some(0.0) && own > Some(0.0) && own <= all, "{line:?}");
    let line = &lines[1];
    assert_eq!((&line["status"], &line["code"]), (&400.into(), &"POLICY_NOT_FOUND".into()));
    assert_eq!(line["trace_id"], expected["trace_id"], "a refusal is part of its trace too");
    assert!(line.get("action").is_none() && line.get("policy").is_none(), "{line}");
}

#[tokio::test]
async fn of_complete_answers_with_allow_only_the_wanted_share_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = command(dir.path());
    start.args(["serve", "--listen", "127.0.0.1:0"]);
    start.env("ORCHESTRATION_TELEMETRY__LOG_SAMPLE__ALLOW", "0.0");
    start.env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "500ms");
    let served = Served::start(start);
    for content in ["hello", "Mail ana@evil.io", "good morning"] {
        let body = serde_json::json!({ "content": content }).to_string();
        assert_eq!(post(&served.address, &[], &body).await.0, 200);
    }
    assert_eq!(post(&served.address, &[], "{}").await.0, 400);
    let (_, out, _) = served.stop();
    let lines = out.lines().filter(|line| line.contains("\"decision\""));
    assert_eq!(lines.count(), 2, "the redaction and the refusal: {out}");
}
