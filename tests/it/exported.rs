//! What `evidence export` gives away is what was recorded, of its tenant, under a key that is the
//! service's; and what a package lacks or holds too much of is named.

use std::path::Path;
use std::sync::Arc;

use detector_orchestrator::domain::digest::Digest;
use detector_orchestrator::domain::log::{Checkpoint, LogId};
use detector_orchestrator::evidence::{Log, LogOptions};
use detector_orchestrator::metrics::Metrics;
use detector_orchestrator::orchestrator::STORE_FILE;
use detector_orchestrator::seal::{Key, Signer};
use detector_orchestrator::settings::Migrate;
use detector_orchestrator::store::{Postgres, PostgresOptions};
use serde_json::{Value, json};

use crate::binary::{command, run, text};
use crate::damage::says;
use crate::postgres::Server;
use crate::quality::decision;
use crate::shared::orchestrator;
use crate::tamper::{KEY, filled};

fn signer(key: [u8; 32]) -> Signer {
    Signer::of(&Key::from_bytes(key)).unwrap()
}

/// The store's file to somebody whom no trigger stops.
fn open(root: &Path) -> rusqlite::Connection {
    let raw = rusqlite::Connection::open(root.join("data").join(STORE_FILE)).unwrap();
    let drops = "SELECT group_concat('DROP TRIGGER ' || name, ';') FROM sqlite_master \
                 WHERE type = 'trigger'";
    let drops: String = raw.query_row(drops, [], |row| row.get(0)).unwrap();
    raw.execute_batch(&drops).unwrap();
    raw
}

fn packed(root: &Path, file: &str) -> Vec<Value> {
    let packed = std::fs::read_to_string(root.join(file)).unwrap();
    packed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Has the service's own key lie where it looks for it.
fn put_key(root: &Path) {
    std::fs::create_dir(root.join("data/keys")).unwrap();
    std::fs::write(root.join("data/keys/evidence"), hex::encode(KEY)).unwrap();
}

#[tokio::test]
async fn an_export_leaves_out_and_names_what_is_not_what_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    put_key(root);
    says(root, &["export", "--tenant", "acme", "whole.jsonl"], 0, &["214 records"]);
    open(root)
        .execute_batch(
            "UPDATE decisions SET record = replace(record, '\"n\":0,', '\"n\":7777,') \
             WHERE id = 'record-00000'; \
             UPDATE decisions SET action = 'allow' WHERE id = 'record-00003'; \
             UPDATE decisions SET tenant = 'acme' WHERE id = 'record-00002'; \
             UPDATE leaves SET tenant = 'acme' WHERE decision = 'record-00002'; \
             UPDATE decisions SET record = '' WHERE id = 'record-00006'",
        )
        .unwrap();
    let words = [
        "record-00000: its body or its leaf is not what was recorded: it is not in the package",
        "record-00003: `action` is not what its body says: it is not in the package",
        "record-00002: `tenant` is not what its body says: it is not in the package",
        "record-00006: emptied, and no purge is on record: it is not in the package",
        "211 records are in acme.jsonl; 4 more are on record and cannot be proven",
    ];
    says(root, &["export", "--tenant", "acme", "acme.jsonl"], 65, &words);
    let lines = packed(root, "acme.jsonl");
    let out = ["record-00000", "record-00002", "record-00003", "record-00006"];
    assert_eq!(lines[0]["unproven"], json!(out));
    let rows = lines[1..].iter().map(Value::to_string).collect::<String>();
    assert!(out.iter().all(|id| !rows.contains(id)) && !rows.contains("7777"));
    let words =
        ["missing record-00002: its store held the record and could not prove it", " 4 pro"];
    says(root, &["verify", "acme.jsonl"], 65, &words);
    let one = ["export", "--tenant", "acme", "--id", "record-00000", "one.jsonl"];
    says(root, &one, 65, &["record-00000: its body", "0 records are in one.jsonl; 1 more"]);
}

