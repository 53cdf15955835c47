//! What operators are told: a real Prometheus scrapes the service, the rules fire and clear, every
//! query of rules and dashboard finds something after real traffic.

use std::collections::BTreeSet;

use detector_orchestrator::metrics::FAMILIES;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::access::{BOOT, key, send};
use crate::app::{App, spawn_closed, spawn_named, write};
use crate::prometheus::{Server, deployed, promtool};
use crate::redis_server;

fn read(name: &str) -> String {
    std::fs::read_to_string(deployed(name)).unwrap()
}

fn manual() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbook.md");
    std::fs::read_to_string(page).unwrap()
}

/// What follows `key` on lines of a rules file.
fn lines<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter_map(move |line| line.trim_start().trim_start_matches("- ").strip_prefix(key))
}

#[test]
fn promtool_makes_each_alert_fire_and_clear() {
    for (args, says) in [
        (&["check", "rules", "rules.yaml"][..], "SUCCESS: 33 rules found"),
        (&["check", "config", "prometheus.yaml"][..], "SUCCESS"),
        (&["test", "rules", "rules_test.yaml"][..], "SUCCESS"),
    ] {
        let (content, told) = promtool(args);
        assert!(content && told.contains(says), "{args:?}: {told}");
    }
    let alerts: BTreeSet<String> =
        lines(&read("prometheus/rules.yaml"), "alert: ").map(str::to_owned).collect();
    let tests = read("prometheus/rules_test.yaml");
    let tested: BTreeSet<String> = lines(&tests, "alertname: ").map(str::to_owned).collect();
    assert_eq!(alerts, tested);
    assert_eq!(lines(&tests, "exp_alerts: []").count(), alerts.len(), "each must clear");
}

#[test]
fn each_alert_leads_to_a_section_of_the_runbook() {
    let (rules, manual) = (read("prometheus/rules.yaml"), manual());
    let alerts: Vec<&str> = lines(&rules, "alert: ").collect();
    let links: Vec<&str> = lines(&rules, "runbook_url: ").collect();
    assert!(alerts.len() >= 20 && alerts.len() == links.len(), "{alerts:?} {links:?}");
    for (alert, link) in alerts.iter().zip(links) {
        assert_eq!(link, format!("docs/runbook.md#{}", alert.to_lowercase()));
        assert!(manual.contains(&format!("\n## {alert}\n")), "the runbook says nothing of {alert}");
    }
}

/// The one situation that all questions are about: a detector that fails, a tenant at its limits, a
/// policy that fails, a body too many, and traffic that is well.
struct Situation {
    app: App,
    _detectors: MockServer,
    _redis: redis_server::Server,
}

const FAILING: &str = "package tenants.acme.standard\n\nimport rego.v1\n\nblock contains \"late\" if {\n\
    \tinput.request.event == \"boom\"\n\tto_number(\"12x\") > 1\n}\n";

