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
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::InsufficientScope
        | Code::TenantMismatch
        | Code::TenantPaused
        | Code::IpNotAllowed
        | Code::PolicyDenied
        | Code::PolicyNotAllowed => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists => StatusCode::CONFLICT,
        Code::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Code::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
        Code::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::RateLimited | Code::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
        Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Overloaded | Code::StoreUnavailable | Code::ShuttingDown => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// The problem of `error` as a value.
pub fn of<'a>(error: &'a Error, request_id: &'a str, instance: &'a str) -> Problem<'a> {
    let info = error.code.info();
    Problem {
        kind: format!("/docs/errors#{}", info.name.to_lowercase()),
        title: info.meaning,
        status: status(error.code).as_u16(),
        detail: &error.message,
        instance,
        code: info.name,
        request_id,
        retryable: info.retryable,
        errors: &error.details,
    }
}

/// The problem of `error` as a response.
pub fn response(error: &Error, request_id: &str, instance: &str) -> HttpResponse {
    let status = status(error.code);
    let mut builder = HttpResponseBuilder::new(status);
    builder.insert_header((CONTENT_TYPE, "application/problem+json"));
    if error.code.info().retryable && status != StatusCode::INTERNAL_SERVER_ERROR {
        builder.insert_header((RETRY_AFTER, retry_after().to_string()));
    }
    if status == StatusCode::UNAUTHORIZED {
        builder.insert_header((WWW_AUTHENTICATE, "Bearer"));
    }
    match serde_json::to_vec(&of(error, request_id, instance)) {
        Ok(body) => builder.body(body),
        Err(_) => builder.finish(),
    }
}

/// 1 to 3 seconds, spread so that callers do not come back together.
fn retry_after() -> u64 {
    1 + (seal::spread() * 2.0).round() as u64
}
