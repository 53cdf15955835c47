//! Every decision that is recorded is decided again, from its record and the stored sources alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::app::{App, spawn_with, write};
use crate::binary::{run, text};
use crate::scenarios;

const CORPUS: &str = include_str!("../corpus/multilingual.jsonl");
/// Decisions of the long run.
const DECISIONS_MIN: u64 = 400;

/// Two that disagree about the same texts.
const WORDS: [(&str, &str); 2] = [("calm", "bbb"), ("strict-words", "aaa|bbb")];

/// Paths and texts.
type Files = Vec<(&'static str, &'static str)>;

/// Tenants by what is special about them: more keys of the file, and files of their overlays.
fn tenants() -> Vec<(&'static str, Value, Files)> {
    const SETTLE: &str = "package tenants.settles.standard\n\n\
        settle[c] := {\"strategy\": \"most_restrictive\"} if some c, _ in input.categories\n";
    const READS: &str = "package tenants.reads.standard\n\n\
        flag contains \"late\" if input.metadata.hour > 21.5\n\
        flag contains sprintf(\"%v characters\", [input.content_length]) if \
        input.content_length > 60\n\
        block contains \"root\" if {\n\t\"super_admin\" in input.caller.roles\n\t\
        input.metadata.ban == true\n}\n\
        flag contains sprintf(\"score %v of %s\", [f.score, f.label]) if some f in input.findings\n\
        optional contains d.name if {\n\tsome d in input.detectors\n\td.healthy\n}\n\
        obligations := {\"tell\": input.language}\n\
        params := {\"toxicity\": {\"fraction\": 0.5}}\n";
    const BREAKS: &str = "package tenants.breaks.standard\n\n\
        block contains \"late\" if {\n\tinput.request.event == \"verdict\"\n\t\
        to_number(\"12x\") > 1\n}\n\
        required contains \"pii\" if {\n\tinput.request.event == \"plan\"\n\t\
        to_number(\"12x\") > 1\n}\n\
        settle[c] := {\"strategy\": \"x\"} if {\n\tsome c, _ in input.categories\n\t\
        input.request.event == \"unheard.of\"\n\t\
        to_number(\"12x\") > 1\n}\n";
    const CONTENT: &str = "package tenants.content.standard\n\n\
        flag contains concat(\" \", [\"said\", input.content]) if \
        contains(input.content, \"a\")\n";
    const TABLE: &str = "settings:\n  actions: {secrets: block, pii: redact, pii.ip_address: flag, \
        toxicity: block}\n  quorum: {toxicity: 2}\n  thresholds: {pii: 0.7}\n  \
        ignore: [{category: pii.email, attribute: domain, values: [example.com]}]\n  \
        required: [pii, secrets, calm, strict-words]\n";
    const EARLY: &str = "settings:\n  required: [secrets, pii, toxicity]\n  optional: []\n  \
        execution: sequential\n  stop_on: block\n  actions: {secrets: block}\n";
    vec![
        ("plain", json!({}), vec![]),
        ("strict", json!({"policies": ["strict"]}), vec![]),
        ("watched", json!({"mode": "monitor"}), vec![]),
        ("table", json!({}), vec![("data.yaml", TABLE)]),
        ("early", json!({}), vec![("data.yaml", EARLY)]),
        ("settles", json!({}), vec![("settle.rego", SETTLE)]),
        ("reads", json!({}), vec![("reads.rego", READS)]),
        ("breaks", json!({"fail_mode": "block"}), vec![("breaks.rego", BREAKS)]),
        ("content", json!({}), vec![("content.rego", CONTENT)]),
    ]
}

