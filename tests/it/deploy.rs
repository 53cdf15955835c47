//! What stands in deploy/ and docker-compose.prod.yml: sound by the schemas of those who read it, and
//! with no variable that this program does not know.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use crate::app;
use crate::binary::{Served, command, run, shell, text};
use crate::postgres::Server;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Variables by part.
fn variables() -> BTreeMap<String, BTreeMap<String, String>> {
    let home = repository().join("target/deploy");
    let wanted = std::fs::read(repository().join("tests/deploy/requirements.lock")).unwrap();
    if std::fs::read(home.join("lock")).ok() != Some(wanted) {
        let missing = std::fs::read_to_string(home.join("missing"));
        panic!(
            "nothing to check with: {}",
            missing.as_deref().map_or("run tests/deploy/install", str::trim)
        );
    }
    let done = python("tests/deploy/check.py", &[]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn python(script: &str, args: &[&str]) -> Output {
    Command::new("python3").current_dir(repository()).arg(script).args(args).output().unwrap()
}

/// The secrets as `deploy/secrets` makes them, and the schema as roles.sql and `migrate` leave it, in
/// a database of `server`.
fn secrets(server: &Server) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new(repository().join("deploy/secrets")).arg(dir.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let again = Command::new(repository().join("deploy/secrets")).arg(dir.path()).output().unwrap();
    assert!(again.status.success(), "what is there stays: {again:?}");
    let owner = server.database();
    let name = owner.rsplit('/').next().unwrap();
    let roles = std::fs::read_to_string(repository().join("deploy/postgres/roles.sql")).unwrap();
    let roles = roles.replace(":'password'", "'of the test'").replace(":\"database\"", name);
    server.sql(name, &roles);
    server.sql(name, &roles);
    // Overwritten are addresses alone: the test's server is elsewhere.
    let put = |file: &str, url: String| std::fs::write(dir.path().join(file), url).unwrap();
    put("database_url", server.url("orchestrator", name));
    put("database_owner_url", owner);
    dir
}

#[test]
fn manifests_and_compose_are_sound_and_the_program_knows_every_variable() {
    let server = Server::start();
    let secrets = secrets(&server);
    let parts = variables();
    let mut asked = 0;
    // Whoever migrates comes first.
    let mut names: Vec<&String> = parts.keys().collect();
    names.sort_by_key(|name| !name.contains("migrate"));
    for name in names {
        let ours = |(variable, _): &(&String, &String)| variable.starts_with("ORCHESTRATION_");
        let own: Vec<_> = parts[name].iter().filter(ours).collect();
        if own.is_empty() {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut run = command(dir.path());
        run.arg(if name.contains("migrate") { "migrate" } else { "check" });
        for (variable, value) in own {
            let file = value.rsplit('/').next().unwrap().replace('-', "_");
            let value = match variable.ends_with("_FILE") {
                true => secrets.path().join(file).display().to_string(),
                false => value.replace("%S", &dir.path().display().to_string()),
            };
            run.env(variable, value);
        }
        let done = run.output().unwrap();
        let said = text(&done.stdout) + &text(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{name}: {said}");
        asked += 1;
    }
    assert!(asked >= 6, "{asked} parts have variables");
}

#[test]
fn the_config_maps_hold_the_shipped_policies_and_detectors() {
    let done = python("deploy/kubernetes/files", &["--check"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
}

#[test]
fn the_systemd_unit_is_sound_and_exposes_little() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("systemd-analyze is not here: the unit is not looked at");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let unit = std::fs::read_to_string(repository().join("deploy/systemd/orchestrator.service"));
    let unit =
        unit.unwrap().replace("/usr/local/bin/orchestrator", env!("CARGO_BIN_EXE_orchestrator"));
    let file = dir.path().join("orchestrator.service");
    std::fs::write(&file, unit).unwrap();
    let analyze = |args: &[&str]| {
        let done = Command::new("systemd-analyze").args(args).arg(&file).output().unwrap();
        let said = text(&done.stdout) + &text(&done.stderr);
        assert!(done.status.success(), "{args:?}: {said}");
        said
    };
    let said = analyze(&["verify"]);
    assert!(!said.contains("orchestrator.service"), "{said}");
    // 0 to 100; a unit that says nothing has 96.
    analyze(&["security", "--offline=true", "--threshold=15"]);
}

#[tokio::test]
async fn a_command_beside_the_unit_works_on_the_store_of_the_service() {
    let (dir, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = away.path().join("orchestrator");
    let made = run(dir.path(), &["init", "."]);
    assert!(made.status.success(), "{made:?}");
    let env =
        std::fs::read_to_string(repository().join("deploy/systemd/orchestrator.env")).unwrap();
    let env = env.replace("/var/lib/orchestrator", &data.display().to_string());
    std::fs::write(dir.path().join("orchestrator.env"), &env).unwrap();
    std::fs::create_dir(dir.path().join("secrets")).unwrap();
    std::fs::write(dir.path().join("secrets/key-pepper"), "5a".repeat(32)).unwrap();

    let mut serve = command(dir.path());
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    let ours = env.lines().filter(|line| line.starts_with("ORCHESTRATION_"));
    serve.envs(ours.filter_map(|line| line.split_once('=')));
    serve.env("ORCHESTRATION_KEY_PEPPER_FILE", "secrets/key-pepper");
    serve.env("ORCHESTRATION_BOOTSTRAP_KEY", format!("orch_0123456789ab_{}", "0".repeat(32)));
    let served = Served::start(serve);

    let page = std::fs::read_to_string(repository().join("docs/running.md")).unwrap();
    let line = page.split("```").find(|block| block.contains("orchestrator keys create")).unwrap();
    let line = line.trim_start_matches("sh\n");
    let line = line.replace("/etc/orchestrator", &dir.path().display().to_string());
    let made = shell(dir.path(), &line);
    assert!(made.status.success(), "{made:?}");
    assert!(!text(&made.stderr).contains("note:"), "{made:?}");
    assert!(!dir.path().join("data").exists(), "it made a store of its own");
    let key = text(&made.stdout).trim().to_owned();
    let at = format!("http://{}/api/v1/orchestrate", served.address);
    let headers = [("content-type", "application/json"), ("x-api-key", key.as_str())];
    let answer = app::send(&app::client(), ("POST", &at), &headers, br#"{"content": "x"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}
