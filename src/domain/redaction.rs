//! Replaces found spans by their labels.
//!
//! It never cuts a grapheme and never leaves a part of an overlapping or nested span.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use unicode_segmentation::UnicodeSegmentation as _;

use super::content::{Body, Piece};
use super::finding::Place;
use super::span::Span;

#[cfg(test)]
mod tests;

/// A copy of `text` in which `[label]` stands for each span.
///
/// Spans grow to whole graphemes. Spans that then overlap are replaced once, by the label of the
/// longest, of equals the first. Touching spans stay apart. What lies outside the text is ignored.
/// Linear in the text, n log n in the spans.
pub fn redact(text: &str, spans: &[(Span, &str)]) -> String {
    let mut sorted: Vec<&(Span, &str)> =
        spans.iter().filter(|(span, _)| span.start < span.end).collect();
    sorted.sort_by_key(|(span, _)| (span.start, Reverse(span.end)));
    let mut coming = sorted.into_iter().peekable();
    let mut out = String::with_capacity(text.len());
    let mut open: Option<Cover> = None;
    let mut point = 0;
    for grapheme in text.graphemes(true) {
        point += grapheme.chars().count();
        while let Some((span, label)) = coming.next_if(|(span, _)| span.start < point) {
            open = Some(Cover::with(open, *span, label));
        }
        match open.take() {
            None => out.push_str(grapheme),
            Some(cover) if cover.end <= point => cover.close(&mut out),
            still_open => open = still_open,
        }
    }
    if let Some(cover) = open {
        cover.close(&mut out);
    }
    out
}

/// A copy of `body` in which each of its pieces is redacted; places without a span are ignored.
pub fn redact_body<'a>(
    body: &Body,
    pieces: &[Piece],
    findings: impl IntoIterator<Item = (&'a Place, &'a str)>,
) -> Body {
    let mut by_piece: BTreeMap<usize, Vec<(Span, &str)>> = BTreeMap::new();
    for (place, label) in findings {
        if let Some(span) = place.span {
            by_piece.entry(place.piece).or_default().push((span, label));
        }
    }
    let redacted = by_piece.into_iter().filter_map(|(index, spans)| {
        let piece = pieces.get(index)?;
        let text: Arc<str> = redact(piece.text.as_deref()?, &spans).into();
        Some((piece.pointer.as_ref(), text))
    });
    let by_pointer: BTreeMap<&str, Arc<str>> = redacted.collect();
    body.with_texts(&|pointer| by_pointer.get(pointer).cloned())
}

/// Overlapping spans that are being left out.
struct Cover<'a> {
    end: usize,
    longest: usize,
    label: &'a str,
}

impl<'a> Cover<'a> {
    fn with(open: Option<Cover<'a>>, span: Span, label: &'a str) -> Cover<'a> {
        let next = Cover { end: span.end, longest: span.end - span.start, label };
        match open {
            Some(cover) if cover.longest >= next.longest => {
                Cover { end: cover.end.max(next.end), ..cover }
            }
            Some(cover) => Cover { end: cover.end.max(next.end), ..next },
            None => next,
        }
    }

    fn close(&self, out: &mut String) {
        out.push('[');
        out.push_str(self.label);
        out.push(']');
    }
}
