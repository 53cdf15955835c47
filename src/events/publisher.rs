//! From the store to the bus: numbers what became durable, hands it over, and says that it was.
//!
//! Every instance does so. Whoever numbered events hands them over at once; what stays, because an
//! instance died or the bus was away, anybody takes up a few seconds later. So an event may be handed
//! over twice, under one id, and is never lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::Handlers;
use crate::bus::{Bus, Found, Message, Ring};
use crate::domain::digest::Digest;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError, Stream, Told};

/// Events of one step.
const BATCH: u32 = 256;
/// Between two looks that nobody asked for.
const POLL: Duration = Duration::from_secs(1);
/// Between two looks for what another instance left behind.
const SWEEP: Duration = Duration::from_secs(5);
/// Between two looks whether the bus still has what it was given.
const PREPARE: Duration = Duration::from_secs(10);
/// Between two looks for what is kept no longer.
const PURGE: Duration = Duration::from_secs(60);
/// How long an event is kept after it was handed over.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// One instance's part in the handing over.
pub struct Publisher {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    metrics: Arc<Metrics>,
    handlers: Handlers,
    /// Handed to handlers and not marked yet.
    heard: HashSet<Digest>,
    prepared: Option<Instant>,
    swept: Option<Instant>,
    purged: Instant,
    /// Everything from here on is to be handed over anew, since the bus lost it.
    again: Option<i64>,
    is_down: bool,
}

impl Publisher {
    /// Hands nothing over yet.
    pub fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        handlers: Handlers,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            bus,
            metrics,
            handlers,
            heard: HashSet::new(),
            prepared: None,
            swept: None,
            purged: Instant::now(),
            again: None,
            is_down: false,
        }
    }

    /// Goes on for ever; drop it to stop.
    pub async fn run(mut self) {
        let mut rings = self.bus.listen(Ring::Events);
        loop {
            if let Err(error) = self.step().await {
                tracing::debug!(%error, "events wait for the store");
                tokio::time::sleep(POLL).await;
            }
            let _ = tokio::time::timeout(POLL, rings.changed()).await;
        }
    }

    /// Does all there is to do now.
    ///
    /// # Errors
    /// The store's; whatever was not done is done by the next step.
    pub async fn step(&mut self) -> Result<(), StoreError> {
        let mut numbered = 0;
        loop {
            let some = self.store.number_events(BATCH).await?;
            numbered += some;
            if some < u64::from(BATCH) {
                break;
            }
        }
        if numbered > 0 {
            // Whoever shows events looks now.
            self.bus.ring(Ring::Events);
        }
        let now = Instant::now();
        let is_due = |last: Option<Instant>, every| last.is_none_or(|last| now - last >= every);
        if numbered > 0 || is_due(self.swept, SWEEP) {
            self.hand_over().await?;
            self.swept = Some(now);
        }
        if now - self.purged >= PURGE {
            self.purged = now;
            while self.store.purge_events(KEPT, BATCH).await? >= u64::from(BATCH) {}
        }
        Ok(())
    }

    async fn hand_over(&mut self) -> Result<(), StoreError> {
        let is_ready = self.prepare().await;
        if let Some(mut after) = self.again.filter(|_| is_ready) {
            loop {
                let told = self.store.events(Stream::All, after, BATCH).await?;
                let Some(last) = told.last() else { break };
                let last = last.global;
                if !self.give(&told).await? {
                    self.again = Some(after);
                    return Ok(());
                }
                after = last;
            }
            self.again = None;
        }
        loop {
            let told = self.store.unpublished(BATCH).await?;
            let count = told.len();
            self.let_hear(&told);
            if !is_ready || count == 0 || !self.give(&told).await? || count < BATCH as usize {
                return Ok(());
            }
        }
    }

    /// Whether the bus takes events.
    async fn prepare(&mut self) -> bool {
        if self.prepared.is_some_and(|last| last.elapsed() < PREPARE) {
            return true;
        }
        match self.bus.prepare().await {
            Ok(found) => {
                if found == Found::Nothing {
                    self.again = Some(0);
                }
                self.prepared = Some(Instant::now());
                self.is_down = false;
                true
            }
            Err(error) => {
                self.rest(&error.to_string());
                false
            }
        }
    }

    /// Handlers hear an event once, however often it takes to hand it over.
    fn let_hear(&mut self, told: &[Told]) {
        let there: HashSet<Digest> = told.iter().map(|told| told.event.id).collect();
        self.heard.retain(|id| there.contains(id));
        for told in told {
            if self.heard.insert(told.event.id) {
                self.handlers.hear(told);
            }
        }
    }

    /// Hands over in order, and marks what was taken; whether it was all.
    async fn give(&mut self, told: &[Told]) -> Result<bool, StoreError> {
        let messages: Vec<Message> = told.iter().map(message).collect();
        let published = self.bus.publish(&messages).await;
        let taken = told.get(..published.taken).unwrap_or(told);
        if !taken.is_empty() {
            self.store.mark_published(taken.iter().map(|told| told.global).collect()).await?;
            for told in taken {
                self.metrics.event_published(told.event.event_type);
            }
        }
        match published.error {
            None => Ok(true),
            Some(error) => {
                self.rest(&error.to_string());
                Ok(false)
            }
        }
    }

    fn rest(&mut self, why: &str) {
        self.prepared = None;
        if !self.is_down {
            tracing::warn!(why, "the bus takes no events; they wait in the store");
        }
        self.is_down = true;
    }
}

/// The event as the bus carries it.
pub fn message(told: &Told) -> Message {
    let event = &told.event;
    let at = jiff::Timestamp::from_millisecond(event.at_ms).unwrap_or_default();
    let body = json!({
        "id": event.id.hex(),
        "sequence": told.sequence,
        "event_type": event.event_type.name(),
        "subject": event.subject(),
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        "tenant": event.tenant.as_ref().map(|tenant| tenant.as_str()),
        "source": event.source,
        "data": event.data,
    });
    Message { id: event.id.hex(), subject: event.subject(), body: Bytes::from(body.to_string()) }
}
