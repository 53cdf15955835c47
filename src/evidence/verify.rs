//! Whether what is stored, or packed, is what was recorded and signed. Nothing of it is believed:
//! every fault is named by record and place, and the search goes on.
//!
//! What nobody outside has seen can be replaced whole, key and all: a checkpoint or a key that was
//! kept elsewhere finds that.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::merkle;
use crate::domain::digest::Digest;
use crate::domain::log::{Checkpoint, LogId};
use crate::seal::is_signed;
use crate::store::{Cell, RawRow, RawTables, Table};

mod heads;
mod purge;
mod tree;

use purge::Purges;

/// What is verified.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// Rows.
    pub tables: RawTables,
    /// Of a package, which holds a part of a log: the audit path of each record, by its id, and the
    /// size that it leads to. `None` where the logs are whole.
    pub proofs: Option<BTreeMap<String, (u64, Vec<Digest>)>>,
    /// The numbers of records have gaps, as a database leaves them.
    pub has_gaps: bool,
    /// Of a package: that smaller trees are the beginning of larger ones.
    pub growths: Vec<Growth>,
    /// Of a package: that it was given away without sources, as it says itself.
    pub without_sources: bool,
    /// Of a package: the ids of records that its store held and could not prove.
    pub unproven: Vec<String>,
}

/// The proof that a log of `from` leaves grew into one of `to` (RFC 9162, 2.1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// Which log.
    pub log: LogId,
    /// Leaves before.
    pub from: u64,
    /// Leaves afterwards.
    pub to: u64,
    /// The hashes.
    pub path: Vec<Digest>,
}

/// What is known from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// Heads that were kept.
    pub heads: Vec<Checkpoint>,
    /// The only logs that may be there, by their keys.
    pub keys: Option<BTreeSet<[u8; 32]>>,
    /// Each of them must be there, where whole logs are verified.
    pub are_all: bool,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// `altered`, `missing`, `added`, `order`, `signature`, `root`, `key`, `truncated`, `unreadable`,
    /// `source`, `emptied`, `checkpoint` or `package`.
    pub kind: &'static str,
    /// The record that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its place in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// For people.
    pub what: String,
}

impl Problem {
    /// The record that is not what its log says, or has no place there.
    pub fn of_record(&self) -> Option<&str> {
        let is_of = match self.kind {
            "unreadable" | "root" | "missing" | "added" => true,
            // Of custody no place is told.
            "altered" => self.index.is_some(),
            _ => false,
        };
        self.id.as_deref().filter(|_| is_of)
    }
}

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Logs.
    pub logs: u64,
    /// Leaves.
    pub leaves: u64,
    /// Records, those that are gone left out.
    pub records: u64,
    /// Records whose purge is proven.
    pub purged: u64,
    /// Signed heads.
    pub checkpoints: u64,
    /// Logs whose keys had to be believed, since none are known from elsewhere.
    pub unvouched: u64,
    /// Sources.
    pub sources: u64,
    /// What was not looked at, and is no fault.
    pub notes: Vec<String>,
    /// Faults; empty where all is well.
    pub problems: Vec<Problem>,
}

/// What is said of a record whose hash is not that of its leaf.
pub const ALTERED: &str = "its body or its leaf is not what was recorded";

/// What is said of a log that a key of the service names and the store lacks: nothing tells whether it
/// ever had a record.
pub fn not_here(log: &str) -> String {
    format!(
        "log {log} of the service's own keys is not here: if it had records, they were taken away"
    )
}

/// Verifies all of it.
pub fn verify(material: &Material, outside: &Outside) -> Verified {
    let mut found = Found::default();
    let mut logs = found.logs(material, outside);
    found.leaves(material, &mut logs);
    found.heads(material, &mut logs);
    for log in logs.values() {
        match &material.proofs {
            None => found.tree(log, material),
            Some(proofs) => found.paths(log, proofs),
        }
    }
    found.strays(&logs, material);
    found.outside(&logs, outside, material);
    found.records(material, &logs, outside);
    found.sources(material);
    found.0.problems.extend(super::custody::problems(material));
    found.0.problems.sort();
    found.0.problems.dedup();
    found.0
}

