//! What is wrong with a file, where, and what to do about it.

use serde::Serialize;

/// Which kind of live or static source a fault is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// `settings.yaml` or an environment variable.
    Settings,
    /// A file of `detectors/`.
    Detector,
    /// A file of `config/tenants/`.
    Tenant,
    /// `config/strategies.yaml`.
    Strategy,
    /// A file below `policies/`.
    Policy,
}

/// One fault. Errors keep the last good state serving; warnings do not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// The kind of source.
    pub kind: FaultKind,
    /// The file, as the operator would name it; for a variable, its name.
    pub file: String,
    /// 1-based line, 0 where none applies.
    pub line: u32,
    /// 1-based column in characters, 0 where none applies.
    pub column: u32,
    /// Stable snake_case code, such as `unknown_key`.
    pub code: &'static str,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// One imperative sentence: what to change.
    pub hint: Option<String>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: {}", self.code, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}
