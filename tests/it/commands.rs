//! The commands as a user types them: output and exit codes.

use crate::app::{edit, write};
use crate::binary::{Served, command, run, run_with, text};
use crate::instances::free;

#[test]
fn scan_judges_files_and_standard_input_in_an_empty_folder() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "clean.txt", "The meeting is on Tuesday.");
    write(dir.path(), "mail.txt", "first line\nMail ana@evil.io");
    let clean = run(dir.path(), &["scan", "clean.txt"]);
    assert_eq!(
        (clean.status.code(), text(&clean.stdout).as_str()),
        (Some(0), "clean.txt: allow\n")
    );
    let both = run(dir.path(), &["scan", "clean.txt", "mail.txt"]);
    assert_eq!(both.status.code(), Some(10));
    let told = text(&both.stdout);
    assert!(told.contains("mail.txt: redact  e-mail address redacted\n  2:6"), "{told}");
    let redacted = run_with(dir.path(), &["scan", "-", "--redact"], "Mail ana@evil.io");
    assert_eq!(text(&redacted.stdout), "Mail [EMAIL]\n");
    let blocked = run(dir.path(), &["scan", "--tenant", "acme", "--json", "mail.txt"]);
    assert_eq!(blocked.status.code(), Some(10));
    let value: serde_json::Value = serde_json::from_slice(&blocked.stdout).unwrap();
    assert_eq!(
        (value["file"].as_str(), value["action"].as_str()),
        (Some("mail.txt"), Some("redact"))
    );
    let key = run_with(dir.path(), &["scan", "--tenant", "acme", "-"], "key AKIAZ3VQ7JRTLWXK5P2D");
    assert_eq!(key.status.code(), Some(20), "{}", text(&key.stdout));
    let missing = run(dir.path(), &["scan", "clean.txt", "nope.txt"]);
    assert_eq!(missing.status.code(), Some(66));
    assert!(
        text(&missing.stderr).contains("nope.txt: could not be read"),
        "{}",
        text(&missing.stderr)
    );
    std::fs::write(dir.path().join("binary"), [0xff, 0xfe, 0]).unwrap();
    let binary = run(dir.path(), &["scan", "binary"]);
    assert_eq!(binary.status.code(), Some(66));
    assert!(text(&binary.stderr).contains("no UTF-8"), "{}", text(&binary.stderr));
}

#[test]
fn every_sample_is_judged_as_its_list_says() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), &["init"]).status.code(), Some(0));
    let list = std::fs::read_to_string(dir.path().join("samples/README.md")).unwrap();
    let rows: Vec<(&str, &str)> = list
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let (file, _, action) = (cells.next()?, cells.next()?, cells.next()?);
            file.contains('.').then(|| (file, action.split([',', ' ']).next().unwrap()))
        })
        .collect();
    assert!(rows.len() >= 12, "{rows:?}");
    // What they say counts here, not how long this slower program takes on a busy machine.
    for file in std::fs::read_dir(dir.path().join("detectors")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}timeout: 5m\n")).unwrap();
    }
    for (file, action) in rows {
        let path = format!("samples/{file}");
        let mut scan = command(dir.path());
        scan.env("ORCHESTRATION_ORCHESTRATION__SLA__NORMAL_MS", "300000");
        scan.env("ORCHESTRATION_POLICY__EVAL_TIMEOUT", "5s");
        let output = scan.args(["scan", "--json", &path]).output().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["action"], action, "{file}: {value:#}");
    }
}

