//! Fills request templates with what the request holds.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::catalog::detector::{Bit, Fill, Slot, Template};
use crate::detect::excerpt::{Excerpt, Texts};
use crate::domain::content::{Body, Content, Direction, Message, Part, Role};
use crate::domain::request::Request;

/// What templates are filled with.
pub(super) struct Filling<'a> {
    pub(super) texts: &'a Texts<'a>,
    pub(super) batch: &'a [Excerpt<'a>],
    pub(super) params: &'a Value,
    pub(super) id: &'a str,
}

impl Filling<'_> {
    /// The template with every placeholder replaced; what is filled in is never read again.
    pub(super) fn fill(&self, template: &Template) -> Value {
        match template {
            Template::Literal(value) => value.clone(),
            Template::Whole(fill) => self.first(fill).unwrap_or_default(),
            Template::Text(bits) => {
                bits.iter().map(|bit| self.text(bit)).collect::<String>().into()
            }
            Template::List(items) => items.iter().map(|item| self.fill(item)).collect(),
            Template::Map(map) => {
                let entry = |(key, template): &(String, Template)| match template {
                    Template::Whole(fill) if fill.drop => Some((key.clone(), self.first(fill)?)),
                    Template::Literal(_)
                    | Template::Whole(_)
                    | Template::Text(_)
                    | Template::List(_)
                    | Template::Map(_) => Some((key.clone(), self.fill(template))),
                };
                Value::Object(map.iter().filter_map(entry).collect())
            }
        }
    }

    fn text(&self, bit: &Bit) -> String {
        match bit {
            Bit::Literal(text) => text.clone(),
            Bit::Fill(fill) => match self.first(fill) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text,
                Some(
                    value
                    @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)),
                ) => value.to_string(),
            },
        }
    }

    fn first(&self, fill: &Fill) -> Option<Value> {
        fill.ways.iter().find_map(|slot| self.value(slot))
    }

    fn value(&self, slot: &Slot) -> Option<Value> {
        let request = self.texts.work.request;
        match slot {
            Slot::Content => self.batch.first().map(|excerpt| excerpt.text().into()),
            Slot::Contents => Some(self.batch.iter().map(Excerpt::text).collect()),
            Slot::ContentType => {
                let piece = self.batch.first().and_then(|e| self.texts.work.pieces.get(e.piece));
                Some(piece.map_or(request.content_type, |piece| piece.content_type).name().into())
            }
            Slot::Direction => Some(request.direction.name().into()),
            Slot::Documents => {
                let documents = &request.context.documents;
                (!documents.is_empty()).then(|| documents.as_slice().into())
            }
            Slot::Language => request.language.as_deref().map(Value::from),
            Slot::LanguagePrimary => {
                let language = request.language.as_deref()?;
                language.split(['-', '_']).next().map(|tag| tag.to_ascii_lowercase().into())
            }
            Slot::Messages => Some(self.messages()),
            Slot::Metadata => Some(Value::Object(request.metadata.clone())),
            Slot::Params => Some(match self.params {
                Value::Object(_) => self.params.clone(),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_) => Value::Object(Map::new()),
            }),
            Slot::Param(key) => self.params.get(key).filter(|value| !value.is_null()).cloned(),
            Slot::Prompt => prompt(request).map(Value::from),
            Slot::RequestId => Some(self.id.into()),
            Slot::Tenant => Some(request.tenant.as_str().into()),
            Slot::Tools => (!request.tools.is_empty()).then(|| request.tools.as_slice().into()),
            Slot::Literal(text) => Some(text.as_str().into()),
        }
    }

    /// The conversation as sent, with the call's texts in their places.
    fn messages(&self) -> Value {
        let (request, pieces) = (self.texts.work.request, self.texts.work.pieces);
        let replace = |pointer: &str| {
            let here = |excerpt: &&Excerpt<'_>| {
                pieces.get(excerpt.piece).is_some_and(|piece| &*piece.pointer == pointer)
            };
            self.batch.iter().find(here).map(|excerpt| Arc::from(excerpt.text()))
        };
        match request.body.with_texts(&replace) {
            Body::Messages(messages) => json!(messages),
            Body::Content(content) => {
                json!([{"role": role(request.direction), "content": content}])
            }
        }
    }
}

/// Who says a content that flows that way.
fn role(direction: Direction) -> Role {
    match direction {
        Direction::Input | Direction::Retrieval => Role::User,
        Direction::Output | Direction::ToolCall => Role::Assistant,
        Direction::ToolResult => Role::Tool,
    }
}

/// What led to the content: the caller's prompt, else the last user message before the last.
pub(super) fn prompt(request: &Request) -> Option<String> {
    if let Some(prompt) = &request.context.prompt {
        return Some(prompt.clone());
    }
    let Body::Messages(messages) = &request.body else { return None };
    let (_, earlier) = messages.split_last()?;
    earlier.iter().rev().find(|message| message.role == Role::User).map(words)
}

fn words(message: &Message) -> String {
    match &message.content {
        None => String::new(),
        Some(Content::Text(text)) => text.to_string(),
        Some(Content::Parts(parts)) => {
            let texts = parts.iter().filter_map(|part| match part {
                Part::Text { text } => Some(&**text),
                Part::ImageUrl { .. } | Part::File { .. } => None,
            });
            texts.collect::<Vec<_>>().join("\n")
        }
    }
}
