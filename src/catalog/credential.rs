//! The credential of a detector: where the secret is, and the header it becomes.

use secrecy::{ExposeSecret as _, SecretString};

use super::detector::Auth;
use super::load::{LoadContext, not_built};
use crate::seal::AwsKeys;
use crate::yaml::fault::Fault;
use crate::yaml::{Fields, Node, Source};

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
    Bearer,
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
    if !matches!(kind, Some(Kind::AwsSigv4)) {
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
            let message = "auth type `oauth2` is not supported by this release".to_owned();
            fields.refuse("type", "not_built", message, "use api_key, bearer or basic");
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

fn secret(fields: &mut Fields<'_>, context: &LoadContext<'_>) -> Option<SecretString> {
    let env: Option<String> = fields.take("env");
    let file: Option<String> = fields.take("file");
    not_built(fields, &["vault"]);
    let (key, place) = match (env, file) {
        (Some(name), None) => ("env", SecretRef::Env(name)),
        (None, Some(path)) => ("file", SecretRef::File(path)),
        (Some(_), Some(_)) | (None, None) => {
            let message = "auth needs exactly one of `env` and `file`".to_owned();
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
        (Kind::Basic, Some(user)) => format!("Basic {}", base64(&format!("{user}:{secret}"))),
        (Kind::Basic, None) => format!("Basic {}", base64(secret)),
        (Kind::ApiKey | Kind::None | Kind::Oauth2 | Kind::AwsSigv4, _) => secret.to_owned(),
    }
    .into()
}

/// Standard base64 with padding (RFC 4648).
fn base64(raw: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in raw.as_bytes().chunks(3) {
        let bits = (0..3).fold(0usize, |n, i| n << 8 | chunk.get(i).map_or(0, |b| usize::from(*b)));
        for i in 0..4 {
            let digit = ALPHABET.get(bits >> (18 - 6 * i) & 63).filter(|_| i <= chunk.len());
            out.push(digit.map_or('=', |b| char::from(*b)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_follows_the_vectors_of_rfc_4648() {
        for (raw, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(raw), coded);
        }
    }
}
