//! Detectors that a tenant registers for itself: stored, live at once, seen by nobody else.

use std::sync::Arc;

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::policies::overlay::time;
use super::super::tenants::row::{self, Wording};
use super::super::{Answer, at};
use crate::api::caller::{NoQuery, query, tenant};
use crate::api::strict::Value;
use crate::api::{Api, body};
use crate::auth::Caller;
use crate::domain::error::{Code, Error};
use crate::domain::id::{DetectorName, TenantId};
use crate::snapshot::{Row, RowChange, RowPlace, Snapshot};
use crate::store::{AuditEntry, Expected};

/// Characters of a detector's document.
const DOCUMENT_CHARS_MAX: usize = 65_536;
/// Where the document stands in the request.
const ROOT: &str = "/detector";

/// A detector that is to be stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DetectorRequest {
    /// The keys of a detector file but those that only an operator may write.
    #[schema(value_type = Object)]
    pub detector: Value,
    /// For the audit, 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

/// A detector as it was stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoredDetector {
    /// From 1; deletions count.
    pub version: u64,
    /// The `ETag` without quotes.
    pub etag: String,
    /// RFC 3339 UTC with milliseconds.
    pub stored_at: String,
    /// Whether everyone's detector of the same name serves instead.
    pub shadowed: bool,
    /// The keys of a detector file.
    #[schema(value_type = Object)]
    pub document: serde_json::Value,
}

impl StoredDetector {
    /// What is stored under the name, if anything.
    pub(super) fn of(snapshot: &Snapshot, id: &TenantId, name: &DetectorName) -> Option<Self> {
        let row = snapshot.row(&RowPlace::of_detector(id, name))?;
        Some(StoredDetector {
            version: row.version,
            etag: row.etag.clone(),
            stored_at: time(row.at_ms),
            shadowed: snapshot.file_defines_detector(id, name),
            document: serde_json::from_str(&row.body).unwrap_or_default(),
        })
    }
}

/// What a request is about.
struct Target {
    caller: Caller,
    /// What served when the request came.
    snapshot: Arc<Snapshot>,
    tenant: TenantId,
    name: DetectorName,
}

/// What a request wants to be there.
struct Wanted {
    /// For the audit, such as `detector.put`.
    act: &'static str,
    /// JSON; `None` deletes.
    body: Option<String>,
    expected: Expected,
    reason: String,
}

impl Target {
    fn of(http: &HttpRequest, api: &Api, name: &str) -> Result<Target, Error> {
        let caller = api.caller(http)?;
        let snapshot = api.live.current();
        let tenant = tenant(http, &caller, None, &snapshot)?;
        let name = DetectorName::parse(name)
            .map_err(|wrong| Error::new(Code::InvalidRequest, wrong.to_string()))?;
        Ok(Target { caller, snapshot, tenant, name })
    }

    fn row(&self) -> Option<&Row> {
        let place = RowPlace::of_detector(&self.tenant, &self.name);
        self.snapshot.row(&place).map(AsRef::as_ref)
    }

    fn check_defined(&self) -> Result<(), Error> {
        let is = self.snapshot.file_defines_detector(&self.tenant, &self.name);
        if is { Err(defined()) } else { Ok(()) }
    }

    async fn change(
        &self,
        http: &HttpRequest,
        api: &Data<Api>,
        wanted: Wanted,
    ) -> Result<Arc<Snapshot>, Error> {
        let Wanted { act, body, expected, reason } = wanted;
        row::check_reason(&reason)?;
        let audit = AuditEntry {
            tenant: Some(self.tenant.clone()),
            at_ms: jiff::Timestamp::now().as_millisecond(),
            actor: self.caller.actor.clone(),
            action: act.to_owned(),
            target: format!("detector/{}", self.name),
            reason,
            before: self.row().map(|row| row.body.clone()),
            after: body.clone(),
        };
        let place = RowPlace::of_detector(&self.tenant, &self.name);
        let change = RowChange { place, body, expected, audit };
        row::store(http, api, change, &Wording { root: ROOT, defined }).await
    }

