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
use actix_web::web::Data;
use actix_web::{App, Error};
use tokio::net::TcpStream;

use super::start::StartError;
use crate::api::{self, Api, Stream};
use crate::settings::Settings;

/// How long a connection without a request is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a closing connection is waited for.
const DISCONNECT: Duration = Duration::from_secs(1);
/// How long requests may go on after the service was told to stop, in seconds.
const SHUTDOWN_SECONDS: u64 = 30;

/// Serves `api` on `listener` once it is awaited.
pub(super) fn serve_on(
    listener: TcpListener,
    api: &Data<Api>,
    settings: &Settings,
) -> Result<Server, StartError> {
    let data = api.clone();
    let limits = &settings.server.limits;
    let header_timeout = limits.header_timeout.0;
    let workers = settings
        .server
        .workers
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let connections = api::Connections::new(limits.connections_per_address_max);
    let builder = ServerBuilder::default()
        .workers(workers)
        .max_concurrent_connections((limits.connections_max / workers).max(1))
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let service = move || {
        let (stopping, connections) = (stopping.clone(), Arc::clone(&connections));
        // This runs once on each serving thread, and the task ends with the thread.
        let api = data.clone();
        actix_web::rt::spawn(async move {
            api.admission.keep_pace(|| api.deps.detectors.late()).await;
        });
        let app = App::new()
            .app_data(data.clone())
            .wrap(from_fn(api::guard))
            .wrap(from_fn(api::edge))
            .wrap(api::root_span())
            .configure(api::configure)
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
        fn_service(|tcp: TcpStream| async {
            let peer = tcp.peer_addr().ok();
            Ok::<_, actix_http::error::DispatchError>((Stream::new(tcp), Protocol::Http1, peer))
        })
        .and_then(http)
    };
    let address = settings.server.listen;
    let server = builder
        .listen("http", listener, service)
        .map_err(|source| StartError::Listen { address, source })?;
    Ok(server.run())
}
