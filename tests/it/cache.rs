//! Equal requests: at once, and within the cache's time.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::app::{Answer, App, spawn_with, write};

const REASON: &str = "reason=drill";

/// The shipped service with the detector `vendor`.
async fn spawn(reply: ResponseTemplate) -> (App, MockServer) {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(reply).mount(&server).await;
    let app = spawn_with(|dir| {
        let detector = format!(
            "name: vendor\nprotocol: native\nendpoint: {}/judge\ncategories: [toxicity]\n\
             health: {{path: ''}}\nretry: {{attempts: 1}}\n",
            server.uri()
        );
        write(dir, "detectors/vendor.yaml", &detector);
    })
    .await;
    (app, server)
}

fn finds(delay_ms: u64) -> ResponseTemplate {
    let finding = json!({"label": "rude", "score": 0.9, "start": 0, "end": 4});
    ResponseTemplate::new(200)
        .set_body_json(json!({"findings": [finding]}))
        .set_delay(Duration::from_millis(delay_ms))
}

async fn ask(app: &App, body: &Value) -> Answer {
    app.post("/api/v1/orchestrate", body).await
}

fn body(content: &str) -> Value {
    json!({"content": content, "detectors": {"add": ["vendor"]},
        "include": ["redacted", "detectors"]})
}

