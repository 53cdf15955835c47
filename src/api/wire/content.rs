//! What is judged, as it travels: a text, parts, or messages.

use std::fmt;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use crate::api::strict::{self, Object, Value};
use crate::domain::content::{Content, FunctionCall, Message, Part, Role, ToolCall};

/// A text or parts.
#[derive(Debug)]
pub enum WireContent {
    /// Text.
    Text(Arc<str>),
    /// Parts.
    Parts(Vec<WirePart>),
}

/// How `content` looks in the OpenAPI document.
#[derive(ToSchema)]
#[schema(as = Content)]
#[serde(untagged)]
#[derive(Deserialize)]
pub enum ContentSchema {
    /// Plain text, 1 to 1 000 000 characters.
    Text(String),
    /// Parts.
    Parts(Vec<WirePart>),
}

/// One part of the content.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = Part)]
pub enum WirePart {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// An image by address; never fetched.
    ImageUrl {
        /// As the chat APIs write it.
        #[schema(value_type = serde_json::Value)]
        image_url: Value,
    },
    /// A file; never opened.
    File {
        /// As the chat APIs write it.
        #[schema(value_type = serde_json::Value)]
        file: Value,
    },
}

/// One turn of a conversation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Message)]
pub struct WireMessage {
    /// system, user, assistant or tool.
    #[schema(value_type = String)]
    pub role: Role,
    /// What is said.
    #[serde(default)]
    #[schema(value_type = Option<ContentSchema>)]
    pub content: Option<WireContent>,
    /// The speaker's name.
    pub name: Option<String>,
    /// Calls the model asks for; their arguments are judged as text.
    #[serde(default)]
    #[schema(value_type = Vec<WireToolCall>)]
    pub tool_calls: Vec<Object<WireToolCall>>,
    /// Which call a tool's message answers.
    pub tool_call_id: Option<String>,
}

/// One call of a tool.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ToolCall)]
pub struct WireToolCall {
    /// The call's id.
    pub id: String,
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function.
    #[schema(value_type = WireFunction)]
    pub function: Object<WireFunction>,
}

/// A function and its arguments.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FunctionCall)]
pub struct WireFunction {
    /// Its name.
    pub name: String,
    /// JSON text.
    pub arguments: String,
}

impl<'de> Deserialize<'de> for WireContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = WireContent;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of parts")
            }
            fn visit_str<E>(self, text: &str) -> Result<WireContent, E> {
                Ok(WireContent::Text(text.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<WireContent, A::Error> {
                let parts: Vec<Object<WirePart>> = strict::entries(seq)?;
                Ok(WireContent::Parts(parts.into_iter().map(|part| part.0).collect()))
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

impl WireContent {
    pub(super) fn into_domain(self) -> Content {
        match self {
            WireContent::Text(text) => Content::Text(text),
            WireContent::Parts(parts) => Content::Parts(
                parts
                    .into_iter()
                    .map(|part| match part {
                        WirePart::Text { text } => Part::Text { text: text.into() },
                        WirePart::ImageUrl { image_url } => {
                            Part::ImageUrl { image_url: image_url.0 }
                        }
                        WirePart::File { file } => Part::File { file: file.0 },
                    })
                    .collect(),
            ),
        }
    }
}

impl WireMessage {
    pub(super) fn into_domain(self) -> Message {
        Message {
            role: self.role,
            content: self.content.map(WireContent::into_domain),
            name: self.name.map(Into::into),
            tool_calls: self
                .tool_calls
                .into_iter()
                .map(|call| ToolCall {
                    id: call.0.id,
                    kind: call.0.kind,
                    function: FunctionCall {
                        name: call.0.function.0.name,
                        arguments: call.0.function.0.arguments.into(),
                    },
                })
                .collect(),
            tool_call_id: self.tool_call_id,
        }
    }
}
