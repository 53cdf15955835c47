//! Asks detectors under one deadline; every trouble is a `Report`, never an error of the request.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::catalog::detector::{DISCOVERED, Protocol};
use crate::catalog::{Catalog, Detector};
use crate::domain::content::Piece;
use crate::domain::finding::TextView;
use crate::domain::id::{DetectorName, TenantId};
use crate::domain::report::{Report, ReportError};
use crate::domain::request::Request;
use crate::metrics::{Discovery, Metrics, REGISTERED};
use crate::operations::breaker::{BreakerState, Force};
use crate::outbound::{Client, Guard, Reply, SendError};
use crate::seal::DataKeys;

pub mod builtin;
mod call;
mod delegation;
mod excerpt;
mod fit;
mod flight;
#[cfg(feature = "fuzz")]
mod fuzz;
mod gather;
mod health;
mod label;
mod limits;
mod local;
mod member;
mod merge;
mod oauth;
mod place;
mod protocol;
mod sending;
mod vault;
mod welcome;

#[cfg(feature = "fuzz")]
pub use fuzz::read_reply;

pub use health::{HealthState, HealthView, ProbeView};
pub use local::{Judge, Judged, Prepare};
pub use member::{BreakerView, Watched};
pub use vault::{CredentialPlace, CredentialView, VaultError};
pub use welcome::{Capabilities, Standing};

use excerpt::Texts;
use flight::Flights;
use gather::Gatherings;
use member::{Key, Member, lock};
use sending::{Landing, Line};

/// What the runtime needs at start.
pub struct DetectConfig {
    /// Where calls may go.
    pub guard: Arc<Guard>,
    /// Calls at once per request, 1 or more.
    pub parallel_max: usize,
    /// Threads for built-in detectors, 1 or more.
    pub threads: usize,
    /// Longest reply body in bytes.
    pub reply_bytes_max: usize,
    /// Texts up to this many bytes are judged by built-in detectors without changing threads.
    pub inline_bytes_max: usize,
    /// Makes built-in detectors.
    pub prepare: Prepare,
    /// What probes, waits and comings are counted in.
    pub metrics: Arc<Metrics>,
}

/// One detector to be asked.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Who.
    pub name: DetectorName,
    /// `None` gives `not_registered`.
    pub detector: Option<Arc<Detector>>,
    /// Of one try.
    pub timeout: Duration,
    /// Laid over the file's parameters, key by key.
    pub params: Value,
}

/// What detectors are asked about.
#[derive(Debug, Clone)]
pub struct Work<'a> {
    /// The request.
    pub request: &'a Request,
    /// For whom detectors are asked, as audits name it.
    pub caller: &'a str,
    /// What of it is judged.
    pub pieces: &'a [Piece],
}

/// Whether these reports, in the order of the asks, suffice; those that are still to come stand
/// among them as `decided`.
pub type Stop<'a> = dyn Fn(Vec<Report>) -> BoxFuture<'a, bool> + Send + Sync + 'a;

type Entries = HashMap<usize, (Arc<Detector>, Arc<Member>)>;

/// Members by the address of their definition, which the entry keeps alive: the way of a call.
#[derive(Default)]
struct Serving {
    now: Entries,
    /// Of what the last swap removed: requests that began before it go on asking it.
    before: Entries,
}

/// The runtime state of all detectors; survives reloads.
pub struct Detectors {
    config: DetectConfig,
    line: Arc<Line>,
    flights: Flights<Landing>,
    gatherings: Arc<Gatherings>,
    pool: local::Pool,
    members: RwLock<HashMap<Key, Arc<Member>>>,
    serving: RwLock<Serving>,
}

impl Detectors {
    /// An empty runtime; `keys` open the credentials of the store.
    pub fn new(config: DetectConfig, keys: DataKeys) -> Self {
        let client = Client::new(Arc::clone(&config.guard));
        let pool = local::Pool::new(&config);
        let (members, serving) = (RwLock::default(), RwLock::default());
        let reply_bytes_max = config.reply_bytes_max;
        let metrics = Arc::clone(&config.metrics);
        let vault = vault::Vault::new(keys);
        let line = Arc::new(Line { client, vault, reply_bytes_max, metrics });
        let gatherings = Arc::default();
        Self { config, line, flights: Flights::default(), gatherings, pool, members, serving }
    }