async fn calls(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

/// What must not differ between an answer and its repetition.
fn lasting(mut answer: Value) -> Value {
    for part in ["request_id", "duration_ms", "cache", "coalesced", "detectors"] {
        answer.as_object_mut().unwrap().remove(part);
    }
    answer
}

#[tokio::test]
async fn a_hundred_equal_posts_are_one_call_and_a_hundred_answers() {
    let (app, server) = spawn(finds(1_000)).await;
    let body = body("evil words");
    let answers = join_all((0..100).map(|_| ask(&app, &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    // One that looked into the cache before the answer lay there, and came after the call had ended,
    // makes a call of its own.
    let made = calls(&server).await;
    assert!(made <= 2, "{made} calls");
    let first = lasting(answers[0].json());
    assert!(answers.iter().all(|answer| lasting(answer.json()) == first));
    let ids: std::collections::BTreeSet<_> =
        answers.iter().map(|answer| answer.json()["request_id"].to_string()).collect();
    assert_eq!(ids.len(), 100);
    let shared = |part: &str, value: Value| {
        answers.iter().filter(|answer| answer.json()[part] == value).count()
    };
    let (joined, hits) = (shared("coalesced", json!(true)), shared("cache", json!("hit")));
    assert_eq!(joined + hits, 100 - made, "{joined} joined, {hits} hits, {made} calls");
    assert!(joined > 50, "{joined} of a hundred at once joined");
    let metrics = app.get("/metrics").await.text;
    assert!(metrics.contains(&format!("orchestrator_coalesced_requests_total {joined}")));
}

#[tokio::test]
async fn an_equal_request_asks_nobody_and_is_an_answer_of_its_own() {
    let (app, server) = spawn(finds(0)).await;
    let first = ask(&app, &body("evil ana@evil.io")).await.json();
    assert!(first.get("cache").is_none());
    let again = ask(&app, &body("evil ana@evil.io")).await.json();
    assert_eq!((again["cache"].as_str(), calls(&server).await), (Some("hit"), 1));
    assert_ne!(first["request_id"], again["request_id"]);
    assert_eq!(lasting(first.clone()), lasting(again.clone()));
    assert!(again["content"].as_str().unwrap().contains("[EMAIL]"), "{again}");
    let vendor = again["detectors"].as_array().unwrap().iter().find(|d| d["name"] == "vendor");
    assert_eq!(vendor.unwrap()["attempts"], 0);
    let others = [
        json!({"content": "evil ana@evil.io!", "detectors": {"add": ["vendor"]}}),
        json!({"content": "evil ana@evil.io", "detectors": {"add": ["vendor"]}, "tenant_id": "acme"}),
        json!({"content": "evil ana@evil.io", "detectors": {"add": ["vendor"]}, "metadata": {"a": 1}}),
        json!({"content": "evil ana@evil.io", "detectors": {"add": ["vendor"]}, "priority": "critical"}),
    ];
    for (index, other) in others.iter().enumerate() {
        let answer = ask(&app, other).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.json().get("cache").is_none(), "{other}");
        assert_eq!(calls(&server).await, index + 2, "{other}");
    }
    let headers = [("content-type", "application/json"), ("cache-control", "no-cache, No-Store")];
    let said = body("evil ana@evil.io").to_string();
    let fresh = app.send("POST", "/api/v1/orchestrate", &headers, said.as_bytes()).await;
    assert!(fresh.json().get("cache").is_none());
    assert_eq!(calls(&server).await, others.len() + 2);
}

#[tokio::test]
async fn a_changed_policy_or_detector_is_met_by_the_next_request() {
    let (app, server) = spawn(finds(0)).await;
    let asked = body("evil words");
    let changes = [
        ("detectors/vendor.yaml", "categories: [toxicity]", "categories: [hate]"),
        ("policies/standard/data.yaml", "pii.url: flag", "pii.url: review"),
    ];
    for (file, from, to) in changes {
        ask(&app, &asked).await;
        assert_eq!(ask(&app, &asked).await.json()["cache"], "hit");
        let before = calls(&server).await;
        app.edit(file, from, to);
        let reload = app.post("/api/v1/admin/reload", &json!({"reason": "drill"})).await.json();
        assert_ne!(reload["outcome"], "refused", "{reload}");
        assert!(ask(&app, &asked).await.json().get("cache").is_none(), "{file}");
        assert_eq!(calls(&server).await, before + 1, "{file}");
    }
}

#[tokio::test]
async fn an_incomplete_answer_is_not_kept() {
    let (app, server) = spawn(ResponseTemplate::new(400)).await;
    for round in 1..=3 {
        let answer = ask(&app, &body("evil words")).await.json();
        assert_eq!(answer["coverage"]["complete"], false, "{answer}");
        assert!(answer.get("cache").is_none());
        assert_eq!(calls(&server).await, round);
    }
    let stats = app.get("/api/v1/cache/stats").await.json();
    assert_eq!(
        (&stats["caches"][0]["loads"], &stats["caches"][0]["misses"]),
        (&json!(0), &json!(3))
    );
}

#[tokio::test]
async fn operators_see_how_the_cache_fares_and_empty_it() {
    let (app, server) = spawn(finds(0)).await;
    for _ in 0..4 {
        ask(&app, &body("evil words")).await;
    }
    let stats = app.get("/api/v1/cache/stats").await.json()["caches"][0].clone();
    let told = ["entries", "hits", "misses", "loads", "ttl_ms"].map(|part| stats[part].as_u64());
    assert_eq!(told, [1, 3, 1, 1, 300_000].map(Some), "{stats}");
    assert_eq!(
        (stats["name"].as_str(), stats["hit_ratio"].as_f64()),
        (Some("responses"), Some(0.75))
    );
    let clear = format!("/api/v1/cache?{REASON}");
    assert_eq!(app.send("DELETE", "/api/v1/cache", &[], b"").await.status, 400);
    assert_eq!(app.send("DELETE", "/api/v1/cache?reason=", &[], b"").await.status, 400);
    assert_eq!(app.send("DELETE", &clear, &[], b"").await.status, 204);
    assert!(ask(&app, &body("evil words")).await.json().get("cache").is_none());
    assert_eq!(calls(&server).await, 2);
    let audit = app.get("/api/v1/audit").await.json();
    let act = &audit["audit"][0];
    assert_eq!(
        (&act["action"], &act["reason"]),
        (&json!("cache.clear"), &json!("drill")),
        "{audit}"
    );
}

#[tokio::test]
async fn without_the_setting_nothing_is_kept() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(finds(0)).mount(&server).await;
    let app = spawn_with(|dir| {
        crate::app::edit(dir, "config/settings.yaml", "responses: true", "responses: false");
        let detector = format!(
            "name: vendor\nprotocol: native\nendpoint: {}/judge\ncategories: [toxicity]\n",
            server.uri()
        );
        write(dir, "detectors/vendor.yaml", &detector);
    })
    .await;
    let asked = || async {
        let posts = server.received_requests().await.unwrap();
        posts.iter().filter(|call| call.url.path() == "/judge").count()
    };
    for round in 1..=2 {
        assert!(ask(&app, &body("evil words")).await.json().get("cache").is_none());
        assert_eq!(asked().await, round);
    }
    assert_eq!(app.get("/api/v1/cache/stats").await.json(), json!({"caches": []}));
}
