//! Half-open ranges of text in Unicode code points, and conversions to and from other units.

use serde::{Deserialize, Serialize};

/// Half-open range `start..end` in Unicode code points of one piece's text; `start < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// First code point.
    pub start: usize,
    /// One past the last code point.
    pub end: usize,
}

/// The unit in which offsets are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OffsetUnit {
    /// Unicode code points.
    #[default]
    Codepoint,
    /// UTF-16 code units, as JavaScript counts.
    Utf16,
    /// UTF-8 bytes.
    Byte,
}

/// Positions of one text in every unit, built once and asked many times.
///
/// ASCII text costs nothing; otherwise one entry per code point is kept.
#[derive(Debug, Clone)]
pub struct Offsets {
    ascii: bool,
    len: usize,
    /// Byte and UTF-16 position of each code point, and of the end; empty when `ascii`.
    points: Vec<(usize, usize)>,
}

impl Offsets {
    /// Indexes `text`.
    pub fn new(text: &str) -> Self {
        if text.is_ascii() {
            return Self { ascii: true, len: text.len(), points: Vec::new() };
        }
        let mut points = Vec::with_capacity(text.len() / 2);
        let (mut byte, mut utf16) = (0, 0);
        for c in text.chars() {
            points.push((byte, utf16));
            byte += c.len_utf8();
            utf16 += c.len_utf16();
        }
        let len = points.len();
        points.push((byte, utf16));
        Self { ascii: false, len, points }
    }

    /// Length of the text in code points.
    pub fn chars(&self) -> usize {
        self.len
    }

    /// The code point that starts at `position` counted in `unit`; `None` when the position lies
    /// outside the text or inside a code point.
    pub fn to_codepoint(&self, position: usize, unit: OffsetUnit) -> Option<usize> {
        if self.ascii || unit == OffsetUnit::Codepoint {
            return (position <= self.len).then_some(position);
        }
        self.points
            .binary_search_by_key(&position, |&(byte, utf16)| match unit {
                OffsetUnit::Codepoint | OffsetUnit::Byte => byte,
                OffsetUnit::Utf16 => utf16,
            })
            .ok()
    }

    /// The position, counted in `unit`, of code point `point`; the end for anything beyond.
    pub fn from_codepoint(&self, point: usize, unit: OffsetUnit) -> usize {
        let point = point.min(self.len);
        if self.ascii || unit == OffsetUnit::Codepoint {
            return point;
        }
        let (byte, utf16) = self.points.get(point).copied().unwrap_or_default();
        match unit {
            OffsetUnit::Codepoint => point,
            OffsetUnit::Byte => byte,
            OffsetUnit::Utf16 => utf16,
        }
    }

    /// A span given in `unit` as code points; `None` unless it is non-empty and inside the text.
    pub fn to_span(&self, start: usize, end: usize, unit: OffsetUnit) -> Option<Span> {
        let span =
            Span { start: self.to_codepoint(start, unit)?, end: self.to_codepoint(end, unit)? };
        (span.start < span.end).then_some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_position_inside_a_character_is_refused() {
        let offsets = Offsets::new("a😀b");
        assert_eq!(offsets.to_codepoint(5, OffsetUnit::Byte), Some(2));
        assert_eq!(offsets.to_codepoint(3, OffsetUnit::Byte), None);
        assert_eq!(offsets.to_codepoint(3, OffsetUnit::Utf16), Some(2));
        assert_eq!(offsets.to_codepoint(2, OffsetUnit::Utf16), None);
        assert_eq!(offsets.to_span(1, 1, OffsetUnit::Byte), None);
    }

    proptest! {
        #[test]
        fn every_unit_comes_back(text in "\\PC{0,40}", at in 0usize..41) {
            let offsets = Offsets::new(&text);
            let at = at.min(offsets.chars());
            for unit in [OffsetUnit::Byte, OffsetUnit::Utf16, OffsetUnit::Codepoint] {
                let there = offsets.from_codepoint(at, unit);
                prop_assert_eq!(offsets.to_codepoint(there, unit), Some(at));
            }
        }
    }
}
