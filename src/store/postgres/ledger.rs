//! The log: one statement adds a batch, over a connection of its own, as a role that sees no tenant's
//! rows.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

use super::connect::Connector;
use super::fault::Fault;
use super::{Postgres, Scope, fault};
use crate::domain::digest::Digest;
use crate::domain::id::TenantId;
use crate::domain::log::{Checkpoint, Leaf, LogId};
use crate::store::ledger::{NO_LOG, NO_NUMBER, bound};
use crate::store::{Answer, LeafRow, Ledger, LogBatch, LogKey, StoreError, Trace};

const DOING: &str = "appending to the log";
/// Writes nothing where the log is not as long as the batch supposes. One statement is one
/// transaction: no other is left open whatever happens on the way.
const APPEND: &str = "\
    WITH head AS (INSERT INTO checkpoints (log, size, root, at_ms, signature) \
        SELECT number, $2, $3, $4, $5 FROM logs WHERE id = $1 AND $6 = \
        (SELECT coalesce(max(size), 0) FROM checkpoints WHERE log = number) RETURNING log), \
    kept AS (INSERT INTO decisions \
        (id, tenant, request_id, at_ms, policy, revision, action, complete, record) \
        SELECT row.* FROM head, unnest($7::text[], $8::text[], $9::text[], $10::bigint[], \
        $11::text[], $12::text[], $13::text[], $14::boolean[], $15::text[]) AS row), \
    grown AS (INSERT INTO leaves (log, place, decision, tenant, hash) \
        SELECT log, $6 + n - 1, row.decision, row.tenant, row.hash FROM head, \
        unnest($7::text[], $8::text[], $16::bytea[]) WITH ORDINALITY \
        AS row (decision, tenant, hash, n)), \
    tiled AS (INSERT INTO nodes (log, level, place, hash) \
        SELECT log, row.* FROM head, unnest($17::bigint[], $18::bigint[], $19::bytea[]) AS row) \
    SELECT count(*) FROM head";
const CHECKPOINT: &str = "SELECT logs.id AS log, size, root, at_ms, signature FROM checkpoints \
    JOIN logs ON number = log WHERE logs.id = $1";

/// The way of batches into the log.
pub(super) struct Writer {
    connector: Connector,
    link: Mutex<Option<Link>>,
}

/// A connection as `orch_writer`.
struct Link {
    client: Client,
    append: Statement,
}

impl Writer {
    pub(super) fn new(connector: Connector) -> Writer {
        Writer { connector, link: Mutex::new(None) }
    }

    /// How the database is reached.
    pub(super) fn connector(&self) -> Connector {
        self.connector.clone()
    }

    async fn append(&self, batch: &LogBatch) -> Result<(), StoreError> {
        let mut held = self.link.lock().await;
        // Taken: whatever happens meanwhile, nobody uses it again unless it answered.
        let link = match held.take().filter(|link| !link.client.is_closed()) {
            Some(link) => link,
            None => self.connect().await?,
        };
        let patience = self.connector.patience;
        let columns = Columns::of(batch);
        let columns = columns.all();
        let sent = link.client.query_one(&link.append, &columns);
        let row = match tokio::time::timeout(patience, sent).await {
            Ok(Ok(row)) => row,
            Ok(Err(error)) => {
                *held = Some(link);
                return Err(failed(&error, batch));
            }
            Err(_) => {
                return Err(StoreError::Slow { doing: DOING, waited_ms: patience.as_millis() });
            }
        };
        *held = Some(link);
        let added: i64 = row.try_get(0).map_err(|error| fault::of(DOING, &error))?;
        if added == 0 { Err(batch.conflict(0)) } else { Ok(()) }
    }

    async fn connect(&self) -> Result<Link, StoreError> {
        let failed = |error: Error| fault::of(DOING, &error);
        let client = self.connector.session(DOING).await?;
        client.batch_execute("SET ROLE orch_writer").await.map_err(failed)?;
        let append = client.prepare(APPEND).await.map_err(failed)?;
        Ok(Link { client, append })
    }
}

