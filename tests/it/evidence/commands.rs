//! What `evidence` says of stores and packages that are damaged in part: each fault is named, the rest
//! is done.

use std::path::Path;

use detector_orchestrator::domain::digest::Digest;
use detector_orchestrator::domain::log::LogId;
use detector_orchestrator::evidence::merkle::Frontier;
use detector_orchestrator::evidence::proof;
use detector_orchestrator::evidence::verify::{Material, Outside, verify};
use detector_orchestrator::orchestrator::STORE_FILE;
use detector_orchestrator::seal::{Key, Signer};
use detector_orchestrator::store::{
    Decisions as _, Kept, Ledger as _, Page, Place, Sqlite, SqliteOptions, Table,
};
use serde_json::{Value, json};

use super::{decided, id, of};
use crate::app::spawn;
use crate::binary::{command, run, text};
use crate::damage::says;
use crate::tamper::{KEY, append, decision, filled};

const LATER: [u8; 32] = [9; 32];

fn public(key: [u8; 32]) -> [u8; 32] {
    Signer::of(&Key::from_bytes(key)).unwrap().public_key()
}

/// The store's file to somebody whom no trigger stops.
fn open(root: &Path) -> rusqlite::Connection {
    let raw = rusqlite::Connection::open(root.join("data").join(STORE_FILE)).unwrap();
    let drops = "SELECT group_concat('DROP TRIGGER ' || name, ';') FROM sqlite_master \
                 WHERE type = 'trigger'";
    let drops: Option<String> = raw.query_row(drops, [], |row| row.get(0)).unwrap();
    raw.execute_batch(&drops.unwrap_or_default()).unwrap();
    raw
}

fn export<'a>(tenant: &'a str, file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["export", "--tenant", tenant, file], more].concat()
}

/// The package `file` with other lines, sealed anew.
fn reseal(root: &Path, file: &str, edit: impl FnOnce(&mut Vec<Value>)) {
    let whole = std::fs::read_to_string(root.join(file)).unwrap();
    let mut lines: Vec<Value> =
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.pop();
    edit(&mut lines);
    let body = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let end = json!({"lines": lines.len(), "sha256": Digest::of(body.as_bytes()).hex()});
    std::fs::write(root.join("edited.jsonl"), format!("{body}\n{end}\n")).unwrap();
}

/// Records of globex alone, in the log of another key.
async fn grow(store: &Sqlite, frontier: &mut Frontier, numbers: std::ops::Range<usize>) {
    let of = decision(0, "").tenant;
    let page = Page { limit: 1, before: None };
    let revision = store.decisions(of, page).await.unwrap().remove(0).value.revision;
    let numbers = numbers.filter(|at| at % 3 == 2);
    let all: Vec<_> = numbers.map(|at| decision(at, &revision)).collect();
    append(store, LATER, frontier, &all).await;
}

#[tokio::test]
async fn heads_of_both_logs_compare_a_package_of_one_after_a_change_of_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = filled(root).await;
    let mut frontier = Frontier::default();
    grow(&store, &mut frontier, 640..700).await;
    let both = text(&run(root, &["evidence", "keys"]).stdout);
    assert_eq!(both.matches("\ntime ").count(), 2, "{both}");
    std::fs::write(root.join("both.txt"), &both).unwrap();
    let kept = ["--checkpoint", "both.txt"];
    let verify = |file| [&["verify", file], &kept[..]].concat();

    says(root, &export("acme", "one.jsonl", &[]), 0, &[]);
    let note = ["note: the package holds nothing of log", "checkpoint was not compared"];
    says(root, &verify("one.jsonl"), 0, &note);
    reseal(root, "one.jsonl", |lines| {
        let log = LogId::of(&public(LATER));
        lines.retain(|line| line["table"] != "logs" || line["row"]["id"] != log.as_str());
    });
    says(root, &verify("edited.jsonl"), 0, &note);

    grow(&store, &mut frontier, 700..760).await;
    drop(store);
    says(root, &export("globex", "plain.jsonl", &[]), 0, &[]);
    says(root, &verify("plain.jsonl"), 65, &["it was not compared", " 1 problems"]);
    for (tenant, file) in [("acme", "acme.jsonl"), ("globex", "globex.jsonl")] {
        says(root, &export(tenant, file, &kept), 0, &[]);
        let told = says(root, &verify(file), 0, &["2 checkpoints of 2 logs"]);
        assert!(!told.contains("note:"), "{told}");
    }
    // Records whose log is not there any more belong to none.
    reseal(root, "plain.jsonl", |lines| {
        let log = LogId::of(&public(LATER));
        lines.retain(|line| line["table"] != "logs" || line["row"]["id"] != log.as_str());
    });
    says(root, &verify("edited.jsonl"), 65, &["a leaf belongs to no log"]);
    reseal(root, "plain.jsonl", |lines| {
        lines.retain(|line| line["table"] != "checkpoints" || line["row"]["log"] != 1);
    });
    says(root, &verify("edited.jsonl"), 65, &["holds no head of the log of the given checkpoint"]);

    // Of a whole store each log must be there.
    let cut = "DELETE FROM decisions WHERE sequence > 640; DELETE FROM leaves WHERE log = 2; \
               DELETE FROM checkpoints WHERE log = 2; DELETE FROM logs WHERE number = 2";
    open(root).execute_batch(cut).unwrap();
    says(
        root,
        &["verify", "--checkpoint", "both.txt"],
        65,
        &["of the given checkpoint is not here"],
    );
    let words = ["of a checkpoint has no head in this store"];
    says(root, &export("acme", "cut.jsonl", &kept), 65, &words);
}

