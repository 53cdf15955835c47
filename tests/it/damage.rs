//! What somebody who may write the store leaves behind: rows that are gone, heads and logs of their own,
//! numbers without end. It is named, in time that depends on what is there.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use detector_orchestrator::domain::digest::Digest;
use detector_orchestrator::domain::log::{Checkpoint, LogId};
use detector_orchestrator::evidence::merkle;
use detector_orchestrator::seal::{Key, Signer};
use serde_json::{Value, json};

use crate::app::{App, edit, spawn};
use crate::binary::{command, run, text};
use crate::tamper::{KEY, filled};

const EXPORT: [&str; 3] = ["export", "--tenant", "acme"];

fn signer(key: [u8; 32]) -> Signer {
    Signer::of(&Key::from_bytes(key)).unwrap()
}

fn open(root: &Path) -> rusqlite::Connection {
    let file = root.join("data").join(detector_orchestrator::orchestrator::STORE_FILE);
    let raw = rusqlite::Connection::open(file).unwrap();
    let drop = "DROP TRIGGER leaves_keep_rows; DROP TRIGGER leaves_keep_values; \
                DROP TRIGGER nodes_keep_rows";
    raw.execute_batch(drop).unwrap();
    raw
}

/// What `evidence` with these arguments says on both ways, which must end with `code`.
#[track_caller]
pub fn says(root: &Path, args: &[&str], code: i32, words: &[&str]) -> String {
    let output = run(root, &[&["evidence"], args].concat());
    let told = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
    for word in words {
        assert!(told.contains(word), "{args:?}: no `{word}` in {told}");
    }
    told
}

fn to<'a>(file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&EXPORT, more, &[file]].concat()
}

fn head_of(root: &Path, file: &str) -> Value {
    let packed = std::fs::read_to_string(root.join(file)).unwrap();
    serde_json::from_str(packed.lines().next().unwrap()).unwrap()
}

/// Adds a head of `size` leaves that the log of `key` signed.
fn add_head(raw: &rusqlite::Connection, (number, key): (i64, [u8; 32]), size: u64, root: Digest) {
    let log = LogId::of(&signer(key).public_key());
    let head = Checkpoint { log, size, root, at_ms: 1_800_000_000_000, signature: [0; 64] };
    let signature = signer(key).sign(head.text().as_bytes()).unwrap();
    let row = rusqlite::params![number, size.cast_signed(), root.as_bytes(), head.at_ms, signature];
    raw.execute("INSERT INTO checkpoints VALUES (?1, ?2, ?3, ?4, ?5)", row).unwrap();
}

#[tokio::test]
async fn an_export_names_each_record_that_it_cannot_prove_and_says_how_many_there_were() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    says(root, &to("whole.jsonl", &[]), 0, &["214 records"]);
    assert_eq!(head_of(root, "whole.jsonl")["on_record"], 214);
    let raw = open(root);

    // Nobody signed it: the one below is the newest.
    raw.execute_batch(
        "INSERT INTO checkpoints SELECT log, 1099511627776, root, at_ms, signature FROM checkpoints \
         LIMIT 1",
    )
    .unwrap();
    let words = ["214 records", "the newest 1 checkpoints of log"];
    says(root, &to("bogus.jsonl", &[]), 65, &words);
    says(root, &["verify", "bogus.jsonl"], 0, &["214 records", " 0 problems"]);
    says(root, &["keys"], 65, &["\n640\n", "do not bear its signature"]);
    says(root, &["verify"], 65, &["the checkpoint of 1099511627776 leaves", " 1 problems"]);
    raw.execute_batch("DROP TRIGGER checkpoints_keep_rows").unwrap();
    raw.execute_batch("DELETE FROM checkpoints WHERE size > 640").unwrap();

    raw.execute_batch("DROP TRIGGER decisions_keep_rows").unwrap();
    raw.execute_batch("DELETE FROM decisions WHERE id = 'record-00636'").unwrap();
    let words = ["record-00636: it was logged, and its row is missing", "213 records"];
    says(root, &to("row.jsonl", &[]), 65, &words);
    says(root, &to("gone.jsonl", &["--id", "record-00636"]), 65, &words[..1]);

    let gone = "DELETE FROM leaves WHERE decision = 'record-00639'";
    raw.execute_batch(gone).unwrap();
    says(root, &to("one.jsonl", &["--id", "record-00639"]), 65, &["record-00639: it is in no log"]);
    assert_eq!(head_of(root, "one.jsonl")["unproven"], json!(["record-00639"]));
    let words = ["missing record-00639: its store held the record", "0 records"];
    says(root, &["verify", "one.jsonl"], 65, &words);

    raw.execute_batch("DELETE FROM nodes WHERE place = 1").unwrap();
    let told = says(root, &to("node.jsonl", &[]), 65, &["record-00000: ", "cannot be proven"]);
    let head = head_of(root, "node.jsonl");
    let (held, lost) = (&head["records"], &head["unproven"]);
    let count = |list: &Value| list.as_array().unwrap().len();
    assert_eq!((count(held) + count(lost), &head["on_record"]), (214, &json!(214)));
    assert!(count(lost) > 1 && told.matches("it is not in the package").count() == count(lost));
    assert!(!told.contains("no such record"), "{told}");
    says(root, &to("none.jsonl", &["--id", "record-99999"]), 66, &["there is no such record"]);
}

