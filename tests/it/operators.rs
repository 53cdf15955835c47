//! What operators see and do: operations and their breakers, the audit, reloads.

use detector_orchestrator::api::access::{Need, RULES};
use detector_orchestrator::domain::access::Scope;
use serde_json::{Value, json};

use crate::access::{BOOT, key, make, send};
use crate::app::{App, spawn, spawn_closed, spawn_closed_with, write};

async fn operations(app: &App) -> Vec<Value> {
    let list = app.get("/api/v1/operations").await;
    assert_eq!(list.status, 200, "{}", list.text);
    list.json()["operations"].as_array().unwrap().clone()
}

fn calls<'a>(list: &'a [Value], name: &str) -> &'a Value {
    list.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test]
async fn what_the_service_does_is_counted_under_its_name() {
    let app = spawn().await;
    app.ask(&json!({"content": "Mail ana@evil.io"})).await;
    let batch = json!({"requests": [{"content": "x"}, {"content": "y"}]});
    app.post("/api/v1/orchestrate/batch", &batch).await;
    let made = json!({"label": "x", "reason": "x", "roles": ["app"], "tenant": "acme"});
    assert_eq!(app.post("/api/v1/keys", &made).await.status, 201);
    app.get("/api/v1/keys").await;
    app.get("/api/v1/audit").await;
    app.post("/api/v1/breakers/pii/reset", &json!({"reason": "x"})).await;
    let list = operations(&app).await;
    assert!(list.len() >= 12, "{list:?}");
    for name in [
        "authenticate",
        "check_permission",
        "check_threat",
        "batch_threat_check",
        "policy_evaluate",
        "assess_risk",
        "store_token",
        "retrieve_token",
        "retrieve_object",
        "write_audit_batch",
        "read_audit",
        "record_decision",
    ] {
        let row = calls(&list, name);
        assert!(row["calls"].as_u64() > Some(0), "{row}");
        assert_eq!((&row["breaker_state"], &row["errors"]), (&json!("closed"), &json!(0)), "{row}");
        assert!(row["avg_ms"].as_f64() >= Some(0.0), "{row}");
    }
    assert_eq!(calls(&list, "assess_risk")["calls"], 3);
    assert_eq!(calls(&list, "batch_threat_check")["calls"], 1);
}

#[tokio::test]
async fn a_store_that_fails_rests_its_own_operations_and_content_is_still_judged() {
    let app = spawn().await;
    // From now on nothing can be written.
    app.api.deps.store.close();
    let made = json!({"label": "x", "reason": "x", "roles": ["app"], "tenant": "acme"});
    for _ in 0..6 {
        for (path, body) in
            [("/api/v1/keys", &made), ("/api/v1/breakers/pii/reset", &json!({"reason": "x"}))]
        {
            let answer = app.post(path, body).await;
            assert_eq!(answer.json()["code"], "STORE_UNAVAILABLE", "{path}: {}", answer.text);
        }
        let judged = app.ask(&json!({"content": "Mail ana@evil.io"})).await;
        assert_eq!((judged.status, &judged.json()["action"]), (200, &json!("redact")));
    }
    let list = operations(&app).await;
    // Used quotas are written once a second and records tried again after a while, so that how often
    // those failed is the clock's to say.
    let timed = ["keep_quotas", "record_decision"];
    for row in &list {
        let name = row["name"].as_str().unwrap();
        if timed.contains(&name) {
            continue;
        }
        let rests = ["store_token", "write_audit_batch"].contains(&name);
        assert_eq!(row["breaker_state"] != "closed", rests, "{row}");
        assert_eq!(row["errors"].as_u64() >= Some(5), rests, "{row}");
    }
    assert_eq!(app.get("/api/v1/audit").await.status, 200, "reading goes on");
}

