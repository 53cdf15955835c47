//! Checks the chains of the audit.
//!
//! A chain alone finds what was changed, removed or put in between. It does not find that its end was
//! cut off, nor that somebody who may write the table computed it anew from some act on: for that it
//! takes a head that was kept elsewhere.

use std::collections::HashMap;

use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::store::{Audit, Chained, Link, Numbered, StoreError};

/// Acts of one look at the store.
const ACTS_MAX: u32 = 500;

/// What a walk over a chain found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Walked {
    /// Acts that were checked.
    pub entries: u64,
    /// The last of them: its number and hash.
    pub head: Option<(i64, Digest)>,
    /// Where the chain breaks; nothing behind it was checked.
    pub first_bad: Option<BadAct>,
}

/// An act at which a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadAct {
    /// Its number; of a cut end the last that is left, 0 where none is.
    pub sequence: i64,
    /// What is wrong.
    pub why: &'static str,
}

const NOT_CHAINED: &str = "it has no hash: it was written past the service";
const CHANGED: &str = "its hash is not that of its fields: it was changed";
const MOVED: &str =
    "it does not follow the act before it: one was removed, put in between or moved";
const CUT: &str =
    "the head that was given is not in the chain: its end was cut off, or it was written anew";

/// Walks the chain of `tenant`, or every chain for `None`; `head` is a hash that must be in it.
///
/// # Errors
/// Where the store does not answer.
pub async fn walk(
    store: &(impl Audit + ?Sized),
    tenant: Option<TenantId>,
    mut head: Option<Digest>,
) -> Result<Walked, StoreError> {
    let mut walked = Walked::default();
    let mut chains: HashMap<Option<TenantId>, Digest> = HashMap::new();
    loop {
        let after = walked.head.map_or(0, |(sequence, _)| sequence);
        let acts = store.chain(tenant.clone(), after, ACTS_MAX).await?;
        if acts.is_empty() {
            break;
        }
        for Numbered { sequence, value } in acts {
            match follows(&mut chains, value) {
                Ok(hash) => {
                    head = head.filter(|head| *head != hash);
                    walked.head = Some((sequence, hash));
                    walked.entries += 1;
                }
                Err(why) => {
                    walked.first_bad = Some(BadAct { sequence, why });
                    return Ok(walked);
                }
            }
        }
    }
    if head.is_some() {
        let sequence = walked.head.map_or(0, |(sequence, _)| sequence);
        walked.first_bad = Some(BadAct { sequence, why: CUT });
    }
    Ok(walked)
}

