//! Derived forms of a text that undo disguises, with the way back to the raw characters.
//!
//! Pure and linear in the text; a text without a disguise costs one scan and gives no view.

mod blobs;
mod escapes;
mod glyphs;
mod hidden;
mod normal;
mod quoted;
mod rot13;
mod terminal;
mod tokens;

use std::sync::Arc;

use self::normal::Form;
use super::finding::TextView;
use super::span::Span;

#[cfg(test)]
mod tests;

/// Rounds of decoding, so how deep encodings may nest. One round undoes escapes (percent, `\x`,
/// `\u`, HTML entities, quoted-printable), then base64 and hex, then rot13.
pub const DEPTH_MAX: usize = 3;

/// A longer text, in code points, gives no view: the caller splits it first. A view is never
/// longer than twice its text or 64 code points; past that, characters are not expanded.
pub const VIEW_CHARS_MAX: usize = 1_000_000;

/// One derived form of a text, with the way back.
#[derive(Debug, Clone)]
pub struct View {
    /// Which form it is, never `Raw`.
    pub kind: TextView,
    /// The derived text.
    pub text: Arc<str>,
    /// For each code point of `text`, the raw code points it was made from; both ends ascend.
    sources: Vec<(u32, u32)>,
}

/// The views of `raw` among `wanted` that differ from it.
///
/// `Normalized`: NFKC, plain spaces, no invisible characters, no stacked marks, spaced-out words
/// joined, look-alike letters folded; case is kept. `Decoded`: the text in which every plausible
/// encoded region is replaced by what it says, normalised before and after each round; before it,
/// if that is another text, the one in which escapes alone are undone, because a value may itself
/// read as base64. Where a terminal's colour alone parts two words, each also with a gap there,
/// because nobody can say whether they are one. `Raw` in `wanted` is ignored.
pub fn of(raw: &str, wanted: &[TextView]) -> Vec<View> {
    let normalize = wanted.contains(&TextView::Normalized) && normal::may_change(raw);
    let decode = wanted.contains(&TextView::Decoded) && may_decode(raw);
    if !(normalize || decode) || raw.chars().nth(VIEW_CHARS_MAX).is_some() {
        return Vec::new();
    }
    let plain: Vec<Unit> = (0..).zip(raw.chars()).map(|(at, c)| Unit::at(at, c)).collect();
    let whole = Form { length_max: 64.max(plain.len() * 2), parted: false };
    let parted = Form { parted: true, ..whole };
    let mut views: Vec<View> = Vec::new();
    let mut add = |kind, units: &[Unit]| {
        let view = View::new(kind, units);
        let known = views.iter().any(|other| other.kind == kind && other.text == view.text);
        if *view.text != *raw && !known {
            views.push(view);
        }
    };
    if normalize {
        add(TextView::Normalized, &normal::normalize(&plain, whole));
        if steers(&plain) {
            add(TextView::Normalized, &normal::normalize(&plain, parted));
        }
    }
    if decode {
        let (forms, steered) = decoded(&plain, whole);
        let (beside, _) = if steered { decoded(&plain, parted) } else { Default::default() };
        beside.iter().chain(&forms).for_each(|units| add(TextView::Decoded, units));
    }
    views
}

impl View {
    fn new(kind: TextView, units: &[Unit]) -> Self {
        let text: String = units.iter().map(|unit| unit.c).collect();
        let sources = units.iter().map(|unit| (unit.start, unit.end)).collect();
        Self { kind, text: text.into(), sources }
    }

    /// The smallest raw range that covers every character which the view's code points `span`
    /// were made from; a decoded character was made from its whole group, such as the four
    /// characters of base64. `None` for an empty span and outside the text.
    pub fn to_raw(&self, span: Span) -> Option<Span> {
        let sources = self.sources.get(span.start..span.end)?;
        let ((start, _), (_, end)) = (sources.first()?, sources.last()?);
        Some(Span { start: *start as usize, end: *end as usize })
    }
}

/// One character of a form, and the raw code points it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    c: char,
    start: u32,
    end: u32,
}

impl Unit {
    fn at(at: u32, c: char) -> Self {
        Self { c, start: at, end: at + 1 }
    }

    /// `c`, made from all of `sources`; `None` if there are none.
    fn made(c: char, sources: &[Unit]) -> Option<Self> {
        Some(Self { c, start: sources.first()?.start, end: sources.last()?.end })
    }
}

/// A region to be replaced: positions in the units, and what stands there instead.
struct Region {
    from: usize,
    to: usize,
    text: Vec<Unit>,
}

