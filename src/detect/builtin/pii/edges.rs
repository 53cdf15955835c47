//! What may stand beside a value: whether a match is a value of its own.

/// Letters before a number that are looked at.
const LETTERS_MAX: usize = 32;

/// Whether `c` beside an address or number would be part of it: Latin, Greek, Cyrillic, Armenian
/// and full-width forms. Scripts that are never mixed with them in one word do not.
pub(super) fn joins(c: char) -> bool {
    c < '\u{590}' && !is_mark(c)
        || c.is_alphanumeric() && matches!(c, '\u{1e00}'..='\u{1fff}' | '\u{ff01}'..='\u{ff5e}')
}

/// A raised, lowered or circled digit or a fraction: a footnote's mark, part of no value.
fn is_mark(c: char) -> bool {
    matches!(c, '²' | '³' | '¹' | '¼'..='¾' | '\u{2070}'..='\u{209c}' | '\u{2150}'..='\u{215f}')
        || matches!(c, '\u{2460}'..='\u{249b}')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() && !is_mark(c) && (joins(c) || c.is_numeric())
}

/// For what its own form or checksum proves: any separator ends it, and a word may touch its
/// digits (`card4111…`). Refused are pieces of longer numbers, fractions and UUIDs.
pub(super) fn is_whole(text: &str, start: usize, end: usize) -> bool {
    let (before, after) = around(text, start, end);
    if after.chars().next().is_some_and(is_word) {
        return false;
    }
    let matched = text.get(start..end).unwrap_or_default();
    let Some(b) = before.chars().next_back() else { return true };
    if is_word(b) {
        let word = before.chars().rev().take(LETTERS_MAX).take_while(|c| is_word(*c) || *c == '_');
        let mut word = word.take_while(|c| *c != '_');
        return matched.starts_with(|c: char| !c.is_alphabetic()) && word.all(char::is_alphabetic);
    }
    let run = before.strip_suffix(['.', '-']).unwrap_or_default().as_bytes();
    let run = || run.iter().rev().take(9).take_while(|byte| byte.is_ascii_alphanumeric());
    let fraction = b == '.'
        && matched.bytes().all(|byte| byte.is_ascii_digit())
        && (1..=3).contains(&run().count())
        && run().all(u8::is_ascii_digit);
    let uuid = b == '-'
        && matches!(run().count(), 4 | 8)
        && run().all(u8::is_ascii_hexdigit)
        && run().any(u8::is_ascii_alphabetic)
        && run().any(u8::is_ascii_digit);
    !fraction && !uuid
}

/// For what only looks like a value: no part of a longer word, number, version, path or hash.
pub(super) fn is_apart(text: &str, start: usize, end: usize) -> bool {
    let (before, after) = around(text, start, end);
    let (mut before, mut after) = (before.chars().rev(), after.chars());
    let joint = |c: char| matches!(c, '.' | '-' | '/' | ':' | '+' | '_');
    let word = |c: Option<char>| c.is_some_and(|c| c == '_' || is_word(c));
    let (b, a) = (before.next(), after.next());
    if word(b) || word(a) {
        return false;
    }
    let left = b.is_some_and(joint) && before.next().is_some_and(|c| c.is_ascii_hexdigit());
    let right = a.is_some_and(joint) && after.next().is_some_and(|c| c.is_ascii_digit());
    (!left || b == Some(':') && !is_clock(text.get(..start).unwrap_or_default())) && !right
}

/// Whether `before` ends in hours and minutes: what follows are seconds.
fn is_clock(before: &str) -> bool {
    let last: Vec<u8> = before.bytes().rev().take(6).collect();
    matches!(last.as_slice(), [b':', a, b, b':', c, d] if [a, b, c, d].iter().all(|b| b.is_ascii_digit()))
}

fn around(text: &str, start: usize, end: usize) -> (&str, &str) {
    (text.get(..start).unwrap_or_default(), text.get(end..).unwrap_or_default())
}
