//! Events.

use std::time::Duration;

use deadpool_postgres::Transaction;
use futures_util::FutureExt as _;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::custody::digest;
use super::fault::Fault;
use super::jobs::{known, now};
use super::rows::parsed;
use super::{Postgres, Scope};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventType};
use crate::domain::id::TenantId;
use crate::store::claims::millis;
use crate::store::events::{ENROLLED_MAX, chosen, numbered};
use crate::store::{
    Answer, Begin, Delivering, Delivery, Events, Group, Groups, Numbered, Shares, StoreError,
    Stream, Then, Told,
};

const LIMIT_MAX: u32 = 1000;
const COLUMNS: &str = "events.id, tenant, event_type, at_ms, source, data, events.sequence, \
    own_sequence";
/// Of deliveries, where $3 is now: one sent after now was sent by a clock that has stepped back since.
const OVERDUE: &str = "NOT dead AND (due_ms <= $3 OR sent_at_ms > $3)";
const OWN: &str = "stream = $1 AND name = $2";
/// Numbers what has none: those of one tenant and of all in one order.
const NUMBER: &str = "WITH fresh AS (SELECT place, tenant FROM events WHERE sequence IS NULL \
        ORDER BY place LIMIT $1), \
    counted AS (INSERT INTO event_counters AS kept (stream, last) \
        SELECT stream, count(*) FROM (SELECT tenant AS stream FROM fresh \
        UNION ALL SELECT '*' FROM fresh) AS each GROUP BY stream \
        ON CONFLICT (stream) DO UPDATE SET last = kept.last + excluded.last RETURNING stream, last), \
    placed AS (SELECT place, tenant, row_number() OVER (ORDER BY place) - count(*) OVER () AS back, \
        row_number() OVER (PARTITION BY tenant ORDER BY place) \
        - count(*) OVER (PARTITION BY tenant) AS own_back FROM fresh) \
    UPDATE events SET sequence = every.last + back, own_sequence = own.last + own_back \
    FROM placed, counted AS own, counted AS every WHERE events.place = placed.place \
    AND own.stream = placed.tenant AND every.stream = '*'";

type Of<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Stream {
    fn scope(&self) -> Scope {
        match self {
            Stream::Tenant(tenant) => Scope::Tenant(tenant.clone()),
            Stream::Service | Stream::All | Stream::Callbacks => Scope::Service,
        }
    }
}

/// Keeps an event unless its id is known; whether it was new.
pub(super) async fn insert_event(
    t: &Transaction<'_>,
    event: &Event,
    tells: bool,
) -> Result<bool, Fault> {
    let sql = "INSERT INTO events (id, tenant, event_type, at_ms, source, data, tells) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";
    let sql = t.prepare_cached(sql).await?;
    let tenant = event.tenant.as_ref().map_or("", TenantId::as_str);
    let (id, name) = (&event.id.as_bytes()[..], event.event_type.name());
    // PostgreSQL keeps no NUL; in JSON it is escaped.
    let (source, data) = (event.source.replace('\0', "\u{FFFD}"), event.data.to_string());
    let of: [&(dyn ToSql + Sync); 7] = [&id, &tenant, &name, &event.at_ms, &source, &data, &tells];
    Ok(t.execute(&sql, &of).await? == 1)
}

