//! Background probes of remote detectors, and the probe that a person asks for.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use serde_json::Value;
use std::sync::Arc;
use tokio::time::{Instant, sleep, timeout};

use super::member::{Member, lock};
use super::place::Place;
use super::sending::Line;
use super::welcome::welcome;
use super::{Ask, Detectors, Work, series};
use crate::catalog::Detector;
use crate::catalog::detector::Health;
use crate::domain::content::{Body, Content, Part};
use crate::domain::id::{RequestId, TenantId};
use crate::domain::report::{Report, ReportError};
use crate::domain::request::{Context, Request};
use crate::metrics::Discovery;
use crate::outbound::{Call, Client};

/// What probes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Answers 2xx.
    Healthy,
    /// Answers something else, or one of its replicas is unhealthy; it is still asked.
    Degraded,
    /// Does not answer, none of its replicas does; it is not asked.
    Unhealthy,
    /// Not probed yet; it is asked.
    #[default]
    Unknown,
}

impl HealthState {
    /// Of a detector with several replicas: unhealthy only when each is.
    pub(super) fn of_all(each: impl Iterator<Item = HealthState>) -> Self {
        let each: Vec<_> = each.collect();
        let some = |state| each.contains(&state);
        if !each.is_empty() && each.iter().all(|state| *state == HealthState::Unhealthy) {
            HealthState::Unhealthy
        } else if some(HealthState::Unhealthy) || some(HealthState::Degraded) {
            HealthState::Degraded
        } else if some(HealthState::Unknown) {
            HealthState::Unknown
        } else {
            HealthState::Healthy
        }
    }

    /// Higher is worse.
    pub(super) fn badness(self) -> u8 {
        match self {
            HealthState::Healthy => 0,
            HealthState::Unknown => 1,
            HealthState::Degraded => 2,
            HealthState::Unhealthy => 3,
        }
    }

    /// The name in the API and in Rego.
    pub fn name(self) -> &'static str {
        match self {
            HealthState::Healthy => "healthy",
            HealthState::Degraded => "degraded",
            HealthState::Unhealthy => "unhealthy",
            HealthState::Unknown => "unknown",
        }
    }
}

/// Health as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HealthView {
    /// The state.
    pub state: HealthState,
    /// When the last probe ended.
    pub checked: Option<Instant>,
}

/// What a probe by hand found.
#[derive(Debug, Clone)]
pub struct ProbeView {
    /// Its health endpoint; healthy for built-in ones.
    pub health: HealthState,
    /// How long the health endpoint took.
    pub health_took: Duration,
    /// Its report on the sample.
    pub report: Report,
}

/// Probes of one detector.
#[derive(Debug, Default)]
pub(super) struct Probes {
    state: HealthState,
    failures: u32,
    successes: u32,
    checked: Option<Instant>,
    due: Option<Instant>,
}

const PROBES_AT_ONCE: usize = 10;
/// Of one tenant's registered detectors.
const PRIVATE_AT_ONCE: usize = 2;
const TICK: Duration = Duration::from_millis(250);

impl Probes {
    pub(super) fn state(&self) -> HealthState {
        self.state
    }

    pub(super) fn view(&self) -> HealthView {
        HealthView { state: self.state, checked: self.checked }
    }

    /// Lets the next probe be now.
    pub(super) fn hurry(&mut self) {
        self.due = None;
    }

    fn record(&mut self, spec: &Health, seen: HealthState, now: Instant) {
        let failed = seen == HealthState::Unhealthy;
        self.failures = if failed { self.failures + 1 } else { 0 };
        self.successes = if failed { 0 } else { self.successes + 1 };
        let out = self.state == HealthState::Unhealthy;
        if (failed && self.failures >= spec.unhealthy_after)
            || (!failed && (!out || self.successes >= spec.healthy_after))
        {
            self.state = seen;
        }
        self.checked = Some(now);
        let pause = match self.failures {
            0 => spec.interval,
            n => Duration::from_secs(1 << (n - 1).min(16)).min(spec.interval),
        };
        self.due = Some(now + pause);
    }
}

