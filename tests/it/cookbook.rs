//! Every recipe of docs/cookbook: its files load, its Rego tests pass, its cases hold through the
//! whole service, and fail without it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use wiremock::MockServer;

use crate::app::{App, spawn_with, write};
use crate::binary::{run, text};
use crate::scenarios::{Scripted, holds};

/// A recipe's files by their path in a project.
struct Recipe {
    name: String,
    files: BTreeMap<String, String>,
    scenes: Vec<Scene>,
}

/// A request and what its answer must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scene {
    name: String,
    #[serde(default = "shop")]
    tenant: String,
    #[serde(default)]
    detectors: BTreeMap<String, Scripted>,
    /// The tenant's own table besides the recipe.
    #[serde(default)]
    table: Value,
    request: Value,
    /// Headers of the answer; null where there must be none.
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    expect: Value,
}

/// An entry of a `*_cases.yaml`, as `policy test` reads them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    tenant: String,
    request: Value,
    expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    action: String,
    redacted: Option<String>,
    #[serde(default)]
    reasons: Vec<String>,
}

fn shop() -> String {
    "shop".to_owned()
}

impl From<Case> for Scene {
    fn from(case: Case) -> Self {
        let mut expect = json!({"action": case.expect.action});
        if let Some(redacted) = case.expect.redacted {
            expect["content"] = redacted.into();
        }
        if !case.expect.reasons.is_empty() {
            let codes = case.expect.reasons.iter().map(|code| json!({"code": code}));
            expect["reasons"] = codes.collect();
        }
        Scene {
            name: case.name,
            tenant: case.tenant,
            detectors: BTreeMap::new(),
            table: Value::Null,
            request: case.request,
            headers: BTreeMap::new(),
            expect,
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cookbook")
}

fn recipes() -> Vec<Recipe> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.iter().map(|folder| read(folder)).collect()
}

/// The recipe's own files are the tenant's overlay; its folders say where the others go.
fn read(folder: &Path) -> Recipe {
    let mut recipe = Recipe {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        files: BTreeMap::new(),
        scenes: Vec::new(),
    };
    let mut open = vec![(folder.to_path_buf(), "policies/tenants/shop/standard".to_owned())];
    while let Some((folder, target)) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                let target = match name {
                    "tenants" => "config/tenants".to_owned(),
                    "detectors" => "detectors".to_owned(),
                    bundle => format!("policies/{bundle}"),
                };
                open.push((path, target));
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            match name {
                "README.md" => {}
                "scenes.yaml" => recipe.scenes.extend(list::<Scene>(&path, &text)),
                _ => {
                    if name.ends_with("_cases.yaml") {
                        let cases = list::<Case>(&path, &text).into_iter();
                        recipe.scenes.extend(cases.map(Scene::from));
                    }
                    recipe.files.insert(format!("{target}/{name}"), text);
                }
            }
        }
    }
    recipe.files.entry("config/tenants/shop.yaml".into()).or_insert_with(|| {
        json!({"schema_version": 1, "id": "shop", "policies": ["standard"]}).to_string()
    });
    recipe
}

