//! Jobs over a change of the data key: who has another one leaves them to whoever can open them.

use super::*;
use crate::app::client;
use crate::binary::{Served, command, text};

/// A service over `dir` with a data key of `digit`, and the one before it.
fn service(dir: &std::path::Path, (digit, before): (&str, Option<&str>)) -> std::process::Command {
    let mut command = command(dir);
    command.env("ORCHESTRATION_DATA_KEY", digit.repeat(64));
    command.envs(before.map(|digit| ("ORCHESTRATION_DATA_KEY_PREVIOUS", digit.repeat(64))));
    command
}

fn serve(dir: &std::path::Path, keys: (&str, Option<&str>)) -> Served {
    let mut serve = service(dir, keys);
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    let mut served = Served::start(serve);
    served.discard_output();
    served
}

async fn ask(served: &Served, method: &str, path: &str, body: &Value) -> Answer {
    let at = format!("http://{}{path}", served.address);
    let body = if method == "GET" { String::new() } else { body.to_string() };
    let headers = [("content-type", "application/json"), ("x-tenant-id", "default")];
    crate::app::send(&client(), (method, &at), &headers, body.as_bytes()).await
}

async fn until_job(served: &Served, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let job = ask(served, "GET", path, &Value::Null).await.json();
        if holds(&job) {
            return job;
        }
        assert!(begun.elapsed() < SOON, "never: {job}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What `check` says of keys.
fn lost(dir: &std::path::Path, keys: (&str, Option<&str>)) -> String {
    let checked = service(dir, keys).arg("check").output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let said = text(&checked.stdout) + &text(&checked.stderr);
    said.lines().filter(|line| line.contains("data key")).collect()
}

#[tokio::test]
async fn a_job_under_another_data_key_waits_for_who_can_open_it() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path(), ("a", None));
    let hand_in = async |body: &Value| at(&ask(&served, "POST", JOBS, body).await.json());
    let done = hand_in(&job(&json!({"content": "at once"}))).await;
    until_job(&served, &done, stands("completed")).await;
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    let mut later = job(&json!({"content": "later"}));
    later["not_before"] = json!(soon.to_string());
    let waits = hand_in(&later).await;
    assert_eq!(served.stop().0, Some(0));
    assert_eq!(lost(dir.path(), ("a", None)), "");
    let told = lost(dir.path(), ("b", None));
    assert!(
        told.contains("2 contents, results and callback addresses of jobs are sealed"),
        "{told}"
    );

    // Without the old key.
    let served = serve(dir.path(), ("b", None));
    let put_off =
        |job: &Value| job["error"]["message"].to_string().contains("waits for one that has it");
    let left = until_job(&served, &waits, put_off).await;
    assert_eq!((&left["state"], &left["attempts"]), (&json!("queued"), &json!(0)), "{left}");
    let read = ask(&served, "GET", &done, &Value::Null).await;
    assert_eq!(read.status, 500, "{}", read.text);
    assert_eq!(served.stop().0, Some(0));

    // With it: the rest is over, as it would be in a minute.
    let store = rusqlite::Connection::open(dir.path().join("data/orchestrator.db")).unwrap();
    assert_eq!(store.execute("UPDATE jobs SET retry_at_ms = 0", []).unwrap(), 2);
    drop(store);
    assert_eq!(lost(dir.path(), ("b", Some("a"))), "");
    let served = serve(dir.path(), ("b", Some("a")));
    let ended = until_job(&served, &waits, stands("completed")).await;
    assert_eq!(ended["attempts"], 1, "{ended}");
    let read = ask(&served, "GET", &done, &Value::Null).await.json();
    assert_eq!((&read["state"], read["result"].is_object()), (&json!("completed"), true), "{read}");
    assert_eq!(served.stop().0, Some(0));
    assert!(
        lost(dir.path(), ("b", None)).contains("1 contents"),
        "the first result is under it still"
    );
}
