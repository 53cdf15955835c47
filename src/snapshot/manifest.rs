//! What a snapshot was made of, content-addressed: sources, a manifest of those of each tenant,
//! buckets of manifests, and a root whose digest is the revision. So a revision proves every source,
//! a change writes only what is new, and one tenant's way to the root names no other tenant.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Files, Overlay, Row, RowKind, RowPlace, Snapshot, kind_name, overlays};
use crate::catalog::SourceFile;
use crate::catalog::detector::DISCOVERED;
use crate::domain::digest::Digest;
use crate::domain::id::{BundleName, TenantId};
use crate::policy;
use crate::store::{Object, SourceBlob};
use crate::yaml::fault::FaultKind;

/// Reads one blob of everyone's, or of a tenant's own.
pub type Get<'a> = &'a mut dyn FnMut(Option<&TenantId>, Digest) -> Result<Option<Vec<u8>>, String>;

/// A blob, and those that it names.
#[derive(Debug)]
pub struct Branch {
    /// It.
    pub blob: SourceBlob,
    /// What it names; all of them must be stored before it is.
    pub below: Vec<Branch>,
}

/// Why a snapshot cannot be made again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfound {
    /// A blob is not stored.
    #[error("{what} (sha256 {digest:?}) is not stored")]
    Missing {
        /// What it is.
        what: String,
        /// Its digest.
        digest: Digest,
    },
    /// A blob is stored and is another one.
    #[error("{what} does not have the digest {digest:?} that it is stored under")]
    Damaged {
        /// What it is.
        what: String,
        /// Its digest.
        digest: Digest,
    },
    /// None of the manifests that may be the tenant's is stored as its own.
    #[error(
        "the manifest of the tenant's own sources, one of (sha256) {}, is not stored",
        names.join(", ")
    )]
    NoManifest {
        /// Digests of those that the revision names.
        names: Vec<String>,
    },
    /// The store did not answer.
    #[error("{0}")]
    Unread(String),
}

/// The sources of one tenant, or of everyone.
#[derive(Serialize, Deserialize)]
struct Manifest {
    tenant: Option<TenantId>,
    /// Kind, name, hexadecimal digest.
    sources: Vec<(String, String, String)>,
}

#[derive(Serialize, Deserialize)]
struct Root {
    shared: String,
    /// The first byte of the tenant's digest, and the bucket.
    buckets: Vec<(u8, String)>,
}

struct Source {
    kind: &'static str,
    tenant: Option<TenantId>,
    name: String,
    bytes: Arc<[u8]>,
}

impl Files {
    /// The digest of everything, independent of the order of files.
    pub fn revision(&self) -> Digest {
        self.branches().blob.digest
    }

    fn branches(&self) -> Branch {
        let mut owners: BTreeMap<Option<TenantId>, Vec<Source>> = BTreeMap::new();
        owners.entry(None).or_default();
        for source in self.listed() {
            owners.entry(source.tenant.clone()).or_default().push(source);
        }
        let mut buckets: BTreeMap<u8, Vec<Branch>> = BTreeMap::new();
        let mut shared = None;
        for (tenant, sources) in owners {
            let manifest = manifest(tenant.clone(), sources);
            match tenant {
                None => shared = Some(manifest),
                Some(tenant) => buckets.entry(bucket(&tenant)).or_default().push(manifest),
            }
        }
        let mut root = Root { shared: String::new(), buckets: Vec::new() };
        let mut below: Vec<Branch> = shared.into_iter().collect();
        root.shared = below.first().map(|branch| branch.blob.digest.hex()).unwrap_or_default();
        for (number, mut manifests) in buckets {
            manifests.sort_by_key(|branch| branch.blob.digest);
            let names: Vec<String> =
                manifests.iter().map(|branch| branch.blob.digest.hex()).collect();
            let branch = Branch { blob: blob(None, &names), below: manifests };
            root.buckets.push((number, branch.blob.digest.hex()));
            below.push(branch);
        }
        Branch { blob: blob(None, &root), below }
    }

    fn listed(&self) -> impl Iterator<Item = Source> {
        let catalog = self.catalog.iter().map(|file| Source {
            kind: kind_name(file.kind),
            tenant: owner(file),
            name: name_of(file),
            bytes: Arc::clone(&file.bytes),
        });
        let policies = self.policies.iter().map(|file| Source {
            kind: "policy",
            tenant: file.path.strip_prefix("tenants/").and_then(|rest| {
                let (tenant, _) = rest.split_once('/')?;
                TenantId::parse(tenant).ok()
            }),
            name: file.path.clone(),
            bytes: Arc::clone(&file.bytes),
        });
        let overlays = self.overlays.iter().map(|overlay| Source {
            kind: overlays::KIND,
            tenant: Some(overlay.tenant.clone()),
            name: overlay.bundle.to_string(),
            bytes: Arc::clone(&overlay.body).into(),
        });
        let rows = self.rows.iter().map(|row| Source {
            kind: row.place.kind.stored_as(),
            tenant: row.place.tenant.clone(),
            name: row.place.name.clone(),
            bytes: row.body.as_bytes().into(),
        });
        catalog.chain(policies).chain(overlays).chain(rows)
    }

