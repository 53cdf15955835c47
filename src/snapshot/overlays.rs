//! Tenant overlays that the API stored: a source of live policies beside the files.
//!
//! A name that a file defines is the file's; the stored overlay of that name is shadowed.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Files, Snapshot};
use crate::domain::digest::Digest;
use crate::domain::id::{BundleName, TenantId};
use crate::policy::Source;
use crate::store::{Object, ObjectKey, Store, StoreError};
use crate::yaml::fault::{Fault, FaultKind};

/// What overlays are called in the store.
pub const KIND: &str = "overlay";

/// What an author stores: the files of `policies/tenants/<tenant>/<bundle>/`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OverlayContent {
    /// Its Rego files.
    pub modules: Vec<OverlayModule>,
    /// Its `data.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

/// One Rego file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayModule {
    /// Its name, no folder.
    pub path: String,
    /// The source.
    pub rego: String,
}

/// One stored overlay.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlay {
    /// Whose.
    pub tenant: TenantId,
    /// Over which bundle.
    pub bundle: BundleName,
    /// From 1.
    pub version: u64,
    /// Of version and content, see [`tag`].
    pub etag: String,
    /// When it was stored, milliseconds since 1970.
    pub at_ms: i64,
    /// What was stored.
    pub content: OverlayContent,
    /// Of the content.
    pub digest: Digest,
}

impl Overlay {
    /// What an object of the store says; `Err` only for rows that no API wrote.
    pub fn of(object: &Object) -> Result<Overlay, Fault> {
        let body = object.body.as_deref().unwrap_or_default();
        let read = || {
            let tenant = object.key.tenant.clone()?;
            let bundle = BundleName::parse(&object.key.name).ok()?;
            Some((tenant, bundle, serde_json::from_str(body).ok()?))
        };
        let (tenant, bundle, content) = read().ok_or_else(|| {
            let tenant = object.key.tenant.as_ref().map_or("", TenantId::as_str);
            let file = format!("stored/tenants/{tenant}/{}", object.key.name);
            fault(file, "unreadable", "is no stored overlay", "restore the store from a copy")
        })?;
        Ok(Overlay {
            tenant,
            bundle,
            version: object.version,
            etag: tag(&object.etag),
            at_ms: object.at_ms,
            content,
            digest: Digest::of(body.as_bytes()),
        })
    }

    /// The folder below `policies/` that it stands for, with a `/` at its end.
    pub fn folder(&self) -> String {
        folder(&self.tenant, &self.bundle)
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = Source> {
        let folder = self.folder();
        let data = self.content.data.as_ref().map(|data| ("data.yaml", shown(data)));
        let modules = self.content.modules.iter();
        let modules = modules.map(|module| (module.path.as_str(), module.rego.clone()));
        let files: Vec<_> = modules.chain(data).collect();
        files.into_iter().map(move |(name, text)| Source {
            path: format!("{folder}{name}"),
            bytes: text.into_bytes().into(),
        })
    }
}

/// The text that positions in a stored table refer to.
fn shown(data: &serde_json::Value) -> String {
    serde_json::to_string_pretty(data).unwrap_or_default()
}

fn folder(tenant: &TenantId, bundle: &BundleName) -> String {
    format!("tenants/{tenant}/{bundle}/")
}

/// Where the overlay of a tenant is stored.
pub fn key(tenant: &TenantId, bundle: &BundleName) -> ObjectKey {
    ObjectKey { kind: KIND.into(), tenant: Some(tenant.clone()), name: bundle.to_string() }
}

/// The tag that the API shows for one of the store's: its first 32 hexadecimal digits.
pub fn tag(etag: &str) -> String {
    etag.chars().take(32).collect()
}

/// Every overlay of the store.
pub async fn stored(store: &dyn Store) -> Result<Vec<Object>, StoreError> {
    store.objects(KIND.into()).await
}

/// Objects as overlays; all faults at once.
pub fn overlays(objects: &[Object]) -> Result<Vec<Arc<Overlay>>, Vec<Fault>> {
    let (mut read, mut faults) = (Vec::new(), Vec::new());
    for object in objects {
        match Overlay::of(object) {
            Ok(overlay) => read.push(Arc::new(overlay)),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

/// Whether two lists in the order of the store hold the same versions.
pub(super) fn same(a: &[Arc<Overlay>], b: &[Arc<Overlay>]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (&a.tenant, &a.bundle, a.version) == (&b.tenant, &b.bundle, b.version))
}

impl Files {
    /// The same files beside other stored overlays.
    pub(super) fn beside(&self, overlays: Vec<Arc<Overlay>>) -> Files {
        Files { overlays, catalog: self.catalog.clone(), policies: self.policies.clone() }
    }

    /// Policy files, and the files of every stored overlay that is not shadowed.
    pub(super) fn sources(&self) -> Vec<Source> {
        let folders = self.folders();
        let live =
            self.overlays.iter().filter(|overlay| !folders.contains(overlay.folder().as_str()));
        self.policies.iter().cloned().chain(live.flat_map(|overlay| overlay.sources())).collect()
    }

    /// A warning for each stored overlay whose name a file defines.
    pub(super) fn shadowed(&self) -> impl Iterator<Item = Fault> {
        let folders = self.folders();
        let shadowed =
            self.overlays.iter().filter(move |overlay| folders.contains(overlay.folder().as_str()));
        shadowed.map(|overlay| {
            let file = format!("stored/{}", overlay.folder().trim_end_matches('/'));
            let message = "files of the same folder serve instead of this stored overlay";
            fault(file, "shadowed", message, "delete the stored overlay, or remove the files")
        })
    }

    /// Whether a stored overlay, and no file, stands behind the path of a fault.
    pub(super) fn stores(&self, path: &str) -> bool {
        self.overlays.iter().map(|overlay| overlay.folder()).any(|folder| {
            let within = path.starts_with(&folder) || path == folder.trim_end_matches('/');
            within && !self.defines(&folder)
        })
    }

    fn defines(&self, folder: &str) -> bool {
        self.policies.iter().any(|file| file.path.starts_with(folder))
    }

    /// Folders that hold files, with a `/` at their ends.
    fn folders(&self) -> BTreeSet<&str> {
        let files = self.policies.iter();
        files.filter_map(|file| file.path.get(..=file.path.rfind('/')?)).collect()
    }
}

impl Snapshot {
    /// What the store holds for a tenant under a bundle, shadowed or not.
    pub fn overlay(&self, tenant: &TenantId, bundle: &BundleName) -> Option<&Arc<Overlay>> {
        let mut overlays = self.files.overlays.iter();
        overlays.find(|overlay| overlay.tenant == *tenant && overlay.bundle == *bundle)
    }

    /// Whether files define the overlay of a tenant, so that the API must not.
    pub fn file_defines(&self, tenant: &TenantId, bundle: &BundleName) -> bool {
        self.files.defines(&folder(tenant, bundle))
    }
}

fn fault(file: String, code: &'static str, message: &str, hint: &str) -> Fault {
    Fault {
        kind: FaultKind::Policy,
        file,
        line: 0,
        column: 0,
        code,
        message: message.into(),
        hint: Some(hint.into()),
    }
}
