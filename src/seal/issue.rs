//! Short-lived tokens that this service signs (RFC 7519 with EdDSA, RFC 8037).

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Key, SealError};

/// Tells our tokens from those of others, which we believe only as `JWT` or `at+jwt` (RFC 8725, 3.11).
const TYPE: &str = "delegation+jwt";

/// Signs; whoever has its public key can check.
pub struct Issuer {
    pair: Ed25519KeyPair,
    /// The encoded header of every token.
    header: String,
    kid: String,
}

impl Issuer {
    pub(super) fn of(key: &Key) -> Result<Issuer, SealError> {
        let seed = key.hash([&b"delegation"[..]]);
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| SealError::Crypto)?;
        let [a, b, c, d, e, f, g, h, ..] = key.hash([&b"delegation-id"[..]]);
        let kid = hex::encode([a, b, c, d, e, f, g, h]);
        let header = encoded(&json!({"alg": "EdDSA", "typ": TYPE, "kid": kid}));
        Ok(Issuer { pair, header, kid })
    }

    /// The compact token of `claims`.
    pub fn sign(&self, claims: &Value) -> String {
        let message = format!("{}.{}", self.header, encoded(claims));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    pub(super) fn public(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        let kid = &self.kid;
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x})
    }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::{DataKeys, jwt::Verifier};
    use super::*;

    #[test]
    fn a_token_is_checked_with_the_published_key_and_is_none_of_those_we_believe() {
        let keys = DataKeys::new(&Key::from_bytes([7; 32]), None).unwrap();
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({"iss": "orchestrator", "aud": "orchestrator", "sub": "x",
            "exp": now + 60, "roles": ["super_admin"]});
        let token = keys.issuer().sign(&claims);
        let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
        assert!(String::from_utf8(parts.next().unwrap()).unwrap().contains(TYPE));
        assert_eq!(parts.next().unwrap(), claims.to_string().as_bytes());
        let x = keys.key_set()["keys"][0]["x"].as_str().unwrap().to_owned();
        let x = URL_SAFE_NO_PAD.decode(x).unwrap();
        let (message, _) = token.rsplit_once('.').unwrap();
        aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, x)
            .verify(message.as_bytes(), &parts.next().unwrap())
            .unwrap();
        // Even where somebody lists our key among the issuer's.
        let set = keys.key_set().to_string();
        let verifier = Verifier::new("orchestrator", "orchestrator").with_key_set(&set).unwrap();
        assert!(verifier.verify(&token).is_err());
    }
}
