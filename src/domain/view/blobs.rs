//! Encoded runs of bytes: base64 and hex.

use super::{Byte, Region, Unit, replace, stretches};

/// The shortest run of base64 with its padding, and of hex digits.
const RUN_CHARS_MIN: usize = 16;
/// The shortest text in bytes inside a longer run: less reads as text by chance.
const BASE64_PART_MIN: usize = 24;
const HEX_PART_MIN: usize = 16;

/// Whether `raw` holds a long enough run.
pub(super) fn may_decode(raw: &str) -> bool {
    let (mut run, mut digits, mut indent) = (0, 0, false);
    raw.chars().any(|c| {
        indent = c == '\n' || (indent && matches!(c, ' ' | '\t'));
        run = match c {
            _ if sextet(c).is_some() || c == '=' => run + 1,
            '\r' => run,
            _ if indent => run,
            _ => 0,
        };
        digits = match c {
            'x' | 'X' => digits,
            _ if c.is_ascii_hexdigit() => digits + 1,
            _ if is_break(c) => digits,
            _ => 0,
        };
        run >= RUN_CHARS_MIN || digits >= RUN_CHARS_MIN
    })
}

/// The text with its base64 and hex read.
pub(super) fn decode(units: &[Unit]) -> Option<Vec<Unit>> {
    let mut regions = Vec::new();
    let (mut at, mut hex_from) = (0, 0);
    while at < units.len() {
        if at >= hex_from {
            let (end, bytes) = hex(units, at);
            hex_from = end;
            let found = hex_regions(units, &bytes);
            if let Some(last) = found.last() {
                at = last.to;
                regions.extend(found);
                continue;
            }
        }
        let run = Run::at(units, at);
        at = run.end.max(at + 1);
        let found = run.regions(units);
        hex_from = if found.is_empty() { hex_from } else { hex_from.max(at) };
        regions.extend(found);
    }
    replace(units, regions)
}

/// The texts in a run of hex: in all of it, else in its groups.
fn hex_regions(units: &[Unit], bytes: &[Byte]) -> Vec<Region> {
    let read = |bytes: &[Byte]| stretches(units, bytes, RUN_CHARS_MIN / 2, HEX_PART_MIN);
    let found = read(bytes);
    if !found.is_empty() {
        return found;
    }
    bytes.chunk_by(|one, next| one.to == next.from).flat_map(read).collect()
}

/// The hex bytes at `at`, and where a next try may begin: pairs of digits, each group of them
/// perhaps after `0x`, with at most two breaks between groups.
fn hex(units: &[Unit], at: usize) -> (usize, Vec<Byte>) {
    let c = |at: usize| units.get(at).map(|unit| unit.c);
    let digit = |at: usize| c(at).and_then(|c| c.to_digit(16));
    let mut bytes: Vec<Byte> = Vec::new();
    let mut end = at;
    loop {
        let mut next = end;
        if !bytes.is_empty() {
            next += (0..2).take_while(|ahead| c(end + ahead).is_some_and(is_break)).count();
        }
        let prefixed = c(next) == Some('0') && matches!(c(next + 1), Some('x' | 'X'));
        let mut from = next;
        next += if prefixed { 2 } else { 0 };
        let before = bytes.len();
        while let (Some(high), Some(low)) = (digit(next), digit(next + 1)) {
            next += 2;
            let value = u8::try_from(high * 16 + low).unwrap_or_default();
            bytes.push(Byte { value, from, to: next });
            from = next;
        }
        if c(next).is_some_and(char::is_alphanumeric) || bytes.len() == before {
            // A group that runs into a word is none of hex.
            bytes.truncate(before);
            return (end.max(at + 1), bytes);
        }
        end = next;
    }
}

fn is_break(c: char) -> bool {
    matches!(c, ' ' | ',' | ':' | ';' | '-' | '\t' | '\r' | '\n')
}

