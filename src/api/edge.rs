//! What every request passes: its id, its span, its metrics, its headers, and the last net for
//! errors and panics.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::FutureExt as _;

use super::connections::{self, Turn};
use super::{Api, access, admit, envelope, framing, pieces, problem, trace, workers};
use crate::domain::error::{Code, Error};
use crate::domain::id::RequestId;
use crate::domain::trace::TraceContext;
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
    RequestId::kept_of(&uuid::Uuid::now_v7().to_string())
}

/// The middleware around every route.
pub async fn edge<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    let api = request.app_data::<web::Data<Api>>().cloned();
    let api = api.as_ref().map(|api| api.get_ref());
    let method = request.method().clone();
    let doubtful = framing::check(&request).err();
    let close = doubtful.is_some();
    if let Turn::Late = connections::turn(&request, close) {
        let nothing = HttpResponse::BadRequest().force_close().finish();
        return Ok(request.into_response(nothing));
    }
    let (id, refused) = match (take_id(&request), doubtful) {
        (Ok(id), Some(error)) => (id, Some(error)),
        (Ok(id), None) => (id, api.and_then(|api| envelope::check_head(api, &request).err())),
        (Err(error), _) => (fresh_id(), Some(error)),
    };
    request.extensions_mut().insert(id.clone());
    let (path, trace) = (request.path().to_owned(), trace::take(&request));
    let mut asked = Asked { id, path, route: None, trace };
    let mut gone = Gone(api.map(|api| (api, &asked, method.as_str(), started)));
    // The request must not be cloned before it is routed, so what is lost on the way is answered
    // from `asked` alone.
    let outcome = match refused {
        Some(error) => Err(error),
        None => AssertUnwindSafe(next.call(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                if let Some(api) = api {
                    api.deps.metrics.panicked();
                }
                tracing::error!("a handler panicked; the request is answered with INTERNAL_ERROR");
                Err(Failed(Error::new(Code::InternalError, "the service failed")).into())
            })
            .map_err(|error| match error.as_error::<Failed>() {
                Some(Failed(error)) => Error::new(error.code, error.message.clone()),
                // actix's own refusals: malformed paths and queries.
                None => Error::new(Code::InvalidRequest, "the request could not be read"),
            }),
    };
    gone.0 = None;
    drop(gone);
    match outcome {
        Ok(response) => {
            let mut response = response.map_body(|_, body| pieces::of(body.boxed()));
            asked.route = response.request().match_pattern();
            if let Some(refused) = refusal(api, response.response(), &asked) {
                response = response.into_response(refused);
                show_tag(&mut response);
            }
            show_rates(&mut response);
            finish(api, response.response_mut(), &asked, (method.as_str(), started.elapsed()));
            Ok(response)
        }
        Err(error) => {
            let mut response = refuse(api, &error, &asked);
            if close {
                response.head_mut().set_connection_type(ConnectionType::Close);
            }
            finish(api, &mut response, &asked, (method.as_str(), started.elapsed()));
            Err(actix_web::error::InternalError::from_response(error, response).into())
        }
    }
}

/// The `ETag`, without quotes, of what a change was held against; put there by its handler.
pub struct CurrentTag(pub String);

/// A change that was refused by its precondition is told what is there now.
fn show_tag(response: &mut ServiceResponse<BoxBody>) {
    if response.status() == actix_web::http::StatusCode::PRECONDITION_FAILED {
        let tag = response.request().extensions().get::<CurrentTag>().map(|tag| tag.0.clone());
        if let Some(tag) = tag {
            set(response.response_mut(), "etag", &format!("\"{tag}\""));
        }
    }
}

fn show_rates(response: &mut ServiceResponse<BoxBody>) {
    if let Some(told) = admit::told(response.request()) {
        admit::show(told, response.headers_mut());
    }
}

/// What is remembered of a request on its way.
struct Asked {
    id: RequestId,
    path: String,
    route: Option<String>,
    trace: Option<TraceContext>,
}

impl Asked {
    fn route(&self) -> &str {
        self.route.as_deref().unwrap_or("unmatched")
    }

    /// What is known of it whatever became of it.
    fn line(&self, status: u16, code: &'static str) -> DecisionLine<'_> {
        DecisionLine {
            request_id: self.id.as_str(),
            trace_id: self.trace.as_ref().map_or("", TraceContext::trace_id),
            span_id: self.trace.as_ref().map_or("", TraceContext::span_id),
            route: self.route(),
            status,
            code: Some(code),
            ..DecisionLine::default()
        }
    }
}

/// What nginx calls a request whose caller did not wait for the answer.
const CLIENT_GONE: u16 = 499;

/// A request that is being answered. Dropped before it is, its caller has left, and that is told.
struct Gone<'a>(Option<(&'a Api, &'a Asked, &'a str, Instant)>);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let Some((api, asked, method, started)) = self.0.take() else { return };
        let code = CLIENT_GONE.to_string();
        api.deps.metrics.http_request(asked.route(), method, &code, started.elapsed());
        if let Some(log) = &api.log {
            log.decision_line(&asked.line(CLIENT_GONE, "client_gone"));
        }
    }
}

/// The problem in the place of a handler's error.
fn refusal(api: Option<&Api>, response: &HttpResponse, asked: &Asked) -> Option<HttpResponse> {
    let Failed(error) = response.error()?.as_error::<Failed>()?;
    Some(refuse(api, error, asked))
}

fn refuse(api: Option<&Api>, error: &Error, asked: &Asked) -> HttpResponse {
    if let Some(log) = api.and_then(|api| api.log.as_ref()) {
        let status = problem::status(error.code).as_u16();
        log.decision_line(&asked.line(status, error.code.info().name));
    }
    if let Some(cause) = &error.cause {
        tracing::error!(code = error.code.info().name, %cause, "a request failed");
    }
    problem::response(error, asked.id.as_str(), &asked.path)
}

/// Headers and metrics of every response.
fn finish(
    api: Option<&Api>,
    response: &mut HttpResponse,
    asked: &Asked,
    (method, took): (&str, Duration),
) {
    set(response, "x-request-id", asked.id.as_str());
    set(response, "x-content-type-options", "nosniff");
    let Some(api) = api else { return };
    if !response.headers().contains_key("x-policy-revision") {
        set(response, "x-policy-revision", &api.live.current().revision);
    }
    if !api.accepts_work() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    let status = response.status();
    // A method that the route does not have is a word of the caller's.
    let foreign = status.is_client_error() && !access::serves(method, asked.route());
    let method = if foreign { "other" } else { method };
    api.deps.metrics.http_request(asked.route(), method, status.as_str(), took);
    if is_judging(asked.route()) {
        let shed = status == actix_web::http::StatusCode::SERVICE_UNAVAILABLE;
        workers::served(took, status.is_server_error() && !shed);
    }
}

/// Whether content is judged there.
fn is_judging(route: &str) -> bool {
    ["/api/v1/orchestrate", "/api/v1/orchestrate/batch"].contains(&route)
}

fn set(response: &mut HttpResponse, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
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
