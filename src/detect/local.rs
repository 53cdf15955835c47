//! Built-in detectors: prepared once per parameters, run on their own threads.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::DetectConfig;
use super::member::lock;
use crate::catalog::detector::Builtin;
use crate::domain::finding::Finding;
use crate::domain::report::Gap;
use crate::domain::request::Priority;

/// What a detector says about one piece or several.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judged {
    /// Its own word, if it has one.
    pub label: Option<Arc<str>>,
    /// Its own score, 0..=1.
    pub score: Option<f64>,
    /// What it found; built-in detectors use piece 0.
    pub findings: Vec<Finding>,
    /// What it says that it left out.
    pub gaps: Vec<Gap>,
}

/// A built-in detector with its parameters.
pub trait Judge: Send + Sync {
    /// Judges one text; deterministic, no I/O.
    fn judge(&self, text: &str) -> Judged;

    /// Judges one text, or a part of it once `wanted` says that nobody waits any more.
    fn judge_while(&self, text: &str, _wanted: &dyn Fn() -> bool) -> Judged {
        self.judge(text)
    }

    /// Whether a short text takes microseconds, so that the thread that serves may judge it.
    fn is_quick(&self) -> bool {
        true
    }

    /// Builds what is built once, such as tables and patterns, before a request needs it.
    fn warm(&self) {}
}

/// Makes a built-in detector; `None` when the parameters are bad.
pub type Prepare = fn(Builtin, &Value) -> Option<Arc<dyn Judge>>;

/// Why there is no judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Params,
    Panic,
}

/// Parameters come from requests too, so the number of prepared detectors is bounded.
const PREPARED_MAX: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// Jobs that wait for a thread: by priority, inside it by arrival.
#[derive(Default)]
struct Jobs {
    waiting: BTreeMap<(Priority, u64), Job>,
    number: u64,
}

impl Jobs {
    fn push(&mut self, priority: Priority, job: Job) {
        self.number += 1;
        self.waiting.insert((priority, self.number), job);
    }
}

type Prepared = Arc<Mutex<HashMap<(Builtin, String), Arc<dyn Judge>>>>;

pub(super) struct Pool {
    /// `None` when the system gave no threads; then everything runs inline.
    threads: Option<rayon::ThreadPool>,
    inline_bytes_max: usize,
    prepare: Prepare,
    prepared: Prepared,
    jobs: Arc<Mutex<Jobs>>,
    waits: Arc<Waits>,
}

/// The least time that a job waited for a thread since somebody asked, in microseconds.
struct Waits(AtomicU64);

impl Waits {
    fn note(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_min(micros, Ordering::Relaxed);
    }

    fn take(&self) -> Duration {
        let least = self.0.swap(u64::MAX, Ordering::Relaxed);
        if least == u64::MAX { Duration::ZERO } else { Duration::from_micros(least) }
    }
}

impl Pool {
    pub(super) fn new(config: &DetectConfig) -> Self {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(config.threads.max(1))
            .thread_name(|index| format!("judge-{index}"))
            .build();
        Self {
            threads: threads.ok(),
            inline_bytes_max: config.inline_bytes_max,
            prepare: config.prepare,
            prepared: Prepared::default(),
            jobs: Arc::default(),
            waits: Arc::new(Waits(AtomicU64::new(u64::MAX))),
        }
    }

    /// The least time that a job waited for a thread since this was last asked; nothing where there
    /// was none.
    pub(super) fn late(&self) -> Duration {
        self.waits.take()
    }

    /// Prepares a detector in the background, so that no request waits for it.
    pub(super) fn warm(&self, kind: Builtin, params: &Value) {
        let (prepare, prepared, params) =
            (self.prepare, Arc::clone(&self.prepared), params.clone());
        let Some(threads) = &self.threads else { return };
        threads.spawn(move || {
            let made = catch_unwind(AssertUnwindSafe(|| {
                fetch(&prepared, prepare, kind, &params).map(|judge| judge.warm())
            }));
            // A request that needs it will meet the same trouble and report it.
            drop(made);
        });
    }

    /// Judges `text`. The slot is held until the work is done, also when nobody waits any more.
    pub(super) async fn judge(
        &self,
        (kind, params): (Builtin, &Value),
        text: Arc<str>,
        priority: Priority,
        slot: OwnedSemaphorePermit,
    ) -> Result<Judged, Trouble> {
        let (prepare, prepared) = (self.prepare, Arc::clone(&self.prepared));
        let params = params.clone();
        let fetched = move || {
            let fetch = || fetch(&prepared, prepare, kind, &params).ok_or(Trouble::Params);
            catch_unwind(AssertUnwindSafe(fetch)).unwrap_or(Err(Trouble::Panic))
        };
        let short = self.is_short(&text);
        let known = if short { Some(fetched()?) } else { None };
        let inline = known.as_ref().is_some_and(|judge| judge.is_quick());
        // Gone with this future, at its deadline or when the caller leaves.
        let waiter = Arc::new(());
        let waits = Arc::downgrade(&waiter);
        let job = move || {
            let _slot = slot;
            let judge = known.map_or_else(fetched, Ok)?;
            let judged = || judge.judge_while(&text, &|| waits.strong_count() > 0);
            catch_unwind(AssertUnwindSafe(judged)).map_err(|_| Trouble::Panic)
        };
        if inline { job() } else { self.off(priority, job).await.unwrap_or(Err(Trouble::Panic)) }
    }

