//! Who may do what: the scopes, the roles, and which scopes each role holds.

use std::collections::BTreeSet;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal $meaning:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $(#[doc = $meaning] $variant,)* }

        impl $name {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The name in keys, tokens and the API.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// What it is for.
            pub fn meaning(self) -> &'static str {
                match self { $($name::$variant => $meaning,)* }
            }

            /// The one of that name.
            pub fn parse(raw: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|known| known.name() == raw)
            }
        }
    };
}

named! {
    /// One thing that may be done.
    Scope {
        OrchestrateWrite "orchestrate:write" "have content judged";
        OrchestrateStatus "orchestrate:status" "see the state of work and events";
        OrchestrateRelax "orchestrate:relax" "loosen the policy in a request";
        TenantsAny "tenants:any" "act for a tenant of one's choice";
        RegistryRead "registry:read" "see detectors, strategies and what is live";
        RegistryWrite "registry:write" "register detectors";
        PolicyRead "policy:read" "see, check and try policies";
        PolicyWrite "policy:write" "store policies";
        PolicyApprove "policy:approve" "review policies of others";
        MetricsRead "metrics:read" "see metrics, breakers and health in detail";
        BreakersWrite "breakers:write" "force circuit breakers";
        CacheWrite "cache:write" "empty caches";
        AuditRead "audit:read" "see the audit and the evidence";
        QuotaRead "quota:read" "see quotas";
        TenantsWrite "tenants:write" "manage tenants";
        KeysWrite "keys:write" "manage API keys";
        JobsAdmin "jobs:admin" "manage dead letters";
        AdminConfig "admin:config" "change strategies, reload";
    }
}

named! {
    /// A set of scopes with a name.
    Role {
        App "app" "a program that has content judged";
        Viewer "viewer" "sees, changes nothing";
        PolicyAuthor "policy_author" "writes the tenant's policies";
        PolicyApprover "policy_approver" "reviews policies, never one's own";
        Operator "operator" "runs the tenant's work";
        PlatformOperator "platform_operator" "runs the platform across tenants, sees no content";
        Auditor "auditor" "reads the audit";
        TenantAdmin "tenant_admin" "manages its tenant";
        SuperAdmin "super_admin" "everything, across tenants";
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u32);

impl Scopes {
    /// None.
    pub const NONE: Scopes = Scopes(0);
    /// Every one.
    pub const ALL: Scopes = Scopes::of(Scope::ALL);

    /// These.
    pub const fn of(scopes: &[Scope]) -> Scopes {
        let (mut bits, mut rest) = (0, scopes);
        while let [first, more @ ..] = rest {
            bits |= 1 << *first as u32;
            rest = more;
        }
        Scopes(bits)
    }

    /// Whether `scope` is among them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u32) != 0
    }

    /// Whether none of these is missing in `other`.
    pub fn within(self, other: Scopes) -> bool {
        self.0 & !other.0 == 0
    }

    /// Those in both.
    pub fn and(self, other: Scopes) -> Scopes {
        Scopes(self.0 & other.0)
    }

    /// Those that are not in `other`, and those that are.
    pub fn parted(self, other: Scopes) -> (Scopes, Scopes) {
        (Scopes(self.0 & !other.0), self.and(other))
    }

    /// Those in either.
    pub fn or(self, other: Scopes) -> Scopes {
        Scopes(self.0 | other.0)
    }

    /// Each, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.has(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Scopes {
        scopes.into_iter().fold(Scopes::NONE, |all, scope| all.or(Scopes::of(&[scope])))
    }
}

const VIEWER: Scopes = Scopes::of(&[
    Scope::RegistryRead,
    Scope::PolicyRead,
    Scope::OrchestrateStatus,
    Scope::MetricsRead,
]);

