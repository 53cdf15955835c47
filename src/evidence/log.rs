//! The log of this process: records come in, one sequencer puts them in order, and whoever waits is
//! told once they are durable.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::held::{self, Held};
use super::merkle;
use super::sequencer::Sequencer;
use super::spool::Spool;
use super::writer::Writer;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
pub use crate::domain::log::Proof;
use crate::domain::log::{Checkpoint, LogId};
use crate::metrics::{Dependency, Metrics};
use crate::seal::Signer;
use crate::store::{Decision, Ledger};

/// How long an answer waits for its durable record.
pub const STRICT_WAIT: Duration = Duration::from_millis(250);
/// How long a log that ends still tries to write.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// What a log works with.
pub struct LogOptions {
    /// Where it is kept.
    pub store: Arc<dyn Ledger>,
    /// Signs its heads; its public key names the log.
    pub signer: Signer,
    /// Public keys of logs that were this deployment's before.
    pub known_keys: Vec<[u8; 32]>,
    /// Where records wait while the store is away; without one only memory has them then.
    pub spool: Option<Spool>,
    /// Records that may wait in memory.
    pub rows_max: u64,
    /// Bytes of them.
    pub bytes_max: u64,
    /// Bytes of records that neither the store nor the spool takes; beyond them they are lost.
    pub held_bytes_max: u64,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The log. Cheap to share.
#[derive(Clone)]
pub struct Log {
    entries: mpsc::UnboundedSender<Entry>,
    shared: Arc<Shared>,
}

/// Why a record is not known to be durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unrecorded {
    /// The store does not take it now.
    #[error("the store of records is away: {0}")]
    Away(String),
    /// It took too long; the record may yet become durable.
    #[error("no confirmation within {} ms", STRICT_WAIT.as_millis())]
    Late,
    /// Too many records wait.
    #[error("too many records wait for the store")]
    Full,
    /// The store will never take it.
    #[error("the store refuses the record: {0}")]
    Refused(String),
    /// The log has ended.
    #[error("the log of records has ended")]
    Ended,
}

impl From<Unrecorded> for Error {
    fn from(why: Unrecorded) -> Error {
        let message = "the decision could not be put on record; send the request again later";
        Error::new(Code::AuditUnavailable, message).caused_by(why)
    }
}

/// What a log did since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStats {
    /// Records that wait in memory.
    pub queued: u64,
    /// Records in the spool are so many bytes.
    pub spool_bytes: u64,
    /// Records that only memory has, since neither the store nor the spool takes them.
    pub held: u64,
    /// Records that are nowhere.
    pub lost: u64,
    /// Batches committed.
    pub batches: u64,
    /// Records committed.
    pub rows: u64,
}

/// A record that the log took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The hash of its leaf.
    pub leaf: Digest,
    /// Neither the store nor the spool takes records now: until one does, an end of the process that
    /// is not orderly loses it.
    pub is_held: bool,
}

/// A record that waits.
pub(super) struct Entry {
    pub(super) decision: Decision,
    pub(super) leaf: Digest,
    pub(super) since: Instant,
    /// Who waits.
    pub(super) tell: Option<oneshot::Sender<Result<Proof, Unrecorded>>>,
}

impl Entry {
    /// What it counts in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.decision.record.len() as u64
    }
}

/// What both sides see.
pub(super) struct Shared {
    log: LogId,
    public_key: [u8; 32],
    limits: (u64, u64),
    pub(super) held_bytes_max: u64,
    rows: AtomicU64,
    bytes: AtomicU64,
    spool_bytes: AtomicU64,
    spool_full: AtomicBool,
    held: (AtomicU64, AtomicU64),
    lost: AtomicU64,
    committed: (AtomicU64, AtomicU64),
    away: Mutex<Option<Unrecorded>>,
    /// Why, as it was logged last.
    told: Mutex<Option<Unrecorded>>,
    head: Mutex<Option<Checkpoint>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
    pub(super) broken: CancellationToken,
    pub(super) ended: CancellationToken,
}

