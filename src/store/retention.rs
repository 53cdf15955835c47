//! How long records are kept, and what keeps them longer. What is purged of a decision is its record:
//! its row, its leaf and its custody stay.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Result, params};

use super::rows::{append_audit, expired};
use super::{Answer, AuditEntry, Decision, Sqlite, StoreError, custody};
use crate::domain::custody::{CustodyEntry, Evidence};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::LogId;

/// A batch of records to be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Whose.
    pub tenant: TenantId,
    /// Those of decisions before this, by their own time; milliseconds since 1970.
    pub before_ms: i64,
    /// At most so many, the oldest of them.
    pub rows_max: u32,
    /// Wall clock of the purge, for the audit.
    pub at_ms: i64,
}

/// A look at old checkpoints of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldHeads {
    /// Which.
    pub log: LogId,
    /// Only those of more leaves.
    pub after: u64,
    /// Only those signed before this, milliseconds since 1970.
    pub before_ms: i64,
    /// Wall clock of the purge, for the audit.
    pub at_ms: i64,
}

/// What became of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadsPurged {
    /// Checkpoints that were taken away.
    pub taken: u64,
    /// Leaves of the last one that was looked at; `None` where there are no more, or another instance
    /// is at it.
    pub seen: Option<u64>,
}

/// Makes the entry of custody that says what is taken away, behind the last one that is kept, as
/// [`super::NextEntry`].
pub type Attest = Arc<dyn Fn(&Decision, Option<(u32, Digest)>) -> CustodyEntry + Send + Sync>;

/// What is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldOn {
    /// Whose.
    pub tenant: TenantId,
    /// One decision; `None` is all of the tenant.
    pub evidence: Option<String>,
}

/// Why it is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Since when, milliseconds since 1970.
    pub at_ms: i64,
    /// By whom.
    pub actor: String,
    /// Why, in the actor's words.
    pub reason: String,
}

/// Checkpoints of one look.
pub const HEADS_MAX: u32 = 20;

/// Retention, purge and legal hold.
pub trait Retention: Send + Sync {
    /// Tenants after `after` that have records, by id, at most `limit`, and when the oldest decision
    /// of each that still has its record was made, milliseconds since 1970.
    fn oldest(&self, after: Option<TenantId>, limit: u32) -> Answer<'_, Vec<(TenantId, i64)>>;
    /// Takes records away that nothing holds, adds to the custody of each what `attest` makes, and
    /// says how many in the audit: all of it or nothing. 0 also where another instance is at it. The
    /// database refuses to empty a record past this, one that is held, and one younger than a day.
    fn purge(&self, purge: Purge, attest: Attest) -> Answer<'_, u64>;
    /// Takes checkpoints away, at most [`HEADS_MAX`], of which no record that they were the first to sign
    /// is kept; the newest of the log stays. Says how many in the audit: both or neither.
    fn purge_heads(&self, of: OldHeads) -> Answer<'_, HeadsPurged>;
    /// Puts a hold on, or takes it off, and appends `entry` to the audit: both or neither. False
    /// where it was so already. From then on no purge takes what is held.
    fn set_hold(&self, on: HoldOn, hold: Option<Hold>, entry: AuditEntry) -> Answer<'_, bool>;
    /// What holds the evidence: its own hold, else its tenant's.
    fn hold_of(&self, of: Evidence) -> Answer<'_, Option<(HoldOn, Hold)>>;
}

