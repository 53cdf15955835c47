//! Requests that are carried out once, however often they come (`Idempotency-Key`).
//!
//! In this process the first of a key takes its turn and the others wait behind it; among processes
//! the store's claim decides. Whoever waits holds no slot and no place in the queue, and only one of
//! them asks the store.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::HttpRequest;
use futures_util::future::{Either, select};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument as _;

use super::Api;
use crate::domain::error::{Code, Error};
use crate::metrics::Idempotent;
use crate::store::{Claim, Claimed, Store, StoreError, Terms};

mod asked;
mod kept;

pub(super) use asked::{Asked, fingerprint};
pub(super) use kept::Kept;

/// How long a claim outlives an owner that is gone.
const LEASE: Duration = Duration::from_secs(10);
/// Between renewals of a claim.
const RENEW: Duration = Duration::from_secs(3);
/// How long a key is remembered after it first came.
const KEEP: Duration = Duration::from_secs(24 * 3_600);
/// Between looks at what another instance carries out.
const LOOK: Duration = Duration::from_millis(100);
/// How long an answer that the store does not take is offered to it; well within a lease.
const OFFER: Duration = Duration::from_secs(4);
/// How long the store may take over a claim, where the request's own time is shorter.
const HANG: Duration = Duration::from_millis(250);
/// Requests of one key that may wait at this instance.
const WAITING_MAX: usize = 32;
/// Characters of a key.
const KEY_MAX: usize = 255;
/// How the log calls what was carried out under a key, and what was only repeated.
pub(super) const EXECUTED: &str = "executed";
pub(super) const REPLAYED: &str = "replayed";

/// The key of `http`, where it has one.
pub(super) fn key(http: &HttpRequest) -> Result<Option<String>, Error> {
    let mut all = http.headers().get_all("idempotency-key");
    let Some(first) = all.next() else { return Ok(None) };
    let printable = |byte: &u8| (b' '..=b'~').contains(byte);
    let raw = first.to_str().ok().filter(|raw| raw.bytes().all(|byte| printable(&byte)));
    match raw.filter(|raw| (1..=KEY_MAX).contains(&raw.len())) {
        Some(raw) if all.next().is_none() => Ok(Some(raw.to_owned())),
        _ => Err(Error::new(
            Code::InvalidRequest,
            "Idempotency-Key must be 1 to 255 printable ASCII characters; send one such key, or none",
        )),
    }
}

/// What came first, or what was kept of it.
pub(super) enum Turn<T, K> {
    /// It was carried out now.
    First(T),
    /// It was carried out before.
    Again(K),
}

/// The keys that are asked for at this instance.
#[derive(Default)]
pub struct Repeats(Mutex<HashMap<[u8; 32], Open>>);

/// A key that somebody carries out or waits for.
#[derive(Default)]
struct Open {
    visits: usize,
    waiting: usize,
    /// What is carried out here.
    request: Option<[u8; 32]>,
    turn: Arc<tokio::sync::Mutex<Option<Answered>>>,
}

/// The request, and its sealed answer.
type Answered = ([u8; 32], Vec<u8>);

impl Repeats {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, asked: &Asked) -> Result<Visit<'_>, Error> {
        let mut all = self.lock();
        let open = all.entry(asked.key).or_default();
        if open.request.is_some_and(|request| request != asked.request) {
            return Err(mismatch());
        }
        if open.waiting >= WAITING_MAX {
            return Err(in_flight());
        }
        open.visits += 1;
        open.waiting += 1;
        let turn = Arc::clone(&open.turn);
        Ok(Visit { repeats: self, key: asked.key, waits: true, turn })
    }
}

/// One request at its key; left when dropped.
struct Visit<'a> {
    repeats: &'a Repeats,
    key: [u8; 32],
    waits: bool,
    turn: Arc<tokio::sync::Mutex<Option<Answered>>>,
}

impl Visit<'_> {
    /// It waits no longer: it carries `request` out.
    fn begins(&mut self, request: [u8; 32]) {
        if let Some(open) = self.repeats.lock().get_mut(&self.key) {
            open.waiting -= usize::from(std::mem::take(&mut self.waits));
            open.request = Some(request);
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let mut all = self.repeats.lock();
        let Some(open) = all.get_mut(&self.key) else { return };
        open.visits -= 1;
        match self.waits {
            true => open.waiting -= 1,
            false => open.request = None,
        }
        if open.visits == 0 {
            all.remove(&self.key);
        }
    }
}

/// The claims that a request makes or holds: while there are any, its caller may leave.
pub(super) type Claims = Rc<Cell<usize>>;

struct Holding<'a>(&'a Cell<usize>);

impl<'a> Holding<'a> {
    fn one_of(claims: &'a Cell<usize>) -> Self {
        claims.set(claims.get() + 1);
        Self(claims)
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Runs `work` to its end although its caller leaves, as long as it holds a claim. A stop of the
/// service ends it; the claim is then free within [`LEASE`].
pub(super) async fn outlast<T: 'static, F>(work: impl FnOnce(Claims) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>> + 'static,
{
    struct Left(tokio::task::AbortHandle, Claims);
    impl Drop for Left {
        fn drop(&mut self) {
            if self.1.get() == 0 {
                self.0.abort();
            }
        }
    }
    let claims = Claims::default();
    let running = actix_web::rt::spawn(work(Rc::clone(&claims)).in_current_span());
    let _left = Left(running.abort_handle(), claims);
    match running.await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::new(Code::ShuttingDown, "the service is stopping")),
        },
    }
}

