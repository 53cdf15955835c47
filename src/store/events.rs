//! Events: kept with the change that they tell of, numbered, published, delivered to groups.
//!
//! An event becomes durable in the transaction of its change; then it is numbered. Only numbered
//! events are read: numbers appear in order and without gaps, so a reader that keeps the last one
//! misses none.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Answer, Numbered};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventType};
use crate::domain::id::TenantId;

mod fair;
mod sqlite;

pub(super) use fair::{ENROLLED_MAX, chosen};
pub(super) use sqlite::{insert_event, numbered};

/// Rows at once.
const LIMIT_MAX: u32 = 1000;

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// One tenant's.
    Tenant(TenantId),
    /// Those that concern no single tenant.
    Service,
    /// All of them.
    All,
    /// Ends of jobs that have a callback, of every tenant: [`super::Jobs::job`] has it, sealed.
    Callbacks,
}

impl Stream {
    /// In columns; no tenant is called what stands for the others.
    pub(super) fn column(&self) -> &str {
        match self {
            Stream::Tenant(tenant) => tenant.as_str(),
            Stream::Service => "",
            Stream::All => "*",
            Stream::Callbacks => "*callbacks",
        }
    }

    /// Whose numbers its places are.
    pub(super) fn counter(&self) -> &str {
        match self {
            Stream::Tenant(_) | Stream::Service => self.column(),
            Stream::All | Stream::Callbacks => "*",
        }
    }

    /// The column of its places.
    pub(super) fn place(&self) -> &'static str {
        match self {
            Stream::Tenant(_) | Stream::Service => "own_sequence",
            Stream::All | Stream::Callbacks => "sequence",
        }
    }

    /// Which events are in it, where parameter `n` is [`Stream::column`].
    pub(super) fn holds(&self, n: &str) -> String {
        match self {
            Stream::Tenant(_) | Stream::Service => format!("tenant = {n}"),
            Stream::All => format!("{n} = '*'"),
            Stream::Callbacks => format!("{n} = '*callbacks' AND tells = TRUE"),
        }
    }
}

/// An event with its places.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Place among all events, from 1 without gaps. Not for tenants: it tells of others.
    pub global: i64,
    /// Place among its tenant's, or the service's, from 1 without gaps.
    pub sequence: i64,
    /// What happened.
    pub event: Event,
}

/// Events.
pub trait Events: Send + Sync {
    /// Keeps events that come with no change of a job; those whose id is known change nothing. How
    /// many were new.
    fn append_events(&self, events: Vec<Event>) -> Answer<'_, u64>;
    /// Numbers up to `most` (at most 1000) that have no number yet, in the order in which they were
    /// kept; how many. Any instance may; while one does, the others are told 0.
    fn number_events(&self, most: u32) -> Answer<'_, u64>;
    /// Numbered events of `stream` after a place, in order; at most `limit`, capped at 1000. The place
    /// is [`Told::sequence`] of a tenant or the service, [`Told::global`] otherwise.
    fn events(&self, stream: Stream, after: i64, limit: u32) -> Answer<'_, Vec<Told>>;
    /// The newest numbered events of one type, newest first; at most `limit`, capped at 1000.
    fn latest_events(
        &self,
        stream: Stream,
        event_type: EventType,
        limit: u32,
    ) -> Answer<'_, Vec<Told>>;
    /// The last place of `stream` that was given; 0 where there is none.
    fn last_event(&self, stream: Stream) -> Answer<'_, i64>;
    /// Numbered events that were not published, in order; at most `limit`, capped at 1000.
    fn unpublished(&self, limit: u32) -> Answer<'_, Vec<Told>>;
    /// They were, whatever their order.
    fn mark_published(&self, global: Vec<i64>) -> Answer<'_, ()>;
    /// Forgets up to `most` that were published and are older than `kept` by the store's clock, with
    /// their deliveries; how many.
    fn purge_events(&self, kept: Duration, most: u32) -> Answer<'_, u64>;
}

/// A consumer group: whoever asks in its name shares the events of its stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Of which events.
    pub stream: Stream,
    /// Its name, unique within the stream.
    pub name: String,
}

/// How a group begins that is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Its first event is the one after this place, as in [`Events::events`].
    pub after: i64,
    /// How many groups its stream may have.
    pub groups_max: u32,
}

/// How events are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivering {
    /// At most so many at once, capped at 1000.
    pub most: u32,
    /// How long an acknowledgement is waited for before the event is delivered again.
    pub ack_wait: Duration,
    /// How often it is delivered before it is dead.
    pub deliveries_max: u32,
}

impl Default for Delivering {
    fn default() -> Self {
        Delivering { most: 100, ack_wait: Duration::from_secs(30), deliveries_max: 3 }
    }
}

/// How tenants share what is delivered at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shares {
    /// Events of one tenant that may be out at once.
    pub each: u32,
    /// How many of whom are out now.
    pub out: BTreeMap<TenantId, u32>,
}

/// An event handed to a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The event; its id is the same at each delivery.
    pub told: Told,
    /// Which delivery, from 1.
    pub count: u32,
    /// When it was delivered or refused last, or became dead; by the store's clock, milliseconds
    /// since 1970.
    pub at_ms: i64,
    /// Why the last delivery was refused.
    pub error: Option<String>,
}

/// Consumer groups. A group is made by its first delivery. Acknowledgements name events by id; those that
/// are neither out for delivery nor dead are passed over.
pub trait Groups: Send + Sync {
    /// Events whose acknowledgement is overdue, then new ones, in order. What was delivered as often
    /// as it may and is overdue becomes dead instead. `None` where the group is not there and its
    /// stream has as many as it may. A group counts until all that it was given is kept no longer: it
    /// would go on where a new one begins, and is forgotten.
    fn deliver(
        &self,
        group: Group,
        begin: Begin,
        how: Delivering,
    ) -> Answer<'_, Option<Vec<Delivery>>>;
    /// The same without a bound for a stream of many tenants, of which none keeps the others waiting: of each at most
    /// its share, those never delivered before others, and each tenant's first before anybody's next.
    fn deliver_fairly(
        &self,
        group: Group,
        how: Delivering,
        shares: Shares,
    ) -> Answer<'_, Vec<Delivery>>;
    /// They were handled, or nobody wants them any more where they are dead; how many were known.
    fn acknowledge(&self, group: Group, ids: Vec<Digest>) -> Answer<'_, u64>;
    /// It was not handled, and `why`, without content: deliver it again after `then.0`; where it was
    /// delivered `then.1` times, it is dead. `false` where it was not out.
    fn refuse(
        &self,
        group: Group,
        id: Digest,
        then: (Duration, u32),
        why: Option<String>,
    ) -> Answer<'_, bool>;
    /// What is dead, in order, after a place as [`Told::global`]; at most `limit`, capped at 1000. The
    /// number is that place.
    fn dead_deliveries(
        &self,
        group: Group,
        after: i64,
        limit: u32,
    ) -> Answer<'_, Vec<Numbered<Delivery>>>;
    /// How many are dead.
    fn count_dead(&self, group: Group) -> Answer<'_, u64>;
    /// Takes a dead delivery away: for good, or to be delivered anew. `false` where it
    /// is not dead.
    fn end_dead(&self, group: Group, id: Digest, then: Then) -> Answer<'_, bool>;
}

/// What becomes of a dead delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is delivered anew, as if never before.
    Requeue,
    /// It is forgotten.
    Discard,
}
