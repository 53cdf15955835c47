//! Checks and evaluates what need not be live.

use std::time::Duration;

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::{Answer, json};
use super::{chosen, draft};
use crate::api::caller::{NoQuery, query, tenant};
use crate::api::strict::Value;
use crate::api::{Api, body, held};
use crate::domain::error::{Code, Error};
use crate::domain::id::{BundleName, TenantId};
use crate::orchestrator::{Deps, plain_head};
use crate::policy::{self, Point};
use crate::snapshot::Snapshot;

/// One of two: a shipped policy with expected results, or modules.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateRequest {
    /// Mode A: the policy that answers are held against.
    pub policy: Option<String>,
    /// Mode A: answers of detectors or of the service.
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    pub results: Option<Vec<Value>>,
    /// Mode B: Rego to check.
    pub modules: Option<Vec<Module>>,
    /// Mode B: the table that goes with it.
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Value>,
    /// Mode B: rules to evaluate and what they must give.
    pub cases: Option<Vec<CaseRequest>>,
}

/// A Rego module.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// A name for messages; of a stored module, its file name.
    pub path: String,
    /// The source.
    pub rego: String,
}

/// A file of end-to-end cases.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// Its name, which ends in `_cases.yaml`.
    pub path: String,
    /// Its text.
    pub yaml: String,
}

/// A rule, an input, and the expected value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseRequest {
    /// Path of the rule, such as `data.tenants.acme.standard.block`.
    pub rule: String,
    /// The input document.
    #[schema(value_type = serde_json::Value)]
    pub input: Value,
    /// The value it must have.
    #[schema(value_type = serde_json::Value)]
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
            let id = tenant(&http, &caller, None, &api.live.current())?;
            let room = api.checks.take(&id, Duration::ZERO).await.ok_or_else(|| {
                let message = "another policy of this tenant, or two of others, are being checked; \
                               send it again later";
                Error::new(Code::Overloaded, message)
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
    #[serde(default = "empty")]
    #[schema(value_type = Option<Object>)]
    pub input: Value,
    /// An overlay that is tried in the place of the stored one; it is compiled and probed, and not
    /// stored. The answer then says which of its lines were evaluated.
    pub overlay: Option<Draft>,
}

fn empty() -> Value {
    Value(serde_json::json!({}))
}

/// An overlay that is not stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PolicyDraft)]
pub struct Draft {
    /// Its Rego files.
    #[serde(default)]
    pub modules: Vec<Module>,
    /// Its table.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Value>,
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
    let EvaluateRequest { policy, point, input, overlay } = request;
    let asked = Asked { policy: policy.as_deref(), point: &point, input: input.0 };
    match overlay {
        None => json(&evaluated(&api.deps, &snapshot, &id, asked).await?),
        Some(overlay) => {
            json(&draft::evaluated(&http, &api, (&snapshot, &id), asked, overlay).await?)
        }
    }
}

/// What an author asks to be evaluated.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The policy; the tenant's default unless set.
    pub policy: Option<&'a str>,
    /// plan, conflict or verdict.
    pub point: &'a str,
    /// The document, an object.
    pub input: serde_json::Value,
}

/// Evaluates a decision point on the author's document.
pub async fn evaluated(
    deps: &Deps,
    snapshot: &Snapshot,
    id: &TenantId,
    asked: Asked<'_>,
) -> Result<serde_json::Value, Error> {
    let point = point(asked.point)?;
    let (tenant, view) = chosen(snapshot, id, asked.policy)?;
    let input = document(point, asked.input)?;
    let head = plain_head(deps, tenant, view);
    let evaluated = deps.evaluator.evaluate(view, point, &head, input).await.map_err(failed)?;
    answered(&evaluated, snapshot)
}

pub(super) fn point(name: &str) -> Result<Point, Error> {
    Point::parse(name).ok_or_else(|| {
        let detail = "is no decision point; use plan, conflict or verdict";
        Error::field(Code::InvalidRequest, "/point", "unknown_point", detail)
    })
}

/// What the point never sees would be read by nobody.
pub(super) fn document(point: Point, given: serde_json::Value) -> Result<policy::Document, Error> {
    let refused =
        |at: &str, code, detail| Err(Error::field(Code::InvalidRequest, at, code, detail));
    match given {
        serde_json::Value::Object(mut input) => match policy::wrong(point, &input) {
            None => {
                policy::complete(&mut input);
                Ok(input)
            }
            Some(wrong) => refused(&format!("/input{}", wrong.at), wrong.code, wrong.detail),
        },
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_)
        | serde_json::Value::Array(_) => {
            let name = point.name();
            let detail = format!(
                "must be an object with keys of a {name} document (policies/schemas/{name}.json); {{}} \
                 is an empty one"
            );
            refused("/input", "wrong_type", detail)
        }
    }
}

pub(super) fn failed(failure: policy::Failure) -> Error {
    Error::field(Code::PolicyInvalid, "/input", "policy_failed", failure.taught())
}

/// The answer with the revision that gave it.
pub(super) fn answered(
    evaluated: &impl Serialize,
    snapshot: &Snapshot,
) -> Result<serde_json::Value, Error> {
    let mut answer = serde_json::to_value(evaluated).map_err(|error| {
        Error::new(Code::InternalError, "the answer could not be written").caused_by(error)
    })?;
    if let Some(object) = answer.as_object_mut() {
        object.insert("revision".into(), snapshot.revision.clone().into());
    }
    Ok(answer)
}

pub(super) fn parse_bundle(raw: &str) -> Result<BundleName, Error> {
    BundleName::parse(raw).map_err(|error| {
        Error::field(Code::PolicyNotFound, "/policy", "unknown_policy", error.to_string())
    })
}
