//! Proofs made later, from stored tiles: at most 256 hashes of each level on either side.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::log::Proof;
use super::merkle::{self, Block, Frontier};
use crate::domain::digest::Digest;
use crate::domain::log::{Checkpoint, Leaf, LogId};
use crate::seal::is_signed;
use crate::store::{Ledger, LogKey, StoreError};

/// Hashes of one tile.
const TILE: u32 = 256;
/// Heads read at once while a signed one is looked for, and in all.
const HEADS: u32 = 64;
const HEADS_MAX: usize = 4_096;

/// The newest head of a log that may be believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Newest {
    /// It bears the signature of its log; `None` where none of the newest does.
    pub head: Option<Checkpoint>,
    /// Heads above it that do not: somebody wrote them past the service.
    pub unsigned: usize,
}

/// Whether `head` is of the log of `key`, which is named after it, and bears its signature.
pub fn is_own(head: &Checkpoint, key: &LogKey) -> bool {
    head.log == key.log
        && LogId::of(&key.public_key) == key.log
        && is_signed(&key.public_key, head.text().as_bytes(), &head.signature)
}

/// The newest head of the log of `key` that it signed.
pub async fn newest(store: &dyn Ledger, key: &LogKey) -> Result<Newest, StoreError> {
    let mut newest = Newest::default();
    let mut below = u64::MAX;
    while newest.unsigned < HEADS_MAX {
        let page = store.heads(key.log.clone(), below, HEADS).await?;
        let Some(last) = page.last() else { break };
        below = last.size;
        for head in page {
            if is_own(&head, key) {
                return Ok(Newest { head: Some(head), ..newest });
            }
            newest.unsigned += 1;
        }
    }
    Ok(newest)
}

/// As [`of`], under a head that the log of `key` signed: the first above the leaf, else the newest.
pub async fn signed(
    store: &dyn Ledger,
    leaf: Leaf,
    key: &LogKey,
) -> Result<Option<Proof>, StoreError> {
    let first = store.checkpoint(leaf.log.clone(), leaf.index.saturating_add(1)).await?;
    let head = match first.filter(|head| is_own(head, key)) {
        Some(head) => Some(head),
        None => newest(store, key).await?.head,
    };
    let Some(checkpoint) = head else { return Ok(None) };
    let path = inclusion(store, leaf.index, &checkpoint).await?;
    Ok(path.map(|path| Proof { leaf, checkpoint, path }))
}

/// The proof of `leaf` under the first head that was signed after it; `None` where there is none, or
/// the store lacks a hash.
pub async fn of(store: &dyn Ledger, leaf: Leaf) -> Result<Option<Proof>, StoreError> {
    let head = store.checkpoint(leaf.log.clone(), leaf.index.saturating_add(1)).await?;
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

/// Hashes of logs that are asked for one tile after another, each once. The answer is `None` where
/// the store lacks one or it cannot be read.
pub struct Shelf<R> {
    read: R,
    tiles: HashMap<(LogId, u8, u64), Option<Vec<Digest>>>,
}

impl<R, E> Shelf<R>
where
    R: FnMut(&LogId, u8, (u64, u32)) -> Result<Option<Vec<Digest>>, E>,
{
    /// `read` answers hashes of a level from a place on.
    pub fn of(read: R) -> Self {
        Self { read, tiles: HashMap::new() }
    }

    /// As [`inclusion`].
    pub fn inclusion(&mut self, index: u64, head: &Checkpoint) -> Result<Option<Vec<Digest>>, E> {
        if index >= head.size {
            return Ok(None);
        }
        self.all(&head.log, merkle::path_blocks(index, head.size))
    }

    /// As [`consistency`], from `old` leaves on.
    pub fn consistency(&mut self, old: u64, new: &Checkpoint) -> Result<Option<Vec<Digest>>, E> {
        if old > new.size {
            return Ok(None);
        }
        self.all(&new.log, merkle::consistency_blocks(old, new.size))
    }

    fn all(&mut self, log: &LogId, ranges: Vec<Vec<Block>>) -> Result<Option<Vec<Digest>>, E> {
        let mut hashes = Vec::with_capacity(ranges.len());
        for range in ranges {
            let mut blocks = Vec::with_capacity(range.len());
            for block in range {
                let Some(hash) = self.block(log, block)? else { return Ok(None) };
                blocks.push(hash);
            }
            hashes.extend(merkle::fold(&blocks));
        }
        Ok(Some(hashes))
    }

    fn block(&mut self, log: &LogId, block: Block) -> Result<Option<Digest>, E> {
        let (level, first, count) = block.stored();
        let (tile, place) = (first / u64::from(TILE), (first % u64::from(TILE)) as usize);
        let hashes = match self.tiles.entry((log.clone(), level, tile)) {
            Entry::Occupied(tile) => tile.into_mut(),
            Entry::Vacant(new) => {
                let places = (tile.saturating_mul(TILE.into()), TILE);
                new.insert((self.read)(log, level, places)?)
            }
        };
        let hashes = hashes.as_deref().and_then(|tile| tile.get(place..));
        let nodes = hashes.and_then(|hashes| hashes.get(..count as usize));
        Ok(nodes.and_then(merkle::block_hash))
    }
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