    /// Runs `job` on the pool's threads, after all that are more urgent, unless nobody waits any
    /// more; `None` when it panicked.
    pub(super) async fn off<T: Send + 'static>(
        &self,
        priority: Priority,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let job = || catch_unwind(AssertUnwindSafe(job)).ok();
        let Some(threads) = &self.threads else { return job() };
        let (tell, told) = oneshot::channel();
        let (waits, sent) = (Arc::clone(&self.waits), Instant::now());
        let told_to = move || {
            if !tell.is_closed() {
                let _ = tell.send(job());
            }
        };
        lock(&self.jobs).push(priority, Box::new(told_to));
        let jobs = Arc::clone(&self.jobs);
        threads.spawn(move || {
            // How long a turn took to come says how late the threads are, whoever takes it.
            waits.note(sent.elapsed());
            let next = lock(&jobs).waiting.pop_first();
            if let Some((_, job)) = next {
                job();
            }
        });
        told.await.ok().flatten()
    }

    /// Whether a text is judged without changing threads.
    pub(super) fn is_short(&self, text: &str) -> bool {
        text.len() <= self.inline_bytes_max
    }
}

fn fetch(
    prepared: &Prepared,
    prepare: Prepare,
    kind: Builtin,
    params: &Value,
) -> Option<Arc<dyn Judge>> {
    let key = (kind, params.to_string());
    if let Some(known) = lock(prepared).get(&key) {
        return Some(Arc::clone(known));
    }
    let made = prepare(kind, params)?;
    let mut prepared = lock(prepared);
    if prepared.len() >= PREPARED_MAX {
        prepared.clear();
    }
    prepared.insert(key, Arc::clone(&made));
    Some(made)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::outbound::{Env, Guard};

    #[tokio::test]
    async fn the_more_urgent_take_the_next_turn_and_of_a_priority_the_first() {
        let config = DetectConfig {
            guard: Arc::new(Guard::new(Env::Development, vec![])),
            parallel_max: 1,
            threads: 1,
            reply_bytes_max: 0,
            inline_bytes_max: 0,
            prepare: |_, _| None,
            metrics: Arc::new(crate::metrics::Metrics::new(&[], "test").unwrap()),
        };
        let (pool, order) = (Pool::new(&config), Arc::new(Mutex::new(Vec::new())));
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let mut jobs = vec![pool.off(Priority::Low, move || _ = begun.recv()).boxed()];
        for (number, priority) in
            [Priority::Low, Priority::Normal, Priority::Low, Priority::Critical].iter().enumerate()
        {
            let order = Arc::clone(&order);
            jobs.push(pool.off(*priority, move || lock(&order).push(number)).boxed());
        }
        let mut all = std::pin::pin!(futures_util::future::join_all(jobs));
        assert!(futures_util::poll!(all.as_mut()).is_pending());
        begin.send(()).unwrap();
        all.await;
        assert_eq!(*lock(&order), [3, 1, 0, 2]);
    }

    /// Judges until nobody waits any more.
    struct Endless;

    static TOLD: Mutex<Option<std::sync::mpsc::Sender<String>>> = Mutex::new(None);

    impl Judge for Endless {
        fn judge(&self, _: &str) -> Judged {
            Judged::default()
        }

        fn judge_while(&self, _: &str, wanted: &dyn Fn() -> bool) -> Judged {
            let tell = |what: &str| lock(&TOLD).as_ref().unwrap().send(what.to_owned()).unwrap();
            tell(std::thread::current().name().unwrap_or_default());
            while wanted() {
                std::thread::yield_now();
            }
            tell("ended");
            Judged::default()
        }

        fn is_quick(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn a_costly_judge_leaves_the_serving_thread_and_ends_when_nobody_waits() {
        let (tell, told) = std::sync::mpsc::channel();
        *lock(&TOLD) = Some(tell);
        let pool = Pool::new(&DetectConfig {
            guard: Arc::new(Guard::new(Env::Development, vec![])),
            parallel_max: 1,
            threads: 1,
            reply_bytes_max: 0,
            inline_bytes_max: 100,
            prepare: |_, _| Some(Arc::new(Endless)),
            metrics: Arc::new(crate::metrics::Metrics::new(&[], "test").unwrap()),
        });
        let slot = Arc::new(tokio::sync::Semaphore::new(1)).acquire_owned().await.unwrap();
        let (kind, text) = ((Builtin::Echo, &Value::Null), Arc::from("x"));
        let mut judging = pool.judge(kind, text, Priority::Normal, slot).boxed();
        assert!(futures_util::poll!(judging.as_mut()).is_pending());
        assert_eq!(told.recv().unwrap(), "judge-0");
        drop(judging);
        assert_eq!(told.recv().unwrap(), "ended");
    }
}
