//! Credentials that calls to a detector are authorised with: written, never read.

use actix_web::HttpRequest;
use actix_web::web::{Data, Path, Payload};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::super::{Answer, json};
use super::AuthView;
use crate::api::caller::{NoQuery, query, tenant};
use crate::api::{Api, body};
use crate::auth::Caller;
use crate::catalog::detector::Auth;
use crate::catalog::{CredentialParts, Detector, PartFault};
use crate::detect::CredentialPlace;
use crate::domain::error::{Code, Error};
use crate::domain::id::{DetectorName, TenantId};
use crate::snapshot::Snapshot;
use crate::store::AuditEntry;

/// A credential. Each type takes its own parts and no others.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialRequest {
    /// none, api_key, bearer_token, basic_auth or oauth2; `none` takes back what was stored.
    #[serde(rename = "type", deserialize_with = "text")]
    #[schema(value_type = String)]
    pub kind: Option<String>,
    /// For the audit, 1 to 500 characters.
    #[serde(deserialize_with = "text")]
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    pub reason: Option<String>,
    /// Of an api_key: its header; `x-api-key` unless set.
    #[serde(default, deserialize_with = "text")]
    #[schema(value_type = String)]
    pub header: Option<String>,
    /// Of an api_key: the key.
    #[serde(default, deserialize_with = "text")]
    #[schema(value_type = String)]
    pub value: Option<String>,
    /// Of a bearer_token: the token.
    #[serde(default, deserialize_with = "text")]
    #[schema(value_type = String)]
    pub token: Option<String>,
    /// Of basic_auth.
    #[serde(default, deserialize_with = "text")]
    #[schema(value_type = String)]
    pub username: Option<String>,
    /// Of basic_auth.
    #[serde(default, deserialize_with = "text")]
    #[schema(value_type = String)]
    pub password: Option<String>,
    /// Of oauth2: where tokens are fetched; https outside development.
    #[serde(default, deserialize_with = "text")]
    #[schema(value_type = String)]
    pub token_url: Option<String>,
    /// Of oauth2.
    #[serde(default, deserialize_with = "text")]
    #[schema(value_type = String)]
    pub client_id: Option<String>,
    /// Of oauth2.
    #[serde(default, deserialize_with = "text")]
    #[schema(value_type = String)]
    pub client_secret: Option<String>,
    /// Of oauth2: for what.
    #[serde(default, deserialize_with = "text")]
    #[schema(value_type = String)]
    pub scope: Option<String>,
    /// Of oauth2: for whom, where the server asks.
    #[serde(default, deserialize_with = "text")]
    #[schema(value_type = String)]
    pub audience: Option<String>,
}

/// A text; what else is there is not repeated in the fault, as serde would.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let text = value.as_str().map(str::to_owned);
    text.map(Some).ok_or_else(|| serde::de::Error::custom("must be a text"))
}

impl CredentialRequest {
    fn parts(self) -> CredentialParts {
        CredentialParts {
            kind: self.kind.unwrap_or_default(),
            header: self.header,
            value: self.value,
            token: self.token,
            username: self.username,
            password: self.password,
            token_url: self.token_url,
            client_id: self.client_id,
            client_secret: self.client_secret,
            scope: self.scope,
            audience: self.audience,
        }
    }
}

