use super::*;
use proptest::prelude::*;

fn spec() -> BreakerSpec {
    BreakerSpec {
        mode: BreakerMode::Window,
        failures: 5,
        window: Duration::from_secs(60),
        failure_ratio: 0.5,
        open_for: Duration::from_secs(60),
        open_max: Duration::from_secs(300),
        probes: 3,
        slow_call: None,
    }
}

/// Plays `at_second event expected_state`; `+` success, `-` failure, `~` released, `?` look,
/// `x` expects a refusal, `O` `C` `R` by hand.
fn check(spec: BreakerSpec, timeline: &[(u64, char, BreakerState)]) {
    let (start, mut breaker) = (Instant::now(), Breaker::default());
    for (step, &(second, event, expected)) in timeline.iter().enumerate() {
        let now = start + Duration::from_secs(second);
        let ended = match event {
            '+' => Some(Ended::Success),
            '-' => Some(Ended::Failure),
            '~' => Some(Ended::Released),
            'x' => {
                assert!(breaker.admit(&spec, now).is_none(), "step {step}");
                None
            }
            'O' => {
                breaker.force(Force::Open, now);
                None
            }
            'C' => {
                breaker.force(Force::Close, now);
                None
            }
            'R' => {
                breaker.force(Force::Reset, now);
                None
            }
            _ => None,
        };
        if let Some(ended) = ended {
            let admission = breaker.admit(&spec, now).unwrap_or_else(|| panic!("step {step}"));
            breaker.record(&spec, admission, ended, now);
        }
        assert_eq!(breaker.state(now), expected, "step {step}");
    }
}

use BreakerState::{Closed, HalfOpen, Open};

#[test]
fn five_failures_in_a_minute_open_it_and_three_probes_close_it() {
    check(
        spec(),
        &[
            (0, '-', Closed),
            (10, '-', Closed),
            (20, '-', Closed),
            (30, '-', Closed),
            (59, '-', Open),
            (60, 'x', Open),
            (118, 'x', Open),
            (119, '+', HalfOpen),
            (119, '~', HalfOpen),
            (120, '+', HalfOpen),
            (120, '+', Closed),
            (121, '-', Closed),
        ],
    );
}

#[test]
fn failures_older_than_the_window_are_forgotten() {
    check(
        spec(),
        &[
            (0, '-', Closed),
            (1, '-', Closed),
            (2, '-', Closed),
            (3, '-', Closed),
            (60, '-', Closed),
            (61, '-', Closed),
            (62, '-', Closed),
            (62, '-', Open),
        ],
    );
}

#[test]
fn many_successes_keep_five_failures_from_opening_it() {
    let mut timeline = vec![(0, '+', Closed); 6];
    timeline.extend([(1, '-', Closed); 5]);
    timeline.push((2, '-', Open));
    check(spec(), &timeline);
    let consecutive = BreakerSpec { mode: BreakerMode::Consecutive, ..spec() };
    timeline[10].2 = Open;
    check(consecutive, &timeline[..11]);
}

#[test]
fn a_failed_probe_doubles_the_pause_up_to_five_minutes() {
    let mut timeline = vec![(0, '-', Closed); 4];
    timeline.push((0, '-', Open));
    let mut at = 0;
    for pause in [60, 120, 240, 300, 300] {
        timeline.push((at + pause - 1, 'x', Open));
        timeline.push((at + pause, '-', Open));
        at += pause;
    }
    check(spec(), &timeline);
}

#[test]
fn a_trip_is_two_turns_however_many_calls_and_probes_fail_meanwhile() {
    let (spec, start, mut breaker) = (spec(), Instant::now(), Breaker::default());
    let mut play = |second: u64, ended: Ended| {
        let now = start + Duration::from_secs(second);
        let admission = breaker.admit(&spec, now);
        admission.into_iter().for_each(|one| breaker.record(&spec, one, ended, now));
        breaker.turns()
    };
    assert_eq!((0..4).map(|_| play(0, Ended::Failure)).max(), Some(0));
    assert_eq!((0..9).map(|_| play(0, Ended::Failure)).max(), Some(1), "open, then refusals");
    assert_eq!(play(60, Ended::Failure), 1, "a failed probe");
    assert_eq!((0..3).map(|_| play(180, Ended::Success)).max(), Some(2), "closed");
}

#[test]
fn a_hand_on_it_stays_until_reset() {
    check(
        spec(),
        &[
            (0, 'O', Open),
            (9999, 'x', Open),
            (9999, 'C', Closed),
            (9999, '-', Closed),
            (9999, '-', Closed),
            (9999, '-', Closed),
            (9999, '-', Closed),
            (9999, '-', Closed),
            (9999, 'R', Closed),
            (9999, '-', Closed),
            (9999, '-', Closed),
            (9999, '-', Closed),
            (9999, '-', Closed),
            (9999, '-', Open),
            (9999, 'R', Closed),
        ],
    );
}

#[test]
fn slow_successes_count_as_failures() {
    let spec = BreakerSpec { slow_call: Some(Duration::from_secs(1)), ..spec() };
    let (start, mut breaker) = (Instant::now(), Breaker::default());
    for _ in 0..5 {
        let admission = breaker.admit(&spec, start).unwrap();
        breaker.record(&spec, admission, Ended::Success, start + Duration::from_secs(2));
    }
    assert_eq!(breaker.state(start + Duration::from_secs(2)), Open);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whatever_happens_probes_are_bounded_and_open_refuses(
        events in proptest::collection::vec((0u8..5, 0u64..40, 0usize..8), 1..120),
    ) {
        let spec = spec();
        let (mut now, mut breaker) = (Instant::now(), Breaker::default());
        let mut running: Vec<(Admission, BreakerState)> = Vec::new();
        for (event, seconds, which) in events {
            now += Duration::from_secs(seconds);
            if event < 2 {
                let before = breaker.state(now);
                let admission = breaker.admit(&spec, now);
                prop_assert!(!(before == Open && admission.is_some()));
                prop_assert!(!(before == Closed && admission.is_none()));
                running.extend(admission.map(|a| (a, before)));
            } else if !running.is_empty() {
                let (admission, _) = running.swap_remove(which % running.len());
                let ended = [Ended::Success, Ended::Failure, Ended::Released][event as usize - 2];
                breaker.record(&spec, admission, ended, now);
            }
            let probes = running.iter().filter(|(a, s)| *s == HalfOpen && a.epoch == breaker.epoch);
            prop_assert!(probes.count() <= spec.probes as usize);
            let stats = breaker.stats();
            prop_assert_eq!(stats.total, stats.failures + stats.successes);
            prop_assert!(breaker.next_attempt(now).is_none_or(|left| left <= spec.open_max));
        }
    }
}
