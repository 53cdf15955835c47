//! Over a real store: nothing told is lost or heard twice by whom it was heard before.

#![expect(clippy::disallowed_methods, reason = "what a test spawns ends with its runtime")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::bus::{Announcer, Bus, BusError, Found, Local, Message, Published, Ring};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventType};
use crate::domain::id::TenantId;
use crate::metrics::Metrics;
use crate::store::{Place, Sqlite, SqliteOptions, Store, Stream};

fn store() -> Arc<dyn Store> {
    Arc::new(Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap())
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn event(number: u32, of: &str) -> Event {
    Event {
        id: Digest::of_all([of.as_bytes(), &number.to_be_bytes()]),
        event_type: EventType::Incident,
        tenant: Some(tenant(of)),
        at_ms: i64::from(number),
        source: "test".to_owned(),
        data: json!({ "number": number }),
    }
}

/// Keeps and numbers events of `acme`.
async fn told(store: &dyn Store, numbers: std::ops::Range<u32>) {
    store.append_events(numbers.map(|n| event(n, "acme")).collect()).await.unwrap();
    while store.number_events(256).await.unwrap() > 0 {}
}

/// The store works in real time, so the clock is moved only while nothing is asked of it.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

/// A bus that takes as many messages as it has been granted, and may lose everything.
#[derive(Default)]
struct Moody {
    bells: Local,
    granted: AtomicUsize,
    kept: Mutex<Vec<Message>>,
    forgot: AtomicBool,
}

impl Moody {
    fn numbers(&self) -> Vec<u64> {
        let kept = self.kept.lock().unwrap();
        let of = |message: &Message| {
            let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
            body["data"]["number"].as_u64().unwrap()
        };
        kept.iter().map(of).collect()
    }
}

impl Bus for Moody {
    fn prepare(&self) -> BoxFuture<'_, Result<Found, BusError>> {
        let forgot = self.forgot.swap(false, Ordering::Relaxed);
        let found = if forgot { Found::Nothing } else { Found::Kept };
        Box::pin(std::future::ready(Ok(found)))
    }

    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Published> {
        let granted = self.granted.load(Ordering::Relaxed);
        let taken = messages.len().min(granted);
        self.granted.store(granted - taken, Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap();
        for message in &messages[..taken] {
            if !kept.iter().any(|known| known.id == message.id) {
                kept.push(message.clone());
            }
        }
        let error = (taken < messages.len()).then_some(BusError::Away);
        Box::pin(std::future::ready(Published { taken, error }))
    }

    fn ring(&self, ring: Ring) {
        self.bells.ring(ring);
    }

    fn is_open(&self) -> Option<bool> {
        None
    }

    fn listen(&self, ring: Ring) -> watch::Receiver<u64> {
        self.bells.listen(ring)
    }

    fn keep(&self) -> BoxFuture<'_, ()> {
        self.bells.keep()
    }
}

/// A publisher with handlers of which one panics and one fails; how often the sound one heard.
fn publisher(
    store: &Arc<dyn Store>,
    bus: &Arc<Moody>,
) -> (Publisher, Arc<AtomicUsize>, Arc<Metrics>) {
    let heard = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&heard);
    let metrics = Arc::new(Metrics::new(&[], "test").unwrap());
    let handlers = Handlers::new(Arc::clone(&metrics))
        .with("panics", |_| panic!("a handler of this test"))
        .with("fails", |_| Err("it cannot".to_owned()))
        .with("log", said)
        .with("sound", move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
    let (store, shared) = (Arc::clone(store), Arc::<Moody>::clone(bus));
    (Publisher::new(store, shared, handlers, Arc::clone(&metrics)), heard, metrics)
}

