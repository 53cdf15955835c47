//! Good tokens of every algorithm, and every way we know in which a token lies.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA512,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "a secret of at least thirty-two bytes";

struct Issuer {
    rsa: RsaKeyPair,
    other_rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn claims() -> Value {
    json!({"iss": "orchestrator", "aud": "orchestrator", "sub": "ana", "exp": now() + 60,
        "tenant_id": "acme", "roles": ["app"]})
}

fn with(name: &str, value: Value) -> Value {
    let mut changed = claims();
    changed[name] = value;
    changed
}

fn without(name: &str) -> Value {
    let mut changed = claims();
    changed.as_object_mut().unwrap().remove(name);
    changed
}

fn hs(key: hmac::Algorithm, secret: &[u8], message: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(key, secret), message.as_bytes()).as_ref().to_vec()
}

fn joined(header: &str, claims: &str, sign: impl Fn(&str) -> Vec<u8>) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = b64(sign(&message));
    format!("{message}.{signature}")
}

/// HS256 by our secret under any header and claims.
fn signed(header: &str, claims: &str) -> String {
    joined(header, claims, |message| hs(hmac::HMAC_SHA256, SECRET.as_bytes(), message))
}

const HS: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

impl Issuer {
    fn new() -> Issuer {
        let rsa = || RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Issuer {
            rsa: rsa(),
            other_rsa: rsa(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn modulus(&self) -> Vec<u8> {
        let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
            aws_lc_rs::encoding::AsDer::as_der(self.rsa.public_key()).unwrap();
        public.as_ref().to_vec()
    }

    fn key_set(&self) -> Value {
        let rsa = self.rsa.public_key();
        let n = rsa.modulus().big_endian_without_leading_zero();
        let e = rsa.exponent().big_endian_without_leading_zero();
        let ec = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "n": b64(n), "e": b64(e)},
            {"kty": "EC", "kid": "ec", "crv": "P-256", "alg": "ES256",
             "x": b64(&ec[1..33]), "y": b64(&ec[33..65])},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64(self.ed.public_key())},
            {"kty": "RSA", "kid": "enc", "use": "enc", "n": b64(n), "e": b64(e)},
            {"kty": "EC", "kid": "p384", "crv": "P-384", "x": "AA", "y": "AA"},
        ]})
    }

    fn verifier(&self) -> Verifier {
        let own = Verifier::new("orchestrator", "orchestrator").with_secret(&SECRET.into());
        own.with_key_set(&self.key_set().to_string()).unwrap()
    }

    fn rs(&self, header: &str, claims: &Value) -> String {
        joined(header, &claims.to_string(), |message| rsa(&self.rsa, message))
    }

    fn es(&self, header: &str, claims: &Value) -> String {
        let random = SystemRandom::new();
        joined(header, &claims.to_string(), |message| {
            self.ec.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec()
        })
    }

    fn ed(&self, header: &str, claims: &Value) -> String {
        joined(header, &claims.to_string(), |message| {
            self.ed.sign(message.as_bytes()).as_ref().to_vec()
        })
    }
}

fn rsa(key: &RsaKeyPair, message: &str) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    signature
}

