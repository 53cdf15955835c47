//! Checks what is kept of one decision against its log, its custody and, where the caller holds it,
//! its content.

use serde::Deserialize;
use serde_json::Value;

use super::commit_json;
use super::custody::{self, Custodian, Keys};
use super::purged::{self, Gone};
use super::{merkle, proof};
use crate::domain::log::{Checkpoint, Leaf, LogId};
use crate::seal::{Salt, is_signed};
use crate::store::{Decision, Store, StoreError};

/// How far clocks may be apart, and go back, in milliseconds.
const CLOCK_MS: i64 = 3_600_000;

/// What became of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// It holds.
    Holds,
    /// It does not; the faults say why.
    Fails,
    /// What it takes is not there.
    NotChecked,
}

impl Check {
    /// Of a record that is gone, only its purge proves what the row says.
    fn proven(self, gone: Option<&Gone>) -> Check {
        match gone {
            None | Some(Gone::Purged) => self,
            Some(Gone::Wrong(_) | Gone::SignedElsewhere | Gone::Emptied) => Check::NotChecked,
        }
    }
}

impl Gone {
    fn judge(&self) -> Result<(), String> {
        match self {
            Gone::Purged | Gone::SignedElsewhere => Ok(()),
            Gone::Wrong(why) => Err(why.clone()),
            Gone::Emptied => Err("the record was emptied, and no purge is on record".into()),
        }
    }
}

/// Why a check fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckFault {
    /// Its name in the API.
    pub check: &'static str,
    /// What is wrong; never content.
    pub detail: String,
}

/// Every check of one decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Integrity {
    /// The content belongs to the record's commitment.
    pub content_hash: Check,
    /// The head above the record is signed by its log, which is one of this service.
    pub signature: Check,
    /// No entry of custody was changed, removed or put in between.
    pub chain_of_custody: Check,
    /// The times of id, row, record and head agree.
    pub timestamp: Check,
    /// The record is what stands in the log.
    pub inclusion: Check,
    /// Why checks fail.
    pub faults: Vec<CheckFault>,
}

/// What the caller holds.
pub struct Opened {
    /// `content` or `messages` as they were sent.
    pub content: Value,
    /// The receipt's.
    pub salt: Salt,
}

impl Integrity {
    /// Whether no check fails.
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }

    fn judge(&mut self, check: &'static str, result: Result<Check, String>) -> Check {
        result.unwrap_or_else(|detail| {
            self.faults.push(CheckFault { check, detail });
            Check::Fails
        })
    }
}

/// Checks `decision`.
///
/// # Errors
/// Where the store does not answer.
pub async fn check(
    store: &dyn Store,
    (decision, custodian): (&Decision, &Custodian),
    opened: Option<Opened>,
) -> Result<Integrity, StoreError> {
    let keys: Keys = store.logs().await?.into_iter().map(|key| (key.log, key.public_key)).collect();
    let is_own = |log: &LogId| custodian.believes(log);
    let own: Keys = keys.clone().into_iter().filter(|(log, _)| is_own(log)).collect();
    let bad = custody::check(store, decision, &own).await?;
    let head = head(store, decision.leaf.as_ref()).await?;
    let path = match (&decision.leaf, &head) {
        (Some(leaf), Some(head)) => proof::inclusion(store, leaf.index, head).await?,
        (None, _) | (_, None) => None,
    };
    let gone = match decision.record.is_empty() {
        true => Some(purged::gone(store, decision, (&keys, custodian)).await?),
        false => None,
    };
    let record = serde_json::from_str(&decision.record).ok();
    let mut found = Integrity {
        content_hash: Check::NotChecked,
        signature: Check::NotChecked,
        chain_of_custody: Check::NotChecked,
        timestamp: Check::NotChecked,
        inclusion: Check::NotChecked,
        faults: Vec::new(),
    };
    found.content_hash = found.judge("content_hash", content_hash(record.as_ref(), opened));
    found.signature = found.judge("signature", signature(decision, head.as_ref(), (&keys, &own)));
    let custody =
        bad.map_or(Ok(Check::Holds), |bad| Err(format!("entry {}: {}", bad.seq, bad.why)));
    found.chain_of_custody = found.judge("chain_of_custody", custody);
    let times = timestamp(decision, record.as_ref(), head.as_ref());
    found.timestamp = found.judge("timestamp", times.map(|check| check.proven(gone.as_ref())));
    let included = gone.as_ref().map_or(Ok(()), Gone::judge).and_then(|()| {
        let included = inclusion(decision, record.as_ref(), head.as_ref(), path.as_deref());
        included.map(|check| check.proven(gone.as_ref()))
    });
    found.inclusion = found.judge("inclusion", included);
    Ok(found)
}

/// The first head above the leaf.
async fn head(store: &dyn Store, leaf: Option<&Leaf>) -> Result<Option<Checkpoint>, StoreError> {
    match leaf {
        Some(leaf) => store.checkpoint(leaf.log.clone(), leaf.index.saturating_add(1)).await,
        None => Ok(None),
    }
}

