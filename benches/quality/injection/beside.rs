//! The ONNX model of benches/quality/network beside the linear one, on the same texts.

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::{Prepared, prepare};
use serde_json::{Value, json};

use super::data::load;
use super::report::{Harmless, SETS, Score, Scored, auc, in_views, scored, share, trained};
use crate::page::{self, Cost, THRESHOLD, say};
use crate::{samples, speed};

/// One kind of harmless texts.
type Of = fn(&Harmless) -> &Vec<Scored>;

const FOLDER: &str = "benches/quality/network";

/// Measures both and writes their part of docs/quality/injection.md.
pub fn beside() {
    let files = ["model.onnx", "tokenizer.json"].map(|name| format!("{FOLDER}/{name}"));
    let [model, tokenizer] = &files;
    let mut params = json!({"model": model, "tokenizer": tokenizer});
    let linear = page::costs_with(Builtin::PromptInjection, &Value::Null);
    let onnx = page::costs_with(Builtin::PromptInjection, &params);
    // Where every score counts: nothing is left unsaid.
    params["min_score"] = json!(0.0);
    let all = [json!({"min_score": 0.0}), params].map(|params| {
        prepare(Builtin::PromptInjection, &params).unwrap_or_else(|fault| panic!("{fault}"))
    });
    let mut out = String::new();
    quality(&mut out, [&all[0], &all[1]]);
    say!(out, "\n| cost | linear | ONNX |\n|---|---|---|");
    for bytes in [200, 10_000] {
        let text = samples::of_length(samples::SAMPLES[0].1, bytes);
        let micros = |prepared| format!("{:.0}", speed::median(prepared, &text) * 1e6);
        row(&mut out, &format!("{bytes} B of prose, µs"), [&linear.0, &onnx.0].map(micros));
    }
    let costs = [linear.1, onnx.1];
    let column = |part: fn(&Cost) -> f64| costs.each_ref().map(|cost| format!("{:.2}", part(cost)));
    row(&mut out, "ordinary texts, MB/s", column(|cost| cost.speed));
    row(&mut out, "memory held after the first text, MB", column(|cost| cost.memory));
    let own = files.each_ref().map(|path| std::fs::metadata(path).unwrap().len()).iter().sum();
    let shipped = std::fs::metadata("src/detect/builtin/data/injection.bin").unwrap().len();
    let size = |bytes: u64| format!("{:.2}", bytes as f64 / 1e6);
    row(&mut out, "files, MB", [shipped, own].map(size));
    page::write_part("injection", "injection-onnx", &out);
}

fn quality(out: &mut String, detectors: [&Prepared; 2]) {
    let score = |detector: &Prepared, text: &str| {
        let found = detector.judge(text).findings;
        found.iter().map(|finding| finding.score).fold(0.0, f64::max)
    };
    let judges =
        detectors.map(|detector| move |text: &str| in_views(text, |text| score(detector, text)));
    let judges: [Score; 2] = [&judges[0], &judges[1]];
    let trained = trained();
    let harmless = judges.map(|judge| Harmless::read(judge, &trained));
    say!(
        out,
        "| set | AUC, linear | ONNX | recall at 0.5, linear | ONNX | harmless found, linear | ONNX |"
    );
    say!(out, "|---|---|---|---|---|---|---|");
    let mut all: [Vec<Scored>; 2] = [Vec::new(), Vec::new()];
    for [title, name] in SETS {
        let texts = judges.map(|judge| scored(judge, &trained, load(name)));
        let own = texts[0].iter().any(|text| !text.attack);
        let rows = [0, 1].map(|at| {
            let others = harmless[at].short().filter(|_| !own);
            texts[at].iter().chain(others).collect::<Vec<_>>()
        });
        figures(out, &format!("{title}{}", if own { "" } else { " ¹" }), &rows);
        if name != "slabs-test" {
            all.iter_mut().zip(texts).for_each(|(all, texts)| all.extend(texts));
        }
    }
    let rows = [0, 1].map(|at| {
        let short = harmless[at].short().filter(|text| text.kind != "bastion");
        all[at].iter().chain(short).collect::<Vec<_>>()
    });
    figures(out, "**all but in-domain** ²", &rows);
    say!(out, "\n| harmless texts found at 0.5 | N | linear | ONNX |\n|---|---|---|---|");
    let kinds: [(&str, Of); 8] = [
        ("hard", |harmless| &harmless.hard),
        ("notices and settings of our own", |harmless| &harmless.notices),
        ("settings files of packages", |harmless| &harmless.settings),
        ("other languages", |harmless| &harmless.languages),
        ("paragraphs of Markdown", |harmless| &harmless.prose),
        ("Markdown files whole, to 20 KB", |harmless| &harmless.documents),
        ("numbers, addresses and docstrings", |harmless| &harmless.structured),
        ("ordinary texts, tweets aside", |harmless| &harmless.ordinary),
    ];
    for (title, texts) in kinds {
        let found = harmless.each_ref().map(|harmless| part(texts(harmless).iter()));
        row(out, &format!("{title} | {}", texts(&harmless[0]).len()), found);
    }
}

fn figures(out: &mut String, title: &str, rows: &[Vec<&Scored>; 2]) {
    let of = |attack: bool| {
        rows.each_ref().map(|rows| part(rows.iter().copied().filter(|text| text.attack == attack)))
    };
    let [linear, onnx] = rows.each_ref().map(|rows| format!("{:.3}", auc(rows)));
    let ([hits, other_hits], alarms) = (of(true), of(false));
    row(out, &format!("{title} | {linear} | {onnx} | {hits} | {other_hits}"), alarms);
}

fn part<'a>(texts: impl Iterator<Item = &'a Scored>) -> String {
    format!("{:.3}", share(&texts.collect::<Vec<_>>(), THRESHOLD))
}

fn row(out: &mut String, title: &str, [linear, onnx]: [String; 2]) {
    say!(out, "| {title} | {linear} | {onnx} |");
}
