//! One call: time-outs, deadline, breaker, bulkhead, retry, health, what is never sent.

use super::*;
use crate::catalog::detector::Bulkhead;

#[tokio::test]
async fn a_call_that_times_out_closes_its_connection() {
    let mut tasks = JoinSet::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    });
    let report = one(&detectors(), detector("a", Protocol::Native, &uri), &["x"]).await;
    assert_eq!(report.status, Status::Timeout);
    let closed = tokio::time::timeout(Duration::from_secs(2), tasks.join_next()).await;
    assert!(closed.is_ok(), "the server still sees an open connection");
}

#[tokio::test]
async fn the_request_deadline_cuts_and_says_so_without_feeding_the_breaker() {
    let mut tasks = JoinSet::new();
    let (uri, _) = hostile(&mut tasks, vec![], Then::Hang).await;
    let detectors = detectors();
    let asks = [ask(detector("a", Protocol::Native, &uri))];
    let deadline = Instant::now() + Duration::from_millis(30);
    let report = detectors.fan_out(&asks, &sample(&["x"]).work(), deadline).await.remove(0);
    assert_eq!((report.status, report.error), (Status::Timeout, None));
    assert!(report.cut_by_deadline);
    assert_eq!(detectors.breakers()[0].failures, 0);
    let report = detectors.fan_out(&asks, &sample(&["x"]).work(), Instant::now()).await.remove(0);
    assert_eq!((report.error, report.attempts), (Some(ReportError::Deadline), 0));
}

#[tokio::test]
async fn the_fifth_failure_opens_the_breaker_which_then_needs_no_network() {
    let mut tasks = JoinSet::new();
    let (uri, count) = hostile(&mut tasks, vec![], Then::Close).await;
    let detectors = detectors();
    for _ in 0..5 {
        let report = one(&detectors, detector("a", Protocol::Native, &uri), &["x"]).await;
        assert_eq!(report.error, Some(ReportError::Communication));
    }
    let before = count.load(Ordering::SeqCst);
    let mut quickest = Duration::MAX;
    for _ in 0..20 {
        let asked = Instant::now();
        let report = one(&detectors, detector("a", Protocol::Native, &uri), &["x"]).await;
        quickest = quickest.min(asked.elapsed());
        assert_eq!(report.error, Some(ReportError::CircuitOpen));
        assert_eq!((report.attempts, report.duration), (0, Duration::ZERO));
    }
    assert!(quickest < Duration::from_millis(5), "{quickest:?}");
    assert_eq!(count.load(Ordering::SeqCst), before);
    let view = &detectors.breakers()[0];
    assert_eq!((view.state, view.failures, view.stats.rejections), (BreakerState::Open, 5, 20));
    assert!(detectors.force((None, &DetectorName::parse("a").unwrap()), Force::Reset));
    assert_eq!(detectors.breakers()[0].state, BreakerState::Closed);
    assert!(!detectors.force((None, &DetectorName::parse("b").unwrap()), Force::Open));
}

#[tokio::test]
async fn state_survives_a_reload_of_the_same_endpoint_only() {
    let detectors = detectors();
    let (one, other) = ("http://127.0.0.1:1/", "http://127.0.0.1:2/");
    let name = DetectorName::parse("a").unwrap();
    let catalog = |uri: &str| Catalog {
        detectors: [(name.clone(), Arc::new(detector("a", Protocol::Native, uri)))].into(),
        ..Catalog::default()
    };
    detectors.retain(&catalog(one));
    detectors.force((None, &name), Force::Open);
    detectors.retain(&catalog(one));
    assert_eq!(detectors.breakers()[0].state, BreakerState::Open);
    detectors.retain(&catalog(other));
    assert_eq!(detectors.breakers()[0].state, BreakerState::Closed);
    detectors.retain(&Catalog::default());
    assert!(detectors.breakers().is_empty());
}

