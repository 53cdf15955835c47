//! Which rules held in which layer, where they are written, and what they gave. Never content: of
//! a policy that reads it, texts are left out.

use serde_json::Value;

use super::unit::Held;
use super::{Explained, View, answer};

/// Every rule that held with an answer that is not empty, earliest layer first.
pub(super) fn explain(view: &View, held: &[Vec<Held>]) -> Vec<Explained> {
    held.iter().flatten().filter_map(|held| explained(view, held)).collect()
}

fn explained(view: &View, held: &Held) -> Option<Explained> {
    let layer = view.unit.layers.get(held.layer)?.clone();
    let mut value = answer::to_json(&held.value)?;
    if value.as_array().is_some_and(Vec::is_empty) {
        return None;
    }
    if view.reads("content") {
        withhold(&mut value);
    }
    let files = view.unit.files.iter().filter(|file| file.package.join(".") == layer);
    let positions = files.flat_map(|file| {
        let rules = file.rules.iter().filter(|rule| rule.name.first() == Some(&held.rule));
        rules.map(|rule| format!("{}:{}:{}", file.file, rule.position.0, rule.position.1))
    });
    Some(Explained { positions: positions.collect(), layer, rule: held.rule.clone(), value })
}

/// Replaces every text, keys of objects included: any may be made of content.
fn withhold(value: &mut Value) {
    match value {
        Value::String(text) => *text = "withheld".to_owned(),
        Value::Array(items) => items.iter_mut().for_each(withhold),
        Value::Object(fields) => {
            let known = ["reason", "finding", "code"];
            fields.retain(|key, _| known.contains(&key.as_str()));
            fields.values_mut().for_each(withhold);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
