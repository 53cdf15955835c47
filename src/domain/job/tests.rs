use uuid::Uuid;

use super::*;

/// As operations.md and docs/state-machine.md say it: from, to, whether only the service may.
const LEGAL: &[(&str, &str, bool)] = &[
    ("queued", "running", false),
    ("queued", "paused", false),
    ("queued", "cancelled", false),
    ("queued", "failed", false),
    ("running", "completed", false),
    ("running", "failed", false),
    ("running", "paused", false),
    ("running", "cancelled", false),
    ("running", "queued", true),
    ("paused", "queued", false),
    ("paused", "failed", false),
    ("paused", "cancelled", false),
    ("failed", "queued", false),
];

#[test]
fn of_all_36_pairs_exactly_the_documented_ones_are_legal() {
    let mut tried = 0;
    for from in JobState::ALL {
        for to in JobState::ALL {
            tried += 1;
            let row = LEGAL.iter().find(|row| (row.0, row.1) == (from.name(), to.name()));
            let (caller, service) = (row.is_some_and(|row| !row.2), row.is_some());
            for (mover, legal) in [(Mover::Caller, caller), (Mover::Service, service)] {
                let told = from.moved(*to, mover);
                assert_eq!(told.is_ok(), legal, "{from:?} {to:?} {mover:?}");
                let allowed = from.allowed(mover);
                if let Err(illegal) = told {
                    assert_eq!((illegal.from, illegal.to, illegal.allowed), (*from, *to, allowed));
                }
            }
        }
    }
    assert_eq!(tried, 36);
    let said = JobState::Completed.moved(JobState::Queued, Mover::Service).unwrap_err();
    assert_eq!(said.to_string(), "a job that is completed cannot become queued");
}

#[test]
fn the_documentation_shows_the_same_table() {
    let page = include_str!("../../../docs/state-machine.md");
    for from in JobState::ALL {
        let mut row = format!("| `{}` |", from.name());
        for to in JobState::ALL {
            let cell = match LEGAL.iter().find(|row| (row.0, row.1) == (from.name(), to.name())) {
                None => " ",
                Some((_, _, false)) => " yes ",
                Some((_, _, true)) => " inside ",
            };
            row.push_str(&format!("{cell}|"));
        }
        assert!(page.contains(&row), "docs/state-machine.md lacks the row\n{row}");
    }
    for priority in Priority::ALL {
        let Tries { most, first, cap } = Tries::of(priority);
        let row = format!(
            "| {} | {most} | {} s | {} s |",
            priority.name(),
            first.as_secs(),
            cap.as_secs()
        );
        assert!(page.contains(&row), "docs/state-machine.md lacks the row\n{row}");
    }
    for end in AttemptEnd::ALL {
        assert!(page.contains(&format!("| `{}` |", end.name())), "{end:?}");
    }
}

#[test]
fn every_deed_leads_where_its_name_says_and_nothing_leaves_an_end_but_a_requeue() {
    let to = [JobState::Paused, JobState::Queued, JobState::Cancelled, JobState::Queued];
    assert_eq!(Deed::ALL.iter().map(|deed| deed.to()).collect::<Vec<_>>(), to);
    for state in JobState::ALL.iter().filter(|state| state.is_terminal()) {
        let beyond = state.allowed(Mover::Service);
        assert!(beyond.is_empty() || *state == JobState::Failed, "{state:?}");
    }
}

#[test]
fn rests_double_up_to_their_cap_and_stray_by_a_fifth_at_most() {
    for (priority, seconds) in [
        (Priority::Critical, [1, 2, 4, 8, 16, 30, 30]),
        (Priority::High, [1, 2, 4, 8, 16, 30, 30]),
        (Priority::Normal, [2, 4, 8, 16, 32, 60, 60]),
        (Priority::Low, [5, 10, 20, 40, 80, 120, 120]),
        (Priority::Batch, [5, 10, 20, 40, 80, 120, 120]),
    ] {
        let tries = Tries::of(priority);
        for (attempt, seconds) in (1..).zip(seconds) {
            let of = |random| tries.rest(attempt, random).as_secs_f64() / f64::from(seconds);
            for (random, part) in [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2), (7.0, 1.2)] {
                assert!((of(random) - part).abs() < 1e-9, "{priority:?} {attempt} {random}");
            }
        }
        assert!(tries.rest(u32::MAX, 1.0) <= tries.cap.mul_f64(1.2));
    }
}

