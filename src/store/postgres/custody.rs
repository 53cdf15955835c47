//! Custody, one entry at a time for each evidence, whichever instance adds it.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use futures_util::FutureExt as _;
use tokio_postgres::Row;

use super::fault::Fault;
use super::rows::decisions_of;
use super::{Postgres, Scope};
use crate::domain::custody::{
    ActorType, CustodyAct, CustodyAction, CustodyEntry, CustodySignature, Evidence,
};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::LogId;
use crate::store::custody::{shown, signature};
use crate::store::{Answer, Attest, Custody, NextEntry, StoreError};

const ENTRY: &str = "seq, at_ms, action, actor, actor_type, details, previous_hash, hash, log_id, \
    signature";

impl Custody for Postgres {
    fn append_custody(&self, of: Evidence, next: NextEntry) -> Answer<'_, CustodyEntry> {
        self.alter("writing custody", Scope::Tenant(of.tenant.clone()), move |t| {
            async move {
                let alone = "SELECT pg_advisory_xact_lock(7201005, hashtext($1))";
                let alone = t.prepare_cached(alone).await?;
                t.execute(&alone, &[&of.id]).await?;
                let entry = next(last(t, &of).await?);
                insert(t, &of, &entry).await?;
                Ok(entry)
            }
            .boxed()
        })
    }

    fn custody(&self, of: Evidence, seq: u32, limit: u32) -> Answer<'_, Vec<CustodyEntry>> {
        self.run("reading custody", Scope::Tenant(of.tenant.clone()), move |t| {
            async move {
                let sql = format!(
                    "SELECT {ENTRY} FROM custody WHERE evidence = $1 AND tenant = $2 AND seq > $3 \
                     ORDER BY seq LIMIT $4"
                );
                let sql = t.prepare_cached(&sql).await?;
                let (seq, limit) = (i64::from(seq), i64::from(shown(limit)));
                let rows = t.query(&sql, &[&of.id, &of.tenant.as_str(), &seq, &limit]).await?;
                rows.iter().map(read).collect()
            }
            .boxed()
        })
    }
}

/// Adds what `attest` makes to the custody of each of these decisions, which nobody else adds to
/// meanwhile. The transaction must be the tenant's.
pub(super) async fn append_to_each(
    t: &Transaction<'_>,
    (tenant, ids): (&TenantId, &[String]),
    attest: &Attest,
) -> Result<(), Fault> {
    let alone = "SELECT pg_advisory_xact_lock(7201005, hashtext(id)) \
                 FROM (SELECT unnest($1::text[]) AS id ORDER BY 1) AS each";
    let alone = t.prepare_cached(alone).await?;
    t.execute(&alone, &[&ids]).await?;
    let sql = "SELECT DISTINCT ON (evidence) evidence, seq, hash FROM custody \
               WHERE tenant = $1 AND evidence = ANY ($2) ORDER BY evidence, seq DESC";
    let sql = t.prepare_cached(sql).await?;
    let mut last = BTreeMap::new();
    for row in t.query(&sql, &[&tenant.as_str(), &ids]).await? {
        let evidence: String = row.try_get("evidence")?;
        last.insert(evidence, (number(&row)?, digest(&row, "hash")?));
    }
    for decision in decisions_of(t, (tenant, ids)).await? {
        let entry = attest(&decision, last.get(&decision.id).copied());
        let of = Evidence { tenant: decision.tenant, id: decision.id };
        insert(t, &of, &entry).await?;
    }
    Ok(())
}

async fn last(t: &Transaction<'_>, of: &Evidence) -> Result<Option<(u32, Digest)>, Fault> {
    let sql = "SELECT seq, hash FROM custody WHERE evidence = $1 AND tenant = $2 \
               ORDER BY seq DESC LIMIT 1";
    let sql = t.prepare_cached(sql).await?;
    let row = t.query_opt(&sql, &[&of.id, &of.tenant.as_str()]).await?;
    row.as_ref().map(|row| Ok((number(row)?, digest(row, "hash")?))).transpose()
}

async fn insert(t: &Transaction<'_>, of: &Evidence, entry: &CustodyEntry) -> Result<(), Fault> {
    let sql = "INSERT INTO custody (evidence, seq, tenant, at_ms, action, actor, actor_type, \
               details, previous_hash, hash, log_id, signature) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    let sql = t.prepare_cached(sql).await?;
    let CustodyAct { at_ms, action, actor, actor_type, details } = &entry.act;
    let (log, signature) = signature(entry);
    t.execute(
        &sql,
        &[
            &of.id,
            &i64::from(entry.seq),
            &of.tenant.as_str(),
            at_ms,
            &action.name(),
            actor,
            &actor_type.name(),
            details,
            &&entry.previous.as_bytes()[..],
            &&entry.hash.as_bytes()[..],
            &log,
            &signature,
        ],
    )
    .await?;
    Ok(())
}

fn read(row: &Row) -> Result<CustodyEntry, Fault> {
    let act = CustodyAct {
        at_ms: row.try_get("at_ms")?,
        action: CustodyAction::parse(row.try_get("action")?).ok_or_else(|| wrong("action"))?,
        actor: row.try_get("actor")?,
        actor_type: ActorType::parse(row.try_get("actor_type")?)
            .ok_or_else(|| wrong("actor_type"))?,
        details: row.try_get("details")?,
    };
    let bytes: &[u8] = row.try_get("signature")?;
    let bytes = bytes.try_into().map_err(|_| wrong("signature"))?;
    let log = LogId::parse(row.try_get("log_id")?).ok_or_else(|| wrong("log_id"))?;
    Ok(CustodyEntry {
        seq: number(row)?,
        act,
        previous: digest(row, "previous_hash")?,
        hash: digest(row, "hash")?,
        signature: Some(CustodySignature { log, bytes }),
    })
}

fn number(row: &Row) -> Result<u32, Fault> {
    u32::try_from(row.try_get::<_, i64>("seq")?).map_err(|_| wrong("seq"))
}

/// A hash as a column holds it.
pub(super) fn digest(row: &Row, column: &str) -> Result<Digest, Fault> {
    let bytes: &[u8] = row.try_get(column)?;
    Ok(Digest::from_bytes(bytes.try_into().map_err(|_| wrong(column))?))
}

fn wrong(column: &str) -> Fault {
    let reason = format!("column {column} holds something else");
    StoreError::Damaged { doing: "reading custody", reason }.into()
}
