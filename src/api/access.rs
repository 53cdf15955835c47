//! Who may ask what: one table. The guard enforces it, the OpenAPI document and docs/permissions.md
//! are written from it. A route that is not in it is served to nobody.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpRequest, web};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};

use super::caller::mismatch;
use super::edge::Failed;
use super::routes::health::Operators;
use super::routes::{PREFIX, other_method};
use super::{Api, admit, body};
use crate::admission::Entrant;
use crate::auth::{Caller, Given, Presented};
use crate::catalog::Tenant;
use crate::domain::access::{Role, Scope};
use crate::domain::error::{Code, Error};
use crate::operations;

/// What a route demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// No credential.
    Nothing,
    /// Any credential.
    Credential,
    /// A credential with this scope.
    Has(Scope),
    /// The same, unless the peer is this machine itself and no proxy forwards.
    HasUnlessLocal(Scope),
}

/// A route below `/api/v1`, and what it demands.
pub type Rule = (&'static str, &'static str, Need);

/// Every route of the API, in the order of the documentation.
pub const RULES: &[Rule] = &[
    ("POST", "/orchestrate", Need::Has(Scope::OrchestrateWrite)),
    ("POST", "/orchestrate/batch", Need::Has(Scope::OrchestrateWrite)),
    ("GET", "/jobs", Need::Has(Scope::OrchestrateStatus)),
    ("POST", "/jobs", Need::Has(Scope::OrchestrateWrite)),
    ("GET", "/jobs/{id}", Need::Has(Scope::OrchestrateStatus)),
    ("DELETE", "/jobs/{id}", Need::Has(Scope::OrchestrateWrite)),
    ("GET", "/jobs/{id}/attempts", Need::Has(Scope::OrchestrateStatus)),
    ("GET", "/jobs/{id}/transitions", Need::Has(Scope::OrchestrateStatus)),
    ("POST", "/jobs/{id}/pause", Need::Has(Scope::OrchestrateWrite)),
    ("POST", "/jobs/{id}/resume", Need::Has(Scope::OrchestrateWrite)),
    ("POST", "/jobs/{id}/cancel", Need::Has(Scope::OrchestrateWrite)),
    ("POST", "/jobs/{id}/retry", Need::Has(Scope::OrchestrateWrite)),
    ("GET", "/workflows", Need::Has(Scope::OrchestrateStatus)),
    ("GET", "/detectors", Need::Has(Scope::RegistryRead)),
    ("POST", "/detectors", Need::Has(Scope::RegistryWrite)),
    ("GET", "/detectors/{name}", Need::Has(Scope::RegistryRead)),
    ("PUT", "/detectors/{name}", Need::Has(Scope::RegistryWrite)),
    ("DELETE", "/detectors/{name}", Need::Has(Scope::RegistryWrite)),
    ("GET", "/detectors/{name}/health", Need::Has(Scope::RegistryRead)),
    ("PUT", "/detectors/{name}/credentials", Need::Has(Scope::RegistryWrite)),
    ("POST", "/policies/validate", Need::Has(Scope::PolicyRead)),
    ("POST", "/policies/evaluate", Need::Has(Scope::PolicyRead)),
    ("GET", "/policies", Need::Has(Scope::PolicyRead)),
    ("GET", "/policies/resolve", Need::Has(Scope::PolicyRead)),
    ("GET", "/policies/{bundle}", Need::Has(Scope::PolicyRead)),
    ("PUT", "/policies/{bundle}", Need::Has(Scope::PolicyWrite)),
    ("DELETE", "/policies/{bundle}", Need::Has(Scope::PolicyWrite)),
    ("GET", "/policies/{bundle}/versions", Need::Has(Scope::PolicyRead)),
    ("POST", "/policies/{bundle}/versions/{version}/review", Need::Has(Scope::PolicyApprove)),
    ("POST", "/policies/{bundle}/rollback", Need::Has(Scope::PolicyWrite)),
    ("GET", "/breakers", Need::Has(Scope::MetricsRead)),
    ("GET", "/breakers/{detector}", Need::Has(Scope::MetricsRead)),
    ("POST", "/breakers/{detector}/{how}", Need::Has(Scope::BreakersWrite)),
    ("GET", "/cache/stats", Need::Has(Scope::MetricsRead)),
    ("DELETE", "/cache", Need::Has(Scope::CacheWrite)),
    ("GET", "/operations", Need::Has(Scope::MetricsRead)),
    ("GET", "/performance", Need::Has(Scope::MetricsRead)),
    ("GET", "/audit", Need::Has(Scope::AuditRead)),
    ("GET", "/audit/verify", Need::Has(Scope::AuditRead)),
    ("GET", "/evidence", Need::Has(Scope::AuditRead)),
    ("GET", "/evidence/revisions", Need::Has(Scope::AuditRead)),
    ("GET", "/evidence/keys", Need::Nothing),
    ("GET", "/evidence/{id}", Need::Has(Scope::AuditRead)),
    ("GET", "/evidence/{id}/chain", Need::Has(Scope::AuditRead)),
    ("GET", "/evidence/{id}/proof", Need::Has(Scope::AuditRead)),
    ("GET", "/evidence/{id}/package", Need::Has(Scope::AuditRead)),
    ("POST", "/evidence/{id}/verify", Need::Has(Scope::AuditRead)),
    ("POST", "/evidence/{id}/hold", Need::Has(Scope::TenantsWrite)),
    ("POST", "/evidence/{id}/release", Need::Has(Scope::TenantsWrite)),
    ("GET", "/events", Need::Has(Scope::OrchestrateStatus)),
    ("POST", "/events/ack", Need::Has(Scope::OrchestrateStatus)),
    ("GET", "/events/incidents", Need::Has(Scope::OrchestrateStatus)),
    ("GET", "/events/stream", Need::Has(Scope::OrchestrateStatus)),
    ("GET", "/generations", Need::Has(Scope::RegistryRead)),
    ("GET", "/orchestrator/config", Need::Has(Scope::RegistryRead)),
    ("PUT", "/orchestrator/config", Need::Has(Scope::AdminConfig)),
    ("POST", "/admin/reload", Need::Has(Scope::AdminConfig)),
    ("GET", "/admin/dlq", Need::Has(Scope::JobsAdmin)),
    ("POST", "/admin/dlq/{letter}/requeue", Need::Has(Scope::JobsAdmin)),
    ("POST", "/admin/dlq/{letter}/discard", Need::Has(Scope::JobsAdmin)),
    ("GET", "/whoami", Need::Credential),
    ("GET", "/keys", Need::Has(Scope::KeysWrite)),
    ("POST", "/keys", Need::Has(Scope::KeysWrite)),
    ("GET", "/keys/{prefix}", Need::Has(Scope::KeysWrite)),
    ("DELETE", "/keys/{prefix}", Need::Has(Scope::KeysWrite)),
    ("POST", "/keys/{prefix}/rotate", Need::Has(Scope::KeysWrite)),
    ("GET", "/tenants", Need::Has(Scope::TenantsWrite)),
    ("GET", "/tenants/{tenant}", Need::Has(Scope::TenantsWrite)),
    ("PUT", "/tenants/{tenant}", Need::Has(Scope::TenantsWrite)),
    ("DELETE", "/tenants/{tenant}", Need::Has(Scope::TenantsWrite)),
    ("POST", "/admin/tenants/{tenant}/pause", Need::Has(Scope::TenantsWrite)),
    ("POST", "/admin/tenants/{tenant}/resume", Need::Has(Scope::TenantsWrite)),
    ("POST", "/admin/tenants/{tenant}/hold", Need::Has(Scope::TenantsWrite)),
    ("POST", "/admin/tenants/{tenant}/release", Need::Has(Scope::TenantsWrite)),
    ("GET", "/quotas/{tenant}", Need::Has(Scope::QuotaRead)),
    ("PUT", "/quotas/{tenant}", Need::Has(Scope::TenantsWrite)),
    ("GET", "/fairness", Need::Has(Scope::MetricsRead)),
    ("GET", "/health", Need::Nothing),
    ("GET", "/health/live", Need::Nothing),
    ("GET", "/health/ready", Need::Nothing),
    ("GET", "/health/startup", Need::Nothing),
    ("GET", "/health/detailed", Need::HasUnlessLocal(Scope::MetricsRead)),
    ("GET", "/metrics", Need::Has(Scope::MetricsRead)),
];

