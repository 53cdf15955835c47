//! What authors of policies are given: the commands as they type them, and the messages of the
//! corpus of broken policies.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use detector_orchestrator::domain::category::Category;
use detector_orchestrator::domain::id::{BundleName, DetectorName, TenantId};
use detector_orchestrator::policy::{Limits, Policies, Source, TenantScope, lint, testing};
use detector_orchestrator::yaml::fault::{Fault, FaultKind};
use serde::Deserialize;

use crate::app::{edit, write};
use crate::binary::{command, run, run_with, text};

/// What a broken policy must be told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    file: String,
    line: u32,
    column: u32,
    code: String,
    token: String,
    hint: String,
}

/// First words of hints: each tells what to do.
const IMPERATIVES: [&str; 17] = [
    "bind", "bound", "break", "close", "copy", "correct", "give", "indent", "make", "name", "pass",
    "put", "read", "remove", "rename", "use", "write",
];

fn files(root: &Path) -> Vec<(String, PathBuf)> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    found.push((name, path));
                }
            }
        }
    }
    found
}

/// The shipped policies with these laid over them.
fn sources(over: &Path) -> Vec<Source> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut all: std::collections::BTreeMap<String, PathBuf> =
        files(&shipped).into_iter().collect();
    all.extend(files(over));
    let read = |(path, file)| Source { path, bytes: std::fs::read(file).unwrap().into() };
    all.into_iter().map(read).collect()
}

fn faults(sources: &[Source]) -> Vec<Fault> {
    let bundles = || ["standard", "strict"].map(|name| BundleName::parse(name).unwrap()).into();
    let tenants = ["default", "acme", "globex"]
        .map(|id| TenantScope { id: TenantId::parse(id).unwrap(), bundles: bundles() });
    let limits = Limits::default();
    let loaded = match Policies::load(sources, &tenants, &limits, None) {
        Err(faults) => return faults,
        Ok(loaded) => loaded,
    };
    let of = |name| [Category::parse(name).unwrap()].into();
    let votes = [
        ("pii", of("pii")),
        ("secrets", of("secrets")),
        ("prompt-injection", of("injection")),
        ("toxicity", of("toxicity")),
    ]
    .map(|(name, votes)| (DetectorName::parse(name).unwrap(), votes))
    .into();
    let detectors = lint::Voters { votes, ..lint::Voters::default() };
    let mut found: BTreeSet<Fault> = loaded.warnings.into_iter().collect();
    found.extend(testing::run(sources, &|_, _| true, &limits).err().into_iter().flatten());
    if found.is_empty() {
        found.extend(lint::lint(sources, &detectors, &limits));
    }
    found.into_iter().collect()
}

