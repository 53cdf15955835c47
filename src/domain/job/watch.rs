//! Which workers fell silent, by the clock of whoever watches: no time of day is compared, so a clock
//! that jumps, here or elsewhere, ends no lease and keeps none.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::WorkerId;

/// What was last heard of whom, and when it was first heard here.
#[derive(Debug, Default)]
pub struct Watch {
    heard: HashMap<WorkerId, (u64, Instant)>,
}

impl Watch {
    /// Takes the workers that the store names with their beats, at `now`; those whose beat has not
    /// changed for `patience` of being watched. Whoever is not named any more is forgotten.
    pub fn silent(
        &mut self,
        workers: &[(WorkerId, u64)],
        now: Instant,
        patience: Duration,
    ) -> Vec<(WorkerId, u64)> {
        let heard: HashMap<_, _> = workers
            .iter()
            .map(|&(worker, beat)| {
                let before = self.heard.get(&worker).filter(|(known, _)| *known == beat);
                (worker, before.copied().unwrap_or((beat, now)))
            })
            .collect();
        self.heard = heard;
        let still = |&(worker, _): &(WorkerId, u64)| {
            self.heard.get(&worker).is_some_and(|&(_, since)| now - since >= patience)
        };
        workers.iter().copied().filter(still).collect()
    }
}
