//! A TCP proxy between the service and a detector, which troubles each connection as it is told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::WriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What becomes of a connection's bytes.
#[derive(Clone, Copy)]
pub enum Trouble {
    /// They pass.
    None,
    /// Replies come so much later.
    Delay(Duration),
    /// Replies come later, by up to so much and each by another time.
    Jitter(Duration),
    /// So many bytes of a reply a second.
    Bandwidth(u32),
    /// RST in the middle of a reply.
    Reset,
    /// FIN in the middle of a reply, while requests are still read.
    HalfClose,
    /// Nothing arrives on either side.
    BlackHole,
    /// Every thirteenth byte of a reply is another.
    Corrupt,
    /// Replies come byte by byte.
    Pieces,
}

/// The trouble of a connection by its number. It is asked for with each reply, so a connection that
/// was kept feels a change.
pub type Plan = fn(usize) -> Trouble;

/// A proxy on a port of its own; it ends with its tasks.
pub struct Proxy {
    pub port: u16,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    pub fn set(&self, plan: Plan) {
        *self.plan.lock().unwrap() = plan;
    }
}

/// Starts one that leads to the port `to` of this machine.
pub async fn start(tasks: &mut JoinSet<()>, to: u16) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let plan: Arc<Mutex<Plan>> = Arc::new(Mutex::new(|_| Trouble::None));
    let told = Arc::clone(&plan);
    tasks.spawn(async move {
        let (mut open, count) = (JoinSet::new(), AtomicUsize::new(0));
        loop {
            tokio::select! {
                Ok((client, _)) = listener.accept() => {
                    let (number, told) = (count.fetch_add(1, Ordering::Relaxed), Arc::clone(&told));
                    open.spawn(carry(client, to, move || {
                        let plan = *told.lock().unwrap();
                        plan(number)
                    }));
                }
                Some(_) = open.join_next() => {}
            }
        }
    });
    Proxy { port, plan }
}

/// Carries bytes both ways until one side ends, or its trouble ends it.
async fn carry(mut client: TcpStream, to: u16, trouble: impl Fn() -> Trouble) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    let _ = client.set_nodelay(true);
    let (mut client_in, client_out) = client.split();
    let (mut server_in, mut server_out) = server.split();
    let requests = async {
        let mut bytes = [0; 16 * 1024];
        while let Ok(read @ 1..) = client_in.read(&mut bytes).await {
            if matches!(trouble(), Trouble::BlackHole) {
                continue;
            }
            if server_out.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    let replies = async {
        let (mut bytes, mut client_out, mut number) = ([0; 16 * 1024], client_out, 0);
        while let Ok(read @ 1..) = server_in.read(&mut bytes).await {
            number += 1;
            let reply = (&mut bytes[..read], number);
            match pass(reply, &mut client_out, trouble()).await {
                Some(Stop::Now) | None => return,
                Some(Stop::WhenClientLeaves) => return std::future::pending().await,
                Some(Stop::Not) => {}
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = replies => {}
    }
}

/// When a connection ends.
enum Stop {
    Not,
    Now,
    WhenClientLeaves,
}

/// Passes a part of a reply, as its connection's trouble lets it; `None` where nobody takes it.
async fn pass(
    (bytes, number): (&mut [u8], u32),
    to: &mut WriteHalf<'_>,
    trouble: Trouble,
) -> Option<Stop> {
    match trouble {
        Trouble::None => {}
        Trouble::Delay(time) => sleep(time).await,
        Trouble::Jitter(most) => sleep(most * (number * 7 % 11) / 10).await,
        Trouble::Bandwidth(rate) => {
            for few in bytes.chunks(10) {
                to.write_all(few).await.ok()?;
                sleep(Duration::from_secs(10) / rate).await;
            }
            return Some(Stop::Not);
        }
        Trouble::Reset => {
            to.write_all(&bytes[..bytes.len() / 2]).await.ok()?;
            #[expect(deprecated, reason = "the only way to send RST from a tokio stream")]
            to.as_ref().set_linger(Some(Duration::ZERO)).ok()?;
            return Some(Stop::Now);
        }
        Trouble::HalfClose => {
            to.write_all(&bytes[..bytes.len() / 2]).await.ok()?;
            to.shutdown().await.ok()?;
            return Some(Stop::WhenClientLeaves);
        }
        Trouble::BlackHole => return Some(Stop::Not),
        Trouble::Corrupt => bytes.iter_mut().step_by(13).for_each(|byte| *byte ^= 0x80),
        Trouble::Pieces => {
            for byte in bytes.chunks(1) {
                to.write_all(byte).await.ok()?;
                tokio::task::yield_now().await;
            }
            return Some(Stop::Not);
        }
    }
    to.write_all(bytes).await.ok()?;
    Some(Stop::Not)
}
