//! Documents generated from the schemas, on which a unit is tried before it may go live.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Point, inputs};
use crate::domain::category::Category;

/// Documents per point beside the empty and the full one.
const VARIANTS: usize = 8;
/// From this variant on, free text is taken from the policy's own words. The ones before take
/// every value of every enumeration.
const WILD: usize = 6;
/// Most findings and categories of one document.
const LIST_MAX: usize = 16;

/// One document to try a point on.
pub(super) struct Sample {
    pub(super) document: Value,
    /// Free text holds arbitrary words, so that a rule may answer with a bad value.
    pub(super) is_wild: bool,
}

/// A document that fits the point's schema: every optional part present, or none.
pub(super) fn sample(point: Point, full: bool) -> Value {
    let words = BTreeSet::new();
    Maker { full, variant: None, words: &words, categories: &[], shift: 0, made: 0 }
        .value(inputs::schema(point))
}

/// The empty and the full document, then some whose parts differ. `words` are the policy's string
/// literals: those that are categories become findings, so that rules about them hold.
pub(super) fn samples(point: Point, words: &BTreeSet<String>) -> Vec<Sample> {
    let categories: Vec<String> =
        words.iter().filter(|word| Category::parse(word).is_ok()).take(LIST_MAX).cloned().collect();
    let plain = [false, true].map(|full| Sample { document: sample(point, full), is_wild: false });
    let variants = (0..VARIANTS).map(|variant| {
        let maker = Maker {
            full: true,
            variant: Some(variant),
            words,
            categories: &categories,
            shift: 0,
            made: (variant as u64) << 32,
        };
        Sample { document: maker.document(point), is_wild: variant >= WILD }
    });
    plain.into_iter().chain(variants).collect()
}

struct Maker<'a> {
    full: bool,
    /// `None` takes the first example of everything.
    variant: Option<usize>,
    words: &'a BTreeSet<String>,
    categories: &'a [String],
    /// Where enumerations begin, so that the items of a list differ.
    shift: usize,
    made: u64,
}

impl Maker<'_> {
    fn document(mut self, point: Point) -> Value {
        let schema = inputs::schema(point);
        let mut document = self.value(schema);
        let part = |name: &str| schema.pointer(&format!("/properties/{name}"));
        if let (Some(item), Some(slot)) =
            (part("findings").and_then(|part| part.get("items")), document.get_mut("findings"))
        {
            let names = self.categories.iter().map(String::as_str);
            let names: Vec<&str> = names.chain(["pii.email"]).collect();
            *slot = names.iter().enumerate().map(|at| self.finding(item, at)).collect();
        }
        if let (Some(Value::Object(scopes)), Some(item)) = (
            document.get_mut("categories"),
            part("categories").and_then(|part| part.get("additionalProperties")),
        ) {
            for name in self.categories {
                scopes.insert(name.clone(), self.value(item));
            }
        }
        document
    }

    /// Ids are positions, and a path follows from its category, as in real documents.
    fn finding(&mut self, item: &Value, (at, name): (usize, &&str)) -> Value {
        self.shift = at;
        let mut finding = self.value(item);
        if let (Some(fields), Ok(category)) = (finding.as_object_mut(), Category::parse(name)) {
            fields.insert("id".into(), at.into());
            fields.insert("category".into(), category.as_str().into());
            fields.insert("path".into(), category.path().map(Value::from).collect());
        }
        finding
    }

    fn value(&mut self, schema: &Value) -> Value {
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => self.object(schema),
            Some("array") => {
                let length = if self.full { 1 + self.pick(2) } else { 0 };
                let item = schema.get("items").filter(|_| self.full);
                (0..length).filter_map(|_| item.map(|item| self.value(item))).collect()
            }
            Some("number") => match self.pick(3) {
                0 => 0.5.into(),
                1 => 0.into(),
                _ => 1.into(),
            },
            Some("integer") => self.pick(3).into(),
            Some("boolean") => {
                Value::Bool(if self.variant.is_none() { self.full } else { self.pick(2) == 0 })
            }
            _ => self.text(schema),
        }
    }

    fn object(&mut self, schema: &Value) -> Value {
        let mut fields = Map::new();
        let required = schema.get("required").and_then(Value::as_array);
        for (name, part) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            let needed = required.is_some_and(|names| names.iter().any(|known| known == name));
            if needed || (self.full && self.pick(4) < 3) {
                fields.insert(name.clone(), self.value(part));
            }
        }
        if let (true, Some(part @ Value::Object(_))) =
            (self.full, schema.get("additionalProperties"))
        {
            let key = schema.pointer("/propertyNames/examples/0").and_then(Value::as_str);
            fields.insert(key.unwrap_or("domain").to_owned(), self.value(part));
        }
        Value::Object(fields)
    }

    fn text(&mut self, schema: &Value) -> Value {
        let wild = self.variant.is_some_and(|variant| variant >= WILD);
        let list = |key: &str| schema.get(key).and_then(Value::as_array);
        if let (Some(variant), Some(names)) = (self.variant, list("enum")) {
            let at = (variant + self.shift).checked_rem(names.len()).unwrap_or(0);
            return names.get(at).cloned().unwrap_or_default();
        }
        let list = list("enum").or_else(|| list("examples"));
        let count = list.map_or(0, Vec::len);
        if wild && !self.words.is_empty() && self.pick(2) == 0 {
            let at = self.pick(self.words.len());
            return self.words.iter().nth(at).map(String::as_str).into();
        }
        let at = self.pick(count);
        list.and_then(|list| list.get(at)).cloned().unwrap_or_else(|| "sample".into())
    }

    /// One of `count` choices: the first for plain documents, else any, the same in every run.
    fn pick(&mut self, count: usize) -> usize {
        if self.variant.is_none() || count == 0 {
            return 0;
        }
        self.made = self.made.wrapping_add(1);
        // The finalizer of SplitMix64.
        let mixed = (self.made ^ (self.made >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap_or(0) % count
    }
}
