//! The work of one instance: jobs are taken as workers are free, in the order of their turns.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::content::Payload;
use super::crew::{Crew, Progress, Tried};
use super::turns::{Share, TENANTS_MAX, Turns};
use super::{upkeep, webhook};
use crate::domain::id::TenantId;
use crate::seal;
use crate::snapshot::{Live, Snapshot};
use crate::store::{Job, Taken};

/// How long what is under way may take to be handed back.
const HAND_BACK: Duration = Duration::from_secs(4);

/// A job to carry out.
pub struct Task {
    /// As it stands.
    pub job: Job,
    /// What it holds.
    pub payload: Payload,
    /// To be told how much is done.
    pub progress: Progress,
}

/// Carries a job out; dropped when nobody wants it any more.
pub type Perform = Rc<dyn Fn(Task) -> LocalBoxFuture<'static, Tried>>;

/// Carries jobs out until the crew is told to stop; what is under way then is handed back. To be run
/// on a local set, once.
pub async fn run(crew: Arc<Crew>, live: Arc<Live>, perform: Perform, webhooks: webhook::Webhooks) {
    let beside = spawn_local({
        let (crew, live) = (Arc::clone(&crew), Arc::clone(&live));
        async move {
            upkeep::enter(&crew).await;
            tokio::join!(upkeep::beats(&crew), upkeep::tidy(&crew, &live), webhooks.tell(&crew));
        }
    });
    let tasks = TaskTracker::new();
    take(&crew, &live, (&perform, &tasks)).await;
    tasks.close();
    if timeout(HAND_BACK, tasks.wait()).await.is_err() {
        tracing::warn!("not every job could be handed back; others take them over in a while");
    }
    beside.abort();
    if let Err(error) = crew.store.leave(crew.worker()).await {
        tracing::debug!(%error, "the end of this instance's work could not be told");
    }
}

async fn take(crew: &Arc<Crew>, live: &Live, (perform, tasks): (&Perform, &TaskTracker)) {
    let which = (seal::spread() * u64::MAX as f64) as u64;
    let mut turns = Turns::new(TENANTS_MAX, which);
    let (mut free, mut look) = (crew.settings.workers, true);
    let (ends, mut ended) = mpsc::channel::<TenantId>(free.max(1));
    loop {
        let snapshot = live.current();
        let mut must = false;
        while free > 0 && !crew.stop.is_cancelled() {
            let urgent = crew.urgent.swap(false, Ordering::Relaxed);
            let fresh = must || urgent || look && !turns.rests(Instant::now());
            look &= !fresh;
            let taken = more(crew, &snapshot, (&mut turns, free), fresh).await;
            // Places may be left of what other instances took.
            must = taken.is_empty();
            if taken.is_empty() {
                if fresh { break } else { continue }
            }
            free -= taken.len().min(free);
            crew.taken(taken.len());
            for one in taken {
                let ends = ends.clone();
                let (crew, perform) = (Arc::clone(crew), Rc::clone(perform));
                tasks.spawn_local(async move {
                    let tenant = one.lease.of.tenant.clone();
                    carry_out(&crew, one, &perform).await;
                    // Nobody takes jobs any more where this is not heard.
                    let _ = ends.send(tenant).await;
                });
            }
        }
        tokio::select! {
            () = crew.stop.cancelled() => return,
            () = crew.woken.notified() => look = true,
            () = sleep(crew.settings.poll.0) => look = true,
            Some(tenant) = ended.recv() => {
                free += 1;
                turns.ended(&tenant);
            }
        }
    }
}

/// Jobs for at most `free` workers; the store is asked first who waits, where it is worth a `look`.
async fn more(
    crew: &Crew,
    snapshot: &Snapshot,
    (turns, free): (&mut Turns, usize),
    look: bool,
) -> Vec<Taken> {
    let share = |tenant: &TenantId| {
        let tenant = snapshot.catalog.tenants.get(tenant)?;
        let limits = snapshot.limits(tenant);
        let open = !snapshot.paused(tenant);
        open.then_some(Share { weight: limits.weight, at_once: limits.concurrent })
    };
    if look || turns.runs_out() {
        let begun = Instant::now();
        match crew.store.waiting(turns.each(), TENANTS_MAX, turns.after()).await {
            Ok(waiting) => {
                turns.fill(waiting, share);
                turns.looked(begun.elapsed(), Instant::now());
            }
            Err(error) => {
                tracing::debug!(%error, "jobs cannot be looked for; they are in a moment");
                return Vec::new();
            }
        }
    }
    let picks = turns.next(free, share);
    if picks.is_empty() {
        return Vec::new();
    }
    crew.store.take(crew.worker(), picks).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "jobs cannot be taken; they are in a moment");
        Vec::new()
    })
}

async fn carry_out(crew: &Crew, taken: Taken, perform: &Perform) {
    let Taken { lease, job, payload } = taken;
    let progress = Progress::default();
    let work = {
        let progress = progress.clone();
        let opened = crew.open(&lease.of, &payload);
        let job = job.clone();
        async move {
            let payload = opened?;
            perform(Task { job, payload, progress }).await
        }
    };
    crew.attend((lease, &job), progress, work).await;
}
