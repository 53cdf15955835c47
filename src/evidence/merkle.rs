//! The Merkle tree of a log (RFC 6962, 2.1; verification as RFC 9162, 2.1): pure functions over
//! hashes.
//!
//! A complete subtree of 2^level leaves is a [`Block`]; those at level 0, 8, 16, … are stored, 256 of
//! them are a tile, and every other hash of the tree follows from at most a few tiles.

use sha2::{Digest as _, Sha256};

use crate::domain::digest::Digest;
use crate::domain::log::Node;

/// Levels of a tile: 256 hashes.
const TILE_LEVELS: u8 = 8;

/// A complete subtree: the leaves from `index` · 2^`level` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// Leaves as a power of two.
    pub level: u8,
    /// From 0, among those of its level.
    pub index: u64,
}

/// The hash of a leaf that holds `record`.
pub fn leaf_hash(record: &[u8]) -> Digest {
    sha256(&[&[0], record])
}

/// The root of an empty tree.
pub fn empty_root() -> Digest {
    sha256(&[])
}

/// The hash over two subtrees.
pub fn join(left: Digest, right: Digest) -> Digest {
    sha256(&[&[1], left.as_bytes(), right.as_bytes()])
}

fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    Digest::from_bytes(hasher.finalize().into())
}

/// The hash of a range of leaves from those of its blocks, largest first.
pub fn fold(blocks: &[Digest]) -> Option<Digest> {
    blocks.iter().rev().copied().reduce(|right, left| join(left, right))
}

/// What remains of a tree to make it grow: its size and the roots of its complete subtrees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// One for each bit of `size`, largest first.
    roots: Vec<Digest>,
}

impl Frontier {
    /// The blocks whose hashes make the frontier of a tree of `size` leaves, largest first.
    pub fn blocks(size: u64) -> Vec<Block> {
        range(0, size)
    }

    /// Of `size` leaves with the hashes of [`Frontier::blocks`]; `None` where they are not as many.
    pub fn of(size: u64, roots: Vec<Digest>) -> Option<Frontier> {
        (size.count_ones() as usize == roots.len()).then_some(Frontier { size, roots })
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        fold(&self.roots).unwrap_or_else(empty_root)
    }

    /// The tree after `leaves`.
    pub fn grow(&self, leaves: impl IntoIterator<Item = Digest>) -> Grown {
        let mut next: Vec<Digest> = leaves.into_iter().collect();
        let size = self.size + next.len() as u64;
        let mut levels = Vec::new();
        let mut roots = self.roots.iter().rev();
        let mut first = self.size;
        for level in 0..u64::BITS {
            // A left sibling that was complete before stands in front.
            if first & 1 == 1
                && let Some(root) = roots.next()
            {
                next.insert(0, *root);
                first -= 1;
            }
            let row = std::mem::take(&mut next);
            next = row
                .chunks(2)
                .filter_map(|pair| match pair {
                    [left, right] => Some(join(*left, *right)),
                    // An incomplete subtree without a sibling stands for its parent too.
                    _ => pair.first().copied(),
                })
                .collect();
            levels.push(Row { first, hashes: row });
            first >>= 1;
            if size.saturating_sub(1) >> level == 0 {
                break;
            }
        }
        Grown { before: self.size, size, levels }
    }
}

/// A tree that has grown: it knows the paths of its new leaves.
#[derive(Debug, Clone)]
pub struct Grown {
    before: u64,
    size: u64,
    levels: Vec<Row>,
}

/// The hashes of one level that stand at or above a new leaf, and their left neighbours.
#[derive(Debug, Clone)]
struct Row {
    first: u64,
    hashes: Vec<Digest>,
}

impl Row {
    fn at(&self, index: u64) -> Option<Digest> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.hashes.get(place).copied()
    }
}

