//! What every store must do with jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use uuid::Uuid;

use super::{ALL, entry, tenant};
use crate::domain::event::EventType;
use crate::domain::job::{
    AttemptEnd, Deed, JobError, JobId, JobKey, JobState, JobType, Lease, Mover, WorkerId,
};
use crate::domain::request::Priority;
use crate::store::{
    Added, Ending, Job, JobCounts, Move, Moved, NewJob, Pick, Store, Stream, Taken, Told,
};

mod model;
mod waiting;

pub(in crate::store) use model::equal_the_model;

/// Lets so many minutes pass for everything that jobs date.
pub(in crate::store) fn passing(minutes: u64) -> [String; 2] {
    let past = format!("- {}", minutes * 60_000);
    [
        format!(
            "UPDATE jobs SET created_at_ms = created_at_ms {past}, \
             updated_at_ms = updated_at_ms {past}, not_before_ms = not_before_ms {past}, \
             expires_at_ms = expires_at_ms {past}, retry_at_ms = retry_at_ms {past}"
        ),
        format!("UPDATE completions SET at_ms = at_ms {past}"),
    ]
}

pub(in crate::store) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

pub(super) fn worker() -> WorkerId {
    WorkerId::of(Uuid::now_v7())
}

pub(in crate::store) fn new_job(of: &str) -> NewJob {
    NewJob {
        of: JobKey { tenant: tenant(of), id: JobId::of(Uuid::now_v7()) },
        job_type: JobType::Orchestrate,
        priority: Priority::Normal,
        cost: 3,
        payload: b"sealed".to_vec(),
        callback: None,
        not_before_ms: None,
        expires_at_ms: None,
        key: None,
        most_a_day: None,
        actor: "key-1".into(),
        begun_by: None,
    }
}

pub(super) fn error(code: &str) -> JobError {
    JobError { code: code.into(), message: "with \u{e9}".into() }
}

/// What a caller asks to have a job there.
fn deed(to: JobState) -> Deed {
    match to {
        JobState::Paused => Deed::Pause,
        JobState::Cancelled => Deed::Cancel,
        JobState::Queued | JobState::Running | JobState::Completed | JobState::Failed => {
            Deed::Requeue
        }
    }
}

pub(super) async fn added(store: &dyn Store, job: NewJob) -> Job {
    match store.add_job(job).await.unwrap() {
        Added::New(job) => job,
        other @ (Added::Known(_) | Added::QuotaUsed) => panic!("{other:?}"),
    }
}

async fn job(store: &dyn Store, of: &JobKey) -> Job {
    store.job(of.clone()).await.unwrap().unwrap()
}

pub(super) fn wish(of: &JobKey, deed: Deed) -> Move {
    let (actor, reason) = ("op".into(), String::new());
    Move { of: of.clone(), deed, version: None, actor, reason, audit: None }
}

pub(super) async fn take(store: &dyn Store, by: WorkerId, of: &str, most: u32) -> Vec<Taken> {
    let pick = Pick { tenant: tenant(of), priority: Priority::Normal, most, at_once: None };
    store.take(by, vec![pick]).await.unwrap()
}

/// A worker that is alive.
async fn entered(store: &dyn Store) -> WorkerId {
    let worker = worker();
    store.enter(worker).await.unwrap();
    worker
}

/// Everything that was told of one job, in order.
pub(super) async fn told(store: &dyn Store, of: &JobKey) -> Vec<Told> {
    while store.number_events(1000).await.unwrap() > 0 {}
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let more = store.events(Stream::Tenant(of.tenant.clone()), after, 1000).await.unwrap();
        let Some(last) = more.last() else { break };
        after = last.sequence;
        found.extend(more);
    }
    found.retain(|told| told.event.source == format!("job/{}", of.id));
    found
}

