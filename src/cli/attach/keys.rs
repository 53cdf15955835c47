//! What the keys of a group of findings mean: label, score, severity, place.

use serde_json::Value;

use super::positions::{self, Place, Positions};
use super::sample::Sent;
use super::scores;
use super::shape::{Group, Kind, Leaves};
use crate::domain::span::OffsetUnit;

/// One key of a mapping, and why it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guess {
    pub(super) key: &'static str,
    /// As YAML.
    pub(super) value: String,
    pub(super) why: String,
}

/// A reader of findings.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) kind: Kind,
    pub(super) path: String,
    /// How much speaks for it.
    pub(super) rank: usize,
    pub(super) guesses: Vec<Guess>,
    /// The service's words, also for what it did not find.
    pub(super) words: Vec<String>,
    /// What could not be used.
    pub(super) notes: Vec<String>,
}

/// Names of keys that hold the label, most telling first.
const LABELS: [&str; 17] = [
    "label", "type", "kind", "entity", "categor", "class", "code", "tag", "rule", "name",
    "detector", "policy", "topic", "reason", "verdict", "result", "id",
];
const FLAGS: [&str; 13] = [
    "flag", "detect", "match", "hit", "trigger", "violat", "block", "positive", "filtered",
    "found", "unsafe", "toxic", "is_",
];
/// Keys of maps that measure the call, not the text.
const MEASURES: [&str; 14] = [
    "token", "_ms", "time", "took", "length", "count", "chars", "version", "usage", "latency",
    "duration", "elapsed", "size", "total",
];
const LABEL_CHARS_MAX: usize = 64;

/// How the group reads as findings; `clean` is what stood there for a text without any.
pub(super) fn candidate(
    group: &Group<'_>,
    clean: Option<&Group<'_>>,
    sent: &Sent<'_>,
) -> Option<Candidate> {
    let same = clean.is_some_and(|clean| clean.items == group.items);
    if group.items.is_empty() || same || measures(group) {
        return None;
    }
    let mut leaves = group.leaves();
    let place = positions::find(&leaves, group.items.len(), sent);
    let mut reading = Reading { group, guesses: Vec::new(), words: Vec::new(), notes: Vec::new() };
    reading.items();
    let proven = reading.place(place, &mut leaves);
    let label = reading.label(&leaves, sent);
    let score = reading.score(&leaves, clean);
    let rank = match group.kind {
        // Of two readings that find the same, the list says more than the keys around it.
        Kind::List if proven > 0 => 101 + 2 * proven,
        Kind::Map | Kind::Single if proven > 0 => 100 + 2 * proven,
        Kind::List if label && score => 50,
        Kind::List if label => 20,
        Kind::Map if score && group.items.iter().all(|(_, value)| !value.is_object()) => 42,
        Kind::Map if score && group.items.len() > 1 => 40,
        Kind::Single if label && score => 30,
        Kind::Single if score => 25,
        Kind::List | Kind::Map | Kind::Single => return None,
    };
    let (kind, path) = (group.kind, group.path.clone());
    let Reading { guesses, words, notes, .. } = reading;
    Some(Candidate { kind, path, rank, guesses, words, notes })
}

fn measures(group: &Group<'_>) -> bool {
    let is = |key: &str| {
        let key = key.to_ascii_lowercase();
        MEASURES.iter().any(|word| key.contains(word))
    };
    group.kind == Kind::Map && group.items.iter().any(|(key, _)| key.is_some_and(is))
}

struct Reading<'a> {
    group: &'a Group<'a>,
    guesses: Vec<Guess>,
    words: Vec<String>,
    notes: Vec<String>,
}