/// Pages that show the service and no data; all are GET and need nothing.
const PAGES: [&str; 7] = [
    "/docs",
    "/docs/errors",
    "/docs/{_:.*}",
    "/console",
    "/console/{file:.*}",
    "/openapi.json",
    "/.well-known/jwks.json",
];

/// Whether the route of `pattern` has the method.
pub(super) fn serves(method: &str, pattern: &str) -> bool {
    need(method, pattern).is_some()
}

/// What `method` on the matched `pattern` demands; `None` where nothing is served.
fn need(method: &str, pattern: &str) -> Option<Need> {
    // As GET, whose body is left out: what probes and link checkers ask.
    if method == "HEAD" {
        return if answers_head(pattern) { need("GET", pattern) } else { None };
    }
    if method == "GET" && PAGES.contains(&pattern) {
        return Some(Need::Nothing);
    }
    let (path, prefixed) = match pattern.strip_prefix(PREFIX) {
        Some(path) => (path, true),
        None => (pattern, false),
    };
    let bare = |path: &str| path.starts_with("/health") || path == "/metrics";
    let rule = RULES.iter().find(|(known, at, _)| *known == method && *at == path);
    rule.filter(|_| prefixed || bare(path)).map(|(_, _, need)| *need)
}

fn answers_head(pattern: &str) -> bool {
    let path = pattern.strip_prefix(PREFIX).unwrap_or(pattern);
    ["/health", "/console"].iter().any(|start| path.starts_with(start))
}

