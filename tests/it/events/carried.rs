//! Events on their way through NATS and between instances, which are killed, wiped or hang: none is
//! lost, and of each id NATS keeps one.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{SOON, Stream};
use crate::access::BOOT;
use crate::app::{self, HttpClient, client};
use crate::binary::{Served, program, service, text};
use crate::nats_server::Server;
use crate::postgres;
use crate::shared::{self, Instance, secret};

/// One service over a file and the bus at `nats`.
fn start(dir: &Path, nats: &str) -> Served {
    start_as(dir, nats, |_| {})
}

/// The same by a command that `prepare` changes.
fn start_as(dir: &Path, nats: &str, prepare: impl FnOnce(&mut std::process::Command)) -> Served {
    let mut serve = program(&service(), dir);
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    serve.env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "500ms");
    serve.env("ORCHESTRATION_NATS_URL", nats);
    serve.env("ORCHESTRATION_EVENTS__REQUESTS", "all");
    prepare(&mut serve);
    let mut served = Served::start(serve);
    served.discard_output();
    served
}

fn kill(served: &Served) {
    let pid = served.pid().to_string();
    let done = std::process::Command::new("kill").args(["-KILL", &pid]).status();
    assert!(done.unwrap().success());
}

async fn get(client: &HttpClient, served: &Served, path: &str) -> Value {
    let at = format!("http://{}{path}", served.address);
    let headers = [("x-tenant-id", "default")];
    let answer = app::send(client, ("GET", &at), &headers, b"").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Asks `times`; every answer must come, and at once.
async fn ask(client: &HttpClient, served: &Served, times: usize) {
    let at = format!("http://{}/api/v1/orchestrate", served.address);
    for n in 0..times {
        let body = json!({"content": format!("text {n}")}).to_string();
        let headers = [("content-type", "application/json")];
        let begun = Instant::now();
        let answer = app::send(client, ("POST", &at), &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(begun.elapsed() < Duration::from_secs(2), "a request waited for the bus");
    }
}

/// The ids that the service tells, once they are `count`.
async fn told(client: &HttpClient, served: &Served, count: usize) -> BTreeSet<String> {
    let until = Instant::now() + SOON;
    loop {
        let (mut ids, mut after) = (BTreeSet::new(), String::from("0"));
        loop {
            let page =
                get(client, served, &format!("/api/v1/events?limit=200&after={after}")).await;
            let events = page["events"].as_array().unwrap();
            ids.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        if ids.len() >= count {
            return ids;
        }
        assert!(Instant::now() < until, "only {} of {count} events", ids.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until NATS holds every one of `ids`, and each id once.
async fn carried(nats: &Server, ids: &BTreeSet<String>) {
    let until = Instant::now() + SOON;
    loop {
        let held = nats.held().await;
        let known: BTreeSet<String> = held.iter().map(|held| held.id.clone()).collect();
        assert_eq!(known.len(), held.len(), "an id is there twice");
        if ids.is_subset(&known) {
            return;
        }
        let missing = ids.difference(&known).count();
        assert!(Instant::now() < until, "{missing} of {} events are not in NATS", ids.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn nothing_told_is_lost_whatever_becomes_of_nats_and_of_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let (mut nats, client) = (Server::start(), client());
    let served = start(dir.path(), &nats.url());
    ask(&client, &served, 20).await;
    let mut ids = told(&client, &served, 20).await;
    carried(&nats, &ids).await;

    nats.kill();
    ask(&client, &served, 20).await;
    ids = told(&client, &served, 40).await;
    nats.start_again();
    carried(&nats, &ids).await;

    nats.kill();
    nats.wipe();
    nats.start_again();
    ask(&client, &served, 10).await;
    ids = told(&client, &served, 50).await;
    carried(&nats, &ids).await;

    // Killed while what is durable is not handed over yet.
    nats.signal("-STOP");
    ask(&client, &served, 30).await;
    ids = told(&client, &served, 80).await;
    kill(&served);
    drop(served);
    nats.signal("-CONT");
    let served = start(dir.path(), &nats.url());
    assert!(told(&client, &served, 80).await.is_superset(&ids), "a durable event is gone");
    carried(&nats, &ids).await;
}

#[tokio::test]
async fn whoever_listens_at_any_instance_hears_each_event_once() {
    let (database, nats) = (postgres::Server::start(), Server::start());
    let url = shared::migrated(&database);
    let (a, b) =
        (Instance::start_beside(&url, &nats.url()), Instance::start_beside(&url, &nats.url()));
    let made = a.key("default").await;
    let own = [("x-api-key", secret(&made))];
    let mut at_a = Stream::open(a.address(), &own).await;
    let mut at_b = Stream::open(b.address(), &own).await;
    let overlay = json!({"data": {"settings": {"actions": {"pii": "block"}}}, "reason": "a test"});
    let put = ("PUT", "/api/v1/policies/standard");
    let put = a.send_for(put, BOOT, &overlay, &[("x-tenant-id", "default")]).await;
    assert!(put.status < 300, "{}", put.text);
    let (first, second) = (at_a.until("policy_changed").await, at_b.until("policy_changed").await);
    assert_eq!(first, second);
    // Another instance served the change too, and told of the same.
    let until = Instant::now() + SOON;
    let held = loop {
        let held = nats.held().await;
        let reloads = held.iter().filter(|held| held.subject == "orch._.event.config_reloaded");
        if reloads.count() >= 2 {
            break held;
        }
        assert!(Instant::now() < until, "an instance did not tell that it serves the change");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let ids: BTreeSet<&String> = held.iter().map(|held| &held.id).collect();
    assert_eq!(ids.len(), held.len(), "an id is there twice");
    let changes = held.iter().filter(|held| held.subject == "orch.default.event.policy_changed");
    assert_eq!(changes.count(), 1);

    // Killed, one leaves what it told to the other.
    a.kill();
    let made = b.key("default").await;
    let mut again =
        Stream::open(b.address(), &[("x-api-key", secret(&made)), ("last-event-id", "0")]).await;
    assert_eq!(again.until("policy_changed").await, first);
}

#[test]
fn a_bus_that_can_never_be_reached_is_refused_at_the_start_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = crate::binary::command(dir.path());
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    serve.env("ORCHESTRATION_NATS_URL", "tls://u:canary@bus");
    serve.env("ORCHESTRATION_NATS__CA_FILE", "/nowhere/ca.pem");
    let refused = serve.output().unwrap();
    let told = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(64), "{told}");
    assert!(told.contains("reading nats.ca_file") && !told.contains("canary"), "{told}");
}

#[tokio::test]
async fn over_tls_events_are_carried_and_a_server_that_is_not_trusted_gets_none() {
    let (client, (nats, url, authority)) = (client(), Server::start_with_tls());
    let (plain, (other, _, strange)) = (Server::start(), Server::start_with_tls());
    let dir = tempfile::tempdir().unwrap();
    let serve = |dir: &Path, url: &str, authority: &Path| {
        start_as(dir, url, |serve| {
            serve.env("ORCHESTRATION_NATS__CA_FILE", authority);
        })
    };
    let served = serve(dir.path(), &url, &authority);
    ask(&client, &served, 10).await;
    let ids = told(&client, &served, 10).await;
    carried(&nats, &ids).await;
    assert_eq!(served.stop().0, Some(0));

    // Neither a certificate of somebody else, nor a server that has none.
    let untrusted = [(&*url, &*strange), (&*plain.url().replace("nats://", "tls://"), &*authority)];
    for (url, authority) in untrusted {
        let dir = tempfile::tempdir().unwrap();
        let served = serve(dir.path(), url, authority);
        ask(&client, &served, 10).await;
        let ids = told(&client, &served, 10).await;
        let metrics = format!("http://{}/metrics", served.address);
        // So long a trusted one takes, with room.
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let told = app::send(&client, ("GET", &metrics), &[], b"").await.text;
            assert!(told.contains("orchestrator_dependency_up{dependency=\"nats\"} 0"), "{url}");
        }
        for server in [&nats, &plain, &other] {
            let held = server.held().await;
            assert!(held.iter().all(|held| !ids.contains(&held.id)), "{url} was trusted");
        }
        assert_eq!(served.stop().0, Some(0));
    }
    drop(other);
}