#[test]
fn what_cannot_mend_is_given_up_at_once_and_what_can_only_after_its_attempts() {
    let passing = Error::new(Code::Overloaded, "busy");
    for (priority, most) in [(Priority::High, 5), (Priority::Normal, 3), (Priority::Batch, 2)] {
        for attempt in 1..=most {
            let next = Next::after(&passing, priority, attempt, 0.5);
            assert_eq!(next == Next::Dead, attempt == most, "{priority:?} {attempt}: {next:?}");
        }
    }
    let lasting = Error::new(Code::InvalidRequest, "no");
    assert_eq!(Next::after(&lasting, Priority::High, 1, 0.5), Next::Dead);
    let told = Error::new(Code::RateLimited, "later").retry_after(Duration::from_secs(90));
    let next = Next::after(&told, Priority::High, 1, 0.5);
    assert_eq!(next, Next::Again(Duration::from_secs(90)), "whoever refused knows better");
}

fn key(of: u128) -> JobKey {
    JobKey { tenant: TenantId::parse("acme").unwrap(), id: JobId::of(Uuid::from_u128(of)) }
}

#[test]
fn the_same_move_has_the_same_event_id_and_any_other_another() {
    let (of, other) = (key(1), key(2));
    let one = Transition {
        number: 2,
        from: Some(JobState::Queued),
        to: JobState::Running,
        at_ms: 7,
        actor: "system".into(),
        reason: String::new(),
    };
    let id = one.event_id(of.id);
    assert_eq!(Transition { at_ms: 8, actor: "x".into(), ..one.clone() }.event_id(of.id), id);
    assert_ne!(one.event_id(other.id), id);
    assert_ne!(Transition { number: 3, ..one.clone() }.event_id(of.id), id);
    assert_ne!(Transition { to: JobState::Failed, ..one.clone() }.event_id(of.id), id);
    let event = one.event(Now {
        of: &of,
        job_type: JobType::Batch,
        priority: Priority::Low,
        attempts: 1,
        error_code: None,
    });
    assert_eq!(event.subject(), "orch.acme.detector.job.running");
    assert_eq!(
        event.data.to_string(),
        "{\"attempts\":1,\"from\":\"queued\",\"job_id\":\"00000000-0000-0000-0000-000000000001\",\
         \"job_type\":\"batch\",\"priority\":\"low\",\"state\":\"running\",\"version\":2}"
    );
    for state in JobState::ALL {
        assert_eq!(state.event_type().of_job(), Some(state.name()));
    }
}

#[test]
fn an_id_is_the_hyphenated_lower_case_form_alone() {
    let good = "01936f00-0000-7000-8000-00000000000a";
    assert_eq!(JobId::parse(good).unwrap().to_string(), good);
    for bad in ["", "x", &good.to_uppercase(), &good.replace('-', ""), &format!("{{{good}}}")] {
        assert_eq!(JobId::parse(bad), None, "{bad}");
    }
}

#[test]
fn silence_is_counted_from_the_first_look_and_any_beat_ends_it() {
    let worker = |n| WorkerId::of(Uuid::from_u128(n));
    let mut watch = Watch::default();
    let (one, two, beaten) = ((worker(1), 41), (worker(2), 1), (worker(2), 2));
    assert_eq!(watch.silent(&[one, two], 2), []);
    assert_eq!(watch.silent(&[one, two], 2), []);
    assert_eq!(watch.silent(&[one, beaten], 2), [one]);
    assert_eq!(watch.silent(&[beaten], 2), []);
    assert_eq!(watch.silent(&[one, beaten], 2), [beaten], "one was forgotten");
}

#[test]
fn nobody_is_silent_because_whoever_watches_could_not_look() {
    let one = (WorkerId::of(Uuid::from_u128(1)), 41);
    let mut watch = Watch::default();
    for _ in 0..3 {
        assert_eq!(watch.silent(&[one], 3), []);
    }
    watch.blinded();
    for _ in 0..3 {
        assert_eq!(watch.silent(&[one], 3), [], "the looks before were counted");
    }
    assert_eq!(watch.silent(&[one], 3), [one]);
}
