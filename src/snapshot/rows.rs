//! What the API stored of tenants, detectors and strategies: a source of live state beside the files.
//!
//! What a file defines is the file's; the stored one of that name is shadowed. A row that does not
//! fit fails alone: its tenant is nobody, its detector is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::registered::{self, Registered};
use super::{Files, Snapshot, overlays, seen, seen::Seen};
use crate::catalog::{Catalog, LoadContext, SourceFile, Tenant};
use crate::domain::id::{DetectorName, TenantId};
use crate::settings::Tier;
use crate::store::{Object, ObjectKey, Store, StoreError};
use crate::yaml::fault::{Fault, FaultKind};

/// Everything of the store that is live.
pub const KINDS: [&str; 6] = [overlays::KIND, "tenant", "quota", "pause", "detector", "strategies"];
/// Before the names of stored rows where files have their folder.
const STORED: &str = "stored/";

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKind {
    /// What a tenant is: the keys of a tenant file.
    Tenant,
    /// What a tenant has instead of its tier's limits.
    Quota,
    /// That a tenant is refused.
    Pause,
    /// A detector of one tenant: the keys of a detector file.
    Detector,
    /// Strategies of everyone, beside those of the file.
    Strategies,
}

impl RowKind {
    /// What rows are called in the store, audits and routes.
    pub fn name(self) -> &'static str {
        match self {
            RowKind::Tenant => "tenant",
            RowKind::Quota => "quota",
            RowKind::Pause => "pause",
            RowKind::Detector => "detector",
            RowKind::Strategies => "strategies",
        }
    }

    /// What manifests call it: a row is no file.
    pub(super) fn stored_as(self) -> &'static str {
        match self {
            RowKind::Tenant => "stored tenant",
            RowKind::Quota => "quota",
            RowKind::Pause => "pause",
            RowKind::Detector => "registered detector",
            RowKind::Strategies => "stored strategies",
        }
    }

    pub(super) const ALL: [RowKind; 5] =
        [RowKind::Tenant, RowKind::Quota, RowKind::Pause, RowKind::Detector, RowKind::Strategies];
}

/// Where a row is; no two have the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowPlace {
    /// What it says.
    pub kind: RowKind,
    /// Of whom; `None` of everyone.
    pub tenant: Option<TenantId>,
    /// Of what; of a tenant itself its id.
    pub name: String,
}

impl RowPlace {
    /// What a row says of a tenant.
    pub fn of_tenant(kind: RowKind, tenant: &TenantId) -> Self {
        Self { kind, tenant: Some(tenant.clone()), name: tenant.to_string() }
    }

    /// A detector of a tenant.
    pub fn of_detector(tenant: &TenantId, name: &DetectorName) -> Self {
        let (kind, tenant) = (RowKind::Detector, Some(tenant.clone()));
        Self { kind, tenant, name: name.to_string() }
    }

    /// The strategies.
    pub fn of_strategies() -> Self {
        Self { kind: RowKind::Strategies, tenant: None, name: "strategies".to_owned() }
    }

    /// Where the store has it.
    pub fn key(&self) -> ObjectKey {
        let (kind, name) = (self.kind.name().into(), self.name.clone());
        ObjectKey { kind, tenant: self.tenant.clone(), name }
    }

