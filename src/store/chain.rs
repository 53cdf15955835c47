//! Acts in chains: each holds the hash of the one before it, of its tenant or of those without one.

use serde::Serialize;

use super::AuditEntry;
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;

/// What the first act of a chain has for the one before it.
const BEGINNING: [u8; 32] = [0; 32];

/// An act, and what chains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chained {
    /// The act.
    pub entry: AuditEntry,
    /// `None` where somebody wrote the row past this program.
    pub link: Option<Link>,
}

/// What chains an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Unique, uuid v7.
    pub event: String,
    /// Hash of the act before; zeros at the beginning.
    pub previous: Digest,
    /// SHA-256 over the act, `event` and `previous`, as RFC 8785 writes them.
    pub hash: Digest,
}

/// Its fields are in the order of RFC 8785, which writes texts and whole numbers as `serde_json` does.
#[derive(Serialize)]
struct Hashed<'a> {
    action: &'a str,
    actor: &'a str,
    after: Option<&'a str>,
    at_ms: i64,
    before: Option<&'a str>,
    event: &'a str,
    previous_hash: String,
    reason: &'a str,
    target: &'a str,
    tenant: Option<&'a str>,
}

impl Link {
    /// What chains `entry` to the act whose hash is `previous`; `None` begins a chain.
    pub(super) fn after(previous: Option<Digest>, entry: &AuditEntry) -> Link {
        let event = uuid::Uuid::now_v7().to_string();
        let previous = previous.unwrap_or(Self::beginning());
        Link { hash: hash(&event, &previous, entry), event, previous }
    }

    /// What stands before the first act of a chain.
    pub fn beginning() -> Digest {
        Digest::from_bytes(BEGINNING)
    }

    /// Whether `entry` is what was hashed.
    pub fn fits(&self, entry: &AuditEntry) -> bool {
        self.hash == hash(&self.event, &self.previous, entry)
    }
}

fn hash(event: &str, previous: &Digest, entry: &AuditEntry) -> Digest {
    let hashed = Hashed {
        action: &entry.action,
        actor: &entry.actor,
        after: entry.after.as_deref(),
        at_ms: entry.at_ms,
        before: entry.before.as_deref(),
        event,
        previous_hash: previous.hex(),
        reason: &entry.reason,
        target: &entry.target,
        tenant: entry.tenant.as_ref().map(TenantId::as_str),
    };
    // Texts and numbers always serialise.
    Digest::of(&serde_json::to_vec(&hashed).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha_256_over_the_canonical_act() {
        let entry = AuditEntry {
            tenant: Some(TenantId::parse("acme").unwrap()),
            at_ms: 1_700_000_000_000,
            actor: "orch_0123456789ab".into(),
            action: "policy.put".into(),
            target: "policy/standard".into(),
            reason: "a \"quoted\" \u{e9}\n\u{1}".into(),
            before: None,
            after: Some(r#"{"a":1}"#.into()),
        };
        // Computed with Python's hashlib over json.dumps(…, sort_keys, separators, ensure_ascii=False).
        let wanted = "5d3f886689b721d492dee402b40a11f6f0cc402941ffb296f6182514e494cc63";
        assert_eq!(hash("e-1", &Link::beginning(), &entry).hex(), wanted);
        let link = Link::after(None, &entry);
        assert!(link.fits(&entry) && !link.fits(&AuditEntry { at_ms: 1, ..entry }));
    }
}
