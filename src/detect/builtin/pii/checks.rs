//! Checksums and shapes of numbers. Each check answers how much of the candidate belongs to it.

use std::net::{Ipv4Addr, Ipv6Addr};

use sha2::{Digest as _, Sha256};

use super::Seen;

fn seen(
    len: usize,
    plain: f64,
    near: f64,
    attribute: Option<(&'static str, &str)>,
) -> Option<Seen> {
    let attribute = attribute.map(|(key, value)| (key, value.to_owned()));
    Some(Seen { len, plain, near, attribute })
}

pub(super) fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum()
}

fn luhn(digits: &[u32]) -> bool {
    let doubled = |(i, d): (usize, &u32)| if i % 2 == 1 { d * 2 / 10 + d * 2 % 10 } else { *d };
    digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

pub(super) fn card(found: &str, _: &[&str]) -> Option<Seen> {
    let all = digits(found);
    let head = |n: usize| all.iter().take(n).fold(0, |sum, d| sum * 10 + d);
    // Prefix ranges as the issuers publish them; the older lengths, which other numbers have more
    // often, need a word. So does what only holds a check digit: ranges are given out every year.
    let (issuer, lengths, older): (_, &[usize], &[usize]) = match (head(2), head(4)) {
        (40..=49, _) => ("visa", &[16, 19], &[13]),
        (51..=55, _) | (_, 2221..=2720) => ("mastercard", &[16], &[]),
        (34 | 37, _) => ("amex", &[15], &[]),
        (65, _) | (_, 6011 | 6440..=6499) => ("discover", &[16], &[]),
        (36 | 38 | 39, _) | (_, 3000..=3059) => ("diners", &[14], &[]),
        (_, 3528..=3589) => ("jcb", &[16], &[]),
        (_, 1800 | 2131) => ("jcb", &[], &[15]),
        (62, _) => ("unionpay", &[16, 19], &[]),
        (50 | 56..=58 | 60..=69, _) => ("maestro", &[], &[12, 13, 14, 15, 16, 17, 18, 19]),
        // 8 is for other cards than those of banks, such as SIM cards; 7 for fuel, 0 for nobody.
        (10..=69 | 90..=99, _) => ("unknown", &[], &[14, 15, 16]),
        _ => return None,
    };
    let ends = || found.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at + 1);
    let end = |n: &usize| {
        let at = all.get(..*n).filter(|number| luhn(number)).and_then(|_| ends().nth(*n - 1))?;
        (!found.get(at..)?.starts_with(|c: char| c.is_ascii_digit())).then_some(at)
    };
    if let Some(len) = lengths.iter().find_map(end) {
        return seen(len, 0.85, 0.98, Some(("issuer", issuer)));
    }
    seen(older.iter().find_map(end)?, 0.3, 0.75, Some(("issuer", issuer)))
}

pub(super) fn iban(found: &str, _: &[&str]) -> Option<Seen> {
    let part = |c: char| c.is_ascii_alphanumeric();
    let plain: String = found.chars().filter(|c| part(*c)).collect::<String>().to_ascii_uppercase();
    let ends = found.char_indices().filter(|(_, c)| part(*c)).map(|(at, _)| at + 1).enumerate();
    let valid = |(at, _): &(usize, usize)| {
        plain.get(..=*at).is_some_and(|plain| plain.parse::<iban::Iban>().is_ok())
    };
    let (_, len) = ends.skip(14).filter(valid).last()?;
    seen(len, 0.98, 0.99, Some(("country", plain.get(..2)?)))
}

pub(super) fn ssn(found: &str, _: &[&str]) -> Option<Seen> {
    let number = digits(found).iter().fold(0, |sum, d| sum * 10 + d);
    let (area, group, serial) = (number / 1_000_000, number / 10_000 % 100, number % 10_000);
    let sample = matches!(number, 78_051_120 | 219_099_999);
    if matches!(area, 0 | 666 | 900..) || group == 0 || serial == 0 || sample {
        return None;
    }
    let plain = if found.contains('-') { 0.85 } else { 0.2 };
    seen(found.len(), plain, if found.len() == 9 { 0.75 } else { 0.95 }, None)
}

pub(super) fn ipv4(found: &str, _: &[&str]) -> Option<Seen> {
    let address: Ipv4Addr = found.parse().ok()?;
    let plain = if address.octets().iter().all(|octet| *octet < 20) { 0.4 } else { 0.8 };
    let personal = !(address.is_unspecified() || address.is_loopback() || address.is_broadcast());
    personal.then(|| seen(found.len(), plain, plain.max(0.6) + 0.15, None)).flatten()
}

