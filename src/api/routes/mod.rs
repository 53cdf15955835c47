//! Every route, by noun.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, guard};
use serde::Serialize;

use super::edge::{Failed, request_id};
use super::{access, problem};
use crate::domain::error::{Code, Error};

pub(super) mod admin;
pub(super) mod audit;
pub(super) mod breakers;
pub(super) mod cache;
mod console;
pub(super) mod dead_letters;
pub(super) mod detectors;
pub(super) mod events;
pub(super) mod evidence;
pub(super) mod health;
pub(super) mod jobs;
pub(super) mod keys;
pub(super) mod live;
pub(super) mod operations;
pub(super) mod orchestrate;
mod pages;
pub(super) mod performance;
pub(super) mod policies;
pub(super) mod quotas;
pub(super) mod strategies;
pub(super) mod tenants;
pub(super) mod whoami;

type Answer = Result<HttpResponse, Failed>;

/// Most answers fit.
const ANSWER_BYTES: usize = 1_024;

fn json(value: &impl Serialize) -> Answer {
    let mut body = Vec::with_capacity(ANSWER_BYTES);
    serde_json::to_writer(&mut body, value).map_err(|error| {
        Failed(Error::new(Code::InternalError, "the answer could not be written").caused_by(error))
    })?;
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

/// Where no route is.
pub async fn nowhere(request: HttpRequest) -> Answer {
    let _ = request;
    Err(Error::new(Code::NotFound, "no such path; see /docs for all of them").into())
}

/// Where a path is, but not for this method.
pub(super) async fn other_method(request: HttpRequest) -> HttpResponse {
    let message = format!("{} is not served here; see /docs", request.method());
    let error = Error::new(Code::NotFound, message);
    let id = request_id(&request);
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut response = problem::with_status(status, &error, (id.as_str(), request.path()));
    let pattern = request.match_pattern().unwrap_or_default();
    if let Ok(methods) = HeaderValue::from_str(&access::methods(&pattern).join(", ")) {
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

/// A route for GET and HEAD; the server leaves the body of HEAD out.
fn looked_at() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn resource(path: &str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(other_method))
}

pub(super) fn configure(config: &mut ServiceConfig) {
    health::configure(config, "");
    config.service(resource("/openapi.json").get(super::docs::document));
    super::docs::configure(config);
    console::configure(config);
    config.service(resource("/.well-known/jwks.json").get(live::key_set));
    health::configure(config, PREFIX);
    orchestrate::configure(config);
    jobs::configure(config);
    dead_letters::configure(config);
    detectors::configure(config);
    policies::configure(config);
    breakers::configure(config);
    cache::configure(config);
    live::configure(config);
    strategies::configure(config);
    keys::configure(config);
    whoami::configure(config);
    tenants::configure(config);
    quotas::configure(config);
    operations::configure(config);
    performance::configure(config);
    audit::configure(config);
    evidence::configure(config);
    events::configure(config);
    admin::configure(config);
}

/// Before every route of the API.
pub(super) const PREFIX: &str = "/api/v1";

fn at(path: &str) -> String {
    format!("{PREFIX}{path}")
}
