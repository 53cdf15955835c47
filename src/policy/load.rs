//! All policies of one snapshot: every bundle and overlay compiled and probed, one view per tenant
//! and bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use regorus::Value;
use serde_json::Map;

use super::document;
use super::entry::Ask;
use super::layers::{self, Layer, Layers, dotted};
use super::prepared::Prepared;
use super::rego::Parsed;
use super::unit::{Recipe, Unit, Units};
use super::workshop::{Workshop, build_all};
use super::{FloorPlan, Limits, STACK_BYTES, Source, TenantScope, differs, fault, table};
use crate::domain::digest::Digest;
use crate::domain::id::{BundleName, TenantId};
use crate::yaml::fault::{Fault, FaultKind};

/// Entries of a document times values of a table that are evaluated without changing threads.
const INLINE_WORK_MAX: usize = 4_096;

/// Policies that went live, and what an author should look at.
pub struct Loaded {
    /// The policies.
    pub policies: Policies,
    /// Not fatal.
    pub warnings: Vec<Fault>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

/// An immutable set of compiled policies.
#[derive(Default)]
pub struct Policies {
    views: BTreeMap<TenantId, BTreeMap<BundleName, Arc<View>>>,
    bundles: BTreeSet<BundleName>,
    units: Units,
    parsed: BTreeMap<Digest, Arc<Parsed>>,
    prepared: Option<Arc<Prepared>>,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").field("bundles", &self.bundles).finish_non_exhaustive()
    }
}

/// What decides for one tenant under one bundle: base, bundle, overlay and floor.
pub struct View {
    pub(super) unit: Arc<Unit>,
    pub(super) settings_value: Value,
    digest: Digest,
    bundle: BundleName,
    layers: Vec<String>,
    settings: serde_json::Value,
    /// Values in the table.
    settings_size: usize,
    provenance: BTreeMap<String, String>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("layers", &self.layers).finish_non_exhaustive()
    }
}

impl View {
    /// Of everything that can change an answer.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The layers that exist, earliest first; the floor is the last.
    pub fn layers(&self) -> &[String] {
        &self.layers
    }

    /// The bundle.
    pub fn bundle(&self) -> &BundleName {
        &self.bundle
    }

    /// The merged table.
    pub fn settings(&self) -> &serde_json::Value {
        &self.settings
    }

    /// Which layer set each dotted key of the table.
    pub fn provenance(&self) -> &BTreeMap<String, String> {
        &self.provenance
    }

    /// Whether a rule names this opt-in fact: metadata, caller, content, content_length, language,
    /// or health for what is known of detectors.
    pub fn reads(&self, fact: &str) -> bool {
        self.unit.reads.contains(fact)
    }

    /// What the floor demands whatever the request, for plans that no policy made.
    pub fn floor(&self) -> &FloorPlan {
        &self.unit.floor
    }

    /// Whether these take so little that no other thread is worth the way: the product's own rules
    /// go through findings and detectors, and for each through the table.
    pub(super) fn is_small_for(&self, asks: &[(Ask, Value)]) -> bool {
        let entries: usize = asks.iter().map(|(_, document)| document::entries(document)).sum();
        self.unit.is_inline && (entries + 1).saturating_mul(self.settings_size) <= INLINE_WORK_MAX
    }

    /// Whether no layer can take a block back by `ignore`. Votes may still settle against it.
    pub fn block_is_final(&self) -> bool {
        let empty = self
            .settings
            .get("ignore")
            .is_none_or(|list| list.as_array().is_some_and(Vec::is_empty));
        self.unit.files.iter().all(|file| {
            let asked = self.layers.contains(&dotted(&file.package));
            let rules = file.rules.iter().filter(|rule| asked && rule.name == ["ignore"]);
            let mut rules =
                rules.map(|rule| rule.refs.is_empty() || (empty && rule.walks_ignore_table));
            rules.all(|harmless| harmless)
        })
    }
}

impl Policies {
    /// Reads, checks, compiles and probes everything; units and parsed files of `previous` are
    /// used again where their content is the same.
    ///
    /// # Errors
    /// Every fault found; nothing is live then.
    pub fn load(
        sources: &[Source],
        tenants: &[TenantScope],
        limits: &Limits,
        previous: Option<&Policies>,
    ) -> Result<Loaded, Vec<Fault>> {
        on_large_stack(|| Builder::build(sources, tenants, limits, previous)).unwrap_or_else(|| {
            Err(vec![fault("policies", (0, 0), "load", "the load panicked", "")])
        })
    }

    /// The view of a tenant that may use the bundle.
    pub fn view(&self, tenant: &TenantId, bundle: &BundleName) -> Option<&Arc<View>> {
        self.views.get(tenant)?.get(bundle)
    }

