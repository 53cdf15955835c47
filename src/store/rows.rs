//! The SQL of the SQLite store: rows in, rows out.

use rusqlite::{Connection, OptionalExtension, Result, Row, TransactionBehavior, params};

use crate::domain::action::Action;
use crate::domain::digest::Digest;
use crate::domain::id::{BundleName, RequestId, TenantId};

use super::ledger::read_leaf;
use super::{
    AuditEntry, Chained, Decision, Link, Numbered, Object, ObjectKey, Page, Purge, Version,
};

const LIMIT_MAX: u32 = 1000;
/// With its leaf, where it has one.
const DECISION: &str = "SELECT d.*, place, hash, logs.id AS log FROM decisions AS d \
    LEFT JOIN leaves ON decision = d.id LEFT JOIN logs ON number = leaves.log";

pub(super) fn insert_decision(connection: &Connection, decision: &Decision) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO decisions (id, tenant, request_id, at_ms, policy, revision, action, \
             complete, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            decision.id,
            decision.tenant.as_str(),
            decision.request_id.as_str(),
            decision.at_ms,
            decision.policy.as_str(),
            decision.revision,
            decision.action.name(),
            decision.complete,
            decision.record,
        ])?;
    Ok(())
}

pub(super) fn decision(
    connection: &Connection,
    tenant: &TenantId,
    id: &str,
) -> Result<Option<Decision>> {
    connection
        .prepare_cached(&format!("{DECISION} WHERE d.tenant = ?1 AND d.id = ?2"))?
        .query_row(params![tenant.as_str(), id], read_decision)
        .optional()
        .map(|found| found.map(|row| row.value))
}

pub(super) fn decisions(
    connection: &Connection,
    tenant: &TenantId,
    page: Page,
) -> Result<Vec<Numbered<Decision>>> {
    connection
        .prepare_cached(&format!(
            "{DECISION} WHERE d.tenant = ?1 AND sequence < ?2 ORDER BY sequence DESC LIMIT ?3"
        ))?
        .query_map(params![tenant.as_str(), before(page), limit(page)], read_decision)?
        .collect()
}

/// What is to be purged, oldest first.
pub(super) fn expired(connection: &Connection, purge: &Purge) -> Result<Vec<Decision>> {
    connection
        .prepare_cached(&format!(
            "{DECISION} WHERE d.tenant = ?1 AND at_ms < ?2 AND record <> '' \
             AND NOT EXISTS (SELECT 1 FROM holds \
             WHERE holds.tenant = ?1 AND holds.evidence = '') \
             AND NOT EXISTS (SELECT 1 FROM holds \
             WHERE holds.tenant = ?1 AND holds.evidence = d.id) ORDER BY at_ms LIMIT ?3"
        ))?
        .query_map(params![purge.tenant.as_str(), purge.before_ms, purge.rows_max], |row| {
            read_decision(row).map(|row| row.value)
        })?
        .collect()
}

pub(super) fn append_audit(connection: &Connection, entry: &AuditEntry) -> Result<i64> {
    let tenant = entry.tenant.as_ref().map(TenantId::as_str);
    let last: Option<Option<[u8; 32]>> = connection
        .prepare_cached("SELECT hash FROM audit WHERE tenant IS ?1 ORDER BY sequence DESC LIMIT 1")?
        .query_row([tenant], |row| row.get(0))
        .optional()?;
    let link = Link::after(last.flatten().map(Digest::from_bytes), entry);
    connection
        .prepare_cached(
            "INSERT INTO audit (tenant, at_ms, actor, action, target, reason, before, after, \
             event, previous_hash, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .insert(params![
            tenant,
            entry.at_ms,
            entry.actor,
            entry.action,
            entry.target,
            entry.reason,
            entry.before,
            entry.after,
            link.event,
            link.previous.as_bytes(),
            link.hash.as_bytes(),
        ])
}

