//! A bounded queue in front of one writer thread that commits many rows at once.
//!
//! While one batch is committed, the next one gathers. Nobody is told of success before the commit.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// Rows per transaction at most.
const BATCH_ROWS_MAX: usize = 256;

/// Tells the waiting caller; `Some` is the failure of the whole batch.
pub(super) type Finish = Box<dyn FnOnce(Option<&StoreError>) + Send>;

/// One row's work: writes inside the transaction, where one could be begun, and returns who is to be
/// told after the commit.
pub(super) type Job = Box<dyn FnOnce(Option<&Connection>) -> Finish + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
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
}

impl Queue {
    pub(super) fn new(rows_max: usize) -> Arc<Queue> {
        Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), rows_max })
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
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes no more jobs; the writer ends once the queue is empty.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The writer thread's life.
    pub(super) fn write_until_closed(&self, mut connection: Connection) {
        while let Some(batch) = self.next_batch() {
            commit(&mut connection, batch);
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
        let rows = state.jobs.len().min(BATCH_ROWS_MAX);
        Some(state.jobs.drain(..rows).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn commit(connection: &mut Connection, batch: Vec<Job>) {
    let mut waiting = Vec::with_capacity(batch.len());
    let failure = write_all(connection, batch, &mut waiting).err();
    for finish in waiting {
        finish(failure.as_ref());
    }
}

fn write_all(
    connection: &mut Connection,
    batch: Vec<Job>,
    waiting: &mut Vec<Finish>,
) -> Result<(), StoreError> {
    const DOING: &str = "committing a batch";
    let failed = |error: rusqlite::Error| StoreError::of(DOING, &error);
    let behavior = TransactionBehavior::Immediate;
    let transaction = match connection.transaction_with_behavior(behavior) {
        Ok(transaction) => transaction,
        Err(error) => {
            waiting.extend(batch.into_iter().map(|job| job(None)));
            return Err(failed(error));
        }
    };
    let mut jobs = batch.into_iter();
    while let Some(job) = jobs.next() {
        waiting.push(job(Some(&transaction)));
        // SQLite rolls everything back on a full disk; what followed would run on its own.
        if transaction.is_autocommit() {
            waiting.extend(jobs.map(|job| job(None)));
            let reason = "the database rolled the batch back; free or replace the disk".into();
            return Err(StoreError::Failed { doing: DOING, reason });
        }
    }
    transaction.commit().map_err(failed)
}
