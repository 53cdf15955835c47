//! The bytes that a record commits to: the `content` or the `messages` of a request in the canonical
//! form of RFC 8785, without what says nothing: a message's keys that are null, an empty list of
//! tool calls.

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::domain::content::{Body, Content, Message, ToolCall};
use crate::domain::digest::Digest;
use crate::seal::{Salt, SealError};

/// Commits to what was received.
///
/// # Errors
/// When it has no canonical form, which no valid request lacks.
pub fn commit(salt: &Salt, body: &Body) -> Result<Digest, SealError> {
    match body {
        Body::Content(content) => salt.commit(content),
        Body::Messages(messages) => salt.commit(&Messages(messages)),
    }
}

/// The same of `content` or `messages` as a caller keeps them.
///
/// # Errors
/// As [`commit`].
pub fn commit_json(salt: &Salt, mut received: Value) -> Result<Digest, SealError> {
    let messages = received.as_array_mut().into_iter().flatten();
    for message in messages.filter_map(Value::as_object_mut) {
        let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        message.retain(|key, value| !(value.is_null() || key == "tool_calls" && empty(value)));
    }
    salt.commit(&received)
}

struct Messages<'a>(&'a [Message]);

#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "<[ToolCall]>::is_empty")]
    tool_calls: &'a [ToolCall],
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|message| Said {
            role: message.role.name(),
            content: message.content.as_ref(),
            name: message.name.as_deref(),
            tool_calls: &message.tool_calls,
            tool_call_id: message.tool_call_id.as_deref(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::content::{FunctionCall, Part, Role};
    use serde_json::json;

    fn check(body: &Body, received: Value) {
        let salt = Salt::random().unwrap();
        let committed = commit(&salt, body).unwrap();
        assert_eq!(committed, commit_json(&salt, received.clone()).unwrap(), "{received}");
        assert_ne!(committed, commit_json(&salt, json!("other")).unwrap());
    }

    #[test]
    fn a_caller_commits_to_what_it_sent_however_it_was_spelt() {
        check(
            &Body::Content(Content::Text("Mail ana@evil.io\n".into())),
            json!("Mail ana@evil.io\n"),
        );
        let image = json!({"url": "https://a/b", "detail": 1.0});
        let parts = vec![Part::Text { text: "ä".into() }, Part::ImageUrl { image_url: image }];
        let sent = json!([{"text": "ä", "type": "text"},
            {"type": "image_url", "image_url": {"detail": 1, "url": "https://a/b"}}]);
        check(&Body::Content(Content::Parts(parts)), sent);
        let function = FunctionCall { name: "f".into(), arguments: "{}".into() };
        let call = ToolCall { id: "1".into(), kind: "function".into(), function };
        let said = |content: Option<&str>, tool_calls| Message {
            role: Role::Assistant,
            content: content.map(|text| Content::Text(text.into())),
            name: None,
            tool_calls,
            tool_call_id: None,
        };
        let messages = Body::Messages(vec![said(Some("x"), vec![]), said(None, vec![call])]);
        let calls =
            json!([{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
        check(
            &messages,
            json!([{"role": "assistant", "content": "x"},
            {"role": "assistant", "tool_calls": calls}]),
        );
        check(
            &messages,
            json!([{"role": "assistant", "content": "x", "tool_calls": [], "name": null},
            {"role": "assistant", "content": null, "tool_calls": calls}]),
        );
    }
}
