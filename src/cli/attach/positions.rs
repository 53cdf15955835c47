//! Which two numbers of a finding are its place, and what they count.

use std::collections::BTreeMap;

use serde_json::Value;

use super::sample::Sent;
use super::shape::Leaves;
use crate::domain::span::OffsetUnit;

/// Where a finding says it lies.
#[derive(Debug)]
pub(super) struct Positions {
    pub(super) start: String,
    pub(super) end: String,
    pub(super) unit: OffsetUnit,
    /// How many findings show a text that was expected there.
    pub(super) proven: usize,
    pub(super) why: String,
}

/// Positions that a mapping can or cannot read, and none.
pub(super) enum Place {
    Read(Positions),
    /// Why the numbers cannot be used.
    Odd(String),
    Nowhere,
}

const UNITS: [OffsetUnit; 3] = [OffsetUnit::Codepoint, OffsetUnit::Utf16, OffsetUnit::Byte];
const START: [&str; 6] = ["start", "begin", "from", "offset", "pos", "0"];
const END: [&str; 7] = ["end", "stop", "to", "until", "finish", "len", "1"];

type Reading = fn(u64, u64) -> Option<(u64, u64)>;

/// How two numbers may mean a place; only the first can be mapped.
const READINGS: [(&str, Reading); 4] = [
    ("half-open", |a, b| Some((a, b))),
    ("a position and a length", |a, b| Some((a, a.checked_add(b)?))),
    ("inclusive: the end is the last character", |a, b| Some((a, b.checked_add(1)?))),
    ("counted from one", |a, b| Some((a.checked_sub(1)?, b.checked_sub(1)?))),
];

struct Trial<'a> {
    paths: (&'a str, &'a str),
    reading: usize,
    unit: OffsetUnit,
    proven: usize,
    example: String,
}

pub(super) fn find(leaves: &Leaves<'_>, count: usize, sent: &Sent<'_>) -> Place {
    let whole = |path: &&String| {
        leaves.get(*path).is_some_and(|values| values.iter().all(|(_, v)| v.is_u64()))
    };
    let numbers: Vec<&String> = leaves.keys().filter(whole).collect();
    let mut best: Option<Trial<'_>> = None;
    let mut hinted = None;
    for start in &numbers {
        for end in numbers.iter().filter(|end| *end != start) {
            let pair = Pair { paths: (start, end), numbers: pairs(leaves, start, end), leaves };
            if pair.numbers.len() != count {
                continue;
            }
            let named = is_named(start, &START) && is_named(end, &END);
            if named {
                hinted = Some((*start, *end));
            } else if count == 1 || parent(start) != parent(end) {
                // One pair of numbers fits by chance.
                continue;
            }
            for reading in 0..READINGS.len() {
                for unit in UNITS {
                    let trial = pair.tried(reading, unit, sent);
                    if trial.proven > best.as_ref().map_or(0, |best| best.proven) {
                        best = Some(trial);
                    }
                }
            }
        }
    }
    match (best, hinted) {
        (Some(best), _) if best.proven * 2 >= count => best.place(count),
        (_, Some((start, end))) => Place::Odd(format!(
            "`{start}` and `{end}` look like positions, but no unit puts them on what was planted"
        )),
        (Some(_) | None, None) => Place::Nowhere,
    }
}

impl Trial<'_> {
    fn place(self, count: usize) -> Place {
        let (start, end) = self.paths;
        let Some(("half-open", _)) = READINGS.get(self.reading) else {
            let how = READINGS.get(self.reading).map_or("", |(how, _)| how);
            return Place::Odd(format!("`{start}` and `{end}` are {how}, which no mapping reads"));
        };
        let example = &self.example;
        Place::Read(Positions {
            start: start.to_owned(),
            end: end.to_owned(),
            unit: self.unit,
            proven: self.proven,
            why: format!("in this unit {} of {count} lie on what was sent: {example}", self.proven),
        })
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// Of the findings that have both.
fn pairs(leaves: &Leaves<'_>, start: &str, end: &str) -> Vec<(usize, u64, u64)> {
    let of = |path: &str| -> BTreeMap<usize, u64> {
        let values = leaves.get(path).into_iter().flatten();
        values.filter_map(|(index, value)| Some((*index, value.as_u64()?))).collect()
    };
    let ends = of(end);
    of(start).into_iter().filter_map(|(i, a)| ends.get(&i).map(|b| (i, a, *b))).collect()
}

/// Two paths, and for each finding its index and the two numbers there.
struct Pair<'a> {
    paths: (&'a str, &'a str),
    numbers: Vec<(usize, u64, u64)>,
    leaves: &'a Leaves<'a>,
}

impl<'a> Pair<'a> {
    fn tried(&self, reading: usize, unit: OffsetUnit, sent: &Sent<'_>) -> Trial<'a> {
        let read = READINGS.get(reading).map(|(_, read)| read);
        let (mut proven, mut example) = (0, String::new());
        for (index, a, b) in &self.numbers {
            let range = read.and_then(|read| read(*a, *b));
            let Some(slice) = range.and_then(|(a, b)| sent.slice(a, b, unit)) else { continue };
            if says(self.leaves, *index, slice) || sent.planted(slice).is_some() {
                proven += 1;
                if example.is_empty() {
                    example = format!("{a}..{b} is {}", super::file::quoted(slice));
                }
            }
        }
        Trial { paths: self.paths, reading, unit, proven, example }
    }
}

/// Whether the finding itself holds the text.
fn says(leaves: &Leaves<'_>, index: usize, slice: &str) -> bool {
    let same = |(at, value): &(usize, &Value)| *at == index && value.as_str() == Some(slice);
    leaves.values().flatten().any(same)
}

/// Whether the last word of the path is, or begins or ends with, one of the names.
fn is_named(path: &str, names: &[&str]) -> bool {
    let last = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    names.iter().any(|name| last.starts_with(name) || last.ends_with(name))
}
