//! An open loop of requests of two tenants, and everything that was answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::tree::Stamps;
use crate::app::client;

/// One answer, or why there is none.
#[derive(Debug)]
pub struct Answer {
    pub sent: Instant,
    pub done: Instant,
    pub ask: Ask,
    /// Of the response; 0 if there was none.
    pub status: u16,
    pub revision: String,
    /// As the headers say.
    pub stamps: Stamps,
    pub action: String,
    /// The version that a reason names.
    pub reason: String,
    /// The machine was too slow for a policy or a detector, so that the tenant's `fail_mode` or
    /// `on_incomplete` decided.
    pub starved: bool,
    /// What is wrong at first sight.
    pub text: String,
}

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub tenant: &'static str,
    /// Whether the content holds personal data.
    pub personal: bool,
}

impl Ask {
    pub fn of(at: usize) -> Ask {
        Ask { tenant: ["acme", "globex"][at % 2], personal: !(at / 2).is_multiple_of(4) }
    }

    pub fn content(self) -> &'static str {
        if self.personal { "Mail ana@evil.io today." } else { "All is well today." }
    }
}

/// What was answered so far.
#[derive(Default)]
pub struct Seen {
    pub answers: Mutex<Vec<Answer>>,
    /// When each revision was answered first.
    first: Mutex<HashMap<String, Instant>>,
    news: Notify,
}

impl Seen {
    /// When `revision` was answered first; `None` if that takes longer than `patience`.
    pub async fn wait(&self, revision: &str, patience: Duration) -> Option<Instant> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            let news = self.news.notified();
            if let Some(first) = self.first.lock().unwrap().get(revision) {
                return Some(*first);
            }
            tokio::time::timeout_at(until, news).await.ok()?;
        }
    }

    fn add(&self, answer: Answer) {
        if answer.status == 200 {
            let mut first = self.first.lock().unwrap();
            first.entry(answer.revision.clone()).or_insert_with(|| {
                self.news.notify_waiters();
                answer.done
            });
        }
        self.answers.lock().unwrap().push(answer);
    }
}

/// Sends `rate` requests a second, whether or not earlier ones were answered, until dropped.
pub struct Load {
    pub seen: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    pub fn start(address: &str, rate: u32) -> Load {
        let seen = Arc::new(Seen::default());
        let (into, url) = (Arc::clone(&seen), format!("http://{address}/api/v1/orchestrate"));
        let task = tokio::task::spawn(async move {
            let client = client();
            let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
            for at in 0.. {
                tick.tick().await;
                let (client, seen, url) = (client.clone(), Arc::clone(&into), url.clone());
                tokio::task::spawn(async move { seen.add(ask(&client, &url, Ask::of(at)).await) });
            }
        });
        Load { seen, task }
    }

    /// Sends no more; what was answered, once everything was.
    pub async fn stop(self) -> Vec<Answer> {
        self.task.abort();
        let _ = self.task.await;
        let until = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&self.seen) > 1 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::mem::take(&mut *self.seen.answers.lock().unwrap())
    }
}

async fn ask(client: &Client<HttpConnector, Full<Bytes>>, url: &str, ask: Ask) -> Answer {
    let body = json!({"content": ask.content(), "tenant_id": ask.tenant}).to_string();
    let request = hyper::Request::post(url).header("content-type", "application/json");
    let request = request.body(Full::from(body)).unwrap();
    let sent = Instant::now();
    let mut answer = Answer {
        sent,
        done: sent,
        ask,
        status: 0,
        revision: String::new(),
        stamps: Stamps::default(),
        action: String::new(),
        reason: String::new(),
        starved: false,
        text: String::new(),
    };
    let response = match client.request(request).await {
        Ok(response) => response,
        Err(error) => return Answer { text: error.to_string(), done: Instant::now(), ..answer },
    };
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let header = |name: &str| parts.headers.get(name).map_or("", |v| v.to_str().unwrap());
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let word = |at: &str| value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    answer.done = Instant::now();
    answer.status = parts.status.as_u16();
    answer.revision = word("/policy/revision");
    let (table, rego, overlay) = (header("x-table"), header("x-rego"), header("x-overlay"));
    answer.stamps = Stamps { table: table.into(), rego: rego.into(), overlay: overlay.into() };
    answer.action = word("/action");
    answer.reason = stamped(&value);
    let degraded = value["degraded"].to_string();
    let slow = ["time limit", "policy_budget", "is stuck"];
    let late = value["coverage"]["complete"] == false;
    answer.starved = late || slow.iter().any(|why| degraded.contains(why));
    if header("x-policy-revision") != answer.revision || (degraded != "null" && !answer.starved) {
        answer.text = format!("{} {value}", header("x-policy-revision"));
    }
    answer
}

/// The version that the reasons of an outcome name.
pub fn stamped(outcome: &Value) -> String {
    let reasons = outcome["reasons"].as_array().into_iter().flatten();
    let mut named = reasons.filter_map(|reason| reason["message"].as_str()?.strip_prefix("rego "));
    named.next().unwrap_or_default().to_owned()
}
