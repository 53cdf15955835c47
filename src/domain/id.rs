//! Identifiers that are valid once they exist.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a {what}: it must match {pattern}")]
pub struct IdError {
    what: &'static str,
    pattern: &'static str,
    shown: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $pattern:literal $($also:literal)?, $valid:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// What its characters must match.
            pub const PATTERN: &'static str = $pattern;

            #[doc = concat!("Parses a ", $what, ", which must match `", $pattern, "`" $(, $also)?, ".")]
            pub fn parse(raw: &str) -> Result<Self, IdError> {
                if $valid(raw) {
                    return Ok(Self(raw.into()));
                }
                Err(IdError { what: $what, pattern: concat!($pattern $(, $also)?), shown: shown(raw) })
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(raw: String) -> Result<Self, IdError> {
                Self::parse(&raw)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// A tenant; equal to the name of its file.
    TenantId, "tenant id", "^[a-z0-9][a-z0-9_-]{0,63}$" " and none of base, floor, tenants, schemas",
    is_tenant
);
id!(
    /// A detector; equal to the name of its file.
    DetectorName, "detector name", "^[a-z0-9][a-z0-9_-]{0,63}$", is_name
);
id!(
    /// A policy bundle, named `policy` in the API.
    BundleName, "bundle name", "^[a-z][a-z0-9_]{0,63}$" " and no reserved word", is_bundle
);
id!(
    /// One request, chosen by the caller or made here as uuid v7.
    RequestId, "request id", "^[A-Za-z0-9_-]{1,100}$", is_request
);

impl TenantId {
    /// Whether no tenant may begin under it, since metrics name the rest of the tenants so: its series
    /// would be theirs. What was kept of one that once was is still read.
    pub fn is_reserved(&self) -> bool {
        self.as_str() == "other"
    }
}

impl RequestId {
    /// The id that is left of `text` without what an id may not hold, at most its first 100
    /// characters; `-` where nothing is left.
    pub fn kept_of(text: &str) -> Self {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let kept: String = text.chars().filter(allowed).take(100).collect();
        Self(if kept.is_empty() { "-".into() } else { kept.into() })
    }
}

/// Words no tenant may be called, because layers of the policy tree carry them.
const RESERVED_TENANTS: [&str; 4] = ["base", "floor", "tenants", "schemas"];

/// Rego keywords and the names of the policy tree's own folders.
const RESERVED_BUNDLES: [&str; 22] = [
    "as", "contains", "data", "default", "else", "every", "false", "if", "import", "in", "input",
    "not", "null", "package", "set", "some", "true", "with", "base", "floor", "tenants", "schemas",
];

fn is_name(raw: &str) -> bool {
    raw.len() <= 64
        && raw.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && raw
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

fn is_tenant(raw: &str) -> bool {
    is_name(raw) && !RESERVED_TENANTS.contains(&raw)
}

fn is_bundle(raw: &str) -> bool {
    raw.len() <= 64
        && raw.starts_with(|c: char| c.is_ascii_lowercase())
        && raw.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !RESERVED_BUNDLES.contains(&raw)
        && raw != "entry"
}

fn is_request(raw: &str) -> bool {
    (1..=100).contains(&raw.len())
        && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn shown(raw: &str) -> String {
    raw.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_alphabet_is_an_id() {
        for good in ["acme", "a", "0-x_y", &"a".repeat(64)] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
            assert!(DetectorName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "a/b", "а", "a\0", &"a".repeat(65)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
            assert!(DetectorName::parse(bad).is_err(), "{bad}");
        }
        assert!(TenantId::parse("floor").is_err());
        assert!(BundleName::parse("standard").is_ok());
        assert!(BundleName::parse("every").is_err());
        assert!(BundleName::parse("a-b").is_err());
        assert!(RequestId::parse("Ab_-9").is_ok());
        assert!(RequestId::parse("a\r\nb").is_err());
        for (text, kept) in [("a\r\nb", "ab"), ("\u{e9}", "-"), ("", "-"), ("a-_9", "a-_9")] {
            assert_eq!(RequestId::kept_of(text), RequestId::parse(kept).unwrap());
        }
        assert_eq!(RequestId::kept_of(&"a".repeat(300)).as_str().len(), 100);
    }
}
