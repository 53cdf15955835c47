//! A credential becomes a `Caller`: an API key, a signed token, or in development nothing at all.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::time::Instant;

use crate::catalog::Tenant;
use crate::domain::access::{Role, Scope, Scopes};
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::domain::request::Priority;
use crate::outbound::Allow;
use crate::seal;
use crate::seal::jwt::TokenFault;
use crate::store::{ApiKey, StoreError};

mod failures;
mod keys;
mod manage;
mod pepper;
mod signing;
mod start;
#[cfg(test)]
mod tests;
mod tokens;
pub mod waf;

pub use keys::Keyring;
pub use manage::{Minted, Wanted, look_at_key};
pub use pepper::{PEPPER_MARK, another_pepper};
pub use signing::Presented;
pub use start::{
    DevelopmentKey, Refusal, callback_key, data_keys, data_keys_there, evidence_key,
    evidence_key_there, look, look_at_keys, missing_keys, pepper, pepper_there, redaction_key,
    redis_key, without_key, without_pepper,
};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// For audits: a key's prefix, `subject/` and a token's subject, or who acts without either.
    pub actor: String,
    /// The only tenant it may act for; `None` may choose.
    pub tenant: Option<TenantId>,
    /// The roles it claims, for policies.
    pub roles: BTreeSet<Role>,
    /// All that it may do.
    pub scopes: Scopes,
    /// What it may do besides as soon as the store vouches for it again.
    pub withheld: Scopes,
    /// Most urgent priority it may ask for; `None` is the tenant's.
    pub max_priority: Option<Priority>,
    /// The shown part of its key, for logs.
    pub key_prefix: Option<String>,
    /// When its credential expires, milliseconds since 1970; `None` is never.
    pub expires_at_ms: Option<i64>,
}

impl Caller {
    /// Unauthenticated development: acts as super administrator.
    pub fn development() -> Self {
        Self::super_admin("development")
    }

    /// Who holds the machine, named `actor`.
    pub fn super_admin(actor: impl Into<String>) -> Self {
        Self {
            actor: actor.into(),
            tenant: None,
            roles: BTreeSet::from([Role::SuperAdmin]),
            scopes: Scopes::ALL,
            withheld: Scopes::NONE,
            max_priority: None,
            key_prefix: None,
            expires_at_ms: None,
        }
    }

    fn of_key(key: &ApiKey) -> Self {
        Self {
            actor: key.prefix.clone(),
            tenant: key.tenant.clone(),
            roles: key.grant.roles.clone().unwrap_or_default(),
            scopes: key.grant.effective(),
            withheld: Scopes::NONE,
            max_priority: key.max_priority,
            key_prefix: Some(key.prefix.clone()),
            expires_at_ms: key.expires_at_ms,
        }
    }

    /// Whether it may do `scope`.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.has(scope)
    }

    /// The same where it is told to come again, since only the store's silence keeps it from `scope`.
    ///
    /// # Errors
    /// The store is away, and `scope` is withheld until it is back.
    pub fn holds(&self, scope: Scope) -> Result<bool, Error> {
        if !self.withheld.has(scope) {
            return Ok(self.may(scope));
        }
        let message = format!(
            "the store does not answer, and only it can say whether the credential still has the \
             scope {}; send it again later",
            scope.name()
        );
        Err(Error::new(Code::StoreUnavailable, message))
    }

    /// Whether it may do everything.
    pub fn is_super_admin(&self) -> bool {
        self.scopes == Scopes::ALL
    }
}

/// What a request brings.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    /// No credential.
    Nothing,
    /// A key or a token.
    Credential(&'a str),
    /// Several, or one that is no text.
    Unclear,
}

/// Why a credential is refused; callers are told less.
#[derive(Debug)]
enum Refused {
    NotValid(&'static str),
    Token(TokenFault),
    /// The issuer's keys were never read.
    NoKeys,
    Store(StoreError),
}

/// Who enters without a credential of the store.
enum Entry {
    /// Development on loopback: everyone on this machine.
    Open,
    /// Development on another address: also whoever holds this key.
    Key(DevelopmentKey),
    /// Nobody.
    Closed,
}

/// Who may enter.
pub struct Gate {
    entry: Entry,
    keys: Keyring,
    tokens: Option<tokens::Tokens>,
    failures: failures::Failures,
    signatures: signing::Signatures,
    proxies: Vec<Allow>,
}

impl Gate {
    /// The keys of the store.
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// Whether everybody on this machine enters without a credential.
    pub fn is_open(&self) -> bool {
        matches!(self.entry, Entry::Open)
    }

