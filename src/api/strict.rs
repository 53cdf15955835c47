//! JSON as strictly as the API promises: no duplicate key anywhere, bounded depth, and faults that
//! carry a JSON pointer.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use crate::domain::error::{Code, Error};

/// Parses one JSON document; the fault is `INVALID_REQUEST` with the pointer of the culprit.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    // serde would read a list into a struct by position.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        let detail = "the body is a list; send an object";
        return Err(Error::field(Code::InvalidRequest, "", "wrong_type", detail));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer_of(error.path());
        refused(&pointer, error.inner())
    })?;
    json.end().map_err(|error| refused("", &error))?;
    Ok(value)
}

/// The same from a value that was parsed strictly before.
pub fn of_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| refused(&pointer_of(error.path()), error.inner()))
}

fn refused(pointer: &str, error: &serde_json::Error) -> Error {
    let raw = error.to_string();
    // serde_json appends the position; it is kept, in words of its own.
    let message = raw.split(" at line ").next().unwrap_or(&raw);
    let code = match error.classify() {
        Category::Data if message.starts_with("unknown field") => "unknown_field",
        Category::Data if message.starts_with("duplicate") => "duplicate_key",
        Category::Data if message.starts_with("missing field") => "missing_field",
        Category::Data if message.starts_with(TOO_LONG) => "too_long",
        Category::Data => "wrong_type",
        Category::Syntax if message.contains("recursion limit") => "too_deep",
        Category::Io | Category::Syntax | Category::Eof => "invalid_json",
    };
    let shown = shorten(message);
    // What was a value already stands at no line.
    let detail = match error.line() {
        0 => shown,
        line => format!("{shown} (line {line}, column {})", error.column()),
    };
    Error::field(Code::InvalidRequest, pointer, code, detail)
}

/// serde quotes offending values in its messages; content must not travel back, so they are cut.
fn shorten(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown variant `")
        && let Some((_, expected)) = rest.rsplit_once("`, expected ")
    {
        return format!("unknown value, expected {expected}");
    }
    if let Some((before, rest)) = message.split_once("string \"")
        && let Some((_, after)) = rest.rsplit_once('"')
    {
        return format!("{before}a string{after}");
    }
    message.chars().take(300).collect()
}

/// Characters of a key that a pointer shows: what was sent is not sent back by the megabyte.
const KEY_SHOWN_MAX: usize = 100;

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                let shown: String = key.chars().take(KEY_SHOWN_MAX).collect();
                pointer.push_str(&shown.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// Of one list of a request.
pub const ENTRIES_MAX: usize = 1_000;
const TOO_LONG: &str = "holds more than";

/// Reads the rest of a list of at most [`ENTRIES_MAX`] entries: of one that is longer, no more is read
/// than shows it.
pub fn entries<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    mut list: A,
) -> Result<Vec<T>, A::Error> {
    let mut entries = Vec::new();
    while let Some(entry) = list.next_element()? {
        if entries.len() >= ENTRIES_MAX {
            let most = ENTRIES_MAX;
            let detail = format_args!("{TOO_LONG} {most} entries; send at most {most}");
            return Err(A::Error::custom(detail));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// A list of at most [`ENTRIES_MAX`] entries, or none.
pub fn list<'de, T, D>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Option<Vec<T>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            entries(list).map(Some)
        }
    }
    deserializer.deserialize_any(List(PhantomData))
}

/// A free-form JSON value in which no object repeats a key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Value(pub serde_json::Value);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Value)
    }
}

struct ValueVisitor;

impl<'de> DeserializeSeed<'de> for ValueVisitor {
    type Value = serde_json::Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = serde_json::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(serde_json::Value::Null)
    }
    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(serde_json::Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(ValueVisitor)? {
            items.push(item);
        }
        Ok(items.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(duplicate(&key)));
            }
            object.insert(key, map.next_value_seed(ValueVisitor)?);
        }
        Ok(object.into())
    }
}

