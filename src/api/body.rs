//! Reads a request body within its limits: bytes, time, and rate. actix itself bounds none in time.

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

/// Limits of a body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Bytes.
    pub bytes_max: usize,
    /// Free time for the whole body.
    pub grace: Duration,
    /// Bytes per second that keep a slower body alive.
    pub rate_min: u64,
}

/// Reads and parses a JSON body.
pub async fn json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    limits: BodyLimits,
) -> Result<T, Error> {
    check_headers(request, limits)?;
    let bytes = read(request, payload, limits).await?;
    strict::parse(&bytes)
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
    let mut body = BytesMut::new();
    let api = request.app_data::<Data<Api>>();
    let mut held = match api {
        Some(api) => Some(api.admission.body(declared(request).unwrap_or(0)).map_err(refusal)?),
        None => None,
    };
    loop {
        let earned = Duration::from_millis(body.len() as u64 * 1000 / limits.rate_min.max(1));
        let until = started + limits.grace.max(earned);
        match timeout_at(until, payload.next()).await {
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
            }
        }
    }
}
