//! Personal data: patterns propose, checksums and libraries dispose, words nearby raise the score.

use super::hit::{Hit, apart, widen};
use super::params::{ParamFault, Params};
use crate::domain::category::Category;
use crate::domain::finding::Severity;

mod checks;
mod edges;
mod links;
mod mails;
mod phone;
mod rules;

/// Kinds are the last part of the category; the label is the kind in upper case.
const KINDS: &[&str] = &[
    "email",
    "phone",
    "credit_card",
    "iban",
    "ssn",
    "national_id",
    "ip_address",
    "mac_address",
    "url",
    "date_of_birth",
    "crypto_wallet",
];
const REGIONS: &[&str] = &["US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "BR", "IN", "CA", "CH"];
/// Bytes before and after a match in which context words count.
const BEFORE: usize = 48;
const AFTER: usize = 24;
/// From this score without context, a checksum or a full form speaks for the value itself.
const SURE: f64 = 0.85;

/// The detector with its parameters.
pub(super) struct Pii {
    kinds: Vec<&'static str>,
    regions: Vec<&'static str>,
    allow: Vec<String>,
    min_score: f64,
}

/// What a check made of a candidate.
struct Seen {
    /// Bytes from the candidate's start that belong to it.
    len: usize,
    /// Score without and with context words.
    plain: f64,
    near: f64,
    attribute: Option<(&'static str, String)>,
}

impl Pii {
    pub(super) fn prepare(params: &Params) -> Result<Self, ParamFault> {
        params.only(&["kinds", "regions", "allow", "min_score"])?;
        Ok(Self {
            kinds: params.choice("kinds", KINDS)?,
            regions: params.choice("regions", REGIONS)?,
            allow: params.strings("allow")?.iter().map(|text| text.to_lowercase()).collect(),
            min_score: params.score("min_score", 0.5)?,
        })
    }

    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        let bytes = text.as_bytes();
        if bytes.contains(&b'@') || text.contains("://") {
            links::find(text, |kind, range, seen| hits.extend(self.take(text, kind, range, &seen)));
        }
        let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
        let colons = bytes.iter().filter(|byte| **byte == b':').count();
        for rule in rules::all() {
            let wanted = self.kinds.contains(&rule.kind)
                && rule.region.is_none_or(|region| self.regions.contains(&region));
            if wanted && digits >= rule.digits && colons >= rule.colons {
                self.search(text, rule, &mut hits);
            }
        }
        apart(hits)
    }

    /// After a refused candidate the search goes on behind its first run of letters or digits, so
    /// that a number in front does not hide the one behind it.
    fn search(&self, text: &str, rule: &rules::Rule, hits: &mut Vec<Hit>) {
        let mut at = 0;
        while let Some(found) = rule.pattern.find_at(text, at) {
            let start = found.start();
            let near =
                |end| rule.words.as_ref().is_some_and(|w| w.is_match(around(text, start, end)));
            let seen = self.check(rule, text, start..found.end(), &near);
            let step = start + run(text.get(start..).unwrap_or_default());
            // One card number in ten false ones passes: the right one may begin inside.
            at = match &seen {
                Some(seen) if rule.kind != "credit_card" => start + seen.len,
                Some(_) | None => step,
            };
            let hit = seen.and_then(|s| self.take(text, rule.kind, start..start + s.len, &s));
            hits.extend(hit);
        }
    }

    /// What the rule sees in the candidate, if that stands for itself in the text.
    fn check(
        &self,
        rule: &rules::Rule,
        text: &str,
        candidate: std::ops::Range<usize>,
        near: &dyn Fn(usize) -> bool,
    ) -> Option<Seen> {
        let std::ops::Range { start, end } = candidate;
        let found = text.get(start..end)?;
        let called = match rule.kind {
            "phone" => phone::called(text, start..end),
            _ => None,
        };
        // A parse for each region is dear, and most candidates could not reach the score.
        let unlikely = rule.kind == "phone"
            && self.min_score > phone::BARE
            && called.is_none()
            && !phone::looks(found)
            && !(phone::is_short(found) && near(end));
        if unlikely {
            return None;
        }
        let mut seen = match ((rule.check)(found, &self.regions), called) {
            (Some(seen), Some(called)) if seen.plain.max(seen.near) < called.plain => called,
            (Some(seen), Some(called)) => Seen { plain: seen.plain.max(called.plain), ..seen },
            (seen, called) => seen.or(called)?,
        };
        if rule.kind == "phone" {
            seen.len += phone::extension(text.get(start + seen.len..).unwrap_or_default());
        }
        let sure = seen.plain >= SURE && !matches!(rule.kind, "ip_address" | "mac_address");
        let clear = if sure { edges::is_whole } else { edges::is_apart };
        if !clear(text, start, start + seen.len) {
            return None;
        }
        if !near(start + seen.len) {
            seen.near = seen.plain;
        }
        Some(seen)
    }

    fn take(
        &self,
        text: &str,
        kind: &'static str,
        range: std::ops::Range<usize>,
        seen: &Seen,
    ) -> Option<Hit> {
        let matched = text.get(range.clone()).unwrap_or_default().to_lowercase();
        let domain = seen.attribute.as_ref().filter(|(key, _)| *key == "domain");
        let allowed =
            |entry: &String| *entry == matched || domain.is_some_and(|(_, domain)| domain == entry);
        if seen.near < self.min_score
            || !self.kinds.contains(&kind)
            || self.allow.iter().any(allowed)
        {
            return None;
        }
        let category = Category::parse(&format!("pii.{kind}")).ok()?;
        Some(Hit {
            start: range.start,
            end: range.end,
            category,
            label: kind.to_ascii_uppercase().into(),
            score: seen.near,
            severity: severity(kind),
            attributes: seen.attribute.iter().cloned().collect(),
        })
    }
}

fn severity(kind: &str) -> Severity {
    match kind {
        "url" => Severity::Low,
        "credit_card" | "iban" | "ssn" | "national_id" => Severity::High,
        _ => Severity::Medium,
    }
}

/// What follows on the next line is about something else.
fn around(text: &str, start: usize, end: usize) -> &str {
    let (from, to) = widen(text, start.saturating_sub(BEFORE), (end + AFTER).min(text.len()));
    let line = text.get(end..to).and_then(|rest| rest.find('\n')).map_or(to, |at| end + at);
    text.get(from..line).unwrap_or_default()
}

/// Bytes of the first run of letters or digits and what stands before it, at least 1.
fn run(found: &str) -> usize {
    let bytes = found.as_bytes();
    let lead = bytes.iter().take_while(|b| !b.is_ascii_alphanumeric()).count();
    let word = bytes.iter().skip(lead).take_while(|b| b.is_ascii_alphanumeric()).count();
    (lead + word).max(1)
}

#[cfg(test)]
mod tests;
