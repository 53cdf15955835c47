//! Custody: entries of this instance, signed by the key of its log, and the check of a chain.
//!
//! What was changed, removed or put in between is found. That the end was cut off is not, unless
//! somebody kept a later entry, such as in a package.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::custody::{CustodyAct, CustodyEntry, CustodySignature, Evidence};
use crate::domain::digest::Digest;
use crate::domain::log::LogId;
use crate::seal::{Signer, is_signed};
use crate::store::{Custody, Decision, StoreError};

mod raw;

pub(super) use raw::{Purge, problems, purges};

/// Entries of one look at the store.
const ENTRIES_MAX: u32 = 200;

/// Public keys of logs.
pub type Keys = BTreeMap<LogId, [u8; 32]>;

/// Adds entries in the name of this instance.
#[derive(Clone)]
pub struct Custodian {
    log: LogId,
    /// The logs of this service, its present one among them.
    own: Arc<BTreeSet<LogId>>,
    signer: Arc<Signer>,
}

impl Custodian {
    /// One that signs as the log of `signer`.
    pub fn new(signer: Signer) -> Custodian {
        let log = LogId::of(&signer.public_key());
        let own = Arc::new(BTreeSet::from([log.clone()]));
        Custodian { log, own, signer: Arc::new(signer) }
    }

    /// The same, for which the logs of these public keys are this service's own too.
    pub fn believing<'a>(self, keys: impl IntoIterator<Item = &'a [u8; 32]>) -> Custodian {
        let mut own = BTreeSet::clone(&self.own);
        own.extend(keys.into_iter().map(LogId::of));
        Custodian { own: Arc::new(own), ..self }
    }

    /// Whether `log` is one of this service: whoever may write the store can put others in it.
    pub fn believes(&self, log: &LogId) -> bool {
        self.own.contains(log)
    }

    /// Adds `act` to the chain of `decision`; the entry once it is durable.
    ///
    /// # Errors
    /// Where the store does not take it: then the act must not be done.
    pub async fn add(
        &self,
        store: &(impl Custody + ?Sized),
        decision: &Decision,
        act: CustodyAct,
    ) -> Result<CustodyEntry, StoreError> {
        let (custodian, of) = (self.clone(), decision.clone());
        let next = move |last: Option<(u32, Digest)>| custodian.entry(&of, last, act);
        store.append_custody(subject(decision), Box::new(next)).await
    }

    /// The entry for `act` behind the one of that number and hash; the second where there is none.
    pub(super) fn entry(
        &self,
        decision: &Decision,
        last: Option<(u32, Digest)>,
        act: CustodyAct,
    ) -> CustodyEntry {
        let last = last.unwrap_or_else(|| {
            let first = created(decision);
            (first.seq, first.hash)
        });
        let mut entry = CustodyEntry::after(last, &subject(decision), act);
        // The store refuses an entry without a signature.
        let bytes = self.signer.sign(entry.signed().as_bytes()).ok();
        entry.signature = bytes.map(|bytes| CustodySignature { log: self.log.clone(), bytes });
        entry
    }
}

/// What custody is of.
pub fn subject(decision: &Decision) -> Evidence {
    Evidence { tenant: decision.tenant.clone(), id: decision.id.clone() }
}

/// The first entry of a decision's chain.
pub fn created(decision: &Decision) -> CustodyEntry {
    CustodyEntry::created(&subject(decision), decision.at_ms, decision.leaf.as_ref())
}

/// The entries of a decision's chain from the second on.
///
/// # Errors
/// Where the store does not answer, or an entry is damaged.
pub async fn entries(
    store: &(impl Custody + ?Sized),
    decision: &Decision,
) -> Result<Vec<CustodyEntry>, StoreError> {
    let mut all: Vec<CustodyEntry> = Vec::new();
    loop {
        let last = all.last().map_or(1, |entry| entry.seq);
        let page = store.custody(subject(decision), last, ENTRIES_MAX).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// An entry at which a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// Which.
    pub seq: u32,
    /// What is wrong.
    pub why: &'static str,
}

/// The first entry of the chain of `decision` that is not as it was written; `None` where all are.
///
/// # Errors
/// Where the store does not answer.
pub async fn check(
    store: &(impl Custody + ?Sized),
    decision: &Decision,
    keys: &Keys,
) -> Result<Option<BadEntry>, StoreError> {
    let (of, mut last) = (subject(decision), created(decision));
    let mut at_once = ENTRIES_MAX;
    loop {
        let page = match store.custody(of.clone(), last.seq, at_once).await {
            Ok(page) if page.is_empty() => return Ok(None),
            Ok(page) => page,
            // One of them; which, is found one by one.
            Err(StoreError::Damaged { .. }) if at_once > 1 => {
                at_once = 1;
                continue;
            }
            Err(StoreError::Damaged { .. }) => {
                let why = "it holds what no entry holds: it was changed";
                return Ok(Some(BadEntry { seq: last.seq.saturating_add(1), why }));
            }
            Err(error) => return Err(error),
        };
        for entry in page {
            if let Some(bad) = bad(&of, &last, &entry, keys) {
                return Ok(Some(bad));
            }
            last = entry;
        }
        // Signatures take their time; others have work to do.
        tokio::task::yield_now().await;
    }
}

/// What is wrong with `entry` behind `last`.
pub fn bad(
    of: &Evidence,
    last: &CustodyEntry,
    entry: &CustodyEntry,
    keys: &Keys,
) -> Option<BadEntry> {
    let signed = |by: &CustodySignature| {
        let key = keys.get(&by.log);
        key.is_some_and(|key| is_signed(key, entry.signed().as_bytes(), &by.bytes))
    };
    let why = if entry.seq != last.seq.saturating_add(1) {
        "the entry before it is missing"
    } else if !entry.fits(of) {
        "its hash is not that of its fields: it was changed"
    } else if entry.previous != last.hash {
        "it does not follow the entry before it"
    } else if !entry.signature.as_ref().is_some_and(signed) {
        "no log of this deployment signed it"
    } else {
        return None;
    };
    Some(BadEntry { seq: entry.seq, why })
}
