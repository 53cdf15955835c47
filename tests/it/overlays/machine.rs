//! A thousand random operations held against a model, with reloads in between.

use std::collections::BTreeMap;

use super::*;

const TENANTS: [&str; 3] = ["default", "t1", "t2"];
const ACTIONS: [&str; 3] = ["block", "review", "flag"];
const OPERATIONS: u32 = 1000;

/// What a tenant's overlay should be.
#[derive(Default)]
struct Model {
    /// Content of every version; `None` is a deletion.
    versions: Vec<Option<&'static str>>,
    etag: String,
    /// Tags it had before.
    stale: Vec<String>,
}

impl Model {
    fn now(&self) -> Option<&'static str> {
        self.versions.last().copied().flatten()
    }

    fn is(&mut self, content: Option<&'static str>, etag: &str) {
        let old = std::mem::replace(&mut self.etag, etag.to_owned());
        self.stale.extend((!old.is_empty()).then_some(old));
        self.versions.push(content);
    }

    fn stale(&self) -> &str {
        self.stale.last().map_or("\"never\"", String::as_str)
    }
}

/// xorshift64: the same operations in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

#[tokio::test]
async fn a_thousand_random_operations_leave_what_a_model_says() {
    let app = spawn_with(|root| {
        for tenant in &TENANTS[1..] {
            let text = format!("schema_version: 1\nid: {tenant}\npolicies: [standard]\n");
            write(root, &format!("config/tenants/{tenant}.yaml"), &text);
        }
    })
    .await;
    let mut models: BTreeMap<&str, Model> = TENANTS.map(|tenant| (tenant, Model::default())).into();
    let mut mix: BTreeMap<&str, u32> = BTreeMap::new();
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    for at in 0..OPERATIONS {
        let tenant = TENANTS[dice.below(TENANTS.len())];
        let action = ACTIONS[dice.below(ACTIONS.len())];
        let model = models.get_mut(tenant).unwrap();
        let class = match dice.below(9) {
            0 | 1 => change(&app, tenant, model, action).await,
            2 => stale(&app, tenant, model, action).await,
            3 => race(&app, tenant, model, action).await,
            4 => broken(&app, tenant, model).await,
            5 => delete(&app, tenant, model).await,
            6 => rollback(&app, tenant, model, dice.below(8)).await,
            7 => read(&app, tenant, model).await,
            _ => {
                let text = format!("schema_version: 1\nid: acme\npolicies: [standard]\n# {at}\n");
                write(app.dir.path(), "config/tenants/acme.yaml", &text);
                "reload"
            }
        };
        *mix.entry(class).or_default() += 1;
    }
    println!("mix of {OPERATIONS} operations: {mix:?}");
    let least = OPERATIONS / 20;
    assert!(mix.len() == 8 && mix.values().all(|count| *count >= least), "{mix:?}");
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        let state = app.get("/api/v1/generations").await.json();
        assert_eq!(state["faults"], json!([]));
        let text = std::fs::read_to_string(app.path("config/tenants/acme.yaml")).unwrap();
        let reloaded = state["wanted"] == state["revision"] && text.contains('#');
        if reloaded && state["generation"].as_u64() > Some(1) {
            break;
        }
        assert!(Instant::now() < until, "{state:#}");
    }
    let app = app.restart().await;
    for (tenant, model) in &mut models {
        read(&app, tenant, model).await;
    }
}

async fn change(app: &App, tenant: &str, model: &mut Model, action: &'static str) -> &'static str {
    let (etag, status) = match model.now() {
        Some(_) => (model.etag.clone(), 200),
        None => (String::new(), 201),
    };
    let answer = put(app, tenant, &etag, &table(action)).await;
    assert_eq!(answer.status, status, "{}", answer.text);
    model.is(Some(action), answer.header("etag"));
    "change"
}

async fn stale(app: &App, tenant: &str, model: &Model, action: &str) -> &'static str {
    let answer = put(app, tenant, model.stale(), &table(action)).await;
    assert_eq!(answer.status, 412, "{}", answer.text);
    if model.now().is_some() {
        assert_eq!(put(app, tenant, "", &table(action)).await.status, 428);
    }
    "stale"
}

async fn race(app: &App, tenant: &str, model: &mut Model, action: &'static str) -> &'static str {
    let etag = if model.now().is_some() { model.etag.clone() } else { String::new() };
    let other = ACTIONS[(ACTIONS.iter().position(|a| *a == action).unwrap() + 1) % ACTIONS.len()];
    let (ours, theirs) = (table(action), table(other));
    let (a, b) = tokio::join!(put(app, tenant, &etag, &ours), put(app, tenant, &etag, &theirs));
    let (won, lost, content) = if a.status < 300 { (a, b, action) } else { (b, a, other) };
    assert!([200, 201].contains(&won.status), "{}", won.text);
    // Whoever comes after a creation sees it and is asked for its tag.
    assert!(lost.status == 412 || (etag.is_empty() && lost.status == 428), "{}", lost.text);
    if lost.status == 412 {
        assert_eq!(lost.header("etag"), won.header("etag"), "the loser is told what won");
    }
    model.is(Some(content), won.header("etag"));
    "race"
}

async fn broken(app: &App, tenant: &str, model: &Model) -> &'static str {
    let etag = if model.now().is_some() { model.etag.as_str() } else { "" };
    let answer = put(app, tenant, etag, &rego(tenant, "block contains x")).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    "broken"
}

async fn delete(app: &App, tenant: &str, model: &mut Model) -> &'static str {
    let etag = if model.now().is_some() { model.etag.as_str() } else { "" };
    let answer = send(app, (tenant, "DELETE", PATH), ("if-match", etag), &Value::Null).await;
    if model.now().is_none() {
        assert_eq!(answer.status, 404, "{}", answer.text);
    } else {
        assert_eq!(answer.status, 204, "{}", answer.text);
        model.is(None, "");
    }
    "delete"
}

async fn rollback(app: &App, tenant: &str, model: &mut Model, back: usize) -> &'static str {
    let etag = if model.now().is_some() { model.etag.clone() } else { String::new() };
    let version = model.versions.len().saturating_sub(back);
    let content = version.checked_sub(1).and_then(|at| model.versions.get(at)).copied().flatten();
    let path = "/api/v1/policies/standard/rollback";
    let body = json!({ "version": version });
    let answer = send(app, (tenant, "POST", path), ("if-match", &etag), &body).await;
    match content {
        None => assert_eq!(answer.status, 404, "{}", answer.text),
        Some(content) => {
            let status = if etag.is_empty() { 201 } else { 200 };
            assert_eq!(answer.status, status, "{}", answer.text);
            model.is(Some(content), answer.header("etag"));
        }
    }
    "rollback"
}

async fn read(app: &App, tenant: &str, model: &Model) -> &'static str {
    let answer = get(app, tenant).await;
    let overlay = answer.json()["overlay"].clone();
    match model.now() {
        None => assert_eq!((&overlay, answer.header("etag")), (&Value::Null, "")),
        Some(content) => {
            assert_eq!(overlay["version"], model.versions.len());
            assert_eq!(overlay["data"], table(content)["data"]);
            assert_eq!(answer.header("etag"), model.etag);
        }
    }
    assert_eq!(action(app, tenant).await, model.now().unwrap_or("redact"));
    let versions =
        send(app, (tenant, "GET", "/api/v1/policies/standard/versions"), ("", ""), &Value::Null)
            .await
            .json();
    let newest = versions["versions"][0]["version"].as_u64().unwrap_or_default();
    assert_eq!(newest, model.versions.len() as u64);
    "read"
}
