//! The evidence of decisions: what was recorded, what proves it, and who had it in hands.

use std::time::Instant;

use actix_web::web::{self, Data, Path, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::pages::{self, Pages};
use super::policies::overlay::time;
use super::{Answer, at, json, resource};
use crate::api::caller::{NoQuery, query, tenant};
use crate::api::edge::request_id;
use crate::api::strict::Value;
use crate::api::{Api, body};
use crate::auth::Caller;
use crate::domain::custody::{ActorType, CustodyAct, CustodyAction, CustodyEntry};
use crate::domain::error::{Code, Error};
use crate::domain::event::EventType;
use crate::domain::log::Leaf;
use crate::evidence::integrity::{self, Check, Integrity, Opened};
use crate::evidence::packing::Packing;
use crate::evidence::{custody, package as packages, proof, purged};
use crate::seal::Salt;
use crate::store::{Decision, Numbered, StoreError};

pub(crate) mod hold;
pub(crate) mod published;
pub(crate) mod search;

use hold::LegalHold;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(resource(&at("/evidence")).route(web::get().to(search::list)));
    config.service(resource(&at("/evidence/revisions")).route(web::get().to(search::revisions)));
    config.service(resource(&at("/evidence/keys")).route(web::get().to(published::keys)));
    config.service(resource(&at("/evidence/{id}")).route(web::get().to(one)));
    config.service(resource(&at("/evidence/{id}/chain")).route(web::get().to(chain)));
    config.service(resource(&at("/evidence/{id}/proof")).route(web::get().to(prove)));
    config.service(resource(&at("/evidence/{id}/package")).route(web::get().to(package)));
    config.service(resource(&at("/evidence/{id}/verify")).route(web::post().to(verify)));
    hold::configure(config);
}

/// The decision that a request is about.
struct Subject {
    caller: Caller,
    decision: Decision,
}

impl Subject {
    /// The decision `id` of the caller's tenant, or of the one that it names; another's is unknown.
    async fn of(http: &HttpRequest, api: &Api, id: &str) -> Result<Subject, Error> {
        let caller = api.caller(http)?;
        let tenant = tenant(http, &caller, None, &api.live.current())?;
        let unknown =
            || Error::new(Code::NotFound, "there is no such decision, or it is not yours");
        let id = uuid::Uuid::try_parse(id).map_err(|_| unknown())?.to_string();
        let found = api.deps.store.decision(tenant, id).await.map_err(away)?;
        let decision = found.filter(integrity::is_of_its_tenant).ok_or_else(unknown)?;
        Ok(Subject { caller, decision })
    }

    /// Puts on record that the caller does `action`: without a durable entry nothing is done.
    async fn track(
        &self,
        (http, api): (&HttpRequest, &Api),
        action: CustodyAction,
        verdict: Option<bool>,
    ) -> Result<(), Error> {
        let mut details = json!({ "request_id": request_id(http).as_str() });
        if let (Some(verdict), Some(details)) = (verdict, details.as_object_mut()) {
            details.insert("overall_valid".into(), verdict.into());
        }
        let act = CustodyAct {
            at_ms: jiff::Timestamp::now().as_millisecond(),
            action,
            actor: self.caller.actor.clone(),
            actor_type: match self.caller.key_prefix {
                Some(_) => ActorType::Api,
                None => ActorType::User,
            },
            details: details.to_string(),
        };
        let added = api.deps.custodian.add(&*api.deps.store, &self.decision, act).await;
        if added.is_ok() {
            self.tell(api, action);
        }
        added.map(drop).map_err(|error| {
            let message = "the custody of this evidence cannot be kept, so it is not shown; send \
                           it again later";
            Error::new(Code::AuditUnavailable, message).caused_by(error)
        })
    }
}

