//! A valid request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::content::{Body, ContentType, Direction, Judge, Message, Role};
use super::id::{BundleName, DetectorName, RequestId, TenantId};
use super::redaction::Style;
use super::span::OffsetUnit;
use super::trace::TraceContext;

/// How urgent a request is, most urgent first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Answered before anything else; bypasses caches.
    Critical,
    /// Soon.
    High,
    /// As usual.
    #[default]
    Normal,
    /// When there is room.
    Low,
    /// Whenever.
    Batch,
}

impl Priority {
    /// Every one, most urgent first.
    pub const ALL: [Priority; 5] =
        [Priority::Critical, Priority::High, Priority::Normal, Priority::Low, Priority::Batch];

    /// The one of that name.
    pub fn parse(raw: &str) -> Option<Priority> {
        Priority::ALL.into_iter().find(|known| known.name() == raw)
    }

    /// The name in the API and in Rego.
    pub fn name(self) -> &'static str {
        match self {
            Priority::Critical => "critical",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
            Priority::Batch => "batch",
        }
    }
}

/// Optional parts of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Include {
    /// Every detector's report.
    Detectors,
    /// How coverage was measured.
    Coverage,
    /// The plan.
    Plan,
    /// Settled disagreements.
    Conflicts,
    /// Which rules held.
    Explain,
    /// The record's id and receipt.
    Evidence,
    /// The origin's payload.
    Mapper,
    /// The redacted content whatever the action.
    Redacted,
    /// All of them.
    All,
}

/// What the caller says about detectors.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct DetectorWishes {
    /// Ask only these.
    pub only: Vec<DetectorName>,
    /// Ask and require these too.
    pub add: Vec<DetectorName>,
    /// Do not ask these.
    pub exclude: Vec<DetectorName>,
    /// Per category or `*`, 0..=1.
    pub thresholds: BTreeMap<String, f64>,
    /// Per detector.
    pub params: BTreeMap<DetectorName, serde_json::Value>,
}

/// Context that detectors may need and nobody judges.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Context {
    /// The prompt that led to the content.
    pub prompt: Option<String>,
    /// Documents it should rest on.
    pub documents: Vec<String>,
}

/// A valid request: the tenant is settled, limits are checked. Serialised it says what detectors
/// are asked: without its id, urgency, deadline, and which parts of the answer are wanted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Request {
    /// Its id.
    #[serde(skip)]
    pub id: RequestId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What is judged.
    pub body: Body,
    /// Tools offered to the model, as sent.
    pub tools: Vec<serde_json::Value>,
    /// Which way it flows.
    pub direction: Direction,
    /// Which messages are judged.
    pub judge: Judge,
    /// Context.
    pub context: Context,
    /// Kind of content.
    pub content_type: ContentType,
    /// The bundle asked for; `None` takes the tenant's default.
    pub policy: Option<BundleName>,
    /// The event.
    pub event: Option<String>,
    /// BCP 47 language, if the caller knows it.
    pub language: Option<String>,
    /// Contexts.
    pub contexts: Vec<String>,
    /// Wishes about detectors.
    pub detectors: DetectorWishes,
    /// The unit of spans in the answer.
    pub offsets: OffsetUnit,
    /// What stands in the place of redacted text; `None` takes the tenant's.
    pub redaction: Option<Style>,
    /// Urgency.
    #[serde(skip)]
    pub priority: Priority,
    /// The caller's own deadline in milliseconds, 10..=300 000; `None` takes the priority's.
    #[serde(skip)]
    pub timeout_ms: Option<u64>,
    /// Anything the caller wants to tell policies and detectors.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Optional parts of the answer.
    #[serde(skip)]
    pub include: Vec<Include>,
    /// Whether the caller wants nothing that other requests asked for (`Cache-Control: no-store`).
    #[serde(skip)]
    pub no_store: bool,
    /// Whether the answer may be given again: then the outcome says how to redact the body again.
    #[serde(skip)]
    pub again: bool,
    /// The span it is judged in, which detectors are told.
    #[serde(skip)]
    pub trace: Option<TraceContext>,
    /// How long calls to detectors that take batches may wait for those of other requests.
    #[serde(skip)]
    pub gather: Option<std::time::Duration>,
}

impl Request {
    /// A request that says nothing but its content.
    pub fn plain(id: RequestId, tenant: TenantId, body: Body) -> Request {
        Request {
            id,
            tenant,
            body,
            tools: Vec::new(),
            direction: Direction::default(),
            judge: Judge::default(),
            context: Context::default(),
            content_type: ContentType::default(),
            policy: None,
            event: None,
            language: None,
            contexts: Vec::new(),
            detectors: DetectorWishes::default(),
            offsets: OffsetUnit::default(),
            priority: Priority::default(),
            timeout_ms: None,
            metadata: serde_json::Map::new(),
            redaction: None,
            include: Vec::new(),
            no_store: false,
            again: false,
            trace: None,
            gather: None,
        }
    }

    /// Whether it may take what another request of the tenant asked for, and leave what it asked.
    pub fn shares(&self) -> bool {
        !self.no_store && self.priority != Priority::Critical
    }

    /// Whether the answer holds the optional part.
    pub fn wants(&self, part: Include) -> bool {
        self.include.contains(&part) || self.include.contains(&Include::All)
    }
}

/// The direction that a conversation's last role implies.
pub fn direction_of(last: &Message) -> Direction {
    match last.role {
        Role::System | Role::User => Direction::Input,
        Role::Assistant if !last.tool_calls.is_empty() => Direction::ToolCall,
        Role::Assistant => Direction::Output,
        Role::Tool => Direction::ToolResult,
    }
}
