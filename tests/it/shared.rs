//! Two services over one PostgreSQL: what is changed at one holds at the other, and both go on
//! while it is away.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::access::BOOT;
use crate::app::{self, Answer, HttpClient, client};
use crate::binary::{Served, command, text};
use crate::postgres::Server;

const DATA_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const PEPPER: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
/// What is changed elsewhere holds within this; the promise is 1 s, the rest is this debug build's.
const SOON: Duration = Duration::from_secs(3);

/// The binary over `url` in staging, in `dir`.
pub fn orchestrator(dir: &Path, url: &str, args: &[&str]) -> std::process::Command {
    let mut run = command(dir);
    run.args(args).env("ORCHESTRATION_ENV", "staging").env("ORCHESTRATION_DATABASE_URL", url);
    run.env("ORCHESTRATION_DATA_KEY", DATA_KEY).env("ORCHESTRATION_KEY_PEPPER", PEPPER);
    run.env("ORCHESTRATION_EVIDENCE_KEY", DATA_KEY).env("ORCHESTRATION_BOOTSTRAP_KEY", BOOT);
    run.env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "500ms");
    run
}

/// One of several services over a database.
pub struct Instance {
    served: Served,
    client: HttpClient,
    _dir: tempfile::TempDir,
}

impl Instance {
    pub fn start(url: &str) -> Instance {
        Self::start_with(url, |_| {})
    }

    /// The same over files that `prepare` makes; it may ask detectors on this machine.
    pub fn start_with(url: &str, prepare: impl FnOnce(&Path)) -> Instance {
        Self::start_among(url, &[], prepare)
    }

    /// The same with more settings.
    pub fn start_among(url: &str, env: &[(&str, String)], prepare: impl FnOnce(&Path)) -> Instance {
        Self::start_as(url, |dir, serve| {
            serve.envs(env.iter().map(|(name, value)| (name, value)));
            prepare(dir);
        })
    }

    /// The same by a command that `prepare` changes.
    pub fn start_as(
        url: &str,
        prepare: impl FnOnce(&Path, &mut std::process::Command),
    ) -> Instance {
        let dir = tempfile::tempdir().unwrap();
        let mut serve = orchestrator(dir.path(), url, &["serve", "--listen", "127.0.0.1:0"]);
        serve.env("ORCHESTRATION_SECURITY__OUTBOUND_ALLOW", "[127.0.0.1]");
        prepare(dir.path(), &mut serve);
        let mut served = Served::start(serve);
        served.discard_output();
        Instance { served, client: client(), _dir: dir }
    }

