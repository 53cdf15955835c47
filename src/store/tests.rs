use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::contract::{decision, key, tenant};
use super::*;
use crate::operations::Operations;

fn file(path: &Path) -> SqliteOptions {
    SqliteOptions {
        patience: Duration::from_secs(60),
        ..SqliteOptions::at(Place::File(path.to_owned()))
    }
}

#[tokio::test]
async fn sqlite_in_a_file_holds_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::holds(&Sqlite::open(&file(&dir.path().join("s.db"))).unwrap()).await;
}

#[tokio::test]
async fn sqlite_in_memory_holds_the_contract() {
    contract::holds(&Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap()).await;
}

#[tokio::test]
async fn audit_rows_cannot_be_changed_or_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let store = Sqlite::open(&file(&path)).unwrap();
    let entry = AuditEntry {
        tenant: None,
        at_ms: 1,
        actor: "a".into(),
        action: "b".into(),
        target: "c".into(),
        reason: String::new(),
        before: None,
        after: None,
    };
    store.append(entry).await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    for attack in ["DELETE FROM audit", "UPDATE audit SET actor = 'x'"] {
        let error = raw.execute(attack, []).unwrap_err();
        assert!(error.to_string().contains("append-only"), "{attack}: {error}");
    }
}

#[tokio::test]
async fn rows_written_together_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&file(&dir.path().join("s.db"))).unwrap();
    let rows = (0..1000).map(|n| store.record(decision(&format!("d{n}"), "acme")));
    for result in futures_util::future::join_all(rows).await {
        result.unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.rows, stats.lost, stats.queued), (1000, 0, 0));
    assert!(stats.batches <= 100, "{stats:?}");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_counts_what_it_drops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let store = Sqlite::open(&SqliteOptions { queue_rows: 4, ..file(&path) }).unwrap();
    let holder = rusqlite::Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The writer may hold one batch of up to 4 rows while 4 more wait.
    let taken = (0..20)
        .filter(|n| store.record_later(decision(&format!("d{n}"), "acme")) == Accepted::Queued)
        .count();
    assert!((4..=8).contains(&taken), "{taken}");
    assert_eq!(store.stats().lost, 20 - taken as u64);
    let refused = store.record(decision("late", "acme")).await;
    assert!(matches!(refused, Err(StoreError::Busy { .. })), "{refused:?}");
    holder.execute_batch("COMMIT").unwrap();
    store.close();
    assert_eq!(store.stats().rows, taken as u64, "what was taken is written by close");
}

#[tokio::test]
async fn a_held_file_makes_the_caller_wait_only_its_patience() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let options = SqliteOptions { patience: Duration::from_millis(20), ..file(&path) };
    let store = Sqlite::open(&options).unwrap();
    let holder = rusqlite::Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let slow = store.record(decision("d", "acme")).await;
    assert!(matches!(slow, Err(StoreError::Slow { .. })), "{slow:?}");
    holder.execute_batch("COMMIT").unwrap();
}

#[tokio::test]
async fn a_full_disk_fails_the_awaited_row_by_name_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&file(&dir.path().join("s.db"))).unwrap();
    // A page limit is SQLite's own stand-in for a full disk.
    store.write("limiting pages", |c| limit_pages(c, "PRAGMA max_page_count = 1")).await.unwrap();
    let big = Decision { record: "x".repeat(1 << 20), ..decision("big", "acme") };
    let full = store.record(big).await;
    assert_eq!(full, Err(StoreError::Full { doing: "recording a decision" }));
    let again = "PRAGMA max_page_count = 1000000";
    store.write("lifting the limit", move |c| limit_pages(c, again)).await.unwrap();
    store.record(decision("small", "acme")).await.unwrap();
    assert!(store.decision(tenant("acme"), "big".into()).await.unwrap().is_none());
}

fn limit_pages(connection: &rusqlite::Connection, pragma: &str) -> Result<i64, StoreError> {
    connection.query_row(pragma, [], |row| row.get(0)).map_err(|e| StoreError::of("limiting", &e))
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let store = Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap();
    store.close();
    let closed = store.put(key("a"), "{}".into(), Expected::Any).await;
    assert!(matches!(closed, Err(StoreError::Closed { .. })), "{closed:?}");
    assert_eq!(store.record_later(decision("d", "acme")), Accepted::Dropped);
}

fn open_error(path: &Path) -> StoreError {
    Sqlite::open(&file(path)).err().expect("must not open")
}

#[test]
fn a_missing_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = open_error(&dir.path().join("nowhere/s.db"));
    assert!(error.to_string().contains("nowhere` does not exist; create it"), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let text = "not a database ".repeat(1000);
    std::fs::write(&path, &text).unwrap();
    assert!(matches!(open_error(&path), StoreError::Corrupt { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn one_newer_schema_is_served_and_two_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    drop(Sqlite::open(&file(&path)).unwrap());
    let raise = |version: i64| {
        let raw = rusqlite::Connection::open(&path).unwrap();
        raw.execute(
            "INSERT INTO refinery_schema_history VALUES \
             (?1, 'future', '2026-01-01T00:00:00Z', '1')",
            [version],
        )
        .unwrap();
    };
    let ours: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT max(version) FROM refinery_schema_history", [], |row| row.get(0))
        .unwrap();
    raise(ours + 1);
    drop(Sqlite::open(&file(&path)).unwrap());
    raise(ours + 2);
    let (found, served) = (ours + 2, ours + 1);
    assert_eq!(open_error(&path), StoreError::NewerSchema { found, served });
}

const CHILD: &str = "STORE_KILL_TEST_FILE";

/// The other half of the test below: inert unless that test starts it.
#[test]
fn a_child_that_records_until_it_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "the parent test hands over the file's name")]
    let Ok(path) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Sqlite::open(&file(Path::new(&path))).unwrap();
    runtime.block_on(async {
        for n in 0.. {
            store.record(decision(&format!("d{n}"), "acme")).await.unwrap();
            println!("acknowledged {n}");
        }
    });
}

#[tokio::test]
async fn acknowledged_rows_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::a_child_that_records_until_it_is_killed", "--nocapture"])
        .env(CHILD, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged =
        lines.map_while(Result::ok).filter(|line| line.contains("acknowledged")).take(50).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(acknowledged, 50);
    let store = Sqlite::open(&file(&path)).unwrap();
    for n in 0..50 {
        let found = store.decision(tenant("acme"), format!("d{n}")).await.unwrap();
        assert!(found.is_some(), "d{n} was acknowledged and is gone");
    }
}

#[tokio::test]
async fn a_store_that_cannot_write_is_left_alone_and_still_read() {
    let operations = Arc::new(Operations::default());
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&file(&dir.path().join("s.db"))).unwrap();
    let store = Guarded::new(store, Arc::clone(&operations));
    store.close();
    for _ in 0..5 {
        let lost = store.put(contract::key("a"), "{}".into(), Expected::Any).await;
        assert!(matches!(lost, Err(StoreError::Closed { .. })), "{lost:?}");
    }
    let left = store.put(contract::key("a"), "{}".into(), Expected::Any).await;
    assert_eq!(left, Err(StoreError::Resting { doing: "store_object" }));
    assert_eq!(store.object(contract::key("a")).await, Ok(None));
}