#[tokio::test]
async fn a_hanging_detector_with_a_full_bulkhead_does_not_slow_the_others() {
    let mut tasks = JoinSet::new();
    let (slow, _) = hostile(&mut tasks, vec![], Then::Hang).await;
    let (quick, _) = hostile(&mut tasks, ok(CLEAN), Then::Close).await;
    let detectors = detectors();
    let narrow = || Detector {
        bulkhead: file::Bulkhead { max_in_flight: 1, queue: 0 },
        ..detector("slow", Protocol::Native, &slow)
    };
    let (asks, sample) = ([ask(narrow())], sample(&["x"]));
    let work = sample.work();
    let holding = detectors.fan_out(&asks, &work, soon());
    let quick = async {
        tokio::task::yield_now().await;
        let full = one(&detectors, narrow(), &["x"]).await;
        let start = Instant::now();
        let quick = one(&detectors, detector("quick", Protocol::Native, &quick), &["x"]).await;
        (full, quick, start.elapsed())
    };
    let (held, (full, quick, took)) = tokio::join!(holding, quick);
    assert_eq!(held[0].status, Status::Timeout);
    assert_eq!((full.error, full.attempts), (Some(ReportError::BulkheadFull), 0));
    assert!(full.detail.unwrap().contains("`bulkhead`"));
    assert_eq!(quick.status, Status::Success);
    assert!(took < Duration::from_millis(200), "{took:?}");
}

