//! Redis killed, emptied and hung under load: a cache, so no answer and no record may be missed.

use super::disk::{answered, end, sqlite};
use super::*;
use crate::redis_server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_emptied_or_hangs_under_load_costs_no_answer_and_no_record() {
    let (mut redis, dir, kills) = (redis_server::Server::start(), project(), kills(2));
    let mut serve = serve(dir.path());
    serve.env("ORCHESTRATION_REDIS_URL", redis.url());
    let served = started(serve);
    let told = Arc::new(Told::default());
    let (stop, running) = callers(&served, &told);
    for kill in 0..kills {
        answered(&told, 20).await;
        redis.cli(&["FLUSHALL"]);
        answered(&told, 20).await;
        redis.signal("-STOP");
        answered(&told, 20).await;
        redis.signal("-CONT");
        tokio::time::sleep(Duration::from_millis(kill * 37 % 200)).await;
        redis.kill();
        answered(&told, 20).await;
        redis.start_again();
    }
    // Its breaker lets a first call through some time after it came back.
    let used = || redis.calls("set") + redis.calls("evalsha") + redis.calls("get");
    for _ in 0..300 {
        if used() > 0 {
            break;
        }
        answered(&told, 20).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    end(&stop, running).await;
    empty(dir.path()).await;
    assert!(used() > 0, "Redis that came back is not used");
    assert_eq!(served.stop().0, Some(0));
    let store = sqlite(dir.path().join("data").join(STORE_FILE));
    // A busy machine alone may keep a strict record waiting for too long.
    let refused = told.refused.load(Relaxed);
    let result = verify(&store, &told).await;
    println!("{kills} times emptied, hung and killed: {result}; {refused} answered 503");
}