struct Log {
    number: i64,
    id: LogId,
    key: [u8; 32],
    leaves: BTreeMap<u64, Leaf>,
    heads: BTreeMap<u64, Checkpoint>,
}

struct Leaf {
    hash: Digest,
    decision: String,
    tenant: String,
}

#[derive(Default)]
struct Found(Verified);

pub(crate) fn int(row: &RawRow, column: &str) -> Option<i64> {
    match row.get(column)? {
        Cell::Int(number) => Some(*number),
        Cell::Null | Cell::Text(_) | Cell::Bytes(_) => None,
    }
}

pub(crate) fn text<'a>(row: &'a RawRow, column: &str) -> Option<&'a str> {
    match row.get(column)? {
        Cell::Text(text) => Some(text),
        Cell::Null | Cell::Int(_) | Cell::Bytes(_) => None,
    }
}

pub(crate) fn bytes<const N: usize>(row: &RawRow, column: &str) -> Option<[u8; N]> {
    match row.get(column)? {
        Cell::Bytes(bytes) => bytes.as_slice().try_into().ok(),
        Cell::Null | Cell::Int(_) | Cell::Text(_) => None,
    }
}

pub(super) fn whole(row: &RawRow, column: &str) -> Option<u64> {
    u64::try_from(int(row, column)?).ok()
}

pub(super) fn rows(material: &Material, table: Table) -> impl Iterator<Item = &RawRow> {
    material.tables.get(&table).into_iter().flatten()
}

impl Found {
    fn add(
        &mut self,
        kind: &'static str,
        at: (Option<&str>, Option<u64>),
        what: impl Into<String>,
    ) {
        let id = at.0.map(str::to_owned);
        self.0.problems.push(Problem { kind, id, index: at.1, what: what.into() });
    }

    fn logs(&mut self, material: &Material, outside: &Outside) -> BTreeMap<i64, Log> {
        let mut logs = BTreeMap::new();
        for row in rows(material, Table::Logs) {
            self.0.logs += 1;
            let read = (int(row, "number"), text(row, "id").and_then(LogId::parse));
            let (Some(number), Some(id), Some(key)) = (read.0, read.1, bytes(row, "public_key"))
            else {
                self.add("unreadable", (None, None), "a log cannot be read");
                continue;
            };
            if LogId::of(&key) != id {
                let what =
                    format!("the key of log {} is not the one it is named after", id.as_str());
                self.add("key", (None, None), what);
            }
            if outside.keys.as_ref().is_some_and(|keys| !keys.contains(&key)) {
                let what = format!(
                    "nobody vouches for the key of log {}: name it by --keys, or in \
                     evidence.known_keys of the service, if it is yours; the service's present key \
                     vouches only where it is at hand",
                    id.as_str()
                );
                self.add("key", (None, None), what);
            }
            let (leaves, heads) = (BTreeMap::new(), BTreeMap::new());
            logs.insert(number, Log { number, id, key, leaves, heads });
        }
        self.vouched(&logs, material, outside);
        logs
    }

    fn vouched(&mut self, logs: &BTreeMap<i64, Log>, material: &Material, outside: &Outside) {
        let Some(keys) = &outside.keys else {
            self.0.unvouched = self.0.logs;
            return;
        };
        // A package holds those that its records need.
        let wanted = keys.iter().filter(|_| material.proofs.is_none());
        for key in wanted.filter(|key| !logs.values().any(|log| log.key == **key)) {
            let log = LogId::of(key);
            let log = log.as_str();
            let mut custody = rows(material, Table::Custody);
            if outside.are_all {
                self.add(
                    "missing",
                    (None, None),
                    format!("log {log} of the given keys is not here"),
                );
            } else if custody.any(|row| text(row, "log_id") == Some(log)) {
                let what = format!(
                    "log {log} of the service's own keys is not here, and its key signed custody"
                );
                self.add("missing", (None, None), what);
            } else {
                self.0.notes.push(not_here(log));
            }
        }
    }

