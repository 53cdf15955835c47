//! How many transactions of one stream's groups stand at a connection at once. They wait for each
//! other in the database, and who waits there keeps a connection from every other tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The share of the pool that one stream may take.
const SHARE: usize = 4;

/// A few lanes for each stream, which are there while somebody is in one or waits.
#[derive(Debug)]
pub(super) struct Lanes {
    each: usize,
    wait: Duration,
    streams: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Lanes {
    /// Of a pool of `connections`, each waited for as long as one of those.
    pub(super) fn of(connections: usize, wait: Duration) -> Lanes {
        Lanes { each: (connections / SHARE).max(1), wait, streams: Mutex::default() }
    }

    /// A lane of `stream`, until it is dropped; `None` where none comes free in time.
    pub(super) async fn take(&self, stream: &str) -> Option<OwnedSemaphorePermit> {
        let lane = self.lanes(stream).acquire_owned();
        tokio::time::timeout(self.wait, lane).await.ok()?.ok()
    }

    fn lanes(&self, stream: &str) -> Arc<Semaphore> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lanes) = streams.get(stream).and_then(Weak::upgrade) {
            return lanes;
        }
        streams.retain(|_, lanes| lanes.strong_count() > 0);
        let lanes = Arc::new(Semaphore::new(self.each));
        streams.insert(stream.to_owned(), Arc::downgrade(&lanes));
        lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_fills_the_lanes_of_one_stream_leaves_those_of_others_free() {
        let lanes = Lanes::of(8, Duration::from_millis(100));
        let (one, two) = (lanes.take("acme").await, lanes.take("acme").await);
        assert!(one.is_some() && two.is_some());
        assert!(lanes.take("acme").await.is_none(), "a third of two");
        assert!(lanes.take("globex").await.is_some());
        drop(one);
        assert!(lanes.take("acme").await.is_some());
        drop(two);
        drop(lanes.take("initech").await);
        assert_eq!(lanes.streams.lock().unwrap().len(), 1, "nobody is in those of the others");
    }
}
