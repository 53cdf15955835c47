//! Envelope WAF: what stands around the content (path, query, headers, ids, metadata) is held
//! against the shapes of known attacks. It never sees content: hostile text is what detectors are for.
//!
//! SQL and script are read by libinjection, the rest by one compiled automaton; both are linear.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;

mod patterns;
#[cfg(test)]
mod tests;

/// What kind of attack a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// SQL injection.
    Sqli,
    /// Script in a page.
    Xss,
    /// A way out of a folder, or to a file of the system.
    Traversal,
    /// A shell command.
    Command,
    /// An LDAP filter.
    Ldap,
    /// An XML entity or an outside document type.
    XmlEntity,
    /// A line break that starts a header.
    Crlf,
}

impl Violation {
    /// Every kind.
    pub const ALL: [Violation; 7] = [
        Violation::Sqli,
        Violation::Xss,
        Violation::Traversal,
        Violation::Command,
        Violation::Ldap,
        Violation::XmlEntity,
        Violation::Crlf,
    ];

    /// What a caller is told.
    pub fn title(self) -> &'static str {
        match self {
            Violation::Sqli => "SQL injection",
            Violation::Xss => "script for a page",
            Violation::Traversal => "path traversal",
            Violation::Command => "a shell command",
            Violation::Ldap => "an LDAP filter",
            Violation::XmlEntity => "an XML entity",
            Violation::Crlf => "a line break in a header",
        }
    }

    /// The label of metrics and the code of the field.
    pub fn name(self) -> &'static str {
        match self {
            Violation::Sqli => "sqli",
            Violation::Xss => "xss",
            Violation::Traversal => "traversal",
            Violation::Command => "command",
            Violation::Ldap => "ldap",
            Violation::XmlEntity => "xml_entity",
            Violation::Crlf => "crlf",
        }
    }
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The path of the address.
    Path,
    /// A name or value of the query.
    Query,
    /// The value of a header.
    Header,
    /// A name that the body carries: tenant, policy, event, language, context, detector, category.
    Id,
    /// A key or text of `metadata`.
    Metadata,
}

impl Place {
    /// For logs and messages.
    pub fn name(self) -> &'static str {
        match self {
            Place::Path => "path",
            Place::Query => "query",
            Place::Header => "header",
            Place::Id => "id",
            Place::Metadata => "metadata",
        }
    }

    /// Texts may hold several lines; everything else is one line.
    fn one_line(self) -> bool {
        match self {
            Place::Path | Place::Query | Place::Header | Place::Id => true,
            Place::Metadata => false,
        }
    }
}

/// How often percent signs are decoded: attackers write `%252e` for proxies that decode once.
const DECODINGS: usize = 2;

/// What `value` looks like; `None` is the usual answer.
pub fn inspect(place: Place, value: &str) -> Option<Violation> {
    let mut text = Cow::Borrowed(value);
    let found = inspect_one(place, &text);
    if found.is_some() {
        return found;
    }
    if place == Place::Query && text.contains('+') {
        text = Cow::Owned(text.replace('+', " "));
    }
    for _ in 0..DECODINGS {
        let decoded = decoded(&text)?;
        let found = inspect_one(place, &decoded);
        if found.is_some() {
            return found;
        }
        text = Cow::Owned(decoded);
    }
    None
}

fn inspect_one(place: Place, text: &str) -> Option<Violation> {
    if place.one_line() && text.bytes().any(|byte| byte == b'\r' || byte == b'\n') {
        return Some(Violation::Crlf);
    }
    patterns::first(text).or_else(|| injection(text))
}

/// libinjection's opinion. Words, numbers, telephone numbers and tokens without a blank or a sign
/// of SQL and HTML cannot be an injection, and are most of what comes.
fn injection(text: &str) -> Option<Violation> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.,:/@+=~%".contains(&byte);
    let dialled = |byte: u8| byte.is_ascii_digit() || b" ()-+./#*".contains(&byte);
    if text.bytes().all(plain) || text.bytes().all(dialled) {
        return None;
    }
    let asked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        if libinjectionrs::detect_xss(text.as_bytes()).is_injection() {
            return Some(Violation::Xss);
        }
        let sqli = speaks_sql(text) && libinjectionrs::detect_sqli(text.as_bytes()).is_injection();
        sqli.then_some(Violation::Sqli)
    }));
    // What makes the reader fall over is not let through unread.
    asked.unwrap_or(Some(Violation::Sqli))
}

/// Whether `text` could leave a string or a number of a query: without a sign of SQL and not
/// beginning as a number, it cannot. The question spares sentences and browsers the slower reader.
fn speaks_sql(text: &str) -> bool {
    let sign = |byte: u8| b"'\"`#=<>|&@!*\\".contains(&byte);
    let begins = |byte: u8| byte.is_ascii_digit() || b"-()+;,".contains(&byte);
    text.bytes().any(sign)
        || text.contains("--")
        || text.trim_start().bytes().next().is_some_and(begins)
}

/// One round of percent-decoding; `None` where nothing changes.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.as_bytes().to_vec();
    let mut changed = false;
    for part in parts {
        let code = part.get(..2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        // `from_str_radix` takes a sign.
        match code.filter(|_| !part.starts_with('+')) {
            Some(code) => {
                out.push(code);
                out.extend_from_slice(part.as_bytes().get(2..).unwrap_or_default());
                changed = true;
            }
            None => {
                out.push(b'%');
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
    changed.then(|| String::from_utf8_lossy(&out).into_owned())
}
