//! A whole log: its leaves, its heads, and the subtrees that are stored of it.

use std::collections::BTreeMap;

use super::{Found, Log, Material, bytes, int, rows, whole};
use crate::domain::digest::Digest;
use crate::evidence::merkle::{self, Frontier};
use crate::store::{RawRow, Table};

impl Found {
    /// Every leaf, every head, and the stored subtrees of a whole log.
    pub(super) fn tree(&mut self, log: &Log, material: &Material) {
        let head = log.heads.keys().next_back().copied().unwrap_or_default();
        let leaves = log.leaves.len() as u64;
        let end = log.leaves.keys().next_back().map_or(0, |last| last.saturating_add(1));
        for (place, leaf) in log.leaves.range(head..) {
            let what = "a leaf lies beyond the last checkpoint, or that is missing";
            self.add("truncated", (Some(&leaf.decision), Some(*place)), what);
        }
        self.gaps(log, (head, end));
        if leaves != end {
            return;
        }
        let hashes: Vec<Digest> = log.leaves.values().map(|leaf| leaf.hash).collect();
        let mut frontier = Frontier::default();
        for (size, head) in &log.heads {
            let part = frontier.size() as usize..*size as usize;
            let Some(new) = hashes.get(part) else { break };
            let before = frontier.size();
            frontier = frontier.grow(new.iter().copied()).frontier();
            if frontier.root() != head.root {
                for (place, leaf) in log.leaves.range(before..*size) {
                    let last = size.saturating_sub(1);
                    let what =
                        format!("among leaves {before} to {last} one is not what was signed");
                    self.add("root", (Some(&leaf.decision), Some(*place)), what);
                }
                break;
            }
        }
        self.nodes(log, hashes, material);
    }

    /// Each run of leaves that are not there, below the last checkpoint and the last leaf: both may say
    /// any number, so what is told depends on the leaves that are there.
    fn gaps(&mut self, log: &Log, (head, end): (u64, u64)) {
        let mut next = 0;
        for place in log.leaves.keys().copied().chain([end.max(head)]) {
            let kind = if next >= end { "truncated" } else { "missing" };
            let signed = if next < head { " that was signed" } else { "" };
            match place.saturating_sub(next) {
                0 => {}
                1 => self.add(kind, (None, Some(next)), format!("a leaf{signed} is missing")),
                count => {
                    let (from, last) = (next, place - 1);
                    let what = format!("{count} leaves are missing, {from} to {last}");
                    self.add(kind, (None, Some(from)), what);
                }
            }
            next = place.saturating_add(1);
        }
    }

    /// Subtrees of logs that are not there.
    pub(super) fn strays(&mut self, logs: &BTreeMap<i64, Log>, material: &Material) {
        let is_of = |row: &&RawRow| int(row, "log").is_some_and(|log| logs.contains_key(&log));
        let strays = rows(material, Table::Nodes).filter(|row| !is_of(row)).count();
        if strays > 0 {
            let what = format!("{strays} subtrees belong to no log");
            self.add("added", (None, None), what);
        }
    }

    fn nodes(&mut self, log: &Log, mut hashes: Vec<Digest>, material: &Material) {
        let mut stored = BTreeMap::new();
        for row in rows(material, Table::Nodes).filter(|row| int(row, "log") == Some(log.number)) {
            let read = (whole(row, "level"), whole(row, "place"), bytes(row, "hash"));
            let (Some(level), Some(place), Some(hash)) = read else {
                self.add("unreadable", (None, None), "a subtree cannot be read");
                continue;
            };
            if stored.insert((level, place), Digest::from_bytes(hash)).is_some() {
                let what = format!("the subtree {place} of level {level} is there twice");
                self.add("added", (None, None), what);
            }
        }
        for level in (8..64).step_by(8) {
            hashes = hashes.chunks_exact(256).filter_map(merkle::block_hash).collect();
            for (place, hash) in (0_u64..).zip(&hashes) {
                if stored.remove(&(level, place)) != Some(*hash) {
                    let what =
                        format!("the subtree {place} of level {level} is not that of its leaves");
                    self.add("altered", (None, Some(place << level)), what);
                }
            }
        }
        for (level, place) in stored.into_keys() {
            let what = format!("there is no subtree {place} of level {level}");
            self.add("added", (None, None), what);
        }
    }
}
