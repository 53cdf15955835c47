//! What the service acknowledged is there after it was killed, and after its database was: counted by a
//! client that keeps its own ledger. `DURABILITY` says how often it is killed; `just durability` says
//! a hundred times.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use detector_orchestrator::domain::digest::Digest;
use detector_orchestrator::domain::id::TenantId;
use detector_orchestrator::evidence::merkle::{Frontier, leaf_hash, verify_inclusion};
use detector_orchestrator::evidence::{Log, LogOptions, proof};
use detector_orchestrator::metrics::Metrics;
use detector_orchestrator::orchestrator::{SPOOL_FILE, STORE_FILE};
use detector_orchestrator::seal::{Key, Signer, is_signed};
use detector_orchestrator::settings::Migrate;
use detector_orchestrator::store::{
    Decision, Ledger, Page, Place, Postgres, PostgresOptions, Sqlite, SqliteOptions, Store,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use serde_json::json;

use crate::app::{self, Answer, HttpClient, client, write};
use crate::binary::{Served, program, service};
use crate::postgres::Server;

mod disk;
mod events;
mod redis;

/// Requests under way at any time.
const AT_ONCE: u64 = 8;
/// What a standard record may take to be durable.
const STANDARD: Duration = Duration::from_millis(100);

/// How many times a service is killed.
pub fn kills(unless_told: u64) -> u64 {
    std::env::var("DURABILITY").ok().and_then(|n| n.parse().ok()).unwrap_or(unless_told)
}

/// What the client was told.
#[derive(Default)]
struct Told {
    next: AtomicU64,
    strict: Mutex<Vec<String>>,
    standard: Mutex<Vec<(Instant, String)>>,
    /// Of which only memory had the record when they were answered.
    held: Mutex<Vec<String>>,
    /// Of which the answer said that it is not on record.
    lost: AtomicU64,
    refused: AtomicU64,
}

impl Told {
    /// The requests of this ledger that must be found when the service was killed at `end`.
    fn settle(&self, end: Option<Instant>) {
        let Some(end) = end else { return };
        self.standard.lock().unwrap().retain(|(at, _)| *at + STANDARD < end);
    }
}

/// Asks until the service is gone or `stop` says so.
async fn load(client: HttpClient, address: String, told: Arc<Told>, stop: Arc<AtomicBool>) {
    while !stop.load(Relaxed) {
        let n = told.next.fetch_add(1, Relaxed);
        let (id, strict) = (format!("r-{n}"), n.is_multiple_of(2));
        let tenant = if strict { "careful" } else { "default" };
        let body = json!({"content": format!("text {n}")});
        let request = hyper::Request::post(format!("http://{address}/api/v1/orchestrate"))
            .header("content-type", "application/json")
            .header("x-tenant-id", tenant)
            .header("x-request-id", &id)
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let Ok(response) = client.request(request).await else { return };
        let status = response.status().as_u16();
        // An answer that did not come to its end was not given.
        let Ok(body) = response.into_body().collect().await else { return };
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        match status {
            200 if strict => told.strict.lock().unwrap().push(id),
            200 => {
                // One that is held in memory, or known to be lost, says so.
                if text.contains("the record is held in memory") {
                    told.held.lock().unwrap().push(id);
                } else if text.contains(r#""what":"evidence""#) {
                    told.lost.fetch_add(1, Relaxed);
                } else {
                    told.standard.lock().unwrap().push((Instant::now(), id));
                }
            }
            503 if strict && text.contains("AUDIT_UNAVAILABLE") => {
                told.refused.fetch_add(1, Relaxed);
            }
            other => panic!("{other}: {text}"),
        }
    }
}

/// A folder with a tenant that wants durable records.
fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let tenant = "schema_version: 1\nid: careful\ntier: unlimited\naudit: strict\n";
    write(dir.path(), "config/tenants/careful.yaml", tenant);
    dir
}

