//! Consumer groups: what they are given, and what they acknowledge.

use std::time::Duration;

use deadpool_postgres::Transaction;
use futures_util::FutureExt as _;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Postgres;
use super::events::{COLUMNS, LIMIT_MAX, Of, read, wrong};
use super::fault::Fault;
use super::jobs::now;
use crate::domain::digest::Digest;
use crate::store::claims::millis;
use crate::store::events::{ENROLLED_MAX, chosen, numbered};
use crate::store::{Answer, Begin, Delivering, Delivery, Group, Groups, Numbered, Shares, Then};

/// Of deliveries, where $3 is now: one sent after now was sent by a clock that has stepped back since.
const OVERDUE: &str = "NOT dead AND (due_ms <= $3 OR sent_at_ms > $3)";
const OWN: &str = "stream = $1 AND name = $2";

impl Groups for Postgres {
    fn deliver(
        &self,
        group: Group,
        begin: Begin,
        how: Delivering,
    ) -> Answer<'_, Option<Vec<Delivery>>> {
        self.alter_in_lane("delivering events", group.stream.clone(), move |t| {
            async move {
                let is_there = hold(t, &group).await? || start(t, &group, begin).await?;
                Ok(if is_there { Some(deliver(t, &group, how).await?) } else { None })
            }
            .boxed()
        })
    }

    fn deliver_fairly(
        &self,
        group: Group,
        how: Delivering,
        shares: Shares,
    ) -> Answer<'_, Vec<Delivery>> {
        self.alter("delivering events", group.stream.scope(), move |t| {
            async move { deliver_fairly(t, &group, how, &shares).await }.boxed()
        })
    }

    fn acknowledge(&self, group: Group, ids: Vec<Digest>) -> Answer<'_, u64> {
        self.alter_in_lane("acknowledging events", group.stream.clone(), move |t| {
            async move {
                hold(t, &group).await?;
                let ids: Vec<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..]).collect();
                let sql = format!("DELETE FROM event_deliveries WHERE {OWN} AND id = ANY($3)");
                let sql = t.prepare_cached(&sql).await?;
                Ok(t.execute(&sql, &[&group.stream.column(), &group.name, &ids]).await?)
            }
            .boxed()
        })
    }

    fn refuse(
        &self,
        group: Group,
        id: Digest,
        (rest, deliveries_max): (Duration, u32),
        why: Option<String>,
    ) -> Answer<'_, bool> {
        self.alter("refusing an event", group.stream.scope(), move |t| {
            async move {
                let sql = format!(
                    "UPDATE event_deliveries SET sent_at_ms = $4, due_ms = $5, dead = (count >= $6), \
                     last_error = $7 WHERE {OWN} AND id = $3 AND NOT dead"
                );
                let sql = t.prepare_cached(&sql).await?;
                let (stream, id, now) = (group.stream.column(), &id.as_bytes()[..], now(t).await?);
                let (due, most) = (now.saturating_add(millis(rest)), i64::from(deliveries_max));
                let of: [&(dyn ToSql + Sync); 7] =
                    [&stream, &group.name, &id, &now, &due, &most, &why];
                Ok(t.execute(&sql, &of).await? == 1)
            }
            .boxed()
        })
    }

    fn dead_deliveries(
        &self,
        group: Group,
        after: i64,
        limit: u32,
    ) -> Answer<'_, Vec<Numbered<Delivery>>> {
        self.run("listing dead deliveries", group.stream.scope(), move |t| {
            async move {
                let which = "dead AND d.sequence > $3 ORDER BY d.sequence LIMIT $4";
                let limit = i64::from(limit.min(LIMIT_MAX));
                let of: [&(dyn ToSql + Sync); 4] =
                    [&group.stream.column(), &group.name, &after, &limit];
                Ok(deliveries(t, which, &of).await?.into_iter().map(numbered).collect())
            }
            .boxed()
        })
    }

    fn count_dead(&self, group: Group) -> Answer<'_, u64> {
        self.run("counting dead deliveries", group.stream.scope(), move |t| {
            async move {
                let sql = format!("SELECT count(*) FROM event_deliveries WHERE {OWN} AND dead");
                let sql = t.prepare_cached(&sql).await?;
                let row = t.query_one(&sql, &[&group.stream.column(), &group.name]).await?;
                Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
            }
            .boxed()
        })
    }

    fn end_dead(&self, group: Group, id: Digest, then: Then) -> Answer<'_, bool> {
        self.alter("ending a dead delivery", group.stream.scope(), move |t| {
            async move {
                let what = match then {
                    Then::Requeue => {
                        "UPDATE event_deliveries SET dead = false, count = 0, \
                         due_ms = sent_at_ms, last_error = NULL"
                    }
                    Then::Discard => "DELETE FROM event_deliveries",
                };
                let sql = format!("{what} WHERE {OWN} AND id = $3 AND dead");
                let sql = t.prepare_cached(&sql).await?;
                let (stream, id) = (group.stream.column(), &id.as_bytes()[..]);
                Ok(t.execute(&sql, &[&stream, &group.name, &id]).await? == 1)
            }
            .boxed()
        })
    }
}

