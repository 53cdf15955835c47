//! Tenants by API, their rates and quotas, and what two of them may know of each other.

use std::time::{Duration, Instant, SystemTime};

use detector_orchestrator::domain::id::TenantId;
use detector_orchestrator::store::{Audit as _, Page, Place, Sqlite, SqliteOptions};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::access::{BOOT, key, send};
use crate::app::{Answer, App, edit, spawn_closed, spawn_closed_with, spawn_with, write};

const ASK: &str = "/api/v1/orchestrate";

async fn app_key(app: &App, tenant: &str) -> String {
    key(app, json!({"roles": ["app", "viewer"], "tenant": tenant})).await
}

async fn ask(app: &App, key: &str) -> Answer {
    send(app, "POST", ASK, key, &json!({"content": "hello"})).await
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

/// Sends with `If-Match`.
async fn matching(app: &App, method: &str, path: &str, tag: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("x-api-key", BOOT), ("if-match", tag)];
    app.send(method, path, &headers, body.to_string().as_bytes()).await
}

#[tokio::test]
async fn a_tenant_over_its_rate_is_refused_and_its_neighbour_is_not() {
    let app = spawn_closed_with(BOOT, |root| {
        let rate = "tier: unlimited\nrate_limit: {per_minute: 1, burst: 3}";
        edit(root, "config/tenants/acme.yaml", "tier: professional", rate);
        edit(
            root,
            "config/tenants/default.yaml",
            "id: default",
            "id: default\nrate_limit: {per_minute: 1, burst: 2}",
        );
    })
    .await;
    let (acme, globex) = (app_key(&app, "acme").await, app_key(&app, "globex").await);
    let path = "/api/v1/detectors";
    for left in ["2", "1", "0"] {
        let answer = send(&app, "GET", path, &acme, &Value::Null).await;
        assert_eq!((answer.status, answer.header("ratelimit-remaining")), (200, left));
        for name in ["limit", "remaining", "reset"] {
            let plain = answer.header(&format!("ratelimit-{name}")).to_owned();
            assert_eq!(answer.header(&format!("x-ratelimit-{name}")), plain);
        }
        assert_eq!(answer.header("ratelimit-limit"), "3");
        assert_eq!(answer.header("ratelimit-policy"), "1;w=60;burst=3");
        assert_eq!(answer.header("retry-after"), "");
    }
    // The bucket is the tenant's, whichever of its keys and routes comes next.
    let other = app_key(&app, "acme").await;
    let refused = ask(&app, &other).await;
    assert_eq!(code(&refused), (429, "RATE_LIMITED".into()), "{}", refused.text);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=70).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit-reset").parse::<u64>().unwrap() > 100);
    for _ in 0..10 {
        let fine = send(&app, "GET", path, &globex, &Value::Null).await;
        assert_eq!((fine.status, fine.header("ratelimit-remaining").is_empty()), (200, false));
    }
    // Who chooses a tenant is held to the rate of the one it chose.
    let by_admin = async |tenant: &str| {
        let body = json!({"content": "hello", "tenant_id": tenant});
        send(&app, "POST", ASK, BOOT, &body).await.status
    };
    assert_eq!(by_admin("acme").await, 429);
    assert_eq!([by_admin("default").await, by_admin("default").await], [200, 200]);
    assert_eq!(by_admin("default").await, 429);
    let metrics = send(&app, "GET", "/metrics", BOOT, &Value::Null).await.text;
    for line in [
        r#"orchestrator_rate_limit_exceeded_total{tenant="acme"} 2"#,
        r#"orchestrator_rate_limit_exceeded_total{tenant="default"} 1"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

fn hour() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 3_600
}

