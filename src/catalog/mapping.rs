//! How to speak to a JSON service: what is sent, and what its reply means.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::template::{Slot, Template, TemplateFault, fixed};
use crate::domain::content::Direction;
use crate::domain::span::OffsetUnit;

/// Everything that one detector file says about speaking, protocol `http` or a preset.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// The protocol's name in the file.
    pub protocol: &'static str,
    /// The first one for the request's direction is made.
    pub exchanges: Vec<Exchange>,
    /// Extra request headers.
    pub headers: BTreeMap<String, String>,
    /// The status by which the service says that it took too long.
    pub timeout_status: Option<u16>,
    /// For signatures of AWS.
    pub signing: Option<Signing>,
}

/// What a signature of AWS names beside the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// The service.
    pub service: String,
    /// The region; `None` takes the host's.
    pub region: Option<String>,
}

/// One kind of call.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// Directions it serves; empty means all.
    pub directions: BTreeSet<Direction>,
    /// Appended to the endpoint; may hold a query.
    pub path: String,
    /// Most texts per call, for a list.
    pub batch: Option<NonZeroUsize>,
    /// The body.
    pub request: Template,
    /// The reply.
    pub response: ResponseMapping,
}

/// How many texts one call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// One.
    Each,
    /// A list, answered by a list.
    List,
    /// The whole conversation.
    Whole,
}

/// An exchange as written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RawExchange {
    /// Options it belongs to: name → value.
    pub(super) when: BTreeMap<String, String>,
    pub(super) directions: BTreeSet<Direction>,
    pub(super) path: String,
    pub(super) batch: Option<NonZeroUsize>,
    pub(super) request: Value,
    pub(super) response: ResponseMapping,
}

/// How to read a reply. Paths are dotted keys and indexes, `a.b.0`; empty is the value itself; `*`
/// is every element of a list or every value of an object. What a path of a reader does not find
/// breaks the reply, unless the path ends in `?`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResponseMapping {
    /// Paths that make a 200 a failure where one holds something truthy.
    #[serde(deserialize_with = "one_or_many")]
    pub error_when: Vec<String>,
    /// Paths that must hold something, or the reply is no answer.
    #[serde(deserialize_with = "one_or_many")]
    pub require: Vec<String>,
    /// A missing list means clean; an empty one always does.
    pub ok_when_empty: bool,
    /// The list that has one entry for each text sent, in order.
    pub lists: Option<String>,
    /// How much of the text the service judged.
    pub coverage: Option<Coverage>,
    /// What is read from the reply, or from each entry of `lists`.
    pub findings: Vec<Reader>,
}

/// Paths to the characters judged and sent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// Judged.
    pub judged: String,
    /// Sent, as the service counts.
    pub total: String,
}

/// Reads one kind of finding; paths are relative to an item unless said otherwise.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reader {
    /// The findings: a list, or a value that is one itself. Relative to the reply or the entry.
    pub items: String,
    /// An item that is a list counts as its elements.
    pub nested: bool,
    /// The label; `=literal`; `@key`, the key that the last `*` stepped through.
    pub label: String,
    /// The score: a path, `=0.9`, or empty for 1.
    pub score: String,
    /// How the raw score becomes 0..=1.
    pub score_transform: ScoreTransform,
    /// The reply's own category; may be `=literal`.
    pub category: String,
    /// The reply's own severity: low, medium, high or critical, or a number 0..=7.
    pub severity: String,
    /// First position.
    pub start: String,
    /// One past the last position.
    pub end: String,
    /// Unit of the positions.
    pub offset_unit: OffsetUnit,
    /// Index of the message that the positions are about.
    pub message: String,
    /// The item counts only then: `path`, `!path`, `path=value` or `path!=value`.
    pub when: String,
    /// Truthy lifts the score to 0.5 at least; relative to the item, else to where `items` begins;
    /// may end in `@key`. Beside no finding of 0.5 it is one itself.
    pub flag: String,
    /// Counts only where the readers before it found nothing of 0.5 at least.
    pub fallback: bool,
    /// Is about the context, not about the judged text: without place.
    pub context: bool,
}

