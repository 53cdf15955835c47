//! Tenant overlays that the API stored: a source of live policies beside the files.
//!
//! A name that a file defines is the file's; the stored overlay of that name is shadowed.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Files, Row, Snapshot};
use crate::domain::digest::Digest;
use crate::domain::id::{BundleName, TenantId};
use crate::policy::{OverlayFaults, OverlayName, Source};
use crate::store::{Object, ObjectKey};
use crate::yaml::fault::{Fault, FaultKind};

/// What overlays are called in the store.
pub const KIND: &str = "overlay";

/// What an author stores: the files of `policies/tenants/<tenant>/<bundle>/`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OverlayContent {
    /// Its Rego files.
    pub modules: Vec<OverlayModule>,
    /// Its `*_cases.yaml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<OverlayCases>,
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

/// One file of cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayCases {
    /// Its name, no folder.
    pub path: String,
    /// The text.
    pub yaml: String,
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
    /// The content as it is stored.
    pub body: Arc<str>,
    /// Why the content could not be read; it is empty then.
    pub fault: Option<Fault>,
}

impl Overlay {
    /// What an object of the store says; `None` where no policy could have its name.
    pub fn of(object: &Object) -> Option<Overlay> {
        let body = object.body.as_deref().unwrap_or_default();
        let tenant = object.key.tenant.clone()?;
        let bundle = BundleName::parse(&object.key.name).ok()?;
        let content: Option<OverlayContent> = serde_json::from_str(body).ok();
        let fault = content.is_none().then(|| {
            let folder = folder(&tenant, &bundle);
            let hint = "store it again, or roll back to a version that can be read";
            fault(folder.trim_end_matches('/'), "unreadable", "is no stored overlay", hint)
        });
        let content = content.unwrap_or_default();
        Some(Overlay {
            fault,
            tenant,
            bundle,
            version: object.version,
            etag: tag(&object.etag),
            at_ms: object.at_ms,
            content,
            digest: Digest::of(body.as_bytes()),
            body: body.into(),
        })
    }

    /// The folder below `policies/` that it stands for, with a `/` at its end.
    pub fn folder(&self) -> String {
        folder(&self.tenant, &self.bundle)
    }

    /// Its files of cases, as they would lie in its folder.
    pub fn cases(&self) -> impl Iterator<Item = Source> {
        let folder = self.folder();
        self.content.cases.iter().map(move |file| Source {
            path: format!("{folder}{}", file.path),
            bytes: file.yaml.as_bytes().into(),
        })
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

/// Objects as overlays.
pub fn overlays(objects: &[Object]) -> Vec<Arc<Overlay>> {
    let overlays = objects.iter().filter(|object| object.key.kind == KIND);
    overlays.filter_map(Overlay::of).map(Arc::new).collect()
}

/// What operators and authors read of overlays that do not serve: one line for each, and every
/// fault that lies in it.
pub(super) fn warnings(broken: &OverlayFaults) -> Vec<Fault> {
    let of = |((tenant, bundle), faults): (&OverlayName, &Vec<Fault>)| {
        let folder = folder(tenant, bundle);
        let first = faults.first().map(|fault| format!(": {}", fault.message));
        let message = format!(
            "this stored overlay does not fit the files below it{}; the tenant's modes decide \
             under `{bundle}`",
            first.unwrap_or_default()
        );
        let hint = "correct or delete it, take the change of the files back, or put a folder of \
                    that name beside it";
        let own = |fault: &&Fault| format!("{}/", fault.file).starts_with(&folder);
        let own: Vec<Fault> = faults.iter().filter(own).cloned().collect();
        let whole = fault(folder.trim_end_matches('/'), "overlay_broken", &message, hint);
        std::iter::once(whole).chain(own)
    };
    broken.iter().flat_map(of).collect()
}

/// Whether two lists in the order of the store hold the same versions.
pub(super) fn same(a: &[Arc<Overlay>], b: &[Arc<Overlay>]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (&a.tenant, &a.bundle, a.version) == (&b.tenant, &b.bundle, b.version))
}

impl Files {
    /// The same files beside what else is stored.
    pub(super) fn beside(&self, overlays: Vec<Arc<Overlay>>, rows: Vec<Arc<Row>>) -> Files {
        Files { overlays, rows, catalog: self.catalog.clone(), policies: self.policies.clone() }
    }

    /// Policy files, and the files of every stored overlay that is not shadowed.
    pub(super) fn sources(&self) -> Vec<Source> {
        let folders = self.folders();
        let live =
            self.overlays.iter().filter(|overlay| !folders.contains(overlay.folder().as_str()));
        self.policies.iter().cloned().chain(live.flat_map(|overlay| overlay.sources())).collect()
    }

    /// The overlays whose faults are their own: all that are stored and not shadowed.
    pub(super) fn apart(&self) -> OverlayFaults {
        let folders = self.folders();
        let live =
            self.overlays.iter().filter(|overlay| !folders.contains(overlay.folder().as_str()));
        let known = |overlay: &Arc<Overlay>| overlay.fault.iter().cloned().collect();
        live.map(|o| ((o.tenant.clone(), o.bundle.clone()), known(o))).collect()
    }

    /// A warning for each stored overlay whose name a file defines.
    pub(super) fn shadowed(&self) -> impl Iterator<Item = Fault> {
        let folders = self.folders();
        let shadowed =
            self.overlays.iter().filter(move |overlay| folders.contains(overlay.folder().as_str()));
        shadowed.map(|overlay| {
            let folder = overlay.folder();
            let file = format!("stored/{}", folder.trim_end_matches('/'));
            let message = "files of the same folder serve instead of this stored overlay";
            fault(&file, "shadowed", message, "delete the stored overlay, or remove the files")
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

    /// Everything that the store holds under bundles, shadowed or not.
    pub fn overlays(&self) -> impl Iterator<Item = &Arc<Overlay>> {
        self.files.overlays.iter()
    }

    /// Whether files define the overlay of a tenant, so that the API must not.
    pub fn file_defines(&self, tenant: &TenantId, bundle: &BundleName) -> bool {
        self.files.defines(&folder(tenant, bundle))
    }
}

fn fault(file: &str, code: &'static str, message: &str, hint: &str) -> Fault {
    Fault {
        kind: FaultKind::Policy,
        file: file.into(),
        line: 0,
        column: 0,
        code,
        message: message.into(),
        hint: Some(hint.into()),
    }
}