/// The command that serves `dir` with keys of its own.
fn serve(dir: &Path) -> std::process::Command {
    let mut serve = program(&service(), dir);
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    serve.env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "500ms");
    for name in ["KEY_PEPPER", "DATA_KEY", "EVIDENCE_KEY"] {
        serve.env(format!("ORCHESTRATION_{name}"), "0a".repeat(32));
    }
    serve
}

fn started(command: std::process::Command) -> Served {
    let mut served = Served::start(command);
    served.discard_output();
    served
}

fn start(dir: &Path, url: Option<&str>) -> Served {
    let mut serve = serve(dir);
    if let Some(url) = url {
        serve.env("ORCHESTRATION_DATABASE_URL", url);
    }
    started(serve)
}

/// Callers of `served` until the returned flag is set.
fn callers(
    served: &Served,
    told: &Arc<Told>,
) -> (Arc<AtomicBool>, Vec<tokio::task::JoinHandle<()>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let one = |_| {
        let (told, stop) = (Arc::clone(told), Arc::clone(&stop));
        tokio::spawn(load(client(), served.address.clone(), told, stop))
    };
    (Arc::clone(&stop), (0..AT_ONCE).map(one).collect())
}

/// Loads a service and kills it, `kills` times over; the acknowledgements.
async fn killed(dir: &Path, url: Option<&str>, kills: u64) -> Arc<Told> {
    let all = Arc::new(Told::default());
    for kill in 0..kills {
        let told = Arc::new(Told { next: all.next.load(Relaxed).into(), ..Told::default() });
        let mut served = Some(start(dir, url));
        let (_, running) = callers(served.as_ref().unwrap(), &told);
        // Some time after the first answers, never the same.
        while told.strict.lock().unwrap().len() < 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(150 + kill * 37 % 200)).await;
        let end = Instant::now();
        // It is killed where it is dropped.
        drop(served.take());
        for one in running {
            one.await.unwrap();
        }
        told.settle(Some(end));
        all.next.store(told.next.load(Relaxed), Relaxed);
        all.strict.lock().unwrap().append(&mut told.strict.lock().unwrap());
        all.standard.lock().unwrap().append(&mut told.standard.lock().unwrap());
    }
    let served = start(dir, url);
    assert_eq!(ask(&served).await.status, 200);
    empty(dir).await;
    assert_eq!(served.stop().0, Some(0));
    all
}

/// One strict request, of whose record no ledger knows.
async fn ask(served: &Served) -> Answer {
    let at = format!("http://{}/api/v1/orchestrate", served.address);
    let headers = [("content-type", "application/json"), ("x-tenant-id", "careful")];
    app::send(&client(), ("POST", &at), &headers, br#"{"content": "a text"}"#).await
}

/// Waits until nothing is left in the spool.
async fn empty(dir: &Path) {
    let begun = Instant::now();
    while std::fs::metadata(dir.join("data").join(SPOOL_FILE)).unwrap().len() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the spool is not emptied");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn decisions(store: &dyn Store, tenant: &str) -> Vec<Decision> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = Page { limit: 1000, before };
        let tenant = TenantId::parse(tenant).unwrap();
        let rows = store.decisions(tenant, page).await.unwrap();
        let Some(last) = rows.last() else { return all };
        before = Some(last.sequence);
        all.extend(rows.into_iter().map(|row| row.value));
    }
}

