//! Where a decision is recorded.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::log::{Proof, Receipt, Recorded};

/// Where the decision is recorded, and what shows that.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OnRecord)]
pub struct WireEvidence<'a> {
    /// The record's id.
    pub id: &'a str,
    /// Absent where a replayed answer holds none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<WireReceipt<'a>>,
}

/// What shows that the decision is in a log. Whoever holds it and the content can prove both; the
/// proof is there where the tenant's records are strict. Hashes and signature are hexadecimal.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Receipt)]
pub struct WireReceipt<'a> {
    /// Which log: the SHA-256 of its public key.
    pub log_id: &'a str,
    /// The record's leaf: SHA-256(0x00 ‖ record).
    pub leaf_hash: String,
    /// The leaf's place, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_index: Option<u64>,
    /// Leaves under the signed root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree_size: Option<u64>,
    /// The signed root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// When it was signed, milliseconds since 1970; part of what is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<i64>,
    /// Hashes beside the way from the leaf to the root, lowest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_path: Option<Vec<String>>,
    /// Ed25519 over the checkpoint of root, size and time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Opens the record's commitment to the content. Nobody else has it: keep it. Absent where an
    /// answer is repeated under an `Idempotency-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salt: Option<&'a str>,
}

impl<'a> WireEvidence<'a> {
    pub(super) fn of(recorded: &'a Recorded) -> Self {
        Self { id: &recorded.id, receipt: recorded.receipt.as_ref().map(WireReceipt::of) }
    }

    /// The same without what opens the commitment.
    pub(super) fn without_salt(self) -> Self {
        let receipt = self.receipt.map(|receipt| WireReceipt { salt: None, ..receipt });
        Self { receipt, ..self }
    }
}

impl<'a> WireReceipt<'a> {
    fn of(receipt: &'a Receipt) -> Self {
        let proof = receipt.proof.as_ref();
        let head = proof.map(|proof| &proof.checkpoint);
        let path = |proof: &Proof| proof.path.iter().map(|hash| hash.hex()).collect();
        Self {
            log_id: receipt.log.as_str(),
            leaf_hash: receipt.leaf_hash.hex(),
            leaf_index: proof.map(|proof| proof.leaf.index),
            tree_size: head.map(|head| head.size),
            root: head.map(|head| head.root.hex()),
            time_ms: head.map(|head| head.at_ms),
            audit_path: proof.map(path),
            signature: head.map(|head| hex::encode(head.signature)),
            salt: Some(&receipt.salt),
        }
    }
}
