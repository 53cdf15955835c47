//! Native detectors for the benchmark: every request is answered at once, whatever it holds.
//!
//! One thread, as little work per answer as possible, so that what is measured is the caller.
//! `bench-mock [--vary] ADDRESS…`; `--vary` makes each answer's score another one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

const READ_BYTES: usize = 128 * 1024;
const STEADY: &str = "0.900000";
/// Scores of `--vary` before they repeat; far more than a memo holds.
const SCORES: u32 = 1_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut addresses: Vec<String> = std::env::args().skip(1).collect();
    let vary = addresses.first().is_some_and(|first| first == "--vary");
    if vary {
        addresses.remove(0);
    }
    let (tasks, count) = (TaskTracker::new(), Arc::new(AtomicU32::new(0)));
    for address in addresses {
        let listener = TcpListener::bind(address).await?;
        let (spawner, count) = (tasks.clone(), Arc::clone(&count));
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = vary.then(|| Arc::clone(&count));
                spawner.spawn(serve(stream, count));
            }
        });
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Answers until the peer leaves.
async fn serve(mut stream: TcpStream, count: Option<Arc<AtomicU32>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let mut reply = reply(STEADY);
    loop {
        let mut wanted = length(&input);
        while wanted.is_none_or(|bytes| input.len() < bytes) {
            input.reserve(READ_BYTES / 2);
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
            wanted = wanted.or_else(|| length(&input));
        }
        input.advance(wanted.unwrap_or(0));
        if let Some(count) = &count {
            let score = count.fetch_add(1, Ordering::Relaxed) % SCORES;
            reply = self::reply(&format!("0.{score:06}"));
        }
        stream.write_all(reply.as_bytes()).await?;
    }
}

fn reply(score: &str) -> String {
    let body = format!(r#"{{"label":"clean","score":{score}}}"#);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    format!("{head}{}\r\n\r\n{body}", body.len())
}

/// Bytes of the first request, once its head is complete.
fn length(input: &[u8]) -> Option<usize> {
    let end = input.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(input.get(..end)?).ok()?;
    let body = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Some(end + 4 + body.unwrap_or(0))
}
