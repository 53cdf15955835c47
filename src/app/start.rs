//! The parts of a start that can fail, and the tasks that run beside the server.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::web::Data;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Moment;
use crate::api::Api;
use crate::api::access::RULES;
use crate::auth::Refusal;
use crate::cli::exit;
use crate::orchestrator::DepsError;
use crate::settings::RateLimit;
use crate::snapshot;
use crate::yaml;
use crate::yaml::fault::{Fault, FaultKind};

/// Between two batches of used quotas; a crash loses as much.
const QUOTAS_EVERY: Duration = Duration::from_secs(1);
/// Batches between two looks at fairness.
const FAIRNESS_TICKS: u64 = 10;
/// Between looks at what discovered services said.
const DISCOVERY_EVERY: Duration = Duration::from_millis(500);
/// Between looks for detectors' credentials that another instance stored.
const CREDENTIALS_POLL: Duration = Duration::from_secs(1);

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

/// The reload loop, the health probes, and the keeping of quotas.
pub(super) fn tasks(api: &Data<Api>, stop: &CancellationToken) -> TaskTracker {
    let tasks = TaskTracker::new();
    let reload = {
        let api = api.clone();
        let deps = std::sync::Arc::clone(&api.deps);
        async move {
            let settings = &deps.settings;
            snapshot::watch(&api.live, settings, |event| match event {
                // Somebody may have asked for a reload meanwhile: what counts is what serves.
                snapshot::Event::Swapped(_) => deps.adopt(&api.live.current()),
                snapshot::Event::Refused(faults) => deps.refused(&faults),
            })
            .await;
        }
    };
    let health = {
        let api = api.clone();
        async move { api.deps.detectors.health_loop().await }
    };
    let quotas = {
        let api = api.clone();
        async move {
            for tick in 1_u64.. {
                tokio::time::sleep(QUOTAS_EVERY).await;
                keep_quotas(&api).await;
                if tick.is_multiple_of(FAIRNESS_TICKS) {
                    api.admission.fairness(&api.live.current(), Moment::now());
                }
            }
        }
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
    let discovery = {
        let api = api.clone();
        async move {
            while !api.deps.settings.discovered.is_empty() {
                tokio::time::sleep(DISCOVERY_EVERY).await;
                discover(&api).await;
            }
        }
    };
    for task in [
        Box::pin(discovery) as std::pin::Pin<Box<dyn std::future::Future<Output = ()>>>,
        Box::pin(reload),
        Box::pin(health),
        Box::pin(quotas),
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

/// Writes what tenants have used since the last time.
pub(super) async fn keep_quotas(api: &Api) {
    if let Err(error) = api.admission.keep(api.deps.store.as_ref()).await {
        tracing::warn!(%error, "used quotas could not be kept; the next batch holds them");
    }
}

/// Routes of `security.rate_limit.routes` that there are none of.
pub(super) fn check_routes(limits: &RateLimit) -> Result<(), Vec<Fault>> {
    let known: Vec<String> =
        RULES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let unknown = limits.routes.keys().filter(|route| !known.contains(route));
    let fault = |route: &String| {
        let near = yaml::nearest(route, known.iter().map(String::as_str));
        let hint = near
            .map_or("docs/security.md lists all routes".into(), |near| format!("write `{near}`"));
        Fault {
            kind: FaultKind::Settings,
            file: "security.rate_limit.routes".into(),
            line: 0,
            column: 0,
            code: "unknown_route",
            message: format!("there is no route `{}`", yaml::shown(route)),
            hint: Some(hint),
        }
    };
    let faults: Vec<Fault> = unknown.map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Rate;

    #[test]
    fn a_rate_of_a_route_that_does_not_exist_is_refused_with_the_nearest() {
        let limits = |route: &str| RateLimit {
            routes: [(route.to_owned(), Rate { per_minute: 1, burst: None })].into(),
            ..RateLimit::default()
        };
        assert_eq!(check_routes(&limits("POST /orchestrate/batch")), Ok(()));
        let faults = check_routes(&limits("POST /orchestrate/bach")).unwrap_err();
        assert_eq!(faults[0].hint.as_deref(), Some("write `POST /orchestrate/batch`"));
        assert!(check_routes(&limits("/orchestrate")).is_err());
    }
}
