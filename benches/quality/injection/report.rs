//! Writes docs/quality/injection.md: what the shipped model finds in sets it never saw.

use std::collections::BTreeMap;

use detector_orchestrator::catalog::detector::Builtin;
use detector_orchestrator::detect::builtin::injection::model::Model;
use detector_orchestrator::domain::finding::TextView;
use detector_orchestrator::domain::view;

use super::data::{self, Text, load};
use super::near::Index;
use super::training;
use crate::page::{self, Figures, Page, THRESHOLD, say};
use crate::sources;

const VIEWS: [TextView; 2] = [TextView::Normalized, TextView::Decoded];
/// One harmless text a line, none of which trained.
const NOTICES: &str = include_str!("notices.txt");
/// Title, set.
pub(super) const SETS: [[&str; 2]; 7] = [
    ["in-domain: S-Labs, test split", "slabs-test"],
    ["neuralchemy", "neuralchemy"],
    ["bastioncorpus", "bastion"],
    ["agent-injection-bench", "agents"],
    ["yanismiraoui", "yanismiraoui"],
    ["promptwl", "promptwl"],
    ["jailbreaks in the wild", "wild"],
];

pub(super) struct Scored {
    pub(super) score: f64,
    pub(super) attack: bool,
    pub(super) kind: String,
    lang: String,
    /// Near a training text or an earlier text of the same set.
    near: bool,
}

/// Measures and writes the page.
pub fn report() {
    let (_, cost) = page::costs(Builtin::PromptInjection);
    let model = Model::shipped().unwrap();
    let linear = |text: &str| in_views(text, |text| model.probability(model.margin(text)));
    let trained = trained();
    let harmless = Harmless::read(&linear, &trained);
    let mut out = String::from("### Attacks\n\n");
    let mut details = String::new();
    let figures =
        attacks(&mut out, &mut details, &harmless, |name| scored(&linear, &trained, load(name)));
    harmless.tables(&mut out);
    say!(out, "\n### Recall by kind, at 0.5\n\n{details}");
    injected(&mut out, model);
    let page = Page {
        name: "injection",
        detector: "prompt-injection",
        body: &out,
        figures: &figures,
        cost,
    };
    page::write(&page);
}

/// Every text that trained.
pub(super) fn trained() -> Index {
    let mut trained = Index::default();
    let sets = ["slabs-train", "docs", "ui"].iter().flat_map(|name| load(name));
    let own = training::made().concat();
    sets.map(|text| text.text).chain(own).for_each(|text| trained.add(&text));
    trained
}

/// The probability that a text is an attack.
pub(super) type Score<'a> = &'a dyn Fn(&str) -> f64;

/// Texts that no detector should find.
pub(super) struct Harmless {
    pub(super) hard: Vec<Scored>,
    pub(super) notices: Vec<Scored>,
    pub(super) settings: Vec<Scored>,
    pub(super) languages: Vec<Scored>,
    pub(super) prose: Vec<Scored>,
    pub(super) documents: Vec<Scored>,
    pub(super) structured: Vec<Scored>,
    pub(super) ordinary: Vec<Scored>,
}

impl Harmless {
    pub(super) fn read(judge: Score, trained: &Index) -> Self {
        let score = |texts: Vec<Text>| scored(judge, trained, texts);
        Self {
            hard: score(load("hard")),
            notices: score(NOTICES.lines().map(|line| harmless(line.to_owned())).collect()),
            settings: unlike(judge, load("settings")),
            languages: score(load("languages")),
            prose: score(paragraphs()),
            documents: score(documents()),
            structured: unlike(judge, structured()),
            ordinary: unlike(judge, ordinary()),
        }
    }

    /// What a set of attacks only is held against.
    pub(super) fn short(&self) -> impl Iterator<Item = &Scored> {
        self.hard.iter().chain(&self.languages).chain(&self.prose)
    }

