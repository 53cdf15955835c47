//! Jobs on SQLite. The one writer does one thing at a time; each is a savepoint of its own in the
//! batch that is committed.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, Result, params};

use super::rows::{self, READY};
use super::{
    Added, Attempt, DeadLetters, EACH_MAX, Ending, FORGET_CALLBACK, Held, Job, JobCounts,
    JobUpkeep, Jobs, Move, Moved, NewJob, Next, ORPHANS, Pick, Room, Taken, Waiting, Work, Workers,
    part,
};
use crate::domain::id::TenantId;
use crate::domain::job::{
    DEAD_LETTER_KEPT, JobError, JobKey, JobState, Lease, RESULT_KEPT, Transition, WorkerId,
};
use crate::domain::request::Priority;
use crate::store::claims::{NOW, millis};
use crate::store::rows::{append_audit, before, limit, parsed};
use crate::store::{Answer, AuditEntry, Numbered, Page, Sqlite, StoreError};

const LIMIT_MAX: u32 = 1000;

impl Sqlite {
    /// Writes all of `work` or nothing.
    pub(in crate::store) fn atomically<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        self.write(doing, move |c| {
            let failed = |error: rusqlite::Error| StoreError::of(doing, &error);
            c.execute_batch("SAVEPOINT whole").map_err(failed)?;
            let done = work(c);
            let end = if done.is_ok() { "" } else { "ROLLBACK TO whole; " };
            c.execute_batch(&format!("{end}RELEASE whole")).map_err(failed)?;
            done.map_err(failed)
        })
    }
}

/// The store's clock.
pub(in crate::store) fn now(c: &Connection) -> Result<i64> {
    c.prepare_cached(&format!("SELECT {NOW}"))?.query_row([], |row| row.get(0))
}

fn jobs_of(rows: Vec<Numbered<Held>>) -> Vec<Numbered<Job>> {
    let job = |row: Numbered<Held>| Numbered { sequence: row.sequence, value: row.value.job };
    rows.into_iter().map(job).collect()
}

impl Jobs for Sqlite {
    fn add_job(&self, job: NewJob) -> Answer<'_, Added> {
        self.atomically("adding a job", move |c| add(c, &job))
    }

    fn job(&self, of: JobKey) -> Answer<'_, Option<Job>> {
        self.read("reading a job", move |c| Ok(rows::held(c, &of)?.map(|held| held.job)))
    }

    fn jobs(
        &self,
        tenant: TenantId,
        state: Option<JobState>,
        page: Page,
    ) -> Answer<'_, Vec<Numbered<Job>>> {
        self.read("listing jobs", move |c| {
            let rest = "tenant = ?1 AND (?2 IS NULL OR state = ?2) AND place < ?3 \
                        ORDER BY place DESC LIMIT ?4";
            let state = state.map(JobState::name);
            let of = params![tenant.as_str(), state, before(page), limit(page)];
            rows::select(c, rest, of).map(jobs_of)
        })
    }

    fn job_result(&self, of: JobKey) -> Answer<'_, Option<Vec<u8>>> {
        self.read("reading a job's result", move |c| rows::result(c, &of))
    }

    fn transitions(&self, of: JobKey, after: u64, limit: u32) -> Answer<'_, Vec<Transition>> {
        self.read("reading a job's transitions", move |c| {
            let (tenant, id, after) = (of.tenant.as_str(), of.id.to_string(), after.cast_signed());
            c.prepare_cached(
                "SELECT * FROM job_transitions WHERE tenant = ?1 AND job = ?2 AND number > ?3 \
                 ORDER BY number LIMIT ?4",
            )?
            .query_map(params![tenant, id, after, limit.min(LIMIT_MAX)], rows::read_transition)?
            .collect()
        })
    }

    fn attempts(&self, of: JobKey, after: u64, limit: u32) -> Answer<'_, Vec<Attempt>> {
        self.read("reading a job's attempts", move |c| {
            let (tenant, id, after) = (of.tenant.as_str(), of.id.to_string(), after.cast_signed());
            c.prepare_cached(
                "SELECT * FROM job_attempts WHERE tenant = ?1 AND job = ?2 AND fence > ?3 \
                 ORDER BY fence LIMIT ?4",
            )?
            .query_map(params![tenant, id, after, limit.min(LIMIT_MAX)], rows::read_attempt)?
            .collect()
        })
    }

    fn move_job(&self, wish: Move) -> Answer<'_, Moved> {
        self.atomically("moving a job", move |c| {
            let Some(held) = rows::held(c, &wish.of)? else { return Ok(Moved::Missing) };
            let step = match wish.step(held, now(c)?) {
                Ok(step) => step,
                Err(refused) => return Ok(refused),
            };
            rows::write(c, &step)?;
            if let Some(entry) = &wish.audit {
                append_audit(c, entry)?;
            }
            Ok(Moved::Done(step.after.job))
        })
    }

    fn forget_callback(&self, of: JobKey, version: u64) -> Answer<'_, bool> {
        self.atomically("forgetting a callback", move |c| {
            let of = params![of.tenant.as_str(), of.id.to_string(), version.cast_signed()];
            c.prepare_cached(FORGET_CALLBACK)?.execute(of).map(|rows| rows == 1)
        })
    }
}

