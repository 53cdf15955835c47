//! Our policies evaluated by the product and by Open Policy Agent: the same answers, from sources and
//! from bundles. `tests/opa/install` puts it there.

#![expect(clippy::print_stdout, reason = "the mix of inputs and outcomes is told")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use detector_orchestrator::cli::Session;
use detector_orchestrator::domain::head::Head;
use detector_orchestrator::domain::id::{BundleName, TenantId};
use detector_orchestrator::orchestrator::plain_head;
use detector_orchestrator::policy::{
    Evaluator, Limits, Point, Policies, Source, TenantScope, View,
};
use serde_json::{Map, Value, json};

pub mod documents;
mod texts;

use documents::Dice;

/// Inputs for each view and point.
const INPUTS: usize = 150;
const SEED: u64 = 20_261_121;

/// Open Policy Agent behind a pipe; it ends when this is dropped.
pub struct Opa {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Opa {
    pub fn start() -> Opa {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let home = root.join("target/opa");
        let wanted = std::fs::read(root.join("tests/opa/requirements.lock")).unwrap();
        if std::fs::read(home.join("lock")).ok() != Some(wanted) {
            let missing = std::fs::read_to_string(home.join("missing"));
            panic!(
                "Open Policy Agent is not installed: {}",
                missing.as_deref().map_or("run tests/opa/install", str::trim)
            );
        }
        let mut child = Command::new("python3")
            .arg(root.join("tests/opa/opa.py"))
            .env("PYTHONPATH", home.join("site"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().unwrap());
        Opa { child, to, from }
    }

    fn say(&mut self, command: &Value) -> Value {
        writeln!(self.to.as_mut().unwrap(), "{command}").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
        answer
    }

    pub fn open(&mut self, name: &str, modules: &Map<String, Value>, data: &Value) {
        self.say(&json!({ "open": name, "modules": modules, "data": data }));
    }

    /// For each input, for each path below `data`.
    pub fn ask(&mut self, name: &str, paths: &[String], inputs: &[Value]) -> Vec<Vec<Said>> {
        let answer = self.say(&json!({ "ask": name, "paths": paths, "inputs": inputs }));
        let rows = answer.as_array().unwrap();
        rows.iter().map(|row| row.as_array().unwrap().iter().map(Said::of).collect()).collect()
    }
}

impl Drop for Opa {
    fn drop(&mut self) {
        drop(self.to.take());
        let _ = self.child.wait();
    }
}

/// What an engine says of one rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Value(Value),
    Undefined,
    Error,
}

impl Said {
    fn of(answer: &Value) -> Said {
        match (answer.get("value"), answer.get("error")) {
            (Some(value), _) => Said::Value(even(value)),
            (None, Some(_)) => Said::Error,
            (None, None) => Said::Undefined,
        }
    }
}

/// Numbers as the one type that both engines can say: 2 and 2.0 are the same.
fn even(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(items) => items.iter().map(even).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), even(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// Policies with what they stand in.
struct Tree {
    name: String,
    sources: Vec<Source>,
    scopes: Vec<TenantScope>,
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn shipped() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let read = |path: &PathBuf| Source {
        path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
        bytes: std::fs::read(path).unwrap().into(),
    };
    files(&root).iter().map(read).collect()
}

/// The folder of a file's package.
fn folder(text: &str) -> Option<String> {
    let package = text.lines().find_map(|line| line.strip_prefix("package "))?;
    let plain = package.replace("[\"", ".").replace("\"]", "");
    Some(plain.trim().trim_end_matches("_test").replace('.', "/"))
}

/// `policies/`, the same with an overlay full of text builtins, and once more for each folder of docs/
/// that holds an overlay.
fn trees() -> Vec<Tree> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scope = |tenant: &str, bundles: &[&str]| TenantScope {
        id: TenantId::parse(tenant).unwrap(),
        bundles: bundles.iter().map(|name| BundleName::parse(name).unwrap()).collect(),
    };
    let tenants = ["default", "acme", "globex"].map(|name| scope(name, &["standard", "strict"]));
    let mut trees =
        vec![Tree { name: "policies".into(), sources: shipped(), scopes: tenants.into() }];
    let mut overlays: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for path in files(&root.join("docs")).into_iter().chain(files(&root.join("tests/opa/overlay")))
    {
        overlays.entry(path.parent().unwrap().to_owned()).or_default().push(path);
    }
    for (directory, paths) in overlays {
        let texts = || paths.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default());
        let rego = paths
            .iter()
            .zip(texts())
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "rego"));
        let Some(target) = rego.into_iter().find_map(|(_, text)| folder(&text)) else { continue };
        let parts: Vec<&str> = target.split('/').collect();
        let ["tenants", tenant, bundle] = parts.as_slice() else { continue };
        let mut sources: Vec<Source> = shipped();
        sources.retain(|source| !source.path.starts_with(&format!("{target}/")));
        for (path, text) in paths.iter().zip(texts()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".rego") || name == "data.yaml" {
                let bytes = text.as_bytes().into();
                sources.push(Source { path: format!("{target}/{name}"), bytes });
            }
        }
        let name = directory.strip_prefix(root).unwrap().display().to_string();
        trees.push(Tree { name, sources, scopes: vec![scope(tenant, &[bundle])] });
    }
    trees
}

