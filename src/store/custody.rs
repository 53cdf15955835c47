//! Custody: who did what with the evidence of decisions. Entries are added and never change.

use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::{Answer, Sqlite, StoreError};
use crate::domain::custody::{
    ActorType, CustodyAct, CustodyAction, CustodyEntry, CustodySignature, Evidence,
};
use crate::domain::digest::Digest;
use crate::domain::log::LogId;

/// Makes the entry that follows the last one that is kept, by its number and hash; `None` where only
/// the first exists, which has no row.
pub type NextEntry = Box<dyn FnOnce(Option<(u32, Digest)>) -> CustodyEntry + Send>;

/// Entries of one answer at most.
const ENTRIES_MAX: u32 = 1_000;

/// Entries from the second on.
pub trait Custody: Send + Sync {
    /// Appends what `next` makes, one at a time for each evidence; returns it once it is durable.
    fn append_custody(&self, of: Evidence, next: NextEntry) -> Answer<'_, CustodyEntry>;
    /// Entries after `seq`, oldest first, at most `limit`, capped at 1000.
    fn custody(&self, of: Evidence, seq: u32, limit: u32) -> Answer<'_, Vec<CustodyEntry>>;
}

impl Custody for Sqlite {
    fn append_custody(&self, of: Evidence, next: NextEntry) -> Answer<'_, CustodyEntry> {
        const DOING: &str = "writing custody";
        self.write(DOING, move |c| {
            let failed = |error: rusqlite::Error| StoreError::of(DOING, &error);
            let entry = next(last(c, &of).map_err(failed)?);
            insert(c, &of, &entry).map_err(failed)?;
            Ok(entry)
        })
    }

    fn custody(&self, of: Evidence, seq: u32, limit: u32) -> Answer<'_, Vec<CustodyEntry>> {
        self.read("reading custody", move |c| {
            c.prepare_cached(
                "SELECT * FROM custody WHERE evidence = ?1 AND tenant = ?2 AND seq > ?3 \
                 ORDER BY seq LIMIT ?4",
            )?
            .query_map(params![of.id, of.tenant.as_str(), seq, shown(limit)], read)?
            .collect()
        })
    }
}

/// How many of `limit` entries are shown.
pub(super) fn shown(limit: u32) -> u32 {
    limit.min(ENTRIES_MAX)
}

pub(super) fn last(connection: &Connection, of: &Evidence) -> Result<Option<(u32, Digest)>> {
    connection
        .prepare_cached(
            "SELECT seq, hash FROM custody WHERE evidence = ?1 AND tenant = ?2 \
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(params![of.id, of.tenant.as_str()], |row| {
            Ok((row.get(0)?, Digest::from_bytes(row.get(1)?)))
        })
        .optional()
}

pub(super) fn insert(connection: &Connection, of: &Evidence, entry: &CustodyEntry) -> Result<()> {
    let (log, signature) = signature(entry);
    connection
        .prepare_cached(
            "INSERT INTO custody (evidence, seq, tenant, at_ms, action, actor, actor_type, details, \
             previous_hash, hash, log_id, signature) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            of.id,
            entry.seq,
            of.tenant.as_str(),
            entry.act.at_ms,
            entry.act.action.name(),
            entry.act.actor,
            entry.act.actor_type.name(),
            entry.act.details,
            entry.previous.as_bytes(),
            entry.hash.as_bytes(),
            log,
            signature,
        ])
        .map(|_| ())
}

/// The columns of a signature; the database refuses an entry without one.
pub(super) fn signature(entry: &CustodyEntry) -> (&str, &[u8]) {
    let signature = entry.signature.as_ref();
    signature.map_or(("", &[]), |signature| (signature.log.as_str(), &signature.bytes))
}

fn read(row: &Row<'_>) -> Result<CustodyEntry> {
    let wrong = |column: &str| rusqlite::Error::InvalidColumnName(column.to_owned());
    let text = |column: &str| row.get::<_, String>(column);
    let act = CustodyAct {
        at_ms: row.get("at_ms")?,
        action: CustodyAction::parse(&text("action")?).ok_or_else(|| wrong("action"))?,
        actor: row.get("actor")?,
        actor_type: ActorType::parse(&text("actor_type")?).ok_or_else(|| wrong("actor_type"))?,
        details: row.get("details")?,
    };
    let log = LogId::parse(&text("log_id")?).ok_or_else(|| wrong("log_id"))?;
    Ok(CustodyEntry {
        seq: row.get("seq")?,
        act,
        previous: Digest::from_bytes(row.get("previous_hash")?),
        hash: Digest::from_bytes(row.get("hash")?),
        signature: Some(CustodySignature { log, bytes: row.get("signature")? }),
    })
}