fn duplicate(key: &str) -> String {
    let shown: String = key.chars().take(60).flat_map(char::escape_debug).collect();
    format!("duplicate key `{shown}`")
}

/// A struct that must stand as an object; serde alone would also read a list by position.
#[derive(Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A map in which no key is repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct Map<V>(pub BTreeMap<String, V>);

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Map<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for MapVisitor<V> {
            type Value = Map<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Map<V>, A::Error> {
                let mut object = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if object.contains_key(&key) {
                        return Err(A::Error::custom(duplicate(&key)));
                    }
                    let value = map.next_value()?;
                    object.insert(key, value);
                }
                Ok(Map(object))
            }
        }
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(default)]
        #[expect(dead_code, reason = "only its parsing is tested")]
        tenant: Option<String>,
        #[serde(default)]
        metadata: Value,
        #[serde(default)]
        #[expect(dead_code, reason = "only its parsing is tested")]
        thresholds: Map<f64>,
    }

    fn fault(text: &str) -> (String, &'static str) {
        let error = parse::<Sample>(text.as_bytes()).expect_err(text);
        let field = error.details.into_iter().next().expect("a field");
        (field.pointer, field.code)
    }

    #[test]
    fn every_fault_names_its_place_and_kind() {
        for (text, pointer, code) in [
            (r#"{"tenant":"a","tenant":"b"}"#, "", "duplicate_key"),
            (r#"{"metadata":{"a":{"b":1,"b":2}}}"#, "/metadata", "duplicate_key"),
            (r#"{"thresholds":{"pii":1,"pii":2}}"#, "/thresholds", "duplicate_key"),
            (r#"{"thresholds":{"pii":"x"}}"#, "/thresholds/pii", "wrong_type"),
            (r#"{"tenent":"a"}"#, "/tenent", "unknown_field"),
            (r#"{"tenant":1}"#, "/tenant", "wrong_type"),
            (r#"{"tenant":"a""#, "", "invalid_json"),
            (r#"{} {}"#, "", "invalid_json"),
            (r#" ["a"]"#, "", "wrong_type"),
        ] {
            let (got_pointer, got_code) = fault(text);
            assert_eq!((got_code, text), (code, text));
            assert!(got_pointer.starts_with(pointer), "{text}: {got_pointer}");
        }
        let shown = |error: Error| error.details.into_iter().next().unwrap().detail;
        assert!(shown(parse::<Sample>(br#"{"x":1}"#).unwrap_err()).contains(" (line 1, column "));
        let told = shown(of_value::<Sample>(serde_json::json!({"x": 1})).unwrap_err());
        assert!(told.starts_with("unknown field `x`") && !told.contains("(line"), "{told}");
        let deep = format!(r#"{{"metadata":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
        assert_eq!(fault(&deep).1, "too_deep");
    }

    #[test]
    fn an_object_is_never_read_from_a_list() {
        let of = |value| of_value::<Object<Sample>>(value).map_err(|error| error.details);
        assert!(of(serde_json::json!({})).is_ok());
        assert_eq!(of(serde_json::json!([null, {}, {}])).unwrap_err()[0].code, "wrong_type");
        let wrong = of(serde_json::json!({"thresholds": {"pii": "x"}})).unwrap_err();
        assert_eq!(wrong[0].pointer, "/thresholds/pii");
    }

    #[test]
    fn no_value_of_the_caller_comes_back_in_a_message() {
        let error = parse::<Sample>(br#"{"thresholds":{"pii":"my \"secret\" text"}}"#).unwrap_err();
        assert!(!error.message.contains("secret"), "{}", error.message);
    }

    #[test]
    fn free_values_survive_as_they_are() {
        let sample: Sample = parse(br#"{"metadata":{"a":[1,-2,0.5,null,true,"x"]}}"#).unwrap();
        assert_eq!(sample.metadata.0, serde_json::json!({"a": [1, -2, 0.5, null, true, "x"]}));
    }
}
