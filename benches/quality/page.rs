//! What the pages of docs/quality have in common: where and when, speed, memory, rates.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::{Prepared, prepare};
use serde_json::Value;

/// From this score on a finding counts, unless a table says otherwise.
pub(crate) const THRESHOLD: f64 = 0.5;

/// The rows of target/quality-data/NAME.jsonl, which benches/quality/texts.py wrote.
pub(crate) fn rows(name: &str) -> Vec<Value> {
    let path = format!("target/quality-data/{name}.jsonl");
    let text = std::fs::read_to_string(path).expect("run benches/quality/texts.py first");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The sets in the order in which they first come.
pub(crate) fn sets(rows: &[Value]) -> Vec<(&str, Vec<&Value>)> {
    let mut sets: Vec<(&str, Vec<&Value>)> = Vec::new();
    for row in rows {
        let name = row["set"].as_str().unwrap();
        match sets.iter_mut().find(|(set, _)| *set == name) {
            Some((_, rows)) => rows.push(row),
            None => sets.push((name, vec![row])),
        }
    }
    sets
}

pub(crate) fn text(row: &Value) -> &str {
    row["text"].as_str().unwrap()
}

pub(crate) fn share(part: usize, all: usize) -> String {
    format!("{:.3}", part as f64 / all.max(1) as f64)
}

/// The detector, and the memory that it holds after its first text, in megabytes.
pub(crate) fn loaded(kind: Builtin) -> (Prepared, f64) {
    let before = resident();
    let detector = prepare(kind, &Value::Null).ok().unwrap();
    detector.judge("you are here: https://example.com, it is a long sentence in plain words");
    let held = resident() - before;
    (detector, held)
}

/// Megabytes a second on one core, on texts of which none is empty.
pub(crate) fn speed(detector: &Prepared, texts: &[&str]) -> f64 {
    let start = Instant::now();
    for text in texts {
        std::hint::black_box(detector.judge(text));
    }
    texts.iter().map(|text| text.len()).sum::<usize>() as f64 / 1e6 / start.elapsed().as_secs_f64()
}

fn resident() -> f64 {
    let said = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = said.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or_default() * 4096.0 / 1e6
}

/// The area under the ROC curve of scores, ties counted half.
pub(crate) fn auc(bad: &[f64], good: &[f64]) -> f64 {
    let mut good = good.to_vec();
    good.sort_by(f64::total_cmp);
    let rank = |score: &f64| {
        let below = good.partition_point(|other| other < score);
        let same = good.partition_point(|other| other <= score) - below;
        below as f64 + same as f64 / 2.0
    };
    bad.iter().map(rank).sum::<f64>() / (bad.len() * good.len()) as f64
}

/// Writes docs/quality/NAME.md: what was measured, its tables, and where and when.
pub(crate) fn write(name: &str, intro: &str, body: &str) {
    let said = |program: &str, args: &[&str]| {
        let out = Command::new(program).args(args).output().map(|out| out.stdout).unwrap_or_default();
        String::from_utf8_lossy(&out).trim().to_owned()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut page = format!("# Quality: {name}\n\n{}\n\n{}\n", intro.trim(), body.trim());
    write!(
        page,
        "\nWritten by the second of these commands, after commit {} on {}, {} cores of {}:\n\n\
         ```sh\npython3 benches/quality/texts.py\n\
         cargo run --release --features bench --bin bench-quality -- {name}\n```\n",
        said("git", &["rev-parse", "--short", "HEAD"]),
        said("date", &["-u", "+%F"]),
        cores,
        cpu.trim_start_matches([' ', '\t', ':']),
    )
    .unwrap();
    let path = Path::new("docs/quality").join(format!("{name}.md"));
    std::fs::create_dir_all("docs/quality").unwrap();
    std::fs::write(&path, page).unwrap();
    println!("wrote {}", path.display());
}
