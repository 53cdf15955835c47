//! Rules whose value can never be what their decision point takes: `block if …` is no set.

use regorus::unstable::{Expr, Rule, RuleHead};

use super::rego::{self, Parsed};
use super::{fault, table};
use crate::yaml::fault::Fault;

/// Rules that are sets, written by `contains`.
const SETS: [&str; 10] = [
    "deny",
    "required",
    "optional",
    "secondary",
    "skip",
    "block",
    "review",
    "redact",
    "flag",
    "ignore",
];
/// Rules that are one value, written by `:=`.
const VALUES: [&str; 9] = [
    "execution",
    "stages",
    "stop_on",
    "coverage",
    "timeouts",
    "thresholds",
    "params",
    "min_coverage",
    "on_incomplete",
];

/// Rules whose entries are reasons or objects, and the objects' keys.
const ENTRIES: [&str; 4] = ["block", "review", "redact", "flag"];
const KEYS: [&str; 3] = ["reason", "finding", "code"];

/// The fault of each asked rule of a layer's file that is written as the other kind.
pub(super) fn check(file: &Parsed) -> impl Iterator<Item = Fault> + '_ {
    file.rules.iter().zip(&file.module.policy).filter_map(|(facts, rule)| {
        let [name] = facts.name.as_slice() else { return None };
        if let Rule::Spec { head: RuleHead::Set { key: Some(key), .. }, .. } = rule.as_ref()
            && ENTRIES.contains(&name.as_str())
        {
            return unknown_key(&file.file, name, key);
        }
        let (what, hint) = match rule.as_ref() {
            Rule::Spec { head: RuleHead::Set { key: Some(_), .. }, .. }
                if VALUES.contains(&name.as_str()) =>
            {
                ("one value, not a set", format!("write `{name} := …`"))
            }
            Rule::Spec { head: RuleHead::Compr { refr, assign, .. }, .. }
                if SETS.contains(&name.as_str())
                    && matches!(refr.as_ref(), Expr::Var { .. })
                    && assign.as_ref().is_none_or(|assign| is_scalar(&assign.value)) =>
            {
                ("a set, not one value", format!("write `{name} contains … if`"))
            }
            Rule::Spec { .. } | Rule::Default { .. } => return None,
        };
        let message = format!("`{name}` must be {what}");
        Some(fault(&file.file, facts.position, "wrong_rule_kind", message, &hint))
    })
}

/// The first key of an entry's object that no verdict takes: it would fail every verdict.
fn unknown_key(file: &str, rule: &str, entry: &Expr) -> Option<Fault> {
    let Expr::Object { fields, .. } = entry else { return None };
    let (key, at) = fields.iter().find_map(|(_, key, _)| {
        let text = rego::text(key).filter(|text| !KEYS.contains(&text.as_str()))?;
        Some((text, rego::position(key.span())))
    })?;
    let message = format!("an entry of `{rule}` has no `{key}`");
    let hint = table::nearest(&key, KEYS).map_or_else(
        || format!("use one of {}", KEYS.join(", ")),
        |near| format!("write `{near}`"),
    );
    Some(fault(file, at, "unknown_entry_key", message, &hint))
}

fn is_scalar(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
            | Expr::Object { .. }
    )
}

/// Where the rule of that name of a layer's file is written.
pub(super) fn place(file: &Parsed, name: &str) -> Option<(u32, u32)> {
    let rule = file.rules.iter().find(|rule| rule.name.first().is_some_and(|first| first == name));
    rule.map(|rule| rule.position)
}

/// The rule that a probe evaluates, as a path below `data`.
pub(super) fn path(file: &Parsed, name: &str) -> String {
    format!("data.{}.{name}", super::layers::package(&file.package))
}
