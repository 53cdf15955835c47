//! What decisions were made of: blobs by their digests.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Answer, Sqlite, StoreError};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;

/// A blob's owner, `None` for everyone, and its digest.
pub type SourceKey = (Option<TenantId>, Digest);

/// A blob of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceBlob {
    /// Whose; `None` is everyone's.
    pub tenant: Option<TenantId>,
    /// Of `bytes`.
    pub digest: Digest,
    /// It.
    pub bytes: Arc<[u8]>,
}

/// Content-addressed sources. They never change; what no record names may be deleted.
pub trait Sources: Send + Sync {
    /// Those of `keys` that are not stored.
    fn missing_sources(&self, keys: Vec<SourceKey>) -> Answer<'_, Vec<SourceKey>>;
    /// Returns once all are durable; what is stored already stays as it is.
    fn put_sources(&self, blobs: Vec<SourceBlob>) -> Answer<'_, ()>;
    /// One blob; another owner's is `None`.
    fn source(&self, key: SourceKey) -> Answer<'_, Option<Vec<u8>>>;
}

pub(super) fn owner(tenant: Option<&TenantId>) -> &str {
    tenant.map_or("", TenantId::as_str)
}

impl Sources for Sqlite {
    fn missing_sources(&self, keys: Vec<SourceKey>) -> Answer<'_, Vec<SourceKey>> {
        self.read("looking for sources", move |c| {
            let mut sql =
                c.prepare_cached("SELECT 1 FROM sources WHERE tenant = ?1 AND digest = ?2")?;
            let mut missing = Vec::new();
            for key in keys {
                if !sql.exists(params![owner(key.0.as_ref()), key.1.as_bytes()])? {
                    missing.push(key);
                }
            }
            Ok(missing)
        })
    }

    fn put_sources(&self, blobs: Vec<SourceBlob>) -> Answer<'_, ()> {
        const DOING: &str = "keeping sources";
        self.write(DOING, move |c| {
            let failed = |error: rusqlite::Error| StoreError::of(DOING, &error);
            c.execute_batch("SAVEPOINT sources").map_err(failed)?;
            let written = insert(c, &blobs);
            let end = if written.is_ok() { "" } else { "ROLLBACK TO sources; " };
            c.execute_batch(&format!("{end}RELEASE sources")).map_err(failed)?;
            written.map_err(failed)
        })
    }

    fn source(&self, (tenant, digest): SourceKey) -> Answer<'_, Option<Vec<u8>>> {
        self.read("reading a source", move |c| source(c, tenant.as_ref(), &digest))
    }
}

fn insert(connection: &Connection, blobs: &[SourceBlob]) -> rusqlite::Result<()> {
    let mut sql = connection.prepare_cached(
        "INSERT OR IGNORE INTO sources (tenant, digest, bytes) VALUES (?1, ?2, ?3)",
    )?;
    for SourceBlob { tenant, digest, bytes } in blobs {
        sql.execute(params![owner(tenant.as_ref()), digest.as_bytes(), &**bytes])?;
    }
    Ok(())
}

pub(super) fn source(
    connection: &Connection,
    tenant: Option<&TenantId>,
    digest: &Digest,
) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT bytes FROM sources WHERE tenant = ?1 AND digest = ?2")?
        .query_row(params![owner(tenant), digest.as_bytes()], |row| row.get(0))
        .optional()
}