/// A request for each route that changes something, which succeeds on a service as shipped.
async fn deed(app: &App, method: &str, path: &str) -> (String, Value) {
    let reason = json!({"reason": "of the test"});
    let key = async || {
        let body = json!({"roles": ["app"], "tenant": "acme"});
        make(app, body).await["prefix"].as_str().unwrap().to_owned()
    };
    let overlay = json!({"data": {"settings": {"actions": {"pii": "block"}}},
        "reason": "of the test"});
    let (path, body) = match (method, path) {
        ("PUT", "/policies/{bundle}") => ("/policies/standard".to_owned(), overlay),
        ("DELETE", "/policies/{bundle}") => {
            ("/policies/standard?reason=of+the+test".to_owned(), json!({}))
        }
        ("POST", "/policies/{bundle}/rollback") => (
            "/policies/standard/rollback".to_owned(),
            json!({"version": 1, "reason": "of the test"}),
        ),
        ("POST", "/breakers/{detector}/{how}") => ("/breakers/pii/open".to_owned(), reason),
        ("DELETE", "/cache") => ("/cache?reason=of+the+test".to_owned(), json!({})),
        ("POST", "/admin/reload") => (path.to_owned(), reason),
        ("PUT", "/tenants/{tenant}") => (
            "/tenants/walked".to_owned(),
            json!({"tenant": {"tier": "starter", "policies": ["standard"]}, "reason": "of the test"}),
        ),
        ("DELETE", "/tenants/{tenant}") => {
            ("/tenants/walked?reason=of+the+test".to_owned(), json!({}))
        }
        ("POST", path) if path.starts_with("/admin/tenants/{tenant}/") => {
            (path.replace("{tenant}", "acme"), reason)
        }
        ("POST", "/evidence/{id}/hold") => (path.replace("{id}", &decided(app).await), reason),
        ("POST", "/evidence/{id}/release") => {
            let id = decided(app).await;
            let hold = format!("/api/v1/evidence/{id}/hold");
            assert_eq!(send(app, "POST", &hold, BOOT, &reason).await.status, 200);
            (path.replace("{id}", &id), reason)
        }
        ("PUT", "/quotas/{tenant}") => {
            ("/quotas/acme".to_owned(), json!({"requests_per_hour": 100, "reason": "of the test"}))
        }
        ("POST", "/keys") => (
            path.to_owned(),
            json!({"label": "x", "roles": ["app"], "tenant": "acme", "reason": "of the test"}),
        ),
        ("DELETE", "/keys/{prefix}") => {
            (format!("/keys/{}?reason=of+the+test", key().await), json!({}))
        }
        ("POST", "/keys/{prefix}/rotate") => (
            format!("/keys/{}/rotate", key().await),
            json!({"overlap_s": 0, "reason": "of the test"}),
        ),
        ("POST", "/detectors") => (path.to_owned(), registered("posted")),
        ("PUT", "/detectors/{name}") => ("/detectors/walked".to_owned(), registered("walked")),
        ("DELETE", "/detectors/{name}") => {
            ("/detectors/walked?reason=of+the+test".to_owned(), json!({}))
        }
        ("POST", path) if path.starts_with("/admin/dlq/{letter}/") => {
            (path.replace("{letter}", &crate::jobs::given_up(app, "default").await), reason)
        }
        ("PUT", "/orchestrator/config") => {
            (path.to_owned(), json!({"strategies": [{"event": "walked"}], "reason": "of the test"}))
        }
        ("PUT", "/detectors/{name}/credentials") => (
            "/detectors/vendor/credentials".to_owned(),
            json!({"type": "api_key", "value": "x", "reason": "of the test"}),
        ),
        _ => panic!("say here how {method} {path} succeeds, so that its audit is looked for"),
    };
    (format!("/api/v1{path}"), body)
}

/// A decision that is on record.
async fn decided(app: &App) -> String {
    let body = json!({"content": "x", "include": ["evidence"]});
    let made = send(app, "POST", "/api/v1/orchestrate", BOOT, &body).await.json();
    let id = made["evidence"]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/evidence/{id}");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while send(app, "GET", &path, BOOT, &json!({})).await.status != 200 {
        assert!(std::time::Instant::now() < until, "never recorded");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    id
}

