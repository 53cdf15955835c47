//! Letters that look like Latin ones.
//!
//! The rule: a word (a run of letters, digits and marks) that mixes Latin letters with look-alikes
//! is folded wholly. A word without Latin letters is folded if it consists of exact look-alikes,
//! at least two, and no word of the text proves that another script is written here, by a letter
//! with no exact look-alike. Chinese, Arabic, Thai and other scripts unlike Latin take no part.

use unicode_normalization::UnicodeNormalization as _;

use super::Unit;

/// Whether a letter belongs to a script that has look-alikes of Latin letters.
pub(super) fn is_foreign(c: char) -> bool {
    is_phonetic(c)
        || matches!(c, '\u{370}'..='\u{58F}' | '\u{10A0}'..='\u{10FF}' | '\u{13A0}'..='\u{167F}'
            | '\u{1C80}'..='\u{1CBF}' | '\u{1F00}'..='\u{1FFF}' | '\u{2C80}'..='\u{2D2F}'
            | '\u{A4D0}'..='\u{A4FF}' | '\u{A640}'..='\u{A69F}' | '\u{AB70}'..='\u{ABBF}'
            | '\u{10280}'..='\u{1057F}' | '\u{1F150}'..='\u{1F189}')
}

/// Folds the look-alikes of `units` in place.
pub(super) fn fold(units: &mut [Unit]) {
    if !units.iter().any(|unit| is_foreign(unit.c)) {
        return;
    }
    let words = || units.split(|unit| !is_word(unit.c));
    let proven = words().any(|word| !mixes(word) && word.iter().any(|unit| proves(unit.c)));
    let other = |word: &[Unit]| {
        let letters = || word.iter().filter(|unit| unit.c.is_alphabetic());
        !proven && letters().nth(1).is_some() && letters().all(|unit| exact(unit.c).is_some())
    };
    for word in units.split_mut(|unit| !is_word(unit.c)) {
        if mixes(word) || other(word) {
            for unit in word.iter_mut().filter(|unit| is_foreign(unit.c)) {
                unit.c = latin(unit.c).unwrap_or(unit.c);
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36F}')
}

fn mixes(word: &[Unit]) -> bool {
    word.iter().any(|unit| is_latin(unit.c)) && word.iter().any(|unit| is_foreign(unit.c))
}

fn proves(c: char) -> bool {
    c.is_alphabetic() && is_foreign(c) && !is_phonetic(c) && exact(c).is_none()
}

fn is_latin(c: char) -> bool {
    c.is_ascii_alphabetic()
        || (c.is_alphabetic()
            && matches!(c, '\u{AA}'..='\u{24F}' | '\u{1E00}'..='\u{1EFF}' | '\u{2C60}'..='\u{2C7F}'))
}

/// Small capitals and sound symbols, but for the letters of African and Turkic alphabets.
fn is_phonetic(c: char) -> bool {
    matches!(c, '\u{250}'..='\u{2AF}' | '\u{1D00}'..='\u{1D2B}' | '\u{A730}'..='\u{A731}')
        && !matches!(c, 'ɓ' | 'ɔ' | 'ɖ' | 'ɗ' | 'ə' | 'ɛ' | 'ɣ' | 'ɨ' | 'ɩ' | 'ʋ')
}

/// The ASCII letter that a reader takes `c` for among Latin ones; accents are left out.
fn latin(c: char) -> Option<char> {
    let base = std::iter::once(c).nfd().next().unwrap_or(c);
    exact(base).or_else(|| rough(base))
}

/// The ASCII letter that `c` is used for by its shape alone.
fn rough(c: char) -> Option<char> {
    Some(match c {
        'Λ' | 'Δ' | 'Д' => 'A',
        'Б' => 'B',
        'Σ' | 'Є' | 'Э' | 'Ξ' => 'E',
        'И' | 'П' | 'Π' => 'N',
        'Θ' | 'Ω' | 'Ф' | 'Φ' => 'O',
        'Я' => 'R',
        'Г' => 'T',
        'Ц' => 'U',
        'Ш' | 'Щ' | 'Ѡ' => 'W',
        'Ж' => 'X',
        'λ' | 'д' => 'a',
        'в' | 'β' | 'ь' | 'ъ' | 'б' => 'b',
        'ς' => 'c',
        'δ' => 'd',
        'ε' | 'є' | 'э' | 'ξ' | 'ե' => 'e',
        'н' | 'ћ' | 'ђ' => 'h',
        'к' | 'κ' => 'k',
        'м' => 'm',
        'η' | 'и' | 'п' | 'π' => 'n',
        'σ' | 'θ' | 'φ' | 'ф' => 'o',
        'զ' => 'q',
        'я' | 'г' => 'r',
        'т' | 'τ' => 't',
        'μ' | 'ц' => 'u',
        'ω' | 'ш' | 'щ' | 'ѡ' | 'ա' => 'w',
        'ж' => 'x',
        _ => return None,
    })
}

/// The ASCII letter that `c` cannot be told from.
fn exact(c: char) -> Option<char> {
    Some(match c {
        'А' | 'Α' | 'Ꭺ' => 'A',
        'В' | 'Β' | 'Ᏼ' => 'B',
        'С' | 'Ꮯ' => 'C',
        'Ꭰ' => 'D',
        'Е' | 'Ε' | 'Ꭼ' => 'E',
        'Ԍ' | 'Ꮐ' => 'G',
        'Н' | 'Η' | 'Ꮋ' => 'H',
        'І' | 'Ι' | 'Ӏ' => 'I',
        'Ј' | 'Ϳ' | 'Ꭻ' => 'J',
        'К' | 'Κ' | 'Ꮶ' => 'K',
        'Ꮮ' => 'L',
        'М' | 'Μ' | 'Ꮇ' => 'M',
        'Ν' => 'N',
        'О' | 'Ο' | 'Օ' => 'O',
        'Р' | 'Ρ' | 'Ꮲ' => 'P',
        'Ԛ' => 'Q',
        'Ꭱ' => 'R',
        'Ѕ' | 'Ꮪ' | 'Տ' => 'S',
        'Т' | 'Τ' | 'Ꭲ' => 'T',
        'Ս' => 'U',
        'Ѵ' | 'Ꮩ' => 'V',
        'Ԝ' | 'Ꮃ' => 'W',
        'Х' | 'Χ' => 'X',
        'У' | 'Υ' | 'Ү' => 'Y',
        'Ζ' | 'Ꮓ' => 'Z',
        'а' | 'α' | 'ᴀ' | 'ɑ' => 'a',
        'с' | 'ᴄ' => 'c',
        'ԁ' | 'ᴅ' => 'd',
        'е' | 'ҽ' | 'ᴇ' => 'e',
        'ց' | 'ɢ' | 'ɡ' => 'g',
        'һ' | 'հ' | 'ʜ' => 'h',
        'і' | 'ι' | 'ɪ' => 'i',
        'ј' | 'ϳ' | 'ᴊ' => 'j',
        'ӏ' | 'ʟ' => 'l',
        'ո' | 'ɴ' => 'n',
        'о' | 'ο' | 'օ' | 'ᴏ' => 'o',
        'р' | 'ρ' | 'ᴘ' => 'p',
        'ʙ' => 'b',
        'ꜰ' => 'f',
        'ᴋ' => 'k',
        'ᴍ' => 'm',
        'ԛ' => 'q',
        'ʀ' => 'r',
        'ᴛ' => 't',
        'ᴢ' => 'z',
        'ѕ' | 'ꜱ' => 's',
        'υ' | 'ս' | 'ᴜ' => 'u',
        'ѵ' | 'ν' | 'ᴠ' => 'v',
        'ԝ' | 'ᴡ' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' | 'ү' | 'ʏ' => 'y',
        '\u{1F150}'..='\u{1F169}' => letter(u32::from(c) - 0x1F150)?,
        '\u{1F170}'..='\u{1F189}' => letter(u32::from(c) - 0x1F170)?,
        _ => return None,
    })
}

fn letter(number: u32) -> Option<char> {
    u8::try_from(number).ok().map(|number| char::from(b'A' + number))
}
