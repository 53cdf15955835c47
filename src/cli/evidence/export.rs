//! `orchestrator evidence export` and `keys`: what others need to verify without this service.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;

use super::gathered::{Gathering, Heads, Keys, Unproven, Wanted, wrong};
use super::{ExportArgs, LogKeysArgs, Refused};
use crate::cli::{complain, exit, print};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::Checkpoint;
use crate::evidence::package;
use crate::evidence::packing::{self, Packing};
use crate::evidence::verify::{Growth, Material, Outside, Problem, text};
use crate::orchestrator::verified;
use crate::snapshot::{Files, Unfound};
use crate::store::{Kept, StoreError, Table};

/// What is exported, and what of it is wrong.
struct Gathered {
    material: Material,
    faults: Vec<String>,
}

pub(super) fn run(args: &ExportArgs) -> u8 {
    let Ok(tenant) = TenantId::parse(&args.tenant) else {
        complain("error: --tenant names no tenant");
        return exit::USAGE;
    };
    if args.file.symlink_metadata().is_ok() {
        return is_there(&args.file);
    }
    match exported(args, &tenant) {
        Ok(gathered) => given(args, &tenant, &gathered),
        Err((code, why)) => {
            complain(&super::shown(&format!("error: {why}")));
            code
        }
    }
}

fn exported(args: &ExportArgs, tenant: &TenantId) -> Result<Gathered, Refused> {
    let (settings, kept) = super::stored(args.config.as_deref())?;
    let heads = super::heads(&args.checkpoint)?;
    let own = super::own(&settings)?;
    let (id, since, until) = (args.id.as_deref(), args.since, args.until);
    let wanted = Wanted { tenant, id, since, until };
    let gathered = gather(&kept, &wanted, (&heads, &own));
    let Gathered { mut material, mut faults } =
        gathered.map_err(|error| super::unread(&kept, &error))?;
    faults.extend(held(&mut material, (own, heads)));
    Ok(Gathered { material, faults })
}

