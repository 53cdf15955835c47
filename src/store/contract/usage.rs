//! What every store must do with used quotas.

use super::tenant;
use crate::store::{HourUsed, Store};

fn row(of: &str, hour: u32, used: u32) -> HourUsed {
    HourUsed { tenant: tenant(of), hour, used }
}

pub(super) async fn holds(store: &dyn Store) {
    a_tenants_newest_hour_is_kept_and_its_count_never_falls(store).await;
}

async fn a_tenants_newest_hour_is_kept_and_its_count_never_falls(store: &dyn Store) {
    store.keep_used(vec![row("acme", 100, 5), row("globex", 99, 9)]).await.unwrap();
    store.keep_used(vec![row("acme", 100, 3)]).await.unwrap();
    assert_eq!(store.used(0).await, Ok(vec![row("acme", 100, 5), row("globex", 99, 9)]));
    store.keep_used(vec![row("acme", 101, 1)]).await.unwrap();
    assert_eq!(store.used(100).await, Ok(vec![row("acme", 101, 1)]), "an old hour is of no use");
    store.keep_used(Vec::new()).await.unwrap();
}
