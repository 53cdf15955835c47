//! The table of patterns: what to look for, how to check it, which words nearby speak for it.

use std::sync::LazyLock;

use ::regex::Regex;

use super::{Seen, checks, phone};

pub(super) struct Rule {
    pub(super) kind: &'static str,
    /// The rule counts only where this region is asked for.
    pub(super) region: Option<&'static str>,
    /// A text with fewer digits or colons cannot hold a match.
    pub(super) digits: usize,
    pub(super) colons: usize,
    pub(super) pattern: Regex,
    pub(super) check: Check,
    pub(super) words: Option<Regex>,
}

type Check = fn(&str, &[&str]) -> Option<Seen>;
/// Kind, region or nothing, digits, colons, pattern, check, context words.
type Row = (&'static str, &'static str, usize, usize, &'static str, Check, &'static str);

/// Every rule; patterns are bounded, so the search is linear.
pub(super) fn all() -> &'static [Rule] {
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| ROWS.iter().filter_map(rule).collect());
    &RULES
}

fn rule(row: &Row) -> Option<Rule> {
    let (kind, region, digits, colons, pattern, check, words) = *row;
    let words = Regex::new(&format!(r"(?i)\b(?:{words})\b")).ok();
    // `\d` means 0 to 9 only, and letters of other scripts bound a word: `clear` looks at them.
    let pattern = pattern.replace(r"\d", "[0-9]").replace(r"\b", r"(?-u:\b)");
    let pattern = Regex::new(&pattern).ok()?;
    let region = Some(region).filter(|region| !region.is_empty());
    Some(Rule { kind, region, digits, colons, pattern, check, words })
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("credit_card", "", 12, 0,
        r"\d(?:[ -]?\d){11,18}|\d{4}(?:[ \t\r\n./_-]{1,3}\d{4}){3}|\d{4}[ \t\r\n./_-]{1,3}\d{6}[ \t\r\n./_-]{1,3}\d{4,5}|\d(?: {1,4}\d){12,18}",
        checks::card,
        "cards?|visa|mastercard|maestro|amex|credit|debit|kreditkarte|karte|carte|tarjeta|carta|cartão"),
    ("iban", "", 2, 0, r"(?i:[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30})", checks::iban, "iban|account|konto|bank"),
    ("ssn", "US", 9, 0, r"\d{3}-\d{2}-\d{4}|\d{3} \d{2} \d{4}|\d{9}", checks::ssn, "ssn|social[ -]security"),
    ("ip_address", "", 4, 0, r"\d{1,3}(?:\.\d{1,3}){3}", checks::ipv4, "ip|address|host|server|client|login"),
    ("ip_address", "", 1, 2, r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}", checks::ipv6,
        "ip|ipv6|address|host|server|client"),
    ("mac_address", "", 0, 0, r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}", checks::mac,
        "mac|device|adapter|ethernet"),
    ("date_of_birth", "", 5, 0,
        r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{4}|(?i:\d{1,2}\.? (?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6},? \d{4}|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6} \d{1,2},? \d{4})",
        checks::birth,
        r"born|birth|birthday|birthdate|dob|d\.o\.b|geboren|geburtsdatum|née?|naissance|nacid[oa]|nacimiento|nat[oa]|nascita"),
    ("crypto_wallet", "", 1, 0, r"0x[0-9A-Fa-f]{40}", checks::ethereum, "eth|ethereum|wallet"),
    ("crypto_wallet", "", 1, 0, r"\b[13][1-9A-HJ-NP-Za-km-z]{25,34}\b", checks::bitcoin, "btc|bitcoin|wallet"),
    ("phone", "", 6, 0, r"(?:\+|\b00)?\(?\d(?:[ ().\-/]{0,2}\d){5,14}", phone::check,
        "phone|tel|telephone|mobile|cell|call|fax|whatsapp|sms|telefon|handy|mobil|téléphone|teléfono|telefono"),
    ("national_id", "GB", 10, 0, r"\d{3}[ -]?\d{3}[ -]?\d{4}", checks::nhs, "nhs"),
    ("national_id", "GB", 6, 0, r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b",
        checks::nino, "ni|nino|national insurance"),
    ("national_id", "DE", 11, 0, r"\d{2} ?\d{3} ?\d{3} ?\d{3}", checks::steuer_id,
        "steuer|idnr|steueridentifikationsnummer|tin|tax"),
    ("national_id", "ES", 7, 0, r"\b(?:\d{8}|[XYZ]\d{7})-?[A-HJ-NP-TV-Z]\b", checks::dni, "dni|nie|nif"),
    ("national_id", "FR", 13, 0,
        r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}", checks::nir,
        "nir|sécurité sociale|securite sociale|insee"),
    ("national_id", "IT", 7, 0, r"\b[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]\b",
        checks::codice_fiscale, "codice fiscale|cf"),
    ("national_id", "NL", 9, 0, r"\d{9}|\d{4}\.\d{2}\.\d{3}", checks::bsn, "bsn|burgerservicenummer|sofi"),
    ("national_id", "PL", 11, 0, r"\d{11}", checks::pesel, "pesel"),
    ("national_id", "BR", 11, 0, r"\d{3}\.\d{3}\.\d{3}-\d{2}|\d{11}", checks::cpf, "cpf"),
    ("national_id", "IN", 12, 0, r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}", checks::aadhaar, "aadhaar|aadhar|uidai"),
    ("national_id", "CH", 13, 0, r"756\.?\d{4}\.?\d{4}\.?\d{2}", checks::ahv, "ahv|avs|oasi"),
    ("national_id", "CA", 9, 0, r"\d{3}[ -]?\d{3}[ -]?\d{3}", checks::sin, "sin|social insurance"),
];

#[cfg(test)]
mod tests {
    #[test]
    fn every_row_compiles() {
        assert_eq!(super::all().len(), super::ROWS.len());
        assert!(super::all().iter().all(|rule| rule.words.is_some()));
    }
}