impl Events for Postgres {
    fn append_events(&self, events: Vec<Event>) -> Answer<'_, u64> {
        let first = events.first().and_then(|event| event.tenant.clone());
        let scope = if events.iter().all(|event| event.tenant == first) {
            Scope::of(first)
        } else {
            Scope::Service
        };
        self.alter("keeping events", scope, move |t| {
            async move {
                let mut new = 0;
                for event in &events {
                    new += u64::from(insert_event(t, event, false).await?);
                }
                Ok(new)
            }
            .boxed()
        })
    }

    fn number_events(&self, most: u32) -> Answer<'_, u64> {
        self.alter("numbering events", Scope::Service, move |t| {
            async move {
                // Held until the numbers are seen: they appear in order.
                let alone = "SELECT pg_try_advisory_xact_lock(7201005)";
                if !t.query_one(alone, &[]).await?.try_get::<_, bool>(0)? {
                    return Ok(0);
                }
                let sql = t.prepare_cached(NUMBER).await?;
                Ok(t.execute(&sql, &[&i64::from(most.min(LIMIT_MAX))]).await?)
            }
            .boxed()
        })
    }

    fn events(&self, stream: Stream, after: i64, limit: u32) -> Answer<'_, Vec<Told>> {
        self.run("reading events", stream.scope(), move |t| {
            async move {
                let (place, holds) = (stream.place(), stream.holds("$1"));
                let rest = format!(
                    "{holds} AND sequence IS NOT NULL AND {place} > $2 ORDER BY {place} LIMIT $3"
                );
                let limit = i64::from(limit.min(LIMIT_MAX));
                select(t, &rest, &[&stream.column(), &after, &limit]).await
            }
            .boxed()
        })
    }

    fn latest_events(
        &self,
        stream: Stream,
        event_type: EventType,
        limit: u32,
    ) -> Answer<'_, Vec<Told>> {
        self.run("reading the latest events", stream.scope(), move |t| {
            async move {
                let rest = format!(
                    "{} AND event_type = $2 AND sequence IS NOT NULL ORDER BY sequence DESC LIMIT $3",
                    stream.holds("$1")
                );
                let limit = i64::from(limit.min(LIMIT_MAX));
                select(t, &rest, &[&stream.column(), &event_type.name(), &limit]).await
            }
            .boxed()
        })
    }

    fn last_event(&self, stream: Stream) -> Answer<'_, i64> {
        self.run("reading the last event", stream.scope(), move |t| {
            async move {
                let sql = "SELECT last FROM event_counters WHERE stream = $1";
                let sql = t.prepare_cached(sql).await?;
                let row = t.query_opt(&sql, &[&stream.counter()]).await?;
                Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
            }
            .boxed()
        })
    }

    fn unpublished(&self, limit: u32) -> Answer<'_, Vec<Told>> {
        self.run("reading unpublished events", Scope::Service, move |t| {
            async move {
                let rest = "NOT published AND sequence IS NOT NULL ORDER BY sequence LIMIT $1";
                select(t, rest, &[&i64::from(limit.min(LIMIT_MAX))]).await
            }
            .boxed()
        })
    }

    fn mark_published(&self, global: Vec<i64>) -> Answer<'_, ()> {
        self.alter("marking events as published", Scope::Service, move |t| {
            async move {
                // In one order everywhere, so that two instances cannot wait for each other.
                let sql = "UPDATE events SET published = true WHERE sequence IN \
                           (SELECT sequence FROM events WHERE sequence = ANY($1) \
                           AND NOT published ORDER BY sequence FOR UPDATE)";
                let sql = t.prepare_cached(sql).await?;
                t.execute(&sql, &[&global]).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn purge_events(&self, kept: Duration, most: u32) -> Answer<'_, u64> {
        self.alter("purging events", Scope::Service, move |t| {
            async move {
                let sql = "WITH gone AS (DELETE FROM events WHERE place IN (SELECT place FROM events \
                           WHERE published AND at_ms <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) \
                           RETURNING sequence), undelivered AS (DELETE FROM event_deliveries \
                           WHERE sequence IN (SELECT sequence FROM gone)) \
                           SELECT count(*) FROM gone";
                let sql = t.prepare_cached(sql).await?;
                let before = now(t).await? - millis(kept);
                let row = t.query_one(&sql, &[&before, &i64::from(most)]).await?;
                Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
            }
            .boxed()
        })
    }
}

async fn select(t: &Transaction<'_>, rest: &str, of: Of<'_>) -> Result<Vec<Told>, Fault> {
    let sql = t.prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE {rest}")).await?;
    t.query(&sql, of).await?.iter().map(read).collect()
}

impl Groups for Postgres {
    fn deliver(
        &self,
        group: Group,
        begin: Begin,
        how: Delivering,
    ) -> Answer<'_, Option<Vec<Delivery>>> {
        self.alter("delivering events", group.stream.scope(), move |t| {
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
        self.alter("acknowledging events", group.stream.scope(), move |t| {
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

fn read(row: &Row) -> Result<Told, Fault> {
    let tenant = match row.try_get("tenant")? {
        "" => None,
        _ => Some(parsed(row, "tenant", TenantId::parse)?),
    };
    let event = Event {
        id: digest(row, "id")?,
        event_type: known(row, "event_type", EventType::parse)?,
        tenant,
        at_ms: row.try_get("at_ms")?,
        source: row.try_get("source")?,
        data: serde_json::from_str(row.try_get("data")?).map_err(|_| wrong("data"))?,
    };
    Ok(Told { global: row.try_get("sequence")?, sequence: row.try_get("own_sequence")?, event })
}

fn wrong(column: &str) -> Fault {
    let reason = format!("column {column} holds something else");
    StoreError::Damaged { doing: "reading an event", reason }.into()
}
