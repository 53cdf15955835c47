//! What must survive a restart: decisions, audit, custody, versioned objects, keys, used quotas,
//! sealed credentials, claims of idempotency keys, jobs and events.
//!
//! The traits speak of domain things; SQL stays in the implementation. Reads and writes never run
//! on a server worker. Content never comes here but sealed, in jobs.

use futures_util::future::BoxFuture;

use crate::domain::action::Action;
use crate::domain::id::{BundleName, RequestId, TenantId};
use crate::domain::log::Leaf;

mod beside;
mod chain;
mod claims;
#[cfg(test)]
mod contract;
mod custody;
mod error;
mod events;
mod guarded;
mod instances;
mod jobs;
mod kept;
mod keys;
mod ledger;
#[cfg(test)]
pub(crate) mod memory;
mod migrated;
mod next;
mod open_file;
mod postgres;
mod queue;
mod raw;
mod retention;
mod rows;
mod search;
mod secrets;
mod sources;
mod sqlite;
mod strange;
#[cfg(test)]
mod tests;
mod usage;

pub use chain::{Chained, Link};
pub use claims::{Claim, Claimed, Claims, Terms};
pub use custody::{Custody, NextEntry};
pub use error::StoreError;
pub use events::{Begin, Delivering, Delivery, Events, Group, Groups, Shares, Stream, Then, Told};
pub use guarded::Guarded;
pub use instances::{InstanceSeen, InstanceTold, Instances};
pub use jobs::{
    Added, Attempt, DeadLetters, Ended, Ending, Job, JobCounts, JobUpkeep, Jobs, Move, Moved,
    NewJob, Pick, Taken, Waiting, Work, Workers,
};
pub use kept::Kept;
pub use keys::{ApiKey, KeyChange, KeyHash, Keys};
pub use ledger::{LeafRow, Ledger, LogBatch, LogKey, Trace};
pub use migrated::Migrated;
pub use open_file::make_folder;
pub use postgres::{Postgres, PostgresOptions, migrate as migrate_database};
pub use raw::{Cell, Part, RawRow, RawTables, Table};
pub use retention::{Attest, HEADS_MAX, HeadsPurged, Hold, HoldOn, OldHeads, Purge, Retention};
pub use search::{Passed, Sought, Spot, Tally};
pub use secrets::{SealedSecret, Secrets};
pub use sources::{SourceBlob, SourceKey, Sources, Unnamed};
pub use sqlite::{Place, Sqlite, SqliteOptions, migrate_file};
pub use usage::{HourUsed, Usage};

/// What a store answers, once the work is done elsewhere.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// One decision, without content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Unique, uuid v7.
    pub id: String,
    /// Whose.
    pub tenant: TenantId,
    /// The caller's id of the request; not unique.
    pub request_id: RequestId,
    /// Wall clock, milliseconds since 1970.
    pub at_ms: i64,
    /// The bundle that decided.
    pub policy: BundleName,
    /// The snapshot's revision.
    pub revision: String,
    /// What was decided.
    pub action: Action,
    /// Whether coverage sufficed.
    pub complete: bool,
    /// JSON of everything else that may be kept; never content.
    pub record: String,
    /// Where it stands in which log, once it is recorded; earlier releases kept no log.
    pub leaf: Option<Leaf>,
}

/// One act of an administrator or of the service itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// `None` where it concerns no single tenant.
    pub tenant: Option<TenantId>,
    /// Wall clock, milliseconds since 1970.
    pub at_ms: i64,
    /// Who: key prefix, subject or `system`.
    pub actor: String,
    /// What, such as `breaker.open`.
    pub action: String,
    /// On what, such as `detector/pii`.
    pub target: String,
    /// Why, in the actor's words; may be empty.
    pub reason: String,
    /// JSON before, where there is one.
    pub before: Option<String>,
    /// JSON after, where there is one.
    pub after: Option<String>,
}

/// A row with its place in the order of writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered<T> {
    /// Grows with every row; the cursor of [`Page`].
    pub sequence: i64,
    /// The row.
    pub value: T,
}

/// Which rows of a list, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// At most so many rows, capped at 1000.
    pub limit: u32,
    /// Only rows written before this one.
    pub before: Option<i64>,
}

/// What an object is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Such as `overlay` or `detector`.
    pub kind: String,
    /// `None` is the shared scope.
    pub tenant: Option<TenantId>,
    /// Unique within kind and tenant.
    pub name: String,
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is called.
    pub key: ObjectKey,
    /// From 1, without gaps.
    pub version: u64,
    /// Wall clock of the write, milliseconds since 1970.
    pub at_ms: i64,
    /// Hexadecimal SHA-256 over version and body.
    pub etag: String,
    /// JSON; `None` is a tombstone, found only in the history.
    pub body: Option<String>,
}

