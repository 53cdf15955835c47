//! The span of a request, and the one of its caller that it stands in (W3C Trace Context).

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpMessage as _, HttpRequest};
use tracing::Span;
use tracing::field::Empty;
use tracing_actix_web::{RootSpanBuilder, TracingLogger};

use crate::domain::trace::TraceContext;
use crate::telemetry::traces::{self, SPANS};

/// Where `http` stands: in a span of ours, or where none leaves, in the caller's.
pub(super) fn of(http: &HttpRequest) -> Option<TraceContext> {
    http.extensions().get::<TraceContext>().cloned()
}

/// Finds out and remembers where `request` stands.
pub(super) fn take(request: &ServiceRequest) -> Option<TraceContext> {
    let found = traces::current().or_else(|| told(request.headers()))?;
    request.extensions_mut().insert(found.clone());
    Some(found)
}

/// What the caller says of its own span; a header that is sent twice or is not sound says nothing.
fn told(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent");
    let (parent, None) = (parents.next()?, parents.next()) else { return None };
    let state = headers.get("tracestate").and_then(|state| state.to_str().ok());
    TraceContext::parse(parent.to_str().ok()?, state)
}

/// Writes whose request the current span is.
pub(super) fn tell_tenant(tenant: &str, action: &'static str) {
    if traces::on() {
        let span = Span::current();
        span.record("tenant.id", tenant);
        span.record("decision.action", action);
    }
}

/// The span of a request: never path parameters, never content.
#[derive(Debug, Clone, Copy, Default)]
pub struct RootSpan;

/// Builds the middleware that opens it.
pub fn root_span() -> TracingLogger<RootSpan> {
    TracingLogger::new()
}

impl RootSpanBuilder for RootSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        // What a machine asks every few seconds is no trace that anybody reads.
        let asked = |path: &str| request.path().contains(path);
        if !traces::on() || asked("/health") || asked("/metrics") {
            return Span::none();
        }
        let route = request.match_pattern();
        let route = route.as_deref().unwrap_or("unmatched");
        let method = method(request.method());
        let span = tracing::trace_span!(target: SPANS, "request",
            otel.name = format!("{method} {route}"), otel.kind = "server", otel.status_code = Empty,
            http.request.method = method, http.route = route, http.response.status_code = Empty,
            tenant.id = Empty, decision.action = Empty);
        if let Some(caller) = told(request.headers()) {
            traces::follow(&span, &caller);
        }
        span
    }

    fn on_request_end<B: MessageBody>(
        span: Span,
        outcome: &Result<ServiceResponse<B>, actix_web::Error>,
    ) {
        if span.is_disabled() {
            return;
        }
        let status = match outcome {
            Ok(response) => response.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// Another one is a word of the caller's.
fn method(asked: &Method) -> &'static str {
    let known = [Method::GET, Method::POST, Method::PUT, Method::DELETE];
    let names = ["GET", "POST", "PUT", "DELETE"];
    known.iter().zip(names).find(|(own, _)| *own == asked).map_or("_OTHER", |(_, name)| name)
}
