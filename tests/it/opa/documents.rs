//! Documents made from the schemas of policies/schemas, with the values at which engines differ.

use detector_orchestrator::policy::Point;
use serde_json::{Map, Value, json};

/// Chance that repeats.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// SplitMix64.
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).unwrap()
    }

    pub fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

pub const TEXTS: [&str; 30] = [
    "",
    "a",
    "block me",
    "BLOCK É",
    "Block straße",
    "note ab cd",
    "ab 😀 cdé",
    "😀",
    "a😀b😀c",
    "👩‍👩‍👧",
    "e\u{301}cole",
    "école",
    "한국어",
    "ñandú",
    "  two  words ",
    "\u{a0}x",
    "a,b,,c",
    "12",
    "-0.5",
    "acme.com",
    "example.org",
    "x.org",
    "shell",
    "my shell tool",
    "pii",
    "Ünï Cödé",
    "ΑΣΑ",
    "<b>&\"'\\",
    "{\"a\": 1}",
    "%d %s",
];
pub const CATEGORIES: [&str; 14] = [
    "pii.email",
    "pii",
    "pii.ip_address",
    "pii.url",
    "secrets",
    "secrets.token",
    "injection",
    "secrets.private_key",
    "toxicity",
    "violence",
    "code",
    "language",
    "link",
    "malware",
];
const NAMES: [&str; 6] = ["pii", "secrets", "toxicity", "eyes", "acme.x", "z-9"];
const NUMBERS: [f64; 15] =
    [0.0, 1.0, 0.5, 0.1, 0.3, 0.7, 0.999_999, 1e-9, 0.25, 0.125, 0.6, 0.2, 0.9, 3.0, 1e15];

pub fn yaml(bytes: &[u8]) -> Value {
    use detector_orchestrator::yaml::{self, fault::FaultKind};
    yaml::tree(FaultKind::Policy, "data.yaml", std::str::from_utf8(bytes).unwrap())
        .unwrap()
        .to_json()
}

/// A document of the point; half the time with the view's own table.
pub fn document(point: Point, settings: &Value, dice: &mut Dice) -> Value {
    let schema = match point {
        Point::Plan => include_str!("../../../policies/schemas/plan.json"),
        Point::Conflict => include_str!("../../../policies/schemas/conflict.json"),
        Point::Verdict => include_str!("../../../policies/schemas/verdict.json"),
    };
    let mut document = make("", &serde_json::from_str(schema).unwrap(), dice);
    // Some documents are calm, so that nothing and little happens too.
    if dice.below(6) == 0 {
        document["findings"] = json!([]);
    }
    if point == Point::Verdict {
        let complete = dice.below(2) == 0;
        document["coverage"]["complete"] = complete.into();
        let calm = dice.below(3) == 0;
        let findings = document["findings"].as_array_mut().unwrap();
        for (id, finding) in findings.iter_mut().enumerate() {
            let category = if calm { dice.of(&CATEGORIES[..4]) } else { dice.of(&CATEGORIES) };
            let parent = category.split('.').next().unwrap();
            let mut path = vec![*category];
            path.extend((parent != *category).then_some(parent));
            finding["id"] = id.into();
            finding["category"] = (*category).into();
            finding["path"] = path.into();
        }
        if calm {
            document["conflicts"] = json!([]);
        }
    } else {
        document.as_object_mut().unwrap().remove("findings");
    }
    document["settings"] = settings.clone();
    document
}

fn make(name: &str, schema: &Value, dice: &mut Dice) -> Value {
    match schema["type"].as_str().unwrap_or_default() {
        "object" => object(schema, dice),
        "array" => (0..dice.below(4)).map(|_| make(name, &schema["items"], dice)).collect(),
        "number" => (*dice.of(&NUMBERS)).into(),
        "integer" => dice.below(40).into(),
        "boolean" => (dice.below(2) == 0).into(),
        _ => match schema["enum"].as_array() {
            Some(values) => dice.of(values).clone(),
            None => text(name, dice).into(),
        },
    }
}

fn text(name: &str, dice: &mut Dice) -> &'static str {
    match name {
        "category" | "categories" | "path" => dice.of::<&str>(&CATEGORIES),
        "tool_names" => dice.of::<&str>(&TEXTS[20..24]),
        "detector" | "name" | "required" | "optional" | "exclude" | "voters" => {
            dice.of::<&str>(&NAMES)
        }
        _ => dice.of::<&str>(&TEXTS),
    }
}

fn object(schema: &Value, dice: &mut Dice) -> Value {
    let mut fields = Map::new();
    let required = schema["required"].as_array();
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        let needed = required.is_some_and(|names| names.iter().any(|known| known == name));
        if needed || dice.below(2) == 0 {
            fields.insert(name.clone(), make(name, part, dice));
        }
    }
    if let Some(part @ Value::Object(_)) = schema.get("additionalProperties") {
        for _ in 0..dice.below(4) {
            let key = match schema["propertyNames"].is_object() {
                true => *dice.of(&CATEGORIES),
                false => *dice.of(&["note", "domain", "country", "é😀"]),
            };
            fields.insert(key.to_owned(), make(key, part, dice));
        }
    }
    fields.into()
}
