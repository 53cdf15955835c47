//! Jobs as their workers see them, and what is done about them in time.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::Transaction;
use futures_util::FutureExt as _;
use futures_util::future::try_join_all;

use super::super::fault::Fault;
use super::super::rows::parsed;
use super::super::{Postgres, Scope};
use super::rows::{held, known, lives, now, select, small, write};
use crate::domain::id::TenantId;
use crate::domain::job::{DEAD_LETTER_KEPT, JobError, Lease, RESULT_KEPT, WorkerId};
use crate::domain::request::Priority;
use crate::seal::APART_ID;
use crate::store::claims::millis;
use crate::store::jobs::{EACH_MAX, Held, Next, ORPHANS, Room, part, seals};
use crate::store::{
    Answer, Ending, JobCounts, JobUpkeep, Numbered, Pick, Taken, Waiting, Work, Workers,
};

/// May be begun at $1. A rest that began later than now began by a clock that has stepped back since.
const READY: &str = "state = 'queued' AND coalesce(not_before_ms, 0) <= $1 \
    AND coalesce(expires_at_ms, $1 + 1) > $1 AND (retry_at_ms <= $1 OR updated_at_ms > $1)";

impl Work for Postgres {
    fn waiting(
        &self,
        each: u32,
        tenants_max: u32,
        after: Option<TenantId>,
    ) -> Answer<'_, Vec<Waiting>> {
        self.run("looking for jobs", Scope::Service, move |t| {
            async move {
                let after = after.as_ref().map_or("", TenantId::as_str);
                let (now, running, mut found) = (now(t).await?, running(t).await?, Vec::new());
                for priority in Priority::ALL {
                    let mut tenants = tenants(t, priority, (after, false), tenants_max).await?;
                    let known = u32::try_from(tenants.len()).unwrap_or(tenants_max);
                    let more = tenants_max.saturating_sub(known);
                    tenants.extend(self::tenants(t, priority, (after, true), more).await?);
                    let all = tenants.iter().map(|of| costs(t, (of, priority), now, each));
                    let all = try_join_all(all).await?;
                    for (tenant, costs) in tenants.iter().zip(all) {
                        // What no tenant is called was not written here.
                        let Ok(tenant) = TenantId::parse(tenant) else { continue };
                        let running = running.get(tenant.as_str()).copied().unwrap_or(0);
                        found.push(Waiting { tenant, priority, costs, running });
                    }
                }
                Ok(found)
            }
            .boxed()
        })
    }

    fn take(&self, worker: WorkerId, picks: Vec<Pick>) -> Answer<'_, Vec<Taken>> {
        self.alter("taking jobs", Scope::Service, move |t| {
            async move {
                let mut taken = Vec::new();
                if !lives(t, worker).await? {
                    return Ok(taken);
                }
                let mut room = room(t, &picks).await?;
                let now = now(t).await?;
                for pick in &picks {
                    let rows = pick_rows(t, (pick, room.for_pick(pick)), now).await?;
                    let steps: Vec<_> = rows
                        .into_iter()
                        .filter_map(|row| row.value.taken(worker, now).ok())
                        .collect();
                    // Side by side on one connection: its statements go out without waiting.
                    try_join_all(steps.iter().map(|step| write(t, step))).await?;
                    room.run(pick.tenant.as_str(), u32::try_from(steps.len()).unwrap_or(u32::MAX));
                    for step in steps {
                        let Held { job, fence, .. } = step.after;
                        let lease = Lease { of: job.of.clone(), fence };
                        taken.push(Taken { lease, job, payload: Vec::new() });
                    }
                }
                let payloads = taken.iter().map(|taken| payload(t, taken.lease.of.id.to_string()));
                let payloads = try_join_all(payloads).await?;
                for (taken, payload) in taken.iter_mut().zip(payloads) {
                    taken.payload = payload;
                }
                Ok(taken)
            }
            .boxed()
        })
    }

    fn progress(&self, lease: Lease, progress: f64) -> Answer<'_, bool> {
        let scope = Scope::Tenant(lease.of.tenant.clone());
        self.alter("keeping a job's progress", scope, move |t| {
            async move {
                let sql = "UPDATE jobs SET progress = greatest(progress, $4) WHERE tenant = $1 \
                           AND id = $2 AND fence = $3 AND state = 'running'";
                let sql = t.prepare_cached(sql).await?;
                let (of, fence) = (&lease.of, lease.fence.cast_signed());
                let (tenant, id) = (of.tenant.as_str(), of.id.to_string());
                Ok(t.execute(&sql, &[&tenant, &id, &fence, &part(progress)]).await? == 1)
            }
            .boxed()
        })
    }

    fn end_attempt(&self, lease: Lease, ending: Ending) -> Answer<'_, bool> {
        let scope = Scope::Tenant(lease.of.tenant.clone());
        self.alter("ending an attempt", scope, move |t| {
            async move {
                let found = held(t, &lease.of, "FOR UPDATE").await?;
                let Some(held) = found.filter(|held| held.holds(lease.fence)) else {
                    let again = matches!(ending, Ending::Completed(_));
                    return Ok(again && completed(t, &lease).await?);
                };
                let Ok(step) = held.ended(ending, now(t).await?) else { return Ok(false) };
                write(t, &step).await.map(|()| true)
            }
            .boxed()
        })
    }
}

