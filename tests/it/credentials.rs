//! Credentials of detectors: stored sealed, sent, never shown; tokens fetched and delegated.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::app::{Answer, App, spawn_closed, spawn_with, write};

const BOOT: &str = "orch_0123456789ab_0123456789abcdef0123456789abcdef";
const CANARY: &str = "canary-credential-5d1e";

/// A detector that counts the calls it is sent, and keeps them.
async fn clean() -> MockServer {
    let server = MockServer::builder().start().await;
    let reply = ResponseTemplate::new(200).set_body_json(json!({"label": "clean", "score": 0.9}));
    Mock::given(method("POST")).and(path("/analyze")).respond_with(reply).mount(&server).await;
    server
}

fn vendor(root: &Path, server: &MockServer, more: &str) {
    let text = format!(
        "name: vendor\nprotocol: native\nendpoint: {}/analyze\ncategories: [toxicity]\n\
         health: {{path: ''}}\n{more}",
        server.uri()
    );
    write(root, "detectors/vendor.yaml", &text);
}

async fn put(app: &App, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut body = body.clone();
    body["reason"] = json!("a test");
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    let path = "/api/v1/detectors/vendor/credentials";
    app.send("PUT", path, &all, body.to_string().as_bytes()).await
}

/// The report of `vendor` about a content of tenant `of`.
async fn report(app: &App, of: &str) -> Value {
    let body = json!({"content": "hello", "tenant_id": of, "detectors": {"add": ["vendor"]},
        "include": ["detectors"]});
    let answer = app.ask(&body).await.json();
    let all = answer["detectors"].as_array().unwrap_or_else(|| panic!("{answer:#}"));
    all.iter().find(|report| report["name"] == "vendor").unwrap().clone()
}

async fn sent(server: &MockServer, header: &str) -> Vec<String> {
    let calls = server.received_requests().await.unwrap();
    let of = |call: &Request| call.headers.get(header).map(|v| v.to_str().unwrap().to_owned());
    calls
        .iter()
        .filter(|call| call.url.path() == "/analyze")
        .map(|call| of(call).unwrap_or_default())
        .collect()
}

