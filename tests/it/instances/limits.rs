//! What a tenant may have holds over all instances together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Heard, Judge, SOON, hand_in};
use crate::app::{client, write};
use crate::idempotency::attach;
use crate::postgres::Server;
use crate::shared::{Instance, migrated, secret};

const JOBS: usize = 30;

/// Two instances over one database, which know `acme` of the tier starter.
async fn two(url: &str, judge: &Judge, env: &[(&str, &str)]) -> (Instance, Instance, Value) {
    let start = || {
        Instance::start_as(url, |dir, serve| {
            detector_orchestrator::assets::write_to(dir).unwrap();
            attach(dir, &judge.server);
            write(dir, "config/tenants/acme.yaml", "schema_version: 1\nid: acme\ntier: starter\n");
            // All come at once.
            serve.env("ORCHESTRATION_DATABASE__CONNECTION_WAIT", "5s");
            serve.envs(env.iter().copied());
        })
    };
    let (a, b) = (start(), start());
    let key = a.key("acme").await;
    (a, b, key)
}

fn plain(n: usize) -> Value {
    let data = json!({"content": format!("no. {n}"), "detectors": {"add": ["vendor"]}});
    json!({"job_type": "orchestrate", "job_data": data})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_jobs_at_once_are_as_many_as_it_may_have_on_two_instances_together() {
    let (server, judge) = (Server::start(), Judge::start(Duration::from_millis(60)).await);
    let url = migrated(&server);
    let env = [
        ("ORCHESTRATION_TIERS__STARTER__JOBS_PER_DAY", "1000"),
        ("ORCHESTRATION_TIERS__STARTER__CONCURRENT", "2"),
        ("ORCHESTRATION_JOBS__POLL", "100ms"),
    ];
    let (a, b, key) = two(&url, &judge, &env).await;
    let client = client();
    let add = |n: usize| {
        let at = if n.is_multiple_of(2) { &a } else { &b };
        let (client, key, begun) = (&client, secret(&key), Instant::now());
        async move {
            loop {
                match hand_in(client, (at.address(), key), &plain(n), None).await {
                    Heard::Answer(202, _) => return,
                    // A busy machine.
                    Heard::Answer(503, _) if begun.elapsed() < SOON => {}
                    Heard::Answer(other, text) => panic!("{other}: {text}"),
                    Heard::Nothing => panic!("nobody answered"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    join_all((0..JOBS).map(add)).await;
    let database = url.rsplit('/').next().unwrap();
    let begun = Instant::now();
    while server.sql(database, "SELECT count(*) FROM completions") != JOBS.to_string() {
        assert!(begun.elapsed() < SOON, "they do not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Events have places in the order in which moves were written.
    let moves = "SELECT source, event_type FROM events WHERE source LIKE 'job/%' ORDER BY place";
    let (mut running, mut most) = (BTreeSet::new(), 0);
    for line in server.sql(database, moves).lines() {
        let (job, became) = line.split_once('|').unwrap();
        match became {
            "job_running" => running.insert(job.to_owned()),
            _ => running.remove(job),
        };
        most = most.max(running.len());
    }
    assert_eq!(most, 2, "so many ran at once");
    let by = "SELECT worker, count(*) FROM job_attempts GROUP BY 1";
    println!("{JOBS} jobs, 2 at once, on two instances: {}", server.sql(database, by));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_jobs_a_day_are_as_many_as_it_may_have_on_two_instances_together() {
    let (server, judge) = (Server::start(), Judge::start(Duration::ZERO).await);
    let url = migrated(&server);
    let (a, b, key) = two(&url, &judge, &[]).await;
    let client = client();
    let add = |n: usize| {
        let at = if n.is_multiple_of(2) { &a } else { &b };
        let (client, key) = (&client, secret(&key));
        async move { hand_in(client, (at.address(), key), &plain(n), None).await }
    };
    let mut told = BTreeMap::<(u16, String), usize>::new();
    for heard in join_all((0..16).map(add)).await {
        let Heard::Answer(status, text) = heard else { panic!("nobody answered") };
        let said: Value = serde_json::from_str(&text).unwrap();
        let code = said["code"].as_str().unwrap_or_default().to_owned();
        *told.entry((status, code)).or_default() += 1;
    }
    let wanted = [((202, String::new()), 5), ((429, "QUOTA_EXCEEDED".to_owned()), 11)];
    assert_eq!(told, BTreeMap::from(wanted));
    for instance in [&a, &b] {
        let at = (instance.address(), secret(&key));
        let Heard::Answer(status, text) = hand_in(&client, at, &plain(99), None).await else {
            panic!("nobody answered")
        };
        assert_eq!(status, 429, "{text}");
    }
}
