//! A tenant whose policy is hostile beside one that is not: never an allow, never another's failure.
//!
//! `HOSTILE_SECONDS=10` measures what the neighbour feels (`just hostile-policies`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::app::{client, write};
use crate::binary::{Served, program, service};

/// Policies of `tests/hostile_policies` that go live, and fail when a certain finding comes.
const LIVE: [&str; 8] = [
    "endless_loop_when_asked",
    "endless_every_when_asked",
    "huge_regex_when_asked",
    "endless_comprehension_when_asked",
    "builtin_error_when_asked",
    "empty_count_when_asked",
    "deep_answer_when_asked",
    "multiplied_answer_when_asked",
];
/// Requests of the hostile tenant under way at once.
const AT_ONCE: usize = 4;

/// How much is tried of each policy.
#[derive(Clone, Copy)]
struct Tier {
    /// Of each half of a pair.
    time: Duration,
    pairs: usize,
    /// The neighbour's requests per second.
    rate: u32,
    eval_timeout: &'static str,
}

impl Tier {
    fn of_run(name: &str) -> Tier {
        let seconds = std::env::var("HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok());
        match seconds {
            Some(seconds) => {
                // One policy is enough for figures; the others show that they hold at all.
                let (pairs, seconds) = if name == LIVE[0] { (5, seconds) } else { (1, 2) };
                let time = Duration::from_secs(seconds);
                Tier { time, pairs, rate: 400, eval_timeout: "50ms" }
            }
            None => {
                Tier { time: Duration::from_millis(250), pairs: 1, rate: 40, eval_timeout: "200ms" }
            }
        }
    }
}

/// A service whose tenant `hostile` has this policy over the shipped one.
fn serve(dir: &std::path::Path, name: &str, tier: Tier) -> Served {
    detector_orchestrator::assets::write_to(dir).unwrap();
    for tenant in ["hostile", "calm"] {
        let text = format!("schema_version: 1\nid: {tenant}\npolicies: [standard]\n");
        write(dir, &format!("config/tenants/{tenant}.yaml"), &text);
    }
    let file = format!("{}/tests/hostile_policies/{name}.rego", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(file).unwrap();
    let own = text.replace("package demo", "package tenants.hostile.standard");
    assert!(own.contains("[\"secrets\", \"token\"]"), "{name} waits for another finding");
    write(dir, "policies/tenants/hostile/standard/hostile.rego", &own);
    let mut served = program(&service(), dir);
    served.args(["serve", "--listen", "127.0.0.1:0"]);
    served.env("ORCHESTRATION_SERVER__WORKERS", "2");
    served.env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", tier.eval_timeout);
    let mut served = Served::start(served);
    served.discard_output();
    served
}

type Http = Client<HttpConnector, Full<Bytes>>;

/// What the hostile policies wait for: a finding of the category `secrets.token`.
const TOKEN: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

/// Each content has its token elsewhere, so that the memo holds few of them.
async fn ask(client: &Http, address: &str, tenant: &str, at: usize) -> (u16, Value) {
    let content = format!("{} {TOKEN}", "x ".repeat(at * 7919 % 1000));
    let body = json!({"content": content, "tenant_id": tenant}).to_string();
    let request = hyper::Request::post(format!("http://{address}/api/v1/orchestrate"))
        .header("content-type", "application/json")
        .body(Full::from(body))
        .unwrap();
    let Ok(response) = client.request(request).await else { return (0, Value::Null) };
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.map(|body| body.to_bytes());
    (status, serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default())
}

/// The neighbour's latencies, sorted, and how many answers were not as they should be.
async fn calm(client: &Http, address: &str, tier: Tier, from: usize) -> (Vec<Duration>, usize) {
    let count = (tier.time.as_secs_f64() * f64::from(tier.rate)) as usize;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / tier.rate);
    let mut tasks = tokio::task::JoinSet::new();
    for at in from..from + count {
        let due = tick.tick().await;
        let (client, address) = (client.clone(), address.to_owned());
        tasks.spawn(async move {
            let (status, value) = ask(&client, &address, "calm", at).await;
            let sound = status == 200 && value["action"] == "redact";
            (due.elapsed(), sound && value["degraded"].is_null())
        });
    }
    let all = tasks.join_all().await;
    let wrong = all.iter().filter(|(_, sound)| !sound).count();
    let mut times: Vec<Duration> = all.into_iter().map(|(time, _)| time).collect();
    times.sort();
    (times, wrong)
}

/// Asks for the hostile tenant, `AT_ONCE` at once, until told to stop; the actions that came.
async fn hostile(client: &Http, address: &str, stop: &Arc<AtomicBool>) -> Vec<Value> {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..AT_ONCE {
        let (client, address) = (client.clone(), address.to_owned());
        let stop = Arc::clone(stop);
        tasks.spawn(async move {
            let mut answers = Vec::new();
            for at in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (status, value) = ask(&client, &address, "hostile", task + at * AT_ONCE).await;
                assert_eq!(status, 200, "{value:#}");
                answers.push(value);
            }
            answers
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

fn ms(times: &[Duration], part: f64) -> f64 {
    let at = (times.len() as f64 * part) as usize;
    times.get(at.min(times.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What the neighbour feels of one policy.
async fn beside(name: &str, tier: Tier) {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), name, tier);
    let (client, address) = (client(), served.address.as_str());
    let (mut p50, mut p99, mut wrong) = (Vec::new(), Vec::new(), [0, 0]);
    let (mut asked, mut samples, mut figures) = (0, 0, [Vec::new(), Vec::new()]);
    calm(&client, address, Tier { time: tier.time / 5, ..tier }, 0).await;
    for pair in 0..tier.pairs {
        let (alone, failed) = calm(&client, address, tier, pair * 50).await;
        wrong[0] += failed;
        let stop = Arc::new(AtomicBool::new(false));
        let neighbour = async {
            let felt = calm(&client, address, tier, pair * 50 + 25).await;
            stop.store(true, Ordering::Relaxed);
            felt
        };
        let ((with, failed), answers) =
            futures_util::join!(neighbour, hostile(&client, address, &stop));
        wrong[1] += failed;
        for answer in &answers {
            assert!(answer["action"] == "review" || answer["action"] == "block", "{answer:#}");
            assert_eq!(answer["allowed"], false, "{answer:#}");
        }
        asked += answers.len();
        samples += alone.len();
        p50.push(ms(&with, 0.5) / ms(&alone, 0.5));
        p99.push(ms(&with, 0.99) / ms(&alone, 0.99));
        figures[0].push(ms(&alone, 0.99));
        figures[1].push(ms(&with, 0.99));
    }
    let [alone, with] = figures.map(median);
    println!(
        "{name}: neighbour p50 x{:.2}, p99 x{:.2} ({alone:.2} -> {with:.2} ms), {} pairs of {} answers; \
         degraded alone {}, beside {}; hostile: {asked} answers, 0 allow",
        median(p50),
        median(p99),
        tier.pairs,
        samples / tier.pairs,
        wrong[0],
        wrong[1],
    );
    assert!(asked > 0 && samples > 0, "nothing was asked");
    assert!(wrong[1] <= wrong[0], "{name}: {wrong:?} of the neighbour's {samples} answers failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_policy_never_allows_and_fails_nobody_else() {
    let start = Instant::now();
    // Every run takes those that fail in different ways; a release takes all.
    let step = if std::env::var("HOSTILE_SECONDS").is_ok() { 1 } else { 2 };
    for name in LIVE.into_iter().step_by(step) {
        beside(name, Tier::of_run(name)).await;
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{:.0} s; load average: {}", start.elapsed().as_secs_f64(), load.trim());
}
