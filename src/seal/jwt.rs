//! Signed tokens of others (RFC 7519): which key, that key's one algorithm, and strict claims.
//!
//! Nothing in a token chooses how it is verified: its `kid` only finds a key among ours, and headers
//! that bring or point to keys are refused.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::IgnoredAny;

#[cfg(test)]
mod tests;

/// Longest token in bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Seconds that clocks may differ.
const LEEWAY_SECONDS: u64 = 5;
/// Characters of a subject.
const SUBJECT_CHARS_MAX: usize = 200;
/// Keys of a set.
const KEYS_MAX: usize = 100;

/// What a good token says; names are as the issuer wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who, without control characters.
    pub sub: String,
    /// For which tenant.
    pub tenant_id: Option<String>,
    /// Claimed roles.
    pub roles: Option<Vec<String>>,
    /// Claimed scopes.
    pub scopes: Option<Vec<String>>,
    /// When it expires, seconds since 1970.
    pub expires_at_s: u64,
}

/// Why a token is refused; for the log, callers are told less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Over 8 KiB.
    #[error("is too long")]
    TooLong,
    /// No three parts, or a header that is no header of ours.
    #[error("has a header that is not readable or not allowed")]
    Header,
    /// No key of ours has that `kid`.
    #[error("names no known key")]
    UnknownKey,
    /// Not the one of its key.
    #[error("is not signed by its key's algorithm")]
    Algorithm,
    /// It was not signed by the key.
    #[error("has a wrong signature")]
    Signature,
    /// It was good once.
    #[error("has expired")]
    Expired,
    /// It will be good.
    #[error("is not yet valid")]
    TooEarly,
    /// Another issuer or audience, or a claim is missing, repeated or of the wrong type.
    #[error("has claims that are missing, wrong or not ours")]
    Claims,
}

/// Why keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetFault {
    /// Not a set of keys.
    #[error("is no set of keys (RFC 7517): {0}")]
    Unreadable(String),
    /// One of them must not be there.
    #[error("key {index} {why}")]
    Key {
        /// From 0.
        index: usize,
        /// In words.
        why: &'static str,
    },
    /// None remains.
    #[error("holds no key for RS256, ES256 or EdDSA")]
    Empty,
}

/// The keys whose tokens are believed.
pub struct Verifier {
    secret: Option<DecodingKey>,
    by_id: HashMap<String, (Algorithm, DecodingKey)>,
    issuer: String,
    audience: String,
}

impl Verifier {
    /// No keys yet: no token is good.
    pub fn new(issuer: &str, audience: &str) -> Verifier {
        let (issuer, audience) = (issuer.to_owned(), audience.to_owned());
        Verifier { secret: None, by_id: HashMap::new(), issuer, audience }
    }

    /// Believes HS256 tokens without `kid` that `secret` signs.
    pub fn with_secret(mut self, secret: &SecretString) -> Verifier {
        self.secret = Some(DecodingKey::from_secret(secret.expose_secret().as_bytes()));
        self
    }

    /// Believes tokens of the public keys in a JSON Web Key Set. Keys for other uses or algorithms
    /// are passed over; private, shared, nameless or repeated keys are faults.
    pub fn with_key_set(mut self, text: &str) -> Result<Verifier, KeySetFault> {
        let set: KeySet = serde_json::from_str(text)
            .map_err(|error| KeySetFault::Unreadable(format!("{error}")))?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeySetFault::Unreadable(format!("more than {KEYS_MAX} keys")));
        }
        for (index, jwk) in set.keys.into_iter().enumerate() {
            let at = |why| KeySetFault::Key { index, why };
            let Some((id, algorithm, key)) = jwk.public_key().map_err(at)? else { continue };
            if self.by_id.insert(id, (algorithm, key)).is_some() {
                return Err(at("repeats another's `kid`"));
            }
        }
        if self.by_id.is_empty() { Err(KeySetFault::Empty) } else { Ok(self) }
    }

    /// The claims of a good token.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::TooLong);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenFault::Header)?;
        check_header(&header)?;
        let (algorithm, key) = match &header.kid {
            Some(id) => self.by_id.get(id).map(|(algorithm, key)| (*algorithm, key)),
            None => self.secret.as_ref().map(|key| (Algorithm::HS256, key)),
        }
        .ok_or(TokenFault::UnknownKey)?;
        if header.alg != algorithm {
            return Err(TokenFault::Algorithm);
        }
        let decoded = jsonwebtoken::decode::<Raw>(token, key, &self.rules(algorithm));
        decoded.map_err(|error| fault(&error))?.claims.checked()
    }

    fn rules(&self, algorithm: Algorithm) -> Validation {
        let mut rules = Validation::new(algorithm);
        rules.leeway = LEEWAY_SECONDS;
        rules.validate_nbf = true;
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&[&self.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules
    }
}

