//! Changes of overlays that wait until another person has looked at them (`policy.require_review`).
//!
//! One change waits per tenant and policy; a newer one takes its place. A review names the digest of
//! what was read, so that nobody approves what was exchanged meanwhile.

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::Answer;
use super::check::{CaseFile, Module};
use super::overlay::{cases, modules, time};
use super::precondition;
use super::target::{Target, Wanted};
use crate::api::caller::{NoQuery, query};
use crate::api::{Api, body};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::EventType;
use crate::snapshot::{self, OverlayContent};
use crate::store::{AuditEntry, Expected, Object, ObjectKey, Page, StoreError};

/// What waiting changes are called in the store.
const KIND: &str = "proposal";

/// A change that waits, as it is stored.
#[derive(Serialize, Deserialize)]
struct Proposal {
    act: String,
    author: String,
    reason: String,
    /// The newest version when it was proposed, deletions included; it would be the next.
    base: u64,
    /// The version that it changes; 0 where there was none.
    changes: u64,
    /// `None` deletes.
    content: Option<OverlayContent>,
}

/// A change that waits for a review.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Pending {
    /// The version it would become.
    pub version: u64,
    /// put, delete or rollback.
    pub act: String,
    /// Who proposed it; somebody else must review it.
    pub author: String,
    /// RFC 3339 UTC with milliseconds.
    pub proposed_at: String,
    /// What a review must name: SHA-256 of what is proposed.
    pub digest: String,
    /// Why, in the author's words.
    pub reason: String,
    /// Its Rego files.
    pub modules: Vec<Module>,
    /// Its `*_cases.yaml`.
    pub cases: Vec<CaseFile>,
    /// Its table.
    #[schema(value_type = Option<Object>)]
    pub data: Option<serde_json::Value>,
}

/// A review.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// approve or reject.
    pub decision: Decision,
    /// The digest of what was reviewed.
    pub digest: String,
    /// For the audit, 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

/// What a review says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It serves at once.
    Approve,
    /// It is forgotten.
    Reject,
}

/// Checks a change as if it were to serve, and keeps it until it is reviewed.
pub(super) async fn propose(
    mut target: Target,
    http: &HttpRequest,
    api: &Data<Api>,
    wanted: Wanted,
) -> Answer {
    let (act, content, expected) = (wanted.act, wanted.content.clone(), wanted.expected);
    let reason = wanted.reason.clone().unwrap_or_default();
    let doubts = target.rehearse(http, api, wanted).await?;
    let proposal = Proposal {
        act: act.to_owned(),
        author: target.caller.actor.clone(),
        reason,
        base: newest(&target, api).await?,
        changes: match expected {
            Expected::Version(version) => version,
            Expected::Absent | Expected::Any => 0,
        },
        content,
    };
    let entry = entry(&target, "policy.propose", &proposal, proposal.reason.clone());
    let body = serde_json::to_string(&proposal).map_err(unwritten)?;
    let store = &api.deps.store;
    let object = store.change(key(&target), Some(body), Expected::Any, entry).await;
    let pending = shown(&object.map_err(unavailable)?, &proposal);
    tell(&target, api, &pending);
    target.pending = Some(pending);
    let snapshot = std::sync::Arc::clone(&target.snapshot);
    target.told(&snapshot, doubts, HttpResponse::Accepted())
}

/// Whoever listens may look at it.
fn tell(target: &Target, api: &Api, pending: &Pending) {
    let data = serde_json::json!({
        "policy": target.bundle.as_str(), "version": pending.version, "act": pending.act,
        "author": pending.author, "digest": pending.digest,
    });
    let of = (Some(target.tenant.clone()), format!("policy/{}", target.bundle));
    api.deps.announcer.tell(EventType::ArchitectureReviewRequested, of.0, of.1, data);
}

/// What waits for a review, as the API shows it.
pub(super) async fn pending(target: &Target, api: &Api) -> Result<Option<Pending>, Error> {
    let waiting = waiting(target, api).await?;
    Ok(waiting.map(|(object, proposal)| shown(&object, &proposal)))
}

/// Reviews the change that would become this version. Nobody reviews what is their own.
#[utoipa::path(post, path = "/api/v1/policies/{bundle}/versions/{version}/review",
    tag = "policies", operation_id = "policies_review",
    params(("bundle" = String, Path, description = "A policy's name"),
        ("version" = u64, Path, description = "The version it would become")),
    request_body = Review,
    responses((status = 200, description = "Approved: it serves; rejected: it is forgotten",
         body = super::overlay::PolicyDetail),
        (status = "4XX", body = crate::api::problem::Problem,
         content_type = "application/problem+json")))]
