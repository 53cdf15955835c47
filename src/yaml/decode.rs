//! Typed values out of nodes, each error with the place of the value it is about.

use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer as _, Visitor};
use serde::forward_to_deserialize_any;

use super::fault::Fault;
use super::node::{Data, Entry, Node};
use super::{Source, nearest, shown, words};

impl Node {
    /// Decodes into `T`.
    pub fn decode<T: DeserializeOwned>(&self, source: Source<'_>) -> Result<T, Fault> {
        T::deserialize(self)
            .map_err(|e| source.fault(e.at.unwrap_or_else(|| self.at()), e.code, e.message, e.hint))
    }

    /// The fault that this is no mapping, where one must be.
    pub fn no_mapping(&self, source: Source<'_>) -> Fault {
        let message = format!("expected a mapping, found {}", self.kind());
        let hint = Some("write `key: value` lines".to_owned());
        source.fault(self.at(), "bad_value", message, hint)
    }
}

/// Takes the keys of a mapping one by one and gathers every fault instead of the first.
#[derive(Debug)]
pub struct Fields<'a> {
    node: &'a Node,
    source: Source<'a>,
    known: Vec<&'static str>,
    /// Keys that are refused by another fault, and that no hint should name.
    refused: Vec<&'static str>,
    /// What was wrong so far.
    pub faults: Vec<Fault>,
}

impl<'a> Fields<'a> {
    /// Over the mapping `node`; anything else is one fault.
    pub fn new(node: &'a Node, source: Source<'a>) -> Self {
        let mut faults = Vec::new();
        if !matches!(node.data, Data::Map(_)) {
            faults.push(node.no_mapping(source));
        }
        Self { node, source, known: Vec::new(), refused: Vec::new(), faults }
    }

    /// The node of an optional key; null counts as absent.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        self.node.get(key).filter(|node| node.data != Data::Null)
    }

    /// The value of an optional key; `None` also after a fault.
    pub fn take<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        let node = self.node(key)?;
        node.decode(self.source).map_err(|fault| self.faults.push(fault)).ok()
    }

    /// The value of a key that must be there.
    pub fn need<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        if self.node(key).is_none() {
            self.missing(key);
            return None;
        }
        self.take(key)
    }

    /// A fault about the value of `key` or of a JSON pointer such as `/retry/attempts`; about the
    /// mapping around it where it is absent.
    pub fn refuse(&mut self, key: &str, code: &'static str, message: String, hint: &str) {
        let at = match key.starts_with('/') {
            true => self.node.nearest_to(key).at(),
            false => self.node.get(key).map_or_else(|| self.node.at(), Node::at),
        };
        self.faults.push(self.source.fault(at, code, message, Some(hint.to_owned())));
    }

    /// The fault that `key` is of another release.
    pub fn not_built(&mut self, key: &'static str) {
        self.refused.push(key);
        if self.node.get(key).is_some() {
            let message = format!("`{key}` is not supported by this release");
            self.refuse(key, "not_built", message, "remove the key");
        }
    }

    /// The fault that `key` is absent.
    pub fn missing(&mut self, key: &str) {
        if matches!(self.node.data, Data::Map(_)) {
            self.refuse(
                key,
                "missing_key",
                format!("key `{key}` is missing"),
                &format!("add `{key}:`"),
            );
        }
    }

    /// All faults, among them every key that nobody took.
    pub fn finish(mut self) -> Vec<Fault> {
        for entry in self.node.entries() {
            let key = entry.key.as_str();
            if !self.known.contains(&key) && !self.refused.contains(&key) {
                let (message, hint) = unknown(&entry.key, &self.known);
                self.faults.push(self.source.fault(entry.at, "unknown_key", message, Some(hint)));
            }
        }
        self.faults
    }
}

fn unknown(key: &str, known: &[&str]) -> (String, String) {
    let hint = match nearest(key, known.iter().copied()) {
        Some(near) => format!("write `{near}`"),
        None => {
            let once: std::collections::BTreeSet<&str> = known.iter().copied().collect();
            let names: Vec<&str> = once.into_iter().collect();
            format!("remove it; known are {}", names.join(", "))
        }
    };
    (format!("key `{}` is unknown", shown(key)), hint)
}

/// Why a node is not a `T`, and where.
#[derive(Debug)]
pub struct Mismatch {
    at: Option<(u32, u32)>,
    /// The unknown key, whose own place is wanted.
    key: Option<String>,
    code: &'static str,
    message: String,
    hint: Option<String>,
}

impl Mismatch {
    fn new(code: &'static str, message: String, hint: Option<String>) -> Self {
        Self { at: None, key: None, code, message, hint }
    }

