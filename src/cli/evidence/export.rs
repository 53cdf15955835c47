//! `orchestrator evidence export` and `keys`: what others need to verify without this service.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokio::runtime::Runtime;

use super::{ExportArgs, LogKeysArgs};
use crate::cli::session::refuse;
use crate::cli::{complain, exit, load_settings, print};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::{Checkpoint, LogId};
use crate::evidence::packing::{self, Packing};
use crate::evidence::verify::{Growth, Material, Outside, Problem};
use crate::evidence::{Proof, custody, merkle, package, proof};
use crate::orchestrator::{open_store, own_keys, verified};
use crate::settings::Settings;
use crate::snapshot::{Files, Unfound};
use crate::store::{Decision, Ledger, LogKey, Page, Store, StoreError, Table};

/// Records read at once.
const ROWS: u32 = 500;

type Opened = (Runtime, Arc<dyn Store>);

/// What is exported, and what of it is wrong.
struct Gathered {
    material: Material,
    faults: Vec<String>,
}

fn open(config: Option<&Path>) -> Result<(Opened, Settings), u8> {
    let settings = load_settings(config, None).map_err(|faults| refuse(&faults))?;
    let unavailable = |error: &dyn std::fmt::Display| {
        complain(&format!("error: {error}"));
        exit::UNAVAILABLE
    };
    let store = open_store(&settings, None).map_err(|error| unavailable(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(((runtime.map_err(|error| unavailable(&error))?, store), settings))
}

pub(super) fn run(args: &ExportArgs) -> u8 {
    let Ok(tenant) = TenantId::parse(&args.tenant) else {
        complain("error: --tenant names no tenant");
        return exit::USAGE;
    };
    if args.file.symlink_metadata().is_ok() {
        return is_there(&args.file);
    }
    let (opened, settings) = match open(args.config.as_deref()) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let heads = match super::heads(&args.checkpoint) {
        Ok(heads) => heads,
        Err((code, why)) => {
            complain(&format!("error: {why}"));
            return code;
        }
    };
    let own = own_keys(&settings);
    let gathered = gather(&opened, args, (&tenant, &heads, own.as_ref()));
    let Gathered { mut material, mut faults } = match gathered {
        Ok(gathered) => gathered,
        Err(error) => {
            complain(&super::shown(&format!("error: {error}")));
            return super::code_of(&error, exit::UNAVAILABLE);
        }
    };
    faults.extend(held(&mut material, own));
    faults.iter().for_each(|fault| complain(&super::shown(fault)));
    let records = material.tables.get(&Table::Decisions).map_or(0, Vec::len);
    let unproven = material.unproven.len();
    if records + unproven == 0 {
        complain("there is no such record; name another --tenant, --id or time");
        return exit::NO_INPUT;
    }
    let at = jiff::Timestamp::now().to_string();
    match write(&args.file, &package::pack(&material, tenant.as_str(), &at)) {
        Ok(()) => {
            let file = args.file.display();
            let lacks = match unproven {
                0 => String::new(),
                _ => format!("; {unproven} more are on record and cannot be proven"),
            };
            complain(&format!("{records} records are in {file}{lacks}"));
            if faults.is_empty() { exit::OK } else { exit::DATA }
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => is_there(&args.file),
        Err(error) => {
            complain(&format!("error: {}: {error}", args.file.display()));
            exit::UNAVAILABLE
        }
    }
}

/// Records name tenants and what they sent: the file is its maker's, and no other is touched.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut made = options.write(true).create_new(true).mode(0o600).open(file)?;
    made.write_all(text.as_bytes())?;
    made.sync_all()
}

fn is_there(file: &Path) -> u8 {
    let name = file.display();
    complain(&format!("error: {name} is there already; name another file, or move it away"));
    exit::USAGE
}

fn gather(
    opened: &Opened,
    args: &ExportArgs,
    (tenant, kept, own): (&TenantId, &[Checkpoint], Option<&BTreeSet<[u8; 32]>>),
) -> Result<Gathered, StoreError> {
    let (runtime, store) = opened;
    // Before the decisions: what is recorded meanwhile is not missed.
    let mut gone = runtime.block_on(leaves(store.as_ref(), args, tenant))?;
    let decisions = runtime.block_on(wanted(store.as_ref(), args, tenant))?;
    for (_, decision) in &decisions {
        gone.remove(&decision.id);
    }
    let mut logs = runtime.block_on(store.logs())?;
    let ledger: &dyn Ledger = store.as_ref();
    // Above all of these decisions: one head of each log, with which any other is compared.
    let (mut tails, mut faults) = (BTreeMap::new(), Vec::new());
    let strangers =
        logs.extract_if(.., |key| own.is_some_and(|own| !own.contains(&key.public_key)));
    faults.extend(strangers.map(|key| stranger(&key)));
    for key in &logs {
        let (head, fault) = runtime.block_on(newest(ledger, key))?;
        faults.extend(fault);
        tails.extend(head.map(|head| (key.log.clone(), head)));
    }
    let mut packing = Packing::of(logs);
    for head in kept {
        runtime.block_on(compared(ledger, &tails, head, &mut packing))?;
    }
    for id in gone {
        faults
            .push(format!("{id}: it was logged, and its row is missing: it is not in the package"));
        packing.unproven(id);
    }
    let mut revisions = BTreeSet::new();
    for (sequence, decision) in decisions {
        let proof = match runtime.block_on(proven(ledger, &decision, &tails))? {
            Ok(proof) => proof,
            Err(why) => {
                faults.push(format!("{}: {why}: it is not in the package", decision.id));
                packing.unproven(decision.id);
                continue;
            }
        };
        if !decision.record.is_empty() {
            revisions.insert(decision.revision.clone());
        }
        packing.record(sequence, &decision, proof);
        let kept = runtime.block_on(custody::entries(store.as_ref(), &decision))?;
        packing.custody(&decision, &kept);
    }
    for revision in revisions {
        let mut get = |owner: Option<&TenantId>, digest: Digest| {
            let read = runtime.block_on(store.source((owner.cloned(), digest)));
            let bytes = read.map_err(|error| error.to_string())?;
            if let Some(bytes) = &bytes {
                packing.source(owner, digest, bytes.clone());
            }
            Ok(bytes)
        };
        // What is missing is missing in the package too, and named when that is verified.
        if let Err(Unfound::Unread(why)) = Files::of_revision(&revision, tenant, &mut get) {
            faults.push(format!("revision {revision}: {why}"));
        }
    }
    Ok(Gathered { material: packing.material(), faults })
}

/// Takes what is not what was recorded out of the package; what is wrong, there and with the rest.
fn held(material: &mut Material, keys: Option<BTreeSet<[u8; 32]>>) -> Vec<String> {
    let outside = Outside { keys, ..Outside::default() };
    let problems = verified(material, &outside).problems;
    // The record itself is named with its place.
    let is_wrong = |problem: &Problem| {
        problem.index.is_some() && matches!(problem.kind, "altered" | "emptied" | "unreadable")
    };
    let wrong = problems.iter().filter(|problem| is_wrong(problem));
    let wrong: BTreeSet<String> = wrong.filter_map(|problem| problem.id.clone()).collect();
    packing::leave_out(material, &wrong);
    let told = |Problem { id, what, .. }: Problem| match id {
        Some(id) if wrong.contains(&id) => format!("{id}: {what}: it is not in the package"),
        Some(id) => format!("{id}: {what}"),
        None => what,
    };
    problems.into_iter().map(told).collect()
}

fn stranger(key: &LogKey) -> String {
    let (log, public) = (key.log.as_str(), hex::encode(key.public_key));
    format!(
        "log {log} is left out: its key {public} is neither the service's present one, as far as that is \
         at hand, nor among evidence.known_keys; name it there if it is yours"
    )
}

/// The newest head that the log signed, and what is wrong with those above it.
async fn newest(
    ledger: &dyn Ledger,
    key: &LogKey,
) -> Result<(Option<Checkpoint>, Option<String>), StoreError> {
    let proof::Newest { head, unsigned } = proof::newest(ledger, key).await?;
    let fault = (unsigned > 0).then(|| {
        let log = key.log.as_str();
        format!("the newest {unsigned} checkpoints of log {log} do not bear its signature")
    });
    Ok((head, fault))
}

/// The proof of a record, or why there is none.
async fn proven(
    ledger: &dyn Ledger,
    decision: &Decision,
    tails: &BTreeMap<LogId, Checkpoint>,
) -> Result<Result<Proof, &'static str>, StoreError> {
    let Some(leaf) = decision.leaf.clone() else { return Ok(Err("it is in no log")) };
    let Some(checkpoint) = tails.get(&leaf.log).filter(|head| leaf.index < head.size).cloned()
    else {
        return Ok(Err("no signed checkpoint of a log that is vouched for stands above it"));
    };
    let Some(path) = proof::inclusion(ledger, leaf.index, &checkpoint).await? else {
        return Ok(Err("hashes of the log are missing"));
    };
    let (of, root) = ((leaf.hash, leaf.index), (checkpoint.root, checkpoint.size));
    match merkle::verify_inclusion(of, root, &path) {
        true => Ok(Ok(Proof { leaf, checkpoint, path })),
        false => Ok(Err("hashes of the log do not lead to the signed root")),
    }
}

/// Adds what compares `head` with the head that the package is under.
async fn compared(
    ledger: &dyn Ledger,
    tails: &BTreeMap<LogId, Checkpoint>,
    head: &Checkpoint,
    packing: &mut Packing,
) -> Result<(), StoreError> {
    let Checkpoint { log, size, .. } = head;
    let Some(tail) = tails.get(log) else {
        complain(&format!("log {} of a checkpoint is not in this store", log.as_str()));
        return Ok(());
    };
    match proof::consistency(ledger, head, tail).await? {
        Some(path) => {
            packing.growth(Growth { log: log.clone(), from: *size, to: tail.size, path });
        }
        None => complain(&format!(
            "the log has {} leaves, the checkpoint {size}: they cannot be compared",
            tail.size
        )),
    }
    Ok(())
}

/// The ids of what was logged and must be there. Leaves hold no time: of a part of the time none are.
async fn leaves(
    store: &dyn Store,
    args: &ExportArgs,
    tenant: &TenantId,
) -> Result<BTreeSet<String>, StoreError> {
    if let Some(id) = &args.id {
        let leaf = store.leaf(tenant.clone(), id.clone()).await?;
        return Ok(leaf.map(|_| id.clone()).into_iter().collect());
    }
    let (mut all, mut after) = (BTreeSet::new(), String::new());
    while args.since.is_none() && args.until.is_none() {
        let page = store.leaves(tenant.clone(), after, ROWS).await?;
        let Some(last) = page.last() else { break };
        after = last.clone();
        all.extend(page);
    }
    Ok(all)
}

async fn wanted(
    store: &dyn Store,
    args: &ExportArgs,
    tenant: &TenantId,
) -> Result<Vec<(i64, Decision)>, StoreError> {
    if let Some(id) = &args.id {
        let found = store.decision(tenant.clone(), id.clone()).await?;
        return Ok(found.into_iter().map(|decision| (1, decision)).collect());
    }
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = store.decisions(tenant.clone(), Page { limit: ROWS, before }).await?;
        let Some(last) = page.last() else { return Ok(all) };
        before = Some(last.sequence);
        let within = |at: i64| {
            args.since.is_none_or(|since| at >= since) && args.until.is_none_or(|until| at < until)
        };
        let rows = page.into_iter().filter(|row| within(row.value.at_ms));
        all.extend(rows.map(|row| (row.sequence, row.value)));
    }
}

pub(super) fn keys(args: &LogKeysArgs) -> u8 {
    let ((runtime, store), settings) = match open(args.config.as_deref()) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let own = own_keys(&settings);
    let mut faults = Vec::new();
    let told = runtime.block_on(async {
        for key in store.logs().await? {
            if own.as_ref().is_some_and(|own| !own.contains(&key.public_key)) {
                faults.push(stranger(&key));
                continue;
            }
            let (head, fault) = newest(store.as_ref(), &key).await?;
            faults.extend(fault);
            let note = head.map(|head| head.note(&key.public_key));
            if args.json {
                let public = hex::encode(key.public_key);
                let line = json!({"log_id": key.log, "public_key": public, "checkpoint": note});
                print(&super::shown_json(&line));
            } else {
                let none = || format!("{} has no signed checkpoint", key.log.as_str());
                print(&note.unwrap_or_else(none));
            }
        }
        Ok::<(), StoreError>(())
    });
    faults.iter().for_each(|fault| complain(fault));
    match told {
        Ok(()) if faults.is_empty() => exit::OK,
        Ok(()) => exit::DATA,
        Err(error) => {
            complain(&super::shown(&format!("error: {error}")));
            super::code_of(&error, exit::UNAVAILABLE)
        }
    }
}
