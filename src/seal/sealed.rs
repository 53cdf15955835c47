//! Small secrets sealed at rest: ChaCha20-Poly1305 (RFC 8439) under a key derived from the data key.
//!
//! `version (1) ‖ key id (8) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`; what the secret belongs to is
//! authenticated beside it, so that a row cannot take another's place.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::{ExposeSecret as _, SecretString};

use super::issue::Issuer;
use super::{Key, SealError, random};

/// The one form there is.
const VERSION: u8 = 1;
/// Bytes that say which key sealed it.
const ID_BYTES: usize = 8;

/// Where the id of its key lies in what [`DataKeys::seal_apart`] sealed.
pub const APART_ID: std::ops::Range<usize> = 3..3 + ID_BYTES;

/// Why something sealed cannot be opened. Neither tells what was inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Sealed under another data key.
    #[error("it is sealed under another data key")]
    OtherKey,
    /// Cut, changed, or it belongs to somebody else.
    #[error("it is damaged, or stands in the place of another")]
    Damaged,
}

/// What is made of the data keys: seals, and the signer of delegation tokens. `Debug` shows nothing.
pub struct DataKeys {
    current: Sealing,
    previous: Option<Sealing>,
    issuer: Issuer,
    previous_issuer: Option<Issuer>,
}

struct Sealing {
    id: [u8; ID_BYTES],
    key: LessSafeKey,
}

impl DataKeys {
    /// Seals and signs with `current`; opens, and publishes the public key of, `previous` too.
    pub fn new(current: &Key, previous: Option<&Key>) -> Result<DataKeys, SealError> {
        Ok(DataKeys {
            current: Sealing::of(current)?,
            previous: previous.map(Sealing::of).transpose()?,
            issuer: Issuer::of(current)?,
            previous_issuer: previous.map(Issuer::of).transpose()?,
        })
    }

    /// Seals `plain`, which belongs to `about`.
    pub fn seal(&self, plain: &str, about: &[&str]) -> Result<Vec<u8>, SealError> {
        self.current.seal(plain, about)
    }

    /// Opens what was sealed under either key for the same `about`.
    pub fn open(&self, sealed: &[u8], about: &[&str]) -> Result<SecretString, OpenError> {
        let (id, _) = id_of(sealed).ok_or(OpenError::Damaged)?;
        let keys = [Some(&self.current), self.previous.as_ref()];
        let sealing = keys.into_iter().flatten().find(|sealing| sealing.id == id);
        sealing.ok_or(OpenError::OtherKey)?.open(sealed, about)
    }

    /// Seals `plain` under a key of its own, which stands before it, sealed like any other: whoever
    /// erases the whole leaves nothing to open with either data key.
    pub fn seal_apart(&self, plain: &str, about: &[&str]) -> Result<Vec<u8>, SealError> {
        let own: [u8; 32] = random()?;
        let key = self.seal(&hex::encode(own), about)?;
        let length = u16::try_from(key.len()).map_err(|_| SealError::Crypto)?;
        let body = Key::from_bytes(own).seal(plain, about)?;
        Ok([&length.to_be_bytes()[..], &key, &body].concat())
    }

    /// Opens what [`Self::seal_apart`] sealed for the same `about`.
    pub fn open_apart(&self, sealed: &[u8], about: &[&str]) -> Result<SecretString, OpenError> {
        let (length, rest) = sealed.split_first_chunk::<2>().ok_or(OpenError::Damaged)?;
        let parts = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)));
        let (key, body) = parts.ok_or(OpenError::Damaged)?;
        let key = Key::from_hex(self.open(key, about)?.expose_secret());
        key.ok_or(OpenError::Damaged)?.open(body, about)
    }

    /// Whether what [`Self::seal_apart`] sealed is under neither key.
    pub fn is_foreign(&self, sealed: &[u8]) -> bool {
        let keys = [Some(&self.current), self.previous.as_ref()];
        let id = sealed.get(2..).and_then(id_of).map(|(id, _)| id);
        id.is_some_and(|id| keys.into_iter().flatten().all(|sealing| sealing.id != id))
    }

    /// Which keys it opens with, as [`APART_ID`] holds them, the present one first.
    pub fn ids(&self) -> Vec<String> {
        let keys = [Some(&self.current), self.previous.as_ref()];
        keys.into_iter().flatten().map(|sealing| hex::encode(sealing.id)).collect()
    }

    /// Whether it is sealed under a key that is about to go.
    pub fn is_outdated(&self, sealed: &[u8]) -> bool {
        id_of(sealed).is_some_and(|(id, _)| id != self.current.id)
    }

    /// The signer of delegation tokens.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The public keys of delegation tokens (RFC 7517).
    pub fn key_set(&self) -> serde_json::Value {
        let issuers = [Some(&self.issuer), self.previous_issuer.as_ref()];
        let keys: Vec<_> = issuers.into_iter().flatten().map(Issuer::public).collect();
        serde_json::json!({ "keys": keys })
    }
}

impl std::fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKeys(…)")
    }
}

