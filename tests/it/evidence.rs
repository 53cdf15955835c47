//! Evidence through the running service: who sees it, what proves it, who had it in hands, and what is
//! left when it is purged.

use std::time::{Duration, Instant};

use detector_orchestrator::evidence;
use serde_json::{Value, json};

use crate::access::{BOOT, key, send};
use crate::app::{App, spawn, spawn_closed};
use crate::binary::run;

mod commands;
mod instances;
mod stray;

const CONTENT: &str = "Mail ana@evil.io";

/// A decision of `key`'s tenant, and what the answer says of its evidence.
async fn decided(app: &App, key: &str) -> Value {
    let body = json!({"content": CONTENT, "include": ["evidence"]});
    let answer = send(app, "POST", "/api/v1/orchestrate", key, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["evidence"].clone()
}

/// What `path` of the evidence answers, once it is recorded.
async fn of(app: &App, (method, path): (&str, &str), key: &str, body: &Value) -> Value {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = send(app, method, &format!("/api/v1/evidence/{path}"), key, body).await;
        if answer.status == 200 {
            return answer.json();
        }
        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
        assert!(Instant::now() < until, "never recorded: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn id(evidence: &Value) -> &str {
    evidence["id"].as_str().unwrap()
}

/// What was done with it, in order.
async fn custody(app: &App, id: &str, key: &str) -> Vec<String> {
    let page = of(app, ("GET", &format!("{id}/chain?limit=200")), key, &json!({})).await;
    let chain = page["chain"].as_array().unwrap();
    let mut before = "0".repeat(64);
    for (at, entry) in chain.iter().enumerate() {
        assert_eq!((&entry["seq"], &entry["previous_hash"]), (&json!(at + 1), &json!(before)));
        assert_eq!(entry["signature"].is_string(), at > 0, "{entry}");
        before = entry["hash"].as_str().unwrap().to_owned();
    }
    chain.iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_decision_is_shown_proven_and_verified_and_its_custody_says_by_whom() {
    let app = spawn().await;
    let made = decided(&app, "").await;
    let id = id(&made);
    let shown = of(&app, ("GET", id), "", &json!({})).await;
    assert_eq!((&shown["action"], &shown["purged"]), (&json!("redact"), &json!(false)));
    assert_eq!((&shown["record"]["id"], &shown["legal_hold"]), (&json!(id), &Value::Null));
    assert!(!shown.to_string().contains("ana@evil.io"), "{shown}");
    let proof = of(&app, ("GET", &format!("{id}/proof")), "", &json!({})).await;
    assert_eq!(proof["leaf_hash"], made["receipt"]["leaf_hash"], "{proof}");
    assert!(proof["tree_size"].as_u64() > proof["leaf_index"].as_u64(), "{proof}");
    let keys = app.get("/api/v1/evidence/keys").await.json();
    assert_eq!(keys["logs"][0]["log_id"], proof["log_id"]);
    let origin = format!("detector-orchestrator/{}", proof["log_id"].as_str().unwrap());
    for note in [&keys["logs"][0]["checkpoint"], &proof["checkpoint"]] {
        assert!(note.as_str().unwrap().starts_with(&origin), "{note}");
    }
    assert_eq!(custody(&app, id, "").await, ["created", "accessed"]);
    let verify = format!("{id}/verify");
    let first = of(&app, ("POST", &verify), "", &json!({})).await;
    assert_eq!(first["overall_valid"], true, "{first}");
    assert_eq!(first["checks"]["content_hash"], "not_checked");
    for check in ["signature", "chain_of_custody", "timestamp", "inclusion"] {
        assert_eq!(first["checks"][check], true, "{check}: {first}");
    }
    let salt = &made["receipt"]["salt"];
    let opened = of(&app, ("POST", &verify), "", &json!({"content": CONTENT, "salt": salt})).await;
    assert_eq!(opened["checks"]["content_hash"], true, "{opened}");
    assert_eq!(custody(&app, id, "").await, ["created", "accessed", "verified", "verified"]);
    let other = json!({"content": "other", "salt": salt});
    let other = of(&app, ("POST", &verify), "", &other).await;
    assert_eq!(
        (&other["overall_valid"], &other["checks"]["content_hash"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(other["faults"][0]["check"], "content_hash");
    let without = of(&app, ("POST", &verify), "", &json!({"content": "other"})).await;
    assert_eq!(without["checks"]["content_hash"], "not_checked");
    for wrong in [json!({"salt": "x"}), json!({"content": "x", "messages": []}), json!({"x": 1})] {
        let path = format!("/api/v1/evidence/{verify}");
        assert_eq!(app.post(&path, &wrong).await.status, 400, "{wrong}");
    }
    let metrics = app.get("/metrics").await.text;
    assert!(metrics.contains("orchestrator_evidence_verification_seconds_count 4"));
}

#[tokio::test]
async fn custody_goes_on_after_a_restart() {
    let app = spawn().await;
    let made = decided(&app, "").await;
    let shown = of(&app, ("GET", id(&made)), "", &json!({})).await;
    let app = app.restart().await;
    assert_eq!(of(&app, ("GET", id(&made)), "", &json!({})).await["record"], shown["record"]);
    let found = of(&app, ("POST", &format!("{}/verify", id(&made))), "", &json!({})).await;
    assert_eq!(found["overall_valid"], true, "{found}");
    let after = ["created", "accessed", "accessed", "verified"];
    assert_eq!(custody(&app, id(&made), "").await, after);
}

#[tokio::test]
async fn evidence_is_its_tenants_auditors_and_nobody_elses() {
    let app = spawn_closed(BOOT).await;
    let of_role = async |role: &str, tenant: &str| {
        key(&app, json!({"roles": [role], "tenant": tenant})).await
    };
    let writer = of_role("app", "acme").await;
    let (own, others) = (of_role("auditor", "acme").await, of_role("auditor", "globex").await);
    let made = decided(&app, &writer).await;
    of(&app, ("GET", id(&made)), &own, &json!({})).await;
    let parts = [("GET", ""), ("GET", "/chain"), ("GET", "/proof"), ("GET", "/package")];
    for (method, path) in parts.into_iter().chain([("POST", "/verify")]) {
        let path = format!("/api/v1/evidence/{}{path}", id(&made));
        let answer = send(&app, method, &path, &others, &json!({})).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
        let answer = send(&app, method, &path, &writer, &json!({})).await;
        assert_eq!(answer.json()["code"], "INSUFFICIENT_SCOPE", "{path}");
    }
    let actions = ["created", "accessed"];
    assert_eq!(custody(&app, id(&made), &own).await, actions, "what was refused is no custody");
    let hold = format!("/api/v1/evidence/{}/hold", id(&made));
    let held = send(&app, "POST", &hold, &own, &json!({"reason": "x"})).await;
    assert_eq!(held.json()["code"], "INSUFFICIENT_SCOPE", "an auditor only reads");
    let shown = of(&app, ("GET", &format!("{}/chain", id(&made))), &own, &json!({})).await;
    assert_eq!(shown["chain"][1]["actor_type"], "api");
    assert_eq!(shown["chain"][1]["actor"], own[..17]);
    let page = of(&app, ("GET", &format!("{}/chain?limit=1", id(&made))), &own, &json!({})).await;
    assert_eq!((&page["chain"][0]["seq"], &page["next"]), (&json!(1), &json!("1")));
    let next = format!("{}/chain?limit=1&cursor=1", id(&made));
    let page = of(&app, ("GET", &next), &own, &json!({})).await;
    assert_eq!((&page["chain"][0]["seq"], &page["next"]), (&json!(2), &Value::Null));
    let keys = send(&app, "GET", "/api/v1/evidence/keys", "", &json!({})).await;
    assert_eq!(keys.status, 200, "keys are for everybody");
}

#[tokio::test]
async fn a_record_whose_custody_cannot_be_kept_is_not_shown() {
    let app = spawn().await;
    let made = decided(&app, "").await;
    of(&app, ("GET", id(&made)), "", &json!({})).await;
    app.api.deps.store.close();
    for path in ["", "/package"] {
        let answer = app.get(&format!("/api/v1/evidence/{}{path}", id(&made))).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.json()["code"], "AUDIT_UNAVAILABLE", "{}", answer.text);
        assert!(!answer.text.contains("commitment"), "{}", answer.text);
    }
    let answer = app.post(&format!("/api/v1/evidence/{}/verify", id(&made)), &json!({})).await;
    assert_eq!(answer.json()["code"], "AUDIT_UNAVAILABLE", "{}", answer.text);
}

#[tokio::test]
async fn a_package_is_verified_elsewhere_and_its_custody_with_it() {
    let app = spawn().await;
    let made = decided(&app, "").await;
    of(&app, ("GET", id(&made)), "", &json!({})).await;
    let given = app.get(&format!("/api/v1/evidence/{}/package", id(&made))).await;
    assert_eq!(given.status, 200, "{}", given.text);
    assert_eq!(custody(&app, id(&made), "").await, ["created", "accessed", "exported"]);
    for secret in ["ana@evil.io", made["receipt"]["salt"].as_str().unwrap()] {
        assert!(!given.text.contains(secret), "{}", given.text);
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let verify = |text: &str| {
        std::fs::write(elsewhere.path().join("one.jsonl"), text).unwrap();
        let done = run(elsewhere.path(), &["evidence", "verify", "one.jsonl", "--json"]);
        let told: Value = serde_json::from_slice(&done.stdout).unwrap();
        (done.status.code(), told["problems"].clone())
    };
    assert_eq!(verify(&given.text), (Some(0), json!([])));
    let forged = given.text.replace("\"action\":\"accessed\"", "\"action\":\"verified\"");
    assert_ne!(forged, given.text);
    let (code, problems) = verify(&forged);
    assert_eq!(code, Some(65));
    assert!(problems.to_string().contains("custody entry 2: "), "{problems}");
}

/// Purges as on the day when all records are 400 days old.
async fn purge(app: &App) -> u64 {
    let later = std::time::SystemTime::now() + Duration::from_secs(400 * 86_400);
    let later = later.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    // The database goes by its own clock, and keeps today's records.
    let raw = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
    raw.execute_batch("DROP TRIGGER IF EXISTS decisions_stay_a_day").unwrap();
    let by = (&*app.api.deps.store, &app.api.deps.custodian);
    evidence::retention::purge(by, later, |_| 365).await.unwrap()
}

#[tokio::test]
async fn what_is_purged_is_told_so_and_what_is_held_stays() {
    let app = spawn().await;
    let reason = json!({"reason": "case 12"});
    let (gone, held) = (decided(&app, "").await, decided(&app, "").await);
    of(&app, ("GET", id(&gone)), "", &json!({})).await;
    let hold = of(&app, ("POST", &format!("{}/hold", id(&held))), "", &reason).await;
    assert_eq!((&hold["held"], &hold["evidence"]), (&json!(true), &held["id"]));
    let again = json!({"reason": "another"});
    let again = of(&app, ("POST", &format!("{}/hold", id(&held))), "", &again).await;
    assert_eq!(again["reason"], "case 12", "it was held already");
    let tenant = async |act: &str| {
        let answer = app.post(&format!("/api/v1/admin/tenants/default/{act}"), &reason).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    assert_eq!(tenant("hold").await["evidence"], Value::Null);
    assert_eq!(purge(&app).await, 0, "all of the tenant is held");
    assert_eq!(tenant("release").await["held"], false);
    assert_eq!(purge(&app).await, 1);

    let shown = of(&app, ("GET", id(&gone)), "", &json!({})).await;
    assert_eq!((&shown["record"], &shown["purged"]), (&Value::Null, &json!(true)));
    assert_eq!(shown["leaf"]["leaf_hash"], gone["receipt"]["leaf_hash"], "its leaf stays");
    let found = of(&app, ("POST", &format!("{}/verify", id(&gone))), "", &json!({})).await;
    assert_eq!(
        (&found["overall_valid"], &found["checks"]["inclusion"]),
        (&json!(true), &json!(true))
    );
    let kept = ["created", "accessed", "purged", "accessed", "verified"];
    assert_eq!(custody(&app, id(&gone), "").await, kept, "its custody stays");
    let shown = of(&app, ("GET", id(&held)), "", &json!({})).await;
    assert_eq!(
        (&shown["purged"], &shown["legal_hold"]["reason"]),
        (&json!(false), &json!("case 12"))
    );
    of(&app, ("POST", &format!("{}/release", id(&held))), "", &reason).await;
    assert_eq!(purge(&app).await, 1);
    let acts = app.get("/api/v1/audit").await.json();
    let acts = acts["audit"].as_array().unwrap().iter().rev();
    let acts: Vec<&str> = acts.map(|act| act["action"].as_str().unwrap()).collect();
    let raw = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
    let forget = format!("DELETE FROM custody WHERE evidence = '{}' AND seq > 2", id(&gone));
    raw.execute_batch(&format!("DROP TRIGGER custody_keeps_rows; {forget}")).unwrap();
    let shown = of(&app, ("GET", id(&gone)), "", &json!({})).await;
    assert_eq!((&shown["record"], &shown["purged"]), (&Value::Null, &json!(false)));
    let found = of(&app, ("POST", &format!("{}/verify", id(&gone))), "", &json!({})).await;
    let (checks, detail) = (&found["checks"], &found["faults"][0]["detail"]);
    assert_eq!(
        (&checks["inclusion"], &checks["timestamp"], &found["overall_valid"]),
        (&json!(false), &json!("not_checked"), &json!(false))
    );
    assert_eq!(detail, "the record was emptied, and no purge is on record");
    let expected = ["evidence.hold", "tenant.hold", "tenant.release", "evidence.purge"];
    assert_eq!(acts, [&expected[..], &["evidence.release", "evidence.purge"]].concat());
}

#[tokio::test]
async fn an_edit_of_the_audit_is_found_and_a_cut_end_by_a_head_that_was_kept() {
    let app = spawn_closed(BOOT).await;
    let auditor = key(&app, json!({"roles": ["auditor"], "tenant": "acme"})).await;
    for tenant in ["acme", "globex", "acme"] {
        key(&app, json!({"roles": ["app"], "tenant": tenant})).await;
    }
    let check = async |key: &str, query: &str| {
        let path = format!("/api/v1/audit/verify{query}");
        let answer = send(&app, "GET", &path, key, &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let own = check(&auditor, "").await;
    assert_eq!((&own["valid"], &own["entries"]), (&json!(true), &json!(3)), "{own}");
    let all = check(BOOT, "").await;
    assert_eq!((&all["valid"], &all["entries"]), (&json!(true), &json!(5)), "{all}");
    let head = format!("?head={}", own["head"]["hash"].as_str().unwrap());
    assert_eq!(check(&auditor, &head).await["valid"], true);
    let raw = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
    raw.execute_batch(
        "DROP TRIGGER audit_keeps_rows; DROP TRIGGER audit_keeps_values; \
         DELETE FROM audit WHERE sequence = (SELECT max(sequence) FROM audit WHERE tenant = 'acme')",
    )
    .unwrap();
    assert_eq!(check(&auditor, "").await["valid"], true, "a chain alone does not know its end");
    let cut = check(&auditor, &head).await;
    assert_eq!((&cut["valid"], &cut["entries"]), (&json!(false), &json!(2)), "{cut}");
    raw.execute_batch("UPDATE audit SET reason = 'x' WHERE tenant = 'acme'").unwrap();
    let edited = check(&auditor, "").await;
    assert_eq!((&edited["valid"], &edited["entries"]), (&json!(false), &json!(0)), "{edited}");
    assert!(edited["first_bad"]["why"].as_str().unwrap().contains("changed"), "{edited}");
    assert_eq!(check(BOOT, "").await["first_bad"], edited["first_bad"]);
    for wrong in ["?head=x", "?head=", "?x=1"] {
        let path = format!("/api/v1/audit/verify{wrong}");
        assert_eq!(send(&app, "GET", &path, BOOT, &json!({})).await.status, 400, "{wrong}");
    }
}
