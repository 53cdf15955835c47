//! The claims B-02, B-04 and B-07: jobs by priority, in batches, at once.

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{MS, alone, less, project, publish, shown, start, tier};
use crate::app::{HttpClient, client, send, write};
use crate::binary::Served;
use crate::faults::checks::Checks;
use crate::faults::fakes::{self, Kind};
use crate::faults::{core_seconds, serve, tenant};

/// A service and its jobs.
struct Jobs {
    client: HttpClient,
    served: Served,
}

impl Jobs {
    fn of(mut served: Served) -> Jobs {
        served.discard_output();
        Jobs { client: client(), served }
    }

    async fn call(&self, method: &str, path: &str, tenant: &str, body: &Value) -> Value {
        let at = format!("http://{}/api/v1{path}", self.served.address);
        let headers = [("content-type", "application/json"), ("x-tenant-id", tenant)];
        let body = Bytes::from(body.to_string());
        let answer = send(&self.client, (method, &at), &headers, &body).await;
        assert!(answer.status < 300, "{path}: {}", answer.text);
        answer.json()
    }

    async fn add(&self, tenant: &str, job: &Value) -> String {
        let made = self.call("POST", "/jobs", tenant, job).await;
        made["job_id"].as_str().unwrap().to_owned()
    }

    /// Until it is completed; how long it took, in milliseconds, by the service's clock.
    async fn done(&self, tenant: &str, id: &str) -> f64 {
        loop {
            let job = self.call("GET", &format!("/jobs/{id}"), tenant, &json!({})).await;
            assert_ne!(job["state"], "failed", "{job}");
            if job["state"] == "completed" {
                let at = |field: &str| job[field].as_str().unwrap().parse::<jiff::Timestamp>();
                let (from, to) = (at("created_at").unwrap(), at("updated_at").unwrap());
                return to.duration_since(from).as_secs_f64() * 1e3;
            }
            sleep(5 * MS).await;
        }
    }
}

fn text(n: usize, priority: &str) -> Value {
    let data = json!({"content": format!("no. {n}")});
    json!({"job_type": "orchestrate", "priority": priority, "job_data": data})
}

fn batch(from: usize, count: usize, parallel: usize) -> Value {
    let requests: Vec<Value> =
        (from..from + count).map(|n| json!({"content": format!("no. {n}")})).collect();
    let data = json!({"requests": requests, "max_parallel": parallel});
    json!({"job_type": "batch", "job_data": data})
}

