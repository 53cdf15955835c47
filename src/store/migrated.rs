//! What brings a schema up to date.

use super::StoreError;

/// How many schema versions ahead a store may be: changes only ever expand what we use.
const NEWER_SCHEMAS_SERVED: i64 = 1;

/// The way from one schema to this program's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The version that was found; 0 where there was no schema.
    pub before: i64,
    /// The version that follows; one more than this program's where that was found.
    pub after: i64,
    /// What lies between, in order, such as `V2 keys`.
    pub changes: Vec<String>,
}

impl Migrated {
    /// From `before` over what `known` holds; refused where a newer program wrote it.
    pub(super) fn of(known: &[refinery::Migration], before: i64) -> Result<Migrated, StoreError> {
        let newest = known.iter().map(|m| i64::from(m.version())).max().unwrap_or(0);
        let served = newest + NEWER_SCHEMAS_SERVED;
        if before > served {
            return Err(StoreError::NewerSchema { found: before, served });
        }
        let mut missing: Vec<_> =
            known.iter().filter(|m| i64::from(m.version()) > before).collect();
        missing.sort_by_key(|m| m.version());
        let changes = missing.iter().map(|m| format!("V{} {}", m.version(), m.name())).collect();
        Ok(Migrated { before, after: newest.max(before), changes })
    }
}
