//! What becomes of the service itself, seen from beside: breakers that trip, detectors that fall ill,
//! snapshots that are swapped. No call and no reload waits for it, and none of its turns is missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::bus::{Announcer, Bus, Ring};
use crate::detect::{Detectors, HealthState, Watched};
use crate::domain::digest::Digest;
use crate::domain::event::EventType;
use crate::domain::id::{BundleName, DetectorName, TenantId};
use crate::snapshot::{Live, RowPlace, Snapshot};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Turns of one breaker that one look tells; of more, the latest.
const TURNS_MAX: u64 = 10;

type Whose = (Option<TenantId>, DetectorName);
type Version = (Whose, Arc<str>);

/// Looks, and tells what changed.
pub struct Watcher {
    live: Arc<Live>,
    detectors: Arc<Detectors>,
    announcer: Arc<Announcer>,
    bus: Arc<dyn Bus>,
    serving: Arc<Snapshot>,
    /// What was told last, of those about whom something was to be told.
    stood: BTreeMap<Version, Watched>,
}

impl Watcher {
    /// What stands now is known.
    pub fn new(
        live: Arc<Live>,
        detectors: Arc<Detectors>,
        announcer: Arc<Announcer>,
        bus: Arc<dyn Bus>,
    ) -> Self {
        let serving = live.current();
        Self { live, detectors, announcer, bus, serving, stood: BTreeMap::new() }
    }

    /// Goes on for ever; drop it to stop.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }

    /// Tells what changed since the last look.
    pub fn look(&mut self) {
        self.look_at_detectors();
        let current = self.live.current();
        if !Arc::ptr_eq(&current, &self.serving) {
            let before = std::mem::replace(&mut self.serving, current);
            self.tell_swap(&before, &self.serving);
        }
    }

    fn look_at_detectors(&mut self) {
        let mut stood = BTreeMap::new();
        for now in self.detectors.watched() {
            let key = ((now.private_to.clone(), now.name.clone()), Arc::clone(&now.version));
            let before = self.stood.remove(&key);
            self.tell_health(before.as_ref(), &now);
            self.tell_turns(before.as_ref(), &now);
            stood.insert(key, now);
        }
        self.stood = stood;
    }

    fn tell_health(&self, before: Option<&Watched>, now: &Watched) {
        let from = before.map_or(HealthState::Unknown, |before| before.health);
        let begins_well = from == HealthState::Unknown && now.health == HealthState::Healthy;
        if from == now.health || begins_well || now.health == HealthState::Unknown {
            return;
        }
        let change = json!({
            "version": &*now.version, "from": from.name(), "to": now.health.name(),
            "instance": self.live.instance(),
        });
        let of = (now.private_to.clone(), source(&now.name));
        self.announcer.tell(EventType::ServiceHealthChanged, of.0, of.1, change);
    }

    /// A trip is told once, however many calls it refuses, and its end once.
    fn tell_turns(&self, before: Option<&Watched>, now: &Watched) {
        // Another breaker of the same name begins anew.
        let before = before.filter(|before| before.turns <= now.turns);
        let told = before.map_or(0, |before| before.turns);
        for turn in told.max(now.turns.saturating_sub(TURNS_MAX))..now.turns {
            // They take turns, and the first one opens.
            let event_type = match turn % 2 {
                0 => EventType::CircuitBreakerOpened,
                _ => EventType::CircuitBreakerClosed,
            };
            let data = json!({ "version": &*now.version, "instance": self.live.instance() });
            self.announcer.tell(event_type, now.private_to.clone(), source(&now.name), data);
        }
    }

    fn tell_swap(&self, before: &Snapshot, now: &Snapshot) {
        let data = json!({
            "revision": now.revision, "previous": before.revision,
            "generation": now.generation, "instance": self.live.instance(),
        });
        let instance = format!("instance/{}", self.live.instance());
        self.announcer.tell(EventType::ConfigReloaded, None, instance, data);
        self.tell_policies(before, now);
        self.tell_detectors(before, now);
        // Whoever polls the store for what is to be served need not wait.
        self.bus.ring(Ring::Stored);
    }

