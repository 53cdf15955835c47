//! Signed tokens: whose keys are believed now, and claims that become a `Caller`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use secrecy::SecretString;
use tokio::time::Instant;

use super::{Caller, Refusal, Refused};
use crate::domain::access::{Grant, Role, Scope};
use crate::domain::id::TenantId;
use crate::seal::jwt::{Claims, KeySetFault, TokenFault, Verifier};
use crate::settings::{Jwt, Secret, Settings};

/// The file of keys is read again at the first use after this.
const FRESH: Duration = Duration::from_secs(60);
/// The same for a token whose key is unknown: the issuer may have a new one.
const FRESH_FOR_UNKNOWN: Duration = Duration::from_secs(5);
/// Bytes of the file of keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Whose tokens are believed.
pub(super) struct Tokens {
    jwt: Jwt,
    secret: Option<SecretString>,
    current: ArcSwap<Verifier>,
    looked: Mutex<Instant>,
}

impl Tokens {
    /// The keys of the settings; `None` where there are none.
    pub(super) async fn of(settings: &Settings) -> Result<Option<Tokens>, Refusal> {
        let jwt = settings.security.jwt.clone();
        let secret = settings.secrets.get(Secret::JwtSecretKey).cloned();
        if secret.is_none() && jwt.jwks_file.is_none() {
            return Ok(None);
        }
        let fault = |why| Refusal::KeySet { file: jwt.jwks_file.clone().unwrap_or_default(), why };
        let verifier = verifier(&jwt, secret.as_ref()).await.map_err(fault)?;
        let (current, looked) = (ArcSwap::from_pointee(verifier), Mutex::new(Instant::now()));
        Ok(Some(Tokens { jwt, secret, current, looked }))
    }

    /// The caller whose token it is.
    pub(super) async fn caller(&self, token: &str) -> Result<Caller, Refused> {
        self.look_again(FRESH).await;
        let mut claims = self.current.load().verify(token);
        if claims == Err(TokenFault::UnknownKey) && self.look_again(FRESH_FOR_UNKNOWN).await {
            claims = self.current.load().verify(token);
        }
        of_claims(claims.map_err(Refused::Token)?).map_err(Refused::NotValid)
    }

    /// Reads the file where the last look is older than `age`; a faulty one changes nothing.
    async fn look_again(&self, age: Duration) -> bool {
        if self.jwt.jwks_file.is_none() || !self.is_due(age) {
            return false;
        }
        match verifier(&self.jwt, self.secret.as_ref()).await {
            Ok(verifier) => self.current.store(Arc::new(verifier)),
            Err(why) => tracing::warn!(why, "The file of keys is faulty; the last good one holds"),
        }
        true
    }

    fn is_due(&self, age: Duration) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked.elapsed() >= age;
        if due {
            *looked = Instant::now();
        }
        due
    }
}

async fn verifier(jwt: &Jwt, secret: Option<&SecretString>) -> Result<Verifier, String> {
    let mut verifier = Verifier::new(&jwt.issuer, &jwt.audience);
    if let Some(secret) = secret {
        verifier = verifier.with_secret(secret);
    }
    match &jwt.jwks_file {
        None => Ok(verifier),
        Some(file) => {
            let text = read(file).await.map_err(|error| error.to_string())?;
            verifier.with_key_set(&text).map_err(|error: KeySetFault| error.to_string())
        }
    }
}

async fn read(file: &Path) -> std::io::Result<String> {
    use tokio::io::AsyncReadExt as _;
    let mut text = String::new();
    tokio::fs::File::open(file).await?.take(FILE_BYTES_MAX).read_to_string(&mut text).await?;
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
        actor: format!("subject/{}", claims.sub),
        tenant,
        scopes: grant.effective(),
        roles: grant.roles.unwrap_or_default(),
        max_priority: None,
        key_prefix: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::Scopes;

    fn check(tenant: Option<&str>, roles: Option<&[&str]>, scopes: Option<&[&str]>) -> String {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let claims = Claims {
            sub: "ana".into(),
            tenant_id: tenant.map(str::to_owned),
            roles: roles.map(owned),
            scopes: scopes.map(owned),
        };
        match of_claims(claims) {
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