    /// What a tenant's decisions under `revision` were made of: everyone's sources and its own.
    ///
    /// # Errors
    /// The first blob that is missing or damaged. No tenant is served that has no source of its own.
    pub fn of_revision(revision: &str, tenant: &TenantId, get: Get<'_>) -> Result<Files, Unfound> {
        let root: Root = read(None, hashed(revision)?, "the manifest of the revision", get)?;
        let shared: Manifest = read(None, hashed(&root.shared)?, "a manifest", get)?;
        let own = own_manifest(&root, tenant, get)?;
        let mut files = Files::default();
        for manifest in [shared, own] {
            for (kind, name, digest) in manifest.sources {
                let what = format!("the {kind} `{name}`");
                let bytes = checked(manifest.tenant.as_ref(), hashed(&digest)?, &what, get)?;
                files.take((&kind, manifest.tenant.as_ref()), name, bytes);
            }
        }
        Ok(files)
    }

    fn take(&mut self, (kind, tenant): (&str, Option<&TenantId>), name: String, bytes: Vec<u8>) {
        let text = || String::from_utf8_lossy(&bytes).into_owned();
        if kind == "policy" {
            self.policies.push(policy::Source { path: name, bytes: bytes.into() });
        } else if let Some(kind) = FILES.into_iter().find(|known| kind_name(*known) == kind) {
            self.catalog.push(SourceFile { kind, path: name, bytes: bytes.into() });
        } else if kind == overlays::KIND {
            let bundle = BundleName::parse(&name).ok();
            let key = tenant.zip(bundle).map(|(tenant, bundle)| overlays::key(tenant, &bundle));
            let object = key.map(|key| object(key, text()));
            self.overlays.extend(object.and_then(|object| Overlay::of(&object)).map(Arc::new));
        } else if let Some(kind) = RowKind::ALL.into_iter().find(|row| row.stored_as() == kind) {
            let place = RowPlace { kind, tenant: tenant.cloned(), name };
            let object = object(place.key(), text());
            self.rows.extend(Row::of(&object).map(Arc::new));
        }
    }
}

/// What a blob is, as what names it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// Its digest is a revision.
    Root,
    /// It names manifests of tenants.
    Bucket,
    /// It names sources.
    Manifest,
    /// It names nothing.
    Source,
}

impl Rank {
    /// What a blob of this rank names.
    ///
    /// # Errors
    /// Where it is none.
    pub fn named(self, bytes: &[u8]) -> Result<Vec<(Rank, Digest)>, Unfound> {
        let unread = |error: serde_json::Error| Unfound::Unread(error.to_string());
        let (rank, names): (Rank, Vec<String>) = match self {
            Rank::Root => {
                let Root { shared, buckets } = serde_json::from_slice(bytes).map_err(unread)?;
                let buckets =
                    buckets.into_iter().map(|(_, name)| Ok((Rank::Bucket, hashed(&name)?)));
                let shared = std::iter::once_with(|| Ok((Rank::Manifest, hashed(&shared)?)));
                return shared.chain(buckets).collect();
            }
            Rank::Bucket => (Rank::Manifest, serde_json::from_slice(bytes).map_err(unread)?),
            Rank::Manifest => {
                let Manifest { sources, .. } = serde_json::from_slice(bytes).map_err(unread)?;
                (Rank::Source, sources.into_iter().map(|(_, _, name)| name).collect())
            }
            Rank::Source => return Ok(Vec::new()),
        };
        names.iter().map(|name| Ok((rank, hashed(name)?))).collect()
    }

    /// The first rank that a blob can have, for all that it says itself.
    pub fn of(bytes: &[u8]) -> Rank {
        let ranks = [Rank::Root, Rank::Bucket, Rank::Manifest];
        ranks.into_iter().find(|rank| rank.named(bytes).is_ok()).unwrap_or(Rank::Source)
    }
}

impl Snapshot {
    /// Everything that it was made of.
    pub fn branches(&self) -> Branch {
        self.files.branches()
    }
}

const FILES: [FaultKind; 3] = [FaultKind::Detector, FaultKind::Tenant, FaultKind::Strategy];

fn object(key: crate::store::ObjectKey, body: String) -> Object {
    Object { key, version: 1, at_ms: 0, etag: String::new(), body: Some(body) }
}

