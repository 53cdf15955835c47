//! Custody as it lies in a store's file or in a package.

use std::collections::BTreeMap;

use super::{Keys, bad};
use crate::domain::custody::{
    ActorType, CustodyAct, CustodyAction, CustodyEntry, CustodySignature, Evidence,
};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::{Leaf, LogId};
use crate::evidence::purged::Statement;
use crate::evidence::verify::{Material, Problem, bytes, int, rows, text, whole};
use crate::seal::is_signed;
use crate::store::{RawRow, Table};

/// The first fault of each chain.
pub(in crate::evidence) fn problems(material: &Material) -> Vec<Problem> {
    let (keys, leaves) = (keys(material), leaves(material));
    let decisions: BTreeMap<&str, &RawRow> =
        rows(material, Table::Decisions).filter_map(|row| Some((text(row, "id")?, row))).collect();
    let mut chains: BTreeMap<&str, Vec<&RawRow>> = BTreeMap::new();
    for row in rows(material, Table::Custody) {
        chains.entry(text(row, "evidence").unwrap_or_default()).or_default().push(row);
    }
    let mut found = Vec::new();
    for (id, mut chain) in chains {
        chain.sort_by_key(|row| int(row, "seq"));
        let what = match decisions.get(id) {
            None => Some("its custody is here, and it is not".to_owned()),
            Some(decision) => fault(id, decision, leaves.get(id), (&chain, &keys)),
        };
        let problem =
            |what| Problem { kind: "altered", id: Some(id.to_owned()), index: None, what };
        found.extend(what.map(problem));
    }
    found
}

/// A purge that a log signed.
pub(in crate::evidence) struct Purge {
    pub(in crate::evidence) tenant: TenantId,
    pub(in crate::evidence) log: LogId,
    pub(in crate::evidence) at_ms: i64,
    pub(in crate::evidence) statement: Statement,
}

/// Of each decision the purges that logs signed.
pub(in crate::evidence) fn purges(material: &Material) -> BTreeMap<&str, Vec<Purge>> {
    let keys = keys(material);
    let mut all: BTreeMap<&str, Vec<Purge>> = BTreeMap::new();
    for row in rows(material, Table::Custody) {
        let Some((id, entry)) = text(row, "evidence").zip(read(row)) else { continue };
        let tenant = text(row, "tenant").and_then(|raw| TenantId::parse(raw).ok());
        let (Some(statement), Some(tenant)) = (Statement::read(&entry), tenant) else { continue };
        let Some(CustodySignature { log, bytes }) = &entry.signature else { continue };
        let of = Evidence { tenant, id: id.to_owned() };
        let signed = |key| is_signed(key, entry.signed().as_bytes(), bytes);
        if entry.fits(&of) && keys.get(log).is_some_and(signed) {
            let (tenant, log, at_ms) = (of.tenant, log.clone(), entry.act.at_ms);
            all.entry(id).or_default().push(Purge { tenant, log, at_ms, statement });
        }
    }
    all
}

fn fault(
    id: &str,
    decision: &RawRow,
    leaf: Option<&Leaf>,
    (chain, keys): (&[&RawRow], &Keys),
) -> Option<String> {
    let named = text(decision, "tenant").and_then(|raw| TenantId::parse(raw).ok());
    let (Some(tenant), Some(at_ms)) = (named, int(decision, "at_ms")) else {
        return Some("its custody cannot be checked: its row cannot be read".to_owned());
    };
    let of = Evidence { tenant, id: id.to_owned() };
    let mut last = CustodyEntry::created(&of, at_ms, leaf);
    for row in chain {
        let entry = read(row).filter(|_| text(row, "tenant") == Some(of.tenant.as_str()));
        let Some(entry) = entry else {
            let seq = last.seq.saturating_add(1);
            return Some(format!("custody entry {seq} holds what no entry holds"));
        };
        if let Some(bad) = bad(&of, &last, &entry, keys) {
            return Some(format!("custody entry {}: {}", bad.seq, bad.why));
        }
        last = entry;
    }
    None
}

fn keys(material: &Material) -> Keys {
    let read = |row| Some((text(row, "id").and_then(LogId::parse)?, bytes(row, "public_key")?));
    rows(material, Table::Logs).filter_map(read).collect()
}

fn leaves(material: &Material) -> BTreeMap<&str, Leaf> {
    let log = |row| Some((int(row, "number")?, text(row, "id").and_then(LogId::parse)?));
    let logs: BTreeMap<i64, LogId> = rows(material, Table::Logs).filter_map(log).collect();
    let read = |row| {
        let log = logs.get(&int(row, "log")?)?.clone();
        let hash = Digest::from_bytes(bytes(row, "hash")?);
        Some((text(row, "decision")?, Leaf { log, index: whole(row, "place")?, hash }))
    };
    rows(material, Table::Leaves).filter_map(read).collect()
}

fn read(row: &RawRow) -> Option<CustodyEntry> {
    let act = CustodyAct {
        at_ms: int(row, "at_ms")?,
        action: CustodyAction::parse(text(row, "action")?)?,
        actor: text(row, "actor")?.to_owned(),
        actor_type: ActorType::parse(text(row, "actor_type")?)?,
        details: text(row, "details")?.to_owned(),
    };
    let log = LogId::parse(text(row, "log_id")?)?;
    Some(CustodyEntry {
        seq: u32::try_from(int(row, "seq")?).ok()?,
        act,
        previous: Digest::from_bytes(bytes(row, "previous_hash")?),
        hash: Digest::from_bytes(bytes(row, "hash")?),
        signature: Some(CustodySignature { log, bytes: bytes(row, "signature")? }),
    })
}
