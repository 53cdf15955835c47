//! From the store to whoever listens to a stream of events. One look at the store serves all who
//! listen to the same; each has a bounded place, and whoever falls behind is told and goes on later
//! from where it was.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};

use crate::bus::{Bus, Ring};
use crate::store::{Store, StoreError, Stream, Told};

/// Events that wait for a listener who does not take them.
const WAITING_MAX: usize = 256;
/// Events of one look.
const BATCH: u32 = 100;
/// Between two looks that nobody asked for.
const POLL: Duration = Duration::from_secs(1);

/// All streams that somebody listens to.
pub struct Feed {
    store: Arc<dyn Store>,
    channels: Mutex<BTreeMap<Stream, Channel>>,
    closing: watch::Sender<bool>,
    listeners_max: usize,
}

struct Channel {
    sender: broadcast::Sender<Sent>,
    /// The last that was sent; none until a listener has read up to somewhere.
    after: Option<i64>,
}

/// What a channel tells its listeners.
#[derive(Debug, Clone)]
enum Sent {
    Told(Arc<Told>),
    /// The store gives places anew beyond this one: an older state of it was brought back.
    Back(i64),
}

/// As many listen to the stream as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// How many.
    pub most: usize,
}

/// What a listener hears next.
#[derive(Debug, Clone)]
pub enum Heard {
    /// An event.
    Told(Arc<Told>),
    /// Events after the first and before the second place are kept no longer; where the second is not
    /// beyond the first, the places began anew and it goes on from there.
    Missed(i64, i64),
    /// It fell behind, and hears nothing more; it may come again.
    Slow,
    /// The service stops.
    Closing,
    /// The store does not answer.
    Away,
}

impl Feed {
    /// With at most so many listeners to one stream.
    pub fn new(store: Arc<dyn Store>, listeners_max: usize) -> Self {
        Self {
            store,
            channels: Mutex::default(),
            closing: watch::Sender::new(false),
            listeners_max,
        }
    }

    /// Looks for what is new, for ever; drop it to stop.
    pub async fn run(&self, bus: &dyn Bus) {
        let mut rings = bus.listen(Ring::Events);
        loop {
            for (stream, after) in self.listened() {
                if let Err(error) = self.look(&stream, after).await {
                    tracing::debug!(%error, "listeners wait for the store");
                }
            }
            let _ = tokio::time::timeout(POLL, rings.changed()).await;
        }
    }

    /// Listens to `stream` from after a place, or from now on.
    ///
    /// # Errors
    /// [`Full`] where as many listen as may.
    pub fn listen(self: &Arc<Self>, stream: Stream, after: Option<i64>) -> Result<Listener, Full> {
        let mut channels = self.channels();
        let channel = channels.entry(stream.clone()).or_insert_with(|| Channel {
            sender: broadcast::Sender::new(WAITING_MAX),
            after: None,
        });
        if channel.sender.receiver_count() >= self.listeners_max {
            return Err(Full { most: self.listeners_max });
        }
        let receiver = channel.sender.subscribe();
        drop(channels);
        Ok(Listener {
            feed: Arc::clone(self),
            closing: self.closing.subscribe(),
            stream,
            receiver: Some(receiver),
            after,
            backlog: VecDeque::new(),
            standing: Standing::Behind,
            is_known: after.is_none(),
        })
    }

    /// Ends every listener, and those to come.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.channels().values().map(|channel| channel.sender.receiver_count()).sum()
    }

    fn listened(&self) -> Vec<(Stream, i64)> {
        let mut channels = self.channels();
        channels.retain(|_, channel| channel.sender.receiver_count() > 0);
        let known = |(stream, channel): (&Stream, &Channel)| Some((stream.clone(), channel.after?));
        channels.iter().filter_map(known).collect()
    }

    /// Who has read up to `after` and has nothing more before it hears what comes behind that, whatever
    /// was sent before.
    fn join(&self, stream: &Stream, after: i64, waits: impl FnOnce() -> bool) {
        if let Some(channel) = self.channels().get_mut(stream)
            && waits()
        {
            channel.after = Some(channel.after.map_or(after, |sent| sent.min(after)));
        }
    }

    async fn look(&self, stream: &Stream, mut after: i64) -> Result<(), StoreError> {
        loop {
            let told = self.store.events(stream.clone(), after, BATCH).await?;
            let count = told.len();
            let back = match count {
                0 => {
                    Some(self.store.last_event(stream.clone()).await?).filter(|last| *last < after)
                }
                _ => None,
            };
            let mut channels = self.channels();
            let Some(channel) = channels.get_mut(stream) else { return Ok(()) };
            if channel.after != Some(after) {
                // Somebody joined behind this place: the next look begins there.
                return Ok(());
            }
            for told in told {
                after = place(stream, &told);
                // Whoever left meanwhile hears nothing.
                let _ = channel.sender.send(Sent::Told(Arc::new(told)));
            }
            if let Some(last) = back {
                after = last;
                let _ = channel.sender.send(Sent::Back(last));
            }
            channel.after = Some(after);
            if count < BATCH as usize && back.is_none() {
                return Ok(());
            }
        }
    }

    fn channels(&self) -> MutexGuard<'_, BTreeMap<Stream, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(stream: &Stream, told: &Told) -> i64 {
    match stream {
        Stream::Tenant(_) | Stream::Service => told.sequence,
        Stream::All | Stream::Callbacks => told.global,
    }
}