impl Log {
    /// A log and what must run beside it.
    pub fn new(options: LogOptions) -> (Log, Sequencer) {
        let LogOptions { store, signer, known_keys, spool, metrics, .. } = options;
        let LogOptions { rows_max, bytes_max, held_bytes_max, .. } = options;
        let public_key = signer.public_key();
        let shared = Arc::new(Shared {
            log: LogId::of(&public_key),
            public_key,
            limits: (rows_max, bytes_max),
            held_bytes_max,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            spool_bytes: AtomicU64::new(0),
            spool_full: AtomicBool::new(false),
            held: <_>::default(),
            lost: AtomicU64::new(0),
            committed: <_>::default(),
            away: Mutex::default(),
            told: Mutex::default(),
            head: Mutex::default(),
            metrics,
            stop: CancellationToken::new(),
            broken: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let (entries, queue) = mpsc::unbounded_channel();
        let writer = Writer::new(store, signer, known_keys);
        let sequencer = Sequencer::new(queue, writer, spool, Arc::clone(&shared));
        (Log { entries, shared }, sequencer)
    }

    /// The same with its sequencer on a thread of its own.
    pub fn start(options: LogOptions) -> std::io::Result<Log> {
        let (log, sequencer) = Log::new(options);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("evidence-log".into());
        thread.spawn(move || runtime.block_on(sequencer.run()))?;
        Ok(log)
    }

    /// Which log.
    pub fn id(&self) -> &LogId {
        &self.shared.log
    }

    /// What checks its signatures.
    pub fn public_key(&self) -> [u8; 32] {
        self.shared.public_key
    }

    /// The last head that is durable; `None` before the first of this process.
    pub fn head(&self) -> Option<Checkpoint> {
        lock(&self.shared.head).clone()
    }

    /// Why nothing can be put on record now.
    ///
    /// # Errors
    /// While the store is away.
    pub fn ready(&self) -> Result<(), Unrecorded> {
        self.shared.away().map_or(Ok(()), Err)
    }

    /// Returns once `decision` is durable, at most after [`STRICT_WAIT`].
    ///
    /// # Errors
    /// After [`Unrecorded::Late`] it may yet become durable, after any other it does not.
    pub async fn append_strict(&self, decision: Decision) -> Result<Proof, Unrecorded> {
        self.ready()?;
        let (tell, told) = oneshot::channel();
        self.push(decision, Some(tell))?;
        match tokio::time::timeout(STRICT_WAIT, told).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Unrecorded::Ended),
            Err(_) => Err(Unrecorded::Late),
        }
    }

    /// Takes `decision` without waiting; it is durable within 100 ms, in the store or in the spool,
    /// but where neither has room.
    ///
    /// # Errors
    /// Where it is known that it is lost, which is counted.
    pub fn append(&self, decision: Decision) -> Result<Taken, Unrecorded> {
        let is_held = self.shared.spool_full.load(Relaxed) && self.ready().is_err();
        let full = is_held && !self.shared.has_room(held::bytes_of(&decision));
        let pushed = if full { Err(Unrecorded::Full) } else { self.push(decision, None) };
        let taken = pushed.map(|leaf| Taken { leaf, is_held });
        taken.inspect_err(|why| self.shared.lose(1, &why.to_string()))
    }

    fn push(
        &self,
        decision: Decision,
        tell: Option<oneshot::Sender<Result<Proof, Unrecorded>>>,
    ) -> Result<Digest, Unrecorded> {
        let leaf = merkle::leaf_hash(decision.record.as_bytes());
        let entry = Entry { decision, leaf, since: Instant::now(), tell };
        let bytes = entry.bytes();
        self.shared.hold(bytes)?;
        self.entries.send(entry).map_err(|_| {
            self.shared.release(1, bytes);
            Unrecorded::Ended
        })?;
        Ok(leaf)
    }

    /// What it did so far.
    pub fn stats(&self) -> LogStats {
        let shared = &self.shared;
        LogStats {
            queued: shared.rows.load(Relaxed),
            spool_bytes: shared.spool_bytes.load(Relaxed),
            held: shared.held.0.load(Relaxed),
            lost: shared.lost.load(Relaxed),
            batches: shared.committed.0.load(Relaxed),
            rows: shared.committed.1.load(Relaxed),
        }
    }

    /// Ends when nothing may be believed durable any more: the disk failed. The process must end.
    pub async fn broken(&self) {
        self.shared.broken.cancelled().await;
    }

    /// Whether it has ended so.
    pub fn is_broken(&self) -> bool {
        self.shared.broken.is_cancelled()
    }