/// Chains the acts of earlier releases, oldest first, where their chain has not begun: what is
/// without a link in a chain that has begun was not written here, and stays without.
pub(super) fn chain_old_acts(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let chains: Vec<Option<String>> = transaction
        .prepare(
            "SELECT DISTINCT tenant FROM audit AS old WHERE hash IS NULL AND NOT EXISTS \
             (SELECT 1 FROM audit AS new WHERE new.tenant IS old.tenant AND new.hash IS NOT NULL)",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_>>()?;
    for tenant in chains {
        let mut acts = transaction
            .prepare("SELECT * FROM audit WHERE tenant IS ?1 AND hash IS NULL ORDER BY sequence")?;
        let mut last = None;
        for act in acts.query_map([tenant], read_audit)? {
            let Numbered { sequence, value } = act?;
            let link = Link::after(last, &value);
            transaction
                .prepare_cached(
                    "UPDATE audit SET event = ?2, previous_hash = ?3, hash = ?4 \
                     WHERE sequence = ?1",
                )?
                .execute(params![
                    sequence,
                    link.event,
                    link.previous.as_bytes(),
                    link.hash.as_bytes()
                ])?;
            last = Some(link.hash);
        }
    }
    transaction.commit()
}

pub(super) fn chain(
    connection: &Connection,
    tenant: Option<&TenantId>,
    after: i64,
    limit: u32,
) -> Result<Vec<Numbered<Chained>>> {
    connection
        .prepare_cached(
            "SELECT * FROM audit WHERE (?1 IS NULL OR tenant = ?1) AND sequence > ?2 \
             ORDER BY sequence LIMIT ?3",
        )?
        .query_map(params![tenant.map(TenantId::as_str), after, limit.min(LIMIT_MAX)], |row| {
            let Numbered { sequence, value: entry } = read_audit(row)?;
            let hash: Option<[u8; 32]> = row.get("hash")?;
            let link = hash.map(|hash| -> Result<Link> {
                let previous = Digest::from_bytes(row.get("previous_hash")?);
                Ok(Link { event: row.get("event")?, previous, hash: Digest::from_bytes(hash) })
            });
            let link = link.transpose()?;
            Ok(Numbered { sequence, value: Chained { entry, link } })
        })?
        .collect()
}

pub(super) fn audit(
    connection: &Connection,
    tenant: Option<&TenantId>,
    page: Page,
) -> Result<Vec<Numbered<AuditEntry>>> {
    connection
        .prepare_cached(
            "SELECT * FROM audit WHERE (?1 IS NULL OR tenant = ?1) AND sequence < ?2 \
             ORDER BY sequence DESC LIMIT ?3",
        )?
        .query_map(params![tenant.map(TenantId::as_str), before(page), limit(page)], read_audit)?
        .collect()
}

/// The newest version, a tombstone included.
pub(super) fn newest(connection: &Connection, key: &ObjectKey) -> Result<Option<Object>> {
    connection
        .prepare_cached(
            "SELECT * FROM objects WHERE kind = ?1 AND tenant = ?2 AND name = ?3 \
             ORDER BY version DESC LIMIT 1",
        )?
        .query_row(params![key.kind, scope(key), key.name], read_object)
        .optional()
}

pub(super) fn versions(
    connection: &Connection,
    key: &ObjectKey,
    page: Page,
) -> Result<Vec<Version>> {
    connection
        .prepare_cached(
            "SELECT version, at_ms, etag, body IS NULL AS deleted FROM objects \
             WHERE kind = ?1 AND tenant = ?2 AND name = ?3 AND version < ?4 \
             ORDER BY version DESC LIMIT ?5",
        )?
        .query_map(params![key.kind, scope(key), key.name, before(page), limit(page)], |row| {
            Ok(Version {
                version: row.get::<_, i64>("version")?.cast_unsigned(),
                at_ms: row.get("at_ms")?,
                etag: row.get("etag")?,
                deleted: row.get("deleted")?,
            })
        })?
        .collect()
}

pub(super) fn version(
    connection: &Connection,
    key: &ObjectKey,
    version: u64,
) -> Result<Option<Object>> {
    connection
        .prepare_cached(
            "SELECT * FROM objects WHERE kind = ?1 AND tenant = ?2 AND name = ?3 \
             AND version = ?4 AND body IS NOT NULL",
        )?
        .query_row(params![key.kind, scope(key), key.name, version.cast_signed()], read_object)
        .optional()
}

pub(super) fn objects(connection: &Connection, kind: &str) -> Result<Vec<Object>> {
    connection
        .prepare_cached(
            "SELECT * FROM objects AS o WHERE kind = ?1 AND body IS NOT NULL AND version = \
             (SELECT max(version) FROM objects AS n WHERE n.kind = o.kind AND \
             n.tenant = o.tenant AND n.name = o.name) ORDER BY tenant, name",
        )?
        .query_map(params![kind], read_object)?
        .collect()
}

pub(super) fn generation(connection: &Connection) -> Result<i64> {
    connection
        .prepare_cached("SELECT coalesce(max(sequence), 0) FROM objects")?
        .query_row([], |row| row.get(0))
}

/// Writes the version that follows.
pub(super) fn insert_object(connection: &Connection, object: &Object) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO objects (kind, tenant, name, version, at_ms, etag, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            object.key.kind,
            scope(&object.key),
            object.key.name,
            object.version.cast_signed(),
            object.at_ms,
            object.etag,
            object.body
        ])
        .map(drop)
}

