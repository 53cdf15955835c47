//! A Prometheus of the tests' own: on a free port, over a folder that is gone with the tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::app::{HttpClient, client, send};

/// Runs the server until standard input ends, as it does with the tests, then takes the folder away.
const KEEPER: &str =
    "prometheus --config.file \"$1/prometheus.yaml\" --storage.tsdb.path \"$1/data\" \
    --web.listen-address \"127.0.0.1:$2\" --log.level warn >\"$1/log\" 2>&1 & server=$!
    cat >/dev/null; kill -KILL $server; wait $server; rm -rf \"$1\"";

/// A server; ends, and its folder with it, when dropped or when the tests end.
pub struct Server {
    folder: PathBuf,
    keeper: Child,
    port: u16,
    client: HttpClient,
}

impl Server {
    /// One that scrapes `jobs`, each the YAML of a scrape configuration, five times a second, and
    /// evaluates the rules of deploy/.
    pub async fn start(jobs: &[String]) -> Server {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = tempfile::tempdir().unwrap().keep();
        let mut text =
            "global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n\
            rule_files: [rules.yaml]\nscrape_configs:\n"
                .to_owned();
        let rules = std::fs::read_to_string(deployed("prometheus/rules.yaml")).unwrap();
        // Else the rules' own interval would be waited for.
        let quick = rules.replace("interval: 30s", "interval: 200ms");
        std::fs::write(folder.join("rules.yaml"), quick).unwrap();
        jobs.iter().for_each(|job| text.push_str(&format!("  - {job}\n")));
        std::fs::write(folder.join("prometheus.yaml"), text).unwrap();
        let server = Server { keeper: keep(&folder, port), folder, port, client: client() };
        server
            .soon("its start", async || {
                let at = format!("http://127.0.0.1:{port}/-/ready");
                std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
                    && send(&server.client, ("GET", &at), &[], b"").await.status == 200
            })
            .await;
        server
    }

    /// What an instant query finds: labels and value of each series.
    pub async fn ask(&self, query: &str) -> Vec<(Value, f64)> {
        let encoded: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let at = format!("http://127.0.0.1:{}/api/v1/query?query={encoded}", self.port);
        let answer = send(&self.client, ("GET", &at), &[], b"").await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        let answer = answer.json();
        let found = answer["data"]["result"].as_array().unwrap().iter();
        let value = |of: &Value| of["value"][1].as_str().unwrap().parse().unwrap();
        match answer["data"]["resultType"].as_str() {
            Some("vector") => found.map(|one| (one["metric"].clone(), value(one))).collect(),
            other => panic!("{query} is a {other:?}"),
        }
    }

    /// The same until it finds something that `holds`, at most 15 s.
    pub async fn ask_until(
        &self,
        query: &str,
        holds: impl Fn(&[(Value, f64)]) -> bool,
    ) -> Vec<(Value, f64)> {
        let begun = Instant::now();
        loop {
            let found = self.ask(query).await;
            if holds(&found) {
                return found;
            }
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed().as_secs() < 15, "{query} found {found:?}\n{}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn soon(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let begun = Instant::now();
        while !holds().await {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed().as_secs() < 15, "{what}: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A file below deploy/.
pub fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// Runs promtool to its end; what it says, and whether it is content.
pub fn promtool(args: &[&str]) -> (bool, String) {
    let run = Command::new("promtool").args(args).current_dir(deployed("prometheus")).output();
    let done = run.expect("promtool is missing: run tests/prometheus/install");
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn keep(folder: &Path, port: u16) -> Child {
    let mut version = Command::new("prometheus");
    let version = version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    assert!(version.status().is_ok(), "Prometheus is missing: run tests/prometheus/install");
    let mut keeper = Command::new("/bin/sh");
    keeper.args(["-c", KEEPER, "keeper"]).arg(folder).arg(port.to_string());
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
