//! A lease by itself, then instances over one real Redis.

use super::*;
use crate::cache::RedisOptions;
use crate::cache::redis_server::Server;
use crate::seal::Key;

const MS: Duration = Duration::from_millis(1);
/// One token a second, so that a test's own time adds few.
const SLOW: Rate = Rate { per_minute: 60, burst: Some(200) };

fn spends(lease: &Lease, rate: Rate, now: Instant) -> usize {
    (0..10_000).take_while(|_| lease.spend((rate, 1), now).0.wait.is_none()).count()
}

#[test]
fn a_lease_is_a_fifth_of_the_burst_at_least_twenty_at_most_the_burst() {
    for (burst, lease) in [(1, 1), (20, 20), (50, 20), (100, 20), (200, 40), (1_000_000, 200_000)] {
        assert_eq!(lease_of(Rate { per_minute: 1, burst: Some(burst) }), lease, "{burst}");
    }
}

#[test]
fn a_lease_that_nobody_pays_ends_and_what_is_paid_may_be_spent_again() {
    let (lease, now) = (Lease::default(), Instant::now());
    let (level, begins) = lease.spend((SLOW, 1), now);
    assert!(begins && level.wait.is_none());
    assert!(!lease.spend((SLOW, 1), now).1, "one pays for all");
    assert_eq!(spends(&lease, SLOW, now), 38);
    assert_eq!(lease.bill(), Some((SLOW, 40)));
    lease.paid(Some(Lent { granted: 3, next_in: 700 * MS, full_in: 200_000 * MS }), now);
    assert_eq!(spends(&lease, SLOW, now), 3);
    let refused = lease.spend((SLOW, 1), now).0;
    assert_eq!((refused.left, refused.wait), (0, Some(1_000 * MS)), "a token's time at least");
    assert_eq!(refused.full_in, 200_000 * MS);
    lease.paid(Some(Lent { granted: 40, next_in: Duration::ZERO, full_in: 50_000 * MS }), now);
    assert_eq!(lease.bill(), None, "all is paid");
    let (level, begins) = lease.spend((SLOW, 1), now);
    assert_eq!((level.left, begins), (150, true));
    lease.spend((SLOW, 1), now);
    lease.paid(None, now);
    assert_eq!(lease.bill(), None, "what Redis forgot is not paid");
}

#[test]
fn a_smaller_rate_holds_from_the_next_request_on() {
    let (lease, now) = (Lease::default(), Instant::now());
    assert_eq!(spends(&lease, SLOW, now), 40);
    let small = Rate { per_minute: 60, burst: Some(5) };
    assert!(lease.spend((small, 1), now).0.wait.is_some());
    lease.paid(Some(Lent { granted: 38, next_in: MS, full_in: MS }), now);
    assert_eq!(spends(&lease, small, now), 3);
}

async fn redis(server: &Server) -> Arc<Redis> {
    let redis = Redis::new(RedisOptions {
        url: server.narrow_url().into(),
        ca_file: None,
        key: Key::from_bytes([7; 32]),
        ttl: Duration::from_secs(300),
        bytes_max: 1 << 20,
        metrics: Arc::new(Metrics::new(&[], "test").unwrap()),
    });
    let redis = Arc::new(redis.unwrap());
    in_use(&redis).await;
    redis
}

async fn in_use(redis: &Redis) {
    while !redis.look().await {
        tokio::time::sleep(20 * MS).await;
    }
}

async fn shared(server: &Server) -> Shared {
    let metrics = Arc::new(Metrics::new(&[], "test").unwrap());
    Shared::new(redis(server).await, vec!["POST /orchestrate".into()], metrics)
}

const ACME: Bucket<'static> = Bucket::Tenant("acme");

fn passes(windows: &Shared, bucket: Bucket<'_>, rate: Rate) -> bool {
    windows.take(bucket, rate, 1, Instant::now()).wait.is_none()
}

/// Runs `work` while what is spent is paid.
async fn beside<T>(instances: &[&Shared], work: impl Future<Output = T>) -> T {
    let paying = futures_util::future::join_all(instances.iter().map(|one| one.beside()));
    tokio::select! {
        _ = paying => panic!("the paying ended"),
        done = work => done,
    }
}