/// Deletes every version of an object up to and with `last`.
pub(super) fn forget_versions(connection: &Connection, key: &ObjectKey, last: u64) -> Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM objects WHERE kind = ?1 AND tenant = ?2 AND name = ?3 AND version <= ?4",
        )?
        .execute(params![key.kind, scope(key), key.name, last.cast_signed()])?;
    Ok(())
}

fn scope(key: &ObjectKey) -> &str {
    key.tenant.as_ref().map_or("", TenantId::as_str)
}

pub(super) fn before(page: Page) -> i64 {
    page.before.unwrap_or(i64::MAX)
}

pub(super) fn limit(page: Page) -> u32 {
    page.limit.min(LIMIT_MAX)
}

pub(super) fn read_decision(row: &Row<'_>) -> Result<Numbered<Decision>> {
    let action: String = row.get("action")?;
    let value = Decision {
        id: row.get("id")?,
        tenant: parsed(row, "tenant", TenantId::parse)?,
        request_id: parsed(row, "request_id", RequestId::parse)?,
        at_ms: row.get("at_ms")?,
        policy: parsed(row, "policy", BundleName::parse)?,
        revision: row.get("revision")?,
        action: Action::parse(&action)
            .ok_or(rusqlite::Error::InvalidColumnName("action".into()))?,
        complete: row.get("complete")?,
        record: row.get("record")?,
        leaf: read_leaf(row)?,
    };
    Ok(Numbered { sequence: row.get("sequence")?, value })
}

fn read_audit(row: &Row<'_>) -> Result<Numbered<AuditEntry>> {
    let value = AuditEntry {
        tenant: tenant(row)?,
        at_ms: row.get("at_ms")?,
        actor: row.get("actor")?,
        action: row.get("action")?,
        target: row.get("target")?,
        reason: row.get("reason")?,
        before: row.get("before")?,
        after: row.get("after")?,
    };
    Ok(Numbered { sequence: row.get("sequence")?, value })
}

fn read_object(row: &Row<'_>) -> Result<Object> {
    let tenant: String = row.get("tenant")?;
    let key = ObjectKey {
        kind: row.get("kind")?,
        tenant: match tenant.as_str() {
            "" => None,
            _ => Some(parsed(row, "tenant", TenantId::parse)?),
        },
        name: row.get("name")?,
    };
    Ok(Object {
        key,
        version: row.get::<_, i64>("version")?.cast_unsigned(),
        at_ms: row.get("at_ms")?,
        etag: row.get("etag")?,
        body: row.get("body")?,
    })
}

/// A column that only a hand-edited file can hold wrong values in.
/// Whose the row is, where it is one tenant's.
pub(super) fn tenant(row: &Row<'_>) -> Result<Option<TenantId>> {
    let tenant: Option<String> = row.get("tenant")?;
    tenant.map(|_| parsed(row, "tenant", TenantId::parse)).transpose()
}

pub(super) fn parsed<T, E: std::error::Error + Send + Sync + 'static>(
    row: &Row<'_>,
    column: &str,
    parse: fn(&str) -> std::result::Result<T, E>,
) -> Result<T> {
    let text: String = row.get(column)?;
    parse(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
