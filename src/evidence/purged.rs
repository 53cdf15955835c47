//! What a purge leaves of a record: an entry of its custody that says what its row held, signed by the
//! instance that took the record away. A record that is gone without one was emptied past the service.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::custody::{Custodian, Keys, subject};
use super::{custody, integrity, merkle};
use crate::domain::custody::{ActorType, CustodyAct, CustodyAction, CustodyEntry};
use crate::seal::is_signed;
use crate::store::{Attest, Custody, Decision, Store, StoreError};

const DAY_MS: i64 = 86_400_000;

/// The details of the entry, in the order of RFC 8785.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Statement {
    action: String,
    at_ms: i64,
    complete: bool,
    /// Whether record, row and leaf agreed when it was taken away.
    intact: bool,
    policy: String,
    request_id: String,
    retention_days: u32,
    revision: String,
}

/// The row of a purged record; what cannot be read is `None`.
pub(super) struct Row<'a> {
    pub(super) action: Option<&'a str>,
    pub(super) at_ms: Option<i64>,
    pub(super) complete: Option<bool>,
    pub(super) policy: Option<&'a str>,
    pub(super) request_id: Option<&'a str>,
    pub(super) revision: Option<&'a str>,
}

/// Makes the entries of a purge at `at_ms` of records that are kept `days`.
pub(super) fn attest(custodian: &Custodian, at_ms: i64, days: u32) -> Attest {
    let custodian = custodian.clone();
    Arc::new(move |decision, last| {
        let details = Statement::of(decision, days).details();
        let act = CustodyAct {
            at_ms,
            action: CustodyAction::Purged,
            actor: "system".into(),
            actor_type: ActorType::System,
            details,
        };
        custodian.entry(decision, last, act)
    })
}

impl Statement {
    fn of(decision: &Decision, retention_days: u32) -> Statement {
        Statement {
            action: decision.action.name().to_owned(),
            at_ms: decision.at_ms,
            complete: decision.complete,
            intact: is_intact(decision),
            policy: decision.policy.to_string(),
            request_id: decision.request_id.to_string(),
            retention_days,
            revision: decision.revision.clone(),
        }
    }

    fn details(&self) -> String {
        // Texts and numbers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What `entry` says, where it speaks of a purge.
    pub(super) fn read(entry: &CustodyEntry) -> Option<Statement> {
        (entry.act.action == CustodyAction::Purged).then_some(())?;
        serde_json::from_str(&entry.act.details).ok()
    }

    /// Why it does not prove that `row` is as it was and was taken away at `taken_ms` rightly.
    pub(super) fn fault(&self, row: &Row<'_>, taken_ms: i64) -> Option<String> {
        let changed = [
            ("action", row.action != Some(&self.action)),
            ("at_ms", row.at_ms != Some(self.at_ms)),
            ("complete", row.complete != Some(self.complete)),
            ("policy", row.policy != Some(&self.policy)),
            ("request_id", row.request_id != Some(&self.request_id)),
            ("revision", row.revision != Some(&self.revision)),
        ];
        if let Some((column, _)) = changed.into_iter().find(|(_, changed)| *changed) {
            return Some(format!("`{column}` is not what its purge says: it was changed"));
        }
        if !self.intact {
            return Some("its record was not what was recorded when it was purged".to_owned());
        }
        let days_ms = DAY_MS.saturating_mul(self.retention_days.into());
        (taken_ms.saturating_sub(self.at_ms) < days_ms)
            .then(|| format!("it was purged before its {} days were over", self.retention_days))
    }
}

impl<'a> Row<'a> {
    fn of(decision: &'a Decision) -> Row<'a> {
        Row {
            action: Some(decision.action.name()),
            at_ms: Some(decision.at_ms),
            complete: Some(decision.complete),
            policy: Some(decision.policy.as_str()),
            request_id: Some(decision.request_id.as_str()),
            revision: Some(&decision.revision),
        }
    }
}

/// Whether the record is that of its leaf, and the row that of its record.
fn is_intact(decision: &Decision) -> bool {
    let Ok(record) = serde_json::from_str::<Value>(&decision.record) else { return false };
    let hash = decision.leaf.as_ref().map(|leaf| leaf.hash);
    hash == Some(merkle::leaf_hash(decision.record.as_bytes()))
        && integrity::differs(decision, &record).is_none()
        && integrity::said_at(&record).is_none_or(|at_ms| at_ms == decision.at_ms)
        && record.pointer("/coverage/complete").is_none_or(|said| *said == decision.complete)
}

/// What is known of a record that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// It was purged, and its row is as it was.
    Purged,
    /// Its purge is on record, and something about it is wrong.
    Wrong(String),
    /// The purge is signed by another log than the record's and this service's own: by a key that was
    /// replaced and is not named, or by anybody's.
    SignedElsewhere,
    /// No purge is on record.
    Emptied,
}

/// Whether the record of `decision` is not there, and its purge proven.
///
/// # Errors
/// Where the store does not answer.
pub async fn is_purged(
    store: &dyn Store,
    decision: &Decision,
    custodian: &Custodian,
) -> Result<bool, StoreError> {
    if !decision.record.is_empty() {
        return Ok(false);
    }
    let keys = store.logs().await?.into_iter().map(|key| (key.log, key.public_key)).collect();
    // Where its row was edited too, that is for verification to name.
    let gone = gone(store, decision, (&keys, custodian)).await?;
    Ok(matches!(gone, Gone::Purged | Gone::Wrong(_)))
}

/// What became of the record of `decision`, which is empty. Believed are the record's own log and
/// those of the service of `custodian`.
///
/// # Errors
/// Where the store does not answer.
pub async fn gone(
    store: &(impl Custody + ?Sized),
    decision: &Decision,
    (keys, custodian): (&Keys, &Custodian),
) -> Result<Gone, StoreError> {
    let entries = match custody::entries(store, decision).await {
        Ok(entries) => entries,
        // The chain is broken, which is told of it.
        Err(StoreError::Damaged { .. }) => return Ok(Gone::Emptied),
        Err(error) => return Err(error),
    };
    let of = subject(decision);
    let mut found = Gone::Emptied;
    for entry in entries {
        let (Some(statement), Some(by)) = (Statement::read(&entry), &entry.signature) else {
            continue;
        };
        let key = keys.get(&by.log);
        let signed = |key| is_signed(key, entry.signed().as_bytes(), &by.bytes);
        if !entry.fits(&of) || !key.is_some_and(signed) {
            continue;
        }
        let own = decision.leaf.as_ref().is_some_and(|leaf| leaf.log == by.log);
        if !own && !custodian.believes(&by.log) {
            found = Gone::SignedElsewhere;
            continue;
        }
        let fault = statement.fault(&Row::of(decision), entry.act.at_ms);
        return Ok(fault.map_or(Gone::Purged, Gone::Wrong));
    }
    Ok(found)
}
