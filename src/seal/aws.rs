//! Signature Version 4 of AWS, for requests other than to S3:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// The keys of an AWS principal; `Debug` shows nothing of them.
#[derive(Debug, Clone)]
pub struct AwsKeys {
    /// Which key.
    pub access_key: SecretString,
    /// What it is signed with.
    pub secret_key: SecretString,
    /// Belongs to temporary keys.
    pub session_token: Option<SecretString>,
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct AwsRequest<'a> {
    /// `20250102T030405Z`.
    pub time: &'a str,
    /// Such as `eu-central-1`.
    pub region: &'a str,
    /// Such as `bedrock`.
    pub service: &'a str,
    /// Such as `POST`.
    pub method: &'a str,
    /// As sent, encoded once, without query.
    pub path: &'a str,
    /// Every header to be signed but `x-amz-*`; lower-case names, sorted, host among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

impl PartialEq for AwsKeys {
    fn eq(&self, other: &Self) -> bool {
        let token = |keys: &AwsKeys| {
            keys.session_token.as_ref().map(|token| token.expose_secret().to_owned())
        };
        self.access_key.expose_secret() == other.access_key.expose_secret()
            && self.secret_key.expose_secret() == other.secret_key.expose_secret()
            && token(self) == token(other)
    }
}

impl AwsKeys {
    /// The headers to be added: date, session token, authorization.
    pub fn sign(&self, request: &AwsRequest<'_>) -> Vec<(&'static str, String)> {
        let mut added = vec![("x-amz-date", request.time.to_owned())];
        if let Some(token) = &self.session_token {
            added.push(("x-amz-security-token", token.expose_secret().to_owned()));
        }
        let all = || {
            let added = added.iter().map(|(name, value)| (*name, value.as_str()));
            request.headers.iter().copied().chain(added)
        };
        let names = all().map(|(name, _)| name).collect::<Vec<_>>().join(";");
        let lines: String =
            all().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let AwsRequest { time, region, service, method, path, body, .. } = request;
        let canonical =
            format!("{method}\n{}\n\n{lines}\n{names}\n{}", encoded(path), digest(body));
        let date = time.get(..8).unwrap_or_default();
        let scope = format!("{date}/{region}/{service}/aws4_request");
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", digest(canonical.as_bytes()));
        let key = format!("AWS4{}", self.secret_key.expose_secret()).into_bytes();
        let key = [date, region, service, "aws4_request"]
            .iter()
            .fold(key, |key, part| tag(&key, part.as_bytes()));
        let signature = hex::encode(tag(&key, text.as_bytes()));
        let id = self.access_key.expose_secret();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
        );
        added.push(("authorization", authorization));
        added
    }
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn tag(key: &[u8], message: &[u8]) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// The path encoded once more, as every service but S3 wants it.
fn encoded(path: &str) -> String {
    path.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(token: Option<&str>) -> AwsKeys {
        AwsKeys {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: token.map(Into::into),
        }
    }

    #[test]
    fn signatures_equal_those_of_the_published_test_suite() {
        for (method, signature) in [
            ("GET", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ] {
            let request = AwsRequest {
                time: "20150830T123600Z",
                region: "us-east-1",
                service: "service",
                method,
                path: "/",
                headers: &[("host", "example.amazonaws.com")],
                body: b"",
            };
            let (_, authorization) = keys(None).sign(&request).pop().unwrap();
            assert!(authorization.ends_with(&format!("Signature={signature}")), "{authorization}");
        }
    }

    #[test]
    fn signatures_equal_those_of_another_implementation() {
        let text = include_str!("../../tests/fixtures/replies/bedrock-guardrail/sigv4.json");
        let all: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = all["cases"].as_array().unwrap();
        assert!(cases.len() >= 3);
        for case in cases {
            let part = |name: &str| case[name].as_str().unwrap();
            let request = AwsRequest {
                time: part("amz_date"),
                region: part("region"),
                service: part("service"),
                method: "POST",
                path: part("path"),
                headers: &[("content-type", "application/json"), ("host", part("host"))],
                body: part("body").as_bytes(),
            };
            let keys = keys(case["session_token"].as_str());
            let (_, authorization) = keys.sign(&request).pop().unwrap();
            assert_eq!(authorization, part("authorization"), "{}", part("name"));
            assert!(!format!("{keys:?}").contains("wJalr"));
        }
    }
}
