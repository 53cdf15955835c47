//! How well detectors do. `injection` and `train-injection`: see the module; a folder alone:
//! how well `code` tells code from prose, on the sources of the packages that Cargo.lock names.
//!
//! `cargo run --features bench --bin bench-quality -- ~/.cargo/registry/src/*/`: windows of twelve
//! lines from the middle of `.sh`, `.sql`, `.pl`, `.c` and `.rs` files, and paragraphs of `.md`
//! files without markup. A file's ending is taken for the truth.

#![expect(clippy::print_stdout, reason = "the table is what the program is for")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement may stop at a broken set"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::{Prepared, prepare};

mod find;
mod injection;
mod language;
mod ordinary;
mod page;
mod toxicity;
mod urls;

const LINES: usize = 12;
/// Files of one kind; more say little more.
const FILES_MAX: usize = 400;
const KINDS: [(&str, &str); 6] = [
    ("sh", "code.shell"),
    ("sql", "code.sql"),
    ("pl", "code.script"),
    ("c", "code"),
    ("rs", "code"),
    ("md", ""),
];

fn main() {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    match (words.first().and_then(|word| word.to_str()), words.get(1)) {
        (Some("train-injection"), None) => injection::train(),
        (Some("injection"), Some(root)) => injection::report(Path::new(root)),
        _ => code(Path::new(words.first().unwrap())),
    }
}

/// The files of the packages in Cargo.lock, by their ending.
fn packages(root: &Path, files: &mut BTreeMap<String, Vec<PathBuf>>) {
    let lock = include_str!("../../Cargo.lock");
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_matches([' ', '=', '"']).to_owned())
        };
        if let (Some(name), Some(version)) = (field("name"), field("version")) {
            collect(&root.join(format!("{name}-{version}")), files);
        }
    }
}

fn code(root: &Path) {
    let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    packages(root, &mut files);
    println!("| kind | texts | found as code | as its category |");
    let code = prepare(Builtin::Code, &serde_json::Value::Null).ok().unwrap();
    for (kind, category) in KINDS {
        let mut paths = files.remove(kind).unwrap_or_default();
        paths.sort();
        let step = paths.len().div_ceil(FILES_MAX).max(1);
        let texts =
            paths.iter().step_by(step).filter_map(|path| std::fs::read_to_string(path).ok());
        let texts: Vec<String> = texts
            .flat_map(|text| match kind {
                "md" => prose(&text).into_iter().map(str::to_owned).collect(),
                _ => window(&text),
            })
            .collect();
        let said: Vec<Option<String>> = texts.iter().map(|text| first(&code, text)).collect();
        let found = said.iter().flatten().count();
        let right = said.iter().flatten().filter(|said| *said == category).count();
        println!("| {kind} | {} | {found} | {right} |", texts.len());
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, Vec<PathBuf>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if let Some(kind) = path.extension().and_then(|kind| kind.to_str()) {
            files.entry(kind.to_owned()).or_default().push(path.clone());
        }
    }
}

/// The category of the surest finding at or above the usual threshold.
fn first(code: &Prepared, text: &str) -> Option<String> {
    let mut found = code.judge(text).findings;
    found.retain(|finding| finding.score >= 0.5);
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.first().map(|finding| finding.category.to_string())
}

fn window(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let start = (lines.len() / 2).saturating_sub(LINES / 2);
    let lines: Vec<&str> = lines.into_iter().skip(start).take(LINES).collect();
    if lines.len() < 3 { Vec::new() } else { vec![lines.join("\n")] }
}

fn prose(text: &str) -> Vec<&str> {
    let marked = |part: &&str| {
        part.chars().count() >= 120
            && !part.contains(['`', '|', '<', '='])
            && part.starts_with(|c: char| c.is_alphabetic())
    };
    text.split("\n\n").filter(marked).collect()
}
