//! When a job is tried again, and when its end is at hand.

use super::*;
use crate::app::edit;

/// A detector that refuses the first call with `status`, and finds nothing afterwards.
async fn refusing(status: u16, retry_after: Option<&str>) -> MockServer {
    let server = MockServer::start().await;
    let mut refusal = ResponseTemplate::new(status);
    if let Some(seconds) = retry_after {
        refusal = refusal.insert_header("retry-after", seconds);
    }
    let once = Mock::given(method("POST")).respond_with(refusal).up_to_n_times(1);
    once.mount(&server).await;
    let clean = ResponseTemplate::new(200).set_body_json(json!({"findings": []}));
    Mock::given(method("POST")).respond_with(clean).mount(&server).await;
    server
}

/// The tries of a job about `server`, once it is completed.
async fn tries_of(server: &MockServer, priority: &str) -> Vec<Value> {
    let app = spawn_with(|dir| attach(dir, server)).await;
    let mut data = asked("x");
    data["priority"] = json!(priority);
    let made = taken(&app, &job(&data)).await;
    let done = until(&app, &at(&made), "", stands("completed")).await;
    assert_eq!(done["result"]["coverage"]["complete"], true, "{done}");
    let tries = app.get(&format!("{}/attempts", at(&made))).await.json();
    tries["attempts"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_job_whose_required_detector_refuses_for_now_is_tried_again() {
    for status in [408, 425, 429] {
        let tries = tries_of(&refusing(status, None).await, "high").await;
        let ended: Vec<_> = tries.iter().map(|one| one["ended"].as_str().unwrap()).collect();
        assert_eq!(ended, ["retried", "completed"], "{status}: {tries:?}");
        assert_eq!(tries[0]["error"]["code"], "PARTIAL_COVERAGE", "{tries:?}");
    }
    // What it will say again is not asked again.
    let app_refused = refusing(400, None).await;
    let app = spawn_with(|dir| attach(dir, &app_refused)).await;
    let made = taken(&app, &job(&asked("x"))).await;
    let done = until(&app, &at(&made), "", stands("completed")).await;
    assert_eq!((&done["attempts"], calls(&app_refused).await), (&json!(1), 1), "{done}");
}

#[tokio::test]
async fn a_job_with_a_long_text_of_which_a_part_is_refused_for_now_is_tried_again() {
    let in_parts = async |status: u16| {
        let server = refusing(status, None).await;
        let app = spawn_with(|dir| {
            attach(dir, &server);
            edit(dir, "detectors/vendor.yaml", "retry:", "max_chars: 60\nretry:");
        });
        (app.await, server)
    };
    let mut data = asked(&"some words ".repeat(10));
    data["priority"] = json!("high");
    for status in [408, 425, 429, 503] {
        let (app, server) = in_parts(status).await;
        let mut sync = data.clone();
        sync["include"] = json!(["coverage"]);
        let now = app.ask(&sync).await.json();
        assert!(calls(&server).await > 1, "it was sent whole");
        let missing = json!(["vendor"]);
        assert_eq!(
            (&now["coverage"]["complete"], &now["coverage"]["missing"]),
            (&json!(false), &missing)
        );
        let (app, _server) = in_parts(status).await;
        let made = taken(&app, &job(&data)).await;
        let done = until(&app, &at(&made), "", stands("completed")).await;
        assert_eq!(done["attempts"], 2, "{status}: {done}");
        assert_eq!(done["result"]["coverage"]["complete"], true, "{status}: {done}");
    }
    // What it will say again is not asked again, and the rest is enough.
    let (app, _server) = in_parts(400).await;
    let made = taken(&app, &job(&data)).await;
    let done = until(&app, &at(&made), "", stands("completed")).await;
    assert_eq!(done["attempts"], 1, "{done}");
}

#[tokio::test]
async fn a_job_rests_as_long_as_the_detector_that_refused_it_asks() {
    for status in [429, 503] {
        let tries = tries_of(&refusing(status, Some("3")).await, "high").await;
        assert_eq!(tries.len(), 2, "{status}: {tries:?}");
        let time = |raw: &Value| raw.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let rest = time(&tries[1]["started_at"]).duration_since(time(&tries[0]["ended_at"]));
        // 1 s, ± 20 %, by the priority alone.
        assert!(rest.as_secs_f64() >= 2.9, "{status}: {rest:?}");
    }
}

#[tokio::test]
async fn a_job_that_comes_while_its_detector_wants_to_be_left_alone_waits_for_it() {
    let server = refusing(429, Some("8")).await;
    let app = spawn_with(|dir| attach(dir, &server)).await;
    let of = |content: &str, priority: &str| {
        let mut data = asked(content);
        data["priority"] = json!(priority);
        job(&data)
    };
    let first = taken(&app, &of("x", "high")).await;
    until(&app, &at(&first), "", |job| job["state"] == "queued" && job["attempts"] == 1).await;
    // Two tries, 5 s apart: both would be over before the detector may be asked.
    let second = taken(&app, &of("y", "low")).await;
    for made in [&first, &second] {
        let done = until(&app, &at(made), "", stands("completed")).await;
        assert_eq!(done["attempts"], 2, "{done}");
    }
    assert_eq!(calls(&server).await, 3);
}

#[tokio::test]
async fn the_jobs_of_a_deleted_tenant_fail_and_their_content_is_erased() {
    let server = vendor(20_000).await;
    let app = spawn_closed_with(BOOT, |dir| {
        attach(dir, &server);
        edit(dir, "config/settings.yaml", "outbound_allow: []", "outbound_allow: [127.0.0.0/8]");
    })
    .await;
    let tenant = "/api/v1/tenants/nova";
    let body = json!({"tenant": {"tier": "enterprise"}, "reason": "new"});
    let made = send(&app, "PUT", tenant, BOOT, &body).await;
    let etag = made.header("etag").to_owned();
    let own = key(&app, json!({"roles": ["app"], "tenant": "nova"})).await;
    let mut put_off = job(&json!({"content": "x"}));
    put_off["not_before"] =
        json!((jiff::Timestamp::now() + jiff::Span::new().hours(9)).to_string());
    let mut made = Vec::new();
    for body in [&job(&asked("slow")), &put_off, &put_off] {
        let answer = send(&app, "POST", JOBS, &own, body).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        made.push(answer.json());
    }
    called(&server, 1).await;
    let pause = format!("{}/pause", at(&made[2]));
    assert_eq!(send(&app, "POST", &pause, &own, &json!({})).await.status, 200);
    let headers = [("x-api-key", BOOT), ("if-match", etag.as_str())];
    let gone = app.send("DELETE", &format!("{tenant}?reason=left"), &headers, b"").await;
    assert_eq!(gone.status, 204, "{}", gone.text);
    for one in &made {
        let id = JobId::parse(one["job_id"].as_str().unwrap()).unwrap();
        let of = JobKey { tenant: TenantId::parse("nova").unwrap(), id };
        let job = app.api.deps.store.job(of).await.unwrap().unwrap();
        assert_eq!((job.state, job.has_payload), (JobState::Failed, false), "{job:?}");
        assert_eq!(job.error.unwrap().code, "TENANT_MISMATCH");
    }
    let begun = Instant::now();
    let active = "orchestrator_jobs_active 0\n";
    while !send(&app, "GET", "/metrics", BOOT, &json!({})).await.text.contains(active) {
        assert!(begun.elapsed() < SOON, "the call goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nothing_of_a_deleted_tenant_is_queued_or_kept_any_more() {
    let server = vendor(3_000).await;
    let app = spawn_closed_with(BOOT, |dir| {
        attach(dir, &server);
        edit(dir, "config/settings.yaml", "outbound_allow: []", "outbound_allow: [127.0.0.0/8]");
    })
    .await;
    let tenant = "/api/v1/tenants/nova";
    let body = json!({"tenant": {"tier": "enterprise"}, "reason": "new"});
    let made = send(&app, "PUT", tenant, BOOT, &body).await;
    let etag = made.header("etag").to_owned();
    let own = key(&app, json!({"roles": ["app"], "tenant": "nova"})).await;
    let letter = given_up(&app, "nova").await;
    let asking = [
        ("content-type", "application/json"),
        ("x-api-key", own.as_str()),
        ("prefer", "respond-async"),
    ];
    let data = asked("slow").to_string();
    let slow = app.send("POST", "/api/v1/orchestrate", &asking, data.as_bytes());
    let delete = async {
        called(&server, 1).await;
        let headers = [("x-api-key", BOOT), ("if-match", etag.as_str())];
        app.send("DELETE", &format!("{tenant}?reason=left"), &headers, b"").await
    };
    let (answer, gone) = futures_util::future::join(slow, delete).await;
    assert_eq!((answer.status, gone.status), (200, 204), "{} {}", answer.text, gone.text);
    let store = &app.api.deps.store;
    let nova = || TenantId::parse("nova").unwrap();
    let page = detector_orchestrator::store::Page { limit: 9, before: None };
    let jobs = async || store.jobs(nova(), None, page).await.unwrap();
    assert_eq!(jobs().await.len(), 1, "what ran became no job");
    assert_eq!(store.dead_letters(None, page).await.unwrap(), []);
    let requeue = format!("/api/v1/admin/dlq/{letter}/requeue");
    let refused = send(&app, "POST", &requeue, BOOT, &json!({"reason": "again"})).await;
    assert_eq!(refused.status, 404, "{}", refused.text);
    // As another instance may take one in that has not heard of it yet.
    add(&app, "nova").await;
    let begun = Instant::now();
    loop {
        let late = jobs().await.remove(0).value;
        if late.state == JobState::Failed {
            assert_eq!(
                (late.has_payload, late.error.unwrap().code.as_str()),
                (false, "TENANT_MISMATCH")
            );
            return;
        }
        assert!(begun.elapsed() < SOON, "{late:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_a_move_would_not_hear_of_its_body_is_refused_at_its_place() {
    let app = spawn().await;
    let letter = given_up(&app, "default").await;
    for what in ["pause", "resume", "cancel", "retry"] {
        let path = format!("{JOBS}/{letter}/{what}");
        let refused = app.post(&path, &json!({"reason": "mended"})).await;
        let told = refused.json();
        assert_eq!((refused.status, &told["code"]), (400, &json!("INVALID_REQUEST")), "{told}");
        assert_eq!(told["errors"][0]["pointer"], "/reason", "{told}");
        assert!(told["detail"].as_str().unwrap().contains("?reason="), "{told}");
    }
    let path = format!("{JOBS}/{letter}/retry?reason=mended");
    let bare = app.send("POST", &path, &[], b"").await;
    assert_eq!(bare.status, 200, "{}", bare.text);
}
