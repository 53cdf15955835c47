//! Tenants, quotas and pauses that the API stored: a source of live state beside the files.
//!
//! A tenant that a file defines is the file's; the stored one of that name is shadowed. A stored
//! tenant that does not fit fails alone: it is nobody, as if it were unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Files, Snapshot, overlays, seen, seen::Seen};
use crate::catalog::{Catalog, LoadContext, SourceFile, Tenant};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::settings::Tier;
use crate::store::{Object, ObjectKey, Store, StoreError};
use crate::yaml::fault::{Fault, FaultKind};

/// Everything of the store that is live.
pub const KINDS: [&str; 4] = [overlays::KIND, "tenant", "quota", "pause"];
/// Before the names of stored tenants where files have their folder.
const STORED: &str = "stored/tenants/";

/// What a row says of its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKind {
    /// What it is: the keys of a tenant file.
    Tenant,
    /// What it has instead of its tier's limits.
    Quota,
    /// That it is refused.
    Pause,
}

impl RowKind {
    /// What rows are called in the store, audits and routes.
    pub fn name(self) -> &'static str {
        match self {
            RowKind::Tenant => "tenant",
            RowKind::Quota => "quota",
            RowKind::Pause => "pause",
        }
    }

    /// Where the row of `tenant` is stored.
    pub fn key(self, tenant: &TenantId) -> ObjectKey {
        let kind = self.name().into();
        ObjectKey { kind, tenant: Some(tenant.clone()), name: tenant.to_string() }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it says.
    pub kind: RowKind,
    /// Of whom.
    pub tenant: TenantId,
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
        let kinds = [RowKind::Tenant, RowKind::Quota, RowKind::Pause];
        Some(Row {
            kind: kinds.into_iter().find(|kind| kind.name() == object.key.kind)?,
            tenant: object.key.tenant.clone()?,
            version: object.version,
            etag: overlays::tag(&object.etag),
            at_ms: object.at_ms,
            body: object.body.clone()?,
        })
    }

    fn file(&self) -> SourceFile {
        SourceFile {
            kind: FaultKind::Tenant,
            path: format!("{STORED}{}.yaml", self.tenant),
            bytes: self.body.as_bytes().into(),
        }
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
    let what = |row: &Arc<Row>| (row.kind, row.tenant.clone(), row.version);
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| what(a) == what(b))
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
    /// Stored tenants that do not fit, and why.
    broken: BTreeMap<TenantId, Vec<Fault>>,
}

/// `catalog` with the tenants of `files.rows` in the place of those it may have had of other rows;
/// `warnings` are those of its files.
pub(super) fn settle(
    mut catalog: Catalog,
    warnings: Vec<Fault>,
    files: &Files,
    context: &LoadContext<'_>,
) -> Settled {
    catalog.tenants.retain(|_, tenant| !tenant.source.starts_with(STORED));
    let mut held = Held::default();
    let mut shadowed = Vec::new();
    let bundles = files.bundles();
    for row in &files.rows {
        match row.kind {
            RowKind::Tenant if catalog.tenants.contains_key(&row.tenant) => {
                let message = "a file of this name serves instead of this stored tenant";
                let hint = "delete the stored tenant, or remove the file";
                shadowed.push(fault(row, "shadowed", message.into(), hint));
            }
            RowKind::Tenant => match read(row, context, &bundles) {
                Ok(tenant) => drop(catalog.tenants.insert(row.tenant.clone(), Arc::new(tenant))),
                Err(faults) => drop(held.broken.insert(row.tenant.clone(), faults)),
            },
            RowKind::Pause => drop(held.paused.insert(row.tenant.clone())),
            RowKind::Quota => match serde_json::from_str(&row.body) {
                Ok(quota) => drop(held.quotas.insert(row.tenant.clone(), quota)),
                Err(_) => {
                    let message = "is no stored quota; the tier's limits hold".to_owned();
                    shadowed.push(fault(row, "unreadable", message, "store it again"));
                }
            },
        }
    }
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
            fault(row, "unknown_policy", message, "name a bundle of the policy tree")
        })
        .collect();
    if faults.is_empty() { Ok(tenant) } else { Err(faults) }
}

fn fault(row: &Row, code: &'static str, message: String, hint: &str) -> Fault {
    let file = row.file().path;
    let kind = FaultKind::Tenant;
    Fault { kind, file, line: 0, column: 0, code, message, hint: Some(hint.into()) }
}

impl Files {
    /// Folders of the policy tree that tenants may name.
    fn bundles(&self) -> BTreeSet<&str> {
        self.policies.iter().filter_map(|file| Some(file.path.split_once('/')?.0)).collect()
    }

    /// What rows add to the revision.
    pub(super) fn row_entries(&self) -> impl Iterator<Item = [Vec<u8>; 3]> {
        self.rows.iter().map(|row| {
            let digest = Digest::of(row.body.as_bytes()).as_bytes().to_vec();
            [row.kind.name().as_bytes().to_vec(), row.tenant.as_str().as_bytes().to_vec(), digest]
        })
    }
}

impl Snapshot {
    /// What the store holds of a tenant, shadowed or not.
    pub fn row(&self, kind: RowKind, tenant: &TenantId) -> Option<&Arc<Row>> {
        self.files.rows.iter().find(|row| row.kind == kind && row.tenant == *tenant)
    }

    /// Every row of a kind.
    pub fn rows(&self, kind: RowKind) -> impl Iterator<Item = &Arc<Row>> {
        self.files.rows.iter().filter(move |row| row.kind == kind)
    }

    /// Whether a file defines the tenant, so that the API must not.
    pub fn file_defines_tenant(&self, tenant: &TenantId) -> bool {
        let tenant = self.catalog.tenants.get(tenant);
        tenant.is_some_and(|tenant| !tenant.source.starts_with(STORED))
    }

    /// Why a stored tenant does not serve.
    pub fn broken_tenant(&self, tenant: &TenantId) -> Option<&[Fault]> {
        self.held.broken.get(tenant).map(Vec::as_slice)
    }

    pub(super) fn broken_tenants(&self) -> impl Iterator<Item = (&TenantId, &Vec<Fault>)> {
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
