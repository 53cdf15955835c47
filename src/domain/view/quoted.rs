//! Quoted-printable (RFC 2045, 6.7), the form of mail on its way: `=3D` for a character, `=` at the
//! end of a line that goes on in the next.
//!
//! Nothing in a text says that it is written so. Read are lines without any other `=`: in code and
//! lists of settings a sign of equality stands before its value.

use std::ops::Range;

use super::{Byte, Region, Unit, escapes, replace};

/// Whether `raw` may hold such a line.
pub(super) fn may_decode(raw: &str) -> bool {
    let bytes = raw.as_bytes();
    raw.match_indices('=').any(|(at, _)| {
        let after = bytes.get(at + 1..).unwrap_or_default();
        let goes_on = || at.checked_sub(1).and_then(|at| bytes.get(at)) != Some(&b'=');
        match after {
            [b'\n', ..] | [b'\r', b'\n', ..] => goes_on(),
            [b'3', b'D', ..] | [b'2', b'0', b'\r' | b'\n', ..] => true,
            [b'8'..=b'9' | b'A'..=b'F', _, b'=', b'8'..=b'9' | b'A'..=b'F', ..] => true,
            _ => false,
        }
    })
}

/// The text with its lines put together and its characters read.
pub(super) fn decode(units: &[Unit]) -> Option<Vec<Unit>> {
    if !units.iter().any(|unit| unit.c == '=') {
        return None;
    }
    let joined = join(units);
    let seen = joined.as_deref().unwrap_or(units);
    read(seen, joined.is_some()).or(joined)
}

/// A line without its end, and what its signs of equality are.
struct Line {
    at: Range<usize>,
    /// Where the next line begins; `None` behind the last.
    next: Option<usize>,
    /// Whether each `=` begins a written character or ends the line.
    quoted: bool,
    goes_on: bool,
}

fn lines(units: &[Unit]) -> Vec<Line> {
    let mut from = 0;
    let line = |whole: &[Unit]| {
        let begin = from;
        from += whole.len();
        let ended = whole.last().is_some_and(|unit| unit.c == '\n');
        let end = whole.iter().rev().skip_while(|unit| matches!(unit.c, '\n' | '\r')).count();
        let body = whole.get(..end).unwrap_or_default();
        let signs = || (0..end).filter(|at| body.get(*at).is_some_and(|unit| unit.c == '='));
        Line {
            at: begin..begin + end,
            next: ended.then_some(from),
            quoted: signs().all(|at| at + 1 == end || byte(body, at).is_some()),
            goes_on: ended && end > 1 && body.last().is_some_and(|unit| unit.c == '='),
        }
    };
    units.split_inclusive(|unit| unit.c == '\n').map(line).collect()
}

/// Without the ends of lines that go on.
fn join(units: &[Unit]) -> Option<Vec<Unit>> {
    let blank = |at: usize| units.get(at).is_none_or(|unit| unit.c.is_whitespace());
    let lines = lines(units);
    let cut = |pair: &[Line]| {
        let [line, after] = pair else { return None };
        let (sign, next) = (line.at.end.checked_sub(1)?, line.next?);
        // Code that goes on in the next line is set in; mail is not.
        let set_in = blank(next) && (blank(next + 1) || blank(sign.checked_sub(1)?));
        let joins = line.goes_on && line.quoted && after.quoted && !after.at.is_empty() && !set_in;
        joins.then(|| Region { from: sign, to: next, text: Vec::new() })
    };
    replace(units, lines.windows(2).filter_map(cut).collect())
}

/// With written characters read; `sure` says that the text is known to hold some.
fn read(units: &[Unit], sure: bool) -> Option<Vec<Unit>> {
    let mut lines = lines(units);
    lines.retain(|line| line.quoted);
    if !sure && !lines.iter().any(|line| speaks(units.get(line.at.clone()).unwrap_or_default())) {
        return None;
    }
    let mut regions = Vec::new();
    for line in lines {
        let mut at = line.at.start;
        while at < line.at.end {
            let next = |at: &Byte| byte(units, at.to);
            let bytes: Vec<Byte> = std::iter::successors(byte(units, at), next).collect();
            at = bytes.last().map_or(at + 1, |last| last.to);
            escapes::decode_bytes(units, &bytes, &mut regions);
        }
    }
    replace(units, regions)
}

/// Whether a line holds what hardly anything but this form writes: an escaped `=`, a letter of
/// several bytes, a blank at its end.
fn speaks(line: &[Unit]) -> bool {
    (0..line.len()).filter_map(|at| byte(line, at)).any(|one| {
        one.value == b'='
            || one.value == b' ' && one.to == line.len()
            || one.value > 0x7F && byte(line, one.to).is_some_and(|next| next.value > 0x7F)
    })
}

/// The byte that `=XX` at `at` writes, in capital letters as the form wants it.
fn byte(units: &[Unit], at: usize) -> Option<Byte> {
    let digit = |at: usize| {
        let c = units.get(at)?.c;
        c.to_digit(16).filter(|_| !c.is_ascii_lowercase())
    };
    units.get(at).filter(|unit| unit.c == '=')?;
    let value = u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok()?;
    Some(Byte { value, from: at, to: at + 3 })
}
