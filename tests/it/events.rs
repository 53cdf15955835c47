//! What happens, as callers hear it: streams, groups, incidents; each tenant its own, and each event
//! once.

use std::path::Path;
use std::time::Duration;

use futures_util::future::{join, join_all};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::access::{BOOT, key, make, send};
use crate::app::{self, App, spawn_closed_with, write};
use crate::shared::{self, Instance};

mod carried;

/// On a busy machine.
const SOON: Duration = Duration::from_secs(20);
const STREAM: &str = "/api/v1/events/stream";

/// An open stream of events.
pub struct Stream {
    body: Incoming,
    read: String,
}

/// One message of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub id: Option<i64>,
    pub event: String,
    pub data: Value,
}

impl Stream {
    /// Listens; panics where it may not.
    pub async fn open(address: &str, headers: &[(&str, &str)]) -> Stream {
        let mut request = hyper::Request::get(format!("http://{address}{STREAM}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let response = app::client().request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Stream { body: response.into_body(), read: String::new() };
        assert_eq!(stream.block().await.as_deref(), Some("retry: 2000"));
        stream
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Option<Said> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            let Some(event) = field("event") else { continue };
            return Some(Said {
                id: field("id").map(|id| id.parse().unwrap()),
                event: event.to_owned(),
                data: serde_json::from_str(field("data").unwrap()).unwrap(),
            });
        }
    }

    /// Listens until a message of `event` comes.
    pub async fn until(&mut self, event: &str) -> Said {
        let begun = std::time::Instant::now();
        loop {
            // Signs of life come all the time.
            assert!(begun.elapsed() < 3 * SOON, "never: {event}");
            let said = self.next().await.unwrap_or_else(|| panic!("it ended before {event}"));
            if said.event == event {
                return said;
            }
        }
    }

    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                return Some(block);
            }
            let frame = tokio::time::timeout(SOON, self.body.frame()).await;
            let frame = frame.expect("nothing is heard")?.unwrap();
            let data = frame.into_data().unwrap();
            self.read.push_str(std::str::from_utf8(&data).unwrap());
        }
    }
}

async fn listen(app: &App, key: &str, more: &[(&str, &str)]) -> Stream {
    let mut headers = vec![("x-api-key", key)];
    headers.extend(more);
    Stream::open(&app.address.to_string(), &headers).await
}

/// A detector that always fails, which `acme` requires.
/// What a file defines nobody can store.
fn without_overlays(root: &Path) {
    std::fs::remove_dir_all(root.join("policies/tenants")).unwrap();
}

async fn failing() -> (MockServer, App) {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    let file = format!(
        "name: vendor\nprotocol: native\nendpoint: {}/judge\ncategories: [toxicity]\n\
         health: {{path: ''}}\nretry: {{attempts: 1}}\n\
         breaker: {{failures: 5, window: 60s, open_for: 60s}}\n",
        server.uri()
    );
    let app = spawn_closed_with(BOOT, |root| {
        write(root, "detectors/vendor.yaml", &file);
        app::edit(
            root,
            "config/settings.yaml",
            "outbound_allow: []",
            "outbound_allow: [127.0.0.1]",
        );
    })
    .await;
    (server, app)
}

async fn of(app: &App, role: &str, tenant: &str) -> String {
    key(app, json!({"roles": [role], "tenant": tenant})).await
}

/// Stores an overlay of the key's tenant.
async fn change_policy(app: &App, key: &str, action: &str) {
    let overlay = json!({"data": {"settings": {"actions": {"pii": action}}}, "reason": "a test"});
    let now = send(app, "GET", "/api/v1/policies/standard", key, &json!({})).await;
    let mut headers = vec![("content-type", "application/json"), ("x-api-key", key)];
    let tag = now.header("etag").to_owned();
    if !tag.is_empty() {
        headers.push(("if-match", &tag));
    }
    let body = overlay.to_string();
    let put = app.send("PUT", "/api/v1/policies/standard", &headers, body.as_bytes()).await;
    assert!(put.status < 300, "{}", put.text);
}

