//! What every store must do with events and their groups.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::jobs::{added, error, new_job, take, told, worker};
use super::tenant;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventType};
use crate::store::{
    Begin, Delivering, Delivery, Ending, Group, NewJob, Shares, Store, StoreError, Stream, Then,
};

fn event(n: u32, of: Option<&str>) -> Event {
    Event {
        id: Digest::of_all([&n.to_be_bytes()[..], of.unwrap_or_default().as_bytes()]),
        event_type: if n.is_multiple_of(2) {
            EventType::Incident
        } else {
            EventType::PolicyChanged
        },
        tenant: of.map(tenant),
        at_ms: 1,
        source: "test".into(),
        data: json!({"n": n, "text": "\u{0}\u{e9}\n"}),
    }
}

async fn number(store: &dyn Store) {
    while store.number_events(7).await.unwrap() > 0 {}
}

fn group(of: &str, name: &str) -> Group {
    Group { stream: Stream::Tenant(tenant(of)), name: name.into() }
}

/// From the oldest that is kept, however many groups there are.
async fn deliver(
    store: &dyn Store,
    group: Group,
    how: Delivering,
) -> Result<Vec<Delivery>, StoreError> {
    let begin = Begin { after: 0, groups_max: u32::MAX };
    store.deliver(group, begin, how).await.map(|given| given.expect("there is room"))
}

/// Only the group is made.
const NOTHING: Delivering =
    Delivering { most: 0, ack_wait: Duration::from_secs(30), deliveries_max: 3 };

fn numbers(delivered: &[Delivery]) -> Vec<(i64, u32)> {
    delivered.iter().map(|one| (one.told.sequence, one.count)).collect()
}

pub(super) async fn hold(store: &dyn Store) {
    events_are_kept_once_numbered_without_gaps_and_belong_to_their_tenant(store).await;
    numbers_given_at_once_by_many_stay_without_gaps(store).await;
    what_was_published_is_purged_in_time(store).await;
    a_group_shares_events_and_what_is_not_acknowledged_comes_again_until_it_is_dead(store).await;
    two_members_are_never_given_the_same_event(store).await;
    a_group_starts_where_it_is_told_and_two_groups_know_nothing_of_each_other(store).await;
    only_ends_of_jobs_with_a_callback_are_callbacks(store).await;
    a_stream_has_so_many_groups_and_those_that_would_begin_anew_make_room(store).await;
    one_tenants_deliveries_keep_nobody_elses_waiting(store).await;
}

