//! Live edits under load: seen within a second, whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::access::BOOT;
use crate::app::{client, spawn, spawn_named, write};

mod live;
mod load;
mod storm;
mod tree;

const BODY: &str = r#"{"content": "Mail ana@evil.io, key AKIAZ3VQ7JRTLWXK5P2D"}"#;

#[tokio::test]
async fn editing_the_table_changes_the_verdict_within_a_second_and_fails_no_request() {
    let app = spawn().await;
    let done = Arc::new(AtomicBool::new(false));
    let (sent, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let load = load(app.address, &done, &sent, &failed);
    let body = json!({"content": "Mail ana@evil.io, key AKIAZ3VQ7JRTLWXK5P2D"});
    app.ask_until(&body, |value| value["action"] == "redact").await;
    let before = Instant::now();
    app.edit("policies/standard/data.yaml", "secrets: redact", "secrets: block");
    app.ask_until(&body, |value| value["action"] == "block").await;
    let took = before.elapsed();
    done.store(true, Ordering::Relaxed);
    load.await.unwrap();
    assert!(sent.load(Ordering::Relaxed) > 5, "no load was made");
    assert_eq!(failed.load(Ordering::Relaxed), 0, "requests failed during the reload");
    assert!(took < Duration::from_secs(5), "the edit took {took:?}");
}

pub fn load(
    address: std::net::SocketAddr,
    done: &Arc<AtomicBool>,
    sent: &Arc<AtomicU64>,
    failed: &Arc<AtomicU64>,
) -> tokio::task::JoinHandle<()> {
    let (done, sent, failed) = (Arc::clone(done), Arc::clone(sent), Arc::clone(failed));
    tokio::task::spawn(async move {
        let client = client();
        while !done.load(Ordering::Relaxed) {
            let request = hyper::Request::post(format!("http://{address}/api/v1/orchestrate"))
                .header("content-type", "application/json")
                .body(http_body_util::Full::from(BODY))
                .unwrap();
            sent.fetch_add(1, Ordering::Relaxed);
            match client.request(request).await {
                Ok(response) if response.status() == 200 => {}
                _ => {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    })
}

#[tokio::test]
async fn a_broken_edit_changes_nothing_and_is_reported_with_its_line() {
    let app = spawn().await;
    let body = json!({"content": "Mail ana@evil.io"});
    let before = app.ask(&body).await.json();
    for (file, text, kind) in [
        (
            "policies/standard/verdict.rego",
            "package standard\n\nblock contains x if {\n  x := [[[\n",
            "policy",
        ),
        ("policies/standard/data.yaml", "settings:\n  actions: {secrets: explode}\n", "policy"),
        ("detectors/pii.yaml", "name: pii\nprotocol: builtin\ncategries: [pii]\n", "detector"),
        ("config/tenants/acme.yaml", "schema_version: 1\nid: acme\nmode: loud\n", "tenant"),
    ] {
        let good = std::fs::read_to_string(app.path(file)).unwrap();
        write(app.dir.path(), file, text);
        let until = Instant::now() + Duration::from_secs(10);
        let fault = loop {
            let state = app.get("/api/v1/generations").await.json();
            if let Some(fault) = state["faults"].as_array().and_then(|faults| {
                faults
                    .iter()
                    .find(|fault| fault["file"].as_str().is_some_and(|f| f.ends_with(file)))
            }) {
                break fault.clone();
            }
            assert!(Instant::now() < until, "{file}: never reported: {state:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(fault["kind"], kind, "{fault:#}");
        assert!(fault["line"].as_u64().unwrap() > 0, "{fault:#}");
        let during = app.ask(&body).await.json();
        assert_eq!(during["policy"], before["policy"], "{file}");
        assert_eq!(during["action"], before["action"], "{file}");
        write(app.dir.path(), file, &good);
        let until = Instant::now() + Duration::from_secs(10);
        while app.get("/api/v1/generations").await.json()["faults"] != json!([]) {
            assert!(Instant::now() < until, "{file}: the fault stays");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_layer_that_vanishes_never_means_allow() {
    for (layer, away) in [
        ("policies/base", "base"),
        ("policies/floor", "floor"),
        ("policies/standard/verdict.rego", "verdict"),
    ] {
        let app = spawn().await;
        let body = json!({"content": "Mail ana@evil.io"});
        assert_eq!(app.ask(&body).await.json()["action"], "redact");
        std::fs::rename(app.path(layer), app.path(away)).unwrap();
        let until = Instant::now() + Duration::from_secs(15);
        while app.get("/api/v1/generations").await.json()["faults"] == json!([]) {
            assert!(Instant::now() < until, "{layer}: the loss is never reported");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(app.ask(&body).await.json()["action"], "redact", "{layer}");
    }
}

#[tokio::test]
async fn policies_that_vanish_keep_serving_and_are_reported() {
    let app = spawn().await;
    let body = json!({"content": "Mail ana@evil.io"});
    assert_eq!(app.ask(&body).await.json()["action"], "redact");
    std::fs::rename(app.path("policies"), app.path("gone")).unwrap();
    let until = Instant::now() + Duration::from_secs(15);
    while app.get("/api/v1/generations").await.json()["faults"] == json!([]) {
        assert!(Instant::now() < until, "the loss is never reported");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(app.ask(&body).await.json()["action"], "redact");
}

#[tokio::test]
async fn a_file_that_everybody_may_write_does_not_serve_in_staging() {
    use std::os::unix::fs::PermissionsExt as _;
    let table = "policies/standard/data.yaml";
    let body = json!({"content": "Mail ana@evil.io"});
    let reload = json!({"reason": "of the test"});
    for (env, codes) in [("staging", &["writable_by_all"][..]), ("development", &[])] {
        let env = [("ORCHESTRATION_ENV", env), ("ORCHESTRATION_BOOTSTRAP_KEY", BOOT)];
        let env = env.map(|(name, value)| (name, value.to_owned())).to_vec();
        let app = spawn_named(env, |_| {}).await;
        let send = async |path: &str, body: &Value| {
            crate::access::send(&app, "POST", path, BOOT, body).await.json()
        };
        let mode = |mode| {
            let right = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(app.path(table), right).unwrap();
        };
        mode(0o666);
        app.edit(table, "pii: redact", "pii: block");
        let told = send("/api/v1/admin/reload", &reload).await;
        let faults = told["faults"].as_array().unwrap();
        let found: Vec<_> = faults.iter().map(|fault| fault["code"].as_str().unwrap()).collect();
        assert_eq!(found, codes, "{told}");
        let trusted = codes.is_empty();
        let action = if trusted { "block" } else { "redact" };
        assert_eq!(send("/api/v1/orchestrate", &body).await["action"], action);
        if trusted {
            continue;
        }
        assert!(faults[0]["file"].as_str().unwrap().ends_with(table), "{told}");
        assert!(faults[0]["hint"].as_str().unwrap().contains("chmod o-w"), "{told}");
        mode(0o644);
        let told = send("/api/v1/admin/reload", &reload).await;
        assert_eq!(told["faults"], json!([]), "{told}");
        assert_eq!(send("/api/v1/orchestrate", &body).await["action"], "block");
    }
}
