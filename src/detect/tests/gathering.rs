//! Texts of several requests in one call.

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request as Received, ResponseTemplate};

use super::*;

/// What each text is answered: its own length as the end of a finding.
fn judged(received: &Received) -> Value {
    let body: Value = serde_json::from_slice(&received.body).unwrap();
    let items: Vec<Value> = body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let chars = item["content"].as_str().unwrap().chars().count();
            json!({"findings": [{"label": "rude", "score": 0.9, "start": 0, "end": chars}]})
        })
        .collect();
    json!({ "items": items })
}

async fn server(reply: fn(&Received) -> Value) -> (MockServer, Detector) {
    let server = MockServer::start().await;
    let reply =
        move |received: &Received| ResponseTemplate::new(200).set_body_json(reply(received));
    Mock::given(any()).respond_with(reply).mount(&server).await;
    let lines = format!(
        "protocol: native\nendpoint: {}/a\ncategories: [toxicity]\nbatch: {{max_items: 50}}\n\
         retry: {{attempts: 1}}\ntimeout: 5s\n",
        server.uri()
    );
    let detector = loaded(&lines);
    (server, detector)
}

/// `count` requests of `tenant`, each with a text of another length.
fn requests(count: usize, tenant: &str, gather: Option<Duration>) -> Vec<Sample> {
    let one = |n: usize| {
        let mut sample = sample(&["x".repeat(n + 1).as_str()]);
        sample.request.tenant = TenantId::parse(tenant).unwrap();
        sample.request.gather = gather;
        sample
    };
    (0..count).map(one).collect()
}

async fn all(detectors: &Detectors, ask: &Ask, samples: &[Sample]) -> Vec<Report> {
    let asks = std::slice::from_ref(ask);
    let each = samples
        .iter()
        .map(async |sample| detectors.fan_out(asks, &sample.work(), soon()).await.remove(0));
    join_all(each).await
}

async fn calls(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

#[tokio::test]
async fn twenty_requests_that_wait_for_each_other_are_one_call_and_each_gets_its_own_part() {
    let (server, detector) = server(judged).await;
    let (detectors, ask) = (detectors(), ask(detector));
    let patient = Some(Duration::from_millis(300));
    let reports = all(&detectors, &ask, &requests(20, "acme", patient)).await;
    for (n, report) in reports.iter().enumerate() {
        assert_eq!(report.status, Status::Success, "{report:?}");
        let span = report.findings[0].place.unwrap().span.unwrap();
        assert_eq!(span.end, n + 1, "somebody else's part");
    }
    assert_eq!(calls(&server).await, 1);
    assert_eq!(detectors.breakers()[0].stats.successes, 1);
    // A full one waits for nobody: the deadline would come first.
    let full = requests(50, "acme", Some(Duration::from_secs(60)));
    assert!(all(&detectors, &ask, &full).await.iter().all(|r| r.status == Status::Success));
    assert_eq!(calls(&server).await, 2);
}

#[tokio::test]
async fn tenants_share_no_call_and_who_does_not_wait_asks_alone() {
    let (server, detector) = server(judged).await;
    let (detectors, ask) = (detectors(), ask(detector));
    let patient = Some(Duration::from_millis(300));
    let mut samples = requests(3, "acme", patient);
    samples.extend(requests(3, "globex", patient));
    assert!(all(&detectors, &ask, &samples).await.iter().all(|r| r.status == Status::Success));
    assert_eq!(calls(&server).await, 2);
    all(&detectors, &ask, &requests(3, "acme", None)).await;
    assert_eq!(calls(&server).await, 5);
}

#[tokio::test]
async fn a_reply_that_answers_another_number_of_texts_is_nobodys() {
    let (_server, detector) = server(|_| json!({"items": [{"label": "x", "score": 0.5}]})).await;
    let patient = Some(Duration::from_millis(300));
    let reports = all(&detectors(), &ask(detector), &requests(3, "acme", patient)).await;
    for report in reports {
        assert_eq!(report.error, Some(ReportError::BadResponse), "{report:?}");
    }
}

#[tokio::test]
async fn where_the_first_leaves_the_others_ask_for_themselves() {
    let (server, detector) = server(judged).await;
    let (detectors, ask) = (detectors(), ask(detector));
    let samples = requests(3, "acme", Some(Duration::from_secs(60)));
    let asks = std::slice::from_ref(&ask);
    let work = samples[0].work();
    let mut first = detectors.fan_out(asks, &work, soon()).boxed();
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    let rest = all(&detectors, &ask, &samples[1..]);
    let mut rest = std::pin::pin!(rest);
    assert!(futures_util::poll!(rest.as_mut()).is_pending());
    drop(first);
    assert!(rest.await.iter().all(|report| report.status == Status::Success));
    assert_eq!(calls(&server).await, 2);
}
