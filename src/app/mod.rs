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
use crate::cli::{ServeArgs, complain, exit, load_settings};
use crate::detect::builtin;
use crate::orchestrator::{Deps, DepsError};
use crate::settings::{Env, LogFormat, Settings};
use crate::snapshot::{self, Live, Snapshot, Sources};
use crate::telemetry::{self, Telemetry};

mod listen;
mod start;

pub use start::StartError;

/// A service that listens, ready to run.
pub struct Application {
    /// Where it listens.
    pub address: SocketAddr,
    /// What the routes work with.
    pub api: Data<Api>,
    server: Server,
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
        let listener = start::bind(settings.server.listen)?;
        let address = listener
            .local_addr()
            .map_err(|source| StartError::Listen { address: settings.server.listen, source })?;
        let snapshot = Snapshot::load(&sources, &settings, None).map_err(StartError::Faults)?;
        let settings = Arc::new(settings);
        let deps = Deps::with_store(Arc::clone(&settings))?;
        let stored = snapshot::stored(deps.store.as_ref()).await.map_err(DepsError::Store)?;
        let snapshot = snapshot.beside(&stored, &sources, &settings).map_err(StartError::Faults)?;
        deps.open_credentials().await?;
        let store = Arc::clone(&deps.store);
        let gate = Gate::for_start(&settings, address.ip(), store).await?;
        let limits = &settings.security.rate_limit;
        start::check_routes(limits).map_err(StartError::Faults)?;
        let metrics = Arc::clone(&deps.metrics);
        let admission = Admission::open(
            (limits, &settings.server.limits),
            !gate.is_open(),
            metrics,
            deps.store.as_ref(),
        );
        let admission = admission.await.map_err(DepsError::Store)?;
        deps.adopt(&snapshot);
        let live = Arc::new(Live::new(snapshot, sources, Some(Arc::clone(&deps.store))));
        let api = Data::new(Api {
            deps: Arc::new(deps),
            live,
            log,
            gate,
            admission,
            checks: api::Turns::new(2),
            draining: std::sync::atomic::AtomicBool::new(false),
        });
        let stop = tokio_util::sync::CancellationToken::new();
        let tasks = start::tasks(&api, &stop);
        let server = listen::serve_on(listener, &api, &settings)?;
        Ok(Application { address, api, server, tasks, stop })
    }

    /// Serves until a signal or `handle().stop()`, then drains and flushes.
    pub async fn run(self) -> std::io::Result<()> {
        let Application { api, server, tasks, stop, .. } = self;
        let handle = server.handle();
        let drain = tokio::task::spawn_local(drain_on_signal(api.clone(), handle));
        let result = server.await;
        drain.abort();
        stop.cancel();
        tasks.close();
        let observing = api.deps.observing.clone().unwrap_or_default();
        observing.close();
        let ended = async { tokio::join!(tasks.wait(), observing.wait()) };
        let _ = tokio::time::timeout(Duration::from_secs(5), ended).await;
        start::keep_quotas(&api).await;
        let store = Arc::clone(&api.deps.store);
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
        result
    }

    /// Stops the server from outside.
    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }
}

/// First signal: not ready, wait, stop accepting, drain. Second signal: stop at once.
async fn drain_on_signal(api: Data<Api>, handle: ServerHandle) {
    if !start::signal().await {
        return;
    }
    tracing::info!("stopping: draining requests");
    api.draining.store(true, Ordering::Relaxed);
    let drain = async {
        tokio::time::sleep(api.deps.settings.shutdown_delay()).await;
        handle.stop(true).await;
    };
    tokio::select! {
        () = drain => {}
        _ = start::signal() => handle.stop(false).await,
    }
}

/// `orchestrator serve`: returns the exit code.
pub fn serve(args: &ServeArgs) -> u8 {
    let mut settings = match load_settings(args.config.as_deref(), None) {
        Ok(settings) => settings,
        Err(faults) => return refuse(&StartError::Faults(faults)),
    };
    if let Some(listen) = args.listen {
        settings.server.listen = listen;
    }
    let format = match settings.telemetry.log_format {
        LogFormat::Auto => telemetry::LogFormat::Auto,
        LogFormat::Json => telemetry::LogFormat::Json,
        LogFormat::Pretty => telemetry::LogFormat::Pretty,
    };
    let log = match telemetry::init(&settings.telemetry.log_level, format) {
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