/// The units with `regions` replaced, which ascend and do not overlap; `None` without any.
fn replace(units: &[Unit], regions: Vec<Region>) -> Option<Vec<Unit>> {
    if regions.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(units.len());
    let mut at = 0;
    for region in regions {
        out.extend_from_slice(units.get(at..region.from).unwrap_or_default());
        out.extend(region.text);
        at = region.to;
    }
    out.extend_from_slice(units.get(at..).unwrap_or_default());
    Some(out)
}

fn may_decode(raw: &str) -> bool {
    hidden::may_decode(raw)
        || escapes::may_decode(raw)
        || quoted::may_decode(raw)
        || blobs::may_decode(raw)
        || rot13::may_decode(raw)
        || (!raw.is_ascii() && normal::may_change(raw))
}

/// Whether a sequence of a terminal may be in `units`.
fn steers(units: &[Unit]) -> bool {
    units.iter().any(|unit| terminal::is_sign(unit.c))
}

/// The decoded forms: with escapes undone, and with everything read; none if nothing is encoded.
/// Also whether decoding met sequences of a terminal.
fn decoded(raw: &[Unit], form: Form) -> (Vec<Vec<Unit>>, bool) {
    let shown = hidden::decode(raw);
    let (mut escaped, mut read, mut steered) = (false, shown.is_some(), steers(raw));
    let mut units = normal::normalize(shown.as_deref().unwrap_or(raw), form);
    let mut see = |next: &[Unit]| {
        steered |= steers(next);
        normal::normalize(next, form)
    };
    for _ in 0..DEPTH_MAX {
        let Some(next) = unescape(&units) else { break };
        units = see(&next);
        (escaped, read) = (true, false);
    }
    let mut forms = if escaped { vec![units.clone()] } else { Vec::new() };
    for _ in 0..DEPTH_MAX {
        let Some(next) = decode_round(&units) else { break };
        units = see(&next);
        read = true;
    }
    if read {
        forms.push(units);
    }
    (forms, steered)
}

fn unescape(units: &[Unit]) -> Option<Vec<Unit>> {
    let joined = quoted::decode(units);
    escapes::decode(joined.as_deref().unwrap_or(units)).or(joined)
}

fn decode_round(units: &[Unit]) -> Option<Vec<Unit>> {
    let mut out: Option<Vec<Unit>> = None;
    for decode in [unescape, tokens::decode, rot13::decode] {
        out = decode(out.as_deref().unwrap_or(units)).or(out);
    }
    out
}

/// One byte, and the positions of the units that encode it.
#[derive(Debug, Clone, Copy)]
struct Byte {
    value: u8,
    from: usize,
    to: usize,
}

/// The stretches of `bytes` that read as text: all of `bytes` if at least `whole_min`, else parts of
/// at least `part_min`, because long noise holds short text by chance.
///
/// Text is valid UTF-8 without control characters but white space, at least a third of it letters,
/// digits or white space. NUL is passed over as long as half of the bytes remain, so that ASCII in
/// UTF-16 reads too.
fn stretches(units: &[Unit], bytes: &[Byte], whole_min: usize, part_min: usize) -> Vec<Region> {
    let values: Vec<u8> = bytes.iter().map(|byte| byte.value).collect();
    let (mut found, mut text, mut begin, mut at) = (Vec::new(), Vec::new(), 0, 0);
    let mut close = |text: &mut Vec<Unit>, begin: usize, end: usize| {
        let text = std::mem::take(text);
        let wordy = text.iter().filter(|unit| unit.c.is_alphanumeric() || unit.c.is_whitespace());
        let written: usize = text.iter().map(|unit| unit.c.len_utf8()).sum();
        let least = if end - begin == bytes.len() { whole_min } else { part_min };
        let enough = end - begin >= least && written * 2 >= end - begin;
        if enough
            && wordy.count() * 3 >= text.len()
            && let (Some(first), Some(last)) = (bytes.get(begin), bytes.get(end - 1))
        {
            found.push(Region { from: first.from, to: last.to, text });
        }
    };
    for chunk in values.utf8_chunks() {
        for c in chunk.valid().chars() {
            let next = at + c.len_utf8();
            if is_text(c) {
                let group = bytes.get(at).zip(bytes.get(next - 1));
                let group = group.and_then(|(first, last)| units.get(first.from..last.to));
                text.extend(group.and_then(|group| Unit::made(c, group)));
            } else if c != '\0' {
                close(&mut text, begin, at);
                begin = next;
            }
            at = next;
        }
        if !chunk.invalid().is_empty() {
            close(&mut text, begin, at);
            at += chunk.invalid().len();
            begin = at;
        }
    }
    close(&mut text, begin, at);
    found
}

/// Whether a character may stand in decoded text.
fn is_text(c: char) -> bool {
    !c.is_control() || matches!(c, '\t' | '\n' | '\r')
}
