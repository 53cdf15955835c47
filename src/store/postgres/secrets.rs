//! Sealed credentials of detectors.

use futures_util::FutureExt as _;
use tokio_postgres::Row;

use super::fault::Fault;
use super::rows::{append_audit, parsed, scope};
use super::{ORDERED, Postgres, Scope};
use crate::domain::id::{DetectorName, TenantId};
use crate::store::{Answer, AuditEntry, Numbered, SealedSecret, Secrets};

impl Secrets for Postgres {
    fn secrets(&self) -> Answer<'_, Vec<Numbered<SealedSecret>>> {
        self.run("listing detectors' credentials", Scope::Service, |t| {
            async move {
                let sql = "SELECT sequence, tenant, detector, origin, kind, sealed, at_ms \
                           FROM detector_secrets ORDER BY sequence";
                let sql = t.prepare_cached(sql).await?;
                t.query(&sql, &[]).await?.iter().map(read).collect()
            }
            .boxed()
        })
    }

    fn put_secret(&self, secret: SealedSecret, entry: AuditEntry) -> Answer<'_, ()> {
        self.alter("writing a detector's credential", Scope::Service, move |t| {
            async move {
                t.batch_execute(ORDERED).await?;
                let sql = "INSERT INTO detector_secrets \
                           (tenant, detector, origin, kind, sealed, at_ms) \
                           VALUES ($1, $2, $3, $4, $5, $6) \
                           ON CONFLICT (tenant, detector, registered) DO UPDATE SET \
                           sequence = DEFAULT, origin = excluded.origin, kind = excluded.kind, \
                           sealed = excluded.sealed, at_ms = excluded.at_ms";
                let sql = t.prepare_cached(sql).await?;
                let SealedSecret { tenant, detector, origin, kind, sealed, at_ms } = &secret;
                let tenant = tenant.as_ref().map_or("", TenantId::as_str);
                let (detector, origin) = (detector.as_str(), origin.as_deref().unwrap_or_default());
                t.execute(&sql, &[&tenant, &detector, &origin, kind, sealed, at_ms]).await?;
                append_audit(t, &entry).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn secrets_generation(&self) -> Answer<'_, i64> {
        self.run("reading the generation of detectors' credentials", Scope::Service, |t| {
            async move {
                let sql = "SELECT coalesce(max(sequence), 0) FROM detector_secrets";
                let sql = t.prepare_cached(sql).await?;
                Ok(t.query_one(&sql, &[]).await?.try_get(0)?)
            }
            .boxed()
        })
    }
}

fn read(row: &Row) -> Result<Numbered<SealedSecret>, Fault> {
    let origin: String = row.try_get("origin")?;
    let value = SealedSecret {
        tenant: scope(row)?,
        detector: parsed(row, "detector", DetectorName::parse)?,
        origin: Some(origin).filter(|origin| !origin.is_empty()),
        kind: row.try_get("kind")?,
        sealed: row.try_get("sealed")?,
        at_ms: row.try_get("at_ms")?,
    };
    Ok(Numbered { sequence: row.try_get("sequence")?, value })
}
