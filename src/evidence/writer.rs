//! One batch on its way into the log: hashed, signed, committed, numbered anew where somebody else
//! appended meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::log::Proof;
use super::merkle::{Frontier, Grown, verify_inclusion};
use super::proof;
use super::stray::{self, DOING};
use crate::domain::digest::Digest;
use crate::domain::log::{Checkpoint, Leaf, LogId};
use crate::seal::{Signer, is_signed};
use crate::store::{Decision, LeafRow, Ledger, LogBatch, LogKey, StoreError, Trace};

/// How often a batch is numbered anew before the store counts as busy.
const TRIES_MAX: usize = 16;

/// Rows of a batch, each with its leaf's hash.
pub(super) type Rows = Arc<Vec<(Decision, Digest)>>;

/// What became of one row.
#[derive(Debug)]
pub(super) enum Written {
    /// It is in, now or since before; its proof, where it was wanted.
    In(Option<Proof>),
    /// It never will be.
    Refused(String),
}

/// What became of a batch.
pub(super) struct Landed {
    /// One for each row, or why it is not known what became of any.
    pub(super) rows: Result<Vec<Written>, StoreError>,
    /// What the next batch builds on; `None` must be read again.
    pub(super) tree: Option<Frontier>,
    /// The last head that was committed.
    pub(super) head: Option<Checkpoint>,
}

/// Which of a batch's rows want a proof, and which may be recorded already.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted {
    /// So many from the start want one.
    pub(super) proofs: usize,
    /// Some were sent before, or wait in the spool although they were recorded.
    pub(super) doubtful: bool,
}

/// The way into one log.
pub(super) struct Writer {
    store: Arc<dyn Ledger>,
    signer: Signer,
    log: LogId,
    /// Of logs that were this deployment's before.
    known_keys: Vec<[u8; 32]>,
    opened: AtomicBool,
    /// Leaves of the largest head that this process signed and committed.
    signed: AtomicU64,
    /// When it was last looked, something lay where the next leaf belongs.
    blocked: AtomicBool,
}

impl Writer {
    pub(super) fn new(store: Arc<dyn Ledger>, signer: Signer, known_keys: Vec<[u8; 32]>) -> Writer {
        let log = LogId::of(&signer.public_key());
        Writer {
            store,
            signer,
            log,
            known_keys,
            opened: AtomicBool::new(false),
            signed: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
        }
    }

    /// Appends `rows` to `tree`, which is read where it is not known. Without rows it only looks
    /// whether the log can be read.
    pub(super) async fn commit(
        &self,
        tree: Option<Frontier>,
        rows: Rows,
        wanted: Wanted,
    ) -> Landed {
        let mut landed = Landed { rows: Ok(Vec::new()), tree, head: None };
        landed.rows = self.append(&mut landed.tree, &mut landed.head, &rows, wanted).await;
        if landed.rows.is_err() {
            landed.tree = None;
        }
        landed
    }

