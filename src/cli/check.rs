//! `orchestrator check`: every fault of a project folder, with its place.

use std::path::Path;

use super::session::load;
use super::{CheckArgs, complain, exit, load_settings, print};
use crate::api::limited::check_routes;
use crate::auth;
use crate::detect::builtin;
use crate::orchestrator::{self, kept};
use crate::settings::Settings;
use crate::snapshot::Sources;
use crate::yaml::fault::{Fault, FaultKind};

/// What makes a folder a project.
const PARTS: [&str; 3] = ["config", "detectors", "policies"];

pub(super) fn run(args: &CheckArgs) -> u8 {
    if let Some(dir) = &args.dir
        && !PARTS.iter().any(|part| dir.join(part).exists())
    {
        let shown = dir.display();
        complain(&format!("{shown} is no project folder: it holds none of {}", PARTS.join(", ")));
        return exit::NO_INPUT;
    }
    let settings = match load_settings(args.config.as_deref(), args.dir.as_deref()) {
        Ok(settings) => settings,
        Err(faults) => return report(args, &faults, "faults in the settings"),
    };
    let refused = match refusals(&settings, args.dir.as_deref()) {
        Ok(refused) => refused,
        Err(error) => {
            complain(&error);
            return exit::INTERNAL;
        }
    };
    let sources = Sources::of(&settings, args.dir.as_deref(), builtin::check);
    let loaded =
        sources.read().and_then(|files| load(&files, &sources, &settings, args.dir.as_deref()));
    match loaded {
        Err(faults) if refused.is_empty() => report(args, &faults, "nothing would be loaded"),
        Err(faults) => report(args, &[refused, faults].concat(), "the service would not start"),
        Ok(_) if !refused.is_empty() => report(args, &refused, "the service would not start"),
        Ok(snapshot) => {
            for warning in &snapshot.warnings {
                show(args.json, "warning", warning);
            }
            if !args.json {
                print(&format!(
                    "sound: {} detectors, {} tenants, {} policies; revision {}",
                    snapshot.catalog.detectors.len(),
                    snapshot.catalog.tenants.len(),
                    snapshot.policies.bundles().count(),
                    snapshot.revision
                ));
            }
            exit::OK
        }
    }
}

/// What else would keep the service from starting, as faults of the settings.
fn refusals(settings: &Settings, dir: Option<&Path>) -> Result<Vec<Fault>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime could be made: {error}"))?;
    let fault = |message: String| Fault {
        kind: FaultKind::Settings,
        file: "settings".into(),
        line: 0,
        column: 0,
        code: "refused_start",
        message,
        hint: None,
    };
    let refusals = runtime.block_on(orchestrator::look(settings));
    let mut faults: Vec<Fault> = refusals.iter().map(|it| fault(it.to_string())).collect();
    faults.extend(nobody_may_enter(settings, dir).map(|refusal| fault(refusal.to_string())));
    faults.extend(check_routes(&settings.security.rate_limit).err().unwrap_or_default());
    Ok(faults)
}

/// Where the settings let nobody in, keys in the store may. What cannot be read is told by the load.
fn nobody_may_enter(settings: &Settings, dir: Option<&Path>) -> Option<auth::Refusal> {
    let refusal = auth::without_key(settings)?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let keys = kept(settings, dir).and_then(|kept| kept.keys_that_hold(now_ms));
    (keys == Ok(0)).then_some(refusal)
}

fn report(args: &CheckArgs, faults: &[Fault], meaning: &str) -> u8 {
    for fault in faults {
        show(args.json, "error", fault);
    }
    if !args.json {
        let plural = if faults.len() == 1 { "" } else { "s" };
        print(&format!("{} fault{plural}: {meaning}", faults.len()));
    }
    exit::DATA
}

/// One line for people, or one JSON object.
pub(super) fn show(json: bool, severity: &str, fault: &Fault) {
    if !json {
        return print(&format!("{severity}: {fault}"));
    }
    let mut value = serde_json::to_value(fault).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("severity".into(), severity.into());
    }
    print(&value.to_string());
}
