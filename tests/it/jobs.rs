//! Jobs: durable, carried out in turn, tried again, told of, and stopped where their callers say so.

use std::time::{Duration, Instant};

use detector_orchestrator::domain::id::TenantId;
use detector_orchestrator::domain::job::{JobId, JobKey, JobState, JobType};
use detector_orchestrator::domain::request::Priority;
use detector_orchestrator::store::NewJob;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::access::{BOOT, key, make, send};
use crate::app::{Answer, App, spawn, spawn_closed, spawn_closed_with, spawn_with, write};
use crate::idempotency::{asked, attach, called, calls, vendor};

mod costs;
mod data_keys;
mod limits;
mod tries;
mod webhooks;

pub use limits::dead_telling;

const JOBS: &str = "/api/v1/jobs";
/// Everything that is waited for comes within this on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn batch(requests: &Value) -> Value {
    json!({"job_type": "batch", "job_data": {"requests": requests}})
}

fn job(data: &Value) -> Value {
    json!({"job_type": "orchestrate", "job_data": data})
}

async fn taken(app: &App, body: &Value) -> Value {
    let answer = app.post(JOBS, body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.header("location"), answer.json()["status_url"].as_str().unwrap());
    answer.json()
}

fn at(job: &Value) -> String {
    format!("{JOBS}/{}", job["job_id"].as_str().unwrap())
}

