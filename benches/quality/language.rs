//! `bench-quality language`: how often the language is named rightly, by length.

use std::collections::{BTreeMap, BTreeSet};

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::{Prepared, prepare};
use serde_json::{Value, json};

use crate::page::{self, Figures, Page, say, share, text};

const LENGTHS: [usize; 4] = [20, 50, 100, 200];

pub(crate) fn run() {
    let (detector, cost) = page::costs(Builtin::Language);
    let eager = prepare(Builtin::Language, &json!({"min_score": 0.0})).ok().unwrap();
    let rows = page::rows("language");
    let known: BTreeSet<&str> = KNOWN.split_whitespace().collect();
    let mut out = String::new();
    let mut pairs = BTreeMap::new();
    let mut figures = Figures::default();
    for (set, rows) in page::sets(&rows) {
        let rows: Vec<&Value> = rows.into_iter().filter(|row| known.contains(truth(row))).collect();
        let languages: BTreeSet<&str> = rows.iter().map(|row| truth(row)).collect();
        say!(
            out,
            "### {set}: {} languages
",
            languages.len()
        );
        say!(
            out,
            "| characters | N | named | right | right of all | always asked |
|---|---|---|---|---|---|"
        );
        for length in LENGTHS {
            let (right, wrong) =
                by_length(&mut out, [&detector, &eager], &rows, length, &mut pairs);
            // Django's messages are the set that the library was not made of.
            if length == 100 && figures.texts == 0 {
                figures = Figures::of_counts(rows.len(), right, wrong, rows.len());
            }
        }
        say!(out, "");
    }
    say!(
        out,
        "### The pairs most often confused, all lengths
"
    );
    say!(
        out,
        "| written in | taken for | times |
|---|---|---|"
    );
    let mut worst: Vec<_> = pairs.into_iter().collect();
    worst.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for ((truth, said), count) in worst.into_iter().take(10) {
        say!(out, "| {truth} | {said} | {count} |");
    }
    let strange: Vec<&Value> = rows.iter().filter(|row| !known.contains(truth(row))).collect();
    let taken =
        strange.iter().filter(|row| named(&detector, cut(text(row), 200)).is_some()).count();
    say!(
        out,
        "
### Languages that it does not know
"
    );
    say!(
        out,
        "{taken} of {} texts of 200 characters in other languages ({}) are taken for one that it knows.",
        strange.len(),
        share(taken, strange.len())
    );
    page::write(&Page {
        name: "language",
        detector: "language",
        body: &out,
        figures: &figures,
        cost,
    });
}

/// One line; how many answers are right and wrong.
fn by_length(
    out: &mut String,
    [detector, eager]: [&Prepared; 2],
    rows: &[&Value],
    length: usize,
    pairs: &mut BTreeMap<(String, String), usize>,
) -> (usize, usize) {
    let said: Vec<(Option<String>, &str)> =
        rows.iter().map(|row| (named(detector, cut(text(row), length)), truth(row))).collect();
    let right = said.iter().filter(|(said, truth)| said.as_deref() == Some(truth)).count();
    let answers = said.iter().filter(|(said, _)| said.is_some()).count();
    let forced = rows
        .iter()
        .filter(|row| named(eager, cut(text(row), length)).as_deref() == Some(truth(row)))
        .count();
    let n = rows.len();
    say!(
        out,
        "| {length} | {n} | {} | {} | {} | {} |",
        share(answers, n),
        share(right, answers),
        share(right, n),
        share(forced, n)
    );
    for (said, truth) in said {
        if let Some(said) = said.filter(|said| said != truth) {
            *pairs.entry((truth.to_owned(), said)).or_default() += 1;
        }
    }
    (right, answers - right)
}

fn truth(row: &Value) -> &str {
    row["language"].as_str().unwrap()
}

fn named(detector: &Prepared, text: &str) -> Option<String> {
    detector.judge(text).findings.first().map(|finding| finding.label.to_string())
}

/// The first `length` characters, without a word that the cut would split.
fn cut(text: &str, length: usize) -> &str {
    let Some((at, _)) = text.char_indices().nth(length) else { return text };
    let (head, tail) = text.split_at(at);
    match head.rfind(' ') {
        Some(space) if space > 0 && !tail.starts_with(' ') => &head[..space],
        _ => head,
    }
}

/// The codes that the detector may say.
const KNOWN: &str = "af ak am ar az be bg bn ca cs cy da de el en eo es et fa fi fr gu he hi hr hu hy id it \
    ja jv ka km kn ko la lt lv mk ml mr my nb ne nl or pa pl pt ro ru si sk sl sn sr sv ta te th tk tl tr uk \
    ur uz vi yi zh zu";