/// One version of an object without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// From 1, without gaps.
    pub version: u64,
    /// Wall clock of the write, milliseconds since 1970.
    pub at_ms: i64,
    /// As [`Object::etag`].
    pub etag: String,
    /// Whether it is a tombstone.
    pub deleted: bool,
}

/// What a writer believes to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there.
    Any,
    /// Nothing, or a tombstone.
    Absent,
    /// Exactly this version.
    Version(u64),
}

/// Decisions, one per orchestration; [`Ledger`] adds them.
pub trait Decisions: Send + Sync {
    /// The decision `id` of `tenant`; another tenant's is `None`.
    fn decision(&self, tenant: TenantId, id: String) -> Answer<'_, Option<Decision>>;
    /// The decisions of `tenant`, newest first.
    fn decisions(&self, tenant: TenantId, page: Page) -> Answer<'_, Vec<Numbered<Decision>>>;
    /// The next `rows` decisions of `tenant` behind `after` that still have their record and are of
    /// the time that is sought, newest first; at most 10 000.
    fn look(
        &self,
        tenant: TenantId,
        sought: Sought,
        after: Option<Spot>,
        rows: u32,
    ) -> Answer<'_, Vec<Passed>>;
    /// The newest `rows` of the same, counted; only the time of `sought` counts. At most 10 000.
    fn tally(&self, tenant: TenantId, sought: Sought, rows: u32) -> Answer<'_, Vec<Tally>>;
}

/// The append-only list of acts.
pub trait Audit: Send + Sync {
    /// Returns the entry's number once it is durable.
    fn append(&self, entry: AuditEntry) -> Answer<'_, i64>;
    /// Entries of `tenant`, or of everyone for `None`, newest first.
    fn entries(
        &self,
        tenant: Option<TenantId>,
        page: Page,
    ) -> Answer<'_, Vec<Numbered<AuditEntry>>>;
    /// Entries of `tenant`, or of everyone for `None`, after a number, oldest first, with what
    /// chains them; at most `limit`, capped at 1000.
    fn chain(
        &self,
        tenant: Option<TenantId>,
        after: i64,
        limit: u32,
    ) -> Answer<'_, Vec<Numbered<Chained>>>;
}

/// Versioned JSON objects.
pub trait Objects: Send + Sync {
    /// The current version.
    fn object(&self, key: ObjectKey) -> Answer<'_, Option<Object>>;
    /// Writes the next version once it is durable; [`StoreError::Conflict`] if `expected` is wrong.
    fn put(&self, key: ObjectKey, body: String, expected: Expected) -> Answer<'_, Object>;
    /// Writes a tombstone; [`StoreError::Conflict`] if `expected` is wrong or nothing is there.
    fn delete(&self, key: ObjectKey, expected: Expected) -> Answer<'_, ()>;
    /// Puts `body`, or deletes where there is none, and appends `entry` to the audit: both or
    /// neither. A deletion answers its tombstone.
    fn change(
        &self,
        key: ObjectKey,
        body: Option<String>,
        expected: Expected,
        entry: AuditEntry,
    ) -> Answer<'_, Object>;
    /// The current objects of `kind` of every tenant, by tenant and name.
    fn objects(&self, kind: String) -> Answer<'_, Vec<Object>>;
    /// Versions that are kept, newest first, tombstones included; `page.before` is a version. Of each
    /// object a store keeps the newest few, the current one always.
    fn versions(&self, key: ObjectKey, page: Page) -> Answer<'_, Vec<Version>>;
    /// One version; a tombstone is `None`, as is one that is no longer kept.
    fn version(&self, key: ObjectKey, version: u64) -> Answer<'_, Option<Object>>;
    /// Grows with every write of an object; equal values mean nothing changed.
    fn generation(&self) -> Answer<'_, i64>;
}

/// Everything durable.
pub trait Store:
    Ledger
    + Decisions
    + Audit
    + Custody
    + Retention
    + Objects
    + Keys
    + Usage
    + Secrets
    + Sources
    + Claims
    + Jobs
    + DeadLetters
    + Work
    + Workers
    + JobUpkeep
    + Events
    + Groups
    + Instances
{
    /// Whether a read succeeds now.
    fn probe(&self) -> Answer<'_, ()>;
    /// Writes what is queued, then refuses. Blocks for at most one batch after the queue is empty.
    fn close(&self);
}
