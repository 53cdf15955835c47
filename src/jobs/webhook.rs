//! Tells of the end of jobs at the addresses that their makers named.
//!
//! The store delivers each end to the group `webhooks` until somebody takes it or it was tried often
//! enough; then it stays as a dead delivery. Each try of an end carries the same `X-Delivery-Id`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;
use tokio::time::timeout;

use super::content::Callback;
use super::crew::Crew;
use crate::domain::error::{Code, Error};
use crate::domain::event::Event;
use crate::domain::job::{JobId, JobKey};
use crate::outbound::{Call, Client, Guard, SendError};
use crate::seal::{self, SharedSecret};
use crate::store::{Delivering, Delivery, Group, StoreError, Stream, Told};

/// Of one call.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Calls at once.
const AT_ONCE: u32 = 16;
/// Before a delivery is dead: at once, then after 1, 2, 4, 8, 16 and 30 s.
const TRIES: u32 = 7;
const REST_MAX: Duration = Duration::from_secs(30);
/// Until what an instance took and did not end is delivered again.
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

/// How one try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It was taken, or nobody wants it.
    Done,
    /// It may be taken later.
    Later,
    /// It will never be.
    Never,
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
        Webhooks { client: Client::new(guard) }
    }

    /// Tells of ends for as long as the service runs.
    pub(super) async fn tell(&self, crew: &Crew) {
        loop {
            match self.round(crew).await {
                Ok(0) => {}
                Ok(_) => continue,
                Err(error) => tracing::debug!(%error, "ends of jobs are told in a while"),
            }
            // Told too early, it is heard at the next look.
            let _ = timeout(POLL, crew.ended.notified()).await;
        }
    }

    async fn round(&self, crew: &Crew) -> Result<usize, StoreError> {
        while crew.store.number_events(1_000).await? > 0 {}
        let how = Delivering { most: AT_ONCE, ack_wait: ACK_WAIT, deliveries_max: TRIES };
        let deliveries = crew.store.deliver(group(), how).await?;
        let count = deliveries.len();
        let one = |delivery: Delivery| async move {
            let said = self.one(crew, &delivery).await;
            if let Err(error) = answer(crew, &delivery, said).await {
                tracing::debug!(%error, "how a webhook went could not be kept; it goes again");
            }
        };
        futures_util::stream::iter(deliveries).for_each_concurrent(AT_ONCE as usize, one).await;
        Ok(count)
    }

    async fn one(&self, crew: &Crew, delivery: &Delivery) -> Said {
        let Told { event, .. } = &delivery.told;
        let Some(of) = job_of(event) else { return Said::Done };
        let job = match crew.store.job(of).await {
            Ok(Some(job)) => job,
            Ok(None) => return Said::Done,
            Err(_) => return Said::Later,
        };
        let (callback, secret) = match crew.callback(&job) {
            Ok(Some(known)) => known,
            Ok(None) => return Said::Done,
            Err(_) => return Said::Never,
        };
        let Some(call) = call(&callback, &secret, event) else { return Said::Never };
        match timeout(TIMEOUT, self.client.send(call)).await {
            Ok(Ok(reply)) if reply.status.is_success() => Said::Done,
            Ok(Err(SendError::Forbidden(_))) => Said::Never,
            Ok(Ok(_) | Err(_)) | Err(_) => Said::Later,
        }
    }
}

/// Which job an event speaks of.
pub fn job_of(event: &Event) -> Option<JobKey> {
    let id = event.data.get("job_id").and_then(serde_json::Value::as_str).and_then(JobId::parse)?;
    Some(JobKey { tenant: event.tenant.clone()?, id })
}

async fn answer(crew: &Crew, delivery: &Delivery, said: Said) -> Result<(), StoreError> {
    let id = delivery.told.event.id;
    let (rest, most) = match said {
        Said::Done => return crew.store.acknowledge(group(), vec![id]).await.map(drop),
        Said::Later => (rest(delivery.count), TRIES),
        Said::Never => (Duration::ZERO, delivery.count),
    };
    if delivery.count >= most {
        tracing::warn!(delivery = %id.hex(), "A webhook was given up; it is a dead letter");
    }
    crew.store.refuse(group(), id, (rest, most)).await.map(drop)
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
