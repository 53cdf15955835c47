//! Spans as a collector receives them: decoded from the protobuf that was sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use wiremock::matchers::{any, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::app::{Answer, client, send};
use crate::binary::{Served, command, run};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

async fn answering(status: u16, delay: Duration) -> MockServer {
    let server = MockServer::builder().start().await;
    let reply = ResponseTemplate::new(status).set_delay(delay);
    Mock::given(any()).respond_with(reply).mount(&server).await;
    server
}

/// A detector that finds nothing.
async fn vendor() -> MockServer {
    let server = MockServer::builder().start().await;
    let reply = ResponseTemplate::new(200).set_body_json(json!({"findings": []}));
    Mock::given(path("/judge")).respond_with(reply).mount(&server).await;
    server
}

/// The binary with that detector, which sends its spans to `collector`.
fn serve(dir: &Path, vendor: &MockServer, collector: Option<&str>) -> Served {
    assert!(run(dir, &["init"]).status.success());
    let file = format!(
        "name: vendor\nprotocol: native\nendpoint: {}/judge\ncategories: [toxicity]\n\
         health: {{path: ''}}\n",
        vendor.uri()
    );
    std::fs::write(dir.join("detectors/vendor.yaml"), file).unwrap();
    let mut start = command(dir);
    start
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "500ms");
    if let Some(collector) = collector {
        start.env("ORCHESTRATION_TELEMETRY__OTLP_ENDPOINT", collector);
    }
    Served::start(start)
}

