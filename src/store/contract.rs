//! What every `Store` must do, written against the traits: each implementation runs all of it.

use std::sync::Arc;

use super::*;

pub(super) mod claims;
pub(super) mod custody;
mod events;
mod instances;
pub(super) mod jobs;
mod keys;
mod ledger;
pub(super) mod retention;
mod search;
mod secrets;
mod sources;
mod usage;

pub(super) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

pub(super) fn decision(id: &str, of: &str) -> Decision {
    Decision {
        id: id.into(),
        tenant: tenant(of),
        request_id: RequestId::parse("r-1").unwrap(),
        at_ms: 1_700_000_000_000,
        policy: BundleName::parse("standard").unwrap(),
        revision: "abc".into(),
        action: Action::Redact,
        complete: true,
        record: r#"{"findings":2}"#.into(),
        leaf: None,
    }
}

pub(super) use ledger::{after_one, record};

pub(super) fn entry(target: &str, of: Option<&str>) -> AuditEntry {
    AuditEntry {
        tenant: of.map(tenant),
        at_ms: 1,
        actor: "system".into(),
        action: "breaker.open".into(),
        target: target.into(),
        reason: "maintenance".into(),
        before: Some("{}".into()),
        after: None,
    }
}

pub(super) fn key(name: &str) -> ObjectKey {
    ObjectKey { kind: "overlay".into(), tenant: Some(tenant("acme")), name: name.into() }
}

const ALL: Page = Page { limit: 100, before: None };

/// Runs the whole contract on an empty `store`.
pub(super) async fn holds(store: &dyn Store) {
    decisions_are_kept_and_belong_to_one_tenant(store).await;
    pages_go_back_without_gap_or_repeat(store).await;
    audit_is_numbered_and_filtered(store).await;
    acts_are_chained_one_chain_per_tenant(store).await;
    a_wrong_expectation_writes_nothing(store).await;
    a_deleted_object_is_gone_but_in_its_history(store).await;
    a_change_and_its_audit_are_written_together_or_not_at_all(store).await;
    only_the_newest_versions_are_kept(store).await;
    lists_hold_current_versions_of_every_tenant(store).await;
    one_of_many_racing_writers_wins(store).await;
    ledger::holds(store).await;
    keys::hold(store).await;
    usage::holds(store).await;
    secrets::hold(store).await;
    claims::hold(store).await;
    custody::holds(store).await;
    retention::holds(store).await;
    search::holds(store).await;
    sources::hold(store).await;
    sources::are_forgotten(store).await;
    jobs::hold(store).await;
    events::hold(store).await;
    instances::hold(store).await;
    assert_eq!(store.probe().await, Ok(()));
}

async fn decisions_are_kept_and_belong_to_one_tenant(store: &dyn Store) {
    record(store, [decision("d-1", "acme")]).await.unwrap();
    let kept = store.decision(tenant("acme"), "d-1".into()).await.unwrap().unwrap();
    assert!(kept.leaf.is_some());
    assert_eq!(Decision { leaf: None, ..kept }, decision("d-1", "acme"));
    assert_eq!(store.decision(tenant("other"), "d-1".into()).await, Ok(None));
    assert_eq!(store.decisions(tenant("other"), ALL).await, Ok(Vec::new()));
}

async fn pages_go_back_without_gap_or_repeat(store: &dyn Store) {
    record(store, (0..6).map(|n| decision(&format!("p-{n}"), "pages"))).await.unwrap();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = Page { limit: 2, before };
        let rows = store.decisions(tenant("pages"), page).await.unwrap();
        let Some(last) = rows.last() else { break };
        before = Some(last.sequence);
        seen.extend(rows.into_iter().map(|row| row.value.id));
    }
    assert_eq!(seen, ["p-5", "p-4", "p-3", "p-2", "p-1", "p-0"]);
}

async fn audit_is_numbered_and_filtered(store: &dyn Store) {
    let first = store.append(entry("detector/a", Some("acme"))).await.unwrap();
    let second = store.append(entry("detector/b", None)).await.unwrap();
    assert!(second > first);
    let all = store.entries(None, ALL).await.unwrap();
    assert_eq!(all.iter().map(|row| row.sequence).collect::<Vec<_>>(), [second, first]);
    let mine = store.entries(Some(tenant("acme")), ALL).await.unwrap();
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0].value, entry("detector/a", Some("acme")));
}

/// Checks the chain of a tenant, or of everyone, from act to act; the numbers of its acts.
async fn chained(store: &dyn Store, of: Option<&str>) -> Vec<i64> {
    let (mut last, mut numbers) = (std::collections::BTreeMap::new(), Vec::new());
    loop {
        let after = numbers.last().copied().unwrap_or(0);
        let acts = store.chain(of.map(tenant), after, 3).await.unwrap();
        if acts.is_empty() {
            return numbers;
        }
        for Numbered { sequence, value: Chained { entry, link } } in acts {
            let link = link.unwrap();
            assert!(link.fits(&entry), "{entry:?}");
            let before = last.insert(entry.tenant.clone(), link.hash);
            assert_eq!(link.previous, before.unwrap_or(Link::beginning()), "{entry:?}");
            numbers.push(sequence);
        }
    }
}