/// Carries `work` out unless it was before, and keeps what it says is to be kept; `None` leaves it to
/// the next who asks. `work` is told how long it waited. Waits until `until` for another who does it.
pub(super) async fn once<T, K: Serialize + DeserializeOwned>(
    (api, claims): (&Api, &Cell<usize>),
    asked: &Asked,
    until: Instant,
    work: impl AsyncFnOnce(Duration) -> (T, Option<K>),
) -> Result<Turn<T, K>, Error> {
    let turn = turn((api, claims), asked, until, work).await;
    api.deps.metrics.idempotent(match &turn {
        Ok(Turn::First(_)) => Idempotent::Executed,
        Ok(Turn::Again(_)) => Idempotent::Replayed,
        Err(Error { code: Code::IdempotencyMismatch, .. }) => Idempotent::Mismatch,
        Err(Error { code: Code::IdempotencyInFlight, .. }) => Idempotent::InFlight,
        Err(_) => Idempotent::Failed,
    });
    turn
}

async fn turn<T, K: Serialize + DeserializeOwned>(
    (api, claims): (&Api, &Cell<usize>),
    asked: &Asked,
    until: Instant,
    work: impl AsyncFnOnce(Duration) -> (T, Option<K>),
) -> Result<Turn<T, K>, Error> {
    let begun = Instant::now();
    let store = api.deps.store.as_ref();
    let mut visit = api.repeats.enter(asked)?;
    let turn = Arc::clone(&visit.turn);
    let mut answered = timeout_at(until, turn.lock()).await.map_err(|_| in_flight())?;
    let mut waited = begun.elapsed();
    let (claim, _holding) = loop {
        if let Some((request, sealed)) = &*answered {
            let same = *request == asked.request;
            return if same { asked.open(sealed).map(Turn::Again) } else { Err(mismatch()) };
        }
        let (claim, holding) = (asked.claim(), Holding::one_of(claims));
        let terms = Terms { request: asked.request, lease: LEASE, keep: KEEP };
        let claimed = timeout_at(until.max(begun + HANG), store.claim(claim.clone(), terms)).await;
        let hung = |_| Err(StoreError::Slow { doing: "claiming", waited_ms: HANG.as_millis() });
        match claimed.unwrap_or_else(hung).map_err(unavailable)? {
            Claimed::Mine => break (claim, holding),
            Claimed::Mismatch => return Err(mismatch()),
            Claimed::Finished(sealed) => *answered = Some((asked.request, sealed)),
            Claimed::InFlight => {
                drop(holding);
                if Instant::now() + LOOK > until {
                    return Err(in_flight());
                }
                sleep(LOOK).await;
                waited = begun.elapsed();
            }
        }
    };
    if waited > until.duration_since(begun) / 2 {
        // Too little time is left for an answer that will stand for a day.
        release(store, claim).await;
        return Err(in_flight());
    }
    visit.begins(asked.request);
    let (first, kept) = renewing(store, &claim, work(waited)).await;
    let Some(kept) = kept else {
        release(store, claim).await;
        return Ok(Turn::First(first));
    };
    let sealed = asked.seal(&kept)?;
    if !keep(store, claim, &sealed).await? {
        tracing::warn!("a claim was lost to another instance; its answer is the one that counts");
        return Err(in_flight());
    }
    *answered = Some((asked.request, sealed));
    Ok(Turn::First(first))
}

/// Renews the claim while `work` lasts. Whether it was lost is told when the answer is kept.
async fn renewing<T>(store: &dyn Store, claim: &Claim, work: impl Future<Output = T>) -> T {
    let renewing = async {
        loop {
            sleep(RENEW).await;
            if let Err(error) = store.renew(claim.clone(), LEASE).await {
                tracing::warn!(%error, "a claim could not be renewed; it is tried again");
            }
        }
    };
    let renewing: std::pin::Pin<Box<dyn Future<Output = std::convert::Infallible>>> =
        Box::pin(renewing);
    match select(std::pin::pin!(work), renewing).await {
        Either::Left((done, _)) => done,
        Either::Right((never, _)) => match never {},
    }
}

/// Offers the answer until the store takes it; false where somebody else has claimed meanwhile.
async fn keep(store: &dyn Store, claim: Claim, sealed: &[u8]) -> Result<bool, Error> {
    let until = Instant::now() + OFFER;
    let mut pause = Duration::from_millis(50);
    loop {
        match store.finish(claim.clone(), sealed.to_vec()).await {
            Ok(kept) => return Ok(kept),
            Err(error) if Instant::now() + pause > until => return Err(unavailable(error)),
            Err(_) => sleep(pause).await,
        }
        pause *= 2;
    }
}

async fn release(store: &dyn Store, claim: Claim) {
    if let Err(error) = store.release(claim).await {
        tracing::warn!(%error, "a claim could not be released; it ends with its lease");
    }
}

fn unavailable(error: StoreError) -> Error {
    let message = "the store does not take the Idempotency-Key; send the request again later";
    Error::new(error.code(), message).caused_by(error)
}

fn in_flight() -> Error {
    let message = "a request with this Idempotency-Key is being carried out; send it again later";
    Error::new(Code::IdempotencyInFlight, message).retry_after(Duration::from_secs(1))
}

fn mismatch() -> Error {
    let detail = "this Idempotency-Key came with another body in the last 24 hours; send that body, \
                  or a new key";
    Error::field(Code::IdempotencyMismatch, "", "mismatch", detail)
}
