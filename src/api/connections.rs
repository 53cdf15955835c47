//! How many connections one address may hold. actix bounds all of them together; one peer that
//! opens every one of them would leave none to others.

use std::any::Any;
use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream as StdStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::dev::Extensions;
use tokio::net::TcpStream;

/// Open connections by address.
pub struct Connections {
    max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One open connection; leaves when it is dropped.
struct Entry {
    all: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    /// At most `max` connections of one address.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::default() })
    }

    /// For actix's `on_connect`: a connection above the limit is shut before a byte of it is read.
    pub fn admit(self: &Arc<Self>, io: &dyn Any, extensions: &mut Extensions) {
        let Some(stream) = io.downcast_ref::<TcpStream>() else { return };
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
        Some(Entry { all: Arc::clone(self), address })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
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
        drop(first);
        assert!(all.enter(one).is_some());
        drop(second);
        assert!(all.open.lock().unwrap().is_empty(), "an address without connections is kept");
    }
}