#[test]
fn a_token_of_each_algorithm_is_believed_by_its_key_only() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    let stranger = Issuer::new().verifier();
    let late = signed(HS, &with("exp", json!(now() - 1)).to_string());
    assert!(verifier.verify(&late).is_ok(), "clocks may differ");
    let good = Claims {
        sub: "ana".into(),
        tenant_id: Some("acme".into()),
        roles: Some(vec!["app".into()]),
        scopes: None,
        expires_at_s: 0,
    };
    let many = with("aud", json!(["elsewhere", "orchestrator"]));
    for token in [
        signed(HS, &claims().to_string()),
        signed(HS, &many.to_string()),
        signed(HS, &with("nbf", json!(now() + 3)).to_string()),
        signed(r#"{"alg":"HS256"}"#, &claims().to_string()),
        issuer.rs(r#"{"alg":"RS256","kid":"rsa"}"#, &claims()),
        issuer.es(r#"{"alg":"ES256","kid":"ec","typ":"at+jwt"}"#, &claims()),
        issuer.ed(r#"{"alg":"EdDSA","kid":"ed"}"#, &claims()),
    ] {
        let found = verifier.verify(&token).unwrap();
        assert!(found.expires_at_s >= now().unsigned_abs(), "{found:?}");
        assert_eq!(Claims { expires_at_s: 0, ..found }, good, "{token}");
        if !token.starts_with(&b64(r#"{"alg":"HS256"#)[..15]) {
            assert!(stranger.verify(&token).is_err(), "{token}");
        }
        let nobody = Verifier::new("orchestrator", "orchestrator");
        assert_eq!(nobody.verify(&token), Err(TokenFault::UnknownKey));
    }
}

/// Wrong keys, algorithms and headers.
fn wrong_signatures(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let text = claims().to_string();
    let good = signed(HS, &text);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let none = |alg: &str| joined(&format!(r#"{{"alg":"{alg}"}}"#), &text, |_| Vec::new());
    let public = issuer.modulus();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(&public)
    );
    let by = |header: &str, secret: &[u8]| {
        joined(header, &text, |message| hs(hmac::HMAC_SHA256, secret, message))
    };
    let rs = r#"{"alg":"RS256","kid":"rsa"}"#;
    let other = joined(rs, &text, |message| rsa(&issuer.other_rsa, message));
    let ecdsa_zero = joined(r#"{"alg":"ES256","kid":"ec"}"#, &text, |_| vec![0; 64]);
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[0] ^= 1;
    let rs512 = joined(r#"{"alg":"RS512","kid":"rsa"}"#, &text, |message| {
        let mut signature = vec![0; 256];
        let random = SystemRandom::new();
        issuer.rsa.sign(&RSA_PKCS1_SHA512, &random, message.as_bytes(), &mut signature).unwrap();
        signature
    });
    vec![
        ("none", none("none")),
        ("None", none("None")),
        ("NONE with our signature", signed(r#"{"alg":"NONE"}"#, &text)),
        ("no algorithm", signed(r#"{"typ":"JWT"}"#, &text)),
        ("a list of algorithms", signed(r#"{"alg":["HS256"]}"#, &text)),
        ("signature stripped", format!("{message}.")),
        ("signature of another message", {
            let elsewhere = signed(HS, &with("sub", json!("eve")).to_string());
            format!("{message}.{}", elsewhere.rsplit_once('.').unwrap().1)
        }),
        ("one bit flipped", format!("{message}.{}", b64(flipped))),
        ("signature cut", format!("{message}.{}", &signature[..40])),
        ("another secret", by(HS, b"another secret of thirty-two bytes!!")),
        ("an empty secret", by(HS, b"")),
        ("the RSA key as secret", by(HS, &public)),
        ("the RSA key's PEM as secret", by(HS, pem.as_bytes())),
        ("HS256 under the RSA kid", by(r#"{"alg":"HS256","kid":"rsa"}"#, &public)),
        ("HS256 under the RSA kid, PEM", by(r#"{"alg":"HS256","kid":"rsa"}"#, pem.as_bytes())),
        (
            "HS384 by our secret",
            joined(r#"{"alg":"HS384"}"#, &text, |message| {
                hs(hmac::HMAC_SHA384, SECRET.as_bytes(), message)
            }),
        ),
        ("RS512 by the right key", rs512),
        ("RS256 by another key", other),
        ("RS256 without kid", issuer.rs(r#"{"alg":"RS256"}"#, &claims())),
        ("RS256 under the EC kid", issuer.rs(r#"{"alg":"RS256","kid":"ec"}"#, &claims())),
        ("ES256 under the RSA kid", issuer.es(r#"{"alg":"ES256","kid":"rsa"}"#, &claims())),
        ("EdDSA under the EC kid", issuer.ed(r#"{"alg":"EdDSA","kid":"ec"}"#, &claims())),
        ("ES256 of zeros", ecdsa_zero),
        ("a key that is for encryption", issuer.rs(r#"{"alg":"RS256","kid":"enc"}"#, &claims())),
    ]
}

fn wrong_headers(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let text = claims().to_string();
    let by_kid = |kid: &str| signed(&json!({"alg": "HS256", "kid": kid}).to_string(), &text);
    let jwk = &issuer.key_set()["keys"][0];
    let header = |more: Value| {
        let mut header = json!({"alg": "RS256", "kid": "rsa"});
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        issuer.rs(&header.to_string(), &claims())
    };
    vec![
        ("kid of a file", by_kid("../../../../dev/null")),
        ("kid of SQL", by_kid("x' UNION SELECT 'secret")),
        ("kid of a command", by_kid("|whoami")),
        ("an empty kid", by_kid("")),
        ("an unknown kid", by_kid("nobody")),
        ("kid of the wrong type", signed(r#"{"alg":"HS256","kid":7}"#, &text)),
        ("kid in other capitals", issuer.rs(r#"{"alg":"RS256","kid":"RSA"}"#, &claims())),
        ("jwk", header(json!({"jwk": jwk}))),
        ("jku", header(json!({"jku": "https://evil.example/keys"}))),
        ("x5u", header(json!({"x5u": "https://evil.example/cert"}))),
        ("x5c", header(json!({"x5c": ["AAAA"]}))),
        ("crit", header(json!({"crit": ["exp"]}))),
        ("b64 false", header(json!({"b64": false}))),
        ("zip", header(json!({"zip": "DEF"}))),
        ("nested", header(json!({"cty": "JWT"}))),
        ("another type", header(json!({"typ": "secevent+jwt"}))),
        ("alg twice", signed(r#"{"alg":"none","alg":"HS256"}"#, &text)),
        ("kid twice", issuer.rs(r#"{"alg":"RS256","kid":"x","kid":"rsa"}"#, &claims())),
        ("data after the header", signed(r#"{"alg":"HS256"}{}"#, &text)),
        ("a header that is a list", signed(r#"["HS256"]"#, &text)),
        ("a deep header", signed(&format!("{}{}", "[".repeat(3000), "]".repeat(3000)), &text)),
    ]
}

fn wrong_claims() -> Vec<(&'static str, String)> {
    let of = |claims: Value| signed(HS, &claims.to_string());
    let raw = |more: &str| {
        let text = claims().to_string();
        signed(HS, &format!("{}{more}}}", &text[..text.len() - 1]))
    };
    vec![
        ("expired", of(with("exp", json!(now() - 60)))),
        ("expired by six seconds", of(with("exp", json!(now() - 6)))),
        ("exp 0", of(with("exp", json!(0)))),
        ("exp missing", of(without("exp"))),
        ("exp as text", of(with("exp", json!("9999999999")))),
        ("exp negative", of(with("exp", json!(-1)))),
        ("exp beyond numbers", of(with("exp", json!(1e300)))),
        ("exp null", of(with("exp", Value::Null))),
        ("nbf in the future", of(with("nbf", json!(now() + 60)))),
        ("nbf as text", of(with("nbf", json!("0")))),
        ("aud of others", of(with("aud", json!("elsewhere")))),
        ("aud missing", of(without("aud"))),
        ("aud empty", of(with("aud", json!([])))),
        ("aud in capitals", of(with("aud", json!("Orchestrator")))),
        ("aud as object", of(with("aud", json!({"orchestrator": 1})))),
        ("iss of others", of(with("iss", json!("https://evil.example")))),
        ("iss missing", of(without("iss"))),
        ("iss as list", of(with("iss", json!(["orchestrator"])))),
        ("iss with a slash", of(with("iss", json!("orchestrator/")))),
        ("sub missing", of(without("sub"))),
        ("sub empty", of(with("sub", json!("")))),
        ("sub of two lines", of(with("sub", json!("ana\nactor=root")))),
        ("sub endless", of(with("sub", json!("a".repeat(201))))),
        ("roles as text", of(with("roles", json!("super_admin")))),
        ("scopes of numbers", of(with("scopes", json!([1])))),
        ("tenant_id as list", of(with("tenant_id", json!(["acme", "globex"])))),
        ("exp twice", raw(r#","exp":9999999999"#)),
        ("tenant_id twice", raw(r#","tenant_id":"globex""#)),
        ("roles twice", raw(r#","roles":["super_admin"]"#)),
        ("escaped twice", raw(",\"\\u0074enant_id\":\"globex\"")),
        ("data after the claims", signed(HS, &format!("{} {{}}", claims()))),
        ("claims that are a list", signed(HS, "[]")),
        ("not UTF-8", {
            let message = format!("{}.{}", b64(HS), b64([0xff, 0xfe]));
            let signature = hs(hmac::HMAC_SHA256, SECRET.as_bytes(), &message);
            format!("{message}.{}", b64(signature))
        }),
    ]
}

fn wrong_forms() -> Vec<(&'static str, String)> {
    let good = signed(HS, &claims().to_string());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, body) = message.split_once('.').unwrap();
    // 32 bytes leave two unused bits in the last sign; a lax decoder drops them.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = alphabet.find(&signature[42..]).unwrap();
    let loose = &alphabet[last | 1..][..1];
    let padded = URL_SAFE.encode(URL_SAFE_NO_PAD.decode(signature).unwrap());
    let spaced = format!("{}\n{}", &signature[..20], &signature[20..]);
    vec![
        ("empty", String::new()),
        ("dots", "..".into()),
        ("two parts", message.to_owned()),
        ("four parts", format!("{good}.{signature}")),
        ("five parts of an encrypted token", format!("{header}.{body}.{signature}.AAAA.AAAA")),
        ("padded base64", format!("{message}.{padded}")),
        ("loose last bits", format!("{message}.{}{loose}", &signature[..42])),
        ("a line end inside", format!("{message}.{spaced}")),
        ("a line end behind", format!("{good}\n")),
        ("a space before", format!(" {good}")),
        ("signs of other alphabets", format!("{message}.{}+/", &signature[..41])),
        ("a zero byte", format!("{good}\0")),
        (
            "JSON form",
            json!({"payload": body, "protected": header,
            "signature": signature})
            .to_string(),
        ),
        ("huge", signed(HS, &with("x", json!("a".repeat(9000))).to_string())),
        ("a megabyte of nothing", "A".repeat(1 << 20)),
    ]
}

#[test]
fn no_hostile_token_is_believed() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    assert!(verifier.verify(&signed(HS, &claims().to_string())).is_ok(), "the pattern is good");
    let mut tried = 0;
    for (name, token) in
        [wrong_signatures(&issuer), wrong_headers(&issuer), wrong_claims(), wrong_forms()]
            .into_iter()
            .flatten()
    {
        assert!(verifier.verify(&token).is_err(), "{name} was believed: {token}");
        tried += 1;
    }
    assert!(tried >= 90, "{tried}");
}

#[test]
fn a_set_of_keys_with_a_secret_in_it_is_refused() {
    let with_set = |set: Value| {
        Verifier::new("a", "b").with_key_set(&set.to_string()).map(|_| ()).unwrap_err()
    };
    let key = |why| KeySetFault::Key { index: 0, why };
    let private = "is private; put public keys only into the file";
    let ed = |kid: &str| json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": "AAAA"});
    assert_eq!(with_set(json!({"keys": [{"kty": "oct", "kid": "a", "k": "AA"}]})), key(private));
    let mut whole = ed("a");
    whole["d"] = json!("AAAA");
    assert_eq!(with_set(json!({"keys": [whole]})), key(private));
    let mut nameless = ed("");
    assert_eq!(with_set(json!({"keys": [nameless]})), key("has no `kid`"));
    nameless = json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"});
    assert_eq!(with_set(json!({"keys": [nameless]})), key("has no `kid`"));
    let twice = json!({"keys": [ed("a"), ed("a")]});
    assert_eq!(with_set(twice), KeySetFault::Key { index: 1, why: "repeats another's `kid`" });
    assert_eq!(with_set(json!({"keys": []})), KeySetFault::Empty);
    assert!(matches!(with_set(json!([])), KeySetFault::Unreadable(_)));
}
