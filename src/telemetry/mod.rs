//! Logs: one JSON object per line on stdout, or a readable line on a terminal. And spans ([`traces`]).
//!
//! Whatever a field holds, one event is one line: values are JSON-encoded in both forms. Content,
//! keys and tokens have no field here.
//!
//! Lines are written by a thread of their own. Its queue is lossless: when stdout stalls for 16 MiB
//! of lines, callers wait rather than lose the record of a decision.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{IsTerminal as _, Write};
use std::os::fd::AsFd as _;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer as _, Registry};

mod lines;
#[cfg(test)]
mod tests;
pub mod traces;

use lines::{Lines, Writing};
use traces::{Export, Exporting};

/// Most lines fit.
const LINE_BYTES: usize = 1_024;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// JSON unless stdout is a terminal.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is none.
    #[error("`{level}` is no log level; use error, warn, info, debug or trace")]
    Level {
        /// As given.
        level: String,
    },
    /// Stdout is closed.
    #[error("opening stdout for the log")]
    Stdout(#[source] std::io::Error),
    /// Spans cannot leave.
    #[error("telemetry.otlp_endpoint: {0}")]
    Export(String),
    /// Somebody was first.
    #[error("logging was started twice in this process")]
    Twice,
}

/// The log of one answered request: the contract of the documentation, nothing else.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DecisionLine<'a> {
    /// The request's id.
    pub request_id: &'a str,
    /// W3C trace id; empty where there is none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub trace_id: &'a str,
    /// W3C span id; empty where there is none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub span_id: &'a str,
    /// Whose request.
    pub tenant: &'a str,
    /// The public part of the key; empty without a key.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub key_prefix: &'a str,
    /// The route's pattern.
    pub route: &'a str,
    /// HTTP status.
    pub status: u16,
    /// Error code, where no outcome was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    /// What was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'a str>,
    /// Whether coverage sufficed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// The bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<&'a str>,
    /// The snapshot.
    pub revision: &'a str,
    /// Such as `hit` or `miss`; empty without a cache.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cache: &'a str,
    /// How many were asked.
    pub detectors: usize,
    /// Who did not answer.
    pub failed: Vec<&'a str>,
    /// How many gaps.
    pub unjudged: usize,
    /// How many findings per category.
    pub findings: BTreeMap<&'a str, usize>,
    /// Code points of content.
    pub content_chars: usize,
    /// From request to answer.
    pub duration_ms: f64,
    /// Less the slowest required detector.
    pub overhead_ms: f64,
    /// As asked.
    pub priority: &'a str,
    /// What was worked around.
    pub degraded: Vec<&'a str>,
    /// `executed` or `replayed`; empty without an `Idempotency-Key`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub idempotency: &'a str,
}

/// A running log; dropping it writes what is left.
pub struct Telemetry {
    lines: Lines,
    shape: Shape,
    _writing: Writing,
    exporting: Option<Exporting>,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Json,
    Pretty,
}

/// Starts the process's log on stdout, and its spans where there is somewhere to send them.
/// `log_level` is a level or `module=level` directives.
pub fn init(
    log_level: &str,
    format: LogFormat,
    export: Option<Export>,
) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(log_level).map_err(|_| TelemetryError::Level {
        level: log_level.escape_debug().take(80).collect(),
    })?;
    let stdout = std::io::stdout();
    let shape = match format {
        LogFormat::Json => Shape::Json,
        LogFormat::Pretty => Shape::Pretty,
        LogFormat::Auto if stdout.is_terminal() => Shape::Pretty,
        LogFormat::Auto => Shape::Json,
    };
    // Not `Stdout`, which writes line by line.
    let file = stdout.as_fd().try_clone_to_owned().map_err(TelemetryError::Stdout)?;
    let mut telemetry = Telemetry::to(std::fs::File::from(file), shape);
    telemetry.exporting = export.map(Exporting::start).transpose()?;
    match &telemetry.exporting {
        None => tracing::subscriber::set_global_default(telemetry.subscriber(filter)),
        Some(exporting) => {
            let subscriber = telemetry.tracing_subscriber(filter, exporting);
            tracing::subscriber::set_global_default(subscriber)
        }
    }
    .map_err(|_| TelemetryError::Twice)?;
    Ok(telemetry)
}

