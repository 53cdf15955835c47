//! Detectors come and go while requests run.

use super::*;

/// Times that the detector is added and removed.
const ROUNDS: usize = 20;
/// Clients that ask all the time.
const CLIENTS: usize = 4;

#[tokio::test]
async fn adding_and_removing_a_detector_under_load_loses_nothing() {
    let server = service("clean", &["toxicity"]).await;
    let app = spawn_with(|_| {}).await;
    // This policy asks every detector.
    let ask = |content: &str, include: Value| json!({"content": content, "policy": "strict", "include": include});
    let first = app.ask(&ask("Mail ana@evil.io", json!([]))).await.json();
    let action = first["action"].clone();
    assert_ne!(action, "allow", "{first:#}");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let done = || stop.load(std::sync::atomic::Ordering::Relaxed);
    let (app, done, ask, action) = (&app, &done, &ask, &action);
    let client = async |number: usize| {
        let (mut answered, mut with) = (0, 0);
        while !done() {
            let content = format!("Mail ana@evil.io {number} {answered}");
            let body = ask(&content, json!(["detectors", "plan"]));
            let answer = app.ask(&body).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let answer = answer.json();
            let whole = |list: &Value| list.as_array().unwrap().len();
            let plan = whole(&answer["plan"]["required"]) + whole(&answer["plan"]["optional"]);
            let reports = answer["detectors"].as_array().unwrap();
            assert_eq!((plan, &answer["action"]), (reports.len(), action), "{answer:#}");
            // Under the set it began with a detector is known, and is asked or not in service yet.
            for report in reports {
                assert_ne!(report["error"], "not_registered", "{answer:#}");
            }
            answered += 1;
            with += usize::from(reports.iter().any(|report| report["name"] == "passing"));
        }
        (answered, with)
    };
    let changes = async || {
        let at = format!("{AT}/passing");
        for round in 0..ROUNDS {
            assert_eq!(register(app, &[], &native("passing", &server)).await.status, 201);
            let view = until(app, &[], &at, ("status", json!("active"))).await;
            let tag = format!("\"{}\"", view["stored"]["etag"].as_str().unwrap());
            let body = ask(&format!("x {round}"), json!(["detectors"]));
            app.ask_until(&body, |answer| answer["detectors"].to_string().contains("passing"))
                .await;
            let path = format!("{at}?reason=round");
            let gone = write(app, ("DELETE", &path), &[("if-match", &tag)], &json!({})).await;
            assert_eq!(gone.status, 204, "{}", gone.text);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let clients = futures_util::future::join_all((0..CLIENTS).map(client));
    let (counts, ()) = tokio::join!(clients, changes());
    let answered: usize = counts.iter().map(|(answered, _)| answered).sum();
    let with: usize = counts.iter().map(|(_, with)| with).sum();
    println!("{answered} answers, {with} with the detector, 0 failed, {ROUNDS} rounds");
    assert!(with > 0 && with < answered, "{with} of {answered}");
}
