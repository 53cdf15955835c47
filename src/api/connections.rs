//! What holds for a connection and not for one request: how many an address may have, and that
//! nothing is served on one after its last request. actix bounds all connections together and
//! serves what was pipelined behind `Connection: close`.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream as StdStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::dev::{Extensions, ServiceRequest};
use actix_web::http::ConnectionType;
use tokio::net::TcpStream;

/// Open connections by address.
pub struct Connections {
    max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
    silent: AtomicUsize,
}

/// One open connection; leaves when it is dropped.
struct Entry {
    all: Arc<Connections>,
    address: IpAddr,
    asked: AtomicBool,
    ended: AtomicBool,
}

/// What follows the last request of a connection.
pub(super) enum Turn {
    /// The request is to be served.
    Serve,
    /// An earlier one was the last; this one must not be served.
    Late,
}

/// Whether `request` may be served; `doubtful` or its own wish make it the last of its connection.
pub(super) fn turn(request: &ServiceRequest, doubtful: bool) -> Turn {
    let Some(entry) = request.conn_data::<Entry>() else { return Turn::Serve };
    entry.ask();
    let last = doubtful || request.head().connection_type() == ConnectionType::Close;
    if entry.ended.fetch_or(last, Ordering::Relaxed) { Turn::Late } else { Turn::Serve }
}

impl Connections {
    /// At most `max` connections of one address.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::default(), silent: AtomicUsize::new(0) })
    }

    /// For actix's `on_connect`: a connection above the limit is shut before a byte of it is read.
    pub fn admit(self: &Arc<Self>, stream: &TcpStream, extensions: &mut Extensions) {
        let Ok(peer) = stream.peer_addr() else { return };
        match self.enter(peer.ip().to_canonical()) {
            Some(entry) => {
                extensions.insert(entry);
            }
            None => {
                tracing::debug!("an address holds too many connections; one more was shut");
                if let Ok(socket) = stream.as_fd().try_clone_to_owned() {
                    // Gone already is as good as shut.
                    let _ = StdStream::from(socket).shutdown(Shutdown::Both);
                }
            }
        }
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Entry> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        self.silent.fetch_add(1, Ordering::Relaxed);
        let (asked, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        Some(Entry { all: Arc::clone(self), address, asked, ended })
    }

    /// Connections on which nothing has been asked yet.
    pub fn silent(&self) -> usize {
        self.silent.load(Ordering::Relaxed)
    }
}

impl Entry {
    fn ask(&self) {
        if !self.asked.swap(true, Ordering::Relaxed) {
            self.all.silent.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ask();
        let mut open = self.all.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_at_its_limit_does_not_hold_up_another() {
        let all = Connections::new(2);
        let (one, two): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = all.enter(one);
        let second = all.enter(one);
        assert!(first.is_some() && second.is_some() && all.enter(one).is_none());
        assert!(all.enter(two).is_some());
        assert_eq!(all.silent(), 2);
        first.as_ref().unwrap().ask();
        drop(first);
        assert_eq!(all.silent(), 1, "whoever asked is taken off once");
        assert!(all.enter(one).is_some());
        drop(second);
        assert_eq!(all.silent(), 0);
        assert!(all.open.lock().unwrap().is_empty(), "an address without connections is kept");
    }
}