fn add(c: &Connection, new: &NewJob) -> Result<Added> {
    if let Some(key) = new.key {
        let found =
            rows::select(c, "tenant = ?1 AND key = ?2", params![new.of.tenant.as_str(), key]);
        if let Some(there) = found?.pop() {
            return Ok(Added::Known(there.value.job));
        }
    }
    let now = now(c)?;
    if let Some(most) = new.most_a_day
        && rows::made_today(c, &new.of.tenant, now)? >= most
    {
        return Ok(Added::QuotaUsed);
    }
    let queued = new.queued(now);
    rows::insert(c, new, &queued)?;
    if let Some(worker) = new.begun_by
        && rows::lives(c, worker)?
        && let Ok(step) = queued.after.clone().taken(worker, now)
    {
        rows::write(c, &step)?;
        return Ok(Added::New(step.after.job));
    }
    Ok(Added::New(queued.after.job))
}

impl DeadLetters for Sqlite {
    fn dead_letters(&self, tenant: Option<TenantId>, page: Page) -> Answer<'_, Vec<Numbered<Job>>> {
        self.read("listing dead letters", move |c| {
            let rest = "state = 'failed' AND payload IS NOT NULL AND (?1 IS NULL OR tenant = ?1) \
                        AND place < ?2 ORDER BY place DESC LIMIT ?3";
            let tenant = tenant.as_ref().map(TenantId::as_str);
            rows::select(c, rest, params![tenant, before(page), limit(page)]).map(jobs_of)
        })
    }

    fn discard(&self, of: JobKey, entry: AuditEntry) -> Answer<'_, bool> {
        self.atomically("discarding a dead letter", move |c| {
            let gone = c
                .prepare_cached(
                    "UPDATE jobs SET payload = NULL WHERE tenant = ?1 AND id = ?2 \
                     AND state = 'failed' AND payload IS NOT NULL",
                )?
                .execute(params![of.tenant.as_str(), of.id.to_string()])?;
            if gone == 1 {
                append_audit(c, &entry)?;
            }
            Ok(gone == 1)
        })
    }
}