/// Every acknowledged request is there once, every record is the leaf that it says, and all leaves
/// together are the tree that was signed.
async fn verify(store: &dyn Store, told: &Told) -> String {
    let mut all = decisions(store, "careful").await;
    all.extend(decisions(store, "default").await);
    let mut found: HashMap<&str, u64> = HashMap::new();
    let mut leaves: Vec<(u64, Digest)> = Vec::new();
    for decision in &all {
        *found.entry(decision.request_id.as_str()).or_default() += 1;
        let leaf = decision.leaf.as_ref().unwrap();
        assert_eq!(leaf.hash, leaf_hash(decision.record.as_bytes()));
        leaves.push((leaf.index, leaf.hash));
    }
    let twice = found.values().filter(|count| **count > 1).count();
    let strict = told.strict.lock().unwrap().clone();
    let standard = told.standard.lock().unwrap().clone();
    let missing = |id: &&String| !found.contains_key(id.as_str());
    let lost = strict.iter().filter(missing).count();
    let standard_lost = standard.iter().map(|(_, id)| id).filter(missing).count();
    assert_eq!((lost, standard_lost, twice), (0, 0, 0), "strict, standard lost; kept twice");
    leaves.sort_unstable();
    let places: Vec<u64> = leaves.iter().map(|(index, _)| *index).collect();
    assert_eq!(places, (0..leaves.len() as u64).collect::<Vec<_>>());
    let key = store.logs().await.unwrap().remove(0);
    let head = store.tail(key.log.clone()).await.unwrap().unwrap();
    let root = Frontier::default().grow(leaves.iter().map(|(_, hash)| *hash)).root();
    assert_eq!((root, leaves.len() as u64), (head.root, head.size));
    assert!(is_signed(&key.public_key, head.text().as_bytes(), &head.signature));
    for decision in all.iter().step_by(17) {
        let proven = proof::of(upcast(store), decision.leaf.clone().unwrap()).await.unwrap();
        let proven = proven.unwrap();
        let (leaf, head) = (&proven.leaf, &proven.checkpoint);
        assert!(verify_inclusion((leaf.hash, leaf.index), (head.root, head.size), &proven.path));
    }
    format!("of {} strict and {} standard records 0 lost, 0 twice", strict.len(), standard.len())
}

