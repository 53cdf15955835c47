//! What is remembered about one detector and version at its endpoints.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

use super::health::{HealthState, HealthView};
use super::limits::{Bulkhead, Latency, RetryBudget, Throttle};
use super::place::{Moment, Place, Places};
use super::welcome::Welcome;
use crate::catalog::Detector;
use crate::domain::id::{DetectorName, TenantId};
use crate::domain::report::ReportError;
use crate::operations::breaker::{
    Admission, Breaker, BreakerSpec, BreakerState, BreakerStats, Ended,
};

/// Other endpoints are another member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    private_to: Option<TenantId>,
    name: DetectorName,
    version: Arc<str>,
    endpoints: Vec<Uri>,
}

impl Key {
    pub(super) fn of(detector: &Detector) -> Self {
        Self {
            private_to: detector.private_to.clone(),
            name: detector.name.clone(),
            version: Arc::clone(&detector.version),
            endpoints: detector.endpoints().map(|endpoint| endpoint.uri.clone()).collect(),
        }
    }

    /// Whether `other` is the same detector and version, some of whose endpoints are ours.
    pub(super) fn continues(&self, other: &Key) -> bool {
        (&self.private_to, &self.name, &self.version)
            == (&other.private_to, &other.name, &other.version)
            && self.endpoints.iter().any(|endpoint| other.endpoints.contains(endpoint))
    }
}

/// A breaker as seen from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerView {
    /// The tenant that registered the detector; `None` for everyone's.
    pub private_to: Option<TenantId>,
    /// The detector.
    pub name: DetectorName,
    /// Its version.
    pub version: Arc<str>,
    /// The state as the next call meets it.
    pub state: BreakerState,
    /// Failures in the window.
    pub failures: u32,
    /// Successes in the window, or of probes while half open.
    pub successes: u32,
    /// Until the next try may pass; `None` unless open by itself.
    pub next_attempt: Option<Duration>,
    /// Since start.
    pub stats: BreakerStats,
}

/// How one version of a detector stands, for whoever watches over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// The tenant that registered the detector; `None` for everyone's.
    pub private_to: Option<TenantId>,
    /// The detector.
    pub name: DetectorName,
    /// Its version.
    pub version: Arc<str>,
    /// What probes say.
    pub health: HealthState,
    /// How often its breaker opened and closed since start.
    pub turns: u64,
}

impl BreakerView {
    /// Whether it is the breaker of a version of `detector`.
    pub fn is_of(&self, detector: &Detector) -> bool {
        self.name == detector.name && self.private_to == detector.private_to
    }
}

#[derive(Debug)]
pub(super) struct Member {
    detector: Mutex<Arc<Detector>>,
    /// Where it answers; none for built-in detectors.
    pub(super) places: Places,
    breaker: Arc<Mutex<Breaker>>,
    bulkhead: Mutex<Arc<Bulkhead>>,
    budget: Arc<Mutex<RetryBudget>>,
    latency: Arc<Mutex<Latency>>,
    pub(super) throttle: Arc<Throttle>,
    pub(super) welcome: Mutex<Welcome>,
}

