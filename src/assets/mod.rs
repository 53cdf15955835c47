//! The files shipped inside the binary: settings, tenants, strategies, detectors, policies, samples.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rust_embed::Embed;

#[derive(Embed)]
#[folder = "config/"]
#[prefix = "config/"]
struct Config;

#[derive(Embed)]
#[folder = "detectors/"]
#[prefix = "detectors/"]
struct Detectors;

#[derive(Embed)]
#[folder = "policies/"]
#[prefix = "policies/"]
struct Policies;

#[derive(Embed)]
#[folder = "samples/"]
#[prefix = "samples/"]
struct Samples;

/// Why a project folder was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something is there already; nothing was written.
    #[error("{path} exists; choose an empty folder")]
    Exists {
        /// What is in the way.
        path: PathBuf,
    },
    /// The disk refuses.
    #[error("could not write {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Paths of all shipped files, sorted.
pub fn paths() -> Vec<String> {
    let all =
        Config::iter().chain(Detectors::iter()).chain(Policies::iter()).chain(Samples::iter());
    let mut paths: Vec<String> = all.map(Cow::into_owned).collect();
    paths.sort();
    paths
}

/// The bytes of a shipped file.
pub fn read(path: &str) -> Option<Cow<'static, [u8]>> {
    let file = match path.split('/').next()? {
        "config" => Config::get(path),
        "detectors" => Detectors::get(path),
        "policies" => Policies::get(path),
        _ => Samples::get(path),
    };
    file.map(|file| file.data)
}

/// Writes every shipped file below `dir`; refuses when any of them exists.
pub fn write_to(dir: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let targets: Vec<(String, PathBuf)> =
        paths().into_iter().map(|path| (path.clone(), dir.join(path))).collect();
    if let Some((_, path)) = targets.iter().find(|(_, path)| path.exists()) {
        return Err(WriteError::Exists { path: path.clone() });
    }
    for (name, path) in &targets {
        let io = |source| WriteError::Io { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        std::fs::write(path, read(name).unwrap_or_default()).map_err(io)?;
    }
    Ok(targets.into_iter().map(|(_, path)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_written_once_and_never_over_something() {
        let dir = tempfile::tempdir().unwrap();
        let written = write_to(dir.path()).unwrap();
        for needed in ["config/settings.yaml", "detectors/pii.yaml", "policies/standard/data.yaml"]
        {
            assert!(written.contains(&dir.path().join(needed)), "{needed}");
        }
        assert!(written.iter().all(|path| !path.display().to_string().contains("target")));
        assert!(matches!(write_to(dir.path()), Err(WriteError::Exists { .. })));
    }
}
