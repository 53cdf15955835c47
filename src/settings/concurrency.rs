//! How many requests are judged at once: `auto` or a number.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// Learned from how late the serving threads are, at most 1024.
    Auto,
    /// So many, 1 to 1024.
    Fixed(usize),
}

impl Serialize for Concurrency {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Concurrency::Auto => to.serialize_str("auto"),
            Concurrency::Fixed(most) => most.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Concurrency {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Word)
    }
}

struct Word;

impl Visitor<'_> for Word {
    type Value = Concurrency;

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("`auto` or a number from 1 to 1024")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Concurrency, E> {
        match word.parse() {
            Ok(most) => self.visit_u64(most),
            Err(_) if word == "auto" => Ok(Concurrency::Auto),
            Err(_) => Err(E::invalid_value(Unexpected::Str(word), &self)),
        }
    }

    fn visit_i64<E: Error>(self, most: i64) -> Result<Concurrency, E> {
        match u64::try_from(most) {
            Ok(most) => self.visit_u64(most),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(most), &self)),
        }
    }

    fn visit_u64<E: Error>(self, most: u64) -> Result<Concurrency, E> {
        match usize::try_from(most) {
            Ok(most) if (1..=1024).contains(&most) => Ok(Concurrency::Fixed(most)),
            Ok(_) | Err(_) => Err(E::invalid_value(Unexpected::Unsigned(most), &self)),
        }
    }
}