#[tokio::test]
async fn a_log_of_an_own_key_that_is_gone_whole_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    std::fs::create_dir(root.join("data/keys")).unwrap();
    std::fs::write(root.join("data/keys/evidence"), hex::encode(LATER)).unwrap();
    let verify = || {
        let mut run = command(root);
        let keys = format!("[{}]", hex::encode(public(KEY)));
        run.env("ORCHESTRATION_EVIDENCE__KNOWN_KEYS", keys).args(["evidence", "verify"]);
        let output = run.output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let log = LogId::of(&public(LATER));
    let (code, told) = verify();
    let words = format!("note: log {} of the service's own keys is not here", log.as_str());
    assert!(code == Some(0) && told.contains(&words), "{told}");
    says(root, &["keys"], 65, &[&words, "is left out"]);
    let entry = "INSERT INTO custody VALUES ('record-00000', 2, 'acme', 1, 'accessed', 'x', 'api', '{}', \
                 zeroblob(32), zeroblob(32), ?1, zeroblob(64))";
    open(root).execute(entry, [log.as_str()]).unwrap();
    let (code, told) = verify();
    let words = "of the service's own keys is not here, and its key signed custody";
    assert!(code == Some(65) && told.contains(words), "{told}");

    std::fs::write(root.join("data/keys/evidence"), "no key").unwrap();
    for args in [&["verify"][..], &["keys"], &["export", "--tenant", "acme", "a.jsonl"]] {
        says(root, args, 65, &["the log's own key: "]);
    }
}

