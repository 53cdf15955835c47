//! What orchestrations work with, built from the settings.

use std::sync::Arc;

use super::Deps;
use crate::detect::{DetectConfig, Detectors};
use crate::metrics::Metrics;
use crate::outbound::Guard;
use crate::policy::Evaluator;
use crate::settings::Settings;
use crate::store::{Place, Sqlite, SqliteOptions, StoreError};

/// Why nothing could be built.
#[derive(Debug, thiserror::Error)]
pub enum DepsError {
    /// The store could not be opened.
    #[error("the store could not be opened: {0}")]
    Store(#[from] StoreError),
}

impl Deps {
    /// With the store in the data folder.
    pub fn with_store(settings: Arc<Settings>) -> Result<Deps, DepsError> {
        let place = Place::File(settings.paths.data.join("orchestrator.db"));
        Self::build(settings, place)
    }

    /// With a store that is gone with the process.
    pub fn without_store(settings: Arc<Settings>) -> Result<Deps, DepsError> {
        Self::build(settings, Place::Memory)
    }

    fn build(settings: Arc<Settings>, place: Place) -> Result<Deps, DepsError> {
        let store = Sqlite::open(&SqliteOptions::at(place))?;
        let guard = Guard::new(settings.guard());
        let config = DetectConfig {
            guard,
            parallel_max: settings.orchestration.parallel_max,
        };
        Ok(Deps {
            detectors: Detectors::new(config),
            evaluator: Evaluator::new(crate::snapshot::policy_limits(&settings)),
            store: Arc::new(store),
            metrics: Arc::new(Metrics::new()),
            settings,
        })
    }
}
