//! A decision point asked of an overlay that is not stored.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::web::{self, Data};

use super::check::{self, Asked, Draft};
use super::target::Target;
use super::{chosen, content};
use crate::api::Api;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::orchestrator::plain_head;
use crate::policy;
use crate::snapshot::{Snapshot, policy_limits};

/// Checks the overlay as before it is stored, without its tests, and evaluates the point with it.
pub(super) async fn evaluated(
    http: &HttpRequest,
    api: &Data<Api>,
    (current, id): (&Snapshot, &TenantId),
    asked: Asked<'_>,
    overlay: Draft,
) -> Result<serde_json::Value, Error> {
    let point = check::point(asked.point)?;
    let input = check::document(point, asked.input)?;
    let bundle = chosen(current, id, asked.policy)?.1.bundle().to_string();
    let target = Target::of(http, api, &bundle)?;
    let content = content::parse(overlay.modules, Vec::new(), overlay.data)?;
    let snapshot = target.imagine(http, api, content).await?;
    let (tenant, view) = chosen(&snapshot, id, Some(&bundle))?;
    let (head, view) = (plain_head(&api.deps, tenant, view), Arc::clone(view));
    let limits = policy_limits(&api.deps.settings);
    let tried = web::block(move || policy::tried(&view, point, &head, input, &limits)).await;
    let tried = tried.map_err(|error| {
        Error::new(Code::InternalError, "the evaluation failed").caused_by(error)
    })?;
    check::answered(&tried.map_err(check::failed)?, &snapshot)
}
