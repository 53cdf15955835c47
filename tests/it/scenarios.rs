//! Runs `tests/scenarios/*.yaml`: detectors with scripted answers, a table, a request, and what the
//! answer must hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::app::{App, spawn_with, write};

/// One scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// Native detectors by name.
    #[serde(default)]
    detectors: BTreeMap<String, Scripted>,
    /// The overlay's table, under `settings`.
    #[serde(default)]
    table: Value,
    /// More files, by path.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// More keys of the tenant's file.
    #[serde(default)]
    tenant: BTreeMap<String, Value>,
    request: Value,
    /// What the answer must hold: objects are matched by key, everything else whole.
    expect: Value,
    #[serde(default = "ok")]
    status: u16,
}

fn ok() -> u16 {
    200
}

/// A detector whose answer is written down.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scripted {
    categories: Vec<String>,
    /// The reply's body, or its status when it is a number.
    answer: Value,
    #[serde(default)]
    more: BTreeMap<String, Value>,
}

impl Scripted {
    /// Makes `server` answer so, and nothing else.
    pub async fn play(&self, server: &MockServer) {
        server.reset().await;
        let template = match self.answer.as_u64() {
            Some(status) => ResponseTemplate::new(u16::try_from(status).unwrap()),
            None => ResponseTemplate::new(200).set_body_json(&self.answer),
        };
        Mock::given(method("POST")).respond_with(template).mount(server).await;
    }

    /// Its file in `detectors/`.
    pub fn file(&self, name: &str, server: &MockServer) -> Value {
        let mut file = json!({
            "name": name, "protocol": "native", "endpoint": format!("{}/", server.uri()),
            "categories": self.categories, "timeout": "500ms", "retry": {"attempts": 1},
        });
        file.as_object_mut().unwrap().extend(self.more.clone());
        file
    }
}

/// Every scenario's file.
pub fn files() -> Vec<PathBuf> {
    let folder = format!("{}/tests/scenarios", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "scenarios are missing");
    files
}

#[tokio::test]
async fn every_scenario_holds() {
    for file in files() {
        play(&file).await;
    }
}

/// Plays the scenario of `file`, which must hold; the service goes on.
pub async fn play(file: &Path) -> App {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(file).unwrap();
    let value = detector_orchestrator::yaml::parse_value(
        detector_orchestrator::yaml::fault::FaultKind::Settings,
        &name,
        &text,
    )
    .unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
    let scenario: Scenario =
        serde_json::from_value(value).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut servers = Vec::new();
    let mut detectors = Vec::new();
    for (detector, script) in &scenario.detectors {
        let server = MockServer::start().await;
        script.play(&server).await;
        let file = script.file(detector, &server);
        detectors.push((detector.clone(), file));
        servers.push(server);
    }
    let app = spawn_with(|root| {
        for (detector, file) in &detectors {
            write(root, &format!("detectors/{detector}.yaml"), &file.to_string());
        }
        let mut tenant =
            json!({"schema_version": 1, "id": "scene", "policies": ["standard", "strict"]});
        tenant.as_object_mut().unwrap().extend(scenario.tenant.clone());
        write(root, "config/tenants/scene.yaml", &tenant.to_string());
        if !scenario.table.is_null() {
            let table = json!({"settings": scenario.table});
            write(root, "policies/tenants/scene/standard/data.yaml", &table.to_string());
        }
        for (path, text) in &scenario.files {
            write(root, path, text);
        }
    })
    .await;
    let mut request = scenario.request.clone();
    request.as_object_mut().unwrap().insert("tenant_id".into(), "scene".into());
    let answer = app.ask(&request).await;
    assert_eq!(answer.status, scenario.status, "{name}: {}", answer.text);
    let value = answer.json();
    if let Err(difference) = holds(&value, &scenario.expect, "") {
        panic!("{name}: {difference}\n{value:#}");
    }
    app
}

/// Objects by key, lists by position and length, the rest by equality.
pub fn holds(value: &Value, expected: &Value, at: &str) -> Result<(), String> {
    match (value, expected) {
        (Value::Object(value), Value::Object(expected)) => {
            expected.iter().try_for_each(|(key, expected)| {
                let at = format!("{at}/{key}");
                holds(value.get(key).unwrap_or(&Value::Null), expected, &at)
            })
        }
        (Value::Array(value), Value::Array(expected)) if value.len() == expected.len() => value
            .iter()
            .zip(expected)
            .enumerate()
            .try_for_each(|(i, (value, expected))| holds(value, expected, &format!("{at}/{i}"))),
        (value, expected) if value == expected => Ok(()),
        (value, expected) => Err(format!("{at}: expected {expected}, got {value}")),
    }
}
