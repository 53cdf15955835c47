//! The store on SQLite: one writer thread, a few readers, one file or memory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt as _;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Semaphore, oneshot};

use crate::domain::id::TenantId;

use super::open_file::OpenFile;
use super::queue::{Finish, Queue, Refused};
use super::strange::{is_made, must_be_file};
use super::{
    Answer, Audit, AuditEntry, Chained, Decision, Decisions, Expected, Migrated, Numbered, Object,
    ObjectKey, Objects, Page, Passed, Sought, Spot, Store, StoreError, Tally, Version, rows,
    search,
};

mod migrations {
    #![allow(missing_docs, reason = "generated")]
    refinery::embed_migrations!("migrations/sqlite");
}

/// Where refinery keeps what was applied.
pub(super) const HISTORY: &str = "refinery_schema_history";
/// Statements kept ready by a connection; there are fewer.
const STATEMENTS_KEPT: usize = 64;
/// How long SQLite waits for another process.
const FILE_LOCK_WAIT: Duration = Duration::from_secs(5);

/// Where the rows live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// This file, made where it is missing; its directory must exist.
    File(PathBuf),
    /// Gone with the process.
    Memory,
}

/// How to open it.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// File or memory.
    pub place: Place,
    /// Rows that may wait for the writer; more are refused.
    pub queue_rows: usize,
    /// How long an awaited write may take before its caller is told [`StoreError::Slow`].
    pub patience: Duration,
    /// Versions kept of one object, the newest among them; at least 1.
    pub versions_max: u64,
    /// Connections that read side by side; memory has none, its reads queue with the writes.
    pub readers: usize,
}

impl SqliteOptions {
    /// The defaults at `place`: 8192 rows, 5 s, 50 versions, 2 readers.
    pub fn at(place: Place) -> SqliteOptions {
        let patience = Duration::from_secs(5);
        SqliteOptions { place, queue_rows: 8192, patience, versions_max: 50, readers: 2 }
    }
}

/// The open store. Dropping it writes what is queued.
pub struct Sqlite {
    queue: Arc<Queue>,
    readers: Option<Arc<Readers>>,
    patience: Duration,
    versions_max: u64,
    file: Option<Arc<OpenFile>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Readers {
    free: Arc<Semaphore>,
    connections: Mutex<Vec<Connection>>,
}

impl Sqlite {
    /// Opens or makes the file, brings its schema up to date, starts the writer. Blocks.
    pub fn open(options: &SqliteOptions) -> Result<Sqlite, StoreError> {
        let mut connection = connect(&options.place)?;
        migrate(&mut connection, false)?;
        let readers = match &options.place {
            Place::Memory => None,
            Place::File(path) => Some(Arc::new(Readers::open(path, options.readers.max(1))?)),
        };
        let file = match &options.place {
            Place::Memory => None,
            Place::File(path) => Some(Arc::new(OpenFile::at(path)?)),
        };
        let queue = Queue::new(options.queue_rows);
        let writing = Arc::clone(&queue);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writing.write_until_closed(connection))
            .map_err(|error| StoreError::Failed {
                doing: "starting the writer thread",
                reason: error.to_string(),
            })?;
        let writer = Mutex::new(Some(writer));
        let SqliteOptions { patience, versions_max, .. } = *options;
        Ok(Sqlite { queue, readers, patience, versions_max, file, writer })
    }

    /// Runs `work` inside the next batch and waits for its commit.
    pub(super) fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'_, T> {
        let (tell, told) = oneshot::channel();
        let file = self.file.clone();
        let write = move |connection: Option<&Connection>| -> Finish {
            // What goes into a file that nobody will find again is not stored.
            let result = connection.map(|connection| match file {
                Some(file) if !file.is_in_place() => Err(StoreError::Gone { doing }),
                Some(_) | None => work(connection),
            });
            Box::new(move |batch: Option<&StoreError>| {
                let result = match (result, batch) {
                    (Some(Err(own)), _) => Err(own),
                    (_, Some(failure)) => Err(failure.clone()),
                    (Some(done), None) => done,
                    (None, None) => Err(StoreError::Busy { doing }),
                };
                // A caller that no longer waits needs no answer.
                let _ = tell.send(result);
            })
        };
        let pushed = self.queue.push(Box::new(write));
        let patience = self.patience;
        async move {
            pushed.map_err(|refused| match refused {
                Refused::Full => StoreError::Busy { doing },
                Refused::Closed => StoreError::Closed { doing },
            })?;
            match tokio::time::timeout(patience, told).await {
                Err(_) => Err(StoreError::Slow { doing, waited_ms: patience.as_millis() }),
                Ok(Err(_)) => Err(StoreError::Busy { doing }),
                Ok(Ok(result)) => result,
            }
        }
        .boxed()
    }

    /// Runs `work` on a reader, off the server's workers.
    pub(super) fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        let work = move |connection: &Connection| {
            work(connection).map_err(|error| StoreError::of(doing, &error))
        };
        let Some(readers) = &self.readers else { return self.write(doing, work) };
        let readers = Arc::clone(readers);
        async move {
            let free = Arc::clone(&readers.free).acquire_owned();
            let free = free.await.map_err(|_| StoreError::Closed { doing })?;
            // The permit goes along: a caller that stops waiting must not free a busy reader.
            let reading = tokio::task::spawn_blocking(move || {
                let _free = free;
                readers.with(doing, work)
            });
            reading.await.unwrap_or_else(|error| {
                Err(StoreError::Failed { doing, reason: error.to_string() })
            })
        }
        .boxed()
    }
}