/// Looks at `path` until `holds`.
async fn until(app: &App, path: &str, key: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let answer = send(app, "GET", path, key, &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        if holds(&answer.json()) {
            return answer.json();
        }
        assert!(begun.elapsed() < SOON, "never: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn stands(state: &'static str) -> impl Fn(&Value) -> bool {
    move |job| job["state"] == state
}

/// A job of `tenant` in the store, whose content cannot be opened.
async fn add(app: &App, tenant: &str) -> JobKey {
    let of = JobKey { tenant: TenantId::parse(tenant).unwrap(), id: JobId::of(Uuid::now_v7()) };
    let broken = NewJob {
        of: of.clone(),
        job_type: JobType::Orchestrate,
        priority: Priority::Normal,
        cost: 1,
        payload: vec![1, 2, 3],
        callback: None,
        not_before_ms: None,
        expires_at_ms: None,
        key: None,
        most_a_day: None,
        actor: "a test".to_owned(),
        begun_by: None,
    };
    app.api.deps.store.add_job(broken).await.unwrap();
    of
}

/// A dead letter of `tenant`: its content cannot be opened. Its id.
pub async fn given_up(app: &App, tenant: &str) -> String {
    let (of, store) = (add(app, tenant).await, &app.api.deps.store);
    let begun = Instant::now();
    while store.job(of.clone()).await.unwrap().unwrap().state != JobState::Failed {
        assert!(begun.elapsed() < SOON, "it was never given up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    of.id.to_string()
}

#[tokio::test]
async fn a_job_is_judged_as_the_request_would_be_and_its_content_is_nowhere_at_rest() {
    let app = spawn().await;
    let data = json!({"content": "Mail canary@evil.io"});
    let now = app.ask(&data).await.json();
    let made = taken(&app, &job(&data)).await;
    assert_eq!(made["callback_secret"], Value::Null);
    let done = until(&app, &at(&made), "", stands("completed")).await;
    assert_eq!((&done["progress"], &done["attempts"]), (&json!(1.0), &json!(1)));
    assert_eq!(
        (&done["result"]["action"], &done["result"]["content"]),
        (&now["action"], &now["content"])
    );
    let moves = app.get(&format!("{}/transitions", at(&made))).await.json();
    let states: Vec<_> = moves["transitions"].as_array().unwrap().iter().collect();
    let told: Vec<_> = states.iter().map(|m| (m["number"].as_u64(), m["to"].as_str())).collect();
    assert_eq!(
        told,
        [(Some(1), Some("queued")), (Some(2), Some("running")), (Some(3), Some("completed"))]
    );
    let tries = app.get(&format!("{}/attempts", at(&made))).await.json();
    assert_eq!(tries["attempts"][0]["ended"], "completed", "{tries}");
    let listed = app.get(&format!("{JOBS}?state=completed")).await.json();
    assert_eq!(listed["jobs"][0]["job_id"], made["job_id"]);
    assert_eq!(app.get(&format!("{JOBS}?state=queued")).await.json()["jobs"], json!([]));
    assert_eq!(app.get("/api/v1/workflows").await.json()["workflows"][1]["job_type"], "batch");
    let metrics = app.get("/metrics").await.text;
    assert!(metrics.contains("orchestrator_jobs_completed_total{state=\"completed\"} 1"));
    let dir = app.stop();
    for file in std::fs::read_dir(dir.path().join("data")).unwrap() {
        let path = file.unwrap().path();
        let bytes = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        assert!(!bytes.windows(6).any(|w| w == b"canary"), "{} holds content", path.display());
    }
}

#[tokio::test]
async fn what_the_request_would_be_refused_for_is_refused_at_its_place() {
    let app = spawn().await;
    for (body, pointer) in [
        (json!({"job_type": "orchestrate", "job_data": {"content": ""}}), "/job_data/content"),
        (json!({"job_type": "orchestrate", "job_data": {"content": "x", "y": 1}}), "/job_data/y"),
        (json!({"job_type": "batch", "job_data": {"requests": []}}), "/job_data/requests"),
        (json!({"job_type": "sing", "job_data": {}}), "/job_type"),
        (
            json!({"job_type": "orchestrate", "job_data": {"content": "x"}, "priority": "now"}),
            "/priority",
        ),
        (
            json!({"job_type": "orchestrate", "job_data": {"content": "x"}, "not_before": "soon"}),
            "/not_before",
        ),
        (
            json!({"job_type": "orchestrate", "job_data": {"content": "x"}, "callback_url": "x y"}),
            "/callback_url",
        ),
        (job(&json!({"content": "x", "policy": "nowhere"})), "/job_data/policy"),
        (job(&json!({"content": "x", "detectors": {"add": ["no"]}})), "/job_data/detectors/add/0"),
        (batch(&json!([{"content": "x"}, {"content": ""}])), "/job_data/requests/1/content"),
        (
            batch(&json!([{"content": "x"}, {"content": "x", "policy": "nowhere"}])),
            "/job_data/requests/1/policy",
        ),
    ] {
        let answer = app.post(JOBS, &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{}", answer.text);
    }
    assert_eq!(app.get(JOBS).await.json()["jobs"], json!([]), "a refused job was kept");
    assert_eq!(app.get(&format!("{JOBS}/nonsense")).await.status, 404);
    assert_eq!(app.get(&format!("{JOBS}?state=lost")).await.status, 400);
}

#[tokio::test]
async fn a_job_whose_required_detector_fails_is_tried_again_then_a_dead_letter_until_it_is_requeued()
 {
    let server = MockServer::start().await;
    let failing = Mock::given(method("POST")).respond_with(ResponseTemplate::new(500));
    failing.mount(&server).await;
    let app = spawn_with(|dir| {
        let detector = format!(
            "name: vendor\nprotocol: native\nendpoint: {}/judge\ncategories: [toxicity]\n\
             timeout: 500ms\nhealth: {{path: ''}}\nretry: {{attempts: 1}}\nbreaker: {{failures: 50}}\n",
            server.uri()
        );
        write(dir, "detectors/vendor.yaml", &detector);
    })
    .await;
    let data = json!({"content": "x", "detectors": {"add": ["vendor"]}, "priority": "high"});
    let made = taken(&app, &job(&data)).await;
    let tries = |n: usize| move |list: &Value| list["attempts"].as_array().unwrap().len() >= n;
    let list = until(&app, &format!("{}/attempts", at(&made)), "", tries(3)).await;
    let began: Vec<jiff::Timestamp> = list["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["started_at"].as_str().unwrap().parse().unwrap())
        .collect();
    let rests: Vec<f64> =
        began.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64()).collect();
    // 1 s and 2 s, ± 20 %, and up to a look each second and a busy machine.
    assert!(rests[0] >= 0.8 && rests[1] >= 1.6, "{rests:?}");
    assert_eq!(list["attempts"][0]["error"]["code"], "PARTIAL_COVERAGE", "{list}");
    let path = |what: &str| format!("{}/{what}", at(&made));
    assert_eq!(app.post(&path("cancel"), &json!({})).await.status, 200);

    // Where another try cannot help there is none, and one dead letter.
    let letter = given_up(&app, "default").await;
    let dead = app.get("/api/v1/admin/dlq").await.json();
    assert_eq!(dead["dead_letters"].as_array().unwrap().len(), 1, "{dead}");
    let one = &dead["dead_letters"][0];
    assert_eq!((&one["id"], &one["attempts"]), (&json!(letter), &json!(1)), "{one}");
    assert_eq!(one["last_error"]["code"], "INTERNAL_ERROR");
    let resume = app.post(&format!("{JOBS}/{letter}/resume"), &json!({})).await;
    assert_eq!((resume.status, &resume.json()["from"]), (409, &json!("failed")), "{}", resume.text);
    let requeue = format!("/api/v1/admin/dlq/{letter}/requeue");
    assert_eq!(app.post(&requeue, &json!({"reason": "mended"})).await.status, 200);
    let both = |list: &Value| list["attempts"][1]["ended"] == "failed";
    until(&app, &format!("{JOBS}/{letter}/attempts"), "", both).await;
    let discard = format!("/api/v1/admin/dlq/{letter}/discard");
    assert_eq!(app.post(&discard, &json!({"reason": "no use"})).await.status, 200);
    assert_eq!(app.get("/api/v1/admin/dlq").await.json()["dead_letters"], json!([]));
    let retry = app.post(&format!("{JOBS}/{letter}/retry"), &json!({})).await;
    assert_eq!((retry.status, &retry.json()["code"]), (409, &json!("INVALID_STATE_TRANSITION")));
}

#[tokio::test]
async fn a_caller_stops_a_job_with_its_calls_and_lets_it_go_on_as_the_same_try() {
    let server = vendor(3_000).await;
    let app = spawn_with(|dir| attach(dir, &server)).await;
    let made = taken(&app, &job(&asked("rude"))).await;
    called(&server, 1).await;
    let path = |what: &str| format!("{}/{what}", at(&made));
    assert_eq!(app.post(&path("pause"), &json!({})).await.json()["state"], "paused");
    let illegal = app.post(&path("pause"), &json!({})).await;
    assert_eq!(illegal.status, 409, "{}", illegal.text);
    let told = illegal.json();
    assert_eq!(
        (&told["code"], &told["from"], &told["to"], &told["allowed"]),
        (
            &json!("INVALID_STATE_TRANSITION"),
            &json!("paused"),
            &json!("paused"),
            &json!(["queued", "failed", "cancelled"])
        )
    );
    // What was asked is not waited for: nothing is active.
    let retried = app.post(&path("retry"), &json!({})).await;
    assert_eq!(
        (retried.status, &retried.json()["from"]),
        (409, &json!("paused")),
        "{}",
        retried.text
    );
    let idle = |metrics: &str| metrics.contains("orchestrator_jobs_active 0\n");
    let begun = Instant::now();
    while !idle(&app.get("/metrics").await.text) {
        assert!(begun.elapsed() < Duration::from_secs(2), "the call goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(app.post(&path("resume"), &json!({})).await.json()["state"], "queued");
    called(&server, 2).await;
    let done = until(&app, &at(&made), "", stands("completed")).await;
    assert_eq!(done["attempts"], 1, "a pause took a try");

    let made = taken(&app, &job(&asked("other"))).await;
    called(&server, 3).await;
    let tag = app.get(&at(&made)).await.header("etag").to_owned();
    let delete = async |tag: &str| {
        let headers = if tag.is_empty() { vec![] } else { vec![("if-match", tag)] };
        app.send("DELETE", &at(&made), &headers, b"").await
    };
    let code = |answer: &Answer| (answer.status, answer.json()["code"].clone());
    assert_eq!(code(&delete("").await), (428, json!("PRECONDITION_REQUIRED")));
    let stale = delete("\"0123\"").await;
    assert_eq!(code(&stale), (412, json!("PRECONDITION_FAILED")));
    assert_eq!(stale.header("etag"), tag);
    let gone = delete(&tag).await;
    assert_eq!((gone.status, &gone.json()["state"]), (200, &json!("cancelled")), "{}", gone.text);
    let acts = app.get("/api/v1/audit").await.json();
    let acts: Vec<_> =
        acts["audit"].as_array().unwrap().iter().map(|a| a["action"].clone()).collect();
    assert_eq!(acts[..3], ["job.cancel", "job.resume", "job.pause"].map(Value::from));
    assert_eq!(calls(&server).await, 3);
}

#[tokio::test]
async fn nobody_sees_or_moves_the_jobs_of_another_tenant() {
    let app = spawn_closed(BOOT).await;
    let own = key(&app, json!({"roles": ["operator"], "tenant": "acme"})).await;
    let other = key(&app, json!({"roles": ["operator"], "tenant": "globex"})).await;
    let letter = given_up(&app, "acme").await;
    let path = format!("{JOBS}/{letter}");
    for (method, path) in [
        ("GET", path.clone()),
        ("GET", format!("{path}/attempts")),
        ("GET", format!("{path}/transitions")),
        ("POST", format!("{path}/retry")),
        ("POST", format!("{path}/cancel")),
        ("DELETE", path.clone()),
    ] {
        assert_eq!(send(&app, method, &path, &other, &json!({})).await.status, 404, "{path}");
    }
    for what in ["requeue", "discard"] {
        let path = format!("/api/v1/admin/dlq/{letter}/{what}");
        let answer = send(&app, "POST", &path, &other, &json!({"reason": "x"})).await;
        assert_eq!(answer.status, 404, "{}", answer.text);
    }
    let listed =
        async |path: &str, key: &str| send(&app, "GET", path, key, &json!({})).await.json();
    assert_eq!(listed(JOBS, &other).await["jobs"], json!([]));
    assert_eq!(listed("/api/v1/admin/dlq", &other).await["dead_letters"], json!([]));
    assert_eq!(listed("/api/v1/admin/dlq", &own).await["dead_letters"][0]["id"], json!(letter));
    assert_eq!(listed("/api/v1/admin/dlq", BOOT).await["dead_letters"][0]["tenant"], "acme");
}

#[tokio::test]
async fn a_tenant_has_so_many_jobs_a_day_and_is_as_urgent_as_its_key_may_be() {
    let app = spawn_closed_with(BOOT, |dir| {
        write(dir, "config/tenants/acme.yaml", "schema_version: 1\nid: acme\ntier: starter\n");
    })
    .await;
    let low = json!({"roles": ["app"], "tenant": "acme", "max_priority": "low"});
    let own = make(&app, low).await["key"].as_str().unwrap().to_owned();
    let post = async |body: &Value| send(&app, "POST", JOBS, &own, body).await;
    let mut urgent = job(&json!({"content": "x"}));
    urgent["priority"] = json!("critical");
    let exclude = json!({"content": "x", "detectors": {"exclude": ["pii"]}});
    for (body, pointer) in [
        (urgent, "/priority"),
        (job(&json!({"content": "x", "priority": "critical"})), "/job_data/priority"),
        (job(&exclude), "/job_data/detectors/exclude/0"),
        (batch(&json!([{"content": "x"}, exclude])), "/job_data/requests/1/detectors/exclude/0"),
    ] {
        let refused = post(&body).await;
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("INSUFFICIENT_SCOPE")));
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{}", refused.text);
    }
    for n in 0..5 {
        let made = post(&job(&json!({"content": "x"}))).await;
        assert_eq!(made.status, 202, "{n}: {}", made.text);
        let path = at(&made.json());
        let seen = send(&app, "GET", &path, &own, &json!({})).await.json();
        assert_eq!(seen["priority"], "low", "{seen}");
    }
    let sixth = post(&job(&json!({"content": "x"}))).await;
    assert_eq!((sixth.status, &sixth.json()["code"]), (429, &json!("QUOTA_EXCEEDED")));
    assert!(sixth.header("retry-after").parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn a_key_takes_one_job_in_and_gives_its_answer_again() {
    let app = spawn().await;
    let post = async |body: &Value| {
        let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
        app.send("POST", JOBS, &headers, body.to_string().as_bytes()).await
    };
    let body = job(&json!({"content": "x"}));
    let first = post(&body).await;
    let again = post(&body).await;
    assert_eq!((first.status, again.status), (202, 202), "{}", again.text);
    assert_eq!((first.json(), "true"), (again.json(), again.header("idempotent-replayed")));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(post(&job(&json!({"content": "y"}))).await.status, 422);
    assert_eq!(app.get(JOBS).await.json()["jobs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_job_answers_each_request_in_its_place() {
    let app = spawn().await;
    let mut requests = json!([{"content": "Mail ana@evil.io"}, {"content": ""},
        {"content": "x", "tenant_id": "nobody"}, {"content": "nothing"}]);
    let refused = app.post(JOBS, &batch(&requests)).await;
    let faults: Vec<_> = refused.json()["errors"].as_array().unwrap().clone();
    let places: Vec<_> = faults.iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
    assert_eq!(places, ["/job_data/requests/1/content", "/job_data/requests/2/tenant_id"]);
    (requests[1], requests[2]) = (json!({"content": "one"}), json!({"content": "Mail b@evil.io"}));
    let made = taken(&app, &batch(&requests)).await;
    let done = until(&app, &at(&made), "", stands("completed")).await;
    assert_eq!(done["priority"], "batch");
    let results = done["result"]["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|one| one["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200; 4], "{done}");
    for (index, content) in [(0, json!("Mail [EMAIL]")), (2, json!("Mail [EMAIL]"))] {
        assert_eq!(results[index]["response"]["content"], content);
    }
}

async fn prefer(app: &App, body: &Value, more: &[(&str, &str)]) -> Answer {
    let mut headers = vec![("content-type", "application/json"), ("cache-control", "no-store")];
    headers.push(("prefer", "wait=1, Respond-Async"));
    headers.extend(more);
    app.send("POST", "/api/v1/orchestrate", &headers, body.to_string().as_bytes()).await
}

#[tokio::test]
async fn a_request_that_takes_long_becomes_a_job_where_its_caller_prefers_so_and_is_not_begun_anew()
{
    let server = vendor(2_500).await;
    let app = spawn_with(|dir| attach(dir, &server)).await;
    let quick = prefer(&app, &json!({"content": "x", "timeout_ms": 3000}), &[]).await;
    assert_eq!(quick.status, 200, "{}", quick.text);
    let plain = app.ask(&asked("slow and waited for")).await;
    assert_eq!((plain.status, calls(&server).await), (200, 1), "{}", plain.text);

    let begun = Instant::now();
    let slow = prefer(&app, &asked("slow"), &[("idempotency-key", "slow")]).await;
    assert_eq!(slow.status, 202, "{}", slow.text);
    assert!(begun.elapsed() >= Duration::from_millis(1_400), "{:?}", begun.elapsed());
    assert_eq!(slow.json()["state"], "running");
    let done = until(&app, &at(&slow.json()), "", stands("completed")).await;
    assert_eq!(
        (&done["result"]["action"], &done["attempts"]),
        (&plain.json()["action"], &json!(1))
    );
    assert_eq!(calls(&server).await, 2, "it was begun anew");
    let again = prefer(&app, &asked("slow"), &[("idempotency-key", "slow")]).await;
    assert_eq!((again.status, again.json()), (202, slow.json()));
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(calls(&server).await, 2, "a replay asked");
}

#[tokio::test]
async fn what_is_known_to_take_long_becomes_a_job_before_anything_is_asked() {
    let server = vendor(1_700).await;
    let app = spawn_with(|dir| {
        attach(dir, &server);
        let file = dir.join("config/tenants/default.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}\nprefer_async: true\n")).unwrap();
    })
    .await;
    // So many answers make an estimate.
    let first = (0..20).map(|n| {
        let app = &app;
        async move {
            let answer = app.ask(&asked(&format!("request {n}"))).await;
            assert_eq!(answer.status, 202, "{}", answer.text);
            until(app, &at(&answer.json()), "", stands("completed")).await;
        }
    });
    futures_util::future::join_all(first).await;
    let asked_before = calls(&server).await;
    let begun = Instant::now();
    let known = app.ask(&asked("known")).await;
    assert_eq!((known.status, &known.json()["state"]), (202, &json!("queued")), "{}", known.text);
    assert!(begun.elapsed() < Duration::from_millis(1_400), "{:?}", begun.elapsed());
    assert!(known.json()["estimated_ms"].as_f64().unwrap() >= 1_500.0, "{}", known.text);
    until(&app, &at(&known.json()), "", stands("completed")).await;
    assert_eq!(calls(&server).await, asked_before + 1);
}

#[tokio::test]
async fn a_job_that_is_under_way_when_the_service_stops_is_handed_back_and_done_after_the_start() {
    let server = vendor(1_500).await;
    let app = spawn_with(|dir| attach(dir, &server)).await;
    let (made, later) = (taken(&app, &job(&asked("rude"))).await, jiff::Timestamp::now());
    let mut put_off = job(&json!({"content": "y"}));
    put_off["not_before"] = json!((later + jiff::Span::new().seconds(4)).to_string());
    let put_off = taken(&app, &put_off).await;
    called(&server, 1).await;
    let app = app.restart().await;
    let done = until(&app, &at(&made), "", stands("completed")).await;
    assert_eq!(done["attempts"], 1, "a hand-back took a try: {done}");
    let done = until(&app, &at(&put_off), "", stands("completed")).await;
    let moves = app.get(&format!("{}/transitions", at(&put_off))).await.json();
    let began: jiff::Timestamp = moves["transitions"][1]["at"].as_str().unwrap().parse().unwrap();
    assert!(began.duration_since(later).as_millis() >= 3_999, "too early: {done}");
}
