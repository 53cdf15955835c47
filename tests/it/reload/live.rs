//! The smallest answer while policies are loaded again (ledger S4-01). `LIVE_FILES` says how many files
//! they are; `just live-reloads` says a thousand and asks an optimised service.

use std::time::{Duration, Instant};

use crate::app::{self, HttpClient, client, write};
use crate::binary::{Served, program, service};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(2);
/// Files of one tenant.
const OWN: usize = 10;

fn wanted(name: &str, unless_told: usize) -> usize {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(unless_told)
}

fn project(files: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    for n in 0..files {
        let (tenant, part) = (n / OWN, n % OWN);
        let file = format!("schema_version: 1\nid: t{tenant}\n");
        write(dir.path(), &format!("config/tenants/t{tenant}.yaml"), &file);
        let rule = format!(
            "package tenants.t{tenant}.standard\n\nflag contains \"late {part}\" if {{\n\t\
             input.metadata.hour > {part}\n}}\n"
        );
        let path = format!("policies/tenants/t{tenant}/standard/part_{part}.rego");
        write(dir.path(), &path, &rule);
    }
    dir
}

async fn get(client: &HttpClient, served: &Served, path: &str) -> app::Answer {
    let at = format!("http://{}{path}", served.address);
    app::send(client, ("GET", &at), &[], b"").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smallest_answer_is_given_while_every_policy_is_loaded_again() {
    let (files, samples) = (wanted("LIVE_FILES", 100), wanted("LIVE_SAMPLES", 200));
    let dir = project(files);
    let mut serve = program(&service(), dir.path());
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    serve.env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "500ms");
    let mut served = Served::start(serve);
    served.discard_output();
    let client = client();
    let generation = async || {
        let told = get(&client, &served, "/api/v1/generations").await.json();
        assert_eq!(told["faults"], serde_json::json!([]), "{told}");
        told["generation"].as_u64().unwrap()
    };
    // Every view stands on the base: all are made anew.
    let base = std::fs::read_to_string(dir.path().join("policies/base/data.yaml")).unwrap();
    let (mut took, mut reloads, begun) = (Vec::new(), 0, Instant::now());
    while took.len() < samples {
        assert!(begun.elapsed() < Duration::from_secs(600), "policies are not loaded again");
        let before = generation().await;
        reloads += 1;
        write(dir.path(), "policies/base/data.yaml", &format!("{base}# edit {reloads}\n"));
        let mut looked = Instant::now();
        loop {
            tokio::time::sleep(EVERY).await;
            let sent = Instant::now();
            let answer = get(&client, &served, "/health/live").await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            // Questions that would have been asked while this one waited had waited too.
            let mut waited = Some(sent.elapsed());
            while let Some(one) = waited {
                took.push(one);
                waited = one.checked_sub(EVERY);
            }
            if looked.elapsed() > Duration::from_millis(50) {
                looked = Instant::now();
                if generation().await > before {
                    break;
                }
            }
        }
    }
    took.sort_unstable();
    let at = |part: f64| took[(part * (took.len() - 1) as f64) as usize].as_secs_f64() * 1e3;
    println!(
        "/health/live while {files} policy files were loaded {reloads} times: {} answers, p50 {:.2} ms, \
         p99 {:.2} ms, at most {:.2} ms",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