    /// Stores `document`, which was checked to be of this name, and shows what serves.
    async fn put(
        &self,
        (http, api): (&HttpRequest, &Data<Api>),
        (act, document): (&'static str, &serde_json::Value),
        (expected, reason): (Expected, String),
    ) -> Answer {
        let body = Some(serde_json::to_string_pretty(document).unwrap_or_default());
        let wanted = Wanted { act, body, expected, reason };
        let changed = self.change(http, api, wanted).await;
        let snapshot = changed.map_err(|error| row::pointed(error, document, ROOT))?;
        let mut answer = match expected {
            Expected::Absent => HttpResponse::Created(),
            Expected::Any | Expected::Version(_) => HttpResponse::Ok(),
        };
        answer.insert_header((LOCATION, at(&format!("/detectors/{}", self.name))));
        shown(api, &snapshot, (&self.tenant, &self.name), answer)
    }
}

/// The detector that serves under the name, with the `ETag` of what is stored.
pub(super) fn shown(
    api: &Api,
    snapshot: &Snapshot,
    (id, name): (&TenantId, &DetectorName),
    mut answer: HttpResponseBuilder,
) -> Answer {
    let tenant = snapshot.catalog.tenants.get(id);
    let detector = tenant.and_then(|tenant| snapshot.catalog.visible_one(tenant, name));
    let detector = detector.ok_or_else(super::unknown)?;
    let view = super::shown(api, snapshot, id, detector);
    if let Some(stored) = &view.stored {
        answer.insert_header(("etag", format!("\"{}\"", stored.etag)));
    }
    answer.insert_header(("x-policy-revision", snapshot.revision.as_str()));
    Ok(answer.json(view))
}

fn defined() -> Error {
    let message = "a detector of this name is everyone's; choose another name";
    Error::new(Code::AlreadyExists, message)
}

/// The document with what may be left out.
fn document(
    given: serde_json::Value,
    name: Option<&DetectorName>,
) -> Result<serde_json::Value, Error> {
    let refused = |pointer: &str, fault, detail: &str| {
        Error::field(Code::InvalidRequest, &format!("{ROOT}{pointer}"), fault, detail)
    };
    let serde_json::Value::Object(mut keys) = given else {
        return Err(refused(
            "",
            "wrong_type",
            "must be an object with the keys of a detector file",
        ));
    };
    keys.entry("schema_version").or_insert(1.into());
    if let Some(name) = name {
        let given = keys.entry("name").or_insert(name.as_str().into());
        if given.as_str() != Some(name.as_str()) {
            let detail = "must be the name in the path; leave it out";
            return Err(refused("/name", "name_mismatch", detail));
        }
    }
    let document = serde_json::Value::Object(keys);
    if document.to_string().chars().count() > DOCUMENT_CHARS_MAX {
        return Err(refused("", "too_large", "holds more than 65536 characters"));
    }
    Ok(document)
}

/// Registers a detector that the caller's tenant alone sees; it takes part once its service has
/// answered.
#[utoipa::path(post, path = "/api/v1/detectors", tag = "detectors",
    operation_id = "detectors_register", request_body = DetectorRequest,
    responses((status = 201, description = "Registered", body = super::DetectorView),
        (status = "4XX", body = crate::api::problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn post(http: HttpRequest, payload: Payload, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let request: DetectorRequest = body::json(&http, payload, api.body_limits()).await?;
    let document = document(request.detector.0, None)?;
    let name = document.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
    let wrong = |error: Error| {
        let named = error.code == Code::InvalidRequest;
        let at = format!("{ROOT}/name");
        if named { Error::field(error.code, &at, "bad_value", error.message) } else { error }
    };
    let target = Target::of(&http, &api, name).map_err(wrong)?;
    target.check_defined()?;
    if target.row().is_some() {
        let message = "a detector of this name is registered; change it with PUT and its ETag";
        return Err(Error::new(Code::AlreadyExists, message).into());
    }
    let how = (Expected::Absent, request.reason);
    target.put((&http, &api), ("detector.register", &document), how).await
}

/// Stores a detector of the caller's tenant; live at once.
#[utoipa::path(put, path = "/api/v1/detectors/{name}", tag = "detectors",
    operation_id = "detectors_put",
    params(("name" = String, Path, description = "A detector's name"),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is changed"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if nothing is there")),
    request_body = DetectorRequest,
    responses((status = 200, description = "Changed", body = super::DetectorView),
        (status = 201, description = "Registered", body = super::DetectorView),
        (status = "4XX", body = crate::api::problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn put(
    http: HttpRequest,
    name: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let target = Target::of(&http, &api, &name)?;
    target.check_defined()?;
    let expected = row::expected(&http, target.row())?;
    let request: DetectorRequest = body::json(&http, payload, api.body_limits()).await?;
    let document = document(request.detector.0, Some(&target.name))?;
    target.put((&http, &api), ("detector.put", &document), (expected, request.reason)).await
}

/// Why a detector goes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteReason {
    /// For the audit, 1 to 500 characters.
    pub reason: String,
}

/// Deletes a registered detector; nobody is asked to judge by it from now on.
#[utoipa::path(delete, path = "/api/v1/detectors/{name}", tag = "detectors",
    operation_id = "detectors_delete",
    params(DeleteReason, ("name" = String, Path, description = "A detector's name"),
        ("If-Match" = String, Header, description = "The ETag of what is deleted")),
    responses((status = 204, description = "Deleted"),
        (status = "4XX", body = crate::api::problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn delete(http: HttpRequest, name: Path<String>, api: Data<Api>) -> Answer {
    let DeleteReason { reason } = query(&http)?;
    let target = Target::of(&http, &api, &name).map_err(|error| {
        if error.code == Code::InvalidRequest { super::unknown() } else { error }
    })?;
    // A shadowed one may go; what a file defines may not.
    if target.row().is_none() {
        target.check_defined()?;
        return Err(super::unknown().into());
    }
    let expected = row::expected(&http, target.row())?;
    let own = target.snapshot.catalog.private.get(&target.tenant);
    let gone = own.and_then(|own| own.get(&target.name)).cloned();
    let wanted = Wanted { act: "detector.delete", body: None, expected, reason: reason.clone() };
    let snapshot = target.change(&http, &api, wanted).await?;
    if let Some(gone) = gone {
        super::credentials::forget(&api, (&target.caller, &target.tenant), &gone, reason).await?;
    }
    let mut answer = HttpResponse::NoContent();
    Ok(answer.insert_header(("x-policy-revision", snapshot.revision.as_str())).finish())
}
