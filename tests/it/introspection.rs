//! What an operator without a Prometheus is told: health in detail, and figures since the start.

use serde_json::{Value, json};

use crate::access::{BOOT, key, send};
use crate::app::{App, spawn, spawn_closed, spawn_with, write};
use crate::shared::Instance;

async fn figures(app: &App) -> Value {
    let answer = app.get("/api/v1/performance").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn figures_move_by_exactly_what_was_asked() {
    let app = spawn().await;
    let before = figures(&app).await;
    assert_eq!(before["orchestrator_metrics"]["total_requests"], 0);
    assert_eq!(before["orchestrator_metrics"]["efficiency_score"], 0.0);
    for _ in 0..4 {
        assert_eq!(app.ask(&json!({"content": "hello"})).await.status, 200);
    }
    let batch = json!({"requests": [{"content": "x"}, {"content": "y"}, {"cantent": "z"}]});
    assert_eq!(app.post("/api/v1/orchestrate/batch", &batch).await.status, 200);
    app.get("/api/v1/breakers").await;
    let after = figures(&app).await;
    let metrics = &after["orchestrator_metrics"];
    assert_eq!(metrics["total_requests"], 6, "four and the two of the batch that were judged");
    let processed = after["worker_stats"].as_object().unwrap().values();
    let calls: u64 = processed.map(|worker| worker["requests_processed"].as_u64().unwrap()).sum();
    assert_eq!(calls, 5, "four and the batch: {after}");
    let score = metrics["efficiency_score"].as_f64().unwrap();
    let rate = 0.1 * metrics["throughput_rps"].as_f64().unwrap() / 10_000.0;
    assert!((score - 0.3 - rate).abs() < 1e-9, "{metrics}");
    for name in [
        "coalesced_requests",
        "coalescing_rate",
        "cache_hits",
        "cache_hit_rate",
        "circuit_trips",
        "error_rate",
        "queue_depth",
        "active_workers",
    ] {
        assert_eq!(metrics[name].as_f64(), Some(0.0), "{name} of {metrics}");
    }
    assert!(
        metrics["avg_latency_ms"].as_f64() > Some(0.0) && metrics["max_workers"].as_u64() > Some(0)
    );
    assert_eq!(after["circuit_breaker_states"]["pii"], "closed");
    assert_eq!(after["performance_targets"]["coalescing_rate"], 0.6);
}

#[tokio::test]
async fn a_tenants_credential_is_told_no_figures_of_all_tenants() {
    let app = spawn_closed(BOOT).await;
    let viewer = key(&app, json!({"roles": ["viewer"], "tenant": "acme"})).await;
    let own = send(&app, "GET", "/api/v1/performance", &viewer, &json!({})).await.json();
    assert!(own.get("orchestrator_metrics").is_none() && own["worker_stats"] == json!({}), "{own}");
    let all = send(&app, "GET", "/api/v1/performance", BOOT, &json!({})).await.json();
    assert!(all["orchestrator_metrics"]["uptime_seconds"].as_f64() > Some(0.0), "{all}");
}

#[tokio::test]
async fn health_in_detail_names_every_check_and_what_degrades_it() {
    let app = spawn().await;
    let whole = app.get("/health/detailed").await;
    let health = whole.json();
    assert_eq!((whole.status, &health["status"]), (200, &json!("healthy")), "{health}");
    assert_eq!(health["request_id"], whole.header("x-request-id"));
    assert!(health["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let names: Vec<&String> = health["checks"].as_object().unwrap().keys().collect();
    let expected = [
        "circuit_breakers",
        "environment",
        "errors",
        "evidence",
        "filesystem",
        "policies",
        "queue",
        "registry",
        "required_files",
        "services",
        "store",
        "workers",
    ];
    assert_eq!(names, expected);
    let services = &health["services"];
    assert!(services["total"].as_u64() > Some(0) && services["total"] == services["healthy"]);

    let opened = app.post("/api/v1/breakers/pii/open", &json!({"reason": "drill"})).await;
    assert_eq!(opened.status, 200, "{}", opened.text);
    let answer = app.get("/health/detailed").await;
    let health = answer.json();
    assert_eq!((answer.status, &health["status"]), (200, &json!("degraded")));
    assert_eq!(health["checks"]["circuit_breakers"]["breakers"], json!({"pii": "open"}));
    app.post("/api/v1/breakers/pii/reset", &json!({"reason": "drill"})).await;
    assert_eq!(app.get("/health/detailed").await.json()["status"], "healthy");

    // A thousand requests wait.
    let metrics = &app.api.deps.metrics;
    metrics.queue_depth(detector_orchestrator::domain::request::Priority::Low, 1_000.0);
    let health = app.get("/health/detailed").await.json();
    assert_eq!(
        (&health["status"], &health["checks"]["queue"]["status"]),
        (&json!("degraded"), &json!("warn"))
    );
    metrics.queue_depth(detector_orchestrator::domain::request::Priority::Low, -1_000.0);
}

/// The health of an instance once `holds`.
async fn health_of(instance: &Instance, holds: impl Fn(&Value) -> bool) -> (u16, Value) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let answer = instance.send("GET", "/health/detailed", BOOT, &json!({})).await;
        if holds(&answer.json()) {
            return (answer.status, answer.json());
        }
        assert!(std::time::Instant::now() < until, "never: {}", answer.text);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn without_its_store_the_service_is_unhealthy_and_without_nats_degraded() {
    let (mut server, nats) =
        (crate::postgres::Server::start(), crate::nats_server::Server::start());
    let instance = Instance::start_beside(&crate::shared::migrated(&server), &nats.url());
    let check = |name: &'static str, status: &'static str| {
        move |health: &Value| health["checks"][name]["status"] == status
    };
    let (status, health) = health_of(&instance, check("nats", "pass")).await;
    assert_eq!((status, &health["checks"]["store"]["status"]), (200, &json!("pass")), "{health}");
    nats.kill();
    let (status, health) = health_of(&instance, check("nats", "warn")).await;
    assert_eq!((status, &health["status"]), (200, &json!("degraded")), "{health}");
    server.kill();
    let (status, health) = health_of(&instance, check("store", "fail")).await;
    assert_eq!((status, &health["status"]), (503, &json!("unhealthy")), "{health}");
    server.start_again();
    let (status, _) = health_of(&instance, check("store", "pass")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn an_explanation_covers_all_three_points() {
    let app = spawn_with(|root| {
        for (name, pattern) in [("calm", "bbb"), ("strict-words", "aaa|bbb")] {
            let file = format!(
                "name: {name}\nprotocol: builtin\nbuiltin: regex\ncategories: [toxicity]\nparams:\n  \
                 patterns:\n    rude: {{pattern: '{pattern}', category: toxicity, score: 0.9}}\n"
            );
            write(root, &format!("detectors/{name}.yaml"), &file);
        }
        let settle = "package tenants.acme.standard\n\n\
            settle[c] := {\"strategy\": \"most_restrictive\"} if some c, _ in input.categories\n";
        write(root, "policies/tenants/acme/standard/settle.rego", settle);
        write(root, "config/tenants/acme.yaml", "schema_version: 1\nid: acme\n");
    })
    .await;
    let body = json!({"content": "aaa", "tenant_id": "acme", "include": ["explain", "conflicts"],
        "detectors": {"add": ["calm", "strict-words"]}});
    let answer = app.ask(&body).await.json();
    assert_eq!(answer["conflicts"].as_array().map(Vec::len), Some(1), "{answer}");
    let rules = answer["explain"].as_array().unwrap().iter().map(|held| held["rule"].as_str());
    let rules: Vec<_> = rules.flatten().collect();
    let at = |rule: &str| rules.iter().position(|held| *held == rule);
    let (plan, settle) = (at("required"), at("settle"));
    assert!(plan.is_some() && plan < settle, "in the order they were asked: {rules:?}");
    let settled = &answer["explain"][settle.unwrap()];
    assert_eq!(settled["layer"], "tenants.acme.standard");
    assert_eq!(settled["value"]["toxicity"]["strategy"], "most_restrictive", "{settled}");
}
