//! All files of the catalog at once: every fault of every file, or a whole catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use secrecy::SecretString;

use super::credential::SecretRef;
use super::{Catalog, Detector, Strategy, Tenant, detector_file, strategy_file, tenant_file};
use crate::domain::category::Category;
use crate::domain::id::TenantId;
use crate::outbound::Guard;
use crate::settings::{Env, Tiers};
use crate::yaml::fault::{Fault, FaultKind};
use crate::yaml::{self, Fields, Node, Source};

/// One file as read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// What it is.
    pub kind: FaultKind,
    /// As the operator would name it.
    pub path: String,
    /// The file's content.
    pub bytes: Arc<[u8]>,
}

impl SourceFile {
    /// The file's name without folder and `.yaml`.
    pub fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".yaml").unwrap_or(name)
    }
}

/// What is wrong with a detector's `params`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamFault {
    /// JSON pointer into the detector file, such as `/params/patterns/0`.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to change.
    pub hint: String,
}

/// What loading asks of its surroundings.
#[derive(Clone, Copy)]
pub struct LoadContext<'a> {
    /// Production demands the governance keys.
    pub env: Env,
    /// Resolves a credential; `None` where there is none.
    pub secret: &'a dyn Fn(&SecretRef) -> Option<SecretString>,
    /// Where detectors may be.
    pub guard: &'a Guard,
    /// What tenants may name as their tier.
    pub tiers: &'a Tiers,
    /// Checks the parameters of a detector.
    pub check_params: &'a dyn Fn(&Detector) -> Result<(), ParamFault>,
}

impl std::fmt::Debug for LoadContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadContext").field("env", &self.env).finish_non_exhaustive()
    }
}

impl Catalog {
    /// Loads detector, tenant and strategy files; other kinds are left alone. The second part of
    /// the answer are warnings.
    pub fn load(
        files: &[SourceFile],
        context: &LoadContext<'_>,
    ) -> Result<(Catalog, Vec<Fault>), Vec<Fault>> {
        Self::load_after(None, files, context)
    }

    /// The same after an earlier load of other files: tenants whose files are equal are not read
    /// again.
    pub fn load_after(
        before: Option<(&Catalog, &[SourceFile])>,
        files: &[SourceFile],
        context: &LoadContext<'_>,
    ) -> Result<(Catalog, Vec<Fault>), Vec<Fault>> {
        let known = known_tenants(before);
        let tenant = |file: &SourceFile| match known.get(file.path.as_str()) {
            Some((bytes, tenant)) if **bytes == file.bytes => Ok(Arc::clone(tenant)),
            Some(_) | None => tenant_file::read(file, context).map(Arc::new),
        };
        let mut catalog = Catalog::default();
        let mut faults = Vec::new();
        let mut strategies = None;
        for file in files {
            let read = match file.kind {
                FaultKind::Detector => detector_file::read(file, context).map(|detector| {
                    catalog.detectors.insert(detector.name.clone(), Arc::new(detector));
                }),
                FaultKind::Tenant => tenant(file).map(|tenant| {
                    catalog.tenants.insert(tenant.id.clone(), tenant);
                }),
                FaultKind::Strategy => tree(file).map(|tree| strategies = Some((file, tree))),
                FaultKind::Settings | FaultKind::Policy => Ok(()),
            };
            faults.extend(read.err().unwrap_or_default());
        }
        let mut warnings = Vec::new();
        if let Some((file, tree)) = strategies {
            match strategy_file::read(&tree, file) {
                Ok(read) => catalog.strategies = read,
                Err(more) => faults.extend(more),
            }
            warnings.extend(strategy_file::drop_unknown(&mut catalog, &tree, file));
        }
        if !faults.is_empty() {
            faults.sort();
            return Err(faults);
        }
        warnings.extend(catalog.unknown_names());
        warnings.sort();
        Ok((catalog, warnings))
    }

    /// One tenant file by itself, as loading would read it.
    pub fn tenant(file: &SourceFile, context: &LoadContext<'_>) -> Result<Tenant, Vec<Fault>> {
        tenant_file::read(file, context)
    }

    /// What a tenant registered by itself, as loading would read its file.
    pub fn registered(
        file: &SourceFile,
        tenant: &TenantId,
        context: &LoadContext<'_>,
    ) -> Result<Detector, Vec<Fault>> {
        detector_file::registered(file, tenant, context)
    }

