//! A store whose work is counted by operation; what fails again and again rests, so that nobody
//! waits for a store that is down.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{
    Accepted, Answer, ApiKey, Audit, AuditEntry, Decision, Decisions, Expected, HourUsed,
    KeyChange, Keys, Numbered, Object, ObjectKey, Objects, Page, SealedSecret, Secrets, Store,
    StoreError, Usage, Version, WriterStats,
};
use crate::domain::id::TenantId;
use crate::operations::{Operation, Operations};

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
                Ok(_) | Err(StoreError::Conflict { .. }) => running.done(),
                Err(_) => running.failed(),
            }
            answer
        }
        .boxed()
    }
}

impl<S: Store> Decisions for Guarded<S> {
    fn record(&self, decision: Decision) -> Answer<'_, ()> {
        self.run(Operation::RecordDecision, || self.inner.record(decision))
    }

    /// Handed on whatever the breaker says: it does not wait, and a lost row never comes back.
    fn record_later(&self, decision: Decision) -> Accepted {
        let running = self.operations.begin(Operation::RecordDecision);
        let accepted = self.inner.record_later(decision);
        match (running, accepted) {
            (Ok(running), Accepted::Queued) => running.done(),
            (Ok(running), Accepted::Dropped) => running.failed(),
            (Err(_), _) => {}
        }
        accepted
    }

    fn decision(&self, tenant: TenantId, id: String) -> Answer<'_, Option<Decision>> {
        self.run(Operation::ReadDecision, || self.inner.decision(tenant, id))
    }

    fn decisions(&self, tenant: TenantId, page: Page) -> Answer<'_, Vec<Numbered<Decision>>> {
        self.run(Operation::ReadDecision, move || self.inner.decisions(tenant, page))
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

impl<S: Store> Store for Guarded<S> {
    /// Past every breaker: it is asked to learn whether the store is back.
    fn probe(&self) -> Answer<'_, ()> {
        self.inner.probe()
    }

    fn stats(&self) -> WriterStats {
        self.inner.stats()
    }

    fn close(&self) {
        self.inner.close();
    }
}
