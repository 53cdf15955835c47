//! What the rules answered, checked value by value. A bad value in something that tightens fails
//! the point; in headers, obligations or a reason's text it is dropped and named.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regorus::Value;
use serde::de::DeserializeOwned;

use super::load::View;
use super::unit::{Held, Unit};
use super::{Failure, FailureKind, FloorPlan, PlanAnswer, Point, VerdictAnswer, bounded};
use crate::domain::action::Action;
use crate::domain::category::Category;
use crate::domain::id::DetectorName;
use crate::domain::judgement::{Choice, JudgedFinding};
use crate::domain::outcome::Degraded;
use crate::domain::plan::ResolveSpec;
use crate::domain::verdict::Entry;

/// Longest reason and header value, in bytes; most entries of one rule.
const TEXT_MAX: usize = 1_000;
const ENTRIES_MAX: usize = 10_000;
/// Headers of one answer, and the bytes of their names and values together.
const HEADERS_MAX: usize = 32;
const HEADERS_BYTES_MAX: usize = 4096;
/// Longest time-out a policy may set, in milliseconds.
pub(super) const TIMEOUT_MS_MAX: u64 = 300_000;

pub(super) fn plan(held: &[Held]) -> Result<PlanAnswer, Failure> {
    let mut answer = PlanAnswer::default();
    for Held { rule, value, .. } in held {
        match rule.as_str() {
            "deny" => answer.deny.extend(texts(value, rule)?),
            "required" => answer.required.extend(names(value, rule)?),
            "optional" => answer.optional.extend(names(value, rule)?),
            "secondary" => answer.secondary.extend(names(value, rule)?),
            "skip" => answer.skip.extend(names(value, rule)?),
            // What a later layer replaces must be good all the same.
            _ => single(&mut PlanAnswer::default(), rule, typed(value, rule)?)?,
        }
    }
    for (rule, value) in joined(held) {
        single(&mut answer, &rule, value)?;
    }
    Ok(answer)
}

/// Takes a rule that gives one value, or an object; others are left alone.
fn single(answer: &mut PlanAnswer, rule: &str, value: serde_json::Value) -> Result<(), Failure> {
    match rule {
        "execution" => answer.execution = Some(from_json(value, rule)?),
        "stop_on" => answer.stop_on = Some(from_json(value, rule)?),
        "stages" => answer.stages = from_json(value, rule)?,
        "coverage" => {
            answer.coverage = from_json(value, rule)?;
            if let Some(why) = answer.coverage.fault() {
                return Err(bad(Point::Plan, rule, why));
            }
        }
        "resolve" => {
            answer.resolve = from_json(value, rule)?;
            if let Some(name) = answer.resolve.keys().find(|name| !is_scope(name)) {
                return Err(bad(Point::Plan, rule, &format!("`{name}` is no category")));
            }
            if let Some(why) = answer.resolve.values().find_map(ResolveSpec::fault) {
                return Err(bad(Point::Plan, rule, why));
            }
        }
        "timeouts" => answer.timeouts = timeouts(value)?,
        "thresholds" => answer.thresholds = thresholds(value)?,
        "params" => answer.params = from_json(value, rule)?,
        _ => {}
    }
    Ok(())
}

/// What layers and floor say of a plan, and the mode of the table.
pub(super) fn whole_plan(view: &View, held: Vec<Vec<Held>>) -> Result<PlanAnswer, Failure> {
    let mut held = held.into_iter();
    let mut answer = plan(&held.next().unwrap_or_default())?;
    answer.floor = floor_plan(&held.next().unwrap_or_default())?;
    let mode = view.settings().get("mode");
    answer.mode = mode.and_then(|mode| serde_json::from_value(mode.clone()).ok());
    Ok(answer)
}

pub(super) fn floor_plan(held: &[Held]) -> Result<FloorPlan, Failure> {
    let mut floor = FloorPlan::default();
    for Held { rule, value, .. } in held {
        match rule.as_str() {
            "required" => floor.required.extend(names(value, rule)?),
            "min_coverage" => {
                floor.min_coverage = value
                    .as_f64()
                    .ok()
                    .filter(|share| (0.0..=1.0).contains(share))
                    .ok_or_else(|| bad(Point::Plan, rule, "it is not between 0 and 1"))?;
            }
            "on_incomplete" => floor.on_incomplete = Some(typed(value, rule)?),
            _ => {}
        }
    }
    Ok(floor)
}