    /// Where a file of the same content would lie, for faults.
    pub(super) fn path(&self) -> String {
        let (tenant, name) = (self.tenant.as_ref().map_or("", TenantId::as_str), &self.name);
        match self.kind {
            RowKind::Tenant | RowKind::Quota | RowKind::Pause => {
                format!("{STORED}tenants/{tenant}.yaml")
            }
            RowKind::Detector => format!("{STORED}tenants/{tenant}/detectors/{name}.yaml"),
            RowKind::Strategies => format!("{STORED}strategies.yaml"),
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it is.
    pub place: RowPlace,
    /// From 1.
    pub version: u64,
    /// Of version and body.
    pub etag: String,
    /// When it was stored, milliseconds since 1970.
    pub at_ms: i64,
    /// JSON.
    pub body: String,
}

impl Row {
    /// What an object of the store says; `None` where it is none of these.
    pub fn of(object: &Object) -> Option<Row> {
        let ObjectKey { kind, tenant, name } = &object.key;
        let kind = RowKind::ALL.into_iter().find(|known| known.name() == kind)?;
        // What is of a tenant says of which.
        let whose = kind == RowKind::Strategies || tenant.is_some();
        Some(Row {
            place: RowPlace { kind, tenant: tenant.clone(), name: name.clone() },
            version: object.version,
            etag: overlays::tag(&object.etag),
            at_ms: object.at_ms,
            body: object.body.clone().filter(|_| whose)?,
        })
    }

    /// As the file that it stands for.
    pub(super) fn file(&self) -> SourceFile {
        let kind = match self.place.kind {
            RowKind::Tenant | RowKind::Quota | RowKind::Pause => FaultKind::Tenant,
            RowKind::Detector => FaultKind::Detector,
            RowKind::Strategies => FaultKind::Strategy,
        };
        SourceFile { kind, path: self.place.path(), bytes: self.body.as_bytes().into() }
    }

    pub(super) fn fault(&self, code: &'static str, message: String, hint: &str) -> Fault {
        let SourceFile { kind, path: file, .. } = self.file();
        Fault { kind, file, line: 0, column: 0, code, message, hint: Some(hint.into()) }
    }
}

/// What a tenant has instead of its tier's limits; `None` is the tier's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Requests judged in each hour of the clock.
    pub requests_per_hour: Option<u32>,
    /// Jobs started each day.
    pub jobs_per_day: Option<u32>,
    /// Requests being judged at once.
    pub concurrent: Option<u32>,
}

/// Every live object of the store.
pub async fn stored(store: &dyn Store) -> Result<Vec<Object>, StoreError> {
    let mut all = Vec::new();
    for kind in KINDS {
        all.extend(store.objects(kind.into()).await?);
    }
    Ok(all)
}

/// The rows among objects.
pub(super) fn rows(objects: &[Object]) -> Vec<Arc<Row>> {
    objects.iter().filter_map(Row::of).map(Arc::new).collect()
}

/// Whether two lists in the order of the store hold the same versions.
pub(super) fn same(a: &[Arc<Row>], b: &[Arc<Row>]) -> bool {
    let same = |(a, b): (&Arc<Row>, &Arc<Row>)| a.place == b.place && a.version == b.version;
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// What files and rows together make of the tenants.
#[derive(Debug, Clone, Default)]
pub(super) struct Settled {
    pub(super) catalog: Catalog,
    pub(super) seen: BTreeMap<TenantId, Arc<Seen>>,
    pub(super) warnings: Vec<Fault>,
    pub(super) held: Held,
}

/// What rows say beside the tenants' definitions.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    paused: BTreeSet<TenantId>,
    quotas: BTreeMap<TenantId, Quota>,
    /// Registered detectors as they were read.
    registered: Registered,
    /// Rows that do not fit, and why.
    broken: BTreeMap<RowPlace, Vec<Fault>>,
}

/// `catalog` with what `files.rows` hold in the place of what it may have had of other rows;
/// `warnings` are those of its files, `before` what other rows made.
pub(super) fn settle(
    mut catalog: Catalog,
    warnings: Vec<Fault>,
    files: &Files,
    context: &LoadContext<'_>,
    before: Option<&Held>,
) -> Settled {
    catalog.tenants.retain(|_, tenant| !tenant.source.starts_with(STORED));
    let mut held = Held::default();
    let mut shadowed = Vec::new();
    let bundles = files.bundles();
    for row in &files.rows {
        let Some(tenant) = &row.place.tenant else { continue };
        match row.place.kind {
            RowKind::Tenant if catalog.tenants.contains_key(tenant) => {
                let message = "a file of this name serves instead of this stored tenant";
                let hint = "delete the stored tenant, or remove the file";
                shadowed.push(row.fault("shadowed", message.into(), hint));
            }
            RowKind::Tenant => match read(row, context, &bundles) {
                Ok(read) => drop(catalog.tenants.insert(tenant.clone(), Arc::new(read))),
                Err(faults) => drop(held.broken.insert(row.place.clone(), faults)),
            },
            RowKind::Pause => drop(held.paused.insert(tenant.clone())),
            RowKind::Quota => match serde_json::from_str(&row.body) {
                Ok(quota) => drop(held.quotas.insert(tenant.clone(), quota)),
                Err(_) => {
                    let message = "is no stored quota; the tier's limits hold".to_owned();
                    shadowed.push(row.fault("unreadable", message, "store it again"));
                }
            },
            RowKind::Detector | RowKind::Strategies => {}
        }
    }
    held.registered = registered::read(&files.rows, context, before.map(|held| &held.registered));
    let unfit = registered::settle(&mut catalog, &held.registered, &files.rows);
    shadowed.extend(unfit.shadowed);
    held.broken.extend(unfit.broken);
    let mut all: Vec<Fault> = warnings.into_iter().filter(|found| !of_names(found)).collect();
    all.extend(catalog.unknown_names());
    all.extend(shadowed);
    all.extend(held.broken.values().flatten().cloned());
    all.sort();
    Settled { seen: seen::by_tenant(&catalog), catalog, warnings: all, held }
}

/// Warnings that depend on which tenants there are.
fn of_names(found: &Fault) -> bool {
    let names = matches!(found.code, "unknown_tenant" | "unknown_detector");
    let rows = found.file.starts_with(STORED);
    rows || (names && matches!(found.kind, FaultKind::Tenant | FaultKind::Detector))
}

fn read(
    row: &Row,
    context: &LoadContext<'_>,
    bundles: &BTreeSet<&str>,
) -> Result<Tenant, Vec<Fault>> {
    let tenant = Catalog::tenant(&row.file(), context)?;
    let unknown = tenant.policies.iter().filter(|bundle| !bundles.contains(bundle.as_str()));
    let faults: Vec<Fault> = unknown
        .map(|bundle| {
            let message = format!("the tenant names the policy `{bundle}`, which does not exist");
            row.fault("unknown_policy", message, "name a bundle of the policy tree")
        })
        .collect();
    if faults.is_empty() { Ok(tenant) } else { Err(faults) }
}

impl Files {
    /// Folders of the policy tree that tenants may name.
    fn bundles(&self) -> BTreeSet<&str> {
        self.policies.iter().filter_map(|file| Some(file.path.split_once('/')?.0)).collect()
    }
}

impl Snapshot {
    /// What the store holds there, shadowed or not.
    pub fn row(&self, place: &RowPlace) -> Option<&Arc<Row>> {
        self.files.rows.iter().find(|row| row.place == *place)
    }