/// Another instance that appended at the same moment took a leaf's or a head's place.
fn failed(error: &Error, batch: &LogBatch) -> StoreError {
    let told = error.as_db_error();
    let taken = told.filter(|told| *told.code() == SqlState::UNIQUE_VIOLATION);
    match taken.and_then(|told| told.constraint()) {
        // A row at a number of the sequence that is still to come: the next attempt has another one.
        Some("leaves_pkey" | "checkpoints_pkey" | "nodes_pkey" | "decisions_pkey") => {
            batch.conflict(0)
        }
        _ if error.code() == Some(&SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED) => {
            StoreError::Failed { doing: DOING, reason: format!("{NO_NUMBER}; set it with setval") }
        }
        _ if fault::passes(error) => fault::of(DOING, error),
        _ if told
            .is_some_and(|told| ["22", "23"].iter().any(|c| told.code().code().starts_with(c))) =>
        {
            StoreError::Refused { doing: DOING, reason: fault::reason(error) }
        }
        _ => fault::of(DOING, error),
    }
}

impl Ledger for Postgres {
    fn open_log(&self, key: LogKey) -> Answer<'_, ()> {
        self.alter("opening the log", Scope::Service, move |t| {
            async move {
                let sql = "INSERT INTO logs (id, public_key, since_ms) VALUES ($1, $2, $3) \
                           ON CONFLICT DO NOTHING";
                let of = [&key.log.as_str() as _, &&key.public_key[..] as _, &key.since_ms as _];
                t.execute(sql, &of).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn logs(&self) -> Answer<'_, Vec<LogKey>> {
        self.run("listing logs", Scope::Service, |t| {
            async move {
                let sql = "SELECT id, public_key, since_ms FROM logs ORDER BY number";
                t.query(sql, &[]).await?.iter().map(read_key).collect()
            }
            .boxed()
        })
    }

    fn append_batch(&self, batch: Arc<LogBatch>) -> Answer<'_, ()> {
        let writer = Arc::clone(&self.writer);
        let open = self.runtime.as_ref().filter(|_| !self.is_closed());
        // On the store's own thread: a caller that stops waiting interrupts nothing.
        let running = open.map(|runtime| runtime.spawn(async move { writer.append(&batch).await }));
        async move {
            let running = running.ok_or(StoreError::Closed { doing: DOING })?;
            running.await.unwrap_or_else(|error| {
                Err(StoreError::Failed { doing: DOING, reason: error.to_string() })
            })
        }
        .boxed()
    }

    fn tail(&self, log: LogId) -> Answer<'_, Option<Checkpoint>> {
        self.run("reading the head of the log", Scope::Service, move |t| {
            async move {
                let sql = format!("{CHECKPOINT} ORDER BY size DESC LIMIT 1");
                let sql = t.prepare_cached(&sql).await?;
                let row = t.query_opt(&sql, &[&log.as_str()]).await?;
                row.as_ref().map(read_checkpoint).transpose()
            }
            .boxed()
        })
    }

