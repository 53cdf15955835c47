//! `bench-quality find pii|secrets TEXTS.jsonl`: what a built-in detector finds in each text.
//!
//! A line of the answer is a list of [kind, start, end, score, label], positions in code points;
//! the last line says the seconds of processor time of the fastest of nine passes.

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::{Prepared, prepare};
use serde_json::{Value, json};

const PASSES: usize = 9;

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
    let pass = |_| {
        let start = processor_seconds();
        for text in &texts {
            std::hint::black_box(detector.judge(text));
        }
        processor_seconds() - start
    };
    let seconds = (0..PASSES).map(pass).fold(f64::INFINITY, f64::min);
    println!("{}", json!({"seconds": seconds}));
}

/// What this thread has had of the processor; what else the machine does must not count.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
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
