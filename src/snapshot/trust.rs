//! Who may have written what is read from disk: in staging and production nobody but those who answer
//! for it.

use std::fs::Metadata;
use std::path::Path;

use crate::settings::Env;

/// Everybody may write there.
const BY_ALL: u32 = 0o002;

/// Whose files are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Whoever wrote them: a developer's machine.
    Anyone,
    /// The administrator's, the service's own, and those of who owns their folder; and nobody else may
    /// write them.
    Owners,
}

/// Why a file is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

impl Trust {
    pub(super) fn of(env: Env) -> Trust {
        match env {
            Env::Development => Trust::Anyone,
            Env::Staging | Env::Production => Trust::Owners,
        }
    }

    /// Why a file below `root` is not believed.
    pub(super) fn doubts(self, root: &Path, file: &Metadata) -> Option<Doubt> {
        match self {
            Trust::Anyone => None,
            Trust::Owners => doubt(root, file),
        }
    }
}

#[cfg(unix)]
fn doubt(root: &Path, file: &Metadata) -> Option<Doubt> {
    use std::os::unix::fs::MetadataExt as _;
    if file.mode() & BY_ALL != 0 {
        return Some(Doubt {
            code: "writable_by_all",
            message: "may be written by everybody on this machine".to_owned(),
            hint: "take that right away: chmod o-w; in development nobody asks",
        });
    }
    let owner = |path: &Path| path.metadata().ok().map(|found| found.uid());
    let trusted = [Some(0), owner(Path::new("/proc/self")), owner(root)];
    (!trusted.contains(&Some(file.uid()))).then(|| Doubt {
        code: "foreign_owner",
        message: format!(
            "belongs to user {}, who owns neither its folder nor the service",
            file.uid()
        ),
        hint: "look who wrote it; what is right goes to the owner of the folder by chown",
    })
}

#[cfg(not(unix))]
fn doubt(_: &Path, _: &Metadata) -> Option<Doubt> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn what_everybody_may_write_or_a_stranger_wrote_is_not_believed_where_it_matters() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data.yaml");
        std::fs::write(&file, "{}").unwrap();
        let said = |trust: Trust| {
            let found = trust.doubts(dir.path(), &file.metadata().unwrap());
            found.map(|doubt| doubt.code)
        };
        let mode = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for good in [0o600, 0o644, 0o664, 0o440] {
            mode(good);
            assert_eq!(said(Trust::Owners), None, "{good:o}");
        }
        for bad in [0o666, 0o602, 0o777] {
            mode(bad);
            assert_eq!(said(Trust::Owners), Some("writable_by_all"), "{bad:o}");
            assert_eq!(said(Trust::Anyone), None);
        }
        mode(0o644);
        // Only root may give files away.
        if chown(&file, Some(12_345), None).is_ok() {
            assert_eq!(said(Trust::Owners), Some("foreign_owner"));
            chown(dir.path(), Some(12_345), None).unwrap();
            assert_eq!(said(Trust::Owners), None, "its folder is that user's too");
        }
    }
}
