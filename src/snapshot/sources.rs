//! Where live files come from: folders on disk, or the embedded ones where a folder never was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::remote::{Remote, SHOWN};
use super::trust::{Doubt, Trust};
use super::{Overlay, Row};
use crate::assets;
use crate::catalog::detector::DISCOVERED;
use crate::catalog::{Detector, ParamFault, SourceFile};
use crate::domain::category::Category;
use crate::domain::content::ContentType;
use crate::domain::id::DetectorName;
use crate::policy;
use crate::settings::{Discovered, Paths, Settings};
use crate::yaml;
use crate::yaml::fault::{Fault, FaultKind};

/// Checks a built-in detector's parameters; given from above, because detectors are built there.
pub type CheckParams = fn(&Detector) -> Result<(), ParamFault>;

/// Files below one root.
const FILES_MAX: usize = 20_000;
/// Folders inside folders.
const DEPTH_MAX: usize = 8;
/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where one kind of file lives.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// On disk since the start; must stay.
    Disk(PathBuf, Trust),
    /// Inside the binary, below this prefix.
    Embedded(&'static str),
}

/// All places, fixed at the start.
#[derive(Debug, Clone)]
pub struct Sources {
    detectors: Place,
    tenants: Place,
    strategies: Place,
    pub(super) policies: Place,
    /// Instead of `policies`.
    pub(super) remote: Option<Arc<Remote>>,
    /// Whose signature a bundle in `policies` must have.
    pub(super) key_file: Option<(PathBuf, Trust)>,
    discovered: Vec<Discovered>,
    /// What discovered services said of themselves.
    told: Arc<Mutex<BTreeMap<DetectorName, Told>>>,
    pub(super) check_params: CheckParams,
}

/// What a service can find, and in which types of content.
pub type Told = (Vec<Category>, BTreeSet<ContentType>);

/// Everything that was read, as it was read.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Detector, tenant and strategy files.
    pub catalog: Vec<SourceFile>,
    /// The policy tree.
    pub policies: Vec<policy::Source>,
    /// What the API stored, by tenant and bundle.
    pub overlays: Vec<Arc<Overlay>>,
    /// Tenants, quotas and pauses that the API stored.
    pub rows: Vec<Arc<Row>>,
}

impl Sources {
    /// The places that `settings` names, relative to `base` or the working directory.
    pub fn of(settings: &Settings, base: Option<&Path>, check_params: CheckParams) -> Sources {
        let paths = &settings.paths;
        let defaults = Paths::default();
        let trust = Trust::of(settings.env);
        let below = |path: &Path| base.map_or_else(|| path.to_path_buf(), |base| base.join(path));
        let place = |path: &Path, default: &Path, prefix: &'static str| {
            let named = path != default;
            let path = below(path);
            // Whoever names a folder means that folder; only the defaults may be absent.
            if named || path.exists() { Place::Disk(path, trust) } else { Place::Embedded(prefix) }
        };
        Sources {
            detectors: place(&paths.detectors, &defaults.detectors, "detectors/"),
            tenants: place(&paths.tenants, &defaults.tenants, "config/tenants/"),
            strategies: place(&paths.strategies, &defaults.strategies, "config/strategies.yaml"),
            policies: place(&paths.policies, &defaults.policies, "policies/"),
            remote: Remote::of(settings, base),
            key_file: settings
                .policy
                .remote
                .public_key_file
                .as_deref()
                .map(|key| (below(key), trust)),
            discovered: settings.discovered.clone(),
            told: Arc::default(),
            check_params,
        }
    }

    /// Takes over what a discovered service said; false where that is known already.
    pub fn learn(&self, name: &DetectorName, told: Told) -> bool {
        let mut known = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.clone(), told.clone()) != Some(told)
    }

    /// Files that discovered detectors stand for, where `files` hold none of the name.
    fn discovered(&self, files: &[SourceFile]) -> Vec<SourceFile> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let of_file = |name: &str| {
            files.iter().any(|file| file.kind == FaultKind::Detector && file.stem() == name)
        };
        let others = self.discovered.iter().filter(|found| !of_file(found.name.as_str()));
        others.map(|found| stands_for(found, told.get(&found.name))).collect()
    }

    /// Folders to watch: each root, and its parent, where a root is swapped by renaming.
    pub(super) fn roots(&self) -> Vec<PathBuf> {
        let local = self.remote.is_none().then_some(&self.policies);
        [&self.detectors, &self.tenants, &self.strategies]
            .into_iter()
            .chain(local)
            .filter_map(|place| match place {
                // Events name absolute paths.
                Place::Disk(path, _) => Some(std::path::absolute(path).unwrap_or(path.clone())),
                Place::Embedded(_) => None,
            })
            .collect()
    }

    /// Where policies are published, if that is elsewhere.
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_deref()
    }

    /// The folder or bundle of policies, as an operator would name it.
    pub fn policies_root(&self) -> String {
        if self.remote.is_some() {
            return SHOWN.to_owned();
        }
        if let Some(bundle) = self.bundle() {
            return bundle.display().to_string();
        }
        match &self.policies {
            Place::Disk(path, _) => path.display().to_string(),
            Place::Embedded(prefix) => format!("embedded/{}", prefix.trim_end_matches('/')),
        }
    }

    /// The same faults with policy files named as an operator would.
    pub fn place(&self, files: &Files, mut faults: Vec<Fault>) -> Vec<Fault> {
        let root = self.policies_root();
        for fault in &mut faults {
            if files.policies.iter().any(|file| file.path == fault.file) {
                fault.file = format!("{root}/{}", fault.file);
            } else if files.stores(&fault.file) {
                fault.file = format!("stored/{}", fault.file);
            }
        }
        faults
    }

    /// Reads everything, once.
    pub fn read(&self) -> Result<Files, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut files = Files::default();
        for (kind, place) in [
            (FaultKind::Detector, &self.detectors),
            (FaultKind::Tenant, &self.tenants),
            (FaultKind::Strategy, &self.strategies),
        ] {
            match read(kind, place, is_yaml) {
                Ok(found) => files.catalog.extend(found.into_iter().map(|file| SourceFile {
                    kind,
                    path: file.shown,
                    bytes: file.bytes,
                })),
                Err(fault) => faults.push(fault),
            }
        }
        match self.tree() {
            Ok(found) => files.policies = found,
            Err(found) => faults.extend(found),
        }
        files.catalog.extend(self.discovered(&files.catalog));
        if faults.is_empty() { Ok(files) } else { Err(faults) }
    }
}