    /// The same beside the bus at `nats`.
    pub fn start_beside(url: &str, nats: &str) -> Instance {
        Self::start_as(url, |_, serve| {
            serve.env("ORCHESTRATION_NATS_URL", nats);
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.served.address
    }

    /// Ends it by SIGTERM; exit code, standard output, standard error.
    pub fn stop(self) -> (Option<i32>, String, String) {
        self.served.stop()
    }

    /// Ends it by SIGKILL.
    pub fn kill(&self) {
        let pid = self.served.pid().to_string();
        let done = std::process::Command::new("kill").args(["-KILL", &pid]).status();
        assert!(done.unwrap().success());
    }

    pub async fn send(&self, method: &str, path: &str, key: &str, body: &Value) -> Answer {
        self.send_for((method, path), key, body, &[]).await
    }

    pub async fn send_for(
        &self,
        (method, path): (&str, &str),
        key: &str,
        body: &Value,
        more: &[(&str, &str)],
    ) -> Answer {
        let at = format!("http://{}{path}", self.served.address);
        let mut headers = vec![("content-type", "application/json"), ("x-api-key", key)];
        headers.extend(more);
        app::send(&self.client, (method, &at), &headers, body.to_string().as_bytes()).await
    }

    async fn ask(&self, key: &str) -> Answer {
        let body = json!({"content": "key AKIAZ3VQ7JRTLWXK5P2D"});
        self.send("POST", "/api/v1/orchestrate", key, &body).await
    }

    pub async fn key(&self, tenant: &str) -> Value {
        let made = self.send("POST", "/api/v1/keys", BOOT, &wanted(tenant)).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()
    }

    /// Asks until `holds`, at most [`SOON`].
    async fn soon(&self, key: &str, holds: impl Fn(&Answer) -> bool) {
        let begun = Instant::now();
        loop {
            let answer = self.ask(key).await;
            if holds(&answer) {
                return;
            }
            assert!(begun.elapsed() < SOON, "never: {} {}", answer.status, answer.text);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A key to make.
fn wanted(tenant: &str) -> Value {
    json!({"label": "t", "reason": "t", "tenant": tenant, "roles": ["app"]})
}

pub fn secret(key: &Value) -> &str {
    key["key"].as_str().unwrap()
}

/// A new database of `server` with the schema of this program.
pub fn migrated(server: &Server) -> String {
    let (url, dir) = (server.database(), tempfile::tempdir().unwrap());
    let done = orchestrator(dir.path(), &url, &["migrate"]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    url
}

#[tokio::test]
async fn what_is_changed_at_one_instance_holds_at_the_other() {
    let server = Server::start();
    let url = server.database();
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| orchestrator(dir.path(), &url, args).output().unwrap();
    let early = run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(early.status.code(), Some(69));
    assert!(text(&early.stderr).contains("run `orchestrator migrate`"), "{early:?}");
    for (args, says) in [
        (&["migrate", "--dry-run"][..], "version 0; these would make it"),
        (&["migrate"][..], "was version 0 and is"),
        (&["migrate"][..], "nothing is missing"),
    ] {
        let done = run(args);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        assert!(text(&done.stderr).contains(says), "{done:?}");
    }

    let (a, b) = (Instance::start(&url), Instance::start(&url));
    let made = a.key("default").await;
    assert_eq!(b.ask(secret(&made)).await.json()["action"], "redact", "a key holds everywhere");
    let overlay = json!({"data": {"settings": {"actions": {"secrets": "block"}}}});
    let policy = ("PUT", "/api/v1/policies/standard");
    let put = a.send_for(policy, BOOT, &overlay, &[("x-tenant-id", "default")]).await;
    assert_eq!(put.status, 201, "{}", put.text);
    b.soon(secret(&made), |answer| answer.json()["action"] == "block").await;

    let tenant = json!({"tenant": {"tier": "unlimited"}, "reason": "drill"});
    let put = a.send("PUT", "/api/v1/tenants/newcomer", BOOT, &tenant).await;
    assert_eq!(put.status, 201, "{}", put.text);
    let theirs = a.key("newcomer").await;
    b.soon(secret(&theirs), |answer| answer.status == 200).await;

    let prefix = made["prefix"].as_str().unwrap();
    let revoked = run(&["keys", "revoke", prefix, "--reason", "drill"]);
    assert_eq!(revoked.status.code(), Some(0), "{revoked:?}");
    for instance in [&a, &b] {
        instance.soon(secret(&made), |answer| answer.status == 401).await;
    }
    let checked = run(&["check", "--json"]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

#[tokio::test]
async fn answers_go_on_while_the_database_is_away_and_every_decision_is_kept() {
    let mut server = Server::start();
    let url = server.database();
    let dir = tempfile::tempdir().unwrap();
    let migrated = orchestrator(dir.path(), &url, &["migrate"]).output().unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    let instance = Instance::start(&url);
    let made = instance.key("acme").await;
    let mut answers = 0;
    let mut ask = async |times| {
        for _ in 0..times {
            let answer = instance.ask(secret(&made)).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            answers += 1;
        }
    };
    ask(5).await;
    server.kill();
    ask(20).await;
    let refused = instance.send("POST", "/api/v1/keys", BOOT, &wanted("acme")).await;
    // A key that was read within the last second may still try; a remembered one may only ask.
    assert!([503, 403].contains(&refused.status), "{}", refused.text);
    server.start_again();
    ask(5).await;
    let database = url.rsplit('/').next().unwrap();
    let begun = Instant::now();
    while server.sql(database, "SELECT count(*) FROM decisions") != answers.to_string() {
        assert!(begun.elapsed() < SOON, "not every one of {answers} decisions was kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    instance.soon(secret(&instance.key("acme").await), |answer| answer.status == 200).await;
}

#[test]
fn instances_that_share_a_database_must_be_given_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = command(dir.path());
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    let refused = serve.env("ORCHESTRATION_DATABASE_URL", "postgres://ana@db/x").output().unwrap();
    assert!(!refused.status.success());
    let told = text(&refused.stderr);
    let both = "ORCHESTRATION_DATA_KEY and ORCHESTRATION_KEY_PEPPER and ORCHESTRATION_EVIDENCE_KEY";
    assert!(told.contains(both) && told.contains("openssl rand -hex 32"), "{told}");
}
