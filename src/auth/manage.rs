//! Making, replacing and revoking keys: nobody grants more than it holds, everything is audited.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::keys::{fresh, now_ms};
use super::{Caller, Keyring};
use crate::domain::access::{Grant, Role, Scope, Scopes};
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::domain::request::Priority;
use crate::store::{ApiKey, AuditEntry, KeyChange, Numbered, Page, StoreError};

/// Longest time that a replaced key goes on: 30 days.
const OVERLAP_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Keys in one line of heirs, or of makers.
const HEIRS_MAX: usize = 1_000;

/// A key that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `None`: its maker's, or any for those who act across tenants.
    pub tenant: Option<TenantId>,
    /// What it may do.
    pub grant: Grant,
    /// Most urgent priority; `None` is its maker's.
    pub max_priority: Option<Priority>,
    /// What it is for, 1 to 100 characters.
    pub label: String,
    /// Milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
}

/// A new key. Its secret is here and nowhere else.
#[derive(Debug)]
pub struct Minted {
    /// The whole key, to be shown once.
    pub secret: SecretString,
    /// As it is kept.
    pub key: ApiKey,
}

/// One in a line of makers of keys.
struct Maker {
    heir: String,
    /// When its key was made, milliseconds since 1970; 0 where it is no key.
    made_at_ms: i64,
    is_super_admin: bool,
}

impl Keyring {
    /// Makes a key for `by`, who gives `reason`.
    pub async fn create(&self, by: &Caller, wanted: Wanted, reason: &str) -> Result<Minted, Error> {
        let wanted = allowed(by, wanted)?;
        let minted = self.mint(wanted, &by.actor)?;
        let key = minted.key.clone();
        let entry = entry(by, "key.create", reason, (None, Some(&key)))?;
        self.store.change_key(KeyChange::Add(key), entry).await.map_err(unavailable)?;
        self.leave_mark().await;
        Ok(minted)
    }

