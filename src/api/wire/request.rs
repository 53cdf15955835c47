//! The body of `POST /orchestrate`, checked whole and turned into a `domain::Request`.

use serde::Deserialize;
use utoipa::ToSchema;

use super::content::{ContentSchema, WireContent, WireMessage};
use crate::api::strict::{self, ENTRIES_MAX, Map, Object, Value};
use crate::domain::category::Category;
use crate::domain::content::{Body, ContentType, Direction, Judge, Message};
use crate::domain::error::{Code, Error, FieldFault};
use crate::domain::id::{BundleName, DetectorName, RequestId, TenantId};
use crate::domain::redaction::Style;
use crate::domain::request::{Context, DetectorWishes, Include, Priority, Request, direction_of};
use crate::domain::span::OffsetUnit;

/// What to judge, for whom, and how. Exactly one of `content` and `messages`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OrchestrateRequest)]
pub struct OrchestrateRequest {
    /// The tenant; optional, and must agree with the credential's.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9_-]{0,63}$")]
    pub tenant_id: Option<String>,
    /// A text, or parts.
    #[schema(value_type = Option<ContentSchema>)]
    pub content: Option<WireContent>,
    /// A conversation; the last message is judged unless `judge` says `all`.
    #[serde(default, deserialize_with = "strict::list")]
    #[schema(value_type = Option<Vec<WireMessage>>)]
    pub messages: Option<Vec<Object<WireMessage>>>,
    /// Tools offered to the model, as the chat APIs write them.
    #[serde(default)]
    #[schema(value_type = Vec<serde_json::Value>)]
    pub tools: Vec<Value>,
    /// Which way the content flows; by default `input`, with messages from the last role.
    #[schema(value_type = Option<String>)]
    pub direction: Option<Direction>,
    /// With messages: judge the `last` (default) or `all`.
    #[schema(value_type = Option<String>)]
    pub judge: Option<Judge>,
    /// Sent to detectors that need it, never judged.
    #[serde(default)]
    #[schema(value_type = WireContext)]
    pub context: Object<WireContext>,
    /// Kind of content: text (default), document, code or image.
    #[serde(default, rename = "type")]
    #[schema(value_type = String)]
    pub content_type: ContentType,
    /// The policy that decides; by default the tenant's.
    pub policy: Option<String>,
    /// An event whose strategy names more detectors.
    pub event: Option<String>,
    /// BCP 47 language of the content, where known.
    pub language: Option<String>,
    /// Contexts, for policies.
    #[serde(default)]
    pub contexts: Vec<String>,
    /// Wishes about detectors. What loosens the policy needs the right to, and is named in `relaxed`.
    #[serde(default)]
    #[schema(value_type = WireWishes)]
    pub detectors: Object<WireWishes>,
    /// Unit of the spans in the answer.
    #[serde(default)]
    #[schema(value_type = String)]
    pub offsets: OffsetUnit,
    /// How redacted text is replaced; by default as the tenant says.
    #[serde(default)]
    #[schema(value_type = WireRedaction)]
    pub redaction: Object<WireRedaction>,
    /// low, normal (default), high or critical.
    #[schema(value_type = Option<String>)]
    pub priority: Option<WirePriority>,
    /// Deadline of the whole request in milliseconds; clamped to 10..300000.
    pub timeout_ms: Option<u64>,
    /// Anything policies and detectors may read; at most 16 KB as JSON.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub metadata: Map<Value>,
    /// Optional parts of the answer.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub include: Vec<Include>,
    /// Reserved; must be absent.
    #[schema(value_type = Option<Object>)]
    pub stream: Option<Value>,
}

/// How redacted text is replaced.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Redaction)]
pub struct WireRedaction {
    /// label (`[EMAIL]`), numbered (`[EMAIL_1]`, with the way back in `redactions`), mask
    /// (`******`), hash (`[EMAIL:9f86d081]`) or preserve (one `*` per character).
    #[schema(value_type = Option<String>)]
    pub style: Option<Style>,
}

/// Priorities a caller may name.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WirePriority {
    /// When there is room.
    Low,
    /// As usual.
    Normal,
    /// Soon.
    High,
    /// First.
    Critical,
}

