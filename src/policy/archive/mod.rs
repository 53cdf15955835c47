//! A policy tree as one file: a bundle of Open Policy Agent, signed or not.
//!
//! Everything stays in memory: no name of a bundle ever becomes a path on disk.

use std::collections::BTreeMap;

use super::Source;
use crate::domain::digest::Digest;

mod signatures;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;

pub use unpack::PACKED_BYTES_MAX;

/// Where a bundle says what it is.
const MANIFEST: &str = ".manifest";
/// Where a bundle is signed.
const SIGNATURES: &str = ".signatures.json";
/// The table of a folder, as `opa build` writes it.
const DATA: &str = "data.json";

/// Files by name; sorted.
type Entries = BTreeMap<String, Vec<u8>>;

/// A bundle that was read, and verified where a key was given.
#[derive(Debug, Clone)]
pub struct Archive {
    /// `revision` of its manifest; empty where it has none.
    pub revision: String,
    /// Its files as they would lie below `policies/`; names that nobody reads among them.
    pub sources: Vec<Source>,
    /// Of names and contents of its files.
    pub digest: Digest,
}

/// Why a bundle is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Stable snake_case code.
    pub code: &'static str,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
}

impl Archive {
    /// Reads `bytes`. With a `key` every file must be named, with its digest, in one statement that
    /// the key signed, and everything named must be there.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(bytes: &[u8], key: Option<&[u8; 32]>) -> Result<Archive, Refused> {
        let entries = unpack::unpack(bytes)?;
        if let Some(key) = key {
            signatures::verify(&entries, key)?;
        }
        let parts = entries.iter().filter(|(name, _)| *name != SIGNATURES);
        let digest = Digest::of_all(parts.flat_map(|(name, bytes)| [name.as_bytes(), bytes]));
        let (revision, sources) = tree::tree(entries)?;
        Ok(Archive { revision, sources, digest })
    }
}

fn refused(code: &'static str, message: impl Into<String>, hint: &'static str) -> Refused {
    Refused { code, message: message.into(), hint }
}
