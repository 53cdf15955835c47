//! Packages: one tenant's records with everything that proves them, as lines of JSON.
//!
//! The first line lists what follows, the last one holds the SHA-256 of all lines before it, so that
//! a line that was taken out is missed.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::verify::{Growth, Material, Problem};
use crate::domain::digest::Digest;
use crate::domain::log::LogId;
use crate::store::{Cell, RawRow, RawTables, Table};

/// The form of packages.
const FORM: u64 = 1;

/// What lines hold.
const KEYS: [&[&str]; 4] = [
    &["package", "tenant", "at", "on_record", "records", "unproven", "sources"],
    &["table", "row"],
    &["proof", "size", "path"],
    &["growth", "from", "to", "path"],
];

/// Writes `material`, which must hold proofs, as a package.
pub fn pack(material: &Material, tenant: &str, at: &str) -> String {
    let ids: Vec<&str> = material
        .tables
        .get(&Table::Leaves)
        .into_iter()
        .flatten()
        .filter_map(|row| match row.get("decision") {
            Some(Cell::Text(id)) => Some(id.as_str()),
            _ => None,
        })
        .collect();
    let on_record = ids.len() + material.unproven.len();
    let head = json!({"package": FORM, "tenant": tenant, "at": at, "on_record": on_record,
        "records": ids, "unproven": material.unproven, "sources": !material.without_sources});
    let mut lines = vec![head.to_string()];
    for (table, rows) in &material.tables {
        let line = |row: &RawRow| json!({"table": table.name(), "row": shown(row)}).to_string();
        lines.extend(rows.iter().map(line));
    }
    for (id, (size, path)) in material.proofs.iter().flatten() {
        let path: Vec<String> = path.iter().map(|hash| hash.hex()).collect();
        lines.push(json!({"proof": id, "size": size, "path": path}).to_string());
    }
    for Growth { log, from, to, path } in &material.growths {
        let path: Vec<String> = path.iter().map(|hash| hash.hex()).collect();
        lines.push(json!({"growth": log, "from": from, "to": to, "path": path}).to_string());
    }
    let body = lines.join("\n");
    let end = json!({"lines": lines.len(), "sha256": Digest::of(body.as_bytes()).hex()});
    format!("{body}\n{end}\n")
}

/// Reads a package; what cannot be read is named, the rest is given.
pub fn unpack(text: &str) -> (Material, Vec<Problem>) {
    let mut reading = Reading::default();
    let body = text.strip_suffix('\n').unwrap_or(text);
    let (body, end) = body.rsplit_once('\n').unwrap_or(("", body));
    reading.end(body, end);
    for (at, line) in (1..).zip(body.lines()) {
        match serde_json::from_str::<Value>(line) {
            Ok(read) if !is_as_written(&read, line) => {
                reading.fault(format!(
                    "line {at} is not as a package is written: a key is there twice, or it was written anew"
                ));
            }
            Ok(Value::Object(line)) => reading.line(at, &line),
            _ => reading.fault(format!("line {at} cannot be read")),
        }
    }
    reading.finish()
}

/// Whether `line` says `read` as a package does: of a key that is there twice one reader takes this,
/// another that.
fn is_as_written(read: &Value, line: &str) -> bool {
    let again = read.to_string();
    again == line
}

#[derive(Default)]
struct Reading {
    tables: RawTables,
    proofs: BTreeMap<String, (u64, Vec<Digest>)>,
    growths: Vec<Growth>,
    listed: Option<Vec<String>>,
    tenant: Option<String>,
    unproven: Vec<String>,
    without_sources: bool,
    problems: Vec<Problem>,
}

impl Reading {
    fn fault(&mut self, what: String) {
        self.problems.push(Problem { kind: "package", id: None, index: None, what });
    }

    fn end(&mut self, body: &str, end: &str) {
        let written = end;
        let end: Value = serde_json::from_str(written).unwrap_or_default();
        if !is_as_written(&end, written) {
            self.fault("the last line is not as a package is written".into());
        }
        let digest = Digest::of(body.as_bytes()).hex();
        if end.get("sha256").and_then(Value::as_str) != Some(&digest) {
            self.fault("the package does not end with the digest of its lines".into());
        }
        if let Some(end) = end.as_object() {
            self.unheard("the last line", end, &[&["lines", "sha256"]]);
        }
        let lines = end.get("lines").and_then(Value::as_u64);
        if lines != Some(body.lines().count() as u64) {
            self.fault("the package does not hold as many lines as it says".into());
        }
    }