/// Wishes about detectors.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DetectorWishes)]
pub struct WireWishes {
    /// Ask only these.
    #[serde(default)]
    pub only: Vec<String>,
    /// Ask and require these too.
    #[serde(default)]
    pub add: Vec<String>,
    /// Do not ask these.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Category or `*` → 0..1.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub thresholds: Map<f64>,
    /// Detector → parameters.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub params: Map<Value>,
}

/// Context that nobody judges.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Context)]
pub struct WireContext {
    /// The prompt that led to the content.
    pub prompt: Option<String>,
    /// Documents it should rest on.
    #[serde(default)]
    pub documents: Vec<String>,
}

/// Sizes a request must keep.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Code points of all judged text together.
    pub content_chars_max: usize,
}

/// Bytes of `metadata` as JSON.
const METADATA_BYTES_MAX: usize = 16 * 1024;
/// Entries of any list or map of `detectors`.
const WISHES_MAX: usize = 100;
/// Faults that one answer names.
const FAULTS_MAX: usize = 100;
/// Characters of short texts such as an event.
const WORD_CHARS_MAX: usize = 128;

impl OrchestrateRequest {
    /// Parses a body.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        strict::parse(body)
    }

    /// A request that holds `text` and nothing else.
    pub fn of_text(text: &str) -> Self {
        Self {
            tenant_id: None,
            content: Some(WireContent::Text(text.into())),
            messages: None,
            tools: Vec::new(),
            direction: None,
            judge: None,
            context: Object::default(),
            content_type: ContentType::Text,
            policy: None,
            event: None,
            language: None,
            contexts: Vec::new(),
            detectors: Object::default(),
            offsets: OffsetUnit::Codepoint,
            redaction: Object::default(),
            priority: None,
            timeout_ms: None,
            metadata: Map::default(),
            include: Vec::new(),
            stream: None,
        }
    }

    /// Checks everything and names every fault at once.
    pub fn into_domain(
        self,
        id: RequestId,
        tenant: TenantId,
        bounds: Bounds,
    ) -> Result<Request, Error> {
        let mut faults = Faults::default();
        self.check_words(&mut faults);
        let metadata = self.metadata.0.into_iter().map(|(k, v)| (k, v.0)).collect();
        faults.check_metadata(&metadata);
        let priority = priority_of(self.priority, &metadata);
        let detectors = self.detectors.0.into_domain(&mut faults);
        let policy = self.policy.and_then(|raw| {
            BundleName::parse(&raw)
                .map_err(|error| faults.add("/policy", "invalid_name", error.to_string()))
                .ok()
        });
        let body = body_of(self.content, self.messages, &mut faults);
        let judge = self.judge.unwrap_or_default();
        let context =
            Context { prompt: self.context.0.prompt, documents: self.context.0.documents };
        if let Some(body) = &body {
            faults.check_body(body, judge, bounds);
        }
        faults.into_result()?;
        let Some(body) = body else {
            return Err(Error::new(Code::InvalidRequest, "the request holds nothing to judge"));
        };
        let direction = self.direction.unwrap_or_else(|| match &body {
            Body::Messages(messages) => messages.last().map(direction_of).unwrap_or_default(),
            Body::Content(_) => Direction::Input,
        });
        Ok(Request {
            id,
            tenant,
            body,
            tools: self.tools.into_iter().map(|tool| tool.0).collect(),
            direction,
            judge,
            context,
            content_type: self.content_type,
            policy,
            event: self.event,
            language: self.language,
            contexts: self.contexts,
            detectors,
            offsets: self.offsets,
            redaction: self.redaction.0.style,
            priority,
            timeout_ms: self.timeout_ms.map(|ms| ms.clamp(10, 300_000)),
            metadata,
            include: self.include,
            no_store: false,
            again: false,
            trace: None,
            gather: None,
        })
    }

    /// What it holds to judge.
    pub fn into_body(self) -> Option<Body> {
        body_of(self.content, self.messages, &mut Faults::default())
    }

    fn check_words(&self, faults: &mut Faults) {
        if self.stream.is_some() {
            faults.add("/stream", "reserved", "`stream` is reserved; leave it out".into());
        }
        for (pointer, word) in [("/event", &self.event), ("/language", &self.language)] {
            if let Some(word) = word {
                faults.check_word(pointer, word);
            }
        }
        for (index, context) in self.contexts.iter().enumerate() {
            faults.check_word(&format!("/contexts/{index}"), context);
        }
        for (pointer, entries) in [
            ("/contexts", self.contexts.len()),
            ("/tools", self.tools.len()),
            ("/context/documents", self.context.0.documents.len()),
        ] {
            if entries > ENTRIES_MAX {
                let detail = format!("holds {entries} entries; send at most {ENTRIES_MAX}");
                faults.add(pointer, "too_long", detail);
            }
        }
    }
}

