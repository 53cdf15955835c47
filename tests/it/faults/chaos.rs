//! A bad network between the service and a detector that others wrote.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::checks::{Checks, metric, row};
use super::load::{Sample, Target, complete};
use super::proxy::{self, Plan, Trouble};
use super::{CANARY, report_ms, tenant, tier};
use crate::app::write;
use crate::real::{Server, example_at};

/// What the network does, and the errors of the reports that may follow; empty is an answer.
const TROUBLES: [(&str, Plan, &[&str]); 10] = [
    ("none", |_| Trouble::None, &[""]),
    ("delay", |_| Trouble::Delay(Duration::from_secs(3)), &["timeout"]),
    ("jitter", |_| Trouble::Jitter(Duration::from_millis(50)), &[""]),
    ("bandwidth", |_| Trouble::Bandwidth(50), &["timeout"]),
    ("reset", |_| Trouble::Reset, &["communication"]),
    ("half close", |_| Trouble::HalfClose, &["communication"]),
    ("black hole", |_| Trouble::BlackHole, &["timeout"]),
    ("corrupt", |_| Trouble::Corrupt, &["bad_response", "communication"]),
    ("pieces", |_| Trouble::Pieces, &[""]),
    ("every second", every_second, &["", "communication"]),
];

fn every_second(number: usize) -> Trouble {
    if number.is_multiple_of(2) { Trouble::None } else { Trouble::Reset }
}

fn bodies(what: &str, count: usize) -> Vec<String> {
    let content = |n| format!("{CANARY} {what} {n}: mail ana@example.org");
    let body = |n| json!({"tenant_id": "t", "content": content(n), "include": ["detectors"]});
    (0..count).map(|n| body(n).to_string()).collect()
}

/// Whether the detector answered and what it found counts, or it did not and nothing is allowed.
fn check(checks: &mut Checks, what: &str, expected: &[&str], sample: &Sample) {
    let value = &sample.value;
    let report = value["detectors"][0].clone();
    let error = match report["status"].as_str() {
        Some("success") => "",
        Some("timeout") => "timeout",
        Some(_) | None => report["error"].as_str().unwrap_or("no report"),
    };
    checks.holds(expected.contains(&error), || format!("{what}: {} {value}", sample.status));
    let sound = match error {
        "" => complete(value) && value["action"] == "redact",
        _ => !complete(value) && value["action"] == "review",
    };
    checks.holds(sound && value["allowed"] == (error.is_empty()), || format!("{what}: {value}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_network_does_a_detector_is_understood_or_its_answer_is_missed() {
    let (tier, mut checks, mut tasks) = (tier(), Checks::default(), JoinSet::new());
    let server = Server::start("guardrails", 0).await;
    let proxy = proxy::start(&mut tasks, server.port).await;
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let more = "timeout: 1s\nretry: {attempts: 1}\nhealth: {unhealthy_after: 1000}\n\
                breaker: {failures: 10000}\n";
    let file = example_at("guardrails-pii", proxy.port) + more;
    write(dir.path(), "detectors/guardrails-pii.yaml", &file);
    tenant(dir.path(), "t", "", &["guardrails-pii".to_owned()]);
    let mut served = super::serve(dir.path(), &[]);
    let log = served.keep_output();
    let target = Target::new(&served.address, None);
    let (count, mut answers, mut wrong) = (if tier.pairs > 1 { 80 } else { 8 }, 0, 0);
    for (what, plan, expected) in TROUBLES {
        proxy.set(plan);
        let samples = target.crowd(4, bodies(what, count)).await;
        samples.iter().for_each(|sample| check(&mut checks, what, expected, sample));
        let slowest = samples.iter().map(report_ms).fold(0.0, f64::max);
        println!("{what:>12}: {} answers, its slowest after {slowest:.0} ms", samples.len());
        let bound = 1_000.0 + tier.slack_ms;
        checks.holds(slowest <= bound, || format!("{what}: ended after {slowest} ms"));
        proxy.set(|_| Trouble::None);
        // What is left of the trouble may cost those that stand on kept connections, once each.
        let after = target.crowd(1, bodies("after", 8)).await;
        wrong += samples
            .iter()
            .filter(|sample| sample.value["allowed"] == true && !complete(&sample.value))
            .count();
        let well = after.last().is_some_and(|sample| complete(&sample.value));
        checks.holds(well, || format!("{what}: not well after it: {after:?}"));
        answers += samples.len() + after.len();
    }
    let text = target.get("/metrics").await;
    checks.holds(metric(&text, "orchestrator_panics_total", &[]) == 0.0, || "panics".to_owned());
    let (code, ..) = served.stop();
    checks.holds(code == Some(0), || format!("it ended with {code:?}"));
    checks.log(&log.join().unwrap(), CANARY, answers);
    let told = format!("{wrong}; each ended as its trouble must, and was well after it");
    let n = format!("{answers} answers through 10 troubles");
    row("a bad network before a detector of others: allowed without its answer", &told, &n);
    checks.end("a bad network");
}
