//! The store on PostgreSQL, shared by instances: a pool for what is read and changed, one connection
//! that adds to the log, both on a thread of their own.
//!
//! Whatever is asked for one tenant runs as `orch_app`, which sees no row of another; what concerns
//! every tenant runs as `orch_worker`; expired records are taken away as `orch_purge`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Object as Connection, Pool, Transaction};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::runtime::Runtime;

use super::{Answer, Store, StoreError, Stream};
use crate::domain::id::TenantId;
use crate::settings::Migrate;

mod claims;
mod connect;
mod custody;
mod events;
mod fault;
mod groups;
mod instances;
mod jobs;
mod keys;
mod lanes;
mod ledger;
mod objects;
mod pulse;
mod raw;
mod retention;
mod rows;
mod schema;
mod search;
mod secrets;
mod sources;
#[cfg(test)]
mod tests;
mod usage;

use connect::Connector;
use fault::Fault;
use lanes::Lanes;
use ledger::Writer;

/// How to open it. `Debug` never shows the address.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// `postgres://USER:PASSWORD@HOST/DATABASE`.
    pub url: SecretString,
    /// Certificates in PEM that the server's must lead to; the public ones unless set.
    pub ca_file: Option<PathBuf>,
    /// Who brings the schema up to date.
    pub migrate: Migrate,
    /// Connections for reads and changes; one more adds to the log.
    pub connections_max: usize,
    /// How long one of them is waited for before [`StoreError::Crowded`].
    pub connection_wait: Duration,
    /// How long the server may work on one statement.
    pub statement_timeout: Duration,
    /// How long an awaited write may take before its caller is told [`StoreError::Slow`].
    pub patience: Duration,
    /// Versions kept of one object, the newest among them; at least 1.
    pub versions_max: u64,
}

impl PostgresOptions {
    /// The defaults at `url`: 8 connections, 100 ms, 5 s, 5 s, 50 versions.
    pub fn at(url: SecretString) -> PostgresOptions {
        PostgresOptions {
            url,
            ca_file: None,
            migrate: Migrate::Check,
            connections_max: 8,
            connection_wait: Duration::from_millis(100),
            statement_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            versions_max: 50,
        }
    }
}

/// The open store.
pub struct Postgres {
    pool: Pool,
    pulse: Arc<pulse::Pulse>,
    lanes: Lanes,
    writer: Arc<Writer>,
    closed: AtomicBool,
    patience: Duration,
    versions_max: u64,
    /// Taken when dropped.
    runtime: Option<Runtime>,
}

/// Serialises what must be seen in the order of its numbers: numbers are given before a commit.
const ORDERED: &str = "SELECT pg_advisory_xact_lock(7201001)";

/// As whom a transaction runs.
enum Scope {
    /// For one tenant: the rows of others do not exist.
    Tenant(TenantId),
    /// For the service.
    Service,
    /// To take expired records away.
    Purge,
}

impl Scope {
    fn of(tenant: Option<TenantId>) -> Scope {
        tenant.map_or(Scope::Service, Scope::Tenant)
    }

    /// The tenant's where both rows are that tenant's.
    fn both(one: Option<&TenantId>, other: Option<&TenantId>) -> Scope {
        Scope::of(if one == other { one.cloned() } else { None })
    }

    /// Ends with the transaction.
    fn enter(&self) -> String {
        match self {
            // A tenant's id has no quotes in it.
            Scope::Tenant(tenant) => {
                format!("SET LOCAL ROLE orch_app; SET LOCAL app.tenant = '{tenant}'")
            }
            Scope::Service => "SET LOCAL ROLE orch_worker".to_owned(),
            Scope::Purge => "SET LOCAL ROLE orch_purge".to_owned(),
        }
    }
}

/// The statements of one transaction.
trait Work<T>: for<'t> FnOnce(&'t Transaction<'t>) -> BoxFuture<'t, Result<T, Fault>> + Send {}

impl<T, F> Work<T> for F where
    F: for<'t> FnOnce(&'t Transaction<'t>) -> BoxFuture<'t, Result<T, Fault>> + Send
{
}

impl Postgres {
    /// Connects, checks the schema or brings it up to date. Blocks.
    pub fn open(options: &PostgresOptions) -> Result<Postgres, StoreError> {
        let connector = Connector::new(options)?;
        let runtime = runtime()?;
        let ready = connector.clone();
        let migrate = options.migrate;
        let opened = wait(&runtime, async move { schema::bring_up(&ready, migrate).await });
        if let Err(error) = opened {
            runtime.shutdown_background();
            return Err(error);
        }
        let pool = connector.pool(options)?;
        let writer = Arc::new(Writer::new(connector));
        let PostgresOptions { patience, versions_max, .. } = *options;
        let (closed, runtime) = (AtomicBool::new(false), Some(runtime));
        let pulse = Arc::default();
        let lanes = Lanes::of(options.connections_max, options.connection_wait);
        Ok(Postgres { pool, pulse, lanes, writer, closed, patience, versions_max, runtime })
    }

