//! `settings.yaml` and the environment become one validated `Settings`, all faults at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use validator::{Validate, ValidationError};

use crate::yaml::Span;

mod cache;
mod concurrency;
mod database;
mod discovered;
mod events;
mod evidence;
mod hidden;
mod jobs;
mod load;
mod nats;
mod policy;
mod redis;
mod secrets;
mod sla;
mod telemetry;
mod tenancy;
#[cfg(test)]
mod tests;

pub use self::redis::{Redis, RedisUrl};
pub use cache::Cache;
pub use concurrency::Concurrency;
pub use database::{Database, DatabaseUrl, Migrate};
pub use discovered::Discovered;
pub use events::{Events, RequestEvents};
pub use evidence::Evidence;
pub use jobs::{BEAT_MAX, Jobs};
pub use load::read_secret_variable;
pub use nats::{Nats, NatsUrl};
pub use policy::{Policy, Remote};
pub use secrets::{Secret, Secrets};
pub use sla::Sla;
pub use telemetry::{LogFormat, LogSample, Telemetry};
pub use tenancy::{Rate, RateLimit, Tier, Tiers};

/// Everything that is fixed until the next start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where it runs.
    pub env: Env,
    /// How it listens.
    #[validate(nested)]
    pub server: Server,
    /// Where its files are.
    pub paths: Paths,
    /// Whom it may reach, and who may enter.
    #[validate(nested)]
    pub security: Security,
    /// What tenants of each tier may ask, by the tier's name.
    #[validate(custom(function = "tenancy::sound_tiers"))]
    pub tiers: Tiers,
    /// What a request may cost.
    #[validate(nested)]
    pub orchestration: Orchestration,
    /// What is kept for equal requests.
    #[validate(nested)]
    pub cache: Cache,
    /// What a policy may cost.
    #[validate(nested)]
    pub policy: Policy,
    /// What instances share.
    #[validate(nested)]
    pub database: Database,
    /// What instances share and may forget.
    #[validate(nested)]
    pub redis: Redis,
    /// What carries events, and rings between instances.
    #[validate(nested)]
    pub nats: Nats,
    /// What is told, and to how many.
    #[validate(nested)]
    pub events: Events,
    /// How decisions are put on record.
    #[validate(nested)]
    pub evidence: Evidence,
    /// How work that waits is carried out.
    #[validate(nested)]
    pub jobs: Jobs,
    /// What it tells operators.
    #[validate(nested)]
    pub telemetry: Telemetry,
    /// What only the environment holds.
    #[serde(skip)]
    pub secrets: Secrets,
    /// Detectors that only the environment names.
    #[serde(skip)]
    pub discovered: Vec<Discovered>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            env: Env::default(),
            server: Server::default(),
            paths: Paths::default(),
            security: Security::default(),
            tiers: tenancy::shipped(),
            orchestration: Orchestration::default(),
            cache: Cache::default(),
            policy: Policy::default(),
            database: Database::default(),
            redis: Redis::default(),
            nats: Nats::default(),
            events: Events::default(),
            evidence: Evidence::default(),
            jobs: Jobs::default(),
            telemetry: Telemetry::default(),
            secrets: Secrets::default(),
            discovered: Vec::new(),
        }
    }
}

/// Where the service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Env {
    /// A laptop.
    #[default]
    Development,
    /// As production.
    Staging,
    /// For real.
    Production,
}

impl Env {
    /// The name in settings and in Rego.
    pub fn name(self) -> &'static str {
        match self {
            Env::Development => "development",
            Env::Staging => "staging",
            Env::Production => "production",
        }
    }
}

/// How the service listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[validate(schema(function = "two_addresses"))]
pub struct Server {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where health and metrics are served to whoever reaches it; nowhere else unless set.
    pub admin_listen: Option<SocketAddr>,
    /// Serving threads; one per core unless set.
    #[validate(range(min = 1, max = 256))]
    pub workers: Option<usize>,
    /// Status of answers with incomplete coverage.
    pub verdict_status: VerdictStatus,
    /// Between "not ready" and "stop accepting"; by environment unless set.
    pub shutdown_delay: Option<Span>,
    /// Limits of connections and bodies.
    #[validate(nested)]
    pub limits: Limits,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            admin_listen: None,
            workers: None,
            verdict_status: VerdictStatus::Ok,
            shutdown_delay: None,
            limits: Limits::default(),
        }
    }
}

/// Status of answers with incomplete coverage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictStatus {
    /// 200 whenever there is an action.
    #[default]
    Ok,
    /// 206, 408 or 502.
    Distinct,
}

/// Limits of connections and bodies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a body.
    #[validate(range(min = 1024, max = 1_073_741_824))]
    pub body_bytes_max: usize,
    /// Free time for a body, or to read an answer, and the longest without a byte of it.
    #[validate(custom(function = "at_least_100_ms"))]
    pub body_timeout: Span,
    /// Rate that keeps a slower body alive.
    #[validate(range(min = 1))]
    pub body_bytes_per_second_min: u64,
    /// For the request's head.
    #[validate(custom(function = "at_least_100_ms"))]
    pub header_timeout: Span,
    /// Open connections.
    #[validate(range(min = 1, max = 1_000_000))]
    pub connections_max: usize,
    /// Open connections of one address; a proxy in front is one address.
    #[validate(range(min = 1, max = 1_000_000))]
    pub connections_per_address_max: usize,
    /// Requests judged at once.
    pub concurrency: Concurrency,
    /// Requests that may wait for that.
    #[validate(range(min = 0, max = 1_000_000))]
    pub queue_max: usize,
    /// Bytes of all bodies that are read or judged; a body may have a quarter of what is free.
    #[validate(range(min = 4096))]
    pub bodies_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 10 * 1024 * 1024,
            body_timeout: Span(Duration::from_secs(10)),
            body_bytes_per_second_min: 500,
            header_timeout: Span(Duration::from_secs(5)),
            connections_max: 4096,
            connections_per_address_max: 2048,
            concurrency: Concurrency::Auto,
            queue_max: 1000,
            bodies_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// The same port of one address cannot be listened on twice; port 0 is another each time.
