//! Jobs on SQLite: rows in, rows out.

use rusqlite::{Connection, OptionalExtension as _, Params, Result, Row, params};

use super::{Attempt, DAY_MS, Ended, Held, Job, NewJob, Step};
use crate::domain::id::TenantId;
use crate::domain::job::{
    AttemptEnd, JobError, JobId, JobKey, JobState, JobType, Transition, WorkerId,
};
use crate::domain::request::Priority;
use crate::seal::APART_ID;
use crate::store::Numbered;
use crate::store::events::insert_event;
use crate::store::rows::parsed;

const COLUMNS: &str = "place, id, tenant, job_type, priority, cost, state, version, attempts, \
    progress, created_at_ms, updated_at_ms, not_before_ms, expires_at_ms, retry_at_ms, callback, \
    error_code, error_message, fence, worker, payload IS NOT NULL AS has_payload";
/// May be begun at ?1. A rest that began later than now began by a clock that has stepped back since.
pub(super) const READY: &str = "state = 'queued' AND coalesce(not_before_ms, 0) <= ?1 \
    AND coalesce(expires_at_ms, ?1 + 1) > ?1 AND (retry_at_ms <= ?1 OR updated_at_ms > ?1)";

/// Rows of jobs for which `rest` of the statement holds.
pub(super) fn select(c: &Connection, rest: &str, of: impl Params) -> Result<Vec<Numbered<Held>>> {
    c.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE {rest}"))?
        .query_map(of, read)?
        .collect()
}

/// One job of its tenant.
pub(super) fn held(c: &Connection, of: &JobKey) -> Result<Option<Held>> {
    let found =
        select(c, "tenant = ?1 AND id = ?2", params![of.tenant.as_str(), of.id.to_string()]);
    Ok(found?.pop().map(|row| row.value))
}

pub(super) fn insert(c: &Connection, new: &NewJob, step: &Step) -> Result<()> {
    let Step { after: Held { job, fence, retry_at_ms, .. }, .. } = step;
    c.prepare_cached(
        "INSERT INTO jobs (id, tenant, key, job_type, priority, cost, state, version, attempts, \
         progress, created_at_ms, updated_at_ms, not_before_ms, expires_at_ms, retry_at_ms, callback, \
         fence, payload) VALUES \
         (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    )?
    .execute(params![
        job.of.id.to_string(),
        job.of.tenant.as_str(),
        new.key,
        job.job_type.name(),
        job.priority.name(),
        job.cost,
        job.state.name(),
        job.version.cast_signed(),
        job.attempts,
        job.created_at_ms,
        job.updated_at_ms,
        job.not_before_ms,
        job.expires_at_ms,
        retry_at_ms,
        job.callback,
        fence.cast_signed(),
        new.payload,
    ])?;
    log(c, step)
}

/// Writes a step of a job that is there.
pub(super) fn write(c: &Connection, step: &Step) -> Result<()> {
    let Held { job, fence, worker, retry_at_ms } = &step.after;
    let id = job.of.id.to_string();
    c.prepare_cached(
        "UPDATE jobs SET state = ?2, version = ?3, attempts = ?4, progress = ?5, \
         updated_at_ms = ?6, expires_at_ms = ?7, retry_at_ms = ?8, error_code = ?9, \
         error_message = ?10, fence = ?11, worker = ?12, \
         payload = CASE WHEN ?13 THEN payload END WHERE id = ?1",
    )?
    .execute(params![
        id,
        job.state.name(),
        job.version.cast_signed(),
        job.attempts,
        job.progress,
        job.updated_at_ms,
        job.expires_at_ms,
        retry_at_ms,
        job.error.as_ref().map(|error| &error.code),
        job.error.as_ref().map(|error| &error.message),
        fence.cast_signed(),
        worker.map(|worker| worker.to_string()),
        job.has_payload,
    ])?;
    if let Some(Ended { how, at_ms, error }) = &step.ended {
        c.prepare_cached(
            "UPDATE job_attempts SET ended_at_ms = ?3, how = ?4, error_code = ?5, \
             error_message = ?6 WHERE job = ?1 AND fence = ?2",
        )?
        .execute(params![
            id,
            fence.cast_signed(),
            at_ms,
            how.name(),
            error.as_ref().map(|error| &error.code),
            error.as_ref().map(|error| &error.message),
        ])?;
    }
    log(c, step)
}

/// What a step says beside the job's row.
fn log(c: &Connection, step: &Step) -> Result<()> {
    let Step { after: Held { job, fence, worker, .. }, transition: moved, .. } = step;
    let (id, tenant, fence) = (job.of.id.to_string(), job.of.tenant.as_str(), fence.cast_signed());
    c.prepare_cached(
        "INSERT INTO job_transitions (job, number, tenant, from_state, to_state, at_ms, actor, \
         reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        id,
        moved.number.cast_signed(),
        tenant,
        moved.from.map(JobState::name),
        moved.to.name(),
        moved.at_ms,
        moved.actor,
        moved.reason,
    ])?;
    if let Some(worker) = worker {
        c.prepare_cached(
            "INSERT INTO job_attempts (job, fence, tenant, number, worker, started_at_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            id,
            fence,
            tenant,
            job.attempts,
            worker.to_string(),
            moved.at_ms
        ])?;
    }
    if let Some(result) = &step.result {
        c.prepare_cached(
            "INSERT INTO completions (job, tenant, fence, at_ms, result) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![id, tenant, fence, moved.at_ms, result])?;
    }
    insert_event(c, &step.event, step.tells).map(drop)
}

