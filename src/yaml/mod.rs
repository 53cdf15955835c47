//! Text to typed value, with positions in every error and budgets against hostile input.
//!
//! A file is read once into a tree of [`Node`]s that know their line and column; typed values are
//! taken out of the tree, so that a fault found later still names its place. Messages name keys
//! and at most 80 characters of a refused value; secrets have no place in these files.

mod decode;
mod duration;
pub mod fault;
mod node;
pub mod words;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use serde::de::DeserializeOwned;

use self::fault::{Fault, FaultKind};

pub use decode::Fields;
pub use duration::Span;
pub use node::{Data, Entry, Node};

/// Largest file read, in bytes.
pub const BYTES_MAX: usize = 1 << 20;

/// Parses `text` into `T`. Unknown keys are named with the nearest known one where `T` denies them.
pub fn parse<T: DeserializeOwned>(
    kind: FaultKind,
    file: &str,
    text: &str,
) -> Result<T, Vec<Fault>> {
    let source = Source { kind, file };
    tree(kind, file, text)?.decode(source).map_err(|fault| vec![fault])
}

/// Parses `text` into a JSON value. Keys are strings; numbers must be finite.
pub fn parse_value(
    kind: FaultKind,
    file: &str,
    text: &str,
) -> Result<serde_json::Value, Vec<Fault>> {
    Ok(tree(kind, file, text)?.to_json())
}

/// Parses `text` into a tree of nodes with positions.
pub fn tree(kind: FaultKind, file: &str, text: &str) -> Result<Node, Vec<Fault>> {
    let source = Source { kind, file };
    let refuse = |line, column, code, message: String, hint: &str| {
        Err(vec![source.fault((line, column), code, message, Some(hint.to_owned()))])
    };
    if text.len() > BYTES_MAX {
        let message = format!("the file has {} bytes, more than {BYTES_MAX}", text.len());
        return refuse(
            0,
            0,
            "too_large",
            message,
            "split the file or remove what it does not need",
        );
    }
    if text.starts_with('\u{feff}') {
        let message = "the file starts with a byte order mark".to_owned();
        return refuse(1, 1, "byte_order_mark", message, "save it as UTF-8 without BOM");
    }
    node::read(text).map_err(|error| vec![syntax(source, text, &error)])
}

/// The text of `bytes`, or the fault that they are no UTF-8.
pub fn text<'a>(kind: FaultKind, file: &str, bytes: &'a [u8]) -> Result<&'a str, Vec<Fault>> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = end(bytes.get(..error.valid_up_to()).unwrap_or_default());
        let hint = Some("save the file as UTF-8".to_owned());
        vec![Source { kind, file }.fault(at, "not_utf8", "the file is not UTF-8".to_owned(), hint)]
    })
}

/// Line and column, from 1, of what follows `bytes`.
pub fn end(bytes: &[u8]) -> (u32, u32) {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let last = bytes.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let column = String::from_utf8_lossy(last).chars().count();
    (lines as u32 + 1, column as u32 + 1)
}

/// The known name nearest to `wrong`, where one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.chars().count() / 4)
        .min()
        .map(|(_, name)| name)
}

/// Which file a fault is in.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The kind of file.
    pub kind: FaultKind,
    /// Its name, as the operator knows it.
    pub file: &'a str,
}

impl Source<'_> {
    /// A fault at (line, column) of the file.
    pub fn fault(
        self,
        (line, column): (u32, u32),
        code: &'static str,
        message: String,
        hint: Option<String>,
    ) -> Fault {
        Fault { kind: self.kind, file: self.file.to_owned(), line, column, code, message, hint }
    }
}

fn syntax(source: Source<'_>, text: &str, error: &serde_saphyr::Error) -> Fault {
    use serde_saphyr::Error as E;
    let error = error.without_snippet();
    let at = error.location().map_or((0, 0), |l| (l.line() as u32, l.column() as u32));
    let error = if let E::AliasError { error, .. } = error { error.as_ref() } else { error };
    let tabbed = (at.0.saturating_sub(2)..at.0).any(|line| {
        text.lines()
            .nth(line as usize)
            .is_some_and(|l| l.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t'))
    });
    #[expect(clippy::wildcard_enum_match_arm, reason = "the crate may add variants")]
    let (code, message, hint) = match error {
        E::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("?");
            (
                "duplicate_key",
                format!("key `{}` is given twice", shown(key)),
                "remove one of the two",
            )
        }
        E::Budget { .. }
        | E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. } => (
            "too_complex",
            "the file nests or repeats more than a configuration file may".to_owned(),
            "write it flatter, without aliases of aliases",
        ),
        E::NonFiniteFloat { value, .. } => (
            "yaml_syntax",
            format!("`{}` is no finite number", shown(value)),
            "write a number, or put text in quotes",
        ),
        E::MultipleDocuments { .. } => (
            "yaml_syntax",
            "the file holds more than one document".to_owned(),
            "keep one document per file and remove the `---` between them",
        ),
        E::RecursiveReferencesRequireWeakTypes { .. } => (
            "yaml_syntax",
            "an alias stands inside the value that it repeats".to_owned(),
            "write that value out instead of `*`",
        ),
        _ if tabbed => ("yaml_syntax", "a tab indents this line".to_owned(), "indent with spaces"),
        other => (
            "yaml_syntax",
            format!("this is not valid YAML: {}", first_line(&other.to_string())),
            "check the indentation, quotes and brackets here",
        ),
    };
    source.fault(at, code, message, Some(hint.to_owned()))
}

fn first_line(message: &str) -> String {
    shown(message.lines().next().unwrap_or_default().trim_start_matches("error: "))
}

/// `raw` cut to 80 characters with control characters escaped.
pub fn shown(raw: &str) -> String {
    raw.chars().take(80).fold(String::new(), |mut out, c| {
        if c.is_control() {
            let _ = write!(out, "{}", c.escape_debug());
        } else {
            out.push(c);
        }
        out
    })
}