#[tokio::test]
async fn retries_stop_at_attempts_and_a_detector_that_asks_for_rest_gets_it() {
    let mut tasks = JoinSet::new();
    let (failing, count) = hostile(&mut tasks, http("500 X", "", ""), Then::Close).await;
    let twice = |name: &str, uri: &str| Detector {
        retry: file::Retry { attempts: 2, backoff: Duration::from_millis(1) },
        ..detector(name, Protocol::Native, uri)
    };
    let detectors = detectors();
    assert_eq!(one(&detectors, twice("a", &failing), &["x"]).await.attempts, 2);
    assert_eq!(count.load(Ordering::SeqCst), 2);
    let busy = http("503 X", "retry-after: 60\r\n", "");
    let (resting, count) = hostile(&mut tasks, busy, Then::Close).await;
    let report = one(&detectors, twice("b", &resting), &["x"]).await;
    assert_eq!((report.error, report.attempts), (Some(ReportError::Communication), 1));
    let report = one(&detectors, twice("b", &resting), &["x"]).await;
    assert_eq!((report.error, report.attempts), (Some(ReportError::Unhealthy), 0));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_forbidden_endpoint_is_unavailable_and_never_connected() {
    let mut tasks = JoinSet::new();
    let (uri, count) = hostile(&mut tasks, ok(CLEAN), Then::Close).await;
    let detectors = detectors_in(Env::Production);
    let report = one(&detectors, detector("a", Protocol::Native, &uri), &["x"]).await;
    assert_eq!((report.status, report.attempts), (Status::Unavailable, 0));
    assert_eq!(report.error, Some(ReportError::EndpointForbidden));
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_a_detector_cannot_judge_is_skipped_and_unknown_ones_are_not_registered() {
    let detectors = detectors();
    let native = || detector("a", Protocol::Native, "http://127.0.0.1:1/");
    let of =
        |lines: &str| loaded(&format!("endpoint: http://127.0.0.1:1/\ncategories: [pii]\n{lines}"));
    let direction = Detector { directions: [Direction::Output].into(), ..native() };
    let kind = Detector { types: [ContentType::Image].into(), ..native() };
    let cases = [
        (direction, "the detector does not judge this direction"),
        (kind, "the detector judges no content of this type"),
        (of("protocol: native\nlanguages: [de]\n"), "the detector does not judge this language"),
        (of("protocol: fms\noptions: {kind: generation}\n"), "the request has no prompt"),
        (of("protocol: fms\noptions: {kind: context}\n"), "the request has no documents"),
    ];
    for (detector, detail) in cases {
        let mut sample = sample(&["abc"]);
        sample.request.language = Some("en".into());
        let asks = [ask(detector)];
        let report = detectors.fan_out(&asks, &sample.work(), soon()).await.remove(0);
        assert_eq!((report.status, report.reason()), (Status::Skipped, "unsupported_content_type"));
        assert_eq!(report.detail.as_deref(), Some(detail));
    }
    let unknown = Ask { detector: None, ..ask(native()) };
    let report = detectors.fan_out(&[unknown], &sample(&["x"]).work(), soon()).await.remove(0);
    assert_eq!(report.error, Some(ReportError::NotRegistered));
}

#[tokio::test]
async fn built_in_detectors_share_the_rules_and_a_panic_stays_their_own() {
    let detectors = detectors();
    // A panic may print a backtrace, which takes its time.
    let timeout = std::time::Duration::from_secs(20);
    let echo = || Detector { timeout, ..detector("echo", Protocol::Builtin(Builtin::Echo), "") };
    let report = one(&detectors, echo(), &["x"]).await;
    assert_eq!((report.status, report.label.as_deref()), (Status::Success, Some("echo")));
    let report = one(&detectors, echo(), &["panic"]).await;
    assert_eq!(report.error, Some(ReportError::BadResponse));
    let bad = Detector { params: json!({"bad": 1}), ..echo() };
    let report = one(&detectors, bad, &["x"]).await;
    assert_eq!(report.error, Some(ReportError::Rejected));
}

#[test]
fn a_fan_out_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    let (detectors, sample) = (detectors(), sample(&["x"]));
    let work = sample.work();
    is_send(detectors.fan_out(&[], &work, Instant::now()));
    is_send(detectors.health_loop());
}

#[tokio::test]
async fn a_detector_whose_probe_fails_is_not_asked() {
    let mut tasks = JoinSet::new();
    let (uri, count) = hostile(&mut tasks, vec![], Then::Close).await;
    let mut dead = detector("a", Protocol::Native, &uri);
    dead.health.unhealthy_after = 1;
    let detectors = detectors();
    let detectors_of = |d: &Detector| Catalog {
        detectors: [(d.name.clone(), Arc::new(d.clone()))].into(),
        ..Catalog::default()
    };
    detectors.retain(&detectors_of(&dead));
    assert_eq!(detectors.health(&dead).state, HealthState::Unknown);
    let until = async |wanted: HealthState| {
        while detectors.health(&dead).state != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = detectors.health_loop() => {}
        () = until(HealthState::Unhealthy) => {}
    }
    let before = count.load(Ordering::SeqCst);
    let report = one(&detectors, dead.clone(), &["x"]).await;
    assert_eq!((report.error, report.attempts), (Some(ReportError::Unhealthy), 0));
    assert_eq!(count.load(Ordering::SeqCst), before);
    let (good, _) = hostile(&mut tasks, ok(CLEAN), Then::Close).await;
    let alive = detector("b", Protocol::Native, &good);
    let view = detectors.probe(&Arc::new(alive), "x").await;
    assert_eq!((view.health, view.report.status), (HealthState::Healthy, Status::Success));
}

#[tokio::test]
async fn ten_probes_are_under_way_at_once_and_no_more() {
    let mut tasks = JoinSet::new();
    let (uri, count) = hostile(&mut tasks, vec![], Then::Hang).await;
    let silent = |n: usize| {
        let mut detector = detector(&format!("d{n}"), Protocol::Native, &uri);
        detector.health.timeout = Duration::from_secs(60);
        (detector.name.clone(), Arc::new(detector))
    };
    let detectors = detectors();
    let all = (0..15).map(silent).collect();
    detectors.retain(&Catalog { detectors: all, ..Catalog::default() });
    let two_ticks_after_ten = async {
        while count.load(Ordering::SeqCst) < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(600)).await;
    };
    tokio::select! {
        () = detectors.health_loop() => {}
        () = two_ticks_after_ten => {}
    }
    assert_eq!(count.load(Ordering::SeqCst), 10);
}

#[tokio::test]
async fn a_hundred_calls_share_the_connections_of_those_that_may_run_at_once() {
    let mut tasks = JoinSet::new();
    let (uri, connections) = hostile(&mut tasks, ok(CLEAN), Then::Answer).await;
    let mut pooled = detector("a", Protocol::Native, &uri);
    pooled.bulkhead = Bulkhead { max_in_flight: 4, queue: 100 };
    pooled.timeout = Duration::from_secs(5);
    let detectors = detectors();
    let texts: Vec<String> = (0..100).map(|n| format!("text {n}")).collect();
    let calls = texts.iter().map(|text| {
        let (detectors, pooled) = (&detectors, pooled.clone());
        async move { one(detectors, pooled, &[text]).await }
    });
    let reports = futures_util::future::join_all(calls).await;
    let answered = reports.iter().filter(|report| report.status == Status::Success).count();
    assert_eq!(answered, 100);
    let connections = connections.load(Ordering::SeqCst);
    assert!((1..=4).contains(&connections), "{connections}");
}
