//! What tenants have used of their quotas: one row each, the newest hour.

use rusqlite::{Connection, Result, params};

use super::{Answer, Sqlite, StoreError};
use crate::domain::id::TenantId;

/// Requests of a tenant in one hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourUsed {
    /// Whose.
    pub tenant: TenantId,
    /// Hours since 1970.
    pub hour: u32,
    /// How many were judged.
    pub used: u32,
}

/// What of their quotas tenants have used.
pub trait Usage: Send + Sync {
    /// Every tenant's newest hour from `since` on.
    fn used(&self, since: u32) -> Answer<'_, Vec<HourUsed>>;
    /// Keeps `rows`, all or none. A count of the same hour never falls.
    fn keep_used(&self, rows: Vec<HourUsed>) -> Answer<'_, ()>;
}

impl Usage for Sqlite {
    fn used(&self, since: u32) -> Answer<'_, Vec<HourUsed>> {
        self.read("reading quotas", move |c| {
            c.prepare_cached(
                "SELECT tenant, hour, used FROM usage WHERE hour >= ?1 ORDER BY tenant",
            )?
            .query_map([since], |row| {
                let tenant: String = row.get(0)?;
                Ok((tenant, row.get(1)?, row.get(2)?))
            })?
            .filter_map(|row| match row {
                // What no tenant is called was not written here.
                Ok((tenant, hour, used)) => {
                    let tenant = TenantId::parse(&tenant).ok()?;
                    Some(Ok(HourUsed { tenant, hour, used }))
                }
                Err(error) => Some(Err(error)),
            })
            .collect()
        })
    }

    fn keep_used(&self, rows: Vec<HourUsed>) -> Answer<'_, ()> {
        const DOING: &str = "keeping quotas";
        self.write(DOING, move |c| {
            let failed = |error: rusqlite::Error| StoreError::of(DOING, &error);
            c.execute_batch("SAVEPOINT usage").map_err(failed)?;
            let kept = rows.iter().try_for_each(|row| keep(c, row)).map_err(failed);
            let end = if kept.is_ok() { "" } else { "ROLLBACK TO usage; " };
            c.execute_batch(&format!("{end}RELEASE usage")).map_err(failed)?;
            kept
        })
    }
}

fn keep(connection: &Connection, row: &HourUsed) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO usage (tenant, hour, used) VALUES (?1, ?2, ?3) \
             ON CONFLICT (tenant) DO UPDATE SET \
             used = CASE WHEN hour = excluded.hour THEN max(used, excluded.used) \
             ELSE excluded.used END, hour = excluded.hour",
        )?
        .execute(params![row.tenant.as_str(), row.hour, row.used])
        .map(drop)
}
