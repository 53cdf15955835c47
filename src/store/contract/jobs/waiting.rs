//! What waits, what may be begun, and who sees it.

use super::*;
use crate::store::{Expected, ObjectKey, Page};

pub(super) async fn holds(store: &dyn Store) {
    what_waits_is_told_by_tenant_and_round_and_taken_in_order(store).await;
    what_must_not_be_begun_yet_or_any_more_is_not(store).await;
    a_tenant_makes_no_more_jobs_a_day_than_it_may(store).await;
    no_more_jobs_of_a_tenant_run_at_once_than_may_whoever_takes_them(store).await;
    pages_of_jobs_show_one_state(store).await;
    a_request_that_became_a_job_runs_under_its_worker(store).await;
    all_jobs_of_a_tenant_fail_whoever_has_them_and_nobody_elses(store).await;
    what_a_deleted_tenant_leaves_is_found_and_erased(store).await;
    where_an_end_was_told_is_forgotten_unless_there_may_be_another(store).await;
    what_waits_again_has_no_progress(store).await;
}

async fn what_waits_is_told_by_tenant_and_round_and_taken_in_order(store: &dyn Store) {
    let by = entered(store).await;
    let mut order = Vec::new();
    for (of, cost) in [("wait-a", 1), ("wait-b", 2), ("wait-a", 3), ("wait-c", 4), ("wait-a", 5)] {
        let job = NewJob { cost, priority: Priority::High, ..new_job(of) };
        order.push(added(store, job).await.of);
    }
    let waiting = async |each, most, after: Option<&str>| -> Vec<(String, Vec<u32>)> {
        let found = store.waiting(each, most, after.map(tenant)).await.unwrap();
        let high = found.into_iter().filter(|w| w.priority == Priority::High);
        high.map(|w| (w.tenant.to_string(), w.costs)).collect()
    };
    let row = |of: &str, costs: &[u32]| (of.to_owned(), costs.to_vec());
    let (a, b, c) = (row("wait-a", &[1, 3]), row("wait-b", &[2]), row("wait-c", &[4]));
    assert_eq!(waiting(2, 9, None).await, [a.clone(), b.clone(), c.clone()]);
    assert_eq!(waiting(2, 2, Some("wait-a")).await, [b.clone(), c.clone()]);
    assert_eq!(waiting(2, 2, Some("wait-b")).await, [c, a], "round from the first");
    let pick =
        |of: &str, most| Pick { tenant: tenant(of), priority: Priority::High, most, at_once: None };
    let taken = store.take(by, vec![pick("wait-a", 2), pick("wait-b", 5)]).await.unwrap();
    let ids: Vec<_> = taken.iter().map(|one| one.job.of.clone()).collect();
    assert_eq!(ids, [order[0].clone(), order[2].clone(), order[1].clone()]);
    let found = store.waiting(9, 9, None).await.unwrap();
    let a = found.iter().find(|w| w.tenant == tenant("wait-a")).unwrap();
    assert_eq!((a.running, &a.costs[..]), (2, &[5][..]));
    for one in taken {
        store.end_attempt(one.lease, Ending::Completed(vec![])).await.unwrap();
    }
    for of in &order {
        drain(store, of).await;
    }
    store.leave(by).await.unwrap();
}