fn prepare(root: &Path) {
    for (name, pattern) in WORDS {
        let file = format!(
            "name: {name}\nprotocol: builtin\nbuiltin: regex\ncategories: [toxicity]\nparams:\n  \
             patterns:\n    rude: {{pattern: '{pattern}', category: toxicity, score: 0.9}}\n"
        );
        write(root, &format!("detectors/{name}.yaml"), &file);
    }
    for (name, more, files) in tenants() {
        let mut file = json!({"schema_version": 1, "id": name});
        file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        write(root, &format!("config/tenants/{name}.yaml"), &file.to_string());
        for (path, text) in files {
            write(root, &format!("policies/tenants/{name}/standard/{path}"), text);
        }
    }
}

/// The request about one text, in as many shapes as there are.
fn request(tenant: &str, at: usize, content: &str) -> Value {
    let mut request = match at % 4 {
        0 => json!({"messages": [{"role": "system", "content": "be kind"},
            {"role": "user", "content": content, "name": "ana"}]}),
        1 => json!({"content": [{"type": "text", "text": content}]}),
        _ => json!({"content": content}),
    };
    let events = ["content.publish", "unheard.of", "verdict", "plan"];
    let more = match at % 8 {
        1 => json!({"event": events[at / 8 % 4], "detectors": {"add": ["calm", "strict-words"]}}),
        2 => json!({"detectors": {"thresholds": {"pii": 0.3, "toxicity": 0.99}}}),
        3 => json!({"detectors": {"only": ["pii"], "exclude": ["secrets"]}}),
        4 => json!({"detectors": {"add": ["calm", "strict-words"], "params": {"toxicity": {}}}}),
        5 => json!({"include": ["redacted", "evidence"], "direction": "output", "type": "code"}),
        6 => json!({"priority": "critical", "language": "de", "contexts": ["mobile"]}),
        _ => json!({}),
    };
    let fields = request.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    fields.insert("tenant_id".into(), tenant.into());
    fields.insert("metadata".into(), json!({"hour": at % 24, "ban": at.is_multiple_of(11)}));
    request
}

async fn ask_all(app: &App, answers: &mut BTreeMap<String, u64>) {
    let mut texts: Vec<String> = CORPUS
        .lines()
        .step_by(2)
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().into())
        .collect();
    let key = ["AKIA", "Z3VQ7JRTLWXK5P2D"].concat();
    texts.extend(["bbb".into(), format!("key {key}"), "aaa bbb ana@evil.io".into()]);
    // In every shape, since who is asked to add them disagrees.
    texts.extend((0..9).map(|_| "aaa".to_owned()));
    for (name, ..) in tenants() {
        for (at, content) in texts.iter().enumerate() {
            let answer = app.ask(&request(name, at, content)).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let value = answer.json();
            *answers.entry(format!("{name} {}", value["action"].as_str().unwrap())).or_default() +=
                1;
        }
    }
}

/// The sum that the command prints last, its lines, and its exit code.
fn replay(root: &Path, more: &[&str]) -> (Value, Vec<Value>, Option<i32>) {
    let output = run(root, &[&["evidence", "replay", "--json"], more].concat());
    let told = text(&output.stdout);
    let mut lines: Vec<Value> = told.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let sum = lines.pop().unwrap_or_else(|| panic!("{}", text(&output.stderr)));
    (sum, lines, output.status.code())
}

