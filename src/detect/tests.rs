use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::catalog::detector::{self as file, Builtin, Protocol};
use crate::catalog::{LoadContext, SourceFile};
use crate::domain::category::Category;
use crate::domain::content::{Body, Content, ContentType, Direction, Judge as Which, Part};
use crate::domain::id::{RequestId, TenantId};
use crate::domain::report::Status;
use crate::outbound::Env;

mod hostile;
mod replies;

fn prepare(kind: Builtin, params: &Value) -> Option<Arc<dyn Judge>> {
    struct Echo;
    impl Judge for Echo {
        fn judge(&self, text: &str) -> Judged {
            assert_ne!(text, "panic");
            Judged { label: Some("echo".into()), score: Some(0.5), findings: vec![], gaps: vec![] }
        }
    }
    (kind == Builtin::Echo && params.get("bad").is_none()).then(|| Arc::new(Echo) as Arc<dyn Judge>)
}

fn detectors_in(env: Env) -> Detectors {
    Detectors::new(DetectConfig {
        guard: Arc::new(Guard::new(env, vec![])),
        parallel_max: 10,
        threads: 2,
        reply_bytes_max: 1 << 20,
        inline_bytes_max: 0,
        prepare,
    })
}

fn detectors() -> Detectors {
    detectors_in(Env::Development)
}

fn detector(name: &str, protocol: Protocol, endpoint: &str) -> Detector {
    let ms = Duration::from_millis;
    Detector {
        name: DetectorName::parse(name).unwrap(),
        description: String::new(),
        owner: String::new(),
        risk: None,
        contexts: Default::default(),
        safety: Value::Null,
        endpoint: (!endpoint.is_empty()).then(|| file::Endpoint { uri: endpoint.parse().unwrap() }),
        protocol,
        types: [ContentType::Text].into(),
        languages: Default::default(),
        directions: Default::default(),
        max_chars: None,
        categories: [Category::parse("toxicity").unwrap()].into(),
        labels: Default::default(),
        annotator: false,
        timeout: ms(300),
        retry: file::Retry { attempts: 1, backoff: ms(1) },
        breaker: file::BreakerSpec {
            mode: file::BreakerMode::Window,
            failures: 5,
            window: Duration::from_secs(60),
            failure_ratio: 0.5,
            open_for: Duration::from_secs(60),
            probes: 3,
            slow_call: None,
        },
        bulkhead: file::Bulkhead { max_in_flight: 32, queue: 64 },
        batch: None,
        health: file::Health {
            path: "/health".into(),
            interval: Duration::from_secs(10),
            timeout: ms(200),
            unhealthy_after: 3,
            healthy_after: 1,
        },
        auth: file::Auth::None,
        weight: 1.0,
        cost: 1.0,
        params: json!({}),
        views: vec![],
        tenants: Default::default(),
        version: "1".into(),
        source: "test".into(),
    }
}

/// The detector `d` of a file's lines after its name.
fn loaded(lines: &str) -> Detector {
    let text = format!("name: d\n{lines}");
    let kind = crate::yaml::fault::FaultKind::Detector;
    let files = [SourceFile { kind, path: "d.yaml".to_owned(), bytes: text.as_bytes().into() }];
    let secret = |_: &crate::catalog::SecretRef| Some("secret".into());
    let env = crate::settings::Env::Development;
    let context = LoadContext { env, secret: &secret, check_params: &|_| Ok(()) };
    let (catalog, _) = Catalog::load(&files, &context).unwrap_or_else(|f| panic!("{f:?}"));
    Detector::clone(&catalog.detectors["d"])
}

fn ask(detector: Detector) -> Ask {
    Ask {
        name: detector.name.clone(),
        timeout: detector.timeout,
        detector: Some(Arc::new(detector)),
        params: Value::Null,
    }
}

/// A request and its pieces; the texts are the parts of one content.
struct Sample {
    request: Request,
    pieces: Vec<Piece>,
}

