//! What tenants have used of their quotas.

use futures_util::FutureExt as _;

use super::fault::Fault;
use super::{Postgres, Scope};
use crate::domain::id::TenantId;
use crate::store::{Answer, HourUsed, Usage};

impl Usage for Postgres {
    fn used(&self, since: u32) -> Answer<'_, Vec<HourUsed>> {
        self.run("reading quotas", Scope::Service, move |t| {
            async move {
                let sql = "SELECT tenant, hour, used FROM usage WHERE hour >= $1 \
                           ORDER BY tenant COLLATE \"C\"";
                let sql = t.prepare_cached(sql).await?;
                let mut found = Vec::new();
                for row in t.query(&sql, &[&i64::from(since)]).await? {
                    // What no tenant is called was not written here.
                    let Ok(tenant) = TenantId::parse(row.try_get("tenant")?) else { continue };
                    let count = |column| -> Result<u32, Fault> {
                        let count: i64 = row.try_get(column)?;
                        Ok(u32::try_from(count).unwrap_or(u32::MAX))
                    };
                    found.push(HourUsed { tenant, hour: count("hour")?, used: count("used")? });
                }
                Ok(found)
            }
            .boxed()
        })
    }

    fn keep_used(&self, mut rows: Vec<HourUsed>) -> Answer<'_, ()> {
        // In one order everywhere, so that two instances cannot wait for each other.
        rows.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        self.alter("keeping quotas", Scope::Service, move |t| {
            async move {
                let sql = "INSERT INTO usage AS kept (tenant, hour, used) \
                           SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) \
                           ON CONFLICT (tenant) DO UPDATE SET \
                           used = CASE WHEN kept.hour = excluded.hour \
                           THEN greatest(kept.used, excluded.used) ELSE excluded.used END, \
                           hour = excluded.hour";
                let sql = t.prepare_cached(sql).await?;
                let tenants: Vec<&str> = rows.iter().map(|row| row.tenant.as_str()).collect();
                let hours: Vec<i64> = rows.iter().map(|row| row.hour.into()).collect();
                let used: Vec<i64> = rows.iter().map(|row| row.used.into()).collect();
                t.execute(&sql, &[&tenants, &hours, &used]).await?;
                Ok(())
            }
            .boxed()
        })
    }
}