/// What `act` saw inside one hour of the clock: begun anew where an hour ended on the way.
async fn within_an_hour<T>(act: impl AsyncFn() -> T) -> T {
    loop {
        let began = hour();
        let seen = act().await;
        if hour() == began {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_quota_bursts_then_ends_and_survives_a_restart() {
    let expected = [
        "200",
        "200",
        "200",
        "200",
        "200",
        "200 burst",
        "429 QUOTA_EXCEEDED",
        "other 200",
        "used 6 of 5",
        "restarted 429",
        "used 6 of 5",
        "raised 200",
    ];
    assert_eq!(within_an_hour(quota_journey).await, expected);
}

async fn quota_journey() -> Vec<String> {
    let app = spawn_closed(BOOT).await;
    let (acme, globex) = (app_key(&app, "acme").await, app_key(&app, "globex").await);
    let path = "/api/v1/quotas/acme";
    let set = json!({"requests_per_hour": 5, "reason": "a test"});
    let made = send(&app, "PUT", path, BOOT, &set).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json()["concurrent"], 10, "what is absent stays the tier's");
    let mut seen = Vec::new();
    for _ in 0..7 {
        let answer = ask(&app, &acme).await;
        let burst = answer.header("x-quota-burst") == "true";
        let code = code(&answer).1;
        seen.push(match (burst, code.as_str()) {
            (true, _) => format!("{} burst", answer.status),
            (false, "") => answer.status.to_string(),
            (false, code) => format!("{} {code}", answer.status),
        });
        if answer.status == 429 {
            let wait: u64 = answer.header("retry-after").parse().unwrap();
            let left = 3_600 - SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() % 3_600;
            assert!(wait + 2 >= left && wait <= 4_000, "{wait} for {left}");
        }
    }
    seen.push(format!("other {}", ask(&app, &globex).await.status));
    let used = async |app: &App| {
        let quota = send(app, "GET", path, BOOT, &Value::Null).await.json();
        format!("used {} of {}", quota["used"], quota["requests_per_hour"])
    };
    seen.push(used(&app).await);
    let app = app.restart().await;
    seen.push(format!("restarted {}", ask(&app, &acme).await.status));
    seen.push(used(&app).await);
    let tag = send(&app, "GET", path, BOOT, &Value::Null).await.header("etag").to_owned();
    let more = json!({"requests_per_hour": 6, "reason": "a test"});
    assert_eq!(code(&send(&app, "PUT", path, BOOT, &more).await).0, 428);
    assert_eq!(matching(&app, "PUT", path, "\"old\"", &more).await.status, 412);
    assert_eq!(matching(&app, "PUT", path, &tag, &more).await.status, 200);
    seen.push(format!("raised {}", ask(&app, &acme).await.status));
    seen
}

#[tokio::test]
async fn a_batch_spends_one_of_the_quota_for_each_item_and_keeps_to_its_places() {
    let batch = async || {
        let app = spawn_closed(BOOT).await;
        let acme = app_key(&app, "acme").await;
        let set = json!({"requests_per_hour": 5, "concurrent": 1, "reason": "a test"});
        assert_eq!(send(&app, "PUT", "/api/v1/quotas/acme", BOOT, &set).await.status, 201);
        let requests: Vec<Value> = (0..8).map(|_| json!({"content": "hello"})).collect();
        let body = json!({"requests": requests, "max_parallel": 8});
        send(&app, "POST", "/api/v1/orchestrate/batch", &acme, &body).await
    };
    let answer = within_an_hour(batch).await;
    let value = answer.json();
    assert_eq!((&value["succeeded"], &value["failed"]), (&json!(6), &json!(2)), "{value}");
    for item in value["results"].as_array().unwrap().iter().filter(|item| item["status"] != 200) {
        assert_eq!(item["problem"]["code"], "QUOTA_EXCEEDED", "{item}");
    }
    assert_eq!(answer.header("x-quota-burst"), "true");
}

#[tokio::test]
async fn a_paused_tenant_is_told_so_and_nobody_else_learns_it() {
    let app = spawn_closed(BOOT).await;
    let (acme, globex) = (app_key(&app, "acme").await, app_key(&app, "globex").await);
    let pause = "/api/v1/admin/tenants/acme/pause";
    assert_eq!(send(&app, "POST", pause, BOOT, &json!({"reason": " "})).await.status, 400);
    let unknown = "/api/v1/admin/tenants/no-such/pause";
    assert_eq!(send(&app, "POST", unknown, BOOT, &json!({"reason": "x"})).await.status, 404);
    let paused = send(&app, "POST", pause, BOOT, &json!({"reason": "ticket 7"})).await;
    assert_eq!((paused.status, paused.json()["paused"].clone()), (200, true.into()));
    assert_eq!(send(&app, "POST", pause, BOOT, &json!({"reason": "again"})).await.status, 200);
    assert_eq!(send(&app, "POST", pause, BOOT, &json!({"reason": ""})).await.status, 400);
    let app = app.restart().await;
    for (method, path) in [("POST", ASK), ("GET", "/api/v1/detectors")] {
        let answer = send(&app, method, path, &acme, &json!({"content": "x"})).await;
        assert_eq!(code(&answer), (403, "TENANT_PAUSED".into()), "{}", answer.text);
    }
    for other in [BOOT, globex.as_str()] {
        let of = async |tenant: &str| {
            let body = json!({"content": "x", "tenant_id": tenant});
            let mut value = send(&app, "POST", ASK, other, &body).await.json();
            value["request_id"] = Value::Null;
            value
        };
        let (paused, unknown) = (of("acme").await, of("no-such").await);
        assert_eq!(paused, unknown);
        assert_eq!(paused["code"], "TENANT_MISMATCH");
    }
    assert_eq!(ask(&app, &globex).await.status, 200);
    let resume = "/api/v1/admin/tenants/acme/resume";
    let resumed = send(&app, "POST", resume, BOOT, &json!({"reason": "paid"})).await;
    assert_eq!(resumed.json()["paused"], false, "{}", resumed.text);
    assert_eq!(ask(&app, &acme).await.status, 200);
    let acts = audited(&app, "acme").await;
    let acts: Vec<_> =
        acts.iter().map(|(act, why, b, a)| (act.as_str(), why.as_str(), *b, *a)).collect();
    let expected =
        [("tenant.resume", "paid", true, false), ("tenant.pause", "ticket 7", false, true)];
    assert_eq!(acts, expected, "twice the same is one change");
}

/// What was done to a tenant, newest first: act, reason, whether there was a before and an after.
async fn audited(app: &App, tenant: &str) -> Vec<(String, String, bool, bool)> {
    let store = Sqlite::open(&SqliteOptions::at(Place::File(app.path("data/orchestrator.db"))));
    let page = Page { limit: 100, before: None };
    let id = Some(TenantId::parse(tenant).unwrap());
    let entries = store.unwrap().entries(id, page).await.unwrap();
    let target = format!("tenant/{tenant}");
    let of = entries.into_iter().map(|row| row.value).filter(|entry| entry.target == target);
    of.map(|entry| {
        assert!(BOOT.starts_with(&entry.actor), "{entry:?}");
        (entry.action, entry.reason, entry.before.is_some(), entry.after.is_some())
    })
    .collect()
}

async fn nova(app: &App) -> Value {
    send(app, "GET", "/api/v1/tenants/nova", BOOT, &Value::Null).await.json()
}

#[tokio::test]
async fn a_stored_tenant_serves_at_once_and_after_a_restart_until_a_file_takes_its_name() {
    let app = spawn_closed(BOOT).await;
    let path = "/api/v1/tenants/nova";
    let body =
        |tier: &str| json!({"tenant": {"tier": tier, "policies": ["standard"]}, "reason": "new"});
    let made = send(&app, "PUT", path, BOOT, &body("starter")).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let first = made.header("etag").to_owned();
    let own = app_key(&app, "nova").await;
    assert_eq!(ask(&app, &own).await.status, 200);
    assert_eq!(code(&send(&app, "PUT", path, BOOT, &body("enterprise")).await).0, 428);
    let changed = matching(&app, "PUT", path, &first, &body("enterprise")).await;
    assert_eq!((changed.status, changed.json()["weight"].as_f64()), (200, Some(10.0)));
    let stale = matching(&app, "PUT", path, &first, &body("starter")).await;
    let now = changed.header("etag").to_owned();
    assert_eq!(
        (code(&stale).1.as_str(), stale.header("etag")),
        ("PRECONDITION_FAILED", now.as_str())
    );

    let racing = json!({"tenant": {"tier": "enterprise", "labels": {"a": "b"}}, "reason": "race"});
    let (one, two) = tokio::join!(
        matching(&app, "PUT", path, &now, &racing),
        matching(&app, "PUT", path, &now, &racing),
    );
    let mut raced = [one.status, two.status];
    raced.sort_unstable();
    assert_eq!(raced, [200, 412], "one of two with the same tag wins");
    let now = nova(&app).await["stored"]["etag"].as_str().unwrap().to_owned();
    let now = format!("\"{now}\"");

    let app = app.restart().await;
    assert_eq!(ask(&app, &own).await.status, 200);
    assert_eq!(nova(&app).await["tier"], "enterprise");
    write(app.dir.path(), "config/tenants/nova.yaml", "schema_version: 1\nid: nova\n");
    let until = Instant::now() + Duration::from_secs(20);
    while nova(&app).await["source"] != "file" {
        assert!(Instant::now() < until, "the file was never seen");
        tokio::task::yield_now().await;
    }
    let shown = nova(&app).await;
    assert_eq!((&shown["tier"], &shown["stored"]["shadowed"]), (&json!("starter"), &json!(true)));
    assert_eq!(shown["faults"][0]["code"], "shadowed");
    let refused = matching(&app, "PUT", path, &now, &body("starter")).await;
    assert_eq!(code(&refused), (409, "ALREADY_EXISTS".into()));
    let gone = matching(&app, "DELETE", &format!("{path}?reason=tidy"), &now, &Value::Null).await;
    assert_eq!(gone.status, 204, "{}", gone.text);
    assert_eq!(nova(&app).await["stored"], Value::Null);
    assert_eq!(ask(&app, &own).await.status, 200, "the file's tenant");
    let acts: Vec<_> = audited(&app, "nova").await;
    let acts: Vec<_> =
        acts.iter().map(|(act, _, before, after)| (act.as_str(), *before, *after)).collect();
    let put = |before| ("tenant.put", before, true);
    assert_eq!(acts, [("tenant.delete", true, false), put(true), put(true), put(false)]);
}

#[tokio::test]
async fn a_deleted_tenants_credentials_are_nobodys() {
    let app = spawn_closed(BOOT).await;
    let body = json!({"tenant": {}, "reason": "new"});
    let path = "/api/v1/tenants/nova";
    let made = send(&app, "PUT", path, BOOT, &body).await;
    let own = app_key(&app, "nova").await;
    let tag = made.header("etag").to_owned();
    let query = format!("{path}?reason=left");
    assert_eq!(send(&app, "DELETE", &query, BOOT, &Value::Null).await.status, 428);
    assert_eq!(matching(&app, "DELETE", &query, &tag, &Value::Null).await.status, 204);
    for (method, path) in [("POST", ASK), ("GET", "/api/v1/detectors"), ("GET", "/api/v1/breakers")]
    {
        let answer = send(&app, method, path, &own, &json!({"content": "x"})).await;
        assert_eq!(code(&answer), (401, "UNAUTHORIZED".into()), "{path}");
    }
    assert_eq!(send(&app, "GET", path, BOOT, &Value::Null).await.status, 404);
    let keys = send(&app, "GET", "/api/v1/keys", BOOT, &Value::Null).await.json();
    let mut of_nova = keys["keys"].as_array().unwrap().iter().filter(|key| key["tenant"] == "nova");
    assert!(of_nova.all(|key| !key["revoked_at"].is_null()), "{keys}");
    let again = send(&app, "PUT", path, BOOT, &body).await;
    assert_eq!(code(&again), (409, "ALREADY_EXISTS".into()), "{}", again.text);
}

#[tokio::test]
async fn a_tenant_that_is_wrong_is_refused_with_its_field_and_a_files_is_not_changed() {
    let app = spawn_closed(BOOT).await;
    let put = async |id: &str, tenant: Value| {
        let body = json!({"tenant": tenant, "reason": "x"});
        send(&app, "PUT", &format!("/api/v1/tenants/{id}"), BOOT, &body).await
    };
    for (tenant, pointer, fault) in [
        (json!({"tier": "gold"}), "/tenant/tier", "unknown_tier"),
        (json!({"rate_limit": {"per_minute": 0}}), "/tenant/rate_limit", "out_of_range"),
        (json!({"teir": "starter"}), "/tenant/teir", "unknown_key"),
        (json!({"id": "vega"}), "/tenant/id", "name_mismatch"),
        (json!({"policies": ["gone"]}), "/tenant", "unknown_policy"),
        (json!([]), "/tenant", "wrong_type"),
    ] {
        let answer = put("nova", tenant).await;
        let value = answer.json();
        assert_eq!((answer.status, &value["code"]), (400, &json!("INVALID_REQUEST")), "{value}");
        let found = (&value["errors"][0]["pointer"], &value["errors"][0]["code"]);
        assert_eq!(found, (&json!(pointer), &json!(fault)), "{value}");
    }
    let rest = put("other", json!({})).await;
    assert_eq!(rest.json()["errors"][0]["pointer"], "/tenant/id", "{}", rest.text);
    assert_eq!(code(&put("acme", json!({})).await), (409, "ALREADY_EXISTS".into()));
    assert_eq!(put("Bad-Id", json!({})).await.status, 400);
    let query = "/api/v1/tenants/acme?reason=x";
    assert_eq!(send(&app, "DELETE", query, BOOT, &Value::Null).await.status, 409);
    let listed = send(&app, "GET", "/api/v1/tenants?limit=2", BOOT, &Value::Null).await.json();
    let ids: Vec<&str> =
        listed["tenants"].as_array().unwrap().iter().filter_map(|t| t["id"].as_str()).collect();
    assert_eq!((ids, &listed["next"]), (vec!["acme", "default"], &json!("default")));
}

#[tokio::test]
async fn one_tenant_reads_its_own_quota_and_no_others() {
    let app = spawn_closed(BOOT).await;
    let scopes = ["quota:read", "tenants:write"];
    let acme = key(&app, json!({"scopes": scopes, "tenant": "acme"})).await;
    let get = async |path: &str| send(&app, "GET", path, &acme, &Value::Null).await;
    assert_eq!(get("/api/v1/quotas/acme").await.json()["tier"], "professional");
    for path in ["/api/v1/quotas/globex", "/api/v1/quotas/no-such", "/api/v1/tenants/globex"] {
        assert_eq!(code(&get(path).await), (404, "NOT_FOUND".into()), "{path}");
    }
    let body = json!({"reason": "x"});
    let pause = "/api/v1/admin/tenants/globex/pause";
    assert_eq!(send(&app, "POST", pause, &acme, &body).await.status, 404);
    assert_eq!(get("/api/v1/tenants").await.json()["tenants"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn fairness_weighs_what_tenants_had_and_shows_each_its_own() {
    let shares = async || {
        let app = spawn_closed(BOOT).await;
        let (acme, globex) = (app_key(&app, "acme").await, app_key(&app, "globex").await);
        for key in [&acme, &globex, &globex] {
            assert_eq!(ask(&app, key).await.status, 200);
        }
        let get =
            async |key: &str| send(&app, "GET", "/api/v1/fairness", key, &Value::Null).await.json();
        [get(&acme).await, get(BOOT).await]
    };
    let [own, all] = within_an_hour(shares).await;
    assert_eq!(own["tenants"].as_array().unwrap().len(), 1, "{own}");
    assert_eq!(own["tenants"][0]["tenant"], "acme");
    // 1 for weight 3 and 2 for weight 1: shares 1/3 and 2.
    let expected = (7.0_f64 / 3.0).powi(2) / (2.0 * (1.0 / 9.0 + 4.0));
    assert!((all["index"].as_f64().unwrap() - expected).abs() < 1e-9, "{all}");
    assert_eq!(all["violation"], "none", "nobody was refused");
    let document: Value = serde_json::from_str(&detector_orchestrator::api::openapi()).unwrap();
    let stability = &document["paths"]["/api/v1/fairness"]["get"]["x-stability"];
    assert_eq!(stability, "experimental");
}

#[tokio::test]
async fn ten_refusals_in_a_row_are_starvation_until_a_request_is_judged() {
    let journey = async || {
        let app = spawn_closed(BOOT).await;
        let acme = app_key(&app, "acme").await;
        let share = async || {
            let all = send(&app, "GET", "/api/v1/fairness", &acme, &Value::Null).await.json();
            let own = &all["tenants"][0];
            (own["refused_in_a_row"].as_u64(), own["starving"].as_bool())
        };
        let allow = async |per_hour: u32, tag: Option<&str>| {
            let set = json!({"requests_per_hour": per_hour, "reason": "a test"});
            match tag {
                None => send(&app, "PUT", "/api/v1/quotas/acme", BOOT, &set).await,
                Some(tag) => matching(&app, "PUT", "/api/v1/quotas/acme", tag, &set).await,
            }
        };
        let made = allow(1, None).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let mut refused = 0;
        let mut seen = Vec::new();
        while refused < 10 {
            refused += u32::from(ask(&app, &acme).await.status == 429);
            if refused >= 9 {
                seen.push(share().await);
            }
        }
        let more = allow(1_000, Some(made.header("etag"))).await;
        assert_eq!(more.status, 200, "{}", more.text);
        assert_eq!(ask(&app, &acme).await.status, 200);
        seen.push(share().await);
        seen
    };
    let seen = within_an_hour(journey).await;
    assert_eq!(seen, [(Some(9), Some(false)), (Some(10), Some(true)), (Some(0), Some(false))]);
}

/// A detector that accepts a call and answers nothing, until it is dropped.
struct Silent {
    called: tokio::sync::oneshot::Receiver<tokio::net::TcpStream>,
    uri: String,
}

async fn silent() -> Silent {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/analyze", listener.local_addr().unwrap());
    let (call, called) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read_u8().await;
        let _ = call.send(stream);
    });
    Silent { called, uri }
}

#[tokio::test]
async fn a_tenant_without_a_free_place_is_refused_at_once_and_its_neighbour_is_not() {
    let detector = silent().await;
    let uri = detector.uri.clone();
    let app = spawn_closed_with(BOOT, |root| {
        edit(root, "config/settings.yaml", "outbound_allow: [] ", "outbound_allow: [127.0.0.1] ");
        let text = format!(
            "name: slow\nprotocol: native\nendpoint: {uri}\ncategories: [toxicity]\n\
             timeout: 20s\nretry: {{attempts: 1}}\nhealth: {{path: \"\"}}\n"
        );
        write(root, "detectors/slow.yaml", &text);
        edit(root, "config/tenants/acme.yaml", "tier:", "sla: {normal_ms: 60000}\ntier:");
    })
    .await;
    let (acme, globex) = (app_key(&app, "acme").await, app_key(&app, "globex").await);
    let set = json!({"concurrent": 1, "reason": "a test"});
    assert_eq!(send(&app, "PUT", "/api/v1/quotas/acme", BOOT, &set).await.status, 201);
    let slow = json!({"content": "hello", "detectors": {"add": ["slow"]}});
    let first = send(&app, "POST", ASK, &acme, &slow);
    let meanwhile = async {
        let call = detector.called.await.unwrap();
        let second = ask(&app, &acme).await;
        assert_eq!(code(&second), (429, "QUOTA_EXCEEDED".into()), "{}", second.text);
        assert_eq!(ask(&app, &globex).await.status, 200);
        drop(call);
    };
    let (first, ()) = tokio::join!(first, meanwhile);
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(ask(&app, &acme).await.status, 200, "its place is free again");
}

#[tokio::test]
async fn development_on_this_machine_refuses_nobody_for_asking_often() {
    let app = spawn_with(|root| {
        let rate = "tier: starter\nrate_limit: {per_minute: 1, burst: 1}";
        edit(root, "config/tenants/default.yaml", "tier: unlimited", rate);
    })
    .await;
    let set = json!({"requests_per_hour": 1, "reason": "a test"});
    let headers = [("content-type", "application/json")];
    let path = "/api/v1/quotas/default";
    let made = app.send("PUT", path, &headers, set.to_string().as_bytes()).await;
    assert_eq!((made.status, &made.json()["enforced"]), (201, &json!(false)));
    for _ in 0..5 {
        let answer = app.ask(&json!({"content": "hello"})).await;
        assert_eq!((answer.status, answer.header("ratelimit-limit")), (200, ""));
    }
    assert!(app.get(path).await.json()["used"].as_u64().unwrap() >= 5);
}
