//! The hostile harness: detectors with every fault, switched by the request; load beyond what the
//! service can; a noisy tenant. Each part counts what must hold of answers, metrics and log.
//!
//! `FAULTS_SECONDS=10` measures (`just faults`); without it each part takes a few seconds.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::app::{client, send, write};
use crate::binary::{Served, program, service};

mod chaos;
pub mod checks;
pub mod fakes;
mod left;
pub mod load;
mod matrix;
mod overload;
mod proxy;
mod refused;

use checks::{Checks, metric, row};
use fakes::{FAULTS, Fake, Kind};
use load::{Sample, Target, complete, part};

/// Stands in every content, and must stand in no log line.
const CANARY: &str = "kolibri-canary";
/// Of every remote detector.
const TIME_OUT_MS: f64 = 300.0;

/// How much is tried.
#[derive(Clone, Copy)]
struct Tier {
    /// Of each half of a pair.
    time: Duration,
    pairs: usize,
    /// Requests a second of those whose times count.
    rate: f64,
    /// What a busy machine and a slow build may add to a bound, in milliseconds.
    slack_ms: f64,
}

fn tier() -> Tier {
    let seconds = std::env::var("FAULTS_SECONDS").ok().and_then(|text| text.parse().ok());
    match seconds {
        Some(seconds) => {
            Tier { time: Duration::from_secs(seconds), pairs: 5, rate: 200.0, slack_ms: 10.0 }
        }
        None => Tier { time: Duration::from_millis(250), pairs: 1, rate: 40.0, slack_ms: 5_000.0 },
    }
}

/// Serves the shipped files and what `prepare` adds.
pub fn serve(dir: &Path, env: &[(&str, &str)]) -> Served {
    let mut served = program(&service(), dir);
    served.args(["serve", "--listen", "127.0.0.1:0"]);
    served.env("ORCHESTRATION_SERVER__WORKERS", "2");
    served.env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "2s");
    served.envs(env.iter().copied());
    Served::start(served)
}

pub fn tenant(dir: &Path, id: &str, more: &str, required: &[String]) {
    let text = format!("schema_version: 1\nid: {id}\npolicies: [standard]\n{more}");
    write(dir, &format!("config/tenants/{id}.yaml"), &text);
    let table = format!("settings:\n  required: [{}]\n  optional: []\n", required.join(", "));
    write(dir, &format!("policies/tenants/{id}/standard/data.yaml"), &table);
}

fn detector(dir: &Path, name: &str, scheme: &str, fake: &Fake) {
    let more = "timeout: 300ms\nhealth: {path: ''}\nbreaker: {failures: 10000}\n\
                bulkhead: {max_in_flight: 256, queue: 256}\n";
    native(dir, name, (scheme, fake.port), more);
}

/// A native detector of one try on a port of this machine, with what `more` says of it.
pub fn native(dir: &Path, name: &str, (scheme, port): (&str, u16), more: &str) {
    let text = format!(
        "name: {name}\nprotocol: native\nendpoint: {scheme}://127.0.0.1:{port}/analyze\n\
         categories: [toxicity]\nretry: {{attempts: 1}}\n{more}"
    );
    write(dir, &format!("detectors/{name}.yaml"), &text);
}

pub fn good(sample: &Sample) -> bool {
    sample.status == 200 && complete(&sample.value)
}

pub fn all(samples: &[Sample]) -> Vec<&Sample> {
    samples.iter().collect()
}

