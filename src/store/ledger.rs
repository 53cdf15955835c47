//! Records of decisions as leaves of a log: written a batch at a time, whole or not at all.

use std::sync::Arc;

use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_TRIGGER};
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, params};

use super::error::Odd;
use super::rows::insert_decision;
use super::{Answer, Decision, Sqlite, StoreError};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::{Checkpoint, Leaf, LogId, Node};

/// What one commit adds to a log.
#[derive(Debug, Clone)]
pub struct LogBatch {
    /// The head after it; `checkpoint.size - decisions.len()` leaves came before.
    pub checkpoint: Checkpoint,
    /// In the order of their leaves, each with its leaf's hash.
    pub decisions: Arc<Vec<(Decision, Digest)>>,
    /// Complete subtrees that it finishes, level 8 and up.
    pub nodes: Vec<Node>,
}

impl LogBatch {
    /// The log holds `found` leaves, not what this builds on.
    pub(super) fn conflict(&self, found: u64) -> StoreError {
        let name = self.checkpoint.log.as_str().to_owned();
        StoreError::Conflict { kind: "log".into(), name, found }
    }
}

/// A log of this deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    /// Which.
    pub log: LogId,
    /// Its Ed25519 public key.
    pub public_key: [u8; 32],
    /// Wall clock of its first use, milliseconds since 1970.
    pub since_ms: i64,
}

/// What bears the id of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The id.
    pub decision: String,
    /// A row of leaves.
    pub leaf: Option<LeafRow>,
    /// Whether a row of decisions does.
    pub has_row: bool,
}

/// A leaf as its row has it, whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRow {
    /// Of which log; `None` where that is not among the logs.
    pub log: Option<LogId>,
    /// The log as the row has it.
    pub number: i64,
    /// Its place there.
    pub place: u64,
    /// What is there.
    pub hash: Digest,
}

/// The logs and their leaves. Leaves and nodes are never changed and never deleted.
pub trait Ledger: Send + Sync {
    /// Makes the log known; a known one is left as it is.
    fn open_log(&self, key: LogKey) -> Answer<'_, ()>;
    /// Every log, oldest first.
    fn logs(&self) -> Answer<'_, Vec<LogKey>>;
    /// Returns once `batch` is durable: decisions, leaves, nodes and head in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the log is not as long as the batch supposes, or a place that
    /// the batch takes is taken;
    /// [`StoreError::Refused`] where a row can never be written, such as one whose decision is
    /// recorded. After any other error it may yet become durable.
    fn append_batch(&self, batch: Arc<LogBatch>) -> Answer<'_, ()>;
    /// The last head; `None` while the log is empty.
    fn tail(&self, log: LogId) -> Answer<'_, Option<Checkpoint>>;
    /// The heads of fewer than `below` leaves, newest first, at most `limit`.
    fn heads(&self, log: LogId, below: u64, limit: u32) -> Answer<'_, Vec<Checkpoint>>;
    /// The first head with at least `size` leaves.
    fn checkpoint(&self, log: LogId, size: u64) -> Answer<'_, Option<Checkpoint>>;
    /// Hashes of `count` nodes of a level (0, 8, 16, …) from `first`; fewer where there are no more.
    fn hashes(&self, log: LogId, level: u8, first: u64, count: u32) -> Answer<'_, Vec<Digest>>;
    /// The leaf of a decision of `tenant`, also after its record was purged.
    fn leaf(&self, tenant: TenantId, decision: String) -> Answer<'_, Option<Leaf>>;
    /// The ids of decisions of `tenant` that have a leaf, in the order of ids, after one.
    fn leaves(&self, tenant: TenantId, after: String, limit: u32) -> Answer<'_, Vec<String>>;
    /// What bears the ids of these decisions; nothing for an id that is free.
    fn traces(&self, decisions: Vec<String>) -> Answer<'_, Vec<Trace>>;
}

const DOING: &str = "appending to the log";