#[tokio::test]
async fn every_decision_of_a_long_run_is_decided_again_to_the_same_verdict() {
    let app = spawn_with(prepare).await;
    let mut answers = BTreeMap::new();
    ask_all(&app, &mut answers).await;
    // Another revision, under which the same is asked once more.
    app.edit("policies/tenants/table/standard/data.yaml", "toxicity: block", "toxicity: review");
    let table = json!({"tenant_id": "table", "content": "aaa bbb"});
    app.ask_until(&table, |answer| answer["action"] == "review").await;
    let dir = app.stop();
    println!("{answers:#?}");
    let (sum, lines, code) = replay(dir.path(), &[]);
    let unequal = |line: &&Value| line["result"] == "differs" || line["result"] == "failed";
    let unequal: Vec<&Value> = lines.iter().filter(unequal).collect();
    assert_eq!(
        (unequal.len(), code),
        (0, Some(0)),
        "{sum} {:#?}",
        unequal.iter().take(3).collect::<Vec<_>>()
    );
    println!("{sum}");
    assert!(sum["equal"].as_u64() >= Some(DECISIONS_MIN - 50), "{sum}");
    assert!(sum["not_reproducible"].as_u64() >= Some(40), "{sum}");
    assert!(sum["records"].as_u64() >= Some(DECISIONS_MIN), "{sum}");
    let of_one = replay(dir.path(), &["--tenant", "breaks"]).0;
    assert!(of_one["equal"].as_u64() >= Some(40), "{of_one}");
    let id = lines.iter().find(|line| line["tenant"] == "reads").unwrap()["id"].as_str().unwrap();
    assert_eq!(replay(dir.path(), &["--id", id]).0["equal"], 1);
    assert_eq!(
        run(dir.path(), &["evidence", "replay", "--since", "2999-01-01"]).status.code(),
        Some(66)
    );
    broken_is_seen(dir.path(), id);
}

