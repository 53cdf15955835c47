//! What a tenant cannot register.

use super::*;

#[tokio::test]
async fn what_a_tenant_may_not_say_of_its_detector_is_refused_before_it_is_stored() {
    let server = service("clean", &["toxicity"]).await;
    let app = spawn_closed_with(BOOT, |_| {}).await;
    let acme = key(&app, json!({"roles": ["tenant_admin"], "tenant": "acme"})).await;
    let acme = [("x-api-key", acme.as_str())];
    for (detector, status, code, pointer) in refused(&server) {
        let refused = register(&app, &acme, &detector).await;
        let problem = refused.json();
        let errors = problem["errors"].as_array().unwrap();
        let named = errors.iter().any(|e| e["code"] == code && e["pointer"] == pointer);
        assert_eq!((refused.status, named), (status, true), "{pointer} {code}: {problem:#}");
        assert!(!refused.text.contains("root:"), "a file was read");
    }
    let taken = register(&app, &acme, &named("pii")).await;
    assert_eq!((taken.status, &taken.json()["code"]), (409, &json!("ALREADY_EXISTS")));
    let unsaid =
        write(&app, ("POST", AT), &acme, &json!({"detector": named("own"), "reason": " "})).await;
    assert_eq!((unsaid.status, &unsaid.json()["errors"][0]["pointer"]), (400, &json!("/reason")));
    let misspelt = json!({"name": "own", "protocol": "native", "categories": ["toxicty"],
        "endpoint": "https://detect.example/x", "wieght": 2});
    let told = register(&app, &acme, &misspelt).await.json();
    let details: Vec<_> = (0..2).map(|at| told["errors"][at]["detail"].clone()).collect();
    assert!(details[0].as_str().unwrap().ends_with(": write `toxicity`"), "{told}");
    assert!(details[1].as_str().unwrap().ends_with(": write `weight`"), "{told}");
    assert_eq!(rows(&app, "acme").await, 0, "something was stored");
    assert_eq!(server.received_requests().await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_is_registered_is_changed_only_by_who_read_it_and_up_to_the_quota() {
    let server = service("clean", &["toxicity"]).await;
    let prepare = |root: &std::path::Path| {
        edit(root, "config/settings.yaml", "registered_max: 20", "registered_max: 2");
    };
    let app = spawn_with(prepare).await;
    let at = format!("{AT}/own");
    let body = json!({"detector": native("own", &server), "reason": "a test"});
    assert_eq!(write(&app, ("PUT", &at), &[], &body).await.status, 201);
    assert_eq!(register(&app, &[], &native("own", &server)).await.status, 409);
    let blind = write(&app, ("PUT", &at), &[], &body).await;
    assert_eq!(blind.status, 428, "{}", blind.text);
    let tag = app.get(&at).await.header("etag").to_owned();
    let named = json!({"detector": native("other", &server), "reason": "a test"});
    let mismatch = write(&app, ("PUT", &at), &[("if-match", &tag)], &named).await;
    assert_eq!(mismatch.json()["errors"][0]["code"], "name_mismatch", "{}", mismatch.text);
    assert_eq!(write(&app, ("PUT", &at), &[("if-match", &tag)], &body).await.status, 200);
    let stale = write(&app, ("PUT", &at), &[("if-match", &tag)], &body).await;
    assert_eq!(stale.status, 412, "{}", stale.text);
    let gone = write(&app, ("DELETE", &format!("{at}?reason=x")), &[], &json!({})).await;
    assert_eq!(gone.status, 428, "{}", gone.text);

    assert_eq!(register(&app, &[], &native("second", &server)).await.status, 201);
    let third = register(&app, &[], &native("third", &server)).await;
    assert_eq!((third.status, &third.json()["code"]), (429, &json!("QUOTA_EXCEEDED")));
    assert_eq!((&third.json()["retryable"], third.header("retry-after")), (&json!(false), ""));
    let other = register(&app, &[("x-tenant-id", "acme")], &native("third", &server)).await;
    assert_eq!(other.status, 201, "another tenant has room of its own: {}", other.text);
    let tag = app.get(&at).await.header("etag").to_owned();
    let again = write(&app, ("PUT", &at), &[("if-match", &tag)], &body).await;
    assert_eq!(again.status, 200, "a change takes no room: {}", again.text);
}

#[tokio::test]
async fn a_file_that_comes_later_serves_and_the_registered_one_comes_back_after_it() {
    let server = service("clean", &["toxicity"]).await;
    let app = spawn_with(|_| {}).await;
    assert_eq!(register(&app, &[], &native("own", &server)).await.status, 201);
    let (at, file) = (format!("{AT}/own"), "detectors/own.yaml");
    crate::app::write(
        app.dir.path(),
        file,
        "name: own\nprotocol: builtin\nbuiltin: echo\ncategories: [topic]\n",
    );
    let view = until(&app, &[], &at, ("source", json!("file"))).await;
    assert_eq!(view["stored"]["shadowed"], true);
    let warnings = app.get("/api/v1/generations").await.json()["warnings"].clone();
    let own = "stored/tenants/default/detectors/own.yaml";
    assert!(
        warnings.as_array().unwrap().iter().any(|w| w["code"] == "shadowed" && w["file"] == own)
    );
    let body = json!({"detector": native("own", &server), "reason": "a test"});
    let tag = app.get(&at).await.header("etag").to_owned();
    let put = write(&app, ("PUT", &at), &[("if-match", &tag)], &body).await;
    assert_eq!((put.status, &put.json()["code"]), (409, &json!("ALREADY_EXISTS")));
    std::fs::remove_file(app.path(file)).unwrap();
    let view = until(&app, &[], &at, ("source", json!("stored"))).await;
    assert_eq!(view["stored"]["shadowed"], false);
}

fn named(name: &str) -> Value {
    json!({"name": name, "protocol": "native",
        "endpoint": "https://vendor.example/analyze", "categories": ["toxicity"]})
}

/// Detectors with the status, code and pointer of their refusal.
fn refused(server: &MockServer) -> Vec<(Value, u16, &'static str, &'static str)> {
    let with = |field: &str, value: Value| {
        let mut detector = named("own");
        detector[field] = value;
        detector
    };
    vec![
        (with("weight", json!(1000)), 400, "operator_only", "/detector/weight"),
        (with("tenants", json!(["*"])), 400, "operator_only", "/detector/tenants"),
        (
            with("auth", json!({"type": "bearer", "env": "HOME"})),
            400,
            "operator_only",
            "/detector/auth",
        ),
        (
            with("auth", json!({"type": "bearer", "file": "/etc/passwd"})),
            400,
            "operator_only",
            "/detector/auth",
        ),
        (with("delegation", json!("authorization")), 400, "operator_only", "/detector/delegation"),
        (with("protocol", json!("builtin")), 400, "operator_only", "/detector/protocol"),
        (with("tenant_id", json!("globex")), 400, "unknown_key", "/detector/tenant_id"),
        (with("private_to", json!("globex")), 400, "unknown_key", "/detector/private_to"),
        (with("trusted", json!(true)), 400, "unknown_key", "/detector/trusted"),
        (with("categories", json!(["toxicty"])), 400, "unknown_category", "/detector/categories/0"),
        (with("name", json!("Own")), 400, "bad_value", "/detector/name"),
        (with("name", json!(7)), 400, "bad_value", "/detector/name"),
        (with("endpoint", json!("no address")), 400, "bad_endpoint", "/detector/endpoint"),
        (json!([]), 400, "wrong_type", "/detector"),
        (with("description", json!("x".repeat(70_000))), 400, "too_large", "/detector"),
        (
            with("endpoint", json!("http://169.254.169.254/x")),
            422,
            "endpoint_forbidden",
            "/detector/endpoint",
        ),
        (
            with("endpoint", json!("http://[::1]:80/x")),
            422,
            "endpoint_forbidden",
            "/detector/endpoint",
        ),
        (
            with("endpoint", json!("http://0x7f000001/x")),
            422,
            "endpoint_forbidden",
            "/detector/endpoint",
        ),
        (
            with("endpoint", json!("http://ana@vendor.example/x")),
            400,
            "bad_endpoint",
            "/detector/endpoint",
        ),
        (native("own", server), 422, "endpoint_forbidden", "/detector/endpoint"),
    ]
}
