//! Policies: list, resolve, validate, evaluate.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::web::{Data, Path, Payload, ServiceConfig};
use actix_web::{HttpRequest, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, at, json, resource};
use crate::api::caller::{NoQuery, query, tenant};
use crate::api::strict::Value;
use crate::api::{Api, body, held};
use crate::catalog::Tenant;
use crate::domain::error::{Code, Error};
use crate::domain::id::{BundleName, TenantId};
use crate::orchestrator::{Deps, plain_head, view_of};
use crate::policy::{self, Point, View};
use crate::snapshot::Snapshot;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/policies/validate")).route(web::post().to(validate)));
    config.service(resource(&at("/policies/evaluate")).route(web::post().to(evaluate)));
    config.service(resource(&at("/policies/resolve")).route(web::get().to(resolve)));
    config.service(resource(&at("/policies")).route(web::get().to(list)));
    config.service(resource(&at("/policies/{bundle}")).route(web::get().to(one)));
}

/// The policies that the caller's tenant may use.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyList {
    /// In the order of the tenant's file.
    pub policies: Vec<PolicyView>,
    /// Always null: the list is short.
    pub next: Option<String>,
}

/// A policy as a tenant sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyView {
    /// The bundle.
    pub name: String,
    /// Whether requests that name no policy use it.
    pub default: bool,
    /// Its layers, lowest first.
    pub layers: Vec<String>,
    /// Digest of what this tenant sees under it.
    pub view: String,
}

/// Lists the tenant's policies.
#[utoipa::path(get, path = "/api/v1/policies", tag = "policies", operation_id = "policies_list",
    responses((status = 200, body = PolicyList)))]
pub(crate) async fn list(http: HttpRequest, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    json(&PolicyList { policies: views(&http, &api)?, next: None })
}

fn views(http: &HttpRequest, api: &Api) -> Result<Vec<PolicyView>, Error> {
    let caller = api.caller(http)?;
    let snapshot = api.live.current();
    let id = tenant(http, &caller, None, &snapshot)?;
    let Some(tenant) = snapshot.catalog.tenants.get(&id) else { return Ok(Vec::new()) };
    let views = tenant.policies.iter().filter_map(|bundle| {
        let view = snapshot.policies.view(&id, bundle)?;
        Some(PolicyView {
            name: bundle.to_string(),
            default: *bundle == tenant.default_policy,
            layers: view.layers().to_vec(),
            view: view.digest().hex(),
        })
    });
    Ok(views.collect())
}

/// One policy.
#[utoipa::path(get, path = "/api/v1/policies/{bundle}", tag = "policies",
    operation_id = "policies_one",
    params(("bundle" = String, Path, description = "A policy's name")),
    responses((status = 200, body = PolicyView), (status = 404,
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn one(http: HttpRequest, bundle: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let found = views(&http, &api)?.into_iter().find(|view| view.name == *bundle);
    let found = found
        .ok_or_else(|| Error::new(Code::NotFound, "the tenant uses no policy of that name"))?;
    json(&found)
}

/// Which policy to resolve.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// The policy; the tenant's default unless set.
    pub policy: Option<String>,
}

/// A tenant's settings under a policy, and which layer set each key.
#[derive(Debug, Serialize, ToSchema)]
pub struct Resolved {
    /// The tenant.
    pub tenant: String,
    /// The policy.
    pub policy: String,
    /// Its layers, lowest first.
    pub layers: Vec<String>,
    /// The merged table, as `input.settings`.
    #[schema(value_type = Object)]
    pub settings: serde_json::Value,
    /// JSON pointer into `settings` → the layer that set it.
    pub origin: BTreeMap<String, String>,
    /// Digest of everything live.
    pub revision: String,
}

/// Shows the merged table and the layer of each key.
#[utoipa::path(get, path = "/api/v1/policies/resolve", tag = "policies", params(Which),
    responses((status = 200, body = Resolved), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn resolve(http: HttpRequest, api: Data<Api>) -> Answer {
    let which: Which = query(&http)?;
    let caller = api.caller(&http)?;
    let snapshot = api.live.current();
    let id = tenant(&http, &caller, None, &snapshot)?;
    json(&resolved(&snapshot, &id, which.policy.as_deref())?)
}

/// The tenant's settings under a policy, its default unless named.
pub fn resolved(
    snapshot: &Snapshot,
    id: &TenantId,
    policy: Option<&str>,
) -> Result<Resolved, Error> {
    let (_, view) = chosen(snapshot, id, policy)?;
    Ok(Resolved {
        tenant: id.to_string(),
        policy: view.bundle().to_string(),
        layers: view.layers().to_vec(),
        settings: view.settings().clone(),
        origin: view.provenance().clone(),
        revision: snapshot.revision.clone(),
    })
}

fn chosen<'a>(
    snapshot: &'a Snapshot,
    id: &TenantId,
    policy: Option<&str>,
) -> Result<(&'a Tenant, &'a Arc<View>), Error> {
    let policy = policy.map(parse_bundle).transpose()?;
    let tenant = snapshot.catalog.tenants.get(id);
    let tenant = tenant.ok_or_else(|| Error::new(Code::NotFound, "no such tenant"))?;
    Ok((tenant, view_of(snapshot, tenant, policy.as_ref())?))
}

fn parse_bundle(raw: &str) -> Result<BundleName, Error> {
    BundleName::parse(raw).map_err(|error| {
        Error::field(Code::PolicyNotFound, "/policy", "unknown_policy", error.to_string())
    })
}

/// One of two: a shipped policy with expected results, or modules.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateRequest {
    /// Mode A: the policy that answers are held against.
    pub policy: Option<String>,
    /// Mode A: answers of detectors or of the service.
    #[schema(value_type = Option<Vec<Object>>)]
    pub results: Option<Vec<Value>>,
    /// Mode B: Rego to check.
    pub modules: Option<Vec<Module>>,
    /// Mode B: the table that goes with it.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Value>,
    /// Mode B: rules to evaluate and what they must give.
    pub cases: Option<Vec<CaseRequest>>,
}

