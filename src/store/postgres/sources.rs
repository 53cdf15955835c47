//! What decisions were made of.

use futures_util::FutureExt as _;

use super::{Postgres, Scope};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::store::sources::owner;
use crate::store::{Answer, SourceBlob, SourceKey, Sources};

/// Owners and digests, as two arrays.
fn columns<'a>(
    keys: impl Iterator<Item = (Option<&'a TenantId>, &'a Digest)>,
) -> (Vec<&'a str>, Vec<&'a [u8]>) {
    keys.map(|(tenant, digest)| (owner(tenant), &digest.as_bytes()[..])).unzip()
}

impl Sources for Postgres {
    fn missing_sources(&self, keys: Vec<SourceKey>) -> Answer<'_, Vec<SourceKey>> {
        self.run("looking for sources", Scope::Service, move |t| {
            async move {
                let sql = "SELECT EXISTS (SELECT FROM sources \
                           WHERE tenant = wanted.tenant AND digest = wanted.digest) \
                           FROM unnest($1::text[], $2::bytea[]) \
                           WITH ORDINALITY AS wanted (tenant, digest, place) ORDER BY place";
                let sql = t.prepare_cached(sql).await?;
                let (tenants, digests) =
                    columns(keys.iter().map(|(tenant, digest)| (tenant.as_ref(), digest)));
                let rows = t.query(&sql, &[&tenants, &digests]).await?;
                let mut missing = Vec::new();
                for (row, key) in rows.iter().zip(&keys) {
                    if !row.try_get::<_, bool>(0)? {
                        missing.push(key.clone());
                    }
                }
                Ok(missing)
            }
            .boxed()
        })
    }

    fn put_sources(&self, mut blobs: Vec<SourceBlob>) -> Answer<'_, ()> {
        // In one order everywhere, so that two instances cannot wait for each other.
        blobs.sort_by(|a, b| (&a.tenant, a.digest).cmp(&(&b.tenant, b.digest)));
        self.alter("keeping sources", Scope::Service, move |t| {
            async move {
                let sql = "INSERT INTO sources (tenant, digest, bytes) \
                           SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[]) \
                           ON CONFLICT DO NOTHING";
                let sql = t.prepare_cached(sql).await?;
                let keys = blobs.iter().map(|blob| (blob.tenant.as_ref(), &blob.digest));
                let (tenants, digests) = columns(keys);
                let bytes: Vec<&[u8]> = blobs.iter().map(|blob| &*blob.bytes).collect();
                t.execute(&sql, &[&tenants, &digests, &bytes]).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn source(&self, (tenant, digest): SourceKey) -> Answer<'_, Option<Vec<u8>>> {
        self.run("reading a source", Scope::of(tenant.clone()), move |t| {
            async move {
                let sql = "SELECT bytes FROM sources WHERE tenant = $1 AND digest = $2";
                let sql = t.prepare_cached(sql).await?;
                let key = (owner(tenant.as_ref()), &digest.as_bytes()[..]);
                let row = t.query_opt(&sql, &[&key.0, &key.1]).await?;
                Ok(row.map(|row| row.try_get(0)).transpose()?)
            }
            .boxed()
        })
    }
}