pub(crate) async fn review(
    http: HttpRequest,
    path: Path<(String, String)>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let (bundle, version) = path.into_inner();
    let target = Target::of(&http, &api, &bundle)?;
    let review: Review = body::json(&http, payload, api.body_limits()).await?;
    if review.reason.trim().is_empty() || review.reason.chars().count() > 500 {
        let detail = "say why in 1 to 500 characters";
        let error = Error::field(Code::InvalidRequest, "/reason", "out_of_range", detail);
        return Err(error.into());
    }
    let waiting = waiting(&target, &api).await?;
    let named = waiting.filter(|(_, proposal)| version.parse() == Ok(proposal.base + 1));
    let Some((object, proposal)) = named else {
        let message = "this version does not wait for a review; GET the policy shows what does";
        return Err(Error::new(Code::InvalidStateTransition, message).into());
    };
    let keys = api.gate.keys();
    if !keys.may_review(&target.caller, &proposal.author, object.at_ms).await? {
        let message = "nobody reviews a change of their own; ask another person";
        return Err(Error::new(Code::InsufficientScope, message).into());
    }
    if digest(&proposal) != review.digest {
        let message = "something else waits by now; read it, and name its digest";
        return Err(precondition::failed(message).into());
    }
    let store = &api.deps.store;
    let seen = Expected::Version(object.version);
    if review.decision == Decision::Reject {
        let entry = entry(&target, "policy.reject", &proposal, review.reason);
        store.change(key(&target), None, seen, entry).await.map_err(unavailable)?;
        return target.shown(&target.snapshot, HttpResponse::Ok());
    }
    let expected = match proposal.changes {
        0 => Expected::Absent,
        version => Expected::Version(version),
    };
    let (content, reason) = (proposal.content, Some(review.reason));
    let wanted = Wanted { act: "approve", content, expected, reason };
    let changed = target.change(&http, &api, wanted).await?;
    // What is left over waits no longer: a newer version is there.
    if let Err(error) = store.delete(key(&target), seen).await {
        tracing::warn!(%error, "an approved change could not be taken from those that wait");
    }
    target.changed(changed, HttpResponse::Ok())
}

fn key(target: &Target) -> ObjectKey {
    ObjectKey { kind: KIND.into(), ..snapshot::key(&target.tenant, &target.bundle) }
}

/// The change that waits; one that others overtook does not.
async fn waiting(target: &Target, api: &Api) -> Result<Option<(Object, Proposal)>, Error> {
    let found = api.deps.store.object(key(target)).await.map_err(unavailable)?;
    let Some(object) = found else { return Ok(None) };
    let body = object.body.as_deref().unwrap_or_default();
    let proposal: Proposal = serde_json::from_str(body).map_err(|error| {
        Error::new(Code::InternalError, "what waits could not be read").caused_by(error)
    })?;
    let newest = newest(target, api).await?;
    Ok((proposal.base == newest).then_some((object, proposal)))
}

async fn newest(target: &Target, api: &Api) -> Result<u64, Error> {
    let key = snapshot::key(&target.tenant, &target.bundle);
    let newest = api.deps.store.versions(key, Page { limit: 1, before: None }).await;
    Ok(newest.map_err(unavailable)?.first().map_or(0, |version| version.version))
}

fn digest(proposal: &Proposal) -> String {
    let body = proposal.content.as_ref().map(serde_json::to_string);
    Digest::of(body.and_then(Result::ok).unwrap_or_default().as_bytes()).hex()
}

fn shown(object: &Object, proposal: &Proposal) -> Pending {
    let content = proposal.content.clone().unwrap_or_default();
    Pending {
        version: proposal.base + 1,
        act: proposal.act.clone(),
        author: proposal.author.clone(),
        proposed_at: time(object.at_ms),
        digest: digest(proposal),
        reason: proposal.reason.clone(),
        modules: modules(&content),
        cases: cases(&content),
        data: content.data,
    }
}

fn entry(target: &Target, action: &str, proposal: &Proposal, reason: String) -> AuditEntry {
    let after = serde_json::json!({
        "digest": digest(proposal),
        "version": proposal.base + 1,
        "act": proposal.act,
        "author": proposal.author,
    });
    AuditEntry {
        tenant: Some(target.tenant.clone()),
        at_ms: jiff::Timestamp::now().as_millisecond(),
        actor: target.caller.actor.clone(),
        action: action.to_owned(),
        target: format!("policy/{}", target.bundle),
        reason,
        before: None,
        after: Some(after.to_string()),
    }
}

fn unwritten(error: serde_json::Error) -> Error {
    Error::new(Code::InternalError, "the change could not be written").caused_by(error)
}

fn unavailable(error: StoreError) -> Error {
    if matches!(error, StoreError::Conflict { .. }) {
        return precondition::failed("somebody else changed it meanwhile; read it again");
    }
    Error::new(error.code(), "the store does not answer").caused_by(error)
}