/// Signs the log anew by `key`.
fn sign_anew(raw: &rusqlite::Connection, key: [u8; 32]) {
    let public = signer(key).public_key();
    let log = LogId::of(&public);
    raw.execute(
        "UPDATE logs SET id = ?1, public_key = ?2",
        rusqlite::params![log.as_str(), public],
    )
    .unwrap();
    let mut heads = raw.prepare("SELECT size, root, at_ms FROM checkpoints").unwrap();
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let heads: Vec<(i64, [u8; 32], i64)> = heads.query_map([], read).unwrap().flatten().collect();
    for (size, root, at_ms) in heads {
        let (log, root) = (log.clone(), Digest::from_bytes(root));
        let head = Checkpoint { log, size: size.cast_unsigned(), root, at_ms, signature: [0; 64] };
        let signature = signer(key).sign(head.text().as_bytes()).unwrap();
        let row = rusqlite::params![signature, size];
        raw.execute("UPDATE checkpoints SET signature = ?1 WHERE size = ?2", row).unwrap();
    }
}

#[tokio::test]
async fn a_log_that_was_signed_anew_by_another_key_is_not_exported_where_keys_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    let raw = open(root);
    sign_anew(&raw, [9; 32]);
    says(root, &["export", "--tenant", "acme", "believed.jsonl"], 0, &["214 records"]);
    says(root, &["verify"], 0, &["signed by 1 keys nobody vouched for"]);
    let known = |key: [u8; 32], args: &[&str]| {
        let mut run = command(root);
        let keys = format!("[{}]", hex::encode(signer(key).public_key()));
        run.env("ORCHESTRATION_EVIDENCE__KNOWN_KEYS", keys).args(["evidence"]).args(args);
        let output = run.output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    // The named keys count, whether the present one is at hand or not.
    for key_is_there in [false, true] {
        if key_is_there {
            put_key(root);
        }
        let (code, told) = known([9; 32], &["verify"]);
        assert!(code == Some(0) && !told.contains("nobody vouched"), "{told}");
        let (code, told) = known([7; 32], &["verify"]);
        assert!(code == Some(65) && told.contains("nobody vouches for the key"), "{told}");
        let file = format!("{key_is_there}.jsonl");
        let (code, told) = known([7; 32], &["export", "--tenant", "acme", &file]);
        assert_eq!(code, Some(65), "{told}");
        let log = LogId::of(&signer([9; 32]).public_key());
        assert!(told.contains(&format!("log {} is left out", log.as_str())), "{told}");
        assert!(told.contains("0 records are in") && told.contains("214 more"), "{told}");
    }
    let file = ["export", "--tenant", "acme", "own.jsonl"];
    says(root, &file, 65, &["is left out", "0 records are in own.jsonl; 214 more"]);
}

#[tokio::test]
async fn a_tenants_manifest_that_was_taken_from_the_sources_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    let gone =
        "DELETE FROM sources WHERE cast(bytes AS TEXT) LIKE '{\"tenant\":\"acme\",\"sources\":%'";
    assert_eq!(open(root).execute(gone, []).unwrap(), 1);
    let words = ["records of acme under revision", "the manifest of the tenant's own sources"];
    says(root, &["verify"], 65, &[words[0], words[1], " 1 problems"]);
    says(root, &["export", "--tenant", "acme", "acme.jsonl"], 65, &words);
    says(root, &["verify", "acme.jsonl"], 65, &[words[0], words[1], " 1 problems"]);
    says(root, &["export", "--tenant", "globex", "globex.jsonl"], 0, &[]);
    says(root, &["verify", "globex.jsonl"], 0, &[" 0 problems"]);
}

#[tokio::test]
async fn a_package_holds_each_row_once_and_sources_of_its_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    says(root, &["export", "--tenant", "acme", "acme.jsonl"], 0, &[]);
    let mut lines = packed(root, "acme.jsonl");
    lines.pop();
    let verify = |lines: &[Value], args: &[&str], words: &[&str]| {
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        let body = lines.join("\n");
        let end = json!({"lines": lines.len(), "sha256": Digest::of(body.as_bytes()).hex()});
        std::fs::write(root.join("edited.jsonl"), format!("{body}\n{end}\n")).unwrap();
        let code = if words.is_empty() { 0 } else { 65 };
        says(root, &[&["verify", "edited.jsonl"], args].concat(), code, words)
    };
    verify(&lines, &[], &[]);
    let of = |table: &str| lines.iter().position(|line| line["table"] == table).unwrap();
    let own = lines.iter().rposition(|line| line["row"]["tenant"] == "acme").unwrap();
    assert_eq!(lines[own]["table"], "sources");
    let mut other = lines[own].clone();
    other["row"]["tenant"] = "globex".into();
    let with = |line: Value| [&lines[..], &[line]].concat();
    verify(&with(other), &[], &["1 rows of sources are not of the package's tenant"]);
    let words = ["1 rows of logs have the number of another", "have the id of another"];
    verify(&with(lines[of("logs")].clone()), &[], &words);
    verify(&with(lines[own].clone()), &[], &["1 rows of sources have the tenant and digest of"]);
    let proof = lines.iter().find(|line| !line["proof"].is_null()).unwrap();
    verify(&with(proof.clone()), &[], &["is the second proof of record-00000"]);

    let mut odd = lines.clone();
    odd[0]["records"][0] = "a\u{202e}b\u{9b}c\u{7f}".into();
    let hidden = |told: &str| told.contains(['\u{202e}', '\u{9b}', '\u{7f}']);
    let told = verify(&odd, &[], &["a\\u{202e}b\\u{9b}c\\u{7f}"]);
    assert!(!hidden(&told), "{told}");
    let told = verify(&odd, &["--json"], &["a\\u202eb\\u009bc\\u007f"]);
    assert!(!hidden(&told), "{told}");
}

