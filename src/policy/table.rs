//! The `data.yaml` tables: reading, checking, merging over layers, and who set what.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fault;
use crate::domain::action::Action;
use crate::domain::category::{Category, covers};
use crate::domain::plan::{CoverageSpec, Execution, ResolveSpec, StopOn};
use crate::domain::verdict::Mode;
use crate::yaml::fault::{Fault, FaultKind};
use crate::yaml::{self, Node};

/// Keys under `settings`, and how their values are checked.
const KEYS: [(&str, Check); 19] = [
    ("actions", Check::Actions),
    ("names", Check::Categories),
    ("ignore", Check::Ignore),
    ("required", Check::Names),
    ("optional", Check::Names),
    ("secondary", Check::Names),
    ("skip", Check::Names),
    ("thresholds", Check::Thresholds),
    ("quorum", Check::Quorum),
    ("resolve", Check::Resolve),
    ("coverage", Check::Coverage),
    ("execution", Check::Execution),
    ("stages", Check::Stages),
    ("stop_on", Check::StopOn),
    ("timeouts", Check::Timeouts),
    ("params", Check::Objects),
    ("mode", Check::Mode),
    ("headers", Check::Objects),
    ("custom", Check::Objects),
];

/// Keys that only the floor's table has.
const FLOOR_KEYS: [(&str, Check); 5] = [
    ("actions", Check::Actions),
    ("names", Check::Categories),
    ("required", Check::Names),
    ("min_coverage", Check::Share),
    ("on_incomplete", Check::Action),
];

/// Maps by category, where a later key removes the earlier keys below it.
const BY_CATEGORY: [&str; 4] = ["actions", "thresholds", "quorum", "resolve"];

#[derive(Clone, Copy)]
enum Check {
    Actions,
    Action,
    Categories,
    Ignore,
    Names,
    Thresholds,
    Quorum,
    Resolve,
    Coverage,
    Execution,
    Stages,
    StopOn,
    Timeouts,
    Objects,
    Mode,
    Share,
}

/// Reads one `data.yaml`.
pub(super) fn read(file: &str, text: &str) -> Result<Node, Vec<Fault>> {
    yaml::tree(FaultKind::Policy, file, text)
}

/// The `settings` object of a table, after every key and value was checked.
pub(super) fn settings(file: &str, table: &Node) -> Result<Map<String, Value>, Vec<Fault>> {
    let floor = file.starts_with("floor/");
    let mut faults = Vec::new();
    let mut settings = Map::new();
    let mut checker = Checker { file, table, faults: &mut faults };
    match table.to_json() {
        Value::Object(top) => {
            for (key, value) in top {
                match (key.as_str(), value) {
                    ("settings", Value::Object(found)) => settings = found,
                    ("settings", Value::Null) => {}
                    ("settings", _) => checker.wrong(
                        &["settings"],
                        "`settings` is no mapping",
                        "write `key: value` lines below it",
                    ),
                    _ => checker.unknown(&[&key], &["settings"]),
                }
            }
        }
        // An empty file is one that lost what it held.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            checker.wrong(&[], "the table has no key `settings`", "write `settings:` above all")
        }
    }
    let keys: &[(&str, Check)] = if floor { &FLOOR_KEYS } else { &KEYS };
    for (key, value) in &settings {
        match keys.iter().find(|(name, _)| name == key) {
            Some((_, check)) => checker.value(key, value, *check),
            None => {
                let names: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
                checker.unknown(&["settings", key], &names);
            }
        }
    }
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

/// Merges tables, earliest first, and says which layer set each dotted key.
pub(super) fn merge(
    tables: &[(&str, &Map<String, Value>)],
) -> (Map<String, Value>, BTreeMap<String, String>) {
    let (mut merged, mut origin) = (Map::new(), BTreeMap::new());
    for (layer, table) in tables {
        lay_over(&mut merged, table, "", &mut |key, set| {
            let below = format!("{key}.");
            origin.retain(|known: &String, _| set || (known != key && !known.starts_with(&below)));
            if set {
                origin.insert(key.to_owned(), (*layer).to_owned());
            }
        });
    }
    (merged, origin)
}

