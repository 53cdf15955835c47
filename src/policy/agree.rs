//! Builtins that the engine answers unlike Open Policy Agent, answered like it: policies are written
//! and tested with both.

use finl_unicode::categories::CharacterCategories as _;
use regorus::Value;

/// Takes the place of a builtin; `None` where its own answer is right, an error where the other
/// engine writes a fault into the text or would answer garbage.
pub(super) type Answer = fn(&[Value]) -> Option<Result<Value, &'static str>>;

pub(super) const ANSWERS: [(&str, Answer); 8] = [
    // Its own count is that of UTF-16 units.
    ("count", |args| Some(Ok(text(args, 0)?.chars().count().into()))),
    ("lower", |args| Some(Ok(text(args, 0)?.chars().map(lower).collect::<String>().into()))),
    ("upper", |args| Some(Ok(text(args, 0)?.chars().map(upper).collect::<String>().into()))),
    ("sprintf", |args| sprintf(text(args, 0)?, args.get(1)?)),
    ("strings.replace_n", |args| replace_each(args.first()?, text(args, 1)?)),
    ("indexof", |args| refuse_empty(text(args, 1)?)),
    ("indexof_n", |args| refuse_empty(text(args, 1)?)),
    ("replace", |args| refuse_empty(text(args, 1)?)),
];

/// The patterns of these are at the index named, and mean what RE2 reads in them.
pub(super) const PATTERNS: [(&str, usize); 6] = [
    ("regex.match", 0),
    ("regex.find_n", 0),
    ("regex.find_all_string_submatch_n", 0),
    ("regex.split", 0),
    ("regex.is_valid", 0),
    ("regex.replace", 1),
];

fn text(args: &[Value], at: usize) -> Option<&str> {
    args.get(at)?.as_string().ok().map(AsRef::as_ref)
}

fn refuse_empty(searched: &str) -> Option<Result<Value, &'static str>> {
    searched.is_empty().then_some(Err("the text searched for is empty"))
}

/// Letter by letter: no letter becomes two, and none looks at its neighbours.
fn lower(letter: char) -> char {
    letter.to_lowercase().next().unwrap_or(letter)
}

fn upper(letter: char) -> char {
    let mut letters = letter.to_uppercase();
    match (letters.next(), letters.next()) {
        (Some(upper), None) => upper,
        // Greek letters with an iota below have one capital too.
        _ => match u32::from(letter) {
            0x1F80..=0x1F87 | 0x1F90..=0x1F97 | 0x1FA0..=0x1FA7 => offset(letter, 8),
            0x1FB3 | 0x1FC3 | 0x1FF3 => offset(letter, 9),
            _ => letter,
        },
    }
}

fn offset(letter: char, by: u32) -> char {
    char::from_u32(u32::from(letter) + by).unwrap_or(letter)
}

/// At each place the first pair that fits; what was written is not read again.
fn replace_each(pairs: &Value, text: &str) -> Option<Result<Value, &'static str>> {
    let pairs =
        pairs.as_object().ok()?.iter().map(|(old, new)| {
            Some((old.as_string().ok()?.as_ref(), new.as_string().ok()?.as_ref()))
        });
    let pairs: Vec<(&str, &str)> = pairs.collect::<Option<_>>()?;
    if pairs.iter().any(|(old, _)| old.is_empty()) {
        return Some(Err("a text to replace is empty"));
    }
    let (mut written, mut rest) = (String::new(), text);
    while let Some(letter) = rest.chars().next() {
        let fits = pairs.iter().find_map(|(old, new)| Some((rest.strip_prefix(old)?, new)));
        match fits {
            Some((after, new)) => {
                written.push_str(new);
                rest = after;
            }
            None => {
                written.push(letter);
                rest = rest.get(letter.len_utf8()..).unwrap_or_default();
            }
        }
    }
    Some(Ok(written.into()))
}

