//! A store whose work is counted by operation; what fails again and again rests, so that nobody
//! waits for a store that is down.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::{
    Answer, ApiKey, Attest, Audit, AuditEntry, Chained, Claim, Claimed, Claims, Custody, Decision,
    Decisions, Expected, HeadsPurged, Hold, HoldOn, HourUsed, KeyChange, Keys, Ledger, LogBatch,
    LogKey, NextEntry, Numbered, Object, ObjectKey, Objects, OldHeads, Page, Passed, Purge,
    Retention, SealedSecret, Secrets, Sought, SourceBlob, SourceKey, Sources, Spot, Store,
    StoreError, Tally, Terms, Trace, Unnamed, Usage, Version,
};
use crate::domain::custody::{CustodyEntry, Evidence};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::{Checkpoint, Leaf, LogId};
use crate::operations::{Operation, Operations};

mod jobs;

/// `S` behind the breakers of its operations.
pub struct Guarded<S> {
    inner: S,
    operations: Arc<Operations>,
}

impl<S: Store> Guarded<S> {
    /// Puts `inner` behind the breakers of `operations`.
    pub fn new(inner: S, operations: Arc<Operations>) -> Self {
        Self { inner, operations }
    }

    fn run<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        work: impl FnOnce() -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T> {
        async move {
            let running = self
                .operations
                .begin(operation)
                .map_err(|_| StoreError::Resting { doing: operation.name() })?
                .waited_for();
            let answer = work().await;
            match &answer {
                Ok(_) | Err(StoreError::Conflict { .. } | StoreError::Refused { .. }) => {
                    running.done();
                }
                // The next one asks for another row.
                Err(StoreError::Damaged { .. }) => running.failed_for_one(),
                Err(StoreError::Crowded { .. }) => running.crowded_out(),
                Err(_) => running.failed(),
            }
            answer
        }
        .boxed()
    }
}

impl<S: Store> Decisions for Guarded<S> {
    fn decision(&self, tenant: TenantId, id: String) -> Answer<'_, Option<Decision>> {
        self.run(Operation::ReadDecision, || self.inner.decision(tenant, id))
    }

    fn decisions(&self, tenant: TenantId, page: Page) -> Answer<'_, Vec<Numbered<Decision>>> {
        self.run(Operation::ReadDecision, move || self.inner.decisions(tenant, page))
    }

    fn look(
        &self,
        tenant: TenantId,
        sought: Sought,
        after: Option<Spot>,
        rows: u32,
    ) -> Answer<'_, Vec<Passed>> {
        self.run(Operation::ReadDecision, move || self.inner.look(tenant, sought, after, rows))
    }

    fn tally(&self, tenant: TenantId, sought: Sought, rows: u32) -> Answer<'_, Vec<Tally>> {
        self.run(Operation::ReadDecision, move || self.inner.tally(tenant, sought, rows))
    }
}

impl<S: Store> Ledger for Guarded<S> {
    fn open_log(&self, key: LogKey) -> Answer<'_, ()> {
        self.run(Operation::RecordDecision, || self.inner.open_log(key))
    }

    fn logs(&self) -> Answer<'_, Vec<LogKey>> {
        self.run(Operation::ReadDecision, || self.inner.logs())
    }

    fn append_batch(&self, batch: Arc<LogBatch>) -> Answer<'_, ()> {
        self.run(Operation::RecordDecision, || self.inner.append_batch(batch))
    }

    fn tail(&self, log: LogId) -> Answer<'_, Option<Checkpoint>> {
        self.run(Operation::ReadDecision, || self.inner.tail(log))
    }

    fn heads(&self, log: LogId, below: u64, limit: u32) -> Answer<'_, Vec<Checkpoint>> {
        self.run(Operation::ReadDecision, move || self.inner.heads(log, below, limit))
    }

    fn checkpoint(&self, log: LogId, size: u64) -> Answer<'_, Option<Checkpoint>> {
        self.run(Operation::ReadDecision, move || self.inner.checkpoint(log, size))
    }

    fn hashes(&self, log: LogId, level: u8, first: u64, count: u32) -> Answer<'_, Vec<Digest>> {
        self.run(Operation::ReadDecision, move || self.inner.hashes(log, level, first, count))
    }

    fn leaf(&self, tenant: TenantId, decision: String) -> Answer<'_, Option<Leaf>> {
        self.run(Operation::ReadDecision, || self.inner.leaf(tenant, decision))
    }

    fn leaves(&self, tenant: TenantId, after: String, limit: u32) -> Answer<'_, Vec<String>> {
        self.run(Operation::ReadDecision, move || self.inner.leaves(tenant, after, limit))
    }

    fn traces(&self, decisions: Vec<String>) -> Answer<'_, Vec<Trace>> {
        self.run(Operation::ReadDecision, || self.inner.traces(decisions))
    }
}