    fn leaves(&mut self, material: &Material, logs: &mut BTreeMap<i64, Log>) {
        for row in rows(material, Table::Leaves) {
            self.0.leaves += 1;
            let (decision, place) = (text(row, "decision"), whole(row, "place"));
            let at = (decision, place);
            let hash = bytes(row, "hash").map(Digest::from_bytes);
            let read = (decision, place, hash, text(row, "tenant"));
            let (Some(decision), Some(place), Some(hash), Some(tenant)) = read else {
                self.add("unreadable", at, "a leaf cannot be read");
                continue;
            };
            let log = int(row, "log").and_then(|number| logs.get_mut(&number));
            let Some(log) = log else {
                self.add("added", at, "a leaf belongs to no log");
                continue;
            };
            let leaf = Leaf { hash, decision: decision.to_owned(), tenant: tenant.to_owned() };
            if log.leaves.insert(place, leaf).is_some() {
                self.add("added", at, "two leaves have the same place");
            }
        }
    }

    fn heads(&mut self, material: &Material, logs: &mut BTreeMap<i64, Log>) {
        for row in rows(material, Table::Checkpoints) {
            self.0.checkpoints += 1;
            let log = int(row, "log").and_then(|number| logs.get_mut(&number));
            let size = whole(row, "size");
            let read = (bytes(row, "root"), int(row, "at_ms"), bytes(row, "signature"));
            let (Some(log), Some(size), (Some(root), Some(at_ms), Some(signature))) =
                (log, size, read)
            else {
                self.add("unreadable", (None, size), "a checkpoint cannot be read");
                continue;
            };
            let root = Digest::from_bytes(root);
            let head = Checkpoint { log: log.id.clone(), size, root, at_ms, signature };
            if !is_signed(&log.key, head.text().as_bytes(), &signature) {
                let what = format!("the checkpoint of {size} leaves does not bear its signature");
                self.add("signature", (None, Some(size)), what);
                continue;
            }
            if let Some(other) = log.heads.insert(size, head) {
                let differ = if other.root == root { "" } else { " and differ" };
                let what = format!("two checkpoints of {size} leaves are signed{differ}");
                self.add("checkpoint", (None, Some(size)), what);
            }
        }
    }

    /// The audit path of every leaf of a package, under the one head that it has of each log: two that
    /// are signed could contradict each other.
    fn paths(&mut self, log: &Log, proofs: &BTreeMap<String, (u64, Vec<Digest>)>) {
        if log.heads.len() > 1 {
            let what = format!(
                "the package holds {} checkpoints of log {}, and may hold one",
                log.heads.len(),
                log.id.as_str()
            );
            self.add("package", (None, None), what);
        }
        for (place, leaf) in &log.leaves {
            let at = (Some(leaf.decision.as_str()), Some(*place));
            let proof = proofs.get(&leaf.decision);
            let head = proof.and_then(|(size, path)| Some((log.heads.get(size)?, path)));
            match head {
                None => {
                    let what = "no proof leads from the record to a signed checkpoint";
                    self.add("missing", at, what);
                }
                Some((head, path)) => {
                    let tree = (head.root, head.size);
                    if !merkle::verify_inclusion((leaf.hash, *place), tree, path) {
                        self.add("root", at, "its proof does not lead to the signed root");
                    }
                }
            }
        }
    }