impl Reading<'_> {
    fn say(&mut self, key: &'static str, value: &str, why: impl Into<String>) {
        self.guesses.push(Guess { key, value: super::file::scalar(value), why: why.into() });
    }

    fn items(&mut self) {
        let count = self.group.items.len();
        let why = match self.group.kind {
            Kind::List => format!("{count} entries for the planted text"),
            Kind::Map => format!("{count} keys with a value each"),
            Kind::Single => "one value for the whole text".to_owned(),
        };
        if !self.group.path.is_empty() {
            self.say("items", &self.group.path.clone(), why);
        }
        if self.group.nested {
            let why = "lists in a list".to_owned();
            self.guesses.push(Guess { key: "nested", value: "true".to_owned(), why });
        }
    }

    /// Takes the positions out of `leaves`; how many of them are proven.
    fn place(&mut self, place: Place, leaves: &mut Leaves<'_>) -> usize {
        let positions = match place {
            Place::Read(positions) => positions,
            Place::Odd(note) => {
                self.notes.push(note);
                return 0;
            }
            Place::Nowhere => return 0,
        };
        let Positions { start, end, unit, proven, why } = positions;
        leaves.remove(&start);
        leaves.remove(&end);
        self.say("start", &start, why);
        self.say("end", &end, "");
        match unit {
            OffsetUnit::Codepoint => {}
            OffsetUnit::Utf16 => self.say("offset_unit", "utf16", "as JavaScript and Java count"),
            OffsetUnit::Byte => self.say("offset_unit", "byte", "as Go and Rust count"),
        }
        proven
    }

    fn label(&mut self, leaves: &Leaves<'_>, sent: &Sent<'_>) -> bool {
        if self.group.kind == Kind::Map {
            self.say("label", "@key", "the keys name what was looked for");
            let keys = self.group.items.iter().filter_map(|(key, _)| *key);
            self.words = keys.filter(|key| is_label(key, sent)).map(str::to_owned).collect();
            return true;
        }
        let count = self.group.items.len();
        let fits = |values: &[(usize, &Value)]| {
            let word = |value: &Value| value.as_str().is_some_and(|word| is_label(word, sent));
            values.len() == count && values.iter().all(|(_, value)| word(value))
        };
        let words = leaves.iter().filter(|(_, values)| fits(values) && !scores::is_scale(values));
        let best = words.map(|(path, _)| (order(path, &LABELS), path)).min();
        // Words beside a single value may say anything, such as the model's name.
        let best = best.filter(|(order, _)| self.group.kind == Kind::List || *order < LABELS.len());
        match best {
            Some((order, path)) => {
                let why = if order < LABELS.len() { "short words" } else { "the only short words" };
                self.say("label", path, why);
                let words = leaves.get(path).into_iter().flatten();
                self.words =
                    words.filter_map(|(_, word)| word.as_str()).map(str::to_owned).collect();
                true
            }
            None => {
                let own = self.group.path.rsplit('.').find(|step| *step != "*" && !step.is_empty());
                let literal = format!("={}", own.unwrap_or("finding"));
                self.say("label", &literal, "the reply has no word for it");
                false
            }
        }
    }

    fn score(&mut self, leaves: &Leaves<'_>, clean: Option<&Group<'_>>) -> bool {
        let count = self.group.items.len();
        let earlier = clean.map(Group::leaves).unwrap_or_default();
        let whole = leaves.iter().filter(|(_, values)| values.len() == count);
        let mut found = None;
        for (path, values) in whole.clone() {
            let both: Vec<&Value> = values
                .iter()
                .chain(earlier.get(path).into_iter().flatten())
                .map(|(_, value)| *value)
                .collect();
            if let Some(score) = scores::number(path, &both, self.group.kind) {
                found = std::cmp::min_by_key(found, Some((score, path)), |found| {
                    found.as_ref().map_or(usize::MAX, |(score, _)| score.order)
                });
            }
        }
        let flag = whole.clone().find(|(path, values)| {
            let named = path.is_empty() || order(path, &FLAGS) < FLAGS.len();
            let any = values.iter().any(|(_, value)| value.as_bool() == Some(true));
            named && any && values.iter().all(|(_, value)| value.is_boolean())
        });
        let severity = whole.clone().find(|(_, values)| scores::is_severity(values));
        if let Some((path, _)) = severity {
            self.say("severity", path, "low, medium, high or critical");
        }
        let scale = whole.clone().find(|(_, values)| scores::is_scale(values));
        match (found, flag) {
            (Some((score, path)), flag) => {
                self.say("score", at(path), score.why);
                if let Some(transform) = score.transform {
                    self.transform(transform.to_owned(), "");
                }
                if let Some((flag, _)) = flag {
                    self.say("when", flag, "only these did the service find");
                }
            }
            (None, Some((path, _))) => {
                self.say("score", at(path), "true where it was found");
                self.transform("bool".to_owned(), "");
            }
            (None, None) => match scale.filter(|_| severity.is_none()) {
                Some((path, values)) => {
                    self.say("score", at(path), "a scale of words; check their worth");
                    self.transform(scores::scale(values), "");
                }
                None => return severity.is_some(),
            },
        }
        true
    }

    fn transform(&mut self, value: String, why: &str) {
        self.guesses.push(Guess { key: "score_transform", value, why: why.to_owned() });
    }
}

/// A path of a score; the item itself has a name of its own.
fn at(path: &str) -> &str {
    if path.is_empty() { "@value" } else { path }
}

fn is_label(word: &str, sent: &Sent<'_>) -> bool {
    let chars = word.chars().count();
    (1..=LABEL_CHARS_MAX).contains(&chars)
        && word.split_whitespace().count() <= 4
        && super::file::visible(word) == word
        && !word.contains('\n')
        && !(chars >= 3 && sent.text.contains(word))
}

/// The place of the first of `names` that the last word of the path holds.
pub(super) fn order(path: &str, names: &[&str]) -> usize {
    let last = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    names.iter().position(|name| last.contains(name)).unwrap_or(names.len())
}