    /// The key that development shows at start, where it has one.
    pub fn development_key(&self) -> Option<&DevelopmentKey> {
        match &self.entry {
            Entry::Key(key) => Some(key),
            Entry::Open | Entry::Closed => None,
        }
    }

    /// The caller that presents `given` from the address `from`.
    pub async fn authenticate(&self, given: Given<'_>, from: IpAddr) -> Result<Caller, Error> {
        let credential = match (given, &self.entry) {
            (Given::Nothing, Entry::Open) => return Ok(Caller::development()),
            (Given::Nothing, Entry::Key(_)) => {
                let message = "send the key the service printed as the header X-API-Key";
                return Err(Error::new(Code::Unauthorized, message));
            }
            (Given::Nothing, Entry::Closed) => {
                let message = "send an API key as the header X-API-Key, or a key or token as \
                               Authorization: Bearer";
                return Err(Error::new(Code::Unauthorized, message));
            }
            (Given::Unclear, _) => {
                let message = "send exactly one credential, as X-API-Key or Authorization: Bearer";
                return Err(Error::new(Code::Unauthorized, message));
            }
            (Given::Credential(credential), _) => credential,
        };
        let now = Instant::now();
        if let Some(pause) = self.failures.bar(from, now) {
            let message = "too many refused credentials came from this address; wait a minute";
            return Err(Error::new(Code::RateLimited, message).retry_after(pause));
        }
        let refused = match self.check(credential).await {
            Ok(caller) => return Ok(caller),
            Err(refused) => refused,
        };
        Err(self.refuse(refused, from, now))
    }

    async fn check(&self, credential: &str) -> Result<Caller, Refused> {
        if let Entry::Key(own) = &self.entry
            && seal::same(credential.as_bytes(), own.expose().as_bytes())
        {
            let prefix = own.expose().chars().take(13).collect();
            return Ok(Caller { key_prefix: Some(prefix), ..Caller::development() });
        }
        match (&self.tokens, &self.entry) {
            _ if credential.starts_with(keys::MARK) => self.keys.caller(credential).await,
            (Some(tokens), _) => tokens.caller(credential).await,
            // Clients that must send some key are as welcome as those that send none.
            (None, Entry::Open) => Ok(Caller::development()),
            (None, Entry::Key(_) | Entry::Closed) => Err(Refused::NotValid("has no key's form")),
        }
    }

    /// One answer for every reason, so that nothing can be learnt from it; the log knows more.
    fn refuse(&self, refused: Refused, from: IpAddr, now: Instant) -> Error {
        let why = match refused {
            Refused::Store(error) => {
                let message = "credentials cannot be checked now; send it again later";
                return Error::new(error.code(), message).caused_by(error);
            }
            Refused::NoKeys => {
                let message = "the keys of tokens cannot be read now; send it again later";
                return Error::new(Code::StoreUnavailable, message);
            }
            Refused::NotValid(why) => why.to_owned(),
            Refused::Token(fault) => fault.to_string(),
        };
        self.failures.count(from, now);
        tracing::warn!(%from, why, "A credential was refused");
        let message = "the credential is not valid: unknown, expired or revoked; \
                       ask your administrator for a new one";
        Error::new(Code::Unauthorized, message)
    }

    /// Whether a request of `tenant` with that body is signed as its file demands.
    pub fn check_signature(
        &self,
        tenant: &Tenant,
        presented: Presented<'_>,
        body: &[u8],
    ) -> Result<(), Error> {
        self.signatures.check(tenant, presented, (body, keys::now_ms()))
    }

    /// Reads the public keys of tokens again and again, for as long as it is polled.
    pub async fn keep_fresh(&self) {
        match &self.tokens {
            Some(tokens) => tokens.keep_fresh().await,
            None => std::future::pending().await,
        }
    }

    /// Where a request comes from: the last address of `forwarded` that is no trusted proxy's,
    /// where `peer` is one.
    pub fn source(&self, peer: IpAddr, forwarded: &[&str]) -> IpAddr {
        let trusted = |address: IpAddr| self.proxies.iter().any(|net| net.holds(address));
        let mut source = peer;
        for hop in forwarded.iter().flat_map(|line| line.split(',')).rev() {
            if !trusted(source) {
                break;
            }
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            source = address;
        }
        source
    }
}
