//! The circuit breaker against the model in `models/breaker.rs`, over random histories whose clock is a
//! number, and against its promises while many threads use it at once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail by panicking and say what it met"
)]

#[path = "models/breaker.rs"]
mod model;
#[path = "models/tally.rs"]
mod tally;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use detector_orchestrator::operations::breaker::{
    Admission, Breaker, BreakerMode, BreakerSpec, BreakerState, Ended, Force,
};
use model::{Call, Hand, Model, Rules};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tally::Tally;
use tokio::time::Instant;

const HISTORIES: u32 = 10_000;

/// One thing that happens, so many milliseconds after the one before.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A call asks to be let in.
    Asks,
    /// The n-th of the calls under way ends.
    Ends(usize, model::Result),
    /// An operator lays a hand on it, or takes it off.
    Forced(Option<Hand>),
}

fn rules() -> impl Strategy<Value = Rules> {
    let counts = (any::<bool>(), 1usize..6, 1usize..4);
    let times =
        (prop_oneof![Just(1_000u64), Just(10_000)], prop_oneof![Just(500u64), Just(200_000)]);
    let ratio = prop_oneof![Just(0.0), Just(0.5), Just(0.75), Just(1.0)];
    (counts, times, ratio).prop_map(
        |((consecutive, failures, probes), (window, open_for), ratio)| Rules {
            consecutive,
            failures,
            window,
            ratio,
            open_for,
            probes,
        },
    )
}

fn history() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let result = prop_oneof![
        6 => Just(model::Result::Failed),
        4 => Just(model::Result::Good),
        1 => Just(model::Result::Dropped),
    ];
    let event = prop_oneof![
        30 => Just(Event::Asks),
        30 => (0usize..4, result).prop_map(|(nth, result)| Event::Ends(nth, result)),
        1 => prop_oneof![Just(None), Just(Some(Hand::Open)), Just(Some(Hand::Close))]
            .prop_map(Event::Forced),
    ];
    // Steps of 1, so that the edge of a window and of a pause is met; long ones to pass over it.
    let pause = prop_oneof![
        12 => 0u64..40,
        4 => 400u64..600,
        2 => Just(500u64),
        2 => Just(1_000u64),
        1 => 100_000u64..400_000,
    ];
    prop::collection::vec((pause, event), 1..120)
}

fn spec(rules: Rules) -> BreakerSpec {
    BreakerSpec {
        mode: if rules.consecutive { BreakerMode::Consecutive } else { BreakerMode::Window },
        failures: u32::try_from(rules.failures).unwrap(),
        window: Duration::from_millis(rules.window),
        failure_ratio: rules.ratio,
        open_for: Duration::from_millis(rules.open_for),
        open_max: Duration::from_secs(300),
        probes: u32::try_from(rules.probes).unwrap(),
        slow_call: None,
    }
}

/// Both sides of one history.
struct Pair {
    model: Model,
    breaker: Breaker,
    spec: BreakerSpec,
    start: Instant,
    /// Calls under way, as each side knows them.
    running: Vec<(Call, Admission)>,
    met: Vec<&'static str>,
}

impl Pair {
    fn happens(&mut self, event: Event, now: u64) -> Result<(), TestCaseError> {
        let at = self.start + Duration::from_millis(now);
        match event {
            Event::Asks => {
                let (call, admission) = (self.model.admit(now), self.breaker.admit(&self.spec, at));
                prop_assert_eq!(call.is_some(), admission.is_some(), "let in at {}", now);
                self.running.extend(call.zip(admission));
                self.met.push(if call.is_some() { "let in" } else { "refused" });
            }
            Event::Ends(nth, result) if nth < self.running.len() => {
                let (call, admission) = self.running.swap_remove(nth);
                let ended = match result {
                    model::Result::Good => Ended::Success,
                    model::Result::Failed => Ended::Failure,
                    model::Result::Dropped => Ended::Released,
                };
                self.model.end(call, result, now);
                self.breaker.record(&self.spec, admission, ended, at);
            }
            Event::Ends(..) => {}
            Event::Forced(hand) => {
                self.model.force(hand);
                let how = match hand {
                    None => Force::Reset,
                    Some(Hand::Open) => Force::Open,
                    Some(Hand::Close) => Force::Close,
                };
                self.breaker.force(how, at);
            }
        }
        let state = self.model.state(now);
        prop_assert_eq!(state, self.breaker.state(at).name(), "after {:?} at {}", event, now);
        self.met.push(state);
        Ok(())
    }
}

#[test]
fn every_history_leads_where_the_model_says() {
    let tally = Tally::default();
    let config = Config { cases: HISTORIES, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&(rules(), history()), |(rules, history)| {
        let mut pair = Pair {
            model: Model::new(rules),
            breaker: Breaker::default(),
            spec: spec(rules),
            start: Instant::now(),
            running: Vec::new(),
            met: Vec::new(),
        };
        let mut now = 0;
        for (pause, event) in history {
            now += pause;
            pair.happens(event, now)?;
        }
        let met = |class: &'static str| (class, pair.met.contains(&class));
        let reopened = pair.met.windows(2).filter(|two| *two == ["half_open", "open"]).count() > 0;
        tally.case(&[
            ("consecutive", rules.consecutive),
            ("window", !rules.consecutive),
            met("let in"),
            met("refused"),
            met("closed"),
            met("open"),
            met("half_open"),
            ("reopened", reopened),
        ]);
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
    tally.every_class_was_met("histories of a breaker");
}

#[test]
fn never_more_probes_at_once_than_allowed_whoever_asks() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 300;
    let rules =
        Rules { consecutive: true, failures: 1, window: 1_000, ratio: 0.0, open_for: 1, probes: 3 };
    let spec = spec(rules);
    let (let_in, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for _ in 0..ROUNDS {
        let breaker = Mutex::new(Breaker::default());
        let start = Instant::now();
        let first = breaker.lock().unwrap().admit(&spec, start).unwrap();
        breaker.lock().unwrap().record(&spec, first, Ended::Failure, start);
        let later = start + Duration::from_millis(1);
        assert_eq!(breaker.lock().unwrap().state(later), BreakerState::HalfOpen);
        let (under_way, together) = (AtomicUsize::new(0), Barrier::new(THREADS));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    together.wait();
                    let Some(probe) = breaker.lock().unwrap().admit(&spec, later) else { return };
                    let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    let_in.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    breaker.lock().unwrap().record(&spec, probe, Ended::Released, later);
                });
            }
        });
        assert_eq!(breaker.lock().unwrap().state(later), BreakerState::HalfOpen);
    }
    println!(
        "{} probes of {ROUNDS} rounds, {} at once",
        let_in.load(Ordering::SeqCst),
        most.load(Ordering::SeqCst)
    );
    assert!(most.load(Ordering::SeqCst) <= 3);
    assert!(let_in.load(Ordering::SeqCst) >= 3 * ROUNDS, "probes were hardly tried");
}
