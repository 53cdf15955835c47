//! Detectors that do what the content tells them: `fault:NAME` anywhere in the request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What a detector can do wrong, and the errors of the reports that may follow; empty is a time-out.
pub const FAULTS: [(&str, &[&str]); 16] = [
    ("hang", &["timeout"]),
    ("drip", &["timeout"]),
    ("garbage", &["bad_response"]),
    // A busy machine may not carry a mebibyte in time.
    ("gigabyte", &["bad_response", "timeout"]),
    ("endless", &["bad_response", "timeout"]),
    ("reset", &["communication"]),
    ("tls", &["communication"]),
    ("storm", &["communication"]),
    ("flapping", &["", "communication"]),
    ("types", &["bad_response"]),
    ("nan", &["bad_response"]),
    ("above", &["bad_response"]),
    ("twice", &["bad_response"]),
    ("redirect", &["bad_response"]),
    ("bomb", &["bad_response"]),
    ("headers", &["bad_response"]),
];

const CLEAN: &str = r#"{"label":"clean","score":0.9}"#;

/// A detector on a port of its own; it ends with `tasks`.
pub struct Fake {
    pub port: u16,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    calls: AtomicUsize,
    ill: AtomicBool,
    open: AtomicUsize,
}

/// An open connection, until it is dropped.
struct Open<'a>(&'a Told);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Fake {
    /// Requests that it was sent.
    pub fn calls(&self) -> usize {
        self.told.calls.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.told.open.load(Ordering::Relaxed)
    }

    /// While it is ill, it answers 503 to everything.
    pub fn set_ill(&self, ill: bool) {
        self.told.ill.store(ill, Ordering::Relaxed);
    }
}

/// How a detector is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers well, whatever the content says.
    Honest,
    /// The same, after this time, four fifths to six fifths of it.
    Takes(Duration),
    /// Does what the content says.
    Obeys,
    /// Talks no TLS to those who begin it.
    NoTls,
}

/// Starts one.
pub async fn start(tasks: &mut JoinSet<()>, kind: Kind) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = Arc::new(Told::default());
    let counted = Arc::clone(&told);
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                            Ok((stream, _)) = listener.accept() => {
                                let counted = Arc::clone(&counted);
                                open.spawn(async move {
                                    counted.open.fetch_add(1, Ordering::Relaxed);
                                    let _open = Open(&counted);
                                    match kind {
                                        Kind::NoTls => no_tls(stream).await,
                                        Kind::Honest | Kind::Takes(_) | Kind::Obeys => {
             serve(stream, kind, &counted).await
            },
                                    }
                                });
                            }
                            Some(_) = open.join_next() => {}
                        }
        }
    });
    Fake { port, told }
}

async fn no_tls(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let _ = stream.read(&mut buffer).await;
    let _ = stream.write_all(b"\x00\x01\x02 this is no certificate").await;
}

/// Answers until the peer leaves or a fault ends the connection.
async fn serve(mut stream: TcpStream, kind: Kind, told: &Told) {
    let _ = stream.set_nodelay(true);
    let mut input = Vec::new();
    loop {
        let request = loop {
            if let Some(length) = length(&input).filter(|length| input.len() >= *length) {
                break input.drain(..length).collect::<Vec<u8>>();
            }
            let mut chunk = [0; 16 * 1024];
            match stream.read(&mut chunk).await {
                Ok(read) if read > 0 => input.extend_from_slice(&chunk[..read]),
                Ok(_) | Err(_) => return,
            }
        };
        let count = told.calls.fetch_add(1, Ordering::Relaxed);
        if told.ill.load(Ordering::Relaxed) {
            if stream.write_all(&http("503 Ill", "", CLEAN)).await.is_err() {
                return;
            }
            continue;
        }
        if let Kind::Takes(time) = kind {
            tokio::time::sleep(time * (80 + count as u32 * 7 % 41) / 100).await;
        }
        let text = String::from_utf8_lossy(&request);
        let fault = text.split_once("fault:").map_or("", |(_, rest)| {
            rest.split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default()
        });
        if kind != Kind::Obeys || fault.is_empty() || fault == "flapping" && count.is_multiple_of(2)
        {
            if stream.write_all(&ok(CLEAN)).await.is_err() {
                return;
            }
        } else {
            return misbehave(stream, fault).await;
        }
    }
}

fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    http("200 OK", "content-type: application/json\r\n", body)
}

async fn misbehave(mut stream: TcpStream, fault: &str) {
    static CHUNK: [u8; 65_536] = [b' '; 65_536];
    let promise = |bytes: u64| format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
    let reply = match fault {
        "hang" => Vec::new(),
        "drip" => promise(1_000).into_bytes(),
        "garbage" => b"\x00\xff\x02 what\r\n\r\n".to_vec(),
        "gigabyte" => promise(1 << 30).into_bytes(),
        "endless" => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        "reset" => [promise(900).as_bytes(), b"{"].concat(),
        "storm" | "flapping" => http("503 Busy", "", CLEAN),
        "types" => ok(r#"{"label":7,"score":"high"}"#),
        "nan" => ok(r#"{"label":"clean","score":NaN}"#),
        "above" => ok(r#"{"label":"clean","score":1.01}"#),
        "twice" => ok(r#"{"label":"toxic","label":"clean","score":0.9}"#),
        "redirect" => http("302 Found", "location: http://127.0.0.1:1/\r\n", ""),
        "bomb" => http("200 OK", "content-encoding: gzip\r\n", CLEAN),
        "headers" => http("200 OK", &"x: y\r\n".repeat(100_000), CLEAN),
        other => panic!("no fault is called {other}"),
    };
    let _ = stream.write_all(&reply).await;
    match fault {
        "hang" => {
            let mut rest = [0; 1024];
            while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        }
        "drip" => {
            let mut rest = [0; 1024];
            while stream.write_all(b" ").await.is_ok() {
                // Who reads notices at once that the peer has left.
                let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut rest));
                if matches!(read.await, Ok(Ok(0) | Err(_))) {
                    return;
                }
            }
        }
        "gigabyte" | "endless" => {
            for _ in 0..16_384 {
                if stream.write_all(&CHUNK).await.is_err() {
                    return;
                }
            }
        }
        #[expect(deprecated, reason = "the only way to send RST from a tokio stream")]
        "reset" => stream.set_linger(Some(Duration::ZERO)).unwrap(),
        _ => {}
    }
}

/// Bytes of the first request, once its head is complete.
fn length(input: &[u8]) -> Option<usize> {
    let end = input.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&input[..end]).ok()?;
    let body = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Some(end + 4 + body.unwrap_or(0))
}
