//! What orchestrations work with, built from the settings.

use std::sync::{Arc, Mutex};

use tokio_util::task::TaskTracker;

use super::Deps;
use super::data::{lost_keys, sealed_jobs};
use super::opened::{look_at_database, open_file, open_log, open_store};
use crate::auth;
use crate::bus::{Announcer, Bus, Local, Nats, NatsError, NatsOptions};
use crate::cache::{Cache, Memory, Redis, RedisError, RedisOptions};
use crate::catalog;
use crate::detect::{DetectConfig, Detectors, VaultError, builtin};
use crate::evidence::custody::Custodian;
use crate::metrics::{Metrics, MetricsError};
use crate::operations::Operations;
use crate::outbound::AllowError;
use crate::policy::Evaluator;
use crate::seal::{DataKeys, Key, SealError, Signer};
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
    /// What instances share cannot be used.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The bus cannot be used.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// A key of the service could not be read or made.
    #[error(transparent)]
    Keys(#[from] auth::Refusal),
    /// Stored credentials could not be sealed anew.
    #[error("the stored credentials of detectors: {0}")]
    Vault(#[from] VaultError),
    /// The file in which records wait could not be opened.
    #[error("the evidence spool below paths.data: {0}")]
    Spool(#[source] std::io::Error),
    /// The metrics could not be registered.
    #[error("the metrics could not be registered: {0}")]
    Metrics(#[from] MetricsError),
}

/// Every reason to refuse a start that the settings and the files they name hold: nothing is made,
/// stored or asked over a network.
pub async fn look(settings: &Settings) -> Vec<DepsError> {
    let mut refusals: Vec<DepsError> =
        auth::look(settings).await.into_iter().map(Into::into).collect();
    refusals.extend(look_at_database(settings).err().map(DepsError::Store));
    match metrics(settings) {
        Ok(metrics) => {
            let key = Key::from_bytes([0; 32]);
            refusals.extend(redis(settings, &metrics, || Ok(key)).err());
            refusals.extend(bus(settings, &metrics).err());
        }
        Err(error) => refusals.push(error.into()),
    }
    refusals
}

/// Bytes of a detector's reply.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a text that built-in detectors judge without changing threads.
const INLINE_BYTES_MAX: usize = 2_000;

impl Deps {
    /// With the store that the settings name.
    pub fn with_store(settings: Arc<Settings>) -> Result<Deps, DepsError> {
        for (_, lost) in lost_keys(&settings)? {
            tracing::warn!("{lost}");
        }
        // Before anything is opened: instances that share a database must share keys.
        let keys = (
            auth::redaction_key(&settings)?,
            auth::data_keys(&settings)?,
            auth::pepper(&settings)?,
        );
        // What fails here is told by whoever opens the first file in it.
        let _ = crate::store::make_folder(&settings.paths.data);
        let metrics = metrics(&settings)?;
        let redis = redis(&settings, &metrics, || auth::redis_key(&settings))?;
        let operations = Arc::new(Operations::default());
        let key = auth::evidence_key(&settings)?;
        let signer = Signer::of(&key)?;
        let custodian = Custodian::new(Signer::of(&key)?).believing(&settings.evidence.known());
        let store = open_store(&settings, Some(Arc::clone(&operations)))?;
        let shared = (metrics, redis);
        let deps = Self::build(settings, (store, operations), keys, (shared, custodian))?;
        let log = open_log(&deps, signer).map_err(DepsError::Spool)?;
        Ok(Deps { observing: Some(TaskTracker::new()), log: Some(log), ..deps })
    }

    /// With a store, and keys for hashes and versions, that are gone with the process. Decisions are
    /// not put on record.
    pub fn without_store(settings: Arc<Settings>) -> Result<Deps, DepsError> {
        let keys = (Key::random()?, DataKeys::new(&Key::random()?, None)?, Key::random()?);
        let operations = Arc::new(Operations::default());
        let store = open_file(Place::Memory, &settings, Some(Arc::clone(&operations)))?;
        let shared = (metrics(&settings)?, None);
        let custodian = Custodian::new(Signer::of(&Key::random()?)?);
        Self::build(settings, (store, operations), keys, (shared, custodian))
    }

    /// Says which logs of the store are none of this service's: of an earlier key, or of a stranger;
    /// and what of jobs is sealed under another data key.
    pub async fn tell_of_other_keys(&self) -> Result<(), DepsError> {
        let logs = self.store.logs().await?.into_iter();
        for strange in logs.filter(|key| !self.custodian.believes(&key.log)) {
            let (log, public_key) = (strange.log.as_str(), hex::encode(strange.public_key));
            tracing::warn!(
                log,
                public_key,
                "A log in the store is of another key and is not believed; name the key in \
                 evidence.known_keys if it was yours"
            );
        }
        let seals = self.store.job_seals().await?;
        if let Some(what) = sealed_jobs(&seals, &auth::data_keys(&self.settings)?) {
            tracing::warn!("{what}");
        }
        Ok(())
    }

    /// Reads the credentials that are stored for detectors, sealed anew where the data key was
    /// replaced.
    pub async fn open_credentials(&self) -> Result<(), DepsError> {
        let count = self.detectors.seal_anew(self.store.as_ref()).await?;
        if count > 0 {
            tracing::info!(
                count,
                "Credentials were sealed anew; ORCHESTRATION_DATA_KEY_PREVIOUS is needed for jobs only"
            );
        }
        Ok(self.detectors.load_credentials(self.store.as_ref()).await?)
    }

    fn build(
        settings: Arc<Settings>,
        (store, operations): (Arc<dyn Store>, Arc<Operations>),
        (redaction_key, keys, pepper): (Key, DataKeys, Key),
        ((metrics, redis), custodian): ((Arc<Metrics>, Option<Arc<Redis>>), Custodian),
    ) -> Result<Deps, DepsError> {
        let guard = Arc::new(catalog::guard(&settings)?);
        let cache = &settings.cache;
        let responses = cache.responses.then(|| -> Arc<dyn Cache> {
            match &redis {
                Some(redis) => Arc::<Redis>::clone(redis),
                None => Arc::new(Memory::new(cache.ttl.0, cache.bytes_max)),
            }
        });
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let config = DetectConfig {
            guard,
            parallel_max: settings.orchestration.parallel_max,
            threads: cores,
            reply_bytes_max: REPLY_BYTES_MAX,
            inline_bytes_max: INLINE_BYTES_MAX,
            prepare: builtin::judge_of,
            metrics: Arc::clone(&metrics),
        };
        Ok(Deps {
            detectors: Arc::new(Detectors::new(config, keys)),
            evaluator: Evaluator::new(crate::snapshot::policy_limits(&settings))
                .recording(Arc::clone(&metrics)),
            store,
            log: None,
            custodian,
            responses,
            redis,
            bus: bus(&settings, &metrics)?,
            announcer: Arc::new(Announcer::default()),
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

fn metrics(settings: &Settings) -> Result<Arc<Metrics>, MetricsError> {
    Ok(Arc::new(Metrics::new(&settings.telemetry.tenant_labels, REVISION)?))
}

/// What instances share and may forget, if the settings name it. Connects to nothing.
fn redis(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    key: impl FnOnce() -> Result<Key, auth::Refusal>,
) -> Result<Option<Arc<Redis>>, DepsError> {
    let Some(url) = &settings.redis.url else { return Ok(None) };
    let redis = Redis::new(RedisOptions {
        url: url.secret().clone(),
        ca_file: settings.redis.ca_file.clone(),
        key: key()?,
        ttl: settings.cache.ttl.0,
        bytes_max: settings.cache.bytes_max,
        metrics: Arc::clone(metrics),
    })?;
    Ok(Some(Arc::new(redis)))
}

/// What carries events to others, if the settings name it. Connects to nothing.
fn bus(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Arc<dyn Bus>, DepsError> {
    let Some(url) = &settings.nats.url else { return Ok(Arc::new(Local::default())) };
    let options = NatsOptions {
        url: url.secret().clone(),
        ca_file: settings.nats.ca_file.clone(),
        metrics: Arc::clone(metrics),
    };
    Ok(Arc::new(Nats::new(options)?))
}
