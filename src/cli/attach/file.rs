//! The proposed detector file as YAML that says why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::keys::Guess;
use super::labels::Row;

/// How the secret travels.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    /// `None` is a bearer token.
    pub(super) header: Option<String>,
    /// The environment variable.
    pub(super) variable: String,
}

/// How the service is spoken to.
#[derive(Debug, Clone)]
pub(super) enum Speech {
    /// By a protocol of ours, with its options as YAML.
    Known { protocol: &'static str, options: Option<String> },
    /// By a mapping.
    Mapped { request: String, general: Vec<Guess>, readers: Vec<Vec<Guess>> },
}

/// A detector file in the making.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) endpoint: String,
    pub(super) credential: Option<Credential>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) speech: Speech,
    pub(super) labels: Vec<Row>,
    pub(super) categories: BTreeSet<String>,
    /// Whether the service answers at its health path.
    pub(super) healthy: bool,
    /// Production wants to know who answers for it.
    pub(super) governed: bool,
}

impl Draft {
    /// The whole file.
    pub(super) fn render(&self) -> String {
        let mut out = String::from(
            "# Proposed by `orchestrator detectors probe`: check what stands behind each #.\n",
        );
        let protocol = match &self.speech {
            Speech::Known { protocol, .. } => protocol,
            Speech::Mapped { .. } => "http",
        };
        let _ = writeln!(out, "name: {}\nprotocol: {protocol}", scalar(&self.name));
        let _ = writeln!(out, "endpoint: {}", scalar(&self.endpoint));
        let own = format!("other.{}", self.name);
        let categories: Vec<&str> = match self.categories.is_empty() {
            true => vec![&own],
            false => self.categories.iter().map(String::as_str).collect(),
        };
        let what = "what it was seen to find; add what else it can find";
        line(&mut out, 0, "categories", &format!("[{}]", categories.join(", ")), what);
        if let Some(Credential { header, variable }) = &self.credential {
            let kind = match header {
                Some(header) => format!("type: api_key, header: {}", scalar(header)),
                None => "type: bearer".to_owned(),
            };
            line(&mut out, 0, "auth", &format!("{{{kind}, env: {}}}", scalar(variable)), "");
        }
        if !self.healthy {
            line(&mut out, 0, "health", "{path: \"\"}", "nothing answers at /health");
        }
        if self.governed {
            out.push_str(
                "# Production wants to know these; fill them in.\n\
                 description: \"\"\nowner: unknown\nrisk: high\ncontexts: {allowed: []}\nsafety: {}\n",
            );
        }
        self.speech(&mut out);
        if !self.labels.is_empty() {
            out.push_str(
                "labels:  # those seen; a label that is not here counts as the first category\n",
            );
        }
        for row in &self.labels {
            line(&mut out, 2, &scalar(&row.label), &row.meaning, &row.why);
        }
        out
    }

    fn speech(&self, out: &mut String) {
        let (request, general, readers) = match &self.speech {
            Speech::Known { options, .. } => {
                if let Some(options) = options {
                    line(out, 0, "options", options, "");
                }
                return;
            }
            Speech::Mapped { request, general, readers } => (request, general, readers),
        };
        if !self.headers.is_empty() {
            out.push_str("headers:\n");
        }
        for (name, value) in &self.headers {
            line(out, 2, &scalar(name), &scalar(value), "");
        }
        line(out, 0, "request", request, "");
        if general.is_empty() && readers.is_empty() {
            out.push_str("response: {label: \"\"}\n");
            return;
        }
        out.push_str("response:\n");
        for Guess { key, value, why } in general {
            line(out, 2, key, value, why);
        }
        if let [only] = &readers[..] {
            for Guess { key, value, why } in only {
                line(out, 2, key, value, why);
            }
            return;
        }
        out.push_str("  findings:\n");
        for reader in readers {
            for (index, Guess { key, value, why }) in reader.iter().enumerate() {
                let key = format!("{}{key}", if index == 0 { "- " } else { "  " });
                line(out, 4, &key, value, why);
            }
        }
    }
}

fn line(out: &mut String, indent: usize, key: &str, value: &str, why: &str) {
    let comment = if why.is_empty() { String::new() } else { format!("  # {why}") };
    let _ = writeln!(out, "{:indent$}{key}: {value}{comment}", "");
}

/// The text as a YAML scalar: plain where nobody can misread it.
pub(super) fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/".contains(c));
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if plain && !word { text.to_owned() } else { escaped(text) }
}

/// The text in quotes, for people: at most 40 characters.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    let rest = if short.len() < text.len() { "…" } else { "" };
    format!("{}{rest}", escaped(&short))
}

/// JSON's way of quoting, with every character escaped that controls a terminal or the order of
/// writing.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    visible(&quoted)
}

/// Characters that nobody sees as `\u` escapes.
pub(super) fn visible(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        let unseen = c != '\n' && c.is_control()
            || matches!(c, '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{FEFF}');
        if unseen {
            let _ = write!(out, "\\u{:04X}", u32::from(c));
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_reply_can_end_a_scalar_or_turn_the_writing() {
        for text in ["a: b", "x\ny: z", "# c", "yes", "1e5", "{", "", "\u{202e}evil", "\u{7}"] {
            let written = scalar(text);
            assert!(written.starts_with('"') && written.ends_with('"'), "{written}");
            assert!(!written.contains(['\n', '\u{202e}', '\u{7}']), "{written}");
        }
        assert_eq!(scalar("EMAIL_ADDR"), "EMAIL_ADDR");
    }
}
