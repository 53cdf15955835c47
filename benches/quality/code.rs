//! `bench-quality code`: how well `code` tells code from prose. A file's ending is taken for the truth.

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::Prepared;

use crate::page::{self, Figures, Page, THRESHOLD, say, share};
use crate::sources;

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

pub(crate) fn run() {
    let (code, cost) = page::costs(Builtin::Code);
    let mut files = sources::files();
    let mut out = String::from(
        "| texts | N | found as code | share | as its category | share |\n|---|---|---|---|---|---|\n",
    );
    let (mut right, mut wrong, mut all, mut texts_all) = (0, 0, 0, 0);
    for (kind, category) in KINDS {
        let paths = files.remove(kind).unwrap_or_default();
        let step = paths.len().div_ceil(FILES_MAX).max(1);
        let texts =
            paths.iter().step_by(step).filter_map(|path| std::fs::read_to_string(path).ok());
        let texts: Vec<String> = texts
            .flat_map(|text| match kind {
                "md" => sources::prose(&text).into_iter().map(str::to_owned).collect(),
                _ => window(&text),
            })
            .collect();
        let said: Vec<Option<String>> = texts.iter().map(|text| first(&code, text)).collect();
        let (n, found) = (texts.len(), said.iter().flatten().count());
        let same = said.iter().flatten().filter(|said| *said == category).count();
        let (share, as_said) = (share(found, n), share(same, n));
        match kind {
            "md" => say!(out, "| prose | {n} | {found} (false) | {share} | | |"),
            _ => say!(out, "| `.{kind}` | {n} | {found} | {share} | {same} | {as_said} |"),
        }
        match kind {
            "md" => wrong += found,
            _ => (right, all) = (right + found, all + n),
        }
        texts_all += n;
    }
    let figures = Figures::of_counts(texts_all, right, wrong, all);
    page::write(&Page { name: "code", detector: "code", body: &out, figures: &figures, cost });
}

/// The category of the surest finding at or above the usual threshold.
fn first(code: &Prepared, text: &str) -> Option<String> {
    let mut found = code.judge(text).findings;
    found.retain(|finding| finding.score >= THRESHOLD);
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.first().map(|finding| finding.category.to_string())
}

fn window(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let start = (lines.len() / 2).saturating_sub(LINES / 2);
    let lines: Vec<&str> = lines.into_iter().skip(start).take(LINES).collect();
    if lines.len() < 3 { Vec::new() } else { vec![lines.join("\n")] }
}
