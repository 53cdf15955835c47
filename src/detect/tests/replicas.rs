//! Detectors with several replicas: weights, bad ones, rest, reloads, health.

use std::sync::atomic::AtomicU8;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::*;
use crate::detect::place::{Moment, Places};
use crate::operations::breaker::Ended;

/// What a replica does with a call.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mood {
    Well,
    Errors,
    /// Every second call.
    Flaps,
    Garbage,
    Closes,
    Hangs,
    /// With the next call.
    HangsFirst,
    Rests,
}

/// A service on a port of its own that keeps connections; `/health` fails unless it is well.
pub(super) struct Replica {
    pub(super) uri: String,
    pub(super) calls: Arc<AtomicUsize>,
    /// Hanging calls that were closed.
    left: Arc<AtomicUsize>,
    mood: Arc<AtomicU8>,
}

impl Replica {
    pub(super) async fn start(tasks: &mut JoinSet<()>, mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/analyze", listener.local_addr().unwrap());
        let calls = Arc::new(AtomicUsize::new(0));
        let mood = Arc::new(AtomicU8::new(mood as u8));
        let left = Arc::new(AtomicUsize::new(0));
        let (counted, gone, felt) = (Arc::clone(&calls), Arc::clone(&left), Arc::clone(&mood));
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let counts = (Arc::clone(&counted), Arc::clone(&gone));
                open.spawn(serve_replica(stream, counts, Arc::clone(&felt)));
            }
        });
        Self { uri, calls, left, mood }
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    fn feels(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }
}

type Counts = (Arc<AtomicUsize>, Arc<AtomicUsize>);

async fn serve_replica(stream: TcpStream, (calls, left): Counts, mood: Arc<AtomicU8>) {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
        if stream.read_line(&mut first).await.unwrap_or_default() == 0 {
            return;
        }
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await.unwrap_or_default() == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        if stream.read_exact(&mut vec![0; length]).await.is_err() {
            return;
        }
        let probe = first.starts_with("GET");
        let count = if probe { 0 } else { calls.fetch_add(1, Ordering::SeqCst) };
        let is = |wanted: Mood| mood.load(Ordering::SeqCst) == wanted as u8;
        let reply = if is(Mood::Well) || is(Mood::Flaps) && count.is_multiple_of(2) {
            ok(CLEAN)
        } else if probe || is(Mood::Closes) {
            return;
        } else if is(Mood::Hangs) || is(Mood::HangsFirst) {
            if is(Mood::HangsFirst) {
                mood.store(Mood::Well as u8, Ordering::SeqCst);
            }
            let _ = stream.read_u8().await;
            left.fetch_add(1, Ordering::SeqCst);
            return;
        } else if is(Mood::Garbage) {
            ok(r#"{"label":7}"#)
        } else if is(Mood::Rests) {
            http("503 Busy", "retry-after: 60\r\n", "")
        } else {
            http("500 Broken", "", "")
        };
        if stream.write_all(&reply).await.is_err() {
            return;
        }
    }
}

/// A detector at `replicas` with these weights, without retries.
pub(super) fn spread(replicas: &[(&Replica, u32)]) -> Detector {
    let mut endpoints = replicas
        .iter()
        .map(|(replica, weight)| file::Endpoint { weight: *weight, ..endpoint_at(&replica.uri) });
    Detector {
        endpoint: endpoints.next(),
        replicas: endpoints.collect(),
        timeout: Duration::from_secs(2),
        ..detector("d", Protocol::Native, "")
    }
}

/// `many` calls one after another; how they ended.
async fn calls(detectors: &Detectors, detector: &Detector, many: usize) -> Vec<Report> {
    let asks = [ask(detector.clone())];
    let mut reports = Vec::new();
    for number in 0..many {
        let text = number.to_string();
        reports.extend(detectors.fan_out(&asks, &sample(&[&text]).work(), soon()).await);
    }
    reports
}

fn failed(reports: &[Report]) -> usize {
    reports.iter().filter(|report| report.status != Status::Success).count()
}

