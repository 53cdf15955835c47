//! What a request costs that is refused by a service at its limit.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::checks::row;
use super::fakes::{self, Kind};
use super::load::Target;
use super::overload::heavy;
use super::{BOOT, core_seconds, key, native, serve, tenant, tier};

/// Room for one that is judged and one that waits.
const LIMITS: [(&str, &str); 2] = [
    ("ORCHESTRATION_SERVER__LIMITS__CONCURRENCY", "1"),
    ("ORCHESTRATION_SERVER__LIMITS__QUEUE_MAX", "1"),
];

/// Takes both places for requests as urgent as can be, until `tasks` end.
async fn occupy(tasks: &mut JoinSet<()>, target: &Target) {
    for _ in 0..2 {
        let body = json!({"tenant_id": "t", "content": "fault:hang", "priority": "critical",
            "timeout_ms": 300_000});
        let target = target.clone();
        tasks.spawn(async move { _ = target.ask(body.to_string()).await });
    }
    let waiting = "orchestrator_queue_depth{priority=\"critical\"} 1";
    while !target.get("/metrics").await.contains(waiting) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Microseconds of a core for each of `count` requests, sixteen at once, and how they were answered.
async fn cost(served: &crate::binary::Served, target: &Target, count: usize) -> (f64, Vec<u16>) {
    let before = core_seconds(served);
    let bodies = (0..count).map(|number| heavy(number, "low")).collect();
    let samples = target.crowd(16, bodies).await;
    let each = (core_seconds(served) - before) / count as f64 * 1e6;
    (each, samples.into_iter().map(|sample| sample.status).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_request_costs_a_small_part_of_one_that_is_judged() {
    let (mut tasks, dir) = (JoinSet::new(), tempfile::tempdir().unwrap());
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let fake = fakes::start(&mut tasks, Kind::Obeys).await;
    native(dir.path(), "slow", ("http", fake.port), "timeout: 60s\nhealth: {path: ''}\n");
    tenant(dir.path(), "t", "", &["slow".to_owned()]);
    // Each has records of its own.
    let data = tempfile::tempdir().unwrap();
    let own = [("ORCHESTRATION_PATHS__DATA", data.path().to_str().unwrap())];
    let (mut free, mut full) = (serve(dir.path(), &own), serve(dir.path(), &LIMITS));
    free.discard_output();
    full.discard_output();
    let count = if tier().pairs > 1 { 4_000 } else { 200 };
    let (judged, statuses) = cost(&free, &Target::new(&free.address, None), count / 10).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let target = Target::new(&full.address, None);
    occupy(&mut tasks, &target).await;
    let (refused, statuses) = cost(&full, &target, count).await;
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    let told = format!("{refused:.0} of {judged:.0} µs ({:.1} %)", refused / judged * 100.0);
    row("CPU of a refused request of 20 kB, of one that is judged", &told, &format!("{count}"));
    assert!(refused < judged / 2.0, "{refused} of {judged} µs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_low_priority_is_refused_before_its_body_where_only_more_urgent_ones_wait() {
    let (mut tasks, dir) = (JoinSet::new(), tempfile::tempdir().unwrap());
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let fake = fakes::start(&mut tasks, Kind::Obeys).await;
    native(dir.path(), "slow", ("http", fake.port), "timeout: 60s\nhealth: {path: ''}\n");
    tenant(dir.path(), "t", "", &["slow".to_owned()]);
    let own = [
        ("ORCHESTRATION_ENV", "staging"),
        ("ORCHESTRATION_BOOTSTRAP_KEY", BOOT),
        ("ORCHESTRATION_SECURITY__OUTBOUND_ALLOW", "[127.0.0.1]"),
    ];
    let mut served = serve(dir.path(), &[&LIMITS[..], &own].concat());
    served.discard_output();
    let [low, high] = [Some("low"), None].map(|most| key(&served.address, "t", most));
    let (low, high) = (low.await, high.await);
    let bodiless = async |key: &str| {
        let mut stream = tokio::net::TcpStream::connect(&served.address).await.unwrap();
        let head = format!(
            "POST /api/v1/orchestrate HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\
             content-type: application/json\r\ncontent-length: 100000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read_exact(&mut answer));
        read.await.is_ok_and(|read| read.is_ok()).then(|| answer[9..].to_vec())
    };
    assert_eq!(bodiless(&low).await, None, "refused although there is room");
    occupy(&mut tasks, &Target::new(&served.address, Some(BOOT))).await;
    assert_eq!(bodiless(&low).await.as_deref(), Some(&b"503"[..]));
    assert_eq!(bodiless(&high).await, None, "its body may make it urgent enough");
}
