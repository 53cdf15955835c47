//! Detectors that tenants register, services that the environment names, strategies that operators
//! store.

use std::time::{Duration, Instant};

use detector_orchestrator::domain::id::TenantId;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::access::{BOOT, key, send};
use crate::app::{Answer, App, edit, spawn_closed_with, spawn_with};

mod discovery;
mod load;
mod refusals;
mod strategies;

const AT: &str = "/api/v1/detectors";

/// A native service that finds `label` in everything and says that it finds `categories`.
pub async fn service(label: &str, categories: &[&str]) -> MockServer {
    let server = MockServer::start().await;
    let reply = json!({"label": label, "score": 0.9});
    answer(&server, "POST", "/analyze", ResponseTemplate::new(200).set_body_json(reply)).await;
    answer(&server, "GET", "/health", ResponseTemplate::new(200)).await;
    let told = ResponseTemplate::new(200).set_body_json(json!({"categories": categories}));
    answer(&server, "GET", "/capabilities", told).await;
    server
}

async fn answer(server: &MockServer, verb: &str, at: &str, reply: ResponseTemplate) {
    Mock::given(method(verb)).and(path(at)).respond_with(reply).mount(server).await;
}

pub fn native(name: &str, server: &MockServer) -> Value {
    json!({"name": name, "protocol": "native", "endpoint": format!("{}/analyze", server.uri()),
        "categories": ["toxicity"]})
}

/// How many texts a service was asked about.
pub async fn asked(server: &MockServer) -> usize {
    let calls = server.received_requests().await.unwrap();
    calls.iter().filter(|call| call.url.path() == "/analyze").count()
}

pub async fn write(
    app: &App,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &Value,
) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    app.send(method, path, &all, body.to_string().as_bytes()).await
}

pub async fn register(app: &App, headers: &[(&str, &str)], detector: &Value) -> Answer {
    write(app, ("POST", AT), headers, &json!({"detector": detector, "reason": "a test"})).await
}

