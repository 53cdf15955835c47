//! Engines that are ready to answer, of the units that were asked last.
//!
//! A prepared engine holds about seventy times the text of its rules, so tenants' own are kept for
//! a limited number of units; the others are compiled again when they are asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use regorus::{Engine, Value};

use crate::domain::digest::Digest;

/// Engines by unit. It survives reloads.
pub(super) struct Prepared {
    max: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    engines: HashMap<Digest, (u64, Engine)>,
    /// Units by the time of their last use.
    used: BTreeMap<u64, Digest>,
    time: u64,
}

impl Prepared {
    /// Keeps the engines of at most `max` units.
    pub(super) fn new(max: usize) -> Self {
        Self { max, shelf: Mutex::default() }
    }

    pub(super) fn get(&self, unit: Digest) -> Option<Engine> {
        let mut shelf = self.shelf();
        let time = shelf.tick();
        let (used, engine) = shelf.engines.get_mut(&unit)?;
        let (before, engine) = (std::mem::replace(used, time), engine.clone());
        shelf.used.remove(&before);
        shelf.used.insert(time, unit);
        Some(engine)
    }

    /// Keeps an engine, without its last document, in the place of the one longest unused.
    pub(super) fn put(&self, unit: Digest, mut engine: Engine) {
        engine.set_input(Value::Undefined);
        let mut gone = Vec::new();
        let mut shelf = self.shelf();
        let time = shelf.tick();
        if let Some((before, engine)) = shelf.engines.insert(unit, (time, engine)) {
            shelf.used.remove(&before);
            gone.push(engine);
        }
        shelf.used.insert(time, unit);
        while shelf.engines.len() > self.max {
            let Some((_, oldest)) = shelf.used.pop_first() else { break };
            gone.extend(shelf.engines.remove(&oldest).map(|(_, engine)| engine));
        }
        // Dropping an engine takes long; nobody waits for it.
        drop(shelf);
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.shelf().engines.len()
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }
}
