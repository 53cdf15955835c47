//! The log under tokio's paused clock: what somebody was told is on record, whatever the store does.

#![expect(clippy::disallowed_methods, reason = "what a test spawns ends with its runtime")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::merkle::{leaf_hash, verify_inclusion};
use super::spool::Spool;
use super::*;
use crate::domain::action::Action;
use crate::domain::id::{BundleName, RequestId, TenantId};
use crate::domain::log::LogId;
use crate::metrics::Metrics;
use crate::seal::{Key, Signer, is_signed};
use crate::store::{Decision, Decisions as _, Ledger, Place, Sqlite, SqliteOptions};

mod faults;
mod media;
mod merkle;
mod record;
mod stores;

use media::Memory;
use stores::{Fault, Faulty};

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn decision(id: impl std::fmt::Display) -> Decision {
    Decision {
        id: id.to_string(),
        tenant: tenant(),
        request_id: RequestId::parse("r-1").unwrap(),
        at_ms: 1,
        policy: BundleName::parse("standard").unwrap(),
        revision: "abc".into(),
        action: Action::Redact,
        complete: true,
        record: format!(r#"{{"id":"{id}"}}"#),
        leaf: None,
    }
}

fn memory() -> Arc<Sqlite> {
    Arc::new(Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap())
}

fn signer() -> Signer {
    Signer::of(&Key::from_bytes([7; 32])).unwrap()
}

fn options(store: Arc<dyn Ledger>, medium: &Memory) -> LogOptions {
    LogOptions {
        store,
        signer: signer(),
        known_keys: Vec::new(),
        spool: Some(Spool::open(Box::new(medium.clone()), 1 << 20).unwrap()),
        rows_max: 8192,
        bytes_max: 1 << 26,
        held_bytes_max: 1 << 20,
        metrics: Arc::new(Metrics::new(&[], "test").unwrap()),
    }
}

/// A log on `store` with its sequencer on the test's own clock.
fn log(store: Arc<dyn Ledger>, medium: &Memory) -> Log {
    let (log, sequencer) = Log::new(options(store, medium));
    tokio::spawn(sequencer.run());
    log
}

/// Checks a proof as anybody can who has the public key.
fn check(proof: &Proof, record: &str) {
    let Proof { leaf, checkpoint: head, path } = proof;
    assert_eq!(leaf.hash, leaf_hash(record.as_bytes()));
    assert_eq!((&leaf.log, &head.log), (&head.log, &LogId::of(&signer().public_key())));
    assert!(is_signed(&signer().public_key(), head.text().as_bytes(), &head.signature));
    assert!(verify_inclusion((leaf.hash, leaf.index), (head.root, head.size), path));
}

/// Waits until the log knows of nothing that waits.
async fn settled(log: &Log) {
    let waits = |LogStats { queued, spool_bytes, held, .. }| queued + spool_bytes + held > 0;
    while log.ready().is_err() || waits(log.stats()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn each_strict_record_is_proven_and_many_share_a_commit() {
    let store = memory();
    let log = log(store.clone(), &Memory::default());
    let rows = (0..1000).map(|n| log.append_strict(decision(n)));
    let proofs = futures_util::future::join_all(rows).await;
    for (n, proof) in proofs.iter().enumerate() {
        let proof = proof.as_ref().unwrap();
        check(proof, &decision(n).record);
        let read = store.decision(tenant(), n.to_string()).await.unwrap().unwrap();
        assert_eq!(read.leaf.as_ref(), Some(&proof.leaf));
        let later = proof::of(store.as_ref(), proof.leaf.clone()).await.unwrap();
        assert_eq!(later.as_ref(), Some(proof), "made later from tiles it is the same");
    }
    let stats = log.stats();
    assert_eq!((stats.rows, stats.lost, stats.queued), (1000, 0, 0));
    assert!(stats.batches <= 20, "{stats:?}");
    assert_eq!(log.head().unwrap().size, 1000);
}

#[tokio::test]
async fn a_log_goes_on_where_it_ended_and_each_head_extends_the_one_before() {
    let store = memory();
    let mut heads = Vec::new();
    for start in 0..7 {
        let log = log(store.clone(), &Memory::default());
        for n in 0..97 {
            log.append(decision(format!("{start}-{n}"))).unwrap();
        }
        log.close().await;
        heads.push(log.head().unwrap());
    }
    assert_eq!(heads.last().unwrap().size, 7 * 97);
    for pair in heads.windows(2) {
        let proof = proof::consistency(store.as_ref(), &pair[0], &pair[1]).await.unwrap().unwrap();
        let (old, new) = ((pair[0].root, pair[0].size), (pair[1].root, pair[1].size));
        assert!(super::merkle::verify_consistency(old, new, &proof));
        assert!(!super::merkle::verify_consistency((new.0, old.1), new, &proof));
    }
}

#[tokio::test]
async fn two_sequencers_of_one_key_make_one_log_without_gap_or_repeat() {
    let store = memory();
    let (one, other) =
        (log(store.clone(), &Memory::default()), log(store.clone(), &Memory::default()));
    let rows = (0..400).map(|n| {
        let log = if n % 2 == 0 { &one } else { &other };
        async move {
            // A head start for nobody.
            tokio::task::yield_now().await;
            log.append_strict(decision(n)).await
        }
    });
    let mut places = Vec::new();
    for (n, proof) in futures_util::future::join_all(rows).await.into_iter().enumerate() {
        let proof = proof.unwrap();
        check(&proof, &decision(n).record);
        places.push(proof.leaf.index);
    }
    places.sort_unstable();
    assert_eq!(places, (0..400).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_a_strict_request_250_ms_and_the_next_nothing() {
    let (store, faults) = Faulty::new();
    let log = log(store, &Memory::default());
    log.append_strict(decision("before")).await.unwrap();
    faults.set(Some(Fault::Hang));
    let begun = Instant::now();
    let late = log.append_strict(decision("late")).await;
    assert_eq!(late, Err(Unrecorded::Late));
    assert!(begun.elapsed() <= Duration::from_millis(251), "{:?}", begun.elapsed());
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(log.ready().is_err(), "it is known to be away");
    assert!(log.append_strict(decision("next")).await.is_err());
    assert!(begun.elapsed() <= Duration::from_millis(2), "{:?}", begun.elapsed());
    faults.set(None);
    settled(&log).await;
    log.append_strict(decision("after")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_standard_record_is_durable_within_100_ms_although_the_store_is_away() {
    for fault in [Fault::Hang, Fault::Refuse, Fault::Lose] {
        let (store, faults) = Faulty::new();
        let medium = Memory::default();
        let log = log(store.clone(), &medium);
        settled(&log).await;
        faults.set(Some(fault));
        let begun = Instant::now();
        for n in 0..50 {
            log.append(decision(n)).unwrap();
        }
        while medium.synced().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(begun.elapsed() <= Duration::from_millis(100), "{fault:?} {:?}", begun.elapsed());
        faults.set(None);
        settled(&log).await;
        assert_eq!(store.ids().len(), 50, "{fault:?}");
        assert!(medium.bytes().is_empty(), "the spool was emptied");
        assert_eq!(log.stats().lost, 0);
    }
}

/// A log whose spool takes about five records and whose memory holds as many bytes.
fn small(store: Arc<dyn Ledger>, medium: &Memory, held_bytes_max: u64) -> Log {
    let (log, sequencer) = Log::new(LogOptions {
        spool: Some(Spool::open(Box::new(medium.clone()), 1000).unwrap()),
        held_bytes_max,
        ..options(store, medium)
    });
    tokio::spawn(sequencer.run());
    log
}

fn numbers(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_the_spool_cannot_take_is_held_and_on_record_when_the_store_is_back() {
    for fault in [Fault::Refuse, Fault::Hang, Fault::Lose] {
        let (store, faults) = Faulty::new();
        let medium = Memory::default();
        let log = small(store.clone(), &medium, 1 << 20);
        settled(&log).await;
        faults.set(Some(fault));
        for n in 0..600 {
            assert!(!log.append(decision(n)).unwrap().is_held, "nobody knows it yet");
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        let held = log.stats().held;
        assert!((590..600).contains(&held), "{fault:?} {held}");
        assert!(log.append(decision(600)).unwrap().is_held, "{fault:?}");
        // What is held is tried with the store again and again, and stays.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((log.stats().held, log.stats().lost), (held + 1, 0), "{fault:?}");
        faults.set(None);
        settled(&log).await;
        assert_eq!(log.stats().lost, 0);
        assert_eq!(store.ids(), numbers(0..601), "{fault:?}: each once, in their order");
        assert!(!log.append(decision("later")).unwrap().is_held);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_goes_into_the_spool_when_the_disk_has_room_though_the_store_is_away() {
    for fault in [Fault::Refuse, Fault::Hang, Fault::Lose] {
        let (store, faults) = Faulty::new();
        let medium = Memory::default();
        let first = log(store.clone(), &medium);
        settled(&first).await;
        faults.set(Some(fault));
        medium.fill(true);
        for n in 0..600 {
            first.append(decision(n)).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!((first.stats().held, medium.synced().len()), (600, 0), "{fault:?}");
        medium.fill(false);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(first.stats().held, 0, "{fault:?}");
        // Power goes.
        let medium = Memory::of(medium.synced());
        faults.set(None);
        let second = log(store.clone(), &medium);
        settled(&second).await;
        assert_eq!(store.ids(), numbers(0..600), "{fault:?}");
        first.close().await;
        assert_eq!(store.ids(), numbers(0..600), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_not_even_memory_holds_is_counted_and_the_next_is_told_so() {
    let (store, faults) = Faulty::new();
    let medium = Memory::default();
    let log = small(store.clone(), &medium, 20 * 530);
    settled(&log).await;
    faults.set(Some(Fault::Refuse));
    for n in 0..50 {
        log.append(decision(n)).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let LogStats { held, lost, .. } = log.stats();
    assert!(held == 20 && (20..30).contains(&lost), "{held} {lost}");
    assert_eq!(log.append(decision("known")), Err(Unrecorded::Full));
    assert_eq!(log.stats().lost, lost + 1);
    faults.set(None);
    settled(&log).await;
    log.append(decision("fits again")).unwrap();
    settled(&log).await;
    assert_eq!(log.stats().rows, 50 - lost + 1);
    assert_eq!(store.ids()[..25], numbers(0..25), "the oldest are kept");
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_waits_for_room_and_counts_what_finds_none() {
    for frees in [true, false] {
        let (store, faults) = Faulty::new();
        let medium = Memory::default();
        let log = log(store.clone(), &medium);
        settled(&log).await;
        faults.set(Some(Fault::Refuse));
        medium.fill(true);
        for n in 0..20 {
            log.append(decision(n)).unwrap();
        }
        let freed = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            medium.fill(!frees);
        };
        let begun = Instant::now();
        tokio::join!(log.close(), freed);
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
        let spooled = Spool::open(Box::new(medium.clone()), 1 << 20).unwrap().len();
        let expected = if frees { (20, 0) } else { (0, 20) };
        assert_eq!((spooled as u64, log.stats().lost), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_disk_ends_every_acknowledgement() {
    let (store, faults) = Faulty::new();
    let medium = Memory::default();
    let log = log(store, &medium);
    log.append_strict(decision("before")).await.unwrap();
    faults.set(Some(Fault::Broken));
    assert!(log.append_strict(decision("failed")).await.is_err());
    log.broken().await;
    faults.set(None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(log.append_strict(decision("after")).await.is_err(), "not before a new start");
    log.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_closed_leaves_what_it_cannot_write_in_the_spool_for_the_next() {
    let (store, faults) = Faulty::new();
    let medium = Memory::default();
    let first = log(store.clone(), &medium);
    settled(&first).await;
    faults.set(Some(Fault::Refuse));
    for n in 0..20 {
        first.append(decision(n)).unwrap();
    }
    first.close().await;
    assert_eq!(first.append(decision("late")), Err(Unrecorded::Ended));
    faults.set(None);
    let second = log(store.clone(), &medium);
    settled(&second).await;
    assert_eq!(second.stats().rows, 20);
    assert_eq!(store.ids(), (0..20).map(|n| n.to_string()).collect::<Vec<_>>(), "in their order");
}

#[tokio::test]
async fn too_many_records_in_memory_are_refused() {
    let (log, sequencer) =
        Log::new(LogOptions { rows_max: 3, ..options(memory(), &Memory::default()) });
    let taken = (0..5).filter(|n| log.append(decision(n)).is_ok()).count();
    assert_eq!((taken, log.stats().lost), (3, 2));
    tokio::spawn(sequencer.run());
    settled(&log).await;
    assert!(log.append(decision("again")).is_ok());
}

#[tokio::test]
async fn a_row_that_is_known_is_given_its_own_proof_and_the_others_theirs() {
    let one = log(memory(), &Memory::default());
    one.append_strict(decision("same")).await.unwrap();
    let (a, again, b) = tokio::join!(
        one.append_strict(decision("a")),
        one.append_strict(decision("same")),
        one.append_strict(decision("b")),
    );
    assert_eq!(again.unwrap().leaf.index, 0);
    check(&a.unwrap(), &decision("a").record);
    check(&b.unwrap(), &decision("b").record);
    assert_eq!(one.head().unwrap().size, 3);
}
