//! The words of a custody chain: who did what with the evidence of one decision.
//!
//! Each entry holds the hash of the one before it. The first says that the decision was made; it
//! follows from what is kept of the decision for ever, and has no row of its own.

use serde::Serialize;

use super::digest::Digest;
use super::id::TenantId;
use super::log::{Leaf, LogId};

/// Of which decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Whose.
    pub tenant: TenantId,
    /// The decision's id.
    pub id: String,
}

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($variant:ident $name:literal $meaning:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $(#[doc = $meaning] $variant,)* }

        impl $type {
            /// Every one, in the order of the documentation.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];

            /// The name in store and API.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }

            /// The one of that name.
            pub fn parse(raw: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == raw)
            }
        }
    };
}

named! {
    /// What was done.
    CustodyAction {
        Created "created" "The decision was made and recorded.";
        Accessed "accessed" "Its record was read.";
        Verified "verified" "It was verified.";
        Exported "exported" "A package of it left the service.";
        Transferred "transferred" "It went into other hands.";
        Purged "purged" "Its record was taken away once its days were over.";
    }
}

named! {
    /// What kind of actor.
    ActorType {
        User "user" "A person, by a token or in development.";
        System "system" "The service itself.";
        Api "api" "A program, by an API key.";
    }
}

/// An act before it is chained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustodyAct {
    /// Wall clock, milliseconds since 1970.
    pub at_ms: i64,
    /// What.
    pub action: CustodyAction,
    /// Who, as audits name it.
    pub actor: String,
    /// What kind of actor.
    pub actor_type: ActorType,
    /// JSON: what else is known of it; never content.
    pub details: String,
}

/// One entry of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustodyEntry {
    /// From 1, without gaps.
    pub seq: u32,
    /// The act.
    pub act: CustodyAct,
    /// Hash of the entry before; zeros for the first.
    pub previous: Digest,
    /// SHA-256 over all of the above and the evidence, as RFC 8785 writes them.
    pub hash: Digest,
    /// By an instance over [`CustodyEntry::signed`]; the first has none, its leaf's log is signed.
    pub signature: Option<CustodySignature>,
}

/// Who signed an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustodySignature {
    /// The log whose key it is.
    pub log: LogId,
    /// Ed25519.
    pub bytes: [u8; 64],
}

/// Its fields are in the order of RFC 8785, which writes texts and whole numbers as `serde_json` does.
#[derive(Serialize)]
struct Hashed<'a> {
    action: &'a str,
    actor: &'a str,
    actor_type: &'a str,
    at_ms: i64,
    details: &'a str,
    evidence: &'a str,
    previous_hash: String,
    seq: u32,
    tenant: &'a str,
}

impl CustodyEntry {
    /// The first entry: the decision was made at `at_ms` and is `leaf`, unless an earlier release
    /// recorded it.
    pub fn created(of: &Evidence, at_ms: i64, leaf: Option<&Leaf>) -> CustodyEntry {
        let details = leaf.map_or_else(
            || "{}".to_owned(),
            |leaf| {
                let (log, hash) = (leaf.log.as_str(), leaf.hash.hex());
                format!(r#"{{"leaf_hash":"{hash}","leaf_index":{},"log_id":"{log}"}}"#, leaf.index)
            },
        );
        let act = CustodyAct {
            at_ms,
            action: CustodyAction::Created,
            actor: "system".into(),
            actor_type: ActorType::System,
            details,
        };
        Self::chained(of, 1, act, Digest::from_bytes([0; 32]))
    }

    /// The entry that follows this one, not signed yet.
    pub fn next(&self, of: &Evidence, act: CustodyAct) -> CustodyEntry {
        Self::after((self.seq, self.hash), of, act)
    }

    /// The entry that follows the one of that number and hash, not signed yet.
    pub fn after((seq, hash): (u32, Digest), of: &Evidence, act: CustodyAct) -> CustodyEntry {
        Self::chained(of, seq.saturating_add(1), act, hash)
    }

    fn chained(of: &Evidence, seq: u32, act: CustodyAct, previous: Digest) -> CustodyEntry {
        let hash = hash(of, seq, &act, &previous);
        CustodyEntry { seq, act, previous, hash, signature: None }
    }

    /// Whether it is what was hashed.
    pub fn fits(&self, of: &Evidence) -> bool {
        self.hash == hash(of, self.seq, &self.act, &self.previous)
    }

    /// What is signed.
    pub fn signed(&self) -> String {
        format!("detector-orchestrator/custody\n{}\n", self.hash.hex())
    }
}

fn hash(of: &Evidence, seq: u32, act: &CustodyAct, previous: &Digest) -> Digest {
    let hashed = Hashed {
        action: act.action.name(),
        actor: &act.actor,
        actor_type: act.actor_type.name(),
        at_ms: act.at_ms,
        details: &act.details,
        evidence: &of.id,
        previous_hash: previous.hex(),
        seq,
        tenant: of.tenant.as_str(),
    };
    // Texts and numbers always serialise.
    Digest::of(&serde_json::to_vec(&hashed).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tenant: &str, id: &str) -> Evidence {
        Evidence { tenant: TenantId::parse(tenant).unwrap(), id: id.into() }
    }

    #[test]
    fn the_hash_is_sha_256_over_the_canonical_entry_and_changes_with_every_field() {
        let evidence = of("acme", "e-1");
        let first = CustodyEntry::created(&evidence, 5, None);
        // Computed with Python's hashlib over json.dumps(…, sort_keys, separators).
        assert_eq!(
            first.hash.hex(),
            "a3eb8de40600d03da02dcdb30975fe23860ad484fd43ecece786183a9ba5e1da"
        );
        let act = CustodyAct { action: CustodyAction::Accessed, ..first.act.clone() };
        let second = first.next(&evidence, act.clone());
        assert_eq!((second.seq, second.previous), (2, first.hash));
        assert!(second.fits(&evidence));
        assert!(!second.fits(&of("globex", "e-1")) && !second.fits(&of("acme", "e-2")));
        let with = |act: CustodyAct| CustodyEntry { act, ..second.clone() };
        for changed in [
            CustodyEntry { seq: 3, ..second.clone() },
            CustodyEntry { previous: second.hash, ..second.clone() },
            with(CustodyAct { at_ms: 6, ..act.clone() }),
            with(CustodyAct { action: CustodyAction::Exported, ..act.clone() }),
            with(CustodyAct { actor: "x".into(), ..act.clone() }),
            with(CustodyAct { actor_type: ActorType::Api, ..act.clone() }),
            with(CustodyAct { details: "[]".into(), ..act }),
        ] {
            assert!(!changed.fits(&evidence), "{changed:?}");
        }
    }

    #[test]
    fn the_first_entry_names_the_leaf_of_the_decision() {
        let log = LogId::of(&[7; 32]);
        let leaf = Leaf { log: log.clone(), index: 3, hash: Digest::of(b"x") };
        let first = CustodyEntry::created(&of("acme", "e-1"), 5, Some(&leaf));
        let details: serde_json::Value = serde_json::from_str(&first.act.details).unwrap();
        assert_eq!(details["log_id"], log.as_str());
        assert_eq!(details["leaf_hash"], leaf.hash.hex());
        assert_eq!(details["leaf_index"], 3);
    }
}