#[test]
fn init_makes_a_project_that_check_finds_sound_until_it_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let init = run(dir.path(), &["init", "p"]);
    assert_eq!(init.status.code(), Some(0), "{}", text(&init.stderr));
    assert_eq!(run(dir.path(), &["init", "p"]).status.code(), Some(65), "it never overwrites");
    let sound = run(dir.path(), &["check", "p"]);
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound.stdout));
    assert!(text(&sound.stdout).starts_with("sound: "), "{}", text(&sound.stdout));
    let root = dir.path().join("p");
    edit(&root, "policies/standard/data.yaml", "secrets: redact", "secrets: explode");
    write(&root, "detectors/bad.yaml", "name: bad\nprotocol: nativ\ncategories: [toxicity]\n");
    let broken = run(dir.path(), &["check", "p", "--json"]);
    assert_eq!(broken.status.code(), Some(65));
    let faults: Vec<serde_json::Value> =
        text(&broken.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!faults.is_empty());
    for fault in &faults {
        assert!(fault["line"].as_u64().unwrap() > 0, "{fault:#}");
        assert!(fault["hint"].is_string(), "{fault:#}");
    }
}

#[test]
fn check_refuses_what_is_no_project_and_what_hangs() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), &["check", "nodir"]).status.code(), Some(66));
    assert_eq!(run(dir.path(), &["init", "p"]).status.code(), Some(0));
    let table = dir.path().join("p/policies/standard/data.yaml");
    std::fs::remove_file(&table).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&table).status().unwrap().success());
    let hung = run(dir.path(), &["check", "p"]);
    assert_eq!(hung.status.code(), Some(65));
    assert!(text(&hung.stdout).contains("neither a file nor a folder"), "{}", text(&hung.stdout));
    let named = command(dir.path())
        .args(["check"])
        .env("ORCHESTRATION_PATHS__POLICIES", "nope")
        .output()
        .unwrap();
    assert_eq!(named.status.code(), Some(65), "a named folder must exist");
}

#[test]
fn wrong_use_is_told_apart_from_wrong_data() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), &["--nonsense"]).status.code(), Some(64));
    assert_eq!(run(dir.path(), &["scan"]).status.code(), Some(64));
    assert_eq!(run(dir.path(), &["--help"]).status.code(), Some(0));
    let spelt = command(dir.path()).env("ORCHESTRATION_SERVER__LISTN", "x").output().unwrap();
    assert_eq!(spelt.status.code(), Some(65));
    assert!(
        text(&spelt.stderr).contains("did you mean ORCHESTRATION_SERVER__LISTEN?"),
        "{}",
        text(&spelt.stderr)
    );
    let production = command(dir.path()).env("ORCHESTRATION_ENV", "production").output().unwrap();
    assert_ne!(production.status.code(), Some(0));
    let openapi = run(dir.path(), &["openapi"]);
    let document: serde_json::Value = serde_json::from_slice(&openapi.stdout).unwrap();
    assert!(document["paths"]["/api/v1/orchestrate"].is_object());
}

#[test]
fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = command(dir.path());
    start.args(["--listen", "127.0.0.1:0"]);
    let served = Served::start(start);
    let second = run(dir.path(), &["--listen", &served.address]);
    assert_eq!(second.status.code(), Some(69));
    let told = text(&second.stderr);
    assert!(told.contains(&served.address) && told.contains("--listen"), "{told}");
}

#[test]
fn detectors_can_be_listed_and_probed() {
    let dir = tempfile::tempdir().unwrap();
    let list = run(dir.path(), &["detectors", "list", "--json"]);
    assert_eq!(text(&list.stdout).lines().count(), 10, "{}", text(&list.stdout));
    let probe = run(dir.path(), &["detectors", "probe", "pii"]);
    assert_eq!(probe.status.code(), Some(0));
    assert!(text(&probe.stdout).contains("pii.email"), "{}", text(&probe.stdout));
    let unknown = run(dir.path(), &["detectors", "probe", "pi"]);
    assert_eq!(unknown.status.code(), Some(66));
    assert!(text(&unknown.stderr).contains("there are: "), "{}", text(&unknown.stderr));
    write(
        dir.path(),
        "detectors/dead.yaml",
        "name: dead\nprotocol: native\nendpoint: http://127.0.0.1:9/\ncategories: [toxicity]\ntimeout: 200ms\n",
    );
    let dead = run(dir.path(), &["detectors", "probe", "dead"]);
    assert_eq!(dead.status.code(), Some(69), "{}", text(&dead.stdout));
}