impl Tree {
    fn load(&self) -> Policies {
        let loaded = Policies::load(&self.sources, &self.scopes, &limits(), None);
        loaded.unwrap_or_else(|faults| panic!("{}: {faults:#?}", self.name)).policies
    }

    /// Modules for the other engine.
    fn modules(&self) -> Map<String, Value> {
        let rego = self.sources.iter().filter(|source| source.path.ends_with(".rego"));
        let text = |source: &Source| String::from_utf8(source.bytes.to_vec()).unwrap();
        rego.map(|source| (source.path.clone(), text(source).into())).collect()
    }
}

/// A slow machine is no difference.
fn limits() -> Limits {
    Limits { eval_timeout: Duration::from_secs(20), ..Limits::default() }
}

const POINTS: [Point; 3] = [Point::Plan, Point::Conflict, Point::Verdict];
const RULES: [&str; 21] = [
    "deny",
    "required",
    "optional",
    "secondary",
    "skip",
    "execution",
    "stages",
    "stop_on",
    "coverage",
    "resolve",
    "timeouts",
    "thresholds",
    "params",
    "settle",
    "block",
    "review",
    "redact",
    "flag",
    "ignore",
    "obligations",
    "headers",
];

fn rules(point: Point) -> &'static [&'static str] {
    match point {
        Point::Plan => &RULES[..13],
        Point::Conflict => &RULES[13..14],
        Point::Verdict => &RULES[14..],
    }
}

/// The rules that a point asks the layers for, as `layer.rule`.
fn paths(layers: &[String], point: Point) -> Vec<String> {
    let mut paths = Vec::new();
    for layer in layers {
        let names: &[&str] = match (layer == "floor", point) {
            (false, _) => rules(point),
            (true, Point::Plan) => &["required", "min_coverage", "on_incomplete"],
            (true, Point::Conflict) => &[],
            (true, Point::Verdict) => &["block", "review", "redact", "flag"],
        };
        paths.extend(names.iter().map(|name| format!("{layer}.{name}")));
    }
    paths
}

/// A module of ours that asks for every one of them at once.
fn asking(layers: &[String]) -> String {
    let mut text = String::from("package asking\n\nimport rego.v1\n");
    for point in POINTS {
        for path in paths(layers, point) {
            let parts: String = path.split('.').map(|part| format!("[\"{part}\"]")).collect();
            text.push_str(&format!("\n{}[\"{path}\"] := data{parts}\n", point.name()));
        }
    }
    text
}

/// How often each class of inputs and outcomes came up.
#[derive(Default)]
struct Mix(BTreeMap<String, usize>);

impl Mix {
    fn count(&mut self, class: &str) {
        *self.0.entry(class.to_owned()).or_default() += 1;
    }

    /// Prints it; each class whose name begins with `group` must be a twentieth of the group.
    fn demand(&self, group: &str, wanted: &[&str]) {
        let of = |name: &str| self.0.get(&format!("{group} {name}")).copied().unwrap_or(0);
        let total: usize =
            self.0.iter().filter(|(name, _)| name.starts_with(group)).map(|(_, n)| n).sum();
        for name in wanted {
            let n = of(name);
            println!("{group} {name}: {n} of {total}");
            assert!(n * 20 >= total, "{group} {name}: only {n} of {total}");
        }
    }
}