/// Seconds of a core that the process has used.
pub fn core_seconds(served: &Served) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", served.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Checks answers of one who uses `fault`; how often its detector was late.
fn check_faulty(checks: &mut Checks, fault: (&str, &[&str]), samples: &[Sample], tier: Tier) {
    let (name, expected) = fault;
    for sample in samples {
        let value = &sample.value;
        checks.holds(sample.status == 200, || format!("{name}: status {}", sample.status));
        let reports = value["detectors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let report = reports.iter().find(|report| report["name"] == format!("hostile-{name}"));
        let report = report.cloned().unwrap_or_default();
        let error = match report["status"].as_str() {
            Some("success") => "",
            Some("timeout") => "timeout",
            Some(_) | None => report["error"].as_str().unwrap_or("no report"),
        };
        checks.holds(expected.contains(&error), || format!("{name}: {report}"));
        let sound = error.is_empty() == complete(value)
            && (error.is_empty() || value["action"] == "review" && value["allowed"] == false);
        checks.holds(sound, || format!("{name}: an answer that should not be: {value}"));
        let took = report["duration_ms"].as_f64().unwrap_or(f64::MAX);
        let bound = TIME_OUT_MS + tier.slack_ms;
        checks.holds(took <= bound, || format!("{name}: ended after {took} ms"));
    }
}

/// Milliseconds that the slowest detector of an answer took.
fn report_ms(sample: &Sample) -> f64 {
    let reports = sample.value["detectors"].as_array().map(Vec::as_slice).unwrap_or_default();
    reports.iter().filter_map(|report| report["duration_ms"].as_f64()).fold(0.0, f64::max)
}

fn check_calm(checks: &mut Checks, what: &str, samples: &[Sample]) {
    for sample in samples {
        let sound = sample.status == 200 && sample.value["action"] == "allow";
        checks.holds(sound && complete(&sample.value), || {
            format!("{what}: a neighbour's answer: {} {}", sample.status, sample.value)
        });
    }
}

/// What of the process must not grow, from its metrics: bytes and descriptors.
async fn resources(target: &Target) -> (f64, f64) {
    let text = target.get("/metrics").await;
    let of = |name| metric(&text, name, &[]);
    (of("process_resident_memory_bytes"), of("process_open_fds"))
}

pub fn body(tenant: &str, fault: &str, number: usize) -> String {
    let content = format!("{CANARY} {number} {fault}");
    json!({"tenant_id": tenant, "content": content, "include": ["detectors"]}).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detector_with_any_fault_ends_by_its_time_out_and_hurts_nobody_else() {
    let (tier, mut checks, mut fakes) = (tier(), Checks::default(), JoinSet::new());
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let honest_fake = fakes::start(&mut fakes, Kind::Honest).await;
    let fake = fakes::start(&mut fakes, Kind::Obeys).await;
    let no_tls = fakes::start(&mut fakes, Kind::NoTls).await;
    let honest: Vec<String> = (0..7).map(|n| format!("honest-{n}")).collect();
    honest.iter().for_each(|name| detector(dir.path(), name, "http", &honest_fake));
    tenant(dir.path(), "calm", "", &honest);
    for (name, _) in FAULTS {
        let own = format!("hostile-{name}");
        match name {
            "tls" => detector(dir.path(), &own, "https", &no_tls),
            _ => detector(dir.path(), &own, "http", &fake),
        }
        tenant(dir.path(), &format!("t-{name}"), "", &[vec![own], honest.clone()].concat()[..2]);
    }
    let mut served = serve(dir.path(), &[]);
    let log = served.keep_output();
    let target = Target::new(&served.address, None);
    let calm = |rate, time| target.open_loop(rate, time, |number| body("calm", "", number));
    check_calm(&mut checks, "warm-up", &calm(tier.rate, tier.time).await);
    let mut answers = (tier.rate * tier.time.as_secs_f64()).ceil() as usize;
    let (mut rows, mut grown, before) = (Vec::new(), Vec::new(), resources(&target).await);
    let (mut all_alone, mut all_beside, mut late, mut used_all) =
        (Vec::new(), Vec::new(), 0.0_f64, 0);
    for fault in FAULTS {
        let (mut p99, mut used) = ([Vec::new(), Vec::new(), Vec::new()], 0);
        for _ in 0..tier.pairs {
            let alone = calm(tier.rate, tier.time).await;
            let name = format!("t-{}", fault.0);
            let words = if fault.0 == "tls" { String::new() } else { format!("fault:{}", fault.0) };
            let faulty = target.open_loop(tier.rate / 4.0, tier.time, |n| body(&name, &words, n));
            let (beside, faulty) = futures_util::join!(calm(tier.rate, tier.time), faulty);
            check_calm(&mut checks, fault.0, &alone);
            check_calm(&mut checks, fault.0, &beside);
            check_faulty(&mut checks, fault, &faulty, tier);
            used += faulty.len();
            late = faulty.iter().fold(late, |late, sample| late.max(report_ms(sample)));
            answers += alone.len() + beside.len() + faulty.len();
            let [a, b] = [&alone, &beside].map(|samples| part(&all(samples), 0.99));
            p99[0].push(a);
            p99[1].push(b);
            p99[2].push(b / a);
            all_alone.extend(alone);
            all_beside.extend(beside);
        }
        used_all += used;
        let [alone, beside, ratio] = p99.map(median);
        rows.push(format!(
            "{:>9}: neighbour's p99 x{ratio:.2} ({alone:.1} -> {beside:.1} ms), {used} faulty answers",
            fault.0
        ));
        let (bytes, _) = resources(&target).await;
        grown.push((bytes - before.0) / 1_048_576.0);
    }
    rows.iter().for_each(|row| println!("{row}"));
    tell([&all_alone, &all_beside], (late, used_all));
    settle(&mut checks, &target, (before, &grown)).await;
    let text = target.get("/metrics").await;
    let decided = metric(&text, "orchestrator_decisions_total", &[]);
    checks.holds(decided as usize == answers, || format!("{decided} of {answers} decisions"));
    checks.holds(metric(&text, "orchestrator_panics_total", &[]) == 0.0, || "panics".to_owned());
    let (code, ..) = served.stop();
    checks.holds(code == Some(0), || format!("it ended with {code:?}"));
    checks.log(&log.join().unwrap(), CANARY, answers);
    println!("{answers} answers, {} calls", fake.calls());
    checks.end("hostile detectors");
}

/// The rows of the neighbours, alone and beside, and of how late and how many the faulty calls were.
fn tell(whole: [&Vec<Sample>; 2], (late, used): (f64, usize)) {
    let n = format!("{} a side", whole[0].len());
    let [a, b] = whole.map(|samples| part(&all(samples), 0.99));
    let told = format!("x{:.2} ({a:.1} -> {b:.1} ms)", b / a);
    row("neighbours of all 16 faults together: p99 ≤ 1.1x, errors +0", &told, &n);
    let told = format!("the last ended after {late:.1} ms of {TIME_OUT_MS:.0}");
    row("who uses a hostile detector ends by its time-out + 10 ms", &told, &used.to_string());
}

/// Memory and descriptors after the faults: no more than before, a little aside.
async fn settle(checks: &mut Checks, target: &Target, ((_, fds), grown): ((f64, f64), &[f64])) {
    let most = grown.iter().copied().fold(f64::MIN, f64::max);
    let told = format!("{most:.1} MiB at most");
    row(
        "resident memory grows by at most 64 MiB under hostile detectors",
        &told,
        "after each fault",
    );
    checks.holds(most <= 64.0, || format!("resident memory grew by {most:.1} MiB"));
    let until = Instant::now() + Duration::from_secs(20);
    let left = loop {
        // Connections kept for the next call are no leak; those of honest detectors are few.
        let left = resources(target).await.1 - fds;
        if left <= 64.0 || Instant::now() > until {
            break left;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    println!("descriptors more than before: {left}");
    checks.holds(left <= 64.0, || format!("{left} descriptors were not closed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detector_that_always_fails_is_sent_few_more_calls_than_requests() {
    let (tier, mut checks, mut fakes) = (tier(), Checks::default(), JoinSet::new());
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let fake = fakes::start(&mut fakes, Kind::Obeys).await;
    // The shipped retry and breaker.
    let text = format!(
        "name: failing\nprotocol: native\nendpoint: http://127.0.0.1:{}/analyze\n\
         categories: [toxicity]\ntimeout: 300ms\nhealth: {{path: ''}}\n",
        fake.port
    );
    write(dir.path(), "detectors/failing.yaml", &text);
    tenant(dir.path(), "t", "", &["failing".to_owned()]);
    let mut served = serve(dir.path(), &[]);
    served.discard_output();
    let target = Target::new(&served.address, None);
    let time = if tier.pairs > 1 { Duration::from_secs(60) } else { tier.time * 4 };
    let samples = target.open_loop(tier.rate, time, |n| body("t", "fault:storm", n)).await;
    let calls = fake.calls();
    let ratio = calls as f64 / samples.len() as f64;
    let told = format!("x{ratio:.3} ({calls} calls)");
    let n = format!("{} requests in {time:?}", samples.len());
    row("calls / requests ≤ 1.2 while a detector fails always", &told, &n);
    checks.holds(ratio <= 1.2, || format!("{calls} calls for {} requests", samples.len()));
    for sample in &samples {
        let value = &sample.value;
        checks.holds(sample.status == 200 && value["allowed"] == false, || value.to_string());
    }
    checks.end("retries");
}

const BOOT: &str = "orch_0123456789ab_0123456789abcdef0123456789abcdef";

async fn key(address: &str, tenant: &str, most: Option<&str>) -> String {
    let body = json!({"roles": ["app"], "tenant": tenant, "label": "load", "reason": "load",
        "max_priority": most});
    let headers = [("content-type", "application/json"), ("x-api-key", BOOT)];
    let at = format!("http://{address}/api/v1/keys");
    let made = send(&client(), ("POST", &at), &headers, body.to_string().as_bytes()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json()["key"].as_str().unwrap().to_owned()
}

/// A connection that sends a body byte by byte until it is dropped.
async fn drip(address: String, key: String) {
    let Ok(mut stream) = tokio::net::TcpStream::connect(&address).await else { return };
    let head = format!(
        "POST /api/v1/orchestrate HTTP/1.1\r\nhost: {address}\r\nx-api-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: 100000\r\n\r\n"
    );
    let _ = stream.write_all(head.as_bytes()).await;
    while stream.write_all(b" ").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_far_over_its_rate_costs_another_no_answer() {
    let (tier, mut checks) = (tier(), Checks::default());
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    for (id, limit) in
        [("noisy", "{per_minute: 300, burst: 10}"), ("calm", "{per_minute: 60000, burst: 1000}")]
    {
        // The rate alone is to bind.
        let text = format!("schema_version: 1\nid: {id}\ntier: unlimited\nrate_limit: {limit}\n");
        write(dir.path(), &format!("config/tenants/{id}.yaml"), &text);
    }
    let mut served = serve(
        dir.path(),
        &[("ORCHESTRATION_ENV", "staging"), ("ORCHESTRATION_BOOTSTRAP_KEY", BOOT)],
    );
    served.discard_output();
    let (noisy_key, calm_key) =
        (key(&served.address, "noisy", None).await, key(&served.address, "calm", None).await);
    let noisy = Target::new(&served.address, Some(&noisy_key));
    let calm = Target::new(&served.address, Some(&calm_key));
    let small = |n| json!({"content": format!("{CANARY} {n}")}).to_string();
    let large = json!({"content": "word ".repeat(40_000)}).to_string();
    calm.open_loop(tier.rate, tier.time, small).await;
    let (mut p99, mut wrong, mut asked) = ([Vec::new(), Vec::new(), Vec::new()], [0, 0], [0, 0]);
    for _ in 0..tier.pairs {
        let alone = calm.open_loop(tier.rate, tier.time, small).await;
        let mut slow = JoinSet::new();
        for _ in 0..20 {
            slow.spawn(drip(served.address.clone(), noisy_key.clone()));
        }
        // Twenty times its five a second.
        let load = noisy.open_loop(100.0, tier.time, |_| large.clone());
        let (beside, load) = futures_util::join!(calm.open_loop(tier.rate, tier.time, small), load);
        drop(slow);
        let known = |sample: &&Sample| matches!(sample.status, 200 | 429);
        checks.holds(load.iter().all(|sample| known(&sample)), || "the noisy one's answers".into());
        let refused = load.iter().filter(|sample| sample.status == 429).count();
        checks.holds(refused * 2 > load.len(), || format!("{refused} of {} refused", load.len()));
        let [a, b] = [&alone, &beside].map(|samples| part(&all(samples), 0.99));
        for (at, samples) in [alone, beside].iter().enumerate() {
            wrong[at] += samples.iter().filter(|sample| !good(sample)).count();
            asked[at] += samples.len();
        }
        p99[0].push(a);
        p99[1].push(b);
        p99[2].push(b / a);
    }
    let [alone, beside, ratio] = p99.map(median);
    let told =
        format!("x{ratio:.2} ({alone:.1} -> {beside:.1} ms), median of {} pairs", tier.pairs);
    row("noisy tenant: its neighbour's p99 ≤ 1.1x", &told, &format!("{} a side", asked[0]));
    let told =
        format!("{} of {} alone, {} of {} beside it", wrong[0], asked[0], wrong[1], asked[1]);
    row("noisy tenant: its neighbour's errors +0", &told, &format!("{} a side", asked[0]));
    checks.holds(wrong[1] <= wrong[0], || format!("{wrong:?} of {asked:?} answers failed"));
    if tier.pairs > 1 {
        checks.holds(ratio <= 1.1, || format!("p99 x{ratio:.2}"));
    }
    let value: Value = serde_json::from_str(&calm.get("/health").await).unwrap_or_default();
    checks.holds(value.is_object(), || "no health".to_owned());
    checks.end("noisy tenant");
}
