//! Texts of several requests in one call: to detectors that take batches, over our own protocol.
//!
//! The first of a gathering waits a while for others or until it is full, asks for all, and gives each
//! its part of the reply, which each reads as if it had been answered alone. Where the first leaves,
//! the others ask for themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::flight::Progress;
use super::member::lock;
use super::sending::{Landing, Sending};
use crate::domain::digest::Digest;

/// Texts of one call, where the detector's file allows as many.
const ITEMS_MAX: usize = 50;

/// A body or a reply of several items.
#[derive(Serialize, Deserialize)]
struct Items {
    items: Vec<Value>,
}

/// Those who wait for one call.
#[derive(Default)]
struct Gathering {
    open: Mutex<Open>,
    full: Notify,
}

#[derive(Default)]
struct Open {
    items: Vec<Value>,
    /// How many items each who joined has, and where its part goes.
    joined: Vec<(usize, oneshot::Sender<Landing>)>,
    closed: bool,
}

/// The gatherings that take others in.
#[derive(Default)]
pub(super) struct Gatherings(Mutex<HashMap<Digest, Arc<Gathering>>>);

/// What became of one who came.
enum Came {
    /// It waits for its part.
    Joined(oneshot::Receiver<Landing>),
    /// It asks for all.
    Leads(Arc<Gathering>),
}

impl Gatherings {
    /// The end of `sending`, alone or with others of `key` that come within `patience`.
    pub(super) async fn run(
        self: Arc<Self>,
        key: Digest,
        sending: Sending,
        (progress, patience): (Arc<Progress>, Duration),
    ) -> Landing {
        let most = sending.detector.batch.map_or(1, Into::into).min(ITEMS_MAX);
        let own = serde_json::from_slice::<Items>(&sending.body).ok();
        let Some(own) = own.filter(|own| own.items.len() < most) else {
            return sending.run(progress).await;
        };
        let count = own.items.len();
        match self.come(key, own.items, most) {
            Came::Joined(part) => match part.await {
                Ok(landing) => landing,
                Err(_) => sending.run(progress).await,
            },
            Came::Leads(gathering) => {
                let led = Led { all: &self, key, gathering };
                // Full, or as many as came in time.
                let _ = timeout(patience, led.gathering.full.notified()).await;
                lead(sending, (count, led.close()), progress).await
            }
        }
    }

    fn come(&self, key: Digest, items: Vec<Value>, most: usize) -> Came {
        let mut all = lock(&self.0);
        if let Some(gathering) = all.get(&key) {
            let mut open = lock(&gathering.open);
            if !open.closed && open.items.len() + items.len() <= most {
                let (tell, told) = oneshot::channel();
                open.joined.push((items.len(), tell));
                open.items.extend(items);
                if open.items.len() >= most {
                    gathering.full.notify_one();
                }
                return Came::Joined(told);
            }
            // It has no room for this one, and need not wait for less.
            gathering.full.notify_one();
        }
        let open = Mutex::new(Open { items, ..Open::default() });
        let gathering = Arc::new(Gathering { open, full: Notify::new() });
        all.insert(key, Arc::clone(&gathering));
        Came::Leads(gathering)
    }
}

/// A gathering that its first member keeps open.
struct Led<'a> {
    all: &'a Gatherings,
    key: Digest,
    gathering: Arc<Gathering>,
}

impl Led<'_> {
    /// Takes nobody in any more.
    fn close(&self) -> Open {
        {
            let mut all = lock(&self.all.0);
            if all.get(&self.key).is_some_and(|known| Arc::ptr_eq(known, &self.gathering)) {
                all.remove(&self.key);
            }
        }
        let closed = Open { closed: true, ..Open::default() };
        std::mem::replace(&mut lock(&self.gathering.open), closed)
    }
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        // Whoever waits is told by the loss of its sender.
        self.close();
    }
}

async fn lead(
    mut sending: Sending,
    (own, open): (usize, Open),
    progress: Arc<Progress>,
) -> Landing {
    let Open { items, joined, .. } = open;
    if joined.is_empty() {
        return sending.run(progress).await;
    }
    let count = items.len();
    sending.body = serde_json::to_vec(&Items { items }).unwrap_or_default().into();
    let landing = sending.run(progress).await;
    let mut parts = parts(&landing, count);
    let mut next = |count: usize| match &mut parts {
        Some(items) => {
            let items = items.by_ref().take(count).collect();
            serde_json::to_vec(&Items { items }).unwrap_or_default().into()
        }
        // Nobody knows what is whose.
        None => Bytes::from_static(b"{}"),
    };
    let first = landing.with_body(|| next(own));
    for (count, tell) in joined {
        // Whoever left needs no part.
        let _ = tell.send(landing.with_body(|| next(count)));
    }
    first
}

/// The items of the reply, if they are as many as were asked about.
fn parts(landing: &Landing, count: usize) -> Option<std::vec::IntoIter<Value>> {
    let answer = landing.end.as_ref().ok()?;
    let reply: Items = serde_json::from_slice(&answer.body).ok()?;
    (reply.items.len() == count).then(|| reply.items.into_iter())
}
