//! What every request passes: its id, its span, its metrics, its headers, and the last net for
//! errors and panics.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::FutureExt as _;
use tracing_actix_web::RootSpanBuilder;

use super::{Api, problem};
use crate::domain::error::{Code, Error};
use crate::domain::id::RequestId;
use crate::telemetry::DecisionLine;

/// A domain error on its way through actix; `edge` turns it into a problem.
#[derive(Debug)]
pub struct Failed(pub Error);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl ResponseError for Failed {
    fn status_code(&self) -> actix_web::http::StatusCode {
        problem::status(self.0.code)
    }
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

/// The id of the request, put there by `edge`.
pub fn request_id(request: &HttpRequest) -> RequestId {
    request.extensions().get::<RequestId>().cloned().unwrap_or_else(fresh_id)
}

fn fresh_id() -> RequestId {
    let id = uuid::Uuid::now_v7().to_string();
    #[expect(clippy::expect_used, reason = "a hyphenated uuid matches the request-id alphabet")]
    RequestId::parse(&id).expect("a uuid is a request id")
}

/// The middleware around every route.
pub async fn edge<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    let api = request.app_data::<web::Data<Api>>().cloned();
    let method = request.method().clone();
    let http = request.request().clone();
    let response = match take_id(&request) {
        Ok(id) => {
            request.extensions_mut().insert(id);
            pass(request, next, api.as_ref().map(|api| api.get_ref())).await
        }
        Err(error) => {
            request.extensions_mut().insert(fresh_id());
            Err(Failed(error).into())
        }
    };
    let id = request_id(&http);
    let mut response = match response {
        Ok(response) => response,
        Err(error) => {
            let response = answer(api.as_ref().map(|api| api.get_ref()), &error, &http, &id);
            ServiceResponse::new(http, response)
        }
    };
    let route = response.request().match_pattern();
    set(&mut response, "x-request-id", id.as_str());
    set(&mut response, "x-content-type-options", "nosniff");
    if let Some(api) = &api {
        if !response.headers().contains_key("x-policy-revision") {
            let revision = api.live.current().revision.clone();
            set(&mut response, "x-policy-revision", &revision);
        }
        if !api.accepts_work() {
            set(&mut response, "connection", "close");
        }
        let code = response.status();
        let code = code.as_str();
        let route = route.as_deref().unwrap_or("unmatched");
        api.deps.metrics.http_request(route, method.as_str(), code, started.elapsed());
    }
    Ok(response)
}

fn set(response: &mut ServiceResponse<BoxBody>, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

async fn pass<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
    api: Option<&Api>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(Ok(response)) => {
            let response = response.map_into_boxed_body();
            match response.response().error().and_then(|error| error.as_error::<Failed>()) {
                None => Ok(response),
                Some(Failed(error)) => {
                    let http = response.request().clone();
                    let id = request_id(&http);
                    log_refusal(api, error, &http, &id);
                    let body = problem::response(error, id.as_str(), http.path());
                    Ok(ServiceResponse::new(http, body))
                }
            }
        }
        Ok(Err(error)) => Err(error),
        Err(_) => {
            if let Some(api) = api {
                api.deps.metrics.panicked();
            }
            tracing::error!("a handler panicked; the request is answered with INTERNAL_ERROR");
            Err(Failed(Error::new(Code::InternalError, "the service failed")).into())
        }
    }
}

fn answer(
    api: Option<&Api>,
    error: &actix_web::Error,
    http: &HttpRequest,
    id: &RequestId,
) -> HttpResponse {
    match error.as_error::<Failed>() {
        Some(Failed(error)) => {
            log_refusal(api, error, http, id);
            problem::response(error, id.as_str(), http.path())
        }
        None => {
            // actix's own refusals: malformed path, payload errors.
            let error = Error::new(Code::InvalidRequest, "the request could not be read");
            problem::response(&error, id.as_str(), http.path())
        }
    }
}

fn log_refusal(api: Option<&Api>, error: &Error, http: &HttpRequest, id: &RequestId) {
    let route = http.match_pattern();
    let line = DecisionLine {
        request_id: id.as_str(),
        route: route.as_deref().unwrap_or("unmatched"),
        status: problem::status(error.code).as_u16(),
        code: Some(error.code.info().name),
        ..DecisionLine::default()
    };
    if let Some(log) = api.and_then(|api| api.log.as_ref()) {
        log.decision_line(&line);
    }
    if let Some(cause) = &error.cause {
        tracing::error!(code = error.code.info().name, %cause, "a request failed");
    }
}

fn take_id(request: &ServiceRequest) -> Result<RequestId, Error> {
    let headers = request.headers();
    let Some(raw) = headers.get("x-request-id").or_else(|| headers.get("x-correlation-id")) else {
        return Ok(fresh_id());
    };
    raw.to_str().ok().and_then(|raw| RequestId::parse(raw).ok()).ok_or_else(|| {
        Error::new(
            Code::InvalidRequest,
            "X-Request-ID must match ^[A-Za-z0-9_-]{1,100}$; send such an id or none",
        )
    })
}

/// The root span of a request: never path parameters, never content.
#[derive(Debug, Clone, Copy, Default)]
pub struct RootSpan;

/// Builds the middleware that opens the root span.
pub fn root_span() -> tracing_actix_web::TracingLogger<RootSpan> {
    tracing_actix_web::TracingLogger::new()
}

impl RootSpanBuilder for RootSpan {
    fn on_request_start(request: &ServiceRequest) -> tracing::Span {
        let route = request.match_pattern().unwrap_or_default();
        tracing::info_span!("request", method = %request.method(), route)
    }

    fn on_request_end<B: MessageBody>(
        _: tracing::Span,
        _: &Result<ServiceResponse<B>, actix_web::Error>,
    ) {
    }
}
