use std::fmt::Write as _;

use super::*;

fn metrics() -> Metrics {
    Metrics::new(&[], "test").unwrap()
}

/// docs/metrics.md as the list wants it.
fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nSeconds and bytes. Generated from `src/metrics/list.rs`; a test compares.\n\
         `process_{resident_memory,virtual_memory}_bytes`, `process_threads`,\n\
         `process_{open,max}_fds`, `process_start_time_seconds` and `process_cpu_seconds_total` come on top.\n\n\
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
    metrics.dependency(Dependency::Redis, true);
    metrics.redis_fallback();
    metrics.coalesced();
    metrics.idempotent(Idempotent::Executed);
    let gauges = DetectorGauges {
        name: "pii",
        breaker: BreakerState::Open,
        health: Some(0.5),
        part: Part::Active,
    };
    metrics.detectors(&[gauges]);
    metrics.health_check("pii", "degraded", took);
    metrics.discovery("pii", Discovery::Registered);
    metrics.routed("pii", Routed::Sent);
    metrics.turn("pii", took);
    metrics.enforcement("default", Action::Block, Violation::Finding);
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
    metrics.dependency(Dependency::Store, true);
    metrics.evidence_verification(took);
    metrics.job_ended(JobState::Completed, took);
    metrics.dead_letters(Letter::Job, 1);
    metrics.webhook(Webhook::Taken);
    metrics.event_published(EventType::JobQueued);
    metrics.event_handled(EventType::JobQueued, "log");
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
        r#"orchestrator_service_health_status{service_name="pii"} 0.5"#,
        r#"orchestrator_discovered_services{status="active"} 1"#,
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_hundred_thousand_tenants_make_21_labels_and_as_many_pairs_as_may() {
    let metrics = metrics();
    for n in 0..100_000 {
        metrics.decision(&format!("t{n}"), "p", Action::Allow, true);
    }
    let count = || {
        let text = metrics.render().unwrap();
        text.lines().filter(|line| line.starts_with("orchestrator_decisions_total{")).count()
    };
    // 20 tenants and other under `p`.
    assert_eq!(count(), 21);
    assert!(metrics.render().unwrap().contains(r#"policy="p",tenant="other"} 99980"#));
    for n in 0..100 {
        metrics.decision("t0", &format!("p{n}"), Action::Allow, true);
    }
    // t0 under nine more policies and other.
    assert_eq!(count(), 21 + 10);
    for n in 0..2_000 {
        metrics.decision(&format!("t{}", n % 20), &format!("p{}", n % 9), Action::Allow, true);
    }
    // 60 pairs, t0's `other` among them, and the `other` of nineteen more.
    assert_eq!(count(), PAIRS_MAX + 19);
}

#[test]
fn a_detector_that_is_gone_leaves_no_gauge() {
    let metrics = metrics();
    let of = |name| DetectorGauges {
        name,
        breaker: BreakerState::Closed,
        health: Some(1.0),
        part: Part::Active,
    };
    metrics.detectors(&[of("old"), of("new")]);
    metrics.detectors(&[DetectorGauges { health: None, ..of("new") }]);
    let text = metrics.render().unwrap();
    assert!(!text.contains("\"old\"") && text.contains(r#"breaker_state{detector="new""#));
    assert!(!text.contains("service_health_status{"), "health is unknown again");
    assert!(text.contains(r#"discovered_services{status="active"} 1"#));
}

#[test]
fn totals_are_the_sums_of_what_was_recorded() {
    let metrics = metrics();
    for tenant in ["a", "b"] {
        metrics.decision(tenant, "p", Action::Allow, true);
    }
    for code in ["200", "500", "502", "503", "404"] {
        metrics.http_request("/api/v1/orchestrate", "POST", code, Duration::ZERO);
        metrics.http_request("/api/v1/keys", "POST", code, Duration::ZERO);
    }
    metrics.coalesced();
    for result in ["hit", "miss", "miss", "bypass"] {
        metrics.cache_operation("responses", "get", result);
    }
    metrics.cache_operation("responses", "put", "success");
    metrics.queue_depth(Priority::Low, 2.0);
    let expected = Totals {
        decisions: 2,
        errors: 2,
        coalesced: 1,
        cache_hits: 1,
        cache_misses: 2,
        bypasses: 1,
        waiting: 2,
    };
    assert_eq!(metrics.totals(), expected);
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
