//! Proofs made later, from stored tiles: at most 256 hashes of each level on either side.

use std::collections::HashMap;

use super::log::Proof;
use super::merkle::{self, Block, Frontier};
use crate::domain::digest::Digest;
use crate::domain::log::{Checkpoint, Leaf, LogId};
use crate::store::{Ledger, StoreError};

/// Hashes of one tile.
const TILE: u32 = 256;

/// The proof of `leaf` under the first head that was signed after it; `None` where there is none, or
/// the store lacks a hash.
pub async fn of(store: &dyn Ledger, leaf: Leaf) -> Result<Option<Proof>, StoreError> {
    let head = store.checkpoint(leaf.log.clone(), leaf.index + 1).await?;
    let Some(checkpoint) = head else { return Ok(None) };
    let path = inclusion(store, leaf.index, &checkpoint).await?;
    Ok(path.map(|path| Proof { leaf, checkpoint, path }))
}

/// The audit path of leaf `index` under `head`, as [`merkle::verify_inclusion`] takes it; `None`
/// where it is not under it, or the store lacks a hash.
pub async fn inclusion(
    store: &dyn Ledger,
    index: u64,
    head: &Checkpoint,
) -> Result<Option<Vec<Digest>>, StoreError> {
    if index >= head.size {
        return Ok(None);
    }
    Tiles::of(store, &head.log).all(merkle::path_blocks(index, head.size)).await
}

/// The proof that `old` is the beginning of `new`, as [`merkle::verify_consistency`] takes it; `None`
/// where it cannot be, or the store lacks a hash.
pub async fn consistency(
    store: &dyn Ledger,
    old: &Checkpoint,
    new: &Checkpoint,
) -> Result<Option<Vec<Digest>>, StoreError> {
    if old.log != new.log || old.size > new.size {
        return Ok(None);
    }
    Tiles::of(store, &new.log).all(merkle::consistency_blocks(old.size, new.size)).await
}

/// What a log under `head` grows from; `None` where the store's hashes do not give its root.
pub(super) async fn frontier(
    store: &dyn Ledger,
    head: &Checkpoint,
) -> Result<Option<Frontier>, StoreError> {
    let blocks = Frontier::blocks(head.size).into_iter().map(|block| vec![block]).collect();
    let roots = Tiles::of(store, &head.log).all(blocks).await?;
    let frontier = roots.and_then(|roots| Frontier::of(head.size, roots));
    Ok(frontier.filter(|frontier| frontier.root() == head.root))
}

/// The tiles that were read, by level and number.
struct Tiles<'a> {
    store: &'a dyn Ledger,
    log: &'a LogId,
    read: HashMap<(u8, u64), Vec<Digest>>,
}

impl<'a> Tiles<'a> {
    fn of(store: &'a dyn Ledger, log: &'a LogId) -> Tiles<'a> {
        Tiles { store, log, read: HashMap::new() }
    }

    /// One hash for each range.
    async fn all(&mut self, ranges: Vec<Vec<Block>>) -> Result<Option<Vec<Digest>>, StoreError> {
        let mut hashes = Vec::with_capacity(ranges.len());
        for range in ranges {
            let mut blocks = Vec::with_capacity(range.len());
            for block in range {
                let Some(hash) = self.block(block).await? else { return Ok(None) };
                blocks.push(hash);
            }
            hashes.extend(merkle::fold(&blocks));
        }
        Ok(Some(hashes))
    }

    async fn block(&mut self, block: Block) -> Result<Option<Digest>, StoreError> {
        let (level, first, count) = block.stored();
        let (tile, place) = (first / u64::from(TILE), (first % u64::from(TILE)) as usize);
        if !self.read.contains_key(&(level, tile)) {
            let start = tile * u64::from(TILE);
            let hashes = self.store.hashes(self.log.clone(), level, start, TILE).await?;
            self.read.insert((level, tile), hashes);
        }
        let hashes = self.read.get(&(level, tile)).and_then(|tile| tile.get(place..));
        let nodes = hashes.and_then(|hashes| hashes.get(..count as usize));
        Ok(nodes.and_then(merkle::block_hash))
    }
}
