//! What every store must do with sources.

use super::{ALL, decision, tenant};
use crate::domain::digest::Digest;
use crate::store::{Decision, Purge, SourceBlob, Store, Unnamed};

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

/// Runs after every other: what nothing names may go.
pub(super) async fn are_forgotten(store: &dyn Store) {
    let named = |revision: &str, id: &str| Decision {
        revision: revision.into(),
        at_ms: 5,
        ..decision(id, "forgetful")
    };
    let rows = [named("r-2", "f-1"), named("r-4", "f-2"), named("r-2", "f-3")];
    super::record(store, rows).await.unwrap();
    store.serve_revision("r-3".into(), 1_000, 0).await.unwrap();
    store.serve_revision("r-1".into(), 500, 0).await.unwrap();
    let revisions = async |since_ms, after: &str, limit| {
        let found = store.revisions(since_ms, after.into(), limit).await.unwrap();
        found.into_iter().filter(|found| found.starts_with("r-")).collect::<Vec<_>>()
    };
    assert_eq!(revisions(500, "", 99).await, ["r-1", "r-2", "r-3", "r-4"]);
    assert_eq!(revisions(501, "", 99).await, ["r-2", "r-3", "r-4"]);
    assert_eq!(revisions(501, "r-2", 1).await, ["r-3"]);
    store.serve_revision("r-1".into(), 400, 0).await.unwrap();
    assert_eq!(revisions(500, "r", 1).await, ["r-1"], "a clock that goes back takes nothing away");
    let purge = Purge { tenant: tenant("forgetful"), before_ms: 9, rows_max: 9, at_ms: 9 };
    assert_eq!(store.purge(purge, super::retention::attest()).await, Ok(3));
    assert_eq!(revisions(501, "", 99).await, ["r-3"], "no record that is kept names the others");

    let blobs = [blob(None, "f-a"), blob(None, "f-b"), blob(Some("forgetful"), "f-a")];
    let keys = blobs.clone().map(|blob| (blob.tenant, blob.digest));
    store.put_sources(blobs.to_vec()).await.unwrap();
    let (mut all, mut after) = (Vec::new(), None);
    while let [key] = store.source_keys(after, 1).await.unwrap().as_slice() {
        all.push(key.clone());
        after = Some(key.clone());
    }
    assert!(keys.iter().all(|key| all.contains(key)), "{all:?}");
    assert_eq!(store.source_keys(None, 9_999).await, Ok(all));
    let unnamed = |known: &[&str]| Unnamed {
        keys: vec![keys[0].clone(), keys[1].clone()],
        known: known.iter().map(|known| (*known).to_owned()).collect(),
        since_ms: 501,
        at_ms: 7,
    };
    assert_eq!(store.forget_sources(unnamed(&["r-1"])).await, Ok(None), "r-3 serves");
    assert_eq!(store.missing_sources(keys.to_vec()).await, Ok(Vec::new()));
    assert_eq!(store.forget_sources(unnamed(&["r-3", "r-1"])).await, Ok(Some(2)));
    assert_eq!(store.missing_sources(keys.to_vec()).await, Ok(keys[..2].to_vec()));
    assert_eq!(store.forget_sources(unnamed(&["r-3"])).await, Ok(Some(0)));
    let acts = store.entries(None, ALL).await.unwrap();
    let told = acts.iter().filter(|row| row.value.action == "evidence.purge_sources");
    let told: Vec<_> = told.map(|row| row.value.after.as_deref().unwrap()).collect();
    assert_eq!(told, [r#"{"sources":2}"#]);
    // What no longer serves is not kept in the list.
    store.serve_revision("r-5".into(), 2_000, 1_500).await.unwrap();
    assert_eq!(revisions(0, "", 99).await, ["r-5"]);
}
