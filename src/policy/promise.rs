//! A `.manifest` may promise that no later report takes a block back. Before it is believed, it is
//! tried: one report that gives a block, then the same with another beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regorus::Value;

use super::document;
use super::entry::Ask;
use super::layers::dotted;
use super::load::View;
use super::rego::Parsed;
use super::{Limits, Point, VerdictAnswer, VerdictFacts, answer, fault, sample, shape};
use crate::domain::action::Action;
use crate::domain::category::Category;
use crate::domain::content::{ContentType, Piece};
use crate::domain::coverage::{self, Coverage};
use crate::domain::finding::{Finding, Place, Severity};
use crate::domain::id::DetectorName;
use crate::domain::judgement::{self, DetectorFacts, Evidence};
use crate::domain::plan::Plan;
use crate::domain::report::{Report, ReportError, Status};
use crate::domain::span::Span;
use crate::domain::verdict::{self, Entry, Joined, Mode, VerdictRules};
use crate::yaml::fault::Fault;

/// Heads of documents that a pair of reports is tried under at most.
const HEADS: usize = 4;
/// Categories and labels out of the rules' own words.
const WORDS_MAX: usize = 16;

/// What a verdict of few reports says.
struct Said {
    action: Action,
    rules: VerdictRules,
}

/// Tries the promise of the layer at `path`.
///
/// # Errors
/// The rule that takes a block back, or that a later report makes milder.
pub(super) fn check(view: &View, path: &[String], limits: &Limits) -> Result<(), Fault> {
    let manifest = format!("{}/.manifest", path.join("/"));
    let refuse = |layer: &str, rule: &str, what: &str| {
        let (file, at) = place(view, layer, rule).unwrap_or((&manifest, (1, 1)));
        let message = format!("{what}, but {manifest} says that a block is final");
        let hint = format!("rewrite `{rule}`, or remove `block_is_final` from {manifest}");
        fault(file, at, "block_not_final", message, &hint)
    };
    if let Some((layer, rule)) = loosening(view) {
        return Err(refuse(&layer, rule, &format!("`{rule}` may take a block back")));
    }
    let words: BTreeSet<String> =
        view.unit.files.iter().flat_map(|file| file.words.iter().cloned()).collect();
    let heads: Vec<Value> = sample::samples(Point::Verdict, &words)
        .into_iter()
        .filter(|sample| !sample.is_wild)
        .take(HEADS + 1)
        .map(|sample| Value::from(sample.document))
        .collect();
    let all = everything(view, &words);
    for (first, is_thorough) in firsts(view, &words) {
        // Most are tried under one head: a load must not take long.
        for head in heads.iter().skip(1).take(if is_thorough { HEADS } else { 1 }) {
            let ask = |later| ask(view, head, &[first.clone(), later], limits);
            let Some(before) = ask(Report::unsent(name("b"), "1".into(), ReportError::Decided))
            else {
                continue;
            };
            if before.action != Action::Block {
                continue;
            }
            let milder = laters(&first, &all).into_iter().filter_map(ask);
            if let Some(after) = milder.into_iter().find(|after| after.action != Action::Block) {
                let layer = lost(&before.rules, &after.rules).unwrap_or_else(|| dotted(path));
                return Err(refuse(&layer, "block", "a further report makes `block` milder"));
            }
        }
    }
    Ok(())
}

/// A rule that may loosen: `settle`, or an `ignore` that does more than read its table.
fn loosening(view: &View) -> Option<(String, &'static str)> {
    let asked = view.unit.files.iter().filter_map(|file| {
        let layer = dotted(&file.package);
        view.layers.contains(&layer).then_some((layer, file))
    });
    asked.into_iter().find_map(|(layer, file)| {
        file.rules.iter().find_map(|rule| match rule.name.first().map(String::as_str) {
            Some("settle") => Some((layer.clone(), "settle")),
            Some("ignore") if !rule.refs.is_empty() && !rule.walks_ignore_table => {
                Some((layer.clone(), "ignore"))
            }
            Some(_) | None => None,
        })
    })
}