fn list<T: for<'a> Deserialize<'a>>(path: &Path, text: &str) -> Vec<T> {
    let kind = detector_orchestrator::yaml::fault::FaultKind::Policy;
    let name = path.display().to_string();
    let value = detector_orchestrator::yaml::parse_value(kind, &name, text)
        .unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_recipe_is_short_tested_and_in_the_index() {
    let recipes = recipes();
    assert!(recipes.len() >= 12, "{}", recipes.len());
    let index = std::fs::read_to_string(folder().join("README.md")).unwrap();
    for Recipe { name, files, scenes } in &recipes {
        assert!(index.contains(&format!("({name}/README.md)")), "{name} is not in the index");
        let page = std::fs::read_to_string(folder().join(name).join("README.md")).unwrap();
        assert!(page.lines().count() <= 25 && page.contains("**Traps**"), "{name}");
        let mut actions: Vec<&Value> = scenes.iter().map(|scene| &scene.expect["action"]).collect();
        actions.sort_by_key(|action| action.to_string());
        actions.dedup();
        assert!(actions.len() >= 2, "{name}: no case where it must not act");
        let rego =
            |test| files.keys().any(|f| f.ends_with(".rego") && f.contains("_test.") == test);
        assert_eq!(rego(false), rego(true), "{name}: Rego has tests");
    }
}

#[test]
fn policy_test_passes_the_tests_and_cases_of_every_recipe() {
    for Recipe { name, files, .. } in recipes() {
        let tests: Vec<&str> =
            files.keys().map(String::as_str).filter(|path| is_test(path)).collect();
        if tests.is_empty() {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        detector_orchestrator::assets::write_to(dir.path()).unwrap();
        files.iter().for_each(|(path, text)| write(dir.path(), path, text));
        let args = [&["policy", "test", "--format", "json"], tests.as_slice()].concat();
        let output = run(dir.path(), &args);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {told}");
        let report: Value = serde_json::from_str(&told).unwrap();
        let passed = report["passed"].as_u64().unwrap();
        assert!(passed >= 2 * tests.len() as u64, "{name}: {told}");
    }
}

fn is_test(path: &str) -> bool {
    path.ends_with("_test.rego") || path.ends_with("_cases.yaml")
}

#[tokio::test]
async fn every_recipe_acts_where_it_says_and_nowhere_else() {
    let mut differences = Vec::new();
    for recipe in recipes() {
        if let Some((scene, difference)) = first_difference(&recipe).await {
            differences.push(format!("{}: {scene}: {difference}", recipe.name));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Otherwise its cases would show nothing.
#[tokio::test]
async fn without_its_policies_a_case_of_every_recipe_fails() {
    for mut recipe in recipes() {
        recipe.files.retain(|path, _| !path.starts_with("policies/"));
        let difference = first_difference(&recipe).await;
        assert!(difference.is_some(), "{}: its cases hold without it", recipe.name);
    }
}

/// The first scene whose answer is another.
async fn first_difference(recipe: &Recipe) -> Option<(String, String)> {
    let mut scripts: BTreeMap<&String, (&Scripted, MockServer)> = BTreeMap::new();
    for (name, script) in recipe.scenes.iter().flat_map(|scene| &scene.detectors) {
        if !scripts.contains_key(name) {
            scripts.insert(name, (script, MockServer::start().await));
        }
    }
    let mut app: Option<(&Value, App)> = None;
    for scene in &recipe.scenes {
        let serving = match app.take() {
            Some((table, app)) if *table == scene.table => app,
            _ => serve(recipe, scene, &scripts).await,
        };
        for (name, script) in &scene.detectors {
            script.play(&scripts[name].1).await;
        }
        let difference = play(&serving, scene).await;
        app = Some((&scene.table, serving));
        if let Err(difference) = difference {
            return Some((scene.name.clone(), difference));
        }
    }
    None
}

async fn serve(
    recipe: &Recipe,
    scene: &Scene,
    scripts: &BTreeMap<&String, (&Scripted, MockServer)>,
) -> App {
    spawn_with(|root| {
        for (name, (script, server)) in scripts {
            let file = script.file(name, server).to_string();
            write(root, &format!("detectors/{name}.yaml"), &file);
        }
        recipe.files.iter().for_each(|(path, text)| write(root, path, text));
        if !scene.table.is_null() {
            let path = "policies/tenants/shop/standard/data.yaml";
            assert!(!recipe.files.contains_key(path), "{}: it has a table", recipe.name);
            write(root, path, &json!({"settings": scene.table}).to_string());
        }
    })
    .await
}

async fn play(app: &App, scene: &Scene) -> Result<(), String> {
    let mut request = scene.request.clone();
    request["tenant_id"] = scene.tenant.clone().into();
    let answer = app.ask(&request).await;
    let told = |difference| format!("{difference}\n{}", answer.text);
    holds(&answer.json(), &scene.expect, "").map_err(told)?;
    for (name, wanted) in &scene.headers {
        let found = answer.headers.contains_key(name).then(|| answer.header(name));
        if found != wanted.as_deref() {
            return Err(format!("{name}: expected {wanted:?}, got {found:?}"));
        }
    }
    Ok(())
}