async fn acts_are_chained_one_chain_per_tenant(store: &dyn Store) {
    let acts = (0..20).map(|n| {
        let of = [Some("chained"), Some("chained-too"), None][n % 3];
        let after = Some(r#"{"a": 1}"#.to_owned());
        store.append(AuditEntry { reason: "\0 \u{e9}\n".into(), after, ..entry("x", of) })
    });
    let written = futures_util::future::join_all(acts).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    assert_eq!(chained(store, Some("chained")).await.len(), 7);
    assert_eq!(chained(store, Some("chained-too")).await.len(), 7);
    let all = chained(store, None).await;
    assert!(all.is_sorted() && all.len() >= 20, "{all:?}");
}

async fn a_wrong_expectation_writes_nothing(store: &dyn Store) {
    let before = store.generation().await.unwrap();
    let missing = store.put(key("a"), "{}".into(), Expected::Version(1)).await;
    assert!(matches!(missing, Err(StoreError::Conflict { found: 0, .. })), "{missing:?}");
    assert_eq!(store.generation().await, Ok(before));

    let one = store.put(key("a"), "{}".into(), Expected::Absent).await.unwrap();
    let two = store.put(key("a"), "{}".into(), Expected::Version(1)).await.unwrap();
    assert_eq!((one.version, two.version), (1, 2));
    assert_ne!(one.etag, two.etag, "equal bodies of two versions are two states");
    for stale in [Expected::Absent, Expected::Version(1), Expected::Version(3)] {
        let refused = store.put(key("a"), "[]".into(), stale).await;
        assert!(matches!(refused, Err(StoreError::Conflict { found: 2, .. })), "{refused:?}");
    }
    assert_eq!(store.object(key("a")).await, Ok(Some(two)));
    assert!(store.generation().await.unwrap() > before);
}

async fn a_deleted_object_is_gone_but_in_its_history(store: &dyn Store) {
    assert!(store.delete(key("b"), Expected::Any).await.is_err(), "nothing is there");
    store.put(key("b"), "1".into(), Expected::Any).await.unwrap();
    store.delete(key("b"), Expected::Version(1)).await.unwrap();
    assert_eq!(store.object(key("b")).await, Ok(None));
    let back = store.put(key("b"), "2".into(), Expected::Absent).await.unwrap();
    assert_eq!(back.version, 3);
    let versions = store.versions(key("b"), ALL).await.unwrap();
    let found: Vec<_> = versions.iter().map(|v| (v.version, v.deleted)).collect();
    assert_eq!(found, [(3, false), (2, true), (1, false)]);
    let page = Page { limit: 1, before: Some(3) };
    assert_eq!(store.versions(key("b"), page).await.unwrap()[..], versions[1..2]);
    let body = async |n| store.version(key("b"), n).await.unwrap().and_then(|found| found.body);
    assert_eq!(body(1).await.as_deref(), Some("1"));
    assert_eq!((body(2).await, body(4).await), (None, None));
}

async fn a_change_and_its_audit_are_written_together_or_not_at_all(store: &dyn Store) {
    let mine = || entry("policy/c", Some("changes"));
    let change = async |body: Option<&str>, expected| {
        store.change(key("c"), body.map(str::to_owned), expected, mine()).await
    };
    let audited = async || store.entries(Some(tenant("changes")), ALL).await.unwrap().len();
    let one = change(Some("1"), Expected::Absent).await.unwrap();
    assert_eq!((one.version, audited().await), (1, 1));
    let stale = change(Some("2"), Expected::Absent).await;
    assert!(matches!(stale, Err(StoreError::Conflict { found: 1, .. })), "{stale:?}");
    assert_eq!(audited().await, 1, "nothing was changed, so nothing is audited");
    let gone = change(None, Expected::Version(1)).await.unwrap();
    assert_eq!((gone.version, gone.body, audited().await), (2, None, 2));
}

/// Every store under this contract keeps 50.
async fn only_the_newest_versions_are_kept(store: &dyn Store) {
    let versions = async |name| {
        let all = Page { limit: 200, before: None };
        let found = store.versions(key(name), all).await.unwrap();
        found.into_iter().map(|version| version.version).collect::<Vec<_>>()
    };
    store.put(key("other"), "1".into(), Expected::Absent).await.unwrap();
    for n in 1..=50 {
        store.put(key("many"), n.to_string(), Expected::Any).await.unwrap();
    }
    assert_eq!(versions("many").await.last(), Some(&1));
    store.delete(key("many"), Expected::Version(50)).await.unwrap();
    assert_eq!(store.version(key("many"), 1).await, Ok(None));
    assert!(store.version(key("many"), 2).await.unwrap().is_some());
    let back = store.put(key("many"), "52".into(), Expected::Absent).await.unwrap();
    assert_eq!(back.version, 52, "what is forgotten still counts");
    assert_eq!(versions("many").await, (3..=52).rev().collect::<Vec<_>>());
    assert_eq!(versions("other").await, [1], "another object is not the older version of this");
}

async fn lists_hold_current_versions_of_every_tenant(store: &dyn Store) {
    let shared = ObjectKey { kind: "list".into(), tenant: None, name: "x".into() };
    let mine = ObjectKey { kind: "list".into(), tenant: Some(tenant("acme")), name: "x".into() };
    for body in ["1", "2"] {
        store.put(shared.clone(), body.into(), Expected::Any).await.unwrap();
        store.put(mine.clone(), body.into(), Expected::Any).await.unwrap();
    }
    store
        .put(ObjectKey { name: "y".into(), ..mine.clone() }, "1".into(), Expected::Any)
        .await
        .unwrap();
    store.delete(ObjectKey { name: "y".into(), ..mine.clone() }, Expected::Any).await.unwrap();
    let listed = store.objects("list".into()).await.unwrap();
    let found: Vec<_> = listed.into_iter().map(|o| (o.key, o.version, o.body)).collect();
    assert_eq!(found, [(shared, 2, Some("2".into())), (mine, 2, Some("2".into()))]);
}

async fn one_of_many_racing_writers_wins(store: &dyn Store) {
    let writers = (0..20).map(|n| store.put(key("race"), n.to_string(), Expected::Absent));
    let results = futures_util::future::join_all(writers).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(store.versions(key("race"), ALL).await.unwrap().len(), 1);
}
