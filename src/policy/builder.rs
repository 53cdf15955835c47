//! Compiles the layers of one load: the bundles, then the overlays that stand on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use regorus::Value;
use serde_json::Map;

use super::apart::{self, Apart, OverlayFaults, OverlayName};
use super::document;
use super::entry::Ask;
use super::layers::{self, Layer, Layers, dotted};
use super::load::{Loaded, Policies, View};
use super::prepared::Prepared;
use super::probe::Probing;
use super::rego::Parsed;
use super::unit::{Recipe, Unit, Units};
use super::workshop::{Workshop, build_all};
use super::{Limits, Source, TenantScope, differs, fault, promise, table};
use crate::domain::digest::Digest;
use crate::domain::id::{BundleName, TenantId};
use crate::yaml::fault::{Fault, FaultKind};

pub(super) struct Builder<'a> {
    layers: Layers,
    workshop: Workshop<'a>,
    previous: Option<&'a Policies>,
    units: Units,
    /// What was made of each stack of layers.
    digests: BTreeMap<Vec<Vec<String>>, Digest>,
    failed: BTreeMap<Digest, Vec<Fault>>,
    faults: BTreeSet<Fault>,
    /// Overlays that may be at fault.
    apart: BTreeSet<OverlayName>,
    /// The one of them that is new.
    fresh: Option<OverlayName>,
    /// The bundles by themselves.
    shared: BTreeMap<BundleName, Arc<View>>,
    /// Those that are.
    broken: OverlayFaults,
    /// Views whose promise was tried.
    promises: BTreeSet<Digest>,
}

