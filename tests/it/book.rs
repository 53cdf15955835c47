//! Runs what the pages of docs/ and the README tell a reader to run: every `sh` block, by a shell, with
//! the built binary, against a service with keys. `tutorial.rs` also compares what the tutorial prints.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::app;
use crate::binary::{self, Served, command, program, text};

/// Blocks that no test can run as they stand, and where else they are run.
const ELSEWHERE: &[(&str, &str)] = &[
    // The two commands of the first screen: this is the second, and the first is what it tests.
    ("README.md", "cargo run --release"),
    ("README.md", "scripts/test"),
    // `opa` as a program is not among Debian's or PyPI's packages; tests/it/opa.rs asks its library.
    ("docs/policy-tools.md", "opa eval"),
    // It wants hundreds of labelled texts; tests/it/quality.rs makes them.
    ("docs/built-in.md", "detectors calibrate"),
    // No engine, cluster or manager of units is here, and no `opa`: tests/it/deploy.rs holds what is
    // applied to its schemas, tests/it/remote.rs signs by OPA's library.
    ("docs/running.md", "docker compose"),
    ("docs/running.md", "kubectl"),
    ("docs/running.md", "systemctl"),
    ("docs/running.md", "opa build"),
    // tests/it/deploy.rs runs this line beside a service with the unit's variables.
    ("docs/running.md", "env $(grep"),
    // It does not end; tests/it/events.rs listens.
    ("docs/events.md", "events/stream"),
    // tests/it/signing.rs runs these lines: they need a tenant with a secret.
    ("docs/credentials.md", "openssl dgst -sha256"),
];

/// What a page calls things that a test has under other names: `(page, said, meant)`.
const NAMES: &[(&str, &str, &str)] = &[
    ("", "http://127.0.0.1:8000", "$URL"),
    ("", "https://host/", "$URL/"),
    ("docs/credentials.md", "orch_1a2b3c4d5e6f", "$PREFIX"),
    ("docs/deployment.md", "postgres://owner@db/orchestrator", "$DATABASE"),
];

const POST: &str = "curl -s $URL/api/v1/orchestrate -H 'Content-Type: application/json' -d @-";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The README and every page of docs/, but the tutorial and what says what others saw.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name != "tutorial.md" {
            pages.push(format!("docs/{name}"));
        }
    }
    pages.sort();
    pages
}

/// Its `sh` blocks, with the line each begins at; a `json request` is a block that posts it.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let written = std::fs::read_to_string(root().join(page)).unwrap();
    let (mut blocks, mut lines) = (Vec::new(), written.lines().enumerate());
    while let Some((at, line)) = lines.next() {
        let Some(kind) = line.trim_start().strip_prefix("```") else { continue };
        let inside = lines.by_ref().map(|(_, line)| line);
        let inside: Vec<&str> = inside.take_while(|line| line.trim() != "```").collect();
        let inside = inside.join("\n");
        match kind {
            "sh" => blocks.push((at + 1, inside)),
            "json request" => {
                blocks.push((at + 1, format!("{POST} <<'REQUEST'\n{inside}\nREQUEST")))
            }
            _ => {}
        }
    }
    blocks
}

/// A project whose service knows the names that pages use, and has judged one text.
struct World {
    dir: tempfile::TempDir,
    served: Served,
    env: Vec<(&'static str, String)>,
    _database: Option<crate::postgres::Server>,
}

/// One more key that may do everything.
fn key(project: &Path) -> String {
    let create =
        ["keys", "create", "--role", "super_admin", "--label", "book", "--reason", "a test"];
    let made = binary::run(project, &create);
    let printed = text(&made.stdout) + &text(&made.stderr);
    let key = regex::Regex::new("orch_[0-9a-z]+_[0-9A-Za-z]+").unwrap();
    key.find(&printed).unwrap_or_else(|| panic!("{printed}")).as_str().to_owned()
}

async fn world(page: &str) -> World {
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let tenant = "schema_version: 1\nid: acme\ntier: unlimited\n";
    app::write(dir.path(), "config/tenants/acme.yaml", tenant);
    let vendor = "name: vendor\nprotocol: native\nendpoint: https://detect.example/analyze\n\
                  categories: [toxicity]\n";
    app::write(dir.path(), "detectors/vendor.yaml", vendor);
    let (key, other) = (key(dir.path()), key(dir.path()));
    let prefix = other.rsplit_once('_').unwrap().0.to_owned();
    let mut serve = command(dir.path());
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    serve.env("ORCHESTRATION_SECURITY__OUTBOUND_ALLOW", "[\"detect.example\"]");
    let mut served = Served::start(serve);
    served.discard_output();
    let url = format!("http://{}", served.address);
    let headers =
        [("content-type", "application/json"), ("x-api-key", &*key), ("x-tenant-id", "acme")];
    let body = json!({"content": "Mail ana@evil.io", "include": ["evidence"]}).to_string();
    let at = format!("{url}/api/v1/orchestrate");
    let answer = app::send(&app::client(), ("POST", &at), &headers, body.as_bytes()).await;
    let judged: Value = answer.json();
    let id = judged["evidence"]["id"].as_str().unwrap_or_else(|| panic!("{judged}")).to_owned();
    // A standard record is durable a moment after its answer.
    let record = format!("{url}/api/v1/evidence/{id}");
    let begun = std::time::Instant::now();
    while app::send(&app::client(), ("GET", &record), &headers, b"").await.status != 200 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "never recorded");
        tokio::task::yield_now().await;
    }
    let database = (page == "docs/deployment.md").then(crate::postgres::Server::start);
    let env = vec![
        ("URL", url),
        ("KEY", key),
        ("PREFIX", prefix),
        ("ID", id),
        ("TOKEN", "a-token-of-a-test".to_owned()),
        ("DATABASE", database.as_ref().map_or(String::new(), |server| server.database())),
    ];
    World { dir, served, env, _database: database }
}

impl World {
    fn run(&self, script: &str) -> std::process::Output {
        // Any answer but 2xx ends a block.
        app::write(self.dir.path(), ".curlrc", "fail-with-body\n");
        let own = Path::new(env!("CARGO_BIN_EXE_orchestrator")).parent().unwrap();
        let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap());
        let mut shell: Command = program("sh", self.dir.path());
        shell.args(["-e", "-c", script]).env("PATH", path).env("CURL_HOME", self.dir.path());
        shell.envs(self.env.iter().map(|(name, value)| (name, value)));
        shell.output().unwrap()
    }
}

#[tokio::test]
async fn every_command_of_the_book_does_what_it_says() {
    let (mut run, mut elsewhere) = (0, vec![false; ELSEWHERE.len()]);
    for page in pages() {
        let blocks = blocks(&page);
        if blocks.is_empty() {
            continue;
        }
        let world = world(&page).await;
        for (line, block) in blocks {
            let known = ELSEWHERE.iter().position(|(of, part)| *of == page && block.contains(part));
            if let Some(at) = known {
                elsewhere[at] = true;
                continue;
            }
            let mut script = block.clone();
            for (of, said, meant) in NAMES {
                if of.is_empty() || *of == page {
                    script = script.replace(said, meant);
                }
            }
            let output = world.run(&script);
            let printed = text(&output.stdout) + &text(&output.stderr);
            assert!(output.status.success(), "{page}:{line}\n{script}\nprints\n{printed}");
            run += 1;
        }
        assert_eq!(world.served.stop().0, Some(0), "{page}");
    }
    println!("{run} blocks");
    assert!(run >= 12, "{run} blocks only");
    assert!(elsewhere.iter().all(|met| *met), "no page holds one of ELSEWHERE: take it out");
}
