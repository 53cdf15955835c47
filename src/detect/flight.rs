//! Calls that several requests wait for: one runs, all get what it ends with, nothing is kept.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::time::{Instant, timeout_at};

use super::member::lock;
use crate::domain::digest::Digest;

/// Calls that others may join; of more, the one begun first takes nobody else.
const FLIGHTS_MAX: usize = 1_000;

/// What those who wait and the call tell each other.
#[derive(Debug)]
pub(super) struct Progress {
    /// Tries sent.
    pub(super) sent: AtomicU32,
    /// Whether a deadline ended somebody's waiting.
    pub(super) late: AtomicBool,
    until: Mutex<Instant>,
}

impl Progress {
    /// The last deadline of those who wait.
    pub(super) fn until(&self) -> Instant {
        *lock(&self.until)
    }
}

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waited<T> {
    /// The call did.
    Landed(T),
    /// The call panicked.
    Crashed,
    /// The deadline came first, after so many tries.
    Late(u32),
}

type Call<T> = Shared<BoxFuture<'static, Option<T>>>;
type Map<T> = Arc<Mutex<HashMap<Digest, Entry<T>>>>;

struct Entry<T> {
    number: u64,
    call: WeakShared<BoxFuture<'static, Option<T>>>,
    progress: Arc<Progress>,
}

/// The calls under way.
pub(super) struct Flights<T> {
    map: Map<T>,
    begun: AtomicU64,
    joined: AtomicU64,
}

/// A place among those who wait; the call ends when the last one is given up.
pub(super) struct Ticket<T> {
    call: Call<T>,
    progress: Arc<Progress>,
    /// Whether the call was under way already.
    pub(super) joined: bool,
}

/// Takes a call out of the map when it ends or is dropped.
struct Listed<T> {
    map: Map<T>,
    key: Digest,
    number: u64,
}

impl<T> Drop for Listed<T> {
    fn drop(&mut self) {
        let mut map = lock(&self.map);
        if map.get(&self.key).is_some_and(|entry| entry.number == self.number) {
            map.remove(&self.key);
        }
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { map: Map::default(), begun: AtomicU64::default(), joined: AtomicU64::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Joins the call of `key`, or begins it. Without a key nobody else can join.
    pub(super) fn board<F>(
        &self,
        key: Option<Digest>,
        until: Instant,
        call: impl FnOnce(Arc<Progress>) -> F,
    ) -> Ticket<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let Some(key) = key else { return Ticket::begin(until, call, None::<Listed<T>>) };
        let mut map = lock(&self.map);
        if let Some(found) = map.get(&key)
            && let Some(call) = found.call.upgrade()
        {
            let progress = Arc::clone(&found.progress);
            {
                let mut last = lock(&progress.until);
                *last = until.max(*last);
            }
            self.joined.fetch_add(1, Ordering::Relaxed);
            return Ticket { call, progress, joined: true };
        }
        if map.len() >= FLIGHTS_MAX
            && let Some(first) = map.iter().min_by_key(|(_, entry)| entry.number)
        {
            let first = *first.0;
            map.remove(&first);
        }
        let listed = Listed { map: Arc::clone(&self.map), key, number };
        let ticket = Ticket::begin(until, call, Some(listed));
        if let Some(call) = ticket.call.downgrade() {
            map.insert(key, Entry { number, call, progress: Arc::clone(&ticket.progress) });
        }
        ticket
    }

    /// Calls that others may join now.
    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        lock(&self.map).len()
    }

    /// Calls begun, and waits that joined one, since start.
    pub(super) fn counts(&self) -> (u64, u64) {
        let joined = self.joined.load(Ordering::Relaxed);
        (self.begun.load(Ordering::Relaxed).saturating_sub(joined), joined)
    }
}

