//! The OpenAPI document, generated from the routes, and its offline page.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::web::ServiceConfig;
use utoipa::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

use super::routes::{
    admin, audit, breakers, cache, dead_letters, detectors, events, evidence, health, jobs, keys,
    live, operations, orchestrate, performance, policies, quotas, strategies, tenants, whoami,
};
use super::wire::content::ContentSchema;
use super::wire::request::OrchestrateRequest;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Detector Orchestrator",
        description = "One call asks many detectors about content; policies decide what follows.",
        license(name = "MIT")
    ),
    paths(
        orchestrate::orchestrate,
        orchestrate::batch,
        jobs::post,
        jobs::list,
        jobs::one,
        jobs::delete,
        jobs::attempts,
        jobs::transitions,
        jobs::pause,
        jobs::resume,
        jobs::cancel,
        jobs::retry,
        jobs::workflows,
        dead_letters::list,
        dead_letters::requeue,
        dead_letters::discard,
        detectors::list,
        detectors::one,
        detectors::health,
        detectors::credentials::put,
        detectors::registration::post,
        detectors::registration::put,
        detectors::registration::delete,
        policies::list,
        policies::one,
        policies::resolve,
        policies::overlay::put,
        policies::overlay::delete,
        policies::versions::list,
        policies::versions::rollback,
        policies::review::review,
        policies::check::validate,
        policies::check::evaluate,
        breakers::list,
        breakers::one,
        breakers::force,
        cache::stats,
        cache::clear,
        operations::list,
        performance::performance,
        audit::list,
        audit::verify,
        evidence::search::list,
        evidence::search::revisions,
        evidence::one,
        evidence::chain,
        evidence::prove,
        evidence::package,
        evidence::verify,
        evidence::published::keys,
        evidence::hold::hold,
        evidence::hold::release,
        evidence::hold::hold_tenant,
        evidence::hold::release_tenant,
        events::list,
        events::acknowledge,
        events::incidents,
        events::listen::listen,
        live::generations,
        strategies::get,
        strategies::put,
        admin::reload,
        whoami::whoami,
        keys::list,
        keys::one,
        keys::create,
        keys::rotate,
        keys::revoke,
        tenants::list,
        tenants::one,
        tenants::put,
        tenants::delete,
        tenants::pause,
        tenants::resume,
        quotas::one,
        quotas::put,
        quotas::fairness,
        health::live,
        health::ready,
        health::detailed::detailed,
        health::metrics,
    ),
    components(schemas(OrchestrateRequest, ContentSchema, super::problem::FieldFaultSchema))
)]
struct Document;

/// The OpenAPI document as pretty JSON.
pub fn openapi() -> String {
    serde_json::to_string_pretty(&whole()).unwrap_or_default()
}

fn whole() -> serde_json::Value {
    let mut document = Document::openapi();
    super::access::secure(&mut document);
    let mut document = serde_json::to_value(&document).unwrap_or_default();
    super::constraints::write(&mut document);
    document
}

/// Serves the document.
pub(super) async fn document() -> HttpResponse {
    // It costs more to make than to send, and everybody may ask for it.
    static TEXT: LazyLock<String> = LazyLock::new(openapi);
    HttpResponse::Ok().content_type("application/json").body(TEXT.as_str())
}

pub(super) fn configure(config: &mut ServiceConfig) {
    config.route("/docs", actix_web::web::get().to(to_docs));
    config.route("/docs/errors", actix_web::web::get().to(errors));
    let pages = SwaggerUi::new("/docs/{_:.*}");
    config.service(pages.external_url_unchecked("/docs/openapi.json", whole()));
}

/// What each code means; problems point here.
async fn errors() -> HttpResponse {
    let text = include_str!("../../docs/errors.md");
    HttpResponse::Ok().content_type("text/markdown; charset=utf-8").body(text)
}

async fn to_docs() -> HttpResponse {
    HttpResponse::Found().insert_header(("location", "/docs/")).finish()
}