/// Whether the group is there; nobody else changes or forgets it meanwhile.
async fn hold(t: &Transaction<'_>, group: &Group) -> Result<bool, Fault> {
    let sql = &format!("SELECT FROM event_groups WHERE {OWN} FOR UPDATE");
    let (sql, stream) = (t.prepare_cached(sql).await?, group.stream.column());
    Ok(t.query_opt(&sql, &[&stream, &group.name]).await?.is_some())
}

/// Begins the group unless its stream is full; whether it is there.
async fn start(t: &Transaction<'_>, group: &Group, begin: Begin) -> Result<bool, Fault> {
    let (stream, name) = (group.stream.column(), group.name.as_str());
    // One at a time until each was given its first, so that two do not both find the last place free.
    let alone = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7201008))";
    t.execute(alone, &[&stream]).await?;
    if hold(t, group).await? {
        return Ok(true);
    }
    let (place, holds) = (group.stream.place(), group.stream.holds("$1"));
    if is_full(t, stream, begin.groups_max).await? {
        let sql = format!(
            "DELETE FROM event_groups WHERE stream = $1 AND cursor < coalesce((SELECT sequence \
             FROM events WHERE {holds} AND sequence IS NOT NULL ORDER BY {place} LIMIT 1), $2)"
        );
        t.execute(&t.prepare_cached(&sql).await?, &[&stream, &i64::MAX]).await?;
        if is_full(t, stream, begin.groups_max).await? {
            return Ok(false);
        }
    }
    let sql = format!(
        "INSERT INTO event_groups (stream, name, cursor) SELECT $1, $2, \
         coalesce((SELECT max(sequence) FROM events WHERE {holds} AND {place} <= $3), 0) \
         ON CONFLICT DO NOTHING"
    );
    t.execute(&t.prepare_cached(&sql).await?, &[&stream, &name, &begin.after]).await?;
    Ok(true)
}

async fn is_full(t: &Transaction<'_>, stream: &str, most: u32) -> Result<bool, Fault> {
    let sql = "SELECT count(*) FROM event_groups WHERE stream = $1";
    let sql = t.prepare_cached(sql).await?;
    Ok(t.query_one(&sql, &[&stream]).await?.try_get::<_, i64>(0)? >= i64::from(most))
}

/// The place of the last event that the group was given; nobody else changes the group meanwhile.
async fn lock(t: &Transaction<'_>, group: &Group) -> Result<i64, Fault> {
    let (stream, name) = (group.stream.column(), group.name.as_str());
    let sql = "INSERT INTO event_groups (stream, name, cursor) VALUES ($1, $2, 0) \
               ON CONFLICT (stream, name) DO UPDATE SET cursor = event_groups.cursor RETURNING cursor";
    // One statement: a group that was given nothing yet may be forgotten between two.
    let sql = t.prepare_cached(sql).await?;
    Ok(t.query_one(&sql, &[&stream, &name]).await?.try_get(0)?)
}

async fn deliver(
    t: &Transaction<'_>,
    group: &Group,
    how: Delivering,
) -> Result<Vec<Delivery>, Fault> {
    let (stream, name) = (group.stream.column(), group.name.as_str());
    let (now, cursor) = begin(t, group, how).await?;
    let most = i64::from(how.most.min(LIMIT_MAX));
    let due = now.saturating_add(millis(how.ack_wait));
    let sql = format!(
        "UPDATE event_deliveries SET count = count + 1, sent_at_ms = $3, due_ms = $4 WHERE {OWN} \
         AND sequence IN (SELECT sequence FROM event_deliveries WHERE {OWN} AND {OVERDUE} \
         ORDER BY sequence LIMIT $5) RETURNING sequence"
    );
    let mut out = places(t, &sql, &[&stream, &name, &now, &due, &most]).await?;
    let more = most - out.len() as i64;
    out.extend(enroll(t, (group, cursor), (1, more), (now, due)).await?);
    deliveries(t, "d.sequence = ANY($3) ORDER BY d.sequence", &[&stream, &name, &out]).await
}

