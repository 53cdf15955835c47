//! From detectors' answers to the action: vectors worked out by hand, and random cases against a
//! naive model, through the running service. Detectors are served here; their answers are the
//! case's, found by the first word of the content.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::app::{App, edit, spawn_with, write};
use crate::model::random::{self, Source};
use crate::model::vectors::{self, Scene, differences, shape};
use crate::model::{Answer, Case, Found, WORLD, expected};

const WORDS: [&str; 4] = ["alpha", "bravo", "delta", "gamma"];

#[test]
fn the_model_agrees_with_what_was_worked_out_by_hand() {
    let vectors = vectors::all();
    assert!(vectors.len() >= 60, "only {} vectors", vectors.len());
    let wrong = vectors.iter().flat_map(|(scene, expect)| {
        differences(expect, &shape(&expected(&scene.case)), &scene.name)
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_vector_from_answers_to_the_action_holds() {
    let mut by_floor: BTreeMap<String, Vec<(Scene, Value)>> = BTreeMap::new();
    for (scene, expect) in vectors::all() {
        by_floor.entry(scene.case.floor.to_string()).or_default().push((scene, expect));
    }
    let mut wrong = Vec::new();
    for vectors in by_floor.values() {
        let tenants: Vec<Scene> = vectors.iter().map(|(scene, _)| scene.clone()).collect();
        let stage = Stage::build(&tenants).await;
        for (tenant, (scene, expect)) in vectors.iter().enumerate() {
            let seen = stage.play(tenant, scene).await;
            wrong.extend(differences(&shown(expect, &seen), &seen, &scene.name));
            wrong.extend(against_the_model(scene, &seen));
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn random_answers_under_random_tables_act_as_the_model_says() {
    let seed = std::env::var("ACTIONS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4);
    let each = std::env::var("ACTIONS_EACH").ok().and_then(|each| each.parse().ok()).unwrap_or(4);
    let (mut source, mut wrong, mut met) = (Source::new(seed), Vec::new(), random::Mix::default());
    for _ in 0..6 {
        let floor = random::floor(&mut source);
        let tenants: Vec<Scene> = (0..75).map(|_| random::scene(&mut source, &floor)).collect();
        let stage = Stage::build(&tenants).await;
        for (tenant, scene) in tenants.iter().enumerate() {
            for _ in 0..each {
                let scene = random::with_answers(&mut source, scene);
                let seen = stage.play(tenant, &scene).await;
                let differs = against_the_model(&scene, &seen);
                let again = wrong.last().is_some_and(|(last, _)| *last == tenant);
                if !differs.is_empty() && !again && wrong.len() < 20 {
                    wrong.push((
                        tenant,
                        format!("{}\n{}\n{seen}", differs.join("\n"), told(&scene)),
                    ));
                }
                met.case(&scene, &expected(&scene.case));
            }
        }
    }
    let wrong: Vec<String> = wrong.into_iter().map(|(_, how)| how).collect();
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n\n"));
    met.every_class_was_met();
}

/// A scene in few words.
fn told(scene: &Scene) -> String {
    let Case { floor, tenant, request, answers, .. } = &scene.case;
    format!(
        "{} {}\nfloor {floor}\ntenant {tenant}\nrequest {request}\n{answers:?}",
        scene.bundle, scene.overlay
    )
}

/// What the service answered where the model says something else.
fn against_the_model(scene: &Scene, seen: &Value) -> Vec<String> {
    let wanted = shown(&shape(&expected(&scene.case)), seen);
    differences(&wanted, seen, &format!("{} (model)", scene.name))
}

/// `wanted` without the scopes that the answer does not show: it names those whose voters disagree.
fn shown(wanted: &Value, seen: &Value) -> Value {
    let mut wanted = wanted.clone();
    for key in ["resolved", "winner", "detector", "tie", "delta", "strategy"] {
        if let Some(scopes) = wanted.get_mut(key).and_then(Value::as_object_mut) {
            scopes.retain(|scope, _| seen[key].get(scope).is_some());
        }
    }
    // Where coverage is incomplete nobody knows what must go, so no text is shown.
    if seen["redacted"].is_null() {
        wanted.as_object_mut().unwrap().remove("redacted");
    }
    wanted
}

/// The running service with one tenant per scene, and its detectors.
struct Stage {
    app: App,
    answers: Answers,
    next: Mutex<usize>,
    _server: MockServer,
}

type Answers = Arc<Mutex<BTreeMap<String, Scene>>>;

impl Stage {
    async fn build(tenants: &[Scene]) -> Self {
        let answers = Answers::default();
        let server = MockServer::builder().disable_request_recording().start().await;
        let script = Arc::clone(&answers);
        let reply = move |request: &Request| reply(&script.lock().unwrap(), request);
        Mock::given(method("POST")).respond_with(reply).mount(&server).await;
        Mock::given(method("GET")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
        let app = spawn_with(|root| {
            for file in std::fs::read_dir(root.join("detectors")).unwrap() {
                let path = file.unwrap().path();
                if !path.ends_with("pii.yaml") && !path.ends_with("secrets.yaml") {
                    std::fs::remove_file(path).unwrap();
                }
            }
            // A busy machine must not fail an evaluation: what it answers is compared here.
            edit(root, "config/settings.yaml", "eval_timeout: 50ms", "eval_timeout: 1s");
            detectors(root, &server.uri());
            let floor = tenants.first().map(|scene| scene.case.floor.clone());
            write(root, "policies/floor/data.yaml", &json!({"settings": floor}).to_string());
            for (number, scene) in tenants.iter().enumerate() {
                tenant(root, number, scene);
            }
        })
        .await;
        Self { app, answers, next: Mutex::default(), _server: server }
    }

    /// Asks with the scene's answers and gives what was seen in the model's form.
    async fn play(&self, tenant: usize, scene: &Scene) -> Value {
        let id = {
            let mut next = self.next.lock().unwrap();
            *next += 1;
            format!("case{next:06}")
        };
        self.answers.lock().unwrap().insert(id.clone(), scene.clone());
        let mut request = scene.case.request.clone();
        let fields = json!({
            "content": content(&id, scene), "tenant_id": format!("t{tenant}"),
            "policy": scene.bundle, "timeout_ms": 60_000,
            "include": ["conflicts", "redacted", "detectors"],
        });
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let answer = self.app.ask(&request).await;
        assert_eq!(answer.status, 200, "{}: {}", scene.name, answer.text);
        self.answers.lock().unwrap().remove(&id);
        seen(&answer.json(), scene)
    }
}

fn detectors(root: &Path, uri: &str) {
    for (name, categories, weight) in &WORLD[2..] {
        let file = json!({
            "name": name, "protocol": "native", "endpoint": format!("{uri}/{name}"),
            "categories": categories, "weight": weight, "timeout": "30s",
            "types": ["text", "document", "code", "image"], "retry": {"attempts": 1},
            "breaker": {"failures": 10_000}, "health": {"path": "/health"},
        });
        write(root, &format!("detectors/{name}.yaml"), &file.to_string());
    }
}

fn tenant(root: &Path, number: usize, scene: &Scene) {
    let id = format!("t{number}");
    let mut file = json!({"schema_version": 1, "id": id, "policies": ["standard", "strict"]});
    file.as_object_mut().unwrap().extend(scene.case.tenant.as_object().unwrap().clone());
    write(root, &format!("config/tenants/{id}.yaml"), &file.to_string());
    let table = json!({"settings": scene.overlay}).to_string();
    write(root, &format!("policies/tenants/{id}/{}/data.yaml", scene.bundle), &table);
}

/// The id, the word 0 (or an address), and the other words.
fn content(id: &str, scene: &Scene) -> String {
    let mail = scene.mail.as_ref().map(|domain| format!("ana@{domain}"));
    let first = mail.unwrap_or_else(|| WORDS[0].to_owned());
    format!("{id} {first} {} {} {}", WORDS[1], WORDS[2], WORDS[3])
}

fn reply(scripts: &BTreeMap<String, Scene>, request: &Request) -> ResponseTemplate {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let content = body["content"].as_str().unwrap();
    let scene = content.split(' ').next().and_then(|id| scripts.get(id));
    let name = request.url.path().trim_start_matches('/');
    let answer = scene.and_then(|scene| scene.case.answers.get(name));
    let json = match answer {
        None | Some(Answer::Failed) => return ResponseTemplate::new(500),
        Some(Answer::Clean(score)) => json!({"label": "clean", "score": score}),
        Some(Answer::Found(found)) => match found.as_slice() {
            [one] if one.label == "toxic" && one.slot.is_none() => {
                json!({"label": "toxic", "score": one.score, "severity": one.severity})
            }
            found => {
                json!({"findings": found.iter().map(|f| item(f, content)).collect::<Vec<_>>()})
            }
        },
    };
    ResponseTemplate::new(200).set_body_json(json)
}

fn item(found: &Found, content: &str) -> Value {
    let mut item = json!({
        "label": found.label, "category": found.category, "score": found.score,
        "severity": found.severity,
    });
    if let Some(slot) = found.slot {
        let word = content.split(' ').nth(slot + 1).unwrap();
        let start = content.find(word).unwrap();
        item["start"] = json!(start);
        item["end"] = json!(start + word.len());
    }
    item
}

fn seen(value: &Value, scene: &Scene) -> Value {
    let text = value["content"].as_str();
    let whole = content("case", scene);
    let words = whole.split(' ').skip(1).enumerate();
    let gone = text.map(|text| {
        let gone = words.filter(|(_, word)| !text.contains(word)).map(|(slot, _)| slot);
        gone.collect::<Vec<_>>()
    });
    let codes: std::collections::BTreeSet<_> = value["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|reason| reason["code"].as_str().unwrap().to_owned())
        .collect();
    let each = |key: &str| -> Map<String, Value> {
        let conflicts = value["conflicts"].as_array().into_iter().flatten();
        let of = |conflict: &Value| {
            let scope = conflict["scope"].as_str()?.strip_prefix("category:")?;
            Some((scope.to_owned(), conflict[key].clone()))
        };
        conflicts.filter_map(of).collect()
    };
    json!({
        "action": value["action"], "would": value["would"],
        "redacted": gone, "reasons": codes,
        "complete": value["coverage"]["complete"], "achieved": value["coverage"]["achieved"],
        "code": value["coverage"]["code"], "resolved": each("resolved"),
        "winner": each("winner"), "detector": each("detector"), "tie": each("tie_breaker"),
        "delta": each("delta"), "strategy": each("strategy"),
    })
}
