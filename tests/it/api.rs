//! The API as a caller meets it.

use serde_json::{Value, json};

use crate::app::{edit, spawn, spawn_with, write};

const EXAMPLE: &str = "Mail ana@evil.io, key AKIAZ3VQ7JRTLWXK5P2D";

#[tokio::test]
async fn the_smallest_request_gets_the_documented_answer() {
    let app = spawn().await;
    let answer = app.ask(&json!({"content": EXAMPLE})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let value = answer.json();
    assert_eq!(value["action"], "redact");
    assert_eq!(value["allowed"], true);
    assert_eq!(value["content"], "Mail [EMAIL], key [AWS_ACCESS_KEY]");
    assert_eq!(
        value["reasons"],
        json!([
            {"code": "pii.email", "message": "e-mail address redacted"},
            {"code": "secrets.aws_access_key", "message": "secret redacted"}
        ])
    );
    let finding = &value["findings"][0];
    assert_eq!(finding["category"], "pii.email");
    assert_eq!(finding["label"], "EMAIL");
    assert_eq!(finding["score"], 0.98);
    assert_eq!(finding["severity"], "medium");
    assert_eq!(finding["detectors"], json!(["pii"]));
    assert_eq!(finding["span"], json!({"pointer": "/content", "start": 5, "end": 16}));
    assert_eq!(value["coverage"], json!({"complete": true, "achieved": 1.0}));
    assert_eq!(value["unjudged"], json!([]));
    assert_eq!(value["policy"]["name"], "standard");
    assert_eq!(value["policy"]["revision"], answer.header("x-policy-revision"));
    assert_eq!(value["request_id"], answer.header("x-request-id"));
}

#[tokio::test]
async fn spans_come_in_the_unit_that_was_asked_for() {
    let app = spawn().await;
    for (unit, start, end) in [("codepoint", 3, 14), ("utf16", 4, 15), ("byte", 7, 18)] {
        let body = json!({"content": "😀é ana@evil.io", "offsets": unit});
        let value = app.ask(&body).await.json();
        let span = &value["findings"][0]["span"];
        assert_eq!(
            (span["start"].as_u64(), span["end"].as_u64()),
            (Some(start), Some(end)),
            "{unit}"
        );
    }
}

#[tokio::test]
async fn messages_keep_their_shape_and_only_the_last_is_judged() {
    let app = spawn().await;
    let messages = json!([
        {"role": "user", "content": "I am eve@evil.io"},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello ana@evil.io"}]}
    ]);
    let value = app.ask(&json!({"messages": messages})).await.json();
    assert_eq!(value["messages"][0]["content"], "I am eve@evil.io");
    assert_eq!(value["messages"][1]["content"][0]["text"], "Hello [EMAIL]");
    assert_eq!(value["findings"][0]["span"]["pointer"], "/messages/1/content/0/text");
    let value = app.ask(&json!({"messages": messages, "judge": "all"})).await.json();
    assert_eq!(value["messages"][0]["content"], "I am [EMAIL]");
}

#[tokio::test]
async fn an_image_that_nobody_can_judge_is_named_and_reviewed() {
    let app = spawn().await;
    let body = json!({"content": [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    ]});
    let answer = app.ask(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let value = answer.json();
    assert_eq!(value["coverage"]["complete"], false);
    assert_eq!(value["action"], "review");
    let gap =
        value["unjudged"].as_array().unwrap().iter().find(|gap| gap["pointer"] == "/content/1");
    assert!(gap.is_some(), "{value:#}");
}

#[tokio::test]
async fn every_bad_request_names_its_fault() {
    let app = spawn().await;
    let long = "x".repeat(1_000_001);
    let deep = format!(r#"{{"content":"x","metadata":{}1{}}}"#, "[".repeat(300), "]".repeat(300));
    let cases: Vec<(String, u16, &str, &str)> = vec![
        ("{}".into(), 400, "INVALID_REQUEST", "/content"),
        (r#"{"content":""}"#.into(), 400, "INVALID_REQUEST", "/content"),
        (r#"{"content":[]}"#.into(), 400, "INVALID_REQUEST", "/content"),
        (r#"{"content":7}"#.into(), 400, "INVALID_REQUEST", "/content"),
        (r#"{"content":"x","messages":[]}"#.into(), 400, "INVALID_REQUEST", "/messages"),
        (r#"{"messages":[]}"#.into(), 400, "INVALID_REQUEST", "/messages"),
        (r#"{"contant":"x"}"#.into(), 400, "INVALID_REQUEST", "/contant"),
        (r#"{"content":"x","content":"y"}"#.into(), 400, "INVALID_REQUEST", ""),
        (r#"{"content":"x","metadata":{"a":1,"a":2}}"#.into(), 400, "INVALID_REQUEST", "/metadata"),
        (deep, 400, "INVALID_REQUEST", "/metadata"),
        (format!(r#"{{"content":"{long}"}}"#), 400, "INVALID_REQUEST", "/content"),
        (
            r#"{"content":"x","detectors":[["pii"],[],[],{},{}]}"#.into(),
            400,
            "INVALID_REQUEST",
            "/detectors",
        ),
        (r#"{"content":[["text","x"]]}"#.into(), 400, "INVALID_REQUEST", "/content/0"),
        (r#"{"messages":[["user","x"]]}"#.into(), 400, "INVALID_REQUEST", "/messages/0"),
        (r#"{"content":"x","stream":{}}"#.into(), 400, "INVALID_REQUEST", "/stream"),
        (
            r#"{"content":"x","detectors":{"add":["nope"]}}"#.into(),
            400,
            "INVALID_REQUEST",
            "/detectors/add/0",
        ),
        (
            r#"{"content":"x","detectors":{"thresholds":{"pii":2}}}"#.into(),
            400,
            "INVALID_REQUEST",
            "/detectors/thresholds/pii",
        ),
        (
            r#"{"content":"x","detectors":{"thresholds":{"pie":0.2}}}"#.into(),
            400,
            "INVALID_REQUEST",
            "/detectors/thresholds/pie",
        ),
        (r#"{"content":"x","policy":"nope"}"#.into(), 400, "POLICY_NOT_FOUND", "/policy"),
        (r#"{"content":"x","tenant_id":"nope"}"#.into(), 403, "TENANT_MISMATCH", "/tenant_id"),
        (r#"{"content":"x"#.into(), 400, "INVALID_REQUEST", "/content"),
        ("\u{0}\u{1}".into(), 400, "INVALID_REQUEST", ""),
    ];
    for (body, status, code, pointer) in cases {
        let shown: String = body.chars().take(80).collect();
        let headers = [("content-type", "application/json")];
        let answer = app.send("POST", "/api/v1/orchestrate", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{shown}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{shown}: {problem:#}");
        assert_eq!(
            problem["errors"][0]["pointer"].as_str().unwrap_or_default(),
            pointer,
            "{shown}: {problem:#}"
        );
        assert_eq!(problem["request_id"], answer.header("x-request-id"));
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_or_too_large_are_refused_by_kind() {
    let app = spawn().await;
    let path = "/api/v1/orchestrate";
    let plain = app.send("POST", path, &[("content-type", "text/plain")], b"{}").await;
    assert_eq!(
        (plain.status, plain.json()["code"].as_str()),
        (415, Some("UNSUPPORTED_MEDIA_TYPE"))
    );
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let zipped = app.send("POST", path, &headers, b"{}").await;
    assert_eq!(zipped.status, 415);
    let large = vec![b' '; 10 * 1024 * 1024 + 1];
    let large = app.send("POST", path, &headers[..1], &large).await;
    assert_eq!((large.status, large.json()["code"].as_str()), (413, Some("PAYLOAD_TOO_LARGE")));
}

#[tokio::test]
async fn a_request_id_is_echoed_and_a_bad_one_is_refused_under_a_fresh_one() {
    let app = spawn().await;
    let good = app.send("GET", "/health", &[("x-request-id", "abc_1-Z")], b"").await;
    assert_eq!(good.header("x-request-id"), "abc_1-Z");
    let alias = app.send("GET", "/health", &[("x-correlation-id", "abc")], b"").await;
    assert_eq!(alias.header("x-request-id"), "abc");
    let bad = app.send("GET", "/health", &[("x-request-id", "a b")], b"").await;
    assert_eq!(bad.status, 400);
    assert_ne!(bad.header("x-request-id"), "a b");
}

#[tokio::test]
async fn two_tenants_get_different_plans_and_verdicts_for_the_same_content() {
    let app = spawn().await;
    let ask = |tenant: &'static str| {
        let body = json!({"content": EXAMPLE, "tenant_id": tenant, "include": ["plan"]});
        let app = &app;
        async move { app.ask(&body).await.json() }
    };
    let (default, acme) = (ask("default").await, ask("acme").await);
    assert_eq!(default["action"], "redact", "{default:#}");
    assert_eq!(acme["action"], "block", "{acme:#}");
    assert_eq!(acme["allowed"], false);
    assert_ne!(default["plan"]["policy_layers"], acme["plan"]["policy_layers"]);
    let header = [("content-type", "application/json"), ("x-tenant-id", "acme")];
    let body = json!({"content": EXAMPLE}).to_string();
    let by_header = app.send("POST", "/api/v1/orchestrate", &header, body.as_bytes()).await;
    assert_eq!(by_header.json()["action"], "block");
    let body = json!({"content": EXAMPLE, "tenant_id": "default"}).to_string();
    let both = app.send("POST", "/api/v1/orchestrate", &header, body.as_bytes()).await;
    assert_eq!((both.status, both.json()["code"].as_str()), (403, Some("TENANT_MISMATCH")));
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_a_bad_item_fails_alone() {
    let app = spawn().await;
    let batch = json!({"requests": [
        {"content": "plain words"}, {"content": ""}, {"content": EXAMPLE},
        {"content": "x", "tenant_id": "nope"}
    ]});
    let value = app.post("/api/v1/orchestrate/batch", &batch).await.json();
    assert_eq!((value["succeeded"].as_u64(), value["failed"].as_u64()), (Some(2), Some(2)));
    let results = value["results"].as_array().unwrap();
    let statuses: Vec<u64> = results.iter().map(|r| r["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 400, 200, 403]);
    assert_eq!(results[0]["response"]["action"], "allow");
    assert_eq!(results[1]["problem"]["errors"][0]["pointer"], "/requests/1/content");
    assert_eq!(results[2]["response"]["action"], "redact");
    let empty = app.post("/api/v1/orchestrate/batch", &json!({"requests": []})).await;
    assert_eq!(empty.json()["code"], "EMPTY_BATCH");
    let many: Vec<Value> = (0..101).map(|_| json!({"content": "x"})).collect();
    let large = app.post("/api/v1/orchestrate/batch", &json!({"requests": many})).await;
    assert_eq!(large.json()["code"], "BATCH_TOO_LARGE");
}

#[tokio::test]
async fn tightening_is_free_and_loosening_is_named() {
    let app = spawn().await;
    let tight = json!({"content": "x", "detectors": {"add": ["echo"], "thresholds": {"pii": 0.1}}});
    let value = app.ask(&tight).await.json();
    assert!(value.get("relaxed").is_none(), "{value:#}");
    let loose = json!({"content": EXAMPLE, "detectors": {"exclude": ["pii"]}, "include": ["plan"]});
    let value = app.ask(&loose).await.json();
    assert_eq!(value["relaxed"], json!(["/detectors/exclude/0"]), "{value:#}");
    assert!(!value["plan"]["required"].as_array().unwrap().contains(&json!("pii")));
}

#[tokio::test]
async fn monitor_mode_tells_what_would_have_happened() {
    let app = spawn_with(|root| {
        write(
            root,
            "config/tenants/watch.yaml",
            "schema_version: 1\nid: watch\nmode: monitor\npolicies: [standard]\n",
        );
    })
    .await;
    let body = json!({"content": "Mail ana@evil.io", "tenant_id": "watch"});
    let value = app.ask(&body).await.json();
    assert_eq!(
        (value["action"].as_str(), value["would"].as_str()),
        (Some("allow"), Some("redact"))
    );
    assert_eq!(value["reasons"][0]["code"], "pii.email");
}

#[tokio::test]
async fn unknown_paths_methods_and_query_parameters_are_refused() {
    let app = spawn().await;
    let lost = app.get("/api/v1/nowhere").await;
    assert_eq!((lost.status, lost.json()["code"].as_str()), (404, Some("NOT_FOUND")));
    assert_eq!(app.get("/api/v1/orchestrate").await.status, 405);
    assert_eq!(app.get("/api/v1/breakers?x=1").await.status, 400);
    assert_eq!(app.get("/api/v1/detectors?limit=0").await.status, 400);
    assert_eq!(app.get("/api/v1/detectors?context=nope").await.status, 400);
}

#[tokio::test]
async fn health_and_console_answer_head_without_a_body() {
    let app = spawn().await;
    for path in ["/health", "/api/v1/health/ready", "/health/detailed", "/console/", "/console"] {
        let (get, head) = (app.get(path).await, app.send("HEAD", path, &[], b"").await);
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
    let other = app.send("HEAD", "/metrics", &[], b"").await;
    assert_eq!((other.status, other.header("allow")), (405, "GET"));
}

#[tokio::test]
async fn a_document_with_a_key_that_no_document_has_is_refused() {
    let app = spawn().await;
    let ask = async |input: Value| {
        let body = json!({"point": "verdict", "input": input});
        app.post("/api/v1/policies/evaluate", &body).await
    };
    for (input, pointer, hint) in [
        (json!({"finding": []}), "/input/finding", "write `findings`"),
        (
            json!({"findings": [{"catgory": "pii"}]}),
            "/input/findings/0/catgory",
            "write `category`",
        ),
        (json!({"tenant": {"teir": "x"}}), "/input/tenant/teir", "write `tier`"),
        (json!(null), "/input", "policies/schemas/verdict.json"),
        (json!("findings"), "/input", "must be an object"),
        (json!({"findings": {"0": {}}}), "/input/findings", "must be a list"),
        (json!({"findings": [{"id": "0"}]}), "/input/findings/0/id", "must be a whole number"),
        (json!({"findings": [{"severity": "hihg"}]}), "/input/findings/0/severity", "write `high`"),
        (json!({"tenant": {"labels": {"eu": 1}}}), "/input/tenant/labels/eu", "must be a text"),
        (json!({"settings": null}), "/input/settings", "is null"),
    ] {
        let refused = ask(input).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        let error = &refused.json()["errors"][0];
        assert_eq!(error["pointer"], pointer, "{error}");
        assert!(error["detail"].as_str().unwrap().contains(hint), "{error}");
    }
    let open = json!({"metadata": {"anything": 1}, "tenant": {"labels": {"eu": "x"}},
        "findings": [{"id": 0, "score": 1}], "settings": {"custom": {"any": [null]}}});
    assert_eq!(ask(open).await.status, 200);
}

#[tokio::test]
async fn operators_see_health_breakers_metrics_and_may_intervene() {
    let app = spawn().await;
    for path in ["/health", "/health/live", "/health/ready", "/health/startup", "/api/v1/health"] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    app.ask(&json!({"content": EXAMPLE})).await;
    app.ask(&json!({"content": EXAMPLE})).await;
    let metrics = app.get("/metrics").await.text;
    assert!(metrics.contains("orchestrator_decisions_total"), "{metrics}");
    for result in ["hit", "miss"] {
        let line =
            format!("orchestrator_policy_memo_total{{point=\"plan\",result=\"{result}\"}} 1");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    assert!(metrics.contains("orchestrator_policy_eval_seconds_count{point=\"verdict\"} 1"));
    let reason = json!({"reason": "drill"});
    let open = app.post("/api/v1/breakers/pii/open", &reason).await;
    assert_eq!(open.json()["breakers"][0]["state"], "open", "{}", open.text);
    let value = app.ask(&json!({"content": EXAMPLE, "include": ["detectors"]})).await.json();
    assert!(value.get("explain").is_none());
    let told = app.ask(&json!({"content": EXAMPLE, "include": ["explain"]})).await.json();
    let held = |rule: &str| told["explain"].as_array().unwrap().iter().find(|h| h["rule"] == rule);
    let redact = held("redact").unwrap();
    assert_eq!(redact["layer"], "standard");
    assert!(redact["positions"][0].as_str().unwrap().starts_with("standard/verdict.rego:"));
    assert!(held("required").is_some(), "the plan is explained too");
    let pii = value["detectors"].as_array().unwrap().iter().find(|d| d["name"] == "pii").unwrap();
    assert_eq!(
        (pii["status"].as_str(), pii["error"].as_str()),
        (Some("unavailable"), Some("circuit_open"))
    );
    assert_eq!(
        (value["action"].as_str(), value["coverage"]["complete"].as_bool()),
        (Some("review"), Some(false))
    );
    assert_eq!(app.get("/health/detailed").await.json()["status"], "degraded");
    let reset = app.post("/api/v1/breakers/pii/reset", &reason).await.json();
    assert_eq!(reset["breakers"][0]["state"], "closed");
    assert_eq!(app.post("/api/v1/breakers/nope/open", &reason).await.status, 404);
    assert_eq!(app.post("/api/v1/breakers/pii/open", &json!({"reason": ""})).await.status, 400);
}

#[tokio::test]
async fn policies_can_be_listed_resolved_evaluated_and_validated() {
    let app = spawn().await;
    let list = app.get("/api/v1/policies").await.json();
    assert_eq!(list["policies"][0]["name"], "standard", "{list:#}");
    let resolved = app.get("/api/v1/policies/resolve").await.json();
    assert_eq!(resolved["settings"]["actions"]["secrets"], "redact", "{resolved:#}");
    assert_eq!(
        app.get("/api/v1/policies/resolve?policy=nope").await.json()["code"],
        "POLICY_NOT_FOUND"
    );
    let plan = app
        .post(
            "/api/v1/policies/evaluate",
            &json!({"policy": "standard", "point": "plan", "input": {}}),
        )
        .await;
    assert_eq!(plan.status, 200, "{}", plan.text);
    assert!(plan.json()["result"]["required"].is_array(), "{}", plan.text);
    let good = json!({"modules": [{"path": "a.rego", "rego": "package a\n\nblock contains \"x\" if input.request.type == \"code\"\n"}]});
    let value = app.post("/api/v1/policies/validate", &good).await.json();
    assert_eq!(value["is_valid"], true, "{value:#}");
    let bad = json!({"modules": [{"path": "a.rego", "rego": "package a\n\nblock contains x if {\n  x := input.fndings\n"}]});
    let value = app.post("/api/v1/policies/validate", &bad).await.json();
    assert_eq!(value["is_valid"], false);
    assert!(value["errors"][0]["line"].as_u64().unwrap() > 0, "{value:#}");
    let nested = json!({"modules": [{"path": "a.rego", "rego": format!("package a\nx := {}1{}", "[".repeat(31), "]".repeat(31))}]});
    let before = std::time::Instant::now();
    let value = app.post("/api/v1/policies/validate", &nested).await.json();
    assert_eq!(value["is_valid"], false);
    assert!(before.elapsed().as_secs() < 5, "the scanner let it through");
    let held = json!({"policy": "standard", "results": [{"detector": "pii", "findings": [{"category": "pii.ssn", "label": "SSN", "score": 0.9}]}]});
    let value = app.post("/api/v1/policies/validate", &held).await.json();
    assert_eq!(value["is_valid"], false, "{value:#}");
    assert_eq!(value["violations"][0]["policy_id"], "standard", "{value:#}");
}

#[tokio::test]
async fn the_document_lists_every_route_and_the_page_needs_no_network() {
    let app = spawn().await;
    let document = app.get("/openapi.json").await.json();
    for path in
        ["/api/v1/orchestrate", "/api/v1/policies/validate", "/api/v1/breakers/{detector}/{how}"]
    {
        assert!(document["paths"].get(path).is_some(), "{path}");
    }
    let page = app.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(!page.text.contains("https://"), "{}", page.text);
}

#[tokio::test]
async fn who_gives_less_time_than_the_tenant_does_not_escape_a_detector() {
    // Takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let app = spawn_with(|root| {
        let text = "name: slow\nprotocol: native\nendpoint: http://ADDRESS/analyze\n\
                    categories: [toxicity]\ntimeout: 5s\nhealth: {path: ''}\n";
        write(root, "detectors/slow.yaml", &text.replace("ADDRESS", &address.to_string()));
        edit(
            root,
            "policies/standard/data.yaml",
            "optional: [prompt-injection]",
            "optional: [slow]",
        );
    })
    .await;
    let ask = async |more: Value| {
        let mut body = json!({"content": "hello"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        app.ask(&body).await.json()
    };
    let hurried = ask(json!({"timeout_ms": 100})).await;
    assert_eq!(
        (&hurried["action"], &hurried["degraded"][0]["what"]),
        (&json!("review"), &json!("timeout_ms")),
        "{hurried:#}"
    );
}

#[tokio::test]
async fn wishes_are_bounded() {
    let app = spawn().await;
    for list in ["only", "add", "exclude"] {
        let body = json!({"content": "x", "detectors": {list: vec!["pii"; 101]}});
        let answer = app.ask(&body).await;
        assert_eq!((answer.status, &answer.json()["errors"][0]["code"]), (400, &json!("too_long")));
    }
    let contexts = [""; 1000].to_vec();
    let bad = json!({"content": "x", "contexts": contexts});
    let answer = app.ask(&bad).await.json();
    assert!(answer["errors"].as_array().unwrap().len() <= 100, "{answer}");
}
