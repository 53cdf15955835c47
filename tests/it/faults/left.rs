//! What thousands of calls to hostile detectors leave behind.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::checks::{Checks, metric, row};
use super::fakes::{self, FAULTS, Fake, Kind};
use super::load::Target;
use super::{body, detector, serve, tenant, tier};
use crate::binary::Served;

/// Tasks and descriptors of the service, less those of connections that detectors hold open.
async fn held(served: &Served, fakes: &[Fake]) -> (i64, i64) {
    // A connection of its own, which ends with this.
    let text = Target::new(&served.address, None).get("/metrics").await;
    let fds = std::fs::read_dir(format!("/proc/{}/fd", served.pid())).unwrap().count() as i64;
    let open: i64 = fakes.iter().map(|fake| fake.open() as i64).sum();
    (metric(&text, "orchestrator_tasks", &[]) as i64 - open, fds - open)
}

/// The same once it stays, or has not for long: what was sent last may still end.
async fn settled(served: &Served, fakes: &[Fake], most: Option<(i64, i64)>) -> (i64, i64) {
    let until = Instant::now() + Duration::from_secs(20);
    let mut last = held(served, fakes).await;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = held(served, fakes).await;
        let enough = most.is_none_or(|most| now.0 <= most.0 && now.1 <= most.1);
        if Instant::now() > until || now == last && enough {
            return now;
        }
        last = now;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_calls_leave_no_task_and_no_descriptor() {
    let (mut checks, mut tasks) = (Checks::default(), JoinSet::new());
    let count = if tier().pairs > 1 { 10_000 } else { 480 };
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let obeys = fakes::start(&mut tasks, Kind::Obeys).await;
    let fakes = [obeys, fakes::start(&mut tasks, Kind::NoTls).await];
    for (name, _) in FAULTS {
        let (scheme, fake) = if name == "tls" { ("https", &fakes[1]) } else { ("http", &fakes[0]) };
        detector(dir.path(), name, scheme, fake);
        tenant(dir.path(), &format!("t-{name}"), "", &[name.to_owned()]);
    }
    let mut served = serve(dir.path(), &[]);
    served.discard_output();
    let bodies = |count: usize| -> Vec<String> {
        let fault = |n: usize| FAULTS[n % FAULTS.len()].0;
        (0..count)
            .map(|n| body(&format!("t-{}", fault(n)), &format!("fault:{}", fault(n)), n))
            .collect()
    };
    // Each serving thread has kept a connection once, and made what it needs for that.
    let well = (0..64).map(|n| body("t-flapping", "", n)).collect();
    Target::new(&served.address, None).crowd(64, well).await;
    Target::new(&served.address, None).crowd(64, bodies(64)).await;
    let before = settled(&served, &fakes, None).await;
    let target = Target::new(&served.address, None);
    let under_way = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        metric(&target.get("/metrics").await, "orchestrator_tasks", &[])
    };
    let (samples, most) = futures_util::join!(target.crowd(64, bodies(count)), under_way);
    drop(target);
    checks.holds(most > 0.0, || "no tasks were counted".to_owned());
    for sample in &samples {
        let known = sample.status == 200 && sample.value["action"] != "block";
        checks.holds(known, || format!("{} {}", sample.status, sample.value));
    }
    let after = settled(&served, &fakes, Some(before)).await;
    let left = (after.0 - before.0, after.1 - before.1);
    let told = format!("{} and {} ({most} tasks while they ran)", left.0, left.1);
    let n = format!("{count} calls");
    row("tasks and descriptors left after 10 000 hostile calls: 0", &told, &n);
    checks.holds(left.0 <= 0, || format!("{} tasks were left", left.0));
    checks.holds(left.1 <= 0, || format!("{} descriptors were left", left.1));
    checks.end("what is left");
}