impl Detectors {
    /// Probes remote detectors for ever; drop it to stop.
    pub async fn health_loop(&self) {
        let mut running = FuturesUnordered::new();
        // Whose are running: one tenant's silent services hold up nobody else's probes.
        let mut busy: HashMap<usize, Option<TenantId>> = HashMap::new();
        loop {
            let now = Instant::now();
            for (member, place) in self.all().iter().flat_map(|member| member.due(now)) {
                let (own, whose) =
                    (Arc::as_ptr(&place) as usize, member.detector().private_to.clone());
                let most = if whose.is_some() { PRIVATE_AT_ONCE } else { PROBES_AT_ONCE };
                let beside = busy.values().filter(|other| **other == whose).count();
                if beside >= most || busy.contains_key(&own) {
                    continue;
                }
                busy.insert(own, whose);
                running.push(async move {
                    check(&self.line, &member, &place).await;
                    own
                });
            }
            let tick = sleep(TICK);
            tokio::pin!(tick);
            loop {
                tokio::select! {
                    Some(own) = running.next() => drop(busy.remove(&own)),
                    () = &mut tick => break,
                }
            }
        }
    }

    /// Asks everyone who was never asked whether it takes part, for at most `time`: what tenants
    /// registered is to serve after a start as before it.
    pub async fn meet(&self, time: Duration) {
        let members = self.all();
        let pending = members.iter().filter(|member| lock(&member.welcome).is_pending());
        let places = pending.filter_map(|member| Some((member, member.places.each().first()?)));
        let each = futures_util::stream::iter(places);
        let met = each.for_each_concurrent(PROBES_AT_ONCE, |(member, place)| {
            check(&self.line, member, place)
        });
        // Who is silent is pending, and asked again beside requests.
        let _ = timeout(time, met).await;
    }

    /// Asks its health and gives it a sample, as `orchestrator detectors probe` shows.
    pub async fn probe(&self, detector: &Arc<Detector>, sample: &str) -> ProbeView {
        let member = self.member(detector);
        let start = Instant::now();
        let pings = member.places.each().iter().map(async |place| {
            if detector.health.path.is_empty() {
                return HealthState::Unknown;
            }
            ping(&self.line.client, &place.uri, &detector.health).await
        });
        let health = HealthState::of_all(join_all(pings).await.into_iter());
        let health_took = start.elapsed();
        ProbeView { health, health_took, report: self.ask(detector, sample).await }
    }

    /// What the detector says about one text, whatever policies would make of it.
    pub async fn ask(&self, detector: &Arc<Detector>, text: &str) -> Report {
        let asks = [asking(detector)];
        let deadline = Instant::now() + detector.timeout * (detector.retry.attempts + 1);
        let report = match sample_request(&[text], detector) {
            Some(request) => {
                let pieces = request.body.pieces(request.judge, request.content_type);
                let work = Work { request: &request, caller: "system", pieces: &pieces };
                self.fan_out(&asks, &work, deadline).await.pop()
            }
            None => None,
        };
        report.unwrap_or_else(|| super::unsent(&asks[0], ReportError::Deadline))
    }
}

pub(super) fn asking(detector: &Arc<Detector>) -> Ask {
    Ask {
        name: detector.name.clone(),
        detector: Some(Arc::clone(detector)),
        timeout: detector.timeout,
        params: Value::Null,
    }
}

