//! Instances that share one Redis: what one learnt another knows, rates hold together, and nobody's
//! answer depends on it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::access::{BOOT, key, send};
use crate::app::{Answer, App, edit, spawn_named, write};
use crate::binary::{command, text};
use crate::postgres;
use crate::redis_server::Server;
use crate::shared::{Instance, migrated, secret};

const DATA_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const ASK: &str = "/api/v1/orchestrate";
/// What Redis may be asked; a user who may do this and no more is what tests log in as.
const ALLOWED: [&str; 5] = ["GETRANGE", "SET", "EVALSHA", "SCRIPT", "AUTH"];
/// A machine that does much else lets an ask wait in vain now and then.
const SOON: Duration = Duration::from_secs(20);

fn shared(url: &str) -> Vec<(&'static str, String)> {
    vec![
        ("ORCHESTRATION_REDIS_URL", url.to_owned()),
        ("ORCHESTRATION_DATA_KEY", DATA_KEY.to_owned()),
    ]
}

/// Two instances over `url` with the detector `vendor`, each with folders of its own.
async fn spawn_two(url: &str, vendor: &MockServer) -> (App, App) {
    let detector = format!(
        "name: vendor\nprotocol: native\nendpoint: {}/judge\ncategories: [toxicity]\n\
         health: {{path: ''}}\n",
        vendor.uri()
    );
    let one =
        async |env| spawn_named(env, |dir| write(dir, "detectors/vendor.yaml", &detector)).await;
    (one(shared(url)).await, one(shared(url)).await)
}

async fn vendor() -> MockServer {
    let server = MockServer::start().await;
    let finding = json!({"label": "rude", "score": 0.9, "start": 0, "end": 4});
    let reply = ResponseTemplate::new(200).set_body_json(json!({"findings": [finding]}));
    Mock::given(method("POST")).respond_with(reply).mount(&server).await;
    server
}

fn body(content: &str) -> Value {
    json!({"content": content, "detectors": {"add": ["vendor"]}, "include": ["detectors"]})
}

