//! The reload loop: folders are watched, and contents compared every few seconds as a net.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify_debouncer_full::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{
    DebounceEventResult, DebouncedEvent, Debouncer, RecommendedCache, new_debouncer,
};
use tokio::sync::mpsc;

use super::{Live, Snapshot, Sources};
use crate::settings::Settings;
use crate::yaml::fault::Fault;

/// Quiet time before a burst of changes is looked at.
const DEBOUNCE: Duration = Duration::from_millis(250);
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
    // Without a watcher the poll alone finds changes.
    let watcher = start(live.sources().roots(), woken.clone());
    if let Err(error) = &watcher {
        tracing::warn!(%error, "files cannot be watched; changes are found within 5 s");
    }
    // The first look finds what changed before the watcher was up.
    let _ = woken.try_send(());
    loop {
        let _ = tokio::time::timeout(POLL, wake.recv()).await;
        let (looked, settings) = (Arc::clone(live), Arc::clone(settings));
        let result = tokio::task::spawn_blocking(move || looked.refresh(&settings)).await;
        match result {
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
        let watcher = start(sources.roots(), woken.clone()).ok();
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

fn start(
    roots: Vec<PathBuf>,
    woken: mpsc::Sender<()>,
) -> notify_debouncer_full::notify::Result<Watcher> {
    let watched = roots.clone();
    let mut watcher = new_debouncer(DEBOUNCE, None, move |result: DebounceEventResult| {
        if result.map_or(true, |events| events.iter().any(|event| matters(event, &roots))) {
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
