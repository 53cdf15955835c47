//! Tests of the module as a whole, by topic; detectors and servers they share stand here.

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
use crate::domain::trace::TraceContext;
use crate::operations::breaker::{BreakerMode, BreakerSpec, BreakerState};
use crate::outbound::Env;
use crate::settings::Settings;

mod calls;
mod coalescing;
mod early;
mod fuzz;
mod gathering;
mod hostile;
mod mappings;
mod parts;
mod protocols;
mod replicas;
mod replies;

/// What a caller told of its span.
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn prepare(kind: Builtin, params: &Value) -> Option<Arc<dyn Judge>> {
    struct Echo;
    impl Judge for Echo {
        fn judge(&self, text: &str) -> Judged {
            assert_ne!(text, "panic");
            Judged { label: Some("echo".into()), score: Some(0.5), findings: vec![], gaps: vec![] }
        }
    }
    if kind == Builtin::Keywords {
        return Some(Arc::new(parts::Finder));
    }
    (kind == Builtin::Echo && params.get("bad").is_none()).then(|| Arc::new(Echo) as Arc<dyn Judge>)
}

fn detectors_in(env: Env) -> Detectors {
    let keys = DataKeys::new(&crate::seal::Key::from_bytes([7; 32]), None).unwrap();
    let config = DetectConfig {
        guard: Arc::new(Guard::new(env, vec![])),
        parallel_max: 10,
        threads: 2,
        reply_bytes_max: 1 << 20,
        inline_bytes_max: 0,
        prepare,
        metrics: Arc::new(Metrics::new(&[], "test").unwrap()),
    };
    Detectors::new(config, keys)
}

fn detectors() -> Detectors {
    detectors_in(Env::Development)
}

fn endpoint_at(uri: &str) -> file::Endpoint {
    file::Endpoint { uri: uri.parse().unwrap(), weight: 1 }
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
        endpoint: (!endpoint.is_empty()).then(|| endpoint_at(endpoint)),
        replicas: Vec::new(),
        protocol,
        types: [ContentType::Text].into(),
        languages: Default::default(),
        directions: Default::default(),
        max_chars: None,
        chunks: file::Chunks { overlap: 0, max: 64 },
        categories: [Category::parse("toxicity").unwrap()].into(),
        first_category: Category::parse("toxicity").unwrap(),
        labels: Default::default(),
        calibration: Default::default(),
        annotator: false,
        timeout: ms(300),
        retry: file::Retry { attempts: 1, backoff: ms(1) },
        breaker: BreakerSpec {
            mode: BreakerMode::Window,
            failures: 5,
            window: Duration::from_secs(60),
            failure_ratio: 0.5,
            open_for: Duration::from_secs(60),
            open_max: Duration::from_secs(300),
            probes: 3,
            slow_call: None,
        },
        bulkhead: file::Bulkhead { max_in_flight: 32, queue: 64 },
        hedge: None,
        throttle: None,
        batch: None,
        batch_delay: Duration::ZERO,
        health: file::Health {
            path: "/health".into(),
            interval: Duration::from_secs(10),
            timeout: ms(200),
            unhealthy_after: 3,
            healthy_after: 1,
        },
        auth: file::Auth::None,
        delegation: None,
        weight: 1.0,
        cost: 1.0,
        params: json!({}),
        views: vec![],
        private_to: None,
        tenants: Default::default(),
        version: "1".into(),
        versions: vec![],
        shadow: false,
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
    let context = LoadContext {
        env,
        secret: &secret,
        guard: &Guard::new(Env::Development, vec![]),
        check_params: &|_| Ok(()),
        tiers: &Settings::default().tiers,
    };
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
        Work { request: &self.request, caller: "tester", pieces: &self.pieces }
    }
}

fn sample(texts: &[&str]) -> Sample {
    let parts = texts.iter().map(|text| Part::Text { text: (*text).into() }).collect();
    let body = Body::Content(Content::Parts(parts));
    let (id, tenant) = (RequestId::parse("r-1").unwrap(), TenantId::parse("acme").unwrap());
    let pieces = body.pieces(Which::Last, ContentType::Text);
    let trace = TraceContext::parse(TRACE, None);
    Sample { request: Request { trace, ..Request::plain(id, tenant, body) }, pieces }
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
    /// Says it again to each request of the connection.
    Answer,
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
        Then::Answer => {
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0)
                && stream.write_all(&reply).await.is_ok()
            {}
        }
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
