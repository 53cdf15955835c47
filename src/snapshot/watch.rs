//! The reload loop: folders are watched, the store is asked every second, and contents compared
//! every few seconds as a net.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify_debouncer_full::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{
    DebounceEventResult, DebouncedEvent, Debouncer, RecommendedCache, new_debouncer,
};
use tokio::sync::mpsc;

use super::{Files, Live, Snapshot, Sources};
use crate::domain::digest::Digest;
use crate::settings::Settings;
use crate::yaml::fault::Fault;

/// Time after a change before files are looked at.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Between two looks that must agree before what they saw is loaded.
const SETTLE: Duration = Duration::from_millis(150);
/// Looks at files that keep changing, before it is said.
const LOOKS: usize = 20;
/// Between looks that no event asked for.
const POLL: Duration = Duration::from_secs(5);

/// What became of a change.
pub enum Event {
    /// It serves.
    Swapped(Arc<Snapshot>),
    /// It does not; the last good state keeps serving.
    Refused(Vec<Fault>),
}

type Watcher = Debouncer<RecommendedWatcher, RecommendedCache>;

/// Reloads for as long as it is polled; reports each change once.
pub async fn watch(live: &Arc<Live>, settings: &Arc<Settings>, mut on: impl FnMut(Event)) {
    let (woken, mut wake) = mpsc::channel(1);
    let moved = Arc::new(AtomicBool::new(false));
    let watched = || start(live.sources().roots(), woken.clone(), Arc::clone(&moved));
    // Without a watcher the poll alone finds changes.
    let mut watcher = watched();
    if let Err(error) = &watcher {
        tracing::warn!(%error, "files cannot be watched; changes are found within 5 s");
    }
    // The first look finds what changed before the watcher was up.
    let _ = woken.try_send(());
    let mut known = None;
    loop {
        let told = tokio::select! {
            _ = wake.recv() => true,
            () = live.stored_anew() => true,
            () = tokio::time::sleep(POLL) => false,
        };
        let Some((read, print)) = settled(live, known.as_ref()).await else {
            tracing::warn!("files keep changing; the last good state serves");
            let _ = woken.try_send(());
            continue;
        };
        let missed = !told && known.as_ref() != Some(&print);
        if moved.swap(false, Ordering::Relaxed) || missed {
            // It watches a folder that has gone elsewhere. What happened meanwhile is looked for.
            watcher = watched();
            tracing::debug!(watched = watcher.is_ok(), "files are watched anew");
            let _ = woken.try_send(());
        }
        known = Some(print);
        let (taker, settings) = (Arc::clone(live), Arc::clone(settings));
        match tokio::task::spawn_blocking(move || taker.take(read, &settings)).await {
            Ok(None) => {}
            Ok(Some(Ok(snapshot))) => {
                tracing::info!(
                    revision = %snapshot.revision,
                    generation = snapshot.generation,
                    "a change serves"
                );
                on(Event::Swapped(snapshot));
            }
            Ok(Some(Err(faults))) => {
                for fault in &faults {
                    tracing::error!(%fault, "a change was refused; the last good state serves");
                }
                on(Event::Refused(faults));
            }
            Err(error) => tracing::error!(%error, "a reload failed; the last good state serves"),
        }
    }
}

/// What a look at files and store found.
pub enum Looked {
    /// Nothing new.
    Same,
    /// A change.
    New(Event),
    /// Files that keep changing.
    Restless,
}

/// Looks now instead of waiting for the watcher.
pub async fn look(live: &Arc<Live>, settings: &Arc<Settings>) -> Looked {
    let Some((read, _)) = settled(live, None).await else { return Looked::Restless };
    let (taker, settings) = (Arc::clone(live), Arc::clone(settings));
    match tokio::task::spawn_blocking(move || taker.take(read, &settings)).await {
        Ok(Some(Ok(snapshot))) => Looked::New(Event::Swapped(snapshot)),
        Ok(Some(Err(faults))) => Looked::New(Event::Refused(faults)),
        Ok(None) => Looked::Same,
        Err(error) => {
            tracing::error!(%error, "a reload failed; the last good state serves");
            Looked::Restless
        }
    }
}

/// What files hold, or why they cannot be read.
type Read = Result<Files, Vec<Fault>>;
/// The same, small enough to keep.
type Print = Result<Digest, Vec<Fault>>;

/// What files hold once two looks agree, or once one sees what is `known`. One look is not enough:
/// it takes time, and may see some files of before a change beside others of after it.
async fn settled(live: &Arc<Live>, known: Option<&Print>) -> Option<(Read, Print)> {
    let mut before = None;
    for _ in 0..LOOKS {
        let looking = Arc::clone(live);
        let look = move || {
            let read = looking.sources().read();
            let print = read.as_ref().map(Files::revision).map_err(Clone::clone);
            (read, print)
        };
        let (read, print) = tokio::task::spawn_blocking(look).await.ok()?;
        if known == Some(&print) || before.as_ref() == Some(&print) {
            return Some((read, print));
        }
        before = Some(print);
        tokio::time::sleep(SETTLE).await;
    }
    None
}

/// Tells a command that runs again and again when files have changed.
pub struct Changes {
    /// Without a watcher every poll counts as a change.
    watcher: Option<Watcher>,
    wake: mpsc::Receiver<()>,
    _woken: mpsc::Sender<()>,
}

impl Changes {
    /// Watches the folders of `sources` from now on.
    pub fn of(sources: &Sources) -> Changes {
        let (woken, wake) = mpsc::channel(1);
        let watcher = start(sources.roots(), woken.clone(), Arc::default()).ok();
        Changes { watcher, wake, _woken: woken }
    }

    /// Waits for the next change; without a watcher, 5 s.
    pub async fn next(&mut self) {
        match self.watcher {
            Some(_) => drop(self.wake.recv().await),
            None => tokio::time::sleep(POLL).await,
        }
    }
}

/// `moved` becomes true when a root itself was replaced, which ends its being watched.
fn start(
    roots: Vec<PathBuf>,
    woken: mpsc::Sender<()>,
    moved: Arc<AtomicBool>,
) -> notify_debouncer_full::notify::Result<Watcher> {
    let watched = roots.clone();
    let mut watcher = new_debouncer(DEBOUNCE, None, move |result: DebounceEventResult| {
        let events = result.as_ref().map_or(&[][..], Vec::as_slice);
        let ours = || events.iter().filter(|event| matters(event, &roots));
        if ours().any(|event| event.paths.iter().any(|path| roots.contains(path))) {
            moved.store(true, Ordering::Relaxed);
        }
        if result.is_err() || ours().next().is_some() {
            // A full channel means that a look is due anyway.
            let _ = woken.try_send(());
        }
    })?;
    for root in watched {
        if root.is_dir() {
            watcher.watch(&root, RecursiveMode::Recursive)?;
        }
        // A file goes silent, and a folder is lost, after a rename: the parent sees both.
        if let Some(parent) = root.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            watcher.watch(parent, RecursiveMode::NonRecursive)?;
        }
    }
    Ok(watcher)
}

/// Looking opens files, and the parent of a root holds what is none of ours: neither must ask for
/// the next look.
fn matters(event: &DebouncedEvent, roots: &[PathBuf]) -> bool {
    let ours = |path: &PathBuf| roots.iter().any(|root| path.starts_with(root));
    event.need_rescan() || (!event.kind.is_access() && event.paths.iter().any(ours))
}
