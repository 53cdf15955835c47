//! What a consumer group was handed and did not acknowledge, over kills of the service and a clock that
//! goes on: delivered again under the same id, three times at most, then set apart.

use serde_json::Value;

use super::disk::Faults;
use super::*;

/// Seconds after which a delivery that is not acknowledged is overdue.
const OVERDUE: i64 = 31;

/// The store that the service has: each has its own clock.
enum Clock<'a> {
    Sqlite { seconds: i64 },
    Postgres { server: &'a Server, url: String },
}

struct Consumer<'a> {
    dir: tempfile::TempDir,
    faults: Faults,
    clock: Clock<'a>,
    served: Option<Served>,
}

impl Consumer<'_> {
    fn killed_and_started(&mut self) {
        drop(self.served.take());
        let mut serve = self.faults.command(self.dir.path());
        if let Clock::Postgres { url, .. } = &self.clock {
            serve.env("ORCHESTRATION_DATABASE_URL", url);
        }
        self.served = Some(started(serve));
    }

    fn later(&mut self, more: i64) {
        match &mut self.clock {
            Clock::Sqlite { seconds } => {
                *seconds += more;
                self.faults.set("clock", &seconds.to_string());
            }
            // A server's clock cannot be moved, but all that it handed over can be made older.
            Clock::Postgres { server, url } => {
                let database = url.rsplit('/').next().unwrap();
                let older = format!(
                    "UPDATE event_deliveries SET sent_at_ms = sent_at_ms - {more}000, \
                     due_ms = due_ms - {more}000"
                );
                server.sql(database, &older);
            }
        }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let at = format!("http://{}/api/v1{path}", self.served.as_ref().unwrap().address);
        let headers = [("content-type", "application/json"), ("x-tenant-id", "default")];
        let body = if method == "GET" { String::new() } else { body.to_string() };
        app::send(&client(), (method, &at), &headers, body.as_bytes()).await
    }

    /// Id and number of the delivery of each event that this answer holds.
    async fn given(&self, query: &str) -> Vec<(String, u64)> {
        let path = format!("/events?group=billing{query}");
        let answer = self.send("GET", &path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let all = answer.json();
        let each = all["events"].as_array().unwrap().iter();
        each.map(|e| (e["id"].as_str().unwrap().to_owned(), e["delivery"].as_u64().unwrap()))
            .collect()
    }

    async fn acknowledge(&self, id: &str) {
        let body = json!({"group": "billing", "ids": [id]});
        let answer = self.send("POST", "/events/ack", &body).await;
        assert_eq!(answer.json()["acknowledged"], 1, "{}", answer.text);
    }
}

async fn is_delivered_three_times(clock: Clock<'_>) {
    let mut consumer = Consumer { dir: project(), faults: Faults::build(), clock, served: None };
    consumer.killed_and_started();
    let job = json!({"job_type": "orchestrate", "job_data": {"content": "a text"}});
    let made = consumer.send("POST", "/jobs", &job).await;
    assert_eq!(made.status, 202, "{}", made.text);
    let begun = Instant::now();
    while !consumer.send("GET", "/events", &Value::Null).await.text.contains("job.completed") {
        assert!(begun.elapsed() < Duration::from_secs(30), "the job does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let first = consumer.given("").await;
    assert!(first.len() >= 3 && first.iter().all(|(_, delivery)| *delivery == 1), "{first:?}");
    consumer.killed_and_started();
    assert_eq!(consumer.given("").await, [], "they are somebody's for thirty seconds");
    let mut left: Vec<_> = first.into_iter().map(|(id, _)| id).collect();
    for delivery in [2, 3] {
        consumer.later(OVERDUE);
        consumer.killed_and_started();
        let wanted: Vec<_> = left.iter().map(|id| (id.clone(), delivery)).collect();
        assert_eq!(consumer.given("").await, wanted);
        consumer.acknowledge(&left.remove(0)).await;
    }
    consumer.later(OVERDUE);
    assert_eq!(consumer.given("").await, [], "no fourth time");
    let dead: Vec<_> = consumer.given("&dead=true").await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(dead, left);
    for id in dead {
        consumer.acknowledge(&id).await;
    }
    assert_eq!(consumer.given("&dead=true").await, []);
}

#[tokio::test]
async fn what_a_group_never_acknowledges_comes_again_after_each_kill_and_is_set_apart() {
    is_delivered_three_times(Clock::Sqlite { seconds: 0 }).await;
    let server = Server::shared();
    is_delivered_three_times(Clock::Postgres { server, url: server.database() }).await;
}
