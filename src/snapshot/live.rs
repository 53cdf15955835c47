//! The snapshot that serves, and what became of the last change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;

use super::{Files, Snapshot, Sources};
use crate::settings::Settings;
use crate::yaml::fault::Fault;

/// The one holder of live state.
pub struct Live {
    current: ArcSwap<Snapshot>,
    sources: Sources,
    instance: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The revision that the files would make.
    wanted: String,
    /// Why it does not serve.
    faults: Vec<Fault>,
}

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

impl Live {
    /// Serves `first`, read from `sources`.
    pub fn new(first: Snapshot, sources: Sources) -> Self {
        let state = State { wanted: first.revision.clone(), faults: Vec::new() };
        Self {
            current: ArcSwap::from_pointee(first),
            sources,
            instance: uuid::Uuid::now_v7().to_string(),
            state: Mutex::new(state),
        }
    }

    /// The snapshot that serves now; taken once per request.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// What serves, and what was refused.
    pub fn generations(&self) -> Generations {
        let current = self.current();
        let state = self.state();
        Generations {
            revision: current.revision.clone(),
            generation: current.generation,
            loaded_at: current.loaded_at.clone(),
            wanted: state.wanted.clone(),
            faults: state.faults.clone(),
            warnings: current.warnings.clone(),
            instances: vec![Instance {
                instance: self.instance.clone(),
                revision: current.revision.clone(),
                loaded_at: current.loaded_at.clone(),
            }],
        }
    }

    pub(super) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Looks at the files; loads and swaps when they changed. `None` when nothing is new.
    pub(super) fn refresh(&self, settings: &Settings) -> Option<Result<Arc<Snapshot>, Vec<Fault>>> {
        match self.sources.read() {
            Ok(files) => self.adopt(&files, settings),
            Err(faults) => self.refuse("unreadable".into(), faults),
        }
    }

    fn adopt(
        &self,
        files: &Files,
        settings: &Settings,
    ) -> Option<Result<Arc<Snapshot>, Vec<Fault>>> {
        let wanted = files.revision().hex();
        let current = self.current();
        {
            let mut state = self.state();
            if state.wanted == wanted {
                return None;
            }
            if current.revision == wanted {
                // A refused change was taken back.
                *state = State { wanted, faults: Vec::new() };
                return Some(Ok(current));
            }
        }
        match Snapshot::from_files(files, &self.sources, settings, Some(&current)) {
            Ok(next) => {
                let next = Arc::new(next);
                self.current.store(Arc::clone(&next));
                *self.state() = State { wanted, faults: Vec::new() };
                Some(Ok(next))
            }
            Err(faults) => self.refuse(wanted, faults),
        }
    }

    fn refuse(
        &self,
        wanted: String,
        faults: Vec<Fault>,
    ) -> Option<Result<Arc<Snapshot>, Vec<Fault>>> {
        let mut state = self.state();
        if state.wanted == wanted && state.faults == faults {
            return None;
        }
        *state = State { wanted, faults: faults.clone() };
        Some(Err(faults))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
