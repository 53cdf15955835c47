//! `orchestrator evidence replay`: whether recorded decisions come out again.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::gathered::{Gathering, Unproven, Wanted};
use super::{Refused, ReplayArgs};
use crate::cli::{complain, exit, print};
use crate::detect::builtin;
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::evidence::package;
use crate::evidence::packing::Packing;
use crate::evidence::verify::{Material, Outside, text, verify};
use crate::orchestrator::{Difference, KeptSources, Replay, Replayed};
use crate::settings::Settings;
use crate::snapshot;
use crate::store::{Cell, Kept, RawRow, StoreError, Table};

/// How many came out how.
#[derive(Debug, Default, Serialize)]
struct Sum {
    records: u64,
    equal: u64,
    differ: u64,
    unknown: u64,
    not_reproducible: u64,
    purged: u64,
    failed: u64,
}

impl Sum {
    /// Counts a record that is not there any more.
    fn gone(&mut self) {
        self.records += 1;
        self.purged += 1;
    }
}

pub(super) fn run(args: &ReplayArgs) -> u8 {
    match replayed(args) {
        Ok((kept, sum)) => told(args, &kept, &sum),
        Err((code, why)) => {
            complain(&super::shown(&format!("error: {why}")));
            code
        }
    }
}

/// What was looked at, and the sum of it.
fn replayed(args: &ReplayArgs) -> Result<(String, Sum), Refused> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| (exit::INTERNAL, format!("starting the runtime: {error}")))?;
    if let Some(file) = &args.package {
        let settings = super::settings(args.config.as_deref())?;
        let text = super::read(file)?;
        let sum = runtime.block_on(packed(args, &settings, &text));
        return Ok((file.display().to_string(), sum));
    }
    let (settings, kept) = super::stored(args.config.as_deref())?;
    let unread = |error: StoreError| super::unread(&kept, &error);
    let tenants = tenants(args, &kept).map_err(unread)?;
    let mut again = Again::of(args, &settings);
    runtime.block_on(all(&mut again, &kept, &tenants)).map_err(unread)?;
    Ok((kept.to_string(), again.sum))
}

fn told(args: &ReplayArgs, kept: &dyn std::fmt::Display, sum: &Sum) -> u8 {
    if sum.records == 0 {
        complain(&format!("{kept} holds no such record; name another --config or --tenant"));
        return exit::NO_INPUT;
    }
    let Sum { records, equal, differ, unknown, not_reproducible, purged, failed } = sum;
    match args.json {
        true => print(&super::shown_json(sum)),
        false => print(&format!(
            "{records} records: {equal} equal, {differ} differ, {unknown} differ and their rules heed what is \
             left out of records, {failed} could not be decided again, \
             {not_reproducible} not reproducible (their policies read what is not on record), {purged} \
             purged and not decided again (`evidence verify` says whether their purge is proven)"
        )),
    }
    if differ + unknown + failed == 0 { exit::OK } else { exit::DATA }
}

fn tenants(args: &ReplayArgs, kept: &Kept) -> Result<BTreeSet<TenantId>, StoreError> {
    match &args.tenant {
        Some(name) => Ok(TenantId::parse(name).into_iter().collect()),
        None if matches!(kept, Kept::Database(_)) => {
            let reason = "a database shows nobody everyone's decisions; name --tenant".into();
            Err(StoreError::Failed { doing: "looking for records", reason })
        }
        None => kept.tenants(),
    }
}

/// Decides again.
struct Again<'a> {
    args: &'a ReplayArgs,
    replay: Replay,
    sum: Sum,
}

async fn all(
    again: &mut Again<'_>,
    kept: &Kept,
    tenants: &BTreeSet<TenantId>,
) -> Result<(), StoreError> {
    let args = again.args;
    for tenant in tenants {
        let (id, since) = (args.id.as_deref(), args.since);
        let wanted = Wanted { tenant, id, since, until: None };
        // Whose the logs are is for verification.
        let mut gathering = Gathering::of(kept, &wanted, &None)?;
        let mut named = BTreeSet::new();
        loop {
            let mut packing = Packing::of(gathering.heads.keys());
            let Some(unproven) = gathering.pack(&mut packing)? else { break };
            let mut get = |tenant: Option<&TenantId>, digest: Digest| {
                kept.source((tenant.cloned(), digest)).map_err(|error| error.to_string())
            };
            for Unproven { id, why, row } in unproven {
                again.record(row.as_ref(), (&id, tenant.as_str()), (&[why], &mut get)).await;
                named.insert(id);
            }
            again.records(&packing.material(), &mut get).await;
        }
        let lost = gathering.lost().0;
        for Unproven { id, why, .. } in lost.into_iter().filter(|it| !named.contains(&it.id)) {
            again.failed((&id, tenant.as_str()), why.to_owned());
        }
    }
    Ok(())
}

