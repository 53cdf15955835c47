//! The five actions, from the laxest to the strictest.

use serde::{Deserialize, Serialize};

/// What the caller is told to do with the content. The order is the order of strictness.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing speaks against it.
    #[default]
    Allow,
    /// Let it pass, and note it.
    Flag,
    /// Let the redacted text pass.
    Redact,
    /// A person must look first.
    Review,
    /// Do not let it pass.
    Block,
}

impl Action {
    /// Every action, laxest first.
    pub const ALL: [Action; 5] =
        [Action::Allow, Action::Flag, Action::Redact, Action::Review, Action::Block];

    /// The name in the API and in Rego.
    pub fn name(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Flag => "flag",
            Action::Redact => "redact",
            Action::Review => "review",
            Action::Block => "block",
        }
    }

    /// The one of that name.
    pub fn parse(raw: &str) -> Option<Action> {
        Action::ALL.into_iter().find(|known| known.name() == raw)
    }

    /// Whether the content may go on (`allowed` in the answer).
    pub fn lets_pass(self) -> bool {
        self <= Action::Redact
    }
}
