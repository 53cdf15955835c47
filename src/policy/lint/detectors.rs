//! Names of detectors in tables and in rule heads, of strategies in tables, and quorums in tables.

use std::collections::BTreeSet;

use regorus::unstable::{Rule, RuleHead};

use super::super::rego::{self, Parsed};
use super::super::{Source, fault, table};
use super::Voters;
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
pub(super) fn tables(sources: &[Source], known: &Voters, found: &mut BTreeSet<Fault>) {
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
        for scope in settings.get("quorum").into_iter().flat_map(Node::entries) {
            found.extend(quorum(&source.path, (&scope.key, &scope.value), known));
        }
        for scope in settings.get("resolve").into_iter().flat_map(Node::entries) {
            let votes = scope.value.get("quorum");
            found.extend(votes.and_then(|votes| quorum(&source.path, (&scope.key, votes), known)));
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

/// More votes than there are detectors that can find the category: every answer is a review.
fn quorum(file: &str, (scope, votes): (&str, &Node), known: &Voters) -> Option<Fault> {
    let Data::Number(needed) = &votes.data else { return None };
    let (needed, category) = (needed.as_u64()?, Category::parse(scope).ok()?);
    let may_vote = |votes: &&BTreeSet<Category>| votes.iter().any(|own| own.touches(&category));
    let voters = known.values().filter(may_vote).count();
    if needed <= voters as u64 {
        return None;
    }
    let message = format!(
        "a quorum of {needed} in `{scope}` cannot be reached: {voters} detectors can find it, and \
         every answer is at least `review`"
    );
    let hint = "write a smaller number, or add detectors of the category";
    Some(fault(file, votes.at(), "unreachable_quorum", message, hint))
}

fn unknown(file: &str, name: &str, at: (u32, u32), known: &Voters) -> Option<Fault> {
    if name == "*" || known.contains_key(name) {
        return None;
    }
    let names = || known.keys().map(DetectorName::as_str);
    let hint = table::nearest(name, names()).map_or_else(
        || format!("use one of {}", names().collect::<Vec<_>>().join(", ")),
        |near| format!("write `{near}`"),
    );
    let message = format!("no detector is called `{name}`");
    Some(fault(file, at, "unknown_detector", message, &hint))
}
