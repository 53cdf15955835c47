//! Any JSON service by mapping: paths read the reply.

use std::borrow::Cow;

use serde_json::Value;

use super::{Bad, Said, own_label, parse, probability};
use crate::catalog::Detector;
use crate::catalog::detector::{Exchange, Reader, ScoreTransform};
use crate::detect::excerpt::{Excerpt, Spot, Texts};
use crate::detect::{Judged, label};
use crate::domain::finding::{Finding, Severity};
use crate::domain::report::{Gap, ReportError};

/// The score from which on a finding stands for what a service flags.
const FLAGGED: f64 = 0.5;

/// What a call was about, for its reply.
pub(super) struct Reading<'a> {
    pub(super) detector: &'a Detector,
    pub(super) texts: &'a Texts<'a>,
    pub(super) batch: &'a [Excerpt<'a>],
}

/// One candidate for a finding, with the key that the last `*` stepped through.
#[derive(Clone, Copy)]
struct Item<'a> {
    value: &'a Value,
    key: Option<&'a str>,
}

pub(super) fn read(
    reading: &Reading<'_>,
    exchange: &Exchange,
    reply: &[u8],
) -> Result<Judged, Bad> {
    let reply: Value = parse(reply)?;
    let shape = &exchange.response;
    for path in &shape.error_when {
        if at(&reply, path).is_some_and(truthy) {
            return Err(Bad(format!("the reply speaks of an error at {}", shown(path))));
        }
    }
    for path in &shape.require {
        if at(&reply, path).is_none_or(Value::is_null) {
            return Err(missing("nothing", path));
        }
    }
    let mut judged = Judged::default();
    let Some(path) = &shape.lists else {
        reading.entry(exchange, &reply, reading.batch, &mut judged)?;
        judged.gaps.extend(reading.gap(exchange, &reply)?);
        return Ok(judged);
    };
    let Some(Value::Array(entries)) = at(&reply, path) else {
        return Err(missing("no list", path));
    };
    if entries.len() != reading.batch.len() {
        let (told, asked) = (entries.len(), reading.batch.len());
        return Err(Bad(format!("{told} entries at {} answer {asked} texts", shown(path))));
    }
    for (entry, excerpt) in entries.iter().zip(reading.batch) {
        reading.entry(exchange, entry, std::slice::from_ref(excerpt), &mut judged)?;
    }
    Ok(judged)
}