/// The methods that the matched `pattern` serves.
pub(super) fn methods(pattern: &str) -> Vec<&'static str> {
    let served = |method: &&str| need(method, pattern).is_some();
    ["GET", "HEAD", "PUT", "POST", "DELETE"].into_iter().filter(served).collect()
}

/// Lets in whom the table lets in; handlers find the `Caller` in the request.
pub async fn guard<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, actix_web::Error> {
    let Some(pattern) = request.match_pattern() else {
        return next.call(request).await.map(ServiceResponse::map_into_left_body);
    };
    let Some(need) = need(request.method().as_str(), &pattern) else {
        let response = other_method(request.request().clone()).await;
        return Ok(request.into_response(response).map_into_right_body());
    };
    let entered = match enter(&request, &pattern, need).await {
        Ok(Some(tenant)) => signed(&mut request, &tenant).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match entered {
        Ok(()) => next.call(request).await.map(ServiceResponse::map_into_left_body),
        Err(error) => Ok(request.error_response(Failed(error)).map_into_right_body()),
    }
}

/// Whom the credential names; the answer is the tenant that it acts for alone.
async fn enter(
    request: &ServiceRequest,
    pattern: &str,
    need: Need,
) -> Result<Option<Arc<Tenant>>, Error> {
    if request.app_data::<Operators>().is_some() {
        return Ok(None);
    }
    let scope = match need {
        Need::Nothing => return Ok(None),
        Need::HasUnlessLocal(_) if is_local(request) => return Ok(None),
        Need::Credential => None,
        Need::Has(scope) | Need::HasUnlessLocal(scope) => Some(scope),
    };
    let api = api_of(request)?;
    let headers = request.headers();
    let from = source(api, request.peer_addr(), headers);
    let counted = &api.deps.operations;
    let running = counted.begin(operations::Operation::Authenticate)?;
    let caller = api.gate.authenticate(given(headers), from).await;
    running.answered(&caller);
    let caller = caller?;
    let running = counted.begin(operations::Operation::CheckPermission)?;
    let permitted = admits(api, &caller, from, (request.request(), pattern))
        .and_then(|tenant| permit(&caller, scope).map(|()| tenant))
        .and_then(|tenant| agrees(&caller, headers).map(|()| tenant));
    running.answered(&permitted);
    let tenant = permitted?;
    request.extensions_mut().insert(caller);
    Ok(tenant)
}

fn api_of(request: &ServiceRequest) -> Result<&web::Data<Api>, Error> {
    let api = request.app_data::<web::Data<Api>>();
    api.ok_or_else(|| Error::new(Code::InternalError, "the service is not whole"))
}

/// Holds the request against its signature where its tenant signs. The body is read here, once;
/// the handler finds what was read.
async fn signed(request: &mut ServiceRequest, tenant: &Tenant) -> Result<(), Error> {
    let presents = !matches!(presented(request), Presented::Nothing);
    if !tenant.signing.required && (tenant.signing.secrets.is_empty() || !presents) {
        return Ok(());
    }
    let api = api_of(request)?.clone();
    let payload = request.extract::<web::Payload>().await.map_err(|error| {
        let error = error.to_string();
        Error::new(Code::InvalidRequest, "the body could not be read").caused_by(error)
    })?;
    let read = body::read(request.request(), payload, api.body_limits()).await?;
    api.gate.check_signature(tenant, presented(request), &read)?;
    let whole = futures_util::stream::once(std::future::ready(Ok(read)));
    request.set_payload(Payload::Stream { payload: Box::pin(whole) });
    Ok(())
}

/// The signature of a request.
fn presented(request: &ServiceRequest) -> Presented<'_> {
    let of = |name: &'static str| {
        let mut values = request.headers().get_all(name).map(|value| value.to_str().ok());
        (values.next(), values.next())
    };
    match (of("x-timestamp"), of("x-signature")) {
        ((None, _), (None, _)) => Presented::Nothing,
        ((Some(Some(timestamp)), None), (Some(Some(signature)), None)) => {
            Presented::Signature { timestamp, signature }
        }
        _ => Presented::Unclear,
    }
}

