//! One tenant: what it should have, and what it does.

use serde_json::{Value, json};

use super::{House, first_key, headers};
use crate::app::Answer;
use crate::model::random::Source;

const PII: &str = "Mail ana@evil.io";
const ACTIONS: [&str; 3] = ["block", "review", "flag"];
const POLICY: &str = "/policies/standard";
/// All that a key of one tenant does here.
const SCOPES: [&str; 9] = [
    "orchestrate:write",
    "orchestrate:status",
    "registry:read",
    "registry:write",
    "policy:read",
    "policy:write",
    "metrics:read",
    "keys:write",
    "audit:read",
];
const SHARED: [&str; 8] = [
    "/detectors",
    "/detectors/pii",
    "/breakers",
    "/breakers/pii",
    "/generations",
    "/operations",
    "/orchestrator/config",
    "/metrics",
];

/// What it should have.
pub struct Party {
    tenant: &'static str,
    key: String,
    weak: String,
    /// Content of every version of the overlay; `None` is a deletion.
    versions: Vec<Option<&'static str>>,
    etag: String,
    /// Prefixes in the order they were made, and whether they hold.
    keys: Vec<(String, bool)>,
    acts: usize,
    /// The tag of the detector it registered, empty for none.
    own: String,
    /// The id of its last decision, empty for none.
    evidence: String,
    pub decisions: usize,
    asked: usize,
}

/// What the other could try of it.
pub struct Shown {
    tenant: &'static str,
    etag: String,
    prefix: String,
    evidence: String,
}

impl Party {
    pub async fn enter(house: &House, tenant: &'static str) -> Party {
        let strong = first_key(house, tenant, &SCOPES).await;
        let weak = first_key(house, tenant, &["orchestrate:status"]).await;
        let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
        Party {
            tenant,
            key: text(&strong, "key"),
            weak: text(&weak, "key"),
            versions: Vec::new(),
            etag: String::new(),
            keys: vec![(text(&strong, "prefix"), true), (text(&weak, "prefix"), true)],
            acts: 2,
            own: String::new(),
            evidence: String::new(),
            decisions: 0,
            asked: 0,
        }
    }

    pub fn shown(&self) -> Shown {
        let prefix = self.keys.last().unwrap().0.clone();
        let evidence = self.evidence.clone();
        Shown { tenant: self.tenant, etag: self.etag.clone(), prefix, evidence }
    }