/// A header may say type, algorithm and key id; everything else would have to be understood.
fn check_header(header: &Header) -> Result<(), TokenFault> {
    let typ = header.typ.as_deref().unwrap_or("JWT");
    let known = ["JWT", "at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known));
    let brings_a_key = header.jku.is_some()
        || header.jwk.is_some()
        || header.x5u.is_some()
        || header.x5c.is_some();
    let changes_the_form = header.crit.is_some()
        || header.enc.is_some()
        || header.zip.is_some()
        || header.cty.is_some()
        || header.extras.inner().contains_key("b64");
    if known && !brings_a_key && !changes_the_form { Ok(()) } else { Err(TokenFault::Header) }
}

fn fault(error: &jsonwebtoken::errors::Error) -> TokenFault {
    use jsonwebtoken::errors::ErrorKind;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the crate's enum is open")]
    match error.kind() {
        ErrorKind::InvalidSignature | ErrorKind::Base64(_) => TokenFault::Signature,
        ErrorKind::ExpiredSignature => TokenFault::Expired,
        ErrorKind::ImmatureSignature => TokenFault::TooEarly,
        ErrorKind::InvalidAlgorithm => TokenFault::Algorithm,
        _ => TokenFault::Claims,
    }
}

/// Every claim that is read, so that one of them written twice is refused.
#[derive(Deserialize)]
struct Raw {
    sub: String,
    tenant_id: Option<String>,
    roles: Option<Vec<String>>,
    scopes: Option<Vec<String>>,
    #[serde(rename = "iss")]
    _iss: String,
    #[serde(rename = "aud")]
    _aud: Audience,
    exp: u64,
    #[serde(rename = "nbf")]
    _nbf: Option<u64>,
    #[serde(rename = "iat")]
    _iat: Option<u64>,
    #[serde(rename = "jti")]
    _jti: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(#[expect(dead_code, reason = "its type is checked")] String),
    Many(#[expect(dead_code, reason = "its type is checked")] Vec<String>),
}

impl Raw {
    fn checked(self) -> Result<Claims, TokenFault> {
        let chars = self.sub.chars().count();
        let plain = !self.sub.chars().any(char::is_control) && self.sub.trim() == self.sub;
        if !plain || !(1..=SUBJECT_CHARS_MAX).contains(&chars) {
            return Err(TokenFault::Claims);
        }
        let Raw { sub, tenant_id, roles, scopes, exp, .. } = self;
        Ok(Claims { sub, tenant_id, roles, scopes, expires_at_s: exp })
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// The members that matter (RFC 7517, 7518, 8037).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

impl Jwk {
    /// Its name, its one algorithm and itself; `None` where it is for something else.
    fn public_key(self) -> Result<Option<(String, Algorithm, DecodingKey)>, &'static str> {
        if self.d.is_some() || self.k.is_some() || self.kty == "oct" {
            return Err("is private; put public keys only into the file");
        }
        let (algorithm, name) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => (Algorithm::RS256, "RS256"),
            ("EC", Some("P-256")) => (Algorithm::ES256, "ES256"),
            ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, "EdDSA"),
            _ => return Ok(None),
        };
        let other_use = self.used_for.is_some_and(|used_for| used_for != "sig");
        if other_use || self.alg.is_some_and(|alg| alg != name) {
            return Ok(None);
        }
        let id = self.kid.filter(|id| !id.is_empty()).ok_or("has no `kid`")?;
        let part = |part: Option<String>| part.ok_or("lacks a member of its type");
        let key = match name {
            "RS256" => DecodingKey::from_rsa_components(&part(self.n)?, &part(self.e)?),
            "ES256" => DecodingKey::from_ec_components(&part(self.x)?, &part(self.y)?),
            _ => DecodingKey::from_ed_components(&part(self.x)?),
        };
        Ok(Some((id, algorithm, key.map_err(|_| "holds a member that is no base64url")?)))
    }
}