fn registered(name: &str) -> Value {
    let detector = json!({"name": name, "protocol": "native", "categories": ["toxicity"],
        "endpoint": "https://vendor.example/analyze"});
    json!({"detector": detector, "reason": "of the test"})
}

/// Routes that only answer, although they take a body.
fn changes_nothing(method: &str, need: Need) -> bool {
    let asks = [Scope::OrchestrateWrite, Scope::PolicyRead, Scope::AuditRead];
    // An acknowledgement moves the place of a group, and nothing that an administrator looks after.
    let mut asks = asks.into_iter().chain([Scope::OrchestrateStatus]).map(Need::Has);
    // A review needs a change of somebody else under a setting of its own; it is not looked at here.
    method == "GET"
        || asks.any(|asks| asks == need)
        || matches!(need, Need::Has(Scope::PolicyApprove))
}

#[tokio::test]
async fn every_route_that_changes_something_is_audited_with_actor_and_reason() {
    let app = spawn_closed_with(BOOT, |root| {
        let text = "name: vendor\nprotocol: native\nendpoint: https://vendor.example/analyze\n\
                    categories: [toxicity]\nhealth: {path: ''}\n";
        write(root, "detectors/vendor.yaml", text);
    })
    .await;
    let mut walked = 0;
    for (method, path, need) in
        RULES.iter().filter(|(method, _, need)| !changes_nothing(method, *need))
    {
        let (path, body) = deed(&app, method, path).await;
        // Of what is changed, where it has one.
        let about = path.split('?').next().unwrap().trim_end_matches("/rollback");
        let tag = send(&app, "GET", about, BOOT, &json!({})).await.header("etag").to_owned();
        let mut headers = vec![("content-type", "application/json"), ("x-api-key", BOOT)];
        if !tag.is_empty() {
            headers.push(("if-match", tag.as_str()));
        }
        let done = app.send(method, &path, &headers, body.to_string().as_bytes()).await;
        assert!(done.status < 300, "{method} {path} ({need:?}): {} {}", done.status, done.text);
        let newest = send(&app, "GET", "/api/v1/audit?limit=1", BOOT, &json!({})).await;
        let act = newest.json()["audit"][0].clone();
        assert_eq!(act["actor"], BOOT[..17], "{method} {path}: {act}");
        assert_eq!(act["reason"], "of the test", "{method} {path}: {act}");
        assert!(!(act["before"].is_null() && act["after"].is_null()), "{method} {path}: {act}");
        for field in ["at", "action", "target"] {
            assert!(act[field].as_str().is_some_and(|text| !text.is_empty()), "{act}");
        }
        walked += 1;
    }
    assert!(walked >= 8, "only {walked} routes");
}

