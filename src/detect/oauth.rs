//! Tokens that are fetched with a client's credentials (RFC 6749, 4.4): one fetch for all who wait.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::form_urlencoded;

use crate::catalog::detector::Oauth2;
use crate::domain::digest::Digest;
use crate::outbound::{Call, Client, Forbidden, SendError};

/// A server's answer is waited for this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a failure nobody asks for this long.
const REST: Duration = Duration::from_secs(1);
/// A token is replaced this long before its end, or a tenth of its life where that is shorter.
const SKEW: Duration = Duration::from_secs(30);
/// Life of a token whose server does not say.
const LIFE_UNSAID: Duration = Duration::from_secs(300);
/// Longest life that is believed.
const LIFE_MAX: Duration = Duration::from_secs(86_400);
/// Bytes of an answer.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Clients remembered at once.
const CLIENTS_MAX: usize = 10_000;

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoToken {
    #[error("its token's address is forbidden: {0}")]
    Forbidden(Forbidden),
    #[error("its token could not be fetched: {0}")]
    Failed(&'static str),
}

/// Tokens by client.
#[derive(Default)]
pub(super) struct Tokens(std::sync::Mutex<HashMap<Digest, Arc<Mutex<Slot>>>>);

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Token {
        header: SecretString,
        until: Instant,
    },
    Failed {
        at: Instant,
        why: NoToken,
    },
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
}

impl Tokens {
    /// The value of `Authorization` for `client`, another than `stale`, which was refused.
    pub(super) async fn header(
        &self,
        http: &Client,
        client: &Oauth2,
        stale: Option<&SecretString>,
    ) -> Result<SecretString, NoToken> {
        let slot = self.slot(client);
        let mut slot = slot.lock().await;
        match &*slot {
            Slot::Token { header, until } if Instant::now() < *until => {
                let refused =
                    stale.is_some_and(|old| old.expose_secret() == header.expose_secret());
                if !refused {
                    return Ok(header.clone());
                }
            }
            Slot::Failed { at, why } if at.elapsed() < REST => return Err(why.clone()),
            Slot::Empty | Slot::Token { .. } | Slot::Failed { .. } => {}
        }
        match fetch(http, client).await {
            Ok((header, life)) => {
                let until = Instant::now() + life.saturating_sub(SKEW.min(life / 10));
                *slot = Slot::Token { header: header.clone(), until };
                Ok(header)
            }
            Err(why) => {
                tracing::warn!(%why, "A detector's token could not be fetched");
                *slot = Slot::Failed { at: Instant::now(), why: why.clone() };
                Err(why)
            }
        }
    }

    fn slot(&self, client: &Oauth2) -> Arc<Mutex<Slot>> {
        let url = client.token_url.to_string();
        let or_none = |part: &'static str, value: &Option<String>| match value {
            Some(value) => format!("{part}={value}"),
            None => String::new(),
        };
        let (scope, audience) = (or_none("s", &client.scope), or_none("a", &client.audience));
        let parts = [&url, &client.client_id, &scope, &audience].map(|part| part.as_bytes());
        let secret = client.client_secret.expose_secret().as_bytes();
        let key = Digest::of_all(parts.into_iter().chain([secret]));
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= CLIENTS_MAX && !slots.contains_key(&key) {
            slots.clear();
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

async fn fetch(http: &Client, client: &Oauth2) -> Result<(SecretString, Duration), NoToken> {
    let call = call(client).ok_or(NoToken::Failed("the client's name or secret cannot be sent"))?;
    let reply = timeout(PATIENCE, http.send(call)).await;
    let reply = reply.map_err(|_| NoToken::Failed("no answer within 5 s"))?;
    let reply = reply.map_err(|error| match error {
        SendError::Forbidden(why) => NoToken::Forbidden(why),
        SendError::Connect(_) => NoToken::Failed("connecting failed"),
        SendError::Tls(_) => NoToken::Failed("the TLS handshake failed"),
        SendError::Broken(_) => NoToken::Failed("the connection broke"),
        SendError::Protocol(_) | SendError::TooLarge => NoToken::Failed("the answer is no answer"),
    })?;
    if !reply.status.is_success() {
        return Err(NoToken::Failed("the server refuses the client"));
    }
    let granted: Granted = serde_json::from_slice(&reply.body)
        .map_err(|_| NoToken::Failed("the answer holds no token"))?;
    let token = SecretString::from(granted.access_token);
    let token = token.expose_secret();
    let bearer = granted.token_type.eq_ignore_ascii_case("bearer");
    let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !bearer || !plain {
        return Err(NoToken::Failed("the answer holds no bearer token"));
    }
    let life = granted.expires_in.map_or(LIFE_UNSAID, Duration::from_secs);
    Ok((format!("Bearer {token}").into(), life.min(LIFE_MAX)))
}

fn call(client: &Oauth2) -> Option<Call> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    for (name, value) in [("scope", &client.scope), ("audience", &client.audience)] {
        if let Some(value) = value {
            form.append_pair(name, value);
        }
    }
    // RFC 6749, 2.3.1: both are form-encoded before they become a user and a password.
    let encoded = |part: &str| form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>();
    let (id, secret) = (encoded(&client.client_id), encoded(client.client_secret.expose_secret()));
    let basic = crate::catalog::basic(&id, &secret);
    let mut authorization = HeaderValue::try_from(basic).ok()?;
    authorization.set_sensitive(true);
    let headers = HeaderMap::from_iter([
        (AUTHORIZATION, authorization),
        (ACCEPT, HeaderValue::from_static("application/json")),
        (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
    ]);
    let (uri, body) = (client.token_url.clone(), form.finish().into());
    Some(Call { method: Method::POST, uri, headers, body, body_max: REPLY_BYTES_MAX })
}
