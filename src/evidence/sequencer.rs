//! The order of records. One batch is on its way at a time; while it is, the next one gathers. What
//! cannot be written soon goes into the spool, what somebody waits for never does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::held::Held;
use super::log::{Entry, FAREWELL, Proof, STRICT_WAIT, Shared, Unrecorded};
use super::merkle::Frontier;
use super::spool::{Spool, SpoolError};
use super::writer::{Landed, Rows, Wanted, Writer, Written};
use crate::metrics::Dependency;
use crate::store::{Decision, StoreError};

/// Records per batch at most.
const BATCH_ROWS_MAX: usize = 256;
/// Of them, those that are left to the spool while it holds any.
const SPOOLED_ROWS_MIN: usize = 64;
/// How long records that nobody waits for may gather.
const GATHER: Duration = Duration::from_millis(25);
/// How long such a record may be without being durable before it is spooled: promised are 100 ms.
const RESCUE: Duration = Duration::from_millis(75);
/// Between two attempts at a store that is away.
const AGAIN: Duration = Duration::from_millis(200);
/// Between two lines that tell the head.
const TELL: Duration = Duration::from_secs(1);

type Tell = oneshot::Sender<Result<Proof, Unrecorded>>;

/// Runs beside a [`super::Log`] until that is closed.
pub struct Sequencer {
    entries: mpsc::UnboundedReceiver<Entry>,
    writer: Arc<Writer>,
    spool: Option<Spool>,
    /// What neither the store nor the spool takes.
    held: Held,
    /// Not before then is the spool tried that has no room.
    spool_again: Option<Instant>,
    shared: Arc<Shared>,
    /// With somebody who waits.
    strict: VecDeque<Entry>,
    standard: VecDeque<Entry>,
    flight: Option<Flight>,
    tree: Option<Frontier>,
    /// Not before then is a store tried that was away.
    again: Option<Instant>,
    told: Option<Instant>,
    untold: bool,
    give_up: Option<Instant>,
    broken: bool,
}

/// A batch on its way.
struct Flight {
    work: BoxFuture<'static, Landed>,
    since: Instant,
    /// Strict rows first, then standard ones, then those of the spool, then held ones.
    rows: Rows,
    waiting: Vec<Tell>,
    standard: usize,
    /// Frames of the spool.
    frames: usize,
    /// Rows at the front of what is held.
    held: usize,
    bytes: u64,
    oldest: Option<Instant>,
    /// Its standard rows are in the spool too.
    is_spooled: bool,
}

impl Sequencer {
    pub(super) fn new(
        entries: mpsc::UnboundedReceiver<Entry>,
        writer: Writer,
        spool: Option<Spool>,
        shared: Arc<Shared>,
    ) -> Sequencer {
        shared.spool(spool.as_ref(), false);
        shared.metrics.dependency(Dependency::Store, true);
        Sequencer {
            entries,
            writer: Arc::new(writer),
            spool,
            held: Held::new(shared.held_bytes_max),
            spool_again: None,
            shared,
            strict: VecDeque::new(),
            standard: VecDeque::new(),
            flight: None,
            tree: None,
            // The first look at the store.
            again: Some(Instant::now()),
            told: None,
            untold: false,
            give_up: None,
            broken: false,
        }
    }

    /// Puts records in order until the log is closed. Where it ends otherwise, nothing may be
    /// believed any more.
    pub async fn run(self) {
        // Last of all: whoever waits for the end may open the spool again.
        let _ended: DropGuard = self.shared.ended.clone().drop_guard();
        // A panic must not leave a service that records nothing.
        let unbroken = self.shared.broken.clone().drop_guard();
        if !self.until_closed().await {
            let _ = unbroken.disarm();
        }
    }

    /// Whether the disk failed.
    async fn until_closed(mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        loop {
            let now = Instant::now();
            self.take_off(now);
            if self.is_done(now) {
                break;
            }
            let wake = self.wake(now);
            let stopping = self.give_up.is_some();
            let open = !self.entries.is_closed() || !self.entries.is_empty();
            tokio::select! {
                biased;
                landed = landing(&mut self.flight) => self.land(landed),
                entry = self.entries.recv(), if open => self.enqueue(entry),
                () = shared.stop.cancelled(), if !stopping => self.entries.close(),
                () = sleep_until(wake) => {}
            }
            let now = Instant::now();
            if self.entries.is_closed() && self.give_up.is_none() {
                self.give_up = Some(now + FAREWELL);
            }
            self.rescue(now);
            self.spool_held(now);
            self.tell(now);
        }
        self.leave();
        self.broken
    }