async fn ask(app: &App, content: &str) -> Value {
    let answer = app.post(ASK, &body(content)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn is_hit(answer: &Value) -> bool {
    answer["cache"] == "hit"
}

fn is_alone(answer: &Value) -> bool {
    answer["degraded"].as_array().is_some_and(|all| all.iter().any(|one| one["what"] == "cache"))
}

/// Asks both about the same until the second knows the first's answer; what that was about.
async fn until_shared(a: &App, b: &App, word: &str) -> String {
    let until = Instant::now() + SOON;
    let mut round = 0;
    loop {
        round += 1;
        let content = format!("evil {word} {round}");
        let first = ask(a, &content).await;
        assert!(!is_hit(&first), "nobody asked that before");
        if is_hit(&ask(b, &content).await) {
            return content;
        }
        assert!(Instant::now() < until, "what one instance learnt another never knew");
    }
}

async fn until_used(app: &App, used: bool) {
    let until = Instant::now() + SOON;
    let redis = app.api.deps.redis.as_ref().unwrap();
    while redis.rests() == used {
        // A rest is noticed by whoever asks.
        ask(app, "evil words").await;
        assert!(Instant::now() < until, "in use: {}", !used);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_answer_of_one_instance_is_a_hit_at_another_until_it_is_cleared_there() {
    let (server, vendor) = (Server::start(), vendor().await);
    let url = server.narrow_url();
    let (a, b) = spawn_two(&url, &vendor).await;
    until_shared(&a, &b, "first").await;
    until_used(&a, true).await;
    let detailed = a.get("/health/detailed").await.json();
    assert!(!detailed["checks"]["redis"].is_null(), "{detailed}");
    let loads = a.get("/api/v1/cache/stats").await.json()["caches"][0]["loads"].clone();
    assert!(loads.as_u64() >= Some(1), "{loads}");

    let (here, there) = (until_shared(&a, &b, "here").await, until_shared(&a, &b, "there").await);
    let cleared = b.send("DELETE", "/api/v1/cache?reason=drill", &[], b"").await;
    assert_eq!(cleared.status, 204);
    assert!(!is_hit(&ask(&b, &here).await), "forgotten at once where that was asked");
    let until = Instant::now() + SOON;
    while is_hit(&ask(&a, &there).await) {
        assert!(Instant::now() < until, "it is never forgotten at the other instance");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn whatever_redis_does_answers_go_on_and_say_so_and_it_is_used_again() {
    let (mut server, vendor) = (Server::start(), vendor().await);
    let (a, b) = spawn_two(&server.url(), &vendor).await;
    until_shared(&a, &b, "whole").await;

    server.cli(&["FLUSHALL"]);
    until_shared(&a, &b, "flushed").await;

    server.signal("-STOP");
    until_used(&a, false).await;
    for round in 0..50 {
        assert!(is_alone(&ask(&a, &format!("evil hung {round}")).await), "it says so");
    }
    assert!(is_hit(&ask(&a, "evil hung 1").await), "its own memory stands in");
    let detailed = a.get("/health/detailed").await;
    assert_eq!((detailed.status, &detailed.json()["status"]), (200, &json!("degraded")));
    assert_eq!(detailed.json()["checks"]["redis"]["status"], "warn");
    assert_eq!(a.get("/health/ready").await.status, 200, "no reason to send nobody here");
    let metrics = a.get("/metrics").await.text;
    assert!(metrics.contains("orchestrator_dependency_up{dependency=\"redis\"} 0"), "{metrics}");
    server.signal("-CONT");
    until_used(&a, true).await;
    until_used(&b, true).await;
    until_shared(&a, &b, "awake").await;

    server.kill();
    until_used(&a, false).await;
    until_used(&b, false).await;
    for app in [&a, &b] {
        assert!(is_alone(&ask(app, "evil gone").await));
    }
    server.start_again();
    until_used(&a, true).await;
    until_used(&b, true).await;
    until_shared(&a, &b, "back").await;
}

#[tokio::test]
async fn a_start_needs_no_redis_but_the_key_that_instances_share() {
    let server = Server::start();
    server.kill();
    let app = spawn_named(shared(&server.url()), |_| {}).await;
    assert!(is_alone(&app.post(ASK, &json!({"content": "hello"})).await.json()));

    let dir = tempfile::tempdir().unwrap();
    let mut serve = command(dir.path());
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    let refused = serve.env("ORCHESTRATION_REDIS_URL", "redis://:word@cache").output().unwrap();
    let told = text(&refused.stderr);
    assert!(!refused.status.success() && !told.contains("word"), "{told}");
    assert!(told.contains("ORCHESTRATION_DATA_KEY") && !told.contains("PEPPER"), "{told}");
}

/// A closed instance whose tenant `acme` has a rate.
async fn spawn_with_rates(url: &str, rate: &str) -> App {
    let mut env = shared(url);
    env.push(("ORCHESTRATION_ENV", "staging".to_owned()));
    env.push(("ORCHESTRATION_BOOTSTRAP_KEY", BOOT.to_owned()));
    let rate = format!("tier: unlimited\nrate_limit: {rate}");
    spawn_named(env, |dir| edit(dir, "config/tenants/acme.yaml", "tier: professional", &rate)).await
}

async fn look(app: &App, key: &str) -> Answer {
    send(app, "GET", "/api/v1/detectors", key, &Value::Null).await
}

#[tokio::test]
async fn a_tenants_rate_holds_over_all_instances_within_a_lease_each() {
    let server = Server::start();
    let (url, rate) = (server.narrow_url(), "{per_minute: 6, burst: 60}");
    let (a, b) = (spawn_with_rates(&url, rate).await, spawn_with_rates(&url, rate).await);
    let keys = [
        key(&a, json!({"tenant": "acme", "roles": ["viewer"]})).await,
        key(&b, json!({"tenant": "acme", "roles": ["viewer"]})).await,
    ];
    let mut passed = [0, 0];
    for _ in 0..90 {
        for (at, app) in [&a, &b].into_iter().enumerate() {
            let answer = look(app, &keys[at]).await;
            passed[at] += usize::from(answer.status == 200);
        }
    }
    let mut rested = false;
    for app in [&a, &b] {
        let told = send(app, "GET", "/metrics", BOOT, &Value::Null).await.text;
        rested |= !told.contains("orchestrator_redis_fallback_total 0");
    }
    let sum: usize = passed.iter().sum();
    assert!(sum >= 60, "{passed:?}: no fewer than the burst");
    // Counted alone for a moment, an instance gives as much as it would without Redis.
    let most = if rested { 120 } else { 60 + 2 * 20 };
    assert!(sum <= most + 5, "{passed:?}: more than {most}");
    let refused = look(&a, &keys[0]).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
}

/// How often memory stood in for Redis at these instances.
async fn fallbacks(instances: [&Instance; 2]) -> u64 {
    let mut sum = 0;
    for instance in instances {
        let told = instance.send("GET", "/metrics", BOOT, &Value::Null).await.text;
        let line = told.lines().find(|line| line.starts_with("orchestrator_redis_fallback_total"));
        sum += line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    }
    sum
}

#[tokio::test]
async fn a_tenants_rate_holds_over_two_processes() {
    const ROUNDS: usize = 20;
    let (server, redis) = (postgres::Server::start(), Server::start());
    let url = migrated(&server);
    let start = || {
        let env = [("ORCHESTRATION_REDIS_URL", redis.narrow_url())];
        Instance::start_among(&url, &env, |dir| {
            for round in 0..ROUNDS {
                let tenant = format!(
                    "schema_version: 1\nid: t{round}\ntier: unlimited\n\
                     rate_limit: {{per_minute: 6, burst: 60}}\n"
                );
                write(dir, &format!("config/tenants/t{round}.yaml"), &tenant);
            }
        })
    };
    let (a, b) = (start(), start());
    let body = json!({"content": "all is well"});
    for round in 0..ROUNDS {
        let made = a.key(&format!("t{round}")).await;
        let (mut passed, begun) = ([0, 0], Instant::now());
        let before = fallbacks([&a, &b]).await;
        for _ in 0..70 {
            for (at, instance) in [&a, &b].into_iter().enumerate() {
                let answer = instance.send("POST", ASK, secret(&made), &body).await;
                assert!(answer.status == 200 || answer.status == 429, "{}", answer.text);
                passed[at] += usize::from(answer.status == 200);
            }
        }
        let refilled = begun.elapsed().as_secs() as usize / 10 + 1;
        let sum: usize = passed.iter().sum();
        assert!(sum >= 60 && passed.iter().all(|one| *one > 0), "{passed:?}");
        // Where memory stood in for a moment, an instance gives as much as it would alone.
        if fallbacks([&a, &b]).await == before {
            println!("round {round}: {passed:?} of 70 each passed where 60 may at once");
            assert!(sum <= 60 + 2 * 20 + refilled, "{passed:?}: more than a lease each beyond 60");
            return;
        }
    }
    panic!("memory stood in for Redis in each of {ROUNDS} rounds");
}

#[test]
fn no_test_ends_well_whose_redis_was_a_bus_or_a_queue() {
    for asked in [["PUBLISH", "a", "b"], ["LPUSH", "a", "b"]] {
        let server = Server::start();
        server.cli(&asked);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(server)));
        assert!(ended.is_err(), "{asked:?} was not noticed");
    }
}

#[tokio::test]
async fn redis_is_asked_for_values_and_tokens_and_never_to_publish_subscribe_or_queue() {
    let (server, vendor) = (Server::start(), vendor().await);
    let url = server.narrow_url();
    let watch = server.watch();
    let (a, b) = spawn_two(&url, &vendor).await;
    until_shared(&a, &b, "canary-content").await;
    a.post("/api/v1/orchestrate/batch", &json!({"items": [body("evil one"), body("evil two")]}))
        .await;
    a.send("DELETE", "/api/v1/cache?reason=drill", &[], b"").await;
    server.cli(&["FLUSHALL"]);
    until_shared(&a, &b, "anew").await;
    let limited = spawn_with_rates(&url, "{per_minute: 600, burst: 60}").await;
    let caller = key(&limited, json!({"tenant": "acme", "roles": ["viewer"]})).await;
    let until = Instant::now() + SOON;
    while server.names("rate").is_empty() {
        look(&limited, &caller).await;
        assert!(Instant::now() < until, "no token was ever lent");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let own = ["ACL", "INFO", "FLUSHALL", "SCAN", "MONITOR", "CONFIG"].map(str::to_owned);
    let asked: BTreeSet<String> =
        watch.commands().into_iter().filter(|name| !own.contains(name)).collect();
    let strange: Vec<&String> =
        asked.iter().filter(|name| !ALLOWED.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?} of {asked:?}");
    for needed in ["GETRANGE", "SET", "EVALSHA"] {
        assert!(asked.contains(needed), "{needed} is not in {asked:?}");
    }
    let text = watch.text();
    for canary in ["canary-content", "acme", "vendor.invalid", DATA_KEY, BOOT] {
        assert!(!text.contains(canary), "{canary} is in what Redis was told");
    }
}