#[tokio::test]
async fn a_forged_head_of_any_size_is_named_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    let head = text(&run(root, &["evidence", "keys"]).stdout);
    let forged = "INSERT INTO checkpoints SELECT log, 9223372036854775807, root, at_ms, signature \
                  FROM checkpoints LIMIT 1";
    open(root).execute_batch(forged).unwrap();
    says(root, &["verify"], 65, &["the checkpoint of 9223372036854775807 leaves"]);
    let file = Place::File(root.join("data").join(STORE_FILE));
    let store = Sqlite::open(&SqliteOptions::at(file)).unwrap();
    let key = store.logs().await.unwrap().remove(0);
    let found = proof::newest(&store, &key).await.unwrap();
    assert_eq!((found.unsigned, found.head.unwrap().size), (1, 640));
    drop(store);
    says(root, &["keys"], 65, &["\n640\n", "the newest 1 checkpoints of log"]);
    let words = ["the newest 1 checkpoints of log", "214 records are in"];
    says(root, &export("acme", "acme.jsonl", &[]), 65, &words);

    open(root).execute_batch("DELETE FROM checkpoints WHERE size > 640").unwrap();
    std::fs::write(root.join("forged.txt"), head.replace("\n640\n", "\n639\n")).unwrap();
    let words = ["forged or damaged, and was not compared", "214 records are in"];
    says(root, &export("acme", "b.jsonl", &["--checkpoint", "forged.txt"]), 65, &words);
    std::fs::write(root.join("longer.txt"), head.replace("\n640\n", "\n641\n")).unwrap();
    let words = ["the log has 640 leaves, the checkpoint 641: they cannot be compared"];
    says(root, &export("acme", "c.jsonl", &["--checkpoint", "longer.txt"]), 65, &words);
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_named_and_the_rest_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    let raw = open(root);
    raw.execute_batch(
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_master SET sql = replace(sql, ') STRICT', ')') WHERE name = 'decisions'; \
         PRAGMA writable_schema = RESET;",
    )
    .unwrap();
    drop(raw);
    open(root)
        .execute_batch(
            "UPDATE decisions SET action = CAST(X'ff' AS TEXT) WHERE id = 'record-00000'; \
             UPDATE decisions SET request_id = CAST(X'72ff' AS TEXT) WHERE id = 'record-00003'; \
             UPDATE decisions SET action = action || char(0) WHERE id = 'record-00006'; \
             UPDATE decisions SET record = CAST(X'7bff7d' AS TEXT) WHERE id = 'record-00009'; \
             UPDATE leaves SET tenant = CAST(X'ff' AS TEXT) WHERE decision = 'record-00012'; \
             UPDATE decisions SET policy = X'00ff' WHERE id = 'record-00015'; \
             UPDATE decisions SET id = X'00ff' WHERE id = 'record-00018'; \
             UPDATE decisions SET at_ms = 'x' WHERE id = 'record-00021'; \
             UPDATE decisions SET tenant = X'61' WHERE id = 'record-00024'; \
             INSERT INTO custody VALUES ('record-00027', 9223372036854775807, 'acme', 1, 'accessed', \
             'x', 'api', '{}', zeroblob(32), zeroblob(32), 'x', zeroblob(64))",
        )
        .unwrap();
    let out: Vec<String> = (0..9).map(|at| format!("record-{:05}", at * 3)).collect();
    let named: Vec<String> = out.iter().map(|id| format!("{id}: ")).collect();
    let mut words: Vec<&str> = named.iter().map(String::as_str).collect();
    words.extend(["205 records are in acme.jsonl; 10 more", "record-00027: custody entry 2 holds"]);
    says(root, &export("acme", "acme.jsonl", &[]), 65, &words);
    let lines = std::fs::read_to_string(root.join("acme.jsonl")).unwrap();
    let head: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let unproven = head["unproven"].to_string();
    for id in &out {
        assert!(unproven.contains(id.as_str()) && lines.matches(id.as_str()).count() == 1, "{id}");
    }
    let named: Vec<String> = out.iter().map(|id| format!("{id} acme: ")).collect();
    let words: Vec<&str> = named.iter().map(String::as_str).collect();
    let told = says(root, &["replay", "--tenant", "acme"], 65, &words);
    assert!(told.contains("record-00003 acme: `request_id` is not what its body says"), "{told}");
    assert!(told.contains("record-00639 acme: "), "{told}");
    says(root, &["replay"], 65, &words);
    says(root, &["verify"], 65, &out.iter().map(String::as_str).collect::<Vec<_>>());
    says(root, &export("globex", "globex.jsonl", &[]), 0, &["213 records"]);
}

#[tokio::test]
async fn numbers_at_both_ends_keep_no_command_from_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    open(root)
        .execute_batch(&format!(
            "UPDATE decisions SET sequence = {} WHERE id = 'record-00003'; \
             UPDATE decisions SET sequence = {} WHERE id = 'record-00006';",
            i64::MIN,
            i64::MAX
        ))
        .unwrap();
    let named = "record-00003: its number -9223372036854775808 is not that of its place";
    says(root, &["verify"], 65, &["record-00003", "is not that of its place"]);
    says(root, &export("acme", "acme.jsonl", &[]), 65, &[named, "214 records are in acme.jsonl"]);
    says(root, &["replay", "--tenant", "acme"], 65, &["record-00003 acme: "]);
}

#[tokio::test]
async fn a_damaged_file_is_damage_and_a_missing_one_is_no_input() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let all = [
        &["verify"][..],
        &["keys"],
        &["replay"],
        &["replay", "--tenant", "acme"],
        &["export", "--tenant", "acme", "a.jsonl"],
    ];
    for args in all {
        says(root, args, 66, &["there is no store at"]);
    }
    assert!(!root.join("data").exists());
    drop(filled(root).await);
    let file = root.join("data").join(STORE_FILE);
    let whole = std::fs::read(&file).unwrap();
    for from in [0, 100, 4_096] {
        let mut bytes = whole.clone();
        bytes[from..].iter_mut().step_by(3).for_each(|byte| *byte ^= 0x5a);
        std::fs::write(&file, &bytes).unwrap();
        for args in all {
            says(root, args, 65, &[]);
        }
    }
}

