//! Tells of the end of jobs at the addresses that their makers named.
//!
//! The store delivers each end to the group `webhooks` until somebody takes it or it was tried often
//! enough; then it stays as a dead delivery. Each try of an end carries the same `X-Delivery-Id`.
//! A receiver that hangs takes places from its own tenant alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::content::Callback;
use super::crew::{Crew, SEALED_REST};
use crate::domain::error::{Code, Error};
use crate::domain::event::Event;
use crate::domain::id::TenantId;
use crate::domain::job::{JobId, JobKey};
use crate::metrics::Webhook;
use crate::outbound::{Call, Client, Guard, SendError};
use crate::seal::{self, SharedSecret};
use crate::store::{Delivering, Delivery, Group, Shares, StoreError, Stream, Told};

/// Of one call.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Calls at once, and of these those of one tenant, and those to one host.
const AT_ONCE: u32 = 128;
const AT_ONCE_OF_TENANT: u32 = 8;
const AT_ONCE_TO_HOST: usize = 32;
/// Before a delivery is dead: at once, then after 1, 2, 4, 8, 16 and 30 s.
const TRIES: u32 = 7;
const REST_MAX: Duration = Duration::from_secs(30);
/// Until what an instance took and did not end is delivered again: longer than the calls to one host
/// take where all of them are to that host, and time out.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Between looks for what other instances ended.
const POLL: Duration = Duration::from_secs(1);

/// The group that ends of jobs are delivered to.
pub fn group() -> Group {
    Group { stream: Stream::Callbacks, name: "webhooks".to_owned() }
}

/// What sends.
pub struct Webhooks {
    client: Client,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// What is told.
#[derive(Serialize)]
struct Body<'a> {
    id: String,
    event_type: &'static str,
    timestamp: String,
    tenant: &'a str,
    source: &'a str,
    data: &'a serde_json::Value,
}

/// How one try ended; why, without content.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// It was taken.
    Done,
    /// Nobody wants it.
    Unwanted,
    /// It may be taken later.
    Later(String),
    /// It will never be.
    Never(&'static str),
}

/// Whether the end of a job may be told at `url`: over https, or in the clear where the deployment
/// opens the place to it.
pub fn check(guard: &Guard, url: &str) -> Result<Callback, Error> {
    let refuse = |code, fault, detail: String| Error::field(code, "/callback_url", fault, detail);
    let uri: Uri = url.parse().map_err(|_| {
        let detail = "is no address; send one like https://example.com/jobs".to_owned();
        refuse(Code::InvalidRequest, "bad_value", detail)
    })?;
    let forbidden = |why: String| refuse(Code::EndpointForbidden, "endpoint_forbidden", why);
    guard.check(&uri).map_err(|why| forbidden(why.to_string()))?;
    if uri.scheme_str() != Some("https") && !guard.opens(&uri) {
        return Err(forbidden("must be https: the deployment does not open this place".to_owned()));
    }
    Ok(Callback { url: url.to_owned() })
}

impl Webhooks {
    /// Sends only where `guard` allows.
    pub fn new(guard: Arc<Guard>) -> Webhooks {
        Webhooks { client: Client::new(guard), hosts: Mutex::default() }
    }

    /// Tells of ends for as long as the service runs.
    pub(super) async fn tell(&self, crew: &Crew) {
        let mut out = BTreeMap::<TenantId, u32>::new();
        let mut under_way = FuturesUnordered::new();
        loop {
            let room = AT_ONCE.saturating_sub(u32::try_from(under_way.len()).unwrap_or(AT_ONCE));
            match next(crew, room, &out).await {
                Ok(deliveries) => {
                    for delivery in deliveries {
                        let tenant = delivery.told.event.tenant.clone();
                        if let Some(tenant) = &tenant {
                            *out.entry(tenant.clone()).or_default() += 1;
                        }
                        under_way.push(self.attended(crew, delivery).map(|()| tenant));
                    }
                }
                Err(error) => tracing::debug!(%error, "ends of jobs are told in a while"),
            }
            let mut ended = tokio::select! {
                Some(ended) = under_way.next() => Some(ended),
                // Told too early, it is heard at the next look.
                _ = timeout(POLL, crew.ended.notified()) => None,
            };
            while let Some(tenant) = ended {
                if let Some(tenant) = tenant {
                    less(&mut out, &tenant);
                }
                ended = under_way.next().now_or_never().flatten();
            }
        }
    }

