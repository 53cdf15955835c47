//! What serves at each instance, told by itself. Nothing is decided by it: it is shown.

use std::time::Duration;

use rusqlite::{Result, Row, params};

use super::claims::{NOW, millis};
use super::{Answer, Sqlite};

/// One that said nothing for so long is forgotten by the others.
pub(super) const FORGOTTEN: Duration = Duration::from_secs(60);

/// What an instance says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceTold {
    /// Random, new at every start.
    pub id: String,
    /// Of the snapshot that serves there.
    pub revision: String,
    /// Swaps of that process.
    pub generation: u64,
    /// The revision that its files would make.
    pub wanted: String,
    /// Since when it serves, RFC 3339.
    pub loaded_at: String,
}

/// An instance, and when it was heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSeen {
    /// What it said.
    pub told: InstanceTold,
    /// By the store's clock, milliseconds since 1970.
    pub seen_at_ms: i64,
}

/// Instances over one store.
pub trait Instances: Send + Sync {
    /// Says what serves at an instance; what others said a minute ago is forgotten.
    fn tell_instance(&self, told: InstanceTold) -> Answer<'_, ()>;
    /// Those that said something `within` so long by the store's clock, in the order of their ids.
    fn instances(&self, within: Duration) -> Answer<'_, Vec<InstanceSeen>>;
    /// This one ends.
    fn forget_instance(&self, id: String) -> Answer<'_, ()>;
}

impl Instances for Sqlite {
    fn tell_instance(&self, told: InstanceTold) -> Answer<'_, ()> {
        self.atomically("telling what serves here", move |c| {
            c.prepare_cached(&format!(
                "DELETE FROM instances WHERE abs({NOW} - seen_at_ms) > ?1 AND id <> ?2"
            ))?
            .execute(params![millis(FORGOTTEN), told.id])?;
            c.prepare_cached(&format!(
                "INSERT INTO instances (id, revision, generation, wanted, loaded_at, seen_at_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, {NOW}) ON CONFLICT (id) DO UPDATE SET \
                 revision = excluded.revision, generation = excluded.generation, \
                 wanted = excluded.wanted, loaded_at = excluded.loaded_at, \
                 seen_at_ms = excluded.seen_at_ms"
            ))?
            .execute(params![
                told.id,
                told.revision,
                told.generation.cast_signed(),
                told.wanted,
                told.loaded_at
            ])
            .map(drop)
        })
    }

    fn instances(&self, within: Duration) -> Answer<'_, Vec<InstanceSeen>> {
        self.read("listing instances", move |c| {
            c.prepare_cached(&format!(
                "SELECT id, revision, generation, wanted, loaded_at, seen_at_ms FROM instances \
                 WHERE abs({NOW} - seen_at_ms) <= ?1 ORDER BY id"
            ))?
            .query_map([millis(within)], read)?
            .collect()
        })
    }

    fn forget_instance(&self, id: String) -> Answer<'_, ()> {
        self.atomically("forgetting an instance", move |c| {
            c.prepare_cached("DELETE FROM instances WHERE id = ?1")?.execute([id]).map(drop)
        })
    }
}

fn read(row: &Row<'_>) -> Result<InstanceSeen> {
    let generation: i64 = row.get(2)?;
    let told = InstanceTold {
        id: row.get(0)?,
        revision: row.get(1)?,
        generation: generation.cast_unsigned(),
        wanted: row.get(3)?,
        loaded_at: row.get(4)?,
    };
    Ok(InstanceSeen { told, seen_at_ms: row.get(5)? })
}
