//! Commitments: who holds the salt and the content can show that they belong together, who holds
//! the commitment alone learns nothing of the content.

use std::io::{BufWriter, Write};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{SealError, random};
use crate::domain::digest::Digest;

/// 32 random bytes that open one commitment. `Debug` shows nothing of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt")
    }
}

impl Salt {
    /// A fresh one.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn random() -> Result<Salt, SealError> {
        random().map(Salt)
    }

    /// The salt that 64 hexadecimal digits stand for.
    pub fn from_hex(digits: &str) -> Option<Salt> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Salt(bytes))
    }

    /// 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// SHA-256(salt ‖ `value` in the canonical form of RFC 8785); `value` is not copied.
    ///
    /// # Errors
    /// As [`super::canonical`].
    pub fn commit(&self, value: &impl Serialize) -> Result<Digest, SealError> {
        let mut hasher = Hasher(Sha256::new());
        hasher.0.update(self.0);
        let mut hashing = BufWriter::new(&mut hasher);
        serde_json_canonicalizer::to_writer(value, &mut hashing).map_err(SealError::Canonical)?;
        // Hashing cannot fail.
        let _ = hashing.flush();
        drop(hashing);
        Ok(Digest::from_bytes(hasher.0.finalize().into()))
    }
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_is_the_hash_of_salt_and_canonical_value() {
        // python3: hashlib.sha256(bytes(range(32)) + '"Grüße"'.encode()).hexdigest()
        let salt = Salt(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let expected = "722181f5a7476257d88584aee8c04cb522c35894e6f4413609c93aefec2ca4fd";
        assert_eq!(salt.commit(&"Grüße").unwrap().hex(), expected);
        assert_eq!(Salt::from_hex(&salt.hex()), Some(salt.clone()));
        let other = Salt::random().unwrap();
        assert_ne!(other.commit(&"Grüße").unwrap().hex(), expected);
        assert_ne!(other, Salt::random().unwrap());
        assert!(!format!("{salt:?}").contains("01"));
        assert_eq!(Salt::from_hex("00"), None);
    }

    #[test]
    fn a_long_content_is_hashed_whole() {
        let salt = Salt([0; 32]);
        let long = "ä\n\"".repeat(10_000);
        let whole = [&[0; 32][..], &crate::seal::canonical(&long).unwrap()].concat();
        assert_eq!(salt.commit(&long).unwrap(), Digest::of(&whole));
    }
}