    /// Puts a new key in the place of `prefix`, which goes on for `overlap`. It grants the same
    /// and lives as long as the old one was made for.
    pub async fn rotate(
        &self,
        by: &Caller,
        prefix: &str,
        overlap: Duration,
        reason: &str,
    ) -> Result<Minted, Error> {
        if overlap > OVERLAP_MAX {
            let detail = "the old key may go on for at most 30 days";
            return Err(Error::field(Code::InvalidRequest, "/overlap_s", "out_of_range", detail));
        }
        let old = self.named(by, prefix).await?;
        let now = now_ms();
        let life = old.expires_at_ms.map(|end| end.saturating_sub(old.created_at_ms));
        let same = Wanted {
            tenant: old.tenant.clone(),
            grant: old.grant.clone(),
            max_priority: old.max_priority,
            label: old.label.clone(),
            expires_at_ms: life.map(|life| now.saturating_add(life)),
        };
        let minted = self.mint(allowed(by, same)?, &by.actor)?;
        let until_ms = now.saturating_add(i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX));
        let new = minted.key.clone();
        let entry = entry(by, "key.rotate", reason, (Some(&old), Some(&new)))?;
        let change = KeyChange::Replace { old: old.prefix.clone(), until_ms, new };
        self.apply(change, entry, &old.prefix, "it no longer holds or was replaced").await?;
        self.leave_mark().await;
        Ok(minted)
    }

    /// Refuses `prefix` from now on; other instances within a second.
    pub async fn revoke(&self, by: &Caller, prefix: &str, reason: &str) -> Result<(), Error> {
        let old = self.named(by, prefix).await?;
        let at_ms = now_ms();
        let mut new = old.clone();
        new.revoked_at_ms = Some(at_ms);
        let entry = entry(by, "key.revoke", reason, (Some(&old), Some(&new)))?;
        let change = KeyChange::Revoke { prefix: old.prefix.clone(), at_ms };
        self.apply(change, entry, &old.prefix, "it was revoked before").await
    }

    /// Revokes every key of `tenant` that is still good.
    pub async fn revoke_all(
        &self,
        by: &Caller,
        tenant: &TenantId,
        reason: &str,
    ) -> Result<(), Error> {
        let mut page = Page { limit: 200, before: None };
        loop {
            let keys = self.store.keys(Some(tenant.clone()), page).await.map_err(unavailable)?;
            for key in keys.iter().filter(|key| key.value.revoked_at_ms.is_none()) {
                self.revoke(by, &key.value.prefix, reason).await?;
            }
            match keys.last() {
                Some(last) => page.before = Some(last.sequence),
                None => return Ok(()),
            }
        }
    }

    /// The key of that prefix, where `by` may see it.
    pub async fn named(&self, by: &Caller, prefix: &str) -> Result<ApiKey, Error> {
        let found = self.store.key(prefix.to_owned()).await.map_err(unavailable)?;
        let visible = |key: &ApiKey| by.tenant.is_none() || by.tenant == key.tenant;
        found.filter(visible).ok_or_else(|| Error::new(Code::NotFound, "no key of that prefix"))
    }

    /// The keys that `by` may see, newest first.
    pub async fn list(&self, by: &Caller, page: Page) -> Result<Vec<Numbered<ApiKey>>, Error> {
        self.store.keys(by.tenant.clone(), page).await.map_err(unavailable)
    }

    /// Whether `by` is another person than `author`, who wrote something at `since_ms`: neither the same,
    /// nor an heir of the same key, nor a key that the author made, nor the maker of the author's key.
    /// A super administrator makes everybody's keys: only those that it made since are its own hand,
    /// and it may review.
    pub async fn may_review(
        &self,
        by: &Caller,
        author: &str,
        since_ms: i64,
    ) -> Result<bool, Error> {
        let reviewers = self.makers(&by.actor).await?;
        let authors = self.makers(author).await?;
        let (Some(reviewer), Some(writer)) = (reviewers.first(), authors.first()) else {
            return Ok(false);
        };
        if reviewer.heir == writer.heir {
            return Ok(false);
        }
        let made = reviewers.iter().zip(reviewers.iter().skip(1));
        let mut made = made.filter(|(_, maker)| maker.heir == writer.heir);
        if made.any(|(key, _)| !writer.is_super_admin || key.made_at_ms >= since_ms) {
            return Ok(false);
        }
        let makes = authors.iter().any(|maker| maker.heir == reviewer.heir);
        Ok(!makes || by.is_super_admin())
    }

    /// `actor`, who made its key, who made that one's, and so on; each as its latest heir.
    async fn makers(&self, actor: &str) -> Result<Vec<Maker>, Error> {
        let (mut line, mut next) = (Vec::new(), Some(actor.to_owned()));
        while let Some(actor) = next
            && line.len() < HEIRS_MAX
        {
            let heir = self.heir(&actor).await?;
            let key = self.store.key(actor).await.map_err(unavailable)?;
            let is_super_admin =
                key.as_ref().is_some_and(|key| key.grant.effective() == Scopes::ALL);
            let made_at_ms = key.as_ref().map_or(0, |key| key.created_at_ms);
            line.push(Maker { heir, made_at_ms, is_super_admin });
            next = key.map(|key| key.created_by);
        }
        Ok(line)
    }

    /// The last key in the line of those that took the place of `actor`; itself where it is no key.
    async fn heir(&self, actor: &str) -> Result<String, Error> {
        let mut last = actor.to_owned();
        for _ in 0..HEIRS_MAX {
            let key = self.store.key(last.clone()).await.map_err(unavailable)?;
            let Some(next) = key.and_then(|key| key.replaced_by) else { return Ok(last) };
            last = next;
        }
        let message = "the key was replaced too often to say whose it is; make a new one";
        Err(Error::new(Code::InsufficientScope, message))
    }

    async fn apply(
        &self,
        change: KeyChange,
        entry: AuditEntry,
        prefix: &str,
        otherwise: &str,
    ) -> Result<(), Error> {
        let made = self.store.change_key(change, entry).await.map_err(unavailable)?;
        self.forget(prefix);
        match made {
            true => Ok(()),
            false => Err(Error::new(
                Code::PreconditionFailed,
                format!("the key cannot be changed: {otherwise}; read it again"),
            )),
        }
    }

    pub(super) fn mint(&self, wanted: Wanted, by: &str) -> Result<Minted, Error> {
        let (secret, prefix) = fresh().map_err(|error| {
            Error::new(Code::InternalError, "no key could be made").caused_by(error)
        })?;
        let key = self.kept(secret.expose_secret(), prefix, wanted, by);
        Ok(Minted { secret, key })
    }

    pub(super) fn kept(&self, key: &str, prefix: String, wanted: Wanted, by: &str) -> ApiKey {
        ApiKey {
            prefix,
            hash: self.hash(key),
            tenant: wanted.tenant,
            grant: wanted.grant,
            max_priority: wanted.max_priority,
            label: wanted.label,
            created_by: by.to_owned(),
            created_at_ms: now_ms(),
            expires_at_ms: wanted.expires_at_ms,
            revoked_at_ms: None,
            replaced_by: None,
        }
    }
}

/// What `by` could never make, whatever the store holds.
pub fn look_at_key(by: &Caller, wanted: Wanted, reason: &str) -> Result<(), Error> {
    allowed(by, wanted)?;
    entry(by, "key.create", reason, (None, None)).map(|_| ())
}