    fn tell_policies(&self, before: &Snapshot, now: &Snapshot) {
        let (old, new) = (overlays(before), overlays(now));
        let changed = new.iter().filter(|(key, version)| old.get(*key) != Some(*version));
        let gone = old.iter().filter(|(key, _)| !new.contains_key(*key));
        let changed = changed.map(|(key, version)| (key, version, false));
        for ((tenant, bundle), version, deleted) in changed.chain(gone.map(|(k, v)| (k, v, true))) {
            let kind = EventType::PolicyChanged;
            let id = once(kind, tenant, bundle.as_str(), (*version, deleted));
            let data = json!({ "policy": bundle.as_str(), "version": version, "deleted": deleted });
            let of = (Some(tenant.clone()), format!("policy/{bundle}"));
            self.announcer.tell_as(id, kind, of, data);
        }
    }

    fn tell_detectors(&self, before: &Snapshot, now: &Snapshot) {
        let (old, new) = (detectors(before), detectors(now));
        for (whose, version) in &new {
            if old.get(whose) == Some(version) || (whose.0.is_none() && old.contains_key(whose)) {
                continue;
            }
            match whose.0 {
                Some(_) => self.tell_registered(EventType::ServiceRegistered, whose, *version),
                None => self.tell_registered(EventType::ServiceDiscovered, whose, 0),
            }
        }
        for (whose, version) in old.iter().filter(|(whose, _)| !new.contains_key(*whose)) {
            self.tell_registered(EventType::ServiceUnregistered, whose, *version);
        }
    }

    fn tell_registered(&self, kind: EventType, (tenant, name): &Whose, version: u64) {
        let of = (tenant.clone(), source(name));
        match tenant {
            // Every instance loads it; of all, one event is kept.
            Some(owner) => {
                let gone = kind == EventType::ServiceUnregistered;
                let id = once(kind, owner, name.as_str(), (version, gone));
                self.announcer.tell_as(id, kind, of, json!({ "detector": name.as_str() }));
            }
            // Files are each instance's own.
            None => {
                let data = json!({ "detector": name.as_str(), "instance": self.live.instance() });
                self.announcer.tell(kind, of.0, of.1, data);
            }
        }
    }
}

fn source(name: &DetectorName) -> String {
    format!("detector/{name}")
}

/// The same at every instance for the same stored version.
fn once(kind: EventType, tenant: &TenantId, name: &str, (version, gone): (u64, bool)) -> Digest {
    let version = version.to_be_bytes();
    Digest::of_all([
        kind.name().as_bytes(),
        tenant.as_str().as_bytes(),
        name.as_bytes(),
        &version,
        &[u8::from(gone)],
    ])
}

fn overlays(snapshot: &Snapshot) -> BTreeMap<(TenantId, BundleName), u64> {
    let of = snapshot.overlays();
    of.map(|overlay| ((overlay.tenant.clone(), overlay.bundle.clone()), overlay.version)).collect()
}

/// Every detector, with the stored version of one that a tenant registered.
fn detectors(snapshot: &Snapshot) -> BTreeMap<Whose, u64> {
    let versions: BTreeMap<&RowPlace, u64> = snapshot
        .rows(crate::snapshot::RowKind::Detector)
        .map(|row| (&row.place, row.version))
        .collect();
    let of = snapshot.catalog.all().map(|detector| {
        let place = detector
            .private_to
            .as_ref()
            .map(|tenant| RowPlace::of_detector(tenant, &detector.name));
        let version = place.and_then(|place| versions.get(&place).copied());
        ((detector.private_to.clone(), detector.name.clone()), version.unwrap_or_default())
    });
    of.collect()
}
