//! The final action with its reasons: what the layers said, joined by fixed arithmetic.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::action::Action;
use super::coverage::Coverage;
use super::judgement::{JudgedFinding, Judgement};

#[cfg(test)]
mod tests;

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
    /// The tenant's action where coverage is incomplete.
    pub on_incomplete: Action,
    /// The floor's, where its own demand is not met, for a mode that heeds the floor alone;
    /// `None` takes the tenant's, at most review.
    pub floor_on_incomplete: Option<Action>,
    /// At least this, because the plan point failed.
    pub plan_failure: Option<Action>,
    /// The tenant's mode.
    pub mode: Mode,
}

/// Joins what the layers said with what must hold whatever they say.
///
/// The action is the highest that somebody asks for. `raw` are the findings of the floor's
/// document. An entry that names a finding outside its list counts: tightening never gets lost.
pub fn join(
    rules: &VerdictRules,
    judgement: &Judgement,
    raw: &[JudgedFinding],
    coverage: &Coverage,
    joined: Joined,
) -> Verdict {
    let heeded = rules.entries.iter().filter(|entry| {
        let ignored = entry.finding.is_some_and(|id| rules.ignore.contains(&id));
        let cleared = entry.action != Action::Redact
            && found(entry, &judgement.findings).is_some_and(|finding| !finding.standing);
        !ignored && !cleared
    });
    let mut said = Said::default();
    let mut redact = said.add(heeded, &judgement.findings);
    let mut floor = Said::default();
    let floor_redact = floor.add(rules.floor.iter(), raw);
    for (category, _) in judgement.scopes.iter().filter(|(_, state)| state.needs_review()) {
        let message = format!("detectors do not settle {category}");
        said.reason(Action::Review, &format!("unresolved.{category}"), &message);
    }
    if !coverage.complete {
        let message = "not everything required was judged";
        said.reason(joined.on_incomplete, "coverage.incomplete", message);
    }
    if let Some(action) = joined.plan_failure {
        said.reason(action, "policy.plan_failed", "the default plan was used: the policy's failed");
    }
    let full = said.action.max(floor.action);
    if !coverage.floor_complete {
        let least = joined.floor_on_incomplete.unwrap_or(joined.on_incomplete.min(Action::Review));
        floor.action = floor.action.max(least);
    }
    let (action, would) = match joined.mode {
        Mode::Enforce => (full, None),
        Mode::Monitor => (floor.action, Some(full)),
    };
    if would.is_some() && action == Action::Redact {
        // The floor's redaction is enforced, and only that.
        redact.clear();
    }
    said.reasons.append(&mut floor.reasons);
    Verdict {
        action,
        would,
        reasons: distinct(said.reasons),
        redact,
        floor_redact,
        obligations: rules.obligations.clone(),
        headers: rules.headers.clone(),
    }
}

/// The highest action asked for, and every reason.
#[derive(Default)]
struct Said {
    action: Action,
    reasons: BTreeSet<(Reverse<Action>, String, String)>,
}

impl Said {
    /// Adds entries about `findings`; returns which of these must be redacted. Nobody is told to
    /// redact what has no span: such an entry asks for review.
    fn add<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
        findings: &[JudgedFinding],
    ) -> BTreeSet<u32> {
        let mut redact = BTreeSet::new();
        for entry in entries {
            let place = found(entry, findings).and_then(|finding| finding.place);
            let has_span = place.is_some_and(|place| place.span.is_some());
            let action = match entry.action {
                Action::Redact if has_span => {
                    redact.extend(entry.finding);
                    Action::Redact
                }
                Action::Redact => Action::Review,
                other @ (Action::Allow | Action::Flag | Action::Review | Action::Block) => other,
            };
            self.reason(action, &entry.code, &entry.reason);
        }
        redact
    }

    fn reason(&mut self, action: Action, code: &str, message: &str) {
        self.action = self.action.max(action);
        self.reasons.insert((Reverse(action), code.to_owned(), message.to_owned()));
    }
}

fn found<'a>(entry: &Entry, findings: &'a [JudgedFinding]) -> Option<&'a JudgedFinding> {
    findings.get(entry.finding? as usize)
}

/// Strictest first; a code with the same message appears once.
fn distinct(sorted: BTreeSet<(Reverse<Action>, String, String)>) -> Vec<Reason> {
    let mut seen = BTreeSet::new();
    let unseen = sorted
        .into_iter()
        .filter(|(_, code, message)| seen.insert((code.clone(), message.clone())));
    unseen.map(|(_, code, message)| Reason { code, message }).collect()
}
