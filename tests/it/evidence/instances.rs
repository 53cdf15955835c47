//! Two instances over one PostgreSQL: one chain of custody, one purge, and what a tampered row says.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::id;
use crate::access::BOOT;
use crate::app::Answer;
use crate::binary::text;
use crate::postgres::Server;
use crate::shared::{Instance, orchestrator, secret};

const ACME: [(&str, &str); 1] = [("x-tenant-id", "acme")];

async fn ask(at: &Instance, (method, path): (&str, &str), body: &Value) -> Answer {
    let path = format!("/api/v1/{path}");
    at.send_for((method, &path), BOOT, body, &ACME).await
}

/// What is answered once it is 200.
async fn soon(at: &Instance, asked: (&str, &str), holds: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let answer = ask(at, asked, &json!({})).await;
        if answer.status == 200 && holds(&answer.json()) {
            return answer.json();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{asked:?}: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn decided(at: &Instance, key: &str) -> Value {
    let body = json!({"content": "Mail ana@evil.io", "include": ["evidence"]});
    let answer = at.send("POST", "/api/v1/orchestrate", key, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["evidence"].clone()
}

fn database() -> (Server, String) {
    let server = Server::start();
    let url = server.database();
    let dir = tempfile::tempdir().unwrap();
    let migrated = orchestrator(dir.path(), &url, &["migrate"]).output().unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    (server, url)
}

/// Runs `sql` as somebody who owns the tables and stops at no trigger.
fn attack(server: &Server, url: &str, sql: &str) {
    let name = url.rsplit('/').next().unwrap();
    server.sql(name, &format!("SET session_replication_role = replica; {sql}"));
}

#[tokio::test]
async fn two_instances_keep_one_chain_and_a_tampered_entry_is_named() {
    let (server, url) = database();
    let (a, b) = (Instance::start(&url), Instance::start(&url));
    let made = a.key("acme").await;
    let evidence = decided(&a, secret(&made)).await;
    let one = format!("evidence/{}", id(&evidence));
    soon(&a, ("GET", &one), |_| true).await;
    let verify = format!("{one}/verify");
    let (verify, none) = (("POST", verify.as_str()), json!({}));
    let both = (0..20).map(|n| ask(if n % 2 == 0 { &a } else { &b }, verify, &none));
    for answer in futures_util::future::join_all(both).await {
        assert_eq!(answer.json()["overall_valid"], true, "{}", answer.text);
    }
    let chain = ask(&b, ("GET", &format!("{one}/chain?limit=200")), &none).await.json();
    let chain = chain["chain"].as_array().unwrap();
    assert_eq!(chain.len(), 22);
    let signers: std::collections::BTreeSet<_> =
        chain[1..].iter().map(|entry| entry["log_id"].as_str().unwrap()).collect();
    let keys = ask(&b, ("GET", "evidence/keys"), &none).await.json();
    let logs = keys["logs"].as_array().unwrap();
    assert!(signers.iter().all(|signer| logs.iter().any(|log| log["log_id"] == *signer)));

    let checked = async || ask(&b, verify, &none).await.json();
    let named = |found: &Value| found["faults"][0]["detail"].as_str().unwrap().to_owned();
    attack(&server, &url, "UPDATE custody SET actor = 'x' WHERE seq = 7");
    let found = checked().await;
    assert_eq!(found["checks"]["chain_of_custody"], false, "{found}");
    assert_eq!(
        (&found["overall_valid"], &found["checks"]["inclusion"]),
        (&json!(false), &json!(true))
    );
    assert!(named(&found).starts_with("entry 7: "), "{found}");
    attack(&server, &url, "UPDATE custody SET action = 'x' WHERE seq = 6");
    assert!(named(&checked().await).starts_with("entry 6: "));
    attack(&server, &url, "DELETE FROM custody WHERE seq = 3");
    assert!(named(&checked().await).starts_with("entry 4: "));
    attack(&server, &url, "UPDATE decisions SET at_ms = at_ms + 1");
    let found = checked().await;
    assert_eq!(found["checks"]["timestamp"], false, "{found}");
    attack(&server, &url, "UPDATE decisions SET record = replace(record, 'redact', 'allow')");
    assert_eq!(checked().await["checks"]["inclusion"], false);
}

#[tokio::test]
async fn an_instance_purges_at_its_start_what_is_old_and_not_held() {
    let (server, url) = database();
    let a = Instance::start(&url);
    let made = a.key("acme").await;
    let mut decisions = Vec::new();
    for _ in 0..3 {
        decisions.push(decided(&a, secret(&made)).await);
    }
    let path = |at: usize| format!("evidence/{}", id(&decisions[at]));
    for at in 0..3 {
        soon(&a, ("GET", &path(at)), |_| true).await;
    }
    let held = ask(&a, ("POST", &format!("{}/hold", path(1))), &json!({"reason": "case 12"})).await;
    assert_eq!(held.status, 200, "{}", held.text);
    attack(&server, &url, "UPDATE decisions SET at_ms = at_ms - 366 * 86400000::bigint");
    let b = Instance::start(&url);
    for at in [0, 2] {
        let gone = soon(&a, ("GET", &path(at)), |shown| shown["purged"] == true).await;
        assert_eq!(gone["record"], Value::Null);
    }
    let kept = soon(&b, ("GET", &path(1)), |_| true).await;
    assert_eq!(kept["purged"], false, "{kept}");
    let acts = ask(&b, ("GET", "audit"), &json!({})).await.json();
    assert_eq!(acts["audit"][0]["action"], "evidence.purge", "{acts}");
    assert_eq!(acts["audit"][0]["after"]["records"], 2, "{acts}");
    let chain = ask(&b, ("GET", "audit/verify"), &json!({})).await.json();
    assert_eq!(chain["valid"], true, "{chain}");
}

/// Verifies the whole database: exit code and what was found.
fn verified(url: &str, more: &[&str]) -> (Option<i32>, Value) {
    let dir = tempfile::tempdir().unwrap();
    let args = [&["evidence", "verify", "--store", "--json"], more].concat();
    let output = orchestrator(dir.path(), url, &args).output().unwrap();
    let found = serde_json::from_slice(&output.stdout);
    (output.status.code(), found.unwrap_or_else(|_| panic!("{output:?}")))
}

/// Kinds of problems, the decision that each names, and what makes them.
fn tampers(first: &str, other: &str) -> Vec<(&'static str, Option<String>, String)> {
    let last = "(SELECT max(place) FROM leaves)";
    let of = |id: &str| format!("WHERE id = '{id}'");
    let leaf = |id: &str| format!("WHERE decision = '{id}'");
    let cut = format!(
        "DELETE FROM decisions WHERE id = (SELECT decision FROM leaves WHERE place = {last}); \
         DELETE FROM checkpoints WHERE size > {last}; DELETE FROM leaves WHERE place = {last}"
    );
    let moved = format!(
        "ALTER TABLE decisions ALTER sequence SET GENERATED BY DEFAULT; \
         UPDATE decisions SET sequence = -1 {}",
        of(other)
    );
    // Under a name that no tenant can have.
    let nameless = format!(
        "UPDATE decisions SET tenant = ' ' {}; DELETE FROM leaves {}",
        of(other),
        leaf(other)
    );
    let edited = "UPDATE decisions SET record = replace(record, 'redact', 'allow')";
    let named: [(&'static str, &str, String); 13] = [
        ("altered", first, format!("{edited} {}", of(first))),
        ("altered", other, format!("UPDATE decisions SET complete = NOT complete {}", of(other))),
        ("altered", other, format!("UPDATE decisions SET at_ms = at_ms + 1 {}", of(other))),
        ("missing", first, format!("DELETE FROM decisions {}", of(first))),
        ("added", first, format!("DELETE FROM leaves {}", leaf(first))),
        ("added", other, nameless),
        ("altered", other, format!("UPDATE leaves SET tenant = 'acme' {}", leaf(other))),
        ("order", other, moved),
        ("root", first, format!("UPDATE leaves SET hash = sha256(hash) {}", leaf(first))),
        ("signature", "", "UPDATE checkpoints SET at_ms = at_ms + 1".to_owned()),
        ("truncated", "", cut),
        ("source", "", "UPDATE sources SET bytes = bytes || 'x'".to_owned()),
        ("source", "", "DELETE FROM sources WHERE tenant = ''".to_owned()),
    ];
    let some = |id: &str| Some(id.to_owned()).filter(|id| !id.is_empty());
    named.into_iter().map(|(kind, id, tamper)| (kind, some(id), tamper)).collect()
}

/// What `evidence` with these arguments says in a folder, of a database.
fn says((dir, url): &(&Path, &str), args: &[&str], code: i32, words: &[&str]) {
    let args = [&["evidence"], args].concat();
    let output = orchestrator(dir, url, &args).output().unwrap();
    let told = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
    assert!(words.iter().all(|word| told.contains(word)), "{args:?}: {words:?} in {told}");
}

/// Six records of acme and six of globex go through every command.
fn sound(at: &(&Path, &str), ids: &[String], kept: &[&str]) {
    let export = ["export", "--tenant", "acme", "acme.jsonl"];
    says(at, &[&export, kept].concat(), 0, &["6 records are in"]);
    says(at, &[&["verify", "acme.jsonl"], kept].concat(), 0, &["6 records", " 0 problems"]);
    let one = ["export", "--tenant", "globex", "--id", &ids[8], "one.jsonl"];
    says(at, &one, 0, &["1 records are in"]);
    says(at, &["replay", "--tenant", "acme"], 0, &["6 records: 6 equal"]);
    says(at, &["replay", "--package", "acme.jsonl"], 0, &["6 records: 6 equal"]);
}

/// One of acme's is changed where no rule reads, another is gone.
fn altered((server, at): (&Server, &(&Path, &str)), ids: &[String]) {
    let edit = "UPDATE decisions SET record = replace(record, '\"actor\":', '\"actor\" :')";
    let gone = format!("DELETE FROM decisions WHERE id = '{}'", ids[2]);
    attack(server, at.1, &format!("{edit} WHERE id = '{}'; {gone}", ids[1]));
    let altered = format!("{} acme: its body or its leaf is not what was recorded", ids[1]);
    let lost = format!("{} acme: it was logged, and its row is missing", ids[2]);
    let words = [altered.as_str(), lost.as_str(), "6 records: 4 equal, 1 differ"];
    says(at, &["replay", "--tenant", "acme"], 65, &words);
    let words = [&*ids[1], &*ids[2], "4 records are in b.jsonl; 2 more"];
    says(at, &["export", "--tenant", "acme", "b.jsonl"], 65, &words);
}

#[tokio::test]
async fn a_database_is_verified_whole_and_each_tamper_is_named() {
    let (server, url) = database();
    let (a, b) = (Instance::start(&url), Instance::start(&url));
    let mut ids = Vec::new();
    for tenant in ["acme", "globex"] {
        let made = a.key(tenant).await;
        for n in 0..6 {
            let at = if n % 2 == 0 { &a } else { &b };
            ids.push(id(&decided(at, secret(&made)).await).to_owned());
        }
    }
    soon(&a, ("GET", &format!("evidence/{}", ids[5])), |_| true).await;
    let seen = json!({"records": 12, "leaves": 12, "logs": 1, "valid": true, "problems": []});
    let begun = Instant::now();
    let clean = loop {
        let (code, found) = verified(&url, &[]);
        if found["records"] == 12 || begun.elapsed() > Duration::from_secs(20) {
            assert_eq!(code, Some(0), "{found}");
            break found;
        }
    };
    for (key, value) in seen.as_object().unwrap() {
        assert_eq!(&clean[key], value, "{key}: {clean}");
    }
    let dir = tempfile::tempdir().unwrap();
    let head = orchestrator(dir.path(), &url, &["evidence", "keys"]).output().unwrap();
    let file = dir.path().join("head.txt");
    std::fs::write(&file, head.stdout).unwrap();
    let kept = ["--checkpoint", file.to_str().unwrap()];
    assert_eq!(verified(&url, &kept).0, Some(0));
    sound(&(dir.path(), &url), &ids, &kept);
    // One after another; each is taken back.
    for (kind, named, tamper) in tampers(&ids[1], &ids[8]) {
        let copy = "decisions leaves checkpoints sources".split(' ');
        let saved: String = copy
            .clone()
            .map(|table| format!("CREATE TABLE saved_{table} AS TABLE {table};"))
            .collect();
        attack(&server, &url, &format!("{saved}{tamper}"));
        let (code, found) = verified(&url, &kept);
        assert_eq!(code, Some(65), "{tamper}: {found}");
        let problems = found["problems"].as_array().unwrap();
        let names = |problem: &&Value| {
            problem["kind"] == kind && named.as_ref().is_none_or(|id| problem["id"] == **id)
        };
        assert!(problems.iter().any(|problem| names(&problem)), "{tamper}: {found}");
        let back: String = copy
            .map(|table| {
                let columns = columns(&server, &url, table);
                format!(
                    "DELETE FROM {table}; INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE \
                     SELECT {columns} FROM saved_{table}; DROP TABLE saved_{table};"
                )
            })
            .collect();
        attack(&server, &url, &back);
    }
    assert_eq!(verified(&url, &kept).0, Some(0), "all was taken back");
    altered((&server, &(dir.path(), &url)), &ids);
}

/// Columns that can be written.
fn columns(server: &Server, url: &str, table: &str) -> String {
    let name = url.rsplit('/').next().unwrap();
    let sql = format!(
        "SELECT string_agg(column_name, ', ') FROM information_schema.columns \
         WHERE table_name = '{table}' AND is_generated = 'NEVER'"
    );
    server.sql(name, &sql)
}

/// Ledger S0-11. What an administrator does is of high severity, as is what a tenant under `strict`
/// decides; what others decide is not.
#[tokio::test]
async fn a_low_event_is_on_record_after_sigterm_and_a_high_one_before_its_answer() {
    let (server, url) = database();
    let strict = "schema_version: 1\nid: careful\ntier: unlimited\naudit: strict\n";
    let at = Instance::start_with(&url, |dir| {
        crate::app::write(dir, "config/tenants/careful.yaml", strict);
        let plain = "schema_version: 1\nid: acme\ntier: unlimited\n";
        crate::app::write(dir, "config/tenants/acme.yaml", plain);
    });
    let name = url.rsplit('/').next().unwrap();
    let count = |what: &str| server.sql(name, &format!("SELECT count(*) FROM {what}"));
    let made = at.key("acme").await;
    let careful = at.key("careful").await;
    for n in 1..=20 {
        let on = if n % 2 == 0 { "open" } else { "reset" };
        let path = format!("/api/v1/breakers/pii/{on}");
        let answer = at.send("POST", &path, BOOT, &json!({"reason": "drill"})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(count("audit WHERE action LIKE 'breaker.%'"), n.to_string());
        decided(&at, secret(&careful)).await;
        assert_eq!(count("decisions WHERE tenant = 'careful'"), n.to_string());
    }
    let low = decided(&at, secret(&made)).await;
    assert_eq!(at.stop().0, Some(0));
    assert_eq!(count(&format!("decisions WHERE id = '{}'", id(&low))), "1");
}
