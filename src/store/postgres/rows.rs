//! Decisions and audit: rows in, rows out.

use deadpool_postgres::Transaction;
use futures_util::FutureExt as _;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::custody::digest;
use super::fault::Fault;
use super::ledger::read_leaf;
use super::{Postgres, Scope, search};
use crate::domain::action::Action;
use crate::domain::digest::Digest;
use crate::domain::id::{BundleName, RequestId, TenantId};
use crate::store::{
    Answer, Audit, AuditEntry, Chained, Decision, Decisions, Link, Numbered, Page, Passed, Sought,
    Spot, StoreError, Tally,
};

const LIMIT_MAX: u32 = 1000;
/// Named, here and elsewhere: a column that a newer program adds must not change what a prepared
/// statement gives, or the server refuses it.
const DECISION: &str = "SELECT d.sequence, d.id, d.tenant, request_id, at_ms, policy, revision, \
    action, complete, record, place, hash, logs.id AS log FROM decisions AS d \
    LEFT JOIN leaves ON decision = d.id LEFT JOIN logs ON number = leaves.log WHERE d.tenant = $1";

/// Those of `ids` that belong to `tenant`.
pub(super) async fn decisions_of(
    t: &Transaction<'_>,
    (tenant, ids): (&TenantId, &[String]),
) -> Result<Vec<Decision>, Fault> {
    let sql = t.prepare_cached(&format!("{DECISION} AND d.id = ANY ($2)")).await?;
    let rows = t.query(&sql, &[&tenant.as_str(), &ids]).await?;
    rows.iter().map(|row| Ok(read_decision(row)?.value)).collect()
}

impl Decisions for Postgres {
    fn decision(&self, tenant: TenantId, id: String) -> Answer<'_, Option<Decision>> {
        self.run("reading a decision", Scope::Tenant(tenant.clone()), move |t| {
            async move {
                let sql = format!("{DECISION} AND d.id = $2");
                let sql = t.prepare_cached(&sql).await?;
                let row = t.query_opt(&sql, &[&tenant.as_str(), &id]).await?;
                row.as_ref().map(read_decision).transpose().map(|row| row.map(|row| row.value))
            }
            .boxed()
        })
    }

    fn decisions(&self, tenant: TenantId, page: Page) -> Answer<'_, Vec<Numbered<Decision>>> {
        self.run("listing decisions", Scope::Tenant(tenant.clone()), move |t| {
            async move {
                let sql = format!("{DECISION} AND sequence < $2 ORDER BY sequence DESC LIMIT $3");
                let sql = t.prepare_cached(&sql).await?;
                let of = [&tenant.as_str() as _, &before(page) as _, &limit(page) as _];
                t.query(&sql, &of).await?.iter().map(read_decision).collect()
            }
            .boxed()
        })
    }

    fn look(
        &self,
        tenant: TenantId,
        sought: Sought,
        after: Option<Spot>,
        rows: u32,
    ) -> Answer<'_, Vec<Passed>> {
        self.run("looking for decisions", Scope::Tenant(tenant.clone()), move |t| {
            async move { search::look(t, (&tenant, &sought), after, rows).await }.boxed()
        })
    }

    fn tally(&self, tenant: TenantId, sought: Sought, rows: u32) -> Answer<'_, Vec<Tally>> {
        self.run("counting decisions", Scope::Tenant(tenant.clone()), move |t| {
            async move { search::tally(t, (&tenant, &sought), rows).await }.boxed()
        })
    }
}

impl Audit for Postgres {
    fn append(&self, entry: AuditEntry) -> Answer<'_, i64> {
        self.alter("appending to the audit", Scope::of(entry.tenant.clone()), move |t| {
            async move { append_audit(t, &entry).await }.boxed()
        })
    }

    fn entries(
        &self,
        tenant: Option<TenantId>,
        page: Page,
    ) -> Answer<'_, Vec<Numbered<AuditEntry>>> {
        self.run("listing the audit", Scope::of(tenant.clone()), move |t| {
            async move {
                let sql = "SELECT sequence, tenant, at_ms, actor, action, target, reason, before, \
                           after FROM audit WHERE ($1::text IS NULL OR tenant = $1) \
                           AND sequence < $2 ORDER BY sequence DESC LIMIT $3";
                let sql = t.prepare_cached(sql).await?;
                let of = tenant.as_ref().map(TenantId::as_str);
                let rows = t.query(&sql, &[&of, &before(page), &limit(page)]).await?;
                rows.iter().map(read_audit).collect()
            }
            .boxed()
        })
    }

    fn chain(
        &self,
        tenant: Option<TenantId>,
        after: i64,
        limit: u32,
    ) -> Answer<'_, Vec<Numbered<Chained>>> {
        self.run("reading the chain of the audit", Scope::of(tenant.clone()), move |t| {
            async move {
                let sql = "SELECT sequence, tenant, at_ms, actor, action, target, reason, before, \
                           after, event, previous_hash, hash FROM audit \
                           WHERE ($1::text IS NULL OR tenant = $1) AND sequence > $2 \
                           ORDER BY sequence LIMIT $3";
                let sql = t.prepare_cached(sql).await?;
                let of = tenant.as_ref().map(TenantId::as_str);
                let limit = i64::from(limit.min(LIMIT_MAX));
                t.query(&sql, &[&of, &after, &limit]).await?.iter().map(read_chained).collect()
            }
            .boxed()
        })
    }
}

