//! A service at its limit: who waits, who is refused, and what they are told.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::app::{App, edit, spawn_with, write};

/// A detector that takes its time; it is asked for whatever the tenant `slow` sends.
async fn slow(delay: Duration) -> MockServer {
    let server = MockServer::start().await;
    let reply = ResponseTemplate::new(200)
        .set_body_json(json!({"label": "clean", "score": 0.9}))
        .set_delay(delay);
    Mock::given(wiremock::matchers::method("POST")).respond_with(reply).mount(&server).await;
    server
}

fn prepare(root: &Path, server: &MockServer, limits: &str) {
    let detector = format!(
        "name: slow\nprotocol: native\nendpoint: {}/analyze\ncategories: [toxicity]\n\
         timeout: 20s\nhealth: {{path: ''}}\n",
        server.uri()
    );
    write(root, "detectors/slow.yaml", &detector);
    edit(root, "config/settings.yaml", "    concurrency: auto ", limits);
}

fn body(content: &str, priority: &str) -> Value {
    json!({"content": content, "priority": priority, "timeout_ms": 20_000,
        "detectors": {"only": ["slow"]}})
}

/// What the detector was asked, in order.
async fn asked(server: &MockServer) -> Vec<String> {
    let calls = server.received_requests().await.unwrap();
    let content = |call: &wiremock::Request| {
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        body["content"].as_str().unwrap().to_owned()
    };
    calls.iter().map(content).collect()
}

/// Waits until the metrics hold `line`.
async fn until_metric(app: &App, line: &str) {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let text = app.get("/metrics").await.text;
        if text.contains(line) {
            return;
        }
        assert!(std::time::Instant::now() < until, "{line} never came:\n{text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn with_one_slot_a_critical_request_overtakes_five_low_ones() {
    let server = slow(Duration::from_millis(400)).await;
    let app = spawn_with(|root| prepare(root, &server, "    concurrency: 1 ")).await;
    let low = async {
        let bodies: Vec<Value> = (0..5).map(|n| body(&format!("low {n}"), "low")).collect();
        futures_util::future::join_all(bodies.iter().map(|body| app.ask(body))).await
    };
    let critical = async {
        until_metric(&app, r#"orchestrator_queue_depth{priority="low"} 4"#).await;
        app.ask(&body("critical", "critical")).await
    };
    let (low, critical) = futures_util::join!(low, critical);
    assert!(low.iter().chain([&critical]).all(|answer| answer.status == 200), "{low:?}");
    let order = asked(&server).await;
    assert_eq!((order.len(), order[1].as_str()), (6, "critical"), "{order:?}");
    until_metric(&app, r#"orchestrator_queue_depth{priority="low"} 0"#).await;
}

#[tokio::test]
async fn a_full_queue_refuses_the_least_urgent_with_a_time_to_come_back() {
    let server = slow(Duration::from_secs(1)).await;
    let limits = "    concurrency: 1\n    queue_max: 1 #";
    let prepare = |root: &Path| {
        prepare(root, &server, limits);
        edit(root, "config/settings.yaml", "    queue_max: 1000", "    #");
    };
    let app = spawn_with(prepare).await;
    let (first, low, high) = (body("1", "normal"), body("2", "low"), body("3", "high"));
    let first = app.ask(&first);
    let low = async {
        until_metric(&app, "orchestrator_http_requests_total").await;
        while asked(&server).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        app.ask(&low).await
    };
    let high = async {
        until_metric(&app, r#"orchestrator_queue_depth{priority="low"} 1"#).await;
        app.ask(&high).await
    };
    let (first, low, high) = futures_util::join!(first, low, high);
    assert_eq!((first.status, low.status, high.status), (200, 503, 200), "{low:?}");
    assert_eq!(low.json()["code"], "OVERLOADED");
    let seconds: u32 = low.header("retry-after").parse().unwrap();
    assert!((5..=7).contains(&seconds), "{seconds}");
    assert_eq!(asked(&server).await, ["1", "3"]);
    until_metric(&app, r#"orchestrator_shed_total{priority="low",reason="queue_full"} 1"#).await;
}

#[tokio::test]
async fn who_waits_half_its_time_in_vain_is_refused_then() {
    let server = slow(Duration::from_secs(4)).await;
    let app = spawn_with(|root| prepare(root, &server, "    concurrency: 1 ")).await;
    let mut hasty = body("hasty", "critical");
    hasty["timeout_ms"] = json!(400);
    let first = body("first", "low");
    let second = async {
        while asked(&server).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let began = std::time::Instant::now();
        (app.ask(&hasty).await, began.elapsed())
    };
    let (_, (hasty, took)) = futures_util::join!(app.ask(&first), second);
    assert_eq!((hasty.status, hasty.json()["code"].as_str()), (503, Some("OVERLOADED")));
    assert!((200..2_000).contains(&took.as_millis()), "{took:?}");
    assert_eq!(asked(&server).await, ["first"]);
}

#[tokio::test]
async fn large_bodies_find_no_room_while_small_ones_do() {
    let limit = |root: &Path| {
        let from = "    bodies_bytes_max: 268435456";
        edit(root, "config/settings.yaml", from, "    bodies_bytes_max: 400000");
    };
    let app = spawn_with(limit).await;
    let large = app.ask(&json!({"content": "a ".repeat(60_000)})).await;
    assert_eq!((large.status, large.json()["code"].as_str()), (503, Some("OVERLOADED")));
    for _ in 0..20 {
        let fits = app.ask(&json!({"content": "a ".repeat(40_000)})).await;
        assert_eq!(fits.status, 200, "bytes of answered requests are still held: {fits:?}");
    }
    until_metric(&app, r#"orchestrator_shed_total{priority="",reason="memory"} 1"#).await;
}
