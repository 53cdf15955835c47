//! What orchestrations work with, built from the settings.

use std::sync::{Arc, Mutex};

use tokio_util::task::TaskTracker;

use super::Deps;
use super::opened::{open_file, open_store};
use crate::auth;
use crate::cache::{Cache, Memory};
use crate::catalog;
use crate::detect::{DetectConfig, Detectors, VaultError, builtin};
use crate::metrics::{Metrics, MetricsError};
use crate::operations::Operations;
use crate::outbound::AllowError;
use crate::policy::Evaluator;
use crate::seal::{DataKeys, Key, SealError};
use crate::settings::Settings;
use crate::store::{Place, Store, StoreError};

/// Source revision of this build, where the builder told it.
const REVISION: &str = match option_env!("ORCHESTRATOR_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Why nothing could be built.
#[derive(Debug, thiserror::Error)]
pub enum DepsError {
    /// The store could not be opened.
    #[error("the store could not be opened: {0}")]
    Store(#[from] StoreError),
    /// `security.outbound_allow` holds something else.
    #[error("security.outbound_allow: {0}")]
    Allow(#[from] AllowError),
    /// The key of hashed placeholders could not be read or made.
    #[error("the key for hashes in redacted text: {0}")]
    Key(#[from] SealError),
    /// A key of the service could not be read or made.
    #[error(transparent)]
    Keys(#[from] auth::Refusal),
    /// Stored credentials could not be sealed anew.
    #[error("the stored credentials of detectors: {0}")]
    Vault(#[from] VaultError),
    /// The metrics could not be registered.
    #[error("the metrics could not be registered: {0}")]
    Metrics(#[from] MetricsError),
}

/// Bytes of a detector's reply.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a text that built-in detectors judge without changing threads.
const INLINE_BYTES_MAX: usize = 2_000;

impl Deps {
    /// With the store that the settings name.
    pub fn with_store(settings: Arc<Settings>) -> Result<Deps, DepsError> {
        // Before anything is opened: instances that share a database must share keys.
        let keys = (
            auth::redaction_key(&settings)?,
            auth::data_keys(&settings)?,
            auth::pepper(&settings)?,
        );
        let operations = Arc::new(Operations::default());
        let store = open_store(&settings, Some(Arc::clone(&operations)))?;
        let deps = Self::build(settings, (store, operations), keys)?;
        Ok(Deps { observing: Some(TaskTracker::new()), ..deps })
    }

    /// With a store, and keys for hashes and versions, that are gone with the process.
    pub fn without_store(settings: Arc<Settings>) -> Result<Deps, DepsError> {
        let keys = (Key::random()?, DataKeys::new(&Key::random()?, None)?, Key::random()?);
        let operations = Arc::new(Operations::default());
        let store = open_file(Place::Memory, &settings, Some(Arc::clone(&operations)))?;
        Self::build(settings, (store, operations), keys)
    }

    /// Reads the credentials that are stored for detectors, sealed anew where the data key was
    /// replaced.
    pub async fn open_credentials(&self) -> Result<(), DepsError> {
        let count = self.detectors.seal_anew(self.store.as_ref()).await?;
        if count > 0 {
            tracing::info!(
                count,
                "Credentials were sealed anew; unset ORCHESTRATION_DATA_KEY_PREVIOUS"
            );
        }
        Ok(self.detectors.load_credentials(self.store.as_ref()).await?)
    }

    fn build(
        settings: Arc<Settings>,
        (store, operations): (Arc<dyn Store>, Arc<Operations>),
        (redaction_key, keys, pepper): (Key, DataKeys, Key),
    ) -> Result<Deps, DepsError> {
        let metrics = Arc::new(Metrics::new(&settings.telemetry.tenant_labels, REVISION)?);
        let guard = Arc::new(catalog::guard(&settings)?);
        let cache = &settings.cache;
        let responses = cache
            .responses
            .then(|| -> Arc<dyn Cache> { Arc::new(Memory::new(cache.ttl.0, cache.bytes_max)) });
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let config = DetectConfig {
            guard,
            parallel_max: settings.orchestration.parallel_max,
            threads: cores,
            reply_bytes_max: REPLY_BYTES_MAX,
            inline_bytes_max: INLINE_BYTES_MAX,
            prepare: builtin::judge_of,
        };
        Ok(Deps {
            detectors: Arc::new(Detectors::new(config, keys)),
            evaluator: Evaluator::new(crate::snapshot::policy_limits(&settings))
                .recording(Arc::clone(&metrics)),
            store,
            responses,
            redaction_key,
            pepper,
            observing: None,
            metrics,
            operations,
            settings,
            served: Mutex::default(),
        })
    }
}
