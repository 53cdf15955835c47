//! The detectors that need no other service: pure functions from a text to findings.
//!
//! Never any I/O, clock or randomness: the same text always gives the same answer.

use std::sync::Arc;

use crate::catalog::detector::Builtin;
use crate::domain::finding::Finding;

mod fixtures;
mod fold;
mod hit;
mod keywords;
mod params;
mod pii;
mod regex;
mod secrets;

pub use params::ParamFault;

/// A built-in detector with its checked parameters; made once per detector file.
pub struct Prepared(Judge);

enum Judge {
    Pii(pii::Pii),
    Secrets(secrets::Secrets),
    Regex(regex::Patterns),
    Keywords(keywords::Lists),
    Fixture(fixtures::Fixture),
}

/// What a built-in detector says of one text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdictless {
    /// The fixtures' own word; `None` where the findings decide.
    pub label: Option<Arc<str>>,
    /// The score of `label`.
    pub score: Option<f64>,
    /// In order of position, all with piece 0.
    pub findings: Vec<Finding>,
}

/// Checks `params` and compiles what the detector needs.
pub fn prepare(kind: Builtin, params: &serde_json::Value) -> Result<Prepared, ParamFault> {
    let params = params::Params::read(params)?;
    Ok(Prepared(match kind {
        Builtin::Pii => Judge::Pii(pii::Pii::prepare(&params)?),
        Builtin::Secrets => Judge::Secrets(secrets::Secrets::prepare(&params)?),
        Builtin::Regex => Judge::Regex(regex::Patterns::prepare(&params)?),
        Builtin::Keywords => Judge::Keywords(keywords::Lists::prepare(&params)?),
        Builtin::Echo => Judge::Fixture(fixtures::Fixture::Echo),
        Builtin::ToxicityFixture => Judge::Fixture(fixtures::Fixture::Toxicity),
        Builtin::RegexPii => Judge::Fixture(fixtures::Fixture::RegexPii),
    }))
}

impl Prepared {
    /// Judges one text. Blocks the thread for microseconds per kilobyte.
    pub fn judge(&self, text: &str) -> Verdictless {
        let hits = match &self.0 {
            Judge::Fixture(fixture) => return fixture.judge(text),
            Judge::Pii(pii) => pii.find(text),
            Judge::Secrets(secrets) => secrets.find(text),
            Judge::Regex(patterns) => patterns.find(text),
            Judge::Keywords(lists) => lists.find(text),
        };
        Verdictless { findings: hit::findings(text, hits), ..Verdictless::default() }
    }
}

#[cfg(test)]
pub(crate) mod tests;
