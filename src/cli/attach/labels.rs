//! The label table: what each word of the service seems to mean.

use std::collections::{BTreeMap, BTreeSet};

use super::file::quoted;
use super::sample::Sent;
use crate::domain::category::{Category, TREE};
use crate::domain::report::Report;
use crate::domain::span::OffsetUnit;
use crate::yaml;

/// One line of the table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) label: String,
    /// As YAML.
    pub(super) meaning: String,
    pub(super) why: String,
}

/// Parts of labels that people use, and the category they mostly mean.
const WORDS: [(&str, &str); 34] = [
    ("mail", "pii.email"),
    ("card", "pii.credit_card"),
    ("ssn", "pii.ssn"),
    ("social", "pii.ssn"),
    ("phone", "pii.phone"),
    ("iban", "pii.iban"),
    ("passport", "pii.passport"),
    ("person", "pii.person"),
    ("address", "pii.address"),
    ("inject", "injection.prompt"),
    ("jailbreak", "injection.jailbreak"),
    ("prompt", "injection.prompt"),
    ("attack", "injection.prompt"),
    ("threat", "toxicity.threat"),
    ("insult", "toxicity.insult"),
    ("profan", "toxicity.profanity"),
    ("obscen", "toxicity.obscene"),
    ("tox", "toxicity"),
    ("abus", "toxicity"),
    ("harass", "toxicity"),
    ("rude", "toxicity"),
    ("hate", "hate"),
    ("violen", "violence"),
    ("sex", "sexual"),
    ("self", "self_harm"),
    ("drug", "illicit.drugs"),
    ("weapon", "illicit.weapons"),
    ("fraud", "illicit.fraud"),
    ("password", "secrets.password"),
    ("secret", "secrets"),
    ("token", "secrets.token"),
    ("key", "secrets.api_key"),
    ("link", "link"),
    ("pii", "pii"),
];

const NEGATIVE: &str = "{polarity: negative}";

/// The rows for what the service said of the planted and of the clean text, and the categories
/// that the file should name; `words` are others that it uses. Labels that the protocol already
/// knows need no row.
pub(super) fn table(
    name: &str,
    planted: &Report,
    clean: &Report,
    words: &[String],
    sent: &Sent<'_>,
) -> (Vec<Row>, BTreeSet<String>) {
    let mut shown: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    let mut categories = BTreeSet::new();
    for finding in &planted.findings {
        if !finding.category.as_str().starts_with("other.") {
            categories.insert(finding.category.as_str().to_owned());
            continue;
        }
        let span = finding.place.and_then(|place| place.span);
        let slice = span
            .and_then(|span| sent.slice(span.start as u64, span.end as u64, OffsetUnit::Codepoint));
        let seen = shown.entry(&finding.label).or_default();
        *seen = seen.or(slice);
    }
    let mut rows = Vec::new();
    for (label, slice) in &shown {
        let (category, why) = category(name, label, *slice, sent);
        let also =
            clean.findings.iter().any(|finding| *finding.label == **label && finding.score >= 0.5);
        let also = if also { "; it is also said of the clean text" } else { "" };
        let why = format!("{why}{also}");
        rows.push(Row {
            label: (*label).to_owned(),
            meaning: format!("{{category: {category}}}"),
            why,
        });
        categories.insert(category);
    }
    for word in words.iter().filter(|word| !shown.contains_key(word.as_str())) {
        let (category, why) = category(name, word, None, sent);
        let why = format!("not found in the planted text; {why}");
        let meaning = format!("{{category: {category}}}");
        rows.push(Row { label: word.clone(), meaning, why });
        categories.insert(category);
    }
    let only_clean: BTreeSet<&str> = clean
        .findings
        .iter()
        .filter(|finding| finding.category.as_str().starts_with("other.") && finding.score >= 0.5)
        .map(|finding| &*finding.label)
        .filter(|label| rows.iter().all(|row| row.label != **label))
        .collect();
    for label in only_clean {
        let why = "said of the clean text only".to_owned();
        rows.push(Row { label: label.to_owned(), meaning: NEGATIVE.to_owned(), why });
    }
    (rows, categories)
}

/// The category that the label seems to mean, and why.
fn category(name: &str, label: &str, slice: Option<&str>, sent: &Sent<'_>) -> (String, String) {
    let word = label.to_ascii_lowercase().replace(['-', ' '], "_");
    let below = slice.and_then(|slice| Some((slice, sent.planted(slice)?)));
    if let Some((slice, planted)) = below {
        // A word of the label may say more: a threat is toxicity too.
        let closer = by_word(&word).filter(|near| near.starts_with(planted.category));
        let category = closer.unwrap_or(planted.category);
        return (category.to_owned(), format!("its place held {}", quoted(slice)));
    }
    let near = Category::parse(&word).is_ok().then_some(word.as_str());
    let leaves = TREE.iter().map(|name| name.rsplit('.').next().unwrap_or(name));
    let leaf = yaml::nearest(&word, leaves);
    let of_leaf = leaf
        .and_then(|leaf| TREE.iter().find(|name| name.rsplit('.').next() == Some(leaf)).copied());
    match near.or_else(|| by_word(&word)).or(of_leaf) {
        Some(near) => (near.to_owned(), "the nearest by name; check".to_owned()),
        None => {
            (format!("other.{name}"), "nothing in the category tree is near; choose".to_owned())
        }
    }
}

fn by_word(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|(part, _)| word.contains(part)).map(|(_, category)| *category)
}
