//! A store's file read beside whoever has it open, or while nobody has. Nothing is made, and nothing
//! stays beside the file. Everything here blocks.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::jobs::rows as jobs_rows;
use super::sqlite::{applied, missing, reader};
use super::strange::{is_made, must_be_file};
use super::{
    Decision, LogKey, Numbered, Object, Page, SourceKey, StoreError, ledger, rows, sources,
};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::LogId;

/// What `read` finds in the file at `path`; the default where there is none, or nothing in it.
pub(super) fn in_file<T: Default>(
    path: &Path,
    doing: &'static str,
    read: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<T, StoreError> {
    if !path.exists() {
        return Ok(T::default());
    }
    must_be_file(path)?;
    let failed = |error| StoreError::of(doing, &error);
    let found_by = |connection: rusqlite::Result<Connection>| {
        let connection = connection.map_err(failed)?;
        match is_made(&connection, path)? {
            true => read(&connection).map_err(failed),
            false => Ok(T::default()),
        }
    };
    if !is_open(path) {
        let found = if is_empty(path) { Ok(T::default()) } else { found_by(still(path)) };
        // Whoever opened it meanwhile may have changed it under this reader.
        if !is_open(path) {
            return found;
        }
    }
    found_by(reader(path))
}

/// Whether a process has the file open, or left its log when it was killed. A reader of such a file
/// makes what its openers share, and leaves it behind where it is alone.
fn is_open(path: &Path) -> bool {
    let mut log = OsString::from(path);
    log.push("-wal");
    Path::new(&log).exists()
}

/// Made, and killed before anything was written.
fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() == 0)
}

/// A connection to a file that nobody changes.
fn still(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for byte in
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).as_os_str().as_encoded_bytes()
    {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                uri.push(char::from(*byte))
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags)
}

/// Refused where a newer program wrote the file.
pub(super) fn look_at_file(path: &Path) -> Result<(), StoreError> {
    let before = in_file(path, "reading the schema of the store", applied)?;
    missing(before).map(|_| ())
}

/// The current objects of `kind`.
pub(super) fn objects_in_file(path: &Path, kind: &str) -> Result<Vec<Object>, StoreError> {
    in_file(path, "listing objects", |c| rows::objects(c, kind))
}

/// The decisions of `tenant`.
pub(super) fn decisions_in_file(
    path: &Path,
    tenant: &TenantId,
    page: Page,
) -> Result<Vec<Numbered<Decision>>, StoreError> {
    in_file(path, "listing decisions", |c| rows::decisions(c, tenant, page))
}

/// Whose decisions and leaves it holds; what cannot be read is nobody's.
pub(super) fn tenants_in_file(path: &Path) -> Result<BTreeSet<TenantId>, StoreError> {
    in_file(path, "listing tenants with decisions", |c| {
        let mut sql = c.prepare("SELECT tenant FROM decisions UNION SELECT tenant FROM leaves")?;
        let mut rows = sql.query([])?;
        let mut tenants = BTreeSet::new();
        while let Some(row) = rows.next()? {
            let name = row.get_ref(0)?.as_str().ok();
            tenants.extend(name.and_then(|name| TenantId::parse(name).ok()));
        }
        Ok(tenants)
    })
}

/// One blob of sources.
pub(super) fn source_in_file(
    path: &Path,
    (tenant, digest): &SourceKey,
) -> Result<Option<Vec<u8>>, StoreError> {
    in_file(path, "reading a source", |c| sources::source(c, tenant.as_ref(), digest))
}

/// Its logs, oldest first.
pub(super) fn logs_in_file(path: &Path) -> Result<Vec<LogKey>, StoreError> {
    in_file(path, "listing logs", ledger::all_logs)
}

/// Hashes of a log, where their rows can be read.
pub(super) fn hashes_in_file(
    path: &Path,
    log: &LogId,
    level: u8,
    places: (u64, u32),
) -> Result<Vec<Digest>, StoreError> {
    in_file(path, "reading hashes of the log", |c| ledger::all_hashes(c, log, level, places))
}

/// The keys that the content of jobs is sealed under.
pub(super) fn job_seals_in_file(path: &Path) -> Result<Vec<(String, u64)>, StoreError> {
    in_file(path, "looking at the seals of jobs", jobs_rows::seals)
}

/// Credentials of detectors that only the data key opens.
pub(super) fn sealed_in_file(path: &Path) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM detector_secrets WHERE sealed IS NOT NULL";
    in_file(path, "counting detectors' credentials", |c| {
        c.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
    })
}
