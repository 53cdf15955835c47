//! Builds the units of one load, on every core, with what they share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::prepared::Prepared;
use super::probe::Probing;
use super::unit::{Recipe, Unit};
use super::{FloorPlan, Limits, STACK_BYTES};
use crate::domain::digest::Digest;
use crate::yaml::fault::Fault;

/// What the units of one load share.
pub(super) struct Workshop<'a> {
    pub(super) limits: &'a Limits,
    pub(super) prepared: Arc<Prepared>,
    /// Floors that passed their trial, and what they demand of an empty request.
    pub(super) floors: Mutex<BTreeMap<Digest, FloorPlan>>,
}

/// Builds units on as many threads as there are cores.
pub(super) fn build_all(
    open: impl ExactSizeIterator<Item = (Recipe, serde_json::Value, Probing)> + Send,
    workshop: &Workshop<'_>,
) -> Vec<(Digest, Result<Unit, Vec<Fault>>)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(open.len());
    let open = Mutex::new(open);
    let next = || open.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut built = Vec::new();
        while let Some((recipe, settings, probing)) = next() {
            let digest = recipe.digest;
            built.push((digest, Unit::build(recipe, &settings, workshop, probing)));
        }
        built
    };
    std::thread::scope(|scope| {
        let builder = || std::thread::Builder::new().name("policy-load".into());
        let threads: Vec<_> = (0..cores)
            .filter_map(|_| builder().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok())
            .collect();
        // What a thread that failed leaves is built by whoever misses it.
        threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    })
}
