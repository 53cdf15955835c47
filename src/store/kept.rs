//! What a service with some settings has stored, for commands that run beside it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::beside::{
    decisions_in_file, hashes_in_file, job_seals_in_file, logs_in_file, look_at_file,
    objects_in_file, sealed_in_file, source_in_file, tenants_in_file,
};
use super::keys::{any_key_in_file, keys_in_file};
use super::{
    Decision, Decisions as _, JobUpkeep as _, Keys as _, Ledger as _, LogKey, Numbered, Object,
    Objects as _, Page, Postgres, Secrets as _, SourceKey, Sources as _, StoreError, Usage as _,
};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::LogId;

/// A store that is only read. Its methods block.
pub enum Kept {
    /// The file of a store; nothing is stored where it is missing.
    File(PathBuf),
    /// A database.
    Database(Box<Postgres>),
}

impl Kept {
    /// The current objects of `kind`, by tenant and name.
    pub fn objects(&self, kind: &str) -> Result<Vec<Object>, StoreError> {
        match self {
            Kept::File(path) => objects_in_file(path, kind),
            Kept::Database(store) => store.wait(store.objects(kind.into())),
        }
    }

    /// API keys that are neither revoked nor expired at `now_ms`.
    pub fn keys_that_hold(&self, now_ms: i64) -> Result<u64, StoreError> {
        match self {
            Kept::File(path) => keys_in_file(path, now_ms),
            Kept::Database(store) => store.wait(store.keys_that_hold(now_ms)),
        }
    }

    /// Whether it ever held an API key.
    pub fn held_a_key(&self) -> Result<bool, StoreError> {
        match self {
            Kept::File(path) => any_key_in_file(path),
            Kept::Database(store) => {
                let page = Page { before: None, limit: 1 };
                Ok(!store.wait(store.keys(None, page))?.is_empty())
            }
        }
    }

    /// Refused where a newer program wrote a file; a database was looked at when it was opened.
    pub fn look(&self) -> Result<(), StoreError> {
        match self {
            Kept::File(path) => look_at_file(path),
            Kept::Database(_) => Ok(()),
        }
    }

    /// Every log, oldest first.
    pub fn logs(&self) -> Result<Vec<LogKey>, StoreError> {
        match self {
            Kept::File(path) => logs_in_file(path),
            Kept::Database(store) => store.wait(store.logs()),
        }
    }

    /// Credentials of detectors that only the data key opens.
    pub fn sealed(&self) -> Result<u64, StoreError> {
        match self {
            Kept::File(path) => sealed_in_file(path),
            Kept::Database(store) => {
                let all = store.wait(store.secrets())?;
                Ok(all.iter().filter(|row| row.value.sealed.is_some()).count() as u64)
            }
        }
    }

    /// The data keys that the content of jobs is sealed under; see [`super::JobUpkeep::job_seals`].
    pub fn job_seals(&self) -> Result<Vec<(String, u64)>, StoreError> {
        match self {
            Kept::File(path) => job_seals_in_file(path),
            Kept::Database(store) => store.wait(store.job_seals()),
        }
    }

    /// The decisions of `tenant`, newest first.
    pub fn decisions(
        &self,
        tenant: &TenantId,
        page: Page,
    ) -> Result<Vec<Numbered<Decision>>, StoreError> {
        match self {
            Kept::File(path) => decisions_in_file(path, tenant, page),
            Kept::Database(store) => store.wait(store.decisions(tenant.clone(), page)),
        }
    }

    /// Tenants that the store knows of: those with decisions or leaves in a file, those that
    /// had something judged in a database, which shows nobody everyone's decisions.
    pub fn tenants(&self) -> Result<BTreeSet<TenantId>, StoreError> {
        match self {
            Kept::File(path) => tenants_in_file(path),
            Kept::Database(store) => {
                let used = store.wait(store.used(0))?;
                Ok(used.into_iter().map(|used| used.tenant).collect())
            }
        }
    }

    /// A blob of sources.
    pub fn source(&self, key: SourceKey) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Kept::File(path) => source_in_file(path, &key),
            Kept::Database(store) => store.wait(store.source(key)),
        }
    }

    /// Hashes of a log as [`super::Ledger::hashes`] tells them; `None` where a row cannot be read.
    pub fn hashes(
        &self,
        log: &LogId,
        level: u8,
        (first, count): (u64, u32),
    ) -> Result<Option<Vec<Digest>>, StoreError> {
        let found = match self {
            Kept::File(path) => hashes_in_file(path, log, level, (first, count)),
            Kept::Database(store) => store.wait(store.hashes(log.clone(), level, first, count)),
        };
        match found {
            Err(StoreError::Damaged { .. }) => Ok(None),
            found => found.map(Some),
        }
    }
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kept::File(path) => write!(f, "{}", path.display()),
            Kept::Database(_) => f.write_str("the database"),
        }
    }
}
