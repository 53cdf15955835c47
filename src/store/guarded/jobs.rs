//! Jobs, events and instances behind the breakers of their operations.

use std::time::Duration;

use super::Guarded;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventType};
use crate::domain::id::TenantId;
use crate::domain::job::{JobError, JobKey, JobState, Lease, Transition, WorkerId};
use crate::operations::Operation;
use crate::store::{
    Added, Answer, Attempt, AuditEntry, Begin, DeadLetters, Delivering, Delivery, Ending, Events,
    Group, Groups, InstanceSeen, InstanceTold, Instances, Job, JobCounts, JobUpkeep, Jobs, Move,
    Moved, NewJob, Numbered, Page, Pick, Shares, Store, Stream, Taken, Then, Told, Waiting, Work,
    Workers,
};

impl<S: Store> Jobs for Guarded<S> {
    fn add_job(&self, job: NewJob) -> Answer<'_, Added> {
        self.run(Operation::KeepJobs, || self.inner.add_job(job))
    }

    fn job(&self, of: JobKey) -> Answer<'_, Option<Job>> {
        self.run(Operation::ReadJobs, || self.inner.job(of))
    }

    fn jobs(
        &self,
        tenant: TenantId,
        state: Option<JobState>,
        page: Page,
    ) -> Answer<'_, Vec<Numbered<Job>>> {
        self.run(Operation::ReadJobs, move || self.inner.jobs(tenant, state, page))
    }

    fn job_result(&self, of: JobKey) -> Answer<'_, Option<Vec<u8>>> {
        self.run(Operation::ReadJobs, || self.inner.job_result(of))
    }

    fn transitions(&self, of: JobKey, after: u64, limit: u32) -> Answer<'_, Vec<Transition>> {
        self.run(Operation::ReadJobs, move || self.inner.transitions(of, after, limit))
    }

    fn attempts(&self, of: JobKey, after: u64, limit: u32) -> Answer<'_, Vec<Attempt>> {
        self.run(Operation::ReadJobs, move || self.inner.attempts(of, after, limit))
    }

    fn move_job(&self, wish: Move) -> Answer<'_, Moved> {
        self.run(Operation::KeepJobs, || self.inner.move_job(wish))
    }

    fn forget_callback(&self, of: JobKey, version: u64) -> Answer<'_, bool> {
        self.run(Operation::KeepJobs, move || self.inner.forget_callback(of, version))
    }
}

impl<S: Store> DeadLetters for Guarded<S> {
    fn dead_letters(&self, tenant: Option<TenantId>, page: Page) -> Answer<'_, Vec<Numbered<Job>>> {
        self.run(Operation::ReadJobs, move || self.inner.dead_letters(tenant, page))
    }

    fn discard(&self, of: JobKey, entry: AuditEntry) -> Answer<'_, bool> {
        self.run(Operation::KeepJobs, || self.inner.discard(of, entry))
    }
}

impl<S: Store> Work for Guarded<S> {
    fn waiting(
        &self,
        each: u32,
        tenants_max: u32,
        after: Option<TenantId>,
    ) -> Answer<'_, Vec<Waiting>> {
        self.run(Operation::CarryOutJobs, move || self.inner.waiting(each, tenants_max, after))
    }

    fn take(&self, worker: WorkerId, picks: Vec<Pick>) -> Answer<'_, Vec<Taken>> {
        self.run(Operation::CarryOutJobs, move || self.inner.take(worker, picks))
    }

    fn progress(&self, lease: Lease, progress: f64) -> Answer<'_, bool> {
        self.run(Operation::CarryOutJobs, move || self.inner.progress(lease, progress))
    }

    fn end_attempt(&self, lease: Lease, ending: Ending) -> Answer<'_, bool> {
        self.run(Operation::CarryOutJobs, || self.inner.end_attempt(lease, ending))
    }
}

impl<S: Store> Workers for Guarded<S> {
    fn enter(&self, worker: WorkerId) -> Answer<'_, ()> {
        self.run(Operation::CarryOutJobs, move || self.inner.enter(worker))
    }

    fn beat(&self, worker: WorkerId) -> Answer<'_, Option<Vec<Lease>>> {
        self.run(Operation::CarryOutJobs, move || self.inner.beat(worker))
    }

    fn leave(&self, worker: WorkerId) -> Answer<'_, ()> {
        self.run(Operation::CarryOutJobs, move || self.inner.leave(worker))
    }

    fn workers(&self) -> Answer<'_, Vec<(WorkerId, u64)>> {
        self.run(Operation::CarryOutJobs, || self.inner.workers())
    }

    fn bury(&self, worker: WorkerId, beat: u64) -> Answer<'_, bool> {
        self.run(Operation::CarryOutJobs, move || self.inner.bury(worker, beat))
    }
}

