//! Replaces found spans by what may stand in their place.
//!
//! It never cuts a grapheme, never leaves a part of an overlapping or nested span, never puts two
//! originals under one numbered placeholder, and never makes a tool's arguments cease to be JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation as _;

use super::content::{Body, ContentType, Judge, Piece};
use super::judgement::JudgedFinding;
use super::overlap::{self, Mark, Rule};
use super::span::Span;
use atoms::{Atom, Growth};
use edits::Draft;

mod atoms;
mod edits;
mod json;
mod placeholder;
#[cfg(test)]
mod tests;

pub use edits::Edits;
pub use placeholder::Placeholders;

/// What stands in the place of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// `[EMAIL]`.
    #[default]
    Label,
    /// `[EMAIL_1]`: within one answer equal originals of equal label share a number.
    Numbered,
    /// `******`, whatever the length.
    Mask,
    /// `[EMAIL:9f86d081]`: 8 hexadecimal digits of a keyed hash of the original.
    Hash,
    /// One `*` for each code point; white space stays.
    Preserve,
}

impl Style {
    /// The names in the API and in tenant files.
    pub const NAMES: [&'static str; 5] = ["label", "numbered", "mask", "hash", "preserve"];
}

/// How to redact.
#[derive(Clone, Copy)]
pub struct How<'a> {
    /// What stands in the place of a span.
    pub style: Style,
    /// Whose label stands for overlapping spans.
    pub rule: &'a Rule,
    /// A keyed hash; asked under [`Style::Hash`] only.
    pub hash: &'a dyn Fn(&str) -> [u8; 32],
    /// Whether it is to be done again on the same body: then [`Redacted::edits`] says how.
    pub again: bool,
}

/// A redacted body, and the way back. For the caller only: never logged, recorded or counted.
#[derive(Clone, PartialEq)]
pub struct Redacted {
    /// The body in the shape it was sent.
    pub body: Body,
    /// Under [`Style::Numbered`]: placeholder → original.
    pub originals: Option<BTreeMap<String, String>>,
    /// How to do it again, where [`How::again`] asks.
    pub edits: Option<Edits>,
}

impl std::fmt::Debug for Redacted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redacted")
    }
}

/// A copy of `body` in which each of `pieces` is redacted; findings without a span are ignored.
pub fn redact_body<'a>(
    body: &Body,
    pieces: &[Piece],
    findings: impl IntoIterator<Item = &'a JudgedFinding>,
    how: How<'_>,
) -> Redacted {
    let mut by_piece: BTreeMap<usize, Vec<Mark<'a>>> = BTreeMap::new();
    for finding in findings {
        if let Some((piece, mark)) = mark_of(finding) {
            by_piece.entry(piece).or_default().push(mark);
        }
    }
    let mut placeholders = Placeholders::new(how.style, how.hash);
    if how.style == Style::Numbered {
        for piece in body.pieces(Judge::All, ContentType::Text) {
            let text = piece.text.as_deref().unwrap_or_default();
            placeholders.avoid(text);
            if is_arguments(&piece) && json::is_valid(text) {
                json::strings(text).for_each(|decoded| placeholders.avoid(&decoded));
            }
        }
    }
    let mut texts: BTreeMap<&str, Arc<str>> = BTreeMap::new();
    let mut edits = how.again.then(|| Edits::new(how.style == Style::Numbered));
    for (index, marks) in by_piece {
        let Some(piece) = pieces.get(index) else { continue };
        let Some(text) = piece.text.as_deref() else { continue };
        let mut draft = if how.again { Draft::remembering(text) } else { Draft::of(text) };
        if is_arguments(piece) && json::is_valid(text) {
            json::redact((text, &mut draft), marks, how.rule, &mut placeholders);
        } else {
            replace((text, &mut draft), marks, how.rule, &mut placeholders);
        }
        let (redacted, made) = draft.finish();
        texts.insert(&piece.pointer, redacted.into());
        if let (Some(edits), Some(made)) = (&mut edits, made) {
            edits.insert(&piece.pointer, made);
        }
    }
    let body = body.with_texts(&|pointer| texts.get(pointer).cloned());
    Redacted { body, originals: placeholders.into_originals(), edits }
}

/// A copy of `text` in which a placeholder stands for each span.
///
/// Spans count code points and grow to whole graphemes. Spans that then overlap are replaced once,
/// by the label that `rule` chooses. Touching spans stay apart. What lies outside the text is
/// ignored. Linear in the text, n log n in the spans.
pub fn redact(
    text: &str,
    marks: Vec<Mark<'_>>,
    rule: &Rule,
    placeholders: &mut Placeholders<'_>,
) -> String {
    let mut draft = Draft::of(text);
    replace((text, &mut draft), marks, rule, placeholders);
    draft.finish().0
}

fn replace(
    (text, draft): (&str, &mut Draft<'_>),
    marks: Vec<Mark<'_>>,
    rule: &Rule,
    placeholders: &mut Placeholders<'_>,
) {
    let disjoint = overlap::resolve(marks, rule);
    for mark in &overlap::resolve(grown(text, &disjoint), rule) {
        let original = text.get(mark.span.start..mark.span.end).unwrap_or_default();
        draft.replace(mark.span, |out| placeholders.put(mark.label, original, out));
    }
}

/// Spans of code points as spans of bytes that hold whole graphemes.
fn grown<'a>(text: &str, disjoint: &[Mark<'a>]) -> Vec<Mark<'a>> {
    let mut growth = Growth::of(disjoint);
    let (mut byte, mut point) = (0, 0);
    for grapheme in text.graphemes(true) {
        let (first_byte, first_point) = (byte, point);
        byte += grapheme.len();
        point += grapheme.chars().count();
        growth.touch(Atom {
            points: Span { start: first_point, end: point },
            bytes: Span { start: first_byte, end: byte },
            token: 0,
        });
    }
    growth.finish()
}

fn mark_of(finding: &JudgedFinding) -> Option<(usize, Mark<'_>)> {
    let place = finding.place?;
    let mark = Mark {
        span: place.span?,
        label: &finding.label,
        category: finding.category.as_str(),
        score: finding.score,
        severity: finding.severity,
    };
    Some((place.piece, mark))
}

/// Whether the piece holds a tool's arguments, which the tool reads as JSON.
fn is_arguments(piece: &Piece) -> bool {
    piece.pointer.ends_with("/function/arguments")
}
