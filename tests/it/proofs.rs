//! What proves that a record was purged, that a log is what it was, and that what is stored is kept.

use std::path::Path;

use detector_orchestrator::domain::digest::Digest;
use detector_orchestrator::domain::log::{Checkpoint, LogId};
use detector_orchestrator::evidence::custody::Custodian;
use detector_orchestrator::evidence::verify::Outside;
use detector_orchestrator::evidence::{package, retention};
use detector_orchestrator::orchestrator::verified;
use detector_orchestrator::seal::{Key, Signer};
use detector_orchestrator::store::{Ledger as _, LogKey, Sqlite, Table};
use serde_json::{Value, json};

use crate::app::spawn;
use crate::binary::{run, text};
use crate::damage::says;
use crate::tamper::{KEY, filled};

/// 2026 or so; the records are of 2023.
const LATER_MS: i64 = 1_780_000_000_000;

fn signer(key: [u8; 32]) -> Signer {
    Signer::of(&Key::from_bytes(key)).unwrap()
}

async fn purge(store: &Sqlite, key: [u8; 32], of: &str) -> u64 {
    let custodian = Custodian::new(signer(key));
    let days = |tenant: &detector_orchestrator::domain::id::TenantId| {
        if tenant.as_str() == of { 365 } else { 3_650 }
    };
    retention::purge((store, &custodian), LATER_MS, days).await.unwrap()
}

/// What `evidence` with these arguments ends with and says on both ways.
fn evidence(root: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = run(root, &[&["evidence"], args].concat());
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test]
async fn a_record_that_is_gone_is_purged_by_a_signed_purge_and_else_named_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let (root, store) = (dir.path(), filled(dir.path()).await);
    let file = root.join("data").join(detector_orchestrator::orchestrator::STORE_FILE);
    let raw = rusqlite::Connection::open(&file).unwrap();
    let tenth = "SELECT record FROM decisions WHERE sequence = 10";
    let tenth: String = raw.query_row(tenth, [], |row| row.get(0)).unwrap();
    assert_eq!(purge(&store, KEY, "acme").await, 214);
    says(root, &["verify"], 0, &["426 records, 214 purged"]);
    says(root, &["export", "--tenant", "acme", "a.jsonl"], 0, &["214 records"]);
    says(root, &["verify", "a.jsonl"], 0, &["0 records, 214 purged"]);
    says(root, &["replay", "--tenant", "acme"], 0, &["214 purged and not decided again"]);
    says(root, &["replay", "--package", "a.jsonl"], 0, &["214 purged and not decided again"]);

    // Another key signs: believed where somebody vouches for it.
    let other = signer([9; 32]).public_key();
    let log = LogKey { log: LogId::of(&other), public_key: other, since_ms: 2 };
    store.open_log(log).await.unwrap();
    assert_eq!(purge(&store, [9; 32], "globex").await, 213);
    drop(store);
    says(root, &["verify"], 65, &["emptied leaf 2 record-00002", "name that log's key by --keys"]);
    let keys = run(root, &["evidence", "keys", "--json"]).stdout;
    std::fs::write(root.join("keys.jsonl"), keys).unwrap();
    says(root, &["verify", "--keys", "keys.jsonl"], 0, &["213 records, 427 purged"]);

    let verify = |sql: &str, words: &[&str]| {
        raw.execute_batch(sql).unwrap();
        says(root, &["verify", "--keys", "keys.jsonl"], 65, words);
    };
    let empty = "UPDATE decisions SET record = '' WHERE sequence = 2";
    let refused = raw.execute_batch(empty).unwrap_err().to_string();
    assert!(refused.contains("told in custody"), "{refused}");
    verify(
        &format!("DROP TRIGGER decisions_tell_of_purges; {empty}"),
        &["emptied leaf 1 record-00001: emptied, and no purge is on record", "1 problems"],
    );
    verify(
        "DROP TRIGGER decisions_keep_values; UPDATE decisions SET action = 'allow' WHERE sequence = 1",
        &["leaf 0 record-00000: `action` is not what its purge says"],
    );
    verify(
        "DROP TRIGGER custody_keeps_rows; DELETE FROM custody WHERE evidence = 'record-00003'",
        &["emptied leaf 3 record-00003: emptied, and no purge is on record"],
    );
    verify(
        "DROP TRIGGER custody_keeps_values; UPDATE custody SET details = replace(details, '365', '1') \
         WHERE evidence = 'record-00006'",
        &["emptied leaf 6 record-00006: emptied, and no purge is on record"],
    );
    let words = ["record-00000: `action` is not", "record-00003: emptied, and no purge"];
    says(root, &["export", "--tenant", "acme", "b.jsonl"], 65, &words);
    let words = ["missing record-00000: its store held", "missing record-00003: its store held"];
    says(root, &["verify", "b.jsonl"], 65, &words);

    let drops = "SELECT group_concat('DROP TRIGGER ' || name, ';') FROM sqlite_master \
                 WHERE type = 'trigger'";
    let drops: String = raw.query_row(drops, [], |row| row.get(0)).unwrap();
    raw.execute_batch(&drops).unwrap();
    raw.execute("UPDATE decisions SET record = ?1 WHERE sequence = 10", [&tenth]).unwrap();
    let words = ["leaf 9 record-00009: its purge is on record, and it is there again"];
    says(root, &["verify", "--keys", "keys.jsonl"], 65, &words);
}

/// The note of the head of `size` leaves, by the key of the store's log.
fn note(key: &[u8; 32], size: u64, root: Digest) -> String {
    let (signer, log) = (signer(*key), LogId::of(&signer(*key).public_key()));
    let head = Checkpoint { log, size, root, at_ms: 5, signature: [0; 64] };
    let signature = signer.sign(head.text().as_bytes()).unwrap();
    Checkpoint { signature, ..head }.note(&signer.public_key())
}

