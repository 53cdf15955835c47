//! Rows as they lie in a store, whatever somebody made of them: what is verified must not be
//! believed to be well formed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, ToSql, params};

use super::beside::in_file;
use super::{Kept, StoreError};
use crate::domain::id::TenantId;

/// What can be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Logs and their keys.
    Logs,
    /// Leaves.
    Leaves,
    /// Complete subtrees.
    Nodes,
    /// Signed heads.
    Checkpoints,
    /// Records.
    Decisions,
    /// What they were made of.
    Sources,
    /// Who had them in hands.
    Custody,
}

impl Table {
    /// Every one.
    pub const ALL: [Table; 7] = [
        Table::Logs,
        Table::Leaves,
        Table::Nodes,
        Table::Checkpoints,
        Table::Decisions,
        Table::Sources,
        Table::Custody,
    ];

    /// Its name in the store and in packages.
    pub fn name(self) -> &'static str {
        match self {
            Table::Logs => "logs",
            Table::Leaves => "leaves",
            Table::Nodes => "nodes",
            Table::Checkpoints => "checkpoints",
            Table::Decisions => "decisions",
            Table::Sources => "sources",
            Table::Custody => "custody",
        }
    }

    /// What its rows hold, in the store and in packages.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Table::Logs => &["number", "id", "public_key", "since_ms"],
            Table::Leaves => &["log", "place", "hash", "decision", "tenant"],
            Table::Nodes => &["log", "level", "place", "hash"],
            Table::Checkpoints => &["log", "size", "root", "at_ms", "signature"],
            Table::Decisions => &[
                "sequence",
                "id",
                "tenant",
                "request_id",
                "at_ms",
                "policy",
                "revision",
                "action",
                "complete",
                "record",
            ],
            Table::Sources => &["tenant", "digest", "bytes"],
            Table::Custody => &[
                "evidence",
                "seq",
                "tenant",
                "at_ms",
                "action",
                "actor",
                "actor_type",
                "details",
                "previous_hash",
                "hash",
                "log_id",
                "signature",
            ],
        }
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A whole number.
    Int(i64),
    /// A text; what is no UTF-8 is replaced.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// One row, by column.
pub type RawRow = BTreeMap<String, Cell>;
/// Rows by table.
pub type RawTables = BTreeMap<Table, Vec<RawRow>>;

/// Which records of a tenant.
#[derive(Debug, Clone)]
pub struct Part {
    /// Whose.
    pub tenant: TenantId,
    /// Only this one.
    pub id: Option<String>,
    /// Only those with smaller numbers.
    pub before: Option<i64>,
    /// At most so many, newest first.
    pub limit: u32,
}

impl Part {
    /// The largest number; the largest of all is one too.
    pub(super) fn last(&self) -> i64 {
        self.before.map_or(i64::MAX, |before| before.saturating_sub(1))
    }
}

/// Heads of one log that are looked at.
pub(super) const HEADS_SEEN: u32 = 4_096;
const DOING: &str = "reading what is to be verified";

impl Kept {
    /// Everything that can be verified, beside a running service too. Blocks.
    ///
    /// # Errors
    /// Where the file is no store's, or the database does not answer.
    pub fn raw(&self) -> Result<RawTables, StoreError> {
        match self {
            Kept::File(path) => read(path).map_err(|error| StoreError::of(DOING, &error)),
            Kept::Database(store) => store.raw(),
        }
    }

    /// The logs, and the newest heads of each.
    pub fn raw_heads(&self) -> Result<RawTables, StoreError> {
        match self {
            Kept::File(path) => in_file(path, DOING, heads),
            Kept::Database(store) => store.raw_heads(),
        }
    }

    /// Records of a tenant with their leaves and custody, all of one moment.
    pub fn raw_records(&self, part: &Part) -> Result<RawTables, StoreError> {
        match self {
            Kept::File(path) => in_file(path, DOING, |c| {
                // One moment for all tables.
                c.execute_batch("BEGIN")?;
                records(c, part)
            }),
            Kept::Database(store) => store.raw_records(part.clone()),
        }
    }

