//! `settings.yaml` and the environment become one validated `Settings`, all faults at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use validator::{Validate, ValidationError};

use crate::yaml::Span;

mod concurrency;
mod database;
mod discovered;
mod load;
mod secrets;
mod tenancy;
#[cfg(test)]
mod tests;

pub use concurrency::Concurrency;
pub use database::{Database, DatabaseUrl, Migrate};
pub use discovered::Discovered;
pub use load::read_secret_variable;
pub use secrets::{Secret, Secrets};
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
pub struct Server {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
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
    /// Free time for a body.
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

/// Deadline of a request by priority, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Sla {
    /// Critical.
    #[validate(range(min = 10, max = 300_000))]
    pub critical_ms: u64,
    /// Normal and high.
    #[validate(range(min = 10, max = 300_000))]
    pub normal_ms: u64,
    /// Low and batch.
    #[validate(range(min = 10, max = 300_000))]
    pub low_ms: u64,
}

impl Default for Sla {
    fn default() -> Self {
        Self { critical_ms: 1000, normal_ms: 2000, low_ms: 5000 }
    }
}

/// What is kept for equal requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Whether equal requests of a tenant are answered from what detectors said before.
    pub responses: bool,
    /// How long.
    #[validate(custom(function = "at_least_1_ms"))]
    pub ttl: Span,
    /// Memory for it.
    #[validate(range(min = 1_024_u64, max = 1_099_511_627_776_u64))]
    pub bytes_max: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { responses: true, ttl: Span(Duration::from_secs(300)), bytes_max: 16_777_216 }
    }
}

/// What a policy may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Of one evaluation.
    #[validate(custom(function = "at_least_1_ms"))]
    pub eval_timeout: Span,
    /// Threads that evaluate what the memo does not know.
    #[validate(range(min = 1, max = 64))]
    pub threads: usize,
    /// Answers kept.
    #[validate(range(min = 1, max = 10_000_000))]
    pub memo_entries: usize,
    /// Versions kept of one stored overlay.
    #[validate(range(min = 1, max = 10_000))]
    pub versions_max: u64,
    /// Whether changes of overlays serve only after another person's review.
    pub require_review: bool,
    /// Units with a tenant's own rules whose engines are kept ready; others are compiled again when
    /// they are asked.
    #[validate(range(min = 1, max = 100_000))]
    pub prepared_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            eval_timeout: Span(Duration::from_millis(50)),
            threads: 2,
            memo_entries: 10_000,
            versions_max: 50,
            require_review: false,
            prepared_max: 256,
        }
    }
}

/// What operators are told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Least level of a line.
    #[validate(custom(function = "known_level"))]
    pub log_level: String,
    /// Shape of a line.
    pub log_format: LogFormat,
    /// Tenants with a metric label of their own; empty: the first 20 seen.
    #[validate(length(max = 20))]
    pub tenant_labels: Vec<String>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_level: "info".into(), log_format: LogFormat::Auto, tenant_labels: Vec::new() }
    }
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, else JSON.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For eyes.
    Pretty,
}

fn known_level(level: &str) -> Result<(), ValidationError> {
    if ["error", "warn", "info", "debug", "trace"].contains(&level) {
        return Ok(());
    }
    let message = "must be error, warn, info, debug or trace";
    Err(ValidationError::new("level").with_message(message.into()))
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