/// A changed record and a lost source do not pass.
fn broken_is_seen(root: &Path, id: &str) {
    let file = root.join("data").join(detector_orchestrator::orchestrator::STORE_FILE);
    let store = rusqlite::Connection::open(file).unwrap();
    let record: String = store
        .query_row("SELECT record FROM decisions WHERE id = ?1", [id], |row| row.get(0))
        .unwrap();
    assert!(!record.contains("ana@evil.io"), "content is recorded");
    let mut changed: Value = serde_json::from_str(&record).unwrap();
    changed["verdict"]["reasons"] = json!([{"code": "x", "message": "y"}]);
    changed["plan"]["required"] = json!(["nobody"]);
    let rewrite = |text: &str| {
        for rule in ["lose_records_only", "tell_of_purges", "stay_a_day"] {
            store.execute_batch(&format!("DROP TRIGGER IF EXISTS decisions_{rule}")).unwrap();
        }
        store.execute("UPDATE decisions SET record = ?1 WHERE id = ?2", [text, id]).unwrap();
    };
    rewrite(&changed.to_string());
    let (_, lines, code) = replay(root, &["--id", id]);
    let named: Vec<&str> = lines[0]["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["what"].as_str().unwrap())
        .collect();
    assert_eq!(code, Some(65));
    assert!(named.contains(&"plan.required") && named.contains(&"verdict.reasons"), "{named:?}");
    // No rule reads who asked.
    changed = serde_json::from_str(&record).unwrap();
    changed["actor"] = "mallory".into();
    rewrite(&changed.to_string());
    let altered = |more: &[&str]| {
        let (sum, lines, code) = replay(root, &[&["--id", id], more].concat());
        assert_eq!((sum["differ"].as_u64(), code), (Some(1), Some(65)), "{sum} {lines:#?}");
        let faults = lines[0]["faults"].to_string();
        assert!(faults.contains("its body or its leaf is not what was recorded"), "{lines:#?}");
        assert_eq!(lines[0]["result"], "differs");
    };
    altered(&[]);
    rewrite(&record);
    // A leaf that is not what it was leaves no other of its tile proven; they are decided again.
    let beside = "DROP TRIGGER leaves_keep_values; CREATE TABLE kept AS SELECT * FROM leaves; \
                  UPDATE leaves SET hash = zeroblob(32) WHERE place = (SELECT CASE place % 256 \
                  WHEN 0 THEN 1 ELSE -1 END + place FROM kept WHERE decision = '?')";
    store.execute_batch(&beside.replace('?', id)).unwrap();
    let (sum, lines, code) = replay(root, &["--id", id]);
    assert_eq!(
        (sum["differ"].as_u64(), sum["failed"].as_u64(), code),
        (Some(1), Some(0), Some(65))
    );
    let faults = lines[0]["faults"].to_string();
    assert!(faults.contains("do not lead to the signed root"), "{faults}");
    let back = "UPDATE leaves SET hash = (SELECT hash FROM kept WHERE kept.place = leaves.place)";
    store.execute_batch(back).unwrap();
    let packed = run(root, &["evidence", "export", "--tenant", "reads", "reads.jsonl"]);
    assert_eq!(packed.status.code(), Some(0), "{}", text(&packed.stderr));
    let packed = ["--package", "reads.jsonl"];
    assert_eq!(replay(root, &packed).2, Some(0));
    let whole = std::fs::read_to_string(root.join("reads.jsonl")).unwrap();
    let mut lines: Vec<Value> =
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.pop();
    let row = lines.iter_mut().find(|line| line["row"]["id"] == id).unwrap();
    row["row"]["record"] = changed.to_string().into();
    let body = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let sha256 = detector_orchestrator::domain::digest::Digest::of(body.as_bytes()).hex();
    let end = json!({"lines": lines.len(), "sha256": sha256});
    std::fs::write(root.join("reads.jsonl"), format!("{body}\n{end}\n")).unwrap();
    altered(&packed);
    store.execute("DELETE FROM sources WHERE bytes LIKE '%package standard%'", []).unwrap();
    let (sum, lines, code) = replay(root, &["--id", id]);
    assert_eq!((sum["failed"].as_u64(), code), (Some(1), Some(65)));
    let why = lines[0]["why"].as_str().unwrap();
    assert!(why.contains("standard/") && why.contains("is not stored"), "{why}");
}

#[tokio::test]
async fn every_scenario_is_decided_again_to_the_same_verdict() {
    let (mut records, mut equal) = (0, 0);
    for file in scenarios::files() {
        let dir = scenarios::play(&file).await.stop();
        let output = run(dir.path(), &["evidence", "replay", "--json"]);
        // A refused request leaves no record.
        if output.status.code() == Some(66) {
            continue;
        }
        let (sum, lines, code) = replay(dir.path(), &[]);
        assert_eq!(code, Some(0), "{}: {lines:#?}", file.display());
        records += sum["records"].as_u64().unwrap();
        equal += sum["equal"].as_u64().unwrap();
    }
    println!("{records} records of scenarios, {equal} equal");
    assert!(equal >= 18 && equal == records, "{equal} of {records}");
}

/// Waits until every decision is in the store.
async fn recorded(app: &App) {
    let log = app.api.deps.log.as_ref().unwrap();
    while log.stats().queued > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// How many sources are stored.
async fn stored(app: &App) -> usize {
    app.api.deps.store.source_keys(None, 10_000).await.unwrap().len()
}

#[tokio::test]
async fn sources_that_no_kept_record_names_are_forgotten_and_all_others_replay() {
    use detector_orchestrator::evidence::retention;
    const DAY_MS: i64 = 86_400_000;
    let app = spawn_with(prepare).await;
    let ask = |tenant: &str| json!({"tenant_id": tenant, "content": "aaa bbb"});
    for tenant in ["table", "plain", "content"] {
        assert_eq!(app.ask(&ask(tenant)).await.status, 200);
    }
    let overlay = "policies/tenants/table/standard/data.yaml";
    app.edit(overlay, "toxicity: block", "toxicity: review");
    app.ask_until(&ask("table"), |answer| answer["action"] == "review").await;
    recorded(&app).await;
    let (deps, now_ms) = (&app.api.deps, jiff::Timestamp::now().as_millisecond());
    deps.keep_sources(app.api.live.current()).await.unwrap();
    let (whole, days) = (stored(&app).await, 40 * DAY_MS);
    assert_eq!(deps.forget_sources(now_ms + days).await, Ok(0), "records name all of them");

    // All records go; nothing is forgotten that served lately.
    // The database goes by its own clock, and keeps today's records.
    let raw = rusqlite::Connection::open(app.path("data/orchestrator.db")).unwrap();
    raw.execute_batch("DROP TRIGGER IF EXISTS decisions_stay_a_day").unwrap();
    drop(raw);
    let by = (&*deps.store, &deps.custodian);
    let taken = retention::purge(by, now_ms + days, |_| 1).await.unwrap();
    assert!(taken >= 4, "{taken}");
    assert_eq!(deps.forget_sources(now_ms).await, Ok(0), "both served today");
    assert_eq!(stored(&app).await, whole);
    // After a month, in which one of them served on.
    let revision = app.api.live.current().revision.clone();
    deps.store.serve_revision(revision, now_ms + days, 0).await.unwrap();
    let gone = deps.forget_sources(now_ms + days).await.unwrap();
    // The tenant's old table, its manifest, the bucket and the root.
    assert_eq!((gone, stored(&app).await), (4, whole - 4));

    let again = app.ask(&ask("table")).await;
    assert_eq!(again.json()["action"], "review", "{}", again.text);
    let dir = app.stop();
    let (sum, lines, code) = replay(dir.path(), &[]);
    assert_eq!((sum["equal"].as_u64(), code), (Some(1), Some(0)), "{lines:#?}");
    assert_eq!(sum["purged"], taken);
    let output = run(dir.path(), &["evidence", "verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[tokio::test]
async fn what_was_left_out_of_a_record_hides_no_other_verdict_unless_rules_heed_it() {
    const HEEDS: &str = "package tenants.heeds.standard\n\n\
        block contains \"evil\" if {\n\tsome f in input.findings\n\t\
        f.attributes.domain == \"evil.io\"\n}\n";
    let app = spawn_with(|root| {
        for name in ["plain", "heeds"] {
            let file = json!({"schema_version": 1, "id": name});
            write(root, &format!("config/tenants/{name}.yaml"), &file.to_string());
        }
        write(root, "policies/tenants/heeds/standard/heeds.rego", HEEDS);
    })
    .await;
    let mail = |tenant: &str| json!({"tenant_id": tenant, "content": "Mail ana@evil.io"});
    assert_eq!(app.ask(&mail("plain")).await.json()["action"], "redact");
    assert_eq!(app.ask(&mail("heeds")).await.json()["action"], "block");
    recorded(&app).await;
    let dir = app.stop();
    let (sum, lines, code) = replay(dir.path(), &["--tenant", "plain"]);
    assert_eq!((sum["equal"].as_u64(), code), (Some(1), Some(0)), "{lines:#?}");
    let (sum, lines, code) = replay(dir.path(), &["--tenant", "heeds"]);
    assert_eq!((sum["unknown"].as_u64(), code), (Some(1), Some(65)), "{lines:#?}");
    assert_eq!(lines[0]["result"], "unknown", "{lines:#?}");
    let told = text(&run(dir.path(), &["evidence", "replay", "--tenant", "heeds"]).stdout);
    let id = lines[0]["id"].as_str().unwrap();
    assert!(told.contains(&format!("{id} heeds: perhaps verdict.action: recorded ")), "{told}");

    // No rule of the other heeds the domain: a changed verdict is one.
    let file = dir.path().join("data").join(detector_orchestrator::orchestrator::STORE_FILE);
    let store = rusqlite::Connection::open(file).unwrap();
    let rules: Vec<String> = store
        .prepare("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'decisions'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for rule in rules {
        store.execute_batch(&format!("DROP TRIGGER {rule}")).unwrap();
    }
    let changed = "UPDATE decisions SET record = replace(record, '\"action\":\"redact\"', \
                   '\"action\":\"allow\"') WHERE tenant = 'plain' AND record LIKE '%withheld%'";
    assert_eq!(store.execute(changed, []).unwrap(), 1);
    let (sum, lines, code) = replay(dir.path(), &["--tenant", "plain"]);
    assert_eq!((sum["differ"].as_u64(), code), (Some(1), Some(65)), "{lines:#?}");
    let differences = lines[0]["differences"].as_array().unwrap();
    let is_action = |found: &&Value| found["what"] == "verdict.action";
    assert!(differences.iter().any(|found| is_action(&found)), "{lines:#?}");
}
