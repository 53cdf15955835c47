//! What is judged: a text, parts, or a conversation, and the pieces detectors are asked about.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The body of a request in the shape it was sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Body {
    /// `content`: a text or parts.
    Content(Content),
    /// `messages`: a conversation.
    Messages(Vec<Message>),
}

/// A text or a list of parts.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(Arc<str>),
    /// Parts of several kinds.
    Parts(Vec<Part>),
}

/// One part.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: Arc<str>,
    },
    /// An image by address; never fetched.
    ImageUrl {
        /// The object as sent.
        image_url: serde_json::Value,
    },
    /// A file; never opened.
    File {
        /// The object as sent.
        file: serde_json::Value,
    },
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The operator's instructions.
    System,
    /// A person.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

impl Role {
    /// The name in the API and in Rego.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// One turn of a conversation, in the shape of the chat APIs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; may be absent beside tool calls.
    pub content: Option<Content>,
    /// The speaker's name; judged as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Calls the model asks for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool's message answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolCall {
    /// The call's id.
    pub id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which function with which arguments.
    pub function: FunctionCall,
}

/// A function and its arguments.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FunctionCall {
    /// The function; a plain identifier, so nothing judges it.
    pub name: String,
    /// JSON text, judged as text.
    pub arguments: Arc<str>,
}

/// Which way the content flows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards the model.
    #[default]
    Input,
    /// From the model.
    Output,
    /// The model calls a tool.
    ToolCall,
    /// A tool answers.
    ToolResult,
    /// Retrieved documents.
    Retrieval,
}

impl Direction {
    /// The name in the API and in Rego.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Input => "input",
            Direction::Output => "output",
            Direction::ToolCall => "tool_call",
            Direction::ToolResult => "tool_result",
            Direction::Retrieval => "retrieval",
        }
    }
}

/// What kind of content it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ContentType {
    /// Prose, chat, mail.
    #[default]
    Text,
    /// A document.
    Document,
    /// Source code.
    Code,
    /// An image.
    Image,
}

impl ContentType {
    /// The name in the API and in Rego.
    pub fn name(self) -> &'static str {
        match self {
            ContentType::Text => "text",
            ContentType::Document => "document",
            ContentType::Code => "code",
            ContentType::Image => "image",
        }
    }
}

/// Which messages are judged; the others are context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// The last message only.
    #[default]
    Last,
    /// All of them.
    All,
}

/// One thing to be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// JSON pointer into the request, such as `/messages/2/content`.
    pub pointer: Arc<str>,
    /// What kind it is.
    pub content_type: ContentType,
    /// The text; `None` for an image or a file, which no text detector can judge.
    pub text: Option<Arc<str>>,
    /// Length in code points; 1 where there is no text, so that it weighs in coverage.
    pub chars: usize,
}

impl Body {
    /// The field of the request that holds it: `content` or `messages`.
    pub fn field(&self) -> &'static str {
        match self {
            Body::Content(_) => "content",
            Body::Messages(_) => "messages",
        }
    }

    /// The pieces to be judged, in the order they stand in the request.
    pub fn pieces(&self, judge: Judge, content_type: ContentType) -> Vec<Piece> {
        let mut pieces = Vec::new();
        match self {
            Body::Content(content) => content.pieces("/content", content_type, &mut pieces),
            Body::Messages(messages) => {
                let first = match judge {
                    Judge::Last => messages.len().saturating_sub(1),
                    Judge::All => 0,
                };
                for (index, message) in messages.iter().enumerate().skip(first) {
                    message.pieces(index, content_type, &mut pieces);
                }
            }
        }
        pieces
    }

    /// A copy in which `replace(pointer)` stands in the place of each text it answers for.
    pub fn with_texts(&self, replace: &dyn Fn(&str) -> Option<Arc<str>>) -> Body {
        match self {
            Body::Content(content) => Body::Content(content.with_texts("/content", replace)),
            Body::Messages(messages) => Body::Messages(
                messages.iter().enumerate().map(|(i, m)| m.with_texts(i, replace)).collect(),
            ),
        }
    }
}

