//! Escapes of single characters: percent, `\x`, `\u`, those of JSON strings, HTML entities, and how
//! shells write the one that begins a terminal's sequences.
//!
//! Each is undone by itself wherever it gives a character of text; the others stay as they are.

use super::{Byte, Region, Unit, is_text, replace, terminal};

/// The longest entity between `&` and `;`.
const ENTITY_CHARS_MAX: usize = 12;

/// Named entities that stand for ASCII, and the no-break space.
const ENTITIES: &[(&str, char)] = &[
    ("amp", '&'),
    ("apos", '\''),
    ("ast", '*'),
    ("bsol", '\\'),
    ("colon", ':'),
    ("comma", ','),
    ("commat", '@'),
    ("dollar", '$'),
    ("equals", '='),
    ("excl", '!'),
    ("gt", '>'),
    ("lbrace", '{'),
    ("lowbar", '_'),
    ("lpar", '('),
    ("lt", '<'),
    ("nbsp", ' '),
    ("NewLine", '\n'),
    ("num", '#'),
    ("percnt", '%'),
    ("period", '.'),
    ("plus", '+'),
    ("quest", '?'),
    ("quot", '"'),
    ("rbrace", '}'),
    ("rpar", ')'),
    ("semi", ';'),
    ("shy", '\u{AD}'),
    ("sol", '/'),
    ("Tab", '\t'),
    ("zwnj", '\u{200C}'),
    ("zwj", '\u{200D}'),
];

/// Whether `raw` holds the beginning of an escape.
pub(super) fn may_decode(raw: &str) -> bool {
    raw.as_bytes().windows(2).any(|pair| match pair {
        [b'%', next] => next.is_ascii_hexdigit(),
        [b'&', next] => *next == b'#' || next.is_ascii_alphabetic(),
        [b'\\', b'x' | b'u' | b'U' | b'0' | b'e' | b'E'] => true,
        [b'\\', next] => simple(char::from(*next)).is_some(),
        _ => false,
    })
}

/// The text with its escapes undone.
pub(super) fn decode(units: &[Unit]) -> Option<Vec<Unit>> {
    let mut regions = Vec::new();
    let mut at = 0;
    while let Some(unit) = units.get(at) {
        let rest = units.get(at..).unwrap_or_default();
        let single = match unit.c {
            '&' => entity(rest),
            '\\' => unicode(rest)
                .or_else(|| steering(rest))
                .or_else(|| line_end(rest))
                .or_else(|| Some((simple(rest.get(1)?.c)?, 2))),
            _ => None,
        };
        if let Some((c, length)) = single {
            push(units, at, at + length, c, &mut regions);
            at += length;
            continue;
        }
        let bytes = byte_run(rest, at);
        at = bytes.last().map_or(at + 1, |last| last.to);
        decode_bytes(units, &bytes, &mut regions);
    }
    replace(units, regions)
}

fn push(units: &[Unit], from: usize, to: usize, c: char, regions: &mut Vec<Region>) {
    let made = units.get(from..to).and_then(|group| Unit::made(c, group));
    regions.extend(made.map(|unit| Region { from, to, text: vec![unit] }));
}

/// Adds the characters that `bytes` write in UTF-8.
pub(super) fn decode_bytes(units: &[Unit], bytes: &[Byte], regions: &mut Vec<Region>) {
    let values: Vec<u8> = bytes.iter().map(|byte| byte.value).collect();
    let mut at = 0;
    for chunk in values.utf8_chunks() {
        for c in chunk.valid().chars() {
            let next = at + c.len_utf8();
            if let (Some(first), Some(last), true) =
                (bytes.get(at), bytes.get(next - 1), is_written(c))
            {
                push(units, first.from, last.to, c, regions);
            }
            at = next;
        }
        at += chunk.invalid().len();
    }
}

