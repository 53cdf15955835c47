//! Builds everything, starts the tasks, stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::web::Data;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::api::{self, Api};
use crate::auth::Gate;
use crate::catalog;
use crate::cli::{ServeArgs, complain, exit, load_settings_over};
use crate::detect::builtin;
use crate::events::{self, Feed};
use crate::evidence::Log;
use crate::orchestrator::{self, Deps, DepsError};
use crate::settings::{Env, LogFormat, Settings};
use crate::snapshot::{self, Live, Snapshot, Sources};
use crate::telemetry::{self, Telemetry};

mod door;
mod listen;
mod start;
mod traces;

pub use start::StartError;

use door::Door;

/// How long a start waits for the answers of registered detectors.
const MEET: Duration = Duration::from_secs(1);
/// How long a stop waits for the others to be told of it.
const LEAVE: Duration = Duration::from_secs(1);

/// A service that listens, ready to run.
pub struct Application {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it serves health and metrics alone, if it does.
    pub admin_address: Option<SocketAddr>,
    /// What the routes work with.
    pub api: Data<Api>,
    server: Server,
    door: Door,
    tasks: TaskTracker,
    stop: tokio_util::sync::CancellationToken,
}

impl Application {
    /// Loads, checks, binds and starts the background tasks; nothing is served before `run`.
    /// Must be called on an actix system.
    pub async fn build(
        settings: Settings,
        sources: Sources,
        log: Option<Telemetry>,
    ) -> Result<Application, StartError> {
        let listener = start::bind(settings.server.listen, "--listen")?;
        let admin = settings.server.admin_listen;
        let admin = admin.map(|at| start::bind(at, "server.admin_listen")).transpose()?;
        let address = start::address(&listener, settings.server.listen)?;
        let refusals = orchestrator::look(&settings).await;
        if !refusals.is_empty() {
            return Err(refusals.into());
        }
        if let Some(remote) = sources.remote() {
            remote.start(&settings).await.map_err(StartError::Remote)?;
        }
        let snapshot = Snapshot::first(&sources, &settings).map_err(StartError::Faults)?;
        let settings = Arc::new(settings);
        let deps = Deps::with_store(Arc::clone(&settings))?;
        let stored = snapshot::stored(deps.store.as_ref()).await.map_err(DepsError::Store)?;
        let snapshot = snapshot.beside(&stored, &sources, &settings).map_err(StartError::Faults)?;
        deps.open_credentials().await?;
        deps.tell_of_other_keys().await?;
        if let Some(redis) = &deps.redis
            && !redis.look().await
        {
            tracing::warn!("Redis does not answer; memory of this instance stands in");
        }
        let store = Arc::clone(&deps.store);
        let gate = Gate::for_start(&settings, address.ip(), store).await?;
        let limits = &settings.security.rate_limit;
        api::limited::check_routes(limits).map_err(StartError::Faults)?;
        let metrics = Arc::clone(&deps.metrics);
        let admission = Admission::open(
            (limits, &settings.server.limits),
            !gate.is_open(),
            metrics,
            deps.redis.clone(),
            deps.store.as_ref(),
        );
        let admission = admission.await.map_err(DepsError::Store)?;
        deps.adopt(&snapshot);
        deps.detectors.meet(MEET).await;
        let live = Arc::new(Live::new(snapshot, sources, Some(Arc::clone(&deps.store))));
        let crew = Arc::new(start::crew(&deps)?);
        let callbacks = Arc::new(catalog::guard(&settings).map_err(DepsError::Allow)?);
        let listeners_max = settings.events.streams_per_tenant_max;
        let feed = Arc::new(Feed::new(Arc::clone(&deps.store), listeners_max));
        let api = Data::new(Api {
            deps: Arc::new(deps),
            feed,
            live,
            log,
            gate,
            admission,
            published: api::Published::default(),
            checks: api::Turns::new(2),
            repeats: api::Repeats::default(),
            workers: api::Workers::default(),
            crew,
            callbacks,
            draining: std::sync::atomic::AtomicBool::new(false),
        });
        let stop = tokio_util::sync::CancellationToken::new();
        let tasks = start::tasks(&api, &stop);
        let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());
        let (server, door) = listen::serve_on((listener, admin), &api, &settings)?;
        Ok(Application { address, admin_address, api, server, door, tasks, stop })
    }

    /// Serves until a signal or `handle().stop()`, then drains and flushes.
    pub async fn run(self) -> std::io::Result<()> {
        let Application { api, server, door, tasks, stop, .. } = self;
        let drain = tokio::task::spawn_local(drain_on_signal(api.clone(), server.handle(), door));
        let broken = tokio::task::spawn_local(stop_when_broken(api.clone(), server.handle()));
        let result = server.await;
        api.feed.close();
        drain.abort();
        broken.abort();
        stop.cancel();
        api.crew.stop();
        tasks.close();
        let observing = api.deps.observing.clone().unwrap_or_default();
        observing.close();
        let ended = async { tokio::join!(tasks.wait(), observing.wait()) };
        let _ = tokio::time::timeout(Duration::from_secs(5), ended).await;
        start::keep_quotas(&api).await;
        start::keep_sources(&api).await;
        let _ = tokio::time::timeout(LEAVE, api.live.leave()).await;
        let deps = &api.deps;
        events::flush(&deps.announcer, &*deps.store, &*deps.bus).await;
        if let Some(log) = &api.deps.log {
            log.close().await;
        }
        let store = Arc::clone(&api.deps.store);
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
        let told = api.clone();
        let end_traces = move || told.log.iter().for_each(Telemetry::end_traces);
        let _ = tokio::task::spawn_blocking(end_traces).await;
        if api.deps.log.as_ref().is_some_and(Log::is_broken) {
            return Err(std::io::Error::other("the disk failed; replace it and start again"));
        }
        result
    }

    /// Stops the server from outside.
    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }
}