#[tokio::test]
async fn numbers_without_end_are_told_as_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    says(root, &to("acme.jsonl", &[]), 0, &[]);
    let raw = open(root);
    add_head(&raw, (1, KEY), u64::MAX >> 1, Digest::of(b"x"));
    let words = ["truncated leaf 640: 9223372036854775167 leaves are missing", "1 problems"];
    says(root, &["verify"], 65, &words);
    raw.execute_batch("UPDATE leaves SET place = 1099511627776 WHERE place = 387").unwrap();
    let words = ["missing leaf 387: a leaf that was signed is missing", "missing leaf 640: "];
    says(root, &["verify"], 65, &words);

    let packed = std::fs::read_to_string(root.join("acme.jsonl")).unwrap();
    for place in [i64::MAX, i64::MIN, -1] {
        let odd = packed.replacen("\"place\":3,", &format!("\"place\":{place},"), 1);
        assert_ne!(odd, packed);
        std::fs::write(root.join("odd.jsonl"), odd).unwrap();
        says(root, &["verify", "odd.jsonl"], 65, &["record-00003"]);
    }
}

#[tokio::test]
async fn a_key_that_nobody_vouches_for_is_named_where_the_services_own_is_at_hand() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    says(root, &["verify"], 0, &["signed by 1 keys nobody vouched for: give them by --keys"]);
    std::fs::create_dir(root.join("data/keys")).unwrap();
    std::fs::write(root.join("data/keys/evidence"), hex::encode(KEY)).unwrap();
    let told = says(root, &["verify"], 0, &[]);
    assert!(!told.contains("nobody vouched"), "{told}");

    let other = signer([9; 32]).public_key();
    let (id, digits) = (LogId::of(&other), hex::encode(other));
    let row = rusqlite::params![id.as_str(), other];
    open(root)
        .execute("INSERT INTO logs (id, public_key, since_ms) VALUES (?1, ?2, 1)", row)
        .unwrap();
    let named = format!("nobody vouches for the key of log {}", id.as_str());
    says(root, &["verify"], 65, &[&named, " 1 problems"]);
    let told = says(root, &["keys", "--json"], 65, &[&format!("log {} is left out", id.as_str())]);
    assert_eq!(told.matches("\"public_key\"").count(), 1, "{told}");
    let known = |args: &[&str]| {
        let mut run = command(root);
        run.env("ORCHESTRATION_EVIDENCE__KNOWN_KEYS", format!("[{digits}]")).args(args);
        run.output().unwrap()
    };
    assert_eq!(known(&["evidence", "verify"]).status.code(), Some(0));
    let keys = known(&["evidence", "keys", "--json"]);
    assert_eq!(text(&keys.stdout).lines().count(), 2, "{keys:?}");

    std::fs::write(root.join("keys.jsonl"), keys.stdout).unwrap();
    says(root, &["verify", "--keys", "keys.jsonl"], 0, &[]);
    let absent = hex::encode(signer([7; 32]).public_key());
    let mut kept = std::fs::read_to_string(root.join("keys.jsonl")).unwrap();
    kept.push_str(&format!("{{\"public_key\":\"{absent}\"}}\n"));
    std::fs::write(root.join("keys.jsonl"), &kept).unwrap();
    let log = LogId::of(&signer([7; 32]).public_key());
    let named = format!("log {} of the given keys is not here", log.as_str());
    says(root, &["verify", "--keys", "keys.jsonl"], 65, &[&named]);
    std::fs::write(root.join("keys.jsonl"), format!("{kept}x\n")).unwrap();
    says(root, &["verify", "--keys", "keys.jsonl"], 65, &["keys.jsonl: line 4 holds no key"]);
}