async fn listed(app: &App, key: &str, query: &str) -> Vec<Value> {
    let answer = send(app, "GET", &format!("/api/v1/events{query}"), key, &json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_breaker_that_trips_is_told_once_and_an_incident_names_its_reason() {
    let (_server, app) = failing().await;
    let mut service = listen(&app, BOOT, &[]).await;
    let acme = of(&app, "app", "acme").await;
    let ask = json!({"content": "x", "detectors": {"add": ["vendor"]}});
    let mut refused = 0;
    for n in 0..12 {
        let body = json!({"content": format!("text {n}"), "detectors": ask["detectors"],
            "include": ["detectors"]});
        let answer = send(&app, "POST", "/api/v1/orchestrate", &acme, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        refused += usize::from(answer.text.contains("circuit_open"));
    }
    assert!(refused >= 3, "the breaker refused only {refused}");
    let opened = service.until("circuit_breaker_opened").await;
    assert_eq!(opened.data["source"], "detector/vendor");
    assert_eq!(opened.data["subject"], "orch._.event.circuit_breaker_opened");
    // Closed by hand: told, too.
    let close = json!({"reason": "a test"});
    let closed = send(&app, "POST", "/api/v1/breakers/vendor/reset", BOOT, &close).await;
    assert_eq!(closed.status, 200, "{}", closed.text);
    let next = service.until("circuit_breaker_closed").await;
    assert_eq!(next.id, opened.id.map(|id| id + 1), "nothing between them: one trip is one event");

    let status = of(&app, "viewer", "acme").await;
    let until = tokio::time::Instant::now() + SOON;
    let incidents = loop {
        let told = send(&app, "GET", "/api/v1/events/incidents", &status, &json!({})).await;
        let told = told.json()["incidents"].as_array().unwrap().clone();
        if !told.is_empty() {
            break told;
        }
        assert!(tokio::time::Instant::now() < until, "no incident");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(incidents.len(), 1, "a storm is one: {incidents:?}");
    assert_eq!(incidents[0]["data"]["severity"], "medium");
    assert_eq!(incidents[0]["data"]["fallback_reason"], "PARTIAL_COVERAGE");
    let other = of(&app, "viewer", "globex").await;
    let told = send(&app, "GET", "/api/v1/events/incidents", &other, &json!({})).await;
    assert_eq!(told.json(), json!({"incidents": [], "next": null}));
}

#[tokio::test]
async fn a_tenant_hears_its_own_changes_and_goes_on_where_it_was() {
    let app = spawn_closed_with(BOOT, without_overlays).await;
    let (acme, globex) =
        (of(&app, "tenant_admin", "acme").await, of(&app, "viewer", "globex").await);
    let (mut own, mut other) = (listen(&app, &acme, &[]).await, listen(&app, &globex, &[]).await);
    change_policy(&app, &acme, "block").await;
    let first = own.until("policy_changed").await;
    assert_eq!((first.id, &first.data["data"]["version"]), (Some(1), &json!(1)));
    drop(own);
    change_policy(&app, &acme, "flag").await;
    let body = json!({"detector": {"name": "own", "protocol": "native", "categories": ["toxicity"],
        "endpoint": "https://vendor.example/analyze"}, "reason": "a test"});
    let made = send(&app, "POST", "/api/v1/detectors", &acme, &body).await;
    assert!(made.status < 300, "{}", made.text);
    let mut again = listen(&app, &acme, &[("last-event-id", "1")]).await;
    assert_eq!(again.next().await.unwrap().data["data"]["version"], 2);
    assert_eq!(again.until("service_registered").await.data["source"], "detector/own");
    let all = listed(&app, &acme, "?limit=200").await;
    let places: Vec<i64> = all.iter().map(|event| event["sequence"].as_i64().unwrap()).collect();
    assert_eq!(places, (1..=all.len() as i64).collect::<Vec<_>>(), "no gaps, each once");
    let page = send(&app, "GET", "/api/v1/events?limit=1", &acme, &json!({})).await.json();
    assert_eq!((page["events"].as_array().unwrap().len(), &page["next"]), (1, &json!("1")));

    // Whoever hears all of its own heard nothing of these.
    change_policy(&app, &of(&app, "tenant_admin", "globex").await, "block").await;
    assert_eq!(other.next().await.unwrap().data["tenant"], "globex");
    assert!(listed(&app, &globex, "").await.iter().all(|event| event["tenant"] == "globex"));
    for (query, status) in [
        ("?limit=0", 400),
        ("?after=x", 400),
        ("?dead=true", 400),
        ("?group=No", 400),
        ("?group=-", 400),
        ("?unknown=1", 400),
    ] {
        let answer = send(&app, "GET", &format!("/api/v1/events{query}"), &acme, &json!({})).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_members_of_a_group_share_its_events_and_acknowledge_them() {
    let app = spawn_closed_with(BOOT, without_overlays).await;
    let acme = of(&app, "tenant_admin", "acme").await;
    let mut own = listen(&app, &acme, &[]).await;
    for action in ["block", "flag", "review"] {
        change_policy(&app, &acme, action).await;
        own.until("policy_changed").await;
    }
    let first = listed(&app, &acme, "?group=billing&limit=2").await;
    let second = listed(&app, &acme, "?group=billing&limit=2").await;
    assert_eq!((first.len(), second.len()), (2, 1), "each member has its own");
    assert!(first.iter().all(|event| event["delivery"] == 1));
    assert_eq!(listed(&app, &acme, "?group=audit").await.len(), 3, "another group has them all");
    assert_eq!(listed(&app, &acme, "?group=late&after=2").await.len(), 1, "from where it begins");
    let ids: Vec<&Value> = first.iter().map(|event| &event["id"]).collect();
    let acknowledge = async |key: &str, ids: &[&Value]| {
        let body = json!({"group": "billing", "ids": ids});
        send(&app, "POST", "/api/v1/events/ack", key, &body).await
    };
    let globex = of(&app, "viewer", "globex").await;
    assert_eq!(acknowledge(&globex, &ids).await.json()["acknowledged"], 0, "not another tenant's");
    assert_eq!(acknowledge(&acme, &ids).await.json()["acknowledged"], 2);
    assert_eq!(acknowledge(&acme, &ids).await.json()["acknowledged"], 0, "once");
    assert!(listed(&app, &acme, "?group=billing&dead=true").await.is_empty());
    for bad in [json!([]), json!(["x"]), json!(vec!["0".repeat(64); 201])] {
        let body = json!({"group": "billing", "ids": bad});
        let answer = send(&app, "POST", "/api/v1/events/ack", &acme, &body).await;
        assert_eq!(
            (answer.status, answer.json()["errors"][0]["pointer"].as_str()),
            (400, Some("/ids"))
        );
    }
}

#[tokio::test]
async fn a_tenant_has_no_more_groups_than_it_may_and_another_has_its_own() {
    let app = spawn_closed_with(BOOT, |root| {
        without_overlays(root);
        let (from, to) = ("groups_per_tenant_max: 100", "groups_per_tenant_max: 2");
        app::edit(root, "config/settings.yaml", from, to);
    })
    .await;
    let acme = of(&app, "tenant_admin", "acme").await;
    let mut own = listen(&app, &acme, &[]).await;
    change_policy(&app, &acme, "block").await;
    own.until("policy_changed").await;
    for name in ["one", "two"] {
        assert_eq!(listed(&app, &acme, &format!("?group={name}")).await.len(), 1);
    }
    for query in ["?group=three", "?group=three&after=0"] {
        let path = format!("/api/v1/events{query}");
        let third = send(&app, "GET", &path, &acme, &json!({})).await;
        assert_eq!((third.status, third.json()["code"].as_str()), (429, Some("RATE_LIMITED")));
    }
    assert_eq!(listed(&app, &acme, "?group=two").await.len(), 0, "who is there goes on");
    let globex = of(&app, "viewer", "globex").await;
    assert_eq!(listed(&app, &globex, "?group=three").await.len(), 0);
}

#[tokio::test]
async fn first_calls_of_many_groups_at_one_moment_make_no_more_than_there_may_be() {
    let app = spawn_closed_with(BOOT, |root| {
        without_overlays(root);
        let (from, to) = ("groups_per_tenant_max: 100", "groups_per_tenant_max: 2");
        app::edit(root, "config/settings.yaml", from, to);
    })
    .await;
    let acme = of(&app, "tenant_admin", "acme").await;
    let mut own = listen(&app, &acme, &[]).await;
    change_policy(&app, &acme, "block").await;
    own.until("policy_changed").await;
    let first = async |n: u32| {
        let path = format!("/api/v1/events?group=g{n}");
        send(&app, "GET", &path, &acme, &json!({})).await.status
    };
    let mut statuses = futures_util::future::join_all((0..16).map(first)).await;
    statuses.sort_unstable();
    let expected = [vec![200; 2], vec![429; 14]].concat();
    assert_eq!(statuses, expected);
}

#[tokio::test]
async fn a_stream_ends_with_its_key_and_a_tenant_has_no_more_than_it_may() {
    let app = spawn_closed_with(BOOT, |root| {
        let (from, to) = ("streams_per_tenant_max: 10", "streams_per_tenant_max: 2");
        app::edit(root, "config/settings.yaml", from, to);
    })
    .await;
    let made = make(&app, json!({"roles": ["viewer"], "tenant": "acme"})).await;
    let (secret, prefix) = (made["key"].as_str().unwrap(), made["prefix"].as_str().unwrap());
    let (mut one, _two) = (listen(&app, secret, &[]).await, listen(&app, secret, &[]).await);
    let third = send(&app, "GET", STREAM, secret, &json!({})).await;
    assert_eq!((third.status, third.json()["code"].as_str()), (429, Some("RATE_LIMITED")));
    let path = format!("/api/v1/keys/{prefix}?reason=test");
    assert_eq!(send(&app, "DELETE", &path, BOOT, &json!({})).await.status, 204);
    assert_eq!(one.until("refused").await.data, json!({}));
    assert_eq!(one.next().await, None);
    let until = tokio::time::Instant::now() + SOON;
    while app.api.feed.listeners() > 0 {
        assert!(tokio::time::Instant::now() < until, "whoever was refused still listens");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_service_that_stops_ends_its_streams() {
    let app = spawn_closed_with(BOOT, without_overlays).await;
    let mut own = listen(&app, BOOT, &[]).await;
    app.api.feed.close();
    assert_eq!(own.until("closing").await.data, json!({"resume_after": "0"}));
    assert_eq!(own.next().await, None);
}

#[tokio::test]
async fn a_request_is_an_event_only_where_a_setting_asks() {
    for (setting, expected) in [("none", [0, 0]), ("failed", [0, 1]), ("all", [3, 1])] {
        let app = spawn_closed_with(BOOT, |root| {
            without_overlays(root);
            let to = format!("requests: {setting} ");
            app::edit(root, "config/settings.yaml", "requests: none ", &to);
        })
        .await;
        let acme = key(&app, json!({"roles": ["app", "tenant_admin"], "tenant": "acme"})).await;
        let mut own = listen(&app, &acme, &[("last-event-id", "0")]).await;
        for _ in 0..3 {
            let body = json!({"content": "canary ana@evil.io"});
            assert_eq!(send(&app, "POST", "/api/v1/orchestrate", &acme, &body).await.status, 200);
        }
        let failing =
            json!({"content": "canary", "policy": "strict", "detectors": {"add": ["no"]}});
        let failed = send(&app, "POST", "/api/v1/orchestrate", &acme, &failing).await;
        assert!(failed.status >= 400, "{}", failed.text);
        // What was announced before is told before.
        change_policy(&app, &acme, "block").await;
        own.until("policy_changed").await;
        let all = listed(&app, &acme, "?limit=200").await;
        let count = |kind: &str| all.iter().filter(|event| event["event_type"] == kind).count();
        let found = [count("request_routed"), count("request_failed")];
        assert_eq!(found, expected, "{setting}: {all:?}");
        assert!(!format!("{all:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_tenant_that_begins_many_groups_at_once_is_told_to_wait_and_no_other() {
    let server = crate::postgres::Server::shared();
    let url = shared::migrated(server);
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$; \
                CREATE TRIGGER slow BEFORE INSERT ON event_groups FOR EACH ROW \
                WHEN (NEW.stream = 'default') EXECUTE FUNCTION slow()";
    server.sql(url.rsplit('/').next().unwrap(), slow);
    let service = Instance::start(&url);
    let (many, one) = (service.key("default").await, service.key("globex").await);
    let take = async |key: &str, group: usize| {
        let path = format!("/api/v1/events?group=g{group}");
        service.send("GET", &path, key, &json!(null)).await
    };
    assert_eq!(take(shared::secret(&one), 0).await.status, 200);
    let burst = join_all((0..60).map(|group| take(shared::secret(&many), group)));
    let other = async {
        for group in 1..10 {
            let answer = take(shared::secret(&one), group).await;
            assert_eq!(answer.status, 200, "{group}: {}", answer.text);
        }
    };
    let (burst, ()) = join(burst, other).await;
    let mut refused = 0;
    for answer in burst.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("OVERLOADED")));
        assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
        refused += 1;
    }
    assert!((1..60).contains(&refused), "{refused}");
}
