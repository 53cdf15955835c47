//! The final action with its reasons: what the layers said, joined by fixed arithmetic.

use std::collections::{BTreeMap, BTreeSet};

use super::action::Action;

/// One entry of a verdict rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The rule it came from: block, review, redact or flag.
    pub action: Action,
    /// Machine-readable reason: the finding's category, else the rule's name.
    pub code: String,
    /// For people.
    pub reason: String,
    /// The finding it speaks of.
    pub finding: Option<u32>,
    /// The layer that said so: `base`, a bundle, `tenants.<t>.<b>`, `floor`.
    pub layer: String,
}

/// What the rules of a verdict point answered, after every value was checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VerdictRules {
    /// Entries of base, bundle and overlay; `ignore` silences those with a finding in it.
    pub entries: BTreeSet<Entry>,
    /// Findings to ignore.
    pub ignore: BTreeSet<u32>,
    /// Entries of the floor, on raw findings; nothing silences them.
    pub floor: BTreeSet<Entry>,
    /// Merged obligations.
    pub obligations: serde_json::Map<String, serde_json::Value>,
    /// Merged response headers.
    pub headers: BTreeMap<String, String>,
}

/// Whether the action is enforced or only reported.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The answer carries the full action.
    #[default]
    Enforce,
    /// The answer carries the floor's action, and the full one as `would`.
    Monitor,
}

/// One reason of the answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    /// Such as `pii.email` or `coverage.incomplete`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// What the caller is told to do.
    pub action: Action,
    /// What it would be without monitor mode.
    pub would: Option<Action>,
    /// Why, strictest first; one per distinct code and message.
    pub reasons: Vec<Reason>,
    /// Findings to redact, ids; whatever the action.
    pub redact: BTreeSet<u32>,
    /// Raw findings the floor wants redacted: indexes into the raw list of the floor's document.
    pub floor_redact: BTreeSet<u32>,
    /// For the caller.
    pub obligations: serde_json::Map<String, serde_json::Value>,
    /// For the response.
    pub headers: BTreeMap<String, String>,
}

/// What joins with the rules' entries to make the action.
#[derive(Debug, Clone, Copy)]
pub struct Joined {
    /// The tenant's action for incomplete coverage, where coverage is incomplete.
    pub incomplete: Option<Action>,
    /// At least this, because the plan point failed.
    pub plan_failure: Option<Action>,
    /// The tenant's mode.
    pub mode: Mode,
}
