//! Many slow connections beside good clients: heads and bodies that come byte by byte, answers that
//! are hardly read. The service ends each in time, and nobody else notices.
//!
//! `EDGE_SECONDS=60 EDGE_CONNECTIONS=1000` measures (`just edge`); without them it counts, for seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::binary::Served;
use crate::faults::checks::{Checks, row};
use crate::faults::load::{Sample, Target, part};
use crate::faults::{all, good, median, serve};

struct Tier {
    /// Of each half of a pair.
    time: Duration,
    pairs: usize,
    connections: usize,
    /// Good requests a second, on kept connections and on new ones each.
    rate: f64,
    header_timeout: Duration,
    body_timeout: Duration,
    /// What a slow connection may live beyond its time.
    slack: Duration,
}

fn tier() -> Tier {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let connections = number("EDGE_CONNECTIONS");
    match number("EDGE_SECONDS") {
        Some(seconds) => Tier {
            time: Duration::from_secs(seconds),
            pairs: 5,
            connections: connections.unwrap_or(1_000) as usize,
            rate: 340.0,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            slack: Duration::from_secs(2),
        },
        None => Tier {
            time: Duration::from_secs(3),
            pairs: 1,
            connections: 150,
            rate: 20.0,
            header_timeout: Duration::from_secs(2),
            body_timeout: Duration::from_secs(2),
            slack: Duration::from_secs(20),
        },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Head,
    /// The second head of a connection.
    LaterHead,
    Body,
    Reader,
}

const KINDS: [Kind; 6] =
    [Kind::Head, Kind::Body, Kind::Reader, Kind::LaterHead, Kind::Body, Kind::Reader];
/// Between two bytes.
const PAUSE: Duration = Duration::from_millis(500);
const GOOD: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
const HEAD: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ";
const BODY: &str = "POST /api/v1/orchestrate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                    Content-Length: 100000\r\n\r\n{\"content\": \"";
const LARGE: &str = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";

/// Connects with hardly any room for answers.
async fn connect(address: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(address.parse().unwrap()).await
}

/// Sends a byte now and then until the service closes; what it said.
async fn drip(stream: &mut TcpStream) -> String {
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        match timeout(PAUSE, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return String::from_utf8_lossy(&answer).into_owned(),
            Ok(Ok(n)) => answer.extend_from_slice(&buffer[..n]),
            // What it closed it no longer reads; its last words are still to be read.
            Err(_) => drop(stream.write_all(b"a").await),
        }
    }
}

/// Reads a byte now and then until the service resets the connection.
async fn sip(stream: &mut TcpStream) {
    loop {
        if timeout(PAUSE, stream.ready(Interest::ERROR)).await.is_ok() {
            return;
        }
        if stream.read_exact(&mut [0; 1]).await.is_err() {
            return;
        }
    }
}

/// One slow connection from its begin to its end, which must be the service's; what was wrong.
async fn endure(kind: Kind, address: &str, most: Duration) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{kind:?}: {error}");
    let mut stream = connect(address).await.map_err(told)?;
    if kind == Kind::LaterHead {
        stream.write_all(GOOD.as_bytes()).await.map_err(told)?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.map_err(told)?;
        if &answer != b"HTTP/1.1 200" {
            return Err(format!("{kind:?}: its first request was not served"));
        }
    }
    let sent = match kind {
        Kind::Head | Kind::LaterHead => HEAD.to_owned(),
        Kind::Body => BODY.to_owned(),
        Kind::Reader => LARGE.repeat(200),
    };
    stream.write_all(sent.as_bytes()).await.map_err(told)?;
    let ended = async {
        match kind {
            Kind::Reader => {
                sip(&mut stream).await;
                String::new()
            }
            Kind::Head | Kind::LaterHead | Kind::Body => drip(&mut stream).await,
        }
    };
    let answer = timeout(most, ended).await.map_err(|_| format!("{kind:?}: it was not ended"))?;
    let is_right = match kind {
        Kind::Head => answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        // What is left of the first answer, and no other.
        Kind::LaterHead => !answer.contains("HTTP/1.1"),
        Kind::Body => answer.starts_with("HTTP/1.1 408") && answer.contains("REQUEST_TIMEOUT"),
        Kind::Reader => true,
    };
    if is_right { Ok(()) } else { Err(format!("{kind:?}: {answer}")) }
}