/// The hash of an act that follows the last one of its chain.
fn follows(
    chains: &mut HashMap<Option<TenantId>, Digest>,
    Chained { entry, link }: Chained,
) -> Result<Digest, &'static str> {
    let link = link.ok_or(NOT_CHAINED)?;
    if !link.fits(&entry) {
        return Err(CHANGED);
    }
    let hash = link.hash;
    let before = chains.insert(entry.tenant, hash).unwrap_or(Link::beginning());
    if link.previous == before { Ok(hash) } else { Err(MOVED) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::{AuditEntry, Place, Sqlite, SqliteOptions};

    async fn append(store: &Sqlite, of: Option<&str>) -> i64 {
        let entry = AuditEntry {
            tenant: of.map(|name| TenantId::parse(name).unwrap()),
            at_ms: 1,
            actor: "a".into(),
            action: "b".into(),
            target: "c".into(),
            reason: "d".into(),
            before: None,
            after: Some("{}".into()),
        };
        store.append(entry).await.unwrap()
    }

    fn open(path: &Path) -> Sqlite {
        Sqlite::open(&SqliteOptions::at(Place::File(path.to_owned()))).unwrap()
    }

    /// Numbers: acme 1, 3, 5, 7; nobody's 2, 4, 6, 8.
    async fn written(path: &Path) {
        let store = open(path);
        for _ in 0..4 {
            append(&store, Some("acme")).await;
            append(&store, None).await;
        }
    }

    /// What a walk finds after `attack` by somebody who owns the file.
    async fn bad_after(attack: &str, of: Option<&str>) -> Option<(i64, &'static str)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        written(&path).await;
        let raw = rusqlite::Connection::open(&path).unwrap();
        let triggers = ["rows", "values", "links"];
        let drop = triggers.map(|of| format!("DROP TRIGGER audit_keeps_{of};")).concat();
        raw.execute_batch(&format!("{drop}{attack}")).unwrap();
        let of = of.map(|name| TenantId::parse(name).unwrap());
        let found = walk(&open(&path), of, None).await.unwrap();
        found.first_bad.map(|bad| (bad.sequence, bad.why))
    }

    #[tokio::test]
    async fn whatever_is_edited_removed_added_or_moved_is_found_at_its_first_act() {
        for (attack, expected) in [
            ("", None),
            ("UPDATE audit SET actor = 'x' WHERE sequence = 3", Some((3, CHANGED))),
            ("UPDATE audit SET at_ms = 2 WHERE sequence = 1", Some((1, CHANGED))),
            ("UPDATE audit SET after = '[]' WHERE sequence = 5", Some((5, CHANGED))),
            ("UPDATE audit SET after = NULL WHERE sequence = 5", Some((5, CHANGED))),
            ("UPDATE audit SET event = 'x' WHERE sequence = 5", Some((5, CHANGED))),
            ("UPDATE audit SET hash = zeroblob(32) WHERE sequence = 7", Some((7, CHANGED))),
            ("UPDATE audit SET tenant = 'globex' WHERE sequence = 3", Some((5, MOVED))),
            ("DELETE FROM audit WHERE sequence = 1", Some((3, MOVED))),
            ("DELETE FROM audit WHERE sequence = 5", Some((7, MOVED))),
            ("UPDATE audit SET hash = NULL WHERE sequence = 3", Some((3, NOT_CHAINED))),
            (
                "UPDATE audit SET sequence = 99 WHERE sequence = 3; \
                 UPDATE audit SET sequence = 3 WHERE sequence = 5",
                Some((3, MOVED)),
            ),
            (
                "INSERT INTO audit SELECT 9, tenant, at_ms, actor, action, target, reason, before, \
                 after, event, previous_hash, hash FROM audit WHERE sequence = 3",
                Some((9, MOVED)),
            ),
        ] {
            assert_eq!(bad_after(attack, Some("acme")).await, expected, "{attack}");
        }
    }

    #[tokio::test]
    async fn a_walk_over_every_chain_finds_what_was_given_to_another_tenant() {
        assert_eq!(bad_after("", None).await, None);
        let moved = "UPDATE audit SET tenant = 'globex' WHERE sequence = 3";
        assert_eq!(bad_after(moved, None).await, Some((3, CHANGED)));
        assert_eq!(bad_after("DELETE FROM audit WHERE sequence = 4", None).await, Some((6, MOVED)));
    }

    #[tokio::test]
    async fn a_cut_end_is_found_by_a_head_that_was_kept_elsewhere_and_not_without() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        written(&path).await;
        let acme = || TenantId::parse("acme").ok();
        let whole = walk(&open(&path), acme(), None).await.unwrap();
        assert_eq!((whole.entries, whole.head.map(|head| head.0)), (4, Some(7)));
        let head = whole.head.map(|head| head.1);
        append(&open(&path), Some("acme")).await;
        let grown = walk(&open(&path), acme(), head).await.unwrap();
        assert_eq!((grown.entries, grown.first_bad), (5, None));
        let raw = rusqlite::Connection::open(&path).unwrap();
        let cut = "DROP TRIGGER audit_keeps_rows; DELETE FROM audit WHERE sequence > 6";
        raw.execute_batch(cut).unwrap();
        assert_eq!(walk(&open(&path), acme(), None).await.unwrap().first_bad, None);
        let found = walk(&open(&path), acme(), head).await.unwrap();
        assert_eq!(found.first_bad, Some(BadAct { sequence: 5, why: CUT }));
        let none = walk(&open(&path), TenantId::parse("nobody").ok(), head).await.unwrap();
        assert_eq!(none.first_bad, Some(BadAct { sequence: 0, why: CUT }));
    }
}
