//! Retention, by a role that takes records away and cannot read one.

use futures_util::FutureExt as _;

use super::rows::{append_audit, parsed};
use super::{Postgres, Scope, custody};
use crate::domain::custody::Evidence;
use crate::domain::id::TenantId;
use crate::store::{
    Answer, Attest, AuditEntry, HEADS_MAX, HeadsPurged, Hold, HoldOn, OldHeads, Purge, Retention,
};

/// Held by the instance that purges, and by whoever changes a hold.
const PURGING: i64 = 7_201_004;

impl Retention for Postgres {
    fn oldest(&self, after: Option<TenantId>, limit: u32) -> Answer<'_, Vec<(TenantId, i64)>> {
        self.run("looking for expired records", Scope::Purge, move |t| {
            async move {
                // From tenant to tenant over the index, never row by row.
                let sql = "WITH RECURSIVE t (tenant) AS (SELECT $1::text UNION ALL \
                           SELECT (SELECT tenant FROM decisions WHERE NOT purged \
                                   AND tenant > t.tenant ORDER BY tenant LIMIT 1) \
                           FROM t WHERE t.tenant IS NOT NULL) \
                           SELECT tenant, (SELECT at_ms FROM decisions AS d WHERE NOT purged \
                                           AND d.tenant = t.tenant ORDER BY at_ms LIMIT 1) AS at_ms \
                           FROM t WHERE tenant IS NOT NULL AND tenant <> $1 LIMIT $2";
                let sql = t.prepare_cached(sql).await?;
                let after = after.as_ref().map_or("", TenantId::as_str);
                let rows = t.query(&sql, &[&after, &i64::from(limit)]).await?;
                let read = |row: &tokio_postgres::Row| {
                    Ok((parsed(row, "tenant", TenantId::parse)?, row.try_get("at_ms")?))
                };
                rows.iter().map(read).collect()
            }
            .boxed()
        })
    }

    fn purge(&self, purge: Purge, attest: Attest) -> Answer<'_, u64> {
        self.alter("purging expired records", Scope::Purge, move |t| {
            async move {
                let alone =
                    t.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&PURGING]).await?;
                if !alone.try_get::<_, bool>(0)? {
                    return Ok(0);
                }
                let sql = "SELECT id FROM decisions AS d WHERE tenant = $1 AND at_ms < $2 \
                           AND NOT purged AND NOT EXISTS (SELECT FROM holds \
                           WHERE holds.tenant = $1 AND holds.evidence = '') \
                           AND NOT EXISTS (SELECT FROM holds \
                           WHERE holds.tenant = $1 AND holds.evidence = d.id) \
                           ORDER BY at_ms LIMIT $3";
                let sql = t.prepare_cached(sql).await?;
                let (tenant, most) = (purge.tenant.as_str(), i64::from(purge.rows_max));
                let rows = t.query(&sql, &[&tenant, &purge.before_ms, &most]).await?;
                let ids: Vec<String> =
                    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
                if ids.is_empty() {
                    return Ok(0);
                }
                // What is signed is read as the tenant; the one who empties reads no record.
                let own = Scope::Tenant(purge.tenant.clone());
                t.batch_execute(&own.enter()).await?;
                custody::append_to_each(t, (&purge.tenant, &ids), &attest).await?;
                t.batch_execute(&Scope::Purge.enter()).await?;
                let sql = "UPDATE decisions SET record = '' WHERE tenant = $1 AND id = ANY ($2)";
                let sql = t.prepare_cached(sql).await?;
                let taken = t.execute(&sql, &[&tenant, &ids]).await?;
                t.batch_execute(&own.enter()).await?;
                append_audit(t, &purge.entry(taken)).await?;
                Ok(taken)
            }
            .boxed()
        })
    }

    fn purge_heads(&self, of: OldHeads) -> Answer<'_, HeadsPurged> {
        self.alter("purging old checkpoints", Scope::Purge, move |t| {
            async move {
                let alone =
                    t.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&PURGING]).await?;
                if !alone.try_get::<_, bool>(0)? {
                    return Ok(HeadsPurged::default());
                }
                let sql = "SELECT size, at_ms FROM checkpoints \
                           WHERE log = (SELECT number FROM logs WHERE id = $1) AND size > $2 \
                           ORDER BY size LIMIT $3";
                let sql = t.prepare_cached(sql).await?;
                let (log, after) = (of.log.as_str(), of.after.cast_signed());
                let rows = t.query(&sql, &[&log, &after, &i64::from(HEADS_MAX)]).await?;
                let mut found = Vec::with_capacity(rows.len());
                for row in &rows {
                    found.push((row.try_get(0)?, row.try_get(1)?));
                }
                let Some(last) = of.last(&found) else { return Ok(HeadsPurged::default()) };
                let sql = "DELETE FROM checkpoints AS c \
                           WHERE log = (SELECT number FROM logs WHERE id = $1) \
                           AND size > $2 AND size <= $3 AND EXISTS \
                           (SELECT FROM checkpoints AS n WHERE n.log = c.log AND n.size > c.size) \
                           AND NOT EXISTS (SELECT FROM leaves \
                           JOIN decisions ON decisions.id = leaves.decision \
                           WHERE leaves.log = c.log AND leaves.place < c.size \
                           AND leaves.place >= c.size - 512 AND NOT decisions.purged)";
                let sql = t.prepare_cached(sql).await?;
                let taken = t.execute(&sql, &[&log, &after, &last]).await?;
                if taken > 0 {
                    t.batch_execute(&Scope::Service.enter()).await?;
                    append_audit(t, &of.entry(taken)).await?;
                }
                Ok(HeadsPurged { taken, seen: Some(last.cast_unsigned()) })
            }
            .boxed()
        })
    }

    fn set_hold(&self, on: HoldOn, hold: Option<Hold>, entry: AuditEntry) -> Answer<'_, bool> {
        self.alter("changing a legal hold", Scope::Service, move |t| {
            async move {
                // A purge under way ends first; the next one sees what is changed here.
                t.execute("SELECT pg_advisory_xact_lock($1)", &[&PURGING]).await?;
                let (tenant, evidence) = (on.tenant.as_str(), on.column());
                let changed = match &hold {
                    Some(Hold { at_ms, actor, reason }) => {
                        let sql = "INSERT INTO holds (tenant, evidence, at_ms, actor, reason) \
                                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
                        t.execute(sql, &[&tenant, &evidence, at_ms, actor, reason]).await?
                    }
                    None => {
                        let sql = "DELETE FROM holds WHERE tenant = $1 AND evidence = $2";
                        t.execute(sql, &[&tenant, &evidence]).await?
                    }
                };
                if changed == 1 {
                    append_audit(t, &entry).await?;
                }
                Ok(changed == 1)
            }
            .boxed()
        })
    }

    fn hold_of(&self, of: Evidence) -> Answer<'_, Option<(HoldOn, Hold)>> {
        self.run("reading a legal hold", Scope::Tenant(of.tenant.clone()), move |t| {
            async move {
                let sql = "SELECT evidence, at_ms, actor, reason FROM holds \
                           WHERE tenant = $1 AND evidence IN ('', $2) \
                           ORDER BY evidence DESC LIMIT 1";
                let sql = t.prepare_cached(sql).await?;
                let Some(row) = t.query_opt(&sql, &[&of.tenant.as_str(), &of.id]).await? else {
                    return Ok(None);
                };
                let hold = Hold {
                    at_ms: row.try_get("at_ms")?,
                    actor: row.try_get("actor")?,
                    reason: row.try_get("reason")?,
                };
                Ok(Some((HoldOn::of_column(&of.tenant, row.try_get("evidence")?), hold)))
            }
            .boxed()
        })
    }
}