    /// The ids of a tenant's decisions that have a leaf, or one of them.
    pub fn logged(
        &self,
        tenant: &TenantId,
        id: Option<&str>,
    ) -> Result<BTreeSet<String>, StoreError> {
        let rows = match self {
            Kept::File(path) => in_file(path, DOING, |c| {
                let one = if id.is_some() { "decision = ?2" } else { "?2 IS NULL" };
                let sql = format!("{} WHERE tenant = ?1 AND {one}", of(Table::Leaves));
                rows(c, Table::Leaves, (&sql, params![tenant.as_str(), id]))
            }),
            Kept::Database(store) => store.raw_leaves(tenant.clone(), id.map(str::to_owned)),
        };
        let name = |row: RawRow| match row.get("decision") {
            Some(Cell::Text(id)) => id.clone(),
            _ => "a leaf whose id cannot be read".to_owned(),
        };
        Ok(rows?.into_iter().map(name).collect())
    }
}

/// Its columns by name: a schema that somebody changed must not say what they are called.
pub(super) fn of(table: Table) -> String {
    format!("SELECT {} FROM {}", table.columns().join(", "), table.name())
}

fn read(path: &Path) -> rusqlite::Result<RawTables> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // One moment for all tables.
    connection.execute_batch("BEGIN")?;
    let all = |table| Ok((table, rows(&connection, table, (&of(table), params![]))?));
    Table::ALL.into_iter().map(all).collect()
}

fn heads(c: &Connection) -> rusqlite::Result<RawTables> {
    let logs = rows(c, Table::Logs, (&format!("{} ORDER BY number", of(Table::Logs)), params![]))?;
    let sql = format!("{} WHERE log = ?1 ORDER BY size DESC LIMIT ?2", of(Table::Checkpoints));
    let mut heads = Vec::new();
    for log in &logs {
        if let Some(Cell::Int(number)) = log.get("number") {
            heads.extend(rows(c, Table::Checkpoints, (&sql, params![number, HEADS_SEEN]))?);
        }
    }
    Ok(BTreeMap::from([(Table::Logs, logs), (Table::Checkpoints, heads)]))
}

fn records(c: &Connection, part: &Part) -> rusqlite::Result<RawTables> {
    let Part { tenant, id, limit, .. } = part;
    let one = if id.is_some() { "id = ?3" } else { "?3 IS NULL" };
    let sql = format!(
        "{} WHERE tenant = ?1 AND sequence <= ?2 AND {one} ORDER BY sequence DESC LIMIT ?4",
        of(Table::Decisions)
    );
    let wanted = params![tenant.as_str(), part.last(), id, limit];
    let decisions = rows(c, Table::Decisions, (&sql, wanted))?;
    let (mut leaves, mut custody) = (Vec::new(), Vec::new());
    let leaf = format!("{} WHERE decision = ?1", of(Table::Leaves));
    let entry = format!("{} WHERE evidence = ?1 AND tenant = ?2", of(Table::Custody));
    for row in &decisions {
        if let Some(Cell::Text(id)) = row.get("id") {
            leaves.extend(rows(c, Table::Leaves, (&leaf, params![id]))?);
            custody.extend(rows(c, Table::Custody, (&entry, params![id, tenant.as_str()]))?);
        }
    }
    let all = [(Table::Decisions, decisions), (Table::Leaves, leaves), (Table::Custody, custody)];
    Ok(BTreeMap::from(all))
}

fn rows(
    connection: &Connection,
    table: Table,
    (sql, of): (&str, &[&dyn ToSql]),
) -> rusqlite::Result<Vec<RawRow>> {
    let mut sql = connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        let cells = table.columns().iter().enumerate();
        cells.map(|(at, name)| Ok(((*name).to_owned(), cell(row.get_ref(at)?)))).collect()
    };
    sql.query_map(of, read)?.collect()
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null | ValueRef::Real(_) => Cell::Null,
        ValueRef::Integer(number) => Cell::Int(number),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}