    fn heads(&self, log: LogId, below: u64, limit: u32) -> Answer<'_, Vec<Checkpoint>> {
        self.run("reading heads of the log", Scope::Service, move |t| {
            async move {
                let Some(last) = below.checked_sub(1) else { return Ok(Vec::new()) };
                let sql = format!("{CHECKPOINT} AND size <= $2 ORDER BY size DESC LIMIT $3");
                let sql = t.prepare_cached(&sql).await?;
                let of = [&log.as_str() as _, &bound(last) as _, &i64::from(limit) as _];
                t.query(&sql, &of).await?.iter().map(read_checkpoint).collect()
            }
            .boxed()
        })
    }

    fn checkpoint(&self, log: LogId, size: u64) -> Answer<'_, Option<Checkpoint>> {
        self.run("reading a head of the log", Scope::Service, move |t| {
            async move {
                let sql = format!("{CHECKPOINT} AND size >= $2 ORDER BY size LIMIT 1");
                let sql = t.prepare_cached(&sql).await?;
                let row = t.query_opt(&sql, &[&log.as_str(), &size.cast_signed()]).await?;
                row.as_ref().map(read_checkpoint).transpose()
            }
            .boxed()
        })
    }

    fn hashes(&self, log: LogId, level: u8, first: u64, count: u32) -> Answer<'_, Vec<Digest>> {
        self.run("reading hashes of the log", Scope::Service, move |t| {
            async move {
                let table = match level {
                    0 => "leaves WHERE $4 = 0::bigint",
                    _ => "nodes WHERE level = $4",
                };
                let sql = format!(
                    "SELECT hash FROM {table} AND log = (SELECT number FROM logs WHERE id = $1) \
                     AND place >= $2 AND place < $3 ORDER BY place"
                );
                let sql = t.prepare_cached(&sql).await?;
                let (first, end) = (first.cast_signed(), (first + u64::from(count)).cast_signed());
                let of = [&log.as_str() as _, &first as _, &end as _, &i64::from(level) as _];
                t.query(&sql, &of).await?.iter().map(|row| hash(row, "hash")).collect()
            }
            .boxed()
        })
    }

    fn leaf(&self, tenant: TenantId, decision: String) -> Answer<'_, Option<Leaf>> {
        self.run("reading a leaf", Scope::Tenant(tenant.clone()), move |t| {
            async move {
                let sql = "SELECT logs.id AS log, place, hash FROM leaves JOIN logs \
                           ON number = log WHERE decision = $1 AND tenant = $2";
                let sql = t.prepare_cached(sql).await?;
                let row = t.query_opt(&sql, &[&decision, &tenant.as_str()]).await?;
                Ok(row.as_ref().map(read_leaf).transpose()?.flatten())
            }
            .boxed()
        })
    }

    fn leaves(&self, tenant: TenantId, after: String, limit: u32) -> Answer<'_, Vec<String>> {
        self.run("listing leaves", Scope::Tenant(tenant.clone()), move |t| {
            async move {
                let sql = "SELECT decision FROM leaves WHERE tenant = $1 AND decision > $2 \
                           ORDER BY decision LIMIT $3";
                let sql = t.prepare_cached(sql).await?;
                let rows = t.query(&sql, &[&tenant.as_str(), &after, &i64::from(limit)]).await?;
                rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
            }
            .boxed()
        })
    }

    fn traces(&self, decisions: Vec<String>) -> Answer<'_, Vec<Trace>> {
        // Sees the ids of every tenant's decisions; hashes are read as the service.
        self.run("looking decisions up", Scope::Purge, move |t| {
            async move {
                let sql = "SELECT wanted.id AS decision, logs.id AS log, leaves.log AS number, \
                           place, decisions.id IS NOT NULL AS has_row \
                           FROM unnest($1::text[]) AS wanted (id) \
                           LEFT JOIN leaves ON decision = wanted.id \
                           LEFT JOIN logs ON logs.number = leaves.log \
                           LEFT JOIN decisions ON decisions.id = wanted.id \
                           WHERE place IS NOT NULL OR decisions.id IS NOT NULL";
                let sql = t.prepare_cached(sql).await?;
                let found = t.query(&sql, &[&decisions]).await?;
                t.batch_execute(&Scope::Service.enter()).await?;
                let sql = "SELECT decision, hash FROM leaves WHERE decision = ANY ($1)";
                let sql = t.prepare_cached(sql).await?;
                let mut hashes = HashMap::new();
                for row in t.query(&sql, &[&decisions]).await? {
                    hashes.insert(row.try_get::<_, String>(0)?, hash(&row, "hash")?);
                }
                found.iter().map(|row| read_trace(row, &hashes)).collect()
            }
            .boxed()
        })
    }
}

