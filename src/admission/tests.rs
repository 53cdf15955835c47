//! Limits held against each other on a clock that the tests set.

use std::collections::BTreeMap;
use std::time::Instant as Wall;

use super::*;
use crate::operations::{Operation, OperationView, Operations};
use crate::store::{Guarded, Place as At, Sqlite, SqliteOptions};

fn id(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn moment(at: Instant, seconds: u64) -> Moment {
    Moment { at: at + Duration::from_secs(seconds), unix_s: 1_000 * HOUR_S + seconds }
}

fn admission(limits: &RateLimit, start: Instant) -> Admission {
    Admission::new(
        (limits, &Limits::default()),
        Arc::new(Metrics::new(&[], "test").unwrap()),
        start,
    )
}

fn rates(of: &[(&str, u32)]) -> BTreeMap<String, Rate> {
    let rate = |burst: u32| Rate { per_minute: 60, burst: Some(burst) };
    of.iter().map(|(name, burst)| ((*name).to_owned(), rate(*burst))).collect()
}

fn tier(requests_per_hour: u32, concurrent: u32) -> Tier {
    Tier {
        requests_per_hour: Some(requests_per_hour),
        jobs_per_day: None,
        concurrent: Some(concurrent),
        weight: 1.0,
    }
}

const ROUTE: (&str, &str) = ("POST", "/orchestrate");

fn asks<'a>(tenant: &'a TenantId, key: Option<&'a str>) -> Entrant<'a> {
    Entrant { tenant: Some((tenant, None)), key, route: ROUTE }
}

#[test]
fn a_tenant_over_its_rate_takes_nothing_from_another() {
    let start = Instant::now();
    let admission = admission(&RateLimit::default(), start);
    let (a, b) = (id("a"), id("b"));
    let passed = |tenant: &TenantId, n: usize| {
        (0..n).filter(|_| admission.enter(asks(tenant, None), moment(start, 0)).1.is_ok()).count()
    };
    assert_eq!(passed(&a, 2_000), 100);
    assert_eq!(passed(&b, 100), 100);
    let (level, refused) = admission.enter(asks(&a, None), moment(start, 0));
    let refused = refused.unwrap_err();
    assert_eq!((refused.error.code, refused.wait), (Code::RateLimited, Duration::from_millis(60)));
    assert_eq!(level.unwrap().left, 0);
    assert_eq!(admission.spent(&a, moment(start, 0)).refused, 1_901);
    assert_eq!(admission.spent(&b, moment(start, 0)).refused, 0);
    assert!(admission.enter(asks(&a, None), moment(start, 1)).1.is_ok());
}

#[test]
fn a_files_rate_a_keys_and_a_routes_hold_beside_each_other_and_a_refusal_costs_none_of_them() {
    let start = Instant::now();
    let limits = RateLimit {
        keys: rates(&[("orch_slow", 2)]),
        routes: rates(&[("POST /orchestrate", 5)]),
        ..RateLimit::default()
    };
    let admission = admission(&limits, start);
    let (a, now) = (id("a"), moment(start, 0));
    let passed = |who: Entrant<'_>| (0..50).filter(|_| admission.enter(who, now).1.is_ok()).count();
    assert_eq!(passed(asks(&a, Some("orch_slow"))), 2);
    // What the key's bucket refused was not taken from the route's.
    assert_eq!(passed(asks(&a, Some("orch_other"))), 3);
    assert_eq!(passed(Entrant { route: ("GET", "/orchestrate"), ..asks(&a, None) }), 50);
    let own = Some(Rate { per_minute: 6, burst: Some(3) });
    let b = id("b");
    let of_file = Entrant { tenant: Some((&b, own)), key: None, route: ("GET", "/x") };
    assert_eq!(passed(of_file), 3);
    assert_eq!(admission.enter(of_file, moment(start, 10)).0.unwrap().left, 0);
    let nobody = Entrant { tenant: None, key: None, route: ROUTE };
    assert_eq!((passed(nobody), admission.enter(nobody, now).0), (50, None));
}

#[test]
fn many_pass_every_limit_or_cost_nothing_and_whoever_waits_as_told_gets_them() {
    let start = Instant::now();
    let limits = RateLimit { keys: rates(&[("orch_slow", 20)]), ..RateLimit::default() };
    let admission = admission(&limits, start);
    let a = id("a");
    // The guard has let the request in that brings them.
    let spending = |requests| Spending { requests, tenant: requests - 1, key: requests - 1 };
    let post = |requests, key, most, at: Moment| {
        admission.enter(asks(&a, key), at).1?;
        let spending = (spending(requests), at);
        admission.spend(asks(&a, key), &tier(most, 1), spending).1.map(|counted| counted.burst)
    };
    let now = moment(start, 0);
    assert!(!post(100, None, 200, now).unwrap());
    let used = || admission.spent(&a, now).used;
    let later = |ms: u64| Moment { at: start + Duration::from_millis(ms), ..now };
    let refused = post(100, None, 200, later(120)).unwrap_err();
    assert_eq!((refused.error.code, used()), (Code::RateLimited, 100), "no quota is spent");
    // Two tokens were there, the request took one; a token comes every 60 ms.
    assert_eq!(refused.wait, Duration::from_millis(99 * 60));
    let then = 120 + 99 * 60;
    assert!(!post(100, None, 200, later(then)).unwrap(), "it waited as it was told");
    assert_eq!(used(), 200);
    let over = post(50, None, 200, later(then + 6_000)).unwrap_err();
    assert_eq!((over.error.code, used()), (Code::QuotaExceeded, 200));
    // A token of the request itself is gone, none of what it brought.
    let level = admission.enter(asks(&a, None), later(then + 6_000)).0.unwrap();
    assert_eq!(level.left, 98);
    for (requests, key, most) in
        [(101, None, 1_000), (21, Some("orch_slow"), 1_000), (100, None, 80)]
    {
        let never = post(requests, key, most, later(then + 20_000)).unwrap_err();
        assert_eq!((never.error.code, used()), (Code::BatchTooLarge, 200), "{requests}");
    }
    admission.unspend(asks(&a, None), (spending(100), now));
    assert_eq!(used(), 100);
}

#[test]
fn quotas_and_places_are_the_tenants_own_and_say_when_to_come_back() {
    let start = Instant::now();
    let admission = admission(&RateLimit::default(), start);
    let (a, b, now) = (id("a"), id("b"), moment(start, 600));
    let count = |tenant: &TenantId, at: Moment| admission.count(tenant, &tier(5, 2), at);
    let burst: Vec<_> = (0..6).map(|_| count(&a, now).unwrap().burst).collect();
    assert_eq!(burst, [false, false, false, false, false, true]);
    let refused = count(&a, now).unwrap_err();
    assert_eq!((refused.error.code, refused.wait.as_secs()), (Code::QuotaExceeded, 3_000));
    assert!(!count(&b, now).unwrap().burst && !count(&a, moment(start, 3_600)).unwrap().burst);

    let place = |tenant: &TenantId| admission.place(tenant, &tier(5, 2), now);
    let held = (place(&a).unwrap(), place(&a).unwrap());
    assert_eq!(place(&a).unwrap_err().error.code, Code::QuotaExceeded);
    assert!(place(&b).is_ok());
    drop(held);
    assert!(place(&a).is_ok());
}

#[test]
fn a_raised_quota_holds_from_the_next_request_on() {
    let start = Instant::now();
    let admission = admission(&RateLimit::default(), start);
    let (a, now) = (id("a"), moment(start, 0));
    let count = |most| admission.count(&a, &tier(most, 1), now).is_ok();
    assert!((0..6).all(|_| count(5)) && !count(5));
    assert!(count(6) && !count(6));
}

#[tokio::test]
async fn where_nothing_is_enforced_requests_are_counted_and_never_refused() {
    let store = Sqlite::open(&SqliteOptions::at(At::Memory)).unwrap();
    let metrics = Arc::new(Metrics::new(&[], "test").unwrap());
    let limits = RateLimit { per_minute: 1, burst: 1, ..RateLimit::default() };
    let open =
        Admission::open((&limits, &Limits::default()), false, metrics, None, &store).await.unwrap();
    let (a, now) = (id("a"), Moment::now());
    for _ in 0..20 {
        assert!(open.enter(asks(&a, None), now).1.is_ok());
        assert_eq!(open.count(&a, &tier(1, 1), now).unwrap(), Counted { burst: false });
    }
    let places: Vec<Place> = (0..20).map(|_| open.place(&a, &tier(1, 1), now).unwrap()).collect();
    assert_eq!(places.len(), 20);
    assert_eq!(open.spent(&a, now).used, 20);
}

#[tokio::test]
async fn what_was_spent_survives_the_process_and_is_written_in_batches() {
    let operations = Arc::new(Operations::default());
    let store = Sqlite::open(&SqliteOptions::at(At::Memory)).unwrap();
    let store = Guarded::new(store, Arc::clone(&operations));
    let metrics = || Arc::new(Metrics::new(&[], "test").unwrap());
    let limits = RateLimit::default();
    let (a, now) = (id("a"), Moment::now());
    let first = Admission::open((&limits, &Limits::default()), true, metrics(), None, &store)
        .await
        .unwrap();
    let calls = || {
        let kept = |view: &OperationView| view.operation == Operation::KeepQuotas;
        operations.views().into_iter().find(kept).unwrap().calls
    };
    let before = calls();
    for _ in 0..1_000 {
        first.count(&a, &tier(2_000, 1), now).unwrap();
    }
    first.keep(&store).await.unwrap();
    first.keep(&store).await.unwrap();
    assert_eq!(calls() - before, 1, "one write for a thousand requests");
    let second = Admission::open((&limits, &Limits::default()), true, metrics(), None, &store)
        .await
        .unwrap();
    assert_eq!(second.spent(&a, now).used, 1_000);
    assert!(second.count(&a, &tier(900, 1), now).unwrap().burst);
}

/// All that a request pays for its limits, against reading and writing the smallest request's JSON:
/// twice as much where this crate is not optimised and serde is.
#[test]
fn admission_costs_about_what_a_small_json_does() {
    let start = Instant::now();
    let limits = RateLimit { per_minute: 1_000_000, burst: 1_000_000, ..RateLimit::default() };
    let admission = admission(&limits, start);
    let (a, tier) = (id("a"), tier(1_000_000, 8));
    let body = r#"{"content": "Mail ana@evil.io, key AKIAZ3VQ7JRTLWXK5P2D"}"#;
    let time = |act: &dyn Fn()| {
        let began = Wall::now();
        (0..10_000).for_each(|_| act());
        began.elapsed()
    };
    let admit = || {
        let now = moment(start, 1);
        assert!(admission.enter(asks(&a, None), now).1.is_ok());
        let place = admission.place(&a, &tier, now).unwrap();
        assert!(admission.count(&a, &tier, now).is_ok());
        drop(place);
    };
    let read = || {
        let value: serde_json::Value = serde_json::from_str(std::hint::black_box(body)).unwrap();
        std::hint::black_box(serde_json::to_string(&value).unwrap());
    };
    let ratio = || time(&admit).as_secs_f64() / time(&read).as_secs_f64();
    let mut ratios: Vec<f64> = (0..5).map(|_| ratio()).collect();
    ratios.sort_by(f64::total_cmp);
    assert!(ratios[0] < 4.0, "{ratios:?}");
}
