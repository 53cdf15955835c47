//! `Idempotency-Key`: however often and wherever a request comes, it is carried out once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::access::BOOT;
use crate::app::{Answer, App, spawn_closed, spawn_with, write};

mod shared;

const ONE: &str = "/api/v1/orchestrate";
const BATCH: &str = "/api/v1/orchestrate/batch";

/// The shipped service with the detector `vendor`, which takes so long.
async fn spawn(delay_ms: u64) -> (App, MockServer) {
    let server = vendor(delay_ms).await;
    let app = spawn_with(|dir| attach(dir, &server)).await;
    (app, server)
}

pub async fn vendor(delay_ms: u64) -> MockServer {
    let server = MockServer::start().await;
    let finding = json!({"label": "rude", "score": 0.9, "start": 0, "end": 4});
    let reply = ResponseTemplate::new(200).set_body_json(json!({"findings": [finding]}));
    let reply = reply.set_delay(Duration::from_millis(delay_ms));
    Mock::given(method("POST")).respond_with(reply).mount(&server).await;
    server
}

pub fn attach(dir: &std::path::Path, server: &MockServer) {
    let detector = format!(
        "name: vendor\nprotocol: native\nendpoint: {}/judge\ncategories: [toxicity]\n\
         timeout: 20s\nhealth: {{path: ''}}\nretry: {{attempts: 1}}\n",
        server.uri()
    );
    write(dir, "detectors/vendor.yaml", &detector);
}

pub fn asked(content: &str) -> Value {
    json!({"content": content, "detectors": {"add": ["vendor"]}, "timeout_ms": 20_000})
}

async fn post(app: &App, path: &str, key: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    app.send("POST", path, &headers, body.to_string().as_bytes()).await
}