impl Sealing {
    fn of(key: &Key) -> Result<Sealing, SealError> {
        let derived = key.hash([&b"seal"[..]]);
        let [a, b, c, d, e, f, g, h, ..] = key.hash([&b"seal-id"[..]]);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &derived).map_err(|_| SealError::Crypto)?;
        Ok(Sealing { id: [a, b, c, d, e, f, g, h], key: LessSafeKey::new(key) })
    }

    fn seal(&self, plain: &str, about: &[&str]) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut body = plain.as_bytes().to_vec();
        let sealing = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(sealing, Aad::from(joined(about)), &mut body)
            .map_err(|_| SealError::Crypto)?;
        Ok([&[VERSION][..], &self.id, &nonce, &body].concat())
    }

    fn open(&self, sealed: &[u8], about: &[&str]) -> Result<SecretString, OpenError> {
        let (id, rest) = id_of(sealed).ok_or(OpenError::Damaged)?;
        if id != self.id {
            return Err(OpenError::OtherKey);
        }
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::Damaged)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut body = body.to_vec();
        let plain = self.key.open_in_place(nonce, Aad::from(joined(about)), &mut body);
        let plain = plain.map_err(|_| OpenError::Damaged)?;
        let plain = std::str::from_utf8(plain).map_err(|_| OpenError::Damaged)?;
        Ok(plain.into())
    }
}

impl Key {
    /// Seals `plain`, which belongs to `about`, under this very key.
    pub fn seal(&self, plain: &str, about: &[&str]) -> Result<Vec<u8>, SealError> {
        Sealing::of(self)?.seal(plain, about)
    }

    /// Opens what was sealed under this key for the same `about`.
    pub fn open(&self, sealed: &[u8], about: &[&str]) -> Result<SecretString, OpenError> {
        Sealing::of(self).map_err(|_| OpenError::OtherKey)?.open(sealed, about)
    }
}

fn id_of(sealed: &[u8]) -> Option<([u8; ID_BYTES], &[u8])> {
    let (version, rest) = sealed.split_first()?;
    let (id, rest) = rest.split_first_chunk::<ID_BYTES>()?;
    (*version == VERSION).then_some((*id, rest))
}

/// Each part with its length, so that no border can move.
fn joined(about: &[&str]) -> Vec<u8> {
    let part = |part: &&str| [&(part.len() as u64).to_be_bytes()[..], part.as_bytes()].concat();
    about.iter().flat_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(byte: u8, previous: Option<u8>) -> DataKeys {
        let key = |byte| Key::from_bytes([byte; 32]);
        DataKeys::new(&key(byte), previous.map(key).as_ref()).unwrap()
    }

    #[test]
    fn only_the_same_key_and_owner_open_what_was_sealed() {
        let own = keys(1, None);
        let sealed = own.seal("canary", &["acme", "pii"]).unwrap();
        assert_eq!(own.open(&sealed, &["acme", "pii"]).unwrap().expose_secret(), "canary");
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        assert_ne!(sealed, own.seal("canary", &["acme", "pii"]).unwrap(), "nonces differ");
        for moved in [&["globex", "pii"][..], &["acme", "pi"], &["acmep", "ii"], &["acme"], &[]] {
            assert_eq!(own.open(&sealed, moved).unwrap_err(), OpenError::Damaged, "{moved:?}");
        }
        assert_eq!(keys(2, None).open(&sealed, &["acme", "pii"]).unwrap_err(), OpenError::OtherKey);
        let alone = Key::from_bytes([3; 32]).seal("canary", &["x"]).unwrap();
        assert_eq!(
            Key::from_bytes([3; 32]).open(&alone, &["x"]).unwrap().expose_secret(),
            "canary"
        );
        let other = Key::from_bytes([4; 32]).open(&alone, &["x"]);
        assert_eq!(other.unwrap_err(), OpenError::OtherKey);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let own = keys(1, None);
        let sealed = own.seal("a secret", &["x"]).unwrap();
        for length in 0..sealed.len() {
            assert!(own.open(&sealed[..length], &["x"]).is_err(), "{length}");
        }
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(own.open(&changed, &["x"]).is_err(), "{index}");
        }
    }

    #[test]
    fn what_is_sealed_apart_has_a_key_of_its_own_and_opens_for_its_owner_alone() {
        let own = keys(1, None);
        let sealed = own.seal_apart("canary", &["acme", "job"]).unwrap();
        assert_eq!(own.open_apart(&sealed, &["acme", "job"]).unwrap().expose_secret(), "canary");
        let again = own.seal_apart("canary", &["acme", "job"]).unwrap();
        let swapped = [&again[..103], &sealed[103..]].concat();
        assert_eq!(sealed.len(), again.len());
        assert!(own.open_apart(&swapped, &["acme", "job"]).is_err(), "another's key opened it");
        assert!(own.open_apart(&sealed, &["globex", "job"]).is_err());
        assert!(keys(2, None).open_apart(&sealed, &["acme", "job"]).is_err());
        assert!(keys(2, Some(1)).open_apart(&sealed, &["acme", "job"]).is_ok());
        for length in 0..sealed.len() {
            assert!(own.open_apart(&sealed[..length], &["acme", "job"]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_new_key_opens_what_the_one_before_sealed_and_says_that_it_is_old() {
        let sealed = keys(1, None).seal("a secret", &["x"]).unwrap();
        let both = keys(2, Some(1));
        assert_eq!(both.open(&sealed, &["x"]).unwrap().expose_secret(), "a secret");
        assert!(both.is_outdated(&sealed));
        let anew = both.seal("a secret", &["x"]).unwrap();
        assert!(!both.is_outdated(&anew) && keys(2, None).open(&anew, &["x"]).is_ok());
        assert_eq!(both.key_set()["keys"].as_array().unwrap().len(), 2);
        assert!(!format!("{both:?}").contains('1'));
    }
}
