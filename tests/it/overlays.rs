//! Overlays that tenants store through the API.

use std::time::{Duration, Instant};

use detector_orchestrator::domain::id::TenantId;
use detector_orchestrator::store::{Audit as _, Page, Place, Sqlite, SqliteOptions};
use serde_json::{Value, json};

use crate::app::{Answer, App, edit, spawn, spawn_with, write};

mod gate;
mod machine;
mod tried;

const SECRET: &str = "key AKIAZ3VQ7JRTLWXK5P2D";
const PATH: &str = "/api/v1/policies/standard";

fn table(action: &str) -> Value {
    json!({"data": {"settings": {"actions": {"secrets": action}}}})
}

fn rego(tenant: &str, rule: &str) -> Value {
    let text = format!("package tenants.{tenant}.standard\n\n{rule}\n");
    json!({"modules": [{"path": "verdict.rego", "rego": text}]})
}

const BLOCK: &str =
    "block contains {\"finding\": f.id, \"reason\": \"ours\"} if {\n\tsome f in input.findings\n}";

/// A request for `tenant` with one more header, where it has a value.
async fn send(
    app: &App,
    (tenant, method, path): (&str, &str, &str),
    (name, value): (&str, &str),
    body: &Value,
) -> Answer {
    let mut headers = vec![("content-type", "application/json"), ("x-tenant-id", tenant)];
    headers.extend((!value.is_empty()).then_some((name, value)));
    app.send(method, path, &headers, body.to_string().as_bytes()).await
}

async fn put(app: &App, tenant: &str, etag: &str, body: &Value) -> Answer {
    send(app, (tenant, "PUT", PATH), ("if-match", etag), body).await
}

async fn get(app: &App, tenant: &str) -> Answer {
    send(app, (tenant, "GET", PATH), ("", ""), &Value::Null).await
}

async fn action(app: &App, tenant: &str) -> String {
    let value = app.ask(&json!({"content": SECRET, "tenant_id": tenant})).await.json();
    value["action"].as_str().unwrap_or_else(|| panic!("{value:#}")).to_owned()
}

async fn revision(app: &App) -> String {
    app.get("/api/v1/generations").await.json()["revision"].as_str().unwrap().to_owned()
}

fn code(answer: &Answer) -> (u16, String) {
    let problem = answer.json();
    (answer.status, problem["code"].as_str().unwrap_or_else(|| panic!("{problem:#}")).to_owned())
}

