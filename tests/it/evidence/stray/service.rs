//! A whole service over a store with a stray row.

use super::*;

async fn ask(http: &HttpClient, address: &str) -> (u16, Value) {
    let at = format!("http://{address}/api/v1/orchestrate");
    let headers = [("content-type", "application/json")];
    let body = json!({"content": "a text", "include": ["evidence"]}).to_string();
    let answer = send(http, ("POST", &at), &headers, body.as_bytes()).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_service_with_a_stray_row_spools_says_where_it_is_and_goes_on_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let mut start = command(root);
    start.args(["serve", "--listen", "127.0.0.1:0"]);
    let mut served = Served::start(start);
    let told = served.share_output();
    let (http, address) = (client(), served.address.clone());
    let raw = rusqlite::Connection::open(root.join("data").join(STORE_FILE)).unwrap();
    let leaves = || -> i64 {
        raw.query_row("SELECT count(*) FROM leaves WHERE decision <> 'zz'", [], |row| row.get(0))
            .unwrap()
    };
    let health = async || {
        let at = format!("http://{address}/health/detailed");
        send(&http, ("GET", &at), &[], b"").await.json()
    };
    for _ in 0..3 {
        assert_eq!(ask(&http, &address).await.0, 200);
    }
    until("three are written", async || leaves() == 3).await;
    let stray = "INSERT INTO leaves SELECT log, 3, hash, 'zz', 'acme' FROM leaves LIMIT 1";
    raw.execute_batch(stray).unwrap();
    let mut id = String::new();
    for _ in 0..5 {
        let (status, answer) = ask(&http, &address).await;
        assert!(status == 200 && answer["evidence"]["receipt"].is_object(), "{answer}");
        id = answer["evidence"]["id"].as_str().unwrap().to_owned();
    }
    let spool = || std::fs::metadata(root.join("data").join(SPOOL_FILE)).unwrap().len();
    until("five are spooled", async || spool() > 5 * 1_000).await;
    let found = health().await;
    let evidence = &found["checks"]["evidence"];
    assert_eq!((&found["status"], &evidence["status"]), (&json!("degraded"), &json!("warn")));
    assert!(evidence["message"].as_str().unwrap().contains("0 lost"), "{found}");
    let named = async |row: &str| {
        until(row, async || {
            let told = told.lock().unwrap();
            told.lines()
                .any(|line| line.contains("Decisions wait for the store") && line.contains(row))
        })
        .await;
    };
    named("a row of leaves is at place 3 of log").await;
    // Another row is in the way when the first one goes.
    let other = IDS[3].0.replace("'4'", &format!("'{id}'"));
    let go = "DROP TRIGGER leaves_keep_rows; DELETE FROM leaves WHERE decision = 'zz'";
    raw.execute_batch(&format!("BEGIN; {other}; {go}; COMMIT")).unwrap();
    named(&format!("a row of decisions bears the id {id}")).await;
    assert_eq!(health().await["checks"]["evidence"]["status"], "warn");
    // With its number, so that the numbers have no gap.
    let go = format!(
        "BEGIN; DROP TRIGGER decisions_keep_rows; DELETE FROM decisions WHERE id = '{id}'; \
         UPDATE sqlite_sequence SET seq = 3 WHERE name = 'decisions'; COMMIT"
    );
    raw.execute_batch(&go).unwrap();
    until("the spool is written", async || leaves() == 8 && spool() == 0).await;
    let evidence = &health().await["checks"]["evidence"];
    assert_eq!(evidence["status"], "pass");
    assert!(evidence["message"].as_str().unwrap().contains("0 lost"), "{evidence}");
    assert_eq!(served.stop().0, Some(0));
    let verified = run(root, &["evidence", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
}
