//! Policies: list, resolve, validate, evaluate; the caller's stored overlays.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, at, json, resource};
use crate::api::Api;
use crate::api::caller::{NoQuery, query, tenant};
use crate::catalog::Tenant;
use crate::domain::error::{Code, Error};
use crate::domain::id::{BundleName, TenantId};
use crate::orchestrator::view_of;
use crate::policy::View;
use crate::snapshot::Snapshot;

pub(crate) mod check;
pub(super) mod content;
mod draft;
pub(crate) mod overlay;
pub(super) mod precondition;
pub(crate) mod review;
mod target;
pub(crate) mod versions;

use overlay::PolicyDetail;
use target::Target;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/policies/validate")).route(web::post().to(check::validate)));
    config.service(resource(&at("/policies/evaluate")).route(web::post().to(check::evaluate)));
    config.service(resource(&at("/policies/resolve")).route(web::get().to(resolve)));
    config.service(resource(&at("/policies")).route(web::get().to(list)));
    config.service(
        resource(&at("/policies/{bundle}"))
            .route(web::get().to(one))
            .route(web::put().to(overlay::put))
            .route(web::delete().to(overlay::delete)),
    );
    config
        .service(resource(&at("/policies/{bundle}/versions")).route(web::get().to(versions::list)));
    config.service(
        resource(&at("/policies/{bundle}/versions/{version}/review"))
            .route(web::post().to(review::review)),
    );
    config.service(
        resource(&at("/policies/{bundle}/rollback")).route(web::post().to(versions::rollback)),
    );
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
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct PolicyView {
    /// The bundle.
    pub name: String,
    /// Whether requests that name no policy use it.
    pub default: bool,
    /// Its layers, lowest first.
    pub layers: Vec<String>,
    /// Digest of what this tenant sees under it.
    pub view: String,
    /// Whether the tenant's stored overlay does not fit the files, so that its modes decide; the
    /// reason stands in `GET /generations`.
    pub broken: bool,
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
    Ok(tenant.policies.iter().filter_map(|bundle| view(&snapshot, tenant, bundle)).collect())
}

fn view(snapshot: &Snapshot, tenant: &Tenant, bundle: &BundleName) -> Option<PolicyView> {
    let view = snapshot.policies.view(&tenant.id, bundle)?;
    Some(PolicyView {
        name: bundle.to_string(),
        default: *bundle == tenant.default_policy,
        layers: view.layers().to_vec(),
        view: view.digest().hex(),
        broken: view.is_broken(),
    })
}

/// One policy, with the overlay that the caller's tenant stored; its version is the `ETag`.
#[utoipa::path(get, path = "/api/v1/policies/{bundle}", tag = "policies",
    operation_id = "policies_one",
    params(("bundle" = String, Path, description = "A policy's name")),
    responses((status = 200, body = PolicyDetail), (status = 404,
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn one(http: HttpRequest, bundle: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let mut target = Target::of(&http, &api, &bundle)?;
    target.pending = review::pending(&target, &api).await?;
    target.shown(&target.snapshot, HttpResponse::Ok())
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

/// The tenant and what decides for it.
fn chosen<'a>(
    snapshot: &'a Snapshot,
    id: &TenantId,
    policy: Option<&str>,
) -> Result<(&'a Tenant, &'a Arc<View>), Error> {
    let policy = policy.map(check::parse_bundle).transpose()?;
    let tenant = snapshot.catalog.tenants.get(id);
    let tenant = tenant.ok_or_else(|| Error::new(Code::NotFound, "no such tenant"))?;
    Ok((tenant, view_of(snapshot, tenant, policy.as_ref())?))
}