/// Stores a credential sealed; calls are authorised with it at once, on other instances within a
/// second. It is never shown again.
#[utoipa::path(put, path = "/api/v1/detectors/{name}/credentials", tag = "detectors",
    operation_id = "detectors_credentials",
    params(("name" = String, Path, description = "A detector's name"),
        ("X-Tenant-ID" = Option<String>, Header,
         description = "For this tenant's calls alone; without it, and without a tenant of the \
                        caller's own, for everyone's")),
    request_body = CredentialRequest,
    responses((status = 200, body = AuthView), (status = "4XX",
        body = crate::api::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn put(
    http: HttpRequest,
    name: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let caller = api.caller(&http)?;
    let snapshot = api.live.current();
    let (place, detector) = place(&http, &caller, &snapshot, &name)?;
    may_write(&caller, detector)?;
    let mut request: CredentialRequest = body::json(&http, payload, api.body_limits()).await?;
    let reason = reason(request.reason.take())?;
    let parts = request.parts();
    check(&api, detector, &parts)?;
    store(&api, &caller, (&place, detector), (&parts, reason)).await?;
    let held = api.deps.detectors.credential(place.tenant.as_ref(), detector);
    json(&AuthView::from(held))
}

async fn store(
    api: &Api,
    caller: &Caller,
    (place, detector): (&CredentialPlace, &Detector),
    (parts, reason): (&CredentialParts, String),
) -> Result<(), Error> {
    let detectors = &api.deps.detectors;
    let kind = |kind: &str| Some(serde_json::json!({ "type": kind }).to_string());
    let entry = AuditEntry {
        tenant: place.tenant.clone(),
        at_ms: jiff::Timestamp::now().as_millisecond(),
        actor: caller.actor.clone(),
        action: "detector.credentials".into(),
        target: format!("detector/{}", detector.name),
        reason,
        before: kind(&detectors.credential(place.tenant.as_ref(), detector).kind),
        after: kind(&parts.kind),
    };
    let stored = detectors.store_credential(api.deps.store.as_ref(), place, parts, entry).await;
    stored.map_err(|error| {
        let message = "the store does not answer; read the detector before you send it again";
        Error::new(Code::StoreUnavailable, message).caused_by(error)
    })
}

/// Takes back what was stored for a registered detector that is gone: another one of its name and
/// address would be its heir.
pub(super) async fn forget(
    api: &Api,
    (caller, tenant): (&Caller, &TenantId),
    gone: &Detector,
    reason: String,
) -> Result<(), Error> {
    if !api.deps.detectors.credential(Some(tenant), gone).configured {
        return Ok(());
    }
    let place = CredentialPlace::of(Some(tenant), gone);
    let none = CredentialParts { kind: "none".to_owned(), ..CredentialParts::default() };
    store(api, caller, (&place, gone), (&none, reason)).await
}

/// Whose credential of which detector. Who acts across tenants and names none means all of them.
fn place<'a>(
    http: &HttpRequest,
    caller: &Caller,
    snapshot: &'a Snapshot,
    name: &str,
) -> Result<(CredentialPlace, &'a Detector), Error> {
    let unknown = || Error::new(Code::NotFound, "no detector of that name is visible");
    let name = DetectorName::parse(name).map_err(|_| unknown())?;
    let catalog = &snapshot.catalog;
    if caller.tenant.is_none() && !http.headers().contains_key("x-tenant-id") {
        let detector = catalog.detectors.get(&name).ok_or_else(unknown)?;
        return Ok((CredentialPlace::of(None, detector), detector));
    }
    let id = tenant(http, caller, None, snapshot)?;
    let tenant = catalog.tenants.get(&id).ok_or_else(unknown)?;
    let detector = catalog.visible_one(tenant, &name).ok_or_else(unknown)?;
    Ok((CredentialPlace::of(Some(&id), detector), detector))
}

/// A detector that a file defines is the operator's.
fn may_write(caller: &Caller, detector: &Detector) -> Result<(), Error> {
    if detector.private_to.is_some() || caller.is_super_admin() {
        return Ok(());
    }
    let message = "a file defines this detector; only a super_admin stores its credentials";
    Err(Error::new(Code::AlreadyExists, message))
}

fn reason(reason: Option<String>) -> Result<String, Error> {
    let reason = reason.unwrap_or_default();
    if reason.trim().is_empty() || reason.chars().count() > 500 {
        let detail = "say why in 1 to 500 characters";
        return Err(Error::field(Code::InvalidRequest, "/reason", "out_of_range", detail));
    }
    Ok(reason)
}

/// Whether the parts make a credential that calls to `detector` can carry.
fn check(api: &Api, detector: &Detector, parts: &CredentialParts) -> Result<(), Error> {
    let refused = |part: &str, code, detail: &str| {
        Err(Error::field(Code::InvalidRequest, &format!("/{part}"), code, detail))
    };
    let auth = match parts.auth(api.deps.settings.env) {
        Ok(auth) => auth,
        Err(PartFault { part, why }) => return refused(part, "bad_value", why),
    };
    if parts.kind != "none" && detector.endpoint.is_none() {
        return refused("type", "not_allowed", "a built-in detector is called without a network");
    }
    if parts.kind != "none" && matches!(detector.auth, Auth::Aws(_)) {
        return refused(
            "type",
            "not_allowed",
            "calls to this detector are signed by its file's keys",
        );
    }
    if auth.header().is_some() && auth.header() == detector.delegation.as_deref() {
        let detail = "the delegation token fills the same header; change `delegation` in the file";
        return refused("type", "not_allowed", detail);
    }
    match &auth {
        Auth::Oauth2(client) => api.deps.detectors.may_reach(&client.token_url).map_err(|why| {
            let detail = format!("{why}");
            Error::field(Code::EndpointForbidden, "/token_url", "endpoint_forbidden", detail)
        }),
        Auth::None | Auth::Header { .. } | Auth::Aws(_) => Ok(()),
    }
}
