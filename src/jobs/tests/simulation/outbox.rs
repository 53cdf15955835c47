//! What each instance does with events, as [`crate::events`] does it: it numbers them, hands over those
//! that nobody marked, and marks them. It may fall at any point between, and others may do the same.

use super::world::{Call, What, World};
use crate::store::memory::Kept;

/// Events of one step.
const BATCH: usize = 256;
const POLL_MS: u64 = 1_000;
const SWEEP_MS: i64 = 5_000;

/// Where a publisher stands.
#[derive(Debug)]
pub(super) enum Handing {
    /// It looks what there is.
    Look,
    /// It hands these over, from a place on.
    Over(Vec<(u64, Kept)>, usize),
    /// All of these were taken.
    Mark(Vec<(u64, Kept)>),
}

impl World {
    pub(super) fn publish(&mut self, at: usize, handing: Handing) {
        match handing {
            Handing::Look => {
                let mut numbered = 0;
                loop {
                    let some = self.store.number_events(BATCH);
                    numbered += some;
                    if some < BATCH {
                        break;
                    }
                }
                let swept = self.instances[at].swept_ms;
                if numbered == 0 && self.now - swept < SWEEP_MS {
                    return self.at(POLL_MS, at, What::Publish(Handing::Look));
                }
                self.instances[at].swept_ms = self.now;
                self.hand_over(at);
            }
            Handing::Over(events, from) => self.over(at, events, from),
            Handing::Mark(events) => {
                let call = self.call();
                if call != Call::LostOnTheWay {
                    let places: Vec<u64> = events.iter().map(|(place, _)| *place).collect();
                    self.store.mark_published(&places);
                }
                match call == Call::Heard && events.len() == BATCH {
                    true => self.hand_over(at),
                    false => self.at(POLL_MS, at, What::Publish(Handing::Look)),
                }
            }
        }
    }

    fn hand_over(&mut self, at: usize) {
        let events = self.store.unpublished(BATCH);
        match events.is_empty() {
            true => self.at(POLL_MS, at, What::Publish(Handing::Look)),
            false => self.at(1, at, What::Publish(Handing::Over(events, 0))),
        }
    }

    /// In two parts, so that another may come between; now and then the bus takes no more.
    fn over(&mut self, at: usize, mut events: Vec<(u64, Kept)>, from: usize) {
        let upto = if from == 0 { events.len().div_ceil(2) } else { events.len() };
        for (_, kept) in &events[from..upto] {
            self.checks.heard(kept);
        }
        let after = 1 + self.random.below(20);
        if self.random.chance(0.02) {
            self.checks.count("bus: away");
            events.truncate(upto);
        }
        let next =
            if upto < events.len() { Handing::Over(events, upto) } else { Handing::Mark(events) };
        self.at(after, at, What::Publish(next));
    }
}
