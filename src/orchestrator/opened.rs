//! The store that settings name: a database that instances share, else a file of one's own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Deps;
use crate::auth;
use crate::evidence::spool::{OnDisk, Spool};
use crate::evidence::{Log, LogOptions};
use crate::operations::Operations;
use crate::seal::{SealError, Signer};
use crate::settings::{DatabaseUrl, Migrate, Settings};
use crate::store::{
    self, Guarded, Kept, Migrated, Place, Postgres, PostgresOptions, Sqlite, SqliteOptions, Store,
    StoreError,
};

/// The store's file in the data folder.
pub const STORE_FILE: &str = "orchestrator.db";
/// The file beside it in which records wait while the store is away.
pub const SPOOL_FILE: &str = "evidence.spool";

/// Opens it, behind the breakers of `operations` where there are any. The data folder must exist
/// where there is no database. Blocks.
pub fn open_store(
    settings: &Settings,
    operations: Option<Arc<Operations>>,
) -> Result<Arc<dyn Store>, StoreError> {
    match &settings.database.url {
        Some(url) => Ok(guarded(Postgres::open(&options(settings, url))?, operations)),
        None => open_file(Place::File(settings.paths.data.join(STORE_FILE)), settings, operations),
    }
}

/// Starts the log of records on `deps`' store, with its spool in the data folder. Blocks.
pub(super) fn open_log(deps: &Deps, signer: Signer) -> std::io::Result<Log> {
    let limits = &deps.settings.evidence;
    let medium = OnDisk::open(&deps.settings.paths.data.join(SPOOL_FILE))?;
    let spool = Spool::open(Box::new(medium), limits.spool_bytes_max)?;
    Log::start(LogOptions {
        store: Arc::<dyn Store>::clone(&deps.store),
        signer,
        known_keys: limits.known(),
        spool: Some(spool),
        rows_max: limits.queue_max,
        bytes_max: limits.queue_bytes_max,
        held_bytes_max: limits.held_bytes_max,
        metrics: Arc::clone(&deps.metrics),
    })
}

pub(super) fn open_file(
    place: Place,
    settings: &Settings,
    operations: Option<Arc<Operations>>,
) -> Result<Arc<dyn Store>, StoreError> {
    let versions_max = settings.policy.versions_max;
    let options = SqliteOptions { versions_max, ..SqliteOptions::at(place) };
    Ok(guarded(Sqlite::open(&options)?, operations))
}

/// What a service with these settings stored, for reading; a relative folder is below `dir`, else
/// the working directory. Blocks.
///
/// # Errors
/// [`StoreError::OlderSchema`] also where a start would bring it up to date: who reads changes nothing.
pub fn kept(settings: &Settings, dir: Option<&Path>) -> Result<Kept, StoreError> {
    match &settings.database.url {
        Some(url) => {
            let options = PostgresOptions { migrate: Migrate::Check, ..options(settings, url) };
            Postgres::open(&options).map(Box::new).map(Kept::Database)
        }
        None => Ok(Kept::File(file(settings, dir))),
    }
}

/// What of the database's address and certificates can never work; asks nobody.
pub(super) fn look_at_database(settings: &Settings) -> Result<(), StoreError> {
    settings.database.url.as_ref().map_or(Ok(()), |url| Postgres::look(&options(settings, url)))
}

/// Brings the schema up to date, or only tells what is missing. Blocks.
pub fn migrate(settings: &Settings, dry_run: bool) -> Result<Migrated, StoreError> {
    match &settings.database.url {
        Some(url) => store::migrate_database(&options(settings, url), dry_run),
        None => store::migrate_file(&file(settings, None), dry_run),
    }
}

/// The public keys of a service with these settings: the present one where it is at hand, and those
/// that the settings name; `None` where there is neither.
///
/// # Errors
/// Where the present one is there and cannot be read.
pub fn own_keys(settings: &Settings) -> Result<Option<BTreeSet<[u8; 32]>>, SealError> {
    let signer = auth::evidence_key_there(settings)?.map(|key| Signer::of(&key)).transpose()?;
    let present = signer.map(|signer| signer.public_key());
    let own: BTreeSet<_> = present.into_iter().chain(settings.evidence.known()).collect();
    Ok((!own.is_empty()).then_some(own))
}

fn file(settings: &Settings, dir: Option<&Path>) -> PathBuf {
    let data = &settings.paths.data;
    dir.map_or_else(|| data.clone(), |dir| dir.join(data)).join(STORE_FILE)
}

fn options(settings: &Settings, url: &DatabaseUrl) -> PostgresOptions {
    let database = &settings.database;
    PostgresOptions {
        ca_file: database.ca_file.clone(),
        migrate: settings.migrate(),
        connections_max: database.connections_max,
        connection_wait: database.connection_wait.0,
        statement_timeout: database.statement_timeout.0,
        versions_max: settings.policy.versions_max,
        ..PostgresOptions::at(url.secret().clone())
    }
}

fn guarded(store: impl Store + 'static, operations: Option<Arc<Operations>>) -> Arc<dyn Store> {
    match operations {
        Some(operations) => Arc::new(Guarded::new(store, operations)),
        None => Arc::new(store),
    }
}