impl<T: Clone + Send + Sync + 'static> Ticket<T> {
    fn begin<F>(
        until: Instant,
        call: impl FnOnce(Arc<Progress>) -> F,
        listed: Option<Listed<T>>,
    ) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let progress = Arc::new(Progress {
            sent: AtomicU32::default(),
            late: AtomicBool::default(),
            until: Mutex::new(until),
        });
        let call = call(Arc::clone(&progress));
        let call = async move {
            let _listed = listed;
            AssertUnwindSafe(call).catch_unwind().await.ok()
        };
        Ticket { call: call.boxed().shared(), progress, joined: false }
    }

    /// Waits for the end of the call, at most until `deadline`.
    pub(super) async fn wait(self, deadline: Instant) -> Waited<T> {
        match timeout_at(deadline, self.call.clone()).await {
            Ok(Some(end)) => Waited::Landed(end),
            Ok(None) => Waited::Crashed,
            Err(_) => {
                self.progress.late.store(true, Ordering::Relaxed);
                Waited::Late(self.progress.sent.load(Ordering::Relaxed))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    fn key(of: &str) -> Option<Digest> {
        Some(Digest::of(of.as_bytes()))
    }

    fn after(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    /// A call that takes `ms`, and tells `gone` when it ends or is dropped.
    fn call(
        ms: u64,
        begun: &Arc<AtomicU32>,
        gone: Option<oneshot::Sender<()>>,
    ) -> BoxFuture<'static, u32> {
        let begun = Arc::clone(begun);
        async move {
            let _gone = gone;
            let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
            sleep(Duration::from_millis(ms)).await;
            number
        }
        .boxed()
    }

    #[tokio::test(start_paused = true)]
    async fn many_waits_are_one_call_and_nothing_is_kept_after_it() {
        let (flights, begun) = (Flights::default(), Arc::default());
        let board = |of| flights.board(key(of), after(1000), |_| call(50, &begun, None));
        for (round, many) in (1..).zip([100, 500, 1000]) {
            let waits = join_all((0..many).map(|_| board("a").wait(after(1000)))).await;
            assert!(waits.iter().all(|waited| *waited == Waited::Landed(round)));
            assert_eq!(flights.under_way(), 0);
        }
        assert_eq!(flights.counts(), (3, 1597));
        assert!(!board("a").joined, "what ended takes nobody");
        let (one, other) = (board("a"), board("b"));
        assert!(!one.joined && !other.joined, "another key is another call");
    }

    #[tokio::test(start_paused = true)]
    async fn the_call_goes_on_when_its_first_waiter_leaves_and_ends_with_the_last() {
        let (flights, begun) = (Flights::default(), Arc::default());
        let (tell, mut gone) = oneshot::channel();
        let first = flights.board(key("a"), after(1000), |_| call(50, &begun, Some(tell)));
        let second = flights.board(key("a"), after(1000), |_| call(50, &begun, None));
        {
            let first = std::pin::pin!(first.wait(after(1000)));
            assert!(futures_util::poll!(first).is_pending());
        }
        assert_eq!(second.wait(after(1000)).await, Waited::Landed(1));
        assert!((&mut gone).await.is_err());
        let (tell, mut gone) = oneshot::channel::<()>();
        let alone = flights.board(key("a"), after(1000), |_| call(50, &begun, Some(tell)));
        assert!(gone.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        drop(alone);
        assert!(gone.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(flights.under_way(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn each_waiter_keeps_its_own_deadline() {
        let (flights, begun) = (Flights::default(), Arc::default());
        let board = |until| flights.board(key("a"), until, |_| call(50, &begun, None));
        let (hasty, patient) = (board(after(20)), board(after(80)));
        assert_eq!(patient.progress.until(), after(80));
        let (start, both) = (Instant::now(), (hasty.wait(after(20)), patient.wait(after(80))));
        let hasty = async { (both.0.await, start.elapsed()) };
        let patient = async { (both.1.await, start.elapsed()) };
        let (hasty, patient) = tokio::join!(hasty, patient);
        assert_eq!((hasty.0, hasty.1.as_millis() / 10), (Waited::Late(0), 2));
        assert_eq!((patient.0, patient.1.as_millis() / 10), (Waited::Landed(1), 5));
    }

    #[tokio::test]
    async fn a_panic_is_everyones_crash_and_no_later_ones() {
        let flights = Flights::<u32>::default();
        let crash = |_| async { panic!("on purpose") };
        let (one, two) = (
            flights.board(key("a"), after(1000), crash),
            flights.board(key("a"), after(1000), crash),
        );
        assert!(two.joined);
        assert_eq!(two.wait(after(1000)).await, Waited::Crashed);
        assert_eq!(one.wait(after(1000)).await, Waited::Crashed);
        let next = flights.board(key("a"), after(1000), |_| async { 7 });
        assert_eq!(next.wait(after(1000)).await, Waited::Landed(7));
    }

    #[tokio::test]
    async fn beyond_the_limit_the_call_begun_first_takes_nobody_else() {
        let flights = Flights::<usize>::default();
        let board = |n: usize| {
            flights.board(key(&n.to_string()), after(1000), move |_| std::future::pending())
        };
        let tickets: Vec<_> = (0..=FLIGHTS_MAX).map(board).collect();
        assert_eq!(flights.under_way(), FLIGHTS_MAX);
        assert!(board(FLIGHTS_MAX).joined);
        assert!(!board(0).joined);
        drop(tickets);
    }

    #[tokio::test]
    async fn without_a_key_nobody_joins() {
        let flights = Flights::<u32>::default();
        let one = flights.board(None, after(1000), |_| std::future::pending());
        assert!(!flights.board(None, after(1000), |_| std::future::pending()).joined);
        drop(one);
    }
}
