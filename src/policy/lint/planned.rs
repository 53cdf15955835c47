//! Which detectors a plan can ask, as far as tables and rule heads tell.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regorus::unstable::{Rule, RuleHead};
use serde_json::{Map, Value};

use super::super::layers::Layers;
use super::super::rego::{self, Parsed};
use super::super::{Limits, table};
use super::Voters;
use crate::domain::id::DetectorName;

/// Rules and keys of tables that put detectors into a plan.
const LISTS: [&str; 3] = ["required", "optional", "secondary"];
const SHIPPED: [&str; 2] = [
    include_str!("../../../policies/standard/plan.rego"),
    include_str!("../../../policies/floor/floor.rego"),
];

/// The shipped rules of those names, which plan what the table and the event's strategy list.
static FROM_TABLE: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let parse = |text: &str| rego::parse("shipped", &text.into(), &Limits::default()).ok();
    let parsed: Vec<Parsed> = SHIPPED.into_iter().filter_map(parse).collect();
    let all = parsed.iter().flat_map(rules);
    all.filter(|(name, ..)| is_list(name)).map(|(_, _, text)| text).collect()
});

/// The detectors that a plan of the policy of `folder` can ask without the request's help; `None`
/// where its rules compute them. A layer below all policies has no plan of its own.
pub(super) fn planned(
    layers: &Layers,
    folder: &[String],
    known: &Voters,
) -> Option<BTreeSet<DetectorName>> {
    let bundle = match folder {
        [only] if only != "base" && only != "floor" => only,
        [top, _, bundle] if top == "tenants" => bundle,
        _ => return None,
    };
    let stack = [vec!["base".to_owned()], vec![bundle.clone()], folder.to_vec()];
    let tables: Vec<(&str, &Map<String, Value>)> =
        stack.iter().filter_map(|path| Some(("", &layers.get(path)?.settings))).collect();
    let (merged, _) = table::merge(&tables);
    let floor = vec!["floor".to_owned()];
    let mut names: BTreeSet<&str> = LISTS.iter().flat_map(|list| listed(&merged, list)).collect();
    names.extend(
        layers.get(&floor).into_iter().flat_map(|floor| listed(&floor.settings, "required")),
    );
    let mut open: Vec<Vec<String>> = stack.into_iter().chain([floor]).collect();
    let mut seen = BTreeSet::new();
    let mut literal = BTreeSet::new();
    while let Some(path) = open.pop() {
        let Some(layer) = layers.get(&path).filter(|_| seen.insert(path)) else { continue };
        let files = layer.files.iter().map(AsRef::as_ref);
        for (name, rule, text) in files.flat_map(rules).filter(|(name, ..)| is_list(name)) {
            if let Some(word) = key(rule) {
                literal.insert(word);
            } else if let Some(other) = passed_on(&name, &text) {
                open.push(vec![other]);
            } else if !FROM_TABLE.contains(&text) {
                return None;
            }
        }
    }
    names.extend(literal.iter().map(String::as_str));
    let by_event = known.of_strategies.iter();
    let all = names.contains("*");
    let skipped: BTreeSet<&str> = listed(&merged, "skip").collect();
    let named = known.votes.keys().filter(|name| all || names.contains(name.as_str()));
    let asked = named.chain(by_event).filter(|name| !skipped.contains(name.as_str()));
    Some(asked.cloned().collect())
}

fn is_list(name: &str) -> bool {
    LISTS.contains(&name)
}

fn listed<'a>(settings: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a str> {
    settings.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Each rule of a file with its name and its text, without blanks and lines of comments.
fn rules(file: &Parsed) -> impl Iterator<Item = (String, &Rule, String)> {
    let start = |rule: &Rule| usize::try_from(rule.span().start).unwrap_or(usize::MAX);
    let policy = &file.module.policy;
    file.rules.iter().zip(policy).enumerate().map(move |(at, (facts, rule))| {
        let end = policy.get(at + 1).map_or(file.text.len(), |next| start(next));
        let text = file.text.get(start(rule)..end).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let text = lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
        (facts.name.join("."), rule.as_ref(), text)
    })
}

/// `x` of `required contains "x"`.
fn key(rule: &Rule) -> Option<String> {
    match rule {
        Rule::Spec { head: RuleHead::Set { key: Some(key), .. }, .. } => rego::text(key),
        Rule::Spec { .. } | Rule::Default { .. } => None,
    }
}

/// `standard` of `required := data.standard.required`.
fn passed_on(name: &str, text: &str) -> Option<String> {
    let bundle = text.strip_prefix(name)?.strip_prefix(":=data.")?.strip_suffix(name)?;
    let bundle = bundle.strip_suffix('.')?;
    (!bundle.contains(['.', '[', '('])).then(|| bundle.to_owned())
}