#[tokio::test]
async fn what_is_twice_or_belongs_to_nothing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    let tables = Kept::File(root.join("data").join(STORE_FILE)).raw().unwrap();
    let mut material = Material { tables, ..Material::default() };
    assert_eq!(verify(&material, &Outside::default()).problems, []);
    for table in [Table::Checkpoints, Table::Nodes] {
        let rows = material.tables.get_mut(&table).unwrap();
        rows.push(rows[0].clone());
    }
    let found = verify(&material, &Outside::default()).problems;
    let told: Vec<&str> = found.iter().map(|it| it.what.as_str()).collect();
    let words =
        ["the subtree 0 of level 8 is there twice", "two checkpoints of 53 leaves are signed"];
    assert_eq!(told, words);
    open(root).execute_batch("INSERT INTO nodes VALUES (7, 8, 0, zeroblob(32))").unwrap();
    says(root, &["verify"], 65, &["1 subtrees belong to no log", " 1 problems"]);

    says(root, &export("acme", "acme.jsonl", &[]), 0, &[]);
    let edited = |edit: fn(&mut Vec<Value>), words: &str| {
        reseal(root, "acme.jsonl", edit);
        says(root, &["verify", "edited.jsonl"], 65, &[words]);
    };
    edited(|lines| lines[0]["more"] = 1.into(), "line 1 has keys that no package has there");
    edited(|lines| lines[1]["size"] = 1.into(), "line 2 has keys that no package has there");
    let words = "the row in line 2 has keys that no package has there";
    edited(|lines| lines[1]["row"]["actor"] = "x".into(), words);
    let node = |lines: &mut Vec<Value>| {
        let row = json!({"log": 0, "level": 8, "place": 0, "hash": {"base64": ""}});
        lines.push(json!({"table": "nodes", "row": row}));
    };
    edited(node, " is no row");
    let proof = |lines: &mut Vec<Value>| {
        lines.push(json!({"proof": "nobody", "size": 640, "path": []}));
    };
    edited(proof, "1 proofs are of no record of the package");
    edited(|lines| lines[0]["sources"] = "no".into(), "does not say whether it has sources");
    let unlisted = |lines: &mut Vec<Value>| {
        lines[0]["records"].as_array_mut().unwrap().remove(0);
        lines[0]["on_record"] = 213.into();
    };
    edited(unlisted, "record-00000: the package holds the record and does not list it");
    let twice = |lines: &mut Vec<Value>| {
        let first = lines[0]["records"][0].clone();
        lines[0]["records"].as_array_mut().unwrap().push(first);
        lines[0]["on_record"] = 215.into();
    };
    edited(twice, "the package lists a record twice");
}

#[tokio::test]
async fn content_of_a_record_that_is_gone_and_keys_without_keys_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(filled(root).await);
    open(root).execute_batch("UPDATE decisions SET record = '' WHERE id = 'record-00000'").unwrap();
    std::fs::write(root.join("content.txt"), "x\n").unwrap();
    let salt = "00".repeat(32);
    let check = |id| ["verify", "--id", id, "--content", "content.txt", "--salt", &salt];
    let words = ["content record-00000: it holds no commitment any more", "content not checked"];
    says(root, &check("record-00000"), 65, &words);
    says(root, &check("record-99999"), 66, &["there is no record of that --id"]);
    std::fs::write(root.join("head.txt"), run(root, &["evidence", "keys"]).stdout).unwrap();
    let words = ["line 1 holds no key of a log; give lines of `evidence keys --json`"];
    says(root, &["verify", "--keys", "head.txt"], 65, &words);
}

#[tokio::test]
async fn a_row_that_was_moved_to_another_tenant_is_shown_to_nobody() {
    let app = spawn().await;
    let made = decided(&app, "").await;
    let id = id(&made);
    of(&app, ("GET", id), "", &json!({})).await;
    let get = async |path: &str, tenant: &str| {
        let path = format!("/api/v1/evidence{path}");
        app.send("GET", &path, &[("x-tenant-id", tenant)], b"").await
    };
    assert_eq!(get("", "default").await.json()["decisions"][0]["id"], id);
    let moved = "UPDATE decisions SET tenant = 'acme'; UPDATE leaves SET tenant = 'acme'";
    open(&app.path("")).execute_batch(moved).unwrap();
    for tenant in ["acme", "default"] {
        let list = get("", tenant).await;
        assert_eq!(list.json()["decisions"], json!([]), "{}", list.text);
        for of in ["", "/package", "/proof", "/chain"] {
            let answer = get(&format!("/{id}{of}"), tenant).await;
            assert_eq!(answer.status, 404, "{tenant} {of}: {}", answer.text);
        }
    }
}