impl Work for Sqlite {
    fn waiting(
        &self,
        each: u32,
        tenants_max: u32,
        after: Option<TenantId>,
    ) -> Answer<'_, Vec<Waiting>> {
        self.read("looking for jobs", move |c| {
            let after = after.as_ref().map_or("", TenantId::as_str);
            let (now, running) = (now(c)?, running(c)?);
            let mut found = Vec::new();
            for priority in Priority::ALL {
                let mut tenants = tenants(c, priority, (after, "\u{7f}"), tenants_max)?;
                let more = tenants_max.saturating_sub(u32::try_from(tenants.len()).unwrap_or(0));
                tenants.extend(self::tenants(c, priority, ("", after), more)?);
                for tenant in tenants {
                    let costs = costs(c, (&tenant, priority), now, each)?;
                    // What no tenant is called was not written here.
                    let Ok(tenant) = TenantId::parse(&tenant) else { continue };
                    let running = running.get(tenant.as_str()).copied().unwrap_or(0);
                    found.push(Waiting { tenant, priority, costs, running });
                }
            }
            Ok(found)
        })
    }

    fn take(&self, worker: WorkerId, picks: Vec<Pick>) -> Answer<'_, Vec<Taken>> {
        self.atomically("taking jobs", move |c| {
            if !rows::lives(c, worker)? {
                return Ok(Vec::new());
            }
            let (now, mut taken, mut room) = (now(c)?, Vec::new(), Room::of(&picks));
            for (tenant, running) in running(c)? {
                room.run(&tenant, running);
            }
            for pick in &picks {
                let Pick { tenant, priority, .. } = pick;
                let rest =
                    format!("{READY} AND tenant = ?2 AND priority = ?3 ORDER BY place LIMIT ?4");
                let of = params![now, tenant.as_str(), priority.name(), room.for_pick(pick)];
                for row in rows::select(c, &rest, of)? {
                    let Ok(step) = row.value.taken(worker, now) else { continue };
                    rows::write(c, &step)?;
                    room.run(tenant.as_str(), 1);
                    let Held { job, fence, .. } = step.after;
                    let payload = rows::payload(c, &job.of)?;
                    taken.push(Taken { lease: Lease { of: job.of.clone(), fence }, job, payload });
                }
            }
            Ok(taken)
        })
    }

    fn progress(&self, lease: Lease, progress: f64) -> Answer<'_, bool> {
        self.atomically("keeping a job's progress", move |c| {
            let Lease { of, fence } = lease;
            let id = of.id.to_string();
            c.prepare_cached(
                "UPDATE jobs SET progress = max(progress, ?4) WHERE tenant = ?1 AND id = ?2 \
                 AND fence = ?3 AND state = 'running'",
            )?
            .execute(params![of.tenant.as_str(), id, fence.cast_signed(), part(progress)])
            .map(|rows| rows == 1)
        })
    }

    fn end_attempt(&self, lease: Lease, ending: Ending) -> Answer<'_, bool> {
        self.atomically("ending an attempt", move |c| {
            let held = rows::held(c, &lease.of)?;
            let own = held.filter(|held| held.holds(lease.fence));
            let Some(held) = own else {
                let again = matches!(ending, Ending::Completed(_));
                return Ok(again && rows::completed(c, &lease.of, lease.fence)?);
            };
            let Ok(step) = held.ended(ending, now(c)?) else { return Ok(false) };
            rows::write(c, &step).map(|()| true)
        })
    }
}

/// Up to `most` tenants with queued jobs of `priority`, above `low` up to `high`: from tenant to tenant
/// over the index, never row by row.
fn tenants(
    c: &Connection,
    priority: Priority,
    (low, high): (&str, &str),
    most: u32,
) -> Result<Vec<String>> {
    c.prepare_cached(
        "WITH RECURSIVE t (tenant) AS (SELECT ?1 UNION ALL \
         SELECT (SELECT min(tenant) FROM jobs WHERE state = 'queued' AND priority = ?3 \
                 AND tenant > t.tenant AND tenant <= ?2) FROM t WHERE t.tenant IS NOT NULL) \
         SELECT tenant FROM t WHERE tenant IS NOT NULL AND tenant > ?1 LIMIT ?4",
    )?
    .query_map(params![low, high, priority.name(), most], |row| row.get(0))?
    .collect()
}