async fn what_must_not_be_begun_yet_or_any_more_is_not(store: &dyn Store) {
    let by = entered(store).await;
    let hour = 3_600_000;
    let later = NewJob { not_before_ms: Some(now_ms() + hour), ..new_job("dates") };
    let late = NewJob { expires_at_ms: Some(now_ms() - hour), ..new_job("dates") };
    let (later, late) = (added(store, later).await.of, added(store, late).await.of);
    let soon = added(store, NewJob { not_before_ms: Some(now_ms() - 1), ..new_job("dates") }).await;
    let taken = take(store, by, "dates", 9).await;
    assert_eq!(taken.iter().map(|one| one.job.of.clone()).collect::<Vec<_>>(), [soon.of]);
    let again = Ending::Again(error("X"), Duration::from_secs(60));
    store.end_attempt(taken[0].lease.clone(), again).await.unwrap();
    assert!(take(store, by, "dates", 9).await.is_empty(), "it rests");
    let found = store.waiting(9, 1000, None).await.unwrap();
    let resting = found.iter().find(|w| w.tenant == tenant("dates")).unwrap();
    assert!(resting.costs.is_empty(), "told of, or whoever looks cannot know where it stands");
    store.expire_jobs(100).await.unwrap();
    let expired = job(store, &late).await;
    assert_eq!((expired.state, expired.has_payload), (JobState::Failed, false));
    assert_eq!(store.move_job(wish(&late, Deed::Requeue)).await, Ok(Moved::Erased));
    assert_eq!(job(store, &later).await.state, JobState::Queued);
    store.leave(by).await.unwrap();
}

async fn a_tenant_makes_no_more_jobs_a_day_than_it_may(store: &dyn Store) {
    let most = |of| NewJob { most_a_day: Some(5), ..new_job(of) };
    let racing = join_all((0..12).map(|_| store.add_job(most("daily")))).await;
    let made = racing.iter().filter(|r| matches!(r, Ok(Added::New(_)))).count();
    let refused = racing.iter().filter(|r| matches!(r, Ok(Added::QuotaUsed))).count();
    assert_eq!((made, refused), (5, 7), "{racing:?}");
    assert!(matches!(store.add_job(most("daily-too")).await, Ok(Added::New(_))));
}

async fn no_more_jobs_of_a_tenant_run_at_once_than_may_whoever_takes_them(store: &dyn Store) {
    let workers = join_all((0..4).map(|_| entered(store))).await;
    for priority in [Priority::High, Priority::Low] {
        for _ in 0..6 {
            added(store, NewJob { priority, ..new_job("at-once") }).await;
        }
    }
    let pick = |priority, at_once| Pick { tenant: tenant("at-once"), priority, most: 2, at_once };
    let both = |most| vec![pick(Priority::High, Some(most)), pick(Priority::Low, Some(most))];
    let race = async |most| -> Vec<Taken> {
        let all = join_all(workers.iter().map(|by| store.take(*by, both(most)))).await;
        all.into_iter().flat_map(Result::unwrap).collect()
    };
    let mut running = race(3).await;
    assert_eq!(running.len(), 3, "of four workers that each found room for two of each");
    assert!(race(3).await.is_empty(), "there is no room");
    let ended = running.pop().unwrap();
    store.end_attempt(ended.lease, Ending::Completed(vec![])).await.unwrap();
    running.extend(race(3).await);
    assert_eq!(running.len(), 3);
    assert!(race(1).await.is_empty(), "more run than may by now");
    running.extend(store.take(workers[0], vec![pick(Priority::High, None)]).await.unwrap());
    assert_eq!(running.len(), 5, "who has no limit waits for nobody");
    for one in running {
        store.end_attempt(one.lease, Ending::Completed(vec![])).await.unwrap();
    }
    for row in store.jobs(tenant("at-once"), Some(JobState::Queued), ALL).await.unwrap() {
        drain(store, &row.value.of).await;
    }
    for by in workers {
        store.leave(by).await.unwrap();
    }
}

async fn pages_of_jobs_show_one_state(store: &dyn Store) {
    let mut all = Vec::new();
    for n in 0..5 {
        let key = added(store, new_job("pages-of-jobs")).await.of;
        if n % 2 == 0 {
            drain(store, &key).await;
        }
        all.insert(0, key);
    }
    let list = async |state, page| -> Vec<JobKey> {
        let rows = store.jobs(tenant("pages-of-jobs"), state, page).await.unwrap();
        rows.into_iter().map(|row| row.value.of).collect()
    };
    assert_eq!(list(None, ALL).await, all);
    let cancelled = [all[0].clone(), all[2].clone(), all[4].clone()];
    assert_eq!(list(Some(JobState::Cancelled), ALL).await, cancelled);
    let first = Page { limit: 2, before: None };
    let rows = store.jobs(tenant("pages-of-jobs"), None, first).await.unwrap();
    let next = Page { limit: 2, before: rows.last().map(|row| row.sequence) };
    assert_eq!(list(None, next).await, all[2..4]);
}

