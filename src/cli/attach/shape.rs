//! The parts of a reply that may be findings: lists, maps and single values.

use std::collections::BTreeMap;

use serde_json::Value;

/// Values of each finding by path below it, with the finding's index.
pub(super) type Leaves<'a> = BTreeMap<String, Vec<(usize, &'a Value)>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    List,
    /// By key.
    Map,
    Single,
}

/// Values that stand in the same place of a reply.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// As `items` takes it.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// Each value was a list of its own.
    pub(super) nested: bool,
    pub(super) items: Vec<(Option<&'a str>, &'a Value)>,
}

const DEPTH_MAX: usize = 6;

/// Every group of the reply, by path.
pub(super) fn groups(reply: &Value) -> Vec<Group<'_>> {
    let mut found = BTreeMap::new();
    walk(reply, "", DEPTH_MAX, &mut found);
    let group = |((path, kind), items)| {
        let group = Group { path, kind, nested: false, items };
        if kind == Kind::Single { group } else { group.flat() }
    };
    found.into_iter().map(group).collect()
}

type Found<'a> = BTreeMap<(String, Kind), Vec<(Option<&'a str>, &'a Value)>>;

fn walk<'a>(value: &'a Value, path: &str, depth: usize, found: &mut Found<'a>) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Array(values) => {
            let list = found.entry((path.to_owned(), Kind::List)).or_default();
            list.extend(values.iter().map(|value| (None, value)));
            for value in values.iter().filter(|value| value.is_object()) {
                inner(value, &join(path, "*"), depth, found);
            }
        }
        Value::Object(map) => {
            found.entry((path.to_owned(), Kind::Single)).or_default().push((None, value));
            let keyed = found.entry((join(path, "*"), Kind::Map)).or_default();
            keyed.extend(map.iter().map(|(key, value)| (Some(key.as_str()), value)));
            inner(value, path, depth, found);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn inner<'a>(value: &'a Value, path: &str, depth: usize, found: &mut Found<'a>) {
    for (key, value) in value.as_object().into_iter().flatten().filter(|(key, _)| is_step(key)) {
        walk(value, &join(path, key), depth - 1, found);
    }
}

/// Whether a path can name the key.
pub(super) fn is_step(key: &str) -> bool {
    !key.is_empty() && key != "*" && !key.contains('.') && !key.starts_with(['=', '@', '!'])
}

pub(super) fn join(path: &str, step: &str) -> String {
    if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") }
}

impl<'a> Group<'a> {
    /// Lists of lists count as one list.
    fn flat(mut self) -> Self {
        if !self.items.is_empty() && self.items.iter().all(|(_, value)| value.is_array()) {
            let parts = |(key, value): (Option<&'a str>, &'a Value)| {
                value.as_array().into_iter().flatten().map(move |value| (key, value))
            };
            self.items = std::mem::take(&mut self.items).into_iter().flat_map(parts).collect();
            self.nested = true;
        }
        self
    }

    /// The scalars of every item by their path below it; pairs of numbers count as two.
    pub(super) fn leaves(&self) -> Leaves<'a> {
        let mut leaves = BTreeMap::new();
        for (index, (_, item)) in self.items.iter().enumerate() {
            scalars(item, "", 3, index, &mut leaves);
        }
        leaves
    }
}

fn scalars<'a>(value: &'a Value, path: &str, depth: usize, index: usize, into: &mut Leaves<'a>) {
    match value {
        Value::Object(map) if depth > 0 => {
            for (key, value) in map.iter().filter(|(key, _)| is_step(key)) {
                scalars(value, &join(path, key), depth - 1, index, into);
            }
        }
        Value::Array(pair) if depth > 0 && pair.len() == 2 && pair.iter().all(Value::is_u64) => {
            for (at, value) in pair.iter().enumerate() {
                scalars(value, &join(path, &at.to_string()), depth - 1, index, into);
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            into.entry(path.to_owned()).or_default().push((index, value));
        }
        Value::Null | Value::Array(_) | Value::Object(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_below_lists_are_one_group_and_keys_with_dots_are_none() {
        let reply = json!({"pages": [{"hits": [{"a": 1}]}, {"hits": [{"a": 2}]}], "a.b": [1]});
        let groups = groups(&reply);
        let hits = groups.iter().find(|group| group.path == "pages.*.hits").unwrap();
        assert_eq!((hits.kind, hits.items.len()), (Kind::List, 2));
        assert!(groups.iter().all(|group| !group.path.contains("a.b")));
    }

    #[test]
    fn lists_by_key_count_as_their_elements() {
        let reply = json!({"found": {"MAIL": [{"at": [3, 8]}], "CARD": [{"at": [9, 12]}]}});
        let groups = groups(&reply);
        let found = groups.iter().find(|group| group.path == "found.*").unwrap();
        assert!(found.nested && found.items.iter().any(|(key, _)| *key == Some("MAIL")));
        assert_eq!(found.leaves().keys().collect::<Vec<_>>(), ["at.0", "at.1"]);
    }
}
