//! What is remembered about one detector and version at one endpoint.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

use super::health::{HealthState, HealthView, Probes};
use super::limits::{Bulkhead, Latency, RetryBudget};
use super::welcome::Welcome;
use crate::catalog::Detector;
use crate::domain::id::{DetectorName, TenantId};
use crate::operations::breaker::{
    Admission, Breaker, BreakerSpec, BreakerState, BreakerStats, Ended,
};

/// A new endpoint is a new member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    private_to: Option<TenantId>,
    name: DetectorName,
    version: Arc<str>,
    endpoint: Option<Uri>,
}

impl Key {
    pub(super) fn of(detector: &Detector) -> Self {
        Self {
            private_to: detector.private_to.clone(),
            name: detector.name.clone(),
            version: Arc::clone(&detector.version),
            endpoint: detector.endpoint.as_ref().map(|endpoint| endpoint.uri.clone()),
        }
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

impl BreakerView {
    /// Whether it is the breaker of a version of `detector`.
    pub fn is_of(&self, detector: &Detector) -> bool {
        self.name == detector.name && self.private_to == detector.private_to
    }
}

#[derive(Debug)]
pub(super) struct Member {
    detector: Mutex<Arc<Detector>>,
    /// Where it answers; `None` for built-in detectors.
    pub(super) target: Option<Uri>,
    breaker: Mutex<Breaker>,
    bulkhead: Mutex<Arc<Bulkhead>>,
    budget: Mutex<RetryBudget>,
    latency: Mutex<Latency>,
    rests_until: Mutex<Option<Instant>>,
    pub(super) probes: Mutex<Probes>,
    pub(super) welcome: Mutex<Welcome>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    pub(super) fn new(detector: &Arc<Detector>) -> Self {
        Self {
            target: detector.endpoint.as_ref().map(|endpoint| endpoint.uri.clone()),
            detector: Mutex::new(Arc::clone(detector)),
            breaker: Mutex::default(),
            bulkhead: Mutex::new(Arc::new(Bulkhead::new(detector.bulkhead))),
            budget: Mutex::default(),
            latency: Mutex::default(),
            rests_until: Mutex::default(),
            probes: Mutex::default(),
            welcome: Mutex::new(Welcome::of(detector)),
        }
    }

    /// Takes over the numbers of a reloaded file.
    pub(super) fn adopt(&self, detector: &Arc<Detector>) {
        let before = std::mem::replace(&mut *lock(&self.detector), Arc::clone(detector));
        if lock(&self.welcome).adopt(&before, detector) {
            lock(&self.probes).hurry();
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

    pub(super) fn rest(&self, until: Instant) {
        *lock(&self.rests_until) = Some(until);
    }

    /// Not in service yet, out of it by its probes, or resting because it asked to.
    pub(super) fn is_away(&self, now: Instant) -> bool {
        lock(&self.welcome).is_pending()
            || lock(&self.rests_until).is_some_and(|until| now < until)
            || lock(&self.probes).state() == HealthState::Unhealthy
    }

    pub(super) fn health_view(&self) -> HealthView {
        if self.target.is_none() {
            return HealthView { state: HealthState::Healthy, checked: None };
        }
        lock(&self.probes).view()
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

    /// The right to one try; gives itself back when dropped.
    pub(super) fn admit(self: &Arc<Self>, detector: &Detector) -> Option<Trying> {
        let spec = detector.breaker;
        let admission = self.breaker().admit(&spec, Instant::now())?;
        Some(Trying { member: Arc::clone(self), spec, admission, ended: Ended::Released })
    }
}

/// A try in progress. A dropped one is released without counting.
pub(super) struct Trying {
    member: Arc<Member>,
    spec: BreakerSpec,
    admission: Admission,
    ended: Ended,
}

impl Trying {
    pub(super) fn end(mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        let mut breaker = self.member.breaker();
        breaker.record(&self.spec, self.admission, self.ended, Instant::now());
    }
}
