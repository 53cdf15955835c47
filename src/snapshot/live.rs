//! The snapshot that serves, and what became of the last change.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::generations::{Generations, Instance};
use super::history::{self, Became, History};
use super::{Base, Files, Overlay, Row, RowChange, Snapshot, Sources, Told, overlays, rows, trial};
use crate::domain::id::{BundleName, DetectorName, TenantId};
use crate::policy::Policies;
use crate::settings::Settings;
use crate::store::{AuditEntry, Expected, Object, Store, StoreError};
use crate::yaml::fault::Fault;

/// Between two looks at whether another instance changed the store.
const STORE_POLL: Duration = Duration::from_secs(1);

/// The one holder of live state.
pub struct Live {
    current: ArcSwap<Snapshot>,
    sources: Sources,
    instance: String,
    state: Mutex<State>,
    store: Option<Arc<dyn Store>>,
    hastened: Notify,
    /// Of the store, when it was last read.
    generation: AtomicI64,
    /// Held by whoever makes the next snapshot, so that no change loses another.
    stored: Mutex<Stored>,
}

/// What the store holds, as it was last read.
#[derive(Default)]
struct Stored {
    overlays: Vec<Arc<Overlay>>,
    rows: Vec<Arc<Row>>,
}

/// A change of one stored overlay.
#[derive(Debug, Clone)]
pub struct Change {
    /// Whose.
    pub tenant: TenantId,
    /// Over which bundle.
    pub bundle: BundleName,
    /// The JSON of its content; `None` deletes it.
    pub body: Option<String>,
    /// What the author believes to be there.
    pub expected: Expected,
    /// What the audit says of it.
    pub audit: AuditEntry,
}

impl Change {
    /// `overlays` with what `object` makes of this one.
    fn made(&self, overlays: &[Arc<Overlay>], object: &Object) -> Vec<Arc<Overlay>> {
        let own =
            |overlay: &Overlay| overlay.tenant == self.tenant && overlay.bundle == self.bundle;
        let mut made: Vec<_> = overlays.iter().filter(|other| !own(other)).cloned().collect();
        if object.body.is_some() {
            made.extend(Overlay::of(object).map(Arc::new));
            made.sort_by(|a, b| (&a.tenant, &a.bundle).cmp(&(&b.tenant, &b.bundle)));
        }
        made
    }
}

/// What else must hold of an overlay in the snapshot that would serve, before it is stored; given
/// from above, because orchestrations are run there.
pub type Gate<'a> = &'a dyn Fn(&Snapshot, &Overlay) -> Vec<Fault>;

/// A change that was made.
#[derive(Debug)]
pub struct Changed {
    /// What serves.
    pub snapshot: Arc<Snapshot>,
    /// What is probably not meant in the overlay; files are named as the policy tree does.
    pub doubts: Vec<Fault>,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// What would serve is not valid.
    #[error("what would serve is not valid")]
    Invalid(Vec<Fault>),
    /// A file defines the name.
    #[error("a file defines this name")]
    Defined,
    /// The tenant has as many as it may.
    #[error("the tenant has {most}, which is as many as it may have")]
    Full {
        /// How many.
        most: usize,
    },
    /// Nothing was changed, or nobody knows.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Default)]
struct State {
    /// The revision that the files would make.
    wanted: String,
    /// Why it does not serve.
    faults: Vec<Fault>,
    history: History,
}

impl State {
    /// What is wanted now and why it does not serve; the edit that made it so is noted.
    fn becomes(
        &mut self,
        result: Became,
        wanted: String,
        changed: Vec<String>,
        faults: Vec<Fault>,
    ) {
        self.history.note(result, &wanted, changed, &faults);
        (self.wanted, self.faults) = (wanted, faults);
    }
}

impl Live {
    /// Serves `first`, read from `sources` and, where there is one, from `store`.
    pub fn new(first: Snapshot, sources: Sources, store: Option<Arc<dyn Store>>) -> Self {
        let state = State { wanted: first.revision.clone(), ..State::default() };
        let (overlays, rows) = (first.files.overlays.clone(), first.files.rows.clone());
        tell_broken(&first, None);
        Self {
            store,
            hastened: Notify::new(),
            generation: AtomicI64::new(-1),
            stored: Mutex::new(Stored { overlays, rows }),
            current: ArcSwap::from_pointee(first),
            sources,
            instance: uuid::Uuid::now_v7().to_string(),
            state: Mutex::new(state),
        }
    }