/// What limits leave. Nobody else takes jobs of a tenant that has one until the transaction ends: two
/// instances would both find the last place free.
async fn room<'a>(t: &Transaction<'_>, picks: &'a [Pick]) -> Result<Room<'a>, Fault> {
    let mut room = Room::of(picks);
    let tenants = room.tenants();
    if tenants.is_empty() {
        return Ok(room);
    }
    let alone = "SELECT pg_advisory_xact_lock(hashtextextended(tenant, 7201007)) \
                 FROM unnest($1::text[]) AS tenant";
    let alone = t.prepare_cached(alone).await?;
    t.execute(&alone, &[&tenants]).await?;
    // A statement of its own sees what was taken while this one waited.
    let sql = "SELECT tenant, count(*) AS running FROM jobs WHERE state = 'running' \
               AND tenant = ANY($1::text[]) GROUP BY tenant";
    let sql = t.prepare_cached(sql).await?;
    for row in t.query(&sql, &[&tenants]).await? {
        room.run(row.try_get("tenant")?, small(&row, "running")?);
    }
    Ok(room)
}

async fn pick_rows(
    t: &Transaction<'_>,
    (Pick { tenant, priority, .. }, most): (&Pick, u32),
    now: i64,
) -> Result<Vec<Numbered<Held>>, Fault> {
    let rest = format!(
        "{READY} AND tenant = $2 AND priority = $3 ORDER BY place LIMIT $4 FOR UPDATE SKIP LOCKED"
    );
    let (tenant, priority, most) = (tenant.as_str(), priority.name(), i64::from(most));
    select(t, &rest, &[&now, &tenant, &priority, &most]).await
}

async fn payload(t: &Transaction<'_>, id: String) -> Result<Vec<u8>, Fault> {
    let sql = t.prepare_cached("SELECT payload FROM jobs WHERE id = $1").await?;
    Ok(t.query_one(&sql, &[&id]).await?.try_get(0)?)
}

/// Whether this lease completed the job.
async fn completed(t: &Transaction<'_>, Lease { of, fence }: &Lease) -> Result<bool, Fault> {
    let sql = "SELECT FROM completions WHERE tenant = $1 AND job = $2 AND fence = $3";
    let sql = t.prepare_cached(sql).await?;
    let (tenant, id, fence) = (of.tenant.as_str(), of.id.to_string(), fence.cast_signed());
    Ok(t.query_opt(&sql, &[&tenant, &id, &fence]).await?.is_some())
}