impl Content {
    fn pieces(&self, pointer: &str, content_type: ContentType, into: &mut Vec<Piece>) {
        match self {
            Content::Text(text) => into.push(Piece::text(pointer.into(), content_type, text)),
            Content::Parts(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    into.push(match part {
                        Part::Text { text } => {
                            Piece::text(format!("{pointer}/{index}/text"), content_type, text)
                        }
                        Part::ImageUrl { .. } => {
                            Piece::opaque(format!("{pointer}/{index}"), ContentType::Image)
                        }
                        Part::File { .. } => {
                            Piece::opaque(format!("{pointer}/{index}"), ContentType::Document)
                        }
                    });
                }
            }
        }
    }

    fn with_texts(&self, pointer: &str, replace: &dyn Fn(&str) -> Option<Arc<str>>) -> Content {
        match self {
            Content::Text(text) => {
                Content::Text(replace(pointer).unwrap_or_else(|| Arc::clone(text)))
            }
            Content::Parts(parts) => Content::Parts(
                parts
                    .iter()
                    .enumerate()
                    .map(|(index, part)| match part {
                        Part::Text { text } => Part::Text {
                            text: replace(&format!("{pointer}/{index}/text"))
                                .unwrap_or_else(|| Arc::clone(text)),
                        },
                        Part::ImageUrl { .. } | Part::File { .. } => part.clone(),
                    })
                    .collect(),
            ),
        }
    }
}

impl Message {
    fn pieces(&self, index: usize, content_type: ContentType, into: &mut Vec<Piece>) {
        if let Some(name) = &self.name {
            let pointer = format!("/messages/{index}/name");
            into.push(Piece::text(pointer, ContentType::Text, name));
        }
        if let Some(content) = &self.content {
            content.pieces(&format!("/messages/{index}/content"), content_type, into);
        }
        for (call, tool) in self.tool_calls.iter().enumerate() {
            let pointer = format!("/messages/{index}/tool_calls/{call}/function/arguments");
            into.push(Piece::text(pointer, content_type, &tool.function.arguments));
        }
    }

    fn with_texts(&self, index: usize, replace: &dyn Fn(&str) -> Option<Arc<str>>) -> Message {
        let mut message = self.clone();
        if let Some(name) = replace(&format!("/messages/{index}/name")) {
            message.name = Some(name);
        }
        message.content = self
            .content
            .as_ref()
            .map(|content| content.with_texts(&format!("/messages/{index}/content"), replace));
        for (call, tool) in message.tool_calls.iter_mut().enumerate() {
            let pointer = format!("/messages/{index}/tool_calls/{call}/function/arguments");
            if let Some(text) = replace(&pointer) {
                tool.function.arguments = text;
            }
        }
        message
    }
}

impl Piece {
    fn text(pointer: String, content_type: ContentType, text: &Arc<str>) -> Piece {
        Piece {
            pointer: pointer.into(),
            content_type,
            chars: text.chars().count(),
            text: Some(Arc::clone(text)),
        }
    }

    fn opaque(pointer: String, content_type: ContentType) -> Piece {
        Piece { pointer: pointer.into(), content_type, chars: 1, text: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat() -> Body {
        let say = |role, text: &str| Message {
            role,
            content: Some(Content::Text(text.into())),
            name: None,
            tool_calls: vec![],
            tool_call_id: None,
        };
        let mut last = say(Role::Assistant, "ok");
        last.content = None;
        last.tool_calls = vec![ToolCall {
            id: "1".into(),
            kind: "function".into(),
            function: FunctionCall { name: "mail".into(), arguments: "{\"to\":\"a@b.io\"}".into() },
        }];
        Body::Messages(vec![say(Role::User, "hello"), last])
    }

    #[test]
    fn only_the_last_message_is_judged_unless_all_are_asked_for() {
        let pointers = |judge| {
            chat()
                .pieces(judge, ContentType::Text)
                .into_iter()
                .map(|p| p.pointer)
                .collect::<Vec<_>>()
        };
        let arguments: Arc<str> = "/messages/1/tool_calls/0/function/arguments".into();
        assert_eq!(pointers(Judge::Last), std::slice::from_ref(&arguments));
        assert_eq!(pointers(Judge::All), ["/messages/0/content".into(), arguments]);
    }

    #[test]
    fn replaced_texts_keep_the_shape() {
        let body =
            chat().with_texts(&|pointer| (pointer == "/messages/0/content").then(|| "x".into()));
        let Body::Messages(messages) = body else { panic!("shape changed") };
        assert_eq!(messages[0].content, Some(Content::Text("x".into())));
        assert_eq!(messages[1].tool_calls[0].function.arguments.as_ref(), "{\"to\":\"a@b.io\"}");
    }
}
