//! Services that the environment names.

use super::*;
use crate::app::spawn_named;

#[tokio::test]
async fn a_service_that_the_environment_names_serves_what_it_says_it_can() {
    let (server, filed) = (service("spam", &["topic"]).await, service("x", &["topic"]).await);
    let variable =
        |name: &'static str, server: &MockServer| (name, format!("{}/analyze", server.uri()));
    let app = spawn_named(
        vec![
            variable("ORCHESTRATION_DETECTOR_SPAM_DE_URL", &server),
            variable("ORCHESTRATION_DETECTOR_PII_URL", &filed),
        ],
        |_| {},
    )
    .await;
    let at = format!("{AT}/spam-de");
    let view = until(&app, &[], &at, ("categories", json!(["topic"]))).await;
    assert_eq!(view["source"], "environment", "{view:#}");
    until(&app, &[], &at, ("status", json!("active"))).await;
    let body =
        json!({"content": "buy", "detectors": {"add": ["spam-de"]}, "include": ["detectors"]});
    let answer = app.ask(&body).await.json();
    let reports = answer["detectors"].as_array().unwrap();
    let report = reports.iter().find(|report| report["name"] == "spam-de").unwrap();
    assert_eq!(report["label"], "spam", "{report:#}");
    let pii = app.get(&format!("{AT}/pii")).await.json();
    assert_eq!((&pii["source"], &pii["protocol"]), (&json!("file"), &json!("builtin")));
    let taken = register(&app, &[], &native("spam-de", &server)).await;
    assert_eq!(taken.status, 409, "{}", taken.text);
    assert_eq!(app.api.live.generations().faults.len(), 0);
}

#[tokio::test]
async fn a_silent_service_that_the_environment_names_is_pending_and_hurts_nobody() {
    let silent = MockServer::start().await;
    let variable = ("ORCHESTRATION_DETECTOR_SILENT_URL", format!("{}/analyze", silent.uri()));
    let app = spawn_named(vec![variable], |_| {}).await;
    let at = format!("{AT}/silent/health");
    let why = json!("it has no capabilities address");
    until(&app, &[], &at, ("pending", why)).await;
    let answer = app.ask(&json!({"content": "Mail ana@evil.io"})).await.json();
    assert_eq!((&answer["action"], asked(&silent).await), (&json!("redact"), 0));
}