pub(super) async fn hold(store: &dyn Store) {
    a_job_is_added_once_for_each_key_and_belongs_to_its_tenant(store).await;
    of_all_36_pairs_exactly_the_legal_ones_move(store).await;
    two_workers_take_each_of_200_jobs_once(store).await;
    whoever_was_buried_changes_nothing_and_there_is_one_completion(store).await;
    every_move_is_logged_and_told_once_in_order(store).await;
    a_pause_and_a_hand_back_cost_no_attempt_and_silence_does(store).await;
    a_dead_letter_is_requeued_with_all_its_attempts_or_discarded(store).await;
    resume_is_for_what_was_paused_and_requeue_for_what_failed(store).await;
    a_wrong_version_moves_nothing(store).await;
    waiting::holds(store).await;
}

async fn a_job_is_added_once_for_each_key_and_belongs_to_its_tenant(store: &dyn Store) {
    let keyed = |of: &str| NewJob {
        key: Some([7; 32]),
        callback: Some(vec![9]),
        expires_at_ms: Some(now_ms() + 3_600_000),
        priority: Priority::Batch,
        job_type: JobType::Batch,
        ..new_job(of)
    };
    let racing = join_all((0..20).map(|_| store.add_job(keyed("once")))).await;
    let racing: Vec<Added> = racing.into_iter().map(Result::unwrap).collect();
    let new: Vec<&Job> = racing
        .iter()
        .filter_map(|a| if let Added::New(job) = a { Some(job) } else { None })
        .collect();
    assert_eq!(new.len(), 1, "{racing:?}");
    let first = new[0].clone();
    let known = |a: &&Added| matches!(a, Added::Known(job) if *job == first);
    assert_eq!(racing.iter().filter(known).count(), 19);
    assert_eq!((first.state, first.version, first.attempts), (JobState::Queued, 1, 0));
    assert_eq!((first.callback.clone(), first.has_payload), (Some(vec![9]), true));
    assert_eq!(job(store, &first.of).await, first);
    assert!(
        matches!(store.add_job(keyed("twice")).await.unwrap(), Added::New(_)),
        "another tenant"
    );
    let foreign = JobKey { tenant: tenant("twice"), id: first.of.id };
    assert_eq!(store.job(foreign.clone()).await, Ok(None));
    assert_eq!(store.transitions(foreign.clone(), 0, 10).await, Ok(Vec::new()));
    assert_eq!(store.move_job(wish(&foreign, Deed::Cancel)).await, Ok(Moved::Missing));
}

/// A new job of `of`, the only one that waits, brought to `state`; its last fence.
async fn standing(store: &dyn Store, of: &str, by: WorkerId, state: JobState) -> (JobKey, u64) {
    let key = added(store, new_job(of)).await.of;
    let deed = async |deed| store.move_job(wish(&key, deed)).await.unwrap();
    let taken = async || take(store, by, of, 9).await.pop().unwrap().lease;
    let fence = match state {
        JobState::Queued => 0,
        JobState::Running => taken().await.fence,
        JobState::Paused => {
            deed(Deed::Pause).await;
            0
        }
        JobState::Cancelled => {
            deed(Deed::Cancel).await;
            0
        }
        JobState::Completed => {
            assert!(store.end_attempt(taken().await, Ending::Completed(vec![1])).await.unwrap());
            1
        }
        JobState::Failed => {
            let failed = Ending::Failed(error("X"));
            assert!(store.end_attempt(taken().await, failed).await.unwrap());
            1
        }
    };
    assert_eq!(job(store, &key).await.state, state);
    (key, fence)
}

