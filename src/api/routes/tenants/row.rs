//! One tenant, and the way every change of what the store holds of it takes.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, Data};
use actix_web::{HttpMessage as _, HttpRequest};

use super::super::policies::content::pointers;
use super::super::policies::precondition;
use crate::api::Api;
use crate::api::edge::CurrentTag;
use crate::auth::Caller;
use crate::domain::error::{Code, Error};
use crate::domain::id::TenantId;
use crate::snapshot::{ChangeError, Row, RowChange, RowKind, RowPlace, Snapshot};
use crate::store::{AuditEntry, Expected, StoreError};
use crate::yaml::fault::Fault;

/// How long a change waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a request is about.
pub(in crate::api::routes) struct Target {
    pub(in crate::api::routes) caller: Caller,
    /// What served when the request came.
    pub(in crate::api::routes) snapshot: Arc<Snapshot>,
    pub(in crate::api::routes) id: TenantId,
}

/// What a request wants to be there.
pub(in crate::api::routes) struct Wanted {
    pub(in crate::api::routes) kind: RowKind,
    /// For the audit, such as `tenant.put`.
    pub(in crate::api::routes) act: &'static str,
    /// JSON; `None` deletes.
    pub(in crate::api::routes) body: Option<String>,
    pub(in crate::api::routes) expected: Expected,
    pub(in crate::api::routes) reason: String,
}

impl Target {
    /// The tenant `id`, whether it exists or not; another's than the caller's never does.
    pub(in crate::api::routes) fn of(
        http: &HttpRequest,
        api: &Api,
        id: &str,
    ) -> Result<Target, Error> {
        let caller = api.caller(http)?;
        let own = |id: &TenantId| caller.tenant.as_ref().is_none_or(|own| own == id);
        let id = TenantId::parse(id).ok().filter(own).ok_or_else(unknown)?;
        Ok(Target { caller, snapshot: api.live.current(), id })
    }

    /// The same, where it exists in a file or in the store.
    pub(in crate::api::routes) fn known(
        http: &HttpRequest,
        api: &Api,
        id: &str,
    ) -> Result<Target, Error> {
        let target = Self::of(http, api, id)?;
        let known = target.snapshot.catalog.tenants.contains_key(&target.id)
            || target.row(RowKind::Tenant).is_some();
        if known { Ok(target) } else { Err(unknown()) }
    }

    pub(in crate::api::routes) fn row(&self, kind: RowKind) -> Option<&Row> {
        self.snapshot.row(&RowPlace::of_tenant(kind, &self.id)).map(AsRef::as_ref)
    }

    /// What the caller believes to be there.
    pub(in crate::api::routes) fn expected(
        &self,
        http: &HttpRequest,
        kind: RowKind,
    ) -> Result<Expected, Error> {
        expected(http, self.row(kind))
    }

    /// Checks, stores, audits and serves it, or does nothing.
    pub(in crate::api::routes) async fn change(
        &self,
        http: &HttpRequest,
        api: &Data<Api>,
        wanted: Wanted,
    ) -> Result<Arc<Snapshot>, Error> {
        let change = self.planned(wanted)?;
        store(http, api, change, &Wording { root: "/tenant", defined }).await
    }

    fn planned(&self, wanted: Wanted) -> Result<RowChange, Error> {
        let Wanted { kind, act, body, expected, reason } = wanted;
        check_reason(&reason)?;
        let audit = AuditEntry {
            tenant: Some(self.id.clone()),
            at_ms: jiff::Timestamp::now().as_millisecond(),
            actor: self.caller.actor.clone(),
            action: act.to_owned(),
            target: format!("tenant/{}", self.id),
            reason,
            before: self.row(kind).map(|row| row.body.clone()),
            after: body.clone(),
        };
        let place = RowPlace::of_tenant(kind, &self.id);
        Ok(RowChange { place, body, expected, audit })
    }
}

/// How a refused change is told.
pub(in crate::api::routes) struct Wording {
    /// Where the document stands in the request.
    pub(in crate::api::routes) root: &'static str,
    /// What a name that a file defines is told.
    pub(in crate::api::routes) defined: fn() -> Error,
}

