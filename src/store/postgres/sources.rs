//! What decisions were made of.

use futures_util::FutureExt as _;
use tokio_postgres::Row;

use super::ledger::hash;
use super::rows::append_audit;
use super::{Postgres, Scope};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::store::sources::owner;
use crate::store::{Answer, SourceBlob, SourceKey, Sources, Unnamed};

/// Held by who forgets sources, and shared by who says what serves.
const FORGETTING: i64 = 7_201_007;

/// Owners and digests, as two arrays.
fn columns<'a>(
    keys: impl Iterator<Item = (Option<&'a TenantId>, &'a Digest)>,
) -> (Vec<&'a str>, Vec<&'a [u8]>) {
    keys.map(|(tenant, digest)| (owner(tenant), &digest.as_bytes()[..])).unzip()
}

impl Sources for Postgres {
    fn missing_sources(&self, keys: Vec<SourceKey>) -> Answer<'_, Vec<SourceKey>> {
        self.run("looking for sources", Scope::Service, move |t| {
            async move {
                let sql = "SELECT EXISTS (SELECT FROM sources \
                           WHERE tenant = wanted.tenant AND digest = wanted.digest) \
                           FROM unnest($1::text[], $2::bytea[]) \
                           WITH ORDINALITY AS wanted (tenant, digest, place) ORDER BY place";
                let sql = t.prepare_cached(sql).await?;
                let (tenants, digests) =
                    columns(keys.iter().map(|(tenant, digest)| (tenant.as_ref(), digest)));
                let rows = t.query(&sql, &[&tenants, &digests]).await?;
                let mut missing = Vec::new();
                for (row, key) in rows.iter().zip(&keys) {
                    if !row.try_get::<_, bool>(0)? {
                        missing.push(key.clone());
                    }
                }
                Ok(missing)
            }
            .boxed()
        })
    }

    fn put_sources(&self, mut blobs: Vec<SourceBlob>) -> Answer<'_, ()> {
        // In one order everywhere, so that two instances cannot wait for each other.
        blobs.sort_by(|a, b| (&a.tenant, a.digest).cmp(&(&b.tenant, b.digest)));
        self.alter("keeping sources", Scope::Service, move |t| {
            async move {
                let sql = "INSERT INTO sources (tenant, digest, bytes) \
                           SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[]) \
                           ON CONFLICT DO NOTHING";
                let sql = t.prepare_cached(sql).await?;
                let keys = blobs.iter().map(|blob| (blob.tenant.as_ref(), &blob.digest));
                let (tenants, digests) = columns(keys);
                let bytes: Vec<&[u8]> = blobs.iter().map(|blob| &*blob.bytes).collect();
                t.execute(&sql, &[&tenants, &digests, &bytes]).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn source(&self, (tenant, digest): SourceKey) -> Answer<'_, Option<Vec<u8>>> {
        self.run("reading a source", Scope::of(tenant.clone()), move |t| {
            async move {
                let sql = "SELECT bytes FROM sources WHERE tenant = $1 AND digest = $2";
                let sql = t.prepare_cached(sql).await?;
                let key = (owner(tenant.as_ref()), &digest.as_bytes()[..]);
                let row = t.query_opt(&sql, &[&key.0, &key.1]).await?;
                Ok(row.map(|row| row.try_get(0)).transpose()?)
            }
            .boxed()
        })
    }

    fn serve_revision(&self, revision: String, at_ms: i64, before_ms: i64) -> Answer<'_, ()> {
        self.alter("noting what serves", Scope::Service, move |t| {
            async move {
                // What is being forgotten is gone before this revision's sources are looked for.
                t.execute("SELECT pg_advisory_xact_lock_shared($1)", &[&FORGETTING]).await?;
                let sql = "INSERT INTO served (revision, at_ms) VALUES ($1, $2) \
                           ON CONFLICT (revision) DO UPDATE \
                           SET at_ms = greatest(served.at_ms, excluded.at_ms)";
                t.execute(sql, &[&revision, &at_ms]).await?;
                t.execute("DELETE FROM served WHERE at_ms < $1", &[&before_ms]).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn revisions(&self, since_ms: i64, after: String, limit: u32) -> Answer<'_, Vec<String>> {
        self.run("looking for revisions", Scope::Purge, move |t| {
            async move {
                // From revision to revision over the index, never row by row.
                let sql = "WITH RECURSIVE named (revision) AS (SELECT $1::text UNION ALL \
                           SELECT (SELECT revision FROM decisions WHERE NOT purged \
                                   AND revision > named.revision ORDER BY revision LIMIT 1) \
                           FROM named WHERE named.revision IS NOT NULL), \
                           page (revision) AS (SELECT revision FROM named LIMIT $3::bigint + 1) \
                           SELECT revision FROM page WHERE revision > $1 UNION \
                           SELECT revision FROM served WHERE at_ms >= $2 AND revision > $1 \
                           ORDER BY revision LIMIT $3::bigint";
                let sql = t.prepare_cached(sql).await?;
                let rows = t.query(&sql, &[&after, &since_ms, &i64::from(limit)]).await?;
                rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
            }
            .boxed()
        })
    }

    fn source_keys(&self, after: Option<SourceKey>, limit: u32) -> Answer<'_, Vec<SourceKey>> {
        self.run("listing sources", Scope::Purge, move |t| {
            async move {
                let sql = "SELECT tenant, digest FROM sources WHERE (tenant, digest) > ($1, $2) \
                           ORDER BY tenant, digest LIMIT $3";
                let sql = t.prepare_cached(sql).await?;
                let (tenant, digest) = match &after {
                    Some((tenant, digest)) => (owner(tenant.as_ref()), &digest.as_bytes()[..]),
                    None => ("", &[][..]),
                };
                let rows = t.query(&sql, &[&tenant, &digest, &i64::from(limit)]).await?;
                let read = |row: &Row| {
                    let tenant: &str = row.try_get(0)?;
                    Ok((TenantId::parse(tenant).ok(), hash(row, "digest")?))
                };
                rows.iter().map(read).collect()
            }
            .boxed()
        })
    }

    fn forget_sources(&self, unnamed: Unnamed) -> Answer<'_, Option<u64>> {
        self.alter("forgetting sources", Scope::Purge, move |t| {
            async move {
                t.execute("SELECT pg_advisory_xact_lock($1)", &[&FORGETTING]).await?;
                // A statement of its own: it sees what was committed while the lock was waited for.
                let sql = "SELECT EXISTS (SELECT FROM served \
                           WHERE at_ms >= $1 AND revision <> ALL ($2))";
                let new = t.query_one(sql, &[&unnamed.since_ms, &unnamed.known]).await?;
                if new.try_get::<_, bool>(0)? {
                    return Ok(None);
                }
                let sql = "DELETE FROM sources USING unnest($1::text[], $2::bytea[]) \
                           AS gone (tenant, digest) \
                           WHERE sources.tenant = gone.tenant AND sources.digest = gone.digest";
                let keys = unnamed.keys.iter();
                let (tenants, digests) =
                    columns(keys.map(|(tenant, digest)| (tenant.as_ref(), digest)));
                let forgotten = t.execute(sql, &[&tenants, &digests]).await?;
                if forgotten > 0 {
                    t.batch_execute(&Scope::Service.enter()).await?;
                    append_audit(t, &unnamed.entry(forgotten)).await?;
                }
                Ok(Some(forgotten))
            }
            .boxed()
        })
    }
}
