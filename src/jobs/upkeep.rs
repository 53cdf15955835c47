//! What keeps the jobs of all instances going: beats that say that this one lives, the burial of those
//! that fell silent, and what is to be done in time.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::crew::Crew;
use super::webhook;
use crate::domain::job::{Lease, Watch, WorkerId};
use crate::metrics::Letter;
use crate::settings::BEAT_MAX;
use crate::snapshot::{Live, RowKind};
use crate::store::{Ending, StoreError};

/// Beats within a lease: some may be lost.
pub(super) const BEATS: u32 = 5;
/// Between looks at what is to be done in time.
pub(super) const TIDY: Duration = Duration::from_secs(5);
/// Rows of one piece of upkeep.
pub(super) const AT_ONCE: u32 = 256;
/// How long a job that came to its end is known.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Begins this instance's life among those who carry jobs out.
pub(super) async fn enter(crew: &Crew) {
    let mut pause = Duration::from_millis(50);
    while let Err(error) = crew.store.enter(crew.worker()).await {
        tracing::debug!(%error, "no job can be taken yet");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    crew.wake();
}

/// Says that this instance lives, stops what is not its own any more, and buries those that fell
/// silent.
pub(super) async fn beats(crew: &Crew) {
    let (mut watch, mut unattended) = (Watch::default(), HashSet::new());
    let lease = crew.settings.lease.0;
    let every = (lease / BEATS).min(BEAT_MAX);
    let patience = looks(lease, every);
    loop {
        sleep(every).await;
        let before = crew.fences();
        match crew.store.beat(crew.worker()).await {
            Ok(Some(leases)) => {
                crew.keep_only(&leases, &before);
                unattended = hand_back(crew, &leases, &unattended).await;
                for (lease, progress) in crew.news(&leases) {
                    // The next news are as good.
                    let _ = crew.store.progress(lease, progress).await;
                }
            }
            Ok(None) => {
                tracing::warn!("others thought that this instance was gone; its jobs begin anew");
                crew.reborn();
                enter(crew).await;
            }
            Err(error) => {
                tracing::debug!(%error, "no beat reached the store");
                watch.blinded();
            }
        }
        if let Err(error) = bury(crew, &mut watch, patience).await {
            tracing::debug!(%error, "who fell silent is not known now");
            watch.blinded();
        }
    }
}

/// At how many looks, one every beat, a silence is as long as a lease without one beat: whoever beats
/// in time is not buried, however late somebody looks.
pub(super) fn looks(lease: Duration, every: Duration) -> u32 {
    let silence = lease.saturating_sub(every).as_nanos();
    u32::try_from(silence.div_ceil(every.as_nanos().max(1))).unwrap_or(u32::MAX)
}

/// Hands back what nobody attends to, now and a beat ago: the answer that brought it was lost.
async fn hand_back(crew: &Crew, leases: &[Lease], before: &HashSet<Lease>) -> HashSet<Lease> {
    let unattended = crew.unattended(leases);
    for lease in unattended.intersection(before) {
        // The next beat is as good.
        let _ = crew.store.end_attempt(lease.clone(), Ending::HandedBack).await;
        crew.wake();
    }
    unattended
}

async fn bury(crew: &Crew, watch: &mut Watch, patience: u32) -> Result<(), StoreError> {
    let own = crew.worker();
    let mut others: Vec<(WorkerId, u64)> = crew.store.workers().await?;
    others.retain(|(worker, _)| *worker != own);
    let mut buried = false;
    for (worker, beat) in watch.silent(&others, patience) {
        buried |= crew.store.bury(worker, beat).await?;
    }
    if buried {
        tracing::warn!("an instance fell silent; its jobs are carried out by others");
        while crew.store.recover_jobs(AT_ONCE).await? > 0 {}
        crew.wake();
    }
    Ok(())
}

/// What is to be done in time, and the gauges.
pub(super) async fn tidy(crew: &Crew, live: &Live) {
    loop {
        if let Err(error) = once(crew, live).await {
            tracing::debug!(%error, "jobs are tidied up in a while");
        }
        sleep(TIDY).await;
    }
}

async fn once(crew: &Crew, live: &Live) -> Result<(), StoreError> {
    let store = &crew.store;
    // Those of an instance that left are nobody's either.
    if store.recover_jobs(AT_ONCE).await? > 0 {
        crew.wake();
    }
    while store.expire_jobs(AT_ONCE).await? > 0 {}
    // What became a job while its tenant was deleted; a file may define the tenant all the same.
    for tenant in store.orphans(RowKind::Tenant.name()).await? {
        if !live.current().catalog.tenants.contains_key(&tenant) {
            crew.orphan(&tenant).await?;
        }
    }
    while store.erase_jobs(AT_ONCE).await? > 0 {}
    while store.forget_jobs(KEPT, AT_ONCE).await? > 0 {}
    let counts = store.job_counts().await?;
    let queued: u64 = counts.queued.iter().sum();
    crew.waiting.store(queued, Ordering::Relaxed);
    crew.metrics.jobs_waiting(queued);
    crew.metrics.dead_letters(Letter::Job, counts.dead);
    let webhooks = store.count_dead(webhook::group()).await?;
    crew.metrics.dead_letters(Letter::Webhook, webhooks);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_looks_as_make_a_lease_without_its_first_beat() {
        let looks =
            |lease, every| looks(Duration::from_millis(lease), Duration::from_millis(every));
        assert_eq!((looks(3_000, 600), looks(10_000, 1_000), looks(7_300, 1_000)), (4, 9, 7));
    }
}
