//! Whether what stands in the place of the store's file may be the store.

use std::path::Path;

use rusqlite::Connection;

use super::StoreError;
use super::sqlite::HISTORY;

/// A table of every store since the first one.
const OURS: &str = "decisions";

/// Refused where something stands at `path` that is no file.
pub(super) fn must_be_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            Err(StoreError::NoFile { file: path.display().to_string() })
        }
        // What is missing is made; what cannot be looked at cannot be opened either.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether a store was made in the file at `path`, which `connection` has open. One that was just
/// made, or begun and not ended, holds nothing yet.
///
/// # Errors
/// Another program made it.
pub(super) fn is_made(connection: &Connection, path: &Path) -> Result<bool, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::of("looking at the store's tables", &error);
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' \
               ESCAPE '!'";
    let mut tables = connection.prepare(sql).map_err(failed)?;
    let names = tables.query_map([], |row| row.get(0)).and_then(Iterator::collect);
    let names: Vec<String> = names.map_err(failed)?;
    if names.iter().any(|name| name == OURS) {
        return Ok(true);
    }
    match names.iter().all(|name| name == HISTORY) {
        true => Ok(false),
        false => Err(StoreError::Foreign { file: path.display().to_string() }),
    }
}