async fn events_are_kept_once_numbered_without_gaps_and_belong_to_their_tenant(store: &dyn Store) {
    let of = Stream::Tenant(tenant("events"));
    let mine: Vec<Event> = (0..5).map(|n| event(n, Some("events"))).collect();
    let service = event(9, None);
    let mixed = [&mine[..3], std::slice::from_ref(&service), &mine[3..]].concat();
    assert_eq!(store.append_events(mixed.clone()).await, Ok(6));
    assert_eq!(store.append_events(mixed.clone()).await, Ok(0), "known by their ids");
    assert_eq!(store.events(of.clone(), 0, 100).await, Ok(Vec::new()), "not numbered yet");
    number(store).await;
    let told = store.events(of.clone(), 0, 100).await.unwrap();
    assert_eq!(told.iter().map(|told| told.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(told.iter().map(|told| told.event.clone()).collect::<Vec<_>>(), mine);
    assert!(told.windows(2).all(|pair| pair[0].global < pair[1].global));
    assert_eq!(store.events(of.clone(), 3, 1).await.unwrap()[..], told[3..4]);
    assert_eq!(store.last_event(of.clone()).await, Ok(5));
    let incidents = store.latest_events(of, EventType::Incident, 2).await.unwrap();
    assert_eq!(incidents, [told[4].clone(), told[2].clone()], "newest first");
    let others = store.events(Stream::Tenant(tenant("others")), 0, 100).await;
    assert_eq!(others, Ok(Vec::new()));
    let services = store.events(Stream::Service, 0, 1000).await.unwrap();
    assert_eq!(services.last().map(|told| &told.event), Some(&service));
    let all = store.events(Stream::All, told[0].global - 1, 6).await.unwrap();
    assert_eq!(all.iter().map(|told| told.event.clone()).collect::<Vec<_>>(), mixed);
}

async fn numbers_given_at_once_by_many_stay_without_gaps(store: &dyn Store) {
    let before = store.last_event(Stream::All).await.unwrap();
    let of = |n: u32| ["many-a", "many-b", "many-c"][(n % 3) as usize];
    let adding = join_all((100..160).map(|n| store.append_events(vec![event(n, Some(of(n)))])));
    let numbering = join_all((0..20).map(|_| store.number_events(5)));
    let (added, numbered) = futures_util::future::join(adding, numbering).await;
    assert!(added.iter().all(|one| *one == Ok(1)), "{added:?}");
    assert!(numbered.iter().all(Result::is_ok), "{numbered:?}");
    number(store).await;
    let all = store.events(Stream::All, before, 1000).await.unwrap();
    let expected: Vec<i64> = (before + 1..=before + 60).collect();
    assert_eq!(all.iter().map(|told| told.global).collect::<Vec<_>>(), expected);
    for name in ["many-a", "many-b", "many-c"] {
        let own = store.events(Stream::Tenant(tenant(name)), 0, 1000).await.unwrap();
        let own: Vec<i64> = own.iter().map(|told| told.sequence).collect();
        assert_eq!(own, (1..=20).collect::<Vec<_>>(), "{name}");
    }
}

async fn what_was_published_is_purged_in_time(store: &dyn Store) {
    loop {
        let all = store.unpublished(1000).await.unwrap();
        if all.is_empty() {
            break;
        }
        assert!(all.windows(2).all(|pair| pair[0].global < pair[1].global));
        let places = all.iter().map(|told| told.global).collect();
        store.mark_published(places).await.unwrap();
    }
    let fresh = vec![event(200, Some("purged")), event(201, Some("purged"))];
    store.append_events(fresh).await.unwrap();
    number(store).await;
    let one = store.unpublished(1).await.unwrap();
    assert_eq!(one.len(), 1);
    store.mark_published(vec![one[0].global]).await.unwrap();
    let hour = Duration::from_secs(3_600);
    while store.purge_events(hour, 100).await.unwrap() > 0 {}
    let left = store.events(Stream::Tenant(tenant("purged")), 0, 10).await.unwrap();
    assert_eq!(left.iter().map(|told| told.sequence).collect::<Vec<_>>(), [2], "not published");
    assert_eq!(store.last_event(Stream::Tenant(tenant("purged"))).await, Ok(2), "numbers go on");
    store.append_events(vec![event(202, Some("purged"))]).await.unwrap();
    number(store).await;
    let left = store.events(Stream::Tenant(tenant("purged")), 2, 10).await.unwrap();
    assert_eq!(left[0].sequence, 3);
}

async fn a_group_shares_events_and_what_is_not_acknowledged_comes_again_until_it_is_dead(
    store: &dyn Store,
) {
    let events: Vec<Event> = (300..304).map(|n| event(n, Some("groups"))).collect();
    store.append_events(events.clone()).await.unwrap();
    number(store).await;
    let g = || group("groups", "g");
    let patient = Delivering { most: 3, ..Delivering::default() };
    // Overdue at once.
    let hasty = Delivering { most: 3, ack_wait: Duration::ZERO, deliveries_max: 3 };
    let first = deliver(store, g(), hasty).await.unwrap();
    assert_eq!(numbers(&first), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(store.acknowledge(g(), vec![events[0].id, events[3].id]).await, Ok(1));
    assert_eq!(store.acknowledge(g(), vec![events[0].id]).await, Ok(0), "again");
    let second = deliver(store, g(), hasty).await.unwrap();
    assert_eq!(numbers(&second), [(2, 2), (3, 2), (4, 1)], "overdue ones, then a new one");
    assert_eq!(second[0].told.event, events[1], "the same event with the same id");
    let third = deliver(store, g(), patient).await.unwrap();
    assert_eq!(numbers(&third), [(2, 3), (3, 3), (4, 2)]);
    assert_eq!(deliver(store, g(), patient).await, Ok(Vec::new()), "nothing is overdue");
    let rest = Duration::from_secs(30);
    assert_eq!(
        store.refuse(g(), events[1].id, (rest, 3), Some("503".into())).await,
        Ok(true),
        "its last"
    );
    assert_eq!(store.refuse(g(), events[1].id, (rest, 3), None).await, Ok(false), "it is dead");
    assert_eq!(store.refuse(g(), events[3].id, (Duration::ZERO, 3), None).await, Ok(true));
    assert_eq!(numbers(&deliver(store, g(), patient).await.unwrap()), [(4, 3)]);
    let dead = store.dead_deliveries(g(), 0, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].sequence, dead[0].value.count), (second[0].told.global, 3));
    assert_eq!(dead[0].value.error.as_deref(), Some("503"));
    assert!(dead[0].value.at_ms >= third[0].at_ms, "when it died");
    assert_eq!(store.dead_deliveries(g(), dead[0].sequence, 10).await, Ok(Vec::new()));
    assert_eq!(store.end_dead(g(), events[2].id, Then::Discard).await, Ok(false), "not dead");
    assert_eq!(store.end_dead(g(), events[1].id, Then::Requeue).await, Ok(true));
    assert_eq!(numbers(&deliver(store, g(), patient).await.unwrap()), [(2, 1)]);
    assert_eq!(store.refuse(g(), events[1].id, (rest, 1), None).await, Ok(true));
    assert_eq!(store.end_dead(g(), events[1].id, Then::Discard).await, Ok(true));
    assert_eq!(store.dead_deliveries(g(), 0, 10).await, Ok(Vec::new()));
    assert_eq!(store.refuse(g(), events[2].id, (rest, 1), None).await, Ok(true));
    assert_eq!(store.count_dead(g()).await, Ok(1));
    let all = || events.iter().map(|event| event.id).collect();
    assert_eq!(store.acknowledge(g(), all()).await, Ok(2), "one that is out, and a dead one");
    assert_eq!(store.dead_deliveries(g(), 0, 10).await, Ok(Vec::new()), "nobody wants it any more");
}

async fn one_tenants_deliveries_keep_nobody_elses_waiting(store: &dyn Store) {
    let hooks = || Group { stream: Stream::All, name: "fair".into() };
    number(store).await;
    let end = Begin { after: i64::MAX, groups_max: u32::MAX };
    store.deliver(hooks(), end, NOTHING).await.unwrap();
    let many: Vec<Event> = (500..540).map(|n| event(n, Some("many"))).collect();
    store.append_events(many.clone()).await.unwrap();
    number(store).await;
    store.append_events((540..543).map(|n| event(n, Some("few"))).collect()).await.unwrap();
    number(store).await;
    let how = Delivering { most: 10, ..Delivering::default() };
    let fairly = async |out: &[(&str, u32)], each: u32| -> Vec<(String, i64, u32)> {
        let out = out.iter().map(|(name, n)| (tenant(name), *n)).collect();
        let given = store.deliver_fairly(hooks(), how, Shares { each, out }).await.unwrap();
        let of = |one: Delivery| {
            let tenant = one.told.event.tenant.unwrap().to_string();
            (tenant, one.told.sequence, one.count)
        };
        given.into_iter().map(of).collect()
    };
    let many_of = |from: i64, to: i64| (from..=to).map(|n| ("many".to_owned(), n, 1));
    let few = ("few".to_owned(), 1, 1);
    let first = fairly(&[], 1).await;
    assert_eq!(first, many_of(1, 1).chain([few]).collect::<Vec<_>>(), "each one's first");
    // It is refused, and its second delivery waits behind those that were never delivered.
    let refused = store.refuse(hooks(), many[0].id, (Duration::ZERO, 9), Some("x".into()));
    assert_eq!(refused.await, Ok(true));
    let next = fairly(&[("many", 3), ("few", 1)], 4).await;
    let expected = [("many".to_owned(), 2, 1), ("few".to_owned(), 2, 1), ("few".to_owned(), 3, 1)];
    assert_eq!(next, expected);
    assert!(
        fairly(&[("many", 4)], 4).await.is_empty(),
        "whoever has its share out is not given more"
    );
    let rest = fairly(&[], 100).await;
    assert_eq!(rest, many_of(3, 12).collect::<Vec<_>>());
    let mut left = Vec::new();
    while let more = fairly(&[], 100).await
        && !more.is_empty()
    {
        left.extend(more);
    }
    assert_eq!(left.len(), 29, "each once: {left:?}");
    assert_eq!(left.last(), Some(&("many".to_owned(), 1, 2)), "what was refused comes last");
}

async fn two_members_are_never_given_the_same_event(store: &dyn Store) {
    let events: Vec<Event> = (400..440).map(|n| event(n, Some("members"))).collect();
    store.append_events(events).await.unwrap();
    number(store).await;
    let how = Delivering { most: 3, ..Delivering::default() };
    let asked = join_all((0..20).map(|_| deliver(store, group("members", "g"), how))).await;
    let mut given: Vec<i64> = asked
        .into_iter()
        .flat_map(|one| one.unwrap().into_iter().map(|one| one.told.sequence))
        .collect();
    given.sort_unstable();
    assert_eq!(given, (1..=40).collect::<Vec<_>>());
}

async fn a_group_starts_where_it_is_told_and_two_groups_know_nothing_of_each_other(
    store: &dyn Store,
) {
    let late = || group("members", "late");
    let begin = |after: i64, groups_max: u32| Begin { after, groups_max };
    assert_eq!(store.deliver(late(), begin(38, 0), NOTHING).await, Ok(None));
    assert_eq!(store.deliver(late(), begin(38, 9), NOTHING).await, Ok(Some(Vec::new())));
    let there = store.deliver(late(), begin(0, 0), NOTHING).await;
    assert_eq!(there, Ok(Some(Vec::new())), "it is there");
    let how = Delivering::default();
    assert_eq!(numbers(&deliver(store, late(), how).await.unwrap()), [(39, 1), (40, 1)]);
    let same_name = group("groups", "late");
    assert_eq!(deliver(store, same_name, how).await.unwrap().len(), 4, "another tenant's stream");
    let end = group("members", "end");
    store.deliver(end.clone(), begin(i64::MAX, 9), NOTHING).await.unwrap();
    assert_eq!(deliver(store, end, how).await, Ok(Vec::new()));
}

async fn a_stream_has_so_many_groups_and_those_that_would_begin_anew_make_room(store: &dyn Store) {
    let keep = |range: std::ops::Range<u32>| -> Vec<Event> {
        range.map(|n| event(n, Some("full"))).collect()
    };
    store.append_events(keep(500..503)).await.unwrap();
    number(store).await;
    let begin = Begin { after: 0, groups_max: 3 };
    let ask = |name: &str| store.deliver(group("full", name), begin, Delivering::default());
    let names = ["a", "b", "c", "d", "e"];
    let racing = join_all(names.map(|name| async move { (name, ask(name).await.unwrap()) })).await;
    let (in_time, late): (Vec<_>, Vec<_>) = racing.iter().partition(|(_, given)| given.is_some());
    assert_eq!((in_time.len(), late.len()), (3, 2), "first calls at one moment: {racing:?}");
    assert!(in_time.iter().all(|(_, given)| given.as_ref().is_some_and(|given| given.len() == 3)));
    assert_eq!(ask(late[0].0).await, Ok(None));
    assert_eq!(ask(in_time[0].0).await, Ok(Some(Vec::new())), "who is there goes on");
    let elsewhere = store.deliver(group("full-too", "new"), begin, NOTHING).await;
    assert_eq!(elsewhere, Ok(Some(Vec::new())), "another tenant's are its own");
    // What they were given is kept no longer.
    let places = store.unpublished(1_000).await.unwrap().iter().map(|told| told.global).collect();
    store.mark_published(places).await.unwrap();
    while store.purge_events(Duration::ZERO, 100).await.unwrap() > 0 {}
    store.append_events(keep(503..504)).await.unwrap();
    number(store).await;
    let count = async |name: &str| ask(name).await.unwrap().map(|given| given.len());
    assert_eq!(
        (count(late[0].0).await, count(in_time[0].0).await),
        (Some(1), Some(1)),
        "nothing is missed"
    );
}

async fn only_ends_of_jobs_with_a_callback_are_callbacks(store: &dyn Store) {
    number(store).await;
    let hooks = || Group { stream: Stream::Callbacks, name: "webhooks".into() };
    let end = Begin { after: i64::MAX, groups_max: 9 };
    store.deliver(hooks(), end, NOTHING).await.unwrap();
    let by = worker();
    store.enter(by).await.unwrap();
    let with = added(store, NewJob { callback: Some(vec![1]), ..new_job("hooks") }).await.of;
    let without = added(store, new_job("hooks")).await.of;
    for taken in take(store, by, "hooks", 2).await {
        let ending = Ending::Failed(error("X"));
        assert_eq!(store.end_attempt(taken.lease, ending).await, Ok(true));
    }
    assert_eq!(told(store, &without).await.len(), 3);
    let given = deliver(store, hooks(), Delivering::default()).await.unwrap();
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].told.event.event_type, EventType::JobFailed);
    assert_eq!(given[0].told.event.source, format!("job/{}", with.id));
    store.leave(by).await.unwrap();
}
