//! Two services behind nginx over one PostgreSQL and one Redis: they are replaced one by one under
//! load, and nobody notices.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;

use crate::access::BOOT;
use crate::app::{client, send};
use crate::binary::Served;
use crate::nginx;
use crate::postgres::Server;
use crate::redis_server;
use crate::shared::{migrated, orchestrator};

/// The shipped times, divided: 10 s between "not ready" and the end, of which nginx keeps an idle
/// connection for 5 s.
const DELAY: &str = "2s";
const IDLE: (&str, &str) = ("keepalive_timeout 5s", "keepalive_timeout 1s");
/// nginx leaves an address that refused alone for as long.
const LEFT_ALONE: Duration = Duration::from_millis(2_200);
const CALLERS: usize = 6;

struct Place {
    dir: tempfile::TempDir,
    address: String,
    database: String,
    redis: String,
}

impl Place {
    fn start(&self) -> Served {
        let mut serve =
            orchestrator(self.dir.path(), &self.database, &["serve", "--listen", &self.address]);
        serve.env("ORCHESTRATION_REDIS_URL", &self.redis);
        serve.env("ORCHESTRATION_SERVER__SHUTDOWN_DELAY", DELAY);
        serve.env("ORCHESTRATION_SECURITY__TRUSTED_PROXIES", "[127.0.0.1]");
        serve.env("ORCHESTRATION_SECURITY__RATE_LIMIT__PER_MINUTE", "1000000");
        serve.env("ORCHESTRATION_SECURITY__RATE_LIMIT__BURST", "1000000");
        let mut served = Served::start(serve);
        served.discard_output();
        served
    }
}

fn free() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

/// What callers were answered.
#[derive(Default)]
struct Told {
    judged: AtomicUsize,
    others: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

/// Has content judged, one and several, and reads, until told to stop.
async fn call(at: String, n: usize, told: Arc<Told>, stop: Arc<AtomicBool>) {
    let client = client();
    let headers =
        [("content-type", "application/json"), ("x-api-key", BOOT), ("x-tenant-id", "default")];
    let item = json!({"content": format!("caller {n}: mail ana@evil.io")});
    let batch = json!({"requests": [item]});
    let mut turn = n;
    while !stop.load(Relaxed) {
        let (method, path, body) = match turn % 3 {
            0 => ("POST", "/api/v1/orchestrate", item.to_string()),
            1 => ("POST", "/api/v1/orchestrate/batch", batch.to_string()),
            _ => ("GET", "/api/v1/detectors", String::new()),
        };
        let answer =
            send(&client, (method, &format!("{at}{path}")), &headers, body.as_bytes()).await;
        match (answer.status, turn % 3) {
            (200, 0) => told.judged.fetch_add(1, Relaxed),
            (200, 1) => told.judged.fetch_add(1, Relaxed),
            (200, _) => told.others.fetch_add(1, Relaxed),
            _ => {
                let said = format!("{method} {path}: {} {}", answer.status, answer.text);
                told.failed.lock().unwrap().push(said);
                0
            }
        };
        turn += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_are_replaced_one_by_one_and_no_request_fails() {
    let (postgres, redis) = (Server::start(), redis_server::Server::start());
    let database = migrated(&postgres);
    let place = || Place {
        dir: tempfile::tempdir().unwrap(),
        address: free(),
        database: database.clone(),
        redis: redis.narrow_url(),
    };
    let places = [place(), place()];
    let mut instances = vec![places[0].start(), places[1].start()];
    let addresses = [places[0].address.clone(), places[1].address.clone()];
    let nginx = nginx::Server::start(&addresses, |upstream| {
        assert!(upstream.contains(IDLE.0));
        upstream.replace(IDLE.0, IDLE.1)
    });
    let (told, stop) = (Arc::new(Told::default()), Arc::new(AtomicBool::new(false)));
    let at = format!("http://127.0.0.1:{}", nginx.port);
    let callers: Vec<_> = (0..CALLERS)
        .map(|n| tokio::spawn(call(at.clone(), n, Arc::clone(&told), Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for place in &places {
        let old = instances.remove(0);
        let (code, out, error) = tokio::task::spawn_blocking(move || old.stop()).await.unwrap();
        assert_eq!(code, Some(0), "{out}{error}");
        instances.push(tokio::task::block_in_place(|| place.start()));
        tokio::time::sleep(LEFT_ALONE).await;
    }
    stop.store(true, Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let failed = std::mem::take(&mut *told.failed.lock().unwrap());
    assert!(failed.is_empty(), "{} failed: {failed:#?}\n{}", failed.len(), nginx.log());
    let judged = told.judged.load(Relaxed);
    assert!(judged > 50 && told.others.load(Relaxed) > 10, "there was no load: {judged}");
    for instance in instances {
        let (code, out, error) =
            tokio::task::spawn_blocking(move || instance.stop()).await.unwrap();
        assert_eq!(code, Some(0), "{out}{error}");
    }
    let name = database.rsplit('/').next().unwrap();
    let kept: usize = postgres.sql(name, "SELECT count(*) FROM decisions").parse().unwrap();
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
