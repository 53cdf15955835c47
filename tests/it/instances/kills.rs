//! Jobs while what carries them is killed, wiped and hangs. `DURABILITY` says how often; `just jobs` says
//! a hundred times.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::sleep;

use super::{Callers, Topology};
use crate::durability::kills;

/// Callers at once.
const CALLERS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_instances_lose_no_acknowledged_job_and_end_none_twice() {
    let (topology, kills) = (Topology::new(2, &[]).await, kills(4));
    let mut served: Vec<_> = topology.start_all().into_iter().map(Some).collect();
    let callers = Callers::start(CALLERS, &topology);
    for kill in 0..kills {
        let victim = usize::try_from(kill % 2).unwrap();
        callers.ledger.more(15).await;
        // Some time after the first answers, never the same.
        sleep(Duration::from_millis(kill * 37 % 200)).await;
        // It is killed where it is dropped.
        drop(served[victim].take());
        callers.ledger.more(5).await;
        served[victim] = Some(topology.start(victim));
    }
    callers.ledger.more(15).await;
    let ledger = callers.end().await;
    let cut_off = ledger.cut_off.load(Relaxed);
    assert!(cut_off > 0, "nobody noticed");
    println!("{kills} kills of two instances: {}", ledger.settle(&topology).await);
    for one in served.into_iter().flatten() {
        let ended = tokio::task::block_in_place(|| one.stop());
        assert_eq!(ended.0, Some(0), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_database_loses_no_acknowledged_job_and_ends_none_twice() {
    let (mut topology, kills) = (Topology::new(2, &[]).await, kills(3));
    let served = topology.start_all();
    let callers = Callers::start(CALLERS, &topology);
    for kill in 0..kills {
        callers.ledger.more(15).await;
        sleep(Duration::from_millis(kill * 37 % 200)).await;
        topology.postgres.kill();
        sleep(Duration::from_millis(300)).await;
        topology.postgres.start_again();
    }
    callers.ledger.more(15).await;
    let ledger = callers.end().await;
    assert!(ledger.refused.load(Relaxed) > 0, "a job was taken in without the database");
    println!("{kills} kills of PostgreSQL: {}", ledger.settle(&topology).await);
    for one in served {
        let ended = tokio::task::block_in_place(|| one.stop());
        assert_eq!(ended.0, Some(0), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_and_a_cache_that_are_killed_wiped_or_hang_cost_no_job_and_no_answer() {
    let (mut topology, rounds) = (Topology::new(2, &[]).await, kills(2));
    let served = topology.start_all();
    let callers = Callers::start(CALLERS, &topology);
    for round in 0..rounds {
        callers.ledger.more(10).await;
        sleep(Duration::from_millis(round * 37 % 200)).await;
        topology.redis.kill();
        callers.ledger.more(5).await;
        // It keeps nothing: a start is a wipe.
        topology.redis.start_again();
        topology.nats.kill();
        callers.ledger.more(5).await;
        topology.nats.start_again();
        callers.ledger.more(5).await;
        topology.redis.signal("-STOP");
        topology.nats.signal("-STOP");
        callers.ledger.more(10).await;
        topology.redis.signal("-CONT");
        topology.nats.signal("-CONT");
        callers.ledger.more(5).await;
        topology.nats.kill();
        topology.nats.wipe();
        topology.nats.start_again();
    }
    callers.ledger.more(10).await;
    let ledger = callers.end().await;
    let told = (ledger.refused.load(Relaxed), ledger.cut_off.load(Relaxed));
    assert_eq!(told, (0, 0), "refused, and not answered");
    println!(
        "Redis and NATS {rounds} times killed, wiped and hung: {}",
        ledger.settle(&topology).await
    );
    drop(served);
}
