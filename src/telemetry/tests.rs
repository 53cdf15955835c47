use std::sync::{Arc, Mutex};

use super::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn capture(shape: Shape, work: impl FnOnce(&Telemetry)) -> Vec<String> {
    let captured = Captured::default();
    let telemetry = Telemetry::to(captured.clone(), shape);
    let subscriber = telemetry.subscriber(EnvFilter::new("info"));
    tracing::subscriber::with_default(subscriber, || work(&telemetry));
    drop(telemetry);
    let bytes = captured.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

const HOSTILE: &str = "a\n{\"level\":\"ERROR\"}\r\u{1b}[31m\u{0}\u{2028}\"";

fn hostile() -> DecisionLine<'static> {
    DecisionLine {
        request_id: HOSTILE,
        trace_id: HOSTILE,
        span_id: HOSTILE,
        tenant: HOSTILE,
        key_prefix: HOSTILE,
        route: HOSTILE,
        status: 200,
        code: Some(HOSTILE),
        action: Some(HOSTILE),
        complete: Some(true),
        policy: Some(HOSTILE),
        revision: HOSTILE,
        cache: HOSTILE,
        detectors: 2,
        failed: vec![HOSTILE],
        unjudged: 1,
        findings: BTreeMap::from([(HOSTILE, 3)]),
        content_chars: 5,
        duration_ms: 1.5,
        overhead_ms: 0.5,
        priority: HOSTILE,
        degraded: vec![HOSTILE],
        idempotency: HOSTILE,
    }
}

#[test]
fn a_decision_is_one_json_line_with_exactly_the_listed_keys() {
    let lines = capture(Shape::Json, |telemetry| telemetry.decision_line(&hostile()));
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line: Map<String, Value> = serde_json::from_str(&lines[0]).unwrap();
    let mut keys: Vec<&str> = line.keys().map(String::as_str).collect();
    let mut listed: Vec<&str> = "ts level message request_id trace_id span_id tenant key_prefix \
        route status code action complete policy revision cache detectors failed unjudged findings \
        content_chars duration_ms overhead_ms priority degraded idempotency"
        .split_whitespace()
        .collect();
    keys.sort_unstable();
    listed.sort_unstable();
    assert_eq!(keys, listed);
    assert_eq!((&line["message"], &line["level"]), (&"decision".into(), &"INFO".into()));
    assert_eq!(line["tenant"], HOSTILE, "the value comes back whole");
    assert_eq!(line["findings"][HOSTILE], 3);
}

#[test]
fn no_field_of_any_event_can_make_a_second_line_or_a_terminal_sequence() {
    for shape in [Shape::Json, Shape::Pretty] {
        let lines = capture(shape, |telemetry| {
            telemetry.decision_line(&hostile());
            tracing::info!(field = HOSTILE, debug = ?HOSTILE, "{HOSTILE}");
        });
        assert_eq!(lines.len(), 2, "{shape:?} {lines:?}");
        assert!(lines.iter().all(|line| !line.contains(|c: char| c.is_ascii_control())));
    }
}

#[test]
fn an_event_carries_ts_level_message_and_typed_fields() {
    let lines = capture(Shape::Json, |_| tracing::warn!(count = 3, up = true, "Reload failed"));
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert!(line["ts"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let found = (&line["level"], &line["message"], &line["count"], &line["up"]);
    assert_eq!(found, (&"WARN".into(), &"Reload failed".into(), &3.into(), &true.into()));
}

#[test]
fn ten_thousand_decisions_are_ten_thousand_lines() {
    let lines = capture(Shape::Json, |telemetry| {
        for _ in 0..10_000 {
            telemetry.decision_line(&DecisionLine::default());
        }
    });
    assert_eq!(lines.len(), 10_000);
}

#[test]
fn a_wrong_level_is_named() {
    let error = init("lo=ud=er", LogFormat::Json, None).err().unwrap();
    assert!(error.to_string().contains("lo=ud=er"), "{error}");
}

#[test]
fn a_share_of_lines_is_about_that_share() {
    let kept = |share| (0..10_000).filter(|n| keeps(share, &format!("request-{n}"))).count();
    assert_eq!((kept(1.0), kept(0.0)), (10_000, 0));
    assert!((900..1_100).contains(&kept(0.1)), "{}", kept(0.1));
}

#[test]
fn spans_that_go_nowhere_are_not_even_made() {
    fn costly() -> &'static str {
        panic!("its attributes are worked out")
    }
    let captured = Captured::default();
    let telemetry = Telemetry::to(captured.clone(), Shape::Json);
    tracing::subscriber::with_default(telemetry.subscriber(EnvFilter::new("info")), || {
        let span = tracing::trace_span!(target: traces::SPANS, "request", tenant = costly());
        assert!(span.is_disabled() && traces::current().is_none());
    });
}