impl Purge {
    /// What the audit says of it.
    pub(super) fn entry(&self, records: u64) -> AuditEntry {
        let Purge { tenant, before_ms, at_ms, .. } = self;
        AuditEntry {
            tenant: Some(tenant.clone()),
            at_ms: *at_ms,
            actor: "system".into(),
            action: "evidence.purge".into(),
            target: format!("tenant/{tenant}"),
            reason: "retention_days are over".into(),
            before: None,
            after: Some(format!(r#"{{"records":{records},"before_ms":{before_ms}}}"#)),
        }
    }
}

impl OldHeads {
    /// The last of `found` (leaves and time, in order) that is old enough.
    pub(super) fn last(&self, found: &[(i64, i64)]) -> Option<i64> {
        let old = found.iter().take_while(|(_, at_ms)| *at_ms < self.before_ms);
        old.last().map(|(size, _)| *size)
    }

    /// What the audit says of it.
    pub(super) fn entry(&self, checkpoints: u64) -> AuditEntry {
        AuditEntry {
            tenant: None,
            at_ms: self.at_ms,
            actor: "system".into(),
            action: "evidence.purge_checkpoints".into(),
            target: format!("log/{}", self.log.as_str()),
            reason: "no record that they signed first is kept".into(),
            before: None,
            after: Some(format!(r#"{{"checkpoints":{checkpoints}}}"#)),
        }
    }
}

impl HoldOn {
    /// The column: empty for all of the tenant.
    pub(super) fn column(&self) -> &str {
        self.evidence.as_deref().unwrap_or_default()
    }

    pub(super) fn of_column(tenant: &TenantId, evidence: String) -> HoldOn {
        let evidence = Some(evidence).filter(|evidence| !evidence.is_empty());
        HoldOn { tenant: tenant.clone(), evidence }
    }
}

impl Retention for Sqlite {
    fn oldest(&self, after: Option<TenantId>, limit: u32) -> Answer<'_, Vec<(TenantId, i64)>> {
        self.read("looking for expired records", move |c| {
            // From tenant to tenant over the index, never row by row.
            let sql = "WITH RECURSIVE t (tenant) AS (SELECT ?1 UNION ALL \
                       SELECT (SELECT tenant FROM decisions WHERE record <> '' \
                               AND tenant > t.tenant ORDER BY tenant LIMIT 1) \
                       FROM t WHERE t.tenant IS NOT NULL) \
                       SELECT tenant, (SELECT at_ms FROM decisions AS d WHERE record <> '' \
                                       AND d.tenant = t.tenant ORDER BY at_ms LIMIT 1) AS at_ms \
                       FROM t WHERE tenant IS NOT NULL AND tenant <> ?1 LIMIT ?2";
            let after = after.as_ref().map_or("", TenantId::as_str);
            c.prepare_cached(sql)?
                .query_map(params![after, limit], |row| {
                    Ok((super::rows::parsed(row, "tenant", TenantId::parse)?, row.get("at_ms")?))
                })?
                .collect()
        })
    }

    fn purge(&self, purge: Purge, attest: Attest) -> Answer<'_, u64> {
        const DOING: &str = "purging expired records";
        self.both(DOING, move |c| {
            let expired = expired(c, &purge)?;
            let sql = "UPDATE decisions SET record = '' WHERE id = ?1 AND tenant = ?2";
            let mut empty = c.prepare_cached(sql)?;
            for decision in &expired {
                let (tenant, id) = (decision.tenant.clone(), decision.id.clone());
                let of = Evidence { tenant, id };
                let entry = attest(decision, custody::last(c, &of)?);
                custody::insert(c, &of, &entry)?;
                empty.execute(params![of.id, of.tenant.as_str()])?;
            }
            let taken = expired.len() as u64;
            if taken > 0 {
                append_audit(c, &purge.entry(taken))?;
            }
            Ok(taken)
        })
    }

    fn purge_heads(&self, of: OldHeads) -> Answer<'_, HeadsPurged> {
        self.both("purging old checkpoints", move |c| {
            let sql = "SELECT size, at_ms FROM checkpoints \
                       WHERE log = (SELECT number FROM logs WHERE id = ?1) AND size > ?2 \
                       ORDER BY size LIMIT ?3";
            let (log, after) = (of.log.as_str(), of.after.cast_signed());
            let found: Vec<(i64, i64)> = c
                .prepare_cached(sql)?
                .query_map(params![log, after, HEADS_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_>>()?;
            let Some(last) = of.last(&found) else { return Ok(HeadsPurged::default()) };
            let sql = "DELETE FROM checkpoints AS c \
                       WHERE log = (SELECT number FROM logs WHERE id = ?1) \
                       AND size > ?2 AND size <= ?3 AND EXISTS \
                       (SELECT 1 FROM checkpoints WHERE log = c.log AND size > c.size) \
                       AND NOT EXISTS (SELECT 1 FROM leaves \
                       JOIN decisions ON decisions.id = leaves.decision \
                       WHERE leaves.log = c.log AND leaves.place < c.size \
                       AND leaves.place >= c.size - 512 AND decisions.record <> '')";
            let taken = c.prepare_cached(sql)?.execute(params![log, after, last])? as u64;
            if taken > 0 {
                append_audit(c, &of.entry(taken))?;
            }
            Ok(HeadsPurged { taken, seen: Some(last.cast_unsigned()) })
        })
    }

    fn set_hold(&self, on: HoldOn, hold: Option<Hold>, entry: AuditEntry) -> Answer<'_, bool> {
        self.both("changing a legal hold", move |c| {
            let changed = match &hold {
                Some(hold) => put(c, &on, hold)?,
                None => take(c, &on)?,
            };
            if changed {
                append_audit(c, &entry)?;
            }
            Ok(changed)
        })
    }

    fn hold_of(&self, of: Evidence) -> Answer<'_, Option<(HoldOn, Hold)>> {
        self.read("reading a legal hold", move |c| {
            c.prepare_cached(
                "SELECT * FROM holds WHERE tenant = ?1 AND evidence IN ('', ?2) \
                 ORDER BY evidence DESC LIMIT 1",
            )?
            .query_row(params![of.tenant.as_str(), of.id], |row| {
                let hold = Hold {
                    at_ms: row.get("at_ms")?,
                    actor: row.get("actor")?,
                    reason: row.get("reason")?,
                };
                Ok((HoldOn::of_column(&of.tenant, row.get("evidence")?), hold))
            })
            .optional()
        })
    }
}

impl Sqlite {
    /// Runs `work` whole or not at all.
    pub(super) fn both<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        self.write(doing, move |c| {
            let failed = |error: rusqlite::Error| StoreError::of(doing, &error);
            c.execute_batch("SAVEPOINT both").map_err(failed)?;
            let done = work(c);
            let end = if done.is_ok() { "" } else { "ROLLBACK TO both; " };
            c.execute_batch(&format!("{end}RELEASE both")).map_err(failed)?;
            done.map_err(failed)
        })
    }
}

fn put(connection: &Connection, on: &HoldOn, hold: &Hold) -> Result<bool> {
    let sql = "INSERT INTO holds (tenant, evidence, at_ms, actor, reason) \
               VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
    let Hold { at_ms, actor, reason } = hold;
    let of = params![on.tenant.as_str(), on.column(), at_ms, actor, reason];
    Ok(connection.prepare_cached(sql)?.execute(of)? == 1)
}

fn take(connection: &Connection, on: &HoldOn) -> Result<bool> {
    let sql = "DELETE FROM holds WHERE tenant = ?1 AND evidence = ?2";
    Ok(connection.prepare_cached(sql)?.execute(params![on.tenant.as_str(), on.column()])? == 1)
}
