//! Redaction inside JSON text: valid before, valid after.
//!
//! Inside a string the span grows to whole escape sequences and to whole graphemes of what the
//! string says; a number, `true`, `false` or `null` becomes a string; structure stays. Keys of one
//! object stay apart.

use std::collections::{HashMap, HashSet};

use serde::de::IgnoredAny;
use unicode_segmentation::UnicodeSegmentation as _;

use super::atoms::{Atom, Growth};
use super::edits::Draft;
use super::placeholder::Placeholders;
use crate::domain::overlap::{self, Mark, Rule};
use crate::domain::span::Span;

#[cfg(test)]
mod tests;

/// Whether `text` is one JSON value; of any depth.
pub(super) fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// What the strings and keys of valid JSON say.
pub(super) fn strings(json: &str) -> impl Iterator<Item = String> {
    let spoken = |token: &Token| token.kind != Kind::Scalar;
    let tokens = tokens(json).into_iter().filter(spoken);
    tokens.map(move |token| decoded(slice(json, token.bytes)))
}

/// Puts a placeholder in the place of each span of code points of valid JSON.
pub(super) fn redact(
    (json, draft): (&str, &mut Draft<'_>),
    marks: Vec<Mark<'_>>,
    rule: &Rule,
    placeholders: &mut Placeholders<'_>,
) {
    let tokens = tokens(json);
    let disjoint = overlap::resolve(marks, rule);
    let mut growth = Growth::of(&disjoint);
    for (index, token) in tokens.iter().enumerate() {
        token.atoms(index, json, |atom| growth.touch(atom));
    }
    let grown = overlap::resolve(growth.finish(), rule);
    let mut keys = Keys::untouched(json, &tokens, &grown);
    let mut coming = grown.iter().peekable();
    for token in &tokens {
        let Span { start, end } = token.bytes;
        if coming.peek().is_none_or(|mark| mark.span.start >= end) {
            continue;
        }
        let begun = draft.keep_to(start);
        while let Some(mark) = coming.next_if(|mark| mark.span.start < end) {
            let mut placeholder = String::new();
            placeholders.put(mark.label, &decoded(slice(json, mark.span)), &mut placeholder);
            let put = escaped(&placeholder);
            let quote = if token.kind == Kind::Scalar { "\"" } else { "" };
            draft.replace(mark.span, |out| out.extend([quote, &put, quote]));
        }
        draft.keep_to(end);
        if let Kind::Key { object } = token.kind
            && let Some(suffix) = keys.suffix(object, draft.since(begun))
        {
            draft.replace(Span { start: end, end }, |out| out.push_str(&suffix));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A number, `true`, `false` or `null`.
    Scalar,
    /// A string that is a value.
    Text,
    /// A string that is a key of the numbered object.
    Key { object: usize },
}

/// A string without its quotes, or a scalar.
#[derive(Debug)]
struct Token {
    bytes: Span,
    /// Code point of its start.
    point: usize,
    kind: Kind,
}

/// The strings and scalars of valid JSON, in order.
fn tokens(json: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut open = Vec::new();
    let mut objects = 0;
    let mut chars = json.char_indices().enumerate().peekable();
    while let Some((point, (start, c))) = chars.next() {
        match c {
            '"' => {
                let mut end = start + 1;
                while let Some((_, (at, inner))) = chars.next() {
                    end = at;
                    match inner {
                        '"' => break,
                        '\\' => drop(chars.next()),
                        _ => {}
                    }
                }
                let bytes = Span { start: start + 1, end };
                tokens.push(Token { bytes, point: point + 1, kind: Kind::Text });
            }
            '{' => {
                open.push(objects);
                objects += 1;
            }
            '}' => drop(open.pop()),
            ':' => {
                if let (Some(key), Some(object)) = (tokens.last_mut(), open.last()) {
                    key.kind = Kind::Key { object: *object };
                }
            }
            '[' | ']' | ',' | ' ' | '\t' | '\n' | '\r' => {}
            _ => {
                let mut end = start + c.len_utf8();
                let inside = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                while chars.next_if(|(_, (_, c))| inside(*c)).is_some() {
                    end += 1;
                }
                tokens.push(Token { bytes: Span { start, end }, point, kind: Kind::Scalar });
            }
        }
    }
    tokens
}

impl Token {
    fn atoms(&self, index: usize, json: &str, mut each: impl FnMut(Atom)) {
        let raw = slice(json, self.bytes);
        let (mut byte, mut point) = (self.bytes.start, self.point);
        let mut atom = |bytes: usize, points: usize| {
            let (first_byte, first_point) = (byte, point);
            byte += bytes;
            point += points;
            each(Atom {
                points: Span { start: first_point, end: point },
                bytes: Span { start: first_byte, end: byte },
                token: index,
            });
        };
        if self.kind == Kind::Scalar {
            return atom(raw.len(), raw.len());
        }
        if !raw.contains('\\') {
            return raw.graphemes(true).for_each(|g| atom(g.len(), g.chars().count()));
        }
        let mut units = Units(raw);
        for grapheme in decoded(raw).graphemes(true) {
            let own = units.by_ref().take(grapheme.chars().count());
            let (bytes, points) =
                own.fold((0, 0), |sum, unit| (sum.0 + unit.bytes, sum.1 + unit.points));
            atom(bytes, points);
        }
    }
}

/// One character that a JSON string says, and how much text it takes.
struct Unit {
    said: char,
    bytes: usize,
    points: usize,
}

/// The units of a string's inside.
struct Units<'a>(&'a str);

impl Iterator for Units<'_> {
    type Item = Unit;

    fn next(&mut self) -> Option<Unit> {
        let mut chars = self.0.chars();
        let first = chars.next()?;
        let (said, bytes) = match (first, chars.next()) {
            ('\\', Some('u')) => unicode(self.0),
            ('\\', Some('n')) => ('\n', 2),
            ('\\', Some('r')) => ('\r', 2),
            ('\\', Some('t')) => ('\t', 2),
            ('\\', Some('b')) => ('\u{8}', 2),
            ('\\', Some('f')) => ('\u{c}', 2),
            ('\\', Some(other)) => (other, 1 + other.len_utf8()),
            _ => (first, first.len_utf8()),
        };
        // Escape sequences are ASCII.
        let points = if first == '\\' { bytes } else { 1 };
        self.0 = self.0.get(bytes..).unwrap_or_default();
        Some(Unit { said, bytes, points })
    }
}

/// `\uXXXX`, or two of them that make a surrogate pair; a lone surrogate says U+FFFD.
fn unicode(escape: &str) -> (char, usize) {
    let code = |at| escape.get(at..at + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let low = if escape.get(6..8) == Some("\\u") { code(8) } else { None };
    let (code, bytes) = match (code(2), low) {
        (Some(high @ 0xD800..=0xDBFF), Some(low @ 0xDC00..=0xDFFF)) => {
            (0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00), 12)
        }
        (high, _) => (high.unwrap_or(0xD800), 6),
    };
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), bytes)
}