async fn of_all_36_pairs_exactly_the_legal_ones_move(store: &dyn Store) {
    let (by, mut tried, mut moved) = (entered(store).await, 0, 0);
    for from in JobState::ALL {
        for to in JobState::ALL {
            tried += 1;
            let (key, fence) = standing(store, "pairs", by, *from).await;
            // Another completion than the one that may be there.
            let lease = Lease { of: key.clone(), fence: fence + u64::from(from.is_terminal()) };
            match to {
                JobState::Running => assert!(take(store, by, "pairs", 9).await.len() <= 1),
                JobState::Completed => {
                    store.end_attempt(lease, Ending::Completed(vec![2])).await.unwrap();
                }
                JobState::Failed if *from == JobState::Running => {
                    store.end_attempt(lease, Ending::Failed(error("Y"))).await.unwrap();
                }
                JobState::Queued if *from == JobState::Running => {
                    let outside = store.move_job(wish(&key, Deed::Resume)).await.unwrap();
                    assert!(matches!(outside, Moved::Illegal(_)), "{outside:?}");
                    let again = Ending::Again(error("Z"), Duration::ZERO);
                    store.end_attempt(lease, again).await.unwrap();
                }
                JobState::Failed => {
                    // Nothing else fails what does not run than its expiry.
                    let expiring = NewJob { expires_at_ms: Some(1), ..new_job("pairs-late") };
                    let late = added(store, expiring).await.of;
                    if *from == JobState::Paused {
                        store.move_job(wish(&late, Deed::Pause)).await.unwrap();
                    }
                    if !from.is_terminal() {
                        assert!(store.expire_jobs(100).await.unwrap() >= 1);
                        assert_eq!(job(store, &late).await.state, JobState::Failed);
                        moved += 1;
                    }
                    assert_eq!(job(store, &key).await.state, *from);
                    drain(store, &key).await;
                    continue;
                }
                JobState::Queued | JobState::Paused | JobState::Cancelled => {
                    let deed = match (from, to) {
                        (JobState::Paused, JobState::Queued) => Deed::Resume,
                        _ => deed(*to),
                    };
                    let answer = store.move_job(wish(&key, deed)).await.unwrap();
                    let allowed = from.allowed(Mover::Caller);
                    match answer {
                        Moved::Done(job) => assert_eq!(job.state, *to),
                        Moved::Illegal(no) => {
                            assert_eq!((no.from, no.to, no.allowed), (*from, *to, allowed));
                        }
                        other @ (Moved::Missing | Moved::Changed(_) | Moved::Erased) => {
                            panic!("{from:?} {to:?}: {other:?}")
                        }
                    }
                }
            }
            let now = job(store, &key).await;
            let legal = from.moved(*to, Mover::Service).is_ok();
            assert_eq!(now.state, if legal { *to } else { *from }, "{from:?} to {to:?}");
            let moves = store.transitions(key.clone(), 0, 100).await.unwrap();
            assert_eq!(moves.len() as u64, now.version, "{from:?} to {to:?}");
            moved += u32::from(legal);
            drain(store, &key).await;
        }
    }
    assert_eq!((tried, moved), (36, 13));
    store.leave(by).await.unwrap();
}

/// So that the next one is the only one that waits.
async fn drain(store: &dyn Store, of: &JobKey) {
    store.move_job(wish(of, Deed::Cancel)).await.unwrap();
}

async fn two_workers_take_each_of_200_jobs_once(store: &dyn Store) {
    let all: BTreeSet<JobId> = join_all((0..200).map(|_| added(store, new_job("race"))))
        .await
        .into_iter()
        .map(|j| j.of.id)
        .collect();
    assert_eq!(all.len(), 200);
    let workers = [entered(store).await, entered(store).await];
    let mut got: BTreeMap<JobId, Vec<WorkerId>> = BTreeMap::new();
    loop {
        let both = join_all(workers.iter().map(|by| take(store, *by, "race", 7))).await;
        if both.iter().all(Vec::is_empty) {
            break;
        }
        for (by, taken) in workers.iter().zip(both) {
            for one in taken {
                assert_eq!((one.payload, one.lease.fence), (b"sealed".to_vec(), 1));
                got.entry(one.job.of.id).or_default().push(*by);
            }
        }
    }
    assert!(got.values().all(|takers| takers.len() == 1), "each once");
    assert_eq!(got.keys().copied().collect::<BTreeSet<_>>(), all);
    for by in workers {
        let held = store.beat(by).await.unwrap().unwrap();
        assert_eq!(held.len(), got.values().filter(|takers| takers[0] == by).count());
        for lease in held {
            assert!(store.end_attempt(lease, Ending::Completed(vec![])).await.unwrap());
        }
        assert_eq!(store.beat(by).await, Ok(Some(Vec::new())));
        store.leave(by).await.unwrap();
    }
}

