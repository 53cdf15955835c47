//! Units of offsets by definition: the position of a code point is the length of all before it.

use detector_orchestrator::domain::span::{OffsetUnit, Span};

pub const UNITS: [OffsetUnit; 3] = [OffsetUnit::Codepoint, OffsetUnit::Utf16, OffsetUnit::Byte];

/// Length of `text` counted in `unit`.
pub fn length(text: &str, unit: OffsetUnit) -> usize {
    match unit {
        OffsetUnit::Codepoint => text.chars().count(),
        OffsetUnit::Utf16 => text.encode_utf16().count(),
        OffsetUnit::Byte => text.len(),
    }
}

/// Where code point `point` starts, counted in `unit`; the end for anything beyond.
pub fn position(text: &str, point: usize, unit: OffsetUnit) -> usize {
    let before: String = text.chars().take(point).collect();
    length(&before, unit)
}

/// The code point that starts at `position`, or the end; `None` inside one and outside the text.
pub fn codepoint(text: &str, at: usize, unit: OffsetUnit) -> Option<usize> {
    (0..=text.chars().count()).find(|point| position(text, *point, unit) == at)
}

/// A span given in `unit`, as code points.
pub fn span(text: &str, start: usize, end: usize, unit: OffsetUnit) -> Option<Span> {
    let span = Span { start: codepoint(text, start, unit)?, end: codepoint(text, end, unit)? };
    (span.start < span.end).then_some(span)
}