fn lay_over(
    onto: &mut Map<String, Value>,
    table: &Map<String, Value>,
    path: &str,
    note: &mut dyn FnMut(&str, bool),
) {
    let dotted = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if BY_CATEGORY.contains(&path) {
        onto.retain(|old, _| {
            let hidden = table.keys().any(|new| new != old && covers(new, old));
            let keep = !hidden || table.contains_key(old);
            if !keep {
                note(&dotted(old), false);
            }
            keep
        });
    }
    for (key, value) in table {
        match (onto.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                lay_over(old, new, &dotted(key), note);
            }
            (_, Value::Object(new)) => {
                note(&dotted(key), false);
                let mut fresh = Map::new();
                lay_over(&mut fresh, new, &dotted(key), note);
                onto.insert(key.clone(), Value::Object(fresh));
            }
            _ => {
                note(&dotted(key), false);
                note(&dotted(key), true);
                onto.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The known name nearest to a misspelt one.
pub(super) fn nearest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .min()
        .map(|(_, name)| name)
}

struct Checker<'a> {
    file: &'a str,
    table: &'a Node,
    faults: &'a mut Vec<Fault>,
}

impl Checker<'_> {
    fn push(&mut self, path: &[&str], code: &'static str, message: String, hint: &str) {
        let at = locate(self.table, path);
        self.faults.push(fault(self.file, at, code, message, hint));
    }

    fn wrong(&mut self, path: &[&str], message: &str, hint: &str) {
        self.push(path, "wrong_value", message.to_owned(), hint);
    }

    fn unknown(&mut self, path: &[&str], known: &[&str]) {
        let key = path.last().copied().unwrap_or_default();
        let hint = nearest(key, known.iter().copied()).map_or_else(
            || format!("use one of {}", known.join(", ")),
            |name| format!("write `{name}`"),
        );
        self.push(path, "unknown_key", format!("`{key}` is not a key here"), &hint);
    }

    fn value(&mut self, key: &str, value: &Value, check: Check) {
        let path = ["settings", key];
        match check {
            Check::Actions
            | Check::Thresholds
            | Check::Quorum
            | Check::Resolve
            | Check::Categories => self.by_category(key, value, check),
            Check::Action => self.action(&path, value),
            Check::Ignore => self.ignore(value),
            Check::Names => {
                drop(self.typed::<Vec<String>>(&path, value, "a list of detector names"))
            }
            Check::Coverage => {
                let wanted = "{method, threshold, weights, categories, substitutes}";
                let spec = self.typed::<CoverageSpec>(&path, value, wanted);
                self.ranged(&path, spec.and_then(|spec| spec.fault()));
            }
            Check::Execution => {
                self.typed::<Execution>(&path, value, "parallel, sequential or cascade");
            }
            Check::Stages => {
                self.typed::<Vec<Vec<String>>>(&path, value, "a list of lists of names");
            }
            Check::StopOn => drop(self.typed::<StopOn>(&path, value, "none or block")),
            Check::Timeouts => {
                let wanted = "detectors with milliseconds";
                let times = self.typed::<BTreeMap<String, u64>>(&path, value, wanted);
                let wrong = times.is_some_and(|times| {
                    times.values().any(|ms| !(1..=super::answer::TIMEOUT_MS_MAX).contains(ms))
                });
                self.ranged(&path, wrong.then_some("a time-out is not between 1 and 300000 ms"));
            }
            Check::Objects => drop(self.typed::<Map<String, Value>>(&path, value, "a mapping")),
            Check::Mode => drop(self.typed::<Mode>(&path, value, "enforce or monitor")),
            Check::Share => self.share(&path, value),
        }
    }

    fn by_category(&mut self, key: &str, value: &Value, check: Check) {
        let Value::Object(entries) = value else {
            let message = format!("`{key}` does not map categories to values");
            return self.wrong(&["settings", key], &message, "write `category: value` lines below");
        };
        for (category, value) in entries {
            let path = ["settings", key, category.as_str()];
            self.category(&path, category);
            #[expect(clippy::wildcard_enum_match_arm, reason = "only maps by category come here")]
            match check {
                Check::Actions => self.action(&path, value),
                Check::Thresholds => self.share(&path, value),
                Check::Quorum => {
                    if !value.as_u64().is_some_and(|votes| (1..=64).contains(&votes)) {
                        self.wrong(
                            &path,
                            &format!("the quorum of `{category}` is {value}"),
                            "write a whole number from 1 to 64",
                        );
                    }
                }
                Check::Resolve => {
                    let wanted = "{strategy, quorum, weights, preferred_detector, severity_rank, \
                        min_score}";
                    let spec = self.typed::<ResolveSpec>(&path, value, wanted);
                    self.ranged(&path, spec.and_then(|spec| spec.fault()));
                }
                _ => drop(self.typed::<String>(&path, value, "a text")),
            }
        }
    }

    fn category(&mut self, path: &[&str], category: &str) {
        if category == "*" || Category::parse(category).is_ok() {
            return;
        }
        let hint = nearest(category, crate::domain::category::TREE.iter().copied()).map_or_else(
            || "use a name of the category tree".into(),
            |name| format!("write `{name}`"),
        );
        self.push(path, "unknown_category", format!("`{category}` is no category"), &hint);
    }

    fn action(&mut self, path: &[&str], value: &Value) {
        let names = Action::ALL.map(Action::name);
        let given = value.as_str().unwrap_or_default();
        if names.contains(&given) {
            return;
        }
        let hint = nearest(given, names).map_or_else(
            || format!("use one of {}", names.join(", ")),
            |name| format!("write `{name}`"),
        );
        self.push(path, "unknown_action", format!("`{given}` is no action"), &hint);
    }

    fn share(&mut self, path: &[&str], value: &Value) {
        if !value.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)) {
            let key = path.last().copied().unwrap_or_default();
            self.wrong(
                path,
                &format!("`{key}` is {value}, not from 0 to 1"),
                "write a number from 0 to 1",
            );
        }
    }

    fn ignore(&mut self, value: &Value) {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only the shape is checked")]
        struct Ignore {
            category: String,
            attribute: String,
            values: Vec<String>,
        }
        let path = ["settings", "ignore"];
        self.typed::<Vec<Ignore>>(&path, value, "a list of {category, attribute, values}");
        for entry in value.as_array().into_iter().flatten() {
            if let Some(category) = entry.get("category").and_then(Value::as_str) {
                self.category(&["settings", "ignore", category], category);
            }
        }
    }

    fn typed<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &[&str],
        value: &Value,
        wanted: &str,
    ) -> Option<T> {
        let read = serde_json::from_value::<T>(value.clone());
        if let Err(error) = &read {
            let key = path.last().copied().unwrap_or_default();
            let reason: String = error.to_string().chars().take(160).collect();
            let message = format!("`{key}` is not {wanted}: {reason}");
            self.push(path, "wrong_value", message, &format!("write {wanted}"));
        }
        read.ok()
    }

    fn ranged(&mut self, path: &[&str], fault: Option<&str>) {
        if let Some(fault) = fault {
            let key = path.last().copied().unwrap_or_default();
            self.wrong(path, &format!("`{key}`: {fault}"), "write a number within");
        }
    }
}

