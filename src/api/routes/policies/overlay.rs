//! The caller's overlay of one policy: put and delete. The API never writes files.

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::Answer;
use super::check::{CaseFile, Module};
use super::review::{self, Pending};
use super::target::{Target, Wanted, created};
use super::{PolicyView, content};
use crate::api::caller::{NoQuery, query};
use crate::api::strict::Value;
use crate::api::{Api, body};
use crate::domain::error::{Code, Error};
use crate::domain::id::BundleName;
use crate::snapshot::{Overlay, OverlayContent, Snapshot};
use crate::store::Expected;
use crate::yaml::fault::Fault;

/// A policy with the tenant's stored overlay.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyDetail {
    /// The policy; no layers where the tenant no longer uses it.
    #[serde(flatten)]
    pub view: PolicyView,
    /// What the API stored, if anything.
    pub overlay: Option<StoredOverlay>,
    /// What waits for a review, where `policy.require_review` holds.
    pub pending: Option<Pending>,
    /// What is odd about it but serves, or why it does not serve.
    #[schema(value_type = Vec<Object>)]
    pub warnings: Vec<Fault>,
    /// Digest of everything live.
    pub revision: String,
}

/// An overlay as it was stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoredOverlay {
    /// From 1; deletions count.
    pub version: u64,
    /// The `ETag` without quotes.
    pub etag: String,
    /// RFC 3339 UTC with milliseconds.
    pub stored_at: String,
    /// SHA-256 of the content, as in the audit.
    pub digest: String,
    /// Whether files of the same name serve instead.
    pub shadowed: bool,
    /// Its Rego files.
    pub modules: Vec<Module>,
    /// Its `*_cases.yaml`.
    pub cases: Vec<CaseFile>,
    /// Its table.
    #[schema(value_type = Option<Object>)]
    pub data: Option<serde_json::Value>,
}

impl PolicyDetail {
    pub(super) fn of(
        bundle: &BundleName,
        view: Option<PolicyView>,
        overlay: Option<(&Overlay, bool)>,
        (snapshot, mut warnings): (&Snapshot, Vec<Fault>),
    ) -> Self {
        let own = overlay.map(|(overlay, _)| format!("stored/{}", overlay.folder()));
        let own = |fault: &&Fault| {
            own.as_ref().is_some_and(|own| format!("{}/", fault.file).starts_with(own))
        };
        for doubt in &mut warnings {
            doubt.file.insert_str(0, "stored/");
        }
        let known: Vec<Fault> = snapshot.warnings.iter().filter(own).cloned().collect();
        // Both look for misspelt rules; the load knows the better word.
        let same =
            |a: &Fault, b: &Fault| (&a.file, a.line, a.column) == (&b.file, b.line, b.column);
        warnings.retain(|doubt| !known.iter().any(|known| same(known, doubt)));
        warnings.extend(known);
        warnings.sort();
        let overlay = overlay.map(|(overlay, shadowed)| StoredOverlay {
            version: overlay.version,
            etag: overlay.etag.clone(),
            stored_at: time(overlay.at_ms),
            digest: overlay.digest.hex(),
            shadowed,
            modules: modules(&overlay.content),
            cases: cases(&overlay.content),
            data: overlay.content.data.clone(),
        });
        let unused = || PolicyView { name: bundle.to_string(), ..PolicyView::default() };
        let view = view.unwrap_or_else(unused);
        Self { view, overlay, pending: None, warnings, revision: snapshot.revision.clone() }
    }
}

pub(super) fn modules(content: &OverlayContent) -> Vec<Module> {
    let modules = content.modules.iter();
    modules.map(|m| Module { path: m.path.clone(), rego: m.rego.clone() }).collect()
}

pub(super) fn cases(content: &OverlayContent) -> Vec<CaseFile> {
    let cases = content.cases.iter();
    cases.map(|file| CaseFile { path: file.path.clone(), yaml: file.yaml.clone() }).collect()
}

/// Milliseconds since 1970 as RFC 3339.
pub(in crate::api) fn time(at_ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(at_ms).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// What only differs from the bundle below.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverlayRequest {
    /// Rego files of the package `tenants.<tenant>.<policy>`, at most 32; `*_test.rego` must pass.
    #[serde(default)]
    pub modules: Vec<Module>,
    /// Files of cases, which must hold through built-in detectors and every layer.
    #[serde(default)]
    pub cases: Vec<CaseFile>,
    /// The table, as `data.yaml`: `{settings: {…}}`.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Value>,
    /// For the audit, at most 500 characters.
    pub reason: Option<String>,
}

/// Stores the caller's overlay; live at once, or where reviews are required after one.
#[utoipa::path(put, path = "/api/v1/policies/{bundle}", tag = "policies",
    operation_id = "policies_put",
    params(("bundle" = String, Path, description = "A policy's name"),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is changed"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if nothing is there")),
    request_body = OverlayRequest,
    responses((status = 200, description = "Changed", body = PolicyDetail),
        (status = 201, description = "Created", body = PolicyDetail),
        (status = 202, description = "Waits for a review", body = PolicyDetail),
        (status = "4XX", body = crate::api::problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn put(
    http: HttpRequest,
    bundle: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let target = Target::of(&http, &api, &bundle)?;
    target.is_open()?;
    let expected = target.expected(&http)?;
    let request: OverlayRequest = body::json(&http, payload, api.body_limits()).await?;
    let content = content::parse(request.modules, request.cases, request.data)?;
    let reason = request.reason;
    let wanted = Wanted { act: "put", content: Some(content), expected, reason };
    if api.deps.settings.policy.require_review {
        return review::propose(target, &http, &api, wanted).await;
    }
    let changed = target.change(&http, &api, wanted).await?;
    target.changed(changed, created(expected))
}

/// Why a change is made.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Why {
    /// For the audit, at most 500 characters.
    pub reason: Option<String>,
}

/// Deletes the caller's overlay; the bundle below decides at once.
#[utoipa::path(delete, path = "/api/v1/policies/{bundle}", tag = "policies",
    operation_id = "policies_delete",
    params(Why, ("bundle" = String, Path, description = "A policy's name"),
        ("If-Match" = String, Header, description = "The ETag of what is deleted")),
    responses((status = 204, description = "Deleted"),
        (status = 202, description = "Waits for a review", body = PolicyDetail),
        (status = "4XX", body = crate::api::problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn delete(http: HttpRequest, bundle: Path<String>, api: Data<Api>) -> Answer {
    let why: Why = query(&http)?;
    let target = Target::of(&http, &api, &bundle)?;
    // A shadowed overlay may go; what a file defines may not.
    if target.overlay().is_none() {
        target.is_open()?;
    }
    let expected = target.expected(&http)?;
    if expected == Expected::Absent {
        return Err(Error::new(Code::NotFound, "no overlay is stored").into());
    }
    let wanted = Wanted { act: "delete", content: None, expected, reason: why.reason };
    if api.deps.settings.policy.require_review {
        return review::propose(target, &http, &api, wanted).await;
    }
    let snapshot = target.change(&http, &api, wanted).await?.snapshot;
    let mut answer = HttpResponse::NoContent();
    Ok(answer.insert_header(("x-policy-revision", snapshot.revision.as_str())).finish())
}