fn place<'a>(view: &'a View, layer: &str, rule: &str) -> Option<(&'a str, (u32, u32))> {
    let mut files = view.unit.files.iter().filter(|file| dotted(&file.package) == layer);
    let of = |file: &'a Arc<Parsed>| Some((&*file.file, shape::place(file, rule)?));
    files.find_map(of)
}

/// The layer of a block that the first verdict holds and the second does not.
fn lost(before: &VerdictRules, after: &VerdictRules) -> Option<String> {
    let is_lost = |entry: &&Entry| {
        let mut now = after.entries.iter().chain(&after.floor);
        let same = |now: &Entry| (&now.layer, &now.code) == (&entry.layer, &entry.code);
        entry.action == Action::Block && !now.any(same)
    };
    before.entries.iter().chain(&before.floor).find(is_lost).map(|entry| entry.layer.clone())
}

/// Reports that may give a block: one per category, and per label where rules read labels, that the
/// rules or the table name, and all categories at once. Those to be tried thoroughly are marked.
fn firsts(view: &View, words: &BTreeSet<String>) -> Vec<(Report, bool)> {
    let categories = categories(view, words);
    let of = |category: &Category, label: &str| {
        let score = if label == "X" { 0.95 } else { 0.8 };
        found(category, label, (score, Severity::Critical), 0)
    };
    let all = categories.iter().map(|category| of(category, "X")).collect();
    let reads_labels = view.unit.files.iter().any(|file| file.text.contains("label"));
    let labels = words.iter().take(if reads_labels { WORDS_MAX } else { 0 });
    let labelled =
        labels.flat_map(|label| categories.first().map(|category| vec![of(category, label)]));
    let single = categories.iter().map(|category| vec![of(category, "X")]);
    let lists = single.chain(labelled).map(|list| (list, false)).chain([(all, true)]);
    lists.map(|(findings, thorough)| (answered("a", findings), thorough)).collect()
}

/// Categories that the rules or the table name.
fn categories(view: &View, words: &BTreeSet<String>) -> Vec<Category> {
    let table = view.settings.get("actions").and_then(serde_json::Value::as_object);
    let named = table.into_iter().flat_map(|table| table.keys()).chain(words);
    let categories = named.filter_map(|word| Category::parse(word).ok()).take(WORDS_MAX);
    categories.chain(Category::parse("pii.email")).collect()
}

/// A finding of each category and of each label that the rules or the table name.
fn everything(view: &View, words: &BTreeSet<String>) -> Vec<Finding> {
    let categories = categories(view, words);
    let labels = words.iter().take(WORDS_MAX).zip(categories.iter().cycle());
    let labelled = labels.map(|(word, category)| (category, word.as_str()));
    let all = categories.iter().map(|category| (category, "OTHER")).chain(labelled);
    let place = |(at, (category, label))| found(category, label, (0.6, Severity::Low), 30 + at * 5);
    all.enumerate().map(place).collect()
}

/// What another detector may say after `first`, also that it found `all` there is.
fn laters(first: &Report, all: &[Finding]) -> Vec<Report> {
    let Some(known) = first.findings.first() else { return Vec::new() };
    let clean =
        Report { label: Some("clean".into()), score: Some(0.99), ..answered("b", Vec::new()) };
    let surer = Finding {
        label: "OTHER".into(),
        score: 1.0,
        severity: Severity::Low,
        attributes: BTreeMap::from([("domain".to_owned(), "other.example".to_owned())]),
        ..known.clone()
    };
    let weaker = found(&known.category, "OTHER", (0.6, Severity::Low), 5);
    let other = Category::parse("topic").map(|topic| found(&topic, "T", (0.9, Severity::Low), 5));
    let failed = Report::unsent(name("b"), "1".into(), ReportError::Communication);
    let other = other.into_iter().collect();
    let said = [vec![surer], vec![weaker], other, all.to_vec(), Vec::new()];
    said.map(|findings| answered("b", findings)).into_iter().chain([clean, failed]).collect()
}