#[tokio::test]
async fn instances_together_give_the_rate_and_at_most_a_lease_each_beyond() {
    let server = Server::start();
    let (a, b) = (shared(&server).await, shared(&server).await);
    let begun = Instant::now();
    let mut given = 0;
    let hammering = async {
        for _ in 0..400 {
            for windows in [&a, &b] {
                // Never counted alone: then each would give all.
                in_use(&windows.redis).await;
                given += (0..3).filter(|_| passes(windows, ACME, SLOW)).count();
            }
            tokio::time::sleep(MS).await;
        }
    };
    beside(&[&a, &b], hammering).await;
    let most = 200 + 2 * 40 + usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!((200..=most).contains(&given), "{given} given, at most {most}; apart it were 400");
    let level = a.take(ACME, SLOW, 1, Instant::now());
    assert!(level.wait.is_some_and(|wait| wait <= 2_000 * MS), "{level:?}");
    assert!(passes(&a, Bucket::Tenant("other"), SLOW), "another's bucket is full");
}

#[tokio::test]
async fn one_instance_alone_gives_what_it_gave_without_redis() {
    let server = Server::start();
    let windows = shared(&server).await;
    let rate = Rate { per_minute: 60, burst: Some(100) };
    let given = async {
        let mut given = 0;
        for _ in 0..30 {
            in_use(&windows.redis).await;
            given += (0..4).filter(|_| passes(&windows, ACME, rate)).count();
            tokio::time::sleep(20 * MS).await;
        }
        given
    };
    let given = beside(&[&windows], given).await;
    // A token a second comes on top.
    assert!((100..=110).contains(&given), "{given}");
    windows.give_back(ACME, rate, 1);
    assert!(passes(&windows, ACME, rate), "what is given back counts again");
}

#[tokio::test]
async fn without_redis_each_instance_counts_alone_and_tells_it() {
    let server = Server::start();
    let (a, b) = (shared(&server).await, shared(&server).await);
    server.kill();
    for windows in [&a, &b] {
        let given = || (0..500).filter(|_| passes(windows, ACME, SLOW)).count();
        while !windows.redis.rests() {
            windows.redis.lend(&[b"x"], SLOW, 1).await;
        }
        assert_eq!(given(), 200);
        let told = windows.metrics.render().unwrap();
        assert!(told.contains("orchestrator_redis_fallback_total 200"), "{told}");
    }
}

#[tokio::test]
async fn keys_and_routes_have_buckets_of_their_own_by_names_that_instances_agree_on() {
    let server = Server::start();
    let windows = shared(&server).await;
    let buckets =
        [Bucket::Tenant("acme"), Bucket::Key("acme"), Bucket::Route { tenant: "acme", route: 0 }];
    let spend = async {
        while server.names("rate").len() < 3 {
            in_use(&windows.redis).await;
            assert!(buckets.iter().all(|bucket| passes(&windows, *bucket, SLOW)));
            tokio::time::sleep(100 * MS).await;
        }
    };
    beside(&[&windows], spend).await;
    assert!(passes(&windows, Bucket::Route { tenant: "acme", route: 9 }, SLOW), "no such route");
}

/// The commands that `windows` sends while so many groups of checks pass.
async fn commands(
    server: &Server,
    windows: &Shared,
    (groups, each): (usize, usize),
    pause: Duration,
) -> u64 {
    let rate = Rate { per_minute: 600_000, burst: Some(1_000) };
    server.forget_calls();
    let spend = async {
        for _ in 0..groups {
            in_use(&windows.redis).await;
            assert_eq!((0..each).filter(|_| passes(windows, ACME, rate)).count(), each);
            tokio::time::sleep(pause).await;
        }
        tokio::time::sleep(2 * GATHER).await;
    };
    beside(&[windows], spend).await;
    server.calls("evalsha")
}

/// B-05: the commands that checks of a tenant's rate cost.
#[tokio::test]
async fn leases_spare_most_commands() {
    let server = Server::start();
    let single = shared(&server).await;
    let rate = Rate { per_minute: 600_000, burst: Some(1_000) };
    server.forget_calls();
    for _ in 0..1_000 {
        in_use(&single.redis).await;
        single.redis.lend(&[b"each"], rate, 1).await;
    }
    let each = server.calls("evalsha");
    let quick = commands(&server, &shared(&server).await, (100, 10), 10 * MS).await;
    // As fast as the shipped rate allows in the long run.
    let slow = commands(&server, &shared(&server).await, (50, 1), 60 * MS).await;
    println!(
        "B-05: of 1000 checks {each} commands one by one, {quick} by leases; {slow} of 50 slow"
    );
    assert!((1_000..=1_010).contains(&each), "{each}");
    assert!((1..=100).contains(&quick), "{quick}");
    assert!((1..=30).contains(&slow), "{slow}");
}
