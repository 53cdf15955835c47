//! Claims on work that is carried out once.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_postgres::types::ToSql;

use super::{Postgres, Scope};
use crate::store::claims::{millis, other};
use crate::store::{Answer, Claim, Claimed, Claims, Terms};

/// The store's clock.
pub(super) const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
const OWN: &str = "tenant = $1 AND key = $2 AND owner = $3";

impl Claims for Postgres {
    fn claim(&self, claim: Claim, terms: Terms) -> Answer<'_, Claimed> {
        let scope = Scope::Tenant(claim.tenant.clone());
        self.alter("claiming an idempotency key", scope, move |t| {
            async move {
                let (tenant, key) = (claim.tenant.as_str(), &claim.key[..]);
                let sql = format!(
                    "INSERT INTO claims AS held \
                     (tenant, key, request, owner, leased_until_ms, forget_at_ms) \
                     VALUES ($1, $2, $3, $4, {NOW} + $5, {NOW} + $6) \
                     ON CONFLICT (tenant, key) DO UPDATE SET request = excluded.request, \
                     owner = excluded.owner, leased_until_ms = excluded.leased_until_ms, \
                     forget_at_ms = CASE WHEN held.forget_at_ms <= {NOW} \
                     THEN excluded.forget_at_ms ELSE held.forget_at_ms END, answer = NULL \
                     WHERE held.forget_at_ms <= {NOW} OR (held.answer IS NULL \
                     AND held.leased_until_ms <= {NOW} AND held.request = excluded.request)"
                );
                let sql = t.prepare_cached(&sql).await?;
                let (request, owner) = (&terms.request[..], &claim.owner[..]);
                let (lease, keep) = (millis(terms.lease), millis(terms.keep));
                let of: [&(dyn ToSql + Sync); 6] = [&tenant, &key, &request, &owner, &lease, &keep];
                if t.execute(&sql, &of).await? == 1 {
                    return Ok(Claimed::Mine);
                }
                // A statement of its own, so that it sees what the first one ran into.
                let sql = "SELECT request, answer FROM claims WHERE tenant = $1 AND key = $2";
                let sql = t.prepare_cached(sql).await?;
                let row = t.query_opt(&sql, &[&tenant, &key]).await?;
                let row = row.map(|row| -> Result<_, tokio_postgres::Error> {
                    Ok((row.try_get("request")?, row.try_get("answer")?))
                });
                Ok(other(row.transpose()?, &terms))
            }
            .boxed()
        })
    }

    fn renew(&self, claim: Claim, lease: Duration) -> Answer<'_, bool> {
        let sql = format!(
            "UPDATE claims SET leased_until_ms = {NOW} + $4 WHERE {OWN} AND answer IS NULL"
        );
        self.change("renewing a claim", claim, (sql, millis(lease)))
    }

    fn finish(&self, claim: Claim, answer: Vec<u8>) -> Answer<'_, bool> {
        let sql = format!("UPDATE claims SET answer = $4 WHERE {OWN}");
        self.change("keeping an answer", claim, (sql, answer))
    }

    fn release(&self, claim: Claim) -> Answer<'_, bool> {
        let sql = format!("UPDATE claims SET leased_until_ms = $4 WHERE {OWN} AND answer IS NULL");
        self.change("releasing a claim", claim, (sql, 0_i64))
    }

    fn forget_claims(&self, most: u32) -> Answer<'_, u64> {
        self.alter("forgetting claims", Scope::Service, move |t| {
            async move {
                let sql = format!(
                    "DELETE FROM claims WHERE forget_at_ms <= {NOW} AND (tenant, key) IN \
                     (SELECT tenant, key FROM claims WHERE forget_at_ms <= {NOW} LIMIT $1)"
                );
                let sql = t.prepare_cached(&sql).await?;
                Ok(t.execute(&sql, &[&i64::from(most)]).await?)
            }
            .boxed()
        })
    }
}

impl Postgres {
    fn change(
        &self,
        doing: &'static str,
        claim: Claim,
        (sql, value): (String, impl ToSql + Sync + Send + 'static),
    ) -> Answer<'_, bool> {
        self.alter(doing, Scope::Tenant(claim.tenant.clone()), move |t| {
            async move {
                let sql = t.prepare_cached(&sql).await?;
                let (key, owner) = (&claim.key[..], &claim.owner[..]);
                let own: [&(dyn ToSql + Sync); 4] = [&claim.tenant.as_str(), &key, &owner, &value];
                Ok(t.execute(&sql, &own).await? == 1)
            }
            .boxed()
        })
    }
}
