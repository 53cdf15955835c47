//! Policies that are published elsewhere: asked for at an interval, served only signed and never
//! older than what serves, and kept on disk once they serve, for a start while nobody answers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Method, StatusCode, Uri};

use super::sources::{believed, fault};
use super::tree::{archive, public_key, served};
use super::trust::Trust;
use super::watch::{Event, Looked, look};
use super::{Live, Snapshot, guard};
use crate::domain::digest::Digest;
use crate::outbound::{Call, Client};
use crate::policy::{PACKED_BYTES_MAX, Source};
use crate::seal;
use crate::settings::Settings;
use crate::yaml::fault::{Fault, FaultKind};

/// What faults call it.
pub(super) const SHOWN: &str = "policy.remote";
/// Longest wait for a bundle, body included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Below `paths.data`.
const KEPT: &str = "policies/bundle.tar.gz";
/// Digits of a revision.
const DIGITS_MAX: usize = 18;

/// A remote tree, and what is known of it.
#[derive(Debug)]
pub struct Remote {
    url: String,
    key_file: PathBuf,
    trust: Trust,
    /// The bundle that served last.
    kept_file: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// What `Sources::read` gives.
    offered: Option<Arc<Offer>>,
    /// What served last, on disk or here.
    good: Option<Arc<Offer>>,
    etag: Option<HeaderValue>,
    /// Why the last look brought nothing.
    faults: Vec<Fault>,
}

/// A bundle whose signature holds.
#[derive(Debug)]
struct Offer {
    revision: u64,
    digest: Digest,
    sources: Vec<Source>,
    packed: Vec<u8>,
}

/// What a look brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// What was known.
    Same,
    /// Another bundle, which is read from now on.
    New,
}

impl Remote {
    /// The one that `settings` name; relative paths are below `base`.
    pub(super) fn of(settings: &Settings, base: Option<&Path>) -> Option<Arc<Remote>> {
        let remote = &settings.policy.remote;
        let below = |path: &Path| base.map_or_else(|| path.to_path_buf(), |base| base.join(path));
        Some(Arc::new(Remote {
            url: remote.url.clone()?,
            key_file: below(remote.public_key_file.as_deref()?),
            kept_file: below(&settings.paths.data).join(KEPT),
            trust: Trust::of(settings.env),
            held: Mutex::default(),
        }))
    }

    /// Files of the bundle that was brought last, else of the one on disk.
    pub(super) fn sources(&self) -> Result<Vec<Source>, Vec<Fault>> {
        if let Some(offer) = &self.held().offered {
            return Ok(offer.sources.clone());
        }
        public_key((&self.key_file, self.trust)).map_err(|fault| vec![fault])?;
        self.recall().map_err(|fault| vec![fault])?;
        let offered = self.held().offered.clone();
        offered.map(|offer| offer.sources.clone()).ok_or_else(|| {
            let message = format!("`{}` holds no bundle yet", self.kept_file.display());
            let hint = Some("start the service once where policy.remote.url can be reached".into());
            vec![Fault { hint, ..wrong("not_fetched", message) }]
        })
    }

    /// Takes over the bundle on disk, if there is one whose signature holds.
    fn recall(&self) -> Result<(), Fault> {
        if !self.kept_file.exists() {
            return Ok(());
        }
        let file = self.kept_file.as_path();
        let folder = (file.parent().unwrap_or(file), self.trust);
        let most = PACKED_BYTES_MAX as u64;
        let bytes = believed(FaultKind::Policy, (file, file), folder, most)?;
        let offer = Arc::new(self.offer(&self.kept_file.display().to_string(), bytes.to_vec())?);
        let mut held = self.held();
        held.good = Some(Arc::clone(&offer));
        held.offered = Some(offer);
        Ok(())
    }

    fn offer(&self, shown: &str, packed: Vec<u8>) -> Result<Offer, Fault> {
        let archive = archive(shown, &packed, Some((&self.key_file, self.trust)))?;
        let digits = &archive.revision;
        let whole = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= DIGITS_MAX;
        let revision = digits.parse().ok().filter(|_| whole).ok_or_else(|| {
            let message = "the `revision` of its `.manifest` is no whole number".to_owned();
            let hint = "build it with a number that grows: `opa build --revision $(date +%s)`";
            Fault {
                hint: Some(hint.into()),
                ..fault(FaultKind::Policy, Path::new(shown), "revision", message)
            }
        })?;
        let sources = served(archive.sources, shown)?;
        Ok(Offer { revision, digest: archive.digest, sources, packed })
    }

    /// Asks once. What it brings is read from now on, and what it did wrong is told until it does
    /// right.
    pub async fn ask(&self, settings: &Settings) -> Result<Asked, Vec<Fault>> {
        let etag = self.held().etag.clone();
        let fetched = self.fetch(settings, etag).await;
        let taken = match fetched {
            Ok(None) => Ok(Asked::Same),
            Ok(Some((packed, etag))) => {
                let offer = self.offer(SHOWN, packed);
                offer.and_then(|offer| self.take(offer, etag)).map_err(|fault| vec![fault])
            }
            Err(faults) => Err(faults),
        };
        self.held().faults = taken.as_ref().err().cloned().unwrap_or_default();
        taken
    }

