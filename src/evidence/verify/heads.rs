//! Heads that were kept elsewhere, against what is there.

use std::collections::BTreeMap;

use super::{Found, Growth, Log, Material, Outside};
use crate::domain::digest::Digest;
use crate::domain::log::{Checkpoint, LogId};
use crate::evidence::merkle::{self, Frontier};
use crate::seal::is_signed;

impl Found {
    /// Each head that was kept: whether its log signed it, and whether what is there grew from it.
    pub(super) fn outside(
        &mut self,
        logs: &BTreeMap<i64, Log>,
        outside: &Outside,
        material: &Material,
    ) {
        let mut kept: BTreeMap<&LogId, Vec<&Checkpoint>> = BTreeMap::new();
        for head in &outside.heads {
            kept.entry(&head.log).or_default().push(head);
        }
        for (id, mut heads) in kept {
            let given = outside.keys.iter().flatten().find(|key| LogId::of(key) == *id);
            let log = logs.values().find(|log| log.id == *id);
            // A record whose log has no row is a leaf of no log, which is named.
            let is_elsewhere = material.proofs.is_some()
                && log.is_none_or(|log| log.leaves.is_empty() && log.heads.is_empty());
            let Some(key) = given.or(log.map(|log| &log.key)) else {
                self.absent(id, is_elsewhere);
                continue;
            };
            heads.retain(|head| {
                let is_own = LogId::of(key) == *id
                    && is_signed(key, head.text().as_bytes(), &head.signature);
                if !is_own {
                    let what = format!(
                        "the given checkpoint of {} leaves does not bear the signature of its log: it \
                         is forged or damaged, and was not compared",
                        head.size
                    );
                    self.add("checkpoint", (None, Some(head.size)), what);
                }
                is_own
            });
            let Some(log) = log.filter(|_| !is_elsewhere) else {
                if !heads.is_empty() {
                    self.absent(id, is_elsewhere);
                }
                continue;
            };
            heads.sort_by_key(|head| head.size);
            match material.proofs {
                None => self.grown(log, &heads),
                Some(_) => self.packed(log, &heads, &material.growths),
            }
        }
    }

    /// A whole log must be there; a package may hold no record of it.
    fn absent(&mut self, log: &LogId, is_elsewhere: bool) {
        let log = log.as_str();
        if is_elsewhere {
            self.0.notes.push(format!(
                "the package holds nothing of log {log}: its given checkpoint was not compared"
            ));
        } else {
            let what = format!("log {log} of the given checkpoint is not here");
            self.add("missing", (None, None), what);
        }
    }

    /// Against all leaves of a whole log; `heads` by size.
    fn grown(&mut self, log: &Log, heads: &[&Checkpoint]) {
        let mut leaves = log.leaves.iter().zip(0_u64..).take_while(|((at, _), n)| *at == n);
        let mut frontier = Frontier::default();
        for head in heads {
            let wanted = head.size.saturating_sub(frontier.size()) as usize;
            let new: Vec<Digest> =
                leaves.by_ref().take(wanted).map(|((_, leaf), _)| leaf.hash).collect();
            frontier = frontier.grow(new).frontier();
            if frontier.size() < head.size {
                let (size, has) = (head.size, log.leaves.len());
                let what = format!("the given checkpoint has {size} leaves, the log {has}");
                self.add("truncated", (None, Some(has as u64)), what);
            } else if frontier.root() != head.root {
                self.differs(head.size);
            }
        }
    }

    /// Against every head of a package: all of its records are under one of them.
    fn packed(&mut self, log: &Log, kept: &[&Checkpoint], growths: &[Growth]) {
        for kept in kept {
            for head in log.heads.values() {
                let old = if kept.size <= head.size { kept } else { head };
                let new = if kept.size <= head.size { head } else { kept };
                let path =
                    |it: &&Growth| (&it.log, it.from, it.to) == (&log.id, old.size, new.size);
                let is_one = match growths.iter().find(path) {
                    _ if old.size == new.size => Some(old.root == new.root),
                    Some(Growth { path, .. }) => {
                        let (old, new) = ((old.root, old.size), (new.root, new.size));
                        Some(merkle::verify_consistency(old, new, path))
                    }
                    None => None,
                };
                match is_one {
                    Some(true) => {}
                    Some(false) => self.differs(kept.size),
                    None => {
                        let what = format!(
                            "the package holds nothing that compares its head of {} leaves with the \
                             given checkpoint of {}: it was not compared; export the package with \
                             --checkpoint, of a log that is no shorter",
                            head.size, kept.size
                        );
                        self.add("checkpoint", (None, Some(kept.size)), what);
                    }
                }
            }
            if log.heads.is_empty() {
                let what = "the package holds no head of the log of the given checkpoint: it was not \
                            compared";
                self.add("checkpoint", (None, Some(kept.size)), what);
            }
        }
    }

    fn differs(&mut self, size: u64) {
        let what = format!("its first {size} leaves are not those of the checkpoint");
        self.add("root", (None, Some(size)), what);
    }
}
