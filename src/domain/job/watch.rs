//! Which workers fell silent, by what whoever watches has seen: no time of day is compared, so a clock
//! that jumps, here or elsewhere, ends no lease and keeps none, and the time in which nobody could look
//! is nobody's silence.

use std::collections::HashMap;

use super::WorkerId;

/// What was last heard of whom, and at how many looks since it was still the same.
#[derive(Debug, Default)]
pub struct Watch {
    heard: HashMap<WorkerId, (u64, u32)>,
}

impl Watch {
    /// Takes the workers that the store names with their beats; those whose beat was the same at the
    /// last `patience` looks. Whoever is not named any more is forgotten.
    pub fn silent(&mut self, workers: &[(WorkerId, u64)], patience: u32) -> Vec<(WorkerId, u64)> {
        let heard: HashMap<_, _> = workers
            .iter()
            .map(|&(worker, beat)| {
                let before = self.heard.get(&worker).filter(|(known, _)| *known == beat);
                let still = before.map_or(0, |(_, still)| still.saturating_add(1));
                (worker, (beat, still))
            })
            .collect();
        self.heard = heard;
        let silent = |&(worker, _): &(WorkerId, u64)| {
            self.heard.get(&worker).is_some_and(|&(_, still)| still >= patience)
        };
        workers.iter().copied().filter(silent).collect()
    }

    /// A look failed: what keeps one from looking keeps others from beating.
    pub fn blinded(&mut self) {
        self.heard.clear();
    }
}