pub(super) fn ipv6(found: &str, _: &[&str]) -> Option<Seen> {
    let address: Ipv6Addr = found.parse().ok()?;
    let groups = found.split(':').filter(|group| !group.is_empty()).count();
    let personal = groups >= 3 && found.contains(|c: char| c.is_ascii_digit());
    (personal && !address.is_loopback()).then(|| seen(found.len(), 0.85, 0.95, None)).flatten()
}

pub(super) fn mac(found: &str, _: &[&str]) -> Option<Seen> {
    let plain = found.replace(['-', ':'], "").to_ascii_lowercase();
    let mixed = found.contains('-') && found.contains(':');
    (!mixed && plain != "0".repeat(12) && plain != "f".repeat(12))
        .then(|| seen(found.len(), 0.85, 0.95, None))
        .flatten()
}

pub(super) fn birth(found: &str, _: &[&str]) -> Option<Seen> {
    let numbers: Vec<u32> =
        found.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let year = numbers.iter().any(|n| (1900..=2100).contains(n));
    let rest = numbers.iter().filter(|n| **n < 1900).all(|n| (1..=31).contains(n));
    (year && rest).then(|| seen(found.len(), 0.2, 0.9, None)).flatten()
}

pub(super) fn ethereum(found: &str, _: &[&str]) -> Option<Seen> {
    seen(found.len(), 0.75, 0.9, None)
}

/// Base58Check of a legacy Bitcoin address: 25 bytes, the last four a double SHA-256.
pub(super) fn bitcoin(found: &str, _: &[&str]) -> Option<Seen> {
    const ALPHABET: &str = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut bytes = [0_u8; 25];
    for c in found.chars() {
        let mut carry = u32::try_from(ALPHABET.find(c)?).ok()?;
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 58;
            *byte = u8::try_from(carry & 0xFF).ok()?;
            carry >>= 8;
        }
        if carry > 0 {
            return None;
        }
    }
    let (body, sum) = bytes.split_at(21);
    let twice = Sha256::digest(Sha256::digest(body));
    (twice.get(..4) == Some(sum)).then(|| seen(found.len(), 0.97, 0.99, None)).flatten()
}

/// A national number of `country` whose checksum holds.
fn id(holds: bool, found: &str, scores: (f64, f64), country: &'static str) -> Option<Seen> {
    holds.then(|| seen(found.len(), scores.0, scores.1, Some(("country", country)))).flatten()
}

fn varied(digits: &[u32]) -> bool {
    digits.first().is_some_and(|first| digits.iter().any(|d| d != first))
}