/// Until its service says what it can, a detector finds what no table knows.
fn stands_for(found: &Discovered, told: Option<&Told>) -> SourceFile {
    let unknown = || (vec![Category::other(&found.name)], BTreeSet::default());
    let (categories, types) = told.cloned().unwrap_or_else(unknown);
    let mut document = serde_json::json!({
        "name": found.name,
        "protocol": "native",
        "endpoint": found.url,
        "categories": categories,
    });
    if let (Some(keys), false) = (document.as_object_mut(), types.is_empty()) {
        keys.insert("types".to_owned(), serde_json::json!(types));
    }
    SourceFile {
        kind: FaultKind::Detector,
        path: format!("{DISCOVERED}{}.yaml", found.name),
        bytes: document.to_string().into_bytes().into(),
    }
}

pub(super) struct Found {
    /// As an operator would name it.
    shown: String,
    /// Below the root, with `/`.
    pub(super) relative: String,
    pub(super) bytes: Arc<[u8]>,
}

fn is_yaml(relative: &str) -> bool {
    relative.ends_with(".yaml") && !relative.contains('/')
}

pub(super) fn is_policy(relative: &str) -> bool {
    let name = relative.rsplit('/').next().unwrap_or_default();
    name.ends_with(".rego")
        || name == "data.yaml"
        || name.ends_with("_cases.yaml")
        || name == ".manifest"
}

/// What to change about a name that is nearly one that is read: left out in silence, such a file
/// would be a rule that never acts.
pub(super) fn misnamed(kind: FaultKind, relative: &str) -> Option<String> {
    let name = relative.rsplit('/').next().unwrap_or_default();
    let (stem, ending) = name.rsplit_once('.')?;
    let ending = ending.to_ascii_lowercase();
    if kind != FaultKind::Policy {
        return (ending == "yml" && !relative.contains('/'))
            .then(|| format!("rename it to {stem}.yaml"));
    }
    if is_policy(relative) {
        return None;
    }
    match (stem.to_ascii_lowercase().as_str(), ending.as_str()) {
        (_, "rego") => Some(format!("rename it to {stem}.rego")),
        ("data", "yaml" | "yml" | "json") => Some("rename it to data.yaml".to_owned()),
        (stem, "yaml" | "yml") if stem.ends_with("_cases") => {
            Some(format!("rename it to {stem}.yaml"))
        }
        _ => None,
    }
}

pub(super) fn read(
    kind: FaultKind,
    place: &Place,
    wanted: fn(&str) -> bool,
) -> Result<Vec<Found>, Fault> {
    match place {
        Place::Embedded(prefix) => Ok(embedded(prefix, wanted)),
        Place::Disk(path, trust) => disk(kind, (path, *trust), wanted),
    }
}

fn embedded(prefix: &str, wanted: fn(&str) -> bool) -> Vec<Found> {
    assets::paths()
        .into_iter()
        .filter_map(|path| {
            let relative = path.strip_prefix(prefix)?.to_owned();
            if !relative.is_empty() && !wanted(&relative) {
                return None;
            }
            let bytes = assets::read(&path)?;
            Some(Found {
                shown: format!("embedded/{path}"),
                relative,
                bytes: bytes.as_ref().into(),
            })
        })
        .collect()
}

