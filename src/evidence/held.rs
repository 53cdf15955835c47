//! Records that neither the store nor the spool takes now. Only memory has them: bounded in bytes,
//! in their order, until one of the two has room again.

use std::collections::VecDeque;

use crate::store::Decision;

/// What a record counts beside its own bytes: its names, and what memory needs for them.
const ROW_BYTES: u64 = 512;

/// What a decision counts while it is held.
pub(super) fn bytes_of(decision: &Decision) -> u64 {
    decision.record.len() as u64 + ROW_BYTES
}

/// The records, oldest first.
pub(super) struct Held {
    rows: VecDeque<Decision>,
    bytes: u64,
    bytes_max: u64,
}

impl Held {
    pub(super) fn new(bytes_max: u64) -> Held {
        Held { rows: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Records, and what they count.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.rows.len() as u64, self.bytes)
    }

    /// Takes decisions in their order, as many as there is room for; says how many.
    pub(super) fn take(&mut self, decisions: &[&Decision]) -> usize {
        let mut taken = 0;
        for decision in decisions {
            let bytes = bytes_of(decision);
            if self.bytes + bytes > self.bytes_max {
                break;
            }
            self.bytes += bytes;
            self.rows.push_back((*decision).clone());
            taken += 1;
        }
        taken
    }

    /// At most `count` from the front.
    pub(super) fn front(&self, count: usize) -> impl Iterator<Item = &Decision> {
        self.rows.iter().take(count)
    }

    /// Forgets `count` from the front.
    pub(super) fn forget(&mut self, count: usize) {
        for decision in self.rows.drain(..count.min(self.rows.len())) {
            self.bytes -= bytes_of(&decision);
        }
        if self.rows.is_empty() {
            // What it grew to is not needed in quiet times.
            self.rows.shrink_to_fit();
        }
    }
}
