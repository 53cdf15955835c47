//! The one connection to Redis, and the breaker on it.
//!
//! ```text
//!   +--- an ask waits in vain, or the connection breaks ---+
//!   |                                                      v
//! in use                                                resting
//!   ^                                                      |
//!   +------------ a probe beside requests answers ---------+
//! ```
//!
//! While it rests nobody waits for it: only the probe does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::io::tcp::TcpSettings;
use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisResult, TlsCertificates,
};
use deadpool_redis::{Connection, Manager, Pool, Runtime, Timeouts};
use secrecy::ExposeSecret as _;
use tokio::sync::Notify;

use super::{RedisError, RedisOptions};
use crate::metrics::{Dependency, Metrics};

/// How long an answer is waited for; with the turn of a busy thread, less than 20 ms are lost.
const WAIT: Duration = Duration::from_millis(15);
/// Time to connect, TLS and log-in included. Nobody's request waits for it.
const CONNECT: Duration = Duration::from_secs(1);

/// What is used while it answers.
pub(super) struct Used {
    pub(super) connection: MultiplexedConnection,
    /// What every name begins with: a new one has everything forgotten.
    pub(super) generation: Vec<u8>,
}

/// The way to Redis.
pub(super) struct Link {
    pool: Pool,
    used: ArcSwapOption<Used>,
    broken: Notify,
    metrics: Arc<Metrics>,
    /// Asks that waited in vain.
    #[cfg(test)]
    pub(super) vain: std::sync::atomic::AtomicUsize,
}

impl Link {
    pub(super) fn new(options: &RedisOptions) -> Result<Link, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT));
        let manager = Manager::new_with_config(address(options)?, config)
            .map_err(|_| RedisError::BadAddress)?;
        let timeouts = Timeouts { create: Some(CONNECT), ..Timeouts::default() };
        let pool = Pool::builder(manager)
            .max_size(1)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| RedisError::BadAddress)?;
        options.metrics.dependency(Dependency::Redis, false);
        let metrics = Arc::clone(&options.metrics);
        Ok(Link {
            pool,
            used: ArcSwapOption::empty(),
            broken: Notify::new(),
            metrics,
            #[cfg(test)]
            vain: Default::default(),
        })
    }

    /// What may be asked now; `None` while it rests.
    pub(super) fn used(&self) -> Option<Arc<Used>> {
        self.used.load_full()
    }

    /// A new connection, which nobody uses yet. All requests share one: what they ask goes out as
    /// it comes. Taken from the pool for good, whose check before each loan would cost every ask
    /// one more turn and two more commands.
    pub(super) async fn connect(&self) -> Option<Arc<Used>> {
        match self.pool.get().await {
            Ok(connection) => {
                let connection = Connection::take(connection);
                Some(Arc::new(Used { connection, generation: Vec::new() }))
            }
            Err(error) => {
                tracing::debug!(%error, "Redis could not be reached");
                None
            }
        }
    }

    /// Uses `now` instead of `before`, unless that changed meanwhile.
    pub(super) fn replace(&self, before: Option<&Arc<Used>>, now: Used) {
        let was = self.used.compare_and_swap(&before.cloned(), Some(Arc::new(now)));
        if before.is_none() && was.is_none() {
            self.metrics.dependency(Dependency::Redis, true);
            tracing::info!("Redis is used");
        }
    }

    /// What `asking` brings; `None` where it is refused, or breaks, or takes too long, after which
    /// the link rests.
    pub(super) async fn wait<T>(
        &self,
        used: &Arc<Used>,
        asking: impl Future<Output = RedisResult<T>>,
    ) -> Option<T> {
        match tokio::time::timeout(WAIT, asking).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() => {
                self.rest(used, error.category());
            }
            Ok(Err(error)) => {
                let (why, code) = (error.category(), error.code());
                tracing::debug!(why, code, "Redis refuses what it is asked");
            }
            Err(_) => {
                #[cfg(test)]
                self.vain.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                self.rest(used, "it does not answer in time");
            }
        }
        None
    }

    /// Has nobody ask it until a probe succeeds.
    pub(super) fn rest(&self, used: &Arc<Used>, why: &str) {
        let was = self.used.compare_and_swap(&Some(Arc::clone(used)), None);
        if was.as_ref().is_some_and(|was| Arc::ptr_eq(was, used)) {
            self.metrics.dependency(Dependency::Redis, false);
            tracing::warn!(why, "Redis rests; memory of this instance stands in");
            self.broken.notify_one();
        }
    }

    /// Until it begins to rest.
    pub(super) async fn broken(&self) {
        self.broken.notified().await;
    }
}

fn address(options: &RedisOptions) -> Result<ConnectionInfo, RedisError> {
    let url = options.url.expose_secret();
    let mut info = url.into_connection_info().map_err(|_| RedisError::BadAddress)?;
    if let ConnectionAddr::TcpTls { insecure, .. } = info.addr() {
        if *insecure {
            return Err(RedisError::Insecure);
        }
        if let Some(file) = &options.ca_file {
            info = led_to(info, file)?;
        }
    } else if !matches!(info.addr(), ConnectionAddr::Tcp(..)) {
        return Err(RedisError::BadAddress);
    }
    // Servers before 7.2 have no such command, and users of ours may not use it.
    let unnamed = info.redis_settings().clone().set_skip_set_lib_name();
    // Small asks must not wait for each other.
    Ok(info.set_redis_settings(unnamed).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

/// The same address, whose certificate must lead to an authority in `file`.
fn led_to(info: ConnectionInfo, file: &Path) -> Result<ConnectionInfo, RedisError> {
    let unusable =
        |reason: String| RedisError::Authority { file: file.display().to_string(), reason };
    let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    if !pem.windows(5).any(|part| part == b"BEGIN") {
        return Err(unusable("it holds no certificate".into()));
    }
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
    let client = Client::build_with_tls(info, certificates)
        .map_err(|error| unusable(error.category().into()))?;
    Ok(client.get_connection_info().clone())
}
