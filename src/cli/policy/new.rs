//! `orchestrator policy new`: files that pass `policy test` and `check` at once.

use std::path::{Path, PathBuf};

use super::{NewArgs, complain, exit, print, tenant};
use crate::cli::load_settings;
use crate::domain::id::{BundleName, TenantId};
use crate::policy::rego_path;
use crate::settings::Settings;
use crate::yaml;
use crate::yaml::fault::FaultKind;

/// The bundle that new bundles build on.
const BELOW: &str = "standard";
/// Whose file a new bundle is added to where no tenant is named.
const DEFAULT_TENANT: &str = "default";

const BUNDLE: [(&str, &str); 5] = [
    ("data.yaml", include_str!("new/bundle/data.yaml")),
    ("plan.rego", include_str!("new/bundle/plan.rego")),
    ("verdict.rego", include_str!("new/bundle/verdict.rego")),
    ("verdict_test.rego", include_str!("new/bundle/verdict_test.rego")),
    ("NAME_cases.yaml", include_str!("new/bundle/cases.yaml")),
];

const OVERLAY: [(&str, &str); 4] = [
    ("data.yaml", include_str!("new/overlay/data.yaml")),
    ("verdict.rego", include_str!("new/overlay/verdict.rego")),
    ("verdict_test.rego", include_str!("new/overlay/verdict_test.rego")),
    ("NAME_cases.yaml", include_str!("new/overlay/cases.yaml")),
];

/// One file to write.
struct Target {
    path: PathBuf,
    text: String,
    /// It exists, and `text` is its next content.
    changes: bool,
}

pub(super) fn run(args: &NewArgs) -> u8 {
    match targets(args).and_then(|targets| write(&targets).map(|()| targets)) {
        Ok(targets) => {
            for target in &targets {
                let note = if target.changes { " (changed)" } else { "" };
                print(&format!("{}{note}", target.path.display()));
            }
            print("now: orchestrator policy test; orchestrator check");
            exit::OK
        }
        Err((code, message)) => {
            complain(&format!("policy new: {message}"));
            code
        }
    }
}

type Refusal = (u8, String);

fn targets(args: &NewArgs) -> Result<Vec<Target>, Refusal> {
    let settings = load_settings(args.config.as_deref(), None).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        (exit::DATA, faults.join("\n"))
    })?;
    let name = BundleName::parse(&args.name).map_err(|error| (exit::USAGE, error.to_string()))?;
    let id = args.tenant.as_deref().map(tenant).transpose();
    let id = id.map_err(|code| (code, "no tenant can be called that".to_owned()))?;
    let (policies, tenants) = (&settings.paths.policies, &settings.paths.tenants);
    for folder in [policies, tenants] {
        if !folder.is_dir() {
            let message =
                format!("there is no folder {}; run `orchestrator init` first", folder.display());
            return Err((exit::NO_INPUT, message));
        }
    }
    let bundle = policies.join(name.as_str());
    let mut targets = Vec::new();
    if bundle.exists() && id.is_none() {
        let message = format!("{} exists; choose another name, or add --tenant", bundle.display());
        return Err((exit::DATA, message));
    }
    if !bundle.exists() {
        if !policies.join(BELOW).is_dir() {
            let message =
                format!("new policies build on `{BELOW}`, which is not there; put it back");
            return Err((exit::DATA, message));
        }
        let user = id.as_ref().map_or(DEFAULT_TENANT, TenantId::as_str);
        targets.extend(fill(&bundle, &BUNDLE, (&name, user), false));
    }
    if let Some(id) = &id {
        let overlay = policies.join("tenants").join(id.as_str()).join(name.as_str());
        targets.extend(fill(&overlay, &OVERLAY, (&name, id.as_str()), true));
    }
    targets.extend(grant(&settings, id.as_ref(), &name)?);
    let taken = targets.iter().find(|target| !target.changes && target.path.exists());
    if let Some(taken) = taken {
        return Err((exit::DATA, format!("{} exists; nothing was written", taken.path.display())));
    }
    Ok(targets)
}

fn fill(
    folder: &Path,
    templates: &[(&str, &str)],
    (name, tenant): (&BundleName, &str),
    overlay: bool,
) -> Vec<Target> {
    let bundle = name.as_str();
    let path = |last: String| match overlay {
        true => rego_path(&["tenants".into(), tenant.to_owned(), last]),
        false => last,
    };
    let (package, tests) = (path(bundle.to_owned()), path(format!("{bundle}_test")));
    let fill = |text: &str| {
        text.replace("PACKAGE_TEST", &tests)
            .replace("PACKAGE", &package)
            .replace("TENANT", tenant)
            .replace("NAME", bundle)
    };
    let one = |(file, text): &(&str, &str)| Target {
        path: folder.join(fill(file)),
        text: fill(text),
        changes: false,
    };
    templates.iter().map(one).collect()
}

/// Lets the tenant use the bundle: its file made, or the name added to its list.
fn grant(
    settings: &Settings,
    id: Option<&TenantId>,
    name: &BundleName,
) -> Result<Option<Target>, Refusal> {
    let id = id.map_or(DEFAULT_TENANT, TenantId::as_str);
    let path = settings.paths.tenants.join(format!("{id}.yaml"));
    if !path.exists() {
        let text = format!("schema_version: 1\nid: {id}\npolicies: [{name}]\n");
        return Ok(Some(Target { path, text, changes: false }));
    }
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(&path)
        .map_err(|error| (exit::NO_INPUT, format!("{shown}: could not be read: {error}")))?;
    if uses(&shown, &text).contains(&name.to_string()) {
        return Ok(None);
    }
    let next = added(&text, name);
    // What the edit made of the file is read again: it must be the old list and the name.
    let mut wanted = uses(&shown, &text);
    wanted.push(name.to_string());
    if uses(&shown, &next) != wanted {
        let message = format!("add `{name}` to `policies` of {shown} first; nothing was written");
        return Err((exit::DATA, message));
    }
    Ok(Some(Target { path, text: next, changes: true }))
}

/// The tenant's policies.
fn uses(file: &str, text: &str) -> Vec<String> {
    let value = yaml::parse_value(FaultKind::Tenant, file, text).unwrap_or_default();
    match value.get("policies").and_then(|list| list.as_array()) {
        Some(list) => list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        None => vec![BELOW.to_owned()],
    }
}

/// The file with the name at the end of its `policies`, whichever way the list is written.
fn added(text: &str, name: &BundleName) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = lines.iter().position(|line| line.starts_with("policies:"));
    match at {
        None => lines.push(format!("policies: [{BELOW}, {name}]")),
        Some(at) => {
            let list = lines.iter().skip(at + 1).take_while(|line| line.trim().starts_with("- "));
            let entries = list.count();
            let indent = lines.get(at + 1).map_or(0, |line| line.len() - line.trim_start().len());
            match lines.get_mut(at) {
                Some(line) if entries == 0 => {
                    if let Some(end) = line.find(']') {
                        line.insert_str(end, &format!(", {name}"));
                    }
                }
                _ => lines.insert(at + 1 + entries, format!("{}- {name}", " ".repeat(indent))),
            }
        }
    }
    lines.join("\n") + "\n"
}

fn write(targets: &[Target]) -> Result<(), Refusal> {
    for target in targets {
        let wrong = |error| {
            (exit::NO_INPUT, format!("{}: could not be written: {error}", target.path.display()))
        };
        if let Some(folder) = target.path.parent() {
            std::fs::create_dir_all(folder).map_err(wrong)?;
        }
        std::fs::write(&target.path, &target.text).map_err(wrong)?;
    }
    Ok(())
}
