//! What a redaction takes whole or leaves whole, and how spans grow to it.

use crate::domain::overlap::Mark;
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
    coming: &'c [Mark<'a>],
    grown: Vec<Mark<'a>>,
    /// The token up to which the first coming mark has grown.
    open: Option<usize>,
}

impl<'c, 'a> Growth<'c, 'a> {
    pub(super) fn of(disjoint: &'c [Mark<'a>]) -> Self {
        Self { coming: disjoint, grown: Vec::with_capacity(disjoint.len()), open: None }
    }

    /// Atoms come in order; a constant cost for each and for each mark.
    pub(super) fn touch(&mut self, atom: Atom) {
        while let [mark, after @ ..] = self.coming {
            if atom.points.end <= mark.span.start {
                return;
            }
            if atom.points.start < mark.span.end {
                match self.grown.last_mut() {
                    Some(last) if self.open == Some(atom.token) => last.span.end = atom.bytes.end,
                    _ => self.grown.push(Mark { span: atom.bytes, ..*mark }),
                }
                self.open = Some(atom.token);
            }
            if atom.points.end < mark.span.end {
                return;
            }
            // The next mark may start in the same atom.
            self.coming = after;
            self.open = None;
        }
    }

    /// What touched no atom is left out.
    pub(super) fn finish(self) -> Vec<Mark<'a>> {
        self.grown
    }
}