fn given(args: &ExportArgs, tenant: &TenantId, Gathered { material, faults }: &Gathered) -> u8 {
    faults.iter().for_each(|fault| complain(&super::shown(fault)));
    let records = material.tables.get(&Table::Decisions).map_or(0, Vec::len);
    let unproven = material.unproven.len();
    if records + unproven == 0 {
        complain("there is no such record; name another --tenant, --id or time");
        return exit::NO_INPUT;
    }
    let at = jiff::Timestamp::now().to_string();
    match write(&args.file, &package::pack(material, tenant.as_str(), &at)) {
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
    kept: &Kept,
    wanted: &Wanted<'_>,
    (outside, own): (&[Checkpoint], &Keys),
) -> Result<Gathered, StoreError> {
    let mut gathering = Gathering::of(kept, wanted, own)?;
    let mut packing = Packing::of(gathering.heads.keys());
    let compared = compared(&mut gathering, outside, &mut packing)?;
    let mut unproven = Vec::new();
    while let Some(more) = gathering.pack(&mut packing)? {
        unproven.extend(more);
    }
    let (lost, Heads { mut faults, notes, .. }) = gathering.lost();
    noted(&notes);
    faults.extend(compared);
    let mut named = BTreeSet::new();
    let all = lost.into_iter().chain(unproven);
    for Unproven { id, why, .. } in all.filter(|it| named.insert(it.id.clone())) {
        faults.push(format!("{id}: {why}: it is not in the package"));
        packing.unproven(id);
    }
    let (material, lacks) = with_sources(kept, wanted.tenant, packing.material());
    faults.extend(lacks);
    Ok(Gathered { material, faults })
}

/// Adds the sources of every record that is there, and says what of them cannot be read.
fn with_sources(kept: &Kept, tenant: &TenantId, mut material: Material) -> (Material, Vec<String>) {
    let decisions = material.tables.get(&Table::Decisions).into_iter().flatten();
    let there = decisions.filter(|row| text(row, "record").is_none_or(|record| !record.is_empty()));
    let revisions: BTreeSet<String> =
        there.filter_map(|row| text(row, "revision")).map(str::to_owned).collect();
    let (mut sources, mut faults) = (BTreeMap::new(), Vec::new());
    for revision in revisions {
        let mut get = |owner: Option<&TenantId>, digest: Digest| {
            let read = kept.source((owner.cloned(), digest));
            let bytes = read.map_err(|error| error.to_string())?;
            if let Some(bytes) = &bytes {
                let owner = owner.map_or("", TenantId::as_str).to_owned();
                sources.insert((owner, digest), bytes.clone());
            }
            Ok(bytes)
        };
        // What is missing is missing in the package too, and named when that is verified.
        if let Err(Unfound::Unread(why)) = Files::of_revision(&revision, tenant, &mut get) {
            faults.push(format!("revision {revision}: {why}"));
        }
    }
    material.tables.insert(Table::Sources, packing::source_rows(sources));
    (material, faults)
}

fn noted(notes: &[String]) {
    notes.iter().for_each(|note| complain(&super::shown(&format!("note: {note}"))));
}

/// Takes what is not what was recorded out of the package; what is wrong, there and with the rest.
fn held(material: &mut Material, (keys, heads): (Keys, Vec<Checkpoint>)) -> Vec<String> {
    let found = verified(material, &Outside { keys, heads, ..Outside::default() });
    noted(&found.notes);
    let wrong = wrong(&found.problems);
    packing::leave_out(material, &wrong);
    let told = |Problem { id, what, .. }: Problem| match id {
        Some(id) if wrong.contains(&id) => format!("{id}: {what}: it is not in the package"),
        Some(id) => format!("{id}: {what}"),
        None => what,
    };
    found.problems.into_iter().map(told).collect()
}

/// Adds what compares each checkpoint with the head that the package is under, that head among it: of
/// the log there need be no record. What cannot be compared is named.
fn compared(
    gathering: &mut Gathering<'_>,
    outside: &[Checkpoint],
    packing: &mut Packing,
) -> Result<Vec<String>, StoreError> {
    let mut faults = Vec::new();
    for Checkpoint { log, size, .. } in outside {
        let mut known = gathering.heads.believed.iter();
        let tail = known.find(|known| known.key.log == *log).and_then(|log| log.head.clone());
        let Some(tail) = tail else {
            faults.push(format!("log {} of a checkpoint has no head in this store", log.as_str()));
            continue;
        };
        packing.head(&tail);
        match gathering.grown(*size, &tail)? {
            Some(path) => {
                packing.growth(Growth { log: log.clone(), from: *size, to: tail.size, path });
            }
            None => faults.push(format!(
                "the log has {} leaves, the checkpoint {size}: they cannot be compared",
                tail.size
            )),
        }
    }
    Ok(faults)
}

pub(super) fn keys(args: &LogKeysArgs) -> u8 {
    let found = super::stored(args.config.as_deref()).and_then(|(settings, kept)| {
        let own = super::own(&settings)?;
        Heads::of(&kept, &own).map_err(|error| super::unread(&kept, &error))
    });
    let Heads { believed, faults, notes, .. } = match found {
        Ok(heads) => heads,
        Err((code, why)) => {
            complain(&super::shown(&format!("error: {why}")));
            return code;
        }
    };
    for log in believed {
        let note = log.head.map(|head| head.note(&log.key.public_key));
        if args.json {
            let public = hex::encode(log.key.public_key);
            let line = json!({"log_id": log.key.log, "public_key": public, "checkpoint": note});
            print(&super::shown_json(&line));
        } else {
            let none = || format!("{} has no signed checkpoint", log.key.log.as_str());
            print(&note.unwrap_or_else(none));
        }
    }
    noted(&notes);
    faults.iter().for_each(|fault| complain(fault));
    if faults.is_empty() { exit::OK } else { exit::DATA }
}
