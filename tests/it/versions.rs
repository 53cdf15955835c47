//! Versions that share a detector's requests, and detectors that are only observed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::app::{App, spawn_with, write};

fn says(label: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"label": label, "score": 0.9}))
}

async fn answering(template: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(template).mount(&server).await;
    server
}

/// A service with the detectors of `files`, each native, which tenant `scene` asks.
async fn spawn(files: &[(&str, String)], table: &str) -> App {
    spawn_with(|root| {
        for (name, lines) in files {
            let text = format!(
                "name: {name}\nprotocol: native\ncategories: [toxicity]\n\
                 health: {{path: ''}}\nretry: {{attempts: 1}}\n{lines}"
            );
            write(root, &format!("detectors/{name}.yaml"), &text);
        }
        let tenant = "schema_version: 1\nid: scene\npolicies: [standard]\n";
        write(root, "config/tenants/scene.yaml", tenant);
        let table = format!("settings: {table}\n");
        write(root, "policies/tenants/scene/standard/data.yaml", &table);
    })
    .await
}

fn ask(content: &str) -> Value {
    json!({"content": content, "tenant_id": "scene", "include": ["detectors", "plan"]})
}

fn report<'a>(answer: &'a Value, version: &str) -> &'a Value {
    let mut reports = answer["detectors"].as_array().unwrap().iter();
    reports.find(|report| report["version"] == version).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn the_same_content_meets_the_same_version_and_each_has_its_own_breaker() {
    let (old, new) = (answering(says("clean")).await, answering(says("toxic")).await);
    let versions = format!(
        "versions:\n- {{version: old, weight: 50, endpoint: {}/}}\n\
         - {{version: new, weight: 50, endpoint: {}/}}\n",
        old.uri(),
        new.uri()
    );
    let app = spawn(&[("tox", versions)], "{required: [tox], optional: []}").await;
    let (mut actions, mut by) = (Vec::new(), Vec::new());
    for n in 0..12 {
        let body = ask(&format!("text {n}"));
        let answers = [app.ask(&body).await.json(), app.ask(&body).await.json()];
        let seen = answers.each_ref().map(|a| a["detectors"][0]["version"].to_string());
        assert_eq!(seen[0], seen[1], "text {n}");
        by.push(seen[0].clone());
        actions.push(answers[0]["action"].to_string());
    }
    for (action, version) in actions.iter().zip(&by) {
        let blocks = version == "\"new\"";
        assert_eq!(action, if blocks { "\"block\"" } else { "\"allow\"" });
    }
    assert!(by.iter().any(|name| *name != by[0]), "one version took all of twelve: {by:?}");
    let opened = app.post("/api/v1/breakers/tox/open", &json!({"reason": "drill"})).await.json();
    let shown = |answer: &Value| -> Vec<String> {
        let breakers = answer["breakers"].as_array().unwrap().iter();
        breakers.map(|one| format!("{} {}", one["version"], one["state"])).collect()
    };
    assert_eq!(shown(&opened), [r#""new" "open""#, r#""old" "open""#], "{opened}");
    assert_eq!(shown(&app.get("/api/v1/breakers/tox").await.json()), shown(&opened));
    let listed = app.get("/api/v1/detectors/tox").await.json();
    assert_eq!(
        (&listed["versions"], &listed["status"]),
        (&json!(["old", "new"]), &json!("active"))
    );
    let breakers = app.get("/api/v1/breakers").await.json();
    let own = breakers["breakers"].as_array().unwrap().iter().filter(|b| b["name"] == "tox");
    let names: Vec<&Value> = own.map(|breaker| &breaker["version"]).collect();
    assert_eq!(names, ["new", "old"]);
    let metrics = app.get("/metrics").await.text;
    for version in ["old", "new"] {
        let line =
            |l: &&str| l.contains("detector=\"tox\"") && l.contains(&format!("\"{version}\""));
        assert!(metrics.lines().any(|l| line(&l)), "{version}");
    }
    let planned = app.ask(&ask("text 0")).await.json();
    assert!(planned["plan"]["projected_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{planned}");
}

#[tokio::test]
async fn a_shadow_is_asked_and_shown_and_changes_and_delays_nothing() {
    let clean = answering(says("clean")).await;
    let (quick, slow) = (
        answering(says("toxic")).await,
        answering(says("toxic").set_delay(Duration::from_secs(4))).await,
    );
    let tox = format!(
        "endpoint: {}/\nversions:\n- {{version: next, shadow: true, endpoint: {}/}}\n",
        clean.uri(),
        quick.uri()
    );
    let slow_one = format!("shadow: true\ntimeout: 10s\nendpoint: {}/\n", slow.uri());
    let table = "{required: [tox], optional: ['*']}";
    let app = spawn(&[("tox", tox), ("idle", slow_one)], table).await;
    let begun = Instant::now();
    let mut answer = app.ask(&ask("hello")).await.json();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    // The quick one may be later than the first answer.
    for _ in 0..20 {
        if report(&answer, "next")["status"] == "success" {
            break;
        }
        answer = app.ask(&ask("hello")).await.json();
    }
    assert_eq!(
        (&answer["action"], &answer["coverage"]["complete"]),
        (&json!("allow"), &json!(true))
    );
    assert_eq!((&answer["findings"], &answer["unjudged"]), (&json!([]), &json!([])));
    let next = report(&answer, "next");
    assert_eq!((&next["shadow"], &next["label"]), (&json!(true), &json!("toxic")), "{answer}");
    let reports = answer["detectors"].as_array().unwrap();
    let idle = reports.iter().find(|report| report["name"] == "idle").unwrap();
    assert_eq!((&idle["shadow"], &idle["error"]), (&json!(true), &json!("decided")));
    let counted = reports.iter().find(|report| report["version"] == "1").unwrap();
    assert!(counted.get("shadow").is_none(), "{counted}");
    let listed = app.get("/api/v1/detectors?status=shadow").await.json();
    let names: Vec<&Value> =
        listed["detectors"].as_array().unwrap().iter().map(|d| &d["name"]).collect();
    assert_eq!(names, ["idle"]);
    // What ends after the answer is counted all the same.
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        let metrics = app.get("/metrics").await.text;
        let ended = |l: &str| l.contains("detector=\"idle\"") && l.contains("success");
        if metrics.lines().any(ended) {
            break;
        }
        assert!(Instant::now() < until, "the slow shadow was never counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_plan_that_requires_a_shadow_misses_it() {
    let quick = answering(says("clean")).await;
    let idle = format!("shadow: true\nendpoint: {}/\n", quick.uri());
    let app = spawn(&[("idle", idle)], "{required: [idle], optional: []}").await;
    let answer = app.ask(&ask("hello")).await.json();
    assert_eq!(
        (&answer["action"], &answer["coverage"]["complete"]),
        (&json!("review"), &json!(false))
    );
    assert_eq!(answer["unjudged"][0]["reason"], "not_registered");
}