    /// Strategies that the API stored.
    pub fn stored_strategies(file: &SourceFile) -> Result<BTreeMap<String, Strategy>, Vec<Fault>> {
        strategy_file::stored(file)
    }

    /// Names in tenant and detector files that stand for nothing.
    pub fn unknown_names(&self) -> Vec<Fault> {
        let mut warnings = Vec::new();
        let mut warn = |kind, file: &str, what: &str, name: &str| {
            let message = format!("there is no {what} `{name}`");
            let hint = Some(format!("add the {what} or remove the name"));
            let code = if what == "tenant" { "unknown_tenant" } else { "unknown_detector" };
            warnings.push(Source { kind, file }.fault((0, 0), code, message, hint));
        };
        for tenant in self.tenants.values() {
            let plan = tenant.default_plan.iter();
            let planned = plan.flat_map(|p| p.required.iter().chain(&p.optional));
            let named = tenant.detectors.iter().map(String::as_str).filter(|name| *name != "*");
            let names: BTreeSet<&str> = planned.map(|name| name.as_str()).chain(named).collect();
            let own = self.private.get(&tenant.id);
            let known = |name: &&str| {
                self.detectors.contains_key(*name) || own.is_some_and(|own| own.contains_key(*name))
            };
            for name in names.into_iter().filter(|name| !known(name)) {
                warn(FaultKind::Tenant, &tenant.source, "detector", name);
            }
        }
        for detector in self.detectors.values() {
            let names = detector.tenants.iter().filter(|name| *name != "*");
            for name in names.filter(|name| !self.tenants.contains_key(name.as_str())) {
                warn(FaultKind::Detector, &detector.source, "tenant", name);
            }
        }
        warnings.extend(self.detectors.values().flat_map(|detector| idle_curves(detector)));
        warnings
    }
}

/// Curves for categories of which the detector finds nothing.
fn idle_curves(detector: &Detector) -> impl Iterator<Item = Fault> {
    let names = detector.calibration.0.keys().filter_map(|name| Category::parse(name).ok());
    let idle = names.filter(|name| !detector.categories.iter().any(|own| own.touches(name)));
    idle.map(|name| {
        let message = format!("`calibration` names {name}, which this detector does not find");
        let hint = Some("name one of its `categories`, or remove the curve".to_owned());
        let source = Source { kind: FaultKind::Detector, file: &detector.source };
        source.fault((0, 0), "unknown_category", message, hint)
    })
}

/// What earlier files held, by path. A tenant is named as its file.
fn known_tenants<'a>(
    before: Option<(&'a Catalog, &'a [SourceFile])>,
) -> BTreeMap<&'a str, (&'a Arc<[u8]>, &'a Arc<Tenant>)> {
    let Some((catalog, files)) = before else { return BTreeMap::new() };
    let files = files.iter().filter(|file| file.kind == FaultKind::Tenant);
    let known = files.filter_map(|file| {
        let tenant = catalog.tenants.get(file.stem())?;
        (tenant.source == file.path).then_some((file.path.as_str(), (&file.bytes, tenant)))
    });
    known.collect()
}

/// The tree of a file.
pub(super) fn tree(file: &SourceFile) -> Result<Node, Vec<Fault>> {
    let text = yaml::text(file.kind, &file.path, &file.bytes)?;
    yaml::tree(file.kind, &file.path, text)
}

/// Checks `schema_version`: only 1 is known.
pub(super) fn schema_version(fields: &mut Fields<'_>) {
    if let Some(version) = fields.take::<u64>("schema_version")
        && version != 1
    {
        let message = format!("schema_version {version} is not known to this release");
        fields.refuse("schema_version", "schema_version", message, "write `schema_version: 1`");
    }
}

/// Checks that the file is named as what it holds.
pub(super) fn named_as_file(fields: &mut Fields<'_>, key: &str, name: &str, file: &SourceFile) {
    if name != file.stem() {
        let message = format!("`{key}` is `{name}`, but the file is named `{}`", file.stem());
        let hint = format!("rename the file to `{name}.yaml` or the other way round");
        fields.refuse(key, "name_mismatch", message, &hint);
    }
}

/// Refuses keys whose behaviour this release does not have.
pub(super) fn not_built(fields: &mut Fields<'_>, keys: &[&'static str]) {
    keys.iter().for_each(|key| fields.not_built(key));
}