fn upcast(store: &dyn Store) -> &dyn Ledger {
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_service_has_lost_nothing_that_it_acknowledged() {
    let dir = project();
    let kills = kills(3);
    let told = killed(dir.path(), None, kills).await;
    let file = dir.path().join("data").join(STORE_FILE);
    let store = Sqlite::open(&SqliteOptions::at(Place::File(file))).unwrap();
    println!("SQLite, {kills} kills of the service: {}", verify(&store, &told).await);
}

fn database(url: &str) -> Postgres {
    let options = PostgresOptions::at(url.to_owned().into());
    Postgres::open(&PostgresOptions { migrate: Migrate::Auto, ..options }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_killed_over_postgres_has_lost_nothing_that_it_acknowledged() {
    let server = Server::start();
    let (url, dir, kills) = (server.database(), project(), kills(2));
    let told = killed(dir.path(), Some(&url), kills).await;
    println!("PostgreSQL, {kills} kills of the service: {}", verify(&database(&url), &told).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_database_costs_strict_answers_and_no_record() {
    let mut server = Server::start();
    let (url, dir) = (server.database(), project());
    let kills = kills(2).div_ceil(5);
    let served = start(dir.path(), Some(&url));
    let told = Arc::new(Told::default());
    let (stop, running) = callers(&served, &told);
    let answered = || told.strict.lock().unwrap().len();
    for kill in 0..kills {
        let before = answered();
        while answered() < before + 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(kill * 37 % 200)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.start_again();
    }
    let before = answered();
    while answered() < before + 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Relaxed);
    for one in running {
        one.await.unwrap();
    }
    let refused = told.refused.load(Relaxed);
    assert!(refused > 0, "a strict request was answered without the database");
    empty(dir.path()).await;
    assert_eq!(served.stop().0, Some(0));
    let result = verify(&database(&url), &told).await;
    println!("{kills} kills of PostgreSQL: {result}; {refused} answered 503");
}

/// One line of the table.
async fn rate(store: Arc<dyn Ledger>, at_once: usize, seconds: f64) -> String {
    let signer = Signer::of(&Key::random().unwrap()).unwrap();
    let metrics = Arc::new(Metrics::new(&[], "bench").unwrap());
    let (rows_max, bytes_max) = (8192, 1 << 26);
    let log = LogOptions {
        store,
        signer,
        known_keys: Vec::new(),
        spool: None,
        rows_max,
        bytes_max,
        held_bytes_max: bytes_max,
        metrics,
    };
    let log = Log::start(log).unwrap();
    log.append_strict(record()).await.unwrap();
    let (begun, before) = (Instant::now(), log.stats());
    let end = begun + Duration::from_secs_f64(seconds);
    let one = |_| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                match log.append_strict(record()).await {
                    Ok(_) => took.push(begun.elapsed()),
                    // A machine that is too busy: the callers come back a little later.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
            took
        })
    };
    let running: Vec<_> = (0..at_once).map(one).collect();
    let mut took = Vec::new();
    for one in running {
        took.extend(one.await.unwrap());
    }
    let (passed, after) = (begun.elapsed().as_secs_f64(), log.stats());
    took.sort_unstable();
    let at = |part: f64| took[(part * (took.len() - 1) as f64) as usize].as_secs_f64() * 1e3;
    let batches = after.batches - before.batches;
    assert!(!took.is_empty(), "nothing was acknowledged");
    log.close().await;
    format!(
        "{at_once} | {} | {:.0} | {:.0} | {:.1} | {:.2} | {:.2} |",
        took.len(),
        took.len() as f64 / passed,
        batches as f64 / passed,
        (after.rows - before.rows) as f64 / batches as f64,
        at(0.5),
        at(0.99),
    )
}

/// About as long as a record is.
fn record() -> Decision {
    let id = uuid::Uuid::now_v7().to_string();
    Decision {
        record: format!("{id}{}", "x".repeat(1_000)),
        id,
        ..crate::quality::decision(0, 1, None)
    }
}

/// Claim B-06 and the target of strict records; one caller at a time is row by row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_records_share_commits_and_are_counted() {
    let seconds = std::env::var("RECORDS_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(0.3);
    let dir = tempfile::tempdir().unwrap();
    let sqlite = SqliteOptions::at(Place::File(dir.path().join("s.db")));
    let server = Server::start_synced();
    let stores: [(&str, Arc<dyn Ledger>); 2] = [
        ("SQLite", Arc::new(Sqlite::open(&sqlite).unwrap())),
        ("PostgreSQL", Arc::new(database(&server.database()))),
    ];
    println!(
        "| store | at once | records | records/s | commits/s | records a commit | p50 ms | p99 ms |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (name, store) in stores {
        for at_once in [1, 64, 256, 1024] {
            println!("| {name} | {}", rate(Arc::clone(&store), at_once, seconds).await);
        }
    }
}

/// A start does not read the log: a long one is served as soon as a short one.
#[tokio::test]
async fn a_long_log_is_continued_from_its_tail() {
    let rows: usize = std::env::var("LOG_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let dir = project();
    let (file, spare) = (dir.path().join("data").join(STORE_FILE), dir.path().join("data"));
    std::fs::create_dir_all(&spare).unwrap();
    let store = Sqlite::open(&SqliteOptions::at(Place::File(file))).unwrap();
    let signer = Signer::of(&Key::from_hex(&"0a".repeat(32)).unwrap()).unwrap();
    let metrics = Arc::new(Metrics::new(&[], "test").unwrap());
    let (rows_max, bytes_max) = (8192, 1 << 30);
    let store: Arc<dyn Ledger> = Arc::new(store);
    let log = LogOptions {
        store,
        signer,
        known_keys: Vec::new(),
        spool: None,
        rows_max,
        bytes_max,
        held_bytes_max: bytes_max,
        metrics,
    };
    let log = Log::start(log).unwrap();
    for start in (0..rows).step_by(1_000) {
        let row = |n| {
            let id = uuid::Uuid::now_v7().to_string();
            log.append_strict(Decision { id, ..crate::quality::decision(n, 1, None) })
        };
        let all = (start..rows.min(start + 1_000)).map(row);
        // A busy machine may be late; what it was late with is there all the same.
        futures_util::future::join_all(all).await;
    }
    log.close().await;
    assert!(log.head().unwrap().size > rows as u64 / 2);
    drop(log);
    let begun = Instant::now();
    let served = start(dir.path(), None);
    let ready = begun.elapsed();
    let answer = ask(&served).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    println!(
        "{rows} records: listens after {ready:?}, first strict answer after {:?}",
        begun.elapsed()
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "a debug build needs seconds, not minutes");
}
