//! Compatibility-normalised, case-folded text that knows where each byte came from.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// Folded text. ASCII is only lower-cased, so its bytes stay where they are.
pub(super) struct Folded {
    pub(super) text: String,
    /// For each folded byte, the raw range that became it; empty for ASCII.
    from: Vec<(usize, usize)>,
}

impl Folded {
    pub(super) fn new(raw: &str) -> Self {
        if raw.is_ascii() {
            return Self { text: raw.to_ascii_lowercase(), from: Vec::new() };
        }
        Self::mapped(raw, |cluster, text| text.extend(fold(cluster)))
    }

    /// The text with `map` applied to each character and the marks that follow it; `map` leaves
    /// ASCII as it is.
    pub(super) fn mapped(raw: &str, map: impl Fn(&str, &mut String)) -> Self {
        if raw.is_ascii() {
            return Self { text: raw.to_owned(), from: Vec::new() };
        }
        let (mut text, mut from) =
            (String::with_capacity(raw.len()), Vec::with_capacity(raw.len()));
        let mut start = 0;
        while start < raw.len() {
            let rest = raw.get(start..).unwrap_or_default();
            let end = rest.char_indices().skip(1).find(|(_, c)| !continues(*c));
            let end = start + end.map_or(rest.len(), |(at, _)| at);
            map(raw.get(start..end).unwrap_or_default(), &mut text);
            from.resize(text.len(), (start, end));
            start = end;
        }
        Self { text, from }
    }

    /// The raw bytes behind the folded bytes `start..end`, whole characters.
    pub(super) fn raw(&self, start: usize, end: usize) -> (usize, usize) {
        match (self.from.get(start), self.from.get(end.saturating_sub(1))) {
            (Some((first, _)), Some((_, last))) => (*first, *last),
            _ => (start, end),
        }
    }
}

/// The text as it is compared: NFKC, upper and lower case alike, `ß` as `ss`.
pub(super) fn fold(raw: &str) -> impl Iterator<Item = char> + '_ {
    raw.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc()
}

/// Whether a character may melt into the one before it.
fn continues(c: char) -> bool {
    is_combining_mark(c) || matches!(c, '\u{1160}'..='\u{11FF}' | '\u{FF9E}' | '\u{FF9F}')
}