    /// Whether the address and the certificates of `options` are of use at all; asks nobody.
    pub fn look(options: &PostgresOptions) -> Result<(), StoreError> {
        Connector::new(options).map(|_| ())
    }

    /// Runs `work` as one transaction, for one tenant or for the service.
    fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        scope: Scope,
        work: impl Work<T> + 'static,
    ) -> Answer<'_, T> {
        let (pool, patience) = (self.pool.clone(), self.patience);
        let pulse = Arc::clone(&self.pulse);
        // On the store's own thread: a caller that stops waiting interrupts nothing.
        let running = self.runtime.as_ref().map(|runtime| {
            runtime.spawn(async move {
                let mut connection = pool
                    .get()
                    .await
                    .map_err(|error| fault::unpooled(doing, &error, pulse.is_silent()))?;
                let beat = pulse.begin();
                let working = transact(&mut connection, &scope, work);
                match tokio::time::timeout(patience, working).await {
                    Ok(done) => {
                        beat.answered();
                        done.map_err(|fault| fault.told(doing))
                    }
                    Err(_) => {
                        // The server still works on it: nobody else may get this connection.
                        drop(Connection::take(connection));
                        Err(StoreError::Slow { doing, waited_ms: patience.as_millis() })
                    }
                }
            })
        });
        async move {
            let running = running.ok_or(StoreError::Closed { doing })?;
            running.await.unwrap_or_else(|error| {
                Err(StoreError::Failed { doing, reason: error.to_string() })
            })
        }
        .boxed()
    }

    /// As `run`, refused once the store is closed.
    fn alter<T: Send + 'static>(
        &self,
        doing: &'static str,
        scope: Scope,
        work: impl Work<T> + 'static,
    ) -> Answer<'_, T> {
        if self.is_closed() {
            return async move { Err(StoreError::Closed { doing }) }.boxed();
        }
        self.run(doing, scope, work)
    }

    /// As `alter`, in a lane of `stream`.
    fn alter_in_lane<T: Send + 'static>(
        &self,
        doing: &'static str,
        stream: Stream,
        work: impl Work<T> + 'static,
    ) -> Answer<'_, T> {
        async move {
            let lane = self.lanes.take(stream.column()).await;
            let lane = lane.ok_or(StoreError::Crowded { doing })?;
            self.alter(doing, stream.scope(), move |t| {
                async move {
                    let done = work(t).await;
                    drop(lane);
                    done
                }
                .boxed()
            })
            .await
        }
        .boxed()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits for `answer` on a thread of its own. Blocks.
    pub(super) fn wait<T: Send>(&self, answer: Answer<'_, T>) -> Result<T, StoreError> {
        let doing = "waiting for the database";
        let runtime = self.runtime.as_ref().ok_or(StoreError::Closed { doing })?;
        wait(runtime, answer)
    }
}

async fn transact<T>(
    connection: &mut Connection,
    scope: &Scope,
    work: impl Work<T>,
) -> Result<T, Fault> {
    let transaction = connection.transaction().await?;
    transaction.batch_execute(&scope.enter()).await?;
    let value = work(&transaction).await?;
    transaction.commit().await?;
    Ok(value)
}

fn runtime() -> Result<Runtime, StoreError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("store-postgres")
        .enable_all()
        .build()
        .map_err(|error| StoreError::Failed {
            doing: "starting the store's thread",
            reason: error.to_string(),
        })
}

/// Blocks, also on a thread of another runtime.
fn wait<T: Send>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T, StoreError>> + Send,
) -> Result<T, StoreError> {
    std::thread::scope(|scope| scope.spawn(|| runtime.block_on(work)).join()).unwrap_or_else(|_| {
        let doing = "waiting for the database";
        Err(StoreError::Failed { doing, reason: "it panicked".into() })
    })
}

impl Store for Postgres {
    fn probe(&self) -> Answer<'_, ()> {
        self.run("probing the store", Scope::Service, |t| {
            async move { Ok(t.batch_execute("SELECT 1").await?) }.boxed()
        })
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What `migrations/postgres` would do or did to the database of `options`. Blocks.
pub fn migrate(options: &PostgresOptions, dry_run: bool) -> Result<super::Migrated, StoreError> {
    let connector = Connector::new(options)?;
    let runtime = runtime()?;
    let done = wait(&runtime, async move { schema::migrate(&connector, dry_run).await });
    runtime.shutdown_background();
    done
}