fn priority_of(
    named: Option<WirePriority>,
    metadata: &serde_json::Map<String, serde_json::Value>,
) -> Priority {
    match named {
        Some(WirePriority::Low) => Priority::Low,
        Some(WirePriority::Normal) => Priority::Normal,
        Some(WirePriority::High) => Priority::High,
        Some(WirePriority::Critical) => Priority::Critical,
        None => match metadata.get("workload").and_then(serde_json::Value::as_str) {
            Some("inference") => Priority::High,
            Some("training") => Priority::Low,
            Some("background") => Priority::Batch,
            _ => Priority::Normal,
        },
    }
}

fn body_of(
    content: Option<WireContent>,
    messages: Option<Vec<Object<WireMessage>>>,
    faults: &mut Faults,
) -> Option<Body> {
    match (content, messages) {
        (Some(content), None) => Some(Body::Content(content.into_domain())),
        (None, Some(messages)) => Some(Body::Messages(
            messages.into_iter().map(|message| message.0.into_domain()).collect(),
        )),
        (Some(_), Some(_)) => {
            let detail = "send either `content` or `messages`, not both";
            faults.add("/messages", "ambiguous", detail.into());
            None
        }
        (None, None) => {
            let detail = r#"send `content` (a text) or `messages`; the smallest request is {"content": "…"}"#;
            faults.add("/content", "missing_field", detail.into());
            None
        }
    }
}

impl WireWishes {
    fn into_domain(self, faults: &mut Faults) -> DetectorWishes {
        for (pointer, entries) in [
            ("/detectors/only", self.only.len()),
            ("/detectors/add", self.add.len()),
            ("/detectors/exclude", self.exclude.len()),
            ("/detectors/thresholds", self.thresholds.0.len()),
            ("/detectors/params", self.params.0.len()),
        ] {
            if entries > WISHES_MAX {
                let detail = format!("holds {entries} entries; send at most {WISHES_MAX}");
                faults.add(pointer, "too_long", detail);
                return DetectorWishes::default();
            }
        }
        let mut names = |list: Vec<String>, pointer: &str| {
            list.iter()
                .enumerate()
                .filter_map(|(index, raw)| faults.detector(&format!("{pointer}/{index}"), raw))
                .collect::<Vec<_>>()
        };
        let only = names(self.only, "/detectors/only");
        let add = names(self.add, "/detectors/add");
        let exclude = names(self.exclude, "/detectors/exclude");
        for (category, threshold) in &self.thresholds.0 {
            let pointer = format!("/detectors/thresholds/{category}");
            if category != "*"
                && let Err(error) = Category::parse(category)
            {
                faults.add(&pointer, "unknown_category", error.to_string());
            }
            if !(0.0..=1.0).contains(threshold) {
                let detail = format!("{threshold} is no threshold; send 0 to 1");
                faults.add(&pointer, "out_of_range", detail);
            }
        }
        let params = self
            .params
            .0
            .into_iter()
            .filter_map(|(raw, value)| {
                let name = faults.detector(&format!("/detectors/params/{raw}"), &raw)?;
                Some((name, value.0))
            })
            .collect();
        DetectorWishes { only, add, exclude, thresholds: self.thresholds.0, params }
    }
}

/// Collects every fault before answering.
#[derive(Default)]
struct Faults(Vec<FieldFault>);

