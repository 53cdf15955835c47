//! What operators are told.

use serde::{Deserialize, Serialize};
use validator::{Validate, ValidationError};

/// What operators are told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Least level of a line.
    #[validate(custom(function = "known_level"))]
    pub log_level: String,
    /// Shape of a line.
    pub log_format: LogFormat,
    /// Which lines of answered requests are written.
    #[validate(nested)]
    pub log_sample: LogSample,
    /// Tenants with a metric label of their own; empty: the first 20 seen.
    #[validate(length(max = 20))]
    pub tenant_labels: Vec<String>,
    /// Base address of an OTLP collector that takes protobuf over HTTP; without one no span leaves.
    #[validate(custom(function = "address"))]
    pub otlp_endpoint: Option<String>,
    /// Share of the traces that begin here that are sent to it.
    #[validate(range(min = 0.0, max = 1.0))]
    pub trace_ratio: f64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log_level: "info".into(),
            log_format: LogFormat::Auto,
            log_sample: LogSample::default(),
            tenant_labels: Vec::new(),
            otlp_endpoint: None,
            trace_ratio: 1.0,
        }
    }
}

/// Shares of lines that are written, by action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct LogSample {
    /// Of complete answers with `allow`.
    #[validate(range(min = 0.0, max = 1.0))]
    pub allow: f64,
}

impl Default for LogSample {
    fn default() -> Self {
        Self { allow: 1.0 }
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

fn address(endpoint: &str) -> Result<(), ValidationError> {
    let plain = |url: &url::Url| {
        ["http", "https"].contains(&url.scheme())
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
    };
    if url::Url::parse(endpoint).is_ok_and(|url| plain(&url)) {
        return Ok(());
    }
    let message = "must be an address such as http://collector:4318, without user or query";
    Err(ValidationError::new("address").with_message(message.into()))
}