    /// The snapshot that serves now; taken once per request.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Another instance changed the store: it is looked at now.
    pub fn hasten(&self) {
        self.hastened.notify_one();
    }

    /// The name of this process among instances.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What serves, and what was refused.
    pub fn generations(&self) -> Generations {
        let current = self.current();
        let state = self.state();
        let mut faults = state.faults.clone();
        faults.extend(self.sources.remote().map(super::Remote::faults).unwrap_or_default());
        Generations {
            revision: current.revision.clone(),
            generation: current.generation,
            loaded_at: current.loaded_at.clone(),
            wanted: state.wanted.clone(),
            faults,
            warnings: current.warnings.clone(),
            instance: self.instance.clone(),
            instances: vec![Instance {
                instance: self.instance.clone(),
                revision: current.revision.clone(),
                generation: current.generation,
                wanted: state.wanted.clone(),
                loaded_at: current.loaded_at.clone(),
                seen_at: super::now(),
            }],
            every_instance: self.store.is_none(),
            history: state.history.newest_first(),
        }
    }

    /// Takes over what a discovered service said of itself; the next look makes a snapshot of it.
    /// False where that is known already.
    pub fn learn(&self, name: &DetectorName, told: Told) -> bool {
        self.sources.learn(name, told)
    }

    pub(super) fn sources(&self) -> &Sources {
        &self.sources
    }

    pub(super) fn store(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref()
    }

    /// Looks at files and store, as the loop does that watches them.
    #[cfg(test)]
    pub(super) fn refresh(&self, settings: &Settings) -> Option<Result<Arc<Snapshot>, Vec<Fault>>> {
        self.take(self.sources.read(), settings)
    }

    /// Looks at the store; loads and swaps when it or what was `read` is new. `None` when nothing
    /// is. Blocks; with a store it must run on a thread of a runtime that may block.
    pub(super) fn take(
        &self,
        read: Result<Files, Vec<Fault>>,
        settings: &Settings,
    ) -> Option<Result<Arc<Snapshot>, Vec<Fault>>> {
        let mut stored = self.stored();
        match self.read_store(&mut stored).and(read) {
            Ok(files) => {
                let files = files.beside(stored.overlays.clone(), stored.rows.clone());
                self.adopt(&files, settings)
            }
            Err(faults) => self.refuse("unreadable".into(), Vec::new(), faults),
        }
    }

    /// Returns once the store holds what was not read from it, here or by another instance.
    pub(super) async fn stored_anew(&self) {
        let Some(store) = &self.store else { return std::future::pending().await };
        loop {
            // Whoever hastens it only spares a wait.
            let _ = tokio::time::timeout(STORE_POLL, self.hastened.notified()).await;
            match store.generation().await {
                Ok(generation) if generation != self.generation.load(Ordering::Relaxed) => return,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "what is stored could not be looked at"),
            }
        }
    }

    /// A store that does not answer changes nothing: what was read before stays.
    fn read_store(&self, stored: &mut Stored) -> Result<(), Vec<Fault>> {
        let Some(store) = &self.store else { return Ok(()) };
        let runtime = tokio::runtime::Handle::current();
        let read = runtime.block_on(async {
            let generation = store.generation().await?;
            if generation == self.generation.load(Ordering::Relaxed) {
                return Ok(None);
            }
            Ok(Some((generation, rows::stored(store.as_ref()).await?)))
        });
        match read {
            Ok(None) => {}
            Ok(Some((generation, objects))) => {
                stored.overlays = overlays::overlays(&objects);
                stored.rows = rows::rows(&objects);
                self.generation.store(generation, Ordering::Relaxed);
            }
            Err(error) => {
                let error: StoreError = error;
                tracing::warn!(%error, "what is stored could not be read; what was read last stays");
            }
        }
        Ok(())
    }

