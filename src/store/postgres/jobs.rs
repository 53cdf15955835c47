//! Jobs as their callers see them; what waits, runs and is cared for in `work`.

use deadpool_postgres::Transaction;
use futures_util::FutureExt as _;

use super::fault::Fault;
use super::rows::{append_audit, before, limit};
use super::{Postgres, Scope};
use crate::domain::id::TenantId;
use crate::domain::job::{JobKey, JobState, Transition};
use crate::store::jobs::{DAY_MS, FORGET_CALLBACK, Held};
use crate::store::{
    Added, Answer, Attempt, AuditEntry, DeadLetters, Job, Jobs, Move, Moved, NewJob, Numbered, Page,
};

mod rows;
mod work;

use rows::{held, select, write};
pub(super) use rows::{known, now};

const LIMIT_MAX: u32 = 1000;

fn jobs_of(rows: Vec<Numbered<Held>>) -> Vec<Numbered<Job>> {
    let job = |row: Numbered<Held>| Numbered { sequence: row.sequence, value: row.value.job };
    rows.into_iter().map(job).collect()
}

impl Jobs for Postgres {
    fn add_job(&self, job: NewJob) -> Answer<'_, Added> {
        self.alter("adding a job", Scope::Tenant(job.of.tenant.clone()), move |t| {
            async move { add(t, &job).await }.boxed()
        })
    }

    fn job(&self, of: JobKey) -> Answer<'_, Option<Job>> {
        self.run("reading a job", Scope::Tenant(of.tenant.clone()), move |t| {
            async move { Ok(held(t, &of, "").await?.map(|held| held.job)) }.boxed()
        })
    }

    fn jobs(
        &self,
        tenant: TenantId,
        state: Option<JobState>,
        page: Page,
    ) -> Answer<'_, Vec<Numbered<Job>>> {
        self.run("listing jobs", Scope::Tenant(tenant.clone()), move |t| {
            async move {
                let rest = "tenant = $1 AND ($2::text IS NULL OR state = $2) AND place < $3 \
                            ORDER BY place DESC LIMIT $4";
                let (tenant, state) = (tenant.as_str(), state.map(JobState::name));
                let of = [&tenant as _, &state as _, &before(page) as _, &limit(page) as _];
                select(t, rest, &of).await.map(jobs_of)
            }
            .boxed()
        })
    }

    fn job_result(&self, of: JobKey) -> Answer<'_, Option<Vec<u8>>> {
        self.run("reading a job's result", Scope::Tenant(of.tenant.clone()), move |t| {
            async move {
                let sql = "SELECT result FROM completions WHERE tenant = $1 AND job = $2";
                let sql = t.prepare_cached(sql).await?;
                let row = t.query_opt(&sql, &[&of.tenant.as_str(), &of.id.to_string()]).await?;
                Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
            }
            .boxed()
        })
    }

    fn transitions(&self, of: JobKey, after: u64, limit: u32) -> Answer<'_, Vec<Transition>> {
        self.run("reading a job's transitions", Scope::Tenant(of.tenant.clone()), move |t| {
            async move {
                let sql = "SELECT number, from_state, to_state, at_ms, actor, reason \
                           FROM job_transitions WHERE tenant = $1 AND job = $2 AND number > $3 \
                           ORDER BY number LIMIT $4";
                let sql = t.prepare_cached(sql).await?;
                let (tenant, id, after) =
                    (of.tenant.as_str(), of.id.to_string(), after.cast_signed());
                let limit = i64::from(limit.min(LIMIT_MAX));
                let found = t.query(&sql, &[&tenant, &id, &after, &limit]).await?;
                found.iter().map(rows::read_transition).collect()
            }
            .boxed()
        })
    }

    fn attempts(&self, of: JobKey, after: u64, limit: u32) -> Answer<'_, Vec<Attempt>> {
        self.run("reading a job's attempts", Scope::Tenant(of.tenant.clone()), move |t| {
            async move {
                let sql = "SELECT fence, number, worker, started_at_ms, ended_at_ms, how, \
                           error_code, error_message FROM job_attempts \
                           WHERE tenant = $1 AND job = $2 AND fence > $3 ORDER BY fence LIMIT $4";
                let sql = t.prepare_cached(sql).await?;
                let (tenant, id, after) =
                    (of.tenant.as_str(), of.id.to_string(), after.cast_signed());
                let limit = i64::from(limit.min(LIMIT_MAX));
                let found = t.query(&sql, &[&tenant, &id, &after, &limit]).await?;
                found.iter().map(rows::read_attempt).collect()
            }
            .boxed()
        })
    }

    fn move_job(&self, wish: Move) -> Answer<'_, Moved> {
        let scope = audited(&wish.of, wish.audit.as_ref());
        self.alter("moving a job", scope, move |t| {
            async move {
                let Some(held) = held(t, &wish.of, "FOR UPDATE").await? else {
                    return Ok(Moved::Missing);
                };
                let step = match wish.step(held, now(t).await?) {
                    Ok(step) => step,
                    Err(refused) => return Ok(refused),
                };
                write(t, &step).await?;
                if let Some(entry) = &wish.audit {
                    append_audit(t, entry).await?;
                }
                Ok(Moved::Done(step.after.job))
            }
            .boxed()
        })
    }

    fn forget_callback(&self, of: JobKey, version: u64) -> Answer<'_, bool> {
        let scope = Scope::Tenant(of.tenant.clone());
        self.alter("forgetting a callback", scope, move |t| {
            async move {
                let sql = t.prepare_cached(FORGET_CALLBACK).await?;
                let (tenant, id) = (of.tenant.as_str(), of.id.to_string());
                Ok(t.execute(&sql, &[&tenant, &id, &version.cast_signed()]).await? == 1)
            }
            .boxed()
        })
    }
}

