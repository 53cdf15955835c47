//! Equal calls of requests at the same time.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::*;
use crate::domain::request::Priority;

/// A server that answers after a while, and counts the calls.
async fn slow(tasks: &mut JoinSet<()>) -> (Detector, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/analyze", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tasks.spawn(async move {
        let mut calls = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            calls.spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                let _ = stream.read(&mut buffer).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                let _ = stream.write_all(&http("200 OK", "connection: close\r\n", CLEAN)).await;
            });
        }
    });
    let wide = file::Bulkhead { max_in_flight: 8, queue: 64 };
    let timeout = Duration::from_secs(5);
    (Detector { bulkhead: wide, timeout, ..detector("a", Protocol::Native, &uri) }, count)
}

fn request(id: usize, change: impl FnOnce(&mut Request)) -> Sample {
    let mut sample = sample(&["the same"]);
    sample.request.id = RequestId::parse(&format!("r-{id}")).unwrap();
    change(&mut sample.request);
    sample
}

/// Asks for all samples at once; how many calls were made, and who joined another's.
async fn together(samples: Vec<Sample>, change: impl FnOnce(&mut Detector)) -> (usize, usize) {
    let mut tasks = JoinSet::new();
    let (mut detector, count) = slow(&mut tasks).await;
    change(&mut detector);
    let (detectors, asks) = (detectors(), [ask(detector)]);
    let each = samples
        .iter()
        .map(async |sample| detectors.fan_out(&asks, &sample.work(), soon()).await.remove(0));
    let reports = join_all(each).await;
    assert!(reports.iter().all(|report| report.status == Status::Success), "{reports:?}");
    let joined = reports.iter().filter(|report| report.coalesced).count();
    let breakers = detectors.breakers();
    assert_eq!(breakers[0].stats.successes as usize, count.load(Ordering::SeqCst));
    (count.load(Ordering::SeqCst), joined)
}

#[tokio::test]
async fn a_hundred_equal_requests_are_one_call_even_with_eight_places() {
    let samples = (0..100).map(|id| request(id, |_| {})).collect();
    assert_eq!(together(samples, |_| {}).await, (1, 99));
}

#[tokio::test]
async fn only_what_a_detector_would_answer_alike_shares_a_call() {
    let tenant = |request: &mut Request| request.tenant = TenantId::parse("other").unwrap();
    let metadata = |request: &mut Request| _ = request.metadata.insert("a".into(), json!(1));
    let critical = |request: &mut Request| request.priority = Priority::Critical;
    let fresh = |request: &mut Request| request.no_store = true;
    let samples = vec![
        request(1, |_| {}),
        request(2, tenant),
        request(3, metadata),
        request(4, critical),
        request(5, fresh),
    ];
    assert_eq!(together(samples, |_| {}).await, (5, 0));
    let texts = vec![sample(&["one"]), sample(&["two"])];
    assert_eq!(together(texts, |_| {}).await, (2, 0));
}

#[tokio::test]
async fn an_id_cannot_pass_for_content() {
    let make = |id: &str, text: &str| {
        let mut sample = sample(&[text]);
        sample.request.id = RequestId::parse(id).unwrap();
        sample
    };
    let samples = vec![make("hello", "hello"), make("attack", "attack")];
    assert_eq!(together(samples, |_| {}).await, (2, 0));
}

#[tokio::test]
async fn a_token_for_one_caller_carries_no_other() {
    let mut tasks = JoinSet::new();
    let (detector, count) = slow(&mut tasks).await;
    for (delegation, wanted) in [(None, 1), (Some("authorization".to_owned()), 2)] {
        count.store(0, Ordering::SeqCst);
        let asks = [ask(Detector { delegation, ..detector.clone() })];
        let (detectors, sample) = (detectors(), sample(&["x"]));
        let calls = ["ana", "bob"].map(async |caller| {
            let work = Work { caller, ..sample.work() };
            detectors.fan_out(&asks, &work, soon()).await.remove(0)
        });
        join_all(calls).await;
        assert_eq!(count.load(Ordering::SeqCst), wanted);
    }
}

#[tokio::test]
async fn a_failure_is_shared_by_those_who_wait_counts_once_and_is_forgotten() {
    let mut tasks = JoinSet::new();
    let (uri, count) = hostile(&mut tasks, ok("no json"), Then::Close).await;
    let (detectors, asks) = (detectors(), [ask(detector("a", Protocol::Native, &uri))]);
    let samples: Vec<Sample> = (0..20).map(|id| request(id, |_| {})).collect();
    for round in 1..=2 {
        let each = samples
            .iter()
            .map(async |sample| detectors.fan_out(&asks, &sample.work(), soon()).await.remove(0));
        let reports = join_all(each).await;
        let errors: BTreeSet<_> = reports.iter().map(|report| report.error).collect();
        assert_eq!(errors, [Some(ReportError::BadResponse)].into());
        assert_eq!(count.load(Ordering::SeqCst), round);
        assert_eq!(detectors.breakers()[0].failures as usize, round);
    }
}

#[tokio::test]
async fn a_caller_in_a_hurry_neither_ends_the_call_of_others_nor_waits_longer() {
    let mut tasks = JoinSet::new();
    let (detector, count) = slow(&mut tasks).await;
    let (detectors, asks) = (detectors(), [ask(detector)]);
    let (one, two) = (request(1, |_| {}), request(2, |_| {}));
    let (one, two) = (one.work(), two.work());
    let hasty = detectors.fan_out(&asks, &one, Instant::now() + Duration::from_millis(20));
    let patient = detectors.fan_out(&asks, &two, soon());
    let (hasty, patient) = tokio::join!(hasty, patient);
    assert_eq!((hasty[0].status, hasty[0].cut_by_deadline), (Status::Timeout, true));
    assert_eq!((patient[0].status, patient[0].coalesced), (Status::Success, true));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_call_ends_with_the_last_caller_who_leaves() {
    let mut tasks = JoinSet::new();
    let (uri, _) = hostile(&mut tasks, vec![], Then::Hang).await;
    let (detectors, asks) = (detectors(), [ask(detector("a", Protocol::Native, &uri))]);
    let samples = [request(1, |_| {}), request(2, |_| {})];
    let works = samples.each_ref().map(Sample::work);
    let [one, two] = works.each_ref().map(|work| detectors.fan_out(&asks, work, soon()));
    let mut one = Box::pin(one);
    assert!(futures_util::poll!(one.as_mut()).is_pending());
    let mut two = Box::pin(two);
    assert!(futures_util::poll!(two.as_mut()).is_pending());
    drop(one);
    assert_eq!(detectors.flights.under_way(), 1);
    drop(two);
    assert_eq!(detectors.flights.under_way(), 0);
    assert_eq!(detectors.breakers()[0].failures, 0, "nobody is to blame");
}
