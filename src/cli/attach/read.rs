//! From the replies to a clean and a planted text to the mapping that reads them.

use serde_json::Value;

use super::file::scalar;
use super::keys::{Candidate, Guess, candidate};
use super::sample::Sent;
use super::shape::{Kind, groups, is_step, join};

/// How a reply is read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) general: Vec<Guess>,
    pub(super) readers: Vec<Candidate>,
}

const ERRORS: [&str; 7] =
    ["error", "errors", "err", "fault", "exception", "error_message", "error_code"];
/// What speaks for a second kind of findings beside the best one.
const BESIDE: usize = 40;

/// Reads a reply about one text; no readers where it holds nothing that looks like findings.
pub(super) fn one(clean: &Value, planted: &Value, sent: &Sent<'_>) -> Read {
    let readers = readers(clean, planted, sent);
    let missing = |candidate: &&Candidate| !stands(clean, &candidate.path);
    let mut general = Vec::new();
    if let Some(candidate) = readers.iter().find(missing) {
        let why = format!("the clean text has no `{}`", candidate.path);
        general.push(Guess { key: "ok_when_empty", value: "true".to_owned(), why });
    }
    Read { general, readers }
}

/// Reads a reply about the clean and the planted text, in this order.
pub(super) fn list(reply: &Value, sent: &Sent<'_>) -> Option<Read> {
    let mut lists = Vec::new();
    pairs(reply, "", &mut lists);
    lists.into_iter().find_map(|(path, clean, planted)| {
        let mut read = one(clean, planted, sent);
        let best = read.readers.first()?;
        // A finding in the first entry means that the entries are findings, not texts.
        let texts =
            best.rank < 100 || readers(&Value::Null, clean, sent).iter().all(|c| c.rank < 100);
        let why = "one entry for each text, in order".to_owned();
        read.general.insert(0, Guess { key: "lists", value: scalar(&path), why });
        texts.then_some(read)
    })
}

/// Lists of two entries of one type, by plain paths.
fn pairs<'a>(value: &'a Value, path: &str, into: &mut Vec<(String, &'a Value, &'a Value)>) {
    match value {
        Value::Array(items) => {
            if let [a, b] = &items[..]
                && (a.is_object() && b.is_object() || a.is_array() && b.is_array())
            {
                into.push((path.to_owned(), a, b));
            }
        }
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| is_step(key)) {
                pairs(value, &join(path, key), into);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn readers(clean: &Value, planted: &Value, sent: &Sent<'_>) -> Vec<Candidate> {
    let before = groups(clean);
    let mut candidates: Vec<Candidate> = groups(planted)
        .iter()
        .filter_map(|group| {
            let same = before.iter().find(|g| g.path == group.path && g.kind == group.kind);
            candidate(group, same, sent)
        })
        .collect();
    candidates.sort_by(|a, b| b.rank.cmp(&a.rank).then(a.path.len().cmp(&b.path.len())));
    let mut chosen: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let beside = candidate.rank >= BESIDE
            && candidate.kind != Kind::Single
            && chosen.iter().all(|other| !overlap(&other.path, &candidate.path));
        if chosen.is_empty() || beside {
            chosen.push(candidate);
        }
    }
    chosen
}

/// Whether one path leads into what the other reads.
fn overlap(a: &str, b: &str) -> bool {
    let base =
        |path: &str| path.split(".*").next().unwrap_or_default().trim_matches('*').to_owned();
    let (a, b) = (base(a), base(b));
    let leads = |a: &str, b: &str| {
        a.is_empty()
            || b.strip_prefix(a).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    leads(&a, &b) || leads(&b, &a)
}

/// Whether the plain part of the path leads somewhere.
fn stands(reply: &Value, path: &str) -> bool {
    let steps = path.split('.').filter(|step| !step.is_empty()).take_while(|step| *step != "*");
    let end = steps.into_iter().try_fold(reply, |value, step| value.get(step));
    end.is_some_and(|value| !value.is_null())
}

/// Where the reply speaks of an error: the path, and whether it holds something.
pub(super) fn errors(reply: &Value) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut look = |value: &Value, path: &str| {
        for (key, value) in value.as_object().into_iter().flatten() {
            if ERRORS.contains(&key.to_ascii_lowercase().as_str()) {
                found.push((join(path, key), !is_empty(value)));
            }
        }
    };
    look(reply, "");
    for (key, value) in reply.as_object().into_iter().flatten().filter(|(key, _)| is_step(key)) {
        look(value, key);
    }
    found
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