#[tokio::test]
async fn whatever_a_bus_refuses_is_handed_over_later_in_order_and_heard_here_once() {
    let (store, bus) = (store(), Arc::new(Moody::default()));
    let (mut publisher, heard, metrics) = publisher(&store, &bus);
    told(&*store, 0..600).await;
    for granted in [0, 1, 99, 3, 256, 500] {
        bus.granted.store(granted, Ordering::Relaxed);
        publisher.step().await.unwrap();
        later(5).await;
    }
    assert_eq!(bus.numbers(), (0..600).collect::<Vec<u64>>());
    assert_eq!(heard.load(Ordering::Relaxed), 600);
    assert!(store.unpublished(10).await.unwrap().is_empty());
    let text = metrics.render().unwrap();
    let sound = r#"events_handled_total{event_type="incident",handler="sound"} 600"#;
    assert!(text.contains(sound) && !text.contains(r#"handler="panics""#), "{text}");
    assert!(text.contains(r#"events_published_total{event_type="incident"} 600"#), "{text}");
}

#[tokio::test]
async fn a_bus_that_lost_everything_gets_everything_again() {
    let (store, bus) = (store(), Arc::new(Moody::default()));
    let (mut publisher, heard, _) = publisher(&store, &bus);
    bus.granted.store(1_000_000, Ordering::Relaxed);
    told(&*store, 0..300).await;
    publisher.step().await.unwrap();
    bus.kept.lock().unwrap().clear();
    bus.forgot.store(true, Ordering::Relaxed);
    // It fails once more while all of it is handed over again.
    bus.granted.store(270, Ordering::Relaxed);
    for round in 0..4 {
        later(11).await;
        publisher.step().await.unwrap();
        if round == 0 {
            assert_eq!(bus.numbers().len(), 270);
            bus.granted.store(1_000_000, Ordering::Relaxed);
        }
    }
    assert_eq!(bus.numbers(), (0..300).collect::<Vec<u64>>());
    assert_eq!(heard.load(Ordering::Relaxed), 300, "nobody here hears it again");
}

#[tokio::test]
async fn what_is_announced_is_kept_once_and_heard_by_who_listens() {
    let (store, bus, announcer) = (store(), Local::default(), Announcer::default());
    let id = Digest::of(b"the same at every instance");
    for _ in 0..3 {
        let of = (Some(tenant("acme")), "policy/standard".to_owned());
        announcer.tell_as(id, EventType::PolicyChanged, of, json!({}));
    }
    announcer.tell(EventType::ConfigReloaded, None, "instance/x", json!({}));
    assert!(flush(&announcer, &*store, &bus).await);
    while store.number_events(256).await.unwrap() > 0 {}
    let own = store.events(Stream::Tenant(tenant("acme")), 0, 10).await.unwrap();
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].event.id, id);
    let of_service = store.events(Stream::Service, 0, 10).await.unwrap();
    assert_eq!(of_service.len(), 1);
    assert_eq!(of_service[0].event.event_type, EventType::ConfigReloaded);
}

/// A feed that looks for what is new.
fn feed(store: &Arc<dyn Store>, bus: &Arc<Local>, most: usize) -> Arc<Feed> {
    let feed = Arc::new(Feed::new(Arc::clone(store), most));
    let (looking, bus) = (Arc::clone(&feed), Arc::clone(bus));
    tokio::spawn(async move { looking.run(&*bus).await });
    feed
}

async fn next_numbers(listener: &mut Listener, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let heard = tokio::time::timeout(Duration::from_secs(20), listener.next()).await;
        match heard.expect("nothing is heard") {
            Some(Heard::Told(told)) => numbers.push(told.event.data["number"].as_u64().unwrap()),
            other => panic!("{other:?} after {numbers:?}"),
        }
    }
    numbers
}

#[tokio::test]
async fn a_listener_hears_all_from_where_it_was_and_then_what_happens_each_once() {
    let (store, bus) = (store(), Arc::new(Local::default()));
    let feed = feed(&store, &bus, 10);
    let stream = Stream::Tenant(tenant("acme"));
    told(&*store, 0..250).await;
    store.append_events(vec![event(0, "globex")]).await.unwrap();
    let mut first = feed.listen(stream.clone(), Some(0)).unwrap();
    let mut later = feed.listen(stream.clone(), Some(240)).unwrap();
    let mut new = feed.listen(stream, None).unwrap();
    // Where "now" is, is known once it listens.
    let waited = tokio::time::timeout(Duration::from_millis(300), new.next()).await;
    assert!(waited.is_err(), "nothing has happened since");
    for round in 0..5 {
        told(&*store, 250 + round * 20..270 + round * 20).await;
        bus.ring(Ring::Events);
    }
    assert_eq!(next_numbers(&mut first, 350).await, (0..350).collect::<Vec<u64>>());
    assert_eq!(next_numbers(&mut later, 110).await, (240..350).collect::<Vec<u64>>());
    assert_eq!(next_numbers(&mut new, 100).await, (250..350).collect::<Vec<u64>>());
    feed.close();
    assert!(matches!(first.next().await, Some(Heard::Closing)));
    assert!(first.next().await.is_none());
}

#[tokio::test]
async fn what_happens_before_the_first_look_is_heard_by_who_listens_already() {
    let (store, bus) = (store(), Arc::new(Local::default()));
    let idle = Arc::new(Feed::new(Arc::clone(&store), 10));
    let stream = Stream::Tenant(tenant("acme"));
    told(&*store, 0..5).await;
    let mut new = idle.listen(stream.clone(), None).unwrap();
    let mut later = idle.listen(stream, Some(2)).unwrap();
    assert_eq!(new.begin().await, Ok(5));
    let waited = tokio::time::timeout(Duration::from_millis(300), new.next()).await;
    assert!(waited.is_err(), "nothing has happened since");
    told(&*store, 5..8).await;
    assert_eq!(next_numbers(&mut later, 6).await, (2..8).collect::<Vec<u64>>());
    let looking = Arc::clone(&idle);
    tokio::spawn(async move { looking.run(&*bus).await });
    assert_eq!(next_numbers(&mut new, 3).await, (5..8).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_slow_listener_is_told_and_hears_the_rest_when_it_comes_again() {
    let (store, bus) = (store(), Arc::new(Local::default()));
    let feed = feed(&store, &bus, 2);
    let stream = Stream::Tenant(tenant("acme"));
    let mut slow = feed.listen(stream.clone(), Some(0)).unwrap();
    let mut quick = feed.listen(stream.clone(), Some(0)).unwrap();
    assert_eq!(feed.listen(stream.clone(), None).err(), Some(Full { most: 2 }));
    told(&*store, 0..1).await;
    bus.ring(Ring::Events);
    assert_eq!(next_numbers(&mut slow, 1).await, [0]);
    // It is up to date, and then takes nothing for a while.
    let live = tokio::time::timeout(Duration::from_millis(300), slow.next()).await;
    assert!(live.is_err());
    told(&*store, 1..600).await;
    bus.ring(Ring::Events);
    let all = next_numbers(&mut quick, 600).await;
    assert_eq!(all, (0..600).collect::<Vec<u64>>());
    let mut heard = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_secs(20), slow.next()).await.unwrap() {
            Some(Heard::Told(told)) => heard.push(told.sequence),
            Some(Heard::Slow) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(slow.next().await.is_none());
    let after = slow.after();
    drop(slow);
    let mut again = feed.listen(stream, Some(after)).unwrap();
    let left = 600 - usize::try_from(after).unwrap();
    let rest = next_numbers(&mut again, left).await;
    assert_eq!(rest.last(), Some(&599));
    assert_eq!(rest.len() + heard.len() + 1, 600);
}

#[tokio::test]
async fn what_happens_before_the_feed_first_looks_is_heard() {
    let (store, bus) = (store(), Arc::new(Local::default()));
    let feed = Arc::new(Feed::new(Arc::clone(&store), 1));
    let mut only = feed.listen(Stream::Tenant(tenant("acme")), Some(0)).unwrap();
    // It has read to the end, and nobody has looked for it yet.
    let read = tokio::time::timeout(Duration::from_millis(300), only.next()).await;
    assert!(read.is_err(), "nothing has happened");
    told(&*store, 0..1).await;
    let looking = Arc::clone(&feed);
    tokio::spawn(async move { looking.run(&*bus).await });
    assert_eq!(next_numbers(&mut only, 1).await, [0]);
}

#[tokio::test]
async fn a_place_that_was_never_given_is_told_and_what_comes_next_is_heard_by_all() {
    let (store, bus) = (store(), Arc::new(Local::default()));
    let feed = feed(&store, &bus, 10);
    let stream = Stream::Tenant(tenant("acme"));
    told(&*store, 0..2).await;
    let mut lost = feed.listen(stream.clone(), Some(99)).unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(20), lost.next()).await.unwrap();
    assert!(matches!(heard, Some(Heard::Missed(99, 3))), "{heard:?}");
    let mut new = feed.listen(stream, None).unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(300), new.next()).await;
    assert!(waited.is_err(), "nothing has happened since");
    told(&*store, 2..4).await;
    bus.ring(Ring::Events);
    assert_eq!(next_numbers(&mut lost, 2).await, [2, 3]);
    assert_eq!(next_numbers(&mut new, 2).await, [2, 3]);
}

#[tokio::test]
async fn who_listens_while_a_backup_is_brought_back_is_told_and_hears_what_comes_then() {
    let sqlite = Arc::new(Sqlite::open(&SqliteOptions::at(Place::Memory)).unwrap());
    let store: Arc<dyn Store> = sqlite.clone();
    let bus = Arc::new(Local::default());
    let feed = feed(&store, &bus, 10);
    let stream = Stream::Tenant(tenant("acme"));
    told(&*store, 0..4).await;
    let mut old = feed.listen(stream.clone(), Some(2)).unwrap();
    let mut new = feed.listen(stream.clone(), None).unwrap();
    assert_eq!(next_numbers(&mut old, 2).await, [2, 3]);
    for listener in [&mut old, &mut new] {
        let waited = tokio::time::timeout(Duration::from_millis(300), listener.next()).await;
        assert!(waited.is_err(), "nothing has happened since");
    }
    sqlite.bring_back(stream, 1).await;
    for listener in [&mut old, &mut new] {
        let heard = tokio::time::timeout(Duration::from_secs(20), listener.next()).await.unwrap();
        assert!(matches!(heard, Some(Heard::Missed(4, 2))), "{heard:?}");
    }
    told(&*store, 5..7).await;
    bus.ring(Ring::Events);
    for listener in [&mut old, &mut new] {
        assert_eq!(next_numbers(listener, 2).await, [5, 6]);
    }
}
