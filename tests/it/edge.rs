//! Bytes on the wire: what a server in front could read otherwise than this one is refused, or
//! belongs to one request beyond doubt. No second request hidden in a first one is ever served.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::app::{App, edit, spawn, spawn_with};

mod parsers;
mod slow;
mod vectors;

use vectors::{Reading, vectors};

const SHORT: Duration = Duration::from_secs(20);

/// The service with short time-outs.
async fn impatient() -> App {
    spawn_with(|root| {
        edit(root, "config/settings.yaml", "header_timeout: 5s", "header_timeout: 400ms");
        edit(root, "config/settings.yaml", "body_timeout: 10s", "body_timeout: 400ms");
    })
    .await
}

/// Everything that comes back until the service closes, or says nothing for long.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The service may close before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match tokio::time::timeout(Duration::from_secs(3), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return (String::from_utf8_lossy(&answer).into_owned(), true),
            Ok(Ok(n)) => answer.extend_from_slice(&buffer[..n]),
            Err(_) => return (String::from_utf8_lossy(&answer).into_owned(), false),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_smuggled_request_is_ever_served() {
    let app = impatient().await;
    let address = app.address;
    let list = vectors();
    assert!(list.len() >= 120, "{}", list.len());
    let asked = list.into_iter().map(|vector| async move {
        let (answer, closed) = exchange(address, &vector.bytes).await;
        let statuses: Vec<&str> = answer.split("HTTP/1.").skip(1).map(|rest| &rest[2..5]).collect();
        // What follows a last request may be refused, never served.
        let refused = |statuses: &[&str]| statuses.iter().all(|status| status.starts_with('4'));
        let shown: String = answer.chars().take(300).collect();
        let mut faults = Vec::new();
        if answer.contains("/smuggled") {
            faults.push("the hidden request was served");
        }
        match vector.reading {
            Reading::Refused => {
                if !refused(&statuses) {
                    faults.push("it was not refused");
                }
                if !closed {
                    faults.push("the connection stayed open");
                }
            }
            Reading::One => {
                if statuses.is_empty() || !refused(&statuses[1..]) {
                    faults.push("it is not one request");
                }
            }
        }
        (!faults.is_empty()).then(|| format!("{}: {faults:?}\n{shown}", vector.name))
    });
    let faults: Vec<String> =
        futures_util::future::join_all(asked).await.into_iter().flatten().collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    app.ask_until(&json!({"content": "still here"}), |value| value["action"] == "allow").await;
}

#[tokio::test]
async fn a_head_that_does_not_end_costs_the_connection() {
    let app = impatient().await;
    for bytes in ["", "GET /", "GET / HTTP/1.1\r\nHost: a\r\nX: "] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        let ended = tokio::time::timeout(SHORT, read).await;
        assert!(ended.is_ok(), "{bytes:?} holds its connection for ever");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{bytes:?}: {answer}");
    }
}

#[tokio::test]
async fn a_body_below_the_rate_is_answered_408() {
    let app = impatient().await;
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let head = format!(
            "POST /api/v1/orchestrate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        let read = stream.read_exact(&mut answer);
        tokio::time::timeout(SHORT, read).await.expect("a body may take for ever").unwrap();
        assert_eq!(answer, b"HTTP/1.1 408", "{framing}");
    }
}

#[tokio::test]
async fn a_later_head_that_does_not_end_costs_the_connection_too() {
    let app = impatient().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let first = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nX: ";
    stream.write_all(first.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(SHORT, read).await.expect("it holds its connection for ever").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_body_that_rests_is_answered_408_however_fast_it_began() {
    let app = impatient().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    // At the lowest rate allowed so many bytes would have earned two minutes.
    let head = "POST /api/v1/orchestrate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                Content-Length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[b' '; 60_000]).await.unwrap();
    let mut answer = vec![0; 12];
    let read = stream.read_exact(&mut answer);
    tokio::time::timeout(SHORT, read).await.expect("a body may rest").unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn an_answer_that_is_not_read_costs_the_connection() {
    let app = impatient().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(app.address).await.unwrap();
    let asked = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(200);
    stream.write_all(asked.as_bytes()).await.unwrap();
    let reset = stream.ready(tokio::io::Interest::ERROR);
    tokio::time::timeout(SHORT, reset).await.expect("an unread answer may wait").unwrap();
    assert!(stream.take_error().unwrap().is_some());
}

#[tokio::test]
async fn an_address_opens_no_more_connections_than_its_limit() {
    let app = spawn_with(|root| {
        let from = "connections_per_address_max: 2048";
        edit(root, "config/settings.yaml", from, "connections_per_address_max: 3");
    })
    .await;
    let request = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut held = Vec::new();
    for n in 0..4 {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let _ = stream.write_all(request).await;
        let mut first = [0; 9];
        let read = tokio::time::timeout(SHORT, stream.read_exact(&mut first)).await.unwrap();
        assert_eq!(read.is_ok(), n < 3, "connection {n}");
        held.push(stream);
    }
    drop(held);
    // The places of closed connections are free again.
    let until = std::time::Instant::now() + SHORT;
    loop {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let _ = stream.write_all(request).await;
        if stream.read_exact(&mut [0; 9]).await.is_ok() {
            break;
        }
        assert!(std::time::Instant::now() < until, "no place is ever free again");
    }
}

#[tokio::test]
async fn connections_above_the_limit_wait_until_one_ends() {
    // Two workers with two connections each.
    let app = spawn_with(|root| {
        let from = "connections_max: 4096";
        edit(root, "config/settings.yaml", from, "connections_max: 4");
    })
    .await;
    let address = app.address;
    let asking = |n: usize| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let read = stream.read_exact(&mut [0; 9]).await;
        (n, read.is_ok(), stream)
    };
    let mut asked: futures_util::stream::FuturesUnordered<_> = (0..12).map(asking).collect();
    let mut served = Vec::new();
    for _ in 0..4 {
        let (_, ok, stream) =
            tokio::time::timeout(SHORT, asked.next()).await.expect("four are served").unwrap();
        assert!(ok);
        served.push(stream);
    }
    let fifth = tokio::time::timeout(Duration::from_millis(500), asked.next()).await;
    assert!(fifth.is_err(), "a fifth connection was served");
    // Each that ends makes room for one.
    while !asked.is_empty() {
        served.remove(0);
        let (_, ok, stream) =
            tokio::time::timeout(SHORT, asked.next()).await.expect("one more is served").unwrap();
        assert!(ok);
        served.push(stream);
    }
}

#[tokio::test]
async fn every_route_refuses_a_parameter_it_does_not_know() {
    let app = spawn().await;
    let document: serde_json::Value =
        serde_json::from_str(&detector_orchestrator::api::openapi()).unwrap();
    let (mut asked, mut taken) = (0, Vec::new());
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{name}", "pii").replace("{bundle}", "standard");
            let path = path.replace("{version}", "1").replace("{detector}", "pii");
            let method = method.to_uppercase();
            let headers = [("content-type", "application/json"), ("if-match", "\"1\"")];
            let answer = app.send(&method, &format!("{path}?no_such=1"), &headers, b"{}").await;
            if answer.status != 400 || answer.json()["code"] != "INVALID_REQUEST" {
                taken.push(format!("{method} {path}: {}", answer.text));
            }
            asked += 1;
        }
    }
    assert!(taken.is_empty(), "{}", taken.join("\n"));
    assert!(asked > 15, "{asked}");
}

