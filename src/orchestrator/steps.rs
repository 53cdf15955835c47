//! How far an orchestration is, for who watches it, and whether it is worth being watched.

use std::time::Duration;

use super::{Run, facts};
use crate::domain::outcome::Outcome;
use crate::domain::plan::Plan;

/// What is done of an orchestration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is known who will be asked.
    Planned,
    /// All who were asked have answered, or will not.
    Asked,
    /// The policy has decided; what is left is to put it on record.
    Decided,
}

/// Who watches.
#[derive(Clone, Copy, Default)]
pub struct Steps<'a> {
    /// Told of every step; must not block.
    pub told: Option<&'a (dyn Fn(Step) + Send + Sync)>,
    /// Beyond it nothing is begun.
    pub patience: Option<Duration>,
}

/// How an orchestration went.
#[derive(Debug)]
pub enum Ran {
    /// To its end.
    Outcome(Box<Outcome>),
    /// It was not begun: it would take so long.
    Postponed(Duration),
}

impl Steps<'_> {
    pub(super) fn tell(&self, step: Step) {
        if let Some(told) = self.told {
            told(step);
        }
    }

    /// How long it would take, where that is too long.
    pub(super) fn postpones(&self, run: &Run<'_>, plan: &Plan) -> Option<Duration> {
        let patience = self.patience?;
        facts::projected(run, plan).filter(|projected| *projected > patience)
    }
}
