//! Against a real server: shared, poisoned, flushed, hung, gone and back.

use std::time::Instant;

use super::*;
use crate::cache::redis_server::Server;
use crate::settings::Rate;

const TTL: Duration = Duration::from_secs(300);

fn options(url: &str) -> RedisOptions {
    RedisOptions {
        url: url.into(),
        ca_file: None,
        key: Key::from_bytes([7; 32]),
        ttl: TTL,
        bytes_max: 1 << 20,
        metrics: Arc::new(Metrics::new(&[], "test").unwrap()),
    }
}

/// An instance that has looked for `url` until it answered.
async fn instance(url: &str) -> Redis {
    let redis = Redis::new(options(url)).unwrap();
    in_use(&redis).await;
    redis
}

/// Looks until it is used; a busy machine may let a look wait in vain.
async fn in_use(redis: &Redis) {
    let until = Instant::now() + Duration::from_secs(20);
    while !redis.look().await {
        assert!(Instant::now() < until, "Redis is not used");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn key(number: u8) -> Digest {
    Digest::of(&[number])
}

/// Puts until it is found: on a busy machine an ask may wait in vain.
async fn put(redis: &Redis, number: u8, value: &'static [u8]) {
    for _ in 0..100 {
        in_use(redis).await;
        redis.put(key(number), Bytes::from_static(value)).await;
        if get(redis, number).await.as_deref() == Some(value) {
            return;
        }
    }
    panic!("what was put is never found");
}

/// What Redis knows, never what stands in.
async fn get(redis: &Redis, number: u8) -> Option<Bytes> {
    loop {
        in_use(redis).await;
        let found = redis.get(key(number)).await;
        if !redis.rests() {
            return found;
        }
    }
}

async fn lend(redis: &Redis, bucket: &str, rate: Rate, wanted: u32) -> Lent {
    loop {
        in_use(redis).await;
        if let Some(lent) = redis.lend(&[bucket.as_bytes()], rate, wanted).await {
            return lent;
        }
    }
}

fn waits_in_vain(redis: &Redis) -> usize {
    redis.link.vain.load(Ordering::Relaxed)
}

#[tokio::test]
async fn what_one_instance_puts_another_finds_until_one_of_them_clears() {
    let server = Server::start();
    let url = server.narrow_url();
    let (a, b) = (instance(&url).await, instance(&url).await);
    put(&a, 1, b"one").await;
    assert_eq!(get(&b, 1).await.as_deref(), Some(&b"one"[..]));
    assert_eq!(get(&b, 2).await, None);
    let names = server.names("value");
    assert_eq!(names.len(), 1, "{names:?}");
    let left: u64 = server.cli(&["PTTL", &names[0]]).parse().unwrap();
    assert!((1..=300_000).contains(&left), "{left}");
    in_use(&b).await;
    b.clear().await;
    assert_eq!(get(&b, 1).await, None, "forgotten at once where it was asked");
    in_use(&a).await;
    assert_eq!(get(&a, 1).await, None, "and at the next look elsewhere");
    put(&a, 1, b"anew").await;
    assert_eq!(get(&b, 1).await.as_deref(), Some(&b"anew"[..]));
    let other = RedisOptions { key: Key::from_bytes([8; 32]), ..options(&url) };
    let stranger = Redis::new(other).unwrap();
    assert_eq!(get(&stranger, 1).await, None, "another service's key is another name");
}

#[tokio::test]
async fn a_value_that_this_service_did_not_write_there_is_not_believed() {
    let server = Server::start();
    let redis = instance(&server.url()).await;
    put(&redis, 1, b"one").await;
    let name = server.names("value").remove(0);
    put(&redis, 2, b"two").await;
    let other = server.names("value").into_iter().find(|found| *found != name).unwrap();
    let forgeries = [
        vec!["SETRANGE", &name, "32", "eno"],
        vec!["SETRANGE", &name, "0", "xxxx"],
        vec!["APPEND", &name, "x"],
        vec!["SET", &name, ""],
        vec!["SET", &name, "one"],
        vec!["COPY", &other, &name, "REPLACE"],
    ];
    for forgery in forgeries {
        put(&redis, 1, b"one").await;
        server.cli(&forgery);
        assert_eq!(get(&redis, 1).await, None, "{forgery:?}");
    }
    // Longer than anything this service writes: what lies there is not even read to its end.
    server.cli(&["SETRANGE", &name, "2000000", "x"]);
    assert_eq!(get(&redis, 1).await, None);
    server.cli(&["DEL", &name]);
    server.cli(&["SADD", &name, "x"]);
    assert_eq!(get(&redis, 1).await, None);
    assert_eq!(get(&redis, 2).await.as_deref(), Some(&b"two"[..]), "the others stand");
}

#[tokio::test]
async fn an_emptied_redis_begins_anew_and_a_long_value_is_not_kept() {
    let server = Server::start();
    let redis = instance(&server.url()).await;
    put(&redis, 1, b"one").await;
    server.cli(&["FLUSHALL"]);
    assert_eq!(get(&redis, 1).await, None);
    put(&redis, 1, b"one").await;
    redis.put(key(2), vec![0; VALUE_BYTES_MAX + 1].into()).await;
    assert_eq!(get(&redis, 2).await, None);
    let stats = redis.stats().await;
    assert!(stats.hits >= 2 && stats.misses >= 2 && stats.loads >= 2, "{stats:?}");
}

#[tokio::test]
async fn a_hung_redis_is_waited_for_once_and_used_again_when_it_answers() {
    let server = Server::start();
    let redis = instance(&server.url()).await;
    put(&redis, 1, b"one").await;
    server.signal("-STOP");
    let before = waits_in_vain(&redis);
    let mut longest = Duration::ZERO;
    for _ in 0..1_000 {
        let begun = Instant::now();
        assert_eq!(redis.get(key(1)).await, None);
        longest = longest.max(begun.elapsed());
        redis.put(key(3), Bytes::from_static(b"three")).await;
        assert_eq!(redis.lend(&[b"a"], RATE, 1).await, None);
    }
    assert_eq!(waits_in_vain(&redis) - before, 1, "of 3000 asks the first alone waits");
    println!("of 1000 looks into a hung Redis the longest took {longest:?}");
    assert!(redis.rests());
    assert_eq!(redis.get(key(3)).await.as_deref(), Some(&b"three"[..]), "memory stands in");
    assert!(!redis.look().await, "a look does not mend what hangs");
    let text = redis.metrics.render().unwrap();
    assert!(text.contains("dependency_up{dependency=\"redis\"} 0"), "{text}");
    // 999 looks after the first, 1000 values, and the look above; lent tokens count where they are spent.
    assert!(text.contains("redis_fallback_total 2001"), "{text}");
    server.signal("-CONT");
    assert_eq!(get(&redis, 1).await.as_deref(), Some(&b"one"[..]));
    assert!(redis.metrics.render().unwrap().contains("dependency_up{dependency=\"redis\"} 1"));
}

#[tokio::test]
async fn those_who_wait_together_wait_once() {
    let server = Server::start();
    let redis = instance(&server.url()).await;
    server.signal("-STOP");
    let begun = Instant::now();
    let asking = (0..200).map(|_| redis.get(key(1)));
    futures_util::future::join_all(asking).await;
    println!("200 that looked together went on after {:?}", begun.elapsed());
    // 200 in turn would be three seconds.
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    server.signal("-CONT");
}

#[tokio::test]
async fn a_redis_that_is_gone_costs_nothing_and_is_found_again_by_itself() {
    let mut server = Server::start();
    let redis = Arc::new(instance(&server.url()).await);
    let keeping = Arc::clone(&redis);
    let local = tokio::task::LocalSet::new();
    local.spawn_local(async move { keeping.keep().await });
    local
        .run_until(async {
            put(&redis, 1, b"one").await;
            server.kill();
            while !redis.rests() {
                redis.get(key(1)).await;
            }
            redis.put(key(1), Bytes::from_static(b"local")).await;
            assert_eq!(redis.get(key(1)).await.as_deref(), Some(&b"local"[..]));
            redis.clear().await;
            assert_eq!(redis.get(key(1)).await, None, "what stands in is forgotten too");
            server.start_again();
            let until = Instant::now() + Duration::from_secs(20);
            while redis.rests() {
                assert!(Instant::now() < until, "it is never found again");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(get(&redis, 1).await, None);
            put(&redis, 1, b"back").await;
        })
        .await;
}

#[tokio::test]
async fn what_is_cleared_while_redis_hangs_is_forgotten_everywhere_afterwards() {
    let server = Server::start();
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    put(&a, 1, b"one").await;
    server.signal("-STOP");
    a.clear().await;
    server.signal("-CONT");
    in_use(&a).await;
    in_use(&b).await;
    assert_eq!((get(&a, 1).await, get(&b, 1).await), (None, None));
}

#[tokio::test]
async fn a_redis_that_refuses_rests_and_one_that_refuses_values_is_a_miss() {
    let server = Server::start();
    server.cli(&["CONFIG", "SET", "requirepass", "word"]);
    let redis = Redis::new(options(&server.url())).unwrap();
    assert!(!redis.look().await && redis.rests());
    let server = Server::start();
    let redis = instance(&server.url()).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    redis.put(key(1), Bytes::from_static(b"one")).await;
    assert_eq!(get(&redis, 1).await, None);
}

const RATE: Rate = Rate { per_minute: 60, burst: Some(10) };

#[tokio::test]
async fn tokens_are_lent_up_to_the_burst_then_by_the_rate() {
    let server = Server::start();
    let url = server.narrow_url();
    let (a, b) = (instance(&url).await, instance(&url).await);
    let first = lend(&a, "t", RATE, 4).await;
    assert_eq!(first.granted, 4);
    assert!(first.full_in > Duration::from_millis(3_900), "{first:?}");
    let second = lend(&b, "t", RATE, 100).await;
    // A second of this test is one token more.
    assert!((6..=8).contains(&second.granted), "{second:?}");
    assert!(second.next_in > Duration::ZERO && second.next_in <= Duration::from_secs(1));
    assert!(second.full_in > Duration::from_secs(9), "{second:?}");
    assert_eq!(lend(&a, "another", RATE, 100).await.granted, 10);
    let names = server.names("rate");
    assert_eq!(names.len(), 2);
    assert!(!server.cli(&["GET", &names[0]]).is_empty());
    let left: u64 = server.cli(&["PTTL", &names[0]]).parse().unwrap();
    assert!(left <= 10_000, "a bucket lies there until it is full: {left} ms");
}

#[tokio::test]
async fn a_forged_bucket_holds_no_longer_than_a_burst() {
    let server = Server::start();
    let redis = instance(&server.url()).await;
    lend(&redis, "t", RATE, 1).await;
    let name = server.names("rate").remove(0);
    for forged in ["9e300", "-9e300", "nan", "inf", "text", ""] {
        server.cli(&["SET", &name, forged]);
        let lent = lend(&redis, "t", RATE, 100).await;
        assert!(
            lent.granted <= 11 && lent.full_in <= Duration::from_secs(10),
            "{forged}: {lent:?}"
        );
    }
}

#[tokio::test]
async fn nothing_in_redis_can_be_read_by_whoever_reads_it_all() {
    let server = Server::start();
    let watch = server.watch();
    let redis = instance(&server.url()).await;
    lend(&redis, "tenant-acme", RATE, 1).await;
    put(&redis, 1, b"{}").await;
    redis.clear().await;
    server.tell_all(&watch);
    let text = watch.text();
    assert!(text.contains("orch:1:rate:") && !text.contains("acme"), "{text}");
}

#[tokio::test]
async fn tls_is_spoken_with_the_servers_authority_and_with_no_other() {
    let (_server, url, authority) = Server::start_with_tls();
    let known = RedisOptions { ca_file: Some(authority), ..options(&url) };
    let redis = Redis::new(known).unwrap();
    put(&redis, 1, b"one").await;
    let stranger = Redis::new(options(&url)).unwrap();
    assert!(!stranger.look().await, "no public authority signed that");
}

#[test]
fn an_address_that_is_none_is_refused_without_its_password() {
    for (url, wanted) in [
        ("redis://:canary@", "redis.url is no address"),
        ("redis://:canary@host/x", "redis.url is no address"),
        ("unix:///canary", "redis.url is no address"),
        ("rediss://:canary@host#insecure", "#insecure"),
    ] {
        let told = Redis::new(options(url)).err().unwrap().to_string();
        assert!(told.contains(wanted) && !told.contains("canary"), "{url}: {told}");
    }
    let no_file = RedisOptions { ca_file: Some("/nowhere.pem".into()), ..options("rediss://host") };
    let told = Redis::new(no_file).err().unwrap().to_string();
    assert!(told.contains("/nowhere.pem"), "{told}");
}