/// Checks, stores, audits and serves `change`, or does nothing.
pub(in crate::api::routes) async fn store(
    http: &HttpRequest,
    api: &Data<Api>,
    change: RowChange,
    wording: &Wording,
) -> Result<Arc<Snapshot>, Error> {
    let place = change.place.clone();
    // What is everyone's waits its turn with `default`.
    let whose = place.tenant.clone().or_else(|| TenantId::parse("default").ok());
    let room = match &whose {
        Some(whose) => api.checks.take(whose, PATIENCE).await,
        None => None,
    };
    let room = room.ok_or_else(|| {
        Error::new(Code::Overloaded, "too much is being changed; send it again later")
    })?;
    let own = api.clone();
    let changed = web::block(move || {
        let _room = room;
        let snapshot = own.live.change_row(change, &own.deps.settings)?;
        own.deps.serve(&snapshot);
        Ok(snapshot)
    });
    let changed = changed
        .await
        .map_err(|error| Error::new(Code::InternalError, "the change failed").caused_by(error))?;
    changed.map_err(|error| {
        remember(http, api.live.current().row(&place).map(AsRef::as_ref));
        refusal(error, wording)
    })
}

/// That a reason says something.
pub(in crate::api::routes) fn check_reason(reason: &str) -> Result<(), Error> {
    if reason.trim().is_empty() || reason.chars().count() > 500 {
        let detail = "say why in 1 to 500 characters";
        return Err(Error::field(Code::InvalidRequest, "/reason", "out_of_range", detail));
    }
    Ok(())
}

/// What the caller believes of `row`.
pub(in crate::api::routes) fn expected(
    http: &HttpRequest,
    row: Option<&Row>,
) -> Result<Expected, Error> {
    remember(http, row);
    precondition::expected(http.headers(), row.map(|row| (row.etag.as_str(), row.version)))
}

fn remember(http: &HttpRequest, row: Option<&Row>) {
    if let Some(row) = row {
        http.extensions_mut().insert(CurrentTag(row.etag.clone()));
    }
}

pub(in crate::api::routes) fn unknown() -> Error {
    Error::new(Code::NotFound, "there is no such tenant, or it is not yours")
}

pub(in crate::api::routes) fn defined() -> Error {
    let message = "a file defines this tenant; change the file, or have the operator remove it";
    Error::new(Code::AlreadyExists, message)
}

fn refusal(error: ChangeError, wording: &Wording) -> Error {
    match error {
        ChangeError::Invalid(faults) => invalid(faults, wording.root),
        ChangeError::Defined => (wording.defined)(),
        ChangeError::Full { most } => {
            let message = format!("the tenant has {most} detectors, as many as it may; delete one");
            Error::new(Code::QuotaExceeded, message).lasting()
        }
        ChangeError::Store(StoreError::Conflict { .. }) => {
            precondition::failed("somebody else changed it meanwhile; read it again")
        }
        ChangeError::Store(error) => {
            let message = "the store does not answer; read it before you send it again";
            Error::new(error.code(), message).caused_by(error)
        }
    }
}

/// The refusal of a document; its faults point to lines, which `pointed` turns into pointers.
fn invalid(faults: Vec<Fault>, root: &str) -> Error {
    use crate::domain::error::{FieldFault, Place};
    let details: Vec<FieldFault> = faults
        .into_iter()
        .map(|fault| {
            let Fault { file, line, column, hint, .. } = fault;
            let place = Some(Place { file, line, column, hint });
            let pointer = root.to_owned();
            FieldFault { pointer, detail: fault.message, code: fault.code, place }
        })
        .collect();
    let message = details.first().map_or("what was sent is not valid", |first| &first.detail);
    let forbidden = |detail: &FieldFault| detail.code == "endpoint_forbidden";
    let code = match !details.is_empty() && details.iter().all(forbidden) {
        true => Code::EndpointForbidden,
        false => Code::InvalidRequest,
    };
    let message = message.to_owned();
    Error { details, ..Error::new(code, message) }
}

/// Lines of the document's text as pointers into the request.
pub(in crate::api::routes) fn pointed(
    mut error: Error,
    document: &serde_json::Value,
    root: &str,
) -> Error {
    let mut lines = vec![root.to_owned()];
    pointers(document, root, &mut lines);
    for detail in &mut error.details {
        let line = detail.place.as_ref().map_or(0, |place| place.line);
        let at = usize::try_from(line).ok().and_then(|line| line.checked_sub(1));
        if let Some(pointer) = at.and_then(|at| lines.get(at)) {
            detail.pointer.clone_from(pointer);
            let hint = detail.place.take().and_then(|place| place.hint);
            detail.detail.extend(hint.map(|hint| format!(": {hint}")));
        }
    }
    if let Some(first) = error.details.first() {
        error.message.clone_from(&first.detail);
    }
    error
}
