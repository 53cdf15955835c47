//! Takes records away that are older than their tenant keeps them, a batch at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::custody::Custodian;
use super::purged::attest;
use crate::domain::id::TenantId;
use crate::domain::log::LogId;
use crate::store::{Attest, HeadsPurged, Ledger, LogKey, OldHeads, Purge, Retention, StoreError};

const DAY_MS: i64 = 86_400_000;
/// Records of one transaction.
const ROWS_MAX: u32 = 500;
/// Tenants of one look.
const TENANTS_MAX: u32 = 500;
/// Looks at checkpoints of one purge.
const LOOKS_MAX: u32 = 100;
/// Between two batches, for those who write meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// Takes away the records of decisions that are more than `days` of their tenant older than `now_ms`,
/// by their own time, but those under legal hold; how many. Of each `custodian` signs what it was.
/// Two instances do not get in each other's way.
///
/// # Errors
/// At the first that the store refuses; what was taken away before is in the audit.
pub async fn purge(
    (store, custodian): (&(impl Retention + ?Sized), &Custodian),
    now_ms: i64,
    days: impl Fn(&TenantId) -> u32,
) -> Result<u64, StoreError> {
    let (mut taken, mut after) = (0, None);
    loop {
        let page = store.oldest(after, TENANTS_MAX).await?;
        let full = u32::try_from(page.len()).is_ok_and(|rows| rows == TENANTS_MAX);
        after = page.last().filter(|_| full).map(|(tenant, _)| tenant.clone());
        for (tenant, oldest_ms) in page {
            let days = days(&tenant);
            let before_ms = now_ms.saturating_sub(DAY_MS * i64::from(days));
            if oldest_ms < before_ms {
                let purge = Purge { tenant, before_ms, rows_max: ROWS_MAX, at_ms: now_ms };
                taken += of_tenant(store, &purge, attest(custodian, now_ms, days)).await?;
            }
        }
        if after.is_none() {
            return Ok(taken);
        }
    }
}

/// Where the purge of each log's checkpoints goes on: after so many leaves.
pub type Places = BTreeMap<LogId, u64>;

/// Takes checkpoints away that are more than `days` old and that no record which is kept needs; how
/// many. Looks at no more than a few thousand, and goes on at `places` the next time.
///
/// # Errors
/// At the first that the store refuses; what was taken away before is in the audit.
pub async fn purge_heads(
    store: &(impl Retention + Ledger + ?Sized),
    now_ms: i64,
    days: u32,
    places: &mut Places,
) -> Result<u64, StoreError> {
    let (mut taken, mut looks) = (0, 0);
    for LogKey { log, .. } in store.logs().await? {
        loop {
            if looks == LOOKS_MAX {
                return Ok(taken);
            }
            looks += 1;
            let after = places.get(&log).copied().unwrap_or_default();
            let before_ms = now_ms.saturating_sub(DAY_MS * i64::from(days));
            let old = OldHeads { log: log.clone(), after, before_ms, at_ms: now_ms };
            let HeadsPurged { taken: gone, seen } = store.purge_heads(old).await?;
            taken += gone;
            let Some(seen) = seen else {
                // From the start the next time: more was purged meanwhile.
                places.remove(&log);
                break;
            };
            places.insert(log.clone(), seen);
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(taken)
}

async fn of_tenant(
    store: &(impl Retention + ?Sized),
    purge: &Purge,
    attest: Attest,
) -> Result<u64, StoreError> {
    let mut taken = 0;
    loop {
        let batch = store.purge(purge.clone(), attest.clone()).await?;
        taken += batch;
        if batch < u64::from(ROWS_MAX) {
            return Ok(taken);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::action::Action;
    use crate::domain::digest::Digest;
    use crate::domain::id::{BundleName, RequestId};
    use crate::domain::log::{Checkpoint, LogId};
    use crate::seal::{Key, Signer};
    use crate::store::{
        Decision, Decisions as _, LogBatch, LogKey, Page, Place, Sqlite, SqliteOptions,
    };

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    /// Puts decisions of these tenants and times on record.
    async fn record(store: &Sqlite, rows: impl IntoIterator<Item = (&'static str, i64)>) {
        let of = |(n, (of, at_ms)): (usize, (&str, i64))| Decision {
            id: format!("d-{n}"),
            tenant: tenant(of),
            request_id: RequestId::parse("r").unwrap(),
            at_ms,
            policy: BundleName::parse("standard").unwrap(),
            revision: "abc".into(),
            action: Action::Allow,
            complete: true,
            record: "{}".into(),
            leaf: None,
        };
        let decisions = rows.into_iter().enumerate().map(of);
        let decisions: Vec<_> =
            decisions.map(|row| (row.clone(), Digest::of(row.id.as_bytes()))).collect();
        let (public_key, root) = ([7; 32], Digest::of(b""));
        let (log, size) = (LogId::of(&public_key), decisions.len() as u64);
        store.open_log(LogKey { log: log.clone(), public_key, since_ms: 0 }).await.unwrap();
        let checkpoint = Checkpoint { log, size, root, at_ms: 0, signature: [0; 64] };
        let batch = LogBatch { checkpoint, decisions: Arc::new(decisions), nodes: Vec::new() };
        store.append_batch(Arc::new(batch)).await.unwrap();
    }

    fn custodian() -> Custodian {
        Custodian::new(Signer::of(&Key::from_bytes([7; 32])).unwrap())
    }

    async fn kept(store: &Sqlite, of: &str) -> usize {
        let all = Page { limit: 1_000, before: None };
        let rows = store.decisions(tenant(of), all).await.unwrap();
        rows.iter().filter(|row| !row.value.record.is_empty()).count()
    }

    #[tokio::test]
    async fn each_tenant_keeps_its_own_days_and_a_clock_that_goes_back_purges_nothing() {
        let store = Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap();
        let days = (0..4).flat_map(|day| [day * DAY_MS; 3]);
        record(&store, days.flat_map(|at| [("short", at), ("long", at)])).await;
        let days = |tenant: &TenantId| if tenant.as_str() == "short" { 1 } else { 3 };
        let counts = async || (kept(&store, "short").await, kept(&store, "long").await);
        assert_eq!(purge((&store, &custodian()), 0, days).await, Ok(0));
        assert_eq!(purge((&store, &custodian()), 3 * DAY_MS, days).await, Ok(6));
        assert_eq!(counts().await, (6, 12), "what is as old as its days stays for this moment");
        assert_eq!(purge((&store, &custodian()), DAY_MS, days).await, Ok(0), "the clock went back");
        assert_eq!(purge((&store, &custodian()), 3 * DAY_MS + 1, days).await, Ok(3 + 3));
        assert_eq!(counts().await, (3, 9));
    }

    #[tokio::test]
    async fn more_than_a_batch_goes_in_batches_and_the_audit_has_each() {
        let store = Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap();
        record(&store, [("acme", 0); 1_200]).await;
        assert_eq!(purge((&store, &custodian()), 2 * DAY_MS, |_| 1).await, Ok(1_200));
        let page = Page { limit: 9, before: None };
        let acts = crate::store::Audit::entries(&store, None, page).await.unwrap();
        let told = acts.into_iter().filter_map(|act| act.value.after);
        let counts: Vec<u64> = told
            .map(|after| serde_json::from_str::<BTreeMap<String, u64>>(&after).unwrap()["records"])
            .collect();
        assert_eq!(counts, [200, 500, 500]);
    }
}