/// One who listens; leaves when dropped.
pub struct Listener {
    feed: Arc<Feed>,
    closing: watch::Receiver<bool>,
    stream: Stream,
    /// `None` once it hears nothing more.
    receiver: Option<broadcast::Receiver<Sent>>,
    /// The last that was heard; `None` until it is known where "now" is.
    after: Option<i64>,
    backlog: VecDeque<Told>,
    standing: Standing,
    /// Whether its place is known to be one that was given.
    is_known: bool,
}

/// Where a listener takes its next event from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// From the store, until nothing is left there.
    Behind,
    /// From the feed, which may be ahead of what was read.
    Joining,
    /// From the feed.
    Live,
}

impl Listener {
    /// What comes next; `None` after the end. May be dropped and asked again.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            let receiver = self.receiver.as_mut()?;
            if *self.closing.borrow() {
                self.receiver = None;
                return Some(Heard::Closing);
            }
            if let Some(told) = self.backlog.pop_front() {
                if let Some(missed) = self.missed(&told) {
                    self.backlog.push_front(told);
                    return Some(missed);
                }
                self.after = Some(place(&self.stream, &told));
                return Some(Heard::Told(Arc::new(told)));
            }
            if self.standing == Standing::Behind {
                match self.read().await {
                    Ok(None) => continue,
                    Ok(missed) => return missed,
                    Err(error) => {
                        tracing::debug!(%error, "a listener cannot be told what it missed");
                        self.receiver = None;
                        return Some(Heard::Away);
                    }
                }
            }
            let heard = match (self.standing, receiver.try_recv()) {
                (_, Ok(told)) => Ok(told),
                (_, Err(TryRecvError::Lagged(count))) => Err(RecvError::Lagged(count)),
                (_, Err(TryRecvError::Closed)) => Err(RecvError::Closed),
                (Standing::Live, Err(TryRecvError::Empty)) => tokio::select! {
                    heard = receiver.recv() => heard,
                    _ = self.closing.changed() => continue,
                },
                (_, Err(TryRecvError::Empty)) => {
                    self.standing = Standing::Live;
                    continue;
                }
            };
            if let Some(heard) = self.hear(heard) {
                return Some(heard);
            }
        }
    }

    /// Settles where "now" is for one that listens from now on, unless that is known: whatever happens
    /// after this, it hears.
    pub async fn begin(&mut self) -> Result<i64, StoreError> {
        let after = match self.after {
            Some(after) => after,
            None => self.feed.store.last_event(self.stream.clone()).await?,
        };
        self.after = Some(after);
        Ok(after)
    }

    /// The place after which it goes on.
    pub fn after(&self) -> i64 {
        self.after.unwrap_or_default()
    }

    fn hear(&mut self, heard: Result<Sent, RecvError>) -> Option<Heard> {
        match heard {
            Ok(Sent::Back(last)) => {
                let after = self.after();
                (after > last).then(|| {
                    (self.after, self.standing) = (Some(last), Standing::Behind);
                    Heard::Missed(after, last + 1)
                })
            }
            Ok(Sent::Told(told)) => {
                let (at, after) = (place(&self.stream, &told), self.after());
                if at <= after {
                    return None;
                }
                if at > after + 1 {
                    // The feed is ahead of what was read.
                    self.standing = Standing::Behind;
                    return None;
                }
                self.after = Some(at);
                Some(Heard::Told(told))
            }
            // It was reading what it had missed, and not slow.
            Err(RecvError::Lagged(_)) if self.standing == Standing::Joining => {
                self.standing = Standing::Behind;
                None
            }
            Err(RecvError::Lagged(_)) => {
                self.receiver = None;
                Some(Heard::Slow)
            }
            Err(RecvError::Closed) => {
                self.receiver = None;
                Some(Heard::Closing)
            }
        }
    }

    /// Reads on; tells once where it comes from a place that was never given.
    async fn read(&mut self) -> Result<Option<Heard>, StoreError> {
        let after = self.begin().await?;
        let store = &self.feed.store;
        let told = store.events(self.stream.clone(), after, BATCH).await?;
        if told.is_empty() && !std::mem::replace(&mut self.is_known, true) {
            let last = store.last_event(self.stream.clone()).await?;
            if after > last {
                self.after = Some(last);
                return Ok(Some(Heard::Missed(after, last + 1)));
            }
        }
        if told.is_empty() {
            self.standing = Standing::Joining;
            let receiver = self.receiver.as_ref();
            let waits = || receiver.is_some_and(broadcast::Receiver::is_empty);
            self.feed.join(&self.stream, after, waits);
        }
        self.is_known = true;
        self.backlog = told.into();
        Ok(None)
    }

    /// What lies between the last that was heard and `next`, told once. Places have no gaps, so it
    /// is gone.
    fn missed(&mut self, next: &Told) -> Option<Heard> {
        let (after, at) = (self.after?, place(&self.stream, next));
        (at > after + 1).then(|| {
            self.after = Some(at - 1);
            Heard::Missed(after, at)
        })
    }
}
