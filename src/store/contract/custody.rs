//! What every store must do with custody.

use super::tenant;
use crate::domain::custody::{
    ActorType, CustodyAct, CustodyAction, CustodyEntry, CustodySignature, Evidence,
};
use crate::domain::digest::Digest;
use crate::domain::log::LogId;
use crate::store::Store;

fn of(whose: &str, id: &str) -> Evidence {
    Evidence { tenant: tenant(whose), id: id.into() }
}

pub(in crate::store) async fn seen(store: &dyn Store, whose: &str, id: &str) -> CustodyEntry {
    let of = of(whose, id);
    let evidence = of.clone();
    let next = Box::new(move |last: Option<(u32, Digest)>| {
        let act = CustodyAct {
            at_ms: 7,
            action: CustodyAction::Accessed,
            actor: "orch_0123456789ab".into(),
            actor_type: ActorType::Api,
            details: r#"{"request_id":"r-1"}"#.into(),
        };
        let first = CustodyEntry::created(&evidence, 5, None);
        let last = last.unwrap_or((first.seq, first.hash));
        let signature = CustodySignature { log: LogId::of(&[7; 32]), bytes: [9; 64] };
        CustodyEntry { signature: Some(signature), ..CustodyEntry::after(last, &evidence, act) }
    });
    store.append_custody(of, next).await.unwrap()
}

pub(super) async fn holds(store: &dyn Store) {
    entries_are_chained_however_many_add_at_once(store).await;
    another_tenants_custody_is_not_seen(store).await;
}

async fn entries_are_chained_however_many_add_at_once(store: &dyn Store) {
    let added = (0..20).map(|_| seen(store, "custody", "e-1"));
    let added = futures_util::future::join_all(added).await;
    let evidence = of("custody", "e-1");
    let mut kept = store.custody(evidence.clone(), 0, 7).await.unwrap();
    assert_eq!(kept.len(), 7);
    kept.extend(store.custody(evidence.clone(), 8, 100).await.unwrap());
    let mut before = CustodyEntry::created(&evidence, 5, None);
    for entry in kept {
        assert_eq!((entry.seq, entry.previous), (before.seq + 1, before.hash));
        assert!(entry.fits(&evidence) && added.contains(&entry), "{entry:?}");
        before = entry;
    }
    assert_eq!(before.seq, 21);
}

async fn another_tenants_custody_is_not_seen(store: &dyn Store) {
    assert_eq!(store.custody(of("other", "e-1"), 0, 9).await, Ok(Vec::new()));
}
