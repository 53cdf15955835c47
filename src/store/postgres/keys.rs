//! API keys: rows, never their secrets.

use deadpool_postgres::Transaction;
use futures_util::FutureExt as _;
use tokio_postgres::Row;

use super::fault::Fault;
use super::rows::{append_audit, before, limit, tenant};
use super::{ORDERED, Postgres, Scope};
use crate::domain::id::TenantId;
use crate::domain::request::Priority;
use crate::store::keys::{Names, grant};
use crate::store::{
    Answer, ApiKey, AuditEntry, KeyChange, KeyHash, Keys, Numbered, Page, StoreError,
};

const KEY: &str = "sequence, prefix, hash, tenant, roles, scopes, max_priority, label, \
    created_by, created_at_ms, expires_at_ms, revoked_at_ms, replaced_by";

impl Keys for Postgres {
    fn key(&self, prefix: String) -> Answer<'_, Option<ApiKey>> {
        // Whose it is, is known only then.
        self.run("reading a key", Scope::Service, move |t| {
            async move {
                let sql = format!("SELECT {KEY} FROM keys WHERE prefix = $1");
                let sql = t.prepare_cached(&sql).await?;
                let row = t.query_opt(&sql, &[&prefix]).await?;
                row.as_ref().map(read).transpose().map(|row| row.map(|row| row.value))
            }
            .boxed()
        })
    }

    fn keys(&self, tenant: Option<TenantId>, page: Page) -> Answer<'_, Vec<Numbered<ApiKey>>> {
        self.run("listing keys", Scope::of(tenant.clone()), move |t| {
            async move {
                let sql = format!(
                    "SELECT {KEY} FROM keys WHERE ($1::text IS NULL OR tenant = $1) \
                     AND sequence < $2 ORDER BY sequence DESC LIMIT $3"
                );
                let sql = t.prepare_cached(&sql).await?;
                let of = tenant.as_ref().map(TenantId::as_str);
                let rows = t.query(&sql, &[&of, &before(page), &limit(page)]).await?;
                rows.iter().map(read).collect()
            }
            .boxed()
        })
    }

    fn keys_that_hold(&self, now_ms: i64) -> Answer<'_, u64> {
        self.run("counting keys", Scope::Service, move |t| {
            async move {
                let sql = "SELECT count(*) FROM keys WHERE revoked_at_ms IS NULL \
                           AND (expires_at_ms IS NULL OR expires_at_ms > $1)";
                let sql = t.prepare_cached(sql).await?;
                let count: i64 = t.query_one(&sql, &[&now_ms]).await?.try_get(0)?;
                Ok(count.cast_unsigned())
            }
            .boxed()
        })
    }

    fn change_key(&self, change: KeyChange, entry: AuditEntry) -> Answer<'_, bool> {
        self.alter("changing a key", Scope::Service, move |t| {
            async move {
                t.batch_execute(ORDERED).await?;
                let made = make(t, &change, entry.at_ms).await?;
                if made {
                    append_audit(t, &entry).await?;
                }
                Ok(made)
            }
            .boxed()
        })
    }
}

/// Whether it was made; where not, nothing was written.
async fn make(t: &Transaction<'_>, change: &KeyChange, now_ms: i64) -> Result<bool, Fault> {
    match change {
        KeyChange::Add(key) => insert(t, key).await?,
        KeyChange::AddFirst(key) => {
            let any = t.query_one("SELECT EXISTS (SELECT FROM keys)", &[]).await?;
            if any.try_get(0)? {
                return Ok(false);
            }
            insert(t, key).await?;
        }
        KeyChange::Replace { old, until_ms, new } => {
            let sql = "UPDATE keys SET replaced_by = $2, \
                       expires_at_ms = least(coalesce(expires_at_ms, $3), $3) \
                       WHERE prefix = $1 AND revoked_at_ms IS NULL AND replaced_by IS NULL \
                       AND (expires_at_ms IS NULL OR expires_at_ms > $4)";
            if t.execute(sql, &[old, &new.prefix, until_ms, &now_ms]).await? == 0 {
                return Ok(false);
            }
            insert(t, new).await?;
        }
        KeyChange::Revoke { prefix, at_ms } => {
            let sql = "UPDATE keys SET revoked_at_ms = $2 \
                       WHERE prefix = $1 AND revoked_at_ms IS NULL";
            return Ok(t.execute(sql, &[prefix, at_ms]).await? == 1);
        }
    }
    Ok(true)
}

async fn insert(t: &Transaction<'_>, key: &ApiKey) -> Result<(), Fault> {
    let Names { roles, scopes } = Names::of(&key.grant);
    let sql = "INSERT INTO keys (prefix, hash, tenant, roles, scopes, max_priority, label, \
               created_by, created_at_ms, expires_at_ms, revoked_at_ms, replaced_by) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    t.execute(
        sql,
        &[
            &key.prefix,
            &&key.hash.0[..],
            &key.tenant.as_ref().map(TenantId::as_str),
            &roles,
            &scopes,
            &key.max_priority.map(Priority::name),
            &key.label,
            &key.created_by,
            &key.created_at_ms,
            &key.expires_at_ms,
            &key.revoked_at_ms,
            &key.replaced_by,
        ],
    )
    .await?;
    Ok(())
}

fn read(row: &Row) -> Result<Numbered<ApiKey>, Fault> {
    let wrong = |column: &str| {
        let reason = format!("column {column} holds something else");
        Fault::from(StoreError::Failed { doing: "reading a key", reason })
    };
    let max_priority: Option<&str> = row.try_get("max_priority")?;
    let max_priority = max_priority
        .map(|name| Priority::parse(name).ok_or_else(|| wrong("max_priority")))
        .transpose()?;
    let hash: &[u8] = row.try_get("hash")?;
    let value = ApiKey {
        prefix: row.try_get("prefix")?,
        hash: KeyHash(hash.try_into().map_err(|_| wrong("hash"))?),
        tenant: tenant(row)?,
        grant: grant(row.try_get("roles")?, row.try_get("scopes")?),
        max_priority,
        label: row.try_get("label")?,
        created_by: row.try_get("created_by")?,
        created_at_ms: row.try_get("created_at_ms")?,
        expires_at_ms: row.try_get("expires_at_ms")?,
        revoked_at_ms: row.try_get("revoked_at_ms")?,
        replaced_by: row.try_get("replaced_by")?,
    };
    Ok(Numbered { sequence: row.try_get("sequence")?, value })
}