impl Subject {
    /// To verify evidence, or to give it away, is the beginning of an examination.
    fn tell(&self, api: &Api, action: CustodyAction) {
        if !matches!(action, CustodyAction::Verified | CustodyAction::Exported) {
            return;
        }
        let (decision, actor) = (&self.decision, &self.caller.actor);
        let data = json!({ "action": action.name(), "actor": actor });
        let of = (Some(decision.tenant.clone()), format!("evidence/{}", decision.id));
        api.deps.announcer.tell(EventType::ForensicAnalysisTriggered, of.0, of.1, data);
    }
}

fn away(error: StoreError) -> Error {
    Error::new(error.code(), "the store does not answer; send it again later").caused_by(error)
}

/// A decision as it was recorded.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Evidence)]
pub struct EvidenceView {
    /// The decision's id.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// The caller's id of the request.
    pub request_id: String,
    /// RFC 3339 UTC with milliseconds.
    pub at: String,
    /// The bundle that decided.
    pub policy: String,
    /// The revision that decided.
    pub revision: String,
    /// What was decided.
    pub action: &'static str,
    /// Whether coverage sufficed.
    pub complete: bool,
    /// All that was recorded, without content; null once it is purged, or where somebody emptied it.
    /// The bytes in the log are its form by RFC 8785.
    #[schema(value_type = Option<Object>)]
    pub record: Option<serde_json::Value>,
    /// Whether the record is over its tenant's retention and was taken away, which is proven by its
    /// custody.
    pub purged: bool,
    /// Where it stands in the log; null where an earlier release recorded it.
    pub leaf: Option<LeafView>,
    /// What keeps it from being purged.
    pub legal_hold: Option<LegalHold>,
}

/// A place in a log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Leaf)]
pub struct LeafView {
    /// Which log: the SHA-256 of its public key.
    pub log_id: String,
    /// From 0.
    pub leaf_index: u64,
    /// SHA-256(0x00 ‖ record), 64 hexadecimal digits.
    pub leaf_hash: String,
}

impl LeafView {
    fn of(leaf: &Leaf) -> LeafView {
        let Leaf { log, index, hash } = leaf;
        LeafView { log_id: log.as_str().into(), leaf_index: *index, leaf_hash: hash.hex() }
    }
}

/// A decision as it was recorded. That it was read stands in its custody before it is shown.
#[utoipa::path(get, path = "/api/v1/evidence/{id}", tag = "evidence",
    operation_id = "evidence_one",
    params(("id" = String, Path, description = "A decision's id"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = EvidenceView)))]
pub(crate) async fn one(http: HttpRequest, id: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let subject = Subject::of(&http, &api, &id).await?;
    let of = custody::subject(&subject.decision);
    let hold = api.deps.store.hold_of(of).await.map_err(away)?;
    let purged = purged::is_purged(&*api.deps.store, &subject.decision, &api.deps.custodian)
        .await
        .map_err(away)?;
    subject.track((&http, &api), CustodyAction::Accessed, None).await?;
    let Decision { id, tenant, request_id, at_ms, policy, revision, action, .. } =
        &subject.decision;
    json(&EvidenceView {
        id: id.clone(),
        tenant: tenant.to_string(),
        request_id: request_id.to_string(),
        at: time(*at_ms),
        policy: policy.to_string(),
        revision: revision.clone(),
        action: action.name(),
        complete: subject.decision.complete,
        record: serde_json::from_str(&subject.decision.record).ok(),
        purged,
        leaf: subject.decision.leaf.as_ref().map(LeafView::of),
        legal_hold: hold.map(|(on, hold)| LegalHold::of(on, Some(hold))),
    })
}

