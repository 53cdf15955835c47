//! The tree against RFC 6962's published roots and another implementation.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;

use super::super::merkle::*;
use crate::domain::digest::Digest;

/// Leaves of the reference test of certificate transparency.
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

#[test]
fn roots_are_those_of_the_reference_test() {
    assert_eq!(
        empty_root().hex(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    let mut tree = Frontier::default();
    assert_eq!(tree.root(), empty_root());
    for (leaf, root) in LEAVES.iter().zip(ROOTS) {
        let grown = tree.grow([leaf_hash(&hex::decode(leaf).unwrap())]);
        assert_eq!(grown.root().hex(), root);
        tree = grown.frontier();
        assert_eq!(tree.root().hex(), root);
    }
}

fn digests(bytes: &[u8]) -> Vec<Digest> {
    bytes.chunks(32).map(|one| Digest::from_bytes(one.try_into().unwrap())).collect()
}

/// Every complete subtree of `leaves`, by block.
fn hash_of(block: Block, leaves: &[Digest]) -> Digest {
    let first = (block.index << block.level) as usize;
    block_hash(&leaves[first..first + (1 << block.level)]).unwrap()
}

fn from_blocks(ranges: Vec<Vec<Block>>, leaves: &[Digest]) -> Vec<Digest> {
    let of = |range: Vec<Block>| {
        let hashes: Vec<Digest> = range.into_iter().map(|block| hash_of(block, leaves)).collect();
        fold(&hashes).unwrap()
    };
    ranges.into_iter().map(of).collect()
}

#[test]
fn roots_paths_and_consistency_proofs_equal_another_implementation() {
    // Every size and index up to 130, then sizes about powers of two; more before a release.
    let sizes = (1..=130_u64).chain([255, 256, 257, 511, 512, 513, 700, 1023, 1024, 1025, 2000]);
    let all = (0..2_000_u64).map(|n| n.to_be_bytes().to_vec());
    let records: Vec<Vec<u8>> = all.collect();
    let leaves: Vec<Digest> = records.iter().map(|record| leaf_hash(record)).collect();
    let mut other = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for size in sizes {
        while other.len() < size {
            other.push(records[other.len() as usize].clone());
        }
        let cut = size * 3 / 7;
        let base = Frontier::default().grow(leaves[..cut as usize].iter().copied()).frontier();
        let grown = base.grow(leaves[cut as usize..size as usize].iter().copied());
        let root = grown.root();
        assert_eq!(root.as_bytes()[..], other.root().as_bytes()[..], "{size}");
        assert_eq!(grown.frontier().root(), root, "{size}");
        let blocks: Vec<Digest> =
            Frontier::blocks(size).into_iter().map(|block| hash_of(block, &leaves)).collect();
        assert_eq!(Frontier::of(size, blocks), Some(grown.frontier()), "{size}");
        let step = if size <= 130 { 1 } else { 37 };
        for index in (0..size).step_by(step).chain([size - 1]) {
            let wanted = digests(other.prove_inclusion(index as usize).as_bytes());
            let path = from_blocks(path_blocks(index, size), &leaves);
            assert_eq!(path, wanted, "{index} of {size}");
            if index >= cut {
                assert_eq!(grown.path(index), wanted, "{index} of {size}, new");
            }
            let leaf = leaves[index as usize];
            assert!(verify_inclusion((leaf, index), (root, size), &path));
            assert!(!verify_inclusion((root, index), (root, size), &path) || size == 1);
            let old = index + 1;
            let proof = from_blocks(consistency_blocks(old, size), &leaves);
            let theirs = other.prove_consistency((size - old) as usize);
            assert_eq!(proof, digests(theirs.as_bytes()), "{old} in {size}");
            let before = Frontier::default().grow(leaves[..old as usize].iter().copied()).root();
            assert!(verify_consistency((before, old), (root, size), &proof), "{old} in {size}");
            let wrong = verify_consistency((leaf, old), (root, size), &proof);
            assert!(!wrong || old == 1, "{old} in {size}");
        }
    }
}

#[test]
fn nodes_are_the_complete_subtrees_that_have_just_become_complete() {
    let leaves: Vec<Digest> = (0..1000_u64).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    let mut tree = Frontier::default();
    let mut found = Vec::new();
    for batch in leaves.chunks(77) {
        let grown = tree.grow(batch.iter().copied());
        found.extend(grown.nodes());
        tree = grown.frontier();
    }
    let wanted: Vec<_> = (0..3).map(|index| Block { level: 8, index }).collect();
    assert_eq!(found.len(), 3);
    for (node, block) in found.into_iter().zip(wanted) {
        assert_eq!((node.level, node.index, node.hash), (8, block.index, hash_of(block, &leaves)));
    }
    let big = Frontier::default().grow((0..65_600_u64).map(|n| leaf_hash(&n.to_be_bytes())));
    let levels: Vec<u8> = big.nodes().iter().map(|node| node.level).collect();
    assert_eq!(levels.iter().filter(|level| **level == 8).count(), 256);
    assert_eq!(levels.iter().filter(|level| **level == 16).count(), 1);
}

#[test]
fn a_changed_hash_of_a_proof_is_found() {
    let leaves: Vec<Digest> = (0..300_u64).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    let grown = Frontier::default().grow(leaves.iter().copied());
    let path = grown.path(123);
    for at in 0..path.len() {
        for bit in [0, 77, 255] {
            let mut bytes = *path[at].as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut changed = path.clone();
            changed[at] = Digest::from_bytes(bytes);
            assert!(!verify_inclusion((leaves[123], 123), (grown.root(), 300), &changed));
        }
    }
    for other in (0..300).filter(|index| *index != 123) {
        assert!(!verify_inclusion((leaves[123], other), (grown.root(), 300), &path), "{other}");
    }
    assert!(!verify_inclusion((leaves[123], 123), (grown.root(), 300), &path[1..]));
}
