//! The claims B-01 to B-04, B-07, B-08, B-10 and B-11 of the first documents, held against the running
//! service: the same binary, detectors and load, the feature on against off.
//!
//! `CLAIMS=FILE` measures and appends its tables to the file (`just claims`); without it each part
//! is short, and only counts and states are held: never times.

use std::path::Path;
use std::time::Duration;

use detector_orchestrator::operations::breaker::{Breaker, BreakerMode, BreakerSpec, Ended};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::binary::Served;
use crate::faults::checks::Checks;
use crate::faults::fakes::{self, Fake, Kind};
use crate::faults::load::{Sample, Target, complete, part};
use crate::faults::{all, median, native, serve, tenant};

mod jobs;

const MS: Duration = Duration::from_millis(1);

/// Where the tables go; nothing in the short tier.
fn page() -> Option<String> {
    std::env::var("CLAIMS").ok()
}

/// The value of the tier that runs.
fn tier<T>(measured: T, short: T) -> T {
    if page().is_some() { measured } else { short }
}

/// Prints a table, and appends it to the page.
fn publish(title: &str, n: &str, rows: &[String]) {
    use std::io::Write as _;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let width = rows[0].matches('|').count() - 1;
    let line = format!("|{}", "---|".repeat(width));
    let (head, rest) = rows.split_first().unwrap();
    let table = [&[head.clone(), line][..], rest].concat().join("\n");
    let text = format!("\n### {title}\n\n{n}; load average {load}.\n\n{table}\n");
    println!("{text}");
    if let Some(page) = page() {
        let mut file = std::fs::File::options().create(true).append(true).open(page).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

/// Mean, median and 99th percentile in milliseconds.
fn times(samples: &[Sample]) -> [f64; 3] {
    let sum: Duration = samples.iter().map(|sample| sample.took).sum();
    let mean = sum.as_secs_f64() * 1e3 / samples.len().max(1) as f64;
    let list = all(samples);
    [mean, part(&list, 0.5), part(&list, 0.99)]
}

fn shown(values: [f64; 3]) -> String {
    values.map(|value| format!("{value:.1}")).join(" | ")
}

fn less(from: f64, to: f64) -> String {
    format!("{:+.0} %", (to / from - 1.0) * 100.0)
}

/// The project of one claim.
fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    dir
}

/// A detector, and the tenant of its name that requires it alone.
fn alone(dir: &Path, name: &str, fake: &Fake, more: &str) {
    native(dir, name, ("http", fake.port), more);
    tenant(dir, name, "", &[name.to_owned()]);
}

fn start(dir: &Path, env: &[(&str, &str)]) -> (Served, Target) {
    let mut served = serve(dir, env);
    served.discard_output();
    let target = Target::new(&served.address, None);
    (served, target)
}

fn body(tenant: &str, content: &str) -> String {
    let (include, time) = (["detectors"], 60_000);
    json!({"tenant_id": tenant, "content": content, "include": include, "timeout_ms": time})
        .to_string()
}

/// The report of `detector` in an answer.
fn report<'a>(sample: &'a Sample, detector: &str) -> &'a Value {
    let reports = sample.value["detectors"].as_array().map(Vec::as_slice).unwrap_or_default();
    reports.iter().find(|report| report["name"] == detector).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b01_equal_requests_share_calls_and_each_is_answered() {
    let (mut checks, mut fakes, dir) = (Checks::default(), JoinSet::new(), project());
    let fake = fakes::start(&mut fakes, Kind::Takes(tier(10, 200) * MS)).await;
    for (name, places) in [("many", 1_000), ("eight", 8)] {
        let more = format!("bulkhead: {{max_in_flight: {places}, queue: 1000}}\ntimeout: 20s\n");
        alone(dir.path(), name, &fake, &(more + "health: {path: ''}\n"));
    }
    // The cache would answer in the place of a shared call.
    let (_served, shared) = start(dir.path(), &[("ORCHESTRATION_CACHE__RESPONSES", "false")]);
    let (rounds, count) = tier((10, 1_000), (1, 100));
    let mut rows =
        vec!["| places at the detector | | calls | mean ms | p50 ms | p99 ms |".to_owned()];
    for (name, places) in [("many", "unlimited"), ("eight", "8")] {
        let mut sides = [(0, Vec::new()), (0, Vec::new())];
        for _ in 0..rounds {
            for (side, target) in sides.iter_mut().zip([&shared.fresh(), &shared]) {
                let text = |n| if n % 5 < 3 { "the same".to_owned() } else { format!("no. {n}") };
                let bodies = (0..count).map(|n| body(name, &text(n))).collect();
                let before = fake.calls();
                side.1.extend(target.crowd(64, bodies).await);
                side.0 += fake.calls() - before;
            }
        }
        let whole = |sample: &Sample| sample.status == 200 && complete(&sample.value);
        sides.iter().flat_map(|side| &side.1).for_each(|sample| {
            checks.holds(whole(sample), || format!("{} {}", sample.status, sample.value));
        });
        let (off, on) = (sides[0].0, sides[1].0);
        checks.holds(off == rounds * count, || format!("{off} calls without sharing"));
        checks.holds(on < off, || format!("{on} of {off} calls"));
        let [alone, together] = [times(&sides[0].1), times(&sides[1].1)];
        rows.push(format!("| {places} | each its own call | {off} | {} |", shown(alone)));
        rows.push(format!("| {places} | shared | {on} | {} |", shown(together)));
        let change: Vec<_> = (0..3).map(|at| less(alone[at], together[at])).collect();
        rows.push(format!(
            "| | change | {} | {} |",
            less(off as f64, on as f64),
            change.join(" | ")
        ));
    }
    let n = format!(
        "{rounds} rounds of {count} requests a side, 64 at once, 60 % equal; a detector of 8 to 12 ms"
    );
    publish("B-01: 60 % lower latency by coalescing", &n, &rows);
    checks.end("B-01");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b03_a_breaker_keeps_calls_from_a_detector_that_always_hangs() {
    let (mut checks, mut fakes, dir) = (Checks::default(), JoinSet::new(), project());
    let honest = fakes::start(&mut fakes, Kind::Honest).await;
    let quick =
        "timeout: 300ms\nhealth: {path: ''}\nbulkhead: {max_in_flight: 1000, queue: 1000}\n";
    native(dir.path(), "honest", ("http", honest.port), quick);
    tenant(dir.path(), "others", "", &["honest".to_owned()]);
    let mut hanging = Vec::new();
    for (name, breaker) in [("off", "breaker: {failures: 10000}\n"), ("on", "")] {
        let fake = fakes::start(&mut fakes, Kind::Obeys).await;
        native(dir.path(), name, ("http", fake.port), &format!("{quick}{breaker}"));
        tenant(dir.path(), name, "", &[name.to_owned(), "honest".to_owned()]);
        hanging.push((name, fake));
    }
    let (_served, target) = start(dir.path(), &[]);
    let (target, rate, time) = (target.fresh(), tier(100.0, 20.0), tier(20, 2) * 1_000 * MS);
    let calm = |n: usize| body("others", &format!("no. {n}"));
    let before = target.open_loop(rate, time, calm).await;
    let mut rows = vec![
        "| breaker | calls to it | answers that waited for it | its callers' p50 ms | p99 ms | others' failures | p50 ms | p99 ms |".to_owned(),
        format!("| none asks it | | | | | 0 | {:.1} | {:.1} |", times(&before)[1], times(&before)[2]),
    ];
    let mut waits = Vec::new();
    for (name, fake) in &hanging {
        let users = target.open_loop(rate, time, |n| body(name, &format!("fault:hang {n}")));
        let (users, others) = futures_util::join!(users, target.open_loop(rate, time, calm));
        let waited =
            users.iter().filter(|sample| report(sample, name)["status"] == "timeout").count();
        let failed = others.iter().filter(|sample| !complete(&sample.value)).count();
        let last = report(users.last().unwrap(), name)["error"].clone();
        checks.holds((last == "circuit_open") == (*name == "on"), || format!("{name}: {last}"));
        let safe = |sample: &Sample| sample.status == 200 && sample.value["allowed"] == false;
        checks.holds(users.iter().all(safe), || format!("{name}: an answer that allows"));
        checks.holds(failed == 0, || format!("{failed} answers of others failed"));
        let ([_, p50, p99], [_, others_p50, others_p99]) = (times(&users), times(&others));
        rows.push(format!(
            "| {name} | {} | {waited} of {} | {p50:.1} | {p99:.1} | {failed} of {} | {others_p50:.1} | {others_p99:.1} |",
            fake.calls(), users.len(), others.len()
        ));
        waits.push((fake.calls() as f64, waited as f64));
    }
    checks.holds(waits[1].0 < waits[0].0, || format!("calls and waits {waits:?}"));
    let (calls, waited) = (less(waits[0].0, waits[1].0), less(waits[0].1, waits[1].1));
    rows.push(format!("| change | {calls} | {waited} | | | | | |"));
    let n =
        format!("{rate:.0} requests/s of each of two tenants for {time:?} a side; time-out 300 ms");
    publish("B-03: 90 % fewer cascade failures by the breaker", &n, &rows);
    checks.end("B-03");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b08_an_open_breaker_answers_without_the_dead_detector() {
    let (mut checks, mut fakes, dir) = (Checks::default(), JoinSet::new(), project());
    let fake = fakes::start(&mut fakes, Kind::Obeys).await;
    let patience = tier("30s", "400ms");
    for (name, breaker) in [("off", "{failures: 10000}"), ("on", "{failures: 5, open_for: 10m}")] {
        let more = format!(
            "timeout: {patience}\nhealth: {{path: ''}}\nbreaker: {breaker}\n\
             bulkhead: {{max_in_flight: 1000, queue: 1000}}\n"
        );
        alone(dir.path(), name, &fake, &more);
    }
    let (_served, target) = start(dir.path(), &[]);
    let (target, rate, time) = (target.fresh(), tier(50.0, 20.0), tier(4, 1) * 1_000 * MS);
    let dead = |name: &'static str| move |n: usize| body(name, &format!("fault:hang {n}"));
    // Five failures open the other breaker meanwhile.
    let open = target.crowd(5, (0..5).map(dead("on")).collect());
    let (off, _) = futures_util::join!(target.open_loop(rate, time, dead("off")), open);
    let before = fake.calls();
    let on = target.open_loop(rate, time, dead("on")).await;
    let calls = fake.calls() - before;
    checks.holds(calls == 0, || format!("{calls} calls past an open breaker"));
    let mut rows = vec!["| breaker | answers | mean ms | p50 ms | p99 ms |".to_owned()];
    for (name, samples, error) in [("off", &off, Value::Null), ("on", &on, json!("circuit_open"))] {
        for sample in samples {
            let said = &report(sample, name)["error"];
            checks.holds(*said == error && sample.value["allowed"] == false, || {
                format!("{name}: {} {}", sample.status, sample.value)
            });
        }
        let state = if name == "off" { "off" } else { "open" };
        rows.push(format!("| {state} | {} | {} |", samples.len(), shown(times(samples))));
    }
    let n = format!(
        "{rate:.0} requests/s for {time:?} a side; a detector that never answers, time-out {patience}"
    );
    publish("B-08: fail fast, 30 s to 50 ms", &n, &rows);
    checks.end("B-08");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b10_what_expired_is_loaded_once_for_all_who_wait() {
    let (mut checks, mut fakes, dir) = (Checks::default(), JoinSet::new(), project());
    let fake = fakes::start(&mut fakes, Kind::Takes(tier(300, 1_000) * MS)).await;
    let more = "timeout: 20s\nhealth: {path: ''}\nbulkhead: {max_in_flight: 2000, queue: 2000}\n";
    alone(dir.path(), "loaded", &fake, more);
    let (_served, target) = start(dir.path(), &[("ORCHESTRATION_CACHE__TTL", "1s")]);
    let (sizes, expiries) = tier((vec![100, 500, 1_000], 5), (vec![40], 2));
    let mut rows = vec![
        "| who wait | cache and sharing | calls by expiry | mean ms | p50 ms | p99 ms |".to_owned(),
    ];
    for size in sizes {
        for (name, target) in [("off", target.fresh()), ("on", target.clone())] {
            let (mut loads, mut samples) = (Vec::new(), Vec::new());
            for _ in 0..expiries {
                let before = fake.calls();
                let bodies = vec![body("loaded", &format!("one of {size}")); size];
                samples.extend(target.crowd(size, bodies).await);
                loads.push(fake.calls() - before);
                tokio::time::sleep(1_200 * MS).await;
            }
            let whole =
                samples.iter().all(|sample| sample.status == 200 && complete(&sample.value));
            checks.holds(whole, || format!("{size}, {name}: an answer that is not whole"));
            let wanted = if name == "on" { 1 } else { size };
            // While measuring, what falls short is published.
            let sound = page().is_some() || loads.iter().all(|load| *load == wanted);
            checks.holds(sound, || format!("{size}, {name}: {loads:?} calls"));
            let loads = loads.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            rows.push(format!("| {size} | {name} | {loads} | {} |", shown(times(&samples))));
        }
    }
    let n = format!("{expiries} expiries each, all who wait at once; a detector of 240 to 360 ms");
    publish("B-10: one load per expiry for 100 and more", &n, &rows);
    checks.end("B-10");
}

/// What stands between a detector that is back and its first answer.
const GUARDS: [(&str, &str); 4] = [
    ("neither", "breaker: {failures: 10000}\nhealth: {path: ''}\n"),
    ("breaker", "health: {path: ''}\n"),
    ("probes", "breaker: {failures: 10000}\n"),
    ("both", ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b11_a_detector_that_is_back_is_asked_again_without_a_person() {
    let (mut checks, mut fakes, dir) = (Checks::default(), JoinSet::new(), project());
    let mut guarded = Vec::new();
    for (name, more) in GUARDS {
        let fake = fakes::start(&mut fakes, Kind::Honest).await;
        // As shipped: open for 60 s.
        let more = tier(
            more.to_owned(),
            match name {
                "breaker" | "both" => format!("{more}breaker: {{open_for: 1s}}\n"),
                _ => more.to_owned(),
            },
        );
        alone(dir.path(), name, &fake, &more);
        guarded.push((name, fake));
    }
    let (_served, target) = start(dir.path(), &[]);
    let (outage, time) = tier((30_000 * MS, 100_000 * MS), (1_500 * MS, 12_000 * MS));
    let target = target.fresh();
    let loops = guarded.iter().map(|(name, fake)| {
        let target = &target;
        async move {
            fake.set_ill(true);
            let back = async {
                tokio::time::sleep(outage).await;
                fake.set_ill(false);
            };
            let asked = target.open_loop(20.0, time, |n| body(name, &format!("no. {n}")));
            let (samples, ()) = futures_util::join!(asked, back);
            let after = samples.iter().filter(|sample| sample.at >= outage);
            let first =
                after.filter(|sample| complete(&sample.value)).map(|sample| sample.at).min();
            let sent = |sample: &&Sample| report(sample, name)["attempts"] != 0;
            (*name, first.map(|at| at - outage), samples.iter().filter(sent).count(), samples.len())
        }
    });
    let mut rows =
        vec!["| between | outage s | first answer after s | requests that called it |".to_owned()];
    for (name, first, called, of) in futures_util::future::join_all(loops).await {
        checks.holds(first.is_some(), || format!("{name}: it never came back"));
        let first = first.map_or("never".to_owned(), |took| format!("{:.1}", took.as_secs_f64()));
        rows.push(format!("| {name} | {:.0} | {first} | {called} of {of} |", outage.as_secs_f64()));
    }
    let [half, most, worst] = simulated();
    rows.push(format!("| breaker alone, by its own code on a clock of its own | 10 to 3 600 | {half:.0} at the median, {most:.0} at p99, {worst:.0} at most | |"));
    let n = "20 requests/s of each of four tenants; 360 outages in the last row";
    publish("B-11: recovery 15 to 3 min", n, &rows);
    checks.end("B-11");
}

/// Seconds from a detector's return to its first answer under the shipped breaker, over outages of
/// ten seconds to an hour and two requests a second: median, 99th percentile, most.
fn simulated() -> [f64; 3] {
    let spec = BreakerSpec {
        mode: BreakerMode::Window,
        failures: 5,
        window: 60_000 * MS,
        failure_ratio: 0.5,
        open_for: 60_000 * MS,
        open_max: 300_000 * MS,
        probes: 3,
        slow_call: None,
    };
    let recovery = |outage: u32| {
        let (begin, mut breaker) = (Instant::now(), Breaker::default());
        let back = begin + outage * 1_000 * MS;
        let mut now = begin;
        loop {
            if let Some(admission) = breaker.admit(&spec, now) {
                if now >= back {
                    return (now - back).as_secs_f64();
                }
                breaker.record(&spec, admission, Ended::Failure, now);
            }
            now += 500 * MS;
        }
    };
    let mut took: Vec<f64> = (1..=360).map(|tens| recovery(tens * 10)).collect();
    took.sort_by(f64::total_cmp);
    [median(took.clone()), took[356], took[359]]
}
