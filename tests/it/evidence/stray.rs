//! Rows that somebody wrote into the log past the service: what is decided meanwhile waits, and is on
//! record once they are gone.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use detector_orchestrator::evidence::merkle::{Frontier, leaf_hash};
use detector_orchestrator::evidence::{Log, LogOptions, LogStats};
use detector_orchestrator::metrics::Metrics;
use detector_orchestrator::orchestrator::{SPOOL_FILE, STORE_FILE};
use detector_orchestrator::seal::{Key, Signer};
use detector_orchestrator::settings::Migrate;
use detector_orchestrator::store::{
    Ledger, Place, Postgres, PostgresOptions, Sqlite, SqliteOptions,
};
use serde_json::{Value, json};

use crate::app::{HttpClient, client, send};
use crate::binary::{Served, command, run, text};
use crate::postgres::Server;
use crate::quality::decision;

mod service;

/// At the place of the next leaf, a later one of a batch, and of the subtree that the 256th finishes.
const STRAYS: [(&str, &str, &str); 3] = [
    (
        "INSERT INTO leaves (log, place, hash, decision, tenant) \
         SELECT log, 250, hash, 'zz', tenant FROM leaves LIMIT 1",
        "DELETE FROM leaves WHERE decision = 'zz'",
        "a row of leaves is at place 250 of log",
    ),
    (
        "INSERT INTO leaves (log, place, hash, decision, tenant) \
         SELECT log, 253, hash, 'zz', tenant FROM leaves LIMIT 1",
        "DELETE FROM leaves WHERE decision = 'zz'",
        "a row of leaves is at place 253 of log",
    ),
    (
        "INSERT INTO nodes (log, level, place, hash) SELECT log, 8, 0, hash FROM leaves LIMIT 1",
        "DELETE FROM nodes",
        "a row of nodes (level 8) is at place 0 of log",
    ),
];
/// A head that nobody signed, over the tree that is there.
const HEAD: (&str, &str, &str) = (
    "INSERT INTO checkpoints (log, size, root, at_ms, signature) \
     SELECT log, 700, root, at_ms, signature FROM checkpoints WHERE size = 250",
    "DELETE FROM checkpoints WHERE size = 700",
    "of 700 leaves, does not bear the signature of the log",
);

/// What bears the id of a record that waits.
const IDS: [(&str, &str, &str); 4] = [
    (
        "INSERT INTO leaves (log, place, hash, decision, tenant) \
         SELECT 9, 3, hash, '4', tenant FROM leaves LIMIT 1",
        "DELETE FROM leaves WHERE log = 9",
        "place 3 of log number 9, which is not among the logs, bears the id 4 of a record that waits",
    ),
    (
        "INSERT INTO leaves (log, place, hash, decision, tenant) \
         SELECT log, 1000, hash, '4', tenant FROM leaves LIMIT 1",
        "DELETE FROM leaves WHERE place = 1000",
        "a row of leaves at place 1000 of log ",
    ),
    (
        "UPDATE leaves SET decision = '4' WHERE place = 1",
        "UPDATE leaves SET decision = '1' WHERE place = 1",
        "the leaf of the record 4, at place 1, has no row of decisions any more",
    ),
    (
        "INSERT INTO decisions (id, tenant, request_id, at_ms, policy, revision, action, complete, \
         record) SELECT '4', tenant, request_id, at_ms, policy, revision, action, complete, '{}' \
         FROM decisions LIMIT 1",
        "DELETE FROM decisions WHERE id = '4'",
        "a row of decisions bears the id 4 of a record that waits, and has no leaf",
    ),
];

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn signer(key: u8) -> Signer {
    Signer::of(&Key::from_bytes([key; 32])).unwrap()
}

fn log(store: Arc<dyn Ledger>) -> Log {
    log_of(store, 7, Vec::new())
}

