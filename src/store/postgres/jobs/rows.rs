//! Jobs: rows in, rows out.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::claims::NOW;
use super::super::events::insert_event;
use super::super::fault::Fault;
use super::super::rows::parsed;
use crate::domain::id::TenantId;
use crate::domain::job::{
    AttemptEnd, JobError, JobId, JobKey, JobState, JobType, Transition, WorkerId,
};
use crate::domain::request::Priority;
use crate::store::jobs::{Held, Step};
use crate::store::{Attempt, Ended, Job, NewJob, Numbered, StoreError};

const COLUMNS: &str = "place, id, tenant, job_type, priority, cost, state, version, attempts, \
    progress, created_at_ms, updated_at_ms, not_before_ms, expires_at_ms, retry_at_ms, callback, \
    error_code, error_message, fence, worker, payload IS NOT NULL AS has_payload";

type Of<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The store's clock.
pub(in crate::store::postgres) async fn now(t: &Transaction<'_>) -> Result<i64, Fault> {
    let sql = t.prepare_cached(&format!("SELECT {NOW}")).await?;
    Ok(t.query_one(&sql, &[]).await?.try_get(0)?)
}

/// Rows of jobs for which `rest` of the statement holds.
pub(super) async fn select(
    t: &Transaction<'_>,
    rest: &str,
    of: Of<'_>,
) -> Result<Vec<Numbered<Held>>, Fault> {
    let sql = t.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE {rest}")).await?;
    t.query(&sql, of).await?.iter().map(read).collect()
}

/// One job of its tenant, under `lock` where it is changed.
pub(super) async fn held(
    t: &Transaction<'_>,
    of: &JobKey,
    lock: &str,
) -> Result<Option<Held>, Fault> {
    let rest = format!("tenant = $1 AND id = $2 {lock}");
    let found = select(t, &rest, &[&of.tenant.as_str(), &of.id.to_string()]).await;
    Ok(found?.pop().map(|row| row.value))
}

/// Adds a job; `false` where one of its key was there.
pub(super) async fn insert(t: &Transaction<'_>, new: &NewJob, step: &Step) -> Result<bool, Fault> {
    let Step { after: Held { job, fence, retry_at_ms, .. }, .. } = step;
    let sql = "INSERT INTO jobs (id, tenant, key, job_type, priority, cost, state, version, \
               attempts, progress, created_at_ms, updated_at_ms, not_before_ms, expires_at_ms, \
               retry_at_ms, callback, fence, payload) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, \
               $10, $11, $12, $13, $14, $15, $16, $17) \
               ON CONFLICT (tenant, key) WHERE key IS NOT NULL DO NOTHING";
    let sql = t.prepare_cached(sql).await?;
    let key = new.key.as_ref().map(|key| &key[..]);
    let of: [&(dyn ToSql + Sync); 17] = [
        &job.of.id.to_string(),
        &job.of.tenant.as_str(),
        &key,
        &job.job_type.name(),
        &job.priority.name(),
        &i64::from(job.cost),
        &job.state.name(),
        &job.version.cast_signed(),
        &i64::from(job.attempts),
        &job.created_at_ms,
        &job.updated_at_ms,
        &job.not_before_ms,
        &job.expires_at_ms,
        retry_at_ms,
        &job.callback,
        &fence.cast_signed(),
        &new.payload,
    ];
    if t.execute(&sql, &of).await? == 0 {
        return Ok(false);
    }
    log(t, step).await.map(|()| true)
}