impl<'a> Builder<'a> {
    pub(super) fn read(
        sources: &[Source],
        limits: &'a Limits,
        previous: Option<&'a Policies>,
        apart: Apart,
    ) -> Result<Builder<'a>, Vec<Fault>> {
        let none = BTreeMap::new();
        let parsed = previous.map_or(&none, |old| &old.parsed);
        let Apart { overlays: apart, fresh } = apart;
        let names = apart.keys().cloned().collect();
        let (shared, own) = apart::split(sources, &apart);
        let mut layers = layers::read(&shared, limits, parsed)?;
        let broken = apart::read(&mut layers, apart, &own, (limits, parsed));
        let prepared = previous.and_then(|old| old.prepared.clone());
        let prepared = prepared.unwrap_or_else(|| Arc::new(Prepared::new(limits.prepared_max)));
        let workshop = Workshop { limits, prepared, floors: Mutex::default() };
        Ok(Builder {
            layers,
            workshop,
            previous,
            units: Units::new(),
            digests: BTreeMap::new(),
            failed: BTreeMap::new(),
            faults: BTreeSet::new(),
            apart: names,
            fresh,
            broken,
            shared: BTreeMap::new(),
            promises: BTreeSet::new(),
        })
    }

    pub(super) fn build(mut self, tenants: &[TenantScope]) -> Result<Loaded, Vec<Fault>> {
        let bundles = self.bundles();
        self.compile(bundles.iter().map(|bundle| (None, bundle.clone())).collect());
        for bundle in &bundles {
            if let Some(view) = self.view(None, bundle) {
                self.shared.insert(bundle.clone(), Arc::new(view));
            }
        }
        let overlays = self.layers.keys().filter_map(|path| match path.as_slice() {
            [root, tenant, bundle] if root == "tenants" => {
                let ids = TenantId::parse(tenant).ok().zip(BundleName::parse(bundle).ok());
                ids.filter(|(_, bundle)| self.shared.contains_key(bundle))
            }
            _ => None,
        });
        self.compile(overlays.map(|(tenant, bundle)| (Some(tenant), bundle)).collect());
        let mut warnings = self.overlays(tenants, &bundles);
        for layer in self.layers.values() {
            let files: Vec<&Parsed> = layer.files.iter().map(AsRef::as_ref).collect();
            warnings.extend(misnamed(&files));
        }
        warnings.extend(self.layers.values().flat_map(differs::warnings));
        let mut views: BTreeMap<TenantId, BTreeMap<BundleName, Arc<View>>> = BTreeMap::new();
        for tenant in tenants {
            for bundle in &tenant.bundles {
                if !bundles.contains(bundle) {
                    self.faults.insert(unknown_bundle(tenant, bundle, &bundles));
                    continue;
                }
                let view = self.seen(&tenant.id, bundle);
                let slot = views.entry(tenant.id.clone()).or_default();
                slot.extend(view.map(|view| (bundle.clone(), view)));
            }
        }
        if !self.faults.is_empty() {
            return Err(self.faults.into_iter().collect());
        }
        warnings.extend(self.units.values().flat_map(|unit| unit.doubts.iter().cloned()));
        let files = self.layers.values().flat_map(|layer| &layer.files);
        let parsed = files
            .map(|file| (layers::address(&file.file, file.text.as_bytes()), file.clone()))
            .collect();
        let prepared = Some(self.workshop.prepared);
        let promises = self.promises;
        let policies = Policies { views, bundles, units: self.units, parsed, prepared, promises };
        Ok(Loaded { policies, warnings, broken: self.broken })
    }

    /// What a tenant sees: the bundle's own view where it has no overlay, and that view marked as
    /// broken where the overlay stands apart and is at fault.
    fn seen(&mut self, tenant: &TenantId, bundle: &BundleName) -> Option<Arc<View>> {
        let name = (tenant.clone(), bundle.clone());
        if self.layers.contains_key(&overlay(tenant, bundle)) {
            let view = self.own(&name);
            if view.is_some() || !self.broken.contains_key(&name) {
                return view.map(Arc::new);
            }
        }
        let shared = self.shared.get(bundle);
        match self.broken.contains_key(&name) {
            true => shared.map(|shared| Arc::new(shared.broken())),
            false => shared.cloned(),
        }
    }

    /// The view with a tenant's overlay. Faults of one that stands apart are its own.
    fn own(&mut self, name: &OverlayName) -> Option<View> {
        let (tenant, bundle) = name;
        if !self.apart.contains(name) {
            return self.view(Some(tenant), bundle);
        }
        let others = std::mem::take(&mut self.faults);
        let view = apart::guarded(name, || self.view(Some(tenant), bundle));
        let own = std::mem::replace(&mut self.faults, others);
        let view = view.unwrap_or_else(|faults| {
            self.broken.insert(name.clone(), faults);
            None
        });
        if view.is_none() {
            self.broken.entry(name.clone()).or_default().extend(own);
        }
        view
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
                let found = fault(&file, (1, 1), "unknown_bundle", message, &hint);
                let name = (tenant, bundle);
                match self.apart.contains(&name) {
                    true => self.broken.entry(name).or_default().push(found),
                    false => drop(self.faults.insert(found)),
                }
                continue;
            }
            if !uses.contains(&(&tenant, &bundle)) {
                self.own(&(tenant.clone(), bundle.clone()));
                let message = format!("no tenant `{tenant}` uses the bundle `{bundle}`");
                let hint = "add the tenant's file or its policy, or remove the overlay";
                warnings.push(fault(&place, (0, 0), "unused_overlay", message, hint));
            }
        }
        warnings
    }

    /// Compiles on every core what the views will ask for and no earlier load has compiled.
    fn compile(&mut self, names: Vec<(Option<TenantId>, BundleName)>) {
        let mut open = BTreeMap::new();
        for (tenant, bundle) in names {
            let stack = stack(tenant.as_ref(), &bundle);
            let whole = self.with_floor(stack.clone());
            let recipe = self.parts(&whole);
            let digest = recipe.digest;
            self.digests.insert(whole, digest);
            if self.units.contains_key(&digest) || open.contains_key(&digest) {
                continue;
            }
            match self.previous.and_then(|old| old.units.get(&digest)) {
                Some(unit) => drop(self.units.insert(digest, Arc::clone(unit))),
                None => {
                    let probing = self.probing(tenant, &bundle);
                    open.insert(digest, (recipe, self.settings(&stack).0, probing));
                }
            }
        }
        for (digest, built) in build_all(open.into_values(), &self.workshop) {
            match built {
                Ok(unit) => drop(self.units.insert(digest, Arc::new(unit))),
                Err(faults) => drop(self.failed.insert(digest, faults)),
            }
        }
    }

    /// How a unit is tried: those of the files as files are.
    fn probing(&self, tenant: Option<TenantId>, bundle: &BundleName) -> Probing {
        let Some(name) = tenant.map(|tenant| (tenant, bundle.clone())) else {
            return Probing::Files;
        };
        match (self.apart.contains(&name), self.fresh.as_ref() == Some(&name)) {
            (false, _) => Probing::Files,
            (true, true) => Probing::Fresh,
            (true, false) => {
                let shared = self.shared.get(bundle);
                Probing::Accepted(shared.map(|view| view.floor().clone()).unwrap_or_default())
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

    /// `None` where something is at fault, also below an overlay, whose rules say nothing then.
    fn view(&mut self, tenant: Option<&TenantId>, bundle: &BundleName) -> Option<View> {
        if tenant.is_some() && !self.shared.contains_key(bundle) {
            return None;
        }
        let stack = stack(tenant, bundle);
        let (settings, provenance) = self.settings(&stack);
        let stack = self.with_floor(stack);
        let unit = self.unit(&stack, &settings, (tenant, bundle))?;
        let promise = self.promise(&stack);
        let names: Vec<String> = stack.iter().map(|path| dotted(path)).collect();
        let text = settings.to_string();
        let parts = [unit.digest.as_bytes().as_slice(), text.as_bytes()];
        let digest = Digest::of_all(parts.into_iter().chain(names.iter().map(String::as_bytes)));
        let settings_value = Value::from(settings.clone());
        let (layers, bundle, settings_size) = (names, bundle.clone(), document::size(&settings));
        let view = View {
            unit,
            is_promised: promise.is_some(),
            settings_value,
            digest,
            bundle,
            is_broken: false,
            layers,
            settings,
            settings_size,
            settings_digest: Default::default(),
            settings_words: Default::default(),
            provenance,
        };
        // A tenant's table adds no rule: what its bundle's rules promise was tried.
        let own = promise.filter(|path| tenant.is_none() || path.len() == 3);
        match self.kept(&view, own) {
            Ok(()) => Some(view),
            Err(fault) => {
                self.faults.insert(fault);
                None
            }
        }
    }

    /// The path of the last layer with rules of its own above base and below the floor, where each
    /// of these promises that a block is final.
    fn promise(&self, stack: &[Vec<String>]) -> Option<Vec<String>> {
        let asked = stack.iter().filter(|path| *path != &["base"] && *path != &["floor"]);
        let layers = asked.filter_map(|path| Some((path, self.layers.get(path)?)));
        let own = layers.filter(|(_, layer)| !layer.files.is_empty() || layer.block_is_final);
        let own: Vec<_> = own.collect();
        let all = own.iter().all(|(_, layer)| layer.block_is_final);
        own.last().filter(|_| all).map(|(path, _)| (*path).clone())
    }

    /// Tries what a layer promises, once per distinct view.
    fn kept(&mut self, view: &View, promise: Option<Vec<String>>) -> Result<(), Fault> {
        let Some(path) = promise else { return Ok(()) };
        let known = self.previous.is_some_and(|old| old.promises.contains(&view.digest));
        if !known {
            promise::check(view, &path, self.workshop.limits)?;
        }
        self.promises.insert(view.digest);
        Ok(())
    }

    /// The unit of a stack, which `compile` has built unless the thread at it panicked.
    fn unit(
        &mut self,
        stack: &[Vec<String>],
        settings: &serde_json::Value,
        (tenant, bundle): (Option<&TenantId>, &BundleName),
    ) -> Option<Arc<Unit>> {
        let known = self.digests.get(stack).copied();
        let digest = known.unwrap_or_else(|| self.parts(stack).digest);
        if !self.units.contains_key(&digest) && !self.failed.contains_key(&digest) {
            let probing = self.probing(tenant.cloned(), bundle);
            match Unit::build(self.parts(stack), settings, &self.workshop, probing) {
                Ok(unit) => drop(self.units.insert(digest, Arc::new(unit))),
                Err(faults) => drop(self.failed.insert(digest, faults)),
            }
        }
        self.faults.extend(self.failed.get(&digest).into_iter().flatten().cloned());
        self.units.get(&digest).cloned()
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
pub(super) fn misnamed(files: &[&Parsed]) -> Vec<Fault> {
    let asked: BTreeSet<&str> = Ask::ALL.iter().flat_map(|ask| ask.rules()).copied().collect();
    let rules = || files.iter().flat_map(|file| file.rules.iter().map(move |r| (file, r)));
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
