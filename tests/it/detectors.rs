//! Remote detectors, well and ill, behind the running service.

use std::path::Path;

use serde_json::{Value, json};
use wiremock::matchers::{header_exists, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::app::{App, spawn_with, write};

/// Three native detectors that tenant `three` requires.
async fn three(servers: &[&MockServer; 3]) -> App {
    let uris: Vec<String> =
        servers.iter().map(|server| format!("{}/analyze", server.uri())).collect();
    spawn_with(|root| {
        for (name, uri) in ["one", "two", "three"].iter().zip(&uris) {
            native(root, name, uri);
        }
        write(
            root,
            "config/tenants/three.yaml",
            "schema_version: 1\nid: three\npolicies: [standard]\n",
        );
        write(
            root,
            "policies/tenants/three/standard/data.yaml",
            "settings:\n  required: [one, two, three]\n",
        );
    })
    .await
}

fn native(root: &Path, name: &str, uri: &str) {
    write(
        root,
        &format!("detectors/{name}.yaml"),
        &format!(
            "name: {name}\nprotocol: native\nendpoint: {uri}\ncategories: [toxicity]\n\
             timeout: 300ms\nretry: {{attempts: 1}}\n"
        ),
    );
}

async fn clean() -> MockServer {
    answering(ResponseTemplate::new(200).set_body_json(json!({"label": "clean", "score": 0.9})))
        .await
}

async fn answering(template: ResponseTemplate) -> MockServer {
    // Not from wiremock's pool: dropping it must close its port.
    let server = MockServer::builder().start().await;
    Mock::given(method("POST")).and(path("/analyze")).respond_with(template).mount(&server).await;
    server
}

fn ask() -> Value {
    json!({"content": "hello there", "tenant_id": "three", "include": ["detectors"]})
}

fn report<'a>(value: &'a Value, name: &str) -> &'a Value {
    let reports = value["detectors"].as_array().unwrap();
    reports.iter().find(|report| report["name"] == name).unwrap_or_else(|| panic!("{value:#}"))
}

#[tokio::test]
async fn a_killed_required_detector_makes_the_answer_incomplete_then_its_breaker_opens() {
    let (one, two, three_) = (clean().await, clean().await, clean().await);
    let app = three(&[&one, &two, &three_]).await;
    let value = app.ask(&ask()).await.json();
    assert_eq!(
        (value["action"].as_str(), value["coverage"]["complete"].as_bool()),
        (Some("allow"), Some(true)),
        "{value:#}"
    );
    // The mock's port closes with it.
    drop(three_);
    let answer = app.ask(&ask()).await;
    let value = answer.json();
    assert_eq!(answer.status, 200);
    assert_eq!(value["coverage"]["complete"], false, "{value:#}");
    assert_eq!(value["coverage"]["code"], "PARTIAL_COVERAGE");
    assert_eq!(value["action"], "review");
    assert_eq!(value["unjudged"][0]["detector"], "three");
    let open =
        app.ask_until(&ask(), |value| report(value, "three")["error"] == "circuit_open").await;
    let report = report(&open, "three");
    assert_eq!(
        (report["status"].as_str(), report["attempts"].as_u64()),
        (Some("unavailable"), Some(0))
    );
    assert_eq!(report["duration_ms"].as_f64(), Some(0.0), "an open breaker costs nothing");
    assert_eq!(open["action"], "review");
}