    fn enqueue(&mut self, first: Option<Entry>) {
        let mut next = first;
        while let Some(entry) = next {
            match entry.tell {
                Some(_) => self.strict.push_back(entry),
                None => self.standard.push_back(entry),
            }
            next = self.entries.try_recv().ok();
        }
        self.shared.tell_depth();
    }

    /// Begins a batch where one is due.
    fn take_off(&mut self, now: Instant) {
        if self.flight.is_some() || self.broken {
            return;
        }
        self.strict.retain(|entry| {
            let waits = entry.tell.as_ref().is_some_and(|tell| !tell.is_closed());
            if !waits {
                self.shared.release(1, entry.bytes());
            }
            waits
        });
        let is_due = match self.again {
            // A look at the store that is away, with or without rows.
            Some(again) => again <= now,
            None => {
                let gathered = self.standard.front().is_some_and(|row| row.since + GATHER <= now);
                let many = self.standard.len() >= BATCH_ROWS_MAX;
                let stopping = self.give_up.is_some() && !self.standard.is_empty();
                let left = !self.spool_is_empty() || !self.held.is_empty();
                !self.strict.is_empty() || gathered || many || stopping || left
            }
        };
        if is_due {
            self.flight = Some(self.batch(now));
        }
    }

    fn batch(&mut self, now: Instant) -> Flight {
        let left = !self.spool_is_empty() || !self.held.is_empty();
        let kept_free = if left { SPOOLED_ROWS_MIN } else { 0 };
        let room = BATCH_ROWS_MAX - kept_free;
        let mut entries: Vec<Entry> = Vec::new();
        let strict = self.strict.len().min(room);
        entries.extend(self.strict.drain(..strict));
        let standard = self.standard.len().min(room - strict);
        entries.extend(self.standard.drain(..standard));
        let oldest = entries.get(strict).map(|entry| entry.since);
        let bytes = entries.iter().map(Entry::bytes).sum();
        let (mut rows, mut waiting) = (Vec::with_capacity(entries.len()), Vec::new());
        for Entry { decision, leaf, tell, .. } in entries {
            rows.push((decision, leaf));
            waiting.extend(tell);
        }
        let left = BATCH_ROWS_MAX - rows.len();
        let (spooled, frames) = match &mut self.spool {
            Some(spool) => spool.front(left),
            None => (Vec::new(), 0),
        };
        // What is held came after what is in the spool.
        let left = if self.spool.as_ref().is_none_or(|spool| spool.len() == frames) {
            left - frames
        } else {
            0
        };
        let mut held = 0;
        let again = self.held.front(left).cloned().inspect(|_| held += 1);
        rows.extend(spooled.into_iter().chain(again).map(|decision| {
            let leaf = super::merkle::leaf_hash(decision.record.as_bytes());
            (decision, leaf)
        }));
        let rows = Arc::new(rows);
        let wanted = Wanted { proofs: strict, doubtful: frames + held > 0 };
        let (writer, tree, sent) = (Arc::clone(&self.writer), self.tree.take(), Arc::clone(&rows));
        let work = async move { writer.commit(tree, sent, wanted).await }.boxed();
        let since = now;
        let is_spooled = false;
        Flight { work, since, rows, waiting, standard, frames, held, bytes, oldest, is_spooled }
    }

    fn land(&mut self, landed: Landed) {
        let Some(flight) = self.flight.take() else { return };
        self.tree = landed.tree;
        if let Some(head) = landed.head {
            let rows = landed.rows.as_ref().map_or(0, Vec::len) as u64;
            self.shared.committed(rows, head);
            self.untold = true;
        }
        match landed.rows {
            Ok(written) => self.landed(flight, written),
            Err(error) => self.missed(flight, error),
        }
    }

    fn landed(&mut self, flight: Flight, written: Vec<Written>) {
        self.again = None;
        if self.shared.away().is_some() {
            self.shared.set_away(None);
        }
        self.shared.release((flight.waiting.len() + flight.standard) as u64, flight.bytes);
        if let Some(spool) = self.spool.as_mut().filter(|_| flight.frames > 0) {
            spool.forget(flight.frames);
            self.shared.spool(self.spool.as_ref(), false);
        }
        if flight.held > 0 {
            self.held.forget(flight.held);
            self.shared.tell_held(&self.held);
        }
        // Since it took off these were kept for the case that it fails, and are judged there again.
        let own = flight.waiting.len()..flight.waiting.len() + flight.standard;
        let moved = own.end + flight.frames..flight.rows.len() - flight.held;
        let comes_again =
            |place| (flight.is_spooled && own.contains(&place)) || moved.contains(&place);
        let mut waiting = flight.waiting.into_iter();
        for (place, row) in written.into_iter().enumerate() {
            let told = match (waiting.next(), row) {
                (None, Written::In(_)) => continue,
                (None, Written::Refused(_)) if comes_again(place) => continue,
                (None, Written::Refused(why)) => {
                    self.shared.lose(1, &why);
                    continue;
                }
                (Some(tell), Written::In(Some(proof))) => tell.send(Ok(proof)),
                (Some(tell), Written::In(None)) => {
                    tell.send(Err(Unrecorded::Refused("its leaf is gone".into())))
                }
                (Some(tell), Written::Refused(why)) => tell.send(Err(Unrecorded::Refused(why))),
            };
            // A caller that no longer waits needs no answer.
            drop(told);
        }
    }

