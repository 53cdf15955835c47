//! Signed tokens: whose keys are believed now, and claims that become a `Caller`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use secrecy::SecretString;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Caller, Refusal, Refused};
use crate::catalog;
use crate::domain::access::{Grant, Role, Scope, Scopes};
use crate::domain::id::TenantId;
use crate::outbound::{Call, Client, Guard};
use crate::seal::jwt::{Claims, TokenFault, Verifier};
use crate::settings::{Env, Jwt, Secret, Settings};

/// Keys are read again after this: a file at its next use, an address in the background.
const FRESH: Duration = Duration::from_secs(60);
/// The same for a token whose key is unknown: the issuer may have a new one.
const FRESH_FOR_UNKNOWN: Duration = Duration::from_secs(5);
/// An issuer's answer is waited for this long.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of a set of keys.
const SET_BYTES_MAX: usize = 1 << 20;

/// Where public keys come from.
enum Origin {
    Nowhere,
    File(PathBuf),
    Issuer { uri: Uri, client: Client },
}

/// Whose tokens are believed.
pub(super) struct Tokens {
    jwt: Jwt,
    secret: Option<SecretString>,
    origin: Origin,
    current: ArcSwap<Verifier>,
    /// Whether the issuer's keys were never read.
    unread: AtomicBool,
    /// When keys were last looked for; held while they are, so that one look serves all.
    pub(super) looked: Mutex<Instant>,
}

impl Tokens {
    /// The keys of the settings; `None` where there are none. A file must be good; an issuer that
    /// does not answer is asked again, and its tokens wait.
    pub(super) async fn of(settings: &Settings) -> Result<Option<Tokens>, Refusal> {
        let jwt = settings.security.jwt.clone();
        let secret = settings.secrets.get(Secret::JwtSecretKey).cloned();
        let Some(origin) = origin(settings, secret.is_some())? else { return Ok(None) };
        let none = base(&jwt, secret.as_ref());
        let tokens = Tokens {
            current: ArcSwap::from_pointee(none),
            unread: AtomicBool::new(false),
            looked: Mutex::new(Instant::now()),
            jwt,
            secret,
            origin,
        };
        match (tokens.read().await, &tokens.origin) {
            (Ok(verifier), _) => tokens.current.store(Arc::new(verifier)),
            (Err(why), Origin::Issuer { .. }) => {
                tokens.unread.store(true, Ordering::Relaxed);
                tracing::warn!(why, "The issuer's keys cannot be read; its tokens wait for them");
            }
            (Err(why), Origin::File(file)) => {
                return Err(Refusal::KeySet(format!("jwks_file {}: {why}", file.display())));
            }
            (Err(why), Origin::Nowhere) => return Err(Refusal::KeySet(why)),
        }
        Ok(Some(tokens))
    }

    /// As a start would, but for an issuer, which is not asked.
    pub(super) async fn look(settings: &Settings) -> Result<(), Refusal> {
        if settings.security.jwt.jwks_url.is_some() {
            return origin(settings, false).map(|_| ());
        }
        Tokens::of(settings).await.map(|_| ())
    }

    /// The caller whose token it is.
    pub(super) async fn caller(&self, token: &str) -> Result<Caller, Refused> {
        if let (Origin::File(_), Ok(looked)) = (&self.origin, self.looked.try_lock()) {
            let due = looked.elapsed() >= FRESH;
            drop(looked);
            if due {
                self.look_again(FRESH).await;
            }
        }
        let believed = self.current.load_full();
        let mut claims = believed.verify(token);
        if claims == Err(TokenFault::UnknownKey) {
            self.look_again(FRESH_FOR_UNKNOWN).await;
            let now = self.current.load_full();
            if !Arc::ptr_eq(&believed, &now) {
                claims = now.verify(token);
            } else if self.unread.load(Ordering::Relaxed) {
                return Err(Refused::NoKeys);
            }
        }
        of_claims(claims.map_err(Refused::Token)?).map_err(Refused::NotValid)
    }

    /// Asks an issuer again and again, for as long as it is polled.
    pub(super) async fn keep_fresh(&self) {
        if !matches!(self.origin, Origin::Issuer { .. }) {
            return std::future::pending().await;
        }
        loop {
            let unread = self.unread.load(Ordering::Relaxed);
            let pause = if unread { FRESH_FOR_UNKNOWN } else { FRESH };
            tokio::time::sleep(pause).await;
            self.look_again(pause).await;
        }
    }

    /// Reads the keys where the last look is older than `age`; faulty ones change nothing. Who
    /// comes while somebody looks waits for what is found.
    async fn look_again(&self, age: Duration) {
        if matches!(self.origin, Origin::Nowhere) {
            return;
        }
        let mut looked = self.looked.lock().await;
        if looked.elapsed() < age {
            return;
        }
        // First, so that a caller that leaves does not make the next one ask again.
        *looked = Instant::now();
        match self.read().await {
            Ok(verifier) => {
                self.current.store(Arc::new(verifier));
                self.unread.store(false, Ordering::Relaxed);
            }
            Err(why) => tracing::warn!(why, "The set of keys is faulty; the last good one holds"),
        }
    }

    async fn read(&self) -> Result<Verifier, String> {
        let text = match &self.origin {
            Origin::Nowhere => return Ok(base(&self.jwt, self.secret.as_ref())),
            Origin::File(file) => read(file).await.map_err(|error| error.to_string())?,
            Origin::Issuer { uri, client } => fetch(client, uri).await?,
        };
        let set = base(&self.jwt, self.secret.as_ref()).with_key_set(&text);
        set.map_err(|error| error.to_string())
    }
}

