//! Ed25519 signatures (RFC 8032).

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::{Key, SealError};

/// Signs; `Debug` shows the public key alone.
pub struct Signer {
    pair: Ed25519KeyPair,
    public_key: [u8; 32],
}

impl Signer {
    /// The signer whose seed is `key`.
    pub fn of(key: &Key) -> Result<Signer, SealError> {
        let seed = key.0.expose_secret();
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| SealError::Crypto)?;
        let public_key = pair.public_key().as_ref().try_into().map_err(|_| SealError::Crypto)?;
        Ok(Signer { pair, public_key })
    }

    /// What others check signatures with.
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// The signature of `message`.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], SealError> {
        self.pair.sign(message).as_ref().try_into().map_err(|_| SealError::Crypto)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", hex::encode(self.public_key))
    }
}

/// Whether the holder of `public_key` signed `message`.
pub fn is_signed(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
}

/// What stands before the 32 bytes of an Ed25519 key in its DER form (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The Ed25519 key in a PEM file, as `openssl pkey -pubout` writes it.
pub fn public_key_of_pem(text: &str) -> Option<[u8; 32]> {
    let text = text.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?;
    let text = text.strip_suffix("-----END PUBLIC KEY-----")?;
    let base64: String = text.split_whitespace().collect();
    STANDARD.decode(base64).ok()?.strip_prefix(&SPKI)?.try_into().ok()
}

#[derive(Deserialize)]
struct JwsHead {
    alg: String,
    crit: Option<serde_json::Value>,
}

/// The payload of a compact JWS (RFC 7515) that the holder of `public_key` signed with EdDSA.
/// Nothing in its head chooses a key or another algorithm.
pub fn signed_payload(token: &str, public_key: &[u8; 32]) -> Option<Vec<u8>> {
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, payload) = signed.split_once('.')?;
    let head: JwsHead = serde_json::from_slice(&decode(head)?).ok()?;
    if head.alg != "EdDSA" || head.crit.is_some() {
        return None;
    }
    let signature: [u8; 64] = decode(signature)?.try_into().ok()?;
    if is_signed(public_key, signed.as_bytes(), &signature) { decode(payload) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_equal_those_of_rfc_8032_and_a_changed_bit_is_found() {
        // Section 7.1, test 2.
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        let signer = Signer::of(&Key::from_hex(seed).unwrap()).unwrap();
        assert_eq!(hex::encode(signer.public_key()), public);
        let mut signature = signer.sign(&[0x72]).unwrap();
        assert!(hex::encode(signature).starts_with("92a009a9f0d4cab8720e820b5f642540"));
        assert!(is_signed(&signer.public_key(), &[0x72], &signature));
        assert!(!is_signed(&signer.public_key(), &[0x73], &signature));
        signature[40] ^= 1;
        assert!(!is_signed(&signer.public_key(), &[0x72], &signature));
        assert!(!format!("{signer:?}").contains(&seed[..8]));
    }

    #[test]
    fn a_jws_of_rfc_8037_is_good_and_no_other_algorithm_or_key_is() {
        // Appendix A.4.
        let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let key: [u8; 32] = x.try_into().unwrap();
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
            hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert_eq!(signed_payload(token, &key).unwrap(), b"Example of Ed25519 signing");
        assert_eq!(signed_payload(token, &[7; 32]), None);
        let head = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let rest = token.split_once('.').unwrap().1;
        for other in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"EdDSA","crit":[]}"#] {
            assert_eq!(signed_payload(&format!("{}.{rest}", head(other)), &key), None, "{other}");
        }
        assert_eq!(signed_payload(&token[..token.len() - 4], &key), None);
    }

    #[test]
    fn a_public_key_is_read_as_openssl_writes_it() {
        // RFC 8410, section 10.1.
        let pem = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
            -----END PUBLIC KEY-----\n";
        let key = public_key_of_pem(pem).unwrap();
        assert!(hex::encode(key).starts_with("19bf44096984cdfe"));
        assert_eq!(public_key_of_pem(&pem.replace("PUBLIC", "PRIVATE")), None);
        assert_eq!(public_key_of_pem("MCowBQYDK2VwAyEA"), None);
    }
}
