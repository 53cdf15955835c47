//! rot13: line by line, where the turned words read as English and the written ones do not.
//!
//! The measure: a line is turned if it holds more common words once turned than as written; one
//! suffices where the text names rot13, else two are needed, and none as written.

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
    "lbhe",
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

/// Whether a line of `raw` may be turned.
pub(super) fn may_decode(raw: &str) -> bool {
    let hinted = hints(raw.chars());
    raw.split('\n').any(|line| reads_turned(line.chars(), hinted))
}

/// The text with the lines turned that read better so.
pub(super) fn decode(units: &[Unit]) -> Option<Vec<Unit>> {
    let hinted = hints(units.iter().map(|unit| unit.c));
    let mut regions = Vec::new();
    let mut from = 0;
    for line in units.split(|unit| unit.c == '\n') {
        let to = from + line.len();
        if reads_turned(line.iter().map(|unit| unit.c), hinted) {
            let text = line.iter().map(|unit| Unit { c: turn(unit.c), ..*unit }).collect();
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

fn reads_turned(line: impl Iterator<Item = char>, hinted: bool) -> bool {
    let (mut written, mut turned) = (0, 0);
    let (mut word, mut plain) = (String::new(), String::new());
    for c in line.chain([' ']) {
        if c.is_alphanumeric() {
            if word.len() <= WORD_CHARS_MAX {
                word.push(c.to_ascii_lowercase());
                plain.push(turn(c.to_ascii_lowercase()));
            }
            continue;
        }
        turned += usize::from(WORDS.contains(&word.as_str()));
        written += usize::from(WORDS.contains(&plain.as_str()));
        word.clear();
        plain.clear();
    }
    if hinted { turned > written } else { turned >= 2 && written == 0 }
}

fn turn(c: char) -> char {
    let base = match c {
        'a'..='z' => b'a',
        'A'..='Z' => b'A',
        _ => return c,
    };
    u8::try_from(c).map_or(c, |byte| char::from((byte - base + 13) % 26 + base))
}