/// A Rego module.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Used in messages only.
    pub path: String,
    /// The source.
    pub rego: String,
}

/// A rule, an input, and the expected value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseRequest {
    /// Path of the rule, such as `data.tenants.acme.standard.block`.
    pub rule: String,
    /// The input document.
    #[schema(value_type = Object)]
    pub input: Value,
    /// The value it must have.
    #[schema(value_type = Object)]
    pub expect: Value,
}

/// Checks modules, or holds results against a policy.
#[utoipa::path(post, path = "/api/v1/policies/validate", tag = "policies",
    request_body = ValidateRequest,
    responses((status = 200, description = "Also when invalid: see `is_valid`", body = Object),
        (status = "4XX", body = crate::api::problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn validate(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let request: ValidateRequest = body::json(&http, payload, api.body_limits()).await?;
    match request {
        ValidateRequest {
            policy: Some(policy),
            results,
            modules: None,
            data: None,
            cases: None,
        } => {
            let snapshot = api.live.current();
            let id = tenant(&http, &caller, None, &snapshot)?;
            let bundle = parse_bundle(&policy)?;
            let results = results.unwrap_or_default().into_iter().map(|value| value.0).collect();
            json(&held::against(&api, &snapshot, (id, &bundle), results).await?)
        }
        ValidateRequest { policy: None, results: None, modules: Some(modules), data, cases } => {
            let modules: Vec<(String, String)> =
                modules.into_iter().map(|module| (module.path, module.rego)).collect();
            let data = data.map(|data| data.0);
            let cases: Vec<policy::Case> = cases
                .unwrap_or_default()
                .into_iter()
                .map(|case| policy::Case {
                    rule: case.rule,
                    input: case.input.0,
                    expect: case.expect.0,
                })
                .collect();
            let limits = crate::snapshot::policy_limits(&api.deps.settings);
            let room = Arc::clone(&api.checks).try_acquire_owned().map_err(|_| {
                Error::new(Code::Overloaded, "two policies are being checked; send it again later")
            })?;
            let checked = web::block(move || {
                let _room = room;
                policy::validate_modules(&modules, data.as_ref(), &cases, &limits)
            });
            let validation = checked.await.map_err(|error| {
                Error::new(Code::InternalError, "the check failed").caused_by(error)
            })?;
            json(&validation)
        }
        _ => {
            let detail =
                "send either `policy` with `results`, or `modules` with `data` and `cases`";
            Err(Error::field(Code::InvalidRequest, "", "ambiguous", detail).into())
        }
    }
}

/// A decision point with a document.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateRequest {
    /// The policy; the tenant's default unless set.
    pub policy: Option<String>,
    /// plan, conflict or verdict.
    pub point: String,
    /// The document; head fields and settings that are absent come from the caller's view.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub input: Value,
}

/// Evaluates one decision point on a document of the author's.
#[utoipa::path(post, path = "/api/v1/policies/evaluate", tag = "policies",
    request_body = EvaluateRequest,
    responses((status = 200, description = "The merged rules", body = Object),
        (status = "4XX", body = crate::api::problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn evaluate(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let request: EvaluateRequest = body::json(&http, payload, api.body_limits()).await?;
    let snapshot = api.live.current();
    let id = tenant(&http, &caller, None, &snapshot)?;
    let EvaluateRequest { policy, point, input } = request;
    let asked = Asked { policy: policy.as_deref(), point: &point, input: input.0 };
    json(&evaluated(&api.deps, &snapshot, &id, asked).await?)
}

/// What an author asks to be evaluated.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The policy; the tenant's default unless set.
    pub policy: Option<&'a str>,
    /// plan, conflict or verdict.
    pub point: &'a str,
    /// The document: an object, or null for an empty one.
    pub input: serde_json::Value,
}

/// Evaluates a decision point on the author's document.
pub async fn evaluated(
    deps: &Deps,
    snapshot: &Snapshot,
    id: &TenantId,
    asked: Asked<'_>,
) -> Result<serde_json::Value, Error> {
    let Some(point) = Point::parse(asked.point) else {
        let detail = "is no decision point; use plan, conflict or verdict";
        return Err(Error::field(Code::InvalidRequest, "/point", "unknown_point", detail));
    };
    let (tenant, view) = chosen(snapshot, id, asked.policy)?;
    let input = match asked.input {
        serde_json::Value::Null => serde_json::Map::new(),
        serde_json::Value::Object(input) => input,
        serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_)
        | serde_json::Value::Array(_) => {
            let detail = "must be an object";
            return Err(Error::field(Code::InvalidRequest, "/input", "wrong_type", detail));
        }
    };
    let head = plain_head(deps, tenant, view);
    let evaluated =
        deps.evaluator.evaluate(view, point, &head, input).await.map_err(|failure| {
            let mut detail = failure.to_string();
            if !failure.file.is_empty() {
                let place = format!(" ({}:{}:{})", failure.file, failure.line, failure.column);
                detail.push_str(&place);
            }
            Error::field(Code::PolicyInvalid, "/input", "policy_failed", detail)
        })?;
    let mut answer = serde_json::to_value(&evaluated).map_err(|error| {
        Error::new(Code::InternalError, "the answer could not be written").caused_by(error)
    })?;
    if let Some(object) = answer.as_object_mut() {
        object.insert("revision".into(), snapshot.revision.clone().into());
    }
    Ok(answer)
}