    /// Nobody knows what became of the batch: who waits is told so, the rest is spooled, and what was
    /// recorded after all is skipped when the spool is emptied.
    fn missed(&mut self, flight: Flight, error: StoreError) {
        let why = Unrecorded::Away(error.to_string());
        let rows = (flight.waiting.len() + flight.standard) as u64;
        self.again = Some(Instant::now() + AGAIN);
        self.shared.set_away(Some(why.clone()));
        if matches!(error, StoreError::Broken { .. }) {
            self.fail();
        }
        if matches!(error, StoreError::Failed { .. }) {
            // Another row may be in the way now than the one that was named.
            self.shared.tell_away(why.clone());
        }
        let strict = flight.waiting.len();
        let waiting = flight.waiting.into_iter();
        waiting.for_each(|tell| drop(tell.send(Err(why.clone()))));
        if !flight.is_spooled {
            let rows = flight.rows.iter().skip(strict).take(flight.standard);
            let decisions: Vec<&Decision> = rows.map(|(decision, _)| decision).collect();
            self.keep(&decisions);
        }
        self.shared.release(rows, flight.bytes);
        self.refuse_strict(&why);
    }

    /// Tells everyone who waits for a batch of their own.
    fn refuse_strict(&mut self, why: &Unrecorded) {
        for entry in self.strict.drain(..) {
            self.shared.release(1, entry.bytes());
            if let Some(tell) = entry.tell {
                let _ = tell.send(Err(why.clone()));
            }
        }
    }

    /// Spools what must not wait longer, and says that a store which hangs is away.
    fn rescue(&mut self, now: Instant) {
        let hangs = self.flight.as_ref().is_some_and(|flight| flight.since + STRICT_WAIT <= now);
        if hangs && self.shared.away().is_none() {
            self.shared.set_away(Some(Unrecorded::Late));
        }
        if let Some(why) = self.shared.away() {
            self.refuse_strict(&why);
        }
        if self.overdue().is_some_and(|at| at <= now) {
            self.spool_all();
        }
    }

    /// When the oldest record that nobody waits for must be in the spool.
    fn overdue(&self) -> Option<Instant> {
        let waits = if self.shared.away().is_some() { GATHER } else { RESCUE };
        let flying = self.flight.as_ref().filter(|flight| !flight.is_spooled);
        let flying = flying.and_then(|flight| flight.oldest);
        let oldest = flying.or_else(|| self.standard.front().map(|entry| entry.since));
        oldest.map(|since| since + waits)
    }

    fn spool_all(&mut self) {
        let rows = self.flight.as_mut().filter(|flight| !flight.is_spooled).map(|flight| {
            flight.is_spooled = true;
            (Arc::clone(&flight.rows), flight.waiting.len(), flight.standard)
        });
        let waiting: Vec<Entry> = self.standard.drain(..).collect();
        let mut decisions: Vec<&Decision> = Vec::new();
        if let Some((rows, strict, standard)) = &rows {
            decisions.extend(rows.iter().skip(*strict).take(*standard).map(|(row, _)| row));
        }
        decisions.extend(waiting.iter().map(|entry| &entry.decision));
        self.keep(&decisions);
        let bytes = waiting.iter().map(Entry::bytes).sum();
        self.shared.release(waiting.len() as u64, bytes);
    }

    /// Makes decisions durable in the spool, or holds them where it has no room; beyond that they are
    /// lost and counted.
    fn keep(&mut self, decisions: &[&Decision]) {
        if decisions.is_empty() {
            return;
        }
        // Behind what is held: the order stays.
        let kept = if self.held.is_empty() {
            let (kept, why) = append(self.spool.as_mut(), decisions);
            self.spooled(why);
            kept
        } else {
            0
        };
        let rest = decisions.get(kept..).unwrap_or_default();
        let held = if self.broken { 0 } else { self.held.take(rest) };
        self.shared.lose((rest.len() - held) as u64, "neither store, spool nor memory has room");
        self.shared.tell_held(&self.held);
    }

