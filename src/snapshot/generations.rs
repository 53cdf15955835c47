//! What serves here, what was refused, and what was done to it lately.

use serde::Serialize;

use super::history::Edit;
use crate::store::{InstanceSeen, InstanceTold};
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
    /// Who says so.
    pub instance: String,
    /// Every instance over this store, by name; without the store, this one alone.
    pub instances: Vec<Instance>,
    /// Whether the store said who else there is.
    pub every_instance: bool,
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
    /// Swaps of that process.
    pub generation: u64,
    /// The revision of its files; differs from what serves while they are at fault.
    pub wanted: String,
    /// Since when it serves.
    pub loaded_at: String,
    /// When it last said so, by the store's clock.
    pub seen_at: String,
}

impl From<InstanceSeen> for Instance {
    fn from(InstanceSeen { told, seen_at_ms }: InstanceSeen) -> Instance {
        let InstanceTold { id, revision, generation, wanted, loaded_at } = told;
        let seen_at =
            super::time(jiff::Timestamp::from_millisecond(seen_at_ms).unwrap_or_default());
        Instance { instance: id, revision, generation, wanted, loaded_at, seen_at }
    }
}