fn base(jwt: &Jwt, secret: Option<&SecretString>) -> Verifier {
    let verifier = Verifier::new(&jwt.issuer, &jwt.audience);
    match secret {
        Some(secret) => verifier.with_secret(secret),
        None => verifier,
    }
}

/// The issuer at `url`, if it may be asked.
/// Where the settings say that public keys are; `None` where no token would be believed.
fn origin(settings: &Settings, secret: bool) -> Result<Option<Origin>, Refusal> {
    let jwt = &settings.security.jwt;
    match (&jwt.jwks_file, &jwt.jwks_url) {
        (None, None) => Ok(secret.then_some(Origin::Nowhere)),
        (Some(file), None) => Ok(Some(Origin::File(file.clone()))),
        (None, Some(url)) => issuer(url, settings.env, catalog::guard(settings)?)
            .map(Some)
            .map_err(|why| Refusal::KeySet(format!("jwks_url: {why}"))),
        (Some(_), Some(_)) => {
            let why = "jwks_url: jwks_file is set too; keep one of them";
            Err(Refusal::KeySet(why.to_owned()))
        }
    }
}

fn issuer(url: &str, env: Env, guard: Guard) -> Result<Origin, String> {
    let uri: Uri = url.parse().map_err(|_| "is no address; write https://…".to_owned())?;
    if env != Env::Development && uri.scheme_str() != Some("https") {
        return Err("must be https outside development".to_owned());
    }
    guard.check(&uri).map_err(|error| error.to_string())?;
    Ok(Origin::Issuer { uri, client: Client::new(Arc::new(guard)) })
}

async fn fetch(client: &Client, uri: &Uri) -> Result<String, String> {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    let (method, body) = (Method::GET, bytes::Bytes::new());
    let call = Call { method, uri: uri.clone(), headers, body, body_max: SET_BYTES_MAX };
    let reply = tokio::time::timeout(PATIENCE, client.send(call)).await;
    let reply = reply.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
    let reply = reply.map_err(|error| error.to_string())?;
    if reply.status != StatusCode::OK {
        return Err(format!("the issuer answers with status {}", reply.status.as_u16()));
    }
    String::from_utf8(reply.body.into()).map_err(|_| "the set of keys is no text".to_owned())
}

async fn read(file: &Path) -> std::io::Result<String> {
    use tokio::io::AsyncReadExt as _;
    let mut text = String::new();
    let most = SET_BYTES_MAX as u64;
    tokio::fs::File::open(file).await?.take(most).read_to_string(&mut text).await?;
    Ok(text)
}

/// Names that this version does not know grant nothing; a tenant is demanded of everyone who does
/// not act across tenants, and binds those who name one.
fn of_claims(claims: Claims) -> Result<Caller, &'static str> {
    let tenant = claims.tenant_id.map(|id| TenantId::parse(&id)).transpose();
    let tenant = tenant.map_err(|_| "names a tenant that cannot be")?;
    let grant = Grant {
        roles: claims.roles.map(|names| names.iter().filter_map(|n| Role::parse(n)).collect()),
        scopes: claims.scopes.map(|names| names.iter().filter_map(|n| Scope::parse(n)).collect()),
    };
    if tenant.is_none() && !grant.crosses_tenants() {
        return Err("names no tenant");
    }
    Ok(Caller {
        withheld: Scopes::NONE,
        actor: format!("subject/{}", claims.sub),
        tenant,
        scopes: grant.effective(),
        roles: grant.roles.unwrap_or_default(),
        max_priority: None,
        key_prefix: None,
        expires_at_ms: i64::try_from(claims.expires_at_s.saturating_mul(1_000)).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tenant: Option<&str>, roles: Option<&[&str]>, scopes: Option<&[&str]>) -> String {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let claims = Claims {
            sub: "ana".into(),
            tenant_id: tenant.map(str::to_owned),
            roles: roles.map(owned),
            scopes: scopes.map(owned),
            expires_at_s: 7,
        };
        let caller = of_claims(claims);
        assert!(caller.as_ref().map_or(true, |caller| caller.expires_at_ms == Some(7_000)));
        match caller {
            Ok(caller) if caller.scopes == Scopes::ALL => "all".into(),
            Ok(caller) => caller.scopes.iter().map(Scope::name).collect::<Vec<_>>().join(" "),
            Err(refused) => refused.into(),
        }
    }

    #[test]
    fn a_token_holds_what_both_claims_allow_and_nothing_unknown() {
        let acme = Some("acme");
        assert_eq!(check(acme, Some(&["app"]), Some(&["orchestrate:write"])), "orchestrate:write");
        assert_eq!(check(acme, Some(&["app"]), Some(&["audit:read"])), "");
        assert_eq!(check(acme, Some(&["root", "auditor"]), None), "audit:read");
        assert_eq!(check(acme, None, Some(&["audit:read", "audit:*"])), "audit:read");
        assert_eq!(check(acme, None, None), "");
        assert_eq!(check(None, Some(&["super_admin"]), None), "all");
    }

    #[test]
    fn a_token_without_a_tenant_is_only_for_those_who_act_across_tenants() {
        assert_eq!(check(None, Some(&["app"]), None), "names no tenant");
        assert_eq!(check(None, None, Some(&["orchestrate:write"])), "names no tenant");
        assert!(check(None, Some(&["platform_operator"]), None).contains("breakers:write"));
        assert_eq!(check(None, None, Some(&["tenants:any"])), "tenants:any");
        let wrong = "names a tenant that cannot be";
        for bad in ["", "floor", "Acme", "a/b"] {
            assert_eq!(check(Some(bad), Some(&["super_admin"]), None), wrong, "{bad}");
        }
    }
}