    fn tables(&self, out: &mut String) {
        say!(
            out,
            "\n### Harmless texts\n\n| texts | N | found at 0.5 | at 0.8 |\n|---|---|---|---|"
        );
        false_positives(out, "hard", &self.hard, |text| text.kind.clone());
        let none = |_: &Scored| String::new();
        let name = "notices and settings of our own, no line of which trained";
        false_positives(out, name, &self.notices, none);
        let name = "settings files of packages";
        false_positives(out, name, &self.settings, |text| text.kind.clone());
        let name = "other languages (Mercurial's messages and help)";
        false_positives(out, name, &self.languages, |text| text.lang.clone());
        false_positives(out, "paragraphs of the packages' Markdown", &self.prose, none);
        let name = "the packages' Markdown files whole, to 20 KB";
        false_positives(out, name, &self.documents, none);
        let name = "numbers, addresses and docstrings: the texts of [pii](pii.md)";
        false_positives(out, name, &self.structured, none);
        let name = "[ordinary](ordinary.md) texts, tweets aside";
        false_positives(out, name, &self.ordinary, |text| text.kind.clone());
    }
}

/// One row for each set, one for all but the first.
fn attacks(
    out: &mut String,
    details: &mut String,
    harmless: &Harmless,
    score: impl Fn(&str) -> Vec<Scored>,
) -> Figures {
    say!(
        out,
        "| set | harmless | attacks | AUC | without near duplicates | precision | recall | F1 | false positives |"
    );
    say!(out, "|---|---|---|---|---|---|---|---|---|");
    let mut all = Vec::new();
    for [title, name] in SETS {
        let texts = score(name);
        let own = texts.iter().any(|text| !text.attack);
        let rows: Vec<&Scored> = texts.iter().chain(harmless.short().filter(|_| !own)).collect();
        row(out, &format!("{title}{}", if own { "" } else { " ¹" }), &rows);
        if name == "neuralchemy" || name == "promptwl" || name == "bastion" {
            let key = |text: &Scored| match name {
                "promptwl" => text.lang.clone(),
                _ => text.kind.split('/').next().unwrap_or_default().to_owned(),
            };
            *details += &recalls(title, &texts, key);
        }
        if name != "slabs-test" {
            all.extend(texts);
        }
    }
    // Those of bastioncorpus are among the hard texts.
    let short = harmless.short().filter(|text| text.kind != "bastion");
    row(out, "**all but in-domain** ²", &all.iter().chain(short).collect::<Vec<_>>())
}

pub(super) fn scored(judge: Score, trained: &Index, texts: Vec<Text>) -> Vec<Scored> {
    let mut own = Index::default();
    let score = |text: Text| {
        let near = trained.holds_near(&text.text) || own.holds_near(&text.text);
        own.add(&text.text);
        let score = judge(&text.text);
        Scored { score, attack: text.is_attack(), kind: text.kind, lang: text.lang, near }
    };
    texts.into_iter().map(score).collect()
}

/// As the service judges: the raw text and its views, the hottest counts.
pub(super) fn in_views(text: &str, probability: impl Fn(&str) -> f64) -> f64 {
    let views = view::of(text, &VIEWS);
    let texts = std::iter::once(text).chain(views.iter().map(|view| &*view.text));
    texts.map(probability).fold(0.0, f64::max)
}

fn row(out: &mut String, title: &str, rows: &[&Scored]) -> Figures {
    let fresh: Vec<&Scored> = rows.iter().copied().filter(|text| !text.near).collect();
    let count = |attack, found| {
        let fits = |text: &&&Scored| text.attack == attack && (text.score >= THRESHOLD) == found;
        rows.iter().filter(fits).count()
    };
    let (hits, missed) = (count(true, true), count(true, false));
    let (alarms, quiet) = (count(false, true), count(false, false));
    let auc = auc(rows);
    let (n, attacks) = (rows.len(), hits + missed);
    let figures = Figures { auc: Some(auc), ..Figures::of_counts(n, hits, alarms, attacks) };
    let part = |part: Option<f64>| part.unwrap_or_default();
    say!(
        out,
        "| {title} | {} | {attacks} | {auc:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} |",
        alarms + quiet,
        self::auc(&fresh),
        part(figures.precision),
        part(figures.recall),
        part(figures.f1()),
        alarms as f64 / (alarms + quiet) as f64
    );
    figures
}

