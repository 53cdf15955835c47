//! How good detectors are, as an operator finds out: calibration and drift.

use std::sync::Arc;

use detector_orchestrator::domain::action::Action;
use detector_orchestrator::domain::id::{BundleName, RequestId, TenantId};
use detector_orchestrator::evidence::{Log, LogOptions};
use detector_orchestrator::metrics::Metrics;
use detector_orchestrator::seal::{Key, Signer};
use detector_orchestrator::store::{Decision, Place, Sqlite, SqliteOptions};
use serde_json::{Value, json};

use crate::app::write;
use crate::binary::{run, text};

const DETECTOR: &str = r"name: words
protocol: builtin
builtin: regex
categories: [toxicity]
params:
  patterns:
    sure: {pattern: 'aaa', category: toxicity, score: 0.9}
    maybe: {pattern: 'bbb', category: toxicity, score: 0.6}
    hardly: {pattern: 'ccc', category: toxicity, score: 0.3}
";

/// 100 texts of each pattern; 60, 20 and 5 of them are toxic.
fn labelled() -> String {
    let mut lines = String::new();
    for (word, right) in [("aaa", 60), ("bbb", 20), ("ccc", 5), ("ddd", 0)] {
        for i in 0..100 {
            let categories: &[&str] = if i < right { &["toxicity.insult"] } else { &[] };
            let line = json!({"text": format!("{i} {word}"), "categories": categories});
            lines.push_str(&format!("{line}\n"));
        }
    }
    lines
}

#[test]
fn calibrated_scores_are_the_shares_that_labels_say() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    assert_eq!(run(root, &["init"]).status.code(), Some(0));
    write(root, "detectors/words.yaml", DETECTOR);
    write(root, "labelled.jsonl", &labelled());
    let calibrate = ["detectors", "calibrate", "words", "--labelled", "labelled.jsonl"];
    let output = run(root, &[&calibrate[..], &["--form", "points", "--write"]].concat());
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told} {}", text(&output.stderr));
    assert!(told.contains("toxicity: 300 findings, 85 of them right"), "{told}");
    let file = std::fs::read_to_string(root.join("detectors/words.yaml")).unwrap();
    // Laplace's rule: 6/102, 21/102, 61/102.
    assert!(
        file.ends_with(
            "calibration:\n  toxicity: {points: [[0.3000, 0.0588], [0.6000, 0.2059], \
             [0.9000, 0.5980]]}\n"
        ),
        "{file}"
    );
    assert_eq!(run(root, &["check"]).status.code(), Some(0));
    let again = run(root, &[&calibrate[..], &["--write"]].concat());
    assert_eq!(again.status.code(), Some(65));
    assert!(text(&again.stderr).contains("remove it first"), "{}", text(&again.stderr));

    // The tenant asks it; 0.9 is now worth 0.598 and decides, 0.6 is worth 0.2 and does not.
    let table = "settings: {required: [words], actions: {toxicity: block}}\n";
    write(root, "policies/tenants/acme/standard/data.yaml", table);
    for (content, action, score) in [("aaa", "block", Some(0.598)), ("bbb", "allow", None)] {
        write(root, "content.txt", content);
        let output = run(root, &["scan", "--tenant", "acme", "--json", "content.txt"]);
        let judged: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(judged["action"], action, "{judged:#}");
        assert_eq!(judged["findings"][0]["score"].as_f64(), score, "{judged:#}");
    }
}

