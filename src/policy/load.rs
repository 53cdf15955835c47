//! All policies of one snapshot: every bundle and overlay compiled and probed, one view per tenant
//! and bundle.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, OnceLock};

use regorus::Value;

use super::apart::{Apart, OverlayFaults};
use super::builder::Builder;
use super::entry::Ask;
use super::prepared::Prepared;
use super::rego::Parsed;
use super::unit::{Unit, Units};
use super::{FloorPlan, Limits, STACK_BYTES, Source, TenantScope, document, fault};
use crate::domain::digest::Digest;
use crate::domain::id::{BundleName, TenantId};
use crate::yaml::fault::Fault;

/// Entries of a document times values of a table that are evaluated without changing threads.
const INLINE_WORK_MAX: usize = 4_096;

/// Policies that went live, and what an author should look at.
pub struct Loaded {
    /// The policies.
    pub policies: Policies,
    /// Not fatal.
    pub warnings: Vec<Fault>,
    /// Overlays that do not serve; files are named as the policy tree does.
    pub broken: OverlayFaults,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

/// An immutable set of compiled policies.
#[derive(Default)]
pub struct Policies {
    pub(super) views: BTreeMap<TenantId, BTreeMap<BundleName, Arc<View>>>,
    pub(super) bundles: BTreeSet<BundleName>,
    pub(super) units: Units,
    pub(super) parsed: BTreeMap<Digest, Arc<Parsed>>,
    pub(super) prepared: Option<Arc<Prepared>>,
    /// Views whose promise that a block is final was tried.
    pub(super) promises: BTreeSet<Digest>,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").field("bundles", &self.bundles).finish_non_exhaustive()
    }
}

/// What decides for one tenant under one bundle: base, bundle, overlay and floor.
#[derive(Clone)]
pub struct View {
    pub(super) unit: Arc<Unit>,
    pub(super) settings_value: Value,
    pub(super) digest: Digest,
    pub(super) bundle: BundleName,
    pub(super) is_broken: bool,
    /// Whether its layers promise that a block is final.
    pub(super) is_promised: bool,
    pub(super) layers: Vec<String>,
    pub(super) settings: serde_json::Value,
    /// Of `settings`, once somebody asked.
    pub(super) settings_digest: OnceLock<Digest>,
    /// The texts in it, likewise.
    pub(super) settings_words: OnceLock<HashSet<String>>,
    /// Values in the table.
    pub(super) settings_size: usize,
    pub(super) provenance: BTreeMap<String, String>,
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

    /// Why a later report may take a block back; `None` where the layers' manifests promise that
    /// none does. A plan that names a strategy or a quorum may settle against it all the same.
    pub fn block_may_pass(&self) -> Option<&'static str> {
        let ignores = self.settings.get("ignore").and_then(serde_json::Value::as_array);
        if !self.is_promised {
            return Some("no `.manifest` of the policy says `block_is_final`");
        }
        ignores.is_some_and(|list| !list.is_empty()).then_some("`ignore` may take a block back")
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
        Self::load_beside(sources, tenants, limits, previous, Apart::default())
    }

    /// The same where the overlays that `apart` names, and nothing else, may be at fault and the
    /// rest is live all the same; those with faults are known to be. Their views are broken.
    pub fn load_beside(
        sources: &[Source],
        tenants: &[TenantScope],
        limits: &Limits,
        previous: Option<&Policies>,
        apart: Apart,
    ) -> Result<Loaded, Vec<Fault>> {
        let build = || Builder::read(sources, limits, previous, apart)?.build(tenants);
        on_large_stack(build).unwrap_or_else(|| {
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