#[tokio::test]
async fn a_checkpoint_that_was_kept_is_compared_or_named_and_a_forged_one_accuses_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (root, store) = (dir.path(), filled(dir.path()).await);
    let log = store.logs().await.unwrap().remove(0);
    let old = store.checkpoint(log.log.clone(), 1).await.unwrap().unwrap();
    drop(store);
    let put = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
    put("old.txt", &old.note(&log.public_key));
    put("head.txt", &text(&run(root, &["evidence", "keys"]).stdout));
    let line = json!({"message": "Checkpoint", "log": old.log, "size": old.size, "at_ms": old.at_ms,
        "root": old.root.hex(), "signature": hex::encode(old.signature)});
    put("log.jsonl", &format!("{{\"message\":\"other\"}}\nservice-1 | {line}\n{line}\n"));
    put("forged.txt", &old.note(&log.public_key).replace("\n53\n", "\n54\n"));
    put("fork.txt", &note(&KEY, 53, Digest::of(b"fork")));
    put("none.txt", "nothing\n");
    put("broken.txt", &line.to_string().replace("signature", "other"));

    let all = ["old.txt", "head.txt", "log.jsonl"];
    let given = |what: &[&'static str], files: &[&'static str]| {
        let files = files.iter().flat_map(|file| ["--checkpoint", *file]);
        what.iter().copied().chain(files).collect::<Vec<_>>()
    };
    says(root, &given(&["verify", "--store"], &all), 0, &[]);
    says(root, &["export", "--tenant", "acme", "a.jsonl"], 0, &[]);
    says(root, &given(&["verify", "a.jsonl"], &["head.txt"]), 0, &[]);
    says(root, &given(&["verify", "a.jsonl"], &["old.txt"]), 65, &["it was not compared"]);
    says(root, &given(&["export", "--tenant", "acme", "b.jsonl"], &all), 0, &[]);
    says(root, &given(&["verify", "b.jsonl"], &all), 0, &[]);
    for what in [&["verify", "--store"][..], &["verify", "b.jsonl"], &["verify", "a.jsonl"]] {
        let (code, told) = evidence(root, &given_one(what, "forged.txt"));
        assert_eq!(code, Some(65), "{told}");
        assert!(told.contains("forged or damaged") && told.contains("1 problems"), "{told}");
    }
    for what in [&["verify", "--store"][..], &["verify", "b.jsonl"]] {
        let words = ["its first 53 leaves are not those of the checkpoint"];
        says(root, &given_one(what, "fork.txt"), 65, &words);
    }
    says(root, &given(&["verify"], &["none.txt"]), 65, &["holds no checkpoint"]);
    says(root, &given(&["verify"], &["broken.txt"]), 65, &["line 1 begins a checkpoint"]);
}

fn given_one<'a>(what: &[&'a str], file: &'a str) -> Vec<&'a str> {
    [what, &["--checkpoint", file]].concat()
}

#[tokio::test]
async fn what_cannot_be_read_or_is_not_there_is_named_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    says(root, &["verify"], 66, &["there is no store at"]);
    drop(filled(root).await);
    says(root, &["export", "--tenant", "acme", "a.jsonl"], 0, &[]);
    let whole = std::fs::read(root.join("a.jsonl")).unwrap();
    let mut bytes = whole.clone();
    let place = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 7;
    bytes[place] = 0xff;
    std::fs::write(root.join("bad.jsonl"), bytes).unwrap();
    for what in [&["verify", "bad.jsonl"][..], &["replay", "--package", "bad.jsonl"]] {
        says(root, what, 65, &["bad.jsonl: line 2, byte 7 is no UTF-8"]);
    }
    let (mut material, problems) = package::unpack(&String::from_utf8(whole).unwrap());
    assert_eq!(problems, []);
    assert_eq!(verified(&material, &Outside::default()).problems, []);
    assert!(material.tables.remove(&Table::Sources).is_some());
    let (stripped, _) = package::unpack(&package::pack(&material, "acme", "now"));
    let found = verified(&stripped, &Outside::default()).problems;
    assert!(found.iter().any(|problem| problem.kind == "source"), "{found:?}");
    material.without_sources = true;
    let (said, _) = package::unpack(&package::pack(&material, "acme", "now"));
    assert_eq!(verified(&said, &Outside::default()).problems, [], "it says that it is without");
}

#[tokio::test]
async fn a_service_whose_file_is_gone_stores_nothing_and_says_so() {
    use std::os::unix::fs::PermissionsExt as _;
    let app = spawn().await;
    let key = json!({"roles": ["app"], "tenant": "acme", "label": "x", "reason": "x"});
    assert_eq!(app.post("/api/v1/keys", &key).await.status, 201);
    for file in ["data/orchestrator.db", "data/orchestrator.db-wal", "data/orchestrator.db-shm"] {
        let mode = std::fs::metadata(app.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
        std::fs::remove_file(app.path(file)).unwrap();
    }
    let hold = json!({"reason": "case 12"});
    for (path, body) in [("keys", &key), ("admin/tenants/default/hold", &hold)] {
        let answer = app.post(&format!("/api/v1/{path}"), body).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.text);
    }
    let health = app.get("/health/detailed").await.json();
    assert_eq!(health["checks"]["store"]["status"], "fail", "{health}");
    assert!(health["checks"]["store"].to_string().contains("deleted or replaced"), "{health}");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let metrics = app.get("/metrics").await.text;
        if metrics.contains("orchestrator_dependency_up{dependency=\"store\"} 0") {
            break;
        }
        assert!(std::time::Instant::now() < until, "{metrics}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let _: Value = health;
}