/// Where the last key of `path` that exists is written.
fn locate(table: &Node, path: &[&str]) -> (u32, u32) {
    let (mut node, mut at) = (table, table.at());
    for key in path {
        let Some(entry) = node.entries().iter().find(|entry| entry.key == *key) else { break };
        (node, at) = (&entry.value, entry.at);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Map<String, Value> {
        settings("standard/data.yaml", &read("", text).unwrap()).unwrap()
    }

    fn first_fault(file: &str, text: &str) -> (&'static str, u32, u32, Option<String>) {
        let fault = settings(file, &read(file, text).unwrap()).unwrap_err().remove(0);
        (fault.code, fault.line, fault.column, fault.hint)
    }

    #[test]
    fn misspelt_keys_actions_and_categories_are_faults_with_position_and_hint() {
        let cases = [
            ("settings:\n  action: {}\n", ("unknown_key", 2, 3, Some("write `actions`"))),
            (
                "settings:\n  actions: {pii: blok}\n",
                ("unknown_action", 2, 13, Some("write `block`")),
            ),
            (
                "settings:\n  actions:\n    pii.emial: block\n",
                ("unknown_category", 3, 5, Some("write `pii.email`")),
            ),
            ("setting: {}\n", ("unknown_key", 1, 1, Some("write `settings`"))),
        ];
        for (text, (code, line, column, hint)) in cases {
            let expected = (code, line, column, hint.map(str::to_owned));
            assert_eq!(first_fault("standard/data.yaml", text), expected, "{text}");
        }
        for text in [
            "settings:\n  timeouts: {pii: 0}\n",
            "settings:\n  resolve: {pii: {min_score: 2}}\n",
            "settings:\n  resolve: {pii: {quorum: 0}}\n",
            "settings:\n  resolve: {pii: {weights: {pii: -5}}}\n",
            "settings:\n  coverage: {weights: {pii: 1.0e300}}\n",
            "settings:\n  coverage: {threshold: 1.5}\n",
            "settings:\n  thresholds: {pii: 2}\n",
            "settings:\n  quorum: {pii: 0}\n",
            "settings:\n  coverage: {method: most}\n",
            "settings:\n  ignore: [{category: pii}]\n",
            "settings:\n  min_coverage: 0.5\n",
            "settings: 4\n",
        ] {
            settings("standard/data.yaml", &read("", text).unwrap()).unwrap_err();
        }
        let floor = "settings:\n  min_coverage: 0.5\n";
        assert!(settings("floor/data.yaml", &read("", floor).unwrap()).is_ok());
    }

    #[test]
    fn a_later_key_removes_earlier_keys_below_it_unless_repeated() {
        let base =
            table("settings:\n  actions: {'*': flag, pii.ip_address: flag, secrets: redact}\n");
        let over = table("settings:\n  actions: {pii: block}\n  required: [pii]\n");
        let (merged, origin) = merge(&[("standard", &base), ("tenants.acme.standard", &over)]);
        let actions = merged["actions"].as_object().unwrap();
        assert_eq!(actions.keys().collect::<Vec<_>>(), ["*", "pii", "secrets"]);
        assert_eq!(origin["actions.pii"], "tenants.acme.standard");
        assert_eq!(origin["actions.secrets"], "standard");
        assert!(!origin.contains_key("actions.pii.ip_address"));
        let repeated = table("settings:\n  actions: {pii: block, pii.ip_address: redact}\n");
        let (merged, _) = merge(&[("a", &base), ("b", &repeated)]);
        assert_eq!(merged["actions"]["pii.ip_address"], "redact");
    }

    #[test]
    fn lists_are_replaced_and_objects_merged() {
        let base = table("settings:\n  required: [pii, secrets]\n  custom: {a: {x: 1}}\n");
        let over = table("settings:\n  required: [pii]\n  custom: {a: {y: 2}}\n");
        let (merged, origin) = merge(&[("base", &base), ("standard", &over)]);
        assert_eq!(merged["required"], serde_json::json!(["pii"]));
        assert_eq!(merged["custom"], serde_json::json!({"a": {"x": 1, "y": 2}}));
        assert_eq!((&*origin["custom.a.x"], &*origin["custom.a.y"]), ("base", "standard"));
    }
}