/// Whether `caller` holds `scope`, where one is needed.
fn permit(caller: &Caller, scope: Option<Scope>) -> Result<(), Error> {
    let Some(scope) = scope else { return Ok(()) };
    if caller.holds(scope)? {
        return Ok(());
    }
    let message = format!("this needs the scope {}, which the credential lacks", scope.name());
    Err(Error::new(Code::InsufficientScope, message))
}

/// Whether the caller's own tenant exists, may be used from the address `from`, is not paused, and
/// may ask now.
fn admits(
    api: &Api,
    caller: &Caller,
    from: IpAddr,
    (http, pattern): (&HttpRequest, &str),
) -> Result<Option<Arc<Tenant>>, Error> {
    let path = pattern.strip_prefix(PREFIX).unwrap_or(pattern);
    let key = caller.key_prefix.as_deref();
    let nobody = Entrant { tenant: None, key, route: (http.method().as_str(), path) };
    let Some(id) = &caller.tenant else {
        return admit::enter(api, http, nobody).map(|()| None);
    };
    let snapshot = api.live.current();
    let tenant = snapshot.catalog.tenants.get(id).ok_or_else(mismatch)?;
    let nets = &tenant.allow_ips;
    if !nets.is_empty() && !nets.iter().any(|net| net.holds(from)) {
        let message = "the tenant's credentials may not be used from this address";
        return Err(Error::new(Code::IpNotAllowed, message));
    }
    if snapshot.paused(tenant) {
        return Err(Error::new(Code::TenantPaused, "the tenant is paused"));
    }
    admit::enter(api, http, Entrant { tenant: Some((id, tenant.rate_limit)), ..nobody })?;
    Ok(Some(Arc::clone(tenant)))
}

/// Whether the header names no other tenant than the caller's, whatever the route makes of it.
fn agrees(caller: &Caller, headers: &HeaderMap) -> Result<(), Error> {
    let own = caller.tenant.as_ref().map(|tenant| tenant.as_str().as_bytes());
    let other = |named: &HeaderValue| own.is_some_and(|own| own != named.as_bytes());
    match headers.get_all("x-tenant-id").any(other) {
        true => Err(mismatch()),
        false => Ok(()),
    }
}

fn is_local(request: &ServiceRequest) -> bool {
    request.peer_addr().is_some_and(|peer| peer.ip().is_loopback())
        && !request.headers().contains_key("x-forwarded-for")
}

/// Where a request comes from.
pub(super) fn source(api: &Api, peer: Option<SocketAddr>, headers: &HeaderMap) -> IpAddr {
    let forwarded: Vec<&str> =
        headers.get_all("x-forwarded-for").filter_map(|value| value.to_str().ok()).collect();
    let peer = peer.map_or([0, 0, 0, 0].into(), |peer| peer.ip());
    api.gate.source(peer, &forwarded)
}

/// The one credential of a request.
pub(super) fn given(headers: &HeaderMap) -> Given<'_> {
    let of = |name: HeaderName| headers.get_all(name);
    let keys = of(HeaderName::from_static("x-api-key")).map(|value| value.to_str().ok());
    let bearers = of(AUTHORIZATION).map(|value| {
        let (scheme, credential) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(credential)
    });
    let mut all = keys.chain(bearers);
    match (all.next(), all.next()) {
        (None, _) => Given::Nothing,
        (Some(Some(credential)), None) => Given::Credential(credential),
        (Some(_), _) => Given::Unclear,
    }
}