/// Appends to the chain of the entry's tenant, one at a time over all chains: numbers grow in the
/// order in which acts become visible, so that a reader misses none.
pub(super) async fn append_audit(t: &Transaction<'_>, entry: &AuditEntry) -> Result<i64, Fault> {
    // PostgreSQL keeps no NUL.
    let kept = |text: &str| text.replace('\0', "\u{FFFD}");
    let (actor, target, reason) = (kept(&entry.actor), kept(&entry.target), kept(&entry.reason));
    let entry = AuditEntry { actor, target, reason, ..entry.clone() };
    let link = Link::after(last_hash(t, entry.tenant.as_ref()).await?, &entry);
    let sql = "INSERT INTO audit (tenant, at_ms, actor, action, target, reason, before, after, \
               event, previous_hash, hash) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING sequence";
    let sql = t.prepare_cached(sql).await?;
    let tenant = entry.tenant.as_ref().map(TenantId::as_str);
    let AuditEntry { at_ms, actor, action, target, reason, before, after, .. } = &entry;
    let (previous, hash) = (&link.previous.as_bytes()[..], &link.hash.as_bytes()[..]);
    let link: [&(dyn ToSql + Sync); 3] = [&link.event, &previous, &hash];
    let of: [&(dyn ToSql + Sync); 8] =
        [&tenant, at_ms, actor, action, target, reason, before, after];
    Ok(t.query_one(&sql, &[&of[..], &link[..]].concat()).await?.try_get(0)?)
}

/// Hash of the last act of a chain; nobody else appends until the transaction ends.
async fn last_hash(t: &Transaction<'_>, of: Option<&TenantId>) -> Result<Option<Digest>, Fault> {
    t.batch_execute("SELECT pg_advisory_xact_lock(7201003)").await?;
    let tenant = of.map(TenantId::as_str);
    // A statement of its own: it sees what was committed while the lock was waited for.
    let whose =
        if tenant.is_some() { "tenant = $1" } else { "tenant IS NULL AND $1::text IS NULL" };
    let sql = format!("SELECT hash FROM audit WHERE {whose} ORDER BY sequence DESC LIMIT 1");
    let sql = t.prepare_cached(&sql).await?;
    t.query_opt(&sql, &[&tenant]).await?.as_ref().map(|row| digest(row, "hash")).transpose()
}

pub(super) fn before(page: Page) -> i64 {
    page.before.unwrap_or(i64::MAX)
}

pub(super) fn limit(page: Page) -> i64 {
    page.limit.min(LIMIT_MAX).into()
}

/// A column that only a hand-edited table can hold wrong values in.
pub(super) fn parsed<T, E: std::fmt::Display>(
    row: &Row,
    column: &str,
    parse: fn(&str) -> Result<T, E>,
) -> Result<T, Fault> {
    let text: &str = row.try_get(column)?;
    parse(text).map_err(|error| {
        let reason = format!("column {column}: {error}");
        StoreError::Damaged { doing: "reading a row", reason }.into()
    })
}

/// Whose the row is, where it is one tenant's.
pub(super) fn tenant(row: &Row) -> Result<Option<TenantId>, Fault> {
    let tenant: Option<&str> = row.try_get("tenant")?;
    tenant.map(|_| parsed(row, "tenant", TenantId::parse)).transpose()
}

/// The same, where an empty one is the shared scope.
pub(super) fn scope(row: &Row) -> Result<Option<TenantId>, Fault> {
    match row.try_get("tenant")? {
        "" => Ok(None),
        _ => parsed(row, "tenant", TenantId::parse).map(Some),
    }
}

/// The action of that name.
pub(super) fn action(name: &str) -> Result<Action, &'static str> {
    Action::parse(name).ok_or("no action is called so")
}

pub(super) fn read_decision(row: &Row) -> Result<Numbered<Decision>, Fault> {
    let value = Decision {
        id: row.try_get("id")?,
        tenant: parsed(row, "tenant", TenantId::parse)?,
        request_id: parsed(row, "request_id", RequestId::parse)?,
        at_ms: row.try_get("at_ms")?,
        policy: parsed(row, "policy", BundleName::parse)?,
        revision: row.try_get("revision")?,
        action: parsed(row, "action", action)?,
        complete: row.try_get("complete")?,
        record: row.try_get("record")?,
        leaf: read_leaf(row)?,
    };
    Ok(Numbered { sequence: row.try_get("sequence")?, value })
}

fn read_audit(row: &Row) -> Result<Numbered<AuditEntry>, Fault> {
    let value = AuditEntry {
        tenant: tenant(row)?,
        at_ms: row.try_get("at_ms")?,
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        target: row.try_get("target")?,
        reason: row.try_get("reason")?,
        before: row.try_get("before")?,
        after: row.try_get("after")?,
    };
    Ok(Numbered { sequence: row.try_get("sequence")?, value })
}

fn read_chained(row: &Row) -> Result<Numbered<Chained>, Fault> {
    let Numbered { sequence, value: entry } = read_audit(row)?;
    let (previous, hash) = (digest(row, "previous_hash")?, digest(row, "hash")?);
    let link = Link { event: row.try_get("event")?, previous, hash };
    Ok(Numbered { sequence, value: Chained { entry, link: Some(link) } })
}
