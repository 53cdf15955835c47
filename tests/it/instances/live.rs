//! What serves at each instance is seen from any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::SOON;
use crate::access::BOOT;
use crate::nats_server;
use crate::postgres::Server;
use crate::shared::{Instance, migrated};

const GENERATIONS: &str = "/api/v1/generations";

async fn state(at: &Instance) -> Value {
    let answer = at.send("GET", GENERATIONS, BOOT, &json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Revisions by instance, as `at` tells them.
fn revisions(state: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = state["instances"].as_array().unwrap().iter();
    all.map(|one| (text(&one["instance"]), text(&one["revision"]))).collect()
}

/// Asks `at` until `holds` of the revisions that it tells; how long that took.
async fn until(at: &Instance, holds: impl Fn(&BTreeMap<String, String>) -> bool) -> Duration {
    let begun = Instant::now();
    loop {
        let state = state(at).await;
        if holds(&revisions(&state)) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < SOON, "never: {}", state["instances"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn put(at: &Instance, action: &str) -> String {
    let overlay = json!({"data": {"settings": {"actions": {"secrets": action}}}});
    let path = ("PUT", "/api/v1/policies/standard");
    let headers = [("x-tenant-id", "default"), ("if-match", "*")];
    // There is none yet at the first time.
    let made = at.send_for(path, BOOT, &overlay, &headers[..1]).await;
    let put = match made.status {
        428 => at.send_for(path, BOOT, &overlay, &headers).await,
        _ => made,
    };
    assert!(put.status < 300, "{}", put.text);
    state(at).await["revision"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_serves_at_each_instance_is_seen_from_any_and_a_change_reaches_all() {
    let (server, nats) = (Server::start(), nats_server::Server::start());
    let url = migrated(&server);
    for bus in [None, Some(nats.url())] {
        let start = || match &bus {
            None => Instance::start(&url),
            Some(nats) => Instance::start_beside(&url, nats),
        };
        let (a, b) = (start(), start());
        for at in [&a, &b] {
            until(at, |all| all.len() == 2).await;
        }
        let all = revisions(&state(&a).await);
        assert!(all.contains_key(state(&b).await["instance"].as_str().unwrap()));
        assert_eq!(all, revisions(&state(&b).await));

        let mut slowest = Duration::ZERO;
        for (n, action) in ["block", "redact", "block", "flag"].iter().enumerate() {
            let (from, to) = if n.is_multiple_of(2) { (&a, &b) } else { (&b, &a) };
            let revision = put(from, action).await;
            // Seen from where it was changed, it serves at the other one.
            let took = until(from, |all| all.values().all(|one| *one == revision)).await;
            assert_eq!(state(to).await["revision"], revision);
            slowest = slowest.max(took);
        }
        let by = if bus.is_some() { "with NATS" } else { "without NATS" };
        println!("4 changes {by} were seen at both of two instances within {slowest:?}");

        // Who stops says so; who is killed is left out when it has been silent.
        let name = state(&b).await["instance"].as_str().unwrap().to_owned();
        if bus.is_none() {
            let ended = tokio::task::block_in_place(|| b.stop());
            assert_eq!(ended.0, Some(0), "{ended:?}");
            assert!(!revisions(&state(&a).await).contains_key(&name), "it has left");
        } else {
            b.kill();
            assert!(revisions(&state(&a).await).contains_key(&name), "nobody knows yet");
            until(&a, |all| !all.contains_key(&name)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_one_instance_refuses_is_seen_from_the_other() {
    let server = Server::start();
    let url = migrated(&server);
    let files = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(files.path()).unwrap();
    // One mounted folder, as a ConfigMap is.
    let start = || {
        Instance::start_as(&url, |_, serve| {
            for name in ["POLICIES", "DETECTORS"] {
                let folder = files.path().join(name.to_lowercase());
                serve.env(format!("ORCHESTRATION_PATHS__{name}"), folder);
            }
        })
    };
    let (a, b) = (start(), start());
    until(&a, |all| all.len() == 2).await;
    let before = state(&a).await["revision"].as_str().unwrap().to_owned();
    let file = files.path().join("policies/standard/data.yaml");
    let sound = std::fs::read_to_string(&file).unwrap();
    let edited = files.path().join("edited");
    std::fs::write(&edited, format!("{sound}\n# Edited.\n")).unwrap();
    std::fs::rename(&edited, &file).unwrap();
    let same = |all: &BTreeMap<String, String>| {
        let new: BTreeSet<&String> = all.values().collect();
        all.len() == 2 && new.len() == 1 && !new.contains(&before)
    };
    let took = until(&b, same).await;
    println!("an edit of a mounted file was seen at both of two instances within {took:?}");
    let served = revisions(&state(&b).await);

    std::fs::write(&edited, "settings: [").unwrap();
    std::fs::rename(&edited, &file).unwrap();
    let begun = Instant::now();
    loop {
        let told = state(&a).await;
        let refusing = told["instances"].as_array().unwrap().iter();
        let refusing = refusing.filter(|one| one["wanted"] != one["revision"]).count();
        if refusing == 2 {
            break;
        }
        assert!(begun.elapsed() < SOON, "never: {}", told["instances"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(revisions(&state(&b).await), served, "what served before still does");
}
