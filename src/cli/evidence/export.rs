//! `orchestrator evidence export` and `keys`: what others need to verify without this service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;
use tokio::runtime::Runtime;

use super::{ExportArgs, LogKeysArgs};
use crate::cli::session::refuse;
use crate::cli::{complain, exit, load_settings, print};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::{Checkpoint, LogId};
use crate::evidence::packing::Packing;
use crate::evidence::verify::{Growth, Material};
use crate::evidence::{Proof, custody, package, proof};
use crate::orchestrator::open_store;
use crate::snapshot::Files;
use crate::store::{Decision, Ledger, LogKey, Page, Store, StoreError, Table};

/// Records read at once.
const ROWS: u32 = 500;

type Opened = (Runtime, Arc<dyn Store>);

fn open(config: Option<&std::path::Path>) -> Result<Opened, u8> {
    let settings = load_settings(config, None).map_err(|faults| refuse(&faults))?;
    let unavailable = |error: &dyn std::fmt::Display| {
        complain(&format!("error: {error}"));
        exit::UNAVAILABLE
    };
    let store = open_store(&settings, None).map_err(|error| unavailable(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok((runtime.map_err(|error| unavailable(&error))?, store))
}

pub(super) fn run(args: &ExportArgs) -> u8 {
    let Ok(tenant) = TenantId::parse(&args.tenant) else {
        complain("error: --tenant names no tenant");
        return exit::USAGE;
    };
    let opened = match open(args.config.as_deref()) {
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
    let material = match gather(&opened, args, (&tenant, &heads)) {
        Ok(material) => material,
        Err(error) => {
            complain(&format!("error: {error}"));
            return exit::UNAVAILABLE;
        }
    };
    let records = material.tables.get(&Table::Decisions).map_or(0, Vec::len);
    if records == 0 {
        complain("there is no such record; name another --tenant, --id or time");
        return exit::NO_INPUT;
    }
    let at = jiff::Timestamp::now().to_string();
    match std::fs::write(&args.file, package::pack(&material, tenant.as_str(), &at)) {
        Ok(()) => {
            complain(&format!("{records} records are in {}", args.file.display()));
            exit::OK
        }
        Err(error) => {
            complain(&format!("error: {}: {error}", args.file.display()));
            exit::UNAVAILABLE
        }
    }
}

fn gather(
    opened: &Opened,
    args: &ExportArgs,
    (tenant, kept): (&TenantId, &[Checkpoint]),
) -> Result<Material, StoreError> {
    let (runtime, store) = opened;
    let decisions = runtime.block_on(wanted(store.as_ref(), args, tenant))?;
    let logs = runtime.block_on(store.logs())?;
    let ledger: &dyn Ledger = store.as_ref();
    // Above all of these decisions: one head of each log, with which any other is compared.
    let mut tails = BTreeMap::new();
    for LogKey { log, .. } in &logs {
        if let Some(head) = runtime.block_on(store.tail(log.clone()))? {
            tails.insert(log.clone(), head);
        }
    }
    let mut packing = Packing::of(logs);
    for head in kept {
        runtime.block_on(compared(ledger, &tails, head, &mut packing))?;
    }
    let mut revisions = BTreeSet::new();
    for (sequence, decision) in decisions {
        let Some(leaf) = decision.leaf.clone() else { continue };
        let Some(checkpoint) = tails.get(&leaf.log).cloned() else { continue };
        let path = runtime.block_on(proof::inclusion(ledger, leaf.index, &checkpoint))?;
        let Some(path) = path else { continue };
        let proof = Proof { leaf, checkpoint, path };
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
        // What is missing is missing in the package too, and named when it is verified.
        if let Err(error) = Files::of_revision(&revision, tenant, &mut get) {
            complain(&format!("revision {revision}: {error}"));
        }
    }
    Ok(packing.material())
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
    let (runtime, store) = match open(args.config.as_deref()) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let told = runtime.block_on(async {
        for key in store.logs().await? {
            let head = store.tail(key.log.clone()).await?;
            let note = head.map(|head| head.note(&key.public_key));
            if args.json {
                let public = hex::encode(key.public_key);
                let line = json!({"log_id": key.log, "public_key": public, "checkpoint": note});
                print(&line.to_string());
            } else {
                print(&note.unwrap_or_else(|| format!("{} is empty", key.log.as_str())));
            }
        }
        Ok::<(), StoreError>(())
    });
    match told {
        Ok(()) => exit::OK,
        Err(error) => {
            complain(&format!("error: {error}"));
            exit::UNAVAILABLE
        }
    }
}
