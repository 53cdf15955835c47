//! What every store must do with keys.

use super::{ALL, entry, tenant};
use crate::domain::access::{Grant, Role, Scope, Scopes};
use crate::domain::request::Priority;
use crate::store::{ApiKey, KeyChange, KeyHash, Store, StoreError};

fn key(prefix: &str, of: Option<&str>) -> ApiKey {
    ApiKey {
        prefix: prefix.into(),
        hash: KeyHash([7; 32]),
        tenant: of.map(tenant),
        grant: Grant {
            scopes: Some(Scopes::of(&[Scope::KeysWrite, Scope::OrchestrateWrite])),
            ..Grant::of_roles(&[Role::App, Role::TenantAdmin])
        },
        max_priority: Some(Priority::Low),
        label: "a label".into(),
        created_by: "system".into(),
        created_at_ms: 1,
        expires_at_ms: None,
        revoked_at_ms: None,
        replaced_by: None,
    }
}

pub(super) async fn hold(store: &dyn Store) {
    the_first_key_is_made_once(store).await;
    keys_are_kept_whole_and_belong_to_one_tenant(store).await;
    a_revoked_key_stays_revoked(store).await;
    a_key_is_replaced_once_and_only_while_it_holds(store).await;
}

async fn change(store: &dyn Store, change: KeyChange) -> Result<bool, StoreError> {
    store.change_key(change, entry("key/x", Some("audited"))).await
}

async fn audited(store: &dyn Store) -> usize {
    store.entries(Some(tenant("audited")), ALL).await.unwrap().len()
}

async fn the_first_key_is_made_once(store: &dyn Store) {
    let (one, two) = tokio::join!(
        change(store, KeyChange::AddFirst(key("k-first", None))),
        change(store, KeyChange::AddFirst(key("k-first", None))),
    );
    let made = [one.unwrap(), two.unwrap()];
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "whichever came first");
    assert_eq!(audited(store).await, 1, "what was not made is not audited");
    assert_eq!(store.keys_that_hold(0).await, Ok(1));
}

async fn keys_are_kept_whole_and_belong_to_one_tenant(store: &dyn Store) {
    let kept = key("k-acme", Some("acme"));
    change(store, KeyChange::Add(kept.clone())).await.unwrap();
    let no_claims = ApiKey { grant: Grant::default(), max_priority: None, ..key("k-none", None) };
    change(store, KeyChange::Add(no_claims.clone())).await.unwrap();
    assert_eq!(store.key("k-acme".into()).await, Ok(Some(kept.clone())));
    assert_eq!(store.key("k-none".into()).await, Ok(Some(no_claims)));
    assert_eq!(store.key("k-acm".into()).await, Ok(None));
    assert!(change(store, KeyChange::Add(kept.clone())).await.is_err(), "the prefix is taken");
    let mine = store.keys(Some(tenant("acme")), ALL).await.unwrap();
    assert_eq!(mine.into_iter().map(|row| row.value).collect::<Vec<_>>(), [kept]);
    assert_eq!(store.keys(Some(tenant("other")), ALL).await, Ok(Vec::new()));
    let all = store.keys(None, ALL).await.unwrap();
    let prefixes: Vec<_> = all.iter().map(|row| row.value.prefix.as_str()).collect();
    assert_eq!(prefixes, ["k-none", "k-acme", "k-first"]);
}

async fn a_revoked_key_stays_revoked(store: &dyn Store) {
    change(store, KeyChange::Add(key("k-gone", Some("acme")))).await.unwrap();
    let before = (audited(store).await, store.keys_that_hold(9).await.unwrap());
    let revoke = |at_ms| KeyChange::Revoke { prefix: "k-gone".into(), at_ms };
    assert_eq!(change(store, revoke(5)).await, Ok(true));
    assert_eq!(change(store, revoke(6)).await, Ok(false));
    let unknown = KeyChange::Revoke { prefix: "k-never".into(), at_ms: 5 };
    assert_eq!(change(store, unknown).await, Ok(false));
    let gone = store.key("k-gone".into()).await.unwrap().unwrap();
    assert_eq!((gone.revoked_at_ms, gone.holds(4)), (Some(5), false));
    let after = (audited(store).await, store.keys_that_hold(9).await.unwrap());
    assert_eq!(after, (before.0 + 1, before.1 - 1));
    let heir = key("k-heir-of-gone", Some("acme"));
    let replace = KeyChange::Replace { old: "k-gone".into(), until_ms: 9, new: heir };
    assert_eq!(change(store, replace).await, Ok(false));
    assert_eq!(store.key("k-heir-of-gone".into()).await, Ok(None));
}

async fn a_key_is_replaced_once_and_only_while_it_holds(store: &dyn Store) {
    let old = ApiKey { expires_at_ms: Some(100), ..key("k-old", Some("acme")) };
    change(store, KeyChange::Add(old)).await.unwrap();
    let replace = |new: &str| KeyChange::Replace {
        old: "k-old".into(),
        until_ms: 50,
        new: key(new, Some("acme")),
    };
    assert_eq!(change(store, replace("k-new")).await, Ok(true));
    assert_eq!(change(store, replace("k-other")).await, Ok(false), "it has an heir");
    let old = store.key("k-old".into()).await.unwrap().unwrap();
    assert_eq!((old.expires_at_ms, old.replaced_by.as_deref()), (Some(50), Some("k-new")));
    assert!(old.holds(49) && !old.holds(50));
    assert!(store.key("k-new".into()).await.unwrap().is_some());
    let soon = ApiKey { expires_at_ms: Some(10), ..key("k-soon", None) };
    change(store, KeyChange::Add(soon)).await.unwrap();
    let late = KeyChange::Replace { old: "k-soon".into(), until_ms: 90, new: key("k-late", None) };
    assert_eq!(change(store, late).await, Ok(true));
    let soon = store.key("k-soon".into()).await.unwrap().unwrap();
    assert_eq!(soon.expires_at_ms, Some(10), "an overlap never lengthens a life");
}