    /// Checks, stores and serves a change of one overlay, or does nothing. What it needs long for
    /// happens beside reloads; the rest holds them up for the time of one write. Blocks, as
    /// `refresh`.
    pub fn change(
        &self,
        change: Change,
        settings: &Settings,
        gate: Gate<'_>,
    ) -> Result<Changed, ChangeError> {
        let base = self.current();
        let (draft, doubts) = self.tried(&base, &change, settings, gate)?;
        let mut stored = self.stored();
        let current = self.current();
        let mut next = if Arc::ptr_eq(&base, &current) {
            draft
        } else {
            self.draft(&current, &change, &draft.policies, settings)?
        };
        let closed = StoreError::Closed { doing: "writing an overlay" };
        let store = self.store.as_ref().ok_or(closed)?;
        let key = overlays::key(&change.tenant, &change.bundle);
        let write = store.change(key, change.body.clone(), change.expected, change.audit.clone());
        let object = tokio::runtime::Handle::current().block_on(write)?;
        // Version and time are the store's to give.
        next.files.overlays = change.made(&next.files.overlays, &object);
        stored.overlays = change.made(&stored.overlays, &object);
        let what = history::stored(&change.tenant, &change.bundle);
        Ok(Changed { snapshot: self.swap(next, what), doubts })
    }

    /// Checks, stores and serves a change of one row, or does nothing. Blocks, as `refresh`.
    pub fn change_row(
        &self,
        change: RowChange,
        settings: &Settings,
    ) -> Result<Arc<Snapshot>, ChangeError> {
        let mut stored = self.stored();
        let base = self.current();
        if change.is_defined(&base) {
            return Err(ChangeError::Defined);
        }
        change.check_room(&base, settings.orchestration.registered_max)?;
        let key = change.place.key();
        let body = change.body.clone();
        let object = Object { key, version: 0, at_ms: 0, etag: String::new(), body };
        let rows = change.made(&base.files.rows, &object);
        let files = base.files.beside(base.files.overlays.clone(), rows);
        let over = Base::over(&base.policies, &self.sources, settings);
        let mut next = base.with_files(files, &over, None).map_err(ChangeError::Invalid)?;
        if change.body.is_some()
            && let Some(faults) = next.broken_row(&change.place)
        {
            return Err(ChangeError::Invalid(faults.to_vec()));
        }
        let closed = StoreError::Closed { doing: "writing what is live" };
        let store = self.store.as_ref().ok_or(closed)?;
        let (body, audit) = (change.body.clone(), change.audit.clone());
        let write = store.change(object.key, body, change.expected, audit);
        let object = tokio::runtime::Handle::current().block_on(write)?;
        // Version and time are the store's to give.
        next.files.rows = change.made(&next.files.rows, &object);
        stored.rows = change.made(&stored.rows, &object);
        Ok(self.swap(next, change.place.shown()))
    }

    /// Checks a change as `change` does, and leaves everything as it is; its doubts.
    pub fn rehearse(
        &self,
        change: &Change,
        settings: &Settings,
        gate: Gate<'_>,
    ) -> Result<Vec<Fault>, ChangeError> {
        self.tried(&self.current(), change, settings, gate).map(|(_, doubts)| doubts)
    }

    /// What would serve after `change`, if all holds that must, and its doubts.
    fn tried(
        &self,
        base: &Snapshot,
        change: &Change,
        settings: &Settings,
        gate: Gate<'_>,
    ) -> Result<(Snapshot, Vec<Fault>), ChangeError> {
        let draft = self.draft(base, change, &base.policies, settings)?;
        let mut doubts = Vec::new();
        if let (Some(_), Some(own)) = (&change.body, draft.overlay(&change.tenant, &change.bundle))
        {
            let limits = super::policy_limits(settings);
            let mut failures = trial::failures(&draft.files, own, &limits);
            if failures.is_empty() {
                failures = gate(&draft, own);
            }
            if !failures.is_empty() {
                return Err(ChangeError::Invalid(failures));
            }
            let registered = draft.catalog.private.get(&change.tenant);
            let registered = registered.into_iter().flatten();
            let detectors = draft.catalog.detectors.iter().chain(registered);
            let votes =
                detectors.map(|(name, detector)| (name.clone(), detector.votes())).collect();
            let of_strategies = draft.catalog.of_strategies();
            let detectors = crate::policy::lint::Voters { votes, of_strategies };
            doubts = trial::doubts(&draft.files, own, &detectors, &limits);
        }
        Ok((draft, doubts))
    }