impl Role {
    /// What it may do.
    pub fn scopes(self) -> Scopes {
        let viewer_and = |more: &[Scope]| VIEWER.or(Scopes::of(more));
        match self {
            Role::App => Scopes::of(&[Scope::OrchestrateWrite, Scope::OrchestrateStatus]),
            Role::Viewer => VIEWER,
            Role::PolicyAuthor => viewer_and(&[Scope::PolicyWrite]),
            Role::PolicyApprover => viewer_and(&[Scope::PolicyApprove]),
            Role::Operator => viewer_and(&[Scope::OrchestrateWrite, Scope::JobsAdmin]),
            Role::PlatformOperator => Scopes::of(&[
                Scope::RegistryRead,
                Scope::MetricsRead,
                Scope::BreakersWrite,
                Scope::CacheWrite,
                Scope::JobsAdmin,
                Scope::AdminConfig,
            ]),
            Role::Auditor => Scopes::of(&[Scope::AuditRead]),
            Role::TenantAdmin => viewer_and(&[
                Scope::KeysWrite,
                Scope::RegistryWrite,
                Scope::PolicyWrite,
                Scope::QuotaRead,
            ]),
            Role::SuperAdmin => Scopes::ALL,
        }
    }

    /// Whether it acts across tenants and only a super administrator may grant it.
    pub fn crosses_tenants(self) -> bool {
        matches!(self, Role::PlatformOperator | Role::SuperAdmin)
    }
}

/// What a credential claims; an absent claim differs from an empty one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// Its roles, where it names any.
    pub roles: Option<BTreeSet<Role>>,
    /// Its scopes, where it names any.
    pub scopes: Option<Scopes>,
}

impl Grant {
    /// The roles alone.
    pub fn of_roles(roles: &[Role]) -> Grant {
        Grant { roles: Some(roles.iter().copied().collect()), scopes: None }
    }

    /// Scopes ∩ scopes of the roles where both are claimed, else those of the one claim, else none.
    pub fn effective(&self) -> Scopes {
        let of_roles = |roles: &BTreeSet<Role>| {
            roles.iter().fold(Scopes::NONE, |all, role| all.or(role.scopes()))
        };
        match (&self.roles, self.scopes) {
            (Some(roles), Some(scopes)) => scopes.and(of_roles(roles)),
            (Some(roles), None) => of_roles(roles),
            (None, Some(scopes)) => scopes,
            (None, None) => Scopes::NONE,
        }
    }

    /// Whether it acts across tenants.
    pub fn crosses_tenants(&self) -> bool {
        self.effective().has(Scope::TenantsAny)
            || self.roles.iter().flatten().any(|role| role.crosses_tenants())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_claims_only_narrow_each_other_and_no_claim_holds_nothing() {
        let write = Scopes::of(&[Scope::OrchestrateWrite, Scope::KeysWrite]);
        let both = Grant { scopes: Some(write), ..Grant::of_roles(&[Role::App]) };
        assert_eq!(both.effective(), Scopes::of(&[Scope::OrchestrateWrite]));
        assert_eq!(Grant { roles: None, scopes: Some(write) }.effective(), write);
        assert_eq!(Grant::default().effective(), Scopes::NONE);
        assert_eq!(Grant::of_roles(&[]).effective(), Scopes::NONE);
        let none = Grant { scopes: Some(Scopes::NONE), ..Grant::of_roles(&[Role::SuperAdmin]) };
        assert_eq!(none.effective(), Scopes::NONE);
    }

    #[test]
    fn only_the_super_administrator_relaxes_or_chooses_a_tenant() {
        for role in Role::ALL {
            for scope in [Scope::OrchestrateRelax, Scope::TenantsAny, Scope::TenantsWrite] {
                assert_eq!(role.scopes().has(scope), *role == Role::SuperAdmin, "{role:?}");
            }
        }
        let platform = Role::PlatformOperator.scopes();
        for denied in [Scope::OrchestrateWrite, Scope::AuditRead, Scope::PolicyRead] {
            assert!(!platform.has(denied), "{denied:?}");
        }
    }

    #[test]
    fn names_are_told_apart_exactly() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.name()), Some(*scope));
        }
        for wrong in ["", "Orchestrate:write", "orchestrate:write ", "orchestrate:*", "*"] {
            assert_eq!(Scope::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(Scopes::ALL.iter().count(), Scope::ALL.len());
        assert_eq!(Role::ALL.iter().filter(|role| Role::parse(role.name()).is_some()).count(), 9);
    }
}
