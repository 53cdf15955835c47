//! One policy of the caller's tenant, and the way every change of its overlay takes.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, Data};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, HttpResponseBuilder};

use super::super::Answer;
use super::overlay::PolicyDetail;
use super::review::Pending;
use super::{content, precondition, view};
use crate::api::Api;
use crate::api::caller::tenant;
use crate::api::edge::CurrentTag;
use crate::api::wire::case;
use crate::auth::Caller;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::id::{BundleName, TenantId};
use crate::orchestrator::Deps;
use crate::orchestrator::cases::Stage;
use crate::snapshot::{Change, ChangeError, Changed, Gate, Overlay, OverlayContent, Snapshot};
use crate::store::{AuditEntry, Expected, StoreError};
use crate::yaml::fault::Fault;

/// How long a change waits for its turn to be checked.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a request is about.
pub(super) struct Target {
    pub(super) caller: Caller,
    /// What served when the request came.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) tenant: TenantId,
    pub(super) bundle: BundleName,
    /// What waits for a review, where somebody looked.
    pub(super) pending: Option<Pending>,
}

/// What a request wants to be there.
pub(super) struct Wanted {
    /// For the audit.
    pub(super) act: &'static str,
    /// `None` deletes.
    pub(super) content: Option<OverlayContent>,
    pub(super) expected: Expected,
    pub(super) reason: Option<String>,
}

impl Target {
    /// The policy `bundle`, which the caller's tenant uses or once stored an overlay for.
    pub(super) fn of(http: &HttpRequest, api: &Api, bundle: &str) -> Result<Target, Error> {
        let caller = api.caller(http)?;
        let snapshot = api.live.current();
        let tenant = tenant(http, &caller, None, &snapshot)?;
        let known = |bundle: &BundleName| {
            let policies = snapshot.catalog.tenants.get(&tenant).map(|tenant| &tenant.policies);
            policies.is_some_and(|policies| policies.contains(bundle))
                || snapshot.overlay(&tenant, bundle).is_some()
        };
        let bundle = BundleName::parse(bundle).ok().filter(known).ok_or_else(|| {
            Error::new(Code::NotFound, "the tenant uses no policy of that name; see GET /policies")
        })?;
        Ok(Target { caller, snapshot, tenant, bundle, pending: None })
    }

    /// What the store held when the request came.
    pub(super) fn overlay(&self) -> Option<&Overlay> {
        self.snapshot.overlay(&self.tenant, &self.bundle).map(AsRef::as_ref)
    }

    /// What the caller believes to be there.
    pub(super) fn expected(&self, http: &HttpRequest) -> Result<Expected, Error> {
        remember(http, self.overlay());
        let there = self.overlay().map(|overlay| (overlay.etag.as_str(), overlay.version));
        precondition::expected(http.headers(), there)
    }

    /// That no file defines the overlay.
    pub(super) fn is_open(&self) -> Result<(), Error> {
        match self.snapshot.file_defines(&self.tenant, &self.bundle) {
            true => Err(defined()),
            false => Ok(()),
        }
    }

    /// The policy in `snapshot`, with its `ETag` and revision.
    pub(super) fn shown(&self, snapshot: &Snapshot, answer: HttpResponseBuilder) -> Answer {
        self.told(snapshot, Vec::new(), answer)
    }

    /// The same after a change, with its doubts.
    pub(super) fn changed(&self, changed: Changed, answer: HttpResponseBuilder) -> Answer {
        self.told(&changed.snapshot, changed.doubts, answer)
    }

    pub(super) fn told(
        &self,
        snapshot: &Snapshot,
        doubts: Vec<Fault>,
        mut answer: HttpResponseBuilder,
    ) -> Answer {
        let tenant = snapshot.catalog.tenants.get(&self.tenant);
        let view = tenant.and_then(|tenant| view(snapshot, tenant, &self.bundle));
        let overlay = snapshot.overlay(&self.tenant, &self.bundle);
        if let Some(overlay) = overlay {
            answer.insert_header(("etag", format!("\"{}\"", overlay.etag)));
        }
        answer.insert_header(("x-policy-revision", snapshot.revision.as_str()));
        let shadowed = snapshot.file_defines(&self.tenant, &self.bundle);
        let detail = PolicyDetail::of(
            &self.bundle,
            view,
            overlay.map(|overlay| (overlay.as_ref(), shadowed)),
            (snapshot, doubts),
        );
        Ok(answer.json(PolicyDetail { pending: self.pending.clone(), ..detail }))
    }

    /// Checks, stores, audits and serves it, or does nothing.
    pub(super) async fn change(
        &self,
        http: &HttpRequest,
        api: &Data<Api>,
        wanted: Wanted,
    ) -> Result<Changed, Error> {
        let change = self.planned(&wanted)?;
        self.checked(http, api, wanted.content, move |own, gate| {
            let changed = own.live.change(change, &own.deps.settings, gate)?;
            let snapshot = &changed.snapshot;
            own.deps.metrics.snapshot(&snapshot.revision, snapshot.broken.len());
            Ok(changed)
        })
        .await
    }