fn log_of(store: Arc<dyn Ledger>, key: u8, known_keys: Vec<[u8; 32]>) -> Log {
    let (rows_max, bytes_max) = (8192, 1 << 26);
    Log::start(LogOptions {
        store,
        signer: signer(key),
        known_keys,
        spool: None,
        rows_max,
        bytes_max,
        held_bytes_max: bytes_max,
        metrics: Arc::new(Metrics::new(&[], "test").unwrap()),
    })
    .unwrap()
}

/// A log of 250 leaves, then `stray`: everything after it waits until the row is deleted.
async fn nothing_is_lost(
    store: Arc<dyn Ledger>,
    (stray, delete, named): (&str, &str, &str),
    sql: impl Fn(&str),
) {
    let log = log(Arc::clone(&store));
    let rows = (0..250).map(|n| log.append_strict(decision(n, 1, None)));
    for done in futures_util::future::join_all(rows).await {
        done.unwrap();
    }
    let settled = async || {
        let LogStats { queued, held, .. } = log.stats();
        log.ready().is_ok() && queued + held == 0
    };
    until("the log is written", settled).await;
    sql(stray);
    let rows = if stray.contains("250") || stray.contains("700") { 250..252 } else { 250..270 };
    let wanted = rows.end as u64;
    for n in rows {
        log.append(decision(n, 1, None)).unwrap();
    }
    let why = || log.ready().err().map(|why| why.to_string()).unwrap_or_default();
    if stray.contains("checkpoints") {
        // It builds on the tree that it knows, until it is told that another one is there.
        until("records are held", async || log.stats().held > 0).await;
    }
    until(&format!("{named}, but {}", why()), async || why().contains(named)).await;
    let id = log.id().as_str().to_owned();
    assert!(why().contains(&id) && why().contains("delete"), "{}", why());
    // It is looked again and again, with and without rows, and stays so.
    let refused = log.append_strict(decision(900, 1, None)).await.unwrap_err().to_string();
    assert!(refused.contains(named), "{refused}");
    let LogStats { lost, rows, .. } = log.stats();
    assert!(lost == 0 && rows < wanted, "{lost} {rows}");
    sql(delete);
    until("the rest is written", settled).await;
    assert_eq!((log.stats().lost, log.head().unwrap().size), (0, wanted));
    assert_eq!(recorded(&store, wanted).await, wanted);
    log.close().await;
}

/// How many of the first `count` records are there, each with its leaf and its row.
async fn recorded(store: &Arc<dyn Ledger>, count: u64) -> u64 {
    let ids: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    let traces = store.traces(ids).await.unwrap();
    traces.iter().filter(|trace| trace.leaf.is_some() && trace.has_row).count() as u64
}

/// Three records wait, and one of them bears the id of `stray`.
async fn a_taken_id_costs_no_record(
    store: Arc<dyn Ledger>,
    (stray, delete, named): (&str, &str, &str),
    sql: impl Fn(&str),
) {
    let log = log(Arc::clone(&store));
    for n in 0..3 {
        log.append_strict(decision(n, 1, None)).await.unwrap();
    }
    let why = || log.ready().err().map(|why| why.to_string()).unwrap_or_default();
    let settled = async || {
        let LogStats { queued, held, .. } = log.stats();
        log.ready().is_ok() && queued + held == 0
    };
    let add = |rows: std::ops::Range<usize>| {
        rows.for_each(|n| {
            log.append(decision(n, 1, None)).unwrap();
        });
    };
    // After they waited.
    sql(&STRAYS[0].0.replace("250", "3"));
    add(3..6);
    until("they are held", async || log.stats().held == 3).await;
    sql(stray);
    sql(STRAYS[0].1);
    until(&format!("{named}, but {}", why()), async || {
        why().contains(named) || log.stats().held == 0
    })
    .await;
    assert!(why().contains(named) && why().contains("store"), "{}", why());
    let LogStats { lost, held, .. } = log.stats();
    assert_eq!((lost, held, log.head().unwrap().size), (0, 3, 3));
    sql(delete);
    until("the rest is written", settled).await;
    assert_eq!((log.stats().lost, log.head().unwrap().size), (0, 6));
    assert_eq!(recorded(&store, 6).await, 6);
    // Before they come.
    let (stray, delete) = (stray.replace("'4'", "'8'"), delete.replace("'4'", "'8'"));
    sql(&stray);
    add(6..10);
    until("it is named again", async || why().contains("8")).await;
    assert_eq!(log.stats().lost, 0);
    sql(&delete);
    until("the rest is written", settled).await;
    assert_eq!((log.stats().lost, recorded(&store, 10).await), (0, 10));
    log.close().await;
}

