//! What a redaction takes whole or leaves whole, and how spans grow to it.

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

/// Spans of code points, disjoint and in order, on their way to spans of bytes that hold every atom
/// they touch: one for each token.
pub(super) struct Growth<'c, 'a> {
    coming: &'c [Candidate<'a>],
    grown: Vec<Candidate<'a>>,
    /// The token up to which the first coming candidate has grown.
    open: Option<usize>,
}

impl<'c, 'a> Growth<'c, 'a> {
    pub(super) fn of(disjoint: &'c [Candidate<'a>]) -> Self {
        Self { coming: disjoint, grown: Vec::with_capacity(disjoint.len()), open: None }
    }

    /// Atoms come in order; a constant cost for each and for each candidate.
    pub(super) fn touch(&mut self, atom: Atom) {
        while let [candidate, after @ ..] = self.coming {
            if atom.points.end <= candidate.span.start {
                return;
            }
            if atom.points.start < candidate.span.end {
                match self.grown.last_mut() {
                    Some(last) if self.open == Some(atom.token) => last.span.end = atom.bytes.end,
                    _ => self.grown.push(Candidate { span: atom.bytes, ..*candidate }),
                }
                self.open = Some(atom.token);
            }
            if atom.points.end < candidate.span.end {
                return;
            }
            // The next candidate may start in the same atom.
            self.coming = after;
            self.open = None;
        }
    }

    /// What touched no atom is left out.
    pub(super) fn finish(self) -> Vec<Candidate<'a>> {
        self.grown
    }
}
