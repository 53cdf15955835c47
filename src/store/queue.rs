//! A bounded queue in front of one writer thread that commits many rows at once.
//!
//! A batch ends at 256 rows or 5 ms after its first row; a row that somebody waits for ends it as
//! soon as the thread is free. Nobody is told of success before the commit.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::counts::Counts;
use super::{StoreError, WriterStats};

/// Rows per transaction at most.
const BATCH_ROWS_MAX: usize = 256;
/// How long rows that nobody waits for may gather; they are promised within 100 ms.
const GATHER: Duration = Duration::from_millis(25);

/// Tells the waiting caller; `Some` is the failure of the whole batch.
pub(super) type Finish = Box<dyn FnOnce(Option<&StoreError>) + Send>;

/// One row's work.
pub(super) struct Job {
    /// Whether somebody waits.
    pub awaited: bool,
    /// Writes inside the transaction, returns who is to be told after the commit.
    pub write: Box<dyn FnOnce(&Connection) -> Finish + Send>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    awaited: usize,
    closed: bool,
}

/// Why a job was not taken; it gives nothing back.
pub(super) enum Refused {
    Full,
    Closed,
}

/// The shared part of queue and writer.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    rows_max: usize,
    counts: Counts,
}

impl Queue {
    pub(super) fn new(rows_max: usize) -> Arc<Queue> {
        Arc::new(Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            rows_max,
            counts: Counts::default(),
        })
    }

    /// Hands `job` to the writer without waiting.
    pub(super) fn push(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.jobs.len() >= self.rows_max {
            return Err(Refused::Full);
        }
        state.awaited += usize::from(job.awaited);
        let wake = job.awaited || state.jobs.is_empty() || state.jobs.len() + 1 == BATCH_ROWS_MAX;
        state.jobs.push_back(job);
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Counts lost rows.
    pub(super) fn count_lost(&self, rows: u64, why: &str) {
        self.counts.lose(rows, why);
    }

    pub(super) fn stats(&self) -> WriterStats {
        self.counts.stats(self.lock().jobs.len())
    }

    /// Takes no more jobs; the writer ends once the queue is empty.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The writer thread's life.
    pub(super) fn write_until_closed(&self, mut connection: Connection) {
        while let Some(batch) = self.next_batch() {
            self.commit(&mut connection, batch);
        }
    }

    fn next_batch(&self) -> Option<Vec<Job>> {
        let mut state = self.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + GATHER;
        while state.awaited == 0 && state.jobs.len() < BATCH_ROWS_MAX && !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let rows = state.jobs.len().min(BATCH_ROWS_MAX);
        let batch: Vec<Job> = state.jobs.drain(..rows).collect();
        state.awaited -= batch.iter().filter(|job| job.awaited).count();
        Some(batch)
    }

    fn commit(&self, connection: &mut Connection, batch: Vec<Job>) {
        let rows = batch.len() as u64;
        let unawaited = batch.iter().filter(|job| !job.awaited).count() as u64;
        let mut waiting = Vec::with_capacity(batch.len());
        let result = write_all(connection, batch, &mut waiting);
        match &result {
            Ok(()) => self.counts.committed(rows),
            Err(error) => self.count_lost(unawaited, &error.to_string()),
        }
        for finish in waiting {
            finish(result.as_ref().err());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_all(
    connection: &mut Connection,
    batch: Vec<Job>,
    waiting: &mut Vec<Finish>,
) -> Result<(), StoreError> {
    const DOING: &str = "committing a batch";
    let failed = |error: rusqlite::Error| StoreError::of(DOING, &error);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for job in batch {
        waiting.push((job.write)(&transaction));
        // SQLite rolls everything back on a full disk; what followed would run on its own.
        if transaction.is_autocommit() {
            let reason = "the database rolled the batch back; free or replace the disk".into();
            return Err(StoreError::Failed { doing: DOING, reason });
        }
    }
    transaction.commit().map_err(failed)
}
