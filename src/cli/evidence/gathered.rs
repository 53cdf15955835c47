//! A tenant's records as they lie in a store, with what proves them. A row that cannot be read is a fault
//! of its record and ends nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::{Checkpoint, LogId};
use crate::evidence::packing::Packing;
use crate::evidence::verify::{ALTERED, Problem, bytes, int, not_here, text};
use crate::evidence::{merkle, proof};
use crate::store::{Kept, LogKey, Part, RawRow, RawTables, StoreError, Table};

/// Records read at once.
const ROWS: u32 = 500;

/// Public keys that are believed; every one where there is none.
pub(super) type Keys = Option<BTreeSet<[u8; 32]>>;

/// Which records.
pub(super) struct Wanted<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) id: Option<&'a str>,
    pub(super) since: Option<i64>,
    pub(super) until: Option<i64>,
}

impl Wanted<'_> {
    fn is_met(&self, row: &RawRow) -> bool {
        let Wanted { since, until, .. } = self;
        // What has no time that can be read is named, whatever was asked for.
        int(row, "at_ms").is_none_or(|at| {
            since.is_none_or(|since| at >= since) && until.is_none_or(|until| at < until)
        })
    }
}

/// A log and the newest head that it signed.
pub(super) struct Head {
    pub(super) key: LogKey,
    pub(super) head: Option<Checkpoint>,
    number: i64,
}

/// The logs of a store that are believed.
#[derive(Default)]
pub(super) struct Heads {
    pub(super) believed: Vec<Head>,
    /// Numbers of the others.
    strange: BTreeSet<i64>,
    /// What is wrong.
    pub(super) faults: Vec<String>,
    /// What may be.
    pub(super) notes: Vec<String>,
}

impl Heads {
    /// Of `kept`, by those of `own` keys.
    pub(super) fn of(kept: &Kept, own: &Keys) -> Result<Heads, StoreError> {
        let mut tables = kept.raw_heads()?;
        let heads = tables.remove(&Table::Checkpoints).unwrap_or_default();
        let mut all = Heads::default();
        for row in tables.remove(&Table::Logs).unwrap_or_default() {
            let log = text(&row, "id").and_then(LogId::parse);
            let read = (int(&row, "number"), log, bytes(&row, "public_key"));
            let (Some(number), Some(log), Some(public_key)) = read else {
                all.faults.push("a log cannot be read: it is left out".into());
                continue;
            };
            let since_ms = int(&row, "since_ms").unwrap_or_default();
            let key = LogKey { log, public_key, since_ms };
            if own.as_ref().is_some_and(|own| !own.contains(&public_key)) {
                all.strange.insert(number);
                all.faults.push(stranger(&key));
                continue;
            }
            let rows = heads.iter().filter(|row| int(row, "log") == Some(number));
            let (head, unsigned) = newest(&key, rows);
            if unsigned > 0 {
                let log = key.log.as_str();
                all.faults.push(format!(
                    "the newest {unsigned} checkpoints of log {log} do not bear its signature"
                ));
            }
            all.believed.push(Head { key, head, number });
        }
        let is_here = |key: &&[u8; 32]| all.believed.iter().any(|log| log.key.public_key == **key);
        let absent = own.iter().flatten().filter(|key| !is_here(key));
        all.notes = absent.map(|key| not_here(LogId::of(key).as_str())).collect();
        Ok(all)
    }

    /// That of a log, by its number.
    fn at(&self, number: i64) -> Option<&Head> {
        self.believed.iter().find(|log| log.number == number)
    }

    /// Their keys, for a package.
    pub(super) fn keys(&self) -> Vec<LogKey> {
        self.believed.iter().map(|log| log.key.clone()).collect()
    }
}

fn stranger(key: &LogKey) -> String {
    let (log, public) = (key.log.as_str(), hex::encode(key.public_key));
    format!(
        "log {log} is left out: its key {public} is neither the service's present one, as far as that is \
         at hand, nor among evidence.known_keys; name it there if it is yours"
    )
}

/// The first that the log signed, and how many come before it; `rows` are newest first.
fn newest<'a>(key: &LogKey, rows: impl Iterator<Item = &'a RawRow>) -> (Option<Checkpoint>, usize) {
    let mut unsigned = 0;
    for row in rows {
        let size = int(row, "size").and_then(|size| u64::try_from(size).ok());
        let read = (size, bytes(row, "root"), int(row, "at_ms"), bytes(row, "signature"));
        if let (Some(size), Some(root), Some(at_ms), Some(signature)) = read {
            let root = Digest::from_bytes(root);
            let head = Checkpoint { log: key.log.clone(), size, root, at_ms, signature };
            if proof::is_own(&head, key) {
                return (Some(head), unsigned);
            }
        }
        unsigned += 1;
    }
    (None, unsigned)
}

type Read<'a> =
    Box<dyn FnMut(&LogId, u8, (u64, u32)) -> Result<Option<Vec<Digest>>, StoreError> + 'a>;

/// What goes through the records of a store.
pub(super) struct Gathering<'a> {
    kept: &'a Kept,
    wanted: &'a Wanted<'a>,
    pub(super) heads: Heads,
    shelf: proof::Shelf<Read<'a>>,
    /// What was logged and was not come upon yet.
    logged: BTreeSet<String>,
    rows: RawTables,
}

/// What cannot be proven.
pub(super) struct Unproven {
    pub(super) id: String,
    pub(super) why: &'static str,
    /// Where it is there.
    pub(super) row: Option<RawRow>,
}