#[tokio::test]
async fn weights_hold_within_three_percent_of_2000_calls() {
    let mut tasks = JoinSet::new();
    let heavy = Replica::start(&mut tasks, Mood::Well).await;
    let light = Replica::start(&mut tasks, Mood::Well).await;
    let (detectors, detector) = (detectors(), spread(&[(&heavy, 3), (&light, 1)]));
    let lanes = (0..8).map(|_| calls(&detectors, &detector, 250));
    let reports: Vec<_> = join_all(lanes).await.concat();
    assert_eq!((reports.len(), failed(&reports)), (2000, 0));
    assert_eq!(heavy.calls() + light.calls(), 2000);
    assert!((1440..=1560).contains(&heavy.calls()), "{}", heavy.calls());
}

#[tokio::test]
async fn of_200_calls_a_bad_replica_spoils_at_most_five_and_the_breaker_stays_closed() {
    for mood in [Mood::Errors, Mood::Flaps, Mood::Garbage, Mood::Closes] {
        let mut tasks = JoinSet::new();
        let good = Replica::start(&mut tasks, Mood::Well).await;
        let bad = Replica::start(&mut tasks, Mood::Well).await;
        let (detectors, detector) = (detectors(), spread(&[(&good, 1), (&bad, 1)]));
        assert_eq!(failed(&calls(&detectors, &detector, 40).await), 0);
        bad.feels(mood);
        let reports = calls(&detectors, &detector, 200).await;
        let failures = failed(&reports);
        assert!((3..=5).contains(&failures), "{failures} with mood {}", mood as u8);
        assert_eq!(detectors.breakers()[0].state, BreakerState::Closed);
    }
}

#[tokio::test]
async fn of_200_calls_a_hanging_replica_spoils_at_most_five() {
    let mut tasks = JoinSet::new();
    let good = Replica::start(&mut tasks, Mood::Well).await;
    let bad = Replica::start(&mut tasks, Mood::Hangs).await;
    let (detectors, mut detector) = (detectors(), spread(&[(&good, 1), (&bad, 1)]));
    detector.timeout = Duration::from_millis(600);
    let lanes = (0..5).map(|_| calls(&detectors, &detector, 40));
    let failures = failed(&join_all(lanes).await.concat());
    assert!((1..=5).contains(&failures), "{failures}");
    assert_eq!(detectors.breakers()[0].state, BreakerState::Closed);
}

#[tokio::test]
async fn half_of_the_replicas_stay_when_more_fail() {
    let mut tasks = JoinSet::new();
    let mut replicas = vec![Replica::start(&mut tasks, Mood::Well).await];
    for _ in 0..3 {
        replicas.push(Replica::start(&mut tasks, Mood::Errors).await);
    }
    let weighed: Vec<_> = replicas.iter().map(|replica| (replica, 1)).collect();
    let mut detector = spread(&weighed);
    detector.breaker.failures = 10_000;
    let detectors = detectors();
    assert!(failed(&calls(&detectors, &detector, 100).await) >= 40);
    let left_out = replicas.iter().filter(|replica| replica.calls() <= 5).count();
    assert_eq!(left_out, 2);
}

#[tokio::test]
async fn what_all_replicas_fail_at_leaves_none_of_them_out() {
    let mut tasks = JoinSet::new();
    let one = Replica::start(&mut tasks, Mood::Errors).await;
    let other = Replica::start(&mut tasks, Mood::Errors).await;
    let mut detector = spread(&[(&one, 1), (&other, 1)]);
    detector.breaker.failures = 10_000;
    calls(&detectors(), &detector, 40).await;
    assert_eq!((one.calls(), other.calls()), (20, 20));
}

#[tokio::test]
async fn a_retry_goes_to_another_replica() {
    let mut tasks = JoinSet::new();
    let good = Replica::start(&mut tasks, Mood::Well).await;
    let bad = Replica::start(&mut tasks, Mood::Errors).await;
    let mut detector = spread(&[(&bad, 9), (&good, 1)]);
    detector.retry.attempts = 2;
    let report = calls(&detectors(), &detector, 1).await.remove(0);
    assert_eq!((report.status, report.attempts), (Status::Success, 2));
    assert_eq!((bad.calls(), good.calls()), (1, 1));
}

