//! What every store must do with what instances say of themselves.

use std::time::{Duration, Instant};

use crate::store::{InstanceTold, Store};

pub(super) async fn hold(store: &dyn Store) {
    each_instance_is_known_by_what_it_said_last_until_it_is_silent(store).await;
}

fn told(id: &str, generation: u64) -> InstanceTold {
    InstanceTold {
        id: id.into(),
        revision: format!("r{generation}"),
        generation,
        wanted: format!("w{generation}"),
        loaded_at: "2026-01-01T10:00:00.000Z".into(),
    }
}

async fn each_instance_is_known_by_what_it_said_last_until_it_is_silent(store: &dyn Store) {
    let known = async |within| -> Vec<InstanceTold> {
        let seen = store.instances(Duration::from_secs(within)).await.unwrap();
        assert!(seen.iter().all(|one| one.seen_at_ms > 1_700_000_000_000));
        seen.into_iter().map(|one| one.told).collect()
    };
    store.tell_instance(told("b", 1)).await.unwrap();
    store.tell_instance(told("a", 1)).await.unwrap();
    store.tell_instance(told("b", 2)).await.unwrap();
    assert_eq!(known(3_600).await, [told("a", 1), told("b", 2)]);
    let begun = Instant::now();
    while !known(0).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "whoever is silent stays known");
    }
    store.forget_instance("a".into()).await.unwrap();
    store.forget_instance("a".into()).await.unwrap();
    assert_eq!(known(3_600).await, [told("b", 2)]);
    store.forget_instance("b".into()).await.unwrap();
}
