//! Cases written down: `tests/fixtures/action_vectors/*.yaml`, with the short notation of answers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Answer, Case, Expected, Found, WORLD, categories_of, table};

/// A case with the files that make it true for the product.
#[derive(Debug, Clone)]
pub struct Scene {
    pub name: String,
    pub bundle: &'static str,
    /// The overlay's table.
    pub overlay: Value,
    /// The domain of the address on word 0.
    pub mail: Option<String>,
    pub case: Case,
}

/// The shipped tables under `settings`, by layer.
pub fn shipped(layer: &str) -> Value {
    let path = format!("{}/policies/{layer}/data.yaml", env!("CARGO_MANIFEST_DIR"));
    yaml(&path)["settings"].clone()
}

pub fn yaml(path: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    let kind = detector_orchestrator::yaml::fault::FaultKind::Settings;
    detector_orchestrator::yaml::parse_value(kind, path, &text)
        .unwrap_or_else(|faults| panic!("{path}: {faults:?}"))
}

/// Every scene with what is expected of it.
pub fn all() -> Vec<(Scene, Value)> {
    let folder = format!("{}/tests/fixtures/action_vectors", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let vectors = yaml(&file.display().to_string());
        vectors.as_array().cloned().unwrap_or_else(|| panic!("{} is no list", file.display()))
    };
    files.iter().flat_map(read).map(|vector| scene(&vector)).collect()
}

fn scene(vector: &Value) -> (Scene, Value) {
    const KEYS: [&str; 11] = [
        "name", "why", "shipped", "bundle", "table", "floor", "tenant", "request", "mail",
        "answers", "expect",
    ];
    for key in vector.as_object().unwrap().keys() {
        assert!(KEYS.contains(&key.as_str()), "unknown key {key}: {vector}");
    }
    assert!(vector["why"].is_string(), "no reason: {vector}");
    let mut overlay = vector.get("table").cloned().unwrap_or_else(|| json!({}));
    if vector["shipped"] != true && overlay.get("required").is_none() {
        overlay["required"] = json!(["tox-a", "tox-b", "tox-c"]);
    }
    let given = vector["answers"].as_object().cloned().unwrap_or_default();
    let answers = given.iter().map(|(name, word)| {
        (name.clone(), answer(name, word.as_str().unwrap_or_else(|| panic!("{vector}"))))
    });
    let scene = make(
        if vector["bundle"] == "strict" { "strict" } else { "standard" },
        overlay,
        &vector["floor"],
        vector["mail"].as_str(),
        answers.collect(),
    );
    let case = Case {
        tenant: vector.get("tenant").cloned().unwrap_or_else(|| json!({})),
        request: vector.get("request").cloned().unwrap_or_else(|| json!({})),
        ..scene.case
    };
    let name = vector["name"].as_str().unwrap().to_owned();
    (Scene { name, case, ..scene }, vector["expect"].clone())
}

/// A scene with a plain tenant and request.
pub fn make(
    bundle: &'static str,
    overlay: Value,
    floor: &Value,
    mail: Option<&str>,
    mut answers: BTreeMap<String, Answer>,
) -> Scene {
    for (name, ..) in WORLD {
        answers.entry(name.to_owned()).or_insert_with(|| Answer::Found(Vec::new()));
    }
    if let Some(domain) = mail {
        let found = Found {
            category: "pii.email".to_owned(),
            label: "EMAIL".to_owned(),
            score: 0.98,
            severity: "medium".to_owned(),
            slot: Some(0),
            attributes: BTreeMap::from([("domain".to_owned(), domain.to_owned())]),
        };
        answers.insert("pii".to_owned(), Answer::Found(vec![found]));
    }
    let case = Case {
        settings: table::lay(&table::lay(&shipped("base"), &shipped(bundle)), &overlay),
        strict: bundle == "strict",
        floor: table::lay(&shipped("floor"), floor),
        tenant: json!({}),
        request: json!({}),
        answers,
    };
    Scene { name: "random".to_owned(), bundle, overlay, mail: mail.map(str::to_owned), case }
}

/// `fail`, `clean`, `clean@.8`, `toxic@.9` (a label alone), or findings
/// `LABEL=category@score#word!severity, …`.
fn answer(detector: &str, text: &str) -> Answer {
    let number =
        |text: &str| format!("0{text}").parse::<f64>().unwrap_or_else(|_| panic!("{text}"));
    match text.split_once('@') {
        _ if text == "fail" => Answer::Failed,
        _ if text == "clean" => Answer::Found(Vec::new()),
        Some(("clean", score)) => Answer::Clean(number(score)),
        Some((label, score)) if !label.contains('=') => Answer::Found(vec![Found {
            category: categories_of(detector)[0].to_owned(),
            label: label.to_owned(),
            score: number(score),
            severity: "medium".to_owned(),
            slot: None,
            attributes: BTreeMap::new(),
        }]),
        _ => Answer::Found(
            text.split(", ")
                .map(|one| {
                    let (one, severity) = one.split_once('!').unwrap_or((one, "medium"));
                    let (one, slot) =
                        one.split_once('#').map_or((one, None), |(one, s)| (one, s.parse().ok()));
                    let (what, score) = one.split_once('@').unwrap();
                    let (label, category) = what.split_once('=').unwrap();
                    Found {
                        category: category.to_owned(),
                        label: label.to_owned(),
                        score: number(score),
                        severity: severity.to_owned(),
                        slot,
                        attributes: BTreeMap::new(),
                    }
                })
                .collect(),
        ),
    }
}

/// One form for what is expected and what was seen.
pub fn shape(expected: &Expected) -> Value {
    let each = |one: fn(&super::votes::Outcome) -> Value| -> Map<String, Value> {
        expected.conflicts.iter().map(|(scope, outcome)| (scope.clone(), one(outcome))).collect()
    };
    let list = |set: &BTreeSet<usize>| set.iter().copied().collect::<Vec<_>>();
    json!({
        "action": expected.action, "would": expected.would, "redacted": list(&expected.redacted),
        "reasons": expected.codes, "complete": expected.complete, "achieved": expected.achieved,
        "code": expected.coverage_code, "resolved": expected.resolved,
        "winner": each(|o| json!(o.winner)), "detector": each(|o| json!(o.detector)),
        "tie": each(|o| json!(o.tie)), "delta": each(|o| json!(o.delta)),
        "strategy": each(|o| json!(o.strategy)),
    })
}

/// Where `seen` is not what `wanted` says: objects by key, numbers to a millionth.
pub fn differences(wanted: &Value, seen: &Value, at: &str) -> Vec<String> {
    match (wanted, seen) {
        (Value::Object(wanted), Value::Object(seen)) => wanted
            .iter()
            .flat_map(|(key, wanted)| {
                let seen = seen.get(key).unwrap_or(&Value::Null);
                differences(wanted, seen, &format!("{at}/{key}"))
            })
            .collect(),
        (Value::Number(a), Value::Number(b))
            if (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-6 =>
        {
            Vec::new()
        }
        (wanted, seen) if wanted == seen => Vec::new(),
        (wanted, seen) => vec![format!("{at}: wanted {wanted}, saw {seen}")],
    }
}