pub(super) fn disk(
    kind: FaultKind,
    (root, trust): (&Path, Trust),
    wanted: fn(&str) -> bool,
) -> Result<Vec<Found>, Fault> {
    let lost = |error: std::io::Error| {
        let message = format!("could not be read: {error}");
        let mut fault = fault(kind, root, "unreadable", message);
        fault.hint = Some("put it back; what was loaded before keeps serving".into());
        fault
    };
    let real = root.canonicalize().map_err(lost)?;
    let mut found = Vec::new();
    if real.is_file() {
        let folder = (real.parent().unwrap_or(&real), trust);
        let bytes = believed(kind, (root, &real), folder, FILE_BYTES_MAX)?;
        let shown = root.display().to_string();
        found.push(Found { relative: String::new(), shown, bytes });
        return Ok(found);
    }
    let mut folders = vec![(real.clone(), String::new(), 0usize)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(lost)? {
            let entry = entry.map_err(lost)?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if name.starts_with('.') && name != ".manifest" {
                continue;
            }
            let relative = format!("{prefix}{name}");
            let shown = root.join(&relative);
            // Links inside the root are how mounted volumes swap their files; others lead astray.
            let target = match entry.file_type() {
                // Its folder is canonical already; ten thousand files feel the difference.
                Ok(kind) if kind.is_file() || kind.is_dir() => Ok(entry.path()),
                Ok(_) | Err(_) => entry.path().canonicalize(),
            };
            let target = match target {
                Ok(target) => target,
                // What a link promised is missing: leaving it out could loosen a policy.
                Err(error) if entry.file_type().is_ok_and(|kind| kind.is_symlink()) => {
                    let message = format!("is a link that leads nowhere: {error}");
                    return Err(fault(kind, &shown, "unreadable", message));
                }
                Err(_) => continue,
            };
            if !target.starts_with(&real) {
                let message = "is a link that leads out of its folder".to_owned();
                return Err(fault(kind, &shown, "link_outside", message));
            }
            if let Some(hint) = misnamed(kind, &relative) {
                let message = "would be ignored under this name".to_owned();
                let mut fault = fault(kind, &shown, "misnamed_file", message);
                fault.hint = Some(hint);
                return Err(fault);
            }
            if target.is_dir() {
                if depth < DEPTH_MAX {
                    folders.push((target, format!("{relative}/"), depth + 1));
                }
            } else if wanted(&relative) && !target.is_file() {
                let message = "is neither a file nor a folder".to_owned();
                return Err(fault(kind, &shown, "no_file", message));
            } else if wanted(&relative) {
                if found.len() >= FILES_MAX {
                    let message = format!("holds more than {FILES_MAX} files");
                    return Err(fault(kind, root, "too_many_files", message));
                }
                let from = (shown.as_path(), target.as_path());
                let bytes = believed(kind, from, (&real, trust), FILE_BYTES_MAX)?;
                found.push(Found { shown: shown.display().to_string(), relative, bytes });
            }
        }
    }
    found.sort_by(|a, b| a.relative.cmp(&b.relative));
    Ok(found)
}

/// At most `most` bytes of the file `path`, which is called `shown`; below `root` where that is
/// trusted.
pub(super) fn believed(
    kind: FaultKind,
    (shown, path): (&Path, &Path),
    (root, trust): (&Path, Trust),
    most: u64,
) -> Result<Arc<[u8]>, Fault> {
    use std::io::Read as _;
    let read = || -> std::io::Result<(Vec<u8>, Option<Doubt>)> {
        let file = std::fs::File::open(path)?;
        // Of what was opened: the name may be another file's by now.
        let doubt = trust.doubts(root, &file.metadata()?);
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        Ok((bytes, doubt))
    };
    let (bytes, doubt) = read()
        .map_err(|error| fault(kind, shown, "unreadable", format!("could not be read: {error}")))?;
    if let Some(Doubt { code, message, hint }) = doubt {
        return Err(Fault { hint: Some(hint.to_owned()), ..fault(kind, shown, code, message) });
    }
    if bytes.len() as u64 > most {
        let message = format!("holds more than {most} bytes");
        let (line, column) = yaml::end(bytes.get(..most as usize).unwrap_or_default());
        return Err(Fault { line, column, ..fault(kind, shown, "too_large", message) });
    }
    Ok(bytes.into())
}

pub(super) fn fault(kind: FaultKind, path: &Path, code: &'static str, message: String) -> Fault {
    let file = path.display().to_string();
    Fault { kind, file, line: 0, column: 0, code, message, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_a_fault_and_not_an_absent_file() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("verdict.rego");
        std::os::unix::fs::symlink("..data/verdict.rego", &link).unwrap();
        let place = (dir.path(), Trust::Anyone);
        let read = || disk(FaultKind::Policy, place, is_policy).map(|found| found.len());
        assert_eq!(read().unwrap_err().code, "unreadable");
        std::fs::create_dir(dir.path().join("..data")).unwrap();
        std::fs::write(dir.path().join("..data/verdict.rego"), "package x").unwrap();
        assert_eq!(read().unwrap(), 1);
    }
}
