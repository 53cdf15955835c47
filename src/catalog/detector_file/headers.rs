//! Which headers a detector file may set.

use crate::catalog::template::TemplateFault;

/// The connection's own; the client sets them.
const RESERVED: [&str; 10] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Whether the header is not for credentials to fill.
pub(in crate::catalog) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || ["content-type", "x-request-id", "traceparent"].contains(&name)
}

/// Why `name: value` cannot be sent.
pub(super) fn fault(name: &str, value: &str) -> Option<TemplateFault> {
    let told = |message: &str, hint: &str| {
        let (message, hint) = (message.to_owned(), hint.to_owned());
        Some(TemplateFault { pointer: String::new(), message, hint })
    };
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) {
        return told("this header belongs to the connection", "remove it");
    }
    if CREDENTIALS.contains(&lower.as_str()) {
        return told("a credential has no place in a file", "remove it and use `auth`");
    }
    if http::HeaderName::try_from(name).is_err() {
        return told("this is no name of a header", "use letters, digits and hyphens");
    }
    if http::HeaderValue::from_str(value).is_err() {
        return told("the value of a header is one line", "remove the control characters");
    }
    None
}
