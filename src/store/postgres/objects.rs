//! Versioned JSON objects.

use deadpool_postgres::Transaction;
use futures_util::FutureExt as _;
use tokio_postgres::Row;

use super::fault::Fault;
use super::rows::{append_audit, before, limit, scope};
use super::{ORDERED, Postgres, Scope};
use crate::domain::id::TenantId;
use crate::store::{Answer, AuditEntry, Expected, Object, ObjectKey, Objects, Page, Version};

const OBJECT: &str = "kind, tenant, name, version, at_ms, etag, body";

impl Objects for Postgres {
    fn object(&self, key: ObjectKey) -> Answer<'_, Option<Object>> {
        self.run("reading an object", Scope::of(key.tenant.clone()), move |t| {
            async move { Ok(newest(t, &key).await?.filter(|object| object.body.is_some())) }.boxed()
        })
    }

    fn put(&self, key: ObjectKey, body: String, expected: Expected) -> Answer<'_, Object> {
        let keep = self.versions_max;
        self.alter("writing an object", Scope::of(key.tenant.clone()), move |t| {
            async move { write(t, &key, Some(body), (expected, keep)).await }.boxed()
        })
    }

    fn delete(&self, key: ObjectKey, expected: Expected) -> Answer<'_, ()> {
        let keep = self.versions_max;
        self.alter("deleting an object", Scope::of(key.tenant.clone()), move |t| {
            async move { write(t, &key, None, (expected, keep)).await.map(drop) }.boxed()
        })
    }

    fn change(
        &self,
        key: ObjectKey,
        body: Option<String>,
        expected: Expected,
        entry: AuditEntry,
    ) -> Answer<'_, Object> {
        let keep = self.versions_max;
        let scope = Scope::both(key.tenant.as_ref(), entry.tenant.as_ref());
        self.alter("writing an object and its audit", scope, move |t| {
            async move {
                let written = write(t, &key, body, (expected, keep)).await?;
                append_audit(t, &entry).await?;
                Ok(written)
            }
            .boxed()
        })
    }

    fn objects(&self, kind: String) -> Answer<'_, Vec<Object>> {
        self.run("listing objects", Scope::Service, move |t| {
            async move {
                let sql = format!(
                    "SELECT {OBJECT} FROM (SELECT DISTINCT ON (tenant, name) * FROM objects \
                     WHERE kind = $1 ORDER BY tenant, name, version DESC) AS newest \
                     WHERE body IS NOT NULL ORDER BY tenant COLLATE \"C\", name COLLATE \"C\""
                );
                let sql = t.prepare_cached(&sql).await?;
                t.query(&sql, &[&kind]).await?.iter().map(read).collect()
            }
            .boxed()
        })
    }

    fn versions(&self, key: ObjectKey, page: Page) -> Answer<'_, Vec<Version>> {
        self.run("listing an object's versions", Scope::of(key.tenant.clone()), move |t| {
            async move {
                let sql = "SELECT version, at_ms, etag, body IS NULL AS deleted FROM objects \
                           WHERE kind = $1 AND tenant = $2 AND name = $3 AND version < $4 \
                           ORDER BY version DESC LIMIT $5";
                let sql = t.prepare_cached(sql).await?;
                let of: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                    [&key.kind, &of(&key), &key.name, &before(page), &limit(page)];
                t.query(&sql, &of).await?.iter().map(read_version).collect()
            }
            .boxed()
        })
    }

    fn version(&self, key: ObjectKey, version: u64) -> Answer<'_, Option<Object>> {
        self.run("reading a version of an object", Scope::of(key.tenant.clone()), move |t| {
            async move {
                let sql = format!(
                    "SELECT {OBJECT} FROM objects WHERE kind = $1 AND tenant = $2 AND name = $3 \
                     AND version = $4 AND body IS NOT NULL"
                );
                let sql = t.prepare_cached(&sql).await?;
                let version = version.cast_signed();
                let row = t.query_opt(&sql, &[&key.kind, &of(&key), &key.name, &version]).await?;
                row.as_ref().map(read).transpose()
            }
            .boxed()
        })
    }

    fn generation(&self) -> Answer<'_, i64> {
        self.run("reading the generation", Scope::Service, |t| {
            async move {
                let sql = "SELECT coalesce(max(sequence), 0) FROM objects";
                let sql = t.prepare_cached(sql).await?;
                Ok(t.query_one(&sql, &[]).await?.try_get(0)?)
            }
            .boxed()
        })
    }
}

/// Writes the next version and forgets all but the newest `keep`.
async fn write(
    t: &Transaction<'_>,
    key: &ObjectKey,
    body: Option<String>,
    (expected, keep): (Expected, u64),
) -> Result<Object, Fault> {
    t.batch_execute(ORDERED).await?;
    let object = expected.next(key, newest(t, key).await?, body)?;
    let version = object.version.cast_signed();
    let sql = "INSERT INTO objects (kind, tenant, name, version, at_ms, etag, body) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let sql = t.prepare_cached(sql).await?;
    let tenant = of(key);
    t.execute(
        &sql,
        &[&key.kind, &tenant, &key.name, &version, &object.at_ms, &object.etag, &object.body],
    )
    .await?;
    let last = object.version.saturating_sub(keep.max(1)).cast_signed();
    let sql = "DELETE FROM objects \
               WHERE kind = $1 AND tenant = $2 AND name = $3 AND version <= $4";
    let sql = t.prepare_cached(sql).await?;
    t.execute(&sql, &[&key.kind, &tenant, &key.name, &last]).await?;
    Ok(object)
}

/// The newest version, a tombstone included.
async fn newest(t: &Transaction<'_>, key: &ObjectKey) -> Result<Option<Object>, Fault> {
    let sql = format!(
        "SELECT {OBJECT} FROM objects WHERE kind = $1 AND tenant = $2 AND name = $3 \
         ORDER BY version DESC LIMIT 1"
    );
    let sql = t.prepare_cached(&sql).await?;
    let row = t.query_opt(&sql, &[&key.kind, &of(key), &key.name]).await?;
    row.as_ref().map(read).transpose()
}

fn of(key: &ObjectKey) -> &str {
    key.tenant.as_ref().map_or("", TenantId::as_str)
}

fn read(row: &Row) -> Result<Object, Fault> {
    let key =
        ObjectKey { kind: row.try_get("kind")?, tenant: scope(row)?, name: row.try_get("name")? };
    Ok(Object {
        key,
        version: row.try_get::<_, i64>("version")?.cast_unsigned(),
        at_ms: row.try_get("at_ms")?,
        etag: row.try_get("etag")?,
        body: row.try_get("body")?,
    })
}

fn read_version(row: &Row) -> Result<Version, Fault> {
    Ok(Version {
        version: row.try_get::<_, i64>("version")?.cast_unsigned(),
        at_ms: row.try_get("at_ms")?,
        etag: row.try_get("etag")?,
        deleted: row.try_get("deleted")?,
    })
}