fn sqlite(root: &Path) -> (Arc<dyn Ledger>, rusqlite::Connection) {
    let file = root.join("s.db");
    let store = Sqlite::open(&SqliteOptions::at(Place::File(file.clone()))).unwrap();
    let raw = rusqlite::Connection::open(file).unwrap();
    let drop = "DROP TRIGGER leaves_keep_rows; DROP TRIGGER nodes_keep_rows; \
                DROP TRIGGER checkpoints_keep_rows; DROP TRIGGER leaves_keep_values; \
                DROP TRIGGER decisions_keep_rows";
    raw.execute_batch(drop).unwrap();
    (Arc::new(store), raw)
}

#[tokio::test]
async fn a_stray_row_in_a_file_costs_no_record() {
    for stray in STRAYS.into_iter().chain([HEAD]) {
        let dir = tempfile::tempdir().unwrap();
        let (store, raw) = sqlite(dir.path());
        nothing_is_lost(store, stray, |sql| raw.execute_batch(sql).unwrap()).await;
    }
}

fn postgres(server: &Server) -> (Arc<dyn Ledger>, impl Fn(&str)) {
    let url = server.database();
    let options = PostgresOptions::at(url.clone().into());
    let options = PostgresOptions { migrate: Migrate::Auto, ..options };
    let store = Arc::new(Postgres::open(&options).unwrap());
    let sql = move |sql: &str| {
        let name = url.rsplit('/').next().unwrap();
        server.sql(name, &format!("SET session_replication_role = replica; {sql}"));
    };
    (store, sql)
}

#[tokio::test]
async fn a_stray_row_in_a_database_costs_no_record() {
    let server = Server::start();
    for stray in STRAYS.into_iter().chain([HEAD]) {
        let (store, sql) = postgres(&server);
        nothing_is_lost(store, stray, sql).await;
    }
}

#[tokio::test]
async fn a_row_with_the_id_of_a_waiting_record_in_a_file_costs_no_record() {
    for stray in IDS {
        let dir = tempfile::tempdir().unwrap();
        let (store, raw) = sqlite(dir.path());
        a_taken_id_costs_no_record(store, stray, |sql| raw.execute_batch(sql).unwrap()).await;
    }
}

#[tokio::test]
async fn a_row_with_the_id_of_a_waiting_record_in_a_database_costs_no_record() {
    let server = Server::start();
    for stray in IDS {
        let (store, sql) = postgres(&server);
        a_taken_id_costs_no_record(store, stray, sql).await;
    }
}

#[tokio::test]
async fn a_record_of_an_earlier_log_of_ours_is_on_record_and_one_of_a_strangers_log_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _raw) = sqlite(dir.path());
    let before = log(Arc::clone(&store));
    let proof = before.append_strict(decision(0, 1, None)).await.unwrap();
    before.close().await;
    let known = log_of(Arc::clone(&store), 8, vec![signer(7).public_key()]);
    assert_eq!(known.append_strict(decision(0, 1, None)).await.unwrap().leaf, proof.leaf);
    known.close().await;
    let unknown = log_of(store, 9, Vec::new());
    let why = unknown.append_strict(decision(0, 1, None)).await.unwrap_err().to_string();
    assert!(why.contains(proof.leaf.log.as_str()) && why.contains("evidence.known_keys"), "{why}");
    unknown.close().await;
}

