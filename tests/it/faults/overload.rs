//! Load beyond what the service can.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checks::{Checks, metric, row};
use super::load::{Sample, Target, part};
use super::{CANARY, all, good, serve, tier};

const PRIORITIES: [&str; 20] = [
    "critical", "high", "normal", "normal", "normal", "normal", "normal", "normal", "normal",
    "low", "low", "low", "low", "low", "low", "low", "low", "low", "low", "low",
];

/// Some work for the built-in detectors: 20 kB, each content another.
pub fn heavy(number: usize, priority: &str) -> String {
    work(number, priority, 250)
}

fn work(number: usize, priority: &str, sentences: usize) -> String {
    written(number, priority, &prose(sentences))
}

fn prose(sentences: usize) -> String {
    "The committee met on Tuesday to go through the plans for the new reading room. "
        .repeat(sentences)
}

/// Only copies: a loop that cannot write its bodies in time measures itself.
fn written(number: usize, priority: &str, prose: &str) -> String {
    format!(
        r#"{{"content":"{CANARY} {number} {prose}","priority":"{priority}","timeout_ms":5000}}"#
    )
}

fn by_priority(samples: &[Sample]) -> BTreeMap<&'static str, Vec<&Sample>> {
    let mut of = BTreeMap::<_, Vec<&Sample>>::new();
    for sample in samples {
        of.entry(PRIORITIES[sample.number % PRIORITIES.len()]).or_default().push(sample);
    }
    of
}

/// Checks every answer; the refused ones by when they are to come back, in seconds.
fn check_answers(checks: &mut Checks, samples: &[Sample]) -> BTreeMap<u64, usize> {
    let mut pauses = BTreeMap::<u64, usize>::new();
    for sample in samples {
        let known = matches!(sample.status, 200 | 503);
        checks.holds(known, || format!("status {} {}", sample.status, sample.value));
        if sample.status == 503 {
            let sound = sample.value["code"] == "OVERLOADED" && sample.retry_after.is_some();
            checks.holds(sound, || format!("{sample:?}"));
            *pauses.entry(sample.retry_after.unwrap_or_default()).or_default() += 1;
        }
    }
    pauses
}

fn tell_classes(classes: &BTreeMap<&'static str, Vec<&Sample>>) {
    for (name, class) in classes {
        let served: Vec<&Sample> = class.iter().copied().filter(|sample| good(sample)).collect();
        println!(
            "{name:>9}: {} of {} complete, p50 {:.0} ms, p99 {:.0} ms",
            served.len(),
            class.len(),
            part(&served, 0.5),
            part(&served, 0.99)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_times_the_load_sheds_the_least_urgent_and_keeps_answering() {
    let (tier, mut checks) = (tier(), Checks::default());
    let time = Duration::from_secs(if tier.pairs > 1 { 10 } else { 3 });
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let mut served = serve(dir.path(), &[]);
    let log = served.keep_output();
    let target = Target::new(&served.address, None);
    // An optimised service judges 20 kB faster than this loop can send five times as many: 100 kB.
    let sentences = if tier.pairs > 1 { 1_250 } else { 250 };
    let prose: Arc<str> = prose(sentences).into();
    let critical = |n| written(n, "critical", &prose);
    let text = Arc::clone(&prose);
    let peak = target.closed_loop(16, time, move |n| written(n, "normal", &text)).await;
    let idle = target.open_loop((peak / 10.0).max(2.0), time, critical).await;
    let begin = Instant::now();
    let mixed = |n: usize| written(n, PRIORITIES[n % PRIORITIES.len()], &prose);
    let samples = target.open_loop(peak * 5.0, time, mixed).await;
    let lasted = begin.elapsed().as_secs_f64();
    let text = target.get("/metrics").await;
    let after = target
        .open_loop(peak / 2.0, Duration::from_secs(3), |n| written(n, "normal", &prose))
        .await;
    let goodput = samples.iter().filter(|sample| good(sample)).count() as f64 / lasted;
    let sent = samples.len() as f64 / time.as_secs_f64();
    let (p99_idle, classes) = (part(&all(&idle), 0.99), by_priority(&samples));
    tell_classes(&classes);
    let recovered =
        after.iter().rposition(|sample| !good(sample) || sample.took.as_secs_f64() > 1.0);
    let recovered = recovered.map_or(0.0, |at| after[at].at.as_secs_f64());
    let behind = samples.iter().map(|sample| sample.behind).max().unwrap_or_default();
    let told = format!(
        "{:.0} %: {goodput:.0}/s of {peak:.0}/s at {sent:.0}/s, the loop at most {} ms behind",
        goodput / peak * 100.0,
        behind.as_millis()
    );
    row("5x open loop: goodput ≥ 90 % of peak", &told, &samples.len().to_string());
    let p99 = part(&classes["critical"], 0.99);
    let told = format!("x{:.2} ({p99_idle:.0} -> {p99:.0} ms)", p99 / p99_idle);
    row(
        "critical p99 ≤ 1.5x idle",
        &told,
        &format!("{} and {}", idle.len(), classes["critical"].len()),
    );
    row("recovery ≤ 2 s", &format!("{recovered:.2} s"), &after.len().to_string());
    let pauses = check_answers(&mut checks, &samples);
    let share = |name: &str| {
        let class = &classes[name];
        class.iter().filter(|sample| good(sample)).count() as f64 / class.len() as f64
    };
    let shares = ["critical", "high", "normal", "low"].map(share);
    let told = format!(
        "critical {:.2}, high {:.2}, normal {:.2}, low {:.2}",
        shares[0], shares[1], shares[2], shares[3]
    );
    row("sheds low first: part of whole answers", &told, &samples.len().to_string());
    row("`Retry-After` jittered, by seconds", &format!("{pauses:?}"), "all refused");
    let ordered = shares.windows(2).all(|two| two[0] + 0.05 >= two[1]);
    checks.holds(ordered, || format!("a less urgent class was answered more: {shares:?}"));
    let refused = samples.iter().filter(|sample| sample.status == 503).count();
    let counted = metric(&text, "orchestrator_shed_total", &[]) as usize;
    checks.holds(counted == refused, || format!("{counted} shed, {refused} told"));
    checks.holds(metric(&text, "orchestrator_queue_depth", &[]) == 0.0, || "a queue".to_owned());
    checks.holds(recovered <= 2.0, || format!("recovered after {recovered} s"));
    if tier.pairs > 1 {
        checks.holds(goodput >= peak * 0.9, || format!("goodput {goodput:.0} of {peak:.0}"));
        checks.holds(p99 <= p99_idle * 1.5, || format!("critical p99 {p99:.0} of {p99_idle:.0}"));
    }
    let (code, ..) = served.stop();
    checks.holds(code == Some(0), || format!("it ended with {code:?}"));
    checks.holds(!log.join().unwrap().contains(CANARY), || "content in the log".to_owned());
    checks.end("overload");
}