impl<S: Store> JobUpkeep for Guarded<S> {
    fn recover_jobs(&self, most: u32) -> Answer<'_, u64> {
        self.run(Operation::KeepJobs, move || self.inner.recover_jobs(most))
    }

    fn expire_jobs(&self, most: u32) -> Answer<'_, u64> {
        self.run(Operation::KeepJobs, move || self.inner.expire_jobs(most))
    }

    fn fail_jobs(&self, tenant: TenantId, why: JobError, most: u32) -> Answer<'_, u64> {
        self.run(Operation::KeepJobs, move || self.inner.fail_jobs(tenant, why, most))
    }

    fn orphans(&self, kind: &'static str) -> Answer<'_, Vec<TenantId>> {
        self.run(Operation::ReadJobs, move || self.inner.orphans(kind))
    }

    fn erase_jobs(&self, most: u32) -> Answer<'_, u64> {
        self.run(Operation::KeepJobs, move || self.inner.erase_jobs(most))
    }

    fn forget_jobs(&self, kept: Duration, most: u32) -> Answer<'_, u64> {
        self.run(Operation::KeepJobs, move || self.inner.forget_jobs(kept, most))
    }

    fn job_seals(&self) -> Answer<'_, Vec<(String, u64)>> {
        self.run(Operation::ReadJobs, || self.inner.job_seals())
    }

    fn job_counts(&self) -> Answer<'_, JobCounts> {
        self.run(Operation::ReadJobs, || self.inner.job_counts())
    }
}

impl<S: Store> Events for Guarded<S> {
    fn append_events(&self, events: Vec<Event>) -> Answer<'_, u64> {
        self.run(Operation::KeepEvents, || self.inner.append_events(events))
    }

    fn number_events(&self, most: u32) -> Answer<'_, u64> {
        self.run(Operation::KeepEvents, move || self.inner.number_events(most))
    }

    fn events(&self, stream: Stream, after: i64, limit: u32) -> Answer<'_, Vec<Told>> {
        self.run(Operation::ReadEvents, move || self.inner.events(stream, after, limit))
    }

    fn latest_events(
        &self,
        stream: Stream,
        event_type: EventType,
        limit: u32,
    ) -> Answer<'_, Vec<Told>> {
        let latest = move || self.inner.latest_events(stream, event_type, limit);
        self.run(Operation::ReadEvents, latest)
    }

    fn last_event(&self, stream: Stream) -> Answer<'_, i64> {
        self.run(Operation::ReadEvents, || self.inner.last_event(stream))
    }

    fn unpublished(&self, limit: u32) -> Answer<'_, Vec<Told>> {
        self.run(Operation::ReadEvents, move || self.inner.unpublished(limit))
    }

    fn mark_published(&self, global: Vec<i64>) -> Answer<'_, ()> {
        self.run(Operation::KeepEvents, || self.inner.mark_published(global))
    }

    fn purge_events(&self, kept: Duration, most: u32) -> Answer<'_, u64> {
        self.run(Operation::KeepEvents, move || self.inner.purge_events(kept, most))
    }
}

impl<S: Store> Groups for Guarded<S> {
    fn deliver(
        &self,
        group: Group,
        begin: Begin,
        how: Delivering,
    ) -> Answer<'_, Option<Vec<Delivery>>> {
        self.run(Operation::DeliverEvents, move || self.inner.deliver(group, begin, how))
    }

    fn deliver_fairly(
        &self,
        group: Group,
        how: Delivering,
        shares: Shares,
    ) -> Answer<'_, Vec<Delivery>> {
        self.run(Operation::DeliverEvents, move || self.inner.deliver_fairly(group, how, shares))
    }

    fn acknowledge(&self, group: Group, ids: Vec<Digest>) -> Answer<'_, u64> {
        self.run(Operation::DeliverEvents, || self.inner.acknowledge(group, ids))
    }

    fn refuse(
        &self,
        group: Group,
        id: Digest,
        then: (Duration, u32),
        why: Option<String>,
    ) -> Answer<'_, bool> {
        self.run(Operation::DeliverEvents, move || self.inner.refuse(group, id, then, why))
    }

    fn dead_deliveries(
        &self,
        group: Group,
        after: i64,
        limit: u32,
    ) -> Answer<'_, Vec<Numbered<Delivery>>> {
        self.run(Operation::DeliverEvents, move || self.inner.dead_deliveries(group, after, limit))
    }

    fn count_dead(&self, group: Group) -> Answer<'_, u64> {
        self.run(Operation::DeliverEvents, || self.inner.count_dead(group))
    }

    fn end_dead(&self, group: Group, id: Digest, then: Then) -> Answer<'_, bool> {
        self.run(Operation::DeliverEvents, move || self.inner.end_dead(group, id, then))
    }
}

impl<S: Store> Instances for Guarded<S> {
    fn tell_instance(&self, told: InstanceTold) -> Answer<'_, ()> {
        self.run(Operation::RetrieveObject, || self.inner.tell_instance(told))
    }

    fn instances(&self, within: Duration) -> Answer<'_, Vec<InstanceSeen>> {
        self.run(Operation::RetrieveObject, move || self.inner.instances(within))
    }

    fn forget_instance(&self, id: String) -> Answer<'_, ()> {
        self.run(Operation::RetrieveObject, || self.inner.forget_instance(id))
    }
}
