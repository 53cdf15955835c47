//! From the announcer into the store.

use std::time::Duration;

use crate::bus::{Announcer, Bus, Ring};
use crate::domain::event::Event;
use crate::store::Store;

/// Events of one write.
const BATCH: usize = 256;
/// Between two tries while the store is away. Meanwhile events wait in memory.
const RETRY: Duration = Duration::from_secs(1);

/// Writes what is announced, for ever; drop it to stop. A batch is written as often as it takes:
/// those that are known are not kept twice.
pub async fn record(announcer: &Announcer, store: &dyn Store, bus: &dyn Bus) {
    let ticking = async {
        loop {
            tokio::time::sleep(RETRY).await;
            announcer.tick();
            match announcer.lost() {
                0 => {}
                lost => tracing::warn!(lost, "too many events waited for the store; some are lost"),
            }
        }
    };
    let writing = async {
        loop {
            let batch = announcer.next(BATCH).await;
            while !write(&batch, store, bus).await {
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    tokio::join!(ticking, writing);
}

/// Writes what is waiting now; whether all of it is durable.
pub async fn flush(announcer: &Announcer, store: &dyn Store, bus: &dyn Bus) -> bool {
    loop {
        let batch = announcer.take(BATCH);
        if batch.is_empty() {
            return true;
        }
        if !write(&batch, store, bus).await {
            return false;
        }
    }
}

async fn write(batch: &[Event], store: &dyn Store, bus: &dyn Bus) -> bool {
    match store.append_events(batch.to_vec()).await {
        Ok(_) => {
            bus.ring(Ring::Events);
            true
        }
        Err(error) => {
            tracing::debug!(%error, "events wait for the store");
            false
        }
    }
}
