//! What every store must do with sources.

use super::tenant;
use crate::domain::digest::Digest;
use crate::store::{SourceBlob, Store};

fn blob(of: Option<&str>, text: &str) -> SourceBlob {
    let bytes = text.as_bytes();
    SourceBlob { tenant: of.map(tenant), digest: Digest::of(bytes), bytes: bytes.into() }
}

pub(super) async fn hold(store: &dyn Store) {
    let (all, own) = (blob(None, "package base"), blob(Some("sourced"), "package base"));
    let key = |blob: &SourceBlob| (blob.tenant.clone(), blob.digest);
    let keys = vec![key(&own), key(&all)];
    assert_eq!(store.missing_sources(keys.clone()).await, Ok(keys.clone()));
    store.put_sources(vec![all.clone()]).await.unwrap();
    assert_eq!(store.missing_sources(keys.clone()).await, Ok(vec![key(&own)]));
    assert_eq!(store.source(key(&own)).await, Ok(None), "it is another owner's");
    // Again, beside a new one: nothing fails and nothing is written twice.
    store.put_sources(vec![own.clone(), all.clone()]).await.unwrap();
    assert_eq!(store.missing_sources(keys).await, Ok(Vec::new()));
    for kept in [all, own] {
        assert_eq!(store.source(key(&kept)).await, Ok(Some(kept.bytes.to_vec())));
    }
    let other = (Some(tenant("other")), Digest::of(b"package base"));
    assert_eq!(store.source(other).await, Ok(None));
    assert_eq!(store.missing_sources(Vec::new()).await, Ok(Vec::new()));
}
