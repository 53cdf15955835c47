//! Errors as `application/problem+json` (RFC 9457), and the one table of HTTP statuses.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::error::{Code, Error, FieldFault};
use crate::seal;

/// A problem.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem<'a> {
    /// Address of the code's section in the documentation.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the code means.
    pub title: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: &'a str,
    /// The request's path.
    pub instance: &'a str,
    /// Stable code for machines.
    pub code: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The fields at fault.
    #[schema(value_type = Vec<FieldFaultSchema>)]
    pub errors: &'a [FieldFault],
    /// Of INVALID_STATE_TRANSITION: where the job stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<&'static str>,
    /// Of INVALID_STATE_TRANSITION: where it should have gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<&'static str>,
    /// Of INVALID_STATE_TRANSITION: where it may go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<&'static str>>,
}

/// A field at fault.
#[derive(ToSchema)]
#[schema(as = FieldFault)]
#[expect(dead_code, reason = "describes domain::error::FieldFault, which knows no HTTP")]
pub struct FieldFaultSchema {
    /// JSON pointer into the request.
    pub pointer: String,
    /// What is wrong and what to change.
    pub detail: String,
    /// Stable code.
    pub code: String,
    /// Of a fault in a policy: the file.
    pub file: Option<String>,
    /// Of a fault in a policy: the line, from 1; 0 where none applies.
    pub line: Option<u32>,
    /// Of a fault in a policy: the column in characters, from 1; 0 where none applies.
    pub column: Option<u32>,
    /// Of a fault in a policy: what to change.
    pub hint: Option<String>,
}

/// The HTTP status of each code.
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest
        | Code::PolicyNotFound
        | Code::PolicyInvalid
        | Code::EmptyBatch
        | Code::BatchTooLarge
        | Code::WafBlocked => StatusCode::BAD_REQUEST,
        Code::Unauthorized | Code::InvalidSignature => StatusCode::UNAUTHORIZED,
        Code::InsufficientScope
        | Code::TenantMismatch
        | Code::TenantPaused
        | Code::IpNotAllowed
        | Code::PolicyDenied
        | Code::PolicyNotAllowed => StatusCode::FORBIDDEN,
        Code::EndpointForbidden | Code::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::IdempotencyInFlight | Code::InvalidStateTransition => {
            StatusCode::CONFLICT
        }
        Code::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Code::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
        Code::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::RateLimited | Code::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
        Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Overloaded | Code::StoreUnavailable | Code::AuditUnavailable | Code::ShuttingDown => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// The problem of `error` as a value.
pub fn of<'a>(error: &'a Error, request_id: &'a str, instance: &'a str) -> Problem<'a> {
    let (info, refused) = (error.code.info(), error.refused_move.as_deref());
    Problem {
        kind: format!("/docs/errors#{}", info.name.to_lowercase()),
        title: info.meaning,
        status: status(error.code).as_u16(),
        detail: &error.message,
        instance,
        code: info.name,
        request_id,
        retryable: error.retryable(),
        errors: &error.details,
        from: refused.map(|refused| refused.from.name()),
        to: refused.map(|refused| refused.to.name()),
        allowed: refused.map(|to| to.allowed.iter().map(|state| state.name()).collect()),
    }
}

/// The problem of `error` as a response.
pub fn response(error: &Error, request_id: &str, instance: &str) -> HttpResponse {
    with_status(status(error.code), error, (request_id, instance))
}

/// The same under a status that HTTP asks for.
pub fn with_status(
    status: StatusCode,
    error: &Error,
    (request_id, instance): (&str, &str),
) -> HttpResponse {
    let mut builder = HttpResponseBuilder::new(status);
    builder.insert_header((CONTENT_TYPE, "application/problem+json"));
    if error.retryable() && status != StatusCode::INTERNAL_SERVER_ERROR {
        builder.insert_header((RETRY_AFTER, retry_after(error).to_string()));
    }
    if status == StatusCode::UNAUTHORIZED {
        builder.insert_header((WWW_AUTHENTICATE, "Bearer"));
    }
    let problem = Problem { status: status.as_u16(), ..of(error, request_id, instance) };
    match serde_json::to_vec(&problem) {
        Ok(body) => builder.body(body),
        Err(_) => builder.finish(),
    }
}

/// Seconds until another try, at least one; spread over two more, or a tenth of a long pause, so that
/// callers do not come back together.
fn retry_after(error: &Error) -> u64 {
    let known = error.retry_after.map_or(0.0, |pause| pause.as_secs_f64().ceil()).max(1.0);
    (known + seal::spread() * (known * 0.1).max(2.0)).round() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_is_asked_to_wait_is_told_at_least_as_long_as_is_known() {
        let told = |error: Error| {
            let response = response(&error, "r-1", "/");
            let header = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
            header.map(|seconds| seconds.parse::<u64>().unwrap())
        };
        let limited = || Error::new(Code::RateLimited, "wait");
        for _ in 0..20 {
            assert!((1..=3).contains(&told(limited()).unwrap()));
            let pause = Duration::from_millis(2_100);
            assert!((3..=5).contains(&told(limited().retry_after(pause)).unwrap()));
        }
        let hour = || limited().retry_after(Duration::from_secs(3_600));
        let told_of_an_hour: std::collections::BTreeSet<_> =
            (0..50).map(|_| told(hour()).unwrap()).collect();
        assert!(told_of_an_hour.iter().all(|seconds| (3_600..=3_960).contains(seconds)));
        assert!(told_of_an_hour.len() > 10, "all come back at once: {told_of_an_hour:?}");
        assert_eq!(told(Error::new(Code::NotFound, "gone")), None);
    }
}