    /// After a swap: detectors with unchanged version and endpoint keep their state, replicas each
    /// its own; the others start anew.
    pub fn retain(&self, catalog: &Catalog) {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        let (mut next, mut serving) = (HashMap::new(), HashMap::new());
        let names = |keys: &HashMap<Key, Arc<Member>>| -> HashSet<_> {
            keys.values().map(|member| series(&member.detector()).to_owned()).collect()
        };
        let before_it = names(&members);
        for detector in catalog.all().flat_map(Detector::definitions) {
            let key = Key::of(detector);
            let member = members.remove(&key).unwrap_or_else(|| {
                let before = members.iter().find(|(other, _)| key.continues(other));
                Arc::new(match before {
                    Some((_, member)) => member.with_endpoints_of(detector),
                    None => Member::new(detector),
                })
            });
            member.adopt(detector);
            let entry = (Arc::clone(detector), Arc::clone(&member));
            serving.insert(Arc::as_ptr(detector) as usize, entry);
            next.insert(key, member);
        }
        *members = next;
        let after_it = names(&members);
        for (names, others, what) in [
            (&after_it, &before_it, Discovery::Registered),
            (&before_it, &after_it, Discovery::Unregistered),
        ] {
            names.difference(others).for_each(|name| self.config.metrics.discovery(name, what));
        }
        let mut known = self.serving.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut known.now, serving);
        known.before = before;
    }

    /// Builds in the background what the built-in detectors need, so that no request waits for it.
    pub fn warm(&self, catalog: &Catalog) {
        for detector in catalog.all().flat_map(Detector::definitions) {
            if let Protocol::Builtin(kind) = &detector.protocol {
                self.pool.warm(*kind, &detector.params);
            }
        }
    }

    /// The least time that the work of a built-in detector waited for a thread since this was last
    /// asked; nothing where there was none.
    pub fn late(&self) -> Duration {
        self.pool.late()
    }

    /// Asks all at once, at most `parallel_max` calls running; the reports stand in the order of
    /// `asks`. Dropping the future cancels every call.
    pub async fn fan_out(&self, asks: &[Ask], work: &Work<'_>, deadline: Instant) -> Vec<Report> {
        self.fan_out_until(asks, work, deadline, None).await
    }

    /// The same until `stop` says that it is enough: what has not answered by then is cancelled and
    /// `decided`.
    pub async fn fan_out_until(
        &self,
        asks: &[Ask],
        work: &Work<'_>,
        deadline: Instant,
        stop: Option<&Stop<'_>>,
    ) -> Vec<Report> {
        let texts = Texts::new(work);
        let slots = Semaphore::new(self.config.parallel_max.max(1));
        let run = call::Run { detectors: self, texts: &texts, slots: &slots, deadline };
        let raw = |view: &TextView| *view == TextView::Raw;
        if asks.iter().flat_map(|ask| &ask.detector).any(|d| !d.views.iter().all(raw)) {
            texts.view(&self.pool, deadline).await;
        }
        let calls = asks.iter().map(|ask| run.ask(ask));
        let Some(stop) = stop else { return join_all(calls).await };
        let mut reports: Vec<Report> =
            asks.iter().map(|ask| unsent(ask, ReportError::Decided)).collect();
        let calls = calls.enumerate().map(async |(at, call)| (at, call.await));
        let calls: FuturesUnordered<_> = calls.collect();
        // Every call has begun before the first answer is looked at.
        let mut answers = calls.ready_chunks(asks.len().max(1));
        while let Some(answers) = answers.next().await {
            for (at, report) in answers {
                reports.get_mut(at).into_iter().for_each(|slot| *slot = report.clone());
            }
            let pending = reports.iter().any(Report::is_decided);
            if pending && stop(reports.clone()).await {
                break;
            }
        }
        reports
    }

    /// What the service answers to one call about `texts`, unread; for people who attach it.
    /// `None` when nothing came in time.
    pub async fn raw(
        &self,
        detector: &Arc<Detector>,
        texts: &[&str],
    ) -> Option<Result<Reply, SendError>> {
        let ask = health::asking(detector);
        let request = health::sample_request(texts, detector)?;
        let pieces = request.body.pieces(request.judge, request.content_type);
        let work = Work { request: &request, caller: "system", pieces: &pieces };
        let (texts, slots) = (Texts::new(&work), Semaphore::new(1));
        let deadline = Instant::now() + detector.timeout;
        let run = call::Run { detectors: self, texts: &texts, slots: &slots, deadline };
        tokio::time::timeout_at(deadline, run.raw(&ask)).await.ok()?
    }

    /// Calls begun, and requests that joined one instead of calling, since start.
    pub fn coalescing(&self) -> (u64, u64) {
        self.flights.counts()
    }

    /// Every breaker, by name and version.
    pub fn breakers(&self) -> Vec<BreakerView> {
        let now = Instant::now();
        let mut views: Vec<_> = self.all().iter().map(|member| member.view(now)).collect();
        let place = |view: &BreakerView| {
            (view.name.clone(), view.private_to.clone(), Arc::clone(&view.version))
        };
        views.sort_by_cached_key(place);
        views
    }

    /// Those about whom there is something to tell: probed, or with a breaker that ever opened.
    pub fn watched(&self) -> Vec<Watched> {
        self.all().iter().filter_map(|member| member.watched()).collect()
    }

    /// Manual control over all versions of a detector, a tenant's or everyone's; false when there is
    /// none of that name.
    pub fn force(&self, (whose, name): (Option<&TenantId>, &DetectorName), how: Force) -> bool {
        let named: Vec<_> = self.all().into_iter().filter(|m| m.is(whose, name)).collect();
        for member in &named {
            member.breaker().force(how, Instant::now());
        }
        !named.is_empty()
    }

    /// What background probes say, of several versions that count the worst; built-in detectors are
    /// always healthy.
    pub fn health(&self, detector: &Detector) -> HealthView {
        let views = self.counting(detector).into_iter().map(|member| member.health_view());
        views.max_by_key(|view| view.state.badness()).unwrap_or_default()
    }

    /// Whether it takes part; of several versions that count, all must.
    pub fn standing(&self, detector: &Detector) -> Standing {
        let counting = self.counting(detector);
        if counting.is_empty() {
            return welcome::Welcome::of(detector).standing();
        }
        let mut standings = counting.iter().map(|member| lock(&member.welcome).standing());
        standings.find(|standing| *standing != Standing::Active).unwrap_or(Standing::Active)
    }

    /// What the services that the environment names said of themselves.
    pub fn discoveries(&self) -> Vec<(DetectorName, Capabilities)> {
        let told = |member: Arc<Member>| {
            let detector = member.detector();
            let told = lock(&member.welcome).told().cloned();
            told.filter(|_| detector.source.starts_with(DISCOVERED))
                .map(|told| (detector.name.clone(), told))
        };
        self.all().into_iter().filter_map(told).collect()
    }

    /// The state of its breaker, of several versions that count the worst; closed where there is
    /// none.
    pub fn breaker(&self, detector: &Detector) -> BreakerState {
        let now = Instant::now();
        let states = self.counting(detector).into_iter().map(|member| member.breaker().state(now));
        let badness = |state: &BreakerState| match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        states.max_by_key(badness).unwrap_or(BreakerState::Closed)
    }

    /// 95th percentile of the last answers; `None` before eight answers.
    pub fn p95(&self, detector: &Detector) -> Option<Duration> {
        self.counting(detector).into_iter().filter_map(|member| member.latency().p95()).max()
    }

    /// Its versions, without those that are only observed unless all are.
    fn counting(&self, detector: &Detector) -> Vec<Arc<Member>> {
        let (whose, name) = (detector.private_to.as_ref(), &detector.name);
        let named = self.all().into_iter().filter(|member| member.is(whose, name));
        let (observed, counting): (Vec<_>, Vec<_>) =
            named.partition(|member| member.detector().shadow);
        if counting.is_empty() { observed } else { counting }
    }

    fn member(&self, detector: &Arc<Detector>) -> Arc<Member> {
        {
            let serving = self.serving.read().unwrap_or_else(PoisonError::into_inner);
            let place = Arc::as_ptr(detector) as usize;
            if let Some((_, member)) =
                serving.now.get(&place).or_else(|| serving.before.get(&place))
            {
                return Arc::clone(member);
            }
        }
        let key = Key::of(detector);
        let known = self.members.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(members.entry(key).or_insert_with(|| Arc::new(Member::new(detector))))
        })
    }

    fn all(&self) -> Vec<Arc<Member>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.values().cloned().collect()
    }
}

/// Its label in metrics: what tenants registered shares one.
fn series(detector: &Detector) -> &str {
    if detector.private_to.is_some() { REGISTERED } else { detector.name.as_str() }
}

fn unsent(ask: &Ask, error: ReportError) -> Report {
    let version = ask.detector.as_ref().map_or_else(|| "".into(), |d| Arc::clone(&d.version));
    Report::unsent(ask.name.clone(), version, error)
}

#[cfg(test)]
mod tests;
