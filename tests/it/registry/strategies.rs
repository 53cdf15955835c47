//! Strategies that operators store beside the file's.

use super::*;

const CONFIG: &str = "/api/v1/orchestrator/config";

fn event(name: &str, detectors: &[&str]) -> Value {
    json!({"event": name, "detectors": detectors, "execution": "sequential"})
}

#[tokio::test]
async fn stored_strategies_stand_beside_the_files_and_survive_a_restart() {
    let app = spawn_with(|_| {}).await;
    let list = app.get(CONFIG).await.json()["strategies"].clone();
    let files = list.as_array().unwrap().len();
    let mut all = list.as_array().unwrap().clone();
    all.push(event("ticket.opened", &["toxicity"]));
    // What GET answers may be sent back whole.
    let body =
        json!({"success": true, "totalEvents": files, "strategies": all, "reason": "a test"});
    let put = write(&app, ("PUT", CONFIG), &[], &body).await;
    assert_eq!((put.status, &put.json()["totalEvents"]), (200, &json!(files + 1)), "{}", put.text);
    let of = |list: &Value, name: &str| {
        list["strategies"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["event"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(of(&put.json(), "ticket.opened")["source"], "stored");
    assert_eq!(of(&put.json(), "content.submitted")["source"], "file");
    let asks = json!({"content": "x", "event": "ticket.opened", "include": ["plan"]});
    let plan = app.ask(&asks).await.json()["plan"].clone();
    assert_eq!(
        (&plan["event"], &plan["execution"]),
        (&json!("ticket.opened"), &json!("sequential"))
    );
    assert!(plan["optional"].as_array().unwrap().contains(&json!("toxicity")), "{plan:#}");

    let app = app.restart().await;
    let kept = app.get(CONFIG).await;
    assert_eq!(of(&kept.json(), "ticket.opened")["execution"], "sequential");
    let tag = kept.header("etag").to_owned();
    let blind = write(&app, ("PUT", CONFIG), &[], &body).await;
    assert_eq!(blind.status, 428, "{}", blind.text);
    let none = json!({"strategies": [], "reason": "no more"});
    let put = write(&app, ("PUT", CONFIG), &[("if-match", &tag)], &none).await;
    assert_eq!(put.json()["totalEvents"], files, "{}", put.text);
    let stale = write(&app, ("PUT", CONFIG), &[("if-match", &tag)], &none).await;
    assert_eq!(stale.status, 412, "{}", stale.text);
    let act = app.get("/api/v1/audit?limit=1").await.json()["audit"][0].clone();
    assert_eq!((&act["action"], &act["reason"]), (&json!("strategies.put"), &json!("no more")));
}

#[tokio::test]
async fn a_files_event_a_double_one_and_an_unknown_detector_are_refused() {
    let app = spawn_with(|_| {}).await;
    for (strategies, status, pointer) in [
        (json!([event("content.submitted", &[])]), 409, "/strategies/0/event"),
        (json!([event("pull_request.opened", &[])]), 409, "/strategies/0/event"),
        (json!([event("a", &[]), event("a", &[])]), 400, "/strategies/1"),
        (json!([{"event": "a", "aliases": ["b"]}, event("b", &[])]), 400, "/strategies/1"),
        (json!([event("a", &["nobodys"])]), 400, "/strategies/0/detectors/0"),
        (json!([event("", &[])]), 400, "/strategies/0/event"),
        (json!([{"event": "a", "source": "moon"}]), 400, "/strategies/0/source"),
        (json!([{"event": "a", "execution": "backwards"}]), 400, "/strategies/0/execution"),
        (json!([{"event": "a", "weight": 3}]), 400, "/strategies/0/weight"),
    ] {
        let body = json!({"strategies": strategies, "reason": "a test"});
        let put = write(&app, ("PUT", CONFIG), &[], &body).await;
        let problem = put.json();
        assert_eq!(
            (put.status, &problem["errors"][0]["pointer"]),
            (status, &json!(pointer)),
            "{problem:#}"
        );
    }
    let stored = app.api.deps.store.objects("strategies".into()).await.unwrap();
    assert!(stored.is_empty());
}

#[tokio::test]
async fn a_files_strategy_that_comes_later_serves_instead_of_the_stored_one() {
    let app = spawn_with(|_| {}).await;
    let body = json!({"strategies": [event("late", &["pii"])], "reason": "a test"});
    assert_eq!(write(&app, ("PUT", CONFIG), &[], &body).await.status, 200);
    app.edit(
        "config/strategies.yaml",
        "strategies:\n",
        "strategies:\n  late: {description: filed}\n",
    );
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let list = app.get(CONFIG).await.json();
        let late = list["strategies"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["event"] == "late")
            .cloned();
        if late.is_some_and(|late| late["description"] == "filed" && late["source"] == "file") {
            break;
        }
        assert!(Instant::now() < end, "{list:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let warnings = app.get("/api/v1/generations").await.json()["warnings"].clone();
    assert!(warnings.as_array().unwrap().iter().any(|w| w["code"] == "shadowed"), "{warnings:#}");
}