#[test]
fn health_says_whether_the_service_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = command(dir.path());
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    let served = Served::start(serve);
    let address = served.address.clone();
    let ready = run(dir.path(), &["health", "--listen", &address]);
    assert_eq!(ready.status.code(), Some(0), "{}", text(&ready.stderr));
    served.stop();
    let gone = run(dir.path(), &["health", "--listen", &address]);
    assert_eq!(gone.status.code(), Some(69), "{}", text(&gone.stderr));
    assert!(text(&gone.stderr).contains(&address), "{}", text(&gone.stderr));
}

#[test]
fn check_refuses_what_would_keep_the_service_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let told = |args: &[&str]| {
        let mut command = command(dir.path());
        command.args(args).env("ORCHESTRATION_SECURITY__TRUSTED_PROXIES", "[10.0.0.0/40]");
        command.env("ORCHESTRATION_BOOTSTRAP_KEY", "orch_x");
        command.env("ORCHESTRATION_SECURITY__JWT__JWKS_FILE", "nope.json");
        let output = command.output().unwrap();
        (output.status.code(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
    };
    for (args, code) in [(&["check"][..], 65), (&["serve", "--listen", "127.0.0.1:0"], 64)] {
        let (status, said) = told(args);
        assert_eq!(status, Some(code), "{said}");
        for fault in ["`10.0.0.0/40` is no address", "has no key's form", "jwks_file nope.json"] {
            assert!(said.contains(fault), "{args:?}: {fault}: {said}");
        }
    }
    // Files are looked at too, and nothing is said to stand on line 0.
    write(dir.path(), "config/tenants/acme.yaml", "schema_version: 1\nid: acme\nteir: x\n");
    let (status, said) = told(&["check"]);
    assert_eq!(status, Some(65), "{said}");
    assert!(said.contains("acme.yaml:3:1: unknown_key") && !said.contains(":0:0"), "{said}");
    assert!(said.contains("settings: refused_start: security.jwt.jwks_file"), "{said}");
}

#[test]
fn tenants_that_are_missing_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "config/tenants/acme.yaml", "schema_version: 1\nid: acme\n");
    let check = run(dir.path(), &["check"]);
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
    assert!(
        text(&check.stdout).contains("there is no tenant `default`"),
        "{}",
        text(&check.stdout)
    );
    for (tenant, warned) in [("acme", false), ("acne", true)] {
        let asked = ["keys", "create", "--role", "app", "--label", "a", "--reason", "a"];
        let made = run(dir.path(), &[&asked[..], &["--tenant", tenant]].concat());
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        let said = text(&made.stderr).contains("warning: there is no tenant `acne`");
        assert_eq!(said, warned, "{}", text(&made.stderr));
        assert_eq!(text(&made.stdout).lines().count(), 1, "the secret alone");
    }
    write(dir.path(), "config/tenants/broken.yaml", "id: [");
    let asked = ["keys", "create", "--role", "app", "--label", "a", "--reason", "a"];
    let made = run(dir.path(), &[&asked[..], &["--tenant", "acne"]].concat());
    let said = text(&made.stderr);
    assert_eq!(made.status.code(), Some(0), "{said}");
    assert!(said.contains("warning: whether there is a tenant `acne` cannot be told"), "{said}");
}

