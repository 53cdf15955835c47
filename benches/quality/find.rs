//! `bench-quality find pii|secrets TEXTS.jsonl`: what a built-in detector finds in each text.
//!
//! A line of the answer is a list of [kind, start, end, score, label], positions in code points;
//! the last line says the seconds of one pass after a warm one.

use std::time::Instant;

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::{Prepared, prepare};
use serde_json::{Value, json};

pub(crate) fn run(builtin: &str, path: &str) {
    let kind = match builtin {
        "pii" => Builtin::Pii,
        "secrets" => Builtin::Secrets,
        _ => panic!("find pii or secrets, not {builtin}"),
    };
    let detector = prepare(kind, &Value::Null).ok().unwrap();
    let lines = std::fs::read_to_string(path).unwrap();
    let texts: Vec<String> = lines.lines().map(text).collect();
    for text in &texts {
        println!("{}", findings(&detector, text));
    }
    let start = Instant::now();
    for text in &texts {
        std::hint::black_box(detector.judge(text));
    }
    println!("{}", json!({"seconds": start.elapsed().as_secs_f64()}));
}

fn text(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    line["text"].as_str().unwrap().to_owned()
}

fn findings(detector: &Prepared, text: &str) -> Value {
    let findings = detector.judge(text).findings;
    let found = findings.iter().filter_map(|finding| {
        let span = finding.place?.span?;
        let (_, kind) = finding.category.as_str().split_once('.')?;
        Some(json!([kind, span.start, span.end, finding.score, &*finding.label]))
    });
    found.collect()
}
