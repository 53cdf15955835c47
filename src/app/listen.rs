//! The server over connections whose heads are held to CRLF. actix-web's own takes no stream but
//! its own, so this is the part of it that is needed, on the same crates.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, Protocol};
use actix_server::ServerBuilder;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::{AppConfig, Server};
use actix_web::middleware::from_fn;
use actix_web::web::{Data, ServiceConfig};
use actix_web::{App, Error};
use tokio::net::TcpStream;

use super::door::Door;
use super::start::StartError;
use crate::api::{self, Api, Stream};
use crate::settings::Settings;

/// How long a connection without a request is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a closing connection is waited for.
const DISCONNECT: Duration = Duration::from_secs(1);
/// How long requests may go on after the service was told to stop, in seconds.
const SHUTDOWN_SECONDS: u64 = 30;

/// Serves `api` on `listener` once it is awaited, until its door is shut.
///
/// `admin`, where there is one, serves health and metrics by the same threads.
pub(super) fn serve_on(
    (listener, admin): (TcpListener, Option<TcpListener>),
    api: &Data<Api>,
    settings: &Settings,
) -> Result<(Server, Door), StartError> {
    let limits = &settings.server.limits;
    let header_timeout = limits.header_timeout.0;
    let workers = settings
        .server
        .workers
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let bodies = api::BodyLimits::of(limits);
    let connections = api::Connections::new(limits.connections_per_address_max);
    let builder = ServerBuilder::default()
        .workers(workers)
        .max_concurrent_connections((limits.connections_max / workers).max(1))
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let serving = |routes: fn(&mut ServiceConfig), data: Data<Api>| {
        let (stopping, connections) = (stopping.clone(), Arc::clone(&connections));
        move || {
            let (stopping, connections) = (stopping.clone(), Arc::clone(&connections));
            let app = App::new()
                .app_data(data.clone())
                .wrap(from_fn(api::guard))
                .wrap(from_fn(api::edge))
                .wrap(api::root_span())
                .configure(routes)
                .into_factory()
                .map_err(|error: Error| error.error_response());
            let http = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .keep_alive(KEEP_ALIVE)
                .client_request_timeout(header_timeout)
                .client_disconnect_timeout(DISCONNECT)
                .h1_allow_half_closed(false)
                .on_connect_ext(move |io: &Stream, extensions: &mut actix_http::Extensions| {
                    connections.admit(io.tcp(), extensions);
                })
                .finish(map_config(app, |()| AppConfig::default()));
            fn_service(move |tcp: TcpStream| async move {
                let peer = tcp.peer_addr().ok();
                let stream = Stream::new(tcp, bodies, header_timeout);
                Ok::<_, actix_http::error::DispatchError>((stream, Protocol::Http1, peer))
            })
            .and_then(http)
        }
    };
    let (service, threads) = (serving(api::configure, api.clone()), api.clone());
    let public = move || {
        // This runs once on each serving thread, and the task ends with the thread.
        let api = threads.clone();
        let worker = api.workers.join();
        actix_web::rt::spawn(async move {
            let pace = api.admission.keep_pace(|| api.deps.detectors.late());
            tokio::join!(pace, worker.live());
        });
        service()
    };
    let refused = |address, by| move |source| StartError::Listen { address, by, source };
    let by = refused(settings.server.listen, "--listen");
    let door = Door {
        listener: listener.try_clone().map_err(&by)?,
        connections: Arc::clone(&connections),
    };
    let mut server = builder.listen("http", listener, public).map_err(by)?;
    if let (Some(listener), Some(address)) = (admin, settings.server.admin_listen) {
        let admin = serving(api::configure_operators, api.clone());
        let by = refused(address, "server.admin_listen");
        server = server.listen("admin", listener, admin).map_err(by)?;
    }
    Ok((server.run(), door))
}