#[test]
fn labelled_texts_that_cannot_be_used_are_refused_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for (content, code, expected) in [
        ("{\"text\": \"a\"}\n{\"txt\": 1}\n", 65, "line 2, column 6: unknown field `txt`"),
        (
            "{\"text\": \"a\", \"categories\": [\"toxicty\"]}\n",
            65,
            "line 1, column 39: `toxicty` is not in the category tree",
        ),
        ("", 65, "needs 20 right and 20 wrong findings beside the fifth that is held out"),
    ] {
        write(root, "labelled.jsonl", content);
        let args = ["detectors", "calibrate", "toxicity-fixture", "--labelled", "labelled.jsonl"];
        let output = run(root, &args);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(expected), "{told}");
    }
    // One in Latin-1; a byte order mark is no fault.
    let args = ["detectors", "calibrate", "toxicity-fixture", "--labelled", "labelled.jsonl"];
    let line = "{\"text\": \"a\", \"categories\": []}\n";
    std::fs::write(
        root.join("labelled.jsonl"),
        [line.as_bytes(), b"{\"text\": \"\xE9\"}"].concat(),
    )
    .unwrap();
    let output = run(root, &args);
    let told = text(&output.stderr);
    assert!(told.contains("line 2 is not UTF-8"), "{told}");
    assert_eq!(output.status.code(), Some(65));
    write(root, "labelled.jsonl", &format!("\u{feff}{line}"));
    let told = text(&run(root, &args).stderr).to_owned();
    assert!(told.contains("needs 20 right and 20 wrong"), "{told}");
    let output = run(root, &["detectors", "calibrate", "nobody", "--labelled", "x"]);
    assert_eq!(output.status.code(), Some(66));
}

pub fn decision(id: usize, at_ms: i64, score: Option<f64>) -> Decision {
    let findings = score.map(|score| {
        json!({"category": "toxicity", "score": score,
        "detectors": ["toxicity"]})
    });
    let record = json!({"reports": [{"detector": "toxicity", "status": "success"}],
        "findings": findings.into_iter().collect::<Vec<_>>()});
    Decision {
        id: id.to_string(),
        tenant: TenantId::parse("acme").unwrap(),
        request_id: RequestId::parse("r").unwrap(),
        at_ms,
        policy: BundleName::parse("standard").unwrap(),
        revision: "r".into(),
        action: Action::Allow,
        complete: true,
        record: record.to_string(),
        leaf: None,
    }
}

#[tokio::test]
async fn drift_tells_the_week_in_which_findings_became_more() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let empty = run(root, &["detectors", "drift"]);
    assert_eq!(empty.status.code(), Some(66), "{}", text(&empty.stdout));
    std::fs::create_dir(root.join("data")).unwrap();
    let file = root.join("data").join(detector_orchestrator::orchestrator::STORE_FILE);
    let store = Sqlite::open(&SqliteOptions::at(Place::File(file))).unwrap();
    let log = Log::start(LogOptions {
        store: Arc::new(store),
        signer: Signer::of(&Key::random().unwrap()).unwrap(),
        known_keys: Vec::new(),
        spool: None,
        rows_max: 1_000,
        bytes_max: 1 << 20,
        held_bytes_max: 1 << 20,
        metrics: Arc::new(Metrics::new(&[], "test").unwrap()),
    });
    let log = log.unwrap();
    let week = 7 * 24 * 3600 * 1000;
    let now = jiff::Timestamp::now().as_millisecond();
    // Oldest first, as a service writes: 5 % found, 5 % found, 40 % found; one too old.
    for (back, found) in [(9, 100), (2, 5), (1, 5), (0, 40)] {
        for i in 0..100 {
            let score = (i < found).then_some(0.8);
            log.append(decision(back * 1000 + i, now - back as i64 * week, score)).unwrap();
        }
    }
    log.close().await;
    let output = run(root, &["detectors", "drift", "--tenant", "acme", "--json"]);
    let rows: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row["found"].as_u64().unwrap(), row["psi"].as_f64().map(|psi| psi > 0.25)))
        .collect();
    assert_eq!(told, [(5, None), (5, Some(false)), (40, Some(true))], "{rows:#?}");
    let output = run(root, &["detectors", "drift"]);
    assert!(text(&output.stdout).contains("changed"), "{}", text(&output.stdout));
    let other = run(root, &["detectors", "drift", "--tenant", "nobody"]);
    assert_eq!(other.status.code(), Some(66));
}