impl Reading<'_> {
    /// What `entry` says about `about`.
    fn entry(
        &self,
        exchange: &Exchange,
        entry: &Value,
        about: &[Excerpt<'_>],
        judged: &mut Judged,
    ) -> Result<(), Bad> {
        let readers = &exchange.response.findings;
        let mut found = false;
        for reader in readers {
            if reader.fallback && found {
                continue;
            }
            let (items, single) = items(entry, reader, exchange.response.ok_when_empty)?;
            for item in items {
                if !holds(item.value, reader)? {
                    continue;
                }
                let word = word(item, &reader.label)?;
                let score = lifted(score(item, reader)?, entry, item, reader)?;
                if single && readers.len() == 1 && exchange.response.lists.is_none() {
                    judged.label = own_label(Some(&word));
                    judged.score = Some(score);
                }
                if score == 0.0 {
                    continue;
                }
                let Some(spot) = self.spot(item.value, reader, about)? else {
                    // What is flagged is a message that nobody judges here.
                    found |= score >= FLAGGED;
                    continue;
                };
                let category = given(item, &reader.category)?;
                let (label, category) = self.known(&word, category.as_deref());
                let severity = severity(item, reader)?;
                let said = Said { label, category, severity, score, spot };
                let finding = said.finding(self.detector);
                found |= finding.is_some() && score >= FLAGGED;
                judged.findings.extend(finding);
            }
        }
        let flagged = |reader: &Reader| at(entry, split(&reader.flag).0).is_some_and(truthy);
        if !found && readers.iter().any(|reader| !reader.flag.is_empty() && flagged(reader)) {
            judged.findings.extend(self.flagged(about)?);
        }
        Ok(())
    }

    /// A flag that names nothing is a finding of the file's first category.
    fn flagged(&self, about: &[Excerpt<'_>]) -> Result<Option<Finding>, Bad> {
        let spot = self.spot(&Value::Null, &Reader::default(), about)?;
        let said =
            |spot| Said { label: "flagged", category: None, severity: None, score: 1.0, spot };
        Ok(spot.and_then(|spot| said(spot).finding(self.detector)))
    }

    /// The characters that the service says it left out.
    fn gap(&self, exchange: &Exchange, reply: &Value) -> Result<Option<Gap>, Bad> {
        let (Some(paths), [only, ..]) = (&exchange.response.coverage, self.batch) else {
            return Ok(None);
        };
        let (judged, total) = (position(reply, &paths.judged)?, position(reply, &paths.total)?);
        let left = total.unwrap_or(0).saturating_sub(judged.unwrap_or(0));
        let chars = usize::try_from(left).unwrap_or(usize::MAX).min(only.text().chars().count());
        let reason = ReportError::TooLong;
        let gap = Gap { piece: only.piece, span: None, chars, reason };
        Ok((chars > 0).then_some(gap))
    }

    /// The table may name either word; the more specific one comes first.
    fn known<'w>(&self, word: &'w str, category: Option<&'w str>) -> (&'w str, Option<&'w str>) {
        let labels = &self.detector.labels;
        match category.filter(|own| !labels.contains_key(word) && labels.contains_key(*own)) {
            Some(own) => (own, category),
            None => (word, category),
        }
    }

    /// Where the item lies; `Ok(None)` in a message that is not judged.
    fn spot(
        &self,
        item: &Value,
        reader: &Reader,
        about: &[Excerpt<'_>],
    ) -> Result<Option<Spot>, Bad> {
        let mut about = about;
        let mut located = !reader.context;
        if let Some(index) = position(item, &reader.message)? {
            let lies = |excerpt: &Excerpt<'_>| lies_in(self.pointer(excerpt.piece), index);
            let Some(first) = about.iter().position(lies) else { return Ok(None) };
            let count = about.iter().filter(|excerpt| lies(excerpt)).count();
            about = about.get(first..first + count).unwrap_or_default();
            // Positions count in the message's text; one of several parts is not all of it.
            let pieces = 0..self.texts.work.pieces.len();
            located &= pieces.filter(|piece| lies_in(self.pointer(*piece), index)).count() == 1;
        }
        let ([only], true) = (about, located) else {
            return Ok(Some(Spot { place: None, view: None }));
        };
        let range = (position(item, &reader.start)?, position(item, &reader.end)?);
        let outside = || Bad("a span is empty, half, or outside the text".to_owned());
        only.spot(range, reader.offset_unit).map(Some).ok_or_else(outside)
    }

    fn pointer(&self, piece: usize) -> &str {
        self.texts.work.pieces.get(piece).map_or("", |piece| &*piece.pointer)
    }
}

/// Whether the pointer leads into what message `index` says; a content is message 0.
fn lies_in(pointer: &str, index: u64) -> bool {
    pointer.starts_with(&format!("/messages/{index}/content"))
        || (index == 0 && pointer.starts_with("/content"))
}

/// The items of a reader, and whether it is one value instead of a list.
fn items<'a>(
    entry: &'a Value,
    reader: &Reader,
    ok_when_empty: bool,
) -> Result<(Vec<Item<'a>>, bool), Bad> {
    let mut found = vec![Item { value: entry, key: None }];
    let mut many = false;
    let (path, optional) = split(&reader.items);
    let ok_when_empty = ok_when_empty || optional;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        many |= step == "*";
        let mut next = Vec::new();
        for item in found {
            match (step, item.value) {
                (_, Value::Null) if ok_when_empty => {}
                ("*", Value::Array(values)) => {
                    next.extend(values.iter().map(|value| Item { value, ..item }));
                }
                ("*", Value::Object(map)) => {
                    let inner = |(key, value)| Item { value, key: Some(key) };
                    next.extend(map.iter().map(|(key, value)| inner((key.as_str(), value))));
                }
                _ => match at(item.value, step) {
                    Some(value) => next.push(Item { value, ..item }),
                    // An empty list is an answer; no list at all only where the file says so.
                    None if ok_when_empty => {}
                    None => return Err(missing("nothing", path)),
                },
            }
        }
        found = next;
    }
    let single = !many && matches!(&found[..], [item] if !item.value.is_array());
    if !path.ends_with('*') {
        found = unfold(found, ok_when_empty, path)?;
    }
    if reader.nested {
        found = unfold(found, true, path)?;
    }
    Ok((found, single))
}

