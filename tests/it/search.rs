//! Decisions found again: by what they were, page by page, each tenant its own; and the edit that did
//! harm. And who a credential is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::access::{BOOT, key, make, send};
use crate::app::{App, spawn, spawn_closed, spawn_named, write};

const EVIDENCE: &str = "/api/v1/evidence";

async fn judged(app: &App, key: &str, body: &Value) -> String {
    let mut body = body.clone();
    body["include"] = json!(["evidence"]);
    let answer = send(app, "POST", "/api/v1/orchestrate", key, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["evidence"]["id"].as_str().unwrap().to_owned()
}

/// What `query` finds, over pages of `limit`.
async fn found(app: &App, key: &str, query: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("{EVIDENCE}?limit={limit}&{query}{cursor}");
        let page = send(app, "GET", &path, key, &json!({})).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert!(!page.text.contains("canary"), "content is shown: {}", page.text);
        let page = page.json();
        assert!(page["decisions"].as_array().unwrap().len() <= limit, "{page}");
        all.extend(page["decisions"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

/// Waits until so many decisions are on record.
async fn recorded(app: &App, key: &str, count: usize) {
    let until = Instant::now() + Duration::from_secs(20);
    while found(app, key, "", 200).await.len() < count {
        assert!(Instant::now() < until, "never {count}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn decisions_are_found_by_what_they_were_and_by_their_own_tenant_alone() {
    let env = [
        ("ORCHESTRATION_ENV", "staging"),
        ("ORCHESTRATION_BOOTSTRAP_KEY", BOOT),
        ("ORCHESTRATION_SECURITY__OUTBOUND_ALLOW", "[127.0.0.1]"),
    ];
    let env = env.map(|(name, value)| (name, value.to_owned())).to_vec();
    let app = spawn_named(env, |root| {
        let sickly = "name: sickly\nprotocol: native\nendpoint: http://127.0.0.1:1/analyze\n\
                      categories: [toxicity]\nhealth: {path: ''}\n";
        write(root, "detectors/sickly.yaml", sickly);
    })
    .await;
    let acme = key(&app, json!({"roles": ["app"], "tenant": "acme"})).await;
    let auditor = key(&app, json!({"roles": ["auditor"], "tenant": "acme"})).await;
    let globex = key(&app, json!({"roles": ["auditor", "app"], "tenant": "globex"})).await;
    let plain = judged(&app, &acme, &json!({"content": "canary sings"})).await;
    let mail = judged(&app, &acme, &json!({"content": "Mail canary@evil.io"})).await;
    let secret = judged(&app, &acme, &json!({"content": "canary AKIAZ3VQ7JRTLWXK5P2D"})).await;
    let sick = json!({"content": "canary again", "detectors": {"add": ["sickly"]}});
    let sick = judged(&app, &acme, &sick).await;
    let foreign = judged(&app, &globex, &json!({"content": "Mail canary@evil.io"})).await;
    recorded(&app, &auditor, 4).await;
    recorded(&app, &globex, 1).await;

    let ids = async |query: &str| {
        let rows = found(&app, &auditor, query, 50).await;
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let only = |id: &String| vec![id.clone()];
    let newest_first = [&sick, &secret, &mail, &plain].map(String::clone).to_vec();
    assert_eq!(ids("").await, newest_first);
    assert_eq!(ids("category=pii").await, only(&mail));
    assert_eq!(ids("category=secrets.aws_access_key").await, only(&secret));
    assert_eq!(ids("detector=sickly").await, only(&sick));
    assert_eq!(ids("detector=pii").await, newest_first);
    assert_eq!(ids("complete=false").await, only(&sick));
    assert_eq!(ids("action=allow").await, only(&plain));
    assert_eq!(ids("action=redact&complete=true&policy=standard").await, only(&mail));
    assert_eq!(ids("action=block").await, only(&secret), "acme blocks secrets");
    assert_eq!(ids("policy=strict").await, Vec::<String>::new());
    let rows = found(&app, &auditor, "", 1).await;
    assert_eq!(rows[0]["failed"], json!(["sickly"]), "{rows:?}");
    assert_eq!(rows[2]["categories"], json!(["pii.email"]), "{rows:?}");
    let revision = rows[0]["revision"].as_str().unwrap();
    assert_eq!(ids(&format!("revision={}", &revision[..12])).await, newest_first);
    assert_eq!(ids("revision=00000000").await, Vec::<String>::new());
    let at = rows[2]["at"].as_str().unwrap();
    assert_eq!(ids(&format!("from={at}&category=pii")).await, only(&mail));
    assert!(!ids(&format!("to={at}")).await.contains(&mail));

    // Each tenant its own, whatever is asked for.
    let others = found(&app, &globex, "", 50).await;
    assert_eq!(others.len(), 1);
    assert_eq!(others[0]["id"], json!(foreign));
    let headers = [("x-api-key", auditor.as_str()), ("x-tenant-id", "globex")];
    assert_eq!(app.send("GET", EVIDENCE, &headers, b"").await.status, 403);
    let headers = [("x-api-key", BOOT), ("x-tenant-id", "globex")];
    let named = app.send("GET", EVIDENCE, &headers, b"").await.json();
    assert_eq!(named["decisions"][0]["id"], json!(foreign), "{named}");
    assert_eq!(send(&app, "GET", EVIDENCE, &acme, &json!({})).await.status, 403);

    // To be listed is no access; to be opened is.
    let chain = format!("{EVIDENCE}/{mail}/chain");
    let custody = send(&app, "GET", &chain, &auditor, &json!({})).await.json();
    assert_eq!(custody["chain"].as_array().unwrap().len(), 1, "{custody}");
}

#[tokio::test]
async fn what_no_list_can_be_asked_for_is_refused_with_its_name() {
    let app = spawn().await;
    for (query, name) in [
        ("from=yesterday", "from"),
        ("to=2026-01-01", "to"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("action=burn", "action"),
        ("policy=../x", "policy"),
        ("revision=abc", "revision"),
        ("revision=%25%25%25%25%25%25%25%25", "revision"),
        ("complete=maybe", "query"),
        ("detector=A%20B", "detector"),
        ("category=nonsense", "category"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=1", "cursor"),
        ("cursor=x-1", "cursor"),
        ("tenant=acme", "query"),
    ] {
        let answer = app.get(&format!("{EVIDENCE}?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        assert_eq!(answer.json()["code"], "INVALID_REQUEST", "{query}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(name), "{}", answer.text);
    }
    let answer = app.get(&format!("{EVIDENCE}/revisions?from=yesterday")).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
}

#[tokio::test]
async fn an_edit_that_was_taken_and_does_harm_is_named_by_one_query() {
    let app = spawn().await;
    let mut revisions = Vec::new();
    let edits = [("", ""), ("pii: redact", "pii: block"), ("toxicity: block", "toxicity: review")];
    for (from, to) in edits {
        if !from.is_empty() {
            app.edit("policies/standard/data.yaml", from, to);
            let reload = json!({"reason": "of the test"});
            assert_eq!(app.post("/api/v1/admin/reload", &reload).await.status, 200);
        }
        for n in 0..10 {
            let content = if n % 5 == 0 { "hello" } else { "Mail ana@evil.io" };
            let answer = app.ask(&json!({"content": content})).await.json();
            revisions.push(answer["policy"]["revision"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(revisions.iter().collect::<BTreeSet<_>>().len(), 3, "{revisions:?}");
    recorded(&app, "", 30).await;
    let told = app.get(&format!("{EVIDENCE}/revisions")).await.json();
    assert_eq!(told["counted"], 30, "{told}");
    let bad = &told["suspect"];
    assert_eq!((&bad["revision"], &bad["before"]), (&json!(revisions[10]), &json!(revisions[0])));
    assert_eq!((&bad["stopped_share"], &bad["before_share"]), (&json!(0.8), &json!(0.0)));
    let rows = told["revisions"].as_array().unwrap();
    let order: Vec<_> = rows.iter().map(|row| row["revision"].as_str().unwrap()).collect();
    assert_eq!(order, [&revisions[20], &revisions[10], &revisions[0]], "{told}");
    assert_eq!((&rows[1]["actions"]["block"], &rows[1]["decisions"]), (&json!(8), &json!(10)));
    assert_eq!((&rows[2]["actions"]["redact"], &rows[2]["incomplete"]), (&json!(8), &json!(0)));
    // What the edit changed stands in the history of this process.
    let live = app.get("/api/v1/generations").await.json();
    let of = |edit: &&Value| edit["revision"] == bad["revision"];
    let edit = live["history"].as_array().unwrap().iter().find(of).unwrap();
    let changed = edit["changed"][0].as_str().unwrap();
    assert!(changed.ends_with("policies/standard/data.yaml"), "{edit}");
    assert_eq!(found(&app, "", &format!("revision={}", revisions[10]), 200).await.len(), 10);
}

#[tokio::test]
async fn whoever_is_let_in_is_told_who_they_are_and_nobody_else() {
    let app = spawn_closed(BOOT).await;
    let whoami = "/api/v1/whoami";
    assert_eq!(app.get(whoami).await.status, 401);
    let wish = json!({"roles": ["app", "viewer"], "tenant": "acme", "expires_in_s": 3_600,
        "max_priority": "normal"});
    let made = make(&app, wish).await;
    let own = made["key"].as_str().unwrap();
    let me = send(&app, "GET", whoami, own, &json!({})).await;
    assert_eq!(me.status, 200, "{}", me.text);
    assert!(!me.text.contains(own), "the secret is shown");
    let me = me.json();
    assert_eq!((&me["actor"], &me["key_prefix"]), (&made["prefix"], &made["prefix"]));
    assert_eq!((&me["tenant"], &me["roles"]), (&json!("acme"), &json!(["app", "viewer"])));
    assert_eq!(
        (&me["scopes"], &me["expires_at"]),
        (&made["effective_scopes"], &made["expires_at"])
    );
    assert_eq!(me["max_priority"], "normal");
    // A key that may do hardly anything may ask this.
    let little = key(&app, json!({"scopes": ["quota:read"], "tenant": "acme"})).await;
    let me = send(&app, "GET", whoami, &little, &json!({})).await.json();
    assert_eq!((&me["roles"], &me["scopes"]), (&json!([]), &json!(["quota:read"])), "{me}");
    let root = send(&app, "GET", whoami, BOOT, &json!({})).await.json();
    assert_eq!((&root["tenant"], &root["expires_at"]), (&Value::Null, &Value::Null), "{root}");
    let headers = [("x-api-key", own), ("x-tenant-id", "globex")];
    assert_eq!(app.send("GET", whoami, &headers, b"").await.status, 403);
    let open = spawn().await;
    assert_eq!(open.get(whoami).await.json()["actor"], "development");
}
