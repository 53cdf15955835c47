//! Invisible characters: which there are, and the text that some of them carry.

use super::{Byte, Region, Unit, replace, stretches};

/// Variation selectors in a row that count as smuggled bytes; real text never has two.
const SELECTORS_MIN: usize = 4;

/// Whether a character is never seen: Default_Ignorable_Code_Point, interlinear annotation, and
/// control characters but white space.
pub(super) fn is_hidden(c: char) -> bool {
    match c {
        '\t'..='\r' | ' '..='~' | '\u{85}' => false,
        '\0'..='\u{9F}' => true,
        '\u{AD}'
        | '\u{34F}'
        | '\u{61C}'
        | '\u{115F}'..='\u{1160}'
        | '\u{17B4}'..='\u{17B5}'
        | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}'
        | '\u{3164}'
        | '\u{FE00}'..='\u{FE0F}'
        | '\u{FEFF}'
        | '\u{FFA0}'
        | '\u{FFF0}'..='\u{FFFB}'
        | '\u{1BCA0}'..='\u{1BCA3}'
        | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}' => true,
        _ => false,
    }
}

/// Whether `raw` may carry text in tag characters or variation selectors.
pub(super) fn may_decode(raw: &str) -> bool {
    !raw.is_ascii() && raw.chars().any(|c| tag(c).is_some() || selector(c).is_some())
}

/// The text with what tag characters and runs of variation selectors say.
///
/// Tags after a black flag are that flag's region and stay.
pub(super) fn decode(units: &[Unit]) -> Option<Vec<Unit>> {
    let mut regions = Vec::new();
    let mut at = 0;
    while let Some(unit) = units.get(at) {
        let rest = units.get(at..).unwrap_or_default();
        if tag(unit.c).is_some() {
            let run: Vec<Unit> =
                rest.iter().map_while(|unit| Some(Unit { c: tag(unit.c)?, ..*unit })).collect();
            let (from, to) = (at, at + run.len());
            at = to;
            let before = from.checked_sub(1).and_then(|before| units.get(before));
            if before.is_none_or(|before| before.c != '\u{1F3F4}') {
                regions.push(Region { from, to, text: run });
            }
        } else if selector(unit.c).is_some() {
            let bytes: Vec<Byte> = (at..)
                .zip(rest)
                .map_while(|(from, unit)| {
                    Some(Byte { value: selector(unit.c)?, from, to: from + 1 })
                })
                .collect();
            at += bytes.len();
            regions.extend(stretches(units, &bytes, SELECTORS_MIN, SELECTORS_MIN));
        } else {
            at += 1;
        }
    }
    replace(units, regions)
}

/// The ASCII character that a tag character repeats.
fn tag(c: char) -> Option<char> {
    matches!(c, '\u{E0020}'..='\u{E007E}').then(|| char::from_u32(u32::from(c) - 0xE0000)).flatten()
}

/// The number of a variation selector, from zero.
fn selector(c: char) -> Option<u8> {
    let number = match c {
        '\u{FE00}'..='\u{FE0F}' => u32::from(c) - 0xFE00,
        '\u{E0100}'..='\u{E01EF}' => u32::from(c) - 0xE0100 + 16,
        _ => return None,
    };
    u8::try_from(number).ok()
}