#[tokio::test]
async fn a_detector_that_hangs_lies_or_answers_garbage_is_reported_and_never_fails_the_request() {
    let cases: Vec<(&str, ResponseTemplate, &str, Value)> = vec![
        ("hangs", ResponseTemplate::new(200).set_delay(std::time::Duration::from_secs(30)), "timeout", Value::Null),
        ("5xx", ResponseTemplate::new(500), "failed", json!("communication")),
        ("4xx", ResponseTemplate::new(400), "failed", json!("rejected")),
        ("redirects", ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/"), "failed", json!("bad_response")),
        ("garbage", ResponseTemplate::new(200).set_body_string("<html>"), "failed", json!("bad_response")),
        ("wrong type", ResponseTemplate::new(200).set_body_json(json!({"label": 7, "score": "high"})), "failed", json!("bad_response")),
        ("score over 1", ResponseTemplate::new(200).set_body_json(json!({"label": "toxic", "score": 7})), "failed", json!("bad_response")),
        ("span outside", ResponseTemplate::new(200).set_body_json(json!({"label": "toxic", "score": 0.9, "findings": [{"label": "toxic", "score": 0.9, "start": 3, "end": 900}]})), "failed", json!("bad_response")),
        ("2 MiB", ResponseTemplate::new(200).set_body_bytes(vec![b' '; 2 << 20]), "failed", json!("bad_response")),
    ];
    for (what, template, status, error) in cases {
        let (one, two, ill) = (clean().await, clean().await, answering(template).await);
        let app = three(&[&one, &two, &ill]).await;
        let answer = app.ask(&ask()).await;
        assert_eq!(answer.status, 200, "{what}");
        let value = answer.json();
        let report = report(&value, "three");
        assert_eq!(
            (&report["status"], &report["error"]),
            (&json!(status), &error),
            "{what}: {report:#}"
        );
        assert_eq!(
            (value["action"].as_str(), value["coverage"]["complete"].as_bool()),
            (Some("review"), Some(false)),
            "{what}"
        );
    }
}

#[tokio::test]
async fn detectors_get_the_content_byte_for_byte_and_their_credential() {
    // Not from wiremock's pool: dropping it must close its port.
    let server = MockServer::builder().start().await;
    Mock::given(method("POST"))
        .and(header_exists("x-request-id"))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(json!({"label": "clean", "score": 0.1})),
        )
        .mount(&server)
        .await;
    let uri = format!("{}/analyze", server.uri());
    let app = spawn_with(|root| {
        native(root, "one", &uri);
        write(
            root,
            "config/tenants/three.yaml",
            "schema_version: 1\nid: three\npolicies: [standard]\n",
        );
        write(root, "policies/tenants/three/standard/data.yaml", "settings:\n  required: [one]\n");
    })
    .await;
    let content = "a\r\n\t\u{200b}😀 <script>alert('x')</script> \"quotes\" ";
    let value = app.ask(&json!({"content": content, "tenant_id": "three"})).await.json();
    assert_eq!(value["coverage"]["complete"], true, "{value:#}");
    let requests = server.received_requests().await.unwrap();
    let post = requests.iter().find(|request| request.method.as_str() == "POST").unwrap();
    let body: Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!(body["content"], content);
    assert_eq!(body["tenant_id"], "three");
}

#[tokio::test]
async fn any_json_service_attaches_by_a_file_alone() {
    // Not from wiremock's pool: dropping it must close its port.
    let server = MockServer::builder().start().await;
    let reply = json!({"data": {"hits": [{"kind": "BAD_WORD", "pct": 0.97, "from": 4, "to": 8}]}});
    Mock::given(method("POST"))
        .and(path("/v3/check"))
        .respond_with(ResponseTemplate::new(200).set_body_json(reply))
        .mount(&server)
        .await;
    let app = spawn_with(|root| {
        write(
            root,
            "detectors/vendor.yaml",
            &format!(
                "name: vendor\nprotocol: http\nendpoint: {}/v3/check\ncategories: [toxicity]\n\
                 labels:\n  BAD_WORD: {{category: toxicity.profanity, severity: high}}\n\
                 request: {{text: \"{{{{content}}}}\"}}\n\
                 response:\n  items: data.hits\n  label: kind\n  score: pct\n  start: from\n  end: to\n\
                 \x20 offset_unit: utf16\n",
                server.uri()
            ),
        );
    })
    .await;
    let value = app
        .ask(&json!({"content": "😀 a dang word", "detectors": {"add": ["vendor"]}}))
        .await
        .json();
    let finding = &value["findings"][0];
    assert_eq!(finding["category"], "toxicity.profanity", "{value:#}");
    // UTF-16 4..8 is code points 3..7 behind an emoji.
    assert_eq!(finding["span"], json!({"pointer": "/content", "start": 3, "end": 7}));
    assert_eq!(value["action"], "block");
}

#[tokio::test]
async fn an_empty_list_is_a_clean_answer() {
    let server = answering(ResponseTemplate::new(200).set_body_json(json!({"hits": []}))).await;
    let app = spawn_with(|root| {
        write(
            root,
            "detectors/vendor.yaml",
            &format!(
                "name: vendor\nprotocol: http\nendpoint: {}/analyze\ncategories: [toxicity]\n\
                 request: {{text: \"{{{{content}}}}\"}}\nresponse: {{items: hits, label: kind}}\n",
                server.uri()
            ),
        );
    })
    .await;
    let value =
        app.ask(&json!({"content": "hello", "detectors": {"add": ["vendor"]}})).await.json();
    assert_eq!(
        (value["action"].as_str(), value["coverage"]["complete"].as_bool()),
        (Some("allow"), Some(true)),
        "{value:#}"
    );
}