pub(super) fn auc(rows: &[&Scored]) -> f64 {
    let of = |attack| -> Vec<f64> {
        rows.iter().filter(|text| text.attack == attack).map(|text| text.score).collect()
    };
    page::auc(&of(true), &of(false))
}

fn groups(texts: &[Scored], key: impl Fn(&Scored) -> String) -> BTreeMap<String, Vec<&Scored>> {
    let mut groups: BTreeMap<String, Vec<&Scored>> = BTreeMap::new();
    for text in texts {
        groups.entry(key(text)).or_default().push(text);
    }
    groups
}

pub(super) fn share(texts: &[&Scored], threshold: f64) -> f64 {
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

fn false_positives(
    out: &mut String,
    title: &str,
    texts: &[Scored],
    key: impl Fn(&Scored) -> String,
) {
    let mut line = |title: &str, texts: &[&Scored]| {
        let (some, sure) = (share(texts, THRESHOLD), share(texts, 0.8));
        say!(out, "| {title} | {} | {some:.3} | {sure:.3} |", texts.len());
    };
    line(title, &texts.iter().collect::<Vec<_>>());
    for (name, texts) in groups(texts, key) {
        if !name.is_empty() && texts.len() >= 20 {
            line(&format!("— {name}"), &texts);
        }
    }
}

/// How often one attack inside 10 KB of documentation that the model never saw is found, and there.
fn injected(out: &mut String, model: &Model) {
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
    say!(
        out,
        "### One sentence in 10 KB\n\nOf {tried} attacks of the S-Labs test split, {alone} are found \
         alone; put into 10 KB of held-out documentation, {found} texts are found, and for {there} \
         the hottest window touches the attack.\n"
    );
}

fn documents() -> Vec<Text> {
    markdown().into_iter().map(|text| harmless(text.chars().take(20_000).collect())).collect()
}

fn paragraphs() -> Vec<Text> {
    let files = markdown();
    let mut parts: Vec<&str> = files.iter().flat_map(|file| sources::prose(file)).collect();
    parts.sort_unstable();
    parts.dedup();
    parts.into_iter().map(|part| harmless(part.to_owned())).collect()
}

fn harmless(text: String) -> Text {
    Text { label: 0, lang: "en".to_owned(), kind: String::new(), text }
}

fn markdown() -> Vec<String> {
    let paths = sources::files().remove("md").unwrap_or_default();
    let mut texts: Vec<String> =
        paths.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    texts.sort();
    texts.dedup();
    texts
}

fn structured() -> Vec<Text> {
    page::rows("pii").iter().map(|row| harmless(page::text(row).to_owned())).collect()
}

fn ordinary() -> Vec<Text> {
    let rows = page::rows("ordinary");
    let sets = page::sets(&rows).into_iter().filter(|(set, _)| *set != "tweets");
    sets.flat_map(|(set, rows)| {
        let kind = set.to_owned();
        rows.into_iter().map(move |row| {
            let text = page::text(row).to_owned();
            Text { label: 0, lang: String::new(), kind: kind.clone(), text }
        })
    })
    .collect()
}

/// Scores without a look for near duplicates, which has no use here.
fn unlike(judge: Score, texts: Vec<Text>) -> Vec<Scored> {
    let score = |text: Text| Scored {
        score: judge(&text.text),
        attack: false,
        kind: text.kind,
        lang: text.lang,
        near: false,
    };
    texts.into_iter().map(score).collect()
}
