//! What a service with some settings has stored, for commands that run beside it.

use std::path::PathBuf;

use super::sqlite::{decisions_in_file, objects_in_file};
use super::{Decision, Decisions as _, Numbered, Object, Objects as _, Page, Postgres, StoreError};
use crate::domain::id::TenantId;

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
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kept::File(path) => write!(f, "{}", path.display()),
            Kept::Database(_) => f.write_str("the database"),
        }
    }
}
