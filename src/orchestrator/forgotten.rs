//! Forgets what decisions were made of once no record that is kept names it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Deps;
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::snapshot::{Rank, Unfound};
use crate::store::{SourceKey, StoreError, Unnamed};

/// So long after it last served, a revision's sources stay although no record names it: records that
/// wait in the spool of an instance that is stopped name it too.
pub(super) const SERVED_MS: i64 = 30 * 86_400_000;
/// Revisions and sources of one look.
const PAGE: u32 = 1_000;
/// Beyond so many sources nothing is forgotten.
const SOURCES_MAX: usize = 1_000_000;
/// Sources of one transaction.
const FORGOTTEN: usize = 256;
/// Between two of them, for those who write meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

const DOING: &str = "looking for sources that no record names";

/// Owners of each stored blob.
type Stored = BTreeMap<Digest, Vec<Option<TenantId>>>;

impl Deps {
    /// Forgets sources that neither a record that is kept nor a revision that served in the last 30
    /// days names; how many.
    ///
    /// # Errors
    /// When the store fails, or a manifest is damaged: then nobody knows what it names.
    pub async fn forget_sources(&self, now_ms: i64) -> Result<u64, StoreError> {
        let since_ms = now_ms - SERVED_MS;
        let known = self.revisions(since_ms).await?;
        let stored = self.stored().await?;
        let named = self.named(&known, &stored).await?;
        let unnamed = stored.iter().filter(|(digest, _)| !named.contains(digest));
        let mut ranked: Vec<(Rank, SourceKey)> = Vec::new();
        for (digest, owners) in unnamed {
            for owner in owners {
                let key = (owner.clone(), *digest);
                if let Some(bytes) = self.store.source(key.clone()).await? {
                    ranked.push((Rank::of(&bytes), key));
                }
            }
        }
        // What names another goes first: what is there is whole at any moment.
        ranked.sort();
        let keys: Vec<SourceKey> = ranked.into_iter().map(|(_, key)| key).collect();
        let mut forgotten = 0;
        for keys in keys.chunks(FORGOTTEN) {
            let (keys, known) = (keys.to_vec(), known.clone());
            let unnamed = Unnamed { keys, known, since_ms, at_ms: now_ms };
            match self.store.forget_sources(unnamed).await? {
                Some(gone) => forgotten += gone,
                // Another revision serves now, and may need what is left.
                None => break,
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(forgotten)
    }

    async fn revisions(&self, since_ms: i64) -> Result<Vec<String>, StoreError> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().cloned().unwrap_or_default();
            let page = self.store.revisions(since_ms, after, PAGE).await?;
            let full = page.len() == PAGE as usize;
            all.extend(page);
            if !full {
                return Ok(all);
            }
        }
    }

    async fn stored(&self) -> Result<Stored, StoreError> {
        let (mut stored, mut after, mut count) = (Stored::new(), None, 0);
        loop {
            let page = self.store.source_keys(after, PAGE).await?;
            let full = page.len() == PAGE as usize;
            count += page.len();
            if count > SOURCES_MAX {
                let reason = format!("more than {SOURCES_MAX} sources are stored; all stay");
                return Err(StoreError::Failed { doing: DOING, reason });
            }
            after = page.last().cloned();
            for (owner, digest) in page {
                stored.entry(digest).or_default().push(owner);
            }
            if !full {
                return Ok(stored);
            }
        }
    }

    /// Everything that these revisions name, directly or not.
    async fn named(
        &self,
        revisions: &[String],
        stored: &Stored,
    ) -> Result<BTreeSet<Digest>, StoreError> {
        let (mut named, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let digests = revisions.iter().filter_map(|revision| Digest::parse(revision));
        let mut open: Vec<(Rank, Digest)> = digests.map(|digest| (Rank::Root, digest)).collect();
        while let Some((rank, digest)) = open.pop() {
            named.insert(digest);
            // A source may have the very bytes of a manifest.
            if !seen.insert((rank, digest)) || rank == Rank::Source {
                continue;
            }
            // One that is not stored names nothing that could be found through it.
            let Some(owner) = stored.get(&digest).and_then(|owners| owners.first()) else {
                continue;
            };
            let Some(bytes) = self.store.source((owner.clone(), digest)).await? else { continue };
            open.extend(rank.named(&bytes).map_err(|why| damaged(digest, &why))?);
        }
        Ok(named)
    }
}

fn damaged(digest: Digest, why: &Unfound) -> StoreError {
    let reason = format!("the manifest {} is damaged: {why}; all sources stay", digest.hex());
    StoreError::Failed { doing: DOING, reason }
}
