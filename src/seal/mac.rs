//! Message authentication with a secret that two parties share (HMAC-SHA256, RFC 2104).

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// A shared secret; `Debug` shows nothing of it.
#[derive(Debug, Clone)]
pub struct SharedSecret(SecretString);

impl SharedSecret {
    /// Shortest secret in bytes.
    pub const BYTES_MIN: usize = 32;

    /// A secret of at least [`Self::BYTES_MIN`] bytes.
    pub fn new(secret: SecretString) -> Option<SharedSecret> {
        (secret.expose_secret().len() >= Self::BYTES_MIN).then_some(SharedSecret(secret))
    }

    /// HMAC-SHA256 over `parts`, one after the other.
    pub fn hmac<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret().as_bytes())
            .expect("HMAC takes keys of every length");
        parts.into_iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

impl PartialEq for SharedSecret {
    fn eq(&self, other: &SharedSecret) -> bool {
        super::same(self.0.expose_secret().as_bytes(), other.0.expose_secret().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_is_that_of_openssl() {
        // printf %s '1700000000.{"content":"x"}' | openssl dgst -sha256 -hmac <secret>
        let secret = SharedSecret::new("0123456789abcdef0123456789abcdef".into()).unwrap();
        let mac = secret.hmac([&b"1700000000"[..], b".", br#"{"content":"x"}"#]);
        assert_eq!(
            hex::encode(mac),
            "3ee40b392c5c4a1781b229e35b06f205820c3411c948e1aaff61e1d36f79c45b"
        );
        assert!(SharedSecret::new("thirty-one bytes are too short.".into()).is_none());
        assert!(!format!("{secret:?}").contains("0123"));
    }
}