impl Sample {
    fn work(&self) -> Work<'_> {
        let traceparent = Some("00-1-2-01".into());
        Work { request: &self.request, pieces: &self.pieces, traceparent }
    }
}

fn sample(texts: &[&str]) -> Sample {
    let parts = texts.iter().map(|text| Part::Text { text: (*text).into() }).collect();
    let body = Body::Content(Content::Parts(parts));
    let (id, tenant) = (RequestId::parse("r-1").unwrap(), TenantId::parse("acme").unwrap());
    let pieces = body.pieces(Which::Last, ContentType::Text);
    Sample { request: Request::plain(id, tenant, body), pieces }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

async fn one(detectors: &Detectors, detector: Detector, texts: &[&str]) -> Report {
    detectors.fan_out(&[ask(detector)], &sample(texts).work(), soon()).await.remove(0)
}

/// What a server does after the head and body of a request arrived.
#[derive(Clone)]
enum Then {
    Close,
    Hang,
    Reset,
    /// Sends this for ever.
    Stream(&'static [u8]),
    /// One byte now and then.
    Drip,
}

/// A server that says `reply` raw, then behaves; counts its connections.
async fn hostile(
    tasks: &mut JoinSet<()>,
    reply: Vec<u8>,
    then: Then,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tasks.spawn(async move {
        let mut calls = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            calls.spawn(serve(stream, reply.clone(), then.clone()));
        }
    });
    (format!("http://{address}/analyze"), count)
}

async fn serve(mut stream: TcpStream, reply: Vec<u8>, then: Then) {
    let mut buffer = vec![0; 64 * 1024];
    let _ = stream.read(&mut buffer).await;
    let _ = stream.write_all(&reply).await;
    match then {
        Then::Close => {}
        Then::Hang => while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {},
        #[expect(deprecated, reason = "the only way to send RST from a tokio stream")]
        Then::Reset => stream.set_linger(Some(Duration::ZERO)).unwrap(),
        Then::Stream(chunk) => while stream.write_all(chunk).await.is_ok() {},
        Then::Drip => {
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    http("200 OK", "", body)
}

const CLEAN: &str = r#"{"label":"clean","score":0.9}"#;

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
    assert!(detectors.force(&DetectorName::parse("a").unwrap(), Force::Reset));
    assert_eq!(detectors.breakers()[0].state, BreakerState::Closed);
    assert!(!detectors.force(&DetectorName::parse("b").unwrap(), Force::Open));
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
    detectors.force(&name, Force::Open);
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
async fn native_findings_carry_their_piece_and_code_points() {
    let mut tasks = JoinSet::new();
    let body = r#"{"label":"toxic","score":0.9,"findings":[{"label":"toxic","score":0.8,"start":1,"end":2,"severity":"high"}]}"#;
    let (uri, _) = hostile(&mut tasks, ok(body), Then::Close).await;
    let report = one(&detectors(), detector("a", Protocol::Native, &uri), &["a😀", "b😀c"]).await;
    assert_eq!(report.label.as_deref(), Some("toxic"));
    let places: Vec<_> = report.findings.iter().map(|f| f.place.unwrap()).collect();
    assert_eq!(places.iter().map(|p| p.piece).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(places[1].span.map(|s| (s.start, s.end)), Some((1, 2)));
    assert_eq!(report.findings[0].category.as_str(), "toxicity");
    assert_eq!(report.findings[0].severity.name(), "high");
    let (uri, _) = hostile(&mut tasks, ok(CLEAN), Then::Close).await;
    let report = one(&detectors(), detector("a", Protocol::Native, &uri), &["x"]).await;
    assert_eq!((report.label.as_deref(), report.findings.len()), (Some("clean"), 0));
}

#[tokio::test]
async fn a_surer_clean_piece_does_not_hide_the_word_of_a_guilty_one() {
    let server = wiremock::MockServer::start().await;
    for (content, label, score) in [("fine", "clean", 0.99), ("foul", "toxic", 0.6)] {
        let reply = json!({"label": label, "score": score});
        wiremock::Mock::given(wiremock::matchers::body_partial_json(json!({"content": content})))
            .respond_with(wiremock::ResponseTemplate::new(200).set_body_json(reply))
            .mount(&server)
            .await;
    }
    let native = detector("a", Protocol::Native, &server.uri());
    let report = one(&detectors(), native, &["fine", "foul", "lost"]).await;
    assert_eq!((report.label.as_deref(), report.score), (Some("toxic"), Some(0.6)));
    assert_eq!((report.status, report.attempts), (Status::Success, 3));
    assert_eq!((report.gaps.len(), report.gaps[0].piece), (1, 2));
    assert_eq!(report.gaps[0].reason, ReportError::Rejected);
}

#[tokio::test]
async fn fms_asks_once_for_all_texts_and_skips_what_has_none() {
    let mut tasks = JoinSet::new();
    let body = r#"[[],[{"start":0,"end":1,"text":"b","detection":"Odd","detection_type":"pii","score":1,"evidences":[]}]]"#;
    let (uri, count) = hostile(&mut tasks, ok(body), Then::Close).await;
    let fms = |uri: &str| loaded(&format!("protocol: fms\nendpoint: {uri}\ncategories: [pii]\n"));
    let mut sample = sample(&["a", "b", "c"]);
    let image = &mut sample.pieces[1];
    (image.text, image.content_type) = (None, ContentType::Image);
    let work = sample.work();
    let detectors = detectors();
    let asks = [ask(fms(&uri))];
    let report = detectors.fan_out(&asks, &work, soon()).await.remove(0);
    assert_eq!(report.status, Status::Success, "{report:?}");
    assert_eq!(report.findings[0].place.unwrap().piece, 2);
    assert_eq!(report.findings[0].category.as_str(), "pii");
    assert_eq!((report.gaps.len(), report.gaps[0].piece), (1, 1));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let (uri, _) = hostile(&mut tasks, ok(r#"{"error":{"code":500}}"#), Then::Close).await;
    let report = one(&detectors, fms(&uri), &["x"]).await;
    assert_eq!(report.error, Some(ReportError::BadResponse));
}

#[tokio::test]
async fn a_mapping_speaks_to_any_json_service() {
    let server = wiremock::MockServer::start().await;
    let content = "say {{tenant}} \"é😀\"";
    let sent = json!({"q": content, "all": [content], "who": "t=acme", "lang": null, "n": 1,
        "k": 5, "d": "none"});
    let reply = json!({"r": {"hits": [
        {"kind": "rude", "safe": 0.25, "from": 18, "to": 22}, {"kind": "ok", "safe": 0.5},
    ]}});
    wiremock::Mock::given(wiremock::matchers::body_json(sent))
        .and(wiremock::matchers::header("x-extra", "1"))
        .and(wiremock::matchers::header("traceparent", "00-1-2-01"))
        .respond_with(wiremock::ResponseTemplate::new(200).set_body_json(reply))
        .mount(&server)
        .await;
    let http = loaded(&format!(
        r#"protocol: http
endpoint: {}
categories: [toxicity]
params: {{k: 5}}
headers: {{x-extra: "1"}}
request: {{q: "{{{{content}}}}", all: "{{{{contents}}}}", who: "t={{{{tenant}}}}",
  lang: "{{{{language}}}}", n: 1, k: "{{{{params.k}}}}", gone: "{{{{params.x?}}}}", d: "{{{{prompt|none}}}}"}}
response: {{items: r.hits, label: kind, score: safe, start: from, end: to, offset_unit: byte,
  score_transform: invert, error_when: e}}
"#,
        server.uri()
    ));
    let report = one(&detectors(), http, &[content]).await;
    assert_eq!(report.status, Status::Success, "{report:?}");
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].score, 0.75);
    let span = report.findings[0].place.unwrap().span.unwrap();
    assert_eq!((span.start, span.end), (17, 18));
}

#[tokio::test]
async fn what_a_detector_cannot_judge_is_skipped_and_unknown_ones_are_not_registered() {
    let detectors = detectors();
    let native = || detector("a", Protocol::Native, "http://127.0.0.1:1/");
    let cases = [
        (
            Detector { directions: [Direction::Output].into(), ..native() },
            "unsupported_content_type",
        ),
        (Detector { types: [ContentType::Image].into(), ..native() }, "unsupported_content_type"),
        (Detector { max_chars: Some(2), ..native() }, "too_long"),
    ];
    for (detector, reason) in cases {
        let report = one(&detectors, detector, &["abc"]).await;
        assert_eq!((report.status, report.reason()), (Status::Skipped, reason));
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

#[test]
fn a_word_means_what_the_file_says_else_what_the_reply_says_else_the_only_category() {
    let two = Detector {
        categories: ["pii", "toxicity"].map(|c| Category::parse(c).unwrap()).into(),
        ..detector("d", Protocol::Native, "http://127.0.0.1:1/")
    };
    let one = detector("d", Protocol::Native, "http://127.0.0.1:1/");
    let mut told = one.clone();
    let severity = crate::domain::finding::Severity::Low;
    let polarity = crate::domain::finding::Polarity::Positive;
    let category = Category::parse("hate").ok();
    told.labels.insert("clean".into(), file::Label { category, polarity, severity });
    let fms = loaded("protocol: fms\nendpoint: http://127.0.0.1:1/\ncategories: [toxicity]\n");
    for (detector, word, own, expected) in [
        (&told, "clean", Some("pii"), Some("hate")),
        (&one, "clean", Some("pii.email"), Some("pii.email")),
        (&one, "bad", Some("nonsense"), Some("toxicity")),
        (&one, "Clean", None, None),
        (&one, "no_pii", None, None),
        (&two, "bad", None, Some("other.d")),
        (&two, "bad", Some("other.else"), Some("other.d")),
        (&fms, "bad", None, Some("other.d")),
        (&fms, "no_pii", None, Some("other.d")),
    ] {
        let meaning = label::meaning(detector, word, own);
        assert_eq!(meaning.category.as_ref().map(Category::as_str), expected, "{word} {own:?}");
    }
    assert_eq!(&*label::clean("a\nb"), "a\\u{a}b");
    assert_eq!(label::clean(&"é\0".repeat(500)).chars().count(), 128);
}

#[test]
fn native_detectors_without_parameters_share_one_body() {
    let sample = sample(&["x"]);
    let work = sample.work();
    let texts = Texts::new(&work);
    let batch = [texts.whole(0).unwrap()];
    let native = detector("a", Protocol::Native, "http://127.0.0.1:1/");
    let (plain, set) = (json!({}), json!({"a": 1}));
    let first = protocol::body(&native, &plain, &texts, &batch);
    assert_eq!(first.as_ptr(), protocol::body(&native, &plain, &texts, &batch).as_ptr());
    let other: Value =
        serde_json::from_slice(&protocol::body(&native, &set, &texts, &batch)).unwrap();
    assert_eq!(other["params"], set);
    let sent: Value = serde_json::from_slice(&first).unwrap();
    let expected = json!({"content": "x", "content_type": "text", "metadata": {},
        "request_id": "r-1", "tenant_id": "acme"});
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_detector_whose_probe_fails_is_not_asked() {
    let mut tasks = JoinSet::new();
    let (uri, count) = hostile(&mut tasks, vec![], Then::Close).await;
    let mut dead = detector("a", Protocol::Native, &uri);
    dead.health.unhealthy_after = 1;
    let name = dead.name.clone();
    let detectors = detectors();
    let detectors_of = |d: &Detector| Catalog {
        detectors: [(d.name.clone(), Arc::new(d.clone()))].into(),
        ..Catalog::default()
    };
    detectors.retain(&detectors_of(&dead));
    assert_eq!(detectors.health(&name).state, HealthState::Unknown);
    let until = async |wanted: HealthState| {
        while detectors.health(&name).state != wanted {
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
