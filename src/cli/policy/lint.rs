//! `orchestrator policy lint`: faults of the load, its warnings, and doubts.

use std::collections::BTreeSet;

use super::{LintArgs, exit, print};
use crate::detect::builtin;
use crate::policy;
use crate::snapshot::{Snapshot, Sources, policy_limits};
use crate::yaml::fault::Fault;

pub(super) fn run(args: &LintArgs) -> u8 {
    let settings = match super::super::load_settings(args.config.as_deref(), None) {
        Ok(settings) => settings,
        Err(faults) => return report(args, &faults, &[]),
    };
    let sources = Sources::of(&settings, None, builtin::check);
    let loaded = sources
        .read()
        .and_then(|files| Ok((Snapshot::from_files(&files, &sources, &settings, None)?, files)));
    let (snapshot, files) = match loaded {
        Ok(loaded) => loaded,
        Err(faults) => return report(args, &faults, &[]),
    };
    let detectors = snapshot.catalog.detectors.iter();
    let votes = detectors.map(|(name, detector)| (name.clone(), detector.votes())).collect();
    let detectors = policy::lint::Voters { votes, of_strategies: snapshot.catalog.of_strategies() };
    let doubts = policy::lint::lint(&files.policies, &detectors, &policy_limits(&settings));
    let mut found = snapshot.warnings.clone();
    let told: BTreeSet<(String, u32, u32)> =
        found.iter().map(|fault| (fault.file.clone(), fault.line, fault.column)).collect();
    let doubts = sources.place(&files, doubts).into_iter();
    found.extend(doubts.filter(|d| !told.contains(&(d.file.clone(), d.line, d.column))));
    found.sort();
    report(args, &[], &found)
}

fn report(args: &LintArgs, errors: &[Fault], warnings: &[Fault]) -> u8 {
    for (severity, faults) in [("error", errors), ("warning", warnings)] {
        for fault in faults {
            super::super::check::show(args.json, severity, fault);
        }
    }
    if !args.json {
        print(&format!("{} faults, {} warnings", errors.len(), warnings.len()));
    }
    match (errors.is_empty(), warnings.is_empty()) {
        (false, _) => exit::DATA,
        (true, false) => exit::FAILED,
        (true, true) => exit::OK,
    }
}
