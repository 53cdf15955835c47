//! What a request costs that is refused by a service at its limit.

use serde_json::json;
use tokio::task::JoinSet;

use super::checks::row;
use super::fakes::{self, Kind};
use super::load::Target;
use super::{core_seconds, heavy, native, serve, tenant, tier};

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
    let limits = [
        ("ORCHESTRATION_SERVER__LIMITS__CONCURRENCY", "1"),
        ("ORCHESTRATION_SERVER__LIMITS__QUEUE_MAX", "1"),
    ];
    let (mut free, mut full) = (serve(dir.path(), &[]), serve(dir.path(), &limits));
    free.discard_output();
    full.discard_output();
    let count = if tier().pairs > 1 { 4_000 } else { 200 };
    let (judged, statuses) = cost(&free, &Target::new(&free.address, None), count / 10).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    // One is being judged and one waits, both as urgent as can be, until the test ends.
    let target = Target::new(&full.address, None);
    for _ in 0..2 {
        let body = json!({"tenant_id": "t", "content": "fault:hang", "priority": "critical",
            "timeout_ms": 300_000});
        let target = target.clone();
        tasks.spawn(async move { _ = target.ask(body.to_string()).await });
    }
    let waiting = "orchestrator_queue_depth{priority=\"critical\"} 1";
    while !target.get("/metrics").await.contains(waiting) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let (refused, statuses) = cost(&full, &target, count).await;
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    let told = format!("{refused:.0} of {judged:.0} µs ({:.1} %)", refused / judged * 100.0);
    row("CPU of a refused request of 20 kB, of one that is judged", &told, &format!("{count}"));
    assert!(refused < judged / 2.0, "{refused} of {judged} µs");
}