/// The records of a package.
async fn packed(args: &ReplayArgs, settings: &Settings, text: &str) -> Sum {
    let (material, problems) = package::unpack(text);
    let sources = KeptSources::of(&material);
    let mut again = Again::of(args, settings);
    again.sum.failed = problems.len() as u64;
    problems.iter().for_each(|problem| complain(&super::shown(&problem.what)));
    let mut get = |tenant: Option<&TenantId>, digest| Ok(sources.get(tenant, digest));
    again.records(&material, &mut get).await;
    again.sum
}

impl<'a> Again<'a> {
    fn of(args: &'a ReplayArgs, settings: &Settings) -> Self {
        Again { args, replay: Replay::new(settings, builtin::check), sum: Sum::default() }
    }

    /// Each record that was asked for; what it is not is named with how it ends.
    async fn records(&mut self, material: &Material, get: snapshot::Get<'_>) {
        let problems = verify(material, &Outside::default()).problems;
        let mut faults: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for problem in &problems {
            if let Some(id) = problem.of_record() {
                faults.entry(id).or_default().push(&problem.what);
            }
        }
        for row in material.tables.get(&Table::Decisions).into_iter().flatten() {
            let of = |column: &str| text(row, column).unwrap_or_default();
            let (id, tenant) = (of("id"), of("tenant"));
            let faults = faults.remove(id).unwrap_or_default();
            if self.is_another(row, (id, tenant)) {
                continue;
            }
            self.record(Some(row), (id, tenant), (&faults, &mut *get)).await;
        }
        let wanted = self.args.id.as_deref();
        for (id, faults) in faults.into_iter().filter(|(id, _)| wanted.is_none_or(|it| it == *id)) {
            self.failed((id, ""), faults.join("; "));
        }
    }

    /// One of them, of which `faults` are known; whatever they are, it is decided again where its row is
    /// there.
    async fn record(
        &mut self,
        row: Option<&RawRow>,
        of: (&str, &str),
        (faults, get): (&[&str], snapshot::Get<'_>),
    ) {
        match row.map(|row| text(row, "record").unwrap_or_default()) {
            Some("") if faults.is_empty() => self.sum.gone(),
            Some("") | None => self.failed(of, faults.join("; ")),
            Some(record) => {
                let replayed = self.replay.one(record, get).await;
                self.count(of, &replayed, faults);
            }
        }
    }

    /// Whether somebody else's, or of another time.
    fn is_another(&self, row: &RawRow, (id, tenant): (&str, &str)) -> bool {
        let at_ms = match row.get("at_ms") {
            Some(Cell::Int(at_ms)) => Some(*at_ms),
            _ => None,
        };
        let args = self.args;
        args.id.as_deref().is_some_and(|wanted| wanted != id)
            || args.tenant.as_deref().is_some_and(|wanted| wanted != tenant)
            || args.since.zip(at_ms).is_some_and(|(since, at_ms)| at_ms < since)
    }

    fn failed(&mut self, of: (&str, &str), why: String) {
        self.count(of, &Replayed::Failed { why }, &[]);
    }

    fn count(&mut self, (id, tenant): (&str, &str), replayed: &Replayed, faults: &[&str]) {
        let (sum, told) = (&mut self.sum, !self.args.json);
        sum.records += 1;
        let say = |what: &str| {
            if told {
                print(&super::shown(&format!("{id} {tenant}: {what}")));
            }
        };
        faults.iter().for_each(|fault| say(fault));
        match replayed {
            Replayed::Failed { why } => {
                sum.failed += 1;
                say(why);
            }
            Replayed::Differs { differences } => {
                sum.differ += 1;
                differences.iter().for_each(|found| say(&line("", found)));
            }
            Replayed::Unknown { differences } => {
                *(if faults.is_empty() { &mut sum.unknown } else { &mut sum.differ }) += 1;
                differences.iter().for_each(|found| say(&line("perhaps ", found)));
            }
            Replayed::Equal | Replayed::NotReproducible | Replayed::Purged
                if !faults.is_empty() =>
            {
                sum.differ += 1;
            }
            Replayed::Equal => sum.equal += 1,
            Replayed::NotReproducible => sum.not_reproducible += 1,
            Replayed::Purged => sum.purged += 1,
        }
        if !told {
            let mut line = serde_json::to_value(replayed).unwrap_or_default();
            if let Some(fields) = line.as_object_mut() {
                fields.insert("id".into(), id.into());
                fields.insert("tenant".into(), tenant.into());
                if !faults.is_empty() {
                    fields.insert("faults".into(), faults.into());
                    let ends = fields.get("result").filter(|ends| *ends == "failed").cloned();
                    fields.insert("result".into(), ends.unwrap_or_else(|| "differs".into()));
                }
            }
            print(&super::shown_json(&line));
        }
    }
}

fn line(may: &str, Difference { what, recorded, again }: &Difference) -> String {
    format!("{may}{what}: recorded {recorded}, again {again}")
}
