//! One detector file as typed values.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

pub use super::mapping::{
    Condition, Coverage, Exchange, Grain, Mapping, Reader, ResponseMapping, ScoreTransform, Signing,
};
pub use super::template::{Bit, Fill, Slot, Template};
use crate::domain::calibration::Calibration;
use crate::domain::category::Category;
use crate::domain::content::{ContentType, Direction};
use crate::domain::finding::{Polarity, Severity, TextView};
use crate::domain::id::{DetectorName, TenantId};
use crate::operations::breaker::BreakerSpec;
use crate::seal::AwsKeys;

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
    /// Where it answers as well.
    pub replicas: Vec<Endpoint>,
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
    /// The one that the file names first: what the service flags without a known name is that.
    pub first_category: Category,
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
    /// After how long without an answer another try begins beside the first; `None` never.
    pub hedge: Option<Duration>,
    /// Bytes of bodies sent per second; `None` is no limit.
    pub throttle: Option<NonZeroU32>,
    /// Background probe.
    pub health: Health,
    /// Name and value source of the credential header, resolved at load.
    pub auth: Auth,
    /// The header that carries a delegation token, lower case; `None` sends none.
    pub delegation: Option<String>,
    /// Texts per call; `None` takes the protocol's.
    pub batch: Option<NonZeroUsize>,
    /// How long a call waits for texts of other requests.
    pub batch_delay: Duration,
    /// In conflicts.
    pub weight: f64,
    /// Relative cost, for cascades.
    pub cost: f64,
    /// What its scores are worth.
    pub calibration: Calibration,
    /// Passed to the detector.
    pub params: serde_json::Value,
    /// Which views it wants.
    pub views: Vec<TextView>,
    /// Tenants that may see it: names or `*`.
    pub tenants: BTreeSet<String>,
    /// The tenant that registered it and alone sees it; `None` for those of files and environment.
    pub private_to: Option<TenantId>,
    /// Version name; `1` for what the file says itself.
    pub version: Arc<str>,
    /// Versions that share its requests, or are only observed; they have none themselves.
    pub versions: Vec<Version>,
    /// Asked and shown, never counted.
    pub shadow: bool,
    /// Where the definition came from, for messages: a path or `embedded`.
    pub source: String,
}

/// One version of a detector.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// The file's keys with the version's laid over them.
    pub detector: Arc<Detector>,
    /// Ten-thousandths of the requests; 0 where it is only observed.
    pub share: u32,
}

/// Before the sources of detectors that the environment names.
pub const DISCOVERED: &str = "environment/";

impl Detector {
    /// Buckets that requests fall into.
    pub const BUCKETS: u32 = 10_000;

    /// Whether it takes part only once its service has answered: nobody tried it before it served.
    pub fn must_answer_first(&self) -> bool {
        let named_only = self.private_to.is_some() || self.source.starts_with(DISCOVERED);
        named_only && self.endpoints().next().is_some()
    }

    /// The categories that it votes in; none for an annotator.
    pub fn votes(&self) -> BTreeSet<Category> {
        if self.annotator { BTreeSet::new() } else { self.categories.clone() }
    }

    /// The version that takes the requests of `bucket`; the detector itself where none takes any.
    pub fn taking(self: &Arc<Self>, bucket: u32) -> &Arc<Self> {
        let mut end = 0;
        let takes = self.versions.iter().find(|version| {
            end += version.share;
            bucket < end
        });
        takes.map_or(self, |version| &version.detector)
    }

    /// Whether its versions share its requests.
    pub fn is_split(&self) -> bool {
        self.versions.iter().any(|version| version.share > 0)
    }

    /// Every definition of it that may be asked, those that are only observed last.
    pub fn definitions(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        let own = (!self.is_split()).then_some(self);
        let versions = self.versions.iter().map(|version| &version.detector);
        let (observed, serving): (Vec<_>, Vec<_>) = versions.partition(|d| d.shadow);
        own.into_iter().chain(serving).chain(observed)
    }

    /// The same as one tenant's, with all its versions.
    pub(super) fn private(self, tenant: &TenantId) -> Self {
        let own = |detector: Detector| Detector { private_to: Some(tenant.clone()), ..detector };
        let of = |version: &Version| {
            let detector = Arc::new(own(Detector::clone(&version.detector)));
            Version { detector, share: version.share }
        };
        let versions = self.versions.iter().map(of).collect();
        own(Detector { versions, ..self })
    }
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
    /// Its share of the calls against the other replicas, 1..=1000.
    pub weight: u32,
}

