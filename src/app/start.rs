//! The parts of a start that can fail, and the tasks that run beside the server.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web::Data;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Moment;
use crate::api::{Api, perform};
use crate::auth;
use crate::bus::Ring;
use crate::catalog::RETENTION_DAYS;
use crate::cli::{exit, refused};
use crate::domain::id::TenantId;
use crate::events::{self, Handlers, Publisher, Watcher};
use crate::evidence;
use crate::jobs::webhook::Webhooks;
use crate::jobs::{self, Crew};
use crate::metrics::Dependency;
use crate::orchestrator::{Deps, DepsError};
use crate::snapshot;
use crate::yaml::fault::Fault;

/// Between two batches of used quotas; a crash loses as much.
const QUOTAS_EVERY: Duration = Duration::from_secs(1);
/// Batches between two looks at fairness.
const FAIRNESS_TICKS: u64 = 10;
/// Between looks whether something else serves, whose sources must be kept.
const SOURCES_EVERY: Duration = Duration::from_millis(100);
/// Between looks at what discovered services said.
const DISCOVERY_EVERY: Duration = Duration::from_millis(500);
/// Between looks for records that are older than their tenant keeps them.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// After the start, and from then on, sources are looked for that no record names.
const SWEEP_FIRST: Duration = Duration::from_secs(3_600);
/// See there.
const SWEEP_EVERY: Duration = Duration::from_secs(86_400);
/// Between looks whether the store is there.
const STORE_LOOK: Duration = Duration::from_secs(1);
/// Between looks for detectors' credentials that another instance stored.
const CREDENTIALS_POLL: Duration = Duration::from_secs(1);

/// Between looks for idempotency keys whose time is over, and how many a look takes at once.
const FORGET_EVERY: Duration = Duration::from_secs(60);
const FORGET_AT_ONCE: u32 = 1_000;

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings, detectors, tenants, strategies or policies are at fault.
    #[error("{}", listed(.0))]
    Faults(Vec<Fault>),
    /// Policies are elsewhere, cannot be had, and none were kept.
    #[error("{}", listed(.0))]
    Remote(Vec<Fault>),
    /// The address is taken or not ours.
    #[error("could not listen on {address}: {source}; choose another with {by}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What sets it.
        by: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// Settings can never work, nobody could enter, or the store could not be opened.
    #[error(transparent)]
    Deps(#[from] DepsError),
    /// Several reasons of this kind.
    #[error("{}", .0.iter().map(|refusal| format!("error: {refusal}")).collect::<Vec<_>>().join("\n"))]
    AllRefused(Vec<DepsError>),
}

fn listed(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("error: {fault}")).collect();
    format!(
        "{}\n{} fault{}; nothing was started",
        lines.join("\n"),
        faults.len(),
        if faults.len() == 1 { "" } else { "s" }
    )
}

impl StartError {
    /// After sysexits.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Faults(_) => exit::DATA,
            StartError::Listen { .. } | StartError::Remote(_) => exit::UNAVAILABLE,
            StartError::Deps(error) => refused(error),
            // What may come back is tried again in vain while another reason stays.
            StartError::AllRefused(all) => all.iter().map(refused).min().unwrap_or(exit::USAGE),
        }
    }
}

impl From<auth::Refusal> for StartError {
    fn from(refusal: auth::Refusal) -> Self {
        StartError::Deps(refusal.into())
    }
}

impl From<Vec<DepsError>> for StartError {
    fn from(mut refusals: Vec<DepsError>) -> Self {
        match refusals.pop() {
            Some(only) if refusals.is_empty() => StartError::Deps(only),
            last => StartError::AllRefused(refusals.into_iter().chain(last).collect()),
        }
    }
}

/// What the system keeps of an answer beyond what is under way to its reader.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 16 * 1024;

