//! What a start demands: somebody must be able to enter, and nobody by accident.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret as _;

use super::keys::{now_ms, prefix_of};
use super::manage::told;
use super::signing::Signatures;
use super::tokens::Tokens;
use super::{Entry, Gate, Keyring, Wanted, failures};
use crate::catalog;
use crate::domain::access::{Grant, Role};
use crate::outbound::{Allow, AllowError};
use crate::seal::{self, DataKeys, Key, SealError};
use crate::settings::{Env, Secret, Settings};
use crate::store::{AuditEntry, KeyChange, Store, StoreError};

/// Before every development key.
const PREFIX: &str = "orch_dev_";
/// Its file in the data folder.
const DEVELOPMENT: &str = "development.key";
/// Keys of the service, and the files in `data/keys` where they are not given.
const PEPPER: (Secret, &str) = (Secret::KeyPepper, "pepper");
const DATA: (Secret, &str) = (Secret::DataKey, "data");
const EVIDENCE: (Secret, &str) = (Secret::EvidenceKey, "evidence");
const FILES: [(Secret, &str); 3] = [PEPPER, DATA, EVIDENCE];

/// The one key of a development instance that others can reach. `Debug` never shows it.
pub struct DevelopmentKey(String);

impl std::fmt::Debug for DevelopmentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DevelopmentKey(…)")
    }
}