/// The wanted key within what `by` holds.
fn allowed(by: &Caller, mut wanted: Wanted) -> Result<Wanted, Error> {
    let invalid = |pointer, code, detail: &str| {
        Err(Error::field(Code::InvalidRequest, pointer, code, detail))
    };
    // First, so that no other fault tells whether a tenant exists.
    if wanted.tenant.is_none() {
        wanted.tenant = by.tenant.clone();
    }
    if by.tenant.is_some() && wanted.tenant != by.tenant {
        let detail = "the tenant is unknown or not the credential's";
        return Err(Error::field(Code::TenantMismatch, "/tenant", "tenant_mismatch", detail));
    }
    let label = wanted.label.chars();
    let plain = !label.clone().any(char::is_control) && !wanted.label.trim().is_empty();
    if !plain || label.count() > 100 {
        return invalid("/label", "out_of_range", "say what it is for in 1 to 100 characters");
    }
    if wanted.expires_at_ms.is_some_and(|end| end <= now_ms()) {
        return invalid("/expires_in_s", "out_of_range", "the key would have expired");
    }
    if wanted.grant.effective() == Scopes::NONE {
        let detail = "the key could do nothing; name a role, or scopes that its roles hold";
        return invalid("/roles", "empty", detail);
    }
    within_maker(by, &wanted.grant)?;
    match (&wanted.tenant, wanted.grant.crosses_tenants()) {
        (None, false) => {
            let detail = "name the tenant that the key is for";
            return invalid("/tenant", "missing", detail);
        }
        (Some(_), true) => {
            let detail = "the key acts across tenants; leave the tenant out";
            return invalid("/tenant", "not_allowed", detail);
        }
        (None, true) | (Some(_), false) => {}
    }
    wanted.max_priority = match (wanted.max_priority, by.max_priority) {
        (Some(asked), Some(own)) if asked < own => {
            let detail = format!("is above your own, which is {}", own.name());
            let code = Code::InsufficientScope;
            return Err(Error::field(code, "/max_priority", "above_own", detail));
        }
        (asked, own) => asked.or(own),
    };
    Ok(wanted)
}

/// What crosses tenants or relaxes is the super administrator's alone to grant.
fn within_maker(by: &Caller, grant: &Grant) -> Result<(), Error> {
    let refused = |pointer, detail: String| {
        Err(Error::field(Code::InsufficientScope, pointer, "not_yours", detail))
    };
    if by.is_super_admin() {
        return Ok(());
    }
    if let Some(role) = grant.roles.iter().flatten().find(|role: &&Role| role.crosses_tenants()) {
        return refused("/roles", format!("only a super_admin grants the role {}", role.name()));
    }
    let reserved = Scopes::of(&[Scope::OrchestrateRelax, Scope::TenantsAny]);
    let wanted = grant.effective();
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|scope| !by.may(*scope) || reserved.has(*scope))
        .map(Scope::name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let pointer = if grant.scopes.is_some() { "/scopes" } else { "/roles" };
    refused(pointer, format!("not yours to grant: {}", missing.join(", ")))
}

type Sides<'a> = (Option<&'a ApiKey>, Option<&'a ApiKey>);

fn entry(
    by: &Caller,
    action: &str,
    reason: &str,
    (before, after): Sides<'_>,
) -> Result<AuditEntry, Error> {
    if reason.trim().is_empty() || reason.chars().count() > 500 {
        let detail = "say why in 1 to 500 characters";
        return Err(Error::field(Code::InvalidRequest, "/reason", "out_of_range", detail));
    }
    let about = before.or(after);
    Ok(AuditEntry {
        tenant: about.and_then(|key| key.tenant.clone()),
        at_ms: now_ms(),
        actor: by.actor.clone(),
        action: action.to_owned(),
        target: format!("key/{}", about.map_or("", |key| key.prefix.as_str())),
        reason: reason.to_owned(),
        before: before.map(told),
        after: after.map(told),
    })
}

/// A key without its hash.
pub(super) fn told(key: &ApiKey) -> String {
    let roles = key.grant.roles.as_ref();
    json!({
        "prefix": key.prefix,
        "tenant": key.tenant,
        "roles": roles.map(|roles| roles.iter().map(|role| role.name()).collect::<Vec<_>>()),
        "scopes": key.grant.scopes.map(|scopes| scopes.iter().map(Scope::name).collect::<Vec<_>>()),
        "max_priority": key.max_priority,
        "label": key.label,
        "expires_at_ms": key.expires_at_ms,
        "revoked_at_ms": key.revoked_at_ms,
    })
    .to_string()
}

fn unavailable(error: StoreError) -> Error {
    let message = "the store does not answer; read the keys before you send it again";
    Error::new(error.code(), message).caused_by(error)
}