    async fn attended(&self, crew: &Crew, delivery: Delivery) {
        let said = self.one(crew, &delivery).await;
        if let Err(error) = answer(crew, &delivery, said).await {
            tracing::debug!(%error, "how a webhook went could not be kept; it goes again");
        }
    }

    async fn one(&self, crew: &Crew, delivery: &Delivery) -> Said {
        let Told { event, .. } = &delivery.told;
        let Some(of) = job_of(event) else { return Said::Unwanted };
        let job = match crew.store.job(of).await {
            Ok(Some(job)) => job,
            Ok(None) => return Said::Unwanted,
            Err(_) => return Said::Later("store".to_owned()),
        };
        let (callback, secret) = match crew.callback(&job) {
            Ok(Some(known)) => known,
            Ok(None) => return Said::Unwanted,
            Err(_) if crew.is_foreign(&job) => return Said::Later("sealed".to_owned()),
            Err(_) => return Said::Never("sealed"),
        };
        let Some(call) = call(&callback, &secret, event) else { return Said::Never("address") };
        let host = self.host(&call.uri);
        // It is never closed.
        let _place = host.acquire().await;
        // What waited for the host is signed as of now.
        let Some(call) = self::call(&callback, &secret, event) else {
            return Said::Never("address");
        };
        match timeout(TIMEOUT, self.client.send(call)).await {
            Ok(Ok(reply)) if reply.status.is_success() => Said::Done,
            Ok(Ok(reply)) => Said::Later(reply.status.as_u16().to_string()),
            Ok(Err(SendError::Forbidden(_))) => Said::Never("forbidden"),
            Ok(Err(error)) => Said::Later(word(&error).to_owned()),
            Err(_) => Said::Later("timeout".to_owned()),
        }
    }

    /// Places for calls to the host of `uri`; those that nobody uses are forgotten.
    fn host(&self, uri: &Uri) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, places| Arc::strong_count(places) > 1);
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let places = hosts.entry(host.to_owned());
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE_TO_HOST))))
    }
}

/// What is told next, at most `room`, beside what is `out`.
async fn next(
    crew: &Crew,
    room: u32,
    out: &BTreeMap<TenantId, u32>,
) -> Result<Vec<Delivery>, StoreError> {
    while crew.store.number_events(1_000).await? > 0 {}
    if room == 0 {
        return Ok(Vec::new());
    }
    let how = Delivering { most: room, ack_wait: ACK_WAIT, deliveries_max: TRIES };
    let shares = Shares { each: AT_ONCE_OF_TENANT, out: out.clone() };
    crew.store.deliver_fairly(group(), how, shares).await
}

fn less(out: &mut BTreeMap<TenantId, u32>, tenant: &TenantId) {
    if let Some(count) = out.get_mut(tenant) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            out.remove(tenant);
        }
    }
}

/// For people: why a telling failed.
pub fn meaning(why: &str) -> String {
    let told = match why {
        "timeout" => "the receiver did not answer within 5 s",
        "connect" => "no connection was made",
        "tls" => "the TLS handshake failed",
        "broken" => "the connection broke before the answer was complete",
        "protocol" => "the answer is no plain HTTP/1",
        "too_large" => "the answer is too large",
        "forbidden" => "the service may not connect to the address",
        "address" => "the address is none any more",
        "sealed" => "the address cannot be opened; was ORCHESTRATION_DATA_KEY changed?",
        "store" => "the store did not answer",
        status => return format!("the receiver answered {status}"),
    };
    told.to_owned()
}

fn word(error: &SendError) -> &'static str {
    match error {
        SendError::Forbidden(_) => "forbidden",
        SendError::Connect(_) => "connect",
        SendError::Tls(_) => "tls",
        SendError::Broken(_) => "broken",
        SendError::Protocol(_) => "protocol",
        SendError::TooLarge => "too_large",
    }
}

/// Which job an event speaks of.
pub fn job_of(event: &Event) -> Option<JobKey> {
    let id = event.data.get("job_id").and_then(serde_json::Value::as_str).and_then(JobId::parse)?;
    Some(JobKey { tenant: event.tenant.clone()?, id })
}

