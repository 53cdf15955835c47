//! What an overlay was before, and the way back.

use actix_web::HttpRequest;
use actix_web::web::{Data, Path, Payload};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::{Answer, json, pages};
use super::overlay::{PolicyDetail, time};
use super::review;
use super::target::{Target, Wanted, created};
use crate::api::caller::{NoQuery, query};
use crate::api::{Api, body};
use crate::domain::error::{Code, Error};
use crate::snapshot;
use crate::store::{self, Page, StoreError};

/// Versions of an overlay, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Versions {
    /// At most `limit`.
    pub versions: Vec<Version>,
    /// The `cursor` of the next page.
    pub next: Option<String>,
}

/// One version.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    /// From 1.
    pub version: u64,
    /// The `ETag` it had, without quotes.
    pub etag: String,
    /// RFC 3339 UTC with milliseconds.
    pub stored_at: String,
    /// Whether it is a deletion, which nothing can be rolled back to.
    pub deleted: bool,
    /// Whether it is the one that is stored now.
    pub current: bool,
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// 1 to 200, 50 unless set.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    pub cursor: Option<String>,
}

impl Part {
    fn page(&self) -> Result<Page, Error> {
        let wrong = |pointer, detail: &str| {
            Err(Error::field(Code::InvalidRequest, pointer, "out_of_range", detail))
        };
        let limit = self.limit.unwrap_or(50);
        if !(1..=200).contains(&limit) {
            return wrong("/limit", "use 1 to 200");
        }
        match pages::before(self.cursor.as_deref()) {
            Some(before) => Ok(Page { limit, before }),
            None => wrong("/cursor", "use `next` of the page before"),
        }
    }
}

/// Lists the versions of the caller's overlay.
#[utoipa::path(get, path = "/api/v1/policies/{bundle}/versions", tag = "policies",
    operation_id = "policies_versions",
    params(Part, ("bundle" = String, Path, description = "A policy's name")),
    responses((status = 200, body = Versions), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(http: HttpRequest, bundle: Path<String>, api: Data<Api>) -> Answer {
    let page = query::<Part>(&http)?.page()?;
    let target = Target::of(&http, &api, &bundle)?;
    let key = snapshot::key(&target.tenant, &target.bundle);
    let more = Page { limit: page.limit + 1, ..page };
    let mut found = api.deps.store.versions(key, more).await.map_err(unavailable)?;
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let next = (found.len() > limit).then(|| {
        found.truncate(limit);
        found.last().map(|version| version.version.to_string())
    });
    let current = target.overlay().map(|overlay| overlay.version);
    let versions = found.into_iter().map(|version| shown(version, current)).collect();
    json(&Versions { versions, next: next.flatten() })
}

fn shown(version: store::Version, current: Option<u64>) -> Version {
    Version {
        version: version.version,
        stored_at: time(version.at_ms),
        deleted: version.deleted,
        current: current == Some(version.version),
        etag: snapshot::tag(&version.etag),
    }
}

fn unavailable(error: StoreError) -> Error {
    Error::new(error.code(), "the store does not answer").caused_by(error)
}

/// The way back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The version whose content is stored again, as a new version.
    pub version: u64,
    /// For the audit, at most 500 characters.
    pub reason: Option<String>,
}

/// Stores the content of an older version again; checked like any other change.
#[utoipa::path(post, path = "/api/v1/policies/{bundle}/rollback", tag = "policies",
    operation_id = "policies_rollback",
    params(("bundle" = String, Path, description = "A policy's name"),
        ("If-Match" = Option<String>, Header,
         description = "The ETag of what is changed; none after a deletion")),
    request_body = Rollback,
    responses((status = 200, description = "Changed", body = PolicyDetail),
        (status = 201, description = "Back after a deletion", body = PolicyDetail),
        (status = 202, description = "Waits for a review", body = PolicyDetail),
        (status = "4XX", body = crate::api::problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn rollback(
    http: HttpRequest,
    bundle: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let target = Target::of(&http, &api, &bundle)?;
    target.is_open()?;
    let expected = target.expected(&http)?;
    let request: Rollback = body::json(&http, payload, api.body_limits()).await?;
    let key = snapshot::key(&target.tenant, &target.bundle);
    let store = &api.deps.store;
    let found = store.version(key.clone(), request.version).await.map_err(unavailable)?;
    let Some(text) = found.and_then(|object| object.body) else {
        let newest = Page { limit: 1, before: None };
        let newest = store.versions(key, newest).await.map_err(unavailable)?;
        let last = newest.first().map_or(0, |version| version.version);
        let kept = api.deps.settings.policy.versions_max;
        let message = match (1..=last.saturating_sub(kept)).contains(&request.version) {
            true => format!("this version is no longer kept, only the newest {kept} are"),
            false => "no such version has content; see its versions".to_owned(),
        };
        return Err(Error::new(Code::NotFound, message).into());
    };
    let content = serde_json::from_str(&text).map_err(|error| {
        Error::new(Code::InternalError, "the version could not be read").caused_by(error)
    })?;
    let reason = request.reason;
    let wanted = Wanted { act: "rollback", content: Some(content), expected, reason };
    if api.deps.settings.policy.require_review {
        return review::propose(target, &http, &api, wanted).await;
    }
    let changed = target.change(&http, &api, wanted).await?;
    target.changed(changed, created(expected))
}
