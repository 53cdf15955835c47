//! Gathers what goes into a package, as rows of a store.

use std::collections::{BTreeMap, BTreeSet};

use super::Proof;
use super::verify::{Growth, Material};
use crate::domain::custody::{CustodyEntry, CustodySignature};
use crate::domain::digest::Digest;
use crate::domain::log::{Checkpoint, Leaf};
use crate::store::{Cell, Decision, LogKey, RawRow, Table};

/// Takes records out of what goes into a package; it says then that they could not be proven.
pub fn leave_out(material: &mut Material, ids: &BTreeSet<String>) {
    for (table, column) in
        [(Table::Decisions, "id"), (Table::Leaves, "decision"), (Table::Custody, "evidence")]
    {
        let is_out =
            |row: &RawRow| matches!(row.get(column), Some(Cell::Text(id)) if ids.contains(id));
        material.tables.entry(table).or_default().retain(|row| !is_out(row));
    }
    material.proofs.iter_mut().for_each(|proofs| proofs.retain(|id, _| !ids.contains(id)));
    material.unproven.extend(ids.iter().cloned());
}

/// Sources as rows; the empty name owns everyone's.
pub fn source_rows(sources: BTreeMap<(String, Digest), Vec<u8>>) -> Vec<RawRow> {
    let source = |((tenant, digest), blob): ((String, Digest), Vec<u8>)| {
        let digest = bytes(digest.as_bytes());
        row([("tenant", Cell::Text(tenant)), ("digest", digest), ("bytes", Cell::Bytes(blob))])
    };
    sources.into_iter().map(source).collect()
}

/// What goes into a package.
#[derive(Default)]
pub struct Packing {
    logs: Vec<LogKey>,
    records: Vec<(i64, RawRow, RawRow)>,
    heads: BTreeMap<(usize, u64), RawRow>,
    proofs: BTreeMap<String, (u64, Vec<Digest>)>,
    custody: Vec<RawRow>,
    growths: Vec<Growth>,
    without_sources: bool,
    unproven: Vec<String>,
}

fn row<const N: usize>(cells: [(&str, Cell); N]) -> RawRow {
    cells.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect()
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn bytes(bytes: &[u8]) -> Cell {
    Cell::Bytes(bytes.to_vec())
}

impl Packing {
    /// Nothing yet; records of `logs` may follow.
    pub fn of(logs: Vec<LogKey>) -> Packing {
        Packing { logs, ..Packing::default() }
    }

    /// The same without the sources of the records, which it says.
    pub fn without_sources(logs: Vec<LogKey>) -> Packing {
        Packing { logs, without_sources: true, ..Packing::default() }
    }

    /// Adds the proof that a smaller tree is the beginning of a larger one.
    pub fn growth(&mut self, growth: Growth) {
        self.growths.push(growth);
    }

    /// Says of a record that it is not here, since nothing proves it.
    pub fn unproven(&mut self, id: String) {
        self.unproven.push(id);
    }

    /// Adds the custody of a decision, from its second entry on.
    pub fn custody(&mut self, decision: &Decision, entries: &[CustodyEntry]) {
        for entry in entries {
            let Some(CustodySignature { log, bytes: signature }) = &entry.signature else {
                continue;
            };
            self.custody.push(row([
                ("evidence", text(&decision.id)),
                ("seq", Cell::Int(entry.seq.into())),
                ("tenant", text(decision.tenant.as_str())),
                ("at_ms", Cell::Int(entry.act.at_ms)),
                ("action", text(entry.act.action.name())),
                ("actor", text(&entry.act.actor)),
                ("actor_type", text(entry.act.actor_type.name())),
                ("details", text(&entry.act.details)),
                ("previous_hash", bytes(entry.previous.as_bytes())),
                ("hash", bytes(entry.hash.as_bytes())),
                ("log_id", text(log.as_str())),
                ("signature", bytes(signature)),
            ]));
        }
    }

    /// Adds a record, the `sequence`th of its package, with its proof.
    pub fn record(&mut self, sequence: i64, decision: &Decision, proof: Proof) {
        let Proof { leaf: Leaf { index, hash, .. }, checkpoint, path } = proof;
        let Some(number) = self.head(&checkpoint) else { return };
        let leaf = row([
            ("log", Cell::Int(number as i64)),
            ("place", Cell::Int(index.cast_signed())),
            ("hash", bytes(hash.as_bytes())),
            ("decision", text(&decision.id)),
            ("tenant", text(decision.tenant.as_str())),
        ]);
        let kept = row([
            ("sequence", Cell::Int(sequence)),
            ("id", text(&decision.id)),
            ("tenant", text(decision.tenant.as_str())),
            ("request_id", text(decision.request_id.as_str())),
            ("at_ms", Cell::Int(decision.at_ms)),
            ("policy", text(decision.policy.as_str())),
            ("revision", text(&decision.revision)),
            ("action", text(decision.action.name())),
            ("complete", Cell::Int(decision.complete.into())),
            ("record", text(&decision.record)),
        ]);
        self.proofs.insert(decision.id.clone(), (checkpoint.size, path));
        self.records.push((sequence, leaf, kept));
    }

    /// Adds rows of a record as they lie in a store, whatever somebody made of them, with the leaf's path
    /// under `head` of its log.
    pub fn stored(
        &mut self,
        (mut leaf, record): (RawRow, RawRow),
        custody: Vec<RawRow>,
        (head, path): (&Checkpoint, Vec<Digest>),
    ) {
        let Some(number) = self.head(head) else { return };
        leaf.insert("log".into(), Cell::Int(number as i64));
        if let Some(Cell::Text(id)) = record.get("id") {
            self.proofs.insert(id.clone(), (head.size, path));
        }
        let sequence = match record.get("sequence") {
            Some(Cell::Int(sequence)) => *sequence,
            _ => i64::MIN,
        };
        self.records.push((sequence, leaf, record));
        self.custody.extend(custody);
    }

    /// Adds a head of one of the logs; the number of the log.
    pub fn head(&mut self, head: &Checkpoint) -> Option<usize> {
        let number = self.logs.iter().position(|known| known.log == head.log)?;
        let row = row([
            ("log", Cell::Int(number as i64)),
            ("size", Cell::Int(head.size.cast_signed())),
            ("root", bytes(head.root.as_bytes())),
            ("at_ms", Cell::Int(head.at_ms)),
            ("signature", bytes(&head.signature)),
        ]);
        self.heads.insert((number, head.size), row);
        Some(number)
    }

    /// All of it, ready to be packed.
    pub fn material(mut self) -> Material {
        self.records.sort_by_key(|(sequence, ..)| *sequence);
        let log = |(number, log): (i64, LogKey)| {
            row([
                ("number", Cell::Int(number)),
                ("id", text(log.log.as_str())),
                ("public_key", bytes(&log.public_key)),
                ("since_ms", Cell::Int(log.since_ms)),
            ])
        };
        let (leaves, records) =
            self.records.into_iter().map(|(_, leaf, record)| (leaf, record)).unzip();
        let tables = BTreeMap::from([
            (Table::Logs, (0..).zip(self.logs).map(log).collect()),
            (Table::Leaves, leaves),
            (Table::Checkpoints, self.heads.into_values().collect()),
            (Table::Decisions, records),
            (Table::Sources, Vec::new()),
            (Table::Custody, self.custody),
        ]);
        let Self { proofs, growths, without_sources, unproven, .. } = self;
        let proofs = Some(proofs);
        Material { tables, proofs, growths, without_sources, unproven, has_gaps: true }
    }
}