async fn whoever_was_buried_changes_nothing_and_there_is_one_completion(store: &dyn Store) {
    let (dead, heir) = (entered(store).await, entered(store).await);
    let key = added(store, new_job("fence")).await.of;
    let old = take(store, dead, "fence", 1).await.pop().unwrap().lease;
    assert_eq!(store.recover_jobs(100).await, Ok(0), "its worker lives");
    store.beat(dead).await.unwrap();
    assert_eq!(store.bury(dead, 0).await, Ok(false), "it was heard of since");
    assert_eq!(store.bury(dead, 1).await, Ok(true));
    assert_eq!(store.bury(dead, 1).await, Ok(false));
    assert_eq!(store.beat(dead).await, Ok(None));
    assert!(take(store, dead, "fence", 1).await.is_empty(), "it must enter under another name");
    assert!(store.recover_jobs(100).await.unwrap() >= 1);
    let new = take(store, heir, "fence", 1).await.pop().unwrap().lease;
    assert!(new.fence > old.fence);
    for late in [
        Ending::Completed(vec![1]),
        Ending::Failed(error("X")),
        Ending::Again(error("X"), Duration::ZERO),
        Ending::HandedBack,
        Ending::PutOff(error("X"), Duration::ZERO),
    ] {
        assert_eq!(store.end_attempt(old.clone(), late).await, Ok(false));
    }
    assert_eq!(store.progress(old.clone(), 0.9).await, Ok(false));
    assert_eq!(store.progress(new.clone(), 0.5).await, Ok(true));
    assert_eq!(store.progress(new.clone(), 0.25).await, Ok(true));
    assert!((job(store, &key).await.progress - 0.5).abs() < 1e-9, "it never falls");
    let twice =
        join_all((0..2).map(|_| store.end_attempt(new.clone(), Ending::Completed(vec![2]))));
    assert_eq!(twice.await, [Ok(true), Ok(true)], "whoever did it may say so again");
    assert_eq!(store.end_attempt(old, Ending::Completed(vec![1])).await, Ok(false));
    assert_eq!(store.job_result(key.clone()).await, Ok(Some(vec![2])));
    let ends = told(store, &key).await;
    let completed = |t: &&Told| t.event.event_type == EventType::JobCompleted;
    assert_eq!(ends.iter().filter(completed).count(), 1);
    assert!(!job(store, &key).await.has_payload, "content goes with the end");
    store.leave(heir).await.unwrap();
}