async fn ask(served: &Served, content: &str, headers: &[(&str, &str)]) -> Answer {
    let at = format!("http://{}/api/v1/orchestrate", served.address);
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    let body = json!({"content": content, "detectors": {"add": ["vendor"]}}).to_string();
    let answer = send(&client(), ("POST", &at), &all, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn spans(collector: &MockServer) -> Vec<Span> {
    let exports = collector.received_requests().await.unwrap();
    let mut spans = Vec::new();
    for export in exports {
        assert_eq!(export.url.path(), "/v1/traces");
        assert_eq!(export.headers["content-type"], "application/x-protobuf");
        let export = ExportTraceServiceRequest::decode(export.body.as_slice()).unwrap();
        for of_one in export.resource_spans {
            let own = &of_one.resource.as_ref().unwrap().attributes;
            assert!(own.iter().any(|pair| pair.key == "service.name"), "{own:?}");
            spans.extend(of_one.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Attribute| match value {
        Attribute::StringValue(text) => text.clone(),
        Attribute::IntValue(number) => number.to_string(),
        other @ (Attribute::BoolValue(_)
        | Attribute::DoubleValue(_)
        | Attribute::ArrayValue(_)
        | Attribute::KvlistValue(_)
        | Attribute::BytesValue(_)) => format!("{other:?}"),
    };
    let pairs = span.attributes.iter();
    pairs
        .map(|pair| {
            let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
            (pair.key.as_str(), value.map(text).unwrap_or_default())
        })
        .collect()
}

fn decisions(out: &str) -> Vec<Value> {
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"] == "decision").collect()
}

#[tokio::test]
async fn a_request_is_one_trace_from_its_caller_to_its_detectors() {
    let (collector, vendor) = (answering(200, Duration::ZERO).await, vendor().await);
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &vendor, Some(&collector.uri()));
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let told = [("traceparent", parent.as_str()), ("tracestate", "shop=7")];
    ask(&served, "Mail canary@evil.io", &told).await;
    let unkept = format!("00-{}-{CALLER}-00", TRACE.replace('4', "5"));
    ask(&served, "unkept canary", &[("traceparent", &unkept)]).await;
    ask(&served, "canary of nobody", &[("traceparent", "00-not-sound-01")]).await;
    let (code, out, error) = served.stop();
    assert_eq!(code, Some(0), "{error}");

    let spans = spans(&collector).await;
    let ours: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let named = |name: &str| {
        let all: Vec<_> = ours.iter().map(|span| &span.name).collect();
        let found = ours.iter().find(|span| span.name == name);
        Span::clone(found.unwrap_or_else(|| panic!("{name}: {all:?}")))
    };
    let root = named("POST /api/v1/orchestrate");
    assert_eq!(hex(&root.parent_span_id), CALLER);
    let found = attributes(&root);
    let expected = [
        ("http.request.method", "POST"),
        ("http.route", "/api/v1/orchestrate"),
        ("http.response.status_code", "200"),
        ("tenant.id", "default"),
        ("decision.action", "redact"),
    ];
    for (name, value) in expected {
        assert_eq!(found.get(name).map(String::as_str), Some(value), "{name} of {found:?}");
    }
    let plan = named("plan");
    let parents = [
        ("plan", &root),
        ("policy plan", &plan),
        ("policy verdict", &root),
        ("detector pii", &root),
        ("detector vendor", &root),
    ];
    for (name, parent) in parents {
        assert_eq!(named(name).parent_span_id, parent.span_id, "{name}");
    }
    let detector = named("detector vendor");
    let found = attributes(&detector);
    assert_eq!(
        (found["detector.status"].as_str(), found["detector.attempts"].as_str()),
        ("success", "1")
    );
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE.replace('4', "5")), "not kept");

    let calls = vendor.received_requests().await.unwrap();
    let header =
        |call: usize, name: &str| calls[call].headers.get(name).map(|v| v.to_str().unwrap());
    let own = format!("00-{TRACE}-{}-01", hex(&detector.span_id));
    assert_eq!(
        (header(0, "traceparent"), header(0, "tracestate")),
        (Some(own.as_str()), Some("shop=7"))
    );
    let next = header(1, "traceparent").unwrap();
    assert!(next.starts_with(&unkept[..36]) && next.ends_with("-00"), "{next}");
    assert!(!next.contains(CALLER), "it is our span's child");

    let lines = decisions(&out);
    assert_eq!(
        (&lines[0]["trace_id"], &lines[0]["span_id"]),
        (&json!(TRACE), &json!(hex(&root.span_id)))
    );
    let fresh = lines[2]["trace_id"].as_str().unwrap();
    assert!(spans.iter().any(|span| hex(&span.trace_id) == fresh), "a trace of its own begins");
    let sent = collector.received_requests().await.unwrap();
    let leak = |body: &[u8]| String::from_utf8_lossy(body).contains("canary");
    assert!(!sent.iter().any(|export| leak(&export.body)), "content left in a span");
}

/// Has `content` judged as a job, and waits for its end.
async fn job(served: &Served, body: &Value, headers: &[(&str, &str)]) {
    let at = format!("http://{}/api/v1/jobs", served.address);
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    let made = send(&client(), ("POST", &at), &all, body.to_string().as_bytes()).await;
    assert_eq!(made.status, 202, "{}", made.text);
    let at = format!("{at}/{}", made.json()["job_id"].as_str().unwrap());
    let begun = Instant::now();
    loop {
        let job = send(&client(), ("GET", &at), &[], b"").await;
        if job.json()["state"] == "completed" {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", job.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn jobs() -> [Value; 2] {
    let of = |content: &str| json!({"content": content, "detectors": {"add": ["vendor"]}});
    let batch = json!({"requests": [of("canary in a batch")]});
    [
        json!({"job_type": "orchestrate", "job_data": of("canary waits")}),
        json!({"job_type": "batch", "job_data": batch}),
    ]
}

#[tokio::test]
async fn a_job_is_a_span_of_the_trace_that_made_it_however_long_it_waited() {
    let (collector, vendor) = (answering(200, Duration::ZERO).await, vendor().await);
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &vendor, Some(&collector.uri()));
    let traces = [TRACE.to_owned(), TRACE.replace('4', "5")];
    for (mut body, trace) in jobs().into_iter().zip(&traces) {
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(300);
        body["not_before"] = json!(soon.to_string());
        let parent = format!("00-{trace}-{CALLER}-01");
        job(&served, &body, &[("traceparent", &parent), ("tracestate", "shop=7")]).await;
    }
    let (code, out, error) = served.stop();
    assert_eq!(code, Some(0), "{error}");
    let spans = spans(&collector).await;
    let calls = vendor.received_requests().await.unwrap();
    for (at, (trace, kind)) in traces.iter().zip(["orchestrate", "batch"]).enumerate() {
        let ours: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == *trace).collect();
        let named = |name: &str| {
            let all: Vec<_> = ours.iter().map(|span| &span.name).collect();
            let mut found = ours.iter().filter(|span| span.name == name);
            let one = found.next().unwrap_or_else(|| panic!("{kind} {name}: {all:?}"));
            assert!(found.next().is_none(), "{kind} {name} twice: {all:?}");
            Span::clone(one)
        };
        let (root, own) = (named("POST /api/v1/jobs"), named("job"));
        assert_eq!(hex(&root.parent_span_id), CALLER);
        assert_eq!(own.parent_span_id, root.span_id, "{kind}: the job stands in its request");
        let found = attributes(&own);
        assert_eq!((found["job.type"].as_str(), found["job.attempt"].as_str()), (kind, "1"));
        assert_eq!(found["tenant.id"], "default");
        let detector = named("detector vendor");
        assert_eq!(detector.parent_span_id, own.span_id, "{kind}");
        let told = format!("00-{trace}-{}-01", hex(&detector.span_id));
        assert_eq!(calls[at].headers["traceparent"], told.as_str(), "{kind}");
        assert_eq!(calls[at].headers["tracestate"], "shop=7", "{kind}");
        let lines = decisions(&out);
        assert_eq!(lines[at]["route"], "job");
        assert_eq!(
            (&lines[at]["trace_id"], &lines[at]["span_id"]),
            (&json!(trace), &json!(hex(&own.span_id)))
        );
    }
    let sent = collector.received_requests().await.unwrap();
    let leak = |body: &[u8]| String::from_utf8_lossy(body).contains("canary");
    assert!(!sent.iter().any(|export| leak(&export.body)), "content left in a span");
}

#[tokio::test]
async fn without_a_collector_a_job_tells_detectors_and_log_of_who_made_it() {
    let vendor = vendor().await;
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &vendor, None);
    let parent = format!("00-{TRACE}-{CALLER}-01");
    for body in jobs() {
        job(&served, &body, &[("traceparent", &parent), ("tracestate", "shop=7")]).await;
    }
    let (_, out, _) = served.stop();
    let calls = vendor.received_requests().await.unwrap();
    assert_eq!(calls.len(), 2);
    for call in calls {
        assert_eq!(call.headers["traceparent"], parent.as_str());
        assert_eq!(call.headers["tracestate"], "shop=7");
    }
    let lines = decisions(&out);
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert_eq!((&line["trace_id"], &line["span_id"]), (&json!(TRACE), &json!(CALLER)));
    }
}

