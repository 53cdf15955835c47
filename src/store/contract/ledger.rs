use super::*;
use crate::domain::digest::Digest;
use crate::domain::log::{Checkpoint, Leaf, LogId, Node};

pub(super) fn log_key(n: u8) -> LogKey {
    LogKey { log: LogId::of(&[n; 32]), public_key: [n; 32], since_ms: n.into() }
}

fn digest(of: impl std::fmt::Display) -> Digest {
    Digest::of(of.to_string().as_bytes())
}

/// A batch on top of `before` leaves. Stores believe every hash.
pub(super) fn batch(
    log: u8,
    before: u64,
    decisions: impl IntoIterator<Item = Decision>,
) -> Arc<LogBatch> {
    let leaf = |row: Decision| (row.clone(), digest(row.id));
    let decisions: Vec<_> = decisions.into_iter().map(leaf).collect();
    let size = before + decisions.len() as u64;
    let log = LogId::of(&[log; 32]);
    let checkpoint =
        Checkpoint { log, size, root: digest(size), at_ms: 5, signature: [size as u8; 64] };
    let level = |level: u8| {
        let hash = move |index| Node { level, index, hash: digest(index) };
        (before >> level..size >> level).map(hash)
    };
    let nodes = level(8).chain(level(16)).collect();
    Arc::new(LogBatch { checkpoint, decisions: Arc::new(decisions), nodes })
}

/// Appends to the first log of `store`, whoever else does.
pub(in crate::store) async fn record(
    store: &dyn Store,
    decisions: impl IntoIterator<Item = Decision>,
) -> Result<(), StoreError> {
    store.open_log(log_key(1)).await?;
    let before = store.tail(log_key(1).log).await?.map_or(0, |head| head.size);
    store.append_batch(batch(1, before, decisions)).await
}

/// The second row of the first log.
pub(in crate::store) fn after_one(id: &str) -> Arc<LogBatch> {
    batch(1, 1, [decision(id, "acme")])
}

pub(super) async fn holds(store: &dyn Store) {
    a_batch_is_written_whole_or_not_at_all(store).await;
    heads_nodes_and_leaves_are_found_again(store).await;
    of_racing_batches_one_wins(store).await;
}

fn rows(prefix: &str, count: usize) -> impl Iterator<Item = Decision> {
    (0..count).map(move |n| decision(&format!("{prefix}-{n}"), "log"))
}

async fn a_batch_is_written_whole_or_not_at_all(store: &dyn Store) {
    let (key, log) = (log_key(2), log_key(2).log);
    store.open_log(key.clone()).await.unwrap();
    store.open_log(LogKey { since_ms: 9, ..key.clone() }).await.unwrap();
    assert!(store.logs().await.unwrap().contains(&key), "a known log stays as it is");
    assert_eq!(store.tail(log.clone()).await, Ok(None));
    store.append_batch(batch(2, 0, rows("a", 3))).await.unwrap();
    for before in [0, 2, 4] {
        let gap = store.append_batch(batch(2, before, rows("b", 1))).await;
        assert!(matches!(gap, Err(StoreError::Conflict { .. })), "{before}: {gap:?}");
    }
    let mut repeated: Vec<_> = rows("b", 2).collect();
    repeated.extend(rows("a", 1));
    let refused = store.append_batch(batch(2, 3, repeated)).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    let unopened = store.append_batch(batch(9, 0, rows("c", 1))).await;
    assert!(unopened.is_err(), "{unopened:?}");
    let ids = ["a-0", "a-2", "b-0", "b-1", "c-0"].map(str::to_owned).to_vec();
    let found = store.traces(ids).await.unwrap();
    let mut found: Vec<&str> = found.iter().map(|trace| trace.decision.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["a-0", "a-2"]);
    assert_eq!(store.tail(log).await.unwrap().map(|head| head.size), Some(3));
    assert_eq!(store.decisions(tenant("log"), ALL).await.unwrap().len(), 3);
}

async fn heads_nodes_and_leaves_are_found_again(store: &dyn Store) {
    let log = log_key(3).log;
    store.open_log(log_key(3)).await.unwrap();
    let first = batch(3, 0, rows("h", 300));
    store.append_batch(Arc::clone(&first)).await.unwrap();
    let second = batch(3, 300, rows("i", 212));
    store.append_batch(Arc::clone(&second)).await.unwrap();
    assert_eq!(store.tail(log.clone()).await, Ok(Some(second.checkpoint.clone())));
    for (size, head) in [(1, Some(&first)), (300, Some(&first)), (301, Some(&second)), (513, None)]
    {
        let found = store.checkpoint(log.clone(), size).await.unwrap();
        assert_eq!(found.as_ref(), head.map(|head| &head.checkpoint), "{size}");
    }
    for (below, limit, wanted) in [
        (u64::MAX, 9, &[&second, &first][..]),
        (u64::MAX, 1, &[&second]),
        (512, 9, &[&first]),
        (300, 9, &[]),
    ] {
        let found = store.heads(log.clone(), below, limit).await.unwrap();
        let wanted: Vec<_> = wanted.iter().map(|batch| batch.checkpoint.clone()).collect();
        assert_eq!(found, wanted, "{below} {limit}");
    }
    let leaves = store.hashes(log.clone(), 0, 299, 2).await.unwrap();
    assert_eq!(leaves, [digest("h-299"), digest("i-0")]);
    assert_eq!(store.hashes(log.clone(), 0, 500, 256).await.unwrap().len(), 12);
    assert_eq!(store.hashes(log.clone(), 8, 0, 256).await.unwrap(), [digest(0), digest(1)]);
    let after = |id: &str, limit| store.leaves(tenant("log"), id.to_owned(), limit);
    assert_eq!(after("i-97", 9).await.unwrap(), ["i-98", "i-99"]);
    assert_eq!(after("i-97", 1).await.unwrap(), ["i-98"]);
    assert_eq!(store.leaves(tenant("other"), String::new(), 9).await.unwrap(), [""; 0]);
    let leaf = Leaf { log, index: 301, hash: digest("i-1") };
    assert_eq!(store.leaf(tenant("log"), "i-1".into()).await, Ok(Some(leaf.clone())));
    assert_eq!(store.leaf(tenant("other"), "i-1".into()).await, Ok(None));
    let read = store.decision(tenant("log"), "i-1".into()).await.unwrap().unwrap();
    assert_eq!(read.leaf.as_ref(), Some(&leaf));
    let traces = store.traces(vec!["i-1".into(), "i-9999".into()]).await.unwrap();
    assert!(traces.len() == 1 && traces[0].decision == "i-1" && traces[0].has_row, "{traces:?}");
    let row = traces[0].leaf.clone().unwrap();
    assert_eq!((row.log, row.place, row.hash), (Some(leaf.log), 301, leaf.hash));
}

async fn of_racing_batches_one_wins(store: &dyn Store) {
    store.open_log(log_key(4)).await.unwrap();
    // Of different lengths, so that their heads do not collide.
    let racing = (1..9).map(|n| store.append_batch(batch(4, 0, rows(&format!("r{n}"), n))));
    let told = futures_util::future::join_all(racing).await;
    assert_eq!(told.iter().filter(|told| told.is_ok()).count(), 1, "{told:?}");
    let lost = |told: &&Result<(), StoreError>| matches!(told, Err(StoreError::Conflict { .. }));
    assert_eq!(told.iter().filter(lost).count(), 7, "{told:?}");
}