fn times(mut list: Vec<f64>) -> [f64; 3] {
    list.sort_by(f64::total_cmp);
    let at = |part: f64| list[((list.len() - 1) as f64 * part).round() as usize];
    [list.iter().sum::<f64>() / list.len() as f64, at(0.5), at(0.99)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b02_critical_jobs_behind_a_backlog_of_low_ones_go_first() {
    let (mut checks, mut tasks, dir) = (Checks::default(), JoinSet::new(), project());
    let fake = fakes::start(&mut tasks, Kind::Takes(20 * MS)).await;
    alone(dir.path(), "lone", &fake, "timeout: 20s\nhealth: {path: ''}\n");
    let env = [("ORCHESTRATION_JOBS__WORKERS", "2"), ("ORCHESTRATION_CACHE__RESPONSES", "false")];
    let jobs = Jobs::of(serve(dir.path(), &env));
    let (rounds, low, critical) = tier((5, 400, 40), (1, 40, 4));
    let mut rows = vec!["| | urgent mean ms | p50 ms | p99 ms | jobs/s of all |".to_owned()];
    let mut sides = [(Vec::new(), 0.0), (Vec::new(), 0.0)];
    for round in 0..rounds {
        for (side, (urgent, other)) in
            sides.iter_mut().zip([("normal", "normal"), ("critical", "low")])
        {
            let begun = Instant::now();
            let (mut backlog, mut wanted) = (Vec::new(), Vec::new());
            for n in 0..low {
                backlog.push(jobs.add("lone", &text(round * 10_000 + n, other)).await);
            }
            for n in 0..critical {
                wanted.push(jobs.add("lone", &text(round * 10_000 + 5_000 + n, urgent)).await);
            }
            for id in &wanted {
                side.0.push(jobs.done("lone", id).await);
            }
            for id in &backlog {
                jobs.done("lone", id).await;
            }
            side.1 += begun.elapsed().as_secs_f64();
        }
    }
    let rate = |took: f64| (rounds * (low + critical)) as f64 / took;
    let (alike, first) = (times(sides[0].0.clone()), times(sides[1].0.clone()));
    checks.holds(first[1] < alike[1], || format!("{first:?} of {alike:?}"));
    rows.push(format!("| all normal | {} | {:.1} |", shown(alike), rate(sides[0].1)));
    rows.push(format!("| critical before low | {} | {:.1} |", shown(first), rate(sides[1].1)));
    let change: Vec<_> = (0..3).map(|at| less(alike[at], first[at])).collect();
    let total = less(rate(sides[0].1), rate(sides[1].1));
    rows.push(format!("| change | {} | {total} |", change.join(" | ")));
    let n = format!(
        "{rounds} rounds of {low} jobs, then {critical} urgent ones, two workers, a detector of 16 to \
         24 ms. An order cannot raise what all jobs together take: only who waits changes"
    );
    publish("B-02: 2.5x throughput by priority scheduling", &n, &rows);
    checks.end("B-02");
}

/// A detector that answers one text or many.
async fn judge() -> MockServer {
    let server = MockServer::start().await;
    let reply = |request: &Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let clean = json!({"label": "clean", "score": 0.9});
        let reply = match body["items"].as_array() {
            Some(items) => json!({"items": vec![clean; items.len()]}),
            None => clean,
        };
        ResponseTemplate::new(200).set_body_json(reply)
    };
    Mock::given(any()).respond_with(reply).mount(&server).await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b04_a_detector_that_takes_batches_gets_one_call_for_many_items() {
    let (mut checks, dir) = (Checks::default(), project());
    let (rounds, each) = tier((5, 20), (1, 1));
    let mut servers = Vec::new();
    for (name, more) in [("single", ""), ("many", "batch: {max_items: 50}\n")] {
        let server = judge().await;
        let detector = format!(
            "name: {name}\nprotocol: native\nendpoint: {}/a\ncategories: [toxicity]\n\
             retry: {{attempts: 1}}\ntimeout: 20s\nhealth: {{path: ''}}\n\
             bulkhead: {{max_in_flight: 1000, queue: 1000}}\n{more}",
            server.uri()
        );
        write(dir.path(), &format!("detectors/{name}.yaml"), &detector);
        tenant(dir.path(), name, "tier: unlimited\n", &[name.to_owned()]);
        servers.push((name, server));
    }
    let jobs = Jobs::of(serve(dir.path(), &[("ORCHESTRATION_CACHE__RESPONSES", "false")]));
    let mut used = [0.0, 0.0];
    for round in 0..rounds {
        for (side, (name, _)) in used.iter_mut().zip(&servers) {
            let before = core_seconds(&jobs.served);
            for n in 0..each {
                let job = batch((round * each + n) * 100, 100, 50);
                jobs.done(name, &jobs.add(name, &job).await).await;
            }
            *side += core_seconds(&jobs.served) - before;
        }
    }
    let mut rows = vec!["| | calls | CPU s for 10 000 items |".to_owned()];
    let items = (rounds * each * 100) as f64;
    let mut calls = Vec::new();
    for ((name, server), used) in servers.iter().zip(used) {
        calls.push(server.received_requests().await.unwrap().len());
        let what = if *name == "single" { "one text a call" } else { "up to 50 a call" };
        rows.push(format!(
            "| {what} | {} | {:.2} |",
            calls.last().unwrap(),
            used * 10_000.0 / items
        ));
    }
    checks.holds(calls[0] == items as usize, || format!("{} calls", calls[0]));
    checks.holds(calls[1] * 10 <= calls[0], || format!("{calls:?}"));
    rows.push(format!(
        "| change | {} | {} |",
        less(calls[0] as f64, calls[1] as f64),
        less(used[0], used[1])
    ));
    let n = format!("{rounds} rounds of {each} batch jobs of 100 texts a side");
    publish("B-04: 25 % CPU by batching", &n, &rows);
    checks.end("B-04");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b07_requests_of_a_batch_are_judged_side_by_side() {
    let (mut checks, mut tasks, dir) = (Checks::default(), JoinSet::new(), project());
    let fake = fakes::start(&mut tasks, Kind::Takes(20 * MS)).await;
    let wide = "timeout: 20s\nhealth: {path: ''}\nbulkhead: {max_in_flight: 100, queue: 100}\n";
    alone(dir.path(), "lone", &fake, wide);
    tenant(dir.path(), "bare", "tier: unlimited\n", &["pii".to_owned(), "secrets".to_owned()]);
    let (served, _) = start(dir.path(), &[("ORCHESTRATION_CACHE__RESPONSES", "false")]);
    let jobs = Jobs { client: client(), served };
    let (rounds, count) = tier((5, 100), (1, 20));
    let mut rows =
        vec!["| at once | a detector of 16 to 24 ms, ms | built-in detectors, ms |".to_owned()];
    let mut found = Vec::new();
    for parallel in [1, 2, 10, 50] {
        let mut took = [0.0, 0.0];
        for round in 0..rounds {
            for (side, tenant) in took.iter_mut().zip(["lone", "bare"]) {
                let job = batch((parallel * 10 + round) * 1_000, count, parallel);
                *side += jobs.done(tenant, &jobs.add(tenant, &job).await).await / rounds as f64;
            }
        }
        rows.push(format!("| {parallel} | {:.1} | {:.1} |", took[0], took[1]));
        found.push(took[0]);
    }
    checks.holds(found[2] < found[0], || format!("{found:?}"));
    let n = format!(
        "{rounds} rounds of batch jobs of {count} texts, means; two cores cap what needs a core at 2x, \
         what waits for others has no such cap"
    );
    publish("B-07: 4x bulk", &n, &rows);
    checks.end("B-07");
}