impl<'a> Gathering<'a> {
    /// Leaves are read first, so that what is recorded meanwhile is not missed; heads last, so that they
    /// stand above all records.
    pub(super) fn of(
        kept: &'a Kept,
        wanted: &'a Wanted<'a>,
        own: &Keys,
    ) -> Result<Self, StoreError> {
        let logged = kept.logged(wanted.tenant, wanted.id)?;
        let rows = next(kept, wanted, None)?;
        let heads = Heads::of(kept, own)?;
        let read = move |log: &LogId, level, places| kept.hashes(log, level, places);
        let shelf = proof::Shelf::of(Box::new(read) as Read<'a>);
        Ok(Self { kept, wanted, heads, shelf, logged, rows })
    }

    /// Puts the next records into `packing`, newest first; `None` where there are no more.
    pub(super) fn pack(
        &mut self,
        packing: &mut Packing,
    ) -> Result<Option<Vec<Unproven>>, StoreError> {
        let mut rows = std::mem::take(&mut self.rows);
        let mut of = |table, column: &str| {
            let mut by: BTreeMap<String, Vec<RawRow>> = BTreeMap::new();
            for row in rows.remove(&table).unwrap_or_default() {
                let id = text(&row, column).unwrap_or_default().to_owned();
                by.entry(id).or_default().push(row);
            }
            by
        };
        let (mut leaves, mut custody) =
            (of(Table::Leaves, "decision"), of(Table::Custody, "evidence"));
        let decisions = rows.remove(&Table::Decisions).unwrap_or_default();
        let Some(last) = decisions.iter().filter_map(|row| int(row, "sequence")).min() else {
            return Ok(None);
        };
        let mut unproven = Vec::new();
        for row in decisions {
            let Some(id) = text(&row, "id").map(str::to_owned) else {
                let id = format!("the row with the number {}", int(&row, "sequence").unwrap_or(0));
                unproven.push(Unproven { id, why: "its id cannot be read", row: None });
                continue;
            };
            self.logged.remove(&id);
            if !self.wanted.is_met(&row) {
                continue;
            }
            let leaf = leaves.remove(&id).and_then(|mut leaves| leaves.pop());
            match self.proven(leaf, text(&row, "record"))? {
                Ok((leaf, head, path)) => {
                    let entries = custody.remove(&id).unwrap_or_default();
                    packing.stored((leaf, row), entries, (&head, path));
                }
                Err(why) => unproven.push(Unproven { id, why, row: Some(row) }),
            }
        }
        self.rows = match last {
            // No number is smaller.
            i64::MIN => RawTables::default(),
            _ => next(self.kept, self.wanted, Some(last))?,
        };
        Ok(Some(unproven))
    }

    /// What was logged and has no row, after all are packed. Leaves hold no time: of a part of the time
    /// none is missed.
    pub(super) fn lost(self) -> (Vec<Unproven>, Heads) {
        let Wanted { since, until, .. } = self.wanted;
        let is_part = since.is_some() || until.is_some();
        let why = "it was logged, and its row is missing or of another tenant";
        let lost = self.logged.into_iter().filter(|_| !is_part);
        (lost.map(|id| Unproven { id, why, row: None }).collect(), self.heads)
    }

    /// The way from the leaf of a record to the head of its log, or why there is none.
    fn proven(
        &mut self,
        leaf: Option<RawRow>,
        record: Option<&str>,
    ) -> Result<Result<Proven, &'static str>, StoreError> {
        let Some(leaf) = leaf else { return Ok(Err("it is in no log")) };
        let place = int(&leaf, "place").and_then(|place| u64::try_from(place).ok());
        let read = (int(&leaf, "log"), place, bytes(&leaf, "hash").map(Digest::from_bytes));
        let (Some(number), Some(place), Some(hash)) = read else {
            return Ok(Err("its leaf cannot be read"));
        };
        let is_other = |record: &str| merkle::leaf_hash(record.as_bytes()) != hash;
        if record.is_some_and(|record| !record.is_empty() && is_other(record)) {
            return Ok(Err(ALTERED));
        }
        let Some(log) = self.heads.at(number) else {
            return Ok(Err(match self.heads.strange.contains(&number) {
                true => "it is in a log that is left out",
                false => "its leaf is of a log that has no row in `logs`",
            }));
        };
        let Some(head) = log.head.clone().filter(|head| place < head.size) else {
            return Ok(Err("no signed checkpoint of a log that is vouched for stands above it"));
        };
        let Some(path) = self.shelf.inclusion(place, &head)? else {
            return Ok(Err("hashes of the log are missing"));
        };
        match merkle::verify_inclusion((hash, place), (head.root, head.size), &path) {
            true => Ok(Ok((leaf, head, path))),
            false => Ok(Err("hashes of the log do not lead to the signed root")),
        }
    }

    /// The proof that `tail` grew from so many leaves.
    pub(super) fn grown(
        &mut self,
        leaves: u64,
        tail: &Checkpoint,
    ) -> Result<Option<Vec<Digest>>, StoreError> {
        self.shelf.consistency(leaves, tail)
    }
}

/// The rows of the next records, newest first; empty where there are no more.
fn next(kept: &Kept, wanted: &Wanted<'_>, before: Option<i64>) -> Result<RawTables, StoreError> {
    let (tenant, id) = (wanted.tenant.clone(), wanted.id.map(str::to_owned));
    kept.raw_records(&Part { tenant, id, before, limit: ROWS })
}

type Proven = (RawRow, Checkpoint, Vec<Digest>);

/// The records that are not what was recorded: each is named with its place.
pub(super) fn wrong(problems: &[Problem]) -> BTreeSet<String> {
    let is_wrong = |problem: &&Problem| {
        problem.index.is_some() && matches!(problem.kind, "altered" | "emptied" | "unreadable")
    };
    problems.iter().filter(is_wrong).filter_map(|problem| problem.id.clone()).collect()
}