/// A log of three records whose decisions have no number for a fourth.
async fn no_number_is_left(
    store: Arc<dyn Ledger>,
    (raise, lower): (&str, &str),
    sql: impl Fn(&str),
) {
    let log = log(Arc::clone(&store));
    for n in 0..3 {
        log.append_strict(decision(n, 1, None)).await.unwrap();
    }
    sql(raise);
    log.append(decision(3, 1, None)).unwrap();
    let why = || log.ready().err().map(|why| why.to_string()).unwrap_or_default();
    let named = "decisions.sequence has no number left: it was raised past the service";
    until("it is refused", async || why().contains("appending") || log.stats().lost > 0).await;
    assert!(why().contains(named) && log.stats().lost == 0, "{}", why());
    sql(lower);
    until("it is written", async || log.ready().is_ok() && log.stats().held == 0).await;
    assert_eq!((log.stats().lost, recorded(&store, 4).await), (0, 4));
    log.close().await;
}

#[tokio::test]
async fn a_raised_sequence_in_a_file_is_named_and_costs_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let (store, raw) = sqlite(dir.path());
    let columns = "tenant, request_id, at_ms, policy, revision, action, complete, record";
    let raise = format!(
        "INSERT INTO decisions (sequence, id, {columns}) \
         SELECT 9223372036854775807, 'zz', {columns} FROM decisions LIMIT 1"
    );
    let lower = "DELETE FROM decisions WHERE id = 'zz'; \
                 UPDATE sqlite_sequence SET seq = 3 WHERE name = 'decisions'";
    no_number_is_left(store, (&raise, lower), |sql| raw.execute_batch(sql).unwrap()).await;
}

#[tokio::test]
async fn a_raised_or_taken_sequence_in_a_database_costs_no_record() {
    let server = Server::start();
    let (store, sql) = postgres(&server);
    let set =
        |to: i64| format!("SELECT setval(pg_get_serial_sequence('decisions', 'sequence'), {to})");
    no_number_is_left(Arc::clone(&store), (&set(i64::MAX), &set(4)), &sql).await;
    let columns = "tenant, request_id, at_ms, policy, revision, action, complete, record";
    let taken = format!(
        "INSERT INTO decisions (sequence, id, {columns}) OVERRIDING SYSTEM VALUE \
         SELECT 6, 'zz', {columns} FROM decisions LIMIT 1"
    );
    sql(&taken);
    sql(&set(5));
    let log = log(Arc::clone(&store));
    until("it is ready", async || log.ready().is_ok()).await;
    log.append(decision(4, 1, None)).unwrap();
    until("it is written", async || log.stats().queued + log.stats().held == 0).await;
    assert_eq!((log.stats().lost, recorded(&store, 5).await), (0, 5));
    log.close().await;
}

#[tokio::test]
async fn a_log_that_is_shorter_than_its_process_signed_waits_until_it_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (store, raw) = sqlite(dir.path());
    let log = log(Arc::clone(&store));
    for n in 0..6 {
        log.append_strict(decision(n, 1, None)).await.unwrap();
    }
    let (mut cut, mut restore) = ("BEGIN;".to_owned(), "BEGIN;".to_owned());
    let tables =
        [("decisions", "sequence > 3"), ("leaves", "place >= 3"), ("checkpoints", "size > 3")];
    for (table, gone) in tables {
        cut += &format!(
            "CREATE TABLE kept_{table} AS SELECT * FROM {table} WHERE {gone}; \
             DELETE FROM {table} WHERE {gone};"
        );
        restore += &format!("INSERT INTO {table} SELECT * FROM kept_{table};");
    }
    raw.execute_batch(&(cut + "COMMIT")).unwrap();
    log.append(decision(6, 1, None)).unwrap();
    let why = || log.ready().err().map(|why| why.to_string()).unwrap_or_default();
    let named = "is of 3 leaves, and this process signed one of 6";
    until(named, async || why().contains(named) || log.stats().rows > 6).await;
    assert!(why().contains(named), "{}", why());
    raw.execute_batch(&(restore + "COMMIT")).unwrap();
    until("it is written", async || log.ready().is_ok() && log.stats().held == 0).await;
    assert_eq!((log.stats().lost, recorded(&store, 7).await), (0, 7));
    log.close().await;
}