    /// Every bundle, in name order.
    pub fn bundles(&self) -> impl Iterator<Item = &BundleName> {
        self.bundles.iter()
    }

    /// Number of units with a tenant's own rules whose engines are ready.
    pub fn prepared(&self) -> usize {
        self.prepared.as_ref().map_or(0, |prepared| prepared.len())
    }

    /// Number of distinct compiled units.
    pub fn units(&self) -> usize {
        self.units.len()
    }
}

/// Runs on a thread whose stack any policy within the limits fits; `None` if it panicked.
pub(super) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("policy-load".into());
        let thread = builder.stack_size(STACK_BYTES).spawn_scoped(scope, work).ok()?;
        thread.join().ok()
    })
}

struct Builder<'a> {
    layers: Layers,
    workshop: Workshop<'a>,
    previous: Option<&'a Policies>,
    units: Units,
    /// What was made of each stack of layers.
    digests: BTreeMap<Vec<Vec<String>>, Digest>,
    failed: BTreeSet<Digest>,
    faults: BTreeSet<Fault>,
}

impl<'a> Builder<'a> {
    fn build(
        sources: &[Source],
        tenants: &[TenantScope],
        limits: &'a Limits,
        previous: Option<&'a Policies>,
    ) -> Result<Loaded, Vec<Fault>> {
        let none = BTreeMap::new();
        let layers = layers::read(sources, limits, previous.map_or(&none, |old| &old.parsed))?;
        let prepared = previous.and_then(|old| old.prepared.clone());
        let prepared = prepared.unwrap_or_else(|| Arc::new(Prepared::new(limits.prepared_max)));
        let workshop = Workshop { limits, prepared, floors: Mutex::default() };
        let mut builder = Builder {
            layers,
            workshop,
            previous,
            units: Units::new(),
            digests: BTreeMap::new(),
            failed: BTreeSet::new(),
            faults: BTreeSet::new(),
        };
        let bundles = builder.bundles();
        builder.compile(&bundles);
        let mut shared = BTreeMap::new();
        for bundle in &bundles {
            if let Some(view) = builder.view(None, bundle) {
                shared.insert(bundle.clone(), Arc::new(view));
            }
        }
        let mut warnings = builder.overlays(tenants, &bundles);
        warnings.extend(builder.layers.values().flat_map(misnamed));
        warnings.extend(builder.layers.values().flat_map(differs::warnings));
        let mut views: BTreeMap<TenantId, BTreeMap<BundleName, Arc<View>>> = BTreeMap::new();
        for tenant in tenants {
            for bundle in &tenant.bundles {
                if !bundles.contains(bundle) {
                    builder.faults.insert(unknown_bundle(tenant, bundle, &bundles));
                    continue;
                }
                let own = builder.layers.contains_key(&overlay(&tenant.id, bundle));
                let view = match own {
                    true => builder.view(Some(&tenant.id), bundle).map(Arc::new),
                    false => shared.get(bundle).cloned(),
                };
                let slot = views.entry(tenant.id.clone()).or_default();
                slot.extend(view.map(|view| (bundle.clone(), view)));
            }
        }
        if !builder.faults.is_empty() {
            return Err(builder.faults.into_iter().collect());
        }
        let files = builder.layers.values().flat_map(|layer| &layer.files);
        let parsed = files
            .map(|file| (layers::address(&file.file, file.text.as_bytes()), file.clone()))
            .collect();
        let prepared = Some(builder.workshop.prepared);
        let policies = Policies { views, bundles, units: builder.units, parsed, prepared };
        Ok(Loaded { policies, warnings })
    }

    fn bundles(&self) -> BTreeSet<BundleName> {
        let names = self.layers.keys().filter_map(|path| match path.as_slice() {
            [name] => BundleName::parse(name).ok(),
            _ => None,
        });
        names.collect()
    }

