//! How much of what had to judge did judge.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{categories_of, under};

pub struct Coverage {
    pub achieved: f64,
    pub complete: bool,
    /// Of the floor's own list enough answered, whatever else did.
    pub floor_holds: bool,
    pub code: Option<&'static str>,
}

pub struct Question<'a> {
    pub required: &'a BTreeSet<String>,
    pub answered: &'a BTreeSet<&'a str>,
    pub asked: &'a BTreeSet<String>,
    pub spec: &'a Value,
    pub threshold: f64,
    pub floor_required: &'a BTreeSet<String>,
    pub floor_least: f64,
}

pub fn measure(q: &Question<'_>) -> Coverage {
    let stood_in = |name: &String| {
        let spares = q.spec["substitutes"][name].as_array().into_iter().flatten();
        spares.into_iter().any(|s| s.as_str().is_some_and(|s| q.answered.contains(s)))
    };
    let judged: BTreeSet<&String> = q
        .required
        .iter()
        .filter(|name| q.answered.contains(name.as_str()) || stood_in(name))
        .collect();
    let achieved = match q.spec["method"].as_str().unwrap_or("required_set") {
        "weighted" | "weighted_coverage" => weighted(q, &judged),
        "taxonomy" | "taxonomy_coverage" => taxonomy(q, &judged),
        _ => required_set(q, &judged),
    };
    let floor = q.floor_required.iter().filter(|name| q.answered.contains(name.as_str())).count();
    let floor_holds =
        q.floor_required.is_empty() || share(floor, q.floor_required.len()) >= q.floor_least - 1e-9;
    let complete = achieved >= q.threshold - 1e-9 && !q.answered.is_empty() && floor_holds;
    let sent = q.asked.iter().any(|name| !categories_of(name).is_empty());
    let code = match () {
        () if complete => None,
        () if q.answered.is_empty() && !sent => Some("ALL_DETECTORS_UNAVAILABLE"),
        () if q.answered.is_empty() => Some("DETECTOR_COMMUNICATION_FAILED"),
        () => Some("PARTIAL_COVERAGE"),
    };
    Coverage { achieved, complete, floor_holds, code }
}

fn required_set(q: &Question<'_>, judged: &BTreeSet<&String>) -> f64 {
    if q.required.is_empty() {
        return f64::from(u8::from(!q.answered.is_empty()));
    }
    share(judged.len(), q.required.len())
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

fn weighted(q: &Question<'_>, judged: &BTreeSet<&String>) -> f64 {
    let weights = q.spec["weights"].as_object().filter(|weights| !weights.is_empty());
    let weight = |name: &String| {
        weights.and_then(|weights| weights.get(name)).and_then(Value::as_f64).unwrap_or(1.0)
    };
    let all: f64 = q.required.iter().map(weight).sum();
    if weights.is_none() || all == 0.0 {
        return required_set(q, judged);
    }
    (judged.iter().map(|name| weight(name)).sum::<f64>() / all).min(1.0)
}

fn taxonomy(q: &Question<'_>, judged: &BTreeSet<&String>) -> f64 {
    let listed = q.spec["categories"].as_array().into_iter().flatten();
    let mut need: BTreeSet<String> = listed.filter_map(|c| c.as_str().map(str::to_owned)).collect();
    if need.is_empty() {
        let all = q.required.iter().flat_map(|name| categories_of(name));
        need = all.map(|c| (*c).to_owned()).collect();
    }
    if need.is_empty() {
        return required_set(q, judged);
    }
    let seen: Vec<&str> = judged
        .iter()
        .map(|name| name.as_str())
        .chain(q.answered.iter().copied())
        .flat_map(|name| categories_of(name).iter().copied())
        .collect();
    let met = need.iter().filter(|need| seen.iter().any(|c| under(need, c))).count();
    share(met, need.len())
}