    async fn append(
        &self,
        tree: &mut Option<Frontier>,
        head: &mut Option<Checkpoint>,
        rows: &Rows,
        Wanted { proofs, mut doubtful }: Wanted,
    ) -> Result<Vec<Written>, StoreError> {
        let mut taken = None;
        for _ in 0..TRIES_MAX {
            let base = match tree.take() {
                Some(tree) => tree,
                None => self.load().await?,
            };
            // Nobody appended meanwhile, or it is only looked whether that is over.
            let is_blocked = rows.is_empty() && self.blocked.load(Relaxed);
            if taken == Some(base.size()) || is_blocked {
                if rows.len() > 1 {
                    *tree = Some(base);
                    return self.one_by_one(tree, head, rows, proofs).await;
                }
                self.blocked.store(true, Relaxed);
                self.look_beyond(&base).await?;
                self.blocked.store(false, Relaxed);
            }
            let known =
                if doubtful { self.known(rows, &base).await? } else { Some(<_>::default()) };
            // The log grew meanwhile.
            let Some(known) = known else { continue };
            let fresh = fresh(rows, &known);
            if fresh.is_empty() {
                *tree = Some(base);
                return self.all_known(rows, proofs).await;
            }
            match self.send(&base, Arc::clone(&fresh)).await {
                Ok((grown, signed)) => {
                    *tree = Some(grown.frontier());
                    *head = Some(signed.clone());
                    let new = Batch { grown, head: signed, first: base.size() };
                    return self.told(&new, rows, &known, proofs).await;
                }
                Err(StoreError::Conflict { .. }) => {
                    doubtful = true;
                    taken = Some(base.size());
                }
                Err(StoreError::Refused { .. }) if rows.len() > 1 => {
                    return self.one_by_one(tree, head, rows, proofs).await;
                }
                Err(StoreError::Refused { reason, .. }) => {
                    // Recorded by somebody else just now, or at fault itself.
                    match self.known(rows, &base).await? {
                        None => doubtful = true,
                        Some(known) if known.is_empty() => {
                            return Ok(vec![Written::Refused(reason)]);
                        }
                        Some(_) => return self.all_known(rows, proofs).await,
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Busy { doing: DOING })
    }

    /// A batch that holds a row at fault, or whose places are taken: each goes alone.
    async fn one_by_one(
        &self,
        tree: &mut Option<Frontier>,
        head: &mut Option<Checkpoint>,
        rows: &Rows,
        proofs: usize,
    ) -> Result<Vec<Written>, StoreError> {
        let mut all = Vec::with_capacity(rows.len());
        for (place, row) in rows.iter().enumerate() {
            let one = Arc::new(vec![row.clone()]);
            let wanted = Wanted { proofs: usize::from(place < proofs), doubtful: true };
            // Boxed: it is itself one of the steps.
            all.extend(Box::pin(self.append(tree, head, &one, wanted)).await?);
        }
        Ok(all)
    }

    /// What the log grows from.
    async fn load(&self) -> Result<Frontier, StoreError> {
        if !self.opened.load(Relaxed) {
            let since_ms = jiff::Timestamp::now().as_millisecond();
            let public_key = self.signer.public_key();
            self.store.open_log(LogKey { log: self.log.clone(), public_key, since_ms }).await?;
            self.opened.store(true, Relaxed);
        }
        let Some(head) = self.store.tail(self.log.clone()).await? else {
            self.not_cut(0)?;
            return Ok(Frontier::default());
        };
        // Else whoever writes past the service would have its leaves signed with the next head.
        if !is_signed(&self.signer.public_key(), head.text().as_bytes(), &head.signature) {
            return Err(stray::unsigned(&self.log, head.size));
        }
        self.not_cut(head.size)?;
        let frontier = proof::frontier(self.store.as_ref(), &head).await?;
        frontier.ok_or_else(|| stray::no_root(&self.log, head.size))
    }

    /// Fails where the newest head, of `size` leaves, is smaller than one that this process committed.
    fn not_cut(&self, size: u64) -> Result<(), StoreError> {
        let signed = self.signed.load(Relaxed);
        if size < signed { Err(stray::cut(&self.log, size, signed)) } else { Ok(()) }
    }

    /// Fails where something lies at the places that the next leaf takes, although the head is still
    /// that of `base`.
    async fn look_beyond(&self, base: &Frontier) -> Result<(), StoreError> {
        let size = base.size();
        let nodes = base.grow([Digest::of(b"")]).nodes();
        let places = nodes.iter().map(|node| (node.level, node.index));
        for (level, place) in std::iter::once((0, size)).chain(places) {
            if self.store.hashes(self.log.clone(), level, place, 1).await?.is_empty() {
                continue;
            }
            if self.size().await? != size {
                return Ok(());
            }
            return Err(stray::beyond(&self.log, level, place, size));
        }
        Ok(())
    }

    /// Leaves under the newest head.
    async fn size(&self) -> Result<u64, StoreError> {
        Ok(self.store.tail(self.log.clone()).await?.map_or(0, |head| head.size))
    }

    /// Which of `rows` are on record; `None` where the log is not that of `base` any more.
    ///
    /// # Errors
    /// Where something bears the id of one and is not its record.
    async fn known(
        &self,
        rows: &Rows,
        base: &Frontier,
    ) -> Result<Option<HashSet<String>>, StoreError> {
        let hashes: HashMap<&str, Digest> =
            rows.iter().map(|(decision, hash)| (decision.id.as_str(), *hash)).collect();
        let ids = rows.iter().map(|(decision, _)| decision.id.clone()).collect();
        let mut known = HashSet::new();
        for trace in self.store.traces(ids).await? {
            let Some(hash) = hashes.get(trace.decision.as_str()) else { continue };
            match self.judge(&trace, *hash, base.size()).await? {
                Ok(()) => known.insert(trace.decision),
                Err(_) if self.size().await? != base.size() => return Ok(None),
                Err(stray) => return Err(stray),
            };
        }
        Ok(Some(known))
    }

    /// Whether what bears the id of a record is that record, whose leaf is `hash`, else what it is.
    async fn judge(
        &self,
        Trace { decision, leaf, has_row }: &Trace,
        hash: Digest,
        size: u64,
    ) -> Result<Result<(), StoreError>, StoreError> {
        let Some(leaf) = leaf else { return Ok(Err(stray::decision(decision))) };
        let is_under = match &leaf.log {
            Some(log) if *log == self.log => leaf.place < size,
            Some(log) => self.was_recorded(log, leaf).await?,
            None => false,
        };
        Ok(match (is_under && leaf.hash == hash, has_row) {
            (true, true) => Ok(()),
            (true, false) => Err(stray::without_row(decision, leaf)),
            (false, _) => Err(stray::leaf(decision, leaf)),
        })
    }

    /// Whether `row` is a leaf of a log that was this deployment's before, under a head that it signed.
    async fn was_recorded(&self, log: &LogId, row: &LeafRow) -> Result<bool, StoreError> {
        let Some(public_key) = self.known_keys.iter().find(|key| LogId::of(key) == *log) else {
            return Ok(false);
        };
        let key = LogKey { log: log.clone(), public_key: *public_key, since_ms: 0 };
        let leaf = Leaf { log: log.clone(), index: row.place, hash: row.hash };
        let proof = proof::signed(self.store.as_ref(), leaf, &key).await?;
        Ok(proof.is_some_and(|Proof { leaf, checkpoint, path }| {
            verify_inclusion((leaf.hash, leaf.index), (checkpoint.root, checkpoint.size), &path)
        }))
    }

    async fn send(
        &self,
        base: &Frontier,
        decisions: Rows,
    ) -> Result<(Grown, Checkpoint), StoreError> {
        let grown = base.grow(decisions.iter().map(|(_, leaf)| *leaf));
        let mut checkpoint = Checkpoint {
            log: self.log.clone(),
            size: grown.size(),
            root: grown.root(),
            at_ms: jiff::Timestamp::now().as_millisecond(),
            signature: [0; 64],
        };
        checkpoint.signature = self.signer.sign(checkpoint.text().as_bytes()).map_err(|error| {
            StoreError::Failed { doing: "signing a head of the log", reason: error.to_string() }
        })?;
        let batch = LogBatch { checkpoint: checkpoint.clone(), decisions, nodes: grown.nodes() };
        self.store.append_batch(Arc::new(batch)).await?;
        self.signed.fetch_max(checkpoint.size, Relaxed);
        Ok((grown, checkpoint))
    }

    /// What became of `rows` now that those that were not `known` are in `new`.
    async fn told(
        &self,
        new: &Batch,
        rows: &Rows,
        known: &HashSet<String>,
        proofs: usize,
    ) -> Result<Vec<Written>, StoreError> {
        let mut next = new.first;
        let mut all = Vec::with_capacity(rows.len());
        for (place, (decision, hash)) in rows.iter().enumerate() {
            let is_known = known.contains(&decision.id);
            all.push(Written::In(match (place < proofs, is_known) {
                (true, true) => self.proof_of(decision).await?,
                (true, false) => Some(new.proof(&self.log, next, *hash)),
                (false, _) => None,
            }));
            next += u64::from(!is_known);
        }
        Ok(all)
    }

    async fn all_known(&self, rows: &Rows, proofs: usize) -> Result<Vec<Written>, StoreError> {
        let mut all = Vec::with_capacity(rows.len());
        for (place, (decision, _)) in rows.iter().enumerate() {
            let wanted = place < proofs;
            let proof = if wanted { self.proof_of(decision).await? } else { None };
            all.push(Written::In(proof));
        }
        Ok(all)
    }

    async fn proof_of(&self, decision: &Decision) -> Result<Option<Proof>, StoreError> {
        let leaf = self.store.leaf(decision.tenant.clone(), decision.id.clone()).await?;
        match leaf {
            Some(leaf) => proof::of(self.store.as_ref(), leaf).await,
            None => Ok(None),
        }
    }
}

/// A batch that is in.
struct Batch {
    grown: Grown,
    head: Checkpoint,
    first: u64,
}

impl Batch {
    fn proof(&self, log: &LogId, index: u64, hash: Digest) -> Proof {
        let leaf = Leaf { log: log.clone(), index, hash };
        Proof { leaf, checkpoint: self.head.clone(), path: self.grown.path(index) }
    }
}

/// The rows that are not known; shared where that is all of them.
fn fresh(rows: &Rows, known: &HashSet<String>) -> Rows {
    if known.is_empty() {
        return Arc::clone(rows);
    }
    Arc::new(rows.iter().filter(|(decision, _)| !known.contains(&decision.id)).cloned().collect())
}