/// Writes into the document what each operation demands and how it refuses.
pub(super) fn secure(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("key", key);
    components.add_security_scheme("bearer", SecurityScheme::Http(token));
    for (method, path, need) in RULES {
        let Some(item) = document.paths.paths.get_mut(&format!("{PREFIX}{path}")) else { continue };
        let operation = match *method {
            "GET" => &mut item.get,
            "PUT" => &mut item.put,
            "POST" => &mut item.post,
            _ => &mut item.delete,
        };
        if let Some(operation) = operation {
            demand(operation, *need);
        }
    }
}

fn demand(operation: &mut Operation, need: Need) {
    let (scope, optional) = match need {
        Need::Nothing => {
            operation.security = Some(Vec::new());
            return;
        }
        Need::Credential => (None, false),
        Need::Has(scope) => (Some(scope), false),
        Need::HasUnlessLocal(scope) => (Some(scope), true),
    };
    let with = |scheme: &str| SecurityRequirement::new(scheme, scope.map(Scope::name));
    let mut security = vec![with("key"), with("bearer")];
    if optional {
        security.push(SecurityRequirement::default());
    }
    operation.security = Some(security);
    let responses = &mut operation.responses.responses;
    if responses.contains_key("4XX") {
        return;
    }
    for (status, meaning) in [
        ("400", "The request is not valid"),
        ("401", "A valid credential is missing"),
        ("403", "The credential does not allow this"),
        ("429", "Too often, over the quota, or too many refused credentials"),
        ("503", "Credentials cannot be checked"),
    ] {
        let problem = ContentBuilder::new()
            .schema(Some(RefOr::Ref(Ref::from_schema_name("Problem"))))
            .build();
        let response = ResponseBuilder::new()
            .description(meaning)
            .content("application/problem+json", problem)
            .build();
        responses.entry(status.to_owned()).or_insert(RefOr::T(response));
    }
}

/// The tables of docs/permissions.md: routes with their scopes, then roles with theirs.
pub fn documented() -> String {
    let mut text = String::from("| route below `/api/v1` | needs |\n|---|---|\n");
    for (method, path, need) in RULES {
        let need = match need {
            Need::Nothing => "nothing".to_owned(),
            Need::Credential => "any credential".to_owned(),
            Need::Has(scope) => format!("`{}`", scope.name()),
            Need::HasUnlessLocal(scope) => {
                format!("`{}`, or to be on this machine without a proxy", scope.name())
            }
        };
        text.push_str(&format!("| {method} {path} | {need} |\n"));
    }
    text.push_str("\n| role | for | scopes |\n|---|---|---|\n");
    for role in Role::ALL {
        let scopes: Vec<&str> = role.scopes().iter().map(Scope::name).collect();
        let scopes = if *role == Role::SuperAdmin { "all".to_owned() } else { scopes.join(" ") };
        text.push_str(&format!("| `{}` | {} | {scopes} |\n", role.name(), role.meaning()));
    }
    text.push_str("\n| scope | allows to |\n|---|---|\n");
    for scope in Scope::ALL {
        text.push_str(&format!("| `{}` | {} |\n", scope.name(), scope.meaning()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_table_does_not_name_is_not_served() {
        assert_eq!(need("GET", "/api/v1/health/live"), Some(Need::Nothing));
        assert_eq!(need("GET", "/metrics"), Some(Need::Has(Scope::MetricsRead)));
        for (method, pattern) in [
            ("PATCH", "/api/v1/policies/{bundle}"),
            ("HEAD", "/api/v1/breakers"),
            ("HEAD", "/breakers"),
            ("HEAD", "/metrics"),
            ("GET", "/breakers"),
            ("POST", "/docs"),
            ("GET", "/api/v1/unknown"),
            ("get", "/api/v1/breakers"),
        ] {
            assert_eq!(need(method, pattern), None, "{method} {pattern}");
        }
    }

    #[test]
    fn another_method_is_told_those_that_are_served() {
        assert_eq!(methods("/api/v1/policies/{bundle}"), ["GET", "PUT", "DELETE"]);
        assert_eq!(methods("/docs"), ["GET"]);
        assert_eq!(methods("/api/v1/health/live"), ["GET", "HEAD"]);
        assert_eq!(methods("/console"), ["GET", "HEAD"]);
        assert!(methods("/breakers").is_empty());
    }

    #[test]
    fn the_manual_shows_the_table_as_it_is() {
        let manual = include_str!("../../docs/permissions.md");
        assert!(manual.contains(&documented()), "docs/permissions.md must hold:\n{}", documented());
    }
}