pub(super) fn bind(address: SocketAddr, by: &'static str) -> Result<TcpListener, StartError> {
    let refused = |source| StartError::Listen { address, by, source };
    let listener = TcpListener::bind(address).map_err(refused)?;
    // Connections inherit it. Else the system keeps megabytes of answers for each slow reader.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT_BYTES).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}

/// Where it listens, where any free port was asked for too.
pub(super) fn address(listener: &TcpListener, asked: SocketAddr) -> Result<SocketAddr, StartError> {
    let refused = |source| StartError::Listen { address: asked, by: "--listen", source };
    listener.local_addr().map_err(refused)
}

/// The reload loops, the health probes, and the keeping of quotas.
pub(super) fn tasks(api: &Data<Api>, stop: &CancellationToken) -> TaskTracker {
    let tasks = TaskTracker::new();
    let reload = {
        let api = api.clone();
        let deps = std::sync::Arc::clone(&api.deps);
        async move {
            let settings = &deps.settings;
            let tell = |event: snapshot::Event| match event {
                // Somebody may have asked for a reload meanwhile: what counts is what serves.
                snapshot::Event::Swapped(_) => deps.adopt(&api.live.current()),
                snapshot::Event::Refused(faults) => deps.refused(&faults),
            };
            tokio::join!(
                snapshot::watch(&api.live, settings, tell),
                snapshot::follow(&api.live, settings, tell)
            );
        }
    };
    let health = {
        let api = api.clone();
        async move { api.deps.detectors.health_loop().await }
    };
    let fresh = api.clone();
    let tokens = async move { fresh.gate.keep_fresh().await };
    for task in [
        Box::pin(discovering(api.clone()))
            as std::pin::Pin<Box<dyn std::future::Future<Output = ()>>>,
        Box::pin(forgetting(api.clone())),
        Box::pin(reload),
        Box::pin(health),
        Box::pin(quotas(api.clone())),
        Box::pin(tokens),
        Box::pin(credentials(api.clone())),
        Box::pin(share(api.clone())),
        Box::pin(tell(api.clone())),
        Box::pin(purging(api.clone())),
        Box::pin(keeping(api.clone())),
        Box::pin(telling(api.clone())),
        Box::pin(looking(api.clone())),
    ] {
        let stop = stop.clone();
        tasks.spawn_local(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }
    let webhooks = Webhooks::new(std::sync::Arc::clone(&api.callbacks));
    let (crew, live) = (std::sync::Arc::clone(&api.crew), std::sync::Arc::clone(&api.live));
    // Ended by the crew itself, which has jobs to hand back.
    tasks.spawn_local(jobs::run(crew, live, perform(api.clone()), webhooks));
    tasks
}

/// Keeps what tenants used, and looks at how fairly they are served.
async fn quotas(api: Data<Api>) {
    for tick in 1_u64.. {
        tokio::time::sleep(QUOTAS_EVERY).await;
        keep_quotas(&api).await;
        if tick.is_multiple_of(FAIRNESS_TICKS) {
            api.admission.fairness(&api.live.current(), Moment::now());
        }
    }
}

/// Reads what other instances stored for detectors.
async fn credentials(api: Data<Api>) {
    loop {
        tokio::time::sleep(CREDENTIALS_POLL).await;
        if let Err(error) = api.deps.detectors.load_credentials(&*api.deps.store).await {
            tracing::debug!(%error, "credentials could not be read; the last ones stay");
        }
    }
}

/// The jobs of this instance.
pub(super) fn crew(deps: &Deps) -> Result<Crew, StartError> {
    let keys = (auth::data_keys(&deps.settings)?, auth::callback_key(&deps.settings)?);
    let (store, bus, metrics) =
        (Arc::clone(&deps.store), Arc::clone(&deps.bus), Arc::clone(&deps.metrics));
    Ok(Crew::new((store, bus), keys, metrics, deps.settings.jobs.clone()))
}

/// Keeps the way to Redis, and pays what rates have spent.
async fn share(api: Data<Api>) {
    let keep = async {
        if let Some(redis) = &api.deps.redis {
            redis.keep().await;
        }
    };
    tokio::join!(keep, api.admission.beside());
}

/// Tells what happens: into the store, and from there to the bus and to whoever listens.
async fn tell(api: Data<Api>) {
    let deps = &api.deps;
    let (store, bus, metrics) =
        (Arc::clone(&deps.store), Arc::clone(&deps.bus), Arc::clone(&deps.metrics));
    let handlers = Handlers::new(Arc::clone(&metrics)).with("log", events::said);
    let publisher = Publisher::new(Arc::clone(&store), Arc::clone(&bus), handlers, metrics);
    let (live, detectors) = (Arc::clone(&api.live), Arc::clone(&deps.detectors));
    let announcer = Arc::clone(&deps.announcer);
    let watcher = Watcher::new(live, detectors, announcer, Arc::clone(&bus));
    let hastening = async {
        let mut rings = bus.listen(Ring::Stored);
        while rings.changed().await.is_ok() {
            api.live.hasten();
        }
    };
    let waking = async {
        let mut rings = bus.listen(Ring::Jobs);
        while rings.changed().await.is_ok() {
            api.crew.wake();
        }
    };
    tokio::join!(
        waking,
        bus.keep(),
        events::record(&deps.announcer, &*store, &*bus),
        publisher.run(),
        api.feed.run(&*bus),
        watcher.run(),
        hastening,
    );
}

async fn discovering(api: Data<Api>) {
    while !api.deps.settings.discovered.is_empty() {
        tokio::time::sleep(DISCOVERY_EVERY).await;
        discover(&api).await;
    }
}

/// Serves what discovered services said of themselves since the last time.
async fn discover(api: &Api) {
    let mut news = false;
    for (name, told) in api.deps.detectors.discoveries() {
        news |= api.live.learn(&name, (told.categories, told.types));
    }
    if news
        && let snapshot::Looked::New(snapshot::Event::Swapped(_)) =
            snapshot::look(&api.live, &api.deps.settings).await
    {
        api.deps.adopt(&api.live.current());
    }
}

/// Forgets the idempotency keys whose time is over, some at a time.
async fn forgetting(api: Data<Api>) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        loop {
            match api.deps.store.forget_claims(FORGET_AT_ONCE).await {
                Ok(gone) if gone >= u64::from(FORGET_AT_ONCE) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(%error, "old idempotency keys stay until the next look");
                    break;
                }
            }
        }
    }
}