/// Lists in the place of items count as their elements.
fn unfold<'a>(found: Vec<Item<'a>>, ok: bool, path: &str) -> Result<Vec<Item<'a>>, Bad> {
    let mut items = Vec::new();
    for item in found {
        match item.value {
            Value::Array(values) => {
                items.extend(values.iter().map(|value| Item { value, ..item }));
            }
            Value::Null if ok => {}
            Value::Null => return Err(missing("nothing", path)),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                items.push(item);
            }
        }
    }
    Ok(items)
}

/// The value at a dotted path of keys and indexes; the empty path is the value itself.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        Value::Object(map) => map.get(step),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

/// The path, and whether it may be absent.
fn split(path: &str) -> (&str, bool) {
    path.strip_suffix('?').map_or((path, false), |path| (path, true))
}

/// What a path holds; absent only where it ends in `?`.
fn look<'a>(value: &'a Value, path: &str, what: &str) -> Result<Option<&'a Value>, Bad> {
    let (path, optional) = split(path);
    match at(value, path).filter(|value| !value.is_null()) {
        None if !optional => Err(missing(what, path)),
        found => Ok(found),
    }
}

fn missing(what: &str, path: &str) -> Bad {
    Bad(format!("the reply has {what} at {}", shown(path)))
}

fn shown(path: &str) -> String {
    if path.is_empty() { "its top".to_owned() } else { format!("`{path}`") }
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => {
            !matches!(text.trim().to_ascii_lowercase().as_str(), "" | "false" | "no" | "0")
        }
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Whether the item counts.
fn holds(item: &Value, reader: &Reader) -> Result<bool, Bad> {
    let Some(condition) = reader.condition() else { return Ok(true) };
    let found = look(item, condition.path, "nothing")?;
    let is = found.is_some_and(|found| match condition.value {
        None => truthy(found),
        Some(value) => text(found).is_some_and(|text| text == value),
    });
    Ok(is == condition.wanted)
}

/// A text, number or boolean as text.
fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(_) | Value::Number(_) => Some(Cow::Owned(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A number, also one that is written as a text.
fn number(value: &Value) -> Option<f64> {
    let told = || value.as_str().and_then(|text| text.trim().parse().ok());
    value.as_f64().or_else(told).filter(|number: &f64| number.is_finite())
}

/// The text at a path that a reader may leave out.
fn given<'a>(item: Item<'a>, path: &'a str) -> Result<Option<Cow<'a, str>>, Bad> {
    if path.is_empty() {
        return Ok(None);
    }
    if let Some(literal) = path.strip_prefix('=') {
        return Ok(Some(Cow::Borrowed(literal)));
    }
    let Some(value) = look(item.value, path, "nothing")? else { return Ok(None) };
    text(value).map(Some).ok_or_else(|| missing("no text", split(path).0))
}

fn word(item: Item<'_>, path: &str) -> Result<String, Bad> {
    let word = match (path.strip_prefix('='), path) {
        (Some(literal), _) => Some(literal.to_owned()),
        (None, "@key") => item.key.map(str::to_owned),
        (None, _) => at(item.value, path).and_then(text).map(Cow::into_owned),
    };
    word.ok_or_else(|| missing("no label", path))
}

fn severity(item: Item<'_>, reader: &Reader) -> Result<Option<Severity>, Bad> {
    let Some(raw) = given(item, &reader.severity)? else { return Ok(None) };
    let graded = || raw.trim().parse().ok().and_then(grade);
    let known = label::severity(&raw.to_ascii_lowercase()).or_else(graded);
    known.map(Some).ok_or_else(|| Bad(format!("`{}` holds no known severity", reader.severity)))
}

/// 0..=7, as Azure counts: 2 is low, 4 medium, 6 high.
fn grade(number: f64) -> Option<Severity> {
    match number {
        n if !(0.0..=7.0).contains(&n) => None,
        n if n < 3.0 => Some(Severity::Low),
        n if n < 5.0 => Some(Severity::Medium),
        n if n < 7.0 => Some(Severity::High),
        _ => Some(Severity::Critical),
    }
}

fn score(item: Item<'_>, reader: &Reader) -> Result<f64, Bad> {
    let path = reader.score.as_str();
    let literal;
    let raw = match (path.strip_prefix('='), path) {
        (_, "") => return Ok(1.0),
        (Some(text), _) => {
            literal = serde_json::from_str(text).unwrap_or_default();
            &literal
        }
        (None, "@value") => item.value,
        (None, _) => match look(item.value, path, "no score")? {
            Some(raw) => raw,
            None => return Ok(1.0),
        },
    };
    let odd = |what: &str| Bad(format!("the score at {} is {what}", shown(split(path).0)));
    let number = || number(raw).ok_or_else(|| odd("no number"));
    let inside = |score: f64| probability(score).map_err(|_| odd("out of range"));
    match &reader.score_transform {
        ScoreTransform::Identity => inside(number()?),
        ScoreTransform::Invert => Ok(1.0 - inside(number()?)?),
        ScoreTransform::Percent => inside(number()? / 100.0),
        ScoreTransform::Risk => inside(number()?.abs()).and(Ok(number()?.max(0.0))),
        ScoreTransform::Severity => inside(number()? / 7.0),
        ScoreTransform::Bool => match raw {
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Ok(f64::from(u8::from(truthy(raw))))
            }
            Value::Null | Value::Array(_) | Value::Object(_) => Err(odd("no boolean")),
        },
        ScoreTransform::Enum(names) => {
            let named = raw.as_str().and_then(|name| names.get(name));
            inside(*named.ok_or_else(|| odd("none of the names"))?)
        }
    }
}

/// A vendor's own flag is worth 0.5 at least.
fn lifted(score: f64, entry: &Value, item: Item<'_>, reader: &Reader) -> Result<f64, Bad> {
    let (path, optional) = split(&reader.flag);
    if path.is_empty() {
        return Ok(score);
    }
    let flag = match (path.strip_suffix(".@key"), item.key) {
        (Some(path), Some(key)) => at(entry, path).and_then(|flags| flags.get(key)),
        (Some(_) | None, _) => at(item.value, path).or_else(|| at(entry, path)),
    };
    match flag {
        None if !optional => Err(missing("nothing", path)),
        flag if flag.is_some_and(truthy) => Ok(score.max(FLAGGED)),
        _ => Ok(score),
    }
}

fn position(item: &Value, path: &str) -> Result<Option<u64>, Bad> {
    if path.is_empty() {
        return Ok(None);
    }
    let Some(value) = look(item, path, "no position")? else { return Ok(None) };
    let whole = |n: &f64| n.fract() == 0.0 && (0.0..=9e15).contains(n);
    let told = || number(value).filter(whole).map(|n| n as u64);
    let known = value.as_u64().or_else(told);
    known.map(Some).ok_or_else(|| missing("no position", split(path).0))
}
