//! The running service let in, and kept out, whom the table says; made from the OpenAPI document.

use std::collections::BTreeMap;

use detector_orchestrator::domain::access::{Role, Scope};
use serde_json::{Value, json};

use crate::app::{Answer, App, spawn_closed, spawn_closed_with};
use crate::binary::{command, run, text};

pub const BOOT: &str = "orch_0123456789ab_0123456789abcdef0123456789abcdef";

fn with(key: &str) -> Vec<(&str, &str)> {
    let mut headers = vec![("content-type", "application/json")];
    if !key.is_empty() {
        headers.push(("x-api-key", key));
    }
    headers
}

pub async fn send(app: &App, method: &str, path: &str, key: &str, body: &Value) -> Answer {
    app.send(method, path, &with(key), body.to_string().as_bytes()).await
}

pub async fn make(app: &App, body: Value) -> Value {
    let mut whole = json!({"label": "a test", "reason": "a test"});
    whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    let made = send(app, "POST", "/api/v1/keys", BOOT, &whole).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json()
}

pub async fn key(app: &App, body: Value) -> String {
    make(app, body).await["key"].as_str().unwrap().to_owned()
}

/// Method, path with its parameters filled in, and the scope the document demands.
fn routes() -> Vec<(String, String, Option<String>)> {
    let document: Value = serde_json::from_str(&detector_orchestrator::api::openapi()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array();
            let security = security.unwrap_or_else(|| panic!("{method} {path} says nothing"));
            let scope = security.first().map(|first| {
                let (_, scopes) = first.as_object().unwrap().iter().next().unwrap();
                // Nothing where any credential will do.
                scopes[0].as_str().unwrap_or_default().to_owned()
            });
            let path = path
                .replace("{bundle}", "standard")
                .replace("{detector}", "pii")
                .replace("{name}", "pii")
                .replace("{how}", "reset")
                .replace("{tenant}", "acme")
                .replace("{id}", "019ab0de-0000-7000-8000-000000000000")
                .replace("{letter}", "019ab0de-0000-7000-8000-000000000000")
                .replace("{version}", "1")
                .replace("{prefix}", "orch_ffffffffffff")
                // A stream does not end; one that begins nowhere does.
                .replace("/events/stream", "/events/stream?after=nowhere");
            routes.push((method.to_uppercase(), path, scope));
        }
    }
    routes
}

#[tokio::test]
async fn every_route_lets_in_whom_the_document_says_and_nobody_else() {
    let app = spawn_closed(BOOT).await;
    let mut keys = BTreeMap::new();
    for role in Role::ALL {
        let tenant = (!role.crosses_tenants()).then_some("acme");
        keys.insert(*role, key(&app, json!({"roles": [role.name()], "tenant": tenant})).await);
    }
    let revoked = make(&app, json!({"roles": ["super_admin"]})).await;
    let path = format!("/api/v1/keys/{}?reason=test", revoked["prefix"].as_str().unwrap());
    assert_eq!(send(&app, "DELETE", &path, BOOT, &json!({})).await.status, 204);
    let expired = key(&app, json!({"roles": ["super_admin"], "expires_in_s": 1})).await;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while send(&app, "GET", "/api/v1/breakers", &expired, &json!({})).await.status == 200 {
        assert!(std::time::Instant::now() < until, "it never expired");
        tokio::task::yield_now().await;
    }
    let revoked = revoked["key"].as_str().unwrap();
    let (mut allowed, mut refused) = (0, 0);
    for (method, path, scope) in routes() {
        let of = async |key: &str| send(&app, &method, &path, key, &json!({})).await;
        let shown = format!("{method} {path}");
        let local = path.ends_with("/health/detailed");
        let open = scope.is_none() || local;
        for bad in ["", revoked, expired.as_str()] {
            let answer = of(bad).await;
            assert_eq!(answer.status == 401, !open, "{shown} with {bad:?}: {}", answer.text);
            if !open {
                assert_eq!(answer.header("www-authenticate"), "Bearer");
                refused += 1;
            }
        }
        for (role, key) in &keys {
            let may = scope.as_deref().is_none_or(|scope| {
                scope.is_empty() || role.scopes().has(Scope::parse(scope).unwrap())
            });
            let answer = of(key).await;
            let stopped = answer.status == 403 && answer.text.contains("INSUFFICIENT_SCOPE");
            assert_eq!(stopped, !may && !local, "{shown} as {role:?}: {}", answer.text);
            assert_ne!(answer.status, 401, "{shown} as {role:?}: {}", answer.text);
            if may { allowed += 1 } else { refused += 1 }
        }
    }
    assert!(allowed > 80 && refused > 150, "{allowed} allowed, {refused} refused");
}