    /// What became of an attempt at the spool.
    fn spooled(&mut self, why: Option<SpoolError>) {
        self.spool_again = why.as_ref().map(|_| Instant::now() + AGAIN);
        self.shared.spool(self.spool.as_ref(), why.is_some());
        match why {
            Some(SpoolError::Broken(_)) => self.fail(),
            Some(SpoolError::Full | SpoolError::Unwritable(_)) | None => {}
        }
    }

    /// Moves what is held into the spool, a batch at a time, while the store is away.
    fn spool_held(&mut self, now: Instant) {
        let is_due = self.spool_again.is_none_or(|at| at <= now) && self.shared.away().is_some();
        if is_due && !self.held.is_empty() && !self.broken {
            self.spool_some();
        }
    }

    /// How many records of what is held are in the spool now.
    fn spool_some(&mut self) -> usize {
        let some: Vec<&Decision> = self.held.front(BATCH_ROWS_MAX).collect();
        let (kept, why) = append(self.spool.as_mut(), &some);
        self.held.forget(kept);
        if let Some(flight) = &mut self.flight {
            // Those of them that are on their way too are skipped by their ids later.
            flight.held = flight.held.saturating_sub(kept);
        }
        self.spooled(why);
        self.shared.tell_held(&self.held);
        kept
    }

    /// The disk failed: nothing may be acknowledged any more.
    fn fail(&mut self) {
        if !std::mem::replace(&mut self.broken, true) {
            tracing::error!("The disk failed; nothing is put on record before a new start");
            self.shared.set_away(Some(Unrecorded::Ended));
            self.shared.broken.cancel();
        }
    }

    fn wake(&self, now: Instant) -> Option<Instant> {
        let gathered = self.standard.front().map(|entry| entry.since + GATHER);
        let idle = self.flight.is_none() && !self.broken;
        let hangs = self.flight.as_ref().map(|flight| flight.since + STRICT_WAIT);
        let times = [
            if idle { self.again.or(gathered) } else { None },
            hangs.filter(|_| self.shared.away().is_none()),
            self.overdue(),
            self.told.filter(|_| self.untold).map(|told| told + TELL),
            self.give_up.filter(|at| *at > now),
            self.spool_held_at(now),
        ];
        times.into_iter().flatten().min()
    }

    fn spool_held_at(&self, now: Instant) -> Option<Instant> {
        let waits = !self.held.is_empty() && !self.broken && self.shared.away().is_some();
        waits.then(|| self.spool_again.unwrap_or(now))
    }

    /// Tells the head, at most once a second.
    fn tell(&mut self, now: Instant) {
        self.shared.tell_depth();
        if !self.untold || self.told.is_some_and(|told| told + TELL > now) {
            return;
        }
        self.shared.tell_head();
        (self.told, self.untold) = (Some(now), false);
    }

    fn spool_is_empty(&self) -> bool {
        self.spool.as_ref().is_none_or(Spool::is_empty)
    }

    /// Whether a log that was closed has nothing left to do, or no time.
    fn is_done(&self, now: Instant) -> bool {
        let Some(give_up) = self.give_up else { return false };
        let nothing = self.flight.is_none() && self.entries.is_empty() && self.strict.is_empty();
        // What only memory has is tried until there is no time left.
        let durable = self.standard.is_empty() && self.held.is_empty();
        let written = self.spool_is_empty() || self.shared.away().is_some();
        give_up <= now || self.broken || (nothing && durable && written)
    }

    /// What is left at the end goes into the spool, and where that has no room it is lost.
    fn leave(&mut self) {
        let entry = self.entries.try_recv().ok();
        self.enqueue(entry);
        self.refuse_strict(&Unrecorded::Ended);
        self.spool_all();
        while !self.broken && !self.held.is_empty() && self.spool_some() > 0 {}
        let (left, _) = self.held.size();
        self.shared.lose(left, "the service ended before the store or the spool took them");
        if self.untold {
            self.shared.tell_head();
        }
    }
}

fn append(spool: Option<&mut Spool>, decisions: &[&Decision]) -> (usize, Option<SpoolError>) {
    spool.map_or((0, Some(SpoolError::Full)), |spool| spool.append(decisions))
}

/// The end of the batch on its way; never where there is none.
async fn landing(flight: &mut Option<Flight>) -> Landed {
    match flight {
        Some(flight) => (&mut flight.work).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