    fn records(&mut self, material: &Material, logs: &BTreeMap<i64, Log>, outside: &Outside) {
        let purges = Purges::of(material, outside);
        let mut decisions: BTreeMap<&str, &RawRow> = BTreeMap::new();
        for row in rows(material, Table::Decisions) {
            match text(row, "id") {
                Some(id) if decisions.insert(id, row).is_none() => {}
                Some(id) => self.add("added", (Some(id), None), "two records have this id"),
                None => self.add("unreadable", (None, None), "a record cannot be read"),
            }
        }
        let is_whole = material.proofs.is_none();
        for log in logs.values() {
            let mut last = i64::MIN;
            for (place, leaf) in &log.leaves {
                let at = (Some(leaf.decision.as_str()), Some(*place));
                let Some(row) = decisions.remove(leaf.decision.as_str()) else {
                    self.add("missing", at, "its record is missing");
                    continue;
                };
                let sequence = int(row, "sequence").unwrap_or_default();
                // One log fills a file without gaps.
                let is_full = is_whole && !material.has_gaps && logs.len() == 1;
                let expected = i64::try_from(*place).ok().and_then(|place| place.checked_add(1));
                if (is_full && Some(sequence) != expected) || sequence <= last {
                    self.add(
                        "order",
                        at,
                        format!("its number {sequence} is not that of its place"),
                    );
                }
                last = sequence;
                if matches!(row.get("record"), Some(Cell::Text(record)) if record.is_empty()) {
                    match purges.fault(row, (&log.id, &leaf.tenant)) {
                        None => self.0.purged += 1,
                        Some((kind, what)) => self.add(kind, at, what),
                    }
                    continue;
                }
                if purges.speaks_of(row, (&log.id, &leaf.tenant)) {
                    self.add("altered", at, "its purge is on record, and it is there again");
                }
                self.record(row, leaf, at);
            }
        }
        for id in decisions.into_keys() {
            self.add("added", (Some(id), None), "the record is in no log");
        }
    }

    fn record(&mut self, row: &RawRow, leaf: &Leaf, at: (Option<&str>, Option<u64>)) {
        let record = match row.get("record") {
            Some(Cell::Text(record)) => record,
            _ => return self.add("unreadable", at, "its body cannot be read"),
        };
        self.0.records += 1;
        if merkle::leaf_hash(record.as_bytes()) != leaf.hash {
            self.add("altered", at, ALTERED);
        }
        let Ok(body) = serde_json::from_str::<Value>(record) else {
            return self.add("unreadable", at, "its body is no JSON");
        };
        let said = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
        for (column, pointer) in [
            ("id", "/id"),
            ("tenant", "/tenant"),
            ("request_id", "/request_id"),
            ("policy", "/policy"),
            ("revision", "/revision"),
            ("action", "/verdict/action"),
        ] {
            if text(row, column) != said(pointer) {
                self.add("altered", at, format!("`{column}` is not what its body says"));
            }
        }
        if said("/tenant") != Some(&leaf.tenant) {
            self.add("altered", at, "its leaf names another tenant");
        }
        let time = said("/at").and_then(|at| at.parse::<jiff::Timestamp>().ok());
        if int(row, "at_ms") != time.map(jiff::Timestamp::as_millisecond) {
            self.add("altered", at, "`at_ms` is not what its body says");
        }
        let complete = body.pointer("/coverage/complete").and_then(Value::as_bool);
        if int(row, "complete") != complete.map(i64::from) {
            self.add("altered", at, "`complete` is not what its body says");
        }
    }

    fn sources(&mut self, material: &Material) {
        for row in rows(material, Table::Sources) {
            self.0.sources += 1;
            let digest = bytes(row, "digest").map(Digest::from_bytes);
            let is_own = match row.get("bytes") {
                Some(Cell::Bytes(bytes)) => digest == Some(Digest::of(bytes)),
                _ => false,
            };
            if !is_own {
                let name = digest.map(|digest| digest.hex()).unwrap_or_default();
                self.add("source", (None, None), format!("the source {name} is another one"));
            }
        }
    }
}
