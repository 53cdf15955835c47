//! What proves a decision: its record, the log it is a leaf of, receipts, custody, verification.
//!
//! Content never comes here; a commitment to it does.

pub mod audit;
mod bare;
mod commitment;
pub mod custody;
mod held;
pub mod integrity;
mod kept;
pub mod log;
pub mod merkle;
pub mod package;
pub mod packing;
pub mod proof;
pub mod purged;
mod record;
pub mod retention;
pub mod search;
mod sequencer;
mod shapes;
pub mod spool;
mod stray;
#[cfg(test)]
mod tests;
pub mod verify;
mod writer;

pub use commitment::{commit, commit_json};
pub use kept::{Asked, Detected, DetectedFinding, Kept, KeptFinding, KeptReport, KeptStrategy};
pub use log::{Log, LogOptions, LogStats, Proof, Taken, Unrecorded};
pub use record::{Conflict, Decided, Trail, choices_kept, plan_kept, verdict_kept, write};
