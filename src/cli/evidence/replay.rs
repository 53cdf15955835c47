//! `orchestrator evidence replay`: whether recorded decisions come out again.

use std::collections::BTreeSet;

use serde::Serialize;

use super::ReplayArgs;
use crate::cli::session::refuse;
use crate::cli::{complain, exit, load_settings, print};
use crate::detect::builtin;
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::evidence::package;
use crate::orchestrator::{self, KeptSources, Replay, Replayed};
use crate::settings::Settings;
use crate::store::{Cell, Decision, Kept, Page, StoreError, Table};

/// Records read at once.
const ROWS: u32 = 500;

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
    let settings = match load_settings(args.config.as_deref(), None) {
        Ok(settings) => settings,
        Err(faults) => return refuse(&faults),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        complain("could not start the runtime");
        return exit::INTERNAL;
    };
    if let Some(file) = &args.package {
        let text = match super::read(file) {
            Ok(text) => text,
            Err((code, why)) => {
                complain(&format!("error: {why}"));
                return code;
            }
        };
        let sum = runtime.block_on(packed(args, &settings, &text));
        return told(args, &file.display(), &sum);
    }
    let opened = orchestrator::kept(&settings, None).and_then(|kept| {
        let tenants = tenants(args, &kept)?;
        Ok((kept, tenants))
    });
    let (kept, tenants) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            complain(&format!("error: {error}"));
            return exit::UNAVAILABLE;
        }
    };
    match runtime.block_on(all(args, &settings, (&kept, &tenants))) {
        Ok(sum) => told(args, &kept, &sum),
        Err(error) => {
            complain(&super::shown(&format!("error: {kept}: {error}")));
            super::code_of(&error, exit::NO_INPUT)
        }
    }
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

async fn all(
    args: &ReplayArgs,
    settings: &Settings,
    (kept, tenants): (&Kept, &BTreeSet<TenantId>),
) -> Result<Sum, StoreError> {
    let mut replay = Replay::new(settings, builtin::check);
    let mut sum = Sum::default();
    for tenant in tenants {
        let mut before = None;
        loop {
            let page = match &args.id {
                Some(id) => kept.decision(tenant, id)?.into_iter().map(|one| (0, one)).collect(),
                None => {
                    let rows = kept.decisions(tenant, Page { limit: ROWS, before })?;
                    rows.into_iter().map(|row| (row.sequence, row.value)).collect::<Vec<_>>()
                }
            };
            let Some((last, _)) = page.last() else { break };
            before = Some(*last);
            for (_, decision) in page {
                if args.since.is_none_or(|since| decision.at_ms >= since) {
                    one(args, &mut replay, kept, &decision, &mut sum).await;
                }
            }
            if args.id.is_some() {
                break;
            }
        }
    }
    Ok(sum)
}

/// The records of a package.
async fn packed(args: &ReplayArgs, settings: &Settings, text: &str) -> Sum {
    let (material, problems) = package::unpack(text);
    let sources = KeptSources::of(&material);
    let mut replay = Replay::new(settings, builtin::check);
    let mut sum = Sum { failed: problems.len() as u64, ..Sum::default() };
    problems.iter().for_each(|problem| complain(&super::shown(&problem.what)));
    for row in material.tables.get(&Table::Decisions).into_iter().flatten() {
        let text = |column: &str| match row.get(column) {
            Some(Cell::Text(text)) => text.as_str(),
            _ => "",
        };
        let (id, tenant) = (text("id"), text("tenant"));
        let at_ms = match row.get("at_ms") {
            Some(Cell::Int(at_ms)) => Some(*at_ms),
            _ => None,
        };
        let is_another = args.id.as_deref().is_some_and(|wanted| wanted != id)
            || args.tenant.as_deref().is_some_and(|wanted| wanted != tenant)
            || args.since.zip(at_ms).is_some_and(|(since, at_ms)| at_ms < since);
        if is_another {
            continue;
        }
        let mut get = |tenant: Option<&TenantId>, digest| Ok(sources.get(tenant, digest));
        if text("record").is_empty() {
            sum.gone();
            continue;
        }
        let replayed = replay.one(text("record"), &mut get).await;
        count(args, &mut sum, (id, tenant), &replayed);
    }
    sum
}

async fn one(
    args: &ReplayArgs,
    replay: &mut Replay,
    kept: &Kept,
    decision: &Decision,
    sum: &mut Sum,
) {
    let mut get = |tenant: Option<&TenantId>, digest: Digest| {
        kept.source((tenant.cloned(), digest)).map_err(|error| error.to_string())
    };
    if decision.record.is_empty() {
        return sum.gone();
    }
    let replayed = replay.one(&decision.record, &mut get).await;
    count(args, sum, (&decision.id, decision.tenant.as_str()), &replayed);
}

fn count(args: &ReplayArgs, sum: &mut Sum, (id, tenant): (&str, &str), replayed: &Replayed) {
    sum.records += 1;
    match replayed {
        Replayed::Equal => sum.equal += 1,
        Replayed::NotReproducible => sum.not_reproducible += 1,
        Replayed::Purged => sum.purged += 1,
        Replayed::Differs { differences } | Replayed::Unknown { differences } => {
            let is_unknown = matches!(replayed, Replayed::Unknown { .. });
            *(if is_unknown { &mut sum.unknown } else { &mut sum.differ }) += 1;
            for found in differences.iter().filter(|_| !args.json) {
                let (what, recorded, again) = (&found.what, &found.recorded, &found.again);
                let may = if is_unknown { "perhaps " } else { "" };
                let told =
                    format!("{id} {tenant}: {may}{what}: recorded {recorded}, again {again}");
                print(&super::shown(&told));
            }
        }
        Replayed::Failed { why } => {
            sum.failed += 1;
            if !args.json {
                print(&super::shown(&format!("{id} {tenant}: {why}")));
            }
        }
    }
    if args.json {
        let mut line = serde_json::to_value(replayed).unwrap_or_default();
        if let Some(fields) = line.as_object_mut() {
            fields.insert("id".into(), id.into());
            fields.insert("tenant".into(), tenant.into());
        }
        print(&super::shown_json(&line));
    }
}