    fn now(&self) -> Option<&'static str> {
        self.versions.last().copied().flatten()
    }

    async fn ask(
        &mut self,
        house: &House,
        asked: (&str, &str),
        more: (&str, &str),
        body: &Value,
    ) -> Answer {
        self.asked += 1;
        let id = format!("{}-{}", self.tenant, self.asked);
        let mut headers = headers(&self.key, &id);
        headers.extend((!more.0.is_empty()).then_some(more));
        let answer = house.ask(asked, &headers, body).await;
        assert_eq!(answer.header("x-request-id"), id);
        answer
    }

    async fn get(&mut self, house: &House, path: &str) -> Value {
        let answer = self.ask(house, ("GET", path), ("", ""), &json!({})).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    /// One operation of `class`; all that was answered.
    pub async fn act(
        &mut self,
        house: &House,
        class: &str,
        (source, other): (&mut Source, &Shown),
    ) -> Vec<Answer> {
        match class {
            "judge" => vec![self.judge(house, source).await],
            "batch" => vec![self.batch(house).await],
            "read policy" => self.read_policy(house).await,
            "write policy" => vec![self.write_policy(house, source).await],
            "stale policy" => vec![self.stale_policy(house, (source, other)).await],
            "check policy" => vec![self.check_policy(house, source).await],
            "list keys" => self.list_keys(house).await,
            "change keys" => vec![self.change_keys(house, source).await],
            "own detector" => self.own_detector(house, source).await,
            "audit" => vec![self.audit(house).await],
            "evidence" => self.evidence(house, source).await,
            "foreign id" => vec![self.foreign_id(house, (source, other)).await],
            "foreign tenant" => vec![self.foreign_tenant(house, (source, other)).await],
            "shared state" => vec![self.shared_state(house, source).await],
            "not allowed" => vec![self.not_allowed(house, source).await],
            other => panic!("no class {other}"),
        }
    }

    fn request(&self) -> Value {
        json!({"content": PII, "metadata": {"mark": self.tenant}})
    }

    async fn judge(&mut self, house: &House, source: &mut Source) -> Answer {
        let mut body = self.request();
        body["include"] = json!(["evidence"]);
        let valid = source.chance(45);
        if !valid {
            body["policy"] = json!("no_such");
        }
        let answer = self.ask(house, ("POST", "/orchestrate"), ("", ""), &body).await;
        if valid {
            self.decisions += 1;
            let id = answer.json()["evidence"]["id"].as_str().unwrap().to_owned();
            self.evidence = id;
            assert_eq!(answer.json()["action"], self.now().unwrap_or("redact"), "{}", answer.text);
        } else {
            assert_eq!(answer.status, 400, "{}", answer.text);
        }
        answer
    }

    async fn batch(&mut self, house: &House) -> Answer {
        let body = json!({"requests": [self.request(), {"content": "x"}]});
        let answer = self.ask(house, ("POST", "/orchestrate/batch"), ("", ""), &body).await;
        self.decisions += 2;
        let action = answer.json()["results"][0]["response"]["action"].clone();
        assert_eq!(action, self.now().unwrap_or("redact"), "{}", answer.text);
        answer
    }

    async fn read_policy(&mut self, house: &House) -> Vec<Answer> {
        let mut answers = Vec::new();
        for path in [POLICY, "/policies", "/policies/resolve"] {
            let answer = self.ask(house, ("GET", path), ("", ""), &json!({})).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            answers.push(answer);
        }
        let own = if self.now().is_some() { self.etag.as_str() } else { "" };
        assert_eq!(answers[0].header("etag"), own);
        let mark = answers[0].json()["overlay"]["data"]["settings"]["custom"]["mark"].clone();
        assert_eq!(mark.as_str(), self.now().map(|_| self.tenant));
        let versions = self.get(house, &format!("{POLICY}/versions?limit=1")).await;
        let newest = versions["versions"][0]["version"].as_u64().unwrap_or(0);
        assert_eq!(newest as usize, self.versions.len());
        answers
    }

    fn overlay(&self, action: &str) -> Value {
        json!({"reason": self.tenant, "data": {"settings": {
            "actions": {"pii": action}, "custom": {"mark": self.tenant},
        }}})
    }

    async fn write_policy(&mut self, house: &House, source: &mut Source) -> Answer {
        let etag = self.etag.clone();
        let more = if self.now().is_some() { ("if-match", etag.as_str()) } else { ("", "") };
        let (answer, content) = if self.now().is_some() && source.chance(30) {
            let path = format!("{POLICY}?reason={}", self.tenant);
            (self.ask(house, ("DELETE", &path), more, &json!({})).await, None)
        } else {
            let action = *source.one(&ACTIONS);
            let body = self.overlay(action);
            (self.ask(house, ("PUT", POLICY), more, &body).await, Some(action))
        };
        assert!(answer.status < 300, "{}", answer.text);
        self.etag = answer.header("etag").to_owned();
        self.versions.push(content);
        self.acts += 1;
        answer
    }

    /// The tag of the other, or none.
    async fn stale_policy(
        &mut self,
        house: &House,
        (source, other): (&mut Source, &Shown),
    ) -> Answer {
        let tag = if other.etag.is_empty() { "\"none\"" } else { other.etag.as_str() };
        // Equal versions of equal content would have equal tags; the mark keeps them apart.
        assert_ne!(tag, self.etag);
        let bare = self.now().is_some() && source.chance(50);
        let more = if bare { ("", "") } else { ("if-match", tag) };
        let body = self.overlay("block");
        let answer = self.ask(house, ("PUT", POLICY), more, &body).await;
        assert_eq!(answer.status, if bare { 428 } else { 412 }, "{}", answer.text);
        answer
    }

    async fn check_policy(&mut self, house: &House, source: &mut Source) -> Answer {
        let input = json!({"findings": [], "mark": self.tenant});
        let (path, body) = match source.below(3) {
            0 => {
                ("/policies/evaluate", json!({"policy": "standard", "point": "plan", "input": {}}))
            }
            1 => ("/policies/validate", json!({"policy": "standard", "results": []})),
            _ => {
                ("/policies/evaluate", json!({"policy": "standard", "point": "no", "input": input}))
            }
        };
        let answer = self.ask(house, ("POST", path), ("", ""), &body).await;
        assert!([200, 400].contains(&answer.status), "{path}: {}", answer.text);
        answer
    }

    async fn list_keys(&mut self, house: &House) -> Vec<Answer> {
        let (mut answers, mut seen) = (Vec::new(), Vec::new());
        let mut path = "/keys?limit=200".to_owned();
        loop {
            let answer = self.ask(house, ("GET", &path), ("", ""), &json!({})).await;
            let page = answer.json();
            for key in page["keys"].as_array().unwrap() {
                let holds = key["state"] == "active";
                seen.push((key["prefix"].as_str().unwrap().to_owned(), holds));
            }
            answers.push(answer);
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/keys?limit=200&cursor={next}");
        }
        seen.reverse();
        assert_eq!(seen, self.keys);
        answers
    }

    async fn change_keys(&mut self, house: &House, source: &mut Source) -> Answer {
        // The first two are in use.
        let own = self.keys[2..].iter().position(|(_, holds)| *holds).map(|at| at + 2);
        let (tenant, prefix) = (self.tenant, own.map(|at| self.keys[at].0.clone()));
        let answer = match (source.below(3), prefix) {
            (0, Some(prefix)) => {
                let path = format!("/keys/{prefix}?reason={tenant}");
                self.ask(house, ("DELETE", &path), ("", ""), &json!({})).await
            }
            (1, Some(prefix)) => {
                let body = json!({"overlap_s": 0, "reason": tenant});
                let path = format!("/keys/{prefix}/rotate");
                self.ask(house, ("POST", &path), ("", ""), &body).await
            }
            _ => {
                let scopes = ["orchestrate:status"];
                let body = json!({"label": tenant, "reason": tenant, "scopes": scopes});
                let answer = self.ask(house, ("POST", "/keys"), ("", ""), &body).await;
                assert_eq!(answer.status, 201, "{}", answer.text);
                self.keys.push((answer.json()["prefix"].as_str().unwrap().to_owned(), true));
                self.acts += 1;
                return answer;
            }
        };
        assert!(answer.status < 300, "{}", answer.text);
        self.keys[own.unwrap()].1 = false;
        if answer.status == 201 {
            self.keys.push((answer.json()["prefix"].as_str().unwrap().to_owned(), true));
        }
        self.acts += 1;
        answer
    }

    /// Both register under the same name.
    async fn own_detector(&mut self, house: &House, source: &mut Source) -> Vec<Answer> {
        let (path, there) = ("/detectors/own", !self.own.is_empty());
        let document = json!({"protocol": "native", "description": self.tenant,
            "endpoint": "https://vendor.example/analyze", "categories": ["toxicity"],
            "health": {"path": ""}});
        let body = json!({"detector": document, "reason": self.tenant});
        let tag = self.own.clone();
        let answer = match source.below(4) {
            0 if there => self.ask(house, ("PUT", path), ("", ""), &body).await,
            1 if there => {
                let path = format!("{path}?reason={}", self.tenant);
                self.ask(house, ("DELETE", &path), ("if-match", &tag), &json!({})).await
            }
            _ if there => self.ask(house, ("PUT", path), ("if-match", &tag), &body).await,
            _ => self.ask(house, ("PUT", path), ("", ""), &body).await,
        };
        if answer.status < 300 {
            self.own = answer.header("etag").to_owned();
            self.acts += 1;
        } else {
            assert_eq!((answer.status, there), (428, true), "{}", answer.text);
        }
        let seen = self.ask(house, ("GET", path), ("", ""), &json!({})).await;
        let found = seen.json();
        let own = if self.own.is_empty() { Value::Null } else { json!(self.tenant) };
        assert_eq!((&found["description"], seen.header("etag")), (&own, self.own.as_str()));
        vec![answer, seen]
    }

    async fn audit(&mut self, house: &House) -> Answer {
        let answer = self.ask(house, ("GET", "/audit?limit=200"), ("", ""), &json!({})).await;
        let page = answer.json();
        let acts = page["audit"].as_array().unwrap();
        assert_eq!(acts.len(), self.acts.min(200));
        assert_eq!(page["next"].is_null(), self.acts <= 200);
        assert!(acts.iter().all(|act| act["tenant"] == self.tenant), "{page}");
        answer
    }

    /// Its own, which may not be durable yet, and the chain of its audit.
    async fn evidence(&mut self, house: &House, source: &mut Source) -> Vec<Answer> {
        let wrong = ["/chain?limit=0", "?x=1"];
        let part =
            *source.one(&["", "/chain", "/proof", "/package", "/verify", wrong[0], wrong[1]]);
        let (method, path) = match part {
            "/verify" => ("POST", format!("/evidence/{}{part}", self.evidence)),
            _ => ("GET", format!("/evidence/{}{part}", self.evidence)),
        };
        let answer = self.ask(house, (method, &path), ("", ""), &json!({})).await;
        match (answer.status, part) {
            (404, _) => {}
            (400, part) if wrong.contains(&part) => {}
            (200, "") => assert_eq!(answer.json()["tenant"], self.tenant, "{}", answer.text),
            (200, "/verify") => {
                assert_eq!(answer.json()["overall_valid"], true, "{}", answer.text);
            }
            (200, _) => {}
            (other, _) => panic!("{path}: {other} {}", answer.text),
        }
        let chain = self.ask(house, ("GET", "/audit/verify"), ("", ""), &json!({})).await;
        let found = chain.json();
        assert_eq!((&found["valid"], &found["entries"]), (&json!(true), &json!(self.acts)));
        vec![answer, chain]
    }

    async fn foreign_id(
        &mut self,
        house: &House,
        (source, other): (&mut Source, &Shown),
    ) -> Answer {
        let prefix = &other.prefix;
        let why = json!({"overlap_s": 0, "reason": self.tenant});
        let evidence = format!("/evidence/{}", other.evidence);
        let answer = match source.below(6) {
            0 => self.ask(house, ("GET", &format!("/keys/{prefix}")), ("", ""), &why).await,
            3 => self.ask(house, ("GET", &evidence), ("", ""), &why).await,
            4 => {
                let path = format!("{evidence}/{}", source.one(&["chain", "proof", "package"]));
                self.ask(house, ("GET", &path), ("", ""), &why).await
            }
            5 => {
                let path = format!("{evidence}/verify");
                self.ask(house, ("POST", &path), ("", ""), &json!({})).await
            }
            1 => {
                let path = format!("/keys/{prefix}?reason=x");
                self.ask(house, ("DELETE", &path), ("", ""), &why).await
            }
            _ => {
                let path = format!("/keys/{prefix}/rotate");
                self.ask(house, ("POST", &path), ("", ""), &why).await
            }
        };
        assert_eq!(answer.status, 404, "{}", answer.text);
        answer
    }

    async fn foreign_tenant(
        &mut self,
        house: &House,
        (source, other): (&mut Source, &Shown),
    ) -> Answer {
        // The mark of the other stands in what is sent here, so it must not be repeated.
        let header = ("x-tenant-id", other.tenant);
        let request = json!({"content": PII});
        let answer = match source.below(6) {
            0 => self.ask(house, ("POST", "/orchestrate"), header, &request).await,
            1 => {
                let body = json!({"content": PII, "tenant_id": other.tenant});
                self.ask(house, ("POST", "/orchestrate"), ("", ""), &body).await
            }
            2 => self.ask(house, ("GET", "/audit"), header, &request).await,
            3 => self.ask(house, ("GET", POLICY), header, &request).await,
            4 => {
                let overlay = self.overlay("flag");
                self.ask(house, ("PUT", POLICY), header, &overlay).await
            }
            _ => {
                let body = json!({"label": "x", "reason": "x", "roles": ["viewer"],
                    "tenant": other.tenant});
                self.ask(house, ("POST", "/keys"), ("", ""), &body).await
            }
        };
        assert_eq!(answer.json()["code"], "TENANT_MISMATCH", "{}", answer.text);
        answer
    }

    async fn shared_state(&mut self, house: &House, source: &mut Source) -> Answer {
        let path = *source.one(&SHARED);
        let answer = self.ask(house, ("GET", path), ("", ""), &json!({})).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        if path == "/metrics" {
            let mark = "orchestrator_decisions_total{";
            let own = answer.text.lines().filter(|line| line.starts_with(mark));
            let counted = own.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
            assert_eq!(counted.sum::<f64>() as usize, self.decisions, "{}", answer.text);
        }
        answer
    }

    async fn not_allowed(&mut self, house: &House, source: &mut Source) -> Answer {
        let strong = std::mem::replace(&mut self.key, self.weak.clone());
        let (method, path) = *source.one(&[
            ("GET", "/audit"),
            ("GET", "/keys"),
            ("GET", "/metrics"),
            ("GET", POLICY),
            ("PUT", POLICY),
            ("POST", "/orchestrate"),
            ("POST", "/admin/reload"),
            ("POST", "/breakers/pii/open"),
        ]);
        let body = self.request();
        let answer = self.ask(house, (method, path), ("", ""), &body).await;
        assert_eq!(answer.json()["code"], "INSUFFICIENT_SCOPE", "{}", answer.text);
        self.key = strong;
        answer
    }
}
