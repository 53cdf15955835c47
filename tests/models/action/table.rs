//! Tables: layers laid over each other, and the entry that speaks for a category.

use serde_json::{Map, Value};

use super::under;

/// Tables whose keys are categories.
const BY_CATEGORY: [&str; 5] = ["actions", "thresholds", "quorum", "resolve", "names"];

/// `over` on top of `below`: objects by key, everything else replaced; a category of `over` takes
/// the keys below it away; `*` is no category but what holds where no other entry does.
pub fn lay(below: &Value, over: &Value) -> Value {
    let mut merged = below.as_object().cloned().unwrap_or_default();
    for (key, value) in over.as_object().into_iter().flatten() {
        let old = merged.get(key).cloned().unwrap_or(Value::Null);
        let new = match (&old, value) {
            (Value::Object(old), Value::Object(new)) if BY_CATEGORY.contains(&key.as_str()) => {
                let left = old.iter().filter(|(k, _)| {
                    new.contains_key(*k) || !new.keys().any(|n| n != "*" && under(k, n))
                });
                deep(&left.map(|(k, v)| (k.clone(), v.clone())).collect(), new)
            }
            (Value::Object(old), Value::Object(new)) => deep(old, new),
            _ => value.clone(),
        };
        merged.insert(key.clone(), new);
    }
    Value::Object(merged)
}

fn deep(below: &Map<String, Value>, over: &Map<String, Value>) -> Value {
    let mut merged = below.clone();
    for (key, value) in over {
        let new = match (merged.get(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => deep(old, new),
            _ => value.clone(),
        };
        merged.insert(key.clone(), new);
    }
    Value::Object(merged)
}

/// The entry of the longest key over `category`; `*` covers all.
pub fn most_specific<'a>(map: &'a Value, category: &str) -> Option<&'a Value> {
    let entries = map.as_object()?.iter().filter(|(key, _)| under(category, key));
    entries.max_by_key(|(key, _)| if *key == "*" { 0 } else { key.len() }).map(|(_, value)| value)
}
