//! What every bus promises, and what NATS does when it is killed, wiped or hangs.

#![expect(clippy::disallowed_methods, reason = "what a test spawns ends with its runtime")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::nats_server::{Held, Server};
use super::*;
use crate::metrics::Metrics;

/// Of what a bus does within its time-outs, with room for a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// A call never takes longer, whatever becomes of the bus.
const BOUND: Duration = Duration::from_secs(6);

fn messages(range: std::ops::Range<u32>) -> Vec<Message> {
    let of = |n: u32| Message {
        id: format!("{n:064x}"),
        subject: format!("orch.acme.detector.job.{}", ["queued", "completed"][n as usize % 2]),
        body: format!("{{\"n\":{n}}}").into(),
    };
    range.map(of).collect()
}

/// Hands everything over, as often as it takes; how often a call failed.
async fn hand_over(bus: &dyn Bus, all: &[Message]) -> u32 {
    let (mut left, mut failures, until) = (all, 0, Instant::now() + SOON);
    while !left.is_empty() {
        let begun = Instant::now();
        let ready = bus.prepare().await.is_ok();
        let published = bus.publish(left).await;
        assert!(begun.elapsed() < BOUND, "a call took {:?}", begun.elapsed());
        assert_eq!(published.taken == left.len(), published.error.is_none());
        left = &left[published.taken..];
        if !ready || published.error.is_some() {
            failures += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(Instant::now() < until, "never taken: {:?}", published.error);
    }
    failures
}

async fn keeps_its_promises(bus: &dyn Bus, other: &dyn Bus) {
    let all = messages(0..300);
    hand_over(bus, &all).await;
    hand_over(other, &all).await;
    hand_over(bus, &[]).await;

    let [mut jobs, mut events] = [Ring::Jobs, Ring::Events].map(|ring| other.listen(ring));
    // Who is not heard is asked again: a ring may be lost while ways are made.
    let until = Instant::now() + SOON;
    while !jobs.has_changed().unwrap() {
        bus.ring(Ring::Jobs);
        let _ = tokio::time::timeout(Duration::from_millis(200), jobs.changed()).await;
        if jobs.borrow().to_owned() > 0 {
            break;
        }
        assert!(Instant::now() < until, "no ring was heard");
    }
    assert!(!events.has_changed().unwrap(), "another bell rang");
    other.ring(Ring::Events);
    let heard = tokio::time::timeout(SOON, events.changed()).await;
    heard.expect("one's own ring is heard at once").unwrap();
}

fn nats(server: &Server) -> Arc<Nats> {
    let metrics = Arc::new(Metrics::new(&[], "test").unwrap());
    let options = NatsOptions { url: server.url().into(), ca_file: None, metrics };
    let bus = Arc::new(Nats::new(options).unwrap());
    let kept = Arc::clone(&bus);
    tokio::spawn(async move { kept.keep().await });
    bus
}

/// All that NATS holds, sorted: what was on its way when a connection broke may come later.
async fn all_held(server: &Server) -> Vec<Held> {
    let mut held = server.held().await;
    held.sort();
    held
}

fn as_held(messages: &[Message]) -> Vec<Held> {
    let of = |message: &Message| Held {
        id: message.id.clone(),
        subject: message.subject.clone(),
        body: String::from_utf8(message.body.to_vec()).unwrap(),
    };
    messages.iter().map(of).collect()
}

#[tokio::test]
async fn one_process_keeps_the_promises_of_a_bus() {
    let bus = Local::default();
    keeps_its_promises(&bus, &bus).await;
}

#[tokio::test]
async fn two_instances_over_nats_keep_them_and_each_event_is_held_once_in_order() {
    let server = Server::start();
    let (a, b) = (nats(&server), nats(&server));
    keeps_its_promises(&*a, &*b).await;
    assert_eq!(server.held().await, as_held(&messages(0..300)));
}

#[tokio::test]
async fn a_killed_nats_loses_nothing_it_took_and_takes_the_rest_later() {
    let mut server = Server::start();
    let bus = nats(&server);
    hand_over(&*bus, &messages(0..100)).await;
    server.kill();
    let begun = Instant::now();
    let published = bus.publish(&messages(100..200)).await;
    assert!(published.taken == 0 && published.error.is_some() && begun.elapsed() < BOUND);
    let mut bell = bus.listen(Ring::Jobs);
    bus.ring(Ring::Jobs);
    assert!(bell.has_changed().unwrap(), "here it is heard all the same");
    bell.mark_unchanged();
    server.start_again();
    hand_over(&*bus, &messages(0..200)).await;
    assert_eq!(all_held(&server).await, as_held(&messages(0..200)));
    assert_eq!(bus.prepare().await.unwrap(), Found::Kept);
}

#[tokio::test]
async fn a_wiped_nats_says_so_and_gets_a_stream_again() {
    let mut server = Server::start();
    let bus = nats(&server);
    hand_over(&*bus, &messages(0..10)).await;
    server.kill();
    server.wipe();
    server.start_again();
    let until = Instant::now() + SOON;
    let found = loop {
        if let Ok(found) = bus.prepare().await {
            break found;
        }
        assert!(Instant::now() < until, "it is never ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(found, Found::Nothing);
    hand_over(&*bus, &messages(0..10)).await;
    assert_eq!(all_held(&server).await, as_held(&messages(0..10)));
}

#[tokio::test]
async fn a_hung_nats_ends_every_call_in_time_and_makes_no_duplicates_when_it_is_back() {
    let server = Server::start();
    let bus = nats(&server);
    hand_over(&*bus, &messages(0..10)).await;
    server.signal("-STOP");
    for _ in 0..2 {
        let begun = Instant::now();
        let published = bus.publish(&messages(10..300)).await;
        assert!(published.error.is_some());
        assert!(begun.elapsed() < BOUND, "it took {:?}", begun.elapsed());
    }
    server.signal("-CONT");
    hand_over(&*bus, &messages(10..300)).await;
    assert_eq!(all_held(&server).await, as_held(&messages(0..300)));
}

#[test]
fn what_can_never_be_reached_is_refused_at_once_without_its_password() {
    let metrics = Arc::new(Metrics::new(&[], "test").unwrap());
    let refused = |url: &str, ca_file: Option<&str>| {
        let (ca_file, metrics) = (ca_file.map(Into::into), Arc::clone(&metrics));
        let options = NatsOptions { url: url.into(), ca_file, metrics };
        Nats::new(options).err().map(|error| error.to_string()).unwrap()
    };
    for (told, expected) in [
        (refused("nats://u:canary@:4222", None), "no address of NATS"),
        (refused("http://u:canary@h", None), "no address of NATS"),
        (refused("tls://u:canary@h", Some("/nowhere/ca.pem")), "reading nats.ca_file"),
        (refused("tls://u:canary@h", Some("Cargo.toml")), "holds no certificate"),
    ] {
        assert!(told.contains(expected) && !told.contains("canary"), "{told}");
    }
}

#[test]
fn the_shipped_settings_are_valid_and_sync_what_is_acknowledged() {
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nats/nats.conf");
    let mut check = std::process::Command::new(super::nats_server::program());
    check.args(["-t", "-c", settings]).env("NATS_PASSWORD", "p");
    let checked = check.output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let text = std::fs::read_to_string(settings).unwrap();
    for line in ["sync_interval: always", "max_file_store: ", "max_memory_store: "] {
        assert!(text.lines().any(|l| l.trim_start().starts_with(line)), "{line}");
    }
}