fn two_addresses(server: &Server) -> Result<(), ValidationError> {
    let Some(admin) = server.admin_listen else { return Ok(()) };
    let (one, other) = (server.listen, admin);
    let all = |a: SocketAddr, b: SocketAddr| {
        a.ip().is_unspecified() && (a.is_ipv6() || a.is_ipv4() == b.is_ipv4())
    };
    let is_shared = one.ip() == other.ip() || all(one, other) || all(other, one);
    if one.port() != other.port() || one.port() == 0 || !is_shared {
        return Ok(());
    }
    let message = format!("`admin_listen` {other} is taken by `listen` {one}; name another port");
    Err(ValidationError::new("taken").with_message(message.into()))
}

fn at_least_100_ms(span: &Span) -> Result<(), ValidationError> {
    if span.0 >= Duration::from_millis(100) {
        return Ok(());
    }
    Err(ValidationError::new("range").with_message("must be at least 100ms".into()))
}

fn at_least_1_ms(span: &Span) -> Result<(), ValidationError> {
    if span.0 >= Duration::from_millis(1) {
        return Ok(());
    }
    Err(ValidationError::new("range").with_message("must be at least 1ms".into()))
}

/// Where files are; relative to the working directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// Detector files.
    pub detectors: PathBuf,
    /// The policy tree.
    pub policies: PathBuf,
    /// Tenant files.
    pub tenants: PathBuf,
    /// The strategies file.
    pub strategies: PathBuf,
    /// Store and keys.
    pub data: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            detectors: "detectors".into(),
            policies: "policies".into(),
            tenants: "config/tenants".into(),
            strategies: "config/strategies.yaml".into(),
            data: "data".into(),
        }
    }
}

/// Whom the service may reach, and who may enter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// Hosts, `host:port` or CIDR that detectors may have although they are private.
    pub outbound_allow: Vec<String>,
    /// What becomes of a request whose envelope looks like an attack; by environment unless set.
    pub waf: Option<WafMode>,
    /// Addresses or CIDR of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// Refused credentials per minute and source address; then 429.
    #[validate(range(min = 1, max = 100_000))]
    pub auth_failures_per_minute: u32,
    /// How often tenants, keys and routes may be asked.
    #[validate(nested)]
    pub rate_limit: RateLimit,
    /// Tokens of others.
    #[validate(nested)]
    pub jwt: Jwt,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            outbound_allow: Vec::new(),
            waf: None,
            trusted_proxies: Vec::new(),
            auth_failures_per_minute: 20,
            rate_limit: RateLimit::default(),
            jwt: Jwt::default(),
        }
    }
}

/// What becomes of a request whose envelope looks like an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WafMode {
    /// Nobody looks.
    Off,
    /// It is counted and logged, and goes on.
    Monitor,
    /// It is counted and refused.
    Block,
}

/// Tokens that an identity provider signs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// What `iss` must be.
    #[validate(length(min = 1, max = 2048))]
    pub issuer: String,
    /// What `aud` must be or hold.
    #[validate(length(min = 1, max = 2048))]
    pub audience: String,
    /// Public keys of RS256, ES256 and EdDSA (RFC 7517); read again when it changed.
    pub jwks_file: Option<PathBuf>,
    /// The same from the issuer, https outside development; instead of a file.
    pub jwks_url: Option<String>,
}

impl Default for Jwt {
    fn default() -> Self {
        let name = || "orchestrator".to_owned();
        Self { issuer: name(), audience: name(), jwks_file: None, jwks_url: None }
    }
}

/// What a request may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Orchestration {
    /// Characters of one request.
    #[validate(range(min = 1, max = 1_000_000))]
    pub content_max_chars: usize,
    /// Detectors asked at once.
    #[validate(range(min = 1, max = 100))]
    pub parallel_max: usize,
    /// Detectors that one tenant may register.
    #[validate(range(max = 1_000))]
    pub registered_max: usize,
    /// Deadlines.
    #[validate(nested)]
    pub sla: Sla,
}

impl Default for Orchestration {
    fn default() -> Self {
        Self {
            content_max_chars: 1_000_000,
            parallel_max: 10,
            registered_max: 20,
            sla: Sla::default(),
        }
    }
}

impl Settings {
    /// What becomes of a request whose envelope looks like an attack.
    pub fn waf(&self) -> WafMode {
        match (self.security.waf, self.env) {
            (Some(mode), _) => mode,
            (None, Env::Development) => WafMode::Monitor,
            (None, Env::Staging | Env::Production) => WafMode::Block,
        }
    }

    /// Who brings the schema of a database up to date.
    pub fn migrate(&self) -> Migrate {
        match (self.database.migrate, self.env) {
            (Some(migrate), _) => migrate,
            (None, Env::Development) => Migrate::Auto,
            (None, Env::Staging | Env::Production) => Migrate::Check,
        }
    }

    /// How long a stopping instance still accepts.
    pub fn shutdown_delay(&self) -> Duration {
        match (self.server.shutdown_delay, self.env) {
            (Some(delay), _) => delay.0,
            (None, Env::Production) => Duration::from_secs(10),
            (None, Env::Development | Env::Staging) => Duration::ZERO,
        }
    }
}