/// Who had the evidence in hands, from the beginning.
#[derive(Debug, Serialize, ToSchema)]
pub struct CustodyChain {
    /// At most `limit`, oldest first.
    pub chain: Vec<CustodyEntryView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// One entry of custody.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CustodyEntry)]
pub struct CustodyEntryView {
    /// From 1, without gaps.
    pub seq: u32,
    /// RFC 3339 UTC with milliseconds.
    pub at: String,
    /// created, accessed, verified, exported, transferred or purged.
    pub action: &'static str,
    /// Who, as audits name it.
    pub actor: String,
    /// user, system or api.
    pub actor_type: &'static str,
    /// What else is known of it.
    #[schema(value_type = Object)]
    pub details: serde_json::Value,
    /// Hash of the entry before; zeros for the first.
    pub previous_hash: String,
    /// SHA-256, 64 hexadecimal digits.
    pub hash: String,
    /// Whose key signed; null for the first, which follows from the decision.
    pub log_id: Option<String>,
    /// Ed25519, 128 hexadecimal digits.
    pub signature: Option<String>,
}

impl CustodyEntryView {
    fn of(entry: CustodyEntry) -> CustodyEntryView {
        let signature = entry.signature.as_ref();
        CustodyEntryView {
            seq: entry.seq,
            at: time(entry.act.at_ms),
            action: entry.act.action.name(),
            actor: entry.act.actor,
            actor_type: entry.act.actor_type.name(),
            details: serde_json::from_str(&entry.act.details).unwrap_or_default(),
            previous_hash: entry.previous.hex(),
            hash: entry.hash.hex(),
            log_id: signature.map(|signature| signature.log.as_str().to_owned()),
            signature: signature.map(|signature| hex::encode(signature.bytes)),
        }
    }
}

/// Who had the evidence of a decision in hands. To read this adds nothing to it.
#[utoipa::path(get, path = "/api/v1/evidence/{id}/chain", tag = "evidence",
    operation_id = "evidence_chain",
    params(Pages, ("id" = String, Path, description = "A decision's id"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = CustodyChain)))]
pub(crate) async fn chain(http: HttpRequest, id: Path<String>, api: Data<Api>) -> Answer {
    let page = pages::wanted(&http)?;
    let Subject { decision, .. } = Subject::of(&http, &api, &id).await?;
    let after = page.before.map_or(0, |seq| u32::try_from(seq).unwrap_or(u32::MAX));
    let mut entries = Vec::new();
    if after == 0 {
        entries.push(custody::created(&decision));
    }
    let of = custody::subject(&decision);
    entries.extend(api.deps.store.custody(of, after.max(1), page.limit).await.map_err(away)?);
    let rows = entries
        .into_iter()
        .map(|entry| Numbered { sequence: entry.seq.into(), value: CustodyEntryView::of(entry) });
    let (chain, next) = pages::cut(rows.collect(), page);
    json(&CustodyChain { chain, next })
}

/// That a record stands in a log.
#[derive(Debug, Serialize, ToSchema)]
pub struct InclusionProof {
    /// Which log: the SHA-256 of its public key.
    pub log_id: String,
    /// The record's place, from 0.
    pub leaf_index: u64,
    /// SHA-256(0x00 ‖ record), 64 hexadecimal digits.
    pub leaf_hash: String,
    /// Leaves under the root.
    pub tree_size: u64,
    /// Root of the tree, 64 hexadecimal digits.
    pub root: String,
    /// Hashes beside the way from the leaf to the root, lowest first.
    pub audit_path: Vec<String>,
    /// Ed25519 over the first four lines of `checkpoint`, 128 hexadecimal digits.
    pub signature: String,
    /// The head as a signed note (C2SP tlog-checkpoint).
    pub checkpoint: String,
}

/// The proof that the record of a decision stands in its log, under the newest head.
#[utoipa::path(get, path = "/api/v1/evidence/{id}/proof", tag = "evidence",
    operation_id = "evidence_proof",
    params(("id" = String, Path, description = "A decision's id"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = InclusionProof)))]
