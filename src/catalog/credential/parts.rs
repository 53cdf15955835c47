//! A credential in parts, as the API takes it and the store keeps it sealed.

use serde::{Deserialize, Serialize};

use super::{basic, token_url};
use crate::catalog::detector::{Auth, Oauth2};
use crate::catalog::detector_file::headers::is_reserved;
use crate::settings::Env;

/// Longest part in bytes.
const PART_BYTES_MAX: usize = 16 * 1024;

/// The parts; which of them belong to a credential its `kind` says. `Debug` shows none.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CredentialParts {
    /// `none`, `api_key`, `bearer_token`, `basic_auth` or `oauth2`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Header of an API key; `x-api-key` unless set.
    pub header: Option<String>,
    /// The API key.
    pub value: Option<String>,
    /// The bearer token.
    pub token: Option<String>,
    /// Of basic authentication.
    pub username: Option<String>,
    /// Of basic authentication.
    pub password: Option<String>,
    /// Where a client fetches tokens.
    pub token_url: Option<String>,
    /// Who fetches them.
    pub client_id: Option<String>,
    /// With what.
    pub client_secret: Option<String>,
    /// For what.
    pub scope: Option<String>,
    /// For whom.
    pub audience: Option<String>,
}

/// What is wrong with a part; never its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartFault {
    /// Which.
    pub part: &'static str,
    /// In words.
    pub why: &'static str,
}

impl std::fmt::Debug for CredentialParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialParts(…)")
    }
}

impl CredentialParts {
    /// The credential they make; parts of another kind are faults.
    pub fn auth(&self, env: Env) -> Result<Auth, PartFault> {
        let own: &[&str] = match self.kind.as_str() {
            "none" => &[],
            "api_key" => &["header", "value"],
            "bearer_token" => &["token"],
            "basic_auth" => &["username", "password"],
            "oauth2" => &["token_url", "client_id", "client_secret", "scope", "audience"],
            _ => {
                let why = "is one of none, api_key, bearer_token, basic_auth, oauth2";
                return Err(PartFault { part: "type", why });
            }
        };
        for (part, value) in self.given() {
            if !own.contains(&part) {
                return Err(PartFault { part, why: "does not belong to this type" });
            }
            let fits = (1..=PART_BYTES_MAX).contains(&value.len());
            if !fits || http::HeaderValue::try_from(value).is_err() {
                return Err(PartFault { part, why: "is empty, too long, or no line of text" });
            }
        }
        match self.kind.as_str() {
            "api_key" => {
                Ok(Auth::Header { name: self.header_name()?, value: self.value()?.into() })
            }
            "bearer_token" => Ok(authorization(format!("Bearer {}", need("token", &self.token)?))),
            "basic_auth" => {
                let user = need("username", &self.username)?;
                if user.contains(':') {
                    return Err(PartFault { part: "username", why: "must not hold a colon" });
                }
                Ok(authorization(basic(user, need("password", &self.password)?)))
            }
            "oauth2" => {
                let url = need("token_url", &self.token_url)?;
                let fault = |why| PartFault { part: "token_url", why };
                Ok(Auth::Oauth2(Oauth2 {
                    token_url: token_url(url, env).map_err(fault)?,
                    client_id: need("client_id", &self.client_id)?.to_owned(),
                    client_secret: need("client_secret", &self.client_secret)?.into(),
                    scope: self.scope.clone(),
                    audience: self.audience.clone(),
                }))
            }
            _ => Ok(Auth::None),
        }
    }

    fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("header", &self.header),
            ("value", &self.value),
            ("token", &self.token),
            ("username", &self.username),
            ("password", &self.password),
            ("token_url", &self.token_url),
            ("client_id", &self.client_id),
            ("client_secret", &self.client_secret),
            ("scope", &self.scope),
            ("audience", &self.audience),
        ]
        .into_iter()
        .filter_map(|(part, value)| Some((part, value.as_deref()?)))
    }

    fn header_name(&self) -> Result<String, PartFault> {
        let name = self.header.as_deref().unwrap_or("x-api-key").to_ascii_lowercase();
        if http::HeaderName::try_from(&name).is_err() || is_reserved(&name) {
            return Err(PartFault { part: "header", why: "is no header that may be set" });
        }
        Ok(name)
    }

    fn value(&self) -> Result<&str, PartFault> {
        need("value", &self.value)
    }
}

fn need<'a>(part: &'static str, value: &'a Option<String>) -> Result<&'a str, PartFault> {
    value.as_deref().ok_or(PartFault { part, why: "is missing" })
}

fn authorization(value: String) -> Auth {
    Auth::Header { name: "authorization".to_owned(), value: value.into() }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn check(json: serde_json::Value, env: Env) -> String {
        let parts: CredentialParts = serde_json::from_value(json).unwrap();
        match parts.auth(env) {
            Ok(Auth::Header { name, value }) => format!("{name}: {}", value.expose_secret()),
            Ok(auth) => auth.kind().to_owned(),
            Err(fault) => format!("{} {}", fault.part, fault.why),
        }
    }

    #[test]
    fn each_kind_takes_its_own_parts_and_no_others() {
        use serde_json::json;
        for (parts, expected) in [
            (json!({"type": "none"}), "none"),
            (json!({"type": "api_key", "value": "k"}), "x-api-key: k"),
            (json!({"type": "api_key", "header": "X-Key", "value": "k"}), "x-key: k"),
            (json!({"type": "bearer_token", "token": "t"}), "authorization: Bearer t"),
            (
                json!({"type": "basic_auth", "username": "a", "password": "b"}),
                "authorization: Basic YTpi",
            ),
            (json!({"type": "api_key"}), "value is missing"),
            (json!({"type": "none", "value": "k"}), "value does not belong to this type"),
            (
                json!({"type": "bearer_token", "token": "a\r\nhost: b"}),
                "token is empty, too long, or no line of text",
            ),
            (
                json!({"type": "bearer_token", "token": ""}),
                "token is empty, too long, or no line of text",
            ),
            (
                json!({"type": "api_key", "header": "Host", "value": "k"}),
                "header is no header that may be set",
            ),
            (
                json!({"type": "basic_auth", "username": "a:b", "password": "c"}),
                "username must not hold a colon",
            ),
            (
                json!({"type": "magic"}),
                "type is one of none, api_key, bearer_token, basic_auth, oauth2",
            ),
        ] {
            assert_eq!(check(parts.clone(), Env::Production), expected, "{parts}");
        }
        let client = |url: &str| json!({"type": "oauth2", "token_url": url, "client_id": "a", "client_secret": "b"});
        for (url, env, expected) in [
            ("https://login.example/token", Env::Production, "oauth2"),
            ("http://login.example/token", Env::Development, "oauth2"),
            (
                "http://login.example/token",
                Env::Staging,
                "token_url must be https outside development",
            ),
            ("ftp://login.example/", Env::Development, "token_url must be https"),
            ("https://a:b@login.example/", Env::Production, "token_url needs a host and no user"),
            ("/token", Env::Development, "token_url needs a host and no user"),
        ] {
            assert_eq!(check(client(url), env), expected, "{url}");
        }
    }
}
