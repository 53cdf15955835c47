//! Two instances over one PostgreSQL: one chain of custody, one purge, and what a tampered row says.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::id;
use crate::access::BOOT;
use crate::app::Answer;
use crate::postgres::Server;
use crate::shared::{Instance, orchestrator, secret};

const ACME: [(&str, &str); 1] = [("x-tenant-id", "acme")];

async fn ask(at: &Instance, (method, path): (&str, &str), body: &Value) -> Answer {
    let path = format!("/api/v1/{path}");
    at.send_for((method, &path), BOOT, body, &ACME).await
}

/// What is answered once it is 200.
async fn soon(at: &Instance, asked: (&str, &str), holds: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let answer = ask(at, asked, &json!({})).await;
        if answer.status == 200 && holds(&answer.json()) {
            return answer.json();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{asked:?}: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn decided(at: &Instance, key: &str) -> Value {
    let body = json!({"content": "Mail ana@evil.io", "include": ["evidence"]});
    let answer = at.send("POST", "/api/v1/orchestrate", key, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["evidence"].clone()
}

fn database() -> (Server, String) {
    let server = Server::start();
    let url = server.database();
    let dir = tempfile::tempdir().unwrap();
    let migrated = orchestrator(dir.path(), &url, &["migrate"]).output().unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    (server, url)
}

/// Runs `sql` as somebody who owns the tables and stops at no trigger.
fn attack(server: &Server, url: &str, sql: &str) {
    let name = url.rsplit('/').next().unwrap();
    server.sql(name, &format!("SET session_replication_role = replica; {sql}"));
}

#[tokio::test]
async fn two_instances_keep_one_chain_and_a_tampered_entry_is_named() {
    let (server, url) = database();
    let (a, b) = (Instance::start(&url), Instance::start(&url));
    let made = a.key("acme").await;
    let evidence = decided(&a, secret(&made)).await;
    let one = format!("evidence/{}", id(&evidence));
    soon(&a, ("GET", &one), |_| true).await;
    let verify = format!("{one}/verify");
    let (verify, none) = (("POST", verify.as_str()), json!({}));
    let both = (0..20).map(|n| ask(if n % 2 == 0 { &a } else { &b }, verify, &none));
    for answer in futures_util::future::join_all(both).await {
        assert_eq!(answer.json()["overall_valid"], true, "{}", answer.text);
    }
    let chain = ask(&b, ("GET", &format!("{one}/chain?limit=200")), &none).await.json();
    let chain = chain["chain"].as_array().unwrap();
    assert_eq!(chain.len(), 22);
    let signers: std::collections::BTreeSet<_> =
        chain[1..].iter().map(|entry| entry["log_id"].as_str().unwrap()).collect();
    let keys = ask(&b, ("GET", "evidence/keys"), &none).await.json();
    let logs = keys["logs"].as_array().unwrap();
    assert!(signers.iter().all(|signer| logs.iter().any(|log| log["log_id"] == *signer)));

    let checked = async || ask(&b, verify, &none).await.json();
    let named = |found: &Value| found["faults"][0]["detail"].as_str().unwrap().to_owned();
    attack(&server, &url, "UPDATE custody SET actor = 'x' WHERE seq = 7");
    let found = checked().await;
    assert_eq!(found["checks"]["chain_of_custody"], false, "{found}");
    assert_eq!(
        (&found["overall_valid"], &found["checks"]["inclusion"]),
        (&json!(false), &json!(true))
    );
    assert!(named(&found).starts_with("entry 7: "), "{found}");
    attack(&server, &url, "UPDATE custody SET action = 'x' WHERE seq = 6");
    assert!(named(&checked().await).starts_with("entry 6: "));
    attack(&server, &url, "DELETE FROM custody WHERE seq = 3");
    assert!(named(&checked().await).starts_with("entry 4: "));
    attack(&server, &url, "UPDATE decisions SET at_ms = at_ms + 1");
    let found = checked().await;
    assert_eq!(found["checks"]["timestamp"], false, "{found}");
    attack(&server, &url, "UPDATE decisions SET record = replace(record, 'redact', 'allow')");
    assert_eq!(checked().await["checks"]["inclusion"], false);
}

#[tokio::test]
async fn an_instance_purges_at_its_start_what_is_old_and_not_held() {
    let (server, url) = database();
    let a = Instance::start(&url);
    let made = a.key("acme").await;
    let mut decisions = Vec::new();
    for _ in 0..3 {
        decisions.push(decided(&a, secret(&made)).await);
    }
    let path = |at: usize| format!("evidence/{}", id(&decisions[at]));
    for at in 0..3 {
        soon(&a, ("GET", &path(at)), |_| true).await;
    }
    let held = ask(&a, ("POST", &format!("{}/hold", path(1))), &json!({"reason": "case 12"})).await;
    assert_eq!(held.status, 200, "{}", held.text);
    attack(&server, &url, "UPDATE decisions SET at_ms = at_ms - 366 * 86400000::bigint");
    let b = Instance::start(&url);
    for at in [0, 2] {
        let gone = soon(&a, ("GET", &path(at)), |shown| shown["purged"] == true).await;
        assert_eq!(gone["record"], Value::Null);
    }
    let kept = soon(&b, ("GET", &path(1)), |_| true).await;
    assert_eq!(kept["purged"], false, "{kept}");
    let acts = ask(&b, ("GET", "audit"), &json!({})).await.json();
    assert_eq!(acts["audit"][0]["action"], "evidence.purge", "{acts}");
    assert_eq!(acts["audit"][0]["after"]["records"], 2, "{acts}");
    let chain = ask(&b, ("GET", "audit/verify"), &json!({})).await.json();
    assert_eq!(chain["valid"], true, "{chain}");
}