#[test]
fn every_broken_policy_is_told_where_what_and_what_to_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 30, "{} policies", folders.len());
    let mut wrong = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(folder.join("expected.yaml")).unwrap();
        let expected: Expected =
            detector_orchestrator::yaml::parse(FaultKind::Policy, name, &text).unwrap();
        let found = faults(&sources(&folder.join("policies")));
        let [fault] = found.as_slice() else {
            wrong.push(format!("{name}: {} faults: {found:#?}", found.len()));
            continue;
        };
        let hint = fault.hint.as_deref().unwrap_or_default();
        let place = (fault.file.as_str(), fault.line, fault.column, fault.code, hint);
        let Expected { file, line, column, code, token, hint: told } = &expected;
        let first = hint.split(' ').next().unwrap();
        if place != (file.as_str(), *line, *column, code.as_str(), told.as_str())
            || *line == 0
            || *column == 0
            || !fault.message.contains(token.as_str())
            || !IMPERATIVES.contains(&first)
        {
            wrong.push(format!("{name}: {fault}\n  instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), &["init"]).status.code(), Some(0));
    dir
}

#[track_caller]
fn ends(output: &Output, code: i32) -> String {
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{error}");
    out + &error
}

#[test]
fn a_new_policy_passes_test_check_and_lint_at_once_and_is_never_written_over() {
    for arguments in [
        &["policy", "new", "demo"][..],
        &["policy", "new", "demo", "--tenant", "acme"],
        &["policy", "new", "standard", "--tenant", "new-one"],
        &["policy", "new", "data_2", "--tenant", "new-one"],
    ] {
        let dir = project();
        let told = ends(&run(dir.path(), arguments), 0);
        for path in told.lines().filter(|line| line.contains('/')) {
            assert!(dir.path().join(path.trim_end_matches(" (changed)")).is_file(), "{path}");
        }
        ends(&run(dir.path(), &["check"]), 0);
        let tested = ends(&run(dir.path(), &["policy", "test", "--threshold", "0.8"]), 0);
        assert!(tested.contains(" 0 failed, 0 errors"), "{tested}");
        assert_eq!(ends(&run(dir.path(), &["policy", "lint"]), 0), "0 faults, 0 warnings\n");
        ends(&run(dir.path(), arguments), 65);
    }
    let empty = tempfile::tempdir().unwrap();
    let told = ends(&run(empty.path(), &["policy", "new", "demo"]), 66);
    assert!(told.contains("orchestrator init"), "{told}");
    ends(&run(project().path(), &["policy", "new", "Data"]), 64);
}

#[test]
fn a_tenants_list_of_policies_grows_however_it_is_written() {
    let dir = project();
    let file = "config/tenants/acme.yaml";
    for list in ["policies:\n  - standard # first\n  - strict\n", "policies: [standard]\n", ""] {
        let head = "schema_version: 1\nid: acme\ntier: starter\n";
        write(dir.path(), file, &format!("{head}{list}labels: {{a: b}}\n"));
        let _ = std::fs::remove_dir_all(dir.path().join("policies/demo"));
        let _ = std::fs::remove_dir_all(dir.path().join("policies/tenants/acme/demo"));
        ends(&run(dir.path(), &["policy", "new", "demo", "--tenant", "acme"]), 0);
        ends(&run(dir.path(), &["check"]), 0);
        let next = std::fs::read_to_string(dir.path().join(file)).unwrap();
        assert!(next.contains("demo") && next.contains("labels: {a: b}"), "{next}");
    }
}

#[test]
fn a_failing_test_shows_its_values_in_every_format_and_ends_in_1() {
    let dir = project();
    ends(&run(dir.path(), &["policy", "new", "demo"]), 0);
    let tests = "policies/demo/verdict_test.rego";
    edit(dir.path(), tests, "\"tool_result\"}", "\"input\"}");
    let told = ends(&run(dir.path(), &["policy", "test", "policies/demo"]), 1);
    assert!(told.contains("FAIL  test_a_secret_in_a_tools_result_is_reviewed"), "{told}");
    assert!(
        told.contains(&format!("{tests}:12:2: does not hold: demo.review == wanted")),
        "{told}"
    );
    assert!(told.contains("          demo.review = []\n"), "{told}");
    assert!(told.contains("3 passed, 1 failed"), "{told}");
    let one = ["policy", "test", "--filter", "left_to_the_table$"];
    assert!(ends(&run(dir.path(), &one), 0).contains("1 passed, 0 failed"));
    ends(&run(dir.path(), &["policy", "test", "--filter", "nothing_like_it"]), 66);
    let junit = ends(&run(dir.path(), &["policy", "test", "--format", "junit", "demo"]), 1);
    assert!(junit.contains("failures=\"1\"") && junit.contains("demo.review = []"), "{junit}");
    let lcov = ends(&run(dir.path(), &["policy", "test", "--format", "lcov", "demo"]), 1);
    assert!(lcov.contains("SF:policies/demo/verdict.rego\nDA:"), "{lcov}");
    let json = run(dir.path(), &["policy", "test", "--format", "json", "--coverage", "demo"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&value["failed"], &value["passed"]), (&1.into(), &3.into()), "{value:#}");
    assert!(value["coverage"]["share"].as_f64().unwrap() > 0.5, "{value:#}");
    edit(dir.path(), "policies/demo/demo_cases.yaml", "action: redact", "action: allow");
    let case = ends(&run(dir.path(), &["policy", "test", "policies/demo/demo_cases.yaml"]), 1);
    assert!(case.contains("expected allow, got redact (pii.email)"), "{case}");
}

#[test]
fn a_suite_over_its_budget_ends_in_1_and_names_the_test_that_ran() {
    let dir = project();
    let slow = |name: &str| {
        format!(
            "{name} if {{\n\tsome i in numbers.range(1, 5000)\n\tsome j in numbers.range(1, 5000)\n\t\
             i + j < 0\n}}\n"
        )
    };
    let tests: String = (1..9).map(|n| slow(&format!("test_slow_{n}"))).collect();
    let text = format!("package standard_test\n\n{tests}");
    write(dir.path(), "policies/standard/slow_test.rego", &text);
    let told = ends(&run(dir.path(), &["policy", "test", "--budget", "2", "--filter", "slow"]), 1);
    assert!(told.contains("the tests did not end within 2 s: `test_slow_"), "{told}");
    let file = "of policies/standard/slow_test.rego was running";
    assert!(told.contains(file) && told.contains("raise --budget"), "{told}");
    assert!(!told.contains("test_slow_8"), "{told}");
    let help = ends(&run(dir.path(), &["policy", "test", "--help"]), 0);
    assert!(help.contains("--budget <SECONDS>") && help.contains("[default: 60]"), "{help}");
}

#[test]
fn a_case_may_expect_a_denial() {
    let dir = project();
    let rules = "package standard\n\ndeny contains \"no code\" if input.request.type == \"code\"\n";
    write(dir.path(), "policies/standard/deny.rego", rules);
    let case = |expect: &str| {
        format!("- name: d\n  request: {{content: x, type: code}}\n  expect: {{{expect}}}\n")
    };
    let test = ["policy", "test", "policies/standard/d_cases.yaml"];
    write(dir.path(), "policies/standard/d_cases.yaml", &case("denied: true"));
    ends(&run(dir.path(), &test), 0);
    write(dir.path(), "policies/standard/d_cases.yaml", &case("action: allow"));
    let told = ends(&run(dir.path(), &test), 1);
    assert!(told.contains("expected allow, got a denial: no code"), "{told}");
}

#[test]
fn coverage_below_its_threshold_ends_in_1_and_names_the_missed_lines() {
    let dir = project();
    let rules = "package tenants.acme.standard\n\nreview contains \"x\" if {\n\tinput.request.type == \"image\"\n\tinput.env == \"staging\"\n}\n";
    write(dir.path(), "policies/tenants/acme/standard/more.rego", rules);
    let args = ["policy", "test", "tenants/acme", "--threshold"];
    let told = ends(&run(dir.path(), &[&args[..], &["0.99"]].concat()), 1);
    assert!(told.contains("more.rego  missed 3, 5\n"), "{told}");
    assert!(told.contains("below the threshold 99.0 %"), "{told}");
    ends(&run(dir.path(), &[&args[..], &["0.3"]].concat()), 0);
}

#[test]
fn eval_and_resolve_answer_as_the_routes_do() {
    let dir = project();
    let document = "{\"findings\": [{\"id\": 0, \"category\": \"secrets.token\", \
        \"path\": [\"secrets.token\", \"secrets\"], \"standing\": true}]}";
    let args = ["policy", "eval", "--point", "verdict", "--input", "-", "--tenant", "acme"];
    let told = run_with(dir.path(), &[&args[..], &["--explain"]].concat(), document);
    let value: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(value["result"]["action"], "block", "{value:#}");
    let own = |held: &&serde_json::Value| held["layer"] == "tenants.acme.standard";
    let held = value["explain"].as_array().unwrap().iter().find(own).unwrap();
    assert_eq!(held["value"][0]["reason"], "acme: no secrets", "{held:#}");
    let wrong = run_with(dir.path(), &args, "{\"findings\": [{\"id\": 0}], \"settings\": 5");
    assert!(ends(&wrong, 65).contains("is not JSON"));
    let misspelt = run_with(dir.path(), &args, "{\"finding\": []}");
    let told = ends(&misspelt, 65);
    assert!(told.contains("--input: /input/finding: is no key of a verdict document"), "{told}");
    for (document, expected) in [
        ("null", "--input: /input: must be an object with keys of a verdict document"),
        ("[]", "--input: /input: must be an object"),
        ("{\"findings\": {}}", "--input: /input/findings: is an object and must be a list"),
        ("{\"coverage\": null}", "--input: /input/coverage: is null"),
    ] {
        let told = ends(&run_with(dir.path(), &args, document), 65);
        assert!(told.contains(expected), "{document}: {told}");
    }
    let pathless =
        "{\"findings\": [{\"id\": 0, \"category\": \"secrets.token\", \"standing\": true}]}";
    let told: serde_json::Value =
        serde_json::from_slice(&run_with(dir.path(), &args, pathless).stdout).unwrap();
    assert_eq!(told["result"]["action"], "block", "its path follows from its category: {told:#}");
    let large = format!("{{\"findings\": []{}}}", " ".repeat(10 << 20));
    let told = ends(&run_with(dir.path(), &args, &large), 65);
    assert!(told.contains("a document has at most 10 MiB"), "{told}");
    let told = ends(&run(dir.path(), &["policy", "resolve", "--tenant", "globex"]), 0);
    let row = |key: &str| told.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(row("actions.secrets: \"block\"").ends_with("  tenants.globex.standard"), "{told}");
    assert!(row("actions.toxicity: \"block\"").ends_with("  standard"), "{told}");
    let unknown = ["policy", "resolve", "--policy", "nope"];
    assert!(ends(&run(dir.path(), &unknown), 65).contains("use one of: standard, strict"));
}

#[test]
fn lint_ends_in_1_on_doubts_and_in_65_on_faults() {
    let dir = project();
    let rules = "package tenants.acme.standard\n\nimport data.base\n";
    write(dir.path(), "policies/tenants/acme/standard/more.rego", rules);
    let told = run(dir.path(), &["policy", "lint", "--json"]);
    assert_eq!(told.status.code(), Some(1));
    let fault: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    for key in ["file", "line", "column", "code", "message", "hint", "severity"] {
        assert!(!fault[key].is_null(), "{key}: {fault:#}");
    }
    write(dir.path(), "policies/tenants/acme/standard/more.rego", "package nope\n");
    ends(&run(dir.path(), &["policy", "lint"]), 65);
    ends(&run(dir.path(), &["policy", "test"]), 65);
}

#[test]
fn watch_runs_again_when_a_file_changes() {
    let dir = project();
    let mut watch = command(dir.path());
    watch.args(["policy", "test", "--watch", "policies/standard"]);
    let mut child = watch.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut ended = |code: u8| {
        let wanted = format!("exit code would be {code}");
        lines.by_ref().find(|line| line.as_ref().unwrap().starts_with(&wanted)).is_some()
    };
    assert!(ended(0));
    edit(dir.path(), "policies/standard/standard_cases.yaml", "action: allow", "action: block");
    assert!(ended(1));
    edit(dir.path(), "policies/standard/standard_cases.yaml", "action: block}", "action: allow}");
    assert!(ended(0));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    child.wait().unwrap();
}
