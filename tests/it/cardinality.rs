//! Callers cannot make series: whatever tenants they name, what a scrape holds stays small.
//!
//! `CARDINALITY=100000` is the figure of the design and runs before a release (`just cardinality`).

use std::time::{Duration, Instant};

use detector_orchestrator::api::access::RULES;
use detector_orchestrator::domain::category::{Category, TREE};
use detector_orchestrator::domain::event::EventType;
use detector_orchestrator::metrics::FAMILIES;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::app::{App, spawn, spawn_with, write};

/// Series a service may have, whatever it was asked.
const SERIES_MAX: usize = 5_000;
const REAL_TENANTS: usize = 50;

async fn series(app: &App) -> (usize, String) {
    let text = app.get("/metrics").await.text;
    let count = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
    (count, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_tenants_are_403_and_make_no_series() {
    let ids: usize = std::env::var("CARDINALITY").map_or(2_000, |n| n.parse().unwrap());
    let app = spawn_with(|root| {
        for n in 0..REAL_TENANTS {
            let text = format!("schema_version: 1\nid: real-{n}\n");
            write(root, &format!("config/tenants/real-{n}.yaml"), &text);
        }
    })
    .await;
    for n in 0..REAL_TENANTS {
        let answer = app.ask(&json!({"content": "a", "tenant_id": format!("real-{n}")})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let ask = async |n: usize| {
        let id = format!("unknown-{n}");
        let body = json!({"content": "a", "tenant_id": id}).to_string();
        let mut headers = vec![("content-type", "application/json")];
        // Every other one names itself in the header.
        let body = if n.is_multiple_of(2) { body } else { r#"{"content": "a"}"#.to_owned() };
        if !n.is_multiple_of(2) {
            headers.push(("x-tenant-id", &id));
        }
        let answer = app.send("POST", "/api/v1/orchestrate", &headers, body.as_bytes()).await;
        (answer.status, answer.json()["code"] == "TENANT_MISMATCH")
    };
    let (mut before, mut wrong) = (0, 0);
    for half in [0..ids / 2, ids / 2..ids] {
        before = series(&app).await.0.max(before);
        let answers = futures_util::stream::iter(half.map(ask)).buffer_unordered(32);
        wrong += answers.filter(|answer| std::future::ready(*answer != (403, true))).count().await;
    }
    assert_eq!(wrong, 0, "answers other than 403 TENANT_MISMATCH");
    let started = Instant::now();
    let (after, text) = series(&app).await;
    let scrape = started.elapsed();
    println!("{ids} unknown tenants: {after} series, scraped in {scrape:?}");
    assert!(after <= SERIES_MAX, "{after} series");
    // The first refusal itself may have made some.
    assert!(after <= before + 40, "{before} series became {after}");
    assert!(!text.contains("unknown-"), "a tenant that does not exist became a label");
    let tenants: std::collections::BTreeSet<&str> =
        text.split("tenant=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(tenants.len(), 21, "{tenants:?}");
    assert!(scrape < Duration::from_millis(500), "{scrape:?}");
}

/// Statuses of a route that reads, and of one that takes a body.
const READS: usize = 8;
const WRITES: usize = 20;
/// Names of methods in labels.
const METHODS: usize = 8;
/// Patterns outside the table: the documents, their pages, what matches nothing.
const PAGES: usize = 8;

/// How many combinations the labels of a family can have on a service as shipped. A new label needs
/// a line here.
fn combinations(labels: &[&str], detectors: usize, categories: usize) -> usize {
    let bare =
        RULES.iter().filter(|(_, path, _)| path.starts_with("/health") || *path == "/metrics");
    let served = RULES.iter().chain(bare);
    let paths: std::collections::BTreeSet<&str> = RULES.iter().map(|rule| rule.1).collect();
    let routes = paths.len() + 6 + PAGES;
    match labels {
        [] => 1,
        // 60 pairs of a tenant and a policy, and each tenant with `other`.
        ["tenant", "policy", "action", "complete"] => (60 + 21) * 5 * 2,
        // From redact on; four reasons.
        ["tenant", "action", "violation_type"] => 21 * 3 * 4,
        // And none, where only the key was known.
        ["tenant"] => 22,
        ["route", "method", "code"] => {
            let statuses = served.map(|rule| if rule.0 == "GET" { READS } else { WRITES });
            // Another method is `other` and answered 405 or refused before, what matches nothing 404.
            statuses.sum::<usize>() + routes * 3 + METHODS * 3
        }
        ["route"] => routes,
        // Each status with each of its errors.
        ["detector", "version", "status", "error"] => detectors * 12,
        ["service_name", "status"] => detectors * 5,
        ["service_name", "action"] => detectors * 3,
        ["status"] => 3,
        ["detector"] | ["service_name"] => detectors,
        ["detector", "state"] => detectors * 3,
        ["detector", "category"] => categories,
        ["reason"] => 20,
        ["state"] => 3,
        // Three ends of a look, and a value put in.
        ["cache", "operation", "result"] => 4,
        ["priority"] => 5,
        ["priority", "reason"] => 5 * 3,
        ["point"] => 3,
        ["point", "kind"] => 3 * 6,
        ["point", "result"] => 3 * 2,
        ["result"] => 5,
        ["kind"] => 4,
        ["kind", "result"] => 4 * 2,
        ["revision"] | ["version", "revision"] => 1,
        ["violation_type"] => 8,
        ["event_type"] => EventType::ALL.len(),
        // The one handler.
        ["event_type", "handler"] => EventType::ALL.len(),
        ["dependency"] => 4,
        other => panic!("say here how many values {other:?} can have"),
    }
}

#[tokio::test]
async fn all_that_labels_can_hold_together_stays_below_the_bound() {
    let app = spawn().await;
    let snapshot = app.api.live.current();
    let detectors = &snapshot.catalog.detectors;
    let found = |name: &&&str| Category::parse(name).unwrap();
    let categories = detectors.values().map(|detector| {
        let finds = |name: &&&str| detector.categories.iter().any(|own| own.covers(&found(name)));
        1 + TREE.iter().filter(finds).count()
    });
    // What tenants register is one more, which finds anything.
    let categories = categories.sum::<usize>() + TREE.len() + 1;
    let names = detectors.len() + 1;
    // Those of the process.
    let mut worst = 7;
    for family in FAMILIES {
        let each = match family.kind {
            "histogram" => family.buckets.len() + 3,
            _ => 1,
        };
        worst += each * combinations(family.labels, names, categories);
    }
    let now = series(&app).await.0;
    println!("at most {worst} series, {} detectors; {now} at the start", detectors.len());
    assert!(now < worst && worst <= SERIES_MAX, "{now} now, {worst} at most");
}