/// Takes away what is kept no longer.
async fn purging(api: Data<Api>) {
    let mut places = evidence::retention::Places::new();
    let mut sweep_at = Instant::now() + SWEEP_FIRST;
    loop {
        purge_expired(&api, &mut places).await;
        if Instant::now() >= sweep_at {
            sweep_at += SWEEP_EVERY;
            forget_sources(&api).await;
        }
        tokio::time::sleep(PURGE_EVERY).await;
    }
}

/// Says whether the store is there, also while nobody needs it.
async fn looking(api: Data<Api>) {
    let Some(log) = &api.deps.log else { return };
    let mut was_up = true;
    loop {
        tokio::time::sleep(STORE_LOOK).await;
        let answered = api.deps.store.probe().await;
        // What takes no record is not up, although it answers.
        let is_up = answered.is_ok() && log.ready().is_ok();
        api.deps.metrics.dependency(Dependency::Store, is_up);
        if let (true, Err(error)) = (was_up, &answered) {
            tracing::error!(%error, "The store is away");
        }
        was_up = answered.is_ok();
    }
}

/// Keeps what decisions are made of from now on.
async fn keeping(api: Data<Api>) {
    let (mut kept, mut until) = (String::new(), Instant::now());
    loop {
        let current = api.live.current();
        // Also said again now and then: what serves long is not forgotten.
        let is_new = current.revision != kept || Instant::now() >= until;
        if is_new && keep_sources(&api).await {
            kept.clone_from(&current.revision);
            until = Instant::now() + SWEEP_EVERY;
        }
        tokio::time::sleep(SOURCES_EVERY).await;
    }
}

/// Says what serves here.
async fn telling(api: Data<Api>) {
    snapshot::tell(&api.live).await;
}

/// Takes records away that are older than their tenant keeps them, and checkpoints that none needs.
async fn purge_expired(api: &Api, places: &mut evidence::retention::Places) {
    let snapshot = api.live.current();
    let days = |tenant: &TenantId| {
        let tenant = snapshot.catalog.tenants.get(tenant);
        tenant.map_or(RETENTION_DAYS, |tenant| tenant.retention_days)
    };
    let now_ms = jiff::Timestamp::now().as_millisecond();
    match evidence::retention::purge((&*api.deps.store, &api.deps.custodian), now_ms, days).await {
        Ok(0) => {}
        Ok(records) => tracing::info!(records, "Expired records were purged"),
        Err(error) => tracing::warn!(%error, "expired records could not be purged yet"),
    }
    let tenants = snapshot.catalog.tenants.values().map(|tenant| tenant.retention_days);
    let days = tenants.min().unwrap_or(RETENTION_DAYS).min(RETENTION_DAYS);
    match evidence::retention::purge_heads(&*api.deps.store, now_ms, days, places).await {
        Ok(0) => {}
        Ok(checkpoints) => tracing::info!(checkpoints, "Old checkpoints were purged"),
        Err(error) => tracing::warn!(%error, "old checkpoints could not be purged yet"),
    }
}

/// Forgets what no record is made of any more.
async fn forget_sources(api: &Api) {
    match api.deps.forget_sources(jiff::Timestamp::now().as_millisecond()).await {
        Ok(0) => {}
        Ok(sources) => tracing::info!(sources, "Sources that no record names were purged"),
        Err(error) => tracing::warn!(%error, "sources that no record names stay for now"),
    }
}

/// Writes what tenants have used since the last time.
pub(super) async fn keep_quotas(api: &Api) {
    if let Err(error) = api.admission.keep(api.deps.store.as_ref()).await {
        tracing::warn!(%error, "used quotas could not be kept; the next batch holds them");
    }
}

/// Stores what the decisions of now are made of; false where that failed and must be tried again.
pub(super) async fn keep_sources(api: &Api) -> bool {
    let kept = api.deps.keep_sources(api.live.current()).await;
    if let Err(error) = &kept {
        tracing::warn!(%error, "the sources of decisions could not be kept; they are tried again");
    }
    kept.is_ok()
}

/// Waits for SIGTERM or SIGINT; false when signals cannot be heard.
pub(super) async fn signal() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return false;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    true
}