/// How many of `tenant` were made in the day that holds `now_ms`.
pub(super) fn made_today(c: &Connection, tenant: &TenantId, now_ms: i64) -> Result<u32> {
    let midnight = now_ms - now_ms.rem_euclid(DAY_MS);
    c.prepare_cached("SELECT count(*) FROM jobs WHERE tenant = ?1 AND created_at_ms >= ?2")?
        .query_row(params![tenant.as_str(), midnight], |row| row.get(0))
}

pub(super) fn lives(c: &Connection, worker: WorkerId) -> Result<bool> {
    c.prepare_cached("SELECT 1 FROM workers WHERE id = ?1")?.exists([worker.to_string()])
}

/// Whether the lease of `fence` completed the job.
pub(super) fn completed(c: &Connection, of: &JobKey, fence: u64) -> Result<bool> {
    c.prepare_cached("SELECT 1 FROM completions WHERE tenant = ?1 AND job = ?2 AND fence = ?3")?
        .exists(params![of.tenant.as_str(), of.id.to_string(), fence.cast_signed()])
}

pub(super) fn result(c: &Connection, of: &JobKey) -> Result<Option<Vec<u8>>> {
    c.prepare_cached("SELECT result FROM completions WHERE tenant = ?1 AND job = ?2")?
        .query_row(params![of.tenant.as_str(), of.id.to_string()], |row| row.get(0))
        .optional()
        .map(Option::flatten)
}

pub(super) fn payload(c: &Connection, of: &JobKey) -> Result<Vec<u8>> {
    c.prepare_cached("SELECT payload FROM jobs WHERE id = ?1")?
        .query_row([of.id.to_string()], |row| row.get(0))
}

pub(super) fn read_transition(row: &Row<'_>) -> Result<Transition> {
    let from: Option<String> = row.get("from_state")?;
    let from = from.map(|_| known(row, "from_state", JobState::parse)).transpose()?;
    Ok(Transition {
        number: row.get::<_, i64>("number")?.cast_unsigned(),
        from,
        to: known(row, "to_state", JobState::parse)?,
        at_ms: row.get("at_ms")?,
        actor: row.get("actor")?,
        reason: row.get("reason")?,
    })
}

pub(super) fn read_attempt(row: &Row<'_>) -> Result<Attempt> {
    let how: Option<String> = row.get("how")?;
    let ended = match how {
        None => None,
        Some(_) => Some(Ended {
            how: known(row, "how", AttemptEnd::parse)?,
            at_ms: row.get("ended_at_ms")?,
            error: error(row)?,
        }),
    };
    Ok(Attempt {
        fence: row.get::<_, i64>("fence")?.cast_unsigned(),
        number: row.get("number")?,
        worker: known(row, "worker", WorkerId::parse)?,
        started_at_ms: row.get("started_at_ms")?,
        ended,
    })
}

fn read(row: &Row<'_>) -> Result<Numbered<Held>> {
    let worker: Option<String> = row.get("worker")?;
    let of = JobKey {
        tenant: parsed(row, "tenant", TenantId::parse)?,
        id: known(row, "id", JobId::parse)?,
    };
    let job = Job {
        of,
        job_type: known(row, "job_type", JobType::parse)?,
        priority: known(row, "priority", Priority::parse)?,
        cost: row.get("cost")?,
        state: known(row, "state", JobState::parse)?,
        version: row.get::<_, i64>("version")?.cast_unsigned(),
        attempts: row.get("attempts")?,
        progress: row.get("progress")?,
        created_at_ms: row.get("created_at_ms")?,
        updated_at_ms: row.get("updated_at_ms")?,
        not_before_ms: row.get("not_before_ms")?,
        expires_at_ms: row.get("expires_at_ms")?,
        callback: row.get("callback")?,
        error: error(row)?,
        has_payload: row.get("has_payload")?,
    };
    let value = Held {
        job,
        fence: row.get::<_, i64>("fence")?.cast_unsigned(),
        worker: worker.map(|_| known(row, "worker", WorkerId::parse)).transpose()?,
        retry_at_ms: row.get("retry_at_ms")?,
    };
    Ok(Numbered { sequence: row.get("place")?, value })
}

/// The keys that what is sealed needs.
pub(in crate::store) fn seals(c: &Connection) -> Result<Vec<(String, u64)>> {
    let from = APART_ID.start + 1;
    let id = |column: &str| format!("lower(hex(substr({column}, {from}, {})))", APART_ID.len());
    let mut sql = c.prepare_cached(&super::seals(id))?;
    let each = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()));
    sql.query_map([], each)?.collect()
}

fn error(row: &Row<'_>) -> Result<Option<JobError>> {
    let code: Option<String> = row.get("error_code")?;
    code.map(|code| Ok(JobError { code, message: row.get("error_message")? })).transpose()
}

/// A column that only a hand-edited file can hold wrong values in.
pub(in crate::store) fn known<T>(
    row: &Row<'_>,
    column: &str,
    parse: fn(&str) -> Option<T>,
) -> Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| rusqlite::Error::InvalidColumnName(column.to_owned()))
}
