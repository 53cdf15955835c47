//! What carries events out of the store to others, and lets instances wake each other.
//!
//! The store's outbox is the truth: whatever is lost here is there, and whoever is not woken looks by
//! itself a moment later.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

mod announcer;
#[cfg(test)]
mod contract;
mod local;
mod nats;
#[cfg(test)]
#[path = "../../tests/nats/mod.rs"]
mod nats_server;

pub use announcer::{Announcer, Severity};
pub use local::Local;
pub use nats::{Nats, NatsError, NatsOptions, STREAM};

/// What one instance lets all others know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ring {
    /// A job waits.
    Jobs,
    /// There are new events in the store.
    Events,
    /// Something stored is to be served.
    Stored,
}

impl Ring {
    const ALL: [Ring; 3] = [Ring::Jobs, Ring::Events, Ring::Stored];

    fn name(self) -> &'static str {
        match self {
            Ring::Jobs => "jobs",
            Ring::Events => "events",
            Ring::Stored => "stored",
        }
    }
}

/// One event as others get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same for the same event: what was handed over before is not kept twice.
    pub id: String,
    /// Where to.
    pub subject: String,
    /// JSON.
    pub body: Bytes,
}

/// What became of messages that were handed over in their order.
#[derive(Debug)]
pub struct Published {
    /// So many of the first ones are durable there.
    pub taken: usize,
    /// Why not all of them.
    pub error: Option<BusError>,
}

/// Whether what was handed over before is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is.
    Kept,
    /// There was nothing: what was handed over before is gone.
    Nothing,
}

/// Why the bus did not take something.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// It is away, or was never reached.
    #[error("it is not connected")]
    Away,
    /// It answered too late, or with a refusal.
    #[error("{doing}: {reason}")]
    Failed {
        /// What was attempted.
        doing: &'static str,
        /// What it said.
        reason: String,
    },
}

/// Carries events to others. No method waits longer than a few seconds, and no request waits for any.
pub trait Bus: Send + Sync {
    /// Makes sure that there is a place for events.
    fn prepare(&self) -> BoxFuture<'_, Result<Found, BusError>>;
    /// Hands the messages over; who does so again after a failure makes no duplicates.
    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Published>;
    /// Wakes whoever listens, here at once and at other instances if the bus is there.
    fn ring(&self, ring: Ring);
    /// Changes with every ring from now on. Several rings may come as one.
    fn listen(&self, ring: Ring) -> watch::Receiver<u64>;
    /// Whether the way to other instances is open; nothing where there is none.
    fn is_open(&self) -> Option<bool>;
    /// Keeps the way to other instances, for as long as the service runs.
    fn keep(&self) -> BoxFuture<'_, ()>;
}

/// The bells of one process.
#[derive(Debug)]
struct Bells([watch::Sender<u64>; Ring::ALL.len()]);

impl Default for Bells {
    fn default() -> Self {
        Self(std::array::from_fn(|_| watch::Sender::new(0)))
    }
}

impl Bells {
    fn of(&self, ring: Ring) -> &watch::Sender<u64> {
        let [jobs, events, stored] = &self.0;
        match ring {
            Ring::Jobs => jobs,
            Ring::Events => events,
            Ring::Stored => stored,
        }
    }

    fn ring(&self, ring: Ring) {
        self.of(ring).send_modify(|count| *count = count.wrapping_add(1));
    }

    fn listen(&self, ring: Ring) -> watch::Receiver<u64> {
        self.of(ring).subscribe()
    }
}