#[tokio::test]
async fn an_export_is_its_makers_alone_and_touches_no_file_that_is_there() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    says(root, &to("acme.jsonl", &[]), 0, &[]);
    let mode = std::fs::metadata(root.join("acme.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(root.join("precious"), "mine").unwrap();
    std::os::unix::fs::symlink(root.join("precious"), root.join("link")).unwrap();
    std::os::unix::fs::symlink(root.join("nowhere"), root.join("dangling")).unwrap();
    for file in ["precious", "link", "dangling"] {
        says(root, &to(file, &[]), 64, &["is there already; name another file"]);
    }
    assert_eq!(std::fs::read_to_string(root.join("precious")).unwrap(), "mine");
    assert!(!root.join("nowhere").exists());
}

/// The lines with the end that fits them.
fn sealed(lines: &[String]) -> String {
    let body = lines.join("\n");
    let end = json!({"lines": lines.len(), "sha256": Digest::of(body.as_bytes()).hex()});
    format!("{body}\n{end}\n")
}

#[tokio::test]
async fn a_package_is_of_one_tenant_with_one_head_and_says_nothing_to_terminals() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    says(root, &to("acme.jsonl", &[]), 0, &[]);
    let packed = std::fs::read_to_string(root.join("acme.jsonl")).unwrap();
    let mut lines: Vec<String> = packed.lines().map(str::to_owned).collect();
    lines.pop();
    let verify = |lines: &[String], code: i32, words: &[&str]| {
        std::fs::write(root.join("edited.jsonl"), sealed(lines)).unwrap();
        says(root, &["verify", "edited.jsonl"], code, words)
    };
    verify(&lines, 0, &[]);
    let with = |at: usize, line: String| {
        let mut edited = lines.clone();
        edited.insert(at, line);
        edited
    };
    verify(&with(1, lines[0].clone()), 65, &["line 2 is a head, which only the first may be"]);
    let mut other = lines.clone();
    other[0] = other[0].replace("\"tenant\":\"acme\"", "\"tenant\":\"globex\"");
    let words =
        ["record-00000: a row of decisions is not of", "record-00000: a row of leaves is not"];
    verify(&other, 65, &words);
    other[0] = lines[0].replace("\"on_record\":214", "\"on_record\":215");
    verify(&other, 65, &["its store held 215 records, and the package speaks of 214"]);
    other[0] = lines[0].replace("record-00000", "\\u001b[2J\\u0007record");
    let told = verify(&other, 65, &["\\u{1b}[2J\\u{7}record"]);
    assert!(!told.contains('\u{1b}') && !told.contains('\u{7}'), "{told:?}");
    // Whoever has the key could prove a record under one head that another one contradicts.
    let at = lines.iter().position(|line| line.contains("\"checkpoints\"")).unwrap();
    let second = |size: u64| {
        let log = LogId::of(&signer(KEY).public_key());
        let root = Digest::of(b"another tree");
        let head = Checkpoint { log, size, root, at_ms: 5, signature: [0; 64] };
        let signature = signer(KEY).sign(head.text().as_bytes()).unwrap();
        let coded = |bytes: &[u8]| json!({"base64": STANDARD.encode(bytes)});
        let mut line: Value = serde_json::from_str(&lines[at]).unwrap();
        for (column, value) in [
            ("size", json!(size)),
            ("root", coded(root.as_bytes())),
            ("at_ms", json!(5)),
            ("signature", coded(&signature)),
        ] {
            line["row"][column] = value;
        }
        line.to_string()
    };
    verify(&with(at, second(13)), 65, &["the package holds 2 checkpoints of log"]);
    let size = serde_json::from_str::<Value>(&lines[at]).unwrap()["row"]["size"].as_u64().unwrap();
    verify(&with(at, second(size)), 65, &["are signed and differ"]);
}

