//! The parts of a start that can fail, and the tasks that run beside the server.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};

use actix_web::web::Data;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Api;
use crate::auth::Refusal;
use crate::cli::exit;
use crate::metrics::{ConfigKind, Metrics};
use crate::orchestrator::{Deps, DepsError};
use crate::snapshot::{self, Snapshot};
use crate::yaml::fault::{Fault, FaultKind};

/// Between looks for detectors' credentials that another instance stored.
const CREDENTIALS_POLL: std::time::Duration = std::time::Duration::from_secs(1);

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings, detectors, tenants, strategies or policies are at fault.
    #[error("{}", listed(.0))]
    Faults(Vec<Fault>),
    /// The address is taken or not ours.
    #[error("could not listen on {address}: {source}; choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Nobody could be authenticated.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store could not be opened.
    #[error(transparent)]
    Deps(#[from] DepsError),
}

fn listed(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("error: {fault}")).collect();
    format!("{}\n{} faults; nothing was started", lines.join("\n"), faults.len())
}

impl StartError {
    /// After sysexits.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Faults(_) => exit::DATA,
            StartError::Listen { .. } | StartError::Deps(_) => exit::UNAVAILABLE,
            StartError::Refused(_) => exit::USAGE,
        }
    }
}

pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener =
        TcpListener::bind(address).map_err(|source| StartError::Listen { address, source })?;
    listener.set_nonblocking(true).map_err(|source| StartError::Listen { address, source })?;
    Ok(listener)
}

/// The reload loop and the health probes.
pub(super) fn tasks(api: &Data<Api>, stop: &CancellationToken) -> TaskTracker {
    let tasks = TaskTracker::new();
    let reload = {
        let api = api.clone();
        let deps = std::sync::Arc::clone(&api.deps);
        async move {
            let settings = &deps.settings;
            snapshot::watch(&api.live, settings, |event| match event {
                snapshot::Event::Swapped(snapshot) => serve(&deps, &snapshot),
                snapshot::Event::Refused(faults) => count_refused(&deps.metrics, &faults),
            })
            .await;
        }
    };
    let health = {
        let api = api.clone();
        async move { api.deps.detectors.health_loop().await }
    };
    let tokens = {
        let api = api.clone();
        async move { api.gate.keep_fresh().await }
    };
    let credentials = {
        let api = api.clone();
        async move {
            loop {
                tokio::time::sleep(CREDENTIALS_POLL).await;
                if let Err(error) = api.deps.detectors.load_credentials(&*api.deps.store).await {
                    tracing::debug!(%error, "credentials could not be read; the last ones stay");
                }
            }
        }
    };
    for task in [
        Box::pin(reload) as std::pin::Pin<Box<dyn std::future::Future<Output = ()>>>,
        Box::pin(health),
        Box::pin(tokens),
        Box::pin(credentials),
    ] {
        let stop = stop.clone();
        tasks.spawn_local(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }
    tasks
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

/// What follows a swap: runtime state of what is gone goes, and operators are told.
pub(super) fn serve(deps: &Deps, snapshot: &Snapshot) {
    deps.detectors.retain(&snapshot.catalog);
    deps.detectors.warm(&snapshot.catalog);
    deps.metrics.snapshot(&snapshot.revision, snapshot.broken.len());
    deps.metrics.active_services(snapshot.catalog.detectors.len());
    for kind in ConfigKind::ALL {
        deps.metrics.config_reload(kind, true, now());
    }
}

fn count_refused(metrics: &Metrics, faults: &[Fault]) {
    let kinds: BTreeSet<FaultKind> = faults.iter().map(|fault| fault.kind).collect();
    for kind in kinds {
        let kind = match kind {
            FaultKind::Detector => ConfigKind::Detectors,
            FaultKind::Tenant => ConfigKind::Tenants,
            FaultKind::Strategy => ConfigKind::Strategies,
            FaultKind::Policy | FaultKind::Settings => ConfigKind::Policies,
        };
        metrics.config_reload(kind, false, now());
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1e3
}
