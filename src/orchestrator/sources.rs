//! Keeps what decisions are made of, so that each can be decided again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Deps;
use super::forgotten::SERVED_MS;
use crate::snapshot::{Branch, Snapshot};
use crate::store::{SourceBlob, SourceKey, StoreError};

/// Blobs written at once.
const BLOBS: usize = 256;
/// Their bytes, unless one alone is larger.
const BYTES: usize = 4 << 20;

impl Deps {
    /// Returns once everything that `snapshot` was made of is stored; only what is new is written,
    /// and what names others after them. None of it is forgotten while it serves and for 30 days.
    ///
    /// # Errors
    /// When the store fails; what it took is not written again by the next try.
    pub async fn keep_sources(&self, snapshot: Arc<Snapshot>) -> Result<(), StoreError> {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let revision = snapshot.revision.clone();
        self.store.serve_revision(revision, now_ms, now_ms - SERVED_MS).await?;
        // Everything is hashed, which is no work for a server's worker.
        let hashing = tokio::task::spawn_blocking(move || snapshot.branches());
        let mut level: Vec<Branch> = hashing.await.into_iter().collect();
        let mut new: Vec<SourceBlob> = Vec::new();
        while !level.is_empty() {
            let keys: Vec<SourceKey> = level.iter().map(|branch| key(&branch.blob)).collect();
            let mut missing = BTreeSet::new();
            for keys in keys.chunks(BLOBS) {
                missing.extend(self.store.missing_sources(keys.to_vec()).await?);
            }
            level.retain(|branch| missing.contains(&key(&branch.blob)));
            let mut below = Vec::new();
            for Branch { blob, below: named } in level {
                new.push(blob);
                below.extend(named);
            }
            level = below;
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(blob) = new.pop() {
            if batch.len() >= BLOBS || (bytes > 0 && bytes + blob.bytes.len() > BYTES) {
                self.store.put_sources(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += blob.bytes.len();
            batch.push(blob);
        }
        if batch.is_empty() { Ok(()) } else { self.store.put_sources(batch).await }
    }
}

fn key(blob: &SourceBlob) -> SourceKey {
    (blob.tenant.clone(), blob.digest)
}