impl<S: Store> Audit for Guarded<S> {
    fn append(&self, entry: AuditEntry) -> Answer<'_, i64> {
        self.run(Operation::WriteAuditBatch, || self.inner.append(entry))
    }

    fn entries(
        &self,
        tenant: Option<TenantId>,
        page: Page,
    ) -> Answer<'_, Vec<Numbered<AuditEntry>>> {
        self.run(Operation::ReadAudit, move || self.inner.entries(tenant, page))
    }

    fn chain(
        &self,
        tenant: Option<TenantId>,
        after: i64,
        limit: u32,
    ) -> Answer<'_, Vec<Numbered<Chained>>> {
        self.run(Operation::ReadAudit, move || self.inner.chain(tenant, after, limit))
    }
}

impl<S: Store> Custody for Guarded<S> {
    fn append_custody(&self, of: Evidence, next: NextEntry) -> Answer<'_, CustodyEntry> {
        self.run(Operation::WriteCustody, move || self.inner.append_custody(of, next))
    }

    fn custody(&self, of: Evidence, seq: u32, limit: u32) -> Answer<'_, Vec<CustodyEntry>> {
        self.run(Operation::ReadCustody, move || self.inner.custody(of, seq, limit))
    }
}

impl<S: Store> Retention for Guarded<S> {
    fn oldest(&self, after: Option<TenantId>, limit: u32) -> Answer<'_, Vec<(TenantId, i64)>> {
        self.run(Operation::PurgeExpired, move || self.inner.oldest(after, limit))
    }

    fn purge(&self, purge: Purge, attest: Attest) -> Answer<'_, u64> {
        self.run(Operation::PurgeExpired, move || self.inner.purge(purge, attest))
    }

    fn purge_heads(&self, of: OldHeads) -> Answer<'_, HeadsPurged> {
        self.run(Operation::PurgeExpired, move || self.inner.purge_heads(of))
    }

    fn set_hold(&self, on: HoldOn, hold: Option<Hold>, entry: AuditEntry) -> Answer<'_, bool> {
        self.run(Operation::ChangeHold, move || self.inner.set_hold(on, hold, entry))
    }

    fn hold_of(&self, of: Evidence) -> Answer<'_, Option<(HoldOn, Hold)>> {
        self.run(Operation::ReadCustody, move || self.inner.hold_of(of))
    }
}

impl<S: Store> Objects for Guarded<S> {
    fn object(&self, key: ObjectKey) -> Answer<'_, Option<Object>> {
        self.run(Operation::RetrieveObject, || self.inner.object(key))
    }

    fn put(&self, key: ObjectKey, body: String, expected: Expected) -> Answer<'_, Object> {
        self.run(Operation::StoreObject, move || self.inner.put(key, body, expected))
    }

    fn delete(&self, key: ObjectKey, expected: Expected) -> Answer<'_, ()> {
        self.run(Operation::StoreObject, move || self.inner.delete(key, expected))
    }

    fn change(
        &self,
        key: ObjectKey,
        body: Option<String>,
        expected: Expected,
        entry: AuditEntry,
    ) -> Answer<'_, Object> {
        self.run(Operation::StoreObject, move || self.inner.change(key, body, expected, entry))
    }

    fn objects(&self, kind: String) -> Answer<'_, Vec<Object>> {
        self.run(Operation::RetrieveObject, || self.inner.objects(kind))
    }

    fn versions(&self, key: ObjectKey, page: Page) -> Answer<'_, Vec<Version>> {
        self.run(Operation::RetrieveObject, move || self.inner.versions(key, page))
    }

    fn version(&self, key: ObjectKey, version: u64) -> Answer<'_, Option<Object>> {
        self.run(Operation::RetrieveObject, move || self.inner.version(key, version))
    }

    fn generation(&self) -> Answer<'_, i64> {
        self.run(Operation::RetrieveObject, || self.inner.generation())
    }
}