/// Asks for `field` of what is at `path` until it is `wanted`.
pub async fn until(
    app: &App,
    headers: &[(&str, &str)],
    at: &str,
    (field, wanted): (&str, Value),
) -> Value {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let found = app.send("GET", at, headers, b"").await;
        let found: Value = serde_json::from_str(&found.text).unwrap_or_default();
        if found[field] == wanted {
            return found;
        }
        assert!(Instant::now() < end, "{at} never says {field}: {wanted}: {found:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Loopback services are let in, in staging too.
fn open_to_loopback(root: &std::path::Path) {
    edit(root, "config/settings.yaml", "outbound_allow: []", "outbound_allow: [127.0.0.0/8]");
}

/// What `detector` reported about a content of the key's tenant.
async fn report(app: &App, key: &str, detector: &str) -> Value {
    let body =
        json!({"content": "hello", "detectors": {"add": [detector]}, "include": ["detectors"]});
    let answer = send(app, "POST", "/api/v1/orchestrate", key, &body).await;
    let found = answer.json()["detectors"].as_array().cloned().unwrap_or_default();
    found.into_iter().find(|report| report["name"] == detector).unwrap_or(answer.json())
}

/// `key` is told of its tenant's detectors alone, where another tenant has one of its own.
async fn tells_no_counts_of_others(app: &App, key: &str) {
    let listed = send(app, "GET", AT, key, &json!({})).await.json();
    let listed = listed["detectors"].as_array().unwrap().len();
    let headers = [("x-api-key", key), ("x-forwarded-for", "203.0.113.9")];
    let told = app.send("GET", "/health/detailed", &headers, b"").await.json();
    assert_eq!(told["checks"]["registry"]["message"], format!("{listed} detectors"), "{told}");
    let headers = [("x-api-key", BOOT), ("x-forwarded-for", "203.0.113.9")];
    let all = app.send("GET", "/health/detailed", &headers, b"").await.json();
    let all = all["checks"]["registry"]["message"].as_str().unwrap().to_owned();
    assert!(all.contains(&format!("{} detectors", listed + 1)) && all.contains("tenants"), "{all}");
    let told = send(app, "GET", "/api/v1/cache/stats", key, &json!({})).await.json();
    assert_eq!(told, json!({"caches": []}));
    let told = send(app, "GET", "/api/v1/metrics", key, &json!({})).await.text;
    assert!(!told.contains("\norchestrator_cache_operations_total{"), "{told}");
    let services = format!("\norchestrator_active_services {listed}\n");
    assert!(told.contains(&services), "{services}: {told}");
}

#[tokio::test]
async fn a_registered_detector_is_its_tenants_alone_and_survives_a_restart() {
    let (own, others) =
        (service("insult", &["toxicity"]).await, service("clean", &["toxicity"]).await);
    let app = spawn_closed_with(BOOT, open_to_loopback).await;
    let of = async |tenant: &str| {
        key(&app, json!({"roles": ["tenant_admin", "operator"], "tenant": tenant})).await
    };
    let (acme, globex) = (of("acme").await, of("globex").await);
    let made = register(&app, &[("x-api-key", &acme)], &native("own", &own)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.header("location"), format!("{AT}/own"));
    let view = made.json();
    assert_eq!((&view["source"], &view["stored"]["version"]), (&json!("stored"), &json!(1)));
    let at = format!("{AT}/own");
    until(&app, &[("x-api-key", &acme)], &at, ("status", json!("active"))).await;
    assert_eq!(report(&app, &acme, "own").await["label"], "insult");

    // The other tenant sees nothing of it, whatever it asks.
    for seen in [AT, "/api/v1/breakers", "/api/v1/metrics", "/api/v1/generations"] {
        let (mine, theirs) = (
            send(&app, "GET", seen, &acme, &json!({})).await,
            send(&app, "GET", seen, &globex, &json!({})).await,
        );
        let listed = seen == AT || seen.ends_with("breakers");
        assert_eq!((mine.status, mine.text.contains("\"own\"")), (200, listed), "{seen}");
        assert_eq!((theirs.status, theirs.text.contains("\"own\"")), (200, false), "{seen}");
    }
    for (verb, path) in [
        ("GET", at.clone()),
        ("GET", format!("{at}/health")),
        ("DELETE", format!("{at}?reason=x")),
        ("GET", "/api/v1/breakers/own".to_owned()),
    ] {
        assert_eq!(send(&app, verb, &path, &globex, &json!({})).await.status, 404, "{verb} {path}");
    }
    assert_eq!(report(&app, &globex, "own").await["errors"][0]["code"], "unknown_detector");

    // Nor how many there are, nor what caches that all share count.
    tells_no_counts_of_others(&app, &globex).await;

    // The same name is another detector, at another address, with a breaker of its own.
    let made = register(&app, &[("x-api-key", &globex)], &native("own", &others)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    until(&app, &[("x-api-key", &globex)], &at, ("status", json!("active"))).await;
    let before = asked(&own).await;
    assert_eq!(report(&app, &globex, "own").await["label"], "clean");
    assert_eq!((asked(&own).await, asked(&others).await), (before, 1));
    let all = send(&app, "GET", "/api/v1/metrics", BOOT, &json!({})).await.text;
    assert!(all.contains("detector=\"(registered)\"") && !all.contains("\"own\""), "{all}");
    let closed =
        send(&app, "POST", "/api/v1/breakers/own/open", BOOT, &json!({"reason": "x"})).await;
    assert_eq!(closed.status, 404, "across tenants only everyone's are meant: {}", closed.text);

    let app = app.restart().await;
    // From the first request on.
    assert_eq!(report(&app, &acme, "own").await["label"], "insult");
    let tag = send(&app, "GET", &at, &acme, &json!({})).await.header("etag").to_owned();
    let path = format!("{at}?reason=done");
    let gone =
        write(&app, ("DELETE", &path), &[("x-api-key", &acme), ("if-match", &tag)], &json!({}))
            .await;
    assert_eq!(gone.status, 204, "{}", gone.text);
    assert_eq!(send(&app, "GET", &at, &acme, &json!({})).await.status, 404);
    assert_eq!(report(&app, &globex, "own").await["label"], "clean");
    let acts = send(&app, "GET", "/api/v1/audit?limit=2", BOOT, &json!({})).await.json();
    assert_eq!(acts["audit"][0]["action"], "detector.delete");
    assert_eq!(acts["audit"][0]["actor"], acme[..17]);
}

#[tokio::test]
async fn a_detector_takes_part_once_its_service_answers_as_it_was_described() {
    let server = MockServer::start().await;
    let app = spawn_with(|_| {}).await;
    assert_eq!(register(&app, &[], &native("late", &server)).await.status, 201);
    let (at, health) = (format!("{AT}/late"), format!("{AT}/late/health"));
    // wiremock answers 404 to everything: it is there, and silent about what it can.
    until(&app, &[], &at, ("status", json!("active"))).await;

    let other = service("spam", &["topic"]).await;
    assert_eq!(register(&app, &[], &native("other", &other)).await.status, 201);
    let (at_other, health_other) = (format!("{AT}/other"), format!("{AT}/other/health"));
    let why = json!("its service does not find toxicity");
    let told = until(&app, &[], &health_other, ("pending", why)).await;
    assert_eq!(told["status"], "pending");
    let body = json!({"content": "x", "detectors": {"add": ["other"]}, "include": ["detectors"]});
    let answer = app.ask(&body).await.json();
    let reports = answer["detectors"].as_array().unwrap();
    let report = reports.iter().find(|report| report["name"] == "other").unwrap();
    assert_eq!((&report["status"], &report["error"]), (&json!("unavailable"), &json!("unhealthy")));
    assert_eq!((asked(&other).await, &answer["coverage"]["complete"]), (0, &json!(false)));
    let pending = app.get(&format!("{AT}?status=pending")).await.json();
    assert_eq!(pending["detectors"].as_array().unwrap().len(), 1, "{pending:#}");

    // Described as it is, it is asked.
    let tag = app.get(&at_other).await.header("etag").to_owned();
    let mut right = native("other", &other);
    right["categories"] = json!(["topic"]);
    let body = json!({"detector": right, "reason": "as it is"});
    let put = write(&app, ("PUT", &at_other), &[("if-match", &tag)], &body).await;
    assert_eq!(put.status, 200, "{}", put.text);
    until(&app, &[], &at_other, ("status", json!("active"))).await;
    assert_eq!(app.get(&health).await.json()["pending"], Value::Null);
}

#[tokio::test]
async fn a_credential_goes_to_the_one_address_it_was_stored_for() {
    let (first, second) =
        (service("clean", &["toxicity"]).await, service("clean", &["toxicity"]).await);
    let vendor = service("clean", &["toxicity"]).await;
    let app = spawn_with(|root| {
        let text = format!(
            "name: vendor\nprotocol: native\nendpoint: {}/analyze\n\
            categories: [toxicity]\nhealth: {{path: ''}}\ntenants: [acme]\n",
            vendor.uri()
        );
        crate::app::write(root, "detectors/vendor.yaml", &text);
    })
    .await;
    let secret = |value: &str| json!({"type": "api_key", "value": value, "reason": "a test"});
    let (at, keep) = (format!("{AT}/vendor"), format!("{AT}/vendor/credentials"));
    // The operator's, for the file's detector, which globex does not see.
    assert_eq!(write(&app, ("PUT", &keep), &[], &secret("the operator's")).await.status, 200);
    let own = [("x-tenant-id", "globex")];
    assert_eq!(register(&app, &own, &native("vendor", &first)).await.status, 201);
    until(&app, &own, &at, ("status", json!("active"))).await;
    let asks = json!({"content": "x", "tenant_id": "globex", "detectors": {"add": ["vendor"]}});
    let sent = async |server: &MockServer| {
        assert_eq!(app.ask(&asks).await.status, 200);
        let calls = server.received_requests().await.unwrap();
        let last = calls.iter().rfind(|call| call.url.path() == "/analyze").unwrap();
        last.headers.get("x-api-key").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(sent(&first).await, None);
    assert_eq!(write(&app, ("PUT", &keep), &own, &secret("globex's")).await.status, 200);
    assert_eq!(sent(&first).await.as_deref(), Some("globex's"));
    // Another address learns nothing of it.
    let tag = app.send("GET", &at, &own, b"").await.header("etag").to_owned();
    let moved = json!({"detector": native("vendor", &second), "reason": "moved"});
    let headers = [own[0], ("if-match", &tag)];
    let put = write(&app, ("PUT", &at), &headers, &moved).await;
    assert_eq!(put.json()["auth"], json!({"type": "none", "configured": false}), "{}", put.text);
    until(&app, &own, &at, ("status", json!("active"))).await;
    assert_eq!(sent(&second).await, None);
    // Nor does another detector of the name at the same address, once this one is deleted.
    assert_eq!(write(&app, ("PUT", &keep), &own, &secret("globex's")).await.status, 200);
    assert_eq!(sent(&second).await.as_deref(), Some("globex's"));
    let tag = app.send("GET", &at, &own, b"").await.header("etag").to_owned();
    let headers = [own[0], ("if-match", &tag)];
    let gone = app.send("DELETE", &format!("{at}?reason=gone"), &headers, b"").await;
    assert_eq!(gone.status, 204, "{}", gone.text);
    let heir = register(&app, &own, &native("vendor", &second)).await;
    assert_eq!(heir.json()["auth"], json!({"type": "none", "configured": false}), "{}", heir.text);
    let acme = json!({"content": "x", "tenant_id": "acme", "detectors": {"add": ["vendor"]}});
    assert_eq!(app.ask(&acme).await.status, 200);
    let calls = vendor.received_requests().await.unwrap();
    assert_eq!(calls.last().unwrap().headers["x-api-key"], "the operator's");
}

/// What is stored for a tenant.
pub async fn rows(app: &App, tenant: &str) -> usize {
    let all = app.api.deps.store.objects("detector".into()).await.unwrap();
    let id = TenantId::parse(tenant).unwrap();
    all.iter().filter(|row| row.key.tenant.as_ref() == Some(&id)).count()
}