impl DevelopmentKey {
    /// The key itself, to be shown once to the one who starts the service.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Why the service must not start.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody could enter.
    #[error(
        "{env} needs credentials and has none: set ORCHESTRATION_BOOTSTRAP_KEY for a first key, or \
         run `orchestrator keys create --role super_admin --label first --reason first`, or set \
         ORCHESTRATION_JWT_SECRET_KEY, security.jwt.jwks_file or security.jwt.jwks_url"
    )]
    NoCredentials {
        /// The environment.
        env: &'static str,
    },
    /// Nobody could enter, and the bootstrap key changes nothing.
    #[error(
        "{env} needs credentials and has none: ORCHESTRATION_BOOTSTRAP_KEY counts only while the store \
         never held a key; run `orchestrator keys create --role super_admin --label first --reason \
         first`, or set ORCHESTRATION_JWT_SECRET_KEY, security.jwt.jwks_file or security.jwt.jwks_url"
    )]
    SpentBootstrapKey {
        /// The environment.
        env: &'static str,
    },
    /// No key of the store could be valid.
    #[error(
        "the pepper of {0} API keys in the store is not there, so none is valid: give \
         ORCHESTRATION_KEY_PEPPER, or restore keys/pepper below paths.data; if it is lost, end each by \
         `orchestrator keys revoke` and make new ones"
    )]
    LostPepper(u64),
    /// The bootstrap key is none.
    #[error(
        "ORCHESTRATION_BOOTSTRAP_KEY has no key's form; make one with \
         `echo orch_$(openssl rand -hex 6)_$(openssl rand -hex 16)`"
    )]
    BootstrapKey,
    /// A key could not be read or made.
    #[error("could not read or make a key in {directory}: {source}")]
    Key {
        /// Where it should stand.
        directory: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Instances that share a database or Redis would have keys of their own.
    #[error(
        "a shared database or Redis needs {0}, the same for every instance; make each once with \
         `openssl rand -hex 32`"
    )]
    Shared(String),
    /// A key of the service could not be read or made.
    #[error("a key of the service: {0}")]
    Pepper(#[from] SealError),
    /// The public keys could not be read.
    #[error("security.jwt.{0}")]
    KeySet(String),
    /// Where the service may connect is not said rightly.
    #[error("security.outbound_allow: {0}")]
    Outbound(#[from] AllowError),
    /// Not an address.
    #[error("security.trusted_proxies: `{0}` is no address and no network such as 10.0.0.0/8")]
    Proxy(String),
    /// Keys could not be read or the first not made.
    #[error("the keys in the store: {0}")]
    Store(#[from] StoreError),
}

/// Every reason to refuse a start that the settings alone hold: nothing is made, asked or stored.
pub async fn look(settings: &Settings) -> Vec<Refusal> {
    let mut refusals: Vec<Refusal> = unshared(settings).into_iter().collect();
    let proxies = settings.security.trusted_proxies.iter();
    refusals.extend(proxies.filter_map(|raw| network(raw).err()));
    let first = settings.secrets.get(Secret::BootstrapKey);
    refusals.extend(
        first.filter(|key| prefix_of(key.expose_secret()).is_none()).map(|_| Refusal::BootstrapKey),
    );
    refusals.extend(catalog::guard(settings).err().map(Refusal::Outbound));
    refusals.extend(Tokens::look(settings).await.err());
    refusals
}

/// Every key below `data` that a start would read and could not: nothing is made.
pub fn look_at_keys(settings: &Settings, data: &Path) -> Vec<Refusal> {
    let keys = data.join("keys");
    // A link that leads nowhere is there too.
    let there_is = |path: &&Path| path.symlink_metadata().is_ok();
    if let Some(blocked) = keys.ancestors().find(there_is).filter(|path| !path.is_dir()) {
        let source = std::io::ErrorKind::NotADirectory.into();
        return vec![Refusal::Key { directory: blocked.display().to_string(), source }];
    }
    let is_kept = |secret: &Secret| {
        settings.secrets.get(*secret).is_none() && !shared(settings).contains(secret)
    };
    let files = FILES.iter().filter(|(secret, _)| is_kept(secret));
    let mut files: Vec<_> = files.map(|(_, name)| keys.join(name)).collect();
    if settings.database.url.is_none() && settings.redis.url.is_none() {
        files.push(data.join("redaction.key"));
    }
    let mut refusals: Vec<Refusal> =
        files.iter().filter_map(|path| Key::load(path).err()).map(Refusal::Pepper).collect();
    if settings.env == Env::Development && !settings.server.listen.ip().is_loopback() {
        let source = there(data).err();
        let directory = data.display().to_string();
        refusals.extend(source.map(|source| Refusal::Key { directory, source }));
    }
    refusals
}

/// The refusal of a start where nobody could enter: no token is taken, and of the store's keys so many
/// `hold`. The bootstrap key becomes one where there `was_any` never.
pub fn without_key(settings: &Settings, holding: u64, was_any: bool) -> Option<Refusal> {
    let jwt = &settings.security.jwt;
    let takes_tokens = settings.secrets.get(Secret::JwtSecretKey).is_some()
        || jwt.jwks_file.is_some()
        || jwt.jwks_url.is_some();
    if settings.env == Env::Development || takes_tokens || holding > 0 {
        return None;
    }
    let env = settings.env.name();
    match settings.secrets.get(Secret::BootstrapKey) {
        None => Some(Refusal::NoCredentials { env }),
        Some(_) if was_any => Some(Refusal::SpentBootstrapKey { env }),
        Some(_) => None,
    }
}

/// The refusal of a start outside development that would make another pepper, beside so many keys that
/// `hold` by the one that is gone.
pub fn without_pepper(settings: &Settings, holding: u64) -> Option<Refusal> {
    let is_lost = settings.env != Env::Development
        && settings.database.url.is_none()
        && missing_keys(settings, &settings.paths.data).contains(&Secret::KeyPepper);
    (is_lost && holding > 0).then_some(Refusal::LostPepper(holding))
}

impl Gate {
    /// The gate that the settings demand for a service that listens on `address`.
    pub async fn for_start(
        settings: &Settings,
        address: IpAddr,
        store: Arc<dyn Store>,
    ) -> Result<Gate, Refusal> {
        let tokens = Tokens::of(settings).await?;
        let keys = Keyring::new(store, pepper(settings)?);
        bootstrap(settings, &keys).await?;
        if let Ok(Some(what)) = keys.of_another_pepper().await {
            tracing::warn!("{what}");
        }
        let entry = match settings.env {
            Env::Development if address.is_loopback() => Entry::Open,
            Env::Development => Entry::Key(development_key(&settings.paths.data)?),
            Env::Staging | Env::Production => {
                // A bootstrap key that was given has become one by now, or never will.
                let holding = keys.store.keys_that_hold(now_ms()).await?;
                match without_key(settings, holding, true) {
                    Some(refusal) => return Err(refusal),
                    None => Entry::Closed,
                }
            }
        };
        let proxies = settings.security.trusted_proxies.iter().map(|raw| network(raw));
        Ok(Gate {
            entry,
            keys,
            tokens,
            failures: failures::Failures::new(settings.security.auth_failures_per_minute),
            signatures: Signatures::default(),
            proxies: proxies.collect::<Result<_, _>>()?,
        })
    }
}

fn network(raw: &str) -> Result<Allow, Refusal> {
    match Allow::parse(raw) {
        Ok(net @ Allow::Net(..)) => Ok(net),
        Ok(Allow::Host(_) | Allow::Port(..)) | Err(_) => {
            Err(Refusal::Proxy(raw.chars().take(80).flat_map(char::escape_debug).collect()))
        }
    }
}

/// The key of the hashes: from the environment, else kept in `data/keys`.
pub fn pepper(settings: &Settings) -> Result<Key, Refusal> {
    let lost = "API keys; without it none is valid";
    kept(settings, PEPPER, lost)
}

/// Which of the service's keys are neither given nor in a file below `data`, so that a start makes them.
pub fn missing_keys(settings: &Settings, data: &Path) -> Vec<Secret> {
    let is_missing = |(secret, file): &(Secret, &str)| {
        settings.secrets.get(*secret).is_none() && !data.join("keys").join(file).exists()
    };
    FILES.into_iter().filter(is_missing).map(|(secret, _)| secret).collect()
}

/// The keys that seal detectors' credentials, found in the same way; the one before the present
/// one is only in the environment.
pub fn data_keys(settings: &Settings) -> Result<DataKeys, Refusal> {
    let lost = "detectors' credentials; without it none can be opened";
    let current = kept(settings, DATA, lost)?;
    Ok(DataKeys::new(&current, previous_data_key(settings).as_ref())?)
}

/// The same where the present one is there; nothing is made.
pub fn data_keys_there(settings: &Settings) -> Option<DataKeys> {
    // A file that holds no key is told by itself.
    let current = key_there(settings, DATA).ok()??;
    DataKeys::new(&current, previous_data_key(settings).as_ref()).ok()
}

fn previous_data_key(settings: &Settings) -> Option<Key> {
    let previous = settings.secrets.get(Secret::DataKeyPrevious);
    previous.and_then(|digits| Key::from_hex(digits.expose_secret()))
}

/// The seed of the log's signatures, found in the same way.
pub fn evidence_key(settings: &Settings) -> Result<Key, Refusal> {
    let lost = "the log of records; without it another log begins";
    kept(settings, EVIDENCE, lost)
}

/// The same where it is there; nothing is made.
pub fn evidence_key_there(settings: &Settings) -> Result<Option<Key>, SealError> {
    key_there(settings, EVIDENCE)
}

/// The key of the hashes where it is there; nothing is made.
pub fn pepper_there(settings: &Settings) -> Result<Option<Key>, SealError> {
    key_there(settings, PEPPER)
}

fn key_there(
    settings: &Settings,
    (secret, file): (Secret, &str),
) -> Result<Option<Key>, SealError> {
    let given = settings.secrets.get(secret);
    let given = given.and_then(|digits| Key::from_hex(digits.expose_secret()));
    match given {
        None if settings.database.url.is_none() => {
            Key::load(&settings.paths.data.join("keys").join(file))
        }
        given => Ok(given),
    }
}

/// The key of hashes in redacted text: a file's, or where instances share anything the data key's,
/// so that they all write the same.
pub fn redaction_key(settings: &Settings) -> Result<Key, Refusal> {
    if settings.database.url.is_some() || settings.redis.url.is_some() {
        return derived(settings, b"redaction");
    }
    let data = &settings.paths.data;
    make_directory(data)?;
    Ok(Key::load_or_create(&data.join("redaction.key"))?)
}

/// The key of names and values in Redis, made of the data key.
pub fn redis_key(settings: &Settings) -> Result<Key, Refusal> {
    derived(settings, b"redis")
}

/// The key of which secrets of callbacks are made, made of the data key.
pub fn callback_key(settings: &Settings) -> Result<Key, Refusal> {
    derived(settings, b"callbacks")
}

fn derived(settings: &Settings, purpose: &[u8]) -> Result<Key, Refusal> {
    let data = kept(settings, DATA, "")?;
    Ok(Key::from_bytes(data.hash([purpose])))
}

fn kept(
    settings: &Settings,
    (secret, file): (Secret, &str),
    lost: &'static str,
) -> Result<Key, Refusal> {
    if let Some(digits) = settings.secrets.get(secret)
        && let Some(key) = Key::from_hex(digits.expose_secret())
    {
        return Ok(key);
    }
    if shared(settings).contains(&secret)
        && let Some(refusal) = unshared(settings)
    {
        return Err(refusal);
    }
    let directory = settings.paths.data.join("keys");
    let path = directory.join(file);
    if !path.exists() {
        make_directory(&directory)?;
        if settings.env != Env::Development {
            let path = path.display();
            tracing::warn!(%path, lost, "Made a key; back it up, or give one by the environment");
        }
    }
    Ok(Key::load_or_create(&path)?)
}

/// What instances that share anything must hold in common.
fn shared(settings: &Settings) -> &'static [Secret] {
    match (&settings.database.url, &settings.redis.url) {
        (Some(_), _) => &[Secret::DataKey, Secret::KeyPepper, Secret::EvidenceKey],
        (None, Some(_)) => &[Secret::DataKey],
        (None, None) => &[],
    }
}

/// What of that is not given.
fn unshared(settings: &Settings) -> Option<Refusal> {
    let missing = shared(settings).iter().filter(|secret| settings.secrets.get(**secret).is_none());
    let missing: Vec<String> = missing.map(|secret| secret.variable()).collect();
    (!missing.is_empty()).then(|| Refusal::Shared(missing.join(" and ")))
}

fn make_directory(directory: &Path) -> Result<(), Refusal> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| {
        let is_other = source.kind() == std::io::ErrorKind::AlreadyExists;
        let source = if is_other { std::io::ErrorKind::NotADirectory.into() } else { source };
        Refusal::Key { directory: directory.display().to_string(), source }
    })
}