/// NHS number: weights 10..2, 11 − sum mod 11.
pub(super) fn nhs(found: &str, _: &[&str]) -> Option<Seen> {
    let d = digits(found);
    let sum = weighted(&d, &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    id(d.len() == 10 && varied(&d) && sum.is_multiple_of(11), found, (0.3, 0.9), "GB")
}

pub(super) fn nino(found: &str, _: &[&str]) -> Option<Seen> {
    let head = found.get(..2)?;
    let refused = ["BG", "GB", "KN", "NK", "NT", "TN", "ZZ"].contains(&head);
    id(!refused, found, (0.6, 0.9), "GB")
}

/// Steuer-ID: ISO 7064 MOD 11,10; exactly one digit of the first ten repeats, at most thrice.
pub(super) fn steuer_id(found: &str, _: &[&str]) -> Option<Seen> {
    let d = digits(found);
    let (body, check) = (d.get(..10)?, d.get(10)?);
    let product = body.iter().fold(10, |product, digit| {
        let sum = (digit + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    let times = |n: u32| body.iter().filter(|digit| **digit == n).count();
    let repeats: Vec<usize> = (0..10).map(times).filter(|n| *n > 1).collect();
    let shaped = matches!(repeats.as_slice(), [2 | 3]) && body.first() != Some(&0);
    id(shaped && (11 - product) % 10 == *check, found, (0.4, 0.9), "DE")
}

/// DNI and NIE: letter = number mod 23, X Y Z stand for 0 1 2.
pub(super) fn dni(found: &str, _: &[&str]) -> Option<Seen> {
    let lead = match found.chars().next()? {
        'Y' => 10_000_000,
        'Z' => 20_000_000,
        _ => 0,
    };
    let number = lead + digits(found).iter().fold(0, |sum, d| sum * 10 + d);
    let letter = "TRWAGMYFPDXBNJZSQVHLCKE".chars().nth((number % 23) as usize);
    id(letter == found.chars().last(), found, (0.65, 0.95), "ES")
}

/// NIR: key = 97 − number mod 97; Corsica's 2A and 2B count as 19 and 18.
pub(super) fn nir(found: &str, _: &[&str]) -> Option<Seen> {
    let plain = found.replace(' ', "").replace("2A", "19").replace("2B", "18");
    let number: u64 = plain.get(..13)?.parse().ok()?;
    let key: u64 = plain.get(13..)?.parse().ok()?;
    id(97 - number % 97 == key, found, (0.6, 0.95), "FR")
}

/// Codice fiscale: odd places by table, even places by value, mod 26.
pub(super) fn codice_fiscale(found: &str, _: &[&str]) -> Option<Seen> {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    let value = |c: char| c.to_digit(10).unwrap_or((c as u32).saturating_sub('A' as u32));
    let place = |(i, c): (usize, char)| match i % 2 {
        0 => ODD.get(value(c) as usize).copied().unwrap_or_default(),
        _ => value(c),
    };
    let sum: u32 = found.chars().take(15).enumerate().map(place).sum();
    id(found.chars().last().map(value) == Some(sum % 26), found, (0.95, 0.99), "IT")
}

/// BSN: weights 9..2 and −1, mod 11.
pub(super) fn bsn(found: &str, _: &[&str]) -> Option<Seen> {
    let d = digits(found);
    let sum = weighted(&d, &[9, 8, 7, 6, 5, 4, 3, 2, 10]);
    id(d.len() == 9 && varied(&d) && sum.is_multiple_of(11), found, (0.2, 0.9), "NL")
}

/// PESEL: weights 1 3 7 9 …, mod 10, and a day that exists; the century is in the month.
pub(super) fn pesel(found: &str, _: &[&str]) -> Option<Seen> {
    let d = digits(found);
    let sum = weighted(&d, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    let (month, day) = ((d.get(2)? * 10 + d.get(3)?) % 20, d.get(4)? * 10 + d.get(5)?);
    let dated = (1..=12).contains(&month) && (1..=31).contains(&day);
    id(varied(&d) && sum.is_multiple_of(10) && dated, found, (0.5, 0.9), "PL")
}

/// CPF: two check digits, weights 10..2 and 11..2, mod 11.
pub(super) fn cpf(found: &str, _: &[&str]) -> Option<Seen> {
    let d = digits(found);
    let check = |n: u32| {
        let sum: u32 = d.iter().take(n as usize).zip((2..=n + 1).rev()).map(|(d, w)| d * w).sum();
        sum * 10 % 11 % 10
    };
    let holds = varied(&d) && d.get(9) == Some(&check(9)) && d.get(10) == Some(&check(10));
    id(holds, found, (if found.contains('.') { 0.85 } else { 0.3 }, 0.95), "BR")
}

/// Aadhaar: Verhoeff, the dihedral group written as arithmetic.
pub(super) fn aadhaar(found: &str, _: &[&str]) -> Option<Seen> {
    let times = |a: u32, b: u32| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a - 5 + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let step = |d: u32| [1, 5, 7, 6, 2, 8, 3, 0, 9, 4].get(d as usize).copied().unwrap_or_default();
    let turned = |(i, d): (usize, &u32)| (0..i % 8).fold(*d, |d, _| step(d));
    let d = digits(found);
    let sum = d.iter().rev().enumerate().map(turned).fold(0, times);
    id(varied(&d) && sum == 0, found, (0.45, 0.9), "IN")
}

/// AHV: EAN-13 with the prefix 756.
pub(super) fn ahv(found: &str, _: &[&str]) -> Option<Seen> {
    let sum = weighted(&digits(found), &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]);
    id(sum.is_multiple_of(10), found, (if found.contains('.') { 0.85 } else { 0.45 }, 0.95), "CH")
}

/// SIN: Luhn.
pub(super) fn sin(found: &str, _: &[&str]) -> Option<Seen> {
    let d = digits(found);
    id(varied(&d) && d.first() != Some(&0) && luhn(&d), found, (0.3, 0.9), "CA")
}