impl Decisions for Sqlite {
    fn decision(&self, tenant: TenantId, id: String) -> Answer<'_, Option<Decision>> {
        self.read("reading a decision", move |c| rows::decision(c, &tenant, &id))
    }

    fn decisions(&self, tenant: TenantId, page: Page) -> Answer<'_, Vec<Numbered<Decision>>> {
        self.read("listing decisions", move |c| rows::decisions(c, &tenant, page))
    }

    fn look(
        &self,
        tenant: TenantId,
        sought: Sought,
        after: Option<Spot>,
        rows: u32,
    ) -> Answer<'_, Vec<Passed>> {
        let read = move |c: &Connection| search::look(c, (&tenant, &sought), after, rows);
        self.read("looking for decisions", read)
    }

    fn tally(&self, tenant: TenantId, sought: Sought, rows: u32) -> Answer<'_, Vec<Tally>> {
        self.read("counting decisions", move |c| search::tally(c, (&tenant, &sought), rows))
    }
}

impl Audit for Sqlite {
    fn append(&self, entry: AuditEntry) -> Answer<'_, i64> {
        const DOING: &str = "appending to the audit";
        self.write(DOING, move |connection| {
            rows::append_audit(connection, &entry).map_err(|error| StoreError::of(DOING, &error))
        })
    }

    fn entries(
        &self,
        tenant: Option<TenantId>,
        page: Page,
    ) -> Answer<'_, Vec<Numbered<AuditEntry>>> {
        self.read("listing the audit", move |c| rows::audit(c, tenant.as_ref(), page))
    }

    fn chain(
        &self,
        tenant: Option<TenantId>,
        after: i64,
        limit: u32,
    ) -> Answer<'_, Vec<Numbered<Chained>>> {
        let read = move |c: &Connection| rows::chain(c, tenant.as_ref(), after, limit);
        self.read("reading the chain of the audit", read)
    }
}

impl Objects for Sqlite {
    fn object(&self, key: ObjectKey) -> Answer<'_, Option<Object>> {
        self.read("reading an object", move |c| {
            Ok(rows::newest(c, &key)?.filter(|object| object.body.is_some()))
        })
    }

    fn put(&self, key: ObjectKey, body: String, expected: Expected) -> Answer<'_, Object> {
        let keep = self.versions_max;
        let write = move |c: &Connection| write_object(c, key, Some(body), (expected, keep));
        self.write("writing an object", write)
    }

    fn delete(&self, key: ObjectKey, expected: Expected) -> Answer<'_, ()> {
        let keep = self.versions_max;
        let write = move |c: &Connection| write_object(c, key, None, (expected, keep)).map(|_| ());
        self.write("deleting an object", write)
    }

    fn change(
        &self,
        key: ObjectKey,
        body: Option<String>,
        expected: Expected,
        entry: AuditEntry,
    ) -> Answer<'_, Object> {
        const DOING: &str = "writing an object and its audit";
        let keep = self.versions_max;
        self.write(DOING, move |c| {
            let failed = |error: rusqlite::Error| StoreError::of(DOING, &error);
            c.execute_batch("SAVEPOINT change").map_err(failed)?;
            let written = write_object(c, key, body, (expected, keep)).and_then(|object| {
                rows::append_audit(c, &entry).map_err(failed)?;
                Ok(object)
            });
            let end = if written.is_ok() { "" } else { "ROLLBACK TO change; " };
            c.execute_batch(&format!("{end}RELEASE change")).map_err(failed)?;
            written
        })
    }

    fn objects(&self, kind: String) -> Answer<'_, Vec<Object>> {
        self.read("listing objects", move |c| rows::objects(c, &kind))
    }

    fn versions(&self, key: ObjectKey, page: Page) -> Answer<'_, Vec<Version>> {
        self.read("listing an object's versions", move |c| rows::versions(c, &key, page))
    }

    fn version(&self, key: ObjectKey, version: u64) -> Answer<'_, Option<Object>> {
        self.read("reading a version of an object", move |c| rows::version(c, &key, version))
    }

    fn generation(&self) -> Answer<'_, i64> {
        self.read("reading the generation", rows::generation)
    }
}