    /// `None` where it has not changed.
    async fn fetch(
        &self,
        settings: &Settings,
        etag: Option<HeaderValue>,
    ) -> Result<Option<(Vec<u8>, Option<HeaderValue>)>, Vec<Fault>> {
        let uri: Uri = self.url.parse().map_err(|_| {
            let message = "policy.remote.url is no address".to_owned();
            vec![Fault { hint: Some("write https://…".into()), ..wrong("unreachable", message) }]
        })?;
        let guard = guard(settings)?;
        let failed = |message: String| {
            let hint = Some("see what answers there".into());
            vec![Fault { hint, ..wrong("unreachable", message) }]
        };
        guard.check(&uri).map_err(|error| failed(error.to_string()))?;
        let known = etag.is_some();
        let headers = HeaderMap::from_iter(etag.map(|etag| (IF_NONE_MATCH, etag)));
        let (method, body) = (Method::GET, bytes::Bytes::new());
        let call = Call { method, uri, headers, body, body_max: PACKED_BYTES_MAX };
        let client = Client::new(Arc::new(guard));
        let reply = tokio::time::timeout(PATIENCE, client.send(call)).await;
        let reply =
            reply.map_err(|_| failed(format!("no answer within {} s", PATIENCE.as_secs())))?;
        let reply = reply.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            failed(format!("{error}{}", cause.unwrap_or_default()))
        })?;
        match reply.status {
            StatusCode::OK => Ok(Some((reply.body.into(), reply.etag))),
            StatusCode::NOT_MODIFIED if known => Ok(None),
            status => Err(failed(format!("it answers with status {}", status.as_u16()))),
        }
    }

    fn take(&self, offer: Offer, etag: Option<HeaderValue>) -> Result<Asked, Fault> {
        let mut held = self.held();
        if let Some(good) = &held.good {
            let (old, new) = (good.revision, offer.revision);
            let hint = Some("publish a revision that is higher, also to go back".into());
            if new < old {
                let message = format!("its revision {new} is older than {old}, which served");
                return Err(Fault { hint, ..wrong("older_revision", message) });
            }
            if new == old && good.digest != offer.digest {
                let message =
                    format!("its revision {new} is the one that served, and it is another");
                return Err(Fault { hint, ..wrong("same_revision", message) });
            }
        }
        held.etag = etag;
        let same = held.offered.as_ref().is_some_and(|known| known.digest == offer.digest);
        if same {
            return Ok(Asked::Same);
        }
        held.offered = Some(Arc::new(offer));
        Ok(Asked::New)
    }

    /// Before the first snapshot: the bundle on disk, then the newer one, if it can be had.
    ///
    /// # Errors
    /// There is neither.
    pub async fn start(&self, settings: &Settings) -> Result<(), Vec<Fault>> {
        if let Err(fault) = self.recall() {
            tracing::error!(%fault, "The bundle that was kept cannot be used");
        }
        let Err(faults) = self.ask(settings).await else { return Ok(()) };
        if self.held().offered.is_none() {
            return Err(faults);
        }
        for fault in &faults {
            tracing::error!(%fault, "Policies were not brought; those that served last serve");
        }
        Ok(())
    }

    /// Goes back to what served last, because what was brought has these faults; false where that
    /// is the same.
    pub fn fall_back(&self, faults: &[Fault]) -> bool {
        let mut held = self.held();
        let Some(good) = held.good.clone() else { return false };
        if held.offered.as_ref().is_none_or(|offered| offered.digest == good.digest) {
            return false;
        }
        held.offered = Some(good);
        held.etag = None;
        held.faults = faults.to_vec();
        true
    }

    /// Keeps what was brought, if that is what `snapshot` is made of.
    pub fn settle(&self, snapshot: &Snapshot) {
        let offered = {
            let held = self.held();
            let good = held.good.as_ref().map(|good| good.digest);
            held.offered.clone().filter(|offered| good != Some(offered.digest))
        };
        let Some(offered) = offered.filter(|offered| snapshot.is_of(&offered.sources)) else {
            return;
        };
        if let Err(error) = keep(&self.kept_file, &offered.packed) {
            tracing::error!(%error, "Policies that serve could not be kept for the next start");
        }
        self.held().good = Some(offered);
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        self.held().faults.clone()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks and looks now, instead of waiting for the loops.
pub async fn refresh(live: &Arc<Live>, settings: &Arc<Settings>) -> Looked {
    let Some(remote) = live.sources().remote.clone() else { return look(live, settings).await };
    let asked = remote.ask(settings).await;
    let looked = look(live, settings).await;
    remote.settle(&live.current());
    match (asked, looked) {
        (Err(faults), Looked::Same) => Looked::New(Event::Refused(faults)),
        (_, looked) => looked,
    }
}

/// Asks for as long as it is polled; reports each change, and each look that failed.
pub async fn follow(live: &Arc<Live>, settings: &Arc<Settings>, mut on: impl FnMut(Event)) {
    let Some(remote) = live.sources().remote.clone() else { return std::future::pending().await };
    loop {
        let interval = settings.policy.remote.interval.0;
        tokio::time::sleep(interval + interval.mul_f64(seal::spread() / 10.0)).await;
        let before = remote.faults();
        match remote.ask(settings).await {
            Err(faults) => {
                for fault in faults.iter().filter(|fault| !before.contains(fault)) {
                    tracing::error!(%fault, "policies were not brought; the last good ones serve");
                }
                on(Event::Refused(faults));
            }
            Ok(Asked::New) => {
                if let Looked::New(event) = look(live, settings).await {
                    on(event);
                }
            }
            Ok(Asked::Same) if !before.is_empty() && live.generations().faults.is_empty() => {
                on(Event::Swapped(live.current()));
            }
            Ok(Asked::Same) => {}
        }
        remote.settle(&live.current());
    }
}

fn keep(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let fresh = file.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    std::fs::rename(fresh, file)
}

fn wrong(code: &'static str, message: String) -> Fault {
    fault(FaultKind::Policy, Path::new(SHOWN), code, message)
}