/// A batch as the parameters of one statement.
struct Columns<'a> {
    log: &'a str,
    size: i64,
    root: &'a [u8],
    at_ms: i64,
    signature: &'a [u8],
    before: i64,
    ids: Vec<&'a str>,
    tenants: Vec<&'a str>,
    requests: Vec<&'a str>,
    times: Vec<i64>,
    policies: Vec<&'a str>,
    revisions: Vec<&'a str>,
    actions: Vec<&'a str>,
    complete: Vec<bool>,
    records: Vec<&'a str>,
    leaves: Vec<&'a [u8]>,
    levels: Vec<i64>,
    places: Vec<i64>,
    nodes: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a LogBatch) -> Columns<'a> {
        let (head, rows, nodes) = (&batch.checkpoint, &batch.decisions, &batch.nodes);
        let all = || rows.iter().map(|(decision, _)| decision);
        Columns {
            log: head.log.as_str(),
            size: head.size.cast_signed(),
            root: head.root.as_bytes(),
            at_ms: head.at_ms,
            signature: &head.signature,
            before: head.size.cast_signed() - rows.len() as i64,
            ids: all().map(|row| row.id.as_str()).collect(),
            tenants: all().map(|row| row.tenant.as_str()).collect(),
            requests: all().map(|row| row.request_id.as_str()).collect(),
            times: all().map(|row| row.at_ms).collect(),
            policies: all().map(|row| row.policy.as_str()).collect(),
            revisions: all().map(|row| row.revision.as_str()).collect(),
            actions: all().map(|row| row.action.name()).collect(),
            complete: all().map(|row| row.complete).collect(),
            records: all().map(|row| row.record.as_str()).collect(),
            leaves: rows.iter().map(|(_, leaf)| &leaf.as_bytes()[..]).collect(),
            levels: nodes.iter().map(|node| node.level.into()).collect(),
            places: nodes.iter().map(|node| node.index.cast_signed()).collect(),
            nodes: nodes.iter().map(|node| &node.hash.as_bytes()[..]).collect(),
        }
    }

    fn all(&self) -> [&(dyn ToSql + Sync); 19] {
        [
            &self.log,
            &self.size,
            &self.root,
            &self.at_ms,
            &self.signature,
            &self.before,
            &self.ids,
            &self.tenants,
            &self.requests,
            &self.times,
            &self.policies,
            &self.revisions,
            &self.actions,
            &self.complete,
            &self.records,
            &self.leaves,
            &self.levels,
            &self.places,
            &self.nodes,
        ]
    }
}

fn read_key(row: &Row) -> Result<LogKey, Fault> {
    let public_key = fixed(row, "public_key")?;
    Ok(LogKey { log: log(row, "id")?, public_key, since_ms: row.try_get("since_ms")? })
}

fn read_checkpoint(row: &Row) -> Result<Checkpoint, Fault> {
    Ok(Checkpoint {
        log: log(row, "log")?,
        size: row.try_get::<_, i64>("size")?.cast_unsigned(),
        root: hash(row, "root")?,
        at_ms: row.try_get("at_ms")?,
        signature: fixed(row, "signature")?,
    })
}

/// The leaf in columns `log`, `place` and `hash`, where they hold one.
pub(super) fn read_leaf(row: &Row) -> Result<Option<Leaf>, Fault> {
    let Some(index) = row.try_get::<_, Option<i64>>("place")? else { return Ok(None) };
    if row.try_get::<_, Option<&str>>("log")?.is_none() {
        return Err(damaged(NO_LOG));
    }
    let (log, hash) = (log(row, "log")?, hash(row, "hash")?);
    Ok(Some(Leaf { log, index: index.cast_unsigned(), hash }))
}

fn read_trace(row: &Row, hashes: &HashMap<String, Digest>) -> Result<Trace, Fault> {
    let decision: String = row.try_get("decision")?;
    let number: Option<i64> = row.try_get::<_, Option<i64>>("number")?;
    // A row that was deleted meanwhile has no hash any more.
    let leaf = match (number, hashes.get(&decision)) {
        (Some(number), Some(hash)) => Some(LeafRow {
            log: row.try_get::<_, Option<&str>>("log")?.and_then(LogId::parse),
            number,
            place: row.try_get::<_, i64>("place")?.cast_unsigned(),
            hash: *hash,
        }),
        _ => None,
    };
    Ok(Trace { decision, leaf, has_row: row.try_get("has_row")? })
}

fn log(row: &Row, column: &str) -> Result<LogId, Fault> {
    LogId::parse(row.try_get(column)?).ok_or_else(|| odd(column))
}

pub(super) fn hash(row: &Row, column: &str) -> Result<Digest, Fault> {
    fixed(row, column).map(Digest::from_bytes)
}

fn fixed<const N: usize>(row: &Row, column: &str) -> Result<[u8; N], Fault> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| odd(column))
}

/// What only a hand-edited database holds.
fn odd(column: &str) -> Fault {
    damaged(&format!("column {column} holds something else"))
}

fn damaged(reason: &str) -> Fault {
    StoreError::Damaged { doing: "reading a row", reason: reason.to_owned() }.into()
}