#[tokio::test]
async fn a_package_says_each_thing_once_and_is_replayed_for_whom_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    says(root, &["export", "--tenant", "acme", "acme.jsonl"], 0, &[]);
    let whole = std::fs::read_to_string(root.join("acme.jsonl")).unwrap();
    let body = whole.trim_end().rsplit_once('\n').unwrap().0;
    for (once, twice) in [
        ("{\"row\":{\"action\":", "{\"row\":{\"action\":\"allow\",\"action\":"),
        ("{\"row\":{", "{\"row\":{\"a\":1},\"row\":{"),
        ("\"package\":1", "\"package\":1,\"tenant\":\"globex\""),
    ] {
        assert!(body.contains(once), "{once}");
        let body = body.replacen(once, twice, 1);
        let end =
            json!({"lines": body.lines().count(), "sha256": Digest::of(body.as_bytes()).hex()});
        std::fs::write(root.join("twice.jsonl"), format!("{body}\n{end}\n")).unwrap();
        says(root, &["verify", "twice.jsonl"], 65, &["a key is there twice"]);
    }
    let replay = |more: &[&str], code, words: &[&str]| {
        says(root, &[&["replay", "--package", "acme.jsonl"], more].concat(), code, words);
    };
    for none in [["--tenant", "globex"], ["--since", "2100-01-01"]] {
        replay(&none, 66, &["holds no such record"]);
    }
    // What it holds was made for its form and has no sources: it is found, whatever comes of it.
    let output = run(root, &["evidence", "replay", "--package", "acme.jsonl", "--tenant", "acme"]);
    assert_ne!(output.status.code(), Some(66), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_log_whose_row_is_gone_is_named_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    open(root).execute_batch("DELETE FROM logs").unwrap();
    let words = ["its leaf is of a log that has no row in `logs`"];
    says(root, &["export", "--tenant", "acme", "acme.jsonl"], 65, &words);
    says(root, &["replay", "--tenant", "acme"], 65, &words);
    says(root, &["verify"], 65, &["a leaf belongs to no log"]);
}

#[tokio::test]
async fn a_log_whose_row_is_gone_from_a_database_is_named_as_what_it_is() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let url = server.database();
    let options = PostgresOptions::at(url.clone().into());
    let options = PostgresOptions { migrate: Migrate::Auto, ..options };
    let log = Log::start(LogOptions {
        store: Arc::new(Postgres::open(&options).unwrap()),
        signer: signer(KEY),
        known_keys: Vec::new(),
        spool: None,
        rows_max: 8192,
        bytes_max: 1 << 26,
        held_bytes_max: 1 << 26,
        metrics: Arc::new(Metrics::new(&[], "test").unwrap()),
    });
    let log = log.unwrap();
    log.append_strict(decision(1, 1, None)).await.unwrap();
    log.close().await;
    let gone = "SET session_replication_role = replica; DELETE FROM logs";
    server.sql(url.rsplit('/').next().unwrap(), gone);
    for args in [&["export", "--tenant", "acme", "acme.jsonl"][..], &["replay", "--tenant", "acme"]]
    {
        let args = [&["evidence"], args].concat();
        let output = orchestrator(dir.path(), &url, &args).output().unwrap();
        let told = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(65), "{told}");
        assert!(told.contains("its leaf is of a log that has no row in `logs`"), "{told}");
    }
}