async fn a_request_that_became_a_job_runs_under_its_worker(store: &dyn Store) {
    let by = entered(store).await;
    let begun = added(store, NewJob { begun_by: Some(by), ..new_job("begun") }).await;
    assert_eq!((begun.state, begun.version, begun.attempts), (JobState::Running, 2, 1));
    assert!(take(store, by, "begun", 9).await.is_empty());
    let lease = Lease { of: begun.of.clone(), fence: 1 };
    assert_eq!(store.beat(by).await, Ok(Some(vec![lease.clone()])));
    assert_eq!(store.end_attempt(lease, Ending::Completed(vec![5])).await, Ok(true));
    store.leave(by).await.unwrap();
    let late = added(store, NewJob { begun_by: Some(by), ..new_job("begun") }).await;
    assert_eq!(late.state, JobState::Queued, "a worker that is gone begins nothing");
    drain(store, &late.of).await;
}

async fn all_jobs_of_a_tenant_fail_whoever_has_them_and_nobody_elses(store: &dyn Store) {
    let by = entered(store).await;
    let other = added(store, new_job("stays")).await.of;
    let running = added(store, new_job("goes")).await.of;
    let lease = take(store, by, "goes", 1).await.pop().unwrap().lease;
    let (queued, paused) =
        (added(store, new_job("goes")).await.of, added(store, new_job("goes")).await.of);
    store.move_job(wish(&paused, Deed::Pause)).await.unwrap();
    let cancelled = added(store, new_job("goes")).await.of;
    drain(store, &cancelled).await;
    let fail = async || store.fail_jobs(tenant("goes"), JobError::orphaned(), 2).await.unwrap();
    assert_eq!((fail().await, fail().await, fail().await), (2, 1, 0));
    for of in [&running, &queued, &paused] {
        let job = job(store, of).await;
        assert_eq!((job.state, job.has_payload), (JobState::Failed, false), "{job:?}");
        assert_eq!(job.error, Some(JobError::orphaned()));
        let last = told(store, of).await.pop().unwrap().event;
        assert_eq!(last.event_type, EventType::JobFailed);
        assert_eq!(store.move_job(wish(of, Deed::Requeue)).await, Ok(Moved::Erased));
    }
    let tries = store.attempts(running, 0, 9).await.unwrap();
    assert_eq!(tries[0].ended.as_ref().map(|ended| ended.how), Some(AttemptEnd::Failed));
    assert_eq!(store.beat(by).await, Ok(Some(Vec::new())), "nobody goes on with it");
    assert_eq!(store.end_attempt(lease, Ending::Completed(vec![1])).await, Ok(false));
    assert_eq!(job(store, &cancelled).await.state, JobState::Cancelled);
    assert_eq!(job(store, &other).await.state, JobState::Queued);
    drain(store, &other).await;
    store.leave(by).await.unwrap();
}

