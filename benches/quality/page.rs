//! What the pages of docs/quality have in common: figures, speed, memory, where and when.

use std::path::{Path, PathBuf};
use std::process::Command;

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::{Prepared, load, prepare};
use serde_json::Value;

/// From this score on a finding counts, unless a table says otherwise.
pub(crate) const THRESHOLD: f64 = 0.5;
const MARKER: &str = "<!-- measured: all below is rewritten by scripts/quality -->";
const TABLE: &str = "docs/built-in.md";

/// Adds a line to a text.
macro_rules! say {
    ($out:expr, $($words:tt)*) => {{
        use std::fmt::Write as _;
        writeln!($out, $($words)*).unwrap()
    }};
}
pub(crate) use say;

/// What the table over all detectors says of one.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) texts: usize,
    pub(crate) precision: Option<f64>,
    pub(crate) recall: Option<f64>,
    pub(crate) auc: Option<f64>,
}

impl Figures {
    /// `right` and `wrong` findings where `all` are to be found.
    pub(crate) fn of_counts(texts: usize, right: usize, wrong: usize, all: usize) -> Self {
        let part = |of: usize| Some(right as f64 / of.max(1) as f64);
        Self { texts, precision: part(right + wrong), recall: part(all), auc: None }
    }

    pub(crate) fn f1(&self) -> Option<f64> {
        let (precision, recall) = (self.precision?, self.recall?);
        Some(2.0 * precision * recall / (precision + recall).max(f64::MIN_POSITIVE))
    }
}

/// What a detector costs.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// Megabytes of ordinary text a second, on one core.
    pub(crate) speed: f64,
    /// Megabytes held after the first text.
    pub(crate) memory: f64,
}

/// A page to write.
pub(crate) struct Page<'a> {
    /// Of the page and of the subcommand.
    pub(crate) name: &'a str,
    /// Of the row in the table over all detectors.
    pub(crate) detector: &'a str,
    pub(crate) body: &'a str,
    pub(crate) figures: &'a Figures,
    pub(crate) cost: Cost,
}

/// The rows of target/quality-data/NAME.jsonl.
pub(crate) fn rows(name: &str) -> Vec<Value> {
    let path = format!("target/quality-data/{name}.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        panic!("{path} is missing: run scripts/quality-data");
    };
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

/// The detector and what it costs; to be asked before anything else takes memory.
pub(crate) fn costs(kind: Builtin) -> (Prepared, Cost) {
    costs_with(kind, &Value::Null)
}

/// `costs` of the detector with these parameters.
pub(crate) fn costs_with(kind: Builtin, params: &Value) -> (Prepared, Cost) {
    let before = resident();
    load(kind, params).unwrap();
    let detector = prepare(kind, params).ok().unwrap();
    detector.judge("you are here: https://example.com, it is a long sentence in plain words");
    let memory = resident() - before;
    let rows = rows("ordinary");
    let texts: Vec<&str> = rows.iter().step_by(40).map(text).collect();
    let bytes = texts.iter().map(|text| text.len()).sum::<usize>() as f64;
    // The kernel counts processor time in ticks: many passes make them small.
    let (start, mut passes, mut seconds) = (processor_seconds(), 0.0, 0.0);
    while seconds < 0.5 {
        for text in &texts {
            std::hint::black_box(detector.judge(text));
        }
        passes += 1.0;
        seconds = processor_seconds() - start;
    }
    (detector, Cost { speed: passes * bytes / 1e6 / seconds, memory })
}

/// What this thread has had of the processor; what else the machine does must not count.
pub(crate) fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn resident() -> f64 {
    let said = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = said.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or_default() * 4096.0 / 1e6
}

/// The chance that a bad text scores above a good one; equal scores count half.
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

/// Writes the page and the detector's row.
pub(crate) fn write(page: &Page) {
    let Cost { speed, memory } = page.cost;
    let cost = format!(
        "Speed on every fortieth of the [ordinary](ordinary.md) texts: {speed:.1} MB/s of \
         processor time on one core. Memory held after the first text: {memory:.1} MB."
    );
    write_body(page.name, &format!("{}\n\n{cost}", page.body.trim()));
    row(page);
}

/// Writes what was measured, where and when, behind the marker of the page.
pub(crate) fn write_body(name: &str, body: &str) {
    let path = path(name);
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, _) = page.split_once(MARKER).unwrap();
    let stamp = stamp(name);
    let page = format!("{head}{MARKER}\n\n## Measured\n\n{stamp}\n\n{}\n", body.trim());
    std::fs::write(&path, page).unwrap();
    println!("wrote {}", path.display());
}

/// Writes what `scripts/quality part` measured between that part's two markers on the page.
#[cfg(feature = "ml")]
pub(crate) fn write_part(name: &str, part: &str, body: &str) {
    let path = path(name);
    let page = std::fs::read_to_string(&path).unwrap();
    let start = format!("<!-- {part}: rewritten by scripts/quality {part} -->");
    let end = format!("<!-- end of {part} -->");
    let (head, rest) = page.split_once(&start).unwrap();
    let (_, tail) = rest.split_once(&end).unwrap();
    let stamp = stamp(part);
    let page = format!("{head}{start}\n\n{stamp}\n\n{}\n\n{end}{tail}", body.trim());
    std::fs::write(&path, page).unwrap();
    println!("wrote {}", path.display());
}

fn path(name: &str) -> PathBuf {
    Path::new("docs/quality").join(format!("{name}.md"))
}

/// When and where it was measured.
fn stamp(name: &str) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let changed = said("git", &["status", "--porcelain", "src", "benches", "policies"]);
    format!(
        "`scripts/quality {name}` on {} after commit {}{}: {} cores of {}, load average {} at \
         the end{}.",
        said("date", &["-u", "+%F"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
        if changed.is_empty() { "" } else { ", with changes not yet committed" },
        std::thread::available_parallelism().map_or(1, usize::from),
        cpu.trim_start_matches([' ', '\t', ':']),
        load.split(' ').next().unwrap_or("unknown"),
        if cfg!(debug_assertions) { ", **not optimised**" } else { "" },
    )
}

/// Replaces the detector's row in the table over all.
fn row(page: &Page) {
    let Page { name, detector, figures, cost, .. } = page;
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
    let start = format!("| [{detector}](quality/{name}.md) |");
    let row = format!(
        "{start} {} | {} | {} | {} | {} | {:.1} | {:.1} |",
        figures.texts,
        number(figures.precision),
        number(figures.recall),
        number(figures.f1()),
        number(figures.auc),
        cost.speed,
        cost.memory,
    );
    let table = std::fs::read_to_string(TABLE).unwrap();
    assert!(table.contains(&start), "{TABLE} has no row of {detector}");
    let lines = table.lines().map(|line| if line.starts_with(&start) { &*row } else { line });
    std::fs::write(TABLE, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
}

fn said(program: &str, words: &[&str]) -> String {
    let out = Command::new(program).args(words).output().map(|out| out.stdout).unwrap_or_default();
    String::from_utf8_lossy(&out).trim().to_owned()
}