#[tokio::test]
async fn an_overlay_serves_at_once_survives_a_restart_and_can_be_taken_back() {
    let app = spawn().await;
    let before = revision(&app).await;
    assert_eq!(action(&app, "default").await, "redact");

    let created = put(&app, "default", "", &table("block")).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(created.json()["overlay"]["version"], 1);
    let first = created.header("etag").to_owned();
    let with_table = created.header("x-policy-revision").to_owned();
    assert_eq!(created.json()["revision"], with_table.as_str());
    assert_ne!(with_table, before);
    let answer = app.ask(&json!({"content": SECRET})).await.json();
    assert_eq!(answer["action"], "block");
    assert_eq!(answer["policy"]["revision"], with_table.as_str());
    let resolved = app.get("/api/v1/policies/resolve").await.json();
    assert_eq!(resolved["origin"]["actions.secrets"], "tenants.default.standard", "{resolved:#}");
    assert_eq!(resolved["origin"]["actions.pii"], "standard");

    let changed = put(&app, "default", &first, &rego("default", BLOCK)).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_ne!(changed.header("etag"), first);
    assert_eq!(action(&app, "default").await, "block");

    let app = app.restart().await;
    assert_eq!(revision(&app).await, changed.header("x-policy-revision"));
    assert_eq!(action(&app, "default").await, "block");
    let read = get(&app, "default").await;
    assert_eq!(read.json()["overlay"], changed.json()["overlay"]);
    assert_eq!(read.header("etag"), changed.header("etag"));
    assert_eq!(
        read.json()["layers"],
        json!(["base", "standard", "tenants.default.standard", "floor"])
    );

    let etag = changed.header("etag");
    let back = send(
        &app,
        ("default", "POST", "/api/v1/policies/standard/rollback"),
        ("if-match", etag),
        &json!({"version": 1, "reason": "too strict"}),
    )
    .await;
    assert_eq!(back.status, 200, "{}", back.text);
    assert_eq!(back.json()["overlay"]["version"], 3);
    assert_eq!(back.header("x-policy-revision"), with_table, "equal content is one revision");

    let gone = send(
        &app,
        ("default", "DELETE", "/api/v1/policies/standard?reason=done"),
        ("if-match", back.header("etag")),
        &Value::Null,
    )
    .await;
    assert_eq!((gone.status, gone.header("x-policy-revision")), (204, before.as_str()));
    assert_eq!(action(&app, "default").await, "redact");
    assert_eq!(get(&app, "default").await.json()["overlay"], Value::Null);
    let versions = app.get("/api/v1/policies/standard/versions?limit=3").await.json();
    let found: Vec<_> = versions["versions"].as_array().unwrap().iter().collect();
    assert_eq!(found.iter().map(|v| v["version"].as_u64().unwrap()).collect::<Vec<_>>(), [4, 3, 2]);
    assert_eq!((&found[0]["deleted"], &found[1]["deleted"]), (&json!(true), &json!(false)));
    let rest = app.get("/api/v1/policies/standard/versions?cursor=2").await.json();
    assert_eq!((versions["next"].as_str(), &rest["next"]), (Some("2"), &Value::Null));
    assert_eq!(rest["versions"][0]["etag"], first.trim_matches('"'));
    audited(&app).await;
}

/// Four changes, each with actor, reason and the digests that the next one starts from.
async fn audited(app: &App) {
    let options = SqliteOptions::at(Place::File(app.path("data/orchestrator.db")));
    let store = Sqlite::open(&options).unwrap();
    let page = Page { limit: 10, before: None };
    let mut entries = store.entries(TenantId::parse("default").ok(), page).await.unwrap();
    entries.reverse();
    let entries: Vec<_> = entries.into_iter().map(|row| row.value).collect();
    let acts: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(acts, ["policy.put", "policy.put", "policy.rollback", "policy.delete"]);
    let reasons: Vec<&str> = entries.iter().map(|entry| entry.reason.as_str()).collect();
    assert_eq!(reasons, ["", "", "too strict", "done"]);
    assert!(entries.iter().all(|e| e.actor == "development" && e.target == "policy/standard"));
    assert_eq!((&entries[0].before, &entries[3].after), (&None, &None));
    for (one, next) in entries.iter().zip(&entries[1..]) {
        assert!(one.after.is_some() && one.after == next.before, "{one:?} {next:?}");
    }
    assert_eq!(entries[0].after, entries[2].after);
}

#[tokio::test]
async fn a_change_needs_the_tag_of_what_it_changes() {
    let app = spawn().await;
    let delete = async |etag: &str| {
        code(&send(&app, ("default", "DELETE", PATH), ("if-match", etag), &Value::Null).await)
    };
    let rollback = async |etag: &str, version: u64| {
        let path = "/api/v1/policies/standard/rollback";
        let body = json!({ "version": version });
        code(&send(&app, ("default", "POST", path), ("if-match", etag), &body).await)
    };
    let failed = (412, "PRECONDITION_FAILED".to_owned());
    let required = (428, "PRECONDITION_REQUIRED".to_owned());
    let missing = (404, "NOT_FOUND".to_owned());
    assert_eq!(code(&put(&app, "default", "\"x\"", &table("block")).await), failed);
    assert_eq!(delete("").await, missing);
    assert_eq!(rollback("", 1).await, missing);

    let created = put(&app, "default", "", &table("block")).await;
    let etag = created.header("etag");
    assert_eq!(code(&put(&app, "default", "", &table("flag")).await), required);
    let stale = put(&app, "default", "\"x\"", &table("flag")).await;
    assert_eq!((code(&stale), stale.header("etag")), (failed.clone(), etag), "the current tag");
    assert_eq!(etag.len(), 34, "{etag}");
    let create = ("if-none-match", "*");
    let again = send(&app, ("default", "PUT", PATH), create, &table("flag")).await;
    assert_eq!(code(&again), failed);
    assert_eq!(delete("").await, required);
    assert_eq!(delete("\"x\"").await, failed);
    assert_eq!(rollback("", 1).await, required);
    assert_eq!(rollback(etag, 2).await, missing);
    assert_eq!(action(&app, "default").await, "block");

    let nowhere = ("default", "PUT", "/api/v1/policies/nope");
    assert_eq!(code(&send(&app, nowhere, ("", ""), &table("flag")).await), missing);
    let foreign = send(&app, ("nobody", "PUT", PATH), ("", ""), &table("flag")).await;
    assert_eq!(code(&foreign), (403, "TENANT_MISMATCH".to_owned()));
}

