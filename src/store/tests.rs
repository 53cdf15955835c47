use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::contract::{decision, entry, key, record, tenant};
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
async fn claims_equal_the_model_whatever_happens_in_whatever_order() {
    let store = Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap();
    let pass = |minutes: u64| -> BoxFuture<'_, ()> {
        let sql = format!(
            "UPDATE claims SET leased_until_ms = leased_until_ms - {0}, \
             forget_at_ms = forget_at_ms - {0}",
            minutes * 60_000
        );
        let passed = store.write("letting time pass", move |c| {
            c.execute(&sql, []).map_err(|error| StoreError::of("letting time pass", &error))
        });
        async move {
            passed.await.unwrap();
        }
        .boxed()
    };
    contract::claims::equal_the_model(&store, &pass, 20_000).await;
}

#[tokio::test]
async fn jobs_equal_the_model_whatever_happens_in_whatever_order() {
    let store = Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap();
    let pass = |minutes: u64| -> BoxFuture<'_, ()> {
        let passed = store.atomically("letting time pass", move |c| {
            contract::jobs::passing(minutes).iter().try_for_each(|sql| c.execute(sql, []).map(drop))
        });
        async move { passed.await.unwrap() }.boxed()
    };
    contract::jobs::equal_the_model(&store, &pass, 5_000).await;
}

#[tokio::test]
async fn a_move_whose_event_cannot_be_kept_is_none() {
    let store = Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap();
    let refuse = store.atomically("breaking events", |c| {
        c.execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
    });
    refuse.await.unwrap();
    let mend = async {
        store.atomically("mending", |c| c.execute_batch("DROP TRIGGER broken")).await.unwrap();
    };
    contract::jobs::a_move_and_its_event_are_one(&store, mend.boxed()).await;
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
    contract::custody::seen(&store, "acme", "e-1").await;
    record(&store, [decision("d-1", "acme")]).await.unwrap();
    for (attack, why) in [
        ("DELETE FROM audit", "append-only"),
        ("UPDATE audit SET actor = 'x'", "append-only"),
        ("UPDATE audit SET hash = zeroblob(32)", "append-only"),
        ("DELETE FROM custody", "append-only"),
        ("UPDATE custody SET actor = 'x'", "append-only"),
        ("UPDATE decisions SET action = 'allow'", "only loses its record"),
        ("UPDATE decisions SET record = '{}'", "told in custody before"),
        ("DELETE FROM decisions", "are kept"),
    ] {
        let error = raw.execute(attack, []).unwrap_err();
        assert!(error.to_string().contains(why), "{attack}: {error}");
    }
}

#[tokio::test]
async fn acts_of_an_earlier_release_are_chained_when_the_file_is_opened_and_forged_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    drop(Sqlite::open(&file(&path)).unwrap());
    let raw = rusqlite::Connection::open(&path).unwrap();
    let add = |tenant: Option<&str>| {
        let row = "INSERT INTO audit (tenant, at_ms, actor, action, target, reason) \
                   VALUES (?1, 1, 'a', 'b', 'c', 'd')";
        raw.execute(row, [tenant]).unwrap();
    };
    (0..3).for_each(|_| add(Some("acme")));
    (0..2).for_each(|_| add(None));
    let links = async || {
        let store = Sqlite::open(&file(&path)).unwrap();
        let acts = store.chain(None, 0, 100).await.unwrap();
        acts.into_iter().map(|act| act.value.link).collect::<Vec<_>>()
    };
    let chained = links().await;
    let hash = |at: usize| chained[at].as_ref().unwrap().hash;
    let previous = |at: usize| chained[at].as_ref().unwrap().previous;
    assert_eq!([previous(0), previous(3)], [Link::beginning(); 2], "each chain has a beginning");
    assert_eq!([previous(1), previous(2), previous(4)], [hash(0), hash(1), hash(3)]);
    add(Some("acme"));
    assert_eq!(links().await[5], None);
}

