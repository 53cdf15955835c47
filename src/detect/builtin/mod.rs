//! The detectors that need no other service: pure functions from a text to findings.
//!
//! Never any clock or randomness, and no I/O but reading a named model when its detector file is
//! loaded: the same text always gives the same answer.

use std::sync::Arc;

use super::Judged;
use crate::catalog::detector::{Builtin, Protocol};
use crate::catalog::{self, Detector};

mod code;
mod fixtures;
mod fold;
mod hit;
pub mod injection;
mod keywords;
mod language;
mod params;
mod pii;
mod regex;
mod secrets;
mod stretch;
mod toxicity;
mod urls;

pub use params::ParamFault;

/// A built-in detector with its checked parameters; made once per detector file.
pub struct Prepared(Judge);

enum Judge {
    Pii(pii::Pii),
    Secrets(secrets::Secrets),
    Regex(regex::Patterns),
    Keywords(keywords::Lists),
    Injection(injection::Injection),
    Toxicity(toxicity::Toxicity),
    Urls(urls::Urls),
    Language(language::Language),
    Code(code::Code),
    Fixture(fixtures::Fixture),
}

/// `prepare` in the form that the detect runtime asks for; bad parameters were refused at load.
pub fn judge_of(kind: Builtin, params: &serde_json::Value) -> Option<Arc<dyn super::Judge>> {
    prepare(kind, params).ok().map(|prepared| Arc::new(prepared) as Arc<dyn super::Judge>)
}

/// Checks the parameters of a detector file; a remote detector's are its own matter.
pub fn check(detector: &Detector) -> Result<(), catalog::ParamFault> {
    let Protocol::Builtin(kind) = &detector.protocol else { return Ok(()) };
    let checked = load(*kind, &detector.params).and_then(|()| prepare(*kind, &detector.params));
    checked.map(drop).map_err(|fault| catalog::ParamFault {
        pointer: format!("/params{}", fault.pointer),
        message: fault.message,
        hint: fault.hint,
    })
}

/// Reads the files that `params` name, which `prepare` only looks up; may take seconds.
pub fn load(kind: Builtin, params: &serde_json::Value) -> Result<(), ParamFault> {
    if kind != Builtin::PromptInjection {
        return Ok(());
    }
    injection::load(&params::Params::read(params)?)
}

/// Checks `params` and compiles what the detector needs.
pub fn prepare(kind: Builtin, params: &serde_json::Value) -> Result<Prepared, ParamFault> {
    let params = params::Params::read(params)?;
    Ok(Prepared(match kind {
        Builtin::Pii => Judge::Pii(pii::Pii::prepare(&params)?),
        Builtin::Secrets => Judge::Secrets(secrets::Secrets::prepare(&params)?),
        Builtin::Regex => Judge::Regex(regex::Patterns::prepare(&params)?),
        Builtin::Keywords => Judge::Keywords(keywords::Lists::prepare(&params)?),
        Builtin::PromptInjection => Judge::Injection(injection::Injection::prepare(&params)?),
        Builtin::Toxicity => Judge::Toxicity(toxicity::Toxicity::prepare(&params)?),
        Builtin::Urls => Judge::Urls(urls::Urls::prepare(&params)?),
        Builtin::Language => Judge::Language(language::Language::prepare(&params)?),
        Builtin::Code => Judge::Code(code::Code::prepare(&params)?),
        Builtin::Echo => Judge::Fixture(fixtures::Fixture::Echo),
        Builtin::ToxicityFixture => Judge::Fixture(fixtures::Fixture::Toxicity),
        Builtin::RegexPii => Judge::Fixture(fixtures::Fixture::RegexPii),
    }))
}

impl super::Judge for Prepared {
    fn judge(&self, text: &str) -> Judged {
        Prepared::judge(self, text)
    }

    fn judge_while(&self, text: &str, wanted: &dyn Fn() -> bool) -> Judged {
        if let Judge::Injection(injection) = &self.0 {
            return injection.judge(text, wanted);
        }
        Prepared::judge(self, text)
    }

    fn is_quick(&self) -> bool {
        !matches!(&self.0, Judge::Injection(injection) if injection.has_classifier())
    }

    fn warm(&self) {
        // The lexicon holds 19 MB and takes 20 ms: the first text that needs it pays.
        if !matches!(self.0, Judge::Toxicity(_)) {
            Prepared::judge(
                self,
                "Call +49 30 901820, 4111 1111 1111 1111, mail a@b.example: key=1",
            );
        }
    }
}

impl Prepared {
    /// Judges one text; findings come in order of position. Blocks the thread for microseconds per kilobyte.
    pub fn judge(&self, text: &str) -> Judged {
        let hits = match &self.0 {
            Judge::Fixture(fixture) => return fixture.judge(text),
            Judge::Language(language) => return language.judge(text),
            Judge::Injection(injection) => return injection.judge(text, &|| true),
            Judge::Pii(pii) => pii.find(text),
            Judge::Secrets(secrets) => secrets.find(text),
            Judge::Regex(patterns) => patterns.find(text),
            Judge::Keywords(lists) => lists.find(text),
            Judge::Toxicity(toxicity) => toxicity.find(text),
            Judge::Urls(urls) => urls.find(text),
            Judge::Code(code) => code.find(text),
        };
        Judged { findings: hit::findings(text, hits), ..Judged::default() }
    }
}

#[cfg(test)]
pub(crate) mod tests;
