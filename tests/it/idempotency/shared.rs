//! One key at two instances over one PostgreSQL.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde_json::Value;
use wiremock::MockServer;

use super::{BATCH, ONE, asked, attach, called, calls, code, replayed, vendor};
use crate::app::Answer;
use crate::postgres::Server;
use crate::shared::{Instance, migrated, secret};

/// The shipped files with the detector `vendor`.
fn start(url: &str, vendor: &MockServer) -> Instance {
    Instance::start_with(url, |dir| {
        detector_orchestrator::assets::write_to(dir).unwrap();
        attach(dir, vendor);
    })
}

async fn post(at: &Instance, path: &str, (credential, key): (&str, &str), body: &Value) -> Answer {
    at.send_for(("POST", path), credential, body, &[("idempotency-key", key)]).await
}

#[tokio::test]
async fn two_instances_carry_a_key_out_once_and_a_killed_owner_has_an_heir_in_ten_seconds() {
    let (server, vendor) = (Server::start(), vendor(1_500).await);
    let url = migrated(&server);
    let (a, b) = (start(&url, &vendor), start(&url, &vendor));
    let made = a.key("default").await;
    let credential = secret(&made);

    let body = asked("canary words to canary@evil.io");
    let of = (credential, "canary-key");
    let all = (0..60).map(|n| post(if n % 2 == 0 { &a } else { &b }, ONE, of, &body));
    let all = join_all(all).await;
    assert_eq!(calls(&vendor).await, 1, "it was carried out more than once");
    let answered = |part: usize| {
        let mine = all.iter().skip(part).step_by(2);
        mine.filter(|answer| answer.status == 200).collect::<Vec<_>>()
    };
    let (at_a, at_b) = (answered(0), answered(1));
    assert!(!at_a.is_empty() && !at_b.is_empty(), "{} and {}", at_a.len(), at_b.len());
    assert!(at_a.iter().chain(&at_b).all(|answer| answer.text == at_a[0].text));
    let firsts = all.iter().filter(|answer| answer.status == 200 && !replayed(answer));
    assert_eq!(firsts.count(), 1);
    let other = post(&b, ONE, of, &asked("other")).await;
    assert_eq!(code(&other), (422, "IDEMPOTENCY_MISMATCH".into()));

    let mut long = asked("more canary words");
    long["timeout_ms"] = 60_000.into();
    let batch = serde_json::json!({"requests": [long]});
    let killed = async {
        called(&vendor, 2).await;
        a.kill();
        Instant::now()
    };
    // A connection that breaks off is a panic of the one who asks.
    let owner = AssertUnwindSafe(post(&a, ONE, (credential, "killed"), &long)).catch_unwind();
    let (owner, claimed) = tokio::join!(owner, killed);
    assert!(owner.is_err(), "its caller was answered by the dead");
    let heir = post(&b, ONE, (credential, "killed"), &long).await;
    assert!(heir.status == 200 && !replayed(&heir), "{}", heir.text);
    let took = claimed.elapsed();
    println!("the heir had answered {took:?} after the kill, 1.5 s of it the detector's");
    assert!(took < Duration::from_secs(10 + 2 + 3), "{took:?}");
    assert_eq!(calls(&vendor).await, 3);
    let again = post(&b, ONE, (credential, "killed"), &long).await;
    assert!(replayed(&again) && again.text == heir.text);
    assert_eq!(post(&b, BATCH, (credential, "killed"), &batch).await.status, 200);

    let database = url.rsplit('/').next().unwrap();
    let rows = server.sql(database, "SELECT count(*), min(length(answer)) > 0 FROM claims");
    assert_eq!(rows, "4|t");
    for form in ["claims::text", "encode(answer, 'escape')", "encode(key, 'escape')"] {
        let all = server.sql(database, &format!("SELECT {form} FROM claims"));
        assert!(!all.contains("canary") && !all.contains("evil.io"), "{form}");
    }
}
