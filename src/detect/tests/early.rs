//! A fan-out that ends before everyone answered.

use super::*;

fn names(reports: &[Report]) -> Vec<(&str, Option<ReportError>)> {
    reports.iter().map(|report| (report.detector.as_str(), report.error)).collect()
}

#[tokio::test]
async fn what_has_not_answered_when_it_is_enough_is_cancelled_and_named() {
    let mut tasks = JoinSet::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = format!("http://{}/", listener.local_addr().unwrap());
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    });
    let (detectors, mut servers) = (detectors(), JoinSet::new());
    let (quick, _) = hostile(&mut servers, ok(CLEAN), Then::Close).await;
    let mut patient = detector("slow", Protocol::Native, &slow);
    patient.timeout = Duration::from_secs(30);
    let asks = [ask(patient), ask(detector("quick", Protocol::Native, &quick))];
    let stop = |reports: Vec<Report>| -> BoxFuture<'_, bool> {
        let enough = names(&reports) == [("slow", Some(ReportError::Decided)), ("quick", None)];
        Box::pin(async move { enough })
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let sample = sample(&["x"]);
    let work = sample.work();
    let asking = detectors.fan_out_until(&asks, &work, deadline, Some(&stop));
    let reports = tokio::time::timeout(Duration::from_secs(5), asking).await.unwrap();
    assert_eq!(names(&reports), [("slow", Some(ReportError::Decided)), ("quick", None)]);
    assert_eq!((reports[0].status, reports[0].attempts), (Status::Skipped, 0));
    let closed = tokio::time::timeout(Duration::from_secs(2), tasks.join_next()).await;
    assert!(closed.is_ok(), "the server still sees an open connection");
    let slow = detectors.breakers().into_iter().find(|view| view.name.as_str() == "slow");
    assert_eq!(slow.unwrap().failures, 0, "nobody is to blame");
}

#[tokio::test]
async fn nobody_is_asked_whether_it_is_enough_when_all_have_answered() {
    let mut servers = JoinSet::new();
    let (uri, _) = hostile(&mut servers, ok(CLEAN), Then::Close).await;
    let asked = AtomicUsize::new(0);
    let stop = |_: Vec<Report>| -> BoxFuture<'_, bool> {
        asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { true })
    };
    let asks = [ask(detector("a", Protocol::Native, &uri))];
    let detectors = detectors();
    let sample = sample(&["x"]);
    let reports = detectors.fan_out_until(&asks, &sample.work(), soon(), Some(&stop)).await;
    assert_eq!((names(&reports), asked.into_inner()), (vec![("a", None)], 0));
}
