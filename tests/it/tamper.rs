//! Whatever somebody changes of what is recorded is found, and named where it speaks of a record.

use std::collections::BTreeMap;
use std::sync::Arc;

use detector_orchestrator::domain::action::Action;
use detector_orchestrator::domain::digest::Digest;
use detector_orchestrator::domain::id::{BundleName, RequestId, TenantId};
use detector_orchestrator::domain::log::{Checkpoint, LogId, Proof};
use detector_orchestrator::evidence::merkle::{self, Frontier};
use detector_orchestrator::evidence::verify::{Material, Outside, Verified};
use detector_orchestrator::evidence::{package, proof};
use detector_orchestrator::orchestrator::verified;
use detector_orchestrator::seal::{Key, Signer};
use detector_orchestrator::settings::Settings;
use detector_orchestrator::snapshot::{Branch, Snapshot, Sources};
use detector_orchestrator::store::{
    Cell, Decision, Decisions as _, Kept, Ledger as _, LogBatch, LogKey, Page, Place, RawRow,
    RawTables, Sources as _, Sqlite, SqliteOptions, Table,
};
use serde_json::json;

use crate::binary::{run, text};
use crate::opa::documents::Dice;

/// Of the store: more than two complete tiles.
const RECORDS: usize = 640;
/// Of the store's log.
pub const KEY: [u8; 32] = [8; 32];
const TENANTS: [&str; 3] = ["acme", "default", "globex"];
/// Tampers in continuous integration; `TAMPERS` names more.
const TAMPERS: usize = 300;

/// The record of that number, and of its tenant.
pub fn decision(at: usize, revision: &str) -> Decision {
    let tenant = TENANTS[at % 3];
    let (id, at_ms) = (format!("record-{at:05}"), 1_700_000_000_000 + at as i64);
    let time = jiff::Timestamp::from_millisecond(at_ms).unwrap();
    let record = json!({"v": 1, "id": id, "tenant": tenant, "request_id": format!("r-{at}"),
        "policy": "standard", "revision": revision, "verdict": {"action": "redact"},
        "coverage": {"complete": at.is_multiple_of(2)}, "n": at,
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()});
    Decision {
        id,
        tenant: TenantId::parse(tenant).unwrap(),
        request_id: RequestId::parse(&format!("r-{at}")).unwrap(),
        at_ms,
        policy: BundleName::parse("standard").unwrap(),
        revision: revision.into(),
        action: Action::Redact,
        complete: at.is_multiple_of(2),
        record: record.to_string(),
        leaf: None,
    }
}

/// A store's file with records in a log and the sources of the shipped files.
pub async fn filled(root: &std::path::Path) -> Arc<Sqlite> {
    detector_orchestrator::assets::write_to(root).unwrap();
    std::fs::create_dir(root.join("data")).unwrap();
    let settings = Settings::default();
    let check = detector_orchestrator::detect::builtin::check;
    let sources = Sources::of(&settings, Some(root), check);
    let snapshot = Snapshot::load(&sources, &settings, None).unwrap();
    let file = root.join("data").join(detector_orchestrator::orchestrator::STORE_FILE);
    let store = Arc::new(Sqlite::open(&SqliteOptions::at(Place::File(file))).unwrap());
    let mut branches = vec![snapshot.branches()];
    while let Some(Branch { blob, below }) = branches.pop() {
        store.put_sources(vec![blob]).await.unwrap();
        branches.extend(below);
    }
    let all: Vec<Decision> = (0..RECORDS).map(|at| decision(at, &snapshot.revision)).collect();
    append(&store, KEY, &mut Frontier::default(), &all).await;
    store
}

/// Adds records to the log of `key`, which has grown to `frontier`.
pub async fn append(store: &Sqlite, key: [u8; 32], frontier: &mut Frontier, all: &[Decision]) {
    let signer = Signer::of(&Key::from_bytes(key)).unwrap();
    let public_key = signer.public_key();
    let log = LogId::of(&public_key);
    store.open_log(LogKey { log: log.clone(), public_key, since_ms: 1 }).await.unwrap();
    for batch in all.chunks(53) {
        let leaf = |one: &Decision| merkle::leaf_hash(one.record.as_bytes());
        let grown = frontier.grow(batch.iter().map(leaf));
        let (size, root) = (grown.size(), grown.root());
        let head = Checkpoint { log: log.clone(), size, root, at_ms: 5, signature: [0; 64] };
        let signature = signer.sign(head.text().as_bytes()).unwrap();
        let decisions = batch.iter().map(|one| (one.clone(), leaf(one))).collect();
        let batch = LogBatch {
            checkpoint: Checkpoint { signature, ..head },
            decisions: Arc::new(decisions),
            nodes: grown.nodes(),
        };
        store.append_batch(Arc::new(batch)).await.unwrap();
        *frontier = grown.frontier();
    }
}