#[tokio::test]
async fn a_tenant_learns_nothing_of_a_detector_that_it_does_not_see() {
    let app = spawn_closed_with(BOOT, |root| {
        let text = "name: vendor\nprotocol: native\nendpoint: https://vendor.example/analyze\n\
                    categories: [toxicity]\nhealth: {path: ''}\ntenants: [acme]\n";
        write(root, "detectors/vendor.yaml", text);
    })
    .await;
    // A call makes the breaker and the series of the detector.
    let content = json!({"content": "x", "tenant_id": "acme", "detectors": {"add": ["vendor"]}});
    assert_eq!(send(&app, "POST", "/api/v1/orchestrate", BOOT, &content).await.status, 200);
    for (tenant, sees) in [("acme", true), ("globex", false)] {
        let own = key(&app, json!({"roles": ["viewer"], "tenant": tenant})).await;
        let one = send(&app, "GET", "/api/v1/breakers/vendor", &own, &json!({})).await;
        let nobodys = send(&app, "GET", "/api/v1/breakers/nobodys", &own, &json!({})).await;
        assert_eq!(one.status, if sees { 200 } else { nobodys.status }, "{tenant}: {}", one.text);
        for path in ["/api/v1/breakers", "/api/v1/metrics"] {
            let all = send(&app, "GET", path, &own, &json!({})).await;
            assert_eq!(
                (all.status, all.text.contains("\"vendor\"")),
                (200, sees),
                "{tenant} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_breaker_is_not_forced_where_that_cannot_be_recorded() {
    let app = spawn().await;
    let state =
        async || app.get("/api/v1/breakers/pii").await.json()["breakers"][0]["state"].clone();
    assert_eq!(app.ask(&json!({"content": "x"})).await.status, 200);
    assert_eq!(state().await, "closed");
    app.api.deps.store.close();
    let forced = app.post("/api/v1/breakers/pii/open", &json!({"reason": "of the test"})).await;
    assert_eq!(forced.status, 503, "{}", forced.text);
    assert_eq!(state().await, "closed");
}

#[tokio::test]
async fn a_tenant_reads_its_own_audit_page_by_page_and_nobody_elses() {
    let app = spawn_closed(BOOT).await;
    for tenant in ["acme", "globex", "acme", "globex", "acme"] {
        make(&app, json!({"roles": ["app"], "tenant": tenant})).await;
    }
    let auditor = key(&app, json!({"roles": ["auditor"], "tenant": "acme"})).await;
    let mut seen = Vec::new();
    let mut path = "/api/v1/audit?limit=2".to_owned();
    loop {
        let page = send(&app, "GET", &path, &auditor, &json!({})).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let page = page.json();
        let acts = page["audit"].as_array().unwrap();
        assert!((1..=2).contains(&acts.len()), "{page}");
        seen.extend(acts.iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/audit?limit=2&cursor={next}");
    }
    // The three keys and the auditor's own.
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(seen.iter().all(|act| act["tenant"] == "acme"), "{seen:?}");
    let headers = [("x-api-key", auditor.as_str()), ("x-tenant-id", "globex")];
    let other = app.send("GET", "/api/v1/audit", &headers, b"").await;
    assert_eq!(other.json()["code"], "TENANT_MISMATCH");
    let all = send(&app, "GET", "/api/v1/audit", BOOT, &json!({})).await.json();
    assert_eq!(all["audit"].as_array().unwrap().len(), 7, "with the bootstrap: {all}");
    let headers = [("x-api-key", BOOT), ("x-tenant-id", "globex")];
    let one = app.send("GET", "/api/v1/audit", &headers, b"").await.json();
    assert_eq!(one["audit"].as_array().unwrap().len(), 2, "{one}");
    for query in ["limit=0", "limit=201", "cursor=x", "tenant=globex"] {
        let path = format!("/api/v1/audit?{query}");
        assert_eq!(send(&app, "GET", &path, BOOT, &json!({})).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn a_reload_by_hand_says_what_became_of_the_files() {
    let app = spawn().await;
    let reload = async || app.post("/api/v1/admin/reload", &json!({"reason": "of the test"})).await;
    assert_eq!(reload().await.json()["outcome"], "unchanged");
    // The watcher may come first: what counts is what serves when the answer is there.
    app.edit("policies/standard/data.yaml", "pii: redact", "pii: block");
    let done = reload().await.json();
    assert!(["swapped", "unchanged"].contains(&done["outcome"].as_str().unwrap()), "{done}");
    let judged = app.ask(&json!({"content": "Mail ana@evil.io"})).await.json();
    assert_eq!(
        (&judged["action"], &judged["policy"]["revision"]),
        (&json!("block"), &done["revision"])
    );
    app.edit("policies/standard/data.yaml", "pii: block", "pii: bloc");
    let done = reload().await.json();
    assert!(!done["faults"].as_array().unwrap().is_empty(), "{done}");
    assert_eq!(app.ask(&json!({"content": "Mail ana@evil.io"})).await.json()["action"], "block");
    for body in [json!({}), json!({"reason": " "}), json!({"reason": "x".repeat(501)})] {
        assert_eq!(app.post("/api/v1/admin/reload", &body).await.status, 400, "{body}");
    }
}
