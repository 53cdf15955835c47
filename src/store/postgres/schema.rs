//! The schema's version, and the way to the newest: as the owner of the tables, one at a time.

use tokio_postgres::Client;

use super::super::{Migrated, StoreError};
use super::connect::Connector;
use super::fault;
use crate::settings::Migrate;

mod migrations {
    #![allow(missing_docs, reason = "generated")]
    refinery::embed_migrations!("migrations/postgres");
}

const DOING: &str = "bringing the database's schema up to date";
/// Held by the one who changes the schema.
const ALONE: &str = "SELECT pg_advisory_lock(7201000)";

/// Refuses what this program cannot serve; brings an older schema up to date where it may.
pub(super) async fn bring_up(connector: &Connector, migrate: Migrate) -> Result<(), StoreError> {
    const DOING: &str = "opening the store";
    let client = connector.session(DOING).await?;
    let missing =
        Migrated::of(migrations::migrations::runner().get_migrations(), version(&client).await?)?;
    if !missing.changes.is_empty() {
        match migrate {
            Migrate::Auto => self::migrate(connector, false).await.map(drop)?,
            Migrate::Check => {
                let Migrated { before: found, after: wanted, .. } = missing;
                return Err(StoreError::OlderSchema { found, wanted });
            }
        }
    }
    let roles = "SET ROLE orch_app; SET ROLE orch_writer; SET ROLE orch_worker; \
                 SELECT FROM objects LIMIT 0";
    client.batch_execute(roles).await.map_err(|error| fault::of(DOING, &error))
}

/// Applies what is missing; names it only where `dry_run`.
pub(super) async fn migrate(connector: &Connector, dry_run: bool) -> Result<Migrated, StoreError> {
    let mut client = connector.patient(DOING).await?;
    client.batch_execute(ALONE).await.map_err(|error| fault::of(DOING, &error))?;
    // Whoever waited for the lock may find nothing left to do.
    let before = version(&client).await?;
    let runner = migrations::migrations::runner().set_abort_missing(false);
    let migrated = Migrated::of(runner.get_migrations(), before)?;
    if !dry_run && !migrated.changes.is_empty() {
        runner.run_async(&mut client).await.map_err(|error| failed(&error))?;
    }
    Ok(migrated)
}

/// The newest that was applied; 0 where there is no schema yet.
async fn version(client: &Client) -> Result<i64, StoreError> {
    let failed = |error: tokio_postgres::Error| fault::of("reading the schema's version", &error);
    let there = "SELECT to_regclass('refinery_schema_history') IS NOT NULL";
    let there: bool =
        client.query_one(there, &[]).await.map_err(failed)?.try_get(0).map_err(failed)?;
    if !there {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(version), 0)::bigint FROM refinery_schema_history";
    client.query_one(newest, &[]).await.map_err(failed)?.try_get(0).map_err(failed)
}

fn failed(error: &refinery::Error) -> StoreError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<tokio_postgres::Error>() {
            return fault::of(DOING, cause);
        }
        source = cause.source();
    }
    StoreError::Failed { doing: DOING, reason: error.to_string() }
}