async fn deliver_fairly(
    t: &Transaction<'_>,
    group: &Group,
    how: Delivering,
    shares: &Shares,
) -> Result<Vec<Delivery>, Fault> {
    let (stream, name) = (group.stream.column(), group.name.as_str());
    let (now, cursor) = begin(t, group, how).await?;
    enroll(t, (group, cursor), (0, i64::from(ENROLLED_MAX)), (now, now)).await?;
    // OVERDUE names columns that only deliveries have.
    let sql = format!(
        "SELECT sequence, tenant FROM (SELECT d.sequence, e.tenant, d.count > 0 AS again, \
         row_number() OVER (PARTITION BY e.tenant ORDER BY d.count > 0, d.sequence) AS turn \
         FROM event_deliveries AS d JOIN events AS e ON e.sequence = d.sequence \
         WHERE {OWN} AND {OVERDUE}) AS waiting WHERE turn <= $4 \
         ORDER BY again, turn, sequence LIMIT $5"
    );
    let sql = t.prepare_cached(&sql).await?;
    let most = how.most.min(LIMIT_MAX);
    let (each, looked_at) = (i64::from(shares.each), i64::from(shares.looked_at(most)));
    let rows = t.query(&sql, &[&stream, &name, &now, &each, &looked_at]).await?;
    let candidate = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let candidates = rows.iter().map(candidate).collect::<Result<Vec<_>, Fault>>()?;
    let places = chosen(candidates, shares, most);
    let due = now.saturating_add(millis(how.ack_wait));
    let sql = format!(
        "UPDATE event_deliveries SET count = count + 1, sent_at_ms = $3, due_ms = $4 \
         WHERE {OWN} AND sequence = ANY($5)"
    );
    let sql = t.prepare_cached(&sql).await?;
    t.execute(&sql, &[&stream, &name, &now, &due, &places]).await?;
    let given = "d.sequence = ANY($3) ORDER BY array_position($3, d.sequence)";
    deliveries(t, given, &[&stream, &name, &places]).await
}

/// Makes the group where it is new, and dead what was delivered as often as it may. The time, and the
/// place of the last event that the group was given; nobody else changes it meanwhile.
async fn begin(t: &Transaction<'_>, group: &Group, how: Delivering) -> Result<(i64, i64), Fault> {
    let cursor = lock(t, group).await?;
    // Only now: what another one sent while this one waited would be of the future, hence overdue.
    let now = now(t).await?;
    let sql = format!(
        "UPDATE event_deliveries SET dead = true, sent_at_ms = $3 \
         WHERE {OWN} AND {OVERDUE} AND count >= $4"
    );
    let sql = t.prepare_cached(&sql).await?;
    let (stream, name) = (group.stream.column(), group.name.as_str());
    t.execute(&sql, &[&stream, &name, &now, &i64::from(how.deliveries_max)]).await?;
    Ok((now, cursor))
}

/// Gives the group rows of up to `most` events behind its place, delivered `count` times.
async fn enroll(
    t: &Transaction<'_>,
    (group, cursor): (&Group, i64),
    (count, most): (i64, i64),
    (now, due): (i64, i64),
) -> Result<Vec<i64>, Fault> {
    let (stream, name) = (group.stream.column(), group.name.as_str());
    let sql = format!(
        "INSERT INTO event_deliveries (stream, name, sequence, id, count, sent_at_ms, due_ms) \
         SELECT $1, $2, sequence, id, $7, $3, $4 FROM events WHERE {} AND sequence > $6 \
         ORDER BY sequence LIMIT $5 RETURNING sequence",
        group.stream.holds("$1")
    );
    let fresh = places(t, &sql, &[&stream, &name, &now, &due, &most, &cursor, &count]).await?;
    if let Some(last) = fresh.iter().max() {
        let sql = format!("UPDATE event_groups SET cursor = $3 WHERE {OWN}");
        let sql = t.prepare_cached(&sql).await?;
        t.execute(&sql, &[&stream, &name, last]).await?;
    }
    Ok(fresh)
}

async fn places(t: &Transaction<'_>, sql: &str, of: Of<'_>) -> Result<Vec<i64>, Fault> {
    let sql = t.prepare_cached(sql).await?;
    t.query(&sql, of).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn deliveries(t: &Transaction<'_>, which: &str, of: Of<'_>) -> Result<Vec<Delivery>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS}, count, sent_at_ms, last_error FROM event_deliveries AS d JOIN events \
         ON events.sequence = d.sequence WHERE {OWN} AND {which}"
    );
    let sql = t.prepare_cached(&sql).await?;
    let read = |row: &Row| {
        let count = u32::try_from(row.try_get::<_, i64>("count")?).map_err(|_| wrong("count"))?;
        let (at_ms, error) = (row.try_get("sent_at_ms")?, row.try_get("last_error")?);
        Ok(Delivery { told: read(row)?, count, at_ms, error })
    };
    t.query(&sql, of).await?.iter().map(read).collect()
}
