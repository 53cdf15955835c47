//! Where the policy tree comes from: a folder, a bundle in its place or in it, or a remote bundle.

use std::path::{Path, PathBuf};

use super::Sources;
use super::sources::{Place, believed, disk, fault, is_policy, misnamed, read};
use super::trust::Trust;
use crate::policy::{Archive, PACKED_BYTES_MAX, Refused, Source};
use crate::seal;
use crate::yaml::fault::{Fault, FaultKind};

/// The bundle that a folder holds instead of a tree.
const BUNDLE: &str = "bundle.tar.gz";
/// Bytes of a file with a key.
const KEY_BYTES_MAX: usize = 4096;

impl Sources {
    /// Every file of the tree.
    pub(super) fn tree(&self) -> Result<Vec<Source>, Vec<Fault>> {
        if let Some(remote) = &self.remote {
            return remote.sources();
        }
        self.local_tree().map_err(|fault| vec![fault])
    }

    fn local_tree(&self) -> Result<Vec<Source>, Fault> {
        let Some(path) = self.bundle() else {
            if let Some((key, trust)) = &self.key_file {
                public_key((key, *trust))?;
                let message =
                    format!("`{}` demands a signed bundle, and there is none", key.display());
                let hint = format!("put `{BUNDLE}` there, or unset policy.remote.public_key_file");
                let fault =
                    fault(FaultKind::Policy, Path::new(&self.policies_root()), "unsigned", message);
                return Err(Fault { hint: Some(hint), ..fault });
            }
            let found = read(FaultKind::Policy, &self.policies, is_policy)?;
            let source =
                |file: super::sources::Found| Source { path: file.relative, bytes: file.bytes };
            return Ok(found.into_iter().map(source).collect());
        };
        self.alone(&path)?;
        let folder = (path.parent().unwrap_or(&path), self.trust());
        let most = PACKED_BYTES_MAX as u64;
        let bytes = believed(FaultKind::Policy, (&path, &path), folder, most)?;
        let key = self.key_file.as_ref().map(|(key, trust)| (key.as_path(), *trust));
        archive(&path.display().to_string(), &bytes, key)
            .and_then(|archive| served(archive.sources, &path.display().to_string()))
    }

    fn trust(&self) -> Trust {
        match self.policies {
            Place::Disk(_, trust) => trust,
            Place::Embedded(_) => Trust::Anyone,
        }
    }

    /// The bundle on disk, where there is one.
    pub(super) fn bundle(&self) -> Option<PathBuf> {
        let Place::Disk(path, _) = &self.policies else { return None };
        if path.is_file() {
            return Some(path.clone());
        }
        let inside = path.join(BUNDLE);
        inside.symlink_metadata().is_ok().then_some(inside)
    }

    /// That a bundle in a folder leads nowhere else, and that no tree beside it looks as if it served.
    fn alone(&self, bundle: &Path) -> Result<(), Fault> {
        let Place::Disk(root, trust) = &self.policies else { return Ok(()) };
        if root == bundle {
            return Ok(());
        }
        let wrong = |code, message: String| fault(FaultKind::Policy, bundle, code, message);
        let lost = |error| wrong("unreadable", format!("could not be read: {error}"));
        let (real, target) = (root.canonicalize(), bundle.canonicalize());
        if !target.map_err(lost)?.starts_with(real.map_err(lost)?) {
            return Err(wrong("link_outside", "is a link that leads out of its folder".into()));
        }
        let beside = disk(FaultKind::Policy, (root, *trust), is_policy)?;
        let Some(other) = beside.first() else { return Ok(()) };
        let message = format!("`{}` lies beside the bundle, which serves alone", other.relative);
        let hint = Some("keep the bundle or the tree, not both".to_owned());
        Err(Fault { hint, ..wrong("two_trees", message) })
    }
}

/// The bundle of `bytes`, signed by the key in `key_file` where one is named.
pub(super) fn archive(
    shown: &str,
    bytes: &[u8],
    key_file: Option<(&Path, Trust)>,
) -> Result<Archive, Fault> {
    let key = key_file.map(public_key).transpose()?;
    Archive::read(bytes, key.as_ref()).map_err(|refused| of(shown, refused))
}

/// Files that somebody reads; a name that is nearly one of those is a fault here as in a folder.
pub(super) fn served(sources: Vec<Source>, shown: &str) -> Result<Vec<Source>, Fault> {
    for source in &sources {
        if let Some(hint) = misnamed(FaultKind::Policy, &source.path) {
            let message = format!("`{}` would be ignored under this name", source.path);
            return Err(Fault {
                hint: Some(hint),
                ..fault(FaultKind::Policy, Path::new(shown), "misnamed_file", message)
            });
        }
    }
    // As in a folder, what begins with a dot is nobody's.
    let hidden =
        |path: &str| path.split('/').any(|part| part.starts_with('.') && part != ".manifest");
    let read = |source: &Source| is_policy(&source.path) && !hidden(&source.path);
    Ok(sources.into_iter().filter(read).collect())
}

pub(super) fn of(shown: &str, refused: Refused) -> Fault {
    let Refused { code, message, hint } = refused;
    Fault {
        hint: Some(hint.to_owned()),
        ..fault(FaultKind::Policy, Path::new(shown), code, message)
    }
}

/// The key of a file.
pub(super) fn public_key((file, trust): (&Path, Trust)) -> Result<[u8; 32], Fault> {
    let folder = (file.parent().unwrap_or(file), trust);
    let found = believed(FaultKind::Settings, (file, file), folder, KEY_BYTES_MAX as u64);
    let hint = || Some("write the file's place in policy.remote.public_key_file".to_owned());
    let bytes = found.map_err(|fault| Fault { hint: fault.hint.or_else(hint), ..fault })?;
    let text = String::from_utf8_lossy(&bytes);
    seal::public_key_of_pem(&text).ok_or_else(|| {
        let message = "is no Ed25519 public key in PEM".to_owned();
        let hint = "make it with `openssl pkey -pubout`".to_owned();
        Fault { hint: Some(hint), ..fault(FaultKind::Settings, file, "bad_key", message) }
    })
}
