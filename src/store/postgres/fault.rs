//! What went wrong at the database, in the store's words. Only codes and the server's first line
//! are told: its details hold values.

use deadpool_postgres::PoolError;
use deadpool_postgres::TimeoutType;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::super::StoreError;

/// Why a transaction was not made.
pub(super) enum Fault {
    /// The database or the way to it.
    Sql(Error),
    /// What was found there.
    Store(StoreError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Store(error)
    }
}

impl Fault {
    pub(super) fn told(self, doing: &'static str) -> StoreError {
        match self {
            Fault::Sql(error) => of(doing, &error),
            Fault::Store(error) => error,
        }
    }
}

/// Names the failure of `doing`.
pub(super) fn of(doing: &'static str, error: &Error) -> StoreError {
    let Some(code) = error.code() else {
        return StoreError::Unreachable { doing, reason: reason(error) };
    };
    match *code {
        SqlState::INSUFFICIENT_PRIVILEGE | SqlState::INVALID_PARAMETER_VALUE => {
            StoreError::Denied { doing, reason: reason(error) }
        }
        SqlState::DISK_FULL => StoreError::Full { doing },
        SqlState::TOO_MANY_CONNECTIONS | SqlState::LOCK_NOT_AVAILABLE => StoreError::Busy { doing },
        SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::Failed {
            doing,
            reason: "the server only reads; name the primary, or end its recovery".into(),
        },
        SqlState::INVALID_PASSWORD
        | SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        | SqlState::INVALID_CATALOG_NAME => {
            StoreError::Unreachable { doing, reason: reason(error) }
        }
        _ if passes(error) => StoreError::Unreachable { doing, reason: reason(error) },
        _ => StoreError::Failed { doing, reason: reason(error) },
    }
}

/// Whether the same statement may succeed later: the connection, the server or its resources failed.
pub(super) fn passes(error: &Error) -> bool {
    let Some(code) = error.code() else { return true };
    // Connection, transaction rollback, resources, operator, system, read-only after a failover.
    ["08", "40", "53", "57", "58", "25"].iter().any(|class| code.code().starts_with(class))
}

/// Why there is no connection; where the database `is_silent`, it is not for the work it does.
pub(super) fn unpooled(doing: &'static str, error: &PoolError, is_silent: bool) -> StoreError {
    match error {
        PoolError::Backend(error) => of(doing, error),
        PoolError::Timeout(TimeoutType::Wait) if is_silent => {
            StoreError::Unreachable { doing, reason: "it answers on no connection".into() }
        }
        PoolError::Timeout(TimeoutType::Wait) => StoreError::Crowded { doing },
        PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => {
            StoreError::Unreachable { doing, reason: "it does not accept a connection".into() }
        }
        PoolError::Closed => StoreError::Closed { doing },
        PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            StoreError::Failed { doing, reason: "the pool is set up wrongly".into() }
        }
    }
}

/// Without the details that may hold values.
pub(super) fn reason(error: &Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{} ({})", told.message(), told.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
