//! What must hold before an overlay serves, and what follows when it no longer does.

use super::*;

const PASSING: &str = "- name: a secret blocks
  request: {content: \"key AKIAZ3VQ7JRTLWXK5P2D\"}
  expect: {action: block, reasons: [secrets.aws_access_key]}
- name: an insult blocks
  findings: [{category: toxicity.insult, score: 0.9}]
  expect: {action: block}
";

fn with_cases(yaml: &str) -> Value {
    let mut body = rego("default", BLOCK);
    body["cases"] = json!([{"path": "verdict_cases.yaml", "yaml": yaml}]);
    body
}

/// The overlay that reads a rule of the bundle, and that rule.
const READS: &str = "block contains \"x\" if data.standard.helps";
const HELPS: &str = "package standard\n\nhelps if input.request.type == \"text\"\n";
const HELPER: &str = "policies/standard/helper.rego";

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_overlay_that_files_break_answers_by_fail_mode_and_holds_nobody_up() {
    let app = spawn_with(|root| write(root, HELPER, HELPS)).await;
    write(
        app.dir.path(),
        "config/tenants/b.yaml",
        "schema_version: 1\nid: b\npolicies: [standard]\n",
    );
    let created = put(&app, "default", "", &rego("default", READS)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let ask =
        async |tenant: &str| app.ask(&json!({"content": SECRET, "tenant_id": tenant})).await.json();
    assert_eq!(ask("default").await["action"], "block");

    // One change takes the rule away and tightens another tenant's policy.
    std::fs::remove_file(app.path(HELPER)).unwrap();
    app.edit("policies/standard/data.yaml", "secrets: redact", "secrets: block");
    until("the change serves", async || ask("b").await["action"] == "block").await;
    let answer = ask("default").await;
    assert_eq!(answer["action"], "review", "{answer:#}");
    assert_eq!(answer["degraded"][0]["what"], "overlay_broken", "{answer:#}");
    assert_eq!(answer["degraded"].as_array().unwrap().len(), 1, "{answer:#}");
    assert_eq!(ask("b").await.get("degraded"), None);
    told(&app, true).await;

    // The floor holds, and so do the tenant's modes, over a restart too.
    app.edit("policies/floor/data.yaml", "secrets.private_key: redact", "secrets: block");
    until("the floor blocks", async || ask("default").await["action"] == "block").await;
    app.edit("policies/floor/data.yaml", "secrets: block", "secrets.private_key: redact");
    until("it is taken back", async || ask("default").await["action"] == "review").await;
    app.edit("config/tenants/default.yaml", "tier:", "fail_mode: block\ntier:");
    until("the tenant fails to block", async || ask("default").await["action"] == "block").await;
    let app = app.restart().await;
    told(&app, true).await;
    let other = app.ask(&json!({"content": "Hello", "policy": "strict"})).await.json();
    assert_eq!((&other["action"], other.get("degraded")), (&json!("allow"), None), "{other:#}");

    // A new overlay is held against the files as they are; the old one cannot come back.
    let etag = created.header("etag");
    let again = put(&app, "default", etag, &rego("default", READS)).await;
    assert_eq!(code(&again), (400, "POLICY_INVALID".to_owned()));
    let mended = put(&app, "default", etag, &table("review")).await;
    assert_eq!(mended.status, 200, "{}", mended.text);
    told(&app, false).await;
    assert_eq!(action(&app, "default").await, "review");
}

/// Every place that names a broken overlay does, or none.
async fn told(app: &App, broken: bool) {
    let generations = app.get("/api/v1/generations").await.json();
    assert_eq!(generations["faults"], json!([]), "{generations:#}");
    let warnings = generations["warnings"].as_array().unwrap();
    let own = |code: &str| {
        let folder = "stored/tenants/default/standard";
        warnings
            .iter()
            .any(|w| w["code"] == code && w["file"].as_str().unwrap().starts_with(folder))
    };
    assert_eq!(own("overlay_broken"), broken, "{generations:#}");
    assert_eq!(own("undefined_reference"), broken, "{generations:#}");
    let policies = app.get("/api/v1/policies").await.json();
    assert_eq!(policies["policies"][0]["broken"], broken, "{policies:#}");
    assert_eq!(policies["policies"][1]["broken"], false, "{policies:#}");
    let metrics = app.get("/metrics").await.text;
    let line = format!("orchestrator_policy_overlays_broken {}", u8::from(broken));
    assert!(metrics.contains(&line), "{line}: {metrics}");
}

#[tokio::test]
async fn an_overlay_of_the_operators_own_files_that_breaks_still_refuses_the_change() {
    let app = spawn_with(|root| {
        write(root, HELPER, HELPS);
        let text = format!("package tenants.default.standard\n\n{READS}\n");
        write(root, "policies/tenants/default/standard/verdict.rego", &text);
    })
    .await;
    let before = revision(&app).await;
    std::fs::remove_file(app.path(HELPER)).unwrap();
    let faults = async || app.get("/api/v1/generations").await.json()["faults"].clone();
    until("it is refused", async || faults().await != json!([])).await;
    assert_eq!((revision(&app).await, action(&app, "default").await), (before, "block".into()));
}

#[tokio::test]
async fn cases_that_come_with_an_overlay_must_hold_before_it_serves() {
    let app = spawn().await;
    let before = revision(&app).await;
    let remote =
        "name: far\nprotocol: native\nendpoint: http://127.0.0.1:9/\ncategories: [toxicity]\n";
    let case = |expect: &str| {
        format!("- name: one\n  request: {{content: \"{SECRET}\"}}\n  expect: {{{expect}}}\n")
    };
    let allowed = case("action: allow");
    let denied = case("denied: true");
    let foreign = allowed.replace("  request", "  tenant: acme\n  request");
    let many: String =
        (0..101).map(|n| case("action: block").replace("one", &format!("n{n}"))).collect();
    for (yaml, code_wanted, line, words) in [
        (allowed.as_str(), "case_failed", 1, "expected allow, got block"),
        (denied.as_str(), "case_failed", 1, "expected a denial, got block"),
        (foreign.as_str(), "foreign_case", 1, "another tenant"),
        (many.as_str(), "too_many_cases", 301, "at most 100"),
        ("- name: one\n  expect: {action: block}\n", "bad_case", 1, "request, findings"),
        (&case("action: block, denied: true"), "bad_case", 1, "action, denied"),
        (
            "- name: one\n  findings: [{category: no.such}]\n  expect: {action: block}\n",
            "bad_value",
            2,
            "no.such",
        ),
        (
            "- name: one\n  request: {contents: x}\n  expect: {action: block}\n",
            "case_error",
            1,
            "contents",
        ),
        ("{", "", 0, ""),
    ] {
        let refused = put(&app, "default", "", &with_cases(yaml)).await;
        assert_eq!(code(&refused), (400, "POLICY_INVALID".to_owned()), "{yaml}");
        let found = refused.json()["errors"][0].clone();
        assert_eq!(found["pointer"], "/cases/0/yaml", "{found:#}");
        assert_eq!(found["file"], "verdict_cases.yaml", "{found:#}");
        assert!(code_wanted.is_empty() || found["code"] == code_wanted, "{found:#}");
        assert!(line == 0 || found["line"] == line, "{found:#}");
        assert!(found["detail"].as_str().unwrap().contains(words), "{found:#}");
        assert!(found["hint"].is_string(), "{found:#}");
    }
    let mut nowhere = with_cases(PASSING);
    nowhere["cases"][0]["path"] = json!("../x_cases.yaml");
    let refused = put(&app, "default", "", &nowhere).await;
    assert_eq!(refused.json()["errors"][0]["pointer"], "/cases/0/path", "{}", refused.text);
    assert_eq!(revision(&app).await, before);

    let created = put(&app, "default", "", &with_cases(PASSING)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(created.json()["overlay"]["cases"][0]["yaml"], PASSING);
    assert_eq!(get(&app, "default").await.json()["overlay"]["cases"][0]["yaml"], PASSING);
    // Trying a policy is no decision.
    let metrics = app.get("/metrics").await.text;
    assert!(!metrics.contains("orchestrator_decisions_total{"), "{metrics}");
    assert!(!metrics.contains("orchestrator_detector_calls_total{"), "{metrics}");

    // A remote detector is left out, and where it must answer the case says what to do.
    write(app.dir.path(), "detectors/far.yaml", remote);
    until("it is there", async || app.get("/api/v1/detectors").await.text.contains("\"far\""))
        .await;
    let mut body = with_cases(PASSING);
    body["data"] = json!({"settings": {"optional": ["far"]}});
    let changed = put(&app, "default", created.header("etag"), &body).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    body["data"] = json!({"settings": {"required": ["far"]}});
    let refused = put(&app, "default", changed.header("etag"), &body).await;
    let found = refused.json()["errors"].clone();
    assert_eq!(found.as_array().unwrap().len(), 1, "`findings` stand in: {found:#}");
    let detail = found[0]["detail"].as_str().unwrap();
    assert!(detail.contains("`far`") && detail.contains("give `findings`"), "{found:#}");
}

#[tokio::test]
async fn what_is_probably_not_meant_is_told_when_it_is_stored() {
    let app = spawn().await;
    let odd = "blok contains \"x\" if input.request.type == \"code\"\n\nmode := \"monitor\"";
    let created = put(&app, "default", "", &rego("default", odd)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let warnings = created.json()["warnings"].clone();
    for (line, token) in [(3, "`blok`"), (5, "`mode`")] {
        let found: Vec<_> = warnings
            .as_array()
            .unwrap()
            .iter()
            .filter(|found| found["line"] == line)
            .filter(|found| found["message"].as_str().unwrap().contains(token))
            .collect();
        assert_eq!(found.len(), 1, "{token}: {warnings:#}");
        assert_eq!(found[0]["file"], "stored/tenants/default/standard/verdict.rego");
    }
    let text = "package a\n\nblok contains \"x\" if input.request.type == \"code\"\n";
    let body = json!({"modules": [{"path": "a.rego", "rego": text}]});
    let checked = app.post("/api/v1/policies/validate", &body).await.json();
    assert_eq!(checked["warnings"][0]["hint"], "write `block`, or remove the rule", "{checked:#}");
    assert_eq!(checked["is_valid"], true);
    let etag = created.header("etag");
    let sound = put(&app, "default", etag, &table("block")).await;
    assert_eq!(sound.json()["warnings"], json!([]), "{}", sound.text);
}

#[tokio::test]
async fn a_case_may_expect_that_the_plan_refuses() {
    let app = spawn().await;
    let deny = "deny contains \"no code here\" if input.request.type == \"code\"";
    let mut body = rego("default", deny);
    let yaml = |content_type: &str, expect: &str| {
        format!(
            "- name: one\n  request: {{content: Hi, type: {content_type}}}\n  expect: {{{expect}}}\n"
        )
    };
    body["cases"] = json!([{"path": "a_cases.yaml", "yaml": yaml("code", "action: allow")}]);
    let refused = put(&app, "default", "", &body).await;
    let detail = refused.json()["errors"][0]["detail"].clone();
    let wanted = "expected allow, got a denial: no code here";
    assert!(detail.as_str().unwrap().contains(wanted), "{detail}");
    body["cases"][0]["yaml"] = json!(yaml("text", "denied: true"));
    assert_eq!(put(&app, "default", "", &body).await.status, 400);
    body["cases"][0]["yaml"] = json!(yaml("code", "denied: true"));
    let created = put(&app, "default", "", &body).await;
    assert_eq!(created.status, 201, "{}", created.text);
}

#[tokio::test]
async fn a_version_that_is_no_longer_kept_says_so() {
    let app = spawn_with(|root| {
        crate::app::edit(root, "config/settings.yaml", "versions_max: 50", "versions_max: 2");
    })
    .await;
    let mut etag = String::new();
    for word in ["block", "review", "flag"] {
        etag = put(&app, "default", &etag, &table(word)).await.header("etag").to_owned();
    }
    let versions = app.get("/api/v1/policies/standard/versions").await.json();
    let kept: Vec<u64> = versions["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["version"].as_u64().unwrap())
        .collect();
    assert_eq!(kept, [3, 2]);
    let rollback = async |version: u64| {
        let path = "/api/v1/policies/standard/rollback";
        let body = json!({ "version": version });
        send(&app, ("default", "POST", path), ("if-match", &etag), &body).await
    };
    let gone = rollback(1).await;
    assert_eq!(code(&gone), (404, "NOT_FOUND".to_owned()));
    assert!(gone.text.contains("no longer kept, only the newest 2"), "{}", gone.text);
    let never = rollback(9).await;
    assert_eq!(code(&never), (404, "NOT_FOUND".to_owned()));
    assert!(!never.text.contains("no longer kept"), "{}", never.text);
    assert_eq!(rollback(2).await.status, 200);
    assert_eq!(action(&app, "default").await, "review");
}
