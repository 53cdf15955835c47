//! Changes of policies that serve only after another person's review.

use serde_json::{Value, json};

use crate::app::{Answer, App, edit, spawn_closed_with, spawn_with};

const BOOT: &str = "orch_0123456789ab_0123456789abcdef0123456789abcdef";
const SECRET: &str = "key AKIAZ3VQ7JRTLWXK5P2D";
const PATH: &str = "/api/v1/policies/standard";

struct House {
    app: App,
    author: String,
    approver: String,
}

async fn house() -> House {
    let app = spawn_closed_with(BOOT, |root| {
        edit(root, "config/settings.yaml", "require_review: false", "require_review: true");
    })
    .await;
    let author = key(&app, BOOT, json!({"roles": ["policy_author", "app"]})).await;
    let approver = key(&app, BOOT, json!({"roles": ["policy_approver"]})).await;
    House { app, author, approver }
}

async fn key(app: &App, by: &str, more: Value) -> String {
    let mut body = json!({"label": "t", "reason": "t", "tenant": "default"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = send(app, by, ("POST", "/api/v1/keys"), "", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json()["key"].as_str().unwrap().to_owned()
}

async fn send(
    app: &App,
    key: &str,
    (method, path): (&str, &str),
    etag: &str,
    body: &Value,
) -> Answer {
    let mut headers = vec![("content-type", "application/json"), ("x-api-key", key)];
    headers.extend((!etag.is_empty()).then_some(("if-match", etag)));
    app.send(method, path, &headers, body.to_string().as_bytes()).await
}

impl House {
    async fn propose(&self, etag: &str, action: &str) -> Value {
        let body = json!({"data": {"settings": {"actions": {"secrets": action}}}});
        let answer = send(&self.app, &self.author, ("PUT", PATH), etag, &body).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()["pending"].clone()
    }

    async fn review(&self, key: &str, pending: &Value, decision: &str) -> Answer {
        let body = json!({"decision": decision, "digest": pending["digest"], "reason": "seen"});
        let path = format!("{PATH}/versions/{}/review", pending["version"]);
        send(&self.app, key, ("POST", &path), "", &body).await
    }

    async fn get(&self) -> Answer {
        send(&self.app, &self.approver, ("GET", PATH), "", &Value::Null).await
    }

    async fn action(&self) -> String {
        let body = json!({"content": SECRET});
        let answer =
            send(&self.app, &self.author, ("POST", "/api/v1/orchestrate"), "", &body).await;
        answer.json()["action"].as_str().unwrap().to_owned()
    }
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_change_serves_after_another_persons_review_and_not_before() {
    let house = house().await;
    assert_eq!(house.action().await, "redact");
    let pending = house.propose("", "block").await;
    assert_eq!((&pending["version"], &pending["act"]), (&json!(1), &json!("put")));
    assert_eq!(house.action().await, "redact", "it serves unreviewed");
    assert_eq!(house.get().await.json()["pending"], pending);
    assert_eq!(house.get().await.json()["overlay"], Value::Null);
    let approved = house.review(&house.approver, &pending, "approve").await;
    assert_eq!(approved.status, 200, "{}", approved.text);
    assert_eq!(
        (house.action().await, approved.json()["overlay"]["version"].clone()),
        ("block".into(), json!(1))
    );
    assert_eq!(house.get().await.json()["pending"], Value::Null);
    let audit = send(&house.app, BOOT, ("GET", "/api/v1/audit"), "", &Value::Null).await.json();
    let of = |act: &str| {
        let entries = audit["audit"].as_array().unwrap().iter();
        entries.filter(|entry| entry["action"] == act).count()
    };
    assert_eq!(of("policy.propose"), 1, "{audit}");
    let again = house.review(&house.approver, &pending, "approve").await;
    assert_eq!(code(&again), (409, "INVALID_STATE_TRANSITION".into()));

    // A rejected one is gone, a deletion waits as well.
    let etag = approved.header("etag").to_owned();
    let pending = house.propose(&etag, "flag").await;
    assert_eq!(house.review(&house.approver, &pending, "reject").await.status, 200);
    assert_eq!(
        (house.action().await, house.get().await.json()["pending"].clone()),
        ("block".into(), Value::Null)
    );
    let gone = send(&house.app, &house.author, ("DELETE", PATH), &etag, &Value::Null).await;
    assert_eq!((gone.status, house.action().await), (202, "block".into()), "{}", gone.text);
    let pending = gone.json()["pending"].clone();
    assert_eq!(house.review(&house.approver, &pending, "approve").await.status, 200);
    assert_eq!(house.action().await, "redact");

    // So does the way back.
    let back = json!({"version": 1});
    let path = format!("{PATH}/rollback");
    let back = send(&house.app, &house.author, ("POST", &path), "", &back).await;
    assert_eq!((back.status, house.action().await), (202, "redact".into()), "{}", back.text);
    let pending = back.json()["pending"].clone();
    assert_eq!(house.review(&house.approver, &pending, "approve").await.status, 200);
    assert_eq!(house.action().await, "block");
}

#[tokio::test]
async fn nobody_reviews_their_own_change_under_whatever_key() {
    let house = house().await;
    let both = json!({"roles": ["policy_author", "policy_approver", "app"]});
    let own = key(&house.app, BOOT, both).await;
    let house = House { author: own.clone(), ..house };
    let pending = house.propose("", "block").await;
    let refused = (403, "INSUFFICIENT_SCOPE".to_owned());
    assert_eq!(code(&house.review(&own, &pending, "approve").await), refused);
    assert_eq!(code(&house.review(&own, &pending, "reject").await), refused);
    // The next key and the one after it are the same person.
    let mut heir = own.clone();
    for _ in 0..2 {
        let prefix = heir.rsplit_once('_').unwrap().0.to_owned();
        let path = format!("/api/v1/keys/{prefix}/rotate");
        let body = json!({"overlap_s": 3600, "reason": "t"});
        let made = send(&house.app, BOOT, ("POST", &path), "", &body).await;
        heir = made.json()["key"].as_str().unwrap_or_else(|| panic!("{}", made.text)).to_owned();
        assert_eq!(code(&house.review(&heir, &pending, "approve").await), refused);
    }
    // Who has no such scope does not come so far.
    let author = key(&house.app, BOOT, json!({"roles": ["policy_author"]})).await;
    assert_eq!(code(&house.review(&author, &pending, "approve").await), refused);
    // Another tenant's approver does not see it.
    let other = json!({"roles": ["policy_approver"], "tenant": "globex"});
    let other = key(&house.app, BOOT, other).await;
    let answer = house.review(&other, &pending, "approve").await;
    assert_eq!(code(&answer), (409, "INVALID_STATE_TRANSITION".into()));
    assert_eq!(house.action().await, "redact");
    assert_eq!(house.review(&house.approver, &pending, "approve").await.status, 200);
}

#[tokio::test]
async fn a_key_that_the_author_made_meanwhile_is_the_author() {
    let house = house().await;
    // The chief proposes; its own older keys are other people's, a fresh one is its own hand.
    let body = json!({"data": {"settings": {"actions": {"secrets": "block"}}}});
    let headers =
        [("content-type", "application/json"), ("x-api-key", BOOT), ("x-tenant-id", "default")];
    let proposed = house.app.send("PUT", PATH, &headers, body.to_string().as_bytes()).await;
    assert_eq!(proposed.status, 202, "{}", proposed.text);
    let pending = proposed.json()["pending"].clone();
    let fresh = key(&house.app, BOOT, json!({"roles": ["policy_approver"]})).await;
    let refused = house.review(&fresh, &pending, "approve").await;
    assert_eq!(code(&refused), (403, "INSUFFICIENT_SCOPE".into()));
    assert_eq!(house.review(&house.approver, &pending, "approve").await.status, 200);
}

#[tokio::test]
async fn nobody_approves_by_a_key_made_beforehand_nor_what_ones_own_key_proposed() {
    let house = house().await;
    let scopes = ["policy:read", "policy:write", "policy:approve", "keys:write"];
    let both = json!({ "scopes": scopes });
    let author = key(&house.app, BOOT, both.clone()).await;
    let child = key(&house.app, &author, both).await;
    let propose = async |who: &str, action: &str| {
        let body = json!({"data": {"settings": {"actions": {"secrets": action}}}});
        let answer = send(&house.app, who, ("PUT", PATH), "", &body).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()["pending"].clone()
    };
    for (writer, reviewer) in [(&author, &child), (&child, &author)] {
        let pending = propose(writer, "block").await;
        let refused = house.review(reviewer, &pending, "approve").await;
        assert_eq!(code(&refused), (403, "INSUFFICIENT_SCOPE".into()), "{}", refused.text);
    }
}

#[tokio::test]
async fn a_review_approves_what_was_read_and_nothing_that_came_later() {
    let house = house().await;
    let first = house.propose("", "block").await;
    let second = house.propose("", "flag").await;
    assert_ne!(first["digest"], second["digest"]);
    let stale = house.review(&house.approver, &first, "approve").await;
    assert_eq!(code(&stale), (412, "PRECONDITION_FAILED".into()));
    let stale = house.review(&house.approver, &first, "reject").await;
    assert_eq!(code(&stale), (412, "PRECONDITION_FAILED".into()));
    for version in ["0", "2", "-1", "x", "18446744073709551616"] {
        let path = format!("{PATH}/versions/{version}/review");
        let body = json!({"decision": "approve", "digest": second["digest"], "reason": "seen"});
        let answer = send(&house.app, &house.approver, ("POST", &path), "", &body).await;
        assert_eq!(code(&answer), (409, "INVALID_STATE_TRANSITION".into()), "{version}");
    }
    let wrong = json!({"data": {"settings": {"actions": {"secrets": "explode"}}}});
    let invalid = send(&house.app, &house.author, ("PUT", PATH), "", &wrong).await;
    assert_eq!(code(&invalid), (400, "POLICY_INVALID".into()), "it is checked before it waits");
    assert_eq!(house.review(&house.approver, &second, "approve").await.status, 200);
    assert_eq!(house.action().await, "flag");
}

#[tokio::test]
async fn without_the_setting_nothing_waits() {
    let app = spawn_with(|_| {}).await;
    let body = json!({"decision": "approve", "digest": "", "reason": "seen"});
    let answer = app.post(&format!("{PATH}/versions/1/review"), &body).await;
    assert_eq!(code(&answer), (409, "INVALID_STATE_TRANSITION".into()));
}
