//! The normalised form: what a reader sees, in plain characters.

use unicode_normalization::char::{canonical_combining_class, decompose_compatible};
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick, is_nfkc_quick};

use super::terminal::{self, Seen};
use super::{Unit, glyphs, hidden};

/// Marks on one letter that count as damage; orthographies need two.
const MARKS_MAX: usize = 2;
/// Single characters in a row that count as one spaced-out word.
const SPACED_MIN: usize = 4;
/// The same for digits alone: shorter ones are addresses, versions and dates.
const SPACED_DIGITS_MIN: usize = 8;

/// Whether [`normalize`] may change `raw`: one scan, no allocation.
pub(super) fn may_change(raw: &str) -> bool {
    if spaced(raw) {
        return true;
    }
    if raw.is_ascii() {
        return raw.bytes().any(|byte| hidden::is_hidden(char::from(byte)));
    }
    raw.chars()
        .any(|c| hidden::is_hidden(c) || glyphs::is_foreign(c) || is_diacritic(c) || plain(c) != c)
        || is_nfkc_quick(raw.chars()) != IsNormalized::Yes
}

/// How the normalised form is made.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// The most characters of it, unless the text has more.
    pub(super) length_max: usize,
    /// Whether letters and digits that only a terminal's colour parts stay apart.
    pub(super) parted: bool,
}

/// The normalised form.
pub(super) fn normalize(units: &[Unit], form: Form) -> Vec<Unit> {
    let ascii = units.iter().all(|unit| unit.c.is_ascii());
    let seen = show(units, form.parted);
    if ascii {
        return join_spaced(seen);
    }
    let mut joined = join_spaced(compose(&unmarked(seen), form.length_max));
    glyphs::fold(&mut joined);
    joined
}

/// Without invisible characters, but for joiners and selectors inside an emoji; plain spaces.
fn show(units: &[Unit], parted: bool) -> Vec<Unit> {
    let mut out: Vec<Unit> = Vec::with_capacity(units.len());
    let (mut at, mut titled, mut gap) = (0, false, None);
    while let Some(unit) = units.get(at) {
        let rest = units.get(at..).unwrap_or_default();
        at += 1;
        if hidden::is_hidden(unit.c) {
            if let Some((length, seen)) = terminal::sequence(rest, &mut titled) {
                let whole = rest.get(..length).and_then(|whole| Unit::made(' ', whole));
                match seen {
                    Seen::Gap => out.extend(whole),
                    Seen::Nothing if parted => gap = gap.or(whole),
                    Seen::Nothing => {}
                }
                at += length - 1;
                continue;
            }
            let after = out.last().is_some_and(|last| is_emoji(last.c));
            let before = rest.get(1).is_some_and(|next| is_emoji(next.c));
            let kept = after && (unit.c == '\u{FE0F}' || (unit.c == '\u{200D}' && before));
            if !kept {
                continue;
            }
        }
        let touches = unit.c.is_alphanumeric()
            && out.last().is_some_and(|last: &Unit| last.c.is_alphanumeric());
        out.extend(gap.take().filter(|_| touches));
        out.push(Unit { c: plain(unit.c), ..*unit });
    }
    out
}

/// Without the marks of words that hold digits: no orthography has such words, keys do.
fn unmarked(units: Vec<Unit>) -> Vec<Unit> {
    if !units.iter().any(|unit| is_diacritic(unit.c)) {
        return units;
    }
    let part = |unit: &Unit| unit.c.is_alphanumeric() || is_diacritic(unit.c);
    let words = units.chunk_by(|one, next| part(one) == part(next));
    let shown = words.flat_map(|word| {
        let key = word.iter().any(|unit| unit.c.is_ascii_digit());
        word.iter().filter(move |unit| !(key && is_diacritic(unit.c)))
    });
    shown.copied().collect()
}

/// NFKC by segments: a character, and those after it that may melt into it.
pub(super) fn compose(units: &[Unit], length_max: usize) -> Vec<Unit> {
    let mut out = Vec::with_capacity(units.len());
    let mut rest = units;
    while !rest.is_empty() {
        let end = rest.iter().skip(1).position(|unit| !continues(unit.c));
        let (segment, after) =
            rest.split_at_checked(end.map_or(rest.len(), |end| end + 1)).unwrap_or((rest, &[]));
        rest = after;
        match segment {
            [unit] if unit.c.is_ascii() => out.push(*unit),
            _ => compose_segment(
                segment,
                length_max.saturating_sub(out.len() + rest.len()),
                &mut out,
            ),
        }
    }
    out
}

fn compose_segment(segment: &[Unit], room: usize, out: &mut Vec<Unit>) {
    let raw = || segment.iter().map(|unit| unit.c);
    let mut text: Vec<char> = raw().nfkc().collect();
    if text.iter().any(|c| is_diacritic(*c)) {
        let marks = raw().nfd().filter(|c| is_diacritic(*c)).count();
        text = match marks > MARKS_MAX {
            true => raw().nfd().filter(|c| !is_diacritic(*c)).nfkc().collect(),
            false => text.into_iter().filter(|c| !is_overlay(*c)).collect(),
        };
    }
    if text.len() > room.max(segment.len()) || text.iter().copied().eq(raw()) {
        out.extend_from_slice(segment);
    } else {
        out.extend(text.into_iter().filter_map(|c| Unit::made(c, segment)));
    }
}