fn costs(
    c: &Connection,
    (tenant, priority): (&str, Priority),
    now: i64,
    each: u32,
) -> Result<Vec<u32>> {
    c.prepare_cached(&format!(
        "SELECT cost FROM jobs WHERE {READY} AND tenant = ?2 AND priority = ?3 \
         ORDER BY place LIMIT ?4"
    ))?
    .query_map(params![now, tenant, priority.name(), each.min(EACH_MAX)], |row| row.get(0))?
    .collect()
}

fn running(c: &Connection) -> Result<HashMap<String, u32>> {
    c.prepare_cached("SELECT tenant, count(*) FROM jobs WHERE state = 'running' GROUP BY tenant")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

impl Workers for Sqlite {
    fn enter(&self, worker: WorkerId) -> Answer<'_, ()> {
        self.atomically("entering a worker", move |c| {
            c.prepare_cached("INSERT OR IGNORE INTO workers (id, beat) VALUES (?1, 0)")?
                .execute([worker.to_string()])
                .map(drop)
        })
    }

    fn beat(&self, worker: WorkerId) -> Answer<'_, Option<Vec<Lease>>> {
        self.atomically("renewing leases", move |c| {
            let id = worker.to_string();
            let sql = "UPDATE workers SET beat = beat + 1 WHERE id = ?1";
            if c.prepare_cached(sql)?.execute([&id])? == 0 {
                return Ok(None);
            }
            let held = rows::select(c, "state = 'running' AND worker = ?1 ORDER BY id", [&id])?;
            let lease = |row: Numbered<Held>| {
                let Held { job, fence, .. } = row.value;
                Lease { of: job.of, fence }
            };
            Ok(Some(held.into_iter().map(lease).collect()))
        })
    }

    fn leave(&self, worker: WorkerId) -> Answer<'_, ()> {
        self.atomically("ending a worker", move |c| {
            c.prepare_cached("DELETE FROM workers WHERE id = ?1")?
                .execute([worker.to_string()])
                .map(drop)
        })
    }

    fn workers(&self) -> Answer<'_, Vec<(WorkerId, u64)>> {
        self.read("listing workers", |c| {
            c.prepare_cached("SELECT id, beat FROM workers ORDER BY id")?
                .query_map([], |row| {
                    let beat: i64 = row.get("beat")?;
                    Ok((rows::known(row, "id", WorkerId::parse)?, beat.cast_unsigned()))
                })?
                .collect()
        })
    }

    fn bury(&self, worker: WorkerId, beat: u64) -> Answer<'_, bool> {
        self.atomically("burying a worker", move |c| {
            c.prepare_cached("DELETE FROM workers WHERE id = ?1 AND beat = ?2")?
                .execute(params![worker.to_string(), beat.cast_signed()])
                .map(|rows| rows == 1)
        })
    }
}

