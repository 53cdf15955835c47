//! Telephone numbers by region.

use std::ops::Range;
use std::sync::LazyLock;

use ::regex::Regex;
use phonenumber::country::Id;

use super::super::hit::widen;
use super::Seen;

/// National numbers that are written as such: North America, a trunk zero, France, Brazil.
static GROUPED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}|\(?0\d{1,4}\)?(?:[ /-]\d{2,8}){1,4}|0\d(?:\.\d{2}){4}|\(?\d{2}\)? 9?\d{4}-\d{4})$",
    )
});
/// An area code in brackets, whatever the plan.
static BRACKETED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^\(\d{2,5}\)[ -]?\d{2,4}(?:[ -]?\d{2,4}){1,3}$"));
/// A date or an address of a network.
static OTHER: LazyLock<Regex> = LazyLock::new(|| {
    let (day, month) = (r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])");
    pattern(&format!(
        r"^(?:(?:19|20)\d\d[-./ ]{month}[-./ ]{day}|{day}[-./]{day}[-./](?:19|20)?\d\d)(?:[^-./\d]|$)|^\d{{1,3}}(?:\.\d{{1,3}}){{3}}$"
    ))
});
/// Five digits and four are a postal code of the United States: only what calls it a telephone number
/// makes it one.
static POSTAL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\d{5}-\d{4}$"));
/// What says of the number behind it that it is one: a noun with a sign, a noun, a verb.
static BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    let noun = "(?:tele|cell ?)?phone|tel|mobile|cell|fax|whatsapp|telefon|telefax|handy|mobil|téléphone|portable|teléfono|móvil|celular|telefono|cellulare|telefone|telefoon";
    pattern(&format!(
        r"(?i)\b(?:(?P<sign>(?:{noun}|office|desk|home|work|direct)(?: (?:number|no\.?|nr\.?))?[ \t]*[.:=#]\s{{0,3}})|(?:{noun})(?: (?:number|no\.?|nr\.?))?(?: is| at| on)? |(?:call|dial|ring|text|phone)(?: me| us| him| her| them)?(?: back| now| today)?(?: at| on)? )$"
    ))
});
/// The same behind a number, at the end of its line, as on a visiting card.
static BEHIND: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^[ \t]?[-(]?(?:office|fax|mobile|cell|home|work|desk|direct)\)?[ \t]*(?:[\r\n,;]|$)",
    )
});
static EXTENSION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?i: ?x| ?ext\.?| ?extension) ?\d{1,6}\b"));

#[expect(clippy::expect_used, reason = "the patterns are constant and compiled by a test")]
fn pattern(source: &str) -> Regex {
    Regex::new(&source.replace(r"\d", "[0-9]")).expect("constant pattern")
}

/// Groups of digits in one number.
const GROUPS_MAX: usize = 7;
/// Bytes before and behind a number in which its label stands.
const LABEL_MAX: usize = 40;
/// Score of a national number that neither its form nor a word nearby speaks for.
pub(super) const BARE: f64 = 0.3;
/// Score of what the text calls a telephone number, whatever a plan of today says.
const CALLED: f64 = 0.75;

/// Whether the candidate begins like a number that needs no word nearby.
pub(super) fn looks(found: &str) -> bool {
    let area = found.bytes().take_while(u8::is_ascii_digit).count() <= 3;
    let begins = area || found.starts_with(['(', '0']);
    is_international(found) || begins && ends(found).any(|end| GROUPED.is_match(prefix(found, end)))
}

/// Lists of small numbers are no telephone numbers, and parsing each would cost.
pub(super) fn is_short(found: &str) -> bool {
    found.split(|c: char| !c.is_ascii_digit()).filter(|g| !g.is_empty()).count() <= GROUPS_MAX
}

/// The longest run of groups that makes a number: another may follow it. International numbers
/// stand alone; national ones need the look of one, or context.
pub(super) fn check(found: &str, regions: &[&str]) -> Option<Seen> {
    let grouped = ends(found).filter(|end| GROUPED.is_match(prefix(found, *end)));
    let valid = grouped.chain(ends(found)).find_map(|end| whole(prefix(found, end), regions));
    valid.or_else(|| ends(found).find_map(|end| possible(prefix(found, end))))
}

