//! Two tenants at every endpoint at once: each sees what a model says it has, and nothing of the
//! other, in answers, metrics and log lines.
//!
//! `ISOLATION=10000` is the figure of the design and runs before a release (`just isolation`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::access::BOOT;
use crate::app::{Answer, HttpClient, client, send};
use crate::binary::{Served, command, run};
use crate::model::random::Source;

mod alone;
mod party;

use party::Party;

/// Tenants, and marks in all that they write.
pub const TENANTS: [&str; 2] = ["zzalpha", "zzbeta"];
/// Classes of operations, each at least a twentieth of all.
const CLASSES: [&str; 15] = [
    "judge",
    "batch",
    "read policy",
    "write policy",
    "stale policy",
    "check policy",
    "list keys",
    "change keys",
    "own detector",
    "audit",
    "evidence",
    "foreign id",
    "foreign tenant",
    "shared state",
    "not allowed",
];
const OUTCOMES: [&str; 5] = ["done", "invalid", "forbidden", "not found", "stale"];

/// The running service.
pub struct House {
    client: HttpClient,
    pub served: Served,
    _dir: tempfile::TempDir,
}

impl House {
    pub fn open() -> House {
        let dir = tempfile::tempdir().unwrap();
        assert!(run(dir.path(), &["init"]).status.success());
        for tenant in TENANTS {
            let text = format!(
                "schema_version: 1\nid: {tenant}\ntier: unlimited\npolicies: [standard]\n\
                 rate_limit: {{per_minute: 1000000, burst: 1000000}}\n"
            );
            crate::app::write(dir.path(), &format!("config/tenants/{tenant}.yaml"), &text);
        }
        let mut start = command(dir.path());
        start.args(["serve", "--listen", "127.0.0.1:0"]);
        for (name, value) in [
            ("ORCHESTRATION_ENV", "staging"),
            ("ORCHESTRATION_BOOTSTRAP_KEY", BOOT),
            ("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "2s"),
            ("ORCHESTRATION_SECURITY__AUTH_FAILURES_PER_MINUTE", "100000"),
        ] {
            start.env(name, value);
        }
        House { client: client(), served: Served::start(start), _dir: dir }
    }

    pub async fn ask(
        &self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let at = format!("http://{}/api/v1{path}", self.served.address);
        send(&self.client, (method, &at), headers, body.to_string().as_bytes()).await
    }
}

#[tokio::test]
async fn two_tenants_at_every_endpoint_see_their_own_and_nothing_else() {
    let count: usize = std::env::var("ISOLATION").map_or(1_000, |n| n.parse().unwrap());
    let mut house = House::open();
    let told = house.served.keep_output();
    let mut parties = Vec::new();
    for tenant in TENANTS {
        parties.push(Party::enter(&house, tenant).await);
    }
    let (mut source, mut mix) = (Source::new(8), BTreeMap::<&str, usize>::new());
    let mut outcomes = BTreeMap::<&str, usize>::new();
    for _ in 0..count {
        let at = source.below(2);
        let other = parties[1 - at].shown();
        let class = *source.one(&CLASSES);
        let answers = parties[at].act(&house, class, (&mut source, &other)).await;
        *mix.entry(class).or_default() += 1;
        for answer in &answers {
            assert!(
                !answer.text.contains(TENANTS[1 - at]),
                "{class} of {}: {}",
                TENANTS[at],
                answer.text
            );
            *outcomes.entry(outcome(answer)).or_default() += 1;
        }
    }
    let decisions: Vec<usize> = parties.iter().map(|party| party.decisions).collect();
    let House { served, .. } = house;
    assert_eq!(served.stop().0, Some(0));
    lines(&told.join().unwrap(), &decisions);
    println!("{count} operations: {mix:#?}\n{outcomes:#?}");
    let answers: usize = outcomes.values().sum();
    for class in CLASSES {
        assert!(mix[class] * 20 >= count, "{class}: {} of {count}", mix[class]);
    }
    for outcome in OUTCOMES {
        assert!(outcomes[outcome] * 20 >= answers, "{outcome}: {} of {answers}", outcomes[outcome]);
    }
}

fn outcome(answer: &Answer) -> &'static str {
    match answer.status {
        200..300 => "done",
        400 => "invalid",
        403 => "forbidden",
        404 => "not found",
        412 | 428 => "stale",
        other => panic!("{other}: {}", answer.text),
    }
}

/// A line of one tenant's request tells nothing of the other, and there is one for each decision.
fn lines(told: &str, decisions: &[usize]) {
    let mut counted = [0; 2];
    for line in told.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let named: Vec<usize> = (0..2).filter(|at| line.contains(TENANTS[*at])).collect();
        assert!(named.len() < 2, "{line}");
        if let ([at], true) = (named.as_slice(), value["action"].is_string()) {
            assert_eq!(value["tenant"], TENANTS[*at], "{line}");
            counted[*at] += 1;
        }
    }
    assert_eq!(counted.as_slice(), decisions);
    assert!(decisions.iter().all(|count| *count > 0), "{decisions:?}");
}

/// Headers of a request of `tenant`.
pub fn headers<'a>(key: &'a str, id: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("content-type", "application/json"), ("x-api-key", key), ("x-request-id", id)]
}

/// A key of `tenant`, made by who may make all.
pub async fn first_key(house: &House, tenant: &str, scopes: &[&str]) -> Value {
    let body = json!({
        "label": tenant, "reason": tenant, "scopes": scopes, "tenant": tenant,
    });
    let made = house.ask(("POST", "/keys"), &headers(BOOT, "first"), &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json()
}