/// One verb of a format.
#[derive(Default)]
struct Verb {
    left: bool,
    zeros: bool,
    plus: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
    letter: char,
}

/// Widest that a format may ask for.
const WIDTH_MAX: usize = 999;

const UNFIT: &str = "the format does not fit its values";

/// The formats that both engines can write; every other is an error.
fn sprintf(format: &str, values: &Value) -> Option<Result<Value, &'static str>> {
    let mut written = String::new();
    let mut values = values.as_array().ok()?.iter();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            written.push(letter);
            continue;
        }
        let Some(verb) = verb(&mut letters) else { return Some(Err(UNFIT)) };
        if verb.letter == '%' {
            written.push('%');
            continue;
        }
        let Some(shown) = values.next().and_then(|value| show(&verb, value)) else {
            return Some(Err(UNFIT));
        };
        written.push_str(&shown);
    }
    Some(if values.next().is_none() { Ok(written.into()) } else { Err(UNFIT) })
}

fn verb(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Verb> {
    let mut verb = Verb::default();
    while let Some(flag) = letters.next_if(|letter| "-0+ ".contains(*letter)) {
        match flag {
            '-' => verb.left = true,
            '0' => verb.zeros = true,
            '+' => verb.plus = true,
            _ => verb.space = true,
        }
    }
    verb.width = number(letters);
    if letters.next_if_eq(&'.').is_some() {
        verb.precision = Some(number(letters));
    }
    verb.letter = letters.next()?;
    let widest = verb.width.max(verb.precision.unwrap_or(0));
    (widest <= WIDTH_MAX).then_some(verb)
}

fn number(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut number: usize = 0;
    while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
        number = number.saturating_mul(10).saturating_add(digit as usize);
        letters.next();
    }
    number
}

fn show(verb: &Verb, value: &Value) -> Option<String> {
    let Value::Number(number) = value else {
        let text = match value {
            Value::String(text) => text.as_ref().to_owned(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Set(_) | Value::Object(_) => {
                literal(value)?
            }
            Value::Number(_) | Value::Undefined => return None,
        };
        return match verb.letter {
            's' | 'v' => {
                let end = verb.precision.unwrap_or(usize::MAX);
                Some(pad(verb, "", &text.chars().take(end).collect::<String>(), false))
            }
            'q' if matches!(value, Value::String(_)) => Some(pad(verb, "", &quoted(&text), false)),
            _ => None,
        };
    };
    if verb.precision.is_some() && !matches!(verb.letter, 'f' | 'F' | 'e') {
        return None;
    }
    if let Some(whole) = number.as_i64() {
        let size = whole.unsigned_abs();
        let digits = match verb.letter {
            'd' | 'v' => size.to_string(),
            'x' => format!("{size:x}"),
            'X' => format!("{size:X}"),
            'o' => format!("{size:o}"),
            'b' => format!("{size:b}"),
            _ => return None,
        };
        return Some(pad(verb, sign(verb, whole < 0), &digits, true));
    }
    let float = number.as_f64().filter(|_| !number.is_integer())?;
    let digits = match verb.letter {
        'v' if (1e-4..1e21).contains(&float.abs()) => float.abs().to_string(),
        'v' => exponent(&format!("{:e}", float.abs()))?,
        'f' | 'F' => format!("{:.*}", verb.precision.unwrap_or(6), float.abs()),
        'e' => exponent(&format!("{:.*e}", verb.precision.unwrap_or(6), float.abs()))?,
        _ => return None,
    };
    Some(pad(verb, sign(verb, float < 0.0), &digits, true))
}

/// `1e-7` with a sign and two digits: `1e-07`.
fn exponent(number: &str) -> Option<String> {
    let (digits, power) = number.split_once('e')?;
    let power: i32 = power.parse().ok()?;
    Some(format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs()))
}

fn sign(verb: &Verb, negative: bool) -> &'static str {
    match (negative, verb.plus, verb.space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    }
}

