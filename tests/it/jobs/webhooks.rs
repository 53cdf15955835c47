//! Ends of jobs, told to whoever wants to know.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use wiremock::matchers::path;

use super::*;

fn with_callback(data: &Value, server: &MockServer, to: &str) -> Value {
    let mut body = job(data);
    body["callback_url"] = json!(format!("{}{to}", server.uri()));
    body
}

#[tokio::test]
async fn the_end_of_a_job_is_told_again_until_it_is_taken_signed_and_without_content() {
    let (app, server) = (spawn().await, MockServer::start().await);
    let busy = Mock::given(method("POST")).respond_with(ResponseTemplate::new(503));
    busy.up_to_n_times(1).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let data = json!({"content": "Mail canary@evil.io"});
    let made = taken(&app, &with_callback(&data, &server, "/done?token=hush")).await;
    until(&app, &at(&made), "", stands("completed")).await;
    called(&server, 2).await;
    let told = server.received_requests().await.unwrap();
    let header = |n: usize, name: &str| told[n].headers[name].to_str().unwrap().to_owned();
    assert_eq!(header(0, "x-delivery-id"), header(1, "x-delivery-id"));
    for (n, request) in told.iter().enumerate() {
        let secret = made["callback_secret"].as_str().unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{}.", header(n, "x-timestamp")).as_bytes());
        mac.update(&request.body);
        assert_eq!(hex::encode(mac.finalize().into_bytes()), header(n, "x-signature"));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["data"]["job_id"], made["job_id"]);
        assert_eq!(
            (&body["event_type"], &body["tenant"]),
            (&json!("job_completed"), &json!("default"))
        );
        assert!(!String::from_utf8_lossy(&request.body).contains("canary"));
    }
    let id = JobId::parse(made["job_id"].as_str().unwrap()).unwrap();
    let of = JobKey { tenant: TenantId::parse("default").unwrap(), id };
    let begun = Instant::now();
    while app.api.deps.store.job(of.clone()).await.unwrap().unwrap().callback.is_some() {
        assert!(begun.elapsed() < SOON, "the address is kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let another = taken(&app, &with_callback(&data, &server, "/done")).await;
    assert_ne!(another["callback_secret"], made["callback_secret"]);
}

#[tokio::test]
async fn a_cancelled_job_is_told_of_too_and_one_without_an_address_is_not() {
    let (app, server) = (spawn().await, MockServer::start().await);
    Mock::given(path("/end")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    taken(&app, &job(&json!({"content": "x"}))).await;
    let mut put_off = with_callback(&json!({"content": "x"}), &server, "/end");
    put_off["not_before"] = json!("2026-01-01T00:00:00Z");
    let late = jiff::Timestamp::now() + jiff::Span::new().hours(20);
    put_off["not_before"] = json!(late.to_string());
    let made = taken(&app, &put_off).await;
    app.post(&format!("{}/cancel", at(&made)), &json!({})).await;
    called(&server, 1).await;
    let told = server.received_requests().await.unwrap();
    let body: Value = serde_json::from_slice(&told[0].body).unwrap();
    assert_eq!(body["data"]["state"], "cancelled", "{body}");
    assert_eq!(told.len(), 1);
}

async fn refused(app: &App, key: &str, url: &str) -> (u16, Value) {
    let mut body = job(&json!({"content": "x"}));
    body["callback_url"] = json!(url);
    let answer = send(app, "POST", "/api/v1/jobs", key, &body).await;
    (answer.status, answer.json()["code"].clone())
}

#[tokio::test]
async fn an_address_that_the_service_may_not_reach_is_refused_and_a_dead_telling_can_be_discarded()
{
    let app = spawn_closed(BOOT).await;
    let own = key(&app, json!({"roles": ["operator"], "tenant": "acme"})).await;
    for url in [
        "http://169.254.169.254/latest",
        "https://10.0.0.7/x",
        "https://[::1]/x",
        "https://0x7f000001/x",
        "http://example.com/x",
    ] {
        assert_eq!(refused(&app, &own, url).await, (422, json!("ENDPOINT_FORBIDDEN")), "{url}");
    }
    assert_eq!(refused(&app, &own, "https://example.invalid/x").await.0, 202);
    // Nothing dead yet, of this tenant or another.
    let path = "/api/v1/admin/dlq?kind=webhooks";
    let dead = send(&app, "GET", path, &own, &json!({})).await;
    assert_eq!((dead.status, &dead.json()["dead_letters"]), (200, &json!([])), "{}", dead.text);
    given_up(&app, "acme").await;
    let nobody = format!("/api/v1/admin/dlq/{}/discard", "0".repeat(64));
    assert_eq!(send(&app, "POST", &nobody, &own, &json!({"reason": "x"})).await.status, 404);
}

/// A job of `tenant` that is told of at `to`.
async fn told_of(app: &App, tenant: &str, server: &MockServer, to: &str) -> Value {
    let body = with_callback(&json!({"content": "x"}), server, to).to_string();
    let headers = [("content-type", "application/json"), ("x-tenant-id", tenant)];
    let made = app.send("POST", "/api/v1/jobs", &headers, body.as_bytes()).await;
    assert_eq!(made.status, 202, "{}", made.text);
    made.json()
}

#[tokio::test]
async fn a_receiver_that_hangs_keeps_no_other_tenants_webhooks_waiting() {
    let (app, hung, quick) = (spawn().await, MockServer::start().await, MockServer::start().await);
    let never = ResponseTemplate::new(200).set_delay(std::time::Duration::from_secs(60));
    Mock::given(method("POST")).respond_with(never).mount(&hung).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&quick).await;
    let all = (0..200).map(|_| told_of(&app, "globex", &hung, "/hangs"));
    futures_util::future::join_all(all).await;
    let headers = [("x-tenant-id", "globex")];
    let begun = std::time::Instant::now();
    let ended = async || {
        let path = "/api/v1/jobs?state=completed&limit=200";
        let listed = app.send("GET", path, &headers, b"").await.json();
        listed["jobs"].as_array().unwrap().len()
    };
    while ended().await < 200 {
        assert!(begun.elapsed() < 3 * super::SOON, "the jobs are not carried out");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // As many as a tenant may have out hang now.
    called(&hung, 8).await;
    let made = told_of(&app, "acme", &quick, "/end").await;
    called(&quick, 1).await;
    let told = quick.received_requests().await.unwrap();
    let body: Value = serde_json::from_slice(&told[0].body).unwrap();
    assert_eq!(body["data"]["job_id"], made["job_id"], "{body}");
    let hanging = hung.received_requests().await.unwrap().len();
    assert!(hanging < 150, "{hanging} of the 200 before it were told first");
}

#[tokio::test]
async fn a_dead_webhook_says_when_it_died_of_what_and_is_counted() {
    let (app, server) = (spawn().await, MockServer::start().await);
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(503)).mount(&server).await;
    let made = told_of(&app, "acme", &server, "/end").await;
    called(&server, 1).await;
    // Its further tries are taken from it.
    let store = &app.api.deps.store;
    let group = detector_orchestrator::jobs::webhook::group();
    let path = "/api/v1/admin/dlq?kind=webhooks";
    let begun = std::time::Instant::now();
    let dead = loop {
        assert!(begun.elapsed() < super::SOON, "it never dies");
        let file = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
        file.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        // As if it had been tried so often.
        let sql = "UPDATE event_deliveries SET count = 6, due_ms = 0 \
                   WHERE name = 'webhooks' AND last_error IS NOT NULL AND count < 6";
        file.execute(sql, []).unwrap();
        let dead = app.get(path).await.json();
        if let Some(one) = dead["dead_letters"].get(0) {
            break one.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!((&dead["job_id"], &dead["attempts"]), (&made["job_id"], &json!(7)), "{dead}");
    assert_eq!(dead["last_error"]["code"], "503", "{dead}");
    assert_eq!(dead["last_error"]["message"], "the receiver answered 503");
    let job = app.send("GET", &at(&made), &[("x-tenant-id", "acme")], b"").await.json();
    let moment = |raw: &Value| raw.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(moment(&dead["dead_at"]) > moment(&job["updated_at"]), "not the job's end: {dead}");
    assert_eq!(store.count_dead(group).await, Ok(1));
    let (depth, total) = (
        "orchestrator_dlq_depth{kind=\"webhook\"} 1",
        "orchestrator_webhooks_total{result=\"dead\"} 1",
    );
    loop {
        let metrics = app.get("/metrics").await.text;
        if metrics.contains(depth) && metrics.contains(total) {
            return;
        }
        assert!(begun.elapsed() < super::SOON, "{metrics}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