impl JobUpkeep for Sqlite {
    fn recover_jobs(&self, most: u32) -> Answer<'_, u64> {
        self.atomically("recovering jobs", move |c| {
            let rest = "state = 'running' AND worker NOT IN (SELECT id FROM workers) LIMIT ?1";
            let now = now(c)?;
            step_each(c, rows::select(c, rest, [most])?, |held| held.lost(now))
        })
    }

    fn expire_jobs(&self, most: u32) -> Answer<'_, u64> {
        self.atomically("expiring jobs", move |c| {
            let rest = "expires_at_ms <= ?1 AND state IN ('queued', 'paused') LIMIT ?2";
            let now = now(c)?;
            step_each(c, rows::select(c, rest, params![now, most])?, |held| held.expired(now))
        })
    }

    fn fail_jobs(&self, tenant: TenantId, why: JobError, most: u32) -> Answer<'_, u64> {
        self.atomically("failing jobs of a tenant", move |c| {
            let rest = "tenant = ?1 AND state IN ('queued', 'running', 'paused') LIMIT ?2";
            let (now, rows) = (now(c)?, rows::select(c, rest, params![tenant.as_str(), most])?);
            let failed = step_each(c, rows, |held| held.given_up(&why, now))?;
            let sql = "UPDATE jobs SET payload = NULL WHERE place IN (SELECT place FROM jobs \
                       WHERE tenant = ?1 AND state = 'failed' AND payload IS NOT NULL LIMIT ?2)";
            let letters = c.prepare_cached(sql)?.execute(params![tenant.as_str(), most])?;
            Ok(failed + letters as u64)
        })
    }

    fn orphans(&self, kind: &'static str) -> Answer<'_, Vec<TenantId>> {
        self.read("looking for jobs of deleted tenants", move |c| {
            let mut sql = c.prepare_cached(ORPHANS)?;
            let tenants = sql.query_map([kind], |row| parsed(row, "tenant", TenantId::parse))?;
            tenants.collect()
        })
    }

    fn erase_jobs(&self, most: u32) -> Answer<'_, u64> {
        self.atomically("erasing content of jobs", move |c| {
            let now = now(c)?;
            let results = c
                .prepare_cached(
                    "UPDATE completions SET result = NULL WHERE job IN (SELECT job \
                     FROM completions WHERE result IS NOT NULL AND at_ms <= ?1 LIMIT ?2)",
                )?
                .execute(params![now - millis(RESULT_KEPT), most])?;
            let letters = c
                .prepare_cached(
                    "UPDATE jobs SET payload = NULL, callback = NULL WHERE place IN (SELECT place \
                     FROM jobs WHERE state = 'failed' AND payload IS NOT NULL AND updated_at_ms <= ?1 \
                     LIMIT ?2)",
                )?
                .execute(params![now - millis(DEAD_LETTER_KEPT), most])?;
            Ok((results + letters) as u64)
        })
    }

    fn forget_jobs(&self, kept: Duration, most: u32) -> Answer<'_, u64> {
        self.atomically("forgetting jobs", move |c| {
            let rest = "state IN ('completed', 'failed', 'cancelled') AND updated_at_ms <= ?1 \
                        AND payload IS NULL LIMIT ?2";
            let gone = rows::select(c, rest, params![now(c)? - millis(kept), most])?;
            for row in &gone {
                let id = row.value.job.of.id.to_string();
                for sql in [
                    "DELETE FROM job_transitions WHERE job = ?1",
                    "DELETE FROM job_attempts WHERE job = ?1",
                    "DELETE FROM completions WHERE job = ?1",
                    "DELETE FROM jobs WHERE id = ?1",
                ] {
                    c.prepare_cached(sql)?.execute([&id])?;
                }
            }
            Ok(gone.len() as u64)
        })
    }

    fn job_seals(&self) -> Answer<'_, Vec<(String, u64)>> {
        self.read("looking at the seals of jobs", rows::seals)
    }

    fn job_counts(&self) -> Answer<'_, JobCounts> {
        self.read("counting jobs", |c| {
            let count = |sql: &str| -> Result<u64> {
                let sql = format!("SELECT count(*) FROM jobs WHERE {sql}");
                let counted: i64 = c.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
                Ok(counted.cast_unsigned())
            };
            let mut counts = JobCounts {
                queued: [0; 5],
                running: count("state = 'running'")?,
                paused: count("state = 'paused'")?,
                dead: count("state = 'failed' AND payload IS NOT NULL")?,
            };
            for (queued, priority) in counts.queued.iter_mut().zip(Priority::ALL) {
                *queued = count(&format!("state = 'queued' AND priority = '{}'", priority.name()))?;
            }
            Ok(counts)
        })
    }
}

fn step_each(
    c: &Connection,
    rows: Vec<Numbered<Held>>,
    step: impl Fn(Held) -> Next,
) -> Result<u64> {
    let mut moved = 0;
    for row in rows {
        if let Ok(step) = step(row.value) {
            rows::write(c, &step)?;
            moved += 1;
        }
    }
    Ok(moved)
}
