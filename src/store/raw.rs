//! Rows as they lie in a store, whatever somebody made of them: what is verified must not be
//! believed to be well formed.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::{Kept, StoreError};

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

impl Kept {
    /// Everything that can be verified, beside a running service too. Blocks.
    ///
    /// # Errors
    /// Where there is no file, or it is no store's, or the database does not answer.
    pub fn raw(&self) -> Result<RawTables, StoreError> {
        const DOING: &str = "reading what is to be verified";
        match self {
            Kept::File(path) if !path.exists() => {
                let reason = format!(
                    "there is no store at {}; name its settings by --config, or a package",
                    path.display()
                );
                Err(StoreError::Failed { doing: DOING, reason })
            }
            Kept::File(path) => read(path).map_err(|error| StoreError::of(DOING, &error)),
            Kept::Database(store) => store.raw(),
        }
    }
}

fn read(path: &Path) -> rusqlite::Result<RawTables> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // One moment for all tables.
    connection.execute_batch("BEGIN")?;
    Table::ALL.into_iter().map(|table| Ok((table, rows(&connection, table)?))).collect()
}

fn rows(connection: &Connection, table: Table) -> rusqlite::Result<Vec<RawRow>> {
    let mut sql = connection.prepare(&format!("SELECT * FROM {}", table.name()))?;
    let names: Vec<String> = sql.column_names().map(str::to_owned).collect();
    let read = |row: &rusqlite::Row<'_>| {
        let cells = names.iter().enumerate();
        cells.map(|(at, name)| Ok((name.clone(), cell(row.get_ref(at)?)))).collect()
    };
    sql.query_map([], read)?.collect()
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null | ValueRef::Real(_) => Cell::Null,
        ValueRef::Integer(number) => Cell::Int(number),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}