#[test]
fn check_and_a_start_refuse_the_same_settings() {
    let dir = tempfile::tempdir().unwrap();
    let of = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = command(dir.path());
        command.args(args);
        for (name, value) in variables {
            command.env(format!("ORCHESTRATION_{name}"), value);
        }
        let output = command.output().unwrap();
        (output.status.code(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
    };
    let hex = "0a".repeat(32);
    let (free, key) = (("SERVER__LISTEN", "127.0.0.1:0"), ("DATA_KEY", hex.as_str()));
    for (variables, expected) in [
        (&[("ENV", "production")][..], "production needs credentials and has none"),
        (&[("REDIS_URL", "redis://127.0.0.1:1")], "needs ORCHESTRATION_DATA_KEY, the same"),
        (
            &[("DATABASE_URL", "postgres://u:p@127.0.0.1:1/x")],
            "ORCHESTRATION_DATA_KEY and ORCHESTRATION_KEY_PEPPER and ORCHESTRATION_EVIDENCE_KEY",
        ),
        (
            &[key, ("REDIS_URL", "rediss://127.0.0.1:1"), ("REDIS__CA_FILE", "nope.pem")],
            "reading redis.ca_file `nope.pem`",
        ),
        (
            &[("NATS_URL", "tls://127.0.0.1:1"), ("NATS__CA_FILE", "nope.pem")],
            "reading nats.ca_file `nope.pem`",
        ),
    ] {
        let variables = [&[free], variables].concat();
        let (status, said) = of(&["check"], &variables);
        assert!(said.contains(expected), "{said}");
        assert_eq!(status, Some(65), "{said}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "check made something");
        let (status, said) = of(&["serve"], &variables);
        assert!(said.contains(expected), "{said}");
        assert_eq!(status, Some(64), "{said}");
        let _ = std::fs::remove_dir_all(dir.path().join("data"));
    }
    let twice = [("SERVER__LISTEN", "127.0.0.1:9"), ("SERVER__ADMIN_LISTEN", "127.0.0.1:9")];
    for command in ["check", "serve"] {
        let (status, said) = of(&[command], &twice);
        assert!(said.contains("127.0.0.1:9 is taken by `listen`"), "{said}");
        assert_eq!(status, Some(65), "{said}");
    }
    // A key in the store is a credential.
    let admin = ["--role", "super_admin", "--label", "first", "--reason", "a test"];
    let made = run(dir.path(), &[&["keys", "create"][..], &admin].concat());
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let (status, said) = of(&["check"], &[("ENV", "production")]);
    assert_eq!(status, Some(0), "{said}");
}

#[test]
fn the_address_of_the_command_line_is_the_one_that_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (admin, any) = (free(), "127.0.0.1:0");
    let over = |listen: &str, args: &[&str]| {
        let mut command = command(dir.path());
        command.args(args).env("ORCHESTRATION_SERVER__LISTEN", listen);
        command.env("ORCHESTRATION_SERVER__ADMIN_LISTEN", &admin);
        command
    };
    for name in ["check", "serve", "health"] {
        let output = over(any, &[name, "--listen", &admin]).output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(said.contains(&format!("is taken by `listen` {admin}")), "{name}: {said}");
        assert_eq!(output.status.code(), Some(65), "{name}: {said}");
    }
    let check = over(&admin, &["check", "--listen", any]).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
    Served::start(over(&admin, &["serve", "--listen", any])).stop();
}

#[test]
fn a_new_store_is_told_and_no_second_pepper_is_made_beside_keys() {
    let dir = tempfile::tempdir().unwrap();
    let pepper = "5a".repeat(32);
    let create = |pepper: Option<&str>| {
        let mut command = command(dir.path());
        command.args(["keys", "create", "--role", "super_admin", "--label", "a", "--reason", "a"]);
        if let Some(pepper) = pepper {
            command.env("ORCHESTRATION_KEY_PEPPER", pepper);
        }
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (status, said) = create(Some(&pepper));
    assert_eq!(status, Some(0), "{said}");
    let place = dir.path().join("data").display().to_string();
    assert!(said.contains(&format!("note: made a new store in {place}")), "{said}");
    let (status, said) = create(None);
    assert_eq!(status, Some(64), "{said}");
    assert!(said.contains("give ORCHESTRATION_KEY_PEPPER"), "{said}");
    assert!(!dir.path().join("data/keys/pepper").exists());
    let (status, said) = create(Some(&pepper));
    assert_eq!((status, said.contains("note:")), (Some(0), false), "{said}");
    let listed = run(dir.path(), &["keys", "list"]);
    assert_eq!(text(&listed.stdout).lines().count(), 2, "{}", text(&listed.stderr));
    assert!(!dir.path().join("data/keys/pepper").exists(), "a list hashes nothing");
}
