//! What serves here, what was refused, and what was done to it lately.

use serde::Serialize;

use super::history::Edit;
use crate::yaml::fault::Fault;

/// What serves, and what was refused.
#[derive(Debug, Clone, Serialize)]
pub struct Generations {
    /// The snapshot that serves.
    pub revision: String,
    /// Swaps of this process.
    pub generation: u64,
    /// When it was loaded.
    pub loaded_at: String,
    /// The revision of the files as they are now; differs while they are at fault.
    pub wanted: String,
    /// Why they do not serve.
    pub faults: Vec<Fault>,
    /// What is odd but serves.
    pub warnings: Vec<Fault>,
    /// Every known instance; today this one.
    pub instances: Vec<Instance>,
    /// The last 50 edits of this process, newest first.
    pub history: Vec<Edit>,
}

/// One instance of the service.
#[derive(Debug, Clone, Serialize)]
pub struct Instance {
    /// Random, new at every start.
    pub instance: String,
    /// What serves there.
    pub revision: String,
    /// Since when.
    pub loaded_at: String,
}