/// Ends a service that can no longer say what is durable.
async fn stop_when_broken(api: Data<Api>, handle: ServerHandle) {
    match &api.deps.log {
        Some(log) => log.broken().await,
        None => std::future::pending().await,
    }
    handle.stop(false).await;
}

/// First signal: not ready, wait, stop accepting, drain. Second signal: stop at once.
async fn drain_on_signal(api: Data<Api>, handle: ServerHandle, door: Door) {
    if !start::signal().await {
        return;
    }
    tracing::info!("stopping: draining requests");
    api.draining.store(true, Ordering::Relaxed);
    // Other instances go on with its jobs at once.
    api.crew.stop();
    api.feed.close();
    let drain = async {
        tokio::time::sleep(api.deps.settings.shutdown_delay()).await;
        door.shut(&api.workers).await;
        handle.stop(true).await;
    };
    tokio::select! {
        () = drain => {}
        _ = start::signal() => {
            tracing::warn!("stopping at once: a second signal came; whoever waits gets no answer");
            handle.stop(false).await;
        }
    }
}

/// `orchestrator serve`: returns the exit code.
pub fn serve(args: &ServeArgs) -> u8 {
    let settings = match load_settings_over(args.config.as_deref(), None, args.listen) {
        Ok(settings) => settings,
        Err(faults) => return refuse(&StartError::Faults(faults)),
    };
    let format = match settings.telemetry.log_format {
        LogFormat::Auto => telemetry::LogFormat::Auto,
        LogFormat::Json => telemetry::LogFormat::Json,
        LogFormat::Pretty => telemetry::LogFormat::Pretty,
    };
    let export = match traces::export(&settings.telemetry) {
        Ok(export) => export,
        Err(error) => {
            complain(&format!("the thread that sends spans could not be made: {error}"));
            return exit::INTERNAL;
        }
    };
    let log = match telemetry::init(&settings.telemetry.log_level, format, export) {
        Ok(log) => log,
        Err(error) => {
            complain(&error.to_string());
            return exit::INTERNAL;
        }
    };
    let sources = Sources::of(&settings, None, builtin::check);
    let env = settings.env;
    actix_web::rt::System::new().block_on(async move {
        let application = match Application::build(settings, sources, Some(log)).await {
            Ok(application) => application,
            Err(error) => return refuse(&error),
        };
        announce(&application, env);
        match application.run().await {
            Ok(()) => exit::OK,
            Err(error) => {
                complain(&format!("the server failed: {error}"));
                exit::INTERNAL
            }
        }
    })
}

fn refuse(error: &StartError) -> u8 {
    complain(&error.to_string());
    error.exit_code()
}

/// Says where it listens, and in development how to ask.
fn announce(application: &Application, env: Env) {
    let address = application.address;
    if let Some(address) = application.admin_address {
        tracing::info!(address = %address, "Health and metrics");
    }
    tracing::info!(address = %address, "Listening");
    if env != Env::Development {
        return;
    }
    let host = if address.ip().is_unspecified() {
        format!("127.0.0.1:{}", address.port())
    } else {
        address.to_string()
    };
    let key = application.api.gate.development_key();
    let key = key.map(|key| format!(" -H 'X-API-Key: {}'", key.expose())).unwrap_or_default();
    complain(&format!(
        "Listening on http://{address} (development). Try:\n\n  \
         curl -s http://{host}/api/v1/orchestrate -H 'Content-Type: application/json'{key} \\\n    \
         -d '{{\"content\": \"Mail ana@evil.io, key AKIAZ3VQ7JRTLWXK5P2D\"}}'\n"
    ));
}