impl<S: Store> Keys for Guarded<S> {
    fn key(&self, prefix: String) -> Answer<'_, Option<ApiKey>> {
        self.run(Operation::RetrieveToken, || self.inner.key(prefix))
    }

    fn keys(&self, tenant: Option<TenantId>, page: Page) -> Answer<'_, Vec<Numbered<ApiKey>>> {
        self.run(Operation::RetrieveToken, move || self.inner.keys(tenant, page))
    }

    fn keys_that_hold(&self, now_ms: i64) -> Answer<'_, u64> {
        self.run(Operation::RetrieveToken, move || self.inner.keys_that_hold(now_ms))
    }

    fn change_key(&self, change: KeyChange, entry: AuditEntry) -> Answer<'_, bool> {
        self.run(Operation::StoreToken, move || self.inner.change_key(change, entry))
    }
}

impl<S: Store> Usage for Guarded<S> {
    fn used(&self, since: u32) -> Answer<'_, Vec<HourUsed>> {
        self.run(Operation::KeepQuotas, move || self.inner.used(since))
    }

    fn keep_used(&self, rows: Vec<HourUsed>) -> Answer<'_, ()> {
        self.run(Operation::KeepQuotas, move || self.inner.keep_used(rows))
    }
}

impl<S: Store> Secrets for Guarded<S> {
    fn secrets(&self) -> Answer<'_, Vec<Numbered<SealedSecret>>> {
        self.run(Operation::RetrieveCredential, || self.inner.secrets())
    }

    fn put_secret(&self, secret: SealedSecret, entry: AuditEntry) -> Answer<'_, ()> {
        self.run(Operation::StoreCredential, move || self.inner.put_secret(secret, entry))
    }

    fn secrets_generation(&self) -> Answer<'_, i64> {
        self.run(Operation::RetrieveCredential, || self.inner.secrets_generation())
    }
}

impl<S: Store> Claims for Guarded<S> {
    fn claim(&self, claim: Claim, terms: Terms) -> Answer<'_, Claimed> {
        self.run(Operation::KeepClaims, move || self.inner.claim(claim, terms))
    }

    fn renew(&self, claim: Claim, lease: Duration) -> Answer<'_, bool> {
        self.run(Operation::KeepClaims, move || self.inner.renew(claim, lease))
    }

    fn finish(&self, claim: Claim, answer: Vec<u8>) -> Answer<'_, bool> {
        self.run(Operation::KeepClaims, move || self.inner.finish(claim, answer))
    }

    fn release(&self, claim: Claim) -> Answer<'_, bool> {
        self.run(Operation::KeepClaims, move || self.inner.release(claim))
    }

    fn forget_claims(&self, most: u32) -> Answer<'_, u64> {
        self.run(Operation::KeepClaims, move || self.inner.forget_claims(most))
    }
}

impl<S: Store> Sources for Guarded<S> {
    fn missing_sources(&self, keys: Vec<SourceKey>) -> Answer<'_, Vec<SourceKey>> {
        self.run(Operation::KeepSources, || self.inner.missing_sources(keys))
    }

    fn put_sources(&self, blobs: Vec<SourceBlob>) -> Answer<'_, ()> {
        self.run(Operation::KeepSources, || self.inner.put_sources(blobs))
    }

    fn source(&self, key: SourceKey) -> Answer<'_, Option<Vec<u8>>> {
        self.run(Operation::KeepSources, || self.inner.source(key))
    }

    fn serve_revision(&self, revision: String, at_ms: i64, before_ms: i64) -> Answer<'_, ()> {
        let work = move || self.inner.serve_revision(revision, at_ms, before_ms);
        self.run(Operation::KeepSources, work)
    }

    fn revisions(&self, since_ms: i64, after: String, limit: u32) -> Answer<'_, Vec<String>> {
        self.run(Operation::PurgeExpired, move || self.inner.revisions(since_ms, after, limit))
    }

    fn source_keys(&self, after: Option<SourceKey>, limit: u32) -> Answer<'_, Vec<SourceKey>> {
        self.run(Operation::PurgeExpired, move || self.inner.source_keys(after, limit))
    }

    fn forget_sources(&self, unnamed: Unnamed) -> Answer<'_, Option<u64>> {
        self.run(Operation::PurgeExpired, move || self.inner.forget_sources(unnamed))
    }
}

impl<S: Store> Store for Guarded<S> {
    /// Past every breaker: it is asked to learn whether the store is back.
    fn probe(&self) -> Answer<'_, ()> {
        self.inner.probe()
    }

    fn close(&self) {
        self.inner.close();
    }
}
