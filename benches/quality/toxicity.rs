//! `bench-quality toxicity`: what the lexicon and the phrases find, and what they find wrongly.

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::Prepared;
use serde_json::Value;

use crate::page::{self, Figures, Page, THRESHOLD, say, share, text};

const BENIGN: &str = include_str!("toxicity/benign.tsv");
const TOXIC: &str = include_str!("toxicity/toxic.tsv");

pub(crate) fn run() {
    let (detector, cost) = page::costs(Builtin::Toxicity);
    let scores = |texts: &mut dyn Iterator<Item = &str>| -> Vec<f64> {
        texts.map(|text| top(&detector, text)).collect()
    };
    let ordinary = page::rows("ordinary");
    let sets = page::sets(&ordinary);
    let mut out = String::from(
        "### Labelled texts\n\n| texts | N | toxic | found | precision | recall | F1 | AUC |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let own = |list: &'static str| list.lines().filter_map(|line| line.split_once('\t'));
    let bad = scores(&mut own(TOXIC).map(|(_, text)| text));
    let good = scores(&mut own(BENIGN).map(|(_, text)| text));
    row(&mut out, "sentences of our own", &bad, &good);
    let labelled = page::rows("toxicity");
    let sentences = sets.iter().filter(|(set, _)| set.contains("sentences"));
    let clean =
        scores(&mut sentences.flat_map(|(_, rows)| rows.iter().step_by(5).map(|r| text(r))));
    let mut figures = Figures::default();
    for (set, rows) in page::sets(&labelled) {
        let of = |toxic: bool| {
            scores(&mut rows.iter().filter(|row| row["toxic"] == toxic).map(|row| text(row)))
        };
        match of(false) {
            good if good.is_empty() => {
                let name = format!("{set}, against every fifth editorial and review sentence");
                figures = row(&mut out, &name, &of(true), &clean);
            }
            good => _ = row(&mut out, set, &of(true), &good),
        }
    }
    let lists =
        [("Harmless sentences of our own", BENIGN), ("Abusive sentences of our own", TOXIC)];
    for (title, list) in lists {
        let scored: Vec<_> = own(list).map(|(kind, text)| (kind, top(&detector, text))).collect();
        kinds(&mut out, title, &scored);
    }
    on_ordinary(&mut out, &detector, &sets);
    page::write(&Page {
        name: "toxicity",
        detector: "toxicity",
        body: &out,
        figures: &figures,
        cost,
    });
}

fn on_ordinary(out: &mut String, detector: &Prepared, sets: &[(&str, Vec<&Value>)]) {
    say!(out, "\n### Ordinary texts\n");
    say!(out, "| texts | N | MB | found | share | findings a MB |\n|---|---|---|---|---|---|");
    for (set, rows) in sets {
        let bytes = rows.iter().map(|row| text(row).len()).sum::<usize>() as f64 / 1e6;
        let counts: Vec<usize> = rows.iter().map(|row| count(detector, text(row))).collect();
        let found = counts.iter().filter(|count| **count > 0).count();
        let each = counts.iter().sum::<usize>() as f64 / bytes;
        let n = rows.len();
        say!(out, "| {set} | {n} | {bytes:.2} | {found} | {} | {each:.1} |", share(found, n));
    }
}

/// The highest score of a text, 0 for none.
fn top(detector: &Prepared, text: &str) -> f64 {
    detector.judge(text).findings.iter().map(|f| f.score).fold(0.0, f64::max)
}

fn count(detector: &Prepared, text: &str) -> usize {
    detector.judge(text).findings.iter().filter(|f| f.score >= THRESHOLD).count()
}

fn row(out: &mut String, name: &str, bad: &[f64], good: &[f64]) -> Figures {
    let over = |scores: &[f64]| scores.iter().filter(|score| **score >= THRESHOLD).count();
    let (right, wrong) = (over(bad), over(good));
    let precision = right as f64 / (right + wrong).max(1) as f64;
    let recall = right as f64 / bad.len() as f64;
    let f1 = 2.0 * precision * recall / (precision + recall).max(f64::MIN_POSITIVE);
    let auc = page::auc(bad, good);
    let n = bad.len() + good.len();
    say!(
        out,
        "| {name} | {n} | {} | {} | {precision:.3} | {recall:.3} | {f1:.3} | {auc:.3} |",
        bad.len(),
        right + wrong
    );
    Figures { auc: Some(auc), ..Figures::of_counts(n, right, wrong, bad.len()) }
}

fn kinds(out: &mut String, title: &str, scores: &[(&str, f64)]) {
    say!(out, "\n### {title}\n\n| kind | N | found |\n|---|---|---|");
    let mut kinds: Vec<&str> = scores.iter().map(|(kind, _)| *kind).collect();
    kinds.dedup();
    for kind in kinds {
        let of: Vec<f64> = scores.iter().filter(|(k, _)| *k == kind).map(|(_, s)| *s).collect();
        let found = of.iter().filter(|score| **score >= THRESHOLD).count();
        say!(out, "| {kind} | {} | {found} |", of.len());
    }
}