/// The number that the words beside it call one: `Phone: 22 525335`, `469 2020 office`.
pub(super) fn called(text: &str, candidate: Range<usize>) -> Option<Seen> {
    let Range { start, end } = candidate;
    let found = text.get(start..end)?;
    let (from, to) =
        widen(text, start.saturating_sub(LABEL_MAX), (end + LABEL_MAX).min(text.len()));
    let before = BEFORE.captures(text.get(from..start)?);
    let min = if before.as_ref().is_some_and(|label| label.name("sign").is_some()) { 6 } else { 7 };
    let behind = || text.get(end..to).is_some_and(|rest| BEHIND.is_match(rest));
    if before.is_none() && !behind() {
        return None;
    }
    let fits = |end: &usize| (min..=15).contains(&digits(prefix(found, *end)));
    let len = ends(found).find(fits)?;
    let plain = is_short(found) && !OTHER.is_match(found) && !counts_up(prefix(found, len));
    plain.then_some(Seen { len, plain: CALLED, near: CALLED, attribute: None })
}

/// Bytes of the extension that `rest` begins with.
pub(super) fn extension(rest: &str) -> usize {
    EXTENSION.find(rest).map_or(0, |found| found.end())
}

fn prefix(found: &str, end: usize) -> &str {
    found.get(..end).unwrap_or_default()
}

fn digits(found: &str) -> usize {
    found.bytes().filter(u8::is_ascii_digit).count()
}

/// `0123456789` in one piece is an example of digits, nobody's number.
fn counts_up(found: &str) -> bool {
    let next =
        |pair: &[u8]| matches!(pair, [a @ b'0'..=b'9', b] if (a - b'0' + 1) % 10 + b'0' == *b);
    found.len() >= 7 && found.as_bytes().windows(2).all(next)
}

fn is_international(found: &str) -> bool {
    found.starts_with('+') || found.starts_with("00")
}

/// Ends of the runs of digits, the last first. The text may go on behind the last: who asks
/// looks at what stands there.
fn ends(found: &str) -> impl Iterator<Item = usize> {
    let bytes = found.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    (1..=bytes.len()).rev().filter(move |end| digit(end - 1) && !digit(*end))
}

fn whole(found: &str, regions: &[&str]) -> Option<Seen> {
    let digits = digits(found);
    if !(7..=15).contains(&digits) || !is_short(found) || OTHER.is_match(found) {
        return None;
    }
    if POSTAL.is_match(found) || counts_up(found) {
        return None;
    }
    let seen = |plain, near, country: &str| {
        let attribute = Some(("country", country.to_owned()));
        Some(Seen { len: found.len(), plain, near, attribute })
    };
    if is_international(found) {
        let number = found.strip_prefix("00").map_or_else(|| found.to_owned(), |n| format!("+{n}"));
        let country = valid(None, &number)?;
        return seen(if found.starts_with('+') { 0.9 } else { 0.6 }, 0.95, &country);
    }
    // Short ones are also numbers of houses and rooms: a label speaks for them, no mere word.
    let long = digits >= 9;
    let plain = if long && GROUPED.is_match(found) { 0.6 } else { BARE };
    let country = regions.iter().find_map(|region| valid(region.parse().ok(), found))?;
    seen(plain, if long || found.contains([' ', '-', '.']) { 0.85 } else { BARE }, &country)
}

/// Written like a number whose plan is not known here, or in which it is not given out today: a
/// word nearby must speak for it.
fn possible(found: &str) -> Option<Seen> {
    let digits = digits(found);
    let written = is_international(found) && (10..=15).contains(&digits)
        || (9..=12).contains(&digits) && (GROUPED.is_match(found) || BRACKETED.is_match(found));
    let other = OTHER.is_match(found) || POSTAL.is_match(found) || counts_up(found);
    (written && is_short(found) && !other).then_some(Seen {
        len: found.len(),
        plain: BARE,
        near: 0.7,
        attribute: None,
    })
}

fn valid(region: Option<Id>, number: &str) -> Option<String> {
    let number = phonenumber::parse(region, number).ok().filter(phonenumber::is_valid)?;
    let country = number.country().id().or(region)?;
    Some(format!("{country:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        for pattern in [&GROUPED, &BRACKETED, &OTHER, &POSTAL, &BEFORE, &BEHIND, &EXTENSION] {
            assert!(!pattern.as_str().is_empty());
        }
    }
}
