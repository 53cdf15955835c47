//! Overlays that are tried and not stored.

use serde_json::{Value, json};

use crate::app::{App, spawn};

async fn tried(app: &App, tenant: &str, overlay: Value) -> crate::app::Answer {
    let finding = json!({"id": 0, "detector": "secrets", "category": "secrets.aws_access_key",
        "path": ["secrets.aws_access_key", "secrets"], "label": "KEY", "score": 1, "severity": "high",
        "standing": true, "attributes": {}});
    let body = json!({"point": "verdict", "input": {"findings": [finding]}, "overlay": overlay});
    let headers = [("content-type", "application/json"), ("x-tenant-id", tenant)];
    app.send("POST", "/api/v1/policies/evaluate", &headers, body.to_string().as_bytes()).await
}

fn module(rego: &str) -> Value {
    json!({"modules": [{"path": "a.rego", "rego": format!("package tenants[\"default\"].standard\n{rego}")}]})
}

#[tokio::test]
async fn an_overlay_is_tried_with_every_layer_and_changes_nothing() {
    let app = spawn().await;
    let before = app.get("/api/v1/generations").await.json();
    let table = json!({"data": {"settings": {"actions": {"secrets": "block"}}}});
    let answer = tried(&app, "default", table).await;
    assert_eq!(answer.json()["result"]["action"], "block", "{}", answer.text);
    let rules = "import rego.v1\nreview contains \"all\" if {\n\tcount(input.findings) > 0\n}\n\
                 flag contains \"never\" if {\n\tinput.request.type == \"code\"\n\tcount(input.findings) > 9\n}\n";
    let answer = tried(&app, "default", module(rules)).await.json();
    assert_eq!(answer["result"]["action"], "review", "{answer:#}");
    let lines = &answer["coverage"][0];
    assert_eq!(lines["file"], "tenants/default/standard/a.rego", "{answer:#}");
    let has = |kind: &str, line: u64| lines[kind].as_array().unwrap().contains(&json!(line));
    assert!(has("covered", 4) && has("covered", 7) && has("missed", 8), "{lines}");

    for (overlay, line) in [
        (module("import rego.v1\nblock contains x if {\n\tx := input.findigs\n}\n"), 4),
        (
            module("import rego.v1\nblock contains x if {\n\tsome x in numbers.range(1, 1e9)\n}\n"),
            0,
        ),
        (json!({"data": {"settings": {"actions": {"pii": "blok"}}}}), 4),
    ] {
        let refused = tried(&app, "default", overlay).await;
        let problem = refused.json();
        assert_eq!(
            (refused.status, &problem["code"]),
            (400, &json!("POLICY_INVALID")),
            "{problem}"
        );
        let told = problem["errors"][0]["line"].as_u64().unwrap();
        assert!(line == 0 || told == line, "{problem:#}");
    }
    let files = tried(&app, "acme", json!({"data": {"settings": {}}})).await;
    assert_eq!(files.json()["code"], "ALREADY_EXISTS", "{}", files.text);
    let nothing = tried(&app, "default", json!({})).await;
    assert_eq!(nothing.json()["errors"][0]["pointer"], "/modules", "{}", nothing.text);

    assert_eq!(app.get("/api/v1/policies/standard").await.json()["overlay"], json!(null));
    let after = app.get("/api/v1/generations").await.json();
    assert_eq!((&after["revision"], &after["history"]), (&before["revision"], &json!([])));
    let judged = app.ask(&json!({"content": "key AKIAZ3VQ7JRTLWXK5P2D"})).await.json();
    assert_eq!(judged["action"], "redact", "what serves is as before");
}