#[tokio::test]
async fn the_log_cannot_be_changed_or_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let store = Sqlite::open(&file(&path)).unwrap();
    record(&store, (0..256).map(|n| decision(&format!("d{n}"), "acme"))).await.unwrap();
    record(&store, [decision("later", "acme")]).await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    for (table, column) in
        [("logs", "since_ms"), ("leaves", "place"), ("nodes", "place"), ("checkpoints", "at_ms")]
    {
        for attack in
            [format!("DELETE FROM {table}"), format!("UPDATE {table} SET {column} = 1000")]
        {
            let error = raw.execute(&attack, []).expect_err(&attack);
            assert!(error.to_string().contains("append-only"), "{attack}: {error}");
        }
    }
    for size in [256, 257] {
        let attack = format!("DELETE FROM checkpoints WHERE size = {size}");
        let error = raw.execute(&attack, []).expect_err("a needed one, and the newest");
        assert!(error.to_string().contains("append-only"), "{size}: {error}");
    }
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_what_was_taken_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let store = Sqlite::open(&SqliteOptions { queue_rows: 4, ..file(&path) }).unwrap();
    let holder = rusqlite::Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The writer may hold one batch of up to 4 rows while 4 more wait.
    let answers: Vec<_> = (0..20).map(|_| store.append(entry("x", None))).collect();
    holder.execute_batch("COMMIT").unwrap();
    let told = futures_util::future::join_all(answers).await;
    let taken = told.iter().filter(|told| told.is_ok()).count();
    assert!((4..=8).contains(&taken), "{taken}");
    let busy = told.iter().filter(|told| matches!(told, Err(StoreError::Busy { .. }))).count();
    assert_eq!(busy, 20 - taken);
    let all = Page { limit: 100, before: None };
    assert_eq!(store.entries(None, all).await.unwrap().len(), taken);
}

#[tokio::test]
async fn a_file_that_was_deleted_or_replaced_takes_no_record() {
    for (name, put) in [("s.db", false), ("s.db", true), ("s.db-wal", false)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        let store = Sqlite::open(&file(&path)).unwrap();
        record(&store, [decision("before", "acme")]).await.unwrap();
        std::fs::remove_file(dir.path().join(name)).unwrap();
        if put {
            std::fs::write(&path, "").unwrap();
        }
        let gone = record(&store, [decision("after", "acme")]).await;
        assert!(matches!(gone, Err(StoreError::Gone { .. })), "{name} {put}: {gone:?}");
        let put_object = store.put(contract::key("x"), "{}".into(), Expected::Any).await;
        assert!(matches!(put_object, Err(StoreError::Gone { .. })), "{put_object:?}");
        assert!(matches!(store.probe().await, Err(StoreError::Gone { .. })), "{name} {put}");
    }
}

#[tokio::test]
async fn a_held_file_makes_the_caller_wait_only_its_patience() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let options = SqliteOptions { patience: Duration::from_millis(20), ..file(&path) };
    let store = Sqlite::open(&options).unwrap();
    let holder = rusqlite::Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let slow = store.append(entry("x", None)).await;
    assert!(matches!(slow, Err(StoreError::Slow { .. })), "{slow:?}");
    holder.execute_batch("COMMIT").unwrap();
}

#[tokio::test]
async fn a_full_disk_fails_the_awaited_row_by_name_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&file(&dir.path().join("s.db"))).unwrap();
    record(&store, [decision("first", "acme")]).await.unwrap();
    // A page limit is SQLite's own stand-in for a full disk.
    store.write("limiting pages", |c| limit_pages(c, "PRAGMA max_page_count = 1")).await.unwrap();
    let big = Decision { record: "x".repeat(1 << 20), ..decision("big", "acme") };
    let full = record(&store, [big]).await;
    assert_eq!(full, Err(StoreError::Full { doing: "appending to the log" }));
    let again = "PRAGMA max_page_count = 1000000";
    store.write("lifting the limit", move |c| limit_pages(c, again)).await.unwrap();
    record(&store, [decision("small", "acme")]).await.unwrap();
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
            record(&store, [decision(&format!("d{n}"), "acme")]).await.unwrap();
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
