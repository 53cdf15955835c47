//! `orchestrator check`: every fault of a project folder, with its place.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::session::load;
use super::{CheckArgs, complain, exit, load_settings_over, print};
use crate::api::limited::check_routes;
use crate::auth;
use crate::detect::builtin;
use crate::orchestrator::{self, kept};
use crate::settings::Settings;
use crate::snapshot::Sources;
use crate::yaml::fault::{Fault, FaultKind};

const NO_START: &str = "the service would not start";

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
    let (config, dir) = (args.config.as_deref(), args.dir.as_deref());
    let settings = match load_settings_over(config, dir, args.listen) {
        Ok(settings) => settings,
        Err(faults) => return report(args, &faults, "faults in the settings"),
    };
    let seen = match look(&settings, args.dir.as_deref()) {
        Ok(seen) => seen,
        Err(error) => {
            complain(&error);
            return exit::INTERNAL;
        }
    };
    let sources = Sources::of(&settings, args.dir.as_deref(), builtin::check);
    let loaded =
        sources.read().and_then(|files| load(&files, &sources, &settings, args.dir.as_deref()));
    for (severity, fault) in &seen.told {
        show(args.json, severity, fault);
    }
    match loaded {
        Err(faults) if seen.refused.is_empty() => report(args, &faults, "nothing would be loaded"),
        Err(faults) => report(args, &[seen.refused, faults].concat(), NO_START),
        Ok(_) if !seen.refused.is_empty() => report(args, &seen.refused, NO_START),
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

/// What would be seen of settings and data at a start, besides the project's files.
#[derive(Default)]
struct Seen {
    /// What would keep the service from starting.
    refused: Vec<Fault>,
    /// What would not, each with its severity.
    told: Vec<(&'static str, Fault)>,
}

fn look(settings: &Settings, dir: Option<&Path>) -> Result<Seen, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime could be made: {error}"))?;
    let mut here = settings.clone();
    if let Some(dir) = dir {
        here.paths.data = dir.join(&settings.paths.data);
    }
    let sight = orchestrator::look_at_data(&here);
    let refusals = runtime.block_on(orchestrator::look(settings)).into_iter().chain(sight.refusals);
    let mut seen = Seen::default();
    seen.refused.extend(refusals.map(|refusal| fault("refused_start", refusal.to_string())));
    let nobody = nobody_may_enter(settings, dir);
    seen.refused.extend(nobody.map(|refusal| fault("refused_start", refusal.to_string())));
    seen.refused.extend(check_routes(&settings.security.rate_limit).err().unwrap_or_default());
    let warnings = sight.warnings.into_iter();
    seen.told.extend(warnings.map(|(code, what)| ("warning", fault(code, what))));
    let addresses = [
        (Some(settings.server.listen), "server.listen"),
        (settings.server.admin_listen, "server.admin_listen"),
    ];
    for (address, by) in addresses {
        listen(address, by, (sight.is_served, &mut seen));
    }
    Ok(seen)
}

/// Listens for a moment. What is in use now may be free at the start.
fn listen(address: Option<SocketAddr>, by: &str, (is_served, seen): (bool, &mut Seen)) {
    let Some(address) = address else { return };
    match TcpListener::bind(address).map_err(|error| (error.kind(), error)) {
        Ok(_) => {}
        Err((ErrorKind::AddrInUse, _)) if is_served => {
            let what = format!("{address} ({by}) is in use; a service runs on this data folder");
            seen.told.push(("note", fault("address_in_use", what)));
        }
        Err((ErrorKind::AddrInUse, _)) => {
            let what = format!(
                "{address} ({by}) is in use, and no service runs on this data folder: a start now would \
                 be refused"
            );
            seen.told.push(("warning", fault("address_in_use", what)));
        }
        Err((_, error)) => {
            let what = format!("could not listen on {address}: {error}; choose another with {by}");
            seen.refused.push(fault("refused_start", what));
        }
    }
}

fn fault(code: &'static str, message: String) -> Fault {
    let (file, hint) = ("settings".into(), None);
    Fault { kind: FaultKind::Settings, file, line: 0, column: 0, code, message, hint }
}

/// Where the settings let nobody in, keys in the store may. What cannot be read is told by the load.
fn nobody_may_enter(settings: &Settings, dir: Option<&Path>) -> Option<auth::Refusal> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let keys = kept(settings, dir);
    let seen = keys.and_then(|kept| Ok((kept.keys_that_hold(now_ms)?, kept.held_a_key()?)));
    let (holding, was_any) = seen.ok()?;
    auth::without_key(settings, holding, was_any)
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