pub(crate) async fn prove(http: HttpRequest, id: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let Subject { decision, .. } = Subject::of(&http, &api, &id).await?;
    let store = &*api.deps.store;
    let leaf = decision.leaf.ok_or_else(in_no_log)?;
    let keys = store.logs().await.map_err(away)?;
    let key = keys.into_iter().find(|key| key.log == leaf.log).ok_or_else(damaged)?;
    let head = proof::newest(store, &key).await.map_err(away)?.head.ok_or_else(damaged)?;
    let path = proof::inclusion(store, leaf.index, &head).await.map_err(away)?;
    let LeafView { log_id, leaf_index, leaf_hash } = LeafView::of(&leaf);
    json(&InclusionProof {
        log_id,
        leaf_index,
        leaf_hash,
        tree_size: head.size,
        root: head.root.hex(),
        audit_path: path.ok_or_else(damaged)?.iter().map(|hash| hash.hex()).collect(),
        signature: hex::encode(head.signature),
        checkpoint: head.note(&key.public_key),
    })
}

/// Everything that proves a decision, as `orchestrator evidence verify` reads it: lines of JSON. What
/// the decision was made of stays with the operator. That it was given away stands in its custody.
#[utoipa::path(get, path = "/api/v1/evidence/{id}/package", tag = "evidence",
    operation_id = "evidence_package",
    params(("id" = String, Path, description = "A decision's id"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    responses((status = 200, body = String, content_type = "application/jsonl")))]
pub(crate) async fn package(http: HttpRequest, id: Path<String>, api: Data<Api>) -> Answer {
    query::<NoQuery>(&http)?;
    let subject = Subject::of(&http, &api, &id).await?;
    let (store, decision) = (&*api.deps.store, &subject.decision);
    let leaf = decision.leaf.clone().ok_or_else(in_no_log)?;
    let keys = store.logs().await.map_err(away)?;
    let key = keys.iter().find(|key| key.log == leaf.log).ok_or_else(damaged)?;
    let proof = proof::signed(store, leaf, key).await.map_err(away)?.ok_or_else(damaged)?;
    let mut packing = Packing::without_sources(keys);
    packing.record(1, decision, proof);
    subject.track((&http, &api), CustodyAction::Exported, None).await?;
    packing.custody(decision, &custody::entries(store, decision).await.map_err(away)?);
    let at = time(jiff::Timestamp::now().as_millisecond());
    let packed = packages::pack(&packing.material(), decision.tenant.as_str(), &at);
    Ok(HttpResponse::Ok().content_type("application/jsonl").body(packed))
}

fn in_no_log() -> Error {
    Error::new(Code::NotFound, "an earlier release recorded it, in no log")
}

fn damaged() -> Error {
    Error::new(Code::InternalError, "hashes or signed heads of the log are missing")
}

/// What the caller of a decision holds; without it, the content is not checked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// As it was sent. It is neither kept nor logged.
    #[schema(value_type = Option<Object>)]
    pub content: Option<Value>,
    /// As they were sent, instead of `content`.
    #[schema(value_type = Option<Vec<Object>>)]
    pub messages: Option<Value>,
    /// The receipt's, 64 hexadecimal digits.
    pub salt: Option<String>,
}

/// Whether the evidence of a decision is what was recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verification {
    /// Which.
    pub evidence_id: String,
    /// Whether no check fails.
    pub overall_valid: bool,
    /// Each check: true, false or `not_checked`.
    pub checks: Checks,
    /// Why checks fail.
    pub faults: Vec<VerificationFault>,
}

/// Each check: true, false or `not_checked`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checks {
    /// The content belongs to the record.
    #[schema(value_type = Object)]
    pub content_hash: serde_json::Value,
    /// The head of the log above the record is signed.
    #[schema(value_type = Object)]
    pub signature: serde_json::Value,
    /// No entry of custody was changed, removed or put in between.
    #[schema(value_type = Object)]
    pub chain_of_custody: serde_json::Value,
    /// The times of id, row, record and head agree.
    #[schema(value_type = Object)]
    pub timestamp: serde_json::Value,
    /// The record is what stands in the log.
    #[schema(value_type = Object)]
    pub inclusion: serde_json::Value,
}

