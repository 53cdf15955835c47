//! Claims of a signed token become a `Caller`.

use super::{Caller, Refused};
use crate::domain::access::{Grant, Role, Scope};
use crate::domain::id::TenantId;
use crate::seal::jwt::{Claims, Verifier};

pub(super) fn caller(verifier: &Verifier, token: &str) -> Result<Caller, Refused> {
    let claims = verifier.verify(token).map_err(Refused::Token)?;
    of_claims(claims).map_err(Refused::NotValid)
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
