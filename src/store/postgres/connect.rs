//! The way to the database: address, TLS, what every session is set to.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::StoreError;
use super::{PostgresOptions, fault};

/// Time to connect, TLS and log-in included.
pub(super) const CONNECT: Duration = Duration::from_secs(2);
/// Silence after which a peer is taken for gone.
const SILENCE: Duration = Duration::from_secs(5);

/// Makes connections. `Debug` is not there: it holds a password.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    /// The session's limits and durability, as the server's command line has them.
    session: String,
    tls: MakeRustlsConnect,
    /// How long an answer is waited for before the server is taken for hung.
    pub(super) patience: Duration,
}

impl Connector {
    pub(super) fn new(options: &PostgresOptions) -> Result<Connector, StoreError> {
        let url = options.url.expose_secret();
        // What libpq calls verify is what every encrypted connection does here.
        let url = url
            .replace("sslmode=verify-full", "sslmode=require")
            .replace("sslmode=verify-ca", "sslmode=require");
        let mut config: Config = url.parse().map_err(|_| StoreError::BadAddress)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(StoreError::BadAddress);
        }
        if !url.contains("sslmode=") {
            let near = config.get_hosts().iter().all(is_near);
            config.ssl_mode(if near { SslMode::Disable } else { SslMode::Require });
        }
        config
            .application_name("orchestrator")
            .connect_timeout(CONNECT)
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(SILENCE);
        let limit = options.statement_timeout.as_millis();
        let session = format!(
            "{} -c statement_timeout={limit} -c lock_timeout={limit} \
             -c idle_in_transaction_session_timeout={limit} -c synchronous_commit=on",
            config.get_options().unwrap_or_default(),
        );
        let patience = options.statement_timeout + Duration::from_secs(1);
        Ok(Connector { config, session, tls: tls(options)?, patience })
    }

    #[cfg(test)]
    pub(super) fn mode(&self) -> SslMode {
        self.config.get_ssl_mode()
    }

    pub(super) fn pool(&self, options: &PostgresOptions) -> Result<Pool, StoreError> {
        let mut config = self.config.clone();
        config.options(&self.session);
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, self.tls.clone(), recycle);
        let timeouts = Timeouts {
            wait: Some(options.connection_wait),
            create: Some(CONNECT),
            recycle: Some(CONNECT),
        };
        Pool::builder(manager)
            .max_size(options.connections_max.max(1))
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Failed {
                doing: "making the pool",
                reason: error.to_string(),
            })
    }

    /// A connection with the limits of a session, on the runtime of the caller.
    pub(super) async fn session(&self, doing: &'static str) -> Result<Client, StoreError> {
        let mut config = self.config.clone();
        config.options(&self.session);
        self.connect(config, doing).await
    }

    /// A connection whose statements may take their time.
    pub(super) async fn patient(&self, doing: &'static str) -> Result<Client, StoreError> {
        self.connect(self.config.clone(), doing).await
    }

    async fn connect(&self, config: Config, doing: &'static str) -> Result<Client, StoreError> {
        let connecting = tokio::time::timeout(CONNECT, config.connect(self.tls.clone()));
        let (client, connection) = connecting
            .await
            .map_err(|_| StoreError::Unreachable {
                doing,
                reason: "it does not accept a connection".into(),
            })?
            .map_err(|error| fault::of(doing, &error))?;
        // It ends with its client. Its error is the client's next answer.
        tokio::runtime::Handle::current().spawn(connection);
        Ok(client)
    }
}

/// Whether nobody can listen in between.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

fn tls(options: &PostgresOptions) -> Result<MakeRustlsConnect, StoreError> {
    let mut roots = RootCertStore::empty();
    match &options.ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            let unusable =
                |reason: String| StoreError::Authority { file: file.display().to_string(), reason };
            let certificates = CertificateDer::pem_file_iter(file);
            for found in certificates.map_err(|error| unusable(error.to_string()))? {
                let found = found.map_err(|error| unusable(error.to_string()))?;
                roots.add(found).map_err(|error| unusable(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("it holds no certificate".into()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Failed { doing: "setting TLS up", reason: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