/// A row that is not as it was, and the record that it speaks of.
type Done = (String, Option<String>);

struct Tamperer {
    dice: Dice,
}

fn named(row: &RawRow, column: &str) -> Option<String> {
    match row.get(column) {
        Some(Cell::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

fn number(cell: &Cell) -> i64 {
    let Cell::Int(number) = cell else { panic!("no number: {cell:?}") };
    *number
}

impl Tamperer {
    fn cell(&mut self, cell: &mut Cell) {
        match cell {
            Cell::Null => *cell = Cell::Int(1),
            Cell::Int(number) => *number += 1 + self.dice.below(5) as i64,
            Cell::Text(text) => {
                let at = self.dice.below(text.len());
                let byte = text.as_bytes()[at];
                let other = if byte == b'7' { '8' } else { '7' };
                text.replace_range(at..=at, &other.to_string());
            }
            Cell::Bytes(bytes) => {
                let at = self.dice.below(bytes.len());
                bytes[at] ^= 1 << self.dice.below(8);
            }
        }
    }

    /// Any byte of any column; a log's `since_ms` proves nothing and is left alone.
    fn edit(&mut self, tables: &mut RawTables) -> Done {
        let filled: Vec<Table> =
            Table::ALL.into_iter().filter(|table| !tables[table].is_empty()).collect();
        let table = *self.dice.of(&filled);
        let rows = tables.get_mut(&table).unwrap();
        let at = self.dice.below(rows.len());
        let columns: Vec<String> = rows[at]
            .keys()
            .filter(|name| *name != "since_ms" && !(table == Table::Sources && *name == "tenant"))
            .cloned()
            .collect();
        let column = self.dice.of(&columns).clone();
        let about = match table {
            Table::Decisions => named(&rows[at], "id"),
            Table::Leaves => named(&rows[at], "decision"),
            Table::Logs | Table::Nodes | Table::Checkpoints | Table::Sources | Table::Custody => {
                None
            }
        };
        self.cell(rows[at].get_mut(&column).unwrap());
        (format!("edit {}.{column}", table.name()), about)
    }

    fn pair(&mut self, end: usize) -> (usize, usize) {
        let one = self.dice.below(end);
        (one, (one + 1 + self.dice.below(end - 1)) % end)
    }

    fn swap(&mut self, rows: &mut [RawRow], columns: &[&str]) -> (usize, usize) {
        let (one, other) = self.pair(rows.len());
        for column in columns {
            let (a, b) = (rows[one][*column].clone(), rows[other][*column].clone());
            rows[one].insert((*column).to_owned(), b);
            rows[other].insert((*column).to_owned(), a);
        }
        (one, other)
    }

    fn tamper(&mut self, tables: &mut RawTables) -> Done {
        let kind = self.dice.below(12);
        let decisions = tables.get_mut(&Table::Decisions).unwrap();
        match kind {
            0 => {
                let row = decisions.remove(self.dice.below(RECORDS));
                ("delete record".into(), named(&row, "id"))
            }
            1 => {
                let leaves = tables.get_mut(&Table::Leaves).unwrap();
                let row = leaves.remove(self.dice.below(RECORDS));
                ("delete leaf".into(), named(&row, "decision"))
            }
            2 => {
                let mut row = decisions[self.dice.below(RECORDS)].clone();
                row.insert("id".into(), Cell::Text("record-x".into()));
                row.insert("sequence".into(), Cell::Int(RECORDS as i64 + 1));
                decisions.push(row);
                ("duplicate record".into(), Some("record-x".into()))
            }
            3 => {
                let (one, _) = self.swap(decisions, &["record"]);
                ("swap bodies".into(), named(&decisions[one], "id"))
            }
            4 => self.reorder(tables),
            5 => {
                let at = self.dice.below(RECORDS);
                let old = named(&decisions[at], "tenant").unwrap();
                let other = TENANTS.iter().find(|name| **name != old).unwrap();
                decisions[at].insert("tenant".into(), Cell::Text((*other).into()));
                ("move to another tenant".into(), named(&decisions[at], "id"))
            }
            6 => self.rewrite(tables),
            7 => self.truncate(tables),
            8 => {
                let heads = tables.get_mut(&Table::Checkpoints).unwrap();
                let at = self.dice.below(heads.len());
                let column = *self.dice.of(&["root", "signature"]);
                let Cell::Bytes(bytes) = heads[at].get_mut(column).unwrap() else { panic!() };
                bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
                (format!("replace {column}"), None)
            }
            9 => {
                let key = Signer::of(&Key::random().unwrap()).unwrap().public_key();
                let log = &mut tables.get_mut(&Table::Logs).unwrap()[0];
                log.insert("public_key".into(), Cell::Bytes(key.to_vec()));
                let id = LogId::of(&key).as_str().to_owned();
                log.insert("id".into(), Cell::Text(id));
                ("replace key".into(), None)
            }
            10 => {
                let sources = tables.get_mut(&Table::Sources).unwrap();
                sources.remove(self.dice.below(sources.len()));
                ("delete source".into(), None)
            }
            _ => self.edit(tables),
        }
    }

    fn reorder(&mut self, tables: &mut RawTables) -> Done {
        let decisions = tables.get_mut(&Table::Decisions).unwrap();
        // Whole records in each other's place, numbers and all.
        let (one, other) = self.swap(decisions, &["sequence"]);
        let ids = [one, other].map(|at| named(&decisions[at], "id").unwrap());
        let leaves = tables.get_mut(&Table::Leaves).unwrap();
        let at = |id: &str| leaves.iter().position(|row| named(row, "decision").unwrap() == id);
        let (a, b) = (at(&ids[0]).unwrap(), at(&ids[1]).unwrap());
        let (first, second) = (leaves[a]["place"].clone(), leaves[b]["place"].clone());
        leaves[a].insert("place".into(), second);
        leaves[b].insert("place".into(), first);
        // The first batch that is not as signed is named whole.
        let swapped = number(&leaves[a]["place"]) < number(&leaves[b]["place"]);
        ("reorder".into(), Some(ids[usize::from(!swapped)].clone()))
    }

    /// A record, its leaf and every subtree of it, made anew: only the signature is out of reach.
    fn rewrite(&mut self, tables: &mut RawTables) -> Done {
        let at = self.dice.below(RECORDS);
        let row = &mut tables.get_mut(&Table::Decisions).unwrap()[at];
        let id = named(row, "id").unwrap();
        let body = named(row, "record").unwrap().replace("redact", "allow");
        row.insert("record".into(), Cell::Text(body.clone()));
        row.insert("action".into(), Cell::Text("allow".into()));
        let leaves = tables.get_mut(&Table::Leaves).unwrap();
        leaves.sort_by_key(|row| number(&row["place"]));
        let leaf = leaves.iter_mut().find(|row| named(row, "decision").unwrap() == id).unwrap();
        let hash = merkle::leaf_hash(body.as_bytes());
        leaf.insert("hash".into(), Cell::Bytes(hash.as_bytes().to_vec()));
        let hashes: Vec<_> = leaves
            .iter()
            .map(|row| {
                let Cell::Bytes(bytes) = &row["hash"] else { panic!("no hash") };
                Digest::from_bytes(bytes.as_slice().try_into().unwrap())
            })
            .collect();
        for node in tables.get_mut(&Table::Nodes).unwrap() {
            let Cell::Int(place) = node["place"] else { panic!() };
            let tile = &hashes[place as usize * 256..][..256];
            let hash = merkle::block_hash(tile).unwrap();
            node.insert("hash".into(), Cell::Bytes(hash.as_bytes().to_vec()));
        }
        ("rewrite record and leaf".into(), Some(id))
    }

    /// Back to an earlier head, as if nothing had followed.
    fn truncate(&mut self, tables: &mut RawTables) -> Done {
        let heads = tables.get_mut(&Table::Checkpoints).unwrap();
        let size = |row: &RawRow| number(&row["size"]);
        heads.sort_by_key(size);
        let keep = 1 + self.dice.below(heads.len() - 1);
        let last = size(&heads[keep - 1]);
        heads.truncate(keep);
        let within = |row: &RawRow, column: &str, end: i64| number(&row[column]) < end;
        tables.get_mut(&Table::Leaves).unwrap().retain(|row| within(row, "place", last));
        tables.get_mut(&Table::Decisions).unwrap().retain(|row| within(row, "sequence", last + 1));
        tables.get_mut(&Table::Nodes).unwrap().retain(|row| within(row, "place", last / 256));
        ("truncate".into(), None)
    }
}

/// Whether a problem names the record, or its place.
fn names(found: &Verified, id: &str) -> bool {
    let place: Option<u64> = id.rsplit('-').next().and_then(|digits| digits.parse().ok());
    let about = |problem: &detector_orchestrator::evidence::verify::Problem| {
        problem.id.as_deref() == Some(id) || (place.is_some() && problem.index == place)
    };
    found.problems.iter().any(about)
}

fn tampers() -> usize {
    std::env::var("TAMPERS").map_or(TAMPERS, |number| number.parse().unwrap())
}

#[tokio::test]
async fn every_tamper_of_a_store_is_found_and_its_record_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let file = dir.path().join("data").join(detector_orchestrator::orchestrator::STORE_FILE);
    let tables = Kept::File(file.clone()).raw().unwrap();
    let material = Material { tables, ..Material::default() };
    let last = store_head(&store).await;
    let outside = Outside { heads: vec![last.clone()], ..Outside::default() };
    let clean = verified(&material, &outside);
    assert_eq!(clean.problems, [], "{clean:?}");
    assert_eq!((clean.records, clean.leaves), (RECORDS as u64, RECORDS as u64));
    let mut tamperer = Tamperer { dice: Dice::new(8) };
    let mut mix: BTreeMap<String, usize> = BTreeMap::new();
    for at in 0..tampers() {
        let mut changed = material.clone();
        let (kind, about) = tamperer.tamper(&mut changed.tables);
        assert!(changed.tables != material.tables, "{at}: {kind} changed nothing");
        let found = verified(&changed, &outside);
        assert!(!found.problems.is_empty(), "{at}: {kind} of {about:?} was not found");
        if let Some(id) = about {
            assert!(names(&found, &id), "{at}: {kind}: {id} is not in {:?}", found.problems);
        }
        *mix.entry(kind).or_default() += 1;
    }
    println!("{} tampers, all found: {mix:#?}", tampers());
    by_command(dir.path(), &file, &last);
}

async fn store_head(store: &Sqlite) -> Checkpoint {
    let log = store.logs().await.unwrap().remove(0);
    store.tail(log.log).await.unwrap().unwrap()
}

/// The same through the command, on the file itself.
fn by_command(root: &std::path::Path, file: &std::path::Path, head: &Checkpoint) {
    let keys = text(&run(root, &["evidence", "keys"]).stdout);
    assert!(keys.contains(&format!("\n{}\n", head.size)), "{keys}");
    std::fs::write(root.join("head.txt"), keys).unwrap();
    let verify = || run(root, &["evidence", "verify", "--store", "--checkpoint", "head.txt"]);
    let clean = verify();
    assert_eq!(clean.status.code(), Some(0), "{}", text(&clean.stdout));
    let raw = rusqlite::Connection::open(file).unwrap();
    raw.execute_batch(
        "DROP TRIGGER leaves_keep_rows; DROP TRIGGER checkpoints_keep_rows; DROP TRIGGER nodes_keep_rows;
         DROP TRIGGER decisions_keep_rows;
         DELETE FROM leaves WHERE place >= 1; DELETE FROM decisions WHERE sequence > 1;
         DELETE FROM nodes; DELETE FROM checkpoints WHERE size > 1",
    )
    .unwrap();
    let cut = verify();
    let told = text(&cut.stdout);
    assert_eq!(cut.status.code(), Some(65), "{told}");
    assert!(told.contains("truncated"), "{told}");
}

#[tokio::test]
async fn every_changed_byte_of_a_package_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let page = Page { limit: 1000, before: None };
    let rows = store.decisions(TenantId::parse("acme").unwrap(), page).await.unwrap();
    for row in rows.iter().take(5) {
        let leaf = row.value.leaf.clone().unwrap();
        let Proof { leaf, checkpoint, path } =
            proof::of(store.as_ref(), leaf).await.unwrap().unwrap();
        let root = (checkpoint.root, checkpoint.size);
        assert!(merkle::verify_inclusion((leaf.hash, leaf.index), root, &path));
    }
    drop(store);
    let export = ["evidence", "export", "--tenant", "acme", "acme.jsonl"];
    let output = run(dir.path(), &export);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = run(dir.path(), &["evidence", "verify", "acme.jsonl", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!((output.status.code(), &told["problems"]), (Some(0), &json!([])), "{told}");
    assert_eq!(told["records"], rows.len());
    let packed = std::fs::read_to_string(dir.path().join("acme.jsonl")).unwrap();
    for tenant in ["globex", "record-00001"] {
        assert!(!packed.contains(tenant), "it holds something of another tenant");
    }
    let verify = |text: &str| {
        let (material, mut problems) = package::unpack(text);
        let mut found = verified(&material, &Outside::default());
        found.problems.append(&mut problems);
        found
    };
    let mut dice = Dice::new(9);
    let lines: Vec<&str> = packed.lines().collect();
    for at in 0..tampers() / 10 {
        let mut bytes = packed.clone().into_bytes();
        let place = dice.below(bytes.len() - 1);
        bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
        if let Ok(text) = String::from_utf8(bytes) {
            assert!(!verify(&text).problems.is_empty(), "{at}: byte {place}");
        }
        let cut = 1 + dice.below(lines.len() - 2);
        let mut fewer = lines.clone();
        let gone = fewer.remove(cut);
        let found = verify(&format!("{}\n", fewer.join("\n")));
        assert!(!found.problems.is_empty(), "{at}: line {cut}");
        if gone.contains("\"table\":\"decisions\"") {
            let row: serde_json::Value = serde_json::from_str(gone).unwrap();
            assert!(names(&found, row["row"]["id"].as_str().unwrap()), "{gone}");
        }
    }
}