pub(super) fn settle(held: &[Held]) -> Result<BTreeMap<Category, Choice>, Failure> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settle {
        strategy: String,
        winner: Option<String>,
        reason: Option<String>,
    }
    let wrong = |why: &str| bad(Point::Conflict, "settle", why);
    let read = |json: serde_json::Value| -> Result<BTreeMap<Category, Settle>, Failure> {
        serde_json::from_value(json).map_err(|error| wrong(&error.to_string()))
    };
    for Held { value, .. } in held {
        read(to_json(value).ok_or_else(|| wrong("it is no object"))?)?;
    }
    let Some(choices) = joined(held).remove("settle") else { return Ok(BTreeMap::new()) };
    let choice = |(category, Settle { strategy, winner, reason })| {
        (category, Choice { strategy, winner, reason })
    };
    Ok(read(choices)?.into_iter().map(choice).collect())
}

pub(super) fn verdict(
    unit: &Unit,
    held: &[Held],
    findings: &[JudgedFinding],
) -> Result<VerdictAnswer, Failure> {
    let mut answer = VerdictAnswer::default();
    let degraded = &mut answer.degraded;
    for held in held {
        let Held { rule, value, .. } = held;
        let rules = &mut answer.rules;
        match rule.as_str() {
            "ignore" => {
                for id in set(value, rule)? {
                    rules.ignore.insert(finding_id(id, findings, rule)?);
                }
            }
            "obligations" => match to_json(value) {
                Some(serde_json::Value::Object(found)) => lay_over(&mut rules.obligations, found),
                _ => degraded.push(dropped("obligations", "it is no object")),
            },
            "headers" => headers(value, &mut rules.headers, degraded),
            _ => rules.entries.extend(entries(unit, held, findings, degraded)?),
        }
    }
    Ok(answer)
}

pub(super) fn floor_verdict(
    unit: &Unit,
    held: &[Held],
    raw: &[JudgedFinding],
    into: &mut VerdictAnswer,
) -> Result<(), Failure> {
    for held in held {
        into.rules.floor.extend(entries(unit, held, raw, &mut into.degraded)?);
    }
    Ok(())
}

/// What the layers say together, by rule: sets united, objects merged by key, of other values the
/// later layer's.
fn joined(held: &[Held]) -> serde_json::Map<String, serde_json::Value> {
    use serde_json::Value as Json;
    let mut rules = serde_json::Map::new();
    // Held values are sorted by layer.
    for Held { rule, value, .. } in held {
        let Some(json) = to_json(value) else { continue };
        match (rules.get_mut(rule), json) {
            (Some(Json::Array(old)), Json::Array(new)) if value.as_set().is_ok() => {
                let fresh: Vec<_> = new.into_iter().filter(|item| !old.contains(item)).collect();
                old.extend(fresh);
            }
            (Some(Json::Object(old)), Json::Object(new)) => lay_over(old, new),
            (_, json) => drop(rules.insert(rule.clone(), json)),
        }
    }
    rules
}

/// The same as authors see it; the floor's apart under `floor`.
pub(super) fn merged(held: &[Vec<Held>], point: Point) -> serde_json::Value {
    let mut parts = held.iter().map(|held| joined(held));
    let mut result = parts.next().unwrap_or_default();
    let floor = parts.next().unwrap_or_default();
    if point == Point::Verdict {
        let action = highest(&result, &floor);
        result.insert("action".into(), action.name().into());
    }
    if !floor.is_empty() {
        result.insert("floor".into(), floor.into());
    }
    result.into()
}

/// The action of merged verdict rules alone, without coverage, tenant and mode.
fn highest(
    rules: &serde_json::Map<String, serde_json::Value>,
    floor: &serde_json::Map<String, serde_json::Value>,
) -> Action {
    let ignored = rules.get("ignore").and_then(|list| list.as_array());
    let ignores = |entry: &serde_json::Value| {
        let finding = entry.get("finding");
        finding.is_some_and(|id| ignored.is_some_and(|list| list.contains(id)))
    };
    let holds = |action: &Action| {
        let entries = |rules: &serde_json::Map<_, serde_json::Value>| {
            rules.get(action.name()).and_then(|list| list.as_array().cloned()).unwrap_or_default()
        };
        entries(rules).iter().any(|entry| !ignores(entry)) || !entries(floor).is_empty()
    };
    Action::ALL.into_iter().rev().find(holds).unwrap_or_default()
}