pub(super) fn all_logs(c: &Connection) -> rusqlite::Result<Vec<LogKey>> {
    let read = |row: &Row<'_>| {
        let (public_key, since_ms) = (row.get("public_key")?, row.get("since_ms")?);
        Ok(LogKey { log: log(row, "id")?, public_key, since_ms })
    };
    let sql = "SELECT id, public_key, since_ms FROM logs ORDER BY number";
    c.prepare_cached(sql)?.query_map([], read)?.collect()
}

pub(super) fn all_hashes(
    c: &Connection,
    log: &LogId,
    level: u8,
    (first, count): (u64, u32),
) -> rusqlite::Result<Vec<Digest>> {
    let table = if level == 0 { "leaves WHERE" } else { "nodes WHERE level = ?4 AND" };
    let sql = format!(
        "SELECT hash FROM {table} log = (SELECT number FROM logs WHERE id = ?1) \
         AND place >= ?2 AND place < ?3 ORDER BY place"
    );
    let (first, end) = (first.cast_signed(), (first + u64::from(count)).cast_signed());
    let mut sql = c.prepare_cached(&sql)?;
    let read = |row: &Row<'_>| hash(row, "hash");
    match level {
        0 => sql.query_map(params![log.as_str(), first, end], read)?.collect(),
        _ => sql.query_map(params![log.as_str(), first, end, level], read)?.collect(),
    }
}

impl Ledger for Sqlite {
    fn open_log(&self, key: LogKey) -> Answer<'_, ()> {
        const DOING: &str = "opening the log";
        self.write(DOING, move |c| {
            c.prepare_cached(
                "INSERT OR IGNORE INTO logs (id, public_key, since_ms) VALUES (?1, ?2, ?3)",
            )
            .and_then(|mut sql| {
                sql.execute(params![key.log.as_str(), key.public_key, key.since_ms])
            })
            .map(drop)
            .map_err(|error| StoreError::of(DOING, &error))
        })
    }

    fn logs(&self) -> Answer<'_, Vec<LogKey>> {
        self.read("listing logs", all_logs)
    }

    fn append_batch(&self, batch: Arc<LogBatch>) -> Answer<'_, ()> {
        self.write(DOING, move |c| {
            let failed = |error: rusqlite::Error| StoreError::of(DOING, &error);
            c.execute_batch("SAVEPOINT append").map_err(failed)?;
            let written = append(c, &batch);
            let end = if written.is_ok() { "" } else { "ROLLBACK TO append; " };
            // A full or failed disk has rolled back all of it already.
            match c.execute_batch(&format!("{end}RELEASE append")) {
                Err(error) if written.is_ok() => Err(failed(error)),
                _ => written,
            }
        })
    }

    fn tail(&self, log: LogId) -> Answer<'_, Option<Checkpoint>> {
        self.read("reading the head of the log", move |c| {
            let sql = format!("{CHECKPOINT} ORDER BY size DESC LIMIT 1");
            c.prepare_cached(&sql)?.query_row([log.as_str()], read_checkpoint).optional()
        })
    }

    fn heads(&self, log: LogId, below: u64, limit: u32) -> Answer<'_, Vec<Checkpoint>> {
        self.read("reading heads of the log", move |c| {
            let Some(last) = below.checked_sub(1) else { return Ok(Vec::new()) };
            let sql = format!("{CHECKPOINT} AND size <= ?2 ORDER BY size DESC LIMIT ?3");
            let of = params![log.as_str(), bound(last), limit];
            c.prepare_cached(&sql)?.query_map(of, read_checkpoint)?.collect()
        })
    }

    fn checkpoint(&self, log: LogId, size: u64) -> Answer<'_, Option<Checkpoint>> {
        self.read("reading a head of the log", move |c| {
            let sql = format!("{CHECKPOINT} AND size >= ?2 ORDER BY size LIMIT 1");
            let of = params![log.as_str(), size.cast_signed()];
            c.prepare_cached(&sql)?.query_row(of, read_checkpoint).optional()
        })
    }

    fn hashes(&self, log: LogId, level: u8, first: u64, count: u32) -> Answer<'_, Vec<Digest>> {
        self.read("reading hashes of the log", move |c| all_hashes(c, &log, level, (first, count)))
    }

    fn leaf(&self, tenant: TenantId, decision: String) -> Answer<'_, Option<Leaf>> {
        self.read("reading a leaf", move |c| {
            c.prepare_cached(
                "SELECT logs.id AS log, place, hash FROM leaves JOIN logs ON number = log \
                 WHERE decision = ?1 AND tenant = ?2",
            )?
            .query_row(params![decision, tenant.as_str()], read_leaf)
            .optional()
            .map(Option::flatten)
        })
    }

    fn leaves(&self, tenant: TenantId, after: String, limit: u32) -> Answer<'_, Vec<String>> {
        self.read("listing leaves", move |c| {
            let sql = "SELECT decision FROM leaves WHERE tenant = ?1 AND decision > ?2 \
                       ORDER BY decision LIMIT ?3";
            let of = params![tenant.as_str(), after, limit];
            c.prepare_cached(sql)?.query_map(of, |row| row.get(0))?.collect()
        })
    }

    fn traces(&self, decisions: Vec<String>) -> Answer<'_, Vec<Trace>> {
        self.read("looking decisions up", move |c| {
            let sql = "SELECT logs.id AS log, leaves.log AS number, place, hash, \
                       EXISTS (SELECT 1 FROM decisions WHERE id = ?1) AS has_row \
                       FROM (SELECT 1) LEFT JOIN leaves ON decision = ?1 \
                       LEFT JOIN logs ON logs.number = leaves.log";
            let mut sql = c.prepare_cached(sql)?;
            let mut found = Vec::new();
            for decision in decisions {
                let read = |row: &Row<'_>| Ok((read_leaf_row(row)?, row.get("has_row")?));
                let (leaf, has_row) = sql.query_row([&decision], read)?;
                if leaf.is_some() || has_row {
                    found.push(Trace { decision, leaf, has_row });
                }
            }
            Ok(found)
        })
    }
}

