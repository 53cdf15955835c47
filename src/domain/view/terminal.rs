//! Sequences that steer a terminal (ECMA-48): colours, movements of the cursor, titles, links.
//!
//! Their signs are never seen. What a title or the target of a link says stays: a terminal hides
//! it, who reads the text itself does not.

use super::Unit;

/// The longest parameters of a control sequence, and the most digits of one of them: more would
/// hide a number.
const PARAMETERS_MAX: usize = 64;
const DIGITS_MAX: usize = 4;

/// What is seen in the place of a sequence.
pub(super) enum Seen {
    Nothing,
    /// What stands behind it is apart from what stands before it.
    Gap,
}

/// Whether `c` may begin or end a sequence.
pub(super) fn is_sign(c: char) -> bool {
    matches!(c, '\u{7}' | '\u{1B}' | '\u{9B}')
}

/// The length of the sequence at the beginning of `rest`, and what is seen of it; `titled` says,
/// and learns, whether a title is open.
pub(super) fn sequence(rest: &[Unit], titled: &mut bool) -> Option<(usize, Seen)> {
    let c = |at: usize| rest.get(at).map(|unit| unit.c);
    match (c(0)?, c(1)) {
        ('\u{9B}', _) => control(rest, 1),
        ('\u{1B}', Some('[')) => control(rest, 2),
        ('\u{1B}', Some(']')) => {
            let inner = |at: &usize| c(*at).is_some_and(|c| c.is_ascii_digit() || c == ';');
            let begin = 2 + (2..2 + DIGITS_MAX).take_while(inner).count();
            if let Some(end) = closes(rest.get(begin..).unwrap_or_default()) {
                return Some((begin + end, Seen::Nothing));
            }
            *titled = true;
            Some((begin, Seen::Gap))
        }
        // What chooses a set of characters: `tput sgr0` ends with it.
        ('\u{1B}', Some('(')) if matches!(c(2), Some('B' | '0')) => Some((3, Seen::Nothing)),
        _ if *titled => closes(rest).map(|length| {
            *titled = false;
            (length, Seen::Gap)
        }),
        _ => None,
    }
}

/// The control sequence whose parameters begin at `from`.
fn control(rest: &[Unit], from: usize) -> Option<(usize, Seen)> {
    let mut digits = 0;
    for (length, unit) in (from + 1..).zip(rest.get(from..)?.iter().take(PARAMETERS_MAX)) {
        digits = match unit.c {
            '0'..='9' if digits < DIGITS_MAX => digits + 1,
            ':'..='?' => 0,
            // Movements of the cursor.
            'A'..='H' | 'd' | 'f' => return Some((length, Seen::Gap)),
            '@'..='~' => return Some((length, Seen::Nothing)),
            _ => return None,
        };
    }
    None
}

/// The length of the end of a title.
fn closes(rest: &[Unit]) -> Option<usize> {
    match rest {
        [bell, ..] if bell.c == '\u{7}' => Some(1),
        [escape, slash, ..] if escape.c == '\u{1B}' && slash.c == '\\' => Some(2),
        _ => None,
    }
}
