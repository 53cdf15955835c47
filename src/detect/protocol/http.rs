//! Any JSON service by mapping: a template makes the request, paths read the reply.

use bytes::Bytes;
use serde_json::Value;

use super::{Bad, Said, own_label, parse, probability, to_bytes};
use crate::catalog::Detector;
use crate::catalog::detector::{Mapping, ResponseMapping, ScoreTransform};
use crate::detect::Judged;
use crate::detect::excerpt::{Excerpt, Texts};

pub(super) fn body(mapping: &Mapping, texts: &Texts<'_>, excerpt: &Excerpt<'_>) -> Bytes {
    to_bytes(&fill(&mapping.request, texts, excerpt))
}

fn fill(template: &Value, texts: &Texts<'_>, excerpt: &Excerpt<'_>) -> Value {
    match template {
        Value::String(text) => fill_text(text, texts, excerpt),
        Value::Array(items) => items.iter().map(|item| fill(item, texts, excerpt)).collect(),
        Value::Object(map) => Value::Object(
            map.iter().map(|(key, value)| (key.clone(), fill(value, texts, excerpt))).collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => template.clone(),
    }
}

/// One pass from left to right, so what is filled in is never filled again.
fn fill_text(text: &str, texts: &Texts<'_>, excerpt: &Excerpt<'_>) -> Value {
    let request = texts.work.request;
    let value = |name: &str| match name.trim() {
        "content" => Some(excerpt.text()),
        "tenant" => Some(request.tenant.as_str()),
        "language" => Some(request.language.as_deref().unwrap_or_default()),
        "request_id" => Some(request.id.as_str()),
        _ => None,
    };
    match text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim) {
        Some("contents") => return Value::from(vec![excerpt.text()]),
        Some("language") if request.language.is_none() => return Value::Null,
        Some(_) | None => {}
    }
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        match after.split_once("}}").and_then(|(name, tail)| Some((value(name)?, tail))) {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push_str("{{");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Value::String(out)
}

pub(super) fn read(
    detector: &Detector,
    mapping: &Mapping,
    excerpt: &Excerpt<'_>,
    reply: &[u8],
) -> Result<Judged, Bad> {
    let reply: Value = parse(reply)?;
    let paths = &mapping.response;
    if !paths.error_when.is_empty() && at(&reply, &paths.error_when).is_some_and(truthy) {
        return Err(Bad);
    }
    let (items, single) = match at(&reply, &paths.items) {
        Some(Value::Array(items)) => (items.as_slice(), false),
        // An empty list is an answer; no list at all is one only where the file says so.
        None | Some(Value::Null) if paths.ok_when_empty => (&[][..], false),
        None | Some(Value::Null) => return Err(Bad),
        Some(item) => (std::slice::from_ref(item), true),
    };
    let mut judged = Judged::default();
    for item in items {
        let word = word(item, &paths.label)?;
        let score = score(item, paths)?;
        let range = (position(item, &paths.start)?, position(item, &paths.end)?);
        let spot = excerpt.spot(range, paths.offset_unit).ok_or(Bad)?;
        if single {
            judged.label = own_label(Some(&word));
            judged.score = Some(score);
        }
        let said = Said { label: &word, category: None, severity: None, score, spot };
        judged.findings.extend(said.finding(detector));
    }
    Ok(judged)
}

/// The value at a dotted path of keys and indexes; the empty path is the value itself.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        Value::Object(map) => map.get(step),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn word(item: &Value, path: &str) -> Result<String, Bad> {
    if let Some(literal) = path.strip_prefix('=') {
        return Ok(literal.to_owned());
    }
    match at(item, path) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => Ok(value.to_string()),
        None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => Err(Bad),
    }
}

fn score(item: &Value, paths: &ResponseMapping) -> Result<f64, Bad> {
    if paths.score.is_empty() {
        return Ok(1.0);
    }
    let raw = at(item, &paths.score).ok_or(Bad)?;
    let number = || raw.as_f64().ok_or(Bad);
    match &paths.score_transform {
        ScoreTransform::Identity => probability(number()?),
        ScoreTransform::Invert => Ok(1.0 - probability(number()?)?),
        ScoreTransform::Severity => probability(number()? / 7.0),
        ScoreTransform::Bool => Ok(if raw.as_bool().ok_or(Bad)? { 1.0 } else { 0.0 }),
        ScoreTransform::Enum(names) => {
            probability(*names.get(raw.as_str().ok_or(Bad)?).ok_or(Bad)?)
        }
    }
}

fn position(item: &Value, path: &str) -> Result<Option<u64>, Bad> {
    match at(item, path).filter(|_| !path.is_empty()) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(Bad),
    }
}
