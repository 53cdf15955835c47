//! The generated module that asks every layer exactly the rules it has, in one evaluation.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::layers::package;
use super::rego::Parsed;

/// What a unit is asked. The floor is asked apart, on raw findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Ask {
    Plan,
    Settle,
    Verdict,
    FloorPlan,
    FloorVerdict,
}

impl Ask {
    pub(super) const ALL: [Ask; 5] =
        [Ask::Plan, Ask::Settle, Ask::Verdict, Ask::FloorPlan, Ask::FloorVerdict];

    /// The rule of the entry module.
    pub(super) fn rule(self) -> &'static str {
        match self {
            Ask::Plan => "plan",
            Ask::Settle => "settle",
            Ask::Verdict => "verdict",
            Ask::FloorPlan => "floor_plan",
            Ask::FloorVerdict => "floor_verdict",
        }
    }

    /// The rules an author may write for it.
    pub(super) fn rules(self) -> &'static [&'static str] {
        match self {
            Ask::Plan => &[
                "deny",
                "required",
                "optional",
                "secondary",
                "skip",
                "execution",
                "stages",
                "stop_on",
                "coverage",
                "resolve",
                "timeouts",
                "thresholds",
                "params",
            ],
            Ask::Settle => &["settle"],
            Ask::Verdict => {
                &["block", "review", "redact", "flag", "ignore", "obligations", "headers"]
            }
            Ask::FloorPlan => &["required", "min_coverage", "on_incomplete"],
            Ask::FloorVerdict => &["block", "review", "redact", "flag"],
        }
    }

    pub(super) fn of_floor(self) -> bool {
        matches!(self, Ask::FloorPlan | Ask::FloorVerdict)
    }
}

/// Every rule that a layer has for an ask: the layer's index, its package, and the rule's name.
/// `layers` are earliest first.
pub(super) fn asked(
    layers: &[(Vec<String>, Vec<&Parsed>)],
) -> Vec<(Ask, usize, String, &'static str)> {
    let mut asked = Vec::new();
    for ask in Ask::ALL {
        for (index, (path, files)) in layers.iter().enumerate() {
            if ask.of_floor() != (path.as_slice() == ["floor"]) {
                continue;
            }
            for name in ask.rules() {
                let has = files.iter().flat_map(|file| &file.rules).any(|rule| {
                    rule.arity.is_none() && rule.name.first().is_some_and(|first| first == name)
                });
                if has {
                    asked.push((ask, index, package(path), *name));
                }
            }
        }
    }
    asked
}

/// The module's text, and what it can be asked.
pub(super) fn generate(layers: &[(Vec<String>, Vec<&Parsed>)]) -> (String, BTreeSet<Ask>) {
    let mut text = String::from("package entry\n\nimport rego.v1\n");
    let mut asks = BTreeSet::new();
    for (ask, index, package, name) in asked(layers) {
        asks.insert(ask);
        let rule = ask.rule();
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{rule} contains [{index}, \"{name}\", data.{package}.{name}]\n");
    }
    (text, asks)
}
