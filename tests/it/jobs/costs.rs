//! What a job costs, what a refused one does not, and what becomes of jobs while the store is away.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{JOBS, at, batch, job, stands, until};
use crate::access::{BOOT, key, make, send};
use crate::app::{App, spawn_closed_with, write};
use crate::events::Stream;
use crate::postgres::Server;
use crate::shared::{Instance, migrated, secret};

fn many(count: usize) -> Value {
    batch(&Value::from(vec![json!({"content": "x"}); count]))
}

async fn used(app: &App, tenant: &str) -> Value {
    let path = format!("/api/v1/quotas/{tenant}");
    send(app, "GET", &path, BOOT, &json!({})).await.json()["used"].clone()
}

#[tokio::test]
async fn a_refused_job_costs_nothing_and_one_that_waits_as_told_is_taken_in() {
    let app = spawn_closed_with(BOOT, |dir| {
        let file = |id: &str, more: &str| {
            let text = format!("schema_version: 1\nid: {id}\n{more}\n");
            write(dir, &format!("config/tenants/{id}.yaml"), &text);
        };
        // The rate as shipped.
        file("acme", "tier: professional\nrate_limit: {per_minute: 1000, burst: 100}");
        file("globex", "tier: starter\nrate_limit: {per_minute: 60, burst: 9}");
    })
    .await;
    let acme = key(&app, json!({"roles": ["app"], "tenant": "acme"})).await;
    let globex = key(&app, json!({"roles": ["app"], "tenant": "globex"})).await;
    let post = async |key: &str, body: &Value| send(&app, "POST", JOBS, key, body).await;
    assert_eq!(post(&acme, &many(100)).await.status, 202);
    assert_eq!(used(&app, "acme").await, 100);
    // The request itself finds a token, and none for what it brings.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let refused = post(&acme, &many(100)).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("RATE_LIMITED")));
    assert_eq!(used(&app, "acme").await, 100, "nothing is judged");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    tokio::time::sleep(Duration::from_secs(wait)).await;
    let taken = post(&acme, &many(100)).await;
    assert_eq!(taken.status, 202, "it waited {wait} s as told: {}", taken.text);
    assert_eq!(used(&app, "acme").await, 200);

    // More than the bucket can ever hold.
    let never = post(&globex, &many(10)).await;
    assert_eq!((never.status, &never.json()["code"]), (400, &json!("BATCH_TOO_LARGE")));
    assert_eq!(never.json()["errors"][0]["pointer"], "/job_data/requests", "{}", never.text);
    assert_eq!(never.header("retry-after"), "");
    // Five jobs a day; the sixth is nowhere counted.
    for _ in 0..5 {
        assert_eq!(post(&globex, &many(1)).await.status, 202);
    }
    let sixth = post(&globex, &many(2)).await;
    assert_eq!((sixth.status, &sixth.json()["code"]), (429, &json!("QUOTA_EXCEEDED")));
    assert_eq!(used(&app, "globex").await, 5);
}

#[tokio::test]
async fn a_job_of_a_key_that_is_revoked_meanwhile_is_not_carried_out() {
    let app = spawn_closed_with(BOOT, |_| {}).await;
    let made = make(&app, json!({"roles": ["app"], "tenant": "acme"})).await;
    let mut later = job(&json!({"content": "x"}));
    let soon = jiff::Timestamp::now() + jiff::Span::new().seconds(2);
    later["not_before"] = json!(soon.to_string());
    let waiting = send(&app, "POST", JOBS, made["key"].as_str().unwrap(), &later).await;
    assert_eq!(waiting.status, 202, "{}", waiting.text);
    let path = format!("/api/v1/keys/{}?reason=leaked", made["prefix"].as_str().unwrap());
    assert_eq!(send(&app, "DELETE", &path, BOOT, &json!({})).await.status, 204);
    let viewer = key(&app, json!({"roles": ["viewer"], "tenant": "acme"})).await;
    let failed = until(&app, &at(&waiting.json()), &viewer, stands("failed")).await;
    assert_eq!(failed["error"]["code"], "UNAUTHORIZED", "{failed}");
    assert!(failed["error"]["message"].as_str().unwrap().contains("revoked"), "{failed}");
}

#[tokio::test]
async fn while_the_database_is_away_callers_are_told_so_and_not_that_they_may_not() {
    let server = Arc::new(Server::start());
    let url = migrated(&server);
    let instance = Instance::start(&url);
    let made = instance.key("acme").await;
    let own = secret(&made);
    let address = instance.address();
    let mut stream = Stream::open(address, &[("x-api-key", own)]).await;
    let asked = async |method: &str, path: &str, body: &Value| {
        let answer = instance.send(method, path, own, body).await;
        (answer.status, answer.json()["code"].clone(), answer.json()["retryable"].clone())
    };
    let ack = json!({"group": "g", "ids": ["0".repeat(64)]});
    let routes = [
        ("GET", "/api/v1/events", json!({})),
        ("GET", JOBS, json!({})),
        ("POST", "/api/v1/events/ack", ack),
        ("POST", JOBS, job(&json!({"content": "x"}))),
    ];
    for (method, path, body) in &routes {
        assert!(asked(method, path, body).await.0 < 300, "{method} {path}");
    }
    // What is asked of it has no answer for a while; others fill the pool.
    let name = url.rsplit('/').next().unwrap().to_owned();
    let locking = {
        let (server, name) = (Arc::clone(&server), name.clone());
        let lock = "BEGIN; LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4)";
        std::thread::spawn(move || server.sql(&name, lock))
    };
    let locked = "SELECT count(*) FROM pg_locks WHERE relation = 'jobs'::regclass \
                  AND mode = 'AccessExclusiveLock' AND granted";
    while server.sql(&name, locked) != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = futures_util::future::join_all((0..12).map(|_| asked("POST", JOBS, &routes[3].2)));
    let later = async {
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        let mut answers = Vec::new();
        for _ in 0..20 {
            answers.push(asked("POST", JOBS, &routes[3].2).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        answers
    };
    let (_, later) = tokio::join!(first, later);
    let away = (503, json!("STORE_UNAVAILABLE"), json!(true));
    assert!(later.iter().all(|answer| *answer == away), "{later:?}");
    locking.join().unwrap();
    server.kill();
    // Long enough for the key's last answer of the store to be stale.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    for (method, path, body) in &routes {
        let answer = asked(method, path, body).await;
        assert_eq!(answer, away, "{method} {path}");
    }
    let away = stream.until("away").await;
    assert!(away.data["resume_after"].is_string(), "{away:?}");
    assert_eq!(stream.next().await, None);
}