/// PostgreSQL keeps no NUL.
fn kept(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// Code and message in columns.
fn told(error: Option<&JobError>) -> (Option<String>, Option<String>) {
    (error.map(|error| kept(&error.code)), error.map(|error| kept(&error.message)))
}

/// Writes a step of a job that is there.
pub(super) async fn write(t: &Transaction<'_>, step: &Step) -> Result<(), Fault> {
    let Held { job, fence, worker, retry_at_ms } = &step.after;
    let sql = "UPDATE jobs SET state = $2, version = $3, attempts = $4, progress = $5, \
               updated_at_ms = $6, expires_at_ms = $7, retry_at_ms = $8, error_code = $9, \
               error_message = $10, fence = $11, worker = $12, \
               payload = CASE WHEN $13::boolean THEN payload END WHERE id = $1";
    let sql = t.prepare_cached(sql).await?;
    let (id, (code, message)) = (job.of.id.to_string(), told(job.error.as_ref()));
    let of: [&(dyn ToSql + Sync); 13] = [
        &id,
        &job.state.name(),
        &job.version.cast_signed(),
        &i64::from(job.attempts),
        &job.progress,
        &job.updated_at_ms,
        &job.expires_at_ms,
        retry_at_ms,
        &code,
        &message,
        &fence.cast_signed(),
        &worker.map(|worker| worker.to_string()),
        &job.has_payload,
    ];
    t.execute(&sql, &of).await?;
    if let Some(Ended { how, at_ms, error }) = &step.ended {
        let sql = "UPDATE job_attempts SET ended_at_ms = $3, how = $4, error_code = $5, \
                   error_message = $6 WHERE job = $1 AND fence = $2";
        let sql = t.prepare_cached(sql).await?;
        let (code, message) = told(error.as_ref());
        let (fence, how) = (fence.cast_signed(), how.name());
        t.execute(&sql, &[&id, &fence, at_ms, &how, &code, &message]).await?;
    }
    log(t, step).await
}

/// What a step says beside the job's row.
async fn log(t: &Transaction<'_>, step: &Step) -> Result<(), Fault> {
    let Step { after: Held { job, fence, worker, .. }, transition: moved, .. } = step;
    let (id, tenant, fence) = (job.of.id.to_string(), job.of.tenant.as_str(), fence.cast_signed());
    let sql = "INSERT INTO job_transitions (job, number, tenant, from_state, to_state, at_ms, \
               actor, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let sql = t.prepare_cached(sql).await?;
    let (from, to) = (moved.from.map(JobState::name), moved.to.name());
    let (actor, reason) = (kept(&moved.actor), kept(&moved.reason));
    let of: [&(dyn ToSql + Sync); 8] =
        [&id, &moved.number.cast_signed(), &tenant, &from, &to, &moved.at_ms, &actor, &reason];
    t.execute(&sql, &of).await?;
    if let Some(worker) = worker {
        let sql = "INSERT INTO job_attempts (job, fence, tenant, number, worker, started_at_ms) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let sql = t.prepare_cached(sql).await?;
        let (number, worker) = (i64::from(job.attempts), worker.to_string());
        t.execute(&sql, &[&id, &fence, &tenant, &number, &worker, &moved.at_ms]).await?;
    }
    if let Some(result) = &step.result {
        let sql = "INSERT INTO completions (job, tenant, fence, at_ms, result) \
                   VALUES ($1, $2, $3, $4, $5)";
        let sql = t.prepare_cached(sql).await?;
        t.execute(&sql, &[&id, &tenant, &fence, &moved.at_ms, result]).await?;
    }
    insert_event(t, &step.event, step.tells).await.map(drop)
}

pub(super) async fn lives(t: &Transaction<'_>, worker: WorkerId) -> Result<bool, Fault> {
    let sql = t.prepare_cached("SELECT FROM workers WHERE id = $1").await?;
    Ok(t.query_opt(&sql, &[&worker.to_string()]).await?.is_some())
}

pub(super) fn read_transition(row: &Row) -> Result<Transition, Fault> {
    Ok(Transition {
        number: row.try_get::<_, i64>("number")?.cast_unsigned(),
        from: maybe(row, "from_state", JobState::parse)?,
        to: known(row, "to_state", JobState::parse)?,
        at_ms: row.try_get("at_ms")?,
        actor: row.try_get("actor")?,
        reason: row.try_get("reason")?,
    })
}

pub(super) fn read_attempt(row: &Row) -> Result<Attempt, Fault> {
    let ended = match maybe(row, "how", AttemptEnd::parse)? {
        None => None,
        Some(how) => Some(Ended { how, at_ms: row.try_get("ended_at_ms")?, error: error(row)? }),
    };
    Ok(Attempt {
        fence: row.try_get::<_, i64>("fence")?.cast_unsigned(),
        number: small(row, "number")?,
        worker: known(row, "worker", WorkerId::parse)?,
        started_at_ms: row.try_get("started_at_ms")?,
        ended,
    })
}

fn read(row: &Row) -> Result<Numbered<Held>, Fault> {
    let of = JobKey {
        tenant: parsed(row, "tenant", TenantId::parse)?,
        id: known(row, "id", JobId::parse)?,
    };
    let job = Job {
        of,
        job_type: known(row, "job_type", JobType::parse)?,
        priority: known(row, "priority", Priority::parse)?,
        cost: small(row, "cost")?,
        state: known(row, "state", JobState::parse)?,
        version: row.try_get::<_, i64>("version")?.cast_unsigned(),
        attempts: small(row, "attempts")?,
        progress: row.try_get("progress")?,
        created_at_ms: row.try_get("created_at_ms")?,
        updated_at_ms: row.try_get("updated_at_ms")?,
        not_before_ms: row.try_get("not_before_ms")?,
        expires_at_ms: row.try_get("expires_at_ms")?,
        callback: row.try_get("callback")?,
        error: error(row)?,
        has_payload: row.try_get("has_payload")?,
    };
    let value = Held {
        job,
        fence: row.try_get::<_, i64>("fence")?.cast_unsigned(),
        worker: maybe(row, "worker", WorkerId::parse)?,
        retry_at_ms: row.try_get("retry_at_ms")?,
    };
    Ok(Numbered { sequence: row.try_get("place")?, value })
}

fn error(row: &Row) -> Result<Option<JobError>, Fault> {
    let code: Option<String> = row.try_get("error_code")?;
    code.map(|code| Ok(JobError { code, message: row.try_get("error_message")? })).transpose()
}

pub(super) fn small(row: &Row, column: &str) -> Result<u32, Fault> {
    u32::try_from(row.try_get::<_, i64>(column)?).map_err(|_| wrong(column))
}

/// A column that only a hand-edited database can hold wrong values in.
pub(in crate::store::postgres) fn known<T>(
    row: &Row,
    column: &str,
    parse: fn(&str) -> Option<T>,
) -> Result<T, Fault> {
    maybe(row, column, parse)?.ok_or_else(|| wrong(column))
}

fn maybe<T>(row: &Row, column: &str, parse: fn(&str) -> Option<T>) -> Result<Option<T>, Fault> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| parse(text).ok_or_else(|| wrong(column))).transpose()
}

fn wrong(column: &str) -> Fault {
    let reason = format!("column {column} holds something else");
    StoreError::Damaged { doing: "reading a job", reason }.into()
}