impl Detector {
    /// Every address at which it answers, at most 32; none for built-in ones.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoint.iter().chain(&self.replicas)
    }
}

/// How to talk to a detector.
#[derive(Debug, Clone, PartialEq)]
pub enum Protocol {
    /// In this process.
    Builtin(Builtin),
    /// Ours.
    Native,
    /// The Open Inference Protocol (V2).
    Kserve(Box<Kserve>),
    /// Any JSON service by mapping, the file's own or a preset's.
    Http(Box<Mapping>),
}

impl Protocol {
    /// The name in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Protocol::Builtin(_) => "builtin",
            Protocol::Native => "native",
            Protocol::Kserve(_) => "kserve-v2",
            Protocol::Http(mapping) => mapping.protocol,
        }
    }
}

impl Protocol {
    /// Whether the words of a reply are the author's of the file, not those of a vendor's table.
    pub fn has_own_words(&self) -> bool {
        match self {
            Protocol::Native | Protocol::Kserve(_) => true,
            Protocol::Http(mapping) => mapping.protocol == "http",
            Protocol::Builtin(_) => false,
        }
    }
}

/// A model behind the Open Inference Protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Kserve {
    /// Appended to the endpoint.
    pub path: String,
    /// Name of the tensor that takes the texts.
    pub input: String,
    /// Whether it is a column, `[n, 1]`, not `[n]`.
    pub column: bool,
    /// Name of the tensor that answers; `None` takes the first.
    pub output: Option<String>,
    /// Name of the tensor with the scores, where `output` holds labels.
    pub scores: Option<String>,
    /// Labels in the order of the tensor's axis.
    pub labels: Vec<String>,
    /// Axis of the labels; `None` is the last.
    pub axis: Option<usize>,
    /// What makes probabilities of the numbers.
    pub activation: Activation,
}

/// What makes probabilities of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// They are some already.
    #[default]
    None,
    /// Over all labels.
    Softmax,
    /// Each for itself.
    Sigmoid,
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
    /// Orders against the operator of a model.
    PromptInjection,
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
    /// A signature of AWS.
    Aws(AwsKeys),
    /// A token that is fetched with a client's credentials.
    Oauth2(Oauth2),
}

/// A client that fetches tokens for itself (RFC 6749, 4.4).
#[derive(Debug, Clone)]
pub struct Oauth2 {
    /// Where tokens are handed out.
    pub token_url: http::Uri,
    /// Who asks.
    pub client_id: String,
    /// With what.
    pub client_secret: secrecy::SecretString,
    /// For what, as the server names it.
    pub scope: Option<String>,
    /// For whom, where the server asks.
    pub audience: Option<String>,
}

impl PartialEq for Oauth2 {
    fn eq(&self, other: &Self) -> bool {
        use secrecy::ExposeSecret as _;
        let told = |own: &Self| {
            (own.token_url.clone(), own.client_id.clone(), own.scope.clone(), own.audience.clone())
        };
        told(self) == told(other)
            && self.client_secret.expose_secret() == other.client_secret.expose_secret()
    }
}

impl Auth {
    /// The kind's name in the API.
    pub fn kind(&self) -> &'static str {
        use secrecy::ExposeSecret as _;
        match self {
            Auth::None => "none",
            Auth::Header { name, value } if name == "authorization" => {
                let basic = value.expose_secret().starts_with("Basic ");
                if basic { "basic_auth" } else { "bearer_token" }
            }
            Auth::Header { .. } => "api_key",
            Auth::Aws(_) => "aws_sigv4",
            Auth::Oauth2(_) => "oauth2",
        }
    }

    /// The header that it fills, lower case.
    pub fn header(&self) -> Option<&str> {
        match self {
            Auth::None => None,
            Auth::Header { name, .. } => Some(name),
            Auth::Aws(_) | Auth::Oauth2(_) => Some("authorization"),
        }
    }
}

impl PartialEq for Auth {
    fn eq(&self, other: &Self) -> bool {
        use secrecy::ExposeSecret as _;
        match (self, other) {
            (Auth::None, Auth::None) => true,
            (Auth::Header { name: a, value: x }, Auth::Header { name: b, value: y }) => {
                a == b && x.expose_secret() == y.expose_secret()
            }
            (Auth::Aws(a), Auth::Aws(b)) => a == b,
            (Auth::Oauth2(a), Auth::Oauth2(b)) => a == b,
            (Auth::None | Auth::Header { .. } | Auth::Aws(_) | Auth::Oauth2(_), _) => false,
        }
    }
}
