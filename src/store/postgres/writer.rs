//! One task that adds decisions, many in one statement, over a connection of its own.
//!
//! A batch ends at 256 rows or 25 ms after its first row; a row that somebody waits for ends it at
//! once. While the database is away, rows wait in the bounded queue and the batch is sent again: what
//! may have been committed before is skipped by its id. Nobody is told of success before the commit.

use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};
use tokio_util::sync::CancellationToken;

use super::super::counts::Counts;
use super::super::{Accepted, Decision, StoreError, WriterStats};
use super::connect::Connector;
use super::{PostgresOptions, fault};

/// Rows per statement at most.
const BATCH_ROWS_MAX: usize = 256;
/// How long rows that nobody waits for may gather; they are promised within 100 ms.
const GATHER: Duration = Duration::from_millis(25);
/// Between two attempts at a database that is away.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a closed store still tries to write what is queued.
const FAREWELL: Duration = Duration::from_secs(5);
const DOING: &str = "recording a decision";

const ADD: &str = "INSERT INTO decisions \
    (id, tenant, request_id, at_ms, policy, revision, action, complete, record) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], \
    $6::text[], $7::text[], $8::boolean[], $9::text[])";
const SKIP: &str = " ON CONFLICT DO NOTHING";

type Told = Result<(), StoreError>;

struct Row {
    decision: Decision,
    /// Who waits.
    tell: Option<oneshot::Sender<Told>>,
}

/// The queue in front of the task.
pub(super) struct Writer {
    rows: mpsc::Sender<Row>,
    counts: Arc<Counts>,
    stop: CancellationToken,
    ended: Mutex<Option<blocking::Receiver<()>>>,
}

impl Writer {
    /// Starts the task on `runtime`.
    pub(super) fn start(
        connector: Connector,
        options: &PostgresOptions,
        runtime: &Handle,
    ) -> Writer {
        let (rows, queue) = mpsc::channel(options.queue_rows.max(1));
        let (counts, stop) = (Arc::new(Counts::default()), CancellationToken::new());
        let (end, ended) = blocking::channel();
        let task = Task {
            queue,
            connector,
            link: None,
            counts: Arc::clone(&counts),
            stop: stop.clone(),
            give_up: None,
        };
        runtime.spawn(async move {
            task.write_until_closed().await;
            // Nobody may wait any more.
            let _ = end.send(());
        });
        Writer { rows, counts, stop, ended: Mutex::new(Some(ended)) }
    }

    /// Hands `decision` to the task without waiting; the receiver is told once it is durable.
    pub(super) fn add(&self, decision: Decision) -> Result<oneshot::Receiver<Told>, StoreError> {
        let (tell, told) = oneshot::channel();
        self.push(Row { decision, tell: Some(tell) }).map(|()| told)
    }

    /// Hands `decision` to the task; nobody is told.
    pub(super) fn add_later(&self, decision: Decision) -> Accepted {
        match self.push(Row { decision, tell: None }) {
            Ok(()) => Accepted::Queued,
            Err(error) => {
                self.counts.lose(1, &error.to_string());
                Accepted::Dropped
            }
        }
    }

    fn push(&self, row: Row) -> Result<(), StoreError> {
        if self.is_closed() {
            return Err(StoreError::Closed { doing: DOING });
        }
        self.rows.try_send(row).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy { doing: DOING },
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed { doing: DOING },
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(super) fn stats(&self) -> WriterStats {
        self.counts.stats(self.rows.max_capacity() - self.rows.capacity())
    }

    /// Takes no more rows and waits until the queue is written, at most [`FAREWELL`]. Blocks.
    pub(super) fn close(&self) {
        self.stop.cancel();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if ended.is_some_and(|ended| ended.recv_timeout(FAREWELL * 2).is_err()) {
            tracing::error!("The store's writer did not end in time");
        }
    }
}

struct Task {
    queue: mpsc::Receiver<Row>,
    connector: Connector,
    link: Option<Link>,
    counts: Arc<Counts>,
    stop: CancellationToken,
    /// Set where the database is away when the store is closed.
    give_up: Option<Instant>,
}

/// A connection as `orch_writer`.
struct Link {
    client: Client,
    add: Statement,
    add_or_skip: Statement,
}

/// Why a batch is not in.
enum Missed {
    /// It may be later; what was sent may have been committed.
    Away(StoreError),
    /// It will never be as it is.
    Refused,
}

impl Task {
    async fn write_until_closed(mut self) {
        let stop = self.stop.clone();
        while let Some(batch) = self.next_batch(&stop).await {
            self.commit(batch).await;
        }
    }

    async fn next_batch(&mut self, stop: &CancellationToken) -> Option<Vec<Row>> {
        let first = tokio::select! {
            biased;
            first = self.queue.recv() => first,
            () = stop.cancelled() => {
                self.queue.close();
                self.queue.recv().await
            }
        }?;
        let until = Instant::now() + GATHER;
        let mut awaited = first.tell.is_some();
        let mut batch = vec![first];
        while batch.len() < BATCH_ROWS_MAX {
            let next = match self.queue.try_recv() {
                Ok(row) => Some(row),
                Err(_) if awaited || stop.is_cancelled() => None,
                Err(_) => tokio::time::timeout_at(until, self.queue.recv()).await.ok().flatten(),
            };
            let Some(row) = next else { break };
            awaited |= row.tell.is_some();
            batch.push(row);
        }
        Some(batch)
    }