    /// What would serve after `change`, over what serves in `base`.
    pub(super) fn draft(
        &self,
        base: &Snapshot,
        change: &Change,
        units: &Policies,
        settings: &Settings,
    ) -> Result<Snapshot, ChangeError> {
        if change.body.is_some() && base.file_defines(&change.tenant, &change.bundle) {
            return Err(ChangeError::Defined);
        }
        let key = overlays::key(&change.tenant, &change.bundle);
        let body = change.body.clone();
        let object = Object { key, version: 0, at_ms: 0, etag: String::new(), body };
        let overlays = change.made(&base.files.overlays, &object);
        let files = base.files.beside(overlays, base.files.rows.clone());
        let name = (change.tenant.clone(), change.bundle.clone());
        let over = Base::over(units, &self.sources, settings);
        let draft = base.with_files(files, &over, Some(name.clone()));
        let draft = draft.map_err(ChangeError::Invalid)?;
        match draft.broken.get(&name) {
            Some(faults) => Err(ChangeError::Invalid(faults.clone())),
            None => Ok(draft),
        }
    }

    fn swap(&self, next: Snapshot, what: String) -> Arc<Snapshot> {
        let next = Arc::new(next);
        self.current.store(Arc::clone(&next));
        let mut state = self.state();
        state.history.note(Became::Stored, &next.revision, vec![what], &[]);
        // While files are at fault, they stay wanted.
        if state.faults.is_empty() {
            state.wanted.clone_from(&next.revision);
        }
        next
    }

    fn adopt(
        &self,
        files: &Files,
        settings: &Settings,
    ) -> Option<Result<Arc<Snapshot>, Vec<Fault>>> {
        let wanted = files.revision().hex();
        let current = self.current();
        {
            let mut state = self.state();
            let same = overlays::same(&current.files.overlays, &files.overlays)
                && rows::same(&current.files.rows, &files.rows);
            let serves = current.revision == wanted;
            if state.wanted == wanted && (same || !serves) {
                return None;
            }
            if serves && same {
                // A refused change was taken back.
                state.becomes(Became::Restored, wanted, Vec::new(), Vec::new());
                return Some(Ok(current));
            }
        }
        let changed = files.differences(&current.files, &self.sources.policies_root());
        match Snapshot::from_files(files, &self.sources, settings, Some(&current)) {
            Ok(next) => {
                let next = Arc::new(next);
                tell_broken(&next, Some(&current));
                self.current.store(Arc::clone(&next));
                self.state().becomes(Became::Loaded, wanted, changed, Vec::new());
                Some(Ok(next))
            }
            Err(faults) => self.refuse(wanted, changed, faults),
        }
    }

    fn refuse(
        &self,
        wanted: String,
        changed: Vec<String>,
        faults: Vec<Fault>,
    ) -> Option<Result<Arc<Snapshot>, Vec<Fault>>> {
        let mut state = self.state();
        if state.wanted == wanted && state.faults == faults {
            return None;
        }
        state.becomes(Became::Refused, wanted, changed, faults.clone());
        Some(Err(faults))
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs each stored overlay and row that serves no longer, once.
fn tell_broken(next: &Snapshot, before: Option<&Snapshot>) {
    for (place, faults) in next.broken_rows() {
        if before.is_none_or(|before| before.broken_row(place).is_none()) {
            let fault = faults.first().map(ToString::to_string).unwrap_or_default();
            let (what, tenant) = (place.kind.name(), place.tenant.as_ref().map(TenantId::as_str));
            let name = &place.name;
            tracing::error!(
                what,
                tenant,
                name,
                fault,
                "what is stored does not fit; it is refused"
            );
        }
    }
    for ((tenant, bundle), faults) in &next.broken {
        let known = before.and_then(|before| before.broken.get(&(tenant.clone(), bundle.clone())));
        if known.is_some() {
            continue;
        }
        let fault = faults.first().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            %tenant,
            policy = %bundle,
            fault,
            "a stored overlay does not fit the files; its tenant's modes decide"
        );
    }
}