/// The run of `%XX` and `\xXX` at the beginning of `rest`, which lies at `at`.
fn byte_run(rest: &[Unit], at: usize) -> Vec<Byte> {
    let (mut bytes, mut rest, mut at) = (Vec::new(), rest, at);
    loop {
        let (length, after) = match rest {
            [percent, after @ ..] if percent.c == '%' => (3, after),
            [slash, x, after @ ..] if slash.c == '\\' && x.c == 'x' => (4, after),
            _ => return bytes,
        };
        let Some(value) = number(after, 2, 16).and_then(|value| u8::try_from(value).ok()) else {
            return bytes;
        };
        bytes.push(Byte { value, from: at, to: at + length });
        at += length;
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// Whether an escape may stand for `c`: text, and what steers a terminal.
fn is_written(c: char) -> bool {
    is_text(c) || terminal::is_sign(c)
}

/// `\033` and `\e` before a bracket: the character, and the length.
fn steering(rest: &[Unit]) -> Option<(char, usize)> {
    let c = |at: usize| rest.get(at).map(|unit| unit.c);
    let length = match (c(1)?, c(2), c(3)) {
        ('0', Some('3'), Some('3')) => 4,
        ('e' | 'E', _, _) => 2,
        _ => return None,
    };
    matches!(c(length), Some('[' | ']')).then_some(('\u{1B}', length))
}

/// `\r\n`, which ends one line.
fn line_end(rest: &[Unit]) -> Option<(char, usize)> {
    rest.get(..4)?.iter().map(|unit| unit.c).eq(r"\r\n".chars()).then_some(('\n', 4))
}

/// What stands for one character behind a backslash, as in strings of JSON and most languages.
fn simple(marker: char) -> Option<char> {
    match marker {
        'n' | 'r' => Some('\n'),
        't' => Some('\t'),
        'b' | 'f' => Some(' '),
        '"' | '\\' | '/' => Some(marker),
        _ => None,
    }
}

/// `\uXXXX`, also as a surrogate pair, `\u{X…}`, `\UXXXXXXXX`: the character, and the length.
fn unicode(rest: &[Unit]) -> Option<(char, usize)> {
    let (marker, digits) = (rest.get(1)?.c, rest.get(2..)?);
    let (code, length) = match (marker, digits.first()?.c) {
        ('u', '{') => {
            let count = digits.iter().take(8).position(|unit| unit.c == '}')?.checked_sub(1)?;
            (number(digits.get(1..)?, count, 16)?, count + 4)
        }
        ('u', _) => (number(digits, 4, 16)?, 6),
        ('U', _) => (number(digits, 8, 16)?, 10),
        _ => return None,
    };
    let low = || match rest.get(6..)? {
        [slash, u, digits @ ..] if slash.c == '\\' && u.c == 'u' => number(digits, 4, 16),
        _ => None,
    };
    let (code, length) = match code {
        0xD800..=0xDBFF if length == 6 => {
            let low = low().filter(|low| (0xDC00..=0xDFFF).contains(low))?;
            (0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00), 12)
        }
        _ => (code, length),
    };
    char::from_u32(code).filter(|c| is_written(*c)).map(|c| (c, length))
}

/// `&#65;`, `&#x41;`, also without the semicolon, and `&name;`: the character, and the length.
fn entity(rest: &[Unit]) -> Option<(char, usize)> {
    let body = rest.get(1..)?;
    let name: String = body
        .iter()
        .take(ENTITY_CHARS_MAX)
        .map(|unit| unit.c)
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '#')
        .collect();
    let closed = usize::from(body.get(name.len()).is_some_and(|unit| unit.c == ';'));
    let Some(numeric) = name.strip_prefix('#') else {
        let (_, c) = ENTITIES.iter().find(|(known, _)| closed == 1 && *known == name)?;
        return Some((*c, name.len() + 2));
    };
    let (digits, radix) = match numeric.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (numeric, 10),
    };
    let count = digits.chars().take_while(|c| c.is_digit(radix)).count();
    let before = 1 + name.len() - digits.len();
    let c =
        char::from_u32(number(rest.get(before..)?, count, radix)?).filter(|c| is_written(*c))?;
    let closed = rest.get(before + count).is_some_and(|unit| unit.c == ';');
    Some((c, before + count + usize::from(closed)))
}

/// The number that the first `count` characters write; `None` if one of them is no digit.
fn number(units: &[Unit], count: usize, radix: u32) -> Option<u32> {
    let digits = units.get(..count).filter(|digits| !digits.is_empty())?;
    digits
        .iter()
        .try_fold(0u32, |sum, unit| sum.checked_mul(radix)?.checked_add(unit.c.to_digit(radix)?))
}