pub async fn calls(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

/// Until so many calls have come.
pub async fn called(server: &MockServer, count: usize) {
    while calls(server).await < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == "true"
}

pub fn code(answer: &Answer) -> (u16, Value) {
    (answer.status, answer.json()["code"].clone())
}

#[tokio::test]
async fn a_thousand_posts_of_one_key_are_one_execution_and_equal_bytes() {
    let (app, server) = spawn(1_500).await;
    let body = asked("rude words to ana@evil.io");
    let all = join_all((0..1_000).map(|_| post(&app, ONE, "one", &body))).await;
    assert_eq!(calls(&server).await, 1, "it was carried out more than once");
    let (answered, refused): (Vec<_>, Vec<_>) = all.iter().partition(|a| a.status == 200);
    assert!(answered.len() >= 33, "{} answered", answered.len());
    assert_eq!(answered.iter().filter(|answer| !replayed(answer)).count(), 1);
    assert!(answered.iter().all(|answer| answer.text == answered[0].text));
    for answer in &refused {
        assert_eq!(code(answer), (409, json!("IDEMPOTENCY_IN_FLIGHT")));
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
    println!("{} answered alike, {} refused, 1 execution", answered.len(), refused.len());
    let late = post(&app, ONE, "one", &body).await;
    assert!(late.text == answered[0].text && replayed(&late), "{}", late.text);
    assert_eq!(calls(&server).await, 1);
    let metrics = app.get("/metrics").await.text;
    let count = |result: &str| format!("idempotent_requests_total{{result=\"{result}\"}}");
    assert!(metrics.contains(&format!("{} 1\n", count("executed"))), "{metrics}");
    assert!(metrics.contains(&format!("{} {}\n", count("in_flight"), refused.len())));
}

#[tokio::test]
async fn a_replay_is_the_first_answer_byte_for_byte_in_every_shape_and_style() {
    let (app, _server) = spawn(0).await;
    let call = json!({"id": "c1", "type": "function", "function": {"name": "mail",
        "arguments": r#"{"to": "ana@evil.io", "ana@evil.io": 4111111111111111}"#}});
    let chat = json!([{"role": "user", "content": "I am bo@evil.io"},
        {"role": "assistant", "content": null, "tool_calls": [call]}]);
    let parts = json!([{"type": "text", "text": "👩‍👧 Mail ana@evil.io"},
        {"type": "image_url", "image_url": {"url": "http://x"}}]);
    let mut n = 0;
    for style in ["label", "numbered", "mask", "hash", "preserve"] {
        for mut body in [
            json!({"content": "Mail ana@evil.io and ana@evil.io, key AKIAZ3VQ7JRTLWXK5P2D"}),
            json!({"messages": chat, "judge": "all"}),
            json!({"content": parts, "offsets": "utf16"}),
            json!({"content": "nothing here"}),
        ] {
            n += 1;
            body["redaction"] = json!({"style": style});
            body["include"] = json!(["all"]);
            let key = format!("key {n}");
            let first = post(&app, ONE, &key, &body).await;
            let again = post(&app, ONE, &key, &body).await;
            // What opens the commitment to the content is told once.
            let salt = first.json()["evidence"]["receipt"]["salt"].as_str().unwrap().to_owned();
            let told = first.text.replace(&format!(r#","salt":"{salt}""#), "");
            assert!(told.len() < first.text.len() && salt.len() == 64, "{salt}");
            assert_eq!((first.status, told), (again.status, again.text.clone()));
            assert_eq!(first.headers["x-policy-revision"], again.headers["x-policy-revision"]);
            assert_eq!(first.headers["content-type"], again.headers["content-type"]);
            assert_ne!(first.headers["x-request-id"], again.headers["x-request-id"]);
            assert!(replayed(&again) && !first.headers.contains_key("idempotent-replayed"));
        }
    }
    let plain = json!({"content": "Mail ana@evil.io"});
    let redacted = post(&app, ONE, "plain", &plain).await.json()["content"].clone();
    assert_eq!(redacted, json!("Mail [EMAIL]"));
    assert_eq!(post(&app, ONE, "plain", &plain).await.json()["content"], redacted);
}

#[tokio::test]
async fn another_body_another_key_and_what_may_end_otherwise_are_told_apart() {
    let (app, server) = spawn(0).await;
    let (one, other) = (asked("one"), asked("zebra"));
    assert_eq!(post(&app, ONE, "k", &one).await.status, 200);
    let refused = post(&app, ONE, "k", &other).await;
    assert_eq!(code(&refused), (422, json!("IDEMPOTENCY_MISMATCH")));
    assert!(!refused.text.contains("zebra"), "{}", refused.text);
    assert!(!replayed(&post(&app, ONE, "k2", &other).await));
    let spaced = r#"{"timeout_ms":2e4,"detectors":{"add":["vendor"]},"content":"on\u0065"}"#;
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let same = app.send("POST", ONE, &headers, spaced.as_bytes()).await;
    assert_eq!(same.status, 400, "a float is no timeout: {}", same.text);
    let spaced = spaced.replace("2e4", " 20000");
    let same = app.send("POST", ONE, &headers, spaced.as_bytes()).await;
    assert!(replayed(&same), "the value counts, not how it is written: {}", same.text);
    assert_eq!(calls(&server).await, 2);
    let wrong = json!({"content": "x", "policy": "nowhere"});
    let first = post(&app, ONE, "refused", &wrong).await;
    let again = post(&app, ONE, "refused", &wrong).await;
    assert_eq!(code(&first), (400, json!("POLICY_NOT_FOUND")));
    assert!(first.text == again.text && replayed(&again), "{}", again.text);
    assert_eq!(again.header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn keys_that_are_none_and_numbers_that_pass_for_others_are_refused_with_advice() {
    let app = crate::app::spawn().await;
    let body = json!({"content": "x"});
    let bytes = body.to_string();
    let long = "k".repeat(256);
    for keys in [&[""][..], &["ü"], &[&long], &["a", "b"]] {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(keys.iter().map(|key| ("idempotency-key", *key)));
        let refused = app.send("POST", ONE, &headers, bytes.as_bytes()).await;
        assert_eq!(code(&refused), (400, json!("INVALID_REQUEST")), "{keys:?}");
        assert!(refused.text.contains("1 to 255 printable ASCII"), "{}", refused.text);
    }
    assert_eq!(post(&app, ONE, &"~ ".repeat(127), &body).await.status, 200);
    let inexact = json!({"content": "x", "metadata": {"id": 9_007_199_254_740_993_u64}});
    let refused = post(&app, ONE, "n", &inexact).await;
    assert_eq!(refused.json()["errors"][0]["pointer"], "/metadata/id", "{}", refused.text);
    assert_eq!(app.post(ONE, &inexact).await.status, 200, "without a key it is judged");
}

#[tokio::test]
async fn another_tenants_same_key_is_another_request_and_replays_cost_no_quota() {
    let app = spawn_closed(BOOT).await;
    let key = async |tenant: &str| {
        let wanted = json!({"label": "t", "reason": "t", "tenant": tenant, "roles": ["app"]});
        let headers = [("content-type", "application/json"), ("x-api-key", BOOT)];
        let made = app.send("POST", "/api/v1/keys", &headers, wanted.to_string().as_bytes()).await;
        made.json()["key"].as_str().unwrap().to_owned()
    };
    let (acme, globex) = (key("acme").await, key("globex").await);
    let ask = async |key: &str, content: &str| {
        let headers =
            [("content-type", "application/json"), ("x-api-key", key), ("idempotency-key", "same")];
        app.send("POST", ONE, &headers, json!({"content": content}).to_string().as_bytes()).await
    };
    let mine = ask(&acme, "Mail ana@evil.io").await;
    assert_eq!(mine.status, 200, "{}", mine.text);
    for content in ["Mail ana@evil.io", "Mail bo@evil.io"] {
        let theirs = ask(&globex, content).await;
        let replay = content.contains("bo@");
        assert!(!replayed(&theirs), "{}", theirs.text);
        assert_eq!(theirs.status, if replay { 422 } else { 200 }, "{}", theirs.text);
        assert_ne!(theirs.json()["request_id"], mine.json()["request_id"]);
    }
    let used = async |tenant: &str| {
        let path = format!("/api/v1/quotas/{tenant}");
        let quota = app.send("GET", &path, &[("x-api-key", BOOT)], b"").await.json();
        (quota["usage"]["requests"].clone(), quota)
    };
    let before = used("acme").await;
    for _ in 0..5 {
        let again = ask(&acme, "Mail ana@evil.io").await;
        assert!(replayed(&again) && again.text == mine.text);
        assert!(!again.header("ratelimit-remaining").is_empty(), "rates count it");
    }
    assert_eq!(used("acme").await, before, "a replay judges nothing");
}

#[tokio::test]
async fn a_caller_who_leaves_finds_the_answer_when_it_comes_back() {
    let (app, server) = spawn(700).await;
    let body = asked("rude words");
    tokio::select! {
        answer = post(&app, ONE, "left", &body) => panic!("too soon: {}", answer.text),
        () = called(&server, 1) => {}
    }
    let again = post(&app, ONE, "left", &body).await;
    assert!(again.status == 200 && replayed(&again), "{}", again.text);
    assert_eq!(calls(&server).await, 1, "its run went on");
}

#[tokio::test]
async fn while_the_store_is_away_nothing_under_a_key_is_carried_out_and_all_else_is() {
    let (app, server) = spawn(0).await;
    app.api.deps.store.close();
    for n in 0..8 {
        let refused = post(&app, ONE, &format!("k{n}"), &asked("x")).await;
        assert_eq!(code(&refused), (503, json!("STORE_UNAVAILABLE")));
        let batch = post(&app, BATCH, &format!("b{n}"), &json!({"requests": [asked("x")]})).await;
        assert_eq!(code(&batch), (503, json!("STORE_UNAVAILABLE")));
    }
    assert_eq!(calls(&server).await, 0);
    assert_eq!(app.post(ONE, &asked("x")).await.status, 200);
}

#[tokio::test]
async fn a_key_lives_through_a_restart_and_is_forgotten_after_a_day() {
    let (app, server) = spawn(0).await;
    let body = asked("canary words to canary@zq7.example");
    let first = post(&app, ONE, "canary-key", &body).await;
    let app = app.restart().await;
    let again = post(&app, ONE, "canary-key", &body).await;
    assert!(again.text == first.text && replayed(&again), "{}", again.text);
    let age = |hours: u32| {
        let file = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
        let sql = "UPDATE claims SET forget_at_ms = forget_at_ms - ?1";
        assert_eq!(file.execute(sql, [hours * 3_600_000]).unwrap(), 1);
    };
    age(23);
    assert!(replayed(
        &post(&app, ONE, "canary-key", &asked("canary words to canary@zq7.example")).await
    ));
    age(1);
    let anew = post(&app, ONE, "canary-key", &asked("another")).await;
    assert!(anew.status == 200 && !replayed(&anew), "{}", anew.text);
    assert_eq!(calls(&server).await, 2);
    // The cases of the shipped policies, which the file holds too, know the placeholder.
    let file = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
    let kept: Vec<u8> =
        file.query_row("SELECT answer FROM claims", [], |row| row.get("answer")).unwrap();
    assert!(!kept.is_empty() && !kept.windows(7).any(|window| window == b"[EMAIL]"));
    for name in ["orchestrator.db", "orchestrator.db-wal"] {
        let file = std::fs::read(app.path("data").join(name)).unwrap();
        for canary in ["canary", "zq7.example"] {
            let found = file.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{name} holds {canary}");
        }
    }
}

#[tokio::test]
async fn a_batch_is_judged_once_and_one_that_broke_off_goes_on_where_it_was() {
    let (app, server) = spawn(0).await;
    let bad = json!({"content": "x", "metadata": 1});
    let requests = json!([asked("rude ana@evil.io"), bad, asked("rude ana@evil.io"), asked("b")]);
    let body = json!({"requests": requests});
    let first = post(&app, BATCH, "b", &body).await;
    let kinds =
        |answer: &Answer| (answer.json()["succeeded"].clone(), answer.json()["failed"].clone());
    assert_eq!(kinds(&first), (json!(3), json!(1)), "{}", first.text);
    let made = calls(&server).await;
    let again = post(&app, BATCH, "b", &body).await;
    assert!(again.text == first.text && replayed(&again), "{}\n{}", first.text, again.text);
    let other = json!({"requests": [asked("c")]});
    assert_eq!(code(&post(&app, BATCH, "b", &other).await), (422, json!("IDEMPOTENCY_MISMATCH")));
    let one = post(&app, ONE, "b", &asked("b")).await;
    assert!(!replayed(&one), "a key belongs to its route");

    // The service was killed when the batch had been judged in part: its own row has no answer yet.
    let file = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
    let batch = "(SELECT max(length(answer)) FROM claims)";
    let sql = format!(
        "UPDATE claims SET answer = NULL, leased_until_ms = 0 WHERE length(answer) = {batch}"
    );
    assert_eq!(file.execute(&sql, []).unwrap(), 1);
    let before = calls(&server).await;
    let taken_up = post(&app, BATCH, "b", &body).await;
    assert!(!replayed(&taken_up));
    assert_eq!(calls(&server).await, before, "what was judged is not judged again");
    let lasting = |answer: &Answer| {
        let all = answer.json()["results"].as_array().unwrap().clone();
        all.into_iter().map(|item| item["response"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(lasting(&taken_up), lasting(&first));
    assert!((1..=3).contains(&made), "{made} calls for three requests");
}

#[tokio::test]
async fn whoever_finds_a_claim_of_the_dead_takes_over_when_its_lease_ends() {
    let (app, server) = spawn(0).await;
    let body = asked("x");
    assert_eq!(post(&app, ONE, "dead", &body).await.status, 200);
    let lease = |ms: i64| {
        let file = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
        let sql = "UPDATE claims SET answer = NULL, leased_until_ms = \
                   CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?1";
        assert_eq!(file.execute(sql, [ms]).unwrap(), 1);
    };
    lease(60_000);
    let begun = Instant::now();
    let mut hurried = body.clone();
    hurried["timeout_ms"] = json!(300);
    // Another deadline is another body.
    assert_eq!(post(&app, ONE, "dead", &hurried).await.status, 422);
    lease(1_000);
    let heir = post(&app, ONE, "dead", &body).await;
    assert!(heir.status == 200 && !replayed(&heir), "{}", heir.text);
    assert!(begun.elapsed() >= Duration::from_millis(900), "it did not wait for the lease");
    assert_eq!(calls(&server).await, 2);
}