#[tokio::test]
async fn compressed_bodies_are_refused_with_advice_whatever_they_say() {
    let app = spawn().await;
    for coding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"] {
        let headers = [("content-type", "application/json"), ("content-encoding", coding)];
        let answer = app.send("POST", "/api/v1/orchestrate", &headers, b"\x1f\x8b").await;
        assert_eq!(answer.status, 415, "{coding}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("without Content-Encoding"), "{detail}");
    }
}

#[tokio::test]
async fn json_is_128_deep_at_most_and_repeats_no_key_on_any_level() {
    let app = spawn().await;
    let nested = |n: usize| {
        format!(r#"{{"content":"a","metadata":{{"a":{}1{}}}}}"#, "[".repeat(n), "]".repeat(n))
    };
    let post = async |body: String| {
        let headers = [("content-type", "application/json")];
        app.send("POST", "/api/v1/orchestrate", &headers, body.as_bytes()).await
    };
    // The object and `metadata` are two of the 128 levels.
    for (levels, status) in [(125, 200), (127, 400), (100_000, 400), (1_000_000, 400)] {
        let answer = post(nested(levels)).await;
        assert_eq!(answer.status, status, "{levels}: {}", answer.text);
        if status == 400 {
            assert_eq!(answer.json()["errors"][0]["code"], "too_deep", "{levels}");
        }
    }
    for twice in [
        r#"{"content":"a","content":"b"}"#,
        r#"{"content":"a","metadata":{"k":1,"k":2}}"#,
        r#"{"content":"a","metadata":{"k":1,"\u006b":2}}"#,
        r#"{"content":"a","metadata":{"x":[{"k":1,"k":1}]}}"#,
        r#"{"content":"a","detectors":{"only":[],"only":[]}}"#,
        r#"{"content":"a","detectors":{"params":{"pii":{"a":1,"a":2}}}}"#,
        r#"{"messages":[{"role":"user","role":"tool","content":"a"}]}"#,
        r#"{"content":[{"type":"text","text":"a","text":"b"}]}"#,
        r#"{"content":"a","tools":[{"a":1,"a":2}]}"#,
    ] {
        let answer = post(twice.to_owned()).await;
        assert_eq!(answer.status, 400, "{twice}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["code"], "duplicate_key", "{twice}");
    }
}

/// Letters that look like others, invisible characters, other forms of the same text, NUL.
const TRICKS: &[&str] = &[
    "dеfault",
    "defаult",
    "ｄefault",
    "DEFAULT",
    "Default",
    "default ",
    " default",
    "default\u{200b}",
    "\u{feff}default",
    "de\u{ad}fault",
    "default\u{301}",
    "dèfault",
    "default\0",
    "default\n",
    "default\t",
    "default/../default",
    "default%00",
    "\u{202e}tluafed",
    "ⅾefault",
    "𝐝efault",
    "default\u{fe0f}",
    "default.",
    "default;x",
    "ＤＥＦＡＵＬＴ",
    "defau1t",
    "default\u{3000}",
    "de‐fault",
    "ﬂoor",
    "floor",
];

#[tokio::test]
async fn no_look_alike_of_an_id_is_taken_for_it() {
    let app = spawn().await;
    for trick in TRICKS {
        let answer = app.ask(&json!({"content": "a", "tenant_id": trick})).await;
        assert_eq!(answer.status, 403, "{trick:?}: {}", answer.text);
        assert_eq!(answer.json()["code"], "TENANT_MISMATCH", "{trick:?}");
        let policy = trick.replace("default", "standard");
        let answer = app.ask(&json!({"content": "a", "policy": policy})).await;
        assert_eq!(answer.status, 400, "{policy:?}: {}", answer.text);
        let detector = trick.replace("default", "pii");
        if detector.contains("pii") {
            let body = json!({"content": "a", "detectors": {"add": [detector]}});
            let answer = app.ask(&body).await;
            assert_eq!(answer.status, 400, "{detector:?}: {}", answer.text);
        }
    }
}
