use std::fmt::Write as _;

use super::*;

fn metrics() -> Metrics {
    Metrics::new(&[], "test").unwrap()
}

/// docs/metrics.md as the list wants it.
fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nSeconds and bytes. Generated from `src/metrics/list.rs`; a test compares.\n\
         `process_resident_memory_bytes`, `process_threads` and `process_open_fds` come on top.\n\n\
         | name | type | labels | meaning | buckets |\n|---|---|---|---|---|\n",
    );
    for family in FAMILIES {
        let buckets: Vec<String> = family.buckets.iter().map(f64::to_string).collect();
        let (labels, buckets) = (family.labels.join(", "), buckets.join(" "));
        let Family { name, kind, help, .. } = family;
        writeln!(page, "| {name} | {kind} | {labels} | {help} | {buckets} |").unwrap();
    }
    page
}

#[test]
fn docs_metrics_md_lists_exactly_these_names_types_labels_and_buckets() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let wanted = page();
    if found != wanted {
        let fresh = concat!(env!("CARGO_MANIFEST_DIR"), "/target/metrics.md");
        std::fs::write(fresh, &wanted).unwrap();
        panic!("docs/metrics.md differs from the list: copy target/metrics.md over it");
    }
}

#[test]
fn every_family_appears_once_it_is_recorded() {
    let metrics = metrics();
    let took = Duration::from_millis(3);
    metrics.decision("default", "standard", Action::Block, true);
    metrics.http_request("/x", "POST", "200", took);
    metrics.payload(200);
    metrics.overhead(took);
    metrics.detector_call("pii", "1", (Status::Failed, Some(ReportError::BadResponse)), Some(took));
    metrics.cache_operation("responses", "get", "hit");
    metrics.coalesced();
    metrics.breaker("pii", BreakerState::Open);
    metrics.findings("pii", "pii.email", 2);
    metrics.coverage(1.0);
    metrics.unjudged("timeout");
    metrics.policy_eval("verdict", took);
    metrics.policy_error("verdict", "limit");
    metrics.policy_memo("plan", true);
    metrics.config_reload(ConfigKind::Policies, true, 1.0);
    metrics.snapshot("abc", 0);
    metrics.active_services(1);
    metrics.security_violation("sqli");
    metrics.rate_limit_exceeded("default");
    metrics.queue_depth(Priority::Low, 1.0);
    metrics.shed(None, Shed::Memory);
    metrics.fairness(0.9);
    metrics.panicked();
    let text = metrics.render().unwrap();
    for family in FAMILIES {
        assert!(text.contains(&format!("# TYPE {} {}\n", family.name, family.kind)), "{family:?}");
    }
    for line in [
        r#"orchestrator_decisions_total{action="block",complete="true",policy="standard",tenant="default"} 1"#,
        r#"orchestrator_detector_calls_total{detector="pii",error="bad_response",status="failed",version="1"} 1"#,
        r#"orchestrator_detector_breaker_state{detector="pii",state="open"} 1"#,
        r#"orchestrator_detector_breaker_state{detector="pii",state="closed"} 0"#,
        r#"orchestrator_findings_total{category="pii.email",detector="pii"} 2"#,
        "process_resident_memory_bytes ",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_hundred_thousand_tenants_make_21_labels_and_policies_9() {
    let metrics = metrics();
    for n in 0..100_000 {
        metrics.decision(&format!("t{n}"), "p", Action::Allow, true);
    }
    for n in 0..100 {
        metrics.decision("t0", &format!("p{n}"), Action::Allow, true);
    }
    let text = metrics.render().unwrap();
    let lines = text.lines().filter(|line| line.starts_with("orchestrator_decisions_total{"));
    // 20 tenants + other under `p`; t0 under 7 more policies + other.
    assert_eq!(lines.count(), 21 + 8);
    assert!(text.contains(r#"policy="p",tenant="other"} 99980"#));
}

#[test]
fn configured_tenants_keep_their_label_whoever_comes_first() {
    let metrics = Metrics::new(&["vip".to_owned()], "test").unwrap();
    metrics.decision("first", "p", Action::Allow, true);
    metrics.decision("vip", "p", Action::Allow, true);
    let text = metrics.render().unwrap();
    assert!(text.contains(r#"tenant="vip"} 1"#) && text.contains(r#"tenant="other"} 1"#));
}

#[test]
fn one_snapshot_revision_is_shown_and_a_failed_reload_keeps_the_stamp() {
    let metrics = metrics();
    metrics.snapshot("one", 0);
    metrics.snapshot("two", 0);
    metrics.config_reload(ConfigKind::Policies, true, 7.0);
    metrics.config_reload(ConfigKind::Policies, false, 9.0);
    let text = metrics.render().unwrap();
    assert!(text.contains(r#"snapshot_info{revision="two"} 1"#) && !text.contains("\"one\""));
    assert!(text.contains(r#"success_timestamp_seconds{kind="policies"} 7"#));
    assert!(text.contains(r#"reload_successful{kind="policies"} 0"#));
}

#[test]
fn odd_methods_and_categories_become_other() {
    let metrics = metrics();
    metrics.http_request("/x", "BREW", "200", Duration::ZERO);
    metrics.findings("pii", "other.thing", 1);
    let text = metrics.render().unwrap();
    assert!(text.contains(r#"method="other""#) && text.contains(r#"category="other""#));
}