    /// Takes no more records, writes what waits, or spools it, and returns.
    pub async fn close(&self) {
        self.shared.stop.cancel();
        if tokio::time::timeout(FAREWELL * 2, self.shared.ended.cancelled()).await.is_err() {
            tracing::error!("The log of records did not end in time");
        }
    }
}

impl Shared {
    fn hold(&self, bytes: u64) -> Result<(), Unrecorded> {
        if self.stop.is_cancelled() {
            return Err(Unrecorded::Ended);
        }
        let (rows_max, bytes_max) = self.limits;
        let rows = self.rows.fetch_add(1, Relaxed);
        let held = self.bytes.fetch_add(bytes, Relaxed);
        if rows < rows_max && held + bytes <= bytes_max {
            return Ok(());
        }
        self.release(1, bytes);
        Err(Unrecorded::Full)
    }

    pub(super) fn release(&self, rows: u64, bytes: u64) {
        self.rows.fetch_sub(rows, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    /// Why nothing can be put on record, while that is so.
    pub(super) fn away(&self) -> Option<Unrecorded> {
        lock(&self.away).clone()
    }

    /// Says what the store is like now; a change is logged.
    pub(super) fn set_away(&self, why: Option<Unrecorded>) {
        let before = std::mem::replace(&mut *lock(&self.away), why.clone());
        self.metrics.dependency(Dependency::Store, why.is_none());
        match (before, why) {
            // After a wait, why it was one.
            (None | Some(Unrecorded::Late), Some(why)) => {
                self.tell_away(why);
            }
            (Some(_), None) => {
                *lock(&self.told) = None;
                tracing::info!("Decisions are put on record again");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    /// Logs why nothing can be put on record, unless that was the last to be logged.
    pub(super) fn tell_away(&self, why: Unrecorded) {
        let mut told = lock(&self.told);
        if told.as_ref() != Some(&why) {
            tracing::warn!(%why, "Decisions wait for the store");
        }
        *told = Some(why);
    }

    pub(super) fn committed(&self, rows: u64, head: Checkpoint) {
        self.committed.0.fetch_add(1, Relaxed);
        self.committed.1.fetch_add(rows, Relaxed);
        *lock(&self.head) = Some(head);
    }

    /// Counts lost records and says so at 1, 2, 4, 8, … so that a flood cannot flood the log.
    pub(super) fn lose(&self, rows: u64, why: &str) {
        let before = self.lost.fetch_add(rows, Relaxed);
        let lost = before + rows;
        self.metrics.evidence_lost(rows);
        if rows > 0 && lost.ilog2() != before.checked_ilog2().unwrap_or(u32::MAX) {
            tracing::error!(lost, why, "Records of decisions were lost");
        }
    }

    pub(super) fn spool(&self, spool: Option<&Spool>, full: bool) {
        let bytes = spool.map_or(0, Spool::bytes);
        self.spool_bytes.store(bytes, Relaxed);
        self.spool_full.store(full, Relaxed);
        self.metrics.evidence_spool(bytes);
    }

    /// Whether memory holds `bytes` more, what is on its way there counted in.
    fn has_room(&self, bytes: u64) -> bool {
        self.held.1.load(Relaxed) + self.bytes.load(Relaxed) + bytes <= self.held_bytes_max
    }

    /// Says what only memory has; where that begins or ends, the log says so too.
    pub(super) fn tell_held(&self, held: &Held) {
        let (rows, bytes) = held.size();
        let before = self.held.0.swap(rows, Relaxed);
        self.held.1.store(bytes, Relaxed);
        self.metrics.evidence_held(bytes);
        match (before, rows) {
            (0, 1..) => {
                tracing::error!("Neither the store nor its spool takes records; memory does")
            }
            (1.., 0) => tracing::info!("No record is only in memory any more"),
            (0, 0) | (1.., 1..) => {}
        }
    }

    /// A line with the head, so that a shorter log is found against it.
    pub(super) fn tell_head(&self) {
        if let Some(head) = &*lock(&self.head) {
            let Checkpoint { log, size, root, at_ms, signature } = head;
            let (log, root, signature) = (log.as_str(), root.hex(), hex::encode(signature));
            tracing::info!(log, size, root, at_ms, signature, "Checkpoint");
        }
    }

    pub(super) fn tell_depth(&self) {
        self.metrics.evidence_queue(self.rows.load(Relaxed));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
