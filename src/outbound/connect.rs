//! The connector: vetted resolver answers, then a look at the peer that was really reached.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::guard::{Forbidden, Guard, host_of, port_of};

/// A resolver's answer on its way.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Turns names into addresses; the port of an answer is ignored.
pub trait Resolve: Send + Sync {
    /// Every address of `host`.
    fn resolve(&self, host: &str) -> Resolving;
}

/// The operating system's resolver.
pub(super) struct System;

impl Resolve for System {
    fn resolve(&self, host: &str) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })
    }
}

/// No connection, before any TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    #[error("connecting")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Keeps only answers that are admitted at the port; an answer without any is refused.
#[derive(Clone)]
pub(super) struct Vetted {
    guard: Arc<Guard>,
    resolver: Arc<dyn Resolve>,
    port: u16,
}

impl Service<Name> for Vetted {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (guard, port) = (Arc::clone(&self.guard), self.port);
        let resolving = self.resolver.resolve(name.as_str());
        Box::pin(async move {
            let host = name.as_str().trim_end_matches('.').to_ascii_lowercase();
            let mut refused = None;
            let mut good = Vec::new();
            for address in resolving.await? {
                match guard.admits(&host, address.ip(), port) {
                    Ok(()) => good.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match refused {
                Some(why) if good.is_empty() => Err(io::Error::other(why)),
                Some(_) | None => Ok(good.into_iter()),
            }
        })
    }
}

/// Connects under the guard.
#[derive(Clone)]
pub(super) struct Guarded {
    guard: Arc<Guard>,
    resolver: Arc<dyn Resolve>,
}

impl Guarded {
    pub(super) fn new(guard: Arc<Guard>, resolver: Arc<dyn Resolve>) -> Self {
        Self { guard, resolver }
    }

    /// A connector for one port: a resolver is not told which.
    fn at(&self, port: u16) -> HttpConnector<Vetted> {
        let (guard, resolver) = (Arc::clone(&self.guard), Arc::clone(&self.resolver));
        let mut http = HttpConnector::new_with_resolver(Vetted { guard, resolver, port });
        http.enforce_http(false);
        http.set_nodelay(true);
        http
    }
}

impl Service<Uri> for Guarded {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // IP literals never reach the resolver.
        if let Err(why) = self.guard.check(&uri) {
            return Box::pin(std::future::ready(Err(why.into())));
        }
        let guard = Arc::clone(&self.guard);
        let (host, port) = (host_of(&uri).unwrap_or_default(), port_of(&uri));
        let connecting = self.at(port).call(uri);
        Box::pin(async move {
            let stream = connecting.await.map_err(dial_error)?;
            let peer =
                stream.inner().peer_addr().map_err(|error| DialError::Connect(error.into()))?;
            guard.admits(&host, peer.ip(), port)?;
            Ok(stream)
        })
    }
}

fn dial_error(error: impl std::error::Error + Send + Sync + 'static) -> DialError {
    match find::<Forbidden>(&error) {
        Some(why) => DialError::Forbidden(*why),
        None => DialError::Connect(error.into()),
    }
}

/// The first `T` among an error and its sources, also inside an `io::Error`.
pub(super) fn find<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}
