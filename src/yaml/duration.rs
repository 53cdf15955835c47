//! Durations as people write them.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A duration written with its unit: `300ms`, `10s`, `5m`, `1h`; at most 24 h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Parses digits followed by `ms`, `s`, `m` or `h`.
    pub fn parse(raw: &str) -> Option<Self> {
        let digits = raw.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = raw.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let millis = number.checked_mul(factor).filter(|ms| *ms <= 86_400_000)?;
        Some(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl serde::Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as 300ms, 10s or 5m")
            }
            fn visit_str<E: de::Error>(self, raw: &str) -> Result<Span, E> {
                Span::parse(raw).ok_or_else(|| E::invalid_value(de::Unexpected::Str(raw), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