impl Situation {
    async fn make() -> Situation {
        let detectors = MockServer::builder().start().await;
        let judged = json!({"findings": []});
        for (at, status) in [("/well", 200), ("/sick", 500), ("/health", 200)] {
            let reply = ResponseTemplate::new(status).set_body_json(&judged);
            Mock::given(path(at)).respond_with(reply).mount(&detectors).await;
        }
        Mock::given(method("GET")).respond_with(ResponseTemplate::new(200)).mount(&detectors).await;
        let redis = redis_server::Server::start();
        let at = redis.url();
        let digits = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let env = [
            ("ORCHESTRATION_ENV", "staging"),
            ("ORCHESTRATION_BOOTSTRAP_KEY", BOOT),
            ("ORCHESTRATION_DATA_KEY", digits),
            ("ORCHESTRATION_KEY_PEPPER", digits),
            ("ORCHESTRATION_EVIDENCE_KEY", digits),
            ("ORCHESTRATION_REDIS_URL", &at),
            ("ORCHESTRATION_SECURITY__OUTBOUND_ALLOW", "[127.0.0.1]"),
            ("ORCHESTRATION_SECURITY__RATE_LIMIT__PER_MINUTE", "100000"),
            ("ORCHESTRATION_SECURITY__RATE_LIMIT__BURST", "100000"),
            ("ORCHESTRATION_SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
            ("ORCHESTRATION_SERVER__LIMITS__BODIES_BYTES_MAX", "40960"),
        ];
        let env = env.map(|(name, value)| (name, value.to_owned())).to_vec();
        let app = spawn_named(env, |root| {
            for name in ["well", "sick"] {
                let file = format!(
                    "name: {name}\nprotocol: native\nendpoint: {}/{name}\ncategories: [toxicity]\n\
                     retry: {{attempts: 1}}\nbreaker: {{failures: 1000}}\n",
                    detectors.uri()
                );
                write(root, &format!("detectors/{name}.yaml"), &file);
            }
            let noisy = "schema_version: 1\nid: noisy\nrate_limit: {per_minute: 1, burst: 1}\n";
            write(root, "config/tenants/noisy.yaml", noisy);
            std::fs::create_dir_all(root.join("data")).unwrap();
            write(root, "policies/tenants/acme/standard/verdict.rego", FAILING);
        })
        .await;
        Situation { app, _detectors: detectors, _redis: redis }
    }

    async fn ask(&self, key: &str, body: &Value) -> u16 {
        send(&self.app, "POST", "/api/v1/orchestrate", key, body).await.status
    }

    /// A second of ordinary and less ordinary requests.
    async fn live(&self, keys: &(String, String)) {
        let (acme, noisy) = keys;
        let add =
            |name: &str, content: &str| json!({"content": content, "detectors": {"add": [name]}});
        for _ in 0..3 {
            assert_eq!(self.ask(acme, &add("well", "hello")).await, 200);
            assert_eq!(self.ask(acme, &json!({"content": "key AKIAZ3VQ7JRTLWXK5P2D"})).await, 200);
            assert_eq!(self.ask(acme, &add("sick", "good morning")).await, 200);
            let boom = json!({"content": "hi", "event": "boom"});
            assert_eq!(self.ask(acme, &boom).await, 200);
            self.ask(noisy, &json!({"content": "hello"})).await;
        }
        assert_eq!(self.ask(acme, &json!({"content": "x".repeat(30_000)})).await, 503);
    }

    async fn keys(&self) -> (String, String) {
        let of =
            async |tenant: &str| key(&self.app, json!({"roles": ["app"], "tenant": tenant})).await;
        (of("acme").await, of("noisy").await)
    }

    /// Scraped at both listeners: with a token where everybody may come, and without where not.
    async fn scraped(&self) -> Server {
        let token = key(&self.app, json!({"roles": ["platform_operator"]})).await;
        let (public, admin) = (self.app.address, self.app.admin.unwrap());
        let job = |name: &str, more: &str, at| {
            format!("{{job_name: {name}, {more} static_configs: [{{targets: ['{at}']}}]}}")
        };
        let credentials = format!("authorization: {{credentials: '{token}'}},");
        let nobody = job("stranger", "", public);
        Server::start(&[job("orchestrator", &credentials, public), job("admin", "", admin), nobody])
            .await
    }
}

/// The parts of an alert's expression that name what is looked at, without what it is held against.
fn operands(expression: &str) -> Vec<String> {
    let bare = |part: &str| {
        let cut = [" > ", " < ", " == "].iter().filter_map(|sign| part.rfind(sign)).max();
        part[..cut.unwrap_or(part.len())].to_owned()
    };
    expression.split(" and ").map(bare).collect()
}

/// Queries of the dashboard's panels.
fn panels() -> Vec<String> {
    let board: Value = serde_json::from_str(&read("grafana/dashboard.json")).unwrap();
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// Metrics that a query names and no build has.
fn unknown(query: &str) -> Vec<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let known = |word: &str| {
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        FAMILIES.iter().any(|family| family.name == word || Some(family.name) == bare)
    };
    let ours = words.filter(|word| word.starts_with("orchestrator_"));
    ours.filter(|word| !known(word)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_finds_data_and_three_questions_their_labels() {
    let situation = Situation::make().await;
    let (keys, prometheus) = (situation.keys().await, situation.scraped().await);
    for _ in 0..5 {
        situation.live(&keys).await;
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    let job = json!({"job_type": "orchestrate", "job_data": {"content": "hello"}});
    assert_eq!(send(&situation.app, "POST", "/api/v1/jobs", &keys.0, &job).await.status, 202);
    let up = prometheus.ask_until("up", |found| found.len() == 3).await;
    let of = |job: &str| up.iter().find(|(labels, _)| labels["job"] == job).unwrap().1;
    assert_eq!((of("orchestrator"), of("admin")), (1.0, 1.0), "{up:?}");
    assert_eq!(of("stranger"), 0.0, "nobody without a credential is told at the public address");

    let rules = read("prometheus/rules.yaml");
    let mut queries: Vec<String> = lines(&rules, "expr: ").flat_map(operands).collect();
    queries.extend(lines(&rules, "record: ").map(str::to_owned));
    queries.extend(panels());
    assert!(queries.len() > 60, "{}", queries.len());
    for query in &queries {
        assert_eq!(unknown(query), Vec::<String>::new(), "{query}");
        prometheus.ask_until(query, |found| !found.is_empty()).await;
    }

    let manual = manual();
    let asked = |question: &str| {
        let behind = manual.split(question).nth(1).unwrap();
        behind.split("```promql\n").nth(1).unwrap().split("\n```").next().unwrap().to_owned()
    };
    let names = |found: &[(Value, f64)], label: &str| {
        found.first().map(|(labels, _)| labels[label].as_str().unwrap_or_default().to_owned())
    };
    let sick = asked("**Which detector is sick?**");
    // A scrape may time out while everything is busy: the traffic goes on until it was seen.
    for looks in 1.. {
        situation.live(&keys).await;
        let found = prometheus.ask(&sick).await;
        if names(&found, "detector").as_deref() == Some("sick") {
            break;
        }
        assert!(looks < 40, "{found:?}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let angry = asked("**Which tenant is angry?**");
    let found = prometheus.ask_until(&angry, |found| found.len() == 2).await;
    let tenants: BTreeSet<_> =
        found.iter().map(|(labels, _)| labels["tenant"].as_str().unwrap()).collect();
    assert_eq!(tenants, BTreeSet::from(["acme", "noisy"]), "{found:?}");
    let harmful = asked("What was taken and does harm");
    let revision = situation.app.api.live.current().revision.clone();
    prometheus
        .ask_until(&harmful, |found| names(found, "revision").as_ref() == Some(&revision))
        .await;
    let bad = asked("**Which edit was bad?**");
    assert!(prometheus.ask(&bad).await.is_empty(), "every edit so far was good");
    write(situation.app.dir.path(), "policies/standard/data.yaml", "settings: [\n");
    prometheus
        .ask_until(&bad, |found| found.len() == 1 && names(found, "kind").unwrap() == "policies")
        .await;
}

#[tokio::test]
async fn the_admin_listener_serves_health_and_metrics_to_everybody_and_nothing_else() {
    let env = vec![
        ("ORCHESTRATION_ENV", "staging".to_owned()),
        ("ORCHESTRATION_BOOTSTRAP_KEY", BOOT.to_owned()),
        ("ORCHESTRATION_SERVER__ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
    ];
    let app = spawn_named(env, |_| {}).await;
    let client = crate::app::client();
    for (path, status) in [
        ("/metrics", 200),
        ("/api/v1/metrics", 200),
        ("/health/ready", 200),
        ("/health/detailed", 200),
        ("/api/v1/breakers", 404),
        ("/api/v1/keys", 404),
        ("/docs", 404),
        ("/openapi.json", 404),
    ] {
        let at = format!("http://{}{path}", app.admin.unwrap());
        let answer = crate::app::send(&client, ("GET", &at), &[], b"").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        assert!(!answer.header("x-request-id").is_empty());
    }
    assert_eq!(app.get("/metrics").await.status, 401, "the public one asks who it is");
    let at = format!("http://{}/api/v1/orchestrate", app.admin.unwrap());
    let body = br#"{"content": "hello"}"#;
    let posted = crate::app::send(&client, ("POST", &at), &[("x-api-key", BOOT)], body).await;
    assert_eq!(posted.status, 404);
}

#[tokio::test]
async fn a_tenants_credential_sees_no_sum_of_all_tenants_work_that_is_not_named() {
    let app = spawn_closed(BOOT).await;
    let viewer = key(&app, json!({"roles": ["viewer"], "tenant": "acme"})).await;
    let other = key(&app, json!({"roles": ["operator"], "tenant": "globex"})).await;
    let job = json!({"job_type": "orchestrate", "job_data": {"content": "Mail ana@evil.io"}});
    let made = send(&app, "POST", "/api/v1/jobs", &other, &job).await;
    assert_eq!(made.status, 202, "{}", made.text);
    let seen = async |key: &str| send(&app, "GET", "/metrics", key, &Value::Null).await.text;
    let ended = "orchestrator_jobs_completed_total{state=\"completed\"} 1";
    while !seen(BOOT).await.contains(ended) {
        tokio::task::yield_now().await;
    }
    let page = include_str!("../../docs/permissions.md");
    let named = page.split("## ").find(|part| part.starts_with("Metrics of a tenant")).unwrap();
    let is_named = |family: &str| {
        let starts = |word: &str| word.strip_suffix('*').is_some_and(|w| family.starts_with(w));
        named.split('`').skip(1).step_by(2).any(|word| word == family || starts(word))
    };
    let (mut family, mut own) = (String::new(), 0);
    for line in seen(&viewer).await.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            family = said.split(' ').next().unwrap().to_owned();
        } else if !line.starts_with('#') && !is_named(&family) {
            let of_detector = ["{detector=", ",detector=", "service_name="];
            assert!(of_detector.iter().any(|label| line.contains(label)), "{line}");
            own += 1;
        }
        assert!(!line.contains("globex"), "{line}");
    }
    assert!(own > 0, "nothing of detectors is seen");
}