impl Store for Sqlite {
    fn probe(&self) -> Answer<'_, ()> {
        const DOING: &str = "probing the store";
        if self.file.as_ref().is_some_and(|file| !file.is_in_place()) {
            return async { Err(StoreError::Gone { doing: DOING }) }.boxed();
        }
        self.read(DOING, |c| rows::generation(c).map(|_| ()))
    }

    fn close(&self) {
        self.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("The store's writer thread ended by a panic");
        }
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.close();
    }
}

impl Readers {
    fn open(path: &Path, count: usize) -> Result<Readers, StoreError> {
        let connections = (0..count)
            .map(|_| reader(path))
            .collect::<rusqlite::Result<Vec<_>>>()
            .map_err(|error| StoreError::of("opening a reader", &error))?;
        Ok(Readers { free: Arc::new(Semaphore::new(count)), connections: Mutex::new(connections) })
    }

    fn with<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let taken = self.connections.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = taken.ok_or(StoreError::Busy { doing })?;
        let result = work(&connection);
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        result
    }
}

/// A connection that reads beside those who write.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(FILE_LOCK_WAIT)?;
    Ok(connection)
}

/// Makes the file that only its owner may read, where there is none; what SQLite puts beside it gets
/// the same mode. Where it cannot be made, opening it says why.
fn make_private(path: &Path) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let _ = options.write(true).create_new(true).mode(0o600).open(path);
}

fn connect(place: &Place) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::of("opening the store", &error);
    let connection = match place {
        Place::Memory => Connection::open_in_memory().map_err(failed)?,
        Place::File(path) => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
                let directory = directory.display().to_string();
                return Err(StoreError::MissingDirectory { directory });
            }
            must_be_file(path)?;
            make_private(path);
            let connection = Connection::open(path).map_err(failed)?;
            // Before anything is changed in what is another program's.
            is_made(&connection, path)?;
            connection
        }
    };
    connection.busy_timeout(FILE_LOCK_WAIT).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
        )
        .map_err(failed)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, dry_run: bool) -> Result<Migrated, StoreError> {
    const DOING: &str = "bringing the store's schema up to date";
    let failed =
        |error: refinery::Error| StoreError::Failed { doing: DOING, reason: error.to_string() };
    let asked = |error: rusqlite::Error| StoreError::of(DOING, &error);
    let migrated = missing(applied(connection).map_err(asked)?)?;
    if !dry_run {
        let runner = migrations::migrations::runner().set_abort_missing(false);
        runner.run(connection).map_err(failed)?;
        rows::chain_old_acts(connection).map_err(asked)?;
    }
    Ok(migrated)
}

/// The version of the schema; 0 where there is none.
pub(super) fn applied(connection: &Connection) -> rusqlite::Result<i64> {
    if !connection.table_exists(None, HISTORY)? {
        return Ok(0);
    }
    let newest = format!("SELECT coalesce(max(version), 0) FROM {HISTORY}");
    connection.query_row(&newest, [], |row| row.get(0))
}

/// What a schema of version `before` lacks.
pub(super) fn missing(before: i64) -> Result<Migrated, StoreError> {
    Migrated::of(migrations::migrations::runner().get_migrations(), before)
}

/// Brings the schema of the file at `path` up to date, or only tells what is missing. Blocks.
pub fn migrate_file(path: &Path, dry_run: bool) -> Result<Migrated, StoreError> {
    let place = if dry_run && !path.exists() { Place::Memory } else { Place::File(path.into()) };
    migrate(&mut connect(&place)?, dry_run)
}

fn write_object(
    connection: &Connection,
    key: ObjectKey,
    body: Option<String>,
    (expected, keep): (Expected, u64),
) -> Result<Object, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::of("writing an object", &error);
    let newest = rows::newest(connection, &key).map_err(failed)?;
    let written = expected.next(&key, newest, body)?;
    rows::insert_object(connection, &written).map_err(failed)?;
    rows::forget_versions(connection, &key, written.version.saturating_sub(keep.max(1)))
        .map_err(failed)?;
    Ok(written)
}