/// A request about the samples that holds whatever the detector may need; `None` without a sample.
pub(super) fn sample_request(samples: &[&str], detector: &Detector) -> Option<Request> {
    let id = RequestId::parse("probe").ok()?;
    let tenant = TenantId::parse("default").ok()?;
    let sample = *samples.first()?;
    let part = |text: &&str| Part::Text { text: (*text).into() };
    let body = Body::Content(match samples {
        [only] => Content::Text((*only).into()),
        many => Content::Parts(many.iter().map(part).collect()),
    });
    let mut request = Request::plain(id, tenant, body);
    request.content_type = detector.types.first().copied().unwrap_or_default();
    request.direction = detector.directions.first().copied().unwrap_or_default();
    request.context = Context { prompt: Some(sample.into()), documents: vec![sample.into()] };
    request.language = detector.languages.first().cloned();
    request.no_store = true;
    Some(request)
}

async fn check(line: &Line, member: &Member, place: &Place) {
    let (detector, began) = (member.detector(), Instant::now());
    let spec = detector.health.clone();
    let seen = match spec.path.is_empty() {
        true => None,
        false => Some(ping(&line.client, &place.uri, &spec).await),
    };
    if let Some(seen) = seen {
        line.metrics.health_check(series(&detector), seen.name(), began.elapsed());
    }
    let pending = lock(&member.welcome).is_pending();
    let outdated = pending && !welcome(&line.client, (member, &place.uri), seen).await;
    if pending && !lock(&member.welcome).is_pending() {
        line.metrics.discovery(series(&detector), Discovery::Discovered);
    }
    let now = Instant::now();
    let failing = {
        let mut probes = lock(&place.probes);
        let failing = probes.failures > 0;
        match seen {
            Some(seen) => probes.record(&spec, seen, now),
            None => probes.due = Some(now + spec.interval),
        }
        if outdated {
            probes.hurry();
        }
        failing
    };
    if failing && seen == Some(HealthState::Healthy) {
        place.recovered(now);
    }
}

impl Member {
    /// Its places that are to be probed now.
    fn due(self: &Arc<Self>, now: Instant) -> Vec<(Arc<Member>, Arc<Place>)> {
        let is_asked = !self.detector().health.path.is_empty() || lock(&self.welcome).is_pending();
        let is_due =
            |place: &&Arc<Place>| is_asked && lock(&place.probes).due.is_none_or(|due| due <= now);
        let due = self.places.each().iter().filter(is_due);
        due.map(|place| (Arc::clone(self), Arc::clone(place))).collect()
    }
}

async fn ping(client: &Client, target: &Uri, spec: &Health) -> HealthState {
    let mut parts = target.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(spec.path.as_str()).ok();
    let Ok(uri) = Uri::from_parts(parts) else { return HealthState::Unhealthy };
    let (method, headers, body) = (Method::GET, HeaderMap::new(), Bytes::new());
    let call = Call { method, uri, headers, body, body_max: 64 * 1024 };
    match timeout(spec.timeout, client.send(call)).await {
        Ok(Ok(reply)) if reply.status.is_success() => HealthState::Healthy,
        Ok(Ok(_)) => HealthState::Degraded,
        Ok(Err(_)) | Err(_) => HealthState::Unhealthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_take_out_within_seconds_and_one_success_brings_back() {
        let spec = Health {
            path: "/health".into(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            unhealthy_after: 3,
            healthy_after: 1,
        };
        // Who refuses and who hangs; each probe begins at most a tick after it is due.
        for took in [Duration::ZERO, spec.timeout] {
            let (mut probes, mut now) = (Probes::default(), Instant::now());
            let start = now;
            probes.record(&spec, HealthState::Healthy, now);
            for expected in [HealthState::Healthy, HealthState::Healthy, HealthState::Unhealthy] {
                now = probes.due.unwrap() + TICK + took;
                probes.record(&spec, HealthState::Unhealthy, now);
                assert_eq!(probes.state(), expected);
            }
            assert_eq!(now - start, Duration::from_secs(13) + 3 * (TICK + took));
            assert!(now - start <= Duration::from_secs(30), "{:?}", now - start);
            probes.record(&spec, HealthState::Degraded, now);
            assert_eq!(probes.state(), HealthState::Degraded);
        }
    }
}
