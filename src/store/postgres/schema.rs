//! The schema's version, and the way to the newest: as the owner of the tables, one at a time.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::super::{Migrated, StoreError};
use super::connect::Connector;
use super::fault;
use crate::settings::Migrate;

mod migrations {
    #![allow(missing_docs, reason = "generated")]
    refinery::embed_migrations!("migrations/postgres");
}

const DOING: &str = "bringing the database's schema up to date";
/// Which the first migration makes where they are missing.
const ROLES: [&str; 4] = ["orch_app", "orch_writer", "orch_worker", "orch_purge"];
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
    if before == 0 {
        grants(&mut client).await?;
    }
    if !dry_run && !migrated.changes.is_empty() {
        runner.run_async(&mut client).await.map_err(|error| failed(&error))?;
    }
    Ok(migrated)
}

/// Whether the first migration gets the roles that it needs; tries it and leaves nothing behind.
async fn grants(client: &mut Client) -> Result<(), StoreError> {
    let failed = |error: tokio_postgres::Error| fault::of(DOING, &error);
    let mut t = client.transaction().await.map_err(failed)?;
    let mut missing = Vec::new();
    for role in ROLES {
        let sql =
            "SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = $1";
        let is_member: Option<bool> = match t.query_opt(sql, &[&role]).await.map_err(failed)? {
            Some(row) => Some(row.try_get(0).map_err(failed)?),
            None => None,
        };
        let tried = match is_member {
            Some(true) => continue,
            Some(false) => format!("GRANT {role} TO CURRENT_USER"),
            None => format!("CREATE ROLE {role} NOLOGIN"),
        };
        let inner = t.transaction().await.map_err(failed)?;
        match inner.batch_execute(&tried).await {
            Ok(()) => inner.commit().await.map_err(failed)?,
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                inner.rollback().await.map_err(failed)?;
                missing.push((role, is_member.is_none()));
            }
            // Another database's owner is making it now; the migration sees it.
            Err(_) => inner.rollback().await.map_err(failed)?,
        }
    }
    if missing.is_empty() {
        return t.rollback().await.map_err(failed);
    }
    let owner = t.query_one("SELECT quote_ident(current_user)", &[]).await.map_err(failed)?;
    let owner: String = owner.try_get(0).map_err(failed)?;
    let new = missing.iter().filter(|(_, is_new)| *is_new);
    let made: String = new.map(|(role, _)| format!("CREATE ROLE {role} NOLOGIN; ")).collect();
    let roles: Vec<&str> = missing.iter().map(|(role, _)| *role).collect();
    let sql = format!("{made}GRANT {} TO {owner}", roles.join(", "));
    Err(StoreError::Ungranted { doing: DOING, sql })
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