/// A try without an answer for less than this speaks against no place, unless a hedge says so.
const SILENCE: Duration = Duration::from_millis(200);

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    pub(super) fn new(detector: &Arc<Detector>) -> Self {
        Self {
            places: Places::new(detector, &[]),
            detector: Mutex::new(Arc::clone(detector)),
            breaker: Arc::default(),
            bulkhead: Mutex::new(Arc::new(Bulkhead::new(detector.bulkhead))),
            budget: Arc::default(),
            latency: Arc::default(),
            throttle: Arc::default(),
            welcome: Mutex::new(Welcome::of(detector)),
        }
    }

    /// The same detector with replicas added or removed: what is known of the others goes on, also
    /// for calls that began before.
    pub(super) fn with_endpoints_of(&self, detector: &Arc<Detector>) -> Self {
        Self {
            places: Places::new(detector, self.places.each()),
            detector: Mutex::new(Arc::clone(detector)),
            breaker: Arc::clone(&self.breaker),
            bulkhead: Mutex::new(self.bulkhead()),
            budget: Arc::clone(&self.budget),
            latency: Arc::clone(&self.latency),
            throttle: Arc::clone(&self.throttle),
            welcome: Mutex::new(Welcome::of(detector)),
        }
    }

    /// Takes over the numbers of a reloaded file.
    pub(super) fn adopt(&self, detector: &Arc<Detector>) {
        let before = std::mem::replace(&mut *lock(&self.detector), Arc::clone(detector));
        if lock(&self.welcome).adopt(&before, detector) {
            self.places.each().iter().for_each(|place| lock(&place.probes).hurry());
        }
        let mut bulkhead = lock(&self.bulkhead);
        if bulkhead.spec != detector.bulkhead {
            *bulkhead = Arc::new(Bulkhead::new(detector.bulkhead));
        }
    }

    pub(super) fn detector(&self) -> Arc<Detector> {
        Arc::clone(&lock(&self.detector))
    }

    pub(super) fn is(&self, private_to: Option<&TenantId>, name: &DetectorName) -> bool {
        let detector = lock(&self.detector);
        detector.name == *name && detector.private_to.as_ref() == private_to
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        lock(&self.breaker)
    }

    pub(super) fn bulkhead(&self) -> Arc<Bulkhead> {
        Arc::clone(&lock(&self.bulkhead))
    }

    pub(super) fn budget(&self) -> MutexGuard<'_, RetryBudget> {
        lock(&self.budget)
    }

    pub(super) fn latency(&self) -> MutexGuard<'_, Latency> {
        lock(&self.latency)
    }

    /// Not in service yet, or out of it at every place.
    pub(super) fn is_away(&self, now: Instant) -> bool {
        lock(&self.welcome).is_pending() || self.places.is_away(now)
    }

    /// How long it still wants to be left alone.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        self.places.rest(now)
    }

    pub(super) fn health_view(&self) -> HealthView {
        self.places.health()
    }

    pub(super) fn watched(&self) -> Option<Watched> {
        let (health, turns) = (self.health_view().state, self.breaker().turns());
        if turns == 0 && health == HealthState::Unknown {
            return None;
        }
        let detector = self.detector();
        Some(Watched {
            private_to: detector.private_to.clone(),
            name: detector.name.clone(),
            version: Arc::clone(&detector.version),
            health,
            turns,
        })
    }

    pub(super) fn view(&self, now: Instant) -> BreakerView {
        let detector = self.detector();
        let breaker = self.breaker();
        let (failures, successes) = breaker.recent();
        BreakerView {
            private_to: detector.private_to.clone(),
            name: detector.name.clone(),
            version: Arc::clone(&detector.version),
            state: breaker.state(now),
            failures,
            successes,
            next_attempt: breaker.next_attempt(now),
            stats: breaker.stats(),
        }
    }

    /// The right to one try, at a place not in `tried` where that can be; gives itself back when
    /// dropped.
    pub(super) fn admit(
        self: &Arc<Self>,
        detector: &Detector,
        tried: u32,
    ) -> Result<Trying, ReportError> {
        let (spec, now) = (detector.breaker, Instant::now());
        let admission = self.breaker().admit(&spec, now).ok_or(ReportError::CircuitOpen)?;
        let (member, ended) = (Arc::clone(self), Ended::Released);
        let mut trying = Trying { member, spec, admission, ended, shunned: false, seat: None };
        if !self.places.each().is_empty() {
            let usual = self.latency().p50(now).map(|p50| p50 * 4);
            let patience = detector
                .hedge
                .unwrap_or_else(|| usual.unwrap_or(detector.timeout / 2).max(SILENCE));
            let moment = Moment { now, patience };
            let place =
                self.places.choose(detector, tried, moment).ok_or(ReportError::Unhealthy)?;
            trying.seat = Some((place, moment));
        }
        Ok(trying)
    }
}

/// A try in progress. A dropped one is released without counting.
pub(super) struct Trying {
    member: Arc<Member>,
    spec: BreakerSpec,
    admission: Admission,
    ended: Ended,
    /// Whether it speaks against its place, whatever it says of the detector.
    shunned: bool,
    /// Where, and since when; `None` for built-in detectors.
    seat: Option<(usize, Moment)>,
}

impl Trying {
    /// Where among the detector's endpoints it goes to.
    pub(super) fn place(&self) -> Option<(usize, &Arc<Place>)> {
        let (index, _) = self.seat?;
        Some((index, self.member.places.each().get(index)?))
    }

    pub(super) fn end(mut self, ended: Ended) {
        self.ended = ended;
    }

    /// The place must not be asked; nothing is said of the detector.
    pub(super) fn shun(mut self) {
        self.shunned = true;
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        let now = Instant::now();
        let contained = self.seat.is_some_and(|(place, began)| {
            let ended = if self.shunned { Ended::Failure } else { self.ended };
            let end = (ended, now - began.now);
            self.member.places.ended(place, end, Moment { now, ..began })
        });
        let failed = self.ended == Ended::Failure;
        let ended = if failed && contained { Ended::Released } else { self.ended };
        self.member.breaker().record(&self.spec, self.admission, ended, now);
    }
}