fn entries(
    unit: &Unit,
    held: &Held,
    findings: &[JudgedFinding],
    degraded: &mut Vec<Degraded>,
) -> Result<BTreeSet<Entry>, Failure> {
    let action = match held.rule.as_str() {
        "block" => Action::Block,
        "review" => Action::Review,
        "redact" => Action::Redact,
        "flag" => Action::Flag,
        _ => return Ok(BTreeSet::new()),
    };
    let layer = unit.layers.get(held.layer).cloned().unwrap_or_default();
    let mut entries = BTreeSet::new();
    for value in set(&held.value, &held.rule)? {
        let mut entry = Entry {
            action,
            code: held.rule.clone(),
            reason: String::new(),
            finding: None,
            layer: layer.clone(),
        };
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is an entry")]
        match value {
            Value::String(reason) => entry.reason = reason.as_ref().to_owned(),
            Value::Object(fields) => {
                for (key, value) in fields.iter() {
                    fill(&mut entry, key, value, (findings, &held.rule), degraded)?;
                }
                let coded = fields.iter().any(|(key, _)| key == &Value::from("code"));
                let found = entry.finding.and_then(|id| findings.get(usize::try_from(id).ok()?));
                if let (false, Some(found)) = (coded, found) {
                    entry.code = found.category.as_str().to_owned();
                }
            }
            _ => return Err(bad(Point::Verdict, &held.rule, "an entry is a text or an object")),
        }
        if entry.reason.is_empty() || entry.reason.len() > TEXT_MAX {
            degraded.push(dropped(&held.rule, "a reason is missing, no text, or too long"));
            entry.reason = format!("{} by {}", held.rule, entry.layer);
        }
        entries.insert(entry);
    }
    Ok(entries)
}

fn fill(
    entry: &mut Entry,
    key: &Value,
    value: &Value,
    (findings, rule): (&[JudgedFinding], &str),
    degraded: &mut Vec<Degraded>,
) -> Result<(), Failure> {
    let text = || value.as_string().ok().map(|text| text.as_ref().to_owned());
    match key.as_string().map(AsRef::as_ref) {
        Ok("reason") => entry.reason = text().unwrap_or_default(),
        Ok("code") => match text().filter(|code| is_code(code)) {
            Some(code) => entry.code = code,
            None => degraded.push(dropped(rule, "a code is no dotted lower-case name")),
        },
        Ok("finding") => entry.finding = Some(finding_id(value, findings, rule)?),
        _ => {
            return Err(bad(
                Point::Verdict,
                rule,
                "an entry has a key other than reason, finding, code",
            ));
        }
    }
    Ok(())
}

fn is_code(code: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    (1..=128).contains(&code.len()) && code.chars().all(plain)
}

fn finding_id(value: &Value, findings: &[JudgedFinding], rule: &str) -> Result<u32, Failure> {
    let id = value.as_u32().ok();
    id.filter(|id| usize::try_from(*id).is_ok_and(|id| id < findings.len()))
        .ok_or_else(|| bad(Point::Verdict, rule, "a finding is the id of one of `input.findings`"))
}

fn headers(value: &Value, into: &mut BTreeMap<String, String>, degraded: &mut Vec<Degraded>) {
    let Ok(fields) = value.as_object() else {
        degraded.push(dropped("headers", "it is no object"));
        return;
    };
    for (name, value) in fields.iter() {
        let pair = name.as_string().ok().zip(value.as_string().ok());
        let valid = pair.filter(|(name, value)| {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
            let own = name.to_ascii_lowercase().starts_with("x-");
            let printable = value.bytes().all(|b| (0x20..0x7f).contains(&b));
            own && name.len() <= 64
                && name.bytes().all(token)
                && value.len() <= TEXT_MAX
                && printable
        });
        match valid {
            Some((name, value)) => {
                let old = into.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
                let bytes: usize = into.iter().map(|(name, value)| name.len() + value.len()).sum();
                if into.len() <= HEADERS_MAX && bytes <= HEADERS_BYTES_MAX {
                    continue;
                }
                match old {
                    Some(old) => drop(into.insert(name.as_ref().to_owned(), old)),
                    None => drop(into.remove(name.as_ref())),
                }
                degraded.push(dropped("headers", "more than 32 headers or 4096 bytes"));
            }
            None => degraded.push(dropped("headers", "a header is no printable `X-` header")),
        }
    }
}

