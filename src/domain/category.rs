//! The one category tree: dotted lower-case names with prefix meaning everywhere.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Every name of the tree. A name's parents are in the tree too.
pub const TREE: &[&str] = &[
    "code",
    "code.script",
    "code.shell",
    "code.sql",
    "hate",
    "hate.identity",
    "hate.threatening",
    "illicit",
    "illicit.drugs",
    "illicit.fraud",
    "illicit.weapons",
    "injection",
    "injection.indirect",
    "injection.jailbreak",
    "injection.prompt",
    "language",
    "link",
    "link.denied",
    "link.homograph",
    "link.malicious",
    "link.punycode",
    "malware",
    "malware.script",
    "pii",
    "pii.address",
    "pii.bank_account",
    "pii.credit_card",
    "pii.crypto_wallet",
    "pii.date_of_birth",
    "pii.driver_license",
    "pii.email",
    "pii.iban",
    "pii.ip_address",
    "pii.location",
    "pii.mac_address",
    "pii.medical",
    "pii.national_id",
    "pii.organization",
    "pii.passport",
    "pii.person",
    "pii.phone",
    "pii.ssn",
    "pii.tax_id",
    "pii.url",
    "pii.username",
    "secrets",
    "secrets.api_key",
    "secrets.aws_access_key",
    "secrets.cloud",
    "secrets.database_url",
    "secrets.generic",
    "secrets.jwt",
    "secrets.password",
    "secrets.private_key",
    "secrets.token",
    "self_harm",
    "self_harm.instructions",
    "self_harm.intent",
    "sexual",
    "sexual.minors",
    "topic",
    "topic.off_topic",
    "toxicity",
    "toxicity.insult",
    "toxicity.obscene",
    "toxicity.profanity",
    "toxicity.severe",
    "toxicity.threat",
    "violence",
    "violence.graphic",
    "violence.threat",
];

/// A name of the tree, or `other.<detector>` for labels that no table maps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Category(Arc<str>);

/// The text names no category.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not in the category tree")]
pub struct UnknownCategory(pub String);

impl Category {
    /// Parses a name of the tree or `other.<detector name>`.
    pub fn parse(raw: &str) -> Result<Self, UnknownCategory> {
        let other = raw.strip_prefix("other.");
        if TREE.contains(&raw)
            || other.is_some_and(|name| super::id::DetectorName::parse(name).is_ok())
        {
            return Ok(Self(raw.into()));
        }
        Err(UnknownCategory(raw.chars().take(80).flat_map(char::escape_debug).collect()))
    }

    /// The category of labels of `detector` that no table maps.
    pub fn other(detector: &super::id::DetectorName) -> Self {
        Self(format!("other.{detector}").into())
    }

    /// The dotted name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name and its parents, most specific first: `pii.email`, `pii`.
    pub fn path(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |name| {
            name.rfind('.').and_then(|dot| name.get(..dot))
        })
    }

    /// The first-level name: `pii` of `pii.email`.
    pub fn root(&self) -> Category {
        match self.0.split_once('.') {
            Some((root, _)) => Self(root.into()),
            None => self.clone(),
        }
    }

    /// Whether this is `below` itself or one of its ancestors: `pii` covers `pii.email`.
    pub fn covers(&self, below: &Category) -> bool {
        covers(self.as_str(), below.as_str())
    }

    /// Whether one of the two covers the other.
    pub fn touches(&self, other: &Category) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// Whether the dotted name `above` is `below` or one of its ancestors.
pub fn covers(above: &str, below: &str) -> bool {
    below.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Category {
    type Error = UnknownCategory;
    fn try_from(raw: String) -> Result<Self, UnknownCategory> {
        Self::parse(&raw)
    }
}

impl From<Category> for String {
    fn from(category: Category) -> String {
        category.0.as_ref().to_owned()
    }
}

impl std::borrow::Borrow<str> for Category {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sorted_unique_and_holds_every_parent() {
        assert!(TREE.is_sorted_by(|a, b| a < b));
        for name in TREE {
            for parent in Category::parse(name).unwrap().path() {
                assert!(TREE.contains(&parent), "{parent}");
            }
        }
    }

    #[test]
    fn prefixes_end_at_dots() {
        let pii = Category::parse("pii").unwrap();
        assert!(pii.covers(&Category::parse("pii.email").unwrap()));
        assert!(!covers("pii.e", "pii.email"));
        assert!(!Category::parse("pii.email").unwrap().covers(&pii));
        assert!(Category::parse("other.my-detector").is_ok());
        assert!(Category::parse("other.My").is_err());
    }
}
