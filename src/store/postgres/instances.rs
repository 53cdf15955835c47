//! What serves at each instance.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::claims::NOW;
use super::{Postgres, Scope};
use crate::store::claims::millis;
use crate::store::instances::FORGOTTEN;
use crate::store::{Answer, InstanceSeen, InstanceTold, Instances};

impl Instances for Postgres {
    fn tell_instance(&self, told: InstanceTold) -> Answer<'_, ()> {
        self.alter("telling what serves here", Scope::Service, move |t| {
            async move {
                // Whoever is back meanwhile is not waited for.
                let sql = format!(
                    "DELETE FROM instances WHERE id IN (SELECT id FROM instances \
                     WHERE abs({NOW} - seen_at_ms) > $1 AND id <> $2 FOR UPDATE SKIP LOCKED)"
                );
                let sql = t.prepare_cached(&sql).await?;
                t.execute(&sql, &[&millis(FORGOTTEN), &told.id]).await?;
                let sql = format!(
                    "INSERT INTO instances (id, revision, generation, wanted, loaded_at, \
                     seen_at_ms) VALUES ($1, $2, $3, $4, $5, {NOW}) ON CONFLICT (id) DO UPDATE \
                     SET revision = excluded.revision, generation = excluded.generation, \
                     wanted = excluded.wanted, loaded_at = excluded.loaded_at, \
                     seen_at_ms = excluded.seen_at_ms"
                );
                let sql = t.prepare_cached(&sql).await?;
                let InstanceTold { id, revision, generation, wanted, loaded_at } = &told;
                let generation = generation.cast_signed();
                t.execute(&sql, &[id, revision, &generation, wanted, loaded_at]).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn instances(&self, within: Duration) -> Answer<'_, Vec<InstanceSeen>> {
        self.run("listing instances", Scope::Service, move |t| {
            async move {
                let sql = format!(
                    "SELECT id, revision, generation, wanted, loaded_at, seen_at_ms \
                     FROM instances WHERE abs({NOW} - seen_at_ms) <= $1 ORDER BY id COLLATE \"C\""
                );
                let sql = t.prepare_cached(&sql).await?;
                let mut found = Vec::new();
                for row in t.query(&sql, &[&millis(within)]).await? {
                    let generation: i64 = row.try_get("generation")?;
                    let told = InstanceTold {
                        id: row.try_get("id")?,
                        revision: row.try_get("revision")?,
                        generation: generation.cast_unsigned(),
                        wanted: row.try_get("wanted")?,
                        loaded_at: row.try_get("loaded_at")?,
                    };
                    found.push(InstanceSeen { told, seen_at_ms: row.try_get("seen_at_ms")? });
                }
                Ok(found)
            }
            .boxed()
        })
    }

    fn forget_instance(&self, id: String) -> Answer<'_, ()> {
        self.alter("forgetting an instance", Scope::Service, move |t| {
            async move {
                let sql = t.prepare_cached("DELETE FROM instances WHERE id = $1").await?;
                t.execute(&sql, &[&id]).await?;
                Ok(())
            }
            .boxed()
        })
    }
}