/// Those of other tenants are not under this tenant's name.
fn own_manifest(root: &Root, tenant: &TenantId, get: Get<'_>) -> Result<Manifest, Unfound> {
    let mut names: Vec<String> = Vec::new();
    if let Some((_, digest)) = root.buckets.iter().find(|(number, _)| *number == bucket(tenant)) {
        names = read(None, hashed(digest)?, "a list of manifests", get)?;
    }
    for name in &names {
        let digest = hashed(name)?;
        if get(Some(tenant), digest).map_err(Unfound::Unread)?.is_some() {
            let manifest: Manifest = read(Some(tenant), digest, "a manifest", get)?;
            if manifest.tenant.as_ref() == Some(tenant) {
                return Ok(manifest);
            }
        }
    }
    Err(Unfound::NoManifest { names })
}

/// A tenant's file is its own.
fn owner(file: &SourceFile) -> Option<TenantId> {
    let own = file.kind == FaultKind::Tenant;
    own.then(|| TenantId::parse(file.stem()).ok()).flatten()
}

/// The file's own name: where the folder stands must not change the revision.
fn name_of(file: &SourceFile) -> String {
    match file.path.starts_with(DISCOVERED) {
        true => file.path.clone(),
        false => file.path.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

fn bucket(tenant: &TenantId) -> u8 {
    Digest::of(tenant.as_str().as_bytes()).as_bytes()[0]
}

fn manifest(tenant: Option<TenantId>, sources: Vec<Source>) -> Branch {
    let mut below: Vec<(String, String, Branch)> = Vec::with_capacity(sources.len());
    for Source { kind, tenant, name, bytes } in sources {
        let blob = SourceBlob { tenant, digest: Digest::of(&bytes), bytes };
        below.push((kind.to_owned(), name, Branch { blob, below: Vec::new() }));
    }
    below.sort_by(|a, b| (&a.0, &a.1, a.2.blob.digest).cmp(&(&b.0, &b.1, b.2.blob.digest)));
    let line = |(kind, name, branch): &(String, String, Branch)| {
        (kind.clone(), name.clone(), branch.blob.digest.hex())
    };
    let manifest = Manifest { tenant: tenant.clone(), sources: below.iter().map(line).collect() };
    let below = below.into_iter().map(|(_, _, branch)| branch).collect();
    Branch { blob: blob(tenant, &manifest), below }
}

fn blob(tenant: Option<TenantId>, value: &impl Serialize) -> SourceBlob {
    // Texts and lists of them always serialise.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    SourceBlob { tenant, digest: Digest::of(&bytes), bytes: bytes.into() }
}

fn hashed(digits: &str) -> Result<Digest, Unfound> {
    Digest::parse(digits).ok_or_else(|| Unfound::Unread(format!("`{digits}` is no digest")))
}

fn checked(
    tenant: Option<&TenantId>,
    digest: Digest,
    what: &str,
    get: Get<'_>,
) -> Result<Vec<u8>, Unfound> {
    let what = what.to_owned();
    match get(tenant, digest).map_err(Unfound::Unread)? {
        None => Err(Unfound::Missing { what, digest }),
        Some(bytes) if Digest::of(&bytes) == digest => Ok(bytes),
        Some(_) => Err(Unfound::Damaged { what, digest }),
    }
}

fn read<T: serde::de::DeserializeOwned>(
    tenant: Option<&TenantId>,
    digest: Digest,
    what: &str,
    get: Get<'_>,
) -> Result<T, Unfound> {
    let bytes = checked(tenant, digest, what, get)?;
    serde_json::from_slice(&bytes).map_err(|error| Unfound::Unread(format!("{what}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: FaultKind, path: &str, text: &str) -> SourceFile {
        SourceFile { kind, path: path.into(), bytes: text.as_bytes().into() }
    }

    fn files() -> Files {
        let policy =
            |path: &str| policy::Source { path: path.into(), bytes: path.as_bytes().into() };
        let tenant = |name: &str| TenantId::parse(name).unwrap();
        let bundle = BundleName::parse("standard").unwrap();
        let overlay = object(overlays::key(&tenant("acme"), &bundle), r#"{"modules":[]}"#.into());
        let place = RowPlace::of_tenant(RowKind::Tenant, &tenant("stored"));
        let row = object(place.key(), "{}".into());
        Files {
            catalog: vec![
                file(FaultKind::Detector, "detectors/pii.yaml", "name: pii"),
                file(FaultKind::Detector, "environment/seen.yaml", "{}"),
                file(FaultKind::Tenant, "config/tenants/acme.yaml", "id: acme"),
                file(FaultKind::Tenant, "config/tenants/globex.yaml", "id: globex"),
            ],
            policies: vec![policy("base/data.yaml"), policy("tenants/globex/standard/x.rego")],
            overlays: Overlay::of(&overlay).map(Arc::new).into_iter().collect(),
            rows: Row::of(&row).map(Arc::new).into_iter().collect(),
        }
    }

    fn blobs(branch: Branch, into: &mut BTreeMap<(Option<TenantId>, Digest), Vec<u8>>) {
        let SourceBlob { tenant, digest, bytes } = branch.blob;
        into.insert((tenant, digest), bytes.to_vec());
        branch.below.into_iter().for_each(|below| blobs(below, into));
    }

    #[test]
    fn a_tenants_files_come_back_from_blobs_and_no_other_tenants() {
        let files = files();
        let mut stored = BTreeMap::new();
        blobs(files.branches(), &mut stored);
        let revision = files.revision().hex();
        let acme = TenantId::parse("acme").unwrap();
        let mut get = |tenant: Option<&TenantId>, digest: Digest| {
            Ok(stored.get(&(tenant.cloned(), digest)).cloned())
        };
        let back = Files::of_revision(&revision, &acme, &mut get).unwrap();
        let names: Vec<&str> = back.catalog.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(names, ["environment/seen.yaml", "pii.yaml", "acme.yaml"]);
        assert_eq!(back.overlays[0].body, files.overlays[0].body);
        assert_eq!((back.policies.len(), back.rows.len()), (1, 0));
        let stored_tenant = TenantId::parse("stored").unwrap();
        let back = Files::of_revision(&revision, &stored_tenant, &mut get).unwrap();
        assert_eq!((back.rows.len(), back.overlays.len()), (1, 0));
    }

    #[test]
    fn a_lost_or_changed_blob_is_named() {
        let files = files();
        let acme = TenantId::parse("acme").unwrap();
        let mut stored = BTreeMap::new();
        blobs(files.branches(), &mut stored);
        let pii = Digest::of(b"name: pii");
        let with = |bytes: Option<&'static [u8]>| {
            let mut get = |tenant: Option<&TenantId>, digest: Digest| {
                let known = stored.get(&(tenant.cloned(), digest)).cloned();
                Ok(if digest == pii { bytes.map(<[u8]>::to_vec) } else { known })
            };
            Files::of_revision(&files.revision().hex(), &acme, &mut get).unwrap_err()
        };
        let what = "the detector `pii.yaml`".to_owned();
        assert_eq!(with(None), Unfound::Missing { what: what.clone(), digest: pii });
        assert_eq!(with(Some(b"name: pio")), Unfound::Damaged { what, digest: pii });
    }

    #[test]
    fn a_tenant_whose_own_manifest_is_lost_or_anothers_is_named() {
        let files = files();
        let tenant = |name: &str| TenantId::parse(name).unwrap();
        let (acme, globex) = (tenant("acme"), tenant("globex"));
        let mut stored = BTreeMap::new();
        blobs(files.branches(), &mut stored);
        let is_own = |(owner, bytes): (&TenantId, &[u8])| {
            let start = format!("{{\"tenant\":\"{owner}\",\"sources\":");
            bytes.starts_with(start.as_bytes())
        };
        let of = |owner: &TenantId| {
            let mut all = stored.iter().filter(|(_, bytes)| is_own((owner, bytes)));
            let ((_, digest), bytes) = all.next().unwrap();
            (*digest, bytes.clone())
        };
        let (lost, _) = of(&acme);
        let mut get = |tenant: Option<&TenantId>, digest: Digest| {
            let known = stored.get(&(tenant.cloned(), digest)).cloned();
            Ok(known.filter(|_| digest != lost))
        };
        let found = Files::of_revision(&files.revision().hex(), &acme, &mut get).unwrap_err();
        assert_eq!(found, Unfound::NoManifest { names: vec![lost.hex()] });
        // Of the same bucket, and stored as the tenant's.
        let (other, bytes) = of(&globex);
        let names = serde_json::to_vec(&[other.hex()]).unwrap();
        let buckets = vec![(bucket(&acme), Digest::of(&names).hex())];
        let root = Root { shared: String::new(), buckets };
        let mut get = |tenant: Option<&TenantId>, _: Digest| {
            Ok(Some(if tenant.is_some() { bytes.clone() } else { names.clone() }))
        };
        let found = own_manifest(&root, &acme, &mut get).err();
        assert_eq!(found, Some(Unfound::NoManifest { names: vec![other.hex()] }));
    }

    #[test]
    fn the_change_of_one_tenant_makes_four_new_blobs() {
        let (before, mut files) = (files(), files());
        files.catalog[2].bytes = b"id: acme # changed".as_slice().into();
        assert_ne!(before.revision(), files.revision());
        let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
        blobs(before.branches(), &mut old);
        blobs(files.branches(), &mut new);
        let fresh = new.keys().filter(|key| !old.contains_key(*key)).count();
        assert_eq!(fresh, 4, "file, manifest, bucket, root");
    }
}
