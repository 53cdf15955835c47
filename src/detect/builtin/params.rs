//! Reads the `params` of a detector file; every fault names the place and the nearest known name.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::domain::category::{Category, TREE};
use crate::domain::finding::Severity;

/// What is wrong with `params`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("params{pointer}: {message}")]
pub struct ParamFault {
    /// JSON pointer inside `params`.
    pub pointer: String,
    /// What is wrong, without a full stop.
    pub message: String,
    /// One imperative sentence.
    pub hint: String,
}

/// An object of parameters and where it stands.
pub(super) struct Params {
    at: String,
    map: Map<String, Value>,
}

impl Params {
    pub(super) fn read(value: &Value) -> Result<Self, ParamFault> {
        Self::object(String::new(), value)
    }

    fn object(at: String, value: &Value) -> Result<Self, ParamFault> {
        match value {
            Value::Null => Ok(Self { at, map: Map::new() }),
            Value::Object(map) => Ok(Self { at, map: map.clone() }),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(fault(&at, "is not a mapping", "write `name: value` lines"))
            }
        }
    }

    /// Whether `key` is there.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// A fault of the value of `key`.
    pub(super) fn fault(&self, key: &str, message: &str, hint: &str) -> ParamFault {
        let key = key.replace('~', "~0").replace('/', "~1");
        fault(&format!("{}/{key}", self.at), message, hint)
    }

    /// Refuses keys outside `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), ParamFault> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(self.fault(key, "is not a known parameter", &nearest(key, known))),
            None => Ok(()),
        }
    }

    /// Named objects under `key`, 1..=200.
    pub(super) fn objects(&self, key: &str) -> Result<Vec<(String, Params)>, ParamFault> {
        let Some(Value::Object(map)) = self.map.get(key) else {
            return Err(self.fault(key, "is missing or not a mapping", "name each entry"));
        };
        if map.is_empty() || map.len() > 200 {
            return Err(self.fault(key, "needs 1 to 200 entries", "add or remove entries"));
        }
        let at = |name: &str| {
            format!("{}/{key}/{}", self.at, name.replace('~', "~0").replace('/', "~1"))
        };
        map.iter().map(|(name, value)| Ok((name.clone(), Self::object(at(name), value)?))).collect()
    }

    /// The strings under `key`, each 1..=1000 characters, at most 10 000; none when absent.
    pub(super) fn strings(&self, key: &str) -> Result<Vec<String>, ParamFault> {
        let wrong = || {
            self.fault(
                key,
                "is not a list of texts of 1 to 1000 characters",
                "write a list such as [a, b]",
            )
        };
        let Some(value) = self.map.get(key) else { return Ok(Vec::new()) };
        let list = value.as_array().filter(|list| list.len() <= 10_000).ok_or_else(wrong)?;
        list.iter()
            .map(|item| item.as_str().filter(|text| (1..=1000).contains(&text.chars().count())))
            .map(|item| item.map(str::to_owned).ok_or_else(wrong))
            .collect()
    }

    /// The strings under `key`, each one of `known`; all of `known` when absent.
    pub(super) fn choice(
        &self,
        key: &str,
        known: &[&'static str],
    ) -> Result<Vec<&'static str>, ParamFault> {
        let given = self.strings(key)?;
        if given.is_empty() {
            return Ok(known.to_vec());
        }
        let pick = |name: &String| {
            known
                .iter()
                .copied()
                .find(|k| k == name)
                .ok_or_else(|| self.fault(key, "holds an unknown name", &nearest(name, known)))
        };
        given.iter().map(pick).collect()
    }

    /// The number under `key`, 0..=1.
    pub(super) fn score(&self, key: &str, default: f64) -> Result<f64, ParamFault> {
        match self.map.get(key) {
            None => Ok(default),
            Some(value) => {
                value.as_f64().filter(|score| (0.0..=1.0).contains(score)).ok_or_else(|| {
                    self.fault(key, "is not a number from 0 to 1", "write a number such as 0.8")
                })
            }
        }
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, ParamFault> {
        match self.map.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.fault(key, "is not true or false", "write true or false")),
        }
    }

    pub(super) fn index(&self, key: &str) -> Result<usize, ParamFault> {
        match self.map.get(key) {
            None => Ok(0),
            Some(value) => value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| {
                self.fault(
                    key,
                    "is not a whole number",
                    "write the number of a group, 0 for the whole match",
                )
            }),
        }
    }

    /// The whole number under `key`, inside `range`.
    pub(super) fn count(
        &self,
        key: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize, ParamFault> {
        let Some(value) = self.map.get(key) else { return Ok(default) };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            let message = format!("is not a whole number from {least} to {most}");
            self.fault(key, &message, &format!("write a number such as {default}"))
        })
    }

    pub(super) fn text(&self, key: &str) -> Result<&str, ParamFault> {
        self.map
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.fault(key, "is missing or not a text", "add it"))
    }

    pub(super) fn category(&self) -> Result<Category, ParamFault> {
        let name = self.text("category")?;
        Category::parse(name)
            .map_err(|error| self.fault("category", &error.to_string(), &nearest(name, TREE)))
    }

    pub(super) fn severity(&self) -> Result<Severity, ParamFault> {
        self.severity_or("severity", Severity::Medium)
    }

    pub(super) fn severity_or(&self, key: &str, default: Severity) -> Result<Severity, ParamFault> {
        match self.map.get(key) {
            None => Ok(default),
            Some(value) => serde_json::from_value(value.clone()).map_err(|_| {
                self.fault(key, "is no severity", "write low, medium, high or critical")
            }),
        }
    }
}

/// `my-list` as `MY_LIST`.
pub(super) fn label(name: &str) -> std::sync::Arc<str> {
    name.chars()
        .map(|c| if c.is_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect::<String>()
        .into()
}

fn fault(pointer: &str, message: &str, hint: &str) -> ParamFault {
    ParamFault { pointer: pointer.to_owned(), message: message.to_owned(), hint: hint.to_owned() }
}

fn nearest(name: &str, known: &[&str]) -> String {
    match known
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)))
    {
        Some(nearest) => format!("use `{nearest}`"),
        None => "remove it".to_owned(),
    }
}
