//! When a job is tried again, and when its end is at hand.

use super::*;

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
