//! The listening socket of a service that stops.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use crate::api::{Connections, Workers};

/// How long those who are at the door when it is shut have, at least, to come in and ask.
const COMING_IN: Duration = Duration::from_millis(100);
/// How long they have at most, on a machine that has no time for them.
const COMING_IN_MAX: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// The listening socket, held beside the server until it stops accepting.
///
/// The system resets connections that nobody accepted when their listener is closed, actix-server drops
/// those that it accepted and no thread took up yet, and actix-http those of which it read nothing yet:
/// without this, a stop under load breaks requests off that a proxy may not send twice.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) connections: Arc<Connections>,
}

impl Door {
    /// Lets nobody in any more, and waits until those who were let in have asked.
    ///
    /// Who knocks meanwhile hears nothing, asks again after a second (RFC 6298), and is refused then.
    pub(super) async fn shut(self, workers: &Workers) {
        if let Err(error) = self.drop_syn() {
            tracing::debug!(%error, "connections are taken to the end");
        }
        tokio::time::sleep(COMING_IN).await;
        let all_in = async {
            while self.holds_waiting() {
                tokio::time::sleep(LOOK).await;
            }
            workers.come_round().await;
            while self.connections.silent() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        let most = COMING_IN_MAX.saturating_sub(COMING_IN);
        if tokio::time::timeout(most, all_in).await.is_err() {
            let silent = self.connections.silent();
            tracing::debug!(silent, "the stop goes on without those who have not asked yet");
        }
    }

    /// A filter of the socket over the header of TCP, whose byte 13 holds the flags.
    #[cfg(target_os = "linux")]
    fn drop_syn(&self) -> std::io::Result<()> {
        const LOAD_BYTE: u16 = 0x30;
        const JUMP_IF_SET: u16 = 0x45;
        const RETURN: u16 = 0x06;
        const FLAGS: u32 = 13;
        const SYN: u32 = 0x02;
        socket2::SockRef::from(&self.listener).attach_filter(&[
            socket2::SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
            socket2::SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
            socket2::SockFilter::new(RETURN, 0, 0, 0),
            socket2::SockFilter::new(RETURN, 0, 0, u32::MAX),
        ])
    }

    #[cfg(not(target_os = "linux"))]
    fn drop_syn(&self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// Whether connections wait that were made and not accepted; not known, none do.
    fn holds_waiting(&self) -> bool {
        use std::os::fd::AsRawFd as _;

        let link = std::fs::read_link(format!("/proc/self/fd/{}", self.listener.as_raw_fd()));
        let Ok(link) = link else { return false };
        let inode = link.to_string_lossy();
        let Some(inode) = inode.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'))
        else {
            return false;
        };
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().any(|table| {
            std::fs::read_to_string(table)
                .is_ok_and(|table| backlog(&table, inode).unwrap_or(0) > 0)
        })
    }
}

/// What waits at the listener `inode` by a table of proc(5): `rx_queue` of a listening socket.
fn backlog(table: &str, inode: &str) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, "0A", queues, _, _, _, _, of, ..] = fields.as_slice() else { return None };
        (*of == inode).then(|| u32::from_str_radix(queues.split_once(':')?.1, 16).ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn who_was_not_accepted_is_seen_to_wait() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let address = listener.local_addr().unwrap();
            let door = Door { listener, connections: Connections::new(9) };
            assert!(!door.holds_waiting());
            let _knocks = TcpStream::connect(address).unwrap();
            assert!(door.holds_waiting());
            let _in = door.listener.accept().unwrap();
            assert!(!door.holds_waiting());
        }
    }
}
