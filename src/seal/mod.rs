//! Keyed hashes, random tokens, seals, signed tokens, key files, and the canonical form of what is
//! hashed. The crypto crates stay behind this module.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

mod aws;
mod canonical;
mod commitment;
mod issue;
pub mod jwt;
mod mac;
mod sealed;
mod signer;

pub use aws::{AwsKeys, AwsRequest};
pub use canonical::canonical;
pub use commitment::Salt;
pub use issue::Issuer;
pub use mac::SharedSecret;
pub use sealed::{APART_ID, DataKeys, OpenError};
pub use signer::{Signer, is_signed, public_key_of_pem, signed_payload};

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of a block of SHA-256.
const BLOCK_BYTES: usize = 64;
/// Bytes of a token: 128 bits.
const TOKEN_BYTES: usize = 16;

/// A 256-bit key; `Debug` shows nothing of it.
#[derive(Debug)]
pub struct Key(SecretBox<[u8; KEY_BYTES]>);

/// Why there is no key or token.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The operating system gave no random bytes.
    #[error("reading random bytes from the operating system")]
    Random(#[source] getrandom::Error),
    /// The file cannot be read or made.
    #[error("reading or making the key file `{path}`: {source}; check its owner and mode")]
    File {
        /// As given.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A value has no canonical form.
    #[error("writing a value as canonical JSON; it holds a repeated key, or one that is no text")]
    Canonical(#[source] serde_json::Error),
    /// The crypto library refused, which a key of the right length never sees.
    #[error("the crypto library refused a key or a message")]
    Crypto,
    /// The file holds something else.
    #[error("key file `{path}` does not hold 64 hexadecimal digits; restore it or remove it")]
    Malformed {
        /// As given.
        path: String,
    },
}

impl Key {
    /// A key of these bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Key {
        Key(SecretBox::new(Box::new(bytes)))
    }

    /// The key that 64 hexadecimal digits stand for.
    pub fn from_hex(digits: &str) -> Option<Key> {
        let mut bytes = [0; KEY_BYTES];
        hex::decode_to_slice(digits.trim(), &mut bytes).ok()?;
        Some(Key::from_bytes(bytes))
    }

    /// A fresh random key.
    pub fn random() -> Result<Key, SealError> {
        random().map(Key::from_bytes)
    }

    /// Reads the key in `path`, or makes the file, readable by its owner only. Of two processes
    /// that make it at once, both end with the same key or one with an error.
    pub fn load_or_create(path: &Path) -> Result<Key, SealError> {
        let shown = || path.display().to_string();
        let failed = |source| SealError::File { path: shown(), source };
        let fresh: [u8; KEY_BYTES] = random()?;
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match made {
            Ok(mut file) => {
                file.write_all(hex::encode(fresh).as_bytes()).map_err(failed)?;
                file.sync_all().map_err(failed)?;
                Ok(Key::from_bytes(fresh))
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::read(path),
            Err(error) => Err(failed(error)),
        }
    }

    /// The key in `path`; `None` where nothing is there, not even a link.
    pub fn load(path: &Path) -> Result<Option<Key>, SealError> {
        let is_there = std::fs::symlink_metadata(path).is_ok();
        is_there.then(|| Self::read(path)).transpose()
    }

    fn read(path: &Path) -> Result<Key, SealError> {
        let shown = || path.display().to_string();
        let mut text = String::new();
        // Of what is no file, such as a pipe, reading may never end.
        std::fs::metadata(path)
            .and_then(|found| match found.is_file() {
                true => File::open(path)?.take(1024).read_to_string(&mut text),
                false => Err(std::io::Error::other("it is no file")),
            })
            .map_err(|source| SealError::File { path: shown(), source })?;
        let mut bytes = [0; KEY_BYTES];
        hex::decode_to_slice(text.trim(), &mut bytes)
            .map_err(|_| SealError::Malformed { path: shown() })?;
        Ok(Key::from_bytes(bytes))
    }

    /// HMAC-SHA256 of `parts`, each prefixed by its length so that no border can move.
    pub fn hash<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut mac = self.mac();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// HMAC-SHA256 over `parts`, one after the other, as any other program computes it.
    pub fn plain_hash<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut mac = self.mac();
        parts.into_iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    fn mac(&self) -> Hmac<Sha256> {
        // RFC 2104 pads a short key with zeros up to the block.
        let mut block = [0; BLOCK_BYTES];
        block.iter_mut().zip(self.0.expose_secret()).for_each(|(to, from)| *to = *from);
        Hmac::<Sha256>::new(&block.into())
    }
}

/// A random token of 128 bits as `<prefix><32 hexadecimal digits>`.
pub fn token(prefix: &str) -> Result<SecretString, SealError> {
    let bytes: [u8; TOKEN_BYTES] = random()?;
    Ok(format!("{prefix}{}", hex::encode(bytes)).into())
}

/// A number from 0 to 1 that callers cannot foresee; for jitter. 0.5 where there is no randomness.
pub fn spread() -> f64 {
    match random::<2>() {
        Ok(bytes) => f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX),
        Err(_) => 0.5,
    }
}

/// Whether both are equal, in time that depends on their lengths only.
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SealError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_hash_is_hmac_sha256_over_length_prefixed_parts() {
        // Computed with Python's hmac module.
        let key = Key::from_bytes([7; 32]);
        let expected = "6073d5bcf26efd7ddc06c90652db47666a35e5fce22c4a3632375cb436a2611d";
        let found = hex::encode(key.hash([&b"ab"[..], b"c"]));
        assert_eq!(found, expected);
        assert_ne!(key.hash([&b"ab"[..], b"c"]), key.hash([&b"a"[..], b"bc"]));
        assert_ne!(key.hash([&b"ab"[..]]), Key::from_bytes([8; 32]).hash([&b"ab"[..]]));
    }

    #[test]
    fn tokens_carry_128_bits_and_never_repeat() {
        let (one, two) = (token("orch_").unwrap(), token("orch_").unwrap());
        let digits = one.expose_secret().strip_prefix("orch_").unwrap();
        assert_eq!(digits.len(), 32);
        assert!(!same(one.expose_secret().as_bytes(), two.expose_secret().as_bytes()));
        assert!(!format!("{one:?}").contains(digits));
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pepper");
        let made = Key::load_or_create(&path).unwrap();
        let read = Key::load_or_create(&path).unwrap();
        assert_eq!(made.hash([&b"x"[..]]), read.hash([&b"x"[..]]));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(Key::load_or_create(&path), Err(SealError::Malformed { .. })));
        let nowhere = dir.path().join("no/pepper");
        assert!(matches!(Key::load_or_create(&nowhere), Err(SealError::File { .. })));
    }
}