    /// Compiles overlays of tenants that are not asked for too, and names them.
    fn overlays(&mut self, tenants: &[TenantScope], bundles: &BTreeSet<BundleName>) -> Vec<Fault> {
        let mut warnings = Vec::new();
        let uses: BTreeSet<(&TenantId, &BundleName)> = tenants
            .iter()
            .flat_map(|scope| scope.bundles.iter().map(move |bundle| (&scope.id, bundle)))
            .collect();
        let paths: Vec<Vec<String>> =
            self.layers.keys().filter(|path| path.len() == 3).cloned().collect();
        for path in paths {
            let [_, tenant, bundle] = path.as_slice() else { continue };
            let Ok((tenant, bundle)) = TenantId::parse(tenant)
                .and_then(|tenant| BundleName::parse(bundle).map(|bundle| (tenant, bundle)))
            else {
                continue;
            };
            let place = format!("tenants/{tenant}/{bundle}");
            if !bundles.contains(&bundle) {
                let message = format!("no bundle is called `{bundle}`");
                let names = bundles.iter().map(BundleName::as_str);
                let hint = table::nearest(bundle.as_str(), names).map_or_else(
                    || format!("write the bundle `{bundle}`, or remove the folder"),
                    |name| format!("rename the folder to `{name}`"),
                );
                let first = self.layers.get(&path).and_then(|layer| layer.files.first());
                let file =
                    first.map_or_else(|| format!("{place}/data.yaml"), |f| f.file.to_string());
                self.faults.insert(fault(&file, (1, 1), "unknown_bundle", message, &hint));
                continue;
            }
            if !uses.contains(&(&tenant, &bundle)) {
                self.view(Some(&tenant), &bundle);
                let message = format!("no tenant `{tenant}` uses the bundle `{bundle}`");
                let hint = "add the tenant's file or its policy, or remove the overlay";
                warnings.push(fault(&place, (0, 0), "unused_overlay", message, hint));
            }
        }
        warnings
    }

    /// Compiles on every core what the views below will ask for and no earlier load has compiled.
    fn compile(&mut self, bundles: &BTreeSet<BundleName>) {
        let overlays = self.layers.keys().filter_map(|path| match path.as_slice() {
            [root, tenant, bundle] if root == "tenants" => {
                let ids = TenantId::parse(tenant).ok().zip(BundleName::parse(bundle).ok());
                ids.filter(|(_, bundle)| bundles.contains(bundle))
            }
            _ => None,
        });
        let shared = bundles.iter().map(|bundle| stack(None, bundle));
        let stacks = shared.chain(overlays.map(|(tenant, bundle)| stack(Some(&tenant), &bundle)));
        let (mut open, mut known) = (Vec::new(), BTreeSet::new());
        let (mut units, mut digests) = (Units::new(), BTreeMap::new());
        for stack in stacks {
            let whole = self.with_floor(stack.clone());
            let parts = self.parts(&whole);
            digests.insert(whole, parts.digest);
            match self.previous.and_then(|old| old.units.get(&parts.digest)) {
                Some(unit) => drop(units.insert(parts.digest, Arc::clone(unit))),
                None if known.insert(parts.digest) => open.push((parts, self.settings(&stack).0)),
                None => {}
            }
        }
        (self.units, self.digests) = (units, digests);
        for (digest, built) in build_all(open, &self.workshop) {
            match built {
                Ok(unit) => drop(self.units.insert(digest, Arc::new(unit))),
                Err(faults) => {
                    self.failed.insert(digest);
                    self.faults.extend(faults);
                }
            }
        }
    }

    fn with_floor(&self, mut stack: Vec<Vec<String>>) -> Vec<Vec<String>> {
        stack.push(vec!["floor".to_owned()]);
        stack.retain(|path| self.layers.contains_key(path));
        stack
    }

    fn settings(&self, stack: &[Vec<String>]) -> (serde_json::Value, BTreeMap<String, String>) {
        let names: Vec<(String, &Map<String, serde_json::Value>)> = stack
            .iter()
            .filter_map(|path| Some((dotted(path), &self.layers.get(path)?.settings)))
            .collect();
        let tables: Vec<_> = names.iter().map(|(name, table)| (name.as_str(), *table)).collect();
        let (settings, provenance) = table::merge(&tables);
        (serde_json::Value::Object(settings), provenance)
    }

    fn view(&mut self, tenant: Option<&TenantId>, bundle: &BundleName) -> Option<View> {
        let stack = stack(tenant, bundle);
        let (settings, provenance) = self.settings(&stack);
        let stack = self.with_floor(stack);
        let unit = self.unit(&stack, &settings)?;
        let names: Vec<String> = stack.iter().map(|path| dotted(path)).collect();
        let text = settings.to_string();
        let parts = [unit.digest.as_bytes().as_slice(), text.as_bytes()];
        let digest = Digest::of_all(parts.into_iter().chain(names.iter().map(String::as_bytes)));
        let settings_value = Value::from(settings.clone());
        let (layers, bundle, settings_size) = (names, bundle.clone(), document::size(&settings));
        Some(View {
            unit,
            settings_value,
            digest,
            bundle,
            layers,
            settings,
            settings_size,
            provenance,
        })
    }

    fn unit(&mut self, stack: &[Vec<String>], settings: &serde_json::Value) -> Option<Arc<Unit>> {
        if let Some(digest) = self.digests.get(stack)
            && let Some(unit) = self.units.get(digest)
        {
            return Some(unit.clone());
        }
        let parts = self.parts(stack);
        let digest = parts.digest;
        if let Some(unit) = self.units.get(&digest) {
            return Some(unit.clone());
        }
        if self.failed.contains(&digest) {
            return None;
        }
        let known = self.previous.and_then(|old| old.units.get(&digest)).cloned();
        let unit = match known
            .map_or_else(|| Unit::build(parts, settings, &self.workshop).map(Arc::new), Ok)
        {
            Ok(unit) => unit,
            Err(faults) => {
                self.failed.insert(digest);
                self.faults.extend(faults);
                return None;
            }
        };
        self.units.insert(digest, unit.clone());
        Some(unit)
    }