/// What is wrong with a leaf whose log is not among the logs.
pub(super) const NO_LOG: &str = "its leaf is of a log that has no row in `logs`";
/// What is wrong where the sequence of decisions is at its end.
pub(super) const NO_NUMBER: &str =
    "decisions.sequence has no number left: it was raised past the service";
const CHECKPOINT: &str = "SELECT logs.id AS log, size, root, at_ms, signature FROM checkpoints \
    JOIN logs ON number = log WHERE logs.id = ?1";

/// As a column holds it; nothing in one is larger.
pub(super) fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn append(c: &Connection, batch: &LogBatch) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| StoreError::of(DOING, &error);
    let head = &batch.checkpoint;
    let (log, found): (i64, i64) = c
        .prepare_cached(
            "SELECT number, (SELECT coalesce(max(size), 0) FROM checkpoints WHERE log = number) \
             FROM logs WHERE id = ?1",
        )
        .and_then(|mut sql| {
            sql.query_row([head.log.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .map_err(failed)?;
    let before = head.size.cast_signed() - batch.decisions.len() as i64;
    if found != before {
        return Err(batch.conflict(found.cast_unsigned()));
    }
    insert(c, log, before, batch).map_err(|error| match error.sqlite_error() {
        // A place of the log: whatever lies there, no row of the batch is at fault.
        Some(told) if told.extended_code == SQLITE_CONSTRAINT_PRIMARYKEY => {
            batch.conflict(found.cast_unsigned())
        }
        // A trigger of somebody else's refuses any row.
        Some(told) if told.extended_code == SQLITE_CONSTRAINT_TRIGGER => failed(error),
        Some(told) if is_at_fault(told.code) => {
            StoreError::Refused { doing: DOING, reason: error.to_string() }
        }
        Some(told) if told.code == ErrorCode::DiskFull && is_out_of_numbers(c) => {
            let row =
                "delete the row of decisions with the sequence 9223372036854775807, and set seq";
            let reason =
                format!("{NO_NUMBER}; {row} of decisions in sqlite_sequence to the largest left");
            StoreError::Failed { doing: DOING, reason }
        }
        _ => failed(error),
    })
}

/// Whether `decisions` has no number left; SQLite says that its disk is full.
fn is_out_of_numbers(c: &Connection) -> bool {
    let sql = "SELECT 1 FROM sqlite_sequence WHERE name = 'decisions' AND seq = ?1 \
               UNION ALL SELECT 1 FROM decisions WHERE sequence = ?1";
    c.prepare_cached(sql).and_then(|mut sql| sql.exists([i64::MAX])).unwrap_or(false)
}

fn is_at_fault(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
}

fn insert(c: &Connection, log: i64, before: i64, batch: &LogBatch) -> rusqlite::Result<()> {
    let mut leaf = c.prepare_cached(
        "INSERT INTO leaves (log, place, hash, decision, tenant) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (place, (decision, hash)) in (before..).zip(batch.decisions.iter()) {
        insert_decision(c, decision)?;
        let tenant = decision.tenant.as_str();
        leaf.execute(params![log, place, hash.as_bytes(), decision.id, tenant])?;
    }
    let mut node =
        c.prepare_cached("INSERT INTO nodes (log, level, place, hash) VALUES (?1, ?2, ?3, ?4)")?;
    for Node { level, index, hash } in &batch.nodes {
        node.execute(params![log, level, index.cast_signed(), hash.as_bytes()])?;
    }
    let Checkpoint { size, root, at_ms, signature, .. } = &batch.checkpoint;
    c.prepare_cached(
        "INSERT INTO checkpoints (log, size, root, at_ms, signature) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![log, size.cast_signed(), root.as_bytes(), at_ms, signature])
    .map(drop)
}

fn read_checkpoint(row: &Row<'_>) -> rusqlite::Result<Checkpoint> {
    Ok(Checkpoint {
        log: log(row, "log")?,
        size: row.get::<_, i64>("size")?.cast_unsigned(),
        root: hash(row, "root")?,
        at_ms: row.get("at_ms")?,
        signature: row.get("signature")?,
    })
}

/// The leaf in columns `log`, `place` and `hash`, where they hold one.
pub(super) fn read_leaf(row: &Row<'_>) -> rusqlite::Result<Option<Leaf>> {
    let Some(index) = row.get::<_, Option<i64>>("place")? else { return Ok(None) };
    if row.get::<_, Option<String>>("log")?.is_none() {
        return Err(rusqlite::Error::FromSqlConversionFailure(
            0,
            Type::Null,
            Box::new(Odd(NO_LOG)),
        ));
    }
    let (log, hash) = (log(row, "log")?, hash(row, "hash")?);
    Ok(Some(Leaf { log, index: index.cast_unsigned(), hash }))
}

fn read_leaf_row(row: &Row<'_>) -> rusqlite::Result<Option<LeafRow>> {
    let Some(number) = row.get("number")? else { return Ok(None) };
    let log = row.get::<_, Option<String>>("log")?.and_then(|id| LogId::parse(&id));
    let place = row.get::<_, i64>("place")?.cast_unsigned();
    Ok(Some(LeafRow { log, number, place, hash: hash(row, "hash")? }))
}

fn log(row: &Row<'_>, column: &str) -> rusqlite::Result<LogId> {
    let text: String = row.get(column)?;
    LogId::parse(&text).ok_or_else(|| rusqlite::Error::InvalidColumnName(column.into()))
}

fn hash(row: &Row<'_>, column: &str) -> rusqlite::Result<Digest> {
    row.get(column).map(Digest::from_bytes)
}
