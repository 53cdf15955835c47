//! The credential of a detector: where the secret is, and the header it becomes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

use super::detector::{Auth, Oauth2};
use super::load::{LoadContext, not_built};
use crate::seal::AwsKeys;
use crate::settings::Env;
use crate::yaml::fault::Fault;
use crate::yaml::{Fields, Node, Source};

mod parts;

pub use parts::{CredentialParts, PartFault};

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// In an environment variable.
    Env(String),
    /// In a file, without its last line break.
    File(String),
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    None,
    ApiKey,
    #[serde(alias = "bearer_token")]
    Bearer,
    #[serde(alias = "basic_auth")]
    Basic,
    Oauth2,
    AwsSigv4,
}

/// Reads `auth`: the secret is resolved here, so a missing one is a fault of the file.
pub(super) fn read(
    node: &Node,
    source: Source<'_>,
    context: &LoadContext<'_>,
) -> Result<Auth, Vec<Fault>> {
    let mut fields = Fields::new(node, source);
    let kind: Option<Kind> = fields.need("type");
    let mut auth = Auth::None;
    if !matches!(kind, Some(Kind::AwsSigv4 | Kind::Oauth2)) {
        for key in ["header", "username", "env", "file"] {
            fields.node(key);
        }
    }
    match kind {
        None | Some(Kind::None) => {}
        Some(Kind::AwsSigv4) => {
            let mut part = |key| nested(&mut fields, key, source, context);
            let keys = (part("access_key"), part("secret_key"), part("session_token"));
            for (key, given) in [("access_key", &keys.0), ("secret_key", &keys.1)] {
                if given.is_none() && node.get(key).is_none() {
                    fields.missing(key);
                }
            }
            if let (Some(access_key), Some(secret_key), session_token) = keys {
                auth = Auth::Aws(AwsKeys { access_key, secret_key, session_token });
            }
        }
        Some(Kind::Oauth2) => {
            if let Some(client) = oauth2(&mut fields, source, context) {
                auth = Auth::Oauth2(client);
            }
        }
        Some(kind @ (Kind::ApiKey | Kind::Bearer | Kind::Basic)) => {
            let header: Option<String> = fields.take("header");
            let user: Option<String> = fields.take("username");
            let name = header_name(&mut fields, kind, header);
            if let Some(secret) = secret(&mut fields, context) {
                auth = Auth::Header { name, value: value(kind, user, &secret) };
            }
        }
    }
    let faults = fields.finish();
    if faults.is_empty() { Ok(auth) } else { Err(faults) }
}

/// A client that fetches tokens for itself (RFC 6749, 4.4).
fn oauth2(
    fields: &mut Fields<'_>,
    source: Source<'_>,
    context: &LoadContext<'_>,
) -> Option<Oauth2> {
    let url: Option<String> = fields.need("token_url");
    let client_id: Option<String> = fields.need("client_id");
    let (scope, audience) = (fields.take("scope"), fields.take("audience"));
    let secret = nested(fields, "client_secret", source, context);
    if secret.is_none() && fields.faults.is_empty() {
        fields.missing("client_secret");
    }
    let token_url = match url.as_deref().map(|url| token_url(url, context.env)) {
        Some(Err(why)) => {
            let message = format!("`token_url` {why}");
            fields.refuse("token_url", "bad_endpoint", message, "write it like https://host/token");
            None
        }
        Some(Ok(uri)) => Some(uri),
        None => None,
    };
    Some(Oauth2 {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: secret?,
        scope,
        audience,
    })
}

/// The address that hands out tokens: https outside development, because the secret goes there.
pub(super) fn token_url(raw: &str, env: Env) -> Result<http::Uri, &'static str> {
    let uri: http::Uri = raw.parse().map_err(|_| "is no address")?;
    match uri.scheme_str() {
        _ if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) => {
            Err("needs a host and no user")
        }
        Some("https") => Ok(uri),
        Some("http") if env == Env::Development => Ok(uri),
        Some("http") => Err("must be https outside development"),
        Some(_) | None => Err("must be https"),
    }
}

/// The secret below `key`.
fn nested(
    fields: &mut Fields<'_>,
    key: &'static str,
    source: Source<'_>,
    context: &LoadContext<'_>,
) -> Option<SecretString> {
    let mut inner = Fields::new(fields.node(key)?, source);
    let secret = secret(&mut inner, context);
    fields.faults.extend(inner.finish());
    secret
}

fn header_name(fields: &mut Fields<'_>, kind: Kind, given: Option<String>) -> String {
    let default = if matches!(kind, Kind::ApiKey) { "x-api-key" } else { "authorization" };
    let name = given.unwrap_or_else(|| default.to_owned()).to_ascii_lowercase();
    if http::HeaderName::try_from(&name).is_err() {
        let message = "this is no header name".to_owned();
        fields.refuse("header", "bad_value", message, "write a name such as x-api-key");
    }
    name
}

pub(super) fn secret(fields: &mut Fields<'_>, context: &LoadContext<'_>) -> Option<SecretString> {
    let env: Option<String> = fields.take("env");
    let file: Option<String> = fields.take("file");
    not_built(fields, &["vault"]);
    let (key, place) = match (env, file) {
        (Some(name), None) => ("env", SecretRef::Env(name)),
        (None, Some(path)) => ("file", SecretRef::File(path)),
        (Some(_), Some(_)) | (None, None) => {
            let message = "a secret needs exactly one of `env` and `file`".to_owned();
            fields.refuse("", "bad_value", message, "write `env: NAME` or `file: PATH`");
            return None;
        }
    };
    let secret = (context.secret)(&place);
    let fits = |s: &SecretString| {
        !s.expose_secret().is_empty() && http::HeaderValue::try_from(s.expose_secret()).is_ok()
    };
    if !secret.as_ref().is_some_and(fits) {
        let message = format!("the secret that `{key}` names is missing, empty or no header value");
        fields.refuse(key, "secret_missing", message, "set it before the service starts");
        return None;
    }
    secret
}

fn value(kind: Kind, user: Option<String>, secret: &SecretString) -> SecretString {
    let secret = secret.expose_secret();
    match (kind, user) {
        (Kind::Bearer, _) => format!("Bearer {secret}"),
        (Kind::Basic, Some(user)) => basic(&user, secret),
        (Kind::Basic, None) => format!("Basic {}", STANDARD.encode(secret)),
        (Kind::ApiKey | Kind::None | Kind::Oauth2 | Kind::AwsSigv4, _) => secret.to_owned(),
    }
    .into()
}

/// The value of `Authorization` for a user (RFC 7617).
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