#[tokio::test]
async fn without_a_collector_a_callers_context_reaches_log_and_detectors_as_it_came() {
    let vendor = vendor().await;
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), &vendor, None);
    let parent = format!("00-{TRACE}-{CALLER}-01");
    ask(&served, "hello", &[("traceparent", &parent), ("tracestate", "shop=7")]).await;
    ask(&served, "good morning", &[]).await;
    let (_, out, _) = served.stop();
    let calls = vendor.received_requests().await.unwrap();
    assert_eq!(
        (&calls[0].headers["traceparent"], &calls[0].headers["tracestate"]),
        (&parent.parse().unwrap(), &"shop=7".parse().unwrap())
    );
    assert!(!calls[1].headers.contains_key("traceparent"));
    let lines = decisions(&out);
    assert_eq!((&lines[0]["trace_id"], &lines[0]["span_id"]), (&json!(TRACE), &json!(CALLER)));
    assert!(lines[1].get("trace_id").is_none() && lines[1].get("span_id").is_none());
}

#[tokio::test]
async fn a_collector_that_hangs_or_is_dead_holds_up_no_request_and_no_end_for_long() {
    let (hung, vendor) = (answering(200, Duration::from_secs(60)).await, vendor().await);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for collector in [hung.uri(), dead] {
        let dir = tempfile::tempdir().unwrap();
        let served = serve(dir.path(), &vendor, Some(&collector));
        ask(&served, "warm", &[]).await;
        let mut slowest = Duration::ZERO;
        // More spans than may wait.
        for round in 0..50 {
            let begun = Instant::now();
            ask(&served, &format!("hello {round}"), &[]).await;
            slowest = slowest.max(begun.elapsed());
        }
        assert!(slowest < Duration::from_secs(2), "{collector}: {slowest:?}");
        let begun = Instant::now();
        let (code, out, error) = served.stop();
        assert_eq!(code, Some(0), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(decisions(&out).len(), 51);
    }
}
