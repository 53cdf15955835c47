//! Which numbers, words and flags are a score, and on which scale.

use serde_json::Value;

use super::keys::order;
use super::shape::Kind;

/// A number that is a score.
pub(super) struct Score {
    /// How telling its name is; less is more.
    pub(super) order: usize,
    pub(super) transform: Option<&'static str>,
    pub(super) why: String,
}

const NAMES: [&str; 13] = [
    "score", "confiden", "prob", "certain", "severity", "sever", "likel", "level", "risk",
    "percent", "pct", "weight", "value",
];
const SEVERITIES: [&str; 4] = ["low", "medium", "high", "critical"];
/// Words of scales that vendors use, and what they are worth.
const SCALE: [(&str, f64); 14] = [
    ("none", 0.0),
    ("negligible", 0.0),
    ("safe", 0.0),
    ("very_unlikely", 0.1),
    ("unlikely", 0.25),
    ("low", 0.4),
    ("possible", 0.5),
    ("moderate", 0.6),
    ("medium", 0.6),
    ("likely", 0.75),
    ("high", 0.85),
    ("very_likely", 0.95),
    ("severe", 0.95),
    ("critical", 1.0),
];

/// Reads the values at `path`, of the planted and of the clean text, as a score.
pub(super) fn number(path: &str, values: &[&Value], kind: Kind) -> Option<Score> {
    let numbers: Vec<f64> = values.iter().filter_map(|value| value.as_f64()).collect();
    if numbers.len() != values.len() || numbers.is_empty() {
        return None;
    }
    let named = order(path, &NAMES);
    let own = path.is_empty() && kind != Kind::List;
    let fractions = numbers.iter().any(|n| n.fract() != 0.0);
    let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if named == NAMES.len() && !own && !(fractions && low >= 0.0 && high <= 1.0) {
        return None;
    }
    let graded = path.to_ascii_lowercase().contains("sever") || path.contains("level");
    let percent = order(path, &["percent", "pct"]) < 2;
    let seen = if low < high { format!("{low} to {high} seen") } else { format!("{high} seen") };
    let (transform, why) = match high {
        _ if low < -1.0 || high > 100.0 => return None,
        _ if low < 0.0 => (Some("risk"), format!("{seen}, below 0 is harmless")),
        _ if percent => (Some("percent"), seen),
        high if high <= 1.0 && (fractions || !graded) => (None, seen),
        high if high <= 7.0 && graded => (Some("severity"), format!("{seen}, a grade of 0 to 7")),
        high if high <= 7.0 && !fractions => {
            (Some("severity"), format!("{seen}, taken for 0 to 7; `percent` if it is 0 to 100"))
        }
        _ => (Some("percent"), format!("{seen}, taken for 0 to 100")),
    };
    Some(Score { order: if own { 0 } else { named }, transform, why })
}

/// Whether all are one of our severities.
pub(super) fn is_severity(values: &[(usize, &Value)]) -> bool {
    let known = |word: &str| SEVERITIES.contains(&word.to_ascii_lowercase().as_str());
    values.iter().all(|(_, value)| value.as_str().is_some_and(known))
}

/// Whether all are words of a scale.
pub(super) fn is_scale(values: &[(usize, &Value)]) -> bool {
    values.iter().all(|(_, value)| value.as_str().is_some_and(|word| worth(word).is_some()))
}

fn worth(word: &str) -> Option<f64> {
    let word = word.to_ascii_lowercase().replace(['-', ' '], "_");
    SCALE.iter().find(|(name, _)| *name == word).map(|(_, worth)| *worth)
}

/// The whole scale in the writing that was seen.
pub(super) fn scale(values: &[(usize, &Value)]) -> String {
    let upper = values.iter().any(|(_, value)| {
        value.as_str().is_some_and(|word| !word.contains(|c: char| c.is_ascii_lowercase()))
    });
    let mut words: Vec<(String, f64)> = SCALE
        .iter()
        .map(|(name, worth)| (if upper { name.to_uppercase() } else { (*name).into() }, *worth))
        .collect();
    for seen in values.iter().filter_map(|(_, value)| value.as_str()) {
        if let (Some(worth), false) = (worth(seen), words.iter().any(|(name, _)| name == seen)) {
            words.push((seen.to_owned(), worth));
        }
    }
    let entries: Vec<String> = words
        .iter()
        .map(|(name, worth)| format!("{}: {worth}", super::file::scalar(name)))
        .collect();
    format!("{{enum: {{{}}}}}", entries.join(", "))
}