fn name(raw: &str) -> DetectorName {
    #[expect(clippy::expect_used, reason = "one letter is a name")]
    DetectorName::parse(raw).expect("one letter is a name")
}

fn answered(detector: &str, findings: Vec<Finding>) -> Report {
    let unsent = Report::unsent(name(detector), "1".into(), ReportError::Decided);
    Report { status: Status::Success, error: None, attempts: 1, findings, ..unsent }
}

fn found(
    category: &Category,
    label: &str,
    (score, severity): (f64, Severity),
    start: usize,
) -> Finding {
    Finding {
        category: category.clone(),
        label: label.into(),
        score,
        severity,
        place: Some(Place { piece: 0, span: Some(Span { start, end: start + 4 }) }),
        view: None,
        attributes: BTreeMap::from([("domain".to_owned(), "first.example".to_owned())]),
    }
}

/// The verdict about `reports` as a run would ask for it; `None` where a rule fails.
fn ask(view: &View, head: &Value, reports: &[Report], limits: &Limits) -> Option<Said> {
    let pieces = [Piece {
        pointer: "/content".into(),
        content_type: ContentType::Text,
        text: None,
        chars: 1_000,
    }];
    let plan = Plan {
        required: reports.iter().map(|report| report.detector.clone()).collect(),
        ..Plan::default()
    };
    let categories: BTreeSet<Category> =
        reports.iter().flat_map(|report| &report.findings).map(|f| f.category.root()).collect();
    let facts = DetectorFacts { categories, weight: 1.0, ..DetectorFacts::default() };
    let detectors = plan.required.iter().map(|name| (name.clone(), facts.clone())).collect();
    let raw = judgement::raw(reports, &pieces);
    let judgement = judgement::make(&Evidence {
        plan: &plan,
        reports,
        pieces: &pieces,
        thresholds: &BTreeMap::new(),
        detectors: &detectors,
        content_type: ContentType::Text,
    });
    let coverage = coverage::measure(&plan, reports, &pieces, &BTreeMap::new());
    let seen = VerdictFacts { judgement: &judgement, raw: &raw, reports, coverage: &coverage };
    let unit = &view.unit;
    let held = |of: Ask| match unit.answers(of) {
        true => unit.ask(of, asked(view, head, &seen, of)?, limits.eval_timeout).ok(),
        false => Some(Vec::new()),
    };
    let said = answer::verdict(unit, &held(Ask::Verdict)?, &judgement.findings).ok()?;
    let mut floor = VerdictAnswer::default();
    answer::floor_verdict(unit, &held(Ask::FloorVerdict)?, &raw, &mut floor).ok()?;
    let rules = VerdictRules { floor: floor.rules.floor, ..said.rules };
    let whole = Coverage { complete: true, floor_complete: true, ..coverage.clone() };
    let joined = Joined {
        on_incomplete: Action::Allow,
        floor_on_incomplete: None,
        plan_failure: None,
        mode: Mode::Enforce,
    };
    let action = verdict::join(&rules, &judgement, &raw, &whole, joined).action;
    Some(Said { action, rules })
}

/// The document of a verdict or of the floor's, with the head of `head`.
fn asked(view: &View, head: &Value, seen: &VerdictFacts<'_>, of: Ask) -> Option<Value> {
    let mut document = head.clone();
    let fields = document.as_object_mut().ok()?;
    for key in ["findings", "results", "categories", "conflicts", "coverage", "settings"] {
        fields.remove(&Value::from(key));
    }
    let (findings, parts) = match of.of_floor() {
        true => (seen.raw, view.unit.floor_parts),
        false => {
            fields.insert("settings".into(), view.settings_value.clone());
            (seen.judgement.findings.as_slice(), view.unit.verdict_parts)
        }
    };
    document::outcome(fields, seen, findings, parts);
    Some(document)
}