#[tokio::test]
async fn leaves_under_a_head_that_nobody_signed_are_not_signed_with_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, raw) = sqlite(dir.path());
    let log = log(Arc::clone(&store));
    let leaf = log.append_strict(decision(0, 1, None)).await.unwrap().leaf.hash;
    let forged = leaf_hash(b"forged");
    let root = Frontier::default().grow([leaf, forged]).root();
    let of = rusqlite::params![forged.as_bytes(), root.as_bytes()];
    raw.execute_batch("BEGIN").unwrap();
    raw.execute("INSERT INTO leaves SELECT log, 1, ?1, 'forged', tenant FROM leaves", &of[..1])
        .unwrap();
    let head = "INSERT INTO checkpoints SELECT log, 2, ?1, at_ms, signature FROM checkpoints";
    raw.execute(head, &of[1..]).unwrap();
    raw.execute_batch("COMMIT").unwrap();
    log.append(decision(1, 1, None)).unwrap();
    let named = "of 2 leaves, does not bear the signature of the log";
    let why = || log.ready().err().map(|why| why.to_string()).unwrap_or_default();
    until(named, async || why().contains(named)).await;
    assert_eq!((log.stats().lost, log.head().unwrap().size), (0, 1));
    raw.execute_batch("DELETE FROM checkpoints WHERE size = 2").unwrap();
    // Its leaf is in the way now.
    let beyond = "a row of leaves is at place 1 of log";
    until(beyond, async || why().contains(beyond)).await;
    raw.execute_batch("DELETE FROM leaves WHERE decision = 'forged'").unwrap();
    until("the rest is written", async || log.ready().is_ok() && log.stats().held == 0).await;
    assert_eq!((log.stats().lost, log.head().unwrap().size), (0, 2));
    log.close().await;
}

#[tokio::test]
async fn a_row_at_fault_itself_keeps_no_other_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (store, raw) = sqlite(dir.path());
    let log = log(Arc::clone(&store));
    log.append_strict(decision(0, 1, None)).await.unwrap();
    let refuse = "CREATE UNIQUE INDEX fault ON decisions (tenant) WHERE id IN ('0', '5', '15')";
    raw.execute_batch(refuse).unwrap();
    let stands = async |lost, size| {
        (log.stats().lost, log.stats().held) == (lost, 0)
            && log.head().is_some_and(|head| head.size == size)
    };
    for n in 1..10 {
        log.append(decision(n, 1, None)).unwrap();
    }
    until("the others are written", async || stands(1, 9).await).await;
    // The batch is on its way for so long that memory holds its rows too.
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    for n in 11..20 {
        log.append(decision(n, 1, None)).unwrap();
    }
    until("they are held", async || log.stats().held > 0).await;
    raw.execute_batch("COMMIT").unwrap();
    until("the others are written and one counts as lost", async || stands(2, 17).await).await;
    // In one batch with a row that is on record already, after both waited.
    raw.execute_batch(&HEAD.0.replace("size = 250", "size = 17")).unwrap();
    for n in [0, 5] {
        log.append(decision(n, 1, None)).unwrap();
    }
    until("both are held", async || log.stats().held == 2).await;
    raw.execute_batch(HEAD.1).unwrap();
    until("neither is held", async || log.stats().held == 0).await;
    assert_eq!((log.stats().lost, log.head().unwrap().size), (3, 17));
    log.close().await;
}
