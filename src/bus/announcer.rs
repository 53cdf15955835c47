//! Events that come with no change in the store, on their way into it. Who announces never waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventType};
use crate::domain::id::TenantId;

/// Events that may wait for the store; what comes then is lost and counted.
const WAITING_MAX: usize = 10_000;
/// Of one tenant and reason, one incident in so long; the others are counted in the next.
const INCIDENTS_EVERY: Duration = Duration::from_secs(10);
/// Tenants and reasons that are told apart; further ones wait until another has been quiet.
const REASONS_MAX: usize = 1_000;

/// How bad an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something was not judged, and the answer says so.
    Medium,
    /// Something stood in for what should have decided.
    High,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Medium => "medium",
            Severity::High => "high",
        }
    }
}

/// The queue of what is to be told.
#[derive(Debug, Default)]
pub struct Announcer {
    waiting: Mutex<Waiting>,
    some: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    lost: u64,
    incidents: HashMap<(TenantId, &'static str), Since>,
}

/// An incident that was told, and how many like it were not.
#[derive(Debug)]
struct Since {
    told: Instant,
    more: u64,
    severity: Severity,
}

impl Announcer {
    /// Tells that something happened, once for each call.
    pub fn tell(
        &self,
        event_type: EventType,
        tenant: Option<TenantId>,
        source: impl Into<String>,
        data: Value,
    ) {
        let id = Digest::of(uuid::Uuid::now_v7().as_bytes());
        self.tell_as(id, event_type, (tenant, source.into()), data);
    }

    /// The same for what others may tell too: of one `id`, one event is kept.
    pub fn tell_as(
        &self,
        id: Digest,
        event_type: EventType,
        (tenant, source): (Option<TenantId>, String),
        data: Value,
    ) {
        let at_ms = jiff::Timestamp::now().as_millisecond();
        self.waiting().push(Event { id, event_type, tenant, at_ms, source, data });
        self.some.notify_one();
    }

    /// Tells that `reason` made an answer worth less, at most every ten seconds; `request` is an
    /// example.
    pub fn incident(
        &self,
        tenant: &TenantId,
        (severity, reason): (Severity, &'static str),
        request: &str,
    ) {
        let now = Instant::now();
        let mut waiting = self.waiting();
        let full = waiting.incidents.len() >= REASONS_MAX;
        let key = (tenant.clone(), reason);
        match waiting.incidents.get_mut(&key) {
            Some(since) => {
                since.more += 1;
                since.severity = since.severity.max(severity);
                return;
            }
            None if full => return waiting.lost += 1,
            None => {}
        }
        waiting.incidents.insert(key, Since { told: now, more: 0, severity });
        waiting.push(incident(tenant, (severity, reason), json!(request), 1));
        drop(waiting);
        self.some.notify_one();
    }

    /// Up to `most` events, once there is one.
    pub async fn next(&self, most: usize) -> Vec<Event> {
        loop {
            let some = self.some.notified();
            let batch = self.waiting().take(most);
            if !batch.is_empty() {
                return batch;
            }
            some.await;
        }
    }

    /// Up to `most` events that are there.
    pub fn take(&self, most: usize) -> Vec<Event> {
        self.waiting().take(most)
    }

    /// Tells what was held back for long enough. To be called every second.
    pub fn tick(&self) {
        let now = Instant::now();
        let mut waiting = self.waiting();
        let mut due = Vec::new();
        waiting.incidents.retain(|(tenant, reason), since| {
            if now - since.told < INCIDENTS_EVERY {
                return true;
            }
            if since.more == 0 {
                return false;
            }
            due.push(incident(tenant, (since.severity, *reason), Value::Null, since.more));
            *since = Since { told: now, more: 0, severity: Severity::Medium };
            true
        });
        let some = !due.is_empty();
        due.into_iter().for_each(|event| waiting.push(event));
        drop(waiting);
        if some {
            self.some.notify_one();
        }
    }

    /// How many were lost since this was last asked.
    pub fn lost(&self) -> u64 {
        std::mem::take(&mut self.waiting().lost)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, event: Event) {
        if self.events.len() < WAITING_MAX {
            self.events.push_back(event);
        } else {
            self.lost += 1;
        }
    }

    fn take(&mut self, most: usize) -> Vec<Event> {
        let count = self.events.len().min(most);
        self.events.drain(..count).collect()
    }
}

fn incident(
    tenant: &TenantId,
    (severity, reason): (Severity, &str),
    request: Value,
    count: u64,
) -> Event {
    Event {
        id: Digest::of(uuid::Uuid::now_v7().as_bytes()),
        event_type: EventType::Incident,
        tenant: Some(tenant.clone()),
        at_ms: jiff::Timestamp::now().as_millisecond(),
        source: "orchestrator".to_owned(),
        data: json!({
            "severity": severity.name(),
            "fallback_reason": reason,
            "request_id": request,
            "count": count,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_incidents_is_one_at_once_and_one_count_every_ten_seconds() {
        let announcer = Announcer::default();
        let tell = |name: &str| {
            announcer.incident(&tenant(name), (Severity::Medium, "partial_coverage"), "r-1");
        };
        (0..1_000).for_each(|_| tell("acme"));
        tell("globex");
        announcer.incident(&tenant("acme"), (Severity::High, "policy"), "r-2");
        let first = announcer.next(100).await;
        let shown: Vec<_> =
            first.iter().map(|event| (&event.data["count"], &event.data["severity"])).collect();
        assert_eq!(
            shown,
            [
                (&json!(1), &json!("medium")),
                (&json!(1), &json!("medium")),
                (&json!(1), &json!("high"))
            ]
        );
        announcer.tick();
        assert!(announcer.take(100).is_empty(), "too early");
        tokio::time::advance(INCIDENTS_EVERY).await;
        announcer.tick();
        let summed = announcer.take(100);
        assert_eq!(summed.len(), 1, "globex was quiet");
        assert_eq!(summed[0].data["count"], 999);
        tokio::time::advance(INCIDENTS_EVERY).await;
        announcer.tick();
        assert!(announcer.take(100).is_empty());
        tell("acme");
        assert_eq!(announcer.take(100).len(), 1, "after silence the next is told at once");
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_lost_is_counted() {
        let announcer = Announcer::default();
        for _ in 0..WAITING_MAX + 7 {
            announcer.tell(EventType::RequestRouted, None, "x", Value::Null);
        }
        assert_eq!((announcer.lost(), announcer.lost()), (7, 0));
        assert_eq!(announcer.take(usize::MAX).len(), WAITING_MAX);
    }
}