#[tokio::test]
async fn a_key_of_one_tenant_reaches_no_other() {
    let app = spawn_closed(BOOT).await;
    // Whatever a key of one tenant can hold.
    let scopes = Scope::ALL.iter().filter(|scope| **scope != Scope::TenantsAny);
    let scopes: Vec<&str> = scopes.map(|scope| scope.name()).collect();
    let acme = key(&app, json!({"scopes": scopes, "tenant": "acme"})).await;
    let mut asked = 0;
    for (method, path, scope) in routes() {
        if scope.is_none() || path.ends_with("/health/detailed") {
            continue;
        }
        for other in ["default", "no-such-tenant", "ACME", "acme ", "acm\u{435}", ""] {
            let headers = [
                ("content-type", "application/json"),
                ("x-api-key", acme.as_str()),
                ("x-tenant-id", other),
            ];
            let answer = app.send(&method, &path, &headers, br#"{"content": "x"}"#).await;
            // The wire has no spaces at the end of a value.
            let own = other.trim() == "acme";
            assert_eq!(answer.text.contains("TENANT_MISMATCH"), !own, "{method} {path}: {other:?}");
            assert_eq!(answer.status == 403, !own, "{method} {path}: {}", answer.text);
            asked += 1;
        }
    }
    assert!(asked >= 25 * 6, "{asked}");
    in_bodies(&app, &acme).await;
}

/// Tenants named in bodies.
async fn in_bodies(app: &App, acme: &str) {
    let own = send(app, "POST", "/api/v1/orchestrate", acme, &json!({"content": "x"})).await;
    assert_eq!(own.status, 200, "{}", own.text);
    for other in ["default", "no-such-tenant"] {
        let body = json!({"content": "x", "tenant_id": other});
        let answer = send(app, "POST", "/api/v1/orchestrate", acme, &body).await;
        assert_eq!(answer.json()["code"], "TENANT_MISMATCH", "{}", answer.text);
        let batch = json!({"requests": [{"content": "x"}, body]});
        let answer = send(app, "POST", "/api/v1/orchestrate/batch", acme, &batch).await;
        let results = answer.json()["results"].clone();
        assert_eq!((&results[0]["status"], &results[1]["status"]), (&json!(200), &json!(403)));
        let body = json!({"roles": ["app"], "tenant": other, "label": "x", "reason": "x"});
        let answer = send(app, "POST", "/api/v1/keys", acme, &body).await;
        assert_eq!(answer.json()["code"], "TENANT_MISMATCH", "{}", answer.text);
    }
    let unknown = json!({"roles": ["app"], "tenant": "no-such", "label": "x", "reason": "x"});
    let made = send(app, "POST", "/api/v1/keys", BOOT, &unknown).await;
    assert_eq!(made.status, 403, "a key of no tenant: {}", made.text);
}

#[tokio::test]
async fn a_request_brings_one_credential_in_one_way() {
    let app = spawn_closed(BOOT).await;
    let bearer = format!("Bearer {BOOT}");
    let lower = format!("bearer {BOOT}");
    let basic = format!("Basic {BOOT}");
    let ask = async |headers: &[(&str, &str)]| {
        app.send("GET", "/api/v1/breakers", headers, b"").await.status
    };
    assert_eq!(ask(&[("authorization", &bearer)]).await, 200);
    assert_eq!(ask(&[("authorization", &lower)]).await, 200);
    for headers in [
        &[("authorization", basic.as_str())][..],
        &[("authorization", BOOT)],
        &[("authorization", "Bearer")],
        &[("x-api-key", BOOT), ("authorization", &bearer)],
        &[("x-api-key", BOOT), ("x-api-key", BOOT)],
        &[("x-api-key", "")],
    ] {
        assert_eq!(ask(headers).await, 401, "{headers:?}");
    }
    for method in ["PATCH", "HEAD", "TRACE"] {
        let refused = app.send(method, "/api/v1/keys", &[], b"").await;
        assert_eq!((refused.status, refused.header("allow")), (405, "GET, POST"), "{method}");
    }
    let refused = app.send("PATCH", "/api/v1/keys", &[], b"").await.json();
    assert_eq!((&refused["status"], &refused["code"]), (&json!(405), &json!("NOT_FOUND")));
    let metrics = app.send("GET", "/metrics", &[("authorization", &bearer)], b"").await.text;
    let counted = r#"{code="405",method="other",route="/api/v1/keys"} 4"#;
    assert!(metrics.contains(counted), "a word of the caller's is no label: {metrics}");
    assert_eq!(app.get("/api/v1/nowhere").await.status, 404);
    assert_eq!(app.get("/breakers").await.status, 404);
}

#[tokio::test]
async fn a_tenants_key_works_only_from_its_networks() {
    let app = spawn_closed_with(BOOT, |root| {
        let acme = root.join("config/tenants/acme.yaml");
        let text = std::fs::read_to_string(&acme).unwrap();
        std::fs::write(&acme, format!("{text}\nallow_ips: [203.0.113.0/24]\n")).unwrap();
    })
    .await;
    let acme = key(&app, json!({"roles": ["app"], "tenant": "acme"})).await;
    let other = key(&app, json!({"roles": ["app"], "tenant": "default"})).await;
    let ask = async |key: &str| {
        let headers = [
            ("content-type", "application/json"),
            ("x-api-key", key),
            ("x-forwarded-for", "203.0.113.9"),
        ];
        app.send("POST", "/api/v1/orchestrate", &headers, br#"{"content": "x"}"#).await
    };
    let refused = ask(&acme).await;
    assert_eq!(refused.json()["code"], "IP_NOT_ALLOWED", "nobody trusts the header");
    assert_eq!(ask(&other).await.status, 200);
    app.edit("config/tenants/acme.yaml", "203.0.113.0/24", "127.0.0.0/8");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while ask(&acme).await.status != 200 {
        assert!(std::time::Instant::now() < until, "the change never came");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_key_that_may_not_hurry_is_told_where() {
    let app = spawn_closed(BOOT).await;
    let slow = json!({"roles": ["app"], "tenant": "acme", "max_priority": "low"});
    let slow = key(&app, slow).await;
    let ask =
        async |key: &str, body: Value| send(&app, "POST", "/api/v1/orchestrate", key, &body).await;
    assert_eq!(ask(&slow, json!({"content": "x"})).await.status, 200, "unsaid is its own");
    let answer = ask(&slow, json!({"content": "x", "priority": "low"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let hasty = ask(&slow, json!({"content": "x", "priority": "normal"})).await;
    assert_eq!((hasty.status, &hasty.json()["errors"][0]["pointer"]), (403, &json!("/priority")));
}

#[tokio::test]
async fn keys_are_listed_without_secrets_and_replaced_through_the_api() {
    let app = spawn_closed(BOOT).await;
    let made = make(&app, json!({"roles": ["app"], "tenant": "acme"})).await;
    let (secret, prefix) = (made["key"].as_str().unwrap(), made["prefix"].as_str().unwrap());
    let list = send(&app, "GET", "/api/v1/keys?limit=1", BOOT, &json!({})).await;
    assert!(list.text.contains(prefix) && !list.text.contains(secret), "{}", list.text);
    let next = list.json()["next"].as_str().unwrap().to_owned();
    let rest = send(&app, "GET", &format!("/api/v1/keys?cursor={next}"), BOOT, &json!({})).await;
    assert_eq!(rest.json()["keys"][0]["prefix"], "orch_0123456789ab");
    let rotate = format!("/api/v1/keys/{prefix}/rotate");
    let body = json!({"overlap_s": 0, "reason": "leaked"});
    let new = send(&app, "POST", &rotate, BOOT, &body).await;
    assert_eq!(new.status, 201, "{}", new.text);
    let asked = json!({"content": "x"});
    let of = async |key: &str| send(&app, "POST", "/api/v1/orchestrate", key, &asked).await.status;
    assert_eq!((of(secret).await, of(new.json()["key"].as_str().unwrap()).await), (401, 200));
    let one = send(&app, "GET", &format!("/api/v1/keys/{prefix}"), BOOT, &json!({})).await;
    assert_eq!(one.json()["state"], "expired");
    assert_eq!(one.json()["replaced_by"], new.json()["prefix"]);
}

#[test]
fn the_command_makes_lists_replaces_and_revokes_keys() {
    let dir = tempfile::tempdir().unwrap();
    let keys = |args: &[&str]| run(dir.path(), &[&["keys"][..], args].concat());
    let why = ["--reason", "a test"];
    let made = keys(
        &[
            &["create", "--tenant", "acme", "--role", "app", "--label", "shop", "--expires", "90d"]
                [..],
            &why,
        ]
        .concat(),
    );
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let secret = text(&made.stdout).trim().to_owned();
    let prefix = secret.rsplit_once('_').unwrap().0.to_owned();
    let listed = text(&keys(&["list"]).stdout);
    assert!(listed.contains(&prefix) && listed.contains("active"), "{listed}");
    assert!(!listed.contains(&secret));
    let new = keys(&[&["rotate", &prefix, "--overlap", "1h"][..], &why].concat());
    assert_eq!(new.status.code(), Some(0), "{}", text(&new.stderr));
    let revoked = keys(&[&["revoke", &prefix][..], &why].concat());
    assert_eq!(revoked.status.code(), Some(0), "{}", text(&revoked.stderr));
    let again = keys(&[&["revoke", &prefix][..], &why].concat());
    assert_eq!(again.status.code(), Some(65));
    let json: Value = serde_json::from_str(
        text(&keys(&["list", "--tenant", "acme", "--json"]).stdout).lines().last().unwrap(),
    )
    .unwrap();
    assert_eq!((&json["prefix"], &json["state"]), (&json!(prefix), &json!("revoked")));
    for (args, told) in [
        (&["create", "--role", "boss", "--label", "x", "--reason", "x"][..], "one of: app"),
        (&["create", "--role", "app", "--label", "x", "--reason", "x"], "name the tenant"),
        (
            &["create", "--tenant", "other", "--role", "app", "--label", "x", "--reason", "x"],
            "choose another",
        ),
        (&["revoke", "orch_ffffffffffff", "--reason", "x"], "no key of that prefix"),
    ] {
        let refused = keys(args);
        assert_eq!(refused.status.code(), Some(65), "{args:?}");
        assert!(text(&refused.stderr).contains(told), "{}", text(&refused.stderr));
    }
}

#[test]
fn production_without_credentials_says_what_to_set() {
    let dir = tempfile::tempdir().unwrap();
    let served = command(dir.path())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("ORCHESTRATION_ENV", "staging")
        .output()
        .unwrap();
    assert_eq!(served.status.code(), Some(64));
    let told = text(&served.stderr);
    assert!(told.contains("ORCHESTRATION_BOOTSTRAP_KEY"), "{told}");
}

#[test]
fn what_is_shipped_may_run_in_production() {
    let dir = tempfile::tempdir().unwrap();
    let checked = |folder: &std::path::Path| {
        let mut check = command(folder);
        check.arg("check").env("ORCHESTRATION_ENV", "production");
        check.env("ORCHESTRATION_BOOTSTRAP_KEY", BOOT).output().unwrap()
    };
    assert!(command(dir.path()).args(["init", "."]).output().unwrap().status.success());
    let told = checked(dir.path());
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
}