/// The keys of every object, to keep them apart.
struct Keys {
    taken: HashSet<(usize, String)>,
    /// How often a key has been asked for.
    asked: HashMap<(usize, String), usize>,
}

impl Keys {
    /// The keys that no replacement touches.
    fn untouched(json: &str, tokens: &[Token], grown: &[Mark<'_>]) -> Self {
        let touched = |token: &Token| {
            let next = grown.partition_point(|c| c.span.end <= token.bytes.start);
            grown.get(next).is_some_and(|c| c.span.start < token.bytes.end)
        };
        let taken = tokens.iter().filter(|token| !touched(token)).filter_map(|token| {
            let Kind::Key { object } = token.kind else { return None };
            Some((object, decoded(slice(json, token.bytes))))
        });
        Self { taken: taken.collect(), asked: HashMap::new() }
    }

    /// `_2`, `_3` and so on for the inside of a key that says what another key says.
    fn suffix(&mut self, object: usize, raw: &str) -> Option<String> {
        let said = decoded(raw);
        let asked = self.asked.entry((object, said.clone())).or_insert(0);
        loop {
            *asked += 1;
            let suffix = (*asked > 1).then(|| format!("_{asked}"));
            let key = format!("{said}{}", suffix.as_deref().unwrap_or_default());
            if self.taken.insert((object, key)) {
                return suffix;
            }
        }
    }
}

/// What the inside of a JSON string says.
pub(super) fn decoded(raw: &str) -> String {
    Units(raw).map(|unit| unit.said).collect()
}

/// The inside of the JSON string that says `text`.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

fn slice(text: &str, bytes: Span) -> &str {
    text.get(bytes.start..bytes.end).unwrap_or_default()
}
