//! An open loop: requests leave when they are due, whoever still waits, and the time of each counts
//! from when it was due (so that a stalled service cannot hide its stall).

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::app::{HttpClient, client};

/// Where the load goes, and with which key.
#[derive(Clone)]
pub struct Target {
    client: HttpClient,
    address: Arc<str>,
    key: Option<Arc<str>>,
    /// Whether detectors must be asked, whatever others ask or were told.
    fresh: bool,
}

/// One answer; status 0 where there was none.
#[derive(Debug)]
pub struct Sample {
    /// Which of the loop's.
    pub number: usize,
    /// From when it was due.
    pub took: Duration,
    /// When it came, from the loop's begin.
    pub at: Duration,
    /// How late the loop itself was to send it.
    pub behind: Duration,
    pub status: u16,
    pub retry_after: Option<u64>,
    pub value: Value,
}

impl Target {
    pub fn new(address: &str, key: Option<&str>) -> Target {
        Target { client: client(), address: address.into(), key: key.map(Into::into), fresh: false }
    }

    /// The same with a connection for each request.
    pub fn reconnecting(address: &str) -> Target {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Target { client, ..Target::new(address, None) }
    }

    /// The same for requests that neither the cache nor the calls of others may answer.
    pub fn fresh(&self) -> Target {
        Target { fresh: true, ..self.clone() }
    }

    /// Asks for a judgement of `body`; status, `Retry-After` and the answer.
    pub async fn ask(&self, body: String) -> (u16, Option<u64>, Value) {
        let mut request =
            hyper::Request::post(format!("http://{}/api/v1/orchestrate", self.address))
                .header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("x-api-key", &**key);
        }
        if self.fresh {
            request = request.header("cache-control", "no-store");
        }
        let sent = self.client.request(request.body(Full::from(body)).unwrap());
        let Ok(response) = sent.await else { return (0, None, Value::Null) };
        let status = response.status().as_u16();
        let pause = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let pause = pause.and_then(|value| value.parse().ok());
        let bytes = response.into_body().collect().await.map(|body| body.to_bytes());
        let value = serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default();
        (status, pause, value)
    }

    /// `rate` requests a second for `time`; the answers by number.
    pub async fn open_loop(
        &self,
        rate: f64,
        time: Duration,
        body: impl Fn(usize) -> String,
    ) -> Vec<Sample> {
        let begin = Instant::now();
        let mut tasks = JoinSet::new();
        for number in 0..(rate * time.as_secs_f64()).ceil() as usize {
            let due = begin + Duration::from_secs_f64(number as f64 / rate);
            tokio::time::sleep_until(due).await;
            let (target, body) = (self.clone(), body(number));
            tasks.spawn(async move {
                let behind = due.elapsed();
                let (status, retry_after, value) = target.ask(body).await;
                let now = Instant::now();
                let (took, at) = (now - due, now - begin);
                Sample { number, took, at, behind, status, retry_after, value }
            });
        }
        let mut all = tasks.join_all().await;
        all.sort_by_key(|sample| sample.number);
        all
    }

    /// All of `bodies`, `at_once` under way; the time of each counts from when it was sent.
    pub async fn crowd(&self, at_once: usize, bodies: Vec<String>) -> Vec<Sample> {
        let begin = Instant::now();
        let each = bodies.into_iter().enumerate().map(|(number, body)| {
            let (target, sent) = (self.clone(), Instant::now());
            let asked = tokio::spawn(async move {
                let (status, retry_after, value) = target.ask(body).await;
                let now = Instant::now();
                let (took, at, behind) = (now - sent, now - begin, Duration::ZERO);
                Sample { number, took, at, behind, status, retry_after, value }
            });
            async { asked.await.unwrap() }
        });
        futures_util::stream::iter(each).buffer_unordered(at_once).collect().await
    }

    /// `at_once` requests always under way for `time`; complete answers a second.
    pub async fn closed_loop(
        &self,
        at_once: usize,
        time: Duration,
        body: impl Fn(usize) -> String + Clone + Send + 'static,
    ) -> f64 {
        let begin = Instant::now();
        let mut tasks = JoinSet::new();
        for first in 0..at_once {
            let (target, body) = (self.clone(), body.clone());
            tasks.spawn(async move {
                let mut good = 0_usize;
                let mut number = first;
                while begin.elapsed() < time {
                    let (status, _, value) = target.ask(body(number)).await;
                    good += usize::from(status == 200 && complete(&value));
                    number += at_once;
                }
                good
            });
        }
        let good: usize = tasks.join_all().await.into_iter().sum();
        good as f64 / begin.elapsed().as_secs_f64()
    }

    /// A page of the service.
    pub async fn get(&self, path: &str) -> String {
        let mut request = hyper::Request::get(format!("http://{}{path}", self.address));
        if let Some(key) = &self.key {
            request = request.header("x-api-key", &**key);
        }
        let response = self.client.request(request.body(Full::default()).unwrap()).await.unwrap();
        let bytes: Bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}

/// Whether an answer lacks nothing that was required.
pub fn complete(value: &Value) -> bool {
    value["coverage"]["complete"] == true
}

/// The part of the times, in milliseconds; nothing of none.
pub fn part(samples: &[&Sample], part: f64) -> f64 {
    let mut times: Vec<Duration> = samples.iter().map(|sample| sample.took).collect();
    times.sort();
    let at = (times.len() as f64 * part) as usize;
    times.get(at.min(times.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}