/// Everything that lies in the data folder, keys apart.
fn stored(app: &App) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(app.path("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            all.extend(std::fs::read(path).unwrap());
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_stored_credential_is_sent_at_once_and_never_shown() {
    let server = clean().await;
    let app = spawn_with(|root| vendor(root, &server, "")).await;
    let view = async |app: &App| app.get("/api/v1/detectors/vendor").await.json()["auth"].clone();
    assert_eq!(view(&app).await, json!({"type": "none", "configured": false}));
    assert_eq!(report(&app, "default").await["status"], "success");
    for (body, header, value) in [
        (json!({"type": "api_key", "value": CANARY}), "x-api-key", CANARY.to_owned()),
        (
            json!({"type": "api_key", "header": "X-Own", "value": CANARY}),
            "x-own",
            CANARY.to_owned(),
        ),
        (
            json!({"type": "bearer_token", "token": CANARY}),
            "authorization",
            format!("Bearer {CANARY}"),
        ),
        (
            json!({"type": "basic_auth", "username": "ana", "password": "pw"}),
            "authorization",
            "Basic YW5hOnB3".to_owned(),
        ),
    ] {
        let answer = put(&app, &[], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json(), json!({"type": body["type"], "configured": true}));
        assert_eq!(report(&app, "default").await["status"], "success");
        assert_eq!(sent(&server, header).await.last(), Some(&value), "{body}");
        assert_eq!(view(&app).await, json!({"type": body["type"], "configured": true}));
    }
    put(&app, &[], &json!({"type": "bearer_token", "token": CANARY})).await;
    assert!(!holds(&stored(&app), CANARY), "the store holds it in the clear");
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(app.path(path)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("data/keys/data"), mode("data/keys")), (0o600, 0o700));

    let app = app.restart().await;
    assert_eq!(report(&app, "default").await["status"], "success");
    assert_eq!(sent(&server, "authorization").await.last(), Some(&format!("Bearer {CANARY}")));
    assert_eq!(put(&app, &[], &json!({"type": "none"})).await.status, 200);
    report(&app, "default").await;
    assert_eq!(sent(&server, "authorization").await.last(), Some(&String::new()));
    assert_eq!(view(&app).await, json!({"type": "none", "configured": false}));
}

#[tokio::test]
async fn a_credential_of_one_tenant_is_sent_for_no_other() {
    let server = clean().await;
    let app = spawn_with(|root| vendor(root, &server, "auth: {type: none}\n")).await;
    let own = [("x-tenant-id", "acme")];
    assert_eq!(put(&app, &own, &json!({"type": "api_key", "value": CANARY})).await.status, 200);
    for (tenant, expected) in [("acme", CANARY), ("default", ""), ("globex", "")] {
        assert_eq!(report(&app, tenant).await["status"], "success");
        assert_eq!(sent(&server, "x-api-key").await.last().unwrap(), expected, "{tenant}");
    }
    put(&app, &[], &json!({"type": "api_key", "value": "everyone's"})).await;
    for (tenant, expected) in [("acme", CANARY), ("default", "everyone's")] {
        report(&app, tenant).await;
        assert_eq!(sent(&server, "x-api-key").await.last().unwrap(), expected, "{tenant}");
    }
}

#[tokio::test]
async fn what_no_longer_opens_is_never_replaced_by_a_call_without_it() {
    let server = clean().await;
    let app = spawn_with(|root| vendor(root, &server, "")).await;
    let acme = [("x-tenant-id", "acme")];
    put(&app, &acme, &json!({"type": "api_key", "value": CANARY})).await;
    put(&app, &[], &json!({"type": "api_key", "value": "everyone's"})).await;
    let calls = async || sent(&server, "x-api-key").await.len();
    let database = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
    let change = |sql: &str| database.execute_batch(sql).unwrap();
    // Another instance, or somebody at the disk, changes rows; within a second they are read.
    let until_refused = async |what: &str| {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let before = calls().await;
            let report = report(&app, "default").await;
            if report["status"] == "failed" {
                assert_eq!(report["error"], "rejected", "{what}: {report}");
                assert_eq!(calls().await, before, "{what}: it was called");
                return;
            }
            assert!(std::time::Instant::now() < until, "{what}: {report}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let row =
        "SELECT '', detector, kind, sealed, at_ms FROM detector_secrets WHERE tenant = 'acme'";
    let columns = "tenant, detector, kind, sealed, at_ms";
    change(&format!("INSERT OR REPLACE INTO detector_secrets ({columns}) {row}"));
    until_refused("a row in another's place").await;
    let view = app.get("/api/v1/detectors/vendor").await.json()["auth"].clone();
    assert_eq!(view, json!({"type": "api_key", "configured": false}));

    put(&app, &[], &json!({"type": "api_key", "value": "everyone's"})).await;
    assert_eq!(report(&app, "default").await["status"], "success");
    let cut = "SELECT tenant, detector, kind, substr(sealed, 1, 30), at_ms FROM detector_secrets \
               WHERE tenant = ''";
    change(&format!("INSERT OR REPLACE INTO detector_secrets ({columns}) {cut}"));
    until_refused("a seal that was cut").await;

    put(&app, &[], &json!({"type": "api_key", "value": "everyone's"})).await;
    drop(database);
    std::fs::write(app.path("data/keys/data"), "0b".repeat(32)).unwrap();
    let app = app.restart().await;
    let refused = report(&app, "default").await;
    assert_eq!((&refused["status"], &refused["error"]), (&json!("failed"), &json!("rejected")));
}

#[tokio::test]
async fn who_may_store_credentials_and_what_is_refused() {
    let server = clean().await;
    let app = crate::app::spawn_closed_with(BOOT, |root| {
        vendor(root, &server, "");
        crate::app::edit(root, "detectors/vendor.yaml", &server.uri(), "https://vendor.example");
    })
    .await;
    let wanted = json!({"label": "t", "reason": "t", "tenant": "acme", "roles": ["tenant_admin"]});
    let headers = [("content-type", "application/json"), ("x-api-key", BOOT)];
    let made = app.send("POST", "/api/v1/keys", &headers, wanted.to_string().as_bytes()).await;
    let admin = made.json()["key"].as_str().unwrap().to_owned();
    let good = json!({"type": "bearer_token", "token": CANARY});
    let refused = put(&app, &[("x-api-key", &admin)], &good).await;
    let code = refused.json()["code"].clone();
    assert_eq!((refused.status, code), (409, json!("ALREADY_EXISTS")));
    let boot = [("x-api-key", BOOT)];
    let client = |url: &str| json!({"type": "oauth2", "token_url": url, "client_id": "a", "client_secret": CANARY});
    for (body, status, pointer) in [
        (json!({"type": CANARY}), 400, "/type"),
        (json!({"type": "bearer_token"}), 400, "/token"),
        (json!({"type": "bearer_token", "token": 7_215_384}), 400, "/token"),
        (json!({"type": "bearer_token", "token": [CANARY]}), 400, "/token"),
        (json!({"type": "bearer_token", "token": format!("{CANARY}\n")}), 400, "/token"),
        (json!({"type": "bearer_token", "value": CANARY}), 400, "/value"),
        (json!({"type": "bearer_token", "tokn": CANARY}), 400, "/tokn"),
        (json!({"type": "api_key", "header": "host", "value": CANARY}), 400, "/header"),
        (client("http://login.example/"), 400, "/token_url"),
        (client("https://127.0.0.1/"), 422, "/token_url"),
        (client("https://169.254.169.254/"), 422, "/token_url"),
    ] {
        let answer = put(&app, &boot, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{}", answer.text);
        let told = answer.text.contains(CANARY) || answer.text.contains("7215384");
        assert!(!told, "{}", answer.text);
    }
    let builtin = "/api/v1/detectors/pii/credentials";
    let body = json!({"type": "api_key", "value": "x", "reason": "r"}).to_string();
    assert_eq!(app.send("PUT", builtin, &headers, body.as_bytes()).await.status, 400);
    let nobody = "/api/v1/detectors/nobody/credentials";
    assert_eq!(app.send("PUT", nobody, &headers, body.as_bytes()).await.status, 404);
    let before = app.get("/.well-known/jwks.json").await;
    assert_eq!(before.status, 200, "{}", before.text);
    assert_eq!(put(&app, &boot, &good).await.status, 200);
}

/// Hands out `token-<n>` that live for `life` seconds.
async fn issuer(life: u64) -> (MockServer, Arc<AtomicUsize>) {
    let (server, count) = (MockServer::builder().start().await, Arc::new(AtomicUsize::new(0)));
    let own = Arc::clone(&count);
    let grant = move |call: &Request| {
        let body = String::from_utf8_lossy(&call.body).into_owned();
        assert!(body.contains("grant_type=client_credentials") && body.contains("scope=a+b"));
        assert_eq!(call.headers["authorization"], "Basic Y2xpZW50OnNlY3JldA==");
        let number = own.fetch_add(1, Ordering::SeqCst);
        ResponseTemplate::new(200)
            .set_delay(std::time::Duration::from_millis(50))
            .set_body_json(json!({"access_token": format!("token-{number}"),
                "token_type": "Bearer", "expires_in": life}))
    };
    Mock::given(method("POST")).and(path("/token")).respond_with(grant).mount(&server).await;
    (server, count)
}

fn client(issuer: &MockServer) -> Value {
    let url = format!("{}/token", issuer.uri());
    json!({"type": "oauth2", "token_url": url, "client_id": "client", "client_secret": "secret",
        "scope": "a b"})
}

#[tokio::test]
async fn a_token_is_fetched_once_for_all_who_wait_and_again_when_it_is_refused() {
    let (issuer, count) = issuer(3600).await;
    let server = MockServer::builder().start().await;
    let refused = Arc::new(AtomicUsize::new(usize::MAX));
    let own = Arc::clone(&refused);
    let judge = move |call: &Request| {
        let stale = format!("Bearer token-{}", own.load(Ordering::SeqCst));
        let status = if call.headers["authorization"] == stale.as_str() { 401 } else { 200 };
        ResponseTemplate::new(status).set_body_json(json!({"label": "clean", "score": 0.9}))
    };
    Mock::given(method("POST")).and(path("/analyze")).respond_with(judge).mount(&server).await;
    let app = spawn_with(|root| vendor(root, &server, "")).await;
    assert_eq!(put(&app, &[], &client(&issuer)).await.status, 200);
    let reports = futures_util::future::join_all((0..20).map(|_| report(&app, "default"))).await;
    assert!(reports.iter().all(|report| report["status"] == "success"), "{reports:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1, "one fetch for twenty callers");

    refused.store(0, Ordering::SeqCst);
    let reports = futures_util::future::join_all((0..20).map(|_| report(&app, "default"))).await;
    assert!(reports.iter().all(|report| report["status"] == "success"), "{reports:?}");
    assert_eq!(count.load(Ordering::SeqCst), 2, "one more for all who were refused");

    // A detector that refuses every token is asked twice and no more.
    let before = server.received_requests().await.unwrap().len();
    refused.store(1, Ordering::SeqCst);
    let grants_the_same = count.load(Ordering::SeqCst);
    assert_eq!(report(&app, "default").await["status"], "success");
    assert_eq!(count.load(Ordering::SeqCst), grants_the_same + 1);
    assert_eq!(server.received_requests().await.unwrap().len(), before + 2);
}

#[tokio::test]
async fn a_token_without_life_is_fetched_each_time_and_a_bad_answer_is_no_token() {
    let (short, count) = issuer(0).await;
    let server = clean().await;
    let app = spawn_with(|root| {
        let secret = root.join("secret");
        std::fs::write(&secret, "secret").unwrap();
        let auth = format!(
            "auth: {{type: oauth2, token_url: '{}/token', client_id: client, scope: a b, \
             client_secret: {{file: {}}}}}\n",
            short.uri(),
            secret.display()
        );
        vendor(root, &server, &auth);
    })
    .await;
    for n in 0..3 {
        assert_eq!(report(&app, "default").await["status"], "success");
        assert_eq!(count.load(Ordering::SeqCst), n + 1);
    }
    let sent_so_far = sent(&server, "authorization").await;
    assert_eq!(sent_so_far, ["Bearer token-0", "Bearer token-1", "Bearer token-2"]);
    for (status, body) in [
        (200, json!({"access_token": CANARY, "token_type": "mac"})),
        (200, json!({"access_token": "two words", "token_type": "bearer"})),
        (200, json!({"token_type": "bearer"})),
        (200, json!(CANARY)),
        (302, json!({})),
        (500, json!({"access_token": CANARY, "token_type": "bearer"})),
    ] {
        let bad = MockServer::builder().start().await;
        let reply = ResponseTemplate::new(status).set_body_json(&body);
        Mock::given(method("POST")).respond_with(reply).mount(&bad).await;
        assert_eq!(put(&app, &[], &client(&bad)).await.status, 200);
        let report = report(&app, "default").await;
        assert_eq!(
            (&report["status"], &report["error"]),
            (&json!("failed"), &json!("communication")),
            "{body}: {report}"
        );
        assert!(!report.to_string().contains(CANARY), "{report}");
    }
    assert_eq!(sent(&server, "authorization").await.len(), 3, "nothing is sent without a token");
}

#[tokio::test]
async fn a_delegation_token_says_for_whom_and_to_whom_for_at_most_a_minute() {
    let server = clean().await;
    let app = spawn_with(|root| {
        vendor(root, &server, "delegation: Authorization\ntenants: ['*']\n");
    })
    .await;
    for tenant in ["default", "default", "acme"] {
        assert_eq!(report(&app, tenant).await["status"], "success");
    }
    let tokens = sent(&server, "authorization").await;
    assert_eq!(tokens[0], tokens[1], "it is signed once for like calls");
    let set = app.get("/.well-known/jwks.json").await.json();
    for (token, tenant) in [(&tokens[0], "default"), (&tokens[2], "acme")] {
        let token = token.strip_prefix("Bearer ").unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        let json = |part: &str| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let (header, claims) = (json(header), json(claims));
        assert_eq!(header["kid"], set["keys"][0]["kid"]);
        let x = URL_SAFE_NO_PAD.decode(set["keys"][0]["x"].as_str().unwrap()).unwrap();
        aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, x)
            .verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
        assert_eq!((&claims["sub"], &claims["aud"]), (&json!("orchestrator"), &json!("vendor")));
        assert_eq!(claims["act"], json!({"tenant": tenant, "caller": "development"}));
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert!((1..=60).contains(&life), "{claims}");
        assert!(set["keys"][0].get("d").is_none(), "{set}");
    }
    let clash = put(&app, &[], &json!({"type": "bearer_token", "token": "x"})).await;
    assert_eq!(clash.status, 400, "{}", clash.text);
    // Whoever holds it cannot come in with it.
    let closed = spawn_closed(BOOT).await;
    let headers = [("authorization", tokens[0].as_str())];
    assert_eq!(closed.send("GET", "/api/v1/detectors", &headers, b"").await.status, 401);
}
