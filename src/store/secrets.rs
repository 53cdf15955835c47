//! Sealed credentials of detectors: rows that only the data key opens.

use rusqlite::{Connection, Result, Row, params};

use super::rows::{append_audit, parsed};
use super::{Answer, AuditEntry, Numbered, Sqlite, StoreError};
use crate::domain::id::{DetectorName, TenantId};

/// A sealed credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// For whose calls; `None` is for everyone's.
    pub tenant: Option<TenantId>,
    /// Of which detector.
    pub detector: DetectorName,
    /// The one address that the credential of a registered detector goes to, such as
    /// `https://host:8443`; `None` for a file's detector of that name.
    pub origin: Option<String>,
    /// What kind of credential, such as `bearer_token`.
    pub kind: String,
    /// The seal; `None` takes back what was there.
    pub sealed: Option<Vec<u8>>,
    /// Wall clock of the write, milliseconds since 1970.
    pub at_ms: i64,
}

/// Sealed credentials of detectors.
pub trait Secrets: Send + Sync {
    /// Every one, also those that were taken back; `sequence` grows with every write.
    fn secrets(&self) -> Answer<'_, Vec<Numbered<SealedSecret>>>;
    /// Puts `secret` into its place and appends `entry` to the audit, both or neither.
    fn put_secret(&self, secret: SealedSecret, entry: AuditEntry) -> Answer<'_, ()>;
    /// Grows with every write; equal values mean nothing changed.
    fn secrets_generation(&self) -> Answer<'_, i64>;
}

impl Secrets for Sqlite {
    fn secrets(&self) -> Answer<'_, Vec<Numbered<SealedSecret>>> {
        self.read("listing detectors' credentials", |c| {
            c.prepare_cached("SELECT * FROM detector_secrets ORDER BY sequence")?
                .query_map([], read_secret)?
                .collect()
        })
    }

    fn put_secret(&self, secret: SealedSecret, entry: AuditEntry) -> Answer<'_, ()> {
        const DOING: &str = "writing a detector's credential";
        self.write(DOING, move |c| {
            let failed = |error: rusqlite::Error| StoreError::of(DOING, &error);
            c.execute_batch("SAVEPOINT secret").map_err(failed)?;
            let written = replace(c, &secret).and_then(|()| append_audit(c, &entry));
            let end = if written.is_ok() { "" } else { "ROLLBACK TO secret; " };
            c.execute_batch(&format!("{end}RELEASE secret")).map_err(failed)?;
            written.map(|_| ()).map_err(failed)
        })
    }

    fn secrets_generation(&self) -> Answer<'_, i64> {
        self.read("reading the generation of detectors' credentials", |c| {
            c.prepare_cached("SELECT coalesce(max(sequence), 0) FROM detector_secrets")?
                .query_row([], |row| row.get(0))
        })
    }
}

fn replace(connection: &Connection, secret: &SealedSecret) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO detector_secrets (tenant, detector, origin, kind, sealed, \
             at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            secret.tenant.as_ref().map_or("", TenantId::as_str),
            secret.detector.as_str(),
            secret.origin.as_deref().unwrap_or_default(),
            secret.kind,
            secret.sealed,
            secret.at_ms
        ])
        .map(|_| ())
}

fn read_secret(row: &Row<'_>) -> Result<Numbered<SealedSecret>> {
    let (tenant, origin): (String, String) = (row.get("tenant")?, row.get("origin")?);
    let value = SealedSecret {
        tenant: match tenant.as_str() {
            "" => None,
            _ => Some(parsed(row, "tenant", TenantId::parse)?),
        },
        detector: parsed(row, "detector", DetectorName::parse)?,
        origin: Some(origin).filter(|origin| !origin.is_empty()),
        kind: row.get("kind")?,
        sealed: row.get("sealed")?,
        at_ms: row.get("at_ms")?,
    };
    Ok(Numbered { sequence: row.get("sequence")?, value })
}