#[tokio::test]
async fn a_detector_with_a_dead_replica_answers_and_says_that_it_is_degraded() {
    let (well, dead) = (clean().await, clean().await);
    Mock::given(path("/health")).respond_with(ResponseTemplate::new(200)).mount(&well).await;
    let file = format!(
        "name: twofold\nprotocol: native\nendpoint: {}/analyze\ncategories: [toxicity]\n\
         replicas: [{{endpoint: {}/analyze}}]\n\
         timeout: 300ms\nhealth: {{unhealthy_after: 1}}\n",
        well.uri(),
        dead.uri()
    );
    // The mock's port closes with it.
    drop(dead);
    let app = spawn_with(|root| {
        write(root, "detectors/twofold.yaml", &file);
        let tenant = "schema_version: 1\nid: three\npolicies: [standard]\n";
        write(root, "config/tenants/three.yaml", tenant);
        let table = "settings:\n  required: [twofold]\n";
        write(root, "policies/tenants/three/standard/data.yaml", table);
    })
    .await;
    let at = "/api/v1/detectors/twofold/health";
    while app.get(at).await.json()["health"] != "degraded" {
        tokio::task::yield_now().await;
    }
    for number in 0..20 {
        let content = format!("hello {number}");
        let ask = json!({"content": content, "tenant_id": "three", "include": ["detectors"]});
        let value = app.ask(&ask).await.json();
        assert_eq!(report(&value, "twofold")["status"], "success", "{value:#}");
    }
    assert_eq!(app.get(at).await.json()["breaker"], "closed");
}

/// Who is asked and does not answer is waited for until the deadline of the request's priority.
#[tokio::test]
async fn each_priority_has_its_own_deadline_and_a_tenant_may_set_another() {
    let silent = crate::idempotency::vendor(60_000).await;
    let app = spawn_with(|root| {
        crate::idempotency::attach(root, &silent);
        crate::app::edit(root, "config/settings.yaml", "concurrency: auto", "concurrency: 16");
        let shipped =
            "critical_ms: 1000\n    normal_ms: 2000           # normal and high\n    low_ms: 5000";
        let short = "critical_ms: 500\n    normal_ms: 1500\n    low_ms: 3000";
        crate::app::edit(root, "config/settings.yaml", shipped, short);
        for (tenant, sla) in [("as-set", ""), ("own", "sla: {critical_ms: 3000, low_ms: 500}\n")] {
            let file = format!(
                "schema_version: 1\nid: {tenant}\ntier: unlimited\npolicies: [standard]\n{sla}"
            );
            write(root, &format!("config/tenants/{tenant}.yaml"), &file);
            let table = format!("policies/tenants/{tenant}/standard/data.yaml");
            write(root, &table, "settings:\n  required: [vendor]\n");
        }
    })
    .await;
    let begun = std::time::Instant::now();
    let ask = async |tenant: &'static str, priority: &'static str, least_ms: u128| {
        let body = json!({"content": format!("{tenant} {priority}"), "tenant_id": tenant,
            "priority": priority, "include": ["coverage"]});
        let answer = app.ask(&body).await.json();
        let took = begun.elapsed().as_millis();
        assert_eq!(answer["coverage"]["code"], "DEADLINE", "{tenant} {priority}: {answer}");
        assert_eq!(answer["coverage"]["complete"], false);
        assert!(took >= least_ms, "{tenant} {priority}: {took} ms");
        (least_ms, took)
    };
    let mut all = futures_util::future::join_all([
        ask("as-set", "critical", 500),
        ask("as-set", "high", 1_500),
        ask("as-set", "normal", 1_500),
        ask("as-set", "low", 3_000),
        ask("own", "critical", 3_000),
        ask("own", "normal", 1_500),
        ask("own", "low", 500),
    ])
    .await;
    // Who has less time is answered sooner.
    all.sort_by_key(|(_, took)| *took);
    assert!(all.is_sorted_by_key(|(least, _)| *least), "{all:?}");
}