async fn answer(crew: &Crew, delivery: &Delivery, said: Said) -> Result<(), StoreError> {
    let id = delivery.told.event.id;
    let (rest, most, why) = match said {
        Said::Done | Said::Unwanted => {
            if said == Said::Done {
                crew.metrics.webhook(Webhook::Taken);
                forget(crew, &delivery.told.event).await?;
            }
            return crew.store.acknowledge(group(), vec![id]).await.map(drop);
        }
        // Another instance may have the data key.
        Said::Later(why) if why == "sealed" => (SEALED_REST, TRIES, why),
        Said::Later(why) => (rest(delivery.count), TRIES, why),
        Said::Never(why) => (Duration::ZERO, delivery.count, why.to_owned()),
    };
    let dead = delivery.count >= most;
    if dead {
        tracing::warn!(delivery = %id.hex(), why, "A webhook was given up; it is a dead letter");
    }
    crew.metrics.webhook(if dead { Webhook::Dead } else { Webhook::Again });
    crew.store.refuse(group(), id, (rest, most), Some(why)).await.map(drop)
}

/// The address is needed no more, unless the job may come to another end. Before the acknowledgement:
/// what is told once more after a crash finds no address, and is wanted by nobody.
async fn forget(crew: &Crew, event: &Event) -> Result<(), StoreError> {
    let version = event.data.get("version").and_then(serde_json::Value::as_u64);
    let Some((of, version)) = job_of(event).zip(version) else { return Ok(()) };
    crew.store.forget_callback(of, version).await.map(drop)
}

/// After try number `count`, from 1.
fn rest(count: u32) -> Duration {
    let doubled = Duration::from_secs(1) * 2_u32.saturating_pow(count.saturating_sub(1).min(10));
    doubled.min(REST_MAX).mul_f64(0.8 + 0.4 * seal::spread())
}

fn call(callback: &Callback, secret: &SharedSecret, event: &Event) -> Option<Call> {
    let (now, id) = (jiff::Timestamp::now(), event.id.hex());
    let body = Body {
        id: id.clone(),
        event_type: event.event_type.name(),
        timestamp: jiff::Timestamp::from_millisecond(event.at_ms)
            .ok()?
            .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
            .to_string(),
        tenant: event.tenant.as_ref()?.as_str(),
        source: &event.source,
        data: &event.data,
    };
    let body = Bytes::from(serde_json::to_vec(&body).ok()?);
    let timestamp = now.as_second().to_string();
    let mac = hex::encode(secret.hmac([timestamp.as_bytes(), b".", &body]));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in
        [("x-delivery-id", &id), ("x-timestamp", &timestamp), ("x-signature", &mac)]
    {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
    }
    let uri: Uri = callback.url.parse().ok()?;
    // Nobody reads what is answered.
    Some(Call { method: Method::POST, uri, headers, body, body_max: 64 * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::{Allow, Env};

    #[test]
    fn only_https_or_what_the_deployment_opens_is_called_back() {
        let guard = |env, allow: &[&str]| {
            Guard::new(env, allow.iter().map(|raw| Allow::parse(raw).unwrap()).collect())
        };
        let closed = guard(Env::Production, &[]);
        let open = guard(Env::Production, &["10.0.0.0/8", "hooks.internal"]);
        for (guard, url, code) in [
            (&closed, "https://example.com/x?token=1", None),
            (&closed, "http://example.com/x", Some(Code::EndpointForbidden)),
            (&closed, "https://10.1.2.3/x", Some(Code::EndpointForbidden)),
            (&closed, "https://169.254.169.254/x", Some(Code::EndpointForbidden)),
            (&closed, "https://ana:pw@example.com/x", Some(Code::EndpointForbidden)),
            (&closed, "ftp://example.com/x", Some(Code::EndpointForbidden)),
            (&closed, "not an address", Some(Code::InvalidRequest)),
            (&open, "http://10.1.2.3/x", None),
            (&open, "http://hooks.internal/x", None),
            (&open, "http://example.com/x", Some(Code::EndpointForbidden)),
            (&open, "http://169.254.169.254/x", Some(Code::EndpointForbidden)),
        ] {
            let found = check(guard, url).err().map(|error| error.code);
            assert_eq!(found, code, "{url}");
        }
        assert!(check(&guard(Env::Development, &[]), "http://127.0.0.1:9/x").is_ok());
    }

    #[test]
    fn rests_double_from_one_second_to_thirty() {
        for (count, seconds) in [(1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (70, 30.0)] {
            let rest = rest(count).as_secs_f64();
            assert!((rest / seconds - 1.0).abs() < 0.21, "{count}: {rest}");
        }
    }
}
