//! One detector file as typed values.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::category::Category;
use crate::domain::content::{ContentType, Direction};
use crate::domain::finding::{Polarity, Severity, TextView};
use crate::domain::id::DetectorName;

/// A detector as its file describes it, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Detector {
    /// Equal to the file's name.
    pub name: DetectorName,
    /// For people.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// `low`, `medium` or `high`.
    pub risk: Option<String>,
    /// Contexts it is allowed in; empty means all.
    pub contexts: BTreeSet<String>,
    /// Governance notes, as written.
    pub safety: serde_json::Value,
    /// Which wire protocol, with what it needs.
    pub protocol: Protocol,
    /// Where it answers; `None` for built-in ones.
    pub endpoint: Option<Endpoint>,
    /// What kinds of content it judges.
    pub types: BTreeSet<ContentType>,
    /// Languages; empty means all.
    pub languages: BTreeSet<String>,
    /// Directions; empty means all.
    pub directions: BTreeSet<Direction>,
    /// Longest text of one call in code points; longer ones are cut.
    pub max_chars: Option<NonZeroUsize>,
    /// How longer texts are cut.
    pub chunks: Chunks,
    /// What it can find; decides votes and coverage. Never empty.
    pub categories: BTreeSet<Category>,
    /// Label → meaning, the file's own over the protocol's.
    pub labels: BTreeMap<String, Label>,
    /// True for findings without a vote.
    pub annotator: bool,
    /// Of one try.
    pub timeout: Duration,
    /// Retries.
    pub retry: Retry,
    /// When to stop calling it.
    pub breaker: BreakerSpec,
    /// How many calls at once.
    pub bulkhead: Bulkhead,
    /// Background probe.
    pub health: Health,
    /// Name and value source of the credential header, resolved at load.
    pub auth: Auth,
    /// In conflicts.
    pub weight: f64,
    /// Relative cost, for cascades.
    pub cost: f64,
    /// Passed to the detector.
    pub params: serde_json::Value,
    /// Which views it wants.
    pub views: Vec<TextView>,
    /// Tenants that may see it: names or `*`.
    pub tenants: BTreeSet<String>,
    /// Version name; `1` unless the file says otherwise.
    pub version: Arc<str>,
    /// Where the definition came from, for messages: a path or `embedded`.
    pub source: String,
}

/// Meaning of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its category; `None` for negative labels.
    pub category: Option<Category>,
    /// Whether it speaks against the content.
    pub polarity: Polarity,
    /// How bad; medium where the file is silent.
    pub severity: Severity,
}

/// A validated http or https address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The full address as written.
    pub uri: http::Uri,
}

/// How to talk to a detector.
#[derive(Debug, Clone, PartialEq)]
pub enum Protocol {
    /// In this process.
    Builtin(Builtin),
    /// The open Detector API, text contents.
    Fms,
    /// Ours.
    Native,
    /// Any JSON service by mapping.
    Http(Box<Mapping>),
}

impl Protocol {
    /// The name in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Protocol::Builtin(_) => "builtin",
            Protocol::Fms => "fms",
            Protocol::Native => "native",
            Protocol::Http(_) => "http",
        }
    }
}

/// The built-in detectors; the file's `builtin` key, by default its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Builtin {
    /// Personal data.
    Pii,
    /// Credentials.
    Secrets,
    /// Named patterns from `params.patterns`.
    Regex,
    /// Word lists from `params.lists`.
    Keywords,
    /// Insults, profanity, threats.
    Toxicity,
    /// Links that deceive or are not wanted.
    Urls,
    /// Annotator: the language of the text.
    Language,
    /// Annotator: code, shell, SQL.
    Code,
    /// Fixture: always `echo` 0.5.
    Echo,
    /// Fixture: toxic, hate, abuse.
    ToxicityFixture,
    /// Fixture: SSN, e-mail.
    RegexPii,
}

/// Declarative mapping of the `http` protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// Request template: JSON whose strings may hold `{{content}}` and friends.
    pub request: serde_json::Value,
    /// Extra request headers.
    pub headers: BTreeMap<String, String>,
    /// How to read the reply.
    pub response: ResponseMapping,
}

/// How to read a reply; paths are dotted keys and array indexes, `a.b.0`; empty is the root.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResponseMapping {
    /// The list of findings; the value itself when it is no list.
    pub items: String,
    /// The label, relative to an item; a literal when it starts with `=`.
    pub label: String,
    /// The score, relative to an item; 1.0 when empty.
    pub score: String,
    /// First position.
    pub start: String,
    /// One past the last position.
    pub end: String,
    /// Unit of the positions.
    pub offset_unit: crate::domain::span::OffsetUnit,
    /// How the raw score becomes 0..=1.
    pub score_transform: ScoreTransform,
    /// Path that, when present and truthy, makes a 200 a failure.
    pub error_when: String,
    /// A missing list means clean; an empty one always does.
    pub ok_when_empty: bool,
}

/// How the raw score becomes 0..=1.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreTransform {
    /// As it is.
    #[default]
    Identity,
    /// 1 − s.
    Invert,
    /// 0..7 → s/7.
    Severity,
    /// true → 1, false → 0.
    Bool,
    /// By name.
    Enum(BTreeMap<String, f64>),
}

/// How texts over `max_chars` are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// Code points that neighbours share, less than `max_chars`.
    pub overlap: usize,
    /// Calls or list entries for one request; what is left over is `too_long`.
    pub max: usize,
}

/// Retries of one call, all inside the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// All tries together, 1..=5.
    pub attempts: u32,
    /// Before the second try; doubles, with jitter.
    pub backoff: Duration,
}

/// When to stop calling a failing detector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerSpec {
    /// How failures are counted.
    pub mode: BreakerMode,
    /// Failures that open it.
    pub failures: u32,
    /// Within this time.
    pub window: Duration,
    /// And at least this share of the calls in the window; window mode only.
    pub failure_ratio: f64,
    /// How long it stays open the first time; doubles up to 5 min.
    pub open_for: Duration,
    /// Probes at once while half open, and successes that close it.
    pub probes: u32,
    /// Calls slower than this count as failures; `None` is off.
    pub slow_call: Option<Duration>,
}

/// How failures are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerMode {
    /// Count and ratio in a sliding window.
    #[default]
    Window,
    /// In a row.
    Consecutive,
}

/// How many calls at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bulkhead {
    /// Running.
    pub max_in_flight: usize,
    /// Waiting; more are refused.
    pub queue: usize,
}

/// Background probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Relative to the endpoint's origin.
    pub path: String,
    /// Between probes.
    pub interval: Duration,
    /// Of one probe.
    pub timeout: Duration,
    /// Failed probes in a row that take it out of service.
    pub unhealthy_after: u32,
    /// Good probes in a row that bring it back.
    pub healthy_after: u32,
}

/// A credential sent with each call. `Debug` never shows the value.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// A header and its value.
    Header {
        /// Lower-case name.
        name: String,
        /// The whole value, such as `Bearer …`.
        value: secrecy::SecretString,
    },
}

impl PartialEq for Auth {
    fn eq(&self, other: &Self) -> bool {
        use secrecy::ExposeSecret as _;
        match (self, other) {
            (Auth::None, Auth::None) => true,
            (Auth::Header { name: a, value: x }, Auth::Header { name: b, value: y }) => {
                a == b && x.expose_secret() == y.expose_secret()
            }
            (Auth::None | Auth::Header { .. }, _) => false,
        }
    }
}
