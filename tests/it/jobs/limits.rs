//! What jobs meet when there are too many, when one panics, and when nobody takes their end.

use std::rc::Rc;
use std::sync::Arc;

use detector_orchestrator::api::Api;
use detector_orchestrator::jobs::{self, Crew, Perform, webhook};
use detector_orchestrator::{auth, catalog};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{JOBS, at, job, stands, taken, until};
use crate::access::send;
use crate::app::{App, spawn, spawn_named};
use crate::idempotency::called;

/// Ends of jobs that nobody took.
const DEAD: &str = "/api/v1/admin/dlq?kind=webhooks";

#[tokio::test]
async fn more_jobs_than_may_wait_are_refused_until_fewer_do() {
    let most = ("ORCHESTRATION_JOBS__QUEUED_MAX", "1".to_owned());
    let app = spawn_named(vec![most], |_| {}).await;
    let late = (jiff::Timestamp::now() + jiff::Span::new().hours(20)).to_string();
    let mut put_off = job(&json!({"content": "x"}));
    put_off["not_before"] = json!(late);
    let begun = std::time::Instant::now();
    let waiting = taken(&app, &put_off).await;
    let refused = app.post(JOBS, &put_off).await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("OVERLOADED")));
    assert_eq!(refused.json()["retryable"], true);
    assert!(!refused.header("retry-after").is_empty(), "{:?}", refused.headers);
    let cancel = format!("{}/cancel", at(&waiting));
    assert_eq!(app.post(&cancel, &json!({})).await.status, 200);
    // What was cancelled is noticed at the next count.
    while app.post(JOBS, &put_off).await.status != 202 {
        assert!(begun.elapsed() < super::SOON * 2, "nothing waits any more");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// One worker that panics at the first try of what asks for it.
async fn work(api: &Api, crew: Arc<Crew>) {
    let perform: Perform = Rc::new(|task| {
        async move {
            let first = task.job.attempts == 1;
            assert!(!(first && task.payload.data["content"] == "boom"), "of the test");
            Ok(json!({"tried": task.job.attempts}))
        }
        .boxed_local()
    });
    let guard = Arc::new(catalog::guard(&api.deps.settings).unwrap());
    let webhooks = webhook::Webhooks::new(guard);
    jobs::run(crew, Arc::clone(&api.live), perform, webhooks).await;
}

#[tokio::test]
async fn a_panic_within_a_job_is_a_failed_try_and_the_worker_lives() {
    // The service takes jobs in; who carries them out is the test's.
    let none = ("ORCHESTRATION_JOBS__WORKERS", "0".to_owned());
    let app = spawn_named(vec![none], |_| {}).await;
    let deps = &app.api.deps;
    let settings = &deps.settings;
    let keys = (auth::data_keys(settings).unwrap(), auth::callback_key(settings).unwrap());
    let parts = (Arc::clone(&deps.store), Arc::clone(&deps.bus));
    let one = detector_orchestrator::settings::Jobs { workers: 1, ..settings.jobs.clone() };
    let crew = Arc::new(Crew::new(parts, keys, Arc::clone(&deps.metrics), one));
    let local = tokio::task::LocalSet::new();
    local.spawn_local({
        let (api, crew) = (app.api.clone(), Arc::clone(&crew));
        async move { work(&api, crew).await }
    });
    let seen = local.run_until(async {
        let mut boom = job(&json!({"content": "boom"}));
        boom["priority"] = json!("high");
        let boom = taken(&app, &boom).await;
        let done = until(&app, &at(&boom), "", stands("completed")).await;
        assert_eq!((&done["attempts"], &done["result"]["tried"]), (&json!(2), &json!(2)), "{done}");
        let tries = app.get(&format!("{}/attempts", at(&boom))).await.json();
        let first = &tries["attempts"][0];
        assert_eq!(
            (&first["ended"], &first["error"]["code"]),
            (&json!("retried"), &json!("INTERNAL_ERROR")),
            "{tries}"
        );
        assert!(!tries.to_string().contains("of the test"), "the panic is told: {tries}");
        let calm = taken(&app, &job(&json!({"content": "calm"}))).await;
        until(&app, &at(&calm), "", stands("completed")).await;
        app.get("/metrics").await.text
    });
    let seen = seen.await;
    assert!(seen.contains("orchestrator_panics_total 1\n"), "the panic is counted");
    crew.stop();
    local.await;
}

/// The end of a job of `key` that nobody took, and who did not: the dead letter's id.
pub async fn dead_telling(app: &App, key: &str) -> (String, MockServer) {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    let mut body = job(&json!({"content": "x"}));
    body["callback_url"] = json!(format!("{}/done", server.uri()));
    let made = send(app, "POST", JOBS, key, &body).await;
    assert_eq!(made.status, 202, "{}", made.text);
    called(&server, 1).await;
    // Six tellings take half a minute: they are said to be over.
    let file = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
    file.busy_timeout(super::SOON).unwrap();
    let told = "UPDATE event_deliveries SET count = 6 WHERE count = 1";
    while file.execute(told, []).unwrap() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let one = |list: &Value| list["dead_letters"].as_array().unwrap().len() == 1;
    let dead = until(app, DEAD, key, one).await;
    let letter = &dead["dead_letters"][0];
    assert_eq!((&letter["kind"], &letter["attempts"]), (&json!("webhook"), &json!(7)), "{letter}");
    assert_eq!(letter["job_id"], made.json()["job_id"]);
    (letter["id"].as_str().unwrap().to_owned(), server)
}

#[tokio::test]
async fn an_end_that_nobody_takes_is_a_dead_letter_and_requeued_is_told_anew() {
    let app = spawn().await;
    let (letter, server) = dead_telling(&app, "").await;
    let before = server.received_requests().await.unwrap();
    server.reset().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let path = format!("/api/v1/admin/dlq/{letter}/requeue");
    let again = app.post(&path, &json!({"reason": "it is back"})).await;
    assert_eq!(again.status, 200, "{}", again.text);
    called(&server, 1).await;
    let after = server.received_requests().await.unwrap();
    let id = |request: &wiremock::Request| request.headers["x-delivery-id"].clone();
    assert_eq!(id(&after[0]), id(&before[0]), "the same telling");
    until(&app, DEAD, "", |list| list["dead_letters"] == json!([])).await;
    assert_eq!(app.post(&path, &json!({"reason": "twice"})).await.status, 404);
}