    fn line(&mut self, at: u64, line: &Map<String, Value>) {
        let name = |key: &str| line.get(key).and_then(Value::as_str);
        self.unheard(&format!("line {at}"), line, &KEYS);
        if line.contains_key("package") && at > 1 {
            self.fault(format!("line {at} is a head, which only the first may be"));
        } else if line.contains_key("package") {
            self.head(line);
        } else if let Some(table) = name("table") {
            let mut packed = Table::ALL.into_iter().filter(|table| *table != Table::Nodes);
            let table = packed.find(|known| known.name() == table);
            let row = line.get("row").and_then(Value::as_object);
            match table.zip(row).and_then(|(table, row)| Some((table, row, read(row)?))) {
                Some((table, row, cells)) => {
                    self.unheard(&format!("the row in line {at}"), row, &[table.columns()]);
                    self.tables.entry(table).or_default().push(cells);
                }
                None => self.fault(format!("line {at} is no row")),
            }
        } else if let Some(id) = name("proof") {
            match line.get("size").and_then(Value::as_u64).zip(path(line)) {
                Some(proof) => {
                    if self.proofs.insert(id.to_owned(), proof).is_some() {
                        self.fault(format!("line {at} is the second proof of {id}"));
                    }
                }
                None => self.fault(format!("line {at} is no proof")),
            }
        } else if let Some(log) = name("growth").and_then(LogId::parse) {
            let size = |key: &str| line.get(key).and_then(Value::as_u64);
            match (size("from"), size("to"), path(line)) {
                (Some(from), Some(to), Some(path)) => {
                    self.growths.push(Growth { log, from, to, path });
                }
                (_, _, _) => self.fault(format!("line {at} is no proof of growth")),
            }
        } else {
            self.fault(format!("line {at} is nothing known"));
        }
    }

    /// Keys that are in none of `known`, or not together in one: nobody reads what they say.
    fn unheard(&mut self, place: &str, object: &Map<String, Value>, known: &[&[&str]]) {
        let is_one = |keys: &&[&str]| object.keys().all(|key| keys.contains(&key.as_str()));
        if !known.iter().any(is_one) {
            self.fault(format!("{place} has keys that no package has there"));
        }
    }

    fn head(&mut self, line: &Map<String, Value>) {
        let ids = |key: &str| -> Option<Vec<String>> {
            line.get(key).cloned().and_then(|list| serde_json::from_value(list).ok())
        };
        self.listed = ids("records");
        self.unproven = ids("unproven").unwrap_or_default();
        self.tenant = line.get("tenant").and_then(Value::as_str).map(str::to_owned);
        self.without_sources = line.get("sources") == Some(&Value::Bool(false));
        if line.get("package").and_then(Value::as_u64) != Some(FORM) {
            self.fault("the package is of another form".into());
        }
        if !line.get("sources").is_none_or(Value::is_boolean) {
            self.fault("the package does not say whether it has sources".into());
        }
        let held = self.listed.as_ref().map_or(0, Vec::len) + self.unproven.len();
        // Earlier releases did not say.
        let on_record = line.get("on_record");
        if let Some(said) = on_record.filter(|said| said.as_u64() != Some(held as u64)) {
            self.fault(format!("its store held {said} records, and the package speaks of {held}"));
        }
    }

    /// Whatever it holds of another tenant than its head says, and the head where it says none.
    fn strangers(&mut self) {
        let Some(tenant) = self.tenant.clone().map(Cell::Text) else {
            return self.fault("the package does not say whose it is".into());
        };
        for (table, id) in
            [(Table::Decisions, "id"), (Table::Leaves, "decision"), (Table::Custody, "evidence")]
        {
            let rows = self.tables.get(&table).into_iter().flatten();
            for row in rows.filter(|row| row.get("tenant") != Some(&tenant)) {
                let what = format!("a row of {} is not of the package's tenant", table.name());
                let id = match row.get(id) {
                    Some(Cell::Text(id)) => Some(id.clone()),
                    _ => None,
                };
                self.problems.push(Problem { kind: "package", id, index: None, what });
            }
        }
        let everyone = Cell::Text(String::new());
        let sources = self.tables.get(&Table::Sources).into_iter().flatten();
        let owners = sources.map(|row| row.get("tenant").unwrap_or(&Cell::Null));
        let others = owners.filter(|owner| **owner != tenant && **owner != everyone).count();
        if others > 0 {
            self.fault(format!("{others} rows of sources are not of the package's tenant"));
        }
    }