impl Grown {
    /// Leaves now.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        self.levels.last().and_then(|row| row.at(0)).unwrap_or_else(empty_root)
    }

    /// The complete subtrees at level 8, 16, … that have become complete.
    pub fn nodes(&self) -> Vec<Node> {
        let tiled =
            (0_u8..).zip(&self.levels).skip(1).filter(|(level, _)| level % TILE_LEVELS == 0);
        let of = |(level, row): (u8, &Row)| {
            let (was, is) = (self.before >> level, self.size >> level);
            let node = move |index| Some(Node { level, index, hash: row.at(index)? });
            (was..is).filter_map(node).collect::<Vec<_>>()
        };
        tiled.flat_map(of).collect()
    }

    /// What the next batch builds on.
    pub fn frontier(&self) -> Frontier {
        let block = |level: u8, row: &Row| {
            let count = self.size >> level;
            (count & 1 == 1).then(|| row.at(count - 1)).flatten()
        };
        let rows = (0_u8..).zip(&self.levels);
        let mut roots: Vec<Digest> = rows.filter_map(|(level, row)| block(level, row)).collect();
        roots.reverse();
        Frontier { size: self.size, roots }
    }

    /// The audit path of the new leaf `index`, from the leaf upwards.
    pub fn path(&self, index: u64) -> Vec<Digest> {
        let rows = (0_u8..).zip(&self.levels);
        rows.filter_map(|(level, row)| row.at((index >> level) ^ 1)).collect()
    }
}

/// The blocks under each hash of the audit path of leaf `index` in a tree of `size` leaves, from the
/// leaf upwards; empty where there is no such leaf.
pub fn path_blocks(index: u64, size: u64) -> Vec<Vec<Block>> {
    let mut path = Vec::new();
    let (mut low, mut high) = (0, size);
    while index < size && high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            path.push(range(middle, high));
            high = middle;
        } else {
            path.push(range(low, middle));
            low = middle;
        }
    }
    path.reverse();
    path
}

/// The blocks under each hash of the proof that a tree of `old` leaves is the beginning of one of
/// `size` (RFC 6962, 2.1.2); empty where there is nothing to prove.
pub fn consistency_blocks(old: u64, size: u64) -> Vec<Vec<Block>> {
    if old == 0 || old >= size {
        return Vec::new();
    }
    let mut proof = Vec::new();
    let (mut low, mut high, mut whole) = (0, size, true);
    // What remains of the old tree is [low, old).
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(range(middle, high));
            high = middle;
        } else {
            proof.push(range(low, middle));
            low = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(range(low, high));
    }
    proof.reverse();
    proof
}

/// The largest power of two below `leaves`, which are at least two.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// The complete subtrees of leaves `low` to `high`, largest first; `low` is a multiple of the first.
fn range(mut low: u64, high: u64) -> Vec<Block> {
    let mut blocks = Vec::new();
    while low < high {
        let level = (high - low).ilog2();
        blocks.push(Block { level: u8::try_from(level).unwrap_or(u8::MAX), index: low >> level });
        low += 1 << level;
    }
    blocks
}

impl Block {
    /// The stored level under it, and there the first and the count of its nodes, all in one tile.
    pub fn stored(self) -> (u8, u64, u64) {
        let under = self.level % TILE_LEVELS;
        (self.level - under, self.index << under, 1 << under)
    }
}

/// The hash of a complete subtree from its nodes of a lower level, a power of two of them.
pub fn block_hash(nodes: &[Digest]) -> Option<Digest> {
    match nodes {
        [] => None,
        [one] => Some(*one),
        _ => {
            let (left, right) = nodes.split_at_checked(nodes.len() / 2)?;
            Some(join(block_hash(left)?, block_hash(right)?))
        }
    }
}

/// Whether `path` leads from `leaf` at `index` to `root` of a tree of `size` leaves (RFC 9162,
/// 2.1.3.2).
pub fn verify_inclusion(
    (leaf, index): (Digest, u64),
    (root, size): (Digest, u64),
    path: &[Digest],
) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for other in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = join(*other, hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = join(hash, *other);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Whether `proof` shows that the tree of `old` is the beginning of that of `new` (RFC 9162,
/// 2.1.4.2); both as root and size.
pub fn verify_consistency(old: (Digest, u64), new: (Digest, u64), proof: &[Digest]) -> bool {
    if old.1 == 0 || old.1 > new.1 {
        return false;
    }
    if old.1 == new.1 {
        return proof.is_empty() && old.0 == new.0;
    }
    let (mut node, mut last) = (old.1 - 1, new.1 - 1);
    let shift = node.trailing_ones();
    (node, last) = (node >> shift, last >> shift);
    let mut path = proof.iter().copied();
    let start = if old.1.is_power_of_two() { Some(old.0) } else { path.next() };
    let Some(start) = start else { return false };
    let (mut before, mut after) = (start, start);
    for other in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            before = join(other, before);
            after = join(other, after);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            after = join(after, other);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && before == old.0 && after == new.0
}