/// A run of base64 characters, over line breaks.
struct Run {
    /// Positions of the characters.
    at: Vec<usize>,
    /// Behind the padding.
    end: usize,
    padding: usize,
}

impl Run {
    fn at(units: &[Unit], start: usize) -> Self {
        let c = |at: usize| units.get(at).map(|unit| unit.c);
        let mut run = Self { at: Vec::new(), end: start, padding: 0 };
        let mut next = start;
        loop {
            match c(next) {
                Some(found) if sextet(found).is_some() => {
                    run.at.push(next);
                    run.end = next + 1;
                }
                Some('\r' | '\n') if !run.at.is_empty() => {}
                Some(' ' | '\t')
                    if !run.at.is_empty()
                        && matches!(next.checked_sub(1).and_then(c), Some('\n' | ' ' | '\t'))
                        && next > run.end => {}
                _ => break,
            }
            next += 1;
        }
        while run.padding < 2 && !run.at.is_empty() && c(run.end) == Some('=') {
            run.end += 1;
            run.padding += 1;
        }
        run
    }

    /// The texts in the run, else in its lines: also those that quoted-printable would go on in.
    fn regions(&self, units: &[Unit]) -> Vec<Region> {
        let found = self.joined(units);
        if !found.is_empty() {
            return found;
        }
        let touch = |one: &usize, next: &usize| {
            let pair = units.get(*one).zip(units.get(*next));
            one + 1 == *next && pair.is_some_and(|(one, next)| next.start <= one.end)
        };
        let lines = self.at.chunk_by(touch).map(|at| {
            let end = at.last().map_or(self.end, |last| last + 1);
            let padding = if at.last() == self.at.last() { self.padding } else { 0 };
            Self { at: at.to_vec(), end: end + padding, padding }
        });
        lines.flat_map(|line| line.joined(units)).collect()
    }

    /// The texts in the run, read over its line breaks. Each of the four phases is read, so what
    /// stands before and behind does not hide the text.
    fn joined(&self, units: &[Unit]) -> Vec<Region> {
        if self.at.len() + self.padding < RUN_CHARS_MIN {
            return Vec::new();
        }
        let mut found = Vec::new();
        for phase in 0..4 {
            let bytes = self.bytes(units, phase);
            let whole_min = if phase == 0 { RUN_CHARS_MIN / 2 } else { BASE64_PART_MIN };
            found.extend(stretches(units, &bytes, whole_min, BASE64_PART_MIN));
        }
        found.sort_by_key(|region| region.from);
        let mut covered = 0;
        found.retain(|region| {
            let free = region.from >= covered;
            covered = if free { region.to } else { covered };
            free
        });
        found
    }

    fn bytes(&self, units: &[Unit], phase: usize) -> Vec<Byte> {
        let mut bytes = Vec::with_capacity(self.at.len() / 4 * 3 + 2);
        for quantum in self.at.get(phase..).unwrap_or_default().chunks(4) {
            let value = |at: &usize| units.get(*at).and_then(|unit| sextet(unit.c)).unwrap_or(0);
            let sum = quantum.iter().fold(0u32, |sum, at| sum << 6 | value(at));
            let sum = sum << (6 * (4 - quantum.len()));
            let (Some(from), Some(last)) = (quantum.first(), quantum.last()) else { continue };
            let to = if Some(last) == self.at.last() { self.end } else { last + 1 };
            let [_, values @ ..] = sum.to_be_bytes();
            let values = values.into_iter().take(quantum.len() - 1);
            bytes.extend(values.map(|value| Byte { value, from: *from, to }));
        }
        bytes
    }
}

/// The six bits of a character of the standard or the URL alphabet.
fn sextet(c: char) -> Option<u32> {
    let code = u32::from(c);
    match c {
        'A'..='Z' => Some(code - 65),
        'a'..='z' => Some(code - 97 + 26),
        '0'..='9' => Some(code - 48 + 52),
        '+' | '-' => Some(62),
        '/' | '_' => Some(63),
        _ => None,
    }
}