fn timeouts(value: serde_json::Value) -> Result<BTreeMap<DetectorName, Duration>, Failure> {
    let found: BTreeMap<DetectorName, u64> = from_json(value, "timeouts")?;
    found
        .into_iter()
        .map(|(name, ms)| match ms {
            1..=TIMEOUT_MS_MAX => Ok((name, Duration::from_millis(ms))),
            _ => Err(bad(Point::Plan, "timeouts", "a time-out is 1 to 300000 ms")),
        })
        .collect()
}

fn thresholds(value: serde_json::Value) -> Result<BTreeMap<String, f64>, Failure> {
    let found: BTreeMap<String, f64> = from_json(value, "thresholds")?;
    let sound = |(name, share): (&String, &f64)| is_scope(name) && (0.0..=1.0).contains(share);
    match found.iter().all(sound) {
        true => Ok(found),
        false => Err(bad(Point::Plan, "thresholds", "it maps categories to numbers from 0 to 1")),
    }
}

fn is_scope(name: &str) -> bool {
    name == "*" || Category::parse(name).is_ok()
}

fn set<'a>(value: &'a Value, rule: &str) -> Result<impl Iterator<Item = &'a Value>, Failure> {
    let point = match rule {
        "deny" | "required" | "optional" | "secondary" | "skip" => Point::Plan,
        _ => Point::Verdict,
    };
    let set = value.as_set().map_err(|_| bad(point, rule, "it must be written `contains …`"))?;
    if set.len() > ENTRIES_MAX {
        return Err(bad(point, rule, "it holds too many entries"));
    }
    Ok(set.iter())
}

fn texts(value: &Value, rule: &str) -> Result<Vec<String>, Failure> {
    set(value, rule)?
        .map(|item| match item.as_string() {
            Ok(text) if !text.is_empty() && text.len() <= TEXT_MAX => Ok(text.as_ref().to_owned()),
            _ => Err(bad(Point::Plan, rule, "an entry is no text of 1 to 1000 bytes")),
        })
        .collect()
}

fn names(value: &Value, rule: &str) -> Result<Vec<DetectorName>, Failure> {
    texts(value, rule)?
        .iter()
        .map(|name| DetectorName::parse(name))
        .collect::<Result<_, _>>()
        .map_err(|error| bad(Point::Plan, rule, &error.to_string()))
}

fn typed<T: DeserializeOwned>(value: &Value, rule: &str) -> Result<T, Failure> {
    let json = to_json(value).ok_or_else(|| bad(Point::Plan, rule, "it is not plain data"))?;
    from_json(json, rule)
}

fn from_json<T: DeserializeOwned>(json: serde_json::Value, rule: &str) -> Result<T, Failure> {
    serde_json::from_value(json).map_err(|error| bad(Point::Plan, rule, &error.to_string()))
}

pub(super) fn to_json(value: &Value) -> Option<serde_json::Value> {
    bounded::is_small(value).then(|| serde_json::to_value(value).ok()).flatten()
}

/// Merges by key at every depth, the later value winning; lists are replaced.
fn lay_over(
    onto: &mut serde_json::Map<String, serde_json::Value>,
    with: serde_json::Map<String, serde_json::Value>,
) {
    for (key, value) in with {
        match (onto.get_mut(&key), value) {
            (Some(serde_json::Value::Object(old)), serde_json::Value::Object(new)) => {
                lay_over(old, new);
            }
            (_, value) => {
                onto.insert(key, value);
            }
        }
    }
}

fn bad(point: Point, rule: &str, why: &str) -> Failure {
    let why: String = why.chars().take(200).collect();
    Failure::new(point, FailureKind::BadValue, &format!("`{rule}`: {why}"))
}

fn dropped(what: &str, why: &str) -> Degraded {
    Degraded { what: "value", why: format!("`{what}` of the policy was dropped: {why}") }
}
