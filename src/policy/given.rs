//! Documents that somebody brings, held to the schemas of the points.

use serde_json::{Map, Value};

use super::{Point, inputs, table};
use crate::domain::category::Category;

/// What no document of a point has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Where, as a JSON pointer into the document.
    pub at: String,
    /// unknown_field, wrong_type or unknown_value.
    pub code: &'static str,
    /// What is wrong there, and what to write.
    pub detail: String,
}

/// The first part of `document` that no document of `point` has; `None` where each may be there. What
/// is left out is no fault: an author may ask about a part.
pub fn wrong(point: Point, document: &Map<String, Value>) -> Option<Wrong> {
    fields(inputs::schema(point), point, document, "")
}

/// Gives each finding of `document` the path of its category where it was left out: rules ask for it.
pub fn complete(document: &mut Map<String, Value>) {
    let findings = document.get_mut("findings").and_then(Value::as_array_mut);
    for finding in findings.into_iter().flatten().filter_map(Value::as_object_mut) {
        let name = finding.get("category").and_then(Value::as_str);
        let Some(Ok(category)) = name.map(Category::parse) else { continue };
        finding.entry("path").or_insert_with(|| category.path().map(Value::from).collect());
    }
}

fn part(schema: &Value, point: Point, value: &Value, at: &str) -> Option<Wrong> {
    let wrong = |code, detail| Some(Wrong { at: at.to_owned(), code, detail });
    if let Some(kind) = schema.get("type").and_then(Value::as_str)
        && !is(kind, value)
    {
        return wrong("wrong_type", format!("is {} and must be {}", found(value), named(kind)));
    }
    let words = schema.get("enum").and_then(Value::as_array);
    if let (Some(words), Some(word)) = (words, value.as_str())
        && !words.iter().any(|known| known == value)
    {
        let words = || words.iter().filter_map(Value::as_str);
        return wrong(
            "unknown_value",
            format!("is never `{}`; {}", shown(word), one_of(word, words)),
        );
    }
    match value {
        Value::Object(object) => fields(schema, point, object, at),
        Value::Array(entries) => {
            let item = schema.get("items")?;
            let mut entries = entries.iter().enumerate();
            entries.find_map(|(index, entry)| part(item, point, entry, &format!("{at}/{index}")))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn fields(schema: &Value, point: Point, object: &Map<String, Value>, at: &str) -> Option<Wrong> {
    let known = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties");
    object.iter().find_map(|(key, value)| {
        let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        match (known.and_then(|known| known.get(key)), others) {
            (Some(field), _) => part(field, point, value, &at),
            (None, Some(Value::Bool(false))) => {
                let names = || known.into_iter().flat_map(|known| known.keys()).map(String::as_str);
                let advice = one_of(key, names);
                let detail = format!("is no key of a {} document; {advice}", point.name());
                Some(Wrong { at, code: "unknown_field", detail })
            }
            (None, Some(other)) => part(other, point, value, &at),
            (None, None) => None,
        }
    })
}

fn one_of<'a, I: Iterator<Item = &'a str>>(word: &str, names: impl Fn() -> I) -> String {
    table::nearest(word, names()).map_or_else(
        || format!("use one of {}", names().collect::<Vec<_>>().join(", ")),
        |near| format!("write `{near}`"),
    )
}

fn shown(word: &str) -> String {
    word.chars().take(40).flat_map(char::escape_debug).collect()
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    }
}

fn named(kind: &str) -> &str {
    match kind {
        "object" => "an object",
        "array" => "a list",
        "string" => "a text",
        "boolean" => "true or false",
        "number" => "a number",
        "integer" => "a whole number",
        other => other,
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null, where a key without a value is left out,",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