    /// The layers with Rego, and every bundle that these refer to.
    fn parts(&self, stack: &[Vec<String>]) -> Recipe {
        let empty = Layer::default();
        let layer = |path: &[String]| self.layers.get(path).unwrap_or(&empty);
        let layers: Vec<(Vec<String>, Vec<Arc<Parsed>>)> = stack
            .iter()
            .map(|path| (path.clone(), layer(path).files.clone()))
            .filter(|(_, files)| !files.is_empty())
            .collect();
        let mut seen: BTreeSet<String> =
            stack.iter().filter_map(|path| path.first().cloned()).collect();
        let mut read: Vec<Arc<Parsed>> = Vec::new();
        let mut open: Vec<Arc<Parsed>> =
            layers.iter().flat_map(|(_, files)| files.clone()).collect();
        while let Some(file) = open.pop() {
            let refs = file.rules.iter().flat_map(|rule| &rule.refs).filter(|found| found.absolute);
            for name in refs.filter_map(|found| found.path.first()) {
                if seen.insert(name.clone()) {
                    let files = &layer(std::slice::from_ref(name)).files;
                    read.extend(files.iter().cloned());
                    open.extend(files.iter().cloned());
                }
            }
        }
        read.sort_by(|a, b| a.file.cmp(&b.file));
        let floor = serde_json::Value::Object(layer(&["floor".to_owned()]).settings.clone());
        let floor_text = floor.to_string();
        let mut address: Vec<&[u8]> = vec![floor_text.as_bytes()];
        for file in layers.iter().flat_map(|(_, files)| files).chain(&read) {
            address.extend([file.file.as_bytes(), file.text.as_bytes()]);
        }
        let reads_all = stack.iter().any(|path| layer(path).reads_all);
        let parts = address.into_iter().chain(reads_all.then_some(b"reads all".as_slice()));
        Recipe { digest: Digest::of_all(parts), layers, read, reads_all, floor }
    }
}

/// Rules that nobody asks or refers to, and whose names are almost those of rules that are asked.
fn misnamed(layer: &Layer) -> Vec<Fault> {
    let asked: BTreeSet<&str> = Ask::ALL.iter().flat_map(|ask| ask.rules()).copied().collect();
    let rules = || layer.files.iter().flat_map(|file| file.rules.iter().map(move |r| (file, r)));
    let used: BTreeSet<&String> =
        rules().flat_map(|(_, rule)| &rule.refs).flat_map(|r| &r.path).collect();
    let lone = rules().filter(|(_, rule)| rule.arity.is_none());
    let lone = lone.filter_map(|(file, rule)| Some((file, rule, rule.name.first()?)));
    lone.filter(|(_, _, name)| !asked.contains(name.as_str()) && !used.contains(name))
        .filter_map(|(file, rule, name)| {
            let near = table::nearest(name, asked.iter().copied())?;
            let message = format!("nobody asks the rule `{name}`");
            let hint = format!("write `{near}`, or remove the rule");
            Some(fault(&file.file, rule.position, "unused_rule", message, &hint))
        })
        .collect()
}

/// Base, bundle and overlay, earliest first.
fn stack(tenant: Option<&TenantId>, bundle: &BundleName) -> Vec<Vec<String>> {
    let mut stack = vec![vec!["base".to_owned()], vec![bundle.as_str().to_owned()]];
    stack.extend(tenant.map(|tenant| overlay(tenant, bundle)));
    stack
}

fn overlay(tenant: &TenantId, bundle: &BundleName) -> Vec<String> {
    vec!["tenants".into(), tenant.as_str().into(), bundle.as_str().into()]
}

fn unknown_bundle(
    tenant: &TenantScope,
    bundle: &BundleName,
    bundles: &BTreeSet<BundleName>,
) -> Fault {
    let names = bundles.iter().map(BundleName::as_str);
    Fault {
        kind: FaultKind::Tenant,
        file: format!("{}.yaml", tenant.id),
        line: 0,
        column: 0,
        code: "unknown_policy",
        message: format!("the tenant names the policy `{bundle}`, which does not exist"),
        hint: table::nearest(bundle.as_str(), names).map(|name| format!("write `{name}`")),
    }
}

impl Unit {
    pub(super) fn answers(&self, ask: Ask) -> bool {
        self.asks.contains(&ask)
    }
}
