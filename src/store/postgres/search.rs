//! Looks through decisions, by an index of those that still have their record.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::fault::Fault;
use super::rows::{action, parsed, read_decision};
use crate::domain::action::Action;
use crate::domain::id::{BundleName, TenantId};
use crate::store::search::most;
use crate::store::{Passed, Sought, Spot, Tally};

const ROWS: &str = "FROM decisions WHERE tenant = $1 AND NOT purged AND at_ms >= $2 \
    AND (at_ms, sequence) < ($3::bigint, $4::bigint) ORDER BY at_ms DESC, sequence DESC LIMIT $5";

pub(super) async fn look(
    t: &Transaction<'_>,
    (tenant, sought): (&TenantId, &Sought),
    after: Option<Spot>,
    rows: u32,
) -> Result<Vec<Passed>, Fault> {
    let sql = format!(
        "SELECT passed.at_ms AS passed_ms, passed.sequence AS passed, d.sequence, d.id, d.tenant, \
         d.request_id, d.at_ms, d.policy, d.revision, d.action, d.complete, d.record, \
         NULL::bigint AS place FROM \
         (SELECT sequence, at_ms, ($6::text IS NULL OR action = $6) \
          AND ($7::text IS NULL OR policy = $7) \
          AND ($8::text IS NULL OR left(revision, length($8)) = $8) \
          AND ($9::boolean IS NULL OR complete = $9) AS fits {ROWS}) AS passed \
         LEFT JOIN decisions AS d ON d.tenant = $1 AND d.sequence = passed.sequence AND fits \
         ORDER BY passed.at_ms DESC, passed.sequence DESC"
    );
    let sql = t.prepare_cached(&sql).await?;
    let (begin, end, most) = (sought.begin(), sought.end(after), i64::from(most(rows)));
    let (action, policy) =
        (sought.action.map(Action::name), sought.policy.as_ref().map(BundleName::as_str));
    let of: [&(dyn ToSql + Sync); 9] = [
        &tenant.as_str(),
        &begin,
        &end.at_ms,
        &end.sequence,
        &most,
        &action,
        &policy,
        &sought.revision,
        &sought.complete,
    ];
    t.query(&sql, &of).await?.iter().map(read_passed).collect()
}

pub(super) async fn tally(
    t: &Transaction<'_>,
    (tenant, sought): (&TenantId, &Sought),
    rows: u32,
) -> Result<Vec<Tally>, Fault> {
    let sql = format!(
        "SELECT revision, action, complete, count(*) AS decisions, min(at_ms) AS first_ms, \
         max(at_ms) AS last_ms FROM (SELECT revision, action, complete, at_ms {ROWS}) AS passed \
         GROUP BY revision, action, complete \
         ORDER BY max(at_ms) DESC, revision COLLATE \"C\", action COLLATE \"C\", complete"
    );
    let sql = t.prepare_cached(&sql).await?;
    let (begin, end, most) = (sought.begin(), sought.end(None), i64::from(most(rows)));
    let of: [&(dyn ToSql + Sync); 5] = [&tenant.as_str(), &begin, &end.at_ms, &end.sequence, &most];
    t.query(&sql, &of).await?.iter().map(read_tally).collect()
}

fn read_passed(row: &Row) -> Result<Passed, Fault> {
    let spot = Spot { at_ms: row.try_get("passed_ms")?, sequence: row.try_get("passed")? };
    let fits: Option<i64> = row.try_get("sequence")?;
    let fits = fits.map(|_| read_decision(row)).transpose()?.map(|found| found.value);
    Ok(Passed { spot, fits })
}

fn read_tally(row: &Row) -> Result<Tally, Fault> {
    Ok(Tally {
        revision: row.try_get("revision")?,
        action: parsed(row, "action", action)?,
        complete: row.try_get("complete")?,
        decisions: row.try_get::<_, i64>("decisions")?.cast_unsigned(),
        first_ms: row.try_get("first_ms")?,
        last_ms: row.try_get("last_ms")?,
    })
}