    /// Whatever it holds twice that a store holds once.
    fn doubles(&mut self) {
        let keys: [(Table, &[&str]); 6] = [
            (Table::Logs, &["number"]),
            (Table::Logs, &["id"]),
            (Table::Leaves, &["decision"]),
            (Table::Checkpoints, &["log", "size"]),
            (Table::Sources, &["tenant", "digest"]),
            (Table::Custody, &["evidence", "seq"]),
        ];
        for (table, columns) in keys {
            let mut seen = BTreeSet::new();
            let key = |row: &RawRow| shown_key(row, columns);
            let rows = self.tables.get(&table).into_iter().flatten();
            let doubles = rows.filter(|row| !seen.insert(key(row))).count();
            if doubles > 0 {
                let (name, columns) = (table.name(), columns.join(" and "));
                self.fault(format!(
                    "{doubles} rows of {name} have the {columns} of another, and each may be there once"
                ));
            }
        }
    }

    /// Whether its head lists what it holds, and its proofs are of that.
    fn contents(&mut self) {
        let leaves = self.tables.get(&Table::Leaves).into_iter().flatten();
        let read = |row: &RawRow| match row.get("decision") {
            Some(Cell::Text(id)) => Some(id.clone()),
            _ => None,
        };
        let held: BTreeSet<String> = leaves.filter_map(read).collect();
        let strays = self.proofs.keys().filter(|id| !held.contains(*id)).count();
        if strays > 0 {
            self.fault(format!("{strays} proofs are of no record of the package"));
        }
        let Some(listed) = self.listed.take() else {
            return self.fault("the package does not say what it holds".into());
        };
        let count = listed.len();
        let listed: BTreeSet<String> = listed.into_iter().collect();
        if listed.len() < count {
            self.fault("the package lists a record twice".into());
        }
        let mut differ = |kind, ids: Vec<&String>, what: &str| {
            for id in ids {
                let (id, what) = (Some(id.clone()), what.to_owned());
                self.problems.push(Problem { kind, id, index: None, what });
            }
        };
        let lacks = "the package lists the record and does not hold it";
        differ("missing", listed.difference(&held).collect(), lacks);
        let more = "the package holds the record and does not list it";
        differ("package", held.difference(&listed).collect(), more);
    }

    fn finish(mut self) -> (Material, Vec<Problem>) {
        self.strangers();
        self.doubles();
        for id in self.unproven.clone() {
            let what = "its store held the record and could not prove it".to_owned();
            self.problems.push(Problem { kind: "missing", id: Some(id), index: None, what });
        }
        self.contents();
        let material = Material {
            tables: self.tables,
            proofs: Some(self.proofs),
            growths: self.growths,
            without_sources: self.without_sources,
            unproven: self.unproven,
            has_gaps: true,
        };
        (material, self.problems)
    }
}

/// What `columns` of a row hold, as far as rows differ by it.
fn shown_key(row: &RawRow, columns: &[&str]) -> String {
    format!("{:?}", columns.iter().map(|column| row.get(*column)).collect::<Vec<_>>())
}

fn path(line: &Map<String, Value>) -> Option<Vec<Digest>> {
    let path = line.get("path").and_then(Value::as_array).into_iter().flatten();
    path.map(|hash| hash.as_str().and_then(Digest::parse)).collect()
}

fn shown(row: &RawRow) -> Value {
    let cell = |cell: &Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Int(number) => (*number).into(),
        Cell::Text(text) => text.as_str().into(),
        Cell::Bytes(bytes) => json!({"base64": STANDARD.encode(bytes)}),
    };
    row.iter().map(|(name, value)| (name.clone(), cell(value))).collect::<Map<_, _>>().into()
}

fn read(row: &Map<String, Value>) -> Option<RawRow> {
    let cell = |value: &Value| match value {
        Value::Null => Some(Cell::Null),
        Value::Number(number) => number.as_i64().map(Cell::Int),
        Value::String(text) => Some(Cell::Text(text.clone())),
        Value::Object(coded) => {
            let coded = coded.get("base64").filter(|_| coded.len() == 1)?.as_str()?;
            STANDARD.decode(coded).ok().map(Cell::Bytes)
        }
        Value::Bool(_) | Value::Array(_) => None,
    };
    row.iter().map(|(name, value)| Some((name.clone(), cell(value)?))).collect()
}
