//! Rows that somebody wrote into the log past the service: which they are, and what to do, for the log.

use crate::domain::log::LogId;
use crate::store::{LeafRow, StoreError};

pub(super) const DOING: &str = "appending to the log";
const REMEDY: &str = "delete the row if no copy of the store holds it, else restore the store";

/// One at a place of `log` that the next leaf or subtree takes.
pub(super) fn beyond(log: &LogId, level: u8, place: u64, size: u64) -> StoreError {
    let (log, row) = (log.as_str(), row_at(level));
    failed(format!(
        "{row} is at place {place} of log {log}, beyond its head of {size} leaves: it was written \
         past the service, or the checkpoint above it was taken away; {REMEDY}"
    ))
}

/// A leaf that bears the id of a record, and is not the leaf of that record in a log of ours.
pub(super) fn leaf(decision: &str, row: &LeafRow) -> StoreError {
    let LeafRow { place, number, .. } = row;
    let log = match &row.log {
        Some(log) => log.as_str().to_owned(),
        None => format!("number {number}, which is not among the logs,"),
    };
    failed(format!(
        "a row of leaves at place {place} of log {log} bears the id {decision} of a record that waits, \
         and is not its leaf: it was written past the service; {REMEDY}; where the log was yours \
         before, name its public key in evidence.known_keys"
    ))
}

/// A row of decisions that bears the id of a record without a leaf.
pub(super) fn decision(decision: &str) -> StoreError {
    failed(format!(
        "a row of decisions bears the id {decision} of a record that waits, and has no leaf: it was \
         written past the service; {REMEDY}"
    ))
}

/// The leaf of a record is there, and its row of decisions is not.
pub(super) fn without_row(decision: &str, row: &LeafRow) -> StoreError {
    let place = row.place;
    failed(format!(
        "the leaf of the record {decision}, at place {place}, has no row of decisions any more: it was \
         deleted past the service; restore the store"
    ))
}

/// A head that nobody signed.
pub(super) fn unsigned(log: &LogId, size: u64) -> StoreError {
    let log = log.as_str();
    failed(format!(
        "the newest checkpoint of log {log}, of {size} leaves, does not bear the signature of the log: \
         it was changed or written past the service; {}",
        REMEDY.replace("the row", "its row")
    ))
}

/// A log that does not bear out its head.
pub(super) fn no_root(log: &LogId, size: u64) -> StoreError {
    let log = log.as_str();
    failed(format!(
        "the hashes of log {log} do not give the root of its head of {size} leaves; restore the store, \
         or begin a new log with another key"
    ))
}

/// A log that is shorter than it was.
pub(super) fn cut(log: &LogId, size: u64, signed: u64) -> StoreError {
    let log = log.as_str();
    failed(format!(
        "the newest checkpoint of log {log} is of {size} leaves, and this process signed one of \
         {signed}: what came between was taken away past the service; restore the store, or start the \
         service again to go on from the shorter log"
    ))
}

fn row_at(level: u8) -> String {
    match level {
        0 => "a row of leaves".to_owned(),
        _ => format!("a row of nodes (level {level})"),
    }
}

fn failed(reason: String) -> StoreError {
    StoreError::Failed { doing: DOING, reason }
}