    /// Every row of a kind.
    pub fn rows(&self, kind: RowKind) -> impl Iterator<Item = &Arc<Row>> {
        self.files.rows.iter().filter(move |row| row.place.kind == kind)
    }

    /// Whether a file defines the tenant, so that the API must not.
    pub fn file_defines_tenant(&self, tenant: &TenantId) -> bool {
        let tenant = self.catalog.tenants.get(tenant);
        tenant.is_some_and(|tenant| !tenant.source.starts_with(STORED))
    }

    /// Whether a file defines the detector for the tenant, so that the API must not.
    pub fn file_defines_detector(&self, tenant: &TenantId, name: &DetectorName) -> bool {
        let tenant = self.catalog.tenants.get(tenant);
        let found = tenant.and_then(|tenant| self.catalog.visible_one(tenant, name));
        found.is_some_and(|detector| detector.private_to.is_none())
    }

    /// Why a row does not serve.
    pub fn broken_row(&self, place: &RowPlace) -> Option<&[Fault]> {
        self.held.broken.get(place).map(Vec::as_slice)
    }

    pub(super) fn broken_rows(&self) -> impl Iterator<Item = (&RowPlace, &Vec<Fault>)> {
        self.held.broken.iter()
    }

    /// Whether the tenant is refused, by its file or by an administrator.
    pub fn paused(&self, tenant: &Tenant) -> bool {
        tenant.paused || self.held.paused.contains(&tenant.id)
    }

    /// The tenant's limits: its tier's, under what an administrator set.
    pub fn limits(&self, tenant: &Tenant) -> Tier {
        let tier = tenant.tier;
        let Some(own) = self.held.quotas.get(&tenant.id) else { return tier };
        Tier {
            requests_per_hour: own.requests_per_hour.or(tier.requests_per_hour),
            jobs_per_day: own.jobs_per_day.or(tier.jobs_per_day),
            concurrent: own.concurrent.or(tier.concurrent),
            weight: tier.weight,
        }
    }
}
