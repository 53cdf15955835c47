//! What must hold of answers, metrics and log lines, counted.

use serde_json::Value;

/// Counted checks; the first failures are kept.
#[derive(Default)]
pub struct Checks {
    passed: usize,
    failed: usize,
    told: Vec<String>,
}

const TOLD_MAX: usize = 20;

impl Checks {
    pub fn holds(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if holds {
            self.passed += 1;
            return;
        }
        self.failed += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(what());
        }
    }

    /// Prints the count, and fails the test where anything failed.
    pub fn end(self, name: &str) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!(
            "{name}: {} passed, {} failed; load average: {}",
            self.passed,
            self.failed,
            load.trim()
        );
        assert!(self.passed > 0, "{name}: nothing was checked");
        assert!(self.told.is_empty(), "{name}: {:#?}", self.told);
    }

    /// The log of a whole run: every line is JSON, none holds content or tells of a panic, and there
    /// is one line of a decision for each answer.
    pub fn log(&mut self, log: &str, canary: &str, decisions: usize) {
        let mut told = 0;
        for line in log.lines() {
            let value = serde_json::from_str::<Value>(line);
            self.holds(value.is_ok(), || format!("no JSON: {line}"));
            let clean = !line.contains(canary) && !line.contains("panicked");
            self.holds(clean, || format!("content or a panic: {line}"));
            told += usize::from(value.is_ok_and(|value| value["message"] == "decision"));
        }
        self.holds(told == decisions, || format!("{told} lines of {decisions} decisions"));
    }
}

/// Prints a row of docs/reliability.md, and appends it to the file that `FAULTS_TABLE` names.
pub fn row(bar: &str, result: &str, n: &str) {
    use std::io::Write as _;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let row =
        format!("| {bar} | {result} | {n} | {} |", load.split(' ').next().unwrap_or_default());
    println!("\n{row}");
    if let Ok(path) = std::env::var("FAULTS_TABLE") {
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{row}").unwrap();
    }
}

/// The sum of the metric's series that hold all of `labels`.
pub fn metric(text: &str, name: &str, labels: &[&str]) -> f64 {
    let of = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
