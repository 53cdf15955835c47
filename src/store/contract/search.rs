//! What every store must find, and how far it looks for it.

use super::{decision, record, tenant};
use crate::domain::action::Action;
use crate::domain::id::BundleName;
use crate::store::{Decision, Passed, Purge, Sought, Spot, Store};

const OF: &str = "sought";

/// Twelve decisions, two of each time, written in another order than they were made in.
async fn made(store: &dyn Store, of: &str) {
    let rows = [3, 1, 5, 0, 4, 2, 2, 4, 0, 5, 1, 3].into_iter().enumerate().map(|(n, at)| {
        let strict = n % 2 == 1;
        Decision {
            at_ms: 1_000 * at,
            policy: BundleName::parse(if strict { "strict" } else { "standard" }).unwrap(),
            revision: format!("{}{}", if at < 3 { "aaaa" } else { "bbbb" }, "0".repeat(60)),
            action: if at % 3 == 0 { Action::Block } else { Action::Allow },
            complete: at != 4,
            ..decision(&format!("{of}-{n}"), of)
        }
    });
    record(store, rows).await.unwrap();
}

async fn look(store: &dyn Store, sought: Sought, after: Option<Spot>, rows: u32) -> Vec<Passed> {
    store.look(tenant(OF), sought, after, rows).await.unwrap()
}

/// The numbers of those that fit.
fn found(passed: &[Passed]) -> Vec<u32> {
    let fits = passed.iter().filter_map(|row| row.fits.as_ref());
    fits.map(|row| row.id.rsplit('-').next().unwrap().parse().unwrap()).collect()
}

pub(super) async fn holds(store: &dyn Store) {
    made(store, OF).await;
    made(store, "sought-too").await;
    rows_come_by_their_own_time_and_go_on_where_they_were(store).await;
    each_part_that_is_given_must_hold(store).await;
    revisions_are_counted_up_to_so_many_rows(store).await;
    what_was_purged_is_not_found(store).await;
}

async fn rows_come_by_their_own_time_and_go_on_where_they_were(store: &dyn Store) {
    let newest_first = [9, 2, 7, 4, 11, 0, 6, 5, 10, 1, 8, 3];
    assert_eq!(found(&look(store, Sought::default(), None, 100).await), newest_first);
    let (mut walked, mut after) = (Vec::new(), None);
    loop {
        let page = look(store, Sought::default(), after, 5).await;
        assert!(page.len() <= 5 && page.iter().all(|row| row.fits.is_some()), "{page:?}");
        let Some(last) = page.last() else { break };
        assert!(after.is_none_or(|after| last.spot < after), "{page:?}");
        after = Some(last.spot);
        walked.extend(found(&page));
    }
    assert_eq!(walked, newest_first);
    let whole = look(store, Sought::default(), None, 1).await.pop().unwrap();
    assert_eq!(whole.fits.as_ref().unwrap().record, decision("x", OF).record);
    assert_eq!((whole.fits.unwrap().leaf, whole.spot.at_ms), (None, 5_000));
    let others = store.look(tenant("nobody"), Sought::default(), None, 9).await;
    assert_eq!(others, Ok(Vec::new()), "another tenant's are nobody's");
}

async fn each_part_that_is_given_must_hold(store: &dyn Store) {
    let any = Sought::default;
    for (sought, passed, fits) in [
        (Sought { from_ms: Some(4_000), ..any() }, 4, vec![9, 2, 7, 4]),
        (Sought { to_ms: Some(1_000), ..any() }, 2, vec![8, 3]),
        (Sought { from_ms: Some(2_000), to_ms: Some(3_000), ..any() }, 2, vec![6, 5]),
        (Sought { from_ms: Some(3_000), to_ms: Some(2_000), ..any() }, 0, vec![]),
        (Sought { action: Some(Action::Block), ..any() }, 12, vec![11, 0, 8, 3]),
        (Sought { policy: BundleName::parse("strict").ok(), ..any() }, 12, vec![9, 7, 11, 5, 1, 3]),
        (Sought { revision: Some("aaaa00".into()), ..any() }, 12, vec![6, 5, 10, 1, 8, 3]),
        (Sought { revision: Some("%".into()), ..any() }, 12, vec![]),
        (Sought { complete: Some(false), ..any() }, 12, vec![7, 4]),
        (Sought { complete: Some(true), action: Some(Action::Review), ..any() }, 12, vec![]),
    ] {
        let rows = look(store, sought.clone(), None, 100).await;
        assert_eq!((rows.len(), found(&rows)), (passed, fits), "{sought:?}");
    }
    // A look that finds nothing still says how far it came.
    let review = Sought { action: Some(Action::Review), ..any() };
    let rows = look(store, review.clone(), None, 7).await;
    assert_eq!((rows.len(), rows.last().unwrap().spot.at_ms), (7, 2_000));
    let rest = look(store, review, rows.last().map(|row| row.spot), 7).await;
    assert_eq!(rest.len(), 5);
}

async fn revisions_are_counted_up_to_so_many_rows(store: &dyn Store) {
    let counted = async |sought, rows| {
        let all = store.tally(tenant(OF), sought, rows).await.unwrap();
        let row = |row: crate::store::Tally| {
            let first = row.revision.get(..1).unwrap().to_owned();
            (first, row.action, row.complete, row.decisions, row.first_ms, row.last_ms)
        };
        all.into_iter().map(row).collect::<Vec<_>>()
    };
    let (a, b, allow, block) = (|| "a".to_owned(), || "b".to_owned(), Action::Allow, Action::Block);
    let all = [
        (b(), allow, true, 2, 5_000, 5_000),
        (b(), allow, false, 2, 4_000, 4_000),
        (b(), block, true, 2, 3_000, 3_000),
        (a(), allow, true, 4, 1_000, 2_000),
        (a(), block, true, 2, 0, 0),
    ];
    assert_eq!(counted(Sought::default(), 100).await, all);
    assert_eq!(counted(Sought::default(), 3).await[1], (b(), allow, false, 1, 4_000, 4_000));
    let old = Sought { to_ms: Some(1_000), ..Sought::default() };
    assert_eq!(counted(old, 100).await, all[4..]);
}

async fn what_was_purged_is_not_found(store: &dyn Store) {
    let purge = Purge { tenant: tenant(OF), before_ms: 2_000, rows_max: 9, at_ms: 9_000 };
    assert_eq!(store.purge(purge, super::retention::attest()).await, Ok(4));
    assert_eq!(found(&look(store, Sought::default(), None, 100).await).len(), 8);
    let left = store.tally(tenant(OF), Sought::default(), 100).await.unwrap();
    assert_eq!(left.iter().map(|row| row.decisions).sum::<u64>(), 8);
}