/// The tenant's where the audit is its own, or there is none.
fn audited(of: &JobKey, entry: Option<&AuditEntry>) -> Scope {
    let tenant = Some(&of.tenant);
    Scope::both(tenant, entry.map_or(tenant, |entry| entry.tenant.as_ref()))
}

async fn add(t: &Transaction<'_>, new: &NewJob) -> Result<Added, Fault> {
    let tenant = new.of.tenant.as_str();
    if let Some(there) = of_key(t, new).await? {
        return Ok(Added::Known(there));
    }
    let now = now(t).await?;
    if let Some(most) = new.most_a_day {
        // One at a time for each tenant, so that two do not both find room for the last one.
        let alone = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7201006))";
        t.execute(alone, &[&tenant]).await?;
        let sql = "SELECT count(*) FROM jobs WHERE tenant = $1 AND created_at_ms >= $2";
        let sql = t.prepare_cached(sql).await?;
        let midnight = now - now.rem_euclid(DAY_MS);
        let made: i64 = t.query_one(&sql, &[&tenant, &midnight]).await?.try_get(0)?;
        if made >= i64::from(most) {
            return Ok(Added::QuotaUsed);
        }
    }
    let queued = new.queued(now);
    if !rows::insert(t, new, &queued).await? {
        // Somebody was faster: a statement of its own sees it.
        let there = of_key(t, new).await?;
        return Ok(there.map_or(Added::New(queued.after.job), Added::Known));
    }
    if let Some(worker) = new.begun_by
        && rows::lives(t, worker).await?
        && let Ok(step) = queued.after.clone().taken(worker, now)
    {
        write(t, &step).await?;
        return Ok(Added::New(step.after.job));
    }
    Ok(Added::New(queued.after.job))
}

/// The job of the same key.
async fn of_key(t: &Transaction<'_>, new: &NewJob) -> Result<Option<Job>, Fault> {
    let Some(key) = &new.key else { return Ok(None) };
    let (tenant, key) = (new.of.tenant.as_str(), &key[..]);
    let mut found = select(t, "tenant = $1 AND key = $2", &[&tenant, &key]).await?;
    Ok(found.pop().map(|row| row.value.job))
}

impl DeadLetters for Postgres {
    fn dead_letters(&self, tenant: Option<TenantId>, page: Page) -> Answer<'_, Vec<Numbered<Job>>> {
        self.run("listing dead letters", Scope::of(tenant.clone()), move |t| {
            async move {
                let rest = "state = 'failed' AND payload IS NOT NULL \
                            AND ($1::text IS NULL OR tenant = $1) AND place < $2 \
                            ORDER BY place DESC LIMIT $3";
                let tenant = tenant.as_ref().map(TenantId::as_str);
                let of = [&tenant as _, &before(page) as _, &limit(page) as _];
                select(t, rest, &of).await.map(jobs_of)
            }
            .boxed()
        })
    }

    fn discard(&self, of: JobKey, entry: AuditEntry) -> Answer<'_, bool> {
        self.alter("discarding a dead letter", audited(&of, Some(&entry)), move |t| {
            async move {
                let sql = "UPDATE jobs SET payload = NULL WHERE tenant = $1 AND id = $2 \
                           AND state = 'failed' AND payload IS NOT NULL";
                let sql = t.prepare_cached(sql).await?;
                let gone = t.execute(&sql, &[&of.tenant.as_str(), &of.id.to_string()]).await?;
                if gone == 1 {
                    append_audit(t, &entry).await?;
                }
                Ok(gone == 1)
            }
            .boxed()
        })
    }
}