/// `connections` slow ones until `until`, each replaced when it ends; how each of them ended.
async fn crowd(
    address: Arc<str>,
    tier: &Tier,
    until: Instant,
) -> Vec<(Kind, Duration, Result<(), String>)> {
    let mut tasks = JoinSet::new();
    for number in 0..tier.connections {
        let (address, kind) = (Arc::clone(&address), KINDS[number % KINDS.len()]);
        let most = tier.header_timeout.max(tier.body_timeout) + tier.slack;
        let begin = Duration::from_secs_f64(number as f64 / tier.connections as f64);
        tasks.spawn(async move {
            sleep(begin).await;
            let mut ends = Vec::new();
            while Instant::now() < until {
                let began = Instant::now();
                let end = endure(kind, &address, most).await;
                ends.push((kind, began.elapsed(), end));
            }
            ends
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// Descriptors, and resident memory in MiB: now, and at most so far.
pub fn held(served: &Served) -> (usize, f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", served.pid())).unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    };
    let fds = std::fs::read_dir(format!("/proc/{}/fd", served.pid())).unwrap().count();
    (fds, of("VmRSS:"), of("VmHWM:"))
}

/// Good clients for the tier's time: on kept connections, and each request on its own.
async fn well(served: &Served, tier: &Tier) -> [Vec<Sample>; 2] {
    let body = |number| json!({"content": format!("hello {number}")}).to_string();
    let kept = Target::new(&served.address, None);
    let new = Target::reconnecting(&served.address);
    let kept = kept.open_loop(tier.rate, tier.time, body);
    futures_util::join!(kept, new.open_loop(tier.rate, tier.time, body)).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_slow_connections_are_ended_in_time_and_cost_good_clients_no_answer() {
    let (tier, mut checks) = (tier(), Checks::default());
    let dir = tempfile::tempdir().unwrap();
    detector_orchestrator::assets::write_to(dir.path()).unwrap();
    let [head, body] = [tier.header_timeout, tier.body_timeout].map(|time| format!("{time:?}"));
    let mut served = serve(
        dir.path(),
        &[
            ("ORCHESTRATION_SERVER__LIMITS__HEADER_TIMEOUT", &head),
            ("ORCHESTRATION_SERVER__LIMITS__BODY_TIMEOUT", &body),
        ],
    );
    served.discard_output();
    let address: Arc<str> = served.address.as_str().into();
    well(&served, &tier).await;
    // The peak is this test's from now on, not the start's.
    let _ = std::fs::write(format!("/proc/{}/clear_refs", served.pid()), "5");
    let before = held(&served);
    let (mut ends, mut ratios, mut wrong, mut asked) =
        (Vec::new(), [Vec::new(), Vec::new()], [0, 0], [0, 0]);
    let (mut alone_ms, mut beside_ms, mut most) =
        ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], 0);
    for _ in 0..tier.pairs {
        let alone = well(&served, &tier).await;
        let slow = crowd(Arc::clone(&address), &tier, Instant::now() + tier.time);
        let counted = async {
            sleep(tier.time / 2).await;
            held(&served).0
        };
        let (beside, slow, open) = futures_util::join!(well(&served, &tier), slow, counted);
        most = most.max(open);
        ends.extend(slow);
        for (at, (alone, beside)) in alone.iter().zip(&beside).enumerate() {
            let [a, b] = [alone, beside].map(|samples| part(&all(samples), 0.99));
            alone_ms[at].push(a);
            beside_ms[at].push(b);
            ratios[at].push(b / a);
            for (side, samples) in [alone, beside].into_iter().enumerate() {
                asked[side] += samples.len();
                wrong[side] += samples.iter().filter(|sample| !good(sample)).count();
            }
        }
    }
    let n = format!("{} on each side, on kept and on new connections each", asked[1] / 2);
    let [ratio_kept, ratio_new] = ratios.map(median);
    let ([a, c], [b, d]) = (alone_ms.map(median), beside_ms.map(median));
    let told = format!(
        "x{ratio_kept:.2} ({a:.1} -> {b:.1} ms) on kept connections, x{ratio_new:.2} ({c:.1} -> \
         {d:.1} ms) on new ones; median of {} pairs",
        tier.pairs
    );
    let bar = format!("{} slow connections, {:?}", tier.connections, tier.time);
    row(&format!("{bar}: good clients' p99 ≤ 1.2x"), &told, &n);
    let told = format!("{} of {} alone, {} beside", wrong[0], asked[0], wrong[1]);
    row(&format!("{bar}: good clients' errors 0"), &told, &n);
    checks.holds(wrong == [0, 0], || format!("{wrong:?} of {asked:?} good requests failed"));
    tell_ends(&mut checks, &tier, &ends);
    checks.holds(most >= tier.connections, || format!("only {most} descriptors were open"));
    tell_left(&mut checks, &served, before).await;
    checks.end("slow connections");
}

/// How the slow ones ended: each kind as it must, and how long it lived.
fn tell_ends(checks: &mut Checks, tier: &Tier, ends: &[(Kind, Duration, Result<(), String>)]) {
    let mut told = Vec::new();
    for kind in [Kind::Head, Kind::LaterHead, Kind::Body, Kind::Reader] {
        let of: Vec<_> = ends.iter().filter(|end| end.0 == kind).collect();
        checks.holds(!of.is_empty(), || format!("{kind:?}: none"));
        for (_, _, end) in &of {
            checks.holds(end.is_ok(), || end.clone().unwrap_err());
        }
        let right = of.iter().filter(|end| end.2.is_ok()).count();
        let last = of.iter().map(|end| end.1).max().unwrap_or_default();
        told.push(format!("{kind:?} {right} of {}, the last after {last:.1?}", of.len()));
    }
    let bar = format!(
        "each ended by the service: heads (408 or closed) after {:?}, bodies (408) and readers \
         (reset) after {:?}",
        tier.header_timeout, tier.body_timeout
    );
    row(&bar, &told.join("; "), &ends.len().to_string());
}

/// Descriptors and memory once all have gone: as before.
async fn tell_left(checks: &mut Checks, served: &Served, before: (usize, f64, f64)) {
    let until = Instant::now() + Duration::from_secs(20);
    let mut after = held(served);
    while after.0 > before.0 && Instant::now() < until {
        sleep(Duration::from_millis(200)).await;
        after = held(served);
    }
    let left = after.0 as i64 - before.0 as i64;
    let grown = after.1 - before.1;
    let told = format!("{left}, {grown:.1} MiB (at most {:.1} while they ran)", after.2 - before.1);
    row("descriptors and resident memory afterwards: as before, ≤ 64 MiB more", &told, "1");
    checks.holds(left <= 0, || format!("{left} descriptors were left"));
    checks.holds(grown <= 64.0, || format!("resident memory grew by {grown:.1} MiB"));
}