async fn every_move_is_logged_and_told_once_in_order(store: &dyn Store) {
    let by = entered(store).await;
    let key = added(store, NewJob { callback: Some(vec![1]), ..new_job("log") }).await.of;
    let lease = take(store, by, "log", 1).await.pop().unwrap().lease;
    store.end_attempt(lease, Ending::Again(error("SLOW"), Duration::ZERO)).await.unwrap();
    let lease = take(store, by, "log", 1).await.pop().unwrap().lease;
    store.end_attempt(lease, Ending::Completed(vec![1])).await.unwrap();
    let moves = store.transitions(key.clone(), 0, 100).await.unwrap();
    let states: Vec<_> = moves.iter().map(|m| (m.number, m.from, m.to)).collect();
    use JobState::{Completed, Queued, Running};
    assert_eq!(
        states,
        [
            (1, None, Queued),
            (2, Some(Queued), Running),
            (3, Some(Running), Queued),
            (4, Some(Queued), Running),
            (5, Some(Running), Completed),
        ]
    );
    assert_eq!(store.transitions(key.clone(), 3, 1).await.unwrap()[..], moves[3..4]);
    let reasons: Vec<&str> = moves.iter().map(|m| m.reason.as_str()).collect();
    assert_eq!(reasons, ["add", "take", "retried", "take", "completed"]);
    assert_eq!((moves[0].actor.as_str(), &moves[1].actor), ("key-1", &by.to_string()));
    let told = told(store, &key).await;
    let ids: Vec<_> = told.iter().map(|t| t.event.id).collect();
    assert_eq!(ids, moves.iter().map(|m| m.event_id(key.id)).collect::<Vec<_>>());
    assert_eq!(told[2].event.data["error_code"], "SLOW");
    let tries = store.attempts(key.clone(), 0, 100).await.unwrap();
    let ends: Vec<_> = tries
        .iter()
        .map(|a| (a.fence, a.number, a.worker, a.ended.as_ref().unwrap().how))
        .collect();
    assert_eq!(ends, [(1, 1, by, AttemptEnd::Retried), (2, 2, by, AttemptEnd::Completed)]);
    assert_eq!(tries[0].ended.as_ref().unwrap().error, Some(error("SLOW")));
    assert_eq!(job(store, &key).await.error, None, "it ended well");
    store.leave(by).await.unwrap();
}

async fn a_pause_and_a_hand_back_cost_no_attempt_and_silence_does(store: &dyn Store) {
    let by = entered(store).await;
    let key = added(store, new_job("tries")).await.of;
    let attempts = async || job(store, &key).await.attempts;
    for deed in [Deed::Pause, Deed::Resume] {
        if deed == Deed::Pause {
            take(store, by, "tries", 1).await;
            assert_eq!(attempts().await, 1);
        }
        assert!(matches!(store.move_job(wish(&key, deed)).await, Ok(Moved::Done(_))));
        assert_eq!(attempts().await, 0);
    }
    let lease = take(store, by, "tries", 1).await.pop().unwrap().lease;
    assert_eq!(store.end_attempt(lease, Ending::HandedBack).await, Ok(true));
    assert_eq!(attempts().await, 0);
    let lease = take(store, by, "tries", 1).await.pop().unwrap().lease;
    let rest = Duration::from_millis(300);
    let put_off = Ending::PutOff(error("SEALED"), rest);
    assert_eq!(store.end_attempt(lease, put_off).await, Ok(true));
    assert_eq!((attempts().await, job(store, &key).await.error), (0, Some(error("SEALED"))));
    assert!(take(store, by, "tries", 1).await.is_empty(), "it rests");
    tokio::time::sleep(rest).await;
    for attempt in 1..=3 {
        let silent = entered(store).await;
        assert_eq!(take(store, silent, "tries", 1).await.len(), 1);
        store.leave(silent).await.unwrap();
        assert!(store.recover_jobs(100).await.unwrap() >= 1);
        let now = job(store, &key).await;
        let state = if attempt == 3 { JobState::Failed } else { JobState::Queued };
        let told = format!("the worker stopped without an answer at try {attempt} of 3");
        let found = now.error.map(|error| error.message);
        assert_eq!((now.attempts, now.state, found), (attempt, state, Some(told)));
    }
    let how: Vec<_> = store.attempts(key.clone(), 0, 100).await.unwrap();
    let how: Vec<_> = how.into_iter().map(|a| (a.fence, a.number, a.ended.unwrap().how)).collect();
    use AttemptEnd::{HandedBack, Lost, Paused};
    let ends = [
        (1, 1, Paused),
        (2, 1, HandedBack),
        (3, 1, HandedBack),
        (4, 1, Lost),
        (5, 2, Lost),
        (6, 3, Lost),
    ];
    assert_eq!(how, ends);
    store.leave(by).await.unwrap();
}