impl Telemetry {
    fn to(output: impl Write + Send + 'static, shape: Shape) -> Telemetry {
        let (lines, _writing) = lines::to(output);
        Telemetry { lines, shape, _writing, exporting: None }
    }

    fn subscriber(&self, filter: EnvFilter) -> impl Subscriber + Send + Sync + use<> {
        let lines = self.lines.clone();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .event_format(OneLine(self.shape))
            .with_writer(move || lines.clone())
            .finish()
    }

    /// The same, whose spans leave too.
    fn tracing_subscriber(
        &self,
        filter: EnvFilter,
        exporting: &Exporting,
    ) -> impl Subscriber + Send + Sync + use<> {
        let lines = self.lines.clone();
        let log = tracing_subscriber::fmt::layer()
            .event_format(OneLine(self.shape))
            .with_writer(move || lines.clone())
            .with_filter(filter);
        Registry::default().with(log).with(exporting.layer())
    }

    /// Sends the spans that wait, for at most three seconds. Blocks; none leaves after it.
    pub fn end_traces(&self) {
        if let Some(exporting) = &self.exporting {
            exporting.end();
        }
    }

    /// Writes the line of one answered request, if level `info` is logged.
    pub fn decision_line(&self, line: &DecisionLine<'_>) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let text = match self.shape {
            Shape::Json => {
                let mut text = Vec::with_capacity(LINE_BYTES);
                serde_json::to_writer(&mut text, &Stamped::now("INFO", "decision", line))
                    .map(|()| text)
            }
            Shape::Pretty => serde_json::to_value(line).map(|fields| {
                pretty("INFO", "decision", fields.as_object().unwrap_or(&Map::new())).into_bytes()
            }),
        };
        // Strings, numbers and lists of them always serialise.
        if let Ok(mut text) = text {
            text.push(b'\n');
            let _ = self.lines.clone().write_all(&text);
        }
    }
}

/// Whether the line of the request `id` is among the `share`, 0..=1, of those that are written. The
/// same at every instance.
pub fn keeps(share: f64, id: &str) -> bool {
    if share >= 1.0 {
        return true;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(id.as_bytes());
    (hasher.finish() as f64) < share * u64::MAX as f64
}

#[derive(Serialize)]
struct Stamped<'a, F: Serialize> {
    ts: String,
    level: &'a str,
    message: &'a str,
    #[serde(flatten)]
    fields: F,
}

impl<'a, F: Serialize> Stamped<'a, F> {
    fn now(level: &'a str, message: &'a str, fields: F) -> Self {
        Stamped { ts: now(), level, message, fields }
    }
}

fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

fn pretty(level: &str, message: &str, fields: &Map<String, Value>) -> String {
    let mut line = format!("{} {level:>5} {}", now(), message.escape_debug());
    for (name, value) in fields {
        // Writing to a string cannot fail.
        let _ = match value {
            Value::String(text) => write!(line, " {name}={}", text.escape_debug()),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => write!(line, " {name}={value}"),
        };
    }
    line
}

/// Formats every event of the program as one line.
struct OneLine(Shape);

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let message = fields.0.remove("message").unwrap_or_default();
        let message = message.as_str().unwrap_or_default();
        fields.0.insert("target".into(), event.metadata().target().into());
        let level = event.metadata().level().as_str();
        let line = match self.0 {
            Shape::Json => serde_json::to_string(&Stamped::now(level, message, fields.0))
                .map_err(|_| std::fmt::Error)?,
            Shape::Pretty => pretty(level, message, &fields.0),
        };
        writeln!(writer, "{line}")
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().into(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