#[tokio::test]
async fn what_is_not_valid_is_named_with_its_place_and_changes_nothing() {
    // A loop that never ends is given up after twenty times this limit.
    let settings = "config/settings.yaml";
    let app =
        spawn_with(|root| edit(root, settings, "eval_timeout: 50ms", "eval_timeout: 100ms")).await;
    let before = revision(&app).await;
    let mut foreign = rego("default", "");
    foreign["modules"][0]["rego"] = json!("package tenants.acme.standard\n");
    let looped = "block contains \"x\" if { some i in numbers.range(1, 4000); \
                  some j in numbers.range(1, 4000); i + j == -1 }";
    for (body, pointer, fault, line) in [
        (rego("default", "block contains x if {"), "/modules/0/rego", "syntax", 4),
        (
            rego("default", "block contains 1 if input.findngs"),
            "/modules/0/rego",
            "unknown_input",
            3,
        ),
        (rego("default", "block contains f(1)\nf(n) := f(n)"), "/modules/0/rego", "recursion", 4),
        (rego("default", "block contains data.tenants.acme.standard.x"), "/modules/0/rego", "", 3),
        (rego("default", "block contains http.send({})"), "/modules/0/rego", "", 3),
        (rego("default", looped), "", "probe_timeout", 0),
        (
            rego("default", "block contains 1 if [[[[[[[[[[[1]]]]]]]]]]]"),
            "/modules/0/rego",
            "too_deep",
            3,
        ),
        (foreign, "/modules/0/rego", "wrong_package", 1),
        (table("explode"), "/data/settings/actions/secrets", "", 4),
        (json!({"data": {"settings": {"action": {}}}}), "/data/settings/action", "unknown_key", 3),
    ] {
        let answer = put(&app, "default", "", &body).await;
        assert_eq!(code(&answer), (400, "POLICY_INVALID".to_owned()), "{body:#}");
        let problem = answer.json();
        let found = problem["errors"].as_array().unwrap().iter().find(|found| {
            (pointer.is_empty() || found["pointer"] == pointer)
                && (fault.is_empty() || found["code"] == fault)
        });
        let found = found.unwrap_or_else(|| panic!("{pointer} {fault}: {problem:#}"));
        assert!(line == 0 || found["line"] == line, "{line}: {problem:#}");
        assert!(found["column"].is_u64() && found["file"].is_string(), "{problem:#}");
        assert!(!answer.text.contains(app.dir.path().to_str().unwrap()), "{problem:#}");
    }
    for (body, pointer) in [
        (json!({}), "/modules"),
        (json!({"modules": [{"path": "../../x.rego", "rego": ""}]}), "/modules/0/path"),
        (json!({"modules": [], "date": {}}), "/date"),
        (json!({"data": {}, "reason": "x".repeat(501)}), "/reason"),
    ] {
        let answer = put(&app, "default", "", &body).await;
        assert_eq!(code(&answer), (400, "INVALID_REQUEST".to_owned()), "{body:#}");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{}", answer.text);
    }
    assert_eq!(revision(&app).await, before);
    let versions = app.get("/api/v1/policies/standard/versions").await.json();
    assert_eq!(versions, json!({"versions": [], "next": null}));
}

