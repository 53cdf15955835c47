//! What a redaction takes whole or leaves whole, and how spans grow to it.

use unicode_segmentation::UnicodeSegmentation as _;

use crate::domain::overlap::Candidate;
use crate::domain::span::Span;

/// An indivisible piece of text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Atom {
    /// In code points.
    pub(super) points: Span,
    /// The same in bytes.
    pub(super) bytes: Span,
    /// Replacements never reach over the border of two tokens.
    pub(super) token: usize,
}

/// The graphemes of a text of one token.
pub(super) fn graphemes(text: &str) -> impl Iterator<Item = Atom> {
    let mut point = 0;
    text.grapheme_indices(true).map(move |(byte, grapheme)| {
        let start = point;
        point += grapheme.chars().count();
        Atom {
            points: Span { start, end: point },
            bytes: Span { start: byte, end: byte + grapheme.len() },
            token: 0,
        }
    })
}

/// Spans of code points, disjoint and in order, as spans of bytes that hold every atom they touch:
/// one for each token. What touches no atom is left out. Linear.
pub(super) fn grow<'a>(
    disjoint: &[Candidate<'a>],
    mut atoms: impl Iterator<Item = Atom>,
) -> Vec<Candidate<'a>> {
    let mut grown: Vec<Candidate<'a>> = Vec::with_capacity(disjoint.len());
    let mut current = atoms.next();
    for candidate in disjoint {
        let mut open: Option<usize> = None;
        while let Some(atom) = current {
            if candidate.span.end <= atom.points.start {
                break;
            }
            if candidate.span.start < atom.points.end {
                match grown.last_mut() {
                    Some(last) if open == Some(atom.token) => last.span.end = atom.bytes.end,
                    _ => grown.push(Candidate { span: atom.bytes, ..*candidate }),
                }
                open = Some(atom.token);
                if candidate.span.end <= atom.points.end {
                    // The next candidate may start in the same atom.
                    break;
                }
            }
            current = atoms.next();
        }
    }
    grown
}