/// The joined answer, and each layer's rules as `layer.rule`.
type Ours = (Value, Map<String, Value>);

/// What the product says at a point, `None` where it fails.
fn product(
    runtime: &tokio::runtime::Runtime,
    evaluator: &Evaluator,
    view: &Arc<View>,
    (point, head): (Point, &Head),
    input: &Value,
) -> Option<Ours> {
    let input = input.as_object().unwrap().clone();
    let answer = runtime.block_on(evaluator.evaluate(view, point, head, input)).ok()?;
    let held = answer.explain.iter();
    let held = held.map(|held| (format!("{}.{}", held.layer, held.rule), even(&held.value)));
    Some((answer.result, held.collect()))
}

fn same_order(value: &Value) -> Value {
    let mut value = even(value);
    let rules = |value: &mut Value| {
        for rule in value.as_object_mut().into_iter().flat_map(Map::values_mut) {
            if let Value::Array(items) = rule {
                items.sort_by_key(Value::to_string);
            }
        }
    };
    value.get_mut("floor").map(rules);
    // The product leaves an empty floor out.
    if value["floor"] == json!({}) {
        value.as_object_mut().unwrap().remove("floor");
    }
    rules(&mut value);
    value
}

struct Compared {
    mix: Mix,
    differences: Vec<String>,
    errors: usize,
    inputs: usize,
}

/// Everything that one view says to generated inputs, by both engines, from sources and a bundle.
fn compare(
    opa: &mut Opa,
    (tree, session): (&Tree, &Session),
    view: &Arc<View>,
    seed: u64,
    into: &mut Compared,
) {
    let tenant = session.snapshot.catalog.tenants.values().next().unwrap();
    let head = plain_head(&session.deps, tenant, view);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let evaluator = Evaluator::new(limits());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bundle.tar.gz");
    std::fs::write(&file, view.opa_bundle().unwrap()).unwrap();
    opa.say(&json!({ "bundle": "bundle", "file": file }));
    let floor = tree.sources.iter().find(|source| source.path == "floor/data.yaml").unwrap();
    let floor: Value = documents::yaml(&floor.bytes);
    let mut modules = tree.modules();
    modules.insert("asking.rego".into(), asking(view.layers()).into());
    opa.open("sources", &modules, &json!({ "floor": floor }));
    for point in POINTS {
        let mut dice = Dice::new(seed ^ point as u64);
        let inputs: Vec<Value> =
            (0..INPUTS).map(|_| documents::document(point, view.settings(), &mut dice)).collect();
        let asked = [format!("asking.{}", point.name())];
        let theirs = opa.ask("sources", &asked, &inputs);
        let answer = [format!("entry.answer.{}", point.name())];
        let bundled = opa.ask("bundle", &answer, &inputs);
        for ((input, theirs), bundled) in inputs.iter().zip(&theirs).zip(&bundled) {
            let place = format!("{}, {:?}, {}: {input}", tree.name, view.layers(), point.name());
            let said = product(&runtime, &evaluator, view, (point, &head), input);
            into.judge(point, said, [&theirs[0], &bundled[0]], &place);
        }
    }
}

