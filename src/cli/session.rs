//! What commands without a server work with: settings, one snapshot, no lasting store.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::{complain, exit};
use crate::auth::Refusal;
use crate::detect::builtin;
use crate::orchestrator::{Deps, DepsError, kept};
use crate::settings::{Migrate, Settings};
use crate::snapshot::{self, Files, Snapshot, Sources};
use crate::store::StoreError;
use crate::yaml::fault::{Fault, FaultKind};

/// One snapshot and everything to orchestrate with.
pub struct Session {
    /// What orchestrations work with.
    pub deps: Deps,
    /// The one snapshot.
    pub snapshot: Snapshot,
    /// Where its files come from.
    pub sources: Sources,
    /// Its files.
    pub files: Files,
}

impl Session {
    /// Opens it beside what a service stored; on faults prints every one and returns the exit code.
    pub fn open(config: Option<&Path>) -> Result<Session, u8> {
        Self::with(config, load)
    }

    /// The same from files alone.
    pub fn of_files(config: Option<&Path>) -> Result<Session, u8> {
        Self::with(config, |files, sources, settings, _| {
            Snapshot::from_files(files, sources, settings, None)
        })
    }

    fn with(config: Option<&Path>, load: Load) -> Result<Session, u8> {
        let settings = load_settings(config, None).map_err(|faults| refuse(&faults))?;
        let sources = Sources::of(&settings, None, builtin::check);
        let files = sources.read().map_err(|faults| refuse(&faults))?;
        let snapshot = load(&files, &sources, &settings, None).map_err(|faults| refuse(&faults))?;
        let settings = Arc::new(settings);
        let deps = Deps::without_store(settings).map_err(|error| {
            complain(&error.to_string());
            exit::INTERNAL
        })?;
        deps.detectors.retain(&snapshot.catalog);
        Ok(Session { deps, snapshot, sources, files })
    }

    /// Longest content in characters.
    pub fn content_max_chars(&self) -> usize {
        self.deps.settings.orchestration.content_max_chars
    }
}

type Load = fn(&Files, &Sources, &Settings, Option<&Path>) -> Result<Snapshot, Vec<Fault>>;

/// Prints every fault; the exit code.
pub(super) fn refuse(faults: &[Fault]) -> u8 {
    for fault in faults {
        complain(&format!("error: {fault}"));
    }
    exit::DATA
}

/// The exit code of what keeps a service from its work: settings that can never work are wrong use,
/// what is away or cannot be written may come back.
pub fn refused(error: &DepsError) -> u8 {
    let is_wrong = match error {
        DepsError::Keys(refusal) => match refusal {
            Refusal::NoCredentials { .. }
            | Refusal::SpentBootstrapKey { .. }
            | Refusal::BootstrapKey
            | Refusal::Shared(_)
            | Refusal::KeySet(_)
            | Refusal::Outbound(_)
            | Refusal::Proxy(_) => true,
            Refusal::Key { .. }
            | Refusal::LostPepper(_)
            | Refusal::Pepper(_)
            | Refusal::Store(_) => false,
        },
        DepsError::Store(error) => {
            matches!(error, StoreError::BadAddress | StoreError::Authority { .. })
        }
        DepsError::Allow(_) | DepsError::Redis(_) | DepsError::Nats(_) => true,
        DepsError::Key(_) | DepsError::Vault(_) | DepsError::Spool(_) | DepsError::Metrics(_) => {
            false
        }
    };
    if is_wrong { exit::USAGE } else { exit::UNAVAILABLE }
}

/// `files` beside the overlays that a service with these settings stored; relative paths
/// are below `dir`, else the working directory.
pub fn load(
    files: &Files,
    sources: &Sources,
    settings: &Settings,
    dir: Option<&Path>,
) -> Result<Snapshot, Vec<Fault>> {
    let stored = kept(settings, dir).and_then(|kept| {
        let kinds = snapshot::KINDS.into_iter();
        kinds.map(|kind| kept.objects(kind)).collect::<Result<Vec<_>, _>>()
    });
    let stored = match stored {
        // A start makes the tables.
        Err(StoreError::OlderSchema { found: 0, .. }) if settings.migrate() == Migrate::Auto => {
            Ok(Vec::new())
        }
        stored => stored,
    };
    let stored = stored.map_err(|error| {
        vec![Fault {
            kind: FaultKind::Policy,
            file: settings.database.url.as_ref().map_or("paths.data", |_| "database.url").into(),
            line: 0,
            column: 0,
            code: "unreadable",
            message: format!("what is stored could not be read: {error}"),
            hint: Some("name the store that the service uses, or restore it from a copy".into()),
        }]
    })?;
    Snapshot::from_files(files, sources, settings, None)?.beside(
        &stored.concat(),
        sources,
        settings,
    )
}

/// The settings of `config`, else of `dir` or the working directory, else the embedded ones.
pub fn load_settings(config: Option<&Path>, dir: Option<&Path>) -> Result<Settings, Vec<Fault>> {
    load_settings_over(config, dir, None)
}

/// The same, to listen at `listen` where the command line says so.
pub fn load_settings_over(
    config: Option<&Path>,
    dir: Option<&Path>,
    listen: Option<SocketAddr>,
) -> Result<Settings, Vec<Fault>> {
    let of_dir = || dir.map(|dir| dir.join("config/settings.yaml")).filter(|file| file.exists());
    Settings::load_here(config.map(Path::to_owned).or_else(of_dir).as_deref(), listen)
}