/// How the raw score becomes 0..=1.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreTransform {
    /// As it is.
    #[default]
    Identity,
    /// 1 − s.
    Invert,
    /// 0..100 → s/100.
    Percent,
    /// −1..1; below 0 is 0.
    Risk,
    /// 0..7 → s/7.
    Severity,
    /// true → 1, false → 0.
    Bool,
    /// By name.
    Enum(BTreeMap<String, f64>),
}

/// When an item counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition<'a> {
    /// What is looked at; `?` at its end where it may be absent.
    pub path: &'a str,
    /// What it must hold; `None` asks for a truth.
    pub value: Option<&'a str>,
    /// Whether that must be so, or must not.
    pub wanted: bool,
}

impl Reader {
    /// The meaning of `when`; `None` where it is empty.
    pub fn condition(&self) -> Option<Condition<'_>> {
        let when = self.when.as_str();
        let of = |path, value, wanted| Some(Condition { path, value, wanted });
        match (when.strip_prefix('!'), when.split_once("!="), when.split_once('=')) {
            _ if when.is_empty() => None,
            (Some(path), ..) => of(path, None, false),
            (None, Some((path, value)), _) => of(path, Some(value), false),
            (None, None, Some((path, value))) => of(path, Some(value), true),
            (None, None, None) => of(when, None, true),
        }
    }
}

impl Mapping {
    /// The exchange for `direction`.
    pub fn exchange(&self, direction: Direction) -> Option<&Exchange> {
        self.exchanges.iter().find(|exchange| {
            exchange.directions.is_empty() || exchange.directions.contains(&direction)
        })
    }
}

impl Exchange {
    /// How many texts one call is about.
    pub fn grain(&self) -> Grain {
        if self.response.lists.is_some() {
            return Grain::List;
        }
        let slots = || self.request.fills().into_iter().flat_map(|fill| &fill.ways);
        let texts = slots().any(|slot| matches!(slot, Slot::Content | Slot::Contents));
        if !texts && slots().any(|slot| *slot == Slot::Messages) {
            Grain::Whole
        } else {
            Grain::Each
        }
    }
}

impl RawExchange {
    /// With the options put in.
    pub(super) fn compile(&self, options: &Map<String, Value>) -> Result<Exchange, TemplateFault> {
        let under = |step: &str| {
            let step = step.to_owned();
            move |fault: TemplateFault| TemplateFault {
                pointer: format!("/{step}{}", fault.pointer),
                ..fault
            }
        };
        let request = Template::parse(&self.request, options).map_err(under("request"))?;
        if !request.fills().iter().any(|fill| fill.is_judged()) {
            return Err(TemplateFault {
                pointer: "/request".to_owned(),
                message: "the request never sends what is to be judged".to_owned(),
                hint: "put {{content}}, {{contents}} or {{messages}} into a value".to_owned(),
            });
        }
        let lists = request.fills().iter().any(|fill| fill.ways.contains(&Slot::Contents));
        if self.response.lists.is_some() && !lists {
            return Err(TemplateFault {
                pointer: "/response/lists".to_owned(),
                message: "`lists` needs a request that sends {{contents}}".to_owned(),
                hint: "send {{contents}} or remove `lists`".to_owned(),
            });
        }
        Ok(Exchange {
            directions: self.directions.clone(),
            path: fixed(&self.path, options, percent).map_err(under("path"))?,
            batch: self.batch,
            request,
            response: self.response.clone(),
        })
    }

    /// Whether it is meant for `options`.
    pub(super) fn fits(&self, options: &Map<String, Value>) -> bool {
        self.when
            .iter()
            .all(|(name, value)| options.get(name).and_then(Value::as_str) == Some(value.as_str()))
    }
}

/// All but the unreserved characters of RFC 3986 as `%XX`.
pub(super) fn percent(raw: &str) -> String {
    raw.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(raw: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a path or a list of paths")]
    enum Paths {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Paths::deserialize(raw)? {
        Paths::One(path) if path.is_empty() => Vec::new(),
        Paths::One(path) => vec![path],
        Paths::Many(paths) => paths,
    })
}