/// The first key of a store that never had one.
async fn bootstrap(settings: &Settings, keys: &Keyring) -> Result<(), Refusal> {
    let Some(secret) = settings.secrets.get(Secret::BootstrapKey) else { return Ok(()) };
    let prefix = prefix_of(secret.expose_secret()).ok_or(Refusal::BootstrapKey)?.to_owned();
    let wanted = Wanted {
        tenant: None,
        grant: Grant::of_roles(&[Role::SuperAdmin]),
        max_priority: None,
        label: "bootstrap".into(),
        expires_at_ms: None,
    };
    let key = keys.kept(secret.expose_secret(), prefix.clone(), wanted, "system");
    let entry = AuditEntry {
        tenant: None,
        at_ms: now_ms(),
        actor: "system".into(),
        action: "key.create".into(),
        target: format!("key/{prefix}"),
        reason: "ORCHESTRATION_BOOTSTRAP_KEY on an empty store".into(),
        before: None,
        after: Some(told(&key)),
    };
    if keys.store.change_key(KeyChange::AddFirst(key), entry).await? {
        keys.leave_mark().await;
        tracing::info!(
            key_prefix = prefix,
            "Made the first key; unset ORCHESTRATION_BOOTSTRAP_KEY"
        );
    }
    Ok(())
}

/// The key in `data/development.key`, made with mode 0600 where it is missing, so that a restart
/// keeps it.
fn development_key(data: &Path) -> Result<DevelopmentKey, Refusal> {
    let kept = kept_key(data);
    kept.map(DevelopmentKey)
        .map_err(|source| Refusal::Key { directory: data.display().to_string(), source })
}

fn kept_key(data: &Path) -> std::io::Result<String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    if let Some(key) = there(data)? {
        return Ok(key);
    }
    crate::store::make_folder(data)?;
    let key = seal::token(PREFIX).map_err(std::io::Error::other)?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    writeln!(options.open(data.join(DEVELOPMENT))?, "{}", key.expose_secret())?;
    Ok(key.expose_secret().to_owned())
}

/// The same where it is there.
fn there(data: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(data.join(DEVELOPMENT)) {
        Ok(key) => Ok(Some(key.trim().to_owned()).filter(|key| key.len() > PREFIX.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
