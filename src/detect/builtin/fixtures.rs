//! Detectors with exact, tiny answers, for trials and tests. Their findings have no spans.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ::regex::Regex;

use super::Judged;
use crate::domain::category::Category;
use crate::domain::finding::{Finding, Place, Severity};

pub(super) enum Fixture {
    Echo,
    Toxicity,
    RegexPii,
}

#[expect(clippy::expect_used, reason = "the pattern is constant and compiled by a test")]
static SSN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b\d{3}-\d{2}-\d{4}\b").expect("constant pattern"));
#[expect(clippy::expect_used, reason = "the pattern is constant and compiled by a test")]
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}\b").expect("constant pattern")
});

impl Fixture {
    pub(super) fn judge(&self, text: &str) -> Judged {
        let (label, score, category) = match self {
            Fixture::Echo => ("echo", 0.5, None),
            Fixture::Toxicity => {
                let text = text.to_lowercase();
                match ["toxic", "hate", "abuse"].iter().any(|word| text.contains(word)) {
                    true => ("toxic", 0.9, Some("toxicity")),
                    false => ("clean", 0.6, None),
                }
            }
            Fixture::RegexPii if SSN.is_match(text) => ("ssn_detected", 0.95, Some("pii.ssn")),
            Fixture::RegexPii if EMAIL.is_match(text) => {
                ("email_detected", 0.85, Some("pii.email"))
            }
            Fixture::RegexPii => ("no_pii", 0.6, None),
        };
        let finding = |category| Finding {
            category,
            label: label.into(),
            score,
            severity: Severity::Medium,
            place: Some(Place { piece: 0, span: None }),
            view: None,
            attributes: BTreeMap::new(),
        };
        let findings = category.and_then(|name| Category::parse(name).ok()).map(finding);
        Judged {
            gaps: vec![],
            label: Some(label.into()),
            score: Some(score),
            findings: findings.into_iter().collect(),
        }
    }
}
