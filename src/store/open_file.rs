//! Whether the file that is open is the one that the next start will find: a deleted file takes
//! writes without a word.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::StoreError;

/// A database and its write-ahead log, by name and by what they were when they were opened.
pub(super) struct OpenFile {
    database: PathBuf,
    opened: (u64, u64),
    log: PathBuf,
    /// Known from the first look: it is made by the first write.
    log_opened: OnceLock<(u64, u64)>,
}

impl OpenFile {
    /// The database that was just opened at `path`.
    pub(super) fn at(path: &Path) -> Result<OpenFile, StoreError> {
        let opened = identity(path).ok_or(StoreError::Gone { doing: "opening the store" })?;
        let mut log = OsString::from(path);
        log.push("-wal");
        let log_opened = OnceLock::new();
        Ok(OpenFile { database: path.to_owned(), opened, log: log.into(), log_opened })
    }

    /// Whether both names still lead to what is open.
    pub(super) fn is_in_place(&self) -> bool {
        let Some(log) = identity(&self.log) else { return false };
        identity(&self.database) == Some(self.opened) && *self.log_opened.get_or_init(|| log) == log
    }
}

/// Makes the folder of data, and those above it, for its owner alone where they are missing.
pub fn make_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}
