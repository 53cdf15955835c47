//! Reads a request body within its limits: bytes, time, and rate. actix itself bounds none in time.
//! An answer that is being sent is held to the same time and rate (`stream`).

use std::time::Duration;

use actix_web::http::header;
use actix_web::web::{Bytes, BytesMut, Data, Payload};
use actix_web::{HttpMessage as _, HttpRequest};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::admit::refusal;
use super::{Api, strict};
use crate::domain::error::{Code, Error};
use crate::settings::Limits;

/// Room that is made for a body before a byte of it has come.
const ROOM_BYTES_MAX: usize = 128 << 10;

/// Limits of a body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Bytes.
    pub bytes_max: usize,
    /// Free time for the whole body, and the longest without a byte of it.
    pub grace: Duration,
    /// Bytes per second that keep a slower body alive.
    pub rate_min: u64,
}

impl BodyLimits {
    /// Those of the settings.
    pub fn of(limits: &Limits) -> Self {
        Self {
            bytes_max: limits.body_bytes_max,
            grace: limits.body_timeout.0,
            rate_min: limits.body_bytes_per_second_min,
        }
    }

    /// When a body that began at `started`, and of which `bytes` came until `last`, is too slow.
    pub(super) fn until(&self, started: Instant, last: Instant, bytes: usize) -> Instant {
        let earned = Duration::from_millis(bytes as u64 * 1000 / self.rate_min.max(1));
        (started + self.grace.max(earned)).min(last + self.grace)
    }
}

/// Reads and parses a JSON body.
pub async fn json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    limits: BodyLimits,
) -> Result<T, Error> {
    strict::parse(&bytes(request, payload, limits).await?)
}

/// That nothing is said in the body, where nothing there would be heard: it is empty, or `{}`.
pub(super) async fn nothing(
    request: &HttpRequest,
    payload: Payload,
    limits: BodyLimits,
) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    let bytes = read(request, payload, limits).await?;
    if bytes.is_empty() {
        return Ok(());
    }
    strict::parse::<Nothing>(&bytes).map(drop).map_err(|error| {
        let message = "the route takes no body; a reason goes into the query: ?reason=";
        Error { message: message.to_owned(), ..error }
    })
}

/// Reads a JSON body, unparsed.
pub(super) async fn bytes(
    request: &HttpRequest,
    payload: Payload,
    limits: BodyLimits,
) -> Result<Bytes, Error> {
    check_headers(request, limits)?;
    read(request, payload, limits).await
}

/// The same with the whole as a value.
pub(super) async fn json_and_value<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    limits: BodyLimits,
) -> Result<(T, serde_json::Value), Error> {
    let bytes = bytes(request, payload, limits).await?;
    // The typed one first: it names faults by their fields.
    let typed = strict::parse(&bytes)?;
    let strict::Value(value) = strict::parse(&bytes)?;
    Ok((typed, value))
}

fn check_headers(request: &HttpRequest, limits: BodyLimits) -> Result<(), Error> {
    let headers = request.headers();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let message = "send JSON with the header Content-Type: application/json";
        return Err(Error::new(Code::UnsupportedMediaType, message));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        let message = "compressed bodies are not read; send it without Content-Encoding";
        return Err(Error::new(Code::UnsupportedMediaType, message));
    }
    match declared(request) {
        Some(length) if length > limits.bytes_max => Err(too_large(limits)),
        Some(_) | None => Ok(()),
    }
}

fn too_large(limits: BodyLimits) -> Error {
    let message = format!("the body exceeds {} bytes; send less, or in parts", limits.bytes_max);
    Error::new(Code::PayloadTooLarge, message)
}

fn declared(request: &HttpRequest) -> Option<usize> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    length.and_then(|length| length.to_str().ok()?.parse().ok())
}

/// Reads a body to its end, within its limits and among the bytes of all bodies, which it counts
/// to until the request is answered.
pub(super) async fn read(
    request: &HttpRequest,
    mut payload: Payload,
    limits: BodyLimits,
) -> Result<Bytes, Error> {
    let started = Instant::now();
    // What is declared is room at first, and no more than a moderate body: bytes must come to count.
    let room = declared(request).unwrap_or(0).min(limits.bytes_max).min(ROOM_BYTES_MAX);
    let (mut body, mut last) = (BytesMut::with_capacity(room), started);
    let api = request.app_data::<Data<Api>>();
    let mut held = match api {
        Some(api) => Some(api.admission.body(declared(request).unwrap_or(0)).map_err(refusal)?),
        None => None,
    };
    loop {
        match timeout_at(limits.until(started, last, body.len()), payload.next()).await {
            Err(_) => {
                let message = format!("the body did not arrive in time ({} bytes did)", body.len());
                return Err(Error::new(Code::RequestTimeout, message));
            }
            Ok(None) => {
                request.extensions_mut().insert(held);
                return Ok(body.freeze());
            }
            Ok(Some(Err(error))) => {
                let message = "the body could not be read to its end";
                return Err(Error::new(Code::InvalidRequest, message).caused_by(error.to_string()));
            }
            Ok(Some(Ok(chunk))) => {
                if body.len() + chunk.len() > limits.bytes_max {
                    return Err(too_large(limits));
                }
                if let (Some(api), Some(held)) = (api, &mut held)
                    && !held.grow(chunk.len())
                {
                    return Err(refusal(api.admission.no_room()));
                }
                body.extend_from_slice(&chunk);
                last = Instant::now();
            }
        }
    }
}
