//! Names of detectors in tables and in rule heads, of strategies in tables, and quorums in tables.

use std::collections::BTreeSet;

use regorus::unstable::{Rule, RuleHead};

use super::super::layers::Layers;
use super::super::rego::{self, Parsed};
use super::super::{Source, fault, table};
use super::{Voters, planned};
use crate::domain::category::Category;
use crate::domain::id::DetectorName;
use crate::domain::plan::Strategy;
use crate::yaml::fault::Fault;
use crate::yaml::{Data, Node};

/// Rules and keys of tables that list detectors.
const LISTS: [&str; 4] = ["required", "optional", "secondary", "skip"];
/// Keys of tables whose keys are detectors.
const MAPS: [&str; 2] = ["timeouts", "params"];

/// Adds a fault for each `required contains "name"` of a name that no detector has.
pub(super) fn check(file: &Parsed, known: &Voters, found: &mut BTreeSet<Fault>) {
    for (facts, rule) in file.rules.iter().zip(&file.module.policy) {
        let listed = matches!(facts.name.as_slice(), [name] if LISTS.contains(&name.as_str()));
        let Rule::Spec { head: RuleHead::Set { key: Some(key), .. }, .. } = rule.as_ref() else {
            continue;
        };
        if let (true, Some(name)) = (listed, rego::text(key)) {
            found.extend(unknown(&file.file, &name, rego::position(key.span()), known));
        }
    }
}

/// The same for every table; tables at fault are passed over, the load names them.
pub(super) fn tables(
    sources: &[Source],
    (layers, known): (&Layers, &Voters),
    found: &mut BTreeSet<Fault>,
) {
    for source in sources.iter().filter(|source| source.path.ends_with("/data.yaml")) {
        let text = std::str::from_utf8(&source.bytes).unwrap_or_default();
        let Ok(tree) = table::read(&source.path, text) else { continue };
        let Some(settings) = tree.get("settings") else { continue };
        for list in LISTS.iter().filter_map(|key| settings.get(key)) {
            names(&source.path, list, known, found);
        }
        for stage in settings.get("stages").into_iter().flat_map(items) {
            names(&source.path, stage, known, found);
        }
        for entry in MAPS.iter().filter_map(|key| settings.get(key)).flat_map(Node::entries) {
            found.extend(unknown(&source.path, &entry.key, entry.at, known));
        }
        let folder: Vec<String> = source.path.split('/').map(str::to_owned).collect();
        let folder = folder.split_last().map_or(&[][..], |(_, folder)| folder);
        let planned = planned::planned(layers, folder, known);
        let unreached = |scope: &str, votes: &Node| {
            quorum(&source.path, (scope, votes), (known, planned.as_ref()))
        };
        for scope in settings.get("quorum").into_iter().flat_map(Node::entries) {
            found.extend(unreached(&scope.key, &scope.value));
        }
        for scope in settings.get("resolve").into_iter().flat_map(Node::entries) {
            let votes = scope.value.get("quorum");
            found.extend(votes.and_then(|votes| unreached(&scope.key, votes)));
            let preferred = scope.value.get("preferred_detector");
            preferred.iter().for_each(|name| one(&source.path, name, known, found));
            found.extend(scope.value.get("strategy").and_then(|name| strategy(&source.path, name)));
        }
    }
}

fn items(node: &Node) -> &[Node] {
    match &node.data {
        Data::List(items) => items,
        Data::Null | Data::Bool(_) | Data::Number(_) | Data::Text(_) | Data::Map(_) => &[],
    }
}

fn names(file: &str, list: &Node, known: &Voters, found: &mut BTreeSet<Fault>) {
    items(list).iter().for_each(|name| one(file, name, known, found));
}

fn one(file: &str, name: &Node, known: &Voters, found: &mut BTreeSet<Fault>) {
    if let Data::Text(text) = &name.data {
        found.extend(unknown(file, text, name.at(), known));
    }
}

/// The service falls back at run time where a strategy does not exist.
fn strategy(file: &str, name: &Node) -> Option<Fault> {
    let Data::Text(text) = &name.data else { return None };
    if Strategy::parse(text).is_some() {
        return None;
    }
    let names = || Strategy::ALL.map(Strategy::name);
    let hint = table::nearest(text, names()).map_or_else(
        || format!("use one of {}", names().join(", ")),
        |near| format!("write `{near}`"),
    );
    let message = format!("no strategy is called `{text}`");
    Some(fault(file, name.at(), "unknown_strategy", message, &hint))
}

/// More votes than a plan asks detectors that can find the category, or than there are where rules
/// compute the plan: every answer is a review.
fn quorum(
    file: &str,
    (scope, votes): (&str, &Node),
    (known, planned): (&Voters, Option<&BTreeSet<DetectorName>>),
) -> Option<Fault> {
    let Data::Number(needed) = &votes.data else { return None };
    let (needed, category) = (needed.as_u64()?, Category::parse(scope).ok()?);
    let may_vote = |votes: &BTreeSet<Category>| votes.iter().any(|own| own.touches(&category));
    let voters = known.votes.iter().filter(|(_, votes)| may_vote(votes)).map(|(name, _)| name);
    let voters: Vec<&DetectorName> = voters.collect();
    let is_left = |name: &&&DetectorName| planned.is_some_and(|planned| !planned.contains(**name));
    let left: Vec<&str> = voters.iter().filter(is_left).map(|name| name.as_str()).collect();
    let (all, asked) = (voters.len(), voters.len() - left.len());
    if needed <= asked as u64 {
        return None;
    }
    let start = format!("a quorum of {needed} in `{scope}` cannot be reached:");
    let (message, hint) = if needed <= all as u64 {
        (
            format!(
                "{start} of {all} detectors that can find it a plan asks {asked}, and every answer is \
                 at least `review` unless a request adds others"
            ),
            format!("write a smaller number, or list in `optional`: {}", left.join(", ")),
        )
    } else {
        (
            format!("{start} {all} detectors can find it, and every answer is at least `review`"),
            "write a smaller number, or add detectors of the category".to_owned(),
        )
    };
    Some(fault(file, votes.at(), "unreachable_quorum", message, &hint))
}

fn unknown(file: &str, name: &str, at: (u32, u32), known: &Voters) -> Option<Fault> {
    if name == "*" || known.votes.contains_key(name) {
        return None;
    }
    let names = || known.votes.keys().map(DetectorName::as_str);
    let hint = table::nearest(name, names()).map_or_else(
        || format!("use one of {}", names().collect::<Vec<_>>().join(", ")),
        |near| format!("write `{near}`"),
    );
    let message = format!("no detector is called `{name}`");
    Some(fault(file, at, "unknown_detector", message, &hint))
}