#[tokio::test]
async fn one_replica_rests_alone_and_all_resting_make_the_detector_unhealthy() {
    let mut tasks = JoinSet::new();
    let one = Replica::start(&mut tasks, Mood::Rests).await;
    let other = Replica::start(&mut tasks, Mood::Well).await;
    let (detectors, detector) = (detectors(), spread(&[(&one, 1), (&other, 1)]));
    assert_eq!(failed(&calls(&detectors, &detector, 20).await), 1);
    assert_eq!((one.calls(), other.calls()), (1, 19));
    other.feels(Mood::Rests);
    let reports = calls(&detectors, &detector, 2).await;
    assert_eq!(reports[0].error, Some(ReportError::Communication));
    assert_eq!((reports[1].error, reports[1].attempts), (Some(ReportError::Unhealthy), 0));
    assert_eq!((one.calls(), other.calls()), (1, 20));
}

#[tokio::test]
async fn a_forbidden_replica_is_never_connected_and_another_answers() {
    let mut tasks = JoinSet::new();
    let good = Replica::start(&mut tasks, Mood::Well).await;
    let mut detector = spread(&[(&good, 1)]);
    detector.retry.attempts = 2;
    detector.replicas.push(endpoint_at("http://169.254.169.254/latest"));
    let detectors = detectors();
    let reports = calls(&detectors, &detector, 50).await;
    assert!(failed(&reports) <= 2, "{}", failed(&reports));
    let errors: Vec<_> = reports.iter().filter_map(|report| report.error).collect();
    assert!(errors.iter().all(|error| *error == ReportError::EndpointForbidden), "{errors:?}");
    assert_eq!(good.calls(), 50 - failed(&reports));
}

#[tokio::test]
async fn a_reload_that_adds_a_replica_keeps_what_is_known_of_the_others() {
    let mut tasks = JoinSet::new();
    let good = Replica::start(&mut tasks, Mood::Well).await;
    let bad = Replica::start(&mut tasks, Mood::Errors).await;
    let third = Replica::start(&mut tasks, Mood::Well).await;
    let detectors = detectors();
    let serve = |replicas: &[(&Replica, u32)]| {
        let detector = spread(replicas);
        let detectors_of = [(detector.name.clone(), Arc::new(detector.clone()))].into();
        detectors.retain(&Catalog { detectors: detectors_of, ..Catalog::default() });
        detector
    };
    let detector = serve(&[(&good, 1), (&bad, 1)]);
    assert_eq!(failed(&calls(&detectors, &detector, 20).await), 3);
    let detector = serve(&[(&third, 1), (&bad, 5), (&good, 2)]);
    assert_eq!(detectors.breakers()[0].stats.total, 20, "the breaker goes on");
    assert_eq!(failed(&calls(&detectors, &detector, 30).await), 0, "the bad one stays out");
    assert_eq!((bad.calls(), third.calls()), (3, 10));
    detectors.force((None, &detector.name), Force::Open);
    let detector = serve(&[(&good, 1)]);
    let report = calls(&detectors, &detector, 1).await.remove(0);
    assert_eq!(report.error, Some(ReportError::CircuitOpen));
    let fresh = Replica::start(&mut tasks, Mood::Well).await;
    let detector = serve(&[(&fresh, 1)]);
    assert_eq!(failed(&calls(&detectors, &detector, 1).await), 0, "other endpoints start anew");
}

#[tokio::test]
async fn each_replica_has_its_own_probes_and_all_failing_are_unhealthy() {
    let mut tasks = JoinSet::new();
    let one = Replica::start(&mut tasks, Mood::Well).await;
    let other = Replica::start(&mut tasks, Mood::Closes).await;
    let mut detector = spread(&[(&one, 1), (&other, 1)]);
    detector.health.unhealthy_after = 1;
    detector.health.interval = Duration::from_millis(100);
    let detectors = detectors();
    let name = detector.name.clone();
    let detectors_of = [(name.clone(), Arc::new(detector.clone()))].into();
    detectors.retain(&Catalog { detectors: detectors_of, ..Catalog::default() });
    let until = async |wanted: HealthState| {
        let seen = async {
            while detectors.health(&detector).state != wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = detectors.health_loop() => {}
            () = seen => {}
        }
    };
    until(HealthState::Degraded).await;
    assert_eq!(failed(&calls(&detectors, &detector, 10).await), 0);
    assert_eq!((one.calls(), other.calls()), (10, 0));
    one.feels(Mood::Closes);
    until(HealthState::Unhealthy).await;
    let report = calls(&detectors, &detector, 1).await.remove(0);
    assert_eq!((report.error, report.attempts), (Some(ReportError::Unhealthy), 0));
    one.feels(Mood::Well);
    other.feels(Mood::Well);
    until(HealthState::Healthy).await;
    assert_eq!(failed(&calls(&detectors, &detector, 10).await), 0);
    assert_eq!(other.calls(), 5);
}