impl Compared {
    /// Notes what one input got from the product, and from OPA by sources and by bundle.
    fn judge(&mut self, point: Point, ours: Option<Ours>, theirs: [&Said; 2], place: &str) {
        self.inputs += 1;
        self.mix.count(&format!("point {}", point.name()));
        let (Some((result, held)), [sources, bundle]) = (ours, theirs) else {
            self.errors += 1;
            if theirs != [&Said::Error, &Said::Error] {
                self.differences.push(format!("only the product fails: {place}"));
            }
            return;
        };
        let held = Said::Value(Value::Object(held));
        // An empty set says nothing, and is not among what held.
        let sources = match sources {
            Said::Value(Value::Object(rules)) => {
                let mut rules = rules.clone();
                rules.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
                Said::Value(Value::Object(rules))
            }
            Said::Value(_) | Said::Undefined | Said::Error => sources.clone(),
        };
        let silent = sources == Said::Undefined && held == Said::Value(json!({}));
        if held != sources && !silent {
            self.differences.push(format!("sources: {held:?}, OPA {sources:?}: {place}"));
        }
        let joined = same_order(&result);
        if !matches!(bundle, Said::Value(theirs) if same_order(theirs) == joined) {
            self.differences.push(format!("bundle: {joined}, OPA {bundle:?}: {place}"));
        }
        let has = |rule: &str| result[rule].as_array().is_some_and(|entries| !entries.is_empty());
        let outcome = match point {
            Point::Verdict => result["action"].as_str().unwrap(),
            Point::Plan if has("deny") => "deny",
            Point::Plan => "ask",
            Point::Conflict if result["settle"].is_null() => "silent",
            Point::Conflict => "settle",
        };
        self.mix.count(&format!("{} {outcome}", point.name()));
    }
}

#[test]
fn generated_inputs_get_the_same_answers_from_opa_and_from_bundles() {
    let mut opa = Opa::start();
    let mut all = Compared { mix: Mix::default(), differences: Vec::new(), errors: 0, inputs: 0 };
    let mut seen = BTreeSet::new();
    let session = Session::open(None).ok().unwrap();
    for tree in trees() {
        let policies = tree.load();
        for scope in &tree.scopes {
            for bundle in &scope.bundles {
                let view = policies.view(&scope.id, bundle).unwrap();
                if seen.insert(view.digest()) {
                    let seed = SEED + seen.len() as u64;
                    compare(&mut opa, (&tree, &session), view, seed, &mut all);
                }
            }
        }
    }
    let Compared { mix, differences, errors, inputs } = all;
    println!("{inputs} inputs, {} views, {errors} times both fail", seen.len());
    let shown: Vec<&String> = differences.iter().take(5).collect();
    assert!(differences.is_empty(), "{} differences: {shown:#?}", differences.len());
    assert!(inputs >= 2_000 && errors * 100 < inputs, "{inputs}, {errors}");
    mix.demand("point", &["plan", "conflict", "verdict"]);
    mix.demand("verdict", &["allow", "flag", "redact", "review", "block"]);
    mix.demand("plan", &["ask", "deny"]);
    mix.demand("conflict", &["silent", "settle"]);
}

#[test]
fn every_policy_test_passes_in_opa() {
    let mut opa = Opa::start();
    let mut tests = 0;
    for tree in trees() {
        opa.open("tests", &tree.modules(), &json!({}));
        for source in tree.sources.iter().filter(|source| source.path.ends_with("_test.rego")) {
            let text = std::str::from_utf8(&source.bytes).unwrap();
            let package = text.lines().find_map(|line| line.strip_prefix("package ")).unwrap();
            let names = text.lines().filter(|line| line.starts_with("test_"));
            let names = names.map(|line| line.split([' ', '[']).next().unwrap());
            let paths: Vec<String> = names.map(|name| format!("{package}.{name}")).collect();
            let said = opa.ask("tests", &paths, &[json!({})]);
            for (path, said) in paths.iter().zip(&said[0]) {
                assert_eq!(*said, Said::Value(true.into()), "{path} of {}", source.path);
                tests += 1;
            }
        }
    }
    assert!(tests >= 15, "{tests}");
}

#[test]
fn the_command_writes_the_same_bundle_each_time_and_names_who_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let build = |tenant: &str, to: &str| {
        let args = ["policy", "build", "--tenant", tenant, "--bundle", "standard", "-o", to];
        crate::binary::run(dir.path(), &args)
    };
    for to in ["a.tar.gz", "b.tar.gz"] {
        let output = build("acme", to);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let [one, two] = ["a.tar.gz", "b.tar.gz"].map(|name| std::fs::read(dir.path().join(name)));
    assert_eq!(one.unwrap(), two.unwrap());
    let unknown = build("nobody", "c.tar.gz");
    assert_eq!(unknown.status.code(), Some(65));
    let told = crate::binary::text(&unknown.stderr);
    assert!(told.contains("no tenant `nobody` uses a policy `standard`"), "{told}");
}
