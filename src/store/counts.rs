//! What a writer did so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::WriterStats;

#[derive(Default)]
pub(super) struct Counts {
    lost: AtomicU64,
    batches: AtomicU64,
    rows: AtomicU64,
}

impl Counts {
    /// Counts a batch of `rows` that is durable.
    pub(super) fn committed(&self, rows: u64) {
        self.rows.fetch_add(rows, Relaxed);
        self.batches.fetch_add(1, Relaxed);
    }

    /// Counts lost rows and says so at 1, 2, 4, 8, … so that a flood cannot flood the log.
    pub(super) fn lose(&self, rows: u64, why: &str) {
        let before = self.lost.fetch_add(rows, Relaxed);
        let lost = before + rows;
        if rows > 0 && lost.ilog2() != before.checked_ilog2().unwrap_or(u32::MAX) {
            tracing::error!(lost, why, "Decision records were lost");
        }
    }

    pub(super) fn stats(&self, queued: usize) -> WriterStats {
        WriterStats {
            queued,
            lost: self.lost.load(Relaxed),
            batches: self.batches.load(Relaxed),
            rows: self.rows.load(Relaxed),
        }
    }
}