/// Puts a decision on record past the service, in a log of its own.
fn forge(app: &App, id: &str) -> (String, String) {
    let raw = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
    let record: String = raw
        .query_row("SELECT record FROM decisions WHERE id = ?1", [id], |row| row.get(0))
        .unwrap();
    // The time in it stays.
    let last = if id.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{last}", &id[..id.len() - 1]);
    let record = record.replace(id, &forged);
    let key = signer([9; 32]).public_key();
    let log = LogId::of(&key);
    let row = rusqlite::params![log.as_str(), key];
    raw.execute("INSERT INTO logs (id, public_key, since_ms) VALUES (?1, ?2, 1)", row).unwrap();
    let number = raw.last_insert_rowid();
    let columns = "tenant, request_id, at_ms, policy, revision, action, complete";
    raw.execute(
        &format!(
            "INSERT INTO decisions (id, {columns}, record) SELECT ?1, {columns}, ?2 FROM decisions \
             WHERE id = ?3"
        ),
        [&forged, &record, id],
    )
    .unwrap();
    let leaf = merkle::leaf_hash(record.as_bytes());
    raw.execute(
        "INSERT INTO leaves SELECT ?1, 0, ?2, id, tenant FROM decisions WHERE id = ?3",
        rusqlite::params![number, leaf.as_bytes(), forged],
    )
    .unwrap();
    add_head(&raw, (number, [9; 32]), 1, leaf);
    (forged, hex::encode(key))
}

#[tokio::test]
async fn a_decision_in_a_strangers_log_is_not_valid_until_its_key_is_named() {
    let app = spawn().await;
    let made = app.ask(&json!({"content": "Mail ana@evil.io", "include": ["evidence"]})).await;
    let id = made.json()["evidence"]["id"].as_str().unwrap().to_owned();
    let log = app.api.deps.log.as_ref().unwrap();
    while log.stats().queued > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let (forged, key) = forge(&app, &id);
    let verify = async |app: &App, id: &str| {
        app.post(&format!("/api/v1/evidence/{id}/verify"), &json!({})).await.json()
    };
    assert_eq!(verify(&app, &id).await["overall_valid"], true);
    let found = verify(&app, &forged).await;
    let checks = &found["checks"];
    let said = (&found["overall_valid"], &checks["signature"], &checks["inclusion"]);
    assert_eq!(said, (&json!(false), &json!(false), &json!(true)), "{found}");
    assert!(found["faults"].to_string().contains("is none of this service"), "{found}");
    let published = app.get("/api/v1/evidence/keys").await;
    assert_eq!(published.json()["logs"].as_array().unwrap().len(), 1, "{}", published.text);
    assert!(!published.text.contains(&key), "{}", published.text);

    // As a key of earlier times, which the operator names.
    app.edit("config/settings.yaml", "known_keys: []", &format!("known_keys: [{key}]"));
    let app = app.restart().await;
    assert_eq!(verify(&app, &forged).await["overall_valid"], true);

    // A head that nobody signed is never the newest.
    let raw = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
    let bogus = "INSERT INTO checkpoints SELECT log, 1099511627776, root, at_ms, signature \
                 FROM checkpoints WHERE log = 1";
    assert_eq!(raw.execute(bogus, []).unwrap(), 1);
    let proof = app.get(&format!("/api/v1/evidence/{id}/proof")).await;
    assert_eq!(proof.json()["tree_size"], 1, "{}", proof.text);
    let published = app.get("/api/v1/evidence/keys").await.text;
    assert!(published.contains(&key) && !published.contains("1099511627776"), "{published}");
    raw.execute_batch("DROP TRIGGER checkpoints_keep_rows").unwrap();
    raw.execute_batch("DELETE FROM checkpoints WHERE size > 1").unwrap();
    drop(raw);
    let root = app.stop();
    says(root.path(), &["verify"], 0, &[]);
    edit(root.path(), "config/settings.yaml", &key, "");
    says(root.path(), &["verify"], 65, &["nobody vouches for the key of log"]);
}