#[tokio::test]
async fn a_hedge_overtakes_a_slow_replica_and_cancels_its_call() {
    let mut tasks = JoinSet::new();
    let slow = Replica::start(&mut tasks, Mood::Hangs).await;
    let quick = Replica::start(&mut tasks, Mood::Well).await;
    let mut detector = spread(&[(&slow, 9), (&quick, 1)]);
    detector.hedge = Some(Duration::from_millis(30));
    let detectors = detectors();
    let start = Instant::now();
    let report = calls(&detectors, &detector, 1).await.remove(0);
    assert_eq!((report.status, report.attempts), (Status::Success, 2));
    assert!((30..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!((slow.calls(), quick.calls()), (1, 1));
    while slow.left() == 0 {
        tokio::task::yield_now().await;
    }
    let view = detectors.breakers().remove(0);
    assert_eq!((view.stats.total, view.stats.failures), (1, 0), "the slow call is released");
    // What is overtaken three times is left out; few of these calls could be hedged.
    let reports = calls(&detectors, &detector, 100).await;
    assert!(slow.calls() <= 4, "{} {}", slow.calls(), failed(&reports));
}

#[tokio::test]
async fn a_hedge_of_one_endpoint_asks_it_again_and_a_quick_answer_is_no_hedge() {
    let mut tasks = JoinSet::new();
    let only = Replica::start(&mut tasks, Mood::Well).await;
    let mut detector = spread(&[(&only, 1)]);
    detector.hedge = Some(Duration::from_millis(700));
    let detectors = detectors();
    let reports = calls(&detectors, &detector, 20).await;
    assert!(reports.iter().all(|report| report.attempts == 1));
    only.feels(Mood::HangsFirst);
    let report = calls(&detectors, &detector, 1).await.remove(0);
    assert_eq!((report.status, report.attempts), (Status::Success, 2));
}

#[tokio::test]
async fn hedges_stay_within_a_tenth_of_the_calls() {
    let mut tasks = JoinSet::new();
    let slow = Replica::start(&mut tasks, Mood::Hangs).await;
    let mut detector = spread(&[(&slow, 1)]);
    detector.hedge = Some(Duration::from_millis(10));
    detector.timeout = Duration::from_millis(150);
    detector.breaker.failures = 10_000;
    let detectors = detectors();
    let reports = join_all((0..5).map(|_| calls(&detectors, &detector, 20))).await.concat();
    assert_eq!(failed(&reports), 100);
    let sent: u32 = reports.iter().map(|report| report.attempts).sum();
    assert!((102..=111).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_throttle_spreads_calls_and_refuses_what_its_deadline_cannot_wait_for() {
    let mut tasks = JoinSet::new();
    let well = Replica::start(&mut tasks, Mood::Well).await;
    let detectors = detectors();
    let throttled =
        |rate| Detector { throttle: std::num::NonZeroU32::new(rate), ..spread(&[(&well, 1)]) };
    let text = "x".repeat(10_000);
    let asks = [ask(throttled(50_000))];
    let start = Instant::now();
    for _ in 0..8 {
        let report = detectors.fan_out(&asks, &sample(&[&text]).work(), soon()).await.remove(0);
        assert_eq!(report.status, Status::Success);
    }
    // Eight bodies of 200 ms each, of which a second is there.
    let took = start.elapsed().as_millis();
    assert!(took >= 380, "{took} ms");
    let asks = [ask(throttled(100))];
    for _ in 0..2 {
        let report = detectors.fan_out(&asks, &sample(&[&text]).work(), soon()).await.remove(0);
        if report.status != Status::Success {
            assert_eq!((report.error, report.attempts), (Some(ReportError::BulkheadFull), 0));
            assert_eq!(detectors.breakers()[0].stats.total, well.calls() as u64);
            return;
        }
    }
    panic!("100 s of bytes were not waited for");
}

/// Places of a detector that are asked at seconds since the start.
struct Table {
    places: Places,
    detector: Detector,
    start: Instant,
}

impl Table {
    fn of(many: usize) -> Self {
        let replica = |n| endpoint_at(&format!("http://127.0.0.1:{n}/"));
        let detector = Detector {
            replicas: (1..=many).map(replica).collect(),
            ..detector("d", Protocol::Native, "")
        };
        Self { places: Places::new(&detector, &[]), detector, start: Instant::now() }
    }

    fn at(&self, second: f64) -> Moment {
        let now = self.start + Duration::from_secs_f64(second);
        Moment { now, patience: Duration::from_millis(200) }
    }

    fn choose(&self, second: f64) -> usize {
        self.places.choose(&self.detector, 0, self.at(second)).unwrap()
    }

    /// Asks ten times, of which those at `bad` fail; how many these are.
    fn failures(&self, second: f64, bad: Option<usize>) -> usize {
        let fails = |_: &usize| {
            let place = self.choose(second);
            let ended = if Some(place) == bad { Ended::Failure } else { Ended::Success };
            self.places.ended(place, (ended, Duration::ZERO), self.at(second));
            Some(place) == bad
        };
        (0..10).filter(fails).count()
    }
}

#[test]
fn a_replica_that_fails_again_is_left_out_for_twice_as_long() {
    let table = Table::of(2);
    for (second, failures) in [
        (0.0, 3), // left out until 5 s
        (4.9, 0),
        (5.0, 1), // until 15 s
        (14.9, 0),
        (15.0, 1), // until 35 s
        (34.9, 0),
    ] {
        assert_eq!(table.failures(second, Some(1)), failures, "at {second} s");
    }
    table.places.each()[1].recovered(table.at(34.9).now);
    assert_eq!(table.failures(34.9, Some(1)), 1, "an answered probe ends it; until 74.9 s");
    assert_eq!(table.failures(74.8, Some(1)), 0);
    assert_eq!(table.failures(75.0, None), 0);
    assert_eq!(table.failures(76.0, Some(1)), 3, "it was back, and is out until 156 s");
    assert_eq!(table.failures(155.9, Some(1)), 0);
    assert_eq!(table.failures(156.0, None), 0);
    assert_eq!(table.failures(300.0, Some(1)), 3, "after long it is out until 305 s");
    assert_eq!(table.failures(304.9, Some(1)), 0);
    assert_eq!(table.failures(305.0, Some(1)), 1);
}

#[test]
fn a_replica_that_comes_back_gets_one_call_at_a_time() {
    let table = Table::of(2);
    assert_eq!(table.failures(0.0, Some(1)), 3);
    let asked: Vec<_> = (0..20).map(|_| table.choose(5.0)).collect();
    assert_eq!(asked.iter().filter(|place| **place == 1).count(), 1);
}

#[test]
fn a_replica_that_does_not_answer_gets_no_more_calls_until_it_does() {
    let table = Table::of(2);
    while table.choose(0.0) == 0 {
        table.places.ended(0, (Ended::Success, Duration::ZERO), table.at(0.0));
    }
    let asked: Vec<_> = (0..20).map(|_| table.choose(0.1)).collect();
    assert!(asked.contains(&1), "it has its time");
    table.places.ended(0, (Ended::Success, Duration::ZERO), table.at(0.3));
    let asked: Vec<_> = (0..20).map(|_| table.choose(0.4)).collect();
    assert!(!asked.contains(&1), "{asked:?}");
    table.places.ended(1, (Ended::Success, Duration::ZERO), table.at(0.6));
    assert_eq!(table.choose(0.6), 1, "the other is silent now");
}
