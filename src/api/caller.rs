//! Who asks, and for which tenant.

use actix_web::{HttpMessage as _, HttpRequest};
use serde::de::DeserializeOwned;

use super::Api;
use super::body::BodyLimits;
use crate::auth::Caller;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::snapshot::Snapshot;

impl Api {
    /// The caller of `request`, whom the guard let in.
    pub(super) fn caller(&self, request: &HttpRequest) -> Result<Caller, Error> {
        let caller = request.extensions().get::<Caller>().cloned();
        caller.ok_or_else(|| Error::new(Code::Unauthorized, "this route lets nobody in"))
    }

    /// Whether `caller` sees everyone's detector of a name: all do across tenants.
    pub(super) fn sees(&self, caller: &Caller) -> impl Fn(&str) -> bool + use<> {
        let current = self.live.current();
        let seen = caller.tenant.as_ref().map(|tenant| current.seen.get(tenant).cloned());
        move |name| {
            seen.as_ref().is_none_or(|seen| {
                let own = seen.as_ref().and_then(|seen| seen.detectors.get(name));
                own.is_some_and(|detector| detector.private_to.is_none())
            })
        }
    }

    /// Limits of bodies.
    pub(super) fn body_limits(&self) -> BodyLimits {
        BodyLimits::of(&self.deps.settings.server.limits)
    }
}

/// The tenant that `caller` acts for: the body's, the header's, else its own, else `default`.
/// All that are given must agree, and the tenant must exist.
pub(super) fn tenant(
    request: &HttpRequest,
    caller: &Caller,
    body: Option<&str>,
    snapshot: &Snapshot,
) -> Result<TenantId, Error> {
    let header = match request.headers().get("x-tenant-id") {
        None => None,
        Some(value) => Some(value.to_str().map_err(|_| mismatch())?),
    };
    let own = caller.tenant.as_ref().map(TenantId::as_str);
    let mut chosen: Option<&str> = None;
    for given in [own, body, header].into_iter().flatten() {
        if chosen.is_some_and(|chosen| chosen != given) {
            return Err(mismatch());
        }
        chosen = Some(given);
    }
    let id = TenantId::parse(chosen.unwrap_or("default")).map_err(|_| mismatch())?;
    if snapshot.catalog.tenants.contains_key(&id) { Ok(id) } else { Err(mismatch()) }
}

/// What a tenant that is unknown, or not the caller's, is answered.
pub(super) fn mismatch() -> Error {
    let message = "the tenant is unknown or not the credential's";
    Error::field(Code::TenantMismatch, "/tenant_id", "tenant_mismatch", message)
}

/// The query as `T`; unknown parameters are refused.
pub(super) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Error> {
    actix_web::web::Query::<T>::from_query(request.query_string())
        .map(actix_web::web::Query::into_inner)
        .map_err(|error| {
            let message = format!("the query is not valid: {error}");
            Error::new(Code::InvalidRequest, message)
        })
}

/// A query without parameters.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}
