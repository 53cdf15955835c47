//! What decisions were made of: blobs by their digests.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::rows::append_audit;
use super::{Answer, AuditEntry, Sqlite, StoreError};
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

/// Sources that no revision names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnamed {
    /// They; what names another stands before it, in this list and in those before.
    pub keys: Vec<SourceKey>,
    /// The revisions whose sources were looked through.
    pub known: Vec<String>,
    /// Nothing is forgotten where a revision served since then that is not `known`.
    pub since_ms: i64,
    /// Wall clock, for the audit.
    pub at_ms: i64,
}

impl Unnamed {
    /// What the audit says of it.
    pub(super) fn entry(&self, sources: u64) -> AuditEntry {
        AuditEntry {
            tenant: None,
            at_ms: self.at_ms,
            actor: "system".into(),
            action: "evidence.purge_sources".into(),
            target: "sources".into(),
            reason: "no record that is kept names them".into(),
            before: None,
            after: Some(format!(r#"{{"sources":{sources}}}"#)),
        }
    }
}

/// Content-addressed sources. They never change; what no record names may be deleted.
pub trait Sources: Send + Sync {
    /// Those of `keys` that are not stored.
    fn missing_sources(&self, keys: Vec<SourceKey>) -> Answer<'_, Vec<SourceKey>>;
    /// Returns once all are durable; what is stored already stays as it is.
    fn put_sources(&self, blobs: Vec<SourceBlob>) -> Answer<'_, ()>;
    /// One blob; another owner's is `None`.
    fn source(&self, key: SourceKey) -> Answer<'_, Option<Vec<u8>>>;
    /// Says that `revision` serves at `at_ms`, and forgets those that did not since `before_ms`. From
    /// then on none of its sources is forgotten that is there or put there later.
    fn serve_revision(&self, revision: String, at_ms: i64, before_ms: i64) -> Answer<'_, ()>;
    /// Revisions after `after`, at most `limit`: those that records name that are kept, and those that
    /// served since `since_ms`.
    fn revisions(&self, since_ms: i64, after: String, limit: u32) -> Answer<'_, Vec<String>>;
    /// What is stored after `after`, by owner and digest, at most `limit`.
    fn source_keys(&self, after: Option<SourceKey>, limit: u32) -> Answer<'_, Vec<SourceKey>>;
    /// Forgets sources and says how many in the audit: both or neither. `None` where a revision serves
    /// that was not known.
    fn forget_sources(&self, unnamed: Unnamed) -> Answer<'_, Option<u64>>;
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

    fn serve_revision(&self, revision: String, at_ms: i64, before_ms: i64) -> Answer<'_, ()> {
        self.both("noting what serves", move |c| {
            let sql = "INSERT INTO served (revision, at_ms) VALUES (?1, ?2) \
                       ON CONFLICT (revision) DO UPDATE SET at_ms = max(at_ms, excluded.at_ms)";
            c.prepare_cached(sql)?.execute(params![revision, at_ms])?;
            c.prepare_cached("DELETE FROM served WHERE at_ms < ?1")?.execute([before_ms]).map(drop)
        })
    }

    fn revisions(&self, since_ms: i64, after: String, limit: u32) -> Answer<'_, Vec<String>> {
        self.read("looking for revisions", move |c| {
            // From revision to revision over the index, never row by row.
            let sql = "WITH RECURSIVE named (revision) AS (SELECT ?1 UNION ALL \
                       SELECT (SELECT revision FROM decisions WHERE record <> '' \
                               AND revision > named.revision ORDER BY revision LIMIT 1) \
                       FROM named WHERE named.revision IS NOT NULL LIMIT ?3 + 1) \
                       SELECT revision FROM named WHERE revision > ?1 UNION \
                       SELECT revision FROM served WHERE at_ms >= ?2 AND revision > ?1 \
                       ORDER BY revision LIMIT ?3";
            let mut sql = c.prepare_cached(sql)?;
            sql.query_map(params![after, since_ms, limit], |row| row.get(0))?.collect()
        })
    }

    fn source_keys(&self, after: Option<SourceKey>, limit: u32) -> Answer<'_, Vec<SourceKey>> {
        self.read("listing sources", move |c| {
            let sql = "SELECT tenant, digest FROM sources WHERE (tenant, digest) > (?1, ?2) \
                       ORDER BY tenant, digest LIMIT ?3";
            let mut sql = c.prepare_cached(sql)?;
            let (tenant, digest) = match &after {
                Some((tenant, digest)) => (owner(tenant.as_ref()), &digest.as_bytes()[..]),
                None => ("", &[][..]),
            };
            sql.query_map(params![tenant, digest, limit], |row| {
                let tenant: String = row.get(0)?;
                Ok((TenantId::parse(&tenant).ok(), Digest::from_bytes(row.get(1)?)))
            })?
            .collect()
        })
    }

    fn forget_sources(&self, unnamed: Unnamed) -> Answer<'_, Option<u64>> {
        self.both("forgetting sources", move |c| {
            let mut served = c.prepare_cached("SELECT revision FROM served WHERE at_ms >= ?1")?;
            let served = served.query_map([unnamed.since_ms], |row| row.get(0))?;
            for revision in served {
                if !unnamed.known.contains(&revision?) {
                    return Ok(None);
                }
            }
            let mut sql =
                c.prepare_cached("DELETE FROM sources WHERE tenant = ?1 AND digest = ?2")?;
            let mut forgotten = 0;
            for (tenant, digest) in &unnamed.keys {
                forgotten +=
                    sql.execute(params![owner(tenant.as_ref()), digest.as_bytes()])? as u64;
            }
            if forgotten > 0 {
                append_audit(c, &unnamed.entry(forgotten))?;
            }
            Ok(Some(forgotten))
        })
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