/// Up to `most` tenants with queued jobs of `priority`: above `after`, or from the first up to it where
/// `round`. From tenant to tenant over the index, never row by row.
async fn tenants(
    t: &Transaction<'_>,
    priority: Priority,
    (after, round): (&str, bool),
    most: u32,
) -> Result<Vec<String>, Fault> {
    let (low, upto) =
        if round { ("", "AND tenant <= $2") } else { (after, "AND $2::text IS NOT NULL") };
    let sql = format!(
        "WITH RECURSIVE t (tenant) AS (SELECT $1::text UNION ALL \
         SELECT (SELECT tenant FROM jobs WHERE state = 'queued' AND priority = $3 \
                 AND tenant > t.tenant {upto} ORDER BY tenant LIMIT 1) \
         FROM t WHERE t.tenant IS NOT NULL) \
         SELECT tenant FROM t WHERE tenant IS NOT NULL AND tenant > $1 LIMIT $4"
    );
    let sql = t.prepare_cached(&sql).await?;
    let (priority, most) = (priority.name(), i64::from(most));
    let rows = t.query(&sql, &[&low, &after, &priority, &most]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn costs(
    t: &Transaction<'_>,
    (tenant, priority): (&str, Priority),
    now: i64,
    each: u32,
) -> Result<Vec<u32>, Fault> {
    let sql = format!(
        "SELECT cost FROM jobs WHERE {READY} AND tenant = $2 AND priority = $3 \
         ORDER BY place LIMIT $4"
    );
    let sql = t.prepare_cached(&sql).await?;
    let (priority, each) = (priority.name(), i64::from(each.min(EACH_MAX)));
    let rows = t.query(&sql, &[&now, &tenant, &priority, &each]).await?;
    rows.iter().map(|row| small(row, "cost")).collect()
}

async fn running(t: &Transaction<'_>) -> Result<HashMap<String, u32>, Fault> {
    let sql =
        "SELECT tenant, count(*) AS running FROM jobs WHERE state = 'running' GROUP BY tenant";
    let sql = t.prepare_cached(sql).await?;
    let rows = t.query(&sql, &[]).await?;
    rows.iter().map(|row| Ok((row.try_get("tenant")?, small(row, "running")?))).collect()
}

impl Workers for Postgres {
    fn enter(&self, worker: WorkerId) -> Answer<'_, ()> {
        let sql = "INSERT INTO workers (id, beat) VALUES ($1, 0) ON CONFLICT DO NOTHING";
        self.alter("entering a worker", Scope::Service, move |t| {
            async move {
                let sql = t.prepare_cached(sql).await?;
                t.execute(&sql, &[&worker.to_string()]).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn beat(&self, worker: WorkerId) -> Answer<'_, Option<Vec<Lease>>> {
        self.alter("renewing leases", Scope::Service, move |t| {
            async move {
                let id = worker.to_string();
                let sql = "UPDATE workers SET beat = beat + 1 WHERE id = $1";
                let sql = t.prepare_cached(sql).await?;
                if t.execute(&sql, &[&id]).await? == 0 {
                    return Ok(None);
                }
                let rest = "state = 'running' AND worker = $1 ORDER BY id";
                let lease = |row: Numbered<Held>| {
                    let Held { job, fence, .. } = row.value;
                    Lease { of: job.of, fence }
                };
                Ok(Some(select(t, rest, &[&id]).await?.into_iter().map(lease).collect()))
            }
            .boxed()
        })
    }

    fn leave(&self, worker: WorkerId) -> Answer<'_, ()> {
        self.alter("ending a worker", Scope::Service, move |t| {
            async move {
                let sql = t.prepare_cached("DELETE FROM workers WHERE id = $1").await?;
                t.execute(&sql, &[&worker.to_string()]).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn workers(&self) -> Answer<'_, Vec<(WorkerId, u64)>> {
        self.run("listing workers", Scope::Service, |t| {
            async move {
                let sql = t.prepare_cached("SELECT id, beat FROM workers ORDER BY id").await?;
                let rows = t.query(&sql, &[]).await?;
                let read = |row: &tokio_postgres::Row| {
                    let beat: i64 = row.try_get("beat")?;
                    Ok((known(row, "id", WorkerId::parse)?, beat.cast_unsigned()))
                };
                rows.iter().map(read).collect()
            }
            .boxed()
        })
    }

    fn bury(&self, worker: WorkerId, beat: u64) -> Answer<'_, bool> {
        self.alter("burying a worker", Scope::Service, move |t| {
            async move {
                let sql = "DELETE FROM workers WHERE id = $1 AND beat = $2";
                let sql = t.prepare_cached(sql).await?;
                Ok(t.execute(&sql, &[&worker.to_string(), &beat.cast_signed()]).await? == 1)
            }
            .boxed()
        })
    }
}

impl JobUpkeep for Postgres {
    fn recover_jobs(&self, most: u32) -> Answer<'_, u64> {
        self.alter("recovering jobs", Scope::Service, move |t| {
            async move {
                let rest = "state = 'running' AND NOT EXISTS \
                            (SELECT FROM workers WHERE workers.id = jobs.worker) \
                            LIMIT $1 FOR UPDATE OF jobs SKIP LOCKED";
                let (now, rows) = (now(t).await?, select(t, rest, &[&i64::from(most)]).await?);
                step_each(t, rows, |held| held.lost(now)).await
            }
            .boxed()
        })
    }

    fn expire_jobs(&self, most: u32) -> Answer<'_, u64> {
        self.alter("expiring jobs", Scope::Service, move |t| {
            async move {
                let rest = "expires_at_ms <= $1 AND state IN ('queued', 'paused') \
                            LIMIT $2 FOR UPDATE SKIP LOCKED";
                let now = now(t).await?;
                let rows = select(t, rest, &[&now, &i64::from(most)]).await?;
                step_each(t, rows, |held| held.expired(now)).await
            }
            .boxed()
        })
    }

    fn fail_jobs(&self, tenant: TenantId, why: JobError, most: u32) -> Answer<'_, u64> {
        self.alter("failing jobs of a tenant", Scope::Service, move |t| {
            async move {
                let rest = "tenant = $1 AND state IN ('queued', 'running', 'paused') \
                            ORDER BY place LIMIT $2 FOR UPDATE";
                let now = now(t).await?;
                let rows = select(t, rest, &[&tenant.as_str(), &i64::from(most)]).await?;
                let failed = step_each(t, rows, |held| held.given_up(&why, now)).await?;
                let sql = "UPDATE jobs SET payload = NULL WHERE place IN (SELECT place FROM jobs \
                           WHERE tenant = $1 AND state = 'failed' AND payload IS NOT NULL \
                           ORDER BY place LIMIT $2 FOR UPDATE)";
                let sql = t.prepare_cached(sql).await?;
                Ok(failed + t.execute(&sql, &[&tenant.as_str(), &i64::from(most)]).await?)
            }
            .boxed()
        })
    }

    fn orphans(&self, kind: &'static str) -> Answer<'_, Vec<TenantId>> {
        self.run("looking for jobs of deleted tenants", Scope::Service, move |t| {
            async move {
                let sql = t.prepare_cached(ORPHANS).await?;
                let rows = t.query(&sql, &[&kind]).await?;
                rows.iter().map(|row| parsed(row, "tenant", TenantId::parse)).collect()
            }
            .boxed()
        })
    }

    fn erase_jobs(&self, most: u32) -> Answer<'_, u64> {
        self.alter("erasing content of jobs", Scope::Service, move |t| {
            async move {
                let (now, most) = (now(t).await?, i64::from(most));
                let sql = "UPDATE completions SET result = NULL WHERE job IN (SELECT job \
                           FROM completions WHERE result IS NOT NULL AND at_ms <= $1 LIMIT $2 \
                           FOR UPDATE SKIP LOCKED)";
                let sql = t.prepare_cached(sql).await?;
                let results = t.execute(&sql, &[&(now - millis(RESULT_KEPT)), &most]).await?;
                let sql = "UPDATE jobs SET payload = NULL, callback = NULL WHERE place IN (SELECT place \
                           FROM jobs WHERE state = 'failed' AND payload IS NOT NULL \
                           AND updated_at_ms <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
                let sql = t.prepare_cached(sql).await?;
                let letters = t.execute(&sql, &[&(now - millis(DEAD_LETTER_KEPT)), &most]).await?;
                Ok(results + letters)
            }
            .boxed()
        })
    }

    fn forget_jobs(&self, kept: Duration, most: u32) -> Answer<'_, u64> {
        self.alter("forgetting jobs", Scope::Service, move |t| {
            async move {
                let sql = "WITH gone AS (DELETE FROM jobs WHERE place IN (SELECT place FROM jobs \
                           WHERE state IN ('completed', 'failed', 'cancelled') \
                           AND updated_at_ms <= $1 AND payload IS NULL LIMIT $2 \
                           FOR UPDATE SKIP LOCKED) RETURNING id), \
                           a AS (DELETE FROM job_transitions WHERE job IN (SELECT id FROM gone)), \
                           b AS (DELETE FROM job_attempts WHERE job IN (SELECT id FROM gone)), \
                           c AS (DELETE FROM completions WHERE job IN (SELECT id FROM gone)) \
                           SELECT count(*) FROM gone";
                let sql = t.prepare_cached(sql).await?;
                let before = now(t).await? - millis(kept);
                let row = t.query_one(&sql, &[&before, &i64::from(most)]).await?;
                Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
            }
            .boxed()
        })
    }

    fn job_seals(&self) -> Answer<'_, Vec<(String, u64)>> {
        self.run("looking at the seals of jobs", Scope::Service, |t| {
            async move {
                let (from, length) = (APART_ID.start + 1, APART_ID.len());
                let id =
                    |column: &str| format!("encode(substr({column}, {from}, {length}), 'hex')");
                let rows = t.query(&seals(id), &[]).await?;
                let read = |row: &tokio_postgres::Row| -> Result<(String, u64), Fault> {
                    Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?.cast_unsigned()))
                };
                rows.iter().map(read).collect()
            }
            .boxed()
        })
    }

    fn job_counts(&self) -> Answer<'_, JobCounts> {
        self.run("counting jobs", Scope::Service, |t| {
            async move {
                let sql = "SELECT priority, state, count(*) AS jobs FROM jobs \
                           WHERE state IN ('queued', 'running', 'paused') \
                           OR (state = 'failed' AND payload IS NOT NULL) GROUP BY 1, 2";
                let sql = t.prepare_cached(sql).await?;
                let mut counts = JobCounts::default();
                for row in t.query(&sql, &[]).await? {
                    let jobs = row.try_get::<_, i64>("jobs")?.cast_unsigned();
                    let priority = known(&row, "priority", Priority::parse)?;
                    match row.try_get("state")? {
                        "running" => counts.running += jobs,
                        "paused" => counts.paused += jobs,
                        "failed" => counts.dead += jobs,
                        "queued" => {
                            let all = counts.queued.iter_mut().zip(Priority::ALL);
                            all.filter(|(_, one)| *one == priority).for_each(|(n, _)| *n += jobs);
                        }
                        _ => {}
                    }
                }
                Ok(counts)
            }
            .boxed()
        })
    }
}

async fn step_each(
    t: &Transaction<'_>,
    rows: Vec<Numbered<Held>>,
    step: impl Fn(Held) -> Next,
) -> Result<u64, Fault> {
    let steps: Vec<_> = rows.into_iter().filter_map(|row| step(row.value).ok()).collect();
    try_join_all(steps.iter().map(|step| write(t, step))).await?;
    Ok(steps.len() as u64)
}
