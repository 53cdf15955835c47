//! rot13: sentence by sentence, where the turned words read as English.
//!
//! The measure: a sentence is turned if it holds more common words once turned than as written,
//! at least two of them, or one where the text names rot13, and one in eight words.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::{Region, Unit, replace};

/// Common English words, and those of instructions, as rot13 writes them; none is a word itself.
const WORDS: &[&str] = &[
    "gur",
    "naq",
    "gb",
    "bs",
    "vf",
    "lbh",
    "gung",
    "vg",
    "sbe",
    "jvgu",
    "ner",
    "guvf",
    "sebz",
    "nyy",
    "abg",
    "lbhe",
    "jung",
    "ubj",
    "zl",
    "jvyy",
    "pna",
    "vtaber",
    "cerivbhf",
    "vafgehpgvbaf",
    "vafgehpgvba",
    "cebzcg",
    "flfgrz",
    "erirny",
    "cnffjbeq",
    "frperg",
    "xvyy",
    "znxr",
    "obzo",
    "gryy",
    "cyrnfr",
    "jevgr",
    "nobir",
    "ehyrf",
    "cergraq",
];
const WORD_CHARS_MAX: usize = 12;

/// The words as one automaton: ordinary text is passed in one quick scan.
#[expect(clippy::expect_used, reason = "the words are constant, and a test builds it")]
static ANY_WORD: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = AhoCorasick::builder().ascii_case_insensitive(true).build(WORDS);
    words.expect("a few short words")
});

/// Whether one of the words stands in `raw` by itself.
fn any_word(raw: &str) -> bool {
    let letter = |at: Option<usize>| {
        at.and_then(|at| raw.as_bytes().get(at)).is_some_and(u8::is_ascii_alphabetic)
    };
    ANY_WORD
        .find_overlapping_iter(raw)
        .any(|found| !letter(found.start().checked_sub(1)) && !letter(Some(found.end())))
}

/// Whether a sentence of `raw` may be turned.
pub(super) fn may_decode(raw: &str) -> bool {
    if !any_word(raw) {
        return false;
    }
    let hinted = hints(raw.chars());
    raw.split(ends).any(|sentence| reads_turned(sentence.chars(), hinted))
}

/// The text with the sentences turned that read better so.
pub(super) fn decode(units: &[Unit]) -> Option<Vec<Unit>> {
    let hinted = hints(units.iter().map(|unit| unit.c));
    let mut regions = Vec::new();
    let mut from = 0;
    for sentence in units.split(|unit| ends(unit.c)) {
        let to = from + sentence.len();
        if reads_turned(sentence.iter().map(|unit| unit.c), hinted) {
            let text = sentence.iter().map(|unit| Unit { c: turn(unit.c), ..*unit }).collect();
            regions.push(Region { from, to, text });
        }
        from = to + 1;
    }
    replace(units, regions)
}

/// Whether the text names rot13.
fn hints(text: impl Iterator<Item = char>) -> bool {
    let mut matched = 0;
    text.filter(|c| c.is_ascii_alphanumeric()).any(|c| {
        let c = c.to_ascii_lowercase();
        matched = match (matched, c) {
            (1, 'o') => 2,
            (2, 't') => 3,
            (3, '1') => 4,
            (4, '3') => 5,
            (_, 'r') => 1,
            _ => 0,
        };
        matched == 5
    })
}

fn reads_turned(sentence: impl Iterator<Item = char>, hinted: bool) -> bool {
    let (mut words, mut written, mut turned) = (0, 0, 0);
    // One place more than the longest word, so that a longer one is none of them.
    let (mut word, mut length) = ([0; WORD_CHARS_MAX + 1], 0);
    for c in sentence.chain([' ']) {
        if c.is_alphanumeric() {
            if let Some(place) = word.get_mut(length) {
                *place = u8::try_from(c.to_ascii_lowercase()).unwrap_or_default();
                length += 1;
            }
            continue;
        }
        turned += usize::from(word.get(..length).is_some_and(is_common));
        let plain = word.map(|byte| u8::try_from(turn(char::from(byte))).unwrap_or_default());
        written += usize::from(plain.get(..length).is_some_and(is_common));
        words += usize::from(length > 0);
        length = 0;
    }
    turned > written && turned * 8 >= words && turned >= if hinted { 1 } else { 2 }
}

fn is_common(word: &[u8]) -> bool {
    word.len() > 1 && WORDS.iter().any(|common| common.as_bytes() == word)
}

fn ends(c: char) -> bool {
    matches!(c, '\n' | '.' | ':' | ';' | '!' | '?' | '"')
}

fn turn(c: char) -> char {
    let base = match c {
        'a'..='z' => b'a',
        'A'..='Z' => b'A',
        _ => return c,
    };
    u8::try_from(c).map_or(c, |byte| char::from((byte - base + 13) % 26 + base))
}
