//! Services behind nginx over one PostgreSQL, one Redis and one NATS: they are replaced one by one under
//! load, and nobody notices.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;

use crate::access::BOOT;
use crate::app::{client, send};
use crate::instances::{Judge, Ledger, Topology, numbered};
use crate::nginx;

/// The shipped times, divided: 10 s between "not ready" and the end, of which nginx keeps an idle
/// connection for 5 s.
const DELAY: &str = "4s";
const IDLE: (&str, &str) = ("keepalive_timeout 5s", "keepalive_timeout 1s");
/// nginx leaves an address that refused alone for as long.
const LEFT_ALONE: Duration = Duration::from_millis(2_200);
const CALLERS: usize = 6;

/// What callers were answered.
#[derive(Default)]
struct Told {
    judged: AtomicUsize,
    others: AtomicUsize,
    jobs: Ledger,
    failed: Mutex<Vec<String>>,
}

/// Has content judged, one and several, hands jobs in, and reads, until told to stop.
async fn call(at: String, n: usize, (told, judge): (Arc<Told>, Arc<Judge>), stop: Arc<AtomicBool>) {
    let client = client();
    let headers =
        [("content-type", "application/json"), ("x-api-key", BOOT), ("x-tenant-id", "default")];
    let item = json!({"content": format!("caller {n}: mail ana@evil.io")});
    let batch = json!({"requests": [item]});
    let mut turn = n;
    while !stop.load(Relaxed) {
        let number = told.jobs.number();
        let (method, path, body) = match turn % 4 {
            0 => ("POST", "/api/v1/orchestrate", item.to_string()),
            1 => ("POST", "/api/v1/orchestrate/batch", batch.to_string()),
            2 if !told.jobs.is_full(&judge) => {
                ("POST", "/api/v1/jobs", numbered(number).to_string())
            }
            _ => ("GET", "/api/v1/detectors", String::new()),
        };
        let answer =
            send(&client, (method, &format!("{at}{path}")), &headers, body.as_bytes()).await;
        match (answer.status, path) {
            (200, "/api/v1/detectors") => drop(told.others.fetch_add(1, Relaxed)),
            (200, _) => drop(told.judged.fetch_add(1, Relaxed)),
            (202, _) => told.jobs.take(number, &answer.text),
            _ => {
                let said = format!("{method} {path}: {} {}", answer.status, answer.text);
                told.failed.lock().unwrap().push(said);
            }
        }
        turn += 1;
    }
}

/// `ROLLING` says how many instances.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_replaced_one_by_one_and_no_request_fails_and_no_job_is_lost() {
    let count = std::env::var("ROLLING").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let env = [("ORCHESTRATION_SERVER__SHUTDOWN_DELAY", DELAY)];
    let topology = Topology::new(count, &env).await.narrow();
    let mut instances = topology.start_all();
    let nginx = nginx::Server::start(&topology.addresses(), |upstream| {
        assert!(upstream.contains(IDLE.0));
        upstream.replace(IDLE.0, IDLE.1)
    });
    let (told, stop) = (Arc::new(Told::default()), Arc::new(AtomicBool::new(false)));
    let at = format!("http://127.0.0.1:{}", nginx.port);
    let callers: Vec<_> = (0..CALLERS)
        .map(|n| {
            let seen = (Arc::clone(&told), Arc::clone(&topology.judge));
            tokio::spawn(call(at.clone(), n, seen, Arc::clone(&stop)))
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for instance in 0..count {
        let old = instances.remove(0);
        let (code, out, error) = tokio::task::spawn_blocking(move || old.stop()).await.unwrap();
        assert_eq!(code, Some(0), "{out}{error}");
        instances.push(topology.start(instance));
        tokio::time::sleep(LEFT_ALONE).await;
    }
    stop.store(true, Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let failed = std::mem::take(&mut *told.failed.lock().unwrap());
    assert!(failed.is_empty(), "{} failed: {failed:#?}\n{}", failed.len(), nginx.log());
    let (judged, jobs) = (told.judged.load(Relaxed), told.jobs.acknowledged());
    let others = told.others.load(Relaxed);
    assert!(judged > 50 && others > 10 && jobs > 10, "there was no load: {judged}, {jobs}");
    println!(
        "{count} instances replaced: 0 of {} requests failed; {}",
        judged + others + jobs,
        told.jobs.settle(&topology).await
    );
    for instance in instances {
        let (code, out, error) =
            tokio::task::spawn_blocking(move || instance.stop()).await.unwrap();
        assert_eq!(code, Some(0), "{out}{error}");
    }
    let kept: usize = topology.sql("SELECT count(*) FROM decisions")[0].parse().unwrap();
    assert!(kept >= judged, "{judged} were judged, {kept} are on record");
}

#[test]
fn nginx_takes_the_shipped_settings() {
    let folder = tempfile::tempdir().unwrap();
    let made =
        std::process::Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/secrets"))
            .arg(folder.path())
            .output()
            .unwrap();
    assert!(made.status.success(), "{made:?}");
    let said = nginx::check(folder.path());
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.contains("test is successful"), "{text}");
    assert!(!text.contains("[warn]"), "{text}");
}