/// Why a check fails.
#[derive(Debug, Serialize, ToSchema)]
pub struct VerificationFault {
    /// Which.
    pub check: &'static str,
    /// What is wrong.
    pub detail: String,
}

impl Verification {
    fn of(id: &str, found: Integrity) -> Verification {
        let shown = |check| match check {
            Check::Holds => json!(true),
            Check::Fails => json!(false),
            Check::NotChecked => json!("not_checked"),
        };
        let overall_valid = found.holds();
        let fault = |fault: integrity::CheckFault| VerificationFault {
            check: fault.check,
            detail: fault.detail,
        };
        Verification {
            evidence_id: id.to_owned(),
            overall_valid,
            checks: Checks {
                content_hash: shown(found.content_hash),
                signature: shown(found.signature),
                chain_of_custody: shown(found.chain_of_custody),
                timestamp: shown(found.timestamp),
                inclusion: shown(found.inclusion),
            },
            faults: found.faults.into_iter().map(fault).collect(),
        }
    }
}

/// Checks the evidence of a decision. That it was verified stands in its custody before the answer.
#[utoipa::path(post, path = "/api/v1/evidence/{id}/verify", tag = "evidence",
    operation_id = "evidence_verify",
    params(("id" = String, Path, description = "A decision's id"),
        ("X-Tenant-ID" = Option<String>, Header, description = "Whose")),
    request_body = VerifyRequest,
    responses((status = 200, body = Verification)))]
pub(crate) async fn verify(
    http: HttpRequest,
    id: Path<String>,
    payload: Payload,
    api: Data<Api>,
) -> Answer {
    query::<NoQuery>(&http)?;
    let request: VerifyRequest = body::json(&http, payload, api.body_limits()).await?;
    let subject = Subject::of(&http, &api, &id).await?;
    let opened = opened(request)?;
    let _turn = api.turn(Some(&subject.decision.tenant)).await?;
    let begun = Instant::now();
    let of = (&subject.decision, &api.deps.custodian);
    let found = integrity::check(&*api.deps.store, of, opened).await;
    let found = found.map_err(away)?;
    api.deps.metrics.evidence_verification(begun.elapsed());
    let valid = Some(found.holds());
    subject.track((&http, &api), CustodyAction::Verified, valid).await?;
    json(&Verification::of(&subject.decision.id, found))
}

/// What opens the commitment; `None` where a part of it is not given.
fn opened(request: VerifyRequest) -> Result<Option<Opened>, Error> {
    let refused =
        |pointer, detail: &str| Error::field(Code::InvalidRequest, pointer, "bad_value", detail);
    let VerifyRequest { content, messages, salt } = request;
    if content.is_some() && messages.is_some() {
        return Err(refused("/messages", "send `content` or `messages`, as the request did"));
    }
    let is_object = |part: &serde_json::Value| part.is_object();
    let is_list = |value: &serde_json::Value| {
        value.as_array().is_some_and(|parts| parts.iter().all(is_object))
    };
    if content.as_ref().is_some_and(|Value(content)| !content.is_string() && !is_list(content)) {
        return Err(refused("/content", "must be a text or a list of parts, as it was sent"));
    }
    if messages.as_ref().is_some_and(|Value(messages)| !is_list(messages)) {
        return Err(refused("/messages", "must be a list of messages, as it was sent"));
    }
    let salt = match salt.as_deref() {
        None => None,
        Some(digits) => Some(
            Salt::from_hex(digits)
                .ok_or_else(|| refused("/salt", "must be the receipt's 64 hexadecimal digits"))?,
        ),
    };
    Ok(salt.zip(content.or(messages)).map(|(salt, content)| Opened { content: content.0, salt }))
}
