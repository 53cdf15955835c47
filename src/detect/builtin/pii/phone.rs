//! Telephone numbers by region.

use std::sync::LazyLock;

use ::regex::Regex;
use phonenumber::country::Id;

use super::Seen;

#[expect(clippy::expect_used, reason = "the pattern is constant and compiled by a test")]
static GROUPED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?:(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}|\(?0\d{1,4}\)?(?:[ /-]\d{2,8}){1,4})$",
    )
    .expect("constant pattern")
});
#[expect(clippy::expect_used, reason = "the pattern is constant and compiled by a test")]
static DATE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:\d{4}([-./ ])\d{1,2}[-./ ]\d{1,2}\b|\d{1,2}[-./]\d{1,2}[-./]\d{2,4}\b|\d{1,3}(?:\.\d{1,3}){3}$)")
        .expect("constant pattern")
});

/// Groups of digits in one number.
const GROUPS_MAX: usize = 7;
/// Score of a national number that neither its form nor a word nearby speaks for.
pub(super) const BARE: f64 = 0.3;

/// Whether the candidate begins like a number that needs no word nearby.
pub(super) fn looks(found: &str) -> bool {
    let area = found.bytes().take_while(u8::is_ascii_digit).count() == 3;
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
    grouped.chain(ends(found)).find_map(|end| whole(prefix(found, end), regions))
}

fn prefix(found: &str, end: usize) -> &str {
    found.get(..end).unwrap_or_default()
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
    let digits = found.bytes().filter(u8::is_ascii_digit).count();
    if !(7..=15).contains(&digits) || !is_short(found) || DATE.is_match(found) {
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
    let plain = if GROUPED.is_match(found) { 0.6 } else { BARE };
    let country = regions.iter().find_map(|region| valid(region.parse().ok(), found))?;
    seen(plain, 0.85, &country)
}

fn valid(region: Option<Id>, number: &str) -> Option<String> {
    let number = phonenumber::parse(region, number).ok().filter(phonenumber::is_valid)?;
    let country = number.country().id().or(region)?;
    Some(format!("{country:?}"))
}
