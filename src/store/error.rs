//! What can go wrong between a caller and the disk, in words an operator can act on.

use rusqlite::ErrorCode;

use crate::domain::error::Code;

/// Why the store could not do it. Messages name files and never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The write queue is full, another process holds the file, or the server has no room.
    #[error(
        "{doing}: the store is busy; retry, or raise max_connections of the server (PostgreSQL), or \
         give it a faster disk (SQLite)"
    )]
    Busy {
        /// What was attempted.
        doing: &'static str,
    },
    /// Others of this instance have every connection, or those that one tenant may have. It says
    /// nothing of the database.
    #[error("{doing}: every connection is taken; retry, or raise database.connections_max")]
    Crowded {
        /// What was attempted.
        doing: &'static str,
    },
    /// No confirmation in time. The row may still become durable.
    #[error(
        "{doing}: no answer within {waited_ms} ms; check the disk under paths.data, or the database"
    )]
    Slow {
        /// What was attempted.
        doing: &'static str,
        /// How long the caller waited.
        waited_ms: u128,
    },
    /// No space left.
    #[error("{doing}: the disk is full; free space under paths.data, or at the database")]
    Full {
        /// What was attempted.
        doing: &'static str,
    },
    /// Not a database, or damaged.
    #[error("{doing}: the file is damaged or no database; restore it from a copy")]
    Corrupt {
        /// What was attempted.
        doing: &'static str,
    },
    /// Not even a file.
    #[error(
        "opening the store: `{file}` is a folder or a device and no file; move it away, or set paths.data"
    )]
    NoFile {
        /// Where the store belongs.
        file: String,
    },
    /// A database, and not ours.
    #[error(
        "opening the store: `{file}` holds tables of another program and none of the store; move it \
         away, or set paths.data to a folder of its own"
    )]
    Foreign {
        /// Where the store belongs.
        file: String,
    },
    /// The file or its directory does not let us write.
    #[error("{doing}: the file is not writable; fix its owner or mode")]
    ReadOnly {
        /// What was attempted.
        doing: &'static str,
    },
    /// The directory is not there.
    #[error(
        "opening the store: directory `{directory}` does not exist; create it or set paths.data"
    )]
    MissingDirectory {
        /// The directory.
        directory: String,
    },
    /// A newer program wrote it.
    #[error(
        "opening the store: its schema is version {found}, this program serves up to {served}; \
         start the newer program"
    )]
    NewerSchema {
        /// In the file.
        found: i64,
        /// Highest that works here.
        served: i64,
    },
    /// Nobody brought the database up to date.
    #[error(
        "opening the store: its schema is version {found}, this program needs {wanted}; run \
         `orchestrator migrate` as the owner of the database"
    )]
    OlderSchema {
        /// In the database; 0 where there is none.
        found: i64,
        /// What this program works on.
        wanted: i64,
    },
    /// The address is none. It is not shown: it may hold a password.
    #[error(
        "opening the store: database.url is no address of PostgreSQL; write \
         postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    BadAddress,
    /// The certificates cannot be read.
    #[error("opening the store: database.ca_file `{file}`: {reason}; name a file in PEM")]
    Authority {
        /// The file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The database is away, or does not let us in.
    #[error(
        "{doing}: the database does not answer: {reason}; check the server and \
         ORCHESTRATION_DATABASE_URL"
    )]
    Unreachable {
        /// What was attempted.
        doing: &'static str,
        /// Why, without values.
        reason: String,
    },
    /// The role that we log in as may not.
    #[error(
        "{doing}: the database refuses it: {reason}; run `orchestrator migrate` as the owner, then \
         GRANT orch_app, orch_writer, orch_worker, orch_purge TO the role of \
         ORCHESTRATION_DATABASE_URL"
    )]
    Denied {
        /// What was attempted.
        doing: &'static str,
        /// What it says.
        reason: String,
    },
    /// The owner of the database may not do it alone.
    #[error(
        "{doing}: the owner may not take on the roles of the service; as a superuser, or whoever made \
         them, run: {sql}"
    )]
    Ungranted {
        /// What was attempted.
        doing: &'static str,
        /// Statements that grant what is missing.
        sql: String,
    },
    /// The file was deleted, or another one put in its place: what is written is lost with us.
    #[error("{doing}: the file was deleted or replaced while it was open; start the service again")]
    Gone {
        /// What was attempted.
        doing: &'static str,
    },
    /// The disk failed. Nothing may be believed durable before a new start.
    #[error("{doing}: the disk failed; replace it, then start the service again")]
    Broken {
        /// What was attempted.
        doing: &'static str,
    },
    /// A row that can never be written as it is.
    #[error("{doing}: the store refuses a row: {reason}")]
    Refused {
        /// What was attempted.
        doing: &'static str,
        /// For the log, without values.
        reason: String,
    },
    /// Somebody else wrote first.
    #[error("writing {kind} `{name}`: version {found} is there; read it and try again")]
    Conflict {
        /// Of the object.
        kind: String,
        /// Of the object.
        name: String,
        /// The current version, 0 where nothing is there.
        found: u64,
    },
    /// The store is closed.
    #[error("{doing}: the store is closed; the service is stopping")]
    Closed {
        /// What was attempted.
        doing: &'static str,
    },
    /// It failed several times in a row and is tried again soon.
    #[error("{doing}: the store failed several times in a row and is left alone for a moment")]
    Resting {
        /// What was attempted.
        doing: &'static str,
    },
    /// A row holds what this program never wrote.
    #[error("{doing}: a row is damaged: {reason}; restore it from a copy")]
    Damaged {
        /// What was attempted.
        doing: &'static str,
        /// Which column; never its value.
        reason: String,
    },
    /// Anything else.
    #[error("{doing}: {reason}")]
    Failed {
        /// What was attempted.
        doing: &'static str,
        /// For the log.
        reason: String,
    },
}

/// What only a hand-edited file holds.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Odd(pub(super) &'static str);

impl StoreError {
    /// What a caller is told who did not ask for something that contradicts it.
    pub fn code(&self) -> Code {
        if matches!(self, StoreError::Busy { .. } | StoreError::Crowded { .. }) {
            Code::Overloaded
        } else {
            Code::StoreUnavailable
        }
    }

    /// Names the failure of `doing`.
    pub(super) fn of(doing: &'static str, error: &rusqlite::Error) -> StoreError {
        use rusqlite::Error as E;
        if let E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnName(_)
        | E::InvalidColumnType(..) = error
        {
            let odd = std::error::Error::source(error).and_then(|it| it.downcast_ref::<Odd>());
            let reason = odd.map_or_else(|| error.to_string(), ToString::to_string);
            return StoreError::Damaged { doing, reason };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { doing },
            Some(ErrorCode::DiskFull) => StoreError::Full { doing },
            Some(ErrorCode::SystemIoFailure) => StoreError::Broken { doing },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Corrupt { doing }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                StoreError::ReadOnly { doing }
            }
            _ => StoreError::Failed { doing, reason: error.to_string() },
        }
    }
}