fn content_hash(record: Option<&Value>, opened: Option<Opened>) -> Result<Check, String> {
    let committed = record.and_then(|record| record.get("commitment")?.as_str());
    let (Some(committed), Some(opened)) = (committed, opened) else { return Ok(Check::NotChecked) };
    match commit_json(&opened.salt, opened.content) {
        Ok(digest) if digest.hex() == committed => Ok(Check::Holds),
        Ok(_) | Err(_) => Err("content and salt are not what the record commits to".into()),
    }
}

fn signature(
    decision: &Decision,
    head: Option<&Checkpoint>,
    (keys, own): (&Keys, &Keys),
) -> Result<Check, String> {
    if decision.leaf.is_none() {
        return Ok(Check::NotChecked);
    }
    let head = head.ok_or("no signed head stands above the record")?;
    let key = keys.get(&head.log).ok_or("the log's key is not known")?;
    if LogId::of(key) != head.log {
        return Err("the key is not the one that the log is named after".into());
    }
    if !own.contains_key(&head.log) {
        let log = head.log.as_str();
        return Err(format!(
            "log {log} is none of this service: its key is neither the present one nor among \
             evidence.known_keys"
        ));
    }
    match is_signed(key, head.text().as_bytes(), &head.signature) {
        true => Ok(Check::Holds),
        false => Err(format!("the head of {} leaves is not signed by its log", head.size)),
    }
}

fn inclusion(
    decision: &Decision,
    record: Option<&Value>,
    head: Option<&Checkpoint>,
    path: Option<&[crate::domain::digest::Digest]>,
) -> Result<Check, String> {
    let Some(leaf) = &decision.leaf else { return Ok(Check::NotChecked) };
    let purged = decision.record.is_empty();
    if !purged && merkle::leaf_hash(decision.record.as_bytes()) != leaf.hash {
        return Err("the record is not what was recorded: it was changed".into());
    }
    if let Some(column) = record.and_then(|record| differs(decision, record)) {
        return Err(format!("the row's {column} is not that of its record: it was changed"));
    }
    let head = head.ok_or("no signed head stands above the record")?;
    let path = path.ok_or("hashes of the log are missing")?;
    match merkle::verify_inclusion((leaf.hash, leaf.index), (head.root, head.size), path) {
        true => Ok(Check::Holds),
        false => Err(format!("leaf {} is not under the head of {} leaves", leaf.index, head.size)),
    }
}

/// Whether the record, where it is there, names the tenant of its row: one that somebody moved past the
/// service is shown to nobody.
pub fn is_of_its_tenant(decision: &Decision) -> bool {
    #[derive(Deserialize)]
    struct Whose {
        tenant: String,
    }
    let whose: Option<Whose> = serde_json::from_str(&decision.record).ok();
    whose.is_none_or(|whose| whose.tenant == decision.tenant.as_str())
}

/// The first column that its record says otherwise.
pub(super) fn differs(decision: &Decision, record: &Value) -> Option<&'static str> {
    let action = decision.action.name();
    [
        ("id", "/id", decision.id.as_str()),
        ("tenant", "/tenant", decision.tenant.as_str()),
        ("request_id", "/request_id", decision.request_id.as_str()),
        ("policy", "/policy", decision.policy.as_str()),
        ("revision", "/revision", &decision.revision),
        ("action", "/verdict/action", action),
    ]
    .into_iter()
    .find(|(_, pointer, kept)| record.pointer(pointer).is_some_and(|said| said != kept))
    .map(|(column, ..)| column)
}

/// The time in a record.
pub(super) fn said_at(record: &Value) -> Option<i64> {
    let said = record.get("at")?.as_str()?.parse::<jiff::Timestamp>().ok()?;
    Some(said.as_millisecond())
}

fn timestamp(
    decision: &Decision,
    record: Option<&Value>,
    head: Option<&Checkpoint>,
) -> Result<Check, String> {
    let at_ms = decision.at_ms;
    let made = uuid::Uuid::parse_str(&decision.id).ok().and_then(|id| id.get_timestamp());
    let Some((seconds, nanos)) = made.map(|made| made.to_unix()) else {
        return Err("the id holds no time".into());
    };
    let made_ms = i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000)
        .saturating_add(i64::from(nanos / 1_000_000));
    if made_ms.abs_diff(at_ms) > CLOCK_MS.unsigned_abs() {
        return Err("the id was made at another time than the decision".into());
    }
    if record.and_then(said_at).is_some_and(|said| said != at_ms) {
        return Err("record and row hold different times".into());
    }
    if head.is_some_and(|head| head.at_ms.saturating_add(CLOCK_MS) < at_ms) {
        return Err("the head above the record was signed before the decision".into());
    }
    Ok(Check::Holds)
}