async fn what_a_deleted_tenant_leaves_is_found_and_erased(store: &dyn Store) {
    let by = entered(store).await;
    let letter = added(store, new_job("orphan")).await.of;
    let lease = take(store, by, "orphan", 1).await.pop().unwrap().lease;
    store.end_attempt(lease, Ending::Failed(error("X"))).await.unwrap();
    assert!(job(store, &letter).await.has_payload, "a dead letter");
    let orphan = tenant("orphan");
    let row =
        ObjectKey { kind: "tenant".into(), tenant: Some(orphan.clone()), name: orphan.to_string() };
    let orphans = async || store.orphans("tenant").await.unwrap();
    assert_eq!(orphans().await, [], "nothing of it was stored");
    store.put(row.clone(), "{}".into(), Expected::Absent).await.unwrap();
    assert_eq!(orphans().await, []);
    store.delete(row, Expected::Version(1)).await.unwrap();
    assert_eq!(orphans().await, [tenant("orphan")]);
    assert_eq!(store.orphans("quota").await.unwrap(), []);
    let fail = async || store.fail_jobs(orphan.clone(), JobError::orphaned(), 9).await.unwrap();
    assert_eq!((fail().await, fail().await), (1, 0));
    let erased = job(store, &letter).await;
    assert_eq!((erased.has_payload, erased.error), (false, Some(error("X"))), "why it failed");
    assert_eq!(store.move_job(wish(&letter, Deed::Requeue)).await, Ok(Moved::Erased));
    assert_eq!(orphans().await, []);
    let late = added(store, new_job("orphan")).await.of;
    assert_eq!(orphans().await, [tenant("orphan")]);
    assert_eq!(fail().await, 1);
    assert_eq!(job(store, &late).await.error, Some(JobError::orphaned()));
    store.leave(by).await.unwrap();
}

async fn where_an_end_was_told_is_forgotten_unless_there_may_be_another(store: &dyn Store) {
    let by = entered(store).await;
    let new = || NewJob { callback: Some(vec![9]), ..new_job("told") };
    let forget = async |of: &JobKey| {
        let Job { version, .. } = job(store, of).await;
        assert_eq!(store.forget_callback(of.clone(), version - 1).await, Ok(false), "it has moved");
        let forgotten = store.forget_callback(of.clone(), version).await.unwrap();
        assert_eq!(job(store, of).await.callback.is_none(), forgotten);
        forgotten
    };
    let end = async |ending: Ending| {
        let lease = take(store, by, "told", 1).await.pop().unwrap().lease;
        assert_eq!(store.end_attempt(lease, ending).await, Ok(true));
    };
    let done = added(store, new()).await.of;
    assert!(!forget(&done).await, "it is at no end");
    end(Ending::Completed(vec![1])).await;
    let of_another = JobKey { tenant: tenant("else"), id: done.id };
    let version = job(store, &done).await.version;
    assert_eq!(store.forget_callback(of_another, version).await, Ok(false));
    assert!(forget(&done).await);
    assert_eq!(store.forget_callback(done, version).await, Ok(false), "again");
    let letter = added(store, new()).await.of;
    end(Ending::Failed(error("X"))).await;
    assert!(!forget(&letter).await, "a dead letter may be tried again");
    store.move_job(wish(&letter, Deed::Requeue)).await.unwrap();
    end(Ending::Completed(vec![1])).await;
    assert!(!forget(&letter).await, "its first end may still be told of");
    store.leave(by).await.unwrap();
}

async fn what_waits_again_has_no_progress(store: &dyn Store) {
    let by = entered(store).await;
    let of = added(store, new_job("progress")).await.of;
    let taken = async || {
        let lease = take(store, by, "progress", 1).await.pop().unwrap().lease;
        assert_eq!(store.progress(lease.clone(), 0.5).await, Ok(true));
        lease
    };
    let done = async || job(store, &of).await.progress;
    taken().await;
    assert!(done().await > 0.4);
    store.move_job(wish(&of, Deed::Pause)).await.unwrap();
    assert!(done().await < 0.001, "paused");
    store.move_job(wish(&of, Deed::Resume)).await.unwrap();
    let lease = taken().await;
    store.end_attempt(lease, Ending::Again(error("X"), Duration::ZERO)).await.unwrap();
    assert!(done().await < 0.001, "queued again");
    let lease = taken().await;
    store.end_attempt(lease, Ending::HandedBack).await.unwrap();
    assert!(done().await < 0.001, "handed back");
    drain(store, &of).await;
    store.leave(by).await.unwrap();
}