fn pad(verb: &Verb, sign: &str, text: &str, number: bool) -> String {
    let missing = verb.width.saturating_sub(sign.len() + text.chars().count());
    match (verb.left, verb.zeros && number) {
        (true, _) => format!("{sign}{text}{}", " ".repeat(missing)),
        (false, true) => format!("{sign}{}{text}", "0".repeat(missing)),
        (false, false) => format!("{}{sign}{text}", " ".repeat(missing)),
    }
}

/// A value as the language writes it.
fn literal(value: &Value) -> Option<String> {
    let list =
        |items: Vec<String>, open: &str, close: &str| format!("{open}{}{close}", items.join(", "));
    Some(match value {
        Value::Array(items) => list(items.iter().map(literal).collect::<Option<_>>()?, "[", "]"),
        Value::Set(items) if items.is_empty() => "set()".into(),
        Value::Set(items) => list(items.iter().map(literal).collect::<Option<_>>()?, "{", "}"),
        Value::Object(fields) => {
            let field = |(key, value)| Some(format!("{}: {}", literal(key)?, literal(value)?));
            list(fields.iter().map(field).collect::<Option<_>>()?, "{", "}")
        }
        Value::String(text) => quoted(text),
        Value::Number(number) if number.as_i64().is_none() && number.is_integer() => return None,
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Undefined => return None,
    })
}

/// In quotes, with what is no letter, mark, digit or sign written as its code.
fn quoted(text: &str) -> String {
    let mut written = String::from('"');
    for letter in text.chars() {
        let code = u32::from(letter);
        let escape = match letter {
            '"' | '\\' => format!("\\{letter}"),
            '\u{7}' => "\\a".into(),
            '\u{8}' => "\\b".into(),
            '\u{c}' => "\\f".into(),
            '\n' => "\\n".into(),
            '\r' => "\\r".into(),
            '\t' => "\\t".into(),
            '\u{b}' => "\\v".into(),
            _ if is_printable(letter) => letter.to_string(),
            _ if code < 0x80 => format!("\\x{code:02x}"),
            _ if code < 0x1_0000 => format!("\\u{code:04x}"),
            _ => format!("\\U{code:08x}"),
        };
        written.push_str(&escape);
    }
    written.push('"');
    written
}

fn is_printable(letter: char) -> bool {
    letter.is_letter()
        || letter.is_mark()
        || letter.is_number()
        || letter.is_punctuation()
        || letter.is_symbol()
        || letter == ' '
}

/// The pattern with the classes of Perl written out: they are ASCII in RE2.
pub(super) fn pattern(re2: &str) -> String {
    let mut written = String::new();
    let mut letters = re2.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            written.push(letter);
            continue;
        }
        match letters.next() {
            Some('w') => written.push_str("[0-9A-Za-z_]"),
            Some('W') => written.push_str("[^0-9A-Za-z_]"),
            Some('d') => written.push_str("[0-9]"),
            Some('D') => written.push_str("[^0-9]"),
            Some('s') => written.push_str("[\\t\\n\\f\\r ]"),
            Some('S') => written.push_str("[^\\t\\n\\f\\r ]"),
            Some('b') => written.push_str("(?-u:\\b)"),
            Some(other) => written.extend(['\\', other]),
            None => written.push('\\'),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_format_asks_for_more_than_999_letters() {
        for format in ["%1000d", "%1.99999999f", "%-9999999999999999999999d", "%.1000s", "%"] {
            let value = if format.ends_with('s') { Value::from("a") } else { Value::from(1.5) };
            let said = sprintf(format, &Value::from(vec![value]));
            assert!(matches!(said, Some(Err(UNFIT))), "{format}: {said:?}");
        }
        let said = sprintf("%999.1f|", &Value::from(vec![Value::from(1.5)]));
        let Some(Ok(Value::String(text))) = said else { panic!("{said:?}") };
        assert_eq!(text.len(), 1_000);
    }
}