/// Without the separators of spaced-out words: at least [`SPACED_MIN`] single letters or digits
/// with one separator between each two, or two that are no spaces. A sign that binds, as in
/// `a n a @ e v i l . i o` spelled with spaces, is a character of the word.
fn join_spaced(units: Vec<Unit>) -> Vec<Unit> {
    let is_word = |at: usize| units.get(at).is_some_and(|unit| unit.c.is_alphanumeric());
    let gap = |at: usize| units.get(at).map(|unit| unit.c).filter(|c| is_separator(*c));
    let is_joint = |at: usize| units.get(at).is_some_and(|unit| "@.:/+-_".contains(unit.c));
    let next_single = |at: usize| {
        if gap(at + 1) == Some(' ') && is_joint(at + 2) && gap(at + 3) == Some(' ') {
            return Some(at + 2);
        }
        let next = match (gap(at + 1)?, gap(at + 2)) {
            (_, None) => at + 2,
            (first, Some(second)) if first != ' ' && second != ' ' => at + 3,
            _ => return None,
        };
        (is_word(next) && !is_word(next + 1)).then_some(next)
    };
    let (mut out, mut at) = (Vec::with_capacity(units.len()), 0);
    while at < units.len() {
        let mut run = single_at(at, &is_word);
        while let Some(next) = run.last().and_then(|last| next_single(*last)) {
            run.push(next);
        }
        let single = |at: &usize| units.get(*at).copied();
        let lettered = run.iter().filter_map(single).any(|unit| unit.c.is_alphabetic());
        // `1 - 2 - 3` are numbers, `g h p _ a` is a word.
        let dashed = run.iter().filter_map(single).any(|unit| matches!(unit.c, '-' | '_'));
        let least = match (lettered, dashed) {
            (true, _) => SPACED_MIN,
            (false, false) => SPACED_DIGITS_MIN,
            (false, true) => usize::MAX,
        };
        let end = run.last().map_or(at + 1, |last| last + 1);
        let words = run.iter().filter(|at| is_word(**at)).count();
        if words >= least {
            out.extend(run.iter().filter_map(single));
        } else {
            out.extend_from_slice(units.get(at..end).unwrap_or_default());
        }
        at = end;
    }
    out
}

/// `at`, if a letter or digit stands there alone.
fn single_at(at: usize, is_word: &dyn Fn(usize) -> bool) -> Vec<usize> {
    let alone = is_word(at) && !is_word(at + 1) && at.checked_sub(1).is_none_or(|at| !is_word(at));
    if alone { vec![at] } else { Vec::new() }
}

/// Whether a spaced-out word may be in `raw`.
fn spaced(raw: &str) -> bool {
    let (mut singles, mut word, mut gap) = (0, 0, 0);
    for c in raw.chars().chain(['\n']) {
        if c.is_alphanumeric() {
            (word, gap) = (word + 1, 0);
            continue;
        }
        singles = match word {
            0 => singles,
            1 => singles + 1,
            _ => 0,
        };
        if singles >= SPACED_MIN {
            return true;
        }
        (word, gap) = (0, gap + 1);
        let unseen = plain(c);
        if gap > 2 || !(is_separator(unseen) || hidden::is_hidden(c)) {
            singles = 0;
        }
    }
    false
}

/// Whether NFKC may melt `c` into what stands before it.
fn continues(c: char) -> bool {
    if c.is_ascii() {
        return false;
    }
    let mut first = None;
    decompose_compatible(c, |part| {
        first.get_or_insert(part);
    });
    let first = first.unwrap_or(c);
    canonical_combining_class(first) != 0
        || is_nfc_quick(std::iter::once(first)) != IsNormalized::Yes
}

/// Blanks and hyphens that NFKC leaves alone become plain ones.
fn plain(c: char) -> char {
    match c {
        '\u{1680}'
        | '\u{2800}'
        | '\u{A0}'
        | '\u{2000}'..='\u{200A}'
        | '\u{202F}'
        | '\u{205F}'
        | '\u{3000}' => ' ',
        '\u{85}' | '\u{2028}' | '\u{2029}' => '\n',
        '\u{2010}'..='\u{2013}' | '\u{2212}' => '-',
        '\u{660}'.. => digit(c).unwrap_or(c),
        _ => c,
    }
}

/// The noughts of the scripts whose decimal digits NFKC leaves alone (Unicode 16, general category
/// Nd); the other nine follow each.
const NOUGHTS: [u32; 44] = [
    0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6,
    0xE50, 0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50,
    0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0x104A0,
    0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0,
];

/// The ASCII digit of the same value.
fn digit(c: char) -> Option<char> {
    let after = NOUGHTS.partition_point(|nought| *nought <= u32::from(c));
    let nought = NOUGHTS.get(after.checked_sub(1)?)?;
    char::from_digit(u32::from(c) - nought, 10)
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '.' | '-' | '_')
}

/// The marks of the general blocks; those of one script belong to its orthography.
fn is_diacritic(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36F}' | '\u{483}'..='\u{489}' | '\u{1AB0}'..='\u{1AFF}'
        | '\u{1DC0}'..='\u{1DFF}' | '\u{20D0}'..='\u{20FF}' | '\u{FE20}'..='\u{FE2F}')
}

/// Marks that strike through or enclose a letter; no orthography needs them uncomposed.
fn is_overlay(c: char) -> bool {
    matches!(c, '\u{334}'..='\u{338}' | '\u{488}'..='\u{489}' | '\u{20D0}'..='\u{20FF}')
}

fn is_emoji(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{21FF}' | '\u{2300}'..='\u{23FF}' | '\u{2600}'..='\u{27BF}'
        | '\u{2B00}'..='\u{2BFF}' | '\u{FE0F}' | '\u{1F300}'..='\u{1FAFF}')
}