    fn within(mut self, node: &Node) -> Self {
        if self.at.is_none() {
            let entry =
                self.key.as_deref().and_then(|k| node.entries().iter().find(|e| e.key == k));
            self.at = Some(entry.map_or_else(|| node.at(), |entry| entry.at));
        }
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new("bad_value", message.to_string(), None)
    }
    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let raw = expected.to_string();
        let expected = words::expected(&raw);
        let hint = if matches!(unexpected, de::Unexpected::Str("yes" | "no" | "on" | "off")) {
            "write `true` or `false`".to_owned()
        } else if raw.contains("string") {
            "put it in quotes".to_owned()
        } else {
            format!("write {expected}")
        };
        Self::new(
            "bad_value",
            format!("expected {expected}, found {}", named(unexpected)),
            Some(hint),
        )
    }
    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = words::expected(&expected.to_string());
        let message = format!("expected {expected}, found {}", named(unexpected));
        Self::new("bad_value", message, Some(format!("write {expected}")))
    }
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = match nearest(variant, expected.iter().copied()) {
            Some(near) => format!("write `{near}`"),
            None => format!("write one of {}", expected.join(", ")),
        };
        Self::new(
            "bad_value",
            format!("`{}` is none of the known values", shown(variant)),
            Some(hint),
        )
    }
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let (message, hint) = unknown(field, expected);
        Self { key: Some(field.to_owned()), ..Self::new("unknown_key", message, Some(hint)) }
    }
    fn missing_field(field: &'static str) -> Self {
        Self::new(
            "missing_key",
            format!("key `{field}` is missing"),
            Some(format!("add `{field}:`")),
        )
    }
}

fn named(unexpected: de::Unexpected<'_>) -> String {
    if let de::Unexpected::Str(text) = unexpected {
        return format!("`{}`", shown(text));
    }
    words::found(&unexpected.to_string())
}

impl<'de> de::Deserializer<'de> for &Node {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.data {
            Data::Null => visitor.visit_unit(),
            Data::Bool(value) => visitor.visit_bool(*value),
            Data::Number(value) => number(value, visitor),
            Data::Text(value) => visitor.visit_str(value),
            Data::List(items) => visitor.visit_seq(Items(items.iter())),
            Data::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), value: None }),
        }
        .map_err(|error| error.within(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if self.data == Data::Null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self).map_err(|error| error.within(self))
    }

    /// Derived structs also read lists, field by field; a file must write the keys.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        if matches!(self.data, Data::List(_)) {
            let message = "expected a mapping, found a list".to_owned();
            let hint = Some("write `key: value` lines".to_owned());
            return Err(Mismatch::new("bad_value", message, hint).within(self));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match (&self.data, self.entries()) {
            (Data::Text(name), _) => visitor.visit_enum(name.as_str().into_deserializer()),
            (_, [only]) => visitor.visit_enum(Variant(only)),
            _ => Err(Mismatch::new(
                "bad_value",
                format!("expected one name, found {}", self.kind()),
                Some("write one of the known names".to_owned()),
            )),
        }
        .map_err(|error| error.within(self))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

fn number<'de, V: Visitor<'de>>(
    value: &serde_json::Number,
    visitor: V,
) -> Result<V::Value, Mismatch> {
    match (value.as_u64(), value.as_i64(), value.as_f64()) {
        (Some(value), _, _) => visitor.visit_u64(value),
        (_, Some(value), _) => visitor.visit_i64(value),
        (_, _, value) => visitor.visit_f64(value.unwrap_or_default()),
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Mismatch;
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        self.0.next().map(|n| seed.deserialize(n).map_err(|error| error.within(n))).transpose()
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, Entry>,
    value: Option<&'a Node>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Mismatch;
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mismatch> {
        let Some(entry) = self.rest.next() else { return Ok(None) };
        self.value = Some(&entry.value);
        let key: StringDeserializer<Mismatch> = entry.key.clone().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mut error| {
            error.at.get_or_insert(entry.at);
            error
        })
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mismatch> {
        match self.value.take() {
            Some(node) => seed.deserialize(node).map_err(|error| error.within(node)),
            None => Err(de::Error::custom("a key without a value")),
        }
    }
}

struct Variant<'a>(&'a Entry);

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Mismatch;
    type Variant = &'a Node;
    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, &'a Node), Mismatch> {
        let key: StringDeserializer<Mismatch> = self.0.key.clone().into_deserializer();
        Ok((seed.deserialize(key)?, &self.0.value))
    }
}

impl<'de> de::VariantAccess<'de> for &Node {
    type Error = Mismatch;
    fn unit_variant(self) -> Result<(), Mismatch> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mismatch> {
        seed.deserialize(self).map_err(|error| error.within(self))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mismatch> {
        de::Deserializer::deserialize_any(self, visitor)
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        de::Deserializer::deserialize_any(self, visitor)
    }
}