impl Faults {
    fn add(&mut self, pointer: &str, code: &'static str, detail: String) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(FieldFault { pointer: pointer.into(), detail, code, place: None });
        }
    }

    fn detector(&mut self, pointer: &str, raw: &str) -> Option<DetectorName> {
        DetectorName::parse(raw)
            .map_err(|error| self.add(pointer, "invalid_name", error.to_string()))
            .ok()
    }

    fn check_word(&mut self, pointer: &str, word: &str) {
        if word.is_empty() || word.chars().count() > WORD_CHARS_MAX {
            let detail = format!("must hold 1 to {WORD_CHARS_MAX} characters");
            self.add(pointer, "out_of_range", detail);
        } else if word.chars().any(char::is_control) {
            self.add(pointer, "control_character", "holds a control character; remove it".into());
        }
    }

    fn check_metadata(&mut self, metadata: &serde_json::Map<String, serde_json::Value>) {
        if metadata.is_empty() {
            return;
        }
        let bytes = serde_json::to_vec(metadata).map_or(usize::MAX, |json| json.len());
        if bytes > METADATA_BYTES_MAX {
            let detail = format!("holds {bytes} bytes as JSON; send at most {METADATA_BYTES_MAX}");
            self.add("/metadata", "too_long", detail);
        }
    }

    /// Nothing judges identifiers, so nothing else may hide in them.
    fn check_identifiers(&mut self, messages: &[Message]) {
        for (index, message) in messages.iter().enumerate() {
            let at = format!("/messages/{index}");
            if let Some(id) = &message.tool_call_id {
                self.check_identifier(&format!("{at}/tool_call_id"), id);
            }
            for (call, tool) in message.tool_calls.iter().enumerate() {
                let at = format!("{at}/tool_calls/{call}");
                self.check_identifier(&format!("{at}/id"), &tool.id);
                self.check_identifier(&format!("{at}/function/name"), &tool.function.name);
            }
        }
    }

    fn check_identifier(&mut self, pointer: &str, raw: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
        if raw.len() > WORD_CHARS_MAX || !raw.chars().all(plain) {
            let detail = format!(
                "is no identifier; send at most {WORD_CHARS_MAX} of the characters A-Z a-z 0-9 _ - . : /"
            );
            self.add(pointer, "invalid_name", detail);
        }
    }

    fn check_body(&mut self, body: &Body, judge: Judge, bounds: Bounds) {
        if let Body::Messages(messages) = body {
            self.check_identifiers(messages);
        }
        let pieces = body.pieces(judge, ContentType::Text);
        let pointer = format!("/{}", body.field());
        if pieces.is_empty() {
            let detail = match body {
                Body::Messages(messages) if messages.is_empty() => {
                    "holds no message; send at least one"
                }
                Body::Messages(_) => "the judged message holds nothing to judge",
                Body::Content(_) => "holds no part; send at least one",
            };
            self.add(&pointer, "empty", detail.into());
        }
        if pieces.len() > ENTRIES_MAX {
            let detail = format!("holds {} parts; send at most {ENTRIES_MAX}", pieces.len());
            self.add(&pointer, "too_long", detail);
        }
        for piece in &pieces {
            if piece.text.as_ref().is_some_and(|text| text.is_empty()) {
                self.add(&piece.pointer, "empty", "is empty; send at least one character".into());
            }
        }
        let chars: usize = pieces.iter().map(|piece| piece.chars).sum();
        if chars > bounds.content_chars_max {
            let most = bounds.content_chars_max;
            let detail = format!("holds {chars} characters; send at most {most}, or split it");
            self.add(&pointer, "too_long", detail);
        }
    }

    fn into_result(self) -> Result<(), Error> {
        let Some(first) = self.0.first() else { return Ok(()) };
        let place = if first.pointer.is_empty() { "the body" } else { &first.pointer };
        let message = match self.0.len() {
            1 => format!("{place}: {}", first.detail),
            n => format!("{place}: {} (and {} more)", first.detail, n - 1),
        };
        Err(Error { details: self.0, ..Error::new(Code::InvalidRequest, message) })
    }
}