    /// Tries until `batch` is in, is refused, or the store is closed and the time is over.
    async fn commit(&mut self, batch: Vec<Row>) {
        let mut again = false;
        loop {
            let missed = match self.send(&batch.iter().collect::<Vec<_>>(), again).await {
                Ok(_) => return self.tell_all(batch),
                Err(Missed::Refused) => match self.send_each(&batch, again).await {
                    Ok(told) => return self.tell_each(batch, told),
                    Err(missed) => missed,
                },
                Err(Missed::Away(missed)) => missed,
            };
            self.link = None;
            if !again {
                tracing::warn!(error = %missed, "Decisions wait for the database");
            }
            again = true;
            if self.stop.is_cancelled() {
                let until = *self.give_up.get_or_insert_with(|| Instant::now() + FAREWELL);
                if Instant::now() >= until {
                    let told = batch.iter().map(|_| Err(missed.clone())).collect();
                    return self.tell_each(batch, told);
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Adds `rows` in one statement; how many were new. Where `again`, known ones are skipped.
    async fn send(&mut self, rows: &[&Row], again: bool) -> Result<u64, Missed> {
        let patience = self.connector.patience;
        let link = self.link().await.map_err(Missed::Away)?;
        let statement = if again { &link.add_or_skip } else { &link.add };
        let columns = Columns::of(rows);
        match tokio::time::timeout(patience, link.client.execute(statement, &columns.all())).await {
            Ok(Ok(added)) => Ok(added),
            Ok(Err(error)) if fault::passes(&error) => Err(Missed::Away(fault::of(DOING, &error))),
            Ok(Err(_)) => Err(Missed::Refused),
            Err(_) => Err(Missed::Away(StoreError::Slow {
                doing: DOING,
                waited_ms: patience.as_millis(),
            })),
        }
    }

    /// Adds rows one by one, so that the one at fault fails alone; `Err` where the database went.
    async fn send_each(&mut self, batch: &[Row], again: bool) -> Result<Vec<Told>, StoreError> {
        let mut told = Vec::with_capacity(batch.len());
        for row in batch {
            told.push(match self.send(&[row], true).await {
                Ok(0) if !again => {
                    Err(StoreError::Failed { doing: DOING, reason: "the id is taken".into() })
                }
                Ok(_) => Ok(()),
                Err(Missed::Refused) => Err(StoreError::Failed {
                    doing: DOING,
                    reason: "the database refuses the row".into(),
                }),
                Err(Missed::Away(missed)) => return Err(missed),
            });
        }
        Ok(told)
    }

    async fn link(&mut self) -> Result<&Link, StoreError> {
        if self.link.as_ref().is_none_or(|link| link.client.is_closed()) {
            let failed = |error: Error| fault::of(DOING, &error);
            let client = self.connector.session(DOING).await?;
            client.batch_execute("SET ROLE orch_writer").await.map_err(failed)?;
            let add = client.prepare(ADD).await.map_err(failed)?;
            let add_or_skip = client.prepare(&format!("{ADD}{SKIP}")).await.map_err(failed)?;
            self.link = Some(Link { client, add, add_or_skip });
        }
        self.link.as_ref().ok_or(StoreError::Closed { doing: DOING })
    }

    fn tell_all(&self, batch: Vec<Row>) {
        let told = batch.iter().map(|_| Ok(())).collect();
        self.tell_each(batch, told);
    }

    fn tell_each(&self, batch: Vec<Row>, told: Vec<Told>) {
        let committed = told.iter().filter(|told| told.is_ok()).count() as u64;
        if committed > 0 {
            self.counts.committed(committed);
        }
        for (row, told) in batch.into_iter().zip(told) {
            match (row.tell, told) {
                // A caller that no longer waits needs no answer.
                (Some(tell), told) => drop(tell.send(told)),
                (None, Err(error)) => self.counts.lose(1, &error.to_string()),
                (None, Ok(())) => {}
            }
        }
    }
}

/// Rows as the columns of one statement.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<&'a str>,
    tenants: Vec<&'a str>,
    requests: Vec<&'a str>,
    times: Vec<i64>,
    policies: Vec<&'a str>,
    revisions: Vec<&'a str>,
    actions: Vec<&'a str>,
    complete: Vec<bool>,
    records: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(rows: &[&'a Row]) -> Columns<'a> {
        let mut columns = Columns::default();
        for row in rows.iter().map(|row| &row.decision) {
            columns.ids.push(&row.id);
            columns.tenants.push(row.tenant.as_str());
            columns.requests.push(row.request_id.as_str());
            columns.times.push(row.at_ms);
            columns.policies.push(row.policy.as_str());
            columns.revisions.push(&row.revision);
            columns.actions.push(row.action.name());
            columns.complete.push(row.complete);
            columns.records.push(&row.record);
        }
        columns
    }

    fn all(&self) -> [&(dyn ToSql + Sync); 9] {
        [
            &self.ids,
            &self.tenants,
            &self.requests,
            &self.times,
            &self.policies,
            &self.revisions,
            &self.actions,
            &self.complete,
            &self.records,
        ]
    }
}