async fn a_dead_letter_is_requeued_with_all_its_attempts_or_discarded(store: &dyn Store) {
    let by = entered(store).await;
    let (key, _) = standing(store, "letters", by, JobState::Failed).await;
    let (gone, _) = standing(store, "letters", by, JobState::Failed).await;
    let letters = async |of: Option<&str>| -> Vec<JobId> {
        let found = store.dead_letters(of.map(tenant), ALL).await.unwrap();
        found.into_iter().map(|row| row.value.of.id).collect()
    };
    assert_eq!(letters(Some("letters")).await, [gone.id, key.id]);
    assert!(letters(Some("other")).await.is_empty());
    assert!(letters(None).await.contains(&gone.id), "everyone's");
    let audit = || entry("job/x", Some("letters"));
    assert_eq!(store.discard(gone.clone(), audit()).await, Ok(true));
    assert_eq!(store.discard(gone.clone(), audit()).await, Ok(false));
    assert_eq!(store.move_job(wish(&gone, Deed::Requeue)).await, Ok(Moved::Erased));
    assert_eq!(letters(Some("letters")).await, [key.id]);
    let wish = Move { audit: Some(audit()), ..wish(&key, Deed::Requeue) };
    let Moved::Done(again) = store.move_job(wish).await.unwrap() else { panic!() };
    assert_eq!((again.state, again.attempts, again.has_payload), (JobState::Queued, 0, true));
    let acts = store.entries(Some(tenant("letters")), ALL).await.unwrap();
    assert_eq!(acts.len(), 2, "one for each change, none for what changed nothing");
    let counts: JobCounts = store.job_counts().await.unwrap();
    assert!(counts.queued[2] >= 1, "{counts:?}");
    drain(store, &key).await;
    store.leave(by).await.unwrap();
}

async fn resume_is_for_what_was_paused_and_requeue_for_what_failed(store: &dyn Store) {
    let by = entered(store).await;
    for (from, deed) in [(JobState::Paused, Deed::Requeue), (JobState::Failed, Deed::Resume)] {
        let (key, _) = standing(store, "meaning", by, from).await;
        let refused = store.move_job(wish(&key, deed)).await.unwrap();
        let Moved::Illegal(no) = refused else { panic!("{refused:?}") };
        assert_eq!((no.from, no.to), (from, JobState::Queued));
        assert_eq!(job(store, &key).await.state, from);
        drain(store, &key).await;
    }
    store.leave(by).await.unwrap();
}

async fn a_wrong_version_moves_nothing(store: &dyn Store) {
    let key = added(store, new_job("versions")).await.of;
    let at = |version| Move { version: Some(version), ..wish(&key, Deed::Pause) };
    for wrong in [0, 2] {
        let answer = store.move_job(at(wrong)).await.unwrap();
        assert!(matches!(&answer, Moved::Changed(job) if job.version == 1), "{answer:?}");
    }
    let racing = join_all((0..10).map(|_| store.move_job(at(1)))).await;
    let done = racing.iter().filter(|r| matches!(r, Ok(Moved::Done(_)))).count();
    assert_eq!(done, 1, "{racing:?}");
    assert_eq!(job(store, &key).await.version, 2);
}

/// A row of `of` in each table of jobs.
pub(in crate::store) async fn all_tables(store: &dyn Store, of: &str) {
    let by = entered(store).await;
    standing(store, of, by, JobState::Completed).await;
    store.leave(by).await.unwrap();
}

/// On a store that keeps no event until it is mended.
pub(in crate::store) async fn a_move_and_its_event_are_one(
    store: &dyn Store,
    mended: BoxFuture<'_, ()>,
) {
    assert!(store.add_job(new_job("whole")).await.is_err());
    assert_eq!(store.jobs(tenant("whole"), None, ALL).await, Ok(Vec::new()));
    mended.await;
    let key = added(store, new_job("whole")).await.of;
    assert_eq!(told(store, &key).await.len(), 1);
    assert_eq!(store.transitions(key, 0, 10).await.unwrap().len(), 1);
}