    /// Checks it in the same way and does nothing; its doubts.
    pub(super) async fn rehearse(
        &self,
        http: &HttpRequest,
        api: &Data<Api>,
        wanted: Wanted,
    ) -> Result<Vec<Fault>, Error> {
        let change = self.planned(&wanted)?;
        self.checked(http, api, wanted.content, move |own, gate| {
            own.live.rehearse(&change, &own.deps.settings, gate)
        })
        .await
    }

    /// What would serve were `content` stored; nothing is.
    pub(super) async fn imagine(
        &self,
        http: &HttpRequest,
        api: &Data<Api>,
        content: OverlayContent,
    ) -> Result<Snapshot, Error> {
        let content = Some(content);
        let wanted = Wanted { act: "try", content, expected: Expected::Any, reason: None };
        let change = self.planned(&wanted)?;
        self.checked(http, api, wanted.content, move |own, _| {
            own.live.imagine(&change, &own.deps.settings)
        })
        .await
    }

    /// Does `work` off the server's workers when it is the tenant's turn.
    async fn checked<T: Send + 'static>(
        &self,
        http: &HttpRequest,
        api: &Data<Api>,
        content: Option<OverlayContent>,
        work: impl FnOnce(&Api, Gate<'_>) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<T, Error> {
        let room = api.checks.take(&self.tenant, PATIENCE).await.ok_or_else(|| {
            Error::new(Code::Overloaded, "too many policies are being checked; send it again later")
        })?;
        let own = api.clone();
        let done = web::block(move || {
            let _room = room;
            work(&own, &|draft: &Snapshot, overlay: &Overlay| hold_cases(&own, draft, overlay))
        });
        let done = done.await.map_err(|error| {
            Error::new(Code::InternalError, "the change failed").caused_by(error)
        })?;
        done.map_err(|error| {
            let now = api.live.current();
            remember(http, now.overlay(&self.tenant, &self.bundle).map(AsRef::as_ref));
            self.refusal(error, content)
        })
    }

    fn planned(&self, wanted: &Wanted) -> Result<Change, Error> {
        let reason = wanted.reason.clone().unwrap_or_default();
        if reason.chars().count() > 500 {
            let detail = "say why in at most 500 characters";
            return Err(Error::field(Code::InvalidRequest, "/reason", "out_of_range", detail));
        }
        let body = wanted.content.as_ref().map(serde_json::to_string).transpose();
        let body = body.map_err(|error| {
            Error::new(Code::InternalError, "the overlay could not be written").caused_by(error)
        })?;
        let digest = |digest: Digest| serde_json::json!({ "digest": digest.hex() }).to_string();
        let audit = AuditEntry {
            tenant: Some(self.tenant.clone()),
            at_ms: jiff::Timestamp::now().as_millisecond(),
            actor: self.caller.actor.clone(),
            action: format!("policy.{}", wanted.act),
            target: format!("policy/{}", self.bundle),
            reason,
            before: self.overlay().map(|overlay| digest(overlay.digest)),
            after: body.as_ref().map(|body| digest(Digest::of(body.as_bytes()))),
        };
        let (tenant, bundle) = (self.tenant.clone(), self.bundle.clone());
        Ok(Change { tenant, bundle, body, expected: wanted.expected, audit })
    }

    fn refusal(&self, error: ChangeError, content: Option<OverlayContent>) -> Error {
        match error {
            ChangeError::Invalid(faults) => {
                let folder = format!("tenants/{}/{}/", self.tenant, self.bundle);
                content::refused(faults, &folder, &content.unwrap_or_default())
            }
            ChangeError::Defined => defined(),
            // Said of rows only.
            ChangeError::Full { .. } => {
                Error::new(Code::InternalError, "the change failed").caused_by(error)
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
}

/// A fault for each of the overlay's cases that does not hold in `draft`. They are run with a store
/// and counters of their own, so that nothing of them is recorded. Blocks.
fn hold_cases(api: &Api, draft: &Snapshot, overlay: &Overlay) -> Vec<Fault> {
    if overlay.content.cases.is_empty() {
        return Vec::new();
    }
    let deps = match Deps::without_store(Arc::clone(&api.deps.settings)) {
        Ok(deps) => deps,
        Err(error) => {
            tracing::error!(%error, "the cases of an overlay could not be run");
            return vec![content::unable(&overlay.folder())];
        }
    };
    deps.detectors.retain(&draft.catalog);
    let stage = Stage { deps: &deps, snapshot: draft, read: case::read };
    tokio::runtime::Handle::current().block_on(stage.failures(overlay))
}

/// What a refusal by precondition tells the caller to hold its next attempt against.
fn remember(http: &HttpRequest, overlay: Option<&Overlay>) {
    if let Some(overlay) = overlay {
        http.extensions_mut().insert(CurrentTag(overlay.etag.clone()));
    }
}

fn defined() -> Error {
    let message = "a file defines this overlay; change the file, or have the operator remove it";
    Error::new(Code::AlreadyExists, message)
}

/// 201 for what is new, 200 for what was there.
pub(super) fn created(expected: Expected) -> HttpResponseBuilder {
    match expected {
        Expected::Absent => HttpResponse::Created(),
        Expected::Any | Expected::Version(_) => HttpResponse::Ok(),
    }
}