#[tokio::test]
async fn one_tenant_neither_sees_nor_feels_anothers_overlay() {
    let app = spawn_with(|root| {
        write(root, "config/tenants/b.yaml", "schema_version: 1\nid: b\npolicies: [standard]\n");
    })
    .await;
    let view = async || get(&app, "b").await.json()["view"].clone();
    let before = view().await;
    let mark = "zzmark";
    let body = rego("default", &BLOCK.replace("ours", mark));
    let created = put(&app, "default", "", &body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(view().await, before, "another tenant's view has changed");
    assert_eq!(
        (action(&app, "default").await, action(&app, "b").await),
        ("block".into(), "redact".into())
    );

    // Neither reading nor writing reaches it, whatever tag is sent.
    let etag = created.header("etag");
    assert_eq!(code(&put(&app, "b", etag, &table("flag")).await).0, 412);
    let delete = send(&app, ("b", "DELETE", PATH), ("if-match", etag), &Value::Null).await;
    assert_eq!(delete.status, 412, "{}", delete.text);
    let rollback = "/api/v1/policies/standard/rollback";
    let back = send(&app, ("b", "POST", rollback), ("", ""), &json!({"version": 1})).await;
    assert_eq!(back.status, 404, "{}", back.text);
    let reading = rego("b", "block contains data.tenants[\"default\"].standard.block");
    let refused = put(&app, "b", "", &reading).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    for path in
        [PATH, "/api/v1/policies", "/api/v1/policies/resolve", "/api/v1/policies/standard/versions"]
    {
        let seen = send(&app, ("b", "GET", path), ("", ""), &Value::Null).await;
        assert_eq!(seen.status, 200, "{path}: {}", seen.text);
        assert!(!seen.text.contains(mark) && !seen.text.contains(etag), "{path}: {}", seen.text);
    }
    assert!(!refused.text.contains(mark), "{}", refused.text);

    // A shadowed overlay is reported to its owner and not to its neighbour.
    write(app.dir.path(), "policies/tenants/default/standard/data.yaml", "settings: {}\n");
    let warnings = async |tenant: &str| {
        let generations = ("x-tenant-id", tenant);
        app.send("GET", "/api/v1/generations", &[generations], b"").await.json()["warnings"].clone()
    };
    let until = Instant::now() + Duration::from_secs(10);
    while warnings("default").await == json!([]) {
        assert!(Instant::now() < until, "never reported");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(warnings("b").await, json!([]));
}

#[tokio::test]
async fn a_file_wins_over_a_stored_overlay_and_that_is_reported() {
    let app = spawn().await;
    for method in ["PUT", "DELETE"] {
        let refused = send(&app, ("acme", method, PATH), ("", ""), &table("flag")).await;
        assert_eq!(code(&refused), (409, "ALREADY_EXISTS".to_owned()), "{method}");
    }
    let created = put(&app, "default", "", &table("block")).await;
    assert_eq!(action(&app, "default").await, "block");
    let file = "policies/tenants/default/standard/data.yaml";
    write(app.dir.path(), file, "settings: {actions: {secrets: review}}\n");
    let body = json!({"content": SECRET});
    app.ask_until(&body, |value| value["action"] == "review").await;
    let warnings = app.get("/api/v1/generations").await.json()["warnings"].clone();
    assert_eq!(warnings[0]["code"], "shadowed", "{warnings:#}");
    assert_eq!(warnings[0]["file"], "stored/tenants/default/standard");
    assert_eq!(get(&app, "default").await.json()["overlay"]["shadowed"], true);
    let etag = created.header("etag");
    assert_eq!(put(&app, "default", etag, &table("flag")).await.status, 409);

    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_orchestrator"))
        .args(["check", app.dir.path().to_str().unwrap()])
        .output()
        .unwrap();
    let shown = String::from_utf8(checked.stdout).unwrap();
    assert!(shown.contains("warning: stored/tenants/default/standard: shadowed"), "{shown}");
    assert!(shown.contains(&revision(&app).await), "{shown}");

    std::fs::remove_dir_all(app.path("policies/tenants/default")).unwrap();
    app.ask_until(&body, |value| value["action"] == "block").await;
    write(app.dir.path(), file, "settings: {actions: {secrets: review}}\n");
    app.ask_until(&body, |value| value["action"] == "review").await;
    let gone = send(&app, ("default", "DELETE", PATH), ("if-match", etag), &Value::Null).await;
    assert_eq!(gone.status, 204, "what is shadowed may be cleaned up: {}", gone.text);
    assert_eq!(app.get("/api/v1/generations").await.json()["warnings"], json!([]));
    assert_eq!(action(&app, "default").await, "review");
}

#[tokio::test]
async fn a_broken_file_holds_up_no_change_and_a_change_hides_no_broken_file() {
    let app = spawn().await;
    let good = std::fs::read_to_string(app.path("policies/standard/data.yaml")).unwrap();
    let path = "policies/standard/data.yaml";
    write(app.dir.path(), path, "settings: {actions: {secrets: explode}}\n");
    let faults = async || app.get("/api/v1/generations").await.json()["faults"].clone();
    let wait = async |broken: bool| {
        let until = Instant::now() + Duration::from_secs(10);
        while (faults().await != json!([])) != broken {
            assert!(Instant::now() < until, "faults: {}", faults().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    wait(true).await;
    let created = put(&app, "default", "", &table("block")).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(action(&app, "default").await, "block");
    assert_ne!(faults().await, json!([]));
    write(app.dir.path(), path, &format!("{good}# mended\n"));
    wait(false).await;
    assert_eq!(action(&app, "default").await, "block", "the reload lost the overlay");
    assert_ne!(revision(&app).await, created.header("x-policy-revision"));
}

#[tokio::test]
async fn an_overlay_is_stored_only_if_the_tests_that_come_with_it_pass() {
    let app = spawn().await;
    let with_test = |package: &str, test: &str| {
        let mut body = rego("default", BLOCK);
        let text = format!(
            "package tenants.default.standard{package}\n\nimport data.tenants.default.standard\n\n{test}\n"
        );
        let module = json!({"path": "verdict_test.rego", "rego": text});
        body["modules"].as_array_mut().unwrap().push(module);
        body
    };
    let input = "{\"findings\": [{\"id\": 0}]}";
    let counts = |n: u8| {
        format!("test_blocks if {{\n\tcount(standard.block) == {n} with input as {input}\n}}")
    };
    let many: Vec<String> = (0..101).map(|n| format!("test_{n} if true")).collect();
    let crowd = put(&app, "default", "", &with_test("_test", &many.join("\n"))).await;
    assert_eq!(crowd.json()["errors"][0]["code"], "too_many_tests", "{}", crowd.text);
    for (body, fault, line) in [
        (with_test("_test", &counts(2)), "test_failed", 6),
        (with_test("_test", "test_x if {"), "syntax", 6),
        (with_test("", &counts(1)), "wrong_package", 1),
        (
            with_test("_test", "test_x if data.tenants.acme.standard.block"),
            "undefined_reference",
            5,
        ),
    ] {
        let answer = put(&app, "default", "", &body).await;
        assert_eq!(code(&answer), (400, "POLICY_INVALID".to_owned()), "{fault}: {}", answer.text);
        let error = answer.json()["errors"][0].clone();
        assert_eq!(
            (error["code"].as_str(), error["line"].as_u64()),
            (Some(fault), Some(line)),
            "{error:#}"
        );
        assert_eq!(error["file"], "verdict_test.rego");
        assert_eq!(error["pointer"], "/modules/1/rego");
    }
    let answer = put(&app, "default", "", &with_test("_test", &counts(1))).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(action(&app, "default").await, "block");
    let app = app.restart().await;
    assert_eq!(action(&app, "default").await, "block");
}
