//! How a service under load stops: whoever was let in is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::binary::{Served, command};

const CALLERS: usize = 32;
/// Whoever waits longer to be let in goes elsewhere, as a proxy does.
const PATIENCE: Duration = Duration::from_millis(500);
const REQUEST: &[u8] = b"POST /api/v1/orchestrate HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 17\r\n\r\n{\"content\": \"hi\"}";

/// Asks over a connection for each request until none is let in; what was said of those that were not
/// answered 200.
async fn call(at: String, answered: Arc<AtomicUsize>) -> Vec<String> {
    let mut failed = Vec::new();
    while let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect(&at)).await {
        let mut answer = Vec::new();
        let asked = async {
            stream.write_all(REQUEST).await?;
            stream.read_to_end(&mut answer).await
        };
        match asked.await {
            Ok(_) if answer.starts_with(b"HTTP/1.1 200") => drop(answered.fetch_add(1, Relaxed)),
            Ok(_) => failed.push(String::from_utf8_lossy(&answer).into_owned()),
            Err(error) => failed.push(error.to_string()),
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_let_in_while_the_service_stops_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = command(dir.path());
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    serve.env("ORCHESTRATION_SERVER__SHUTDOWN_DELAY", "200ms");
    let mut served = Served::start(serve);
    served.discard_output();
    let answered = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| tokio::spawn(call(served.address.clone(), Arc::clone(&answered))))
        .collect();
    while answered.load(Relaxed) < 2 * CALLERS {
        sleep(Duration::from_millis(5)).await;
    }
    let before = answered.load(Relaxed);
    let (code, out, error) = tokio::task::spawn_blocking(move || served.stop()).await.unwrap();
    assert_eq!(code, Some(0), "{out}{error}");
    let mut failed = Vec::new();
    for caller in callers {
        failed.extend(caller.await.unwrap());
    }
    let during = answered.load(Relaxed) - before;
    println!("{during} were answered while it stopped, {} were not", failed.len());
    assert!(failed.is_empty() && during > 0, "{during} were answered, these not: {failed:#?}");
}
