//! What every store must do with records that are old.

use std::sync::Arc;

use super::ledger::{batch, log_key};
use super::{ALL, decision, entry, record, tenant};
use crate::domain::custody::{
    ActorType, CustodyAct, CustodyAction, CustodyEntry, CustodySignature, Evidence,
};
use crate::domain::log::LogId;
use crate::store::{Attest, Decision, HeadsPurged, Hold, HoldOn, OldHeads, Purge, Store};

async fn old(store: &dyn Store, of: &str, at_ms: i64) {
    let id = format!("{of}-{at_ms}");
    record(store, [Decision { at_ms, ..decision(&id, of) }]).await.unwrap();
}

fn purge(of: &str, before_ms: i64, rows_max: u32) -> Purge {
    Purge { tenant: tenant(of), before_ms, rows_max, at_ms: 9_000 }
}

/// Says so without a key.
pub(in crate::store) fn attest() -> Attest {
    Arc::new(|decision, last| {
        let act = CustodyAct {
            at_ms: 9_000,
            action: CustodyAction::Purged,
            actor: "system".into(),
            actor_type: ActorType::System,
            details: format!(r#"{{"record":"{}"}}"#, decision.record.len()),
        };
        let of = Evidence { tenant: decision.tenant.clone(), id: decision.id.clone() };
        let first = CustodyEntry::created(&of, decision.at_ms, decision.leaf.as_ref());
        let mut entry = CustodyEntry::after(last.unwrap_or((first.seq, first.hash)), &of, act);
        let bytes = [entry.seq as u8; 64];
        entry.signature = Some(CustodySignature { log: LogId::of(&[7; 32]), bytes });
        entry
    })
}

fn on(of: &str, evidence: Option<&str>) -> HoldOn {
    HoldOn { tenant: tenant(of), evidence: evidence.map(str::to_owned) }
}

fn hold() -> Hold {
    Hold { at_ms: 3, actor: "orch_0123456789ab".into(), reason: "case 12".into() }
}

pub(in crate::store) async fn held(store: &dyn Store, of: &str, evidence: Option<&str>) -> bool {
    let audited = entry("evidence/x", Some(of));
    store.set_hold(on(of, evidence), Some(hold()), audited).await.unwrap()
}

async fn released(store: &dyn Store, of: &str, evidence: Option<&str>) -> bool {
    let audited = entry("evidence/x", Some(of));
    store.set_hold(on(of, evidence), None, audited).await.unwrap()
}

/// Times of the decisions of `of` that still have their record, oldest first.
async fn kept(store: &dyn Store, of: &str) -> Vec<i64> {
    let rows = store.decisions(tenant(of), ALL).await.unwrap();
    let mut times: Vec<i64> =
        rows.iter().filter(|row| !row.value.record.is_empty()).map(|row| row.value.at_ms).collect();
    times.sort_unstable();
    times
}

pub(super) async fn holds(store: &dyn Store) {
    records_go_by_their_own_time_oldest_first(store).await;
    what_is_held_stays_until_it_is_released(store).await;
    tenants_with_records_are_found_one_after_another(store).await;
    checkpoints_go_with_the_last_record_they_signed_first(store).await;
}

async fn records_go_by_their_own_time_oldest_first(store: &dyn Store) {
    // The clock went back while they were written.
    for at_ms in [100, 300, 50, 200, 400] {
        old(store, "keeps", at_ms).await;
        old(store, "keeps-not", at_ms).await;
    }
    assert_eq!(store.purge(purge("keeps", 50, 9), attest()).await, Ok(0));
    let audited = async || store.entries(Some(tenant("keeps")), ALL).await.unwrap();
    assert_eq!(audited().await.len(), 0, "nothing was taken away");
    assert_eq!(store.purge(purge("keeps", 300, 2), attest()).await, Ok(2));
    assert_eq!(kept(store, "keeps").await, [200, 300, 400]);
    assert_eq!(store.purge(purge("keeps", 300, 2), attest()).await, Ok(1));
    assert_eq!(store.purge(purge("keeps", 300, 2), attest()).await, Ok(0));
    assert_eq!(kept(store, "keeps").await, [300, 400]);
    assert_eq!(kept(store, "keeps-not").await, [50, 100, 200, 300, 400]);
    let gone = store.decision(tenant("keeps"), "keeps-50".into()).await.unwrap().unwrap();
    let whole = decision("keeps-50", "keeps");
    assert!(gone.leaf.is_some(), "its leaf stays");
    assert_eq!(
        gone,
        Decision { at_ms: 50, record: String::new(), leaf: gone.leaf.clone(), ..whole }
    );
    let of = Evidence { tenant: tenant("keeps"), id: "keeps-50".into() };
    let chain = store.custody(of.clone(), 1, 9).await.unwrap();
    assert_eq!(chain.len(), 1, "its purge is told");
    assert_eq!(chain[0].act.action, CustodyAction::Purged);
    assert_eq!(chain[0].act.details, r#"{"record":"14"}"#, "and says what it was");
    assert!(chain[0].fits(&of) && chain[0].seq == 2);
    let acts = audited().await;
    let told: Vec<_> = acts.iter().map(|row| row.value.after.as_deref().unwrap()).collect();
    assert_eq!(told, [r#"{"records":1,"before_ms":300}"#, r#"{"records":2,"before_ms":300}"#]);
}

async fn what_is_held_stays_until_it_is_released(store: &dyn Store) {
    for at_ms in [10, 20, 30] {
        old(store, "held", at_ms).await;
    }
    let of = |id: &str| Evidence { tenant: tenant("held"), id: id.into() };
    assert_eq!(store.hold_of(of("held-20")).await, Ok(None));
    assert!(held(store, "held", Some("held-20")).await);
    assert!(!held(store, "held", Some("held-20")).await, "it is already");
    let found = store.hold_of(of("held-20")).await.unwrap();
    assert_eq!(found, Some((on("held", Some("held-20")), hold())));
    assert_eq!(store.hold_of(of("held-10")).await, Ok(None));
    assert!(held(store, "held", None).await);
    assert_eq!(store.hold_of(of("held-10")).await, Ok(Some((on("held", None), hold()))));
    assert_eq!(
        store.purge(purge("held", 99, 9), attest()).await,
        Ok(0),
        "all of the tenant is held"
    );
    assert!(released(store, "held", None).await && !released(store, "held", None).await);
    assert_eq!(store.purge(purge("held", 99, 9), attest()).await, Ok(2));
    assert_eq!(kept(store, "held").await, [20]);
    assert!(released(store, "held", Some("held-20")).await);
    assert_eq!(store.purge(purge("held", 99, 9), attest()).await, Ok(1));
    let acts = store.entries(Some(tenant("held")), ALL).await.unwrap();
    assert_eq!(acts.len(), 4 + 2, "what changed nothing is not audited");
}

async fn tenants_with_records_are_found_one_after_another(store: &dyn Store) {
    let all = store.oldest(None, 100).await.unwrap();
    let of = |name: &str| all.iter().find(|(tenant, _)| tenant.as_str() == name);
    assert_eq!(of("keeps-not"), Some(&(tenant("keeps-not"), 50)));
    assert_eq!(of("keeps"), Some(&(tenant("keeps"), 300)));
    assert_eq!(of("held"), None, "nothing is left");
    assert!(all.iter().map(|(tenant, _)| tenant).is_sorted());
    let (mut walked, mut after) = (Vec::new(), None);
    while let [one] = store.oldest(after.clone(), 1).await.unwrap().as_slice() {
        after = Some(one.0.clone());
        walked.push(one.clone());
    }
    assert_eq!(walked, all);
}

/// Appends `count` decisions of `heads` at `at_ms` to log 5, with a checkpoint of that time.
async fn signed(store: &dyn Store, before: u64, count: u64, at_ms: i64) {
    let row = |n| Decision { at_ms, ..decision(&format!("heads-{n}"), "heads") };
    let mut batch = batch(5, before, (before..before + count).map(row));
    Arc::get_mut(&mut batch).unwrap().checkpoint.at_ms = at_ms;
    store.append_batch(batch).await.unwrap();
}

/// Sizes of the checkpoints of log 5.
async fn heads(store: &dyn Store) -> Vec<u64> {
    let mut sizes = Vec::new();
    while let Some(head) =
        store.checkpoint(log_key(5).log, sizes.last().map_or(0, |size| size + 1)).await.unwrap()
    {
        sizes.push(head.size);
    }
    sizes
}

async fn checkpoints_go_with_the_last_record_they_signed_first(store: &dyn Store) {
    store.open_log(log_key(5)).await.unwrap();
    // More than 512 leaves between the first two and the last two, of which one stays held.
    for (before, count, at_ms) in
        [(0, 3, 10), (3, 2, 20), (5, 600, 30), (605, 1, 40), (606, 4, 50), (610, 1, 60)]
    {
        signed(store, before, count, at_ms).await;
    }
    let look = |after, before_ms| OldHeads { log: log_key(5).log, after, before_ms, at_ms: 99 };
    let nothing = HeadsPurged { taken: 0, seen: Some(606) };
    assert_eq!(store.purge_heads(look(0, 50)).await, Ok(nothing), "their records are kept");
    assert!(held(store, "heads", Some("heads-605")).await);
    assert_eq!(store.purge(purge("heads", 50, 1_000), attest()).await, Ok(605));
    assert_eq!(store.purge_heads(look(0, 10)).await, Ok(HeadsPurged::default()), "too young");
    let two = HeadsPurged { taken: 2, seen: Some(5) };
    assert_eq!(store.purge_heads(look(0, 30)).await, Ok(two));
    assert_eq!(heads(store).await, [605, 606, 610, 611]);
    let one = HeadsPurged { taken: 1, seen: Some(610) };
    assert_eq!(store.purge_heads(look(5, 60)).await, Ok(one), "up to the held one and younger");
    assert_eq!(heads(store).await, [606, 610, 611]);
    assert!(released(store, "heads", Some("heads-605")).await);
    assert_eq!(store.purge(purge("heads", 99, 1_000), attest()).await, Ok(6));
    let rest = HeadsPurged { taken: 2, seen: Some(611) };
    assert_eq!(store.purge_heads(look(0, 99)).await, Ok(rest));
    assert_eq!(heads(store).await, [611], "the newest stays");
    assert_eq!(store.tail(log_key(5).log).await.unwrap().map(|head| head.size), Some(611));
    let acts = store.entries(None, ALL).await.unwrap();
    let told = acts.iter().filter(|row| row.value.action == "evidence.purge_checkpoints");
    let told: Vec<_> = told.map(|row| row.value.after.as_deref().unwrap()).collect();
    assert_eq!(told, [r#"{"checkpoints":2}"#, r#"{"checkpoints":1}"#, r#"{"checkpoints":2}"#]);
}
